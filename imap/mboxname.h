/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Mailbox names: from Cyrus' internal form ("user.joe.Work", "dom!user.joe", "DELETED.user.joe.x.6B")
 * to the user that owns them, and between internal and external (administrator's) form. */
#ifndef IMAP_MBOXNAME_H
#define IMAP_MBOXNAME_H

#include "lib/buf.h"

/* What of imapd.conf governs names. */
struct mboxname_rules {
    const char *defaultdomain; /* "internal" */
    const char *deletedprefix; /* "DELETED" */
    int unixhierarchysep;
};

/* The key of a backup that belongs to no user. */
#define MBOXNAME_SHARED "%SHARED"

/* Owner of an internal name to USERID: a user id, or MBOXNAME_SHARED. Never fails; bytes are taken
 * as they are. */
void mboxname_to_userid(const struct mboxname_rules *, const char *name, struct buf *userid);
/* Is it in the deleted namespace? */
int mboxname_isdeleted(const struct mboxname_rules *, const char *name);
/* The user id as a key of backups.db: default domain stripped (at the last "@"). XERR_PARAM for
 * what can be no user id: empty, over 1,000 bytes, control characters or NUL, "/", ".", "..",
 * a leading "."... */
int mboxname_userid_canonical(const struct mboxname_rules *, const char *userid, size_t len,
                              struct buf *out);
/* External name in the administrator's namespace ("user/joe/Work@dom" or "user.joe.Work@dom") to
 * internal; names that are internal already pass unchanged where the two cannot be confused. */
void mboxname_from_external(const struct mboxname_rules *, const char *external, struct buf *out);
void mboxname_to_external(const struct mboxname_rules *, const char *internal, struct buf *out);

#endif
