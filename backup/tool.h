/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The frame of a command line tool: configuration, syslog, user, store; and what each of them has
 * to say to the exit status when it does not work. */
#ifndef BACKUP_TOOL_H
#define BACKUP_TOOL_H

#include "backup/lcb.h"

struct tool {
    const char *name;   /* of the program, in messages and for options of imapd.conf */
    const char *config; /* -C, or NULL */
    int to_stderr;      /* what goes to syslog as a warning or worse goes to stderr, too */
    int without_store;  /* WORK opens it itself */
    /* STORE may be closed, or another be put there; what is there in the end is closed. The exit
     * code. */
    int (*work)(const struct config *, struct lcb_store **store, void *rock);
    void *rock;
};
/* Read the configuration, become the Cyrus user, open the store, WORK. The exit code; what did not
 * work has been said on stderr: 64 if this is neither root nor the Cyrus user, 78 for what the
 * configuration is to blame, 75 for anything else. */
int tool_run(const struct tool *);

#endif
