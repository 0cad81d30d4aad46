/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_index - the SQLite database beside a data file.
 *
 * The index is derived: whatever is in it can be computed again from the data file, and it is, as
 * soon as there is doubt. That allows what a database of record could not do. It runs in WAL mode
 * with synchronous=NORMAL, so a commit writes once and syncs nothing: the data file was synced just
 * before. After a power failure SQLite goes back to some earlier commit, the mark (below) says
 * which, and the chunks behind it are applied again.
 *
 * The WAL. A backup server opens, commits and closes all the time. Whoever opens a database first
 * reads its whole WAL, and a WAL that was only copied into the database, not cut, is read again and
 * copied again by the next. So it is folded in and cut in one, by ourselves: when it has grown to
 * backup_index_checkpoint, and at closing when it has grown beyond WAL_REST. Between the two costs,
 * of syncing twice to fold it in at every closing and of reading much at every opening, lies a WAL
 * of some dozen commits.
 *
 * A new index is filled in one transaction with its schema, and with a rollback journal, which for
 * an empty database holds nothing: so each page is written once, and there is no -shm to be made.
 * Most users of a first synchronisation need no more. WAL mode begins with the second transaction,
 * or with the first reader: without a WAL a reader and a commit would wait for each other.
 *
 * Pages are small because what is written is small: a commit changes a few rows in each of a dozen
 * trees.
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

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define READER_BUSY_MS 1000 /* a commit may be on its way; who is longer at it, is at a rebuild */
#define CACHE_KIB 2048
#define WAL_REST (64 << 10)
#define OPEN_TRIES 5
#define VALUE_KEEP (64u << 10)
#define MOVED 1 /* these two are no errors of lcb_index_open */
#define NO_SHM INT_MIN
#define NO_CHECK 1 /* no sum that lcb_check_end() gives */
#define STR(x) #x
#define XSTR(x) STR(x)

/* SQLite tells how many pages are in the WAL, after each commit. */
static int wal_grew(void *rock, sqlite3 *db, const char *name, int pages)
{
    struct lcb_index *ix = rock;
    (void)db;
    (void)name;
    ix->wal_bytes = (int64_t)pages * LCB_INDEX_PAGE;
    return SQLITE_OK;
}

/* Move the WAL's pages into the database and cut it. A reader may be in the way: then again when
 * it has grown by as much. Nothing is lost by failing. */
static void fold(struct lcb_index *ix, int64_t limit)
{
    if (ix->wal_bytes < ix->wal_stuck)
        ix->wal_stuck = 0; /* it began anew */
    if (ix->wal_bytes < limit + ix->wal_stuck)
        return;
    sqlite3_busy_timeout(ix->db->db, 0);
    if (sqlite3_wal_checkpoint_v2(ix->db->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL))
        ix->wal_stuck = ix->wal_bytes;
    else
        ix->wal_bytes = ix->wal_stuck = 0;
    sqlite3_busy_timeout(ix->db->db, LCB_INDEX_BUSY_MS);
}

/* From now on with a WAL. While somebody reads without one, or writes, this cannot be; then perhaps
 * next time. */
static void enter_wal(struct lcb_index *ix)
{
    sqlite3_busy_timeout(ix->db->db, 0);
    ix->wal = sqlite3_exec(ix->db->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_busy_timeout(ix->db->db, ix->readonly ? READER_BUSY_MS : LCB_INDEX_BUSY_MS);
}

/* What keeps a reader out: without a WAL, a writer whose transaction outgrew its cache; with one, that
 * there is no -shm and none can be made. What else is wrong is found out later. */
static int kept_out(struct sqldb *db)
{
    int r = sqlite3_exec(db->db, "SELECT 1 FROM sqlite_master LIMIT 1", NULL, NULL, NULL);
    switch (r & 0xff) {
    case SQLITE_BUSY:
        return XERR_LOCKED;
    case SQLITE_CANTOPEN:
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_READONLY:
        return NO_SHM;
    default:
        return 0;
    }
}

int lcb_index_setup(struct lcb_index *ix)
{
    int one = 1;
    sqlite3_db_config(ix->db->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_file_control(ix->db->db, "main", SQLITE_FCNTL_PERSIST_WAL, &one);
    if (ix->readonly) {
        if (ix->readonly != LCB_INDEX_LOOK)
            enter_wal(ix);
        return sqldb_exec(ix->db, "PRAGMA query_only=1");
    }
    sqlite3_wal_hook(ix->db->db, wal_grew, ix);
    return sqldb_exec(ix->db, "PRAGMA synchronous=NORMAL; PRAGMA cache_size=-" XSTR(CACHE_KIB) ";"
                              "PRAGMA temp_store=FILE");
}

/* 1 ours and current, 0 an empty file, XERR_FORMAT not ours, XERR_VERSION another version, XERR_STALE
 * not settled. */
static int examine(struct sqldb *db)
{
    int64_t id = 0, tables = 0, version = 0;
    if (sqldb_int(db, &id, "PRAGMA application_id", "") < 0)
        return XERR_FORMAT;
    if (!id) {
        if (sqldb_int(db, &tables, "SELECT count(*) FROM sqlite_master", "") < 0)
            return XERR_FORMAT;
        if (!tables)
            return 0;
    }
    if (id == LCB_INDEX_UNSETTLED)
        return XERR_STALE;
    if (id != LCB_INDEX_ID ||
        sqldb_int(db, &version, "SELECT value FROM meta WHERE key='version'", "") < 0)
        return XERR_FORMAT;
    return version == LCB_INDEX_VERSION ? 1 : XERR_VERSION;
}

/* In a transaction that stays open. */
static int create_schema(struct lcb_index *ix)
{
    int r = sqldb_exec(ix->db, "PRAGMA page_size=" XSTR(LCB_INDEX_PAGE) "; BEGIN IMMEDIATE");
    ix->transaction = ix->fresh = !r;
    return r ? r : lcb_index_schema_exec(ix->db, LCB_INDEX_ID);
}

/* SQLite does not write to a file whose header asks for a later SQLite. No such one made ours. */
static int header_forbids_writing(struct sqldb *db, const char *path)
{
    return sqlite3_db_readonly(db->db, "main") == 1 && access(path, W_OK) == 0;
}

static int open_one(const char *path, int create, int readonly, int how, int64_t checkpoint,
                    struct lcb_index **ixp)
{
    struct lcb_index *ix = xzmalloc(sizeof(*ix));
    ix->readonly = readonly;
    ix->checkpoint = checkpoint;
    ix->last_tick = -1;
    int busy_ms = readonly ? READER_BUSY_MS : LCB_INDEX_BUSY_MS;
    int r = sqldb_open(path, create ? SQLDB_CREATE : how, busy_ms, &ix->db);
    /* For a glance each transaction of its own would cost as much as what is asked in it. */
    if (!r && readonly == LCB_INDEX_LOOK)
        r = sqldb_exec(ix->db, "BEGIN");
    if (!r && readonly && (r = kept_out(ix->db)) == NO_SHM && how)
        r = 0; /* that was not it */
    if (!r)
        r = examine(ix->db);
    if (r >= 0 && ix->db && header_forbids_writing(ix->db, path))
        r = XERR_FORMAT;
    if (!r && !create)
        r = XERR_FORMAT;
    int empty = !r;
    /* Not before it is known to be ours: WAL mode stays in the file. */
    if (r >= 0)
        r = lcb_index_setup(ix) ? XERR_FORMAT : 0;
    if (!r && empty)
        r = create_schema(ix);
    if (!r && ix->wal && readonly && !how)
        r = kept_out(ix->db); /* it may be in WAL mode since just now */
    if (readonly && ix->db && lcb_index_moved(ix))
        r = MOVED;
    if (r) {
        if (r == XERR_FORMAT && ix->db && sqldb_outside(ix->db))
            r = XERR_SQL;
        ix->fresh = 0;
        lcb_index_close(&ix);
        return r;
    }
    ix->pool = dlist_pool_new(LCB_STORED_MAX);
    *ixp = ix;
    return 0;
}

int lcb_index_moved(struct lcb_index *ix)
{
    int moved = 0;
    return sqlite3_file_control(ix->db->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved;
}

/* How to do without a -shm. On a read-only file system nobody writes; but what is in a WAL is out of
 * reach then. On a full one, SQLite needs none for somebody who is alone: writers wait for him, readers
 * come again. */
static int without_shm(const char *path)
{
    struct statvfs fs;
    struct stat st;
    char *wal = xasprintf("%s-wal", path);
    int empty = stat(wal, &st) < 0 || !st.st_size;
    free(wal);
    if (statvfs(path, &fs) < 0 || !(fs.f_flag & ST_RDONLY))
        return SQLDB_ALONE;
    return empty ? SQLDB_IMMUTABLE : SQLDB_READONLY;
}

/* An index that is replaced (lcb_reindex.c) between the moment when its file is opened and that when
 * its WAL is, would be read with the WAL of another. That there is no -shm may come of that, too, and
 * must be so twice: who does without one is in the way of writers. */
static int open_reader(const char *path, int readonly, int64_t checkpoint, struct lcb_index **ixp)
{
    int r = MOVED, how = 0, before = 0;
    for (int i = 0; (r == MOVED || r == NO_SHM) && i < OPEN_TRIES; i++) {
        r = open_one(path, 0, readonly, how, checkpoint, ixp);
        how = r == NO_SHM && before == NO_SHM ? without_shm(path) : 0;
        before = r;
    }
    return r == MOVED || r == NO_SHM ? XERR_LOCKED : r == XERR_STALE ? XERR_FORMAT : r;
}

int lcb_index_open(const char *path, int create, int readonly, int64_t checkpoint,
                   struct lcb_index **ixp)
{
    if (readonly)
        return open_reader(path, readonly, checkpoint, ixp);
    int r = open_one(path, create, 0, 0, checkpoint, ixp);
    if (r != XERR_STALE)
        return r;
    if (!create)
        return XERR_FORMAT;
    xlog_info("%s: was not completed: making it again", path);
    lcb_index_remove(path);
    r = open_one(path, create, 0, 0, checkpoint, ixp);
    return r == XERR_STALE ? XERR_SQL : r;
}

void lcb_index_close(struct lcb_index **ixp)
{
    struct lcb_index *ix = *ixp;
    if (!ix)
        return;
    lcb_index_rollback(ix);
    if (ix->fresh)
        lcb_index_commit(ix); /* an empty one is an index, too */
    if (ix->db && !ix->readonly)
        fold(ix, ix->checkpoint < WAL_REST ? ix->checkpoint : WAL_REST);
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
    int r = lcb_index_settle(ix);
    if (r)
        return r;
    if (!ix->wal && !ix->no_wal && !ix->single)
        enter_wal(ix);
    ix->no_wal = 0;
    r = sqldb_run(ix->db, "BEGIN IMMEDIATE", NULL);
    if (r)
        return r;
    ix->transaction = 1;
    ix->changes = sqlite3_total_changes(ix->db->db);
    lcb_index_findtick(ix);
    return 0;
}

/* What compaction remembers of the rows (lcb_compact_idle.c) is not known of others. */
static int forget_idle(struct lcb_index *ix)
{
    if (ix->fresh || sqlite3_total_changes(ix->db->db) == ix->changes)
        return 0;
    return sqldb_run(ix->db, "DELETE FROM meta WHERE key='idle'", NULL);
}

/* A large value leaves as much in each of these. */
static void shrink(struct lcb_index *ix)
{
    if (ix->pool) /* not while it is being opened */
        dlist_pool_reset(ix->pool);
    buf_shrink(&ix->header, VALUE_KEEP);
    buf_shrink(&ix->old.flags, VALUE_KEEP);
    buf_shrink(&ix->old.annotations, VALUE_KEEP);
    buf_shrink(&ix->old.extra, VALUE_KEEP);
}

int lcb_index_commit(struct lcb_index *ix)
{
    if (!ix->transaction)
        return 0;
    int r = forget_idle(ix);
    if (!r)
        r = sqldb_run(ix->db, "COMMIT", NULL);
    if (r)
        return r;
    ix->transaction = ix->fresh = 0;
    shrink(ix);
    (void)lcb_index_settle(ix); /* if it cannot be now, then before the next */
    fold(ix, ix->checkpoint);
    return 0;
}

int lcb_index_rollback(struct lcb_index *ix)
{
    if (!ix->transaction)
        return 0;
    ix->transaction = 0;
    /* Some errors end the transaction by themselves. */
    int r = sqlite3_get_autocommit(ix->db->db) ? 0 : sqldb_exec(ix->db, "ROLLBACK");
    if (r || !ix->fresh)
        return r;
    ix->last_tick = -1;
    return ix->unsettled ? lcb_index_begin_first(ix) : create_schema(ix);
}

/* In one statement, so that a reader sees one commit and not the halves of two. */
int lcb_index_getpoint(struct lcb_index *ix, struct lcb_mark_point *p)
{
    if (ix->fresh && ix->unsettled) {
        *p = (struct lcb_mark_point){.last_offset = -1};
        return 0;
    }
    sqlite3_stmt *st = sqldb_stmt(ix->db,
        "SELECT max(value) FILTER (WHERE key='backup_id'), max(value) FILTER (WHERE key='end'),"
        " max(value) FILTER (WHERE key='last_offset'), max(value) FILTER (WHERE key='seq'),"
        " max(value) FILTER (WHERE key='last_time'), max(value) FILTER (WHERE key='check_end'),"
        " max(value) FILTER (WHERE key='unfinished'),"
        " (SELECT time FROM ticks ORDER BY pos DESC LIMIT 1)"
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
    int64_t last_tick = sqlite3_column_int64(st, 7);
    sqlite3_reset(st);
    /* The time goes into the next line, and stays there: it must stand in two places. A mark that is
     * in doubt fits no file. */
    if (p->last_offset >= 0 && p->last_time != last_tick)
        p->check = NO_CHECK;
    if (p->seq < 0 || p->seq > UINT32_MAX) {
        p->seq = 0;
        p->check = NO_CHECK;
    }
    return 0;
}

int lcb_index_setpoint(struct lcb_index *ix, const struct lcb_mark_point *p)
{
    return sqldb_run(ix->db,
                     "INSERT OR REPLACE INTO meta VALUES ('backup_id',?),('end',?),"
                     "('last_offset',?),('seq',?),('last_time',?),('check_end',?),"
                     "('unfinished',?)",
                     "iiiiiii", (int64_t)p->id, (int64_t)p->end, (int64_t)p->last_offset, p->seq,
                     p->last_time, p->check, (int64_t)p->unfinished);
}

int lcb_index_setnote(struct lcb_index *ix, const char *key, int64_t value)
{
    int before = sqlite3_total_changes(ix->db->db);
    int r = sqldb_run(ix->db, "INSERT OR REPLACE INTO meta VALUES (?,?)", "ti", key, value);
    ix->changes += sqlite3_total_changes(ix->db->db) - before;
    return r;
}

int lcb_index_setforgot(struct lcb_index *ix)
{
    return sqldb_exec(ix->db, "INSERT OR REPLACE INTO meta VALUES ('forgot', random())");
}

int64_t lcb_index_forgot(struct lcb_index *ix)
{
    int64_t n = 0;
    (void)sqldb_int(ix->db, &n, "SELECT value FROM meta WHERE key='forgot'", "");
    return n;
}

int lcb_index_sethistory(struct lcb_index *ix, int64_t pos)
{
    return sqldb_run(ix->db, "INSERT OR REPLACE INTO meta VALUES ('history',?)", "i", pos);
}

int lcb_index_gethistory(struct lcb_index *ix, int64_t *pos)
{
    *pos = 0;
    int r = sqldb_int(ix->db, pos, "SELECT value FROM meta WHERE key='history'", "");
    if (!r && *pos < 0)
        r = XERR_FORMAT;
    return r == XERR_NOTFOUND ? 0 : r;
}

int lcb_index_clear(struct lcb_index *ix)
{
    ix->last_tick = -1;
    return sqldb_exec(ix->db,
                      "DELETE FROM meta WHERE key<>'version'; DELETE FROM chunks; DELETE FROM lost;"
                      "DELETE FROM pieces;"
                      "DELETE FROM ticks; DELETE FROM contents; DELETE FROM folders;"
                      "DELETE FROM folder_states; DELETE FROM records; DELETE FROM subs;"
                      "DELETE FROM seens; DELETE FROM scripts; DELETE FROM active;"
                      "DELETE FROM quotas; DELETE FROM annots; DELETE FROM replaced;"
                      "INSERT INTO meta VALUES ('gaps', 0), ('forgot', random())");
}

int lcb_index_addchunk(struct lcb_index *ix, const struct lcb_chunk *c)
{
    int r = sqldb_run(ix->db, "UPDATE meta SET value=value+1 WHERE key='gaps' AND ?<>coalesce((SELECT"
                              " start+length FROM chunks ORDER BY seq DESC LIMIT 1),0)", "i",
                      (int64_t)c->offset);
    if (r)
        return r;
    return sqldb_run(ix->db, "INSERT INTO chunks VALUES (?,?,?,?,?,?)", "iiiiii", c->seq,
                     (int64_t)c->offset, (int64_t)c->length, (int64_t)c->text_length,
                     c->first_time, c->last_time);
}

int lcb_index_gapless(struct lcb_index *ix)
{
    int64_t gaps = 0;
    return !sqldb_int(ix->db, &gaps, "SELECT value FROM meta WHERE key='gaps'", "") && !gaps;
}

int lcb_index_addlost(struct lcb_index *ix, int64_t pos)
{
    return sqldb_run(ix->db, "INSERT OR IGNORE INTO lost VALUES (?)", "i", pos);
}

int64_t lcb_index_time(struct lcb_index *ix, int64_t pos)
{
    int64_t time = 0;
    (void)sqldb_int(ix->db, &time,
                    "SELECT time FROM ticks WHERE pos<=? ORDER BY pos DESC LIMIT 1", "i", pos);
    return time;
}
