/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Hold the locks of a backup without opening it, and give its files other names: what deleting,
 * bringing back and renaming whole backups need. Nothing of the content is looked at, so it works
 * with damaged backups, too. */
#ifndef BACKUP_LCB_HOLD_H
#define BACKUP_LCB_HOLD_H

#include "backup/lcb.h"

struct lcb_hold {
    struct lcb_store *store;
    char *userid; /* "" if held by path */
    char *path;
    int fd;
};
/* Both locks of USERID's backup: that of writers, and that of those who rewrite it (compaction, move,
 * verification). XERR_NOTFOUND without a record; XERR_LOCKED after WAIT_MS (< 0: never); -ENOENT if
 * the file that the record names is gone. */
int lcb_hold(struct lcb_store *, const char *userid, int wait_ms, struct lcb_hold **);
int lcb_hold_file(struct lcb_store *, const char *path, int wait_ms, struct lcb_hold **);
void lcb_hold_end(struct lcb_hold **);

/* A data file, held, gets another name in three steps, so that the record can be changed between
 * the first and the last: both names are there then, and whatever the record says is right.
 * Where the file system has no hard links, there is one name at any time: the first step does
 * nothing (LATE) or all (otherwise). */
struct lcb_newname {
    const char *from, *to; /* paths of data files; TO must be free */
    int late;
    int done;              /* the file has been renamed: there are no hard links */
};
/* XERR_EXISTS if TO is there and is another file. Durable. */
int lcb_newname_begin(struct lcb_store *, struct lcb_newname *);
void lcb_newname_undo(struct lcb_store *, struct lcb_newname *);
/* The old name goes; the index follows if it can. */
int lcb_newname_finish(struct lcb_store *, struct lcb_newname *);

/* Remove a data file and its index for good. */
int lcb_remove_pair(struct lcb_store *, const char *path);
/* 1 if both are names of one file, 0 if not or if one is missing, or an error. */
int lcb_same_file(struct lcb_store *, const char *path, const char *other);

#endif
