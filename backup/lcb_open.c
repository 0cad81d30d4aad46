/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_open - find, create, lock, open and close backups.
 *
 * Which file is whose stands in backups.db and nowhere else. Opening for writing: look the path up,
 * open the file without creating it, take its lock, and see whether the name still means the file
 * that was locked; if not (the backup was moved meanwhile), begin again. How a new one comes about is
 * told in lcb_create.c.
 *
 * Opening for reading takes no lock: the file is opened first, then the index; what the index
 * speaks of is committed and never changes. An index that cannot be used, or says nothing as yet, is
 * mended if the lock is free; if it is not, its holder is at it, and the answer is XERR_LOCKED. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_repair.h"
#include "backup/lcb_store_int.h"
#include "backup/lcb_walk.h"
#include "lib/filelock.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define REOPEN_MAX 10
#define READER_PAUSE_MS 20
#define READER_WAIT_MS 20000 /* a busy disk makes a moment long */
#define READER_LOOKS 3 /* if none is coming it has come by now; but the next may be replacing it */

static int chunk_sealed(void *rock, const struct lcb_chunk *chunk)
{
    struct lcb *b = rock;
    return lcb_index_addchunk(b->index, chunk);
}

/* An index that is not ours or cannot be read goes aside; what SQLite keeps beside it too. */
static int set_index_aside(struct lcb *b, const char *why)
{
    static const char *const parts[] = {"", "-wal", "-shm", "-journal", NULL};
    int r = 0;
    xlog_warnx("%s: %s: setting it aside as %s.old and rebuilding it", b->index_path, why,
               b->index_path);
    for (int i = 0; !r && parts[i]; i++) {
        char *from = xasprintf("%s%s", b->index_path, parts[i]);
        char *to = xasprintf("%s.old%s", b->index_path, parts[i]);
        r = vfs_rename(b->vfs, from, to);
        r = r == -ENOENT ? 0 : r;
        free(from);
        free(to);
    }
    return r;
}

static void index_opened(struct lcb *b)
{
    struct stat st = {.st_ino = 0};
    b->index->names = &b->store->names;
    vfs_stat(b->vfs, b->index_path, &st);
    b->index_ino = st.st_ino;
}

static int open_index(struct lcb *b, int write)
{
    int64_t checkpoint = b->settings->index_checkpoint;
    int r = lcb_index_open(b->index_path, write, !write, checkpoint, &b->index);
    if (write && (r == XERR_FORMAT || r == XERR_VERSION)) {
        r = set_index_aside(b, r == XERR_FORMAT ? "not an index of ours or damaged"
                                                : "of another version");
        if (!r)
            r = lcb_index_open(b->index_path, 1, 0, checkpoint, &b->index);
    }
    if (!r)
        index_opened(b);
    return r;
}

/* A new backup gets a new index; but it may have one, if its first commit did not come about. */
static int open_or_create_index(struct lcb *b)
{
    struct stat st;
    int r = vfs_fstat(b->vfs, b->fd, &st);
    if (r)
        return r;
    if (st.st_size)
        return open_index(b, 1);
    r = lcb_index_create(b->index_path, &b->store->empty_index, b->settings->index_checkpoint,
                         &b->index);
    if (r == -EEXIST)
        return open_index(b, 1);
    if (!r)
        index_opened(b);
    return r;
}

int lcb_renew_index(struct lcb *b, const char *why)
{
    lcb_index_close(&b->index);
    int r = set_index_aside(b, why);
    return r ? r : open_index(b, 1);
}

static struct lcb *new_backup(struct lcb_store *s, const char *userid, const char *path, int write)
{
    struct lcb *b = xzmalloc(sizeof(*b));
    b->store = s;
    b->vfs = s->vfs;
    b->settings = &s->settings;
    b->userid = xstrdup(userid);
    b->path = xstrdup(path);
    b->index_path = xasprintf("%s.index", path);
    b->writable = write;
    b->stop = s->stop;
    b->stop_rock = s->stop_rock;
    b->fd = -1;
    return b;
}

/* An empty index in place of none, for a data file that is not empty. */
static int open_unfilled(struct lcb *b)
{
    struct stat st;
    int r = vfs_stat(b->vfs, b->index_path, &st);
    if (r != -ENOENT || vfs_fstat(b->vfs, b->fd, &st) || !st.st_size)
        return XERR_NOTFOUND;
    r = open_index(b, 1);
    if (!r)
        lcb_recovered(b);
    return r;
}

/* An index is missing, and a crash kept another from taking its place (lcb_reindex.c). That one is
 * whole if it is in WAL mode, which is the last thing that is done to it. */
static void adopt_index(struct lcb *b)
{
    enum { READ_VERSION = 18 }; /* in the header of an SQLite file, with the write version behind it */
    static const char wal[] = {2, 2};
    char got[sizeof(wal)] = {0, 0}, *name = xasprintf("%s.new.index", b->path);
    struct stat st;
    int fd = vfs_stat(b->vfs, b->index_path, &st) == -ENOENT ? vfs_open(b->vfs, name, O_RDONLY, 0) : -1;
    if (fd >= 0 && vfs_pread(b->vfs, fd, got, sizeof(got), READ_VERSION) == (ssize_t)sizeof(got) &&
        !memcmp(got, wal, sizeof(wal))) {
        lcb_index_remove(b->index_path); /* what may be left beside it */
        if (!vfs_rename(b->vfs, name, b->index_path))
            xlog_info("%s: was made and not used: taken", b->index_path);
    }
    if (fd >= 0)
        vfs_close(b->vfs, &fd);
    free(name);
}

/* What was committed last has rotted. Who maintains the backup may be waiting for this, or be the
 * caller: it is no more to him than a rebuild. */
static int repair_end(struct lcb *b)
{
    struct lcb_repair rp = {.maintained = 1};
    xlog_errorx("%s: its end is damaged, though it was once whole", b->path);
    int r = lcb_repair(b, &rp);
    if (!r)
        r = lcb_recover(b); /* if all lines of a chunk of Cyrus are there, it has to be ended again */
    if (!r)
        lcb_recovered(b);
    return r;
}

static int finish_write(struct lcb *b)
{
    adopt_index(b);
    int r = b->to_repair ? open_unfilled(b) : XERR_NOTFOUND;
    if (r != XERR_NOTFOUND)
        return r;
    if ((r = open_or_create_index(b)) != 0)
        return r;
    r = lcb_recover(b);
    if ((r == XERR_SQL && !sqldb_outside(b->index->db)) || r == XERR_FORMAT) {
        /* Opened, but its pages cannot be read: once more with a fresh one. */
        r = lcb_renew_index(b, "cannot be read");
        if (!r)
            r = lcb_recover(b);
    }
    if (r < 0)
        return r;
    lcb_recovered(b);
    return r && !b->to_repair ? repair_end(b) : 0;
}

void lcb_recovered(struct lcb *b)
{
    lcb_datafile_init(&b->df, b->vfs, b->fd, b->settings->chunk_size, b->settings->level);
    lcb_datafile_share(&b->df, &b->store->packing);
    b->df.sealed = chunk_sealed;
    b->df.rock = b;
    b->first_own = b->df.seq;
}

int lcb_new(struct lcb_store *s, const char *userid, const char *path, int fd, struct lcb **bp)
{
    struct lcb *b = new_backup(s, userid, path, 1);
    b->fd = fd;
    int r = open_index(b, 1);
    if (!r) {
        *bp = b;
        return 0;
    }
    b->fd = -1;
    lcb_close(&b);
    return r;
}

/* XERR_STALE: the path means another file now, or the user another path. Compaction and move switch the
 * record and then remove the old file, so the file alone does not tell that it is still the one: the
 * record is looked at again under the lock. */
static int take_lock(struct lcb *b, int wait_ms)
{
    int r = vfs_open(b->vfs, b->path, O_RDWR, 0);
    if (r < 0)
        return r == -ENOENT ? XERR_STALE : r;
    b->fd = r;
    r = lcb_lock_writers(b->store, b->fd, wait_ms);
    if (!r) {
        r = filelock_same(b->fd, b->path);
        r = r == 1 ? 0 : r == 0 || r == -ENOENT ? XERR_STALE : r;
    }
    return r ? r : lcb_db_still(b->store->db, b->userid, b->path);
}

/* Is it a data file at all? It begins with a member, or with nothing. */
static int begins_well(struct lcb *b)
{
    struct lcb_member m;
    struct stat st;
    int r = vfs_fstat(b->vfs, b->fd, &st);
    return r || !st.st_size ? r : lcb_member_at(b->vfs, b->fd, 0, st.st_size, &m);
}

/* Who opens by path may name any file, and of one that is no data file recovery would set all aside. A
 * data file begins like one; where that has rotted its name tells, or its index, or what follows. */
static int is_meant(struct lcb *b)
{
    struct lcb_name n;
    struct stat st;
    if (*b->userid || !begins_well(b))
        return 0;
    lcb_name_parse(lcb_last_part(b->path), &n);
    if (n.kind == LCB_NAME_DATA || !vfs_stat(b->vfs, b->index_path, &st))
        return 0;
    int r = vfs_fstat(b->vfs, b->fd, &st);
    return r ? r : lcb_next_member(b->vfs, b->fd, 1, st.st_size, 0) < 0 ? XERR_FORMAT : 0;
}

static int open_write(struct lcb *b, int wait_ms)
{
    int r = take_lock(b, wait_ms);
    if (!r)
        r = is_meant(b);
    return r ? r : finish_write(b);
}

static int open_read(struct lcb *b)
{
    struct lcb_mark_point p;
    struct stat st;
    int r = vfs_open(b->vfs, b->path, O_RDONLY, 0);
    if (r < 0)
        return r == -ENOENT ? XERR_STALE : r;
    b->fd = r;
    r = open_index(b, 0);
    if (r)
        return r == XERR_FORMAT || r == XERR_VERSION ? XERR_NOTFOUND : r;
    if (!lcb_index_fits(b))
        return lcb_end_rotten(b) ? 0 : XERR_NOTFOUND; /* all but that can be read */
    lcb_index_getpoint(b->index, &p);
    r = vfs_fstat(b->vfs, b->fd, &st);
    return r ? r : st.st_size > p.end; /* 1: usable, but perhaps behind */
}

/* Nothing has been applied to the index: it was made, and then filling it was given up. */
static int says_nothing(struct lcb *b)
{
    struct lcb_mark_point p;
    return !lcb_index_getpoint(b->index, &p) && p.last_offset < 0;
}

/* What open_read() could not use, or not wholly (BEHIND): mend it as a writer would, then look
 * again. Who has the lock does that himself. */
static int mend_and_read(struct lcb **bp, int behind)
{
    struct lcb *b = *bp, *was = b, *w;
    struct stat st;
    int r = behind ? 0 : begins_well(b);
    if (r)
        return r;
    w = new_backup(b->store, b->userid, b->path, 1);
    w->keep_tail = 1;
    r = open_write(w, 0);
    lcb_close(&w);
    if (r && behind)
        return r == XERR_LOCKED && says_nothing(b) ? r : 0;
    if (r)
        return r;
    *bp = b = new_backup(b->store, b->userid, b->path, 0);
    lcb_close(&was);
    r = open_read(b);
    if (r == XERR_NOTFOUND) /* it was there, and another is on its way already */
        return vfs_stat(b->vfs, b->index_path, &st) == -ENOENT ? XERR_LOCKED : XERR_FORMAT;
    return r == 1 ? 0 : r;
}

static int open_once(struct lcb_store *s, const char *userid, const char *path, int flags,
                     int wait_ms, struct lcb **bp)
{
    struct lcb *b = new_backup(s, userid, path, flags & LCB_WRITE);
    b->to_repair = flags & LCB_REPAIR;
    int r = flags & LCB_WRITE ? open_write(b, wait_ms) : open_read(b);
    if (!(flags & LCB_WRITE) && (r == 1 || r == XERR_NOTFOUND))
        r = mend_and_read(&b, r == 1);
    if (r) {
        lcb_close(&b);
        return r;
    }
    *bp = b;
    return 0;
}

/* Is another index about to take the place of PATH's (lcb_reindex.c)? There is none for a moment then,
 * and who replaces it has the lock. */
static int is_coming(struct lcb_store *s, const char *path)
{
    struct timespec nap = {0, READER_PAUSE_MS * 1000000L};
    struct stat st;
    char *name = xasprintf("%s.new.index", path);
    int yes = vfs_stat(s->vfs, name, &st) >= 0;
    free(name);
    if (yes)
        nanosleep(&nap, NULL);
    return yes && !lcb_store_stopped(s);
}

static int open_path(struct lcb_store *s, const char *userid, const char *path, int flags,
                     int wait_ms, struct lcb **bp)
{
    int in_vain = flags & LCB_WRITE ? READER_LOOKS : 0;
    int r = open_once(s, userid, path, flags, wait_ms, bp);
    for (int waited = 0; r == XERR_LOCKED && in_vain < READER_LOOKS && waited < READER_WAIT_MS;
         waited += READER_PAUSE_MS) {
        in_vain = is_coming(s, path) ? 0 : in_vain + 1;
        r = open_once(s, userid, path, flags, wait_ms, bp);
    }
    return r;
}

/* Whenever it was opened, PATH was not the file that was meant. */
static int why_stale(struct lcb_store *s, const char *userid, const char *path)
{
    struct stat st;
    if (vfs_stat(s->vfs, path, &st) != -ENOENT)
        return XERR_STALE;
    if (*userid)
        xlog_errorx("%s: data file %s is gone: mount its partition, or restore it; hint: if it lies"
                    " elsewhere on a partition, ctl_backups reconstruct -F; if it is lost, ctl_backups"
                    " delete -F %s, and the next sync begins a new backup", userid, path, userid);
    return -ENOENT;
}

int lcb_open(struct lcb_store *s, const char *userid, int flags, int wait_ms, struct lcb **bp)
{
    int r = XERR_STALE;
    for (int i = 0; r == XERR_STALE && i < REOPEN_MAX; i++) {
        char *path = NULL;
        r = lcb_db_find(s->db, userid, &path);
        if (r == XERR_NOTFOUND && (flags & LCB_CREATE))
            r = lcb_new_record(s, userid, &path, NULL);
        if (!r) {
            r = open_path(s, userid, path, flags, wait_ms, bp);
            if (r == XERR_STALE && i == REOPEN_MAX - 1)
                r = why_stale(s, userid, path);
        }
        free(path);
    }
    return r;
}

/* SQLite found the index damaged while B, which is closed otherwise, worked with it. The next opening
 * finds none, and makes one. A reader has no lock: if he does not get it, or another has been made
 * already, that is that. */
static void give_index_up(struct lcb *b)
{
    struct stat st;
    int r = 0;
    if (!b->writable) {
        vfs_close(b->vfs, &b->fd);
        b->fd = vfs_open(b->vfs, b->path, O_RDWR, 0);
        r = b->fd < 0 ? b->fd : filelock_lock(b->fd, FILELOCK_EXCLUSIVE, 0, b->stop, b->stop_rock);
    }
    if (!r && !vfs_stat(b->vfs, b->index_path, &st) && st.st_ino == b->index_ino)
        set_index_aside(b, "damaged");
}

int lcb_open_file(struct lcb_store *s, const char *path, int flags, int wait_ms, struct lcb **bp)
{
    int r = XERR_STALE;
    for (int i = 0; r == XERR_STALE && i < REOPEN_MAX; i++) {
        r = open_path(s, "", path, flags, wait_ms, bp);
        if (r == XERR_STALE && (r = why_stale(s, "", path)) != XERR_STALE)
            return r;
    }
    return r;
}

static int look_index(struct lcb *b)
{
    int in_vain = 0, r = lcb_index_open(b->index_path, 0, LCB_INDEX_LOOK, 0, &b->index);
    for (int waited = 0; r == XERR_NOTFOUND && in_vain < READER_LOOKS && waited < READER_WAIT_MS;
         waited += READER_PAUSE_MS) {
        in_vain = is_coming(b->store, b->path) ? 0 : in_vain + 1;
        r = lcb_index_open(b->index_path, 0, LCB_INDEX_LOOK, 0, &b->index);
    }
    return r;
}

int lcb_open_index(struct lcb_store *s, const char *path, struct lcb **bp)
{
    struct lcb *b = new_backup(s, "", path, 0);
    int r = look_index(b);
    if (r) {
        lcb_close(&b);
        return r;
    }
    b->index->names = &s->names;
    *bp = b;
    return 0;
}

static int lock_path(struct lcb_store *s, const char *userid, const char *path, int wait_ms, int *fd,
                     char **found)
{
    struct lcb *b = new_backup(s, userid, path, 0);
    int r = take_lock(b, wait_ms);
    if (!r) {
        *fd = b->fd;
        b->fd = -1;
        *found = xstrdup(path);
    }
    lcb_close(&b);
    return r;
}

int lcb_lock(struct lcb_store *s, const char *userid, const char *path, int wait_ms, int *fd,
             char **found)
{
    int r = XERR_STALE;
    for (int i = 0; r == XERR_STALE && i < REOPEN_MAX; i++) {
        char *now = NULL;
        r = userid ? lcb_db_find(s->db, userid, &now) : 0;
        if (!r)
            r = lock_path(s, userid ? userid : "", userid ? now : path, wait_ms, fd, found);
        if (r == XERR_STALE && (!userid || i == REOPEN_MAX - 1))
            r = why_stale(s, userid ? userid : "", userid ? now : path);
        free(now);
    }
    return r;
}

void lcb_close(struct lcb **bp)
{
    struct lcb *b = *bp;
    if (!b)
        return;
    if (b->index && b->writable)
        lcb_rollback(b);
    lcb_text_close(&b->kept);
    int damaged = b->index && sqldb_damaged(b->index->db) && !lcb_index_moved(b->index);
    lcb_index_close(&b->index);
    if (damaged)
        give_index_up(b);
    lcb_datafile_fini(&b->df);
    vfs_close(b->vfs, &b->fd);
    buf_free(&b->mb.header);
    buf_free(&b->whole);
    free(b->userid);
    free(b->path);
    free(b->index_path);
    free(b);
    *bp = NULL;
}

const char *lcb_userid(const struct lcb *b)
{
    return b->userid;
}

const char *lcb_path(const struct lcb *b)
{
    return b->path;
}

uint64_t lcb_backup_id(const struct lcb *b)
{
    return b->df.id;
}

uint64_t lcb_files_id(const struct lcb *b)
{
    uint64_t prime = 1099511628211u, id = 14695981039346656037u; /* FNV-1a */
    for (const char *p = b->path; *p; p++)
        id = (id ^ (unsigned char)*p) * prime;
    id = (id ^ (uint64_t)b->index_ino) * prime;
    return (id ^ (uint64_t)lcb_index_forgot(b->index)) * prime;
}
