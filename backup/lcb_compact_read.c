/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_read - lines of a chunk that is in memory, as bytes.
 *
 * What our programs wrote is copied as it stands, so it need not be understood, only delimited: a
 * message by its size, any other line by the first line end that is not that of a literal's
 * announcement. Anything that is not in exactly our form is left to the reader that understands more
 * (lcb_compact_foreign.c). */
#include "config.h"

#include <string.h>

#include "backup/lcb_compact_int.h"
#include "lib/xerr.h"

/* A single line is looked for in no chunk that is larger than this. */
#define TEXT_MAX (64u << 20)

/* Digits from *AT on: 0, or XERR_FORMAT if there are none or too many. */
static int number(const char *p, size_t n, size_t *at, uint64_t *value)
{
    size_t from = *at;
    uint64_t v = 0;
    while (*at < n && p[*at] >= '0' && p[*at] <= '9' && *at - from < 18)
        v = v * 10 + (uint64_t)(p[(*at)++] - '0');
    *value = v;
    return *at > from ? 0 : XERR_FORMAT;
}

static int expect(const char *p, size_t n, size_t *at, const char *text)
{
    size_t len = strlen(text);
    if (n - *at < len || memcmp(p + *at, text, len))
        return XERR_FORMAT;
    *at += len;
    return 0;
}

/* An atom or a quoted string, neither of which has line ends or braces... */
static int partition(const char *p, size_t n, size_t *at)
{
    size_t from = *at;
    if (*at < n && p[*at] == '"') {
        const char *end = memchr(p + *at + 1, '"', n - *at - 1);
        if (!end || memchr(p + *at, '\n', (size_t)(end - p) - *at))
            return XERR_FORMAT;
        *at = (size_t)(end - p) + 1;
        return 0;
    }
    while (*at < n && p[*at] > ' ' && p[*at] != '{')
        (*at)++;
    return *at > from ? 0 : XERR_FORMAT;
}

/* "(%{partition guid size}" CRLF bytes ")" CRLF */
static int message(const char *p, size_t n, size_t *at, struct lcb_oldline *l)
{
    int r = expect(p, n, at, "(%{");
    if (!r)
        r = partition(p, n, at);
    if (!r)
        r = expect(p, n, at, " ");
    if (!r)
        r = n - *at < 40 || message_guid_decode(&l->guid, p + *at, 40) ? XERR_FORMAT : 0;
    if (r)
        return r;
    *at += 40;
    r = expect(p, n, at, " ");
    if (!r)
        r = number(p, n, at, &l->size);
    if (!r)
        r = expect(p, n, at, "}\r\n");
    if (r)
        return r;
    l->message = 1;
    l->start = *at;
    l->body = p + *at;
    if (n - *at < l->size)
        return XERR_FORMAT;
    *at += l->size;
    return expect(p, n, at, ")\r\n");
}

/* Is the line end at AT (of the CR) that of "{n}"? Then *SKIP bytes follow that are no text. */
static int announces(const char *p, size_t from, size_t at, uint64_t *skip)
{
    size_t digits = at;
    if (at <= from + 2 || p[at - 1] != '}')
        return 0;
    digits = at - 1;
    while (digits > from && p[digits - 1] >= '0' && p[digits - 1] <= '9')
        digits--;
    if (digits == at - 1 || digits <= from || p[digits - 1] != '{')
        return 0;
    return !number(p, at, &digits, skip);
}

static int other(const char *p, size_t n, size_t *at, struct lcb_oldline *l)
{
    size_t from = *at;
    for (;;) {
        const char *lf = memchr(p + *at, '\n', n - *at);
        uint64_t skip;
        if (!lf || lf == p + from || lf[-1] != '\r')
            return XERR_FORMAT;
        *at = (size_t)(lf - p) + 1;
        if (!announces(p, from, *at - 2, &skip))
            return 0;
        if (n - *at < skip)
            return XERR_FORMAT;
        *at += skip;
        l->literal = 1;
    }
}

int lcb_oldline_next(const struct buf *text, size_t *at, struct lcb_oldline *l)
{
    uint64_t time;
    size_t begin = *at, verb;
    if (*at == text->len)
        return 0;
    memset(l, 0, sizeof(*l));
    int r = number(text->s, text->len, at, &time);
    if (!r)
        r = expect(text->s, text->len, at, " APPLY ");
    if (r)
        return r;
    verb = *at;
    if (!expect(text->s, text->len, &verb, "MESSAGE ")) {
        *at = verb;
        r = message(text->s, text->len, at, l);
    } else {
        r = other(text->s, text->len, at, l);
    }
    l->text = text->s + begin;
    l->len = *at - begin;
    return r ? r : 1;
}

static int collect(void *rock, const void *p, size_t n)
{
    struct buf *text = rock;
    if (text->len + n > TEXT_MAX)
        return XERR_TOOBIG;
    buf_appendmap(text, p, n);
    return 0;
}

int lcb_oldline_at(struct lcb *b, int64_t pos, struct buf *text, struct lcb_oldline *l)
{
    size_t at = LCB_CHUNK_START_LEN;
    int64_t number = 0;
    int more = 1;
    buf_reset(text);
    if (lcb_read_chunk(b, LCB_POS_SEQ(pos), collect, text) || text->len < at)
        return 0;
    while (number < (pos & 0xffffff) && (more = lcb_oldline_next(text, &at, l)) == 1)
        number++;
    return number && more == 1;
}

int lcb_oldline_single(const struct buf *text, uint64_t length, struct lcb_oldline *l)
{
    size_t at = LCB_CHUNK_START_LEN;
    uint64_t time;
    memset(l, 0, sizeof(*l));
    if (text->len < at || memcmp(text->s, LCB_CHUNK_START, at) ||
        number(text->s, text->len, &at, &time) ||
        expect(text->s, text->len, &at, " APPLY MESSAGE "))
        return 0;
    (void)message(text->s, text->len, &at, l); /* as far as it goes */
    return l->message && l->start + l->size + 3 == length;
}

/* ---- text as a stream ---- */

void lcb_oldtext_open(struct lcb_oldtext *o, struct lcb *b, int64_t seq, uint64_t length)
{
    memset(o, 0, sizeof(*o));
    o->b = b;
    o->seq = seq;
    o->length = length;
}

void lcb_oldtext_close(struct lcb_oldtext *o)
{
    if (o->open)
        lcb_text_close(&o->t);
    o->open = 0;
}

/* A whole chunk is read to its checked end; of pieces, one after the other. */
ssize_t lcb_oldtext_read(void *oldtext, void *p, size_t n)
{
    struct lcb_oldtext *o = oldtext;
    while (!o->error) {
        if (!o->open && o->at >= o->length)
            return 0;
        if (!o->open) {
            o->error = lcb_text_open(o->b, o->seq, o->at, &o->t);
            o->open = !o->error;
            continue;
        }
        ssize_t got = lcb_text_read(&o->t, p, n);
        if (got > 0) {
            o->at += (uint64_t)got;
            return got;
        }
        if (got < 0) {
            o->error = got == XERR_EOF ? XERR_FORMAT : (int)got;
            break;
        }
        if (o->t.member && o->at != o->length)
            o->error = XERR_FORMAT; /* not the text that the index was made of */
        lcb_oldtext_close(o);
    }
    return o->error;
}
