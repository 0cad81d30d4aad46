/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of what paths and names of files say. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/lcb_walk.h"
#include "cunit/unit.h"
#include "lib/xmalloc.h"

static void is_name(const char *name, enum lcb_namekind kind, const char *base, long long when)
{
    struct lcb_name n;
    lcb_name_parse(name, &n);
    char *got = xstrndup(name, n.baselen);
    CU_ASSERT_EQUAL(n.kind, kind);
    CU_ASSERT_EQUAL(n.time, when);
    UNIT_STR(got, base);
    free(got);
}

static void test_names(void)
{
    is_name("joe_abC123", LCB_NAME_DATA, "joe_abC123", 0);
    is_name("joe_abC123.index", LCB_NAME_INDEX, "joe_abC123", 0);
    is_name("joe_abC123.index-wal", LCB_NAME_INDEX, "joe_abC123", 0);
    is_name("joe_abC123.index.old", LCB_NAME_OLDINDEX, "joe_abC123", 0);
    is_name("joe_abC123.index.1700000000", LCB_NAME_OLDINDEX, "joe_abC123", 1700000000);
    is_name("joe_abC123.deleted.1700000000", LCB_NAME_DELETED, "joe_abC123", 1700000000);
    is_name("joe_abC123.deleted.17.index", LCB_NAME_DELETED_INDEX, "joe_abC123", 17);
    is_name("joe_abC123.1700000000", LCB_NAME_PREVIOUS, "joe_abC123", 1700000000);
    is_name("joe_abC123.new", LCB_NAME_NEW, "joe_abC123", 0);
    is_name("joe_abC123.new.index", LCB_NAME_NEW, "joe_abC123", 0);
    is_name("joe_abC123.index.new", LCB_NAME_NEW, "joe_abC123", 0);
    is_name("joe_abC123.tail.12.1", LCB_NAME_ASIDE, "joe_abC123", 0);
    is_name("joe_abC123.damaged.12", LCB_NAME_ASIDE, "joe_abC123", 0);
    is_name("x_abcdef.index_abcdeg", LCB_NAME_DATA, "x_abcdef.index_abcdeg", 0);
    is_name("x_abcdef.deleted.1_abcdeg.deleted.2", LCB_NAME_DELETED, "x_abcdef.deleted.1_abcdeg", 2);
    is_name("a.b_abcdef.index", LCB_NAME_INDEX, "a.b_abcdef", 0);
    is_name("%SHARED_abcdef", LCB_NAME_DATA, "%SHARED_abcdef", 0);
    is_name("_abcdef", LCB_NAME_OTHER, "", 0);
    is_name("_abcdef.index", LCB_NAME_OTHER, "", 0);
    is_name("joe", LCB_NAME_OTHER, "", 0);
    is_name("joe_abcde", LCB_NAME_OTHER, "", 0);
    is_name("joe_abc.ef", LCB_NAME_OTHER, "", 0);
    is_name("joe_abcdef.gz", LCB_NAME_OTHER, "", 0);
    is_name("joe_abcdef.deleted.1x", LCB_NAME_OTHER, "", 0);
    is_name("joe_abcdef.deleted.99999999999999999999999", LCB_NAME_OTHER, "", 0);
    CU_ASSERT(lcb_name_is_for("joe_abcdef", 10, "joe"));
    CU_ASSERT(!lcb_name_is_for("joe_abcdef", 10, "jo"));
    CU_ASSERT(lcb_name_is_for("a%2Fb_abcdef", 12, "a/b"));
    CU_ASSERT(lcb_name_is_for("%SHARED_abcdef", 14, "%SHARED"));
}

static void is_in(const char *path, const char *dir, const char *last)
{
    char *got = lcb_directory(path);
    UNIT_STR(got, dir);
    free(got);
    UNIT_STR(lcb_last_part(path), last);
}

static void test_parts(void)
{
    is_in("/x", "/", "x");
    is_in("x", ".", "x");
    is_in("a/b/c", "a/b", "c");
    is_in("/a/b", "/a", "b");
    is_in("a/", "a", "");
    is_in("/", "/", "");
    is_in("", ".", "");
}

void suite_lcb_walk(void);
void suite_lcb_walk(void)
{
    static const struct unit_test tests[] = {
        {"names", test_names},
        {"directory and last part", test_parts},
        {NULL, NULL},
    };
    unit_suite("lcb_walk", tests);
}
