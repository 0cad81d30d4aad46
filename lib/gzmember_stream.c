/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* gzmember_stream - gzip members too large for memory, from and to files, with zlib's raw deflate.
 *
 * The writer leaves the 40 bytes of the header zero until the rest is written, because the header
 * holds the length: until gzwriter_finish() has patched it, what stands at that place of the file
 * is no gzip member to anybody, so a member that was never finished cannot be taken for a whole
 * one.
 *
 * The reader goes by the deflate data, not by the length in the header, so members of other writers
 * work too; where there is a length it must agree. */
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

/* The reader's buffer must hold a whole header; FEXTRA alone may have 64 KiB. */
enum { OUTPUT_SIZE = 64 << 10, INPUT_SIZE = 128 << 10, PIECE = 1 << 30 };

struct gzwriter {
    struct vfs *vfs;
    int fd;
    off_t start;   /* of the member */
    off_t written; /* bytes of it in the file */
    int error;     /* first failure; nothing more is done after it */
    uint32_t crc;
    uint32_t size; /* of the text, mod 2^32 */
    z_stream z;
    size_t used; /* bytes in out */
    unsigned char out[OUTPUT_SIZE];
};

int gzwriter_open(struct vfs *vfs, int fd, off_t at, int level, struct gzwriter **wp)
{
    struct gzwriter *w = xzmalloc(sizeof(*w));
    *wp = NULL;
    if (deflateInit2(&w->z,
                     level < 1   ? 1
                     : level > 9 ? 9
                                 : level,
                     Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY)) {
        free(w);
        return -ENOMEM;
    }
    w->vfs = vfs;
    w->fd = fd;
    w->start = at;
    w->used = GZ_HEADER_LEN; /* zeros for now */
    *wp = w;
    return 0;
}

static int writer_flush(struct gzwriter *w)
{
    ssize_t r = w->used ? vfs_pwrite(w->vfs, w->fd, w->out, w->used, w->start + w->written) : 0;
    if (r < 0)
        return (int)r;
    w->written += (off_t)w->used;
    w->used = 0;
    return 0;
}

/* Compress what is in z; with Z_FINISH, all of it to the end of the stream. */
static int writer_deflate(struct gzwriter *w, int flush)
{
    int r;
    do {
        if (w->used == OUTPUT_SIZE) {
            int err = writer_flush(w);
            if (err)
                return err;
        }
        w->z.next_out = w->out + w->used;
        w->z.avail_out = (uInt)(OUTPUT_SIZE - w->used);
        r = deflate(&w->z, flush);
        w->used = OUTPUT_SIZE - w->z.avail_out;
        if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
            return XERR_INTERNAL;
    } while (flush == Z_FINISH ? r != Z_STREAM_END : w->z.avail_in || !w->z.avail_out);
    return 0;
}

int gzwriter_write(struct gzwriter *w, const void *data, size_t n)
{
    const unsigned char *p = data;
    while (n && !w->error) {
        size_t piece = n < PIECE ? n : PIECE;
        w->crc = crc32_map(w->crc, p, piece);
        w->size += (uint32_t)piece;
        w->z.next_in = p;
        w->z.avail_in = (uInt)piece;
        w->error = writer_deflate(w, Z_NO_FLUSH);
        p += piece;
        n -= piece;
    }
    return w->error;
}

static void put_le32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++, v >>= 8)
        p[i] = (unsigned char)v;
}

/* The end of the data, the trailer, and last of all the header. */
static int writer_end(struct gzwriter *w, struct gzextra *extra)
{
    unsigned char header[GZ_HEADER_LEN];
    w->z.avail_in = 0;
    int r = writer_deflate(w, Z_FINISH);
    if (!r && OUTPUT_SIZE - w->used < GZ_TRAILER_LEN)
        r = writer_flush(w);
    if (r)
        return r;
    put_le32(w->out + w->used, w->crc);
    put_le32(w->out + w->used + 4, w->size);
    w->used += GZ_TRAILER_LEN;
    r = writer_flush(w);
    if (r)
        return r;
    extra->present = 1;
    extra->length = (uint64_t)w->written;
    gzmember_putheader(header, extra);
    ssize_t n = vfs_pwrite(w->vfs, w->fd, header, sizeof(header), w->start);
    return n < 0 ? (int)n : 0;
}

int gzwriter_finish(struct gzwriter **wp, struct gzextra *extra)
{
    int r = (*wp)->error;
    if (!r)
        r = writer_end(*wp, extra);
    gzwriter_abort(wp);
    return r;
}

void gzwriter_abort(struct gzwriter **wp)
{
    if (*wp) {
        deflateEnd(&(*wp)->z);
        free(*wp);
        *wp = NULL;
    }
}

struct gzreader {
    struct vfs *vfs;
    int fd;
    off_t start;  /* of the member */
    off_t loaded; /* file offset behind the bytes in in */
    off_t limit;  /* the file is taken to end here, if not 0 */
    enum { READER_TEXT, READER_TRAILER, READER_END } state;
    int raw;   /* begun within a member: there is no trailer for what is read */
    int error; /* first failure, returned for ever after */
    uint32_t crc;
    uint32_t size; /* of the text, mod 2^32 */
    struct gzextra extra;
    z_stream z; /* its next_in, avail_in say what of in is unread */
    unsigned char in[INPUT_SIZE];
};

/* Move what is unread to the front and fill up from the file: bytes added, XERR_EOF or -errno. */
static ssize_t reader_fill(struct gzreader *r)
{
    size_t have = r->z.avail_in;
    if (have)
        memmove(r->in, r->z.next_in, have);
    size_t want = INPUT_SIZE - have;
    if (r->limit && (off_t)want > r->limit - r->loaded)
        want = r->limit > r->loaded ? (size_t)(r->limit - r->loaded) : 0;
    ssize_t n = want ? vfs_pread(r->vfs, r->fd, r->in + have, want, r->loaded) : 0;
    r->z.next_in = r->in;
    if (n <= 0)
        return n < 0 ? n : XERR_EOF;
    r->loaded += n;
    r->z.avail_in = (uInt)(have + (size_t)n);
    return n;
}

static int reader_header(struct gzreader *r)
{
    ssize_t n = reader_fill(r); /* all that fits, so once is enough */
    if (n < 0)
        return (int)n;
    ssize_t len = gzmember_header(r->in, r->z.avail_in, &r->extra);
    if (len < 0)
        return len == XERR_EOF && n == INPUT_SIZE ? XERR_TOOBIG : (int)len;
    r->z.next_in += len;
    r->z.avail_in -= (uInt)len;
    return 0;
}

int gzreader_openpiece(struct vfs *vfs, int fd, off_t at, int raw, off_t limit,
                       struct gzreader **rp)
{
    struct gzreader *r = xzmalloc(sizeof(*r));
    *rp = NULL;
    r->raw = raw;
    r->limit = limit;
    r->vfs = vfs;
    r->fd = fd;
    r->start = r->loaded = at;
    r->z.next_in = r->in;
    if (inflateInit2(&r->z, -15)) {
        free(r);
        return -ENOMEM;
    }
    int err = raw ? 0 : reader_header(r);
    if (err)
        gzreader_close(&r);
    *rp = r;
    return err;
}

int gzreader_open(struct vfs *vfs, int fd, off_t at, struct gzreader **rp)
{
    return gzreader_openpiece(vfs, fd, at, 0, 0, rp);
}

/* Text to P, as much as one full turn gives; 0 only when the deflate data is at its end. */
static ssize_t reader_inflate(struct gzreader *r, void *p, size_t n)
{
    uInt room = (uInt)(n < PIECE ? n : PIECE);
    ssize_t err = 0;
    r->z.next_out = p;
    r->z.avail_out = room;
    while (r->z.avail_out && r->state == READER_TEXT) {
        if (!r->z.avail_in) {
            err = reader_fill(r);
            if (err < 0)
                break;
        }
        int zr = inflate(&r->z, Z_NO_FLUSH);
        if (zr == Z_STREAM_END) {
            r->state = r->raw ? READER_END : READER_TRAILER;
        } else if (zr != Z_OK && zr != Z_BUF_ERROR) {
            err = zr == Z_MEM_ERROR ? -ENOMEM : XERR_FORMAT;
            break;
        }
    }
    if (err < 0 && r->z.avail_out == room)
        return err; /* after some text, it comes again at the next call */
    room -= r->z.avail_out;
    r->crc = crc32_map(r->crc, p, room);
    r->size += room;
    return (ssize_t)room;
}

static uint32_t get_le32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int reader_trailer(struct gzreader *r)
{
    while (r->z.avail_in < GZ_TRAILER_LEN) {
        ssize_t n = reader_fill(r);
        if (n < 0)
            return (int)n;
    }
    uint32_t crc = get_le32(r->z.next_in), size = get_le32(r->z.next_in + 4);
    r->z.next_in += GZ_TRAILER_LEN;
    r->z.avail_in -= GZ_TRAILER_LEN;
    r->state = READER_END;
    if (crc != r->crc || size != r->size)
        return XERR_FORMAT;
    if (r->extra.present && (uint64_t)(gzreader_offset(r) - r->start) != r->extra.length)
        return XERR_FORMAT;
    return 0;
}

ssize_t gzreader_read(struct gzreader *r, void *p, size_t n)
{
    if (r->error)
        return r->error;
    ssize_t got = r->state == READER_TEXT ? reader_inflate(r, p, n) : 0;
    if (!got && r->state == READER_TRAILER)
        got = reader_trailer(r);
    if (got < 0)
        r->error = (int)got;
    return got;
}

const struct gzextra *gzreader_extra(const struct gzreader *r)
{
    return &r->extra;
}

off_t gzreader_offset(const struct gzreader *r)
{
    return r->loaded - (off_t)r->z.avail_in;
}

void gzreader_close(struct gzreader **rp)
{
    if (*rp) {
        inflateEnd(&(*rp)->z);
        free(*rp);
        *rp = NULL;
    }
}
