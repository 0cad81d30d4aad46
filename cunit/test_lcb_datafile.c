/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of appending to a data file: what is committed never changes, what is taken back leaves no
 * trace, time does not go back, and opening costs the same whatever the size. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* ---- a committed chunk never changes ---- */

/* The file still begins with what was there at the last commit, which becomes KEPT. */
static void check_prefix(const char *path, struct buf *kept, size_t end)
{
    struct buf now = BUF_INITIALIZER;
    lcbtest_read(path, &now);
    CU_ASSERT(now.len >= kept->len);
    CU_ASSERT(!kept->len || (now.len >= kept->len && !memcmp(now.s, kept->s, kept->len)));
    CU_ASSERT(now.len >= end);
    buf_setmap(kept, now.s, now.len < end ? now.len : end);
    buf_free(&now);
}

static void test_unchanging(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct buf kept = BUF_INITIALIZER;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b));
    lcbtest_start(&h, 5);
    size_t end = 0;
    for (int i = 0; i < 150; i++) {
        struct lcbtest_history before = h;
        CU_ASSERT_EQUAL_FATAL(lcbtest_step(&h, b), 0);
        check_prefix(path, &kept, end);
        switch (lcbtest_draw(&h, 8)) {
        case 0:
            CU_ASSERT_EQUAL(lcb_rollback(b), 0);
            before.random = h.random;
            h = before;
            CU_ASSERT_EQUAL((size_t)b->df.end, end);
            break;
        case 1:
            lcb_close(&b);
            b = lcbtest_joe(&t);
            break;
        case 2:
        case 3:
            CU_ASSERT_EQUAL(lcb_commit(b), 0);
            end = (size_t)b->df.end;
            break;
        default:
            continue;
        }
        check_prefix(path, &kept, end);
    }
    CU_ASSERT(end > 20000);
    lcb_close(&b);
    free(path);
    buf_free(&kept);
    lcbtest_fini(&t);
}

/* ---- savepoints ---- */

static void check_savepoint(unsigned seed)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct buf text = BUF_INITIALIZER, data = BUF_INITIALIZER, now = BUF_INITIALIZER;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    lcbtest_start(&h, seed);
    for (unsigned i = 0; i < 4 + seed % 5; i++)
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
    if (seed % 3 == 0)
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
    struct lcb_datafile df = b->df;
    buf_append(&text, &b->df.text);
    lcbtest_read(lcb_path(b), &data);

    CU_ASSERT_EQUAL(lcb_savepoint(b), 0);
    for (unsigned i = 0; i < 1 + seed % 20; i++)
        CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", i & 1 ? "%(MBOXNAME a)" : "%(MBOXNAME b)"), 0);
    for (unsigned i = 0; i < seed % 7; i++)
        CU_ASSERT_EQUAL(lcbtest_upload(b, 7 * i + 3, i & 1), 0); /* each fills a chunk */
    if (seed % 7 > 3)
        CU_ASSERT(b->df.seq > df.seq + 2);
    CU_ASSERT_EQUAL(lcb_savepoint_rollback(b), 0);

    CU_ASSERT_EQUAL(b->df.end, df.end);
    CU_ASSERT_EQUAL(b->df.seq, df.seq);
    CU_ASSERT_EQUAL(b->df.lines, df.lines);
    CU_ASSERT_EQUAL(b->df.last_time, df.last_time);
    if (df.lines)
        CU_ASSERT(lcbtest_same(&b->df.text, &text, "text after a savepoint"));
    lcbtest_read(lcb_path(b), &now);
    CU_ASSERT(!buf_cmp(&now, &data));
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(MBOXNAME c)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_dump(lcb_path(b), &now);
    lcbtest_read(lcb_path(b), &data);
    lcbtest_rebuild(&t, data.s, data.len, &text);
    CU_ASSERT(lcbtest_same(&now, &text, "commit after a savepoint"));
    CU_ASSERT_PTR_NULL(strstr(buf_cstring(&now), "'sub' 'a'"));
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&now), "'sub' 'c'"));
    lcb_close(&b);
    buf_free(&text);
    buf_free(&data);
    buf_free(&now);
    lcbtest_fini(&t);
}

static void test_savepoint(void)
{
    for (unsigned seed = 1; seed <= 42; seed++)
        check_savepoint(seed);
}

/* What was released stays, and goes only with the rest. */
static void test_release(void)
{
    struct lcbtest t;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(lcb_savepoint(b), 0);
        CU_ASSERT_EQUAL(lcbtest_upload(b, 3, 0), 0);
        CU_ASSERT_EQUAL(lcbtest_upload(b, 10, 0), 0);
        CU_ASSERT_EQUAL(lcb_savepoint_release(b), 0);
        CU_ASSERT(lcb_dirty(b));
        CU_ASSERT_EQUAL(i ? lcb_commit(b) : lcb_rollback(b), 0);
        CU_ASSERT(!lcb_dirty(b));
        CU_ASSERT_EQUAL(lcbtest_int(lcb_path(b), "SELECT count(*) FROM contents"), i * 2);
    }
    lcb_close(&b);
    lcbtest_fini(&t);
}

/* ---- time ---- */

struct times {
    int64_t last;
    int lines;
    struct buf text;
};

static int collect(void *rock, const void *p, size_t n)
{
    buf_appendmap(rock, p, n);
    return 0;
}

static int list_chunk(void *rock, const struct lcb_chunk *c)
{
    struct times *times = rock;
    CU_ASSERT(c->first_time <= c->last_time);
    buf_printf(&times->text, "%lld ", (long long)c->seq);
    return 0;
}

static void test_time(void)
{
    static const int steps[] = {5, 0, -3600, 10, 0, -86400 * 400, 3, 86400 * 500, -1, 0};
    struct lcbtest t;
    struct times times = {.last = 0};
    char value[80];
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    for (int i = 0; i < 60; i++) {
        lcbtest_settime(lcbtest_time() + steps[i % 10]);
        snprintf(value, sizeof(value), "%%(MBOXNAME user.joe.%d)", i);
        CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", value), 0);
        if (i % 7 == 0)
            CU_ASSERT_EQUAL(lcb_commit(b), 0);
        if (i % 19 == 0) {
            CU_ASSERT_EQUAL(lcb_commit(b), 0);
            lcb_close(&b);
            b = lcbtest_joe(&t);
        }
    }
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    CU_ASSERT(lcbtest_logged("clock is"));
    CU_ASSERT_EQUAL(lcb_foreach_chunk(b, list_chunk, &times), 0);
    struct buf text = BUF_INITIALIZER;
    char *end;
    for (const char *s = buf_cstring(&times.text); *s; s = end + 1)
        CU_ASSERT_EQUAL(lcb_read_chunk(b, strtoll(s, &end, 10), collect, &text), 0);
    for (char *line = strtok(text.len ? (char *)(uintptr_t)buf_cstring(&text) : NULL, "\r\n"); line;
         line = strtok(NULL, "\r\n")) {
        if (*line == '#')
            continue;
        int64_t time = strtoll(line, &end, 10);
        CU_ASSERT(time >= times.last);
        CU_ASSERT(!strncmp(end, " APPLY SUB %(MBOXNAME user.joe.", 31));
        times.last = time;
        times.lines++;
    }
    CU_ASSERT_EQUAL(times.lines, 60);
    CU_ASSERT_EQUAL(lcbtest_int(lcb_path(b), "SELECT count(*) FROM ticks a JOIN ticks b"
                                             " ON a.pos<b.pos AND a.time>b.time"), 0);
    buf_free(&text);
    buf_free(&times.text);
    lcb_close(&b);
    lcbtest_fini(&t);
}

/* ---- a failed sync ---- */

/* Writes down the calls that change files; the SYNC-th fdatasync fails. */
struct tracer {
    struct vfs vfs;
    struct vfs_ops ops;
    char calls[200];
    int sync;
    int armed;
};

static void trace(struct vfs *v, char c)
{
    struct tracer *tr = (struct tracer *)v;
    size_t n = strlen(tr->calls);
    if (tr->armed && n + 1 < sizeof(tr->calls))
        tr->calls[n] = c;
}

static ssize_t trace_pwrite(struct vfs *v, int fd, const void *p, size_t n, off_t at)
{
    trace(v, 'w');
    return vfs_pwrite(vfs_system(), fd, p, n, at);
}

static int trace_ftruncate(struct vfs *v, int fd, off_t size)
{
    trace(v, 't');
    return vfs_ftruncate(vfs_system(), fd, size);
}

static int trace_fdatasync(struct vfs *v, int fd)
{
    struct tracer *tr = (struct tracer *)v;
    trace(v, 's');
    return tr->armed && --tr->sync == 0 ? -EIO : vfs_fdatasync(vfs_system(), fd);
}

static void tracer_init(struct tracer *tr)
{
    memset(tr, 0, sizeof(*tr));
    tr->ops = *vfs_system()->ops;
    tr->ops.pwrite = trace_pwrite;
    tr->ops.ftruncate = trace_ftruncate;
    tr->ops.fdatasync = trace_fdatasync;
    tr->vfs.ops = &tr->ops;
}

/* After a sync that failed the file is cut, and only then synced; never the same bytes again. */
static void failed_sync(int streamed)
{
    struct lcbtest t;
    struct tracer tr;
    struct buf before = BUF_INITIALIZER, after = BUF_INITIALIZER;
    lcbtest_init(&t, "");
    tracer_init(&tr);
    lcbtest_open(&t, &tr.vfs);
    struct lcb *b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1, 0), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_read(lcb_path(b), &before);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 2, streamed), 0);
    tr.armed = 1;
    tr.sync = 1;
    CU_ASSERT_EQUAL(lcb_commit(b), -EIO);
    UNIT_STR(tr.calls, "wsts");
    CU_ASSERT(!lcb_dirty(b));
    lcbtest_read(lcb_path(b), &after);
    CU_ASSERT(!buf_cmp(&before, &after));
    CU_ASSERT_EQUAL(lcbtest_int(lcb_path(b), "SELECT count(*) FROM contents"), 1);
    CU_ASSERT_EQUAL(lcb_commit(b), 0); /* nothing */
    CU_ASSERT_EQUAL(lcbtest_upload(b, 4, streamed), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    CU_ASSERT_EQUAL(lcbtest_int(lcb_path(b), "SELECT count(*) FROM contents"), 2);
    lcb_close(&b);
    buf_free(&before);
    buf_free(&after);
    lcbtest_fini(&t);
}

static void test_failed_sync(void)
{
    failed_sync(0);
    failed_sync(1);
}

/* ---- cost ---- */

struct many {
    struct lcbtest t;
    struct vfs *vfs;
    char *path;
};

static void fill(struct lcb *b, unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++)
        CU_ASSERT_EQUAL(lcbtest_upload(b, i * 7 + 3, 0), 0); /* 5 KiB each */
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
}

static long long cost_of_open(struct many *m, int flags)
{
    struct lcb *b = NULL;
    long long before = vfs_fault_bytesread(m->vfs);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(m->t.store, m->path, flags, 0, &b), 0);
    lcb_close(&b);
    return vfs_fault_bytesread(m->vfs) - before;
}

static int count(void *rock, const void *p, size_t n)
{
    (void)p;
    *(size_t *)rock += n;
    return 0;
}

static void cost_of_message(struct many *m, unsigned n)
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    struct lcb *b = NULL;
    size_t got = 0;
    char sql[160], hex[41];
    lcbtest_message(n, &text, &guid);
    message_guid_encode(&guid, hex);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(m->t.store, m->path, 0, 0, &b), 0);
    long long before = vfs_fault_bytesread(m->vfs);
    CU_ASSERT_EQUAL(lcb_read_content(b, &guid, count, &got), 0);
    long long cost = vfs_fault_bytesread(m->vfs) - before;
    CU_ASSERT_EQUAL(got, text.len);
    snprintf(sql, sizeof(sql), "SELECT length FROM chunks JOIN contents ON seq=chunk"
                               " WHERE guid=x'%s'", hex);
    CU_ASSERT(cost <= lcbtest_int(m->path, sql) + 1024);
    lcb_close(&b);
    buf_free(&text);
}

static void test_cost(void)
{
    struct many m = {.path = NULL};
    struct lcbtest_index behind = {.db = BUF_INITIALIZER};
    long long small[2], large[2];
    struct stat st;
    lcbtest_init(&m.t, "");
    m.vfs = vfs_fail_new(VFS_FAULT_ALL, 0, EIO, 0);
    lcbtest_open(&m.t, m.vfs);
    struct lcb *b = lcbtest_joe(&m.t);
    m.path = xstrdup(lcb_path(b));
    fill(b, 0, 2);
    lcb_close(&b);
    small[0] = cost_of_open(&m, 0);
    small[1] = cost_of_open(&m, LCB_WRITE);
    b = lcbtest_joe(&m.t);
    for (unsigned i = 0; i < 10; i++)
        fill(b, 2 + i * 50, 50);
    lcbtest_saveindex(m.path, &behind);
    fill(b, 1000, 1);
    lcb_close(&b);
    CU_ASSERT_EQUAL(stat(m.path, &st), 0);
    CU_ASSERT(st.st_size > 2 << 20);

    large[0] = cost_of_open(&m, 0);
    large[1] = cost_of_open(&m, LCB_WRITE);
    CU_ASSERT(large[0] <= 2048 && large[0] <= small[0] * 2);
    CU_ASSERT(large[1] <= 2048 && large[1] <= small[1] * 2);
    cost_of_message(&m, 3);
    cost_of_message(&m, 200 * 7 + 3);
    lcbtest_putindex(m.path, &behind);
    CU_ASSERT(cost_of_open(&m, LCB_WRITE) < 20000); /* rolls one chunk forward */
    lcbtest_putindex(m.path, &behind);
    CU_ASSERT(cost_of_open(&m, 0) < 20000);
    lcbtest_rmindex(m.path);
    CU_ASSERT(cost_of_open(&m, LCB_WRITE) > st.st_size);
    CU_ASSERT_EQUAL(cost_of_open(&m, LCB_WRITE), large[1]);

    lcbtest_close(&m.t);
    vfs_fault_free(&m.vfs);
    lcbtest_freeindex(&behind);
    free(m.path);
    lcbtest_fini(&m.t);
}

/* A message above 2 MiB is a chunk of its own, flagged as streamed, and comes back whole. */
static void test_big(void)
{
    struct lcbtest t;
    struct lcb_member m;
    struct buf text = BUF_INITIALIZER, got = BUF_INITIALIZER;
    struct message_guid guid;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1000001, 1), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 2, 0), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_message(1000001, &text, &guid);
    CU_ASSERT_EQUAL(lcb_read_content(b, &guid, collect, &got), 0);
    CU_ASSERT(!buf_cmp(&text, &got));
    off_t at = lcbtest_int(lcb_path(b), "SELECT start FROM chunks WHERE seq=2");
    CU_ASSERT_EQUAL(lcb_member_at(b->vfs, b->fd, at, b->df.end, &m), 0);
    CU_ASSERT_EQUAL(m.extra.flags, GZ_STREAMED);
    CU_ASSERT_EQUAL(m.extra.seq, 2);
    CU_ASSERT_EQUAL(lcb_member_at(b->vfs, b->fd, at + m.length, b->df.end, &m), 0);
    CU_ASSERT_EQUAL(m.extra.flags, GZ_COMMIT);
    CU_ASSERT_EQUAL(m.offset + m.length, b->df.end);
    lcb_close(&b);
    buf_free(&text);
    buf_free(&got);
    lcbtest_fini(&t);
}

void suite_lcb_datafile(void);
void suite_lcb_datafile(void)
{
    static const struct unit_test tests[] = {
        {"what is committed never changes", test_unchanging},
        {"savepoints", test_savepoint},
        {"savepoints released", test_release},
        {"time never goes back", test_time},
        {"a failed sync is not tried again", test_failed_sync},
        {"cost of opening and reading", test_cost},
        {"a big message", test_big},
        {NULL, NULL},
    };
    unit_suite("lcb_datafile", tests);
}
