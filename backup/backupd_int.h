/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the files of backupd's command layer share: the state of one connection. */
#ifndef BACKUP_BACKUPD_INT_H
#define BACKUP_BACKUPD_INT_H

#include "backup/backupd_command.h"
#include "backup/backupd_spool.h"
#include "backup/lcb.h"
#include "imap/sync_reply.h"
#include "lib/hash.h"
#include "lib/strarray.h"
#include "lib/xlog.h"

/* ---- state ---- */

/* Backups open at once; more are closed, least recently used first. Clients that speak of many users
 * in one command exist (3.0, 3.2), and each open index has its cache. */
#define BACKUPD_OPEN_MAX 4
/* A backup unused for this many seconds is closed. */
#define BACKUPD_IDLE 300

struct backupd_open_backup {
    char *userid;
    struct lcb *b;
    int64_t used; /* monotonic seconds */
    uint64_t turn;
};

/* What this connection was shown of a mailbox: key UNIQUEID. */
struct backupd_shown {
    uint32_t last_uid;
    uint64_t highestmodseq;
    int64_t since;       /* position of the state that was shown */
    uint32_t crc;
    enum lcb_mark mark;
};

struct backupd {
    struct service *service;
    const struct config *config;
    struct protstream *in, *out;
    struct dlist_reader *reader;
    struct lcb_store *store;
    int lock_wait_ms;
    int pause_ms;
    size_t max_text;

    /* unit */
    struct strarray owners;
    struct hash *shown;
    int lost_uploads; /* uploads that were acknowledged had to be undone */

    /* open backups */
    struct backupd_open_backup open[BACKUPD_OPEN_MAX];
    uint64_t turn;

    struct backupd_spool *spool; /* uploads without an owner as yet */

    struct buf body; /* of a message */
    struct buf text; /* of a reply */
    struct xlog_limit trouble;
    struct xlog_limit toobig;
};

/* ---- backupd_command.c ---- */

/* Answers beside those of imap/sync_reply.h and errors of the library. */
enum {
    BACKUPD_BADCONTENT = SYNC_LAST + 1, /* content and GUID differ */
    BACKUPD_EXTRA,                      /* the line goes on behind its value */
    BACKUPD_TOLERATED,                  /* not done, and not the client's business: OK */
};
/* 0 if the line ends here. To be asked before anything is kept: what is answered BAD has no effect. */
int backupd_at_end(struct backupd *);
/* Read to the end of the line if R is 0 (else skip the rest of the command), then say OK or NO. VERB
 * as replies name it. */
enum backupd_next backupd_finish(struct backupd *, const char *verb, int r);

/* ---- backupd_unit.c: whose backups, which are open, what was shown ---- */

/* A new unit of work: nothing shown, no owners, no uploads. */
void backupd_unit_reset(struct backupd *);
void backupd_unit_addowner(struct backupd *, const char *userid);
/* The only owner, or NULL if there are several or none. */
const char *backupd_unit_owner(const struct backupd *);
/* User id of a mailbox name, or XERR_PARAM for a name that can be none. */
int backupd_owner_of(struct backupd *, const char *mboxname, struct buf *userid);
/* A user's backup, locked. CREATE: make it if there is none; else XERR_NOTFOUND. */
int backupd_backup(struct backupd *, const char *userid, int create, struct lcb **);
/* Commit and close all but KEEP (NULL: all). The first error. */
int backupd_close_all(struct backupd *, const char *keep);
/* After an error: undo what this backup has not committed. */
void backupd_undo(struct backupd *, struct lcb *);
void backupd_show(struct backupd *, const struct lcb_folder *, int listed);
const struct backupd_shown *backupd_shown(const struct backupd *, const char *uniqueid);

/* ---- backupd_staging.c: content on its way ---- */

int backupd_staging_reserve(struct backupd *);
int backupd_staging_message(struct backupd *);
/* Content of GUID for backup B, if it waits in the spool: 1 and it is logged, 0, or an error. */
int backupd_staging_supply(struct backupd *, struct lcb *, const struct message_guid *);

/* ---- backupd_get.c, backupd_apply.c, backupd_mailbox.c: one command each ---- */

int backupd_get_named(struct backupd *, const char *name);
int backupd_apply_named(struct backupd *, const char *name);
int backupd_apply_mailbox(struct backupd *);

#endif
