/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Reading the value of MAILBOX as a stream: the header as a tree, the records one by one. Serves the
 * network and the data file alike. */
#ifndef IMAP_SYNC_MAILBOX_READ_H
#define IMAP_SYNC_MAILBOX_READ_H

#include "imap/dlist.h"
#include "imap/sync_header.h"
#include "imap/sync_record.h"

/* Read "%(" and all keys up to RECORD into H, whose tree lives in POOL (reset before) and in the
 * reader's. *RECORDS is 1 if RECORD follows: then call sync_mailbox_read_record until it returns 0, and
 * then sync_mailbox_read_end. Otherwise the value has been read to its end. XERR_PARAM if H lacks
 * something mandatory: the rest of the value is then unread. */
int sync_mailbox_read_header(struct dlist_reader *, struct dlist_pool *, struct sync_header *h,
                             int *records);
/* 1 and the next record; 0 when there is none; or an error. */
int sync_mailbox_read_record(struct dlist_reader *, struct sync_record *, size_t max);
/* The rest of the value. Every client sends RECORD as the last key; keys that stand behind it all the
 * same are added to H, unless they were there already, and *LATE is 1 if any was. What is mandatory
 * must have stood before it, and so must SINCE_*, without which nobody knows what the records mean:
 * XERR_PARAM. POOL and LATE NULL: such keys are passed over. */
int sync_mailbox_read_end(struct dlist_reader *, struct dlist_pool *pool, struct sync_header *h,
                          int *late);

#endif
