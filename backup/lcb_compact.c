/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact - write a data file anew without what nobody can ask for any more.
 *
 * A data file is a log, and only grows: each flag that ever changed is in it. What may be asked for
 * are the states since the beginning of the *window* (backup_retention), so the new file is a
 * checkpoint and the log since:
 *
 *     messages   that anything in the window needs and that stand before it, in their old order
 *     base       the state at the beginning of the window, restated from the rows of the index
 *     log        all lines since, as they were
 *
 * The last member of the base is flagged GZ_BASE: history before its end is not complete, and says
 * so after any rebuild.
 *
 * Positions, not times. The window begins behind a position of the old file, and the snapshot that
 * is compacted ends at one; rows are versioned by position. So no transaction is held while the work
 * goes on: what is appended meanwhile has later positions, and is taken over by the switch
 * (lcb_switch.c).
 *
 * What is kept is decided by the rows (lcb_compact_plan.c). The old file is read chunk by chunk
 * (lcb_compact_chunk.c): chunks of a good size in which all stays are copied compressed, of others the
 * lines that stay are collected into new chunks (lcb_compact_write.c). Lines before the window that are
 * not messages all go, since the base says what held. Memory is bounded by the size of a chunk; lists
 * are temporary tables.
 *
 * Most nights there is nothing to do, and that is remembered (lcb_compact_idle.c).
 *
 * Proof. The base is written from the old index, so first that is held against the old file, as by
 * verification; if it is not what the file says, it is made anew, and all begins again. Only when there
 * is something to do: what is not rewritten cannot become wrong by it. Then the new file is replayed
 * into a new index, as after a loss of the index, and this index is held against the old one, row by
 * row, and each message against its GUID (lcb_compact_prove.c). A fault in any of the above makes
 * compaction fail, not the backup.
 *
 * Under the lock, when the last lines that were appended have been taken over, content may turn out to
 * be missing: a message that was expunged before the window, say, whose content was on its way out,
 * and that is in a mailbox again. The old file still has it; it is added. If whole records are missing
 * (a mailbox that was gone came back), which the checksums of the mailboxes tell, all begins again.
 *
 * Damage. If a chunk that something rests on cannot be read, the backup is repaired first
 * (lcb_repair.c). Bytes that nobody accounts for, and members that could be read only in part, are set
 * aside, and reported (lcb_compact_aside.c). */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "backup/lcb_compact_int.h"
#include "backup/lcb_repair.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

#define TRIES 3

struct run {
    const struct lcb_compact *how;
    struct lcb_compact_result *result;
    struct lcb_switch *s;
    struct lcb_plan plan;
    int idle; /* it is remembered that there is nothing to do, and no plan was made */
    struct lcb_writer writer;
    struct lcb_aside aside;
    struct buf aside_name;
    int checked; /* the old file was read once already, for the proof of its index */
};

/* ---- the passes ---- */

static int chunk_row(sqlite3_stmt *st, struct lcb_chunk *c)
{
    *c = (struct lcb_chunk){
        .seq = sqlite3_column_int64(st, 0),
        .offset = (uint64_t)sqlite3_column_int64(st, 1),
        .length = (uint64_t)sqlite3_column_int64(st, 2),
        .text_length = (uint64_t)sqlite3_column_int64(st, 3),
    };
    return 1;
}

/* BYTES of the old file are done in the pass that writes; the one that proves is as long. */
static void tell_progress(struct run *run, uint64_t bytes)
{
    if (run->how->progress)
        run->how->progress(run->how->rock, run->checked ? (run->result->old_size + bytes) / 2 : bytes);
}

/* All chunks, each with a look at the one behind it. */
static int go_through(struct run *run, int log)
{
    struct lcb_pass pass = {.p = &run->plan, .w = &run->writer, .log = log, .aside = &run->aside};
    struct sqldb *db = run->plan.b->index->db;
    struct lcb_chunk at, next;
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db->db, "SELECT seq, start, length, text_length FROM chunks WHERE seq<=?"
                                   " ORDER BY seq", -1, &st, NULL) != SQLITE_OK)
        return sqldb_failed(db, "chunks");
    int r = sqldb_bind(st, "i", LCB_POS_SEQ(run->plan.to));
    int step = r ? SQLITE_DONE : sqlite3_step(st);
    int more = step == SQLITE_ROW && chunk_row(st, &at);
    while (!r && more) {
        step = sqlite3_step(st);
        more = step == SQLITE_ROW && chunk_row(st, &next);
        pass.follows = more ? next.text_length : 0;
        r = lcb_store_stopped(run->plan.b->store) ? XERR_SIGNAL : lcb_pass_chunk(&pass, &at);
        if (log)
            tell_progress(run, at.offset + at.length);
        at = next;
    }
    if (!r && step != SQLITE_DONE)
        r = sqldb_failed(db, "chunks");
    sqlite3_finalize(st);
    lcb_pass_fini(&pass);
    return r;
}

static size_t fill_of(const struct lcb_plan *p)
{
    return p->sizes.fill ? p->sizes.fill : LCB_LINE_MAX;
}

/* Where the options of Cyrus 3.x say how chunks are cut, that of the base is as live. */
static size_t base_fill(const struct lcb_plan *p)
{
    size_t fill = p->b->settings->chunk_size;
    return p->sizes.max && p->sizes.max < fill ? (size_t)p->sizes.max : fill;
}

static int write_new(struct run *run)
{
    struct lcb_plan *p = &run->plan;
    struct lcb_writer *w = &run->writer;
    lcb_writer_init(w, run->s);
    w->fill = fill_of(p);
    int64_t waiting = 0;
    int r = lcb_aside_find(&run->aside, p);
    if (!r)
        r = lcb_marks_waiting(p->b->index, &waiting);
    /* What has been lost is not to be seen in the new file: so it says it, lest an index that is made
     * from it alone take that for content that the master has not. */
    w->flags = run->aside.count || waiting ? GZ_LACKS : 0;
    if (!r && p->from) {
        r = go_through(run, 0);
        w->fill = base_fill(p);
        if (!r)
            r = lcb_base_write(p, w);
        w->fill = fill_of(p);
    }
    if (!r)
        r = go_through(run, 1);
    return r ? r : lcb_writer_seal(w, 0);
}

/* ---- content that came back ---- */

struct carry {
    struct run *run;
    struct buf bytes;
    int fd;       /* of a file that holds them, or -1 */
    uint64_t at;  /* bytes that have come */
};

static int carry_piece(void *rock, const void *p, size_t n)
{
    struct carry *c = rock;
    if (c->fd < 0) {
        buf_appendmap(&c->bytes, p, n);
        return 0;
    }
    ssize_t put = vfs_pwrite(c->run->s->vfs, c->fd, p, n, (off_t)c->at);
    c->at += n;
    return put < 0 ? (int)put : 0;
}

static int carry_one(struct run *run, const struct message_guid *guid)
{
    struct carry c = {.run = run, .fd = -1};
    struct lcb_switch *s = run->s;
    uint64_t size = 0;
    int r = lcb_has_content(s->locked, guid, &size);
    if (r <= 0)
        return r;
    r = size > LCB_LINE_MAX ? lcb_store_tmpfile(s->store, &c.fd) : 0;
    if (!r)
        r = lcb_read_content(s->locked, guid, carry_piece, &c);
    if (r == XERR_FORMAT) { /* damaged, and not to be had from here: whoever still has it is asked */
        xlog_warnx("%s: a message that came back cannot be read", s->old->path);
        r = lcb_forget_content(s->locked, guid);
    } else if (!r) {
        r = lcb_log_message(s->made, "default", guid, size,
                            c.fd < 0 ? buf_cstring(&c.bytes) : NULL, c.fd, 0);
    }
    vfs_close(s->vfs, &c.fd);
    buf_free(&c.bytes);
    return r;
}

/* Records that came after the snapshot may name content that did not stay, whether something else of
 * the new file names it already (an expunged record does) or not. LAST: the newest record before
 * them. */
static int carry_over(struct run *run, int64_t last)
{
    struct sqldb *db = run->s->made->index->db;
    struct message_guid guid;
    int r = 0;
    for (;;) {
        sqlite3_stmt *st = sqldb_stmt(db, "SELECT r.id, c.guid FROM records r JOIN contents c ON"
                                          " c.id=r.content WHERE r.id>? AND r.expunged=0 AND"
                                          " c.chunk IS NULL ORDER BY r.id LIMIT 1");
        int more = st && !sqldb_bind(st, "i", last) ? sqldb_step(db, st) : XERR_SQL;
        if (more <= 0)
            return more;
        last = sqlite3_column_int64(st, 0);
        int good = sqlite3_column_bytes(st, 1) == MESSAGE_GUID_LEN;
        if (good)
            memcpy(guid.value, sqlite3_column_blob(st, 1), MESSAGE_GUID_LEN);
        sqlite3_reset(st);
        if (good && (r = carry_one(run, &guid)))
            return r;
    }
}

/* ---- mailboxes that came back ---- */

/* XERR_STALE if a mailbox that did not stay was there again after the snapshot, with the records that
 * it had had: at the end it may be gone once more, so what holds now does not tell. */
static int check_returned(struct run *run)
{
    int64_t one;
    int r = sqldb_int(run->s->old->index->db, &one,
        "SELECT 1 FROM folders f WHERE f.id NOT IN (SELECT id FROM temp.kept) AND EXISTS (SELECT 1 FROM"
        " folder_states WHERE folder=f.id AND since>?1) AND (EXISTS (SELECT 1 FROM records WHERE"
        " folder=f.id AND until IS NULL AND since<=?1 AND expunged=0) OR EXISTS (SELECT 1 FROM records"
        " WHERE folder=f.id AND until>?1 AND since<=?1 AND expunged=0)) LIMIT 1", "i", run->plan.to);
    return r == XERR_NOTFOUND ? 0 : r ? r : XERR_STALE;
}

/* ---- the whole ---- */

static int replace(struct run *run)
{
    struct lcb_switch *s = run->s;
    int64_t last = 0;
    int r = lcb_switch_replay(s);
    if (!r)
        r = lcb_compact_prove(&run->plan, s, &run->writer);
    if (!r)
        r = sqldb_int(s->made->index->db, &last, "SELECT max(id) FROM records", "");
    r = r == XERR_NOTFOUND ? 0 : r;
    lcb_writer_fini(&run->writer);
    if (!r)
        r = lcb_switch_lock(s, run->how->wait_ms);
    if (!r)
        r = check_returned(run);
    if (!r)
        r = carry_over(run, last);
    if (!r)
        r = lcb_aside_write(&run->aside, s->old, s->path, &run->aside_name);
    if (!r)
        r = lcb_switch_commit(s);
    if (r && !s->switched && run->aside_name.len)
        vfs_unlink(s->vfs, buf_cstring(&run->aside_name));
    return r;
}

static void tell_result(struct run *run)
{
    struct stat st;
    struct lcb_compact_result *result = run->result;
    result->copied = run->writer.copied;
    result->written = run->writer.written;
    result->damaged = (int64_t)run->aside.count;
    snprintf(result->aside, sizeof(result->aside), "%s", buf_cstring(&run->aside_name));
    if (vfs_fstat(run->s->vfs, run->s->made->fd, &st) >= 0)
        result->new_size = (uint64_t)st.st_size;
}

/* Make a plan, unless it is known what would come of it, and nobody wants to see it. */
static int make_plan(struct run *run)
{
    const struct lcb_compact *how = run->how;
    struct lcb *old = run->s->old;
    int r = 0;
    run->plan.say = how->say;
    run->plan.rock = how->rock;
    run->plan.remember = !how->force && !how->dry_run && !how->say && !how->account;
    if (run->plan.remember && !run->s->point.unfinished)
        r = lcb_idle_known(old, how->now, NULL);
    run->idle = r == 1;
    if (r)
        return r < 0 ? r : 0;
    return lcb_plan_make(&run->plan, old, how->now);
}

static int begin(struct run *run, struct lcb_store *store)
{
    struct lcb_switch_how how = {
        .userid = run->how->userid,
        .path = run->how->path,
        .wait_ms = run->how->queue_ms,
        .keep_previous = config_getswitch(lcb_store_config(store), IMAPOPT_BACKUP_KEEP_PREVIOUS),
    };
    int r = lcb_switch_begin(store, &how, &run->s);
    if (!r)
        r = make_plan(run);
    if (r)
        return r;
    run->result->old_size = (uint64_t)run->s->point.end;
    if (run->idle)
        return 0;
    /* The plan looked a little later, and what it saw is what is worked on. */
    run->s->point = run->plan.point;
    run->s->taken = run->plan.point.end;
    run->result->account = run->plan.account;
    run->result->old_size = (uint64_t)run->plan.point.end;
    return run->plan.point.unfinished ? XERR_STALE : 0;
}

/* Where something cannot be read nobody knows that nothing is left: that is set aside first. */
static int outcome(struct run *run)
{
    int r = run->plan.account.empty ? lcb_aside_find(&run->aside, &run->plan) : 0;
    if (r)
        return r;
    if (run->plan.account.empty && !run->aside.count)
        return LCB_COMPACT_EMPTY;
    return run->how->force || !lcb_plan_idle(&run->plan) ? LCB_COMPACT_DONE : LCB_COMPACT_SKIPPED;
}

/* PROVEN: the index was held against the data file already; once is enough. That nothing is left of
 * the backup must be what the file says, too: it will be deleted. */
static int once(struct lcb_store *store, const struct lcb_compact *how, int *proven,
                struct lcb_compact_result *result)
{
    struct run run = {.how = how, .result = result};
    memset(result, 0, sizeof(*result));
    int r = begin(&run, store), what = r ? 0 : run.idle ? LCB_COMPACT_SKIPPED : outcome(&run);
    r = r ? r : what < 0 ? what : 0;
    if (!r && what != LCB_COMPACT_SKIPPED && !how->dry_run && !(*proven)++) {
        run.checked = 1;
        r = lcb_compact_prove_index(run.s, how);
    }
    if (!r && what == LCB_COMPACT_DONE && how->say)
        r = lcb_plan_say(&run.plan);
    if (!r && what == LCB_COMPACT_DONE && !how->dry_run) {
        r = lcb_switch_create(run.s);
        if (!r)
            r = write_new(&run);
        if (!r)
            r = replace(&run);
        if (!r)
            tell_result(&run);
    }
    /* What cannot be read of the index is damage like any other of it. */
    if (r == XERR_SQL && run.s && run.s->old && sqldb_damaged(run.s->old->index->db))
        r = XERR_FORMAT;
    lcb_writer_fini(&run.writer);
    lcb_aside_fini(&run.aside);
    buf_free(&run.aside_name);
    buf_free(&run.plan.said);
    lcb_switch_end(&run.s);
    return r ? r : what;
}

/* Something that is to stay cannot be read: what is known of it is written down again, and what is
 * missing will be asked for. The damaged bytes belong to nothing then. Or a proof failed: the index
 * is not what the data file says, or may not be, and is made anew. */
static int repair(struct lcb_store *store, const struct lcb_compact *how,
                  const struct lcb_compact_result *result)
{
    struct lcb_repair repair = {.gone_since = result->account.window};
    int r = lcb_reindex(store, how->userid, how->path, how->queue_ms, how->wait_ms, &repair);
    if (!r)
        xlog_warnx("%s: repaired before it is compacted: %d damaged chunks, %lld records logged again,"
                   " %lld messages are missing", how->userid ? how->userid : how->path, repair.chunks,
                   (long long)repair.records, (long long)repair.messages);
    return r;
}

int lcb_compact(struct lcb_store *store, const struct lcb_compact *options,
                struct lcb_compact_result *result)
{
    struct lcb_compact how = *options;
    int r = XERR_STALE, repaired = 0, proven = 0;
    how.now = how.now ? how.now : (int64_t)time(NULL);
    for (int i = 0; r == XERR_STALE && i < TRIES; i++) {
        r = once(store, &how, &proven, result);
        if ((r == XERR_FORMAT || r == XERR_INTERNAL) && !how.dry_run && !repaired++) {
            r = repair(store, &how, result);
            r = r ? r : XERR_STALE;
        }
    }
    return r;
}
