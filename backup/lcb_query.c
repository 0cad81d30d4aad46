/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_query - what a backup says of mailboxes and of all that is not mail.
 *
 * One set of queries serves the present and the past: a row belongs to the state at a position if
 * since <= position < until. For the present the condition is "until IS NULL", which the partial
 * indexes answer, so its cost does not depend on how much history there is. Both forms take the
 * position as a parameter; in the present form it is only there (and true). */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define NOW_OR_AT(at, head, tail) \
    ((at) == LCB_NOW ? head " until IS NULL AND ?1" tail \
                     : head " since<=?1 AND (until IS NULL OR until>?1)" tail)

/* A statement of their own for walks, so that FN may run any other query. */
static sqlite3_stmt *walk(struct lcb *b, const char *sql)
{
    return sqldb_take(b->index->db, sql);
}

/* 1 for a row, 0 at the end; ends the statement then. */
static int next_row(struct lcb *b, sqlite3_stmt *st)
{
    int r = sqlite3_step(st);
    if (r == SQLITE_ROW)
        return 1;
    return r == SQLITE_DONE ? 0 : sqldb_failed(b->index->db, "reading");
}

/* Of integers eight bytes that sort as they do. */
static void order_key(sqlite3_stmt *st, int col, int type, struct buf *key)
{
    if (type != SQLITE_INTEGER) {
        const void *p = sqlite3_column_blob(st, col);
        buf_setmap(key, p, (size_t)sqlite3_column_bytes(st, col));
        return;
    }
    uint64_t n = (uint64_t)sqlite3_column_int64(st, col) ^ (uint64_t)1 << 63;
    char *bytes = buf_ensure(key, 8);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(n >> (56 - 8 * i));
    key->len = 8;
}

int lcb_next_row(struct lcb *b, sqlite3_stmt *st, int col, struct lcb_order *o)
{
    int r = next_row(b, st);
    if (r <= 0)
        return r;
    int type = sqlite3_column_type(st, col);
    struct buf last = o->last;
    o->last = o->now;
    o->now = last;
    buf_reset(&o->now);
    order_key(st, col, type, &o->now);
    if (o->type && (type != o->type || buf_cmp(&o->now, &o->last) <= 0))
        return sqldb_setdamaged(b->index->db, "rows out of order");
    o->type = type;
    return 1;
}

void lcb_order_fini(struct lcb_order *o)
{
    buf_free(&o->last);
    buf_free(&o->now);
}

static const char *text(sqlite3_stmt *st, int col)
{
    const char *s = (const char *)sqlite3_column_text(st, col);
    return s ? s : "";
}

int lcb_snapshot(struct lcb *b)
{
    int64_t one;
    if (b->writable || b->index->transaction)
        return 0;
    int r = sqldb_exec(b->index->db, "BEGIN");
    if (r)
        return r;
    b->index->transaction = 1;
    return sqldb_int(b->index->db, &one, "SELECT count(*) FROM meta", "");
}

#define FOLDER_COLUMNS "f.id, f.uniqueid, s.mboxname, s.header, s.last_uid, s.highestmodseq," \
                       " s.uidvalidity, s.sync_crc, f.crc, f.mark, s.since, s.until"
#define FOLDER_JOIN " FROM folder_states s JOIN folders f ON f.id=s.folder"
/* The state of each mailbox that began last at ?1 or before, found by one step into the table, however
 * many states there are; and the condition that it held still. */
#define FOLDER_LATEST " FROM folders f CROSS JOIN folder_states s WHERE s.folder=f.id AND s.since=" \
                      "(SELECT max(since) FROM folder_states WHERE folder=f.id AND since<=?1)"
#define FOLDER_HELD " AND (s.until IS NULL OR s.until>?1)"

static void folder_row(struct lcb *b, sqlite3_stmt *st, int64_t at, struct lcb_folder *f)
{
    f->id = sqlite3_column_int64(st, 0);
    f->uniqueid = text(st, 1);
    f->mboxname = text(st, 2);
    f->header = sqlite3_column_blob(st, 3);
    f->headerlen = (size_t)sqlite3_column_bytes(st, 3);
    f->last_uid = (uint32_t)sqlite3_column_int64(st, 4);
    f->highestmodseq = (uint64_t)sqlite3_column_int64(st, 5);
    f->uidvalidity = (uint32_t)sqlite3_column_int64(st, 6);
    f->has_sync_crc = sqlite3_column_type(st, 7) != SQLITE_NULL;
    f->sync_crc = (uint32_t)sqlite3_column_int64(st, 7);
    f->crc = at == LCB_NOW ? (uint32_t)sqlite3_column_int64(st, 8) : 0;
    f->mark = at == LCB_NOW ? (enum lcb_mark)sqlite3_column_int(st, 9) : LCB_MARK_NONE;
    f->since = sqlite3_column_int64(st, 10);
    f->deleted = sqlite3_column_type(st, 11) == SQLITE_NULL || sqlite3_column_int64(st, 11) > at
                     ? 0 : lcb_index_time(b->index, sqlite3_column_int64(st, 11));
}

/* Copy the strings of F, which die with the statement, to BUF. */
static void keep_strings(struct lcb_folder *f, struct buf *strings)
{
    size_t name, header;
    buf_setmap(strings, f->uniqueid, strlen(f->uniqueid) + 1);
    name = strings->len;
    buf_appendmap(strings, f->mboxname, strlen(f->mboxname) + 1);
    header = strings->len;
    buf_appendmap(strings, f->header, f->headerlen);
    f->uniqueid = buf_cstring(strings);
    f->mboxname = f->uniqueid + name;
    f->header = f->uniqueid + header;
}

static int find_one(struct lcb *b, const char *sql, int64_t at, const char *key,
                    struct lcb_folder *f, struct buf *strings)
{
    if (b->index->no_folders)
        return XERR_NOTFOUND;
    sqlite3_stmt *st = sqldb_stmt(b->index->db, sql);
    if (!st || sqldb_bind(st, "it", at, key))
        return XERR_SQL;
    int r = sqldb_step(b->index->db, st);
    if (r != 1)
        return r ? r : XERR_NOTFOUND;
    folder_row(b, st, at, f);
    keep_strings(f, strings);
    sqlite3_reset(st);
    return 0;
}

int lcb_find_uniqueid(struct lcb *b, const char *uniqueid, struct lcb_folder *f,
                      struct buf *strings)
{
    return find_one(b, "SELECT " FOLDER_COLUMNS FOLDER_JOIN
                       " WHERE f.uniqueid=?2 AND s.until IS NULL AND ?1", LCB_NOW, uniqueid, f,
                    strings);
}

int lcb_find_name(struct lcb *b, const char *mboxname, struct lcb_folder *f, struct buf *strings)
{
    return find_one(b, "SELECT " FOLDER_COLUMNS FOLDER_JOIN
                       " WHERE s.mboxname=?2 AND s.until IS NULL AND ?1", LCB_NOW, mboxname, f,
                    strings);
}

int lcb_find_last(struct lcb *b, const char *uniqueid, struct lcb_folder *f, struct buf *strings)
{
    return find_one(b, "SELECT " FOLDER_COLUMNS FOLDER_LATEST " AND f.uniqueid=?2", LCB_NOW,
                    uniqueid, f, strings);
}

int lcb_find_uniqueid_at(struct lcb *b, int64_t at, const char *uniqueid, struct lcb_folder *f,
                         struct buf *strings)
{
    if (at == LCB_NOW)
        return lcb_find_uniqueid(b, uniqueid, f, strings);
    return find_one(b, "SELECT " FOLDER_COLUMNS FOLDER_LATEST FOLDER_HELD " AND f.uniqueid=?2", at,
                    uniqueid, f, strings);
}

int lcb_find_name_at(struct lcb *b, int64_t at, const char *mboxname, struct lcb_folder *f,
                     struct buf *strings)
{
    if (at == LCB_NOW)
        return lcb_find_name(b, mboxname, f, strings);
    return find_one(b, "SELECT " FOLDER_COLUMNS FOLDER_LATEST FOLDER_HELD " AND s.mboxname=?2", at,
                    mboxname, f, strings);
}

int lcb_find_former(struct lcb *b, int64_t at, const char *mboxname, struct lcb_folder *f,
                    struct buf *strings)
{
    return find_one(b, "SELECT " FOLDER_COLUMNS FOLDER_JOIN
                       " WHERE s.mboxname=?2 AND s.since<=?1 ORDER BY s.since DESC LIMIT 1", at,
                    mboxname, f, strings);
}

int lcb_report_replaced(struct lcb *b, const char *mboxname, const char *was, const char *is)
{
    const int64_t normal = 2; /* a mailbox may be deleted and made again between two syncs */
    int64_t times = 0;
    int r = sqldb_int(b->index->db, &times, "SELECT times FROM replaced WHERE mboxname=?", "t",
                      mboxname);
    if (r || times <= normal)
        return r == XERR_NOTFOUND ? 0 : r;
    xlog_errorx("%s: the mailbox of this name was %s and is %s now, the %lldth such change without a"
                " word from the client: do two servers replicate to here?", mboxname, was, is,
                (long long)times);
    return 1;
}

int64_t lcb_position(const struct lcb *b)
{
    return LCB_POS(b->df.seq, b->df.lines + 1);
}

int64_t lcb_time(struct lcb *b, int64_t pos)
{
    return lcb_index_time(b->index, pos);
}

/* States follow each other, so the last one tells. */
int lcb_changed_since(struct lcb *b, const char *uniqueid, int64_t position)
{
    static const char sql[] =
        "SELECT s.since>=?2 OR coalesce(s.until,0)>=?2 FROM folder_states s"
        " JOIN folders f ON f.id=s.folder WHERE f.uniqueid=?1 ORDER BY s.since DESC LIMIT 1";
    int64_t changed = 0;
    int r = sqldb_int(b->index->db, &changed, sql, "ti", uniqueid, position);
    return r == XERR_NOTFOUND ? 0 : r ? r : changed != 0;
}

int lcb_foreach_folder(struct lcb *b, int64_t at, int deleted,
                       int (*fn)(void *rock, const struct lcb_folder *), void *rock)
{
    /* A mailbox that is gone appears with its last state. */
    static const char all[] = "SELECT " FOLDER_COLUMNS FOLDER_LATEST " ORDER BY s.mboxname, f.id",
        held[] = "SELECT " FOLDER_COLUMNS FOLDER_LATEST FOLDER_HELD " ORDER BY s.mboxname, f.id",
        now[] = "SELECT " FOLDER_COLUMNS FOLDER_JOIN " WHERE s.until IS NULL AND ?1"
                " ORDER BY s.mboxname";
    sqlite3_stmt *st = walk(b, deleted ? all : at == LCB_NOW ? now : held);
    int r = st && !sqldb_bind(st, "i", at) ? 0 : XERR_SQL;
    struct lcb_order order = {.type = 0};
    int sorted = deleted || at != LCB_NOW; /* by SQLite, before the first row */
    int more = 0;
    while (!r && (more = sorted ? next_row(b, st) : lcb_next_row(b, st, 2, &order)) > 0) {
        struct lcb_folder f;
        folder_row(b, st, at, &f);
        r = fn(rock, &f);
    }
    sqldb_give(b->index->db, st);
    lcb_order_fini(&order);
    return r ? r : more;
}

int lcb_foreach_sub(struct lcb *b, int64_t at, int (*fn)(void *rock, const char *mboxname),
                    void *rock)
{
    sqlite3_stmt *st = walk(b, NOW_OR_AT(at, "SELECT mboxname FROM subs WHERE",
                                         " ORDER BY mboxname"));
    int r = st && !sqldb_bind(st, "i", at) ? 0 : XERR_SQL;
    struct lcb_order order = {.type = 0};
    int more = 0;
    while (!r && (more = lcb_next_row(b, st, 0, &order)) > 0)
        r = fn(rock, text(st, 0));
    sqldb_give(b->index->db, st);
    lcb_order_fini(&order);
    return r ? r : more;
}

int lcb_foreach_seen(struct lcb *b, int64_t at, int (*fn)(void *rock, const struct lcb_seen *),
                     void *rock)
{
    sqlite3_stmt *st = walk(b, NOW_OR_AT(at, "SELECT uniqueid, lastread, lastuid, lastchange,"
                                             " seenuids FROM seens WHERE", " ORDER BY uniqueid"));
    int r = st && !sqldb_bind(st, "i", at) ? 0 : XERR_SQL;
    struct lcb_order order = {.type = 0};
    int more = 0;
    while (!r && (more = lcb_next_row(b, st, 0, &order)) > 0) {
        struct lcb_seen s = {
            .uniqueid = text(st, 0),
            .lastread = sqlite3_column_int64(st, 1),
            .lastuid = (uint32_t)sqlite3_column_int64(st, 2),
            .lastchange = sqlite3_column_int64(st, 3),
            .seenuids = text(st, 4),
        };
        r = fn(rock, &s);
    }
    sqldb_give(b->index->db, st);
    lcb_order_fini(&order);
    return r ? r : more;
}

/* The name of the active script at AT ("main.bc" for "main.script"), or "". */
static void active_script(struct lcb *b, int64_t at, struct buf *name)
{
    sqlite3_stmt *st = walk(b, NOW_OR_AT(at, "SELECT filename FROM active WHERE", ""));
    buf_reset(name);
    if (st && !sqldb_bind(st, "i", at) && next_row(b, st) > 0)
        buf_setcstr(name, text(st, 0));
    sqldb_give(b->index->db, st);
}

/* Do "main.script" and "main.bc" mean the same script? */
static int same_script(const char *script, const char *bytecode)
{
    const char *s = strrchr(script, '.'), *c = strrchr(bytecode, '.');
    return s && c && s - script == c - bytecode &&
           !memcmp(script, bytecode, (size_t)(s - script));
}

int lcb_foreach_script(struct lcb *b, int64_t at, int (*fn)(void *rock, const struct lcb_script *),
                       void *rock)
{
    struct buf active = BUF_INITIALIZER;
    active_script(b, at, &active);
    sqlite3_stmt *st = walk(b, NOW_OR_AT(at, "SELECT filename, last_update, guid, content"
                                             " FROM scripts WHERE", " ORDER BY filename"));
    int r = st && !sqldb_bind(st, "i", at) ? 0 : XERR_SQL;
    struct lcb_order order = {.type = 0};
    int more = 0;
    while (!r && (more = lcb_next_row(b, st, 0, &order)) > 0) {
        struct lcb_script s = {.filename = text(st, 0), .last_update = sqlite3_column_int64(st, 1)};
        if (sqlite3_column_bytes(st, 2) == SHA1_LEN)
            memcpy(s.sha1, sqlite3_column_blob(st, 2), SHA1_LEN);
        s.content = sqlite3_column_blob(st, 3);
        s.len = (size_t)sqlite3_column_bytes(st, 3);
        s.active = same_script(s.filename, buf_cstring(&active));
        r = fn(rock, &s);
    }
    sqldb_give(b->index->db, st);
    lcb_order_fini(&order);
    buf_free(&active);
    return r ? r : more;
}

int lcb_foreach_quota(struct lcb *b, int64_t at,
                      int (*fn)(void *rock, const char *root, const char *text, size_t len),
                      void *rock)
{
    sqlite3_stmt *st = walk(b, NOW_OR_AT(at, "SELECT root, limits FROM quotas WHERE",
                                         " ORDER BY root"));
    int r = st && !sqldb_bind(st, "i", at) ? 0 : XERR_SQL;
    struct lcb_order order = {.type = 0};
    int more = 0;
    while (!r && (more = lcb_next_row(b, st, 0, &order)) > 0) {
        const char *limits = sqlite3_column_blob(st, 1);
        r = fn(rock, text(st, 0), limits ? limits : "", (size_t)sqlite3_column_bytes(st, 1));
    }
    sqldb_give(b->index->db, st);
    lcb_order_fini(&order);
    return r ? r : more;
}

int lcb_foreach_annotation(struct lcb *b, int64_t at,
                           int (*fn)(void *rock, const char *entry, const char *userid,
                                     const char *value, size_t len),
                           void *rock)
{
    /* All of them are the server's (mboxname is ''). In the order of the table nothing has to be
     * sorted, which would take each value into memory three times more. */
    sqlite3_stmt *st = walk(b, NOW_OR_AT(at, "SELECT entry, userid, value FROM annots WHERE",
                                         " ORDER BY mboxname, entry, userid"));
    int r = st && !sqldb_bind(st, "i", at) ? 0 : XERR_SQL;
    int more = 0;
    while (!r && (more = next_row(b, st)) > 0) {
        const char *value = sqlite3_column_blob(st, 2);
        r = fn(rock, text(st, 0), text(st, 1), value ? value : "",
               (size_t)sqlite3_column_bytes(st, 2));
    }
    sqldb_give(b->index->db, st);
    return r ? r : more;
}

int lcb_foreach_chunk(struct lcb *b, int (*fn)(void *rock, const struct lcb_chunk *), void *rock)
{
    sqlite3_stmt *st = walk(b, "SELECT seq, start, length, text_length, first_time, last_time"
                               " FROM chunks ORDER BY seq");
    int r = st ? 0 : XERR_SQL;
    struct lcb_order order = {.type = 0};
    int more = 0;
    while (!r && (more = lcb_next_row(b, st, 0, &order)) > 0) {
        struct lcb_chunk c = {
            .seq = sqlite3_column_int64(st, 0),
            .offset = (uint64_t)sqlite3_column_int64(st, 1),
            .length = (uint64_t)sqlite3_column_int64(st, 2),
            .text_length = (uint64_t)sqlite3_column_int64(st, 3),
            .first_time = sqlite3_column_int64(st, 4),
            .last_time = sqlite3_column_int64(st, 5),
        };
        r = fn(rock, &c);
    }
    sqldb_give(b->index->db, st);
    lcb_order_fini(&order);
    return r ? r : more;
}
