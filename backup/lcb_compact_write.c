/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_write - the data file that compaction makes, member by member.
 *
 * Lines are collected until a chunk is full and then compressed, LEVEL_MORE levels harder than
 * backup_compression_level: nobody waits for it. A line with a string literal ends its chunk, as
 * everywhere. Every member is flagged as a commit, because the file comes into being whole: a later
 * damage then costs one chunk, wherever it is.
 *
 * Where lines of the old file went is noted in runs, of lines that stand behind each other in both
 * files (lcb_posmap.c). That is what the new file is proved with. */
#include "config.h"

#include <string.h>

#include "backup/lcb_compact_int.h"
#include "lib/xerr.h"

#define LEVEL_MORE 2
#define LEVEL_MAX 12
/* As live writing: see lcb_datafile.c. */
#define BLANK_ONE_IN 25
#define BLANK_STEP 16
#define STREAM_LEVEL 6
#define PIECE (256 << 10)

void lcb_writer_init(struct lcb_writer *w, struct lcb_switch *s)
{
    memset(w, 0, sizeof(*w));
    w->s = s;
    w->fill = LCB_LINE_MAX;
    w->map = lcb_posmap_new(s->store, 0);
}

void lcb_writer_fini(struct lcb_writer *w)
{
    if (w->stream)
        gzwriter_abort(&w->stream);
    gzpacker_free(&w->packer);
    gzpacker_free(&w->coded);
    buf_free(&w->text);
    buf_free(&w->packed);
    lcb_posmap_free(&w->map);
}

int64_t lcb_writer_position(const struct lcb_writer *w)
{
    return LCB_POS(w->s->seq + 1, w->lines + 1);
}

/* ---- where lines went ---- */

int lcb_writer_spread(struct lcb_writer *w, int64_t pos, int64_t first)
{
    return lcb_posmap_add(w->map, &(struct lcb_posrun){.first = pos, .last = pos, .to = first,
                                                       .to_last = w->last, .spread = 1});
}

/* ---- chunks ---- */

static int mostly_coded(const struct buf *text)
{
    size_t blanks = 0;
    for (size_t i = 0; i < text->len; i += BLANK_STEP)
        blanks += text->s[i] == ' ';
    return blanks * BLANK_STEP < text->len / BLANK_ONE_IN;
}

static struct gzpacker *packer_for(struct lcb_writer *w)
{
    int coded = mostly_coded(&w->text), level = w->s->old->settings->level;
    struct gzpacker **packer = coded ? &w->coded : &w->packer;
    level += coded ? 0 : LEVEL_MORE;
    if (!*packer)
        *packer = gzpacker_new(level > LEVEL_MAX ? LEVEL_MAX : level);
    return *packer;
}

static void written(struct lcb_writer *w, const struct gzextra *extra)
{
    w->s->end += (off_t)extra->length;
    w->s->seq++;
    w->flags = 0;
}

static int need_seq(const struct lcb_writer *w)
{
    return w->s->seq == UINT32_MAX ? XERR_TOOBIG : 0;
}

int lcb_writer_seal(struct lcb_writer *w, int flags)
{
    struct gzextra extra = {.present = 1, .flags = GZ_COMMIT | flags | w->flags, .id = w->s->id,
                            .seq = w->s->seq + 1};
    if (!w->lines && !flags)
        return 0;
    int r = need_seq(w);
    if (r)
        return r;
    if (!w->lines)
        buf_setmap(&w->text, LCB_CHUNK_START, LCB_CHUNK_START_LEN);
    if (w->text.len > LCB_LINE_MAX)
        extra.flags |= GZ_STREAMED;
    buf_reset(&w->packed);
    gzpacker_pack(packer_for(w), &w->packed, w->text.s, w->text.len, &extra);
    ssize_t n = vfs_pwrite(w->s->vfs, w->s->fd, w->packed.s, w->packed.len, w->s->end);
    if (n < 0)
        return (int)n;
    written(w, &extra);
    w->written++;
    w->lines = 0;
    w->full = 0;
    buf_shrink(&w->text, LCB_LINE_MAX);
    buf_shrink(&w->packed, LCB_LINE_MAX);
    return 0;
}

int lcb_writer_line(struct lcb_writer *w, const void *p, size_t n, int literal, int64_t pos)
{
    int r = w->lines && (w->full || w->text.len + n > w->fill) ? lcb_writer_seal(w, 0) : 0;
    if (r)
        return r;
    if (!w->lines)
        buf_setmap(&w->text, LCB_CHUNK_START, LCB_CHUNK_START_LEN);
    w->last = lcb_writer_position(w);
    r = pos ? lcb_posmap_addline(w->map, pos, w->last) : 0;
    if (r)
        return r;
    buf_appendmap(&w->text, p, n);
    w->lines++;
    w->full = literal;
    return 0;
}

int lcb_writer_stream(struct lcb_writer *w, int64_t pos)
{
    int r = lcb_writer_seal(w, 0);
    int level = w->s->old->settings->level;
    if (!r)
        r = need_seq(w);
    if (!r)
        r = gzwriter_open(w->s->vfs, w->s->fd, w->s->end, level < STREAM_LEVEL ? level : STREAM_LEVEL,
                          &w->stream);
    if (!r)
        r = gzwriter_write(w->stream, LCB_CHUNK_START, LCB_CHUNK_START_LEN);
    if (!r && pos)
        r = lcb_posmap_addline(w->map, pos, lcb_writer_position(w));
    return r;
}

int lcb_writer_piece(struct lcb_writer *w, const void *p, size_t n)
{
    return gzwriter_write(w->stream, p, n);
}

int lcb_writer_streamed(struct lcb_writer *w)
{
    struct gzextra extra = {.present = 1, .flags = GZ_COMMIT | GZ_STREAMED | w->flags, .id = w->s->id,
                            .seq = w->s->seq + 1};
    int r = gzwriter_finish(&w->stream, &extra);
    if (!r) {
        written(w, &extra);
        w->written++;
    }
    return r;
}

/* ---- a chunk as it is ---- */

static int copy_bytes(struct lcb_writer *w, off_t from, off_t n, off_t to)
{
    int r = 0;
    buf_ensure(&w->packed, PIECE);
    while (!r && n > 0) {
        ssize_t got = vfs_pread(w->s->vfs, w->s->old->fd, w->packed.s, n < PIECE ? (size_t)n : PIECE,
                                from);
        r = got < 0 ? (int)got : got == 0 ? XERR_EOF : 0;
        if (r)
            break;
        ssize_t put = vfs_pwrite(w->s->vfs, w->s->fd, w->packed.s, (size_t)got, to);
        r = put < 0 ? (int)put : 0;
        from += got;
        to += got;
        n -= got;
    }
    return r;
}

int lcb_writer_whole(struct lcb_writer *w, const struct lcb_member *m, int64_t seq)
{
    unsigned char header[GZ_HEADER_LEN];
    struct gzextra extra = m->extra, was;
    int r = lcb_writer_seal(w, 0);
    if (!r)
        r = need_seq(w);
    if (r)
        return r;
    ssize_t n = vfs_pread(w->s->vfs, w->s->old->fd, header, sizeof(header), m->offset);
    if (n < (ssize_t)sizeof(header))
        return n < 0 ? (int)n : XERR_EOF;
    if (gzmember_header(header, sizeof(header), &was) != GZ_HEADER_LEN)
        return XERR_FORMAT;
    extra.flags = (extra.flags & GZ_STREAMED) | GZ_COMMIT | w->flags;
    extra.id = w->s->id;
    extra.seq = w->s->seq + 1;
    gzmember_putheader(header, &extra);
    n = vfs_pwrite(w->s->vfs, w->s->fd, header, sizeof(header), w->s->end);
    r = n < 0 ? (int)n : copy_bytes(w, m->offset + GZ_HEADER_LEN, m->length - GZ_HEADER_LEN,
                                    w->s->end + GZ_HEADER_LEN);
    if (r)
        return r;
    struct lcb_posrun run = {.first = LCB_POS(seq, 1), .last = LCB_POS(seq + 1, 0) - 1,
                             .to = lcb_writer_position(w), .to_last = LCB_POS(w->s->seq + 2, 0) - 1};
    r = lcb_posmap_add(w->map, &run);
    written(w, &extra);
    w->copied++;
    return r;
}
