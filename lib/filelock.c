/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* filelock - whole-file locks by open file description.
 *
 * A bounded wait, or one that can be called off, polls: there is no timed form of F_OFD_SETLKW, and
 * a signal that comes between the check of STOP and the sleep would be missed. The pause grows
 * from 1 to 50 ms, so a lock held for a moment costs a moment. Only a wait for ever that nobody can
 * call off sleeps in the kernel. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/filelock.h"
#include "lib/xerr.h"

static int ofd(int fd, int cmd, short type)
{
    struct flock fl;
    memset(&fl, 0, sizeof(fl)); /* l_pid must be 0; start 0, length 0: the whole file */
    fl.l_type = type;
    fl.l_whence = SEEK_SET;
    int r;
    do
        r = fcntl(fd, cmd, &fl);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return errno == EAGAIN || errno == EACCES ? XERR_LOCKED : -errno;
    return 0;
}

static long long now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* TRY once, or until it has the lock. */
static int keep_trying(int (*try)(int fd, short type), int fd, short type, int wait_ms,
                       int (*stop)(void *), void *rock)
{
    long long end = wait_ms > 0 ? now_ms() + wait_ms : 0;
    long pause_ms = 1;
    for (;;) {
        int r = try(fd, type);
        if (r != XERR_LOCKED || wait_ms == 0)
            return r;
        if (stop && stop(rock))
            return XERR_SIGNAL;
        if (wait_ms > 0 && now_ms() >= end)
            return XERR_LOCKED;
        struct timespec nap = {0, pause_ms * 1000000};
        nanosleep(&nap, NULL);
        if (pause_ms < 50)
            pause_ms += pause_ms < 25 ? pause_ms : 50 - pause_ms;
    }
}

static int try_ofd(int fd, short type)
{
    return ofd(fd, F_OFD_SETLK, type);
}

int filelock_lock(int fd, enum filelock_mode mode, int wait_ms, int (*stop)(void *), void *rock)
{
    short type = mode == FILELOCK_EXCLUSIVE ? F_WRLCK : F_RDLCK;
    if (wait_ms < 0 && !stop)
        return ofd(fd, F_OFD_SETLKW, type);
    return keep_trying(try_ofd, fd, type, wait_ms, stop, rock);
}

int filelock_unlock(int fd)
{
    return ofd(fd, F_OFD_SETLK, F_UNLCK);
}

static int try_flock(int fd, short type)
{
    int r;
    (void)type;
    do
        r = flock(fd, LOCK_EX | LOCK_NB);
    while (r < 0 && errno == EINTR);
    return !r ? 0 : errno == EWOULDBLOCK ? XERR_LOCKED : -errno;
}

int filelock_maintain(int fd, int wait_ms, int (*stop)(void *), void *rock)
{
    return keep_trying(try_flock, fd, 0, wait_ms, stop, rock);
}

int filelock_same(int fd, const char *path)
{
    struct stat open_st, named_st;
    if (fstat(fd, &open_st) < 0)
        return -errno;
    if (stat(path, &named_st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
    return open_st.st_dev == named_st.st_dev && open_st.st_ino == named_st.st_ino;
}
