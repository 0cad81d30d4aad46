/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A few numbers about a backup, from its index alone: no lock is taken, nothing is mended, and of the
 * data file only the size is asked for. */
#ifndef BACKUP_LCB_SUMMARY_H
#define BACKUP_LCB_SUMMARY_H

#include <stdint.h>

struct lcb_store;

struct lcb_summary {
    uint64_t size;        /* of the data file */
    int complete;         /* the index speaks for all of it */
    int chunks;           /* 0: there is no chunk, and no time */
    int64_t start, end;   /* times of the newest chunk */
    uint64_t text_length; /* of all chunks */
    uint64_t live;        /* an estimate of the text that compaction would leave */
};
/* Of the backup at PATH: 0; -ENOENT without a data file; XERR_NOTFOUND without an index; XERR_FORMAT,
 * XERR_VERSION for one that is none of ours; XERR_EOF if it speaks of more than the data file has;
 * XERR_LOCKED while it is being made. DETAILS: with text_length and live, too, which cost more. */
int lcb_summary_read(struct lcb_store *, const char *path, int details, struct lcb_summary *);

/* The same without DETAILS for many backups: what was read in an earlier run and cannot have changed is
 * taken from the file PATH (lcb_summaries.c), which need not exist. NULL: nothing is. */
struct lcb_summaries;
void lcb_summaries_open(struct lcb_store *, const char *path, struct lcb_summaries **);
int lcb_summaries_get(struct lcb_summaries *, const char *path, struct lcb_summary *);
/* Keep what was got, and only that, for the next run, if it is worth it. XERR_LOCKED: another process
 * is writing it. */
int lcb_summaries_save(struct lcb_summaries *);
void lcb_summaries_close(struct lcb_summaries **);

#endif
