/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of backup/lcb_partition: choosing by usage (faked), and file names. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_partition.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

/* Partition i of a fake world is named "pI", and its usage is world[i]. */
enum { MAXPARTS = 5 };
static struct {
    int count;
    int error[MAXPARTS];
    struct lcb_usage usage[MAXPARTS];
    char dir[MAXPARTS][512];
    char name[MAXPARTS][8];
    struct lcb_partition part[MAXPARTS];
    double draw;
    int draws;
    struct lcb_placement placement;
} world;

static int nlogged;

static void hook(int priority, const char *text)
{
    CU_ASSERT_EQUAL(priority, LOG_WARNING);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "backuppartition-p"));
    nlogged++;
}

static int fake_usage(void *rock, const char *dir, struct lcb_usage *u)
{
    CU_ASSERT_PTR_EQUAL(rock, &world);
    CU_ASSERT_EQUAL(access(dir, W_OK), 0); /* it has been made */
    for (int i = 0; i < world.count; i++) {
        if (!strcmp(dir, world.dir[i])) {
            *u = world.usage[i];
            return world.error[i];
        }
    }
    CU_FAIL("asked about another directory");
    return -ENOENT;
}

static double fake_draw(void *rock)
{
    CU_ASSERT_PTR_EQUAL(rock, &world);
    world.draws++;
    return world.draw;
}

static void start(enum lcb_select mode)
{
    memset(&world, 0, sizeof(world));
    world.placement = (struct lcb_placement){.partitions = world.part,
                                             .mode = mode,
                                             .usage = fake_usage,
                                             .draw = fake_draw,
                                             .rock = &world};
    nlogged = 0;
    xlog_sethook(hook);
}

/* Each on a file system of its own. */
static void add(uint64_t avail, uint64_t total)
{
    int i = world.count++;
    world.placement.count = (size_t)world.count;
    snprintf(world.dir[i], sizeof(world.dir[i]), "%s/parts/p%d", unit_tmpdir(), i);
    snprintf(world.name[i], sizeof(world.name[i]), "p%d", i);
    world.part[i] = (struct lcb_partition){world.name[i], world.dir[i]};
    world.usage[i] = (struct lcb_usage){avail, total, (uint64_t)i + 100};
}

static int chosen(void)
{
    const struct lcb_partition *p = NULL;
    int r = lcb_partition_choose(vfs_system(), &world.placement, &p);
    if (r) {
        CU_ASSERT_PTR_NULL(p);
        return r;
    }
    CU_ASSERT_FATAL(p >= world.part && p < world.part + world.count);
    return (int)(p - world.part);
}

static int chosen_at(double draw)
{
    int draws = world.draws;
    world.draw = draw;
    int i = chosen();
    CU_ASSERT_EQUAL(world.draws, draws + 1);
    return i;
}

static void test_most(void)
{
    start(LCB_SELECT_MOST);
    add(100, 1000);
    add(300, 100000);
    add(300, 400);
    CU_ASSERT_EQUAL(chosen(), 1); /* the first of equals */
    world.usage[2].avail++;
    CU_ASSERT_EQUAL(chosen(), 2);
    world.placement.mode = LCB_SELECT_PERCENT_MOST;
    world.usage[0].avail = 900;
    CU_ASSERT_EQUAL(chosen(), 0);
    CU_ASSERT_EQUAL(world.draws, 0);
}

/* Only the first directory of a file system takes part. */
static void test_same_filesystem(void)
{
    start(LCB_SELECT_MOST);
    add(100, 1000);
    add(101, 1000);
    CU_ASSERT_EQUAL(chosen(), 1);
    world.usage[1].fsid = world.usage[0].fsid;
    CU_ASSERT_EQUAL(chosen(), 0);
    world.placement.mode = LCB_SELECT_PERCENT_WEIGHTED;
    CU_ASSERT_EQUAL(chosen_at(0.99), 1);
}

static void test_soft_limit(void)
{
    start(LCB_SELECT_MOST);
    add(200000, 1000000); /* 80 % used */
    add(500, 1000);       /* 50 % */
    CU_ASSERT_EQUAL(chosen(), 0);
    world.placement.soft_usage_limit = 81;
    CU_ASSERT_EQUAL(chosen(), 0);
    world.placement.soft_usage_limit = 80; /* at the limit is too full */
    CU_ASSERT_EQUAL(chosen(), 1);
    world.placement.soft_usage_limit = 50; /* nobody is below: no limit */
    CU_ASSERT_EQUAL(chosen(), 0);
}

static void test_random(void)
{
    start(LCB_SELECT_RANDOM);
    add(1, 1000);
    add(999, 1000);
    add(0, 1000);
    add(500, 1000);
    CU_ASSERT_EQUAL(chosen_at(0), 0);
    CU_ASSERT_EQUAL(chosen_at(0.249), 0);
    CU_ASSERT_EQUAL(chosen_at(0.25), 1);
    CU_ASSERT_EQUAL(chosen_at(0.5), 2);
    CU_ASSERT_EQUAL(chosen_at(0.9999999), 3);
}

static void test_weighted(void)
{
    start(LCB_SELECT_PERCENT_WEIGHTED);
    add(10, 100);
    add(0, 100);
    add(30, 100);
    CU_ASSERT_EQUAL(chosen_at(0), 0);
    CU_ASSERT_EQUAL(chosen_at(0.2499), 0);
    CU_ASSERT_EQUAL(chosen_at(0.2501), 2);
    CU_ASSERT_EQUAL(chosen_at(0.9999999), 2);
    /* Delta: 0.5 and 20.5. */
    world.placement.mode = LCB_SELECT_PERCENT_DELTA;
    CU_ASSERT_EQUAL(chosen_at(0.0237), 0);
    CU_ASSERT_EQUAL(chosen_at(0.0239), 2);
    /* With 10 % above the limit only the other is left. */
    world.placement.soft_usage_limit = 80;
    CU_ASSERT_EQUAL(chosen_at(0), 2);
}

/* Figures that cannot be make it random among those that have some; so do full disks. */
static void test_odd_figures(void)
{
    start(LCB_SELECT_MOST);
    add(0, 0);
    add(0, 100);
    add(5, 100);
    CU_ASSERT_EQUAL(chosen_at(0.4), 0);
    CU_ASSERT_EQUAL(chosen_at(0.6), 2);
    start(LCB_SELECT_PERCENT_MOST);
    add(0, 100);
    add(0, 100);
    CU_ASSERT_EQUAL(chosen_at(0.4), 0);
    CU_ASSERT_EQUAL(chosen_at(0.6), 1);
    start(LCB_SELECT_MOST);
    add(101, 100);
    add(200, 1000);
    CU_ASSERT_EQUAL(chosen_at(0.4), 0);
}

static void test_exclude(void)
{
    start(LCB_SELECT_MOST);
    CU_ASSERT_EQUAL(chosen(), XERR_CONFIG);
    add(500, 1000);
    add(100, 1000);
    add(300, 1000);
    world.placement.exclude = " p0,\tp";
    CU_ASSERT_EQUAL(chosen(), 2);
    world.placement.exclude = "p2 p0,p1";
    CU_ASSERT_EQUAL(chosen(), XERR_CONFIG);
    CU_ASSERT_EQUAL(nlogged, 0);
}

/* What cannot be examined or made is left out. */
static void test_unusable(void)
{
    start(LCB_SELECT_MOST);
    add(500, 1000);
    add(100, 1000);
    world.error[0] = -EIO;
    CU_ASSERT_EQUAL(chosen(), 1);
    CU_ASSERT_EQUAL(nlogged, 1);
    world.error[1] = -EACCES;
    CU_ASSERT_EQUAL(chosen(), -EIO);
    CU_ASSERT_EQUAL(nlogged, 3);
    world.error[0] = 0;
    strcpy(world.dir[0], "/dev/null/x"); /* nor can it be made */
    CU_ASSERT_EQUAL(chosen(), -ENOTDIR);
    xlog_sethook(NULL);
}

static char asked[100]; /* the last letters of the directories that were asked about */

/* p0 and p3 are not. */
static int fake_usable(void *rock, const char *dir)
{
    size_t n = strlen(asked);
    char c = dir[strlen(dir) - 1];
    CU_ASSERT_PTR_EQUAL(rock, &world);
    asked[n] = c;
    asked[n + 1] = '\0';
    return c == '0' ? -ENODEV : c == '3' ? -EIO : 0;
}

/* Only what was chosen is asked about. One that is not usable is as if it were not there. */
static void test_not_usable(void)
{
    start(LCB_SELECT_MOST);
    add(500, 1000);
    add(400, 1000);
    add(450, 1000);
    world.placement.usable = fake_usable;
    world.usage[1].fsid = world.usage[0].fsid; /* has no say beside p0 */
    world.usage[2].avail = 300;
    asked[0] = '\0';
    CU_ASSERT_EQUAL(chosen(), 1);
    UNIT_STR(asked, "01");
    CU_ASSERT_EQUAL(nlogged, 1);
    world.usage[2].avail = 501;
    asked[0] = '\0';
    CU_ASSERT_EQUAL(chosen(), 2);
    UNIT_STR(asked, "2");
    CU_ASSERT_EQUAL(nlogged, 1);
    /* Of those that are left each is drawn, none of the others. */
    add(800, 1000);
    world.placement.mode = LCB_SELECT_PERCENT_DELTA;
    for (int i = 0; i < 100; i++) {
        world.draw = i / 100.0;
        asked[0] = '\0';
        int c = chosen();
        CU_ASSERT(c == 1 || c == 2);
    }
    /* The first error is told if none is left. */
    world.placement.exclude = "p1 p2";
    world.placement.mode = LCB_SELECT_MOST;
    asked[0] = '\0';
    CU_ASSERT_EQUAL(chosen(), -EIO);
    UNIT_STR(asked, "30");
    xlog_sethook(NULL);
}

/* The system's own figures and random numbers. */
static void test_real(void)
{
    start(LCB_SELECT_PERCENT_WEIGHTED);
    add(0, 0);
    world.placement.usage = NULL;
    world.placement.draw = NULL;
    CU_ASSERT_EQUAL(chosen(), 0);
    world.placement.mode = LCB_SELECT_MOST;
    CU_ASSERT_EQUAL(chosen(), 0);
    world.placement.mode = LCB_SELECT_RANDOM;
    int seen = 0;
    add(0, 0);
    for (int i = 0; i < 1000 && seen != 3; i++)
        seen |= 1 << chosen();
    CU_ASSERT_EQUAL(seen, 3);
    xlog_sethook(NULL);
}

static void test_hash(void)
{
    CU_ASSERT_EQUAL(lcb_path_hash("alice", 0), 'a');
    CU_ASSERT_EQUAL(lcb_path_hash("Zed", 0), 'z');
    CU_ASSERT_EQUAL(lcb_path_hash("%SHARED", 0), 'q');
    CU_ASSERT_EQUAL(lcb_path_hash("0x", 0), 'q');
    CU_ASSERT_EQUAL(lcb_path_hash("\xc3\xa9t\xc3\xa9", 0), 'q');
    CU_ASSERT_EQUAL(lcb_path_hash("", 0), 'q');
    CU_ASSERT_EQUAL(lcb_path_hash("%SHARED", 1), 'J');
    CU_ASSERT_EQUAL(lcb_path_hash("ivan", 1), 'C');
    CU_ASSERT_EQUAL(lcb_path_hash("ivan@defdom.org", 1), 'A');
    CU_ASSERT_EQUAL(lcb_path_hash("bob@example.com", 1), 'D');
    CU_ASSERT_EQUAL(lcb_path_hash("john.doe", 1), 'K');
    CU_ASSERT_EQUAL(lcb_path_hash("Zed", 1), 'L');
}

/* USERID is written as WANT, and read back from a file name. */
static void encoded(const char *userid, size_t len, const char *want)
{
    struct buf b = BUF_INITIALIZER, back = BUF_INITIALIZER, id = BUF_INITIALIZER;
    buf_setmap(&id, userid, len);
    CU_ASSERT_EQUAL(lcb_filename_encode(&b, userid, len), 0);
    UNIT_STR(buf_cstring(&b), want);
    buf_appendcstr(&b, "_a1B2c3");
    CU_ASSERT_EQUAL(lcb_filename_decode(&back, buf_cstring(&b)), 0);
    CU_ASSERT_EQUAL(buf_cmp(&back, &id), 0);
    buf_free(&b);
    buf_free(&back);
    buf_free(&id);
}

static void test_encode(void)
{
    struct buf b = BUF_INITIALIZER;
    encoded("alice", 5, "alice");
    encoded("Bob.J@example.com", 17, "Bob.J@example.com");
    encoded("a_b c\\~", 7, "a_b c\\~");
    encoded("%SHARED", 7, "%SHARED");
    encoded("%SHAREDx", 8, "%25SHAREDx");
    encoded("%shared", 7, "%25shared");
    encoded(".", 1, "%2E");
    encoded("..", 2, "%2E.");
    encoded("../../etc/passwd", 16, "%2E.%2F..%2Fetc%2Fpasswd");
    encoded("a\0b", 3, "a%00b");
    encoded("caf\xc3\xa9\x7f\n", 7, "caf%C3%A9%7F%0A");
    encoded("100%41", 6, "100%2541");
    CU_ASSERT_EQUAL(lcb_filename_encode(&b, "", 0), XERR_PARAM);
    CU_ASSERT_EQUAL(b.len, 0);
    buf_free(&b);
}

static void test_encode_long(void)
{
    struct buf b = BUF_INITIALIZER, back = BUF_INITIALIZER;
    char id[1000], want[201];
    memset(id, 'x', sizeof(id));
    memset(want, 'x', 200);
    want[200] = '\0';
    encoded(id, 200, want);
    /* The SHA-1 of 201 times x. */
    strcpy(want + 158, "%~4b18791347c9db92f62f44a2dfe9c51a9cd2b11d");
    CU_ASSERT_EQUAL(lcb_filename_encode(&b, id, 201), 0);
    CU_ASSERT_EQUAL(b.len, 200);
    CU_ASSERT_EQUAL(memcmp(b.s, want, 160), 0);
    UNIT_STR(buf_cstring(&b), want);
    buf_appendcstr(&b, "_a1B2c3");
    CU_ASSERT_EQUAL(lcb_filename_decode(&back, buf_cstring(&b)), XERR_TOOBIG);
    /* An escape is not cut in two. */
    memset(id, '/', sizeof(id));
    buf_setcstr(&b, "dir/");
    CU_ASSERT_EQUAL(lcb_filename_encode(&b, id, sizeof(id)), 0);
    CU_ASSERT_EQUAL(b.len, 4 + 156 + 42);
    CU_ASSERT_EQUAL(memcmp(b.s, "dir/%2F%2F", 10), 0);
    CU_ASSERT_EQUAL(memcmp(b.s + 4 + 153, "%2F%~", 5), 0);
    buf_free(&b);
    buf_free(&back);
}

static void test_decode(void)
{
    struct buf b = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(lcb_filename_decode(&b, "alice"), XERR_FORMAT);
    CU_ASSERT_EQUAL(lcb_filename_decode(&b, "_abcdef"), XERR_FORMAT);
    CU_ASSERT_EQUAL(lcb_filename_decode(&b, ""), XERR_FORMAT);
    CU_ASSERT_EQUAL(lcb_filename_decode(&b, "alice_abcde"), XERR_FORMAT);
    CU_ASSERT_EQUAL(lcb_filename_decode(&b, "alice_abc.ef"), XERR_FORMAT);
    CU_ASSERT_EQUAL(lcb_filename_decode(&b, "alice_abcdef.index"), XERR_FORMAT);
    CU_ASSERT_EQUAL(lcb_filename_decode(&b, "a/lice_abcdef"), XERR_FORMAT);
    CU_ASSERT_EQUAL(b.len, 0);
    CU_ASSERT_EQUAL(lcb_filename_decode(&b, "5%_%4g%2f%4_abcdef"), 0);
    UNIT_STR(buf_cstring(&b), "5%_%4g/%4");
    buf_free(&b);
}

static void test_path_new(void)
{
    char *path, *again, dir[512], start_[600];
    struct stat st;
    int fd;
    snprintf(dir, sizeof(dir), "%s/a/b", unit_tmpdir());
    CU_ASSERT_EQUAL_FATAL(lcb_path_new(vfs_system(), dir, "../Al ice", 0, &path, &fd), 0);
    snprintf(start_, sizeof(start_), "%s/q/%%2E.%%2FAl ice_", dir);
    CU_ASSERT_EQUAL(strlen(path), strlen(start_) + 6);
    CU_ASSERT_EQUAL(strncmp(path, start_, strlen(start_)), 0);
    CU_ASSERT_EQUAL(fstat(fd, &st), 0);
    CU_ASSERT_EQUAL(st.st_mode, S_IFREG | 0600);
    CU_ASSERT_EQUAL(st.st_size, 0);
    CU_ASSERT_EQUAL(write(fd, "x", 1), 1);
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(st.st_size, 1);
    close(fd);
    CU_ASSERT_EQUAL_FATAL(lcb_path_new(vfs_system(), dir, "../Al ice", 0, &again, &fd), 0);
    CU_ASSERT_NOT_EQUAL(strcmp(path, again), 0);
    close(fd);
    free(path);
    free(again);
    CU_ASSERT_EQUAL_FATAL(lcb_path_new(vfs_system(), dir, "john.doe", 1, &path, &fd), 0);
    snprintf(start_, sizeof(start_), "%s/K/john.doe_", dir);
    CU_ASSERT_EQUAL(strncmp(path, start_, strlen(start_)), 0);
    close(fd);
    free(path);
    CU_ASSERT_EQUAL(lcb_path_new(vfs_system(), dir, "", 0, &path, &fd), XERR_PARAM);
    CU_ASSERT_PTR_NULL(path);
    CU_ASSERT_EQUAL(fd, -1);
    CU_ASSERT_EQUAL(lcb_path_new(vfs_system(), "relative", "x", 0, &path, &fd), XERR_CONFIG);
    CU_ASSERT_EQUAL(lcb_path_new(vfs_system(), "/dev/null", "x", 0, &path, &fd), -ENOTDIR);
}

static int count_entries(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

/* Whichever call fails, no file stays behind. */
static void test_path_failures(void)
{
    char dir[512], below[600], *path;
    int fd = -1, r = 1, failures = -1;
    for (long k = 1; r; k++) {
        struct vfs *v = vfs_fail_new(VFS_FAULT_ALL, k, ENOSPC, 0);
        snprintf(dir, sizeof(dir), "%s/part", unit_tmpdir());
        snprintf(below, sizeof(below), "%s/a", dir);
        r = lcb_path_new(v, dir, "alice", 0, &path, &fd);
        if (r) {
            CU_ASSERT_PTR_NULL(path);
            CU_ASSERT_EQUAL(fd, -1);
            CU_ASSERT_EQUAL(count_entries(below), 0);
        }
        failures++;
        CU_ASSERT_FATAL(k < 100);
        vfs_fault_free(&v);
    }
    CU_ASSERT(failures >= 4);
    CU_ASSERT_EQUAL(count_entries(below), 1);
    close(fd);
    free(path);
}

void suite_lcb_partition(void);
void suite_lcb_partition(void)
{
    static const struct unit_test tests[] = {
        {"most", test_most},
        {"same file system", test_same_filesystem},
        {"soft limit", test_soft_limit},
        {"random", test_random},
        {"weighted", test_weighted},
        {"odd figures", test_odd_figures},
        {"exclude", test_exclude},
        {"unusable", test_unusable},
        {"chosen and not usable", test_not_usable},
        {"real", test_real},
        {"hash", test_hash},
        {"encode", test_encode},
        {"encode long", test_encode_long},
        {"decode", test_decode},
        {"path", test_path_new},
        {"path failures", test_path_failures},
        {NULL, NULL},
    };
    unit_suite("lcb_partition", tests);
}
