/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* One vocabulary of errors for the whole tree. A function that can fail returns 0 (or a count >= 0)
 * for success, -errno for what the operating system said, or one of the codes below. */
#ifndef LIB_XERR_H
#define LIB_XERR_H

enum {
    XERR_FIRST = -20000,
    XERR_EOF = XERR_FIRST, /* input ended where more was needed */
    XERR_FORMAT,           /* data that cannot be what it should be: damaged or foreign */
    XERR_VERSION,          /* written by a newer version */
    XERR_NOTFOUND,         /* no such key, user, message */
    XERR_EXISTS,           /* there already */
    XERR_LOCKED,           /* somebody else holds the lock */
    XERR_TOOBIG,           /* over a configured or built-in bound */
    XERR_SYNTAX,           /* text that does not parse */
    XERR_PARAM,            /* parses, but a key is missing or a value is wrong */
    XERR_CONFIG,           /* configuration: unusable or missing */
    XERR_CRYPTO,           /* TLS or SASL layer failed */
    XERR_SQL,              /* SQLite said no; the text is in syslog */
    XERR_STALE,            /* the thing was replaced meanwhile, again and again: open it again */
    XERR_BROKEN,           /* an earlier failure left this handle unusable */
    XERR_DENIED,           /* not allowed to this user */
    XERR_SIGNAL,           /* asked to stop */
    XERR_TIMEOUT,          /* nothing arrived in time */
    XERR_UNKNOWN,          /* there is something that nobody names: somebody has to look first */
    XERR_INTERNAL,         /* cannot happen */
    XERR_LAST = XERR_INTERNAL
};

/* A short English text for R (0, -errno or XERR_*), never NULL, static or thread-local. */
const char *error_message(int r);

#endif
