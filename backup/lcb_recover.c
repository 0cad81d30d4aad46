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
 *   - it does not fit (another file, a shorter one, an older one), or the index could not be read:
 *     empty the index and apply the file from its start (rebuild). The rows are replaced in place, in
 *     one transaction, so that readers see the old or the new ones.
 *
 * Groups. Members are written in groups that end with a flagged one; a group was promised to a
 * client only as a whole. So a group is applied under an SQL savepoint, and one that does not come
 * to its flagged member is undone. A member without our extra field (Cyrus 3.x wrote it) is a group
 * of its own.
 *
 * Torn or rotten. A damaged member is either part of the last group, which the crash of a machine
 * may have left in pieces (then everything from that group's start never happened), or it was whole
 * once and has been damaged since (then what follows it is good and must be kept). The two are told
 * apart by order: a group is begun only after the one before it was synced. If behind the damage the
 * end of yet another group stands intact, the damage is rot. Rot is passed over and reported; the
 * mailboxes are then marked for a complete resend, which is how the gap heals.
 *
 * A damaged member of Cyrus 3.x is read as far as possible, wherever it stands (lcb_salvage.c). What a
 * process of Cyrus left unfinished at the end of the file is finished (lcb_tail.c) before anything
 * is written behind it.
 *
 * What is cut off is kept aside as <data>.tail.<time>, never thrown away. Nothing is cut when the
 * index is mended for somebody who only reads: the file may be a copy that is still being made. */
#include "config.h"

#include <string.h>
#include <time.h>

#include "backup/lcb_int.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

#define PROGRESS_SECONDS 10

struct scan {
    struct lcb *b;
    off_t size;
    off_t at;
    int64_t first;     /* of the last member that had been applied before */
    int64_t seq;       /* of the last member applied */
    int64_t last_time;
    uint64_t id;
    off_t last_offset;
    int lost;
    int rotten;
    int unfinished;    /* so is the last member */
    struct lcb_mark_point group; /* state at the start of the group at hand */
    int in_group;
    time_t progress;
};

int64_t lcb_check_end(struct vfs *vfs, int fd, off_t end)
{
    unsigned char bytes[64];
    size_t n = end < (off_t)sizeof(bytes) ? (size_t)end : sizeof(bytes);
    ssize_t got = vfs_pread(vfs, fd, bytes, n, end - (off_t)n);
    return got == (ssize_t)n ? (int64_t)1 << 32 | crc32_map(0, bytes, n) : 0;
}

/* Does the mark speak of this file? */
static int point_fits(struct lcb *b, const struct lcb_mark_point *p)
{
    struct lcb_member m;
    struct stat st = {.st_size = 0};
    if (vfs_fstat(b->vfs, b->fd, &st) < 0 || p->end > st.st_size)
        return 0;
    if (p->unfinished && p->end < st.st_size)
        return 0; /* it goes on: a copy that was being made */
    if (p->last_offset < 0)
        return p->end == 0;
    if (lcb_member_at(b->vfs, b->fd, p->last_offset, st.st_size, &m))
        return 0;
    if (p->check && p->check != lcb_check_end(b->vfs, b->fd, p->end))
        return 0;
    /* The time of the last line goes into the next one; so it must be beyond doubt. */
    if (p->last_time != lcb_index_time(b->index, INT64_MAX))
        return 0;
    if (!m.extra.present)
        return p->end > p->last_offset;
    return m.extra.id == p->id && m.extra.seq == (uint32_t)p->seq &&
           m.offset + m.length <= p->end;
}

int lcb_index_fits(struct lcb *b)
{
    struct lcb_mark_point p = {.last_offset = -1};
    return !lcb_index_getpoint(b->index, &p) && point_fits(b, &p);
}

static void here(const struct scan *s, struct lcb_mark_point *p)
{
    p->id = s->id;
    p->end = s->at;
    p->last_offset = s->last_offset;
    p->seq = s->seq;
    p->last_time = s->last_time;
    p->check = 0;
}

static int begin_group(struct scan *s)
{
    if (s->in_group)
        return 0;
    here(s, &s->group);
    s->in_group = 1;
    return sqldb_exec(s->b->index->db, "SAVEPOINT grp");
}

static int end_group(struct scan *s, int keep)
{
    if (!s->in_group)
        return 0;
    s->in_group = 0;
    int r = keep ? 0 : sqldb_exec(s->b->index->db, "ROLLBACK TO grp");
    if (!r)
        r = sqldb_exec(s->b->index->db, "RELEASE grp");
    if (!keep) {
        s->at = s->group.end;
        s->seq = s->group.seq;
        s->last_time = s->group.last_time;
        s->last_offset = s->group.last_offset;
        s->id = s->group.id;
        lcb_index_findtick(s->b->index);
    }
    return r;
}

/* The first offset from AT on where a member of ours (of this backup) or of Cyrus 3.x begins; -1. */
static off_t find_member(struct scan *s, off_t at)
{
    return lcb_next_member(s->b->vfs, s->b->fd, at, s->size, s->id);
}

/* Is member M (of ours) intact? */
static int intact(struct scan *s, const struct lcb_member *m)
{
    struct lcb_memberstream *in = NULL;
    char piece[16 << 10];
    ssize_t n = 1;
    if (lcb_memberstream_open(s->b->vfs, s->b->fd, m, &in))
        return 0;
    while (n > 0)
        n = lcb_memberstream_read(in, piece, sizeof(piece));
    lcb_memberstream_close(&in);
    return n == 0;
}

/* Behind the damaged member BAD: does the end of a later group stand intact? KNOWN: BAD's header
 * was readable. Only the last groups of a file can be in question, so this ends soon. */
static int is_rot(struct scan *s, const struct lcb_member *bad, int known, off_t *next)
{
    struct lcb_member m;
    int ends = 0, need = known && (bad->extra.flags & GZ_COMMIT) ? 1 : 2;
    off_t at = known && bad->length ? bad->offset + bad->length : find_member(s, bad->offset + 1);
    *next = at;
    while (at >= 0 && at < s->size && ends < need) {
        int r = lcb_member_at(s->b->vfs, s->b->fd, at, s->size, &m);
        if (r) {
            at = find_member(s, at + 1);
            continue;
        }
        if ((!m.extra.present || (m.extra.flags & GZ_COMMIT)) && intact(s, &m))
            ends += m.extra.present ? 1 : need; /* that of Cyrus 3.x is no part of BAD's group */
        at = m.length ? at + m.length : find_member(s, at + 1);
    }
    return ends >= need;
}

/* Called for every line, since a chunk of Cyrus 3.x may be as large as the file. */
static int show_progress(void *rock, off_t at)
{
    struct scan *s = rock;
    if (s->b->stop && s->b->stop(s->b->stop_rock))
        return XERR_SIGNAL;
    time_t now = time(NULL);
    if (!s->progress)
        s->progress = now;
    if (now - s->progress < PROGRESS_SECONDS)
        return 0;
    s->progress = now;
    xlog_info("%s: %lld of %lld MiB read", s->b->path, (long long)(at >> 20),
              (long long)(s->size >> 20));
    return 0;
}

/* Apply the member at s->at: 0, XERR_FORMAT if it is damaged (M, KNOWN say what is known of it). */
static int apply_member(struct scan *s, struct lcb_member *m, int *known)
{
    struct lcb_chunk chunk;
    off_t end = 0;
    int64_t last = s->last_time;
    int lost = 0;
    int r = lcb_member_at(s->b->vfs, s->b->fd, s->at, s->size, m);
    *known = !r;
    if (!r && m->extra.present && ((s->id && m->extra.id != s->id) || m->extra.seq <= s->seq))
        r = XERR_FORMAT; /* not the continuation of this file */
    if (!r)
        r = begin_group(s);
    if (r)
        return r;
    r = sqldb_exec(s->b->index->db, "SAVEPOINT mem");
    if (!r)
        r = lcb_lines_apply(s->b->index, s->b->vfs, s->b->fd, m,
                            m->extra.present ? (int64_t)m->extra.seq : s->seq + 1, &chunk, &last,
                            &lost, &end);
    if (!r && chunk.text_length)
        r = lcb_index_addchunk(s->b->index, &chunk);
    if (!r && (m->extra.flags & GZ_BASE))
        r = lcb_index_sethistory(s->b->index, LCB_POS(chunk.seq + 1, 0));
    if (r) {
        sqldb_exec(s->b->index->db, "ROLLBACK TO mem; RELEASE mem");
        lcb_index_findtick(s->b->index);
        return r == XERR_EOF ? XERR_FORMAT : r;
    }
    r = sqldb_exec(s->b->index->db, "RELEASE mem");
    if (m->extra.present)
        s->id = m->extra.id;
    if (chunk.text_length) {
        s->seq = chunk.seq;
        s->last_offset = m->offset;
    }
    s->at = end;
    s->last_time = last;
    s->lost += lost;
    if (!r && (!m->extra.present || (m->extra.flags & GZ_COMMIT)))
        r = end_group(s, 1);
    return r;
}

/* A member that is not of ours cannot be read to its end: its complete lines are applied where they
 * are. 1 if that was all, 0 if nothing there can be read. */
static int salvage(struct scan *s, int known)
{
    struct lcb_chunk chunk = {.seq = s->seq + 1, .first_time = s->last_time,
                              .last_time = s->last_time};
    struct lcb_salvage found = {.last_time = s->last_time};
    struct sqldb *db = s->b->index->db;
    int r = sqldb_exec(db, "SAVEPOINT mem");
    if (!r)
        r = lcb_salvage(s->b->index, s->b->vfs, s->b->fd, s->at, s->size, known, s->id, &chunk,
                        &found);
    if (!r && !found.lines) {
        r = sqldb_exec(db, "ROLLBACK TO mem; RELEASE mem");
        if (r || found.rot || found.last)
            return r;
        s->at = found.end; /* killed before the first line was written */
        return 1;
    }
    if (!r)
        r = lcb_index_addchunk(s->b->index, &chunk);
    if (!r)
        r = sqldb_exec(db, "RELEASE mem");
    if (r)
        return r;
    if (found.rot)
        xlog_errorx("%s: chunk at offset %lld is damaged: %d lines of it could be read, its mailboxes"
                    " will be asked for again", s->b->path, (long long)s->at, found.lines);
    else
        xlog_info("%s: chunk at offset %lld was not finished: %d lines of it were read", s->b->path,
                  (long long)s->at, found.lines);
    s->rotten += found.rot;
    s->lost += found.lost;
    s->seq = chunk.seq;
    if (known)
        s->last_offset = s->at;
    s->at = found.end;
    s->last_time = found.last_time;
    s->unfinished = found.last && !found.rot;
    return 1;
}

/* From s->at to the end of the file. Afterwards s->at is the end of the last good group. */
static int apply_all(struct scan *s)
{
    while (s->at < s->size) {
        struct lcb_member m;
        int known;
        off_t next;
        int r = show_progress(s, s->at);
        if (r)
            return r;
        r = apply_member(s, &m, &known);
        if (!r)
            continue;
        if (r != XERR_FORMAT)
            return r;
        if ((!s->in_group || s->at == s->group.end) && !(known && m.extra.present)) {
            r = begin_group(s);
            if (!r)
                r = salvage(s, known);
            if (r > 0 && !(r = end_group(s, 1)))
                continue;
            if (r)
                return r;
        }
        if (!is_rot(s, &m, known, &next))
            break;
        xlog_errorx("%s: chunk at offset %lld is damaged: passed over, its mailboxes will be asked"
                    " for again", s->b->path, (long long)m.offset);
        s->rotten++;
        s->at = next;
        if (known && (m.extra.flags & GZ_COMMIT) && (r = end_group(s, 1)))
            return r;
    }
    return end_group(s, 0);
}

/* Marks are not in the data file. What it can tell of them: after rot anything may be missing; and
 * a mailbox whose records do not have the client's checksum may have been marked for that. (If the
 * difference had been accepted, its records are sent once more.) Other marks come back by
 * themselves, when the client repeats what was refused. */
static int set_marks(struct scan *s)
{
    if (s->rotten)
        return sqldb_exec(s->b->index->db, "UPDATE folders SET mark=2");
    return sqldb_run(s->b->index->db,
                     "UPDATE folders SET mark=1 WHERE mark=0 AND id IN (SELECT f.id FROM folders f"
                     " JOIN folder_states s ON s.folder=f.id AND s.until IS NULL WHERE s.since>=?"
                     " AND s.sync_crc<>f.crc)", "i", LCB_POS(s->first + 1, 0));
}

static int finish(struct scan *s, struct lcb_mark_point *p)
{
    int r = set_marks(s);
    here(s, p);
    p->check = lcb_check_end(s->b->vfs, s->b->fd, p->end);
    p->unfinished = s->unfinished;
    if (!r)
        r = lcb_index_setpoint(s->b->index, p);
    if (!r)
        r = lcb_index_commit(s->b->index);
    if (!r && s->at < s->size && !s->b->keep_tail)
        r = lcb_tail_aside(s->b, s->at, s->size, "commit");
    return r;
}

int lcb_recover(struct lcb *b)
{
    struct lcb_mark_point p = {.last_offset = -1};
    struct stat st = {.st_size = 0};
    int rebuild = 0;
    int r = vfs_fstat(b->vfs, b->fd, &st);
    if (!r)
        r = lcb_index_begin(b->index);
    if (!r)
        r = lcb_index_getpoint(b->index, &p);
    if (!r && !point_fits(b, &p)) {
        rebuild = 1;
        xlog_info("%s: the index does not belong to the data file: rebuilding it from %lld MiB",
                  b->path, (long long)(st.st_size >> 20));
        memset(&p, 0, sizeof(p));
        p.last_offset = -1;
        r = lcb_index_clear(b->index);
    }
    struct scan s = {.b = b, .size = st.st_size, .at = p.end, .first = p.seq, .seq = p.seq,
                     .id = p.id, .last_time = p.last_time, .last_offset = p.last_offset};
    if (!r && (rebuild || s.at < s.size)) {
        b->index->progress = show_progress;
        b->index->progress_rock = &s;
        r = apply_all(&s);
        b->index->progress = NULL;
        if (!r)
            r = finish(&s, &p);
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
    b->df.end = s.at;
    b->df.id = s.id;
    b->df.seq = (uint32_t)s.seq + 1;
    b->df.last_time = s.last_time;
    return 0;
}
