/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_base - the state at the beginning of the window, written down as lines.
 *
 * What held then is in the rows of the index, and each kind of row has a line that says it: MAILBOX
 * with the whole header and all records that were not expunged, in lines of LCB_MAILBOX_LINE; SUB,
 * SEEN, SIEVE, ACTIVATE_SIEVE, QUOTA, ANNOTATION. All have the time of the window's beginning.
 *
 * A mailbox that was gone then but came back later still had its records, and whoever brought it back
 * may have counted on them. So such mailboxes come first, each followed by an UNMAILBOX. */
#include "config.h"

#include <string.h>

#include "backup/lcb_compact_int.h"
#include "backup/lcb_partition.h"
#include "backup/lcb_walk.h"
#include "lib/xerr.h"

struct base {
    struct lcb_plan *p;
    struct lcb_writer *w;
    int64_t time;
    struct buf line, userid;
    int literal;
    /* The mailbox at hand. */
    const char *header;
    size_t headerlen;
    size_t start;    /* of the records in the line */
    int records;
    int lines;       /* written of it */
};

static void begin(struct base *b, const char *verb)
{
    buf_reset(&b->line);
    buf_printf(&b->line, "%lld APPLY %s ", (long long)b->time, verb);
    b->literal = 0;
}

static int end(struct base *b)
{
    buf_appendmap(&b->line, "\r\n", 2);
    return lcb_writer_line(b->w, b->line.s, b->line.len, b->literal, 0);
}

static void put_bytes(struct base *b, const char *before, const void *value, size_t len)
{
    buf_appendcstr(&b->line, before);
    b->literal |= dlist_printastring(value ? value : "", len, &b->line, 0);
}

static void put_text(struct base *b, const char *before, const char *value)
{
    put_bytes(b, before, value, value ? strlen(value) : 0);
}

/* What came as an unsigned number of 64 bits. */
static void put_number(struct base *b, const char *before, int64_t n)
{
    buf_printf(&b->line, "%s%llu", before, (unsigned long long)n);
}

/* ---- mailboxes ---- */

static void begin_mailbox(struct base *b)
{
    begin(b, "MAILBOX");
    buf_appendmap(&b->line, "%(", 2);
    buf_appendmap(&b->line, b->header, b->headerlen);
    buf_appendmap(&b->line, " RECORD (", 9);
    b->literal = memchr(b->header, '\n', b->headerlen) != NULL;
    b->start = b->line.len;
    b->records = 0;
}

static int end_mailbox(struct base *b)
{
    buf_appendmap(&b->line, "))", 2);
    b->lines++;
    return end(b);
}

static int put_record(void *rock, const struct lcb_record *rec)
{
    struct base *b = rock;
    if (rec->rec.expunged)
        return 0;
    if (b->line.len - b->start >= LCB_MAILBOX_LINE) {
        int r = end_mailbox(b);
        if (r)
            return r;
        begin_mailbox(b);
    }
    if (b->records++)
        buf_putc(&b->line, ' ');
    sync_record_print(&rec->rec, &b->line);
    b->literal |= rec->rec.literal;
    return 0;
}

static int put_mailbox(struct base *b, int64_t folder, const char *header, size_t headerlen)
{
    if (lcb_store_stopped(b->p->b->store))
        return XERR_SIGNAL;
    b->header = header;
    b->headerlen = headerlen;
    begin_mailbox(b);
    int r = lcb_foreach_record(b->p->b, folder, b->p->from, put_record, b);
    return r ? r : end_mailbox(b);
}

static int put_folder(void *rock, const struct lcb_folder *f)
{
    return put_mailbox(rock, f->id, f->header, f->headerlen);
}

static int put_returned(struct base *b)
{
    static const char sql[] =
        "SELECT s.folder, s.header, s.mboxname FROM folder_states s WHERE s.until<=?1 AND s.folder IN"
        " (SELECT id FROM temp.kept) AND s.since=(SELECT max(since) FROM folder_states WHERE"
        " folder=s.folder AND since<=?1) AND EXISTS (SELECT 1 FROM records r WHERE r.folder=s.folder"
        " AND r.since<=?1 AND (r.until IS NULL OR r.until>?1) AND r.expunged=0)";
    sqlite3_stmt *st = NULL;
    struct sqldb *db = b->p->b->index->db;
    if (sqlite3_prepare_v2(db->db, sql, -1, &st, NULL) != SQLITE_OK)
        return sqldb_failed(db, "mailboxes that came back");
    int step = SQLITE_DONE, r = sqldb_bind(st, "i", b->p->from);
    while (!r && (step = sqlite3_step(st)) == SQLITE_ROW) {
        r = put_mailbox(b, sqlite3_column_int64(st, 0), sqlite3_column_blob(st, 1),
                        (size_t)sqlite3_column_bytes(st, 1));
        if (r)
            break;
        begin(b, "UNMAILBOX");
        put_text(b, "", (const char *)sqlite3_column_text(st, 2));
        r = end(b);
    }
    if (!r && step != SQLITE_DONE)
        r = sqldb_failed(db, "mailboxes that came back");
    sqlite3_finalize(st);
    return r;
}

/* ---- all else ---- */

static int put_sub(void *rock, const char *mboxname)
{
    struct base *b = rock;
    begin(b, "SUB");
    put_bytes(b, "%(USERID ", b->userid.s, b->userid.len);
    put_text(b, " MBOXNAME ", mboxname);
    buf_putc(&b->line, ')');
    return end(b);
}

static int put_seen(void *rock, const struct lcb_seen *s)
{
    struct base *b = rock;
    begin(b, "SEEN");
    put_bytes(b, "%(USERID ", b->userid.s, b->userid.len);
    put_text(b, " UNIQUEID ", s->uniqueid);
    put_number(b, " LASTREAD ", s->lastread);
    put_number(b, " LASTUID ", s->lastuid);
    put_number(b, " LASTCHANGE ", s->lastchange);
    put_text(b, " SEENUIDS ", s->seenuids);
    buf_putc(&b->line, ')');
    return end(b);
}

static int put_script(void *rock, const struct lcb_script *s)
{
    struct base *b = rock;
    begin(b, "SIEVE");
    put_bytes(b, "%(USERID ", b->userid.s, b->userid.len);
    put_text(b, " FILENAME ", s->filename);
    put_number(b, " LAST_UPDATE ", s->last_update);
    put_bytes(b, " CONTENT ", s->content, s->len);
    buf_putc(&b->line, ')');
    return end(b);
}

static int put_active(struct base *b)
{
    struct sqldb *db = b->p->b->index->db;
    sqlite3_stmt *st = sqldb_stmt(db, "SELECT filename FROM active WHERE since<=?1 AND"
                                      " (until IS NULL OR until>?1)");
    int more = st && !sqldb_bind(st, "i", b->p->from) ? sqldb_step(db, st) : XERR_SQL;
    if (more <= 0)
        return more;
    begin(b, "ACTIVATE_SIEVE");
    put_bytes(b, "%(USERID ", b->userid.s, b->userid.len);
    put_text(b, " FILENAME ", (const char *)sqlite3_column_text(st, 0));
    buf_putc(&b->line, ')');
    sqlite3_reset(st);
    return end(b);
}

static int put_quota(void *rock, const char *root, const char *text, size_t len)
{
    struct base *b = rock;
    (void)root;
    begin(b, "QUOTA");
    buf_appendmap(&b->line, text, len);
    b->literal = memchr(text, '\n', len) != NULL;
    return end(b);
}

static int put_annotation(void *rock, const char *entry, const char *userid, const char *value,
                          size_t len)
{
    struct base *b = rock;
    begin(b, "ANNOTATION");
    put_text(b, "%(MBOXNAME \"\" ENTRY ", entry);
    put_text(b, " USERID ", userid);
    put_bytes(b, " VALUE ", value, len);
    buf_putc(&b->line, ')');
    return end(b);
}

/* ---- whose backup it is ---- */

static int owner_of_folder(void *rock, const struct lcb_folder *f)
{
    struct base *b = rock;
    buf_reset(&b->userid);
    mboxname_to_userid(lcb_store_names(b->p->b->store), f->mboxname, &b->userid);
    return 1;
}

/* The user id that lines want to have: that of the record, or of a mailbox, or of the file's name. */
static int find_userid(struct base *b)
{
    int r = 0;
    buf_setcstr(&b->userid, lcb_userid(b->p->b));
    if (!b->userid.len)
        r = lcb_foreach_folder(b->p->b, LCB_NOW, 1, owner_of_folder, b);
    if (r >= 0 && !b->userid.len && lcb_filename_decode(&b->userid, lcb_last_part(lcb_path(b->p->b))))
        buf_reset(&b->userid);
    return r < 0 ? r : 0;
}

int lcb_base_write(struct lcb_plan *p, struct lcb_writer *w)
{
    struct base b = {.p = p, .w = w, .time = lcb_index_time(p->b->index, p->from)};
    int r = find_userid(&b);
    if (!r)
        r = put_returned(&b);
    if (!r)
        r = lcb_foreach_folder(p->b, p->from, 0, put_folder, &b);
    if (!r)
        r = lcb_foreach_sub(p->b, p->from, put_sub, &b);
    if (!r)
        r = lcb_foreach_seen(p->b, p->from, put_seen, &b);
    if (!r)
        r = lcb_foreach_script(p->b, p->from, put_script, &b);
    if (!r)
        r = put_active(&b);
    if (!r)
        r = lcb_foreach_quota(p->b, p->from, put_quota, &b);
    if (!r)
        r = lcb_foreach_annotation(p->b, p->from, put_annotation, &b);
    buf_free(&b.line);
    buf_free(&b.userid);
    return r ? r : lcb_writer_seal(w, GZ_BASE);
}
