/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A growing byte string. Zero-filled memory is a valid empty buf; the bytes may contain NUL. */
#ifndef LIB_BUF_H
#define LIB_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
    char *s;
    size_t len;
    size_t alloc;
};
#define BUF_INITIALIZER {NULL, 0, 0}

/* Release the memory; the buf is empty and usable afterwards. */
void buf_free(struct buf *b);
/* Forget the bytes, keep the memory. */
static inline void buf_reset(struct buf *b)
{
    b->len = 0;
}
/* As buf_reset, but give memory back if more than KEEP bytes are allocated. */
void buf_shrink(struct buf *b, size_t keep);
/* Make room for MORE bytes behind the present ones (and a NUL); returns where they begin. The
 * caller adds to b->len what it wrote. */
char *buf_ensure(struct buf *b, size_t more);
void buf_appendmap(struct buf *b, const void *p, size_t n);
void buf_appendcstr(struct buf *b, const char *s);
void buf_append(struct buf *b, const struct buf *from);
void buf_setmap(struct buf *b, const void *p, size_t n);
void buf_setcstr(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Append N in decimal; faster than buf_printf. */
void buf_appendu64(struct buf *b, uint64_t n);
static inline void buf_putc(struct buf *b, int c)
{
    if (b->len + 1 >= b->alloc)
        buf_ensure(b, 1);
    b->s[b->len++] = (char)c;
}
/* Cut to N bytes if longer. */
static inline void buf_truncate(struct buf *b, size_t n)
{
    if (n < b->len)
        b->len = n;
}
/* Remove the first N bytes. */
void buf_consume(struct buf *b, size_t n);
/* The bytes with a NUL behind them; valid until the next change. Never NULL. */
const char *buf_cstring(struct buf *b);
/* Hand the NUL-terminated memory to the caller, who frees it; the buf is empty afterwards. */
char *buf_release(struct buf *b);
/* memcmp order, shorter first. */
int buf_cmp(const struct buf *a, const struct buf *b);

#endif
