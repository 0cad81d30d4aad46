/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* prot_tls_layer - TLS as a layer of a pair of streams, for either role.
 *
 * OpenSSL does its input and output through a BIO of ours that calls the layers below, which block
 * until there is something; so OpenSSL never asks to be called again, and timeouts and signals end
 * a handshake or a read as they end any other wait. The error is kept in the BIO's state because
 * OpenSSL's own error values cannot carry it.
 *
 * TLS is the lowest layer, so reading ahead takes nothing from anybody; it saves two system calls
 * for each record. One SSL object serves both directions: each layer holds a reference, and the BIO
 * forgets a direction when its layer goes. The writing layer says goodbye (close_notify) when it is
 * freed. A peer that closes without it is taken to be at the end of input: commands and literals
 * have lengths of their own, so nothing can be cut off unseen. */
#include "config.h"

#include <limits.h>
#include <stdlib.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "lib/prot_layer.h"
#include "lib/prot_tls.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* State of the BIO. */
struct tlsio {
    BIO_METHOD *method;
    struct prot_layer *in;
    struct prot_layer *out;
    int eof;
    int in_error;
    int out_error; /* apart, because OpenSSL reports a bad end of input to a peer that is gone */
};

struct tlslayer {
    struct prot_layer l;
    SSL *ssl;
    struct tlsio *io; /* lives as long as SSL */
};

static int io_read(BIO *bio, char *p, int n)
{
    struct tlsio *io = BIO_get_data(bio);
    if (!io->in || io->in_error || n <= 0)
        return -1;
    ssize_t got = io->in->read(io->in, p, (size_t)n);
    if (got < 0)
        io->in_error = (int)got;
    else if (!got)
        io->eof = 1;
    return got < 0 ? -1 : (int)got;
}

static int io_write(BIO *bio, const char *p, int n)
{
    struct tlsio *io = BIO_get_data(bio);
    if (!io->out || io->out_error || n < 0)
        return -1;
    int r = io->out->write(io->out, p, (size_t)n);
    if (r)
        io->out_error = r;
    return r ? -1 : n;
}

static long io_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    struct tlsio *io = BIO_get_data(bio);
    (void)num;
    (void)ptr;
    if (cmd == BIO_CTRL_FLUSH)
        return 1;
    return cmd == BIO_CTRL_EOF ? io->eof : 0;
}

static int io_destroy(BIO *bio)
{
    struct tlsio *io = BIO_get_data(bio);
    if (io)
        BIO_meth_free(io->method);
    free(io);
    BIO_set_data(bio, NULL);
    return 1;
}

/* The state of SSL's BIO, if it is ours. */
static struct tlsio *io_of(const SSL *ssl)
{
    BIO *bio = SSL_get_rbio(ssl);
    if (!bio || bio != SSL_get_wbio(ssl) || BIO_method_type(bio) != BIO_TYPE_SOURCE_SINK)
        return NULL;
    return BIO_get_data(bio);
}

int prot_tls_attach(struct protstream *in, struct protstream *out, struct ssl_st *ssl)
{
    struct prot_layer *lin = prot_under(in, PROT_RANK_TLS), *lout = prot_under(out, PROT_RANK_TLS);
    if (!lin || !lout || prot_haslayer(in, PROT_RANK_TLS) || prot_haslayer(out, PROT_RANK_TLS))
        return XERR_PARAM;
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "prot");
    BIO *bio = method ? BIO_new(method) : NULL;
    if (!bio) {
        BIO_meth_free(method);
        return XERR_CRYPTO;
    }
    struct tlsio *io = xzmalloc(sizeof(*io));
    io->method = method;
    io->in = lin;
    io->out = lout;
    BIO_set_data(bio, io);
    BIO_set_init(bio, 1);
    BIO_meth_set_read(method, io_read);
    BIO_meth_set_write(method, io_write);
    BIO_meth_set_ctrl(method, io_ctrl);
    BIO_meth_set_destroy(method, io_destroy);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_read_ahead(ssl, 1);
    return 0;
}

int prot_tls_error(const struct ssl_st *ssl)
{
    const struct tlsio *io = io_of(ssl);
    if (!io)
        return XERR_CRYPTO;
    int r = io->in_error ? io->in_error : io->eof ? XERR_EOF : io->out_error;
    return r ? r : XERR_CRYPTO;
}

static ssize_t tls_read(struct prot_layer *l, void *p, size_t n)
{
    struct tlslayer *t = (struct tlslayer *)l;
    size_t got = 0;
    ERR_clear_error();
    int r = SSL_read_ex(t->ssl, p, n < INT_MAX ? n : INT_MAX, &got);
    if (r == 1)
        return (ssize_t)got;
    if (SSL_get_error(t->ssl, r) == SSL_ERROR_ZERO_RETURN)
        return 0;
    r = prot_tls_error(t->ssl);
    return r == XERR_EOF ? 0 : r;
}

static int tls_pending(struct prot_layer *l)
{
    return SSL_has_pending(((struct tlslayer *)l)->ssl);
}

static int tls_write(struct prot_layer *l, const void *p, size_t n)
{
    struct tlslayer *t = (struct tlslayer *)l;
    const char *from = p;
    while (n) {
        size_t put = 0;
        ERR_clear_error();
        if (SSL_write_ex(t->ssl, from, n < INT_MAX ? n : INT_MAX, &put) != 1)
            return t->io->out_error ? t->io->out_error : XERR_CRYPTO;
        from += put;
        n -= put;
    }
    return 0;
}

static void tls_free_in(struct prot_layer *l)
{
    struct tlslayer *t = (struct tlslayer *)l;
    t->io->in = NULL;
    SSL_free(t->ssl);
    free(t);
}

static void tls_free_out(struct prot_layer *l)
{
    struct tlslayer *t = (struct tlslayer *)l;
    ERR_clear_error();
    if (!t->io->in_error && !t->io->out_error)
        (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
    t->io->out = NULL;
    SSL_free(t->ssl);
    free(t);
}

static struct tlslayer *tls_layer(SSL *ssl)
{
    struct tlslayer *t = xzmalloc(sizeof(*t));
    t->l.rank = PROT_RANK_TLS;
    SSL_up_ref(ssl);
    t->ssl = ssl;
    t->io = io_of(ssl);
    return t;
}

int prot_settls(struct protstream *in, struct protstream *out, struct ssl_st *ssl)
{
    if (!io_of(ssl)) {
        int r = prot_tls_attach(in, out, ssl);
        if (r)
            return r;
    }
    struct tlslayer *tin = tls_layer(ssl), *tout = tls_layer(ssl);
    tin->l.read = tls_read;
    tin->l.pending = tls_pending;
    tin->l.free = tls_free_in;
    tout->l.write = tls_write;
    tout->l.free = tls_free_out;
    int r = prot_addlayer(in, &tin->l);
    if (r)
        tout->l.free(&tout->l);
    else
        r = prot_addlayer(out, &tout->l);
    return r;
}
