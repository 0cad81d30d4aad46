/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_lost - what of the history was lost through damage.
 *
 * While the index knows what a damaged chunk said, nothing is lost. Once it has been made anew, it
 * lacks that; what held is said again at the time of the repair, what came and went is gone
 * (lcb_relog.c). What is left to be seen are the places:
 *
 *   - bytes of the file between two chunks that no chunk accounts for: chunks that were passed over.
 *     What they said happened after the last line before them, and before the first behind them;
 *   - rows of the table lost: the rest of a chunk of which some could be read, and single lines that
 *     could not be understood. A line that brought a message does not count: no state rests on it, and
 *     the message has been asked for again.
 *
 * Compaction leaves damaged bytes behind, and with them goes what is known here. */
#include "config.h"

#include "backup/lcb_compact_int.h"
#include "backup/lcb_history.h"
#include "lib/xerr.h"

/* Of the lines that are wrong so many are looked at; what is said does not get better with more. */
enum { LOOKED_AT = 64 };

struct lost {
    struct lcb *b;
    struct lcb_lost *out;
    int64_t from, to; /* what is asked for */
};

/* Something between two times (0: since ever; LCB_NOW: to this day) is lost. */
static void add(struct lost *l, int64_t from, int64_t to)
{
    struct lcb_lost *out = l->out;
    if (from > l->to || to < l->from)
        return;
    out->from = out->places && out->from < from ? out->from : from;
    out->to = out->places && out->to > to ? out->to : to;
    out->places++;
}

static int find_chunks(struct lost *l)
{
    struct sqldb *db = l->b->index->db;
    if (lcb_index_gapless(l->b->index))
        return 0; /* there may be a great many chunks */
    sqlite3_stmt *st = sqldb_stmt(db, "SELECT start, start+length, first_time, last_time FROM chunks"
                                      " ORDER BY seq");
    off_t end = 0;
    int64_t last = 0;
    int r = st ? 0 : XERR_SQL, more = 0;
    while (!r && (more = sqldb_step(db, st)) > 0) {
        off_t start = sqlite3_column_int64(st, 0);
        if (start > end && !lcb_only_empty(l->b, end, start))
            add(l, last, sqlite3_column_int64(st, 2));
        end = sqlite3_column_int64(st, 1);
        last = sqlite3_column_int64(st, 3);
    }
    return r ? r : more;
}

/* POS is in the table: does it tell of more than a message? */
static int matters(struct lost *l, int64_t pos, struct buf *text, int *looked)
{
    struct lcb_oldline line;
    if (!(pos & 0xffffff) || (*looked)++ >= LOOKED_AT)
        return 1;
    return !lcb_oldline_at(l->b, pos, text, &line) || !line.message;
}

static int find_lines(struct lost *l)
{
    struct sqldb *db = l->b->index->db;
    sqlite3_stmt *st = sqldb_stmt(db,
        "SELECT l.pos, c.last_time, (SELECT first_time FROM chunks n WHERE n.seq>c.seq ORDER BY n.seq"
        " LIMIT 1) FROM lost l JOIN chunks c ON c.seq=l.pos>>24 ORDER BY l.pos");
    struct buf text = BUF_INITIALIZER;
    int r = st ? 0 : XERR_SQL, more = 0, looked = 0;
    while (!r && (more = sqldb_step(db, st)) > 0) {
        int64_t pos = sqlite3_column_int64(st, 0), time = lcb_index_time(l->b->index, pos);
        if (!matters(l, pos, &text, &looked))
            continue;
        if (pos & 0xffffff)
            add(l, time, time);
        else
            add(l, sqlite3_column_int64(st, 1),
                sqlite3_column_type(st, 2) == SQLITE_NULL ? LCB_NOW : sqlite3_column_int64(st, 2));
    }
    buf_free(&text);
    return r ? r : more;
}

int lcb_history_lost(struct lcb *b, int64_t from, int64_t to, struct lcb_lost *out)
{
    struct lost l = {b, out, from, to};
    *out = (struct lcb_lost){.places = 0};
    int r = find_chunks(&l);
    return r ? r : find_lines(&l);
}
