/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/sqldb. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "cunit/unit.h"
#include "lib/sqldb.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

static int nlogged;
static char logged[4096];

static void hook(int priority, const char *text)
{
    CU_ASSERT_EQUAL(priority, LOG_ERR);
    nlogged++;
    snprintf(logged, sizeof(logged), "%s", text);
}

/* R is an error and a line in the log that names WHAT. */
static void logged_error(int r, const char *what)
{
    CU_ASSERT_EQUAL(r, XERR_SQL);
    CU_ASSERT_EQUAL(nlogged, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(logged, what));
    nlogged = 0;
}

static char path[512];

static struct sqldb *fresh(void)
{
    struct sqldb *db = NULL;
    snprintf(path, sizeof(path), "%s/db", unit_tmpdir());
    nlogged = 0;
    xlog_sethook(hook);
    CU_ASSERT_EQUAL_FATAL(sqldb_open(path, SQLDB_CREATE, 1000, &db), 0);
    CU_ASSERT_EQUAL_FATAL(
        sqldb_exec(db, "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b); INSERT INTO t VALUES (1, 2, "
                       "NULL)"),
        0);
    return db;
}

static void finish(struct sqldb **db)
{
    sqldb_close(db);
    CU_ASSERT_PTR_NULL(*db);
    CU_ASSERT_EQUAL(nlogged, 0);
    xlog_sethook(NULL);
}

static void test_open(void)
{
    struct sqldb *db = fresh(), *other;
    char missing[600];
    snprintf(missing, sizeof(missing), "%s.no", path);
    CU_ASSERT_EQUAL(sqldb_open(missing, 0, 0, &other), XERR_NOTFOUND);
    CU_ASSERT_PTR_NULL(other);
    CU_ASSERT_EQUAL(sqldb_open(missing, SQLDB_READONLY | SQLDB_CREATE, 0, &other), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(access(missing, F_OK), -1);
    snprintf(missing, sizeof(missing), "%s.no/db", path);
    logged_error(sqldb_open(missing, SQLDB_CREATE, 0, &other), "db.no/db: open");
    CU_ASSERT_EQUAL_FATAL(sqldb_open(path, SQLDB_READONLY, 0, &other), 0);
    logged_error(sqldb_run(other, "DELETE FROM t", ""), "readonly");
    int64_t n = 0;
    CU_ASSERT_EQUAL(sqldb_int(other, &n, "SELECT a FROM t", ""), 0);
    CU_ASSERT_EQUAL(n, 2);
    sqldb_close(&other);
    finish(&db);
}

static void test_bind(void)
{
    static const char insert[] = "INSERT INTO t (id, a, b) VALUES (?, ?, ?)";
    struct sqldb *db = fresh();
    int64_t n = 0, id = 0x7fffffffffffffff;
    CU_ASSERT_EQUAL(sqldb_run(db, insert, "itb", id, "text", "\0\1\2", (size_t)3), 0);
    CU_ASSERT_EQUAL(sqldb_run(db, insert, "isn", (int64_t)3, "text and more", (size_t)4), 0);
    CU_ASSERT_EQUAL(sqldb_run(db, insert, "itb", (int64_t)4, (char *)NULL, (char *)NULL, (size_t)0),
                    0);
    CU_ASSERT_EQUAL(
        sqldb_run(db, insert, "ibs", (int64_t)5, "", (size_t)0, (char *)NULL, (size_t)0), 0);
    CU_ASSERT_EQUAL(sqldb_int(db, &n, "SELECT id FROM t WHERE a = 'text' AND b = x'000102'", ""),
                    0);
    CU_ASSERT_EQUAL(n, id);
    CU_ASSERT_EQUAL(sqldb_int(db, &n, "SELECT id FROM t WHERE a = ? AND b IS NULL", "t", "text"),
                    0);
    CU_ASSERT_EQUAL(n, 3);
    CU_ASSERT_EQUAL(sqldb_int(db, &n, "SELECT id FROM t WHERE a IS NULL AND b IS NULL", NULL), 0);
    CU_ASSERT_EQUAL(n, 4);
    CU_ASSERT_EQUAL(sqldb_int(db, &n, "SELECT id FROM t WHERE a = x'' AND b IS NULL", ""), 0);
    CU_ASSERT_EQUAL(n, 5);
    logged_error(sqldb_run(db, insert, "iiii", id, id, id, id), "bind");
    logged_error(sqldb_run(db, insert, "x"), "bind");
    logged_error(sqldb_run(db, insert, "itt", id, "a", "b"), "UNIQUE");
    finish(&db);
}

/* A cached statement starts without what an earlier use left. */
static void test_cache(void)
{
    static const char select[] = "SELECT ?1, id FROM t ORDER BY id; ";
    struct sqldb *db = fresh();
    CU_ASSERT_EQUAL(sqldb_exec(db, "INSERT INTO t VALUES (2, 3, NULL)"), 0);
    sqlite3_stmt *stmt = sqldb_stmt(db, select);
    CU_ASSERT_PTR_NOT_NULL_FATAL(stmt);
    CU_ASSERT_EQUAL(sqldb_bind(stmt, "t", "bound"), 0);
    CU_ASSERT_EQUAL(sqldb_step(db, stmt), 1);
    UNIT_STR((const char *)sqlite3_column_text(stmt, 0), "bound");
    CU_ASSERT_PTR_EQUAL(sqldb_stmt(db, select), stmt);
    CU_ASSERT_EQUAL(sqldb_step(db, stmt), 1);
    CU_ASSERT_PTR_NULL(sqlite3_column_text(stmt, 0));
    CU_ASSERT_EQUAL(sqlite3_column_int(stmt, 1), 1);
    CU_ASSERT_EQUAL(sqldb_step(db, stmt), 1);
    CU_ASSERT_EQUAL(sqldb_step(db, stmt), 0);
    CU_ASSERT_EQUAL(sqldb_step(db, stmt), 1); /* done means reset */

    /* The same address with another text is another statement. */
    char sql[64] = "SELECT 1";
    int64_t n = 0;
    CU_ASSERT_EQUAL(sqldb_int(db, &n, sql, ""), 0);
    sql[7] = '2';
    CU_ASSERT_EQUAL(sqldb_int(db, &n, sql, ""), 0);
    CU_ASSERT_EQUAL(n, 2);
    finish(&db);
}

/* One that was taken is nobody else's, and begins anew for the next who takes it. */
static void test_take(void)
{
    static const char select[] = "SELECT ?1, id FROM t ORDER BY id";
    struct sqldb *db = fresh();
    CU_ASSERT_EQUAL(sqldb_exec(db, "INSERT INTO t VALUES (2, 3, NULL)"), 0);
    sqlite3_stmt *outer = sqldb_take(db, select), *inner;
    CU_ASSERT_PTR_NOT_NULL_FATAL(outer);
    CU_ASSERT_EQUAL(sqldb_bind(outer, "t", "outer"), 0);
    for (int i = 1; i <= 2; i++) {
        CU_ASSERT_EQUAL(sqldb_step(db, outer), 1);
        UNIT_STR((const char *)sqlite3_column_text(outer, 0), "outer");
        CU_ASSERT_EQUAL(sqlite3_column_int(outer, 1), i);
        inner = sqldb_take(db, select);
        CU_ASSERT_PTR_NOT_EQUAL(inner, outer);
        CU_ASSERT_PTR_NOT_EQUAL(sqldb_stmt(db, select), outer);
        CU_ASSERT_PTR_NOT_EQUAL(sqldb_stmt(db, select), inner);
        CU_ASSERT_EQUAL(sqldb_step(db, inner), 1);
        CU_ASSERT_EQUAL(sqlite3_column_int(inner, 1), 1);
        CU_ASSERT_PTR_NULL(sqlite3_column_text(inner, 0));
        sqldb_give(db, inner);
    }
    sqldb_give(db, outer);
    sqldb_give(db, NULL);
    /* there are these two, however often they are taken */
    sqlite3_stmt *one = sqldb_take(db, select), *two = sqldb_take(db, select);
    CU_ASSERT((one == outer && two == inner) || (one == inner && two == outer));
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(sqldb_step(db, i ? two : one), 1);
        CU_ASSERT_PTR_NULL(sqlite3_column_text(i ? two : one, 0));
    }
    sqldb_give(db, one); /* the other is closed with the rest */
    CU_ASSERT_PTR_NULL(sqldb_take(db, "SELECT nothing"));
    logged_error(XERR_SQL, "nothing");
    finish(&db);
}

static void test_int(void)
{
    struct sqldb *db = fresh();
    int64_t n = 77;
    CU_ASSERT_EQUAL(sqldb_int(db, &n, "SELECT a FROM t WHERE id = ?", "i", (int64_t)9),
                    XERR_NOTFOUND);
    CU_ASSERT_EQUAL(sqldb_int(db, &n, "SELECT b FROM t WHERE id = ?", "i", (int64_t)1),
                    XERR_NOTFOUND);
    CU_ASSERT_EQUAL(n, 77);
    CU_ASSERT_EQUAL(sqldb_int(db, &n, "SELECT a FROM t WHERE id = ?", "i", (int64_t)1), 0);
    CU_ASSERT_EQUAL(n, 2);
    /* No statement is left open: a commit and a drop go through. */
    CU_ASSERT_EQUAL(sqldb_exec(db, "BEGIN; DROP TABLE t; COMMIT"), 0);
    finish(&db);
}

static void test_errors(void)
{
    struct sqldb *db = fresh();
    int64_t n;
    logged_error(sqldb_exec(db, "NONSENSE"), "NONSENSE");
    logged_error(sqldb_run(db, "SELECT nosuch FROM t", ""), "nosuch");
    logged_error(sqldb_int(db, &n, "SELECT 1; SELECT 2", ""), "not one statement");
    logged_error(sqldb_int(db, &n, " -- nothing", ""), "not one statement");
    CU_ASSERT_PTR_NULL(sqldb_stmt(db, "SELECT"));
    logged_error(XERR_SQL, "incomplete input");
    /* A value that SQLite cannot give. */
    logged_error(sqldb_run(db, "SELECT abs(-9223372036854775807 - 1)", ""), "overflow");
    finish(&db);
}

/* Bytes that are no database are an error, not a crash. */
static void test_hostile(void)
{
    struct sqldb *db = fresh(), *bad = NULL;
    char other[600];
    int64_t n;
    snprintf(other, sizeof(other), "%s.bad", path);
    int fd = open(other, O_CREAT | O_WRONLY, 0600);
    for (int i = 0; i < 500; i++)
        CU_ASSERT_EQUAL(write(fd, "no database ", 12), 12);
    close(fd);
    CU_ASSERT_EQUAL_FATAL(sqldb_open(other, 0, 0, &bad), 0);
    logged_error(sqldb_int(bad, &n, "SELECT count(*) FROM sqlite_master", ""), "not a database");
    sqldb_close(&bad);
    finish(&db);
}

void suite_sqldb(void);
void suite_sqldb(void)
{
    static const struct unit_test tests[] = {
        {"open", test_open}, {"bind", test_bind}, {"cache", test_cache}, {"take", test_take},
        {"int", test_int},   {"errors", test_errors}, {"hostile", test_hostile},
        {NULL, NULL},
    };
    unit_suite("sqldb", tests);
}
