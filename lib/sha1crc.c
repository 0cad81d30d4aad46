/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* sha1crc - SHA-1 and CRC-32.
 *
 * SHA-1 is OpenSSL's low-level interface, deprecated since 3.0 but there in every version: unlike
 * EVP it cannot fail (no provider, no policy that forbids SHA-1, no allocation) and it costs no
 * look-up, which counts for messages of a few KiB. SHA-1 is a name of content here, not a
 * signature. */
#include "config.h"

#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>
#include <stdlib.h>

#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#else
#include <zlib.h>
#endif

#include "lib/sha1crc.h"
#include "lib/xmalloc.h"

struct sha1 {
    SHA_CTX ctx;
};

struct sha1 *sha1_new(void)
{
    struct sha1 *s = xmalloc(sizeof(*s));
    SHA1_Init(&s->ctx);
    return s;
}

void sha1_init(struct sha1 *s)
{
    SHA1_Init(&s->ctx);
}

void sha1_update(struct sha1 *s, const void *p, size_t n)
{
    if (n)
        SHA1_Update(&s->ctx, p, n);
}

void sha1_final(struct sha1 *s, unsigned char out[SHA1_LEN])
{
    SHA1_Final(out, &s->ctx);
}

void sha1_free(struct sha1 **s)
{
    free(*s);
    *s = NULL;
}

void sha1_once(const void *p, size_t n, unsigned char out[SHA1_LEN])
{
    struct sha1 s;
    SHA1_Init(&s.ctx);
    sha1_update(&s, p, n);
    SHA1_Final(out, &s.ctx);
}

uint32_t crc32_map(uint32_t crc, const void *p, size_t n)
{
    if (!n) /* both libraries take a NULL pointer for "start over" */
        return crc;
#ifdef HAVE_LIBDEFLATE
    return libdeflate_crc32(crc, p, n);
#else
    return (uint32_t)crc32_z(crc, p, n);
#endif
}
