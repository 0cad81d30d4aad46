/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the files of compaction share. */
#ifndef BACKUP_LCB_COMPACT_INT_H
#define BACKUP_LCB_COMPACT_INT_H

#include "backup/lcb_compact.h"
#include "backup/lcb_compare.h"
#include "backup/lcb_int.h"
#include "backup/lcb_posmap.h"
#include "backup/lcb_switch.h"

/* ---- lcb_compact_plan.c ---- */

/* How chunks are cut, as Cyrus 3.x' options say it. */
struct lcb_compact_sizes {
    uint64_t min, max; /* backup_compact_minsize and _maxsize */
    size_t fill;       /* both 0: chunks are filled up to this, wherever their lines came from */
};

struct lcb_plan {
    struct lcb *b;
    int64_t now;
    int64_t retention; /* 0 or less: for ever */
    struct lcb_compact_sizes sizes;
    /* Positions. State at FROM is written down, lines up to it go; lines up to TO are there. 0: all of
     * history stays. */
    int64_t from, to;
    struct lcb_mark_point point; /* where TO is in the file */
    /* From NOW until before DUE, another plan made of the same rows would be the same. */
    int64_t due;
    struct lcb_compact_account account;
    int estimate; /* only the text is wanted: nothing is weighed */
    int remember; /* if there is nothing to do (lcb_compact_idle.c) */
    void (*say)(void *rock, const char *text); /* or NULL */
    struct buf said; /* lines of what is combined and split, if there is somebody to say it to */
    void *rock;
};
/* Find out what stays. The handle must be one for reading, without a plan; it carries temporary
 * tables from then on:
 * temp.live (chunk, start, size, guid): messages that stay, of chunks up to TO
 * temp.kept (id): folders that existed at FROM or later
 * temp.dead (seq): chunks in which nothing stays
 * SAY, its ROCK, ESTIMATE and REMEMBER are the caller's, all else is filled in. NOW 0: that of the
 * clock. */
int lcb_plan_make(struct lcb_plan *, struct lcb *, int64_t now);
/* There is so little to do that nothing is done. */
int lcb_plan_idle(const struct lcb_plan *);
/* The options, as a plan is made by them. */
void lcb_plan_options(struct lcb_plan *, struct lcb *);
/* Say which chunks stay, as Cyrus 3.x does. */
int lcb_plan_say(struct lcb_plan *);
/* One chunk of LENGTH text, another of NEXT (0: none) behind it. */
int lcb_plan_wants_combining(const struct lcb_compact_sizes *, uint64_t length, uint64_t next);
/* WRITTEN 0: nothing has been written of it. */
int lcb_plan_wants_splitting(const struct lcb_compact_sizes *, uint64_t length, uint64_t written);

/* ---- lcb_compact_idle.c ---- */

/* If there is nothing to do, remember that in the index, in the transaction in which the plan was made.
 * That it could not be done is no error. */
void lcb_idle_remember(const struct lcb_plan *);
/* 1 if it is remembered that at NOW there is nothing to do with B, which is open for reading; 0 if that
 * is to be found out; or an error. Of the account (NULL allowed) it tells TEXT and TEXT_DEAD. */
int lcb_idle_known(struct lcb *b, int64_t now, struct lcb_compact_account *);

/* ---- lcb_compact_write.c ---- */

/* The new data file, chunk by chunk. */
struct lcb_writer {
    struct lcb_switch *s;
    size_t fill; /* a chunk that has this much text is full */
    int flags;   /* of the first chunk that is written next: GZ_LACKS or 0 */
    struct gzpacker *packer, *coded;
    struct buf text, packed;
    uint32_t lines;
    int full;
    int64_t last; /* position of the line written last */
    struct gzwriter *stream;
    int64_t written, copied; /* chunks */
    struct lcb_posmap *map; /* where lines of the old file went */
};
void lcb_writer_init(struct lcb_writer *, struct lcb_switch *);
void lcb_writer_fini(struct lcb_writer *);
/* A whole line, its end included. LITERAL: it holds a string literal. POS: its position in the old
 * file, 0 if it is a new one. */
int lcb_writer_line(struct lcb_writer *, const void *p, size_t n, int literal, int64_t pos);
/* A line that is too large for memory, in pieces, as a chunk of its own. */
int lcb_writer_stream(struct lcb_writer *, int64_t pos);
int lcb_writer_piece(struct lcb_writer *, const void *p, size_t n);
int lcb_writer_streamed(struct lcb_writer *);
/* Line POS of the old file became several: from FIRST to the one written last. */
int lcb_writer_spread(struct lcb_writer *, int64_t pos, int64_t first);
/* Where the next line will be, at the earliest. */
int64_t lcb_writer_position(const struct lcb_writer *);
/* A chunk (SEQ) of the old file, as it is. */
int lcb_writer_whole(struct lcb_writer *, const struct lcb_member *, int64_t seq);
/* End the open chunk, if there is one; with GZ_BASE in FLAGS there will be one. */
int lcb_writer_seal(struct lcb_writer *, int flags);

/* Are the bytes FROM .. TO of the data file members without text, which mean nothing? */
int lcb_only_empty(struct lcb *, off_t from, off_t to);

/* ---- lcb_compact_base.c ---- */

/* The state at P->from, as lines. */
int lcb_base_write(struct lcb_plan *p, struct lcb_writer *w);

/* ---- lcb_compact_read.c: lines of the old file ---- */

struct lcb_oldline {
    const char *text; /* with its end */
    size_t len;
    int literal;
    /* Of a message: */
    int message;
    struct message_guid guid;
    uint64_t start, size; /* start: in the chunk's text */
    const char *body;
};
/* The next line of the TEXT of a chunk that our programs wrote, from *AT on, which moves behind it.
 * 1, 0 at the end, XERR_FORMAT if it is none that they would write. */
int lcb_oldline_next(const struct buf *text, size_t *at, struct lcb_oldline *);
/* Line POS of the file, which points into TEXT, its chunk's. 1, or 0 if it cannot be had: it is not
 * readable, or none that our programs would write, or its chunk is a very large one. */
int lcb_oldline_at(struct lcb *, int64_t pos, struct buf *text, struct lcb_oldline *);
/* TEXT is the beginning of a chunk of LENGTH: 1 if all of it is one message. */
int lcb_oldline_single(const struct buf *text, uint64_t length, struct lcb_oldline *);

/* The text of a chunk as a stream, whole or in pieces. */
struct lcb_oldtext {
    struct lcb *b;
    int64_t seq;
    uint64_t at, length;
    struct lcb_text t;
    int open;
    int error; /* that ended it */
};
void lcb_oldtext_open(struct lcb_oldtext *, struct lcb *, int64_t seq, uint64_t length);
ssize_t lcb_oldtext_read(void *oldtext, void *p, size_t n);
void lcb_oldtext_close(struct lcb_oldtext *);

/* ---- lcb_compact_aside.c: what cannot be understood ---- */

struct lcb_aside {
    off_t *from, *to;
    size_t count, alloc;
};
void lcb_aside_fini(struct lcb_aside *);
/* Bytes FROM .. TO of the old file are to be kept beside the new one. */
void lcb_aside_add(struct lcb_aside *, off_t from, off_t to);
/* Add those that no chunk of the index accounts for (up to P->point), and chunks with something in them
 * that the index says is not understood. */
int lcb_aside_find(struct lcb_aside *, struct lcb_plan *p);
/* Write them to <data>.damaged.<time> beside the pair PATH, if there are any; its name to NAME. */
int lcb_aside_write(struct lcb_aside *, struct lcb *, const char *path, struct buf *name);

/* ---- lcb_compact_chunk.c, lcb_compact_foreign.c: from the old file to the new one ---- */

struct lcb_pass {
    struct lcb_plan *p;
    struct lcb_writer *w;
    int log;          /* lines of the window; else messages before it */
    struct buf text;  /* of the chunk at hand */
    sqlite3_stmt *live;
    struct {
        int64_t seq;
        int there;    /* in what follows is a message that stays, and was not met as yet */
        uint64_t start, size;
        struct message_guid guid;
    } next;
    uint64_t follows; /* length of the chunk behind this one, 0 if there is none */
    int began;        /* the temporary table of that name is there */
    int lost;         /* lines of the chunk at hand that cannot be understood */
    struct lcb_aside *aside;
};
/* Take what stays of a chunk over. XERR_FORMAT if it cannot be read. */
int lcb_pass_chunk(struct lcb_pass *, const struct lcb_chunk *);
void lcb_pass_fini(struct lcb_pass *);
/* Does line POS belong to this pass? */
int lcb_pass_has(const struct lcb_pass *, int64_t pos);
/* Does the message stay? 1, 0, or XERR_FORMAT if the index knows it otherwise. To be asked of all
 * messages of a chunk in their order. */
int lcb_pass_live(struct lcb_pass *, uint64_t start, uint64_t size, const struct message_guid *);
int lcb_pass_live_begin(struct lcb_pass *, int64_t seq);
/* A line of a source chunk of LENGTH text was written: perhaps the chunk ends there. */
int lcb_pass_line_done(struct lcb_pass *, uint64_t length);
/* The same for chunks that Cyrus 3.x wrote, or that are not quite in our form. */
int lcb_pass_foreign(struct lcb_pass *, const struct lcb_chunk *);

/* ---- lcb_compact_prove.c ---- */

/* Does the old index say what the old data file does? 0, XERR_INTERNAL with a line in syslog, or an
 * error. That something in the file cannot be read is none. HOW hears of progress: half the bytes. */
int lcb_compact_prove_index(struct lcb_switch *, const struct lcb_compact *how);
/* Does the new backup say what the old one does? 0, XERR_INTERNAL with a line in syslog, or an
 * error. */
int lcb_compact_prove(struct lcb_plan *, struct lcb_switch *, const struct lcb_writer *);

#endif
