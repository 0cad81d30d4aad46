/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of the index: what every verb does to it, its versions, whose it is; and that a rebuild
 * gives what live replication gave. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"

/* ---- rebuild equals live ---- */

static void compare_with_rebuild(struct lcbtest *t, const char *path, const char *what)
{
    struct buf live = BUF_INITIALIZER, again = BUF_INITIALIZER, data = BUF_INITIALIZER;
    lcbtest_dump(path, &live);
    lcbtest_read(path, &data);
    lcbtest_rebuild(t, data.s, data.len, &again);
    CU_ASSERT(live.len > 0);
    CU_ASSERT(lcbtest_same(&live, &again, what));
    buf_free(&live);
    buf_free(&again);
    buf_free(&data);
}

static void one_history(unsigned seed, int big, unsigned steps)
{
    struct lcbtest t;
    struct lcbtest_history h;
    char what[64];
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    lcbtest_start(&h, seed);
    h.big = big;
    for (unsigned i = 1; i <= steps; i++) {
        CU_ASSERT_EQUAL_FATAL(lcbtest_step(&h, b), 0);
        if (lcbtest_draw(&h, 4) && i != steps)
            continue;
        CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
        snprintf(what, sizeof(what), "history %u, step %u", seed, i);
        if (i == steps || i % 16 == 0)
            compare_with_rebuild(&t, lcb_path(b), what);
    }
    CU_ASSERT(h.nextcontent > seed * 1000 % 100000 + 10);
    lcb_close(&b);
    lcbtest_fini(&t);
}

static void test_rebuild(void)
{
    for (unsigned seed = 1; seed <= 12; seed++)
        one_history(seed, 0, 100);
    one_history(100, 1, 40);
}

void suite_lcb_index(void);
void suite_lcb_index(void)
{
    static const struct unit_test tests[] = {
        {"rebuild equals live", test_rebuild},
        {NULL, NULL},
    };
    unit_suite("lcb_index", tests);
}
