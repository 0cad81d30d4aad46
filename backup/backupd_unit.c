/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_unit - whose backups a connection works on.
 *
 * Clients do not say where a unit of work begins or whom it concerns; that is taken from what they
 * ask. The owners of a unit are the owners of all names in GET USER and GET MAILBOXES since the last
 * RESTART or GET USER. While there is one, uploads can only be for him.
 *
 * Backups are locked from the first question about a user until RESTART, EXIT, GET USER of another
 * user, five minutes without use, or until more than a few are open. Whatever is closed is committed
 * first. Because a backup can be closed between question and answer, what was shown of a mailbox is
 * remembered by UNIQUEID with the position of the state that was shown: a change that is relative to
 * a listing is accepted only if that state is still the current one, in the same backup. The same
 * UNIQUEID may be in the backups of two users (one of them was not told of a rename); the client
 * was shown one of them.
 *
 * A question about a name replaces what was shown under it before. */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static int64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec;
}

struct backupd_asked {
    int64_t position;
    char userid[];
};

static void free_shown(void *data)
{
    struct backupd_shown *s = data;
    free(s->mboxname);
    free(s);
}

void backupd_unit_free(struct backupd *d)
{
    strarray_fini(&d->owners);
    hash_free(&d->shown_names, NULL);
    hash_free(&d->shown, free_shown);
    hash_free(&d->asked, free);
}

void backupd_unit_init(struct backupd *d)
{
    d->shown_names = hash_new();
    d->shown = hash_new();
    d->asked = hash_new();
    d->lost_uploads = 0;
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

static int close_one(struct backupd_open_backup *o)
{
    int r = lcb_commit(o->b);
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
            int r = close_one(&d->open[i]);
            result = result ? result : r;
        }
    return result;
}

void backupd_idle(struct backupd *d)
{
    for (int i = 0; i < BACKUPD_OPEN_MAX; i++)
        if (d->open[i].b && now() - d->open[i].used > BACKUPD_IDLE)
            if (close_one(&d->open[i]))
                d->lost_uploads = 1;
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
    return close_one(oldest);
}

int backupd_backup(struct backupd *d, const char *userid, int create, struct lcb **bp)
{
    struct backupd_open_backup *slot;
    for (int i = 0; i < BACKUPD_OPEN_MAX; i++)
        if (d->open[i].b && !strcmp(d->open[i].userid, userid)) {
            d->open[i].used = now();
            d->open[i].turn = ++d->turn;
            *bp = d->open[i].b;
            return 0;
        }
    int r = free_slot(d, &slot);
    if (!r)
        r = lcb_open(d->store, userid, LCB_WRITE | (create ? LCB_CREATE : 0), d->lock_wait_ms,
                     &slot->b);
    if (r)
        return r;
    slot->userid = xstrdup(userid);
    slot->used = now();
    slot->turn = ++d->turn;
    *bp = slot->b;
    return 0;
}

void backupd_undo(struct backupd *d, struct lcb *b)
{
    if (lcb_dirty(b))
        d->lost_uploads = 1;
    if (lcb_rollback(b))
        for (int i = 0; i < BACKUPD_OPEN_MAX; i++)
            if (d->open[i].b == b) {
                lcb_close(&d->open[i].b);
                free(d->open[i].userid);
                memset(&d->open[i], 0, sizeof(d->open[i]));
            }
}

static struct backupd_asked *find_asked(struct backupd *d, const char *userid)
{
    struct backupd_asked *a = hash_lookup(d->asked, userid);
    if (!a) {
        size_t n = strlen(userid) + 1;
        a = xzmalloc(sizeof(*a) + n);
        memcpy(a->userid, userid, n);
        a->position = INT64_MAX;
        hash_insert(d->asked, userid, a);
    }
    return a;
}

void backupd_asks(struct backupd *d, struct lcb *b)
{
    find_asked(d, lcb_userid(b))->position = lcb_position(b);
}

int64_t backupd_asked(const struct backupd *d, const char *userid)
{
    const struct backupd_asked *a = hash_lookup(d->asked, userid);
    return a ? a->position : INT64_MAX;
}

/* S is known by NAME from now on. */
static void name_shown(struct backupd *d, struct backupd_shown *s, const char *name)
{
    if (s->mboxname && !strcmp(s->mboxname, name))
        return;
    if (s->mboxname && hash_lookup(d->shown_names, s->mboxname) == s)
        hash_del(d->shown_names, s->mboxname);
    free(s->mboxname);
    s->mboxname = xstrdup(name);
    hash_insert(d->shown_names, name, s);
}

void backupd_show(struct backupd *d, struct lcb *b, const struct lcb_folder *f, int listed)
{
    struct backupd_shown *s = hash_lookup(d->shown, f->uniqueid);
    if (!s) {
        s = xzmalloc(sizeof(*s));
        hash_insert(d->shown, f->uniqueid, s);
    }
    name_shown(d, s, f->mboxname);
    s->userid = find_asked(d, lcb_userid(b))->userid;
    s->listed = listed;
    s->last_uid = listed ? f->last_uid : 0;
    s->highestmodseq = listed && f->mark == LCB_MARK_NONE ? f->highestmodseq : 0;
    s->since = f->since;
}

void backupd_unshow(struct backupd *d, const char *name)
{
    struct backupd_shown *s = hash_del(d->shown_names, name);
    if (s)
        s->userid = NULL;
}

const struct backupd_shown *backupd_shown(const struct backupd *d, const char *uniqueid)
{
    const struct backupd_shown *s = hash_lookup(d->shown, uniqueid);
    return s && s->userid ? s : NULL;
}

void backupd_shown_moved(struct backupd *d, struct lcb *b, int64_t since, const struct lcb_folder *f)
{
    struct backupd_shown *s = hash_lookup(d->shown, f->uniqueid);
    if (!s || !s->userid || s->since != since || strcmp(s->userid, lcb_userid(b)))
        return;
    name_shown(d, s, f->mboxname);
    s->since = f->since;
}

void backupd_shown_renamed(struct backupd *d, const char *from, const char *to)
{
    struct backupd_shown *s = hash_lookup(d->shown_names, from);
    if (s)
        name_shown(d, s, to);
}
