/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A mailbox header as replication carries it: MAILBOX without RECORD and SINCE_*. All keys are kept
 * verbatim, known or not, because the client compares what we list with what it has. */
#ifndef IMAP_SYNC_HEADER_H
#define IMAP_SYNC_HEADER_H

#include <stdint.h>

#include "imap/dlist.h"
#include "lib/buf.h"

struct sync_header {
    const char *uniqueid; /* strings live in the pool of the tree it was parsed from */
    const char *mboxname;
    const char *mboxtype; /* NULL: plain mail */
    const char *partition;
    const char *acl;
    const char *options;
    const char *quotaroot; /* or NULL */
    uint32_t last_uid;
    uint64_t highestmodseq;
    uint32_t recentuid;
    int64_t recenttime;
    int64_t last_appenddate;
    uint32_t uidvalidity;
    uint32_t sync_crc;
    int has_sync_crc;
    uint32_t sync_crc_annot;
    int has_sync_crc_annot;
    int has_since;
    uint64_t since_modseq;
    uint32_t since_crc;
    uint32_t since_crc_annot;
    int intermediate;   /* the short form: neither LAST_UID nor RECORD */
    struct dlist *tree; /* the whole kvlist, in the order received */
};

/* From a kvlist (without RECORD). XERR_PARAM if a mandatory key is missing or not of its type, or
 * a string that must not be NIL is. The short form of intermediates and tombstones (no LAST_UID, a
 * type with "i" or "d") is recognised; of it only uniqueid, mboxname, mboxtype and highestmodseq
 * are sure to be there. */
int sync_header_parse(struct sync_header *, struct dlist *kvlist);
/* The canonical text between "%(" and ")": every key but RECORD and SINCE_*. Returns 1 if it needs
 * a string literal. */
int sync_header_print(const struct sync_header *, struct buf *out);
/* Parse such a text again (tree in POOL). */
int sync_header_parsetext(struct sync_header *, struct dlist_pool *, const char *text, size_t len);
/* Replace the value of KEY in the tree (or append it) with an atom or number, NULL for NIL, and
 * parse again. XERR_TOOBIG if the pool is full; XERR_PARAM if the header is no good with it. */
int sync_header_set(struct sync_header *, struct dlist_pool *, const char *key, const char *val);
/* Clients of 3.0 send mailbox annotations without MODSEQ, later ones refuse to read them so: put
 * MODSEQ 0 behind USERID where there is none. */
int sync_header_addmodseq(struct sync_header *, struct dlist_pool *);

#endif
