/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* vfs_settle - what is on the disk after the power cut that lib/vfs_crash.c staged.
 *
 * All unsynced writes are undone in reverse order, then (torn) some are redone. Disks write sectors
 * of 512 bytes, each whole, from a page cache that sees writes in order. So every sector takes part
 * in the first so many changes of its file and in none after them, and the size does too, on its
 * own: it may cover bytes that never arrived, or cut off some that did. How many changes that are,
 * is drawn per file or per sector.
 *
 * Of the unsynced names a subset survives. A rename is whole or not at all. A change whose path a
 * lost change touched before is lost with it; so is one that takes a name away from a file whose
 * other name was lost: no file system in use loses a file between link and unlink. A directory that
 * is lost takes along all that is in it. Names that others gave or took away (lib/vfs_crash.c) are
 * as they left them. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/vfs_fault.h"
#include "lib/vfs_fault_int.h"
#include "lib/xmalloc.h"

enum { SECTOR = 512 };

/* A path that name_ops touched, while settling. */
struct name {
    struct name *next;
    const char *path;
    struct node *want;
    int want_dir, done;
};

static uint64_t draw(unsigned seed, uint64_t a, uint64_t b)
{
    uint64_t z = seed * 0x9e3779b97f4a7c15u + a * 0xbf58476d1ce4e5b9u + b * 0x94d049bb133111ebu;
    for (int i = 0; i < 2; i++) {
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
    }
    return z;
}

static int undo_changes(struct node *n)
{
    struct change **all = xcalloc(n->nchanges, sizeof(struct change *));
    unsigned i = 0;
    int r = 0;
    for (struct change *ch = n->first; ch; ch = ch->next)
        all[i++] = ch;
    while (i-- > 0 && r >= 0) {
        ssize_t put = vfs_pwrite(vfs_system(), n->fd, all[i]->old, all[i]->oldlen, all[i]->at);
        r = put < 0 ? (int)put : vfs_ftruncate(vfs_system(), n->fd, all[i]->oldsize);
    }
    free(all);
    return r;
}

/* How many of the changes of a file a sector (or, with sector -1, the size) has seen. */
struct tear {
    unsigned seed, number, nchanges;
    unsigned style; /* 0: all alike; 1: each sector for itself; 2: each all or nothing; 3: as 0, and
                       the next change up to sector LAST */
    unsigned common;
    off_t first, last;
};

static unsigned cutoff(const struct tear *t, off_t sector)
{
    uint64_t z = draw(t->seed, t->number, (uint64_t)sector + 2);
    switch (t->style) {
    case 1:
        return (unsigned)(z % (t->nchanges + 1));
    case 2:
        return z & 1 ? t->nchanges : 0;
    case 3:
        return t->common + (sector >= t->first && sector < t->last);
    default:
        return t->common;
    }
}

/* Apply change number I to those sectors that have seen it. */
static int redo_change(struct node *n, const struct tear *t, const struct change *ch, unsigned i)
{
    static const char zeros[SECTOR];
    off_t end = ch->new ? ch->at + (off_t)ch->len : ch->oldsize;
    for (off_t at = ch->at; at < end;) {
        off_t stop = (at / SECTOR + 1) * SECTOR;
        if (stop > end)
            stop = end;
        if (i < cutoff(t, at / SECTOR)) {
            const char *p = ch->new ? ch->new + (at - ch->at) : zeros;
            ssize_t r = vfs_pwrite(vfs_system(), n->fd, p, (size_t)(stop - at), at);
            if (r < 0)
                return (int)r;
        }
        at = stop;
    }
    return 0;
}

static int tear_changes(struct node *n, unsigned seed)
{
    struct tear t = {.seed = seed, .number = n->number, .nchanges = n->nchanges};
    uint64_t z = draw(seed, n->number, 0);
    t.style = z & 3;
    t.common = (unsigned)((z >> 2) % (n->nchanges + 1));
    unsigned i = 0, size_seen;
    off_t size = n->first->oldsize;
    for (struct change *ch = n->first; ch; ch = ch->next, i++)
        if (i == t.common && ch->new) {
            t.first = ch->at / SECTOR;
            t.last = t.first + (off_t)((z >> 32) % (ch->len / SECTOR + 2));
        }
    size_seen = cutoff(&t, -1);
    if (t.style == 3 && t.last > t.first && size_seen < n->nchanges)
        size_seen++;
    i = 0;
    for (struct change *ch = n->first; ch; ch = ch->next, i++) {
        int r = redo_change(n, &t, ch, i);
        if (r < 0)
            return r;
        if (i < size_seen)
            size = ch->newsize;
    }
    return vfs_ftruncate(vfs_system(), n->fd, size);
}

static int touches(const struct name_op *op, const char *path)
{
    return path && (!strcmp(op->path, path) || (op->to && !strcmp(op->to, path)) ||
                    (op->kind == NAME_DIR && vfs_crash_below(path, op->path)));
}

int vfs_crash_builds_on(const struct name_op *later, const struct name_op *earlier)
{
    return touches(earlier, later->path) || touches(earlier, later->to) ||
           (earlier->node && (earlier->node == later->node || earlier->node == later->replaced));
}

/* Decide which name changes survive. */
static void keep_names(struct crash *c, enum vfs_settle how, unsigned seed)
{
    unsigned number = 0;
    for (struct name_op *op = c->ops; op; op = op->next) {
        op->kept = op->durable || how == VFS_SETTLE_KEPT;
        if (how == VFS_SETTLE_TORN && draw(seed, 0, ++number) & 1)
            op->kept = 1;
        for (struct name_op *e = c->ops; e != op && !op->durable; e = e->next)
            if (!e->kept && vfs_crash_builds_on(op, e))
                op->kept = 0;
    }
}

static struct name *find_name(struct name **names, const char *path, struct node *before)
{
    struct name **at = names;
    for (; *at; at = &(*at)->next)
        if (!strcmp((*at)->path, path))
            return *at;
    *at = xzmalloc(sizeof(**at));
    (*at)->path = path;
    (*at)->want = before;
    return *at;
}

/* What each touched path is to name. */
static struct name *wanted_names(struct crash *c)
{
    struct name *names = NULL;
    for (struct name_op *op = c->ops; op; op = op->next) {
        int had = op->kind == NAME_REMOVE || op->kind == NAME_MOVE;
        struct name *path = find_name(&names, op->path, had ? op->node : NULL);
        struct name *to = op->to ? find_name(&names, op->to, op->replaced) : path;
        if (!op->kept)
            continue;
        path->want = op->kind == NAME_ADD ? op->node : NULL;
        path->want_dir = op->kind == NAME_DIR;
        if (op->kind == NAME_MOVE)
            to->want = op->node;
    }
    return names;
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Remove what does not belong at NAME; set done if the right thing is there. */
static int clear_name(struct name *name)
{
    struct stat st;
    if (lstat(name->path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    if (S_ISDIR(st.st_mode)) {
        name->done = name->want_dir;
        return name->done || !nftw(name->path, remove_one, 16, FTW_DEPTH | FTW_PHYS) ? 0 : -errno;
    }
    name->done = name->want && name->want->dev == st.st_dev && name->want->ino == st.st_ino;
    return name->done || !unlink(name->path) ? 0 : -errno;
}

/* The file of N has no name left: write its bytes to a new one at PATH. */
static int copy_node(struct node *n, const struct stat *st, const char *path)
{
    char *bytes = xmalloc((size_t)st->st_size);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, st->st_mode & 07777);
    ssize_t r = fd < 0 ? -errno : 0;
    if (fd >= 0)
        r = vfs_pread(vfs_system(), n->fd, bytes, (size_t)st->st_size, 0);
    if (r >= 0 && fd >= 0)
        r = vfs_pwrite(vfs_system(), fd, bytes, (size_t)r, 0);
    free(bytes);
    if (fd >= 0) {
        close(n->fd);
        n->fd = fd; /* a further name links to this one */
    }
    return r < 0 ? (int)r : 0;
}

static int place_node(struct node *n, const char *path)
{
    struct stat st;
    char self[32];
    int r;
    if (fstat(n->fd, &st) < 0)
        return -errno;
    if (st.st_nlink) {
        snprintf(self, sizeof(self), "/proc/self/fd/%d", n->fd);
        r = linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
    } else {
        r = copy_node(n, &st, path);
    }
    return r == -ENOENT || r == -ENOTDIR ? 0 : r; /* its directory was lost */
}

static int settle_names(struct crash *c, enum vfs_settle how, unsigned seed)
{
    for (struct name_op *op = c->ops; op; op = op->next) {
        vfs_crash_see_others(c, op->path);
        if (op->to)
            vfs_crash_see_others(c, op->to);
    }
    keep_names(c, how, seed);
    struct name *names = wanted_names(c), *next;
    int r = 0;
    for (struct name *n = names; n && !r; n = n->next)
        r = clear_name(n);
    for (struct name *n = names; n && !r; n = n->next)
        if (n->want && !n->done)
            r = place_node(n->want, n->path);
    for (; names; names = next) {
        next = names->next;
        free(names);
    }
    return r;
}

int vfs_crash_dosettle(struct vfs_fault *f, int how, unsigned seed)
{
    struct crash *c = (struct crash *)f;
    for (struct node *n = c->nodes; n; n = n->next) {
        if (!n->nchanges || how == VFS_SETTLE_KEPT)
            continue;
        int r = undo_changes(n);
        if (r >= 0 && how == VFS_SETTLE_TORN)
            r = tear_changes(n, seed);
        if (r < 0)
            return r;
        vfs_crash_forget(n);
    }
    return settle_names(c, (enum vfs_settle)how, seed);
}
