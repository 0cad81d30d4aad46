/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* message_header - cuts the header of a message into fields.
 *
 * Lines end in LF, with or without CR before it. A line that begins with white space belongs to
 * the one before. Unfolding takes the line ends away and leaves the white space. */
#include "config.h"

#include <string.h>

#include "imap/message_header.h"

/* End of the line at P: behind its LF, or END. */
static const char *line_end(const char *p, const char *end)
{
    const char *lf = memchr(p, '\n', (size_t)(end - p));
    return lf ? lf + 1 : end;
}

/* Length of the line at P up to NEXT without its line end. */
static size_t line_length(const char *p, const char *next)
{
    size_t n = (size_t)(next - p);
    if (n && p[n - 1] == '\n')
        n--;
    if (n && p[n - 1] == '\r')
        n--;
    return n;
}

size_t message_header_length(const char *msg, size_t n)
{
    const char *p = msg, *end = msg + n;
    while (p < end) {
        const char *next = line_end(p, end);
        if (next[-1] == '\n' && !line_length(p, next))
            break;
        p = next;
    }
    return (size_t)(p - msg);
}

void message_header_fini(struct message_header *h)
{
    buf_free(&h->name);
    buf_free(&h->value);
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Length of the field name of the line of N bytes at P; 0 if it is no field. */
static size_t name_length(const char *p, size_t n)
{
    const char *colon = memchr(p, ':', n);
    size_t len = colon ? (size_t)(colon - p) : 0;
    while (len && is_blank(p[len - 1]))
        len--;
    for (size_t i = 0; i < len; i++)
        if (p[i] <= ' ' || p[i] >= 0x7f)
            return 0;
    return len;
}

static void trim(struct buf *b)
{
    size_t lead = 0;
    while (b->len && is_blank(b->s[b->len - 1]))
        b->len--;
    while (lead < b->len && is_blank(b->s[lead]))
        lead++;
    buf_consume(b, lead);
}

int message_header_next(struct message_header *h, const char **p, const char *end)
{
    while (*p < end) {
        const char *line = *p, *next = line_end(line, end);
        size_t n = line_length(line, next), name = name_length(line, n);
        buf_reset(&h->value);
        if (name) {
            const char *colon = memchr(line, ':', n);
            buf_setmap(&h->name, line, name);
            buf_appendmap(&h->value, colon + 1, (size_t)(line + n - colon - 1));
        }
        for (*p = next; *p < end && is_blank(**p); *p = next) {
            next = line_end(*p, end);
            if (name)
                buf_appendmap(&h->value, *p, line_length(*p, next));
        }
        if (name) {
            trim(&h->value);
            return 1;
        }
    }
    return 0;
}
