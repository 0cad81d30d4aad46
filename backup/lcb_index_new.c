/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_index_new - the tables, and the index of a new backup.
 *
 * Executing two dozen CREATE statements costs as much as all the rest that is done for a user with
 * twenty messages. So it is done once in a process, in memory; what SQLite makes of it is kept, and
 * each new index begins as a copy of those bytes.
 *
 * Its first transaction then changes a file that is not empty, for which SQLite would keep the pages
 * as they were in a rollback journal: to be created, synced and removed. But these pages are worth
 * nothing, and the index of an empty data file can be thrown away. So its journal is in memory, and
 * a copy begins with another application_id, LCB_INDEX_UNSETTLED, which is changed into ours when
 * the first transaction has been committed and synced. Whoever meets an unsettled index that nobody
 * works on removes it: what it should say is in the data file.
 *
 * In memory is also what savepoints need to be undone: copies of pages that stood when the savepoint
 * was made. So a first transaction that has outgrown OUTGROWN_ROWS is committed before the next
 * savepoint. What follows is still the same first synchronisation as a rule, and writes each page
 * once without a WAL, so it gets none for one more transaction.
 *
 * An index that is made again from a data file is none of this: it is filled from as many chunks as
 * there are, under savepoints. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backup/lcb_index_sql.h"
#include "backup/lcb_int.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define OUTGROWN_ROWS 20000

int lcb_index_schema_exec(struct sqldb *db, int64_t id)
{
    char sql[160];
    snprintf(sql, sizeof(sql),
             "PRAGMA application_id=%lld; PRAGMA user_version=3;"
             "INSERT INTO meta VALUES ('version', %d), ('gaps', 0)", (long long)id, LCB_INDEX_VERSION);
    int r = sqldb_exec(db, lcb_index_schema);
    return r ? r : sqldb_exec(db, sql);
}

static int schema_text(struct sqldb *db, struct buf *out)
{
    sqlite3_stmt *st = sqldb_stmt(db, "SELECT type || ' ' || name || ' ' || tbl_name || ' ' ||"
                                      " coalesce(sql, '') FROM sqlite_master ORDER BY rowid");
    int more = st ? 1 : XERR_SQL;
    while (more > 0 && (more = sqldb_step(db, st)) > 0) {
        buf_appendmap(out, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
        buf_putc(out, '\n');
    }
    return more;
}

/* A schema may be damaged so that it is still one: a column has another name, or is not unique. */
int lcb_index_schema_check(struct lcb_index *ix)
{
    struct buf is = BUF_INITIALIZER, should_be = BUF_INITIALIZER;
    struct sqldb *db = NULL;
    int r = schema_text(ix->db, &is);
    if (!r)
        r = sqldb_open(":memory:", SQLDB_CREATE, 0, &db);
    if (!r)
        r = lcb_index_schema_exec(db, LCB_INDEX_ID);
    if (!r)
        r = schema_text(db, &should_be);
    if (!r && buf_cmp(&is, &should_be))
        r = XERR_FORMAT;
    sqldb_close(&db);
    buf_free(&is);
    buf_free(&should_be);
    return r;
}

/* The bytes of an unsettled index without rows. */
static int make_image(struct buf *image)
{
    char page_size[40];
    struct sqldb *db;
    sqlite3_int64 size = 0;
    int r = sqldb_open(":memory:", SQLDB_CREATE, 0, &db);
    if (r)
        return r;
    snprintf(page_size, sizeof(page_size), "PRAGMA page_size=%d; BEGIN", LCB_INDEX_PAGE);
    r = sqldb_exec(db, page_size);
    if (!r)
        r = lcb_index_schema_exec(db, LCB_INDEX_UNSETTLED);
    if (!r)
        r = sqldb_exec(db, "COMMIT");
    unsigned char *bytes = r ? NULL : sqlite3_serialize(db->db, "main", &size, 0);
    if (bytes)
        buf_setmap(image, bytes, (size_t)size);
    else if (!r)
        r = sqldb_failed(db, "serialize");
    sqlite3_free(bytes);
    sqldb_close(&db);
    return r;
}

static int write_part(int fd, const char *p, size_t n)
{
    ssize_t done = write(fd, p, n);
    return done < 0 ? -errno : (size_t)done < n ? -ENOSPC : 0;
}

/* A file at PATH with these bytes. -EEXIST if there is one. The beginning, which will be written once
 * more by itself, is written by itself: what the kernel gets in one piece it may write as one. */
static int write_image(const char *path, const struct buf *image)
{
    const size_t first = 4096;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int r = write_part(fd, image->s, first);
    if (!r)
        r = write_part(fd, image->s + first, image->len - first);
    if (close(fd) && !r)
        r = -errno;
    if (r)
        unlink(path);
    return r;
}

/* What SQLite would take for the rest of this index, if somebody removed only the index itself. */
static void remove_rest(const char *path)
{
    static const char *const parts[] = {"-journal", "-wal", "-shm", NULL};
    for (int i = 0; parts[i]; i++) {
        char *rest = xasprintf("%s%s", path, parts[i]);
        unlink(rest);
        free(rest);
    }
}

void lcb_index_remove(const char *path)
{
    remove_rest(path);
    unlink(path);
}

int lcb_index_begin_first(struct lcb_index *ix)
{
    int r = sqldb_exec(ix->db, "PRAGMA journal_mode=MEMORY; BEGIN IMMEDIATE");
    ix->transaction = ix->fresh = !r;
    return r;
}

int lcb_index_create(const char *path, struct buf *image, int64_t checkpoint,
                     struct lcb_index **ixp)
{
    int r = image->len ? 0 : make_image(image);
    if (!r)
        r = write_image(path, image);
    if (r)
        return r;
    remove_rest(path);
    struct lcb_index *ix = xzmalloc(sizeof(*ix));
    ix->checkpoint = checkpoint;
    ix->last_tick = -1;
    ix->unsettled = ix->no_folders = 1;
    r = sqldb_open(path, 0, LCB_INDEX_BUSY_MS, &ix->db);
    if (!r)
        r = lcb_index_setup(ix);
    if (!r)
        r = lcb_index_begin_first(ix);
    if (r) {
        lcb_index_close(&ix);
        unlink(path);
        return r;
    }
    ix->pool = dlist_pool_new(LCB_STORED_MAX);
    *ixp = ix;
    return 0;
}

/* The order matters: the transaction is on the disk before the number is written, and nothing but
 * the number is written without a journal. */
int lcb_index_settle(struct lcb_index *ix)
{
    char sql[160];
    if (!ix->unsettled || ix->transaction)
        return 0;
    snprintf(sql, sizeof(sql), "PRAGMA synchronous=OFF; PRAGMA application_id=%d;"
                               "PRAGMA synchronous=NORMAL; PRAGMA journal_mode=DELETE", LCB_INDEX_ID);
    int r = sqldb_exec(ix->db, sql);
    ix->unsettled = r != 0;
    return r;
}

int lcb_index_outgrown(const struct lcb_index *ix)
{
    return ix->fresh && ix->unsettled && sqlite3_total_changes(ix->db->db) > OUTGROWN_ROWS;
}
