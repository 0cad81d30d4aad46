/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_balance - which backups to move so that the partitions are alike.
 *
 * What counts is the file system: partitions on the same one are one place. Each place has a level
 * that would be its own if all were alike; a place with less free space than that gives, one with more
 * takes. As new backups go where there is most room, by the same measure, places that are alike stay
 * so.
 *
 * Which ones: large ones first, so that few are moved; that is done in some rounds over all backups,
 * each with a smaller minimum, and none that would make its place's surplus a lack. The rest that no
 * backup fits in, and differences below a hundredth of a place, are left: that is not worth a move. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "backup/lcb_db.h"
#include "backup/lcb_int.h"
#include "backup/lcb_mounted.h"
#include "backup/lcb_move.h"
#include "lib/hash.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

struct place {
    const struct lcb_partition *partition;
    uint64_t fsid;
    double total, before; /* KiB */
    double lack;          /* what is missing of the level; < 0: what is to spare */
    double least;         /* size of the smallest that is moved in this round */
    int takes;
};

struct plan {
    struct lcb_store *store;
    const struct lcb_balance *out;
    struct lcb_placement p;
    struct place *places;
    size_t nplaces;
    size_t *place_of; /* by number of the partition; NONE: it takes no part */
    struct hash *chosen;
};

#define NONE ((size_t)-1)

static void add_place(struct plan *k, size_t i, const struct lcb_usage *u)
{
    for (size_t n = 0; n < k->nplaces; n++)
        if (k->places[n].fsid == u->fsid) {
            k->place_of[i] = n;
            return;
        }
    k->place_of[i] = k->nplaces;
    k->places[k->nplaces++] = (struct place){
        .partition = &k->p.partitions[i],
        .fsid = u->fsid,
        .total = (double)u->total,
        .before = (double)u->avail,
        .takes = 1,
    };
}

static int collect(struct plan *k)
{
    struct strarray excluded = STRARRAY_INITIALIZER;
    int result = XERR_CONFIG;
    if (k->p.exclude)
        strarray_split(&excluded, k->p.exclude, " ,\t");
    for (size_t i = 0; i < k->p.count; i++) {
        const struct lcb_partition *part = &k->p.partitions[i];
        struct lcb_usage u;
        k->place_of[i] = NONE;
        if (strarray_find(&excluded, part->name) >= 0)
            continue;
        int r = k->p.usage(k->p.rock, part->dir, &u);
        if (r < 0)
            xlog_warnx("backuppartition-%s: %s: %s", part->name, part->dir, error_message(r));
        else if (u.total)
            add_place(k, i, &u);
        result = result == XERR_CONFIG && r < 0 ? r : result;
    }
    strarray_fini(&excluded);
    return k->nplaces ? 0 : result;
}

static double share(const struct place *p)
{
    return 100.0 * p->before / p->total;
}

/* What each lacks, and who may take. */
static void level(struct plan *k)
{
    double total = 0, avail = 0, limit = 100.0 - k->p.soft_usage_limit;
    int any = 0, absolute = k->p.mode == LCB_SELECT_MOST;
    for (size_t n = 0; n < k->nplaces; n++) {
        total += k->places[n].total;
        avail += k->places[n].before;
        any |= share(&k->places[n]) > limit;
    }
    for (size_t n = 0; n < k->nplaces; n++) {
        struct place *p = &k->places[n];
        double fair = absolute ? avail / (double)k->nplaces : avail * p->total / total;
        p->lack = fair - p->before;
        p->takes = !any || share(p) > limit;
    }
}

static uint64_t size_of(struct plan *k, const char *path)
{
    struct stat st;
    uint64_t size = 0;
    char *index = xasprintf("%s.index", path);
    if (!vfs_stat(lcb_store_vfs(k->store), path, &st))
        size += (uint64_t)st.st_size;
    if (!vfs_stat(lcb_store_vfs(k->store), index, &st))
        size += (uint64_t)st.st_size;
    free(index);
    return size;
}

/* The place with most to spare that has room for KIB: in what counts, free space or its share. */
static struct place *taker(struct plan *k, double kib)
{
    struct place *best = NULL;
    double most = 0;
    for (size_t n = 0; n < k->nplaces; n++) {
        struct place *p = &k->places[n];
        double spare = k->p.mode == LCB_SELECT_MOST ? -p->lack : -p->lack / p->total;
        if (p->takes && -p->lack >= kib && (!best || spare > most)) {
            best = p;
            most = spare;
        }
    }
    return best;
}

static int consider(void *rock, const char *userid, const char *path)
{
    static int there;
    struct plan *k = rock;
    const struct lcb_partition *from = lcb_partition_of(k->store, path);
    if (lcb_store_stopped(k->store))
        return XERR_SIGNAL;
    size_t n = from ? k->place_of[from - k->p.partitions] : NONE;
    if (n == NONE || k->places[n].lack <= k->places[n].total / 100 || hash_lookup(k->chosen, userid))
        return 0;
    struct place *p = &k->places[n];
    uint64_t size = size_of(k, path);
    double kib = (double)size / 1024;
    if (!size || kib > p->lack || kib < p->least)
        return 0;
    struct place *to = taker(k, kib);
    if (!to)
        return 0;
    struct lcb_balance_step step = {userid, path, from, to->partition, size};
    hash_insert(k->chosen, userid, &there);
    p->lack -= kib;
    to->lack += kib;
    return k->out->step ? k->out->step(k->out->rock, &step) : 0;
}

static int tell_places(struct plan *k, const double *lacked)
{
    int r = 0;
    for (size_t n = 0; !r && n < k->nplaces; n++) {
        const struct place *p = &k->places[n];
        double after = p->before + lacked[n] - p->lack;
        struct lcb_balance_place out = {p->partition, (uint64_t)p->total, (uint64_t)p->before,
                                        after > 0 ? (uint64_t)after : 0, p->takes};
        r = k->out->place ? k->out->place(k->out->rock, &out) : 0;
    }
    return r;
}

static int make_plan(struct plan *k)
{
    static const double parts[] = {0.5, 0.25, 0.125, 0.0625, 0.015625, 0};
    double *lacked = xcalloc(k->nplaces, sizeof(*lacked));
    int r = 0;
    level(k);
    for (size_t n = 0; n < k->nplaces; n++)
        lacked[n] = k->places[n].lack;
    for (size_t i = 0; !r && i < sizeof(parts) / sizeof(*parts); i++) {
        for (size_t n = 0; n < k->nplaces; n++)
            k->places[n].least = k->places[n].lack * parts[i];
        r = lcb_db_foreach(lcb_store_db(k->store), "", consider, k);
    }
    if (!r)
        r = tell_places(k, lacked);
    free(lacked);
    return r;
}

int lcb_balance_plan(struct lcb_store *s, const struct lcb_balance *out, lcb_usage_fn *usage,
                     void *rock)
{
    struct plan k = {.store = s, .out = out};
    lcb_store_placement(s, &k.p);
    k.p.usage = usage ? usage : lcb_mounted_usage;
    k.p.rock = usage ? rock : s;
    k.places = xcalloc(k.p.count + 1, sizeof(*k.places));
    k.place_of = xcalloc(k.p.count + 1, sizeof(*k.place_of));
    k.chosen = hash_new();
    int r = collect(&k);
    if (!r)
        r = make_plan(&k);
    hash_free(&k.chosen, NULL);
    free(k.places);
    free(k.place_of);
    return r;
}
