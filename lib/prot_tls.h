/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* TLS for a server, by OpenSSL, from the tls_* options. */
#ifndef LIB_PROT_TLS_H
#define LIB_PROT_TLS_H

#include "lib/buf.h"
#include "lib/libconfig.h"
#include "lib/prot.h"

struct tls_server;

/* 1 if a certificate is configured (tls_server_cert, and neither it nor the key "disabled"). */
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
    unsigned char binding[64]; /* channel binding: tls-exporter (1.3) or tls-unique */
    unsigned binding_len;
    const char *binding_name;
};
/* Handshake on the streams' descriptors within SECONDS, then put the layer into both. */
int tls_server_accept(struct tls_server *, struct protstream *in, struct protstream *out,
                      int infd, int outfd, int seconds, struct tls_info *, struct buf *err);

#endif
