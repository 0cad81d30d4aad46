/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What saying again shares: mailboxes (lcb_relog.c) and all the rest (lcb_relog_rest.c). */
#ifndef BACKUP_LCB_RELOG_INT_H
#define BACKUP_LCB_RELOG_INT_H

#include "backup/lcb_int.h"
#include "backup/lcb_repair.h"

struct relog {
    struct lcb *b;
    struct lcb_index *old;
    const struct lcb_seqs *lost;
    struct lcb_repair *rp;
    struct dlist_pool *pool;
    struct buf userid, text, strings;
};

/* A statement of one's own, as others are made while it runs; the caller finalizes it. */
int lcb_relog_prepare(struct sqldb *, const char *sql, sqlite3_stmt **);
/* 1: a row; 0: no more; or an error. */
int lcb_relog_next(struct sqldb *, sqlite3_stmt *);
/* Never NULL. */
const char *lcb_relog_column(sqlite3_stmt *, int col);
/* VERB with the value that r->text is the text of. */
int lcb_relog_line(struct relog *, const char *verb);
/* A mailbox whose records are there. */
int lcb_relog_header(struct relog *, const char *header, size_t len);

/* ---- lcb_relog_rest.c ---- */

/* All but mailboxes, behind them; and UNUSER. */
int lcb_relog_rest(struct relog *);

#endif
