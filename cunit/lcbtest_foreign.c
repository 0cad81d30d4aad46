/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcbtest_foreign - write data files as Cyrus 3.x does. */
#include "config.h"

#include <string.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest_foreign.h"
#include "cunit/unit.h"

static void put(struct cyrus_member *m, const void *p, size_t n, int flush)
{
    int r = Z_OK;
    m->crc = (uint32_t)crc32(m->crc, p, (uInt)n);
    m->size += (uint32_t)n;
    m->z.next_in = (unsigned char *)(uintptr_t)p;
    m->z.avail_in = (uInt)n;
    do {
        m->z.next_out = (unsigned char *)buf_ensure(m->out, 4096);
        m->z.avail_out = 4096;
        r = deflate(&m->z, flush);
        m->out->len += 4096 - m->z.avail_out;
    } while (m->z.avail_out == 0);
    CU_ASSERT(r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
}

void cyrus_begin(struct cyrus_member *m, struct buf *out)
{
    memset(m, 0, sizeof(*m));
    m->out = out;
    CU_ASSERT_EQUAL(deflateInit2(&m->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -15, 8,
                                 Z_DEFAULT_STRATEGY), Z_OK);
    buf_appendmap(out, "\x1f\x8b\x08\0\0\0\0\0\0\x03", 10);
}

void cyrus_line(struct cyrus_member *m, const char *text)
{
    put(m, text, strlen(text), Z_FULL_FLUSH);
}

void cyrus_text(struct cyrus_member *m, const void *p, size_t n)
{
    put(m, p, n, Z_NO_FLUSH);
}

void cyrus_finish(struct cyrus_member *m)
{
    put(m, "", 0, Z_FINISH);
    for (int i = 0; i < 4; i++)
        buf_putc(m->out, (int)(m->crc >> 8 * i & 255));
    for (int i = 0; i < 4; i++)
        buf_putc(m->out, (int)(m->size >> 8 * i & 255));
    deflateEnd(&m->z);
}

void cyrus_abandon(struct cyrus_member *m)
{
    deflateEnd(&m->z);
}

void cyrus_chunk(struct buf *out, const char *const *lines)
{
    struct cyrus_member m;
    cyrus_begin(&m, out);
    cyrus_line(&m, LCB_CHUNK_START);
    for (; lines && *lines; lines++)
        cyrus_line(&m, *lines);
    cyrus_finish(&m);
}

void cyrus_empty(struct buf *out)
{
    buf_appendmap(out, "\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0", 20);
}
