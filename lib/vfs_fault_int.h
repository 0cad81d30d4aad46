/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the failing and the crashing file system share. Private to lib/vfs_*.c. */
#ifndef LIB_VFS_FAULT_INT_H
#define LIB_VFS_FAULT_INT_H

#include "lib/vfs.h"

struct vfs_fault {
    struct vfs vfs; /* first, so that a struct vfs * can be cast back */
    int mask;
    long k;
    int error;
    int forever;
    long calls;
    int happened;
    long long bytesread;
    void (*destroy)(struct vfs_fault *);
    int (*settle)(struct vfs_fault *, int how, unsigned seed);
};

/* One unsynced change of a file: a write of LEN bytes NEW at AT, or (NEW is NULL) a truncation to
 * AT. OLD are the bytes that were there from AT on. */
struct change {
    struct change *next;
    off_t at;
    size_t len;
    char *new;
    char *old;
    size_t oldlen;
    off_t oldsize, newsize;
};

struct node {
    struct node *next;
    unsigned number;
    dev_t dev;
    ino_t ino;
    int fd;
    struct change *first, **last;
    unsigned nchanges;
};

enum name_kind { NAME_ADD, NAME_REMOVE, NAME_MOVE, NAME_DIR };

struct name_op {
    struct name_op *next;
    enum name_kind kind;
    char *path, *to;              /* TO: NAME_MOVE only */
    struct node *node, *replaced; /* REPLACED: what TO named before */
    int durable, kept;
};

struct watched_fd {
    struct watched_fd *next;
    int fd;
    struct node *node;
};

struct crash {
    struct vfs_fault f;
    char *root;
    struct node *nodes;
    struct watched_fd *fds;
    struct name_op *ops, **lastop;
};

/* Count a call of KINDS; 1 if it is to fail. */
int vfs_fault_due(struct vfs_fault *f, int kinds);
/* The kinds of an open with FLAGS. */
int vfs_fault_openkinds(int flags);

/* Is PATH (both without doubled slashes) below DIR? */
int vfs_crash_below(const char *path, const char *dir);
/* Does LATER presuppose EARLIER: the same name, or another name for the file it takes one from? */
int vfs_crash_builds_on(const struct name_op *later, const struct name_op *earlier);
/* Note what others did to PATH (without doubled slashes) behind the journal's back. */
void vfs_crash_see_others(struct crash *c, const char *path);
/* Everything of N so far is durable. */
void vfs_crash_forget(struct node *n);
/* vfs_crash_settle() of the struct crash around F. */
int vfs_crash_dosettle(struct vfs_fault *f, int how, unsigned seed);

#endif
