/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* How two states of a backup differ, in the words in which it is told what happened (lcb_events.h).
 * Only the result counts: what came and went in between is not there, and of a flag that was set and
 * cleared again nothing is said.
 *
 * mailbox-created, mailbox-deleted, mailbox-renamed, mailbox-changed, mailbox-annotated; of messages
 * arrived (uid, guid, size, flags), gone (uid, guid), flags, annotated, changed; subscribed,
 * unsubscribed, seen, seen-removed, the kinds of scripts and quotas, server-annotated.
 *
 * Mailboxes of the deleted namespace are not there. All messages of a mailbox that is there in only
 * one of the states have arrived, or are gone. */
#ifndef BACKUP_LCB_DIFF_H
#define BACKUP_LCB_DIFF_H

#include "backup/lcb_events.h"

/* FN for each difference between the states at FROM and TO (positions, FROM the earlier one): these
 * events have no time. Mailboxes by their name at TO, their messages by UID, then the rest. FOLDER:
 * this mailbox only; 0: everything. A non-zero result ends it. */
int lcb_foreach_difference(struct lcb *, int64_t from, int64_t to, int64_t folder,
                           int (*fn)(void *rock, const struct lcb_event *), void *rock);

#endif
