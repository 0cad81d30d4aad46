/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of master/service_options. */
#include "config.h"

#include <string.h>
#include <sysexits.h>

#include "cunit/unit.h"
#include "master/service_private.h"

enum { MOST_WORDS = 16 };

/* Parse LINE, split at blanks in place. */
static int parse(struct service_options *o, char *line, struct buf *err)
{
    char *argv[MOST_WORDS + 1] = {NULL}, *save = NULL;
    int argc = 0;
    for (char *w = strtok_r(line, " ", &save); w && argc < MOST_WORDS; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    return service_options_parse(o, argc, argv, "p:f", err);
}

static void test_defaults(void)
{
    struct service_options o;
    struct buf err = BUF_INITIALIZER;
    char line[] = "prog";
    CU_ASSERT_EQUAL(parse(&o, line, &err), 0);
    CU_ASSERT_PTR_NULL(o.configfile);
    CU_ASSERT_EQUAL(o.max_uses, 250);
    CU_ASSERT(o.idle >= 60 && o.idle < 120);
    CU_ASSERT(!o.debugger && !o.interactive);
    CU_ASSERT_EQUAL(o.argc, 1);
    UNIT_STR(o.argv[0], "prog");
    CU_ASSERT_PTR_NULL(o.argv[1]);
    service_options_fini(&o);
    buf_free(&err);
}

static void test_all(void)
{
    struct service_options o;
    struct buf err = BUF_INITIALIZER;
    char line[] = "prog -f -C /x -p 5 -U -12 -T 0 -D -X";
    CU_ASSERT_EQUAL(parse(&o, line, &err), 0);
    UNIT_STR(o.configfile, "/x");
    CU_ASSERT_EQUAL(o.max_uses, 0);
    CU_ASSERT_EQUAL(o.idle, 0);
    CU_ASSERT(o.debugger && o.interactive);
    CU_ASSERT_EQUAL(o.argc, 4);
    UNIT_STR(o.argv[1], "-f");
    UNIT_STR(o.argv[2], "-p");
    UNIT_STR(o.argv[3], "5");
    CU_ASSERT_PTR_NULL(o.argv[4]);
    service_options_fini(&o);
    buf_free(&err);
}

/* Idle times of many processes lie in [T, 2T) and are not all the same. */
static void test_random(void)
{
    int different = 0, first = 0;
    for (int i = 0; i < 200; i++) {
        struct service_options o;
        struct buf err = BUF_INITIALIZER;
        char line[] = "prog -T 1000000";
        CU_ASSERT_EQUAL(parse(&o, line, &err), 0);
        CU_ASSERT(o.idle >= 1000000 && o.idle < 2000000);
        if (i == 0)
            first = o.idle;
        different += o.idle != first;
        service_options_fini(&o);
        buf_free(&err);
    }
    CU_ASSERT(different > 0);
}

static void test_refused(void)
{
    static const char *const lines[] = {
        "prog -C/x", "prog -p5",   "prog -fX",     "prog -U",   "prog -C",
        "prog -p",   "prog -z",    "prog -U x",    "prog -T 1x", "prog x",
        "prog -:",   "prog -T 99999999999", "prog -", "prog --",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct service_options o;
        struct buf err = BUF_INITIALIZER;
        char line[64];
        strcpy(line, lines[i]);
        CU_ASSERT_EQUAL(parse(&o, line, &err), EX_USAGE);
        CU_ASSERT(err.len > 0);
        service_options_fini(&o);
        buf_free(&err);
    }
}

void suite_service_options(void);
void suite_service_options(void)
{
    static const struct unit_test tests[] = {
        {"defaults", test_defaults},
        {"all", test_all},
        {"random", test_random},
        {"refused", test_refused},
        {NULL, NULL},
    };
    unit_suite("service_options", tests);
}
