/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_relog - say again what only unreadable chunks had said.
 *
 * The old index still has the rows. Those that hold, and that began in a lost chunk, are logged as
 * new lines through the same functions as live commands, which leave out what is known anyway (a
 * later chunk may have said it too). Rows that ended in a lost chunk are ended again. What lies in
 * between, versions that came and went, cannot be said at a time that has passed, and is lost; with one
 * exception. A message that was expunged, of which a lost chunk said what it was, may still have its
 * content elsewhere, which nobody would name any more, and which the next compaction would drop. Its
 * last record is said again and ended again, now, so that it can be found and restored for as long as
 * any other.
 *
 * Order. Mailboxes that are gone come first: one that only lost chunks knew is logged and then
 * ended again, so that it can be restored. If another mailbox has its name by now, that one is
 * ended before and logged again behind it. Then those that exist, under their last names: one that
 * takes a name from another ends that, and the other comes back under its own name in its turn.
 *
 * Rows of the index are believed only as far as they agree with themselves: a mailbox whose records
 * do not have its checksum is not logged again, but asked for. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "backup/lcb_repair.h"
#include "lib/prot.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

struct relog {
    struct lcb *b;
    struct lcb_index *old;
    const struct lcb_seqs *lost;
    struct lcb_repair *rp;
    struct dlist_pool *pool;
    struct buf userid, text, strings;
};

/* A mailbox as the old index has it, in its last state. */
struct folder {
    int64_t id, since, until; /* until 0: it exists */
    uint32_t crc;
    const char *uniqueid, *mboxname, *header;
    size_t headerlen;
    int state_lost, end_lost, records_lost, wrong;
    uint32_t *past; /* UIDs that are expunged and whose last record before is lost */
    size_t npast, past_alloc;
};

int lcb_seqs_have(const struct lcb_seqs *s, int64_t pos)
{
    int64_t seq = LCB_POS_SEQ(pos);
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->list[mid] < seq)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->n && s->list[low] == seq;
}

static void add_seq(struct lcb_seqs *s, size_t *alloc, int64_t seq)
{
    if (s->n == *alloc) {
        *alloc = *alloc ? 2 * *alloc : 64;
        s->list = xrealloc(s->list, *alloc * sizeof(*s->list));
    }
    s->list[s->n++] = seq;
}

/* Both sides in the order of the file, which is that of their numbers. */
int lcb_seqs_lost(struct lcb_index *old, struct lcb_index *new_, int64_t max, struct lcb_seqs *out)
{
    static const char was[] = "SELECT seq, start FROM chunks WHERE seq NOT IN (SELECT seq FROM pieces)"
                              " AND seq<=? ORDER BY seq";
    static const char is[] = "SELECT seq, start, seq IN (SELECT seq FROM pieces) FROM chunks"
                             " ORDER BY seq";
    sqlite3_stmt *a = sqldb_stmt(old->db, was), *b = sqldb_stmt(new_->db, is);
    size_t alloc = 0;
    int r = a && b ? sqldb_bind(a, "i", max) : XERR_SQL, step = 0;
    int more = r ? 0 : sqldb_step(new_->db, b);
    while (!r && more >= 0 && (step = sqldb_step(old->db, a)) > 0) {
        int64_t start = sqlite3_column_int64(a, 1);
        while (more > 0 && sqlite3_column_int64(b, 1) < start)
            more = sqldb_step(new_->db, b);
        if (more <= 0 || sqlite3_column_int64(b, 1) != start || sqlite3_column_int(b, 2))
            add_seq(out, &alloc, sqlite3_column_int64(a, 0));
    }
    if (a)
        sqlite3_reset(a);
    if (b)
        sqlite3_reset(b);
    return r ? r : more < 0 ? more : step;
}

static int prepare(struct sqldb *db, const char *sql, sqlite3_stmt **st)
{
    return sqlite3_prepare_v2(db->db, sql, -1, st, NULL) == SQLITE_OK ? 0 : sqldb_failed(db, sql);
}

static int next(struct sqldb *db, sqlite3_stmt *st)
{
    int r = sqlite3_step(st);
    return r == SQLITE_ROW ? 1 : r == SQLITE_DONE ? 0 : sqldb_failed(db, "reading the old index");
}

static const char *column(sqlite3_stmt *st, int col)
{
    const char *s = (const char *)sqlite3_column_text(st, col);
    return s ? s : "";
}

/* VERB with the value that r->text is the text of. */
static int log_line(struct relog *r, const char *verb)
{
    struct dlist_reader reader;
    struct dlist *v;
    buf_appendcstr(&r->text, "\r\n");
    struct protstream *in = prot_readmem(r->text.s, r->text.len);
    dlist_pool_reset(r->pool);
    dlist_reader_init(&reader, in, r->pool);
    int before = lcb_position(r->b) & 0xffffff;
    int64_t seq = LCB_POS_SEQ(lcb_position(r->b));
    int e = dlist_reader_value(&reader, &v);
    if (!e)
        e = lcb_log_dlist(r->b, verb, v);
    prot_free(&in);
    if (!e && (seq != LCB_POS_SEQ(lcb_position(r->b)) || before != (lcb_position(r->b) & 0xffffff)))
        r->rp->others++;
    return e;
}

static void put_key(struct relog *r, const char *key, const void *p, size_t n)
{
    buf_printf(&r->text, "%s%s ", r->text.len > 2 ? " " : "", key);
    dlist_printastring(p, n, &r->text, 0);
}

static void put_text(struct relog *r, const char *key, const char *value)
{
    put_key(r, key, value, strlen(value));
}

static void put_num(struct relog *r, const char *key, int64_t n)
{
    buf_printf(&r->text, "%s%s %lld", r->text.len > 2 ? " " : "", key, (long long)n);
}

static void begin_value(struct relog *r)
{
    buf_setcstr(&r->text, "%(");
    put_text(r, "USERID", buf_cstring(&r->userid));
}

static int end_value(struct relog *r, const char *verb)
{
    buf_putc(&r->text, ')');
    return log_line(r, verb);
}

/* ---- mailboxes ---- */

static int unmailbox(struct relog *r, const char *name)
{
    buf_reset(&r->text);
    dlist_printastring(name, strlen(name), &r->text, 0);
    return log_line(r, "UNMAILBOX");
}

/* The records of F that hold and were in lost chunks: LOOK whether there are any, or log them. */
static int walk_records(struct relog *r, struct folder *f, int look)
{
    sqlite3_stmt *st = NULL;
    struct sync_record rec = {.uid = 0};
    uint32_t crc = 0;
    int e = prepare(r->old->db, "SELECT " LCB_RECORD_COLUMNS ", r.since" LCB_RECORD_JOIN
                    " WHERE r.folder=? AND r.until IS NULL ORDER BY r.uid", &st);
    if (!e)
        e = sqldb_bind(st, "i", f->id);
    int more = 0;
    while (!e && (more = next(r->old->db, st)) > 0) {
        int lost = lcb_seqs_have(r->lost, sqlite3_column_int64(st, LCB_RECORD_WIDTH));
        if (!look && !lost)
            continue;
        lcb_record_row(st, &rec);
        if (look)
            crc ^= sync_record_crc(&rec);
        else if ((e = lcb_log_mailbox_record(r->b, &rec)) == 0)
            r->rp->records++;
        f->records_lost += lost;
    }
    sqlite3_finalize(st);
    sync_record_fini(&rec);
    if (look)
        f->wrong = crc != f->crc;
    return e ? e : more;
}

/* Is the message of the row at hand, which was that of UID in F, there, and named by no record? */
static int is_orphan(struct relog *r, struct folder *f, const struct sync_record *rec)
{
    int64_t one;
    int e = lcb_has_content(r->b, &rec->guid, NULL);
    if (e <= 0)
        return e;
    e = sqldb_int(r->b->index->db, &one,
                  "SELECT 1 FROM folders f JOIN records r ON r.folder=f.id JOIN contents c ON"
                  " c.id=r.content WHERE f.uniqueid=? AND r.uid=? AND r.expunged=0 AND c.guid=?", "tib",
                  f->uniqueid, (int64_t)rec->uid, rec->guid.value, sizeof(rec->guid.value));
    return e == XERR_NOTFOUND ? 1 : e;
}

static void add_past(struct folder *f, uint32_t uid)
{
    if (f->npast == f->past_alloc) {
        f->past_alloc = f->past_alloc ? 2 * f->past_alloc : 64;
        f->past = xrealloc(f->past, f->past_alloc * sizeof(*f->past));
    }
    f->past[f->npast++] = uid;
}

/* The last records of F before they were expunged, if that was late enough to matter and they are lost:
 * their UIDs to f->past, in order. */
static int find_past(struct relog *r, struct folder *f)
{
    sqlite3_stmt *st = NULL;
    struct sync_record rec = {.uid = 0};
    int more = 0;
    int e = prepare(r->old->db, "SELECT " LCB_RECORD_COLUMNS ", r.since, r.until" LCB_RECORD_JOIN
                    " WHERE r.id IN (SELECT id FROM (SELECT id, max(since) FROM records WHERE"
                    " folder=?1 AND until IS NOT NULL AND expunged=0 GROUP BY uid)) AND EXISTS (SELECT"
                    " 1 FROM records n WHERE n.folder=?1 AND n.uid=r.uid AND n.until IS NULL AND"
                    " n.expunged<>0) ORDER BY r.uid", &st);
    if (!e)
        e = sqldb_bind(st, "i", f->id);
    while (!e && (more = next(r->old->db, st)) > 0) {
        int64_t until = sqlite3_column_int64(st, LCB_RECORD_WIDTH + 1);
        if (!lcb_seqs_have(r->lost, sqlite3_column_int64(st, LCB_RECORD_WIDTH)) ||
            (r->rp->gone_since && lcb_index_time(r->old, until) < r->rp->gone_since))
            continue;
        lcb_record_row(st, &rec);
        e = is_orphan(r, f, &rec);
        if (e > 0)
            add_past(f, rec.uid);
        e = e > 0 ? 0 : e;
    }
    sqlite3_finalize(st);
    sync_record_fini(&rec);
    return e ? e : more;
}

/* Of the UIDs in f->past: the last record before they were expunged (THEN), or that which says so. */
static int log_past_records(struct relog *r, struct folder *f, int then)
{
    static const char *const which[] = {
        " WHERE r.folder=?1 AND r.uid=?2 AND r.until IS NULL",
        " WHERE r.folder=?1 AND r.uid=?2 AND r.until IS NOT NULL AND r.expunged=0 ORDER BY r.since DESC"
        " LIMIT 1",
    };
    struct sync_record rec = {.uid = 0};
    sqlite3_stmt *st = NULL;
    struct buf sql = BUF_INITIALIZER;
    buf_printf(&sql, "SELECT " LCB_RECORD_COLUMNS LCB_RECORD_JOIN "%s", which[then]);
    int e = prepare(r->old->db, buf_cstring(&sql), &st);
    for (size_t i = 0; !e && i < f->npast; i++) {
        sqlite3_reset(st);
        e = sqldb_bind(st, "ii", f->id, (int64_t)f->past[i]);
        int more = e ? 0 : next(r->old->db, st);
        if (more > 0) {
            lcb_record_row(st, &rec);
            e = lcb_log_mailbox_record(r->b, &rec);
        }
        e = more < 0 ? more : e;
    }
    sqlite3_finalize(st);
    buf_free(&sql);
    sync_record_fini(&rec);
    return e;
}

/* F with HEADER and its lost records. */
static int log_mailbox(struct relog *r, struct folder *f, const char *header, size_t len)
{
    struct dlist_pool *pool = dlist_pool_new(LCB_STORED_MAX);
    struct sync_header h;
    int e = sync_header_parsetext(&h, pool, header, len);
    if (!e)
        e = lcb_log_mailbox_begin(r->b, &h);
    if (!e && f)
        e = walk_records(r, f, 0);
    if (!e)
        e = lcb_log_mailbox_end(r->b, NULL);
    for (int then = 1; !e && f && f->npast && then >= 0; then--) {
        e = lcb_log_mailbox_begin(r->b, &h);
        if (!e)
            e = log_past_records(r, f, then);
        if (!e)
            e = lcb_log_mailbox_end(r->b, NULL);
    }
    if (!e && f)
        r->rp->records += (int64_t)f->npast;
    dlist_pool_free(&pool);
    if (!e && f)
        r->rp->mailboxes++;
    return e;
}

/* One that exists. */
static int relog_live(struct relog *r, struct folder *f)
{
    struct lcb_folder now = {.id = 0};
    int e = lcb_find_uniqueid(r->b, f->uniqueid, &now, &r->strings);
    if (e && e != XERR_NOTFOUND)
        return e;
    int have = !e;
    if (have && !f->state_lost && !f->records_lost && !f->npast)
        return 0;
    if (f->wrong)
        return have ? sqldb_run(r->b->index->db, "UPDATE folders SET mark=? WHERE uniqueid=?", "it",
                                (int64_t)LCB_MARK_CONTENT, f->uniqueid) : 0;
    if (have && !f->state_lost) {
        struct buf header = BUF_INITIALIZER;
        buf_setmap(&header, now.header, now.headerlen);
        e = log_mailbox(r, f, header.s, header.len);
        buf_free(&header);
        return e;
    }
    return log_mailbox(r, f, f->header, f->headerlen);
}

/* One that is gone, of which chunks that are lost told: it comes and goes once more. */
static int come_and_go(struct relog *r, struct folder *f)
{
    struct lcb_folder holder = {.id = 0};
    struct buf strings = BUF_INITIALIZER, header = BUF_INITIALIZER;
    int e = lcb_find_name(r->b, f->mboxname, &holder, &strings);
    int taken = !e && strcmp(holder.uniqueid, f->uniqueid);
    if (e == XERR_NOTFOUND)
        e = 0;
    if (!e && taken) {
        buf_setmap(&header, holder.header, holder.headerlen);
        e = unmailbox(r, f->mboxname);
    }
    if (!e)
        e = log_mailbox(r, f, f->header, f->headerlen);
    if (!e)
        e = unmailbox(r, f->mboxname);
    if (!e && taken)
        e = log_mailbox(r, NULL, header.s, header.len);
    buf_free(&strings);
    buf_free(&header);
    return e;
}

static int relog_gone(struct relog *r, struct folder *f)
{
    struct lcb_folder now = {.id = 0};
    int e = lcb_find_uniqueid(r->b, f->uniqueid, &now, &r->strings);
    if (e && e != XERR_NOTFOUND)
        return e;
    int have = !e;
    int old = r->rp->gone_since && lcb_index_time(r->old, f->until) < r->rp->gone_since;
    if ((f->state_lost || f->records_lost || f->npast) && !old && !f->wrong)
        return come_and_go(r, f);
    if (!have)
        return 0;
    buf_setcstr(&r->text, now.mboxname);
    char *name = buf_release(&r->text);
    e = unmailbox(r, name);
    free(name);
    return e;
}

/* 1 if a state of F, any, began or ended in a lost chunk. */
static int is_touched(struct relog *r, const struct folder *f)
{
    sqlite3_stmt *st = sqldb_stmt(r->old->db, "SELECT since, until FROM folder_states WHERE folder=?");
    int more, touched = 0;
    if (!st || sqldb_bind(st, "i", f->id))
        return XERR_SQL;
    while (!touched && (more = sqldb_step(r->old->db, st)) != 0) {
        if (more < 0)
            return more;
        touched = lcb_seqs_have(r->lost, sqlite3_column_int64(st, 0)) ||
                  lcb_seqs_have(r->lost, sqlite3_column_int64(st, 1));
    }
    sqlite3_reset(st);
    return touched;
}

/* What an intact line says may be about another mailbox now, or nothing: it takes or ends a name, or
 * edits the header that it finds. So if the state of F is another one than it was, and lost chunks told
 * of F, it counts as lost. */
static int find_consequences(struct relog *r, struct folder *f)
{
    struct lcb_folder now = {.id = 0};
    int e = is_touched(r, f);
    if (e <= 0)
        return e;
    e = lcb_find_uniqueid(r->b, f->uniqueid, &now, &r->strings);
    if (e && e != XERR_NOTFOUND)
        return e;
    if (f->until)
        f->end_lost |= !e;
    else
        f->state_lost |= e || now.headerlen != f->headerlen ||
                         (f->headerlen && memcmp(now.header, f->header, f->headerlen));
    return 0;
}

static int walk_folders(struct relog *r, int gone)
{
    static const char sql[] =
        "SELECT f.id, f.uniqueid, f.crc, s.since, s.until, s.mboxname, s.header FROM folders f"
        " JOIN folder_states s ON s.folder=f.id AND s.since=(SELECT max(since) FROM folder_states"
        " WHERE folder=f.id) WHERE (s.until IS NULL)<>?1 ORDER BY s.since";
    sqlite3_stmt *st = NULL;
    int e = prepare(r->old->db, sql, &st);
    if (!e)
        e = sqldb_bind(st, "i", (int64_t)gone);
    int more = 0;
    while (!e && (more = next(r->old->db, st)) > 0) {
        struct folder f = {
            .id = sqlite3_column_int64(st, 0), .uniqueid = column(st, 1),
            .crc = (uint32_t)sqlite3_column_int64(st, 2), .since = sqlite3_column_int64(st, 3),
            .until = sqlite3_column_int64(st, 4), .mboxname = column(st, 5),
            .header = sqlite3_column_blob(st, 6), .headerlen = (size_t)sqlite3_column_bytes(st, 6),
        };
        f.state_lost = lcb_seqs_have(r->lost, f.since);
        f.end_lost = f.until && lcb_seqs_have(r->lost, f.until);
        if (!r->userid.len)
            mboxname_to_userid(r->b->index->names, f.mboxname, &r->userid);
        e = walk_records(r, &f, 1);
        if (!e)
            e = find_consequences(r, &f);
        if (!e)
            e = find_past(r, &f);
        int any = f.state_lost || f.records_lost || f.end_lost || f.npast;
        f.records_lost = f.records_lost > 0;
        if (!e && any)
            e = gone ? relog_gone(r, &f) : relog_live(r, &f);
        free(f.past);
    }
    sqlite3_finalize(st);
    return e ? e : more;
}

/* ---- all the rest ---- */

static int log_sub(struct relog *r, sqlite3_stmt *st, int holds)
{
    begin_value(r);
    put_text(r, "MBOXNAME", column(st, 2));
    return end_value(r, holds ? "SUB" : "UNSUB");
}

static int log_seen(struct relog *r, sqlite3_stmt *st, int holds)
{
    if (!holds)
        return 0; /* only with the user, and then with the next seen state, if there is one */
    begin_value(r);
    put_text(r, "UNIQUEID", column(st, 2));
    put_num(r, "LASTREAD", sqlite3_column_int64(st, 3));
    put_num(r, "LASTUID", sqlite3_column_int64(st, 4));
    put_num(r, "LASTCHANGE", sqlite3_column_int64(st, 5));
    put_text(r, "SEENUIDS", column(st, 6));
    return end_value(r, "SEEN");
}

static int log_script(struct relog *r, sqlite3_stmt *st, int holds)
{
    begin_value(r);
    put_text(r, "FILENAME", column(st, 2));
    if (holds) {
        const void *p = sqlite3_column_blob(st, 4);
        put_num(r, "LAST_UPDATE", sqlite3_column_int64(st, 3));
        put_key(r, "CONTENT", p ? p : "", (size_t)sqlite3_column_bytes(st, 4));
    }
    return end_value(r, holds ? "SIEVE" : "UNSIEVE");
}

static int log_active(struct relog *r, sqlite3_stmt *st, int holds)
{
    begin_value(r);
    if (holds)
        put_text(r, "FILENAME", column(st, 2));
    return end_value(r, holds ? "ACTIVATE_SIEVE" : "UNACTIVATE_SIEVE");
}

static int log_quota(struct relog *r, sqlite3_stmt *st, int holds)
{
    buf_reset(&r->text);
    if (holds)
        buf_appendmap(&r->text, sqlite3_column_blob(st, 3), (size_t)sqlite3_column_bytes(st, 3));
    else
        dlist_printastring(column(st, 2), strlen(column(st, 2)), &r->text, 0);
    return log_line(r, holds ? "QUOTA" : "UNQUOTA");
}

static int log_annotation(struct relog *r, sqlite3_stmt *st, int holds)
{
    buf_setcstr(&r->text, "%(");
    put_text(r, "MBOXNAME", column(st, 2));
    put_text(r, "ENTRY", column(st, 3));
    put_text(r, "USERID", column(st, 4));
    if (holds) {
        const void *p = sqlite3_column_blob(st, 5);
        put_key(r, "VALUE", p ? p : "", (size_t)sqlite3_column_bytes(st, 5));
    }
    return end_value(r, holds ? "ANNOTATION" : "UNANNOTATION");
}

/* The last row of each key; keys and values behind since and until. LAST: all rows of the one key that
 * there is, and the column that tells which is the last, as what a line does depends on what holds
 * (UNSIEVE of a script that is not active): so a lost line has to do with all that comes behind it. */
static const struct {
    const char *sql;
    int (*log)(struct relog *, sqlite3_stmt *, int holds);
    int last;
} kinds[] = {
    {"SELECT since, until, mboxname FROM subs t WHERE since=(SELECT max(since) FROM subs WHERE"
     " mboxname=t.mboxname) ORDER BY since", log_sub, 0},
    {"SELECT since, until, uniqueid, lastread, lastuid, lastchange, seenuids FROM seens t WHERE since="
     "(SELECT max(since) FROM seens WHERE uniqueid=t.uniqueid) ORDER BY since", log_seen, 0},
    {"SELECT since, until, filename, last_update, content FROM scripts t WHERE since=(SELECT max(since)"
     " FROM scripts WHERE filename=t.filename) ORDER BY until IS NULL, since", log_script, 0},
    {"SELECT since, until, filename, since=(SELECT max(since) FROM active) FROM active ORDER BY since",
     log_active, 3},
    {"SELECT since, until, root, limits FROM quotas t WHERE since=(SELECT max(since) FROM quotas WHERE"
     " root=t.root) ORDER BY since", log_quota, 0},
    {"SELECT since, until, mboxname, entry, userid, value FROM annots t WHERE since=(SELECT max(since)"
     " FROM annots WHERE mboxname=t.mboxname AND entry=t.entry AND userid=t.userid) ORDER BY since",
     log_annotation, 0},
};

static int walk_kind(struct relog *r, size_t kind)
{
    sqlite3_stmt *st = NULL;
    int more = 0, touched = 0, e = prepare(r->old->db, kinds[kind].sql, &st);
    while (!e && (more = next(r->old->db, st)) > 0) {
        int64_t since = sqlite3_column_int64(st, 0), until = sqlite3_column_int64(st, 1);
        int holds = sqlite3_column_type(st, 1) == SQLITE_NULL;
        int lost = lcb_seqs_have(r->lost, holds ? since : until);
        if (kinds[kind].last) {
            touched |= lost || lcb_seqs_have(r->lost, since);
            lost = touched && sqlite3_column_int(st, kinds[kind].last);
        }
        if (lost)
            e = kinds[kind].log(r, st, holds);
    }
    sqlite3_finalize(st);
    return e ? e : more;
}

int lcb_relog(struct lcb *b, struct lcb_index *old, const struct lcb_seqs *lost,
              struct lcb_repair *rp)
{
    struct relog r = {.b = b, .old = old, .lost = lost, .rp = rp,
                      .pool = dlist_pool_new(LCB_STORED_MAX)};
    buf_setcstr(&r.userid, b->userid);
    int e = walk_folders(&r, 1);
    if (!e)
        e = walk_folders(&r, 0);
    for (size_t i = 0; !e && i < sizeof(kinds) / sizeof(*kinds); i++)
        e = walk_kind(&r, i);
    dlist_pool_free(&r.pool);
    buf_free(&r.userid);
    buf_free(&r.text);
    buf_free(&r.strings);
    return e;
}
