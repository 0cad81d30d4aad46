/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A small backup with something of everything in it, to be damaged byte by byte, and the bytes that
 * are tried: each Nth by default, beginning at another one in each run, as CYRUS_BACKUPS_SEED (a
 * number, which is printed) says, so that each can be had again; all with CYRUS_BACKUPS_LONG=1, or
 * with CYRUS_BACKUPS_LONG=K/N in N processes the Kth of N parts of all. */
#ifndef CUNIT_LCBTEST_VICTIM_H
#define CUNIT_LCBTEST_VICTIM_H

#include <sys/types.h>

#include "cunit/lcbtest.h"

enum {
    VICTIM_COMMITS_MAX = 40,
    VICTIM_MESSAGES_MAX = 6,
    VICTIM_NEW = 95, /* number of a message that is none of them */
    VICTIM_NEW_BIT = 1 << VICTIM_MESSAGES_MAX
};

enum victim_kind {
    VICTIM_PLAIN,
    VICTIM_MOVED, /* from partition two to partition one in between, which its index notes */
    /* Compacted, then written to again. Each member is a commit: messages that were taken over, the
     * base in several, the log since, the flag GZ_LACKS as one message was lost before, and what came
     * behind. What was there before is kept beside it. */
    VICTIM_BASE,
};

/* Joe's backup as it was, and where the commits are in it. */
struct victim {
    enum victim_kind kind;
    int commits, messages;
    int message_commit[VICTIM_MESSAGES_MAX]; /* with which they came */
    unsigned expunged;  /* bits of messages that compaction drops after a month */
    int64_t history;    /* when it begins */
    int base;           /* commit that ends what compaction restated */
    char *kept;         /* of VICTIM_BASE: the data file that was compacted */
    struct buf kept_data;
    struct buf was;     /* what holds (victim_holds) */
    struct lcbtest t;
    struct vfs *vfs; /* counts */
    char *path;
    char *one, *two; /* the partitions */
    struct buf data, db;               /* data file, backups.db */
    struct lcbtest_index live, folded; /* with a WAL, and without */
    off_t end[VICTIM_COMMITS_MAX];
};
void victim_make(struct victim *, enum victim_kind);
void victim_free(struct victim *);
/* Number of message I, and its GUID (of several at a time). */
unsigned victim_message(const struct victim *, int i);
const char *victim_hex(unsigned number);
/* In which commit is the byte at AT? As many as there are behind the last. */
int victim_commit_of(const struct victim *, off_t at);
/* Bits of the messages that are still there when commits FIRST to LAST are in doubt. */
unsigned victim_expected(const struct victim *, int first, int last);

/* N bytes at P are the data file, with this index (NULL: none) and nothing else beside it. */
void victim_put(const struct victim *, const void *p, size_t n, const struct lcbtest_index *);
/* The same, in an otherwise empty store, which is opened anew. DB: what backups.db is; if it is not
 * accepted the store is NULL. */
void victim_restore(struct victim *, const void *p, size_t n, const struct lcbtest_index *,
                    const struct buf *db);

void victim_open(struct victim *);
/* Of an open backup: what compaction dropped is not there again, history does not begin before it does,
 * nor is what was deleted there; as far as that is asked. */
enum victim_past { VICTIM_ANYTHING, VICTIM_DROPPED, VICTIM_HISTORY, VICTIM_DELETED };
void victim_check_past(struct victim *, struct lcb *, enum victim_past);
/* The backup at PATH holds all that it did before, as far as content is not concerned; every mailbox
 * that lacks some is asked for; and what is made of the file alone is the same. */
void victim_check_mended(struct victim *, const char *path);
/* The state now, as joe's backup tells it (lcbtest_state). */
void victim_state(struct victim *, struct buf *out);

/* Every byte, or each Nth of them; UNIT_STRIDE=M, each (N*M)th. */
size_t victim_stride(size_t n);
/* The first of them. */
size_t victim_first(size_t n);
/* Is this one of each Nth? Yes in a long run. */
int victim_turn(size_t at, size_t n);
/* What becomes of the byte WAS at AT. */
char victim_wrong(char was, size_t at);
/* Errors that say what is the case. */
int victim_known_error(int r);

#endif
