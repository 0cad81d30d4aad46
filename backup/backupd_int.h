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
/* A backup unused for this long is closed: well below what others wait for it. */
#define BACKUPD_IDLE_MS 2000

struct backupd_open_backup {
    char *userid;
    struct lcb *b;
    int64_t used; /* monotonic ms */
    uint64_t turn;
    uint64_t command; /* the last that needed it */
};

/* What this connection was shown of a mailbox: key UNIQUEID. */
struct backupd_shown {
    char *userid;           /* in whose backup; NULL: void */
    char *mboxname;         /* under which name, or what it was renamed to since */
    int listed;             /* 0: it is there, but was left out */
    uint32_t last_uid;      /* as listed; 0 if it was not */
    uint64_t highestmodseq;
    int64_t since;          /* position of the state that was shown */
    uint64_t backup_id;     /* in the file of this number, if it had one */
    uint64_t command;       /* number of the last command that spoke of it */
};

struct backupd {
    struct service *service;
    const struct config *config;
    struct protstream *in, *out;
    struct dlist_reader *reader;
    struct lcb_store *store;
    int lock_wait_ms; /* for each command */
    int wait_left_ms; /* for this one */
    int pause_ms;
    size_t max_text;

    /* unit */
    struct strarray owners;
    struct hash *shown;       /* UNIQUEID -> struct backupd_shown */
    struct hash *shown_names; /* its mboxname -> the same */
    struct hash *asked;       /* a name that was asked for -> when that was */
    size_t noted;             /* bytes of the strings of all these */
    char *asked_user;         /* whose mailboxes were all asked for, or NULL */
    int64_t asked_all;        /* position, as it was then */
    uint64_t asked_id;        /* and number of the file, 0 if there was none */
    int asked_lost;           /* there were more names than are remembered */
    uint64_t relied_on; /* files that content went to, or was said to be in; 0: none */
    int lost_uploads; /* uploads that were acknowledged had to be undone, or content that was said to be
                       * here may be here no longer */

    /* open backups */
    struct backupd_open_backup open[BACKUPD_OPEN_MAX];
    uint64_t turn;
    uint64_t command; /* number of the command */
    int busy;         /* it is being worked on */

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
    BACKUPD_BROKEN_OFF,                 /* the answer ended in the middle: nothing can follow it */
};

/* ---- backupd_read.c: arguments ---- */

/* 0 if the line ends here. To be asked before anything is kept: what is answered BAD has no effect. */
int backupd_at_end(struct backupd *);
/* The one argument of a GET, a string without NUL, and the end of the line: a question that is answered
 * BAD must not mark anything. */
int backupd_read_string(struct backupd *, struct buf *s);

/* ---- backupd_unit.c: whose backups, and which are open ---- */

void backupd_unit_init(struct backupd *);
void backupd_unit_free(struct backupd *);
/* A new unit of work: nothing shown, no owners, no uploads. */
void backupd_unit_reset(struct backupd *);
void backupd_unit_addowner(struct backupd *, const char *userid);
/* The only owner, or NULL if there are several or none. */
const char *backupd_unit_owner(const struct backupd *);
/* User id of a mailbox name, or XERR_PARAM for a name that can be none. */
int backupd_owner_of(struct backupd *, const char *mboxname, struct buf *userid);
/* A user's backup, locked, at least until the command ends or needs another one: that may commit and
 * close this one. CREATE: make it if there is none; else XERR_NOTFOUND. XERR_LOCKED after having
 * waited, XERR_SIGNAL when the process is to end. */
int backupd_backup(struct backupd *, const char *userid, int create, struct lcb **);
/* Commit and close all but KEEP (NULL: all). The first error. */
int backupd_close_all(struct backupd *, const char *keep);
/* After an error: undo what this backup has not committed. */
void backupd_undo(struct backupd *, struct lcb *);
/* lcb_savepoint(), which may commit; if that fails, what was uploaded is lost. */
int backupd_savepoint(struct backupd *, struct lcb *);
/* The client is told that content is in this backup, that of the unit's only owner. Should other files
 * have taken its place before the content is needed, lost_uploads is set by the second. */
void backupd_rely_on(struct backupd *, const struct lcb *);
void backupd_still_there(struct backupd *, const struct lcb *);
/* Around each command: locks are counted by command. */
void backupd_command_begin(struct backupd *);
void backupd_command_end(struct backupd *);

/* ---- backupd_shown.c: what was shown, and does it still hold? ---- */

/* Mailboxes that are remembered at the most. */
#define BACKUPD_SHOWN_MAX 20000

void backupd_shown_init(struct backupd *);
void backupd_shown_free(struct backupd *);
/* The client was told of the mailbox F in backup B, or (LISTED 0) is made to send it whole. */
void backupd_show(struct backupd *, struct lcb *, const struct lcb_folder *, int listed);
/* Is the state SINCE of a mailbox in backup B the one that was shown? */
int backupd_shown_is(const struct backupd_shown *, const struct lcb *b, int64_t since);
/* The client asks again about NAME: what it was told before counts no longer. */
void backupd_unshow(struct backupd *, const char *name);
/* What was shown of a mailbox that the client now calls NAME. NULL: nothing; or the client has asked
 * for that name since, and the answer did not speak of this mailbox. */
const struct backupd_shown *backupd_shown(const struct backupd *, const char *uniqueid,
                                          const char *name);
/* Commands that speak of a mailbox by its name mean the one that had it when the client was told. F
 * has it now, in backup B: is it that one (1), or has another connection brought it there since (0)?
 * Or an error. */
int backupd_is_meant(const struct backupd *, struct lcb *, const struct lcb_folder *f);
/* What was in state SINCE is now in state F: it was renamed or annotated by this client. If SINCE is
 * the state that was shown, F is as good. */
void backupd_shown_moved(struct backupd *, struct lcb *, int64_t since, const struct lcb_folder *f);
/* The mailbox shown as FROM was given another owner under the name TO. */
void backupd_shown_renamed(struct backupd *, const char *from, const char *to);
/* All mailboxes of a user, or one name, were asked for now. B NULL: there is no backup. */
void backupd_ask_user(struct backupd *, const char *userid, struct lcb *b);
void backupd_ask_name(struct backupd *, const char *mboxname, struct lcb *b);
/* Did this mailbox, which was not shown, come, change or go after the last answer that had to speak
 * of it? 1, 0 (also if there was no such answer) or an error. */
int backupd_came_later(const struct backupd *, struct lcb *, const char *mboxname,
                       const char *uniqueid);

/* ---- backupd_names.c: the names of a GET MAILBOXES ---- */

struct backupd_names;
/* Read them, and find their owners. What the client was told of these names before is void. */
int backupd_names_read(struct backupd *, struct backupd_names **);
/* FN for each mailbox that has one of the names; of two with one UNIQUEID for the newer. */
int backupd_names_foreach(struct backupd_names *,
                          int (*fn)(void *rock, struct lcb *, const struct lcb_folder *),
                          void *rock);
void backupd_names_free(struct backupd_names **);

/* ---- backupd_staging.c: content on its way ---- */

int backupd_staging_reserve(struct backupd *);
int backupd_staging_message(struct backupd *);
/* Content of GUID for backup B, if it waits in the spool: 1 and it is logged, 0, or an error. */
int backupd_staging_supply(struct backupd *, struct lcb *, const struct message_guid *);

/* ---- backupd_get.c, backupd_apply.c, backupd_mailbox.c: one command each ---- */

int backupd_get_named(struct backupd *, const char *name);
/* All but USER, META and MAILBOXES (backupd_get_one.c). */
int backupd_get_one(struct backupd *, const char *name);
int backupd_apply_named(struct backupd *, const char *name);
/* Log that the mailbox called NAME, which lives until that is done, has ended. */
int backupd_log_end(struct lcb *, struct dlist_pool *, const char *name);
int backupd_apply_mailbox(struct backupd *);

#endif
