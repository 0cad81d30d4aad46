/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_rename - a user got another name, and the backup was not told.
 *
 * A mailbox is its UNIQUEID, so what the IMAP server has under the new user's names is what the
 * backup has under the old ones. Two steps:
 *
 *   1. Each mailbox of the old user is logged once more, under its new name (a MAILBOX line without
 *      records). Otherwise the next client would want them renamed, and that between two users, which
 *      ends a mailbox in one backup and sends it anew to the other.
 *   2. The record goes from one user id to the other, with the names of the files (lcb_hold.c).
 *
 * Interrupted between the two it is done again: the first step has nothing left to say then. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_db.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_hold.h"
#include "backup/lcb_int.h"
#include "backup/lcb_move.h"
#include "backup/lcb_switch.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

/* ---- names of mailboxes ---- */

struct renaming {
    struct lcb_store *store;
    const char *old, *new_;
    struct strarray uniqueids;
    struct buf owner;
};

/* NAME without domain: where the component behind "user." begins, NULL if there is none. */
static const char *local_part(const char *name, const char *deletedprefix)
{
    size_t n = strlen(deletedprefix);
    if (!strncmp(name, "user.", 5))
        return name + 5;
    if (strncmp(name, deletedprefix, n) || strncmp(name + n, ".user.", 6))
        return NULL;
    return name + n + 6;
}

/* The internal name NAME, of user OLD, as it is for NEW: 0 if it is not OLD's. */
static int new_name(struct renaming *w, const char *name, struct buf *out)
{
    const struct mboxname_rules *rules = lcb_store_names(w->store);
    mboxname_to_userid(rules, name, &w->owner);
    if (strcmp(buf_cstring(&w->owner), w->old))
        return 0;
    const char *bang = strchr(name, '!'), *rest = bang ? bang + 1 : name;
    const char *local = local_part(rest, rules->deletedprefix), *at = strrchr(w->new_, '@');
    if (!local)
        return 0;
    buf_reset(out);
    if (at) {
        buf_appendcstr(out, at + 1);
        buf_putc(out, '!');
    }
    buf_appendmap(out, rest, (size_t)(local - rest));
    for (const char *p = w->new_; *p && p != at; p++)
        buf_putc(out, *p == '.' ? '^' : *p);
    buf_appendcstr(out, local + strcspn(local, "."));
    return 1;
}

static int add_folder(void *rock, const struct lcb_folder *f)
{
    struct renaming *w = rock;
    mboxname_to_userid(lcb_store_names(w->store), f->mboxname, &w->owner);
    if (!strcmp(buf_cstring(&w->owner), w->old))
        strarray_append(&w->uniqueids, f->uniqueid);
    return 0;
}

/* A line that says of one mailbox what is known of it, under its new name. */
static int log_folder(struct renaming *w, struct lcb *b, const char *uniqueid,
                      struct dlist_pool *pool)
{
    struct buf strings = BUF_INITIALIZER, others = BUF_INITIALIZER, name = BUF_INITIALIZER;
    struct lcb_folder f, other;
    struct sync_header h;
    dlist_pool_reset(pool);
    int r = lcb_find_uniqueid(b, uniqueid, &f, &strings);
    if (!r && new_name(w, f.mboxname, &name)) {
        r = lcb_find_name(b, buf_cstring(&name), &other, &others);
        r = !r ? XERR_EXISTS : r == XERR_NOTFOUND ? 0 : r;
        if (!r)
            r = sync_header_parsetext(&h, pool, f.header, f.headerlen);
        if (!r)
            r = sync_header_set(&h, pool, "MBOXNAME", buf_cstring(&name));
        if (!r)
            r = lcb_log_mailbox_begin(b, &h);
        if (!r)
            r = lcb_log_mailbox_end(b, NULL);
    }
    buf_free(&strings);
    buf_free(&others);
    buf_free(&name);
    return r;
}

static int log_names(struct renaming *w, int wait_ms)
{
    struct lcb *b = NULL;
    int r = lcb_open(w->store, w->old, LCB_WRITE, wait_ms, &b);
    if (r)
        return r;
    struct dlist_pool *pool = dlist_pool_new(LCB_STORED_MAX);
    r = lcb_foreach_folder(b, LCB_NOW, 0, add_folder, w);
    for (int i = 0; !r && i < w->uniqueids.count; i++)
        r = log_folder(w, b, w->uniqueids.data[i], pool);
    if (!r)
        r = lcb_commit(b);
    lcb_close(&b);
    dlist_pool_free(&pool);
    return r;
}

/* ---- names of files, and the record ---- */

/* A free path for NEW in the partition of PATH, or beside it if that is in none. */
static int free_path(struct renaming *w, const char *path, char **to)
{
    struct vfs *vfs = lcb_store_vfs(w->store);
    const struct lcb_partition *in = lcb_partition_of(w->store, path);
    char *dir = NULL;
    int fd = -1;
    if (!in)
        dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    int r = lcb_path_new(vfs, in ? in->dir : dir, w->new_,
                         config_getswitch(lcb_store_config(w->store), IMAPOPT_FULLDIRHASH), to, &fd);
    free(dir);
    if (r)
        return r;
    vfs_close(vfs, &fd);
    return vfs_unlink(vfs, *to); /* only the name was wanted */
}

static int switch_record(struct renaming *w, const char *from, const char *to)
{
    struct lcb_db_txn *txn = NULL;
    char *now = NULL, *other = NULL;
    int r = lcb_db_begin(lcb_store_db(w->store), &txn);
    if (r)
        return r;
    r = lcb_db_txn_find(txn, w->old, &now);
    if (!r && strcmp(now, from))
        r = XERR_STALE;
    if (!r) {
        r = lcb_db_txn_find(txn, w->new_, &other);
        r = !r ? XERR_EXISTS : r == XERR_NOTFOUND ? 0 : r;
    }
    free(now);
    free(other);
    if (!r)
        r = lcb_db_txn_remove(txn, w->old);
    if (!r)
        r = lcb_db_txn_set(txn, w->new_, to);
    if (!r)
        return lcb_db_commit(&txn);
    lcb_db_abort(&txn);
    return r;
}

/* Without hard links the file keeps its name: the record is what counts. */
static int change_names(struct renaming *w, struct lcb_hold *h, char **path)
{
    struct lcb_newname n = {.from = h->path, .late = 1};
    int r = free_path(w, h->path, path);
    if (r)
        return r;
    n.to = *path;
    r = lcb_newname_begin(w->store, &n);
    if (!r && n.done) {
        free(*path);
        *path = xstrdup(h->path);
    }
    if (!r && (r = switch_record(w, h->path, *path)) != 0 && !n.done &&
        !lcb_db_maybe(lcb_store_db(w->store), w->new_, *path))
        lcb_newname_undo(w->store, &n);
    if (r || n.done)
        return r;
    r = lcb_newname_finish(w->store, &n);
    if (r)
        xlog_warnx("%s: is %s now, but its former name could not be removed: %s", n.from, n.to,
                   error_message(r));
    return 0;
}

/* As it is written in backups.db: OLD, or else its canonical form, in *BUF. */
static void find_old(struct lcb_store *s, const char *old, struct buf *buf)
{
    char *path = NULL;
    int r = lcb_db_find(lcb_store_db(s), old, &path);
    free(path);
    if (r != XERR_NOTFOUND ||
        mboxname_userid_canonical(lcb_store_names(s), old, strlen(old), buf))
        buf_setcstr(buf, old);
}

/* Is there anything to do, and may it be done? */
static int check(struct lcb_store *s, const char *old, const char *new_)
{
    char *path = NULL;
    if (!strcmp(old, MBOXNAME_SHARED) || !strcmp(new_, MBOXNAME_SHARED) || !strcmp(old, new_))
        return XERR_PARAM;
    int r = lcb_db_find(lcb_store_db(s), old, &path);
    free(path);
    if (r)
        return r;
    r = lcb_db_find(lcb_store_db(s), new_, &path);
    free(path);
    return !r ? XERR_EXISTS : r == XERR_NOTFOUND ? 0 : r;
}

int lcb_rename_user(struct lcb_store *s, const char *old, const char *new_, int wait_ms, char **path)
{
    struct renaming w = {.store = s};
    struct buf canonical = BUF_INITIALIZER, was = BUF_INITIALIZER;
    struct lcb_hold *h = NULL;
    *path = NULL;
    int r = mboxname_userid_canonical(lcb_store_names(s), new_, strlen(new_), &canonical);
    find_old(s, old, &was);
    w.old = buf_cstring(&was);
    w.new_ = buf_cstring(&canonical);
    if (!r)
        r = check(s, w.old, w.new_);
    if (!r)
        r = log_names(&w, wait_ms);
    if (!r)
        r = lcb_hold(s, w.old, wait_ms, &h);
    if (!r)
        r = lcb_switch_tidy(s, w.old, h->path);
    if (!r)
        r = change_names(&w, h, path);
    lcb_hold_end(&h);
    if (r) {
        free(*path);
        *path = NULL;
    }
    strarray_fini(&w.uniqueids);
    buf_free(&w.owner);
    buf_free(&canonical);
    buf_free(&was);
    return r;
}
