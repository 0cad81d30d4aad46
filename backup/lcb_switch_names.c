/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_switch_names - names of new pairs, and of what dead runs left behind.
 *
 * Only what is provably left over is removed:
 *
 *   - <pair>.new and its index, if nobody holds the locks on the data file that whoever makes it holds
 *     from its beginning to its end; an index <pair>.new.index without data file;
 *   - a pair that no record names, if its index says that it was made from the one that is registered
 *     (path and backup id), and it has not grown since: a crash before the record was switched;
 *   - the pair that the registered one was made from, if it is as it was then (length, and a checksum
 *     of the last bytes): a crash behind that.
 *
 * Whatever else looks like a pair of this user is reported and left alone. All of this happens under
 * the maintenance lock of the registered data file, so no other run for the same user is at work.
 *
 * A run that was to move the pair left what it left in another partition, and whoever comes next need
 * not go there. So all places where a pair of this user may be are looked at, but only where this run
 * itself is at work must that succeed: a partition that cannot be read does not keep others from
 * being maintained.
 *
 * Once the registered pair has another name, or no record any more, nothing is provable: reconstruct
 * would take what was left over for a backup. So before it is deleted or given to another user, or goes
 * to another partition, all of these places must have been looked at. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "backup/lcb_delete_int.h"
#include "backup/lcb_partition.h"
#include "backup/lcb_switch.h"
#include "backup/lcb_walk.h"
#include "lib/filelock.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

enum { RANDOM_LEN = 6, NAME_TRIES = 100 };

int lcb_switch_exists(struct vfs *vfs, const char *path)
{
    struct stat st;
    int r = vfs_stat(vfs, path, &st);
    return r >= 0 ? 1 : r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

/* DIR/<encoded user id>_ */
static int name_prefix(struct buf *b, const char *dir, const char *userid)
{
    buf_setcstr(b, dir);
    if (!b->len || b->s[b->len - 1] != '/') /* a path has one name only: no "//x" */
        buf_putc(b, '/');
    int r = lcb_filename_encode(b, userid, strlen(userid));
    buf_putc(b, '_');
    return r;
}

static int is_free(struct vfs *vfs, const char *path)
{
    static const char *const suffixes[] = {"", ".index", ".new", ".new.index", NULL};
    int r = 0;
    for (int i = 0; !r && suffixes[i]; i++) {
        char *name = xasprintf("%s%s", path, suffixes[i]);
        r = lcb_switch_exists(vfs, name);
        free(name);
    }
    return r < 0 ? r : !r;
}

int lcb_switch_newname(struct vfs *vfs, const char *dir, const char *userid, char **path)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    unsigned char bytes[RANDOM_LEN];
    struct buf b = BUF_INITIALIZER;
    int r = name_prefix(&b, dir, userid);
    size_t len = b.len;
    for (int i = 0; !r && i < NAME_TRIES; i++) {
        buf_truncate(&b, len);
        if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
            continue;
        for (int j = 0; j < RANDOM_LEN; j++)
            buf_putc(&b, letters[bytes[j] % (sizeof(letters) - 1)]);
        r = is_free(vfs, buf_cstring(&b));
        if (r == 1)
            *path = buf_release(&b);
    }
    buf_free(&b);
    return r < 0 ? r : r ? 0 : -EEXIST;
}

/* ---- removing, renaming ---- */

static int unlink_if(struct vfs *vfs, const char *path, const char *suffix)
{
    char *name = xasprintf("%s%s", path, suffix);
    int r = vfs_unlink(vfs, name);
    free(name);
    return r == -ENOENT ? 0 : r;
}

int lcb_switch_rmindex(struct vfs *vfs, const char *path)
{
    static const char *const parts[] = {".index", ".index-wal", ".index-shm", ".index-journal", NULL};
    int r = 0;
    for (int i = 0; parts[i]; i++) {
        int one = unlink_if(vfs, path, parts[i]);
        r = r ? r : one;
    }
    return r;
}

long long lcb_switch_freetime(struct vfs *vfs, const char *path)
{
    long long t = (long long)time(NULL);
    int taken = 1;
    for (; taken == 1; t += taken == 1) {
        char *data = xasprintf("%s.%lld", path, t), *index = xasprintf("%s.index.%lld", path, t);
        taken = lcb_switch_exists(vfs, data);
        if (!taken)
            taken = lcb_switch_exists(vfs, index);
        free(data);
        free(index);
    }
    return t;
}

int lcb_switch_link(struct vfs *vfs, const char *path, long long time)
{
    char *name = xasprintf("%s.%lld", path, time);
    int r = vfs_link(vfs, path, name);
    if (!r)
        r = vfs_fsyncparent(vfs, name);
    free(name);
    return r;
}

/* Data file first: a reader that finds none looks into backups.db again. */
static int keep_pair(struct vfs *vfs, const char *path)
{
    static const char *const parts[] = {"", "-wal", NULL};
    long long now = lcb_switch_freetime(vfs, path);
    char *name = xasprintf("%s.%lld", path, now);
    int r = vfs_rename(vfs, path, name);
    free(name);
    for (int i = 0; !r && parts[i]; i++) {
        char *from = xasprintf("%s.index%s", path, parts[i]);
        name = xasprintf("%s.index.%lld%s", path, now, parts[i]);
        r = vfs_rename(vfs, from, name);
        r = r == -ENOENT ? 0 : r;
        free(from);
        free(name);
    }
    return r;
}

int lcb_switch_retire(struct vfs *vfs, const char *path, int keep)
{
    int r = keep ? keep_pair(vfs, path) : vfs_unlink(vfs, path);
    if (!r)
        r = lcb_switch_rmindex(vfs, path);
    if (!r)
        r = vfs_fsyncparent(vfs, path);
    return r;
}

/* ---- what dead runs left ---- */

/* What an index says of where its data file came from. */
struct origin {
    char *from;
    int64_t id, end, check, made_end;
};

static void origin_read(struct sqldb *db, struct origin *o)
{
    sqlite3_stmt *st = sqldb_stmt(db, "SELECT value FROM meta WHERE key='made_from'");
    memset(o, 0, sizeof(*o));
    if (!st || sqldb_step(db, st) != 1)
        return;
    o->from = xstrdupnull((const char *)sqlite3_column_text(st, 0));
    sqlite3_reset(st);
    (void)sqldb_int(db, &o->id, "SELECT value FROM meta WHERE key='made_from_id'", "");
    (void)sqldb_int(db, &o->end, "SELECT value FROM meta WHERE key='made_from_end'", "");
    (void)sqldb_int(db, &o->check, "SELECT value FROM meta WHERE key='made_from_check'", "");
    (void)sqldb_int(db, &o->made_end, "SELECT value FROM meta WHERE key='made_end'", "");
}

/* The same of the index of PATH; nothing if it cannot be read. */
static void origin_of(const char *path, struct origin *o)
{
    char *name = xasprintf("%s.index", path);
    struct sqldb *db = NULL;
    memset(o, 0, sizeof(*o));
    if (!sqldb_open(name, SQLDB_READONLY, 0, &db))
        origin_read(db, o);
    sqldb_close(&db);
    free(name);
}

/* Is the file at PATH the one that ended at END with checksum CHECK? */
static int is_as_it_was(struct vfs *vfs, const char *path, off_t end, int64_t check)
{
    struct stat st;
    int fd = vfs_open(vfs, path, O_RDONLY, 0);
    if (fd < 0)
        return 0;
    int same = vfs_fstat(vfs, fd, &st) >= 0 && st.st_size == end && check &&
               lcb_check_end(vfs, fd, end) == check;
    vfs_close(vfs, &fd);
    return same;
}

/* A note may be damaged, too: what it names must not be anybody's backup, by whatever name. */
static int is_nobodys(struct lcb_store *store, const char *path, const char *live)
{
    return lcb_same_file(store, path, live) == 0 && lcb_path_registered(store, path) == 0;
}

/* Is the index beside PATH that of the data file with this backup id, or not there? */
static int is_index_of(struct vfs *vfs, const char *path, int64_t id)
{
    char *name = xasprintf("%s.index", path);
    struct sqldb *db = NULL;
    int64_t is = 0;
    int there = lcb_switch_exists(vfs, name);
    int yes = !there || (there == 1 && !sqldb_open(name, SQLDB_READONLY, 0, &db) &&
                         !sqldb_int(db, &is, "SELECT value FROM meta WHERE key='backup_id'", "") &&
                         is == id);
    sqldb_close(&db);
    free(name);
    return yes;
}

/* The backup at PATH was switched to, as O says, and then the run died. */
static int finish_dead(struct lcb_store *store, const char *path, const struct origin *o, int keep)
{
    struct vfs *vfs = lcb_store_vfs(store);
    int r = 0;
    if (!o->from || *o->from != '/' || !strcmp(o->from, path))
        return 0;
    int there = lcb_switch_exists(vfs, o->from);
    if (there == 1 && is_as_it_was(vfs, o->from, o->end, o->check) &&
        is_nobodys(store, o->from, path)) {
        r = lcb_switch_retire(vfs, o->from, keep);
        if (!r)
            xlog_info("%s: it was replaced by %s before: %s", o->from, path,
                      keep ? "renamed" : "removed");
    } else if (there == 0 && is_index_of(vfs, o->from, o->id)) {
        r = lcb_switch_rmindex(vfs, o->from);
    }
    return r;
}

int lcb_switch_finish_dead(struct lcb_switch *s)
{
    struct origin o;
    int keep = config_getswitch(lcb_store_config(s->store), IMAPOPT_BACKUP_KEEP_PREVIOUS);
    origin_read(s->old->index->db, &o);
    int r = finish_dead(s->store, s->old->path, &o, keep); /* whatever this run is to do */
    free(o.from);
    return r;
}

/* What is looked for: pairs of USERID made from the one at PATH. */
struct sweep {
    struct vfs *vfs;
    const char *userid, *path;
    uint64_t id; /* of PATH; 0: not known */
};

/* <path>.new: 0 if it is gone now or was not there; XERR_LOCKED if somebody is at it. */
static int remove_unfinished(struct vfs *vfs, const char *path)
{
    char *name = xasprintf("%s.new", path);
    int r, fd = vfs_open(vfs, name, O_RDWR, 0);
    r = fd == -ENOENT ? 0 : fd;
    if (fd >= 0) {
        r = filelock_maintain(fd, 0, NULL, NULL);
        if (!r)
            r = filelock_lock(fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL);
    }
    if (r >= 0)
        r = lcb_switch_rmindex(vfs, name);
    if (!r && fd >= 0) {
        r = vfs_unlink(vfs, name);
        if (!r)
            xlog_info("%s: left by a run that did not come to its end: removed", name);
    }
    vfs_close(vfs, &fd);
    free(name);
    return r;
}

static int same_origin(const struct sweep *s, const struct origin *o)
{
    return o->from && !strcmp(o->from, s->path) && (!s->id || (uint64_t)o->id == s->id);
}

/* One pair that looks like one of this user, but is not the registered one. */
static int sweep_pair(const struct sweep *s, const char *path)
{
    struct origin o;
    struct stat st;
    int r = remove_unfinished(s->vfs, path);
    if (r)
        return r == XERR_LOCKED ? 0 : r;
    origin_of(path, &o);
    r = vfs_stat(s->vfs, path, &st);
    if (r == -ENOENT) {
        r = same_origin(s, &o) ? lcb_switch_rmindex(s->vfs, path) : 0;
    } else if (r >= 0 && same_origin(s, &o) && st.st_size == o.made_end) {
        r = lcb_switch_retire(s->vfs, path, 0);
        if (!r)
            xlog_info("%s: made from %s by a run that did not come to its end: removed", path,
                      s->path);
    } else if (r >= 0) {
        xlog_warnx("%s: looks like a backup of %s, but is not the one in backups.db: left alone", path,
                   s->userid);
        r = 0;
    }
    free(o.from);
    return r;
}

struct listing {
    const char *path;   /* what all paths begin with */
    const char *prefix; /* of names: the end of that */
    size_t len;
    struct strarray found; /* paths of pairs, each once */
};

/* <prefix>XXXXXX with one of the endings that we use. */
static int note_name(void *rock, const char *name)
{
    static const char *const endings[] = {"", ".new", ".index", ".new.index", NULL};
    struct listing *l = rock;
    size_t len = l->len + RANDOM_LEN;
    if (strncmp(name, l->prefix, l->len) || strlen(name) < len)
        return 0;
    for (size_t i = l->len; i < len; i++)
        if (!isalnum((unsigned char)name[i]))
            return 0;
    for (int i = 0; endings[i]; i++)
        if (!strcmp(name + len, endings[i])) {
            char *path = xasprintf("%s%.*s", l->path, (int)RANDOM_LEN, name + l->len);
            if (strarray_find(&l->found, path) < 0)
                strarray_append(&l->found, path);
            free(path);
        }
    return 0;
}

static int sweep_dir(const struct sweep *s, const char *dir)
{
    struct buf prefix = BUF_INITIALIZER;
    struct listing l = {.len = 0};
    int r = name_prefix(&prefix, dir, s->userid);
    l.path = buf_cstring(&prefix);
    l.prefix = lcb_last_part(l.path);
    l.len = strlen(l.prefix);
    if (!r)
        r = vfs_list(s->vfs, dir, note_name, &l);
    for (int i = 0; !r && i < l.found.count; i++) {
        const char *path = strarray_nth(&l.found, i);
        if (strcmp(path, s->path))
            r = sweep_pair(s, path);
        else if ((r = remove_unfinished(s->vfs, path)) == XERR_LOCKED)
            r = 0;
    }
    strarray_fini(&l.found);
    buf_free(&prefix);
    return r == -ENOENT ? 0 : r;
}

/* Where a pair of this user may be. */
static void add_partitions(struct lcb_store *store, const char *userid, struct strarray *dirs)
{
    struct lcb_placement p;
    lcb_store_placement(store, &p);
    for (size_t i = 0; i < p.count; i++) {
        int len = (int)strlen(p.partitions[i].dir);
        while (len > 0 && p.partitions[i].dir[len - 1] == '/')
            len--;
        for (int full = 0; full < 2; full++) {
            char *dir = xasprintf("%.*s/%c", len, p.partitions[i].dir, lcb_path_hash(userid, full));
            strarray_add(dirs, dir);
            free(dir);
        }
    }
}

static void add_parent(const char *path, struct strarray *dirs)
{
    char *dir = lcb_directory(path);
    strarray_add(dirs, dir);
    free(dir);
}

void lcb_switch_dirs(struct lcb_store *store, const char *userid, const char *path,
                     struct strarray *dirs)
{
    add_parent(path, dirs);
    add_partitions(store, userid, dirs);
}

/* The first MUST of them without error. */
static int sweep_dirs(const struct sweep *s, struct strarray *dirs, int must)
{
    int r = 0;
    for (int i = 0; i < dirs->count; i++) {
        int one = sweep_dir(s, strarray_nth(dirs, i));
        r = r || i >= must ? r : one;
    }
    strarray_fini(dirs);
    return r;
}

int lcb_switch_sweep(struct lcb_switch *s)
{
    struct sweep sweep = {s->vfs, s->how.userid, s->old->path, s->point.id};
    struct strarray dirs = {.count = 0};
    if (!s->how.userid)
        return remove_unfinished(s->vfs, s->old->path);
    add_parent(s->old->path, &dirs);
    if (s->dir)
        strarray_add(&dirs, s->dir);
    int move = dirs.count > 1;
    add_partitions(s->store, s->how.userid, &dirs);
    return sweep_dirs(&sweep, &dirs, move ? dirs.count : 1);
}

int lcb_switch_tidy(struct lcb_store *store, const char *userid, const char *path)
{
    struct sweep sweep = {lcb_store_vfs(store), userid, path, 0};
    int keep = config_getswitch(lcb_store_config(store), IMAPOPT_BACKUP_KEEP_PREVIOUS);
    struct strarray dirs = {.count = 0};
    struct origin o;
    origin_of(path, &o);
    int r = finish_dead(store, path, &o, keep);
    free(o.from);
    lcb_switch_dirs(store, userid, path, &dirs);
    int swept = sweep_dirs(&sweep, &dirs, dirs.count);
    return r ? r : swept;
}
