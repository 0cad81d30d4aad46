/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/buf, lib/strarray and lib/xerr. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/strarray.h"
#include "lib/xerr.h"

static void test_append(void)
{
    struct buf b = BUF_INITIALIZER;
    UNIT_STR(buf_cstring(&b), "");
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    CU_ASSERT_EQUAL(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    buf_setcstr(&b, "abc");
    buf_putc(&b, 'd');
    buf_appendu64(&b, 18446744073709551615u);
    buf_appendu64(&b, 0);
    UNIT_STR(buf_cstring(&b), "abcd184467440737095516150");
    buf_consume(&b, 4);
    buf_truncate(&b, 3);
    UNIT_STR(buf_cstring(&b), "184");
    char *s = buf_release(&b);
    UNIT_STR(s, "184");
    free(s);
    buf_free(&b);
}

static void test_order(void)
{
    struct buf a = BUF_INITIALIZER, b = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(buf_cmp(&a, &b), 0);
    buf_setmap(&a, "x\0y", 3);
    buf_setmap(&b, "x\0", 2);
    CU_ASSERT(buf_cmp(&a, &b) > 0);
    CU_ASSERT(buf_cmp(&b, &a) < 0);
    buf_free(&a);
    buf_free(&b);
}

static void test_strarray(void)
{
    struct strarray sa = STRARRAY_INITIALIZER;
    strarray_split(&sa, "  b a\tc b", " \t");
    CU_ASSERT_EQUAL(sa.count, 4);
    CU_ASSERT_EQUAL(strarray_find(&sa, "c"), 2);
    CU_ASSERT_EQUAL(strarray_add(&sa, "a"), 0);
    CU_ASSERT_EQUAL(strarray_add(&sa, "z"), 1);
    strarray_sort(&sa);
    UNIT_STR(strarray_nth(&sa, 0), "a");
    UNIT_STR(strarray_nth(&sa, 4), "z");
    CU_ASSERT_PTR_NULL(strarray_nth(&sa, 5));
    strarray_fini(&sa);
}

static void test_messages(void)
{
    UNIT_STR(error_message(0), "success");
    UNIT_STR(error_message(-ENOENT), "No such file or directory");
    UNIT_STR(error_message(XERR_EOF), "unexpected end of data");
    UNIT_STR(error_message(XERR_LAST), "internal error");
    UNIT_STR(error_message(XERR_LAST + 1000000), "unknown error");
}

void suite_buf(void);
void suite_buf(void)
{
    static const struct unit_test tests[] = {
        {"append", test_append},
        {"order", test_order},
        {"strarray", test_strarray},
        {"messages", test_messages},
        {NULL, NULL},
    };
    unit_suite("buf", tests);
}
