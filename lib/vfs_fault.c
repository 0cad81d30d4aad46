/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* vfs_fault - a file system whose k-th call fails, and the counters that it shares with the
 * crashing one (lib/vfs_crash.c). A failing call is not passed on: the disk stays as it was. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>

#include "lib/vfs_fault.h"
#include "lib/vfs_fault_int.h"
#include "lib/xmalloc.h"

int vfs_fault_due(struct vfs_fault *f, int kinds)
{
    if (!(kinds & f->mask))
        return 0;
    f->calls++;
    if (f->k <= 0 || f->calls < f->k || (f->calls > f->k && !f->forever))
        return 0;
    f->happened = 1;
    return 1;
}

int vfs_fault_openkinds(int flags)
{
    return VFS_FAULT_OPENS | (flags & (O_CREAT | O_TRUNC) ? VFS_FAULT_WRITES : 0);
}

static struct vfs_fault *fault(const struct vfs *v)
{
    return (struct vfs_fault *)(uintptr_t)v;
}

static int due(struct vfs *v, int kinds)
{
    return vfs_fault_due(fault(v), kinds) ? -fault(v)->error : 0;
}

static int fail_open(struct vfs *v, const char *path, int flags, mode_t mode)
{
    int r = due(v, vfs_fault_openkinds(flags));
    return r ? r : vfs_open(vfs_system(), path, flags, mode);
}

static int fail_close(struct vfs *v, int fd)
{
    (void)v;
    return vfs_close(vfs_system(), &fd);
}

static ssize_t fail_pread(struct vfs *v, int fd, void *p, size_t n, off_t at)
{
    ssize_t r = due(v, VFS_FAULT_READS);
    if (r)
        return r;
    r = vfs_pread(vfs_system(), fd, p, n, at);
    if (r > 0)
        fault(v)->bytesread += r;
    return r;
}

static ssize_t fail_pwrite(struct vfs *v, int fd, const void *p, size_t n, off_t at)
{
    int r = due(v, VFS_FAULT_WRITES);
    return r ? r : vfs_pwrite(vfs_system(), fd, p, n, at);
}

/* Tests sync by the thousand and never cut the power for real: the disk is spared. */
static int fail_sync(struct vfs *v, int fd)
{
    (void)fd;
    return due(v, VFS_FAULT_SYNCS | VFS_FAULT_WRITES);
}

static int fail_fsyncdir(struct vfs *v, const char *dir)
{
    struct stat st;
    int r = due(v, VFS_FAULT_SYNCS | VFS_FAULT_WRITES);
    return r ? r : vfs_stat(vfs_system(), dir, &st);
}

static int fail_ftruncate(struct vfs *v, int fd, off_t size)
{
    int r = due(v, VFS_FAULT_WRITES);
    return r ? r : vfs_ftruncate(vfs_system(), fd, size);
}

static int fail_fstat(struct vfs *v, int fd, struct stat *st)
{
    int r = due(v, VFS_FAULT_READS);
    return r ? r : vfs_fstat(vfs_system(), fd, st);
}

static int fail_stat(struct vfs *v, const char *path, struct stat *st)
{
    int r = due(v, VFS_FAULT_READS);
    return r ? r : vfs_stat(vfs_system(), path, st);
}

static int fail_statat(struct vfs *v, int dirfd, const char *name, struct stat *st)
{
    int r = due(v, VFS_FAULT_READS);
    return r ? r : vfs_statat(vfs_system(), dirfd, name, st);
}

static int fail_rename(struct vfs *v, const char *from, const char *to)
{
    int r = due(v, VFS_FAULT_WRITES);
    return r ? r : vfs_rename(vfs_system(), from, to);
}

static int fail_link(struct vfs *v, const char *from, const char *to)
{
    int r = due(v, VFS_FAULT_WRITES);
    return r ? r : vfs_link(vfs_system(), from, to);
}

static int fail_unlink(struct vfs *v, const char *path)
{
    int r = due(v, VFS_FAULT_WRITES);
    return r ? r : vfs_unlink(vfs_system(), path);
}

static int fail_mkdir(struct vfs *v, const char *path, mode_t mode)
{
    int r = due(v, VFS_FAULT_WRITES);
    return r ? r : vfs_mkdir(vfs_system(), path, mode);
}

static int fail_mkstemp(struct vfs *v, char *template_)
{
    int r = due(v, VFS_FAULT_WRITES | VFS_FAULT_OPENS);
    return r ? r : vfs_mkstemp(vfs_system(), template_);
}

static int fail_list(struct vfs *v, const char *dir, int (*fn)(void *, const char *), void *rock)
{
    int r = due(v, VFS_FAULT_READS);
    return r ? r : vfs_list(vfs_system(), dir, fn, rock);
}

struct vfs *vfs_fail_new(int mask, long k, int error, int forever)
{
    static const struct vfs_ops ops = {
        .open = fail_open,
        .close = fail_close,
        .pread = fail_pread,
        .pwrite = fail_pwrite,
        .fdatasync = fail_sync,
        .fsync = fail_sync,
        .fsyncdir = fail_fsyncdir,
        .ftruncate = fail_ftruncate,
        .fstat = fail_fstat,
        .stat = fail_stat,
        .statat = fail_statat,
        .rename = fail_rename,
        .link = fail_link,
        .unlink = fail_unlink,
        .mkdir = fail_mkdir,
        .mkstemp = fail_mkstemp,
        .list = fail_list,
    };
    struct vfs_fault *f = xzmalloc(sizeof(*f));
    f->vfs.ops = &ops;
    f->mask = mask;
    f->k = k;
    f->error = error;
    f->forever = forever;
    return &f->vfs;
}

long vfs_fault_calls(const struct vfs *v)
{
    return fault(v)->calls;
}

int vfs_fault_happened(const struct vfs *v)
{
    return fault(v)->happened;
}

long long vfs_fault_bytesread(const struct vfs *v)
{
    return fault(v)->bytesread;
}

int vfs_crash_settle(struct vfs *v, enum vfs_settle how, unsigned seed)
{
    return fault(v)->settle ? fault(v)->settle(fault(v), (int)how, seed) : -EINVAL;
}

void vfs_fault_free(struct vfs **v)
{
    if (!*v)
        return;
    struct vfs_fault *f = fault(*v);
    if (f->destroy)
        f->destroy(f);
    free(f);
    *v = NULL;
}
