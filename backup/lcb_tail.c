/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_tail - what stands at the end of a data file and was not meant to be read.
 *
 * Bytes behind the last commit never happened. They are copied to <data>.tail.<time>, which is made
 * durable, and only then cut off.
 *
 * A member that a process of Cyrus 3.x left unfinished is another matter: its complete lines were
 * confirmed. It is cut behind the last of them, at the flush point there, and ended as its writer
 * would have ended it. Then it is a member like any other, for zcat and for Cyrus too. Whatever a
 * crash makes of these steps is an unfinished member again. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "backup/lcb_int.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

/* A new file for a tail, and its name. Another cut within the second must not replace it. */
static int open_tail(struct lcb *b, struct buf *name)
{
    long long now = (long long)time(NULL);
    int fd = -EEXIST;
    for (int i = 0; fd == -EEXIST && i < 1000; i++) {
        buf_reset(name);
        buf_printf(name, "%s.tail.%lld", b->path, now);
        if (i)
            buf_printf(name, ".%d", i);
        fd = vfs_open(b->vfs, buf_cstring(name), O_WRONLY | O_CREAT | O_EXCL, 0600);
    }
    return fd;
}

static int copy_tail(struct lcb *b, int fd, off_t at, off_t size)
{
    char piece[64 << 10];
    int r = 0;
    for (off_t to = 0; !r && at < size;) {
        ssize_t n = vfs_pread(b->vfs, b->fd, piece, sizeof(piece), at);
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        ssize_t put = vfs_pwrite(b->vfs, fd, piece, (size_t)n, to);
        r = put < 0 ? (int)put : 0;
        at += n;
        to += n;
    }
    return r;
}

int lcb_tail_aside(struct lcb *b, off_t at, off_t size, const char *why)
{
    struct buf name = BUF_INITIALIZER;
    int fd = open_tail(b, &name);
    int r = fd < 0 ? fd : copy_tail(b, fd, at, size);
    if (!r)
        r = vfs_fsync(b->vfs, fd);
    if (fd >= 0)
        vfs_close(b->vfs, &fd);
    if (!r)
        r = vfs_fsyncparent(b->vfs, buf_cstring(&name));
    if (!r)
        r = vfs_ftruncate(b->vfs, b->fd, at);
    if (!r)
        r = vfs_fdatasync(b->vfs, b->fd);
    if (!r)
        xlog_warnx("%s: %lld bytes behind the last %s were cut off and kept as %s", b->path,
                   (long long)(size - at), why, buf_cstring(&name));
    buf_free(&name);
    return r;
}

/* The index after it: the chunk is whole now, and P ends with it. */
static int chunk_finished(struct lcb *b, struct lcb_mark_point *p, off_t end)
{
    struct sqldb *db = b->index->db;
    p->end = end;
    p->check = lcb_check_end(b->vfs, b->fd, end);
    p->unfinished = 0;
    int r = lcb_index_begin(b->index);
    if (!r)
        r = sqldb_run(db, "UPDATE chunks SET length=?-start WHERE seq=?", "ii", (int64_t)end,
                      p->seq);
    if (!r)
        r = sqldb_run(db, "DELETE FROM pieces WHERE seq=?", "i", p->seq);
    if (!r)
        r = lcb_index_setpoint(b->index, p);
    return r ? r : lcb_index_commit(b->index);
}

int lcb_tail_finish(struct lcb *b, struct lcb_mark_point *p)
{
    unsigned char bytes[GZ_END_LEN];
    int64_t text;
    off_t flush;
    uint32_t crc;
    int r = sqldb_int(b->index->db, &text, "SELECT text_length FROM chunks WHERE seq=?", "i", p->seq);
    if (!r)
        r = gzmember_flushpoint(b->vfs, b->fd, p->last_offset, 0, (uint64_t)text, &flush, &crc);
    if (r != 1)
        return r < 0 ? r : XERR_FORMAT;
    r = flush < p->end ? lcb_tail_aside(b, flush, p->end, "complete line") : 0;
    gzmember_putend(bytes, crc, (uint64_t)text);
    if (!r) {
        ssize_t n = vfs_pwrite(b->vfs, b->fd, bytes, sizeof(bytes), flush);
        r = n < 0 ? (int)n : vfs_fdatasync(b->vfs, b->fd);
    }
    if (!r)
        xlog_info("%s: the last chunk, which its writer could not finish, ends behind its last"
                  " complete line now", b->path);
    return r ? r : chunk_finished(b, p, flush + GZ_END_LEN);
}
