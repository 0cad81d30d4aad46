/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Make a backup good again whose data file cannot be read everywhere, or whose index is not what
 * the data file says. */
#ifndef BACKUP_LCB_REPAIR_H
#define BACKUP_LCB_REPAIR_H

#include <stdint.h>

#include "backup/lcb.h"

struct lcb_damage;
struct lcb_index;

struct lcb_repair {
    /* The caller's. */
    int64_t gone_since; /* mailboxes deleted before this time are not logged again; 0: all are */
    int keep_index;     /* the old index stays as <index>.<time> */
    int maintained;     /* the maintenance lock is the caller's; else it is taken (XERR_LOCKED) */
    void (*damage)(void *rock, const struct lcb_damage *); /* or NULL */
    int (*chunk)(void *rock, const struct lcb_chunk *);    /* one was read; or NULL */
    void (*locked)(void *rock, const char *path); /* lcb_reindex(): nobody else writes now; or NULL */
    void *rock;

    /* What was found and done. */
    int chunks;     /* that cannot be read (completely) */
    int lost_lines; /* not understood in chunks that can */
    int unsound;    /* messages that are not what their GUIDs say */
    int no_index;   /* the old index was of no use: all is what the file says by itself */
    int64_t mailboxes, records, others; /* logged again, as only damaged chunks had them */
    int64_t messages; /* whose content was here and is not: their mailboxes are marked */
};
/* B is open for writing, and nothing is pending. The index is made anew from the data file, in
 * place and in one transaction; what the old index knew from chunks that cannot be read is logged
 * again; mailboxes that lack content that was here are marked CONTENT, and no others. All of it is
 * durable when this returns 0; the backup can be used on. After an error B must be closed; then
 * there is the old index or none, and what was written is at most some lines that say what was
 * known. */
int lcb_repair(struct lcb *b, struct lcb_repair *);

/* The same for the backup of USERID, or of the file PATH if that is NULL, while others write to it:
 * their lock is taken only at the end, for a moment. If its index is of no use to them, they are locked
 * out as by lcb_repair(). WAIT_MS is for their lock, as in lcb_open(); QUEUE_MS for that of others who
 * work on the whole of it. XERR_LOCKED, XERR_STALE; -ENOENT. */
int lcb_reindex(struct lcb_store *, const char *userid, const char *path, int queue_ms, int wait_ms,
                struct lcb_repair *);

/* Pages, trees and schema of an index: 0 if it can be believed, XERR_FORMAT, XERR_SQL. */
int lcb_index_check(struct lcb_index *);

/* ---- lcb_relog.c ---- */

/* Chunks (their numbers in the old index) that cannot be read. */
struct lcb_seqs {
    int64_t *list; /* ascending */
    size_t n;
};
int lcb_seqs_have(const struct lcb_seqs *, int64_t pos);
/* The chunks that OLD has and NEW has not, or not wholly, up to number MAX. The list is freed by
 * the caller. */
int lcb_seqs_lost(struct lcb_index *old, struct lcb_index *new_, int64_t max, struct lcb_seqs *);
/* Log to B what in the rows of OLD that hold comes from LOST and is not in B's index. */
int lcb_relog(struct lcb *b, struct lcb_index *old, const struct lcb_seqs *lost, struct lcb_repair *);

#endif
