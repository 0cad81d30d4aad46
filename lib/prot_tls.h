/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* TLS for a server, by OpenSSL, from the tls_* options. */
#ifndef LIB_PROT_TLS_H
#define LIB_PROT_TLS_H

#include "lib/buf.h"
#include "lib/libconfig.h"
#include "lib/prot.h"

struct tls_server;

/* 1 if a certificate is configured (tls_server_cert, and neither it nor the key "disabled"; without
 * tls_server_key the key is in the certificate's file). */
int tls_enabled(const struct config *);
/* Load certificate, key, CAs, CRL, versions, ciphers, curves. 0 or XERR_CONFIG/XERR_CRYPTO with the
 * reason in ERR. SESSION_CONTEXT: a name that separates this service's sessions from others. */
int tls_server_new(const struct config *, const char *session_context, struct tls_server **,
                   struct buf *err);
void tls_server_free(struct tls_server **);

struct tls_info {
    int bits;              /* strength of the cipher */
    char protocol[16];     /* "TLSv1.3" */
    char cipher[64];
    char peer_cn[256];     /* common name of a verified client certificate, or "" */
    /* Channel bindings, first the one that the version is meant to have. None without the extended
     * master secret, as they would not be unique. */
    struct tls_binding {
        const char *name; /* "tls-exporter", "tls-unique" */
        unsigned char data[64];
        unsigned len;
    } bindings[2];
    int nbindings;
};
/* Flush OUT, drop what IN has buffered (plain text behind STARTTLS could be anybody's), handshake
 * through the streams within SECONDS, then put the layer into both. On failure the error
 * (XERR_CRYPTO if TLS itself failed) with the reason in ERR; the connection is useless then. */
int tls_server_accept(struct tls_server *, struct protstream *in, struct protstream *out,
                      int seconds, struct tls_info *, struct buf *err);

/* For both roles: let SSL read and write through the streams. Before SSL_accept or SSL_connect;
 * prot_settls follows the handshake. 0, XERR_PARAM (there is a layer already), XERR_CRYPTO. */
struct ssl_st;
int prot_tls_attach(struct protstream *in, struct protstream *out, struct ssl_st *ssl);
/* What a failed operation of SSL means: the stream's error, XERR_EOF, or XERR_CRYPTO for TLS's. */
int prot_tls_error(const struct ssl_st *ssl);
/* Append what OpenSSL's queue of errors says and empty it. */
void prot_tls_reason(struct buf *err);

#endif
