/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/prot: buffering, sources, waiting. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/prot_layer.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static void test_memory(void)
{
    struct protstream *s = prot_readmem("abc\0def", 7);
    char p[8];
    CU_ASSERT_EQUAL(prot_getc(s), 'a');
    CU_ASSERT_EQUAL(prot_peek(s), 'b');
    CU_ASSERT_EQUAL(prot_bytes(s), 1);
    CU_ASSERT_EQUAL(prot_read(s, p, sizeof(p)), 6);
    CU_ASSERT_EQUAL(memcmp(p, "bc\0def", 6), 0);
    prot_ungetc('f', s);
    CU_ASSERT_EQUAL(prot_bytes(s), 6);
    CU_ASSERT_EQUAL(prot_eof(s), 0);
    CU_ASSERT_EQUAL(prot_readall(s, p, 2), XERR_EOF);
    CU_ASSERT_EQUAL(prot_eof(s), 1);
    CU_ASSERT_EQUAL(prot_getc(s), -1);
    prot_ungetc(-1, s);
    CU_ASSERT_EQUAL(prot_peek(s), -1);
    CU_ASSERT_EQUAL(prot_read(s, p, 1), 0);
    CU_ASSERT_EQUAL(prot_error(s), 0);
    prot_free(&s);
    CU_ASSERT_PTR_NULL(s);
    s = prot_readmem("", 0);
    CU_ASSERT_EQUAL(prot_ready(s), 1);
    CU_ASSERT_EQUAL(prot_peek(s), -1);
    prot_free(&s);
}

/* A source of LEFT bytes that gives at most STEP at once and then END. */
struct source {
    size_t at, left, step;
    int end;
    int calls;
    size_t largest;
};

static unsigned char pattern(size_t i)
{
    return (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

static ssize_t source_read(void *rock, void *p, size_t n)
{
    struct source *src = rock;
    src->calls++;
    if (n > src->largest)
        src->largest = n;
    if (!src->left)
        return src->end;
    if (n > src->step)
        n = src->step;
    if (n > src->left)
        n = src->left;
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)p)[i] = pattern(src->at + i);
    src->at += n;
    src->left -= n;
    return (ssize_t)n;
}

/* Number of bytes of the pattern at OFFSET that P begins with. */
static size_t matching(const unsigned char *p, size_t n, size_t offset)
{
    size_t i = 0;
    while (i < n && p[i] == pattern(offset + i))
        i++;
    return i;
}

static void test_function(void)
{
    struct source src = {0, 200000, 7777, XERR_FORMAT, 0, 0};
    struct protstream *s = prot_readfn(source_read, &src);
    unsigned char *p = xmalloc(200000);
    for (size_t i = 0; i < 1000; i++)
        p[i] = (unsigned char)prot_getc(s);
    CU_ASSERT_EQUAL(prot_readall(s, p + 1000, 198900), 0);
    prot_ungetc(p[199899], s);
    CU_ASSERT_EQUAL(prot_bytes(s), 199899);
    CU_ASSERT_EQUAL(prot_getc(s), p[199899]);
    CU_ASSERT_EQUAL(prot_read(s, p + 199900, 1000), 100);
    CU_ASSERT_EQUAL(matching(p, 200000, 0), 200000);
    CU_ASSERT_EQUAL(prot_error(s), 0);
    CU_ASSERT_EQUAL(prot_getc(s), -1);
    CU_ASSERT_EQUAL(prot_error(s), XERR_FORMAT);
    CU_ASSERT_EQUAL(prot_eof(s), 0);
    int calls = src.calls;
    CU_ASSERT_EQUAL(prot_read(s, p, 1), XERR_FORMAT);
    CU_ASSERT_EQUAL(src.calls, calls);
    prot_free(&s);
    free(p);
}

/* A large read with an empty buffer goes to the caller's memory, and a byte can be put back. */
static void test_direct(void)
{
    struct source src = {0, 1000000, 1000000, 0, 0, 0};
    struct protstream *s = prot_readfn(source_read, &src);
    unsigned char *p = xmalloc(1000000);
    CU_ASSERT_EQUAL(prot_read(s, p, 900000), 900000);
    CU_ASSERT_EQUAL(src.largest, 900000);
    prot_ungetc(p[899999], s);
    CU_ASSERT_EQUAL(prot_read(s, p + 899999, 100001), 1);
    CU_ASSERT_EQUAL(prot_getc(s), pattern(900000));
    CU_ASSERT_EQUAL(prot_bytes(s), 900001);
    p[900000] = pattern(900000);
    CU_ASSERT_EQUAL(prot_readall(s, p + 900001, 99999), 0);
    CU_ASSERT_EQUAL(matching(p, 1000000, 0), 1000000);
    prot_ungetc(p[999999], s);
    CU_ASSERT_EQUAL(prot_peek(s), p[999999]);
    CU_ASSERT_EQUAL(prot_getc(s), p[999999]);
    CU_ASSERT_EQUAL(prot_getc(s), -1);
    prot_free(&s);
    free(p);
}

struct sink {
    struct buf b;
    int calls;
    int fail_at;
};

static int sink_write(void *rock, const void *p, size_t n)
{
    struct sink *sink = rock;
    if (++sink->calls == sink->fail_at)
        return -ENOSPC;
    buf_appendmap(&sink->b, p, n);
    return 0;
}

static void test_writing(void)
{
    struct sink sink = {BUF_INITIALIZER, 0, 0};
    struct protstream *s = prot_writefn(sink_write, &sink);
    unsigned char *p = xmalloc(300000);
    for (size_t i = 0; i < 300000; i++)
        p[i] = pattern(i);
    CU_ASSERT_EQUAL(prot_flush(s), 0);
    for (size_t i = 0; i < 70000; i++)
        CU_ASSERT_EQUAL_FATAL(prot_putc(p[i], s), 0);
    CU_ASSERT_EQUAL(sink.calls, 1);
    CU_ASSERT_EQUAL(prot_write(s, p + 70000, 230000), 0);
    CU_ASSERT_EQUAL(prot_bytes(s), 300000);
    CU_ASSERT_EQUAL(prot_flush(s), 0);
    CU_ASSERT_EQUAL(sink.b.len, 300000);
    CU_ASSERT_EQUAL(memcmp(sink.b.s, p, 300000), 0);
    CU_ASSERT_EQUAL(sink.calls, 3);
    buf_reset(&sink.b);
    CU_ASSERT_EQUAL(prot_printf(s, "%s %d", "x", 7), 0);
    CU_ASSERT_EQUAL(prot_puts(s, "\r\n"), 0);
    CU_ASSERT_EQUAL(prot_printf(s, "%2000d", 5), 0);
    CU_ASSERT_EQUAL(sink.b.len, 0);
    CU_ASSERT_EQUAL(prot_flush(s), 0);
    CU_ASSERT_EQUAL(sink.b.len, 2005);
    CU_ASSERT_EQUAL(memcmp(sink.b.s, "x 7\r\n ", 6), 0);
    CU_ASSERT_EQUAL(sink.b.s[2004], '5');
    buf_free(&sink.b);
    prot_free(&s);
    free(p);
}

static void test_write_error(void)
{
    struct sink sink = {BUF_INITIALIZER, 0, 2};
    struct protstream *s = prot_writefn(sink_write, &sink);
    CU_ASSERT_EQUAL(prot_puts(s, "one"), 0);
    CU_ASSERT_EQUAL(prot_flush(s), 0);
    CU_ASSERT_EQUAL(prot_puts(s, "two"), 0);
    CU_ASSERT_EQUAL(prot_flush(s), -ENOSPC);
    CU_ASSERT_EQUAL(prot_putc('x', s), -ENOSPC);
    CU_ASSERT_EQUAL(prot_printf(s, "x"), -ENOSPC);
    CU_ASSERT_EQUAL(prot_flush(s), -ENOSPC);
    CU_ASSERT_EQUAL(prot_error(s), -ENOSPC);
    UNIT_STR(buf_cstring(&sink.b), "one");
    CU_ASSERT_EQUAL(sink.calls, 2);
    buf_free(&sink.b);
    prot_free(&s);
}

static void test_wrong_direction(void)
{
    struct sink sink = {BUF_INITIALIZER, 0, 0};
    struct protstream *in = prot_readmem("x", 1), *out = prot_writefn(sink_write, &sink);
    CU_ASSERT_EQUAL(prot_puts(in, "y"), XERR_INTERNAL);
    CU_ASSERT_EQUAL(prot_getc(out), -1);
    CU_ASSERT_EQUAL(prot_error(out), XERR_INTERNAL);
    prot_free(&in);
    prot_free(&out);
}

void suite_prot(void);
void suite_prot(void)
{
    static const struct unit_test tests[] = {
        {"memory", test_memory},
        {"function", test_function},
        {"direct", test_direct},
        {"writing", test_writing},
        {"write_error", test_write_error},
        {"wrong_direction", test_wrong_direction},
        {NULL, NULL},
    };
    unit_suite("prot", tests);
}
