/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* output - results as JSON, whole or as a streamed array.
 *
 * A streamed array has the very bytes that output_json() would have printed for it: an item is
 * printed on its own and moved two blanks to the right. (A newline inside a JSON string is written
 * \n, so every newline byte is one of layout.) */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/output.h"
#include "lib/xmalloc.h"

#define LAYOUT (JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY)

struct output_array {
    FILE *f;
    int r; /* first error; nothing is printed after it */
    int count;
};

/* 0, or what went wrong when the last call on F failed. */
static int stream_error(FILE *f, int failed)
{
    int err = errno;
    if (!failed && !ferror(f))
        return 0;
    return err > 0 ? -err : -EIO;
}

int output_json(FILE *f, const json_t *value)
{
    errno = 0;
    int failed = json_dumpf(value, f, LAYOUT) < 0 || fputc('\n', f) == EOF || fflush(f) == EOF;
    return stream_error(f, failed);
}

/* Length of the UTF-8 sequence of a code point at S, or 0 if there is none. In *BAD then the bytes
 * that one U+FFFD stands for: the longest part that could have become one, at least 1. The table
 * of well-formed sequences is in The Unicode Standard, 3.9, table 3-7. */
static size_t utf8_length(const unsigned char *s, size_t n, size_t *bad)
{
    unsigned char c = s[0], low = 0x80, high = 0xbf;
    size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    *bad = 1;
    if (c == 0xe0)
        low = 0xa0; /* not overlong */
    else if (c == 0xed)
        high = 0x9f; /* not a surrogate */
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f; /* not above U+10FFFF */
    for (size_t i = 1; i < len; i++) {
        if (i >= n || s[i] < low || s[i] > high)
            return 0;
        *bad = i + 1;
        low = 0x80;
        high = 0xbf;
    }
    return len;
}

json_t *output_string(const char *s, size_t n)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const unsigned char *p = (const unsigned char *)s, *end = p + n;
    char *clean = xmalloc(3 * n + 1), *to = clean;
    while (p < end) {
        size_t bad, len = utf8_length(p, (size_t)(end - p), &bad);
        memcpy(to, len ? (const char *)p : replacement, len ? len : 3);
        to += len ? len : 3;
        p += len ? len : bad;
    }
    json_t *value = json_stringn(clean, (size_t)(to - clean));
    free(clean);
    return value ? value : json_null();
}

struct output_array *output_array_begin(FILE *f)
{
    struct output_array *a = xzmalloc(sizeof(*a));
    a->f = f;
    errno = 0;
    a->r = stream_error(f, fputc('[', f) == EOF);
    return a;
}

static int print_indented(FILE *f, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (fputs("\n  ", f) == EOF || fwrite(text, 1, n, f) != n)
            return -1;
        text += n + (text[n] == '\n');
    }
    return 0;
}

int output_array_item(struct output_array *a, json_t *value)
{
    if (!a->r) {
        char *text = json_dumps(value, LAYOUT);
        errno = text ? 0 : EINVAL;
        int failed = !text || (a->count && fputc(',', a->f) == EOF) || print_indented(a->f, text);
        a->r = stream_error(a->f, failed);
        a->count = 1;
        free(text);
    }
    json_decref(value);
    return a->r;
}

int output_array_end(struct output_array **ap)
{
    struct output_array *a = *ap;
    *ap = NULL;
    errno = 0;
    if (!a->r)
        a->r = stream_error(a->f,
                            fputs(a->count ? "\n]\n" : "]\n", a->f) == EOF || fflush(a->f) == EOF);
    int r = a->r;
    free(a);
    return r;
}

void output_time(int64_t epoch, char out[20])
{
    time_t t = (time_t)epoch;
    struct tm tm;
    if (!localtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900 ||
        !strftime(out, 20, "%Y-%m-%d %H:%M:%S", &tm))
        memcpy(out, "(not a time)", sizeof("(not a time)"));
}
