/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What verification judges differences by. */
#ifndef BACKUP_LCB_VERIFY_INT_H
#define BACKUP_LCB_VERIFY_INT_H

#include "backup/lcb_compare.h"
#include "backup/lcb_repair.h"
#include "lib/hash.h"

/* LIVE is the index in use, SCRATCH what the data file gives now. */
struct lcb_losses {
    struct lcb_index *live, *scratch;
    const struct lcb_seqs *lost; /* chunks that LIVE knows and that cannot be read */
    struct hash *unsound;        /* GUIDs of messages that are not what these say */
};
/* Does the difference (between LIVE and SCRATCH, in this order) follow from what is lost? */
int lcb_losses_excuse(const struct lcb_losses *, const struct lcb_difference *);

#endif
