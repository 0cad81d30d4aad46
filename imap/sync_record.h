/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A message record as replication carries it: one element of RECORD in MAILBOX. */
#ifndef IMAP_SYNC_RECORD_H
#define IMAP_SYNC_RECORD_H

#include <stdint.h>

#include "imap/dlist.h"
#include "imap/message_guid.h"
#include "lib/buf.h"

struct sync_record {
    uint32_t uid;
    uint64_t modseq;
    int64_t last_updated;
    int64_t internaldate;
    uint64_t size;
    struct message_guid guid;
    int expunged;           /* \Expunged was among the flags */
    struct buf flags;       /* canonical "(...)" without \Expunged, as received otherwise */
    struct buf annotations; /* canonical "(...)" or empty */
    struct buf extra;       /* unknown keys: " KEY value ..." canonical, or empty */
    int literal;            /* printing it needs a string literal */
};

void sync_record_fini(struct sync_record *);
/* Read one record "%(UID ...)" from a stream, reusing the bufs. No tree is built. XERR_PARAM if a
 * mandatory key is missing (UID MODSEQ LAST_UPDATED INTERNALDATE GUID; FLAGS and SIZE default to
 * () and 0) or UID is 0. Each text is bounded by MAX bytes (XERR_TOOBIG). */
int sync_record_read(struct sync_record *, struct dlist_reader *, size_t max);
/* The canonical "%(UID ... )" appended. */
void sync_record_print(const struct sync_record *, struct buf *out);
/* SYNC_CRC of this record: 0 if expunged. FLAGS is the canonical list. */
uint32_t sync_record_crc(const struct sync_record *);
/* The same from parts; FLAGS of N bytes is the canonical list text. */
uint32_t sync_crc_basic(uint32_t uid, uint64_t modseq, int64_t last_updated, const char *flags,
                        size_t n, int64_t internaldate, const struct message_guid *guid);
/* 1 if the same in everything but annotations and extra keys... and 2 if in everything. */
int sync_record_equal(const struct sync_record *a, const struct sync_record *b);

#endif
