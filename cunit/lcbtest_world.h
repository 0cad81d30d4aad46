/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A backup to which things happen, and what must be true of it, known from the client
 * (lcbtest_client.h) and from the bytes that were written: each member is taken apart when it is
 * written, and from then on it is known which messages are in members that nobody touched. */
#ifndef CUNIT_LCBTEST_WORLD_H
#define CUNIT_LCBTEST_WORLD_H

#include "cunit/lcbtest_client.h"

enum { STATES = 400, IDS = CLIENT_BOXES * 64 };

struct member {
    off_t at, len;
    int hurt;       /* bytes of it were changed */
    int mended;     /* and what it said was said again */
    int unfinished; /* its writer was killed */
    int flags;
    struct client_set has;
};

/* What was there at a moment. */
struct moment {
    int64_t time, until; /* what came then was not before UNTIL */
    struct buf state;
    struct client_set live;
};

struct world {
    struct lcbtest t;
    struct client c;
    char *path;
    struct buf data;  /* the file as it was seen last */
    struct member *m;
    int n, alloc;
    struct moment moment[STATES];
    int moments, clean; /* from number CLEAN on nothing was lost of them */
    int64_t history;    /* it cannot reach further back */
    struct lcbtest_index saved;
    off_t saved_end;    /* 0: none is saved */
    off_t covered;      /* so far the index speaks that is there */
    int alone;          /* the index was made from the file alone */
    struct client_set here;
    unsigned char before[IDS], mark[IDS];
    int waiting;
    struct message_guid guid[CLIENT_CONTENTS];
    unsigned guids;
    struct buf said;
    int failed;
};

/* A number below BELOW. */
unsigned world_draw(struct world *w, unsigned below);
/* Else WHAT is said with what was done. */
int world_must(struct world *w, int ok, const char *what);
/* What stands from AT on is one with this text. */
struct member *world_add_member(struct world *w, off_t at, off_t len, const struct buf *text);
/* Length of the member at AT of the file, its text to TEXT; 0 if it is not whole. */
off_t world_inflate_member(const struct buf *data, off_t at, struct buf *text);
/* What was written since is known from now on. */
void world_account(struct world *w);
/* Where the file is now. */
void world_find_path(struct world *w);
/* All of it is another file. */
void world_account_anew(struct world *w);
/* Has something been changed that was not mended? */
int world_is_damaged(const struct world *w);
/* What was changed is mended. */
void world_all_mended(struct world *w);
/* The messages of members that nobody touched. */
void world_intact(const struct world *w, struct client_set *out);
/* The backup, or NULL, which counts as a failure. */
struct lcb *world_open_it(struct world *w, int flags);
/* What the client has now was committed; time goes on. */
void world_keep_moment(struct world *w);
/* Every message of NEED is given out, and no wrong byte of any. */
void world_check_contents(struct world *w, struct lcb *b, const struct client_set *need);
/* The marks, which are right if ASKED. */
void world_check_marks(struct world *w, struct lcb *b, int asked);
/* Marks as they are now, which must stay until something comes. */
void world_note_marks(struct world *w);
/* The index must say what one made anew would. */
void world_compare(struct world *w, const char *what);
/* After a repair or a compaction: all of it. NEED NULL: what is intact. */
void world_check_all(struct world *w, const struct client_set *need);

#endif
