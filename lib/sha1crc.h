/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* SHA-1 (the GUID of message content; OpenSSL's, which uses the processor's instructions) and
 * CRC-32 (IEEE; libdeflate's where there is one, else zlib's). */
#ifndef LIB_SHA1CRC_H
#define LIB_SHA1CRC_H

#include <stddef.h>
#include <stdint.h>

enum { SHA1_LEN = 20 };

struct sha1;
struct sha1 *sha1_new(void);
void sha1_init(struct sha1 *); /* start over; a new one is started already */
void sha1_update(struct sha1 *, const void *p, size_t n);
void sha1_final(struct sha1 *, unsigned char out[SHA1_LEN]);
void sha1_free(struct sha1 **);
void sha1_once(const void *p, size_t n, unsigned char out[SHA1_LEN]);

/* CRC may be 0 (start) or the result so far. */
uint32_t crc32_map(uint32_t crc, const void *p, size_t n);

#endif
