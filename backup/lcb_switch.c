/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_switch - put a new pair of files in the place of an old one, without a moment at which a crash
 * would leave neither, and without keeping writers out for longer than the last few bytes take.
 *
 * The old backup is open for reading. Its index says how far it speaks (POINT); what is before that
 * never changes, so the new file is made from it in peace. Writers go on appending behind it. Members
 * appended meanwhile are copied whole to the end of the new file, and replayed into its index: first
 * once without the lock, then, under the writers' lock, what is left.
 *
 * Maintenance excludes itself by flock(2) on the old data file; that has nothing to do with the
 * writers' lock (fcntl).
 *
 * Order, for a registered backup:
 *
 *   1. <new>.new and <new>.new.index are made, and durable: the index is one file, because it never
 *      was in WAL mode;
 *   2. index and data file get their names, in this order, each made durable;
 *   3. backups.db is switched: this is the moment;
 *   4. the old pair is removed or renamed, data file first.
 *
 * Writers that waited for the lock look at backups.db again and find the new file; readers that came
 * too late find no file, and look again, too.
 *
 * After a crash before 3 there are a pair that no record names and, in its index, the note that it was
 * made from the one that is registered; after 3 there is the old pair, and the same note in the index
 * of the one that is. By these notes, and only by them, is a leftover known (lcb_switch_names.c).
 *
 * If backups.db cannot be switched it is asked what it says; if that cannot be told, nothing is
 * touched, and the next run finds out.
 *
 * A file that is not in backups.db is replaced by rename(2). Its index is live, so that one is not
 * renamed over, but becomes a copy of the new one in a transaction, still under the lock, which is held
 * on the new file from its beginning. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "backup/lcb_db.h"
#include "backup/lcb_scan.h"
#include "backup/lcb_switch.h"
#include "backup/lcb_walk.h"
#include "lib/filelock.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

/* Without the lock until less than this is left, but not for ever. */
#define REST (1 << 20)
#define ROUNDS 5

/* ---- begin ---- */

static int open_old(struct lcb_switch *s)
{
    const char *userid = s->how.userid;
    int r = userid ? lcb_open(s->store, userid, 0, 0, &s->old)
                   : lcb_open_file(s->store, s->how.path, 0, 0, &s->old);
    if (!r)
        r = lcb_lock_maintenance(s->store, s->old->fd, s->how.wait_ms);
    if (!r)
        r = filelock_same(s->old->fd, s->old->path);
    if (r == 1 && lcb_index_moved(s->old->index))
        r = 0; /* its index was made anew meanwhile */
    return r < 0 ? r : r ? 0 : XERR_STALE;
}

/* A last member without an end (Cyrus 3.x) gets one, as by any writer. */
static int finish_tail(struct lcb_switch *s)
{
    struct lcb *b = NULL;
    int r = lcb_open_file(s->store, s->old->path, LCB_WRITE, 0, &b);
    lcb_close(&b);
    return r ? r : lcb_index_getpoint(s->old->index, &s->point);
}

int lcb_switch_begin(struct lcb_store *store, const struct lcb_switch_how *how,
                     struct lcb_switch **sp)
{
    struct lcb_switch *s = xzmalloc(sizeof(*s));
    s->store = store;
    s->vfs = lcb_store_vfs(store);
    s->how = *how;
    s->fd = -1;
    int r = XERR_STALE;
    for (int i = 0; r == XERR_STALE && i < ROUNDS; i++) {
        lcb_close(&s->old);
        r = open_old(s); /* again if another run switched in between */
    }
    if (!r)
        r = lcb_index_getpoint(s->old->index, &s->point);
    if (!r && s->point.unfinished)
        r = finish_tail(s);
    if (!r && how->userid)
        r = lcb_switch_finish_dead(s);
    if (r) {
        lcb_switch_end(&s);
        return r;
    }
    s->taken = s->point.end;
    *sp = s;
    return 0;
}

/* ---- create ---- */

/* The new file, locked against writers and against those who clean up. */
static int create_file(struct lcb_switch *s)
{
    char *name = xasprintf("%s.new", s->path);
    int r = vfs_mkparents(s->vfs, name);
    if (r >= 0)
        r = vfs_open(s->vfs, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (r >= 0) {
        s->fd = r;
        r = lcb_lock_maintenance(s->store, s->fd, 0);
        if (!r)
            r = lcb_lock_writers(s->store, s->fd, 0);
        if (!r)
            r = filelock_same(s->fd, name) == 1 ? 0 : XERR_LOCKED;
    } else if (r == -EEXIST) {
        r = XERR_LOCKED; /* it was not to be removed, so somebody is at it */
    }
    free(name);
    return r;
}

static int need_id(struct lcb_switch *s)
{
    if (s->how.same_id) {
        s->id = s->point.id;
        return 0;
    }
    while (!s->id || s->id == s->point.id)
        if (getrandom(&s->id, sizeof(s->id), 0) < 0 && errno != EINTR)
            return -errno;
    return 0;
}

int lcb_switch_create(struct lcb_switch *s)
{
    s->dir = s->how.dir ? xstrdup(s->how.dir) : lcb_directory(s->old->path);
    int r = lcb_switch_sweep(s);
    if (!r)
        r = need_id(s);
    if (!r && s->how.userid)
        r = lcb_switch_newname(s->vfs, s->dir, s->how.userid, &s->path);
    else if (!r)
        s->path = xstrdup(s->old->path);
    return r ? r : create_file(s);
}

int lcb_switch_copy(struct lcb_switch *s)
{
    int r = lcb_switch_raw(s, 0, s->point.end);
    s->seq = (uint32_t)s->point.seq;
    return r;
}

/* ---- the new index ---- */

/* All that is new in the new file must be readable. Only what was copied as it was may have been
 * damaged before (OLD_DAMAGE); then it is for the caller to compare, if it can be read to its end. */
static int scan_new(struct lcb_switch *s, int old_damage, struct lcb_scan *scan)
{
    int r = lcb_scan(scan);
    if (r || (scan->at == s->end && (old_damage || !(scan->rotten + scan->unsound + scan->lost))))
        return r;
    if (old_damage)
        return XERR_FORMAT;
    xlog_errorx("%s: not all of the %lld bytes that were written can be read again: given up",
                s->made->path, (long long)s->end);
    return XERR_INTERNAL;
}

static int replay(struct lcb_switch *s, int old_damage)
{
    struct lcb_mark_point p;
    struct lcb_scan scan;
    struct lcb *b = s->made;
    int r = vfs_fdatasync(s->vfs, s->fd);
    if (!r)
        r = lcb_index_begin(b->index);
    if (!r)
        r = lcb_index_getpoint(b->index, &p);
    if (r)
        return r;
    lcb_recover_scan(b, &p, s->end, &scan);
    r = scan_new(s, old_damage, &scan);
    lcb_scan_point(&scan, &p);
    if (!r && old_damage)
        r = lcb_history_carry(s->old->index, b->index);
    if (!r)
        r = lcb_index_setpoint(b->index, &p);
    if (!r)
        r = lcb_index_commit(b->index);
    if (r)
        return r;
    lcb_recover_ready(b, &scan);
    lcb_recovered(b);
    return 0;
}

int lcb_switch_replay(struct lcb_switch *s)
{
    char *name = xasprintf("%s.new", s->path);
    int r = lcb_new(s->store, s->how.userid ? s->how.userid : "", name, s->fd, &s->made);
    free(name);
    if (r)
        return r;
    s->made->index->single = 1;
    s->shift = (int64_t)s->seq - s->point.seq;
    s->merged = s->seq;
    return replay(s, s->how.same_id);
}

/* ---- what was appended meanwhile ---- */

static int take_over(struct lcb_switch *s, off_t to)
{
    if (to == s->taken)
        return 0;
    int r = to < s->taken ? XERR_STALE : lcb_switch_members(s, s->taken, to);
    if (!r) {
        s->taken = to;
        r = replay(s, 0);
    }
    return r;
}

static int without_lock(struct lcb_switch *s)
{
    struct lcb_mark_point p;
    for (int i = 0; i < ROUNDS; i++) {
        int r = lcb_index_getpoint(s->old->index, &p);
        if (r || p.unfinished || p.end - s->taken < REST)
            return r;
        r = take_over(s, p.end);
        if (r)
            return r;
    }
    return 0;
}

static int lock_old(struct lcb_switch *s, int wait_ms)
{
    int r = s->how.userid ? lcb_open(s->store, s->how.userid, LCB_WRITE, wait_ms, &s->locked)
                          : lcb_open_file(s->store, s->how.path, LCB_WRITE, wait_ms, &s->locked);
    if (r)
        return r;
    if (strcmp(s->locked->path, s->old->path) || filelock_same(s->old->fd, s->old->path) != 1)
        return XERR_STALE;
    return s->point.check && s->point.check != lcb_check_end(s->vfs, s->old->fd, s->point.end)
               ? XERR_STALE : 0;
}

/* Both must have the same mailboxes now, with the same records as far as their checksums tell. If
 * nothing came meanwhile, to begin again is no help: it is the old index, or what finds its rows. */
static int same_now(struct lcb_switch *s)
{
    int differ = s->taken == s->point.end ? XERR_FORMAT : XERR_STALE;
    static const char sql[] = "SELECT f.uniqueid, f.crc, s.header FROM folders f JOIN folder_states s"
                              " ON s.folder=f.id AND s.until IS NULL ORDER BY f.uniqueid";
    sqlite3_stmt *a = sqldb_stmt(s->locked->index->db, sql);
    sqlite3_stmt *b = sqldb_stmt(s->made->index->db, sql);
    int more = 1, r = a && b ? 0 : XERR_SQL;
    while (!r && more) {
        more = sqldb_step(s->locked->index->db, a);
        int other = sqldb_step(s->made->index->db, b);
        if (more < 0 || other < 0)
            r = XERR_SQL;
        else if (more != other)
            r = differ;
        for (int i = 0; !r && more && i < 3; i++) {
            const void *x = sqlite3_column_blob(a, i), *y = sqlite3_column_blob(b, i);
            int n = sqlite3_column_bytes(a, i);
            if (n != sqlite3_column_bytes(b, i) || (n && memcmp(x, y, (size_t)n)))
                r = differ;
        }
    }
    if (a)
        sqlite3_reset(a);
    if (b)
        sqlite3_reset(b);
    return r;
}

int lcb_switch_lock(struct lcb_switch *s, int wait_ms)
{
    int r = without_lock(s);
    if (!r)
        r = lock_old(s, wait_ms);
    if (!r)
        r = take_over(s, s->locked->df.end);
    return r ? r : same_now(s);
}

/* ---- commit ---- */

/* What is not in the data file. */
static int copy_marks(struct lcb_switch *s)
{
    struct sqldb *from = s->locked->index->db, *to = s->made->index->db;
    int r = sqldb_exec(to, "UPDATE folders SET mark=0 WHERE mark<>0"), more = 0;
    sqlite3_stmt *st = sqldb_stmt(from, "SELECT uniqueid, mark FROM folders WHERE mark<>0");
    if (!st)
        return XERR_SQL;
    while (!r && (more = sqldb_step(from, st)) > 0)
        r = sqldb_run(to, "UPDATE folders SET mark=?2 WHERE uniqueid=?1", "ti",
                      (const char *)sqlite3_column_text(st, 0), sqlite3_column_int64(st, 1));
    sqlite3_reset(st);
    return r ? r : more;
}

/* The notes by which leftovers are known, and up to where there is nothing small to be merged. */
static int note(struct lcb_switch *s)
{
    struct lcb_mark_point was;
    struct sqldb *db = s->made->index->db;
    int r = lcb_index_getpoint(s->locked->index, &was);
    if (!r)
        r = sqldb_run(db, "INSERT OR REPLACE INTO meta VALUES ('made_end',?),('made_from',?),"
                          "('made_from_id',?),('made_from_end',?),('made_from_check',?)", "itiii",
                      (int64_t)s->made->df.end, s->old->path, (int64_t)was.id, (int64_t)was.end,
                      lcb_check_end(s->vfs, s->old->fd, was.end));
    if (!r && !s->how.same_id)
        r = sqldb_run(db, "INSERT OR REPLACE INTO meta VALUES ('merged',?)", "i",
                      (int64_t)s->merged);
    return r;
}

static int finish_index(struct lcb_switch *s)
{
    int r = lcb_commit(s->made);
    if (!r)
        r = lcb_index_begin(s->made->index);
    if (!r)
        r = copy_marks(s);
    if (!r)
        r = note(s);
    return r ? r : lcb_index_commit(s->made->index);
}

/* <new>.new.index and <new>.new become <new>.index and <new>. */
static int give_names(struct lcb_switch *s)
{
    char *index = xasprintf("%s.index", s->path);
    int r = vfs_rename(s->vfs, s->made->index_path, index);
    if (!r)
        r = vfs_fsyncparent(s->vfs, index);
    if (!r)
        r = vfs_rename(s->vfs, s->made->path, s->path);
    if (!r)
        r = vfs_fsyncparent(s->vfs, s->path);
    free(index);
    return r;
}

static int switch_record(struct lcb_switch *s)
{
    struct lcb_db *db = lcb_store_db(s->store);
    char *now = NULL;
    int r = lcb_db_replace(db, s->how.userid, s->old->path, s->path);
    if (!r) {
        s->switched = 1;
        return 0;
    }
    /* A commit that failed may have happened. */
    int asked = lcb_db_find(db, s->how.userid, &now);
    s->switched = -1;
    if (r == XERR_STALE || r == XERR_NOTFOUND || (!asked && !strcmp(now, s->old->path)))
        xlog_errorx("%s: backups.db cannot be switched to %s: %s", s->old->path, s->path,
                    error_message(r));
    else
        xlog_errorx("%s: it is not known whether backups.db was switched to %s: %s", s->old->path,
                    s->path, error_message(r));
    free(now);
    return r;
}

/* The old pair goes. That cannot make the switch undone: what is left over, the next run removes. */
static void retire_old(struct lcb_switch *s)
{
    int r;
    if (s->how.keep_previous) /* all of it in one file; readers may be in the way */
        (void)sqlite3_wal_checkpoint_v2(s->locked->index->db->db, NULL, SQLITE_CHECKPOINT_TRUNCATE,
                                        NULL, NULL);
    lcb_index_close(&s->locked->index);
    r = lcb_switch_retire(s->vfs, s->old->path, s->how.keep_previous);
    if (r)
        xlog_warnx("%s: has been replaced by %s but cannot be %s: %s", s->old->path, s->path,
                   s->how.keep_previous ? "renamed" : "removed", error_message(r));
}

static int commit_record(struct lcb_switch *s)
{
    lcb_index_close(&s->made->index);
    int r = give_names(s);
    if (!r)
        r = switch_record(s);
    if (!r)
        retire_old(s);
    return r;
}

/* The live index becomes a copy of the new one, in one transaction. */
static int fill_index(struct lcb_switch *s)
{
    struct sqldb *to = s->locked->index->db;
    lcb_index_rollback(s->locked->index);
    sqlite3_backup *copy = sqlite3_backup_init(to->db, "main", s->made->index->db->db, "main");
    int r = copy ? sqlite3_backup_step(copy, -1) : SQLITE_ERROR;
    if (copy)
        sqlite3_backup_finish(copy);
    return r == SQLITE_DONE ? 0 : sqldb_failed(to, "filling the index");
}

/* The index stays where it is, so its state of now is copied. */
static int copy_index(struct lcb_switch *s, const char *to)
{
    struct sqldb *db = s->locked->index->db;
    int r = lcb_index_rollback(s->locked->index);
    return r ? r : sqldb_run(db, "VACUUM INTO ?", "t", to);
}

static int keep_both(struct lcb_switch *s)
{
    long long time = lcb_switch_freetime(s->vfs, s->path);
    char *data = xasprintf("%s.%lld", s->path, time);
    char *index = xasprintf("%s.index.%lld", s->path, time);
    int r = copy_index(s, index);
    if (!r)
        r = lcb_switch_link(s->vfs, s->path, time);
    if (r) {
        vfs_unlink(s->vfs, data);
        vfs_unlink(s->vfs, index);
    }
    free(data);
    free(index);
    return r;
}

/* Not in backups.db: the new file takes the name of the old one, and then the index follows. If that
 * does not come to its end the index is of another file, and the next opening makes it anew. */
static int commit_rename(struct lcb_switch *s)
{
    int r = s->how.keep_previous ? keep_both(s) : 0;
    if (!r)
        r = vfs_rename(s->vfs, s->made->path, s->path);
    if (!r) {
        s->switched = 1;
        r = vfs_fsyncparent(s->vfs, s->path);
    }
    if (r)
        return r;
    if (fill_index(s))
        xlog_warnx("%s: its index will be made anew at the next opening", s->path);
    lcb_index_close(&s->made->index);
    lcb_index_close(&s->locked->index);
    return lcb_switch_rmindex(s->vfs, s->made->path);
}

int lcb_switch_commit(struct lcb_switch *s)
{
    int r = finish_index(s);
    if (!r)
        r = s->how.userid ? commit_record(s) : commit_rename(s);
    if (!r)
        xlog_info("%s: replaced by %s, %lld bytes instead of %lld", s->old->path, s->path,
                  (long long)s->made->df.end, (long long)s->locked->df.end);
    return r;
}

/* ---- end ---- */

/* Nothing of it was switched to. */
static void remove_new(struct lcb_switch *s)
{
    char *name = xasprintf("%s.new", s->path);
    lcb_switch_rmindex(s->vfs, name);
    if (s->how.userid && lcb_switch_exists(s->vfs, name) == 0) {
        lcb_switch_rmindex(s->vfs, s->path);
        vfs_unlink(s->vfs, s->path);
    } else {
        vfs_unlink(s->vfs, name);
        if (s->how.userid)
            lcb_switch_rmindex(s->vfs, s->path);
    }
    free(name);
}

void lcb_switch_end(struct lcb_switch **sp)
{
    struct lcb_switch *s = *sp;
    int made = s && s->fd >= 0;
    if (!s)
        return;
    if (s->made)
        lcb_index_close(&s->made->index);
    if (made && !s->switched)
        remove_new(s);
    if (s->made)
        lcb_close(&s->made);
    else
        vfs_close(s->vfs, &s->fd);
    lcb_close(&s->locked);
    lcb_close(&s->old);
    free(s->path);
    free(s->dir);
    free(s);
    *sp = NULL;
}
