/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of promises: what was acknowledged is there, and nothing is there in part, wherever the
 * machine stopped or the disk said no; and whatever index stands beside the data file. */
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

enum { COMMITS = 6 };

/* What an undisturbed run gives. */
struct golden {
    struct buf dump[COMMITS + 1]; /* after so many commits */
    off_t end[COMMITS + 1];
    long calls;
};

static void golden_free(struct golden *g)
{
    for (int i = 0; i <= COMMITS; i++)
        buf_free(&g->dump[i]);
}

/* One run of the history. */
struct run {
    struct lcbtest t;
    struct lcbtest_history h;
    struct lcb *b;
    int opened;
    int acked; /* commits that returned 0 */
    int save;  /* after this commit the index is saved */
    struct lcbtest_index saved;
};

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? -1 : st.st_size;
}

/* Commands, then a commit; the backup is opened anew once on the way. */
static int next_commit(struct run *run)
{
    int r = 0;
    if (run->acked == 3) {
        lcb_close(&run->b);
        r = lcb_open(run->t.store, "joe", LCB_WRITE, 0, &run->b);
        if (!r)
            run->b->df.chunk_size = 8192;
    }
    for (unsigned n = 2 + lcbtest_draw(&run->h, 3); !r && n; n--)
        r = lcbtest_step(&run->h, run->b);
    if (!r)
        r = lcb_commit(run->b);
    if (!r)
        run->acked++;
    return r;
}

static void go(struct run *run, struct vfs *vfs, unsigned seed, struct golden *g)
{
    int r;
    lcbtest_start(&run->h, seed);
    lcbtest_open(&run->t, vfs);
    r = lcb_open(run->t.store, "joe", LCB_WRITE | LCB_CREATE, 0, &run->b);
    run->opened = !r;
    if (!r)
        run->b->df.chunk_size = 8192;
    for (;;) {
        if (!r && g) {
            lcbtest_dump(lcb_path(run->b), &g->dump[run->acked]);
            g->end[run->acked] = run->b->df.end;
        }
        if (!r && run->acked == run->save)
            lcbtest_saveindex(lcb_path(run->b), &run->saved);
        if (r || run->acked == COMMITS)
            break;
        r = next_commit(run);
    }
    lcb_close(&run->b);
    lcbtest_close(&run->t);
}

/* ---- crashes ---- */

/* The index must say what it said after RUN's last commit, or after the one that was on its way;
 * and always the same, whatever it was before (SAID: what it said first). */
static void check(struct run *run, const struct golden *g, const char *path, struct buf *said,
                  const char *what)
{
    struct buf got = BUF_INITIALIZER;
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(run->t.store, "joe", LCB_WRITE, 0, &b), 0);
    CU_ASSERT(!lcb_dirty(b));
    CU_ASSERT_EQUAL(size_of(path), b->df.end);
    lcb_close(&b);
    lcbtest_dump(path, &got);
    const struct buf *want = said;
    if (!said->s) {
        int more = run->acked < COMMITS && !buf_cmp(&got, &g->dump[run->acked + 1]);
        want = &g->dump[run->acked + more];
    }
    CU_ASSERT(lcbtest_same(&got, want, what));
    buf_ensure(said, got.len);
    buf_setmap(said, got.s, got.len);
    CU_ASSERT(!lcbtest_logged("cannot be understood"));
    buf_free(&got);
}

/* And it goes on from there. */
static void check_usable(struct run *run, const char *what)
{
    struct buf got = BUF_INITIALIZER, again = BUF_INITIALIZER, data = BUF_INITIALIZER;
    struct lcb *b = lcbtest_joe(&run->t);
    lcbtest_start(&run->h, 77);
    for (int i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(lcbtest_step(&run->h, b), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_dump(lcb_path(b), &got);
    lcbtest_read(lcb_path(b), &data);
    lcbtest_rebuild(&run->t, data.s, data.len, &again);
    CU_ASSERT(lcbtest_same(&got, &again, what));
    lcb_close(&b);
    buf_free(&got);
    buf_free(&again);
    buf_free(&data);
}

/* After the reboot: without an index, with that of an earlier commit, with the index as it is. */
static void after_reboot(struct run *run, const struct golden *g, int use, const char *what)
{
    struct buf data = BUF_INITIALIZER, said = BUF_INITIALIZER;
    struct lcbtest_index left = {.db = BUF_INITIALIZER};
    char text[128];
    lcbtest_open(&run->t, NULL);
    char *path = lcbtest_path(&run->t);
    CU_ASSERT(path || !run->opened);
    if (run->opened && path) {
        lcbtest_read(path, &data);
        lcbtest_saveindex(path, &left);
        snprintf(text, sizeof(text), "%s, no index", what);
        lcbtest_rmindex(path);
        check(run, g, path, &said, text);
        if (run->saved.db.len) {
            snprintf(text, sizeof(text), "%s, index of commit %d", what, run->save);
            lcbtest_putindex(path, &run->saved);
            lcbtest_write(path, data.s, data.len);
            check(run, g, path, &said, text);
        }
        snprintf(text, sizeof(text), "%s, index as left", what);
        lcbtest_putindex(path, &left);
        lcbtest_write(path, data.s, data.len);
        check(run, g, path, &said, text);
    }
    if (use)
        check_usable(run, what);
    free(path);
    lcbtest_close(&run->t);
    buf_free(&data);
    buf_free(&said);
    lcbtest_freeindex(&left);
}

static long crash_at(unsigned seed, long k, enum vfs_settle how, unsigned settle_seed,
                     struct golden *g)
{
    struct run run = {.save = g->calls ? (int)((unsigned long)k % 5) : -1};
    char what[80];
    lcbtest_init(&run.t, "");
    struct vfs *v = vfs_crash_new(run.t.dir, k);
    go(&run, v, seed, g->calls ? NULL : g);
    long calls = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(vfs_fault_happened(v), k > 0);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, settle_seed), 0);
    vfs_fault_free(&v);
    if (k > 0) {
        snprintf(what, sizeof(what), "history %u, call %ld, settled %d/%u", seed, k, (int)how,
                 settle_seed);
        after_reboot(&run, g, settle_seed % 2 == 0, what);
    }
    lcbtest_freeindex(&run.saved);
    lcbtest_fini(&run.t);
    return calls;
}

static void every_crash(unsigned seed, unsigned ntorn)
{
    struct golden g = {.calls = 0};
    g.calls = crash_at(seed, 0, VFS_SETTLE_LOST, 0, &g);
    CU_ASSERT(g.calls > 30);
    for (long k = 1; k <= g.calls; k++) {
        crash_at(seed, k, VFS_SETTLE_LOST, 0, &g);
        crash_at(seed, k, VFS_SETTLE_KEPT, 0, &g);
        for (unsigned torn = 1; torn <= ntorn; torn++)
            crash_at(seed, k, VFS_SETTLE_TORN, (unsigned)k * 10 + torn, &g);
    }
    golden_free(&g);
}

static void test_crash(void)
{
    every_crash(1, 3);
}

static void test_crash_more(void)
{
    every_crash(2, 2);
}

/* ---- every cut, every index ---- */

enum { SMALL = 5 };
struct small {
    struct lcbtest t;
    char *path;
    struct buf data;
    struct buf dump[SMALL + 1];
    off_t end[SMALL + 1];
    struct lcbtest_index index[SMALL + 1];
};

static void small_mark(struct small *s, struct lcb *b, int commit)
{
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    lcbtest_dump(s->path, &s->dump[commit]);
    lcbtest_int(s->path, "PRAGMA wal_checkpoint(TRUNCATE)");
    lcbtest_saveindex(s->path, &s->index[commit]);
    s->end[commit] = b->df.end;
    lcbtest_settime(lcbtest_time() + 5);
}

/* A few commits of a hundred bytes or so each; the third has several members. */
static void small_make(struct small *s)
{
    static const char guid[] = "0123456789012345678901234567890123456789";
    const char *records[3] = {NULL, NULL, NULL};
    struct message_guid g;
    struct buf text = BUF_INITIALIZER;
    lcbtest_init(&s->t, "");
    lcbtest_open(&s->t, NULL);
    struct lcb *b = lcbtest_joe(&s->t);
    s->path = xstrdup(lcb_path(b));
    small_mark(s, b, 0);
    records[0] = lcbtest_record(1, 1, "", guid);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("u1", "user.joe", 1, 1, ""), records, NULL),
                    0);
    small_mark(s, b, 1);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe)"), 0);
    small_mark(s, b, 2);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1, 1), 0); /* a member of its own */
    CU_ASSERT_EQUAL(lcbtest_log(b, "SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 1 CONTENT"
                                            " {3}\r\na%b)"), 0);
    lcbtest_message(0, &text, &g);
    CU_ASSERT_EQUAL(lcb_log_message(b, "default", &g, text.len, text.s, -1, 0), 0);
    buf_free(&text);
    small_mark(s, b, 3);
    CU_ASSERT_EQUAL(lcbtest_log(b, "UNSUB", "%(USERID joe MBOXNAME user.joe)"), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 2, 1), 0); /* the flag goes into this one afterwards */
    small_mark(s, b, 4);
    CU_ASSERT_EQUAL(lcbtest_log(b, "UNMAILBOX", "user.joe"), 0);
    small_mark(s, b, 5);
    lcb_close(&b);
    lcbtest_read(s->path, &s->data);
    CU_ASSERT_EQUAL((off_t)s->data.len, s->end[SMALL]);
}

static void small_free(struct small *s)
{
    free(s->path);
    buf_free(&s->data);
    for (int i = 0; i <= SMALL; i++) {
        buf_free(&s->dump[i]);
        lcbtest_freeindex(&s->index[i]);
    }
    lcbtest_fini(&s->t);
}

static void one_pair(struct small *s, size_t cut, int j)
{
    struct buf got = BUF_INITIALIZER;
    struct lcb *b = NULL;
    char what[80];
    int k = 0;
    while (k < SMALL && s->end[k + 1] <= (off_t)cut)
        k++;
    lcbtest_write(s->path, s->data.s, cut);
    if (j < 0)
        lcbtest_rmindex(s->path);
    else
        lcbtest_putindex(s->path, &s->index[j]);
    snprintf(what, sizeof(what), "file cut at %zu (behind commit %d), index of commit %d", cut, k,
             j);
    int r = lcb_open_file(s->t.store, s->path, LCB_WRITE, 0, &b);
    if (r)
        printf("\n%s: %s\n%s", what, error_message(r), lcbtest_log_text());
    CU_ASSERT_EQUAL_FATAL(r, 0);
    CU_ASSERT_EQUAL(b->df.end, s->end[k]);
    lcb_close(&b);
    lcbtest_dump(s->path, &got);
    CU_ASSERT(lcbtest_same(&got, &s->dump[k], what));
    CU_ASSERT_EQUAL(size_of(s->path), s->end[k]);
    snprintf(what, sizeof(what), ".tail.%lld", (long long)lcbtest_time());
    buf_setcstr(&got, s->path);
    buf_appendcstr(&got, what);
    char *tail = buf_release(&got);
    if ((off_t)cut > s->end[k]) { /* what was cut off is kept */
        lcbtest_read(tail, &got);
        CU_ASSERT_EQUAL(got.len, cut - (size_t)s->end[k]);
        CU_ASSERT(got.len && !memcmp(got.s, s->data.s + s->end[k], got.len));
    }
    CU_ASSERT_EQUAL(unlink(tail) == 0, (off_t)cut > s->end[k]);
    free(tail);
    buf_free(&got);
}

/* Every cut with indexes that are behind, level and ahead; those around the end of a commit, and
 * some more, with all there are. */
static void test_pairs(void)
{
    struct small s = {.path = NULL};
    small_make(&s);
    for (size_t cut = 0; cut <= s.data.len; cut++) {
        int k = 0, near = cut % 97 == 0;
        while (k < SMALL && s.end[k + 1] <= (off_t)cut)
            k++;
        for (int i = 0; i <= SMALL; i++)
            near |= cut + 2 >= (size_t)s.end[i] && cut <= (size_t)s.end[i] + 2;
        for (int j = -1; j <= SMALL; j++)
            if (near || j == k || j == (int)(cut % SMALL) + (cut % 2 ? k + 1 : -1))
                one_pair(&s, cut, j);
    }
    small_free(&s);
}

/* ---- failures ---- */

/* The history, but from commit 2 on the K-th call fails. What is known of the calls: in *SPAN. */
struct span {
    long before, after;
};

static void after_failure(struct run *run, const struct golden *g, const char *path, int r,
                          int forever, const char *what)
{
    struct buf got = BUF_INITIALIZER;
    int undone = run->b ? lcb_rollback(run->b) : 0;
    CU_ASSERT(forever || !undone);
    CU_ASSERT(r < 0);
    if (run->b && !undone) {
        CU_ASSERT(!lcb_dirty(run->b));
        lcbtest_dump(path, &got);
        CU_ASSERT(lcbtest_same(&got, &g->dump[run->acked], what));
        CU_ASSERT_EQUAL(size_of(path), g->end[run->acked]);
    } else if (run->b) {
        CU_ASSERT_EQUAL(lcb_commit(run->b), XERR_BROKEN);
        CU_ASSERT_EQUAL(lcb_savepoint(run->b), XERR_BROKEN);
    }
    buf_free(&got);
}

static void fail_at(const struct golden *g, int mask, long k, int error, int forever,
                    struct span *span)
{
    struct run run = {.save = -1};
    struct buf got = BUF_INITIALIZER;
    char what[80];
    int r = 0;
    snprintf(what, sizeof(what), "mask %d, call %ld fails (%d, %d)", mask, k, error, forever);
    lcbtest_init(&run.t, "");
    struct vfs *v = vfs_fail_new(mask, k, error, forever);
    lcbtest_start(&run.h, 1);
    lcbtest_open(&run.t, v);
    run.b = lcbtest_joe(&run.t);
    while (run.acked < 2)
        CU_ASSERT_EQUAL_FATAL(next_commit(&run), 0);
    char *path = xstrdup(lcb_path(run.b));
    if (!k)
        span->before = vfs_fault_calls(v);
    while (!r && run.acked < COMMITS)
        r = next_commit(&run);
    if (!k)
        span->after = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(vfs_fault_happened(v), k > 0);
    if (r)
        after_failure(&run, g, path, r, forever, what);
    lcb_close(&run.b);
    lcbtest_close(&run.t);
    vfs_fault_free(&v);

    lcbtest_open(&run.t, NULL);
    lcbtest_dump(path, &got);
    CU_ASSERT(lcbtest_same(&got, &g->dump[run.acked], what)); /* the index was never ahead */
    run.b = lcbtest_joe(&run.t);
    lcbtest_dump(path, &got);
    /* If the undoing failed too, all of the last commands may be in the file. */
    if (!forever || run.acked == COMMITS || buf_cmp(&got, &g->dump[run.acked + 1]))
        CU_ASSERT(lcbtest_same(&got, &g->dump[run.acked], what));
    lcb_close(&run.b);
    check_usable(&run, what);
    free(path);
    buf_free(&got);
    lcbtest_fini(&run.t);
}

static void every_failure(int mask, int error, int forever)
{
    struct golden g = {.calls = 0};
    struct span span;
    crash_at(1, 0, VFS_SETTLE_LOST, 0, &g);
    fail_at(&g, mask, 0, error, forever, &span);
    CU_ASSERT(span.after - span.before > 10);
    for (long k = span.before + 1; k <= span.after; k++)
        fail_at(&g, mask, k, error, forever, &span);
    golden_free(&g);
}

static void test_eio(void)
{
    every_failure(VFS_FAULT_ALL, EIO, 0);
}

static void test_eio_forever(void)
{
    every_failure(VFS_FAULT_WRITES, EIO, 1);
}

static void test_enospc(void)
{
    every_failure(VFS_FAULT_WRITES, ENOSPC, 0);
}

void suite_lcb_crash(void);
void suite_lcb_crash(void)
{
    static const struct unit_test tests[] = {
        {"every crash", test_crash},
        {"every crash, another history", test_crash_more},
        {"every cut with every index", test_pairs},
        {"EIO at every call", test_eio},
        {"EIO from every write on", test_eio_forever},
        {"ENOSPC at every write", test_enospc},
        {NULL, NULL},
    };
    unit_suite("lcb_crash", tests);
}
