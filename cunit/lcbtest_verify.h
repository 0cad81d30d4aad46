/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Verification and repair, as their tests call them. */
#ifndef CUNIT_LCBTEST_VERIFY_H
#define CUNIT_LCBTEST_VERIFY_H

#include "backup/lcb_repair.h"
#include "backup/lcb_verify.h"
#include "cunit/lcbtest.h"
#include "lib/buf.h"

/* What a verification said; TEXT is to be freed. */
struct lcbtest_said {
    struct buf text;
    int count[LCB_FOUND_INFO + 1];
};
/* Verify the backup whose data file is PATH, which must succeed whatever it finds. */
void lcbtest_verify(struct lcbtest *, const char *path, struct lcb_verify *, struct lcbtest_said *);
/* It must find nothing but WAITING messages that are asked for already. WHAT, for messages. */
void lcbtest_clean(struct lcbtest *, const char *path, int waiting, const char *what);
/* Repair it: with ONLINE by lcb_reindex(), else by lcb_repair(). */
int lcbtest_repair_as(struct lcbtest *, const char *path, int online, struct lcb_repair *);
/* In turn. */
int lcbtest_repair(struct lcbtest *, const char *path, struct lcb_repair *);

#endif
