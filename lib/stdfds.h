/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Descriptors 0, 1 and 2 of a tool that is started without some of them. */
#ifndef LIB_STDFDS_H
#define LIB_STDFDS_H

/* Those that are missing become /dev/null, open for reading: no file of ours is then printed into, and
 * what is written there fails. Before anything is opened. 0 or -1. */
int stdfds_occupy(void);

#endif
