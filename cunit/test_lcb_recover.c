/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of recovery: damage, debris, and indexes that belong to something else. */
#include "config.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { GROUPS = 7, MEMBERS = 3 };

/* A file of GROUPS commits; group N makes mailbox uN with a message, in MEMBERS members. */
struct file {
    struct lcbtest t;
    char *path;
    struct buf data;
    struct lcbtest_index index[GROUPS + 1];
    struct buf dump[GROUPS + 1];
    off_t start[GROUPS][MEMBERS + 1]; /* of each member, and the end */
};

static void make_group(struct file *f, struct lcb *b, unsigned n)
{
    const char *records[2] = {NULL, NULL};
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    char id[16], name[32], hex[41];
    f->start[n][0] = b->df.end;
    lcbtest_message(n * 3 + 100, &text, &guid);
    message_guid_encode(&guid, hex);
    CU_ASSERT_EQUAL(lcbtest_upload(b, n * 3 + 100, 1), 0);
    f->start[n][1] = b->df.end;
    CU_ASSERT_EQUAL(lcbtest_upload(b, n * 3 + 101, 1), 0);
    f->start[n][2] = b->df.end;
    snprintf(id, sizeof(id), "u%u", n);
    snprintf(name, sizeof(name), "user.joe.f%u", n);
    records[0] = lcbtest_record(1, 5, "\\Seen", hex);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 1, 5, ""), records, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    f->start[n][3] = b->df.end;
    lcbtest_settime(lcbtest_time() + 1);
    buf_free(&text);
}

static void keep_index(struct file *f, unsigned n)
{
    lcbtest_int(f->path, "PRAGMA wal_checkpoint(TRUNCATE)");
    lcbtest_saveindex(f->path, &f->index[n]);
    lcbtest_dump(f->path, &f->dump[n]);
}

static void make(struct file *f)
{
    memset(f, 0, sizeof(*f));
    lcbtest_init(&f->t, "");
    lcbtest_open(&f->t, NULL);
    struct lcb *b = lcbtest_joe(&f->t);
    f->path = xstrdup(lcb_path(b));
    keep_index(f, 0);
    for (unsigned n = 0; n < GROUPS; n++) {
        make_group(f, b, n);
        keep_index(f, n + 1);
    }
    lcb_close(&b);
    lcbtest_read(f->path, &f->data);
}

static void unmake(struct file *f)
{
    free(f->path);
    buf_free(&f->data);
    for (int i = 0; i <= GROUPS; i++) {
        buf_free(&f->dump[i]);
        lcbtest_freeindex(&f->index[i]);
    }
    lcbtest_fini(&f->t);
}

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? -1 : st.st_size;
}

/* The bytes of the newest tail that was set aside (it is removed): how many there were. */
static size_t take_tails(struct file *f, struct buf *bytes)
{
    glob_t g;
    char pattern[400];
    snprintf(pattern, sizeof(pattern), "%s.tail.*", f->path);
    buf_reset(bytes);
    if (glob(pattern, 0, NULL, &g))
        return 0;
    size_t n = g.gl_pathc;
    for (size_t i = 0; i < n; i++) {
        lcbtest_read(g.gl_pathv[i], bytes);
        unlink(g.gl_pathv[i]);
    }
    globfree(&g);
    return n;
}

static void open_it(struct file *f)
{
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f->t.store, f->path, LCB_WRITE, 0, &b), 0);
    CU_ASSERT_EQUAL(size_of(f->path), b->df.end);
    lcb_close(&b);
}

static void put(struct file *f, const void *p, size_t n)
{
    lcbtest_write(f->path, p, n);
    lcbtest_rmindex(f->path);
}

static int has_mailbox(struct file *f, unsigned n)
{
    char sql[200];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM folders f JOIN records r ON r.folder=f.id"
             " JOIN contents c ON c.id=r.content WHERE uniqueid='u%u' AND chunk NOT NULL", n);
    return (int)lcbtest_int(f->path, sql);
}

/* ---- rot ---- */

static void check_rot(struct file *f, unsigned group, unsigned member, const char *bytes)
{
    struct buf now = BUF_INITIALIZER;
    put(f, bytes, f->data.len);
    open_it(f);
    lcbtest_read(f->path, &now);
    CU_ASSERT(now.len == f->data.len && !memcmp(now.s, bytes, now.len)); /* nothing is dropped */
    CU_ASSERT_EQUAL(take_tails(f, &now), 0);
    for (unsigned n = 0; n < GROUPS; n++)
        if (n != group)
            CU_ASSERT_EQUAL(has_mailbox(f, n), 1);
    if (member != 1)
        CU_ASSERT_EQUAL(has_mailbox(f, group), 0);
    CU_ASSERT_EQUAL(lcbtest_int(f->path, "SELECT count(*) FROM folders WHERE mark<>2"), 0);
    CU_ASSERT(lcbtest_int(f->path, "SELECT count(*) FROM folders") >= GROUPS - 1);
    CU_ASSERT(lcbtest_logged("is damaged"));
    buf_free(&now);
}

/* Time and origin in a gzip header mean nothing; and with another name on our field the member is
 * one of Cyrus 3.x, otherwise intact. */
static int harmless(off_t in)
{
    return (in >= 4 && in < 10) || in == 12 || in == 13;
}

/* One byte wrong, somewhere in a group that others follow. */
static void test_rot(void)
{
    struct file f;
    make(&f);
    char *bytes = xmemdup(f.data.s, f.data.len);
    for (unsigned group = 0; group < GROUPS - 2; group += 2)
        for (unsigned member = 0; member < MEMBERS; member++)
            for (off_t at = f.start[group][member]; at < f.start[group][member + 1]; at += 13) {
                if (harmless(at - f.start[group][member]))
                    continue;
                bytes[at] ^= 0x55;
                check_rot(&f, group, member, bytes);
                bytes[at] ^= 0x55;
            }
    free(bytes);
    unmake(&f);
}

/* A hole, and a piece that is gone: what follows stands at another place. */
static void test_holes(void)
{
    struct file f;
    struct buf now = BUF_INITIALIZER;
    make(&f);
    buf_append(&now, &f.data);
    memset(now.s + f.start[1][1] + 10, 0, (size_t)(f.start[3][1] - f.start[1][1]));
    put(&f, now.s, now.len);
    open_it(&f);
    CU_ASSERT_EQUAL(size_of(f.path), (off_t)f.data.len);
    for (unsigned n = 0; n < GROUPS; n++)
        CU_ASSERT_EQUAL(has_mailbox(&f, n), n < 1 || n > 3);

    buf_setmap(&now, f.data.s, (size_t)f.start[2][0] + 30);
    buf_appendmap(&now, f.data.s + f.start[2][1] + 7, f.data.len - (size_t)f.start[2][1] - 7);
    put(&f, now.s, now.len);
    open_it(&f);
    CU_ASSERT_EQUAL(size_of(f.path), (off_t)now.len);
    for (unsigned n = 0; n < GROUPS; n++)
        CU_ASSERT_EQUAL(has_mailbox(&f, n), n != 2);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folders WHERE mark<>2"), 0);
    buf_free(&now);
    unmake(&f);
}

/* After rot the backup is used like any other, and comes out the same again. */
static void test_life_after_rot(void)
{
    struct file f;
    struct buf live = BUF_INITIALIZER, again = BUF_INITIALIZER;
    struct lcbtest_history h;
    make(&f);
    f.data.s[f.start[2][1] + 60] ^= 1;
    put(&f, f.data.s, f.data.len);
    struct lcb *b = lcbtest_joe(&f.t);
    lcbtest_start(&h, 3);
    for (int i = 0; i < 20; i++)
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_dump(f.path, &live);
    lcbtest_read(f.path, &f.data);
    lcbtest_rebuild(&f.t, f.data.s, f.data.len, &again);
    CU_ASSERT(lcbtest_same(&live, &again, "after rot"));
    buf_free(&live);
    buf_free(&again);
    unmake(&f);
}

/* ---- torn ---- */

/* The last group damaged at any place: it never happened, and is kept aside. */
static void test_torn(void)
{
    struct file f;
    struct buf tail = BUF_INITIALIZER, now = BUF_INITIALIZER;
    make(&f);
    off_t start = f.start[GROUPS - 1][0];
    char *bytes = xmemdup(f.data.s, f.data.len);
    for (size_t at = (size_t)start; at < f.data.len; at += 7) {
        unsigned m = 0;
        while ((off_t)at >= f.start[GROUPS - 1][m + 1])
            m++;
        if (harmless((off_t)at - f.start[GROUPS - 1][m]))
            continue;
        bytes[at] ^= 0x55;
        for (int old = 0; old < 2; old++) { /* rebuilding, and rolling forward */
            put(&f, bytes, f.data.len);
            if (old)
                lcbtest_putindex(f.path, &f.index[GROUPS - 1]);
            open_it(&f);
            CU_ASSERT_EQUAL(size_of(f.path), start);
            CU_ASSERT_EQUAL(take_tails(&f, &tail), 1);
            CU_ASSERT_EQUAL(tail.len, f.data.len - (size_t)start);
            CU_ASSERT(!memcmp(tail.s, bytes + start, tail.len));
            lcbtest_dump(f.path, &now);
            CU_ASSERT(lcbtest_same(&now, &f.dump[GROUPS - 1], "torn"));
            CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folders WHERE mark"), 0);
        }
        bytes[at] ^= 0x55;
    }
    free(bytes);
    buf_free(&tail);
    buf_free(&now);
    unmake(&f);
}

/* Bytes behind the end that are no continuation. */
static void check_debris(struct file *f, const void *p, size_t n, const char *what)
{
    struct buf all = BUF_INITIALIZER, tail = BUF_INITIALIZER;
    for (int old = 0; old < 2; old++) {
        buf_setmap(&all, f->data.s, f->data.len);
        buf_appendmap(&all, p, n);
        put(f, all.s, all.len);
        if (old)
            lcbtest_putindex(f->path, &f->index[GROUPS]);
        open_it(f);
        CU_ASSERT_EQUAL(size_of(f->path), (off_t)f->data.len);
        CU_ASSERT_EQUAL(take_tails(f, &tail), 1);
        CU_ASSERT(tail.len == n && !memcmp(tail.s, p, n));
        lcbtest_dump(f->path, &all);
        CU_ASSERT(lcbtest_same(&all, &f->dump[GROUPS], what));
    }
    buf_free(&all);
    buf_free(&tail);
}

static void test_debris(void)
{
    static const char zeros[9000];
    struct file f, other;
    make(&other);
    make(&f);
    const char *d = f.data.s;
    check_debris(&f, "x", 1, "a byte");
    check_debris(&f, "\x1f\x8b\x08", 3, "the first bytes of a member");
    check_debris(&f, "To be or not to be\r\n", 20, "text");
    check_debris(&f, zeros, sizeof(zeros), "zeros");
    check_debris(&f, d, (size_t)f.start[0][1], "a member of this file");
    check_debris(&f, d, (size_t)f.start[0][3], "a group of this file");
    check_debris(&f, d + f.start[6][2], 50, "a part of a member");
    check_debris(&f, other.data.s, (size_t)other.start[0][1], "a member of another file");
    check_debris(&f, other.data.s, (size_t)other.start[0][3], "a group of another file");
    unmake(&f);
    unmake(&other);
}

/* Two cuts in one second: both are kept. */
static void test_two_tails(void)
{
    struct file f;
    struct buf all = BUF_INITIALIZER, tail = BUF_INITIALIZER;
    make(&f);
    for (int i = 0; i < 3; i++) {
        buf_setmap(&all, f.data.s, f.data.len);
        buf_printf(&all, "debris %d", i);
        lcbtest_write(f.path, all.s, all.len);
        open_it(&f);
    }
    CU_ASSERT_EQUAL(take_tails(&f, &tail), 3);
    buf_free(&all);
    buf_free(&tail);
    unmake(&f);
}

/* The file doubled, as by a restore that appended: it opens, and says what it said. */
static void test_doubled(void)
{
    struct file f;
    struct buf twice = BUF_INITIALIZER, tail = BUF_INITIALIZER;
    make(&f);
    buf_append(&twice, &f.data);
    buf_append(&twice, &f.data);
    put(&f, twice.s, twice.len);
    open_it(&f);
    lcbtest_dump(f.path, &twice);
    CU_ASSERT(lcbtest_same(&twice, &f.dump[GROUPS], "doubled"));
    take_tails(&f, &tail);
    buf_free(&twice);
    buf_free(&tail);
    unmake(&f);
}

/* ---- indexes ---- */

static void check_index(struct file *f, int aside, const char *what)
{
    struct buf now = BUF_INITIALIZER;
    char old[400];
    snprintf(old, sizeof(old), "%s.index.old", f->path);
    open_it(f);
    lcbtest_dump(f->path, &now);
    CU_ASSERT(lcbtest_same(&now, &f->dump[GROUPS], what));
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
    struct file f;
    struct buf before = BUF_INITIALIZER, after = BUF_INITIALIZER;
    char index[400], old[400];
    make(&f);
    snprintf(index, sizeof(index), "%s.index", f.path);
    snprintf(old, sizeof(old), "%s.index.old", f.path);
    lcbtest_rmindex(f.path);
    sql(index, upstream);
    lcbtest_read(index, &before);
    CU_ASSERT(before.len > 0);
    open_it(&f);
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
    unmake(&f);
}

static void test_foreign_indexes(void)
{
    struct file f, other;
    char index[400];
    make(&other);
    make(&f);
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
    sql(index, "UPDATE meta SET value=2 WHERE key='version'");
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
    lcbtest_putindex(f.path, &other.index[GROUPS]);
    check_index(&f, 0, "of another backup");
    lcbtest_putindex(f.path, &other.index[0]);
    check_index(&f, 0, "of another backup, empty");
    unmake(&f);
    unmake(&other);
}

/* A table is missing or a page is no page: found out when it has to be written to. */
static void test_broken_indexes(void)
{
    struct file f;
    struct lcbtest_index half;
    char index[400];
    make(&f);
    snprintf(index, sizeof(index), "%s.index", f.path);
    lcbtest_putindex(f.path, &f.index[GROUPS - 1]);
    sql(index, "DROP TABLE records");
    check_index(&f, 1, "without a table");
    size_t pages = f.index[GROUPS - 1].db.len / 4096;
    CU_ASSERT(pages > 20);
    for (size_t page = 0; page < pages; page++) {
        half = f.index[GROUPS - 1];
        half.db.s = xmemdup(half.db.s, half.db.len);
        memset(half.db.s + page * 4096 + (page ? 0 : 100), 0xa5, 3000);
        lcbtest_putindex(f.path, &half);
        free(half.db.s);
        struct lcb *b = NULL;
        CU_ASSERT_EQUAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
        if (b)
            CU_ASSERT_EQUAL(b->df.end, (off_t)f.data.len);
        lcb_close(&b);
    }
    for (size_t cut = 1; cut < pages; cut += 4) {
        half = f.index[GROUPS - 1];
        half.db.len = cut * 4096 - 1000;
        lcbtest_putindex(f.path, &half);
        check_index(&f, 1, "cut short");
    }
    unmake(&f);
}

/* Two files with one beginning that went different ways: same id, numbers, offsets and lengths. */
static void test_diverged(void)
{
    struct file f;
    struct buf other = BUF_INITIALIZER, want = BUF_INITIALIZER, got = BUF_INITIALIZER;
    struct lcbtest_index ix[2] = {{.db = BUF_INITIALIZER}, {.db = BUF_INITIALIZER}};
    make(&f);
    for (int i = 0; i < 2; i++) {
        lcbtest_write(f.path, f.data.s, f.data.len);
        lcbtest_putindex(f.path, &f.index[GROUPS]);
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
    unmake(&f);
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
    limit_files(10000); /* more than the data file needs */
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

void suite_lcb_recover(void);
void suite_lcb_recover(void)
{
    static const struct unit_test tests[] = {
        {"rot", test_rot},
        {"holes", test_holes},
        {"life after rot", test_life_after_rot},
        {"a torn group", test_torn},
        {"debris", test_debris},
        {"two tails", test_two_tails},
        {"a file doubled", test_doubled},
        {"an index of Cyrus 3.x", test_upstream_index},
        {"other indexes", test_foreign_indexes},
        {"broken indexes", test_broken_indexes},
        {"diverged files", test_diverged},
        {"readers", test_readers},
        {"no room for the index", test_index_full},
        {NULL, NULL},
    };
    unit_suite("lcb_recover", tests);
}
