/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* gzmember_salvage - what can be found out about a gzip member that is not whole.
 *
 * A writer that makes a full flush after each line leaves the compressed data at a byte boundary
 * there, behind an empty stored block (00 00 ff ff), and begins with a fresh dictionary. Such a flush
 * point is good for two things: the member can be ended there (an empty last block and a trailer make
 * it whole), and text can be read from there on though nothing before it is readable. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

#include "lib/gzmember.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum {
    BUFFER = 64 << 10,
    AHEAD = 8, /* inflate() may hold so many bytes that it has not used yet */
};

struct gzprobe {
    z_stream z;
};

struct gzprobe *gzprobe_new(void)
{
    struct gzprobe *probe = xzmalloc(sizeof(*probe));
    if (inflateInit2(&probe->z, -15)) {
        free(probe);
        return NULL;
    }
    return probe;
}

void gzprobe_free(struct gzprobe **pp)
{
    if (!*pp)
        return;
    inflateEnd(&(*pp)->z);
    free(*pp);
    *pp = NULL;
}

size_t gzprobe_try(struct gzprobe *probe, const void *p, size_t n, void *text, size_t max)
{
    z_stream *z = &probe->z;
    if (inflateReset(z) != Z_OK)
        return 0;
    z->next_in = p;
    z->avail_in = (uInt)n;
    z->next_out = text;
    z->avail_out = (uInt)max;
    (void)inflate(z, Z_SYNC_FLUSH);
    return max - z->avail_out;
}

int gzmember_putend(unsigned char end[GZ_END_LEN], uint32_t crc, uint64_t size)
{
    end[0] = 3; /* last block, fixed codes, empty */
    end[1] = 0;
    for (int i = 0; i < 4; i++) {
        end[2 + i] = (unsigned char)(crc >> 8 * i);
        end[6 + i] = (unsigned char)(size >> 8 * i);
    }
    return GZ_END_LEN;
}

struct flushscan {
    struct vfs *vfs;
    int fd;
    off_t loaded;
    uint64_t done, text;
    off_t found, reached; /* flush point; where the text's last byte came out */
    z_stream z;
    uint32_t crc;
    unsigned char in[BUFFER], out[BUFFER];
};

/* One turn: 1 to go on, 0 at an end, or an error of reading. */
static int scan_on(struct flushscan *s)
{
    if (!s->z.avail_in) {
        ssize_t n = vfs_pread(s->vfs, s->fd, s->in, sizeof(s->in), s->loaded);
        if (n <= 0)
            return (int)n;
        s->loaded += n;
        s->z.next_in = s->in;
        s->z.avail_in = (uInt)n;
    }
    uint64_t want = s->text - s->done;
    uInt room = want < sizeof(s->out) ? (uInt)want : (uInt)sizeof(s->out);
    s->z.next_out = s->out;
    s->z.avail_out = room;
    int zr = inflate(&s->z, Z_BLOCK);
    s->crc = crc32_map(s->crc, s->out, room - s->z.avail_out);
    s->done += room - s->z.avail_out;
    if (s->done == s->text && !s->reached)
        s->reached = s->loaded - (off_t)s->z.avail_in;
    if (s->done == s->text && (s->z.data_type & 128) && !(s->z.data_type & (64 | 63)))
        s->found = s->loaded - (off_t)s->z.avail_in;
    return zr == Z_OK || (zr == Z_BUF_ERROR && !s->z.avail_in);
}

int gzmember_flushpoint(struct vfs *vfs, int fd, off_t at, int raw, uint64_t text, off_t *end,
                        uint32_t *crc)
{
    static const unsigned char marker[] = {0, 0, 0xff, 0xff};
    struct flushscan *s = xzmalloc(sizeof(*s));
    struct gzextra extra;
    unsigned char last[sizeof(marker)];
    s->vfs = vfs;
    s->fd = fd;
    s->text = text;
    if (inflateInit2(&s->z, -15)) {
        free(s);
        return -ENOMEM;
    }
    ssize_t n = vfs_pread(vfs, fd, s->in, sizeof(s->in), at);
    ssize_t header = n < 0 ? n : raw ? 0 : gzmember_header(s->in, (size_t)n, &extra);
    int r = header < 0 ? (int)header : 1;
    s->loaded = at + n;
    s->z.next_in = s->in + (header > 0 ? header : 0);
    s->z.avail_in = (uInt)(n - (header > 0 ? header : 0));
    s->reached = text ? 0 : s->loaded - (off_t)s->z.avail_in;
    while (r > 0)
        r = scan_on(s);
    if (!r && s->found) {
        n = vfs_pread(vfs, fd, last, sizeof(last), s->found - (off_t)sizeof(last));
        r = n < 0 ? (int)n : n == sizeof(last) && !memcmp(last, marker, sizeof(last));
    }
    *end = s->found ? s->found : s->reached ? s->reached : s->loaded - (off_t)s->z.avail_in;
    if (!s->found)
        *end = *end - at > AHEAD ? *end - AHEAD : at;
    *crc = s->crc;
    inflateEnd(&s->z);
    free(s);
    return r;
}
