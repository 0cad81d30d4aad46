/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of the switch to a new pair of files: whatever happens on the way, the backup is the old pair
 * or the new one, nothing that was acknowledged is missing, and in the end nothing is left over. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_compare.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_switch.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* What happens on the way from begin to commit. */
enum { DIR_OTHER = 1, NEW_ID = 2, KEEP = 4, IN_PLACE = 8, APPEND = 16, APPEND_MUCH = 32 };

/* More than is copied under the lock. */
static int append_much(struct lcbtest *t)
{
    struct lcb *b = NULL;
    int r = lcb_open(t->store, "joe", LCB_WRITE, 0, &b);
    for (unsigned i = 0; !r && i < 2; i++)
        r = lcbtest_upload(b, 1000000 + i, 1);
    if (!r)
        r = lcb_commit(b);
    lcb_close(&b);
    return r;
}

/* One run. FILE: for IN_PLACE. REACHED: how often steps were appended on the way. */
static int one_switch(struct lcbtest *t, struct lcbtest_history *h, int what, const char *file,
                      int *reached)
{
    char *dir = xasprintf("%s/two/j", t->dir);
    struct lcb_switch_how how = {
        .userid = what & IN_PLACE ? NULL : "joe",
        .dir = what & DIR_OTHER ? dir : NULL,
        .same_id = !(what & (NEW_ID | IN_PLACE)),
        .keep_previous = (what & KEEP) != 0,
        .path = file,
    };
    struct lcb_switch *s = NULL;
    int r = lcb_switch_begin(t->store, &how, &s);
    if (!r)
        r = lcb_switch_create(s);
    if (!r)
        r = how.same_id ? lcb_switch_copy(s) : lcb_switch_members(s, 0, s->point.end);
    if (!r && what & APPEND && (r = lcbtest_steps(t, h, 6, 10)) == 0 && reached)
        *reached = 1;
    if (!r)
        r = lcb_switch_replay(s);
    if (!r && how.same_id) {
        struct lcb_compare c = {.old = s->old->index, .new_ = s->made->index,
                                .to = LCB_POS(s->point.seq + 1, 0) - 1};
        r = lcb_compare(&c) ? XERR_FORMAT : 0;
    }
    if (!r && what & APPEND_MUCH)
        r = append_much(t);
    if (!r && what & APPEND && (r = lcbtest_steps(t, h, 6, 10)) == 0 && reached)
        *reached = 2;
    if (!r)
        r = lcb_switch_lock(s, 0);
    if (!r)
        r = lcb_switch_commit(s);
    lcb_switch_end(&s);
    free(dir);
    return r;
}

/* Files of the store, but what SQLite keeps beside an index; their number, and names in LIST. */
static int count_files(struct lcbtest *t, struct buf *list)
{
    static const char *const dirs[] = {"one/j", "two/j", NULL};
    char path[400];
    int n = 0;
    buf_reset(list);
    for (int i = 0; dirs[i]; i++) {
        snprintf(path, sizeof(path), "%s/%s", t->dir, dirs[i]);
        DIR *d = opendir(path);
        for (struct dirent *e; d && (e = readdir(d));)
            if (e->d_name[0] != '.' && !strstr(e->d_name, "-wal") &&
                !strstr(e->d_name, "-shm") && !strstr(e->d_name, ".tail.")) {
                buf_printf(list, "%s/%s\n", dirs[i], e->d_name);
                n++;
            }
        if (d)
            closedir(d);
    }
    return n;
}

static void expect_files(struct lcbtest *t, int n, const char *what)
{
    struct buf list = BUF_INITIALIZER;
    int got = count_files(t, &list);
    if (got != n)
        printf("\n%s: %d files instead of %d:\n%s%s", what, got, n, buf_cstring(&list),
               lcbtest_log_text());
    CU_ASSERT_EQUAL(got, n);
    buf_free(&list);
}

static void say(struct lcbtest *t, struct buf *out)
{
    struct lcb *b = lcbtest_joe(t);
    lcbtest_dump(lcb_path(b), out);
    lcb_close(&b);
}

static void one_case(int what)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct buf before = BUF_INITIALIZER, after = BUF_INITIALIZER;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    lcbtest_start(&h, 5);
    CU_ASSERT_EQUAL_FATAL(lcbtest_steps(&t, &h, 40, 10), 0);
    char *was = lcbtest_path(&t);
    say(&t, &before);
    int r = one_switch(&t, &h, what, was, NULL);
    if (r)
        printf("\n%d: %d %s\n%s", what, r, error_message(r), lcbtest_log_text());
    CU_ASSERT_EQUAL_FATAL(r, 0);
    char *is = lcbtest_path(&t);
    CU_ASSERT_EQUAL(!strcmp(was, is), (what & IN_PLACE) != 0);
    CU_ASSERT_EQUAL(strstr(is, "/two/j/joe_") != NULL, (what & DIR_OTHER) != 0);
    CU_ASSERT_EQUAL(access(was, F_OK) == 0, (what & IN_PLACE) != 0);
    expect_files(&t, what & KEEP ? 4 : 2, "after the switch");
    say(&t, &after);
    if (!(what & (APPEND | APPEND_MUCH)))
        CU_ASSERT(lcbtest_same(&after, &before, "after the switch"));
    lcbtest_compare(&t, is, "rebuilt after the switch");
    CU_ASSERT_EQUAL(lcbtest_steps(&t, &h, 10, 10), 0);
    lcbtest_compare(&t, is, "rebuilt after more");
    CU_ASSERT(!lcbtest_logged("cannot be understood"));
    free(was);
    free(is);
    buf_free(&before);
    buf_free(&after);
    lcbtest_fini(&t);
}

static void test_switch(void)
{
    one_case(0);
    one_case(DIR_OTHER);
    one_case(NEW_ID);
    one_case(NEW_ID | KEEP);
    one_case(IN_PLACE);
    one_case(IN_PLACE | KEEP);
}

static void test_append(void)
{
    one_case(APPEND | APPEND_MUCH);
    one_case(APPEND | DIR_OTHER | KEEP);
    one_case(APPEND | NEW_ID);
    one_case(APPEND | APPEND_MUCH | NEW_ID | IN_PLACE);
}

/* What was appended meanwhile is the same as without a switch. */
static void test_same_history(void)
{
    struct buf dump[2] = {BUF_INITIALIZER, BUF_INITIALIZER};
    for (int i = 0; i < 2; i++) {
        struct lcbtest t;
        struct lcbtest_history h;
        lcbtest_init(&t, "");
        lcbtest_open(&t, NULL);
        lcbtest_start(&h, 6);
        CU_ASSERT_EQUAL_FATAL(lcbtest_steps(&t, &h, 30, 10), 0);
        if (i) {
            CU_ASSERT_EQUAL_FATAL(one_switch(&t, &h, APPEND, NULL, NULL), 0);
        } else {
            CU_ASSERT_EQUAL(lcbtest_steps(&t, &h, 6, 10), 0);
            CU_ASSERT_EQUAL(lcbtest_steps(&t, &h, 6, 10), 0);
        }
        say(&t, &dump[i]);
        lcbtest_fini(&t);
    }
    CU_ASSERT(lcbtest_same(&dump[1], &dump[0], "with a switch in between"));
    buf_free(&dump[0]);
    buf_free(&dump[1]);
}

/* Marks, and meta that a rebuild would not know. */
static void test_marks(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    lcbtest_start(&h, 5);
    CU_ASSERT_EQUAL_FATAL(lcbtest_steps(&t, &h, 40, 10), 0);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b));
    CU_ASSERT_EQUAL(sqldb_exec(b->index->db, "UPDATE folders SET mark=id%3"), 0);
    CU_ASSERT_EQUAL(lcb_index_commit(b->index), 0);
    lcb_close(&b);
    int64_t sum = lcbtest_int(path, "SELECT sum(mark*length(uniqueid||id)) FROM folders");
    CU_ASSERT(sum > 0);
    CU_ASSERT_EQUAL(one_switch(&t, &h, NEW_ID, NULL, NULL), 0);
    free(path);
    path = lcbtest_path(&t);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT sum(mark*length(uniqueid||id)) FROM folders"), sum);
    free(path);
    lcbtest_fini(&t);
}

static void test_locked(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct lcb_switch *s = NULL, *other = NULL;
    struct lcb_switch_how how = {.userid = "joe", .same_id = 1};
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    CU_ASSERT_EQUAL(lcb_switch_begin(t.store, &how, &s), XERR_NOTFOUND);
    lcbtest_start(&h, 5);
    CU_ASSERT_EQUAL_FATAL(lcbtest_steps(&t, &h, 10, 10), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_switch_begin(t.store, &how, &s), 0);
    CU_ASSERT_EQUAL(lcb_switch_begin(t.store, &how, &other), XERR_LOCKED);
    CU_ASSERT_EQUAL(lcbtest_steps(&t, &h, 10, 10), 0); /* writers do not mind */
    CU_ASSERT_EQUAL(lcb_switch_create(s), 0);
    CU_ASSERT_EQUAL(lcb_switch_copy(s), 0);
    CU_ASSERT_EQUAL(lcb_switch_replay(s), 0);
    struct lcb *b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcb_switch_lock(s, 0), XERR_LOCKED);
    lcb_close(&b);
    expect_files(&t, 4, "in the middle");
    lcb_switch_end(&s);
    expect_files(&t, 2, "given up");
    CU_ASSERT_EQUAL(one_switch(&t, &h, 0, NULL, NULL), 0);
    lcbtest_fini(&t);
}

/* A writer and a reader that looked up the old path find the new one. */
static void test_waiting(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct lcb *reader = NULL;
    struct buf before = BUF_INITIALIZER, after = BUF_INITIALIZER;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    lcbtest_start(&h, 5);
    CU_ASSERT_EQUAL_FATAL(lcbtest_steps(&t, &h, 10, 10), 0);
    say(&t, &before);
    CU_ASSERT_EQUAL(lcb_open(t.store, "joe", 0, 0, &reader), 0);
    CU_ASSERT_EQUAL(one_switch(&t, &h, NEW_ID, NULL, NULL), 0);
    /* Who has it open reads on. */
    int64_t pos = lcb_time(reader, LCB_POS(1, 1));
    CU_ASSERT(pos > 0);
    lcb_close(&reader);
    say(&t, &after);
    CU_ASSERT(lcbtest_same(&after, &before, "after"));
    buf_free(&before);
    buf_free(&after);
    lcbtest_fini(&t);
}

/* What only looks like a leftover stays. */
static void test_strangers(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct buf data = BUF_INITIALIZER;
    char name[5][400];
    static const char *const names[] = {"joe_abcdef", "joe_abcdeg.index", "joe_x_abcdef.new",
                                        "joe_abcdefg.new", "joe_abcdeh.tail.5"};
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    lcbtest_start(&h, 5);
    CU_ASSERT_EQUAL_FATAL(lcbtest_steps(&t, &h, 10, 10), 0);
    char *path = lcbtest_path(&t);
    lcbtest_read(path, &data);
    for (int i = 0; i < 5; i++) {
        snprintf(name[i], sizeof(name[i]), "%s/one/j/%s", t.dir, names[i]);
        lcbtest_write(name[i], data.s, data.len);
    }
    CU_ASSERT_EQUAL(one_switch(&t, &h, NEW_ID, NULL, NULL), 0);
    for (int i = 0; i < 5; i++)
        CU_ASSERT_EQUAL(access(name[i], F_OK), 0);
    CU_ASSERT(lcbtest_logged("joe_abcdef: looks like a backup of joe"));
    free(path);
    buf_free(&data);
    lcbtest_fini(&t);
}

/* ---- crashes and failures ---- */

static const int what_crash[] = {APPEND | NEW_ID, APPEND | DIR_OTHER | KEEP, IN_PLACE};

struct golden {
    struct buf dump[3]; /* nothing, six steps, twelve appended on the way */
    long calls;
};

static char *prepare(struct lcbtest *t, struct lcbtest_history *h)
{
    lcbtest_init(t, "");
    lcbtest_open(t, NULL);
    lcbtest_start(h, 8);
    CU_ASSERT_EQUAL_FATAL(lcbtest_steps(t, h, 12, 10), 0);
    char *path = lcbtest_path(t);
    lcbtest_close(t);
    return path;
}

static void make_golden(struct golden *g)
{
    for (int i = 0; i < 3; i++) {
        struct lcbtest t;
        struct lcbtest_history h;
        free(prepare(&t, &h));
        lcbtest_open(&t, NULL);
        for (int j = 0; j < i; j++)
            CU_ASSERT_EQUAL(lcbtest_steps(&t, &h, 6, 10), 0);
        say(&t, &g->dump[i]);
        lcbtest_fini(&t);
    }
}

/* After the reboot: what was acknowledged is there, and the next run leaves nothing behind. */
static void after(struct lcbtest *t, const struct golden *g, int what, int reached, const char *file,
                  const char *text)
{
    struct buf got = BUF_INITIALIZER;
    struct lcbtest_history h;
    lcbtest_open(t, NULL);
    say(t, &got);
    int more = reached < 2 && !buf_cmp(&got, &g->dump[reached + 1]);
    if (!lcbtest_same(&got, &g->dump[reached + more], text))
        printf("%s", lcbtest_log_text());
    CU_ASSERT_FATAL(!buf_cmp(&got, &g->dump[reached + more]));
    lcbtest_start(&h, 9);
    int r = one_switch(t, &h, what & ~APPEND, file, NULL);
    if (r)
        printf("\n%s: again: %s\n%s", text, error_message(r), lcbtest_log_text());
    CU_ASSERT_EQUAL(r, 0);
    say(t, &got);
    CU_ASSERT(lcbtest_same(&got, &g->dump[reached + more], text));
    char *path = lcbtest_path(t);
    lcbtest_compare(t, path, text);
    free(path);
    if (!(what & KEEP))
        expect_files(t, 2, text);
    buf_free(&got);
}

static long crash_at(const struct golden *g, int what, long k, enum vfs_settle how, unsigned seed)
{
    struct lcbtest t;
    struct lcbtest_history h;
    char text[120];
    int reached = 0;
    char *path = prepare(&t, &h);
    struct vfs *v = vfs_crash_new(t.dir, k);
    lcbtest_open(&t, v);
    int r = one_switch(&t, &h, what, path, &reached);
    CU_ASSERT(r < 0 || !k || reached == 2); /* only the removing failed */
    lcbtest_close(&t);
    long calls = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    snprintf(text, sizeof(text), "case %d, call %ld, settled %d/%u", what, k, (int)how, seed);
    after(&t, g, what, reached, path, text);
    free(path);
    lcbtest_fini(&t);
    return calls;
}

static void every_crash(int what)
{
    struct golden g = {.calls = 0};
    make_golden(&g);
    g.calls = crash_at(&g, what, 0, VFS_SETTLE_LOST, 0);
    CU_ASSERT(g.calls > 15);
    for (long k = 1; k <= g.calls; k++) {
        crash_at(&g, what, k, VFS_SETTLE_LOST, 0);
        crash_at(&g, what, k, VFS_SETTLE_KEPT, 0);
        crash_at(&g, what, k, VFS_SETTLE_TORN, (unsigned)k * 10 + 1);
    }
    for (int i = 0; i < 3; i++)
        buf_free(&g.dump[i]);
}

static void test_crash(void)
{
    for (size_t i = 0; i < sizeof(what_crash) / sizeof(*what_crash); i++)
        every_crash(what_crash[i]);
}

/* The backup is deleted, or given to another user, before anything else could clear up: nothing is left
 * that reconstruct would take for a backup. */
static long gone_after_crash(long k, int rename_it)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct buf stranger = BUF_INITIALIZER;
    struct lcb_delete how = {.userid = "joe"};
    char *path = prepare(&t, &h), *kept = NULL;
    struct vfs *v = vfs_crash_new(t.dir, k);
    lcbtest_open(&t, v);
    (void)one_switch(&t, &h, NEW_ID, path, NULL);
    lcbtest_close(&t);
    long calls = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, VFS_SETTLE_KEPT, 0), 0);
    vfs_fault_free(&v);
    lcbtest_open(&t, NULL);
    int r = rename_it ? lcb_rename_user(t.store, "joe", "jim", 0, &kept)
                      : lcb_delete(t.store, &how, &kept);
    CU_ASSERT_EQUAL(r, 0);
    CU_ASSERT_EQUAL(lcb_may_create(t.store, "joe"), 0);
    r = lcb_strangers(t.store, &stranger);
    if (r)
        printf("\ncall %ld: %s is left\n%s", k, buf_cstring(&stranger), lcbtest_log_text());
    CU_ASSERT_EQUAL(r, 0);
    CU_ASSERT_EQUAL(access(kept, F_OK), 0);
    free(kept);
    free(path);
    buf_free(&stranger);
    lcbtest_fini(&t);
    return calls;
}

static void test_gone_after_crash(void)
{
    long calls = gone_after_crash(0, 0);
    CU_ASSERT(calls > 15);
    for (long k = 1; k <= calls; k++) {
        gone_after_crash(k, 0);
        gone_after_crash(k, 1);
    }
}

/* Call K fails. With K 0: how many calls it takes to open the store. */
static long fail_at(const struct golden *g, int what, int mask, long k, int error, int forever)
{
    struct lcbtest t;
    struct lcbtest_history h;
    char text[120];
    int reached = 0;
    char *path = prepare(&t, &h);
    struct vfs *v = vfs_fail_new(mask, k, error, forever);
    lcbtest_open(&t, v);
    long calls = vfs_fault_calls(v);
    (void)one_switch(&t, &h, what, path, &reached);
    lcbtest_close(&t);
    if (k)
        calls = vfs_fault_calls(v);
    vfs_fault_free(&v);
    snprintf(text, sizeof(text), "case %d, call %ld fails with %d, %s", what, k, error,
             forever ? "for ever" : "once");
    after(&t, g, what, reached, path, text);
    free(path);
    lcbtest_fini(&t);
    return calls;
}

static void test_fail(void)
{
    for (size_t i = 0; i < sizeof(what_crash) / sizeof(*what_crash); i++) {
        int what = what_crash[i];
        struct golden g = {.calls = 0};
        make_golden(&g);
        long before = fail_at(&g, what, VFS_FAULT_ALL, 0, EIO, 0), k = before + 1;
        for (; fail_at(&g, what, VFS_FAULT_ALL, k, EIO, 0) >= k; k++)
            if (k % 3 == 0)
                fail_at(&g, what, VFS_FAULT_WRITES, k - before, ENOSPC, 1);
        CU_ASSERT(k - before > 30);
        for (int j = 0; j < 3; j++)
            buf_free(&g.dump[j]);
    }
}

/* Where the new pair goes: a file has one path, as records of files are told apart by that. */
static void test_newname(void)
{
    static const char *const dirs[][2] = {{"/", "/joe_"}, {"/a", "/a/joe_"}, {".", "./joe_"}};
    for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
        char *path = NULL;
        CU_ASSERT_EQUAL_FATAL(lcb_switch_newname(vfs_system(), dirs[i][0], "joe", &path), 0);
        CU_ASSERT_EQUAL(strlen(path), strlen(dirs[i][1]) + 6);
        CU_ASSERT(!strncmp(path, dirs[i][1], strlen(dirs[i][1])));
        free(path);
    }
}

void suite_lcb_switch(void);
void suite_lcb_switch(void)
{
    static const struct unit_test tests[] = {
        {"a new pair", test_switch},
        {"its name", test_newname},
        {"writers on the way", test_append},
        {"the same history", test_same_history},
        {"marks", test_marks},
        {"maintenance lock", test_locked},
        {"who looked up the old one", test_waiting},
        {"strangers", test_strangers},
        {"every crash", test_crash},
        {"every crash, and then deleted or renamed", test_gone_after_crash},
        {"every failure", test_fail},
        {NULL, NULL},
    };
    unit_suite("lcb_switch", tests);
}
