/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_events - what happened, from the rows of the index.
 *
 * Every row says when it began to hold and when it ceased to. Where one begins as another of the
 * same thing ends, something changed; where one begins alone, something came, where one ends alone,
 * it went. Nothing else is kept for this purpose, so the account reaches back as far as the rows do
 * and cannot disagree with them.
 *
 * For each kind of rows there is a source: a query in the order of positions. They are merged here,
 * the source whose next row is the earliest has its turn, and a row becomes no event, one, or
 * several. Sources that must be sorted sort keys only, in a temporary file once there are many; the
 * rows themselves are looked up one by one. Records need no sorting: their ids grow as positions do,
 * because both are given in the order of lines.
 *
 * When a user is removed (UNUSER), all that he had ends at one position (lcb_events_user.c). */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/lcb_events_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* ---- one event ---- */

void event_begin(struct eventwalk *w, int64_t pos, const char *kind, const char *item,
                 const char *uniqueid)
{
    if (pos != w->timed)
        w->ev.time = lcb_index_time(w->b->index, w->timed = pos);
    w->ev.pos = pos;
    w->ev.kind = kind;
    buf_setcstr(&w->item, item);
    w->ev.item = buf_cstring(&w->item);
    w->ev.uniqueid = NULL;
    if (uniqueid) {
        buf_setcstr(&w->uniqueid, uniqueid);
        w->ev.uniqueid = buf_cstring(&w->uniqueid);
    }
    w->ev.count = 0;
}

static struct buf *detail(struct eventwalk *w, const char *key, enum lcb_detail_type type,
                          uint64_t number)
{
    struct buf *value = &w->values[w->ev.count];
    w->details[w->ev.count++] = (struct lcb_event_detail){key, type, NULL, 0, number};
    buf_reset(value);
    return value;
}

void event_text(struct eventwalk *w, const char *key, const char *s, size_t n)
{
    buf_setmap(detail(w, key, LCB_DETAIL_TEXT, 0), s, n);
}

void event_number(struct eventwalk *w, const char *key, uint64_t n)
{
    buf_appendu64(detail(w, key, LCB_DETAIL_NUMBER, n), n);
}

void event_words(struct eventwalk *w, const char *key)
{
    detail(w, key, LCB_DETAIL_WORDS, 0);
}

void event_word(struct eventwalk *w, const char *s, size_t n)
{
    struct buf *value = &w->values[w->ev.count - 1];
    if (value->len)
        buf_putc(value, ' ');
    buf_appendmap(value, s, n);
}

int event_send(struct eventwalk *w)
{
    for (unsigned i = 0; i < w->ev.count; i++) {
        w->details[i].text = buf_cstring(&w->values[i]);
        w->details[i].len = w->values[i].len;
    }
    w->ev.details = w->details;
    return w->fn(w->rock, &w->ev);
}

int event_parse(struct dlist_pool *pool, const char *text, size_t len, struct dlist **out)
{
    struct dlist_reader reader;
    struct protstream *in = prot_readmem(text, len);
    dlist_pool_reset(pool);
    dlist_reader_init(&reader, in, pool);
    reader.maxatom = LCB_STORED_MAX;
    int r = dlist_reader_value(&reader, out);
    prot_free(&in);
    return r;
}

struct dlist **event_sorted(const struct dlist *list,
                            int (*compare)(const void *, const void *), size_t *n)
{
    size_t i = 0;
    *n = 0;
    for (const struct dlist *d = list ? list->head : NULL; d; d = d->next)
        ++*n;
    struct dlist **sorted = xcalloc(*n + 1, sizeof(*sorted));
    for (struct dlist *d = list ? list->head : NULL; d; d = d->next)
        sorted[i++] = d;
    qsort(sorted, *n, sizeof(*sorted), compare);
    return sorted;
}

/* At one position they have their turn in this order. */
static const struct eventsource *source_number(int i)
{
    static const struct eventsource *const mail[] = {
        &lcb_event_ends, &lcb_event_states, &lcb_event_records, &lcb_event_versions,
    };
    enum { MAIL = sizeof(mail) / sizeof(*mail) };
    return i < MAIL ? mail[i] : &lcb_event_others[i - MAIL];
}
enum { SOURCES = 4 + EVENT_OTHERS };

/* ---- merging ---- */

struct cursor {
    sqlite3_stmt *st; /* NULL at its end */
    int64_t pos;
};

static int step(struct eventwalk *w, struct cursor *c, const struct eventsource *source)
{
    int r = sqlite3_step(c->st);
    if (r == SQLITE_ROW) {
        c->pos = sqlite3_column_int64(c->st, source->pos);
        return 0;
    }
    sqlite3_finalize(c->st);
    c->st = NULL;
    return r == SQLITE_DONE ? 0 : sqldb_failed(w->b->index->db, "events");
}

static int open_cursor(struct eventwalk *w, struct cursor *c, const struct eventsource *source)
{
    const int64_t values[] = {w->q->from, w->q->to, w->key, w->first_id, w->end_id};
    int scope = w->q->guid ? SCOPE_MESSAGE : w->q->folder ? SCOPE_FOLDER : SCOPE_ALL;
    if (!(source->scope & scope))
        return 0;
    if (sqlite3_prepare_v2(w->b->index->db->db, source->sql, -1, &c->st, NULL) != SQLITE_OK)
        return sqldb_failed(w->b->index->db, source->sql);
    for (int i = 0; i < sqlite3_bind_parameter_count(c->st); i++)
        if (sqlite3_bind_int64(c->st, i + 1, values[i]) != SQLITE_OK)
            return sqldb_failed(w->b->index->db, source->sql);
    return step(w, c, source);
}

static int merge(struct eventwalk *w)
{
    struct cursor cursors[SOURCES] = {{.st = NULL}};
    int r = 0;
    for (int i = 0; !r && i < SOURCES; i++)
        r = open_cursor(w, &cursors[i], source_number(i));
    while (!r) {
        int first = -1;
        for (int i = 0; i < SOURCES; i++)
            if (cursors[i].st && (first < 0 || cursors[i].pos < cursors[first].pos))
                first = i;
        if (first < 0)
            break;
        r = source_number(first)->row(w, cursors[first].st);
        if (!r)
            r = step(w, &cursors[first], source_number(first));
    }
    for (int i = 0; i < SOURCES; i++)
        sqlite3_finalize(cursors[i].st);
    return r;
}

/* ---- the range ---- */

/* The id of the first record whose row began at POS or later. */
static int first_record(struct eventwalk *w, int64_t pos, int64_t *id)
{
    int64_t low = 0, high, since;
    int r = sqldb_int(w->b->index->db, &high, "SELECT max(id) FROM records", "");
    if (r == XERR_NOTFOUND)
        high = 0;
    else if (r || high == INT64_MAX)
        return r ? r : XERR_FORMAT;
    high++;
    while (high - low > 1) { /* the row at or below LOW began before POS, that below HIGH perhaps */
        int64_t middle = low + (high - low) / 2;
        r = sqldb_int(w->b->index->db, &since,
                      "SELECT since FROM records WHERE id<=? ORDER BY id DESC LIMIT 1", "i", middle);
        if (r && r != XERR_NOTFOUND)
            return r;
        if (!r && since >= pos)
            high = middle;
        else
            low = middle;
    }
    *id = high;
    return 0;
}

static int find_range(struct eventwalk *w)
{
    int r = first_record(w, w->q->from, &w->first_id);
    w->end_id = INT64_MAX;
    if (!r && w->q->to != LCB_NOW)
        r = first_record(w, w->q->to + 1, &w->end_id);
    w->key = w->q->folder;
    if (!r && w->q->guid) {
        r = sqldb_int(w->b->index->db, &w->key, "SELECT id FROM contents WHERE guid=?", "b",
                      w->q->guid->value, (size_t)MESSAGE_GUID_LEN);
        w->key = r ? -1 : w->key;
        r = r == XERR_NOTFOUND ? 0 : r;
    }
    return r;
}

void event_walk_init(struct eventwalk *w, struct lcb *b, const struct lcb_events *q,
                     int (*fn)(void *rock, const struct lcb_event *), void *rock)
{
    *w = (struct eventwalk){.b = b, .q = q, .fn = fn, .rock = rock, .timed = -1, .removed = -1};
    w->pool = dlist_pool_new(LCB_STORED_MAX);
    w->pool_before = dlist_pool_new(LCB_STORED_MAX);
}

void event_walk_fini(struct eventwalk *w)
{
    for (int i = 0; i < EVENT_DETAILS; i++)
        buf_free(&w->values[i]);
    buf_free(&w->item);
    buf_free(&w->uniqueid);
    buf_free(&w->state.name);
    buf_free(&w->state.uniqueid);
    buf_free(&w->state.header);
    buf_free(&w->header);
    buf_free(&w->name);
    sync_record_fini(&w->rec);
    sync_record_fini(&w->before);
    dlist_pool_free(&w->pool);
    dlist_pool_free(&w->pool_before);
}

int lcb_foreach_event(struct lcb *b, const struct lcb_events *q,
                      int (*fn)(void *rock, const struct lcb_event *), void *rock)
{
    struct eventwalk w;
    event_walk_init(&w, b, q, fn, rock);
    int r = find_range(&w);
    if (!r)
        r = merge(&w);
    event_walk_fini(&w);
    return r;
}
