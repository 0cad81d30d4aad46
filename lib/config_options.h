/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The table of known imapd.conf options, and how a value's text becomes a value. Inner parts of
 * libconfig; programs include lib/libconfig.h. */
#ifndef LIB_CONFIG_OPTIONS_H
#define LIB_CONFIG_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/libconfig.h"

enum config_type {
    CONFIG_STRING,     /* anything */
    CONFIG_INT,        /* a C integer: 10, 0x10, 010 */
    CONFIG_SWITCH,     /* told by the first letters: 0 n of f, 1 y on t */
    CONFIG_ENUM,       /* one of the words; "yes" and the like mean "on" */
    CONFIG_STRINGLIST, /* one of the words */
    CONFIG_BITFIELD,   /* any of the words, blank separated */
    CONFIG_DURATION,   /* config_parseduration() */
    CONFIG_BYTESIZE,   /* config_parsebytesize() */
};

struct config_option {
    const char *name;
    enum config_type type;
    const char *def;   /* text of the default, or NULL */
    const char *words; /* ENUM, STRINGLIST, BITFIELD: blank separated */
    char unit;         /* DURATION, BYTESIZE: unit of a bare number */
};

/* Indexed by enum imapopt; entry 0 is empty. */
extern const struct config_option config_options[IMAPOPT_LAST];

/* A name that still works, but should be written otherwise. */
struct config_deprecation {
    enum imapopt old;
    const char *since; /* version of Cyrus IMAP that deprecated it */
    enum imapopt use;  /* successor, or IMAPOPT_ZERO */
};
/* Ends with old == IMAPOPT_ZERO. */
extern const struct config_deprecation config_deprecations[];

/* The option called NAME (lower case), or IMAPOPT_ZERO. */
enum imapopt config_optionbyname(const char *name);

/* Read TEXT as a value of OPT: 0 and the number in *OUT (STRING: 0; SWITCH: 0 or 1; ENUM,
 * STRINGLIST: index of the word; BITFIELD: bit n for word n; INT; seconds; bytes), or XERR_SYNTAX
 * and in *WHY what a value should look like. */
int config_parsevalue(const struct config_option *opt, const char *text, int64_t *out,
                      struct buf *why);

#endif
