/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_recover - bring a data file and its index together, under the lock.
 *
 * The index carries a mark: how far into the data file it speaks, and which member was the last.
 * Holding that against the file takes two reads (of that member's header and of the last bytes),
 * whatever the size of the backup. Then one of:
 *
 *   - the mark fits and the file ends there: nothing to do;
 *   - the mark fits and the file goes on: apply what follows (roll forward);
 *   - it does not fit, but the index is of this file: what it says last was committed, and has rotted
 *     since. To be told from what a crash tore, by the index only: so it must be asked before it is
 *     emptied (lcb_repair.c);
 *   - it does not fit (another file, a shorter one, an older one), or the index could not be read:
 *     empty the index and apply the file from its start (rebuild). The rows are replaced in place, in
 *     one transaction, so that readers see the old or the new ones.
 *
 * Reading and applying is lcb_scan.c's; what a process of Cyrus left unfinished at the end of the file
 * is finished (lcb_tail.c) before anything is written behind it.
 *
 * What is cut off is kept aside as <data>.tail.<time>, never thrown away. Nothing is cut when the
 * index is mended for somebody who only reads: the file may be a copy that is still being made. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "backup/lcb_scan.h"
#include "backup/lcb_store_int.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

int64_t lcb_check_end(struct vfs *vfs, int fd, off_t end)
{
    unsigned char bytes[64];
    size_t n = end < (off_t)sizeof(bytes) ? (size_t)end : sizeof(bytes);
    ssize_t got = vfs_pread(vfs, fd, bytes, n, end - (off_t)n);
    return got == (ssize_t)n ? (int64_t)1 << 32 | crc32_map(0, bytes, n) : 0;
}

int lcb_point_fits(struct vfs *vfs, int fd, const struct lcb_mark_point *p)
{
    struct lcb_member m;
    struct stat st = {.st_size = 0};
    if (vfs_fstat(vfs, fd, &st) < 0 || p->end > st.st_size)
        return 0;
    if (p->unfinished && p->end < st.st_size)
        return 0; /* it goes on: a copy that was being made */
    if (p->check && p->check != lcb_check_end(vfs, fd, p->end))
        return 0;
    if (p->last_offset < 0)
        return p->end == 0 || p->check;
    if (lcb_member_at(vfs, fd, p->last_offset, st.st_size, &m))
        return 0;
    if (!m.extra.present)
        return p->end > p->last_offset;
    if (m.extra.id != p->id || m.offset + m.length > p->end)
        return 0;
    /* What stands behind it, without a header, may be lines of Cyrus, and have a number. */
    return m.extra.seq == (uint32_t)p->seq ||
           (p->check && m.extra.seq < p->seq && m.offset + m.length < p->end);
}

int lcb_index_fits(struct lcb *b)
{
    struct lcb_mark_point p = {.last_offset = -1};
    return !lcb_index_getpoint(b->index, &p) && lcb_point_fits(b->vfs, b->fd, &p);
}

struct place {
    int64_t seq, start, length, text_length;
};

enum found { NOT_THIS, CANNOT_TELL, THIS };

/* A chunk of Cyrus does not say whose it is; but that one of another file ends there, whole, with just
 * as much text, will not happen. */
static enum found find_foreign(struct lcb *b, const struct lcb_member *m, const struct place *c)
{
    struct lcb_memberstream *in = NULL;
    char piece[16 << 10];
    int64_t text = 0;
    ssize_t n = 1;
    if (lcb_memberstream_open(b->vfs, b->fd, m, &in))
        return CANNOT_TELL;
    while (n > 0 && (n = lcb_memberstream_read(in, piece, sizeof(piece))) > 0)
        text += n;
    int same = text == c->text_length && lcb_memberstream_end(in) == c->start + c->length;
    lcb_memberstream_close(&in);
    return n ? CANNOT_TELL : same ? THIS : NOT_THIS;
}

/* Is the chunk, as the index has it, in the file? */
static enum found find_chunk(struct lcb *b, const struct lcb_mark_point *p, const struct place *c)
{
    struct lcb_member m;
    if (lcb_member_at(b->vfs, b->fd, c->start, p->end, &m))
        return CANNOT_TELL;
    if (!m.extra.present)
        return find_foreign(b, &m, c);
    return m.extra.id == p->id && m.extra.seq == (uint32_t)c->seq ? THIS : NOT_THIS;
}

static int next_place(struct sqldb *db, sqlite3_stmt *st, struct place *c)
{
    int more = sqldb_step(db, st);
    if (more > 0)
        *c = (struct place){sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                            sqlite3_column_int64(st, 2), sqlite3_column_int64(st, 3)};
    return more > 0;
}

static int ignore(void *rock, const void *p, size_t n)
{
    (void)rock;
    (void)p;
    (void)n;
    return 0;
}

/* Is there a message in the last chunk where the index has it? */
static int has_message(struct lcb *b, const struct lcb_mark_point *p)
{
    struct message_guid guid;
    sqlite3_stmt *st = sqldb_stmt(b->index->db, "SELECT guid FROM contents WHERE chunk=? ORDER BY start"
                                                " LIMIT 1");
    if (!st || sqldb_bind(st, "i", p->seq))
        return 0;
    int more = sqldb_step(b->index->db, st) > 0 && sqlite3_column_bytes(st, 0) == MESSAGE_GUID_LEN;
    if (more)
        memcpy(guid.value, sqlite3_column_blob(st, 0), MESSAGE_GUID_LEN);
    sqlite3_reset(st);
    return more && !lcb_read_content(b, &guid, ignore, NULL);
}

/* Is the index of this file? Of the last chunk, which cannot be read, only a message of it counts, or
 * the bytes at its end. Else one of the two before it must be there, or the first. A first one of Cyrus
 * proves nothing, as its compaction may have left it as it was; and one that is another is another
 * file's, as a damaged one would not be whole. */
static int is_of_file(struct lcb *b, const struct lcb_mark_point *p)
{
    struct place c;
    enum found found = CANNOT_TELL;
    sqlite3_stmt *st = sqldb_stmt(b->index->db,
        "SELECT seq, start, length, text_length FROM chunks WHERE seq IN (SELECT seq FROM (SELECT seq"
        " FROM chunks WHERE start<?1 ORDER BY seq DESC LIMIT 2)) OR (?2<>0 AND seq=(SELECT min(seq)"
        " FROM chunks) AND start<?1) ORDER BY seq DESC");
    if (!st || sqldb_bind(st, "ii", (int64_t)p->last_offset, (int64_t)(p->id != 0)))
        return 0;
    while (found == CANNOT_TELL && next_place(b->index->db, st, &c))
        found = find_chunk(b, p, &c);
    sqlite3_reset(st);
    return found == THIS || (found == CANNOT_TELL && has_message(b, p));
}

int lcb_end_rotten(struct lcb *b)
{
    struct lcb_mark_point p = {.last_offset = -1};
    struct lcb_member m;
    struct stat st = {.st_size = 0};
    if (lcb_index_getpoint(b->index, &p) || p.last_offset < 0 || p.unfinished ||
        vfs_fstat(b->vfs, b->fd, &st) < 0 || p.end > st.st_size)
        return 0;
    int r = lcb_member_at(b->vfs, b->fd, p.last_offset, st.st_size, &m);
    if (r && r != XERR_FORMAT && r != XERR_EOF && r != -EIO)
        return 0;
    if (!r && ((m.extra.present && (m.extra.id != p.id || m.extra.seq != (uint32_t)p.seq)) ||
               lcb_member_intact(b->vfs, b->fd, &m)))
        return 0; /* it is another file's */
    return (p.check && p.check == lcb_check_end(b->vfs, b->fd, p.end)) || is_of_file(b, &p);
}

/* The index speaks of more than there is, and it spoke of nothing that had not been made durable. How
 * many bytes are gone? 0 too if it is another file's, or of a file of Cyrus 3.x, whose chunks do not
 * say whose they are. What is shorter than a header does not either, but lies beside the index. */
static int64_t cut_short(struct lcb *b, const struct lcb_mark_point *p, off_t size)
{
    const struct place last = {.seq = p->seq, .start = p->last_offset};
    if (p->last_offset < 0 || p->end <= size)
        return 0;
    if (size >= GZ_HEADER_LEN && (!p->id || (find_chunk(b, p, &last) != THIS && !is_of_file(b, p))))
        return 0;
    return p->end - size;
}

/* FIRST: of the last member that had been applied before. */
static int finish(struct lcb *b, struct lcb_scan *s, int64_t first, struct lcb_mark_point *p)
{
    int r = lcb_marks_set(b->index, LCB_POS(first + 1, 0), s->rotten || s->unsound || s->lacks);
    lcb_scan_point(s, p);
    if (!r)
        r = lcb_index_setpoint(b->index, p);
    if (!r)
        r = lcb_index_commit(b->index);
    if (!r && s->at < s->size && !b->keep_tail)
        r = lcb_tail_aside(b, s->at, s->size, "commit");
    return r;
}

/* The end of what the index P knows is rotten, but the file goes on: what follows is applied first, or
 * the repair would say again what does not hold any more. */
static int catch_up(struct lcb *b, struct lcb_mark_point *p, off_t size)
{
    struct lcb_scan s;
    int64_t first = p->seq;
    lcb_recover_scan(b, p, size, &s);
    int r = lcb_scan(&s);
    return r || s.at == p->end ? r : finish(b, &s, first, p);
}

void lcb_recover_scan(struct lcb *b, const struct lcb_mark_point *p, off_t size, struct lcb_scan *s)
{
    memset(s, 0, sizeof(*s));
    s->vfs = b->vfs;
    s->fd = b->fd;
    s->path = b->path;
    s->index = b->index;
    s->size = size;
    s->stop = b->stop;
    s->stop_rock = b->stop_rock;
    lcb_scan_from(s, p);
}

void lcb_recover_ready(struct lcb *b, const struct lcb_scan *s)
{
    b->df.end = s->at;
    b->df.id = s->id;
    b->df.seq = (uint32_t)s->seq + 1;
    b->df.last_time = s->last_time;
}

int lcb_recover(struct lcb *b)
{
    struct lcb_mark_point p = {.last_offset = -1};
    struct stat st = {.st_size = 0};
    struct lcb_scan s;
    int rebuild = 0;
    int r = vfs_fstat(b->vfs, b->fd, &st);
    if (!r)
        r = lcb_index_begin(b->index);
    if (!r)
        r = lcb_index_getpoint(b->index, &p);
    int fits = r || lcb_point_fits(b->vfs, b->fd, &p);
    if (!fits && lcb_end_rotten(b)) {
        r = p.end < st.st_size ? catch_up(b, &p, st.st_size) : 0;
        lcb_index_rollback(b->index);
        return r ? r : 1;
    }
    if (!fits) {
        int64_t gone = cut_short(b, &p, st.st_size);
        rebuild = 1;
        if (gone) {
            b->store->cut_short = gone;
            xlog_errorx("%s: the last %lld bytes are gone, though they were once whole", b->path,
                        (long long)gone);
        }
        xlog_info("%s: the index does not belong to the data file: rebuilding it from %lld MiB",
                  b->path, (long long)(st.st_size >> 20));
        memset(&p, 0, sizeof(p));
        p.last_offset = -1;
        r = lcb_index_clear(b->index);
    }
    lcb_recover_scan(b, &p, st.st_size, &s);
    if (!r && (rebuild || s.at < s.size)) {
        r = lcb_scan(&s);
        if (!r)
            r = finish(b, &s, p.seq, &p);
    }
    if (!r && p.unfinished && !b->keep_tail) {
        r = lcb_tail_finish(b, &p);
        s.at = p.end;
    }
    if (r) {
        lcb_index_rollback(b->index);
        return r;
    }
    /* The transaction stays open: every query would begin one of its own. */
    if (rebuild)
        xlog_info("%s: index rebuilt, %d lines were not understood, %d chunks are damaged", b->path,
                  s.lost, s.rotten);
    lcb_recover_ready(b, &s);
    return 0;
}
