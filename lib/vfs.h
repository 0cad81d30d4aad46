/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The one door to the file system for everything the store keeps (data files, backups.db, staging,
 * set-aside pieces). The product uses vfs_system(); tests use one that fails or crashes at the k-th
 * call (lib/vfs_fault.h). SQLite's own files are outside it.
 *
 * Every function returns >= 0 for success or -errno. Reads and writes are complete: vfs_pread
 * returns less than asked only at end of file, vfs_pwrite never; EINTR is retried inside. */
#ifndef LIB_VFS_H
#define LIB_VFS_H

#include <sys/stat.h>
#include <sys/types.h>
#include <stddef.h>

struct vfs;

struct vfs_ops {
    int (*open)(struct vfs *, const char *path, int flags, mode_t mode);
    int (*close)(struct vfs *, int fd);
    ssize_t (*pread)(struct vfs *, int fd, void *p, size_t n, off_t at);
    ssize_t (*pwrite)(struct vfs *, int fd, const void *p, size_t n, off_t at);
    int (*fdatasync)(struct vfs *, int fd);
    int (*fsync)(struct vfs *, int fd);
    int (*fsyncdir)(struct vfs *, const char *dir); /* make new names in DIR durable */
    int (*ftruncate)(struct vfs *, int fd, off_t size);
    int (*fstat)(struct vfs *, int fd, struct stat *st);
    int (*stat)(struct vfs *, const char *path, struct stat *st);
    int (*statat)(struct vfs *, int dirfd, const char *name, struct stat *st);
    int (*rename)(struct vfs *, const char *from, const char *to);
    int (*link)(struct vfs *, const char *from, const char *to);
    int (*unlink)(struct vfs *, const char *path);
    int (*mkdir)(struct vfs *, const char *path, mode_t mode);
    int (*mkstemp)(struct vfs *, char *template_); /* mode 0600, O_RDWR|O_CLOEXEC */
    int (*list)(struct vfs *, const char *dir, int (*fn)(void *, const char *), void *rock);
};

struct vfs {
    const struct vfs_ops *ops;
};

/* The real file system; shared, never freed. */
struct vfs *vfs_system(void);

/* O_CLOEXEC is always added. */
int vfs_open(struct vfs *, const char *path, int flags, mode_t mode);
/* *FD >= 0 is closed and set to -1; otherwise nothing happens. */
int vfs_close(struct vfs *, int *fd);
ssize_t vfs_pread(struct vfs *, int fd, void *p, size_t n, off_t at);
ssize_t vfs_pwrite(struct vfs *, int fd, const void *p, size_t n, off_t at);
int vfs_fdatasync(struct vfs *, int fd);
int vfs_fsync(struct vfs *, int fd);
int vfs_fsyncdir(struct vfs *, const char *dir);
/* fsyncdir of the directory that holds PATH. */
int vfs_fsyncparent(struct vfs *, const char *path);
int vfs_ftruncate(struct vfs *, int fd, off_t size);
int vfs_fstat(struct vfs *, int fd, struct stat *st);
int vfs_stat(struct vfs *, const char *path, struct stat *st);
/* Of the file NAME in the directory that DIRFD stands for. */
int vfs_statat(struct vfs *, int dirfd, const char *name, struct stat *st);
int vfs_rename(struct vfs *, const char *from, const char *to);
int vfs_link(struct vfs *, const char *from, const char *to);
int vfs_unlink(struct vfs *, const char *path);
int vfs_mkdir(struct vfs *, const char *path, mode_t mode);
int vfs_mkstemp(struct vfs *, char *template_);
/* FN for every name in DIR but "." and "..", in no order; a non-zero result ends it and is
 * returned. Memory does not grow with their number. */
int vfs_list(struct vfs *, const char *dir, int (*fn)(void *rock, const char *name), void *rock);
/* Make all missing directories above PATH (mode 0755 less umask), each synced into its parent. */
int vfs_mkparents(struct vfs *, const char *path);

#endif
