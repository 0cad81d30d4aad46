/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Content that was uploaded before it is known whose it is: one file without a name under
 * backup_staging_path, and a table from GUID to place in it. */
#ifndef BACKUP_BACKUPD_SPOOL_H
#define BACKUP_BACKUPD_SPOOL_H

#include <stdint.h>

#include "backup/lcb.h"
#include "lib/buf.h"

struct backupd_spool;

struct backupd_upload {
    uint64_t at; /* in the file */
    uint64_t size;
    struct buf partition;
};

/* Nothing is made on disk before the first write. */
struct backupd_spool *backupd_spool_new(struct lcb_store *);
void backupd_spool_free(struct backupd_spool **);
/* Forget everything; the space goes back. */
void backupd_spool_clear(struct backupd_spool *);

/* Write N bytes, OFFSET bytes behind what is kept. 0 or an error. */
int backupd_spool_write(struct backupd_spool *, uint64_t offset, const void *p, size_t n);
/* What was written since counts from now on, as the content of GUID. */
int backupd_spool_keep(struct backupd_spool *, const struct message_guid *, uint64_t size,
                       const char *partition);
/* What was written since is not needed. */
void backupd_spool_drop(struct backupd_spool *);
/* 1 and the place (UP may be NULL; else its buf is reused), 0, or an error. */
int backupd_spool_find(struct backupd_spool *, const struct message_guid *, struct backupd_upload *up);
/* For reading: the descriptor (-1: nothing was written), and where what is kept ends. */
int backupd_spool_fd(const struct backupd_spool *);
uint64_t backupd_spool_end(const struct backupd_spool *);

#endif
