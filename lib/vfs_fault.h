/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Two file systems for tests. Both pass calls on to the real one and count them.
 *
 * Failing: call number K (from 1) of those selected by MASK returns -ERROR, once or from then on;
 * nothing else changes.
 *
 * Crashing: at call number K the "machine" stops: that call and all later ones return -EIO and
 * change nothing more on disk. vfs_crash_settle() then decides what became of everything written
 * but not synced since the start: lost, kept, or torn (a random prefix of a random subset of the
 * writes, and of unsynced names: create, rename, unlink). Then the files are as after a reboot.
 * Files that others (SQLite) made or removed meanwhile are as they left them.
 *
 * The mask names kinds of calls: VFS_FAULT_WRITES counts everything that changes something
 * (pwrite, ftruncate, open with O_CREAT, rename, link, unlink, mkdir, mkstemp, syncs). */
#ifndef LIB_VFS_FAULT_H
#define LIB_VFS_FAULT_H

#include "lib/vfs.h"

enum {
    VFS_FAULT_READS = 1,
    VFS_FAULT_WRITES = 2,
    VFS_FAULT_SYNCS = 4,
    VFS_FAULT_OPENS = 8,
    VFS_FAULT_ALL = 15
};
enum vfs_settle { VFS_SETTLE_LOST, VFS_SETTLE_KEPT, VFS_SETTLE_TORN };

/* K <= 0: never fails, only counts. FOREVER: every selected call from K on fails. */
struct vfs *vfs_fail_new(int mask, long k, int error, int forever);
/* ROOT: only files below it are watched. */
struct vfs *vfs_crash_new(const char *root, long k);
/* Calls counted so far. */
long vfs_fault_calls(const struct vfs *);
/* 1 once the failure or crash has happened. */
int vfs_fault_happened(const struct vfs *);
/* Bytes read through it so far. */
long long vfs_fault_bytesread(const struct vfs *);
/* Crashing only: leave the disk as a reboot would find it. SEED drives VFS_SETTLE_TORN. Returns 0
 * or -errno. Close all files first. */
int vfs_crash_settle(struct vfs *, enum vfs_settle how, unsigned seed);
void vfs_fault_free(struct vfs **);

#endif
