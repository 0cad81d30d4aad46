/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/gzmember_stream: members written to and read from files. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/gzmember.h"
#include "lib/vfs.h"
#include "lib/xerr.h"

/* The k-th pwrite fails; everything else is the real file system. */
static int writes_left;

static ssize_t failing_pwrite(struct vfs *v, int fd, const void *p, size_t n, off_t at)
{
    (void)v;
    return writes_left-- > 0 ? vfs_pwrite(vfs_system(), fd, p, n, at) : -ENOSPC;
}

static struct vfs_ops failing_ops;
static struct vfs failing_vfs = {&failing_ops};

static int scratch_file(void)
{
    char template_[512];
    snprintf(template_, sizeof(template_), "%s/data_XXXXXX", unit_tmpdir());
    int fd = vfs_mkstemp(vfs_system(), template_);
    CU_ASSERT_FATAL(fd >= 0);
    failing_ops = *vfs_system()->ops;
    failing_ops.pwrite = failing_pwrite;
    return fd;
}

/* SQUEEZE: 0 incompressible, else lines. */
static void make_text(struct buf *b, size_t n, int squeeze)
{
    unsigned seed = 1;
    buf_reset(b);
    buf_ensure(b, n + 64);
    while (b->len < n) {
        seed = seed * 1103515245 + 12345;
        if (squeeze)
            buf_printf(b, "%u APPLY line %u\r\n", seed >> 16, (seed >> 8) % 100);
        else
            buf_putc(b, (int)(seed >> 24));
    }
    buf_truncate(b, n);
}

/* Write TEXT at AT in pieces of STEP. */
static int write_member(struct vfs *v, int fd, off_t at, const struct buf *text, size_t step,
                        struct gzextra *extra)
{
    struct gzwriter *w;
    CU_ASSERT_EQUAL_FATAL(gzwriter_open(v, fd, at, 6, &w), 0);
    int r = 0;
    for (size_t i = 0; i < text->len && !r; i += step)
        r = gzwriter_write(w, text->s + i, text->len - i < step ? text->len - i : step);
    int end = gzwriter_finish(&w, extra);
    CU_ASSERT_PTR_NULL(w);
    if (r)
        CU_ASSERT_EQUAL(end, r);
    return end;
}

/* Read the member at AT into BACK in pieces of STEP: 0 or the error; *END behind it. */
static int read_member(int fd, off_t at, size_t step, struct buf *back, off_t *end)
{
    struct gzreader *r;
    buf_reset(back);
    ssize_t n = gzreader_open(vfs_system(), fd, at, &r);
    if (n < 0) {
        CU_ASSERT_PTR_NULL(r);
        return (int)n;
    }
    while ((n = gzreader_read(r, buf_ensure(back, step), step)) > 0)
        back->len += (size_t)n;
    CU_ASSERT_EQUAL(gzreader_read(r, buf_ensure(back, step), step), n);
    *end = gzreader_offset(r);
    gzreader_close(&r);
    CU_ASSERT_PTR_NULL(r);
    return (int)n;
}

static void roundtrip(size_t size, int squeeze, size_t step)
{
    struct buf text = BUF_INITIALIZER, back = BUF_INITIALIZER;
    struct gzextra extra = {.flags = GZ_STREAMED, .id = 42, .seq = 3};
    off_t end = -1;
    int fd = scratch_file();
    make_text(&text, size, squeeze);
    CU_ASSERT_EQUAL(write_member(vfs_system(), fd, 100, &text, step, &extra), 0);
    struct stat st;
    CU_ASSERT_EQUAL(vfs_fstat(vfs_system(), fd, &st), 0);
    CU_ASSERT_EQUAL((uint64_t)st.st_size, 100 + extra.length);
    CU_ASSERT_EQUAL(read_member(fd, 100, step + 1, &back, &end), 0);
    CU_ASSERT_EQUAL(end, st.st_size);
    CU_ASSERT_EQUAL(buf_cmp(&text, &back), 0);

    /* The same bytes are a member for the reader in memory. */
    struct buf gz = BUF_INITIALIZER;
    ssize_t n = vfs_pread(vfs_system(), fd, buf_ensure(&gz, extra.length), extra.length, 100);
    CU_ASSERT_EQUAL((uint64_t)n, extra.length);
    buf_reset(&back);
    CU_ASSERT_EQUAL(gzmember_unpack(gz.s, extra.length, size, &back), 0);
    CU_ASSERT_EQUAL(buf_cmp(&text, &back), 0);
    struct gzextra got;
    CU_ASSERT_EQUAL(gzmember_header(gz.s, extra.length, &got), GZ_HEADER_LEN);
    CU_ASSERT_EQUAL(got.flags, GZ_STREAMED);
    CU_ASSERT_EQUAL(got.id, 42);
    CU_ASSERT_EQUAL(got.seq, 3);
    vfs_close(vfs_system(), &fd);
    buf_free(&text);
    buf_free(&back);
    buf_free(&gz);
}

static void test_roundtrip(void)
{
    roundtrip(0, 1, 10);
    roundtrip(1, 1, 10);
    roundtrip(100000, 1, 7);
    roundtrip(3000000, 1, 100000);
    roundtrip(3000000, 0, 3000000);
    /* Sizes around the point where the trailer does not fit into the last buffer any more. */
    for (size_t size = 65536 - 80; size < 65536; size++)
        roundtrip(size, 0, size);
}

/* Members of both kinds one after another, read in turn. */
static void test_series(void)
{
    struct buf text = BUF_INITIALIZER, gz = BUF_INITIALIZER, back = BUF_INITIALIZER;
    struct gzextra extra = {.seq = 1};
    struct gzpacker *z = gzpacker_new(1);
    int fd = scratch_file();
    off_t at = 0, end = 0;
    for (size_t i = 0; i < 6; i++) {
        make_text(&text, i * 40000, i % 3 != 0);
        if (i % 2) {
            CU_ASSERT_EQUAL(write_member(vfs_system(), fd, at, &text, 9999, &extra), 0);
        } else {
            buf_reset(&gz);
            gzpacker_pack(z, &gz, text.s, text.len, &extra);
            CU_ASSERT_EQUAL(vfs_pwrite(vfs_system(), fd, gz.s, gz.len, at), (ssize_t)gz.len);
        }
        at += (off_t)extra.length;
    }
    gzpacker_free(&z);
    at = 0;
    for (size_t i = 0; i < 6; i++) {
        make_text(&text, i * 40000, i % 3 != 0);
        CU_ASSERT_EQUAL(read_member(fd, at, 4096, &back, &end), 0);
        CU_ASSERT_EQUAL(buf_cmp(&text, &back), 0);
        at = end;
    }
    CU_ASSERT_EQUAL(read_member(fd, at, 4096, &back, &end), XERR_EOF);
    vfs_close(vfs_system(), &fd);
    buf_free(&text);
    buf_free(&gz);
    buf_free(&back);
}

/* Whatever is missing at the end of the file: XERR_EOF. A changed byte: XERR_FORMAT or XERR_EOF. */
static void test_damage(void)
{
    struct buf text = BUF_INITIALIZER, back = BUF_INITIALIZER;
    struct gzextra extra = {.seq = 1};
    struct vfs *v = vfs_system();
    off_t end;
    int fd = scratch_file();
    make_text(&text, 3000, 1);
    CU_ASSERT_EQUAL(write_member(v, fd, 0, &text, 3000, &extra), 0);
    for (off_t i = 16; i < (off_t)extra.length; i++) {
        unsigned char c, changed;
        CU_ASSERT_EQUAL(vfs_pread(v, fd, &c, 1, i), 1);
        changed = (unsigned char)(c ^ (1 << i % 8));
        CU_ASSERT_EQUAL(vfs_pwrite(v, fd, &changed, 1, i), 1);
        int r = read_member(fd, 0, 512, &back, &end);
        CU_ASSERT(r == XERR_FORMAT || r == XERR_EOF);
        CU_ASSERT_EQUAL(vfs_pwrite(v, fd, &c, 1, i), 1);
    }
    CU_ASSERT_EQUAL(read_member(fd, 0, 512, &back, &end), 0);
    for (off_t size = (off_t)extra.length - 1; size >= 0; size--) {
        CU_ASSERT_EQUAL(vfs_ftruncate(v, fd, size), 0);
        CU_ASSERT_EQUAL(read_member(fd, 0, 512, &back, &end), XERR_EOF);
        CU_ASSERT(back.len <= text.len && !memcmp(back.s, text.s, back.len));
    }
    vfs_close(v, &fd);
    buf_free(&text);
    buf_free(&back);
}

/* The length in the header must be that of the member. */
static void test_wrong_length(void)
{
    struct buf text = BUF_INITIALIZER, back = BUF_INITIALIZER;
    struct gzextra extra = {.seq = 1};
    unsigned char head[GZ_HEADER_LEN];
    off_t end;
    int fd = scratch_file();
    make_text(&text, 3000, 1);
    CU_ASSERT_EQUAL(write_member(vfs_system(), fd, 0, &text, 3000, &extra), 0);
    extra.length++;
    gzmember_putheader(head, &extra);
    CU_ASSERT_EQUAL(vfs_pwrite(vfs_system(), fd, head, sizeof(head), 0), GZ_HEADER_LEN);
    CU_ASSERT_EQUAL(read_member(fd, 0, 512, &back, &end), XERR_FORMAT);
    vfs_close(vfs_system(), &fd);
    buf_free(&text);
    buf_free(&back);
}

/* Until it is finished there is no member; an abort leaves it so. */
static void test_abort(void)
{
    struct buf text = BUF_INITIALIZER, back = BUF_INITIALIZER;
    struct gzwriter *w;
    off_t end;
    int fd = scratch_file();
    make_text(&text, 200000, 0);
    CU_ASSERT_EQUAL_FATAL(gzwriter_open(vfs_system(), fd, 0, 6, &w), 0);
    CU_ASSERT_EQUAL(gzwriter_write(w, text.s, text.len), 0);
    struct stat st;
    CU_ASSERT_EQUAL(vfs_fstat(vfs_system(), fd, &st), 0);
    CU_ASSERT(st.st_size >= 65536);
    CU_ASSERT_EQUAL(read_member(fd, 0, 512, &back, &end), XERR_FORMAT);
    gzwriter_abort(&w);
    CU_ASSERT_PTR_NULL(w);
    CU_ASSERT_EQUAL(read_member(fd, 0, 512, &back, &end), XERR_FORMAT);
    vfs_close(vfs_system(), &fd);
    buf_free(&text);
    buf_free(&back);
}

/* Whichever write fails, the error comes out and there is no member in the file. */
static void test_failing_writes(void)
{
    struct buf text = BUF_INITIALIZER, back = BUF_INITIALIZER;
    struct gzextra extra = {.seq = 1};
    off_t end;
    int r, k = 0;
    make_text(&text, 200000, 0);
    do {
        int fd = scratch_file();
        writes_left = k++;
        r = write_member(&failing_vfs, fd, 0, &text, 10000, &extra);
        if (r) {
            CU_ASSERT_EQUAL(r, -ENOSPC);
            CU_ASSERT(read_member(fd, 0, 512, &back, &end) < 0);
        } else {
            CU_ASSERT_EQUAL(read_member(fd, 0, 512, &back, &end), 0);
        }
        vfs_close(vfs_system(), &fd);
    } while (r);
    CU_ASSERT(k >= 5); /* four of data, one of the header */
    buf_free(&text);
    buf_free(&back);
}

/* A header with more than fits anywhere, and the extra of an ordinary one. */
static void test_headers(void)
{
    struct buf b = BUF_INITIALIZER;
    struct gzextra extra = {.id = 5, .seq = 6};
    struct gzreader *r;
    int fd = scratch_file();
    buf_setmap(&b, "\x1f\x8b\x08\x08\0\0\0\0\0\x03", 10);
    memset(buf_ensure(&b, 200000), 'n', 200000);
    b.len += 200000;
    CU_ASSERT_EQUAL(vfs_pwrite(vfs_system(), fd, b.s, b.len, 0), (ssize_t)b.len);
    CU_ASSERT_EQUAL(gzreader_open(vfs_system(), fd, 0, &r), XERR_TOOBIG);
    CU_ASSERT_PTR_NULL(r);
    CU_ASSERT_EQUAL(gzreader_open(vfs_system(), fd, 10, &r), XERR_FORMAT);
    buf_setcstr(&b, "text");
    CU_ASSERT_EQUAL(write_member(vfs_system(), fd, 0, &b, 9, &extra), 0);
    CU_ASSERT_EQUAL_FATAL(gzreader_open(vfs_system(), fd, 0, &r), 0);
    CU_ASSERT_EQUAL(gzreader_offset(r), GZ_HEADER_LEN);
    CU_ASSERT_EQUAL(gzreader_extra(r)->length, extra.length);
    CU_ASSERT_EQUAL(gzreader_extra(r)->id, 5);
    gzreader_close(&r);
    vfs_close(vfs_system(), &fd);
    CU_ASSERT_EQUAL(gzreader_open(vfs_system(), -1, 0, &r), -EBADF);
    buf_free(&b);
}

void suite_gzmember_stream(void);
void suite_gzmember_stream(void)
{
    static const struct unit_test tests[] = {
        {"round trip", test_roundtrip}, {"series", test_series},
        {"damage", test_damage},        {"wrong length", test_wrong_length},
        {"abort", test_abort},          {"failing writes", test_failing_writes},
        {"headers", test_headers},      {NULL, NULL},
    };
    unit_suite("gzmember_stream", tests);
}
