/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_walk - every file below the backup partitions.
 *
 * Data files are in one-letter directories below a partition, but an administrator may have moved
 * them up or down, or to another disk behind a symbolic link. So directories are followed to some
 * depth, links too, and each is visited once: partitions may lie within each other.
 *
 * What a file is, its name says: all that belongs to a backup is called after its data file,
 * <userid>_XXXXXX, with a suffix. Since the user id may hold anything, names are read from their
 * end: a name that ends in _XXXXXX is a data file, and of any other the last _XXXXXX with a known
 * suffix counts. A directory may be called like one (my_backup, my_backup.20260101), and is none.
 *
 * A directory is not held in memory: memory does not grow with the number of files. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "backup/lcb_partition.h"
#include "backup/lcb_walk.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define DEPTH_MAX 4
#define RANDOM_LEN 7 /* _XXXXXX */

/* ---- names ---- */

char *lcb_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? xstrndup(path, slash > path ? (size_t)(slash - path) : 1) : xstrdup(".");
}

const char *lcb_last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int is_random(const char *p)
{
    if (*p != '_')
        return 0;
    for (int i = 1; i < RANDOM_LEN; i++)
        if (!isalnum((unsigned char)p[i]))
            return 0;
    return 1;
}

/* Digits to the end of the text: 1 and their value. */
static int number(const char *s, int64_t *n)
{
    *n = 0;
    if (!*s || strlen(s) > 18)
        return 0;
    for (; *s; s++) {
        if (!isdigit((unsigned char)*s))
            return 0;
        *n = *n * 10 + (*s - '0');
    }
    return 1;
}

/* ".index" and what SQLite keeps beside it. */
static int is_index(const char *s)
{
    static const char *const names[] = {".index", ".index-wal", ".index-shm", ".index-journal", NULL};
    int i = 0;
    while (names[i] && strcmp(names[i], s))
        i++;
    return names[i] != NULL;
}

/* WORD and a time at the beginning of S: what is behind them, or NULL. */
static const char *behind_time(const char *s, const char *word, int64_t *time)
{
    char digits[20];
    size_t len = strlen(word);
    size_t count = strncmp(s, word, len) ? 0 : strspn(s + len, "0123456789");
    *time = 0;
    if (!count || count >= sizeof(digits))
        return NULL;
    memcpy(digits, s + len, count);
    digits[count] = '\0';
    return number(digits, time) ? s + len + count : NULL;
}

/* ".deleted.<time>", perhaps with an index' suffix behind it. */
static int is_deleted(const char *s, struct lcb_name *n)
{
    const char *rest = behind_time(s, ".deleted.", &n->time);
    n->kind = rest && *rest ? LCB_NAME_DELETED_INDEX : LCB_NAME_DELETED;
    return rest && (!*rest || is_index(rest));
}

/* ".index.old", ".index.<time>", and the index of a data file that was kept, each perhaps with what
 * SQLite keeps beside it. */
static int is_oldindex(const char *s, struct lcb_name *n)
{
    n->kind = LCB_NAME_OLDINDEX;
    n->time = 0;
    if (!strncmp(s, ".index.old", 10))
        return 1;
    const char *rest = behind_time(s, ".index.", &n->time);
    if (rest)
        return !*rest || !strcmp(rest, "-wal") || !strcmp(rest, "-shm") || !strcmp(rest, "-journal");
    rest = behind_time(s, ".", &n->time);
    return rest && is_index(rest);
}

/* The suffix S of a data file's name. */
static int known_suffix(const char *s, struct lcb_name *n)
{
    if (is_deleted(s, n) || is_oldindex(s, n))
        return 1;
    n->time = 0;
    if (is_index(s)) {
        n->kind = LCB_NAME_INDEX;
    } else if (!strcmp(s, ".new") || !strcmp(s, ".index.new") ||
               (!strncmp(s, ".new", 4) && is_index(s + 4))) {
        n->kind = LCB_NAME_NEW;
    } else if (!strncmp(s, ".tail.", 6) || !strncmp(s, ".damaged.", 9)) {
        n->kind = LCB_NAME_ASIDE;
    } else {
        n->kind = LCB_NAME_PREVIOUS;
        return *s == '.' && number(s + 1, &n->time);
    }
    return 1;
}

void lcb_name_parse(const char *name, struct lcb_name *n)
{
    size_t len = strlen(name);
    memset(n, 0, sizeof(*n));
    n->kind = LCB_NAME_OTHER;
    if (len > RANDOM_LEN && is_random(name + len - RANDOM_LEN)) {
        n->kind = LCB_NAME_DATA;
        n->baselen = len;
        return;
    }
    for (size_t i = len; i-- > RANDOM_LEN;) {
        if (name[i] != '.' || !is_random(name + i - RANDOM_LEN) || i == RANDOM_LEN)
            continue;
        if (known_suffix(name + i, n)) {
            n->baselen = i;
            return;
        }
    }
    memset(n, 0, sizeof(*n));
    n->kind = LCB_NAME_OTHER;
}

static int is_encoded(const char *name, size_t len, const char *userid)
{
    struct buf ours = BUF_INITIALIZER;
    int same = !lcb_filename_encode(&ours, userid, strlen(userid)) && ours.len == len &&
               !memcmp(ours.s, name, len);
    buf_free(&ours);
    return same;
}

int lcb_name_is_for(const char *name, size_t baselen, const char *userid)
{
    size_t len = baselen - RANDOM_LEN;
    return (strlen(userid) == len && !memcmp(userid, name, len)) || /* Cyrus does not encode */
           is_encoded(name, len, userid);
}

int lcb_name_says(const char *name, size_t baselen, const char *userid)
{
    struct buf says = BUF_INITIALIZER;
    char *base = xstrndup(name, baselen);
    int same = !lcb_filename_decode(&says, base) && !strcmp(buf_cstring(&says), userid);
    buf_free(&says);
    free(base);
    return same || is_encoded(name, baselen - RANDOM_LEN, userid);
}

/* ---- directories ---- */

struct visited {
    dev_t dev;
    ino_t ino;
};

struct walker {
    struct lcb_store *store;
    struct vfs *vfs;
    const struct lcb_walk *w;
    struct visited *visited;
    size_t nvisited;
    struct buf path;
    int depth;
};

static int walk_dir(struct walker *k);

/* 1 if it is new. */
static int visit(struct walker *k, const struct stat *st)
{
    for (size_t i = 0; i < k->nvisited; i++)
        if (k->visited[i].dev == st->st_dev && k->visited[i].ino == st->st_ino)
            return 0;
    k->visited = xrealloc(k->visited, (k->nvisited + 1) * sizeof(*k->visited));
    k->visited[k->nvisited].dev = st->st_dev;
    k->visited[k->nvisited++].ino = st->st_ino;
    return 1;
}

static int other_error(struct walker *k, int error)
{
    struct lcb_name n = {.kind = LCB_NAME_OTHER};
    return k->w->file(k->w->rock, buf_cstring(&k->path), &n, error);
}

/* k->path is something whose name is not one of ours: a directory, mostly. */
static int walk_other(struct walker *k)
{
    struct lcb_name n = {.kind = LCB_NAME_OTHER};
    struct stat st;
    int r = vfs_stat(k->vfs, buf_cstring(&k->path), &st);
    if (r == -ENOENT && k->depth)
        return 0; /* gone meanwhile, or a link to nowhere */
    if (r < 0)
        return other_error(k, r);
    if (!S_ISDIR(st.st_mode))
        return k->w->file(k->w->rock, buf_cstring(&k->path), &n, 0);
    return k->depth < DEPTH_MAX && visit(k, &st) ? walk_dir(k) : 0;
}

/* Is k->path, whose name is one of ours, a directory all the same? Nobody does anything to an index
 * because of its name, and there are as many as data files. */
static int is_directory(struct walker *k, const struct lcb_name *n)
{
    struct stat st;
    return n->kind != LCB_NAME_INDEX && vfs_stat(k->vfs, buf_cstring(&k->path), &st) >= 0 &&
           S_ISDIR(st.st_mode);
}

static int walk_name(void *rock, const char *name)
{
    struct walker *k = rock;
    struct lcb_name n;
    size_t len = k->path.len;
    if (lcb_store_stopped(k->store))
        return XERR_SIGNAL;
    if (!strcmp(name, "lost+found"))
        return 0;
    lcb_name_parse(name, &n);
    buf_putc(&k->path, '/');
    buf_appendcstr(&k->path, name);
    int r = n.kind == LCB_NAME_OTHER || is_directory(k, &n)
                ? walk_other(k) : k->w->file(k->w->rock, buf_cstring(&k->path), &n, 0);
    buf_truncate(&k->path, len);
    return r;
}

struct listing {
    struct walker *walker;
    int inner; /* what FILE said, as opposed to what the directory said */
};

static int walk_listed(void *rock, const char *name)
{
    struct listing *l = rock;
    return l->inner = walk_name(l->walker, name);
}

static int walk_dir(struct walker *k)
{
    struct listing l = {k, 0};
    char *dir = xstrndup(k->path.s, k->path.len);
    k->depth++;
    int r = vfs_list(k->vfs, dir, walk_listed, &l);
    k->depth--;
    free(dir);
    if (l.inner || !r)
        return l.inner;
    return r == -ENOENT ? 0 : other_error(k, r);
}

int lcb_walk(struct lcb_store *s, const struct lcb_walk *w)
{
    struct walker k = {.store = s, .vfs = lcb_store_vfs(s), .w = w};
    struct lcb_placement p;
    lcb_store_placement(s, &p);
    int r = p.count ? 0 : XERR_CONFIG;
    for (size_t i = 0; !r && i < p.count; i++) {
        size_t len = strlen(p.partitions[i].dir);
        while (len > 1 && p.partitions[i].dir[len - 1] == '/')
            len--;
        buf_setmap(&k.path, p.partitions[i].dir, len);
        r = walk_other(&k);
    }
    free(k.visited);
    buf_free(&k.path);
    return r;
}
