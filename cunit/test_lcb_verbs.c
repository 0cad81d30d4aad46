/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of the administrator's verbs one after the other: what one of them leaves, the next one finds,
 * and nobody else's. */
#include "config.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_move.h"
#include "backup/lcb_reconstruct.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static struct lcbtest t;

static void begin(const char *more)
{
    char extra[600];
    snprintf(extra, sizeof(extra), "backuppartition-two: %s-two\npartition_select_exclude: two\n%s",
             unit_tmpdir(), more);
    lcbtest_init(&t, extra);
    lcbtest_open(&t, NULL);
}

static void end(void)
{
    lcbtest_fini(&t);
}

/* One commit in USER's backup: the state N of his inbox. A little time passes. */
static void change(const char *user, unsigned n)
{
    struct lcb *b = NULL;
    const char *records[] = {NULL};
    char *name = xasprintf("user.%s", user), *id = xasprintf("unique-%zu", strlen(user));
    CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, user, LCB_WRITE | LCB_CREATE, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(b, n, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, n, n, ""), records, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_settime(lcbtest_time() + 10);
    free(name);
    free(id);
}

/* Does USER have a backup, and the mailbox in it that change() makes? */
static int is_own(const char *user)
{
    struct lcb *b = NULL;
    struct lcb_folder f;
    struct buf strings = BUF_INITIALIZER;
    char *name = xasprintf("user.%s", user);
    int r = lcb_open(t.store, user, 0, 0, &b);
    if (!r)
        r = lcb_find_name(b, name, &f, &strings);
    lcb_close(&b);
    buf_free(&strings);
    free(name);
    return !r;
}

/* ---- users whose names are alike ---- */

static void delete(const char *user)
{
    struct lcb_delete how = {.userid = user};
    char *kept;
    CU_ASSERT_EQUAL_FATAL(lcb_delete(t.store, &how, &kept), 0);
    CU_ASSERT(!is_own(user));
    free(kept);
}

static int undelete(const char *user)
{
    struct lcb_undelete how = {.userid = user};
    char *path, *replaced;
    int r = lcb_undelete(t.store, &how, &path, &replaced);
    free(path);
    free(replaced);
    return r;
}

struct counted {
    const char *user;
    int n;
};

static int count_his(void *rock, const struct lcb_deleted *d)
{
    struct counted *c = rock;
    c->n += lcb_deleted_is_of(d, c->user);
    return 0;
}

/* Deleted backups of USER. */
static int count_deleted(const char *user)
{
    struct counted c = {user, 0};
    CU_ASSERT_EQUAL(lcb_deleted_foreach(t.store, count_his, &c), 0);
    return c.n;
}

/* The one is called as the other one's file is. */
static void test_alike(void)
{
    static const char *const users[] = {"a%b", "a%25b", "A%b", "a%2525b"};
    begin("");
    change(users[0], 1);
    delete(users[0]);
    for (int i = 1; i < 4; i++) {
        CU_ASSERT_EQUAL(count_deleted(users[i]), 0);
        CU_ASSERT_EQUAL(undelete(users[i]), XERR_NOTFOUND);
        CU_ASSERT(!is_own(users[i]));
    }
    CU_ASSERT_EQUAL(count_deleted(users[0]), 1);
    for (int i = 1; i < 4; i++) {
        change(users[i], (unsigned)i + 1);
        delete(users[i]);
    }
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(count_deleted(users[i]), 1);
        CU_ASSERT_EQUAL(undelete(users[i]), 0);
        CU_ASSERT(is_own(users[i]));
    }
    end();
}

/* Names that are too long for that of a file. */
static void test_long(void)
{
    char users[2][240];
    begin("");
    for (int i = 0; i < 2; i++) {
        memset(users[i], 'j', sizeof(users[i]) - 1);
        users[i][sizeof(users[i]) - 1] = '\0';
        users[i][sizeof(users[i]) - 2] = (char)('a' + i);
        change(users[i], (unsigned)i + 1);
    }
    delete(users[0]);
    CU_ASSERT_EQUAL(count_deleted(users[0]), 1);
    CU_ASSERT_EQUAL(count_deleted(users[1]), 0);
    CU_ASSERT_EQUAL(undelete(users[0]), 0);
    CU_ASSERT(is_own(users[0]));
    CU_ASSERT(is_own(users[1]));
    end();
}

/* ---- what compaction has kept ---- */

/* Files in partition one that compactions of USER's backup have kept. */
static int count_kept(const char *user)
{
    glob_t g;
    char *pattern = xasprintf("%s/one/j/%s_??????.*1[0-9]*", t.dir, user);
    int n = glob(pattern, 0, NULL, &g) ? 0 : (int)g.gl_pathc;
    if (n)
        globfree(&g);
    free(pattern);
    return n;
}

static void compact(const char *user)
{
    struct lcb_compact how = {.userid = user, .force = 1};
    struct lcb_compact_result result;
    memset(&result, 0, sizeof(result));
    CU_ASSERT_EQUAL_FATAL(lcb_compact(t.store, &how, &result), 0);
}

static void count_one(void *rock, const char *path)
{
    (void)path;
    ++*(int *)rock;
}

/* The backup has gone elsewhere; what was kept of it where it was still gets old. */
static void test_moved(void)
{
    struct lcb_moved m;
    begin("backup_keep_previous: yes\nbackup_retention: 1d\n");
    for (unsigned i = 1; i < 4; i++) {
        change("joe", i);
        change("joey", i);
    }
    compact("joe");
    compact("joey");
    int n = count_kept("joe"), others = count_kept("joey"), told = 0;
    int64_t then = lcbtest_time();
    CU_ASSERT(n >= 2 && others >= 2);
    CU_ASSERT_EQUAL_FATAL(lcb_move(t.store, "joe", lcb_partition_named(t.store, "two"), 0, &m), 0);
    CU_ASSERT_EQUAL(count_kept("joe"), n);
    CU_ASSERT_EQUAL(lcb_compact_expire(t.store, "joe", m.path, then - 1, 0, count_one, &told), 0);
    CU_ASSERT_EQUAL(count_kept("joe"), n);
    CU_ASSERT_EQUAL(told, 0);
    CU_ASSERT_EQUAL(lcb_compact_expire(t.store, "joe", m.path, then, 1, count_one, &told), 0);
    CU_ASSERT_EQUAL(count_kept("joe"), n);
    CU_ASSERT_EQUAL(told, n);
    CU_ASSERT_EQUAL(lcb_compact_expire(t.store, "joe", m.path, then, 0, NULL, NULL), 0);
    CU_ASSERT_EQUAL(count_kept("joe"), 0);
    CU_ASSERT_EQUAL(count_kept("joey"), others);
    CU_ASSERT(is_own("joe"));
    CU_ASSERT(is_own("joey"));
    free(m.path);
    end();
}

static int count_strangers(void *rock, const struct lcb_found *f)
{
    *(int *)rock += f->kind == LCB_FOUND_STRANGER;
    return 0;
}

/* What was kept is known for what it is, with the index that cyr_backup -f gives it. */
static void test_kept_known(void)
{
    int n = 0;
    glob_t g;
    struct lcb *b = NULL;
    struct lcb_reconstruct how = {.found = count_strangers, .rock = &n};
    begin("backup_keep_previous: yes\nbackup_retention: 1d\n");
    change("joe", 1);
    change("joe", 2);
    compact("joe");
    char *pattern = xasprintf("%s/one/j/joe_??????.1*", t.dir);
    CU_ASSERT_FATAL(!glob(pattern, 0, NULL, &g) && g.gl_pathc == 1);
    CU_ASSERT_EQUAL(lcb_open_file(t.store, g.gl_pathv[0], 0, 0, &b), 0);
    lcb_close(&b);
    globfree(&g);
    CU_ASSERT(!glob(pattern, 0, NULL, &g) && g.gl_pathc > 1);
    globfree(&g);
    free(pattern);
    CU_ASSERT_EQUAL(lcb_reconstruct(t.store, &how), 0);
    CU_ASSERT_EQUAL(n, 0);
    end();
}

void suite_lcb_verbs(void);
void suite_lcb_verbs(void)
{
    static const struct unit_test tests[] = {
        {"users whose names are alike", test_alike},
        {"names that are too long", test_long},
        {"kept where it was before", test_moved},
        {"what was kept is known", test_kept_known},
        {NULL, NULL},
    };
    unit_suite("lcb_verbs", tests);
}
