/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_datafile_read - members of a data file, and their text as a stream.
 *
 * A member of ours says in its header how long it is, so the file can be walked by headers alone,
 * and a small member is read at once and inflated in one step. Members that Cyrus 3.x wrote say
 * nothing; they are inflated as a stream, and where they end is known when they have ended. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
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
    if (r == XERR_TOOBIG)
        r = gzreader_open(vfs, fd, m->offset, &s->reader);
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
    return s->end;
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

static int chunk_member(struct lcb *b, int64_t seq, struct lcb_member *m)
{
    int64_t offset, length;
    struct stat st;
    int r = sqldb_int(b->index->db, &offset, "SELECT start FROM chunks WHERE seq=?", "i", seq);
    if (!r)
        r = sqldb_int(b->index->db, &length, "SELECT length FROM chunks WHERE seq=?", "i", seq);
    if (!r)
        r = vfs_fstat(b->vfs, b->fd, &st);
    if (!r)
        r = lcb_member_at(b->vfs, b->fd, offset, st.st_size, m);
    return r == XERR_EOF ? XERR_FORMAT : r;
}

int lcb_read_chunk(struct lcb *b, int64_t seq, int (*fn)(void *rock, const void *p, size_t n),
                   void *rock)
{
    struct lcb_member m;
    struct lcb_memberstream *s = NULL;
    char piece[64 << 10];
    ssize_t n = 0;
    int r = chunk_member(b, seq, &m);
    if (!r)
        r = lcb_memberstream_open(b->vfs, b->fd, &m, &s);
    while (!r && (n = lcb_memberstream_read(s, piece, sizeof(piece))) > 0)
        r = fn(rock, piece, (size_t)n);
    lcb_memberstream_close(&s);
    return r ? r : (int)n;
}

/* Pass SIZE bytes from offset START of the stream to FN, hashing them. */
static int pass_slice(struct lcb_memberstream *s, uint64_t start, uint64_t size, struct sha1 *sha,
                      int (*fn)(void *rock, const void *p, size_t n), void *rock)
{
    char piece[64 << 10];
    while (start || size) {
        uint64_t want = start ? start : size;
        ssize_t n = lcb_memberstream_read(s, piece, want < sizeof(piece) ? (size_t)want
                                                                         : sizeof(piece));
        if (n <= 0)
            return n < 0 ? (int)n : XERR_FORMAT;
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
    struct lcb_member m;
    struct lcb_memberstream *s = NULL;
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

    r = chunk_member(b, chunk, &m);
    if (!r)
        r = lcb_memberstream_open(b->vfs, b->fd, &m, &s);
    if (r)
        return r == XERR_NOTFOUND ? XERR_FORMAT : r;
    struct sha1 *sha = sha1_new();
    r = pass_slice(s, start, size, sha, fn, rock);
    sha1_final(sha, digest);
    sha1_free(&sha);
    lcb_memberstream_close(&s);
    return r ? r : memcmp(digest, guid->value, SHA1_LEN) ? XERR_FORMAT : 0;
}

/* Was SEQ read before, and good? With SET, it is from now on. */
static int known_whole(struct lcb *b, int64_t seq, int set)
{
    size_t at = (size_t)seq / 8, have = b->whole.len;
    unsigned char bit = (unsigned char)(1u << (seq % 8));
    if (at >= have) {
        if (!set)
            return 0;
        memset(buf_ensure(&b->whole, at + 1 - have), 0, at + 1 - have);
        b->whole.len = at + 1;
    }
    if (set)
        b->whole.s[at] = (char)((unsigned char)b->whole.s[at] | bit);
    return (unsigned char)b->whole.s[at] & bit;
}

static int ignore_piece(void *rock, const void *p, size_t n)
{
    (void)rock;
    (void)p;
    (void)n;
    return 0;
}

/* The chunk that holds GUID: XERR_NOTFOUND. */
static int chunk_of(struct lcb *b, const struct message_guid *guid, int64_t *seq)
{
    return sqldb_int(b->index->db, seq,
                     "SELECT chunk FROM contents WHERE guid=? AND chunk IS NOT NULL", "b",
                     guid->value, (size_t)MESSAGE_GUID_LEN);
}

int lcb_check_content(struct lcb *b, const struct message_guid *guid)
{
    int64_t seq, end = b->df.commit.valid ? b->df.commit.seq : INT64_MAX;
    int r = chunk_of(b, guid, &seq);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    if (seq >= end || known_whole(b, seq, 0)) /* what is not committed was written just now */
        return 1;
    r = lcb_read_chunk(b, seq, ignore_piece, NULL);
    if (!r)
        known_whole(b, seq, 1);
    return !r ? 1 : r == XERR_NOTFOUND || r == XERR_EOF || r == -EIO ? XERR_FORMAT : r;
}

int lcb_forget_content(struct lcb *b, const struct message_guid *guid)
{
    int64_t seq;
    int pending = lcb_dirty(b) || b->savepoint;
    int r = chunk_of(b, guid, &seq);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    xlog_errorx("%s: chunk %lld is damaged: what was in it will be asked for again", b->path,
                (long long)seq);
    r = lcb_index_begin(b->index);
    if (!r)
        r = sqldb_run(b->index->db, "UPDATE folders SET mark=?1 WHERE id IN (SELECT r.folder FROM"
                      " records r JOIN contents c ON c.id=r.content WHERE c.chunk=?2 AND"
                      " r.until IS NULL AND r.expunged=0)", "ii", (int64_t)LCB_MARK_RESEND, seq);
    if (!r)
        r = sqldb_run(b->index->db, "UPDATE contents SET chunk=NULL WHERE chunk=?", "i", seq);
    return r || pending ? r : lcb_index_commit(b->index);
}
