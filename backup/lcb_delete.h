/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Deleting whole backups, and bringing them back while there is time.
 *
 * A deleted backup has no record in backups.db; its files are called <data>.deleted.<time> and
 * <data>.deleted.<time>.index, and stay where they were until backup_delete_delay has passed. */
#ifndef BACKUP_LCB_DELETE_H
#define BACKUP_LCB_DELETE_H

#include <stdint.h>

#include "backup/lcb.h"

struct lcb_delete {
    const char *userid; /* whose backup */
    const char *path;   /* or, if USERID is NULL, a data file that no record names */
    int wait_ms;        /* for the lock; < 0: for ever */
    int now;            /* do not keep the files */
    int forget;         /* if there is no such file, remove the record all the same */
    int64_t only_size;  /* if not 0: only if the data file has this size (XERR_STALE) */
};
/* Delete a backup, which this process must not have open for writing or maintenance. *KEPT gets the
 * new path of its data file, NULL if there is none; the caller frees it. Whatever happens, the backup
 * is there as before or is deleted. XERR_NOTFOUND without a record; -ENOENT if the data file is gone;
 * XERR_EXISTS if PATH is somebody's backup, XERR_FORMAT if it is no data file <userid>_XXXXXX;
 * XERR_LOCKED. */
int lcb_delete(struct lcb_store *, const struct lcb_delete *, char **kept);

struct lcb_deleted {
    const char *path;   /* of the data file */
    const char *userid; /* as its name says; "" if that was too long for a name */
    int64_t time;       /* when it was deleted */
    int64_t due;        /* when it may be removed; 0: never by itself */
    uint64_t size;      /* of the data file */
};
/* FN for every deleted backup, in no order; a non-zero result ends it and is returned. */
int lcb_deleted_foreach(struct lcb_store *, int (*fn)(void *rock, const struct lcb_deleted *),
                        void *rock);
/* 1 if it was USERID's, whose name may be too long for that of a file. */
int lcb_deleted_is_of(const struct lcb_deleted *, const char *userid);
/* Remove those whose time has passed, and what interrupted deletions left. FN (may be NULL) hears of
 * each that is gone; a non-zero result ends it. The first error is returned, after all have been
 * tried. */
int lcb_deleted_purge(struct lcb_store *, int64_t now,
                      int (*fn)(void *rock, const struct lcb_deleted *), void *rock);

struct lcb_undelete {
    const char *userid;
    const char *path; /* which one (.deleted.); NULL: the newest of USERID */
    int wait_ms;
    int replace;      /* if the user has a backup, that one is deleted in the same step */
};
/* Bring a backup back. *PATH gets its data file, *REPLACED the new path of the one that was there or
 * NULL; the caller frees them. XERR_NOTFOUND if there is none; XERR_EXISTS if the user has a backup
 * (*PATH is that) or the old name is taken (*PATH is NULL). */
int lcb_undelete(struct lcb_store *, const struct lcb_undelete *, char **path, char **replaced);

/* Give OLD's backup to NEW, whose name its files get, and whose names its mailboxes (a line in the
 * data file for each). XERR_NOTFOUND if OLD has none, XERR_EXISTS if NEW has one. *PATH gets the new
 * path; the caller frees it. */
int lcb_rename_user(struct lcb_store *, const char *old, const char *new_, int wait_ms, char **path);

#endif
