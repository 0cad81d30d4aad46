/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* SQLite with what every user of it here wants: errors as XERR_SQL with a line in syslog, cached
 * prepared statements, typed bind and column in one call. */
#ifndef LIB_SQLDB_H
#define LIB_SQLDB_H

#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>

struct sqldb {
    sqlite3 *db;
    char *path;
    struct sqldb_cached *cache;
    int outside; /* see sqldb_outside */
    int inside;  /* an error that was of the other kind */
};

/* For a program that opens many databases, before it opens the first: SQLite does not count the memory
 * it uses, which it does under a lock for each piece. */
void sqldb_setup(void);

/* ALONE: nobody else can use it meanwhile, so that with a WAL no -shm is needed. IMMUTABLE: nothing
 * changes it, as on a read-only file system; neither locks nor a WAL are looked at. */
enum { SQLDB_CREATE = 1, SQLDB_READONLY = 2, SQLDB_ALONE = 4, SQLDB_IMMUTABLE = 8 };

/* Open PATH. Busy timeout MS. 0, XERR_NOTFOUND, -errno if the system says why not, or XERR_SQL. */
int sqldb_open(const char *path, int flags, int busy_ms, struct sqldb **);
void sqldb_close(struct sqldb **);
/* Run all statements of SQL. */
int sqldb_exec(struct sqldb *, const char *sql);
/* A prepared statement for SQL, reset and without bindings; kept for the next time. SQL must be a
 * string literal or live as long as DB. NULL on error (logged). */
sqlite3_stmt *sqldb_stmt(struct sqldb *, const char *sql);
/* The same, but nobody else's until it is given back (NULL: nothing), before DB is closed; so others
 * may run the same text meanwhile. It is reset then: what a column pointed to has gone. */
sqlite3_stmt *sqldb_take(struct sqldb *, const char *sql);
void sqldb_give(struct sqldb *, sqlite3_stmt *);
/* Bind by format: i int64_t, t const char * (NULL allowed), b const void *, size_t (blob; NULL
 * pointer gives SQL NULL), s const char *, size_t (text with a length), n nothing (SQL NULL).
 * Text and blobs must stay valid until the statement is stepped to its end or reset. */
int sqldb_bind(sqlite3_stmt *, const char *fmt, ...);
/* As sqldb_stmt + sqldb_bind + step to the end. */
int sqldb_run(struct sqldb *, const char *sql, const char *fmt, ...);
/* Step: 1 row, 0 done (statement reset), XERR_SQL. */
int sqldb_step(struct sqldb *, sqlite3_stmt *);
/* First column of the first row as integer to *OUT; XERR_NOTFOUND without a row or for NULL. */
int sqldb_int(struct sqldb *, int64_t *out, const char *sql, const char *fmt, ...);
/* Log the database's last error, return XERR_SQL. */
int sqldb_failed(struct sqldb *, const char *what);
/* 1 if an error since the opening was not the file's fault: disk full, I/O error, no memory, or
 * somebody else held a lock too long. */
int sqldb_outside(const struct sqldb *);
/* What was read cannot be: log that, return XERR_SQL. */
int sqldb_setdamaged(struct sqldb *, const char *what);
/* 1 if there were errors, and all were the file's fault: it is damaged. */
int sqldb_damaged(const struct sqldb *);

#endif
