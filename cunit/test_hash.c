/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/hash. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/hash.h"
#include "lib/xmalloc.h"

static void test_strings(void)
{
    struct hash *h = hash_new();
    int a, b;
    CU_ASSERT_PTR_NULL(hash_lookup(h, "x"));
    CU_ASSERT_PTR_NULL(hash_del(h, "x"));
    CU_ASSERT_PTR_NULL(hash_insert(h, "x", &a));
    CU_ASSERT_PTR_NULL(hash_insert(h, "", &b));
    CU_ASSERT_PTR_EQUAL(hash_lookup(h, "x"), &a);
    CU_ASSERT_PTR_EQUAL(hash_lookup(h, ""), &b);
    CU_ASSERT_PTR_EQUAL(hash_insert(h, "x", &b), &a);
    CU_ASSERT_PTR_EQUAL(hash_lookup(h, "x"), &b);
    CU_ASSERT_EQUAL(hash_count(h), 2);
    CU_ASSERT_PTR_EQUAL(hash_del(h, "x"), &b);
    CU_ASSERT_PTR_NULL(hash_lookup(h, "x"));
    CU_ASSERT_EQUAL(hash_count(h), 1);
    hash_free(&h, NULL);
    CU_ASSERT_PTR_NULL(h);
    hash_free(&h, NULL);
}

static void test_bytes(void)
{
    struct hash *h = hash_new();
    int a, b;
    hash_insertmap(h, "k\0one", 5, &a);
    hash_insertmap(h, "k\0two", 5, &b);
    CU_ASSERT_PTR_EQUAL(hash_lookupmap(h, "k\0one", 5), &a);
    CU_ASSERT_PTR_EQUAL(hash_lookupmap(h, "k\0two", 5), &b);
    CU_ASSERT_PTR_NULL(hash_lookup(h, "k"));
    hash_insert(h, "string", &a);
    CU_ASSERT_PTR_EQUAL(hash_lookupmap(h, "string", 6), &a);
    CU_ASSERT_PTR_NULL(hash_lookupmap(h, "string", 7));
    CU_ASSERT_PTR_EQUAL(hash_delmap(h, "k\0one", 5), &a);
    CU_ASSERT_PTR_EQUAL(hash_lookupmap(h, "k\0two", 5), &b);
    hash_free(&h, NULL);
}

#define NKEYS 2000

/* The table must agree with a plain array through any mixture of insertions and removals. */
static void test_model(void)
{
    struct hash *h = hash_new();
    static char model[NKEYS];
    static int data[NKEYS];
    unsigned state = 12345;
    size_t count = 0;
    int wrong = 0;
    memset(model, 0, sizeof(model));
    for (int step = 0; step < 100000; step++) {
        char key[16];
        state = state * 1103515245u + 12345u;
        /* Waves: mostly insertions, then mostly removals. */
        int removing = (state >> 8) % 10 < (step / 20000 % 2 ? 8u : 2u);
        unsigned k = (state >> 12) % NKEYS;
        snprintf(key, sizeof(key), "key %u", k);
        void *had = removing ? hash_del(h, key) : hash_insert(h, key, &data[k]);
        wrong += had != (model[k] ? &data[k] : NULL);
        count += (size_t)!removing;
        count -= (size_t)model[k];
        model[k] = !removing;
        wrong += hash_count(h) != count;
    }
    for (unsigned k = 0; k < NKEYS; k++) {
        char key[16];
        snprintf(key, sizeof(key), "key %u", k);
        wrong += hash_lookup(h, key) != (model[k] ? &data[k] : NULL);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    hash_free(&h, NULL);
}

static int spell(const char *key, size_t n, void *data, void *rock)
{
    CU_ASSERT_EQUAL(strlen(key), n);
    buf_printf(rock, "%s=%s ", key, (const char *)data);
    return strcmp(key, "stop") ? 0 : 42;
}

static int delete_all(const char *key, size_t n, void *data, void *rock)
{
    (void)data;
    char *copy = xstrndup(key, n);
    CU_ASSERT_PTR_NOT_NULL(hash_del(rock, copy));
    free(copy);
    return 0;
}

static void test_enumerate(void)
{
    struct hash *h = hash_new();
    struct buf b = BUF_INITIALIZER;
    static const char *const keys[] = {"c", "a", "b", "stop", "z"};
    for (int i = 0; i < 5; i++)
        hash_insert(h, keys[i], xstrdup(keys[i]));
    free(hash_insert(h, "c", xstrdup("new")));
    free(hash_del(h, "a"));
    CU_ASSERT_EQUAL(hash_enumerate(h, spell, &b), 42);
    UNIT_STR(buf_cstring(&b), "c=new b=b stop=stop ");
    hash_free(&h, free); /* a leak here is seen by the sanitizer */
    h = hash_new();
    for (int i = 0; i < 5; i++)
        hash_insert(h, keys[i], h);
    CU_ASSERT_EQUAL(hash_enumerate(h, delete_all, h), 0);
    CU_ASSERT_EQUAL(hash_count(h), 0);
    hash_free(&h, NULL);
    buf_free(&b);
}

/* Vectors of the reference implementation: key 00 01 .. 0f, input 00 01 02 .. of n bytes. */
static void test_siphash(void)
{
    unsigned char key[16], in[64];
    for (int i = 0; i < 64; i++)
        in[i] = (unsigned char)i;
    memcpy(key, in, sizeof(key));
    CU_ASSERT_EQUAL(hash_siphash(key, in, 0), 0x726fdb47dd0e0e31ull);
    CU_ASSERT_EQUAL(hash_siphash(key, in, 1), 0x74f839c593dc67fdull);
    CU_ASSERT_EQUAL(hash_siphash(key, in, 8), 0x93f5f5799a932462ull);
    CU_ASSERT_EQUAL(hash_siphash(key, in, 15), 0xa129ca6149be45e5ull);
}

void suite_hash(void);
void suite_hash(void)
{
    static const struct unit_test tests[] = {
        {"strings", test_strings},     {"bytes", test_bytes},     {"model", test_model},
        {"enumerate", test_enumerate}, {"siphash", test_siphash}, {NULL, NULL},
    };
    unit_suite("hash", tests);
}
