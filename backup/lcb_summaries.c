/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_summaries - summaries of very many backups, remembered from one run to the next.
 *
 * To open an SQLite database costs some 200 us, whatever is asked of it; to ask for the state of a file
 * costs 2. A list of ten thousand backups of which ten have changed should cost ten of the one and
 * not many more than ten thousand of the other. So what was read is kept in one file, that is read in
 * one go:
 *
 *     head        magic, sizes and numbers, CRC-32 of the rest
 *     states      of the directories: device, inode, mtime and ctime
 *     entries     state of the data file, with its size; state of the index; directory; what was read
 *
 * An entry counts only if the data file is in the same state. It is made only if the index spoke for
 * all of the data file as it stood before the index was opened. A commit changes the data file first
 * and the index after it, and the data file's size grows with each; so what the index said then is what
 * it says now. (Commits to the index stay in its -wal for a while: its own state would not tell.)
 * That the index is still there, and the same file, is seen from the state of the directory, if
 * that is what it was; else the index is looked at, too. A directory that was changed less than
 * SETTLED seconds ago does not count: it may change once more within the resolution of its time.
 * What is damaged or missing is never remembered, and so is looked at each time.
 *
 * The file may be deleted at any time. It is native binary, checked by its CRC and not synced; a new
 * one is written beside it under a lock, when enough has changed to be worth it, and renamed over.
 * It holds the backups of the last run, no others, so it does not outgrow them.
 *
 * Entries have no names: data files are found by device and inode. Mostly they are asked for in the
 * order in which they stand; a hash table is built the first time that they are not. Directories are
 * held open, so that the kernel looks up one name for each file and not its whole path. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_int.h"
#include "backup/lcb_summary.h"
#include "backup/lcb_walk.h"
#include "lib/filelock.h"
#include "lib/hash.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define MAGIC 0x31534243u /* "CBS1" */
#define WORTH 16          /* so many changes make writing the file worth it, */
#define WORTH_LOOKED 1000 /* or so many looks at indexes that nothing was found by */
#define SETTLED 2
#define NO_DIR UINT32_MAX
#define FILE_MAX (1 << 30) /* of five million backups: what is larger is none of ours */
#define OPEN_DIRS 64 /* at the most; files in others are asked for by their whole paths */

struct file_state {
    uint64_t dev, ino;
    int64_t size, mtime, ctime;       /* seconds */
    uint32_t mtime_nsec, ctime_nsec;
};

struct entry {
    struct file_state data, index;
    int64_t start, end;
    uint32_t chunks; /* 0 or 1 */
    uint32_t dir;    /* number of its state, or NO_DIR */
};

struct head {
    uint32_t magic, entry_size, count, dirs, crc, unused;
};

/* What the file to be written will hold: an entry of the old one, or a new one. */
struct kept {
    const struct entry *entry;
    uint32_t dir;
    int fresh; /* it is to be freed */
};

/* A directory in this run. */
struct dir {
    uint32_t was; /* number of the same state in the file that was read, or NO_DIR */
    uint32_t is;  /* number in the file to be written, or NO_DIR if it may yet change */
    int fd;       /* or -1 */
};

struct lcb_summaries {
    struct lcb_store *store;
    struct vfs *vfs;
    char *path;
    char *bytes; /* as read: */
    struct file_state *old_dirs;
    size_t nold_dirs;
    struct entry *old;
    size_t nold, cursor;
    uint32_t *table;   /* number + 1 of an entry of OLD, 0: free; twice as large at least */
    size_t mask;
    struct kept *now; /* to be written */
    size_t nnow, alloc;
    struct file_state *now_dirs;
    uint32_t nnow_dirs;
    struct hash *dirs; /* by path: struct dir */
    struct buf dir;    /* the one that was asked for last */
    struct dir *last;
    int fds[OPEN_DIRS]; /* of directories */
    int nfds;
    size_t changed, looked;
    struct buf index; /* path */
};

/* ---- reading ---- */

static int good_head(const struct head *h, off_t size)
{
    return h->magic == MAGIC && h->entry_size == sizeof(struct entry) && size <= FILE_MAX &&
           size == (off_t)(sizeof(*h) + (uint64_t)h->dirs * sizeof(struct file_state) +
                           (uint64_t)h->count * sizeof(struct entry));
}

/* Everything that is wrong with the file makes it empty. */
static void load(struct lcb_summaries *c)
{
    struct head h;
    struct stat st;
    int fd = vfs_open(c->vfs, c->path, O_RDONLY, 0);
    if (fd < 0)
        return;
    if (!vfs_fstat(c->vfs, fd, &st) && vfs_pread(c->vfs, fd, &h, sizeof(h), 0) == sizeof(h) &&
        good_head(&h, st.st_size)) {
        size_t size = (size_t)st.st_size - sizeof(h);
        c->bytes = xmalloc(size + 1);
        if (vfs_pread(c->vfs, fd, c->bytes, size, sizeof(h)) == (ssize_t)size &&
            crc32_map(0, c->bytes, size) == h.crc) {
            c->nold_dirs = h.dirs;
            c->nold = h.count;
            c->old_dirs = (struct file_state *)(void *)c->bytes;
            c->old = (struct entry *)(void *)(c->bytes + h.dirs * sizeof(struct file_state));
        }
    }
    vfs_close(c->vfs, &fd);
}

void lcb_summaries_open(struct lcb_store *store, const char *path, struct lcb_summaries **cp)
{
    struct lcb_summaries *c = xzmalloc(sizeof(*c));
    c->store = store;
    c->vfs = lcb_store_vfs(store);
    c->path = xstrdupnull(path);
    c->dirs = hash_new();
    if (path)
        load(c);
    *cp = c;
}

static size_t slot_of(const struct lcb_summaries *c, const struct file_state *f)
{
    return (size_t)((f->ino * 0x9e3779b97f4a7c15u + f->dev) >> 20) & c->mask;
}

static void build_table(struct lcb_summaries *c)
{
    size_t n = 16;
    while (n < 2 * c->nold)
        n *= 2;
    c->table = xcalloc(n, sizeof(*c->table));
    c->mask = n - 1;
    for (size_t i = 0; i < c->nold; i++) {
        size_t at = slot_of(c, &c->old[i].data);
        while (c->table[at])
            at = (at + 1) & c->mask;
        c->table[at] = (uint32_t)i + 1;
    }
}

static int same_file(const struct file_state *a, const struct file_state *b)
{
    return a->ino == b->ino && a->dev == b->dev;
}

static const struct entry *find(struct lcb_summaries *c, const struct file_state *data)
{
    if (c->cursor < c->nold && same_file(&c->old[c->cursor].data, data))
        return &c->old[c->cursor++];
    if (!c->nold)
        return NULL;
    if (!c->table)
        build_table(c);
    for (size_t at = slot_of(c, data); c->table[at]; at = (at + 1) & c->mask) {
        const struct entry *e = &c->old[c->table[at] - 1];
        if (same_file(&e->data, data)) {
            c->cursor = c->table[at];
            return e;
        }
    }
    return NULL;
}

static struct file_state state_of(const struct stat *st)
{
    return (struct file_state){
        .dev = st->st_dev,
        .ino = st->st_ino,
        .size = st->st_size,
        .mtime = st->st_mtim.tv_sec,
        .ctime = st->st_ctim.tv_sec,
        .mtime_nsec = (uint32_t)st->st_mtim.tv_nsec,
        .ctime_nsec = (uint32_t)st->st_ctim.tv_nsec,
    };
}

static int unchanged(const struct file_state *a, const struct file_state *b)
{
    return a->size == b->size && a->mtime == b->mtime && a->mtime_nsec == b->mtime_nsec &&
           a->ctime == b->ctime && a->ctime_nsec == b->ctime_nsec && same_file(a, b);
}

/* ---- directories ---- */

/* Open it, if that is possible, and not too many are, and ask for its state. */
static int enter_dir(struct lcb_summaries *c, struct dir *d, const char *path, struct stat *st)
{
    path = *path ? path : ".";
    if (c->nfds < OPEN_DIRS)
        d->fd = vfs_open(c->vfs, path, O_PATH | O_DIRECTORY, 0);
    if (d->fd < 0) {
        d->fd = -1;
        return vfs_stat(c->vfs, path, st);
    }
    c->fds[c->nfds++] = d->fd;
    return vfs_fstat(c->vfs, d->fd, st);
}

static struct dir *add_dir(struct lcb_summaries *c, const char *path)
{
    struct dir *d = xmalloc(sizeof(*d));
    struct stat st;
    *d = (struct dir){.was = NO_DIR, .is = NO_DIR, .fd = -1};
    if (!enter_dir(c, d, path, &st) && st.st_mtim.tv_sec + SETTLED <= time(NULL)) {
        const struct file_state now = state_of(&st);
        for (uint32_t i = 0; i < c->nold_dirs; i++)
            if (unchanged(&c->old_dirs[i], &now))
                d->was = i;
        d->is = c->nnow_dirs++;
        c->now_dirs = xrealloc(c->now_dirs, c->nnow_dirs * sizeof(now));
        c->now_dirs[d->is] = now;
    }
    hash_insert(c->dirs, path, d);
    return d;
}

/* That of the file PATH. Its state is from before any of its files was looked at. */
static struct dir *dir_of(struct lcb_summaries *c, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (c->last && c->dir.len == n && !memcmp(c->dir.s, path, n))
        return c->last;
    buf_setmap(&c->dir, path, n);
    c->last = hash_lookupmap(c->dirs, path, n);
    if (!c->last)
        c->last = add_dir(c, buf_cstring(&c->dir));
    return c->last;
}

/* ---- one backup ---- */

static void remember(struct lcb_summaries *c, const struct entry *e, const struct dir *dir, int fresh)
{
    if (c->nnow == c->alloc) {
        c->alloc = c->alloc ? 2 * c->alloc : c->nold + 64;
        c->now = xrealloc(c->now, c->alloc * sizeof(*c->now));
    }
    c->now[c->nnow++] = (struct kept){e, dir->is, fresh};
}

static int read_index(struct lcb_summaries *c, const char *path, struct entry *e,
                      const struct dir *dir, struct lcb_summary *s)
{
    int r = lcb_summary_read(c->store, path, 0, s);
    if (r || !s->complete || s->size != (uint64_t)e->data.size)
        return r;
    e->start = s->start;
    e->end = s->end;
    e->chunks = (uint32_t)s->chunks;
    if (c->path) {
        remember(c, xmemdup(e, sizeof(*e)), dir, 1);
        c->changed++;
    }
    return 0;
}

static int look_at(struct lcb_summaries *c, const struct dir *dir, const char *path,
                   struct file_state *f)
{
    struct stat st;
    const char *name = lcb_last_part(path);
    int r = dir->fd >= 0 && *name ? vfs_statat(c->vfs, dir->fd, name, &st)
                                  : vfs_stat(c->vfs, path, &st);
    if (!r)
        *f = state_of(&st);
    return r;
}

static int index_state(struct lcb_summaries *c, const struct dir *dir, const char *path,
                       struct file_state *f)
{
    buf_setcstr(&c->index, path);
    buf_appendcstr(&c->index, ".index");
    int r = look_at(c, dir, buf_cstring(&c->index), f);
    return r == -ENOENT ? XERR_NOTFOUND : r;
}

/* What is remembered is still so. */
static int tell(struct lcb_summaries *c, const struct entry *e, const struct dir *dir,
                struct lcb_summary *s)
{
    remember(c, e, dir, 0);
    memset(s, 0, sizeof(*s));
    s->size = (uint64_t)e->data.size;
    s->complete = 1;
    s->chunks = (int)e->chunks;
    s->start = e->start;
    s->end = e->end;
    return 0;
}

int lcb_summaries_get(struct lcb_summaries *c, const char *path, struct lcb_summary *s)
{
    struct entry e;
    memset(&e, 0, sizeof(e)); /* it goes to a file, padding too */
    const struct dir *dir = dir_of(c, path);
    int r = look_at(c, dir, path, &e.data);
    if (r)
        return r;
    const struct entry *old = find(c, &e.data);
    if (old && !unchanged(&old->data, &e.data))
        old = NULL;
    if (old && old->dir != NO_DIR && old->dir == dir->was)
        return tell(c, old, dir, s);
    r = index_state(c, dir, path, &e.index);
    if (r)
        return r;
    c->looked += dir->is != NO_DIR;
    return old && unchanged(&old->index, &e.index) ? tell(c, old, dir, s)
                                                   : read_index(c, path, &e, dir, s);
}

/* ---- writing ---- */

static int write_file(struct lcb_summaries *c, int fd)
{
    struct head h = {.magic = MAGIC, .entry_size = sizeof(struct entry), .dirs = c->nnow_dirs,
                     .count = (uint32_t)c->nnow};
    struct buf all = BUF_INITIALIZER;
    buf_appendmap(&all, c->now_dirs, c->nnow_dirs * sizeof(*c->now_dirs));
    for (size_t i = 0; i < c->nnow; i++) {
        struct entry e = *c->now[i].entry;
        e.dir = c->now[i].dir;
        buf_appendmap(&all, &e, sizeof(e));
    }
    h.crc = crc32_map(0, all.s, all.len);
    int r = vfs_ftruncate(c->vfs, fd, 0);
    ssize_t n = r ? 0 : vfs_pwrite(c->vfs, fd, &h, sizeof(h), 0);
    if (!r && n >= 0)
        n = vfs_pwrite(c->vfs, fd, all.s, all.len, sizeof(h));
    buf_free(&all);
    return r ? r : n < 0 ? (int)n : 0;
}

/* Is it worth it? Always if many have gone, so that the file stays in proportion. */
static int worth(const struct lcb_summaries *c)
{
    return c->changed >= WORTH || c->looked >= WORTH_LOOKED || c->nnow + WORTH <= c->nold;
}

int lcb_summaries_save(struct lcb_summaries *c)
{
    if (!c->path || !worth(c))
        return 0;
    char *fresh = xasprintf("%s.new", c->path);
    int fd = vfs_open(c->vfs, fresh, O_RDWR | O_CREAT, 0600);
    int r = fd < 0 ? fd : filelock_lock(fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL);
    /* The one that had the lock may have renamed it. */
    if (!r && filelock_same(fd, fresh) != 1)
        r = XERR_LOCKED;
    if (!r)
        r = write_file(c, fd);
    if (!r)
        r = vfs_rename(c->vfs, fresh, c->path);
    if (fd >= 0)
        vfs_close(c->vfs, &fd);
    free(fresh);
    return r;
}

void lcb_summaries_close(struct lcb_summaries **cp)
{
    struct lcb_summaries *c = *cp;
    if (!c)
        return;
    for (size_t i = 0; i < c->nnow; i++)
        if (c->now[i].fresh)
            free((void *)(uintptr_t)c->now[i].entry);
    for (int i = 0; i < c->nfds; i++)
        vfs_close(c->vfs, &c->fds[i]);
    hash_free(&c->dirs, free);
    buf_free(&c->dir);
    buf_free(&c->index);
    free(c->path);
    free(c->bytes);
    free(c->now);
    free(c->now_dirs);
    free(c->table);
    free(c);
    *cp = NULL;
}
