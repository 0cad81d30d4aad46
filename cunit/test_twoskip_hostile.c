/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lib/twoskip on files that somebody made to hurt: with right checksums and wrong contents. Every
 * function has to come back, with a result or an error, and the sanitizers have to stay quiet. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "cunit/unit.h"
#include "lib/twoskip_int.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { SIZE = 16384, MAXHEADS = 256 };

static char dir[96], path[128];
static unsigned char file[SIZE];
static size_t len;
static size_t heads[MAXHEADS], headlens[MAXHEADS], nheads;

static void put_file(void)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CU_ASSERT_EQUAL(write(fd, file, len), (ssize_t)len);
    close(fd);
}

static void seal_header(void)
{
    ts_put32(file + 60, (uint32_t)crc32(0, file, 60));
}

static void seal_head(size_t i)
{
    size_t n = headlens[i] - 8;
    ts_put32(file + heads[i] + n, (uint32_t)crc32(0, file + heads[i], (uInt)n));
}

/* A database of 30 records with some history, in FILE, and where its heads are. */
static void make_file(unsigned seed)
{
    struct vfs *quick = vfs_crash_new(dir, 0);
    struct twoskip *ts = NULL;
    struct ts_record rec;
    char key[16];
    unlink(path);
    CU_ASSERT_EQUAL_FATAL(twoskip_open(quick, path, TWOSKIP_CREATE, &ts), 0);
    ts->random = seed;
    for (int i = 0; i < 45; i++) {
        snprintf(key, sizeof(key), "k%02d", i * 7 % 30);
        if (i >= 30 && i % 5 == 0) {
            CU_ASSERT_EQUAL(twoskip_delete(ts, NULL, key, 3), 0);
        } else {
            CU_ASSERT_EQUAL(twoskip_store(ts, NULL, key, 3, "value", 5), 0);
        }
    }
    nheads = 0;
    CU_ASSERT_EQUAL(ts_lock(ts, FILELOCK_SHARED), 0);
    len = (size_t)ts->end;
    CU_ASSERT_EQUAL(vfs_pread(quick, ts->fd, file, SIZE, 0), (ssize_t)len);
    for (uint64_t at = TS_DUMMY; at < len && nheads < MAXHEADS;) {
        if (ts_read(ts, at, &rec)) {
            at += 8;
            continue;
        }
        heads[nheads] = (size_t)at;
        headlens[nheads++] = rec.headlen;
        at += rec.headlen + ((rec.keylen + rec.vallen + 7) & ~7u);
    }
    ts_unlock(ts);
    twoskip_close(&ts);
    vfs_fault_free(&quick);
}

static int steps;

static int count_one(void *rock, const char *key, size_t keylen, const char *value, size_t vallen)
{
    (void)rock;
    (void)key;
    (void)keylen;
    (void)value;
    (void)vallen;
    return ++steps > 1000 ? 999 : 0; /* more than fit: it goes round */
}

/* Use the file in every way; returns the first error. */
static int use_file(void)
{
    struct vfs *quick = vfs_crash_new(dir, 0);
    struct twoskip *ts = NULL;
    struct buf v = BUF_INITIALIZER;
    char key[16];
    put_file();
    int first = twoskip_open(quick, path, 0, &ts), r;
    for (int i = 0; ts && i < 30; i++) {
        snprintf(key, sizeof(key), "k%02d", i);
        r = twoskip_fetch(ts, NULL, key, 3, &v);
        first = first || r == XERR_NOTFOUND ? first : r;
        r = i % 2 ? twoskip_store(ts, NULL, key, 3, "other", 5) : twoskip_delete(ts, NULL, key, 3);
        first = first || r == XERR_NOTFOUND ? first : r;
    }
    if (ts) {
        steps = 0;
        r = twoskip_foreach(ts, NULL, "", 0, count_one, NULL);
        CU_ASSERT_NOT_EQUAL(r, 999);
        first = first ? first : r;
        r = twoskip_checkpoint(ts);
        first = first ? first : r;
        r = twoskip_consistent(ts);
        first = first ? first : r;
    }
    CU_ASSERT(first == 0 || first == XERR_FORMAT || first == XERR_TOOBIG || first == XERR_VERSION);
    buf_free(&v);
    twoskip_close(&ts);
    vfs_fault_free(&quick);
    return first;
}

static void begin(void)
{
    snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
    snprintf(path, sizeof(path), "%s/t.db", dir);
    make_file(5);
}

/* Offset of some record of type TYPE and a level of at least LEVEL. */
static size_t head_of(char type, unsigned level)
{
    for (size_t i = 1; i < nheads; i++)
        if (file[heads[i]] == (unsigned char)type && file[heads[i] + 1] >= level)
            return i;
    CU_FAIL_FATAL("no such record");
    return 0;
}

static void set_next(size_t i, unsigned n, uint64_t to)
{
    ts_put64(file + heads[i] + 8 + 8 * n, to);
    seal_head(i);
}

static void test_cycles(void)
{
    begin();
    CU_ASSERT_EQUAL(use_file(), 0);
    size_t a = head_of('+', 2), d = head_of('-', 0);
    begin();
    set_next(a, 0, heads[a]); /* to itself on list 1 */
    set_next(a, 1, heads[a]);
    CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
    begin();
    set_next(a, 2, heads[a]); /* on list 2 */
    CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
    begin();
    set_next(0, 0, heads[d]); /* delete to delete */
    set_next(0, 1, heads[d]);
    set_next(d, 0, heads[d]);
    CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
    begin();
    for (unsigned n = 0; n <= TS_MAXLEVEL; n++)
        set_next(0, n, TS_DUMMY);
    CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
    begin();
    file[59] = 1; /* the same in a file that asks for recovery */
    seal_header();
    set_next(a, 0, heads[a]);
    set_next(a, 1, heads[a]);
    CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
}

static void test_lengths(void)
{
    static const uint64_t sizes[] = {0, 336, 0x8000000000000000, UINT64_MAX, UINT64_MAX - 7, 1000};
    begin();
    size_t a = head_of('+', 3);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        begin();
        ts_put64(file + 48, sizes[i]);
        seal_header();
        int r = use_file();
        CU_ASSERT(r == XERR_FORMAT || (sizes[i] >= TS_EMPTY && sizes[i] < len));
        begin();
        ts_put64(file + 40, sizes[i]);
        seal_header();
        CU_ASSERT_EQUAL(use_file(), 0); /* only ever asked how large it is */
        begin();
        file[heads[a] + 2] = file[heads[a] + 3] = 0xff; /* next[0] becomes the key length */
        set_next(a, 0, sizes[i]);
        CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
        begin();
        memset(file + heads[a] + 4, 0xff, 4);
        set_next(a, 0, sizes[i]);
        CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
    }
    begin();
    file[23] = 2;
    seal_header();
    CU_ASSERT_EQUAL(use_file(), XERR_VERSION);
    begin();
    file[59] = 2; /* an unknown flag is not dirt */
    seal_header();
    CU_ASSERT_EQUAL(use_file(), 0);
}

/* A sparse file of terabytes must not become as much memory. */
static void test_sparse(void)
{
    begin();
    struct vfs *v = vfs_system();
    struct twoskip *ts = NULL;
    struct buf b = BUF_INITIALIZER;
    size_t a = head_of('+', 3);
    uint64_t huge = (uint64_t)1 << 40;
    memset(file + heads[a] + 4, 0xff, 4);
    set_next(a, 0, huge);
    ts_put64(file + 48, 2 * huge);
    seal_header();
    put_file();
    CU_ASSERT_EQUAL(truncate(path, (off_t)(2 * huge)), 0);
    CU_ASSERT_EQUAL(twoskip_open(v, path, 0, &ts), 0);
    int r = twoskip_fetch(ts, NULL, "k00", 3, &b);
    CU_ASSERT(r == XERR_FORMAT || r == XERR_TOOBIG || r == XERR_NOTFOUND || r == 0);
    r = twoskip_consistent(ts);
    CU_ASSERT(r == XERR_FORMAT || r == XERR_TOOBIG);
    twoskip_close(&ts);
    buf_free(&b);
}

/* Random damage, most of it with the checksums made right again. */
static void test_random(void)
{
    unsigned seed = 4711;
    int errors = 0, fine = 0;
    begin();
    for (int round = 0; round < 2000; round++) {
        if (round % 100 == 0)
            make_file(seed + 1);
        unsigned char *saved = xmemdup(file, len);
        for (int n = rand_r(&seed) % 3; n >= 0; n--) {
            size_t i = (size_t)rand_r(&seed) % nheads;
            size_t words = (headlens[i] - 8) / 8, w = (size_t)rand_r(&seed) % words;
            size_t to =
                heads[(size_t)rand_r(&seed) % nheads] + 8 * ((size_t)rand_r(&seed) % 8 == 0);
            unsigned kind = (unsigned)rand_r(&seed) % 8;
            if (kind == 0)
                file[(size_t)rand_r(&seed) % len] ^= (unsigned char)(1 << rand_r(&seed) % 8);
            else if (kind == 1)
                file[heads[i] + (size_t)rand_r(&seed) % 8] = (unsigned char)rand_r(&seed);
            else if (w)
                ts_put64(file + heads[i] + 8 * w, kind == 2 ? 0 : to);
            seal_head(i);
            if (kind == 7)
                file[59] ^= 1;
            seal_header();
        }
        int r = use_file();
        errors += r != 0;
        fine += r == 0;
        memcpy(file, saved, len);
        free(saved);
    }
    CU_ASSERT(errors > 400);
    CU_ASSERT(fine > 100);
}

static void test_foreign(void)
{
    begin();
    for (size_t n = 1; n < len; n += n < 400 ? 13 : 977) {
        size_t whole = len;
        len = n; /* cut off */
        CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
        len = whole;
    }
    memcpy(file, "\241\002\213\015skiplist file\0\0\0", 20);
    CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
    memset(file, 0, TS_HEADER_SIZE);
    CU_ASSERT_EQUAL(use_file(), XERR_FORMAT);
    memset(file, 0, SIZE);
    CU_ASSERT_EQUAL(use_file(), XERR_FORMAT); /* zeros, but too many to be a new file */
    len = TS_EMPTY;
    CU_ASSERT_EQUAL(use_file(), 0);
}

void suite_twoskip_hostile(void);
void suite_twoskip_hostile(void)
{
    static const struct unit_test tests[] = {
        {"cycles", test_cycles}, {"lengths", test_lengths}, {"sparse", test_sparse},
        {"random", test_random}, {"foreign", test_foreign}, {NULL, NULL},
    };
    unit_suite("twoskip_hostile", tests);
}
