/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_spool - uploads that wait for the mailbox that needs them.
 *
 * The content is in one file that has no name, so nothing remains of it when the process dies. The
 * table of what is where is a private, temporary SQLite database: it stays in memory while it is
 * small and moves to disk by itself, because a unit of work may bring a million messages. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/backupd_spool.h"
#include "lib/sqldb.h"
#include "lib/vfs.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

struct backupd_spool {
    struct lcb_store *store;
    struct sqldb *db;
    int fd;
    uint64_t end;
};

struct backupd_spool *backupd_spool_new(struct lcb_store *store)
{
    struct backupd_spool *s = xzmalloc(sizeof(*s));
    s->store = store;
    s->fd = -1;
    return s;
}

void backupd_spool_free(struct backupd_spool **sp)
{
    if (!*sp)
        return;
    backupd_spool_clear(*sp);
    free(*sp);
    *sp = NULL;
}

void backupd_spool_clear(struct backupd_spool *s)
{
    sqldb_close(&s->db);
    vfs_close(lcb_store_vfs(s->store), &s->fd);
    s->end = 0;
}

int backupd_spool_write(struct backupd_spool *s, uint64_t offset, const void *p, size_t n)
{
    int r = s->fd >= 0 ? 0 : lcb_store_tmpfile(s->store, &s->fd);
    if (r)
        return r;
    ssize_t put = vfs_pwrite(lcb_store_vfs(s->store), s->fd, p, n, (off_t)(s->end + offset));
    return put < 0 ? (int)put : 0;
}

static int need_table(struct backupd_spool *s)
{
    if (s->db)
        return 0;
    int r = sqldb_open("", SQLDB_CREATE, 0, &s->db);
    if (!r)
        r = sqldb_exec(s->db, "PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF;"
                              "PRAGMA cache_size=-1024; CREATE TABLE uploads (guid BLOB PRIMARY KEY,"
                              " at INTEGER, size INTEGER, partition TEXT) WITHOUT ROWID");
    return r;
}

int backupd_spool_keep(struct backupd_spool *s, const struct message_guid *guid, uint64_t size,
                       const char *partition)
{
    int r = need_table(s);
    if (!r)
        r = sqldb_run(s->db, "INSERT OR REPLACE INTO uploads VALUES (?,?,?,?)", "biit", guid->value,
                      (size_t)MESSAGE_GUID_LEN, (int64_t)s->end, (int64_t)size, partition);
    if (!r)
        s->end += size;
    return r;
}

void backupd_spool_drop(struct backupd_spool *s)
{
    if (s->fd >= 0)
        vfs_ftruncate(lcb_store_vfs(s->store), s->fd, (off_t)s->end);
}

int backupd_spool_find(struct backupd_spool *s, const struct message_guid *guid,
                       struct backupd_upload *up)
{
    if (!s->db)
        return 0;
    sqlite3_stmt *st = sqldb_stmt(s->db, "SELECT at, size, partition FROM uploads WHERE guid=?");
    if (!st || sqldb_bind(st, "b", guid->value, (size_t)MESSAGE_GUID_LEN))
        return XERR_SQL;
    int r = sqldb_step(s->db, st);
    if (r == 1 && up) {
        up->at = (uint64_t)sqlite3_column_int64(st, 0);
        up->size = (uint64_t)sqlite3_column_int64(st, 1);
        buf_setcstr(&up->partition, (const char *)sqlite3_column_text(st, 2));
    }
    sqlite3_reset(st);
    return r;
}

int backupd_spool_fd(const struct backupd_spool *s)
{
    return s->fd;
}

uint64_t backupd_spool_end(const struct backupd_spool *s)
{
    return s->end;
}
