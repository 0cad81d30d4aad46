/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Make backups.db from the data files, or see whether it says what they say. No data file is ever
 * touched. */
#ifndef BACKUP_LCB_RECONSTRUCT_H
#define BACKUP_LCB_RECONSTRUCT_H

#include <stdint.h>

#include "backup/lcb.h"

enum lcb_found_kind {
    LCB_FOUND_OK,        /* the record is right */
    LCB_FOUND_ADDED,     /* there was no record: there is one now */
    LCB_FOUND_REPLACED,  /* the record was wrong, and REPLACE is set */
    /* To be looked at by somebody: */
    LCB_FOUND_WRONG,     /* the record is wrong: the file is gone, or is no backup of this user; OTHER,
                          * if not NULL, would be the right one */
    LCB_FOUND_DUPLICATE, /* another data file of a user, OTHER is the one that counts; or, without a
                          * record and without REPLACE, each of those that end in the same second and
                          * say different things: then none gets one */
    LCB_FOUND_MISNAMED,  /* a data file that contradicts its name, or has none */
    LCB_FOUND_UNREADABLE,
    /* Of interest: */
    LCB_FOUND_STRANGER,  /* not of ours */
    LCB_FOUND_LEFTOVER,  /* may be removed */
    LCB_FOUND_ASIDE,     /* a deleted backup, a previous copy, a piece set aside */
};

struct lcb_found {
    enum lcb_found_kind kind;
    const char *userid; /* "" if not known */
    const char *path;
    const char *other;  /* or NULL */
    const char *text;   /* what is the matter, and what to do */
};

struct lcb_reconstruct {
    int dry_run;  /* change nothing */
    int replace;  /* correct wrong records, too, and take the newer one of two files */
    /* Each file or record, by user id; ended by a non-zero result. With a dry run, what would be. */
    int (*found)(void *rock, const struct lcb_found *);
    void *rock;
};

/* The store to do it with. A backups.db that cannot be read is set aside as <path>.damaged.<time>
 * (unless DRY_RUN), and *ASIDE gets that path for the caller to free; it is NULL otherwise. */
int lcb_reconstruct_open(const struct config *, struct vfs *, int dry_run, struct lcb_store **,
                         char **aside, struct buf *err);
/* 0 (or what FOUND returned): all records are written that can be. Otherwise none is. Records are
 * written all at once; what others changed meanwhile is left alone. Memory does not grow with the
 * number of files. */
int lcb_reconstruct(struct lcb_store *, const struct lcb_reconstruct *);

#endif
