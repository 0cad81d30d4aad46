/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compare - two indexes side by side.
 *
 * Ids differ between two indexes of the same history, keys do not: UNIQUEID, UID, GUID, names. Of each
 * table a cursor is opened on either side, in the order of key and position, and the two are merged:
 * the row with the lower key is one that the other side lacks. What belongs to a mailbox is compared
 * mailbox by mailbox, so that its rows come from an index of SQL and need no sorting (superseded
 * records do, by SQLite, within its own bounds).
 *
 * The window. Of the old side only rows count that held at some time after FROM, as far as they were
 * known at TO. A new side that begins with a base (compaction wrote it) says of what held at FROM
 * that it is so since some line of the base; so of these rows only this is asked of it, and what came
 * and went within the base does not count.
 *
 * Positions. With a map, each position of the old file is translated before it is held against the
 * new one; a position that is not in it is one whose line was dropped, and nothing may begin or end
 * there. As lines moved, their times are compared, too. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "backup/lcb_compare.h"
#include "backup/lcb_int.h"
#include "backup/lcb_posmap.h"
#include "lib/xerr.h"

/* A kind of rows. The columns of SQL: so many keys, then values up to WIDTH, then since and until if
 * it is versioned, then others. ?1 is the folder, or the position up to which rows are wanted. */
struct table {
    const char *name, *title;
    const char *sql;
    int keys, width, versioned;
};

static const struct table STATES = {"folder_states", "header of mailbox",
    "SELECT mboxname, last_uid, highestmodseq, uidvalidity, sync_crc, header, since, until"
    " FROM folder_states WHERE folder=?1 ORDER BY since", 0, 6, 1};

#define RECORDS_SQL "SELECT " LCB_RECORD_COLUMNS ", r.since, r.until, c.chunk," \
                    " iif(c.chunk IS NULL, NULL, c.size)" LCB_RECORD_JOIN \
                    " WHERE r.folder=?1 AND r.until IS "
/* Two that are each read along an index, merged. */
static const struct table RECORDS = {"records", "record of",
    RECORDS_SQL "NULL UNION ALL " RECORDS_SQL "NOT NULL ORDER BY 1, 11", 1, LCB_RECORD_WIDTH, 1};
enum { REC_EXPUNGED = 6, REC_CHUNK = LCB_RECORD_WIDTH + 2, REC_SIZE };

static const struct table OTHERS[] = {
    {"subs", "subscription", "SELECT mboxname, since, until FROM subs ORDER BY mboxname, since", 1, 1,
     1},
    {"seens", "seen state of", "SELECT uniqueid, lastread, lastuid, lastchange, seenuids, since, until"
     " FROM seens ORDER BY uniqueid, since", 1, 5, 1},
    {"scripts", "script", "SELECT filename, last_update, guid, content, since, until FROM scripts"
     " ORDER BY filename, since", 1, 4, 1},
    {"active", "active script", "SELECT filename, since, until FROM active ORDER BY since", 0, 1, 1},
    {"quotas", "quota of", "SELECT root, limits, since, until FROM quotas ORDER BY root, since", 1, 2,
     1},
    {"annots", "annotation", "SELECT mboxname, entry, userid, value, since, until FROM annots"
     " ORDER BY mboxname, entry, userid, since", 3, 4, 1},
};

/* What tells where things are: compared if positions are the same. */
static const struct table PLACES[] = {
    {"chunks", "chunk", "SELECT seq, start, length, text_length, first_time, last_time FROM chunks"
     " WHERE seq<=(?1-1)>>24 ORDER BY seq", 1, 6, 0},
    {"pieces", "piece of chunk", "SELECT seq, text_start, start FROM pieces WHERE seq<=(?1-1)>>24"
     " ORDER BY seq, text_start", 2, 3, 0},
    {"ticks", "time from position", "SELECT pos, time FROM ticks WHERE pos<=?1 ORDER BY pos", 1, 2, 0},
    {"replaced", "count of changes of the name", "SELECT mboxname, pos, times FROM replaced WHERE ?1="
     "9223372036854775807 ORDER BY mboxname", 1, 3, 0}, /* it has no history */
    {"contents", "message", "SELECT guid, chunk, start, size FROM contents WHERE chunk IS NOT NULL"
     " AND ?1 ORDER BY guid", 1, 4, 0},
};
enum { CONTENT_CHUNK = 1 };

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
    const struct table *t;
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
};

/* ---- telling ---- */

static const char *name_of(const struct compare *c, int side)
{
    const char *name = side ? c->c->new_name : c->c->old_name;
    return name ? name : side ? "the new index" : "the old index";
}

/* c->text is the sentence. */
static void tell(struct compare *c, struct lcb_difference *d)
{
    int r = 1;
    d->what = buf_cstring(&c->text);
    c->differ = 1;
    if (c->c->found)
        r = c->c->found(c->c->rock, d);
    else if (c->c->differs)
        r = c->c->differs(c->c->rock, d->what);
    c->stop = r;
}

static void put_value(struct buf *out, sqlite3_stmt *st, int col)
{
    const unsigned char *p = sqlite3_column_blob(st, col);
    int n = sqlite3_column_bytes(st, col);
    switch (sqlite3_column_type(st, col)) {
    case SQLITE_INTEGER:
        buf_printf(out, " %lld", (long long)sqlite3_column_int64(st, col));
        break;
    case SQLITE_BLOB:
        buf_putc(out, ' ');
        for (int i = 0; i < n; i++)
            buf_printf(out, "%02x", p[i]);
        break;
    default:
        if (n)
            buf_printf(out, " %.*s", n < 500 ? n : 500, (const char *)p);
    }
}

/* What the row at hand is, and its place among those of its key. */
static void put_row(struct compare *c, const struct cursor *at)
{
    const struct table *t = at->t;
    buf_setcstr(&c->text, t->title);
    if (t == &RECORDS)
        buf_printf(&c->text, " UID %lld of mailbox", (long long)sqlite3_column_int64(at->st, 0));
    else
        for (int i = 0; i < t->keys; i++)
            put_value(&c->text, at->st, i);
    if (at->f)
        buf_printf(&c->text, " %s (%s)", at->f->mboxname, at->f->uniqueid);
    if (t->versioned)
        buf_printf(&c->text, " of chunk %lld, line %lld", (long long)LCB_POS_SEQ(at->since),
                   (long long)(at->since & 0xffffff));
}

static void describe(struct lcb_difference *d, const struct cursor *at, int side)
{
    d->table = at->t->name;
    if (at->f) {
        d->uniqueid = at->f->uniqueid;
        d->mboxname = at->f->mboxname;
    }
    if (at->t == &RECORDS) {
        d->uid = (uint32_t)sqlite3_column_int64(at->st, 0);
        if (!side)
            d->chunk = sqlite3_column_int64(at->st, REC_CHUNK);
    } else if (!strcmp(at->t->name, "contents")) {
        if (!side)
            d->chunk = sqlite3_column_int64(at->st, CONTENT_CHUNK);
        if (sqlite3_column_bytes(at->st, 0) == MESSAGE_GUID_LEN)
            d->guid = sqlite3_column_blob(at->st, 0); /* bytes are all it is */
    }
    if (at->t->versioned) {
        d->since[side] = at->since;
        d->until[side] = at->until == INT64_MAX ? 0 : at->until;
    }
}

static void only(struct compare *c, const struct cursor *at, int side)
{
    struct lcb_difference d = {.side = side ? 1 : -1};
    put_row(c, at);
    buf_printf(&c->text, ": only %s has it", name_of(c, side));
    describe(&d, at, side);
    tell(c, &d);
}

static void both(struct compare *c, const struct cursor at[2], const char *what)
{
    struct lcb_difference d = {.side = 0};
    put_row(c, &at[0]);
    buf_printf(&c->text, ": %s not the same in %s and %s", what, name_of(c, 0), name_of(c, 1));
    describe(&d, &at[1], 1);
    describe(&d, &at[0], 0);
    tell(c, &d);
}

/* ---- rows ---- */

/* Does the row count? Notes what of it does. */
static int counts(struct cursor *at)
{
    const struct side *s = at->s;
    int w = at->t->width, records = at->t == &RECORDS;
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
        if (at->t == &RECORDS)
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

/* What of two rows of the same key and beginning is not the same; NULL: nothing. */
static const char *difference(struct compare *c, const struct cursor at[2])
{
    const struct table *t = at[0].t;
    for (int i = t->keys; i < t->width; i++)
        if (compare_column(at[0].st, at[1].st, i))
            return sqlite3_column_name(at[0].st, i);
    if (t->versioned && compare_pos(c, at[0].until, at[1].until))
        return "its end is";
    if (t->versioned && c->c->map &&
        ((at[0].since > c->c->from &&
          time_of(&c->side[0], at[0].since, 0) != time_of(&c->side[1], at[1].since, 0)) ||
         (at[0].until != INT64_MAX &&
          time_of(&c->side[0], at[0].until, 1) != time_of(&c->side[1], at[1].until, 1))))
        return "its time is";
    if (t == &RECORDS && c->c->map && !sqlite3_column_int(at[0].st, REC_EXPUNGED) &&
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
    if (!d)
        return;
    if (!strchr(d, ' ')) { /* a column's name */
        snprintf(what, sizeof(what), "%s is", d);
        d = what;
    }
    both(c, at, d);
}

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
        if (order < 0 && !content_moved(c, &at[0]))
            only(c, &at[0], 0);
        if (order > 0)
            only(c, &at[1], 1);
        if (!order)
            same_row(c, at);
        if (order <= 0)
            r = next(&at[0]);
        if (order >= 0 && !r)
            r = next(&at[1]);
    }
    return r;
}

static int compare_table(struct compare *c, const struct table *t, struct folder f[2])
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
    if (!r)
        r = merge(c, at);
    sqlite3_reset(at[0].st);
    sqlite3_reset(at[1].st);
    return r;
}

/* ---- mailboxes ---- */

static int next_folder(struct compare *c, struct folder *f, int side)
{
    sqlite3_stmt *st = f->st;
    f->more = sqldb_step(c->side[side].db, st);
    if (f->more <= 0)
        return f->more;
    const char *id = (const char *)sqlite3_column_text(st, 0);
    const char *name = (const char *)sqlite3_column_text(st, 3);
    f->uniqueid = id ? id : "";
    f->mboxname = name ? name : "";
    f->id = sqlite3_column_int64(st, 1);
    f->stored = sqlite3_column_int64(st, 2);
    f->crc = 0;
    f->moved = 0;
    return 0;
}

static void lone_folder(struct compare *c, const struct folder *f, int side)
{
    struct lcb_difference d = {.table = "folders", .side = side ? 1 : -1, .uniqueid = f->uniqueid,
                               .mboxname = f->mboxname};
    (void)sqldb_int(c->side[side].db, &d.since[side],
                    "SELECT min(since) FROM folder_states WHERE folder=?", "i", f->id);
    buf_reset(&c->text);
    buf_printf(&c->text, "mailbox %s (%s): only %s has it", f->mboxname, f->uniqueid,
               name_of(c, side));
    tell(c, &d);
}

static void check_crc(struct compare *c, const struct folder *f, int side)
{
    struct lcb_difference d = {.table = "folders", .uniqueid = f->uniqueid, .mboxname = f->mboxname};
    if (f->moved || f->stored == (int64_t)f->crc)
        return;
    buf_reset(&c->text);
    buf_printf(&c->text, "mailbox %s (%s): checksum in %s is %lld, that of its records %u", f->mboxname,
               f->uniqueid, name_of(c, side), (long long)f->stored, f->crc);
    tell(c, &d);
}

/* A mailbox of one side, and each of its records. */
static int tell_folder(struct compare *c, const struct folder *f, int side)
{
    struct folder pair[2] = {*f, *f};
    pair[!side].id = -1;
    lone_folder(c, f, side);
    return c->stop ? 0 : compare_table(c, &RECORDS, pair);
}

static int compare_folder(struct compare *c, struct folder f[2])
{
    int r = compare_table(c, &STATES, f);
    if (!r && !c->stop)
        r = compare_table(c, &RECORDS, f);
    for (int i = 0; !r && !c->stop && i < 2; i++)
        check_crc(c, &f[i], i);
    return r;
}

/* Rows that belong to no mailbox are not seen otherwise. */
static int find_orphans(struct compare *c, int side)
{
    static const char *const sql[] = {
        "SELECT count(*) FROM folder_states WHERE folder NOT IN (SELECT id FROM folders)",
        "SELECT count(*) FROM records WHERE until IS NULL AND folder NOT IN (SELECT id FROM folders)",
        "SELECT count(*) FROM records WHERE until IS NOT NULL AND folder NOT IN"
        " (SELECT id FROM folders)",
        "SELECT count(*) FROM records WHERE content NOT IN (SELECT id FROM contents)",
    };
    for (int i = 0; i < 4 && !c->stop; i++) {
        struct lcb_difference d = {.table = i ? "records" : "folder_states"};
        int64_t n;
        int r = sqldb_int(c->side[side].db, &n, sql[i], "");
        if (r)
            return r;
        if (!n)
            continue;
        buf_reset(&c->text);
        buf_printf(&c->text, "%lld rows of %s in %s belong to no %s", (long long)n, d.table,
                   name_of(c, side), i < 3 ? "mailbox" : "message");
        tell(c, &d);
    }
    return 0;
}

static int compare_folders(struct compare *c)
{
    /* Those that existed in the window, or have no state at all, which is wrong. */
    static const char sql[] =
        "SELECT uniqueid, id, crc, (SELECT mboxname FROM folder_states WHERE folder=f.id"
        " ORDER BY since DESC LIMIT 1) FROM folders f WHERE EXISTS (SELECT 1 FROM folder_states WHERE"
        " folder=f.id AND since<=?2 AND (until IS NULL OR until>?1)) OR NOT EXISTS"
        " (SELECT 1 FROM folder_states WHERE folder=f.id) ORDER BY uniqueid";
    struct folder f[2] = {{.id = 0}};
    int r = 0;
    for (int i = 0; !r && i < 2; i++) {
        f[i].st = sqldb_stmt(c->side[i].db, sql);
        if (!f[i].st)
            return XERR_SQL;
        r = sqldb_bind(f[i].st, "ii", c->side[i].from, c->side[i].to);
        if (!r)
            r = next_folder(c, &f[i], i);
    }
    while (!r && !c->stop && (f[0].more || f[1].more)) {
        int order = !f[0].more ? 1 : !f[1].more ? -1 : strcmp(f[0].uniqueid, f[1].uniqueid);
        r = order ? tell_folder(c, &f[order > 0], order > 0) : compare_folder(c, f);
        if (!r && order <= 0)
            r = next_folder(c, &f[0], 0);
        if (!r && order >= 0)
            r = next_folder(c, &f[1], 1);
    }
    sqlite3_reset(f[0].st);
    sqlite3_reset(f[1].st);
    return r;
}

/* ---- all of it ---- */

/* From where on each side tells history. */
static int compare_history(struct compare *c)
{
    struct lcb_difference d = {.table = "meta"};
    int64_t old, new_;
    int r = lcb_index_gethistory(c->side[0].ix, &old);
    if (!r)
        r = lcb_index_gethistory(c->side[1].ix, &new_);
    if (r)
        return r;
    if (c->c->from && new_)
        c->side[1].from = new_ - 1;
    if (!c->c->map && old <= c->c->to && old != new_) {
        buf_setcstr(&c->text, "the beginning of the history");
        buf_printf(&c->text, " is not the same in %s and %s", name_of(c, 0), name_of(c, 1));
        tell(c, &d);
    }
    return 0;
}

static int compare_all(struct compare *c)
{
    int r = compare_history(c);
    if (!r && !c->stop)
        r = compare_folders(c);
    for (size_t i = 0; !r && !c->stop && i < sizeof(OTHERS) / sizeof(*OTHERS); i++)
        r = compare_table(c, &OTHERS[i], NULL);
    for (size_t i = 0; !r && !c->stop && !c->c->map && i < sizeof(PLACES) / sizeof(*PLACES); i++)
        r = compare_table(c, &PLACES[i], NULL);
    for (int i = 0; !r && !c->stop && i < 2; i++)
        r = find_orphans(c, i);
    return r;
}

int lcb_compare(const struct lcb_compare *options)
{
    struct compare c = {.c = options};
    for (int i = 0; i < 2; i++) {
        struct side *s = &c.side[i];
        s->ix = i ? options->new_ : options->old;
        s->db = s->ix->db;
        s->from = i ? 0 : options->from;
        s->to = i ? INT64_MAX : options->to;
        s->pos[0] = s->pos[1] = -1;
    }
    int r = compare_all(&c);
    buf_free(&c.text);
    r = c.failed ? c.failed : r;
    return r ? r : c.stop < 0 ? c.stop : c.differ;
}
