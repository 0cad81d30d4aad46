/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_verify - hold a data file against itself, and its index against the data file.
 *
 * The file is read once, by the scan that a rebuild does, into an index of its own: a temporary
 * database of SQLite, which is in memory while it is small. On the way each chunk is checked by its
 * place, header and CRC, each line by being understood, and each message by its SHA-1. Then the two
 * indexes are compared row by row (lcb_compare.c).
 *
 * Data or index? A chunk that the live index knows and the scan could not read is lost; where a row
 * of the live index begins, ends or has its content in a lost chunk, it is what was lost, and so are
 * rows of the same thing that follow. Any other difference is the index' fault, and no harm: it is made
 * anew. A damaged chunk that the live index does not know was lost and mended before (lcb_repair.c):
 * that is information.
 *
 * No lock of writers is taken. The live index says how far it speaks when we begin, and nothing up
 * to there ever changes; what was appended meanwhile is left out of the comparison. The lock of
 * maintenance keeps compaction from taking the files away. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_compare.h"
#include "backup/lcb_repair.h"
#include "backup/lcb_scan.h"
#include "backup/lcb_verify.h"
#include "backup/lcb_verify_int.h"
#include "lib/filelock.h"
#include "lib/hash.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* Of the index that is made: what is larger goes to a temporary file. */
#define SCRATCH_CACHE "PRAGMA cache_size=-24576; PRAGMA synchronous=OFF"
/* Damaged places in one file beyond these are not named. */
#define DAMAGE_MAX 100000

struct damaged {
    off_t offset;
    int64_t seq;
    int lines;
};

struct verify {
    struct lcb_verify *v;
    struct lcb_store *store;
    struct vfs *vfs;
    const char *path;
    char *index_path;
    int fd;
    off_t size;
    struct lcb_index *live;      /* or NULL */
    struct lcb_index *scratch;
    struct lcb_mark_point point; /* of the live index when we began */
    struct lcb_scan scan;
    struct lcb_seqs lost;
    struct damaged *damaged;
    size_t ndamaged, alloc;
    struct hash *unsound;        /* GUIDs */
    int lacking;                 /* without a live index: what is left lacks something */
    struct buf text;
};

/* ---- telling ---- */

/* s->text is the sentence. */
static void tell(struct verify *s, struct lcb_finding *f)
{
    f->what = buf_cstring(&s->text);
    if (f->kind < LCB_FOUND_INDEX)
        s->v->data++;
    if (f->kind == LCB_FOUND_INDEX)
        s->v->index++;
    if (s->v->found)
        s->v->found(s->v->rock, f);
}

static void tell_index(struct verify *s, const char *what)
{
    struct lcb_finding f = {.kind = LCB_FOUND_INDEX, .offset = -1};
    buf_setcstr(&s->text, what);
    tell(s, &f);
}

static void tell_info(struct verify *s, int64_t seq, off_t offset)
{
    struct lcb_finding f = {.kind = LCB_FOUND_INFO, .seq = seq, .offset = offset};
    tell(s, &f);
}

/* ---- reading ---- */

static void note_damage(void *rock, const struct lcb_damage *d)
{
    struct verify *s = rock;
    static int there;
    if (d->kind == LCB_DAMAGE_MESSAGE) {
        hash_insertmap(s->unsound, d->guid->value, sizeof(d->guid->value), &there);
    } else if (d->kind == LCB_DAMAGE_LINE) {
        buf_reset(&s->text);
        buf_printf(&s->text, "line %d of chunk %lld cannot be understood", d->line,
                   (long long)d->seq);
        tell_info(s, d->seq, d->offset);
    } else if (s->ndamaged < DAMAGE_MAX) {
        if (s->ndamaged == s->alloc) {
            s->alloc = s->alloc ? 2 * s->alloc : 16;
            s->damaged = xrealloc(s->damaged, s->alloc * sizeof(*s->damaged));
        }
        s->damaged[s->ndamaged++] = (struct damaged){d->offset, d->seq, d->line};
    }
}

static int note_chunk(void *rock, const struct lcb_chunk *chunk)
{
    struct verify *s = rock;
    s->v->chunks++;
    return s->v->chunk ? s->v->chunk(s->v->rock, chunk) : 0;
}

/* The backup id of the first member of ours that can be found, 0 if there is none near the start.
 * */
static uint64_t file_id(struct verify *s)
{
    struct lcb_member m;
    off_t at = 0;
    for (int tries = 0; at >= 0 && at < s->size && tries < 100; tries++) {
        int r = lcb_member_at(s->vfs, s->fd, at, s->size, &m);
        if (!r && m.extra.present)
            return m.extra.id;
        at = lcb_next_member(s->vfs, s->fd, at + 1, s->size, 0);
    }
    return 0;
}

/* Does the index' mark stand where its chunks end? */
static int mark_is_right(struct verify *s)
{
    int64_t end = 0;
    int r = sqldb_int(s->live->db, &end, "SELECT max(start+length) FROM chunks", "");
    return (!r || r == XERR_NOTFOUND) && s->point.end >= end;
}

/* The mark of the live index, seen with its chunks: as they are after one commit. */
static int read_mark(struct verify *s)
{
    int r = sqldb_exec(s->live->db, "BEGIN");
    if (!r)
        r = lcb_index_getpoint(s->live, &s->point);
    int right = !r && mark_is_right(s);
    if (!r)
        r = sqldb_exec(s->live->db, "COMMIT");
    if (r)
        return r;
    if (right && s->point.last_offset < 0 && s->size)
        return XERR_NOTFOUND; /* it says nothing yet */
    return right ? 0 : XERR_FORMAT;
}

/* Open the live index; s->live stays NULL if it is of no use. */
static int open_live(struct verify *s)
{
    int r = lcb_index_open(s->index_path, 0, 1, 0, &s->live);
    if (!r)
        r = read_mark(s);
    if (r == XERR_LOCKED || r == -EACCES || r == -EMFILE || r == -ENFILE)
        return r;
    if (r == XERR_SQL && (!s->live || sqldb_outside(s->live->db)))
        return r;
    uint64_t id = !r && !lcb_point_fits(s->vfs, s->fd, &s->point) ? file_id(s) : 0;
    if (!r && id && id != s->point.id)
        r = XERR_STALE;
    if (!r)
        return 0;
    lcb_index_close(&s->live);
    s->v->no_index = 1;
    tell_index(s, r == XERR_NOTFOUND  ? "there is no index"
                  : r == XERR_STALE   ? "the index belongs to another data file"
                  : r == XERR_VERSION ? "the index is of another version"
                                      : "the index is damaged or not one of ours");
    return 0;
}

static int open_scratch(struct verify *s)
{
    int r = lcb_index_open("", 1, 0, INT64_MAX, &s->scratch);
    if (r)
        return r;
    s->scratch->names = lcb_store_names(s->store);
    r = lcb_index_commit(s->scratch);
    if (!r)
        r = sqldb_exec(s->scratch->db, SCRATCH_CACHE);
    return r ? r : sqldb_exec(s->scratch->db, "BEGIN");
}

static int scan(struct verify *s)
{
    struct lcb_mark_point start = {.last_offset = -1};
    s->scan = (struct lcb_scan){
        .vfs = s->vfs, .fd = s->fd, .path = s->path, .index = s->scratch, .size = s->size,
        .quiet = 1, .damage = note_damage, .chunk = note_chunk, .rock = s,
    };
    lcb_store_getstop(s->store, &s->scan.stop, &s->scan.stop_rock);
    if (s->live) {
        if (s->point.end < s->size)
            s->scan.size = s->point.end;
        s->scan.committed = s->scan.size;
    }
    lcb_scan_from(&s->scan, &start);
    s->scratch->transaction = 1;
    int r = lcb_scan(&s->scan);
    s->v->bytes = s->scan.at;
    return r;
}

/* ---- what was lost ---- */

static int64_t offset_of(struct verify *s, int64_t seq)
{
    int64_t start = -1;
    if (s->live)
        (void)sqldb_int(s->live->db, &start, "SELECT start FROM chunks WHERE seq=?", "i", seq);
    return start;
}

static int is_lost(struct verify *s, int64_t seq)
{
    return seq && lcb_seqs_have(&s->lost, LCB_POS(seq, 0));
}

/* A damaged place: with the number that the live index has for it, if any. */
static void tell_place(struct verify *s, const struct damaged *d)
{
    struct lcb_finding f = {.kind = LCB_FOUND_CHUNK, .seq = d->seq, .offset = d->offset};
    int64_t seq = 0;
    if (s->live)
        (void)sqldb_int(s->live->db, &seq, "SELECT seq FROM chunks WHERE start=?", "i",
                        (int64_t)d->offset);
    if (seq)
        f.seq = seq;
    buf_reset(&s->text);
    if (s->live ? is_lost(s, seq) : s->lacking) {
        buf_printf(&s->text, "error reading chunk at offset %lld: damaged", (long long)d->offset);
        if (d->lines)
            buf_printf(&s->text, ", %d lines of it can be read", d->lines);
    } else {
        f.kind = LCB_FOUND_INFO;
        buf_printf(&s->text, "chunk at offset %lld is damaged, and nothing rests on it",
                   (long long)d->offset);
    }
    tell(s, &f);
}

static int by_offset(const void *a, const void *b)
{
    const struct damaged *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Chunks of the live index in which no damage was seen, but that are not there. */
static void tell_missing(struct verify *s)
{
    for (size_t i = 0; i < s->lost.n; i++) {
        struct lcb_finding f = {.kind = LCB_FOUND_CHUNK, .seq = s->lost.list[i],
                                .offset = offset_of(s, s->lost.list[i])};
        struct damaged key = {.offset = f.offset};
        if (s->ndamaged && bsearch(&key, s->damaged, s->ndamaged, sizeof(key), by_offset))
            continue;
        buf_reset(&s->text);
        if (!s->ndamaged && f.offset < s->size) { /* one follows the other: it is not the file */
            f.kind = LCB_FOUND_INDEX;
            f.offset = -1;
        }
        buf_printf(&s->text, "error reading chunk at offset %lld: %s", (long long)key.offset,
                   key.offset >= s->size ? "the file ends before it" : "there is no such chunk");
        tell(s, &f);
    }
}

/* A message that was in the live index: once for each record that has it. */
static int tell_message(struct verify *s, const struct message_guid *guid, int64_t chunk,
                        const char *why)
{
    struct lcb_finding f = {.kind = LCB_FOUND_MESSAGE, .seq = chunk, .offset = offset_of(s, chunk)};
    char hex[41];
    int more, none = 1;
    sqlite3_stmt *st = sqldb_stmt(s->live->db,
        "SELECT f.uniqueid, r.uid, (SELECT mboxname FROM folder_states WHERE folder=f.id ORDER BY"
        " since DESC LIMIT 1) FROM contents c JOIN records r ON r.content=c.id JOIN folders f ON"
        " f.id=r.folder WHERE c.guid=? AND r.until IS NULL ORDER BY f.uniqueid, r.uid");
    if (!st || sqldb_bind(st, "b", guid->value, sizeof(guid->value)))
        return XERR_SQL;
    message_guid_encode(guid, hex);
    f.guid = hex;
    while ((more = sqldb_step(s->live->db, st)) > 0) {
        f.uniqueid = (const char *)sqlite3_column_text(st, 0);
        f.uid = (uint32_t)sqlite3_column_int64(st, 1);
        f.mboxname = (const char *)sqlite3_column_text(st, 2);
        buf_reset(&s->text);
        buf_printf(&s->text, "message %s (%s uid %u) in chunk %lld %s", hex,
                   f.mboxname ? f.mboxname : "?", f.uid, (long long)chunk, why);
        tell(s, &f);
        none = 0;
    }
    if (none && !more) {
        buf_reset(&s->text);
        buf_printf(&s->text, "message %s in chunk %lld %s", hex, (long long)chunk, why);
        tell(s, &f);
    }
    return more;
}

/* ---- the comparison ---- */

static int stood_in_lost(void *rock, int64_t pos)
{
    struct verify *s = rock;
    return lcb_seqs_have(&s->lost, pos);
}

/* What the live index has and the file has not any more. */
static void tell_lost_row(struct verify *s, const struct lcb_difference *d)
{
    int64_t seq = LCB_POS_SEQ(d->since[0]);
    struct lcb_finding f = {.kind = LCB_FOUND_OTHER, .seq = seq, .offset = offset_of(s, seq),
                            .uniqueid = d->uniqueid, .mboxname = d->mboxname, .uid = d->uid};
    buf_reset(&s->text);
    if (!strcmp(d->table, "records")) {
        f.kind = LCB_FOUND_RECORD;
        buf_printf(&s->text, "chunk %lld missing mailbox_message data for %s uid %u", (long long)seq,
                   d->uniqueid, d->uid);
    } else if (!strcmp(d->table, "folder_states") || !strcmp(d->table, "folders")) {
        buf_printf(&s->text, "chunk %lld missing mailbox data for %s (%s)", (long long)seq, d->uniqueid,
                   d->mboxname);
    } else {
        buf_printf(&s->text, "chunk %lld cannot be read: %s", (long long)seq, d->what);
    }
    tell(s, &f);
}

static int difference(void *rock, const struct lcb_difference *d)
{
    struct verify *s = rock;
    const struct lcb_losses losses = {s->live, s->scratch, &s->lost, s->unsound};
    int contents = !strcmp(d->table, "contents");
    if (contents && d->guid && d->side < 0 && (is_lost(s, d->chunk) ||
        hash_lookupmap(s->unsound, d->guid->value, sizeof(d->guid->value))))
        return tell_message(s, d->guid, d->chunk, is_lost(s, d->chunk) ? "cannot be read"
                                                                       : "is not what its GUID says");
    if (lcb_losses_excuse(&losses, d)) {
        if (d->side < 0 && !contents && lcb_seqs_have(&s->lost, d->since[0]))
            tell_lost_row(s, d);
        return 0;
    }
    struct lcb_finding f = {.kind = LCB_FOUND_INDEX, .offset = -1, .uniqueid = d->uniqueid,
                            .mboxname = d->mboxname, .uid = d->uid};
    buf_setcstr(&s->text, d->what);
    tell(s, &f);
    return 0;
}

static int compare(struct verify *s)
{
    struct lcb_mark_point now;
    int r = sqldb_exec(s->live->db, "BEGIN");
    if (!r)
        r = lcb_index_getpoint(s->live, &now);
    if (!r && (now.end < s->point.end || (s->point.id && now.id != s->point.id)))
        r = XERR_LOCKED; /* it was made anew meanwhile, of something else */
    if (!r)
        r = lcb_seqs_lost(s->live, s->scratch, s->point.seq, &s->lost);
    for (size_t i = 0; !r && i < s->ndamaged; i++)
        tell_place(s, &s->damaged[i]);
    if (r)
        return r;
    tell_missing(s);
    struct lcb_compare c = {
        .old = s->live, .new_ = s->scratch, .old_name = "the index", .new_name = "the data file",
        .to = now.end == s->point.end ? INT64_MAX : LCB_POS(s->point.seq + 1, 0),
        .found = difference, .lost = s->lost.n ? stood_in_lost : NULL, .rock = s,
    };
    r = lcb_compare(&c);
    return r < 0 ? r : lcb_marks_waiting(s->live, &s->v->waiting);
}

/* An index whose pages are damaged may end the comparison anywhere. */
static int compare_live(struct verify *s)
{
    int r = lcb_index_check(s->live);
    if (!r)
        r = compare(s);
    if ((r == XERR_SQL || r == XERR_FORMAT) && !sqldb_outside(s->live->db) &&
        !sqldb_outside(s->scratch->db)) {
        tell_index(s, "the index is damaged");
        return 0;
    }
    return r;
}

/* Does what could be read agree with itself? Damage that was mended has left nothing that lacks. */
static int is_lacking(struct verify *s)
{
    int64_t n = 0, differ = 0;
    int r = lcb_marks_set(s->scratch, 0, 1);
    if (!r)
        r = lcb_marks_waiting(s->scratch, &n);
    if (!r)
        r = sqldb_int(s->scratch->db, &differ,
                      "SELECT count(*) FROM folders f JOIN folder_states t ON t.folder=f.id AND"
                      " t.until IS NULL WHERE t.sync_crc<>f.crc", "");
    return r ? r : n || differ;
}

/* Without an index there is only that to judge by. */
static void tell_alone(struct verify *s)
{
    s->lacking = is_lacking(s) != 0;
    for (size_t i = 0; i < s->ndamaged; i++)
        tell_place(s, &s->damaged[i]);
    if (hash_count(s->unsound)) {
        struct lcb_finding f = {.kind = LCB_FOUND_MESSAGE, .offset = -1};
        buf_reset(&s->text);
        buf_printf(&s->text, "%zu messages are not what their GUIDs say", hash_count(s->unsound));
        tell(s, &f);
    }
}

static void tell_rest(struct verify *s)
{
    struct stat st;
    struct lcb_mark_point p;
    off_t end = s->scan.at;
    if (s->live && !lcb_index_getpoint(s->live, &p))
        end = p.end;
    if (vfs_fstat(s->vfs, s->fd, &st) || st.st_size <= end)
        return;
    buf_reset(&s->text);
    buf_printf(&s->text, "%lld bytes behind the last commit: being written, or left by a crash",
               (long long)(st.st_size - end));
    tell_info(s, 0, end);
}

static int verify(struct verify *s)
{
    struct stat st;
    int r = s->v->maintained ? 0 : lcb_lock_maintenance(s->store, s->fd, s->v->wait_ms);
    if (!r)
        r = filelock_same(s->fd, s->path);
    r = r == 1 ? 0 : r == 0 ? XERR_STALE : r;
    if (!r)
        r = vfs_fstat(s->vfs, s->fd, &st);
    if (r)
        return r;
    s->size = st.st_size;
    r = open_live(s);
    /* Once more: the index may speak of a commit that has come in between. */
    if (!r)
        r = vfs_fstat(s->vfs, s->fd, &st);
    if (r)
        return r;
    s->size = st.st_size;
    r = open_scratch(s);
    if (!r)
        r = scan(s);
    if (r)
        return r;
    if (s->live)
        r = compare_live(s);
    else
        tell_alone(s);
    if (!r)
        tell_rest(s);
    return r;
}

int lcb_verify(struct lcb_store *store, const char *path, struct lcb_verify *v)
{
    struct verify s = {.v = v, .store = store, .vfs = lcb_store_vfs(store), .path = path,
                       .unsound = hash_new()};
    v->no_index = 0;
    v->data = v->index = v->waiting = v->chunks = v->bytes = 0;
    s.index_path = xasprintf("%s.index", path);
    s.fd = vfs_open(s.vfs, path, O_RDONLY, 0);
    int r = s.fd < 0 ? s.fd : verify(&s);
    lcb_index_close(&s.live);
    lcb_index_close(&s.scratch);
    if (s.fd >= 0)
        vfs_close(s.vfs, &s.fd);
    hash_free(&s.unsound, NULL);
    free(s.index_path);
    free(s.damaged);
    free(s.lost.list);
    buf_free(&s.text);
    return r;
}

/* ---- what is remembered ---- */

int lcb_verify_note(struct lcb *b, int64_t time, enum lcb_verified state)
{
    if (!b->writable || lcb_dirty(b))
        return XERR_PARAM;
    int r = lcb_index_begin(b->index);
    if (!r)
        r = lcb_index_setnote(b->index, "verified_time", time);
    if (!r)
        r = lcb_index_setnote(b->index, "verified_state", (int64_t)state);
    return r ? r : lcb_index_commit(b->index);
}

void lcb_verify_last(const char *path, int64_t *time, enum lcb_verified *state)
{
    struct lcb_index *ix = NULL;
    int64_t n = 0;
    char *index_path = xasprintf("%s.index", path);
    *time = 0;
    *state = LCB_VERIFIED_NEVER;
    if (!lcb_index_open(index_path, 0, 1, 0, &ix) &&
        !sqldb_int(ix->db, time, "SELECT value FROM meta WHERE key='verified_time'", "") &&
        !sqldb_int(ix->db, &n, "SELECT value FROM meta WHERE key='verified_state'", ""))
        *state = (enum lcb_verified)n;
    lcb_index_close(&ix);
    free(index_path);
}
