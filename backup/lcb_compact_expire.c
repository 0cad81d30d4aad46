/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_expire - remove what backup_keep_previous has kept: <data>.<time>, <data>.index.<time>,
 * <data>.<time>.index, which who looks at the former makes, and what SQLite may have left beside these.
 * Cyrus 3.x gave such files the same names. A backup that is moved leaves them where it was, so they
 * are looked for on all partitions. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_compact_int.h"
#include "backup/lcb_partition.h"
#include "backup/lcb_switch.h"
#include "backup/lcb_walk.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { RANDOM_LEN = 6, DIGITS_MIN = 9, DIGITS_MAX = 11 };

struct listing {
    const char *prefix; /* of names: the whole name of the data file, or all but its random part */
    int random;         /* that follows then */
    int64_t before;
    struct strarray found;
};

/* ".<time>", ".index.<time>" or ".<time>.index", the last two perhaps with an ending of SQLite's: the
 * time, or 0. */
static int64_t kept_since(const char *p)
{
    int64_t t = 0;
    int digits = 0;
    int index = !strncmp(p, ".index.", 7);
    p += index ? 7 : *p == '.';
    for (; isdigit((unsigned char)*p) && digits <= DIGITS_MAX; p++, digits++)
        t = t * 10 + (*p - '0');
    if (!index && !strncmp(p, ".index", 6)) {
        index = 1;
        p += 6;
    }
    if (index && (!strcmp(p, "-wal") || !strcmp(p, "-shm")))
        p += 4;
    return *p || digits < DIGITS_MIN || digits > DIGITS_MAX ? 0 : t;
}

static int note_name(void *rock, const char *name)
{
    struct listing *l = rock;
    size_t len = strlen(l->prefix);
    if (strncmp(name, l->prefix, len))
        return 0;
    name += len;
    for (int i = 0; l->random && i < RANDOM_LEN; i++)
        if (!isalnum((unsigned char)*name++))
            return 0;
    int64_t t = *name == '.' ? kept_since(name) : 0;
    if (t && t <= l->before)
        strarray_append(&l->found, name - len - (size_t)(l->random ? RANDOM_LEN : 0));
    return 0;
}

struct expiry {
    struct vfs *vfs;
    struct listing listing;
    int dry_run;
    void (*removed)(void *rock, const char *path);
    void *rock;
};

static int expire_in(struct expiry *e, const char *dir)
{
    struct listing *l = &e->listing;
    int r = vfs_list(e->vfs, dir, note_name, l);
    for (int i = 0; !r && i < l->found.count; i++) {
        char *name = xasprintf("%s/%s", strcmp(dir, "/") ? dir : "", strarray_nth(&l->found, i));
        r = e->dry_run ? 0 : vfs_unlink(e->vfs, name);
        if (!r && e->removed)
            e->removed(e->rock, name);
        r = r == -ENOENT ? 0 : r;
        free(name);
    }
    strarray_fini(&l->found);
    return r;
}

int lcb_compact_expire(struct lcb_store *store, const char *userid, const char *path, int64_t before,
                       int dry_run, void (*removed)(void *rock, const char *path), void *rock)
{
    struct expiry e = {lcb_store_vfs(store), {.random = userid != NULL, .before = before}, dry_run,
                       removed, rock};
    struct strarray dirs = {.count = 0};
    struct buf prefix = BUF_INITIALIZER;
    int r = 0;
    if (userid) {
        r = lcb_filename_encode(&prefix, userid, strlen(userid));
        buf_putc(&prefix, '_');
        lcb_switch_dirs(store, userid, path, &dirs);
    } else {
        char *dir = lcb_directory(path);
        buf_setcstr(&prefix, lcb_last_part(path));
        strarray_append(&dirs, dir);
        free(dir);
    }
    e.listing.prefix = buf_cstring(&prefix);
    for (int i = 0, failed = r; !failed && i < dirs.count; i++) {
        int one = expire_in(&e, strarray_nth(&dirs, i));
        r = r || (i && one == -ENOENT) ? r : one; /* nobody is obliged to have been everywhere */
    }
    strarray_fini(&dirs);
    buf_free(&prefix);
    return r;
}
