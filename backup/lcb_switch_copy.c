/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_switch_copy - members of the old file, as they are, to the end of the new one.
 *
 * What was appended while a compaction was at work goes into the new file compressed as it is; only
 * its header is written anew, with the id of the new file and the next number. Numbers keep their
 * distances, so that positions move by the same number of chunks. */
#include "config.h"

#include "backup/lcb_switch.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

#define PIECE (256 << 10)

int lcb_switch_raw(struct lcb_switch *s, off_t from, off_t to)
{
    struct buf piece = BUF_INITIALIZER;
    int r = 0;
    buf_ensure(&piece, PIECE);
    while (!r && from < to) {
        size_t want = to - from < PIECE ? (size_t)(to - from) : PIECE;
        ssize_t n = vfs_pread(s->vfs, s->old->fd, piece.s, want, from);
        r = n < 0 ? (int)n : n == 0 ? XERR_EOF : 0;
        if (r)
            break;
        ssize_t put = vfs_pwrite(s->vfs, s->fd, piece.s, (size_t)n, s->end);
        r = put < 0 ? (int)put : 0;
        from += n;
        s->end += r ? 0 : n;
        if (!r && lcb_store_stopped(s->store))
            r = XERR_SIGNAL;
    }
    buf_free(&piece);
    return r;
}

/* The member at AT of the old file, which is one that our programs appended. */
static int appended_member(struct lcb_switch *s, off_t at, off_t to, struct lcb_member *m)
{
    int r = lcb_member_at(s->vfs, s->old->fd, at, to, m);
    if (r)
        return r;
    if (m->extra.present && (!s->point.id || m->extra.id == s->point.id))
        return 0;
    xlog_errorx("%s: another program appended to it at offset %lld while it was being worked on",
                s->old->path, (long long)at);
    return XERR_STALE;
}

static int copy_member(struct lcb_switch *s, const struct lcb_member *m)
{
    unsigned char header[GZ_HEADER_LEN];
    struct gzextra extra;
    int64_t seq = (int64_t)m->extra.seq + s->shift;
    ssize_t n = vfs_pread(s->vfs, s->old->fd, header, sizeof(header), m->offset);
    if (n < (ssize_t)sizeof(header))
        return n < 0 ? (int)n : XERR_EOF;
    if (gzmember_header(header, sizeof(header), &extra) != GZ_HEADER_LEN || seq <= s->seq ||
        seq > UINT32_MAX)
        return XERR_FORMAT;
    extra.id = s->id ? s->id : extra.id;
    extra.seq = (uint32_t)seq;
    gzmember_putheader(header, &extra);
    n = vfs_pwrite(s->vfs, s->fd, header, sizeof(header), s->end);
    if (n < 0)
        return (int)n;
    s->end += GZ_HEADER_LEN;
    s->seq = extra.seq;
    return lcb_switch_raw(s, m->offset + GZ_HEADER_LEN, m->offset + m->length);
}

int lcb_switch_members(struct lcb_switch *s, off_t from, off_t to)
{
    int r = 0;
    while (!r && from < to) {
        struct lcb_member m;
        r = appended_member(s, from, to, &m);
        if (!r)
            r = copy_member(s, &m);
        from += r ? 0 : m.length;
    }
    return r;
}
