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
 * When a user is removed (UNUSER), all that he had ends at one position. No other line ends more
 * than one mailbox, or a mailbox and anything else, for good: that is how it is recognised. Who had
 * nothing but one mailbox is seen as somebody whose last mailbox was deleted. */
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

/* ---- what is not mail ---- */

static const char *column(sqlite3_stmt *st, int col)
{
    const char *s = (const char *)sqlite3_column_text(st, col);
    return s ? s : "";
}

/* A thing of TABLE (KEY: its columns) that begins or ends for good: position, 1 or 0 for which, since,
 * and the columns MORE of that row. */
#define BEGINS(table, more) \
    "SELECT s.since, 1, s.since, " more " FROM " table " s WHERE s.since BETWEEN ?1 AND ?2"
#define ENDS(table, same, more) \
    "SELECT s.until, 0, s.since, " more " FROM " table " s WHERE s.until BETWEEN ?1 AND ?2" \
    " AND NOT EXISTS (SELECT 1 FROM " table " n WHERE n.since=s.until AND " same ")"
#define BOTH(table, same, more) \
    BEGINS(table, more) " UNION ALL " ENDS(table, same, more) " ORDER BY 1, 2"
/* Of the row that ended when this one began. */
#define BEFORE(table, same, what) \
    "(SELECT n." what " FROM " table " n WHERE n.until=s.since AND " same ")"

static int sub_row(struct eventwalk *w, sqlite3_stmt *st)
{
    event_begin(w, sqlite3_column_int64(st, 0),
                sqlite3_column_int(st, 1) ? "subscribed" : "unsubscribed", column(st, 3), NULL);
    return event_send(w);
}

static int seen_row(struct eventwalk *w, sqlite3_stmt *st)
{
    event_begin(w, sqlite3_column_int64(st, 0), "seen", column(st, 3), NULL);
    event_number(w, "lastuid", (uint64_t)sqlite3_column_int64(st, 4));
    event_text(w, "seenuids", column(st, 5), strlen(column(st, 5)));
    return event_send(w);
}

/* "main" for "main.script" and "main.bc". */
static void begin_script(struct eventwalk *w, sqlite3_stmt *st, const char *kind)
{
    event_begin(w, sqlite3_column_int64(st, 0), kind, column(st, 3), NULL);
    char *dot = strrchr(w->item.s, '.');
    if (dot && dot > w->item.s && (!strcmp(dot, ".script") || !strcmp(dot, ".bc"))) {
        buf_truncate(&w->item, (size_t)(dot - w->item.s));
        w->ev.item = buf_cstring(&w->item);
    }
}

static int script_row(struct eventwalk *w, sqlite3_stmt *st)
{
    if (!sqlite3_column_int(st, 1)) {
        begin_script(w, st, "script-deleted");
        return event_send(w);
    }
    begin_script(w, st, sqlite3_column_type(st, 5) == SQLITE_NULL ? "script-uploaded"
                                                                  : "script-changed");
    event_number(w, "size", (uint64_t)sqlite3_column_int64(st, 4));
    return event_send(w);
}

static int active_row(struct eventwalk *w, sqlite3_stmt *st)
{
    begin_script(w, st, sqlite3_column_int(st, 1) ? "script-activated" : "script-deactivated");
    return event_send(w);
}

/* The limits in a QUOTA value as words: "STORAGE=1000". */
static int add_limits(struct eventwalk *w, const char *key, sqlite3_stmt *st, int col)
{
    struct dlist *kv = NULL;
    const char *text = sqlite3_column_blob(st, col);
    int r = event_parse(w->pool, text ? text : "", (size_t)sqlite3_column_bytes(st, col), &kv);
    if (r)
        return r;
    event_words(w, key);
    for (const struct dlist *d = kv->head; d; d = d->next) {
        struct buf word = BUF_INITIALIZER;
        /* LIMIT says again what STORAGE says, for old readers. */
        if (!d->name || !strcmp(d->name, "ROOT") || !strcmp(d->name, "LIMIT") ||
            !strcmp(d->name, "MODSEQ"))
            continue;
        buf_printf(&word, "%s=%s", d->name, d->sval ? d->sval : "");
        event_word(w, word.s, word.len);
        buf_free(&word);
    }
    return 0;
}

static int quota_row(struct eventwalk *w, sqlite3_stmt *st)
{
    int begins = sqlite3_column_int(st, 1), r = 0;
    event_begin(w, sqlite3_column_int64(st, 0), begins ? "quota-set" : "quota-removed",
                column(st, 3), NULL);
    int before = begins && sqlite3_column_type(st, 5) != SQLITE_NULL;
    if (before)
        r = add_limits(w, "was", st, 5);
    if (!r)
        r = add_limits(w, begins ? "is" : "was", st, 4);
    if (r)
        return r;
    if (before && !buf_cmp(&w->values[0], &w->values[1]))
        return 0; /* something in it that is no limit */
    return event_send(w);
}

static int annotation_row(struct eventwalk *w, sqlite3_stmt *st)
{
    int begins = sqlite3_column_int(st, 1);
    event_begin(w, sqlite3_column_int64(st, 0), "server-annotated", column(st, 3), NULL);
    event_text(w, "user", column(st, 4), strlen(column(st, 4)));
    int was = begins ? 6 : 5;
    if (sqlite3_column_type(st, was) != SQLITE_NULL)
        event_text(w, "was", sqlite3_column_blob(st, was), (size_t)sqlite3_column_bytes(st, was));
    if (begins)
        event_text(w, "is", sqlite3_column_blob(st, 5), (size_t)sqlite3_column_bytes(st, 5));
    return event_send(w);
}

static const struct eventsource subs = {
    BOTH("subs", "n.mboxname=s.mboxname", "s.mboxname"), 0, sub_row, SCOPE_ALL};
static const struct eventsource seens = {
    BEGINS("seens", "s.uniqueid, s.lastuid, s.seenuids") " ORDER BY 1", 0, seen_row, SCOPE_ALL};
static const struct eventsource scripts = {
    BOTH("scripts", "n.filename=s.filename", "s.filename, length(s.content), "
         BEFORE("scripts", "n.filename=s.filename", "since")), 0, script_row, SCOPE_ALL};
static const struct eventsource active = {
    BOTH("active", "1", "s.filename"), 0, active_row, SCOPE_ALL};
static const struct eventsource quotas = {
    BOTH("quotas", "n.root=s.root", "s.root, s.limits, "
         BEFORE("quotas", "n.root=s.root", "limits")), 0, quota_row, SCOPE_ALL};
#define SAME_ANNOT "n.mboxname=s.mboxname AND n.entry=s.entry AND n.userid=s.userid"
static const struct eventsource annotations = {
    BOTH("annots", SAME_ANNOT, "s.entry, s.userid, s.value, "
         BEFORE("annots", SAME_ANNOT, "value")), 0, annotation_row, SCOPE_ALL};

/* At one position they have their turn in this order. */
static const struct eventsource *const sources[] = {
    &lcb_event_ends, &lcb_event_states, &lcb_event_records, &lcb_event_versions, &subs, &seens,
    &scripts, &active, &quotas, &annotations,
};
enum { SOURCES = sizeof(sources) / sizeof(*sources) };

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
        r = open_cursor(w, &cursors[i], sources[i]);
    while (!r) {
        int first = -1;
        for (int i = 0; i < SOURCES; i++)
            if (cursors[i].st && (first < 0 || cursors[i].pos < cursors[first].pos))
                first = i;
        if (first < 0)
            break;
        r = sources[first]->row(w, cursors[first].st);
        if (!r)
            r = step(w, &cursors[first], sources[first]);
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
    else if (r)
        return r;
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

int lcb_foreach_event(struct lcb *b, const struct lcb_events *q,
                      int (*fn)(void *rock, const struct lcb_event *), void *rock)
{
    struct eventwalk w = {.b = b, .q = q, .fn = fn, .rock = rock, .timed = -1, .removed = -1};
    w.pool = dlist_pool_new(LCB_STORED_MAX);
    w.pool_before = dlist_pool_new(LCB_STORED_MAX);
    int r = find_range(&w);
    if (!r)
        r = merge(&w);
    for (int i = 0; i < EVENT_DETAILS; i++)
        buf_free(&w.values[i]);
    buf_free(&w.item);
    buf_free(&w.uniqueid);
    buf_free(&w.state.name);
    buf_free(&w.state.uniqueid);
    buf_free(&w.state.header);
    buf_free(&w.header);
    buf_free(&w.name);
    sync_record_fini(&w.rec);
    sync_record_fini(&w.before);
    dlist_pool_free(&w.pool);
    dlist_pool_free(&w.pool_before);
    return r;
}
