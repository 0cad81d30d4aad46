/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_names - the names of a GET MAILBOXES, and the mailboxes that have them.
 *
 * A name is looked up in its owner's backup. A UNIQUEID may be in the backups of two owners, when the
 * mailbox went from one to the other and only one of them was told; it must not be listed twice.
 * So if the names are of several owners, all are looked up once to see which of two is the newer,
 * and then once more to be listed. Owner by owner: few backups are open at a time. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* Bytes that the names of one GET MAILBOXES may take: some 100,000 of them. */
#define NAMES_MAX (8u << 20)
#define NAME_COST 48

struct wanted {
    char *name;
    char *userid;
    int at; /* in the command */
};

struct backupd_names {
    struct backupd *d;
    struct wanted *list; /* by owner */
    int count;
    struct hash *newest; /* UNIQUEID -> struct newest; NULL if there is but one owner */
};

/* Under which name a UNIQUEID is to be listed. */
struct newest {
    uint64_t highestmodseq;
    int64_t time;
    const struct wanted *wanted;
};

static int by_owner(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    int c = strcmp(x->userid, y->userid);
    return c ? c : x->at - y->at;
}

/* All names are read before the first is looked up: a client that is still writing does not read,
 * and could not be answered. */
static int read_list(struct backupd *d, struct strarray *names)
{
    struct buf name = BUF_INITIALIZER;
    size_t total = 0;
    int more = 0;
    int r = dlist_reader_enter(d->reader, 0);
    while (!r && (more = dlist_reader_more(d->reader)) > 0) {
        r = dlist_reader_astring(d->reader, &name, d->max_text);
        total += name.len + NAME_COST;
        if (!r && total > NAMES_MAX)
            r = XERR_TOOBIG;
        if (!r)
            strarray_append(names, buf_cstring(&name));
    }
    buf_free(&name);
    return r ? r : more < 0 ? more : backupd_at_end(d);
}

int backupd_names_read(struct backupd *d, struct backupd_names **np)
{
    struct strarray names = STRARRAY_INITIALIZER;
    struct buf userid = BUF_INITIALIZER;
    int r = read_list(d, &names);
    if (!r) {
        struct backupd_names *n = *np = xzmalloc(sizeof(*n));
        n->d = d;
        n->list = xzmalloc(sizeof(*n->list) * (size_t)(names.count + 1));
        for (int i = 0; i < names.count; i++) {
            backupd_unshow(d, names.data[i]);
            if (backupd_owner_of(d, names.data[i], &userid))
                continue; /* can be no mailbox */
            backupd_unit_addowner(d, buf_cstring(&userid));
            n->list[n->count].at = i;
            n->list[n->count].name = names.data[i]; /* not twice: there may be many */
            names.data[i] = NULL;
            n->list[n->count++].userid = xstrdup(buf_cstring(&userid));
        }
        qsort(n->list, (size_t)n->count, sizeof(*n->list), by_owner);
    }
    buf_free(&userid);
    strarray_fini(&names);
    return r;
}

void backupd_names_free(struct backupd_names **np)
{
    struct backupd_names *n = *np;
    for (int i = 0; i < n->count; i++) {
        free(n->list[i].name);
        free(n->list[i].userid);
    }
    free(n->list);
    hash_free(&n->newest, free);
    free(n);
    *np = NULL;
}

static int find(struct backupd_names *n, const struct wanted *w, struct lcb **b,
                struct lcb_folder *f, struct buf *strings)
{
    int r = backupd_backup(n->d, w->userid, 0, b);
    if (!r || r == XERR_NOTFOUND)
        backupd_ask_name(n->d, w->name, r ? NULL : *b);
    return r ? r : lcb_find_name(*b, w->name, f, strings);
}

static int note_newest(struct backupd_names *n, const struct wanted *w)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    struct lcb *b;
    int r = find(n, w, &b, &f, &strings);
    if (!r) {
        struct newest *best = hash_lookup(n->newest, f.uniqueid);
        int64_t time = lcb_time(b, f.since);
        if (!best) {
            best = xzmalloc(sizeof(*best));
            hash_insert(n->newest, f.uniqueid, best);
        }
        if (!best->wanted || f.highestmodseq > best->highestmodseq ||
            (f.highestmodseq == best->highestmodseq && time > best->time)) {
            best->highestmodseq = f.highestmodseq;
            best->time = time;
            best->wanted = w;
        }
    }
    buf_free(&strings);
    return r == XERR_NOTFOUND ? 0 : r;
}

static int pass_on(struct backupd_names *n, const struct wanted *w,
                   int (*fn)(void *rock, struct lcb *, const struct lcb_folder *), void *rock)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    struct newest *best;
    struct lcb *b;
    int r = find(n, w, &b, &f, &strings);
    if (!r && (!n->newest || !(best = hash_lookup(n->newest, f.uniqueid)) || best->wanted == w))
        r = fn(rock, b, &f);
    buf_free(&strings);
    return r == XERR_NOTFOUND ? 0 : r;
}

int backupd_names_foreach(struct backupd_names *n,
                          int (*fn)(void *rock, struct lcb *, const struct lcb_folder *),
                          void *rock)
{
    int r = 0;
    if (n->count && strcmp(n->list[0].userid, n->list[n->count - 1].userid)) {
        n->newest = hash_new();
        for (int i = 0; !r && i < n->count; i++)
            r = note_newest(n, &n->list[i]);
    }
    for (int i = 0; !r && i < n->count; i++)
        r = pass_on(n, &n->list[i], fn, rock);
    return r;
}
