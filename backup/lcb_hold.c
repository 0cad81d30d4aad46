/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_hold - the locks of a backup, and other names for its files.
 *
 * Names. A backup is deleted, brought back or given to another user by changing one record of
 * backups.db and the names of two files, and a crash may come between any two of these. The order is:
 *
 *   1. the data file gets its new name as a second one (a hard link), durably;
 *   2. the record is changed: this is the moment at which it happens;
 *   3. the old name goes, and the index is renamed.
 *
 * After a crash both names are there and are the same file, and the record says which of them
 * counts; whoever sees the other one may remove it. If the index has not followed it is missing, and
 * is made again.
 *
 * An index cannot be renamed while SQLite keeps changes of it in a file beside it. They are folded in
 * first; where a reader prevents that the index is not renamed but removed.
 *
 * Locks. That of maintenance is taken before that of writers, as everybody does who takes both. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_db.h"
#include "backup/lcb_hold.h"
#include "backup/lcb_int.h"
#include "lib/filelock.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define REOPEN_MAX 10

/* XERR_STALE: the path, or the record, means another file by now. */
static int take(struct lcb_store *s, const char *userid, const char *path, int wait_ms,
                struct lcb_hold **hp)
{
    struct lcb_hold *h = xzmalloc(sizeof(*h));
    h->store = s;
    h->userid = xstrdup(userid);
    h->path = xstrdup(path);
    h->fd = vfs_open(lcb_store_vfs(s), path, O_RDWR, 0);
    int r = h->fd < 0 ? h->fd : lcb_lock_maintenance(s, h->fd, wait_ms);
    if (!r)
        r = lcb_lock_writers(s, h->fd, wait_ms);
    if (!r) {
        r = filelock_same(h->fd, path);
        r = r == 1 ? lcb_db_still(lcb_store_db(s), userid, path) : r == 0 ? XERR_STALE : r;
    }
    if (r)
        lcb_hold_end(&h);
    *hp = h;
    return r;
}

int lcb_hold(struct lcb_store *s, const char *userid, int wait_ms, struct lcb_hold **hp)
{
    int r = XERR_STALE;
    *hp = NULL;
    for (int i = 0; i < REOPEN_MAX && (r == XERR_STALE || r == -ENOENT); i++) {
        char *path = NULL;
        r = lcb_db_find(lcb_store_db(s), userid, &path);
        if (!r)
            r = take(s, userid, path, wait_ms, hp);
        free(path);
    }
    return r;
}

int lcb_hold_file(struct lcb_store *s, const char *path, int wait_ms, struct lcb_hold **hp)
{
    int r = take(s, "", path, wait_ms, hp);
    return r == XERR_STALE ? -ENOENT : r;
}

void lcb_hold_end(struct lcb_hold **hp)
{
    struct lcb_hold *h = *hp;
    if (!h)
        return;
    vfs_close(lcb_store_vfs(h->store), &h->fd);
    free(h->userid);
    free(h->path);
    free(h);
    *hp = NULL;
}

/* ---- names ---- */

int lcb_same_file(struct lcb_store *s, const char *path, const char *other)
{
    struct stat a, b;
    int r = vfs_stat(lcb_store_vfs(s), path, &a);
    if (!r)
        r = vfs_stat(lcb_store_vfs(s), other, &b);
    if (r)
        return r == -ENOENT ? 0 : r;
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static const char *const beside[] = {"-wal", "-journal", "-shm", ""};
enum { BESIDE_HOT = 2, BESIDE = 4 }; /* the first two may hold what the index has not */

static char *index_part(const char *path, int i)
{
    return xasprintf("%s.index%s", path, beside[i]);
}

static int unlink_there(struct vfs *vfs, const char *path)
{
    int r = vfs_unlink(vfs, path);
    return r == -ENOENT ? 0 : r;
}

static int remove_index(struct lcb_store *s, const char *path)
{
    int result = 0;
    for (int i = BESIDE - 1; i >= 0; i--) {
        char *part = index_part(path, i);
        int r = unlink_there(lcb_store_vfs(s), part);
        result = result ? result : r;
        free(part);
    }
    return result;
}

/* 1 if all that the index says is in its own file. */
static int folded(struct lcb_store *s, const char *path)
{
    struct lcb_index *ix = NULL;
    struct stat st;
    int yes = 1;
    char *name = index_part(path, BESIDE - 1);
    if (!lcb_index_open(name, 0, 0, 0, &ix))
        lcb_index_close(&ix);
    free(name);
    for (int i = 0; i < BESIDE_HOT; i++) {
        char *part = index_part(path, i);
        yes &= vfs_stat(lcb_store_vfs(s), part, &st) < 0 || !st.st_size;
        free(part);
    }
    return yes;
}

/* The index is derived, so that it cannot follow is no failure. */
static void move_index(struct lcb_store *s, const char *from, const char *to)
{
    char *a = index_part(from, BESIDE - 1), *b = index_part(to, BESIDE - 1);
    struct stat st;
    if (!vfs_stat(lcb_store_vfs(s), a, &st)) {
        remove_index(s, to);
        if (folded(s, from))
            (void)vfs_rename(lcb_store_vfs(s), a, b);
    }
    remove_index(s, from);
    free(a);
    free(b);
}

static int sync_both(struct lcb_store *s, const char *a, const char *b)
{
    int r = vfs_fsyncparent(lcb_store_vfs(s), a);
    const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
    if (r || (x - a == y - b && !memcmp(a, b, (size_t)(x - a))))
        return r;
    return vfs_fsyncparent(lcb_store_vfs(s), b);
}

static int no_links(int r)
{
    return r == -EPERM || r == -EOPNOTSUPP || r == -ENOSYS || r == -EMLINK;
}

int lcb_newname_begin(struct lcb_store *s, struct lcb_newname *n)
{
    struct vfs *vfs = lcb_store_vfs(s);
    struct stat st;
    n->done = 0;
    int r = lcb_same_file(s, n->from, n->to);
    if (r)
        return r < 0 ? r : vfs_fsyncparent(vfs, n->to); /* left by a crash */
    r = vfs_link(vfs, n->from, n->to);
    if (r == -EEXIST)
        return XERR_EXISTS;
    if (no_links(r)) {
        r = vfs_stat(vfs, n->to, &st);
        if (r != -ENOENT)
            return r ? r : XERR_EXISTS;
        n->done = 1;
        r = n->late ? 0 : vfs_rename(vfs, n->from, n->to);
        return r || n->late ? r : sync_both(s, n->from, n->to);
    }
    if (!r && (r = vfs_fsyncparent(vfs, n->to)) != 0)
        vfs_unlink(vfs, n->to);
    return r;
}

void lcb_newname_undo(struct lcb_store *s, struct lcb_newname *n)
{
    struct vfs *vfs = lcb_store_vfs(s);
    int r = !n->done ? vfs_unlink(vfs, n->to) : n->late ? 0 : vfs_rename(vfs, n->to, n->from);
    if (r)
        xlog_errorx("%s: cannot take back the name %s: %s", n->from, n->to, error_message(r));
}

int lcb_newname_finish(struct lcb_store *s, struct lcb_newname *n)
{
    struct vfs *vfs = lcb_store_vfs(s);
    int r = !n->done ? unlink_there(vfs, n->from) : n->late ? vfs_rename(vfs, n->from, n->to) : 0;
    if (r)
        return r;
    move_index(s, n->from, n->to);
    return sync_both(s, n->from, n->to);
}

int lcb_remove_pair(struct lcb_store *s, const char *path)
{
    int r = remove_index(s, path);
    if (!r)
        r = unlink_there(lcb_store_vfs(s), path);
    return r ? r : vfs_fsyncparent(lcb_store_vfs(s), path);
}
