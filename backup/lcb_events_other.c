/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_events_other - what happened to subscriptions, scripts, quotas and the like, and how two states
 * differ in them.
 *
 * Both questions are answered in the same rows: position, 1 for what begins or 0 for what ends for
 * good, since, the item, and what is to be told of it, with what was before in the last column. */
#include "config.h"

#include <string.h>

#include "backup/lcb_events_int.h"

static const char *column(sqlite3_stmt *st, int col)
{
    const char *s = (const char *)sqlite3_column_text(st, col);
    return s ? s : "";
}

static int sub_row(struct eventwalk *w, sqlite3_stmt *st)
{
    event_begin(w, sqlite3_column_int64(st, 0),
                sqlite3_column_int(st, 1) ? "subscribed" : "unsubscribed", column(st, 3), NULL);
    return event_send(w);
}

static int seen_row(struct eventwalk *w, sqlite3_stmt *st)
{
    int begins = sqlite3_column_int(st, 1);
    event_begin(w, sqlite3_column_int64(st, 0), begins ? "seen" : "seen-removed", column(st, 3),
                NULL);
    if (!begins)
        return event_send(w);
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
    if (w->ev.count == 3 && !buf_cmp(&w->values[1], &w->values[2]))
        return 0; /* as it was before it was something else */
    return event_send(w);
}

/* ---- events ---- */

/* A thing of TABLE (KEY: its columns) that begins or ends for good: position, 1 or 0 for which, since,
 * and the columns MORE of that row. */
#define BEGINS(table, more) \
    "SELECT s.since, 1, s.since, " more " FROM " table " s WHERE s.since BETWEEN ?1 AND ?2"
#define ENDS(table, same, more) \
    "SELECT s.until, 0, s.since, " more " FROM " table " s WHERE s.until BETWEEN ?1 AND ?2" \
    " AND NOT EXISTS (SELECT 1 FROM " table " n WHERE n.since=s.until AND " same ")"
#define BOTH(table, same, more) \
    BEGINS(table, more) " UNION ALL " ENDS(table, same, more) " ORDER BY 1, 2"
/* Of the row of the same thing that ended when this one began: it is the one before. */
#define BEFORE(table, same, what) \
    "(SELECT CASE WHEN n.until=s.since THEN n." what " END FROM " table " n WHERE " same \
    " AND n.since<s.since ORDER BY n.since DESC LIMIT 1)"
#define SAME_ANNOT "n.mboxname=s.mboxname AND n.entry=s.entry AND n.userid=s.userid"

const struct eventsource lcb_event_others[EVENT_OTHERS] = {
    {BOTH("subs", "n.mboxname=s.mboxname", "s.mboxname"), 0, sub_row, SCOPE_ALL},
    {BOTH("seens", "n.uniqueid=s.uniqueid", "s.uniqueid, s.lastuid, s.seenuids"), 0, seen_row,
     SCOPE_ALL},
    {BOTH("scripts", "n.filename=s.filename", "s.filename, length(s.content), "
          BEFORE("scripts", "n.filename=s.filename", "since")), 0, script_row, SCOPE_ALL},
    {BOTH("active", "1", "s.filename"), 0, active_row, SCOPE_ALL},
    {BOTH("quotas", "n.root=s.root", "s.root, s.limits, "
          BEFORE("quotas", "n.root=s.root", "limits")), 0, quota_row, SCOPE_ALL},
    {BOTH("annots", SAME_ANNOT, "s.entry, s.userid, s.value, "
          BEFORE("annots", SAME_ANNOT, "value")), 0, annotation_row, SCOPE_ALL},
};

/* ---- differences between ?1 and ?2 ---- */

#define HELD(row, at) row ".since<=" at " AND (" row ".until IS NULL OR " row ".until>" at ")"
/* The row of the same thing that held at AT. */
#define OTHER(table, same, at, what) \
    "(SELECT " what " FROM " table " n WHERE " HELD("n", at) " AND " same ")"
/* What holds at ?2 and did not at ?1, unless UNLESS is true of what held then; what held at ?1, of
 * which nothing holds at ?2. */
#define COMES(table, same, unless, more) \
    "SELECT 0, 1, s.since, " more " FROM " table " s WHERE " HELD("s", "?2") " AND s.since>?1" \
    " AND NOT EXISTS " OTHER(table, same " AND " unless, "?1", "1")
#define GOES(table, same, more) \
    "SELECT 0, 0, s.since, " more " FROM " table " s WHERE " HELD("s", "?1") " AND s.until<=?2" \
    " AND NOT EXISTS " OTHER(table, same, "?2", "1")
#define DIFFER(table, same, unless, more) \
    COMES(table, same, unless, more) " UNION ALL " GOES(table, same, more) " ORDER BY 4, 2"

const struct eventsource lcb_diff_others[DIFF_OTHERS] = {
    {DIFFER("subs", "n.mboxname=s.mboxname", "1", "s.mboxname"), 0, sub_row, SCOPE_ALL},
    {DIFFER("seens", "n.uniqueid=s.uniqueid", "n.lastuid=s.lastuid AND n.seenuids=s.seenuids",
            "s.uniqueid, s.lastuid, s.seenuids"), 0, seen_row, SCOPE_ALL},
    {DIFFER("scripts", "n.filename=s.filename", "n.guid=s.guid", "s.filename, length(s.content), "
            OTHER("scripts", "n.filename=s.filename", "?1", "n.since")), 0, script_row, SCOPE_ALL},
    {DIFFER("active", "1", "n.filename=s.filename", "s.filename"), 0, active_row, SCOPE_ALL},
    {DIFFER("quotas", "n.root=s.root", "0", "s.root, s.limits, "
            OTHER("quotas", "n.root=s.root", "?1", "n.limits")), 0, quota_row, SCOPE_ALL},
    {DIFFER("annots", SAME_ANNOT, "0", "s.entry, s.userid, s.value, "
            OTHER("annots", SAME_ANNOT, "?1", "n.value")), 0, annotation_row, SCOPE_ALL},
};
