/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of compaction in bad times: a writer at work meanwhile, a crash or a failure at every call. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { RETENTION = 40, BEFORE = 24, MEANWHILE = 4 };
#define EXTRA "backup_retention: 40s\n"

/* One store, and a writer that is called while a compaction goes on. */
struct scene {
    struct lcbtest t;
    struct lcbtest_history h;
    struct vfs *vfs;
    const char *path;  /* of a file to compact in place; NULL: joe's */
    int writes;        /* how often the writer shall write */
    uint64_t half;     /* of the bytes there were: up to there the file is only read */
    int acked;         /* how often it did, and was told so */
    int (*extra)(struct lcb *); /* does something once, as well */
};

static int some_steps(struct lcb *b, struct lcbtest_history *h, int n)
{
    int r = 0;
    while (!r && n--) {
        r = lcbtest_step(h, b);
        lcbtest_settime(lcbtest_time() + 3);
    }
    return r ? r : lcb_commit(b);
}

static int write_more(struct scene *s)
{
    struct lcb *b = NULL;
    int r = lcb_open(s->t.store, "joe", LCB_WRITE, 0, &b);
    if (!r)
        b->df.chunk_size = 8192;
    if (!r && s->extra)
        r = s->extra(b);
    if (!r)
        r = some_steps(b, &s->h, MEANWHILE);
    s->acked += !r;
    lcb_close(&b);
    return r;
}

static void meanwhile(void *rock, uint64_t bytes)
{
    struct scene *s = rock;
    if (s->writes > 0 && bytes > s->half) {
        s->writes--;
        if (write_more(s))
            s->writes = 0; /* from here on the history is another one */
    }
}

static int compact(struct scene *s)
{
    struct lcb_compact how = {
        .userid = s->path ? NULL : "joe",
        .path = s->path,
        .force = 1,
        .progress = meanwhile,
        .rock = s,
    };
    struct lcb_compact_result result;
    return lcb_compact(s->t.store, &how, &result);
}

static void note_half(struct scene *s, struct lcb *b)
{
    struct stat st;
    CU_ASSERT_EQUAL_FATAL(stat(lcb_path(b), &st), 0);
    s->half = (uint64_t)st.st_size / 2;
}

/* A history of which a good part is older than the window. */
static void begin(struct scene *s, unsigned seed)
{
    lcbtest_init(&s->t, EXTRA);
    lcbtest_open(&s->t, NULL);
    lcbtest_start(&s->h, seed);
    struct lcb *b = lcbtest_joe(&s->t);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL_FATAL(some_steps(b, &s->h, BEFORE / 3), 0);
    note_half(s, b);
    lcb_close(&b);
}

static int64_t window(void)
{
    return lcbtest_time() - RETENTION;
}

/* ---- a writer at work ---- */

static int nothing(struct lcb *b)
{
    (void)b;
    return 0;
}

static char guid_gone[41];

/* A mailbox; its message is expunged; another mailbox is deleted with a message in it. */
static int prepare_returns(struct lcb *b)
{
    const char *records[2] = {NULL, NULL};
    struct message_guid guid;
    struct buf text = BUF_INITIALIZER;
    lcbtest_message(77001, &text, &guid);
    message_guid_encode(&guid, guid_gone);
    buf_free(&text);
    int r = lcbtest_upload(b, 77001, 0);
    records[0] = lcbtest_record(1, 5, "", guid_gone);
    if (!r)
        r = lcbtest_mailbox(b, lcbtest_header("stays", "user.joe.stays", 1, 5, ""), records, NULL);
    records[0] = lcbtest_record(1, 6, "\\Expunged", guid_gone);
    if (!r)
        r = lcbtest_mailbox(b, lcbtest_header("stays", "user.joe.stays", 1, 6, ""), records, NULL);
    if (!r)
        r = lcbtest_upload(b, 77002, 0);
    lcbtest_message(77002, &text, &guid);
    char hex[41];
    message_guid_encode(&guid, hex);
    buf_free(&text);
    records[0] = lcbtest_record(1, 5, "", hex);
    if (!r)
        r = lcbtest_mailbox(b, lcbtest_header("comes", "user.joe.comes", 1, 5, ""), records, NULL);
    if (!r)
        r = lcbtest_log(b, "UNMAILBOX", "user.joe.comes");
    return r ? r : lcb_commit(b);
}

/* The message that was expunged is in the mailbox again, and nobody sends its content, since it is
 * here. */
static int message_returns(struct lcb *b)
{
    const char *records[2] = {lcbtest_record(2, 9, "", guid_gone), NULL};
    struct lcb_folder f;
    struct buf strings = BUF_INITIALIZER;
    int there = lcb_find_uniqueid(b, "stays", &f, &strings) == 0 && f.last_uid == 2;
    buf_free(&strings);
    const char *header = lcbtest_header("stays", "user.joe.stays", 2, 9, "");
    return there ? 0 : lcbtest_mailbox(b, header, records, NULL);
}

static int mailbox_returns(struct lcb *b)
{
    struct lcb_folder f;
    struct buf strings = BUF_INITIALIZER;
    int there = lcb_find_uniqueid(b, "comes", &f, &strings) == 0;
    buf_free(&strings);
    const char *header = lcbtest_header("comes", "user.joe.comes", 1, 7, "");
    return there ? 0 : lcbtest_mailbox(b, header, NULL, NULL);
}

/* The same with a compaction on the way and without. */
static void one_meanwhile(unsigned seed, int (*extra)(struct lcb *))
{
    struct buf states[2] = {BUF_INITIALIZER, BUF_INITIALIZER};
    for (int i = 0; i < 2; i++) {
        struct scene s = {.writes = 3, .extra = extra};
        lcbtest_init(&s.t, EXTRA);
        lcbtest_open(&s.t, NULL);
        struct lcb *b = lcbtest_joe(&s.t);
        CU_ASSERT_EQUAL_FATAL(prepare_returns(b), 0);
        lcbtest_settime(lcbtest_time() + 60);
        lcbtest_start(&s.h, seed);
        for (int j = 0; j < 3; j++)
            CU_ASSERT_EQUAL_FATAL(some_steps(b, &s.h, BEFORE / 3), 0);
        note_half(&s, b);
        lcb_close(&b);
        int64_t from = window();
        if (i) {
            int r = compact(&s);
            if (r)
                printf("\n%s\n%s", error_message(r), lcbtest_log_text());
            CU_ASSERT_EQUAL(r, LCB_COMPACT_DONE);
        } else {
            while (s.writes > 0)
                meanwhile(&s, UINT64_MAX);
        }
        CU_ASSERT_EQUAL(s.acked, 3);
        char *path = lcbtest_path(&s.t);
        lcbtest_states(path, &s.t, from, &states[i]);
        lcbtest_compare(&s.t, path, "with a writer at work");
        free(path);
        lcbtest_fini(&s.t);
    }
    CU_ASSERT(lcbtest_same(&states[1], &states[0], "with a writer at work"));
    CU_ASSERT(extra != mailbox_returns || strstr(buf_cstring(&states[1]), "mailbox comes ") != NULL);
    CU_ASSERT(extra != message_returns || strstr(buf_cstring(&states[1]), guid_gone) != NULL);
    buf_free(&states[0]);
    buf_free(&states[1]);
}

static void test_meanwhile(void)
{
    one_meanwhile(3, nothing);
    one_meanwhile(4, nothing);
}

static void test_returns(void)
{
    one_meanwhile(3, message_returns);
    one_meanwhile(5, mailbox_returns);
}

static void test_locked(void)
{
    struct scene s = {.writes = 0};
    struct lcb *b;
    begin(&s, 1);
    b = lcbtest_joe(&s.t);
    CU_ASSERT_EQUAL(compact(&s), XERR_LOCKED);
    lcb_close(&b);
    CU_ASSERT_EQUAL(compact(&s), LCB_COMPACT_DONE);
    lcbtest_fini(&s.t);
}

/* ---- crashes and failures ---- */

struct golden {
    struct buf states[3]; /* after so many writes */
    int64_t from;
};

static int count_files(struct lcbtest *t)
{
    char path[400];
    int n = 0;
    snprintf(path, sizeof(path), "%s/one/j", t->dir);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.' && !strstr(e->d_name, "-wal") && !strstr(e->d_name, "-shm") &&
             !strstr(e->d_name, ".tail.");
    if (d)
        closedir(d);
    return n;
}

static void make_golden(struct golden *g)
{
    struct scene s = {.writes = 2};
    begin(&s, 2);
    char *path = lcbtest_path(&s.t);
    g->from = window();
    int64_t end = lcbtest_time() + 40; /* all to the same second */
    for (int i = 0; i < 3; i++) {
        int64_t now = lcbtest_time();
        if (i)
            CU_ASSERT_EQUAL(write_more(&s), 0);
        now = lcbtest_time();
        lcbtest_settime(end);
        lcbtest_states(path, &s.t, g->from, &g->states[i]);
        lcbtest_settime(now);
    }
    free(path);
    lcbtest_fini(&s.t);
}

static void after(struct scene *s, const struct golden *g, const char *what)
{
    struct buf got = BUF_INITIALIZER;
    int64_t end = 0;
    lcbtest_open(&s->t, NULL);
    char *path = lcbtest_path(&s->t);
    struct lcb *b = lcbtest_joe(&s->t);
    lcb_close(&b);
    end = g->from + RETENTION + 40;
    lcbtest_settime(end);
    lcbtest_states(path, &s->t, g->from, &got);
    int more = s->acked < 2 && buf_cmp(&got, &g->states[s->acked]) ? 1 : 0;
    if (!lcbtest_same(&got, &g->states[s->acked + more], what))
        printf("%s", lcbtest_log_text());
    CU_ASSERT_FATAL(!buf_cmp(&got, &g->states[s->acked + more]));
    int acked = s->acked + more;
    s->writes = 0;
    lcbtest_settime(g->from + RETENTION);
    int r = compact(s);
    if (r)
        printf("\n%s: again: %s\n%s", what, error_message(r), lcbtest_log_text());
    CU_ASSERT_EQUAL(r, LCB_COMPACT_DONE);
    free(path);
    path = lcbtest_path(&s->t);
    lcbtest_settime(end);
    lcbtest_states(path, &s->t, g->from, &got);
    CU_ASSERT(lcbtest_same(&got, &g->states[acked], what));
    lcbtest_compare(&s->t, path, what);
    CU_ASSERT_EQUAL(count_files(&s->t), 2);
    if (count_files(&s->t) != 2)
        printf("\n%s: %d files\n%s", what, count_files(&s->t), lcbtest_log_text());
    free(path);
    buf_free(&got);
}

/* Call K crashes (ERROR 0) or fails. Returns how many calls there were. */
static long bad_call(const struct golden *g, long k, int error, enum vfs_settle how, int in_place)
{
    struct scene s = {.writes = 2};
    char what[100];
    snprintf(what, sizeof(what), "call %ld, error %d, settled %d, %d", k, error, (int)how, in_place);
    begin(&s, 2);
    char *path = lcbtest_path(&s.t);
    s.path = in_place ? path : NULL;
    lcbtest_close(&s.t);
    struct vfs *v = error ? vfs_fail_new(VFS_FAULT_ALL, 0, error, 0) : vfs_crash_new(s.t.dir, k);
    lcbtest_open(&s.t, v);
    if (error) { /* not the opening of the store */
        long calls = vfs_fault_calls(v);
        lcbtest_close(&s.t);
        vfs_fault_free(&v);
        v = vfs_fail_new(VFS_FAULT_ALL, k ? k + calls : 0, error, 0);
        lcbtest_open(&s.t, v);
    }
    (void)compact(&s);
    lcbtest_close(&s.t);
    long calls = vfs_fault_calls(v);
    if (!error)
        CU_ASSERT_EQUAL(vfs_crash_settle(v, how, (unsigned)k), 0);
    vfs_fault_free(&v);
    after(&s, g, what);
    free(path);
    lcbtest_fini(&s.t);
    return calls;
}

static void every_crash(int in_place)
{
    struct golden g = {.from = 0};
    make_golden(&g);
    long calls = bad_call(&g, 0, 0, VFS_SETTLE_LOST, in_place);
    CU_ASSERT(calls > 30);
    for (long k = 1; k <= calls; k++) {
        bad_call(&g, k, 0, VFS_SETTLE_TORN, in_place);
        if (getenv("CYRUS_BACKUPS_LONG") || k % 2)
            bad_call(&g, k, 0, VFS_SETTLE_LOST, in_place);
        if (getenv("CYRUS_BACKUPS_LONG") || k % 2 == 0)
            bad_call(&g, k, 0, VFS_SETTLE_KEPT, in_place);
    }
    for (int i = 0; i < 3; i++)
        buf_free(&g.states[i]);
}

static void test_crash(void)
{
    every_crash(0);
}

static void test_crash_in_place(void)
{
    every_crash(1);
}

static void test_fail(void)
{
    struct golden g = {.from = 0};
    make_golden(&g);
    long calls = bad_call(&g, 0, EIO, VFS_SETTLE_KEPT, 0);
    for (long k = 1; k < calls; k++)
        bad_call(&g, k, k % 2 ? EIO : ENOSPC, VFS_SETTLE_KEPT, 0);
    for (int i = 0; i < 3; i++)
        buf_free(&g.states[i]);
}

void suite_lcb_compact_crash(void);
void suite_lcb_compact_crash(void)
{
    static const struct unit_test tests[] = {
        {"a writer at work", test_meanwhile},
        {"what was to go comes back", test_returns},
        {"a writer that does not let go", test_locked},
        {"every crash", test_crash},
        {"every crash, in place", test_crash_in_place},
        {"every failure", test_fail},
        {NULL, NULL},
    };
    unit_suite("lcb_compact_crash", tests);
}
