/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* gzmember - one gzip member (RFC 1952) in memory, and the header with our FEXTRA subfield.
 *
 * A member is a header of 40 bytes, raw deflate data, and the trailer: CRC-32 and length (mod 2^32)
 * of the text. The deflate part comes from libdeflate where configure found it, else from zlib; the
 * few lines that differ are deflate_one() and inflate_one().
 *
 * Reading is against hostile bytes. The trailer tells the size of the text before anything is
 * inflated, so the output is allocated once, never beyond the caller's bound, and a lie in it is
 * found out: deflate cannot expand by more than 1032, and the data must fill the size exactly. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#else
#define ZLIB_CONST
#include <zlib.h>
#endif

#include "lib/gzmember.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { FHCRC = 2, FEXTRA = 4, FNAME = 8, FCOMMENT = 16, FRESERVED = 0xe0 };
enum { SUBFIELD_LEN = 24, SUBFIELD_VERSION = 1, MAX_EXPANSION = 1032 };

static uint64_t get_le(const unsigned char *p, int n)
{
    uint64_t v = 0;
    while (n-- > 0)
        v = v << 8 | p[n];
    return v;
}

static void put_le(unsigned char *p, int n, uint64_t v)
{
    for (int i = 0; i < n; i++, v >>= 8)
        p[i] = (unsigned char)v;
}

/* The CRC is judged before the version: it stands at the same place in every version. */
static int parse_subfield(const unsigned char *p, size_t n, struct gzextra *extra)
{
    if (n < SUBFIELD_LEN || crc32_map(0, p, 20) != get_le(p + 20, 4))
        return XERR_FORMAT;
    if (p[0] > SUBFIELD_VERSION)
        return XERR_VERSION;
    if (p[0] != SUBFIELD_VERSION || n != SUBFIELD_LEN || extra->present)
        return XERR_FORMAT;
    extra->present = 1;
    extra->flags = p[1];
    extra->length = get_le(p + 2, 6);
    extra->id = get_le(p + 8, 8);
    extra->seq = (uint32_t)get_le(p + 16, 4);
    return extra->length < GZ_HEADER_LEN + GZ_TRAILER_LEN ? XERR_FORMAT : 0;
}

/* Is the subfield at P, with LEN bytes of data, ours? By its name, or if only that is damaged: as the
 * rest of it tells what its member is, it must not be passed over. */
static int is_subfield(const unsigned char *p, size_t len)
{
    return (p[0] == 'C' && p[1] == 'B') ||
           ((p[0] == 'C' || p[1] == 'B') && len == SUBFIELD_LEN &&
            crc32_map(0, p + 4, 20) == get_le(p + 24, 4));
}

/* P, N: the whole FEXTRA field behind its length. */
static int parse_extra(const unsigned char *p, size_t n, struct gzextra *extra)
{
    while (n) {
        if (n < 4)
            return XERR_FORMAT;
        size_t len = get_le(p + 2, 2);
        if (len > n - 4)
            return XERR_FORMAT;
        int r = is_subfield(p, len) ? parse_subfield(p + 4, len, extra) : 0;
        if (r)
            return r;
        p += 4 + len;
        n -= 4 + len;
    }
    return 0;
}

/* Position behind the NUL-terminated text at AT, or 0 if it does not end within N bytes. */
static size_t skip_text(const unsigned char *p, size_t n, size_t at)
{
    const unsigned char *nul = at < n ? memchr(p + at, '\0', n - at) : NULL;
    return nul ? (size_t)(nul - p) + 1 : 0;
}

/* What follows the ten fixed bytes. */
static ssize_t parse_optional(const unsigned char *p, size_t n, struct gzextra *extra)
{
    size_t at = 10;
    int flags = p[3];
    if (flags & FEXTRA) {
        if (n < at + 2)
            return XERR_EOF;
        size_t len = get_le(p + at, 2);
        at += 2;
        if (n - at < len)
            return XERR_EOF;
        int r = parse_extra(p + at, len, extra);
        if (r)
            return r;
        at += len;
    }
    if ((flags & FNAME) && !(at = skip_text(p, n, at)))
        return XERR_EOF;
    if ((flags & FCOMMENT) && !(at = skip_text(p, n, at)))
        return XERR_EOF;
    if (flags & FHCRC) {
        if (n - at < 2)
            return XERR_EOF;
        if ((crc32_map(0, p, at) & 0xffff) != get_le(p + at, 2))
            return XERR_FORMAT;
        at += 2;
    }
    return (ssize_t)at;
}

ssize_t gzmember_header(const void *data, size_t n, struct gzextra *extra)
{
    static const unsigned char magic[] = {0x1f, 0x8b, 8};
    const unsigned char *p = data;
    memset(extra, 0, sizeof(*extra));
    if (n && memcmp(p, magic, n < sizeof(magic) ? n : sizeof(magic)))
        return XERR_FORMAT;
    if (n > 3 && (p[3] & FRESERVED))
        return XERR_FORMAT;
    if (n < 10)
        return XERR_EOF;
    ssize_t r = parse_optional(p, n, extra);
    if (r < 0)
        memset(extra, 0, sizeof(*extra));
    return r;
}

void gzmember_putheader(unsigned char out[GZ_HEADER_LEN], const struct gzextra *extra)
{
    static const unsigned char fixed[] = {
        0x1f, 0x8b, 8, FEXTRA, 0, 0, 0, 0, 0, 3, 4 + SUBFIELD_LEN, 0, 'C', 'B', SUBFIELD_LEN, 0};
    unsigned char *p = out + sizeof(fixed);
    memcpy(out, fixed, sizeof(fixed));
    p[0] = SUBFIELD_VERSION;
    p[1] = (unsigned char)extra->flags;
    put_le(p + 2, 6, extra->length);
    put_le(p + 8, 8, extra->id);
    put_le(p + 16, 4, extra->seq);
    put_le(p + 20, 4, crc32_map(0, p, 20));
}

/* The two libraries. */

enum inflated { INFLATED_OK, INFLATED_BAD, INFLATED_MORE, INFLATED_NOMEM };

#ifdef HAVE_LIBDEFLATE

struct gzpacker {
    struct libdeflate_compressor *c;
};

static int packer_init(struct gzpacker *z, int level)
{
    z->c = libdeflate_alloc_compressor(level > 12 ? 12 : level);
    return z->c ? 0 : -ENOMEM;
}

static void packer_fini(struct gzpacker *z)
{
    libdeflate_free_compressor(z->c);
}

static size_t packer_bound(struct gzpacker *z, size_t n)
{
    return libdeflate_deflate_compress_bound(z->c, n);
}

/* ROOM is at least the bound, so it always fits. */
static size_t deflate_one(struct gzpacker *z, const void *p, size_t n, void *out, size_t room)
{
    return libdeflate_deflate_compress(z->c, p, n, out, room);
}

/* Raw deflate data of exactly N bytes that give exactly SIZE bytes. */
static enum inflated inflate_one(const void *p, size_t n, void *out, size_t size)
{
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    size_t in = 0, made = 0;
    if (!d)
        return INFLATED_NOMEM;
    enum libdeflate_result r = libdeflate_deflate_decompress_ex(d, p, n, out, size, &in, &made);
    libdeflate_free_decompressor(d);
    if (r == LIBDEFLATE_INSUFFICIENT_SPACE)
        return INFLATED_MORE;
    return r == LIBDEFLATE_SUCCESS && in == n && made == size ? INFLATED_OK : INFLATED_BAD;
}

#else

struct gzpacker {
    z_stream z;
};

enum { PIECE = 1 << 30 }; /* zlib counts in unsigned int */

static int packer_init(struct gzpacker *z, int level)
{
    return deflateInit2(&z->z, level > 9 ? 9 : level, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY)
               ? -ENOMEM
               : 0;
}

static void packer_fini(struct gzpacker *z)
{
    deflateEnd(&z->z);
}

static size_t packer_bound(struct gzpacker *z, size_t n)
{
    return deflateBound(&z->z, n);
}

/* Give Z the next piece of what is left. */
static void next_piece(z_stream *z, size_t *in, size_t *out)
{
    if (!z->avail_in) {
        z->avail_in = (uInt)(*in < PIECE ? *in : PIECE);
        *in -= z->avail_in;
    }
    if (!z->avail_out) {
        z->avail_out = (uInt)(*out < PIECE ? *out : PIECE);
        *out -= z->avail_out;
    }
}

/* ROOM is at least the bound, so it always fits. */
static size_t deflate_one(struct gzpacker *packer, const void *p, size_t n, void *out, size_t room)
{
    z_stream *z = &packer->z;
    size_t all = room;
    deflateReset(z);
    z->next_in = p;
    z->next_out = out;
    z->avail_in = z->avail_out = 0;
    int r;
    do {
        next_piece(z, &n, &room);
        r = deflate(z, n ? Z_NO_FLUSH : Z_FINISH);
    } while (r == Z_OK);
    return r == Z_STREAM_END ? all - room - z->avail_out : 0;
}

/* Raw deflate data of exactly N bytes that give exactly SIZE bytes. */
static enum inflated inflate_one(const void *p, size_t n, void *out, size_t size)
{
    z_stream z;
    memset(&z, 0, sizeof(z));
    if (inflateInit2(&z, -15))
        return INFLATED_NOMEM;
    z.next_in = p;
    z.next_out = out;
    int r;
    do {
        next_piece(&z, &n, &size);
        r = inflate(&z, Z_NO_FLUSH);
    } while (r == Z_OK);
    inflateEnd(&z);
    if (r == Z_STREAM_END)
        return n || z.avail_in || size || z.avail_out ? INFLATED_BAD : INFLATED_OK;
    /* No progress possible: with input left it is the room that is short. */
    if (r == Z_BUF_ERROR)
        return z.avail_in || (!z.avail_out && !size) ? INFLATED_MORE : INFLATED_BAD;
    return r == Z_MEM_ERROR ? INFLATED_NOMEM : INFLATED_BAD;
}

#endif

struct gzpacker *gzpacker_new(int level)
{
    struct gzpacker *z = xzmalloc(sizeof(*z));
    if (packer_init(z, level < 1 ? 1 : level))
        xmalloc(PTRDIFF_MAX); /* the libraries' only failure is memory: end as xmalloc does */
    return z;
}

void gzpacker_free(struct gzpacker **z)
{
    if (*z) {
        packer_fini(*z);
        free(*z);
        *z = NULL;
    }
}

void gzpacker_pack(struct gzpacker *z, struct buf *out, const void *p, size_t n,
                   struct gzextra *extra)
{
    size_t room = packer_bound(z, n);
    unsigned char *start = (unsigned char *)buf_ensure(out, GZ_HEADER_LEN + room + GZ_TRAILER_LEN);
    size_t made = deflate_one(z, n ? p : "", n, start + GZ_HEADER_LEN, room);
    unsigned char *trailer = start + GZ_HEADER_LEN + made;
    put_le(trailer, 4, crc32_map(0, p, n));
    put_le(trailer + 4, 4, n & 0xffffffff);
    extra->present = 1;
    extra->length = GZ_HEADER_LEN + made + GZ_TRAILER_LEN;
    gzmember_putheader(start, extra);
    out->len += extra->length;
}

int gzmember_unpack(const void *data, size_t n, size_t max, struct buf *out)
{
    const unsigned char *p = data;
    struct gzextra extra;
    ssize_t header = gzmember_header(p, n, &extra);
    if (header < 0)
        return header == XERR_EOF ? XERR_FORMAT : (int)header;
    if (n - (size_t)header < GZ_TRAILER_LEN || (extra.present && extra.length != n))
        return XERR_FORMAT;
    size_t body = n - (size_t)header - GZ_TRAILER_LEN;
    size_t size = get_le(p + n - 4, 4);
    if (size / MAX_EXPANSION > body)
        return XERR_FORMAT;
    if (size > max)
        return XERR_TOOBIG;
    char *text = buf_ensure(out, size);
    switch (inflate_one(p + header, body, text, size)) {
    case INFLATED_OK:
        break;
    case INFLATED_MORE: /* the trailer lies, or it is the size less 4 GiB */
        return (size + ((uint64_t)1 << 32)) / MAX_EXPANSION > body ? XERR_FORMAT : XERR_TOOBIG;
    case INFLATED_NOMEM:
        return -ENOMEM;
    default:
        return XERR_FORMAT;
    }
    if (crc32_map(0, text, size) != get_le(p + n - 8, 4))
        return XERR_FORMAT;
    out->len += size;
    return 0;
}
