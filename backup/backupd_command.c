/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_command - GET and APPLY: dispatch, and how results become replies.
 *
 * A command's function returns 0, an answer of imap/sync_reply.h or backupd_int.h, or an error of
 * the library. Whatever it left unread of the command is skipped, announced bodies included, before
 * the reply is written. What a client can do nothing about (disk full, no permission, no partition)
 * is answered with IMAP_MAILBOX_LOCKED, after a pause: that is the one answer after which every
 * client comes again later without making things worse. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* Seconds that a command may wait for locks, whatever is configured. */
#define LOCK_WAIT_MAX 600

static int stopping(void *rock)
{
    return service_signals(rock) == SERVICE_STOP;
}

/* Others read our silence as an end of the connection after sync_timeout. */
static int lock_wait_ms(const struct config *c)
{
    int64_t most = config_getduration(c, IMAPOPT_SYNC_TIMEOUT) / 4;
    int64_t wait = config_getduration(c, IMAPOPT_BACKUP_LOCK_WAIT);
    if (most < 1)
        most = 1;
    if (most > LOCK_WAIT_MAX)
        most = LOCK_WAIT_MAX;
    return (int)(wait < 0 ? 0 : wait > most ? most : wait) * 1000;
}

int backupd_check(const struct config *config, struct buf *err)
{
    struct lcb_store *store = NULL;
    int r = lcb_store_open(config, NULL, &store, err);
    lcb_store_close(&store);
    return r == XERR_CONFIG ? r : 0;
}

int backupd_open(struct service *service, struct protstream *in, struct protstream *out,
                 struct dlist_reader *reader, struct backupd **dp)
{
    struct backupd *d = xzmalloc(sizeof(*d));
    struct buf err = BUF_INITIALIZER;
    d->service = service;
    d->config = service->config;
    d->in = in;
    d->out = out;
    d->reader = reader;
    d->lock_wait_ms = lock_wait_ms(d->config);
    d->pause_ms = (int)config_getduration(d->config, IMAPOPT_BACKUP_ERROR_PAUSE) * 1000;
    d->max_text = (size_t)config_getbytesize(d->config, IMAPOPT_BACKUP_MAX_DLIST);
    backupd_unit_init(d);
    int r = lcb_store_open(d->config, NULL, &d->store, &err);
    if (r)
        xlog_errorx("cannot open the store: %s", buf_cstring(&err));
    buf_free(&err);
    if (!d->store) {
        backupd_close(&d);
        return r;
    }
    /* Without backups.db everything is answered with LOCKED, which clients wait after; some of them do
     * not survive the end of a connection. */
    lcb_store_setstop(d->store, stopping, service);
    d->spool = backupd_spool_new(d->store);
    *dp = d;
    return 0;
}

void backupd_close(struct backupd **dp)
{
    struct backupd *d = *dp;
    if (!d)
        return;
    if (d->store) {
        int r = backupd_close_all(d, NULL);
        if (r)
            xlog_errorx("at the end of the connection: %s", error_message(r));
    }
    backupd_spool_free(&d->spool);
    backupd_unit_free(d);
    lcb_store_close(&d->store);
    buf_free(&d->body);
    buf_free(&d->text);
    free(d);
    *dp = NULL;
}

int backupd_restart(struct backupd *d)
{
    int r = backupd_close_all(d, NULL);
    backupd_unit_reset(d);
    return r;
}

/* Wait, but not longer than a request to stop. */
static void pause_a_while(struct backupd *d)
{
    for (int waited = 0; waited < d->pause_ms && !stopping(d->service); waited += 100)
        poll(NULL, 0, 100);
}

/* Trouble of ours: say so, at most once a minute, and send the client away for a while. */
static const char *trouble(struct backupd *d, int r)
{
    if (r != XERR_LOCKED && r != XERR_SIGNAL) {
        if (xlog_allowed(&d->trouble, 60))
            xlog_errorx("cannot store: %s; clients are told to come again", error_message(r));
        pause_a_while(d);
    }
    return sync_reply_text(SYNC_LOCKED);
}

static const char *reply_text(struct backupd *d, int r)
{
    enum sync_reply reply;
    switch (r) {
    case BACKUPD_TOLERATED:
        return sync_reply_text(SYNC_OK);
    case BACKUPD_BADCONTENT:
        return "NO IMAP_PROTOCOL_ERROR Content does not match its GUID";
    case XERR_TOOBIG:
        if (xlog_allowed(&d->toobig, 60))
            xlog_errorx("a value is larger than backup_max_dlist: refused");
        return "NO IMAP_PROTOCOL_ERROR Value too large or nested too deeply";
    }
    reply = sync_reply_code(r);
    if (r < 0 && (reply == SYNC_LOCKED || reply == SYNC_INTERNAL || reply == SYNC_DENIED))
        return trouble(d, r);
    return sync_reply_text(r);
}

/* Read to the end of the line if R is 0 (else skip the rest of the command), then say OK or NO. VERB
 * as replies name it. */
static enum backupd_next finish(struct backupd *d, const char *verb, int r)
{
    if (r == BACKUPD_BROKEN_OFF)
        return BACKUPD_CLOSE;
    if (!r) {
        r = dlist_reader_eol(d->reader);
        if (r == XERR_SYNTAX)
            r = BACKUPD_EXTRA;
    }
    if (r && (prot_error(d->in) || dlist_reader_resync(d->reader)))
        return BACKUPD_CLOSE;
    if (r == BACKUPD_EXTRA)
        prot_printf(d->out, "BAD Unexpected extra arguments to %s\r\n", verb);
    else
        prot_printf(d->out, "%s\r\n", reply_text(d, r));
    return BACKUPD_CONTINUE;
}

/* Verb's first argument: the name of what is wanted. */
static int read_name(struct backupd *d, struct buf *name)
{
    int r = dlist_reader_word(d->reader, name, 64);
    return r ? r : name->len ? 0 : XERR_SYNTAX;
}

static enum backupd_next missing_argument(struct backupd *d, const char *verb)
{
    if (prot_error(d->in) || dlist_reader_resync(d->reader))
        return BACKUPD_CLOSE;
    prot_printf(d->out, "BAD Missing required argument to %s\r\n", verb);
    return BACKUPD_CONTINUE;
}

static enum backupd_next named_get(struct backupd *d)
{
    struct buf name = BUF_INITIALIZER;
    enum backupd_next next;
    int r = read_name(d, &name);
    if (r == XERR_SYNTAX) {
        next = missing_argument(d, "Get");
    } else {
        for (size_t i = 0; i < name.len; i++)
            if (name.s[i] >= 'a' && name.s[i] <= 'z')
                name.s[i] -= 'a' - 'A';
        if (!r)
            r = backupd_get_named(d, buf_cstring(&name));
        next = finish(d, "Get", r == XERR_SYNTAX ? SYNC_BAD_GET : r);
    }
    buf_free(&name);
    return next;
}

static enum backupd_next named_apply(struct backupd *d)
{
    struct buf name = BUF_INITIALIZER;
    enum backupd_next next;
    int r = read_name(d, &name);
    if (r == XERR_SYNTAX)
        next = missing_argument(d, "Apply");
    else
        next = finish(d, "Apply", r ? r : backupd_apply_named(d, buf_cstring(&name)));
    buf_free(&name);
    return next;
}

enum backupd_next backupd_get(struct backupd *d)
{
    backupd_command_begin(d);
    enum backupd_next next = named_get(d);
    backupd_command_end(d);
    return next;
}

enum backupd_next backupd_apply(struct backupd *d)
{
    backupd_command_begin(d);
    enum backupd_next next = named_apply(d);
    backupd_command_end(d);
    return next;
}
