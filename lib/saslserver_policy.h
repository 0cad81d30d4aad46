/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Who is who, and who may do what: the part of login that needs no SASL library. */
#ifndef LIB_SASLSERVER_POLICY_H
#define LIB_SASLSERVER_POLICY_H

#include <stddef.h>

#include "lib/buf.h"
#include "lib/libconfig.h"

/* Longest user id. */
#define SASL_POLICY_MAXUSER 80

/* The canonical form of user id IN (LEN bytes) to OUT (SIZE bytes with the NUL). LOCAL is this
 * end's "addr;port" or NULL (its name gives the domain with virtdomains: on). Its length, or a
 * negative error: XERR_TOOBIG, XERR_SYNTAX (impossible or reserved id). */
int sasl_policy_canonify(const struct config *, const char *local, const char *in, size_t len,
                         char *out, size_t size);
/* 1 if the canonical USERID is in the list of words of option admins (or proxyservers): the id
 * itself, "anyone", or "group:NAME" of a Unix group. */
int sasl_policy_isin(const struct config *, enum imapopt list, const char *userid);
/* May AUTHID log in, and as AUTHZID? Both canonical. 0, or XERR_DENIED with the reason for the log
 * in WHY. */
int sasl_policy_authorize(const struct config *, const char *authid, const char *authzid,
                          struct buf *why);

#endif
