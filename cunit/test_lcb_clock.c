/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of the clock by which old things are dropped: ordinary use never notices that it is watched; a
 * leap is believed only when the clock has gone on from there for a day. */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_clock.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xmalloc.h"

#define DAY 86400
#define T 1800000000LL

struct step {
    int64_t now;
    int doubt;
    int64_t use;
};

/* Where backups.db would be. */
static void begin(struct lcbtest *t, char **path)
{
    lcbtest_init(t, "");
    lcbtest_open(t, NULL);
    *path = xasprintf("%s/conf/backups.db.clock", t->dir);
    CU_ASSERT_EQUAL(vfs_mkparents(vfs_system(), *path), 0);
}

static void follow(const struct step *step, size_t n)
{
    struct lcbtest t;
    char *path;
    begin(&t, &path);
    for (size_t i = 0; i < n; i++) {
        int64_t use[2], again;
        /* A dry run before says the same, and changes nothing. */
        CU_ASSERT_EQUAL(lcb_clock(t.store, step[i].now, 1, &use[0], &again), step[i].doubt);
        CU_ASSERT_EQUAL(lcb_clock(t.store, step[i].now, 0, &use[1], &again), step[i].doubt);
        CU_ASSERT_EQUAL(use[0], use[1]);
        if (use[1] != step[i].use)
            printf("\nstep %zu: %lld\n", i, (long long)(use[1] - T));
        CU_ASSERT_EQUAL(use[1], step[i].use);
        CU_ASSERT(step[i].doubt ? again > step[i].now : again == step[i].now);
    }
    free(path);
    lcbtest_fini(&t);
}

static void test_ordinary(void)
{
    static const struct step step[] = {
        {T, 0, T}, {T, 0, T}, {T + DAY, 0, T + DAY}, {T + 32 * DAY, 0, T + 32 * DAY}, /* monthly */
        {T + 31 * DAY, 0, T + 31 * DAY}, {T + 71 * DAY, 0, T + 71 * DAY},
    };
    follow(step, sizeof(step) / sizeof(*step));
}

static void test_leap(void)
{
    const int64_t far = T + 3650LL * DAY, back = T + 3 * DAY, late = T + 100 * DAY;
    const struct step step[] = {
        {T, 0, T},
        /* Wrong, mended two hours later. */
        {far, 1, T}, {far + 3600, 1, T}, {far + 7200, 1, T}, {back, 0, back},
        /* Wrong again, at another place each time, and a second time there. */
        {far, 1, back}, {far + 300LL * DAY, 1, back}, {far, 1, back}, {far + 60, 1, back},
        {back + DAY, 0, back + DAY},
        /* Right: the host was out of use. */
        {late, 1, back + DAY}, {late + DAY - 1, 1, back + DAY}, {late + DAY, 0, late + DAY},
        {late + 2 * DAY, 0, late + 2 * DAY},
        /* Right, but it runs once a month. */
        {2 * late - T, 1, late + 2 * DAY}, {2 * late - T + 31 * DAY, 0, 2 * late - T + 31 * DAY},
        /* Set back by years is believed. */
        {T, 0, T}, {T + DAY, 0, T + DAY},
    };
    follow(step, sizeof(step) / sizeof(*step));
}

/* Where nobody compacts but four times a year, every other run drops what is old. */
static void test_seldom(void)
{
    static const struct step step[] = {
        {T, 0, T},
        {T + 91 * DAY, 1, T}, {T + 182 * DAY, 0, T + 182 * DAY},
        {T + 273 * DAY, 1, T + 182 * DAY}, {T + 364 * DAY, 0, T + 364 * DAY},
    };
    follow(step, sizeof(step) / sizeof(*step));
}

static void test_note(void)
{
    static const char *const bad[] = {"", "x", "5", "-1 0\n", "99999999999999999999999999 7"};
    struct lcbtest t;
    int64_t use, again;
    char *path;
    begin(&t, &path);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        lcbtest_write(path, bad[i], strlen(bad[i]));
        lcb_clock(t.store, T, 0, &use, &again);
        CU_ASSERT_EQUAL(lcb_clock(t.store, T + 50 * DAY, 0, &use, &again), 1);
        CU_ASSERT_EQUAL(use, T);
        CU_ASSERT_EQUAL(unlink(path), 0); /* as the message says */
        CU_ASSERT_EQUAL(lcb_clock(t.store, T + 50 * DAY, 0, &use, &again), 0);
        CU_ASSERT_EQUAL(use, T + 50 * DAY);
    }
    free(path);
    lcbtest_fini(&t);
}

void suite_lcb_clock(void);
void suite_lcb_clock(void)
{
    static const struct unit_test tests[] = {
        {"ordinary use", test_ordinary},
        {"a leap", test_leap},
        {"runs that are far apart", test_seldom},
        {"the note", test_note},
        {NULL, NULL},
    };
    unit_suite("lcb_clock", tests);
}
