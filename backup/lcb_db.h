/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backups.db: user id -> path of the data file, in a twoskip database that Cyrus IMAP reads too.
 * The path in here is the only authority on where a backup is.
 *
 * All functions return 0, XERR_* or -errno. A record whose value is not an absolute path is
 * XERR_FORMAT. */
#ifndef BACKUP_LCB_DB_H
#define BACKUP_LCB_DB_H

#include "lib/vfs.h"

struct lcb_db;

/* PATH need not exist: it is created, with the directories above it, by the first lcb_db_create;
 * until then there are no backups. If it cannot be opened, *DB is there all the same, and each use
 * of it tries again. */
int lcb_db_open(struct vfs *, const char *path, struct lcb_db **);
void lcb_db_close(struct lcb_db **);
/* Read all of it: 0, XERR_NOTFOUND if there is none, XERR_FORMAT if it is damaged. */
int lcb_db_check(struct vfs *, const char *path);

/* *PATH (the caller frees it) or XERR_NOTFOUND. Under the shared lock. */
int lcb_db_find(struct lcb_db *, const char *userid, char **path);

/* Is USERID's record (still) PATH? 0, or XERR_STALE if it is another or there is none. 0 for
 * USERID "". */
int lcb_db_still(struct lcb_db *, const char *userid, const char *path);
/* After a change of USERID's record to PATH that failed: 1 if the record may be that all the same,
 * since a commit that failed may have happened, or cannot be read. Then what PATH names must stay. */
int lcb_db_maybe(struct lcb_db *, const char *userid, const char *path);

/* Make the data file of a new backup; *PATH is allocated and passes to the caller of FN. On
 * failure nothing may be left on disk. Of this database it may use lcb_db_foreach() only. */
typedef int lcb_db_newfile_fn(void *rock, const char *userid, char **path);
/* As lcb_db_find, but if there is no record FN makes a data file and its path is recorded: in one
 * transaction under the exclusive lock, so FN is not called if another process was faster (then
 * its path is returned). If the record cannot be committed the new file is unlinked,
 * unless that is not sure (see lcb_db_maybe). *CREATED (may
 * be NULL) tells whether FN's file is the one; a descriptor that FN keeps open is its rock's to
 * close. XERR_PARAM for an empty USERID. */
int lcb_db_create(struct lcb_db *, const char *userid, lcb_db_newfile_fn *fn, void *rock,
                  char **path, int *created);

/* Switch USERID's record from OLD to NEW, durably. XERR_STALE if it is not (or no longer) OLD,
 * XERR_NOTFOUND if there is none. Files are not touched. */
int lcb_db_replace(struct lcb_db *, const char *userid, const char *old, const char *new_);
/* Remove USERID's record if it is PATH; errors as above. */
int lcb_db_remove(struct lcb_db *, const char *userid, const char *path);

/* Several changes at once: under the exclusive lock from the beginning to commit or abort, and all or
 * nothing. Waits for the lock; the database is made if it is missing. */
struct lcb_db_txn;
int lcb_db_begin(struct lcb_db *, struct lcb_db_txn **);
/* *PATH (the caller frees it) or XERR_NOTFOUND, as the transaction has it. */
int lcb_db_txn_find(struct lcb_db_txn *, const char *userid, char **path);
/* Create or replace. */
int lcb_db_txn_set(struct lcb_db_txn *, const char *userid, const char *path);
int lcb_db_txn_remove(struct lcb_db_txn *, const char *userid);
/* Durable when it returns 0. On failure see lcb_db_maybe(). *TXN is NULL afterwards. */
int lcb_db_commit(struct lcb_db_txn **);
void lcb_db_abort(struct lcb_db_txn **);

/* Call FN for every user id that begins with PREFIX ("" for all), in byte order; a non-zero result
 * of FN ends it and is returned. No lock is held while FN runs. Records that cannot be right are
 * skipped with a warning in syslog. */
typedef int lcb_db_fn(void *rock, const char *userid, const char *path);
int lcb_db_foreach(struct lcb_db *, const char *prefix, lcb_db_fn *fn, void *rock);

#endif
