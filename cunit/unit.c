/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* unit - runs all CUnit suites of the tree, or those named on the command line; with K/N as the first
 * word the K-th part of N of all but those named, so that several processes can share the work.
 *
 * Each test gets a scratch directory from unit_tmpdir(); all of them live below one directory that
 * is removed when the run ends, below $TMPDIR (a file system in memory, say) or /tmp. Exit status 1
 * if any assertion failed or any suite did not start. */
#include "config.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/Basic.h>

#include "cunit/suites.h"
#include "cunit/unit.h"

static char scratch[80];
static int nscratch;
static char **named;
static int part, parts, nsuites;

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Below TMPDIR, which may be in memory: tests of crashes lose by themselves what was not synced. */
static int make_scratch(void)
{
    const char *base = getenv("TMPDIR");
    int n = snprintf(scratch, sizeof(scratch), "%s/cyrus-unit-XXXXXX", base && *base ? base : "/tmp");
    if (n < 0 || (size_t)n >= sizeof(scratch) || !mkdtemp(scratch)) {
        fprintf(stderr, "cannot make a directory below TMPDIR\n");
        return -1;
    }
    return 0;
}

const char *unit_tmpdir(void)
{
    static char path[sizeof(scratch) + 16];
    snprintf(path, sizeof(path), "%s/%d", scratch, ++nscratch);
    if (mkdir(path, 0700) < 0)
        CU_FAIL_FATAL("cannot make a scratch directory");
    return path;
}

void unit_str(const char *actual, const char *expected, const char *file, int line)
{
    int same = actual && expected && !strcmp(actual, expected);
    if (!same)
        printf("\n%s:%d:\n  actual   [%s]\n  expected [%s]\n", file, line,
               actual ? actual : "(null)", expected ? expected : "(null)");
    CU_assertImplementation(same, (unsigned)line, "UNIT_STR", file, "", CU_FALSE);
}

void unit_suite(const char *name, const struct unit_test *tests)
{
    char **w = named;
    while (*w && strcmp(*w, name))
        w++;
    if (parts ? *w || nsuites++ % parts != part - 1 : *named && !*w)
        return;
    CU_pSuite suite = CU_add_suite(name, NULL, NULL);
    for (; tests->name; tests++)
        if (!suite || !CU_add_test(suite, tests->name, tests->fn))
            fprintf(stderr, "cannot register %s/%s\n", name, tests->name);
}

int main(int argc, char **argv)
{
    static void (*const suites[])(void) = {SUITES};
    named = argv + 1;
    if (argc > 1 && sscanf(argv[1], "%d/%d", &part, &parts) == 2)
        named++;
    else
        parts = 0;
    if (make_scratch() < 0 || CU_initialize_registry() != CUE_SUCCESS)
        return 1;
    for (int i = 0; suites[i]; i++)
        suites[i]();
    CU_basic_set_mode(CU_BRM_VERBOSE);
    int ran = CU_basic_run_tests() == CUE_SUCCESS && CU_get_number_of_tests_run() > 0;
    unsigned failed = CU_get_number_of_failures() + CU_get_number_of_suites_failed();
    CU_cleanup_registry();
    nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return ran && !failed ? 0 : 1;
}
