/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/twoskip: the format byte by byte, and what the functions promise. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "cunit/unit.h"
#include "lib/twoskip_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static char path[128];

static struct twoskip *reopen(void)
{
    struct twoskip *ts = NULL;
    CU_ASSERT_EQUAL_FATAL(twoskip_open(vfs_system(), path, TWOSKIP_CREATE, &ts), 0);
    return ts;
}

static struct twoskip *fresh(void)
{
    snprintf(path, sizeof(path), "%s/t.db", unit_tmpdir());
    return reopen();
}

static int set(struct twoskip *ts, struct twoskip_txn *txn, const char *key, const char *value)
{
    return twoskip_store(ts, txn, key, strlen(key), value, strlen(value));
}

static int del(struct twoskip *ts, struct twoskip_txn *txn, const char *key)
{
    return twoskip_delete(ts, txn, key, strlen(key));
}

static int add_one(void *rock, const char *key, size_t keylen, const char *value, size_t vallen)
{
    buf_appendmap(rock, key, keylen);
    buf_putc(rock, '=');
    buf_appendmap(rock, value, vallen);
    buf_putc(rock, ' ');
    return 0;
}

/* All records as "key=value key=value ", valid until the next call. */
static const char *dump(struct twoskip *ts, struct twoskip_txn *txn, const char *prefix)
{
    static char text[8192];
    struct buf b = BUF_INITIALIZER;
    int r = twoskip_foreach(ts, txn, prefix, strlen(prefix), add_one, &b);
    snprintf(text, sizeof(text), "%s%s", buf_cstring(&b), r ? error_message(r) : "");
    buf_free(&b);
    return text;
}

static size_t slurp(unsigned char *p, size_t size)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, p, size);
    close(fd);
    return n < 0 ? 0 : (size_t)n;
}

static void spew(const unsigned char *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CU_ASSERT_EQUAL(write(fd, p, n), (ssize_t)n);
    close(fd);
}

/* ---- the format ---- */

static void check64(const unsigned char *file, size_t at, uint64_t expected)
{
    CU_ASSERT_EQUAL(ts_get64(file + at), expected);
}

/* A file that Cyrus 3.6's cyr_dbtool wrote, reproduced: two sets, then a delete. */
static void test_bytes(void)
{
    static const unsigned char levels[] = {3, 2, 0};
    unsigned char f[1024];
    struct twoskip *ts = fresh();
    CU_ASSERT_EQUAL(slurp(f, sizeof(f)), 336);
    check64(f, 24, 1);
    check64(f, 40, 336);
    check64(f, 48, 336);
    ts->levels = levels;
    CU_ASSERT_EQUAL(set(ts, NULL, "alice", "/srv/backup/a/alice_N54g4s"), 0);
    CU_ASSERT_EQUAL(set(ts, NULL, "%SHARED", "/srv/backup/q/%SHARED_1hHWF0"), 0);
    memset(f, 0, sizeof(f));
    CU_ASSERT_EQUAL(slurp(f, sizeof(f)), 544);
    CU_ASSERT(!memcmp(f, "\241\002\213\015twoskip file\0\0\0\0\0\0\0\1", 24));
    CU_ASSERT_EQUAL(ts_get64(f + 0x20), 2);
    check64(f, 0x28, 0x150);
    check64(f, 0x30, 0x220);
    CU_ASSERT_EQUAL(ts_get32(f + 0x38), 0);
    CU_ASSERT_EQUAL(ts_get32(f + 0x3c), 0x3916ab9c);
    CU_ASSERT_EQUAL(ts_get64(f + 0x40), 0x3d1f000000000000);
    check64(f, 0x48, 0x1b8);
    check64(f, 0x50, 0x150);
    check64(f, 0x58, 0x1b8);
    check64(f, 0x60, 0x150);
    for (size_t at = 0x68; at < 0x148; at += 8)
        check64(f, at, 0);
    CU_ASSERT_EQUAL(ts_get64(f + 0x148), 0xeba64d3f00000000);
    CU_ASSERT_EQUAL(ts_get64(f + 0x150), 0x2b0300050000001a);
    for (size_t at = 0x158; at < 0x178; at += 8)
        check64(f, at, 0);
    CU_ASSERT_EQUAL(ts_get64(f + 0x178), 0x6e6ff3add9ffc9db);
    CU_ASSERT(!memcmp(f + 0x180, "alice/srv/backup/a/alice_N54g4s", 32));
    CU_ASSERT(
        !memcmp(f + 0x1a0, "\x24\0\0\0\0\0\0\0\0\0\0\0\0\0\1\x50\x5d\xc5\x1c\x1a\0\0\0\0", 24));
    CU_ASSERT_EQUAL(ts_get64(f + 0x1b8), 0x2b0200070000001c);
    check64(f, 0x1c0, 0);
    check64(f, 0x1c8, 0x150);
    check64(f, 0x1d0, 0x150);
    CU_ASSERT_EQUAL(ts_get64(f + 0x1d8), 0x865bd8544f8fac6c);
    CU_ASSERT(!memcmp(f + 0x1e0, "%SHARED/srv/backup/q/%SHARED_1hHWF0\0\0\0\0\0", 40));
    check64(f, 0x210, 0x1b8);
    CU_ASSERT_EQUAL(ts_get64(f + 0x218), 0xf314765000000000);

    CU_ASSERT_EQUAL(del(ts, NULL, "alice"), 0);
    CU_ASSERT_EQUAL(slurp(f, sizeof(f)), 592);
    check64(f, 0x20, 1);
    check64(f, 0x30, 0x250);
    check64(f, 0x60, 0);
    check64(f, 0x1c0, 0x220);
    check64(f, 0x1c8, 0x150);
    check64(f, 0x1d0, 0);
    CU_ASSERT_EQUAL(ts_get64(f + 0x220), 0x2d00000000000000);
    check64(f, 0x228, 0);
    CU_ASSERT_EQUAL(ts_get32(f + 0x230), 0xf2ce7271);
    check64(f, 0x240, 0x220);
    CU_ASSERT_EQUAL(twoskip_consistent(ts), 0);
    twoskip_close(&ts);
}

/* The rewritable part of every head (all but its first 8 bytes) lies within one block, and the file
 * is records and fillers without gaps. */
static void test_blocks(void)
{
    struct twoskip *ts = fresh();
    struct ts_record rec;
    char key[16], value[300];
    int records = 0, fillers = 0;
    ts->random = 1;
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof(key), "user%d", i * 7919 % 200);
        snprintf(value, sizeof(value), "%0*d", 1 + i * 37 % 200, i);
        CU_ASSERT_EQUAL(set(ts, NULL, key, value), 0);
    }
    CU_ASSERT_EQUAL(ts_lock(ts, FILELOCK_SHARED), 0);
    for (uint64_t at = TS_DUMMY; at < ts->end;) {
        if (ts_read(ts, at, &rec)) {
            char blank[8];
            CU_ASSERT_EQUAL(vfs_pread(ts->vfs, ts->fd, blank, 8, (off_t)at), 8);
            CU_ASSERT_FATAL(!memcmp(blank, " BLANK\007\240", 8));
            fillers++;
            at += 8;
            continue;
        }
        CU_ASSERT_EQUAL((at + 8) / 512, (at + rec.headlen - 1) / 512);
        records += rec.type == TS_IS_RECORD;
        at += rec.headlen + ((rec.keylen + rec.vallen + 7) & ~7u);
    }
    ts_unlock(ts);
    CU_ASSERT_EQUAL(records, 200);
    CU_ASSERT(fillers > 20);
    twoskip_close(&ts);
}

static void test_long(void)
{
    struct twoskip *ts = fresh();
    struct buf v = BUF_INITIALIZER;
    char *key = xmalloc(TS_MAXKEY + 1), *big = xmalloc(70000);
    memset(key, 'k', TS_MAXKEY + 1);
    memset(big, 'v', 70000);
    for (size_t n = 65533; n <= 65537; n++)
        CU_ASSERT_EQUAL(twoskip_store(ts, NULL, key, n, big, n), 0);
    CU_ASSERT_EQUAL(twoskip_store(ts, NULL, key, TS_MAXKEY, "x", 1), 0);
    CU_ASSERT_EQUAL(twoskip_store(ts, NULL, key, TS_MAXKEY + 1, "x", 1), XERR_TOOBIG);
    CU_ASSERT_EQUAL(twoskip_store(ts, NULL, key, 0, "x", 1), XERR_PARAM);
    CU_ASSERT_EQUAL(twoskip_store(ts, NULL, "\0\377", 2, "", 0), 0);
    CU_ASSERT_EQUAL(twoskip_store(ts, NULL, "\0", 1, "\0", 1), 0);
    CU_ASSERT_EQUAL(twoskip_checkpoint(ts), 0);
    for (size_t n = 65533; n <= 65537; n++) {
        CU_ASSERT_EQUAL(twoskip_fetch(ts, NULL, key, n, &v), 0);
        CU_ASSERT_EQUAL(v.len, n);
    }
    CU_ASSERT_EQUAL(twoskip_fetch(ts, NULL, "\0\377", 2, &v), 0);
    CU_ASSERT_EQUAL(v.len, 0);
    CU_ASSERT_EQUAL(twoskip_fetch(ts, NULL, "\0", 1, &v), 0);
    CU_ASSERT_EQUAL(v.len, 1);
    CU_ASSERT_EQUAL(twoskip_consistent(ts), 0);
    buf_free(&v);
    free(key);
    free(big);
    twoskip_close(&ts);
}

/* ---- behaviour ---- */

static void test_basic(void)
{
    struct buf v = BUF_INITIALIZER;
    struct twoskip *ts = NULL;
    uint64_t count;
    snprintf(path, sizeof(path), "%s/sub/t.db", unit_tmpdir());
    CU_ASSERT_EQUAL(twoskip_open(vfs_system(), path, 0, &ts), XERR_NOTFOUND);
    CU_ASSERT_PTR_NULL(ts);
    ts = reopen();
    UNIT_STR(dump(ts, NULL, ""), "");
    CU_ASSERT_EQUAL(del(ts, NULL, "a"), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(set(ts, NULL, "b", "1"), 0);
    CU_ASSERT_EQUAL(set(ts, NULL, "ab", "2"), 0);
    CU_ASSERT_EQUAL(set(ts, NULL, "a", "3"), 0);
    CU_ASSERT_EQUAL(set(ts, NULL, "b", "four"), 0);
    UNIT_STR(dump(ts, NULL, ""), "a=3 ab=2 b=four ");
    UNIT_STR(dump(ts, NULL, "a"), "a=3 ab=2 ");
    UNIT_STR(dump(ts, NULL, "aa"), "");
    uint64_t size = ts->hdr.current_size;
    CU_ASSERT_EQUAL(set(ts, NULL, "b", "four"), 0); /* nothing new: nothing written */
    CU_ASSERT_EQUAL(ts->hdr.current_size, size);
    CU_ASSERT_EQUAL(twoskip_fetch(ts, NULL, "ab", 2, &v), 0);
    UNIT_STR(buf_cstring(&v), "2");
    CU_ASSERT_EQUAL(del(ts, NULL, "ab"), 0);
    CU_ASSERT_EQUAL(twoskip_fetch(ts, NULL, "ab", 2, &v), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(twoskip_count(ts, &count), 0);
    CU_ASSERT_EQUAL(count, 2);
    twoskip_close(&ts);
    CU_ASSERT_PTR_NULL(ts);
    ts = reopen();
    UNIT_STR(dump(ts, NULL, ""), "a=3 b=four ");
    twoskip_close(&ts);
    buf_free(&v);
}

static void test_txn(void)
{
    struct twoskip *ts = fresh(), *other = reopen();
    struct twoskip_txn *txn = NULL, *second = NULL;
    struct buf v = BUF_INITIALIZER;
    set(ts, NULL, "a", "1");
    CU_ASSERT_EQUAL(twoskip_begin(ts, &txn), 0);
    CU_ASSERT_EQUAL(twoskip_begin(ts, &second), XERR_LOCKED);
    CU_ASSERT_EQUAL(set(ts, txn, "b", "2"), 0);
    CU_ASSERT_EQUAL(set(ts, txn, "b", "3"), 0);
    CU_ASSERT_EQUAL(del(ts, txn, "a"), 0);
    CU_ASSERT_EQUAL(del(ts, txn, "a"), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(set(ts, NULL, "c", "2"), XERR_LOCKED);
    CU_ASSERT_EQUAL(twoskip_fetch(ts, NULL, "b", 1, &v), XERR_LOCKED);
    CU_ASSERT_EQUAL(twoskip_fetch(ts, txn, "b", 1, &v), 0);
    CU_ASSERT_EQUAL(twoskip_fetch(other, txn, "b", 1, &v), XERR_PARAM);
    CU_ASSERT_EQUAL(set(other, txn, "b", "1"), XERR_PARAM);
    UNIT_STR(dump(ts, txn, ""), "b=3 ");
    twoskip_abort(&txn);
    CU_ASSERT_PTR_NULL(txn);
    twoskip_abort(&txn);
    UNIT_STR(dump(ts, NULL, ""), "a=1 ");
    CU_ASSERT_EQUAL(twoskip_consistent(ts), 0);

    CU_ASSERT_EQUAL(twoskip_begin(ts, &txn), 0);
    CU_ASSERT_EQUAL(set(ts, txn, "b", "2"), 0);
    CU_ASSERT_EQUAL(del(ts, txn, "a"), 0);
    CU_ASSERT_EQUAL(set(ts, txn, "a", "5"), 0);
    CU_ASSERT_EQUAL(twoskip_commit(&txn), 0);
    CU_ASSERT_PTR_NULL(txn);
    UNIT_STR(dump(other, NULL, ""), "a=5 b=2 ");
    CU_ASSERT_EQUAL(twoskip_begin(ts, &txn), 0);
    CU_ASSERT_EQUAL(twoskip_commit(&txn), 0);
    CU_ASSERT_EQUAL(twoskip_begin(ts, &txn), 0);
    CU_ASSERT_EQUAL(set(ts, txn, "z", "z"), 0);
    twoskip_close(&ts); /* aborts */
    UNIT_STR(dump(other, NULL, ""), "a=5 b=2 ");
    CU_ASSERT_EQUAL(twoskip_consistent(other), 0);
    twoskip_close(&other);
    buf_free(&v);
}

/* A walk during which records come and go. */
struct meddler {
    struct twoskip *ts;
    struct twoskip_txn *txn;
    struct buf seen;
};

static int meddle(void *rock, const char *key, size_t keylen, const char *value, size_t vallen)
{
    struct meddler *m = rock;
    add_one(&m->seen, key, keylen, value, vallen);
    if (!strcmp(key, "b")) {
        CU_ASSERT_EQUAL(del(m->ts, m->txn, "b"), 0);
        CU_ASSERT_EQUAL(del(m->ts, m->txn, "c"), 0);
        CU_ASSERT_EQUAL(set(m->ts, m->txn, "a2", "late"), 0);
        CU_ASSERT_EQUAL(set(m->ts, m->txn, "d", "new"), 0);
        CU_ASSERT(m->txn || twoskip_checkpoint(m->ts) == 0);
    }
    return key[0] == 'y' ? 77 : 0;
}

static void test_foreach(void)
{
    for (int in_txn = 0; in_txn < 2; in_txn++) {
        struct meddler m = {.ts = fresh()};
        for (const char *k = "zyecba"; *k; k++)
            CU_ASSERT_EQUAL(twoskip_store(m.ts, NULL, k, 1, k, 1), 0);
        if (in_txn)
            CU_ASSERT_EQUAL(twoskip_begin(m.ts, &m.txn), 0);
        CU_ASSERT_EQUAL(twoskip_foreach(m.ts, m.txn, "", 0, meddle, &m), 77);
        UNIT_STR(buf_cstring(&m.seen), "a=a b=b d=new e=e y=y ");
        if (in_txn)
            CU_ASSERT_EQUAL(twoskip_commit(&m.txn), 0);
        CU_ASSERT_EQUAL(twoskip_consistent(m.ts), 0);
        buf_free(&m.seen);
        twoskip_close(&m.ts);
    }
}

/* Random changes, aborts and checkpoints by two handles, against a table. */
static void test_random(void)
{
    enum { KEYS = 60 };
    int table[KEYS] = {0}, next[KEYS];
    unsigned seed = 20260101;
    struct twoskip *ts[2] = {fresh(), reopen()};
    for (int round = 1; round <= 400; round++) {
        struct twoskip *t = ts[rand_r(&seed) % 2];
        struct twoskip_txn *txn;
        memcpy(next, table, sizeof(next));
        CU_ASSERT_EQUAL_FATAL(twoskip_begin(t, &txn), 0);
        for (int i = rand_r(&seed) % 8; i >= 0; i--) {
            char key[16], value[16];
            int k = rand_r(&seed) % KEYS;
            snprintf(key, sizeof(key), "k%02d", k);
            snprintf(value, sizeof(value), "%d", round);
            if (rand_r(&seed) % 3) {
                CU_ASSERT_EQUAL(set(t, txn, key, value), 0);
                next[k] = round;
            } else {
                CU_ASSERT_EQUAL(del(t, txn, key), next[k] ? 0 : XERR_NOTFOUND);
                next[k] = 0;
            }
        }
        if (rand_r(&seed) % 4) {
            CU_ASSERT_EQUAL(twoskip_commit(&txn), 0);
            memcpy(table, next, sizeof(next));
        } else {
            twoskip_abort(&txn);
        }
        if (rand_r(&seed) % 40 == 0)
            CU_ASSERT_EQUAL(twoskip_checkpoint(t), 0);
        if (rand_r(&seed) % 40 == 0) {
            twoskip_close(&ts[0]);
            ts[0] = reopen();
        }
        struct buf expected = BUF_INITIALIZER;
        for (int k = 0; k < KEYS; k++)
            if (table[k])
                buf_printf(&expected, "k%02d=%d ", k, table[k]);
        UNIT_STR(dump(ts[rand_r(&seed) % 2], NULL, ""), buf_cstring(&expected));
        buf_free(&expected);
        CU_ASSERT_EQUAL(twoskip_consistent(ts[rand_r(&seed) % 2]), 0);
    }
    twoskip_close(&ts[0]);
    twoskip_close(&ts[1]);
}

static void test_checkpoint(void)
{
    struct twoskip *ts = fresh(), *waiting = reopen();
    char key[16], value[16];
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof(key), "k%d", i % 30);
        snprintf(value, sizeof(value), "%d", i);
        CU_ASSERT_EQUAL(set(ts, NULL, key, value), 0);
    }
    CU_ASSERT(ts_checkpointdue(ts));
    CU_ASSERT_EQUAL(ts->hdr.generation, 1);
    twoskip_close(&ts);
    char *left = xasprintf("%s.NEW", path);
    CU_ASSERT(access(left, F_OK) < 0);
    ts = reopen();
    CU_ASSERT_EQUAL(ts->hdr.generation, 2);
    CU_ASSERT_EQUAL(ts->hdr.nrecords, 30);
    CU_ASSERT_EQUAL(ts->hdr.current_size - 24, ts->hdr.repack_size);
    CU_ASSERT(!ts_checkpointdue(ts));
    CU_ASSERT_EQUAL(twoskip_consistent(ts), 0);
    CU_ASSERT_EQUAL(set(waiting, NULL, "zz", "from one who had the old file open"), 0);
    UNIT_STR(dump(ts, NULL, "zz"), "zz=from one who had the old file open ");
    spew((const unsigned char *)"", 0); /* recreated behind our back, as an empty file */
    UNIT_STR(dump(ts, NULL, ""), "");
    unlink(path);
    CU_ASSERT_EQUAL(set(ts, NULL, "a", "b"), 0);
    UNIT_STR(dump(waiting, NULL, ""), "a=b ");
    free(left);
    twoskip_close(&ts);
    twoskip_close(&waiting);
}

/* What files of 3.0 look like: no fillers. Heads that cross a block are read and recovered. */
static void test_unpadded(void)
{
    unsigned char f[TS_EMPTY + 4096];
    struct twoskip *ts = fresh();
    slurp(f, sizeof(f));
    struct ts_record rec = {.type = TS_IS_RECORD, .level = 21, .keylen = 1, .vallen = 7};
    for (int i = 0; i < 10; i++) { /* 200 bytes each: the second one crosses 512 */
        uint64_t at = TS_EMPTY + (uint64_t)i * 200;
        unsigned char *p = f + at;
        memset(&rec.next, 0, sizeof(rec.next));
        for (int n = 1; n <= 21; n++)
            rec.next[n] = i < 9 ? at + 200 : 0;
        memcpy(p + 192, "avalue_0", 8);
        p[192] = (unsigned char)('a' + i);
        rec.tailcrc = (uint32_t)crc32(0, p + 192, 8);
        CU_ASSERT_EQUAL(ts_encode(&rec, p), 192);
    }
    struct ts_record dummy = {.type = TS_IS_DUMMY, .level = TS_MAXLEVEL};
    for (int n = 1; n <= 21; n++)
        dummy.next[n] = TS_EMPTY;
    ts_encode(&dummy, f + TS_DUMMY);
    ts_put64(f + 32, 10);
    ts_put64(f + 48, TS_EMPTY + 2000);
    ts_put32(f + 56, TS_DIRTY);
    ts_put32(f + 60, (uint32_t)crc32(0, f, 60));
    spew(f, sizeof(f));
    twoskip_close(&ts);
    ts = reopen();
    CU_ASSERT_EQUAL(ts->hdr.nrecords, 10);
    CU_ASSERT_EQUAL(ts->hdr.flags, 0);
    CU_ASSERT_EQUAL(set(ts, NULL, "bb", "x"), 0);
    CU_ASSERT_EQUAL(del(ts, NULL, "c"), 0);
    UNIT_STR(dump(ts, NULL, "b"), "b=value_0 bb=x ");
    CU_ASSERT_EQUAL(twoskip_consistent(ts), 0);
    twoskip_close(&ts);
}

void suite_twoskip(void);
void suite_twoskip(void)
{
    static const struct unit_test tests[] = {
        {"bytes", test_bytes},       {"blocks", test_blocks},
        {"long", test_long},         {"basic", test_basic},
        {"txn", test_txn},           {"foreach", test_foreach},
        {"random", test_random},     {"checkpoint", test_checkpoint},
        {"unpadded", test_unpadded}, {NULL, NULL},
    };
    unit_suite("twoskip", tests);
}
