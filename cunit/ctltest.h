/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Parts of ctl_backups as their tests call them: in a process of their own, so that signals, exits
 * and what is printed are as they are in the program. */
#ifndef CUNIT_CTLTEST_H
#define CUNIT_CTLTEST_H

#include "backup/ctl_backups.h"
#include "cunit/lcbtest.h"
#include "lib/buf.h"

struct ctltest {
    struct lcbtest t;
    struct ctl_options opt;
    struct buf out, err; /* what was printed */
};
/* A store with EXTRA lines in its configuration, and a backup without content for each of the USERS
 * (words with blanks between), made in this order. */
void ctltest_init(struct ctltest *, const char *extra, const char *users);
void ctltest_fini(struct ctltest *);
/* Call FN in a child whose configuration and command line are C's: its result, or 256 + the signal
 * that ended it; what it printed is in C then. LINE: the words behind the verb; the first may be a
 * mode, "-A". */
int ctltest_call(struct ctltest *, const struct ctl_verb *verb, const char *line,
                 int (*fn)(struct ctl *));

#endif
