/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_apply - APPLY, all but MAILBOX, MESSAGE and RESERVE: small changes, one line each.
 *
 * The value is read as a tree, its owner found, and the line logged under a savepoint, so that a
 * value that turns out to be unusable leaves nothing. Then everything is committed: OK means that it
 * is on the disk.
 *
 * Some must never fail, whatever they say, because clients then abort: QUOTA, UNQUOTA, ANNOTATION,
 * UNANNOTATION, FORCE. What of these is unusable is logged, and OK. What ends something (UNSUB,
 * UNSIEVE, UNUSER, ...) does not create a backup for a user who has none: there is nothing to end. */
#include "config.h"

#include <string.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"

/* Whose backup a command goes to. */
enum owner {
    BY_USERID,   /* key USERID */
    BY_MBOXNAME, /* key MBOXNAME, "" meaning the server */
    BY_ROOT,     /* key ROOT */
    BY_NAME,     /* the value itself is a mailbox name */
    BY_USER,     /* the value itself is a user id */
};

struct command {
    const char *name;
    enum owner owner;
    int ends; /* it only ends something */
    int (*fn)(struct backupd *, const struct command *, struct dlist *); /* NULL: log it */
    const char *verb;
};

static int owner_name(struct backupd *d, const struct command *c, const struct dlist *v,
                      struct buf *userid)
{
    static const char *const keys[] = {"USERID", "MBOXNAME", "ROOT", NULL, NULL};
    const char *name = NULL;
    if (c->owner == BY_NAME || c->owner == BY_USER) {
        if (v->type != DL_ATOM || memchr(v->sval, '\0', v->len))
            return XERR_PARAM;
        name = v->sval;
    } else if (v->type != DL_KVLIST || !dlist_getatom(v, keys[c->owner], &name)) {
        return XERR_PARAM;
    }
    if (c->owner == BY_USERID || c->owner == BY_USER)
        return name ? mboxname_userid_canonical(lcb_store_names(d->store), name, strlen(name),
                                                userid)
                    : XERR_PARAM;
    return backupd_owner_of(d, name ? name : "", userid);
}

/* The backup a command goes to; with CREATE made if missing. */
static int command_backup(struct backupd *d, const struct command *c, const struct dlist *v,
                          int create, struct lcb **b)
{
    struct buf userid = BUF_INITIALIZER;
    int r = owner_name(d, c, v, &userid);
    if (!r)
        r = backupd_backup(d, buf_cstring(&userid), create, b);
    buf_free(&userid);
    return r;
}

/* End what lcb_savepoint began: keep and commit, or undo. */
static int settle(struct backupd *d, struct lcb *b, int r)
{
    if (r) {
        if (lcb_savepoint_rollback(b))
            backupd_undo(d, b);
        return r;
    }
    r = lcb_savepoint_release(b);
    if (!r)
        r = lcb_commit(b);
    if (r)
        backupd_undo(d, b);
    return r;
}

static int log_line(struct backupd *d, const struct command *c, struct dlist *v)
{
    struct lcb *b;
    int r = command_backup(d, c, v, !c->ends, &b);
    if (r == XERR_NOTFOUND)
        return 0;
    if (!r)
        r = backupd_savepoint(d, b);
    return r ? r : settle(d, b, lcb_log_dlist(b, c->verb, v));
}

/* As log_line, but a parameter that makes no sense is not the client's business. */
static int log_leniently(struct backupd *d, const struct command *c, struct dlist *v)
{
    int r = log_line(d, c, v);
    if (r != XERR_PARAM)
        return r;
    xlog_warnx("%s with unusable parameters: accepted without effect", c->name);
    return 0;
}

/* The mailbox that the client means by NAME: XERR_NOTFOUND if another one has it by now. */
static int find_meant(struct backupd *d, struct lcb *b, const char *name, struct lcb_folder *f,
                      struct buf *strings)
{
    int r = lcb_find_name(b, name, f, strings);
    if (r)
        return r;
    r = backupd_is_meant(d, b, f);
    return r > 0 ? 0 : r ? r : XERR_NOTFOUND;
}

/* UNMAILBOX: NONEXISTENT counts as success with every client. */
static int unmailbox(struct backupd *d, const struct command *c, struct dlist *v)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    struct lcb *b;
    int r = command_backup(d, c, v, 0, &b);
    if (!r)
        r = find_meant(d, b, v->sval, &f, &strings);
    buf_free(&strings);
    if (!r)
        r = backupd_savepoint(d, b);
    return r ? r : settle(d, b, lcb_log_dlist(b, "UNMAILBOX", v));
}

/* What was shown of a mailbox in state SINCE stays true when it is only called otherwise. */
static void shown_again(struct backupd *d, struct lcb *b, const char *name, int64_t since)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    if (!lcb_find_name(b, name, &f, &strings))
        backupd_shown_moved(d, b, since, &f);
    buf_free(&strings);
}

/* 0 if there is a mailbox of this name. */
static int is_there(struct lcb *b, const char *name)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    int r = lcb_find_name(b, name, &f, &strings);
    buf_free(&strings);
    return r;
}

int backupd_log_end(struct lcb *b, struct dlist_pool *pool, const char *name)
{
    struct dlist *v = dlist_newnode(pool, NULL, DL_ATOM);
    if (!v)
        return XERR_TOOBIG;
    v->sval = name;
    v->len = strlen(name);
    return lcb_log_dlist(b, "UNMAILBOX", v);
}

/* An old name that we do not know may have been renamed before: then the new one is there. One that
 * has the new name already has gone on the master. */
static int rename_within(struct backupd *d, struct lcb *b, struct dlist *v, const char *from,
                         const char *to)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    int r = find_meant(d, b, from, &f, &strings);
    buf_free(&strings);
    if (r == XERR_NOTFOUND)
        return is_there(b, to);
    if (!r)
        r = backupd_savepoint(d, b);
    if (r)
        return r;
    if (strcmp(from, to)) {
        r = is_there(b, to);
        r = r ? (r == XERR_NOTFOUND ? 0 : r) : backupd_log_end(b, d->reader->pool, to);
    }
    r = settle(d, b, r ? r : lcb_log_rename(b, v));
    if (!r)
        shown_again(d, b, to, f.since);
    return r;
}

/* To another user: there the mailbox is unknown, so the client will send it whole; here it ends. */
static int rename_across(struct backupd *d, const char *from, struct lcb *old, const char *newuser,
                         const char *to)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    struct lcb *b;
    int r = find_meant(d, old, from, &f, &strings);
    buf_free(&strings);
    if (r == XERR_NOTFOUND) {
        r = backupd_backup(d, newuser, 0, &b);
        return r ? r : is_there(b, to);
    }
    if (!r)
        r = backupd_savepoint(d, old);
    if (!r)
        r = settle(d, old, backupd_log_end(old, d->reader->pool, from));
    if (!r)
        backupd_shown_renamed(d, from, to);
    return r;
}

static int rename_mailbox(struct backupd *d, const struct command *c, struct dlist *v)
{
    struct buf olduser = BUF_INITIALIZER, newuser = BUF_INITIALIZER;
    const char *from, *to;
    struct lcb *b;
    int r = 0;
    (void)c;
    if (!dlist_getatom(v, "OLDMBOXNAME", &from) || !from || !dlist_getatom(v, "NEWMBOXNAME", &to) ||
        !to)
        r = XERR_PARAM;
    if (!r)
        r = backupd_owner_of(d, from, &olduser);
    if (!r)
        r = backupd_owner_of(d, to, &newuser);
    if (!r)
        r = backupd_backup(d, buf_cstring(&olduser), 0, &b);
    if (!r && !buf_cmp(&olduser, &newuser))
        r = rename_within(d, b, v, from, to);
    else if (!r)
        r = rename_across(d, from, b, buf_cstring(&newuser), to);
    buf_free(&olduser);
    buf_free(&newuser);
    return r;
}

/* Can the header of F take another annotation, and still be read as a command of the client's? */
static int has_room(struct backupd *d, const struct lcb_folder *f, const struct dlist *v)
{
    const struct dlist *value = dlist_getchild(v, "VALUE");
    size_t more = 1024 + (value ? value->len : 0);
    struct dlist_pool *pool = dlist_pool_new(d->max_text > more ? d->max_text - more : 0);
    struct sync_header h;
    int fits = !sync_header_parsetext(&h, pool, f->header, f->headerlen);
    dlist_pool_free(&pool);
    return fits;
}

/* ANNOTATION of a mailbox is an edit of its header; of one we do not have, nothing. */
static int annotation(struct backupd *d, const struct command *c, struct dlist *v)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    const char *name;
    struct lcb *b;
    if (!dlist_getatom(v, "MBOXNAME", &name) || !name || !*name)
        return log_leniently(d, c, v);
    int r = command_backup(d, c, v, 0, &b);
    if (!r)
        r = lcb_find_name(b, name, &f, &strings);
    if (!r && !c->ends && !has_room(d, &f, v)) {
        xlog_warnx("%s of %s: no room for more in its header: accepted without effect", c->name,
                   name);
    } else if (!r) {
        r = log_leniently(d, c, v);
        if (!r)
            shown_again(d, b, name, f.since);
    }
    buf_free(&strings);
    return r == XERR_NOTFOUND || r == XERR_PARAM ? 0 : r;
}

static int expunge_one(struct lcb *b, const struct lcb_folder *f, const struct dlist *u,
                       struct sync_record *rec)
{
    uint64_t uid;
    if (u->type != DL_ATOM || !dlist_parsenum(u->sval, u->len, &uid) || uid > UINT32_MAX)
        return XERR_PARAM;
    int r = lcb_find_record(b, f->id, (uint32_t)uid, rec);
    if (r || rec->expunged)
        return r == XERR_NOTFOUND ? 0 : r;
    rec->expunged = 1;
    return lcb_log_mailbox_record(b, rec);
}

/* The UIDs of EXPUNGE, as records that are expunged: the line EXPUNGE itself is never written,
 * because Cyrus 3.x crashes on it. */
static int log_expunged(struct backupd *d, struct lcb *b, const struct lcb_folder *f,
                        const struct dlist *uids)
{
    struct sync_record rec = {.uid = 0};
    struct sync_header h;
    int r = sync_header_parsetext(&h, d->reader->pool, f->header, f->headerlen);
    if (!r)
        r = lcb_log_mailbox_begin(b, &h);
    for (const struct dlist *u = uids->head; !r && u; u = u->next)
        r = expunge_one(b, f, u, &rec);
    sync_record_fini(&rec);
    return r ? r : lcb_log_mailbox_end(b, NULL);
}

static int expunge(struct backupd *d, const struct command *c, struct dlist *v)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    struct dlist *uids;
    const char *name, *uniqueid = NULL;
    struct lcb *b;
    if (!dlist_getatom(v, "MBOXNAME", &name) || !name || !dlist_getlist(v, "UID", &uids))
        return XERR_PARAM;
    (void)dlist_getatom(v, "UNIQUEID", &uniqueid);
    int r = command_backup(d, c, v, 0, &b);
    if (!r)
        r = find_meant(d, b, name, &f, &strings);
    if (!r && uniqueid && strcmp(uniqueid, f.uniqueid))
        r = XERR_NOTFOUND;
    if (!r)
        r = backupd_savepoint(d, b);
    if (!r)
        r = settle(d, b, log_expunged(d, b, &f, uids));
    buf_free(&strings);
    return r;
}

static const struct command commands[] = {
    {"SUB", BY_USERID, 0, NULL, "SUB"},
    {"UNSUB", BY_USERID, 1, NULL, "UNSUB"},
    {"SEEN", BY_USERID, 0, NULL, "SEEN"},
    {"SIEVE", BY_USERID, 0, NULL, "SIEVE"},
    {"UNSIEVE", BY_USERID, 1, NULL, "UNSIEVE"},
    {"ACTIVATE_SIEVE", BY_USERID, 0, NULL, "ACTIVATE_SIEVE"},
    {"UNACTIVATE_SIEVE", BY_USERID, 1, NULL, "UNACTIVATE_SIEVE"},
    {"QUOTA", BY_ROOT, 0, log_leniently, "QUOTA"},
    {"UNQUOTA", BY_NAME, 1, log_leniently, "UNQUOTA"},
    {"ANNOTATION", BY_MBOXNAME, 0, annotation, "ANNOTATION"},
    {"UNANNOTATION", BY_MBOXNAME, 1, annotation, "UNANNOTATION"},
    {"UNMAILBOX", BY_NAME, 1, unmailbox, "UNMAILBOX"},
    {"LOCAL_UNMAILBOX", BY_NAME, 1, unmailbox, "UNMAILBOX"},
    {"RENAME", BY_NAME, 1, rename_mailbox, "RENAME"},
    {"LOCAL_RENAME", BY_NAME, 1, rename_mailbox, "RENAME"},
    {"EXPUNGE", BY_MBOXNAME, 1, expunge, NULL},
    {"UNUSER", BY_USER, 1, NULL, "UNUSER"},
    {"LOCAL_UNUSER", BY_USER, 1, NULL, "UNUSER"},
    {NULL, BY_USER, 0, NULL, NULL},
};

/* We enable nothing. SIEVE-MAILBOX would make clients of 3.6 and later send Sieve scripts as messages
 * of a mailbox: then scripts of old and new masters would be kept in two ways, and could not be given
 * back to a server that knows only the other. So they come by their own commands from every version. A
 * mailbox "#sieve" that is sent all the same is a mailbox. */
static int capabilities(struct backupd *d)
{
    int r = dlist_reader_skip(d->reader);
    if (!r)
        r = backupd_at_end(d);
    if (!r)
        prot_puts(d->out, "* ENABLED ()\r\n");
    return r;
}

int backupd_apply_named(struct backupd *d, const char *name)
{
    const struct command *c = commands;
    struct dlist *v;
    if (!strcmp(name, "MAILBOX") || !strcmp(name, "LOCAL_MAILBOX"))
        return backupd_apply_mailbox(d);
    if (!strcmp(name, "MESSAGE"))
        return backupd_staging_message(d);
    if (!strcmp(name, "RESERVE"))
        return backupd_staging_reserve(d);
    if (!strcmp(name, "CAPABILITIES"))
        return capabilities(d);
    if (!strcmp(name, "FORCE"))
        return dlist_reader_skip(d->reader);
    while (c->name && strcmp(c->name, name))
        c++;
    if (!c->name)
        return SYNC_PROTOCOL_ERROR;
    dlist_pool_reset(d->reader->pool);
    int r = dlist_reader_value(d->reader, &v);
    if (!r)
        r = backupd_at_end(d);
    if (r == XERR_TOOBIG && (c->fn == log_leniently || c->fn == annotation)) {
        xlog_errorx("%s is larger than backup_max_dlist: accepted without effect", c->name);
        return BACKUPD_TOLERATED;
    }
    if (r)
        return r;
    return c->fn ? c->fn(d, c, v) : log_line(d, c, v);
}
