/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Twoskip databases (the format of Cyrus IMAP's backups.db): sorted key-value records in one file,
 * transactions, crash recovery, checkpoint. Written byte-compatibly with Cyrus 3.2 and later; files
 * of 3.0 are read and recovered too. Locks are those of stock Cyrus (whole-file fcntl), so both may
 * use a database at the same time.
 *
 * All functions return 0, XERR_* or -errno. Keys and values are arbitrary bytes. */
#ifndef LIB_TWOSKIP_H
#define LIB_TWOSKIP_H

#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/vfs.h"

struct twoskip;
struct twoskip_txn;

enum { TWOSKIP_CREATE = 1 };

/* Open PATH; without TWOSKIP_CREATE a missing file is XERR_NOTFOUND. An unclean file is recovered. */
int twoskip_open(struct vfs *, const char *path, int flags, struct twoskip **);
/* Checkpoints if one is due, then closes. */
void twoskip_close(struct twoskip **);

/* Begin a write transaction: takes the exclusive lock (waiting), recovers if needed. One at a time. */
int twoskip_begin(struct twoskip *, struct twoskip_txn **);
/* Durable when it returns 0. On failure the transaction is undone. *TXN is NULL afterwards. */
int twoskip_commit(struct twoskip_txn **);
void twoskip_abort(struct twoskip_txn **);

/* Look up KEY: XERR_NOTFOUND if absent. TXN NULL: under a shared lock for this call. */
int twoskip_fetch(struct twoskip *, struct twoskip_txn *, const void *key, size_t keylen,
                  struct buf *value);
/* Create or replace. TXN NULL: a transaction of its own. XERR_PARAM for an empty key. */
int twoskip_store(struct twoskip *, struct twoskip_txn *, const void *key, size_t keylen,
                  const void *value, size_t valuelen);
/* XERR_NOTFOUND if absent. */
int twoskip_delete(struct twoskip *, struct twoskip_txn *, const void *key, size_t keylen);

/* Call FN for every record whose key begins with PREFIX, in byte order; a non-zero result of FN
 * ends it and is returned. Without TXN the lock is not held while FN runs: records are read by the
 * hundred, and the walk goes on behind the last key read, whatever happened meanwhile. What FN does
 * through this handle is seen at once. There is a NUL behind key and value. */
typedef int twoskip_fn(void *rock, const char *key, size_t keylen, const char *value,
                       size_t valuelen);
int twoskip_foreach(struct twoskip *, struct twoskip_txn *, const void *prefix, size_t prefixlen,
                    twoskip_fn *fn, void *rock);

/* Rewrite the file without dead records (due or not). */
int twoskip_checkpoint(struct twoskip *);
/* Check every pointer, checksum and the order of keys: 0 or XERR_FORMAT. */
int twoskip_consistent(struct twoskip *);
/* Number of live records, for tests and statistics. */
int twoskip_count(struct twoskip *, uint64_t *count);

#endif
