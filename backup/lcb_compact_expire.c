/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_expire - remove what backup_keep_previous has kept: <data>.<time>, <data>.index.<time>,
 * <data>.<time>.index, which who looks at the former makes, and what SQLite may have left beside these.
 * Cyrus 3.x gave such files the same names. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_compact_int.h"
#include "backup/lcb_partition.h"
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

int lcb_compact_expire(struct lcb_store *store, const char *userid, const char *path, int64_t before,
                       int dry_run, void (*removed)(void *rock, const char *path), void *rock)
{
    struct vfs *vfs = lcb_store_vfs(store);
    struct listing l = {.random = userid != NULL, .before = before};
    struct buf prefix = BUF_INITIALIZER;
    const char *last = lcb_last_part(path);
    char *dir = lcb_directory(path);
    int r = 0;
    if (userid) {
        r = lcb_filename_encode(&prefix, userid, strlen(userid));
        buf_putc(&prefix, '_');
    } else {
        buf_setcstr(&prefix, last);
    }
    l.prefix = buf_cstring(&prefix);
    if (!r)
        r = vfs_list(vfs, dir, note_name, &l);
    for (int i = 0; !r && i < l.found.count; i++) {
        char *name = xasprintf("%.*s%s", (int)(last - path), path, strarray_nth(&l.found, i));
        r = dry_run ? 0 : vfs_unlink(vfs, name);
        r = r == -ENOENT ? 0 : r;
        if (!r && removed)
            removed(rock, name);
        free(name);
    }
    strarray_fini(&l.found);
    buf_free(&prefix);
    free(dir);
    return r;
}
