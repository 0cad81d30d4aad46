/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* imapd.conf: a context that is read once. Syntax, types, includes, overrides by service name and
 * unknown ("overflow") keys as in Cyrus IMAP. Options are an enum; the table of names, types and
 * defaults is in config_options.c. */
#ifndef LIB_LIBCONFIG_H
#define LIB_LIBCONFIG_H

#include <stdint.h>

#include "lib/buf.h"

struct config;

enum imapopt {
    IMAPOPT_ZERO = 0,
#define IMAPOPT(id, name, type, def, words, unit) IMAPOPT_##id,
#include "lib/config_options.def"
#undef IMAPOPT
    IMAPOPT_LAST
};

/* Read FILE (NULL: /etc/imapd.conf; CYRUS_PREFIX is honoured) as IDENT (service entry or program
 * name, which selects <ident>_<option> overrides). On failure returns XERR_CONFIG and a text for
 * the administrator, naming file, line and option, in *ERR. Applies umask. In the
 * environment, CYRUS_SYSLOG_PREFIX, CYRUS_USER and CYRUS_GROUP take the place of the options of
 * these names. */
int config_open(const char *file, const char *ident, struct config **, struct buf *err);
void config_free(struct config **);

/* Value or default; NULL if there is neither. Type must fit. {configdirectory} is expanded. */
const char *config_getstring(const struct config *, enum imapopt);
int config_getint(const struct config *, enum imapopt);
int config_getswitch(const struct config *, enum imapopt);
/* Index of the word in the option's list of words (ENUM and STRINGLIST). config_getstring() of such
 * an option is the text as written, which may be "yes" for "on". */
int config_getenum(const struct config *, enum imapopt);
/* Seconds. */
int64_t config_getduration(const struct config *, enum imapopt);
/* Bytes. */
int64_t config_getbytesize(const struct config *, enum imapopt);
/* 1 if the administrator set it. */
int config_isset(const struct config *, enum imapopt);
/* A key outside the table (sasl_*, backuppartition-*): <ident>_<key> first, then <key>, then DEF. */
const char *config_getoverflowstring(const struct config *, const char *key, const char *def);
/* Every overflow key (lower case) and value, in the order of the file. */
void config_foreachoverflow(const struct config *, void (*fn)(const char *key, const char *value,
                                                              void *rock), void *rock);
const char *config_ident(const struct config *);
const char *config_file(const struct config *);
/* Servername, or the host name. */
const char *config_servername(const struct config *);
/* Deprecated options that were set, one warning text each (to be logged at start). */
void config_foreachwarning(const struct config *, void (*fn)(const char *text, void *rock),
                           void *rock);

/* "1d12h", "-3d", "90" (UNIT: 's', 'm', 'h', 'd'): seconds to *OUT, 0 or XERR_SYNTAX. */
int config_parseduration(const char *s, char unit, int64_t *out);
/* "4 MiB", "100k", "12" (UNIT: 'B', 'K', 'M', 'G'): bytes to *OUT, 0 or XERR_SYNTAX. */
int config_parsebytesize(const char *s, char unit, int64_t *out);

#endif
