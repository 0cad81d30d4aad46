/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The steps of a repair (lcb_repair.c), for those who make the new index elsewhere (lcb_reindex.c). */
#ifndef BACKUP_LCB_REPAIR_INT_H
#define BACKUP_LCB_REPAIR_INT_H

#include "backup/lcb_repair.h"
#include "backup/lcb_scan.h"

struct repair {
    struct lcb *b;               /* its index is the new one */
    struct lcb_repair *rp;
    struct lcb_index *old;       /* or NULL */
    int empty;                   /* there was one, but nothing in it */
    struct lcb_mark_point point; /* of it */
    struct lcb_scan scan;        /* what was read into the new one */
    struct lcb_seqs lost;
};

/* Marks and notes of the old index, as they are, to the new one; where that has marks already, they
 * stay, unless the mailbox is to be sent again as a whole. */
int lcb_repair_carry(struct repair *);
/* Marks for what the old one had and the new one has not. */
int lcb_repair_lacking(struct repair *);
int lcb_repair_commit(struct repair *);
/* Tell the caller, and, if R is 0, syslog; free what is not the caller's. */
void lcb_repair_end(struct repair *, int r);

#endif
