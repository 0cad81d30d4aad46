/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/sha1crc, with the published test vectors. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "cunit/unit.h"
#include "lib/sha1crc.h"

static const char *hex(const unsigned char sum[SHA1_LEN])
{
    static char text[2 * SHA1_LEN + 1];
    for (int i = 0; i < SHA1_LEN; i++)
        snprintf(text + 2 * i, 3, "%02x", sum[i]);
    return text;
}

static void test_sha1(void)
{
    unsigned char sum[SHA1_LEN];
    sha1_once("", 0, sum);
    UNIT_STR(hex(sum), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    sha1_once(NULL, 0, sum);
    UNIT_STR(hex(sum), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    sha1_once("abc", 3, sum);
    UNIT_STR(hex(sum), "a9993e364706816aba3e25717850c26c9cd0d89d");
}

static void test_sha1_pieces(void)
{
    static const char text[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    unsigned char sum[SHA1_LEN];
    struct sha1 *s = sha1_new();
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        sha1_update(s, text + i, 1);
    sha1_final(s, sum);
    UNIT_STR(hex(sum), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    sha1_init(s);
    char as[1000];
    memset(as, 'a', sizeof(as));
    for (int i = 0; i < 1000; i++)
        sha1_update(s, as, sizeof(as));
    sha1_update(s, NULL, 0);
    sha1_final(s, sum);
    UNIT_STR(hex(sum), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    sha1_free(&s);
    CU_ASSERT_PTR_NULL(s);
}

static void test_crc32(void)
{
    CU_ASSERT_EQUAL(crc32_map(0, NULL, 0), 0);
    CU_ASSERT_EQUAL(crc32_map(0, "123456789", 9), 0xcbf43926);
    uint32_t crc = crc32_map(0, "1234", 4);
    crc = crc32_map(crc, NULL, 0);
    CU_ASSERT_EQUAL(crc32_map(crc, "56789", 5), 0xcbf43926);
}

void suite_sha1crc(void);
void suite_sha1crc(void)
{
    static const struct unit_test tests[] = {
        {"sha1", test_sha1},
        {"sha1 in pieces", test_sha1_pieces},
        {"crc32", test_crc32},
        {NULL, NULL},
    };
    unit_suite("sha1crc", tests);
}
