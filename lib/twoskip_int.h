/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the twoskip files share. Private to lib/twoskip*.c and their tests; lib/twoskip.c explains
 * the format. Unless said otherwise the functions need the file locked and return 0, XERR_* or
 * -errno. */
#ifndef LIB_TWOSKIP_INT_H
#define LIB_TWOSKIP_INT_H

#include "lib/filelock.h"
#include "lib/twoskip.h"

enum {
    TS_HEADER_SIZE = 64,
    TS_DUMMY = 64,    /* offset of the dummy record */
    TS_MAXLEVEL = 31, /* of any record; the dummy has it */
    TS_EMPTY = 0x150, /* size of a database without records */
    TS_BLOCK = 512,   /* a rewritable head lies within one of these */
    TS_HEADMAX = 8 + 8 + 8 + 8 * (TS_MAXLEVEL + 1) + 8,
    TS_PAGE = 4096, /* of the read cache */
    TS_PAGES = 32,
    TS_MAXKEY = 1 << 20, /* bounds that are ours, not the format's */
    TS_MAXVALUE = 64 << 20,
};

enum ts_type { TS_IS_DUMMY = '=', TS_IS_RECORD = '+', TS_IS_DELETE = '-', TS_IS_COMMIT = '$' };

enum { TS_DIRTY = 1 };

struct ts_header {
    uint64_t generation;
    uint64_t nrecords;
    uint64_t repack_size;
    uint64_t current_size;
    uint32_t flags;
};

struct ts_record {
    uint64_t offset;
    enum ts_type type;
    unsigned level;
    uint64_t keylen, vallen;
    uint64_t next[TS_MAXLEVEL + 1];
    uint32_t tailcrc;
    uint32_t headlen;
};

struct ts_page {
    uint64_t number; /* 1 + offset / TS_PAGE; 0: unused */
    size_t len;
    char data[TS_PAGE];
};

struct twoskip {
    struct vfs *vfs;
    char *path;
    int flags;
    int fd;
    struct ts_header hdr;
    uint64_t end; /* logical end: current_size, or beyond it in a transaction */
    struct twoskip_txn *txn;
    struct ts_page *pages;
    dev_t dev; /* of fd */
    ino_t ino;
    int committed; /* something was, so that a checkpoint may be due */
    int broken;    /* what is on disk is not known any more */
    uint64_t random;
    const unsigned char *levels; /* for tests: levels of the next records, up to a 0 */
};

struct twoskip_txn {
    struct twoskip *ts;
    int dirty;  /* header says so */
    int failed; /* can only be aborted */
    uint64_t nrecords;
};

/* Where a key is or would be. BACK[n] and FORW[n] are its neighbours on list n (1..TS_MAXLEVEL):
 * the dummy or a record before it; a record behind it or 0. */
struct ts_loc {
    int found;
    struct ts_record rec; /* if found */
    uint64_t back[TS_MAXLEVEL + 1];
    uint64_t forw[TS_MAXLEVEL + 1];
};

/* -- twoskip.c -- */
/* Lock the file that the path names now, recover it if unclean, load the header. */
int ts_lock(struct twoskip *ts, enum filelock_mode mode);
void ts_unlock(struct twoskip *ts);
int ts_writeheader(struct twoskip *ts);
int ts_sync(struct twoskip *ts);
/* Make the empty file FD a database without records (not synced). */
int ts_format(struct twoskip *ts);

/* -- twoskip_record.c -- */
void ts_forgetpages(struct twoskip *ts);
int ts_write(struct twoskip *ts, const void *p, size_t n, uint64_t at);
/* Read and check the head at OFFSET; any type. */
int ts_read(struct twoskip *ts, uint64_t offset, struct ts_record *rec);
int ts_key(struct twoskip *ts, const struct ts_record *rec, struct buf *key);
/* Key and value; the checksum of both is always checked. */
int ts_keyvalue(struct twoskip *ts, const struct ts_record *rec, struct buf *key,
                struct buf *value);
/* Encode the head of REC into P (TS_HEADMAX bytes), returns its length. */
size_t ts_encode(const struct ts_record *rec, unsigned char *p);
int ts_writehead(struct twoskip *ts, const struct ts_record *rec);
uint64_t ts_link(const struct ts_record *rec, unsigned n, uint64_t end);
/* CUR: the committed size, below which one of the slots of list 1 has to stay. */
void ts_setlink(struct ts_record *rec, unsigned n, uint64_t to, uint64_t cur);
/* The record that FROM's list N leads to, deletes skipped; offset 0 at the end. */
int ts_next(struct twoskip *ts, const struct ts_record *from, unsigned n, struct ts_record *rec);
int ts_locate(struct twoskip *ts, const void *key, size_t keylen, struct ts_loc *loc);
/* Append a record at the logical end; NEXT has LEVEL + 1 pointers. */
int ts_append(struct twoskip *ts, struct ts_record *rec, const void *key, const void *value);

/* -- twoskip_txn.c -- */
/* Append a record between the neighbours in LOC and link it; OLDLEVEL: of the one it replaces. */
int ts_insert(struct twoskip *ts, const struct ts_loc *loc, const void *key, size_t keylen,
              const void *value, size_t vallen, struct ts_record *rec);
int ts_appendcommit(struct twoskip *ts);

/* -- twoskip_recover.c -- */
/* Under the exclusive lock: back to the committed state. */
int ts_recover(struct twoskip *ts);
/* Under the exclusive lock, which then is on the new file. */
int ts_checkpoint(struct twoskip *ts);
int ts_checkpointdue(const struct twoskip *ts);

static inline uint32_t ts_get32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t ts_get64(const unsigned char *p)
{
    return (uint64_t)ts_get32(p) << 32 | ts_get32(p + 4);
}

static inline unsigned char *ts_put32(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)(v >> 24);
    p[1] = (unsigned char)(v >> 16);
    p[2] = (unsigned char)(v >> 8);
    p[3] = (unsigned char)v;
    return p + 4;
}

static inline unsigned char *ts_put64(unsigned char *p, uint64_t v)
{
    return ts_put32(ts_put32(p, (uint32_t)(v >> 32)), (uint32_t)v);
}

#endif
