/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Points of time as people write them.
 *
 *   now
 *   2026-11-20                        the first second of that day
 *   2026-11-20 14:00                  T or a blank between date and time
 *   2026-11-20T14:00:30.5+01:00       fractions of seconds are cut off; zones: Z, +HH, +HHMM, +HH:MM
 *   2016-12-31T23:59:60Z              a leap second is the second after it
 *   1795183200, @1795183200           seconds since 1970; without @ nine digits or more
 *   -3d, -1d12h, -90m, -2w            before now: weeks, days of 24 hours, hours, minutes, seconds
 *
 * Without a zone it is local time (TZ). Where clocks are changed, the rule is that of RFC 5545, 3.3.5:
 * of a time that comes twice the first one is meant; one that is left out is counted as if the clocks
 * had not been changed yet (02:30 of a night that goes from 02:00 to 03:00 is 03:30). */
#ifndef LIB_TIMES_H
#define LIB_TIMES_H

#include <stdint.h>

#include "lib/buf.h"

/* TEXT, white space around it allowed, to seconds since 1970 (0 .. the end of the year 9999). NOW is
 * the present. 0; XERR_SYNTAX if it is none of these forms; XERR_PARAM if there is no such day, hour
 * or offset, or it is out of range. ERR gets half a sentence for the user then ("what it is, and what
 * is wrong"). */
int times_parse(const char *text, int64_t now, int64_t *t, struct buf *err);
/* 1 if TEXT is of the form -3d: a word of a command line that looks like an option but is none. */
int times_isrelative(const char *text);

#endif
