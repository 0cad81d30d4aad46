/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_partition - where a new backup goes.
 *
 * Choosing works with weights. Every usable partition begins with its percentage of free space;
 * steps that the mode asks for set weights to 0 (the same file system again, above the soft limit)
 * or change them; and in the end either the largest wins or one is drawn with its weight as its
 * chance. Modes and arithmetic are those of Cyrus IMAP's partition selection, so that one set of
 * options means the same for spool and backup partitions.
 *
 * File names hold the user id in a form that is safe whatever the user id is, because it comes from
 * the network. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>

#include "backup/lcb_partition.h"
#include "lib/sha1crc.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

struct candidate {
    const struct lcb_partition *part;
    struct lcb_usage usage;
    double weight;
};

struct candidates {
    struct candidate *at;
    size_t count;
    int error; /* of the first that was left out */
};

/* The device number tells file systems apart better than f_fsid, which some leave 0. */
int lcb_partition_usage(void *rock, const char *dir, struct lcb_usage *u)
{
    struct statvfs vs;
    struct stat st;
    (void)rock;
    if (statvfs(dir, &vs) < 0 || stat(dir, &st) < 0)
        return -errno;
    /* Multiplied as floating point: no overflow, and nobody needs the last KiB. */
    double unit = (double)vs.f_frsize / 1024;
    u->avail = (uint64_t)((double)vs.f_bavail * unit);
    u->total = (uint64_t)((double)vs.f_blocks * unit);
    u->fsid = st.st_dev;
    return 0;
}

static double system_draw(void *rock)
{
    uint64_t r = 0;
    (void)rock;
    if (getrandom(&r, sizeof(r), 0) != sizeof(r))
        r = (uint64_t)random() << 33;
    return (double)(r >> 11) / 9007199254740992.0; /* 2^53 */
}

/* Left out, and why. */
static void tell(struct candidates *all, const struct lcb_partition *part, int error)
{
    xlog_warnx("backuppartition-%s: %s: %s", part->name, part->dir, error_message(error));
    if (!all->error)
        all->error = error;
}

/* Make the directory if it is missing, and see how full it is. */
static int examine(struct vfs *vfs, const struct lcb_placement *p, struct candidate *c)
{
    struct stat st;
    int r = c->part->dir[0] == '/' ? vfs_stat(vfs, c->part->dir, &st) : XERR_CONFIG;
    if (r == -ENOENT) {
        char *below = xasprintf("%s/x", c->part->dir);
        r = vfs_mkparents(vfs, below);
        free(below);
    }
    if (r >= 0)
        r = (p->usage ? p->usage : lcb_partition_usage)(p->rock, c->part->dir, &c->usage);
    return r < 0 ? r : 0;
}

static void collect(struct vfs *vfs, const struct lcb_placement *p, struct candidates *all)
{
    struct strarray excluded = STRARRAY_INITIALIZER;
    if (p->exclude)
        strarray_split(&excluded, p->exclude, " ,\t");
    for (size_t i = 0; i < p->count; i++) {
        struct candidate *c = &all->at[all->count];
        c->part = &p->partitions[i];
        if (strarray_find(&excluded, c->part->name) >= 0)
            continue;
        int r = examine(vfs, p, c);
        if (r)
            tell(all, c->part, r);
        else
            all->count++;
    }
    strarray_fini(&excluded);
}

static void leave_out(struct candidates *all, size_t i)
{
    all->count--;
    memmove(&all->at[i], &all->at[i + 1], (all->count - i) * sizeof(*all->at));
}

/* A pseudo file system may have no size at all. */
static void weigh(struct candidates *all)
{
    for (size_t i = 0; i < all->count; i++) {
        const struct lcb_usage *u = &all->at[i].usage;
        all->at[i].weight = u->total ? 100.0 * (double)u->avail / (double)u->total : -1;
    }
}

/* Everyone with a weight gets the same; if nobody has one, everyone does. */
static void level(struct candidates *all)
{
    int any = 0;
    for (size_t i = 0; i < all->count; i++)
        any |= all->at[i].weight != 0;
    for (size_t i = 0; i < all->count; i++)
        all->at[i].weight = !any || all->at[i].weight != 0;
}

/* A partition on a file system that another one has already offered does not count again. */
static void drop_same_filesystem(struct candidates *all)
{
    for (size_t i = 1; i < all->count; i++)
        for (size_t j = 0; j < i; j++)
            if (all->at[i].usage.fsid == all->at[j].usage.fsid)
                all->at[i].weight = 0;
}

/* Those fuller than the soft limit go, unless all are. */
static void drop_full(struct candidates *all, int soft_usage_limit)
{
    double limit = 100.0 - soft_usage_limit;
    int any = 0;
    for (size_t i = 0; i < all->count; i++)
        any |= all->at[i].weight > limit;
    for (size_t i = 0; any && i < all->count; i++)
        if (all->at[i].weight <= limit)
            all->at[i].weight = 0;
}

static void take_delta(struct candidates *all)
{
    double least = 0;
    for (size_t i = 0; i < all->count; i++) {
        double w = all->at[i].weight;
        if (w > 0 && (!(least > 0) || w < least))
            least = w;
    }
    for (size_t i = 0; i < all->count; i++)
        if (all->at[i].weight > 0)
            all->at[i].weight += 0.5 - least;
}

static const struct candidate *draw(const struct lcb_placement *p, const struct candidates *all)
{
    const struct candidate *last = NULL;
    double sum = 0, below = 0;
    for (size_t i = 0; i < all->count; i++)
        sum += all->at[i].weight;
    double x = sum * (p->draw ? p->draw : system_draw)(p->rock);
    for (size_t i = 0; i < all->count; i++) {
        if (!(all->at[i].weight > 0))
            continue;
        last = &all->at[i];
        below += last->weight;
        if (x < below)
            break;
    }
    return last;
}

/* The first of those with most free space, in KiB or as a percentage. */
static const struct candidate *largest(const struct candidates *all, int percent)
{
    const struct candidate *best = NULL;
    for (size_t i = 0; i < all->count; i++) {
        const struct candidate *c = &all->at[i];
        if (!(c->weight > 0))
            continue;
        if (!best || (percent ? c->weight > best->weight : c->usage.avail > best->usage.avail))
            best = c;
    }
    return best;
}

static const struct candidate *choose(const struct lcb_placement *p, struct candidates *all)
{
    int most = p->mode == LCB_SELECT_MOST || p->mode == LCB_SELECT_PERCENT_MOST;
    int even = p->mode == LCB_SELECT_RANDOM;
    weigh(all);
    if (most)
        drop_same_filesystem(all);
    int sane = 1, any = 0;
    for (size_t i = 0; i < all->count; i++) {
        sane &= all->at[i].weight >= 0 && all->at[i].weight <= 100;
        any |= all->at[i].weight > 0;
    }
    if (even) {
        for (size_t i = 0; i < all->count; i++)
            all->at[i].weight = 1;
        return draw(p, all);
    }
    if (!sane || !any) {
        level(all);
        return draw(p, all);
    }
    drop_full(all, p->soft_usage_limit);
    if (most)
        return largest(all, p->mode == LCB_SELECT_PERCENT_MOST);
    if (p->mode == LCB_SELECT_PERCENT_DELTA)
        take_delta(all);
    return draw(p, all);
}

int lcb_partition_choose(struct vfs *vfs, const struct lcb_placement *p,
                         const struct lcb_partition **chosen)
{
    struct candidates all = {xcalloc(p->count, sizeof(*all.at)), 0, 0};
    *chosen = NULL;
    collect(vfs, p, &all);
    while (all.count && !*chosen) {
        const struct candidate *c = choose(p, &all);
        int r = p->usable ? p->usable(p->rock, c->part->dir) : 0;
        if (r < 0) {
            tell(&all, c->part, r);
            leave_out(&all, (size_t)(c - all.at));
        } else {
            *chosen = c->part;
        }
    }
    free(all.at);
    return *chosen ? 0 : all.error ? all.error : XERR_CONFIG;
}

char lcb_path_hash(const char *userid, int full)
{
    const unsigned char *p = (const unsigned char *)userid;
    if (!full) {
        int c = *p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p;
        return c >= 'a' && c <= 'z' ? (char)c : 'q';
    }
    uint32_t n = 0;
    for (; *p && *p != '.'; p++)
        n = ((n << 3) ^ (n >> 5)) ^ *p;
    return (char)('A' + n % 23);
}

static const char shared[] = "%SHARED";
enum { DIGEST_LEN = 2 + 2 * SHA1_LEN, RANDOM_LEN = 7 };

static int is_plain(unsigned char c, size_t at)
{
    return c >= 0x20 && c < 0x7f && c != '/' && c != '%' && (c != '.' || at);
}

int lcb_filename_encode(struct buf *out, const void *userid, size_t len)
{
    const unsigned char *p = userid;
    size_t start = out->len, fits = start; /* fits: where there is still room for a digest */
    if (!len)
        return XERR_PARAM;
    if (len == sizeof(shared) - 1 && !memcmp(p, shared, len)) {
        buf_appendcstr(out, shared);
        return 0;
    }
    for (size_t i = 0; i < len && out->len - start <= LCB_FILENAME_MAX; i++) {
        if (is_plain(p[i], i))
            buf_putc(out, p[i]);
        else
            buf_printf(out, "%%%02X", p[i]);
        if (out->len - start <= LCB_FILENAME_MAX - DIGEST_LEN)
            fits = out->len;
    }
    if (out->len - start > LCB_FILENAME_MAX) {
        unsigned char sum[SHA1_LEN];
        sha1_once(userid, len, sum);
        buf_truncate(out, fits);
        buf_appendcstr(out, "%~");
        for (int i = 0; i < SHA1_LEN; i++)
            buf_printf(out, "%02x", sum[i]);
    }
    return 0;
}

static int hexvalue(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int lcb_filename_decode(struct buf *userid, const char *name)
{
    size_t len = strlen(name);
    if (len <= RANDOM_LEN || name[len - RANDOM_LEN] != '_' || strchr(name, '/'))
        return XERR_FORMAT;
    for (size_t i = len - RANDOM_LEN + 1; i < len; i++)
        if (!isalnum((unsigned char)name[i]))
            return XERR_FORMAT;
    len -= RANDOM_LEN;
    if (len >= DIGEST_LEN && !memcmp(name + len - DIGEST_LEN, "%~", 2))
        return XERR_TOOBIG;
    for (size_t i = 0; i < len; i++) {
        int high = i + 2 < len && name[i] == '%' ? hexvalue(name[i + 1]) : -1;
        int low = high >= 0 ? hexvalue(name[i + 2]) : -1;
        if (low >= 0) {
            buf_putc(userid, high << 4 | low);
            i += 2;
        } else {
            buf_putc(userid, name[i]);
        }
    }
    return 0;
}

/* The parents of TEMPLATE_, the file, and its name on stable storage. */
static int make_file(struct vfs *vfs, char *template_)
{
    int r = vfs_mkparents(vfs, template_);
    if (r < 0)
        return r;
    int fd = vfs_mkstemp(vfs, template_);
    if (fd < 0)
        return fd;
    r = vfs_fsyncparent(vfs, template_);
    if (r < 0) {
        vfs_close(vfs, &fd);
        vfs_unlink(vfs, template_);
        return r;
    }
    return fd;
}

int lcb_path_new(struct vfs *vfs, const char *dir, const char *userid, int fulldirhash, char **path,
                 int *fd)
{
    struct buf b = BUF_INITIALIZER;
    *path = NULL;
    *fd = -1;
    if (dir[0] != '/')
        return XERR_CONFIG;
    buf_printf(&b, "%s/%c/", dir, lcb_path_hash(userid, fulldirhash));
    int r = lcb_filename_encode(&b, userid, strlen(userid));
    if (!r) {
        buf_appendcstr(&b, "_XXXXXX");
        buf_cstring(&b);
        r = make_file(vfs, b.s);
    }
    if (r >= 0) {
        *fd = r;
        *path = buf_release(&b);
        r = 0;
    }
    buf_free(&b);
    return r;
}
