/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_query_mail - what a backup says of messages: records of mailboxes, and content by GUID. */
#include "config.h"

#include <string.h>

#include "backup/lcb_int.h"
#include "lib/xerr.h"

static void column_buf(sqlite3_stmt *st, int col, struct buf *b)
{
    const void *p = sqlite3_column_blob(st, col);
    buf_setmap(b, p, (size_t)sqlite3_column_bytes(st, col));
}

void lcb_record_row(sqlite3_stmt *st, struct sync_record *rec)
{
    rec->uid = (uint32_t)sqlite3_column_int64(st, 0);
    rec->modseq = (uint64_t)sqlite3_column_int64(st, 1);
    rec->last_updated = sqlite3_column_int64(st, 2);
    rec->internaldate = sqlite3_column_int64(st, 3);
    rec->size = (uint64_t)sqlite3_column_int64(st, 4);
    if (sqlite3_column_bytes(st, 5) == MESSAGE_GUID_LEN)
        memcpy(rec->guid.value, sqlite3_column_blob(st, 5), MESSAGE_GUID_LEN);
    rec->expunged = sqlite3_column_int(st, 6);
    column_buf(st, 7, &rec->flags);
    column_buf(st, 8, &rec->annotations);
    column_buf(st, 9, &rec->extra);
    /* Whether printing needs a literal is visible in the text: only a literal has CRLF in it. */
    rec->literal = memchr(rec->annotations.s ? rec->annotations.s : "", '\n',
                          rec->annotations.len) ||
                   memchr(rec->extra.s ? rec->extra.s : "", '\n', rec->extra.len);
}

#define RECORD_SELECT "SELECT " LCB_RECORD_COLUMNS ", r.since, c.chunk" LCB_RECORD_JOIN

int lcb_foreach_record(struct lcb *b, int64_t folder, int64_t at,
                       int (*fn)(void *rock, const struct lcb_record *), void *rock)
{
    /* The past: what has not changed since comes from one index in order, what has, from another,
     * sorted; SQLite merges the two. So its cost is that of the present, and of what has changed. */
    static const char
        now[] = RECORD_SELECT " WHERE r.folder=?1 AND r.until IS NULL AND ?2 ORDER BY r.uid",
        past[] = RECORD_SELECT " WHERE r.folder=?1 AND r.until IS NULL AND r.since<=?2 UNION ALL "
                 RECORD_SELECT " WHERE r.folder=?1 AND r.until>?2 AND r.since<=?2 ORDER BY 1";
    const char *sql = at == LCB_NOW ? now : past;
    struct lcb_record rec = {.has_content = 0};
    sqlite3_stmt *st = sqldb_take(b->index->db, sql);
    int r = st ? sqldb_bind(st, "ii", folder, at) : XERR_SQL;
    int64_t last = -1;
    struct lcb_order order = {.type = 0};
    int more = 0;
    while (!r && (more = lcb_next_row(b, st, 0, &order)) > 0) {
        int64_t since = sqlite3_column_int64(st, LCB_RECORD_WIDTH);
        lcb_record_row(st, &rec.rec);
        rec.has_content = sqlite3_column_type(st, LCB_RECORD_WIDTH + 1) != SQLITE_NULL;
        if (since != last)
            rec.time = lcb_index_time(b->index, last = since);
        r = fn(rock, &rec);
    }
    sqldb_give(b->index->db, st);
    sync_record_fini(&rec.rec);
    lcb_order_fini(&order);
    return r ? r : more;
}

static int add_crc(void *rock, const struct lcb_record *rec)
{
    *(uint32_t *)rock ^= sync_record_crc(&rec->rec);
    return 0;
}

int lcb_folder_crc(struct lcb *b, int64_t folder, int64_t at, uint32_t *crc)
{
    *crc = 0;
    return lcb_foreach_record(b, folder, at, add_crc, crc);
}

int lcb_find_record(struct lcb *b, int64_t folder, uint32_t uid, struct sync_record *rec)
{
    sqlite3_stmt *st = sqldb_stmt(b->index->db, "SELECT " LCB_RECORD_COLUMNS LCB_RECORD_JOIN
                                  " WHERE r.folder=? AND r.uid=? AND r.until IS NULL");
    if (!st || sqldb_bind(st, "ii", folder, (int64_t)uid))
        return XERR_SQL;
    int r = sqldb_step(b->index->db, st);
    if (r != 1)
        return r ? r : XERR_NOTFOUND;
    lcb_record_row(st, rec);
    sqlite3_reset(st);
    return 0;
}

int lcb_next_live(struct lcb *b, int64_t folder, uint32_t after, uint32_t before, uint32_t *uid)
{
    int64_t found;
    int r = sqldb_int(b->index->db, &found,
                      "SELECT uid FROM records WHERE folder=?1 AND until IS NULL AND uid>?2"
                      " AND uid<?3 AND expunged=0 ORDER BY uid LIMIT 1",
                      "iii", folder, (int64_t)after, before ? (int64_t)before : INT64_MAX);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    *uid = (uint32_t)found;
    return 1;
}

int lcb_has_content(struct lcb *b, const struct message_guid *guid, uint64_t *size)
{
    int64_t n;
    int r = sqldb_int(b->index->db, &n,
                      "SELECT size FROM contents WHERE guid=? AND chunk IS NOT NULL", "b",
                      guid->value, (size_t)MESSAGE_GUID_LEN);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    if (size)
        *size = (uint64_t)n;
    return 1;
}

int lcb_foreach_content(struct lcb *b, int64_t at,
                        int (*fn)(void *rock, const struct message_guid *, uint64_t size),
                        void *rock)
{
    const char *sql = at == LCB_NOW
        ? "SELECT guid, size, id FROM contents c WHERE chunk IS NOT NULL AND ?1"
          " AND EXISTS (SELECT 1 FROM records WHERE content=c.id) ORDER BY id"
        : "SELECT guid, size, id FROM contents c WHERE chunk IS NOT NULL"
          " AND EXISTS (SELECT 1 FROM records WHERE content=c.id AND since<=?1) ORDER BY id";
    sqlite3_stmt *st = sqldb_take(b->index->db, sql);
    int r = st ? sqldb_bind(st, "i", at) : XERR_SQL;
    struct lcb_order order = {.type = 0};
    int more = 0;
    while (!r && (more = lcb_next_row(b, st, 2, &order)) > 0) {
        struct message_guid guid = {{0}};
        if (sqlite3_column_bytes(st, 0) == MESSAGE_GUID_LEN)
            memcpy(guid.value, sqlite3_column_blob(st, 0), MESSAGE_GUID_LEN);
        r = fn(rock, &guid, (uint64_t)sqlite3_column_int64(st, 1));
    }
    sqldb_give(b->index->db, st);
    lcb_order_fini(&order);
    return r ? r : more;
}

int lcb_content_folders(struct lcb *b, const struct message_guid *guid, int64_t at,
                        int (*fn)(void *rock, const char *uniqueid, const char *mboxname),
                        void *rock)
{
    static const char sql[] =
        "SELECT f.id, f.uniqueid, (SELECT mboxname FROM folder_states s WHERE s.folder=f.id AND"
        " since<=?2 ORDER BY since DESC LIMIT 1) FROM folders f WHERE f.id IN (SELECT r.folder FROM"
        " contents c JOIN records r ON r.content=c.id WHERE c.guid=?1 AND r.since<=?2) ORDER BY f.id";
    sqlite3_stmt *st = sqldb_take(b->index->db, sql);
    int r = st ? sqldb_bind(st, "bi", guid->value, (size_t)MESSAGE_GUID_LEN, at) : XERR_SQL;
    struct lcb_order order = {.type = 0};
    int more = 0;
    while (!r && (more = lcb_next_row(b, st, 0, &order)) > 0) {
        const char *id = (const char *)sqlite3_column_text(st, 1);
        const char *name = (const char *)sqlite3_column_text(st, 2);
        r = fn(rock, id ? id : "", name ? name : "");
    }
    sqldb_give(b->index->db, st);
    lcb_order_fini(&order);
    return r ? r : more;
}
