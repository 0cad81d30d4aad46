/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_reconstruct - backups.db from the data files.
 *
 *   1. The records that there are, and every file below the partitions, go into scratch tables (an
 *      SQLite database without a name, on disk: memory does not grow with their number). What a data
 *      file is, it says itself (lcb_identify.c).
 *   2. For each user it is decided which file is the backup (lcb_reconstruct_decide.c).
 *   3. What is to be changed is written in one transaction, after a look at whether the record is
 *      still what it was.
 *   4. All of it is told, in the order of user ids.
 *
 * So nothing is locked while files are read, a crash leaves backups.db as it was or as it shall be,
 * and nothing is said to be done before it is. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/lcb_db.h"
#include "backup/lcb_int.h"
#include "backup/lcb_partition.h"
#include "backup/lcb_reconstruct.h"
#include "backup/lcb_reconstruct_int.h"
#include "backup/lcb_walk.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

/* files: userid is whose backup it is; named: its name is one of a data file; agrees: -1 if its
 * content speaks of nobody. actions: records to be written; old NULL: there must be none. */
static const char schema[] =
    "PRAGMA temp_store=FILE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN;"
    "CREATE TABLE files (path TEXT PRIMARY KEY, userid TEXT NOT NULL, named INTEGER, kind INTEGER,"
    " agrees INTEGER, error INTEGER, time INTEGER, size INTEGER, id INTEGER, dev INTEGER,"
    " ino INTEGER, links INTEGER, deleted INTEGER) WITHOUT ROWID;"
    "CREATE INDEX files_userid ON files (userid);"
    "CREATE TABLE records (userid TEXT PRIMARY KEY, path TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX records_path ON records (path);"
    "CREATE TABLE actions (userid TEXT PRIMARY KEY, old TEXT, path TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE found (n INTEGER PRIMARY KEY, kind INTEGER, userid TEXT, path TEXT, other TEXT,"
    " text TEXT);"
    "CREATE INDEX found_userid ON found (userid, n)";

int lcb_rebuild_say(struct lcb_rebuild *b, enum lcb_found_kind kind, const char *userid,
                    const char *path, const char *other, const char *text)
{
    return sqldb_run(b->db, "INSERT INTO found (kind,userid,path,other,text) VALUES (?,?,?,?,?)",
                     "itttt", (int64_t)kind, userid, path, other, text);
}

/* ---- looking ---- */

static int note_record(void *rock, const char *userid, const char *path)
{
    struct lcb_rebuild *b = rock;
    b->had_records = 1;
    return sqldb_run(b->db, "INSERT OR REPLACE INTO records VALUES (?,?)", "tt", userid, path);
}

/* The user id in a name: "" if there is none, or it was too long for a name. */
static const char *user_of_name(struct lcb_rebuild *b, const char *path, size_t baselen)
{
    buf_reset(&b->user);
    if (baselen) {
        char *base = xstrndup(lcb_last_part(path), baselen);
        if (lcb_filename_decode(&b->user, base))
            buf_reset(&b->user);
        free(base);
    }
    return buf_cstring(&b->user);
}

int lcb_rebuild_examine(struct lcb_rebuild *b, const char *path, const char *userid)
{
    struct lcb_name n;
    struct lcb_identity *id = &b->id;
    lcb_name_parse(lcb_last_part(path), &n);
    size_t baselen = n.kind == LCB_NAME_DATA ? n.baselen : 0;
    int r = lcb_identify(b->identifier, path, userid, baselen, id);
    if (r)
        return r;
    const char *whose = id->owner.len ? buf_cstring(&id->owner)
                        : userid      ? userid
                                      : user_of_name(b, path, baselen);
    int64_t agrees = id->owner.len ? id->agrees : -1;
    return sqldb_run(b->db, "INSERT OR REPLACE INTO files VALUES (?,?,?,?,?,?,?,?,?,?,?,?,0)",
                     "ttiiiiiiiiii", path, whose, (int64_t)(baselen != 0), (int64_t)id->kind, agrees,
                     (int64_t)id->error, id->last_time, (int64_t)id->size, (int64_t)id->id,
                     (int64_t)id->dev, (int64_t)id->ino, (int64_t)id->links);
}

/* A data file; one that a record names is held against that. */
static int see_data(struct lcb_rebuild *b, const char *path)
{
    struct buf user = BUF_INITIALIZER;
    sqlite3_stmt *st = sqldb_stmt(b->db, "SELECT userid FROM records WHERE path=? LIMIT 1");
    if (!st || sqldb_bind(st, "t", path))
        return XERR_SQL;
    int r = sqldb_step(b->db, st);
    if (r == 1)
        buf_setmap(&user, sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
    sqlite3_reset(st);
    if (r >= 0)
        r = lcb_rebuild_examine(b, path, r ? buf_cstring(&user) : NULL);
    buf_free(&user);
    return r;
}

/* No name of ours: perhaps a data file all the same. */
static int see_other(struct lcb_rebuild *b, const char *path, int error)
{
    if (error) {
        buf_reset(&b->text);
        buf_printf(&b->text, "cannot be read: %s", error_message(error));
        return lcb_rebuild_say(b, LCB_FOUND_UNREADABLE, "", path, NULL, buf_cstring(&b->text));
    }
    return see_data(b, path);
}

/* An index whose data file is not there. */
static int see_index(struct lcb_rebuild *b, const char *path, const struct lcb_name *n)
{
    struct stat st;
    size_t len = (size_t)(lcb_last_part(path) - path) + n->baselen;
    if (strcmp(path + len, ".index"))
        return 0;
    char *data = xstrndup(path, len);
    int r = vfs_stat(lcb_store_vfs(b->store), data, &st);
    free(data);
    if (r != -ENOENT)
        return 0;
    return lcb_rebuild_say(b, LCB_FOUND_LEFTOVER, user_of_name(b, path, n->baselen), path, NULL,
                           "an index without its data file: it may be removed");
}

/* A deleted backup; a file that has this as its other name is no backup any more. */
static int see_deleted(struct lcb_rebuild *b, const char *path, const struct lcb_name *n)
{
    struct stat st;
    int r = vfs_stat(lcb_store_vfs(b->store), path, &st);
    if (r)
        return r == -ENOENT ? 0 : r;
    r = st.st_nlink < 2 ? 0
        : sqldb_run(b->db, "INSERT OR IGNORE INTO files VALUES (?,'',0,?,-1,0,0,0,0,?,?,?,1)", "tiiii",
                    path, (int64_t)LCB_IS_NONE, (int64_t)st.st_dev, (int64_t)st.st_ino,
                    (int64_t)st.st_nlink);
    return r ? r
             : lcb_rebuild_say(b, LCB_FOUND_ASIDE, user_of_name(b, path, n->baselen), path, NULL,
                               "a deleted backup: ctl_backups undelete brings it back");
}

static int see_file(void *rock, const char *path, const struct lcb_name *n, int error)
{
    struct lcb_rebuild *b = rock;
    const char *text;
    switch (n->kind) {
    case LCB_NAME_DATA:
        return see_data(b, path);
    case LCB_NAME_OTHER:
        return see_other(b, path, error);
    case LCB_NAME_INDEX:
        return see_index(b, path, n);
    case LCB_NAME_DELETED:
        return see_deleted(b, path, n);
    case LCB_NAME_OLDINDEX:
        text = "an old index: it may be removed";
        break;
    case LCB_NAME_PREVIOUS:
        text = "the backup as it was before a compaction";
        break;
    case LCB_NAME_NEW:
        text = "being written, or left by a run that was killed; the next compaction removes it then";
        break;
    case LCB_NAME_ASIDE:
        text = "a piece of a data file that was set aside; see syslog of that time";
        break;
    default:
        return 0;
    }
    return lcb_rebuild_say(b, LCB_FOUND_ASIDE, user_of_name(b, path, n->baselen), path, NULL, text);
}

/* ---- deciding ---- */

/* For every user, from the start of the order to its end; what is decided changes only other tables. */
static int decide_all(struct lcb_rebuild *b)
{
    struct buf user = BUF_INITIALIZER, record = BUF_INITIALIZER;
    int r = lcb_rebuild_decide(b, "", NULL);
    while (!r) {
        sqlite3_stmt *st = sqldb_stmt(b->db,
            "SELECT u.userid, (SELECT path FROM records r WHERE r.userid=u.userid) FROM (SELECT"
            " min(userid) AS userid FROM (SELECT min(userid) AS userid FROM files WHERE userid>?1"
            " UNION SELECT min(userid) FROM records WHERE userid>?1)) u WHERE u.userid IS NOT NULL");
        if (!st || sqldb_bind(st, "s", user.s ? user.s : "", user.len)) {
            r = XERR_SQL;
            break;
        }
        r = sqldb_step(b->db, st);
        if (r != 1)
            break;
        buf_setmap(&user, sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
        int has = sqlite3_column_type(st, 1) != SQLITE_NULL;
        if (has)
            buf_setmap(&record, sqlite3_column_text(st, 1), (size_t)sqlite3_column_bytes(st, 1));
        sqlite3_reset(st);
        r = lcb_rebuild_decide(b, buf_cstring(&user), has ? buf_cstring(&record) : NULL);
    }
    buf_free(&user);
    buf_free(&record);
    return r;
}

/* ---- writing ---- */

/* One record. What was changed by others since it was read stays: XERR_STALE, or XERR_EXISTS if they
 * have written what was to be written (a user who was new). */
static int write_record(struct lcb_db_txn *txn, const char *userid, const char *old, const char *path)
{
    char *now = NULL;
    int r = lcb_db_txn_find(txn, userid, &now);
    int same = old ? now && !strcmp(now, old) : r == XERR_NOTFOUND;
    int done = now && !strcmp(now, path);
    free(now);
    if (done)
        return XERR_EXISTS;
    if (r && r != XERR_NOTFOUND && r != XERR_FORMAT)
        return r;
    return same || r == XERR_FORMAT ? lcb_db_txn_set(txn, userid, path) : XERR_STALE;
}

static int changed_meanwhile(struct lcb_rebuild *b, const char *userid, enum lcb_found_kind kind,
                             const char *text)
{
    return sqldb_run(b->db, "UPDATE found SET kind=?, text=? WHERE userid=? AND kind IN (?,?)",
                     "ittii", (int64_t)kind, text, userid, (int64_t)LCB_FOUND_ADDED,
                     (int64_t)LCB_FOUND_REPLACED);
}

static int write_actions(struct lcb_rebuild *b, struct lcb_db_txn *txn)
{
    int r = 0, n;
    sqlite3_stmt *st = sqldb_stmt(b->db, "SELECT userid, old, path FROM actions ORDER BY userid");
    if (!st)
        return XERR_SQL;
    while (!r && (n = sqldb_step(b->db, st)) != 0) {
        const char *userid = n == 1 ? (const char *)sqlite3_column_text(st, 0) : NULL;
        r = n < 0 ? n
                  : write_record(txn, userid, (const char *)sqlite3_column_text(st, 1),
                                 (const char *)sqlite3_column_text(st, 2));
        if (r == XERR_EXISTS)
            r = changed_meanwhile(b, userid, LCB_FOUND_OK, "");
        else if (r == XERR_STALE)
            r = changed_meanwhile(b, userid, LCB_FOUND_WRONG,
                                  "somebody changed the record meanwhile: try again");
    }
    sqlite3_reset(st);
    return r;
}

static int write_all(struct lcb_rebuild *b)
{
    struct lcb_db_txn *txn;
    int64_t n = 0;
    int r = sqldb_int(b->db, &n, "SELECT count(*) FROM actions", "");
    if (r || !n || b->how->dry_run)
        return r;
    r = lcb_db_begin(lcb_store_db(b->store), &txn);
    if (r)
        return r;
    r = write_actions(b, txn);
    if (!r)
        return lcb_db_commit(&txn);
    lcb_db_abort(&txn);
    return r;
}

/* ---- telling ---- */

static int tell(struct lcb_rebuild *b)
{
    int r = 0, n;
    sqlite3_stmt *st = sqldb_stmt(b->db, "SELECT kind, userid, path, other, text FROM found"
                                         " ORDER BY userid, n");
    if (!st)
        return XERR_SQL;
    while (!r && (n = sqldb_step(b->db, st)) != 0) {
        if (n < 0)
            return n;
        struct lcb_found f = {
            .kind = (enum lcb_found_kind)sqlite3_column_int(st, 0),
            .userid = (const char *)sqlite3_column_text(st, 1),
            .path = (const char *)sqlite3_column_text(st, 2),
            .other = (const char *)sqlite3_column_text(st, 3),
            .text = (const char *)sqlite3_column_text(st, 4),
        };
        r = b->how->found ? b->how->found(b->how->rock, &f) : 0;
    }
    sqlite3_reset(st);
    return r;
}

int lcb_reconstruct(struct lcb_store *s, const struct lcb_reconstruct *how)
{
    struct lcb_rebuild b = {.store = s, .how = how};
    struct lcb_walk w = {see_file, &b};
    int r = sqldb_open("", SQLDB_CREATE, 0, &b.db);
    if (!r)
        r = sqldb_exec(b.db, schema);
    if (!r)
        r = lcb_identifier_new(s, &b.identifier);
    if (!r)
        r = lcb_db_foreach(lcb_store_db(s), "", note_record, &b);
    if (!r)
        r = lcb_walk(s, &w);
    if (!r)
        r = decide_all(&b);
    if (!r)
        r = write_all(&b);
    if (!r)
        r = tell(&b);
    lcb_identifier_free(&b.identifier);
    sqldb_close(&b.db);
    buf_free(&b.id.owner);
    buf_free(&b.user);
    buf_free(&b.text);
    return r;
}

/* ---- a damaged backups.db ---- */

static int set_aside(struct vfs *vfs, const char *path, char **aside)
{
    *aside = xasprintf("%s.damaged.%lld", path, (long long)time(NULL));
    int r = vfs_rename(vfs, path, *aside);
    if (!r)
        r = vfs_fsyncparent(vfs, path);
    if (!r)
        xlog_warnx("%s is damaged and was set aside as %s", path, *aside);
    return r;
}

int lcb_reconstruct_open(const struct config *c, struct vfs *vfs, int dry_run,
                         struct lcb_store **sp, char **aside, struct buf *err)
{
    const char *path = config_getstring(c, IMAPOPT_BACKUP_DB_PATH);
    char *none = NULL;
    *aside = NULL;
    vfs = vfs ? vfs : vfs_system();
    int r = lcb_db_check(vfs, path);
    if (r == XERR_VERSION) /* or what looks like a later version */
        r = XERR_FORMAT;
    if (r == XERR_FORMAT && dry_run)
        none = xasprintf("%s.none", path); /* as if there were none */
    else if (r == XERR_FORMAT && (r = set_aside(vfs, path, aside)) != 0)
        buf_printf(err, "%s is damaged and cannot be set aside: %s", path, error_message(r));
    else
        r = 0; /* anything else the opening itself will say */
    if (none) {
        *aside = xstrdup(path);
        r = 0;
    }
    if (!r)
        r = lcb_store_openat(c, vfs, none, sp, err);
    free(none);
    return r;
}
