/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_diff - how two states of a backup differ.
 *
 * Mailboxes are paired by UNIQUEID. Of their records only those are read that differ: versions that
 * held at the first position and ended before the second, and versions that began between the two and
 * hold at the second. Both come in the order of UIDs and are walked side by side. */
#include "config.h"

#include <string.h>

#include "backup/lcb_diff.h"
#include "backup/lcb_events_int.h"
#include "lib/xerr.h"

struct diff {
    struct eventwalk w;
    int64_t from, to;
};

/* ---- records ---- */

static int tell(struct diff *d, int came)
{
    event_record(&d->w, d->to, came ? "arrived" : "gone");
    int r = came ? event_flags(&d->w) : 0;
    return r ? r : event_send(&d->w);
}

/* The statement's row or its end: -1, or the UID; an error to *R. */
static int64_t next_uid(struct diff *d, sqlite3_stmt *st, int *r)
{
    int step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        return sqlite3_column_int64(st, 0);
    if (step != SQLITE_DONE)
        *r = sqldb_failed(d->w.b->index->db, "records");
    return -1;
}

/* One UID: its versions at the two positions, either may be missing. */
static int compare_versions(struct diff *d, sqlite3_stmt *was, sqlite3_stmt *is)
{
    struct eventwalk *w = &d->w;
    if (was)
        lcb_record_row(was, &w->before);
    if (is)
        lcb_record_row(is, &w->rec);
    int before = was && !w->before.expunged, after = is && !w->rec.expunged;
    if (before && after)
        return event_versions(w, d->to);
    if (before && !is)
        lcb_record_row(was, &w->rec);
    return before || after ? tell(d, after) : 0;
}

static int walk_both(struct diff *d, sqlite3_stmt *was, sqlite3_stmt *is)
{
    int r = 0;
    int64_t a = next_uid(d, was, &r), b = r ? -1 : next_uid(d, is, &r);
    while (!r && (a >= 0 || b >= 0)) {
        int old = a >= 0 && (b < 0 || a <= b), new = b >= 0 && (a < 0 || b <= a);
        r = compare_versions(d, old ? was : NULL, new ? is : NULL);
        if (!r && old)
            a = next_uid(d, was, &r);
        if (!r && new)
            b = next_uid(d, is, &r);
    }
    return r;
}

#define SELECT_RECORD "SELECT " LCB_RECORD_COLUMNS LCB_RECORD_JOIN " WHERE r.folder=?1 AND "

static int compare_records(struct diff *d, int64_t folder)
{
    static const char ended[] = SELECT_RECORD "r.until>?2 AND r.until<=?3 AND r.since<=?2"
                                " ORDER BY r.uid";
    static const char began[] =
        SELECT_RECORD "r.until IS NULL AND r.since>?2 AND r.since<=?3 UNION ALL "
        SELECT_RECORD "r.until>?3 AND r.since>?2 AND r.since<=?3 ORDER BY 1";
    sqlite3 *db = d->w.b->index->db->db;
    sqlite3_stmt *was = NULL, *is = NULL;
    int r = sqlite3_prepare_v2(db, ended, -1, &was, NULL) == SQLITE_OK &&
                    sqlite3_prepare_v2(db, began, -1, &is, NULL) == SQLITE_OK
                ? 0 : sqldb_failed(d->w.b->index->db, "records");
    if (!r)
        r = sqldb_bind(was, "iii", folder, d->from, d->to);
    if (!r)
        r = sqldb_bind(is, "iii", folder, d->from, d->to);
    if (!r)
        r = walk_both(d, was, is);
    sqlite3_finalize(was);
    sqlite3_finalize(is);
    return r;
}

struct all {
    struct diff *d;
    int came;
};

static int tell_record(void *rock, const struct lcb_record *rec)
{
    struct all *all = rock;
    struct eventwalk *w = &all->d->w;
    if (rec->rec.expunged)
        return 0;
    w->rec.uid = rec->rec.uid;
    w->rec.size = rec->rec.size;
    w->rec.guid = rec->rec.guid;
    buf_reset(&w->rec.flags);
    buf_append(&w->rec.flags, &rec->rec.flags);
    return tell(all->d, all->came);
}

/* All messages of a mailbox that is there in one of the states only. */
static int all_records(struct diff *d, int64_t folder, int came)
{
    struct all all = {d, came};
    return lcb_foreach_record(d->w.b, folder, came ? d->to : d->from, tell_record, &all);
}

/* ---- mailboxes ---- */

/* The state at AT to w->state: 1 if it held then, outside of the deleted namespace. */
static int state_at(struct diff *d, int64_t folder, int64_t at)
{
    struct eventwalk *w = &d->w;
    int r = event_state(w, folder, at);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    return (w->state.until == INT64_MAX || w->state.until > at) &&
           !mboxname_isdeleted(lcb_store_names(w->b->store), buf_cstring(&w->state.name));
}

static void begin(struct diff *d, const char *kind)
{
    event_begin(&d->w, d->to, kind, buf_cstring(&d->w.state.name), buf_cstring(&d->w.state.uniqueid));
}

/* w->state is that at the end, w->name and w->header were those at the beginning. */
static int compare_folder(struct diff *d, int64_t folder)
{
    struct eventwalk *w = &d->w;
    int r = 0;
    if (buf_cmp(&w->name, &w->state.name)) {
        begin(d, "mailbox-renamed");
        event_text(w, "from", w->name.s, w->name.len);
        r = event_send(w);
    }
    if (!r && buf_cmp(&w->header, &w->state.header))
        r = event_headers(w, d->to);
    return r ? r : compare_records(d, folder);
}

static int one_folder(struct diff *d, int64_t folder)
{
    struct eventwalk *w = &d->w;
    int was = state_at(d, folder, d->from);
    if (was < 0)
        return was;
    if (was) {
        buf_setmap(&w->name, w->state.name.s, w->state.name.len);
        buf_setmap(&w->header, w->state.header.s, w->state.header.len);
    }
    int is = state_at(d, folder, d->to);
    if (is < 0 || (!was && !is))
        return is < 0 ? is : 0;
    if (was && is)
        return compare_folder(d, folder);
    int r = is ? 0 : event_state(w, folder, d->from);
    if (r)
        return r;
    begin(d, is ? "mailbox-created" : "mailbox-deleted");
    r = event_send(w);
    return r ? r : all_records(d, folder, is);
}

static int all_folders(struct diff *d, int64_t folder)
{
    static const char sql[] =
        "SELECT f.id, (SELECT s.mboxname FROM folder_states s WHERE s.folder=f.id AND s.since<=?1"
        " ORDER BY s.since DESC LIMIT 1) AS name FROM folders f WHERE (?2=0 OR f.id=?2)"
        " AND name IS NOT NULL ORDER BY 2, 1";
    sqlite3_stmt *st = NULL;
    int r = sqlite3_prepare_v2(d->w.b->index->db->db, sql, -1, &st, NULL) == SQLITE_OK
                ? sqldb_bind(st, "ii", d->to, folder) : sqldb_failed(d->w.b->index->db, sql);
    int step = SQLITE_DONE;
    while (!r && (step = sqlite3_step(st)) == SQLITE_ROW)
        r = one_folder(d, sqlite3_column_int64(st, 0));
    if (!r && step != SQLITE_DONE)
        r = sqldb_failed(d->w.b->index->db, sql);
    sqlite3_finalize(st);
    return r;
}

/* ---- what is not mail ---- */

static int others(struct diff *d, const struct eventsource *source)
{
    sqlite3_stmt *st = NULL;
    int r = sqlite3_prepare_v2(d->w.b->index->db->db, source->sql, -1, &st, NULL) == SQLITE_OK
                ? sqldb_bind(st, "ii", d->from, d->to)
                : sqldb_failed(d->w.b->index->db, source->sql);
    int step = SQLITE_DONE;
    while (!r && (step = sqlite3_step(st)) == SQLITE_ROW)
        r = source->row(&d->w, st);
    if (!r && step != SQLITE_DONE)
        r = sqldb_failed(d->w.b->index->db, source->sql);
    sqlite3_finalize(st);
    return r;
}

int lcb_foreach_difference(struct lcb *b, int64_t from, int64_t to, int64_t folder,
                           int (*fn)(void *rock, const struct lcb_event *), void *rock)
{
    struct diff d = {.from = from, .to = to};
    struct lcb_events q = {from, to, folder, NULL};
    if (from > to)
        return XERR_PARAM;
    event_walk_init(&d.w, b, &q, fn, rock);
    int r = all_folders(&d, folder);
    for (int i = 0; !r && !folder && i < DIFF_OTHERS; i++)
        r = others(&d, &lcb_diff_others[i]);
    event_walk_fini(&d.w);
    return r;
}
