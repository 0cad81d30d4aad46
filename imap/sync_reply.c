/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* sync_reply - the final lines of csync replies. */
#include "config.h"

#include <string.h>

#include "imap/sync_reply.h"
#include "lib/xerr.h"

static const char *const texts[SYNC_LAST + 1] = {
    [SYNC_OK] = "OK Success",
    [SYNC_LOCKED] = "NO IMAP_MAILBOX_LOCKED Mailbox locked",
    [SYNC_NONEXISTENT] = "NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox",
    [SYNC_INVALID_USER] = "NO IMAP_INVALID_USER No Such User",
    [SYNC_CHECKSUM] = "NO IMAP_SYNC_CHECKSUM Checksum Failure",
    [SYNC_CHANGED] = "NO IMAP_SYNC_CHANGED Changed since last sync",
    [SYNC_MOVED] = "NO IMAP_MAILBOX_MOVED Mailbox exists with another name or uniqueid",
    [SYNC_NOTSUPPORTED] = "NO IMAP_MAILBOX_NOTSUPPORTED Operation is not supported on mailbox",
    [SYNC_BADSIEVE] = "NO IMAP_SYNC_BADSIEVE Sieve script compilation failure",
    [SYNC_PROTOCOL_ERROR] = "NO IMAP_PROTOCOL_ERROR Protocol error",
    [SYNC_BAD_PARAMETERS] = "NO IMAP_PROTOCOL_BAD_PARAMETERS Bad parameters",
    [SYNC_NOT_AUTHENTICATED] = "NO Please authenticate first",
    [SYNC_DENIED] = "NO Permission denied",
    [SYNC_INTERNAL] = "NO Unknown error",
    [SYNC_BAD_APPLY] = "BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line",
    [SYNC_BAD_GET] = "BAD IMAP_PROTOCOL_ERROR Failed to parse GET line",
    [SYNC_BAD_COMMAND] = "BAD IMAP_PROTOCOL_ERROR Unrecognized command",
    [SYNC_BAD_EMPTY] = "BAD Null command",
};

enum sync_reply sync_reply_code(int code)
{
    if (code >= 0)
        return code <= SYNC_LAST ? (enum sync_reply)code : SYNC_INTERNAL;
    switch (code) {
    case XERR_NOTFOUND:
        return SYNC_NONEXISTENT;
    case XERR_SYNTAX:
        return SYNC_BAD_APPLY;
    case XERR_PARAM:
        return SYNC_BAD_PARAMETERS;
    case XERR_TOOBIG:
        return SYNC_PROTOCOL_ERROR;
    case XERR_DENIED:
        return SYNC_DENIED;
    case XERR_EOF:
    case XERR_EXISTS:
    case XERR_CRYPTO:
    case XERR_SIGNAL:
    case XERR_TIMEOUT:
    case XERR_INTERNAL:
        return SYNC_INTERNAL;
    default: /* a lock, -errno, and what is wrong with our files, database or configuration */
        return SYNC_LOCKED;
    }
}

const char *sync_reply_text(int code)
{
    return texts[sync_reply_code(code)];
}

/* The token behind NO: N bytes at TOKEN. */
static int parse_token(const char *token, size_t n)
{
    static const char denied[] = "IMAP_PERMISSION_DENIED"; /* recent servers */
    if (n == sizeof(denied) - 1 && !memcmp(token, denied, n))
        return SYNC_DENIED;
    for (int code = SYNC_LOCKED; code <= SYNC_BAD_PARAMETERS; code++) {
        const char *t = texts[code] + 3;
        if (strcspn(t, " ") == n && !memcmp(t, token, n))
            return code;
    }
    return SYNC_INTERNAL;
}

int sync_reply_parse(const char *line)
{
    size_t n = strcspn(line, " \r\n");
    const char *rest = line + n + (line[n] == ' ');
    if (n == 2 && !memcmp(line, "OK", 2))
        return SYNC_OK;
    if (n == 3 && !memcmp(line, "BAD", 3))
        return SYNC_BAD_COMMAND;
    if (n != 2 || memcmp(line, "NO", 2))
        return XERR_SYNTAX;
    return parse_token(rest, strcspn(rest, " \r\n"));
}
