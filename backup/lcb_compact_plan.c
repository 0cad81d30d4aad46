/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_plan - what of a backup stays, and whether it is worth the work, from the index alone.
 *
 * The window begins behind FROM, the last position whose time is not within the retention. Rows that
 * ended at FROM or before go; rows that held at FROM are written down again; what came later stays as
 * it is. A message that was expunged by then goes, and so does whatever a mailbox had that was gone by
 * then and did not come back. If an earlier compaction kept less than the retention now asks for,
 * history begins where that one let it begin.
 *
 * Content stays if a record that stays, and is not expunged, names it. Content that no record ever
 * named stays for a day, because its record may be on the way.
 *
 * Work. What goes is counted by what is dead, not as the difference between a file's size and what is
 * alive: after a compaction nothing is dead, so the next one finds nothing to do, whatever an estimate
 * of live text would say. One for each chunk with nothing in it that stays, one for each
 * chunk's worth of dead text, and what could be gained by merging small chunks that came after the last
 * compaction (its note "merged" in the index; after a rebuild of the index it is made once more).
 *
 * Whatever makes a plan depend on the time must say so with due_at(). */
#include "config.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_compact_int.h"
#include "backup/lcb_history.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

#define DAY 86400
/* So many small chunks are worth as much as a full one. */
#define SMALL_MANY 100
/* Text of a line beside what is counted. */
#define MESSAGE_TEXT "110"
#define RECORD_TEXT "160"

/* ---- chunk sizes, as Cyrus 3.x has them ---- */

int lcb_plan_wants_combining(const struct lcb_compact_sizes *s, uint64_t length, uint64_t next)
{
    if (!next || (length >= s->min && next >= s->min))
        return 0;
    return !s->max || length + next <= s->max;
}

int lcb_plan_wants_splitting(const struct lcb_compact_sizes *s, uint64_t length, uint64_t written)
{
    if (!s->max || (written && written < s->max) || length < s->max + s->min)
        return 0;
    /* More may have been written than the chunk is long, if it was combined with another. */
    return !written || written > length || length - written > s->min;
}

/* ---- the window ---- */

/* The plan is another one as soon as it is AFTER seconds since TIME. */
static void due_at(struct lcb_plan *p, int64_t time, int64_t after)
{
    int64_t due = time > INT64_MAX - after ? INT64_MAX : time + after;
    if (due < p->due)
        p->due = due;
}

/* FIRST: of the window. FROM stays what it is until that is no longer in it. */
static int window_due(struct lcb_plan *p, int64_t first)
{
    int64_t time = 0;
    int r = sqldb_int(p->b->index->db, &time, "SELECT time FROM ticks WHERE pos=?", "i", first);
    due_at(p, time, p->retention);
    return r;
}

/* FROM by the retention alone. */
static int find_from(struct lcb_plan *p)
{
    struct sqldb *db = p->b->index->db;
    sqlite3_stmt *st = sqldb_stmt(db, "SELECT (SELECT pos FROM ticks WHERE time>? ORDER BY pos"
                                      " LIMIT 1), (SELECT min(pos) FROM ticks)");
    if (!st || sqldb_bind(st, "i", p->now - p->retention) || sqldb_step(db, st) != 1)
        return XERR_SQL;
    int in_window = sqlite3_column_type(st, 0) != SQLITE_NULL;
    int any = sqlite3_column_type(st, 1) != SQLITE_NULL;
    int64_t first = sqlite3_column_int64(st, 0), earliest = sqlite3_column_int64(st, 1);
    sqlite3_reset(st);
    p->from = !in_window || first > p->to ? p->to : first - 1;
    if (!any || earliest > p->from)
        p->from = 0; /* nothing happened before it */
    return in_window && !p->estimate ? window_due(p, first) : 0;
}

/* The window does not begin before POS, behind what was restated; or, where that is lost, before the
 * first line behind it, as nobody knows the time of anything before. */
static int bound_by_history(struct lcb_plan *p, int64_t pos)
{
    int64_t begin, time;
    int r = lcb_history_begin(p->b, &begin, &time);
    int64_t from = begin == pos ? pos - 1 : begin;
    if (!r && p->from < from)
        p->from = from;
    return r;
}

static int find_window(struct lcb_plan *p)
{
    int64_t history;
    int r = lcb_index_getpoint(p->b->index, &p->point);
    if (!r)
        r = lcb_index_gethistory(p->b->index, &history);
    if (r)
        return r;
    p->to = LCB_POS(p->point.seq + 1, 0) - 1;
    if (history > p->to + 1)
        return XERR_FORMAT; /* or all history would go */
    p->from = 0;
    if (p->retention > 0)
        r = find_from(p);
    if (history)
        r = r ? r : bound_by_history(p, history);
    p->account.window = p->from ? lcb_index_time(p->b->index, p->from) : 0;
    return r;
}

/* ---- what stays ---- */

/* Content that no record ever named stays from chunk YOUNG on. If there is none, later there will be
 * none, either. */
static int find_young(struct lcb_plan *p, int64_t *young)
{
    struct sqldb *db = p->b->index->db;
    int64_t one = 0, time = 0;
    *young = INT64_MAX;
    int r = sqldb_int(db, young, "SELECT min(seq) FROM chunks WHERE last_time>?", "i", p->now - DAY);
    if (!r)
        r = sqldb_int(db, &one, "SELECT 1 FROM contents c WHERE c.chunk>=? AND NOT EXISTS (SELECT 1"
                      " FROM records r WHERE r.content=c.id AND r.since>=c.chunk<<24) LIMIT 1", "i",
                      *young);
    if (!r)
        r = sqldb_int(db, &time, "SELECT last_time FROM chunks WHERE seq=?", "i", *young);
    if (!r)
        due_at(p, time, DAY);
    return r == XERR_NOTFOUND ? 0 : r;
}

static int find_live(struct lcb_plan *p)
{
    struct sqldb *db = p->b->index->db;
    int64_t young;
    int r = find_young(p, &young);
    if (!r)
        r = sqldb_run(db, "INSERT INTO temp.kept SELECT DISTINCT folder FROM folder_states"
                      " WHERE until IS NULL OR until>?", "i", p->from);
    if (!r)
        r = sqldb_run(db, "INSERT INTO temp.live SELECT c.chunk, c.start, c.size, c.guid FROM contents"
                      " c WHERE c.chunk IS NOT NULL AND c.chunk<=?1 AND (EXISTS (SELECT 1 FROM records"
                      " r WHERE r.content=c.id AND r.expunged=0 AND (r.until IS NULL OR r.until>?2)"
                      " AND r.folder IN (SELECT id FROM temp.kept)) OR (c.chunk>=?3 AND NOT EXISTS"
                      " (SELECT 1 FROM records r WHERE r.content=c.id AND r.since>=c.chunk<<24)))",
                      "iii", LCB_POS_SEQ(p->to), p->from, young);
    return r;
}

/* Rows by the chunk they began in: how many stay, how many go, and how much text that is. */
static int account_rows(struct lcb_plan *p)
{
    static const char *const sums[] = {
        "INSERT INTO temp.acct SELECT c.chunk, l.chunk IS NOT NULL, count(*), sum(c.size+" MESSAGE_TEXT
        ") FROM contents c LEFT JOIN temp.live l ON l.chunk=c.chunk AND l.start=c.start"
        " WHERE c.chunk<=?2 AND ?1 IS NOT NULL GROUP BY 1, 2",
        "INSERT INTO temp.acct SELECT since>>24, NOT (coalesce(until,?1+1)<=?1 OR (since<=?1 AND"
        " (expunged OR folder NOT IN (SELECT id FROM temp.kept)))), count(*), sum(" RECORD_TEXT
        "+length(flags)+coalesce(length(annotations),0)+coalesce(length(extra),0)) FROM records"
        " WHERE since>>24<=?2 GROUP BY 1, 2",
#define TABLE_SUM(table, text) \
        "INSERT INTO temp.acct SELECT since>>24, coalesce(until,?1+1)>?1, count(*), sum(" text \
        ") FROM " table " WHERE since>>24<=?2 GROUP BY 1, 2"
        TABLE_SUM("folder_states", "60+length(header)"),
        TABLE_SUM("subs", "60+length(mboxname)"),
        TABLE_SUM("seens", "150+length(seenuids)"),
        TABLE_SUM("scripts", "100+length(content)"),
        TABLE_SUM("active", "60"),
        TABLE_SUM("quotas", "30+length(limits)"),
        TABLE_SUM("annots", "80+length(value)"),
        NULL,
    };
    int r = 0;
    for (int i = 0; !r && sums[i]; i++)
        r = sqldb_run(p->b->index->db, sums[i], "ii", p->from, LCB_POS_SEQ(p->to));
    return r;
}

/* The N columns of the one row of SQL; sums of nothing are 0. */
static int numbers(struct lcb_plan *p, int64_t *out, int n, const char *sql)
{
    struct sqldb *db = p->b->index->db;
    sqlite3_stmt *st = sqldb_stmt(db, sql);
    int r = st ? sqldb_bind(st, "ii", p->from, LCB_POS_SEQ(p->to)) : XERR_SQL;
    if (!r)
        r = sqldb_step(db, st) == 1 ? 0 : XERR_SQL;
    for (int i = 0; i < n; i++)
        out[i] = r ? 0 : sqlite3_column_int64(st, i);
    if (st)
        sqlite3_reset(st);
    return r;
}

static int count_text(struct lcb_plan *p)
{
    struct lcb_compact_account *a = &p->account;
    int64_t all[2], rows[3] = {0, 0, 0};
    int r = numbers(p, all, 2, "SELECT count(*), sum(text_length) FROM chunks WHERE ?1 IS NOT NULL"
                               " AND seq<=?2");
    if (!r)
        r = numbers(p, rows, 3, "SELECT sum(n) FILTER (WHERE alive), sum(n) FILTER (WHERE NOT alive),"
                                " sum(text) FILTER (WHERE NOT alive) FROM temp.acct WHERE ?1+?2 IS NOT"
                                " NULL");
    a->chunks = all[0];
    a->text = (uint64_t)all[1];
    a->text_dead = (uint64_t)(rows[2] < all[1] ? rows[2] : all[1]);
    a->versions = rows[0] + rows[1];
    a->versions_dead = rows[1];
    return r;
}

/* Behind count_text(), which took messages for versions. */
static int count_messages(struct lcb_plan *p)
{
    struct lcb_compact_account *a = &p->account;
    int64_t all[2], live[2] = {0, 0};
    int r = numbers(p, all, 2, "SELECT count(*), sum(size) FROM contents WHERE ?1 IS NOT NULL AND"
                               " chunk<=?2");
    if (!r)
        r = numbers(p, live, 2, "SELECT count(*), sum(size) FROM temp.live WHERE ?1+?2 IS NOT NULL");
    a->messages = all[0];
    a->messages_dead = all[0] - live[0];
    a->message_bytes = (uint64_t)all[1];
    a->messages_dead_bytes = (uint64_t)(all[1] - live[1]);
    a->versions -= a->messages;
    a->versions_dead -= a->messages_dead;
    if (!r && a->messages_dead)
        r = numbers(p, &a->messages_unused, 1, "SELECT count(*) FROM contents c WHERE ?1 IS NOT NULL"
                    " AND chunk<=?2 AND NOT EXISTS (SELECT 1 FROM records WHERE content=c.id) AND NOT"
                    " EXISTS (SELECT 1 FROM temp.live WHERE chunk=c.chunk AND start=c.start)");
    if (!r)
        r = numbers(p, &a->mailboxes_dead, 1, "SELECT count(*) FROM folders WHERE id NOT IN (SELECT id"
                    " FROM temp.kept) AND ?1+?2 IS NOT NULL");
    return r;
}

/* Nothing of anything that a user has, and not lately, either. (Server annotations do not count: what
 * ends a user does not end those.) */
static int is_empty(struct lcb_plan *p)
{
    int64_t rows = 0;
    if (!p->account.chunks || p->from != p->to)
        return 0;
    int r = sqldb_int(p->b->index->db, &rows,
        "SELECT (SELECT count(*) FROM temp.kept) + (SELECT count(*) FROM temp.live) +"
        " (SELECT count(*) FROM subs WHERE until IS NULL) +"
        " (SELECT count(*) FROM seens WHERE until IS NULL) +"
        " (SELECT count(*) FROM scripts WHERE until IS NULL) +"
        " (SELECT count(*) FROM quotas WHERE until IS NULL) +"
        " (SELECT count(*) FROM active WHERE until IS NULL)", "");
    return r ? r : !rows;
}

/* ---- whether it is worth it ---- */

struct weigh {
    struct lcb_plan *p;
    int64_t merged;       /* chunks up to this one were merged before as far as can be */
    uint64_t small_text, last_length;
    int64_t want, last_seq;
};

static void note(struct lcb_plan *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void note(struct lcb_plan *p, const char *fmt, ...)
{
    va_list ap;
    if (!p->say)
        return;
    if (p->said.len)
        buf_putc(&p->said, '\n');
    va_start(ap, fmt);
    buf_vprintf(&p->said, fmt, ap);
    va_end(ap);
}

static void weigh_kept(struct weigh *w, int64_t seq, uint64_t length)
{
    const struct lcb_compact_sizes *sizes = &w->p->sizes;
    if (seq > w->merged && sizes->fill && length < sizes->fill / 2) {
        w->p->account.chunks_small++;
        w->small_text += length;
    }
    if (seq > w->merged && !sizes->fill) {
        if (w->last_length && lcb_plan_wants_combining(sizes, w->last_length, length)) {
            note(w->p, "combining chunks %lld and %lld", (long long)w->last_seq, (long long)seq);
            w->want++;
        }
        if (lcb_plan_wants_splitting(sizes, length, 0)) {
            note(w->p, "splitting chunk %lld", (long long)seq);
            w->want++;
        }
    }
    w->last_length = length;
    w->last_seq = seq;
}

/* A chunk before the window with nothing that stays is dead if anything of it is counted as dead, or
 * if no compaction has seen it: what compaction itself writes may begin no rows. */
static int weigh_chunks(struct weigh *w)
{
    struct sqldb *db = w->p->b->index->db;
    int more = 0, r = 0;
    sqlite3_stmt *st = sqldb_stmt(db,
        "SELECT c.seq, c.text_length, coalesce(sum(a.n) FILTER (WHERE alive),0),"
        " coalesce(sum(a.n) FILTER (WHERE NOT alive),0) FROM chunks c LEFT JOIN temp.acct a"
        " ON a.seq=c.seq WHERE c.seq<=? GROUP BY c.seq ORDER BY c.seq");
    if (!st || sqldb_bind(st, "i", LCB_POS_SEQ(w->p->to)))
        return XERR_SQL;
    while (!r && (more = sqldb_step(db, st)) > 0) {
        int64_t seq = sqlite3_column_int64(st, 0);
        int before = LCB_POS(seq + 1, 0) - 1 <= w->p->from;
        if (before && !sqlite3_column_int64(st, 2) &&
            (sqlite3_column_int64(st, 3) || seq > w->merged)) {
            w->p->account.chunks_dead++;
            r = sqldb_run(db, "INSERT INTO temp.dead VALUES (?)", "i", seq);
        } else {
            weigh_kept(w, seq, (uint64_t)sqlite3_column_int64(st, 1));
        }
    }
    sqlite3_reset(st);
    return r ? r : more;
}

static int weigh_work(struct lcb_plan *p)
{
    struct weigh w = {.p = p, .merged = 0};
    int64_t fill = p->sizes.fill ? (int64_t)p->sizes.fill : (int64_t)p->b->settings->chunk_size;
    int r = sqldb_int(p->b->index->db, &w.merged, "SELECT value FROM meta WHERE key='merged'", "");
    if (!r || r == XERR_NOTFOUND)
        r = weigh_chunks(&w);
    p->account.work = p->account.chunks_dead + (int64_t)p->account.text_dead / fill + w.want +
                      (int64_t)w.small_text / fill + p->account.chunks_small / SMALL_MANY;
    return r;
}

void lcb_plan_options(struct lcb_plan *p, struct lcb *b)
{
    p->b = b;
    const struct config *c = lcb_store_config(b->store);
    int64_t min = config_getbytesize(c, IMAPOPT_BACKUP_COMPACT_MINSIZE);
    int64_t max = config_getbytesize(c, IMAPOPT_BACKUP_COMPACT_MAXSIZE);
    int threshold = config_getint(c, IMAPOPT_BACKUP_COMPACT_WORK_THRESHOLD);
    p->retention = config_getduration(c, IMAPOPT_BACKUP_RETENTION);
    p->sizes.min = min > 0 ? (uint64_t)min : 0;
    p->sizes.max = max > 0 ? (uint64_t)max : 0;
    if (!p->sizes.min && !p->sizes.max)
        p->sizes.fill = p->b->settings->chunk_size;
    /* Cyrus 3.x has no opinion then: chunks stay as they are. */
    if (p->sizes.min && p->sizes.max && p->sizes.min >= p->sizes.max)
        p->sizes.min = p->sizes.max = 0;
    p->account.threshold = threshold < 1 ? 1 : threshold;
}

/* For an estimate, if the window is known: nothing of it goes, for sure. Of most backups that is true,
 * and of small ones it costs a third of counting the rows. The conditions are those of find_live() and
 * account_rows(); content that no record names is left to them. */
static int nothing_goes(struct lcb_plan *p)
{
    struct lcb_compact_account *a = &p->account;
    int64_t n[2];
    int r = numbers(p, n, 2,
#define ENDED(table) "EXISTS (SELECT 1 FROM " table " WHERE until<=?1) OR "
        "SELECT " ENDED("folder_states") ENDED("subs") ENDED("seens") ENDED("scripts") ENDED("active")
        ENDED("quotas") ENDED("annots") ENDED("records")
        "EXISTS (SELECT 1 FROM records WHERE since<=?1 AND (expunged OR folder NOT IN"
        " (SELECT folder FROM folder_states))) OR"
        " EXISTS (SELECT 1 FROM contents c WHERE c.chunk<=?2 AND NOT EXISTS (SELECT 1 FROM records r"
        " WHERE r.content=c.id AND r.expunged=0 AND r.folder IN (SELECT folder FROM folder_states))),"
        " (SELECT sum(text_length) FROM chunks WHERE seq<=?2)");
    if (r || n[0])
        return r;
    a->text = (uint64_t)n[1];
    a->text_dead = 0;
    return 1;
}

/* What is counted on the way. */
static int make_tables(struct sqldb *db)
{
    return sqldb_exec(db,
        "CREATE TEMP TABLE dead (seq INTEGER PRIMARY KEY);"
        "CREATE TEMP TABLE live (chunk INTEGER, start INTEGER, size INTEGER, guid BLOB,"
        " PRIMARY KEY (chunk, start)) WITHOUT ROWID;"
        "CREATE TEMP TABLE kept (id INTEGER PRIMARY KEY);"
        "CREATE TEMP TABLE acct (seq INTEGER, alive INTEGER, n INTEGER, text INTEGER)");
}

static int make(struct lcb_plan *p)
{
    int r = find_window(p);
    if (!r && p->estimate && (r = nothing_goes(p)) != 0)
        return r < 0 ? r : 0;
    if (!r)
        r = make_tables(p->b->index->db);
    if (!r)
        r = find_live(p);
    if (!r)
        r = account_rows(p);
    if (!r)
        r = count_text(p);
    if (r || p->estimate)
        return r;
    r = count_messages(p);
    if (!r)
        r = weigh_work(p);
    if (!r) {
        r = is_empty(p);
        p->account.empty = r == 1;
    }
    return r < 0 ? r : 0;
}

int lcb_plan_idle(const struct lcb_plan *p)
{
    return !p->account.empty && p->account.work < p->account.threshold;
}

int lcb_plan_make(struct lcb_plan *p, struct lcb *b, int64_t now)
{
    struct sqldb *db = b->index->db;
    memset(&p->account, 0, sizeof(p->account));
    p->now = now ? now : (int64_t)time(NULL);
    p->due = INT64_MAX;
    lcb_plan_options(p, b);
    /* All of it from one state of the index; the tables are not part of any file that others see. */
    int r = sqldb_exec(db, "PRAGMA query_only=0; PRAGMA temp_store=FILE; BEGIN");
    if (!r) {
        r = make(p);
        if (!r && p->remember)
            lcb_idle_remember(p);
        int end = sqldb_exec(db, r ? "ROLLBACK" : "COMMIT");
        r = r ? r : end;
    }
    return r;
}

int lcb_plan_say(struct lcb_plan *p)
{
    struct sqldb *db = p->b->index->db;
    struct buf list = BUF_INITIALIZER, head = BUF_INITIALIZER;
    int more;
    sqlite3_stmt *st = sqldb_stmt(db, "SELECT seq FROM chunks WHERE seq<=? AND seq NOT IN (SELECT seq"
                                      " FROM temp.dead) ORDER BY seq");
    if (!st || sqldb_bind(st, "i", LCB_POS_SEQ(p->to)))
        return XERR_SQL;
    while ((more = sqldb_step(db, st)) > 0)
        buf_printf(&list, " %lld", (long long)sqlite3_column_int64(st, 0));
    buf_printf(&head, "keeping %lld chunks:", (long long)(p->account.chunks - p->account.chunks_dead));
    p->say(p->rock, buf_cstring(&head));
    p->say(p->rock, buf_cstring(&list));
    if (p->said.len)
        p->say(p->rock, buf_cstring(&p->said));
    buf_free(&head);
    buf_free(&list);
    return more;
}

int lcb_compact_estimate(struct lcb *b, int64_t now, struct lcb_compact_account *a)
{
    struct lcb_plan p = {.b = b, .estimate = 1};
    now = now ? now : (int64_t)time(NULL);
    int known = lcb_idle_known(b, now, a);
    if (known)
        return known < 0 ? known : 0;
    int r = lcb_plan_make(&p, b, now);
    *a = p.account;
    return r;
}
