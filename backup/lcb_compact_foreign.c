/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_foreign - lines that cannot be copied as bytes: those of Cyrus 3.x, of chunks of any size
 * that may not be whole, with several messages in a line, literals in another form, and values longer
 * than memory should hold. They are parsed as a stream, as lcb_line.c does when it applies them, and
 * printed in our form.
 *
 * Such files say the same thing again and again. What of a MAILBOX line stays is what made a row of the
 * index, which is asked: a record that changed nothing must not be said again, since a later reader may
 * not know any more what it repeats (of a message that was expunged before the window nothing is left,
 * so its second "expunged" would be news).
 *
 * RESERVE goes. A MAILBOX line becomes as many lines as any other of its size. */
#include "config.h"

#include <string.h>

#include "backup/lcb_compact_int.h"
#include "imap/sync_mailbox_read.h"
#include "lib/prot.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

struct foreign {
    struct lcb_pass *pass;
    const struct lcb_chunk *chunk;
    struct sqldb *db;
    struct lcb_oldtext text;
    struct protstream *in;
    struct dlist_reader reader;
    struct dlist_pool *pool;
    struct sync_record record;
    struct buf header, line;
    int64_t pos, time;
    int literal;
    int records;      /* in the line at hand */
    int lines;        /* written for the line that is read */
    int64_t first;    /* where they begin in the new file */
};

static void begin(struct foreign *f, const char *verb)
{
    buf_reset(&f->line);
    buf_printf(&f->line, "%lld APPLY %s ", (long long)f->time, verb);
    f->literal = 0;
}

static int end(struct foreign *f, int64_t pos)
{
    buf_appendmap(&f->line, "\r\n", 2);
    int r = lcb_writer_line(f->pass->w, f->line.s, f->line.len, f->literal, pos);
    return r ? r : lcb_pass_line_done(f->pass, f->chunk->text_length);
}

/* ---- messages ---- */

static void message_head(struct foreign *f, const struct dlist *item)
{
    char hex[41];
    message_guid_encode(&item->guid, hex);
    begin(f, "MESSAGE");
    buf_appendcstr(&f->line, "(%{");
    dlist_printastring(item->sval, item->len, &f->line, 0);
    buf_printf(&f->line, " %s %llu}\r\n", hex, (unsigned long long)item->size);
}

/* The body to the line, or, if it is too large, to a chunk of its own. */
static int message_body(struct foreign *f, struct sha1 *sha, int stream)
{
    char piece[16 << 10];
    ssize_t n;
    int r = 0;
    while (!r && (n = dlist_reader_body(&f->reader, piece, sizeof(piece))) != 0) {
        if (n < 0)
            return (int)n;
        sha1_update(sha, piece, (size_t)n);
        if (stream)
            r = lcb_writer_piece(f->pass->w, piece, (size_t)n);
        else
            buf_appendmap(&f->line, piece, (size_t)n);
    }
    return r;
}

static int copy_message(struct foreign *f, const struct dlist *item)
{
    struct message_guid guid = item->guid, is;
    int stream = item->size > LCB_LINE_MAX, r = 0;
    struct sha1 *sha = sha1_new();
    message_head(f, item);
    if (stream) {
        r = lcb_writer_stream(f->pass->w, 0);
        if (!r)
            r = lcb_writer_piece(f->pass->w, f->line.s, f->line.len);
    }
    if (!r)
        r = message_body(f, sha, stream);
    sha1_final(sha, is.value);
    sha1_free(&sha);
    if (!r && !message_guid_equal(&is, &guid))
        r = XERR_FORMAT;
    if (r)
        return r;
    if (stream) {
        r = lcb_writer_piece(f->pass->w, ")\r\n", 3);
        return r ? r : lcb_writer_streamed(f->pass->w);
    }
    buf_putc(&f->line, ')');
    r = end(f, 0);
    buf_shrink(&f->line, 256 << 10);
    return r;
}

static int messages(struct foreign *f)
{
    int more = 0, r = dlist_reader_enter(&f->reader, 0);
    while (!r && (more = dlist_reader_more(&f->reader)) > 0) {
        struct dlist *item;
        dlist_pool_reset(f->pool);
        r = dlist_reader_value(&f->reader, &item);
        if (r || item->type != DL_FILE)
            continue;
        r = lcb_pass_live(f->pass, prot_bytes(f->in), item->size, &item->guid);
        if (r > 0)
            r = lcb_pass_has(f->pass, f->pos) ? copy_message(f, item) : 0;
    }
    return r ? r : more;
}

/* ---- mailboxes ---- */

/* Which records began where: a temporary table, the first time it is asked. */
static int need_began(struct foreign *f)
{
    if (f->pass->began)
        return 0;
    int r = sqldb_exec(f->db, "DROP TABLE IF EXISTS temp.began; CREATE TEMP TABLE began (since INTEGER,"
                              " folder INTEGER, uid INTEGER, PRIMARY KEY (since, folder, uid))"
                              " WITHOUT ROWID");
    if (!r)
        r = sqldb_run(f->db, "INSERT OR IGNORE INTO temp.began SELECT since, folder, uid FROM records"
                             " WHERE since>? AND since<=?", "ii", f->pass->p->from, f->pass->p->to);
    f->pass->began = !r;
    return r;
}

/* 1 if this line made a row of the folder, or of its record UID. */
static int made_row(struct foreign *f, int64_t folder, uint32_t uid)
{
    int64_t one;
    int r = uid ? sqldb_int(f->db, &one, "SELECT 1 FROM temp.began WHERE since=? AND folder=?"
                            " AND uid=?", "iii", f->pos, folder, (int64_t)uid)
                : sqldb_int(f->db, &one, "SELECT 1 FROM folder_states WHERE since=? AND folder=?", "ii",
                            f->pos, folder);
    return !r ? 1 : r == XERR_NOTFOUND ? 0 : r;
}

static void begin_mailbox(struct foreign *f)
{
    begin(f, "MAILBOX");
    buf_appendmap(&f->line, "%(", 2);
    buf_append(&f->line, &f->header);
    buf_appendmap(&f->line, " RECORD (", 9);
    f->literal = memchr(f->header.s, '\n', f->header.len) != NULL;
    f->records = 0;
}

static int end_mailbox(struct foreign *f)
{
    buf_appendmap(&f->line, "))", 2);
    int r = end(f, 0);
    if (!f->lines++)
        f->first = f->pass->w->last;
    return r;
}

static int put_record(struct foreign *f)
{
    if (f->line.len - f->header.len >= LCB_MAILBOX_LINE) {
        int r = end_mailbox(f);
        if (r)
            return r;
        begin_mailbox(f);
    }
    if (f->records++)
        buf_putc(&f->line, ' ');
    sync_record_print(&f->record, &f->line);
    f->literal |= f->record.literal;
    return 0;
}

static int put_records(struct foreign *f, int64_t folder)
{
    int more, r = 0;
    while (!r && (more = sync_mailbox_read_record(&f->reader, &f->record, SIZE_MAX)) != 0) {
        r = more < 0 ? more : folder ? made_row(f, folder, f->record.uid) : 0;
        if (r > 0)
            r = put_record(f);
    }
    return r;
}

static int mailbox(struct foreign *f)
{
    struct sync_header h;
    int records, state = 0;
    int64_t folder = 0;
    int r = sync_mailbox_read_header(&f->reader, f->pool, &h, &records);
    if (r || !records)
        return r;
    buf_reset(&f->header);
    sync_header_print(&h, &f->header);
    int here = f->pass->log && lcb_pass_has(f->pass, f->pos);
    r = here ? need_began(f) : 0;
    if (!r && here)
        r = sqldb_int(f->db, &folder, "SELECT id FROM folders WHERE uniqueid=?", "t", h.uniqueid);
    r = r == XERR_NOTFOUND ? 0 : r;
    if (!r && folder)
        state = made_row(f, folder, 0);
    if (r || state < 0)
        return r ? r : state;
    begin_mailbox(f);
    r = put_records(f, folder);
    if (!r)
        r = sync_mailbox_read_end(&f->reader, NULL, &h, NULL);
    if (!r && (f->records || (state && !f->lines)))
        r = end_mailbox(f);
    if (!r && f->lines)
        r = lcb_writer_spread(f->pass->w, f->pos, f->first);
    buf_shrink(&f->line, 256 << 10);
    return r;
}

/* ---- lines ---- */

/* Was it passed over when it was applied, although its value can be read? */
static int is_lost(struct foreign *f)
{
    int64_t one;
    int r = sqldb_int(f->db, &one, "SELECT 1 FROM lost WHERE pos=?", "i", f->pos);
    return r == XERR_NOTFOUND ? 0 : r ? r : XERR_SYNTAX;
}

static int other(struct foreign *f, const char *verb)
{
    struct dlist *value;
    dlist_pool_reset(f->pool);
    int r = dlist_reader_value(&f->reader, &value);
    if (!r)
        r = is_lost(f);
    if (r || !f->pass->log || !lcb_pass_has(f->pass, f->pos) || !strcmp(verb, "RESERVE"))
        return r;
    begin(f, verb);
    f->literal = dlist_printval(value, &f->line, 0);
    return 0;
}

static int line(struct foreign *f)
{
    struct buf verb = BUF_INITIALIZER;
    uint64_t time = 0;
    int c, digits = 0, r = 0;
    while ((c = prot_getc(f->in)) >= '0' && c <= '9' && ++digits < 18)
        time = time * 10 + (uint64_t)(c - '0');
    r = digits && digits < 18 && c == ' ' ? dlist_reader_word(&f->reader, &verb, 64) : XERR_SYNTAX;
    if (!r && (strcmp(buf_cstring(&verb), "APPLY") || prot_getc(f->in) != ' '))
        r = XERR_SYNTAX;
    if (!r)
        r = dlist_reader_word(&f->reader, &verb, 64);
    if (!r && prot_getc(f->in) != ' ')
        r = XERR_SYNTAX;
    buf_reset(&f->line);
    f->lines = 0;
    f->time = lcb_index_time(f->pass->p->b->index, f->pos);
    if (!r)
        r = !strcmp(buf_cstring(&verb), "MESSAGE") ? messages(f)
            : !strcmp(buf_cstring(&verb), "MAILBOX") ? mailbox(f) : other(f, buf_cstring(&verb));
    int whole = strcmp(buf_cstring(&verb), "MESSAGE") && strcmp(buf_cstring(&verb), "MAILBOX");
    if (!r)
        r = dlist_reader_eol(&f->reader);
    if (!r && whole && f->line.len)
        r = end(f, f->pos);
    buf_free(&verb);
    return r;
}

static void skip_comments(struct foreign *f)
{
    int c;
    while (prot_peek(f->in) == '#')
        while ((c = prot_getc(f->in)) >= 0 && c != '\n')
            ;
}

static int bad_line(int r)
{
    return r == XERR_SYNTAX || r == XERR_PARAM || r == XERR_TOOBIG;
}

/* Numbered as they were when they were applied. */
static int all_lines(struct foreign *f)
{
    uint32_t count = 0;
    for (;;) {
        skip_comments(f);
        if (prot_peek(f->in) < 0)
            return f->text.error;
        if (lcb_store_stopped(f->pass->p->b->store))
            return XERR_SIGNAL;
        count += count < 0xffffff;
        f->pos = LCB_POS(f->chunk->seq, count);
        dlist_reader_init(&f->reader, f->in, f->pool);
        int r = line(f);
        if (f->text.error)
            return f->text.error;
        if (bad_line(r)) {
            f->pass->lost++;
            r = dlist_reader_resync(&f->reader);
        }
        if (r == XERR_EOF) {
            f->pass->lost++;
            return f->text.error;
        }
        if (r)
            return r;
    }
}

int lcb_pass_foreign(struct lcb_pass *pass, const struct lcb_chunk *c)
{
    struct foreign f = {.pass = pass, .chunk = c, .db = pass->p->b->index->db};
    int r = lcb_pass_live_begin(pass, c->seq);
    if (r)
        return r;
    lcb_oldtext_open(&f.text, pass->p->b, c->seq, c->text_length);
    f.in = prot_readfn(lcb_oldtext_read, &f.text);
    f.pool = dlist_pool_new(LCB_STORED_MAX);
    r = all_lines(&f);
    if (!r && pass->next.there)
        r = XERR_FORMAT;
    prot_free(&f.in);
    dlist_pool_free(&f.pool);
    sync_record_fini(&f.record);
    lcb_oldtext_close(&f.text);
    buf_free(&f.header);
    buf_free(&f.line);
    return r;
}
