/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_events_folder - what happened to mailboxes themselves.
 *
 * A mailbox has a new state with each change of its header, and nearly all of these say only that
 * mail came or went: numbers that grow. What is told of is a first state, another name, a state that
 * ended without another, and other keys and annotations, compared one by one. Of what was deleted no
 * more is told than where it is.
 *
 * A rename may be told in two pieces: a client first says that another mailbox has the name, which
 * ends the one that had it, and only then which name that one has now. So where a mailbox comes back
 * under another name soon after somebody else took the one that it had, it was renamed, and its end is
 * not told. What had ended without that, had been deleted. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/lcb_events_int.h"
#include "lib/xerr.h"

/* ---- states ---- */

static void copy(struct buf *to, sqlite3_stmt *st, int col)
{
    const void *p = sqlite3_column_blob(st, col);
    buf_setmap(to, p ? p : "", (size_t)sqlite3_column_bytes(st, col));
}

int event_state(struct eventwalk *w, int64_t folder, int64_t pos)
{
    if (folder == w->state.folder && pos >= w->state.since && pos < w->state.until)
        return 0;
    sqlite3_stmt *st = sqldb_stmt(w->b->index->db,
        "SELECT s.since, s.until, s.mboxname, s.header, f.uniqueid FROM folder_states s JOIN folders f"
        " ON f.id=s.folder WHERE s.folder=? AND s.since<=? ORDER BY s.since DESC LIMIT 1");
    if (!st || sqldb_bind(st, "ii", folder, pos))
        return XERR_SQL;
    int r = sqldb_step(w->b->index->db, st);
    if (r != 1)
        return r ? r : XERR_NOTFOUND;
    w->state.folder = folder;
    w->state.since = sqlite3_column_int64(st, 0);
    w->state.until = sqlite3_column_type(st, 1) == SQLITE_NULL ? INT64_MAX
                                                               : sqlite3_column_int64(st, 1);
    copy(&w->state.name, st, 2);
    copy(&w->state.header, st, 3);
    copy(&w->state.uniqueid, st, 4);
    sqlite3_reset(st);
    return 0;
}

static void begin(struct eventwalk *w, int64_t pos, const char *kind)
{
    event_begin(w, pos, kind, buf_cstring(&w->state.name), buf_cstring(&w->state.uniqueid));
}

static int is_deleted(struct eventwalk *w, struct buf *name)
{
    return mboxname_isdeleted(lcb_store_names(w->b->store), buf_cstring(name));
}

/* ---- annotations ---- */

static const char *part(const struct dlist *item, const char *key)
{
    const char *s = NULL;
    (void)dlist_getatom(item, key, &s);
    return s ? s : "";
}

static int compare_annotations(const void *a, const void *b)
{
    const struct dlist *x = *(struct dlist *const *)a, *y = *(struct dlist *const *)b;
    int r = strcmp(part(x, "ENTRY"), part(y, "ENTRY"));
    return r ? r : strcmp(part(x, "USERID"), part(y, "USERID"));
}

static int same_value(const struct dlist *a, const struct dlist *b)
{
    const struct dlist *x = dlist_getchild(a, "VALUE"), *y = dlist_getchild(b, "VALUE");
    size_t n = x ? x->len : 0;
    return n == (y ? y->len : 0) && (!n || !memcmp(x->sval, y->sval, n));
}

static void add_value(struct eventwalk *w, const char *key, const struct dlist *item)
{
    const struct dlist *value = item ? dlist_getchild(item, "VALUE") : NULL;
    if (item)
        event_text(w, key, value && value->len ? value->sval : "", value ? value->len : 0);
}

int event_annotations(struct eventwalk *w, const struct dlist *before, const struct dlist *after,
                      void (*begin_one)(struct eventwalk *, int64_t pos), int64_t pos)
{
    size_t n, m, i = 0, k = 0;
    struct dlist **was = event_sorted(before, compare_annotations, &n);
    struct dlist **is = event_sorted(after, compare_annotations, &m);
    int r = 0;
    while (!r && (i < n || k < m)) {
        int order = i == n ? 1 : k == m ? -1 : compare_annotations(&was[i], &is[k]);
        const struct dlist *a = order <= 0 ? was[i++] : NULL, *b = order >= 0 ? is[k++] : NULL;
        if (a && b && same_value(a, b))
            continue;
        begin_one(w, pos);
        event_text(w, "entry", part(a ? a : b, "ENTRY"), strlen(part(a ? a : b, "ENTRY")));
        event_text(w, "user", part(a ? a : b, "USERID"), strlen(part(a ? a : b, "USERID")));
        add_value(w, "was", a);
        add_value(w, "is", b);
        r = event_send(w);
    }
    free(was);
    free(is);
    return r;
}

static void begin_annotated(struct eventwalk *w, int64_t pos)
{
    begin(w, pos, "mailbox-annotated");
}

/* ---- headers ---- */

/* Keys that tell of the mail in a mailbox, or are told of otherwise. */
static int is_silent(const char *key)
{
    static const char *const keys[] = {
        "UNIQUEID", "MBOXNAME", "LAST_UID", "HIGHESTMODSEQ", "RECENTUID", "RECENTTIME",
        "LAST_APPENDDATE", "POP3_LAST_LOGIN", "SYNC_CRC", "SYNC_CRC_ANNOT", "FOLDERMODSEQ",
        "CREATEDMODSEQ", "XCONVMODSEQ", "RACLMODSEQ", "ANNOTATIONS", NULL,
    };
    int i = 0;
    while (keys[i] && strcmp(keys[i], key))
        i++;
    return keys[i] != NULL;
}

static void add_key(struct eventwalk *w, const char *key, const struct dlist *d)
{
    struct buf text = BUF_INITIALIZER;
    if (!d || d->type == DL_NIL)
        return;
    if (d->sval)
        buf_setmap(&text, d->sval, d->len);
    else
        dlist_printval(d, &text, 0);
    event_text(w, key, text.s ? text.s : "", text.len);
    buf_free(&text);
}

static int compare_key(struct eventwalk *w, int64_t pos, const char *key, const struct dlist *was,
                       const struct dlist *is)
{
    begin(w, pos, "mailbox-changed");
    event_text(w, "key", key, strlen(key));
    add_key(w, "was", was);
    unsigned had = w->ev.count;
    add_key(w, "is", is);
    if (had == 2 && w->ev.count == 3 && !buf_cmp(&w->values[1], &w->values[2]))
        return 0;
    return w->ev.count > 1 ? event_send(w) : 0;
}

int event_headers(struct eventwalk *w, int64_t pos)
{
    struct sync_header was = {.tree = NULL}, is = {.tree = NULL};
    dlist_pool_reset(w->pool);
    dlist_pool_reset(w->pool_before);
    int r = sync_header_parsetext(&is, w->pool, w->state.header.s, w->state.header.len);
    if (!r)
        r = sync_header_parsetext(&was, w->pool_before, w->header.s, w->header.len);
    for (const struct dlist *d = r ? NULL : is.tree->head; !r && d; d = d->next)
        if (!is_silent(d->name))
            r = compare_key(w, pos, d->name, dlist_getchild(was.tree, d->name), d);
    for (const struct dlist *d = r ? NULL : was.tree->head; !r && d; d = d->next)
        if (!is_silent(d->name) && !dlist_getchild(is.tree, d->name))
            r = compare_key(w, pos, d->name, d, NULL);
    return r ? r : event_annotations(w, dlist_getchild(was.tree, "ANNOTATIONS"),
                                     dlist_getchild(is.tree, "ANNOTATIONS"), begin_annotated, pos);
}

/* From w->name to w->state.name. */
static int send_renamed(struct eventwalk *w, int64_t pos)
{
    int was_deleted = is_deleted(w, &w->name), deleted = is_deleted(w, &w->state.name);
    if (deleted && !was_deleted) {
        event_begin(w, pos, "mailbox-deleted", buf_cstring(&w->name),
                    buf_cstring(&w->state.uniqueid));
        event_text(w, "to", w->state.name.s, w->state.name.len);
        return event_send(w);
    }
    begin(w, pos, was_deleted && !deleted ? "mailbox-restored" : "mailbox-renamed");
    event_text(w, "from", w->name.s, w->name.len);
    return event_send(w);
}

/* ---- renamed in two pieces ---- */

/* Did all mailboxes end with the one of w->state, because the user was removed? */
static int ended_with_user(struct eventwalk *w)
{
    int64_t n, pos = w->state.until;
    int r = sqldb_int(w->b->index->db, &n,
                      "SELECT count(*) FROM folders f CROSS JOIN folder_states s WHERE s.folder=f.id"
                      " AND s.since=(SELECT max(since) FROM folder_states WHERE folder=f.id AND"
                      " since<?1) AND s.until=?1 AND NOT EXISTS (SELECT 1 FROM folder_states n WHERE"
                      " n.folder=f.id AND n.since=?1)", "i", pos);
    return r ? r : event_user_removed(w, pos, n);
}

/* Has another mailbox begun to be called as that of w->state was, between its end and POS? */
static int was_taken(struct eventwalk *w, int64_t pos)
{
    int64_t one;
    int r = sqldb_int(w->b->index->db, &one,
                      "SELECT 1 FROM folders f CROSS JOIN folder_states s WHERE s.folder=f.id AND"
                      " f.id<>? AND s.since BETWEEN ? AND ? AND s.mboxname=? LIMIT 1", "iiit",
                      w->state.folder, w->state.until, pos, buf_cstring(&w->state.name));
    return r ? (r == XERR_NOTFOUND ? 0 : r) : 1;
}

/* The state at hand ended without another. Is that but one half of a rename? 1, 0, or an error. */
static int ended_renamed(struct eventwalk *w)
{
    int64_t pos;
    int r = sqldb_int(w->b->index->db, &pos,
                      "SELECT n.since FROM folder_states n WHERE n.folder=?1 AND n.mboxname<>?3 AND"
                      " n.since=(SELECT min(since) FROM folder_states WHERE folder=?1 AND since>=?2)",
                      "iit", w->state.folder, w->state.until, buf_cstring(&w->state.name));
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    if (lcb_index_time(w->b->index, pos) - lcb_index_time(w->b->index, w->state.until) > LCB_EVENT_MOVE)
        return 0;
    r = was_taken(w, pos);
    if (r <= 0)
        return r;
    r = ended_with_user(w);
    return r < 0 ? r : !r;
}

/* ---- states that begin ---- */

static int state_row(struct eventwalk *w, sqlite3_stmt *st)
{
    int64_t pos = sqlite3_column_int64(st, 0), folder = sqlite3_column_int64(st, 1);
    int r = event_state(w, folder, pos - 1);
    int before = !r, gone = before && w->state.until < pos;
    if (r && r != XERR_NOTFOUND)
        return r;
    int renamed = gone ? ended_renamed(w) : 0;
    if (renamed < 0)
        return renamed;
    gone = gone && !renamed;
    if (before) {
        buf_setmap(&w->name, w->state.name.s, w->state.name.len);
        buf_setmap(&w->header, w->state.header.s, w->state.header.len);
    }
    r = event_state(w, folder, pos);
    if (r)
        return r == XERR_NOTFOUND ? XERR_FORMAT : r;
    if (!before || gone) {
        begin(w, pos, "mailbox-created");
        if (gone)
            event_number(w, "again", 1);
        return event_send(w);
    }
    if (buf_cmp(&w->name, &w->state.name))
        r = send_renamed(w, pos);
    return r || is_deleted(w, &w->state.name) ? r : event_headers(w, pos);
}

const struct eventsource lcb_event_states = {
    "SELECT s.since, s.folder FROM folders f CROSS JOIN folder_states s WHERE s.folder=f.id"
    " AND s.since BETWEEN ?1 AND ?2 AND (?3=0 OR f.id=?3) ORDER BY 1, 2",
    0, state_row, SCOPE_ALL | SCOPE_FOLDER};

/* ---- ends ---- */

static int end_row(struct eventwalk *w, sqlite3_stmt *st)
{
    int64_t pos = sqlite3_column_int64(st, 0);
    int r = 0;
    if (!w->q->folder && pos != w->removed) {
        r = event_user_removed(w, pos, sqlite3_column_int64(st, 2));
        if (r == 1) {
            event_begin(w, w->removed = pos, "user-removed", lcb_userid(w->b), NULL);
            r = event_send(w);
        }
    }
    if (!r)
        r = event_state(w, sqlite3_column_int64(st, 1), pos - 1);
    if (r)
        return r == XERR_NOTFOUND ? XERR_FORMAT : r;
    r = ended_renamed(w);
    if (r)
        return r < 0 ? r : 0;
    begin(w, pos, is_deleted(w, &w->state.name) ? "mailbox-purged" : "mailbox-deleted");
    return event_send(w);
}

/* A state that ends in the range began in it, or is the last before it. */
const struct eventsource lcb_event_ends = {
    "SELECT s.until, s.folder, count(*) OVER (PARTITION BY s.until) FROM folders f"
    " CROSS JOIN folder_states s WHERE s.folder=f.id AND (?3=0 OR f.id=?3) AND s.since>=coalesce("
    "(SELECT max(since) FROM folder_states WHERE folder=f.id AND since<?1), ?1)"
    " AND s.until BETWEEN ?1 AND ?2 AND NOT EXISTS (SELECT 1 FROM folder_states n"
    " WHERE n.folder=s.folder AND n.since=s.until) ORDER BY 1, 2",
    0, end_row, SCOPE_ALL | SCOPE_FOLDER};
