/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A message record as replication carries it: one element of RECORD in MAILBOX. */
#ifndef IMAP_SYNC_RECORD_H
#define IMAP_SYNC_RECORD_H

#include <stdint.h>

#include "imap/dlist.h"
#include "imap/message_guid.h"
#include "lib/buf.h"

struct sync_record {
    uint32_t uid;
    uint64_t modseq;
    int64_t last_updated;
    int64_t internaldate;
    uint64_t size;
    struct message_guid guid;
    int expunged;           /* \Expunged was among the flags */
    struct buf flags;       /* canonical "(...)" without \Expunged, as received otherwise */
    struct buf annotations; /* canonical "(...)" or empty */
    struct buf extra;       /* unknown keys: " KEY value ..." canonical, or empty */
    int literal;            /* printing it needs a string literal */
    struct buf work;        /* private */
};

/* Zero-filled memory is a valid empty record. */
void sync_record_fini(struct sync_record *);
/* Read one record "%(UID ...)" from a stream, reusing the bufs. No tree is built. XERR_PARAM if a
 * mandatory key is missing (UID MODSEQ LAST_UPDATED INTERNALDATE GUID; FLAGS and SIZE default to
 * () and 0) or has a value of the wrong kind, or UID (its low 32 bits) is 0. Each text is bounded
 * by MAX bytes (XERR_TOOBIG). Of equal keys the first counts. */
int sync_record_read(struct sync_record *, struct dlist_reader *, size_t max);
/* The canonical "%(UID ... )" appended: UID MODSEQ LAST_UPDATED FLAGS INTERNALDATE SIZE GUID, then
 * ANNOTATIONS if there are any, then what we do not know. \Expunged is the first flag. */
void sync_record_print(const struct sync_record *, struct buf *out);
/* SYNC_CRC of this record: 0 if expunged. A mailbox's is the XOR of its records'. */
uint32_t sync_record_crc(const struct sync_record *);
/* The same from parts; FLAGS of N bytes is the canonical list text. */
uint32_t sync_crc_basic(uint32_t uid, uint64_t modseq, int64_t last_updated, const char *flags,
                        size_t n, int64_t internaldate, const struct message_guid *guid);
/* One message annotation's part of SYNC_CRC_ANNOT. A mailbox's is the XOR of the parts of all
 * annotations of records that are not expunged, begun with SYNC_CRC_ANNOT_START (clients of 3.0:
 * with 0). Which annotations count, and how thrid is written, depends on the client's version. */
enum { SYNC_CRC_ANNOT_START = 12345678 };
uint32_t sync_crc_annot(uint32_t uid, const char *entry, const char *userid, const void *value,
                        size_t n);
/* 0: they differ; 1: equal in uid, modseq, last_updated, internaldate, size, guid, expunged and
 * flags; 2: in annotations and unknown keys, too. */
int sync_record_equal(const struct sync_record *a, const struct sync_record *b);

#endif
