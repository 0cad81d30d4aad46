/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/vfs and lib/filelock on the real file system. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cunit/unit.h"
#include "lib/filelock.h"
#include "lib/vfs.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static void test_readwrite(void)
{
    struct vfs *v = vfs_system();
    char *path = xasprintf("%s/f", unit_tmpdir()), got[16];
    struct stat st;
    CU_ASSERT_EQUAL(vfs_open(v, path, O_RDWR, 0), -ENOENT);
    int fd = vfs_open(v, path, O_RDWR | O_CREAT, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CU_ASSERT_EQUAL(vfs_pwrite(v, fd, "hello", 5, 3), 5);
    CU_ASSERT_EQUAL(vfs_pread(v, fd, got, sizeof(got), 1), 7);
    CU_ASSERT(!memcmp(got, "\0\0hello", 7));
    CU_ASSERT_EQUAL(vfs_pread(v, fd, got, sizeof(got), 8), 0);
    CU_ASSERT_EQUAL(vfs_pread(v, fd, got, 1, -1), -EINVAL);
    CU_ASSERT_EQUAL(vfs_ftruncate(v, fd, 4), 0);
    CU_ASSERT_EQUAL(vfs_fdatasync(v, fd), 0);
    CU_ASSERT_EQUAL(vfs_fsync(v, fd), 0);
    CU_ASSERT_EQUAL(vfs_fstat(v, fd, &st), 0);
    CU_ASSERT_EQUAL(st.st_size, 4);
    CU_ASSERT_EQUAL(vfs_close(v, &fd), 0);
    CU_ASSERT_EQUAL(fd, -1);
    CU_ASSERT_EQUAL(vfs_close(v, &fd), 0);
    free(path);
}

static void test_names(void)
{
    struct vfs *v = vfs_system();
    const char *dir = unit_tmpdir();
    char *a = xasprintf("%s/x/y//z/a", dir), *b = xasprintf("%s/x/b", dir);
    char *t = xasprintf("%s/t_XXXXXX", dir), *under = xasprintf("%s/under", b);
    struct stat st;
    CU_ASSERT_EQUAL(vfs_mkparents(v, a), 0);
    CU_ASSERT_EQUAL(vfs_mkparents(v, a), 0);
    int fd = vfs_open(v, a, O_RDWR | O_CREAT | O_EXCL, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(filelock_same(fd, a), 1);
    CU_ASSERT_EQUAL(filelock_same(fd, b), 0);
    CU_ASSERT_EQUAL(vfs_link(v, a, b), 0);
    CU_ASSERT_EQUAL(vfs_link(v, a, b), -EEXIST);
    CU_ASSERT_EQUAL(filelock_same(fd, b), 1);
    CU_ASSERT_EQUAL(vfs_mkparents(v, under), -ENOTDIR);
    CU_ASSERT_EQUAL(vfs_unlink(v, a), 0);
    CU_ASSERT_EQUAL(vfs_stat(v, a, &st), -ENOENT);
    CU_ASSERT_EQUAL(vfs_rename(v, b, a), 0);
    CU_ASSERT_EQUAL(vfs_stat(v, a, &st), 0);
    CU_ASSERT_EQUAL(vfs_fsyncparent(v, a), 0);
    CU_ASSERT_EQUAL(vfs_fsyncparent(v, b + strlen(b) - 1), 0);
    CU_ASSERT_EQUAL(vfs_fsyncparent(v, "/nowhere/at/all"), -ENOENT);
    int tfd = vfs_mkstemp(v, t);
    CU_ASSERT_FATAL(tfd >= 0);
    CU_ASSERT_EQUAL(vfs_stat(v, t, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode & 0777, 0600);
    CU_ASSERT(fcntl(tfd, F_GETFD) & FD_CLOEXEC);
    vfs_close(v, &tfd);
    vfs_close(v, &fd);
    free(a);
    free(b);
    free(t);
    free(under);
}

static int count_stop(void *rock)
{
    return ++*(int *)rock >= 3;
}

static void test_locks(void)
{
    struct vfs *v = vfs_system();
    char *path = xasprintf("%s/f", unit_tmpdir());
    int a = vfs_open(v, path, O_RDWR | O_CREAT, 0600), b = vfs_open(v, path, O_RDWR, 0);
    int c = vfs_open(v, path, O_RDWR, 0), asked = 0;
    CU_ASSERT_EQUAL(filelock_lock(a, FILELOCK_SHARED, 0, NULL, NULL), 0);
    CU_ASSERT_EQUAL(filelock_lock(b, FILELOCK_SHARED, -1, NULL, NULL), 0);
    CU_ASSERT_EQUAL(filelock_lock(b, FILELOCK_EXCLUSIVE, 0, NULL, NULL), XERR_LOCKED);
    CU_ASSERT_EQUAL(filelock_lock(b, FILELOCK_EXCLUSIVE, 5, NULL, NULL), XERR_LOCKED);
    CU_ASSERT_EQUAL(filelock_lock(b, FILELOCK_EXCLUSIVE, -1, count_stop, &asked), XERR_SIGNAL);
    CU_ASSERT_EQUAL(asked, 3);
    vfs_close(v, &c); /* with POSIX locks this would have dropped both */
    CU_ASSERT_EQUAL(filelock_lock(a, FILELOCK_EXCLUSIVE, 0, NULL, NULL), XERR_LOCKED);
    CU_ASSERT_EQUAL(filelock_unlock(b), 0);
    CU_ASSERT_EQUAL(filelock_lock(a, FILELOCK_EXCLUSIVE, -1, NULL, NULL), 0);
    CU_ASSERT_EQUAL(filelock_lock(b, FILELOCK_SHARED, 0, NULL, NULL), XERR_LOCKED);
    CU_ASSERT_EQUAL(filelock_lock(-1, FILELOCK_SHARED, 0, NULL, NULL), -EBADF);
    vfs_close(v, &a);
    CU_ASSERT_EQUAL(filelock_lock(b, FILELOCK_EXCLUSIVE, 1000, NULL, NULL), 0);
    vfs_close(v, &b);
    free(path);
}

/* What a stock program does to a file that we hold: a POSIX lock of another process. */
static int posix_conflicts(const char *path, short type)
{
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(path, O_RDWR);
        struct flock fl = {.l_type = type, .l_whence = SEEK_SET};
        _exit(fd < 0 ? 2 : fcntl(fd, F_SETLK, &fl) < 0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_posix(void)
{
    struct vfs *v = vfs_system();
    char *path = xasprintf("%s/f", unit_tmpdir());
    int fd = vfs_open(v, path, O_RDWR | O_CREAT, 0600);
    CU_ASSERT_EQUAL(filelock_lock(fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL), 0);
    CU_ASSERT_EQUAL(posix_conflicts(path, F_RDLCK), 1);
    CU_ASSERT_EQUAL(filelock_lock(fd, FILELOCK_SHARED, 0, NULL, NULL), 0);
    CU_ASSERT_EQUAL(posix_conflicts(path, F_RDLCK), 0);
    CU_ASSERT_EQUAL(posix_conflicts(path, F_WRLCK), 1);
    CU_ASSERT_EQUAL(filelock_unlock(fd), 0);
    CU_ASSERT_EQUAL(posix_conflicts(path, F_WRLCK), 0);
    vfs_close(v, &fd);
    free(path);
}

void suite_vfs(void);
void suite_vfs(void)
{
    static const struct unit_test tests[] = {
        {"readwrite", test_readwrite}, {"names", test_names}, {"locks", test_locks},
        {"posix", test_posix},         {NULL, NULL},
    };
    unit_suite("vfs", tests);
}
