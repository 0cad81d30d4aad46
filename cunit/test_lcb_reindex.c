/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of making an index anew while others go on: writers write, readers read, and whatever happens
 * on the way, nothing that was acknowledged is missing. (What it mends: test_lcb_repair.c.) */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "backup/lcb_repair.h"
#include "backup/lcb_summary.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "imap/sync_reply.h"
#include "lib/filelock.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* What goes on meanwhile. */
struct meanwhile {
    struct lcbtest *t;
    struct lcbtest_history *h;
    int calls, chunks; /* those that there were at the beginning */
    int reached;       /* how often something was written */
    int locked;        /* that often it could not be */
    int readers;       /* opened without trouble */
    int (*more)(struct meanwhile *);
};

/* Something is written when the last chunk was read, and when that has been read, too: then it is
 * behind what was looked at without the lock. */
static int chunk_read(void *rock, const struct lcb_chunk *c)
{
    struct meanwhile *m = rock;
    (void)c;
    if (++m->calls >= m->chunks && m->h) {
        int r = m->reached < 2 ? lcbtest_steps(m->t, m->h, 5, 5) : lcbtest_steps(m->t, m->h, 0, 5);
        m->reached += !r && m->reached < 2;
        m->locked += r == XERR_LOCKED;
    }
    return m->more ? m->more(m) : 0;
}

static int reindex(struct lcbtest *t, struct meanwhile *m, const char *path, int keep)
{
    struct lcb_repair rp = {.keep_index = keep, .chunk = chunk_read, .rock = m};
    return lcb_reindex(t->store, path ? NULL : "joe", path, 0, 0, &rp);
}

static int chunks_of(const char *path)
{
    return (int)lcbtest_int(path, "SELECT count(*) FROM chunks");
}

static int count_files(const char *path, const char *suffix)
{
    char *pattern = xasprintf("%s%s", path, suffix);
    glob_t g;
    int n = glob(pattern, 0, NULL, &g) ? 0 : (int)g.gl_pathc;
    if (n)
        globfree(&g);
    free(pattern);
    return n;
}

static ino_t inode(const char *path)
{
    struct stat st = {.st_ino = 0};
    char *name = xasprintf("%s.index", path);
    CU_ASSERT_EQUAL(stat(name, &st), 0);
    free(name);
    return st.st_ino;
}

static char *prepare(struct lcbtest *t, struct lcbtest_history *h, int n)
{
    lcbtest_init(t, "");
    lcbtest_open(t, NULL);
    lcbtest_start(h, 8);
    CU_ASSERT_EQUAL_FATAL(lcbtest_steps(t, h, n, 5), 0);
    return lcbtest_path(t);
}

static int look(struct meanwhile *m)
{
    struct lcb *r = NULL;
    CU_ASSERT_EQUAL(lcb_open(m->t->store, "joe", 0, 0, &r), 0);
    m->readers += r != NULL;
    lcb_close(&r);
    return 0;
}

static void test_meanwhile(void)
{
    for (int way = 0; way < 3; way++) {
        struct lcbtest t;
        struct lcbtest_history h;
        struct lcb *reader = NULL;
        struct buf before = BUF_INITIALIZER, data = BUF_INITIALIZER, now = BUF_INITIALIZER;
        char *path = prepare(&t, &h, 40);
        struct meanwhile m = {.t = &t, .h = &h, .chunks = chunks_of(path), .more = look};
        struct lcb *b = lcbtest_joe(&t);
        CU_ASSERT_EQUAL(sqldb_exec(b->index->db, "UPDATE folders SET mark=id%3; INSERT INTO meta VALUES"
                                                 " ('merged', 7)"), 0);
        CU_ASSERT_EQUAL(lcb_index_commit(b->index), 0);
        lcb_close(&b);
        int64_t marks = lcbtest_int(path, "SELECT sum(mark) FROM folders");
        ino_t was = inode(path);
        lcbtest_read(path, &data);
        CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &reader), 0);
        CU_ASSERT_EQUAL(lcb_snapshot(reader), 0);
        int64_t at = lcbtest_time();
        CU_ASSERT_EQUAL(lcbtest_state(reader, at, &before), 0);
        CU_ASSERT_EQUAL_FATAL(reindex(&t, &m, way == 1 ? path : NULL, way == 2), 0);
        CU_ASSERT_EQUAL(m.reached, 2);
        CU_ASSERT(m.locked > 0); /* what was written last was read under the lock */
        CU_ASSERT(m.readers > m.chunks);
        CU_ASSERT(inode(path) != was);
        CU_ASSERT_EQUAL(count_files(path, ".new*"), 0);
        CU_ASSERT_EQUAL(count_files(path, ".index.[0-9]*[0-9]"), way == 2);
        CU_ASSERT(lcbtest_int(path, "SELECT sum(mark) FROM folders") >= marks);
        CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT value FROM meta WHERE key='merged'"), 7);
        /* Who had it open reads on as if nothing had happened, content too. */
        CU_ASSERT_EQUAL(lcbtest_state(reader, at, &now), 0);
        CU_ASSERT(!buf_cmp(&now, &before));
        lcb_close(&reader);
        lcbtest_compare(&t, path, "made anew meanwhile");
        lcbtest_read(path, &now);
        CU_ASSERT(now.len > data.len && !memcmp(now.s, data.s, data.len));
        CU_ASSERT_EQUAL(lcbtest_steps(&t, &h, 10, 5), 0);
        lcbtest_compare(&t, path, "and written to");
        CU_ASSERT(!lcbtest_logged("rebuil"));
        free(path);
        buf_free(&before);
        buf_free(&data);
        buf_free(&now);
        lcbtest_fini(&t);
    }
}

/* The last chunk was not ended, or the index is none: then writers are locked out. */
static int try_writing(struct meanwhile *m)
{
    m->locked += lcbtest_steps(m->t, NULL, 0, 5) == XERR_LOCKED;
    return 0;
}

static void test_no_use(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    char *path = prepare(&t, &h, 20), *index = xasprintf("%s.index", path);
    struct meanwhile m = {.t = &t, .more = try_writing};
    lcbtest_rmindex(path);
    CU_ASSERT_EQUAL(reindex(&t, &m, NULL, 0), 0);
    CU_ASSERT(m.calls > 2 && m.locked == m.calls);
    lcbtest_compare(&t, path, "there was none");
    m.calls = m.locked = 0;
    lcbtest_rmindex(path);
    lcbtest_write(index, "garbage", 7);
    CU_ASSERT_EQUAL(reindex(&t, &m, NULL, 0), 0);
    CU_ASSERT(m.calls > 2 && m.locked == m.calls);
    lcbtest_compare(&t, path, "there was garbage");
    free(path);
    free(index);
    lcbtest_fini(&t);
}

/* No chunk can be read: all that there is comes from the old index, and is logged again. */
static void test_nothing_left(void)
{
    static const char current[] = "SELECT count(*) FROM records WHERE until IS NULL";
    struct lcbtest t;
    struct lcbtest_history h;
    char *path = prepare(&t, &h, 20);
    struct meanwhile m = {.t = &t};
    int64_t records = lcbtest_int(path, current);
    int fd = open(path, O_RDWR);
    CU_ASSERT_FATAL(fd >= 0 && records > 0);
    for (int seq = 1, chunks = chunks_of(path); seq <= chunks; seq++) {
        char sql[80], c;
        snprintf(sql, sizeof(sql), "SELECT start+length/2 FROM chunks WHERE seq=%d", seq);
        off_t at = lcbtest_int(path, sql);
        CU_ASSERT_EQUAL(pread(fd, &c, 1, at), 1);
        c ^= 1;
        CU_ASSERT_EQUAL(pwrite(fd, &c, 1, at), 1);
    }
    close(fd);
    CU_ASSERT_EQUAL(reindex(&t, &m, NULL, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_int(path, current), records);
    CU_ASSERT_EQUAL(reindex(&t, &m, NULL, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_int(path, current), records);
    free(path);
    lcbtest_fini(&t);
}

/* ---- readers in another process ---- */

static int count(void *rock, const struct lcb_folder *f)
{
    (void)f;
    ++*(int *)rock;
    return 0;
}

/* Looks at it until the pipe is closed: never anything but a whole backup that does not shrink. Exit
 * status: what was wrong. */
static int read_all_the_time(struct lcbtest *t, const char *path, int gone)
{
    int64_t end = 0;
    char c;
    fcntl(gone, F_SETFL, O_NONBLOCK);
    for (int i = 0; read(gone, &c, 1) < 0; i++) {
        struct lcb *b = NULL;
        struct lcb_mark_point p;
        int n = 0, r = i % 2 ? lcb_open_index(t->store, path, &b) : lcb_open(t->store, "joe", 0, 0, &b);
        if (r)
            return r == XERR_LOCKED ? 2 : 3;
        if (lcb_foreach_folder(b, LCB_NOW, 1, count, &n) || lcb_index_getpoint(b->index, &p))
            return 4;
        if (!n)
            return 5;
        if (!(i % 2) && !lcb_index_fits(b))
            return 6;
        if (p.end < end)
            return 7;
        end = p.end;
        lcb_close(&b);
    }
    return 0;
}

static void test_readers(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    char *path = prepare(&t, &h, 30);
    int fds[2], status = -1;
    CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
    lcbtest_close(&t); /* SQLite does not cross a fork */
    pid_t pid = fork();
    if (!pid) {
        close(fds[1]);
        lcbtest_open(&t, NULL);
        _exit(read_all_the_time(&t, path, fds[0]));
    }
    close(fds[0]);
    lcbtest_open(&t, NULL);
    for (int i = 0; i < 40; i++) {
        struct meanwhile m = {.t = &t, .h = &h, .chunks = i % 2 ? 1 : 10};
        CU_ASSERT_EQUAL(reindex(&t, &m, NULL, 0), 0);
        CU_ASSERT_EQUAL(lcbtest_steps(&t, &h, 2, 5), 0);
    }
    close(fds[1]);
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT_EQUAL(status, 0);
    if (status)
        printf("\nthe reader ended with %d\n", WEXITSTATUS(status));
    lcbtest_compare(&t, path, "after all of them");
    CU_ASSERT(!lcbtest_logged("aside"));
    free(path);
    lcbtest_fini(&t);
}

/* ---- who always comes too late ---- */

/* Somebody who does not heed the lock of maintenance. */
static int other_index(struct meanwhile *m)
{
    struct lcb *b = NULL;
    if (m->calls % 4 == 0 && !lcb_open(m->t->store, "joe", LCB_WRITE, 0, &b)) {
        CU_ASSERT_EQUAL(lcb_renew_index(b, "replaced"), 0);
        lcb_close(&b);
        CU_ASSERT_EQUAL(lcbtest_steps(m->t, NULL, 0, 5), 0);
    }
    return 0;
}

struct late {
    char *path, *copy;
    int fd, times;
    int gone; /* there is no other */
};

/* The file becomes another one, as often as somebody waits for its lock. */
static void other_file(void *rock)
{
    struct late *l = rock;
    struct buf data = BUF_INITIALIZER;
    int was = l->fd;
    l->times++;
    l->fd = -1;
    if (l->gone) {
        CU_ASSERT_EQUAL(unlink(l->path), 0);
    } else {
        lcbtest_read(l->path, &data);
        lcbtest_write(l->copy, data.s, data.len);
        l->fd = open(l->copy, O_RDWR | O_CLOEXEC);
        CU_ASSERT_EQUAL(filelock_lock(l->fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL), 0);
        CU_ASSERT_EQUAL(rename(l->copy, l->path), 0);
    }
    close(was);
    buf_free(&data);
}

static void test_late(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct lcb *b = NULL;
    char *path = prepare(&t, &h, 20);
    struct meanwhile m = {.t = &t, .more = other_index};
    CU_ASSERT_EQUAL(reindex(&t, &m, NULL, 0), XERR_STALE);
    CU_ASSERT_EQUAL(count_files(path, ".new*"), 0);
    lcbtest_compare(&t, path, "replaced three times");

    struct late l = {.path = path, .copy = xasprintf("%s.copy", path)};
    for (int file = 0; file < 3; file++) {
        l.gone = file == 2;
        l.times = 0;
        l.fd = open(path, O_RDWR | O_CLOEXEC);
        CU_ASSERT_EQUAL(filelock_lock(l.fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL), 0);
        lcb_store_setwaiting(t.store, other_file, &l);
        int r = file == 1 ? lcb_open_file(t.store, path, LCB_WRITE, 5000, &b)
                          : lcb_open(t.store, "joe", LCB_WRITE, 5000, &b);
        CU_ASSERT_EQUAL(r, l.gone ? -ENOENT : XERR_STALE);
        CU_ASSERT_EQUAL(l.times, l.gone ? 1 : 10);
        if (l.fd >= 0)
            close(l.fd);
        lcb_store_setwaiting(t.store, NULL, NULL);
    }
    /* That is no missing mailbox, and clients wait and come again. */
    CU_ASSERT_PTR_NOT_NULL(strstr(error_message(XERR_STALE), "try again"));
    CU_ASSERT_EQUAL(sync_reply_code(XERR_STALE), SYNC_LOCKED);
    free(l.copy);
    free(path);
    lcbtest_fini(&t);
}

/* ---- crashes and failures ---- */

static void say(struct lcbtest *t, const char *path, struct buf *out)
{
    struct lcb *b = lcbtest_joe(t);
    CU_ASSERT_STRING_EQUAL(lcb_path(b), path);
    lcb_close(&b);
    lcbtest_dump(path, out);
}

struct golden {
    struct buf dump[3]; /* nothing, five steps, ten written on the way */
    int chunks;
};

static void make_golden(struct golden *g)
{
    for (int i = 0; i < 3; i++) {
        struct lcbtest t;
        struct lcbtest_history h;
        char *path = prepare(&t, &h, 12);
        g->chunks = i ? g->chunks : chunks_of(path);
        for (int j = 0; j < i; j++)
            CU_ASSERT_EQUAL(lcbtest_steps(&t, &h, 5, 5), 0);
        say(&t, path, &g->dump[i]);
        free(path);
        lcbtest_fini(&t);
    }
}

static void free_golden(struct golden *g)
{
    for (int i = 0; i < 3; i++)
        buf_free(&g->dump[i]);
}

/* What was acknowledged is there, and the next run leaves nothing behind. */
static void after(struct lcbtest *t, const struct golden *g, int reached, const char *path,
                  const char *text)
{
    struct buf got = BUF_INITIALIZER;
    struct meanwhile m = {.t = t};
    lcbtest_open(t, NULL);
    say(t, path, &got);
    int more = reached < 2 && !buf_cmp(&got, &g->dump[reached + 1]);
    CU_ASSERT(lcbtest_same(&got, &g->dump[reached + more], text));
    CU_ASSERT(!lcbtest_logged("rebuil")); /* there is an index, or it need only be taken */
    CU_ASSERT_EQUAL(reindex(t, &m, NULL, 0), 0);
    say(t, path, &got);
    CU_ASSERT(lcbtest_same(&got, &g->dump[reached + more], text));
    lcbtest_compare(t, path, text);
    CU_ASSERT_EQUAL(count_files(path, ".new*"), 0);
    buf_free(&got);
}

static long crash_at(const struct golden *g, int keep, long k, enum vfs_settle how, unsigned seed)
{
    struct lcbtest t;
    struct lcbtest_history h;
    char text[120], *path = prepare(&t, &h, 12);
    struct meanwhile m = {.t = &t, .h = &h, .chunks = g->chunks};
    struct vfs *v = vfs_crash_new(t.dir, k);
    lcbtest_close(&t);
    lcbtest_open(&t, v);
    int r = reindex(&t, &m, NULL, keep);
    CU_ASSERT(k ? vfs_fault_happened(v) : !r);
    lcbtest_close(&t);
    long calls = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    snprintf(text, sizeof(text), "keep %d, call %ld, settled %d/%u", keep, k, (int)how, seed);
    after(&t, g, m.reached, path, text);
    free(path);
    lcbtest_fini(&t);
    return calls;
}

static void test_crash(void)
{
    struct golden g = {.chunks = 0};
    make_golden(&g);
    for (int keep = 0; keep < 2; keep++) {
        long calls = crash_at(&g, keep, 0, VFS_SETTLE_LOST, 0);
        CU_ASSERT(calls > 10);
        for (long k = 1; k <= calls; k++) {
            crash_at(&g, keep, k, VFS_SETTLE_LOST, 0);
            crash_at(&g, keep, k, VFS_SETTLE_KEPT, 0);
            crash_at(&g, keep, k, VFS_SETTLE_TORN, (unsigned)k * 10 + 1);
        }
    }
    free_golden(&g);
}

/* Call K fails. 0 if there are not so many. */
static int fail_at(const struct golden *g, long k, int mask, int error, int forever)
{
    struct lcbtest t;
    struct lcbtest_history h;
    char text[120], *path = prepare(&t, &h, 12);
    struct meanwhile m = {.t = &t, .h = &h, .chunks = g->chunks};
    struct vfs *v = vfs_fail_new(mask, k, error, forever);
    lcbtest_close(&t);
    lcbtest_open(&t, v);
    (void)reindex(&t, &m, NULL, 0);
    int happened = vfs_fault_happened(v);
    lcbtest_close(&t);
    vfs_fault_free(&v);
    snprintf(text, sizeof(text), "call %ld fails with %d, %s", k, error, forever ? "for ever" : "once");
    after(&t, g, m.reached, path, text);
    free(path);
    lcbtest_fini(&t);
    return happened;
}

static void test_fail(void)
{
    struct golden g = {.chunks = 0};
    long k = 1;
    struct lcbtest t;
    make_golden(&g);
    lcbtest_init(&t, "");
    struct vfs *none = vfs_fail_new(VFS_FAULT_WRITES, 0, EIO, 0);
    lcbtest_open(&t, none);
    long before = vfs_fault_calls(none);
    lcbtest_close(&t);
    vfs_fault_free(&none);
    lcbtest_fini(&t);
    for (k = before + 1; fail_at(&g, k, VFS_FAULT_WRITES, EIO, 0); k++)
        fail_at(&g, k, VFS_FAULT_WRITES, ENOSPC, 1);
    CU_ASSERT(k - before > 10);
    free_golden(&g);
}

/* ---- between the last look and the lock ---- */

struct late_vfs {
    struct vfs vfs;
    struct lcbtest *t;
    const char *path;
};

static const char *hex_of(unsigned n)
{
    static char hex[41];
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    lcbtest_message(n, &text, &guid);
    message_guid_encode(&guid, hex);
    buf_free(&text);
    return hex;
}

/* The message in U1 goes to U2. */
static void move_message(struct lcbtest *t)
{
    const char *records[] = {NULL, NULL};
    struct lcb *b = lcbtest_joe(t);
    records[0] = lcbtest_record(1, 11, "\\Expunged", hex_of(1));
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("U1", "user.joe", 1, 11, ""), records, NULL),
                    0);
    records[0] = lcbtest_record(1, 11, "", hex_of(1));
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("U2", "user.joe.b", 1, 11, ""), records, NULL),
                    0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
}

/* It opens the file for writing when it wants the lock. */
static int late_open(struct vfs *v, const char *path, int flags, mode_t mode)
{
    struct late_vfs *l = (struct late_vfs *)v;
    if (l->path && (flags & O_ACCMODE) == O_RDWR && !strcmp(path, l->path)) {
        l->path = NULL;
        move_message(l->t);
    }
    return vfs_system()->ops->open(v, path, flags, mode);
}

/* A message that is not what its GUID says is moved to another mailbox: that is the one that lacks
 * it. */
static void test_late_move(void)
{
    struct lcbtest t;
    struct vfs_ops ops = *vfs_system()->ops;
    struct late_vfs late = {.vfs = {&ops}, .t = &t};
    struct lcb_repair rp = {.rock = NULL};
    struct message_guid guid;
    struct buf text = BUF_INITIALIZER;
    ops.open = late_open;
    lcbtest_init(&t, "");
    lcbtest_open(&t, &late.vfs);
    lcbtest_message(1, &text, &guid);
    const char *records[] = {lcbtest_record(1, 10, "", hex_of(1)), NULL};
    struct lcb *b = lcbtest_joe(&t);
    text.s[text.len / 2] ^= 1;
    CU_ASSERT_EQUAL(lcb_log_message(b, "default", &guid, text.len, text.s, -1, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("U1", "user.joe", 1, 10, ""), records, NULL),
                    0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    char *path = lcbtest_path(&t);
    late.path = path;
    CU_ASSERT_EQUAL(lcb_reindex(t.store, "joe", NULL, 0, 0, &rp), 0);
    CU_ASSERT_EQUAL(rp.unsound, 1);
    CU_ASSERT(late.path == NULL);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT mark FROM folders WHERE uniqueid='U2'"),
                    LCB_MARK_CONTENT);
    CU_ASSERT_EQUAL(rp.messages, 1);
    free(path);
    buf_free(&text);
    lcbtest_fini(&t);
}

void suite_lcb_reindex(void);
void suite_lcb_reindex(void)
{
    static const struct unit_test tests[] = {
        {"writers and readers on the way", test_meanwhile},
        {"an index that is of no use", test_no_use},
        {"nothing can be read", test_nothing_left},
        {"readers all the time", test_readers},
        {"who always comes too late", test_late},
        {"a message that moves at the last moment", test_late_move},
        {"every crash", test_crash},
        {"every failure", test_fail},
        {NULL, NULL},
    };
    unit_suite("lcb_reindex", tests);
}
