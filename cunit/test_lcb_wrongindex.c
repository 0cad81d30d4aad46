/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests with indexes that are missing, broken, or belong to something else; and of readers. */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* ---- indexes ---- */

static void check_index(struct lcbtest_file *f, int aside, const char *what)
{
    struct buf now = BUF_INITIALIZER;
    char old[400];
    snprintf(old, sizeof(old), "%s.index.old", f->path);
    lcbtest_openfile(f);
    lcbtest_dump(f->path, &now);
    CU_ASSERT(lcbtest_same(&now, &f->dump[LCBTEST_GROUPS], what));
    if ((unlink(old) == 0) != aside) {
        printf("\n%s\n", what);
        CU_FAIL("set aside or not");
    }
    CU_ASSERT_EQUAL(lcbtest_int(f->path, "PRAGMA application_id"), 0x43794261);
    CU_ASSERT_EQUAL(lcbtest_int(f->path, "PRAGMA user_version"), 3);
    snprintf(old, sizeof(old), "%s.index.old-wal", f->path);
    unlink(old);
    snprintf(old, sizeof(old), "%s.index.old-shm", f->path);
    unlink(old);
    buf_free(&now);
}

static void sql(const char *path, const char *text)
{
    sqlite3 *db = NULL;
    char *err = NULL;
    CU_ASSERT_EQUAL(sqlite3_open(path, &db), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(db, text, NULL, NULL, &err), SQLITE_OK);
    if (err)
        printf("\n%s: %s\n", text, err);
    sqlite3_free(err);
    sqlite3_close(db);
}

/* What Cyrus 3.x makes, in the essentials: its seven tables, user_version 3. */
static const char upstream[] =
    "CREATE TABLE chunk (id INTEGER PRIMARY KEY ASC, ts_start INTEGER, ts_end INTEGER,"
    " offset INTEGER UNIQUE, length INTEGER, file_sha1 TEXT, data_sha1 TEXT);"
    "CREATE TABLE message (id INTEGER PRIMARY KEY ASC, guid CHAR UNIQUE NOT NULL, partition CHAR,"
    " chunk_id INTEGER, offset INTEGER, size INTEGER);"
    "CREATE TABLE mailbox (id INTEGER PRIMARY KEY ASC, last_chunk_id INTEGER NOT NULL,"
    " uniqueid CHAR UNIQUE NOT NULL, mboxname CHAR NOT NULL);"
    "CREATE TABLE mailbox_message (id INTEGER PRIMARY KEY ASC, mailbox_id INTEGER NOT NULL,"
    " message_id INTEGER NOT NULL, uid INTEGER NOT NULL);"
    "CREATE TABLE subscription (id INTEGER PRIMARY KEY ASC, mboxname CHAR UNIQUE NOT NULL);"
    "CREATE TABLE seen (id INTEGER PRIMARY KEY ASC, uniqueid CHAR UNIQUE NOT NULL);"
    "CREATE TABLE sieve (id INTEGER PRIMARY KEY ASC, filename CHAR NOT NULL);"
    "INSERT INTO chunk VALUES (1,1,2,0,29,'da39a3ee5e6b4b0d3255bfef95601890afd80709','x');"
    "PRAGMA user_version=3";

static void test_upstream_index(void)
{
    struct lcbtest_file f;
    struct buf before = BUF_INITIALIZER, after = BUF_INITIALIZER;
    char index[400], old[400];
    lcbtest_makefile(&f);
    snprintf(index, sizeof(index), "%s.index", f.path);
    snprintf(old, sizeof(old), "%s.index.old", f.path);
    lcbtest_rmindex(f.path);
    sql(index, upstream);
    lcbtest_read(index, &before);
    CU_ASSERT(before.len > 0);
    lcbtest_openfile(&f);
    lcbtest_read(old, &after);
    CU_ASSERT(!buf_cmp(&before, &after)); /* not so much as a byte of it changed */
    check_index(&f, 1, "of Cyrus 3.x");

    /* A reader has it mended too. */
    lcbtest_rmindex(f.path);
    sql(index, upstream);
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, 0, 0, &b), 0);
    lcb_close(&b);
    check_index(&f, 1, "of Cyrus 3.x, for a reader");
    buf_free(&before);
    buf_free(&after);
    lcbtest_freefile(&f);
}

static void test_foreign_indexes(void)
{
    struct lcbtest_file f, other;
    char index[400];
    lcbtest_makefile(&other);
    lcbtest_makefile(&f);
    snprintf(index, sizeof(index), "%s.index", f.path);
    lcbtest_rmindex(f.path);
    check_index(&f, 0, "none");
    lcbtest_rmindex(f.path);
    lcbtest_write(index, "", 0);
    check_index(&f, 0, "empty");
    lcbtest_rmindex(f.path);
    lcbtest_write(index, "garbage garbage garbage", 23);
    check_index(&f, 1, "short garbage");
    lcbtest_rmindex(f.path);
    lcbtest_write(index, f.data.s, f.data.len);
    check_index(&f, 1, "a data file");
    sql(index, "UPDATE meta SET value=99 WHERE key='version'");
    check_index(&f, 1, "of a later version");
    sql(index, "UPDATE meta SET value='x' WHERE key='version'");
    check_index(&f, 1, "of a strange version");
    sql(index, "DELETE FROM meta WHERE key='version'");
    check_index(&f, 1, "of no version");
    sql(index, "DELETE FROM meta WHERE key<>'version'");
    check_index(&f, 1, "without a mark");
    sql(index, "UPDATE meta SET value=-5 WHERE key='end'");
    check_index(&f, 0, "with a mark before the file");
    sql(index, "UPDATE meta SET value=1<<60 WHERE key IN ('end', 'last_offset')");
    check_index(&f, 0, "with a mark behind the file");
    sql(index, "UPDATE meta SET value=7 WHERE key='last_offset'");
    check_index(&f, 0, "with a mark between members");
    lcbtest_putindex(f.path, &other.index[LCBTEST_GROUPS]);
    check_index(&f, 0, "of another backup");
    lcbtest_putindex(f.path, &other.index[0]);
    check_index(&f, 0, "of another backup, empty");
    lcbtest_freefile(&f);
    lcbtest_freefile(&other);
}

/* A table is missing or a page is no page: found out when it has to be written to. */
static void test_broken_indexes(void)
{
    struct lcbtest_file f;
    struct lcbtest_index half;
    char index[400];
    lcbtest_makefile(&f);
    snprintf(index, sizeof(index), "%s.index", f.path);
    lcbtest_putindex(f.path, &f.index[LCBTEST_GROUPS - 1]);
    sql(index, "DROP TABLE records");
    check_index(&f, 1, "without a table");
    size_t pages = f.index[LCBTEST_GROUPS - 1].db.len / 1024;
    CU_ASSERT(pages > 20);
    for (size_t page = 0; page < pages; page++) {
        half = f.index[LCBTEST_GROUPS - 1];
        half.db.s = xmemdup(half.db.s, half.db.len);
        memset(half.db.s + page * 1024 + (page ? 0 : 100), 0xa5, 750);
        lcbtest_putindex(f.path, &half);
        free(half.db.s);
        struct lcb *b = NULL;
        CU_ASSERT_EQUAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
        if (b)
            CU_ASSERT_EQUAL(b->df.end, (off_t)f.data.len);
        lcb_close(&b);
    }
    for (size_t cut = 1; cut < pages; cut += 4) {
        half = f.index[LCBTEST_GROUPS - 1];
        half.db.len = cut * 1024 - 250;
        lcbtest_putindex(f.path, &half);
        check_index(&f, 1, "cut short");
    }
    lcbtest_freefile(&f);
}

/* Two files with one beginning that went different ways: same id, numbers, offsets and lengths. */
static void test_diverged(void)
{
    struct lcbtest_file f;
    struct buf other = BUF_INITIALIZER, want = BUF_INITIALIZER, got = BUF_INITIALIZER;
    struct lcbtest_index ix[2] = {{.db = BUF_INITIALIZER}, {.db = BUF_INITIALIZER}};
    lcbtest_makefile(&f);
    for (int i = 0; i < 2; i++) {
        lcbtest_write(f.path, f.data.s, f.data.len);
        lcbtest_putindex(f.path, &f.index[LCBTEST_GROUPS]);
        struct lcb *b = lcbtest_joe(&f.t);
        CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", i ? "%(MBOXNAME a)" : "%(MBOXNAME b)"), 0);
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
        lcb_close(&b);
        lcbtest_saveindex(f.path, &ix[i]);
    }
    lcbtest_read(f.path, &other);
    lcbtest_dump(f.path, &want);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&want), "'sub' 'a'"));
    for (int write = 0; write < 2; write++) {
        struct lcb *b = NULL;
        lcbtest_putindex(f.path, &ix[0]);
        CU_ASSERT_EQUAL(lcb_open_file(f.t.store, f.path, write ? LCB_WRITE : 0, 0, &b), 0);
        lcb_close(&b);
        lcbtest_dump(f.path, &got);
        CU_ASSERT(lcbtest_same(&got, &want, "diverged"));
    }
    buf_free(&other);
    buf_free(&want);
    buf_free(&got);
    lcbtest_freeindex(&ix[0]);
    lcbtest_freeindex(&ix[1]);
    lcbtest_freefile(&f);
}

/* ---- readers ---- */

static int count_sub(void *rock, const char *name)
{
    (void)name;
    ++*(int *)rock;
    return 0;
}

static void test_readers(void)
{
    struct lcbtest t;
    struct lcb *r = NULL;
    int n = 0;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    CU_ASSERT_EQUAL(lcb_open(t.store, "joe", 0, 0, &r), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_open(t.store, "joe", LCB_WRITE, 0, &r), XERR_NOTFOUND);
    struct lcb *w = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_log(w, "SUB", "%(MBOXNAME a)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(w), 0);
    CU_ASSERT_EQUAL(lcbtest_log(w, "SUB", "%(MBOXNAME b)"), 0);
    CU_ASSERT_EQUAL(lcb_open(t.store, "joe", LCB_WRITE, 0, &r), XERR_LOCKED);
    CU_ASSERT_PTR_NULL(r);
    CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &r), 0);
    CU_ASSERT_EQUAL(lcb_foreach_sub(r, LCB_NOW, count_sub, &n), 0);
    CU_ASSERT_EQUAL(n, 1); /* the last commit */
    CU_ASSERT_EQUAL(lcbtest_log(r, "SUB", "%(MBOXNAME c)"), XERR_DENIED);
    CU_ASSERT_EQUAL(lcb_commit(r), 0);
    CU_ASSERT_EQUAL(lcb_rollback(r), 0);
    CU_ASSERT_EQUAL(lcb_commit(w), 0);
    n = 0;
    CU_ASSERT_EQUAL(lcb_foreach_sub(r, LCB_NOW, count_sub, &n), 0);
    CU_ASSERT_EQUAL(n, 2);
    lcb_close(&r);
    lcb_close(&w);

    /* With the lock taken nothing can be mended. */
    w = lcbtest_joe(&t);
    lcbtest_rmindex(lcb_path(w));
    CU_ASSERT_EQUAL(lcb_open(t.store, "joe", 0, 0, &r), XERR_LOCKED);
    lcb_close(&w);
    CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &r), 0);
    n = 0;
    CU_ASSERT_EQUAL(lcb_foreach_sub(r, LCB_NOW, count_sub, &n), 0);
    CU_ASSERT_EQUAL(n, 2);
    lcb_close(&r);
    lcbtest_fini(&t);
}

/* ---- the index cannot be written ---- */

/* Files must not grow above BYTES; 0 lifts that. */
static void limit_files(off_t bytes)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes ? (rlim_t)bytes : limit.rlim_max;
    signal(SIGXFSZ, bytes ? SIG_IGN : SIG_DFL);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The data file is written and synced, but the index says no: the commit did not happen. */
static void test_index_full(void)
{
    struct lcbtest t;
    struct buf before = BUF_INITIALIZER, after = BUF_INITIALIZER, dump = BUF_INITIALIZER;
    lcbtest_init(&t, "backup_index_checkpoint: 8192\n");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b)), aside[400];
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(MBOXNAME a)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_read(path, &before);
    lcbtest_dump(path, &dump);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(MBOXNAME b)"), 0);
    limit_files((off_t)before.len + 800); /* more than the data file needs */
    CU_ASSERT(lcb_commit(b) < 0);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(MBOXNAME b)"), XERR_BROKEN);
    lcb_close(&b);
    lcbtest_read(path, &after);
    CU_ASSERT(!buf_cmp(&before, &after));
    limit_files(0);
    b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(MBOXNAME c)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_dump(path, &after);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&after), "'sub' 'a'"));
    CU_ASSERT_PTR_NULL(strstr(buf_cstring(&after), "'sub' 'b'"));
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&after), "'sub' 'c'"));

    /* Where there is no room to roll forward, that is no reason to throw the index away. */
    struct lcbtest_index ix = {.db = BUF_INITIALIZER};
    lcbtest_saveindex(path, &ix);
    b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(MBOXNAME d)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_putindex(path, &ix);
    limit_files(10000);
    CU_ASSERT_EQUAL(lcb_open(t.store, "joe", LCB_WRITE, 0, &b), XERR_SQL);
    limit_files(0);
    snprintf(aside, sizeof(aside), "%s.index.old", path);
    CU_ASSERT_EQUAL(access(aside, F_OK), -1);
    b = lcbtest_joe(&t);
    lcb_close(&b);
    lcbtest_dump(path, &after);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&after), "'sub' 'd'"));
    CU_ASSERT_EQUAL(access(aside, F_OK), -1);
    lcbtest_freeindex(&ix);
    buf_free(&before);
    buf_free(&after);
    buf_free(&dump);
    free(path);
    lcbtest_fini(&t);
}

void suite_lcb_wrongindex(void);
void suite_lcb_wrongindex(void)
{
    static const struct unit_test tests[] = {
        {"an index of Cyrus 3.x", test_upstream_index},
        {"other indexes", test_foreign_indexes},
        {"broken indexes", test_broken_indexes},
        {"diverged files", test_diverged},
        {"readers", test_readers},
        {"no room for the index", test_index_full},
        {NULL, NULL},
    };
    unit_suite("lcb_wrongindex", tests);
}
