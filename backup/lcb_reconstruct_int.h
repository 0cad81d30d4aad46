/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What looking (lcb_reconstruct.c) and deciding (lcb_reconstruct_decide.c) share. */
#ifndef BACKUP_LCB_RECONSTRUCT_INT_H
#define BACKUP_LCB_RECONSTRUCT_INT_H

#include "backup/lcb_identify.h"
#include "backup/lcb_reconstruct.h"
#include "lib/sqldb.h"

struct lcb_rebuild {
    struct lcb_store *store;
    const struct lcb_reconstruct *how;
    struct sqldb *db; /* scratch tables, see lcb_reconstruct.c */
    struct lcb_identifier *identifier;
    struct lcb_identity id;
    struct buf user, text;
    int had_records;  /* backups.db was there, and not empty */
};

/* Remember that this is to be said. */
int lcb_rebuild_say(struct lcb_rebuild *, enum lcb_found_kind kind, const char *userid,
                    const char *path, const char *other, const char *text);
/* Look at a data file and remember what it is. USERID: of the record that names it, or NULL. */
int lcb_rebuild_examine(struct lcb_rebuild *, const char *path, const char *userid);
/* Decide what becomes of USERID, whose record names RECORD (NULL: there is none). */
int lcb_rebuild_decide(struct lcb_rebuild *, const char *userid, const char *record);

#endif
