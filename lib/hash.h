/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Hash tables from strings, or from any bytes, to pointers. Every table has its own random seed, so
 * nobody outside can choose keys that collide. Keys are copied; data belong to the caller. The
 * functions whose names end in map take bytes, the others a NUL-terminated string, which is the
 * same key as its bytes without the NUL. */
#ifndef LIB_HASH_H
#define LIB_HASH_H

#include <stddef.h>

struct hash;

struct hash *hash_new(void);
/* Also calls FREEDATA, if not NULL, on the data of every key. *H may be NULL. */
void hash_free(struct hash **h, void (*freedata)(void *));

/* Set KEY to DATA. Returns the data that KEY had, or NULL. DATA must not be NULL. */
void *hash_insert(struct hash *h, const char *key, void *data);
void *hash_insertmap(struct hash *h, const void *key, size_t n, void *data);
/* The data of KEY, or NULL. */
void *hash_lookup(const struct hash *h, const char *key);
void *hash_lookupmap(const struct hash *h, const void *key, size_t n);
/* Remove KEY; returns its data, or NULL if it was not there. */
void *hash_del(struct hash *h, const char *key);
void *hash_delmap(struct hash *h, const void *key, size_t n);
size_t hash_count(const struct hash *h);

/* Call FN for each key in the order of first insertion, until it returns something else than 0,
 * which is returned. The key has N bytes, and a NUL behind them. FN may delete keys (also the one
 * it is called with), and replace data; it must not add keys. */
int hash_enumerate(const struct hash *h,
                   int (*fn)(const char *key, size_t n, void *data, void *rock), void *rock);

/* SipHash-2-4 of N bytes under a key of 16 (Aumasson and Bernstein, "SipHash: a fast short-input
 * PRF", 2012). */
unsigned long long hash_siphash(const unsigned char key[16], const void *p, size_t n);

#endif
