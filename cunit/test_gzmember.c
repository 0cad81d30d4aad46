/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/gzmember: members in memory, headers of ours and of others, damage. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/gzmember.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"

/* N bytes that compress somewhat, the same for the same SEED. */
static void make_text(struct buf *b, size_t n, unsigned seed)
{
    buf_reset(b);
    while (b->len < n) {
        seed = seed * 1103515245 + 12345;
        buf_printf(b, "%u APPLY line %u\r\n", seed >> 16, (seed >> 8) % 100);
    }
    buf_truncate(b, n);
}

static void pack(struct buf *out, const struct buf *text, struct gzextra *extra)
{
    struct gzpacker *z = gzpacker_new(6);
    gzpacker_pack(z, out, text->s, text->len, extra);
    gzpacker_free(&z);
    CU_ASSERT_PTR_NULL(z);
}

/* A member that another writer made: zlib, with the header HEAD (NULL: zlib's own). */
static void foreign(struct buf *out, const struct buf *text, gz_header *head)
{
    z_stream z;
    memset(&z, 0, sizeof(z));
    CU_ASSERT_EQUAL_FATAL(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, 0), Z_OK);
    if (head)
        deflateSetHeader(&z, head);
    size_t room = deflateBound(&z, text->len) + 1000;
    z.next_in = (unsigned char *)text->s;
    z.avail_in = (uInt)text->len;
    z.next_out = (unsigned char *)buf_ensure(out, room);
    z.avail_out = (uInt)room;
    CU_ASSERT_EQUAL(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->len += room - z.avail_out;
    deflateEnd(&z);
}

static void test_roundtrip(void)
{
    static const size_t sizes[] = {0, 1, 29, 1000, 65536, 1 << 20};
    struct buf text = BUF_INITIALIZER, gz = BUF_INITIALIZER, back = BUF_INITIALIZER;
    struct gzpacker *z = gzpacker_new(5);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct gzextra extra = {.flags = GZ_COMMIT, .id = 0x0102030405060708 + i, .seq = 7}, got;
        make_text(&text, sizes[i], (unsigned)i);
        buf_setcstr(&gz, "before");
        gzpacker_pack(z, &gz, text.s, text.len, &extra);
        CU_ASSERT_EQUAL(extra.length, gz.len - 6);
        CU_ASSERT_EQUAL(gzmember_header(gz.s + 6, gz.len - 6, &got), GZ_HEADER_LEN);
        CU_ASSERT_EQUAL(got.present, 1);
        CU_ASSERT_EQUAL(got.flags, GZ_COMMIT);
        CU_ASSERT_EQUAL(got.length, extra.length);
        CU_ASSERT_EQUAL(got.id, extra.id);
        CU_ASSERT_EQUAL(got.seq, 7);
        buf_setcstr(&back, "abc");
        CU_ASSERT_EQUAL(gzmember_unpack(gz.s + 6, gz.len - 6, text.len, &back), 0);
        buf_consume(&back, 3);
        CU_ASSERT_EQUAL(buf_cmp(&back, &text), 0);
        if (text.len)
            CU_ASSERT_EQUAL(gzmember_unpack(gz.s + 6, gz.len - 6, text.len - 1, &back),
                            XERR_TOOBIG);
        CU_ASSERT_EQUAL(buf_cmp(&back, &text), 0);
    }
    gzpacker_free(&z);
    buf_free(&text);
    buf_free(&gz);
    buf_free(&back);
}

/* The bytes of the header are a file format: here they are one by one. */
static void test_header_bytes(void)
{
    static const unsigned char want[36] = {0x1f, 0x8b, 8,    4,    0,    0,    0,    0,    0,
                                           3,    28,   0,    'C',  'B',  24,   0,    1,    3,
                                           0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, 0x88, 0x77, 0x66,
                                           0x55, 0x44, 0x33, 0x22, 0x11, 0x04, 0x03, 0x02, 0x01};
    struct gzextra extra = {.flags = GZ_COMMIT | GZ_STREAMED,
                            .length = 0x123456789abc,
                            .id = 0x1122334455667788,
                            .seq = 0x01020304};
    unsigned char head[GZ_HEADER_LEN];
    gzmember_putheader(head, &extra);
    CU_ASSERT_EQUAL(memcmp(head, want, sizeof(want)), 0);
    uint32_t crc = crc32_map(0, want + 16, 20);
    for (int i = 0; i < 4; i++)
        CU_ASSERT_EQUAL(head[36 + i], crc >> 8 * i & 0xff);
    struct gzextra got;
    for (size_t n = 0; n < GZ_HEADER_LEN; n++)
        CU_ASSERT_EQUAL(gzmember_header(head, n, &got), XERR_EOF);
    CU_ASSERT_EQUAL(gzmember_header(head, GZ_HEADER_LEN, &got), GZ_HEADER_LEN);
    for (int i = 16; i < GZ_HEADER_LEN; i++) {
        head[i] ^= 0x10;
        CU_ASSERT_EQUAL(gzmember_header(head, GZ_HEADER_LEN, &got), XERR_FORMAT);
        CU_ASSERT_EQUAL(got.present, 0);
        head[i] ^= 0x10;
    }
    head[16] = 2;
    crc = crc32_map(0, head + 16, 20);
    for (int i = 0; i < 4; i++)
        head[36 + i] = (unsigned char)(crc >> 8 * i);
    CU_ASSERT_EQUAL(gzmember_header(head, GZ_HEADER_LEN, &got), XERR_VERSION);
}

static void test_foreign_headers(void)
{
    unsigned char other[] = {'A', 'p', 3, 0, 'x', 'y', 'z', 'Q', 'Q', 0, 0};
    unsigned char name[] = "a file name", comment[] = "a comment";
    gz_header head = {.time = 12345,
                      .os = 7,
                      .extra = other,
                      .extra_len = sizeof(other),
                      .name = name,
                      .comment = comment,
                      .hcrc = 1};
    struct buf text = BUF_INITIALIZER, gz = BUF_INITIALIZER, back = BUF_INITIALIZER;
    struct gzextra extra;
    make_text(&text, 5000, 1);
    foreign(&gz, &text, &head);
    ssize_t len = 10 + 2 + (ssize_t)sizeof(other) + (ssize_t)(sizeof(name) + sizeof(comment)) + 2;
    CU_ASSERT_EQUAL(gzmember_header(gz.s, gz.len, &extra), len);
    CU_ASSERT_EQUAL(extra.present, 0);
    for (ssize_t n = 0; n < len; n++)
        CU_ASSERT_EQUAL(gzmember_header(gz.s, (size_t)n, &extra), XERR_EOF);
    CU_ASSERT_EQUAL(gzmember_unpack(gz.s, gz.len, 5000, &back), 0);
    CU_ASSERT_EQUAL(buf_cmp(&back, &text), 0);
    gz.s[20] ^= 1; /* the header has a checksum */
    CU_ASSERT_EQUAL(gzmember_header(gz.s, gz.len, &extra), XERR_FORMAT);
    buf_reset(&gz);
    foreign(&gz, &text, NULL);
    CU_ASSERT_EQUAL(gzmember_header(gz.s, gz.len, &extra), 10);
    buf_reset(&back);
    CU_ASSERT_EQUAL(gzmember_unpack(gz.s, gz.len, 5000, &back), 0);
    CU_ASSERT_EQUAL(buf_cmp(&back, &text), 0);
    buf_free(&text);
    buf_free(&gz);
    buf_free(&back);
}

static void test_not_gzip(void)
{
    static const unsigned char zeros[64];
    unsigned char extra_overrun[] = {0x1f, 0x8b, 8, 4,   0,   0, 0, 0, 0,
                                     3,    6,    0, 'Z', 'Z', 3, 0, 1, 2};
    struct gzextra extra;
    CU_ASSERT_EQUAL(gzmember_header(zeros, 0, &extra), XERR_EOF);
    CU_ASSERT_EQUAL(gzmember_header(zeros, 1, &extra), XERR_FORMAT);
    CU_ASSERT_EQUAL(gzmember_header(zeros, sizeof(zeros), &extra), XERR_FORMAT);
    CU_ASSERT_EQUAL(gzmember_header("\x1f\x8b\x07", 3, &extra), XERR_FORMAT);
    CU_ASSERT_EQUAL(gzmember_header("\x1f\x8b\x08\x20", 4, &extra), XERR_FORMAT);
    CU_ASSERT_EQUAL(gzmember_header("\x78\x9c", 2, &extra), XERR_FORMAT);
    CU_ASSERT_EQUAL(gzmember_header(extra_overrun, sizeof(extra_overrun), &extra), XERR_FORMAT);
}

/* Every truncation, and every bit changed, is found out; but for the padding in the last byte of
 * the deflate data, which says nothing. */
static void test_damage(void)
{
    struct buf text = BUF_INITIALIZER, gz = BUF_INITIALIZER, back = BUF_INITIALIZER;
    struct gzextra extra = {.seq = 1};
    make_text(&text, 3000, 2);
    pack(&gz, &text, &extra);
    for (size_t n = 0; n < gz.len; n++)
        CU_ASSERT_EQUAL(gzmember_unpack(gz.s, n, 1 << 20, &back), XERR_FORMAT);
    for (size_t i = 16; i < gz.len; i++) {
        for (int bit = 1; bit < 256; bit <<= 1) {
            gz.s[i] = (char)(gz.s[i] ^ bit);
            int r = gzmember_unpack(gz.s, gz.len, 1 << 20, &back);
            int found = r == XERR_FORMAT || (r == XERR_TOOBIG && i >= gz.len - 4);
            CU_ASSERT(found || (!r && i == gz.len - 9 && !buf_cmp(&back, &text)));
            buf_reset(&back);
            gz.s[i] = (char)(gz.s[i] ^ bit);
        }
    }
    buf_putc(&gz, 0);
    CU_ASSERT_EQUAL(gzmember_unpack(gz.s, gz.len, 1 << 20, &back), XERR_FORMAT);
    CU_ASSERT_EQUAL(back.len, 0);
    buf_free(&text);
    buf_free(&gz);
    buf_free(&back);
}

/* A member without our length, cut or with something behind it. */
static void test_foreign_damage(void)
{
    struct buf text = BUF_INITIALIZER, gz = BUF_INITIALIZER, back = BUF_INITIALIZER;
    make_text(&text, 3000, 3);
    foreign(&gz, &text, NULL);
    for (size_t n = 0; n < gz.len; n++)
        CU_ASSERT_EQUAL(gzmember_unpack(gz.s, n, (size_t)-1, &back), XERR_FORMAT);
    buf_appendmap(&gz, gz.s + gz.len - 8, 8);
    CU_ASSERT_EQUAL(gzmember_unpack(gz.s, gz.len, 1 << 20, &back), XERR_FORMAT);
    CU_ASSERT_EQUAL(back.len, 0);
    buf_free(&text);
    buf_free(&gz);
    buf_free(&back);
}

/* A trailer that promises a gigabyte costs nothing. */
static void test_lying_size(void)
{
    struct buf text = BUF_INITIALIZER, gz = BUF_INITIALIZER, back = BUF_INITIALIZER;
    make_text(&text, 2000, 4);
    foreign(&gz, &text, NULL);
    memcpy(gz.s + gz.len - 4, "\x00\x00\x00\x40", 4);
    CU_ASSERT_EQUAL(gzmember_unpack(gz.s, gz.len, (size_t)-1, &back), XERR_FORMAT);
    CU_ASSERT_EQUAL(back.alloc, 0);
    memcpy(gz.s + gz.len - 4, "\x01\x00\x00\x00", 4);
    CU_ASSERT_EQUAL(gzmember_unpack(gz.s, gz.len, (size_t)-1, &back), XERR_FORMAT);
    buf_free(&text);
    buf_free(&gz);
    buf_free(&back);
}

/* zcat prints what several members hold. */
static void test_zcat(void)
{
    struct buf text = BUF_INITIALIZER, gz = BUF_INITIALIZER, all = BUF_INITIALIZER;
    struct buf seen = BUF_INITIALIZER, name = BUF_INITIALIZER;
    struct gzextra extra = {.flags = GZ_COMMIT, .id = 99};
    for (unsigned i = 0; i < 5; i++) {
        make_text(&text, i * 10000, i);
        buf_append(&all, &text);
        extra.seq = i + 1;
        pack(&gz, &text, &extra);
    }
    buf_printf(&name, "%s/data", unit_tmpdir());
    FILE *f = fopen(buf_cstring(&name), "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(fwrite(gz.s, 1, gz.len, f), gz.len);
    CU_ASSERT_EQUAL(fclose(f), 0);
    buf_setcstr(&text, "zcat < ");
    buf_append(&text, &name);
    f = popen(buf_cstring(&text), "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    seen.len = fread(buf_ensure(&seen, all.len + 1), 1, all.len + 1, f);
    CU_ASSERT_EQUAL(pclose(f), 0);
    CU_ASSERT_EQUAL(buf_cmp(&seen, &all), 0);
    buf_free(&text);
    buf_free(&gz);
    buf_free(&all);
    buf_free(&seen);
    buf_free(&name);
}

/* All levels, and those outside, give a readable member; text that does not compress fits too. */
static void test_levels(void)
{
    struct buf text = BUF_INITIALIZER, gz = BUF_INITIALIZER, back = BUF_INITIALIZER;
    unsigned seed = 5;
    for (int i = 0; i < 100000; i++)
        buf_putc(&text, (int)((seed = seed * 1103515245 + 12345) >> 24));
    for (int level = -1; level <= 14; level++) {
        struct gzpacker *z = gzpacker_new(level);
        struct gzextra extra = {.seq = 1};
        buf_reset(&gz);
        gzpacker_pack(z, &gz, text.s, text.len, &extra);
        gzpacker_free(&z);
        buf_reset(&back);
        CU_ASSERT_EQUAL(gzmember_unpack(gz.s, gz.len, text.len, &back), 0);
        CU_ASSERT_EQUAL(buf_cmp(&back, &text), 0);
    }
    buf_free(&text);
    buf_free(&gz);
    buf_free(&back);
}

void suite_gzmember(void);
void suite_gzmember(void)
{
    static const struct unit_test tests[] = {
        {"round trip", test_roundtrip},
        {"header bytes", test_header_bytes},
        {"foreign headers", test_foreign_headers},
        {"not gzip", test_not_gzip},
        {"damage", test_damage},
        {"foreign damage", test_foreign_damage},
        {"lying size", test_lying_size},
        {"zcat", test_zcat},
        {"levels", test_levels},
        {NULL, NULL},
    };
    unit_suite("gzmember", tests);
}
