/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of backup/lcb_summary and lcb_summaries: what is remembered must be what would be read,
 * whatever happened in between, and whatever happened to the file. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "backup/lcb_summary.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/filelock.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { USERS = 40, BEGIN = 1763760000 };

static struct lcbtest t;
static char *path[USERS];
static int64_t newest[USERS];
static char cache[300];

/* Directories are settled: their times are those of the machine. */
static void later(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    lcbtest_settime(now.tv_sec + 100);
}

static void write_user(int i, unsigned message, int64_t time)
{
    struct lcb *b = NULL;
    char user[16];
    lcbtest_settime(time);
    snprintf(user, sizeof(user), "u%d", i);
    CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, user, LCB_WRITE | LCB_CREATE, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(b, message, 0), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    if (!path[i])
        path[i] = xstrdup(lcb_path(b));
    lcb_close(&b);
    newest[i] = time;
    later();
}

static void start(void)
{
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    snprintf(cache, sizeof(cache), "%s/cache", t.dir);
    for (int i = 0; i < USERS; i++) {
        path[i] = NULL;
        write_user(i, 1, BEGIN + i);
    }
}

static void end(void)
{
    for (int i = 0; i < USERS; i++)
        free(path[i]);
    lcbtest_close(&t);
    lcbtest_fini(&t);
}

static int right(struct lcb_summaries *c, int i)
{
    struct lcb_summary s;
    struct stat st;
    int r = lcb_summaries_get(c, path[i], &s);
    if (r)
        return r;
    CU_ASSERT_EQUAL(s.end, newest[i]);
    CU_ASSERT_EQUAL(stat(path[i], &st), 0);
    CU_ASSERT_EQUAL(s.size, (uint64_t)st.st_size);
    CU_ASSERT_EQUAL(s.chunks, 1);
    return 0;
}

/* All users, in steps of STEP so that the order may differ; each must be right. */
static void ask_all(int step)
{
    struct lcb_summaries *c;
    lcb_summaries_open(t.store, cache, &c);
    for (int n = 0, i = 0; n < USERS; n++, i = (i + step) % USERS)
        CU_ASSERT_EQUAL(right(c, i), 0);
    CU_ASSERT_EQUAL(lcb_summaries_save(c), 0);
    lcb_summaries_close(&c);
}

static int64_t cache_size(void)
{
    struct stat st;
    return stat(cache, &st) ? -1 : st.st_size;
}

static int ask(int i)
{
    struct lcb_summaries *c;
    lcb_summaries_open(t.store, cache, &c);
    int r = right(c, i);
    lcb_summaries_close(&c);
    return r;
}

enum { REMEMBERED = 1, INDEX_LOOKED_AT, INDEX_READ };

/* How was the answer for user I found? By calls, the two for the directory not counted: one for the
 * data file, one for the index, and one before it is read. */
static int effort(int i)
{
    struct vfs *v = vfs_fail_new(VFS_FAULT_ALL, 0, -EIO, 0);
    struct lcb_summaries *c;
    struct lcb_summary s;
    lcbtest_close(&t);
    lcbtest_open(&t, v);
    lcb_summaries_open(t.store, cache, &c);
    long before = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(lcb_summaries_get(c, path[i], &s), 0);
    int calls = (int)(vfs_fault_calls(v) - before) - 2;
    CU_ASSERT_EQUAL(s.end, newest[i]);
    lcb_summaries_close(&c);
    lcbtest_close(&t);
    vfs_fault_free(&v);
    lcbtest_open(&t, NULL);
    return calls;
}

static void test_details(void)
{
    struct lcb_summary s;
    start();
    CU_ASSERT_EQUAL(lcb_summary_read(t.store, path[3], 1, &s), 0);
    CU_ASSERT_EQUAL(s.end, 1763760003);
    CU_ASSERT_EQUAL(s.start, 1763760003);
    CU_ASSERT_EQUAL(s.complete, 1);
    CU_ASSERT_EQUAL(s.text_length,
                    (uint64_t)lcbtest_int(path[3], "SELECT sum(text_length) FROM chunks"));
    CU_ASSERT_EQUAL(lcb_summary_read(t.store, "/nowhere/x", 0, &s), -ENOENT);
    CU_ASSERT_EQUAL(truncate(path[2], 10), 0);
    CU_ASSERT_EQUAL(lcb_summary_read(t.store, path[2], 0, &s), XERR_EOF);
    lcbtest_rmindex(path[3]);
    CU_ASSERT_EQUAL(lcb_summary_read(t.store, path[3], 0, &s), XERR_NOTFOUND);
    char *index = xasprintf("%s.index", path[3]);
    CU_ASSERT(access(index, F_OK) < 0); /* it is not made */
    lcbtest_write(index, "", 0);
    CU_ASSERT_EQUAL(lcb_summary_read(t.store, path[3], 0, &s), XERR_FORMAT);
    lcbtest_write(index, "this is no index, but long enough to be looked at by SQLite .........."
                         "..............................................................", 130);
    CU_ASSERT_EQUAL(lcb_summary_read(t.store, path[3], 0, &s), XERR_FORMAT);
    free(index);
    end();
}

static void test_remembers(void)
{
    start();
    CU_ASSERT_EQUAL(effort(5), INDEX_READ);
    ask_all(1);
    CU_ASSERT(cache_size() > 0);
    CU_ASSERT_EQUAL(effort(5), REMEMBERED);
    ask_all(1);
    ask_all(7);
    ask_all(39);
    CU_ASSERT_EQUAL(effort(5), REMEMBERED);
    end();
}

/* A commit is seen, and the others need not be read again. */
static void test_commit(void)
{
    start();
    ask_all(1);
    write_user(5, 2, BEGIN + 1000);
    CU_ASSERT_EQUAL(effort(5), INDEX_READ);
    CU_ASSERT(effort(6) < INDEX_READ);
    ask_all(1);
    write_user(5, 3, BEGIN + 2000);
    ask_all(1);
    end();
}

/* Few changes do not make it write the file, many do. */
static void test_worth(void)
{
    struct stat a, b;
    start();
    ask_all(1);
    CU_ASSERT_EQUAL(stat(cache, &a), 0);
    for (int i = 0; i < 3; i++)
        write_user(i, 2, BEGIN + 1000);
    ask_all(1);
    CU_ASSERT_EQUAL(stat(cache, &b), 0);
    CU_ASSERT_EQUAL(a.st_ino, b.st_ino);
    for (int i = 0; i < 20; i++)
        write_user(i, 3, BEGIN + 2000);
    ask_all(1);
    CU_ASSERT_EQUAL(stat(cache, &b), 0);
    CU_ASSERT_NOT_EQUAL(a.st_ino, b.st_ino);
    CU_ASSERT_EQUAL(a.st_size, b.st_size);
    CU_ASSERT_EQUAL(effort(19), REMEMBERED);
    /* Those that are not asked for any more go. */
    struct lcb_summaries *c;
    lcb_summaries_open(t.store, cache, &c);
    for (int i = 0; i < 10; i++)
        CU_ASSERT_EQUAL(right(c, i), 0);
    CU_ASSERT_EQUAL(lcb_summaries_save(c), 0);
    lcb_summaries_close(&c);
    CU_ASSERT(cache_size() < a.st_size / 2);
    CU_ASSERT_EQUAL(effort(9), REMEMBERED);
    CU_ASSERT_EQUAL(effort(10), INDEX_READ);
    end();
}

/* What was removed or put in another's place shows, though the data file is as it was. */
static void test_index_gone(void)
{
    struct lcbtest_index saved = {.db = BUF_INITIALIZER};
    start();
    ask_all(1);
    lcbtest_saveindex(path[9], &saved);
    lcbtest_rmindex(path[9]);
    CU_ASSERT_EQUAL(ask(9), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(effort(10), INDEX_LOOKED_AT);
    lcbtest_putindex(path[9], &saved);
    CU_ASSERT_EQUAL(effort(9), INDEX_READ); /* another file */
    lcbtest_freeindex(&saved);
    unlink(path[8]);
    CU_ASSERT_EQUAL(ask(8), -ENOENT);
    end();
}

/* A data file that the index does not speak for wholly is asked again each time. */
static void test_behind(void)
{
    struct lcb_summary s;
    start();
    int fd = open(path[4], O_WRONLY | O_APPEND);
    CU_ASSERT_EQUAL(write(fd, "junk", 4), 4);
    close(fd);
    ask_all(1);
    CU_ASSERT_EQUAL(effort(4), INDEX_READ);
    CU_ASSERT_EQUAL(effort(3), REMEMBERED);
    CU_ASSERT_EQUAL(lcb_summary_read(t.store, path[4], 0, &s), 0);
    CU_ASSERT_EQUAL(s.complete, 0);
    end();
}

/* A change within the resolution of a directory's time must not be missed. */
static void test_unsettled(void)
{
    struct stat st;
    start();
    char *dir = xstrdup(path[0]);
    *strrchr(dir, '/') = '\0';
    CU_ASSERT_EQUAL_FATAL(stat(dir, &st), 0);
    lcbtest_settime(st.st_mtime + 1);
    ask_all(1);
    CU_ASSERT_EQUAL(effort(0), INDEX_LOOKED_AT);
    free(dir);
    end();
}

/* Every byte of the file wrong, and every length: the answers stay right. */
static void test_damaged(void)
{
    struct buf good = BUF_INITIALIZER;
    start();
    ask_all(1);
    lcbtest_read(cache, &good);
    for (size_t i = 0; i < good.len; i += i < 200 ? 1 : 97) {
        char was = good.s[i];
        good.s[i] = (char)(was ^ 0x55);
        lcbtest_write(cache, good.s, good.len);
        good.s[i] = was;
        CU_ASSERT_EQUAL(ask((int)(i % USERS)), 0);
        lcbtest_write(cache, good.s, i);
        CU_ASSERT_EQUAL(effort((int)(i % USERS)), INDEX_READ);
    }
    ask_all(3);
    CU_ASSERT_EQUAL(effort(1), REMEMBERED);
    buf_free(&good);
    end();
}

/* Two at a time: one writes, the other leaves it alone. What a crash left does not matter. */
static void test_crowd(void)
{
    char fresh[310];
    struct lcb_summaries *c;
    start();
    snprintf(fresh, sizeof(fresh), "%s.new", cache);
    lcbtest_write(fresh, "left by a crash", 15);
    int fd = open(fresh, O_RDWR);
    CU_ASSERT_EQUAL(filelock_lock(fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL), 0);
    lcb_summaries_open(t.store, cache, &c);
    for (int i = 0; i < USERS; i++)
        CU_ASSERT_EQUAL(right(c, i), 0);
    CU_ASSERT_EQUAL(lcb_summaries_save(c), XERR_LOCKED);
    CU_ASSERT_EQUAL(cache_size(), -1);
    close(fd);
    CU_ASSERT_EQUAL(lcb_summaries_save(c), 0);
    lcb_summaries_close(&c);
    CU_ASSERT(access(fresh, F_OK) < 0);
    CU_ASSERT_EQUAL(effort(2), REMEMBERED);
    end();
}

/* Every call fails once: an answer is right, or an error; and so is what was kept. */
static void test_failures(void)
{
    int happened = 1;
    start();
    for (long k = 1; happened; k++) {
        struct vfs *v = vfs_fail_new(VFS_FAULT_ALL, 0, -EIO, 0);
        struct lcb_summaries *c;
        lcbtest_close(&t);
        lcbtest_open(&t, v);
        long opened = vfs_fault_calls(v);
        lcbtest_close(&t);
        vfs_fault_free(&v);
        v = vfs_fail_new(VFS_FAULT_ALL, opened + k, EIO, 0);
        lcbtest_open(&t, v);
        lcb_summaries_open(t.store, cache, &c);
        for (int i = 0; i < 20; i++) {
            int r = right(c, i);
            CU_ASSERT(!r || r == -EIO);
        }
        int r = lcb_summaries_save(c);
        CU_ASSERT(!r || r == -EIO);
        lcb_summaries_close(&c);
        happened = vfs_fault_happened(v);
        lcbtest_close(&t);
        vfs_fault_free(&v);
        lcbtest_open(&t, NULL);
        ask_all(1);
        if (k % 2)
            unlink(cache);
    }
    end();
}

static int remembered_files(void)
{
    char fresh[310];
    snprintf(fresh, sizeof(fresh), "%s.new", cache);
    return (access(cache, F_OK) == 0) + (access(fresh, F_OK) == 0);
}

/* The machine stops at call K of remembering, where something is remembered from before or not. */
static long crash_at(int before, long k, enum vfs_settle how, unsigned seed)
{
    struct lcb_summaries *c;
    for (int i = 0; i < USERS; i += 2) /* most are to be read again */
        write_user(i, 1 + (unsigned)k, newest[i] + 1000);
    unlink(cache);
    if (before)
        ask_all(1);
    for (int i = 0; i < USERS; i += 2)
        write_user(i, 1 + (unsigned)k, newest[i] + 1000);
    struct vfs *v = vfs_crash_new(t.dir, k);
    lcbtest_close(&t);
    lcbtest_open(&t, v);
    lcb_summaries_open(t.store, cache, &c);
    for (int i = 0; i < USERS; i++)
        CU_ASSERT_EQUAL(right(c, i), 0);
    int r = lcb_summaries_save(c);
    CU_ASSERT_EQUAL(r, k ? -EIO : 0);
    lcb_summaries_close(&c);
    lcbtest_close(&t);
    long calls = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    lcbtest_open(&t, NULL);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(ask(i), 0);
    ask_all(3);
    CU_ASSERT_EQUAL(effort(1), REMEMBERED);
    CU_ASSERT_EQUAL(remembered_files(), 1);
    return calls;
}

/* What is remembered is right or not there, and the next run remembers. */
static void test_crash(void)
{
    start();
    for (int before = 0; before < 2; before++) {
        long calls = crash_at(before, 0, VFS_SETTLE_KEPT, 0);
        CU_ASSERT(calls >= 4);
        for (long k = 1; k <= calls; k++) {
            crash_at(before, k, VFS_SETTLE_LOST, 0);
            crash_at(before, k, VFS_SETTLE_KEPT, 0);
            for (unsigned torn = 1; torn <= 4; torn++)
                crash_at(before, k, VFS_SETTLE_TORN, (unsigned)k * 10 + torn);
        }
        /* the whole of it, with nothing synced */
        for (unsigned torn = 1; torn <= 16; torn++)
            crash_at(before, 0, VFS_SETTLE_TORN, torn);
    }
    end();
}

void suite_lcb_summaries(void);
void suite_lcb_summaries(void)
{
    static const struct unit_test tests[] = {
        {"details", test_details},     {"remembers", test_remembers},
        {"commit", test_commit},       {"worth", test_worth},
        {"index_gone", test_index_gone}, {"behind", test_behind},     {"unsettled", test_unsettled},
        {"damaged", test_damaged},     {"crowd", test_crowd},         {"failures", test_failures},
        {"crash", test_crash},
        {NULL, NULL},
    };
    unit_suite("lcb_summaries", tests);
}
