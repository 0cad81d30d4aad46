/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* dlist - trees of replication data, their memory, and looking things up in them.
 *
 * All memory of a tree comes from a pool: a chain of blocks that are filled from the front and
 * given back together. What is counted against the limit is the blocks themselves, so that the
 * limit is the truth about memory whatever the sizes of the pieces. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "imap/dlist.h"
#include "lib/xmalloc.h"

enum { BLOCK_FIRST = 4096, BLOCK_MAX = 262144, POOL_KEEP = 65536, ALIGNMENT = 16 };

struct block {
    struct block *next;
    size_t size; /* of data */
    size_t used;
    _Alignas(ALIGNMENT) char data[];
};

struct dlist_pool {
    struct block *blocks; /* the one being filled comes first */
    size_t limit;
    size_t total; /* bytes of all blocks, headers included */
    struct buf scratch;
};

struct dlist_pool *dlist_pool_new(size_t limit)
{
    struct dlist_pool *pool = xzmalloc(sizeof(*pool));
    pool->limit = limit;
    return pool;
}

/* Free the blocks from B on. */
static void free_blocks(struct dlist_pool *pool, struct block *b)
{
    while (b) {
        struct block *next = b->next;
        pool->total -= sizeof(*b) + b->size;
        free(b);
        b = next;
    }
}

void dlist_pool_reset(struct dlist_pool *pool)
{
    struct block *first = pool->blocks;
    buf_shrink(&pool->scratch, POOL_KEEP / 2);
    if (!first)
        return;
    free_blocks(pool, first->next);
    first->next = NULL;
    first->used = 0;
    if (first->size > POOL_KEEP / 2 - sizeof(*first)) {
        free_blocks(pool, first);
        pool->blocks = NULL;
    }
}

void dlist_pool_free(struct dlist_pool **poolp)
{
    struct dlist_pool *pool = *poolp;
    if (!pool)
        return;
    free_blocks(pool, pool->blocks);
    buf_free(&pool->scratch);
    free(pool);
    *poolp = NULL;
}

struct buf *dlist_pool_scratch(struct dlist_pool *pool)
{
    buf_reset(&pool->scratch);
    return &pool->scratch;
}

/* A block with room for N bytes (aligned already) becomes the first; NULL over the limit. Blocks
 * double, so that a small tree stays small and a large one is not a thousand blocks. */
static struct block *add_block(struct dlist_pool *pool, size_t n)
{
    size_t left = pool->limit > pool->total ? pool->limit - pool->total : 0;
    size_t size = BLOCK_FIRST;
    if (left < sizeof(struct block) || n > left - sizeof(struct block))
        return NULL;
    left -= sizeof(struct block);
    if (pool->blocks)
        size = pool->blocks->size < BLOCK_MAX / 2 ? pool->blocks->size * 2 : BLOCK_MAX;
    if (size < n)
        size = n;
    if (size > left)
        size = left;
    struct block *b = xmalloc(sizeof(*b) + size);
    b->size = size;
    b->used = 0;
    b->next = pool->blocks;
    pool->blocks = b;
    pool->total += sizeof(*b) + size;
    return b;
}

void *dlist_pool_alloc(struct dlist_pool *pool, size_t n)
{
    struct block *b = pool->blocks;
    if (n > SIZE_MAX - ALIGNMENT)
        return NULL;
    n = (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (!b || n > b->size - b->used)
        b = add_block(pool, n);
    if (!b)
        return NULL;
    char *p = b->data + b->used;
    b->used += n;
    return p;
}

/* ---- Building ---- */

static const char *pool_memdup(struct dlist_pool *pool, const char *p, size_t n)
{
    char *copy = dlist_pool_alloc(pool, n + 1);
    if (copy) {
        if (n)
            memcpy(copy, p, n);
        copy[n] = '\0';
    }
    return copy;
}

void dlist_append(struct dlist *parent, struct dlist *child)
{
    if (parent->tail)
        parent->tail->next = child;
    else
        parent->head = child;
    parent->tail = child;
}

struct dlist *dlist_newnode(struct dlist_pool *pool, const char *name, enum dlist_type type)
{
    struct dlist *d = dlist_pool_alloc(pool, sizeof(*d));
    if (!d)
        return NULL;
    memset(d, 0, sizeof(*d));
    d->type = type;
    if (name && !(d->name = pool_memdup(pool, name, strlen(name))))
        return NULL;
    return d;
}

struct dlist *dlist_newkvlist(struct dlist_pool *pool, const char *name)
{
    return dlist_newnode(pool, name, DL_KVLIST);
}

struct dlist *dlist_newlist(struct dlist_pool *pool, const char *name)
{
    return dlist_newnode(pool, name, DL_LIST);
}

struct dlist *dlist_setmap(struct dlist_pool *pool, struct dlist *parent, const char *name,
                           const char *val, size_t len)
{
    struct dlist *d = dlist_newnode(pool, name, val ? DL_ATOM : DL_NIL);
    if (!d || (val && !(d->sval = pool_memdup(pool, val, len))))
        return NULL;
    d->len = val ? len : 0;
    dlist_append(parent, d);
    return d;
}

struct dlist *dlist_setatom(struct dlist_pool *pool, struct dlist *parent, const char *name,
                            const char *val)
{
    return dlist_setmap(pool, parent, name, val, val ? strlen(val) : 0);
}

struct dlist *dlist_setnum64(struct dlist_pool *pool, struct dlist *parent, const char *name,
                             uint64_t num)
{
    char digits[20];
    size_t at = sizeof(digits);
    do
        digits[--at] = (char)('0' + num % 10);
    while (num /= 10);
    return dlist_setmap(pool, parent, name, digits + at, sizeof(digits) - at);
}

/* ---- Looking up ---- */

struct dlist *dlist_getchild(const struct dlist *dl, const char *name)
{
    for (struct dlist *d = dl->head; d; d = d->next)
        if (d->name && !strcmp(d->name, name))
            return d;
    return NULL;
}

static int is_string(const struct dlist *d)
{
    return d && (d->type == DL_ATOM || d->type == DL_FLAG);
}

int dlist_getatom(const struct dlist *dl, const char *name, const char **val)
{
    const struct dlist *d = dlist_getchild(dl, name);
    if (d && d->type == DL_NIL) {
        *val = NULL;
        return 1;
    }
    if (!is_string(d) || memchr(d->sval, '\0', d->len))
        return 0;
    *val = d->sval;
    return 1;
}

int dlist_parsenum(const char *s, size_t len, uint64_t *val)
{
    uint64_t n = 0;
    if (!len)
        return 0;
    for (size_t i = 0; i < len; i++) {
        unsigned digit = (unsigned)((unsigned char)s[i] - '0');
        if (digit > 9 || n > (UINT64_MAX - digit) / 10)
            return 0;
        n = n * 10 + digit;
    }
    *val = n;
    return 1;
}

int dlist_getnum64(const struct dlist *dl, const char *name, uint64_t *val)
{
    const struct dlist *d = dlist_getchild(dl, name);
    return is_string(d) && dlist_parsenum(d->sval, d->len, val);
}

int dlist_getnum32(const struct dlist *dl, const char *name, uint32_t *val)
{
    uint64_t n;
    if (!dlist_getnum64(dl, name, &n))
        return 0;
    *val = (uint32_t)n;
    return 1;
}

int dlist_getguid(const struct dlist *dl, const char *name, struct message_guid *val)
{
    const struct dlist *d = dlist_getchild(dl, name);
    struct message_guid guid;
    if (!is_string(d) || message_guid_decode(&guid, d->sval, d->len))
        return 0;
    *val = guid;
    return 1;
}

int dlist_getlist(const struct dlist *dl, const char *name, struct dlist **val)
{
    struct dlist *d = dlist_getchild(dl, name);
    if (!d || (d->type != DL_LIST && d->type != DL_KVLIST))
        return 0;
    *val = d;
    return 1;
}
