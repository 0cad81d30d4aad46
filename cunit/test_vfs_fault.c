/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of the failing and the crashing file system. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xmalloc.h"

static char dir[96];

/* DIR/NAME; several may be in use at a time. */
static const char *in(const char *name)
{
    static char paths[8][128];
    static int next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
    return p;
}

static void fresh(void)
{
    snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
}

static void put(const char *name, const char *text)
{
    int fd = open(in(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

/* The text of a file, "(none)" if there is no such file. */
static const char *get(const char *name)
{
    static char text[64];
    int fd = open(in(name), O_RDONLY);
    if (fd < 0)
        return "(none)";
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n < 0 ? 0 : n] = '\0';
    return text;
}

static int write_at(struct vfs *v, const char *name, const char *text, off_t at, int sync)
{
    int fd = vfs_open(v, in(name), O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        return fd;
    ssize_t r = vfs_pwrite(v, fd, text, strlen(text), at);
    if (r >= 0 && sync)
        r = vfs_fdatasync(v, fd);
    vfs_close(v, &fd);
    return r < 0 ? (int)r : 0;
}

static void test_failing(void)
{
    char b[4];
    fresh();
    struct vfs *v = vfs_fail_new(VFS_FAULT_WRITES, 2, ENOSPC, 0);
    CU_ASSERT_EQUAL(write_at(v, "f", "abc", 0, 0), -ENOSPC);
    CU_ASSERT_EQUAL(vfs_fault_happened(v), 1);
    UNIT_STR(get("f"), "");
    CU_ASSERT_EQUAL(write_at(v, "f", "abc", 0, 1), 0);
    CU_ASSERT_EQUAL(vfs_fault_calls(v), 5);
    UNIT_STR(get("f"), "abc");
    int fd = vfs_open(v, in("f"), O_RDONLY, 0);
    CU_ASSERT_EQUAL(vfs_pread(v, fd, b, 4, 1), 2);
    CU_ASSERT_EQUAL(vfs_fault_bytesread(v), 2);
    vfs_close(v, &fd);
    vfs_fault_free(&v);
    CU_ASSERT_PTR_NULL(v);

    v = vfs_fail_new(VFS_FAULT_SYNCS, 1, EIO, 1);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(write_at(v, "f", "x", 0, 1), -EIO);
    CU_ASSERT_EQUAL(vfs_fsyncparent(v, in("f")), -EIO);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, VFS_SETTLE_LOST, 0), -EINVAL);
    vfs_fault_free(&v);
}

/* Old contents, a synced write, unsynced ones, a truncation. */
static void crash_data(enum vfs_settle how, long k, const char *expected)
{
    fresh();
    put("f", "0123456789");
    struct vfs *v = vfs_crash_new(dir, k);
    CU_ASSERT_EQUAL(write_at(v, "f", "ab", 2, 1), 0);
    int fd = vfs_open(v, in("f"), O_RDWR, 0);
    vfs_pwrite(v, fd, "XYZ", 3, 8);
    vfs_ftruncate(v, fd, 1);
    int r = (int)vfs_pwrite(v, fd, "!", 1, 3);
    CU_ASSERT_EQUAL(r, vfs_fault_happened(v) ? -EIO : 1);
    CU_ASSERT_EQUAL(vfs_pread(v, fd, &r, 1, 0), k ? -EIO : 1);
    vfs_close(v, &fd);
    CU_ASSERT_EQUAL(fd, -1);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, 1), 0);
    UNIT_STR(get("f"), expected);
    vfs_fault_free(&v);
}

static void test_data(void)
{
    crash_data(VFS_SETTLE_LOST, 0, "01ab456789");
    crash_data(VFS_SETTLE_LOST, 6, "01ab456789");
    crash_data(VFS_SETTLE_KEPT, 5, "01ab4567XYZ");
    crash_data(VFS_SETTLE_KEPT, 6, "0");
    fresh();
    put("f", "old");
    struct vfs *v = vfs_crash_new(dir, 0);
    int fd = vfs_open(v, in("f"), O_RDWR | O_TRUNC | O_APPEND, 0);
    CU_ASSERT_EQUAL(vfs_pwrite(v, fd, "a", 1, 0), 1);
    CU_ASSERT_EQUAL(vfs_pwrite(v, fd, "b", 1, 0), 1);
    UNIT_STR(get("f"), "ab");
    vfs_close(v, &fd);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, VFS_SETTLE_LOST, 1), 0);
    UNIT_STR(get("f"), "old");
    vfs_fault_free(&v);
}

/* Every kind of name, each once unsynced; with SYNC all are made durable at the end. */
static void crash_names(enum vfs_settle how, int sync, unsigned seed)
{
    fresh();
    put("gone", "gone");
    put("moved", "moved");
    put("under", "under");
    put("linked", "linked");
    struct vfs *v = vfs_crash_new(dir, 0);
    CU_ASSERT_EQUAL(write_at(v, "made", "made", 0, 1), 0);
    CU_ASSERT_EQUAL(vfs_unlink(v, in("gone")), 0);
    CU_ASSERT_EQUAL(vfs_rename(v, in("moved"), in("under")), 0);
    CU_ASSERT_EQUAL(vfs_link(v, in("linked"), in("second")), 0);
    CU_ASSERT_EQUAL(vfs_unlink(v, in("linked")), 0);
    CU_ASSERT_EQUAL(vfs_mkdir(v, in("sub"), 0700), 0);
    CU_ASSERT_EQUAL(write_at(v, "sub/inner", "inner", 0, 1), 0);
    CU_ASSERT_EQUAL(vfs_fsyncdir(v, in("sub")), 0);
    char *t = xstrdup(in("t_XXXXXX"));
    int fd = vfs_mkstemp(v, t);
    CU_ASSERT(fd >= 0);
    vfs_close(v, &fd);
    if (sync)
        CU_ASSERT_EQUAL(vfs_fsyncparent(v, in("x")), 0);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    CU_ASSERT(how == VFS_SETTLE_TORN || (access(t, F_OK) == 0) == (sync || how));
    free(t);
}

static void names_before(void)
{
    UNIT_STR(get("made"), "(none)");
    UNIT_STR(get("gone"), "gone");
    UNIT_STR(get("moved"), "moved");
    UNIT_STR(get("under"), "under");
    UNIT_STR(get("linked"), "linked");
    UNIT_STR(get("second"), "(none)");
    CU_ASSERT(access(in("sub"), F_OK) < 0);
}

static void names_after(void)
{
    UNIT_STR(get("made"), "made");
    UNIT_STR(get("gone"), "(none)");
    UNIT_STR(get("moved"), "(none)");
    UNIT_STR(get("under"), "moved");
    UNIT_STR(get("linked"), "(none)");
    UNIT_STR(get("second"), "linked");
    UNIT_STR(get("sub/inner"), "inner");
}

static void test_names(void)
{
    crash_names(VFS_SETTLE_LOST, 0, 0);
    names_before();
    crash_names(VFS_SETTLE_KEPT, 0, 0);
    names_after();
    for (unsigned how = VFS_SETTLE_LOST; how <= VFS_SETTLE_TORN; how++) {
        crash_names((enum vfs_settle)how, 1, how);
        names_after();
    }
}

/* Torn: every combination that order allows turns up, none that it forbids. */
static void test_torn_names(void)
{
    int made = 0, moved = 0, both = 0;
    for (unsigned seed = 0; seed < 64; seed++) {
        crash_names(VFS_SETTLE_TORN, 0, seed);
        int m = access(in("made"), F_OK) == 0, r = access(in("moved"), F_OK) < 0;
        made += m;
        moved += r;
        both += m && r;
        UNIT_STR(get("under"), r ? "moved" : "under");
        CU_ASSERT(access(in("linked"), F_OK) == 0 || access(in("second"), F_OK) == 0);
    }
    CU_ASSERT(made > 8 && made < 56);
    CU_ASSERT(moved > 8 && moved < 56);
    CU_ASSERT(both > 0 && both < made && both < moved);
}

/* A chain on one path: what is lost takes along what was built on it. */
static void test_torn_chain(void)
{
    int seen[3] = {0, 0, 0};
    for (unsigned seed = 0; seed < 64; seed++) {
        fresh();
        put("f", "old");
        struct vfs *v = vfs_crash_new(dir, 0);
        CU_ASSERT_EQUAL(write_at(v, "new", "new", 0, 1), 0);
        CU_ASSERT_EQUAL(vfs_rename(v, in("new"), in("f")), 0);
        CU_ASSERT_EQUAL(vfs_crash_settle(v, VFS_SETTLE_TORN, seed), 0);
        vfs_fault_free(&v);
        int is_new = !strcmp(get("f"), "new"), left = !strcmp(get("new"), "new");
        CU_ASSERT(is_new || !strcmp(get("f"), "old"));
        CU_ASSERT(!(is_new && left));
        seen[is_new ? 2 : left]++;
    }
    CU_ASSERT(seen[0] && seen[1] && seen[2]);
}

/* Three writes over eight sectors: each sector is one that existed at some time. */
static void test_torn_data(void)
{
    char old[4096], got[8192];
    int mixed = 0, whole = 0, lost = 0, shorter = 0;
    memset(old, 'o', sizeof(old));
    for (unsigned seed = 0; seed < 100; seed++) {
        fresh();
        put("f", "");
        int fd = open(in("f"), O_RDWR);
        CU_ASSERT_EQUAL(pwrite(fd, old, sizeof(old), 0), (ssize_t)sizeof(old));
        close(fd);
        struct vfs *v = vfs_crash_new(dir, 0);
        fd = vfs_open(v, in("f"), O_RDWR, 0);
        char a[4096], b[100];
        memset(a, 'a', sizeof(a));
        memset(b, 'b', sizeof(b));
        vfs_pwrite(v, fd, a, sizeof(a), 512);
        vfs_pwrite(v, fd, b, sizeof(b), 1000);
        vfs_close(v, &fd);
        CU_ASSERT_EQUAL(vfs_crash_settle(v, VFS_SETTLE_TORN, seed), 0);
        vfs_fault_free(&v);
        fd = open(in("f"), O_RDONLY);
        ssize_t n = read(fd, got, sizeof(got));
        close(fd);
        CU_ASSERT(n == 4096 || n == 4608);
        CU_ASSERT(!memcmp(got, old, 512));
        int na = 0, no = 0;
        for (int s = 1; s < 8; s++) {
            const char *p = got + s * 512;
            int is_b = s == 1 ? p[500] == 'b' : s == 2 ? p[0] == 'b' : 0;
            for (int i = 0; i < 512; i++) {
                int in_b = s * 512 + i >= 1000 && s * 512 + i < 1100;
                CU_ASSERT_EQUAL(p[i], is_b && in_b ? 'b' : is_b ? 'a' : p[511 * (s == 2)]);
            }
            na += p[0] != 'o';
            no += p[0] == 'o';
        }
        mixed += na && no;
        whole += !no && n == 4608;
        lost += !na;
        shorter += n == 4096;
    }
    CU_ASSERT(mixed > 10);
    CU_ASSERT(whole > 3);
    CU_ASSERT(lost > 3);
    CU_ASSERT(shorter > 10);
}

/* Others, who do not ask, make a file where one was removed, or remove one that was renamed: as they
 * left it, so it is, and what led there has happened. */
static void others(enum vfs_settle how, unsigned seed)
{
    fresh();
    put("f", "old");
    put("a", "a");
    put("linked", "linked");
    struct vfs *v = vfs_crash_new(dir, 0);
    CU_ASSERT_EQUAL(vfs_unlink(v, in("f")), 0);
    put("f", "theirs");
    CU_ASSERT_EQUAL(vfs_rename(v, in("a"), in("b")), 0);
    CU_ASSERT_EQUAL(unlink(in("b")), 0);
    CU_ASSERT_EQUAL(vfs_link(v, in("linked"), in("second")), 0);
    CU_ASSERT_EQUAL(vfs_unlink(v, in("linked")), 0);
    put("linked", "theirs");
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    UNIT_STR(get("f"), "theirs");
    UNIT_STR(get("a"), "(none)");
    UNIT_STR(get("b"), "(none)");
    UNIT_STR(get("linked"), "theirs");
    UNIT_STR(get("second"), "linked");
}

/* Their file is then removed, or replaced, here: that may be lost, but never what was before theirs
 * comes back. 1 if it is lost. */
static int after_others(enum vfs_settle how, unsigned seed, int replace)
{
    fresh();
    put("f", "old");
    put("fresh", "fresh");
    struct vfs *v = vfs_crash_new(dir, 0);
    CU_ASSERT_EQUAL(vfs_unlink(v, in("f")), 0);
    put("f", "theirs");
    int r = replace ? vfs_rename(v, in("fresh"), in("f")) : vfs_unlink(v, in("f"));
    CU_ASSERT_EQUAL(r, 0);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    int lost = !strcmp(get("f"), "theirs");
    UNIT_STR(get("f"), lost ? "theirs" : replace ? "fresh" : "(none)");
    UNIT_STR(get("fresh"), replace && !lost ? "(none)" : "fresh");
    return lost;
}

static void test_others(void)
{
    others(VFS_SETTLE_LOST, 0);
    others(VFS_SETTLE_KEPT, 0);
    for (int replace = 0; replace < 2; replace++) {
        int lost = 0;
        CU_ASSERT_EQUAL(after_others(VFS_SETTLE_LOST, 0, replace), 1);
        CU_ASSERT_EQUAL(after_others(VFS_SETTLE_KEPT, 0, replace), 0);
        for (unsigned seed = 0; seed < 32; seed++) {
            others(VFS_SETTLE_TORN, seed);
            lost += after_others(VFS_SETTLE_TORN, seed, replace);
        }
        CU_ASSERT(lost > 2 && lost < 30);
    }
}

/* Files elsewhere are neither counted nor touched. */
static void test_unwatched(void)
{
    fresh();
    CU_ASSERT_EQUAL(mkdir(in("w"), 0700), 0);
    struct vfs *v = vfs_crash_new(in("w"), 2);
    CU_ASSERT_EQUAL(write_at(v, "outside", "x", 0, 0), 0);
    CU_ASSERT_EQUAL(write_at(v, "wider", "x", 0, 0), 0);
    CU_ASSERT_EQUAL(vfs_fault_calls(v), 0);
    CU_ASSERT_EQUAL(write_at(v, "w//inside", "x", 0, 0), -EIO);
    CU_ASSERT_EQUAL(vfs_fault_calls(v), 2);
    CU_ASSERT_EQUAL(vfs_unlink(v, in("outside")), -EIO);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, VFS_SETTLE_LOST, 0), 0);
    UNIT_STR(get("outside"), "x");
    UNIT_STR(get("w/inside"), "(none)");
    vfs_fault_free(&v);
}

void suite_vfs_fault(void);
void suite_vfs_fault(void)
{
    static const struct unit_test tests[] = {
        {"failing", test_failing},       {"data", test_data},
        {"names", test_names},           {"torn_names", test_torn_names},
        {"torn_chain", test_torn_chain}, {"torn_data", test_torn_data},
        {"others", test_others},         {"unwatched", test_unwatched},
        {NULL, NULL},
    };
    unit_suite("vfs_fault", tests);
}
