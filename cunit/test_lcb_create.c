/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of making a new backup: not while there is an old one that backups.db ought to name; but
 * nothing else that may lie in a partition is in the way. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backup/lcb_db.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_int.h"
#include "backup/lcb_reconstruct.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define MEMBER "\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0"

static void begin(struct lcbtest *t, const char *more)
{
    lcbtest_init(t, more);
    lcbtest_open(t, NULL);
}

/* A commit of USER: 0, or what the opening said. *PATH (to be freed) may be NULL. */
static int change(struct lcbtest *t, const char *user, char **path)
{
    struct lcb *b = NULL;
    const char *records[] = {NULL};
    char name[60];
    snprintf(name, sizeof(name), "user.%s", user);
    int r = lcb_open(t->store, user, LCB_WRITE | LCB_CREATE, 0, &b);
    if (path)
        *path = r ? NULL : xstrdup(lcb_path(b));
    if (r)
        return r;
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("u1", name, 1, 1, ""), records, NULL), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    return 0;
}

/* backups.db is lost, with all records or (USER) only his. */
static void lose(struct lcbtest *t, const char *user, const char *path)
{
    char *db = xasprintf("%s/conf/backups.db", t->dir);
    if (user) {
        CU_ASSERT_EQUAL(lcb_db_remove(lcb_store_db(t->store), user, path), 0);
    } else {
        lcbtest_close(t);
        CU_ASSERT_EQUAL(unlink(db), 0);
        lcbtest_open(t, NULL);
    }
    free(db);
}

static void reconstruct(struct lcbtest *t)
{
    struct lcb_reconstruct how = {.dry_run = 0};
    CU_ASSERT_EQUAL(lcb_reconstruct(t->store, &how), 0);
}

/* NAME below the partition, with the bytes of TEXT. */
static void put(struct lcbtest *t, const char *name, const char *text, size_t n)
{
    char *path = xasprintf("%s/one/%s", t->dir, name);
    CU_ASSERT_EQUAL(vfs_mkparents(vfs_system(), path), 0);
    lcbtest_write(path, text, n);
    free(path);
}

static void test_new(void)
{
    static const char *const names[] = {
        "j/joe_abcdef.deleted.1700000000", "j/joe_abcdef.tail.1700000000", "j/joe_abcdef.1700000000",
        "j/joe_abcdef.damaged.1700000000", "j/joe_abcdef.new", "j/joe_abcdef.index.old", "README", "x",
    };
    struct lcbtest t;
    begin(&t, "");
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        put(&t, names[i], MEMBER, 20);
    put(&t, "j/joe_empty1", "", 0);
    put(&t, "quota_legacy", "old things", 10);
    put(&t, "my_backup/notes", MEMBER, 20); /* a directory */
    put(&t, "j/joe_AbCdEf/notes", MEMBER, 20);
    CU_ASSERT_EQUAL(change(&t, "joe", NULL), 0);
    CU_ASSERT_EQUAL(change(&t, "jim", NULL), 0);
    CU_ASSERT(!lcbtest_logged("reconstruct"));
    lcbtest_fini(&t);
}

/* All of it is lost: nobody gets a new backup until it is there again. */
static void test_lost(void)
{
    struct lcbtest t;
    struct buf path = BUF_INITIALIZER;
    char *joe, *now;
    begin(&t, "");
    CU_ASSERT_EQUAL(lcb_strangers(t.store, &path), 0);
    CU_ASSERT_EQUAL(change(&t, "joe", &joe), 0);
    CU_ASSERT_EQUAL(lcb_strangers(t.store, &path), 0);
    for (int empty = 0; empty < 2; empty++) {
        lose(&t, empty ? "joe" : NULL, joe);
        CU_ASSERT_EQUAL(lcb_strangers(t.store, &path), 1);
        CU_ASSERT_STRING_EQUAL(buf_cstring(&path), joe);
        CU_ASSERT_EQUAL(change(&t, "joe", &now), XERR_UNKNOWN);
        CU_ASSERT_EQUAL(change(&t, "jim", &now), XERR_UNKNOWN);
        CU_ASSERT_EQUAL(lcb_create(t.store, "jim", NULL), XERR_UNKNOWN);
        reconstruct(&t);
        CU_ASSERT_EQUAL(change(&t, "joe", &now), 0);
        CU_ASSERT_STRING_EQUAL(now, joe);
        free(now);
    }
    const char *text = "but backups.db is missing or empty; hint: ctl_backups reconstruct";
    const char *said = strstr(lcbtest_log_text(), text);
    CU_ASSERT(said && !strstr(said + 1, text)); /* once a minute */
    CU_ASSERT_EQUAL(change(&t, "jim", NULL), 0);
    free(joe);
    buf_free(&path);
    lcbtest_fini(&t);
}

/* What lies in a directory counts, too, whatever that is called. */
static void test_below(void)
{
    struct lcbtest t;
    begin(&t, "");
    put(&t, "my_backup/j/joe_AbCdEf", MEMBER, 20);
    CU_ASSERT_EQUAL(change(&t, "jim", NULL), XERR_UNKNOWN);
    CU_ASSERT_EQUAL(lcbtest_logged("/my_backup/j/joe_AbCdEf"), 1);
    lcbtest_fini(&t);
}

/* backups.db is older than joe's backup, which lies where a new one could go, or could have gone
 * before the options were changed. */
static void test_older(void)
{
    for (int i = 0; i < 6; i++) {
        static const char *const users[] = {"joe", "a.b@example.org", MBOXNAME_SHARED};
        const char *user = users[i / 2];
        struct lcbtest t;
        char *path, *index, *now;
        char more[1300];
        begin(&t, i % 2 ? "fulldirhash: yes\n" : "");
        CU_ASSERT_EQUAL(change(&t, user, &path), 0);
        CU_ASSERT_EQUAL(change(&t, "jim", NULL), 0);
        lose(&t, user, path);
        /* Another partition is where new ones go now. */
        lcbtest_close(&t);
        config_free(&t.config);
        snprintf(more, sizeof(more), "configdirectory: %s/conf\nbackuppartition-two: %s/two\n"
                 "backuppartition-one: %s/one\npartition_select_exclude: one\nfulldirhash: %s\n"
                 "backup_staging_path: %s/staging\n", t.dir, t.dir, t.dir, i % 2 ? "no" : "yes", t.dir);
        char *conf = xasprintf("%s/imapd.conf", t.dir);
        struct buf err = BUF_INITIALIZER;
        lcbtest_write(conf, more, strlen(more));
        CU_ASSERT_EQUAL_FATAL(config_open(conf, "test", &t.config, &err), 0);
        lcbtest_open(&t, NULL);
        CU_ASSERT_EQUAL(change(&t, user, &now), XERR_UNKNOWN);
        CU_ASSERT_EQUAL(lcbtest_logged("but backups.db does not name it"), 1);
        CU_ASSERT_EQUAL(change(&t, "jim", NULL), 0);
        CU_ASSERT_EQUAL(change(&t, "joey", NULL), 0);
        /* Its beginning has rotted. */
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        CU_ASSERT_EQUAL(pwrite(fd, "xx", 2, 0), 2);
        CU_ASSERT_EQUAL(change(&t, user, &now), XERR_UNKNOWN);
        CU_ASSERT_EQUAL(pwrite(fd, "\x1f\x8b", 2, 0), 2);
        close(fd);
        /* Somebody's after all. */
        struct lcb_db_txn *txn;
        CU_ASSERT_EQUAL_FATAL(lcb_db_begin(lcb_store_db(t.store), &txn), 0);
        CU_ASSERT_EQUAL(lcb_db_txn_set(txn, "somebody", path), 0);
        CU_ASSERT_EQUAL(lcb_db_commit(&txn), 0);
        CU_ASSERT_EQUAL(lcb_may_create(t.store, user), 0);
        CU_ASSERT_EQUAL(lcb_db_remove(lcb_store_db(t.store), "somebody", path), 0);
        CU_ASSERT_EQUAL(lcb_may_create(t.store, user), XERR_UNKNOWN);
        /* Out of the way. */
        index = xasprintf("%s.index", path);
        unlink(index);
        unlink(path);
        CU_ASSERT_EQUAL(change(&t, user, NULL), 0);
        free(index);
        free(path);
        free(conf);
        buf_free(&err);
        lcbtest_fini(&t);
    }
}

/* All users were deleted, or a deletion or a renaming stopped half way. */
static void test_deleted(void)
{
    struct lcbtest t;
    struct lcb_delete how = {.userid = "joe"};
    char *path, *kept, *link_;
    begin(&t, "");
    CU_ASSERT_EQUAL(change(&t, "joe", &path), 0);
    CU_ASSERT_EQUAL(lcb_delete(t.store, &how, &kept), 0);
    CU_ASSERT_EQUAL(lcb_may_create(t.store, "joe"), 0);
    CU_ASSERT_EQUAL(lcb_may_create(t.store, "jim"), 0);
    CU_ASSERT_EQUAL(change(&t, "jim", NULL), 0);
    CU_ASSERT_EQUAL(link(kept, path), 0);
    CU_ASSERT_EQUAL(change(&t, "joe", NULL), 0);
    free(path);
    free(kept);
    CU_ASSERT_EQUAL(change(&t, "ann", &path), 0);
    link_ = xasprintf("%.*s/bob_ABC123", (int)(strrchr(path, '/') - path), path);
    CU_ASSERT_EQUAL(rename(path, link_), 0);
    CU_ASSERT_EQUAL(lcb_db_replace(lcb_store_db(t.store), "ann", path, link_), 0);
    CU_ASSERT_EQUAL(link(link_, path), 0);
    CU_ASSERT_EQUAL(lcb_db_remove(lcb_store_db(t.store), "ann", link_), 0);
    CU_ASSERT_EQUAL(lcb_may_create(t.store, "ann"), XERR_UNKNOWN);
    struct lcb_db_txn *txn;
    CU_ASSERT_EQUAL_FATAL(lcb_db_begin(lcb_store_db(t.store), &txn), 0);
    CU_ASSERT_EQUAL(lcb_db_txn_set(txn, "bob", link_), 0);
    CU_ASSERT_EQUAL(lcb_db_commit(&txn), 0);
    CU_ASSERT_EQUAL(lcb_may_create(t.store, "ann"), 0);
    free(path);
    free(link_);
    lcbtest_fini(&t);
}

/* ---- what it costs ---- */

static struct vfs_ops counting_ops;
static int lists;

static int count_list(struct vfs *v, const char *dir, int (*fn)(void *, const char *), void *rock)
{
    lists++;
    return vfs_system()->ops->list(v, dir, fn, rock);
}

/* Directories read until USER, who was asked about before anything was uploaded, has a backup. */
static int lists_until(struct lcbtest *t, const char *user, int want)
{
    int before = lists;
    CU_ASSERT_EQUAL(change(t, user, NULL), want);
    return lists - before;
}

static void ask(struct lcbtest *t, const char *user)
{
    int before = lists;
    CU_ASSERT_EQUAL(lcb_may_create(t->store, user), 0);
    CU_ASSERT_EQUAL(lists - before, 2); /* of the one partition: by letter, and by both */
}

/* What comes into the directory from now on has another time than the directory. */
static void next_tick(struct lcbtest *t, const char *name)
{
    struct timespec now;
    struct stat st;
    char *dir = xasprintf("%s/one/%s", t->dir, name);
    CU_ASSERT_EQUAL_FATAL(stat(dir, &st), 0);
    do
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
    while (now.tv_sec < st.st_ctim.tv_sec ||
           (now.tv_sec == st.st_ctim.tv_sec && now.tv_nsec <= st.st_ctim.tv_nsec));
    free(dir);
}

/* The directories are read once for each new user, not at each question; but whatever came into them
 * since is seen. */
static void test_once(void)
{
    struct vfs counting = {&counting_ops};
    struct lcbtest t;
    counting_ops = *vfs_system()->ops;
    counting_ops.list = count_list;
    lcbtest_init(&t, "");
    lcbtest_open(&t, &counting);
    CU_ASSERT_EQUAL(change(&t, "joe", NULL), 0);
    ask(&t, "jim");
    int choice = lists_until(&t, "jim", 0); /* where the new one goes is a question, too */
    CU_ASSERT(choice <= 1);
    CU_ASSERT_EQUAL(lists_until(&t, "jane", 0), choice + 2);
    ask(&t, "jill");
    ask(&t, "jack"); /* only the last one is remembered */
    CU_ASSERT_EQUAL(lists_until(&t, "jill", 0), choice + 2);
    /* Another's file in between: they are read again. */
    ask(&t, "june");
    next_tick(&t, "j");
    put(&t, "j/julia_AbCdEf.index", "", 0);
    CU_ASSERT_EQUAL(lists_until(&t, "june", 0), choice + 2);
    /* His own, in a directory that was there, or was not. */
    ask(&t, "jude");
    next_tick(&t, "j");
    put(&t, "j/jude_AbCdEf", MEMBER, 20);
    CU_ASSERT_EQUAL(lists_until(&t, "jude", XERR_UNKNOWN), 2);
    ask(&t, "zoe");
    put(&t, "z/zoe_AbCdEf", MEMBER, 20);
    CU_ASSERT_EQUAL(lists_until(&t, "zoe", XERR_UNKNOWN), 2);
    /* One that was empty when it was seen. */
    put(&t, "k/kim_AbCdEf", "", 0);
    ask(&t, "kim");
    put(&t, "k/kim_AbCdEf", MEMBER, 20);
    CU_ASSERT_EQUAL(lists_until(&t, "kim", XERR_UNKNOWN), 2);
    lcbtest_fini(&t);
}

void suite_lcb_create(void);
void suite_lcb_create(void)
{
    static const struct unit_test tests[] = {
        {"a new installation", test_new},
        {"no backups.db", test_lost},
        {"below a directory", test_below},
        {"an older backups.db", test_older},
        {"deleted and renamed", test_deleted},
        {"directories are read once", test_once},
        {NULL, NULL},
    };
    unit_suite("lcb_create", tests);
}
