/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The parts of csync-load: mailboxes of a mail server that does not exist, and the conversation
 * that replicates them. */
#ifndef TOOLS_LOAD_H
#define TOOLS_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "tools/corpus.h"

/* ---- What the mail server has (load_model.c) ---- */

/* One message in a mailbox; its UID is its place in the array, from 1. */
struct load_record {
    const struct corpus_message *message;
    uint64_t modseq;
    unsigned flags; /* bits; load_model.c knows them */
};

/* What happens when all messages have arrived: CHANGES flags change, then each EXPUNGE-th message (0:
 * none) is expunged. */
struct load_later {
    size_t changes, expunge;
};

/* What happened in a mailbox is a series of events: each of its messages arrives, then what comes
 * later. After event e its HIGHESTMODSEQ is e + 1. Everything follows from the corpus. */
struct load_mailbox {
    const char *user;
    char *name;
    char *uniqueid;
    uint32_t uidvalidity;
    struct load_record *records;
    size_t messages; /* that arrive altogether */
    struct load_later later;
    size_t at;       /* events so far */
    uint32_t crc, crc_annot; /* SYNC_CRC and SYNC_CRC_ANNOT now */
    uint32_t crc_before, crc_annot_before; /* and before the last event */

    int listed; /* what the server says it has, in the answer that came last */
    uint32_t listed_uid;
    uint64_t listed_modseq;
    uint32_t listed_crc, listed_crc_annot;
};

/* A mailbox of USER (kept as it is, not copied) with COUNT messages beginning at MESSAGES. FOLDER 0
 * is the INBOX; NUMBER tells it from all others. */
void load_mailbox_init(struct load_mailbox *, const char *user, size_t folder, size_t number,
                       const struct corpus_message *messages, size_t count,
                       const struct load_later *later);
void load_mailbox_fini(struct load_mailbox *);
/* Go to the state after EVENT events; forward is cheap. */
void load_mailbox_goto(struct load_mailbox *, size_t event);
/* How many events there are altogether. */
size_t load_mailbox_events(const struct load_mailbox *);
/* How many messages have arrived after EVENT events. */
size_t load_mailbox_count(const struct load_mailbox *, size_t event);
/* The place in the array of the record that event EVENT (from 1) touched. */
size_t load_mailbox_touched(const struct load_mailbox *, size_t event);
/* The header of MAILBOX between "%(" and RECORD, with SINCE_* if the mailbox was listed. */
void load_mailbox_header(const struct load_mailbox *, struct buf *out);
void load_mailbox_record(const struct load_mailbox *, size_t i, struct buf *out);

/* ---- The conversation (load_session.c) ---- */

struct load_count {
    size_t connections, messages, bytes, records, mailboxes;
};

struct load_session;
/* Connect to a UNIX socket and read the greeting. All functions say on standard error what is
 * wrong, with the command and the answer, and return -1 then. */
int load_session_open(struct load_session **, const char *path, struct load_count *);
/* Bring the server to the present state of all mailboxes (COUNT of them, of one user), as
 * sync_client -u does. What it lists must be a state that they were in. */
int load_session_user(struct load_session *, struct load_mailbox *, size_t count);
/* EXIT, and wait until the server has closed the connection. Frees *S in any case. */
int load_session_close(struct load_session **);
void load_session_abort(struct load_session **);

#endif
