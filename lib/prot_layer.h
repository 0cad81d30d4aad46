/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What prot streams are made of, for those who write a layer (prot_fd, prot_tls, prot_sasl,
 * prot_deflate). Others use lib/prot.h. */
#ifndef LIB_PROT_LAYER_H
#define LIB_PROT_LAYER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/prot.h"

/* Size of a buffer, be it of a stream or of a layer. */
#define PROT_BUFSIZE 65536

/* Order from the descriptor upwards, whatever the order in which layers begin. */
enum prot_rank { PROT_RANK_SOURCE, PROT_RANK_TLS, PROT_RANK_SASL, PROT_RANK_DEFLATE };

/* One direction of one layer; embedded as the first member of the layer's own struct. Functions
 * that make no sense for it are NULL. Errors are negative (XERR_*, -errno). */
struct prot_layer {
    struct prot_layer *below;
    enum prot_rank rank;
    /* Waits until there is something; 1..N bytes, 0 at the end of input. */
    ssize_t (*read)(struct prot_layer *, void *p, size_t n);
    /* Takes all N bytes; may keep some until flush. */
    int (*write)(struct prot_layer *, const void *p, size_t n);
    /* Hands what is kept to the layer below (whose flush is called by the stream). */
    int (*flush)(struct prot_layer *);
    /* 1 if a read would be answered without one below. */
    int (*pending)(struct prot_layer *);
    /* Give up bytes taken from below and not yet used; valid until the next call. Their count. */
    size_t (*giveback)(struct prot_layer *, const void **p);
    /* Bytes that come before those from below, in the form that this layer reads. */
    void (*preload)(struct prot_layer *, const void *p, size_t n);
    /* Release LAYER itself; BELOW is still there. */
    void (*free)(struct prot_layer *);
};

/* How a stream waits; kept by the stream, used by the descriptor's layer. */
struct prot_wait {
    int timeout;      /* seconds, 0: for ever */
    int64_t deadline; /* prot_now() at which all waiting ends, 0: none */
    int tick;         /* milliseconds, 0: none */
    int (*fn)(void *rock);
    void *rock;
    struct protstream *peer;
};
/* Monotonic milliseconds. */
int64_t prot_now(void);
/* The layer over descriptor FD (not closed); WAIT must live as long. */
struct prot_layer *prot_fdlayer(int fd, const struct prot_wait *wait);

/* The layer that one of RANK would stand on. NULL for streams over memory. */
struct prot_layer *prot_under(const struct protstream *, enum prot_rank rank);
/* 1 if a layer of RANK or above is active. */
int prot_haslayer(const struct protstream *, enum prot_rank rank);
/* Set LAYER into the stream at its rank. A writing stream is flushed before; of a reading stream
 * the raw bytes that are buffered go into LAYER. The stream owns LAYER, at failure too. XERR_PARAM:
 * the place is taken or the stream has no layers. XERR_FORMAT: a layer above has bytes which have
 * been decoded and cannot go back. */
int prot_addlayer(struct protstream *, struct prot_layer *);
/* All waiting of the stream ends MS milliseconds from now; negative: no such limit. */
void prot_setdeadline(struct protstream *, int64_t ms);

#endif
