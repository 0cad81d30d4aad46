/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* One gzip member (RFC 1952) in or out, with the FEXTRA subfield "CB" that chains the members of a
 * data file. Compressed with libdeflate where the whole text is in memory, with zlib otherwise;
 * both give ordinary gzip.
 *
 * The subfield (24 bytes, little-endian; doc/format describes it):
 *   0  1  format version, 1
 *   1  1  flags: GZ_COMMIT, GZ_STREAMED, GZ_BASE, GZ_LACKS
 *   2  6  length of the whole member in the file, header and trailer included
 *   8  8  backup id, the same in all members of one data file
 *  16  4  sequence number of the member, from 1
 *  20  4  CRC-32 of the 20 bytes before */
#ifndef LIB_GZMEMBER_H
#define LIB_GZMEMBER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/buf.h"
#include "lib/vfs.h"

enum {
    GZ_COMMIT = 1,   /* everything up to the end of this member belongs together and is whole */
    GZ_STREAMED = 2, /* the text is larger than memory should hold: inflate it as a stream */
    GZ_BASE = 4,     /* what was before the end of this member is not all there any more; the state at
                      * its end is (compaction wrote it) */
    GZ_LACKS = 8,    /* content is named in this file that was lost, and has not come again */
};
enum { GZ_HEADER_LEN = 10 + 2 + 4 + 24, GZ_TRAILER_LEN = 8, GZ_END_LEN = 2 + GZ_TRAILER_LEN };

struct gzextra {
    int present; /* 0: a member without our subfield (Cyrus 3.x wrote it); the rest is then 0 */
    int flags;
    uint64_t length; /* of the whole member */
    uint64_t id;
    uint32_t seq;
};

/* Parse the gzip header at P (N bytes there, whatever follows included). Returns the header's
 * length > 0, XERR_EOF if N bytes are not enough, XERR_FORMAT if this is no gzip member,
 * XERR_VERSION for a "CB" subfield of a later version. Any valid gzip header is accepted. A
 * subfield whose CRC is wrong counts as XERR_FORMAT. */
ssize_t gzmember_header(const void *p, size_t n, struct gzextra *extra);
/* Write the 40-byte header of ours to OUT. */
void gzmember_putheader(unsigned char out[GZ_HEADER_LEN], const struct gzextra *extra);

/* A compressor to be used again and again (its tables are some 100 KiB). */
struct gzpacker;
/* LEVEL 1..12 (libdeflate) or 1..9 (zlib; more counts as 9). */
struct gzpacker *gzpacker_new(int level);
void gzpacker_free(struct gzpacker **);
/* Compress N bytes to one complete member appended to OUT; EXTRA's flags, id and seq are used, its
 * length is filled in. */
void gzpacker_pack(struct gzpacker *, struct buf *out, const void *p, size_t n,
                   struct gzextra *extra);

/* Decompress one whole member (N bytes at P, exactly) that holds at most MAX bytes, appended to OUT.
 * XERR_TOOBIG beyond MAX (or: stream it), XERR_FORMAT if damaged (bad data, CRC or length). */
int gzmember_unpack(const void *p, size_t n, size_t max, struct buf *out);

/* Stream a member of unknown size into a file: header first as a placeholder, then compressed data
 * as it comes, in 64 KiB writes; finish() patches the header by a write at the member's start (FD
 * must not be open with O_APPEND). The placeholder is zeros: no gzip member until it is whole.
 * LEVEL 1..9, more counts as 9. The first failure sticks and is returned by all later calls. */
struct gzwriter;
int gzwriter_open(struct vfs *, int fd, off_t at, int level, struct gzwriter **);
int gzwriter_write(struct gzwriter *, const void *p, size_t n);
/* Returns 0 and fills EXTRA->length; EXTRA's other members are input. Frees *W in any case. */
int gzwriter_finish(struct gzwriter **w, struct gzextra *extra);
void gzwriter_abort(struct gzwriter **w);

/* Stream a member out of a file. */
struct gzreader;
/* The header is read and checked here: errors of gzmember_header, or XERR_TOOBIG if it is longer
 * than 128 KiB. */
int gzreader_open(struct vfs *, int fd, off_t at, struct gzreader **);
/* The same for what is not whole. RAW: AT is a flush point within a member; the end of the deflate
 * data is then the end, and what would be the trailer is not looked at. The file is taken to end at
 * LIMIT, if that is not 0. */
int gzreader_openpiece(struct vfs *, int fd, off_t at, int raw, off_t limit, struct gzreader **);
/* Up to N (> 0) bytes of text to P; 0 at the (checked) end of the member; XERR_FORMAT if it is
 * damaged, XERR_EOF if the file ends in it. The text before a damage is returned first. */
ssize_t gzreader_read(struct gzreader *, void *p, size_t n);
/* After the end: file offset behind the member. Before: of the next unread compressed byte. */
off_t gzreader_offset(const struct gzreader *);
/* What the header says; valid until the reader is closed. */
const struct gzextra *gzreader_extra(const struct gzreader *);
void gzreader_close(struct gzreader **);

/* ---- members that are not whole (gzmember_salvage.c) ---- */

/* What text would there be if deflate data began at P (N bytes)? Made to be asked at many places. */
struct gzprobe;
struct gzprobe *gzprobe_new(void); /* NULL: no memory */
void gzprobe_free(struct gzprobe **);
/* Up to MAX bytes of it to TEXT: how many there are, also before an error. */
size_t gzprobe_try(struct gzprobe *, const void *p, size_t n, void *text, size_t max);

/* Is there a flush point behind the first TEXT bytes of text of the deflate data at AT (RAW: no gzip
 * header stands there)? 1 with its offset in *END and the CRC-32 of the text; 0: no, then *END is
 * a few bytes before where it would be; or an error of reading. */
int gzmember_flushpoint(struct vfs *, int fd, off_t at, int raw, uint64_t text, off_t *end,
                        uint32_t *crc);
/* What must follow a flush point to make the member whole: returns GZ_END_LEN. */
int gzmember_putend(unsigned char end[GZ_END_LEN], uint32_t crc, uint64_t size);

#endif
