/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* hash - tables from bytes to pointers.
 *
 * Entries live in one array in the order of insertion; a second array, a power of two in size and
 * at least half empty, holds the numbers of entries and is probed linearly from the place that
 * the hash of the key names. So enumeration has a defined order, and growing moves numbers, not
 * keys.
 *
 * Removing an entry frees its key and leaves the entry as a gravestone (key NULL), which keeps
 * probe sequences whole. Gravestones go when the entry array is full: it is then packed, and
 * doubled only if more than half of it is alive. Nothing is packed by a removal, so a removal
 * during an enumeration is safe. */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "lib/hash.h"
#include "lib/xmalloc.h"

struct entry {
    uint64_t hash;
    char *key; /* NULL: removed */
    size_t len;
    void *data;
};

struct hash {
    unsigned char seed[16];
    struct entry *entries;
    size_t used;   /* entries in use, gravestones among them */
    size_t alive;  /* entries in use without gravestones */
    size_t alloc;  /* entries there is room for */
    size_t *slots; /* number of an entry plus 1, or 0 */
    size_t nslots; /* power of two, twice alloc */
};

#define FIRST_ALLOC 16

static uint64_t rotl(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t load64(const unsigned char *p)
{
    uint64_t x = 0;
    for (int i = 7; i >= 0; i--)
        x = x << 8 | p[i];
    return x;
}

static void sip_rounds(uint64_t v[4], int rounds)
{
    while (rounds--) {
        v[0] += v[1];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[0] = rotl(v[0], 32);
        v[2] += v[3];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[2] = rotl(v[2], 32);
    }
}

unsigned long long hash_siphash(const unsigned char key[16], const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t k0 = load64(key), k1 = load64(key + 8);
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                     k1 ^ 0x7465646279746573u};
    uint64_t last = (uint64_t)n << 56;
    size_t left = n;
    for (; left >= 8; left -= 8, p += 8) {
        uint64_t m = load64(p);
        v[3] ^= m;
        sip_rounds(v, 2);
        v[0] ^= m;
    }
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)p[i] << 8 * i;
    v[3] ^= last;
    sip_rounds(v, 2);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static void make_seed(unsigned char seed[16])
{
    if (getrandom(seed, 16, GRND_NONBLOCK) == 16)
        return;
    /* Only before the kernel's pool is ready: not secret, but different each time. */
    struct timespec ts[2];
    clock_gettime(CLOCK_MONOTONIC, &ts[0]);
    clock_gettime(CLOCK_REALTIME, &ts[1]);
    uint64_t a = (uint64_t)ts[0].tv_nsec << 32 ^ (uint64_t)ts[1].tv_nsec;
    uint64_t b = (uint64_t)ts[1].tv_sec << 32 ^ (uint64_t)getpid() ^ (uint64_t)(uintptr_t)seed;
    memcpy(seed, &a, 8);
    memcpy(seed + 8, &b, 8);
}

struct hash *hash_new(void)
{
    struct hash *h = xzmalloc(sizeof(*h));
    make_seed(h->seed);
    return h;
}

void hash_free(struct hash **hp, void (*freedata)(void *))
{
    struct hash *h = *hp;
    *hp = NULL;
    if (!h)
        return;
    for (size_t i = 0; i < h->used; i++) {
        if (!h->entries[i].key)
            continue;
        free(h->entries[i].key);
        if (freedata)
            freedata(h->entries[i].data);
    }
    free(h->entries);
    free(h->slots);
    free(h);
}

/* The entry of a key, or NULL. */
static struct entry *find(const struct hash *h, uint64_t hash, const void *key, size_t n)
{
    if (!h->nslots)
        return NULL;
    for (size_t i = hash & (h->nslots - 1); h->slots[i]; i = (i + 1) & (h->nslots - 1)) {
        struct entry *e = &h->entries[h->slots[i] - 1];
        if (e->key && e->hash == hash && e->len == n && (!n || !memcmp(e->key, key, n)))
            return e;
    }
    return NULL;
}

static void place(struct hash *h, size_t entry)
{
    size_t i = h->entries[entry].hash & (h->nslots - 1);
    while (h->slots[i])
        i = (i + 1) & (h->nslots - 1);
    h->slots[i] = entry + 1;
}

/* Make room for one more entry: drop gravestones, and double if that alone gains little. */
static void make_room(struct hash *h)
{
    size_t to = 0;
    for (size_t i = 0; i < h->used; i++)
        if (h->entries[i].key)
            h->entries[to++] = h->entries[i];
    h->used = to;
    if (to > h->alloc / 2 || !h->alloc) {
        h->alloc = h->alloc ? 2 * h->alloc : FIRST_ALLOC;
        h->nslots = 2 * h->alloc;
        h->entries = xrealloc(h->entries, h->alloc * sizeof(*h->entries));
        free(h->slots);
        h->slots = xcalloc(h->nslots, sizeof(*h->slots));
    } else {
        memset(h->slots, 0, h->nslots * sizeof(*h->slots));
    }
    for (size_t i = 0; i < to; i++)
        place(h, i);
}

void *hash_insertmap(struct hash *h, const void *key, size_t n, void *data)
{
    uint64_t hash = hash_siphash(h->seed, key, n);
    struct entry *e = find(h, hash, key, n);
    if (e) {
        void *old = e->data;
        e->data = data;
        return old;
    }
    if (h->used == h->alloc)
        make_room(h);
    e = &h->entries[h->used];
    e->hash = hash;
    e->key = xmalloc(n + 1);
    if (n)
        memcpy(e->key, key, n);
    e->key[n] = '\0';
    e->len = n;
    e->data = data;
    place(h, h->used++);
    h->alive++;
    return NULL;
}

void *hash_lookupmap(const struct hash *h, const void *key, size_t n)
{
    struct entry *e = find(h, hash_siphash(h->seed, key, n), key, n);
    return e ? e->data : NULL;
}

void *hash_delmap(struct hash *h, const void *key, size_t n)
{
    struct entry *e = find(h, hash_siphash(h->seed, key, n), key, n);
    if (!e)
        return NULL;
    free(e->key);
    e->key = NULL;
    h->alive--;
    return e->data;
}

void *hash_insert(struct hash *h, const char *key, void *data)
{
    return hash_insertmap(h, key, strlen(key), data);
}

void *hash_lookup(const struct hash *h, const char *key)
{
    return hash_lookupmap(h, key, strlen(key));
}

void *hash_del(struct hash *h, const char *key)
{
    return hash_delmap(h, key, strlen(key));
}

size_t hash_count(const struct hash *h)
{
    return h->alive;
}

int hash_enumerate(const struct hash *h,
                   int (*fn)(const char *key, size_t n, void *data, void *rock), void *rock)
{
    int r = 0;
    for (size_t i = 0; !r && i < h->used; i++)
        if (h->entries[i].key)
            r = fn(h->entries[i].key, h->entries[i].len, h->entries[i].data, rock);
    return r;
}
