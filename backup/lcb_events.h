/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What happened in a backup, one event after the other, as the data file tells it.
 *
 * kind                 item      details
 * mailbox-created      name      again (1: it had been gone)
 * mailbox-renamed      name      from
 * mailbox-deleted      name      to (its name in the deleted namespace, if it was put there)
 * mailbox-restored     name      from (its name in the deleted namespace)
 * mailbox-purged       name      (one of the deleted namespace is gone)
 * mailbox-changed      name      key, was, is: ACL, OPTIONS, QUOTAROOT, UIDVALIDITY ...
 * mailbox-annotated    name      entry, user, was, is
 * arrived              name      uid, guid, size, flags
 * copied, moved        name      the same, from, from_uid
 * flags                name      uid, guid, set, cleared
 * annotated            name      uid, guid, entry, user, was, is
 * changed              name      uid, guid, was (a UID means another message now)
 * expunged             name      uid, guid, to, to_uid (if it was moved)
 * restored             name      uid, guid (it was expunged)
 * subscribed, unsubscribed       name
 * seen                 uniqueid  lastuid, seenuids (of another's mailbox)
 * seen-removed         uniqueid  (with the user)
 * script-uploaded, script-changed   script   size
 * script-deleted, script-activated, script-deactivated   script
 * quota-set            root      is; was, if there was one
 * quota-removed        root      was
 * server-annotated     entry     user, was, is
 * user-removed         user id   (what he had, ends with events of its own)
 *
 * A copy is a message whose content another record of this backup held already. It is a move if that
 * one is expunged within LCB_EVENT_MOVE seconds, before or after: what a client does in one moment may
 * be told in several. For the same reason a mailbox is renamed, and neither deleted nor created, whose
 * name another took before it was told, within that time, which name it has now. What is told at the
 * first synchronisation has arrived then, whenever that was. */
#ifndef BACKUP_LCB_EVENTS_H
#define BACKUP_LCB_EVENTS_H

#include <stdint.h>

#include "backup/lcb.h"

enum { LCB_EVENT_MOVE = 300 };

enum lcb_detail_type {
    LCB_DETAIL_TEXT,
    LCB_DETAIL_NUMBER,
    LCB_DETAIL_WORDS, /* text, a list separated by single blanks */
};
struct lcb_event_detail {
    const char *key;
    enum lcb_detail_type type;
    const char *text; /* LEN bytes and a NUL */
    size_t len;
    uint64_t number;
};
struct lcb_event {
    int64_t pos, time;
    const char *kind;
    const char *item;
    const char *uniqueid; /* of the mailbox; NULL if it is about none */
    const struct lcb_event_detail *details;
    unsigned count;
};
struct lcb_events {
    int64_t from, to; /* positions, both included; LCB_NOW: to the end */
    int64_t folder;   /* only what happened to this mailbox and in it; 0: any */
    const struct message_guid *guid; /* only what happened to this message; NULL: any */
};
/* FN for each event in the order of the data file; it all lives during the call. A non-zero result
 * ends it. Memory does not grow with their number. */
int lcb_foreach_event(struct lcb *, const struct lcb_events *,
                      int (*fn)(void *rock, const struct lcb_event *), void *rock);

#endif
