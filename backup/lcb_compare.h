/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Do two indexes say the same? Verification asks it of an index and one built from the data file just
 * now; compaction and move ask it of the old backup and the new before they switch. */
#ifndef BACKUP_LCB_COMPARE_H
#define BACKUP_LCB_COMPARE_H

#include <stddef.h>
#include <stdint.h>

struct lcb_index;
struct lcb_posmap;
struct message_guid;

/* One difference. Strings live during the call. */
struct lcb_difference {
    const char *what;     /* a sentence for the administrator */
    const char *table;
    int side;             /* 0: both have the row, but not the same; < 0: only OLD; > 0: only NEW */
    const char *uniqueid; /* of the mailbox, or NULL */
    const char *mboxname; /* of that mailbox; the name itself in "replaced" */
    uint32_t uid;         /* of a record, else 0 */
    int64_t since[2], until[2]; /* in OLD and NEW; 0: not there, until also 0 if it holds */
    int end;              /* both have it, and all that differs is its end */
    int touched;          /* since one that began or ended in OLD where LOST, rows of its key differ */
    int64_t chunk;        /* of content, in OLD; else 0 */
    int64_t pos;          /* of chunks (line 0), pieces, ticks and lost; else 0 */
    const struct message_guid *guid; /* of content, else NULL */
};

struct lcb_compare {
    struct lcb_index *old, *new_;
    const char *old_name, *new_name; /* for the sentences; NULL: "the old index", "the new index" */
    /* In OLD: rows that ended at or before FROM, and what was expunged at or before it, do not count
     * (0: all do); nor rows that began after TO, and what ended after it, holds (INT64_MAX: all). In
     * NEW, what began before it need not say when, only that it was before NEW's history begins. */
    int64_t from, to;
    struct lcb_posmap *map; /* where lines went; NULL: positions are the same, and so are chunks */
    /* Each difference, as a sentence for the administrator; non-zero ends it, and is returned if it is
     * negative. Both NULL: stop at the first. FOUND is asked first, if it is there. */
    int (*differs)(void *rock, const char *what);
    int (*found)(void *rock, const struct lcb_difference *);
    /* Is what stands at POS in OLD's file lost, so that NEW cannot know it? NULL: nothing is. */
    int (*lost)(void *rock, int64_t pos);
    void *rock;
};
/* 0 if they agree in every row of every table that is derived from the data file (marks aside, and
 * with MAP what tells of places, but that NEW must have no damage), 1 if not, or an error. Of content
 * it is compared whether it is there, for records that are not expunged; without MAP where it is, too.
 * The checksum of each mailbox must be that of its records, on either side. Rows are read in the order
 * of their keys on both sides, so memory does not grow with their number. Neither side may change
 * meanwhile: a transaction is its owner's affair. */
int lcb_compare(const struct lcb_compare *);

#endif
