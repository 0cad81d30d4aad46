/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* vfs - the real file system behind the table, and the small helpers that every table shares.
 *
 * The sys_ functions turn -1 and errno into -errno and finish what the kernel did only in part;
 * the vfs_ functions of the same names dispatch. Helpers made of several calls (parents of a path)
 * go through the table too, so that a fault in the middle of them can be tested. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/vfs.h"
#include "lib/xmalloc.h"

static int result(int r)
{
    return r < 0 ? -errno : r;
}

static int sys_open(struct vfs *v, const char *path, int flags, mode_t mode)
{
    (void)v;
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return result(fd);
}

/* On Linux the descriptor is gone even after EINTR, so this is never repeated. */
static int sys_close(struct vfs *v, int fd)
{
    (void)v;
    int r = result(close(fd));
    return r == -EINTR ? 0 : r;
}

static ssize_t sys_pread(struct vfs *v, int fd, void *p, size_t n, off_t at)
{
    (void)v;
    size_t done = 0;
    while (done < n) {
        ssize_t got = pread(fd, (char *)p + done, n - done, at + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static ssize_t sys_pwrite(struct vfs *v, int fd, const void *p, size_t n, off_t at)
{
    (void)v;
    size_t done = 0;
    while (done < n) {
        ssize_t put = pwrite(fd, (const char *)p + done, n - done, at + (off_t)done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        if (put == 0)
            return -EIO;
        done += (size_t)put;
    }
    return (ssize_t)done;
}

static int sys_fdatasync(struct vfs *v, int fd)
{
    (void)v;
    int r;
    do
        r = result(fdatasync(fd));
    while (r == -EINTR);
    return r;
}

static int sys_fsync(struct vfs *v, int fd)
{
    (void)v;
    int r;
    do
        r = result(fsync(fd));
    while (r == -EINTR);
    return r;
}

static int sys_fsyncdir(struct vfs *v, const char *dir)
{
    int fd = sys_open(v, dir, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    int r = sys_fsync(v, fd);
    sys_close(v, fd);
    return r == -EINVAL ? 0 : r; /* a file system without fsync of directories */
}

static int sys_ftruncate(struct vfs *v, int fd, off_t size)
{
    (void)v;
    int r;
    do
        r = result(ftruncate(fd, size));
    while (r == -EINTR);
    return r;
}

static int sys_fstat(struct vfs *v, int fd, struct stat *st)
{
    (void)v;
    return result(fstat(fd, st));
}

static int sys_stat(struct vfs *v, const char *path, struct stat *st)
{
    (void)v;
    return result(stat(path, st));
}

static int sys_statat(struct vfs *v, int dirfd, const char *name, struct stat *st)
{
    (void)v;
    return result(fstatat(dirfd, name, st, 0));
}

static int sys_rename(struct vfs *v, const char *from, const char *to)
{
    (void)v;
    return result(rename(from, to));
}

static int sys_link(struct vfs *v, const char *from, const char *to)
{
    (void)v;
    return result(link(from, to));
}

static int sys_unlink(struct vfs *v, const char *path)
{
    (void)v;
    return result(unlink(path));
}

static int sys_mkdir(struct vfs *v, const char *path, mode_t mode)
{
    (void)v;
    return result(mkdir(path, mode));
}

static int sys_mkstemp(struct vfs *v, char *template_)
{
    (void)v;
    return result(mkostemp(template_, O_CLOEXEC));
}

static int sys_list(struct vfs *v, const char *dir, int (*fn)(void *, const char *), void *rock)
{
    (void)v;
    struct dirent *e;
    int r = 0;
    DIR *d = opendir(dir);
    if (!d)
        return -errno;
    while (!r && (errno = 0, e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            r = fn(rock, e->d_name);
    if (!r && errno)
        r = -errno;
    closedir(d);
    return r;
}

struct vfs *vfs_system(void)
{
    static const struct vfs_ops ops = {
        .open = sys_open,
        .close = sys_close,
        .pread = sys_pread,
        .pwrite = sys_pwrite,
        .fdatasync = sys_fdatasync,
        .fsync = sys_fsync,
        .fsyncdir = sys_fsyncdir,
        .ftruncate = sys_ftruncate,
        .fstat = sys_fstat,
        .stat = sys_stat,
        .statat = sys_statat,
        .rename = sys_rename,
        .link = sys_link,
        .unlink = sys_unlink,
        .mkdir = sys_mkdir,
        .mkstemp = sys_mkstemp,
        .list = sys_list,
    };
    static struct vfs system = {&ops};
    return &system;
}

int vfs_open(struct vfs *v, const char *path, int flags, mode_t mode)
{
    return v->ops->open(v, path, flags | O_CLOEXEC, mode);
}

int vfs_close(struct vfs *v, int *fd)
{
    if (*fd < 0)
        return 0;
    int r = v->ops->close(v, *fd);
    *fd = -1;
    return r;
}

ssize_t vfs_pread(struct vfs *v, int fd, void *p, size_t n, off_t at)
{
    return v->ops->pread(v, fd, p, n, at);
}

ssize_t vfs_pwrite(struct vfs *v, int fd, const void *p, size_t n, off_t at)
{
    return v->ops->pwrite(v, fd, p, n, at);
}

int vfs_fdatasync(struct vfs *v, int fd)
{
    return v->ops->fdatasync(v, fd);
}

int vfs_fsync(struct vfs *v, int fd)
{
    return v->ops->fsync(v, fd);
}

int vfs_fsyncdir(struct vfs *v, const char *dir)
{
    return v->ops->fsyncdir(v, dir);
}

int vfs_fsyncparent(struct vfs *v, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return vfs_fsyncdir(v, ".");
    if (slash == path)
        return vfs_fsyncdir(v, "/");
    char *dir = xstrndup(path, (size_t)(slash - path));
    int r = vfs_fsyncdir(v, dir);
    free(dir);
    return r;
}

int vfs_ftruncate(struct vfs *v, int fd, off_t size)
{
    return v->ops->ftruncate(v, fd, size);
}

int vfs_fstat(struct vfs *v, int fd, struct stat *st)
{
    return v->ops->fstat(v, fd, st);
}

int vfs_stat(struct vfs *v, const char *path, struct stat *st)
{
    return v->ops->stat(v, path, st);
}

int vfs_statat(struct vfs *v, int dirfd, const char *name, struct stat *st)
{
    return v->ops->statat(v, dirfd, name, st);
}

int vfs_rename(struct vfs *v, const char *from, const char *to)
{
    return v->ops->rename(v, from, to);
}

int vfs_link(struct vfs *v, const char *from, const char *to)
{
    return v->ops->link(v, from, to);
}

int vfs_unlink(struct vfs *v, const char *path)
{
    return v->ops->unlink(v, path);
}

int vfs_mkdir(struct vfs *v, const char *path, mode_t mode)
{
    return v->ops->mkdir(v, path, mode);
}

int vfs_mkstemp(struct vfs *v, char *template_)
{
    return v->ops->mkstemp(v, template_);
}

int vfs_list(struct vfs *v, const char *dir, int (*fn)(void *, const char *), void *rock)
{
    return v->ops->list(v, dir, fn, rock);
}

/* Make DIR unless it is there. Somebody else may make it at the same moment; its name is synced
 * here then as well, because nobody knows whether the other one got that far. */
static int make_dir(struct vfs *v, const char *dir)
{
    struct stat st;
    int r = vfs_stat(v, dir, &st);
    if (r != -ENOENT)
        return r < 0 ? r : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    r = vfs_mkdir(v, dir, 0755);
    if (r < 0 && r != -EEXIST)
        return r;
    return vfs_fsyncparent(v, dir);
}

int vfs_mkparents(struct vfs *v, const char *path)
{
    char *copy = xstrdup(path);
    int r = 0;
    for (char *s = strchr(copy + (*copy == '/'), '/'); s && r >= 0; s = strchr(s + 1, '/')) {
        *s = '\0';
        r = s[-1] ? make_dir(v, copy) : 0; /* "a//b": the part before the second slash is done */
        *s = '/';
    }
    free(copy);
    return r < 0 ? r : 0;
}
