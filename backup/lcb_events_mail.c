/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_events_mail - what happened to messages.
 *
 * A record's new version is held against the one that ended where it began. A UID without an earlier
 * version has arrived, perhaps from another mailbox: replication does not say so, but a content that
 * another record holds, or held until just now, says enough. (The rows of records outlive their
 * mailbox; those of one that had ended by then say nothing.) Where a content is that of very many
 * records, the first ones alone are looked at: what follows is a guess about where it came from, not
 * about whether it came. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/lcb_events_int.h"
#include "lib/xerr.h"

enum { CANDIDATES = 256 };

/* Columns behind those of the record. */
enum { COL_SINCE = LCB_RECORD_WIDTH, COL_FOLDER, COL_CONTENT };
#define EVENT_COLUMNS "SELECT " LCB_RECORD_COLUMNS ", r.since, r.folder, r.content" LCB_RECORD_JOIN

void event_record(struct eventwalk *w, int64_t pos, const char *kind)
{
    char guid[41];
    message_guid_encode(&w->rec.guid, guid);
    event_begin(w, pos, kind, buf_cstring(&w->state.name), buf_cstring(&w->state.uniqueid));
    event_number(w, "uid", w->rec.uid);
    event_text(w, "guid", guid, strlen(guid));
}

/* The version that ended at POS: 1 and w->before, or 0. */
static int find_before(struct eventwalk *w, int64_t folder, int64_t pos)
{
    sqlite3_stmt *st = sqldb_stmt(w->b->index->db, "SELECT " LCB_RECORD_COLUMNS LCB_RECORD_JOIN
                                  " WHERE r.folder=? AND r.until=? AND r.uid=?");
    if (!st || sqldb_bind(st, "iii", folder, pos, (int64_t)w->rec.uid))
        return XERR_SQL;
    int r = sqldb_step(w->b->index->db, st);
    if (r == 1) {
        lcb_record_row(st, &w->before);
        sqlite3_reset(st);
    }
    return r;
}

/* ---- where it came from, where it went ---- */

struct relative {
    int64_t folder;
    uint32_t uid;
    int moved; /* one came as the other was expunged */
};

/* A record with the content in question. */
struct candidate {
    struct relative rel;
    int64_t since, until; /* of the version */
    int expunged, later;  /* it is expunged; it is not the first version */
    const char *mboxname; /* of its mailbox at POS, or when that ended; NULL if that is to come */
    int64_t folder_until; /* of that state */
};

/* In an order that a compaction does not change. */
static const char candidates_sql[] =
    "SELECT r.folder, r.uid, r.since, coalesce(r.until,?4), r.expunged, EXISTS (SELECT 1 FROM records o"
    " WHERE o.folder=r.folder AND o.until=r.since AND o.uid=r.uid), coalesce(s.until,?4), s.mboxname"
    " FROM (SELECT * FROM records WHERE content=?1 AND NOT (folder=?2 AND uid=?5) ORDER BY id LIMIT ?6)"
    " r JOIN folders f ON f.id=r.folder LEFT JOIN folder_states s ON s.folder=r.folder AND s.since="
    "(SELECT max(since) FROM folder_states WHERE folder=r.folder AND since<=?3)"
    " ORDER BY f.uniqueid, r.uid, r.id";

static void read_candidate(sqlite3_stmt *st, struct candidate *c)
{
    c->rel = (struct relative){sqlite3_column_int64(st, 0), (uint32_t)sqlite3_column_int64(st, 1), 0};
    c->since = sqlite3_column_int64(st, 2);
    c->until = sqlite3_column_int64(st, 3);
    c->expunged = sqlite3_column_int(st, 4);
    c->later = sqlite3_column_int(st, 5);
    c->folder_until = sqlite3_column_int64(st, 6);
    c->mboxname = (const char *)sqlite3_column_text(st, 7);
}

static int at_about_the_same_time(struct eventwalk *w, int64_t pos)
{
    int64_t a = lcb_index_time(w->b->index, pos), b = w->ev.time; /* anything, in a damaged index */
    return (a < b ? (uint64_t)b - (uint64_t)a : (uint64_t)a - (uint64_t)b) <= LCB_EVENT_MOVE;
}

/* Could what arrived at POS be a copy of it? 2, or 1 if its mailbox has been deleted: put aside, or
 * ended just before, which may have been told first. (Records outlive their mailbox: no row says that
 * they ended with it.) */
static int can_be_copied(struct eventwalk *w, int64_t pos, const struct candidate *c)
{
    if (c->expunged || c->since >= pos || c->until < pos || !c->mboxname)
        return 0;
    if (c->folder_until < pos)
        return at_about_the_same_time(w, c->folder_until);
    return mboxname_isdeleted(lcb_store_names(w->b->store), c->mboxname) ? 1 : 2;
}

/* Where the record of CONTENT that is at hand began, if that was before POS; else 0. */
static int first_version(struct eventwalk *w, int64_t pos, int64_t folder, int64_t content,
                         int64_t *since)
{
    int r = sqldb_int(w->b->index->db, since,
                      "SELECT since FROM (SELECT * FROM records WHERE content=? ORDER BY id LIMIT ?)"
                      " WHERE folder=? AND uid=? ORDER BY id LIMIT 1", "iiii", content,
                      (int64_t)CANDIDATES, folder, (int64_t)w->rec.uid);
    if (r == XERR_NOTFOUND || *since == pos)
        *since = 0;
    return r == XERR_NOTFOUND ? 0 : r;
}

/* Is C, whose first version began at FIRST, the other end of a move? It is in another mailbox, one of
 * the two came as the other was expunged, and it is the one that came that is the younger: who moves a
 * message and takes that back soon leaves several of both. */
static int is_moved(struct eventwalk *w, int64_t folder, int arrival, int64_t began,
                    const struct candidate *c, int64_t first)
{
    if (c->rel.folder == folder || !at_about_the_same_time(w, c->since))
        return 0;
    return arrival ? c->expunged && c->later && first < began
                   : !c->expunged && !c->later && first > began;
}

/* Look for the other end of a way: of an arrival (ARRIVAL), a record of the same content that is
 * expunged at about the same time, or else one that was live before; of an expunge, one that arrived at
 * about the same time. 1 if there is one. */
static int find_relative(struct eventwalk *w, int64_t pos, int64_t folder, int64_t content,
                         int arrival, struct relative *found)
{
    struct relative at = {0, 0, 0};
    struct candidate c;
    int64_t began = pos, first = 0;
    int have = 0, r = arrival ? 0 : first_version(w, pos, folder, content, &began);
    if (r)
        return r;
    sqlite3_stmt *st = sqldb_stmt(w->b->index->db, candidates_sql);
    if (!st || sqldb_bind(st, "iiiiii", content, folder, pos, INT64_MAX, (int64_t)w->rec.uid,
                          (int64_t)CANDIDATES))
        return XERR_SQL;
    while ((r = sqldb_step(w->b->index->db, st)) == 1) {
        read_candidate(st, &c);
        if (c.rel.folder != at.folder || c.rel.uid != at.uid)
            first = c.since;
        at = c.rel;
        c.rel.moved = is_moved(w, folder, arrival, began, &c, first);
        int copied = arrival ? can_be_copied(w, pos, &c) : 0;
        if (!c.rel.moved && copied <= have)
            continue;
        *found = c.rel;
        have = copied;
        if (c.rel.moved) {
            have = 1;
            break;
        }
    }
    sqlite3_reset(st);
    return r < 0 ? r : have > 0;
}

/* NAME and NAME_uid of the other end. The state of its mailbox replaces the one at hand. */
static int add_relative(struct eventwalk *w, int64_t pos, const struct relative *rel, const char *key,
                        const char *uidkey)
{
    int r = event_state(w, rel->folder, pos);
    if (r == XERR_NOTFOUND) /* it is to come */
        r = event_state(w, rel->folder, INT64_MAX - 1);
    if (r)
        return r;
    event_text(w, key, w->state.name.s, w->state.name.len);
    event_number(w, uidkey, rel->uid);
    return 0;
}

/* ---- flags ---- */

static int compare_flags(const void *a, const void *b)
{
    const struct dlist *x = *(struct dlist *const *)a, *y = *(struct dlist *const *)b;
    return strcmp(x->sval ? x->sval : "", y->sval ? y->sval : "");
}

static int parse_list(struct dlist_pool *pool, const struct buf *text, struct dlist **list)
{
    *list = NULL;
    return text->len ? event_parse(pool, text->s, text->len, list) : 0;
}

/* The flags that are in A and not in B, both sorted, as words. */
static void add_flags(struct eventwalk *w, const char *key, struct dlist **a, size_t n,
                      struct dlist **b, size_t m)
{
    size_t k = 0;
    event_words(w, key);
    for (size_t i = 0; i < n; i++) {
        while (k < m && compare_flags(&b[k], &a[i]) < 0)
            k++;
        if ((k == m || compare_flags(&b[k], &a[i])) && a[i]->sval)
            event_word(w, a[i]->sval, a[i]->len);
    }
}

int event_flags(struct eventwalk *w)
{
    struct dlist *flags;
    int r = parse_list(w->pool, &w->rec.flags, &flags);
    if (r)
        return r;
    event_number(w, "size", w->rec.size);
    event_words(w, "flags");
    for (const struct dlist *d = flags ? flags->head : NULL; d; d = d->next)
        if (d->sval)
            event_word(w, d->sval, d->len);
    return 0;
}

static int flags_changed(struct eventwalk *w, int64_t pos)
{
    struct dlist *was, *is;
    size_t n, m;
    if (!buf_cmp(&w->before.flags, &w->rec.flags))
        return 0;
    int r = parse_list(w->pool_before, &w->before.flags, &was);
    if (!r)
        r = parse_list(w->pool, &w->rec.flags, &is);
    if (r)
        return r;
    struct dlist **a = event_sorted(was, compare_flags, &n), **b = event_sorted(is, compare_flags, &m);
    event_record(w, pos, "flags");
    add_flags(w, "set", b, m, a, n);
    add_flags(w, "cleared", a, n, b, m);
    free(a);
    free(b);
    return w->values[2].len || w->values[3].len ? event_send(w) : 0;
}

static void begin_annotated(struct eventwalk *w, int64_t pos)
{
    event_record(w, pos, "annotated");
}

static int annotations_changed(struct eventwalk *w, int64_t pos)
{
    struct dlist *was, *is;
    if (!buf_cmp(&w->before.annotations, &w->rec.annotations))
        return 0;
    int r = parse_list(w->pool_before, &w->before.annotations, &was);
    if (!r)
        r = parse_list(w->pool, &w->rec.annotations, &is);
    return r ? r : event_annotations(w, was, is, begin_annotated, pos);
}

/* ---- events ---- */

static int expunged(struct eventwalk *w, int64_t pos, int64_t folder, int64_t content)
{
    struct relative rel;
    event_record(w, pos, "expunged");
    int r = find_relative(w, pos, folder, content, 0, &rel);
    if (r > 0)
        r = add_relative(w, pos, &rel, "to", "to_uid");
    return r ? r : event_send(w);
}

static int arrived(struct eventwalk *w, int64_t pos, int64_t folder, int64_t content)
{
    struct relative rel = {.moved = 0};
    event_record(w, pos, "arrived");
    int from = find_relative(w, pos, folder, content, 1, &rel);
    int r = from < 0 ? from : event_flags(w);
    if (!r)
        w->ev.kind = rel.moved ? "moved" : from ? "copied" : "arrived";
    if (!r && from)
        r = add_relative(w, pos, &rel, "from", "from_uid");
    return r ? r : event_send(w);
}

/* A UID stands for another message: other bytes. */
static int changed(struct eventwalk *w, int64_t pos)
{
    char guid[41];
    if (!memcmp(&w->before.guid, &w->rec.guid, sizeof(w->rec.guid)))
        return 0;
    message_guid_encode(&w->before.guid, guid);
    event_record(w, pos, "changed");
    event_text(w, "was", guid, strlen(guid));
    return event_send(w);
}

int event_versions(struct eventwalk *w, int64_t pos)
{
    int r = changed(w, pos);
    if (!r)
        r = flags_changed(w, pos);
    return r ? r : annotations_changed(w, pos);
}

static int record_row(struct eventwalk *w, sqlite3_stmt *st)
{
    int64_t pos = sqlite3_column_int64(st, COL_SINCE), folder = sqlite3_column_int64(st, COL_FOLDER);
    int64_t content = sqlite3_column_int64(st, COL_CONTENT);
    lcb_record_row(st, &w->rec);
    int r = event_state(w, folder, pos);
    if (r)
        return r == XERR_NOTFOUND ? XERR_FORMAT : r;
    int before = find_before(w, folder, pos);
    if (before < 0)
        return before;
    if (!before) {
        r = arrived(w, pos, folder, content);
        if (!r && w->rec.expunged && !(r = event_state(w, folder, pos)))
            r = expunged(w, pos, folder, content);
        return r;
    }
    if (w->before.expunged && !w->rec.expunged) {
        event_record(w, pos, "restored");
        r = event_send(w);
    }
    if (!r)
        r = event_versions(w, pos);
    if (!r && w->rec.expunged && !w->before.expunged)
        r = expunged(w, pos, folder, content);
    return r;
}

const struct eventsource lcb_event_records = {
    EVENT_COLUMNS " WHERE r.id>=?4 AND r.id<?5 AND r.since BETWEEN ?1 AND ?2"
    " AND (?3=0 OR r.folder=?3) ORDER BY r.id",
    COL_SINCE, record_row, SCOPE_ALL | SCOPE_FOLDER};
const struct eventsource lcb_event_versions = {
    EVENT_COLUMNS " WHERE r.content=?3 AND r.since BETWEEN ?1 AND ?2 ORDER BY r.id", COL_SINCE,
    record_row, SCOPE_MESSAGE};
