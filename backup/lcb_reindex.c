/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_reindex - the index anew, while writers go on.
 *
 * Reading a large data file takes a while, and what was committed never changes. So the new index is
 * made beside the old one, as <data>.new.index, from the file up to its last commit; only the lock of
 * maintenance is held. What is appended meanwhile follows in rounds, and most of what a repair looks
 * for (lcb_repair.c) is looked for then, too. Only then writers are locked out: for the last few
 * bytes, for what has to be logged again, if anything, and for the change of files.
 *
 * That is a moment without an index:
 *
 *   1. the old index goes, or gets its other name (keep_index), and that is made durable;
 *   2. what SQLite keeps beside it goes, and that is made durable: the WAL of one index would be taken
 *      for that of the other;
 *   3. the new one gets its name.
 *
 * After a crash before 1 there is the old index and a leftover that the next run removes; between 1
 * and 3 there is none, and the next writer does what is missing (lcb_open.c). The data file already
 * says whatever only the old index knew.
 *
 * Nobody but readers has the old index open then, because writers have it only under the lock. They
 * go on with the file that they have: what it says of is still there. But SQLite opens what is beside
 * an index by name, and later than the index. Therefore a reader asks, when all is open, whether the
 * index still has its name (lcb_index_moved), and otherwise begins again; and the new one is in WAL
 * mode before it gets the name, so that there is never a rollback journal that somebody could take for
 * one of his own. Who looks in that moment waits for another (lcb_open.c).
 *
 * Writers open the index when they have the lock, and so find the new one. Positions in it are the
 * same.
 *
 * An index that is missing, damaged or another file's is of no use to writers either. Then it is made
 * under their lock, as ever. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_db.h"
#include "backup/lcb_repair_int.h"
#include "backup/lcb_switch.h"
#include "lib/filelock.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

/* Without the lock until less than this is left, but not for ever. */
#define REST (1 << 20)
#define ROUNDS 5
#define TRIES 3
#define NO_USE 1 /* the old index is none */
#define CACHE "PRAGMA cache_size=-16384"

struct online {
    struct lcb_store *store;
    struct vfs *vfs;
    const char *userid;     /* or NULL */
    char *path, *made_path; /* of the data file, and <data>.new */
    int queue_ms, wait_ms;
    int fd;                 /* the data file, with the lock of maintenance, until MADE has it */
    struct lcb_index *live; /* for reading, until writers are locked out */
    struct lcb *made;       /* the data file with the new index */
    struct lcb *locked;
    struct repair rp;
    int judged;             /* marks were set, and nothing was lost */
    off_t judged_to;        /* in what had been written up to here */
    int begun;              /* the new index may be there */
    int retired;            /* the old index may be gone, so the new one stays in any case */
};

/* ---- begin ---- */

static int still_meant(struct online *o)
{
    int r = filelock_same(o->fd, o->path);
    if (r == 1)
        return lcb_db_still(lcb_store_db(o->store), o->userid ? o->userid : "", o->path);
    return r ? r : XERR_STALE;
}

static int open_data(struct online *o, const char *path)
{
    int r = o->userid ? lcb_db_find(lcb_store_db(o->store), o->userid, &o->path) : 0;
    if (r)
        return r;
    if (!o->userid)
        o->path = xstrdup(path);
    o->made_path = xasprintf("%s.new", o->path);
    o->fd = vfs_open(o->vfs, o->path, O_RDONLY, 0);
    if (o->fd < 0)
        return o->fd;
    r = lcb_lock_maintenance(o->store, o->fd, o->queue_ms);
    return r ? r : still_meant(o);
}

static int open_live(struct online *o)
{
    struct lcb_mark_point *p = &o->rp.point;
    char *name = xasprintf("%s.index", o->path);
    int r = lcb_index_open(name, 0, 1, 0, &o->live);
    free(name);
    if (!r)
        r = lcb_index_getpoint(o->live, p);
    if (!r)
        r = lcb_index_check(o->live);
    if (r == XERR_LOCKED || (r == XERR_SQL && (!o->live || sqldb_outside(o->live->db))))
        return r;
    return r || p->unfinished || p->last_offset < 0 || !lcb_point_fits(o->vfs, o->fd, p) ? NO_USE : 0;
}

/* ---- without the lock ---- */

/* The new index speaks of the file up to TO, where there was a commit. */
static int advance(struct online *o, struct lcb_index *ix, off_t to)
{
    struct lcb_scan *s = &o->rp.scan;
    struct lcb_mark_point p;
    s->size = s->committed = to;
    int r = lcb_index_begin(ix);
    if (!r)
        r = lcb_scan(s);
    if (!r && (s->at != to || s->unfinished))
        r = XERR_STALE;
    lcb_scan_point(s, &p);
    if (!r)
        r = lcb_index_setpoint(ix, &p);
    return r ? r : lcb_index_commit(ix);
}

static int build(struct online *o)
{
    static const struct lcb_mark_point start = {.last_offset = -1};
    struct lcb_repair *rp = o->rp.rp;
    lcb_switch_rmindex(o->vfs, o->made_path); /* left by a run that died */
    o->begun = 1;
    int r = lcb_new(o->store, o->userid ? o->userid : "", o->made_path, o->fd, &o->made);
    if (r)
        return r;
    o->fd = -1;
    o->made->index->single = 1;
    r = sqldb_exec(o->made->index->db, CACHE);
    lcb_recover_scan(o->made, &start, 0, &o->rp.scan);
    o->rp.scan.path = o->path;
    o->rp.scan.damage = rp->damage;
    o->rp.scan.chunk = rp->chunk;
    o->rp.scan.rock = rp->rock;
    return r ? r : advance(o, o->made->index, o->rp.point.end);
}

static int catch_up(struct online *o)
{
    struct lcb_mark_point p;
    for (int i = 0; i < ROUNDS; i++) {
        int r = lcb_index_getpoint(o->live, &p);
        if (r || p.end - o->rp.scan.at < REST)
            return r;
        r = advance(o, o->made->index, p.end);
        if (r)
            return r;
    }
    return 0;
}

/* What did the old index know better? Nothing, as a rule. */
static int judge_now(struct online *o)
{
    struct repair *rp = &o->rp;
    struct lcb_mark_point p;
    int r = lcb_index_getpoint(o->live, &p);
    if (!r)
        r = p.end < rp->scan.at ? XERR_STALE : advance(o, o->made->index, p.end);
    if (!r)
        r = lcb_seqs_lost(o->live, o->made->index, INT64_MAX, &rp->lost);
    if (r || rp->lost.n)
        return r;
    rp->b = o->made;
    rp->old = o->live;
    r = lcb_index_begin(o->made->index);
    if (!r)
        r = lcb_repair_lacking(rp);
    if (!r)
        r = lcb_index_commit(o->made->index);
    rp->b = NULL;
    rp->old = NULL;
    o->judged = !r;
    o->judged_to = rp->scan.at;
    return r;
}

/* Both must be of one moment. Without a WAL that would keep writers out. */
static int judge(struct online *o)
{
    if (!o->live->wal)
        return 0;
    int r = sqldb_exec(o->live->db, "BEGIN");
    if (!r)
        r = judge_now(o);
    sqldb_exec(o->live->db, "ROLLBACK");
    return r;
}

/* ---- with it ---- */

static int lock(struct online *o)
{
    struct lcb_mark_point p = {.last_offset = -1};
    int r = o->userid ? lcb_open(o->store, o->userid, LCB_WRITE, o->wait_ms, &o->locked)
                      : lcb_open_file(o->store, o->path, LCB_WRITE, o->wait_ms, &o->locked);
    if (r)
        return r;
    if (o->rp.rp->locked)
        o->rp.rp->locked(o->rp.rp->rock, o->locked->path);
    int moved = lcb_index_moved(o->live), fits;
    lcb_index_close(&o->live);
    r = lcb_index_getpoint(o->made->index, &p);
    fits = p.last_offset < 0 || lcb_point_fits(o->vfs, o->locked->fd, &p); /* or none could be read */
    if (!r && (moved || strcmp(o->locked->path, o->path) || filelock_same(o->made->fd, o->path) != 1 ||
               o->locked->df.end < p.end || !fits))
        r = XERR_STALE;
    return r;
}

/* The handle of the locked backup gets the new index. */
static int change_index(struct online *o)
{
    struct lcb *b = o->locked;
    struct repair *rp = &o->rp;
    int r = lcb_index_commit(b->index);
    if (!r)
        r = advance(o, o->made->index, b->df.end);
    if (r)
        return r;
    rp->b = b;
    rp->old = b->index;
    b->index = o->made->index;
    o->made->index = NULL;
    if (b->df.id && b->df.seq > rp->scan.seq)
        return lcb_index_begin(b->index);
    b->df.id = b->df.id ? b->df.id : rp->scan.id;
    if (b->df.seq <= rp->scan.seq)
        b->df.seq = (uint32_t)rp->scan.seq + 1;
    lcb_datafile_init(&b->df, b->vfs, b->fd, b->settings->chunk_size, b->settings->level);
    b->first_own = b->df.seq;
    return lcb_index_begin(b->index);
}

static int finish_repair(struct online *o, int damaged)
{
    struct repair *rp = &o->rp;
    int again = !o->judged || damaged, r = 0;
    if (again) {
        free(rp->lost.list);
        rp->lost = (struct lcb_seqs){NULL, 0};
        r = lcb_seqs_lost(rp->old, rp->b->index, INT64_MAX, &rp->lost);
        if (!r && rp->lost.n)
            r = lcb_relog(rp->b, rp->old, &rp->lost, rp->rp);
    }
    if (!r)
        r = lcb_repair_carry(rp); /* to the mailboxes that were logged again, too */
    if (!r && (again || rp->scan.at != o->judged_to)) { /* what was lacking may be elsewhere since */
        rp->rp->messages = 0;
        r = lcb_repair_lacking(rp);
    }
    if (!r)
        r = lcb_index_setforgot(rp->b->index); /* its inode may be one that was seen before */
    return r ? r : lcb_repair_commit(rp);
}

static int take_over(struct online *o)
{
    int before = o->rp.scan.rotten + o->rp.scan.unsound;
    int r = change_index(o);
    return r ? r : finish_repair(o, o->rp.scan.rotten + o->rp.scan.unsound != before);
}

/* ---- the change of files ---- */

static int unlink_part(struct online *o, const char *path, const char *suffix)
{
    char *name = xasprintf("%s%s", path, suffix);
    int r = vfs_unlink(o->vfs, name);
    free(name);
    return r == -ENOENT ? 0 : r;
}

/* From here on the new index is one file, and in WAL mode. */
static int close_new(struct online *o)
{
    struct stat st;
    char *wal = xasprintf("%s.index-wal", o->made_path);
    int r = sqldb_exec(o->locked->index->db, "PRAGMA journal_mode=WAL");
    lcb_index_close(&o->locked->index);
    if (!r && !vfs_stat(o->vfs, wal, &st) && st.st_size)
        r = XERR_INTERNAL;
    free(wal);
    if (!r)
        r = unlink_part(o, o->made_path, ".index-wal");
    return r ? r : unlink_part(o, o->made_path, ".index-shm");
}

/* PART of the old index goes, or gets a name with the time. */
static int retire_part(struct online *o, const char *part, long long kept)
{
    if (!kept)
        return unlink_part(o, o->path, part);
    char *from = xasprintf("%s%s", o->path, part);
    char *to = xasprintf("%s.index.%lld%s", o->path, kept, part + strlen(".index"));
    int r = vfs_rename(o->vfs, from, to);
    free(from);
    free(to);
    return r == -ENOENT ? 0 : r;
}

static int retire_old(struct online *o, long long kept)
{
    if (kept) /* all of it in one file; readers may be in the way */
        (void)sqlite3_wal_checkpoint_v2(o->rp.old->db->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
                                        NULL);
    lcb_index_close(&o->rp.old);
    o->retired = 1;
    int r = retire_part(o, ".index", kept);
    if (!r)
        r = vfs_fsyncparent(o->vfs, o->path);
    if (!r)
        r = retire_part(o, ".index-wal", kept);
    if (!r)
        r = unlink_part(o, o->path, ".index-shm");
    if (!r)
        r = unlink_part(o, o->path, ".index-journal");
    return r ? r : vfs_fsyncparent(o->vfs, o->path);
}

static int install(struct online *o)
{
    char *from = xasprintf("%s.index", o->made_path), *to = xasprintf("%s.index", o->path);
    int r = close_new(o);
    if (!r)
        r = retire_old(o, o->rp.rp->keep_index ? lcb_switch_freetime(o->vfs, o->path) : 0);
    if (!r)
        r = vfs_rename(o->vfs, from, to);
    if (!r)
        r = vfs_fsyncparent(o->vfs, to);
    free(from);
    free(to);
    return r;
}

/* ---- the whole ---- */

static int online(struct online *o)
{
    xlog_info("%s: making the index anew from the data file", o->path);
    int r = build(o);
    if (!r)
        r = catch_up(o);
    if (!r)
        r = judge(o);
    if (!r)
        r = lock(o);
    if (!r)
        r = take_over(o);
    return r ? r : install(o);
}

/* What is wrong is the old index, though it did not look so. */
static int is_fault_of_old(struct online *o, int r)
{
    struct lcb_index *ix = o->rp.old ? o->rp.old : o->live;
    return (r == XERR_SQL || r == XERR_FORMAT) && ix && sqldb_damaged(ix->db);
}

static void close_indexes(struct online *o)
{
    if (o->locked && o->locked->index) {
        lcb_rollback(o->locked); /* nothing that was not committed may be kept */
        lcb_index_close(&o->locked->index);
    }
    lcb_index_close(&o->rp.old);
    lcb_index_close(&o->live);
    if (o->made)
        lcb_index_close(&o->made->index);
    lcb_close(&o->locked);
    if (o->begun && !o->retired)
        lcb_switch_rmindex(o->vfs, o->made_path);
}

/* Under the lock of writers, all of it. */
static int under_lock(struct online *o)
{
    struct lcb_repair *rp = o->rp.rp;
    struct lcb *b = NULL;
    int flags = LCB_WRITE | LCB_REPAIR, maintained = rp->maintained;
    int r = o->userid ? lcb_open(o->store, o->userid, flags, o->wait_ms, &b)
                      : lcb_open_file(o->store, o->path, flags, o->wait_ms, &b);
    rp->maintained = 1;
    if (!r && rp->locked)
        rp->locked(rp->rock, b->path);
    if (!r)
        r = strcmp(b->path, o->path) ? XERR_STALE : lcb_repair(b, rp);
    rp->maintained = maintained;
    lcb_close(&b);
    return r;
}

static int once(struct online *o, const char *path)
{
    int r = open_data(o, path);
    if (!r)
        r = open_live(o);
    if (!r)
        r = online(o);
    if (is_fault_of_old(o, r))
        r = NO_USE;
    o->rp.b = o->locked;
    if (!r)
        lcb_repair_end(&o->rp, r);
    close_indexes(o);
    free(o->rp.lost.list);
    return r == NO_USE ? under_lock(o) : r;
}

int lcb_reindex(struct lcb_store *store, const char *userid, const char *path, int queue_ms,
                int wait_ms, struct lcb_repair *rp)
{
    int r = XERR_STALE;
    for (int i = 0; i < TRIES && (r == XERR_STALE || (r == -ENOENT && userid)); i++) {
        struct online o = {.store = store, .vfs = lcb_store_vfs(store), .userid = userid, .fd = -1,
                           .queue_ms = queue_ms, .wait_ms = wait_ms};
        o.rp.rp = rp;
        rp->chunks = rp->lost_lines = rp->unsound = rp->no_index = 0;
        rp->mailboxes = rp->records = rp->others = rp->messages = 0;
        r = once(&o, path);
        lcb_close(&o.made);
        vfs_close(o.vfs, &o.fd);
        free(o.path);
        free(o.made_path);
    }
    return r;
}
