/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* vfs_crash - a file system whose machine stops at the k-th change.
 *
 * Calls go through to the real files, so the program under test sees its own writes. Beside that a
 * journal is kept of everything a power cut could still take back:
 *
 *   per file   each write and truncation since the last sync of that file, with the old and the new
 *              bytes. A sync of the file empties the list. Files are known by inode; the journal
 *              holds a descriptor of its own to each, so that a file whose name is gone can come
 *              back.
 *   names      create, link, rename, unlink, mkdir, in order. fsyncdir marks those in that
 * directory as durable; fsync of a file does not (POSIX promises no more).
 *
 * Others, above all SQLite, make and remove files without asking here. What they did counts as durable
 * at once, with all that it presupposes: when a name that the journal knows is found to stand for
 * something else than the journal says, that is noted as a change of its own.
 *
 * lib/vfs_settle.c makes of it what a reboot finds. Renaming directories is not modelled: it counts
 * as durable at once. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/vfs_fault.h"
#include "lib/vfs_fault_int.h"
#include "lib/xmalloc.h"

static struct crash *crash(struct vfs *v)
{
    return (struct crash *)v;
}

/* 0, or -EIO from the crash on. Only watched calls count. */
static int enter(struct vfs *v, int watched, int kinds)
{
    if (crash(v)->f.happened || (watched && vfs_fault_due(&crash(v)->f, kinds)))
        return -EIO;
    return 0;
}

/* PATH without doubled or trailing slashes. */
static char *canonical(const char *path)
{
    char *copy = xstrdup(path), *to = copy;
    for (const char *s = path; *s; s++)
        if (*s != '/' || to == copy || to[-1] != '/')
            *to++ = *s;
    if (to > copy + 1 && to[-1] == '/')
        to--;
    *to = '\0';
    return copy;
}

int vfs_crash_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && path[n] == '/';
}

static int watched(struct vfs *v, const char *path)
{
    char *p = canonical(path);
    int yes = vfs_crash_below(p, crash(v)->root) || !strcmp(p, crash(v)->root);
    free(p);
    return yes;
}

static struct node *node_of_fd(struct vfs *v, int fd)
{
    struct watched_fd *w = crash(v)->fds;
    while (w && w->fd != fd)
        w = w->next;
    return w ? w->node : NULL;
}

/* The node of the file that PATH names, known or new; NULL if it is no plain file. */
static struct node *node_of_path(struct crash *c, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return NULL;
    for (struct node *n = c->nodes; n; n = n->next)
        if (n->dev == st.st_dev && n->ino == st.st_ino)
            return n;
    struct node *n = xzmalloc(sizeof(*n));
    n->number = c->nodes ? c->nodes->number + 1 : 1;
    n->dev = st.st_dev;
    n->ino = st.st_ino;
    n->fd = open(path, O_RDWR | O_CLOEXEC);
    n->last = &n->first;
    n->next = c->nodes;
    return c->nodes = n;
}

static void watch(struct crash *c, int fd, const char *path)
{
    struct node *n = node_of_path(c, path);
    if (!n)
        return;
    struct watched_fd *w = xzmalloc(sizeof(*w));
    w->fd = fd;
    w->node = n;
    w->next = c->fds;
    c->fds = w;
}

/* PATH and TO become the journal's. */
static struct name_op *new_op(struct crash *c, enum name_kind kind, char *path, char *to,
                              struct node *node)
{
    struct name_op *op = xzmalloc(sizeof(*op));
    op->kind = kind;
    op->path = path;
    op->to = to;
    op->node = node;
    *c->lastop = op;
    c->lastop = &op->next;
    return op;
}

/* What PATH stands for as far as the journal knows: 1 and the file (or NULL) to *NODE; 0 if it knows
 * nothing of it, or if it is a directory. */
static int journalled(const struct crash *c, const char *path, struct node **node)
{
    int known = 0;
    for (const struct name_op *op = c->ops; op; op = op->next) {
        if (!strcmp(op->path, path)) {
            known = op->kind != NAME_DIR;
            *node = op->kind == NAME_ADD ? op->node : NULL;
        }
        if (op->to && !strcmp(op->to, path)) {
            known = 1;
            *node = op->node;
        }
    }
    return known;
}

/* OP cannot be lost, nor can what it builds on. */
static void make_durable(struct crash *c, struct name_op *op)
{
    op->durable = 1;
    for (struct name_op *e = c->ops; e != op; e = e->next)
        if (!e->durable && vfs_crash_builds_on(op, e))
            make_durable(c, e);
}

void vfs_crash_see_others(struct crash *c, const char *path)
{
    struct node *was = NULL, *is = node_of_path(c, path);
    if (!journalled(c, path, &was) || is == was)
        return;
    /* A name that was given anew had been taken away before. */
    if (was)
        make_durable(c, new_op(c, NAME_REMOVE, xstrdup(path), NULL, was));
    if (is)
        make_durable(c, new_op(c, NAME_ADD, xstrdup(path), NULL, is));
}

static void add_name(struct crash *c, enum name_kind kind, const char *path, const char *to,
                     struct node *node, struct node *replaced)
{
    char *p = canonical(path), *t = to ? canonical(to) : NULL;
    new_op(c, kind, p, t, node)->replaced = replaced;
}

/* Before a call changes what PATH stands for. */
static void before(struct crash *c, const char *path)
{
    char *p = canonical(path);
    vfs_crash_see_others(c, p);
    free(p);
}

void vfs_crash_forget(struct node *n)
{
    while (n->first) {
        struct change *ch = n->first;
        n->first = ch->next;
        free(ch->new);
        free(ch->old);
        free(ch);
    }
    n->last = &n->first;
    n->nchanges = 0;
}

/* Remember what a change at AT is about to replace: a write of P, or a truncation if P is NULL. */
static int add_change(struct node *n, const void *p, size_t len, off_t at)
{
    struct stat st;
    if (at < 0)
        return -EINVAL;
    if (fstat(n->fd, &st) < 0)
        return -errno;
    struct change *ch = xzmalloc(sizeof(*ch));
    ch->at = at;
    ch->len = len;
    ch->new = p ? xmemdup(p, len) : NULL;
    ch->oldsize = st.st_size;
    ch->newsize = p ? at + (off_t)len : at;
    if (p && ch->newsize < st.st_size)
        ch->newsize = st.st_size;
    off_t end = p && at + (off_t)len < st.st_size ? at + (off_t)len : st.st_size;
    ch->oldlen = end > at ? (size_t)(end - at) : 0;
    ch->old = xmalloc(ch->oldlen);
    ssize_t r = vfs_pread(vfs_system(), n->fd, ch->old, ch->oldlen, at);
    *n->last = ch;
    n->last = &ch->next;
    n->nchanges++;
    return r < 0 ? (int)r : (size_t)r < ch->oldlen ? -EIO : 0;
}

static int crash_ftruncate(struct vfs *v, int fd, off_t size)
{
    struct node *n = node_of_fd(v, fd);
    int r = enter(v, !!n, VFS_FAULT_WRITES);
    if (!r && n)
        r = add_change(n, NULL, 0, size);
    return r ? r : vfs_ftruncate(vfs_system(), fd, size);
}

/* O_TRUNC is done as a truncation of its own, so that it can be taken back. */
static int crash_open(struct vfs *v, const char *path, int flags, mode_t mode)
{
    struct stat st;
    int mine = watched(v, path), r = enter(v, mine, vfs_fault_openkinds(flags));
    if (r)
        return r;
    if (mine && flags & O_CREAT)
        before(crash(v), path);
    int existed = stat(path, &st) == 0;
    int fd = vfs_open(vfs_system(), path, mine ? flags & ~O_TRUNC : flags, mode);
    if (fd < 0 || !mine)
        return fd;
    watch(crash(v), fd, path);
    struct node *n = node_of_fd(v, fd);
    if (n && !existed)
        add_name(crash(v), NAME_ADD, path, NULL, n, NULL);
    if (n && existed && flags & O_TRUNC) {
        r = add_change(n, NULL, 0, 0);
        r = r ? r : vfs_ftruncate(vfs_system(), fd, 0);
    }
    if (r)
        v->ops->close(v, fd);
    return r ? r : fd;
}

/* Closes after the crash too: the process is still there, only its machine is gone. */
static int crash_close(struct vfs *v, int fd)
{
    for (struct watched_fd **w = &crash(v)->fds; *w; w = &(*w)->next)
        if ((*w)->fd == fd) {
            struct watched_fd *gone = *w;
            *w = gone->next;
            free(gone);
            break;
        }
    int r = vfs_close(vfs_system(), &fd);
    return crash(v)->f.happened ? -EIO : r;
}

static ssize_t crash_pread(struct vfs *v, int fd, void *p, size_t n, off_t at)
{
    ssize_t r = enter(v, 0, 0);
    if (r)
        return r;
    r = vfs_pread(vfs_system(), fd, p, n, at);
    if (r > 0)
        crash(v)->f.bytesread += r;
    return r;
}

static ssize_t crash_pwrite(struct vfs *v, int fd, const void *p, size_t len, off_t at)
{
    struct node *n = node_of_fd(v, fd);
    int r = enter(v, !!n, VFS_FAULT_WRITES);
    if (!r && n) {
        struct stat st;
        if (fcntl(fd, F_GETFL) & O_APPEND && fstat(fd, &st) == 0)
            at = st.st_size; /* where Linux writes then, whatever was asked for */
        r = add_change(n, p, len, at);
    }
    return r ? r : vfs_pwrite(vfs_system(), fd, p, len, at);
}

static int crash_fsync(struct vfs *v, int fd)
{
    struct node *n = node_of_fd(v, fd);
    int r = enter(v, !!n, VFS_FAULT_SYNCS | VFS_FAULT_WRITES);
    if (!r && n)
        vfs_crash_forget(n);
    return r; /* the real disk need not be bothered */
}

static int crash_fsyncdir(struct vfs *v, const char *dir)
{
    struct stat st;
    int r = enter(v, watched(v, dir), VFS_FAULT_SYNCS | VFS_FAULT_WRITES);
    if (r)
        return r;
    r = vfs_stat(vfs_system(), dir, &st);
    if (r < 0)
        return r;
    char *d = canonical(dir);
    for (struct name_op *op = crash(v)->ops; op; op = op->next) {
        const char *path = op->to ? op->to : op->path;
        if (vfs_crash_below(path, d) && !strchr(path + strlen(d) + 1, '/'))
            op->durable = 1;
    }
    free(d);
    return 0;
}

static int crash_fstat(struct vfs *v, int fd, struct stat *st)
{
    int r = enter(v, 0, 0);
    return r ? r : vfs_fstat(vfs_system(), fd, st);
}

static int crash_stat(struct vfs *v, const char *path, struct stat *st)
{
    int r = enter(v, 0, 0);
    return r ? r : vfs_stat(vfs_system(), path, st);
}

static int crash_statat(struct vfs *v, int dirfd, const char *name, struct stat *st)
{
    int r = enter(v, 0, 0);
    return r ? r : vfs_statat(vfs_system(), dirfd, name, st);
}

static int crash_rename(struct vfs *v, const char *from, const char *to)
{
    int mine = watched(v, from) || watched(v, to), r = enter(v, mine, VFS_FAULT_WRITES);
    if (r)
        return r;
    if (mine) {
        before(crash(v), from);
        before(crash(v), to);
    }
    struct node *n = mine ? node_of_path(crash(v), from) : NULL;
    struct node *replaced = mine ? node_of_path(crash(v), to) : NULL;
    r = vfs_rename(vfs_system(), from, to);
    if (!r && n && n != replaced)
        add_name(crash(v), NAME_MOVE, from, to, n, replaced);
    return r;
}

static int crash_link(struct vfs *v, const char *from, const char *to)
{
    int mine = watched(v, to), r = enter(v, mine, VFS_FAULT_WRITES);
    if (r)
        return r;
    if (mine) {
        before(crash(v), from);
        before(crash(v), to);
    }
    struct node *n = mine ? node_of_path(crash(v), from) : NULL;
    r = vfs_link(vfs_system(), from, to);
    if (!r && n)
        add_name(crash(v), NAME_ADD, to, NULL, n, NULL);
    return r;
}

static int crash_unlink(struct vfs *v, const char *path)
{
    int mine = watched(v, path), r = enter(v, mine, VFS_FAULT_WRITES);
    if (r)
        return r;
    if (mine)
        before(crash(v), path);
    struct node *n = mine ? node_of_path(crash(v), path) : NULL;
    r = vfs_unlink(vfs_system(), path);
    if (!r && n)
        add_name(crash(v), NAME_REMOVE, path, NULL, n, NULL);
    return r;
}

static int crash_mkdir(struct vfs *v, const char *path, mode_t mode)
{
    int mine = watched(v, path), r = enter(v, mine, VFS_FAULT_WRITES);
    r = r ? r : vfs_mkdir(vfs_system(), path, mode);
    if (!r && mine)
        add_name(crash(v), NAME_DIR, path, NULL, NULL, NULL);
    return r;
}

static int crash_mkstemp(struct vfs *v, char *template_)
{
    int mine = watched(v, template_);
    int r = enter(v, mine, VFS_FAULT_WRITES | VFS_FAULT_OPENS);
    int fd = r ? r : vfs_mkstemp(vfs_system(), template_);
    if (fd >= 0 && mine) {
        watch(crash(v), fd, template_);
        add_name(crash(v), NAME_ADD, template_, NULL, node_of_fd(v, fd), NULL);
    }
    return fd;
}

static int crash_list(struct vfs *v, const char *dir, int (*fn)(void *, const char *), void *rock)
{
    int r = enter(v, 0, 0);
    return r ? r : vfs_list(vfs_system(), dir, fn, rock);
}

static void crash_destroy(struct vfs_fault *f)
{
    struct crash *c = (struct crash *)f;
    while (c->nodes) {
        struct node *n = c->nodes;
        c->nodes = n->next;
        vfs_crash_forget(n);
        if (n->fd >= 0)
            close(n->fd);
        free(n);
    }
    while (c->ops) {
        struct name_op *op = c->ops;
        c->ops = op->next;
        free(op->path);
        free(op->to);
        free(op);
    }
    while (c->fds) {
        struct watched_fd *w = c->fds;
        c->fds = w->next;
        free(w);
    }
    free(c->root);
}

struct vfs *vfs_crash_new(const char *root, long k)
{
    static const struct vfs_ops ops = {
        .open = crash_open,
        .close = crash_close,
        .pread = crash_pread,
        .pwrite = crash_pwrite,
        .fdatasync = crash_fsync,
        .fsync = crash_fsync,
        .fsyncdir = crash_fsyncdir,
        .ftruncate = crash_ftruncate,
        .fstat = crash_fstat,
        .stat = crash_stat,
        .statat = crash_statat,
        .rename = crash_rename,
        .link = crash_link,
        .unlink = crash_unlink,
        .mkdir = crash_mkdir,
        .mkstemp = crash_mkstemp,
        .list = crash_list,
    };
    struct crash *c = xzmalloc(sizeof(*c));
    c->f.vfs.ops = &ops;
    c->f.mask = VFS_FAULT_WRITES;
    c->f.k = k;
    c->f.forever = 1;
    c->f.destroy = crash_destroy;
    c->f.settle = vfs_crash_dosettle;
    c->root = canonical(root);
    c->lastop = &c->ops;
    return &c->f.vfs;
}
