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
 * so that the next line is found. */
#include "config.h"

#include <string.h>

#include "backup/lcb_int.h"
#include "imap/sync_mailbox_read.h"
#include "lib/prot.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

struct lines {
    struct lcb_index *ix;
    struct protstream *in;
    struct dlist_reader reader;
    struct dlist_pool *pool;
    struct sync_record record;
    int64_t seq, pos;
};

static int skip_body(struct lines *l)
{
    char piece[16 << 10];
    ssize_t n;
    while ((n = dlist_reader_body(&l->reader, piece, sizeof(piece))) > 0)
        ;
    return (int)n;
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
        uint64_t start = prot_bytes(l->in);
        r = skip_body(l);
        if (!r)
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
    r = lcb_apply_mailbox_begin(l->ix, l->pos, &h);
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

static int apply_line(struct lines *l, struct lcb_chunk *chunk, uint32_t number, int64_t *last)
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
        if (time < *last)
            time = *last; /* order is position; Cyrus 3.x did not enforce it */
        *last = time;
        if (number == 1)
            chunk->first_time = time;
        chunk->last_time = time;
        l->pos = LCB_POS(l->seq, number);
        r = lcb_apply_tick(l->ix, l->pos, time);
    }
    if (!r) {
        const char *v = buf_cstring(&verb);
        r = !strcmp(v, "MESSAGE") ? apply_messages(l)
            : !strcmp(v, "MAILBOX") ? apply_mailbox(l) : apply_other(l, v);
    }
    if (!r)
        r = dlist_reader_eol(&l->reader);
    buf_free(&verb);
    return r;
}

/* Over one comment, if one stands here. */
static void skip_comment(struct protstream *in)
{
    int c = prot_peek(in);
    if (c != '#')
        return;
    while ((c = prot_getc(in)) >= 0 && c != '\n')
        ;
}

static int apply_lines(struct lines *l, struct lcb_chunk *chunk, int64_t *last, int *lost)
{
    for (uint32_t number = 1;; number++) {
        skip_comment(l->in);
        if (prot_peek(l->in) < 0)
            break;
        dlist_reader_init(&l->reader, l->in, l->pool);
        int r = apply_line(l, chunk, number, last);
        if (r == XERR_SYNTAX || r == XERR_PARAM || r == XERR_TOOBIG) {
            if (prot_error(l->in))
                break;
            xlog_errorx("line %u of chunk %lld cannot be understood (%s): passed over", number,
                        (long long)l->seq, error_message(r));
            ++*lost;
            r = dlist_reader_resync(&l->reader);
        }
        if (r == XERR_EOF && !prot_error(l->in)) {
            ++*lost; /* the chunk is whole, its last line is not */
            break;
        }
        if (r)
            return prot_error(l->in) ? prot_error(l->in) : r;
    }
    return prot_error(l->in);
}

int lcb_lines_apply(struct lcb_index *ix, struct vfs *vfs, int fd, const struct lcb_member *m,
                    int64_t seq, struct lcb_chunk *chunk, int64_t *last_time, int *lost, off_t *end)
{
    struct lcb_memberstream *s = NULL;
    struct lines l = {.ix = ix, .seq = seq};
    int r = lcb_memberstream_open(vfs, fd, m, &s);
    if (r)
        return r;
    memset(chunk, 0, sizeof(*chunk));
    chunk->seq = seq;
    chunk->offset = (uint64_t)m->offset;
    chunk->first_time = chunk->last_time = *last_time;
    l.in = prot_readfn(lcb_memberstream_read, s);
    l.pool = dlist_pool_new(LCB_STORED_MAX);
    r = apply_lines(&l, chunk, last_time, lost);
    if (!r) {
        *end = lcb_memberstream_end(s);
        chunk->text_length = prot_bytes(l.in);
        chunk->length = (uint64_t)(*end - m->offset);
    }
    prot_free(&l.in);
    dlist_pool_free(&l.pool);
    sync_record_fini(&l.record);
    lcb_memberstream_close(&s);
    return r;
}
