/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Do two indexes say the same? Verification asks it of an index and one built from the data file just
 * now; compaction and move ask it of the old backup and the new before they switch. */
#ifndef BACKUP_LCB_COMPARE_H
#define BACKUP_LCB_COMPARE_H

#include <stddef.h>
#include <stdint.h>

struct lcb_index;

/* Where lines went. Lines FIRST .. LAST of the old file (positions of one chunk) begin at TO in the
 * new one, in the same order and number; with SPREAD, they are somewhere from TO to TO_LAST. */
struct lcb_posrun {
    int64_t first, last;
    int64_t to, to_last;
    int spread;
};

struct lcb_compare {
    struct lcb_index *old, *new_;
    /* In OLD: rows that ended at or before FROM, and what was expunged at or before it, do not count (0:
     * all do); nor rows that began after TO, and what ended after it, holds (INT64_MAX: all). In NEW, what
     * began before it need not say when. */
    int64_t from, to;
    const struct lcb_posrun *runs; /* ascending; NULL: positions are the same in both */
    size_t nruns;
    /* Each difference, as a sentence for the administrator; non-zero ends it. NULL: stop at the first. */
    int (*differs)(void *rock, const char *what);
    void *rock;
};
/* 0 if they agree in every row of every table that is derived from the data file (chunks and marks
 * aside), 1 if not, or an error. Rows are read in the order of their keys on both sides, so memory does
 * not grow with their number. */
int lcb_compare(const struct lcb_compare *);

#endif
