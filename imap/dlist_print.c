/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* dlist_print - canonical text of replication data.
 *
 * Cyrus parses and prints again what it finds in a data file and takes offsets and checksums from
 * that, so there is exactly one right way to print each value. A string is an atom if it can be,
 * else quoted if that needs no escapes, else a literal; 1,024 bytes or more are always a literal.
 * (0x1f counts as an atom byte: releases up to 3.10, which have backups, print it so.) */
#include "config.h"

#include <string.h>

#include "imap/dlist.h"

enum { MAX_SHORT = 1023 };
enum form { FORM_ATOM, FORM_QUOTED, FORM_LITERAL };

/* The simplest form in which each byte can stand. */
static const unsigned char byte_form[256] = {
    [1 ... 9] = FORM_QUOTED,     [11 ... 12] = FORM_QUOTED,
    [14 ... 0x1e] = FORM_QUOTED, ['\0'] = FORM_LITERAL,
    ['\n'] = FORM_LITERAL,       ['\r'] = FORM_LITERAL,
    [' '] = FORM_QUOTED,         ['"'] = FORM_LITERAL,
    ['%'] = FORM_LITERAL,        ['('] = FORM_QUOTED,
    [')'] = FORM_QUOTED,         ['*'] = FORM_QUOTED,
    ['\\'] = FORM_LITERAL,       ['{'] = FORM_QUOTED,
    [0x7f] = FORM_QUOTED,        [0x80 ... 0xff] = FORM_LITERAL,
};

static enum form string_form(const char *s, size_t len)
{
    unsigned char form = FORM_ATOM;
    if (len > MAX_SHORT)
        return FORM_LITERAL;
    if (!len || (len == 3 && !memcmp(s, "NIL", 3)))
        return FORM_QUOTED;
    for (size_t i = 0; i < len; i++)
        if (byte_form[(unsigned char)s[i]] > form)
            form = byte_form[(unsigned char)s[i]];
    return (enum form)form;
}

static void print_literal_header(size_t len, struct buf *out, int flags)
{
    buf_putc(out, '{');
    buf_appendu64(out, len);
    buf_appendcstr(out, flags & DLIST_PLUS ? "+}\r\n" : "}\r\n");
}

int dlist_printastring(const char *s, size_t len, struct buf *out, int flags)
{
    switch (string_form(s, len)) {
    case FORM_ATOM:
        buf_appendmap(out, s, len);
        return 0;
    case FORM_QUOTED:
        buf_putc(out, '"');
        buf_appendmap(out, s, len);
        buf_putc(out, '"');
        return 0;
    default:
        print_literal_header(len, out, flags);
        buf_appendmap(out, s, len);
        return 1;
    }
}

int dlist_fixastring(struct buf *out, size_t at)
{
    size_t len = out->len - at;
    struct buf header = BUF_INITIALIZER;
    enum form form = string_form(len ? out->s + at : "", len);
    if (form == FORM_ATOM)
        return 0;
    if (form == FORM_QUOTED) {
        buf_ensure(out, 2);
        memmove(out->s + at + 1, out->s + at, len);
        out->s[at] = out->s[at + 1 + len] = '"';
        out->len += 2;
        return 0;
    }
    print_literal_header(len, &header, 0);
    buf_ensure(out, header.len);
    memmove(out->s + at + header.len, out->s + at, len);
    memcpy(out->s + at, header.s, header.len);
    out->len += header.len;
    buf_free(&header);
    return 1;
}

int dlist_printbody(const struct dlist *dl, struct buf *out, int flags)
{
    int literal = 0;
    for (const struct dlist *d = dl->head; d; d = d->next) {
        if (d != dl->head)
            buf_putc(out, ' ');
        literal |=
            dl->type == DL_KVLIST ? dlist_print(d, out, flags) : dlist_printval(d, out, flags);
    }
    return literal;
}

static int print_file(const struct dlist *dl, struct buf *out, int flags)
{
    char hex[41];
    buf_appendcstr(out, "%{");
    int literal = dlist_printastring(dl->sval, dl->len, out, flags);
    message_guid_encode(&dl->guid, hex);
    buf_putc(out, ' ');
    buf_appendcstr(out, hex);
    buf_putc(out, ' ');
    buf_appendu64(out, dl->size);
    buf_appendcstr(out, "}\r\n");
    return literal;
}

int dlist_printval(const struct dlist *dl, struct buf *out, int flags)
{
    int literal = 0;
    switch (dl->type) {
    case DL_NIL:
        buf_appendcstr(out, "NIL");
        break;
    case DL_ATOM:
        literal = dlist_printastring(dl->sval, dl->len, out, flags);
        break;
    case DL_FLAG:
        buf_appendmap(out, dl->sval, dl->len);
        break;
    case DL_FILE:
        literal = print_file(dl, out, flags);
        break;
    case DL_LIST:
    case DL_KVLIST:
        buf_appendcstr(out, dl->type == DL_LIST ? "(" : "%(");
        literal = dlist_printbody(dl, out, flags);
        buf_putc(out, ')');
        break;
    }
    return literal;
}

int dlist_print(const struct dlist *dl, struct buf *out, int flags)
{
    int literal = 0;
    if (dl->name) {
        literal = dlist_printastring(dl->name, strlen(dl->name), out, flags);
        buf_putc(out, ' ');
    }
    return literal | dlist_printval(dl, out, flags);
}
