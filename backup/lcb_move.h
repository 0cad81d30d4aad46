/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Backups from one partition to another. */
#ifndef BACKUP_LCB_MOVE_H
#define BACKUP_LCB_MOVE_H

#include <stdint.h>

#include "backup/lcb.h"
#include "backup/lcb_partition.h"

/* The partition called NAME, or NULL. It lives as long as the store. */
const struct lcb_partition *lcb_partition_named(struct lcb_store *, const char *name);
/* The partition that PATH is in, or NULL. */
const struct lcb_partition *lcb_partition_of(struct lcb_store *, const char *path);

struct lcb_moved {
    char *path;     /* the new path, for the caller to free; NULL if it was there already, in which case
                     * what a dead run left of the old one is removed */
    uint64_t bytes; /* of the data file */
    struct buf why; /* of a failure, if there are better words than the error's; to be freed */
};
/* Move USERID's backup to a partition while it is in use; it is locked only at the end, for which
 * WAIT_MS counts; others who maintain it are waited for only if that is for ever (< 0). Unless 0 is
 * returned it is where it was. XERR_NOTFOUND; XERR_LOCKED if somebody else maintains it; XERR_FORMAT
 * if index and data file do not agree. */
int lcb_move(struct lcb_store *, const char *userid, const struct lcb_partition *to, int wait_ms,
             struct lcb_moved *);

/* ---- lcb_balance.c ---- */

/* A backup that would better be elsewhere. */
struct lcb_balance_step {
    const char *userid, *path;
    const struct lcb_partition *from, *to;
    uint64_t size; /* bytes, the index included */
};
/* Before and after, of one file system. */
struct lcb_balance_place {
    const struct lcb_partition *partition; /* the first on it */
    uint64_t total, before, after;         /* KiB: all, free now, free then */
    int takes;                             /* backups may be moved here */
};
struct lcb_balance {
    int (*step)(void *rock, const struct lcb_balance_step *);
    int (*place)(void *rock, const struct lcb_balance_place *); /* after the steps */
    void *rock;
};
/* Which backups have to be moved so that the partitions are alike, as far as that goes: in free space
 * with partition_select_mode freespace-most, in the share of free space with all others. Excluded
 * partitions neither give nor take; one above the soft limit takes nothing if another is below.
 * USAGE overrides the usage function for tests. 0, what a function returned, or XERR_CONFIG. */
int lcb_balance_plan(struct lcb_store *, const struct lcb_balance *, lcb_usage_fn *usage, void *rock);

#endif
