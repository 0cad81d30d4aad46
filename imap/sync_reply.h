/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The final lines of csync replies. Clients look at the first word and, after NO, at a token, which
 * counts only if text follows it; what each of them does then is described in doc/protocol. */
#ifndef IMAP_SYNC_REPLY_H
#define IMAP_SYNC_REPLY_H

/* Positive, so that they can share an int with XERR_* and -errno. */
enum sync_reply {
    SYNC_OK = 0,
    SYNC_LOCKED = 1, /* the only one after which a client tries again later */
    SYNC_NONEXISTENT,
    SYNC_INVALID_USER, /* better not: it ends a rolling client's run */
    SYNC_CHECKSUM,     /* send me everything again */
    SYNC_CHANGED,      /* not the state that SINCE_* names */
    SYNC_MOVED,
    SYNC_NOTSUPPORTED,
    SYNC_BADSIEVE,
    SYNC_PROTOCOL_ERROR, /* no such thing to GET or APPLY */
    SYNC_BAD_PARAMETERS, /* keys missing or of the wrong kind */
    SYNC_NOT_AUTHENTICATED,
    SYNC_DENIED,
    SYNC_INTERNAL,
    SYNC_BAD_APPLY, /* could not be parsed */
    SYNC_BAD_GET,
    SYNC_BAD_COMMAND, /* no such verb */
    SYNC_BAD_EMPTY,
    SYNC_LAST = SYNC_BAD_EMPTY
};

/* The line for CODE, without line end: one of the above, XERR_* or -errno. What is wrong with the
 * command keeps its meaning; trouble of our own (disk, permissions, database, configuration) is
 * SYNC_LOCKED, because that makes the client come back; what cannot happen is SYNC_INTERNAL. */
const char *sync_reply_text(int code);
/* What CODE (as above) is answered with. */
enum sync_reply sync_reply_code(int code);
/* A server's final line to a code: 0 for OK, the token's code for NO (SYNC_INTERNAL if unknown),
 * SYNC_BAD_COMMAND for BAD, XERR_SYNTAX for anything that is no final line. The token may also end
 * the line. */
int sync_reply_parse(const char *line);

#endif
