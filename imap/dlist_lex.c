/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* dlist_lex - bytes and strings of replication data, and what its lines announce.
 *
 * The automaton is explained in dlist_read.c. Its states follow the two suffixes "{n}" (or "{n+}")
 * and " n}"; the second only means something on a line that has "%{", which is remembered in a flag
 * beside the state. Every byte that is no part of a suffix leads back to T_NONE. */
#include "config.h"

#include <string.h>

#include "imap/dlist_lex.h"
#include "lib/xerr.h"

/* ---- What a line announces ---- */

enum tail {
    T_NONE,
    T_BRACE,   /* { */
    T_LITNUM,  /* {12 */
    T_LITPLUS, /* {12+ */
    T_LITEND,  /* {12+} */
    T_LITCR,
    T_PERCENT, /* % */
    T_BLANK,   /* after "%{": white space */
    T_FILENUM, /* after "%{": " 12" */
    T_FILEEND, /* after "%{": " 12}" */
    T_FILECR,
    T_BODY, /* the line end was consumed: r->skip bytes follow */
    T_MASK = 15,
    T_INFILE = 16 /* flag: this line has a "%{" */
};

const unsigned char lex_class[256] = {
    ['\0'] = C_ATOM | C_QUOTED,
    ['\t'] = C_ATOM | C_SPACE,
    ['\n'] = C_ATOM | C_SPACE | C_QUOTED | C_TAIL,
    ['\v'] = C_ATOM | C_SPACE,
    ['\f'] = C_ATOM | C_SPACE,
    ['\r'] = C_ATOM | C_SPACE | C_QUOTED,
    [' '] = C_ATOM | C_SPACE,
    ['"'] = C_ATOM | C_QUOTED,
    ['%'] = C_TAIL,
    ['('] = C_ATOM,
    [')'] = C_ATOM,
    ['\\'] = C_QUOTED,
    ['{'] = C_TAIL,
};

static void tail_digit(struct dlist_reader *r, unsigned state, unsigned digit)
{
    int first = state == T_BRACE || state == T_BLANK;
    uint64_t n = first ? 0 : r->tailnum;
    r->tailnum = n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : n * 10 + digit;
    if (state == T_BRACE || state == T_LITNUM)
        r->tail = (r->tail & T_INFILE) | T_LITNUM;
    else if (state == T_BLANK || state == T_FILENUM)
        r->tail = T_INFILE | T_FILENUM;
    else
        r->tail &= T_INFILE;
}

static void tail_lf(struct dlist_reader *r, unsigned state)
{
    unsigned keep = r->tail & T_INFILE;
    r->tail = T_NONE;
    if (state == T_LITEND || state == T_LITCR)
        r->tail = keep | T_BODY; /* a literal may be a file's partition: that goes on behind it */
    else if (state == T_FILEEND || state == T_FILECR)
        r->tail = T_BODY;
    if (r->tail)
        r->skip = r->tailnum;
}

void lex_tail(struct dlist_reader *r, int c)
{
    unsigned state = r->tail & T_MASK, next = T_NONE;
    switch (c) {
    case '\n':
        tail_lf(r, state);
        return;
    case '{':
        next = T_BRACE | (state == T_PERCENT ? T_INFILE : 0);
        break;
    case '%':
        next = T_PERCENT;
        break;
    case ' ':
    case '\t':
        next = r->tail & T_INFILE ? T_BLANK : T_NONE;
        break;
    case '+':
        next = state == T_LITNUM ? T_LITPLUS : T_NONE;
        break;
    case '}':
        if (state == T_LITNUM || state == T_LITPLUS)
            next = T_LITEND;
        else if (state == T_FILENUM)
            next = T_FILEEND;
        break;
    case '\r':
        if (state == T_LITEND || state == T_FILEEND)
            next = state + 1;
        break;
    default:
        if (c >= '0' && c <= '9') {
            tail_digit(r, state, (unsigned)(c - '0'));
            return;
        }
    }
    r->tail = (r->tail & T_INFILE) | next;
}

int lex_inbody(const struct dlist_reader *r)
{
    return (r->tail & T_MASK) == T_BODY;
}

void lex_bodydone(struct dlist_reader *r)
{
    r->skip = 0;
    r->tail &= T_INFILE;
}

/* ---- Bytes ---- */

int lex_eof(struct dlist_reader *r)
{
    int e = prot_error(r->in);
    return e ? e : XERR_EOF;
}

int lex_drain(struct dlist_reader *r)
{
    char junk[8192];
    while (r->skip) {
        ssize_t n = prot_read(r->in, junk, r->skip < sizeof(junk) ? r->skip : sizeof(junk));
        if (n <= 0)
            return n < 0 ? (int)n : lex_eof(r);
        r->skip -= (uint64_t)n;
    }
    lex_bodydone(r);
    return 0;
}

int lex_skipspace(struct dlist_reader *r, int inside)
{
    while (!lex_inbody(r)) {
        int c = lex_peek(r);
        if (c < 0)
            return lex_eof(r);
        if (!(lex_class[c] & C_SPACE) || (!inside && (c == '\r' || c == '\n')))
            return 0;
        lex_take(r);
    }
    return XERR_SYNTAX;
}

int lex_expect(struct dlist_reader *r, int c)
{
    int got = lex_peek(r);
    if (got != c)
        return got < 0 ? lex_eof(r) : XERR_SYNTAX;
    lex_take(r);
    return 0;
}

int lex_eol(struct dlist_reader *r)
{
    if (lex_peek(r) == '\r')
        lex_take(r);
    return lex_expect(r, '\n');
}

/* As long as the automaton sleeps, bytes that do not wake it need not be looked at one by one. */
int lex_run(struct dlist_reader *r, struct buf *b, unsigned stop, size_t *n, size_t max)
{
    const unsigned char *p = r->in->ptr, *q = p;
    if (r->tail)
        return 0;
    while (q < r->in->end && !(lex_class[*q] & stop))
        q++;
    size_t len = (size_t)(q - p);
    if (len > max - *n)
        return XERR_TOOBIG;
    if (b && len)
        buf_appendmap(b, p, len);
    *n += len;
    r->in->ptr = q;
    return 0;
}

/* ---- Strings: each appends to B, or drops the bytes if B is NULL ---- */

int lex_atom(struct dlist_reader *r, struct buf *b, size_t max)
{
    size_t n = 0;
    for (;;) {
        int e = lex_run(r, b, C_ATOM | C_TAIL, &n, max);
        if (e)
            return e;
        int c = lex_peek(r);
        if (c < 0)
            return lex_eof(r);
        if (lex_class[c] & C_ATOM)
            return n && c ? 0 : XERR_SYNTAX;
        if (n == max)
            return XERR_TOOBIG;
        lex_take(r);
        n++;
        if (b)
            buf_putc(b, c);
    }
}

int lex_quoted(struct dlist_reader *r, struct buf *b, size_t max)
{
    size_t n = 0;
    int e = lex_expect(r, '"');
    while (!e) {
        e = lex_run(r, b, C_QUOTED | C_TAIL, &n, max);
        int c = e ? e : lex_peek(r);
        if (c == '"') {
            lex_take(r);
            return 0;
        }
        if (c == '\\') {
            lex_take(r);
            c = lex_peek(r);
        }
        if (c < 0)
            return e ? e : lex_eof(r);
        if (c == '\r' || c == '\n' || c == '\0')
            return XERR_SYNTAX;
        if (n == max)
            return XERR_TOOBIG;
        lex_take(r);
        n++;
        if (b)
            buf_putc(b, c);
    }
    return e;
}

int lex_literalheader(struct dlist_reader *r)
{
    int e = lex_expect(r, '{');
    if (e)
        return e;
    while (lex_peek(r) >= '0' && lex_peek(r) <= '9')
        lex_take(r);
    if ((r->tail & T_MASK) != T_LITNUM)
        return lex_peek(r) < 0 ? lex_eof(r) : XERR_SYNTAX;
    if (lex_peek(r) == '+')
        lex_take(r);
    if ((e = lex_expect(r, '}')) || (e = lex_eol(r)))
        return e;
    return r->skip > INT64_MAX ? XERR_TOOBIG : 0;
}

/* The announced bytes; memory grows only with what really arrives. */
static int get_body(struct dlist_reader *r, struct buf *b)
{
    while (r->skip) {
        size_t piece = r->skip < 65536 ? (size_t)r->skip : 65536;
        ssize_t n = prot_read(r->in, buf_ensure(b, piece), piece);
        if (n <= 0)
            return n < 0 ? (int)n : lex_eof(r);
        b->len += (size_t)n;
        r->skip -= (uint64_t)n;
    }
    lex_bodydone(r);
    return 0;
}

static int get_literal(struct dlist_reader *r, struct buf *b, size_t max)
{
    int e = lex_literalheader(r);
    if (!e && b && r->skip > max)
        e = XERR_TOOBIG;
    if (e)
        return e;
    return b ? get_body(r, b) : lex_drain(r);
}

int lex_astring(struct dlist_reader *r, struct buf *b, size_t max, size_t maxliteral)
{
    switch (lex_peek(r)) {
    case '"':
        return lex_quoted(r, b, max);
    case '{':
        return get_literal(r, b, maxliteral);
    case '%':
        lex_take(r); /* a list or file */
        return XERR_SYNTAX;
    default:
        return lex_atom(r, b, max);
    }
}

int lex_fileheader(struct dlist_reader *r, struct buf *partition, struct message_guid *guid)
{
    char digits[2 * MESSAGE_GUID_LEN];
    size_t n = 0;
    int e = lex_expect(r, '{');
    if (e || (e = lex_space(r, 0)))
        return e;
    if ((e = lex_astring(r, partition, r->maxatom, r->maxatom)) || (e = lex_space(r, 0)))
        return e;
    for (int c; n < sizeof(digits) && (c = lex_peek(r)) > ' '; lex_take(r))
        digits[n++] = (char)c;
    if (lex_peek(r) != ' ' || message_guid_decode(guid, digits, n))
        return lex_peek(r) < 0 ? lex_eof(r) : XERR_SYNTAX;
    if ((e = lex_space(r, 0)))
        return e;
    while (lex_peek(r) >= '0' && lex_peek(r) <= '9')
        lex_take(r);
    if ((e = lex_expect(r, '}')) || (e = lex_eol(r)))
        return e;
    if (!lex_inbody(r))
        return XERR_SYNTAX; /* no digits */
    return r->skip > INT64_MAX ? XERR_TOOBIG : 0;
}
