/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of smaller chores in bad times: making partitions alike, removing what compaction has kept, new
 * backups, the clock's note. The machine stops at each call, or one call fails, or all from one on:
 * nothing is lost, and the next run does what this one was to do. */
#include "config.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backup/lcb_clock.h"
#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "backup/lcb_move.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/strarray.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { USERS = 3, DAY = 86400 };
#define T 1800000000LL

static const char *const users[USERS] = {"ann", "eve", "joe"};

struct world {
    struct lcbtest t;
    struct buf golden[USERS], data[USERS]; /* what their backups say, and their data files */
    char *path;                            /* joe's */
};

struct chore {
    const char *name, *options;
    void (*before)(struct world *); /* the store is open */
    int (*run)(struct world *);
    void (*after)(struct world *, const char *what, int r); /* R: what RUN said */
};

/* ---- a store with some backups in partition one; there is also two ---- */

static void make_user(struct world *w, int i)
{
    struct lcbtest_history h;
    struct lcb *b = NULL;
    lcbtest_start(&h, 5 + (unsigned)i);
    CU_ASSERT_EQUAL_FATAL(lcb_open(w->t.store, users[i], LCB_WRITE | LCB_CREATE, 0, &b), 0);
    for (int n = 0; n < 4; n++)
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    char *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(path, &w->golden[i]);
    lcbtest_read(path, &w->data[i]);
    free(w->path);
    w->path = path;
}

static void begin(struct world *w, const char *more)
{
    static char extra[400];
    memset(w, 0, sizeof(*w));
    snprintf(extra, sizeof(extra), "backuppartition-two: %s/two\n%s", unit_tmpdir(), more);
    lcbtest_init(&w->t, extra);
    lcbtest_open(&w->t, NULL);
}

static void end(struct world *w)
{
    free(w->path);
    for (int i = 0; i < USERS; i++) {
        buf_free(&w->golden[i]);
        buf_free(&w->data[i]);
    }
    lcbtest_fini(&w->t);
}

/* The backup of user I is whole, and has this data file (if SAME). */
static void is_whole(struct world *w, int i, int same, const char *what)
{
    struct buf got = BUF_INITIALIZER;
    struct lcb *b = NULL;
    int r = lcb_open(w->t.store, users[i], LCB_WRITE, 0, &b);
    if (r)
        printf("\n%s: %s: %s\n%s", what, users[i], error_message(r), lcbtest_log_text());
    CU_ASSERT_EQUAL_FATAL(r, 0);
    char *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(path, &got);
    CU_ASSERT(lcbtest_same(&got, &w->golden[i], what));
    lcbtest_read(path, &got);
    CU_ASSERT(!same || !buf_cmp(&got, &w->data[i]));
    buf_free(&got);
    free(path);
}

static int count(const char *dir, const char *pattern)
{
    glob_t g;
    char *p = xasprintf("%s/%s", dir, pattern);
    int n = glob(p, 0, NULL, &g) ? 0 : (int)g.gl_pathc;
    if (n)
        globfree(&g);
    free(p);
    return n;
}

static const char *partition(struct world *w, int two)
{
    return lcb_partition_named(w->t.store, two ? "two" : "one")->dir;
}

/* ---- bad times ---- */

/* How many calls a change of backups.db takes is a matter of chance. So some more are tried. */
enum { CHANCE = 3 };

static void reopen(struct world *w, struct vfs *v)
{
    lcbtest_close(&w->t);
    lcbtest_open(&w->t, v);
}

static long crash_at(const struct chore *c, long k, enum vfs_settle how, unsigned seed)
{
    struct world w;
    char what[100];
    begin(&w, c->options);
    c->before(&w);
    /* the other partition is beside it */
    char *both = xstrndup(w.t.dir, (size_t)(strrchr(w.t.dir, '/') - w.t.dir));
    struct vfs *v = vfs_crash_new(both, k);
    reopen(&w, v);
    int r = c->run(&w);
    CU_ASSERT(k > 0 || !r);
    lcbtest_close(&w.t);
    long calls = vfs_fault_calls(v);
    CU_ASSERT(k > 0 || !vfs_fault_happened(v));
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    snprintf(what, sizeof(what), "%s: call %ld, settled %d/%u", c->name, k, (int)how, seed);
    lcbtest_open(&w.t, NULL);
    c->after(&w, what, r);
    end(&w);
    free(both);
    return calls;
}

/* Of many calls only a part is tried in each way, but in a long run. */
static int whole(long calls)
{
    return calls < 50 || getenv("CYRUS_BACKUPS_LONG");
}

static void every_crash(const struct chore *c)
{
    long calls = crash_at(c, 0, VFS_SETTLE_KEPT, 0);
    CU_ASSERT(calls >= 2);
    for (long k = 1; k <= calls + CHANCE; k++) {
        crash_at(c, k, VFS_SETTLE_TORN, (unsigned)k);
        if (whole(calls) || k % 2)
            crash_at(c, k, VFS_SETTLE_LOST, 0);
        if (whole(calls) || k % 2 == 0)
            crash_at(c, k, VFS_SETTLE_KEPT, 0);
    }
    printf("[%s: %ld calls] ", c->name, calls);
}

/* The K-th call fails, once or with all that follow; those of the opening are not tried. */
static void fail_at(const struct chore *c, long k, int mask, int error, int forever)
{
    struct world w;
    char what[100];
    begin(&w, c->options);
    c->before(&w);
    struct vfs *v = vfs_fail_new(mask, k, error, forever);
    reopen(&w, v);
    int r = c->run(&w);
    lcbtest_close(&w.t);
    vfs_fault_free(&v);
    snprintf(what, sizeof(what), "%s: call %ld fails with %d%s", c->name, k, error,
             forever ? " for ever" : "");
    lcbtest_open(&w.t, NULL);
    c->after(&w, what, r);
    end(&w);
}

static void fail_each(const struct chore *c, int mask, int error, int forever)
{
    struct world w;
    begin(&w, c->options);
    c->before(&w);
    struct vfs *v = vfs_fail_new(mask, 0, error, 0);
    reopen(&w, v);
    long opening = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(c->run(&w), 0);
    lcbtest_close(&w.t);
    long calls = vfs_fault_calls(v) - opening;
    vfs_fault_free(&v);
    end(&w);
    CU_ASSERT(calls > 0);
    for (long k = 1; k <= calls + CHANCE; k += whole(calls) ? 1 : 1 + (opening + k) % 3)
        fail_at(c, opening + k, mask, error, forever);
    printf("[%s: %ld calls] ", c->name, calls);
}

static void in_bad_times(const struct chore *c)
{
    every_crash(c);
    fail_each(c, VFS_FAULT_ALL, EIO, 0);
    fail_each(c, VFS_FAULT_WRITES, ENOSPC, 1); /* the disk is full from some moment on */
}

/* ---- making partitions alike ---- */

enum { DISK = 4000 }; /* KiB */

/* There is nothing else on its disk. */
static int disk_usage(void *rock, const char *dir, struct lcb_usage *u)
{
    struct world *w = rock;
    glob_t g;
    uint64_t used = 0;
    struct stat st;
    char *p = xasprintf("%s/?/*", dir);
    if (!glob(p, 0, NULL, &g)) {
        for (size_t i = 0; i < g.gl_pathc; i++)
            used += stat(g.gl_pathv[i], &st) ? 0 : (uint64_t)st.st_size / 1024;
        globfree(&g);
    }
    free(p);
    *u = (struct lcb_usage){DISK - used, DISK, strcmp(dir, partition(w, 1)) ? 1 : 2};
    return 0;
}

static int note_step(void *rock, const struct lcb_balance_step *s)
{
    strarray_append(rock, s->userid);
    strarray_append(rock, s->to->name);
    return 0;
}

static int move_to(struct world *w, const char *user, const char *name)
{
    struct lcb_moved m;
    int r = lcb_move(w->t.store, user, lcb_partition_named(w->t.store, name), 0, &m);
    free(m.path);
    buf_free(&m.why);
    return r;
}

static void before_balance(struct world *w)
{
    for (int i = 0; i < USERS; i++) {
        make_user(w, i);
        CU_ASSERT_EQUAL_FATAL(move_to(w, users[i], "one"), 0);
    }
}

static int run_balance(struct world *w)
{
    struct strarray steps = STRARRAY_INITIALIZER;
    struct lcb_balance out = {note_step, NULL, &steps};
    int result = lcb_balance_plan(w->t.store, &out, disk_usage, w);
    for (int i = 0; !result && i < steps.count; i += 2) { /* as a run does, one after the other */
        int r = move_to(w, strarray_nth(&steps, i), strarray_nth(&steps, i + 1));
        result = result ? result : r;
    }
    strarray_fini(&steps);
    return result;
}

static int is_in_two(struct world *w, int i)
{
    char *path = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_store_find(w->t.store, users[i], &path), 0);
    int two = !strcmp(lcb_partition_of(w->t.store, path)->name, "two");
    free(path);
    return two;
}

static void after_balance(struct world *w, const char *what, int r)
{
    int two = 0;
    for (int i = 0; i < USERS; i++) {
        is_whole(w, i, 1, what);
        two += is_in_two(w, i);
    }
    CU_ASSERT(r || two);
    CU_ASSERT_EQUAL(run_balance(w), 0); /* the next run */
    two = 0;
    for (int i = 0; i < USERS; i++) {
        is_whole(w, i, 1, what);
        two += is_in_two(w, i);
        /* what the first one left of a backup that the plan does not move any more */
        CU_ASSERT_EQUAL(move_to(w, users[i], is_in_two(w, i) ? "two" : "one"), 0);
    }
    CU_ASSERT(two > 0 && two < USERS);
    CU_ASSERT_EQUAL(count(partition(w, 1), "?/???_??????"), two);
    CU_ASSERT_EQUAL(count(partition(w, 0), "?/???_??????"), USERS - two);
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL(count(partition(w, i), "?/*.new*"), 0);
}

static void test_balance(void)
{
    static const struct chore c = {"balance", "", before_balance, run_balance, after_balance};
    in_bad_times(&c);
}

/* ---- what compaction has kept ---- */

static struct strarray kept; /* paths, in order of time */
static struct buf kept_bytes[16];
static int64_t kept_until;

static void compact(struct world *w)
{
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    CU_ASSERT_EQUAL(lcb_compact(w->t.store, &how, &result), LCB_COMPACT_DONE);
}

static void note_kept(struct world *w, const char *pattern)
{
    glob_t g;
    char *p = xasprintf("%s/j/%s", partition(w, strstr(w->path, "/two/") != NULL), pattern);
    CU_ASSERT_EQUAL_FATAL(glob(p, 0, NULL, &g), 0);
    for (size_t i = 0; i < g.gl_pathc; i++)
        if (strarray_find(&kept, g.gl_pathv[i]) < 0) {
            CU_ASSERT_FATAL(kept.count < 16);
            strarray_append(&kept, g.gl_pathv[i]);
            lcbtest_read(g.gl_pathv[i], &kept_bytes[kept.count - 1]);
        }
    globfree(&g);
    free(p);
}

static void forget_kept(void)
{
    for (int i = 0; i < kept.count; i++)
        buf_free(&kept_bytes[i]);
    strarray_fini(&kept);
}

static int nold; /* of them may go */

/* What two compactions kept, and something like what Cyrus 3.x did. */
static void before_expire(struct world *w)
{
    struct lcb *b = NULL;
    forget_kept();
    make_user(w, USERS - 1);
    for (int i = 0; i < 2; i++) {
        compact(w);
        if (!i) {
            char *theirs = xasprintf("%s.1400000000", w->path);
            lcbtest_write(theirs, "theirs", 6);
            free(theirs);
        }
        note_kept(w, "joe_??????.*[0-9]*");
        nold = i ? nold : kept.count;
        kept_until = lcbtest_time();
        lcbtest_settime(lcbtest_time() + 10 * DAY);
    }
    kept_until -= DAY;
    CU_ASSERT(nold >= 3 && kept.count >= nold + 2);
    CU_ASSERT_EQUAL_FATAL(lcb_open(w->t.store, "joe", LCB_WRITE, 0, &b), 0);
    free(w->path);
    w->path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(w->path, &w->golden[USERS - 1]);
    lcbtest_read(w->path, &w->data[USERS - 1]);
}

static void told_removed(void *rock, const char *path)
{
    (void)path;
    ++*(int *)rock;
}

static int expire(struct world *w, int *n)
{
    *n = 0;
    return lcb_compact_expire(w->t.store, "joe", w->path, kept_until, 0, told_removed, n);
}

static int run_expire(struct world *w)
{
    int n, r = expire(w, &n);
    CU_ASSERT(r || n == nold);
    return r;
}

/* 1 if the file is there, as it was. */
static int is_kept(int i, const char *what)
{
    struct buf got = BUF_INITIALIZER;
    if (access(strarray_nth(&kept, i), F_OK) < 0)
        return 0;
    lcbtest_read(strarray_nth(&kept, i), &got);
    if (buf_cmp(&got, &kept_bytes[i]))
        printf("\n%s: %s is another one\n", what, strarray_nth(&kept, i));
    CU_ASSERT(!buf_cmp(&got, &kept_bytes[i]));
    buf_free(&got);
    return 1;
}

static void after_expire(struct world *w, const char *what, int r)
{
    int n, left = 0;
    (void)r; /* that they are gone need not last; they go again then */
    is_whole(w, USERS - 1, 1, what);
    for (int i = 0; i < kept.count; i++) {
        int is = is_kept(i, what);
        CU_ASSERT(is || i < nold);
        left += is && i < nold;
    }
    CU_ASSERT_EQUAL(expire(w, &n), 0);
    CU_ASSERT_EQUAL(n, left);
    for (int i = 0; i < kept.count; i++)
        CU_ASSERT_EQUAL(is_kept(i, what), i >= nold);
    is_whole(w, USERS - 1, 1, what);
}

static void test_expire(void)
{
    static const struct chore c = {"expire-previous", "backup_keep_previous: 1\nbackup_retention: 1d\n",
                                   before_expire, run_expire, after_expire};
    in_bad_times(&c);
    forget_kept();
}

/* ---- new backups (lock -c) ---- */

static void before_create(struct world *w)
{
    make_user(w, 0);
}

static int run_create(struct world *w)
{
    return lcb_create(w->t.store, "new", NULL);
}

static void add_something(struct lcb *b)
{
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("u1", "user.new", 1, 1, ""), NULL, NULL), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
}

static void after_create(struct world *w, const char *what, int r)
{
    struct buf path = BUF_INITIALIZER;
    struct lcb *b = NULL;
    is_whole(w, 0, 1, what);
    CU_ASSERT_EQUAL(lcb_strangers(w->t.store, &path), 0);
    int again = run_create(w);
    if (again && again != XERR_EXISTS)
        printf("\n%s: %s\n%s", what, error_message(again), lcbtest_log_text());
    CU_ASSERT(again == XERR_EXISTS || (!again && r));
    CU_ASSERT_EQUAL_FATAL(lcb_open(w->t.store, "new", LCB_WRITE, 0, &b), 0);
    add_something(b);
    char *is = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_compare(&w->t, is, what);
    free(is);
    buf_free(&path);
}

static void test_create(void)
{
    static const struct chore c = {"create", "partition_select_exclude: two\n", before_create,
                                   run_create, after_create};
    in_bad_times(&c);
}

/* At a path, which backups.db does not know. */
static void before_create_at(struct world *w)
{
    make_user(w, 0);
    free(w->path);
    w->path = xasprintf("%s/elsewhere", w->t.dir);
}

static int run_create_at(struct world *w)
{
    return lcb_create(w->t.store, NULL, w->path);
}

static void after_create_at(struct world *w, const char *what, int r)
{
    struct lcb *b = NULL;
    is_whole(w, 0, 1, what);
    int there = access(w->path, F_OK) == 0;
    CU_ASSERT(there || r);
    CU_ASSERT_EQUAL(run_create_at(w), there ? XERR_EXISTS : 0);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(w->t.store, w->path, LCB_WRITE, 0, &b), 0);
    add_something(b);
    lcb_close(&b);
    lcbtest_compare(&w->t, w->path, what);
}

static void test_create_at(void)
{
    static const struct chore c = {"create -f", "", before_create_at, run_create_at, after_create_at};
    in_bad_times(&c);
}

/* ---- the clock's note ---- */

static int64_t last_run;

static int clock_at(struct world *w, int64_t now, int dry_run, int64_t *use)
{
    int64_t again;
    return lcb_clock(w->t.store, now, dry_run, use, &again);
}

static void before_clock(struct world *w)
{
    int64_t use;
    make_user(w, 0);
    CU_ASSERT_EQUAL(clock_at(w, T, 0, &use), 0);
    CU_ASSERT_EQUAL(use, T);
    last_run = T + DAY;
}

/* That the note could not be written is a warning: the run is not in doubt. */
static int run_clock(struct world *w)
{
    int64_t use;
    CU_ASSERT_EQUAL(clock_at(w, last_run, 0, &use), 0);
    CU_ASSERT_EQUAL(use, last_run);
    return 0;
}

/* The next run. */
static void another_process(struct world *w)
{
    int64_t use;
    int status = -1;
    fflush(NULL);
    pid_t pid = fork();
    if (!pid)
        _exit(clock_at(w, last_run, 0, &use) || use != last_run);
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT_EQUAL(status, 0);
}

static void after_clock(struct world *w, const char *what, int r)
{
    int64_t use;
    (void)r;
    /* a leap is noticed all the same */
    CU_ASSERT_EQUAL(clock_at(w, T + 100 * DAY, 1, &use), 1);
    CU_ASSERT(use == T || use == last_run);
    if (use != T && use != last_run)
        printf("\n%s: %" PRId64 "\n", what, use);
    last_run += DAY;
    another_process(w);
    last_run -= DAY;
    CU_ASSERT_EQUAL(clock_at(w, T + 100 * DAY, 1, &use), 1);
    CU_ASSERT_EQUAL(use, last_run + DAY);
    int n = count(w->t.dir, "conf/backups.db.clock*");
    CU_ASSERT_EQUAL(n, 1); /* nothing is left of the run before */
}

static void test_clock(void)
{
    static const struct chore c = {"clock", "", before_clock, run_clock, after_clock};
    in_bad_times(&c);
}

void suite_lcb_upkeep_crash(void);
void suite_lcb_upkeep_crash(void)
{
    static const struct unit_test tests[] = {
        {"making partitions alike", test_balance},
        {"what compaction has kept", test_expire},
        {"a new backup", test_create},
        {"a new backup at a path", test_create_at},
        {"the clock's note", test_clock},
        {NULL, NULL},
    };
    unit_suite("lcb_upkeep_crash", tests);
}
