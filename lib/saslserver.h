/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The server's side of AUTHENTICATE: SASL library set-up from imapd.conf, the exchange on a pair of
 * streams, and who is an administrator (base64 lines, "+ " challenges). */
#ifndef LIB_SASLSERVER_H
#define LIB_SASLSERVER_H

#include "lib/buf.h"
#include "lib/libconfig.h"
#include "lib/prot.h"

struct saslserver;

enum saslserver_result {
    SASLSERVER_OK,
    SASLSERVER_FAILED,   /* refused; answer NO with the text */
    SASLSERVER_CANCELED, /* client sent "*" */
    SASLSERVER_LOST      /* connection gone or line unreadable; the text is for a NO */
};

/* The configuration must live as long. SERVICE is "csync". LOCAL and REMOTE are "addr;port" or
 * NULL. One per connection; the library itself is initialised at the first. 0 or XERR_CRYPTO with
 * the reason in ERR. */
int saslserver_new(const struct config *, const char *service, const char *local,
                   const char *remote, struct saslserver **, struct buf *err);
void saslserver_free(struct saslserver **);
/* A layer of BITS is active (1: it keeps data unchanged, but not secret), and it is TLS if TLS is
 * set; PEER_CN, if not "", is the verified client certificate's name (mechanism EXTERNAL). */
int saslserver_setexternal(struct saslserver *, int bits, int tls, const char *peer_cn);
/* After that: a channel binding of the layer. The client chooses one by its name; the mechanisms
 * that need one are offered for the first. At most two, of at most 64 bytes: 0 or XERR_PARAM. */
int saslserver_addbinding(struct saslserver *, const char *name, const void *data, unsigned len);
/* Mechanisms usable now, separated by blanks; "" if none. */
const char *saslserver_mechs(struct saslserver *);
/* The exchange. INITIAL: base64 text, "=" or NULL. TEXT: what to say after the reply word (OK,
 * NO, or BAD if canceled). After a failure, behind which the caller should pause, the context is
 * new and another attempt may follow. */
enum saslserver_result saslserver_authenticate(struct saslserver *, struct protstream *in,
                                               struct protstream *out, const char *mech,
                                               const char *initial, struct buf *text);
/* After OK: who it is (authorisation id), 1 if an administrator (never when acting for another). */
const char *saslserver_userid(const struct saslserver *);
int saslserver_isadmin(const struct saslserver *);
/* Mechanism used. */
const char *saslserver_mech(const struct saslserver *);
/* What the library says of the last failure, for the log; "" if nothing. */
const char *saslserver_errdetail(struct saslserver *);
/* Put the negotiated security layer, if any, into the streams (after the OK was flushed). */
int saslserver_setlayer(struct saslserver *, struct protstream *in, struct protstream *out);

#endif
