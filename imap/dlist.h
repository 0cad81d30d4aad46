/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* dlist: the data syntax of Cyrus replication, as a small tree. Trees live in an arena (struct
 * dlist_pool) and are freed with it; reading is bounded by the pool's limit. The grammar is
 * described in doc/protocol. */
#ifndef IMAP_DLIST_H
#define IMAP_DLIST_H

#include <stddef.h>
#include <stdint.h>

#include "imap/message_guid.h"
#include "lib/buf.h"
#include "lib/prot.h"

enum dlist_type {
    DL_NIL,
    DL_ATOM, /* any string: atom, quoted or literal; may contain NUL */
    DL_FLAG, /* begins with a backslash; printed raw */
    DL_LIST, /* ( ) children without names */
    DL_KVLIST, /* %( ) children with names */
    DL_FILE  /* %{part guid size}; only the header, the body stays in the stream */
};

struct dlist {
    enum dlist_type type;
    const char *name; /* key in a kvlist, NUL-terminated; else NULL */
    const char *sval; /* DL_ATOM, DL_FLAG: the bytes, NUL-terminated; DL_FILE: partition */
    size_t len;       /* of sval */
    uint64_t size;    /* DL_FILE: length of the body */
    struct message_guid guid; /* DL_FILE */
    struct dlist *head, *tail, *next; /* children; next sibling */
};

struct dlist_pool;
/* At most LIMIT bytes of memory for all trees between two resets (nodes included). */
struct dlist_pool *dlist_pool_new(size_t limit);
/* Forget all trees; keeps at most 64 KiB of memory. */
void dlist_pool_reset(struct dlist_pool *);
void dlist_pool_free(struct dlist_pool **);
/* Bytes from the pool (not initialised), for strings that must live as long as its trees; NULL
 * when the limit is reached. */
void *dlist_pool_alloc(struct dlist_pool *, size_t n);
/* A work buffer that lives with the pool (and is not counted), empty; valid until the next call or
 * any reading into the pool. */
struct buf *dlist_pool_scratch(struct dlist_pool *);

/* ---- Building and looking up ---- */
struct dlist *dlist_newkvlist(struct dlist_pool *, const char *name);
struct dlist *dlist_newlist(struct dlist_pool *, const char *name);
/* Append to PARENT (a list or kvlist; NAME NULL in a list); copies. */
struct dlist *dlist_setatom(struct dlist_pool *, struct dlist *parent, const char *name,
                            const char *val);
struct dlist *dlist_setmap(struct dlist_pool *, struct dlist *parent, const char *name,
                           const char *val, size_t len);
struct dlist *dlist_setnum64(struct dlist_pool *, struct dlist *parent, const char *name, uint64_t);
/* A node without value, to be filled in by the caller and hung up with dlist_append; copies NAME. */
struct dlist *dlist_newnode(struct dlist_pool *, const char *name, enum dlist_type type);
void dlist_append(struct dlist *parent, struct dlist *child);
/* All of these return NULL when the pool's limit is reached. */

/* First child called NAME, or NULL. */
struct dlist *dlist_getchild(const struct dlist *, const char *name);
/* 1 and the value if the first child NAME is there and of that kind; NIL gives NULL; else 0. The
 * string has no NUL inside (else 0). */
int dlist_getatom(const struct dlist *, const char *name, const char **val);
/* Decimal up to 2^64-1: 1, or 0 if S is anything else. */
int dlist_parsenum(const char *s, size_t len, uint64_t *val);
int dlist_getnum64(const struct dlist *, const char *name, uint64_t *val);
int dlist_getnum32(const struct dlist *, const char *name, uint32_t *val); /* low 32 bits */
int dlist_getguid(const struct dlist *, const char *name, struct message_guid *val);
int dlist_getlist(const struct dlist *, const char *name, struct dlist **val);

/* ---- Printing, canonical (doc/protocol: "How strings are printed") ---- */
/* Append. Literals as "{n}" CRLF, or "{n+}" with DLIST_PLUS. Returns 1 if any literal was printed. */
enum { DLIST_PLUS = 1 };
int dlist_print(const struct dlist *, struct buf *out, int flags); /* with its name, if any */
int dlist_printval(const struct dlist *, struct buf *out, int flags);
/* Children of a list or kvlist without the brackets. */
int dlist_printbody(const struct dlist *, struct buf *out, int flags);
int dlist_printastring(const char *s, size_t len, struct buf *out, int flags);
/* The bytes of OUT from AT on become their own canonical form, in place (literals without "+"). */
int dlist_fixastring(struct buf *out, size_t at);

/* ---- Reading ---- */
/* A reader over a stream: bounded in memory and depth, able to find the end of a broken command.
 * Errors of all functions: XERR_SYNTAX, XERR_TOOBIG, XERR_PARAM (a number that is none), XERR_EOF
 * when the stream ends, or the stream's own error. After any of the first three the stream stands
 * somewhere in the command; dlist_reader_resync goes to its end. */
struct dlist_reader {
    struct protstream *in;
    struct dlist_pool *pool; /* may be NULL if dlist_reader_value is not used */
    int depth;      /* of enter() */
    int maxdepth;   /* default 32; XERR_TOOBIG beyond */
    size_t maxatom; /* longest atom, key or quoted string, default 131072 (maxword/maxquoted) */
    int literal;    /* set to 1 when a value held a string literal; the caller clears it. The copying
                     * functions set it if the canonical text has one */
    uint64_t skip;  /* body bytes of a file or literal announced but not read */
    unsigned tail;  /* private: what the line so far may announce */
    uint64_t tailnum;
};
void dlist_reader_init(struct dlist_reader *, struct protstream *in, struct dlist_pool *pool);

/* White space before whatever is asked for is skipped: blanks outside of lists, also line ends
 * inside. */
/* One whole value, whatever it is, as a tree. A file item yields only its header (and is refused
 * inside a list that is read as one value): the caller reads the body with dlist_reader_body, or
 * with prot_read and then calls dlist_reader_filedone, before it goes on (else XERR_SYNTAX). At the
 * end of the line, where a value should be, XERR_SYNTAX, and the line end is not consumed. */
int dlist_reader_value(struct dlist_reader *, struct dlist **out);
/* Consume "(" or "%(" (KV says which is wanted): XERR_SYNTAX if something else comes. */
int dlist_reader_enter(struct dlist_reader *, int kv);
/* Inside: 1 if another element follows (white space before it is skipped), 0 if the bracket closed
 * (consumed), or an error. A file body the caller did not read is skipped first. */
int dlist_reader_more(struct dlist_reader *);
/* In a kvlist: the key of the element, to KEY, and the white space behind it. */
int dlist_reader_key(struct dlist_reader *, struct buf *key);
/* Read one value and append its canonical form to OUT; no tree. Bounded by MAX bytes. Sets
 * r->literal. */
int dlist_reader_copy(struct dlist_reader *, struct buf *out, size_t max);
/* A word: verb or name; up to white space, bracket or quote; at most MAX bytes. At the end of the
 * line it is empty, and the line end is not consumed. */
int dlist_reader_word(struct dlist_reader *, struct buf *word, size_t max);
/* An astring (atom, quoted or literal). */
int dlist_reader_astring(struct dlist_reader *, struct buf *s, size_t max);
/* A number up to 2^64-1, bare or as any other form of string; else XERR_PARAM. */
int dlist_reader_num(struct dlist_reader *, uint64_t *val);
/* The first byte of what comes next, which is not consumed, or an error. */
int dlist_reader_peek(struct dlist_reader *);
/* At most N bytes of the body of a file item: how many, 0 when all were read, or an error. */
ssize_t dlist_reader_body(struct dlist_reader *, void *p, size_t n);
/* The body of a file item was read by the caller. */
void dlist_reader_filedone(struct dlist_reader *);
/* One value, thrown away, of any size and depth (files and literals are read and dropped). */
int dlist_reader_skip(struct dlist_reader *);
/* End of line: CRLF or LF consumed: 0; anything else XERR_SYNTAX. */
int dlist_reader_eol(struct dlist_reader *);
/* After an error: go to the end of the command, jumping over literal and file bodies announced on
 * the way (and over what r->skip says is outstanding). 0, or XERR_EOF. */
int dlist_reader_resync(struct dlist_reader *);

#endif
