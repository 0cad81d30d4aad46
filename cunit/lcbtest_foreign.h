/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Data files as Cyrus 3.0 - 3.10 wrote them, with zlib: members without our field, a full flush
 * after every line. */
#ifndef CUNIT_LCBTEST_FOREIGN_H
#define CUNIT_LCBTEST_FOREIGN_H

#include <stdint.h>
#include <zlib.h>

#include "lib/buf.h"

struct cyrus_member {
    struct buf *out;
    z_stream z;
    uint32_t crc, size;
};
/* Begin a member at the end of OUT; the first line is written by the caller. */
void cyrus_begin(struct cyrus_member *, struct buf *out);
/* A line, and a full flush. */
void cyrus_line(struct cyrus_member *, const char *text);
/* The same without the flush: as compaction writes. */
void cyrus_text(struct cyrus_member *, const void *p, size_t n);
void cyrus_finish(struct cyrus_member *);
/* The process was killed: what has been flushed is there. */
void cyrus_abandon(struct cyrus_member *);
/* A whole chunk of LINES (NULL-terminated list, or NULL). */
void cyrus_chunk(struct buf *out, const char *const *lines);
/* What zlib up to 1.2.11 leaves behind a member. */
void cyrus_empty(struct buf *out);

#endif
