/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of moving backups between partitions, and of the plan that makes partitions alike. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_db.h"
#include "backup/lcb_int.h"
#include "backup/lcb_move.h"
#include "backup/lcb_switch.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* ---- a store with one backup in partition one; there is also two ---- */

struct one {
    struct lcbtest t;
    struct buf golden, data;
    char *path;
};

static char extra[400];

static void make_with(struct one *o, const char *more)
{
    struct lcbtest_history h;
    memset(o, 0, sizeof(*o));
    snprintf(extra, sizeof(extra), "backuppartition-two: %s-two\npartition_select_exclude: two\n%s",
             unit_tmpdir(), more);
    lcbtest_init(&o->t, extra);
    lcbtest_open(&o->t, NULL);
    lcbtest_start(&h, 5);
    struct lcb *b = lcbtest_joe(&o->t);
    for (int i = 0; i < 12; i++) {
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
        if (i % 4 == 3)
            CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    }
    o->path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(o->path, &o->golden);
    lcbtest_read(o->path, &o->data);
}

static void make(struct one *o)
{
    make_with(o, "");
}

static void unmake(struct one *o)
{
    free(o->path);
    buf_free(&o->golden);
    buf_free(&o->data);
    lcbtest_fini(&o->t);
}

static int move_to(struct lcb_store *s, const char *name, char **path)
{
    struct lcb_moved m;
    int r = lcb_move(s, "joe", lcb_partition_named(s, name), 0, &m);
    buf_free(&m.why);
    if (path)
        *path = m.path;
    else
        free(m.path);
    return r;
}

/* Joe's backup is whole; *PATH: where. */
static void is_whole(struct one *o, const char *what, char **path)
{
    struct buf got = BUF_INITIALIZER;
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(o->t.store, "joe", LCB_WRITE, 0, &b), 0);
    *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_dump(*path, &got);
    CU_ASSERT(lcbtest_same(&got, &o->golden, what));
    lcbtest_read(*path, &got);
    CU_ASSERT(!buf_cmp(&got, &o->data));
    buf_free(&got);
}

/* Data files, or files of any kind, called joe_... */
static int count_files(struct one *o, const char *pattern)
{
    glob_t g;
    int n = 0;
    const char *two = lcb_partition_named(o->t.store, "two")->dir;
    const char *one = lcb_partition_named(o->t.store, "one")->dir;
    for (int i = 0; i < 2; i++) {
        char *p = xasprintf("%s/j/%s", i ? two : one, pattern);
        if (!glob(p, 0, NULL, &g)) {
            n += (int)g.gl_pathc;
            globfree(&g);
        }
        free(p);
    }
    return n;
}

static void test_move(void)
{
    struct one o;
    char *path, *found;
    make(&o);
    CU_ASSERT_PTR_NULL(lcb_partition_named(o.t.store, "three"));
    UNIT_STR(lcb_partition_of(o.t.store, o.path)->name, "one");
    CU_ASSERT_PTR_NULL(lcb_partition_of(o.t.store, "/elsewhere/joe_abcdef"));
    CU_ASSERT_EQUAL(move_to(o.t.store, "one", &path), 0);
    CU_ASSERT_PTR_NULL(path); /* it is there */
    CU_ASSERT_EQUAL_FATAL(move_to(o.t.store, "two", &path), 0);
    UNIT_STR(lcb_partition_of(o.t.store, path)->name, "two");
    is_whole(&o, "moved", &found);
    UNIT_STR(found, path);
    CU_ASSERT(!lcbtest_logged("rebuilding"));
    CU_ASSERT_EQUAL(count_files(&o, "joe_??????"), 1);
    CU_ASSERT_EQUAL(access(o.path, F_OK), -1);
    lcbtest_compare(&o.t, path, "moved");
    free(found);
    free(path);
    CU_ASSERT_EQUAL(move_to(o.t.store, "one", NULL), 0);
    is_whole(&o, "and back", &found);
    free(found);
    unmake(&o);
}

/* Who waits for the lock, or reads, finds the new place. */
static void test_in_use(void)
{
    struct one o;
    struct lcb *w = NULL, *b = NULL;
    struct lcb_folder f;
    struct buf strings = BUF_INITIALIZER;
    char *found;
    make(&o);
    CU_ASSERT_EQUAL(lcb_open(o.t.store, "joe", LCB_WRITE, 0, &w), 0);
    CU_ASSERT_EQUAL(move_to(o.t.store, "two", NULL), XERR_LOCKED);
    lcb_close(&w);
    CU_ASSERT_EQUAL(count_files(&o, "*.new*"), 0);
    CU_ASSERT_EQUAL(count_files(&o, "joe_??????"), 1);
    CU_ASSERT_EQUAL(lcb_open(o.t.store, "joe", 0, 0, &b), 0); /* a reader is in nobody's way */
    CU_ASSERT_EQUAL(move_to(o.t.store, "two", NULL), 0);
    CU_ASSERT(lcb_find_name(b, "user.joe", &f, &strings) != XERR_SQL);
    lcb_close(&b);
    buf_free(&strings);
    is_whole(&o, "moved", &found);
    free(found);
    unmake(&o);
}

/* An index that says something else than the data file: nothing is moved. */
static void test_proof(void)
{
    struct one o;
    struct lcb_moved m;
    make(&o);
    lcbtest_int(o.path, "UPDATE records SET modseq=modseq+1 RETURNING id");
    int r = lcb_move(o.t.store, "joe", lcb_partition_named(o.t.store, "two"), 0, &m);
    CU_ASSERT_EQUAL(r, XERR_FORMAT);
    CU_ASSERT(strstr(buf_cstring(&m.why), "verify it first") != NULL);
    CU_ASSERT_PTR_NULL(m.path);
    buf_free(&m.why);
    CU_ASSERT_EQUAL(access(o.path, F_OK), 0);
    CU_ASSERT_EQUAL(count_files(&o, "joe_??????"), 1);
    CU_ASSERT_EQUAL(count_files(&o, "*.new*"), 0);
    unmake(&o);
}

static void change_index(const char *datapath, const char *sql)
{
    char *name = xasprintf("%s.index", datapath);
    sqlite3 *db = NULL;
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(name, &db), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    free(name);
}

/* Rows that are as they should be, and one is not found: nothing came meanwhile that a second try could
 * help against. Compaction has the index made anew. */
static void test_unfound(void)
{
    struct one o;
    struct lcb_moved m;
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    make(&o);
    change_index(o.path, "CREATE TABLE kept AS SELECT type, name, tbl_name, rootpage, sql FROM"
                         " sqlite_master WHERE name='folder_now'; CREATE TABLE row AS SELECT * FROM"
                         " folder_states WHERE until IS NULL LIMIT 1; DELETE FROM folder_states WHERE"
                         " (folder, since) IN (SELECT folder, since FROM row);"
                         "PRAGMA writable_schema=1; DELETE FROM sqlite_master WHERE name='folder_now'");
    change_index(o.path, "INSERT INTO folder_states SELECT * FROM row; PRAGMA writable_schema=1;"
                         "INSERT INTO sqlite_master SELECT * FROM kept; DROP TABLE kept;"
                         "DROP TABLE row");
    int r = lcb_move(o.t.store, "joe", lcb_partition_named(o.t.store, "two"), 0, &m);
    CU_ASSERT_EQUAL(r, XERR_FORMAT);
    CU_ASSERT(strstr(buf_cstring(&m.why), "verify it first") != NULL);
    buf_free(&m.why);
    CU_ASSERT_EQUAL(access(o.path, F_OK), 0);
    CU_ASSERT_EQUAL(lcb_compact(o.t.store, &how, &result), 0);
    CU_ASSERT_EQUAL(move_to(o.t.store, "two", NULL), 0);
    unmake(&o);
}

/* ---- crashes and failures ---- */

static void after(struct one *o, const char *what, int done)
{
    char *path;
    is_whole(o, what, &path);
    if (done)
        UNIT_STR(lcb_partition_of(o->t.store, path)->name, "two");
    free(path);
    CU_ASSERT_EQUAL(move_to(o->t.store, "two", NULL), 0); /* the next run */
    CU_ASSERT_EQUAL(count_files(o, "joe_??????"), 1);
    CU_ASSERT_EQUAL(count_files(o, "joe_??????.index"), 1);
    CU_ASSERT_EQUAL(move_to(o->t.store, "one", NULL), 0);
    is_whole(o, what, &path);
    UNIT_STR(lcb_partition_of(o->t.store, path)->name, "one");
    free(path);
    CU_ASSERT_EQUAL(count_files(o, "joe_??????"), 1);
    CU_ASSERT_EQUAL(count_files(o, "*.new*"), 0);
}

static long crash_at(long k, enum vfs_settle how, unsigned seed)
{
    struct one o;
    char what[80];
    make(&o);
    lcbtest_close(&o.t);
    /* the other partition is beside it */
    char *both = xstrndup(o.t.dir, (size_t)(strrchr(o.t.dir, '/') - o.t.dir));
    struct vfs *v = vfs_crash_new(both, k);
    free(both);
    lcbtest_open(&o.t, v);
    int r = move_to(o.t.store, "two", NULL);
    CU_ASSERT(k > 0 || !r);
    lcbtest_close(&o.t);
    long calls = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    snprintf(what, sizeof(what), "call %ld, settled %d/%u", k, (int)how, seed);
    lcbtest_open(&o.t, NULL);
    after(&o, what, !r);
    unmake(&o);
    return calls;
}

static void test_crash(void)
{
    long calls = crash_at(0, VFS_SETTLE_KEPT, 0);
    CU_ASSERT(calls > 10);
    for (long k = 1; k <= calls; k++) {
        crash_at(k, VFS_SETTLE_LOST, 0);
        crash_at(k, VFS_SETTLE_KEPT, 0);
        for (unsigned torn = 1; torn <= 2; torn++)
            crash_at(k, VFS_SETTLE_TORN, (unsigned)k * 10 + torn);
    }
}

static void fail_each(int mask, int error, int forever)
{
    long calls = 1, opening = 0;
    for (long k = 0; k <= calls; k = k ? k + 1 : opening + 1) {
        struct one o;
        char what[80];
        make(&o);
        lcbtest_close(&o.t);
        struct vfs *v = vfs_fail_new(mask, k, error, forever);
        lcbtest_open(&o.t, v);
        if (!k)
            opening = vfs_fault_calls(v);
        int r = move_to(o.t.store, "two", NULL);
        lcbtest_close(&o.t);
        if (!k)
            calls = vfs_fault_calls(v);
        vfs_fault_free(&v);
        snprintf(what, sizeof(what), "call %ld fails with %d", k, error);
        lcbtest_open(&o.t, NULL);
        after(&o, what, !r);
        unmake(&o);
    }
}

static void test_fail(void)
{
    fail_each(VFS_FAULT_ALL, EIO, 0);
    fail_each(VFS_FAULT_WRITES, ENOSPC, 1); /* the disk is full from some moment on */
}

/* ---- a plan ---- */

enum { PLACES = 3 };
struct disk {
    const char *name;
    uint64_t avail, total, fsid;
};
static struct disk disks[PLACES];

static int disk_usage(void *rock, const char *dir, struct lcb_usage *u)
{
    (void)rock;
    for (int i = 0; i < PLACES; i++) {
        const char *at = strstr(dir, disks[i].name);
        if (at && !at[strlen(disks[i].name)]) {
            *u = (struct lcb_usage){disks[i].avail, disks[i].total, disks[i].fsid};
            return 0;
        }
    }
    return -ENOENT;
}

struct world {
    struct lcbtest t;
    struct buf steps, places;
    uint64_t moved; /* KiB */
};

/* Users a0, a1 ... in partition ONE with data files of so many KiB (holes). */
static void begin(struct world *w, const char *options, const int *kib)
{
    char text[600];
    memset(w, 0, sizeof(*w));
    snprintf(text, sizeof(text), "backuppartition-two: %s/two\nbackuppartition-three: %s/three\n%s",
             "/nowhere", "/nowhere", options);
    lcbtest_init(&w->t, text);
    lcbtest_open(&w->t, NULL);
    struct lcb_db_txn *txn;
    CU_ASSERT_EQUAL_FATAL(lcb_db_begin(lcb_store_db(w->t.store), &txn), 0);
    for (int i = 0; kib[i]; i++) {
        char *user = xasprintf("a%d", i), *path = xasprintf("%s/one/a/a%d_abcdef", w->t.dir, i);
        CU_ASSERT_EQUAL(vfs_mkparents(vfs_system(), path), 0);
        lcbtest_write(path, "", 0);
        CU_ASSERT_EQUAL(truncate(path, (off_t)kib[i] * 1024), 0);
        CU_ASSERT_EQUAL(lcb_db_txn_set(txn, user, path), 0);
        free(user);
        free(path);
    }
    CU_ASSERT_EQUAL(lcb_db_commit(&txn), 0);
}

static void end(struct world *w)
{
    buf_free(&w->steps);
    buf_free(&w->places);
    lcbtest_fini(&w->t);
}

static int note_step(void *rock, const struct lcb_balance_step *s)
{
    struct world *w = rock;
    buf_printf(&w->steps, "%s:%s>%s ", s->userid, s->from->name, s->to->name);
    w->moved += s->size / 1024;
    return 0;
}

static int note_place(void *rock, const struct lcb_balance_place *p)
{
    struct world *w = rock;
    buf_printf(&w->places, "%s:%llu>%llu ", p->partition->name, (unsigned long long)p->before,
               (unsigned long long)p->after);
    return 0;
}

static const char *plan(struct world *w)
{
    struct lcb_balance out = {note_step, note_place, w};
    buf_reset(&w->steps);
    buf_reset(&w->places);
    w->moved = 0;
    CU_ASSERT_EQUAL(lcb_balance_plan(w->t.store, &out, disk_usage, NULL), 0);
    buf_cstring(&w->places);
    return buf_cstring(&w->steps);
}

static void set_disks(struct disk a, struct disk b, struct disk c)
{
    disks[0] = a;
    disks[1] = b;
    disks[2] = c;
}

static const int sizes[] = {10, 300, 20, 150, 40, 90, 0};

/* Large ones first; shares, or KiB, depending on the mode. */
static void test_plan(void)
{
    struct world w;
    begin(&w, "partition_select_mode: freespace-percent-most\n", sizes);
    set_disks((struct disk){"one", 200, 1000, 1}, (struct disk){"two", 800, 1000, 2},
              (struct disk){"three", 0, 0, 3});
    UNIT_STR(plan(&w), "a1:one>two "); /* 500 each */
    UNIT_STR(w.places.s, "one:200>500 two:800>500 ");
    set_disks((struct disk){"one", 200, 1000, 1}, (struct disk){"two", 400, 500, 2},
              (struct disk){"three", 400, 500, 3});
    UNIT_STR(plan(&w), "a3:one>two a4:one>three a5:one>three a0:one>three "); /* half of each */
    UNIT_STR(w.places.s, "one:200>490 two:400>250 three:400>260 ");
    set_disks((struct disk){"one", 500, 1000, 1}, (struct disk){"two", 505, 1000, 2},
              (struct disk){"three", 500, 1000, 1});
    UNIT_STR(plan(&w), ""); /* not worth it */
    set_disks((struct disk){"one", 100, 1000, 7}, (struct disk){"two", 100, 1000, 7},
              (struct disk){"three", 100, 1000, 7});
    UNIT_STR(plan(&w), ""); /* one disk */
    end(&w);
    begin(&w, "partition_select_mode: freespace-most\n", sizes);
    set_disks((struct disk){"one", 200, 1000, 1}, (struct disk){"two", 400, 500, 2},
              (struct disk){"three", 0, 0, 3});
    UNIT_STR(plan(&w), "a5:one>two "); /* 300 KiB each */
    UNIT_STR(w.places.s, "one:200>290 two:400>310 ");
    end(&w);
}

static void test_plan_options(void)
{
    struct world w;
    struct disk one = {"one", 200, 1000, 1}, two = {"two", 800, 1000, 2};
    struct disk three = {"three", 600, 1000, 3};
    begin(&w, "partition_select_mode: random\npartition_select_exclude: two\n", sizes);
    set_disks(one, two, three);
    UNIT_STR(plan(&w), "a3:one>three a2:one>three a0:one>three "); /* 400 each */
    end(&w);
    begin(&w, "partition_select_exclude: one\n", sizes);
    UNIT_STR(plan(&w), ""); /* nor does it give */
    end(&w);
    /* above 50 % used: not while another is below */
    begin(&w, "partition_select_mode: freespace-percent-weighted\n"
              "partition_select_soft_usage_limit: 30\n", sizes);
    UNIT_STR(plan(&w), "a3:one>two a5:one>two a2:one>two ");
    end(&w);
    const int large[] = {900, 0};
    begin(&w, "", large);
    UNIT_STR(plan(&w), ""); /* it would only change sides */
    end(&w);
    const int none[] = {0};
    begin(&w, "partition_select_exclude: one two three\n", none);
    struct lcb_balance out = {NULL, NULL, NULL};
    CU_ASSERT_EQUAL(lcb_balance_plan(w.t.store, &out, disk_usage, NULL), XERR_CONFIG);
    end(&w);
}

/* Whatever the sizes are: nobody who gave has less than his share, nobody who took less than it. */
static void test_plan_any(void)
{
    for (unsigned seed = 1; seed <= 40; seed++) {
        struct world w;
        struct lcbtest_history h;
        int kib[61];
        uint64_t used = 0;
        lcbtest_start(&h, seed);
        for (int i = 0; i < 60; i++) {
            kib[i] = 1 + (int)lcbtest_draw(&h, lcbtest_draw(&h, 4) ? 50 : 2000);
            used += (uint64_t)kib[i];
        }
        kib[60] = 0;
        uint64_t total = used + lcbtest_draw(&h, 5000);
        begin(&w, "partition_select_mode: freespace-percent-most\n", kib);
        set_disks((struct disk){"one", total - used, total, 1}, (struct disk){"two", 9000, 10000, 2},
                  (struct disk){"three", 4000, 5000, 3});
        plan(&w);
        unsigned long long b[3], a[3];
        CU_ASSERT_EQUAL_FATAL(sscanf(w.places.s, "one:%llu>%llu two:%llu>%llu three:%llu>%llu", &b[0],
                                     &a[0], &b[1], &a[1], &b[2], &a[2]), 6);
        double fair = (double)(b[0] + b[1] + b[2]) / (double)(total + 15000);
        CU_ASSERT(llabs((long long)(a[0] + a[1] + a[2]) - (long long)(b[0] + b[1] + b[2])) <= 3);
        if (a[0] > b[0]) {
            CU_ASSERT((double)a[0] <= fair * (double)total + 1);
            CU_ASSERT(a[1] == b[1] || (double)a[1] >= fair * 10000 - 1);
            CU_ASSERT(a[2] == b[2] || (double)a[2] >= fair * 5000 - 1);
            CU_ASSERT((double)a[0] >= fair * (double)total - (double)total / 100 - 50);
        }
        end(&w);
    }
}

/* A compaction died before it had renamed the old pair, which backup_keep_previous asks for: that is
 * done then, whoever comes next. */
static void test_previous(void)
{
    struct one o;
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    make_with(&o, "backup_keep_previous: 1\n");
    CU_ASSERT_EQUAL(lcb_compact(o.t.store, &how, &result), LCB_COMPACT_DONE);
    glob_t g;
    char *kept = xasprintf("%s.1*[0-9]", o.path);
    CU_ASSERT_EQUAL_FATAL(glob(kept, 0, NULL, &g), 0);
    CU_ASSERT_EQUAL(rename(g.gl_pathv[0], o.path), 0);
    globfree(&g);
    CU_ASSERT_EQUAL(move_to(o.t.store, "two", NULL), 0);
    CU_ASSERT_EQUAL(access(o.path, F_OK), -1);
    CU_ASSERT_EQUAL(glob(kept, 0, NULL, &g), 0);
    globfree(&g);
    free(kept);
    unmake(&o);
}

void suite_lcb_move(void);
void suite_lcb_move(void)
{
    static const struct unit_test tests[] = {
        {"move", test_move},
        {"while it is in use", test_in_use},
        {"proof", test_proof},
        {"a row that is not found", test_unfound},
        {"what a compaction left to be kept", test_previous},
        {"every crash", test_crash},
        {"every failure", test_fail},
        {"plan", test_plan},
        {"plan and options", test_plan_options},
        {"any plan", test_plan_any},
        {NULL, NULL},
    };
    unit_suite("lcb_move", tests);
}
