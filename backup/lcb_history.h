/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* From times to positions. A backup knows the past from some moment on: from its first line, or, after
 * a compaction, from the state that compaction wrote down. Every query that takes AT can be asked for
 * a position from there on. */
#ifndef BACKUP_LCB_HISTORY_H
#define BACKUP_LCB_HISTORY_H

#include <stdint.h>

#include "backup/lcb.h"

/* Where the past begins: the position, and in seconds the time, from which on it is complete. What
 * happened before POS is not history, even if rows speak of it. XERR_NOTFOUND if nothing was ever
 * written. */
int lcb_history_begin(struct lcb *, int64_t *pos, int64_t *time);
/* The last position whose time is TIME or earlier (so the whole of that second counts) to *AT; LCB_NOW
 * if nothing is later. XERR_NOTFOUND if TIME is before the beginning. */
int lcb_history_at(struct lcb *, int64_t time, int64_t *at);

/* Chunks that were damaged, and whose loss the index knows no more than the file: what they said
 * happened between FROM (0: the beginning) and TO (LCB_NOW: this day), in seconds. */
struct lcb_lost {
    int places; /* 0: nothing is lost */
    int64_t from, to;
};
/* What is lost of the time FROM .. TO. A state of a time behind it may lack it, too, for as long as it
 * was not said again. What is set aside by a compaction is not known any more. */
int lcb_history_lost(struct lcb *, int64_t from, int64_t to, struct lcb_lost *);

#endif
