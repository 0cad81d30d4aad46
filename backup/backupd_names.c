/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_names - the names of a GET MAILBOXES, and the mailboxes that have them.
 *
 * A name is looked up in its owner's backup. A UNIQUEID may be in the backups of two owners, when the
 * mailbox went from one to the other and only one of them was told; it must not be listed twice.
 * So if the names are of several owners, all are looked up once to see which of two is the newer,
 * and then those that are there once more to be listed. (What comes between the two was not there
 * when it was asked for.) Owner by owner: few backups are open at a time. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* Bytes that one GET MAILBOXES may take: some 100,000 names. */
#define NAMES_MAX (8u << 20)
#define NAME_COST 24 /* in the list, and in another to sort it */

/* Offsets in the text. */
struct wanted {
    uint32_t name; /* grows in the order of the command */
    unsigned userid : 31;
    unsigned absent : 1; /* it was looked for, and there is no such mailbox */
};

struct backupd_names {
    struct backupd *d;
    struct buf text; /* names and user ids, each with a NUL: blocks of their own take twice as much */
    struct wanted *list; /* by owner */
    size_t count, alloc;
    struct hash *newest; /* UNIQUEID -> struct newest; NULL if there is but one owner */
};

/* Under which name a UNIQUEID is to be listed. */
struct newest {
    uint64_t highestmodseq;
    int64_t time;
    const struct wanted *wanted;
};

static const char *name_of(const struct backupd_names *n, const struct wanted *w)
{
    return n->text.s + w->name;
}

static const char *userid_of(const struct backupd_names *n, const struct wanted *w)
{
    return n->text.s + w->userid;
}

static int by_owner(const void *a, const void *b, void *rock)
{
    const struct wanted *x = a, *y = b;
    const struct backupd_names *n = rock;
    int c = x->userid == y->userid ? 0 : strcmp(userid_of(n, x), userid_of(n, y));
    return c ? c : x->name < y->name ? -1 : x->name > y->name;
}

static uint32_t add_text(struct backupd_names *n, struct buf *s)
{
    size_t at = n->text.len;
    const char *text = buf_cstring(s);
    buf_appendmap(&n->text, text, strlen(text) + 1);
    return (uint32_t)at;
}

/* The next name, if it can be that of a mailbox. */
static void add_name(struct backupd_names *n, struct buf *name, struct buf *userid)
{
    if (backupd_owner_of(n->d, buf_cstring(name), userid))
        return;
    if (n->count == n->alloc) {
        n->alloc = n->alloc ? n->alloc + n->alloc / 2 : 16;
        n->list = xrealloc(n->list, n->alloc * sizeof(*n->list));
    }
    struct wanted *w = &n->list[n->count++], *last = n->count > 1 ? w - 1 : NULL;
    w->absent = 0;
    w->name = add_text(n, name);
    w->userid = last && !strcmp(userid_of(n, last), buf_cstring(userid)) ? last->userid
                                                                        : add_text(n, userid);
}

/* All names are read before the first is looked up: a client that is still writing does not read,
 * and could not be answered. */
static int read_list(struct backupd_names *n)
{
    struct dlist_reader *reader = n->d->reader;
    struct buf name = BUF_INITIALIZER, userid = BUF_INITIALIZER;
    size_t others = 0; /* bytes of what can be no mailbox */
    int more = 0;
    int r = dlist_reader_enter(reader, 0);
    while (!r && (more = dlist_reader_more(reader)) > 0) {
        size_t before = n->text.len;
        r = dlist_reader_astring(reader, &name, n->d->max_text);
        if (r)
            break;
        add_name(n, &name, &userid);
        if (n->text.len == before)
            others += name.len + NAME_COST;
        if (n->text.len + n->count * NAME_COST + others > NAMES_MAX)
            r = XERR_TOOBIG;
    }
    buf_free(&name);
    buf_free(&userid);
    return r ? r : more < 0 ? more : backupd_at_end(n->d);
}

int backupd_names_read(struct backupd *d, struct backupd_names **np)
{
    struct backupd_names *n = *np = xzmalloc(sizeof(*n));
    n->d = d;
    int r = read_list(n);
    if (r) {
        backupd_names_free(np);
        return r;
    }
    for (size_t i = 0; i < n->count; i++) {
        backupd_unshow(d, name_of(n, &n->list[i]));
        backupd_unit_addowner(d, userid_of(n, &n->list[i]));
    }
    if (n->count)
        qsort_r(n->list, n->count, sizeof(*n->list), by_owner, n);
    return 0;
}

void backupd_names_free(struct backupd_names **np)
{
    struct backupd_names *n = *np;
    buf_free(&n->text);
    free(n->list);
    hash_free(&n->newest, free);
    free(n);
    *np = NULL;
}

static int find(struct backupd_names *n, const struct wanted *w, struct lcb **b,
                struct lcb_folder *f, struct buf *strings)
{
    int r = backupd_backup(n->d, userid_of(n, w), 0, b);
    if (!r || r == XERR_NOTFOUND)
        backupd_ask_name(n->d, name_of(n, w), r ? NULL : *b);
    return r ? r : lcb_find_name(*b, name_of(n, w), f, strings);
}

static int note_newest(struct backupd_names *n, struct wanted *w)
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
    w->absent = r == XERR_NOTFOUND;
    buf_free(&strings);
    return w->absent ? 0 : r;
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
    if (n->count && strcmp(userid_of(n, &n->list[0]), userid_of(n, &n->list[n->count - 1]))) {
        n->newest = hash_new();
        for (size_t i = 0; !r && i < n->count; i++)
            r = note_newest(n, &n->list[i]);
    }
    for (size_t i = 0; !r && i < n->count; i++)
        if (!n->list[i].absent)
            r = pass_on(n, &n->list[i], fn, rock);
    return r;
}
