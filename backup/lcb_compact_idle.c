/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_idle - remember that there is nothing to do.
 *
 * A plan reads every row of the index. Of most backups nothing changes from one night to the next,
 * and then there is nothing to do the next night, either. So a plan that finds nothing to do leaves a
 * note in the index, "idle" in meta, one line of text:
 *
 *     what it was made from    version of the plan; backup id, end and check of the data file
 *     how                      retention, sizes, threshold
 *     when                     from what time on, and until before what time it holds
 *     what was counted         text of all chunks, and how much of it goes
 *
 * It counts if all of the first two are the same now, and the time is between the two. That is
 * enough, for a plan depends on three things:
 *
 *   - the options;
 *   - the rows. Whoever changes any of them in a transaction removes the note in the same one
 *     (lcb_index_commit); the end of the data file is compared because programs of an earlier version
 *     do not. The note itself is written in the transaction in which the plan read the rows, and SQLite
 *     refuses that if somebody has written since it began;
 *   - the time, which enters in two places. The window begins behind the last position whose time is
 *     not within the retention: that is the same one until the first time in the window leaves it.
 *     Content that no record ever named stays for a day: the same until the first chunk that
 *     is younger becomes a day old; and if there is no such content, it does not matter.
 *
 * The plan says until when that is (due). Before the time at which it was made nothing is known: if the
 * clock was put back, the plan is made again.
 *
 * A note that is lost, or cannot be written because somebody else is writing, costs a plan. */
#include "config.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_compact_int.h"
#include "lib/xerr.h"

/* Of the rules by which a plan is made: to be raised with them. */
#define PLAN_VERSION 1

/* What must be the same. */
static void describe(const struct lcb_plan *p, const struct lcb_mark_point *point, struct buf *text)
{
    buf_reset(text);
    buf_printf(text, "%d %" PRIu64 " %" PRId64 " %" PRId64 " ", PLAN_VERSION, point->id,
               (int64_t)point->end, point->check);
    buf_printf(text, "%" PRId64 " %" PRIu64 " %" PRIu64 " %zu %zu %" PRId64 " ", p->retention,
               p->sizes.min, p->sizes.max, p->sizes.fill, p->b->settings->chunk_size,
               p->account.threshold);
}

void lcb_idle_remember(const struct lcb_plan *p)
{
    struct lcb_index *ix = p->b->index;
    struct buf text = BUF_INITIALIZER;
    if (!ix->wal || p->point.unfinished || !lcb_plan_idle(p) || p->due <= p->now)
        return;
    describe(p, &p->point, &text);
    buf_printf(&text, "%" PRId64 " %" PRId64 " %" PRIu64 " %" PRIu64, p->now, p->due, p->account.text,
               p->account.text_dead);
    sqlite3_stmt *st = sqldb_stmt(ix->db, "INSERT OR REPLACE INTO meta VALUES ('idle',?)");
    if (st && !sqldb_bind(st, "t", buf_cstring(&text)))
        (void)sqlite3_step(st); /* a writer may be faster: then there is something new */
    if (st)
        sqlite3_reset(st);
    buf_free(&text);
}

/* The end of a note: does it hold NOW? */
static int holds(const char *s, int64_t now, struct lcb_compact_account *a)
{
    int64_t n[4];
    for (int i = 0; i < 4; i++) {
        char *end;
        n[i] = strtoll(s, &end, 10);
        if (end == s || *end != (i < 3 ? ' ' : '\0'))
            return 0;
        s = end + 1;
    }
    if (a) {
        memset(a, 0, sizeof(*a));
        a->text = (uint64_t)n[2];
        a->text_dead = (uint64_t)n[3];
    }
    return n[0] <= now && now < n[1];
}

static int read_note(struct lcb_index *ix, struct buf *note)
{
    sqlite3_stmt *st = sqldb_stmt(ix->db, "SELECT value FROM meta WHERE key='idle'");
    int r = st ? sqldb_step(ix->db, st) : XERR_SQL;
    if (r != 1)
        return r;
    const char *text = (const char *)sqlite3_column_text(st, 0);
    buf_setcstr(note, text ? text : "");
    sqlite3_reset(st);
    return 1;
}

static int is_known(struct lcb *b, int64_t now, struct lcb_compact_account *a)
{
    struct lcb_plan p = {.b = NULL};
    struct lcb_mark_point point;
    struct buf note = BUF_INITIALIZER, want = BUF_INITIALIZER;
    int r = read_note(b->index, &note);
    int known = r == 1;
    if (known)
        r = lcb_index_getpoint(b->index, &point);
    if (known && !r) {
        lcb_plan_options(&p, b);
        describe(&p, &point, &want);
        known = note.len > want.len && !memcmp(note.s, want.s, want.len) &&
                holds(buf_cstring(&note) + want.len, now, a);
    }
    buf_free(&note);
    buf_free(&want);
    return r < 0 ? r : known;
}

int lcb_idle_known(struct lcb *b, int64_t now, struct lcb_compact_account *a)
{
    /* Note and position from one state of the index. */
    int r = sqldb_exec(b->index->db, "BEGIN");
    if (r)
        return r;
    r = is_known(b, now, a);
    int end = sqldb_exec(b->index->db, "COMMIT");
    return end ? end : r;
}
