/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What a store consists of, for lcb_store.c and lcb_open.c. */
#ifndef BACKUP_LCB_STORE_INT_H
#define BACKUP_LCB_STORE_INT_H

#include "backup/lcb_db.h"
#include "backup/lcb_int.h"
#include "backup/lcb_partition.h"
#include "lib/xlog.h"

struct lcb_store {
    const struct config *config;
    struct vfs *vfs;
    struct lcb_db *db;
    struct lcb_settings settings;
    struct mboxname_rules names;
    struct lcb_partition *partitions;
    size_t npartitions;
    char *staging;
    struct lcb_packing packing; /* for all data files that are written to */
    struct buf empty_index;     /* see lcb_index_create */
    struct xlog_limit strangers;
    struct lcb_absent absent;
    int64_t cut_short; /* see lcb_store_cut_short */
    int (*stop)(void *);
    void *stop_rock;
    void (*waiting)(void *);
    void *waiting_rock;
};

#endif
