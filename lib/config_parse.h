/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The syntax of imapd.conf: from files to a list of keys and values, before any meaning. */
#ifndef LIB_CONFIG_PARSE_H
#define LIB_CONFIG_PARSE_H

#include <stddef.h>

#include "lib/buf.h"
#include "lib/strarray.h"

struct config_entry {
    char *key;   /* lower case; [a-z0-9_-]+ */
    char *value; /* trimmed, never empty */
    const char *file;
    unsigned line; /* where it begins */
};

struct config_entries {
    size_t count;
    size_t alloc;
    struct config_entry *data; /* in the order of the file, includes in their place */
    struct strarray files;     /* every file read, as it was named */
};
#define CONFIG_ENTRIES_INITIALIZER {0, 0, NULL, STRARRAY_INITIALIZER}

/* Read FILE and what it includes. 0, or XERR_CONFIG and a text for the administrator in *ERR.
 * Whatever comes out is released by config_entries_fini(). */
int config_parse(const char *file, struct config_entries *, struct buf *err);
void config_entries_fini(struct config_entries *);

#endif
