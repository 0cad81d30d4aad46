/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* twoskip - a skip list in a file, with transactions.
 *
 * The format is Cyrus IMAP's. All integers are big-endian, all checksums are CRC-32, everything is
 * aligned to 8 bytes. Records are only ever appended; what is rewritten in place are the header and
 * the pointers in the heads of records.
 *
 *   header   magic[20] version[4]=1 generation[8] records[8] repack_size[8] current_size[8]
 *            flags[4] (1 = dirty) crc[4]
 *   record   type[1] level[1] keylen[2] vallen[4] (long lengths follow as [8] each, the short field
 *            is all ones then) next[level+1][8] headcrc[4] tailcrc[4] key value padding
 *
 * Types: '=' the dummy, always at 64, level 31, head of all lists; '+' a record; '-' a delete;
 * '$' a commit. The latter two have level 0 and neither key nor value.
 *
 * Lists. A record of level L is on lists 1 to L, each sorted by key. List n >= 2 uses next[n].
 * List 1 is the one that must never break: it has two slots, next[0] and next[1], and a change
 * overwrites only the slot that a transaction before this one does not need. So while nothing at or
 * beyond the committed size counts, list 1 always shows the committed state:
 *
 *   follow   if one slot points at or beyond the end, the other; else the larger
 *   set      the slot that points at or beyond the committed size, or else the smaller
 *
 * Newer is larger, because files only grow. A deletion cannot lead back to an older, smaller
 * offset; hence it appends a '-' that points to the next record, and is itself what the
 * predecessor points to.
 *
 * Transaction (lib/twoskip_txn.c). Lock; set dirty, sync; append records and swing pointers; append
 * a commit, sync; write the header with the new size and clean, sync; unlock. A crash before the
 * last step leaves a header that is dirty or does not know the size of the file. Whoever locks such
 * a file next recovers it (lib/twoskip_recover.c): zero all slots that point beyond current_size,
 * derive the other lists from list 1, cut off the rest.
 *
 * The recovery trusts that a head is rewritten whole or not at all. So what can change of a head
 * (all but its first 8 bytes) never crosses a 512-byte block: 8-byte fillers go before it where it
 * would. (Files of 3.0 lack these; their heads are fine as long as the disk writes them whole.)
 *
 * Checkpoint. As old versions of records pile up, the file is now and then copied without them to
 * PATH.NEW, which replaces it. Who waited for the lock sees that PATH names another inode, and
 * opens that.
 *
 * Whatever the file holds, walks end: keys must ascend strictly from step to step, and no step may
 * lead outside. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/sha1crc.h"
#include "lib/twoskip_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static const unsigned char magic[20] = "\241\002\213\015twoskip file\0\0\0";

int ts_sync(struct twoskip *ts)
{
    return vfs_fdatasync(ts->vfs, ts->fd);
}

static void encode_header(const struct ts_header *h, unsigned char p[TS_HEADER_SIZE])
{
    memcpy(p, magic, sizeof(magic));
    unsigned char *q = ts_put32(p + 20, 1);
    q = ts_put64(q, h->generation);
    q = ts_put64(q, h->nrecords);
    q = ts_put64(q, h->repack_size);
    q = ts_put64(q, h->current_size);
    q = ts_put32(q, h->flags);
    ts_put32(q, crc32_map(0, p, TS_HEADER_SIZE - 4));
}

static int decode_header(const unsigned char p[TS_HEADER_SIZE], struct ts_header *h)
{
    if (memcmp(p, magic, sizeof(magic)) != 0)
        return XERR_FORMAT;
    if (ts_get32(p + 20) > 1)
        return XERR_VERSION;
    if (ts_get32(p + 60) != crc32_map(0, p, TS_HEADER_SIZE - 4))
        return XERR_FORMAT;
    h->generation = ts_get64(p + 24);
    h->nrecords = ts_get64(p + 32);
    h->repack_size = ts_get64(p + 40);
    h->current_size = ts_get64(p + 48);
    h->flags = ts_get32(p + 56);
    return h->current_size < TS_EMPTY || h->current_size % 8 ? XERR_FORMAT : 0;
}

int ts_writeheader(struct twoskip *ts)
{
    unsigned char p[TS_HEADER_SIZE];
    encode_header(&ts->hdr, p);
    return ts_write(ts, p, sizeof(p), 0);
}

/* Header and dummy go out in one write within one sector: a crash leaves zeros or all of it. */
int ts_format(struct twoskip *ts)
{
    struct ts_record dummy = {.offset = TS_DUMMY, .type = TS_IS_DUMMY, .level = TS_MAXLEVEL};
    unsigned char p[TS_HEADER_SIZE + TS_HEADMAX];
    ts->hdr =
        (struct ts_header){.generation = 1, .repack_size = TS_EMPTY, .current_size = TS_EMPTY};
    ts->end = TS_EMPTY;
    encode_header(&ts->hdr, p);
    ts_encode(&dummy, p + TS_DUMMY);
    return ts_write(ts, p, TS_EMPTY, 0);
}

/* Load the header. Sets UNCLEAN if recovery is needed, EMPTY if the file has yet to be made: it is
 * empty, or all zeros, as after a crash of its maker. */
static int load_header(struct twoskip *ts, int *unclean, int *empty)
{
    unsigned char p[TS_EMPTY];
    struct stat st;
    int r = vfs_fstat(ts->vfs, ts->fd, &st);
    if (r < 0)
        return r;
    memset(p, 0, sizeof(p));
    ssize_t n = vfs_pread(ts->vfs, ts->fd, p, sizeof(p), 0);
    if (n < 0)
        return (int)n;
    *empty = st.st_size <= TS_EMPTY && p[0] == 0 && memcmp(p, p + 1, sizeof(p) - 1) == 0;
    if (*empty)
        return 0;
    r = n < TS_EMPTY ? XERR_FORMAT : decode_header(p, &ts->hdr);
    if (!r && ts->hdr.current_size > (uint64_t)st.st_size)
        r = XERR_FORMAT; /* committed data is missing */
    ts->end = ts->hdr.current_size;
    *unclean = ts->end != (uint64_t)st.st_size || ts->hdr.flags & TS_DIRTY;
    return r;
}

static int open_file(struct twoskip *ts)
{
    struct stat st;
    int flags = O_RDWR | (ts->flags & TWOSKIP_CREATE ? O_CREAT : 0);
    int fd = vfs_open(ts->vfs, ts->path, flags, 0600);
    if (fd < 0)
        return fd == -ENOENT ? XERR_NOTFOUND : fd;
    ts->fd = fd;
    int r = vfs_fstat(ts->vfs, fd, &st);
    if (r >= 0 && !S_ISREG(st.st_mode))
        r = XERR_FORMAT;
    if (r < 0) {
        vfs_close(ts->vfs, &ts->fd);
        return r;
    }
    ts->dev = st.st_dev;
    ts->ino = st.st_ino;
    return 0;
}

/* Lock the file that PATH names at that moment, not one that was replaced while we waited. */
static int lock_current(struct twoskip *ts, enum filelock_mode mode)
{
    for (;;) {
        struct stat st;
        int r = ts->fd < 0 ? open_file(ts) : 0;
        if (!r)
            r = filelock_lock(ts->fd, mode, -1, NULL, NULL);
        if (r)
            return r;
        r = vfs_stat(ts->vfs, ts->path, &st);
        if (!r && st.st_dev == ts->dev && st.st_ino == ts->ino)
            return 0;
        if (r && r != -ENOENT) {
            filelock_unlock(ts->fd);
            return r;
        }
        vfs_close(ts->vfs, &ts->fd); /* drops the lock */
        ts_forgetpages(ts);
    }
}

static int make_new(struct twoskip *ts)
{
    int r = ts_format(ts);
    if (!r)
        r = vfs_ftruncate(ts->vfs, ts->fd, TS_EMPTY);
    if (!r)
        r = vfs_fsync(ts->vfs, ts->fd);
    return r ? r : vfs_fsyncparent(ts->vfs, ts->path);
}

int ts_lock(struct twoskip *ts, enum filelock_mode mode)
{
    struct ts_header before = ts->hdr;
    ino_t ino = ts->ino;
    int unclean = 0, empty = 0, r;
    if (ts->broken)
        return XERR_BROKEN;
    for (;;) {
        r = lock_current(ts, mode);
        if (r)
            return r;
        r = load_header(ts, &unclean, &empty);
        if (r || !(unclean || empty) || mode == FILELOCK_EXCLUSIVE)
            break;
        filelock_unlock(ts->fd);
        mode = FILELOCK_EXCLUSIVE; /* and a reader keeps it, rather than to start over */
    }
    if (mode == FILELOCK_EXCLUSIVE || ino != ts->ino || before.generation != ts->hdr.generation ||
        before.current_size != ts->hdr.current_size)
        ts_forgetpages(ts);
    if (!r && empty)
        r = make_new(ts);
    else if (!r && unclean)
        r = ts_recover(ts);
    if (r)
        ts_unlock(ts);
    return r;
}

void ts_unlock(struct twoskip *ts)
{
    if (ts->fd >= 0)
        filelock_unlock(ts->fd);
}

int twoskip_open(struct vfs *vfs, const char *path, int flags, struct twoskip **out)
{
    struct twoskip *ts = xzmalloc(sizeof(*ts));
    ts->vfs = vfs;
    ts->path = xstrdup(path);
    ts->flags = flags;
    ts->fd = -1;
    if (getrandom(&ts->random, sizeof(ts->random), 0) < 0)
        ts->random = (uintptr_t)ts; /* levels need not be secret, only different */
    int r = flags & TWOSKIP_CREATE ? vfs_mkparents(vfs, path) : 0;
    if (!r)
        r = ts_lock(ts, FILELOCK_SHARED);
    if (r) {
        twoskip_close(&ts);
        return r;
    }
    ts_unlock(ts);
    *out = ts;
    return 0;
}

void twoskip_close(struct twoskip **tsp)
{
    struct twoskip *ts = *tsp;
    if (!ts)
        return;
    if (ts->txn)
        twoskip_abort(&ts->txn);
    if (ts->committed && ts_checkpointdue(ts) && ts_lock(ts, FILELOCK_EXCLUSIVE) == 0) {
        if (ts_checkpointdue(ts)) /* still: another process may have done it */
            ts_checkpoint(ts);
        ts_unlock(ts);
    }
    vfs_close(ts->vfs, &ts->fd);
    free(ts->pages);
    free(ts->path);
    free(ts);
    *tsp = NULL;
}

#define BATCH 256 /* records delivered between two locks, or about so many bytes of them */
#define BATCH_BYTES (64 << 10)

/* Be able to read: in the transaction, or under a shared lock of its own. */
static int enter(struct twoskip *ts, struct twoskip_txn *txn)
{
    if (txn)
        return txn->ts != ts ? XERR_PARAM : txn->failed ? XERR_BROKEN : 0;
    return ts->txn ? XERR_LOCKED : ts_lock(ts, FILELOCK_SHARED);
}

static void leave(struct twoskip *ts, const struct twoskip_txn *txn)
{
    if (!txn)
        ts_unlock(ts);
}

int twoskip_fetch(struct twoskip *ts, struct twoskip_txn *txn, const void *key, size_t keylen,
                  struct buf *value)
{
    struct ts_loc loc;
    struct buf found = BUF_INITIALIZER;
    int r = enter(ts, txn);
    if (r)
        return r;
    r = ts_locate(ts, key, keylen, &loc);
    if (!r && !loc.found)
        r = XERR_NOTFOUND;
    if (!r)
        r = ts_keyvalue(ts, &loc.rec, &found, value);
    leave(ts, txn);
    buf_free(&found);
    return r;
}

/* A walk remembers where it is by key, and by offset as long as nothing changed. */
struct walk {
    struct ts_record records[2], *rec; /* the one at hand; offset 0 at the end */
    struct buf key, value;
    struct buf last; /* key of the one before */
    ino_t ino;
    uint64_t generation, end;
};

static int walk_load(struct twoskip *ts, struct walk *w)
{
    w->ino = ts->ino;
    w->generation = ts->hdr.generation;
    w->end = ts->end;
    return w->rec->offset ? ts_keyvalue(ts, w->rec, &w->key, &w->value) : 0;
}

static int walk_first(struct twoskip *ts, struct walk *w, const void *prefix, size_t n)
{
    struct ts_loc loc;
    int r = ts_locate(ts, prefix, n, &loc);
    if (r)
        return r;
    w->rec = &w->records[0];
    w->rec->offset = 0;
    if (loc.found)
        *w->rec = loc.rec;
    else if (loc.forw[1])
        r = ts_read(ts, loc.forw[1], w->rec);
    return r ? r : walk_load(ts, w);
}

static int unchanged(const struct twoskip *ts, const struct walk *w)
{
    return w->ino == ts->ino && w->generation == ts->hdr.generation && w->end == ts->end;
}

static int walk_next(struct twoskip *ts, struct walk *w)
{
    struct ts_record *next = w->rec == &w->records[0] ? &w->records[1] : &w->records[0];
    struct buf last = w->key;
    w->key = w->last;
    w->last = last;
    int r;
    if (unchanged(ts, w)) {
        r = ts_next(ts, w->rec, 1, next);
    } else {
        struct ts_loc loc;
        next->offset = 0;
        r = ts_locate(ts, w->last.s, w->last.len, &loc);
        if (!r && loc.forw[1])
            r = ts_read(ts, loc.forw[1], next);
    }
    w->rec = next;
    if (!r)
        r = walk_load(ts, w);
    if (!r && w->rec->offset && buf_cmp(&w->key, &w->last) <= 0)
        r = XERR_FORMAT;
    return r;
}

/* Records that were read under one lock. */
struct batch {
    struct buf bytes; /* key, NUL, value, NUL of each */
    struct {
        size_t keylen, vallen;
    } rec[BATCH];
    int count, more;
};

static int matches(const struct walk *w, const void *prefix, size_t n)
{
    return w->rec->offset && w->key.len >= n && (!n || !memcmp(w->key.s, prefix, n));
}

/* From the record at hand on. Afterwards the walk stands on the last that went in (MORE), or at the
 * end. */
static int fill(struct twoskip *ts, struct walk *w, struct batch *b, int max, const void *prefix,
                size_t n)
{
    int r = 0;
    b->count = b->more = 0;
    buf_reset(&b->bytes);
    while (!r && matches(w, prefix, n)) {
        b->rec[b->count].keylen = w->key.len;
        b->rec[b->count++].vallen = w->value.len;
        buf_appendmap(&b->bytes, buf_cstring(&w->key), w->key.len + 1);
        buf_appendmap(&b->bytes, buf_cstring(&w->value), w->value.len + 1);
        b->more = b->count == max || b->bytes.len >= BATCH_BYTES;
        if (b->more)
            break;
        r = walk_next(ts, w);
    }
    return r;
}

/* What FN does through the same handle is seen at once: the rest of the batch is read again then. */
static int deliver(struct twoskip *ts, struct walk *w, struct batch *b, twoskip_fn *fn, void *rock)
{
    const char *p = b->bytes.s;
    for (int i = 0; i < b->count; i++) {
        const char *key = p;
        p += b->rec[i].keylen + 1;
        int r = fn(rock, key, b->rec[i].keylen, p, b->rec[i].vallen);
        if (r)
            return r;
        p += b->rec[i].vallen + 1;
        if (!unchanged(ts, w)) {
            buf_setmap(&w->key, key, b->rec[i].keylen);
            b->more = 1;
            return 0;
        }
    }
    return 0;
}

int twoskip_foreach(struct twoskip *ts, struct twoskip_txn *txn, const void *prefix,
                    size_t prefixlen, twoskip_fn *fn, void *rock)
{
    struct walk w;
    struct batch b;
    memset(&w, 0, sizeof(w));
    memset(&b, 0, sizeof(b));
    int r = enter(ts, txn);
    if (r)
        return r;
    r = walk_first(ts, &w, prefix, prefixlen);
    for (;;) {
        int failed = r ? r : fill(ts, &w, &b, BATCH, prefix, prefixlen);
        leave(ts, txn);
        r = deliver(ts, &w, &b, fn, rock);
        r = r ? r : failed;
        if (r || !b.more)
            break;
        r = enter(ts, txn);
        if (r)
            break;
        r = walk_next(ts, &w);
    }
    buf_free(&w.key);
    buf_free(&w.value);
    buf_free(&w.last);
    buf_free(&b.bytes);
    return r;
}

int twoskip_count(struct twoskip *ts, uint64_t *count)
{
    int r = enter(ts, ts->txn);
    if (r)
        return r;
    *count = ts->txn ? ts->txn->nrecords : ts->hdr.nrecords;
    leave(ts, ts->txn);
    return 0;
}
