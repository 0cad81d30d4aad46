/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_repair - the index anew, and what it knew better than the file.
 *
 * The index must say what the readable file says: nobody can restore from a chunk that cannot be
 * read, and an index made anew later would not know of it. So it is made anew now, by the same scan
 * as after a loss. But before it is lost for good, the old index is asked.
 *
 *   1. Scan the file into an empty index. All of it was committed, so whatever cannot be read has
 *      rotted, at the end of the file, too.
 *   2. Chunks that the old index has and the new one has not, or not wholly, are lost. (They are
 *      compared by offset: the numbers of chunks of Cyrus 3.x are counted.) What only they said is
 *      logged again (lcb_relog.c).
 *   3. Marks are carried over. Mailboxes with messages whose content the old index had and the new one
 *      has not are marked CONTENT, and those whose records do not have the client's checksum any more.
 *   4. One commit. If the end of the file is what cannot be read, later readers must see that it was no
 *      crash that tore it: so two groups are written behind it, if need be with lines that mean
 *      nothing.
 *
 * Damaged bytes stay where they are, and are passed over from now on; compaction leaves them
 * behind.
 *
 * As a rule the new index is made beside the old one, while writers go on (lcb_reindex.c). Here it is
 * done under their lock and in place, for when the old index is of no use to them: its rows are
 * replaced in one transaction. It is then open a second time, for reading, and that transaction began
 * before ours, so it shows the old rows until we are done.
 *
 * An index that cannot be read itself is set aside; then the file speaks alone, and what it may
 * have lost is asked for more broadly (lcb_content.c). */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_repair_int.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

/* ---- the old index ---- */

static int pin(struct lcb_index *ix)
{
    int64_t n;
    int r = ix->wal ? sqldb_exec(ix->db, "BEGIN") : XERR_LOCKED;
    return r ? r : sqldb_int(ix->db, &n, "SELECT count(*) FROM meta", "");
}

int lcb_index_check(struct lcb_index *ix)
{
    sqlite3_stmt *st = sqldb_stmt(ix->db, "PRAGMA integrity_check(1)");
    int r = st ? sqldb_step(ix->db, st) : XERR_SQL;
    if (r > 0) {
        const char *said = (const char *)sqlite3_column_text(st, 0);
        r = said && !strcmp(said, "ok") ? 0 : XERR_FORMAT;
        sqlite3_reset(st);
    }
    return r ? r : lcb_index_schema_check(ix);
}

/* One that nothing has been applied to knows nothing: then the file speaks alone. */
static int open_old(struct repair *rp)
{
    struct lcb *b = rp->b;
    int r = lcb_index_commit(b->index);
    if (!r)
        r = lcb_index_getpoint(b->index, &rp->point);
    if (!r)
        r = lcb_index_check(b->index);
    rp->empty = !r && rp->point.last_offset < 0;
    if (rp->empty)
        return 0;
    if (!r)
        r = lcb_index_open(b->index_path, 0, 1, b->settings->index_checkpoint, &rp->old);
    if (!r)
        r = pin(rp->old);
    if (r == XERR_LOCKED || (r == XERR_SQL && sqldb_outside(b->index->db)))
        return r;
    if (r)
        lcb_index_close(&rp->old);
    return 0;
}

/* A copy of it, for whoever wants to look. */
static int keep_old(struct lcb *b)
{
    struct buf path = BUF_INITIALIZER;
    buf_printf(&path, "%s.%lld", b->index_path, (long long)time(NULL));
    vfs_unlink(b->vfs, buf_cstring(&path));
    int r = lcb_index_commit(b->index);
    if (!r)
        r = sqldb_run(b->index->db, "VACUUM INTO ?", "t", buf_cstring(&path));
    buf_free(&path);
    return r;
}

/* ---- the file ---- */

static int rescan(struct repair *rp)
{
    struct lcb *b = rp->b;
    struct lcb_mark_point start = {.last_offset = -1};
    struct stat st;
    int r = vfs_fstat(b->vfs, b->fd, &st);
    if (!r)
        r = lcb_index_begin(b->index);
    if (!r)
        r = lcb_index_clear(b->index);
    if (r)
        return r;
    lcb_recover_scan(b, &start, st.st_size, &rp->scan);
    rp->scan.committed = rp->point.end;
    rp->scan.damage = rp->rp->damage;
    rp->scan.chunk = rp->rp->chunk;
    rp->scan.rock = rp->rp->rock;
    r = lcb_scan(&rp->scan);
    if (!r && rp->scan.at < st.st_size)
        r = lcb_tail_aside(b, rp->scan.at, st.st_size, "commit");
    if (r)
        return r;
    lcb_recover_ready(b, &rp->scan);
    if (!b->df.id)
        b->df.id = rp->point.id;
    if (b->df.seq <= rp->point.seq) /* numbers of lost chunks are not used again */
        b->df.seq = (uint32_t)rp->point.seq + 1;
    lcb_datafile_init(&b->df, b->vfs, b->fd, b->settings->chunk_size, b->settings->level);
    b->first_own = b->df.seq;
    buf_reset(&b->whole);
    return 0;
}

/* ---- marks ---- */

static int mark_content(struct repair *rp, const char *uniqueid)
{
    return sqldb_run(rp->b->index->db, "UPDATE folders SET mark=?1 WHERE uniqueid=?2 AND mark<>?3",
                     "iti", (int64_t)LCB_MARK_CONTENT, uniqueid, (int64_t)LCB_MARK_RESEND);
}

/* Where the file came from, and what compaction has merged: as true as before. */
static int carry_notes(struct repair *rp)
{
    sqlite3_stmt *st = sqldb_stmt(rp->old->db, "SELECT key, value FROM meta WHERE key IN ('made_end',"
                                  " 'made_from', 'made_from_id', 'made_from_end', 'made_from_check',"
                                  " 'merged')");
    int r = st ? 0 : XERR_SQL, more = 0;
    while (!r && (more = sqldb_step(rp->old->db, st)) > 0) {
        const char *key = (const char *)sqlite3_column_text(st, 0);
        static const char sql[] = "INSERT OR REPLACE INTO meta VALUES (?,?)";
        r = sqlite3_column_type(st, 1) == SQLITE_INTEGER
                ? sqldb_run(rp->b->index->db, sql, "ti", key, sqlite3_column_int64(st, 1))
                : sqldb_run(rp->b->index->db, sql, "tt", key,
                            (const char *)sqlite3_column_text(st, 1));
    }
    return r ? r : more;
}

int lcb_repair_carry(struct repair *rp)
{
    sqlite3_stmt *st = sqldb_stmt(rp->old->db, "SELECT uniqueid, mark FROM folders WHERE mark<>0");
    int r = st ? carry_notes(rp) : XERR_SQL, more = 0;
    while (!r && (more = sqldb_step(rp->old->db, st)) > 0)
        r = sqldb_run(rp->b->index->db, "UPDATE folders SET mark=?1 WHERE uniqueid=?2 AND (mark=0 OR"
                      " ?1=?3)", "iti", sqlite3_column_int64(st, 1),
                      (const char *)sqlite3_column_text(st, 0), (int64_t)LCB_MARK_RESEND);
    return r ? r : more;
}

/* Had the old index the content of the row at hand? */
static int had_content(struct repair *rp, sqlite3_stmt *st)
{
    int64_t one;
    int r = sqldb_int(rp->old->db, &one, "SELECT 1 FROM contents WHERE guid=? AND chunk IS NOT NULL",
                      "b", sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
    return r == XERR_NOTFOUND ? 0 : r ? r : 1;
}

static int mark_lost_content(struct repair *rp)
{
    sqlite3_stmt *st = sqldb_stmt(rp->b->index->db,
        "SELECT c.guid, f.uniqueid FROM contents c JOIN records r ON r.content=c.id JOIN folders f"
        " ON f.id=r.folder WHERE c.chunk IS NULL AND r.until IS NULL AND r.expunged=0 AND EXISTS"
        " (SELECT 1 FROM folder_states s WHERE s.folder=f.id AND s.until IS NULL)");
    int r = st ? 0 : XERR_SQL, more = 0;
    while (!r && (more = sqldb_step(rp->b->index->db, st)) > 0) {
        r = had_content(rp, st);
        if (r <= 0)
            continue;
        rp->rp->messages++;
        r = mark_content(rp, (const char *)sqlite3_column_text(st, 1));
    }
    return r ? r : more;
}

/* Records that lost chunks had and the old index did not have any more, or not rightly. */
static int mark_differing(struct repair *rp)
{
    sqlite3_stmt *st = sqldb_stmt(rp->b->index->db,
        "SELECT f.uniqueid, f.crc FROM folders f JOIN folder_states s ON s.folder=f.id AND s.until IS"
        " NULL WHERE s.sync_crc<>f.crc AND f.mark=0");
    int r = st ? 0 : XERR_SQL, more = 0;
    while (!r && (more = sqldb_step(rp->b->index->db, st)) > 0) {
        int64_t crc = -1;
        const char *uniqueid = (const char *)sqlite3_column_text(st, 0);
        r = sqldb_int(rp->old->db, &crc, "SELECT crc FROM folders WHERE uniqueid=?", "t", uniqueid);
        r = r == XERR_NOTFOUND ? 0 : r;
        if (!r && crc != sqlite3_column_int64(st, 1))
            r = mark_content(rp, uniqueid);
    }
    return r ? r : more;
}

/* Without an old index: what is referred to and not there may have been lost. */
static int mark_alone(struct repair *rp)
{
    int lost = rp->scan.rotten || rp->scan.unsound || rp->scan.lacks;
    int r = lcb_marks_set(rp->b->index, 0, lost);
    if (!r && lost)
        r = lcb_marks_waiting(rp->b->index, &rp->rp->messages);
    return r;
}

int lcb_repair_lacking(struct repair *rp)
{
    int r = mark_lost_content(rp);
    return r ? r : mark_differing(rp);
}

static int set_marks(struct repair *rp)
{
    if (!rp->old)
        return mark_alone(rp);
    int r = lcb_repair_carry(rp);
    return r ? r : lcb_repair_lacking(rp);
}

/* ---- all of it ---- */

int lcb_repair_commit(struct repair *rp)
{
    struct lcb *b = rp->b;
    struct lcb_mark_point p;
    int r = rp->scan.forced && !lcb_dirty(b) ? lcb_log_nothing(b) : 0;
    if (!r && !lcb_dirty(b)) {
        lcb_scan_point(&rp->scan, &p);
        r = lcb_index_setpoint(b->index, &p);
    }
    if (!r)
        r = lcb_commit(b);
    if (!r && rp->scan.forced)
        r = lcb_log_nothing(b);
    return r ? r : lcb_commit(b);
}

static int repair(struct repair *rp)
{
    int r = rescan(rp);
    if (!r && rp->old)
        r = lcb_seqs_lost(rp->old, rp->b->index, INT64_MAX, &rp->lost);
    if (!r && rp->lost.n)
        r = lcb_relog(rp->b, rp->old, &rp->lost, rp->rp);
    if (!r)
        r = set_marks(rp);
    return r ? r : lcb_repair_commit(rp);
}

/* The index cannot be changed, it is so bad: once more with an empty one. */
static int start_over(struct repair *rp)
{
    lcb_index_close(&rp->old);
    rp->lost.n = 0;
    rp->rp->mailboxes = rp->rp->records = rp->rp->others = rp->rp->messages = 0;
    int r = lcb_renew_index(rp->b, "cannot be read");
    return r ? r : repair(rp);
}

void lcb_repair_end(struct repair *rp, int r)
{
    struct lcb_repair *options = rp->rp;
    options->chunks = rp->scan.rotten;
    options->lost_lines = rp->scan.lost;
    options->unsound = rp->scan.unsound;
    free(rp->lost.list);
    rp->lost = (struct lcb_seqs){NULL, 0};
    if (!r)
        xlog_info("%s: index made anew: %d chunks cannot be read, %d lines were not understood; %lld"
                  " mailboxes, %lld records and %lld other lines were logged again, %lld messages are"
                  " missing", rp->b->path, rp->scan.rotten, rp->scan.lost,
                  (long long)options->mailboxes, (long long)options->records,
                  (long long)options->others, (long long)options->messages);
}

int lcb_repair(struct lcb *b, struct lcb_repair *options)
{
    struct repair rp = {.b = b, .rp = options, .point = {.last_offset = -1}};
    if (!b->writable || lcb_dirty(b))
        return XERR_PARAM;
    int r = options->maintained ? 0 : lcb_lock_maintenance(b->store, b->fd, 0);
    if (r)
        return r;
    xlog_info("%s: making the index anew from the data file", b->path);
    r = open_old(&rp);
    if (!r && options->keep_index && rp.old)
        r = keep_old(b);
    if (!r && !rp.old && !rp.empty && (r = lcb_renew_index(b, "damaged")) == 0)
        r = lcb_index_begin(b->index);
    if (!r)
        r = repair(&rp);
    if ((r == XERR_SQL || r == XERR_FORMAT) && !sqldb_outside(b->index->db) && !lcb_dirty(b))
        r = start_over(&rp);
    options->no_index = !rp.old;
    lcb_index_close(&rp.old);
    lcb_repair_end(&rp, r);
    if (r)
        lcb_rollback(b);
    return r;
}
