/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Is a backup partition there, or only the directory where it should be mounted? */
#ifndef BACKUP_LCB_MOUNTED_H
#define BACKUP_LCB_MOUNTED_H

#include "backup/lcb_partition.h"

struct lcb_store;

/* 0 if there is something in DIR, or nothing is known to be below it; -ENODEV if it is empty or missing
 * although backups.db names files below it (said in syslog, too); or another error. */
int lcb_mounted(struct lcb_store *, const char *dir);
/* lcb_partition_usage(), or -ENODEV as above. ROCK is the store. */
lcb_usage_fn lcb_mounted_usage;

#endif
