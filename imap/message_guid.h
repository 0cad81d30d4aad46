/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* GUID: SHA-1 of a message's bytes, 40 lower-case hex digits on the wire. */
#ifndef IMAP_MESSAGE_GUID_H
#define IMAP_MESSAGE_GUID_H

#include <stddef.h>

enum { MESSAGE_GUID_LEN = 20 };
struct message_guid {
    unsigned char value[MESSAGE_GUID_LEN];
};

/* Hex digits of any case, exactly 40 of them (N is the length): 0 or XERR_SYNTAX. */
int message_guid_decode(struct message_guid *, const char *hex, size_t n);
/* 40 digits and NUL to OUT. */
void message_guid_encode(const struct message_guid *, char out[41]);
void message_guid_generate(struct message_guid *, const void *p, size_t n);
int message_guid_equal(const struct message_guid *a, const struct message_guid *b);
int message_guid_isnull(const struct message_guid *);

#endif
