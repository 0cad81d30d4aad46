/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* prot - buffered streams for line protocols with literals.
 *
 * A stream is one direction of a connection: a buffer of plain bytes on top of a stack of layers.
 *
 *     parser / printer
 *     buffer            ptr..end (reading), wptr..wend (writing): getc and putc are inline
 *     DEFLATE           optional
 *     SASL              optional
 *     TLS               optional
 *     source            a descriptor (prot_fd), a function, or plain memory (no layers at all)
 *
 * Each layer knows the one below and works in blocking style: a read returns at least one byte, the
 * end, or an error. All waiting happens in the source, so timeouts, ticks and the end of a read on
 * a signal work the same under every combination of layers, and no layer has a "try again" state.
 *
 * Buffers are 64 KiB and made at first use. A read of the caller's that is at least that large and
 * finds the buffer empty goes into the caller's memory directly, through all layers; the bytes of a
 * large message are copied by the kernel and by nobody else. So do large writes go around the
 * buffer. Byte HEADROOM of the reading buffer stays free so that a byte can be put back even after
 * such a direct read.
 *
 * Layers begin in the middle of a connection. Writing is simple: flush, then insert. In reading,
 * bytes that the peer sent after the switch may already sit in our buffer. They are in the form
 * that the new layer reads, so they are handed to it (preload) and the buffer begins anew. With a
 * layer above the new one (COMPRESS was begun before AUTHENTICATE) that layer returns what it has
 * not used (giveback); bytes it has already decoded came without the protection that was
 * negotiated, which no correct client does, and are refused.
 *
 * Errors are sticky: the first one stays, reading delivers what was buffered before it, writing
 * stops at once. The end of input is not an error. */
#include "config.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/prot_layer.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define HEADROOM 1

struct prot_state {
    struct prot_layer *top; /* NULL: memory */
    unsigned char *buf;     /* HEADROOM + PROT_BUFSIZE when reading, PROT_BUFSIZE when writing */
    uint64_t bytes;         /* reading: up to end; writing: up to the start of the buffer */
    int writing;
    int error;
    int eof;
    int logfd;
    struct prot_wait wait;
};

/* Sources other than a descriptor. */
struct fnlayer {
    struct prot_layer l;
    ssize_t (*in)(void *rock, void *p, size_t n);
    int (*out)(void *rock, const void *p, size_t n);
    void *rock;
};

static ssize_t fn_read(struct prot_layer *l, void *p, size_t n)
{
    struct fnlayer *f = (struct fnlayer *)l;
    return f->in(f->rock, p, n);
}

static int fn_write(struct prot_layer *l, const void *p, size_t n)
{
    struct fnlayer *f = (struct fnlayer *)l;
    return f->out(f->rock, p, n);
}

static void fn_free(struct prot_layer *l)
{
    free(l);
}

static struct fnlayer *fn_layer(void *rock)
{
    struct fnlayer *f = xzmalloc(sizeof(*f));
    f->l.rank = PROT_RANK_SOURCE;
    f->l.free = fn_free;
    f->rock = rock;
    return f;
}

static struct protstream *stream_new(int writing)
{
    struct protstream *s = xzmalloc(sizeof(*s));
    s->st = xzmalloc(sizeof(*s->st));
    s->st->writing = writing;
    s->st->logfd = -1;
    return s;
}

struct protstream *prot_new(int fd, int write)
{
    struct protstream *s = stream_new(write != 0);
    s->st->top = prot_fdlayer(fd, &s->st->wait);
    return s;
}

struct protstream *prot_readmem(const void *p, size_t n)
{
    struct protstream *s = stream_new(0);
    s->ptr = p;
    s->end = s->ptr + n;
    s->st->bytes = n;
    return s;
}

struct protstream *prot_readfn(ssize_t (*fn)(void *rock, void *p, size_t n), void *rock)
{
    struct protstream *s = stream_new(0);
    struct fnlayer *f = fn_layer(rock);
    f->l.read = fn_read;
    f->in = fn;
    s->st->top = &f->l;
    return s;
}

struct protstream *prot_writefn(int (*fn)(void *rock, const void *p, size_t n), void *rock)
{
    struct protstream *s = stream_new(1);
    struct fnlayer *f = fn_layer(rock);
    f->l.write = fn_write;
    f->out = fn;
    s->st->top = &f->l;
    return s;
}

void prot_free(struct protstream **sp)
{
    struct protstream *s = *sp;
    if (!s)
        return;
    s->st->wait.deadline = prot_now(); /* a last word of a layer is tried, not waited for */
    s->st->wait.peer = NULL;
    s->st->wait.fn = NULL;
    while (s->st->top) {
        struct prot_layer *l = s->st->top;
        s->st->top = l->below;
        l->free(l);
    }
    free(s->st->buf);
    free(s->st);
    free(s);
    *sp = NULL;
}

static int fail(struct protstream *s, int error)
{
    if (!s->st->error)
        s->st->error = error;
    if (s->st->writing)
        s->wptr = s->wend = NULL;
    return s->st->error;
}

/* Telemetry: a block of plain bytes, led by the time. Its failure is nobody's concern. */
static void log_bytes(struct prot_state *st, const void *p, size_t n)
{
    char head[32];
    char mark = st->writing ? '>' : '<';
    int len = snprintf(head, sizeof(head), "%c%lld%c", mark, (long long)time(NULL), mark);
    if (write(st->logfd, head, (size_t)len) < 0 || write(st->logfd, p, n) < 0)
        st->logfd = -1;
}

/* Reading */

/* Next bytes from the layers to P. The buffer must be empty. */
static ssize_t read_layers(struct protstream *s, void *p, size_t n)
{
    struct prot_state *st = s->st;
    if (st->error)
        return st->error;
    if (st->eof)
        return 0;
    if (!st->top) {
        st->eof = 1;
        return 0;
    }
    if (st->writing)
        return fail(s, XERR_INTERNAL);
    ssize_t got = st->top->read(st->top, p, n);
    if (got < 0)
        return fail(s, (int)got);
    if (!got)
        st->eof = 1;
    st->bytes += (uint64_t)got;
    if (got && st->logfd >= 0)
        log_bytes(st, p, (size_t)got);
    return got;
}

static void empty_buffer(struct protstream *s)
{
    if (!s->st->buf)
        s->st->buf = xmalloc(HEADROOM + PROT_BUFSIZE);
    s->ptr = s->end = s->st->buf + HEADROOM;
}

/* Fill the empty buffer: its new length, 0 at the end, or an error. */
static ssize_t fill(struct protstream *s)
{
    struct prot_state *st = s->st;
    if (!st->top || st->error || st->eof)
        return read_layers(s, NULL, 0);
    empty_buffer(s);
    ssize_t got = read_layers(s, st->buf + HEADROOM, PROT_BUFSIZE);
    if (got > 0)
        s->end = s->ptr + got;
    return got;
}

int prot_fill(struct protstream *s)
{
    if (fill(s) <= 0)
        return -1;
    return *s->ptr++;
}

void prot_ungetc(int c, struct protstream *s)
{
    struct prot_state *st = s->st;
    if (c < 0)
        return;
    if (!st->top) { /* the caller's memory has the byte */
        s->ptr--;
        return;
    }
    if (!s->ptr)
        empty_buffer(s);
    if (s->ptr > st->buf)
        st->buf[--s->ptr - st->buf] = (unsigned char)c;
}

ssize_t prot_read(struct protstream *s, void *p, size_t n)
{
    if (!n)
        return 0;
    if (s->ptr == s->end) {
        if (n >= PROT_BUFSIZE && s->st->top) {
            if (s->st->buf) /* keeps the room to put a byte back */
                empty_buffer(s);
            return read_layers(s, p, n > SSIZE_MAX ? SSIZE_MAX : n);
        }
        ssize_t got = fill(s);
        if (got <= 0)
            return got;
    }
    size_t have = (size_t)(s->end - s->ptr);
    if (n > have)
        n = have;
    memcpy(p, s->ptr, n);
    s->ptr += n;
    return (ssize_t)n;
}

int prot_readall(struct protstream *s, void *p, size_t n)
{
    char *to = p;
    while (n) {
        ssize_t got = prot_read(s, to, n);
        if (got < 0)
            return (int)got;
        if (!got)
            return XERR_EOF;
        to += got;
        n -= (size_t)got;
    }
    return 0;
}

uint64_t prot_bytes(const struct protstream *s)
{
    if (!s->st->writing)
        return s->st->bytes - (uint64_t)(s->end - s->ptr);
    return s->st->bytes + (s->wptr ? (uint64_t)(s->wptr - s->st->buf) : 0);
}

int prot_discard(struct protstream *s)
{
    int any = s->ptr < s->end;
    const void *p;
    s->ptr = s->end;
    for (struct prot_layer *l = s->st->top; l; l = l->below)
        if (l->giveback && l->giveback(l, &p))
            any = 1;
    return any;
}

int prot_ready(struct protstream *s)
{
    if (s->ptr < s->end || s->st->eof || s->st->error || !s->st->top)
        return 1;
    struct prot_layer *l = s->st->top;
    for (; l->below; l = l->below)
        if (l->pending && l->pending(l))
            return 1;
    return !l->pending || l->pending(l);
}

/* Writing */

static int write_layers(struct protstream *s, const void *p, size_t n)
{
    struct prot_state *st = s->st;
    if (!st->writing)
        return fail(s, XERR_INTERNAL);
    if (st->logfd >= 0)
        log_bytes(st, p, n);
    st->bytes += n;
    int r = st->top->write(st->top, p, n);
    return r ? fail(s, r) : 0;
}

/* Empty the buffer into the layers. */
static int drain(struct protstream *s)
{
    if (s->st->error)
        return s->st->error;
    size_t n = s->wptr ? (size_t)(s->wptr - s->st->buf) : 0;
    if (!n)
        return 0;
    s->wptr = s->st->buf;
    return write_layers(s, s->st->buf, n);
}

int prot_write(struct protstream *s, const void *p, size_t n)
{
    struct prot_state *st = s->st;
    const char *from = p;
    if (st->error)
        return st->error;
    while (n > (size_t)(s->wend - s->wptr)) {
        if (n >= PROT_BUFSIZE && (!s->wptr || s->wptr == st->buf))
            return write_layers(s, from, n);
        if (!st->writing)
            return fail(s, XERR_INTERNAL);
        if (!st->buf) {
            st->buf = xmalloc(PROT_BUFSIZE);
            s->wptr = st->buf;
            s->wend = st->buf + PROT_BUFSIZE;
            continue;
        }
        size_t room = (size_t)(s->wend - s->wptr);
        memcpy(s->wptr, from, room);
        s->wptr += room;
        from += room;
        n -= room;
        int r = drain(s);
        if (r)
            return r;
    }
    if (n) {
        memcpy(s->wptr, from, n);
        s->wptr += n;
    }
    return 0;
}

int prot_puts(struct protstream *s, const char *str)
{
    return prot_write(s, str, strlen(str));
}

int prot_vprintf(struct protstream *s, const char *fmt, va_list ap)
{
    char small[512];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof(small), fmt, ap), r;
    if (n < 0) {
        r = fail(s, XERR_INTERNAL);
    } else if ((size_t)n < sizeof(small)) {
        r = prot_write(s, small, (size_t)n);
    } else {
        char *large = xmalloc((size_t)n + 1);
        vsnprintf(large, (size_t)n + 1, fmt, again);
        r = prot_write(s, large, (size_t)n);
        free(large);
    }
    va_end(again);
    return r;
}

int prot_printf(struct protstream *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int r = prot_vprintf(s, fmt, ap);
    va_end(ap);
    return r;
}

int prot_flush(struct protstream *s)
{
    int r = drain(s);
    for (struct prot_layer *l = s->st->top; l && !r; l = l->below)
        if (l->flush && (r = l->flush(l)))
            fail(s, r);
    return r;
}

/* State and waiting */

int prot_error(const struct protstream *s)
{
    return s->st->error;
}

int prot_eof(const struct protstream *s)
{
    return s->st->eof;
}

void prot_settimeout(struct protstream *s, int seconds)
{
    s->st->wait.timeout = seconds;
}

void prot_setdeadline(struct protstream *s, int64_t ms)
{
    s->st->wait.deadline = ms < 0 ? 0 : prot_now() + ms;
}

void prot_setwait(struct protstream *s, struct protstream *peer, int tick_ms,
                  int (*fn)(void *rock), void *rock)
{
    struct prot_wait *w = &s->st->wait;
    w->peer = peer;
    w->tick = tick_ms;
    w->fn = fn;
    w->rock = rock;
}

void prot_setlog(struct protstream *s, int fd)
{
    if (s->st->writing)
        (void)drain(s); /* what was written before is not part of it */
    s->st->logfd = fd;
}

/* Layers */

struct prot_layer *prot_under(const struct protstream *s, enum prot_rank rank)
{
    struct prot_layer *l = s->st->top;
    while (l && l->rank >= rank)
        l = l->below;
    return l;
}

int prot_haslayer(const struct protstream *s, enum prot_rank rank)
{
    return s->st->top && s->st->top->rank >= rank;
}

/* Received bytes that the new LAYER, to be set below ABOVE (NULL: the buffer), has to read. */
static int move_received(struct protstream *s, struct prot_layer *above, struct prot_layer *layer)
{
    const void *p = s->ptr;
    size_t n = (size_t)(s->end - s->ptr);
    if (n && (above || !layer->preload))
        return XERR_FORMAT;
    if (above) {
        if (above->pending && above->pending(above))
            return XERR_FORMAT;
        n = above->giveback ? above->giveback(above, &p) : 0;
        if (n && !layer->preload)
            return XERR_FORMAT;
    }
    if (n)
        layer->preload(layer, p, n);
    if (!above) {
        s->st->bytes -= n; /* they come again, decoded */
        s->ptr = s->end;
    }
    return 0;
}

int prot_addlayer(struct protstream *s, struct prot_layer *layer)
{
    struct prot_layer **at = &s->st->top, *above = NULL;
    for (; *at && (*at)->rank > layer->rank; at = &(*at)->below)
        above = *at;
    int r = !*at || (*at)->rank == layer->rank ? XERR_PARAM : 0;
    if (!r)
        r = s->st->writing ? prot_flush(s) : move_received(s, above, layer);
    if (r) {
        layer->free(layer);
        return r;
    }
    layer->below = *at;
    *at = layer;
    return 0;
}

const char *prot_compression(const struct protstream *s)
{
    return prot_haslayer(s, PROT_RANK_DEFLATE) ? "DEFLATE" : NULL;
}
