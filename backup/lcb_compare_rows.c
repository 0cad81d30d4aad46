/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compare_rows - the rows of one table on both sides.
 *
 * A cursor is opened on either side, in the order of key and position, and the two are merged: the row
 * with the lower key is one that the other side lacks. Rows of one key follow each other in time, so on
 * the way it is known whether an earlier one began or ended where the old side's file is lost: what
 * comes after that may be its consequence, until both sides have the same row again. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "backup/lcb_compare_int.h"
#include "backup/lcb_posmap.h"
#include "lib/xerr.h"

const struct compare_table compare_states = {"folder_states", "header of mailbox",
    "SELECT mboxname, last_uid, highestmodseq, uidvalidity, sync_crc, header, since, until"
    " FROM folder_states WHERE folder=?1 ORDER BY since", 0, 6, 1, NO_PLACE};

#define RECORDS_SQL "SELECT " LCB_RECORD_COLUMNS ", r.since, r.until, c.chunk," \
                    " iif(c.chunk IS NULL, NULL, c.size)" LCB_RECORD_JOIN \
                    " WHERE r.folder=?1 AND r.until IS "
/* Two that are each read along an index, merged. */
const struct compare_table compare_records = {"records", "record of",
    RECORDS_SQL "NULL UNION ALL " RECORDS_SQL "NOT NULL ORDER BY 1, 11", 1, LCB_RECORD_WIDTH, 1,
    NO_PLACE};

const struct compare_table compare_others[COMPARE_OTHERS] = {
    {"subs", "subscription", "SELECT mboxname, since, until FROM subs ORDER BY mboxname, since", 1, 1,
     1, NO_PLACE},
    {"seens", "seen state of", "SELECT uniqueid, lastread, lastuid, lastchange, seenuids, since, until"
     " FROM seens ORDER BY uniqueid, since", 1, 5, 1, NO_PLACE},
    {"scripts", "script", "SELECT filename, last_update, guid, content, since, until FROM scripts"
     " ORDER BY filename, since", 1, 4, 1, NO_PLACE},
    {"active", "active script", "SELECT filename, since, until FROM active ORDER BY since", 0, 1, 1,
     NO_PLACE},
    {"quotas", "quota of", "SELECT root, limits, since, until FROM quotas ORDER BY root, since", 1, 2,
     1, NO_PLACE},
    {"annots", "annotation", "SELECT mboxname, entry, userid, value, since, until FROM annots"
     " ORDER BY mboxname, entry, userid, since", 3, 4, 1, NO_PLACE},
};

/* What tells where things are: compared if positions are the same. */
const struct compare_table compare_places[COMPARE_PLACES] = {
    {"chunks", "chunk", "SELECT seq, start, length, text_length, first_time, last_time FROM chunks"
     " WHERE seq<=(?1-1)>>24 ORDER BY seq", 1, 6, 0, IS_SEQ},
    {"pieces", "piece of chunk", "SELECT seq, text_start, start FROM pieces WHERE seq<=(?1-1)>>24"
     " ORDER BY seq, text_start", 2, 3, 0, IS_SEQ},
    {"ticks", "time from position", "SELECT pos, time FROM ticks WHERE pos<=?1 ORDER BY pos", 1, 2, 0,
     IS_POS},
    {"lost", "damage", "SELECT pos FROM lost WHERE pos<?1 ORDER BY pos", 1, 1, 0, IS_POS},
    {"replaced", "count of changes of the name", "SELECT mboxname, pos, times FROM replaced WHERE ?1="
     "9223372036854775807 ORDER BY mboxname", 1, 3, 0, NO_PLACE}, /* it has no history */
    {"contents", "message", "SELECT guid, chunk, start, size FROM contents WHERE chunk IS NOT NULL"
     " AND ?1 ORDER BY guid", 1, 4, 0, NO_PLACE},
};

/* ---- rows ---- */

/* Does the row count? Notes what of it does. */
static int counts(struct cursor *at)
{
    const struct side *s = at->s;
    int w = at->t->width, records = at->t == &compare_records;
    if (!at->t->versioned)
        return 1;
    at->since = sqlite3_column_int64(at->st, w);
    at->until = sqlite3_column_type(at->st, w + 1) == SQLITE_NULL
                    ? INT64_MAX : sqlite3_column_int64(at->st, w + 1);
    if (at->since > s->to || (at->until != INT64_MAX && at->until > s->to)) {
        at->until = INT64_MAX;
        if (at->f)
            at->f->moved = 1;
    }
    if (at->since > s->to || at->until <= s->from)
        return 0;
    return !records || at->since > s->from || !sqlite3_column_int(at->st, REC_EXPUNGED);
}

/* The part of the row in the checksum of its mailbox. */
static void add_crc(const struct cursor *at)
{
    struct message_guid guid = {{0}};
    if (at->until != INT64_MAX || at->since > at->s->to || sqlite3_column_int(at->st, REC_EXPUNGED))
        return;
    if (sqlite3_column_bytes(at->st, 5) == MESSAGE_GUID_LEN)
        memcpy(guid.value, sqlite3_column_blob(at->st, 5), MESSAGE_GUID_LEN);
    const char *flags = sqlite3_column_blob(at->st, 7);
    at->f->crc ^= sync_crc_basic((uint32_t)sqlite3_column_int64(at->st, 0),
                                 (uint64_t)sqlite3_column_int64(at->st, 1),
                                 sqlite3_column_int64(at->st, 2), flags ? flags : "",
                                 (size_t)sqlite3_column_bytes(at->st, 7),
                                 sqlite3_column_int64(at->st, 3), &guid);
}

/* To the next row that counts. */
static int next(struct cursor *at)
{
    while ((at->more = sqldb_step(at->s->db, at->st)) > 0) {
        int seen = counts(at);
        if (at->t == &compare_records)
            add_crc(at);
        if (seen)
            return 0;
    }
    return at->more;
}

static int compare_bytes(const void *a, size_t na, const void *b, size_t nb)
{
    size_t n = na < nb ? na : nb;
    int r = n ? memcmp(a, b, n) : 0;
    return r ? r : na < nb ? -1 : na > nb;
}

/* Column COL of two rows, in SQLite's order. */
static int compare_column(sqlite3_stmt *a, sqlite3_stmt *b, int col)
{
    int ta = sqlite3_column_type(a, col), tb = sqlite3_column_type(b, col);
    if (ta == SQLITE_NULL || tb == SQLITE_NULL)
        return (ta != SQLITE_NULL) - (tb != SQLITE_NULL);
    if (ta != tb)
        return ta - tb;
    if (ta == SQLITE_INTEGER) {
        int64_t x = sqlite3_column_int64(a, col), y = sqlite3_column_int64(b, col);
        return x < y ? -1 : x > y;
    }
    const void *x = sqlite3_column_blob(a, col), *y = sqlite3_column_blob(b, col);
    return compare_bytes(x, (size_t)sqlite3_column_bytes(a, col), y,
                         (size_t)sqlite3_column_bytes(b, col));
}

/* ---- positions ---- */

/* Where NEW stands towards the translation of OLD: 0 there, < 0 OLD's is first (or nowhere), > 0. */
static int compare_pos(struct compare *c, int64_t old, int64_t new_)
{
    struct lcb_posrun run;
    if (!c->c->map || old == INT64_MAX || new_ == INT64_MAX)
        return old < new_ ? -1 : old > new_;
    int r = lcb_posmap_find(c->c->map, old, &run);
    if (r < 0)
        c->failed = c->stop = r;
    if (r <= 0)
        return -1;
    int64_t to = run.to, last = run.to_last;
    if (!run.spread)
        to = last = run.to + (old - run.first);
    return new_ < to ? 1 : new_ > last ? -1 : 0;
}

/* Of two rows of one key: 0 if they begin together; < 0: the old one is first; > 0: the new one is. */
static int compare_since(struct compare *c, const struct cursor at[2])
{
    int64_t old = at[0].since, new_ = at[1].since;
    if (!at[0].t->versioned)
        return 0;
    if (old > c->c->from)
        return new_ <= c->side[1].from ? 1 : compare_pos(c, old, new_);
    return c->c->from && new_ > c->side[1].from ? -1 : c->c->from ? 0 : compare_pos(c, old, new_);
}

static int64_t time_of(struct side *s, int64_t pos, int which)
{
    if (s->pos[which] != pos) {
        s->pos[which] = pos;
        s->time[which] = lcb_index_time(s->ix, pos);
    }
    return s->time[which];
}

static const char ITS_END[] = "its end is";

/* What of two rows of the same key and beginning is not the same; NULL: nothing. */
static const char *difference(struct compare *c, const struct cursor at[2])
{
    const struct compare_table *t = at[0].t;
    for (int i = t->keys; i < t->width; i++)
        if (compare_column(at[0].st, at[1].st, i))
            return sqlite3_column_name(at[0].st, i);
    if (t->versioned && compare_pos(c, at[0].until, at[1].until))
        return ITS_END;
    if (t->versioned && c->c->map &&
        ((at[0].since > c->c->from &&
          time_of(&c->side[0], at[0].since, 0) != time_of(&c->side[1], at[1].since, 0)) ||
         (at[0].until != INT64_MAX &&
          time_of(&c->side[0], at[0].until, 1) != time_of(&c->side[1], at[1].until, 1))))
        return "its time is";
    if (t == &compare_records && c->c->map && !sqlite3_column_int(at[0].st, REC_EXPUNGED) &&
        sqlite3_column_int64(at[0].st, REC_CHUNK) <= LCB_POS_SEQ(c->side[0].to - 1) &&
        compare_column(at[0].st, at[1].st, REC_SIZE))
        return "presence or size of its content is";
    return NULL;
}

/* Was the content of the old row brought (again) after TO? Then the new one cannot know where it is. */
static int content_moved(const struct compare *c, const struct cursor *at)
{
    return !strcmp(at->t->name, "contents") && at->s == &c->side[0] &&
           sqlite3_column_int64(at->st, CONTENT_CHUNK) > LCB_POS_SEQ(at->s->to - 1);
}

static void same_row(struct compare *c, struct cursor at[2])
{
    char what[64];
    const char *d = content_moved(c, &at[0]) ? NULL : difference(c, at);
    if (!d) {
        c->touched = 0; /* from here on both tell the same again */
        return;
    }
    if (!strchr(d, ' ')) { /* a column's name */
        snprintf(what, sizeof(what), "%s is", d);
        d = what;
    }
    compare_both(c, at, d, d == ITS_END);
}

/* ---- what was lost ---- */

/* The row at hand: is it of another key than the one before? */
static void note_key(struct compare *c, const struct cursor *at)
{
    if (!c->c->lost || !at->t->versioned)
        return;
    buf_reset(&c->key);
    for (int i = 0; i < at->t->keys; i++)
        compare_put(&c->key, at->st, i);
    if (buf_cmp(&c->key, &c->last_key))
        c->touched = 0;
    buf_setmap(&c->last_key, c->key.s ? c->key.s : "", c->key.len);
}

/* What comes after a row of the old side that began or ended where that is lost, may follow from it. */
static void note_lost(struct compare *c, const struct cursor *at)
{
    if (!c->c->lost || !at->t->versioned)
        return;
    if (c->c->lost(c->c->rock, at->since) ||
        (at->until != INT64_MAX && c->c->lost(c->c->rock, at->until)))
        c->touched = 1;
}

/* ---- both sides ---- */

static int merge(struct compare *c, struct cursor at[2])
{
    int r = next(&at[0]);
    if (!r)
        r = next(&at[1]);
    while (!r && !c->stop && (at[0].more || at[1].more)) {
        int order = !at[0].more ? 1 : !at[1].more ? -1 : 0;
        for (int i = 0; !order && at[0].more && at[1].more && i < at[0].t->keys; i++)
            order = compare_column(at[0].st, at[1].st, i);
        if (!order && at[0].more && at[1].more)
            order = compare_since(c, at);
        note_key(c, &at[order > 0]);
        if (order < 0 && !content_moved(c, &at[0]))
            compare_only(c, &at[0], 0);
        if (order > 0)
            compare_only(c, &at[1], 1);
        if (!order)
            same_row(c, at);
        if (order <= 0) {
            note_lost(c, &at[0]);
            r = next(&at[0]);
        }
        if (order >= 0 && !r)
            r = next(&at[1]);
    }
    return r;
}

int compare_rows(struct compare *c, const struct compare_table *t, struct folder f[2])
{
    struct cursor at[2];
    int r = 0;
    for (int i = 0; !r && i < 2; i++) {
        at[i] = (struct cursor){.t = t, .s = &c->side[i], .f = f ? &f[i] : NULL};
        at[i].st = sqldb_stmt(c->side[i].db, t->sql);
        if (!at[i].st)
            return XERR_SQL;
        if (sqlite3_bind_parameter_count(at[i].st))
            r = sqldb_bind(at[i].st, "i", f ? f[i].id : c->side[0].to);
    }
    buf_reset(&c->last_key);
    c->touched = 0;
    if (!r)
        r = merge(c, at);
    sqlite3_reset(at[0].st);
    sqlite3_reset(at[1].st);
    return r;
}
