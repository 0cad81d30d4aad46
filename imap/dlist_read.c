/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* dlist_read - reading replication data from a stream.
 *
 * A command may be larger than memory: a MAILBOX line holds a million records, a MESSAGE line
 * gigabytes of mail. So there is no tokeniser that returns "the command". The caller walks down
 * with enter, more and key as far as things can be large, and takes the leaves as small trees
 * (value), canonical text (copy), strings or numbers. Each leaf is bounded by the caller's or the
 * pool's limit, and brackets by maxdepth, because value and copy recurse.
 *
 * The other half of the work is to survive commands that are wrong. Then the reader is somewhere
 * inside a line, the command may go on for many lines (bodies of literals and files contain line
 * ends, and may look like commands themselves), and the next command must be found all the same:
 *
 *     A line that ends in "{n}" or "{n+}", or has "%{" in it and ends in " n}", announces n bytes
 *     that follow, after which the command goes on. The first line end that announces nothing
 *     ends the command.
 *
 * That rule looks at line ends only and needs no understanding of what is between them, which is
 * good, since what is between them is broken. But the parser may give up anywhere, also between
 * "{" and "}", and then the part of the line already consumed matters. Therefore every byte that
 * the reader takes from the stream passes a little automaton (lex_tail), whose state r->tail says
 * what the present line could be about to announce. It costs one test for ordinary bytes: state 0
 * stays as it is unless "{" or "%" comes, so runs of other bytes need not be looked at one by one.
 * At a line end that announces a body the automaton sets r->skip to its length, whatever the
 * parser made of that line. This gives three properties:
 *
 * - resync has nothing to guess: it drains r->skip, then takes bytes until a line end that sets no
 *   new r->skip. A body that was read is over and done with, because reading it cleared the state.
 * - A literal's or file's header needs no arithmetic of its own: its length is r->skip.
 * - A line end inside a list, which is white space, is an error if it announces something that the
 *   parser had not recognised as a literal or file (an atom such as "x{5}").
 *
 * The parser never consumes a byte it objects to, save the "%" in front of one. In particular a
 * line end where something else was needed is left there, so that resync stops at this line's end
 * and does not swallow the next command. Escaped line ends in quoted strings are refused for the
 * same reason. */
#include "config.h"

#include <string.h>

#include "imap/dlist_lex.h"
#include "lib/xerr.h"

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- Values as canonical text ---- */

static int copy_astring(struct dlist_reader *r, struct buf *out, size_t limit)
{
    size_t at = out->len, room = limit > at ? limit - at : 0;
    int c = lex_peek(r);
    int e = lex_astring(r, out, smaller(r->maxatom, room), room);
    if (e)
        return e;
    size_t len = out->len - at;
    const char *s = out->s + at;
    int raw = c == '\\' || (c != '"' && c != '{' && len == 3 && !memcmp(s, "NIL", 3));
    if (!raw && dlist_fixastring(out, at))
        r->literal = 1;
    return out->len > limit ? XERR_TOOBIG : 0;
}

static int copy_value(struct dlist_reader *r, struct buf *out, size_t limit);

static int copy_members(struct dlist_reader *r, struct buf *out, size_t limit, int kv)
{
    int e;
    buf_appendcstr(out, kv ? "%(" : "(");
    for (const char *sep = ""; (e = dlist_reader_more(r)) > 0; sep = " ") {
        buf_appendcstr(out, sep);
        if (kv) {
            if ((e = copy_astring(r, out, limit)))
                return e;
            buf_putc(out, ' ');
        }
        if ((e = copy_value(r, out, limit)))
            return e;
    }
    buf_putc(out, ')');
    if (!e && out->len > limit)
        e = XERR_TOOBIG;
    return e;
}

static int copy_value(struct dlist_reader *r, struct buf *out, size_t limit)
{
    int e = lex_space(r, r->depth > 0);
    if (e)
        return e;
    int c = lex_peek(r), kv = c == '%';
    if (kv) {
        lex_take(r);
        c = lex_peek(r);
        if (c != '(')
            return c < 0 ? lex_eof(r) : XERR_SYNTAX;
    }
    if (c != '(')
        return copy_astring(r, out, limit);
    if (r->depth >= r->maxdepth)
        return XERR_TOOBIG;
    lex_take(r);
    r->depth++;
    return copy_members(r, out, limit, kv);
}

int dlist_reader_copy(struct dlist_reader *r, struct buf *out, size_t max)
{
    return copy_value(r, out, max < SIZE_MAX - out->len ? out->len + max : SIZE_MAX);
}

/* ---- Walking ---- */

void dlist_reader_init(struct dlist_reader *r, struct protstream *in, struct dlist_pool *pool)
{
    memset(r, 0, sizeof(*r));
    r->in = in;
    r->pool = pool;
    r->maxdepth = 32;
    r->maxatom = 131072;
}

int dlist_reader_peek(struct dlist_reader *r)
{
    int e = lex_space(r, r->depth > 0);
    return e ? e : lex_peek(r);
}

int dlist_reader_enter(struct dlist_reader *r, int kv)
{
    int e = lex_space(r, r->depth > 0);
    if (!e && kv)
        e = lex_expect(r, '%');
    if (!e && lex_peek(r) == '(' && r->depth >= r->maxdepth)
        e = XERR_TOOBIG;
    if (!e)
        e = lex_expect(r, '(');
    if (!e)
        r->depth++;
    return e;
}

int dlist_reader_more(struct dlist_reader *r)
{
    int e = lex_inbody(r) ? lex_drain(r) : 0;
    if (e || (e = lex_space(r, 1)))
        return e;
    if (lex_peek(r) != ')')
        return 1;
    lex_take(r);
    r->depth--;
    return 0;
}

int dlist_reader_key(struct dlist_reader *r, struct buf *key)
{
    int e = dlist_reader_astring(r, key, r->maxatom);
    if (!e && memchr(buf_cstring(key), '\0', key->len))
        e = XERR_SYNTAX;
    return e ? e : lex_space(r, 1);
}

int dlist_reader_astring(struct dlist_reader *r, struct buf *s, size_t max)
{
    buf_reset(s);
    int e = lex_space(r, r->depth > 0);
    return e ? e : lex_astring(r, s, smaller(max, r->maxatom), max);
}

int dlist_reader_word(struct dlist_reader *r, struct buf *word, size_t max)
{
    buf_reset(word);
    int e = lex_space(r, r->depth > 0);
    if (e)
        return e;
    int c = lex_peek(r);
    return c == '\r' || c == '\n' ? 0 : lex_atom(r, word, max);
}

/* Anything but a plain run of digits. */
static int odd_num(struct dlist_reader *r, uint64_t *val)
{
    struct buf s = BUF_INITIALIZER;
    enum { LONGEST = 64 };
    int e = lex_astring(r, &s, LONGEST, LONGEST);
    if (e == XERR_SYNTAX || (!e && !dlist_parsenum(s.s ? s.s : "", s.len, val)))
        e = XERR_PARAM;
    buf_free(&s);
    return e;
}

int dlist_reader_num(struct dlist_reader *r, uint64_t *val)
{
    uint64_t n = 0;
    int e = lex_space(r, r->depth > 0);
    if (e)
        return e;
    int c = lex_peek(r);
    if (c < '0' || c > '9')
        return odd_num(r, val);
    do {
        unsigned digit = (unsigned)(c - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return XERR_PARAM;
        n = n * 10 + digit;
        lex_take(r);
        c = lex_peek(r);
    } while (c >= '0' && c <= '9');
    if (c < 0)
        return lex_eof(r);
    if (!(lex_class[c] & C_ATOM) || !c)
        return XERR_PARAM;
    *val = n;
    return 0;
}

ssize_t dlist_reader_body(struct dlist_reader *r, void *p, size_t n)
{
    if (!r->skip) {
        dlist_reader_filedone(r);
        return 0;
    }
    if (!n)
        return 0;
    ssize_t got = prot_read(r->in, p, r->skip < n ? (size_t)r->skip : n);
    if (got <= 0)
        return got < 0 ? got : lex_eof(r);
    r->skip -= (uint64_t)got;
    return got;
}

void dlist_reader_filedone(struct dlist_reader *r)
{
    if (lex_inbody(r))
        lex_bodydone(r);
}

/* One bracket or leaf; *DEPTH counts brackets. No recursion, so any depth will do, and no check
 * that keys have values. */
static int skip_token(struct dlist_reader *r, size_t *depth)
{
    struct message_guid guid;
    int c = lex_peek(r);
    if (c == '%') {
        lex_take(r);
        c = lex_peek(r);
        if (c == '{') {
            int e = lex_fileheader(r, NULL, &guid);
            return e ? e : lex_drain(r);
        }
        if (c != '(')
            return c < 0 ? lex_eof(r) : XERR_SYNTAX;
    }
    if (c == '(') {
        lex_take(r);
        ++*depth;
        return 0;
    }
    if (c == ')' && *depth) {
        lex_take(r);
        --*depth;
        return 0;
    }
    return lex_astring(r, NULL, SIZE_MAX, SIZE_MAX);
}

int dlist_reader_skip(struct dlist_reader *r)
{
    size_t depth = 0;
    int e;
    do {
        e = lex_space(r, r->depth > 0 || depth);
        if (!e)
            e = skip_token(r, &depth);
    } while (!e && depth);
    return e;
}

int dlist_reader_eol(struct dlist_reader *r)
{
    int e = lex_inbody(r) ? XERR_SYNTAX : lex_eol(r);
    if (!e && lex_inbody(r))
        e = XERR_SYNTAX; /* the line ended in an atom that announces something */
    return e;
}

int dlist_reader_resync(struct dlist_reader *r)
{
    r->depth = 0;
    r->literal = 0;
    for (;;) {
        size_t n = 0;
        int e = lex_inbody(r) ? lex_drain(r) : 0;
        if (e)
            return e;
        lex_run(r, NULL, C_TAIL, &n, SIZE_MAX);
        int c = lex_peek(r);
        if (c < 0)
            return lex_eof(r);
        lex_take(r);
        if (c == '\n' && !lex_inbody(r))
            return 0;
    }
}
