/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_delete - delete backups, bring them back, remove those whose time has passed.
 *
 * How names and record change together is told in lcb_hold.c. After a crash in the middle a deleted
 * file and the live one are two names of one file: if a record names the live one, the deletion has
 * not happened (or was taken back), and the other name means nothing; if none does, it has, and the
 * live name is a leftover. Purging clears up both.
 *
 * Nothing is written down anywhere else: what is deleted is found by looking at all names below the
 * partitions. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_db.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_delete_int.h"
#include "backup/lcb_hold.h"
#include "backup/lcb_identify.h"
#include "backup/lcb_int.h"
#include "backup/lcb_move.h"
#include "backup/lcb_partition.h"
#include "backup/lcb_switch.h"
#include "backup/lcb_walk.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define NAMES_MAX 1000

/* ---- whose is it? ---- */

struct search {
    struct lcb_store *store;
    const char *path;
};

/* The record may lead to it over another directory (a symbolic link). */
static int is_path(void *rock, const char *userid, const char *path)
{
    const struct search *search = rock;
    (void)userid;
    if (strcmp(lcb_last_part(path), lcb_last_part(search->path)))
        return 0;
    return !strcmp(path, search->path) ? 1 : lcb_same_file(search->store, path, search->path);
}

int lcb_path_registered(struct lcb_store *s, const char *path)
{
    struct search search = {s, path};
    return lcb_db_foreach(lcb_store_db(s), "", is_path, &search);
}

char *lcb_deleted_livepath(const char *path, const struct lcb_name *n)
{
    return xstrndup(path, (size_t)(lcb_last_part(path) - path) + n->baselen);
}

/* ---- deleting ---- */

/* What the deleted file is called after: its own name, or, if that is not made from the user id, one
 * that is; else it could not be found again. */
static int base_name(struct lcb_hold *h, char **base)
{
    struct vfs *vfs = lcb_store_vfs(h->store);
    struct buf name = BUF_INITIALIZER;
    struct lcb_name n;
    const char *last = lcb_last_part(h->path);
    lcb_name_parse(last, &n);
    *base = NULL;
    if (!*h->userid || (n.kind == LCB_NAME_DATA && lcb_name_says(last, n.baselen, h->userid))) {
        *base = xstrdup(h->path);
        return 0;
    }
    buf_setmap(&name, h->path, (size_t)(last - h->path));
    int r = lcb_filename_encode(&name, h->userid, strlen(h->userid));
    buf_appendcstr(&name, "_XXXXXX");
    buf_cstring(&name);
    int fd = r ? r : vfs_mkstemp(vfs, name.s);
    if (fd < 0) {
        r = fd;
    } else {
        vfs_close(vfs, &fd);
        r = vfs_unlink(vfs, name.s);
        *base = buf_release(&name);
    }
    buf_free(&name);
    return r;
}

int lcb_deleted_name(struct lcb_hold *h, struct lcb_newname *n)
{
    char *base, *to = NULL;
    int64_t now = time(NULL);
    int r = base_name(h, &base);
    for (int i = 0; !r && i < NAMES_MAX; i++) {
        free(to);
        to = xasprintf("%s.deleted.%lld", base, (long long)now + i);
        n->from = h->path;
        n->to = to;
        r = lcb_newname_begin(h->store, n);
        if (r != XERR_EXISTS)
            break;
        r = i + 1 < NAMES_MAX ? 0 : r;
    }
    free(base);
    if (r) {
        free(to);
        n->to = NULL;
    }
    return r;
}

/* It has happened. What may still go wrong is cleared up by the next purge. */
static int finish(struct lcb_store *s, struct lcb_newname *n)
{
    int r = lcb_newname_finish(s, n);
    if (r)
        xlog_warnx("%s: is %s now, but its former name could not be removed: %s", n->from, n->to,
                   error_message(r));
    return r;
}

static int delete_held(struct lcb_hold *h, const struct lcb_delete *how, char **kept)
{
    struct lcb_newname n = {.late = 1};
    struct stat st;
    int r = vfs_fstat(lcb_store_vfs(h->store), h->fd, &st);
    if (!r && how->only_size && st.st_size != how->only_size)
        r = XERR_STALE;
    if (!r && *h->userid)
        r = lcb_switch_tidy(h->store, h->userid, h->path);
    if (!r)
        r = lcb_deleted_name(h, &n);
    if (r)
        return r;
    r = *h->userid ? lcb_db_remove(lcb_store_db(h->store), h->userid, h->path) : 0;
    if (r) {
        lcb_newname_undo(h->store, &n);
    } else {
        int unfinished = finish(h->store, &n);
        if (how->now) /* without this name nobody would know that the other is to go */
            r = unfinished ? unfinished : lcb_remove_pair(h->store, n.to);
        else
            *kept = xstrdup(n.to);
    }
    free((char *)(uintptr_t)n.to);
    return r;
}

/* The record of a backup whose file is gone. */
static int forget(struct lcb_store *s, const char *userid)
{
    char *path;
    int r = lcb_db_find(lcb_store_db(s), userid, &path);
    if (!r)
        r = lcb_db_remove(lcb_store_db(s), userid, path);
    free(path);
    return r;
}

/* A file that was named by its path may be any: is it a data file, and called like one, so that it is
 * found again when it has its other name? Of one that has rotted the index tells; an empty one is only
 * taken for ours where we make them. */
static int is_data_file(struct lcb_store *s, const char *path)
{
    struct lcb_name n;
    struct stat st;
    lcb_name_parse(lcb_last_part(path), &n);
    if (n.kind != LCB_NAME_DATA)
        return 0;
    enum lcb_identity_kind kind = lcb_identify_kind(s, path, n.baselen);
    if (kind == LCB_IS_DATA || (kind == LCB_IS_EMPTY && lcb_partition_of(s, path)))
        return 1;
    char *index = xasprintf("%s.index", path);
    int there = vfs_stat(lcb_store_vfs(s), index, &st) >= 0;
    free(index);
    return there;
}

int lcb_delete(struct lcb_store *s, const struct lcb_delete *how, char **kept)
{
    struct lcb_hold *h = NULL;
    int r;
    *kept = NULL;
    if (how->userid) {
        r = lcb_hold(s, how->userid, how->wait_ms, &h);
        if (r == -ENOENT && how->forget)
            return forget(s, how->userid);
    } else {
        r = lcb_hold_file(s, how->path, how->wait_ms, &h);
        if (!r && (r = lcb_path_registered(s, h->path)) > 0)
            r = XERR_EXISTS;
        if (!r && !is_data_file(s, h->path))
            r = XERR_FORMAT;
    }
    if (!r)
        r = delete_held(h, how, kept);
    lcb_hold_end(&h);
    return r;
}

/* ---- what is deleted ---- */

struct finder {
    struct lcb_store *store;
    int64_t delay, now;
    int tidy, error;
    int (*fn)(void *, const struct lcb_deleted *);
    void *rock;
    struct buf user;
};

/* PATH and LIVE are one file. Under its lock, remove the name that does not count: 1 if PATH is
 * gone, 0 if LIVE is. */
static int tidy_up(struct finder *f, const char *path, const char *live)
{
    struct lcb_newname n = {.from = live, .to = path};
    struct lcb_hold *h;
    int r = lcb_hold_file(f->store, path, 0, &h);
    if (r)
        return r;
    r = lcb_same_file(f->store, path, live);
    if (r == 1)
        r = lcb_path_registered(f->store, live);
    if (r == 1) {
        char *index = xasprintf("%s.index", path);
        (void)vfs_unlink(lcb_store_vfs(f->store), index);
        r = vfs_unlink(lcb_store_vfs(f->store), path);
        free(index);
    } else if (!r && lcb_same_file(f->store, path, live) == 1) {
        r = lcb_newname_finish(f->store, &n);
    }
    lcb_hold_end(&h);
    return r;
}

/* 1 if the file is no deleted backup after all: another name of one that is there. */
static int is_leftover(struct finder *f, const char *path, const struct lcb_name *n,
                       const struct stat *st)
{
    if (st->st_nlink < 2)
        return 0;
    char *live = lcb_deleted_livepath(path, n);
    int r = lcb_same_file(f->store, path, live);
    if (r == 1) {
        r = lcb_path_registered(f->store, live);
        if (f->tidy) {
            int t = tidy_up(f, path, live);
            f->error = f->error || t == XERR_LOCKED ? f->error : t;
        }
    }
    free(live);
    return r;
}

/* The user id that the name has: "" if it is too long. */
static const char *user_of(struct finder *f, const char *name, const struct lcb_name *n)
{
    char *base = xstrndup(name, n->baselen);
    buf_reset(&f->user);
    if (lcb_filename_decode(&f->user, base))
        buf_reset(&f->user);
    free(base);
    return buf_cstring(&f->user);
}

int lcb_deleted_is_of(const struct lcb_deleted *d, const char *userid)
{
    struct lcb_name n;
    lcb_name_parse(lcb_last_part(d->path), &n);
    return lcb_name_says(lcb_last_part(d->path), n.baselen, userid);
}

/* The index of a deleted backup that is not there: whoever brought it back came no further. */
static void tidy_index(struct finder *f, const char *path, const struct lcb_name *n)
{
    struct vfs *vfs = lcb_store_vfs(f->store);
    struct stat st;
    struct lcb_hold *h = NULL;
    char *data = xstrndup(path, strlen(path) - strlen(".index"));
    char *live = lcb_deleted_livepath(path, n);
    if (vfs_stat(vfs, data, &st) == -ENOENT) {
        int r = lcb_hold_file(f->store, live, 0, &h); /* or is he still at it? */
        if ((!r || r == -ENOENT) && vfs_stat(vfs, data, &st) == -ENOENT && !vfs_stat(vfs, path, &st))
            (void)vfs_unlink(vfs, path);
        lcb_hold_end(&h);
    }
    free(data);
    free(live);
}

static int found(void *rock, const char *path, const struct lcb_name *n, int error)
{
    struct finder *f = rock;
    struct stat st;
    if (error && error != -ENOENT) /* a partition that is not there as yet has nothing to tell */
        f->error = f->error ? f->error : error;
    if (!error && n->kind == LCB_NAME_DELETED_INDEX && f->tidy)
        tidy_index(f, path, n);
    if (error || n->kind != LCB_NAME_DELETED)
        return 0;
    int r = vfs_stat(lcb_store_vfs(f->store), path, &st);
    if (r == -ENOENT)
        return 0;
    if (!r)
        r = is_leftover(f, path, n, &st);
    if (r)
        return r < 0 ? r : 0;
    struct lcb_deleted d = {
        .path = path,
        .userid = user_of(f, lcb_last_part(path), n),
        .time = n->time,
        .due = f->delay > 0 ? n->time + f->delay : 0,
        .size = (uint64_t)st.st_size,
    };
    return f->fn(f->rock, &d);
}

static int find(struct finder *f)
{
    struct lcb_walk w = {found, f};
    f->delay = config_getduration(lcb_store_config(f->store), IMAPOPT_BACKUP_DELETE_DELAY);
    int r = lcb_walk(f->store, &w);
    buf_free(&f->user);
    return r ? r : f->error;
}

int lcb_deleted_foreach(struct lcb_store *s, int (*fn)(void *, const struct lcb_deleted *),
                        void *rock)
{
    struct finder f = {.store = s, .fn = fn, .rock = rock};
    return find(&f);
}

struct purge {
    struct finder *finder;
    int (*fn)(void *, const struct lcb_deleted *);
    void *rock;
};

static int purge_one(void *rock, const struct lcb_deleted *d)
{
    struct purge *p = rock;
    struct lcb_hold *h;
    if (!d->due || d->due > p->finder->now)
        return 0;
    int r = lcb_hold_file(p->finder->store, d->path, 0, &h);
    if (r == -ENOENT || r == XERR_LOCKED)
        return 0; /* somebody brings it back */
    if (!r)
        r = lcb_remove_pair(p->finder->store, d->path);
    lcb_hold_end(&h);
    if (!r)
        return p->fn ? p->fn(p->rock, d) : 0;
    xlog_errorx("%s: cannot be removed: %s", d->path, error_message(r));
    p->finder->error = p->finder->error ? p->finder->error : r;
    return 0;
}

int lcb_deleted_purge(struct lcb_store *s, int64_t now,
                      int (*fn)(void *, const struct lcb_deleted *), void *rock)
{
    struct purge p = {.fn = fn, .rock = rock};
    struct finder f = {.store = s, .now = now, .tidy = 1, .fn = purge_one, .rock = &p};
    p.finder = &f;
    return find(&f);
}
