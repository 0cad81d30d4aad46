/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The user that services and tools run as: CYRUS_USER and CYRUS_GROUP of the environment, then
 * cyrus_user and cyrus_group of imapd.conf, then what configure was told. */
#ifndef LIB_CYRUSUSER_H
#define LIB_CYRUSUSER_H

#include "lib/buf.h"
#include "lib/libconfig.h"

/* Name of the user; valid as long as the configuration. */
const char *cyrususer_name(const struct config *);
/* If this is root, become that user for good (groups, group, user). 0; or XERR_CONFIG (no such user
 * or group), XERR_DENIED (this is somebody else) or -errno with the reason in ERR. */
int cyrususer_become(const struct config *, struct buf *err);

#endif
