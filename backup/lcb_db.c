/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_db - backups.db.
 *
 * Creating a backup takes two looks: one under the shared lock, which is all it takes for a user
 * that is known, and a second one under the exclusive lock, because another process may have been
 * faster in between. The data file is made inside that transaction, and its name is durable before
 * the record is, so a record never names a file that is not there. The other way round can happen:
 * a crash before the commit leaves an empty file that no record names. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/lcb_db.h"
#include "lib/buf.h"
#include "lib/twoskip.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

struct lcb_db {
    struct vfs *vfs;
    char *path;
    struct twoskip *ts; /* NULL while there is no such file */
    struct twoskip_txn *creating; /* while FN of lcb_db_create() runs */
};

/* XERR_NOTFOUND if there is no database and FLAGS do not say that it shall be made. */
static int attach(struct lcb_db *db, int flags)
{
    if (db->ts)
        return 0;
    int r = flags & TWOSKIP_CREATE ? vfs_mkparents(db->vfs, db->path) : 0;
    if (r < 0)
        return r;
    return twoskip_open(db->vfs, db->path, flags, &db->ts);
}

int lcb_db_open(struct vfs *vfs, const char *path, struct lcb_db **dbp)
{
    struct lcb_db *db = xzmalloc(sizeof(*db));
    db->vfs = vfs;
    db->path = xstrdup(path);
    int r = attach(db, 0);
    *dbp = db;
    return r == XERR_NOTFOUND ? 0 : r;
}

void lcb_db_close(struct lcb_db **dbp)
{
    struct lcb_db *db = *dbp;
    if (!db)
        return;
    if (db->ts)
        twoskip_close(&db->ts);
    free(db->path);
    free(db);
    *dbp = NULL;
}

int lcb_db_check(struct vfs *vfs, const char *path)
{
    struct twoskip *ts;
    int r = twoskip_open(vfs, path, 0, &ts);
    if (r)
        return r;
    r = twoskip_consistent(ts);
    twoskip_close(&ts);
    return r;
}

/* A path is absolute and a C string. */
static int valid_path(const char *value, size_t len)
{
    return len > 1 && value[0] == '/' && !memchr(value, '\0', len);
}

static int fetch(struct lcb_db *db, struct twoskip_txn *txn, const char *userid, char **path)
{
    struct buf value = BUF_INITIALIZER;
    int r = twoskip_fetch(db->ts, txn, userid, strlen(userid), &value);
    if (!r && !valid_path(value.s, value.len)) {
        xlog_errorx("%s: the record of %s is not a path", db->path, userid);
        r = XERR_FORMAT;
    }
    if (!r)
        *path = buf_release(&value);
    buf_free(&value);
    return r;
}

int lcb_db_find(struct lcb_db *db, const char *userid, char **path)
{
    *path = NULL;
    if (!*userid)
        return XERR_NOTFOUND;
    int r = attach(db, 0);
    return r ? r : fetch(db, NULL, userid, path);
}

int lcb_db_still(struct lcb_db *db, const char *userid, const char *path)
{
    char *now = NULL;
    int r = *userid ? lcb_db_find(db, userid, &now) : 0;
    if (now && strcmp(now, path))
        r = XERR_STALE;
    free(now);
    return r == XERR_NOTFOUND ? XERR_STALE : r;
}

int lcb_db_maybe(struct lcb_db *db, const char *userid, const char *path)
{
    return lcb_db_still(db, userid, path) != XERR_STALE;
}

/* FN's file, and a record of it; the transaction is over afterwards. */
static int insert(struct lcb_db *db, struct twoskip_txn **txn, const char *userid,
                  lcb_db_newfile_fn *fn, void *rock, char **path)
{
    db->creating = *txn;
    int r = fn(rock, userid, path);
    db->creating = NULL;
    if (r) {
        twoskip_abort(txn);
        return r;
    }
    r = valid_path(*path, strlen(*path)) ? 0 : XERR_INTERNAL;
    if (!r)
        r = twoskip_store(db->ts, *txn, userid, strlen(userid), *path, strlen(*path));
    if (r)
        twoskip_abort(txn);
    else
        r = twoskip_commit(txn);
    if (r) {
        if (!lcb_db_maybe(db, userid, *path))
            vfs_unlink(db->vfs, *path);
        free(*path);
        *path = NULL;
    }
    return r;
}

int lcb_db_create(struct lcb_db *db, const char *userid, lcb_db_newfile_fn *fn, void *rock,
                  char **path, int *created)
{
    struct twoskip_txn *txn = NULL;
    if (created)
        *created = 0;
    *path = NULL;
    if (!*userid)
        return XERR_PARAM;
    int r = lcb_db_find(db, userid, path);
    if (r != XERR_NOTFOUND)
        return r;
    r = attach(db, TWOSKIP_CREATE);
    if (!r)
        r = twoskip_begin(db->ts, &txn);
    if (r)
        return r;
    r = fetch(db, txn, userid, path);
    if (r != XERR_NOTFOUND) {
        twoskip_abort(&txn);
        return r;
    }
    r = insert(db, &txn, userid, fn, rock, path);
    if (!r && created)
        *created = 1;
    return r;
}

/* Begin a transaction in which USERID's record is known to be OLD. */
static int begin_at(struct lcb_db *db, const char *userid, const char *old,
                    struct twoskip_txn **txn)
{
    char *now = NULL;
    int r = *userid ? attach(db, 0) : XERR_NOTFOUND;
    if (!r)
        r = twoskip_begin(db->ts, txn);
    if (r)
        return r;
    r = fetch(db, *txn, userid, &now);
    if (!r && strcmp(now, old))
        r = XERR_STALE;
    free(now);
    if (r)
        twoskip_abort(txn);
    return r;
}

int lcb_db_replace(struct lcb_db *db, const char *userid, const char *old, const char *new_)
{
    struct twoskip_txn *txn = NULL;
    size_t len = strlen(new_);
    if (!valid_path(new_, len))
        return XERR_PARAM;
    int r = begin_at(db, userid, old, &txn);
    if (r)
        return r;
    r = twoskip_store(db->ts, txn, userid, strlen(userid), new_, len);
    if (!r)
        return twoskip_commit(&txn);
    twoskip_abort(&txn);
    return r;
}

int lcb_db_remove(struct lcb_db *db, const char *userid, const char *path)
{
    struct twoskip_txn *txn = NULL;
    int r = begin_at(db, userid, path, &txn);
    if (r)
        return r;
    r = twoskip_delete(db->ts, txn, userid, strlen(userid));
    if (!r)
        return twoskip_commit(&txn);
    twoskip_abort(&txn);
    return r;
}

struct lcb_db_txn {
    struct lcb_db *db;
    struct twoskip_txn *txn;
};

int lcb_db_begin(struct lcb_db *db, struct lcb_db_txn **txnp)
{
    struct lcb_db_txn *txn = xzmalloc(sizeof(*txn));
    txn->db = db;
    int r = attach(db, TWOSKIP_CREATE);
    if (!r)
        r = twoskip_begin(db->ts, &txn->txn);
    if (r)
        free(txn);
    else
        *txnp = txn;
    return r;
}

int lcb_db_txn_find(struct lcb_db_txn *txn, const char *userid, char **path)
{
    *path = NULL;
    return *userid ? fetch(txn->db, txn->txn, userid, path) : XERR_NOTFOUND;
}

int lcb_db_txn_set(struct lcb_db_txn *txn, const char *userid, const char *path)
{
    size_t len = strlen(path);
    if (!*userid || !valid_path(path, len))
        return XERR_PARAM;
    return twoskip_store(txn->db->ts, txn->txn, userid, strlen(userid), path, len);
}

int lcb_db_txn_remove(struct lcb_db_txn *txn, const char *userid)
{
    return *userid ? twoskip_delete(txn->db->ts, txn->txn, userid, strlen(userid)) : XERR_NOTFOUND;
}

int lcb_db_commit(struct lcb_db_txn **txnp)
{
    int r = twoskip_commit(&(*txnp)->txn);
    free(*txnp);
    *txnp = NULL;
    return r;
}

void lcb_db_abort(struct lcb_db_txn **txnp)
{
    if (!*txnp)
        return;
    twoskip_abort(&(*txnp)->txn);
    free(*txnp);
    *txnp = NULL;
}

struct walk {
    struct lcb_db *db;
    lcb_db_fn *fn;
    void *rock;
};

static int visit(void *rock, const char *key, size_t keylen, const char *value, size_t valuelen)
{
    struct walk *walk = rock;
    if (memchr(key, '\0', keylen) || !valid_path(value, valuelen)) {
        xlog_warnx("%s: the record of %.*s is not a path", walk->db->path,
                   keylen < 200 ? (int)keylen : 200, key);
        return 0;
    }
    return walk->fn(walk->rock, key, value);
}

int lcb_db_foreach(struct lcb_db *db, const char *prefix, lcb_db_fn *fn, void *rock)
{
    struct walk walk = {db, fn, rock};
    int r = attach(db, 0);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    return twoskip_foreach(db->ts, db->creating, prefix, strlen(prefix), visit, &walk);
}
