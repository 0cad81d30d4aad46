/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* sqldb - SQLite with cached statements and typed binding.
 *
 * The cache is keyed by the address of the SQL text, which is a literal and so the same at every
 * call from one place; a hit costs a hash and one comparison of the text (for safety against a
 * caller whose text did not live long enough). Of a text that somebody walks through, while others
 * may, there is a statement for each of them; it stays in the cache for the next. Database files are
 * not trusted: functions that are not marked innocuous cannot be called from their schema, and page
 * cells are checked. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/sqldb.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

enum { CACHE_BUCKETS = 64 };

struct entry {
    const char *sql;
    sqlite3_stmt *stmt;
    enum { SHARED, FREE, TAKEN } use;
    struct entry *next;
};

struct sqldb_cached {
    struct entry *bucket[CACHE_BUCKETS];
};

/* SQLite calls any error of the system "disk I/O error"; what the system said tells a full disk from a
 * broken one. */
static int failed(sqlite3 *db, const char *path, const char *what)
{
    int code = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM, why = 0;
    switch (code & 0xff) {
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
        why = sqlite3_system_errno(db);
    }
    xlog_errorx("%s: %s: %s (%d)%s%s", path, what, db ? sqlite3_errmsg(db) : "out of memory", code,
                why > 0 ? ": " : "", why > 0 ? strerror(why) : "");
    return XERR_SQL;
}

int sqldb_failed(struct sqldb *db, const char *what)
{
    switch (sqlite3_errcode(db->db) & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
    case SQLITE_READONLY:
    case SQLITE_INTERRUPT:
    case SQLITE_IOERR:
    case SQLITE_FULL:
        db->outside = 1;
        break;
    default:
        db->inside = 1;
    }
    return failed(db->db, db->path, what);
}

int sqldb_outside(const struct sqldb *db)
{
    return db->outside;
}

void sqldb_setup(void)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

int sqldb_setdamaged(struct sqldb *db, const char *what)
{
    db->inside = 1;
    xlog_errorx("%s: %s: the index is damaged", db->path, what);
    return XERR_SQL;
}

int sqldb_damaged(const struct sqldb *db)
{
    return db->inside && !db->outside;
}

static void configure(sqlite3 *db, int flags, int busy_ms)
{
    sqlite3_extended_result_codes(db, 1);
    if (flags & SQLDB_ALONE) /* before anything is read */
        sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
    sqlite3_busy_timeout(db, busy_ms);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    sqlite3_exec(db, "PRAGMA cell_size_check = ON", NULL, NULL, NULL);
}

/* PATH, or a URI that says that nobody writes to it. */
static char *what_to_open(const char *path, int flags)
{
    static const char plain[] = "/-_.@+=,";
    struct buf uri = BUF_INITIALIZER;
    if (!(flags & SQLDB_IMMUTABLE))
        return xstrdup(path);
    buf_setcstr(&uri, "file:");
    for (const unsigned char *s = (const unsigned char *)path; *s; s++) {
        if (isalnum(*s) || strchr(plain, *s))
            buf_putc(&uri, (char)*s);
        else
            buf_printf(&uri, "%%%02x", *s);
    }
    buf_appendcstr(&uri, "?immutable=1");
    return buf_release(&uri);
}

/* What cannot be made SQLite tries to read, and then says that it is not there. */
static int why_not_made(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? xasprintf("%.*s/", (int)(slash - path), path) : xstrdup(".");
    int why = access(dir, W_OK) < 0 ? errno : ENOENT;
    free(dir);
    return why;
}

int sqldb_open(const char *path, int flags, int busy_ms, struct sqldb **dbp)
{
    int readonly = flags & (SQLDB_READONLY | SQLDB_IMMUTABLE);
    int mode = readonly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    char *name = what_to_open(path, flags);
    sqlite3 *handle = NULL;
    *dbp = NULL;
    mode |= SQLITE_OPEN_NOMUTEX | (flags & SQLDB_IMMUTABLE ? SQLITE_OPEN_URI : 0);
    if ((flags & SQLDB_CREATE) && !readonly)
        mode |= SQLITE_OPEN_CREATE;
    int failure = sqlite3_open_v2(name, &handle, mode, NULL);
    free(name);
    if (failure) {
        int why = handle ? sqlite3_system_errno(handle) : ENOMEM;
        if (why == ENOENT && (mode & SQLITE_OPEN_CREATE))
            why = why_not_made(path);
        int missing = !(mode & SQLITE_OPEN_CREATE) && why == ENOENT;
        int r = missing ? XERR_NOTFOUND : failed(handle, path, "open");
        if (r == XERR_SQL && why > 0 && why != ENOENT)
            r = -why;
        sqlite3_close(handle);
        return r;
    }
    configure(handle, flags, busy_ms);
    struct sqldb *db = xzmalloc(sizeof(*db));
    db->db = handle;
    db->path = xstrdup(path);
    db->cache = xzmalloc(sizeof(*db->cache));
    *dbp = db;
    return 0;
}

void sqldb_close(struct sqldb **dbp)
{
    struct sqldb *db = *dbp;
    if (!db)
        return;
    for (int i = 0; i < CACHE_BUCKETS; i++) {
        struct entry *e = db->cache->bucket[i];
        while (e) {
            struct entry *next = e->next;
            sqlite3_finalize(e->stmt);
            free(e);
            e = next;
        }
    }
    if (sqlite3_close(db->db) != SQLITE_OK) {
        sqldb_failed(db, "close"); /* somebody still has a statement: SQLite closes after that */
        sqlite3_close_v2(db->db);
    }
    free(db->cache);
    free(db->path);
    free(db);
    *dbp = NULL;
}

int sqldb_exec(struct sqldb *db, const char *sql)
{
    return sqlite3_exec(db->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sqldb_failed(db, sql);
}

/* A statement for SQL that is used in this way: WANTED of the cache, or a new one. */
static struct entry *find(struct sqldb *db, const char *sql, int wanted)
{
    uintptr_t h = (uintptr_t)sql;
    struct entry **bucket = &db->cache->bucket[(h ^ h >> 6 ^ h >> 12) % CACHE_BUCKETS];
    for (struct entry *e = *bucket; e; e = e->next) {
        const char *text = sqlite3_sql(e->stmt); /* may lack white space at the end */
        if (e->sql == sql && (int)e->use == wanted && !strncmp(text, sql, strlen(text))) {
            sqlite3_reset(e->stmt);
            sqlite3_clear_bindings(e->stmt);
            return e;
        }
    }
    sqlite3_stmt *stmt = NULL;
    const char *tail = "";
    if (sqlite3_prepare_v3(db->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, &tail)) {
        sqldb_failed(db, sql);
        return NULL;
    }
    if (!stmt || tail[strspn(tail, " \t\r\n;")]) {
        xlog_errorx("%s: not one statement: %s", db->path, sql);
        sqlite3_finalize(stmt);
        return NULL;
    }
    struct entry *e = xmalloc(sizeof(*e));
    *e = (struct entry){.sql = sql, .stmt = stmt, .use = SHARED, .next = *bucket};
    *bucket = e;
    return e;
}

sqlite3_stmt *sqldb_stmt(struct sqldb *db, const char *sql)
{
    struct entry *e = find(db, sql, SHARED);
    return e ? e->stmt : NULL;
}

sqlite3_stmt *sqldb_take(struct sqldb *db, const char *sql)
{
    struct entry *e = find(db, sql, FREE);
    if (e)
        e->use = TAKEN;
    return e ? e->stmt : NULL;
}

void sqldb_give(struct sqldb *db, sqlite3_stmt *stmt)
{
    for (int i = 0; stmt && i < CACHE_BUCKETS; i++)
        for (struct entry *e = db->cache->bucket[i]; e; e = e->next)
            if (e->stmt == stmt) {
                sqlite3_reset(stmt);
                sqlite3_clear_bindings(stmt);
                e->use = FREE;
                return;
            }
}

/* Bind parameter I as KIND says, taking its value from *AP. */
static int bind_one(sqlite3_stmt *stmt, int i, char kind, va_list *ap)
{
    const void *p;
    switch (kind) {
    case 'i':
        return sqlite3_bind_int64(stmt, i, va_arg(*ap, int64_t));
    case 't':
        return sqlite3_bind_text(stmt, i, va_arg(*ap, const char *), -1, SQLITE_STATIC);
    case 'b':
        p = va_arg(*ap, const void *);
        return sqlite3_bind_blob64(stmt, i, p, va_arg(*ap, size_t), SQLITE_STATIC);
    case 's':
        p = va_arg(*ap, const char *);
        return sqlite3_bind_text64(stmt, i, p, va_arg(*ap, size_t), SQLITE_STATIC, SQLITE_UTF8);
    case 'n':
        return sqlite3_bind_null(stmt, i);
    default:
        return SQLITE_MISUSE;
    }
}

static int vbind(sqlite3_stmt *stmt, const char *fmt, va_list ap)
{
    va_list args;
    int r = SQLITE_OK;
    va_copy(args, ap);
    for (int i = 0; fmt && fmt[i] && r == SQLITE_OK; i++)
        r = bind_one(stmt, i + 1, fmt[i], &args);
    va_end(args);
    if (r == SQLITE_OK)
        return 0;
    xlog_errorx("%s: cannot bind \"%s\" to \"%s\": %s",
                sqlite3_db_filename(sqlite3_db_handle(stmt), "main"), fmt, sqlite3_sql(stmt),
                sqlite3_errstr(r));
    return XERR_SQL;
}

int sqldb_bind(sqlite3_stmt *stmt, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = vbind(stmt, fmt, ap);
    va_end(ap);
    return r;
}

int sqldb_step(struct sqldb *db, sqlite3_stmt *stmt)
{
    int r = sqlite3_step(stmt);
    if (r == SQLITE_ROW)
        return 1;
    if (r != SQLITE_DONE)
        sqldb_failed(db, sqlite3_sql(stmt));
    sqlite3_reset(stmt);
    return r == SQLITE_DONE ? 0 : XERR_SQL;
}

int sqldb_run(struct sqldb *db, const char *sql, const char *fmt, ...)
{
    va_list ap;
    sqlite3_stmt *stmt = sqldb_stmt(db, sql);
    if (!stmt)
        return XERR_SQL;
    va_start(ap, fmt);
    int r = vbind(stmt, fmt, ap);
    va_end(ap);
    if (r)
        return r;
    while ((r = sqldb_step(db, stmt)) > 0)
        ;
    return r;
}

int sqldb_int(struct sqldb *db, int64_t *out, const char *sql, const char *fmt, ...)
{
    va_list ap;
    sqlite3_stmt *stmt = sqldb_stmt(db, sql);
    if (!stmt)
        return XERR_SQL;
    va_start(ap, fmt);
    int r = vbind(stmt, fmt, ap);
    va_end(ap);
    if (!r)
        r = sqldb_step(db, stmt);
    if (r <= 0)
        return r ? r : XERR_NOTFOUND;
    r = sqlite3_column_type(stmt, 0) == SQLITE_NULL ? XERR_NOTFOUND : 0;
    if (!r)
        *out = sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    return r;
}
