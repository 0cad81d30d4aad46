/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_datafile_read - members of a data file, and their text as a stream.
 *
 * A member of ours says in its header how long it is, so the file can be walked by headers alone,
 * and a small member is read at once and inflated in one step. Members that Cyrus 3.x wrote say
 * nothing; they are inflated as a stream, and where they end is known when they have ended. Of a
 * chunk that is not whole, its pieces are the text (lcb_salvage.c).
 *
 * A chunk of Cyrus 3.x may be as large as the file, and one message of it costs all that stands
 * before it. So who only reads keeps the chunk open: messages in their order cost it once. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* Enough of a member to see its header, a file name of a foreign writer included. */
#define HEADER_PEEK 512
/* A member above this is streamed even if it does not say so. */
#define MEMBER_MAX (3u << 20)
#define TEXT_MAX (5u << 20)

int lcb_member_at(struct vfs *vfs, int fd, off_t at, off_t size, struct lcb_member *m)
{
    unsigned char peek[HEADER_PEEK];
    memset(m, 0, sizeof(*m));
    m->offset = at;
    if (at < 0) /* as a damaged index may say */
        return XERR_FORMAT;
    if (at >= size)
        return XERR_EOF;
    ssize_t n = vfs_pread(vfs, fd, peek, sizeof(peek), at);
    if (n < 0)
        return (int)n;
    n = gzmember_header(peek, (size_t)n, &m->extra);
    if (n < 0)
        return n == XERR_VERSION ? XERR_VERSION : XERR_FORMAT;
    if (!m->extra.present)
        return 0;
    if (m->extra.length < (uint64_t)n + GZ_TRAILER_LEN || m->extra.length > (uint64_t)(size - at))
        return XERR_FORMAT;
    m->length = (off_t)m->extra.length;
    return 0;
}

struct lcb_memberstream {
    struct gzreader *reader;
    struct buf text; /* a whole small member */
    size_t at;
    off_t end;
};

/* The whole member in memory: 0, XERR_TOOBIG if it must be streamed after all, or an error. */
static int load(struct lcb_memberstream *s, struct vfs *vfs, int fd, const struct lcb_member *m)
{
    struct buf packed = BUF_INITIALIZER;
    size_t want = (size_t)m->length;
    ssize_t n = vfs_pread(vfs, fd, buf_ensure(&packed, want), want, m->offset);
    int r = n < 0 ? (int)n : (size_t)n < want ? XERR_EOF : 0;
    if (!r)
        r = gzmember_unpack(packed.s, want, TEXT_MAX, &s->text);
    buf_free(&packed);
    return r;
}

int lcb_memberstream_open(struct vfs *vfs, int fd, const struct lcb_member *m,
                          struct lcb_memberstream **sp)
{
    struct lcb_memberstream *s = xzmalloc(sizeof(*s));
    int r = XERR_TOOBIG;
    if (m->length && m->length <= (off_t)MEMBER_MAX && !(m->extra.flags & GZ_STREAMED)) {
        r = load(s, vfs, fd, m);
        s->end = m->offset + m->length;
    }
    if (r == XERR_TOOBIG) /* not a byte of the next one, which may be where the disk is bad */
        r = gzreader_openpiece(vfs, fd, m->offset, 0, m->length ? m->offset + m->length : 0,
                               &s->reader);
    if (r) {
        lcb_memberstream_close(&s);
        return r;
    }
    *sp = s;
    return 0;
}

ssize_t lcb_memberstream_read(void *stream, void *p, size_t n)
{
    struct lcb_memberstream *s = stream;
    if (s->reader) {
        ssize_t got = gzreader_read(s->reader, p, n);
        if (!got)
            s->end = gzreader_offset(s->reader);
        return got;
    }
    if (n > s->text.len - s->at)
        n = s->text.len - s->at;
    if (n)
        memcpy(p, s->text.s + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

off_t lcb_memberstream_end(const struct lcb_memberstream *s)
{
    return s->end ? s->end : gzreader_offset(s->reader);
}

void lcb_memberstream_close(struct lcb_memberstream **sp)
{
    if (!*sp)
        return;
    gzreader_close(&(*sp)->reader);
    buf_free(&(*sp)->text);
    free(*sp);
    *sp = NULL;
}

/* ---- queries that read the file ---- */

ssize_t lcb_piece_read(void *reader, void *p, size_t n)
{
    return gzreader_read(reader, p, n);
}

ssize_t lcb_text_read(struct lcb_text *t, void *p, size_t n)
{
    if (n > t->end - t->at)
        n = (size_t)(t->end - t->at);
    ssize_t got = t->member ? lcb_memberstream_read(t->member, p, n)
                  : n ? gzreader_read(t->piece, p, n) : 0;
    if (got > 0)
        t->at += (uint64_t)got;
    return t->piece && n && !got ? XERR_FORMAT : got;
}

void lcb_text_close(struct lcb_text *t)
{
    lcb_memberstream_close(&t->member);
    gzreader_close(&t->piece);
}

/* The piece with the text at START: XERR_NOTFOUND if the chunk is whole. */
static int find_piece(struct lcb *b, int64_t seq, uint64_t start, int64_t *text, int64_t *at,
                      int64_t *end)
{
    sqlite3_stmt *st = sqldb_stmt(b->index->db,
        "SELECT p.text_start, p.start, coalesce((SELECT min(text_start) FROM pieces WHERE seq=?1 AND"
        " text_start>?2), c.text_length) FROM pieces p JOIN chunks c ON c.seq=p.seq"
        " WHERE p.seq=?1 AND p.text_start<=?2 ORDER BY p.text_start DESC LIMIT 1");
    if (!st || sqldb_bind(st, "ii", seq, (int64_t)start))
        return XERR_SQL;
    int r = sqldb_step(b->index->db, st);
    if (r != 1)
        return r ? r : XERR_NOTFOUND;
    *text = sqlite3_column_int64(st, 0);
    *at = sqlite3_column_int64(st, 1);
    *end = sqlite3_column_int64(st, 2);
    sqlite3_reset(st);
    return 0;
}

int lcb_text_open(struct lcb *b, int64_t seq, uint64_t start, struct lcb_text *t)
{
    int64_t offset, text, at, end;
    struct lcb_member m;
    struct stat st;
    memset(t, 0, sizeof(*t));
    t->seq = seq;
    t->end = UINT64_MAX;
    int r = sqldb_int(b->index->db, &offset, "SELECT start FROM chunks WHERE seq=?", "i", seq);
    if (r)
        return r;
    r = find_piece(b, seq, start, &text, &at, &end);
    if (!r && (at < 0 || text < 0 || end <= text))
        return XERR_FORMAT; /* a damaged index */
    if (!r) {
        t->at = (uint64_t)text;
        t->end = (uint64_t)end;
        return gzreader_openpiece(b->vfs, b->fd, at, at != offset, 0, &t->piece);
    }
    if (r == XERR_NOTFOUND)
        r = vfs_fstat(b->vfs, b->fd, &st);
    if (!r)
        r = offset < 0 ? XERR_FORMAT : lcb_member_at(b->vfs, b->fd, offset, st.st_size, &m);
    if (!r)
        r = lcb_memberstream_open(b->vfs, b->fd, &m, &t->member);
    return r == XERR_EOF ? XERR_FORMAT : r;
}

/* The same, but with the chunk that was kept, if START can be reached from where it is. */
static int text_goto(struct lcb *b, int64_t seq, uint64_t start, struct lcb_text *t)
{
    *t = b->kept;
    memset(&b->kept, 0, sizeof(b->kept));
    int same = t->seq == seq && (t->member || t->piece);
    if (same && t->member && !t->member->reader && start <= t->member->text.len)
        t->at = t->member->at = start; /* it is in memory */
    if (same && t->at <= start && start < t->end)
        return 0;
    lcb_text_close(t);
    return lcb_text_open(b, seq, start, t);
}

int lcb_read_chunk(struct lcb *b, int64_t seq, int (*fn)(void *rock, const void *p, size_t n),
                   void *rock)
{
    struct lcb_text t;
    char piece[64 << 10];
    int64_t length;
    int r = sqldb_int(b->index->db, &length, "SELECT text_length FROM chunks WHERE seq=?", "i", seq);
    for (uint64_t at = 0; !r && at < (uint64_t)length; at = t.end) {
        ssize_t n = 0;
        r = lcb_text_open(b, seq, at, &t);
        while (!r && (n = lcb_text_read(&t, piece, sizeof(piece))) > 0)
            r = fn(rock, piece, (size_t)n);
        r = r ? r : (int)n;
        if (t.member)
            t.end = (uint64_t)length;
        lcb_text_close(&t);
    }
    return r;
}

/* Pass SIZE bytes from offset START of the stream to FN, hashing them. */
static int pass_slice(struct lcb_text *t, uint64_t start, uint64_t size, struct sha1 *sha,
                      int (*fn)(void *rock, const void *p, size_t n), void *rock)
{
    char piece[64 << 10];
    while (start || size) {
        uint64_t want = start ? start : size;
        ssize_t n = lcb_text_read(t, piece, want < sizeof(piece) ? (size_t)want : sizeof(piece));
        if (n <= 0) {
            t->end = 0; /* no good for another one */
            return n < 0 ? (int)n : XERR_FORMAT;
        }
        if (start) {
            start -= (uint64_t)n;
            continue;
        }
        size -= (uint64_t)n;
        sha1_update(sha, piece, (size_t)n);
        int r = fn(rock, piece, (size_t)n);
        if (r)
            return r;
    }
    return 0;
}

int lcb_read_content(struct lcb *b, const struct message_guid *guid,
                     int (*fn)(void *rock, const void *p, size_t n), void *rock)
{
    struct lcb_text t;
    unsigned char digest[SHA1_LEN];
    sqlite3_stmt *st = sqldb_stmt(b->index->db, "SELECT chunk, start, size FROM contents"
                                                " WHERE guid=? AND chunk IS NOT NULL");
    if (!st || sqldb_bind(st, "b", guid->value, (size_t)MESSAGE_GUID_LEN))
        return XERR_SQL;
    int r = sqldb_step(b->index->db, st);
    if (r != 1)
        return r ? r : XERR_NOTFOUND;
    int64_t chunk = sqlite3_column_int64(st, 0);
    uint64_t start = (uint64_t)sqlite3_column_int64(st, 1);
    uint64_t size = (uint64_t)sqlite3_column_int64(st, 2);
    sqlite3_reset(st);

    r = text_goto(b, chunk, start, &t);
    if (r)
        return r == XERR_NOTFOUND ? XERR_FORMAT : r;
    struct sha1 *sha = sha1_new();
    r = pass_slice(&t, start - t.at, size, sha, fn, rock);
    sha1_final(sha, digest);
    sha1_free(&sha);
    lcb_text_close(&b->kept); /* FN may have read another one */
    if (!b->writable && t.end)
        b->kept = t;
    else
        lcb_text_close(&t);
    return r ? r : memcmp(digest, guid->value, SHA1_LEN) ? XERR_FORMAT : 0;
}
