/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the files of ctl_backups share. The program (ctl_backups.c) reads options, ctl_backups_target.c
 * makes names into a list of backups, and ctl_backups_run.c calls the verb's function for each of
 * them, in --jobs processes, and prints what it says. A verb is one file, ctl_backups_VERB.c. */
#ifndef BACKUP_CTL_BACKUPS_H
#define BACKUP_CTL_BACKUPS_H

#include <jansson.h>
#include <stdint.h>

#include "backup/lcb.h"
#include "lib/buf.h"
#include "lib/libconfig.h"

struct ctl_options {
    char mode;   /* 'u', 'm', 'f', 'A', 'D', 'P'; 0: none was given */
    int force, stop_on_error, no_verify, json, verbose, wait; /* -F -S -V -j -v -w */
    int stale;   /* hours, 0: not asked */
    int jobs;
    int dry_run;
    int now;                /* --now */
    const char *to;         /* --to=NAME */
    const char *subset;     /* --subset=N/T or X% */
    int expire_previous;    /* --expire-previous[=AGE] */
    int64_t expire_age;     /* seconds */
    char lock_how;          /* 'p', 's', 'x' */
    int lock_create;
    const char *lock_command;
};

struct ctl {
    const struct config *config;
    struct lcb_store *store;
    const struct ctl_options *opt;
    int argc;    /* words behind the verb, for verbs that read them themselves */
    char **argv;
};

/* One backup to work on. */
struct ctl_target {
    const char *name;   /* as messages and result lines call it: user id, or the path in mode -f */
    const char *userid; /* key in backups.db; NULL if not known (-f) */
    const char *path;   /* of the data file */
};

enum ctl_status { CTL_OK, CTL_SKIPPED, CTL_LOCKED, CTL_FAILED };

/* What a verb says of one backup. It runs in a process of its own and prints nothing itself. */
struct ctl_result {
    enum ctl_status status;
    struct buf message; /* of CTL_FAILED, and behind any other status in parentheses if not empty */
    struct buf lines;   /* whole lines for stdout, before the result line (with --json: stderr) */
    json_t *more;       /* keys that go behind those of the result object, or NULL */
    uint64_t bytes;     /* worked through, for the progress line */
};
void ctl_result_line(struct ctl_result *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* CTL_FAILED (CTL_LOCKED for XERR_LOCKED) with the text of error R. */
void ctl_result_error(struct ctl_result *, int r);

/* Work on one backup. */
typedef void ctl_verb_fn(struct ctl *, const struct ctl_target *, struct ctl_result *);
ctl_verb_fn ctl_compact, ctl_verify, ctl_reindex, ctl_move, ctl_delete, ctl_undelete;
/* Verbs that do all of their work, print and return the exit code. */
typedef int ctl_whole_fn(struct ctl *);
ctl_whole_fn ctl_reconstruct, ctl_rename;

#endif
