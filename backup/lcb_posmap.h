/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Where the lines of a data file went when it was written anew. */
#ifndef BACKUP_LCB_POSMAP_H
#define BACKUP_LCB_POSMAP_H

#include <stddef.h>
#include <stdint.h>

struct lcb_store;

/* Lines FIRST .. LAST of the old file (positions of one chunk) begin at TO in the new one, in the same
 * order and number; with SPREAD, they are somewhere from TO to TO_LAST. */
struct lcb_posrun {
    int64_t first, last;
    int64_t to, to_last;
    int spread;
};

struct lcb_posmap;

/* What does not fit into ROOM runs in memory (0: a good number) goes to a file without a name, below
 * backup_staging_path. */
struct lcb_posmap *lcb_posmap_new(struct lcb_store *, size_t room);
void lcb_posmap_free(struct lcb_posmap **);
/* Add a run behind all others; 0 or -errno. */
int lcb_posmap_add(struct lcb_posmap *, const struct lcb_posrun *);
/* The same for one line, which makes the last run longer if it stands behind it in both files. */
int lcb_posmap_addline(struct lcb_posmap *, int64_t old, int64_t to);
/* The run that has OLD, to *RUN: 1, 0 if there is none, or -errno. Nothing may be added after the first
 * time. */
int lcb_posmap_find(struct lcb_posmap *, int64_t old, struct lcb_posrun *run);
/* Bytes of memory that it takes. */
size_t lcb_posmap_memory(const struct lcb_posmap *);

#endif
