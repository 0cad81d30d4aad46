/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of deleting, bringing back, purging and renaming whole backups: what they do, and that a
 * machine that stops at any call leaves the state before or the one after. */
#include "config.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_db.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_hold.h"
#include "backup/lcb_int.h"
#include "backup/lcb_walk.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* ---- a store with one backup ---- */

struct one {
    struct lcbtest t;
    struct buf golden; /* what joe's index says */
    char *path;
};

static void make(struct one *o, const char *extra)
{
    struct lcbtest_history h;
    memset(o, 0, sizeof(*o));
    lcbtest_init(&o->t, extra);
    lcbtest_open(&o->t, NULL);
    lcbtest_start(&h, 5);
    struct lcb *b = lcbtest_joe(&o->t);
    for (int i = 0; i < 6; i++)
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    o->path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(o->path, &o->golden);
    CU_ASSERT(o->golden.len > 100);
}

static void unmake(struct one *o)
{
    free(o->path);
    buf_free(&o->golden);
    lcbtest_fini(&o->t);
}

static int delete_joe(struct lcb_store *s, int now, char **kept)
{
    struct lcb_delete how = {.userid = "joe", .now = now};
    return lcb_delete(s, &how, kept);
}

static int undelete_joe(struct lcb_store *s, int replace, char **path)
{
    struct lcb_undelete how = {.userid = "joe", .replace = replace};
    char *replaced;
    int r = lcb_undelete(s, &how, path, &replaced);
    free(replaced);
    return r;
}

static int count_one(void *rock, const struct lcb_deleted *d)
{
    (void)d;
    ++*(int *)rock;
    return 0;
}

static int deleted_count(struct lcb_store *s)
{
    int n = 0;
    CU_ASSERT_EQUAL(lcb_deleted_foreach(s, count_one, &n), 0);
    return n;
}

/* 1 if USER has a backup, which is then the one that GOLDEN tells of. */
static int is_live(struct one *o, const char *user, const struct buf *golden, const char *what)
{
    struct buf got = BUF_INITIALIZER;
    struct lcb *b = NULL;
    int r = lcb_open(o->t.store, user, LCB_WRITE, 0, &b);
    if (r) {
        CU_ASSERT_EQUAL(r, XERR_NOTFOUND);
        return 0;
    }
    char *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(path, &got);
    CU_ASSERT(lcbtest_same(&got, golden, what));
    buf_free(&got);
    free(path);
    return 1;
}

static int nfiles, nlinks; /* data files below the scratch directory, and those with two names */
static ino_t inode;        /* of the last that is not empty */
static int ninodes;        /* how often it was another one */

static int count_file(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    struct lcb_name n;
    (void)type;
    lcb_name_parse(path + ftw->base, &n);
    if (S_ISREG(sb->st_mode) && (n.kind == LCB_NAME_DATA || n.kind == LCB_NAME_DELETED)) {
        nfiles++;
        nlinks += sb->st_nlink > 1;
        ninodes += sb->st_size && sb->st_ino != inode;
        inode = sb->st_size ? sb->st_ino : inode;
    }
    return 0;
}

static void count_files(struct one *o)
{
    nfiles = nlinks = ninodes = 0;
    inode = 0;
    nftw(o->t.dir, count_file, 16, FTW_PHYS);
}

/* ---- what they do ---- */

static void test_delete(void)
{
    struct one o;
    char *kept, *path;
    make(&o, "");
    CU_ASSERT_EQUAL_FATAL(delete_joe(o.t.store, 0, &kept), 0);
    CU_ASSERT(!strncmp(kept, o.path, strlen(o.path)));
    CU_ASSERT(!strncmp(kept + strlen(o.path), ".deleted.1", 10));
    CU_ASSERT_EQUAL(access(o.path, F_OK), -1);
    CU_ASSERT_EQUAL(access(kept, F_OK), 0);
    CU_ASSERT(!is_live(&o, "joe", &o.golden, ""));
    CU_ASSERT_EQUAL(deleted_count(o.t.store), 1);
    char *index = xasprintf("%s.index", kept);
    CU_ASSERT_EQUAL(access(index, F_OK), 0); /* it followed */
    CU_ASSERT_EQUAL(delete_joe(o.t.store, 0, &path), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(undelete_joe(o.t.store, 0, &path), 0);
    UNIT_STR(path, o.path);
    CU_ASSERT_EQUAL(access(index, F_OK), -1);
    CU_ASSERT(is_live(&o, "joe", &o.golden, "brought back"));
    CU_ASSERT(!lcbtest_logged("rebuilding"));
    free(path);
    CU_ASSERT_EQUAL(undelete_joe(o.t.store, 0, &path), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(deleted_count(o.t.store), 0);
    count_files(&o);
    CU_ASSERT_EQUAL(nfiles, 1);
    free(index);
    free(kept);
    unmake(&o);
}

static void test_delete_now(void)
{
    struct one o;
    char *kept;
    make(&o, "");
    CU_ASSERT_EQUAL(delete_joe(o.t.store, 1, &kept), 0);
    CU_ASSERT_PTR_NULL(kept);
    CU_ASSERT_EQUAL(deleted_count(o.t.store), 0);
    count_files(&o);
    CU_ASSERT_EQUAL(nfiles, 0);
    unmake(&o);
}

static void test_conditions(void)
{
    struct one o;
    struct stat st;
    char *kept;
    struct lcb *b;
    make(&o, "");
    CU_ASSERT_EQUAL(stat(o.path, &st), 0);
    struct lcb_delete how = {.userid = "joe", .only_size = st.st_size + 1};
    CU_ASSERT_EQUAL(lcb_delete(o.t.store, &how, &kept), XERR_STALE); /* it has changed */
    how = (struct lcb_delete){.path = o.path};
    CU_ASSERT_EQUAL(lcb_delete(o.t.store, &how, &kept), XERR_EXISTS); /* it is joe's */
    how = (struct lcb_delete){.userid = "joe"};
    CU_ASSERT_EQUAL(lcb_open(o.t.store, "joe", LCB_WRITE, 0, &b), 0);
    CU_ASSERT_EQUAL(lcb_delete(o.t.store, &how, &kept), XERR_LOCKED);
    lcb_close(&b);
    CU_ASSERT(is_live(&o, "joe", &o.golden, "untouched"));
    count_files(&o);
    CU_ASSERT_EQUAL(nfiles, 1);
    CU_ASSERT_EQUAL(unlink(o.path), 0);
    CU_ASSERT_EQUAL(lcb_delete(o.t.store, &how, &kept), -ENOENT);
    how.forget = 1;
    CU_ASSERT_EQUAL(lcb_delete(o.t.store, &how, &kept), 0);
    CU_ASSERT_EQUAL(lcb_delete(o.t.store, &how, &kept), XERR_NOTFOUND);
    unmake(&o);
}

/* A data file that does not carry its user's name is found again all the same. */
static void test_odd_path(void)
{
    struct one o;
    char *kept, *path;
    make(&o, "");
    char *odd = xasprintf("%s/one/j/backup of joe", o.t.dir);
    CU_ASSERT_EQUAL(rename(o.path, odd), 0);
    CU_ASSERT_EQUAL(lcb_db_replace(lcb_store_db(o.t.store), "joe", o.path, odd), 0);
    CU_ASSERT_EQUAL(delete_joe(o.t.store, 0, &kept), 0);
    CU_ASSERT(strstr(kept, "/one/j/joe_") != NULL);
    CU_ASSERT_EQUAL(access(odd, F_OK), -1);
    CU_ASSERT_EQUAL(undelete_joe(o.t.store, 0, &path), 0);
    CU_ASSERT(is_live(&o, "joe", &o.golden, "brought back"));
    free(path);
    free(kept);
    free(odd);
    unmake(&o);
}

static void test_replace(void)
{
    struct one o;
    struct lcbtest_history h;
    char *kept, *path;
    struct buf other = BUF_INITIALIZER;
    make(&o, "");
    CU_ASSERT_EQUAL(delete_joe(o.t.store, 0, &kept), 0);
    free(kept);
    lcbtest_settime(lcbtest_time() + 100);
    struct lcb *b = lcbtest_joe(&o.t); /* the user comes again */
    lcbtest_start(&h, 9);
    CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    char *second = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(second, &other);
    CU_ASSERT_EQUAL(undelete_joe(o.t.store, 0, &path), XERR_EXISTS);
    UNIT_STR(path, second);
    free(path);
    CU_ASSERT(is_live(&o, "joe", &other, "the second"));
    CU_ASSERT_EQUAL(undelete_joe(o.t.store, 1, &path), 0);
    UNIT_STR(path, o.path);
    free(path);
    CU_ASSERT(is_live(&o, "joe", &o.golden, "the first again"));
    CU_ASSERT_EQUAL(deleted_count(o.t.store), 1);
    CU_ASSERT_EQUAL(undelete_joe(o.t.store, 1, &path), 0);
    free(path);
    CU_ASSERT(is_live(&o, "joe", &other, "the second again"));
    free(second);
    buf_free(&other);
    unmake(&o);
}

static void test_purge(void)
{
    struct one o;
    char *kept, *path;
    int gone = 0;
    make(&o, "backup_delete_delay: 2d\n");
    CU_ASSERT_EQUAL(delete_joe(o.t.store, 0, &kept), 0);
    int64_t then = lcbtest_time();
    CU_ASSERT_EQUAL(lcb_deleted_purge(o.t.store, then + 2 * 86400 - 1, count_one, &gone), 0);
    CU_ASSERT_EQUAL(gone, 0);
    CU_ASSERT_EQUAL(access(kept, F_OK), 0);
    struct lcb_hold *h;
    CU_ASSERT_EQUAL(lcb_hold_file(o.t.store, kept, 0, &h), 0); /* somebody is bringing it back */
    CU_ASSERT_EQUAL(lcb_deleted_purge(o.t.store, then + 2 * 86400, count_one, &gone), 0);
    CU_ASSERT_EQUAL(gone, 0);
    lcb_hold_end(&h);
    CU_ASSERT_EQUAL(lcb_deleted_purge(o.t.store, then + 2 * 86400, count_one, &gone), 0);
    CU_ASSERT_EQUAL(gone, 1);
    CU_ASSERT_EQUAL(access(kept, F_OK), -1);
    CU_ASSERT_EQUAL(undelete_joe(o.t.store, 0, &path), XERR_NOTFOUND);
    count_files(&o);
    CU_ASSERT_EQUAL(nfiles, 0);
    free(kept);
    unmake(&o);
    make(&o, "backup_delete_delay: 0\n"); /* never by itself */
    CU_ASSERT_EQUAL(delete_joe(o.t.store, 0, &kept), 0);
    CU_ASSERT_EQUAL(lcb_deleted_purge(o.t.store, then + 9999 * 86400LL, NULL, NULL), 0);
    CU_ASSERT_EQUAL(access(kept, F_OK), 0);
    free(kept);
    unmake(&o);
}

/* An index with changes beside it that somebody reads cannot follow. */
static void test_reader(void)
{
    struct one o;
    struct lcb *b = NULL, *w;
    char *kept, *path;
    make(&o, "");
    w = lcbtest_joe(&o.t); /* the index gets its WAL */
    CU_ASSERT_EQUAL(lcbtest_log(w, "SUB", "%(USERID joe MBOXNAME user.joe.x)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(w), 0);
    lcb_close(&w);
    CU_ASSERT_EQUAL_FATAL(lcb_open(o.t.store, "joe", 0, 0, &b), 0);
    CU_ASSERT_EQUAL(lcb_snapshot(b), 0);
    w = lcbtest_joe(&o.t);
    CU_ASSERT_EQUAL(lcbtest_log(w, "UNSUB", "%(USERID joe MBOXNAME user.joe.x)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(w), 0);
    lcb_close(&w);
    buf_reset(&o.golden);
    lcbtest_dump(o.path, &o.golden);
    CU_ASSERT_EQUAL(delete_joe(o.t.store, 0, &kept), 0);
    CU_ASSERT(lcb_has_content(b, &(struct message_guid){{1}}, NULL) == 0); /* he goes on reading */
    lcb_close(&b);
    CU_ASSERT_EQUAL(undelete_joe(o.t.store, 0, &path), 0);
    CU_ASSERT(is_live(&o, "joe", &o.golden, "brought back"));
    free(path);
    free(kept);
    unmake(&o);
}

/* ---- crashes ---- */

static void check_tidy(struct one *o, int files)
{
    CU_ASSERT_EQUAL(lcb_deleted_purge(o->t.store, 0, NULL, NULL), 0);
    count_files(o);
    CU_ASSERT_EQUAL(nlinks, 0);
    CU_ASSERT_EQUAL(nfiles, files);
}

struct crash_case {
    const char *name;
    void (*before)(struct one *);
    int (*run)(struct lcb_store *);
    void (*after)(struct one *, const char *what, int *old);
};

static int run_delete(struct lcb_store *s)
{
    char *kept;
    int r = delete_joe(s, 0, &kept);
    free(kept);
    return r;
}

static int undelete_free(struct lcb_store *s, int replace)
{
    char *path;
    int r = undelete_joe(s, replace, &path);
    free(path);
    return r;
}

static int run_undelete(struct lcb_store *s)
{
    return undelete_free(s, 0);
}

static void after_delete(struct one *o, const char *what, int *old)
{
    *old = is_live(o, "joe", &o->golden, what);
    CU_ASSERT_EQUAL(deleted_count(o->t.store), !*old);
    check_tidy(o, 1);
    if (*old)
        CU_ASSERT_EQUAL(run_delete(o->t.store), 0);
    CU_ASSERT(!is_live(o, "joe", &o->golden, what));
    CU_ASSERT_EQUAL(deleted_count(o->t.store), 1);
    CU_ASSERT_EQUAL(run_undelete(o->t.store), 0);
    CU_ASSERT(is_live(o, "joe", &o->golden, what));
    check_tidy(o, 1);
}

static int run_delete_now(struct lcb_store *s)
{
    return delete_joe(s, 1, &(char *){NULL});
}

static void after_delete_now(struct one *o, const char *what, int *old)
{
    *old = is_live(o, "joe", &o->golden, what);
    if (*old) {
        check_tidy(o, 1);
        CU_ASSERT_EQUAL(run_delete_now(o->t.store), 0);
    }
    CU_ASSERT_EQUAL(lcb_deleted_purge(o->t.store, INT64_MAX, NULL, NULL), 0);
    count_files(o);
    CU_ASSERT_EQUAL(nfiles, 0);
}

static void before_undelete(struct one *o)
{
    CU_ASSERT_EQUAL(run_delete(o->t.store), 0);
}

static void after_undelete(struct one *o, const char *what, int *old)
{
    *old = !is_live(o, "joe", &o->golden, what);
    CU_ASSERT_EQUAL(deleted_count(o->t.store), *old);
    if (*old)
        CU_ASSERT_EQUAL(run_undelete(o->t.store), 0);
    CU_ASSERT(is_live(o, "joe", &o->golden, what));
    check_tidy(o, 1);
}

/* A deleted backup and another one, which is to make room. */
static void before_replace(struct one *o)
{
    CU_ASSERT_EQUAL(run_delete(o->t.store), 0);
    lcbtest_settime(lcbtest_time() + 10);
    struct lcb *b = lcbtest_joe(&o->t);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe.second)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_settime(lcbtest_time() + 10);
}

static int run_replace(struct lcb_store *s)
{
    return undelete_free(s, 1);
}

static void after_replace(struct one *o, const char *what, int *old)
{
    struct buf got = BUF_INITIALIZER;
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(o->t.store, "joe", LCB_WRITE, 0, &b), 0);
    char *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(path, &got);
    free(path);
    *old = strstr(buf_cstring(&got), "user.joe.second") != NULL;
    buf_free(&got);
    CU_ASSERT_EQUAL(deleted_count(o->t.store), 1);
    if (*old)
        CU_ASSERT_EQUAL(run_replace(o->t.store), 0);
    CU_ASSERT(is_live(o, "joe", &o->golden, what));
    check_tidy(o, 2);
    CU_ASSERT_EQUAL(deleted_count(o->t.store), 1);
}

static int run_purge(struct lcb_store *s)
{
    return lcb_deleted_purge(s, INT64_MAX, NULL, NULL);
}

static void after_purge(struct one *o, const char *what, int *old)
{
    char *path;
    *old = !undelete_joe(o->t.store, 0, &path);
    if (*old) {
        free(path);
        CU_ASSERT(is_live(o, "joe", &o->golden, what));
        CU_ASSERT_EQUAL(run_delete(o->t.store), 0);
    }
    CU_ASSERT_EQUAL(run_purge(o->t.store), 0);
    count_files(o);
    CU_ASSERT_EQUAL(nfiles, 0);
}

static int run_rename(struct lcb_store *s)
{
    char *path;
    int r = lcb_rename_user(s, "joe", "jane.doe@example.org", 0, &path);
    free(path);
    return r;
}

/* What the index says after the renaming; the golden text of an undisturbed run. */
static void renamed_text(struct one *o, struct buf *text)
{
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(o->t.store, "jane.doe@example.org", LCB_WRITE, 0, &b), 0);
    char *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(path, text);
    free(path);
}

static void after_rename(struct one *o, const char *what, int *old)
{
    struct buf got = BUF_INITIALIZER;
    struct lcb *b = NULL;
    int r = lcb_open(o->t.store, "joe", LCB_WRITE, 0, &b);
    lcb_close(&b);
    *old = !r;
    if (*old)
        CU_ASSERT_EQUAL(run_rename(o->t.store), 0);
    CU_ASSERT(!is_live(o, "joe", &o->golden, what));
    renamed_text(o, &got);
    CU_ASSERT(strstr(buf_cstring(&got), "example.org!user.jane^doe") != NULL);
    buf_free(&got);
    count_files(o);
    CU_ASSERT_EQUAL(ninodes, 1); /* of a crash, another name of it may be left, or an empty file */
}

static long crash_at(const struct crash_case *c, long k, enum vfs_settle how, unsigned seed)
{
    struct one o;
    char what[100];
    int old = 0;
    make(&o, "backup_delete_delay: 1d\n");
    if (c->before)
        c->before(&o);
    lcbtest_close(&o.t);
    struct vfs *v = vfs_crash_new(o.t.dir, k);
    lcbtest_open(&o.t, v);
    int r = c->run(o.t.store);
    CU_ASSERT(k > 0 || !r);
    lcbtest_close(&o.t);
    long calls = vfs_fault_calls(v);
    CU_ASSERT(k > 0 || !vfs_fault_happened(v)); /* a change of backups.db may take fewer calls */
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    snprintf(what, sizeof(what), "%s: call %ld, settled %d/%u", c->name, k, (int)how, seed);
    lcbtest_open(&o.t, NULL);
    c->after(&o, what, &old);
    if (!r)
        CU_ASSERT(!old); /* what was said to be done is done */
    unmake(&o);
    return calls;
}

static void every_crash(const struct crash_case *c)
{
    long calls = crash_at(c, 0, VFS_SETTLE_KEPT, 0);
    CU_ASSERT(calls > 5);
    for (long k = 1; k <= calls; k++) {
        crash_at(c, k, VFS_SETTLE_LOST, 0);
        crash_at(c, k, VFS_SETTLE_KEPT, 0);
        for (unsigned torn = 1; torn <= 3; torn++)
            crash_at(c, k, VFS_SETTLE_TORN, (unsigned)k * 10 + torn);
    }
}

enum { DELETE, DELETE_NOW, UNDELETE, REPLACE, PURGE, RENAME, CASES };
static const struct crash_case cases[CASES] = {
    {"delete", NULL, run_delete, after_delete},
    {"delete --now", NULL, run_delete_now, after_delete_now},
    {"undelete", before_undelete, run_undelete, after_undelete},
    {"undelete -F", before_replace, run_replace, after_replace},
    {"purge", before_undelete, run_purge, after_purge},
    {"rename", NULL, run_rename, after_rename},
};

static void test_crash_delete(void)
{
    every_crash(&cases[DELETE]);
}

static void test_crash_now(void)
{
    every_crash(&cases[DELETE_NOW]);
}

static void test_crash_undelete(void)
{
    every_crash(&cases[UNDELETE]);
}

static void test_crash_replace(void)
{
    every_crash(&cases[REPLACE]);
}

static void test_crash_purge(void)
{
    every_crash(&cases[PURGE]);
}

static void test_crash_rename(void)
{
    every_crash(&cases[RENAME]);
}

/* ---- failures ---- */

/* The K-th call fails, once or with all that follow: the state is the old or the new one at once. The
 * calls of the opening are not tried. */
static void fail_each(const struct crash_case *c, int mask, int error, int forever)
{
    long calls = 1, opening = 0;
    for (long k = 0; k <= calls; k = k ? k + 1 : opening + 1) {
        struct one o;
        char what[100];
        int old = 0;
        make(&o, "backup_delete_delay: 1d\n");
        if (c->before)
            c->before(&o);
        lcbtest_close(&o.t);
        struct vfs *v = vfs_fail_new(mask, k, error, forever);
        lcbtest_open(&o.t, v);
        opening = k ? opening : vfs_fault_calls(v);
        int r = c->run(o.t.store);
        CU_ASSERT(k > 0 || !r);
        lcbtest_close(&o.t);
        calls = k ? calls : vfs_fault_calls(v);
        vfs_fault_free(&v);
        snprintf(what, sizeof(what), "%s: call %ld fails", c->name, k);
        lcbtest_open(&o.t, NULL);
        c->after(&o, what, &old);
        CU_ASSERT(r || !old);
        unmake(&o);
    }
    CU_ASSERT(calls > opening);
}

static void test_fail(void)
{
    for (int i = 0; i < CASES; i++) {
        fail_each(&cases[i], VFS_FAULT_WRITES, ENOSPC, 1);
        fail_each(&cases[i], VFS_FAULT_ALL, EIO, 0);
    }
}

/* A file system without hard links. */
static int no_link(struct vfs *v, const char *from, const char *to)
{
    (void)v;
    (void)from;
    (void)to;
    return -EPERM;
}

static void test_no_links(void)
{
    struct vfs_ops ops = *vfs_system()->ops;
    struct vfs v = {&ops};
    struct one o;
    struct buf text = BUF_INITIALIZER;
    ops.link = no_link;
    make(&o, "");
    lcbtest_close(&o.t);
    lcbtest_open(&o.t, &v);
    CU_ASSERT_EQUAL(run_delete(o.t.store), 0);
    CU_ASSERT_EQUAL(deleted_count(o.t.store), 1);
    CU_ASSERT_EQUAL(run_undelete(o.t.store), 0);
    CU_ASSERT(is_live(&o, "joe", &o.golden, "brought back"));
    before_replace(&o);
    CU_ASSERT_EQUAL(run_replace(o.t.store), 0);
    CU_ASSERT(is_live(&o, "joe", &o.golden, "brought back"));
    CU_ASSERT_EQUAL(deleted_count(o.t.store), 1);
    CU_ASSERT_EQUAL(run_rename(o.t.store), 0);
    renamed_text(&o, &text);
    CU_ASSERT(strstr(buf_cstring(&text), "example.org!user.jane^doe") != NULL);
    buf_free(&text);
    check_tidy(&o, 2);
    unmake(&o);
}

static void test_rename(void)
{
    struct one o;
    struct buf is = BUF_INITIALIZER;
    char *path;
    make(&o, "");
    CU_ASSERT_EQUAL(lcb_rename_user(o.t.store, "nobody", "x", 0, &path), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_rename_user(o.t.store, "joe", "joe", 0, &path), XERR_PARAM);
    CU_ASSERT_EQUAL(lcb_rename_user(o.t.store, "joe", "a/b", 0, &path), XERR_PARAM);
    CU_ASSERT_EQUAL(lcb_rename_user(o.t.store, "joe", "%SHARED", 0, &path), XERR_PARAM);
    lcbtest_settime(lcbtest_time() + 50);
    CU_ASSERT_EQUAL_FATAL(lcb_rename_user(o.t.store, "joe@internal", "jane", 0, &path), 0);
    CU_ASSERT(strstr(path, "/j/jane_") != NULL);
    CU_ASSERT(!is_live(&o, "joe", &o.golden, ""));
    lcbtest_dump(path, &is);
    CU_ASSERT(strstr(buf_cstring(&is), "user.jane") != NULL);
    lcbtest_compare(&o.t, path, "renamed"); /* the data file says the same */
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM folder_states WHERE until IS NULL AND"
                                      " (mboxname='user.joe' OR mboxname LIKE 'user.joe.%')"), 0);
    CU_ASSERT(lcbtest_int(path, "SELECT count(*) FROM folder_states WHERE until IS NULL AND"
                                " (mboxname='user.jane' OR mboxname LIKE 'user.jane.%')") > 0);
    struct lcb *b = lcbtest_joe(&o.t); /* somebody else is called so now */
    lcb_close(&b);
    char *second;
    CU_ASSERT_EQUAL(lcb_rename_user(o.t.store, "joe", "jane", 0, &second), XERR_EXISTS);
    CU_ASSERT_PTR_NULL(second);
    count_files(&o);
    CU_ASSERT_EQUAL(nfiles, 2);
    free(path);
    buf_free(&is);
    unmake(&o);
}

void suite_lcb_delete(void);
void suite_lcb_delete(void)
{
    static const struct unit_test tests[] = {
        {"delete and bring back", test_delete},
        {"delete for good", test_delete_now},
        {"conditions", test_conditions},
        {"odd path", test_odd_path},
        {"replace", test_replace},
        {"purge", test_purge},
        {"a reader is there", test_reader},
        {"every crash: delete", test_crash_delete},
        {"every crash: delete --now", test_crash_now},
        {"every crash: undelete", test_crash_undelete},
        {"every crash: undelete -F", test_crash_replace},
        {"every crash: purge", test_crash_purge},
        {"every crash: rename", test_crash_rename},
        {"every failure", test_fail},
        {"no hard links", test_no_links},
        {"rename", test_rename},
        {NULL, NULL},
    };
    unit_suite("lcb_delete", tests);
}
