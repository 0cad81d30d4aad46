/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_relog_rest - say again what only unreadable chunks had said, except mailboxes.
 *
 * What holds is said again, and what was ended in a lost chunk is ended again. Seen states are another
 * matter: no line ends one but UNUSER, which ends everything. So where that was lost and a seen state
 * has come back, the user is removed again, and what holds is said again behind that. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/lcb_relog_int.h"
#include "lib/xerr.h"

static void put_key(struct relog *r, const char *key, const void *p, size_t n)
{
    buf_printf(&r->text, "%s%s ", r->text.len > 2 ? " " : "", key);
    dlist_printastring(p, n, &r->text, 0);
}

static void put_text(struct relog *r, const char *key, const char *value)
{
    put_key(r, key, value, strlen(value));
}

static void put_num(struct relog *r, const char *key, int64_t n)
{
    buf_printf(&r->text, "%s%s %lld", r->text.len > 2 ? " " : "", key, (long long)n);
}

static void begin_value(struct relog *r)
{
    buf_setcstr(&r->text, "%(");
    put_text(r, "USERID", buf_cstring(&r->userid));
}

static int end_value(struct relog *r, const char *verb)
{
    buf_putc(&r->text, ')');
    return lcb_relog_line(r, verb);
}

static int log_sub(struct relog *r, sqlite3_stmt *st, int holds)
{
    begin_value(r);
    put_text(r, "MBOXNAME", lcb_relog_column(st, 2));
    return end_value(r, holds ? "SUB" : "UNSUB");
}

static int log_seen(struct relog *r, sqlite3_stmt *st, int holds)
{
    if (!holds)
        return 0; /* only with the user, and then with the next seen state, if there is one */
    begin_value(r);
    put_text(r, "UNIQUEID", lcb_relog_column(st, 2));
    put_num(r, "LASTREAD", sqlite3_column_int64(st, 3));
    put_num(r, "LASTUID", sqlite3_column_int64(st, 4));
    put_num(r, "LASTCHANGE", sqlite3_column_int64(st, 5));
    put_text(r, "SEENUIDS", lcb_relog_column(st, 6));
    return end_value(r, "SEEN");
}

static int log_script(struct relog *r, sqlite3_stmt *st, int holds)
{
    begin_value(r);
    put_text(r, "FILENAME", lcb_relog_column(st, 2));
    if (holds) {
        const void *p = sqlite3_column_blob(st, 4);
        put_num(r, "LAST_UPDATE", sqlite3_column_int64(st, 3));
        put_key(r, "CONTENT", p ? p : "", (size_t)sqlite3_column_bytes(st, 4));
    }
    return end_value(r, holds ? "SIEVE" : "UNSIEVE");
}

static int log_active(struct relog *r, sqlite3_stmt *st, int holds)
{
    begin_value(r);
    if (holds)
        put_text(r, "FILENAME", lcb_relog_column(st, 2));
    return end_value(r, holds ? "ACTIVATE_SIEVE" : "UNACTIVATE_SIEVE");
}

static int log_quota(struct relog *r, sqlite3_stmt *st, int holds)
{
    buf_reset(&r->text);
    if (holds)
        buf_appendmap(&r->text, sqlite3_column_blob(st, 3), (size_t)sqlite3_column_bytes(st, 3));
    else
        dlist_printastring(lcb_relog_column(st, 2), strlen(lcb_relog_column(st, 2)), &r->text, 0);
    return lcb_relog_line(r, holds ? "QUOTA" : "UNQUOTA");
}

static int log_annotation(struct relog *r, sqlite3_stmt *st, int holds)
{
    buf_setcstr(&r->text, "%(");
    put_text(r, "MBOXNAME", lcb_relog_column(st, 2));
    put_text(r, "ENTRY", lcb_relog_column(st, 3));
    put_text(r, "USERID", lcb_relog_column(st, 4));
    if (holds) {
        const void *p = sqlite3_column_blob(st, 5);
        put_key(r, "VALUE", p ? p : "", (size_t)sqlite3_column_bytes(st, 5));
    }
    return end_value(r, holds ? "ANNOTATION" : "UNANNOTATION");
}

/* The last row of each key; keys and values behind since and until. LAST: all rows of the one key that
 * there is, and the column that tells which is the last, as what a line does depends on what holds
 * (UNSIEVE of a script that is not active): so a lost line has to do with all that comes behind it. */
static const struct {
    const char *sql;
    int (*log)(struct relog *, sqlite3_stmt *, int holds);
    int last;
} kinds[] = {
    {"SELECT since, until, mboxname FROM subs t WHERE since=(SELECT max(since) FROM subs WHERE"
     " mboxname=t.mboxname) ORDER BY since", log_sub, 0},
    {"SELECT since, until, uniqueid, lastread, lastuid, lastchange, seenuids FROM seens t WHERE since="
     "(SELECT max(since) FROM seens WHERE uniqueid=t.uniqueid) ORDER BY since", log_seen, 0},
    {"SELECT since, until, filename, last_update, content FROM scripts t WHERE since=(SELECT max(since)"
     " FROM scripts WHERE filename=t.filename) ORDER BY until IS NULL, since", log_script, 0},
    {"SELECT since, until, filename, since=(SELECT max(since) FROM active) FROM active ORDER BY since",
     log_active, 3},
    {"SELECT since, until, root, limits FROM quotas t WHERE since=(SELECT max(since) FROM quotas WHERE"
     " root=t.root) ORDER BY since", log_quota, 0},
    {"SELECT since, until, mboxname, entry, userid, value FROM annots t WHERE since=(SELECT max(since)"
     " FROM annots WHERE mboxname=t.mboxname AND entry=t.entry AND userid=t.userid) ORDER BY since",
     log_annotation, 0},
};

static int walk_kind(struct relog *r, size_t kind)
{
    sqlite3_stmt *st = NULL;
    int more = 0, touched = 0, e = lcb_relog_prepare(r->old->db, kinds[kind].sql, &st);
    while (!e && (more = lcb_relog_next(r->old->db, st)) > 0) {
        int64_t since = sqlite3_column_int64(st, 0), until = sqlite3_column_int64(st, 1);
        int holds = sqlite3_column_type(st, 1) == SQLITE_NULL;
        int lost = lcb_seqs_have(r->lost, holds ? since : until);
        if (kinds[kind].last) {
            touched |= lost || lcb_seqs_have(r->lost, since);
            lost = touched && sqlite3_column_int(st, kinds[kind].last);
        }
        if (lost)
            e = kinds[kind].log(r, st, holds);
    }
    sqlite3_finalize(st);
    return e ? e : more;
}

/* ---- UNUSER ---- */

/* Did a lost chunk end a seen state that holds now? */
static int is_seen_back(struct relog *r)
{
    sqlite3_stmt *st = NULL;
    int64_t one;
    int more = 0, back = 0, e;
    e = lcb_relog_prepare(r->old->db, "SELECT until, uniqueid FROM seens t WHERE until IS NOT NULL AND"
                          " since=(SELECT max(since) FROM seens WHERE uniqueid=t.uniqueid)", &st);
    while (!e && !back && (more = lcb_relog_next(r->old->db, st)) > 0) {
        if (!lcb_seqs_have(r->lost, sqlite3_column_int64(st, 0)))
            continue;
        e = sqldb_int(r->b->index->db, &one, "SELECT 1 FROM seens WHERE uniqueid=? AND until IS NULL",
                      "t", lcb_relog_column(st, 1));
        back = !e;
        e = e == XERR_NOTFOUND ? 0 : e;
    }
    sqlite3_finalize(st);
    return e ? e : more < 0 ? more : back;
}

/* Mailboxes that ended at POS. */
static int restate_mailboxes(struct relog *r, int64_t pos)
{
    sqlite3_stmt *st = NULL;
    struct sqldb *db = r->b->index->db;
    int more = 0, e = lcb_relog_prepare(db, "SELECT header FROM folder_states WHERE until=?", &st);
    if (!e)
        e = sqldb_bind(st, "i", pos);
    while (!e && (more = lcb_relog_next(db, st)) > 0)
        e = lcb_relog_header(r, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
    sqlite3_finalize(st);
    return e ? e : more;
}

static int restate_kind(struct relog *r, size_t kind)
{
    sqlite3_stmt *st = NULL;
    int more = 0, e = lcb_relog_prepare(r->old->db, kinds[kind].sql, &st);
    while (!e && (more = lcb_relog_next(r->old->db, st)) > 0)
        if (sqlite3_column_type(st, 1) == SQLITE_NULL)
            e = kinds[kind].log(r, st, 1);
    sqlite3_finalize(st);
    return e ? e : more;
}

static int unuser(struct relog *r)
{
    int64_t pos = 0;
    buf_reset(&r->text);
    dlist_printastring(buf_cstring(&r->userid), r->userid.len, &r->text, 0);
    int e = lcb_relog_line(r, "UNUSER");
    if (!e)
        e = sqldb_int(r->b->index->db, &pos, "SELECT max(until) FROM seens", "");
    if (!e)
        e = restate_mailboxes(r, pos);
    for (size_t i = 0; !e && i < sizeof(kinds) / sizeof(*kinds); i++)
        e = restate_kind(r, i);
    return e;
}

int lcb_relog_rest(struct relog *r)
{
    int e = 0;
    for (size_t i = 0; !e && i < sizeof(kinds) / sizeof(*kinds); i++)
        e = walk_kind(r, i);
    if (!e && (e = is_seen_back(r)) > 0)
        e = unuser(r);
    return e;
}
