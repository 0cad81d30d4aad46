/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Compaction: a data file is written anew without what nobody can ask for any more, in chunks of a
 * good size. What it does, and how, is told on top of lcb_compact.c. */
#ifndef BACKUP_LCB_COMPACT_H
#define BACKUP_LCB_COMPACT_H

#include <stdint.h>

#include "backup/lcb.h"

/* What would go and what would stay, found from the index alone. */
struct lcb_compact_account {
    int64_t window;        /* time from which on all states can be asked for afterwards */
    int64_t chunks;        /* that there are */
    int64_t chunks_dead;   /* with nothing in them that stays */
    int64_t chunks_small;  /* that came since the last compaction and would be merged */
    int64_t messages;      /* contents that there are, and their bytes */
    uint64_t message_bytes;
    int64_t messages_dead; /* of these, that go */
    uint64_t messages_dead_bytes;
    int64_t messages_unused; /* of these, that no mailbox ever named */
    int64_t versions;      /* of records, headers, scripts and all else that has versions */
    int64_t versions_dead; /* of these, that go: they ended before the window */
    int64_t mailboxes_dead; /* that were gone before the window began */
    uint64_t text;         /* of all chunks */
    uint64_t text_dead;    /* an estimate of what goes */
    int64_t work;          /* held against backup_compact_work_threshold */
    int64_t threshold;
    int empty;             /* nothing is left, and nothing happened in the window */
};

struct lcb_compact_result {
    struct lcb_compact_account account;
    uint64_t old_size, new_size; /* of the data files; NEW_SIZE 0 if nothing was done */
    int64_t copied, written;     /* chunks copied as they were; written anew */
    int64_t damaged;             /* places of the old file that could not be read, and were set aside */
    char aside[512];             /* the file they are in, or "" */
};

struct lcb_compact {
    const char *userid; /* key in backups.db; NULL: the file PATH, in place */
    const char *path;
    int force;          /* even if there is little to do */
    int account;        /* it is wanted even if it is known that there is nothing to do */
    int dry_run;        /* only the account */
    int wait_ms;        /* for the lock, at the end */
    int queue_ms;       /* for others who maintain this backup, at the beginning */
    int64_t now;        /* 0: that of the clock */
    /* For the curious: lines of text without their ends. PROGRESS: bytes of the old file that have been
     * worked through; as it is read twice, first to prove the index, each time counts for half. NULL
     * allowed. */
    void (*say)(void *rock, const char *text);
    void (*progress)(void *rock, uint64_t bytes);
    void *rock;
};
enum {
    LCB_COMPACT_DONE,
    LCB_COMPACT_SKIPPED, /* not enough to do */
    LCB_COMPACT_EMPTY,   /* nothing of the backup is left, it may be deleted: it was left alone */
};
/* One of the above, or an error; the backup is then what it was. XERR_LOCKED: somebody else
 * maintains it, or a writer does not let go. XERR_FORMAT: it cannot be read (syslog says where). */
int lcb_compact(struct lcb_store *, const struct lcb_compact *, struct lcb_compact_result *);

/* Remove what backup_keep_previous kept of this backup, if its time is BEFORE or earlier; nothing else:
 * of USERID's, wherever on the partitions it has been; with USERID NULL, of the file PATH, which is not
 * registered, beside that. REMOVED (NULL allowed) is told of each file. DRY_RUN: only told. The first
 * error is returned, after all directories have been tried. */
int lcb_compact_expire(struct lcb_store *, const char *userid, const char *path, int64_t before,
                       int dry_run, void (*removed)(void *rock, const char *path), void *rock);

/* TEXT and TEXT_DEAD of the account, of a backup that is open for reading (once). NOW 0: that of the
 * clock. */
int lcb_compact_estimate(struct lcb *, int64_t now, struct lcb_compact_account *);

#endif
