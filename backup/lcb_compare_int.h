/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the files of lcb_compare share: the two sides, and rows of a table on each. */
#ifndef BACKUP_LCB_COMPARE_INT_H
#define BACKUP_LCB_COMPARE_INT_H

#include "backup/lcb_compare.h"
#include "backup/lcb_int.h"
#include "lib/buf.h"

/* A kind of rows. The columns of SQL: so many keys, then values up to WIDTH, then since and until if
 * it is versioned, then others. ?1 is the folder, or the position up to which rows are wanted. */
struct compare_table {
    const char *name, *title;
    const char *sql;
    int keys, width, versioned;
    enum { NO_PLACE, IS_SEQ, IS_POS } place; /* what the first column is */
};

struct side {
    struct sqldb *db;
    struct lcb_index *ix;
    int64_t from, to;
    int64_t pos[2], time[2]; /* asked last */
};

/* A mailbox on one side. */
struct folder {
    const char *uniqueid, *mboxname;
    int64_t id;
    int64_t stored; /* the checksum that it has: as it is there, which may be no checksum at all */
    uint32_t crc;   /* that of its records */
    int moved;      /* something of it happened after TO */
    sqlite3_stmt *st;
    int more;
};

struct cursor {
    const struct compare_table *t;
    struct side *s;
    struct folder *f; /* or NULL */
    sqlite3_stmt *st;
    int more;
    int64_t since, until; /* until INT64_MAX: it holds */
};

struct compare {
    const struct lcb_compare *c;
    struct side side[2];
    int differ, stop;
    int failed; /* error of the map */
    struct buf text;
    struct buf key, last_key; /* of the row at hand, and of the one before */
    int touched; /* a row of this key began or ended in OLD where that is lost */
};

/* ---- lcb_compare_rows.c ---- */

/* Tables of a mailbox, and those of no mailbox; PLACES tell where things are, and so are compared only
 * if positions are the same. */
extern const struct compare_table compare_states, compare_records;
enum { COMPARE_OTHERS = 6, COMPARE_PLACES = 6 };
extern const struct compare_table compare_others[COMPARE_OTHERS], compare_places[COMPARE_PLACES];
/* Columns of compare_records, and of contents. */
enum { REC_EXPUNGED = 6, REC_CHUNK = LCB_RECORD_WIDTH + 2, REC_SIZE };
enum { CONTENT_CHUNK = 1 };

/* Rows of T on both sides, of mailbox F if it is not NULL: each difference is told. 0, or an error of
 * SQLite. */
int compare_rows(struct compare *, const struct compare_table *t, struct folder f[2]);

/* ---- lcb_compare_tell.c: differences as sentences ---- */

/* What SIDE is called. */
const char *compare_name(const struct compare *, int side);
/* A difference; c->text is the sentence. */
void compare_tell(struct compare *, struct lcb_difference *);
/* Only SIDE has the row at hand. */
void compare_only(struct compare *, const struct cursor *, int side);
/* Both have it; WHAT ("flags is") is not the same, END if it is when it ended. */
void compare_both(struct compare *, const struct cursor at[2], const char *what, int end);
/* The value of a column as text, with a blank in front. */
void compare_put(struct buf *, sqlite3_stmt *, int col);

#endif
