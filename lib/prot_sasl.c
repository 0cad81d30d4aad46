/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* prot_sasl - the security layer that a SASL mechanism negotiated.
 *
 * The mechanism wraps plain bytes into packets. It says how many bytes it takes at most for one
 * packet (SASL_MAXOUTBUF), so writing is cut at that size; packets collect in a buffer, because
 * they are small (4 kB by default) and system calls are not free. In reading, the library assembles
 * packets from whatever pieces arrive and bounds their size itself (we told it how much we accept);
 * what it decoded stays in its memory until the next call. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include <sasl/sasl.h>

#include "lib/buf.h"
#include "lib/prot_layer.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

struct sasl_in {
    struct prot_layer l;
    sasl_conn_t *conn;
    const char *plain; /* decoded and not yet read */
    size_t left;
    size_t raw; /* preloaded bytes in buf */
    char buf[PROT_BUFSIZE];
};

struct sasl_out {
    struct prot_layer l;
    sasl_conn_t *conn;
    size_t maxout;
    struct buf packets;
};

static ssize_t sasl_read(struct prot_layer *l, void *p, size_t n)
{
    struct sasl_in *s = (struct sasl_in *)l;
    while (!s->left) {
        ssize_t got = (ssize_t)s->raw;
        s->raw = 0;
        if (!got)
            got = l->below->read(l->below, s->buf, sizeof(s->buf));
        if (got <= 0)
            return got;
        unsigned len = 0;
        s->plain = NULL;
        if (sasl_decode(s->conn, s->buf, (unsigned)got, &s->plain, &len) != SASL_OK)
            return XERR_CRYPTO;
        s->left = s->plain ? len : 0;
    }
    if (n > s->left)
        n = s->left;
    memcpy(p, s->plain, n);
    s->plain += n;
    s->left -= n;
    return (ssize_t)n;
}

static int sasl_pending(struct prot_layer *l)
{
    return ((struct sasl_in *)l)->left > 0;
}

static void sasl_preload(struct prot_layer *l, const void *p, size_t n)
{
    struct sasl_in *s = (struct sasl_in *)l;
    if (n > sizeof(s->buf))
        n = sizeof(s->buf); /* not possible: it comes from a buffer of this size */
    memcpy(s->buf, p, n);
    s->raw = n;
}

static void sasl_free_in(struct prot_layer *l)
{
    free(l);
}

static int sasl_pass(struct sasl_out *s)
{
    if (!s->packets.len)
        return 0;
    int r = s->l.below->write(s->l.below, s->packets.s, s->packets.len);
    buf_reset(&s->packets);
    return r;
}

static int sasl_write(struct prot_layer *l, const void *p, size_t n)
{
    struct sasl_out *s = (struct sasl_out *)l;
    const char *from = p;
    while (n) {
        size_t part = n < s->maxout ? n : s->maxout;
        const char *packet = NULL;
        unsigned len = 0;
        if (sasl_encode(s->conn, from, (unsigned)part, &packet, &len) != SASL_OK)
            return XERR_CRYPTO;
        buf_appendmap(&s->packets, packet, len);
        if (s->packets.len >= PROT_BUFSIZE) {
            int r = sasl_pass(s);
            if (r)
                return r;
        }
        from += part;
        n -= part;
    }
    return 0;
}

static int sasl_flush(struct prot_layer *l)
{
    return sasl_pass((struct sasl_out *)l);
}

static void sasl_free_out(struct prot_layer *l)
{
    buf_free(&((struct sasl_out *)l)->packets);
    free(l);
}

static struct prot_layer *layer_in(sasl_conn_t *conn)
{
    struct sasl_in *s = xmalloc(sizeof(*s));
    memset(s, 0, offsetof(struct sasl_in, buf));
    s->l.rank = PROT_RANK_SASL;
    s->l.read = sasl_read;
    s->l.pending = sasl_pending;
    s->l.preload = sasl_preload;
    s->l.free = sasl_free_in;
    s->conn = conn;
    return &s->l;
}

static struct prot_layer *layer_out(sasl_conn_t *conn, size_t maxout)
{
    struct sasl_out *s = xzmalloc(sizeof(*s));
    s->l.rank = PROT_RANK_SASL;
    s->l.write = sasl_write;
    s->l.flush = sasl_flush;
    s->l.free = sasl_free_out;
    s->conn = conn;
    s->maxout = maxout;
    return &s->l;
}

int prot_setsasl(struct protstream *in, struct protstream *out, struct sasl_conn *conn)
{
    const void *maxout = NULL;
    if (sasl_getprop(conn, SASL_MAXOUTBUF, &maxout) != SASL_OK || !maxout ||
        !*(const unsigned *)maxout)
        return XERR_CRYPTO;
    int r = prot_addlayer(in, layer_in(conn));
    if (!r)
        r = prot_addlayer(out, layer_out(conn, *(const unsigned *)maxout));
    return r;
}
