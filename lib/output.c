/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* output - results as JSON, strings that are fit for it, times. */
#include "config.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/output.h"
#include "lib/xmalloc.h"

#define LAYOUT (JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY)

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

void output_setbytes(json_t *object, const char *key, const void *p, size_t n)
{
    json_t *value = output_string(p, n);
    int same = json_is_string(value) && json_string_length(value) == n &&
               (!n || !memcmp(json_string_value(value), p, n));
    json_object_set_new(object, key, value);
    if (same)
        return;
    enum { PIECE = 3 << 20 };
    char *name = xasprintf("%s_base64", key);
    char *code = xmalloc(4 * (n / 3 + 1) + 1);
    for (size_t i = 0; i < n; i += PIECE)
        EVP_EncodeBlock((unsigned char *)code + i / 3 * 4, (const unsigned char *)p + i,
                        (int)(n - i < PIECE ? n - i : PIECE));
    json_object_set_new(object, name, json_string(code));
    free(code);
    free(name);
}

void output_time(int64_t epoch, char out[20])
{
    time_t t = (time_t)epoch;
    struct tm tm;
    if (!localtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900 ||
        !strftime(out, 20, "%Y-%m-%d %H:%M:%S", &tm))
        memcpy(out, "(not a time)", sizeof("(not a time)"));
}
