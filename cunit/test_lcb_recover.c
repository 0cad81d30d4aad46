/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of recovery: damage and debris. */
#include "config.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? -1 : st.st_size;
}

/* The bytes of the newest tail that was set aside (it is removed): how many there were. */
static size_t take_tails(struct lcbtest_file *f, struct buf *bytes)
{
    glob_t g;
    char pattern[400];
    snprintf(pattern, sizeof(pattern), "%s.tail.*", f->path);
    buf_reset(bytes);
    if (glob(pattern, 0, NULL, &g))
        return 0;
    size_t n = g.gl_pathc;
    for (size_t i = 0; i < n; i++) {
        lcbtest_read(g.gl_pathv[i], bytes);
        unlink(g.gl_pathv[i]);
    }
    globfree(&g);
    return n;
}

static void put(struct lcbtest_file *f, const void *p, size_t n)
{
    lcbtest_write(f->path, p, n);
    lcbtest_rmindex(f->path);
}

static int has_mailbox(struct lcbtest_file *f, unsigned n)
{
    char sql[200];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM folders f JOIN records r ON r.folder=f.id"
             " JOIN contents c ON c.id=r.content WHERE uniqueid='u%u' AND chunk NOT NULL", n);
    return (int)lcbtest_int(f->path, sql);
}

/* ---- rot ---- */

static void check_rot(struct lcbtest_file *f, unsigned group, unsigned member, const char *bytes)
{
    struct buf now = BUF_INITIALIZER;
    put(f, bytes, f->data.len);
    lcbtest_openfile(f);
    lcbtest_read(f->path, &now);
    CU_ASSERT(now.len == f->data.len && !memcmp(now.s, bytes, now.len)); /* nothing is dropped */
    CU_ASSERT_EQUAL(take_tails(f, &now), 0);
    for (unsigned n = 0; n < LCBTEST_GROUPS; n++)
        if (n != group)
            CU_ASSERT_EQUAL(has_mailbox(f, n), 1);
    if (member != 1)
        CU_ASSERT_EQUAL(has_mailbox(f, group), 0);
    CU_ASSERT_EQUAL(lcbtest_int(f->path, "SELECT count(*) FROM folders WHERE mark<2"), 0);
    CU_ASSERT(lcbtest_int(f->path, "SELECT count(*) FROM folders") >= LCBTEST_GROUPS - 1);
    CU_ASSERT(lcbtest_logged("is damaged"));
    buf_free(&now);
}

/* Time and origin in a gzip header mean nothing; and with another name on our field the member is
 * one of Cyrus 3.x, otherwise intact. */
static int harmless(off_t in)
{
    return (in >= 4 && in < 10) || in == 12 || in == 13;
}

/* One byte wrong, somewhere in a group that others follow. */
static void test_rot(void)
{
    struct lcbtest_file f;
    lcbtest_makefile(&f);
    char *bytes = xmemdup(f.data.s, f.data.len);
    for (unsigned group = 0; group < LCBTEST_GROUPS - 2; group += 2)
        for (unsigned member = 0; member < LCBTEST_MEMBERS; member++)
            for (off_t at = f.start[group][member]; at < f.start[group][member + 1]; at += 13) {
                if (harmless(at - f.start[group][member]))
                    continue;
                bytes[at] ^= 0x55;
                check_rot(&f, group, member, bytes);
                bytes[at] ^= 0x55;
            }
    free(bytes);
    lcbtest_freefile(&f);
}

/* A hole, and a piece that is gone: what follows stands at another place. */
static void test_holes(void)
{
    struct lcbtest_file f;
    struct buf now = BUF_INITIALIZER;
    lcbtest_makefile(&f);
    buf_append(&now, &f.data);
    memset(now.s + f.start[1][1] + 10, 0, (size_t)(f.start[3][1] - f.start[1][1]));
    put(&f, now.s, now.len);
    lcbtest_openfile(&f);
    CU_ASSERT_EQUAL(size_of(f.path), (off_t)f.data.len);
    for (unsigned n = 0; n < LCBTEST_GROUPS; n++)
        CU_ASSERT_EQUAL(has_mailbox(&f, n), n < 1 || n > 3);

    buf_setmap(&now, f.data.s, (size_t)f.start[2][0] + 30);
    buf_appendmap(&now, f.data.s + f.start[2][1] + 7, f.data.len - (size_t)f.start[2][1] - 7);
    put(&f, now.s, now.len);
    lcbtest_openfile(&f);
    CU_ASSERT_EQUAL(size_of(f.path), (off_t)now.len);
    for (unsigned n = 0; n < LCBTEST_GROUPS; n++)
        CU_ASSERT_EQUAL(has_mailbox(&f, n), n != 2);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folders WHERE mark<2"), 0);
    buf_free(&now);
    lcbtest_freefile(&f);
}

/* After rot the backup is used like any other, and comes out the same again. */
static void test_life_after_rot(void)
{
    struct lcbtest_file f;
    struct buf live = BUF_INITIALIZER, again = BUF_INITIALIZER;
    struct lcbtest_history h;
    lcbtest_makefile(&f);
    f.data.s[f.start[2][1] + 60] ^= 1;
    put(&f, f.data.s, f.data.len);
    struct lcb *b = lcbtest_joe(&f.t);
    lcbtest_start(&h, 3);
    for (int i = 0; i < 20; i++)
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_dump(f.path, &live);
    lcbtest_read(f.path, &f.data);
    lcbtest_rebuild(&f.t, f.data.s, f.data.len, &again);
    CU_ASSERT(lcbtest_same(&live, &again, "after rot"));
    buf_free(&live);
    buf_free(&again);
    lcbtest_freefile(&f);
}

/* ---- torn ---- */

/* The last group damaged at any place: it never happened, and is kept aside. */
static void test_torn(void)
{
    struct lcbtest_file f;
    struct buf tail = BUF_INITIALIZER, now = BUF_INITIALIZER;
    lcbtest_makefile(&f);
    off_t start = f.start[LCBTEST_GROUPS - 1][0];
    char *bytes = xmemdup(f.data.s, f.data.len);
    for (size_t at = (size_t)start; at < f.data.len; at += 7) {
        unsigned m = 0;
        while ((off_t)at >= f.start[LCBTEST_GROUPS - 1][m + 1])
            m++;
        if (harmless((off_t)at - f.start[LCBTEST_GROUPS - 1][m]))
            continue;
        bytes[at] ^= 0x55;
        for (int old = 0; old < 2; old++) { /* rebuilding, and rolling forward */
            put(&f, bytes, f.data.len);
            if (old)
                lcbtest_putindex(f.path, &f.index[LCBTEST_GROUPS - 1]);
            lcbtest_openfile(&f);
            CU_ASSERT_EQUAL(size_of(f.path), start);
            CU_ASSERT_EQUAL(take_tails(&f, &tail), 1);
            CU_ASSERT_EQUAL(tail.len, f.data.len - (size_t)start);
            CU_ASSERT(!memcmp(tail.s, bytes + start, tail.len));
            lcbtest_dump(f.path, &now);
            CU_ASSERT(lcbtest_same(&now, &f.dump[LCBTEST_GROUPS - 1], "torn"));
            CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folders WHERE mark=2"), 0);
        }
        bytes[at] ^= 0x55;
    }
    free(bytes);
    buf_free(&tail);
    buf_free(&now);
    lcbtest_freefile(&f);
}

/* Bytes behind the end that are no continuation. */
static void check_debris(struct lcbtest_file *f, const void *p, size_t n, const char *what)
{
    struct buf all = BUF_INITIALIZER, tail = BUF_INITIALIZER;
    for (int old = 0; old < 2; old++) {
        buf_setmap(&all, f->data.s, f->data.len);
        buf_appendmap(&all, p, n);
        put(f, all.s, all.len);
        if (old)
            lcbtest_putindex(f->path, &f->index[LCBTEST_GROUPS]);
        lcbtest_openfile(f);
        CU_ASSERT_EQUAL(size_of(f->path), (off_t)f->data.len);
        CU_ASSERT_EQUAL(take_tails(f, &tail), 1);
        CU_ASSERT(tail.len == n && !memcmp(tail.s, p, n));
        lcbtest_dump(f->path, &all);
        CU_ASSERT(lcbtest_same(&all, &f->dump[LCBTEST_GROUPS], what));
    }
    buf_free(&all);
    buf_free(&tail);
}

static void test_debris(void)
{
    static const char zeros[9000];
    struct lcbtest_file f, other;
    lcbtest_makefile(&other);
    lcbtest_makefile(&f);
    const char *d = f.data.s;
    check_debris(&f, "x", 1, "a byte");
    check_debris(&f, "\x1f\x8b\x08", 3, "the first bytes of a member");
    check_debris(&f, "To be or not to be\r\n", 20, "text");
    check_debris(&f, zeros, sizeof(zeros), "zeros");
    check_debris(&f, d, (size_t)f.start[0][1], "a member of this file");
    check_debris(&f, d, (size_t)f.start[0][3], "a group of this file");
    check_debris(&f, d + f.start[6][2], 50, "a part of a member");
    check_debris(&f, other.data.s, (size_t)other.start[0][1], "a member of another file");
    check_debris(&f, other.data.s, (size_t)other.start[0][3], "a group of another file");
    lcbtest_freefile(&f);
    lcbtest_freefile(&other);
}

/* Two cuts in one second: both are kept. */
static void test_two_tails(void)
{
    struct lcbtest_file f;
    struct buf all = BUF_INITIALIZER, tail = BUF_INITIALIZER;
    lcbtest_makefile(&f);
    for (int i = 0; i < 3; i++) {
        buf_setmap(&all, f.data.s, f.data.len);
        buf_printf(&all, "debris %d", i);
        lcbtest_write(f.path, all.s, all.len);
        lcbtest_openfile(&f);
    }
    CU_ASSERT_EQUAL(take_tails(&f, &tail), 3);
    buf_free(&all);
    buf_free(&tail);
    lcbtest_freefile(&f);
}

/* The file doubled, as by a restore that appended: it opens, and says what it said. */
static void test_doubled(void)
{
    struct lcbtest_file f;
    struct buf twice = BUF_INITIALIZER, tail = BUF_INITIALIZER;
    lcbtest_makefile(&f);
    buf_append(&twice, &f.data);
    buf_append(&twice, &f.data);
    put(&f, twice.s, twice.len);
    lcbtest_openfile(&f);
    lcbtest_dump(f.path, &twice);
    CU_ASSERT(lcbtest_same(&twice, &f.dump[LCBTEST_GROUPS], "doubled"));
    take_tails(&f, &tail);
    buf_free(&twice);
    buf_free(&tail);
    lcbtest_freefile(&f);
}

static int drop(void *rock, const void *p, size_t n)
{
    (void)p;
    *(uint64_t *)rock += n;
    return 0;
}

/* Is what group N brought there, and readable? */
static int group_readable(struct lcb *b, unsigned n)
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    uint64_t got = 0;
    lcbtest_message(n * 3 + 101, &text, &guid);
    int r = lcb_read_content(b, &guid, drop, &got);
    int ok = !r && got == text.len;
    buf_free(&text);
    return ok;
}

/* Group 3 is a hole of 5 GiB; what is behind it counts, and it goes on. */
static void test_five_gib(void)
{
    const off_t gap = (off_t)5 << 30;
    unsigned char header[GZ_HEADER_LEN];
    struct lcbtest_file f;
    struct gzextra extra;
    struct buf live = BUF_INITIALIZER, again = BUF_INITIALIZER;
    struct lcb *b = NULL;
    lcbtest_makefile(&f);
    size_t from = (size_t)f.start[3][0], behind = (size_t)f.start[4][0];
    CU_ASSERT_EQUAL(gzmember_header(f.data.s + from, GZ_HEADER_LEN, &extra), GZ_HEADER_LEN);
    extra.length = (uint64_t)gap;
    extra.flags = GZ_COMMIT;
    gzmember_putheader(header, &extra);
    lcbtest_write(f.path, f.data.s, from);
    lcbtest_rmindex(f.path);
    int fd = vfs_open(vfs_system(), f.path, O_RDWR, 0);
    CU_ASSERT_EQUAL(vfs_pwrite(vfs_system(), fd, header, sizeof(header), (off_t)from),
                    GZ_HEADER_LEN);
    CU_ASSERT_EQUAL(vfs_pwrite(vfs_system(), fd, f.data.s + behind, f.data.len - behind,
                               (off_t)from + gap), (ssize_t)(f.data.len - behind));
    vfs_close(vfs_system(), &fd);
    for (int round = 0; round < 2; round++) {
        CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
        for (unsigned n = 0; n < LCBTEST_GROUPS; n++)
            CU_ASSERT_EQUAL(group_readable(b, n), n != 3);
        CU_ASSERT(b->df.end > gap);
        CU_ASSERT_EQUAL(lcbtest_upload(b, 500u + (unsigned)round, 1), 0);
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
        lcb_close(&b);
    }
    CU_ASSERT(lcbtest_int(f.path, "SELECT max(start) FROM chunks") > gap);
    lcbtest_dump(f.path, &live);
    lcbtest_rmindex(f.path);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, 0, 0, &b), 0);
    lcbtest_dump(f.path, &again);
    CU_ASSERT(lcbtest_same(&live, &again, "behind 5 GiB"));
    lcb_close(&b);
    buf_free(&live);
    buf_free(&again);
    lcbtest_freefile(&f);
}

/* A path may name any file: what is no data file stays as it is. */
static void test_stranger(void)
{
    static const char *const names[] = {"notes.txt", "joe_abcdef.index", "joe_abcdef.new", NULL};
    struct lcbtest_file f;
    struct buf now = BUF_INITIALIZER;
    struct lcb *b = NULL;
    lcbtest_makefile(&f);
    for (int i = 0; names[i]; i++) {
        char *path = xasprintf("%s/%s", f.t.dir, names[i]), *index = xasprintf("%s.index", path);
        lcbtest_write(path, f.data.s + f.start[0][0] + 41, 300);
        CU_ASSERT_EQUAL(lcb_open_file(f.t.store, path, LCB_WRITE, 0, &b), XERR_FORMAT);
        CU_ASSERT_EQUAL(lcb_open_file(f.t.store, path, LCB_WRITE | LCB_REPAIR, 0, &b), XERR_FORMAT);
        CU_ASSERT_EQUAL(lcb_open_file(f.t.store, path, 0, 0, &b), XERR_FORMAT);
        lcbtest_read(path, &now);
        CU_ASSERT(now.len == 300 && !memcmp(now.s, f.data.s + f.start[0][0] + 41, 300));
        CU_ASSERT_EQUAL(access(index, F_OK), -1);
        lcbtest_write(path, f.data.s, f.data.len); /* but one that begins well is, whatever its name */
        CU_ASSERT_EQUAL(lcb_open_file(f.t.store, path, LCB_WRITE, 0, &b), 0);
        CU_ASSERT(b && group_readable(b, 0));
        lcb_close(&b);
        free(path);
        free(index);
    }
    buf_free(&now);
    lcbtest_freefile(&f);
}

void suite_lcb_recover(void);
void suite_lcb_recover(void)
{
    static const struct unit_test tests[] = {
        {"rot", test_rot},
        {"holes", test_holes},
        {"life after rot", test_life_after_rot},
        {"a torn group", test_torn},
        {"debris", test_debris},
        {"two tails", test_two_tails},
        {"a file doubled", test_doubled},
        {"offsets beyond 4 GiB", test_five_gib},
        {"no data file", test_stranger},
        {NULL, NULL},
    };
    unit_suite("lcb_recover", tests);
}
