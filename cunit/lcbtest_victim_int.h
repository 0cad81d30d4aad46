/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the files of lcbtest_victim share. */
#ifndef CUNIT_LCBTEST_VICTIM_INT_H
#define CUNIT_LCBTEST_VICTIM_INT_H

#include "cunit/lcbtest_victim.h"

/* ---- lcbtest_victim_base.c ---- */

extern const unsigned victim_base_number[];
/* All but the last commit. */
void victim_make_base(struct victim *);
/* The last one. */
void victim_end_base(struct lcb *);
/* When v->data is there: what is where in it. */
void victim_finish_base(struct victim *);

#endif
