/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_move - a backup to another partition.
 *
 * The data file is copied byte by byte up to its last commit, the copy is replayed into an index of its
 * own, and that must say what the old one says, row by row. Only then writers are locked out, for what
 * they have added since and for the switch of the record (lcb_switch.c, which also tells what a crash
 * leaves and how it is cleared up). */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_compare.h"
#include "backup/lcb_db.h"
#include "backup/lcb_int.h"
#include "backup/lcb_mounted.h"
#include "backup/lcb_move.h"
#include "backup/lcb_switch.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define LAST_LINE 0xffffff
#define ROUNDS 3

const struct lcb_partition *lcb_partition_named(struct lcb_store *s, const char *name)
{
    const struct lcb_partition *found = NULL;
    struct lcb_placement p;
    lcb_store_placement(s, &p);
    for (size_t i = 0; !found && i < p.count; i++)
        if (!strcmp(p.partitions[i].name, name))
            found = &p.partitions[i];
    return found;
}

static size_t dir_len(const char *dir)
{
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    return n;
}

const struct lcb_partition *lcb_partition_of(struct lcb_store *s, const char *path)
{
    const struct lcb_partition *best = NULL;
    struct lcb_placement p;
    lcb_store_placement(s, &p);
    for (size_t i = 0; i < p.count; i++) {
        size_t n = dir_len(p.partitions[i].dir);
        if (!strncmp(path, p.partitions[i].dir, n) && path[n] == '/' &&
            (!best || n > dir_len(best->dir)))
            best = &p.partitions[i];
    }
    return best;
}

#define DO_NOT_AGREE "index and data file do not agree, verify it first"

static int note_difference(void *rock, const char *what)
{
    struct lcb_moved *m = rock;
    buf_reset(&m->why);
    buf_printf(&m->why, DO_NOT_AGREE ": %s", what);
    return 1;
}

/* The new index says of what was copied what the old one says. */
static int check(struct lcb_switch *s, struct lcb_moved *m)
{
    struct lcb_compare c = {
        .old = s->old->index,
        .new_ = s->made->index,
        .new_name = "the data file",
        .to = LCB_POS(s->point.seq, LAST_LINE),
        .differs = note_difference,
        .rock = m,
    };
    struct lcb_mark_point now;
    int r = sqldb_exec(s->old->index->db, "BEGIN");
    if (r)
        return r;
    r = lcb_index_getpoint(s->old->index, &now);
    if (!r && now.end == s->point.end)
        c.to = INT64_MAX; /* nothing was added since */
    if (!r)
        r = lcb_compare(&c);
    sqldb_exec(s->old->index->db, "COMMIT");
    /* Content that was sent again meanwhile is elsewhere now: that is no difference. */
    return r != 1 ? r : now.end == s->point.end ? XERR_FORMAT : XERR_STALE;
}

static int move_once(struct lcb_store *store, const struct lcb_switch_how *how, int wait_ms,
                     struct lcb_moved *m)
{
    struct lcb_switch *s = NULL;
    int r = lcb_switch_begin(store, how, &s);
    if (!r)
        r = lcb_switch_create(s);
    if (!r)
        r = lcb_switch_copy(s);
    if (!r && (r = lcb_switch_replay(s)) == XERR_FORMAT)
        buf_setcstr(&m->why, "the end of the data file is damaged, verify it first");
    if (!r)
        r = check(s, m);
    if (!r)
        r = lcb_switch_lock(s, wait_ms);
    if (r == XERR_FORMAT && !m->why.len)
        buf_setcstr(&m->why, DO_NOT_AGREE);
    if (!r)
        r = lcb_switch_commit(s);
    if (!r) {
        m->path = xstrdup(s->path);
        m->bytes = (uint64_t)s->made->df.end;
    }
    lcb_switch_end(&s);
    return r;
}

/* It is there already: perhaps by a run that did not come to removing the old pair, or after one that
 * was to move it away and died. */
static void finish_dead(struct lcb_store *store, const char *userid)
{
    struct lcb_switch *s = NULL;
    struct lcb_switch_how how = {
        .userid = userid,
        .keep_previous = config_getswitch(lcb_store_config(store), IMAPOPT_BACKUP_KEEP_PREVIOUS),
    };
    if (!lcb_switch_begin(store, &how, &s)) {
        (void)lcb_switch_sweep(s);
        lcb_switch_end(&s);
    }
}

int lcb_move(struct lcb_store *s, const char *userid, const struct lcb_partition *to, int wait_ms,
             struct lcb_moved *m)
{
    char *path = NULL;
    struct buf dir = BUF_INITIALIZER;
    memset(m, 0, sizeof(*m));
    int r = lcb_db_find(lcb_store_db(s), userid, &path);
    if (!r)
        r = lcb_mounted(s, to->dir);
    if (r == -ENODEV)
        buf_setcstr(&m->why, "the partition is empty, although backups.db names files below it: is it"
                             " mounted?");
    if (!r && lcb_partition_of(s, path) == to) {
        finish_dead(s, userid);
    } else if (!r) {
        int full = config_getswitch(lcb_store_config(s), IMAPOPT_FULLDIRHASH);
        buf_setmap(&dir, to->dir, dir_len(to->dir));
        buf_printf(&dir, "/%c", lcb_path_hash(userid, full));
        struct lcb_switch_how how = {.userid = userid, .dir = buf_cstring(&dir), .same_id = 1,
                                    .wait_ms = wait_ms < 0 ? wait_ms : 0};
        r = XERR_STALE;
        for (int i = 0; r == XERR_STALE && i < ROUNDS; i++)
            r = move_once(s, &how, wait_ms, m);
        if (!r)
            buf_reset(&m->why);
    }
    buf_free(&dir);
    free(path);
    return r;
}
