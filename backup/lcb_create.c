/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_create - a new backup: whether there may be one, and how it comes about.
 *
 * A user without a record is new, or his record is lost: backups.db was deleted, or came back from a
 * tape older than he is. In the second case a new backup would hide the old one, so before one is
 * made there is a look at what lies in the partitions:
 *
 *   - backups.db has no record at all: any data file anywhere is one that it has forgotten;
 *   - else: a data file of this very user, in the directories where a new one could go (both kinds of
 *     hash, as the option may have been changed).
 *
 * What does not count: files that are empty (a crash before the record was written), former names of
 * deleted backups, other names of files that are registered, and of course everything that is called
 * otherwise (.deleted., .tail., copies kept by compaction). If something counts, records are looked
 * at once more, since others may have been faster.
 *
 * All this is done only for users without a record, and costs two lists of a directory for each
 * partition. It is asked twice: before anything is uploaded, and when the file is made. So it is
 * remembered of the user who was asked about last that no name was his, with the states of these
 * directories: who finds them as they were need not read them again. (Where the clock of the file
 * system ticks, a file that comes within the tick in which the directory was read goes unseen, as
 * would one that comes a moment after the second look.)
 *
 * A new file is made only inside the transaction that writes its record. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backup/lcb_db.h"
#include "backup/lcb_int.h"
#include "backup/lcb_partition.h"
#include "backup/lcb_walk.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

/* ---- one file ---- */

/* Could it be a data file? What cannot be read could. */
static int looks_like_data(struct vfs *vfs, const char *path, struct stat *st)
{
    unsigned char magic[2];
    int r = vfs_stat(vfs, path, st);
    if (r < 0)
        return r != -ENOENT;
    if (!S_ISREG(st->st_mode) || !st->st_size)
        return 0;
    int fd = vfs_open(vfs, path, O_RDONLY, 0);
    if (fd < 0)
        return fd != -ENOENT;
    ssize_t n = vfs_pread(vfs, fd, magic, sizeof(magic), 0);
    vfs_close(vfs, &fd);
    if (n < 0 || (n == sizeof(magic) && magic[0] == 0x1f && magic[1] == 0x8b))
        return 1;
    /* Its beginning may have rotted. */
    struct stat index;
    char *name = xasprintf("%s.index", path);
    r = vfs_stat(vfs, name, &index);
    free(name);
    return r >= 0;
}

struct holder {
    struct vfs *vfs;
    const char *path;
    const struct stat *st;
};

static int names_it(void *rock, const char *userid, const char *path)
{
    struct holder *h = rock;
    struct stat st;
    (void)userid;
    if (!strcmp(path, h->path))
        return 1;
    const char *a = strrchr(path, '/'), *b = strrchr(h->path, '/');
    if (h->st->st_nlink < 2 && strcmp(a ? a : path, b ? b : h->path))
        return 0;
    return vfs_stat(h->vfs, path, &st) >= 0 && st.st_dev == h->st->st_dev &&
           st.st_ino == h->st->st_ino;
}

/* ---- no record at all ---- */

static int any_record(void *rock, const char *userid, const char *path)
{
    (void)rock;
    (void)userid;
    (void)path;
    return 1;
}

/* 1 if backups.db has a record. */
static int has_records(struct lcb_store *s)
{
    return lcb_db_foreach(lcb_store_db(s), "", any_record, NULL);
}

struct look {
    struct lcb_store *store;
    struct buf *path;
};

/* A directory that cannot be read may hold anything, if it is one of ours. */
static int is_hash(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] && !slash[2];
}

static int see_file(void *rock, const char *path, const struct lcb_name *n, int error)
{
    struct look *look = rock;
    struct stat st;
    int counts = error ? is_hash(path)
                       : n->kind == LCB_NAME_DATA &&
                             looks_like_data(lcb_store_vfs(look->store), path, &st);
    if (counts)
        buf_setcstr(look->path, path);
    return counts;
}

int lcb_strangers(struct lcb_store *s, struct buf *path)
{
    struct look look = {s, path};
    struct lcb_walk walk = {see_file, &look};
    int r = has_records(s);
    if (r)
        return r < 0 ? r : 0;
    r = lcb_walk(s, &walk);
    if (r <= 0)
        return r == XERR_CONFIG ? 0 : r;
    r = has_records(s); /* by now? */
    return r < 0 ? r : !r;
}

/* ---- files of one user ---- */

void lcb_absent_forget(struct lcb_absent *a)
{
    free(a->userid);
    free(a->dirs);
    memset(a, 0, sizeof(*a));
}

struct own {
    struct vfs *vfs;
    const char *userid, *dir;
    struct buf encoded;            /* his id as we write it; Cyrus does not encode */
    struct strarray data, deleted; /* paths */
};

/* Most names in a directory are those of others. */
static int begins_as(const char *name, const char *userid)
{
    size_t len = strlen(userid);
    return !strncmp(name, userid, len) && name[len] == '_';
}

static int note_name(void *rock, const char *name)
{
    struct own *own = rock;
    struct lcb_name n;
    if (!begins_as(name, own->userid) && !begins_as(name, buf_cstring(&own->encoded)))
        return 0;
    lcb_name_parse(name, &n);
    if ((n.kind == LCB_NAME_DATA || n.kind == LCB_NAME_DELETED) &&
        lcb_name_is_for(name, n.baselen, own->userid)) {
        char *path = xasprintf("%s/%s", own->dir, name);
        strarray_append(n.kind == LCB_NAME_DATA ? &own->data : &own->deleted, path);
        free(path);
    }
    return 0;
}

/* State of the directory; nothing is one, too. 0 if it cannot be told. */
static int dir_state(struct vfs *vfs, const char *dir, struct lcb_dirstate *d)
{
    struct stat st;
    int r = vfs_stat(vfs, dir, &st);
    memset(d, 0, sizeof(*d));
    if (r >= 0) {
        d->dev = st.st_dev;
        d->ino = st.st_ino;
        d->changed = st.st_ctim;
    }
    return r >= 0 || r == -ENOENT;
}

/* The directories where his files could be, two for each partition: number I, to be freed. */
static char *own_dir(const struct lcb_placement *p, const char *userid, size_t i)
{
    return xasprintf("%s/%c", p->partitions[i / 2].dir, lcb_path_hash(userid, (int)(i % 2)));
}

/* 1 if none of the names was USERID's when he was asked about last, and none has come since. */
static int none_yet(struct lcb_store *s, const char *userid)
{
    const struct lcb_absent *a = lcb_store_absent(s);
    struct lcb_placement p;
    int same = a->userid && !strcmp(a->userid, userid);
    lcb_store_placement(s, &p);
    for (size_t i = 0; same && i < 2 * p.count; i++) {
        struct lcb_dirstate now;
        char *dir = own_dir(&p, userid, i);
        same = dir_state(lcb_store_vfs(s), dir, &now) && now.dev == a->dirs[i].dev &&
               now.ino == a->dirs[i].ino && now.changed.tv_sec == a->dirs[i].changed.tv_sec &&
               now.changed.tv_nsec == a->dirs[i].changed.tv_nsec;
        free(dir);
    }
    return same;
}

/* A partition that cannot be read has no say: no new backup goes there. */
static void list_own(struct lcb_store *s, struct own *own)
{
    struct lcb_absent *a = lcb_store_absent(s);
    struct lcb_placement p;
    int sure = 1;
    lcb_store_placement(s, &p);
    lcb_absent_forget(a);
    a->dirs = xzmalloc((2 * p.count + 1) * sizeof(*a->dirs));
    for (size_t i = 0; i < 2 * p.count; i++) {
        char *dir = own_dir(&p, own->userid, i);
        own->dir = dir;
        sure &= dir_state(own->vfs, dir, &a->dirs[i]);
        int r = vfs_list(own->vfs, dir, note_name, own);
        sure &= !r || r == -ENOENT;
        free(dir);
    }
    if (sure && !own->data.count)
        a->userid = xstrdup(own->userid);
}

/* The former name of a deleted backup, which it lost all but the name. */
static int is_deleted(const struct own *own, const struct stat *st)
{
    struct stat other;
    for (int i = 0; st->st_nlink > 1 && i < own->deleted.count; i++)
        if (vfs_stat(own->vfs, strarray_nth(&own->deleted, i), &other) >= 0 &&
            other.st_dev == st->st_dev && other.st_ino == st->st_ino)
            return 1;
    return 0;
}

/* 1 if a data file of the user is there that nobody names: its name to PATH. */
static int has_unnamed(struct lcb_store *s, const char *userid, struct buf *path)
{
    struct own own = {.vfs = lcb_store_vfs(s), .userid = userid};
    struct stat st;
    char *now = NULL;
    int found = 0;
    if (none_yet(s, userid))
        return 0;
    int r = lcb_filename_encode(&own.encoded, userid, strlen(userid));
    if (!r)
        list_own(s, &own);
    for (int i = 0; !r && !found && i < own.data.count; i++) {
        struct holder holder = {own.vfs, strarray_nth(&own.data, i), &st};
        memset(&st, 0, sizeof(st));
        if (!looks_like_data(own.vfs, holder.path, &st) || is_deleted(&own, &st))
            continue;
        r = lcb_db_foreach(lcb_store_db(s), "", names_it, &holder);
        found = !r;
        r = r > 0 ? 0 : r;
        if (found)
            buf_setcstr(path, holder.path);
    }
    strarray_fini(&own.data);
    strarray_fini(&own.deleted);
    buf_free(&own.encoded);
    if (r || !found)
        return r;
    r = lcb_db_find(lcb_store_db(s), userid, &now); /* by now? */
    free(now);
    return r == XERR_NOTFOUND ? 1 : r;
}

/* ---- making one ---- */

int lcb_may_create(struct lcb_store *s, const char *userid)
{
    struct buf path = BUF_INITIALIZER;
    const char *what = "backups.db is missing or empty";
    int r = lcb_strangers(s, &path);
    if (!r) {
        what = "backups.db does not name it";
        r = has_unnamed(s, userid, &path);
    }
    if (r > 0 && xlog_allowed(lcb_store_strangers(s), 60))
        xlog_errorx("no new backup for %s: there is %s, but %s; hint: ctl_backups reconstruct", userid,
                    buf_cstring(&path), what);
    buf_free(&path);
    return r > 0 ? XERR_UNKNOWN : r;
}

static int make_file(void *rock, const char *userid, char **path)
{
    struct lcb_store *s = rock;
    struct vfs *vfs = lcb_store_vfs(s);
    const struct lcb_partition *chosen;
    struct lcb_placement p;
    int fd = -1;
    lcb_store_placement(s, &p);
    int r = lcb_partition_choose(vfs, &p, &chosen);
    if (!r)
        r = lcb_path_new(vfs, chosen->dir, userid,
                         config_getswitch(lcb_store_config(s), IMAPOPT_FULLDIRHASH), path, &fd);
    if (!r)
        vfs_close(vfs, &fd);
    return r;
}

int lcb_new_record(struct lcb_store *s, const char *userid, char **path, int *created)
{
    int r = lcb_may_create(s, userid);
    return r ? r : lcb_db_create(lcb_store_db(s), userid, make_file, s, path, created);
}

static int make_at(struct lcb_store *s, const char *path)
{
    struct vfs *vfs = lcb_store_vfs(s);
    int fd = vfs_open(vfs, path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return fd == -EEXIST ? XERR_EXISTS : fd;
    vfs_close(vfs, &fd);
    return vfs_fsyncparent(vfs, path);
}

/* XERR_EXISTS if there is a record. */
static int make_record(struct lcb_store *s, const char *userid)
{
    char *path = NULL;
    int created = 0;
    int r = lcb_store_find(s, userid, &path);
    if (r == XERR_NOTFOUND)
        r = lcb_new_record(s, userid, &path, &created);
    free(path);
    return r ? r : created ? 0 : XERR_EXISTS;
}

int lcb_create(struct lcb_store *s, const char *userid, const char *path)
{
    struct lcb *b = NULL;
    int r = userid ? make_record(s, userid) : make_at(s, path);
    if (!r)
        r = userid ? lcb_open(s, userid, LCB_WRITE, 0, &b)
                   : lcb_open_file(s, path, LCB_WRITE, 0, &b);
    lcb_close(&b);
    return r;
}
