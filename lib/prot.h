/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Buffered protocol streams, one per direction, with layers underneath: TLS, SASL, DEFLATE
 * (compression inside SASL inside TLS). A reading stream can also come from memory or from a
 * function, so that one parser serves the network and files. */
#ifndef LIB_PROT_H
#define LIB_PROT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct protstream {
    const unsigned char *ptr; /* reading: next byte; only for the inline functions below */
    const unsigned char *end;
    unsigned char *wptr; /* writing */
    unsigned char *wend;
    struct prot_state *st;
};

/* WRITE non-zero: a writing stream. The descriptor is not closed by prot_free, which does not flush
 * either. */
struct protstream *prot_new(int fd, int write);
/* A reading stream over N bytes at P, which stay the caller's. */
struct protstream *prot_readmem(const void *p, size_t n);
/* A reading stream over FN, which returns a count, 0 at the end, or a negative error. */
struct protstream *prot_readfn(ssize_t (*fn)(void *rock, void *p, size_t n), void *rock);
/* A writing stream over FN, which takes all N bytes: 0 or a negative error. */
struct protstream *prot_writefn(int (*fn)(void *rock, const void *p, size_t n), void *rock);
void prot_free(struct protstream **);

/* Next byte or -1 (EOF) at end of input or on error (then prot_error is non-zero). */
int prot_fill(struct protstream *);
static inline int prot_getc(struct protstream *s)
{
    return s->ptr < s->end ? *s->ptr++ : prot_fill(s);
}
/* Put back the byte just read; one byte is guaranteed. C of -1 is ignored. */
void prot_ungetc(int c, struct protstream *s);
static inline int prot_peek(struct protstream *s)
{
    int c = prot_getc(s);
    prot_ungetc(c, s);
    return c;
}
/* At most N bytes; 0 at the end; a negative error. Returns what is buffered before it waits. */
ssize_t prot_read(struct protstream *, void *p, size_t n);
/* Exactly N bytes, or XERR_EOF or another error. */
int prot_readall(struct protstream *, void *p, size_t n);
/* Bytes consumed so far (reading) or accepted so far (writing). */
uint64_t prot_bytes(const struct protstream *);
/* Drop what has been received but not read (before STARTTLS), then 1 if there was any. */
int prot_discard(struct protstream *);
/* 1 if a read would not wait (with TLS or SASL it may still, for the rest of a packet). */
int prot_ready(struct protstream *);

static inline int prot_putc(int c, struct protstream *s);
int prot_write(struct protstream *, const void *p, size_t n);
int prot_puts(struct protstream *, const char *str);
int prot_printf(struct protstream *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int prot_vprintf(struct protstream *, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
/* Everything written so far leaves the process (with a sync flush of DEFLATE). */
int prot_flush(struct protstream *);
static inline int prot_putc(int c, struct protstream *s)
{
    if (s->wptr < s->wend) {
        *s->wptr++ = (unsigned char)c;
        return 0;
    }
    unsigned char b = (unsigned char)c;
    return prot_write(s, &b, 1);
}

/* First error (XERR_*, -errno) or 0; sticky. Reading at the end of input is no error. */
int prot_error(const struct protstream *);
/* 1 once the end of input was met. */
int prot_eof(const struct protstream *);
/* Seconds to wait in a read or write before XERR_TIMEOUT; 0: for ever. */
void prot_settimeout(struct protstream *, int seconds);
/* Before each wait for input, and every TICK milliseconds while waiting: FN; non-zero ends the read
 * with XERR_SIGNAL. Reading flushes PEER (the writing stream of the same connection) first. */
void prot_setwait(struct protstream *, struct protstream *peer, int tick_ms,
                  int (*fn)(void *rock), void *rock);
/* Copies of the plain bytes go to FD (telemetry); -1 ends it. */
void prot_setlog(struct protstream *, int fd);

/* Layers. From the next byte on, in both directions. Writing is flushed before; what was received
 * and not read goes into a SASL or DEFLATE layer, and is an error (XERR_FORMAT) for TLS. 0 or an
 * error; XERR_PARAM if there is such a layer, or for TLS any, already. The layers hold references
 * of SSL (whose handshake is done); CONN stays the caller's and must outlive the streams. */
struct ssl_st;
struct sasl_conn;
int prot_settls(struct protstream *in, struct protstream *out, struct ssl_st *ssl);
int prot_setsasl(struct protstream *in, struct protstream *out, struct sasl_conn *conn);
int prot_setcompress(struct protstream *in, struct protstream *out);
/* "DEFLATE" or NULL. */
const char *prot_compression(const struct protstream *);

#endif
