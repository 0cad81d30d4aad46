/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_target - from mode and words to a list of backups.
 *
 * The list is made before anything is done, so that a run works on what was there when it began, and
 * backups.db need not be open while it does. -A, -D and -P give keys in byte order; all others are
 * in the order of the words, doubles included. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

/* Memory for strings, in pieces of this size, since there may be very many; all of it is freed with the
 * list. */
#define ROOM (64 << 10)

struct ctl_strings {
    struct ctl_strings *next;
    size_t left;
    char *free;
};

static char *room_for(struct ctl_targets *t, size_t n)
{
    if (!t->strings || t->strings->left < n) {
        size_t size = n > ROOM ? n : ROOM;
        struct ctl_strings *s = xmalloc(sizeof(*s) + size);
        *s = (struct ctl_strings){.next = t->strings, .left = size, .free = (char *)(s + 1)};
        t->strings = s;
    }
    char *p = t->strings->free;
    t->strings->free += n;
    t->strings->left -= n;
    return p;
}

/* KNOWN: who it is. */
static void fill(struct ctl_targets *all, struct ctl_target *t, int known, const char *userid,
                 const char *path)
{
    size_t npath = path ? strlen(path) + 1 : 0, nuser = userid ? strlen(userid) + 1 : 0;
    char *strings = room_for(all, npath + nuser);
    if (path)
        memcpy(strings, path, npath);
    if (userid)
        memcpy(strings + npath, userid, nuser);
    *t = (struct ctl_target){
        .name = known ? strings + npath : strings,
        .userid = userid ? strings + npath : NULL,
        .shown = known ? strings + npath : NULL,
        .path = path ? strings : NULL,
    };
}

/* As ever, the owner of a shared mailbox that was named by -m is not known: its path stands for it. */
static void add(struct ctl_targets *t, char mode, const char *userid, const char *path)
{
    int known = userid && !(mode == 'm' && path && !strcmp(userid, MBOXNAME_SHARED));
    if (t->count == t->alloc) {
        t->alloc = t->alloc ? 2 * t->alloc : 16;
        t->list = xrealloc(t->list, t->alloc * sizeof(*t->list));
    }
    fill(t, &t->list[t->count++], known, userid, path);
}

int ctl_target_moved(struct ctl *ctl, struct ctl_targets *all, struct ctl_target *t)
{
    char *path = NULL;
    int moved = t->userid && t->path && !lcb_store_find(ctl->store, t->userid, &path) &&
                strcmp(path, t->path);
    if (moved)
        fill(all, t, t->shown != NULL, t->userid, path);
    free(path);
    return moved;
}

static void free_list(struct ctl_targets *t)
{
    while (t->strings) {
        struct ctl_strings *next = t->strings->next;
        free(t->strings);
        t->strings = next;
    }
    free(t->list);
    t->list = NULL;
    t->count = t->alloc = 0;
}

/* ---- -A, -P, -D ---- */

struct collect {
    struct ctl_targets *targets;
    const char *domain; /* NULL: any */
    const char *defaultdomain;
};

static int collect(void *rock, const char *userid, const char *path)
{
    struct collect *c = rock;
    const char *at = strrchr(userid, '@');
    if (!c->domain || !strcmp(at ? at + 1 : c->defaultdomain, c->domain))
        add(c->targets, 'A', userid, path);
    return 0;
}

static int add_many(struct ctl *ctl, const char *prefix, const char *domain, struct ctl_targets *t)
{
    struct collect c = {t, domain, lcb_store_names(ctl->store)->defaultdomain};
    return lcb_store_foreach(ctl->store, prefix, collect, &c);
}

/* ---- -u, -m ---- */

/* A new backup gets a name that backupd would give it. */
static int make_canonical(struct ctl *ctl, struct buf *key)
{
    struct buf canonical = BUF_INITIALIZER;
    if (!strcmp(buf_cstring(key), MBOXNAME_SHARED))
        return 0;
    int r = mboxname_userid_canonical(lcb_store_names(ctl->store), key->s, key->len, &canonical);
    if (!r)
        buf_setmap(key, canonical.s, canonical.len);
    buf_free(&canonical);
    return r;
}

/* KEY as it is, or else as a user id is written in backups.db; the one found is in KEY then. */
static int find(struct ctl *ctl, struct buf *key, char **path)
{
    int r = key->len ? lcb_store_find(ctl->store, buf_cstring(key), path) : XERR_NOTFOUND;
    if (r == XERR_NOTFOUND && key->len && !make_canonical(ctl, key))
        r = lcb_store_find(ctl->store, buf_cstring(key), path);
    return r;
}

static int add_one(struct ctl *ctl, const char *word, struct ctl_targets *t)
{
    struct buf key = BUF_INITIALIZER, name = BUF_INITIALIZER;
    const struct mboxname_rules *names = lcb_store_names(ctl->store);
    char *path = NULL;
    if (ctl->opt->mode == 'm') {
        mboxname_from_external(names, word, &name);
        mboxname_to_userid(names, buf_cstring(&name), &key);
    } else {
        buf_setcstr(&key, word);
    }
    int r = find(ctl, &key, &path);
    t->last_unknown = 0;
    if (r == XERR_NOTFOUND && (ctl->opt->verb->flags & CTL_NEW) && key.len &&
        !make_canonical(ctl, &key))
        r = 0;
    if (!r) {
        add(t, ctl->opt->mode, buf_cstring(&key), path);
    } else if (r == XERR_NOTFOUND) {
        fprintf(stderr, "%s: not found in backups.db\n", word);
        t->last_unknown = 1;
        t->unknown++;
        r = 0;
    }
    free(path);
    buf_free(&key);
    buf_free(&name);
    return r;
}

/* ---- ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ctl_target *)a)->name, ((const struct ctl_target *)b)->name);
}

static int collect_all(struct ctl *ctl, struct ctl_targets *t)
{
    int r = 0;
    if (ctl->opt->mode == 'A')
        r = add_many(ctl, "", NULL, t);
    for (int i = 0; !r && i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        switch (ctl->opt->mode) {
        case 'D':
            r = add_many(ctl, "", word, t);
            break;
        case 'P':
            r = add_many(ctl, word, NULL, t);
            break;
        case 'f':
            add(t, 'f', NULL, word);
            break;
        default:
            r = add_one(ctl, word, t);
        }
    }
    return r;
}

/* Nobody, or somebody that is not known: perhaps backups.db is lost. */
static void look_for_strangers(struct ctl *ctl, struct ctl_targets *t)
{
    struct buf path = BUF_INITIALIZER;
    if ((t->unknown || (!t->count && ctl->opt->mode != 'f')) && lcb_strangers(ctl->store, &path) > 0) {
        fprintf(stderr, "ctl_backups: backups.db is missing or empty, but there is %s: \"ctl_backups"
                        " reconstruct\" makes it anew\n", buf_cstring(&path));
        t->unknown++;
        t->last_unknown = 1;
    }
    buf_free(&path);
}

int ctl_targets_open(struct ctl *ctl, struct ctl_targets *t)
{
    memset(t, 0, sizeof(*t));
    int r = collect_all(ctl, t);
    if (r) {
        fprintf(stderr, "ctl_backups: backups.db cannot be read: %s\n", error_message(r));
        xlog_errorx("backups.db cannot be read: %s", error_message(r));
        free_list(t);
    } else if (ctl->opt->sort && t->count) {
        qsort(t->list, t->count, sizeof(*t->list), by_name);
    }
    if (!r)
        look_for_strangers(ctl, t);
    if (!r && ctl->opt->subset && (r = ctl_subset_choose(ctl->opt->subset, t)) != 0) {
        fprintf(stderr, "ctl_backups: --subset=%s: neither N/T nor X%%\n", ctl->opt->subset);
        free_list(t);
    }
    return r;
}

static const char *index_error(int r)
{
    switch (r) {
    case XERR_NOTFOUND:
    case XERR_FORMAT:
        return "Mailbox has an invalid format (no usable index: reindex makes one)";
    case XERR_VERSION:
        return "Mailbox has an invalid format (index of another version: reindex makes one)";
    case XERR_EOF:
        return "Mailbox has an invalid format (the data file ends before the index does)";
    case XERR_LOCKED:
        return "Mailbox is locked (its index is being made)";
    default:
        return ctl_error_text(r);
    }
}

void ctl_target_gone(const struct ctl_target *t, struct buf *why)
{
    if (t->userid && t->path && !strcmp(buf_cstring(why), ctl_error_text(-ENOENT)) &&
        access(t->path, F_OK) < 0 && errno == ENOENT)
        buf_printf(why, ": %s is not there; is its partition mounted?", t->path);
}

int ctl_target_failed(struct ctl *ctl, struct ctl_targets *t, const struct ctl_target *target, int r)
{
    struct buf why = BUF_INITIALIZER;
    ctl_flush(&t->print_error);
    buf_setcstr(&why, index_error(r));
    ctl_target_gone(target, &why);
    fprintf(stderr, "%s: %s\n", target->name, buf_cstring(&why));
    xlog_errorx("%s %s: failed (%s)", ctl->opt->verb->name, target->name, buf_cstring(&why));
    buf_free(&why);
    t->failed++;
    t->stopped = ctl->opt->stop_on_error;
    return t->stopped;
}

/* Cyrus 3.x counted unknown names only at the end, and failures of stat only with -S. */
static int legacy_status(const struct ctl *ctl, const struct ctl_targets *t)
{
    int failed = !strcmp(ctl->opt->verb->name, "stat") ? t->stopped : t->failed;
    return failed || t->last_unknown ? EX_TEMPFAIL : EX_OK;
}

int ctl_targets_close(struct ctl *ctl, struct ctl_targets *t)
{
    int code = ctl_printed_all(t->print_error);
    if (ctl->opt->legacy_status)
        code = code ? code : legacy_status(ctl, t);
    else if (t->failed || t->unknown)
        code = EX_TEMPFAIL;
    free_list(t);
    return code;
}
