/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of telling a partition that is not mounted from one that is new. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_db.h"
#include "backup/lcb_int.h"
#include "backup/lcb_mounted.h"
#include "backup/lcb_move.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static char extra[400];

/* Partitions one and two; new backups go to TO. */
static void start(struct lcbtest *t, const char *to)
{
    snprintf(extra, sizeof(extra), "backuppartition-two: %s-two\npartition_select_exclude: %s\n",
             unit_tmpdir(), strcmp(to, "one") ? "one" : "two");
    lcbtest_init(t, extra);
    lcbtest_open(t, NULL);
}

static const char *dir(struct lcbtest *t, const char *name)
{
    return lcb_partition_named(t->store, name)->dir;
}

static int begin(struct lcbtest *t, const char *userid)
{
    struct lcb *b = NULL;
    int r = lcb_open(t->store, userid, LCB_WRITE | LCB_CREATE, 0, &b);
    lcb_close(&b);
    return r;
}

static void test_new(void)
{
    struct lcbtest t;
    start(&t, "one");
    CU_ASSERT_EQUAL(lcb_mounted(t.store, "/nowhere/at/all"), 0);
    CU_ASSERT_EQUAL(begin(&t, "joe"), 0); /* the directory is made */
    CU_ASSERT_EQUAL(begin(&t, "ann"), 0);
    CU_ASSERT_EQUAL(lcb_mounted(t.store, dir(&t, "one")), 0);
    CU_ASSERT_EQUAL(mkdir(dir(&t, "two"), 0755), 0); /* empty, but nobody was ever there */
    CU_ASSERT_EQUAL(lcb_mounted(t.store, dir(&t, "two")), 0);
    CU_ASSERT_EQUAL(rmdir(dir(&t, "two")), 0);
    lcbtest_fini(&t);
}

static void test_gone(void)
{
    struct lcbtest t;
    struct lcb_moved m;
    char *path = NULL;
    start(&t, "one");
    const char *one = dir(&t, "one");
    CU_ASSERT_EQUAL_FATAL(begin(&t, "joe"), 0);
    char *away = xasprintf("%s.away", one), *slash = xasprintf("%s//", one);
    CU_ASSERT_EQUAL_FATAL(rename(one, away), 0);
    for (int i = 0; i < 2; i++) { /* missing, then empty */
        CU_ASSERT_EQUAL(lcb_mounted(t.store, one), -ENODEV);
        CU_ASSERT_EQUAL(lcb_mounted(t.store, slash), -ENODEV);
        CU_ASSERT(lcbtest_logged("is it mounted?"));
        CU_ASSERT_EQUAL(begin(&t, "ann"), -ENODEV);
        CU_ASSERT_EQUAL(begin(&t, "joe"), -ENOENT);
        CU_ASSERT(lcbtest_logged("is gone: mount its partition"));
        CU_ASSERT(lcbtest_logged("ctl_backups reconstruct -F;")); /* what to do about it */
        CU_ASSERT(lcbtest_logged("ctl_backups delete -F joe,"));
    }
    CU_ASSERT_EQUAL(lcb_db_find(lcb_store_db(t.store), "ann", &path), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(rmdir(one), 0);
    CU_ASSERT_EQUAL_FATAL(rename(away, one), 0);
    CU_ASSERT_EQUAL(begin(&t, "ann"), 0);
    CU_ASSERT_EQUAL(begin(&t, "joe"), 0);

    /* Nor is anything moved there. */
    CU_ASSERT_EQUAL(lcb_move(t.store, "joe", lcb_partition_named(t.store, "two"), 0, &m), 0);
    free(m.path);
    char *two = xasprintf("%s.away", dir(&t, "two"));
    CU_ASSERT_EQUAL_FATAL(rename(dir(&t, "two"), two), 0);
    CU_ASSERT_EQUAL(lcb_move(t.store, "ann", lcb_partition_named(t.store, "two"), 0, &m), -ENODEV);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&m.why), "is it mounted?"));
    buf_free(&m.why);
    CU_ASSERT_EQUAL_FATAL(rename(two, dir(&t, "two")), 0);
    free(two);
    free(away);
    free(slash);
    lcbtest_fini(&t);
}

/* What was lost for good is forgotten: then the directory is as good as new. */
static void test_forgotten(void)
{
    struct lcbtest t;
    char *path = NULL;
    start(&t, "one");
    const char *one = dir(&t, "one");
    CU_ASSERT_EQUAL_FATAL(begin(&t, "joe"), 0);
    char *away = xasprintf("%s.away", one);
    CU_ASSERT_EQUAL_FATAL(rename(one, away), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_db_find(lcb_store_db(t.store), "joe", &path), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_db_remove(lcb_store_db(t.store), "joe", path), 0);
    CU_ASSERT_EQUAL(begin(&t, "joe"), 0);
    CU_ASSERT_EQUAL(begin(&t, "ann"), 0);
    free(path);
    free(away);
    lcbtest_fini(&t);
}

/* Bytes that are read for a new user while N others are known; partition two is empty all the time.
 * WHOLE: what reading all of backups.db would take. */
static long long bytes_for_new(int n, long long *whole)
{
    struct lcbtest t;
    struct stat st;
    struct lcb_db_txn *txn;
    snprintf(extra, sizeof(extra), "backuppartition-two: %s-two\n", unit_tmpdir());
    lcbtest_init(&t, extra);
    struct vfs *v = vfs_fail_new(VFS_FAULT_ALL, 0, 0, 0);
    lcbtest_open(&t, v);
    CU_ASSERT_EQUAL_FATAL(begin(&t, "first"), 0); /* partition one is not empty any more */
    CU_ASSERT_EQUAL_FATAL(lcb_db_begin(lcb_store_db(t.store), &txn), 0);
    for (int i = 0; i < n; i++) {
        char user[20], *path;
        snprintf(user, sizeof(user), "user%05d", i);
        path = xasprintf("%s/u/%s_abcdef", dir(&t, "one"), user);
        CU_ASSERT_EQUAL_FATAL(lcb_db_txn_set(txn, user, path), 0);
        free(path);
    }
    CU_ASSERT_EQUAL_FATAL(lcb_db_commit(&txn), 0);
    lcbtest_close(&t);
    char *db = xasprintf("%s/conf/backups.db", t.dir);
    CU_ASSERT_EQUAL_FATAL(stat(db, &st), 0);
    free(db);
    *whole = st.st_size;
    lcbtest_open(&t, v);
    long long before = vfs_fault_bytesread(v);
    CU_ASSERT_EQUAL(begin(&t, "last"), 0);
    long long bytes = vfs_fault_bytesread(v) - before;
    CU_ASSERT_EQUAL(stat(dir(&t, "two"), &st), 0); /* it took part */
    CU_ASSERT_EQUAL(rmdir(dir(&t, "two")), 0);     /* and is empty */
    lcbtest_fini(&t);
    vfs_fault_free(&v);
    return bytes;
}

/* What a new user costs is a few lookups among all there are, though a partition stays empty (here:
 * since it is on the file system of one that comes first). How many steps a lookup takes is a matter
 * of luck with the levels of the skip list, but a hundred of them are a small part of this one. */
static void test_cost(void)
{
    long long whole, bytes = bytes_for_new(20000, &whole);
    CU_ASSERT(whole > 1000000);
    CU_ASSERT(bytes > 0 && bytes < whole / 6);
    if (bytes >= whole / 6)
        fprintf(stderr, "%lld bytes of %lld\n", bytes, whole);
}

void suite_lcb_mounted(void);
void suite_lcb_mounted(void)
{
    static const struct unit_test tests[] = {
        {"a new partition", test_new},
        {"a partition that is not mounted", test_gone},
        {"one that was given up", test_forgotten},
        {"one that stays empty costs nothing", test_cost},
        {NULL, NULL},
    };
    unit_suite("lcb_mounted", tests);
}
