/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Read a data file from some point on and apply it to an index: what opening does after a crash,
 * what a rebuild does, and what verification does with an index of its own. */
#ifndef BACKUP_LCB_SCAN_H
#define BACKUP_LCB_SCAN_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "backup/lcb_int.h"

enum lcb_damage_kind {
    LCB_DAMAGE_CHUNK,   /* cannot be read, or not all of it */
    LCB_DAMAGE_MESSAGE, /* its SHA-1 is not its GUID */
    LCB_DAMAGE_LINE,    /* cannot be understood */
};
struct lcb_damage {
    enum lcb_damage_kind kind;
    off_t offset, next;  /* of a chunk: where it begins, and where reading goes on */
    int64_t seq;         /* of its chunk; 0 if not known */
    int line;            /* of LCB_DAMAGE_LINE; of a chunk: how many of its lines could be read */
    int error;
    const struct message_guid *guid; /* of LCB_DAMAGE_MESSAGE */
};

struct lcb_scan {
    /* The caller's. */
    struct vfs *vfs;
    int fd;
    const char *path;
    struct lcb_index *index; /* a transaction is open; it stays so */
    off_t size;              /* where the file ends */
    off_t committed; /* what stands before this was committed: nothing in it is torn by a crash */
    int (*stop)(void *rock); /* non-zero: XERR_SIGNAL */
    void *stop_rock;
    int quiet;               /* damage is told to the caller only, not to syslog */
    void (*damage)(void *rock, const struct lcb_damage *); /* or NULL */
    int (*chunk)(void *rock, const struct lcb_chunk *);    /* one was applied; or NULL */
    void *rock;

    /* Where it begins, and where it has come to: the end of the last good group. */
    off_t at;
    int64_t seq; /* of the last member applied */
    int64_t last_time;
    uint64_t id;
    off_t last_offset;

    /* What was found. */
    int lost;       /* lines that were not understood */
    int rotten;     /* damaged chunks */
    int forced;     /* of them only known to be rotten from COMMITTED */
    int unsound;    /* messages that are not what they should be */
    int lacks;      /* so says the file itself: content was lost of which nothing else tells any more */
    int unfinished; /* the last member, one of Cyrus 3.x, has no end */

    /* Its own. */
    struct lcb_mark_point group; /* state at the start of the group at hand */
    int in_group;
    int unreadable; /* so said the disk of the member at hand */
    struct buf unsound_list; /* what was wrong in the member at hand: told when it was whole */
    off_t looked;   /* how far somebody looked ahead, */
    off_t ends[2];  /* and where the last members began that end groups intact; 0: nowhere */
    time_t progress;
};

/* To the end of the file, or to what a crash left in pieces; again, when SIZE has grown. Nothing of it
 * needs freeing. */
int lcb_scan(struct lcb_scan *);
/* The point that has been reached. */
void lcb_scan_point(const struct lcb_scan *, struct lcb_mark_point *);
void lcb_scan_from(struct lcb_scan *, const struct lcb_mark_point *);

/* Can all of member M be read? */
int lcb_member_intact(struct vfs *, int fd, const struct lcb_member *m);

/* ---- lcb_recover.c ---- */

/* A scan of an open backup's file (SIZE bytes) from P on into its index. */
void lcb_recover_scan(struct lcb *, const struct lcb_mark_point *p, off_t size, struct lcb_scan *);
/* What is written next comes where the scan ended. */
void lcb_recover_ready(struct lcb *, const struct lcb_scan *);

#endif
