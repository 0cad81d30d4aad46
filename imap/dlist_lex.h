/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* dlist_lex: the lowest layer of dlist_read.c, which explains it: bytes of the stream, the
 * automaton that watches for announcements, strings. Only dlist_*.c include this. */
#ifndef IMAP_DLIST_LEX_H
#define IMAP_DLIST_LEX_H

#include "imap/dlist.h"
#include "lib/prot.h"

/* Classes of bytes. */
enum {
    C_ATOM = 1,   /* not in an atom: white space, brackets, quote, NUL */
    C_QUOTED = 2, /* special in a quoted string */
    C_TAIL = 4,   /* wakes the automaton, or ends the line */
    C_SPACE = 8
};
extern const unsigned char lex_class[256];

/* Do announced bytes (r->skip of them) come next, not text? */
int lex_inbody(const struct dlist_reader *r);
/* They were read. */
void lex_bodydone(struct dlist_reader *r);
/* Drop them. */
int lex_drain(struct dlist_reader *r);

/* Let the automaton see C. */
void lex_tail(struct dlist_reader *r, int c);
/* The next byte or -1. */
static inline int lex_peek(struct dlist_reader *r)
{
    return r->in->ptr < r->in->end ? *r->in->ptr : prot_peek(r->in);
}
/* Consume it. */
static inline void lex_take(struct dlist_reader *r)
{
    int c = prot_getc(r->in);
    if (c >= 0 && (r->tail | (lex_class[c] & C_TAIL)))
        lex_tail(r, c);
}
/* Why there is no next byte. */
int lex_eof(struct dlist_reader *r);
/* White space, which outside of lists does not include line ends. An error if bytes are announced:
 * by something that is no literal or file, or by a file whose body the caller forgot. */
int lex_skipspace(struct dlist_reader *r, int inside);
static inline int lex_space(struct dlist_reader *r, int inside)
{
    if (!r->tail && r->in->ptr < r->in->end && !(lex_class[*r->in->ptr] & C_SPACE))
        return 0;
    return lex_skipspace(r, inside);
}
/* Consume C, or XERR_SYNTAX. */
int lex_expect(struct dlist_reader *r, int c);
/* Consume LF or CRLF, or XERR_SYNTAX. */
int lex_eol(struct dlist_reader *r);
/* Append the run of bytes that are of none of the classes STOP, as far as they can be had at once.
 * *N counts them up to MAX, beyond which is XERR_TOOBIG. */
int lex_run(struct dlist_reader *r, struct buf *b, unsigned stop, size_t *n, size_t max);

/* Strings: each appends to B, or drops the bytes if B is NULL. */
int lex_atom(struct dlist_reader *r, struct buf *b, size_t max);
int lex_quoted(struct dlist_reader *r, struct buf *b, size_t max);
/* "{n}" or "{n+}" and the line end; then r->skip is n. */
int lex_literalheader(struct dlist_reader *r);
/* Atom, quoted or literal. */
int lex_astring(struct dlist_reader *r, struct buf *b, size_t max, size_t maxliteral);
/* "{partition guid size}" and the line end, the "%" having been taken. Then r->skip is the size. */
int lex_fileheader(struct dlist_reader *r, struct buf *partition, struct message_guid *guid);

#endif
