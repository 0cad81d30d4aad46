/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* buf - a growing byte string; grows by half so that appending is linear. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/xmalloc.h"

void buf_free(struct buf *b)
{
    free(b->s);
    memset(b, 0, sizeof(*b));
}

void buf_shrink(struct buf *b, size_t keep)
{
    if (b->alloc > keep)
        buf_free(b);
    else
        buf_reset(b);
}

char *buf_ensure(struct buf *b, size_t more)
{
    size_t need = b->len + more + 1;
    if (need > b->alloc) {
        size_t grown = b->alloc + b->alloc / 2;
        b->alloc = need > grown ? need : grown;
        if (b->alloc < 64)
            b->alloc = 64;
        b->s = xrealloc(b->s, b->alloc);
    }
    return b->s + b->len;
}

void buf_appendmap(struct buf *b, const void *p, size_t n)
{
    if (!n)
        return;
    memcpy(buf_ensure(b, n), p, n);
    b->len += n;
}

void buf_appendcstr(struct buf *b, const char *s)
{
    buf_appendmap(b, s, strlen(s));
}

void buf_append(struct buf *b, const struct buf *from)
{
    buf_appendmap(b, from->s, from->len);
}

void buf_setmap(struct buf *b, const void *p, size_t n)
{
    buf_reset(b);
    buf_appendmap(b, p, n);
}

void buf_setcstr(struct buf *b, const char *s)
{
    buf_setmap(b, s, strlen(s));
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    buf_ensure(b, 128);
    size_t room = b->alloc - b->len;
    int n = vsnprintf(b->s + b->len, room, fmt, ap);
    if (n >= 0 && (size_t)n >= room) {
        buf_ensure(b, (size_t)n);
        n = vsnprintf(b->s + b->len, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    if (n > 0)
        b->len += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_appendu64(struct buf *b, uint64_t n)
{
    char digits[20];
    size_t at = sizeof(digits);
    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    buf_appendmap(b, digits + at, sizeof(digits) - at);
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        buf_reset(b);
        return;
    }
    memmove(b->s, b->s + n, b->len - n);
    b->len -= n;
}

const char *buf_cstring(struct buf *b)
{
    buf_ensure(b, 0);
    b->s[b->len] = '\0';
    return b->s;
}

char *buf_release(struct buf *b)
{
    buf_cstring(b);
    char *s = b->s;
    memset(b, 0, sizeof(*b));
    return s;
}

int buf_cmp(const struct buf *a, const struct buf *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int r = n ? memcmp(a->s, b->s, n) : 0;
    if (r)
        return r;
    return a->len < b->len ? -1 : a->len > b->len;
}
