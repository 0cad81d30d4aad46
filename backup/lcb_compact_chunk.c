/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_chunk - what stays of one chunk.
 *
 * The old file is gone through twice: first for the messages that stand before the window, then, behind
 * the base, for all lines in the window. A chunk of which all stays, and which is of a good size, is
 * copied compressed. Of any other the lines that stay are copied as bytes. Either way its text is
 * inflated once, which checks it, and the SHA-1 of each message that stays is held against its GUID. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "backup/lcb_compact_int.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

#define HEAD 4096

void lcb_pass_fini(struct lcb_pass *pass)
{
    sqlite3_finalize(pass->live);
    pass->live = NULL;
    buf_free(&pass->text);
}

int lcb_pass_has(const struct lcb_pass *pass, int64_t pos)
{
    return pass->log ? pos > pass->p->from : pos <= pass->p->from;
}

/* ---- messages that stay ---- */

static int next_live(struct lcb_pass *pass)
{
    int step = sqlite3_step(pass->live);
    pass->next.there = step == SQLITE_ROW;
    if (step == SQLITE_DONE)
        return 0;
    if (step != SQLITE_ROW)
        return sqldb_failed(pass->p->b->index->db, "messages that stay");
    pass->next.start = (uint64_t)sqlite3_column_int64(pass->live, 0);
    pass->next.size = (uint64_t)sqlite3_column_int64(pass->live, 1);
    if (sqlite3_column_bytes(pass->live, 2) != MESSAGE_GUID_LEN)
        return XERR_FORMAT;
    memcpy(pass->next.guid.value, sqlite3_column_blob(pass->live, 2), MESSAGE_GUID_LEN);
    return 0;
}

int lcb_pass_live_begin(struct lcb_pass *pass, int64_t seq)
{
    struct sqldb *db = pass->p->b->index->db;
    static const char sql[] = "SELECT start, size, guid FROM temp.live WHERE chunk=? ORDER BY start";
    if (!pass->live && sqlite3_prepare_v2(db->db, sql, -1, &pass->live, NULL) != SQLITE_OK)
        return sqldb_failed(db, sql);
    sqlite3_reset(pass->live);
    pass->next.seq = seq;
    int r = sqldb_bind(pass->live, "i", seq);
    return r ? r : next_live(pass);
}

int lcb_pass_live(struct lcb_pass *pass, uint64_t start, uint64_t size,
                  const struct message_guid *guid)
{
    if (!pass->next.there || start < pass->next.start)
        return 0;
    if (start > pass->next.start || size != pass->next.size ||
        !message_guid_equal(guid, &pass->next.guid))
        return XERR_FORMAT;
    int r = next_live(pass);
    return r ? r : 1;
}

/* ---- whole, or line by line ---- */

/* May a chunk of so much text stay as it is, if all of it stays? */
static int good_size(const struct lcb_pass *pass, uint64_t length)
{
    const struct lcb_compact_sizes *s = &pass->p->sizes;
    if (s->fill)
        return length >= s->fill / 2;
    return !lcb_plan_wants_splitting(s, length, 0) &&
           !lcb_plan_wants_combining(s, length, pass->follows) &&
           !(pass->w->lines && lcb_plan_wants_combining(s, pass->w->text.len, length));
}

int lcb_pass_line_done(struct lcb_pass *pass, uint64_t length)
{
    const struct lcb_compact_sizes *s = &pass->p->sizes;
    return !s->fill && lcb_plan_wants_splitting(s, length, pass->w->text.len)
               ? lcb_writer_seal(pass->w, 0) : 0;
}

static int check_guid(const struct lcb_oldline *l)
{
    struct message_guid is;
    message_guid_generate(&is, l->body, l->size);
    return message_guid_equal(&is, &l->guid) ? 0 : XERR_FORMAT;
}

/* Does the line stay? 1, 0 or an error. */
static int stays(struct lcb_pass *pass, const struct lcb_oldline *l, int64_t pos)
{
    int live = l->message ? lcb_pass_live(pass, l->start, l->size, &l->guid) : pass->log;
    return live > 0 && !lcb_pass_has(pass, pos) ? 0 : live;
}

static int64_t position(int64_t seq, uint32_t line)
{
    return LCB_POS(seq, line < 0xffffff ? line : 0xffffff);
}

/* How many lines of pass->text stay, and how many there are, with a check of the messages that do. */
static int look(struct lcb_pass *pass, int64_t seq, uint32_t *stay, uint32_t *all)
{
    struct lcb_oldline l;
    size_t at = LCB_CHUNK_START_LEN;
    int more, r = 0;
    *stay = *all = 0;
    while (!r && (more = lcb_oldline_next(&pass->text, &at, &l)) != 0) {
        if (more < 0)
            return more;
        r = stays(pass, &l, position(seq, ++*all));
        if (r > 0) {
            ++*stay;
            r = l.message ? check_guid(&l) : 0;
        }
    }
    return r ? r : pass->next.there ? XERR_FORMAT : 0;
}

static int copy_lines(struct lcb_pass *pass, const struct lcb_chunk *c)
{
    struct lcb_oldline l;
    size_t at = LCB_CHUNK_START_LEN;
    uint32_t n = 0;
    int r = lcb_pass_live_begin(pass, c->seq);
    while (!r && lcb_oldline_next(&pass->text, &at, &l) > 0) {
        int64_t pos = position(c->seq, ++n);
        r = stays(pass, &l, pos);
        if (r > 0)
            r = lcb_writer_line(pass->w, l.text, l.len, l.literal, pass->log ? pos : 0);
        if (!r)
            r = lcb_pass_line_done(pass, c->text_length);
    }
    return r;
}

/* The chunk's text to pass->text: 0, XERR_TOOBIG, XERR_FORMAT. */
static int load(struct lcb_pass *pass, const struct lcb_chunk *c, size_t max)
{
    struct lcb_oldtext o;
    ssize_t n = 1;
    buf_reset(&pass->text);
    if (c->text_length > max)
        return XERR_TOOBIG;
    lcb_oldtext_open(&o, pass->p->b, c->seq, c->text_length);
    while (n > 0) {
        n = lcb_oldtext_read(&o, buf_ensure(&pass->text, 64 << 10), 64 << 10);
        pass->text.len += n > 0 ? (size_t)n : 0;
        if (pass->text.len > max)
            n = XERR_FORMAT;
    }
    lcb_oldtext_close(&o);
    return (int)n;
}

/* A chunk of ours with lines of ours. XERR_SYNTAX: it has others, and nothing was done. */
static int small_chunk(struct lcb_pass *pass, const struct lcb_chunk *c, const struct lcb_member *m)
{
    uint32_t stay = 0, all = 0;
    int r = load(pass, c, LCB_PACK_MAX);
    if (r)
        return r;
    if (pass->text.len < LCB_CHUNK_START_LEN ||
        memcmp(pass->text.s, LCB_CHUNK_START, LCB_CHUNK_START_LEN))
        return XERR_SYNTAX;
    r = lcb_pass_live_begin(pass, c->seq);
    if (!r)
        r = look(pass, c->seq, &stay, &all);
    if (r)
        return r == XERR_FORMAT ? XERR_SYNTAX : r;
    if (!stay)
        return 0;
    if (stay == all && good_size(pass, c->text_length))
        return lcb_writer_whole(pass->w, m, c->seq);
    return copy_lines(pass, c);
}

/* ---- a message too large for memory ---- */

static int check_stream(struct lcb_pass *pass, const struct lcb_chunk *c, const struct lcb_oldline *l)
{
    unsigned char digest[SHA1_LEN];
    struct lcb_oldtext o;
    struct sha1 *sha = sha1_new();
    uint64_t at = 0, end = l->start + l->size;
    ssize_t n;
    lcb_oldtext_open(&o, pass->p->b, c->seq, c->text_length);
    while ((n = lcb_oldtext_read(&o, pass->text.s, pass->text.alloc - 1)) > 0) {
        uint64_t from = at < l->start ? l->start : at, to = at + (uint64_t)n;
        to = to < end ? to : end;
        if (from < to)
            sha1_update(sha, pass->text.s + (from - at), (size_t)(to - from));
        at += (uint64_t)n;
    }
    lcb_oldtext_close(&o);
    sha1_final(sha, digest);
    sha1_free(&sha);
    return n ? (int)n : memcmp(digest, l->guid.value, SHA1_LEN) ? XERR_FORMAT : 0;
}

/* XERR_SYNTAX: it is not one. */
static int large_chunk(struct lcb_pass *pass, const struct lcb_chunk *c, const struct lcb_member *m)
{
    struct lcb_oldtext o;
    struct lcb_oldline l;
    buf_reset(&pass->text);
    lcb_oldtext_open(&o, pass->p->b, c->seq, c->text_length);
    ssize_t n = lcb_oldtext_read(&o, buf_ensure(&pass->text, 64 << 10), HEAD);
    lcb_oldtext_close(&o);
    if (n < 0)
        return (int)n;
    pass->text.len = (size_t)n;
    if (!lcb_oldline_single(&pass->text, c->text_length, &l))
        return XERR_SYNTAX;
    int r = lcb_pass_live_begin(pass, c->seq);
    if (!r)
        r = stays(pass, &l, LCB_POS(c->seq, 1));
    if (r <= 0)
        return r ? r : pass->next.there ? XERR_FORMAT : 0;
    r = check_stream(pass, c, &l);
    return r ? r : lcb_writer_whole(pass->w, m, c->seq);
}

/* ---- any ---- */

/* 1 if the chunk is read in pieces. */
static int in_pieces(struct lcb_pass *pass, int64_t seq)
{
    int64_t n = 0;
    int r = sqldb_int(pass->p->b->index->db, &n, "SELECT count(*) FROM pieces WHERE seq=?", "i", seq);
    return r ? r : n > 0;
}

/* 1 if there is something in it that is not understood, and so must not be copied. */
static int has_lost(struct lcb_pass *pass, int64_t seq)
{
    int64_t n = 0;
    int r = sqldb_int(pass->p->b->index->db, &n, "SELECT count(*) FROM lost WHERE pos>=?1<<24 AND"
                      " pos<(?1+1)<<24", "i", seq);
    return r ? r : n > 0;
}

static int wanted(struct lcb_pass *pass, const struct lcb_chunk *c)
{
    if (pass->log)
        return LCB_POS(c->seq + 1, 0) - 1 > pass->p->from;
    if (LCB_POS(c->seq, 1) > pass->p->from)
        return 0;
    int r = lcb_pass_live_begin(pass, c->seq);
    return r ? r : pass->next.there;
}

int lcb_pass_chunk(struct lcb_pass *pass, const struct lcb_chunk *c)
{
    struct lcb_member m;
    struct lcb *b = pass->p->b;
    int r = wanted(pass, c);
    if (r <= 0)
        return r;
    pass->lost = 0;
    r = lcb_member_at(b->vfs, b->fd, (off_t)c->offset, pass->p->point.end, &m);
    int ours = !r && m.extra.present;
    int broken = r == XERR_FORMAT || r == XERR_EOF || r == -EIO; /* which it tells who reads on */
    int pieces = r && !broken ? r : in_pieces(pass, c->seq);
    int odd = pieces < 0 ? pieces : pieces ? 1 : has_lost(pass, c->seq);
    if (odd < 0)
        return odd;
    r = XERR_SYNTAX;
    if (ours && !odd)
        r = c->text_length <= LCB_PACK_MAX ? small_chunk(pass, c, &m) : large_chunk(pass, c, &m);
    if (r == XERR_SYNTAX)
        r = lcb_pass_foreign(pass, c);
    if (!r && (pass->lost || pieces > 0))
        lcb_aside_add(pass->aside, (off_t)c->offset, (off_t)(c->offset + c->length));
    if (!r && !pass->p->sizes.fill && pass->w->lines &&
        !lcb_plan_wants_combining(&pass->p->sizes, pass->w->text.len, pass->follows))
        r = lcb_writer_seal(pass->w, 0);
    if (r == XERR_FORMAT || r == XERR_EOF || r == -EIO) {
        xlog_errorx("%s: chunk %lld at offset %lld cannot be read", b->path,
                    (long long)c->seq, (long long)c->offset);
        r = XERR_FORMAT;
    }
    return r;
}
