/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The header of a message (RFC 5322), cut into fields. */
#ifndef IMAP_MESSAGE_HEADER_H
#define IMAP_MESSAGE_HEADER_H

#include <stddef.h>

#include "lib/buf.h"

/* Bytes of the header block of the message that begins with the N bytes at MSG: every line up to
 * the empty one, which is not counted. N if there is no empty line. */
size_t message_header_length(const char *msg, size_t n);

struct message_header {
    struct buf name;  /* as written */
    struct buf value; /* unfolded, without white space around it; encoded words stay encoded */
};
void message_header_fini(struct message_header *);
/* The next field from *P (below END, which is the end of the header block) to H, whose bufs are
 * used again; *P moves behind it. 1, or 0 at the end. Lines that are no field ("From " lines,
 * garbage) are passed over. Zero-filled memory is a valid H. */
int message_header_next(struct message_header *h, const char **p, const char *end);

#endif
