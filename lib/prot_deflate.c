/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* prot_deflate - the compression layer: raw DEFLATE (RFC 1951) in each direction, as COMPRESS
 * DEFLATE of RFC 4978 has it.
 *
 * Writing collects compressed bytes in a buffer and ends a block at a byte boundary (Z_SYNC_FLUSH)
 * when the stream is flushed, so that the peer can decode all of it; a flush with nothing new adds
 * nothing. Reading decodes straight into the memory of the layer above; that memory bounds what a
 * small input can expand to. The peer may end its DEFLATE stream, which counts as end of input. */
#include "config.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "lib/prot_layer.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

struct zlayer {
    struct prot_layer l;
    z_stream z;
    int more;  /* reading: the last output was full, zlib may have more without input */
    int ended; /* reading: the peer ended its stream */
    int dirty; /* writing: something was written since the last flush */
    unsigned char buf[PROT_BUFSIZE]; /* compressed bytes */
};

/* Reading */

static ssize_t z_read(struct prot_layer *l, void *p, size_t n)
{
    struct zlayer *z = (struct zlayer *)l;
    uInt room = n < (1u << 30) ? (uInt)n : 1u << 30;
    z->z.next_out = p;
    z->z.avail_out = room;
    while (!z->ended) {
        if (!z->z.avail_in && !z->more) {
            ssize_t got = l->below->read(l->below, z->buf, sizeof(z->buf));
            if (got <= 0)
                return got;
            z->z.next_in = z->buf;
            z->z.avail_in = (uInt)got;
        }
        int r = inflate(&z->z, Z_SYNC_FLUSH);
        z->more = !z->z.avail_out;
        z->ended = r == Z_STREAM_END;
        if (z->z.avail_out < room)
            return (ssize_t)(room - z->z.avail_out);
        if (r != Z_OK && r != Z_BUF_ERROR && r != Z_STREAM_END)
            return XERR_FORMAT;
    }
    return 0;
}

static int z_pending(struct prot_layer *l)
{
    return ((struct zlayer *)l)->more;
}

static size_t z_giveback(struct prot_layer *l, const void **p)
{
    struct zlayer *z = (struct zlayer *)l;
    size_t n = z->z.avail_in;
    *p = z->z.next_in;
    z->z.avail_in = 0;
    return n;
}

static void z_preload(struct prot_layer *l, const void *p, size_t n)
{
    struct zlayer *z = (struct zlayer *)l;
    if (n > sizeof(z->buf))
        n = sizeof(z->buf); /* not possible: it comes from a buffer of this size */
    memcpy(z->buf, p, n);
    z->z.next_in = z->buf;
    z->z.avail_in = (uInt)n;
}

static void z_free_in(struct prot_layer *l)
{
    inflateEnd(&((struct zlayer *)l)->z);
    free(l);
}

/* Writing */

/* Hand the compressed bytes on. */
static int z_pass(struct zlayer *z)
{
    size_t n = sizeof(z->buf) - z->z.avail_out;
    z->z.next_out = z->buf;
    z->z.avail_out = sizeof(z->buf);
    return n ? z->l.below->write(z->l.below, z->buf, n) : 0;
}

static int z_write(struct prot_layer *l, const void *p, size_t n)
{
    struct zlayer *z = (struct zlayer *)l;
    union {
        const void *in;
        Bytef *out;
    } from = {p}; /* zlib's pointer lacks a const; it does not write */
    z->dirty = 1;
    z->z.next_in = from.out;
    while (n) {
        uInt part = n < (1u << 30) ? (uInt)n : 1u << 30;
        z->z.avail_in = part;
        while (z->z.avail_in) {
            int r = z->z.avail_out ? 0 : z_pass(z);
            if (r)
                return r;
            if (deflate(&z->z, Z_NO_FLUSH) != Z_OK)
                return XERR_INTERNAL;
        }
        n -= part;
    }
    return 0;
}

static int z_flush(struct prot_layer *l)
{
    struct zlayer *z = (struct zlayer *)l;
    if (!z->dirty)
        return 0;
    z->z.avail_in = 0;
    do {
        int r = z->z.avail_out ? 0 : z_pass(z);
        if (r)
            return r;
        r = deflate(&z->z, Z_SYNC_FLUSH);
        if (r != Z_OK && r != Z_BUF_ERROR)
            return XERR_INTERNAL;
    } while (!z->z.avail_out);
    z->dirty = 0;
    return z_pass(z);
}

static void z_free_out(struct prot_layer *l)
{
    deflateEnd(&((struct zlayer *)l)->z);
    free(l);
}

/* The layers */

static struct zlayer *z_layer(void)
{
    struct zlayer *z = xmalloc(sizeof(*z));
    memset(z, 0, offsetof(struct zlayer, buf));
    z->l.rank = PROT_RANK_DEFLATE;
    return z;
}

static struct prot_layer *layer_in(void)
{
    struct zlayer *z = z_layer();
    if (inflateInit2(&z->z, -MAX_WBITS) != Z_OK) {
        free(z);
        return NULL;
    }
    z->l.read = z_read;
    z->l.pending = z_pending;
    z->l.giveback = z_giveback;
    z->l.preload = z_preload;
    z->l.free = z_free_in;
    return &z->l;
}

static struct prot_layer *layer_out(void)
{
    struct zlayer *z = z_layer();
    if (deflateInit2(&z->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, MAX_MEM_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        free(z);
        return NULL;
    }
    z->z.next_out = z->buf;
    z->z.avail_out = sizeof(z->buf);
    z->l.write = z_write;
    z->l.flush = z_flush;
    z->l.free = z_free_out;
    return &z->l;
}

int prot_setcompress(struct protstream *in, struct protstream *out)
{
    struct prot_layer *lin = layer_in(), *lout = layer_out();
    if (!lin || !lout) {
        if (lin)
            lin->free(lin);
        if (lout)
            lout->free(lout);
        return -ENOMEM;
    }
    int r = prot_addlayer(in, lin);
    if (r)
        lout->free(lout);
    else
        r = prot_addlayer(out, lout);
    return r;
}
