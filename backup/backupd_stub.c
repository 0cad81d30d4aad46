/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_stub - a command layer that keeps nothing, to test sessions without a store: GET answers
 * with a line that repeats the name, APPLY with OK, once the command was read whole. */
#include "config.h"

#include <stdlib.h>

#include "backup/backupd_command.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

struct backupd {
    struct protstream *out;
    struct dlist_reader *reader;
};

int backupd_check(const struct config *config, struct buf *err)
{
    (void)config;
    (void)err;
    return 0;
}

int backupd_open(struct service *service, struct protstream *in, struct protstream *out,
                 struct dlist_reader *reader, struct backupd **bp)
{
    (void)service;
    (void)in;
    *bp = xzmalloc(sizeof(**bp));
    (*bp)->out = out;
    (*bp)->reader = reader;
    return 0;
}

static enum backupd_next command(struct backupd *b, int get)
{
    struct buf name = BUF_INITIALIZER;
    int r = dlist_reader_word(b->reader, &name, 64);
    if (!r)
        r = dlist_reader_skip(b->reader);
    if (!r)
        r = dlist_reader_eol(b->reader);
    if (!r && get)
        prot_printf(b->out, "* STUB %s\r\n", buf_cstring(&name));
    if (!r)
        prot_puts(b->out, "OK Success\r\n");
    else if (!(r = dlist_reader_resync(b->reader)))
        prot_printf(b->out, "BAD IMAP_PROTOCOL_ERROR Failed to parse %s line\r\n",
                    get ? "GET" : "APPLY");
    buf_free(&name);
    return r ? BACKUPD_CLOSE : BACKUPD_CONTINUE;
}

enum backupd_next backupd_get(struct backupd *b)
{
    return command(b, 1);
}

enum backupd_next backupd_apply(struct backupd *b)
{
    return command(b, 0);
}

int backupd_restart(struct backupd *b)
{
    (void)b;
    return 0;
}

void backupd_release(struct backupd *b)
{
    (void)b;
}

void backupd_close(struct backupd **bp)
{
    free(*bp);
    *bp = NULL;
}
