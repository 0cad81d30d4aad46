/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* twoskip_txn - changes. The order of writes and syncs is what makes them atomic:
 *
 *   first change   header: dirty               sync
 *   each change    records appended, pointers swung (list 1 keeps the old way in its other slot)
 *   commit         commit record appended      sync    all of it is on disk, but does not count
 *                  header: clean, new size     sync    now it does
 *
 * Whatever fails before the end is undone by the recovery that a crash would need. If that fails
 * too, the file stays dirty, and whoever locks it next tries again; only a failure to take back
 * the header of a commit makes the handle unusable, because nobody knows then what a crash leaves.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "lib/twoskip_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

int twoskip_begin(struct twoskip *ts, struct twoskip_txn **out)
{
    if (ts->txn)
        return XERR_LOCKED;
    int r = ts_lock(ts, FILELOCK_EXCLUSIVE);
    if (r)
        return r;
    struct twoskip_txn *txn = xzmalloc(sizeof(*txn));
    txn->ts = ts;
    txn->nrecords = ts->hdr.nrecords;
    ts->txn = txn;
    *out = txn;
    return 0;
}

static int set_dirty(struct twoskip_txn *txn)
{
    struct twoskip *ts = txn->ts;
    if (txn->dirty)
        return 0;
    txn->dirty = 1;
    ts->hdr.flags |= TS_DIRTY;
    int r = ts_writeheader(ts);
    return r ? r : ts_sync(ts);
}

/* 1, 2, 3, ... with probability 1/2, 1/4, 1/8, ... */
static unsigned random_level(struct twoskip *ts)
{
    if (ts->levels && *ts->levels)
        return *ts->levels++;
    ts->random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = ts->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    unsigned level = 1;
    for (; level < TS_MAXLEVEL && z & 1; z >>= 1)
        level++;
    return level;
}

/* Let list n of the predecessors in LOC lead to TO[n], for n up to TOP. Neighbouring lists mostly
 * share their predecessor, so each is rewritten once. */
static int relink(struct twoskip *ts, const struct ts_loc *loc, const uint64_t *to, unsigned top)
{
    struct ts_record rec;
    for (unsigned n = 1; n <= top;) {
        int r = ts_read(ts, loc->back[n], &rec);
        if (r)
            return r;
        for (; n <= top && loc->back[n] == rec.offset; n++)
            ts_setlink(&rec, n, to[n], ts->hdr.current_size);
        r = ts_writehead(ts, &rec);
        if (r)
            return r;
    }
    return 0;
}

int ts_insert(struct twoskip *ts, const struct ts_loc *loc, const void *key, size_t keylen,
              const void *value, size_t vallen, struct ts_record *rec)
{
    uint64_t to[TS_MAXLEVEL + 1];
    unsigned oldlevel = loc->found ? loc->rec.level : 0;
    memset(rec, 0, sizeof(*rec));
    rec->type = TS_IS_RECORD;
    rec->level = random_level(ts);
    rec->keylen = keylen;
    rec->vallen = vallen;
    for (unsigned n = 1; n <= rec->level; n++)
        rec->next[n] = loc->forw[n];
    int r = ts_append(ts, rec, key, value);
    if (r)
        return r;
    for (unsigned n = 1; n <= TS_MAXLEVEL; n++)
        to[n] = n <= rec->level ? rec->offset : loc->forw[n];
    return relink(ts, loc, to, rec->level > oldlevel ? rec->level : oldlevel);
}

static int remove_found(struct twoskip *ts, const struct ts_loc *loc)
{
    uint64_t to[TS_MAXLEVEL + 1];
    struct ts_record rec = {.type = TS_IS_DELETE};
    rec.next[0] = loc->forw[1];
    int r = ts_append(ts, &rec, NULL, NULL);
    if (r)
        return r;
    memcpy(to, loc->forw, sizeof(to));
    to[1] = rec.offset;
    return relink(ts, loc, to, loc->rec.level);
}

int ts_appendcommit(struct twoskip *ts)
{
    struct ts_record rec = {.type = TS_IS_COMMIT};
    rec.next[0] = ts->hdr.current_size;
    return ts_append(ts, &rec, NULL, NULL);
}

static int txn_store(struct twoskip_txn *txn, const void *key, size_t keylen, const void *value,
                     size_t vallen)
{
    struct twoskip *ts = txn->ts;
    struct ts_record rec;
    struct ts_loc loc;
    struct buf k = BUF_INITIALIZER, v = BUF_INITIALIZER;
    int same = 0, r = ts_locate(ts, key, keylen, &loc);
    if (!r && loc.found && loc.rec.vallen == vallen) {
        r = ts_keyvalue(ts, &loc.rec, &k, &v);
        same = !r && (!vallen || !memcmp(v.s, value, vallen));
        if (r == XERR_FORMAT) /* an unreadable value is no reason not to replace it */
            r = 0;
    }
    buf_free(&k);
    buf_free(&v);
    if (r || same)
        return r;
    r = set_dirty(txn);
    if (!r)
        r = ts_insert(ts, &loc, key, keylen, value, vallen, &rec);
    if (!r && !loc.found)
        txn->nrecords++;
    return r;
}

static int txn_delete(struct twoskip_txn *txn, const void *key, size_t keylen)
{
    struct ts_loc loc;
    int r = ts_locate(txn->ts, key, keylen, &loc);
    if (r)
        return r;
    if (!loc.found)
        return XERR_NOTFOUND;
    r = set_dirty(txn);
    if (!r)
        r = remove_found(txn->ts, &loc);
    if (!r)
        txn->nrecords--;
    return r;
}

/* One change: in TXN, or in a transaction of its own; VALUE is NULL and VALLEN 0 for a delete. */
static int change(struct twoskip *ts, struct twoskip_txn *txn, int is_store, const void *key,
                  size_t keylen, const void *value, size_t vallen)
{
    struct twoskip_txn *own = NULL;
    if (txn && (txn->ts != ts || txn->failed))
        return txn->failed ? XERR_BROKEN : XERR_PARAM;
    int r = txn ? 0 : twoskip_begin(ts, &own);
    if (r)
        return r;
    struct twoskip_txn *t = txn ? txn : own;
    r = is_store ? txn_store(t, key, keylen, value, vallen) : txn_delete(t, key, keylen);
    if (r && t->dirty && r != XERR_NOTFOUND)
        t->failed = 1;
    if (own && r)
        twoskip_abort(&own);
    else if (own)
        r = twoskip_commit(&own);
    return r;
}

int twoskip_store(struct twoskip *ts, struct twoskip_txn *txn, const void *key, size_t keylen,
                  const void *value, size_t valuelen)
{
    if (!keylen)
        return XERR_PARAM;
    if (keylen > TS_MAXKEY || valuelen > TS_MAXVALUE)
        return XERR_TOOBIG;
    return change(ts, txn, 1, key, keylen, value, valuelen);
}

int twoskip_delete(struct twoskip *ts, struct twoskip_txn *txn, const void *key, size_t keylen)
{
    return change(ts, txn, 0, key, keylen, NULL, 0);
}

/* The commit proper. HEADER_WRITTEN: the point from which a crash may leave the new state. */
static int commit(struct twoskip_txn *txn, int *header_written)
{
    struct twoskip *ts = txn->ts;
    int r = ts_appendcommit(ts);
    if (!r)
        r = ts_sync(ts);
    if (r)
        return r;
    ts->hdr.current_size = ts->end;
    ts->hdr.nrecords = txn->nrecords;
    ts->hdr.flags &= ~(uint32_t)TS_DIRTY;
    *header_written = 1;
    r = ts_writeheader(ts);
    return r ? r : ts_sync(ts);
}

/* End the transaction in the state of BEFORE. */
static int undo(struct twoskip *ts, const struct ts_header *before)
{
    ts->hdr = *before;
    ts->end = ts->hdr.current_size;
    return ts_recover(ts);
}

static void finish(struct twoskip_txn **txnp)
{
    struct twoskip_txn *txn = *txnp;
    ts_unlock(txn->ts);
    txn->ts->txn = NULL; /* may be *TXNP itself, when closing */
    *txnp = NULL;
    free(txn);
}

int twoskip_commit(struct twoskip_txn **txnp)
{
    struct twoskip_txn *txn = *txnp;
    struct twoskip *ts = txn->ts;
    if (txn->failed) {
        twoskip_abort(txnp);
        return XERR_BROKEN;
    }
    int r = 0, header_written = 0;
    if (txn->dirty) {
        struct ts_header before = ts->hdr;
        r = commit(txn, &header_written);
        if (r && undo(ts, &before) && header_written)
            ts->broken = 1;
        if (!r)
            ts->committed = 1;
    }
    finish(txnp);
    return r;
}

void twoskip_abort(struct twoskip_txn **txnp)
{
    if (!*txnp)
        return;
    struct twoskip *ts = (*txnp)->ts;
    if ((*txnp)->dirty) {
        struct ts_header before = ts->hdr; /* only commit changes size and count */
        undo(ts, &before);
    }
    finish(txnp);
}
