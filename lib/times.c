/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* times - from what people write to seconds since 1970.
 *
 * Local time. mktime() leaves open what it does with hours that come twice or never, so it is not
 * used. The date is first taken as if it were UTC; the offset of the zone is then looked up a day
 * before and a day after, where no change of the clocks is near any more, and each of the two is
 * tried. The earlier result that reads as what was written is it; if none does, the hour is left
 * out by a change, and the offset from before it counts. */
#include "config.h"

#include <ctype.h>
#include <string.h>
#include <time.h>

#include "lib/times.h"
#include "lib/xerr.h"

#define TIME_MAX INT64_C(253402300799) /* 9999-12-31 23:59:59 UTC */
#define DAY 86400

/* N digits at *P, and step over them: the number, or -1. */
static int digits(const char **p, int n)
{
    int value = 0;
    for (int i = 0; i < n; i++) {
        if (!isdigit((unsigned char)(*p)[i]))
            return -1;
        value = 10 * value + (*p)[i] - '0';
    }
    *p += n;
    return value;
}

static int step_over(const char **p, char c)
{
    if (**p != c)
        return 0;
    ++*p;
    return 1;
}

static int is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}

/* ---- zones ---- */

/* Local time minus UTC at T. */
static int64_t offset_at(int64_t t)
{
    time_t when = (time_t)t;
    struct tm tm;
    return localtime_r(&when, &tm) ? tm.tm_gmtoff : 0;
}

/* SECONDS: the local time as if it were UTC. */
static int64_t from_local(int64_t seconds)
{
    int64_t before = offset_at(seconds - DAY), after = offset_at(seconds + DAY);
    int64_t first = before > after ? before : after, second = before > after ? after : before;
    if (offset_at(seconds - first) == first)
        return seconds - first;
    if (offset_at(seconds - second) == second)
        return seconds - second;
    return seconds - before;
}

/* A zone and the end of the text at P: 1 with its offset, 0 if there is no zone, or XERR_*. */
static int parse_zone(const char *p, int64_t *offset)
{
    int sign, hours, minutes = 0;
    *offset = 0;
    if (!*p)
        return 0;
    step_over(&p, ' ');
    if (step_over(&p, 'Z') || step_over(&p, 'z'))
        return *p ? XERR_SYNTAX : 1;
    sign = *p == '-' ? -1 : 1;
    if (*p != '+' && *p != '-')
        return XERR_SYNTAX;
    p++;
    if ((hours = digits(&p, 2)) < 0)
        return XERR_SYNTAX;
    if (*p && (step_over(&p, ':'), (minutes = digits(&p, 2)) < 0))
        return XERR_SYNTAX;
    if (*p)
        return XERR_SYNTAX;
    if (hours > 15 || minutes > 59)
        return XERR_PARAM;
    *offset = sign * (hours * 3600 + minutes * 60);
    return 1;
}

/* ---- forms ---- */

struct date {
    int year, month, day, hour, minute, second;
};

/* "HH:MM[:SS[.fraction]]" at *P. */
static int parse_clock(const char **p, struct date *d)
{
    if ((d->hour = digits(p, 2)) < 0 || !step_over(p, ':') || (d->minute = digits(p, 2)) < 0)
        return XERR_SYNTAX;
    if (!step_over(p, ':'))
        return 0;
    if ((d->second = digits(p, 2)) < 0)
        return XERR_SYNTAX;
    if (!step_over(p, '.') && !step_over(p, ','))
        return 0;
    if (!isdigit((unsigned char)**p))
        return XERR_SYNTAX;
    while (isdigit((unsigned char)**p))
        ++*p;
    return 0;
}

static int parse_date(const char *p, int64_t *t)
{
    struct date d = {0};
    int64_t offset = 0;
    int zone = 0, r;
    if ((d.year = digits(&p, 4)) < 0 || !step_over(&p, '-') || (d.month = digits(&p, 2)) < 0 ||
        !step_over(&p, '-') || (d.day = digits(&p, 2)) < 0)
        return XERR_SYNTAX;
    if (*p) {
        if (!step_over(&p, 'T') && !step_over(&p, 't')) {
            if (*p != ' ')
                return XERR_SYNTAX;
            p += strspn(p, " ");
        }
        r = parse_clock(&p, &d);
        if (r || (zone = parse_zone(p, &offset)) < 0)
            return r ? r : zone;
    }
    if (d.month < 1 || d.month > 12 || d.day < 1 || d.day > days_in(d.year, d.month) ||
        d.hour > 23 || d.minute > 59 || d.second > 60)
        return XERR_PARAM;
    struct tm tm = {.tm_year = d.year - 1900, .tm_mon = d.month - 1, .tm_mday = d.day,
                    .tm_hour = d.hour, .tm_min = d.minute, .tm_sec = d.second};
    int64_t seconds = timegm(&tm);
    *t = zone ? seconds - offset : from_local(seconds);
    /* Leap seconds are at the end of a day of UTC, and have the number of the second after. */
    return d.second == 60 && *t % DAY ? XERR_PARAM : 0;
}

/* Digits to the end of the text. */
static int parse_epoch(const char *p, int64_t *t)
{
    int64_t value = 0;
    if (!*p)
        return XERR_SYNTAX;
    for (; *p; p++) {
        if (!isdigit((unsigned char)*p))
            return XERR_SYNTAX;
        if (value <= TIME_MAX)
            value = 10 * value + (*p - '0');
    }
    *t = value;
    return 0;
}

/* "1d12h": units from large to small, each once. */
static int parse_span(const char *p, int64_t *span)
{
    static const char units[] = "wdhms";
    static const int64_t lengths[] = {7 * DAY, DAY, 3600, 60, 1};
    int unit = -1;
    *span = 0;
    do {
        int64_t n = 0;
        if (!isdigit((unsigned char)*p))
            return XERR_SYNTAX;
        for (; isdigit((unsigned char)*p); p++)
            if (n <= TIME_MAX)
                n = 10 * n + (*p - '0');
        const char *u = *p ? strchr(units, *p) : NULL;
        if (!u || u - units <= unit)
            return XERR_SYNTAX;
        unit = (int)(u - units);
        *span = n > TIME_MAX / lengths[unit] ? TIME_MAX + 1 : *span + n * lengths[unit];
        if (*span > TIME_MAX)
            return XERR_PARAM;
        p++;
    } while (*p);
    return 0;
}

static int parse_form(const char *s, int64_t now, int64_t *t)
{
    int64_t span;
    int r;
    if (!strcmp(s, "now")) {
        *t = now;
        return 0;
    }
    if (*s == '-') {
        r = parse_span(s + 1, &span);
        *t = r ? 0 : now - span;
        return r;
    }
    if (*s == '@')
        return parse_epoch(s + 1, t);
    /* Eight digits may be meant to be a date. */
    if (strspn(s, "0123456789") == strlen(s))
        return strlen(s) < 9 ? XERR_SYNTAX : parse_epoch(s, t);
    return parse_date(s, t);
}

int times_parse(const char *text, int64_t now, int64_t *t, struct buf *err)
{
    struct buf word = BUF_INITIALIZER;
    int r;
    while (isspace((unsigned char)*text))
        text++;
    size_t n = strlen(text);
    while (n && isspace((unsigned char)text[n - 1]))
        n--;
    buf_setmap(&word, text, n);
    r = parse_form(buf_cstring(&word), now, t);
    if (!r && (*t < 0 || *t > TIME_MAX))
        r = XERR_PARAM;
    if (r == XERR_SYNTAX)
        buf_printf(err, "\"%s\" is not understood as a time: write 2026-11-20,"
                        " \"2026-11-20 14:00\", 2026-11-20T14:00:00Z, -3d, -1d12h, @SECONDS or now",
                   buf_cstring(&word));
    else if (r)
        buf_printf(err, "\"%s\": there is no such time, or it is out of range", buf_cstring(&word));
    buf_free(&word);
    return r;
}

int times_isrelative(const char *text)
{
    int64_t span;
    return *text == '-' && parse_span(text + 1, &span) != XERR_SYNTAX;
}
