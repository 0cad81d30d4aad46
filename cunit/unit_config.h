/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A configuration for a unit test that needs one of its own. */
#ifndef CUNIT_UNIT_CONFIG_H
#define CUNIT_UNIT_CONFIG_H

#include "lib/libconfig.h"

/* Write LINES, in which each '~' stands for DIR, to DIR/imapd.conf, with DIR as its configdirectory,
 * and open it as backupd does. The caller frees it; a test that gets none is over. */
struct config *unit_config(const char *dir, const char *lines);

#endif
