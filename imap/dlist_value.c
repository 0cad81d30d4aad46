/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* dlist_value - reading a value as a tree. Everything comes from the reader's pool, whose limit is
 * what bounds a literal; atoms and quoted strings, whose length is not known beforehand, pass
 * through the pool's work buffer. */
#include "config.h"

#include <string.h>

#include "imap/dlist_lex.h"
#include "lib/xerr.h"

static int read_value(struct dlist_reader *r, int nested, struct dlist **out);

/* A node with the bytes of B. */
static int string_node(struct dlist_reader *r, enum dlist_type type, const struct buf *b,
                       struct dlist **out)
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
    int e = lex_literalheader(r);
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
            return n < 0 ? (int)n : lex_eof(r);
        at += n;
        r->skip -= (uint64_t)n;
    }
    lex_bodydone(r);
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
        e = lex_quoted(r, b, r->maxatom);
        return e ? e : string_node(r, DL_ATOM, b, out);
    }
    e = lex_atom(r, b, r->maxatom);
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
    int e = lex_fileheader(r, partition, &guid);
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

static int read_list(struct dlist_reader *r, enum dlist_type type, struct dlist **out)
{
    struct dlist *list = dlist_newnode(r->pool, NULL, type);
    if (r->depth >= r->maxdepth || !list)
        return XERR_TOOBIG;
    lex_take(r);
    r->depth++;
    *out = list;
    return read_members(r, list);
}

static int read_value(struct dlist_reader *r, int nested, struct dlist **out)
{
    int e = lex_space(r, r->depth > 0);
    if (e)
        return e;
    int c = lex_peek(r);
    switch (c) {
    case '(':
        return read_list(r, DL_LIST, out);
    case '{':
        return read_literal(r, out);
    case '%':
        lex_take(r);
        c = lex_peek(r);
        if (c == '(')
            return read_list(r, DL_KVLIST, out);
        if (c == '{')
            return read_file(r, nested, out);
        return c < 0 ? lex_eof(r) : XERR_SYNTAX;
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
