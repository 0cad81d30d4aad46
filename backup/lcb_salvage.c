/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_salvage - read what can be read of a member that Cyrus 3.x wrote and that is not whole.
 *
 * There are two kinds. A process was killed: then the member stops somewhere, and the next process
 * went on right behind it, or nobody did. The lines that are complete in it were confirmed to a
 * client, so they count as any other. Or the member was whole once and its bytes have changed.
 *
 * Cyrus 3.x made a full flush after every line, so the deflate data of each line begins at a byte
 * boundary and needs nothing of what stands before it. The text is read in *pieces*: the first from
 * the member's header; where it cannot be read on, or a line is wrong, the next flush point at which
 * a line begins is looked for, or the next member, whichever comes first. So no line costs another.
 * Only complete lines count, and a message only if its SHA-1 is its GUID, since there is no checksum
 * to rely on. Where pieces begin is kept in the index (table pieces), so that messages in them can
 * be read later; the text of the chunk is that of its pieces, one after the other.
 *
 * All pieces belong to one chunk with one number: how much of a member could be read must not change
 * the numbers of the chunks behind it.
 *
 * Unfinished or rotten? Behind a finished member there are a flush point, an empty last block and
 * the trailer. If these stand in front of the next member (or the file's end), if there is more than
 * one piece, or if the member was not written line by line (compaction does not flush), it was
 * whole once. This matters: what a killed process left is complete as far as anybody was told, but
 * of a rotten member something that was confirmed is missing and must be asked for again. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "lib/xerr.h"

/* The file is looked at in windows of this size, each with the end of the one before it in front;
 * LOOKAHEAD holds the longest table of a dynamic block and then some. */
#define WINDOW (64 << 10)
#define LOOKAHEAD 1024
/* Behind a line without its flush so many bytes are tried, each of them. */
#define NEAR 64
/* How much of an incomplete flush there can be behind the place where its line came out: an empty
 * stored block, and what inflate() reads ahead. */
#define FLUSH_LEN 14
/* A member shorter than this that is not whole has nothing in it: its first line alone is longer. */
#define NOTHING 45

struct search {
    struct vfs *vfs;
    int fd;
    off_t size;
    uint64_t id; /* of the backup, 0 if there is no member of ours yet */
    struct gzprobe *probe;
    off_t from; /* where the search begins */
    int near;   /* the flush there is damaged */
};

/* "1695306987 APPLY " */
static int begins_line(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && text[i] >= '0' && text[i] <= '9')
        i++;
    return i >= 9 && i < 18 && text[0] != '0' && n - i >= 7 && !memcmp(text + i, " APPLY ", 7);
}

/* Does a member begin at P (N bytes there), which is at AT of the file? */
static int begins_member(struct search *s, const unsigned char *p, size_t n, off_t at)
{
    static const unsigned char empty[10] = {3, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    struct lcb_member m;
    char text[64] = "";
    if (n < 3 || p[0] != 0x1f || p[1] != 0x8b || p[2] != 8 ||
        lcb_member_at(s->vfs, s->fd, at, s->size, &m))
        return 0;
    if (m.extra.present)
        return !s->id || m.extra.id == s->id;
    ssize_t header = gzmember_header(p, n, &m.extra);
    if (header < 0)
        return 0;
    p += header;
    n -= (size_t)header;
    if (n >= sizeof(empty) && !memcmp(p, empty, sizeof(empty)))
        return 1;
    size_t got = gzprobe_try(s->probe, p, n, text, sizeof(text));
    return (got >= LCB_CHUNK_START_LEN && !memcmp(text, LCB_CHUNK_START, LCB_CHUNK_START_LEN)) ||
           begins_line(text, got);
}

static int begins_piece(struct search *s, const unsigned char *p, size_t n, off_t at)
{
    char text[64] = "";
    int flushed = (s->near && at - s->from < NEAR) || !memcmp(p - 4, "\0\0\xff\xff", 4);
    return flushed && at > s->from &&
           begins_line(text, gzprobe_try(s->probe, p, n, text, sizeof(text)));
}

enum found { FOUND_END, FOUND_MEMBER, FOUND_PIECE, FOUND_ERROR };

/* N bytes from AT; a place that the disk cannot read is as good as zeros, which begin nothing. */
static ssize_t read_window(struct search *s, unsigned char *p, size_t n, off_t at)
{
    const size_t step = 4096;
    ssize_t got = vfs_pread(s->vfs, s->fd, p, n, at);
    if (got != -EIO)
        return got;
    size_t done = 0;
    while (done < n && at + (off_t)done < s->size) {
        size_t want = step - (size_t)(at + (off_t)done) % step;
        if (want > n - done)
            want = n - done;
        got = vfs_pread(s->vfs, s->fd, p + done, want, at + (off_t)done);
        if (got == -EIO) {
            memset(p + done, 0, want);
            got = at + (off_t)(done + want) > s->size ? s->size - at - (off_t)done : (ssize_t)want;
        }
        if (got <= 0)
            return got < 0 ? got : (ssize_t)done;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* Where text goes on behind s->from. *AT is SIZE if nowhere, an error for FOUND_ERROR. */
static enum found go_on(struct search *s, int pieces, off_t *at)
{
    unsigned char window[4 + WINDOW + LOOKAHEAD];
    off_t w = s->from;
    memset(window, 0, 4);
    for (;;) {
        ssize_t n = read_window(s, window + 4, WINDOW + LOOKAHEAD, w);
        *at = n < 0 ? n : s->size;
        if (n <= 0)
            return n < 0 ? FOUND_ERROR : FOUND_END;
        for (ssize_t i = 0; i < n && i < WINDOW; i++) {
            const unsigned char *p = window + 4 + i;
            *at = w + i;
            if (begins_member(s, p, (size_t)(n - i), *at))
                return FOUND_MEMBER;
            if (pieces && begins_piece(s, p, (size_t)(n - i), *at))
                return FOUND_PIECE;
        }
        memcpy(window, window + WINDOW, 4);
        w += n < WINDOW ? n : WINDOW;
    }
}

off_t lcb_next_member(struct vfs *vfs, int fd, off_t at, off_t size, uint64_t id)
{
    struct search s = {.vfs = vfs, .fd = fd, .size = size, .id = id, .from = at,
                       .probe = gzprobe_new()};
    off_t next = -1;
    if (s.probe && go_on(&s, 0, &next) != FOUND_MEMBER)
        next = -1;
    gzprobe_free(&s.probe);
    return next;
}

/* Do the END_LEN bytes before AT look like the end of a finished member, with a flush before? Not if
 * they are what a crash leaves of the end that we write (lcb_tail.c): the beginning of the right one,
 * then zeros. */
static int finished(struct search *s, off_t at, uint32_t crc, uint64_t text)
{
    unsigned char p[4 + GZ_END_LEN], want[GZ_END_LEN];
    off_t from = at - (off_t)sizeof(p);
    if (from <= 0 || vfs_pread(s->vfs, s->fd, p, sizeof(p), from) != sizeof(p) ||
        memcmp(p, "\0\0\xff\xff\3\0", 6))
        return 0;
    size_t same = 0, zeros = GZ_END_LEN;
    gzmember_putend(want, crc, text);
    while (same < GZ_END_LEN && p[4 + same] == want[same])
        same++;
    while (zeros > same && !p[4 + zeros - 1])
        zeros--;
    return s->from != at - GZ_END_LEN || zeros > same;
}

/* Was the member at AT written line by line? Then there is a flush behind its first line, and lines
 * begin at flush points. */
static int by_lines(struct search *s, off_t at)
{
    off_t end;
    uint32_t crc;
    if (gzmember_flushpoint(s->vfs, s->fd, at, 0, LCB_CHUNK_START_LEN, &end, &crc) == 1)
        return 1;
    s->from = at + 1;
    int found = go_on(s, 1, &end) == FOUND_PIECE;
    s->from = at;
    return found;
}

static int add_piece(struct lcb_index *ix, int64_t seq, uint64_t text, off_t at)
{
    return sqldb_run(ix->db, "INSERT INTO pieces VALUES (?,?,?)", "iii", seq, (int64_t)text,
                     (int64_t)at);
}

/* All pieces from s->from on; RAW: no header stands there. */
static int read_pieces(struct search *s, struct lcb_index *ix, int raw, struct lcb_chunk *chunk,
                       struct lcb_salvage *out)
{
    struct lcb_piece piece = {.at = s->from, .raw = raw, .by_lines = raw || by_lines(s, s->from)};
    int r = 0, flush = 0, flushed = piece.by_lines;
    enum found found = FOUND_PIECE;
    const off_t start = s->from;
    if (!piece.by_lines) { /* nothing in it says where it ends */
        s->from++;
        found = go_on(s, 0, &piece.limit);
        s->from--;
        if (found == FOUND_ERROR)
            return (int)piece.limit;
        found = FOUND_PIECE;
    }
    if (raw)
        found = go_on(s, 1, &piece.at);
    while (found == FOUND_PIECE) {
        uint64_t before = chunk->text_length;
        r = lcb_piece_apply(ix, s->vfs, s->fd, &piece, chunk, out);
        if (r)
            return r;
        uint64_t text = chunk->text_length - before;
        flush = gzmember_flushpoint(s->vfs, s->fd, piece.at, piece.raw, text, &s->from, &out->crc);
        if (flush < 0)
            return flush;
        if (s->from <= piece.at)
            s->from = piece.at + 1;
        if (text && (r = add_piece(ix, chunk->seq, before, piece.at)))
            return r;
        out->pieces++;
        s->near = !flush;
        piece.raw = piece.by_lines = 1;
        found = go_on(s, 1, &piece.at);
    }
    out->end = piece.at;
    out->last = found == FOUND_END;
    out->flush = flush ? s->from : 0;
    out->unflushed = !flush && flushed && out->end - s->from < FLUSH_LEN;
    out->rot = raw || out->pieces != 1 || finished(s, out->end, out->crc, chunk->text_length) ||
               ((!flush || !flushed) && out->end - start >= NOTHING);
    return found == FOUND_ERROR ? (int)piece.at : 0;
}

int lcb_salvage(struct lcb_index *ix, struct vfs *vfs, int fd, off_t at, off_t size, int known,
                uint64_t id, struct lcb_chunk *chunk, struct lcb_salvage *out)
{
    const struct lcb_chunk chunk_before = *chunk;
    const struct lcb_salvage out_before = *out;
    struct search s = {.vfs = vfs, .fd = fd, .size = size, .id = id, .from = at,
                       .probe = gzprobe_new()};
    if (!s.probe)
        return -ENOMEM;
    int r = sqldb_exec(ix->db, "SAVEPOINT pieces");
    if (!r)
        r = read_pieces(&s, ix, !known, chunk, out);
    if (!r && out->pieces == 1 && out->unflushed && out->lines) {
        /* The last line is there, but not all of its flush: nobody was told that it is. */
        int lines = out->lines;
        *chunk = chunk_before;
        *out = out_before;
        out->max_lines = lines > 1 ? lines - 1 : -1;
        s.from = at;
        r = sqldb_exec(ix->db, "ROLLBACK TO pieces");
        lcb_index_findtick(ix);
        if (!r)
            r = read_pieces(&s, ix, !known, chunk, out);
    }
    if (!r)
        r = sqldb_exec(ix->db, "RELEASE pieces");
    gzprobe_free(&s.probe);
    chunk->offset = (uint64_t)at;
    chunk->length = (uint64_t)(out->end - at);
    return r;
}
