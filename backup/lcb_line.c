/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_line - the data file's own grammar: what stands in a chunk, read back.
 *
 *     chunk := "# cyrus backup: chunk start" CRLF *line
 *     line  := time SP "APPLY" SP verb SP value CRLF
 *
 * The text comes as a stream, so neither a chunk nor a line has to fit into memory: message bodies
 * are passed over (the offset where they begin is noted), records of a mailbox are applied one by
 * one, and only headers and small values are held as trees. A line that cannot be understood in an
 * otherwise intact chunk is counted and passed over; its announced literals and bodies are skipped
 * so that the next line is found. A line takes effect as a whole or, but for the messages in it, not
 * at all.
 *
 * Messages are held against their GUIDs on the way: bytes that were wrong before they were compressed,
 * or a file that somebody edited, are found by nothing else.
 *
 * Of a member that is not whole (lcb_salvage.c) the lines that are complete are read in the same
 * way. There is no checksum over them then, so a time that has not come yet is not believed. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_int.h"
#include "imap/sync_mailbox_read.h"
#include "lib/prot.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

/* More lines than a position can count share the last number. */
#define LINES_MAX 0xffffffu

struct lines {
    struct lcb_index *ix;
    struct protstream *in;
    struct dlist_reader reader;
    struct dlist_pool *pool;
    struct sync_record record;
    int64_t seq, pos;
    uint64_t base; /* of the stream's text in the chunk's */
    uint64_t good; /* length of the text up to the last complete line */
    int64_t last_time;
    int64_t now;   /* 0, or the latest time to be believed: the member is not whole */
    int strict;    /* stop before the first line that is wrong */
    int max;       /* stop behind so many lines, if not 0 */
    int count, lost;
    struct sha1 *sha;
    const struct lcb_memberstream *member; /* where the text comes from: one of these */
    const struct gzreader *piece;
};

static int show_progress(const struct lines *l)
{
    off_t at = l->member ? lcb_memberstream_end(l->member) : gzreader_offset(l->piece);
    return l->ix->progress ? l->ix->progress(l->ix->progress_rock, at) : 0;
}

/* What is wrong at POS: a message, or (GUID NULL) the line. */
static int tell_unsound(const struct lines *l, const struct message_guid *guid, int64_t pos)
{
    if (l->ix->unsound)
        l->ix->unsound(l->ix->progress_rock, guid, pos);
    return lcb_index_addlost(l->ix, pos);
}

/* Over the body of a message: 1 if it is what GUID says. */
static int skip_body(struct lines *l, const struct message_guid *guid)
{
    char piece[16 << 10];
    unsigned char digest[SHA1_LEN];
    ssize_t n;
    sha1_init(l->sha);
    while ((n = dlist_reader_body(&l->reader, piece, sizeof(piece))) > 0)
        sha1_update(l->sha, piece, (size_t)n);
    if (n < 0)
        return (int)n;
    sha1_final(l->sha, digest);
    if (!memcmp(digest, guid->value, SHA1_LEN))
        return 1;
    return l->now ? 0 : tell_unsound(l, guid, l->pos);
}

/* MESSAGE (%{...} ...): several in lines of Cyrus 3.x, one in ours. */
static int apply_messages(struct lines *l)
{
    int more = 0, r = dlist_reader_enter(&l->reader, 0);
    while (!r && (more = dlist_reader_more(&l->reader)) > 0) {
        struct dlist *item;
        dlist_pool_reset(l->pool);
        r = dlist_reader_value(&l->reader, &item);
        if (r || item->type != DL_FILE)
            continue;
        uint64_t start = l->base + prot_bytes(l->in);
        r = skip_body(l, &item->guid);
        if (r > 0)
            r = lcb_apply_message(l->ix, &item->guid, l->seq, start, item->size);
    }
    return r ? r : more;
}

static int apply_mailbox(struct lines *l)
{
    struct sync_header h;
    int records, more;
    int r = sync_mailbox_read_header(&l->reader, l->pool, &h, &records);
    if (r || !records)
        return r;
    r = lcb_apply_mailbox_begin(l->ix, l->pos, &h, NULL);
    while (!r && (more = sync_mailbox_read_record(&l->reader, &l->record, SIZE_MAX)) != 0) {
        r = more < 0 ? more : lcb_apply_mailbox_record(l->ix, l->pos, &l->record);
        r = r > 0 ? 0 : r;
    }
    if (!r)
        r = sync_mailbox_read_end(&l->reader, NULL, &h, NULL);
    return r ? r : lcb_apply_mailbox_end(l->ix, NULL);
}

static int apply_other(struct lines *l, const char *verb)
{
    struct dlist *value;
    dlist_pool_reset(l->pool);
    int r = dlist_reader_value(&l->reader, &value);
    return r ? r : lcb_apply_dlist(l->ix, l->pos, verb, value);
}

static int read_time(struct protstream *in, int64_t *time)
{
    int c, digits = 0;
    uint64_t t = 0;
    while ((c = prot_getc(in)) >= '0' && c <= '9' && ++digits < 18)
        t = t * 10 + (uint64_t)(c - '0');
    *time = (int64_t)t;
    return digits && digits < 18 && c == ' ' ? 0 : XERR_SYNTAX;
}

/* What a line says, with VERB: nothing of it stays if it is not complete, but for the messages of a
 * whole chunk, which speak for themselves. */
static int apply_value(struct lines *l, const char *verb)
{
    int messages = !strcmp(verb, "MESSAGE"), whole = !l->now;
    if (messages && whole) {
        int r = apply_messages(l);
        return r ? r : dlist_reader_eol(&l->reader);
    }
    int r = sqldb_exec(l->ix->db, "SAVEPOINT line");
    if (r)
        return r;
    r = messages ? apply_messages(l)
        : !strcmp(verb, "MAILBOX") ? apply_mailbox(l) : apply_other(l, verb);
    if (!r)
        r = dlist_reader_eol(&l->reader);
    if (r && sqldb_exec(l->ix->db, "ROLLBACK TO line"))
        return XERR_SQL;
    return sqldb_exec(l->ix->db, "RELEASE line") ? XERR_SQL : r;
}

/* Of the line that is next. */
static int64_t position(const struct lines *l)
{
    uint32_t number = (uint32_t)l->count + 1;
    return LCB_POS(l->seq, number < LINES_MAX ? number : LINES_MAX);
}

static int apply_line(struct lines *l, struct lcb_chunk *chunk)
{
    struct buf verb = BUF_INITIALIZER;
    int64_t time;
    int r = read_time(l->in, &time);
    if (!r)
        r = dlist_reader_word(&l->reader, &verb, 64);
    if (!r && strcmp(buf_cstring(&verb), "APPLY"))
        r = XERR_SYNTAX;
    if (!r && prot_getc(l->in) != ' ')
        r = XERR_SYNTAX;
    if (!r)
        r = dlist_reader_word(&l->reader, &verb, 64);
    if (!r && prot_getc(l->in) != ' ')
        r = XERR_SYNTAX;
    if (!r) {
        if (time < l->last_time || (l->now && time > l->now))
            time = l->last_time; /* order is position; Cyrus 3.x did not enforce it */
        l->last_time = time;
        if (!l->count)
            chunk->first_time = time;
        chunk->last_time = time;
        l->pos = position(l);
        r = lcb_apply_tick(l->ix, l->pos, time);
    }
    if (!r)
        r = apply_value(l, buf_cstring(&verb));
    buf_free(&verb);
    return r;
}

/* Over comments, if any stand here: 0 if one is wrong. */
static int skip_comments(struct lines *l)
{
    static const char start[] = LCB_CHUNK_START;
    while (prot_peek(l->in) == '#') {
        int c, same = 1;
        for (size_t i = 0; (c = prot_getc(l->in)) >= 0 && c != '\n'; i++)
            same &= i < LCB_CHUNK_START_LEN && c == start[i];
        if (l->strict && !same)
            return 0;
        if (c == '\n')
            l->good = prot_bytes(l->in);
    }
    return 1;
}

/* All lines of the stream, counted on from l->count. The stream's own error is not one of ours. */
static int apply_lines(struct lines *l, struct lcb_chunk *chunk)
{
    for (;;) {
        if (!skip_comments(l) || prot_peek(l->in) < 0 || (l->max && l->count >= l->max))
            return 0;
        dlist_reader_init(&l->reader, l->in, l->pool);
        int r = apply_line(l, chunk);
        if (r == XERR_SYNTAX || r == XERR_PARAM || r == XERR_TOOBIG) {
            if (prot_error(l->in) || l->strict)
                return 0;
            xlog_errorx("line %d of chunk %lld cannot be understood (%s): passed over",
                        l->count + 1, (long long)l->seq, error_message(r));
            l->lost++;
            r = tell_unsound(l, NULL, position(l));
            r = r ? r : dlist_reader_resync(&l->reader);
        }
        if (prot_error(l->in))
            return 0;
        if (r == XERR_EOF) {
            l->lost++; /* the chunk is whole, its last line is not */
            return tell_unsound(l, NULL, position(l));
        }
        if (r)
            return r;
        l->good = prot_bytes(l->in);
        l->count++;
        r = show_progress(l);
        if (r)
            return r;
    }
}

static void begin(struct lines *l, ssize_t (*fn)(void *, void *, size_t), void *rock)
{
    l->in = prot_readfn(fn, rock);
    l->pool = dlist_pool_new(LCB_STORED_MAX);
    l->sha = sha1_new();
}

static void end(struct lines *l)
{
    prot_free(&l->in);
    dlist_pool_free(&l->pool);
    sync_record_fini(&l->record);
    sha1_free(&l->sha);
}

int lcb_lines_apply(struct lcb_index *ix, struct vfs *vfs, int fd, const struct lcb_member *m,
                    int64_t seq, struct lcb_chunk *chunk, int64_t *last_time, int *lost, off_t *offset)
{
    struct lcb_memberstream *s = NULL;
    struct lines l = {.ix = ix, .seq = seq, .last_time = *last_time};
    int r = lcb_memberstream_open(vfs, fd, m, &s);
    if (r)
        return r;
    memset(chunk, 0, sizeof(*chunk));
    chunk->seq = seq;
    chunk->offset = (uint64_t)m->offset;
    chunk->first_time = chunk->last_time = *last_time;
    l.member = s;
    begin(&l, lcb_memberstream_read, s);
    r = apply_lines(&l, chunk);
    if (!r)
        r = prot_error(l.in);
    if (!r) {
        *offset = lcb_memberstream_end(s);
        *last_time = l.last_time;
        *lost += l.lost;
        chunk->text_length = prot_bytes(l.in);
        chunk->length = (uint64_t)(*offset - m->offset);
    }
    end(&l);
    lcb_memberstream_close(&s);
    return r;
}

int lcb_piece_apply(struct lcb_index *ix, struct vfs *vfs, int fd, const struct lcb_piece *piece,
                    struct lcb_chunk *chunk, struct lcb_salvage *out)
{
    struct gzreader *s = NULL;
    struct lines l = {.ix = ix, .seq = chunk->seq, .base = chunk->text_length,
                      .count = out->lines, .last_time = out->last_time, .now = time(NULL),
                      .strict = piece->by_lines, .max = out->max_lines};
    int r = gzreader_openpiece(vfs, fd, piece->at, piece->raw, piece->limit, &s);
    if (r)
        return r;
    l.piece = s;
    begin(&l, lcb_piece_read, s);
    r = apply_lines(&l, chunk);
    if (!r && prot_error(l.in) != XERR_FORMAT && prot_error(l.in) != XERR_EOF &&
        prot_error(l.in) != -EIO)
        r = prot_error(l.in);
    chunk->text_length += l.good;
    out->lines = l.count;
    out->lost += l.lost;
    out->last_time = l.last_time;
    end(&l);
    gzreader_close(&s);
    return r;
}
