/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* GET and APPLY: what a backup server does once the session (backupd_session.h) knows who is at the
 * other end. One struct backupd per connection. */
#ifndef BACKUP_BACKUPD_COMMAND_H
#define BACKUP_BACKUPD_COMMAND_H

#include "imap/dlist.h"
#include "lib/prot.h"
#include "master/service.h"

struct backupd;

enum backupd_next { BACKUPD_CONTINUE, BACKUPD_CLOSE };

/* Can these options be used? 0, or XERR_CONFIG and a text for the administrator. */
int backupd_check(const struct config *, struct buf *err);
/* For an administrator who has just logged in. Streams and reader stay the session's and outlive
 * the result. 0 or an error. */
int backupd_open(struct service *, struct protstream *in, struct protstream *out,
                 struct dlist_reader *, struct backupd **);
/* The verb was read: these read name, value and end of line, or on errors skip to the end of the
 * command, and write the complete reply. BACKUPD_CLOSE: the connection is of no more use. */
enum backupd_next backupd_get(struct backupd *);
enum backupd_next backupd_apply(struct backupd *);
/* Make everything durable and release all locks: 0, or an error. */
int backupd_restart(struct backupd *);
/* Called before each wait for the client, and about once a second while it is silent: releases what
 * has been unused for a moment and is not needed by the command at hand. */
void backupd_release(struct backupd *);
/* The connection ended without EXIT: as backupd_restart, but errors are only logged. */
void backupd_close(struct backupd **);

#endif
