/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_unit - whose backups a connection works on.
 *
 * Clients do not say where a unit of work begins or whom it concerns; that is taken from what they
 * ask. The owners of a unit are the owners of all names in GET USER, GET MAILBOXES and RESERVE since
 * the last RESTART or GET USER. While there is one, uploads can only be for him.
 *
 * Locks. An open backup is locked, and others wait for it: other clients, and the tools. So it is
 * kept no longer than it is of use: until RESTART, EXIT, GET USER or GET META of another user, a
 * moment without use (even in the middle of a command that does not need it), or until more than a
 * few are open. Who has to wait for a lock lets go of all others first: nobody waits while he holds
 * something that another waits for. The wait for a busy backup is bounded for each command, however
 * many backups it needs, far below the time after which clients give up.
 *
 * Whatever is closed is committed first. Another client may then change it between question and
 * answer; backupd_shown.c tells whether one did. And it may be compacted or deleted: then content that
 * the client counts on, because it was said to be here, may be gone. What no mailbox names does not
 * stay for ever. So it is remembered which files that was about. */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* What is left of a large answer. */
#define TEXT_KEEP (64u << 10)

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void backupd_unit_free(struct backupd *d)
{
    strarray_fini(&d->owners);
    backupd_shown_free(d);
}

void backupd_unit_init(struct backupd *d)
{
    backupd_shown_init(d);
    d->lost_uploads = 0;
    d->relied_on = 0;
}

void backupd_unit_reset(struct backupd *d)
{
    backupd_unit_free(d);
    backupd_unit_init(d);
    backupd_spool_clear(d->spool);
}

void backupd_unit_addowner(struct backupd *d, const char *userid)
{
    if (d->owners.count < 2) /* more is no different from two */
        strarray_add(&d->owners, userid);
}

const char *backupd_unit_owner(const struct backupd *d)
{
    return d->owners.count == 1 ? d->owners.data[0] : NULL;
}

int backupd_owner_of(struct backupd *d, const char *mboxname, struct buf *userid)
{
    struct buf owner = BUF_INITIALIZER;
    int r = 0;
    mboxname_to_userid(lcb_store_names(d->store), mboxname, &owner);
    if (!strcmp(buf_cstring(&owner), MBOXNAME_SHARED))
        buf_setcstr(userid, MBOXNAME_SHARED);
    else
        r = mboxname_userid_canonical(lcb_store_names(d->store), owner.s, owner.len, userid);
    buf_free(&owner);
    return r;
}

static int close_one(struct backupd *d, struct backupd_open_backup *o)
{
    int r = lcb_commit(o->b);
    if (r)
        d->lost_uploads = 1;
    lcb_close(&o->b);
    free(o->userid);
    memset(o, 0, sizeof(*o));
    return r;
}

int backupd_close_all(struct backupd *d, const char *keep)
{
    int result = 0;
    for (int i = 0; i < BACKUPD_OPEN_MAX; i++)
        if (d->open[i].b && !(keep && !strcmp(keep, d->open[i].userid))) {
            int r = close_one(d, &d->open[i]);
            result = result ? result : r;
        }
    return result;
}

void backupd_release(struct backupd *d)
{
    for (int i = 0; i < BACKUPD_OPEN_MAX; i++) {
        struct backupd_open_backup *o = &d->open[i];
        int needed = d->busy && o->command == d->command;
        if (o->b && !needed && now_ms() - o->used > BACKUPD_IDLE_MS)
            (void)close_one(d, o);
    }
}

void backupd_command_begin(struct backupd *d)
{
    d->command++;
    d->busy = 1;
    d->wait_left_ms = d->lock_wait_ms;
    backupd_release(d);
}

void backupd_command_end(struct backupd *d)
{
    for (int i = 0; i < BACKUPD_OPEN_MAX; i++)
        if (d->open[i].b && d->open[i].command == d->command)
            d->open[i].used = now_ms();
    d->busy = 0;
    buf_shrink(&d->text, TEXT_KEEP);
}

/* A free slot; the least recently used backup makes room. */
static int free_slot(struct backupd *d, struct backupd_open_backup **slot)
{
    struct backupd_open_backup *oldest = &d->open[0];
    for (int i = 0; i < BACKUPD_OPEN_MAX; i++) {
        if (!d->open[i].b) {
            *slot = &d->open[i];
            return 0;
        }
        if (d->open[i].turn < oldest->turn)
            oldest = &d->open[i];
    }
    *slot = oldest;
    return close_one(d, oldest);
}

/* Open and lock; while another has the lock, wait for as long as this command may, holding none. */
static int open_locked(struct backupd *d, const char *userid, int flags, struct lcb **b)
{
    int r = lcb_open(d->store, userid, flags, 0, b);
    if (r == XERR_NOTFOUND) { /* before anything is uploaded in vain */
        int refused = lcb_may_create(d->store, userid);
        r = refused ? refused : r;
    }
    if (r != XERR_LOCKED || d->wait_left_ms <= 0)
        return r;
    r = backupd_close_all(d, NULL);
    if (r)
        return r;
    int64_t start = now_ms();
    r = lcb_open(d->store, userid, flags, d->wait_left_ms, b);
    int64_t waited = now_ms() - start;
    d->wait_left_ms -= waited < d->wait_left_ms ? (int)waited : d->wait_left_ms;
    return r;
}

static void in_use(struct backupd *d, struct backupd_open_backup *o)
{
    o->used = now_ms();
    o->turn = ++d->turn;
    o->command = d->command;
}

int backupd_backup(struct backupd *d, const char *userid, int create, struct lcb **bp)
{
    struct backupd_open_backup *slot;
    for (int i = 0; i < BACKUPD_OPEN_MAX; i++)
        if (d->open[i].b && !strcmp(d->open[i].userid, userid)) {
            in_use(d, &d->open[i]);
            *bp = d->open[i].b;
            return 0;
        }
    int r = free_slot(d, &slot);
    if (!r)
        r = open_locked(d, userid, LCB_WRITE | (create ? LCB_CREATE : 0), &slot->b);
    if (r)
        return r;
    slot->userid = xstrdup(userid);
    in_use(d, slot);
    *bp = slot->b;
    return 0;
}

void backupd_undo(struct backupd *d, struct lcb *b)
{
    d->lost_uploads = 1; /* if there were any: a commit that failed has undone them already */
    if (lcb_rollback(b))
        for (int i = 0; i < BACKUPD_OPEN_MAX; i++)
            if (d->open[i].b == b) {
                lcb_close(&d->open[i].b);
                free(d->open[i].userid);
                memset(&d->open[i], 0, sizeof(d->open[i]));
            }
}

int backupd_savepoint(struct backupd *d, struct lcb *b)
{
    int r = lcb_savepoint(b);
    if (r)
        backupd_undo(d, b);
    return r;
}

void backupd_still_there(struct backupd *d, const struct lcb *b)
{
    const char *first = d->owners.count ? d->owners.data[0] : ""; /* if any was the only one, this */
    if (d->relied_on && !strcmp(lcb_userid(b), first) && d->relied_on != lcb_files_id(b))
        d->lost_uploads = 1;
}

void backupd_rely_on(struct backupd *d, const struct lcb *b)
{
    backupd_still_there(d, b);
    d->relied_on = lcb_files_id(b);
}
