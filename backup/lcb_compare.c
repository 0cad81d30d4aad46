/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compare - two indexes side by side.
 *
 * Ids differ between two indexes of the same history, keys do not: UNIQUEID, UID, GUID, names. Of each
 * table the rows are merged in that order (lcb_compare_rows.c). What belongs to a mailbox is compared
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

#include <string.h>

#include "backup/lcb_compare_int.h"
#include "lib/xerr.h"

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
               compare_name(c, side));
    compare_tell(c, &d);
}

static void check_crc(struct compare *c, const struct folder *f, int side)
{
    struct lcb_difference d = {.table = "folders", .uniqueid = f->uniqueid, .mboxname = f->mboxname};
    if (f->moved || f->stored == (int64_t)f->crc)
        return;
    buf_reset(&c->text);
    buf_printf(&c->text, "mailbox %s (%s): checksum in %s is %lld, that of its records %u", f->mboxname,
               f->uniqueid, compare_name(c, side), (long long)f->stored, f->crc);
    compare_tell(c, &d);
}

/* A mailbox of one side, and each of its records. */
static int tell_folder(struct compare *c, const struct folder *f, int side)
{
    struct folder pair[2] = {*f, *f};
    pair[!side].id = -1;
    lone_folder(c, f, side);
    return c->stop ? 0 : compare_rows(c, &compare_records, pair);
}

static int compare_folder(struct compare *c, struct folder f[2])
{
    int r = compare_rows(c, &compare_states, f);
    if (!r && !c->stop)
        r = compare_rows(c, &compare_records, f);
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
                   compare_name(c, side), i < 3 ? "mailbox" : "message");
        compare_tell(c, &d);
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
        buf_printf(&c->text, " is not the same in %s and %s", compare_name(c, 0), compare_name(c, 1));
        d.since[0] = old;
        d.since[1] = new_;
        compare_tell(c, &d);
    }
    return 0;
}

/* Where lines went elsewhere, no damage went with them. */
static int find_damage(struct compare *c)
{
    struct lcb_difference d = {.table = "lost", .side = 1};
    int64_t n;
    int r = sqldb_int(c->side[1].db, &n, "SELECT count(*) FROM lost", "");
    if (r || !n)
        return r;
    buf_reset(&c->text);
    buf_printf(&c->text, "%lld lines in %s could not be understood", (long long)n, compare_name(c, 1));
    compare_tell(c, &d);
    return 0;
}

static int compare_all(struct compare *c)
{
    int r = compare_history(c);
    if (!r && !c->stop)
        r = compare_folders(c);
    for (int i = 0; !r && !c->stop && i < COMPARE_OTHERS; i++)
        r = compare_rows(c, &compare_others[i], NULL);
    for (int i = 0; !r && !c->stop && !c->c->map && i < COMPARE_PLACES; i++)
        r = compare_rows(c, &compare_places[i], NULL);
    if (!r && !c->stop && c->c->map)
        r = find_damage(c);
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
    buf_free(&c.key);
    buf_free(&c.last_key);
    r = c.failed ? c.failed : r;
    return r ? r : c.stop < 0 ? c.stop : c.differ;
}
