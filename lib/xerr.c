/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* xerr - texts for error codes. */
#include "config.h"

#include <string.h>

#include "lib/xerr.h"

static const char *const texts[] = {
    "unexpected end of data",
    "damaged or foreign data",
    "written by a newer version",
    "does not exist",
    "exists already",
    "is locked",
    "too big",
    "syntax error",
    "bad parameters",
    "bad configuration",
    "TLS or SASL failure",
    "database error, see syslog",
    "was replaced again and again meanwhile: try again later",
    "unusable after an earlier failure",
    "permission denied",
    "asked to stop",
    "timed out",
    "there are data files that backups.db does not name",
    "internal error",
};

const char *error_message(int r)
{
    if (r >= XERR_FIRST && r <= XERR_LAST)
        return texts[r - XERR_FIRST];
    if (r == 0)
        return "success";
    return r < 0 && r > XERR_FIRST ? strerror(-r) : "unknown error";
}
