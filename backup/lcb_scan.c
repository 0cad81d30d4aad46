/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_scan - apply a data file, member by member, to an index.
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
 * end of yet another group stands intact, the damage is rot. (Where such ends are is remembered, so
 * that a file with a thousand damaged members is not looked through a thousand times.) Rot is passed
 * over and reported. A disk that cannot read a place is rot like any other.
 *
 * A damaged member of Cyrus 3.x is read as far as possible, wherever it stands (lcb_salvage.c).
 *
 * Messages are held against their GUIDs while their lines are read; one that is wrong, though its
 * chunk is whole, counts as not received. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "backup/lcb_scan.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

#define PROGRESS_SECONDS 10
/* Wrong things in one chunk beyond these are not named. */
#define UNSOUND_MAX 10000

static void here(const struct lcb_scan *s, struct lcb_mark_point *p)
{
    p->id = s->id;
    p->end = s->at;
    p->last_offset = s->last_offset;
    p->seq = s->seq;
    p->last_time = s->last_time;
    p->check = 0;
    p->unfinished = 0;
}

void lcb_scan_point(const struct lcb_scan *s, struct lcb_mark_point *p)
{
    here(s, p);
    p->check = lcb_check_end(s->vfs, s->fd, s->at);
    p->unfinished = s->unfinished;
}

void lcb_scan_from(struct lcb_scan *s, const struct lcb_mark_point *p)
{
    s->at = p->end;
    s->seq = p->seq;
    s->id = p->id;
    s->last_time = p->last_time;
    s->last_offset = p->last_offset;
}

static int begin_group(struct lcb_scan *s)
{
    if (s->in_group)
        return 0;
    here(s, &s->group);
    s->in_group = 1;
    return sqldb_exec(s->index->db, "SAVEPOINT grp");
}

static int end_group(struct lcb_scan *s, int keep)
{
    if (!s->in_group)
        return 0;
    s->in_group = 0;
    int r = keep ? 0 : sqldb_exec(s->index->db, "ROLLBACK TO grp");
    if (!r)
        r = sqldb_exec(s->index->db, "RELEASE grp");
    if (!keep) {
        s->at = s->group.end;
        s->seq = s->group.seq;
        s->last_time = s->group.last_time;
        s->last_offset = s->group.last_offset;
        s->id = s->group.id;
        lcb_index_findtick(s->index);
    }
    return r;
}

/* The first offset from AT on where a member of ours (of this backup) or of Cyrus 3.x begins; -1. */
static off_t find_member(struct lcb_scan *s, off_t at)
{
    return lcb_next_member(s->vfs, s->fd, at, s->size, s->id);
}

int lcb_member_intact(struct vfs *vfs, int fd, const struct lcb_member *m)
{
    struct lcb_memberstream *in = NULL;
    char piece[16 << 10];
    ssize_t n = 1;
    if (lcb_memberstream_open(vfs, fd, m, &in))
        return 0;
    while (n > 0)
        n = lcb_memberstream_read(in, piece, sizeof(piece));
    lcb_memberstream_close(&in);
    return n == 0;
}

/* A group ends intact at AT. One of Cyrus 3.x is worth two, as it is no part of the group of anything
 * before it. */
static void note_end(struct lcb_scan *s, off_t at, int twice)
{
    s->ends[0] = twice ? at : s->ends[1];
    s->ends[1] = at;
}

/* How many ends of groups are known to stand behind AT. */
static int ends_behind(const struct lcb_scan *s, off_t at)
{
    return (s->ends[0] > at) + (s->ends[1] > at);
}

/* Where the member behind the damaged BAD may be. If none is where its header says, some of BAD is
 * gone, and the next one begins before. */
static off_t find_behind(struct lcb_scan *s, const struct lcb_member *bad, int known)
{
    struct lcb_member m;
    off_t told = known && bad->length ? bad->offset + bad->length : 0;
    if (told && (told >= s->size || lcb_member_at(s->vfs, s->fd, told, s->size, &m) != XERR_FORMAT))
        return told;
    off_t found = find_member(s, bad->offset + 1);
    return told && (found < 0 || found > told) ? told : found;
}

/* Behind the damaged member BAD: does the end of a later group stand intact? KNOWN: BAD's header was
 * readable. *NEXT is where the next member may be, -1 if nowhere. */
static int is_rot(struct lcb_scan *s, const struct lcb_member *bad, int known, off_t *next)
{
    struct lcb_member m;
    int need = known && (bad->extra.flags & GZ_COMMIT) ? 1 : 2;
    off_t at = find_behind(s, bad, known);
    *next = at;
    if (at >= 0 && s->looked > at)
        at = s->looked;
    while (at >= 0 && at < s->size && ends_behind(s, bad->offset) < need) {
        int r = lcb_member_at(s->vfs, s->fd, at, s->size, &m);
        if (r) {
            at = find_member(s, at + 1);
            continue;
        }
        if ((!m.extra.present || (m.extra.flags & GZ_COMMIT)) && lcb_member_intact(s->vfs, s->fd, &m))
            note_end(s, at + 1, !m.extra.present);
        at = m.length ? at + m.length : find_member(s, at + 1);
    }
    s->looked = at < 0 ? s->size : at;
    return ends_behind(s, bad->offset) >= need;
}

/* Called for every line, since a chunk of Cyrus 3.x may be as large as the file. */
static int show_progress(void *rock, off_t at)
{
    struct lcb_scan *s = rock;
    if (s->stop && s->stop(s->stop_rock))
        return XERR_SIGNAL;
    if (s->quiet)
        return 0;
    time_t now = time(NULL);
    if (!s->progress)
        s->progress = now;
    if (now - s->progress < PROGRESS_SECONDS)
        return 0;
    s->progress = now;
    xlog_info("%s: %lld of %lld MiB read", s->path, (long long)(at >> 20),
              (long long)(s->size >> 20));
    return 0;
}

/* What is wrong in a line of the member at hand. */
struct unsound {
    int64_t pos;
    int message;
    struct message_guid guid;
};

static void note_unsound(void *rock, const struct message_guid *guid, int64_t pos)
{
    struct lcb_scan *s = rock;
    struct unsound u = {.pos = pos, .message = guid != NULL};
    if (s->unsound_list.len >= UNSOUND_MAX * sizeof(u))
        return;
    if (guid)
        u.guid = *guid;
    buf_appendmap(&s->unsound_list, &u, sizeof(u));
}

static void tell_unsound(struct lcb_scan *s)
{
    struct unsound u;
    char hex[41];
    for (size_t at = 0; at < s->unsound_list.len; at += sizeof(u)) {
        memcpy(&u, s->unsound_list.s + at, sizeof(u));
        struct lcb_damage d = {.kind = u.message ? LCB_DAMAGE_MESSAGE : LCB_DAMAGE_LINE,
                               .offset = s->last_offset, .next = s->at, .seq = LCB_POS_SEQ(u.pos),
                               .line = (int)(u.pos & 0xffffff), .error = XERR_FORMAT,
                               .guid = u.message ? &u.guid : NULL};
        s->unsound += u.message;
        if (s->damage)
            s->damage(s->rock, &d);
        if (s->quiet || !u.message)
            continue;
        message_guid_encode(&u.guid, hex);
        xlog_errorx("%s: message %s in chunk %lld is not what its GUID says: it will be asked for"
                    " again", s->path, hex, (long long)d.seq);
    }
    buf_reset(&s->unsound_list);
}

/* Apply the member at s->at: 0, XERR_FORMAT if it is damaged (M, KNOWN say what is known of it). */
static int apply_member(struct lcb_scan *s, struct lcb_member *m, int *known)
{
    struct lcb_chunk chunk;
    off_t end = 0;
    int64_t last = s->last_time;
    int lost = 0;
    int r = lcb_member_at(s->vfs, s->fd, s->at, s->size, m);
    *known = !r;
    s->unreadable = r == -EIO;
    if (s->unreadable)
        r = XERR_FORMAT;
    if (!r && m->extra.present && ((s->id && m->extra.id != s->id) || m->extra.seq <= s->seq))
        r = XERR_FORMAT; /* not the continuation of this file */
    if (!r)
        r = begin_group(s);
    if (r)
        return r;
    r = sqldb_exec(s->index->db, "SAVEPOINT mem");
    buf_reset(&s->unsound_list);
    if (!r)
        r = lcb_lines_apply(s->index, s->vfs, s->fd, m,
                            m->extra.present ? (int64_t)m->extra.seq : s->seq + 1, &chunk, &last,
                            &lost, &end);
    if (!r && chunk.text_length)
        r = lcb_index_addchunk(s->index, &chunk);
    if (!r && (m->extra.flags & GZ_BASE))
        r = lcb_index_sethistory(s->index, LCB_POS(chunk.seq + 1, 0));
    if (r) {
        sqldb_exec(s->index->db, "ROLLBACK TO mem; RELEASE mem");
        lcb_index_findtick(s->index);
        s->unreadable = r == -EIO;
        return r == XERR_EOF || r == -EIO ? XERR_FORMAT : r;
    }
    r = sqldb_exec(s->index->db, "RELEASE mem");
    if (m->extra.present)
        s->id = m->extra.id;
    if (chunk.text_length) {
        s->seq = chunk.seq;
        s->last_offset = m->offset;
    }
    s->at = end;
    s->last_time = last;
    s->lost += lost;
    s->lacks |= (m->extra.flags & GZ_LACKS) != 0;
    if (!r && (!m->extra.present || (m->extra.flags & GZ_COMMIT)))
        r = end_group(s, 1);
    if (!r)
        tell_unsound(s);
    if (!r && s->chunk)
        r = s->chunk(s->rock, &chunk);
    return r;
}

/* A chunk at s->at that goes on at NEXT, with number SEQ if that is known. */
static void tell_chunk(struct lcb_scan *s, off_t next, int64_t seq, int lines)
{
    struct lcb_damage d = {.kind = LCB_DAMAGE_CHUNK, .offset = s->at, .next = next, .seq = seq,
                           .line = lines, .error = XERR_FORMAT};
    s->rotten++;
    if (s->damage)
        s->damage(s->rock, &d);
    if (s->quiet)
        return;
    if (lines)
        xlog_errorx("%s: chunk at offset %lld is damaged: %d lines of it could be read, what it lost"
                    " will be asked for again", s->path, (long long)s->at, lines);
    else
        xlog_errorx("%s: chunk at offset %lld is damaged: passed over, what it lost will be asked for"
                    " again", s->path, (long long)s->at);
}

/* A member that is not of ours cannot be read to its end: its complete lines are applied where they
 * are. 1 if that was all, 0 if nothing there can be read. */
static int salvage(struct lcb_scan *s, int known)
{
    struct lcb_chunk chunk = {.seq = s->seq + 1, .first_time = s->last_time,
                              .last_time = s->last_time};
    struct lcb_salvage found = {.last_time = s->last_time};
    struct sqldb *db = s->index->db;
    int r = sqldb_exec(db, "SAVEPOINT mem");
    if (!r)
        r = lcb_salvage(s->index, s->vfs, s->fd, s->at, s->size, known, s->id, &chunk,
                        &found);
    if ((!r && !found.lines) || r == -EIO) {
        int unreadable = r;
        r = sqldb_exec(db, "ROLLBACK TO mem; RELEASE mem");
        if (r || unreadable || found.rot || found.last)
            return r;
        s->at = found.end; /* killed before the first line was written */
        return 1;
    }
    if (!r)
        r = lcb_index_addchunk(s->index, &chunk);
    if (!r && found.rot)
        r = lcb_index_addlost(s->index, LCB_POS(chunk.seq, 0));
    if (!r)
        r = sqldb_exec(db, "RELEASE mem");
    if (r)
        return r;
    if (found.rot)
        tell_chunk(s, found.end, chunk.seq, found.lines);
    else if (!s->quiet)
        xlog_info("%s: chunk at offset %lld was not finished: %d lines of it were read", s->path,
                  (long long)s->at, found.lines);
    s->lost += found.lost;
    s->seq = chunk.seq;
    if (known)
        s->last_offset = s->at;
    s->at = found.end;
    s->last_time = found.last_time;
    s->unfinished = found.last && !found.rot;
    return 1;
}

/* Did anything but messages happen before the time that lines have now? Folders are numbered as they
 * come, so the first row of their states is the earliest. */
static int has_past(struct lcb_scan *s)
{
    int64_t past = 0;
    int r = sqldb_int(s->index->db, &past,
        "WITH t(pos) AS (SELECT max(pos) FROM ticks) SELECT"
        " (SELECT since FROM folder_states ORDER BY folder, since LIMIT 1)<t.pos"
        " OR EXISTS (SELECT 1 FROM subs WHERE since<t.pos) OR EXISTS (SELECT 1 FROM seens WHERE"
        " since<t.pos) OR EXISTS (SELECT 1 FROM scripts WHERE since<t.pos) OR EXISTS (SELECT 1 FROM"
        " active WHERE since<t.pos) OR EXISTS (SELECT 1 FROM quotas WHERE since<t.pos) OR EXISTS"
        " (SELECT 1 FROM annots WHERE since<t.pos) FROM t", "");
    return r == XERR_NOTFOUND ? 0 : r ? r : past != 0;
}

/* A member of which nothing is known may have been the end of what compaction restated: before it stand
 * messages, and lines of one and the same time. That nobody takes the time of these messages for
 * history, it begins behind that member then. In a file that was not compacted, only the first second
 * of it is like that. */
static int may_end_base(struct lcb_scan *s)
{
    int64_t history = 0, one;
    if (!s->seq)
        return 0;
    int r = lcb_index_gethistory(s->index, &history);
    if (!r && history && (r = sqldb_int(s->index->db, &one, "SELECT 1 FROM chunks WHERE seq=?", "i",
                                        LCB_POS_SEQ(history) - 1)) != XERR_NOTFOUND)
        return r; /* it was read */
    r = r == XERR_NOTFOUND ? 0 : r;
    if (!r)
        r = has_past(s);
    return r ? r < 0 ? r : 0 : lcb_index_sethistory(s->index, LCB_POS(s->seq + 2, 0));
}

/* The damaged member M at s->at: 1 if it was passed over, 0 if it is the end. */
static int pass_over(struct lcb_scan *s, const struct lcb_member *m, int known)
{
    off_t next;
    int r = 0;
    if (!is_rot(s, m, known, &next)) {
        if (m->offset >= s->committed && !s->unreadable)
            return 0; /* a crash leaves wrong bytes, not places that cannot be read */
        s->forced++;
    }
    if (next < 0 || next > s->size)
        next = s->size;
    tell_chunk(s, next, known ? (int64_t)m->extra.seq : 0, 0);
    s->at = next;
    if (known && (m->extra.flags & GZ_BASE) && m->extra.id == s->id && m->extra.seq > s->seq)
        r = lcb_index_sethistory(s->index, LCB_POS((int64_t)m->extra.seq + 1, 0));
    else if (!known)
        r = may_end_base(s);
    const int ends = known && (!m->extra.present || (m->extra.flags & GZ_COMMIT));
    if (!r && (ends || next == s->size))
        r = end_group(s, 1);
    return r ? r : 1;
}

static int scan_members(struct lcb_scan *s)
{
    while (s->at < s->size) {
        struct lcb_member m;
        int known;
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
        r = pass_over(s, &m, known);
        if (r <= 0)
            return r ? r : end_group(s, 0);
    }
    return end_group(s, 0);
}

int lcb_scan(struct lcb_scan *s)
{
    struct lcb_index *ix = s->index;
    ix->progress = show_progress;
    ix->unsound = note_unsound;
    ix->progress_rock = s;
    int r = scan_members(s);
    buf_free(&s->unsound_list);
    ix->progress = NULL;
    ix->unsound = NULL;
    return r;
}
