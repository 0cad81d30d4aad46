/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of backup/lcb_posmap: what was added is found, however little of it fits into memory. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "backup/lcb_posmap.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xmalloc.h"

enum { LINES = 40000 };

static uint64_t state;

static unsigned draw(unsigned below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % below;
}

/* Where each line went, kept another way: one number for each; 0: nowhere. */
static int64_t where[LINES + 1];

/* Lines that go, that stand together, and here and there one that became several. */
static int fill(struct lcb_posmap *m, int gaps)
{
    int64_t to = 1000000;
    int r = 0;
    for (int64_t old = 1; !r && old <= LINES; old++) {
        unsigned what = draw(20);
        where[old] = 0;
        if (what < (unsigned)gaps)
            continue;
        where[old] = to += what == 19 ? 7 : 1;
        r = what == 18 ? lcb_posmap_add(m, &(struct lcb_posrun){.first = old, .last = old, .to = to,
                                                                 .to_last = to + 3, .spread = 1})
                       : lcb_posmap_addline(m, old, to);
        to += what == 18 ? 3 : 0;
    }
    return r;
}

static void check(struct lcb_posmap *m, int64_t old)
{
    struct lcb_posrun run;
    int r = lcb_posmap_find(m, old, &run);
    int64_t want = old >= 1 && old <= LINES ? where[old] : 0;
    if (r != !!want)
        CU_FAIL("a line is not found, or one that is not there");
    if (r == 1 && (old < run.first || old > run.last || run.to + (old - run.first) != want))
        CU_FAIL("a line is found elsewhere");
}

static void check_all(struct lcb_posmap *m)
{
    for (int64_t old = -1; old <= LINES + 2; old++)
        check(m, old);
    for (int i = 0; i < 20000; i++)
        check(m, draw(LINES + 3));
}

static void test_finds(void)
{
    static const size_t rooms[] = {1, 128, 129, 1024, 0};
    struct lcbtest t;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    for (unsigned i = 0; i < 10; i++) {
        struct lcb_posmap *m = lcb_posmap_new(t.store, rooms[i % 5]);
        state = i + 1;
        CU_ASSERT_EQUAL(fill(m, i < 5 ? 8 : 0), 0);
        check_all(m);
        lcb_posmap_free(&m);
        CU_ASSERT_PTR_NULL(m);
    }
    struct lcb_posmap *m = lcb_posmap_new(t.store, 0);
    struct lcb_posrun run;
    CU_ASSERT_EQUAL(lcb_posmap_find(m, 1, &run), 0);
    lcb_posmap_free(&m);
    lcbtest_close(&t);
    lcbtest_fini(&t);
}

/* Two million lines, no two of which stand together. */
static void test_memory(void)
{
    struct lcbtest t;
    struct lcb_posrun run;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb_posmap *m = lcb_posmap_new(t.store, 0);
    for (int64_t i = 1; i <= 2000000; i++)
        if (lcb_posmap_addline(m, 2 * i, i))
            CU_FAIL("adding");
    for (int64_t i = 1; i < 4000000; i += 9973) {
        int r = lcb_posmap_find(m, i, &run);
        if (r != (i % 2 == 0) || (r && run.to != i / 2))
            CU_FAIL("finding");
    }
    CU_ASSERT(lcb_posmap_memory(m) < 2 << 20);
    lcb_posmap_free(&m);
    lcbtest_close(&t);
    lcbtest_fini(&t);
}

/* Every call fails once: that is said. */
static void test_failures(void)
{
    int happened = 1;
    for (long k = 1; happened; k++) {
        struct vfs *v = vfs_fail_new(VFS_FAULT_ALL, 0, -EIO, 0);
        struct lcbtest t;
        struct lcb_posrun run;
        lcbtest_init(&t, "");
        lcbtest_open(&t, v);
        long opened = vfs_fault_calls(v);
        lcbtest_close(&t);
        vfs_fault_free(&v);
        v = vfs_fail_new(VFS_FAULT_ALL, opened + k, EIO, 0);
        lcbtest_open(&t, v);
        struct lcb_posmap *m = lcb_posmap_new(t.store, 4096);
        state = 3;
        int r = fill(m, 8);
        for (int64_t old = 1; !r && old <= LINES; old += 3000) {
            r = lcb_posmap_find(m, old, &run);
            CU_ASSERT(r < 0 || r == !!where[old]);
            r = r < 0 ? r : 0;
        }
        lcb_posmap_free(&m);
        happened = vfs_fault_happened(v);
        CU_ASSERT_EQUAL(r, happened ? -EIO : 0);
        lcbtest_close(&t);
        vfs_fault_free(&v);
        lcbtest_fini(&t);
    }
}

void suite_lcb_posmap(void);
void suite_lcb_posmap(void)
{
    static const struct unit_test tests[] = {
        {"finds", test_finds},
        {"memory", test_memory},
        {"failures", test_failures},
        {NULL, NULL},
    };
    unit_suite("lcb_posmap", tests);
}
