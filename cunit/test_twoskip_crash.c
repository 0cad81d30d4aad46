/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lib/twoskip against power cuts and failing calls: every operation is run again and again, and at
 * each run the next call of it is the one that crashes or fails. Afterwards the database holds the
 * state before or the one after, never a mix; what was committed is there; and it can be used. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cunit/unit.h"
#include "lib/twoskip_int.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* An operation: from the file BASE, made by PREPARE, RUN leads from state BEFORE to AFTER. */
struct operation {
    const char *name;
    int (*run)(struct twoskip *ts);
    int base; /* 0: no file, 1: clean, 2: with an unfinished transaction, 3: large, due */
};

static char dir[96], path[128];
static unsigned level_seed;
/* Levels of records whose heads would often cross a block. */
static const unsigned char tall[] =
    "\11\20\3\30\17\1\26\14\2\37\12\25\6\13\31\10\24\4\22\16\33\7\15\27";

static int set(struct twoskip *ts, struct twoskip_txn *txn, const char *key, const char *value)
{
    return twoskip_store(ts, txn, key, strlen(key), value, strlen(value));
}

static int del(struct twoskip *ts, struct twoskip_txn *txn, const char *key)
{
    return twoskip_delete(ts, txn, key, strlen(key));
}

static int run_nothing(struct twoskip *ts)
{
    (void)ts;
    return 0;
}

static int run_store(struct twoskip *ts)
{
    return set(ts, NULL, "k10x", "new");
}

static int run_replace(struct twoskip *ts)
{
    return set(ts, NULL, "k11", "replaced by something longer");
}

static int run_delete(struct twoskip *ts)
{
    return del(ts, NULL, "k12");
}

static int run_checkpoint(struct twoskip *ts)
{
    return twoskip_checkpoint(ts);
}

/* What is committed after a checkpoint depends on the new file's name. */
static int run_checkpoint_store(struct twoskip *ts)
{
    int r = twoskip_checkpoint(ts);
    return r ? r : run_store(ts);
}

/* Changes that meet each other: neighbours, the same key twice, over several blocks. */
static int run_mixed(struct twoskip *ts)
{
    struct twoskip_txn *txn = NULL;
    char big[900];
    memset(big, 'b', sizeof(big));
    int r = twoskip_begin(ts, &txn);
    r = r ? r : del(ts, txn, "k05");
    r = r ? r : del(ts, txn, "k06");
    r = r ? r : set(ts, txn, "k05", "again");
    r = r ? r : twoskip_store(ts, txn, "k04", 3, big, sizeof(big));
    r = r ? r : set(ts, txn, "k04a", "1");
    r = r ? r : set(ts, txn, "k04a", "2");
    r = r ? r : del(ts, txn, "k00");
    r = r ? r : set(ts, txn, "z", "last");
    r = r ? r : del(ts, txn, "k19");
    if (r)
        twoskip_abort(&txn);
    return r ? r : twoskip_commit(&txn);
}

static const struct operation operations[] = {
    {"create", run_store, 0},
    {"store", run_store, 1},
    {"replace", run_replace, 1},
    {"delete", run_delete, 1},
    {"mixed", run_mixed, 1},
    {"checkpoint", run_checkpoint, 1},
    {"checkpoint and store", run_checkpoint_store, 1},
    {"recover", run_nothing, 2},
    {"recover and change", run_mixed, 2},
    {"close checkpoints", run_mixed, 3},
};
enum { NOPERATIONS = sizeof(operations) / sizeof(operations[0]) };

/* ---- states ---- */

static int add_one(void *rock, const char *key, size_t keylen, const char *value, size_t vallen)
{
    buf_appendmap(rock, key, keylen);
    buf_printf(rock, "=%zu:", vallen);
    buf_appendmap(rock, value, vallen < 30 ? vallen : 30);
    buf_putc(rock, ' ');
    return 0;
}

/* The state of the database, "" if it does not exist, the error if it is unusable. */
static char *state(void)
{
    struct buf b = BUF_INITIALIZER;
    struct twoskip *ts = NULL;
    struct twoskip_txn *txn = NULL;
    struct vfs *quick = vfs_crash_new(dir, 0); /* never crashes, and does not really sync */
    int r = twoskip_open(quick, path, 0, &ts);
    if (!r)
        r = twoskip_consistent(ts);
    if (!r)
        r = twoskip_begin(ts, &txn);
    if (!r)
        r = twoskip_foreach(ts, txn, "", 0, add_one, &b);
    twoskip_abort(&txn);
    if (r && r != XERR_NOTFOUND)
        buf_printf(&b, "error: %s", error_message(r));
    twoskip_close(&ts);
    vfs_fault_free(&quick);
    buf_cstring(&b);
    return buf_release(&b);
}

static void slurp(struct buf *b)
{
    int fd = open(path, O_RDONLY);
    buf_reset(b);
    ssize_t n;
    do {
        n = fd < 0 ? 0 : read(fd, buf_ensure(b, 4096), 4096);
        b->len += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    if (fd >= 0)
        close(fd);
}

static void make_base(int base, struct buf *bytes)
{
    struct twoskip *ts = NULL;
    struct twoskip_txn *txn = NULL;
    struct vfs *quick = vfs_crash_new(dir, 0);
    char key[16], value[64];
    buf_reset(bytes);
    unlink(path);
    if (base) {
        CU_ASSERT_EQUAL_FATAL(twoskip_open(quick, path, TWOSKIP_CREATE, &ts), 0);
        ts->levels = tall;
    }
    for (int i = 0; i < (!base ? 0 : base == 3 ? 150 : 40); i++) {
        snprintf(key, sizeof(key), "k%02d", i * 7 % 20);
        snprintf(value, sizeof(value), "%0*d", i % 50, i);
        CU_ASSERT_EQUAL(set(ts, NULL, key, value), 0);
    }
    if (base == 2) {
        CU_ASSERT_EQUAL(twoskip_begin(ts, &txn), 0);
        for (int i = 0; i < 30; i += 3) {
            snprintf(key, sizeof(key), "k%02d", i);
            if (i % 2 || del(ts, txn, key))
                CU_ASSERT_EQUAL(set(ts, txn, key, "unfinished"), 0);
        }
    }
    slurp(bytes);
    if (ts)
        ts->committed = 0; /* no checkpoint now */
    twoskip_close(&ts);
    vfs_fault_free(&quick);
}

static void put_base(const struct buf *bytes)
{
    char *new = xasprintf("%s.NEW", path);
    unlink(new);
    unlink(path);
    free(new);
    if (!bytes->len)
        return;
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    CU_ASSERT_EQUAL(write(fd, bytes->s, bytes->len), (ssize_t)bytes->len);
    close(fd);
}

/* ---- runs ---- */

static int run_on(struct vfs *v, const struct operation *op)
{
    struct twoskip *ts = NULL;
    int r = twoskip_open(v, path, TWOSKIP_CREATE, &ts);
    if (r)
        return r;
    ts->random = level_seed;
    ts->levels = level_seed % 2 ? tall : NULL;
    r = op->run(ts);
    twoskip_close(&ts);
    return r;
}

static void check_usable(void)
{
    struct twoskip *ts = NULL;
    struct buf v = BUF_INITIALIZER;
    struct vfs *quick = vfs_crash_new(dir, 0);
    CU_ASSERT_EQUAL_FATAL(twoskip_open(quick, path, TWOSKIP_CREATE, &ts), 0);
    CU_ASSERT_EQUAL(set(ts, NULL, "k09a", "usable"), 0);
    CU_ASSERT_EQUAL(twoskip_checkpoint(ts), 0);
    CU_ASSERT_EQUAL(twoskip_fetch(ts, NULL, "k09a", 4, &v), 0);
    UNIT_STR(buf_cstring(&v), "usable");
    CU_ASSERT_EQUAL(twoskip_consistent(ts), 0);
    twoskip_close(&ts);
    vfs_fault_free(&quick);
    buf_free(&v);
}

struct states {
    struct buf base;
    char *before, *after;
};

static void get_states(const struct operation *op, struct states *s)
{
    memset(s, 0, sizeof(*s));
    make_base(op->base, &s->base);
    put_base(&s->base);
    s->before = state();
    put_base(&s->base);
    struct vfs *quick = vfs_crash_new(dir, 0);
    level_seed = 7;
    CU_ASSERT_EQUAL(run_on(quick, op), 0);
    vfs_fault_free(&quick);
    s->after = state();
    CU_ASSERT(strncmp(s->before, "error", 5) != 0);
    CU_ASSERT(op->run == run_nothing || op->run == run_checkpoint || strcmp(s->before, s->after));
}

static void free_states(struct states *s)
{
    buf_free(&s->base);
    free(s->before);
    free(s->after);
}

/* One power cut; returns 0 when K was beyond the last call. */
static int crash_once(const struct operation *op, const struct states *s, long k,
                      enum vfs_settle how, unsigned seed)
{
    put_base(&s->base);
    level_seed = seed + 1;
    struct vfs *v = vfs_crash_new(dir, k);
    int r = run_on(v, op), happened = vfs_fault_happened(v);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    char *now = state();
    int is_before = !strcmp(now, s->before), is_after = !strcmp(now, s->after);
    int good = is_after || (is_before && r);
    if (!good)
        printf(
            "\n%s, call %ld, settle %d, seed %u: result %s\n before %s\n after  %s\n now    %s\n",
            op->name, k, (int)how, seed, error_message(r), s->before, s->after, now);
    CU_ASSERT(good);
    free(now);
    if (seed % 4 == 0)
        check_usable();
    return happened;
}

static void test_crashes(void)
{
    snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
    snprintf(path, sizeof(path), "%s/t.db", dir);
    for (int i = 0; i < NOPERATIONS; i++) {
        const struct operation *op = &operations[i];
        struct states s;
        get_states(op, &s);
        long k = 1;
        while (crash_once(op, &s, k, VFS_SETTLE_LOST, 0)) {
            crash_once(op, &s, k, VFS_SETTLE_KEPT, 0);
            for (unsigned seed = 1; seed <= 20; seed++)
                crash_once(op, &s, k, VFS_SETTLE_TORN, (unsigned)k * 100 + seed);
            k++;
        }
        CU_ASSERT(k > 3);
        free_states(&s);
    }
}

/* One failing call. A failure undoes the operation; the handle, or a new one, goes on. */
static int fail_once(const struct operation *op, const struct states *s, int mask, long k,
                     int forever)
{
    put_base(&s->base);
    level_seed = 7;
    struct vfs *v = vfs_fail_new(mask, k, ENOSPC, forever);
    int r = run_on(v, op), happened = vfs_fault_happened(v);
    vfs_fault_free(&v);
    char *now = state();
    int is_before = !strcmp(now, s->before), is_after = !strcmp(now, s->after);
    int good = r == 0 ? is_after : is_before || (forever && is_after);
    if (!good)
        printf("\n%s, call %ld fails%s: result %s\n before %s\n after  %s\n now    %s\n", op->name,
               k, forever ? " for ever" : "", error_message(r), s->before, s->after, now);
    CU_ASSERT(good);
    CU_ASSERT(happened || r == 0);
    free(now);
    check_usable();
    return happened;
}

static void test_failures(void)
{
    snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
    snprintf(path, sizeof(path), "%s/t.db", dir);
    for (int i = 0; i < NOPERATIONS; i++) {
        const struct operation *op = &operations[i];
        struct states s;
        get_states(op, &s);
        for (int mask = 0; mask < 2; mask++)
            for (int forever = 0; forever < 2; forever++) {
                long k = 1;
                while (fail_once(op, &s, mask ? VFS_FAULT_ALL : VFS_FAULT_SYNCS, k, forever))
                    k++;
                CU_ASSERT(k > 1);
            }
        free_states(&s);
    }
}

/* After a failure the same handle works on, unless it said that it is broken. */
static void test_goes_on(void)
{
    int broken = 0, went_on = 0;
    snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
    snprintf(path, sizeof(path), "%s/t.db", dir);
    struct states s;
    get_states(&operations[1], &s);
    for (int forever = 0; forever < 2; forever++)
        for (long k = 3;; k++) {
            put_base(&s.base);
            struct vfs *v = vfs_fail_new(VFS_FAULT_WRITES, k, EIO, forever);
            struct twoskip *ts = NULL;
            CU_ASSERT_EQUAL_FATAL(twoskip_open(v, path, TWOSKIP_CREATE, &ts), 0);
            ts->random = (uint64_t)k; /* the number of writes depends on the level */
            int r = set(ts, NULL, "k10x", "new");
            int happened = vfs_fault_happened(v);
            int r2 = set(ts, NULL, "k10y", "newer");
            CU_ASSERT(!happened || r);
            CU_ASSERT(forever || !happened || r2 == 0);
            broken += ts->broken;
            went_on += happened && !r2;
            CU_ASSERT(!ts->broken || r2 == XERR_BROKEN);
            twoskip_close(&ts);
            vfs_fault_free(&v);
            char *now = state();
            CU_ASSERT(strncmp(now, "error", 5) != 0);
            CU_ASSERT_EQUAL(strstr(now, "k10y=5:newer") != NULL, r2 == 0);
            free(now);
            if (!happened)
                break;
        }
    CU_ASSERT(broken > 0);
    CU_ASSERT(went_on > 3);
    free_states(&s);
}

void suite_twoskip_crash(void);
void suite_twoskip_crash(void)
{
    static const struct unit_test tests[] = {
        {"crashes", test_crashes},
        {"failures", test_failures},
        {"goes_on", test_goes_on},
        {NULL, NULL},
    };
    unit_suite("twoskip_crash", tests);
}
