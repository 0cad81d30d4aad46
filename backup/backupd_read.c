/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_read - arguments of commands. */
#include "config.h"

#include <string.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"

int backupd_at_end(struct backupd *d)
{
    int c = dlist_reader_peek(d->reader);
    return c < 0 ? c : c == '\r' || c == '\n' ? 0 : BACKUPD_EXTRA;
}

int backupd_read_string(struct backupd *d, struct buf *s)
{
    int c = dlist_reader_peek(d->reader);
    if (c < 0)
        return c;
    if (c == '\r' || c == '\n')
        return XERR_SYNTAX;
    int r = dlist_reader_astring(d->reader, s, d->max_text);
    if (!r)
        r = backupd_at_end(d);
    return r ? r : memchr(buf_cstring(s), '\0', s->len) ? XERR_PARAM : 0;
}
