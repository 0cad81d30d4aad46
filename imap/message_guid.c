/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* message_guid - the identity of message content: SHA-1 of its bytes, and its hex form. */
#include "config.h"

#include <string.h>

#include "imap/message_guid.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"

static int hexval(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int message_guid_decode(struct message_guid *guid, const char *hex, size_t n)
{
    if (n != 2 * MESSAGE_GUID_LEN)
        return XERR_SYNTAX;
    for (size_t i = 0; i < MESSAGE_GUID_LEN; i++) {
        int hi = hexval((unsigned char)hex[2 * i]);
        int lo = hexval((unsigned char)hex[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return XERR_SYNTAX;
        guid->value[i] = (unsigned char)(hi << 4 | lo);
    }
    return 0;
}

void message_guid_encode(const struct message_guid *guid, char out[41])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < MESSAGE_GUID_LEN; i++) {
        out[2 * i] = digits[guid->value[i] >> 4];
        out[2 * i + 1] = digits[guid->value[i] & 15];
    }
    out[2 * MESSAGE_GUID_LEN] = '\0';
}

void message_guid_generate(struct message_guid *guid, const void *p, size_t n)
{
    sha1_once(p, n, guid->value);
}

int message_guid_equal(const struct message_guid *a, const struct message_guid *b)
{
    return !memcmp(a->value, b->value, MESSAGE_GUID_LEN);
}

int message_guid_isnull(const struct message_guid *guid)
{
    static const struct message_guid null;
    return message_guid_equal(guid, &null);
}
