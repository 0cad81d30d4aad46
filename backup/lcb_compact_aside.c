/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_aside - bytes of the old file that nobody understands, or not wholly. Compaction takes
 * over what can be read, and would lose the rest for good: so the raw bytes are written to a file
 * beside the new one. That is the case for
 *
 *   - bytes between chunks, or behind the last one, that the index does not account for: damaged
 *     members that were passed over, or garbage (the empty members that zlib up to 1.2.11 left behind
 *     are known and mean nothing);
 *   - members that are read in pieces, because they were damaged or never finished, if something in
 *     them stays (what a killed process left is complete as far as anybody was told);
 *   - members with a line that could not be understood, or with a message that is not what its GUID
 *     says, whether anything in them stays or not: no row comes of such a line, so the index lists
 *     them. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_compact_int.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define PIECE (64 << 10)
#define SECTOR 512

void lcb_aside_fini(struct lcb_aside *a)
{
    free(a->from);
    free(a->to);
    a->from = a->to = NULL;
    a->count = a->alloc = 0;
}

void lcb_aside_add(struct lcb_aside *a, off_t from, off_t to)
{
    for (size_t i = a->count; i-- > 0;)
        if (a->from[i] == from)
            return; /* a chunk may be read twice */
    if (a->count == a->alloc) {
        a->alloc = a->alloc ? a->alloc * 2 : 16;
        a->from = xrealloc(a->from, a->alloc * sizeof(*a->from));
        a->to = xrealloc(a->to, a->alloc * sizeof(*a->to));
    }
    a->from[a->count] = from;
    a->to[a->count++] = to;
}

int lcb_only_empty(struct lcb *b, off_t from, off_t to)
{
    while (from < to) {
        struct lcb_memberstream *in = NULL;
        struct lcb_member m;
        char byte[16];
        if (lcb_member_at(b->vfs, b->fd, from, to, &m) || m.extra.present ||
            lcb_memberstream_open(b->vfs, b->fd, &m, &in))
            return 0;
        ssize_t n = lcb_memberstream_read(in, byte, sizeof(byte));
        from = n ? -1 : lcb_memberstream_end(in);
        lcb_memberstream_close(&in);
        if (n)
            return 0;
    }
    return from == to;
}

static void gap(struct lcb_aside *a, struct lcb_plan *p, off_t from, off_t to)
{
    if (from < to && !lcb_only_empty(p->b, from, to))
        lcb_aside_add(a, from, to);
}

static int add_lost(struct lcb_aside *a, struct lcb_plan *p)
{
    struct sqldb *db = p->b->index->db;
    int more;
    sqlite3_stmt *st = sqldb_stmt(db, "SELECT start, start+length FROM chunks WHERE seq<=? AND seq IN"
                                      " (SELECT pos>>24 FROM lost) ORDER BY seq");
    if (!st || sqldb_bind(st, "i", LCB_POS_SEQ(p->to)))
        return XERR_SQL;
    while ((more = sqldb_step(db, st)) > 0)
        lcb_aside_add(a, sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1));
    return more;
}

int lcb_aside_find(struct lcb_aside *a, struct lcb_plan *p)
{
    struct sqldb *db = p->b->index->db;
    off_t at = 0;
    int more;
    sqlite3_stmt *st = sqldb_stmt(db, "SELECT start, length FROM chunks WHERE seq<=? ORDER BY seq");
    if (!st || sqldb_bind(st, "i", LCB_POS_SEQ(p->to)))
        return XERR_SQL;
    while ((more = sqldb_step(db, st)) > 0) {
        off_t start = sqlite3_column_int64(st, 0);
        gap(a, p, at, start);
        at = start + sqlite3_column_int64(st, 1);
    }
    if (!more)
        gap(a, p, at, p->point.end);
    return more ? more : add_lost(a, p);
}

static int open_new(struct lcb *b, const char *path, struct buf *name)
{
    long long now = (long long)time(NULL);
    int fd = -EEXIST;
    for (; fd == -EEXIST; now++) {
        buf_reset(name);
        buf_printf(name, "%s.damaged.%lld", path, now);
        fd = vfs_open(b->vfs, buf_cstring(name), O_WRONLY | O_CREAT | O_EXCL, 0600);
    }
    return fd;
}

/* What the disk does not give back becomes zeros, sector by sector: it must not be the reason why the
 * backup is never compacted again. */
static ssize_t read_piece(struct lcb *b, char *piece, size_t n, off_t at)
{
    ssize_t got = vfs_pread(b->vfs, b->fd, piece, n, at);
    if (got != -EIO)
        return got;
    for (size_t done = 0; done < n;) {
        size_t sector = SECTOR - (size_t)((at + (off_t)done) % SECTOR);
        sector = sector < n - done ? sector : n - done;
        got = vfs_pread(b->vfs, b->fd, piece + done, sector, at + (off_t)done);
        if (got == -EIO)
            memset(piece + done, 0, sector);
        else if (got != (ssize_t)sector)
            return got < 0 ? got : XERR_FORMAT;
        done += sector;
    }
    return (ssize_t)n;
}

/* XERR_FORMAT if there are no such bytes: then it is the index that is damaged. */
static int copy(struct lcb *b, int fd, off_t from, off_t to, off_t *at)
{
    char piece[PIECE];
    int r = from < 0 ? XERR_FORMAT : 0;
    while (!r && from < to) {
        ssize_t n = read_piece(b, piece, to - from < PIECE ? (size_t)(to - from) : PIECE, from);
        if (n <= 0)
            return n < 0 ? (int)n : XERR_FORMAT;
        ssize_t put = vfs_pwrite(b->vfs, fd, piece, (size_t)n, *at);
        r = put < 0 ? (int)put : 0;
        from += n;
        *at += n;
    }
    return r;
}

int lcb_aside_write(struct lcb_aside *a, struct lcb *b, const char *path, struct buf *name)
{
    off_t at = 0;
    if (!a->count)
        return 0;
    int fd = open_new(b, path, name), r = fd < 0 ? fd : 0;
    for (size_t i = 0; !r && i < a->count; i++)
        r = copy(b, fd, a->from[i], a->to[i], &at);
    if (!r)
        r = vfs_fsync(b->vfs, fd);
    if (fd >= 0)
        vfs_close(b->vfs, &fd);
    if (!r)
        r = vfs_fsyncparent(b->vfs, buf_cstring(name));
    if (!r)
        xlog_errorx("%s: %lld bytes in %zu places could not be read, or not all of them: they are kept"
                    " as %s", b->path, (long long)at, a->count, buf_cstring(name));
    return r;
}
