/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_index - the SQLite database beside a data file.
 *
 * The index is derived: whatever is in it can be computed again from the data file, and it is, as
 * soon as there is doubt. That allows what a database of record could not do. It runs in WAL mode
 * with synchronous=NORMAL, so a commit writes once and syncs nothing: the data file was synced just
 * before. After a power failure SQLite goes back to some earlier commit, the mark (below) says
 * which, and the chunks behind it are applied again. The WAL is kept when the last connection
 * closes, without a checkpoint, because a backup server opens, commits and closes all the time; it
 * is folded in when it has grown to backup_index_checkpoint.
 *
 * The mark. In the same transaction as the rows, meta records how far into the data file they
 * speak: backup id, offset and number of the last member, offset behind it, time of the last line.
 * At opening these are held against the file (lcb_recover.c).
 *
 * Rows are versioned by position (lcb_index.sql). An update closes the row that held and adds one.
 *
 * user_version is 3 because the tools of Cyrus 3.x then use a file as it is, and so fail at the
 * first table they miss; at any other number they would write to it. Whose file it is says
 * application_id, and which of our versions meta says. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "backup/lcb_index_sql.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define APPLICATION_ID 0x43794261 /* "CyBa" */
#define INDEX_VERSION 2
#define BUSY_MS 20000
#define CACHE_KIB 2048

static int set_pragmas(struct lcb_index *ix, int64_t checkpoint)
{
    int one = 1;
    char sql[256];
    snprintf(sql, sizeof(sql),
             "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-%d;"
             "PRAGMA temp_store=FILE; PRAGMA wal_autocheckpoint=%lld",
             CACHE_KIB, (long long)(checkpoint / 4096 > 0 ? checkpoint / 4096 : 1));
    sqlite3_db_config(ix->db->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(ix->db->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_file_control(ix->db->db, "main", SQLITE_FCNTL_PERSIST_WAL, &one);
    return sqldb_exec(ix->db, ix->readonly ? "PRAGMA query_only=1" : sql);
}

/* 1 ours and current, 0 an empty file, XERR_FORMAT not ours, XERR_VERSION another version. */
static int examine(struct sqldb *db)
{
    int64_t id = 0, tables = 0, version = 0;
    if (sqldb_int(db, &id, "PRAGMA application_id", "") < 0 ||
        sqldb_int(db, &tables, "SELECT count(*) FROM sqlite_master", "") < 0)
        return XERR_FORMAT;
    if (!tables && !id)
        return 0;
    if (id != APPLICATION_ID ||
        sqldb_int(db, &version, "SELECT value FROM meta WHERE key='version'", "") < 0)
        return XERR_FORMAT;
    return version == INDEX_VERSION ? 1 : XERR_VERSION;
}

static int create_schema(struct sqldb *db)
{
    char sql[160];
    snprintf(sql, sizeof(sql),
             "PRAGMA application_id=%d; PRAGMA user_version=3;"
             "INSERT INTO meta VALUES ('version', %d)", APPLICATION_ID, INDEX_VERSION);
    int r = sqldb_exec(db, "BEGIN IMMEDIATE");
    if (!r)
        r = sqldb_exec(db, lcb_index_schema);
    if (!r)
        r = sqldb_exec(db, sql);
    if (!r)
        r = sqldb_exec(db, "COMMIT");
    return r;
}

int lcb_index_open(const char *path, int create, int readonly, int64_t checkpoint, size_t max_dlist,
                   struct lcb_index **ixp)
{
    struct lcb_index *ix = xzmalloc(sizeof(*ix));
    ix->readonly = readonly;
    ix->last_tick = -1;
    int r = sqldb_open(path, create ? SQLDB_CREATE : 0, BUSY_MS, &ix->db);
    if (!r)
        r = examine(ix->db);
    if (!r && !create)
        r = XERR_FORMAT;
    int empty = !r;
    /* Not before it is known to be ours: WAL mode stays in the file. */
    if (r >= 0)
        r = set_pragmas(ix, checkpoint) ? XERR_FORMAT : 0;
    if (!r && empty)
        r = create_schema(ix->db);
    if (r) {
        if (r == XERR_FORMAT && ix->db && sqldb_outside(ix->db))
            r = XERR_SQL;
        lcb_index_close(&ix);
        return r;
    }
    ix->pool = dlist_pool_new(max_dlist);
    *ixp = ix;
    return 0;
}

void lcb_index_close(struct lcb_index **ixp)
{
    struct lcb_index *ix = *ixp;
    if (!ix)
        return;
    lcb_index_rollback(ix);
    sqldb_close(&ix->db);
    dlist_pool_free(&ix->pool);
    sync_record_fini(&ix->old);
    buf_free(&ix->header);
    free(ix);
    *ixp = NULL;
}

void lcb_index_findtick(struct lcb_index *ix)
{
    ix->last_tick = -1;
    (void)sqldb_int(ix->db, &ix->last_tick, "SELECT time FROM ticks ORDER BY pos DESC LIMIT 1", "");
}

int lcb_index_begin(struct lcb_index *ix)
{
    if (ix->transaction)
        return 0;
    int r = sqldb_exec(ix->db, "BEGIN IMMEDIATE");
    if (r)
        return r;
    ix->transaction = 1;
    lcb_index_findtick(ix);
    return 0;
}

int lcb_index_commit(struct lcb_index *ix)
{
    if (!ix->transaction)
        return 0;
    int r = sqldb_exec(ix->db, "COMMIT");
    if (!r)
        ix->transaction = 0;
    return r;
}

int lcb_index_rollback(struct lcb_index *ix)
{
    if (!ix->transaction)
        return 0;
    ix->transaction = 0;
    /* Some errors end the transaction by themselves. */
    return sqlite3_get_autocommit(ix->db->db) ? 0 : sqldb_exec(ix->db, "ROLLBACK");
}

/* In one statement, so that a reader sees one commit and not the halves of two. */
int lcb_index_getpoint(struct lcb_index *ix, struct lcb_mark_point *p)
{
    sqlite3_stmt *st = sqldb_stmt(ix->db,
        "SELECT max(value) FILTER (WHERE key='backup_id'), max(value) FILTER (WHERE key='end'),"
        " max(value) FILTER (WHERE key='last_offset'), max(value) FILTER (WHERE key='seq'),"
        " max(value) FILTER (WHERE key='last_time'), max(value) FILTER (WHERE key='check_end'),"
        " max(value) FILTER (WHERE key='unfinished')"
        " FROM meta");
    if (!st || sqldb_step(ix->db, st) != 1)
        return XERR_SQL;
    p->id = (uint64_t)sqlite3_column_int64(st, 0);
    p->end = sqlite3_column_int64(st, 1);
    p->last_offset = sqlite3_column_type(st, 2) == SQLITE_NULL ? -1 : sqlite3_column_int64(st, 2);
    p->seq = sqlite3_column_int64(st, 3);
    p->last_time = sqlite3_column_int64(st, 4);
    p->check = sqlite3_column_int64(st, 5);
    p->unfinished = sqlite3_column_int(st, 6);
    sqlite3_reset(st);
    return 0;
}

static int set_meta(struct lcb_index *ix, const char *key, int64_t value)
{
    return sqldb_run(ix->db, "INSERT OR REPLACE INTO meta VALUES (?,?)", "ti", key, value);
}

int lcb_index_setpoint(struct lcb_index *ix, const struct lcb_mark_point *p)
{
    int r = set_meta(ix, "backup_id", (int64_t)p->id);
    if (!r)
        r = set_meta(ix, "end", p->end);
    if (!r)
        r = set_meta(ix, "last_offset", p->last_offset);
    if (!r)
        r = set_meta(ix, "seq", p->seq);
    if (!r)
        r = set_meta(ix, "last_time", p->last_time);
    if (!r)
        r = set_meta(ix, "check_end", p->check);
    if (!r)
        r = set_meta(ix, "unfinished", p->unfinished);
    return r;
}

int lcb_index_clear(struct lcb_index *ix)
{
    ix->last_tick = -1;
    return sqldb_exec(ix->db,
                      "DELETE FROM meta WHERE key<>'version'; DELETE FROM chunks;"
                      "DELETE FROM pieces;"
                      "DELETE FROM ticks; DELETE FROM contents; DELETE FROM folders;"
                      "DELETE FROM folder_states; DELETE FROM records; DELETE FROM subs;"
                      "DELETE FROM seens; DELETE FROM scripts; DELETE FROM active;"
                      "DELETE FROM quotas; DELETE FROM annots");
}

int lcb_index_addchunk(struct lcb_index *ix, const struct lcb_chunk *c)
{
    return sqldb_run(ix->db, "INSERT INTO chunks VALUES (?,?,?,?,?,?)", "iiiiii", c->seq,
                     (int64_t)c->offset, (int64_t)c->length, (int64_t)c->text_length,
                     c->first_time, c->last_time);
}

int64_t lcb_index_time(struct lcb_index *ix, int64_t pos)
{
    int64_t time = 0;
    (void)sqldb_int(ix->db, &time,
                    "SELECT time FROM ticks WHERE pos<=? ORDER BY pos DESC LIMIT 1", "i", pos);
    return time;
}
