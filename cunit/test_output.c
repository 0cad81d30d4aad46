/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/output. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/output.h"

static void test_string(void)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80",
         "plain \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff", "?"},
        {"a\x80z", "a?z"},
        {"\xc0\xaf", "??"},           /* overlong */
        {"\xe0\x80\xaf", "???"},      /* overlong */
        {"\xed\xa0\x80", "???"},      /* surrogate */
        {"\xf4\x90\x80\x80", "????"}, /* above U+10FFFF */
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xe2\x82", "?"}, /* cut off */
        {"\xe2\x82z", "?z"},
        {"\xf0\x9f\x98", "?"},
        {"\xf0\x9f\x98\xf0\x9f\x98\x80", "?\xf0\x9f\x98\x80"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct buf expected = BUF_INITIALIZER;
        for (const char *p = cases[i].out; *p; p++)
            if (*p == '?')
                buf_appendcstr(&expected, "\xef\xbf\xbd");
            else
                buf_putc(&expected, *p);
        json_t *j = output_string(cases[i].in, strlen(cases[i].in));
        UNIT_STR(json_string_value(j), buf_cstring(&expected));
        json_decref(j);
        buf_free(&expected);
    }
    json_t *j = output_string("a\0b", 3);
    CU_ASSERT_EQUAL(json_string_length(j), 3);
    json_decref(j);
}

/* Any bytes give a string that jansson accepts. */
static void test_string_random(void)
{
    unsigned state = 1;
    char bytes[24];
    int wrong = 0;
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            state = state * 1103515245u + 12345u;
            bytes[i] = (char)(state >> 16 | (round & 1 ? 0x80 : 0));
        }
        json_t *j = output_string(bytes, sizeof(bytes));
        wrong += !json_is_string(j) || json_string_length(j) < 8;
        json_decref(j);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static json_t *sample(void)
{
    json_t *rows = json_array();
    json_array_append_new(rows, json_pack("{s:i, s:[s, s], s:{}}", "z", 1, "a", "x\ny", "w", "m"));
    json_array_append_new(rows, json_integer(7));
    json_array_append_new(rows, json_array());
    return rows;
}

static void test_json(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    json_t *rows = sample();
    CU_ASSERT_EQUAL(output_json(f, rows), 0);
    json_t *s = json_string("one");
    CU_ASSERT_EQUAL(output_json(f, s), 0);
    json_decref(s);
    json_decref(rows);
    fclose(f);
    UNIT_STR(text, "[\n  {\n    \"z\": 1,\n    \"a\": [\n      \"x\\ny\",\n      \"w\"\n    ],\n"
                   "    \"m\": {}\n  },\n  7,\n  []\n]\n\"one\"\n");
    free(text);
}

/* A streamed array has the bytes of the same array printed whole. */
static void test_array(void)
{
    json_t *all = sample();
    for (size_t count = 0; count <= json_array_size(all); count++) {
        char *whole = NULL, *streamed = NULL;
        size_t n = 0;
        json_t *rows = json_array();
        FILE *f = open_memstream(&streamed, &n);
        struct output_array *a = output_array_begin(f);
        for (size_t i = 0; i < count; i++) {
            json_t *item = json_array_get(all, i);
            json_array_append(rows, item);
            CU_ASSERT_EQUAL(output_array_item(a, json_incref(item)), 0);
        }
        CU_ASSERT_EQUAL(output_array_end(&a), 0);
        CU_ASSERT_PTR_NULL(a);
        fclose(f);
        f = open_memstream(&whole, &n);
        output_json(f, rows);
        fclose(f);
        UNIT_STR(streamed, whole);
        free(whole);
        free(streamed);
        json_decref(rows);
    }
    json_decref(all);
}

/* What a writer prints piece by piece is what output_json prints of the same value. */
static void print_pieces(struct output_writer *w, const char *key, const json_t *value)
{
    if (json_is_object(value)) {
        void *i = json_object_iter((json_t *)value);
        output_writer_open(w, key, '{');
        for (; i; i = json_object_iter_next((json_t *)value, i))
            print_pieces(w, json_object_iter_key(i), json_object_iter_value(i));
        output_writer_close(w);
    } else if (json_is_array(value)) {
        output_writer_open(w, key, '[');
        for (size_t i = 0; i < json_array_size(value); i++)
            print_pieces(w, NULL, json_array_get(value, i));
        output_writer_close(w);
    } else {
        output_writer_value(w, key, json_incref((json_t *)value));
    }
}

static void test_writer(void)
{
    static const char *const values[] = {
        "7", "[]", "{}", "[[], {}, [[]], [1, [2, {\"a\": [3, {}]}], 4]]",
        "{\"q\\\"\\n\": \"x\\ny\", \"b\": {\"c\": {}, \"d\": [true, null]}, \"e\": 1.5}",
    };
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        char *whole = NULL, *pieces = NULL;
        size_t n = 0;
        json_t *value = json_loads(values[i], JSON_DECODE_ANY, NULL);
        FILE *f = open_memstream(&pieces, &n);
        struct output_writer *w = output_writer_begin(f);
        print_pieces(w, NULL, value);
        CU_ASSERT_EQUAL(output_writer_end(&w), 0);
        CU_ASSERT_PTR_NULL(w);
        fclose(f);
        f = open_memstream(&whole, &n);
        output_json(f, value);
        fclose(f);
        UNIT_STR(pieces, whole);
        free(whole);
        free(pieces);
        json_decref(value);
    }
}

/* What is left open is closed; a value that contains others is moved to the right as a whole. */
static void test_writer_mixed(void)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    struct output_writer *w = output_writer_begin(f);
    output_writer_open(w, NULL, '{');
    output_writer_open(w, "rows", '[');
    output_writer_value(w, NULL, json_pack("{s:[i]}", "a", 1));
    CU_ASSERT_EQUAL(output_writer_end(&w), 0);
    fclose(f);
    UNIT_STR(text, "{\n  \"rows\": [\n    {\n      \"a\": [\n        1\n      ]\n    }\n  ]\n}\n");
    free(text);
    text = NULL;
    f = open_memstream(&text, &n);
    w = output_writer_begin(f);
    int r = 0, depth = 0;
    while (!r && depth < 1000) {
        r = output_writer_open(w, NULL, '[');
        depth++;
    }
    CU_ASSERT_EQUAL(r, -EOVERFLOW);
    CU_ASSERT_EQUAL(output_writer_end(&w), -EOVERFLOW);
    fclose(f);
    free(text);
}

static void test_setbytes(void)
{
    json_t *j = json_object();
    output_setbytes(j, "a", "gut \xc3\xa4", 6);
    output_setbytes(j, "b", "\xff\x00z", 3);
    output_setbytes(j, "c", NULL, 0);
    output_setbytes(j, "d", "\xef\xbf\xbd", 3);
    char *text = json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII);
    UNIT_STR(text, "{\"a\":\"gut \\u00E4\",\"b\":\"\\uFFFD\\u0000z\",\"b_base64\":\"/wB6\","
                   "\"c\":\"\",\"d\":\"\\uFFFD\"}");
    free(text);
    json_decref(j);
    /* Longer than what is encoded at a time. */
    enum { N = (3 << 20) + 5 };
    char *bytes = calloc(1, N);
    memset(bytes, 0xff, N);
    j = json_object();
    output_setbytes(j, "x", bytes, N);
    const char *code = json_string_value(json_object_get(j, "x_base64"));
    CU_ASSERT_PTR_NOT_NULL_FATAL(code);
    size_t len = strlen(code);
    CU_ASSERT_EQUAL(len, (N + 2) / 3 * 4);
    CU_ASSERT_EQUAL(strspn(code, "/"), len - 2);
    UNIT_STR(code + len - 3, "/8=");
    free(bytes);
    json_decref(j);
}

static void test_errors(void)
{
    FILE *f = fopen("/dev/full", "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    setvbuf(f, NULL, _IONBF, 0);
    json_t *rows = sample();
    CU_ASSERT_EQUAL(output_json(f, rows), -ENOSPC);
    clearerr(f);
    struct output_array *a = output_array_begin(f);
    CU_ASSERT_EQUAL(output_array_item(a, rows), -ENOSPC);
    CU_ASSERT_EQUAL(output_array_end(&a), -ENOSPC);
    fclose(f);
    char *text = NULL;
    size_t n = 0;
    f = open_memstream(&text, &n);
    a = output_array_begin(f);
    CU_ASSERT_EQUAL(output_array_item(a, NULL), -EINVAL);
    CU_ASSERT_EQUAL(output_array_end(&a), -EINVAL);
    fclose(f);
    free(text);
}

static void test_time(void)
{
    char out[20];
    char *old = getenv("TZ") ? strdup(getenv("TZ")) : NULL;
    setenv("TZ", "XST-05:30", 1); /* half past five east of Greenwich */
    tzset();
    output_time(0, out);
    UNIT_STR(out, "1970-01-01 05:30:00");
    output_time(951827696, out);
    UNIT_STR(out, "2000-02-29 18:04:56");
    output_time(INT64_MAX, out);
    UNIT_STR(out, "(not a time)");
    output_time(INT64_MIN, out);
    UNIT_STR(out, "(not a time)");
    output_time(253402300800 - 19800, out); /* the year 10000 */
    UNIT_STR(out, "(not a time)");
    output_time(253402300799 - 19800, out);
    UNIT_STR(out, "9999-12-31 23:59:59");
    if (old)
        setenv("TZ", old, 1);
    else
        unsetenv("TZ");
    tzset();
    free(old);
}

void suite_output(void);
void suite_output(void)
{
    static const struct unit_test tests[] = {
        {"string", test_string},
        {"random bytes", test_string_random},
        {"json", test_json},
        {"array", test_array},
        {"writer", test_writer},
        {"writer with whole values", test_writer_mixed},
        {"bytes", test_setbytes},
        {"errors", test_errors},
        {"time", test_time},
        {NULL, NULL},
    };
    unit_suite("output", tests);
}
