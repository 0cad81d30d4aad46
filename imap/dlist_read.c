/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* dlist_read - reading replication data from a stream.
 *
 * A command may be larger than memory: a MAILBOX line holds a million records, a MESSAGE line
 * gigabytes of mail. So there is no tokeniser that returns "the command". The caller walks down with
 * enter, more and key as far as things can be large, and takes the leaves as small trees (value),
 * canonical text (copy), strings or numbers. Each leaf is bounded by the caller's or the pool's
 * limit, and brackets by maxdepth, because value and copy recurse.
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
 * the reader takes from the stream passes a little automaton (tail_step), whose state r->tail says
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
 * The parser never consumes a byte it objects to, save the "%" in front of one. In particular a line
 * end where something else was needed is left there, so that resync stops at this line's end and
 * does not swallow the next command. Escaped line ends in quoted strings are refused for the same
 * reason. */
#include "config.h"

#include <string.h>

#include "imap/dlist.h"
#include "lib/prot.h"
#include "lib/xerr.h"

/* ---- What a line announces ---- */

enum tail {
    T_NONE,
    T_BRACE,   /* { */
    T_LITNUM,  /* {12 */
    T_LITPLUS, /* {12+ */
    T_LITEND,  /* {12+} */
    T_LITCR,
    T_PERCENT,  /* % */
    T_BLANK,    /* after "%{": white space */
    T_FILENUM,  /* after "%{": " 12" */
    T_FILEEND,  /* after "%{": " 12}" */
    T_FILECR,
    T_BODY,     /* the line end was consumed: r->skip bytes follow */
    T_MASK = 15,
    T_INFILE = 16 /* flag: this line has a "%{" */
};

/* Classes of bytes. */
enum {
    C_ATOM = 1,   /* not in an atom: white space, brackets, quote, NUL */
    C_QUOTED = 2, /* special in a quoted string */
    C_TAIL = 4,   /* moves the automaton out of T_NONE, or ends the line */
    C_SPACE = 8
};
static const unsigned char class[256] = {
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

static void tail_step(struct dlist_reader *r, int c)
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

/* Do announced bytes come next, not text? */
static int in_body(const struct dlist_reader *r)
{
    return (r->tail & T_MASK) == T_BODY;
}

static void body_done(struct dlist_reader *r)
{
    r->skip = 0;
    r->tail &= T_INFILE;
}

/* ---- Bytes ---- */

static inline int peek(struct dlist_reader *r)
{
    return r->in->ptr < r->in->end ? *r->in->ptr : prot_peek(r->in);
}

static inline void take(struct dlist_reader *r)
{
    int c = prot_getc(r->in);
    if (c >= 0 && (r->tail | (class[c] & C_TAIL)))
        tail_step(r, c);
}

static int eof_error(struct dlist_reader *r)
{
    int e = prot_error(r->in);
    return e ? e : XERR_EOF;
}

/* Drop what is announced. */
static int drain(struct dlist_reader *r)
{
    char junk[8192];
    while (r->skip) {
        ssize_t n = prot_read(r->in, junk, r->skip < sizeof(junk) ? r->skip : sizeof(junk));
        if (n <= 0)
            return n < 0 ? (int)n : eof_error(r);
        r->skip -= (uint64_t)n;
    }
    body_done(r);
    return 0;
}

/* White space, which outside of lists does not include line ends. */
static int skip_space(struct dlist_reader *r, int inside)
{
    for (;;) {
        int c = peek(r);
        if (c < 0)
            return eof_error(r);
        if (!(class[c] & C_SPACE) || (!inside && (c == '\r' || c == '\n')))
            return 0;
        take(r);
        if (in_body(r))
            return XERR_SYNTAX; /* announced, but not by a literal or file */
    }
}

/* Consume C, or complain. */
static int expect(struct dlist_reader *r, int c)
{
    int got = peek(r);
    if (got != c)
        return got < 0 ? eof_error(r) : XERR_SYNTAX;
    take(r);
    return 0;
}

static int expect_eol(struct dlist_reader *r)
{
    if (peek(r) == '\r')
        take(r);
    return expect(r, '\n');
}

/* Append the run of bytes that are of none of the classes STOP; as long as the automaton sleeps,
 * they can be had at once. *N counts them up to MAX. */
static int take_run(struct dlist_reader *r, struct buf *b, unsigned stop, size_t *n, size_t max)
{
    const unsigned char *p = r->in->ptr, *q = p;
    if (r->tail)
        return 0;
    while (q < r->in->end && !(class[*q] & stop))
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

static int get_atom(struct dlist_reader *r, struct buf *b, size_t max)
{
    size_t n = 0;
    for (;;) {
        int e = take_run(r, b, C_ATOM | C_TAIL, &n, max);
        if (e)
            return e;
        int c = peek(r);
        if (c < 0)
            return eof_error(r);
        if (class[c] & C_ATOM)
            return n && c ? 0 : XERR_SYNTAX;
        if (n == max)
            return XERR_TOOBIG;
        take(r);
        n++;
        if (b)
            buf_putc(b, c);
    }
}

static int get_quoted(struct dlist_reader *r, struct buf *b, size_t max)
{
    size_t n = 0;
    int e = expect(r, '"');
    while (!e) {
        e = take_run(r, b, C_QUOTED | C_TAIL, &n, max);
        int c = e ? e : peek(r);
        if (c == '"') {
            take(r);
            return 0;
        }
        if (c == '\\') {
            take(r);
            c = peek(r);
        }
        if (c < 0)
            return e ? e : eof_error(r);
        if (c == '\r' || c == '\n' || c == '\0')
            return XERR_SYNTAX;
        if (n == max)
            return XERR_TOOBIG;
        take(r);
        n++;
        if (b)
            buf_putc(b, c);
    }
    return e;
}

/* "{n}" or "{n+}" and the line end; then r->skip is n. */
static int get_literal_header(struct dlist_reader *r)
{
    int e = expect(r, '{');
    if (e)
        return e;
    while (peek(r) >= '0' && peek(r) <= '9')
        take(r);
    if ((r->tail & T_MASK) != T_LITNUM)
        return peek(r) < 0 ? eof_error(r) : XERR_SYNTAX;
    if (peek(r) == '+')
        take(r);
    if ((e = expect(r, '}')) || (e = expect_eol(r)))
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
            return n < 0 ? (int)n : eof_error(r);
        b->len += (size_t)n;
        r->skip -= (uint64_t)n;
    }
    body_done(r);
    return 0;
}

static int get_literal(struct dlist_reader *r, struct buf *b, size_t max)
{
    int e = get_literal_header(r);
    if (!e && b && r->skip > max)
        e = XERR_TOOBIG;
    if (e)
        return e;
    return b ? get_body(r, b) : drain(r);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Any of the three. */
static int get_astring(struct dlist_reader *r, struct buf *b, size_t max, size_t maxliteral)
{
    switch (peek(r)) {
    case '"':
        return get_quoted(r, b, max);
    case '{':
        return get_literal(r, b, maxliteral);
    case '%':
        take(r); /* a list or file */
        return XERR_SYNTAX;
    default:
        return get_atom(r, b, max);
    }
}

/* "{partition guid size}" and the line end, the "%" having been taken. Then r->skip is the size. */
static int get_file_header(struct dlist_reader *r, struct buf *partition, struct message_guid *guid)
{
    char digits[2 * MESSAGE_GUID_LEN];
    size_t n = 0;
    int e = expect(r, '{');
    if (e || (e = skip_space(r, 0)))
        return e;
    if ((e = get_astring(r, partition, r->maxatom, r->maxatom)) || (e = skip_space(r, 0)))
        return e;
    for (int c; n < sizeof(digits) && (c = peek(r)) > ' '; take(r))
        digits[n++] = (char)c;
    if (peek(r) != ' ' || message_guid_decode(guid, digits, n))
        return peek(r) < 0 ? eof_error(r) : XERR_SYNTAX;
    if ((e = skip_space(r, 0)))
        return e;
    while (peek(r) >= '0' && peek(r) <= '9')
        take(r);
    if ((e = expect(r, '}')) || (e = expect_eol(r)))
        return e;
    if (!in_body(r))
        return XERR_SYNTAX; /* no digits */
    return r->skip > INT64_MAX ? XERR_TOOBIG : 0;
}

/* ---- Values as trees ---- */

static int read_value(struct dlist_reader *r, int nested, struct dlist **out);

/* A node with the bytes of B. */
static int string_node(struct dlist_reader *r, enum dlist_type type,
                       const struct buf *b, struct dlist **out)
{
    struct dlist *d = dlist_newnode(r->pool, NULL, type);
    char *s = d ? dlist_pool_alloc(r->pool, b->len + 1) : NULL;
    if (!s)
        return XERR_TOOBIG;
    if (b->len)
        memcpy(s, b->s, b->len);
    s[b->len] = '\0';
    d->sval = s;
    d->len = b->len;
    *out = d;
    return 0;
}

/* Straight into the pool, whose limit is the literal's. */
static int read_literal(struct dlist_reader *r, struct dlist **out)
{
    int e = get_literal_header(r);
    if (e)
        return e;
    struct dlist *d = dlist_newnode(r->pool, NULL, DL_ATOM);
    char *s = d && r->skip < SIZE_MAX ? dlist_pool_alloc(r->pool, (size_t)r->skip + 1) : NULL;
    if (!s)
        return XERR_TOOBIG;
    d->len = (size_t)r->skip;
    for (char *at = s; r->skip;) {
        ssize_t n = prot_read(r->in, at, (size_t)r->skip);
        if (n <= 0)
            return n < 0 ? (int)n : eof_error(r);
        at += n;
        r->skip -= (uint64_t)n;
    }
    body_done(r);
    s[d->len] = '\0';
    d->sval = s;
    r->literal = 1;
    *out = d;
    return 0;
}

static int read_string(struct dlist_reader *r, int first, struct dlist **out)
{
    struct buf *b = dlist_pool_scratch(r->pool);
    int e;
    if (first == '"') {
        e = get_quoted(r, b, r->maxatom);
        return e ? e : string_node(r, DL_ATOM, b, out);
    }
    e = get_atom(r, b, r->maxatom);
    if (e)
        return e;
    if (b->len == 3 && !memcmp(b->s, "NIL", 3)) {
        *out = dlist_newnode(r->pool, NULL, DL_NIL);
        return *out ? 0 : XERR_TOOBIG;
    }
    return string_node(r, first == '\\' ? DL_FLAG : DL_ATOM, b, out);
}

static int read_file(struct dlist_reader *r, int nested, struct dlist **out)
{
    struct message_guid guid;
    struct buf *partition = dlist_pool_scratch(r->pool);
    int e = get_file_header(r, partition, &guid);
    if (!e && (nested || memchr(partition->s ? partition->s : "", '\0', partition->len)))
        e = XERR_SYNTAX;
    if (e || (e = string_node(r, DL_FILE, partition, out)))
        return e;
    (*out)->guid = guid;
    (*out)->size = r->skip;
    return 0;
}

static int read_members(struct dlist_reader *r, struct dlist *list)
{
    int e;
    while ((e = dlist_reader_more(r)) > 0) {
        struct dlist *child;
        char *name = NULL;
        if (list->type == DL_KVLIST) {
            struct buf *key = dlist_pool_scratch(r->pool);
            if ((e = dlist_reader_key(r, key)))
                return e;
            if (!(name = dlist_pool_alloc(r->pool, key->len + 1)))
                return XERR_TOOBIG;
            memcpy(name, buf_cstring(key), key->len + 1);
        }
        if ((e = read_value(r, 1, &child)))
            return e;
        child->name = name;
        dlist_append(list, child);
    }
    return e;
}

static int read_list(struct dlist_reader *r, enum dlist_type type,
                     struct dlist **out)
{
    struct dlist *list = dlist_newnode(r->pool, NULL, type);
    if (r->depth >= r->maxdepth || !list)
        return XERR_TOOBIG;
    take(r);
    r->depth++;
    *out = list;
    return read_members(r, list);
}

static int read_value(struct dlist_reader *r, int nested, struct dlist **out)
{
    int e = skip_space(r, r->depth > 0);
    if (e)
        return e;
    int c = peek(r);
    switch (c) {
    case '(':
        return read_list(r, DL_LIST, out);
    case '{':
        return read_literal(r, out);
    case '%':
        take(r);
        c = peek(r);
        if (c == '(')
            return read_list(r, DL_KVLIST, out);
        if (c == '{')
            return read_file(r, nested, out);
        return c < 0 ? eof_error(r) : XERR_SYNTAX;
    default:
        return read_string(r, c, out); /* refuses brackets and line ends */
    }
}

int dlist_reader_value(struct dlist_reader *r, struct dlist **out)
{
    *out = NULL;
    int e = read_value(r, 0, out);
    if (e)
        *out = NULL;
    return e;
}

/* ---- Values as canonical text ---- */

static int copy_astring(struct dlist_reader *r, struct buf *out, size_t limit)
{
    size_t at = out->len, room = limit > at ? limit - at : 0;
    int c = peek(r);
    int e = get_astring(r, out, smaller(r->maxatom, room), room);
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
    int e = skip_space(r, r->depth > 0);
    if (e)
        return e;
    int c = peek(r), kv = c == '%';
    if (kv) {
        take(r);
        c = peek(r);
        if (c != '(')
            return c < 0 ? eof_error(r) : XERR_SYNTAX;
    }
    if (c != '(')
        return copy_astring(r, out, limit);
    if (r->depth >= r->maxdepth)
        return XERR_TOOBIG;
    take(r);
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
    int e = skip_space(r, r->depth > 0);
    return e ? e : peek(r);
}

int dlist_reader_enter(struct dlist_reader *r, int kv)
{
    int e = skip_space(r, r->depth > 0);
    if (!e && kv)
        e = expect(r, '%');
    if (!e && peek(r) == '(' && r->depth >= r->maxdepth)
        e = XERR_TOOBIG;
    if (!e)
        e = expect(r, '(');
    if (!e)
        r->depth++;
    return e;
}

int dlist_reader_more(struct dlist_reader *r)
{
    int e = in_body(r) ? drain(r) : 0;
    if (e || (e = skip_space(r, 1)))
        return e;
    if (peek(r) != ')')
        return 1;
    take(r);
    r->depth--;
    return 0;
}

int dlist_reader_key(struct dlist_reader *r, struct buf *key)
{
    int e = dlist_reader_astring(r, key, r->maxatom);
    if (!e && memchr(buf_cstring(key), '\0', key->len))
        e = XERR_SYNTAX;
    return e ? e : skip_space(r, 1);
}

int dlist_reader_astring(struct dlist_reader *r, struct buf *s, size_t max)
{
    buf_reset(s);
    int e = skip_space(r, r->depth > 0);
    return e ? e : get_astring(r, s, smaller(max, r->maxatom), max);
}

int dlist_reader_word(struct dlist_reader *r, struct buf *word, size_t max)
{
    buf_reset(word);
    int e = skip_space(r, r->depth > 0);
    if (e)
        return e;
    int c = peek(r);
    return c == '\r' || c == '\n' ? 0 : get_atom(r, word, max);
}

/* Anything but a plain run of digits. */
static int odd_num(struct dlist_reader *r, uint64_t *val)
{
    struct buf s = BUF_INITIALIZER;
    enum { LONGEST = 64 };
    int e = get_astring(r, &s, LONGEST, LONGEST);
    if (e == XERR_SYNTAX || (!e && !dlist_parsenum(s.s ? s.s : "", s.len, val)))
        e = XERR_PARAM;
    buf_free(&s);
    return e;
}

int dlist_reader_num(struct dlist_reader *r, uint64_t *val)
{
    uint64_t n = 0;
    int e = skip_space(r, r->depth > 0);
    if (e)
        return e;
    int c = peek(r);
    if (c < '0' || c > '9')
        return odd_num(r, val);
    do {
        unsigned digit = (unsigned)(c - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return XERR_PARAM;
        n = n * 10 + digit;
        take(r);
        c = peek(r);
    } while (c >= '0' && c <= '9');
    if (c < 0)
        return eof_error(r);
    if (!(class[c] & C_ATOM) || !c)
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
        return got < 0 ? got : eof_error(r);
    r->skip -= (uint64_t)got;
    return got;
}

void dlist_reader_filedone(struct dlist_reader *r)
{
    if (in_body(r))
        body_done(r);
}

/* One bracket or leaf; *DEPTH counts brackets. No recursion, so any depth will do, and no check
 * that keys have values. */
static int skip_token(struct dlist_reader *r, size_t *depth)
{
    struct message_guid guid;
    int c = peek(r);
    if (c == '%') {
        take(r);
        c = peek(r);
        if (c == '{') {
            int e = get_file_header(r, NULL, &guid);
            return e ? e : drain(r);
        }
        if (c != '(')
            return c < 0 ? eof_error(r) : XERR_SYNTAX;
    }
    if (c == '(') {
        take(r);
        ++*depth;
        return 0;
    }
    if (c == ')' && *depth) {
        take(r);
        --*depth;
        return 0;
    }
    return get_astring(r, NULL, SIZE_MAX, SIZE_MAX);
}

int dlist_reader_skip(struct dlist_reader *r)
{
    size_t depth = 0;
    int e;
    do {
        e = skip_space(r, r->depth > 0 || depth);
        if (!e)
            e = skip_token(r, &depth);
    } while (!e && depth);
    return e;
}

int dlist_reader_eol(struct dlist_reader *r)
{
    int e = expect_eol(r);
    if (!e && in_body(r))
        e = XERR_SYNTAX; /* the line ended in an atom that announces something */
    return e;
}

int dlist_reader_resync(struct dlist_reader *r)
{
    r->depth = 0;
    r->literal = 0;
    for (;;) {
        size_t n = 0;
        int e = in_body(r) ? drain(r) : 0;
        if (e)
            return e;
        take_run(r, NULL, C_TAIL, &n, SIZE_MAX);
        int c = peek(r);
        if (c < 0)
            return eof_error(r);
        take(r);
        if (c == '\n' && !in_body(r))
            return 0;
    }
}
