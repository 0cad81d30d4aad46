/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Is a backup what it says, and does its index say what it is? */
#ifndef BACKUP_LCB_VERIFY_H
#define BACKUP_LCB_VERIFY_H

#include <stdint.h>
#include <sys/types.h>

#include "backup/lcb.h"

enum lcb_finding_kind {
    /* data: something is lost */
    LCB_FOUND_CHUNK,   /* a chunk that cannot be read, or is not there */
    LCB_FOUND_MESSAGE, /* a message that cannot be read, or is not what its GUID says */
    LCB_FOUND_RECORD,  /* what a record of a mailbox was */
    LCB_FOUND_OTHER,   /* what a header, a subscription, a script ... was */
    /* the index: it can be made anew */
    LCB_FOUND_INDEX,
    /* nothing is wrong, or not any more */
    LCB_FOUND_INFO,
};
struct lcb_finding {
    enum lcb_finding_kind kind;
    const char *what; /* a sentence */
    int64_t seq;      /* of the chunk, 0 if not known */
    int64_t offset;   /* of the chunk, -1 if not known */
    const char *guid; /* 40 digits, or NULL */
    const char *uniqueid, *mboxname; /* or NULL */
    uint32_t uid;     /* or 0 */
};

struct lcb_verify {
    /* The caller's. */
    void (*found)(void *rock, const struct lcb_finding *); /* or NULL */
    int (*chunk)(void *rock, const struct lcb_chunk *);    /* one is good; or NULL */
    void *rock;
    int wait_ms;     /* how long others who work on the whole of it are waited for */
    int maintained;  /* the maintenance lock is the caller's */

    /* What was found. */
    int64_t data;    /* findings of the first kinds */
    int64_t index;   /* and of LCB_FOUND_INDEX */
    int no_index;    /* it is of no use, or there is none */
    int64_t waiting; /* messages that were lost before and that the master has yet to send: not among
                      * these */
    int64_t chunks, bytes; /* looked at */
};
/* Look at the backup whose data file is PATH, up to its last commit: the chain of chunks, the
 * checksum of each, each line, each message's SHA-1, and each row of the index. 0, whatever was
 * found; XERR_LOCKED while somebody else works on the whole of it (compaction, verification), or its
 * index is being made; -ENOENT or XERR_STALE if PATH is gone, or another file by now; or an error that
 * kept it from being looked at. The writers' lock is not taken: a backup that grows meanwhile is
 * verified as it was at the beginning. */
int lcb_verify(struct lcb_store *, const char *path, struct lcb_verify *);

/* What is remembered in the index, until it is made anew. */
enum lcb_verified { LCB_VERIFIED_NEVER, LCB_VERIFIED_OK, LCB_VERIFIED_DAMAGED };
/* For a backup that is open for writing; at once. */
int lcb_verify_note(struct lcb *, int64_t time, enum lcb_verified);
/* Of the backup whose data file is PATH, 0 and NEVER if nothing is known. */
void lcb_verify_last(const char *path, int64_t *time, enum lcb_verified *);

#endif
