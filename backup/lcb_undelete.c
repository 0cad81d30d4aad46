/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_undelete - bring a deleted backup back.
 *
 * It gets its former name. If the user has another backup by now, and that is to make room, it gets
 * the name of a deleted one, and one change of the record decides for both at once. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_db.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_delete_int.h"
#include "backup/lcb_int.h"
#include "backup/lcb_partition.h"
#include "backup/lcb_switch.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

struct undelete {
    struct lcb_store *store;
    const char *userid;
    char *live;                     /* where it goes */
    struct lcb_hold *deleted;
    struct lcb_hold *present;       /* the user's backup, or NULL */
    struct lcb_newname back, aside;
};

struct newest {
    char *path;
    int64_t time;
};

static int keep_newest(void *rock, const struct lcb_deleted *d)
{
    struct newest *n = rock;
    if (n->path && d->time <= n->time)
        return 0;
    free(n->path);
    n->path = xstrdup(d->path);
    n->time = d->time;
    return 0;
}

struct of_user {
    const char *userid;
    struct newest *newest;
};

static int keep_users(void *rock, const struct lcb_deleted *d)
{
    const struct of_user *u = rock;
    return lcb_deleted_is_of(d, u->userid) ? keep_newest(u->newest, d) : 0;
}

/* Directories that cannot be read are no reason to fail if something was found elsewhere. */
static int find_newest(struct lcb_store *s, const char *userid, char **path)
{
    struct newest n = {NULL, 0};
    struct of_user u = {userid, &n};
    int r = lcb_deleted_foreach(s, keep_users, &u);
    *path = n.path;
    return n.path ? 0 : r ? r : XERR_NOTFOUND;
}

/* Both names in place, one change of the record. */
static int switch_record(struct undelete *u)
{
    struct lcb_db_txn *txn = NULL;
    char *now = NULL;
    int r = lcb_db_begin(lcb_store_db(u->store), &txn);
    if (r)
        return r;
    r = lcb_db_txn_find(txn, u->userid, &now);
    if (r == XERR_NOTFOUND)
        r = u->present ? XERR_STALE : 0;
    else if (!r && (!u->present || strcmp(now, u->present->path)))
        r = u->present ? XERR_STALE : XERR_EXISTS;
    free(now);
    if (!r)
        r = lcb_db_txn_set(txn, u->userid, u->live);
    if (!r)
        return lcb_db_commit(&txn);
    lcb_db_abort(&txn);
    return r;
}

static void finish(struct undelete *u, struct lcb_newname *n)
{
    int r = lcb_newname_finish(u->store, n);
    if (r)
        xlog_warnx("%s: is %s now, but its former name could not be removed: %s", n->from, n->to,
                   error_message(r));
}

static int bring_back(struct undelete *u, char **replaced)
{
    u->back.from = u->deleted->path;
    u->back.to = u->live;
    int r = lcb_newname_begin(u->store, &u->back);
    if (r)
        return r;
    if (u->present) {
        u->aside.late = 1;
        r = lcb_deleted_name(u->present, &u->aside);
    }
    if (!r && (r = switch_record(u)) != 0 && lcb_db_maybe(lcb_store_db(u->store), u->userid, u->live)) {
        free((char *)(uintptr_t)u->aside.to); /* both names of each stay, and the next run clears up */
        u->aside.to = NULL;
        return r;
    }
    if (r && u->aside.to)
        lcb_newname_undo(u->store, &u->aside);
    if (r) {
        lcb_newname_undo(u->store, &u->back);
    } else {
        finish(u, &u->back);
        if (u->present)
            finish(u, &u->aside);
    }
    if (u->aside.to && !r)
        *replaced = xstrdup(u->aside.to);
    free((char *)(uintptr_t)u->aside.to);
    return r;
}

/* The user's backup, if there is one: it must be allowed to make room. */
static int hold_present(struct undelete *u, const struct lcb_undelete *how, const char *deleted,
                        char **path)
{
    char *now = NULL;
    int r = lcb_db_find(lcb_store_db(u->store), u->userid, &now);
    if (r == XERR_NOTFOUND)
        return 0;
    if (!r && (!how->replace || lcb_same_file(u->store, now, deleted) == 1))
        r = XERR_EXISTS;
    if (r == XERR_EXISTS) {
        *path = now;
        return r;
    }
    free(now);
    r = r ? r : lcb_hold(u->store, u->userid, how->wait_ms, &u->present);
    return r ? r : lcb_switch_tidy(u->store, u->userid, u->present->path);
}

/* Which one, and whose: DELETED and USER are the caller's to free. */
static int choose(struct lcb_store *s, const struct lcb_undelete *how, char **deleted,
                  struct buf *user, char **live)
{
    struct lcb_name n;
    int r = 0;
    if (how->path)
        *deleted = xstrdup(how->path);
    else
        r = find_newest(s, how->userid, deleted);
    if (r)
        return r;
    const char *slash = strrchr(*deleted, '/');
    lcb_name_parse(slash ? slash + 1 : *deleted, &n);
    if (!slash || n.kind != LCB_NAME_DELETED)
        return XERR_PARAM;
    *live = lcb_deleted_livepath(*deleted, &n);
    if (how->userid)
        buf_setcstr(user, how->userid);
    else
        r = lcb_filename_decode(user, strrchr(*live, '/') + 1);
    buf_cstring(user);
    return r;
}

int lcb_undelete(struct lcb_store *s, const struct lcb_undelete *how, char **path, char **replaced)
{
    struct undelete u = {.store = s};
    struct buf user = BUF_INITIALIZER;
    char *deleted = NULL;
    *path = *replaced = NULL;
    int r = choose(s, how, &deleted, &user, &u.live);
    u.userid = user.s;
    if (!r)
        r = hold_present(&u, how, deleted, path);
    if (!r)
        r = lcb_hold_file(s, deleted, how->wait_ms, &u.deleted);
    if (!r)
        r = bring_back(&u, replaced);
    if (!r)
        *path = xstrdup(u.live);
    lcb_hold_end(&u.deleted);
    lcb_hold_end(&u.present);
    buf_free(&user);
    free(deleted);
    free(u.live);
    return r;
}
