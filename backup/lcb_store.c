/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_store - the whole of a backup host: where it is configured to be, its backups.db, and what is
 * shared by all backups that are open. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_mounted.h"
#include "backup/lcb_store_int.h"
#include "lib/filelock.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static void add_partition(const char *key, const char *value, void *rock)
{
    static const char prefix[] = "backuppartition-";
    struct lcb_store *s = rock;
    if (strncmp(key, prefix, sizeof(prefix) - 1) || !key[sizeof(prefix) - 1])
        return;
    s->partitions = xrealloc(s->partitions, (s->npartitions + 1) * sizeof(*s->partitions));
    s->partitions[s->npartitions].name = key + sizeof(prefix) - 1;
    s->partitions[s->npartitions++].dir = value;
}

static size_t size_option(const struct config *c, enum imapopt opt, int64_t min, int64_t max)
{
    int64_t n = config_getbytesize(c, opt);
    return (size_t)(n < min ? min : n > max ? max : n);
}

int lcb_store_openat(const struct config *c, struct vfs *vfs, const char *path,
                     struct lcb_store **sp, struct buf *err)
{
    struct lcb_store *s = xzmalloc(sizeof(*s));
    const char *staging = config_getstring(c, IMAPOPT_BACKUP_STAGING_PATH);
    s->config = c;
    s->vfs = vfs ? vfs : vfs_system();
    s->settings.chunk_size = size_option(c, IMAPOPT_BACKUP_CHUNK_SIZE, 4096, LCB_LINE_MAX);
    s->settings.level = config_getint(c, IMAPOPT_BACKUP_COMPRESSION_LEVEL);
    if (s->settings.level < 1 || s->settings.level > 12)
        s->settings.level = 5;
    s->settings.index_checkpoint = config_getbytesize(c, IMAPOPT_BACKUP_INDEX_CHECKPOINT);
    s->names.defaultdomain = config_getstring(c, IMAPOPT_DEFAULTDOMAIN);
    s->names.deletedprefix = config_getstring(c, IMAPOPT_DELETEDPREFIX);
    s->names.unixhierarchysep = config_getswitch(c, IMAPOPT_UNIXHIERARCHYSEP);
    s->staging = staging ? xstrdup(staging)
                         : xasprintf("%s/backup", config_getstring(c, IMAPOPT_TEMP_PATH));
    config_foreachoverflow(c, add_partition, s);
    if (!path)
        path = config_getstring(c, IMAPOPT_BACKUP_DB_PATH);
    const char *kind = config_getstring(c, IMAPOPT_BACKUP_DB);
    int r = XERR_CONFIG;
    if (strcmp(kind, "twoskip"))
        buf_printf(err, "backup_db: %s is not supported, convert it with cvt_cyrusdb to twoskip",
                   kind);
    else if (path[0] != '/')
        buf_printf(err, "backup_db_path: %s is not an absolute path", path);
    else if ((r = lcb_db_open(s->vfs, path, &s->db)) != 0)
        buf_printf(err, "cannot open %s: %s", path, error_message(r));
    if (!s->db)
        lcb_store_close(&s);
    *sp = s;
    return r;
}

int lcb_store_open(const struct config *c, struct vfs *vfs, struct lcb_store **sp, struct buf *err)
{
    return lcb_store_openat(c, vfs, NULL, sp, err);
}

void lcb_store_close(struct lcb_store **sp)
{
    struct lcb_store *s = *sp;
    if (!s)
        return;
    lcb_db_close(&s->db);
    free(s->partitions);
    free(s->staging);
    lcb_packing_fini(&s->packing);
    buf_free(&s->empty_index);
    lcb_absent_forget(&s->absent);
    free(s);
    *sp = NULL;
}

const struct mboxname_rules *lcb_store_names(const struct lcb_store *s)
{
    return &s->names;
}

struct vfs *lcb_store_vfs(const struct lcb_store *s)
{
    return s->vfs;
}

struct lcb_db *lcb_store_db(struct lcb_store *s)
{
    return s->db;
}

const struct config *lcb_store_config(const struct lcb_store *s)
{
    return s->config;
}

static int is_mounted(void *rock, const char *dir)
{
    return lcb_mounted(rock, dir);
}

void lcb_store_placement(struct lcb_store *s, struct lcb_placement *p)
{
    const struct config *c = s->config;
    memset(p, 0, sizeof(*p));
    p->partitions = s->partitions;
    p->count = s->npartitions;
    p->mode = (enum lcb_select)config_getenum(c, IMAPOPT_PARTITION_SELECT_MODE);
    p->exclude = config_getstring(c, IMAPOPT_PARTITION_SELECT_EXCLUDE);
    p->soft_usage_limit = config_getint(c, IMAPOPT_PARTITION_SELECT_SOFT_USAGE_LIMIT);
    p->usable = is_mounted;
    p->rock = s;
}

struct xlog_limit *lcb_store_strangers(struct lcb_store *s)
{
    return &s->strangers;
}

struct lcb_absent *lcb_store_absent(struct lcb_store *s)
{
    return &s->absent;
}

int64_t lcb_store_cut_short(struct lcb_store *s)
{
    int64_t bytes = s->cut_short;
    s->cut_short = 0;
    return bytes;
}

int lcb_store_stopped(struct lcb_store *s)
{
    return s->stop && s->stop(s->stop_rock);
}

void lcb_store_setstop(struct lcb_store *s, int (*stop)(void *), void *rock)
{
    s->stop = stop;
    s->stop_rock = rock;
}

void lcb_store_getstop(const struct lcb_store *s, int (**stop)(void *), void **rock)
{
    *stop = s->stop;
    *rock = s->stop_rock;
}

void lcb_store_setwaiting(struct lcb_store *s, void (*waiting)(void *), void *rock)
{
    s->waiting = waiting;
    s->waiting_rock = rock;
}

static int stopped(void *rock)
{
    return lcb_store_stopped(rock);
}

typedef int lock_fn(int fd, int wait_ms, int (*stop)(void *), void *rock);

static int lock_exclusive(int fd, int wait_ms, int (*stop)(void *), void *rock)
{
    return filelock_lock(fd, FILELOCK_EXCLUSIVE, wait_ms, stop, rock);
}

/* At once, or else it is told that it takes a while. */
static int lock_or_wait(struct lcb_store *s, lock_fn *lock, int fd, int wait_ms)
{
    int r = lock(fd, 0, NULL, NULL);
    if (r != XERR_LOCKED || !wait_ms)
        return r;
    if (s->waiting)
        s->waiting(s->waiting_rock);
    return lock(fd, wait_ms, stopped, s);
}

int lcb_lock_writers(struct lcb_store *s, int fd, int wait_ms)
{
    return lock_or_wait(s, lock_exclusive, fd, wait_ms);
}

int lcb_lock_maintenance(struct lcb_store *s, int fd, int wait_ms)
{
    return lock_or_wait(s, filelock_maintain, fd, wait_ms);
}

int lcb_store_foreach(struct lcb_store *s, const char *prefix,
                      int (*fn)(void *rock, const char *userid, const char *path), void *rock)
{
    return lcb_db_foreach(s->db, prefix, fn, rock);
}

int lcb_store_find(struct lcb_store *s, const char *userid, char **path)
{
    return lcb_db_find(s->db, userid, path);
}

int lcb_store_tmpfile(struct lcb_store *s, int *fd)
{
    char *path = xasprintf("%s/upload.XXXXXX", s->staging);
    int r = vfs_mkstemp(s->vfs, path);
    if (r == -ENOENT && !(r = vfs_mkparents(s->vfs, path))) {
        memcpy(path + strlen(path) - 6, "XXXXXX", 6);
        r = vfs_mkstemp(s->vfs, path);
    }
    if (r >= 0) {
        *fd = r;
        r = vfs_unlink(s->vfs, path);
    }
    free(path);
    return r < 0 ? r : 0;
}
