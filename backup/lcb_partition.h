/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Where a new backup goes: which partition, and which file name below it.
 *
 * Both are decided once, when a user is first backed up; from then on the path in backups.db is
 * what counts, whatever the options say later. */
#ifndef BACKUP_LCB_PARTITION_H
#define BACKUP_LCB_PARTITION_H

#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/vfs.h"

/* Same order as the words of the option partition_select_mode. */
enum lcb_select {
    LCB_SELECT_RANDOM,           /* all alike */
    LCB_SELECT_MOST,             /* most free space */
    LCB_SELECT_PERCENT_MOST,     /* largest share of free space */
    LCB_SELECT_PERCENT_WEIGHTED, /* at random, likelier the larger the free share is */
    LCB_SELECT_PERCENT_DELTA     /* the same, but the differences between the shares count */
};

struct lcb_partition {
    const char *name; /* of the option backuppartition-NAME */
    const char *dir;  /* absolute */
};

struct lcb_usage {
    uint64_t avail; /* KiB free to us */
    uint64_t total; /* KiB */
    uint64_t fsid;  /* the same for directories of one file system */
};

/* Usage of the file system that holds DIR: 0 or -errno. */
typedef int lcb_usage_fn(void *rock, const char *dir, struct lcb_usage *);
/* The real one. */
lcb_usage_fn lcb_partition_usage;
/* A random number, 0 <= r < 1. */
typedef double lcb_draw_fn(void *rock);

struct lcb_placement {
    const struct lcb_partition *partitions; /* the order decides between equals */
    size_t count;
    enum lcb_select mode;
    const char *exclude;  /* names separated by blanks, tabs or commas; may be NULL */
    int soft_usage_limit; /* percent used, above which a partition is not taken if another is below;
                           * 0: no limit */
    lcb_usage_fn *usage;  /* NULL: statvfs(2) */
    lcb_draw_fn *draw;    /* NULL: the system's random numbers */
    /* May a backup be begun in DIR? 0 or -errno. Asked of the one that was chosen only, since it may
     * take long to find out. NULL: it may. */
    int (*usable)(void *rock, const char *dir);
    void *rock; /* for all of them */
};

/* Choose one of P's partitions. Its directory is made (mode 0755 less umask) if it is missing. A
 * partition whose directory cannot be made or examined is left out, with a warning in syslog; so is
 * one that was chosen and is not usable, and then it is chosen among the others.
 * Usage is examined anew each time: a first backup of a user is rare, and statvfs is cheap.
 * Returns 0, or XERR_CONFIG if no partition is configured and not excluded, or the first error
 * if none of them is usable. */
int lcb_partition_choose(struct vfs *, const struct lcb_placement *p,
                         const struct lcb_partition **chosen);

/* The one-letter directory below a partition for USERID: its first letter in lower case, or q; with
 * FULL (option fulldirhash) A..W, computed from the part before the first dot. */
char lcb_path_hash(const char *userid, int full);

enum { LCB_FILENAME_MAX = 200 };

/* Append USERID as it stands in file names, at most LCB_FILENAME_MAX bytes:
 * - bytes outside printable ASCII, '/', '%', and a '.' at the front are written %XX (upper-case
 *   hex); the key %SHARED alone stays as it is;
 * - if that is longer than LCB_FILENAME_MAX: as much of it as fits, then "%~" and the SHA-1 of
 *   USERID in lower-case hex.
 * Ordinary user ids stay as they are. The result has no '/' and is not "." or "..".
 * XERR_PARAM for an empty USERID. */
int lcb_filename_encode(struct buf *out, const void *userid, size_t len);
/* The reverse for NAME, the last component of a data file's path: the user id without the random
 * part is appended to USERID. XERR_FORMAT if NAME is not <userid>_XXXXXX; XERR_TOOBIG if it was
 * shortened, so that only the content of the file knows the user id. Names that Cyrus IMAP gave,
 * which does not encode, are taken as they are where a '%' is not followed by two hex digits. */
int lcb_filename_decode(struct buf *userid, const char *name);

/* Create an empty data file for USERID below DIR: DIR/<hash>/<encoded userid>_XXXXXX, mode 0600,
 * with the directories above it, all durable. *PATH is for the caller to free, *FD (read-write) to
 * close. XERR_PARAM for an empty USERID, XERR_CONFIG if DIR is not absolute, or -errno; nothing is
 * left behind then. */
int lcb_path_new(struct vfs *, const char *dir, const char *userid, int fulldirhash, char **path,
                 int *fd);

#endif
