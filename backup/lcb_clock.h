/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The time by which old things are dropped, which must not be dropped because a clock is wrong. */
#ifndef BACKUP_LCB_CLOCK_H
#define BACKUP_LCB_CLOCK_H

#include <stdint.h>

#include "backup/lcb.h"

enum {
    LCB_CLOCK_LEAP = 40 * 86400,   /* more than this since the last run is a leap */
    LCB_CLOCK_PROBATION = 86400,   /* so long must a clock that leapt go on before it is believed, */
    LCB_CLOCK_NEXT = 200 * 86400,  /* and if no run comes for longer than this, it has leapt again */
};
/* *USE: the time to reckon with, when the clock says NOW. Returns 0 (it is NOW), or 1 if the clock is
 * not believed: then *USE is when it was last right, and *AGAIN when it will be believed. With DRY_RUN
 * nothing is noted down. A note that cannot be read counts as none, one that cannot be written is
 * reported in syslog. */
int lcb_clock(struct lcb_store *, int64_t now, int dry_run, int64_t *use, int64_t *again);

#endif
