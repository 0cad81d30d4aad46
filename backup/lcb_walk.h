/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* All files below the backup partitions, and what their names say they are. */
#ifndef BACKUP_LCB_WALK_H
#define BACKUP_LCB_WALK_H

#include <stddef.h>
#include <stdint.h>

#include "backup/lcb.h"

enum lcb_namekind {
    LCB_NAME_DATA,     /* <userid>_XXXXXX */
    LCB_NAME_INDEX,    /* <data>.index, and what SQLite keeps beside it */
    LCB_NAME_OLDINDEX, /* <data>.index.old, .index.<time>, .<time>.index: not used any more; with what
                        * SQLite keeps beside them */
    LCB_NAME_DELETED,  /* <data>.deleted.<time> */
    LCB_NAME_DELETED_INDEX,
    LCB_NAME_PREVIOUS, /* <data>.<time>: as it was before compaction */
    LCB_NAME_NEW,      /* <data>.new, .new.index or .index.new: compaction or move at work */
    LCB_NAME_ASIDE,    /* <data>.tail.<time> or <data>.damaged.<time> */
    LCB_NAME_OTHER
};

struct lcb_name {
    enum lcb_namekind kind;
    size_t baselen; /* of <userid>_XXXXXX; 0 for LCB_NAME_OTHER */
    int64_t time;   /* where the name has one, else 0 */
};
/* The directory that a path is in: "/" for "/x", "." for "x". The caller frees it. */
char *lcb_directory(const char *path);
/* The last component of a path. */
const char *lcb_last_part(const char *path);
/* What NAME, the last component of a path, is. A user id may end in whatever it likes: only what
 * stands behind the last _XXXXXX counts. */
void lcb_name_parse(const char *name, struct lcb_name *);
/* 1 if a data file whose name has BASELEN bytes before any suffix was made for USERID, by us or by
 * Cyrus 3.x. */
int lcb_name_is_for(const char *name, size_t baselen, const char *userid);
/* 1 if the name alone says that it is USERID's. (Cyrus 3.x does not encode: what it called a%2Fb may be
 * a%2Fb's, but is a/b's unless the content says otherwise.) */
int lcb_name_says(const char *name, size_t baselen, const char *userid);

struct lcb_walk {
    /* Each file, by its name; a directory is none, whatever its name. Of directories those that could
     * not be read, with ERROR. Strings live during the call. A non-zero result ends it. The file may be
     * removed or renamed. */
    int (*file)(void *rock, const char *path, const struct lcb_name *, int error);
    void *rock;
};
/* Walk all partitions, each directory once, whatever leads to it. Returns what FILE returned, or
 * XERR_CONFIG if there is no partition, or XERR_SIGNAL. A partition that is missing is an empty
 * one. */
int lcb_walk(struct lcb_store *, const struct lcb_walk *);

#endif
