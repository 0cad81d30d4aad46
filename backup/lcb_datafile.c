/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_datafile - appending to a data file.
 *
 * A data file is a series of gzip members, the chunks, with nothing between them. The text of a
 * chunk is one fixed comment line and then log lines "<time> APPLY <verb> <value>" CRLF. Decoded
 * one after the other they are the whole history of a backup, and zcat shows it.
 *
 * Lines are collected in memory (df->text) until about chunk_size bytes are there, until a line
 * ends with a literal, or until a commit; then the text is compressed into one member and written.
 * A line that is too large to be read in memory later becomes a chunk of its own, flagged
 * GZ_STREAMED, and comes from a file. Up to LCB_PACK_MAX it is compressed like any other, which is more
 * than twice as fast; above that it is streamed through zlib.
 *
 * Commit. Each member carries our gzip extra field: backup id, sequence number, its own compressed
 * length, and flags. The last member of a commit is flagged GZ_COMMIT, then the file is synced.
 * So a reader that comes upon the file at any moment, after a crash or in a copy, can tell: all up
 * to the last intact flagged member is there as one, what follows never happened. A full chunk is
 * not written at once but when the next line comes, so that at a commit there is usually a chunk to
 * carry the flag; where there is none (the last line was streamed) the flag is put into the header
 * of the member written last, which is allowed because nothing before the sync was promised.
 *
 * Undoing. Two points can be returned to: the last commit and a savepoint. Returning cuts the file,
 * even if all there is to cut are pieces of a write that failed, and restores the text of the open
 * chunk. If a chunk that has lines from before the savepoint must be written while the savepoint
 * stands, those lines are copied aside first.
 *
 * Time. Lines carry seconds since the epoch, and these never go back within a file, because readers
 * (those of Cyrus 3.x too) take order from them: if the clock is behind, the last time is used.
 *
 * Literals. A line with a string literal "{n}" is the last of its chunk: Cyrus 3.x prints such a
 * line one byte longer when it reads it back, so its idea of offsets behind the literal is wrong
 * until the chunk ends. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "backup/lcb_int.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

/* A clock that is this far behind the file is worth a word. */
#define CLOCK_TOLERANCE 60

/* What is left with the packing between two backups: enough for a chunk. */
#define SPARE_MAX (1280u << 10)

/* There is little to be found in less; compaction will put small chunks together and press harder. */
#define SMALL_CHUNK (16u << 10)

/* Text has a blank in every few bytes, encoded attachments have none: a chunk with fewer than one in
 * BLANK_ONE_IN is mostly attachments. Higher levels find little in those, and take as long over it,
 * so they get CODED_LESS levels less: a tenth of the time for a quarter of a percent of the size. */
#define BLANK_ONE_IN 25
#define BLANK_STEP 16 /* every so many bytes is looked at */
#define CODED_LESS 2

/* What is too large for memory is mostly encoded attachments: zlib's higher levels find nothing more
 * in them. */
#define STREAM_LEVEL 4

static void remember(const struct lcb_datafile *df, struct lcb_datafile_state *state)
{
    *state = (struct lcb_datafile_state){
        .end = df->end,
        .seq = df->seq,
        .last_time = df->last_time,
        .last_member = df->last_member,
        .last_extra = df->last_extra,
        .text_len = df->text.len,
        .lines = df->lines,
        .first_time = df->first_time,
        .full = df->full,
        .valid = 1,
    };
}

void lcb_packing_fini(struct lcb_packing *p)
{
    gzpacker_free(&p->packer);
    gzpacker_free(&p->small_packer);
    gzpacker_free(&p->coded_packer);
    buf_free(&p->packed);
    buf_free(&p->spare_text);
}

void lcb_datafile_init(struct lcb_datafile *df, struct vfs *vfs, int fd, size_t chunk_size,
                       int level)
{
    df->vfs = vfs;
    df->fd = fd;
    df->chunk_size = chunk_size;
    df->level = level;
    df->packing = &df->own;
    df->pack_max = LCB_PACK_MAX;
    df->last_member = -1;
    buf_reset(&df->text);
    df->lines = 0;
    df->full = 0;
    df->save.valid = 0;
    remember(df, &df->commit);
}

/* The larger text is left with the packing. */
static void swap_text(struct lcb_datafile *df)
{
    struct buf text = df->text;
    if (!df->packing || text.alloc <= df->packing->spare_text.alloc)
        return;
    df->text = df->packing->spare_text;
    df->packing->spare_text = text;
}

void lcb_datafile_share(struct lcb_datafile *df, struct lcb_packing *p)
{
    lcb_packing_fini(&df->own);
    df->packing = p;
    buf_free(&df->text);
    df->text = p->spare_text;
    memset(&p->spare_text, 0, sizeof(p->spare_text));
    buf_reset(&df->text);
}

void lcb_datafile_fini(struct lcb_datafile *df)
{
    buf_shrink(&df->text, SPARE_MAX);
    if (df->packing)
        buf_shrink(&df->packing->packed, SPARE_MAX);
    swap_text(df);
    lcb_packing_fini(&df->own);
    buf_free(&df->text);
    buf_free(&df->save_text);
}

/* A chunk is in the file: note it, tell the index, and turn to the next. */
static int written(struct lcb_datafile *df, const struct gzextra *extra, uint64_t text_length)
{
    struct lcb_chunk chunk = {
        .seq = df->seq,
        .offset = (uint64_t)df->end,
        .length = extra->length,
        .text_length = text_length,
        .first_time = df->first_time,
        .last_time = df->last_time,
    };
    df->last_member = df->end;
    df->last_extra = *extra;
    df->end += (off_t)extra->length;
    df->torn = 0;
    df->seq++;
    df->lines = 0;
    df->full = 0;
    buf_shrink(&df->text, LCB_LINE_MAX);
    return df->sealed ? df->sealed(df->rock, &chunk) : 0;
}

static int need_id(struct lcb_datafile *df)
{
    while (!df->id)
        if (getrandom(&df->id, sizeof(df->id), 0) < 0 && errno != EINTR)
            return -errno;
    return 0;
}

static int mostly_coded(const struct buf *text)
{
    size_t blanks = 0;
    for (size_t i = 0; i < text->len; i += BLANK_STEP)
        blanks += text->s[i] == ' ';
    return blanks * BLANK_STEP < text->len / BLANK_ONE_IN;
}

/* The packer that suits the open chunk. */
static struct gzpacker *packer_for(struct lcb_datafile *df)
{
    struct gzpacker **packer = &df->packing->packer;
    int level = df->level;
    if (df->text.len < SMALL_CHUNK) {
        packer = &df->packing->small_packer;
        level = 1;
    } else if (level > CODED_LESS && mostly_coded(&df->text)) {
        packer = &df->packing->coded_packer;
        level -= CODED_LESS;
    }
    if (!*packer)
        *packer = gzpacker_new(level);
    return *packer;
}

/* Compress and write the open chunk. */
static int seal(struct lcb_datafile *df, int flags)
{
    if (df->save.valid && df->save.seq == df->seq)
        buf_setmap(&df->save_text, df->text.s, df->save.text_len);
    struct gzextra extra = {.present = 1, .flags = flags, .id = df->id, .seq = df->seq};
    struct buf *packed = &df->packing->packed;
    buf_reset(packed);
    gzpacker_pack(packer_for(df), packed, df->text.s, df->text.len, &extra);
    df->torn = 1;
    ssize_t n = vfs_pwrite(df->vfs, df->fd, packed->s, packed->len, df->end);
    if (n < 0)
        return (int)n;
    buf_shrink(packed, LCB_LINE_MAX);
    return written(df, &extra, df->text.len);
}

static int64_t line_time(struct lcb_datafile *df)
{
    int64_t now = time(NULL);
    if (now >= df->last_time)
        return now;
    if (df->last_time - now > CLOCK_TOLERANCE)
        xlog_warnx("clock is %lld s behind the newest line of the data file: using the line's time",
                   (long long)(df->last_time - now));
    return df->last_time;
}

int lcb_datafile_begin(struct lcb_datafile *df, const char *verb, size_t expect, int64_t *time,
                       int64_t *pos)
{
    int r = need_id(df);
    if (!r && df->lines && (df->full || df->text.len + expect > df->chunk_size))
        r = seal(df, 0);
    if (r)
        return r;
    df->time_before = df->last_time;
    *time = df->last_time = line_time(df);
    if (!df->lines) {
        buf_setmap(&df->text, LCB_CHUNK_START, LCB_CHUNK_START_LEN);
        df->first_time = *time;
    }
    *pos = LCB_POS(df->seq, df->lines + 1);
    df->line_start = df->text.len;
    buf_appendu64(&df->text, (uint64_t)*time);
    buf_appendmap(&df->text, " APPLY ", 7);
    buf_appendcstr(&df->text, verb);
    buf_putc(&df->text, ' ');
    return 0;
}

int lcb_datafile_end(struct lcb_datafile *df, int literal)
{
    buf_appendmap(&df->text, "\r\n", 2);
    df->lines++;
    df->full = literal || df->text.len >= df->chunk_size;
    return 0;
}

void lcb_datafile_cancel(struct lcb_datafile *df)
{
    buf_truncate(&df->text, df->line_start);
    df->last_time = df->time_before; /* a time that no line has is in no chunk */
}

/* A piece of file FD to the end of the open chunk. */
static int load_file(struct lcb_datafile *df, int fd, uint64_t at, size_t size)
{
    ssize_t n = vfs_pread(df->vfs, fd, buf_ensure(&df->text, size), size, (off_t)at);
    if (n < 0 || (size_t)n < size)
        return n < 0 ? (int)n : XERR_EOF;
    df->text.len += size;
    return 0;
}

/* The rest of a line that is begun, in memory. */
static int pack_line(struct lcb_datafile *df, int fd, uint64_t at, size_t size, const char *tail)
{
    int r = load_file(df, fd, at, size);
    if (r) {
        lcb_datafile_cancel(df);
        return r;
    }
    buf_appendcstr(&df->text, tail);
    buf_appendmap(&df->text, "\r\n", 2);
    return seal(df, GZ_STREAMED);
}

static int copy_file(struct lcb_datafile *df, struct gzwriter *w, int fd, uint64_t at,
                     uint64_t size)
{
    const size_t step = 256 << 10;
    struct buf piece = BUF_INITIALIZER;
    uint64_t done = 0;
    int r = 0;
    buf_ensure(&piece, step);
    while (!r && done < size) {
        size_t want = size - done < step ? (size_t)(size - done) : step;
        ssize_t n = vfs_pread(df->vfs, fd, piece.s, want, (off_t)(at + done));
        r = n < 0 ? (int)n : n == 0 ? XERR_EOF : gzwriter_write(w, piece.s, (size_t)n);
        done += r ? 0 : (uint64_t)n;
    }
    buf_free(&piece);
    return r;
}

int lcb_datafile_stream(struct lcb_datafile *df, const char *verb, const struct buf *head, int fd,
                        uint64_t at, uint64_t size, const char *tail, int64_t *time, int64_t *pos,
                        uint64_t *start)
{
    int r = df->lines ? seal(df, 0) : 0;
    if (!r)
        r = lcb_datafile_begin(df, verb, 0, time, pos);
    if (r)
        return r;
    buf_append(&df->text, head);
    *start = df->text.len;
    if (size <= df->pack_max)
        return pack_line(df, fd, at, (size_t)size, tail);

    struct gzwriter *w = NULL;
    struct gzextra extra = {.present = 1, .flags = GZ_STREAMED, .id = df->id, .seq = df->seq};
    df->torn = 1;
    r = gzwriter_open(df->vfs, df->fd, df->end,
                      df->level < STREAM_LEVEL ? df->level : STREAM_LEVEL, &w);
    if (!r)
        r = gzwriter_write(w, df->text.s, df->text.len);
    if (!r)
        r = copy_file(df, w, fd, at, size);
    if (!r)
        r = gzwriter_write(w, tail, strlen(tail));
    if (!r)
        r = gzwriter_write(w, "\r\n", 2);
    if (r) {
        gzwriter_abort(&w);
        return r;
    }
    r = gzwriter_finish(&w, &extra);
    return r ? r : written(df, &extra, df->text.len + size + strlen(tail) + 2);
}

int lcb_datafile_dirty(const struct lcb_datafile *df)
{
    return df->commit.valid && (df->lines || df->end != df->commit.end || df->torn);
}

int lcb_datafile_commit(struct lcb_datafile *df)
{
    int r = 0;
    if (df->torn)
        return XERR_BROKEN; /* the caller went on after an error */
    if (!lcb_datafile_dirty(df))
        return 0;
    if (df->lines) {
        r = seal(df, GZ_COMMIT);
    } else {
        unsigned char header[GZ_HEADER_LEN];
        df->last_extra.flags |= GZ_COMMIT;
        gzmember_putheader(header, &df->last_extra);
        ssize_t n = vfs_pwrite(df->vfs, df->fd, header, sizeof(header), df->last_member);
        r = n < 0 ? (int)n : 0;
    }
    if (!r)
        r = vfs_fdatasync(df->vfs, df->fd);
    if (r)
        return r;
    df->save.valid = 0;
    remember(df, &df->commit);
    return 0;
}

/* Back to a remembered state; TEXT is the open chunk's text then. */
static void restore(struct lcb_datafile *df, const struct lcb_datafile_state *s,
                    const struct buf *text)
{
    if (text)
        buf_setmap(&df->text, text->s, text->len);
    buf_truncate(&df->text, s->text_len);
    df->end = s->end;
    df->seq = s->seq;
    df->last_time = s->last_time;
    df->last_member = s->last_member;
    df->last_extra = s->last_extra;
    df->lines = s->lines;
    df->first_time = s->first_time;
    df->full = s->full;
}

int lcb_datafile_rollback(struct lcb_datafile *df)
{
    if (!df->commit.valid)
        return XERR_INTERNAL;
    int r = vfs_ftruncate(df->vfs, df->fd, df->commit.end);
    if (!r)
        r = vfs_fdatasync(df->vfs, df->fd);
    restore(df, &df->commit, NULL);
    df->torn = 0;
    df->lines = 0;
    buf_reset(&df->text);
    df->save.valid = 0;
    return r;
}

void lcb_datafile_savepoint(struct lcb_datafile *df)
{
    buf_reset(&df->save_text);
    remember(df, &df->save);
}

int lcb_datafile_savepoint_rollback(struct lcb_datafile *df)
{
    if (!df->save.valid)
        return XERR_INTERNAL;
    int sealed = df->seq != df->save.seq;
    int r = df->end != df->save.end || sealed || df->torn
                ? vfs_ftruncate(df->vfs, df->fd, df->save.end) : 0;
    df->torn = 0;
    restore(df, &df->save, sealed ? &df->save_text : NULL);
    df->save.valid = 0;
    return r;
}

void lcb_datafile_savepoint_release(struct lcb_datafile *df)
{
    df->save.valid = 0;
    buf_shrink(&df->save_text, 0);
}
