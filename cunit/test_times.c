/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cunit/unit.h"
#include "lib/times.h"
#include "lib/xerr.h"

#define NOW INT64_C(1795183200) /* 2026-11-20 14:00:00 UTC */

static char *zone_before;

static void zone(const char *tz)
{
    setenv("TZ", tz, 1);
    tzset();
}

static void begin(void)
{
    zone_before = getenv("TZ") ? strdup(getenv("TZ")) : NULL;
}

static void end(void)
{
    if (zone_before)
        setenv("TZ", zone_before, 1);
    else
        unsetenv("TZ");
    tzset();
    free(zone_before);
}

/* Parse, or the error. */
static int64_t parse(const char *text)
{
    struct buf err = BUF_INITIALIZER;
    int64_t t = -1;
    int r = times_parse(text, NOW, &t, &err);
    CU_ASSERT_EQUAL(r != 0, err.len != 0);
    if (r)
        CU_ASSERT_PTR_NOT_NULL(strchr(buf_cstring(&err), '"'));
    buf_free(&err);
    return r ? r : t;
}

struct pair {
    const char *text;
    int64_t t;
};

static void check(const struct pair *p)
{
    for (; p->text; p++) {
        int64_t t = parse(p->text);
        if (t != p->t)
            fprintf(stderr, "%s: got %lld, want %lld\n", p->text, (long long)t, (long long)p->t);
        CU_ASSERT_EQUAL(t, p->t);
    }
}

static void test_utc(void)
{
    static const struct pair pairs[] = {
        {"now", NOW},
        {" now\n", NOW},
        {"2026-11-20 14:00", NOW},
        {"2026-11-20  14:00", NOW},
        {"2026-11-20T14:00", NOW},
        {"2026-11-20t14:00:00z", NOW},
        {"2026-11-20T14:00:00Z", NOW},
        {"2026-11-20 14:00:00 Z", NOW},
        {"2026-11-20T14:00:59.999Z", NOW + 59},
        {"2026-11-20T14:00:59,5", NOW + 59},
        {"2026-11-20T15:00+01", NOW},
        {"2026-11-20T15:00+0100", NOW},
        {"2026-11-20T15:00:00 +01:00", NOW},
        {"2026-11-20T08:30-05:30", NOW},
        {"2026-11-20", NOW - 14 * 3600},
        {"1795183200", NOW},
        {"@1795183200", NOW},
        {"@0", 0},
        {"@7", 7},
        {"1970-01-01", 0},
        {"2024-02-29", 1709164800},
        {"2000-02-29 18:04:56", 951847496},
        {"9999-12-31T23:59:59Z", INT64_C(253402300799)},
        {"2016-12-31T23:59:60Z", 1483228800},
        {"2016-12-31 23:59:60.25", 1483228800},
        {"2017-01-01T00:59:60+01:00", 1483228800},
        {"-0s", NOW},
        {"-3d", NOW - 3 * 86400},
        {"-1d12h", NOW - 36 * 3600},
        {"-90m", NOW - 5400},
        {"-2w", NOW - 14 * 86400},
        {"-1w1d1h1m1s", NOW - 8 * 86400 - 3661},
        {NULL, 0},
    };
    begin();
    zone("UTC0");
    check(pairs);
    end();
}

static void test_wrong(void)
{
    static const struct pair pairs[] = {
        {"", XERR_SYNTAX}, {" ", XERR_SYNTAX}, {"yesterday", XERR_SYNTAX}, {"@", XERR_SYNTAX},
        {"@-1", XERR_SYNTAX}, {"-", XERR_SYNTAX}, {"-3", XERR_SYNTAX}, {"-d", XERR_SYNTAX},
        {"-3x", XERR_SYNTAX}, {"-3d3d", XERR_SYNTAX}, {"-1h1d", XERR_SYNTAX}, {"-1d ", NOW - 86400},
        {"-1d 2h", XERR_SYNTAX}, {"--1d", XERR_SYNTAX}, {"3d", XERR_SYNTAX}, {"+3d", XERR_SYNTAX},
        {"20261120", XERR_SYNTAX}, {"2026", XERR_SYNTAX}, {"2026-11", XERR_SYNTAX},
        {"2026-11-2", XERR_SYNTAX}, {"2026-11-20T", XERR_SYNTAX}, {"2026-11-20 ", NOW - 14 * 3600},
        {"2026-11-20 14", XERR_SYNTAX}, {"2026-11-20 14:0", XERR_SYNTAX},
        {"2026-11-20 14:00:", XERR_SYNTAX}, {"2026-11-20 14:00:0", XERR_SYNTAX},
        {"2026-11-20 14:00:00.", XERR_SYNTAX}, {"2026-11-20x14:00", XERR_SYNTAX},
        {"2026-11-20 14:00 CET", XERR_SYNTAX}, {"2026-11-20 14:00+1", XERR_SYNTAX},
        {"2026-11-20 14:00+01:", XERR_SYNTAX}, {"2026-11-20 14:00+01:000", XERR_SYNTAX},
        {"2026-11-20 14:00Zx", XERR_SYNTAX}, {"2026-11-20Z", XERR_SYNTAX},
        {"2026-11-20 -1:00", XERR_SYNTAX}, {"17951832x0", XERR_SYNTAX},
        {"2026-02-29", XERR_PARAM}, {"2100-02-29", XERR_PARAM}, {"2026-00-10", XERR_PARAM},
        {"2026-13-10", XERR_PARAM}, {"2026-11-00", XERR_PARAM}, {"2026-11-31", XERR_PARAM},
        {"2026-11-20 24:00", XERR_PARAM}, {"2026-11-20 14:60", XERR_PARAM},
        {"2016-12-31T23:59:61Z", XERR_PARAM}, {"2016-12-31T23:59:60+01:00", XERR_PARAM},
        {"9999-12-31T23:59:60Z", XERR_PARAM}, {"1795183200.5", XERR_SYNTAX},
        {"@1795183200 ", NOW}, {"@ 1795183200", XERR_SYNTAX}, {"Now", XERR_SYNTAX},
        {"2026-11-20T14:00:00 UTC", XERR_SYNTAX}, {"2026-W47-5", XERR_SYNTAX},
        {"2026-11-20 14:00:60", XERR_PARAM}, {"2026-11-20 14:00+16", XERR_PARAM},
        {"2026-11-20 14:00+01:60", XERR_PARAM}, {"1969-12-31", XERR_PARAM},
        {"1970-01-01T00:00+01:00", XERR_PARAM}, {"9999-12-31T23:59-01", XERR_PARAM},
        {"253402300800", XERR_PARAM}, {"@99999999999999999999999999", XERR_PARAM},
        {"-99999d", XERR_PARAM}, {"-99999999999999999999999w", XERR_PARAM},
        {"-30000000w9d", XERR_PARAM}, {NULL, 0},
    };
    begin();
    zone("UTC0");
    check(pairs);
    end();
}

/* Zones as rules, so that no database of zones is needed. */
static void test_local(void)
{
    /* Central Europe: 2026-03-29 02:00 -> 03:00 at 01:00 UTC (1774746000), 2026-10-25 03:00 -> 02:00
     * at 01:00 UTC (1792890000). */
    static const struct pair europe[] = {
        {"2026-11-20 15:00", NOW},
        {"2026-11-20", NOW - 15 * 3600},
        {"2026-07-01 02:00", 1782864000},
        {"2026-03-29 01:59:59", 1774746000 - 1},
        {"2026-03-29 02:00", 1774746000},          /* left out: as if it were winter still */
        {"2026-03-29 02:30", 1774746000 + 1800},
        {"2026-03-29 03:00", 1774746000},
        {"2026-03-29 03:30", 1774746000 + 1800},
        {"2026-10-25 01:59:59", 1792890000 - 3601},
        {"2026-10-25 02:00", 1792890000 - 3600},   /* twice: the first one */
        {"2026-10-25 02:30", 1792890000 - 1800},
        {"2026-10-25 02:30+01:00", 1792890000 + 1800},
        {"2026-10-25 02:30+02:00", 1792890000 - 1800},
        {"2026-10-25 03:00", 1792890000 + 3600},
        {NULL, 0},
    };
    /* The south, and half an hour (Lord Howe): 2026-04-05 02:00 -> 01:30 at 15:00 UTC the day before
     * (1775314800), 2026-10-04 02:00 -> 02:30 at 15:30 UTC the day before (1791041400). */
    static const struct pair south[] = {
        {"2026-04-05 01:29:59", 1775314800 - 1801},
        {"2026-04-05 01:30", 1775314800 - 1800},
        {"2026-04-05 01:45", 1775314800 - 900},
        {"2026-04-05 02:00", 1775314800 + 1800},
        {"2026-10-04 01:59", 1791041400 - 60},
        {"2026-10-04 02:15", 1791041400 + 900},
        {"2026-10-04 02:30", 1791041400},
        {NULL, 0},
    };
    /* Far west and far east of Greenwich. */
    static const struct pair west[] = {{"2026-11-20 02:00", NOW}, {"1970-01-01", 43200}, {NULL, 0}};
    static const struct pair east[] = {{"2026-11-21 04:00", NOW}, {"1970-01-01", XERR_PARAM},
                                       {NULL, 0}};
    begin();
    zone("CET-1CEST,M3.5.0/2,M10.5.0/3");
    check(europe);
    zone("LHST-10:30LHDT-11,M10.1.0/2,M4.1.0/2");
    check(south);
    zone("WWW12");
    check(west);
    zone("EEE-14");
    check(east);
    end();
}

/* What is printed is read as the same, all the year. */
static void test_round_trip(void)
{
    begin();
    zone("CET-1CEST,M3.5.0/2,M10.5.0/3");
    for (int64_t t = 1767222000; t < 1767222000 + 366 * 86400; t += 1777) {
        char text[32];
        time_t when = (time_t)t;
        struct tm tm;
        localtime_r(&when, &tm);
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S%z", &tm);
        CU_ASSERT_EQUAL(parse(text), t);
        text[19] = '\0';
        CU_ASSERT_EQUAL(parse(text), t >= 1792890000 && t < 1792890000 + 3600 ? t - 3600 : t);
    }
    end();
}

static void test_relative(void)
{
    CU_ASSERT(times_isrelative("-3d"));
    CU_ASSERT(times_isrelative("-1d12h"));
    CU_ASSERT(!times_isrelative("-d"));
    CU_ASSERT(!times_isrelative("-f"));
    CU_ASSERT(!times_isrelative("-3"));
    CU_ASSERT(!times_isrelative("3d"));
    CU_ASSERT(!times_isrelative("-"));
    CU_ASSERT(!times_isrelative(""));
}

void suite_times(void);
void suite_times(void)
{
    static const struct unit_test tests[] = {
        {"forms", test_utc},
        {"wrong", test_wrong},
        {"local time", test_local},
        {"round trip", test_round_trip},
        {"relative", test_relative},
        {NULL, NULL},
    };
    unit_suite("times", tests);
}
