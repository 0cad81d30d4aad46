/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of imap/dlist, imap/dlist_print and the parsing half of imap/dlist_read. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "cunit/unit.h"
#include "imap/dlist.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define GUID1 "00a1a6bfe5dee6a06f1c70f78eb26150f42e2b08"

/* A reader over a string of N bytes. */
struct source {
    struct protstream *in;
    struct dlist_pool *pool;
    struct dlist_reader r;
};

static void source_open(struct source *s, const char *text, size_t n)
{
    s->in = prot_readmem(text, n);
    s->pool = dlist_pool_new(1 << 20);
    dlist_reader_init(&s->r, s->in, s->pool);
}

static void source_close(struct source *s)
{
    prot_free(&s->in);
    dlist_pool_free(&s->pool);
}

/* What value and copy make of TEXT: both must agree. NULL if they fail with *ERR. */
static const char *reprint(const char *text, size_t n, int *err)
{
    static struct buf tree, copy;
    struct source s;
    struct dlist *d;
    buf_reset(&tree);
    buf_reset(&copy);
    source_open(&s, text, n);
    *err = dlist_reader_value(&s.r, &d);
    if (!*err)
        dlist_printval(d, &tree, 0);
    source_close(&s);
    source_open(&s, text, n);
    CU_ASSERT_EQUAL(dlist_reader_copy(&s.r, &copy, 1 << 20), *err);
    source_close(&s);
    source_open(&s, text, n);
    int e = dlist_reader_skip(&s.r);
    CU_ASSERT(*err == XERR_TOOBIG || e == *err);
    source_close(&s);
    if (!*err)
        UNIT_STR(buf_cstring(&copy), buf_cstring(&tree));
    const char *result = *err ? NULL : strdup(buf_cstring(&tree));
    buf_free(&tree);
    buf_free(&copy);
    return result;
}

static void check(const char *text, const char *expected)
{
    int err;
    char *got = (char *)reprint(text, strlen(text), &err);
    CU_ASSERT_EQUAL(err, 0);
    UNIT_STR(got, expected);
    free(got);
}

static void check_error(const char *text, size_t n, int expected)
{
    int err;
    char *got = (char *)reprint(text, n, &err);
    CU_ASSERT_EQUAL(err, expected);
    if (err != expected)
        printf("\n  [%s] gave %d\n", text, err);
    free(got);
}

static void check_astring(const char *s, size_t len, const char *expected, int literal)
{
    struct buf out = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(dlist_printastring(s, len, &out, 0), literal);
    UNIT_STR(buf_cstring(&out), expected);
    buf_setcstr(&out, "before ");
    buf_appendmap(&out, s, len);
    CU_ASSERT_EQUAL(dlist_fixastring(&out, 7), literal);
    UNIT_STR(buf_cstring(&out) + 7, expected);
    buf_free(&out);
}

static void test_astrings(void)
{
    static const struct {
        const char *s, *printed;
        int literal;
    } vectors[] = {
        {"user.joe", "user.joe", 0},
        {"", "\"\"", 0},
        {"NIL", "\"NIL\"", 0},
        {"nil", "nil", 0},
        {"My Folder", "\"My Folder\"", 0},
        {"a(b)", "\"a(b)\"", 0},
        {"a*b", "\"a*b\"", 0},
        {"a{b", "\"a{b\"", 0},
        {"a]b}c", "a]b}c", 0},
        {"100%", "{4}\r\n100%", 1},
        {"say \"hi\"", "{8}\r\nsay \"hi\"", 1},
        {"back\\slash", "{10}\r\nback\\slash", 1},
        {"\xc3\xa9", "{2}\r\n\xc3\xa9", 1},
        {"joe\tlrs\t", "\"joe\tlrs\t\"", 0},
        {"a\rb", "{3}\r\na\rb", 1},
        {"a\nb", "{3}\r\na\nb", 1},
        {"\x7f", "\"\x7f\"", 0},
        {"\x1e", "\"\x1e\"", 0},
        {"a\x1f", "a\x1f", 0},
        {"Caf&AOk-", "Caf&AOk-", 0},
        {"[&~!^#./+='`,;@$]}", "[&~!^#./+='`,;@$]}", 0},
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        check_astring(vectors[i].s, strlen(vectors[i].s), vectors[i].printed, vectors[i].literal);
    check_astring("a\0b", 3, "{3}\r\na", 1);
    struct buf out = BUF_INITIALIZER;
    dlist_printastring("100%", 4, &out, DLIST_PLUS);
    UNIT_STR(buf_cstring(&out), "{4+}\r\n100%");
    buf_free(&out);
}

static void test_long_strings(void)
{
    char *a = xmalloc(1025), *want = xmalloc(1100);
    memset(a, 'a', 1024);
    a[1024] = '\0';
    check_astring(a + 1, 1023, a + 1, 0);
    snprintf(want, 1100, "{1024}\r\n%s", a);
    check_astring(a, 1024, want, 1);
    a[1] = ' ';
    snprintf(want, 1100, "\"%s\"", a + 1);
    check_astring(a + 1, 1023, want, 0);
    free(a);
    free(want);
}

static void test_canonical(void)
{
    check("joe ", "joe");
    check("NIL ", "NIL");
    check("\"NIL\" ", "\"NIL\"");
    check("{3}\r\nNIL", "\"NIL\"");
    check("nil ", "nil");
    check("  \t x)", "x");
    check("\"a\\\"b\\\\c\" ", "{5}\r\na\"b\\c");
    check("\"plain\" ", "plain");
    check("{4+}\r\n100%", "{4}\r\n100%");
    check("{4}\n100%", "{4}\r\n100%");
    check("{0}\r\n", "\"\"");
    check("{7}\r\na\r\n{5}\n", "{7}\r\na\r\n{5}\n");
    check("\\Seen ", "\\Seen");
    check("()", "()");
    check("%()", "%()");
    check("( \t\r\n\v\f)", "()");
    check("%(A\n\tb\v C ( d\f\\E\"\" NIL ) \r\n)", "%(A b C (d \\E \"\" NIL))");
    check("(a(b)c %(D e)\"f\")", "(a (b) c %(D e) f)");
    check("%(\"a key\" {3+}\r\nx y {1}\r\nK {1+}\r\n%)", "%(\"a key\" \"x y\" K {1}\r\n%)");
    check("(caf\xc3\xa9)", "({5}\r\ncaf\xc3\xa9)");
    check("(a{5}b a%b})", "(\"a{5}b\" {4}\r\na%b})");
}

static void test_tree_nul(void)
{
    struct source s;
    struct dlist *d;
    const char *val;
    source_open(&s, "%(V {3}\r\na\0b W x)\r\n", 20);
    CU_ASSERT_EQUAL(dlist_reader_value(&s.r, &d), 0);
    CU_ASSERT_EQUAL(s.r.literal, 1);
    CU_ASSERT_EQUAL(d->head->len, 3);
    CU_ASSERT_EQUAL(memcmp(d->head->sval, "a\0b", 4), 0);
    CU_ASSERT_EQUAL(dlist_getatom(d, "V", &val), 0);
    CU_ASSERT_EQUAL(dlist_getatom(d, "W", &val), 1);
    UNIT_STR(val, "x");
    CU_ASSERT_EQUAL(dlist_reader_eol(&s.r), 0);
    source_close(&s);
}

static void test_errors(void)
{
#define BAD(text, code) check_error(text, sizeof(text) - 1, code)
    BAD("", XERR_EOF);
    BAD("\r\n", XERR_SYNTAX);
    BAD(")", XERR_SYNTAX);
    BAD("%x ", XERR_SYNTAX);
    BAD("% (A b)", XERR_SYNTAX);
    BAD("a\0b ", XERR_SYNTAX);
    BAD("\"a\0b\" ", XERR_SYNTAX);
    BAD("\"a\r\nb\" ", XERR_SYNTAX);
    BAD("\"a\\\nb\" ", XERR_SYNTAX);
    BAD("\"abc", XERR_EOF);
    BAD("\"abc\\", XERR_EOF);
    BAD("abc", XERR_EOF);
    BAD("{", XERR_EOF);
    BAD("{}\r\n", XERR_SYNTAX);
    BAD("{+}\r\n", XERR_SYNTAX);
    BAD("{-1}\r\n", XERR_SYNTAX);
    BAD("{5x}\r\nhello", XERR_SYNTAX);
    BAD("{5++}\r\nhello", XERR_SYNTAX);
    BAD("{5} \r\nhello", XERR_SYNTAX);
    BAD("{5}\r\nhell", XERR_EOF);
    BAD("(a b", XERR_EOF);
    BAD("(x{5}\r\nhello)", XERR_SYNTAX);
    BAD("{18446744073709551616}\r\n", XERR_TOOBIG);
    BAD("{99999999999999999999999999999999999999999999}\r\n", XERR_TOOBIG);
    BAD("{9223372036854775808}\r\n", XERR_TOOBIG);
#undef BAD
    /* a key without value, which skip does not mind */
    struct source s;
    struct dlist *d;
    source_open(&s, "%(A)", 4);
    CU_ASSERT_EQUAL(dlist_reader_value(&s.r, &d), XERR_SYNTAX);
    source_close(&s);
}

static void test_lookups(void)
{
    struct dlist_pool *pool = dlist_pool_new(65536);
    struct dlist *kv = dlist_newkvlist(pool, "MAILBOX"), *list;
    struct message_guid guid;
    const char *val = "?";
    uint64_t n64 = 7;
    uint32_t n32 = 7;
    struct buf out = BUF_INITIALIZER;
    dlist_setatom(pool, kv, "A", "first");
    dlist_setatom(pool, kv, "A", "second");
    dlist_setatom(pool, kv, "N", NULL);
    dlist_setnum64(pool, kv, "BIG", UINT64_MAX);
    dlist_setatom(pool, kv, "BIGGER", "18446744073709551616");
    dlist_setatom(pool, kv, "NEG", "-1");
    dlist_setatom(pool, kv, "EMPTY", "");
    dlist_setnum64(pool, kv, "WRAP", 4294967296u + 5);
    dlist_setatom(pool, kv, "GUID", GUID1);
    dlist_append(kv, dlist_newlist(pool, "L"));
    dlist_setatom(pool, kv->tail, NULL, "x y");
    CU_ASSERT_EQUAL(dlist_getatom(kv, "A", &val), 1);
    UNIT_STR(val, "first");
    CU_ASSERT_EQUAL(dlist_getatom(kv, "a", &val), 0);
    CU_ASSERT_EQUAL(dlist_getatom(kv, "L", &val), 0);
    CU_ASSERT_EQUAL(dlist_getatom(kv, "N", &val), 1);
    CU_ASSERT_PTR_NULL(val);
    CU_ASSERT_EQUAL(dlist_getnum64(kv, "N", &n64), 0);
    CU_ASSERT_EQUAL(dlist_getnum64(kv, "BIGGER", &n64), 0);
    CU_ASSERT_EQUAL(dlist_getnum64(kv, "NEG", &n64), 0);
    CU_ASSERT_EQUAL(dlist_getnum64(kv, "EMPTY", &n64), 0);
    CU_ASSERT_EQUAL(n64, 7);
    CU_ASSERT_EQUAL(dlist_getnum64(kv, "BIG", &n64), 1);
    CU_ASSERT_EQUAL(n64, UINT64_MAX);
    CU_ASSERT_EQUAL(dlist_getnum32(kv, "WRAP", &n32), 1);
    CU_ASSERT_EQUAL(n32, 5);
    CU_ASSERT_EQUAL(dlist_getguid(kv, "A", &guid), 0);
    CU_ASSERT_EQUAL(dlist_getguid(kv, "GUID", &guid), 1);
    CU_ASSERT_EQUAL(dlist_getlist(kv, "A", &list), 0);
    CU_ASSERT_EQUAL(dlist_getlist(kv, "L", &list), 1);
    CU_ASSERT_EQUAL(dlist_print(list, &out, 0), 0);
    UNIT_STR(buf_cstring(&out), "L (\"x y\")");
    buf_reset(&out);
    dlist_print(kv, &out, 0);
    UNIT_STR(buf_cstring(&out),
             "MAILBOX %(A first A second N NIL BIG 18446744073709551615 BIGGER "
             "18446744073709551616 NEG -1 EMPTY \"\" WRAP 4294967301 GUID " GUID1 " L (\"x y\"))");
    buf_free(&out);
    dlist_pool_free(&pool);
    CU_ASSERT_PTR_NULL(pool);
}

static void test_pool_limit(void)
{
    struct dlist_pool *pool = dlist_pool_new(10000);
    CU_ASSERT_PTR_NULL(dlist_pool_alloc(pool, 10000));
    CU_ASSERT_PTR_NULL(dlist_pool_alloc(pool, SIZE_MAX));
    int n = 0;
    while (dlist_pool_alloc(pool, 100))
        n++;
    CU_ASSERT(n > 60 && n < 100);
    dlist_pool_reset(pool);
    CU_ASSERT_PTR_NOT_NULL(dlist_pool_alloc(pool, 1000));
    dlist_pool_free(&pool);

    pool = dlist_pool_new(64 << 20);
    char *big = dlist_pool_alloc(pool, 60 << 20);
    CU_ASSERT_PTR_NOT_NULL_FATAL(big);
    CU_ASSERT_PTR_NULL(dlist_pool_alloc(pool, 5 << 20));
    dlist_pool_reset(pool);
    CU_ASSERT_PTR_NOT_NULL(dlist_pool_alloc(pool, 60 << 20));
    dlist_pool_free(&pool);
}

static void test_bounds(void)
{
    struct source s;
    struct dlist *d;
    struct buf b = BUF_INITIALIZER, out = BUF_INITIALIZER;
    /* 100,000 brackets */
    for (int i = 0; i < 100000; i++)
        buf_appendcstr(&b, i & 1 ? "(" : "%(K ");
    buf_appendcstr(&b, "\r\nNOOP\r\n");
    source_open(&s, b.s, b.len);
    CU_ASSERT_EQUAL(dlist_reader_value(&s.r, &d), XERR_TOOBIG);
    CU_ASSERT_EQUAL(dlist_reader_resync(&s.r), 0);
    CU_ASSERT_EQUAL(s.r.depth, 0);
    CU_ASSERT_EQUAL(dlist_reader_word(&s.r, &out, 10), 0);
    UNIT_STR(buf_cstring(&out), "NOOP");
    source_close(&s);
    source_open(&s, b.s, b.len);
    buf_reset(&out);
    CU_ASSERT_EQUAL(dlist_reader_copy(&s.r, &out, 1000000), XERR_TOOBIG);
    CU_ASSERT_EQUAL(dlist_reader_resync(&s.r), 0);
    source_close(&s);
    source_open(&s, b.s, b.len);
    int entered = 0, e = 0;
    while (!(e = dlist_reader_enter(&s.r, !(entered & 1)))) {
        if (!(entered++ & 1))
            CU_ASSERT_EQUAL(dlist_reader_key(&s.r, &out), 0);
    }
    CU_ASSERT_EQUAL(e, XERR_TOOBIG);
    CU_ASSERT_EQUAL(entered, 32);
    source_close(&s);
    source_open(&s, b.s, b.len);
    CU_ASSERT_EQUAL(dlist_reader_skip(&s.r), XERR_EOF); /* any depth */
    source_close(&s);
    /* more nodes than the pool holds */
    buf_setcstr(&b, "(");
    for (int i = 0; i < 100000; i++)
        buf_appendcstr(&b, i & 1 ? " a" : " ()");
    buf_appendcstr(&b, ")\r\nNOOP\r\n");
    source_open(&s, b.s, b.len);
    CU_ASSERT_EQUAL(dlist_reader_value(&s.r, &d), XERR_TOOBIG);
    CU_ASSERT_EQUAL(dlist_reader_resync(&s.r), 0);
    CU_ASSERT_EQUAL(dlist_reader_word(&s.r, &out, 10), 0);
    UNIT_STR(buf_cstring(&out), "NOOP");
    source_close(&s);
    /* as deep as allowed */
    buf_setcstr(&b, "");
    for (int i = 0; i < 32; i++)
        buf_putc(&b, '(');
    for (int i = 0; i < 32; i++)
        buf_putc(&b, ')');
    check(buf_cstring(&b), buf_cstring(&b));
    /* an atom over maxatom */
    buf_reset(&b);
    for (int i = 0; i < 131073; i++)
        buf_putc(&b, 'a');
    buf_appendcstr(&b, " ");
    check_error(buf_cstring(&b), b.len, XERR_TOOBIG);
    b.s[0] = b.s[b.len - 1] = '"';
    buf_setcstr(&out, "{131072}\r\n");
    buf_appendmap(&out, b.s + 1, b.len - 2);
    check(buf_cstring(&b), buf_cstring(&out));
    b.s[0] = 'a';
    b.s[b.len - 1] = 'a';
    buf_putc(&b, '"');
    b.s[0] = '"';
    check_error(buf_cstring(&b), b.len, XERR_TOOBIG);
    buf_free(&b);
    buf_free(&out);
}

static void test_copy_max(void)
{
    struct source s;
    struct buf out = BUF_INITIALIZER;
    static const char *const texts[] = {"abcdefgh ",   "\"abcdefg \" ", "{8}\r\nabcdefgh",
                                        "(a b c d e)", "%(A b C d)",    "((((()))))"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        source_open(&s, texts[i], strlen(texts[i]));
        buf_setcstr(&out, "12345");
        CU_ASSERT_EQUAL(dlist_reader_copy(&s.r, &out, 7), XERR_TOOBIG);
        source_close(&s);
        source_open(&s, texts[i], strlen(texts[i]));
        buf_setcstr(&out, "12345");
        CU_ASSERT_EQUAL(dlist_reader_copy(&s.r, &out, 11), 0);
        source_close(&s);
    }
    buf_free(&out);
}

static void test_walk(void)
{
    static const char text[] =
        "APPLY MESSAGE (%{default " GUID1 " 5}\r\n({5}\n "
        "%{\"p q\" 00A1A6BFE5DEE6A06F1C70F78EB26150F42E2B08 0}\n NIL"
        " %{{3+}\r\na b " GUID1 "  2}\r\n)) %{d " GUID1 " 7}\r\n1234567)\r\nX\r\n";
    struct source s;
    struct buf b = BUF_INITIALIZER;
    struct dlist *d;
    char body[16];
    source_open(&s, text, sizeof(text) - 1);
    CU_ASSERT_EQUAL(dlist_reader_word(&s.r, &b, 16), 0);
    UNIT_STR(buf_cstring(&b), "APPLY");
    CU_ASSERT_EQUAL(dlist_reader_word(&s.r, &b, 16), 0);
    UNIT_STR(buf_cstring(&b), "MESSAGE");
    CU_ASSERT_EQUAL(dlist_reader_enter(&s.r, 0), 0);
    CU_ASSERT_EQUAL(dlist_reader_more(&s.r), 1);
    CU_ASSERT_EQUAL(dlist_reader_value(&s.r, &d), 0);
    CU_ASSERT_EQUAL(d->type, DL_FILE);
    CU_ASSERT_EQUAL(d->size, 5);
    UNIT_STR(d->sval, "default");
    CU_ASSERT_EQUAL(s.r.skip, 5);
    CU_ASSERT_EQUAL(prot_readall(s.in, body, 5), 0);
    CU_ASSERT_EQUAL(memcmp(body, "({5}\n", 5), 0);
    dlist_reader_filedone(&s.r);
    CU_ASSERT_EQUAL(dlist_reader_more(&s.r), 1);
    CU_ASSERT_EQUAL(dlist_reader_value(&s.r, &d), 0);
    UNIT_STR(d->sval, "p q");
    buf_reset(&b);
    dlist_printval(d, &b, 0);
    UNIT_STR(buf_cstring(&b), "%{\"p q\" " GUID1 " 0}\r\n");
    CU_ASSERT_EQUAL(dlist_reader_body(&s.r, body, 16), 0);
    CU_ASSERT_EQUAL(dlist_reader_more(&s.r), 1);
    CU_ASSERT_EQUAL(dlist_reader_value(&s.r, &d), 0);
    CU_ASSERT_EQUAL(d->type, DL_NIL);
    CU_ASSERT_EQUAL(dlist_reader_more(&s.r), 1);
    CU_ASSERT_EQUAL(dlist_reader_value(&s.r, &d), 0);
    UNIT_STR(d->sval, "a b");
    CU_ASSERT_EQUAL(d->size, 2);
    CU_ASSERT_EQUAL(dlist_reader_body(&s.r, body, 16), 2);
    CU_ASSERT_EQUAL(dlist_reader_body(&s.r, body, 16), 0);
    CU_ASSERT_EQUAL(dlist_reader_more(&s.r), 1);
    CU_ASSERT_EQUAL(dlist_reader_value(&s.r, &d), 0); /* its body is left to more() */
    CU_ASSERT_EQUAL(dlist_reader_more(&s.r), 0);
    CU_ASSERT_EQUAL(dlist_reader_eol(&s.r), 0);
    CU_ASSERT_EQUAL(dlist_reader_word(&s.r, &b, 16), 0);
    UNIT_STR(buf_cstring(&b), "X");
    CU_ASSERT_EQUAL(dlist_reader_word(&s.r, &b, 16), 0);
    CU_ASSERT_EQUAL(b.len, 0);
    source_close(&s);
    buf_free(&b);
}

static void test_bad_files(void)
{
    static const struct {
        const char *text;
        int error;
    } cases[] = {
        {"%{default " GUID1 " 5}", XERR_EOF},
        {"%{default " GUID1 " x}\r\n", XERR_SYNTAX},
        {"%{default " GUID1 " }\r\n", XERR_SYNTAX},
        {"%{default " GUID1 " 5+}\r\n", XERR_SYNTAX},
        {"%{default " GUID1 " -5}\r\n", XERR_SYNTAX},
        {"%{default " GUID1 "0 5}\r\n", XERR_SYNTAX},
        {"%{default 0a1a6bfe5dee6a06f1c70f78eb26150f42e2b08 5}\r\n", XERR_SYNTAX},
        {"%{default x0a1a6bfe5dee6a06f1c70f78eb26150f42e2b08 5}\r\n", XERR_SYNTAX},
        {"%{default}\r\n", XERR_SYNTAX},
        {"%{" GUID1 " 5}\r\n", XERR_SYNTAX},
        {"%{d " GUID1 " 99999999999999999999}\r\n", XERR_TOOBIG},
        {"%{d " GUID1 " 9223372036854775808}\r\n", XERR_TOOBIG},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct source s;
        struct dlist *d;
        source_open(&s, cases[i].text, strlen(cases[i].text));
        int e = dlist_reader_value(&s.r, &d);
        CU_ASSERT_EQUAL(e, cases[i].error);
        CU_ASSERT_PTR_NULL(d);
        if (e != cases[i].error)
            printf("\n  [%s] gave %d\n", cases[i].text, e);
        source_close(&s);
    }
}

static void test_num(void)
{
    static const struct {
        const char *text;
        int error;
        uint64_t num;
    } cases[] = {
        {"0 ", 0, 0},
        {"18446744073709551615)", 0, UINT64_MAX},
        {"18446744073709551616)", XERR_PARAM, 0},
        {"\"42\" ", 0, 42},
        {"{2+}\r\n42", 0, 42},
        {"007\r\n", 0, 7},
        {"-1 ", XERR_PARAM, 0},
        {"+1 ", XERR_PARAM, 0},
        {"1x ", XERR_PARAM, 0},
        {"NIL ", XERR_PARAM, 0},
        {"\"\" ", XERR_PARAM, 0},
        {"(1) ", XERR_PARAM, 0},
        {"%(1) ", XERR_PARAM, 0},
        {"\r\n", XERR_PARAM, 0},
        {"12", XERR_EOF, 0},
        {"{100}\r\n", XERR_TOOBIG, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct source s;
        uint64_t num = 0;
        source_open(&s, cases[i].text, strlen(cases[i].text));
        CU_ASSERT_EQUAL(dlist_reader_num(&s.r, &num), cases[i].error);
        CU_ASSERT_EQUAL(num, cases[i].num);
        source_close(&s);
    }
}

void suite_dlist(void);
void suite_dlist(void)
{
    static const struct unit_test tests[] = {
        {"how strings are printed", test_astrings},
        {"1023 bytes and 1024", test_long_strings},
        {"canonical text", test_canonical},
        {"NUL in a literal", test_tree_nul},
        {"errors", test_errors},
        {"building and looking up", test_lookups},
        {"limit of the pool", test_pool_limit},
        {"depth and length", test_bounds},
        {"bounded copies", test_copy_max},
        {"walking over files", test_walk},
        {"bad file headers", test_bad_files},
        {"numbers", test_num},
        {NULL, NULL},
    };
    unit_suite("dlist", tests);
}
