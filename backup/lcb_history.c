/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_history - from times to positions.
 *
 * The index has a row in ticks for each position at which the time changed. Times never go back within
 * a file, whatever the clock did, so the time of a position is a function that never falls, and where
 * it passes a given time is found by bisection: some 50 look-ups for any length of history, without an
 * index on times. Positions between lines are positions, too; they have the time of the line before.
 *
 * Where history begins is a position as well. It is kept in the data file, as a flag on the member
 * that ends the restated state of a compaction, so it survives a rebuild. All lines of that state
 * have the time as of which it is true. */
#include "config.h"

#include "backup/lcb_history.h"
#include "backup/lcb_int.h"
#include "lib/xerr.h"

/* What held at *POS was restated before it. If that cannot be read, only what came next tells of a
 * time: *POS is there then. */
static int skip_lost_base(struct lcb *b, int64_t *pos)
{
    int64_t n;
    int r = sqldb_int(b->index->db, &n, "SELECT min(pos) FROM ticks WHERE pos>=?1 AND NOT EXISTS"
                      " (SELECT 1 FROM chunks WHERE seq=?2)", "ii", *pos, LCB_POS_SEQ(*pos) - 1);
    if (!r && n)
        *pos = n;
    return r == XERR_NOTFOUND ? 0 : r;
}

int lcb_history_begin(struct lcb *b, int64_t *pos, int64_t *time)
{
    int r = lcb_index_gethistory(b->index, pos);
    if (!r && *pos)
        r = skip_lost_base(b, pos);
    if (!r && !*pos)
        r = sqldb_int(b->index->db, pos, "SELECT min(pos) FROM ticks", "");
    if (!r)
        *time = lcb_index_time(b->index, *pos);
    return r;
}

/* The last time that was written, XERR_NOTFOUND if none was. */
static int last_tick(struct lcb *b, int64_t *pos, int64_t *time)
{
    int r = sqldb_int(b->index->db, pos, "SELECT max(pos) FROM ticks", "");
    if (!r)
        *time = lcb_index_time(b->index, *pos);
    return r;
}

int lcb_history_at(struct lcb *b, int64_t time, int64_t *at)
{
    int64_t low, high, t;
    int r = lcb_history_begin(b, &low, &t);
    if (!r && time < t)
        r = XERR_NOTFOUND;
    if (!r)
        r = last_tick(b, &high, &t);
    if (!r && (low < 0 || high < 0))
        r = XERR_FORMAT; /* a damaged index: their difference may be no number */
    if (r)
        return r;
    if (t <= time) {
        *at = LCB_NOW;
        return 0;
    }
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (lcb_index_time(b->index, middle) <= time)
            low = middle;
        else
            high = middle;
    }
    *at = low;
    return 0;
}
