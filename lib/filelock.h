/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Whole-file locks by open file description (F_OFD_SETLK), which conflict correctly with the POSIX
 * fcntl locks of stock Cyrus programs and are not lost when another descriptor of the file closes. */
#ifndef LIB_FILELOCK_H
#define LIB_FILELOCK_H

enum filelock_mode { FILELOCK_SHARED, FILELOCK_EXCLUSIVE };

/* WAIT_MS: 0 fails at once, < 0 waits for ever, > 0 tries for that long. Returns 0, XERR_LOCKED,
 * XERR_SIGNAL when STOP (may be NULL) returns non-zero while waiting, or -errno. */
int filelock_lock(int fd, enum filelock_mode mode, int wait_ms, int (*stop)(void *), void *rock);
int filelock_unlock(int fd);
/* Another lock, which has nothing to do with the one above (flock(2)): exclusive, until the last
 * descriptor of this opening is closed. FD may be open for reading only. It waits as above. */
int filelock_maintain(int fd, int wait_ms, int (*stop)(void *), void *rock);
/* 1 if FD's file is still the one that PATH names, 0 if it was replaced or removed, or -errno. */
int filelock_same(int fd, const char *path);

#endif
