/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_shown - what this connection was told of mailboxes, and whether it still is so.
 *
 * A change without SINCE_* is relative to the last answer that could speak of its mailbox. It makes
 * sense only if nothing has changed since, and another connection may have changed something as soon
 * as the backup was not locked any more. So there is a note
 *   - of each mailbox that was shown, by UNIQUEID: the position of the state that was shown, and in
 *     whose backup. The same UNIQUEID may be in the backups of two users (one of them was not told of
 *     a rename); the client was shown one of them. A mailbox that was left out on purpose, so that the
 *     client sends it whole, has a note too.
 *   - of each name that was asked for, and of the user whose mailboxes were all asked for: the position
 *     at which the backup was then. Of a mailbox that was not shown because it was not there this tells
 *     whether it has come since.
 * A question about a name replaces what was shown under it before, and of a mailbox that has the name
 * by then and that the answer did not name; a new unit of work forgets all.
 * Positions are those of a file: compaction writes another, with other ones. What was noted of the old
 * file counts as changed.
 * Of a client that asks for names without end within one unit the older answers are forgotten, and the
 * older questions with them: what is not known then counts as changed, which makes the client ask once
 * more. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/backupd_int.h"
#include "lib/xmalloc.h"

/* Names whose questions are remembered, and mailboxes that were shown: some 2 and 8 MB, with names as
 * people give them; of longer ones there is room for fewer. */
#define ASKED_MAX 26000
#define SHOWN_MAX BACKUPD_SHOWN_MAX
#define NOTED_MAX (6u << 20) /* bytes of all these strings */

/* When a name was asked for. */
struct asked {
    int64_t at;       /* position */
    uint64_t id;      /* in the file of this number, 0 if there was none */
    uint64_t command; /* number */
};

static void free_shown(void *data)
{
    struct backupd_shown *s = data;
    free(s->userid);
    free(s->mboxname);
    free(s);
}

void backupd_shown_init(struct backupd *d)
{
    d->shown_names = hash_new();
    d->shown = hash_new();
    d->asked = hash_new();
    d->noted = 0;
    d->asked_user = NULL;
    d->asked_lost = 0;
}

void backupd_shown_free(struct backupd *d)
{
    hash_free(&d->shown_names, NULL);
    hash_free(&d->shown, free_shown);
    hash_free(&d->asked, free);
    free(d->asked_user);
    d->asked_user = NULL;
}

/* Bytes that are counted of a note: its UNIQUEID; its name, which is a key as well. (The user id is a
 * part of the name.) */
static size_t shown_bytes(const char *uniqueid, const char *mboxname)
{
    return strlen(uniqueid) + (mboxname ? 2 * strlen(mboxname) : 0);
}

struct forgetting {
    struct backupd *d;
    uint64_t before; /* what is of an earlier command than this */
};

static int forget_one_shown(const char *key, size_t n, void *data, void *rock)
{
    struct forgetting *f = rock;
    struct backupd_shown *s = data;
    if (s->command >= f->before)
        return 0;
    if (s->mboxname && hash_lookup(f->d->shown_names, s->mboxname) == s)
        hash_del(f->d->shown_names, s->mboxname);
    f->d->noted -= shown_bytes(key, s->mboxname);
    hash_delmap(f->d->shown, key, n);
    free_shown(s);
    return 0;
}

static int forget_one_asked(const char *key, size_t n, void *data, void *rock)
{
    struct forgetting *f = rock;
    struct asked *a = data;
    if (a->command >= f->before)
        return 0;
    f->d->noted -= n;
    free(hash_delmap(f->d->asked, key, n));
    return 0;
}

/* Of a mailbox without a note it must not be known that its name was asked for: it would count as one
 * that was not there then. */
static void forget(struct backupd *d, uint64_t before)
{
    struct forgetting f = {d, before};
    hash_enumerate(d->shown, forget_one_shown, &f);
    hash_enumerate(d->asked, forget_one_asked, &f);
    d->asked_lost = 1;
}

static int has_room(const struct backupd *d, int fresh, size_t bytes)
{
    return d->noted + bytes <= NOTED_MAX &&
           (!fresh || (hash_count(d->shown) < SHOWN_MAX && hash_count(d->asked) < ASKED_MAX));
}

/* Room for so many bytes, and if FRESH for one note more: what the command at hand has noted goes
 * last. */
static void make_room(struct backupd *d, int fresh, size_t bytes)
{
    if (!has_room(d, fresh, bytes))
        forget(d, d->command);
    if (!has_room(d, fresh, bytes))
        forget(d, UINT64_MAX);
}

/* S is known by NAME from now on; there is room for that. */
static void name_shown(struct backupd *d, struct backupd_shown *s, const char *name)
{
    if (s->mboxname && !strcmp(s->mboxname, name) && hash_lookup(d->shown_names, name) == s)
        return;
    if (s->mboxname && hash_lookup(d->shown_names, s->mboxname) == s)
        hash_del(d->shown_names, s->mboxname);
    d->noted += shown_bytes("", name) - shown_bytes("", s->mboxname);
    free(s->mboxname);
    s->mboxname = xstrdup(name);
    hash_insert(d->shown_names, name, s);
}

void backupd_show(struct backupd *d, struct lcb *b, const struct lcb_folder *f, int listed)
{
    struct backupd_shown *s = hash_lookup(d->shown, f->uniqueid);
    if (!s || !s->mboxname || strcmp(s->mboxname, f->mboxname)) {
        make_room(d, !s, shown_bytes(f->uniqueid, f->mboxname));
        s = hash_lookup(d->shown, f->uniqueid);
    }
    if (!s) {
        d->noted += strlen(f->uniqueid);
        s = xzmalloc(sizeof(*s));
        s->command = d->command;
        hash_insert(d->shown, f->uniqueid, s);
    }
    name_shown(d, s, f->mboxname);
    if (!s->userid || strcmp(s->userid, lcb_userid(b))) {
        free(s->userid);
        s->userid = xstrdup(lcb_userid(b));
    }
    s->listed = listed;
    s->last_uid = listed ? f->last_uid : 0;
    s->highestmodseq = listed && f->mark == LCB_MARK_NONE ? f->highestmodseq : 0;
    s->since = f->since;
    s->backup_id = lcb_backup_id(b);
    s->command = d->command;
}

int backupd_shown_is(const struct backupd_shown *s, const struct lcb *b, int64_t since)
{
    return s->since == since && (!s->backup_id || s->backup_id == lcb_backup_id(b));
}

void backupd_unshow(struct backupd *d, const char *name)
{
    struct backupd_shown *s = hash_del(d->shown_names, name);
    if (s) {
        free(s->userid);
        s->userid = NULL;
    }
}

const struct backupd_shown *backupd_shown(const struct backupd *d, const char *uniqueid,
                                          const char *name)
{
    const struct backupd_shown *s = hash_lookup(d->shown, uniqueid);
    const struct asked *asked = hash_lookup(d->asked, name);
    return s && s->userid && !(asked && asked->command > s->command) ? s : NULL;
}

void backupd_shown_moved(struct backupd *d, struct lcb *b, int64_t since, const struct lcb_folder *f)
{
    struct backupd_shown *s = hash_lookup(d->shown, f->uniqueid);
    if (!s || !s->userid || strcmp(s->userid, lcb_userid(b)))
        return;
    make_room(d, 0, shown_bytes(f->uniqueid, f->mboxname));
    s = hash_lookup(d->shown, f->uniqueid);
    if (!s)
        return;
    name_shown(d, s, f->mboxname);
    s->command = d->command;
    if (backupd_shown_is(s, b, since))
        s->since = f->since;
}

int backupd_is_meant(const struct backupd *d, struct lcb *b, const struct lcb_folder *f)
{
    const struct backupd_shown *s = backupd_shown(d, f->uniqueid, f->mboxname);
    if (s && !strcmp(s->userid, lcb_userid(b)))
        return !strcmp(s->mboxname, f->mboxname);
    int r = backupd_came_later(d, b, f->mboxname, f->uniqueid);
    return r < 0 ? r : !r;
}

void backupd_shown_renamed(struct backupd *d, const char *from, const char *to)
{
    if (!hash_lookup(d->shown_names, from))
        return; /* nothing is forgotten for that */
    make_room(d, 0, shown_bytes("", to));
    struct backupd_shown *s = hash_lookup(d->shown_names, from);
    if (!s)
        return;
    name_shown(d, s, to);
    s->command = d->command;
}

void backupd_ask_user(struct backupd *d, const char *userid, struct lcb *b)
{
    free(d->asked_user);
    d->asked_user = xstrdup(userid);
    d->asked_all = b ? lcb_position(b) : 0;
    d->asked_id = b ? lcb_backup_id(b) : 0;
}

void backupd_ask_name(struct backupd *d, const char *mboxname, struct lcb *b)
{
    struct asked *a = hash_lookup(d->asked, mboxname);
    if (!a) {
        make_room(d, 1, strlen(mboxname));
        d->noted += strlen(mboxname);
        a = xzmalloc(sizeof(*a));
        hash_insert(d->asked, mboxname, a);
    }
    a->at = b ? lcb_position(b) : 0;
    a->id = b ? lcb_backup_id(b) : 0;
    a->command = d->command;
}

int backupd_came_later(const struct backupd *d, struct lcb *b, const char *mboxname,
                       const char *uniqueid)
{
    static const int64_t never = 0;
    const struct asked *a = hash_lookup(d->asked, mboxname);
    const int64_t *at = a ? &a->at : NULL;
    uint64_t id = a ? a->id : 0;
    if (!at && d->asked_lost)
        at = &never;
    if (!at && d->asked_user && !strcmp(d->asked_user, lcb_userid(b))) {
        at = &d->asked_all;
        id = d->asked_id;
    }
    if (at && id && id != lcb_backup_id(b))
        at = &never; /* it is not known which position that would be now */
    return at ? lcb_changed_since(b, uniqueid, *at) : 0;
}
