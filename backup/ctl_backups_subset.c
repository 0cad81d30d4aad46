/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_subset - which backups to verify tonight.
 *
 *     --subset=N/T    the N-th of T parts; a backup is always in the same
 *     --subset=X%     so many of all, rounded up
 *
 * Those that were verified longest ago, or never, come first, so that with X% all have their turn
 * whatever comes and goes. When that was stands in their indexes. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_verify.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

struct subset {
    unsigned long part, parts; /* PARTS 0: percent */
    double percent;
};

struct turn {
    struct ctl_target target;
    int64_t time;
    size_t at;
};

static int parse(const char *text, struct subset *s)
{
    char *end;
    memset(s, 0, sizeof(*s));
    if (*text < '0' || *text > '9')
        return XERR_PARAM;
    s->part = strtoul(text, &end, 10);
    if (*end == '/' && end[1] >= '0' && end[1] <= '9') {
        s->parts = strtoul(end + 1, &end, 10);
        return *end || !s->part || s->part > s->parts ? XERR_PARAM : 0;
    }
    s->percent = strtod(text, &end);
    return strcmp(end, "%") || !(s->percent > 0 && s->percent <= 100) ? XERR_PARAM : 0;
}

int ctl_subset_check(const char *text)
{
    struct subset s;
    return parse(text, &s);
}

static int by_time(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;
    if (x->time != y->time)
        return x->time < y->time ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int in_part(const struct subset *s, const char *name)
{
    return !s->parts || crc32_map(0, name, strlen(name)) % s->parts == s->part - 1;
}

/* How many of N, at least one. */
static size_t share(const struct subset *s, size_t n)
{
    double exact = (double)n * s->percent / 100.0;
    size_t whole = (size_t)exact;
    if (s->parts)
        return n;
    return whole && exact - (double)whole < 1e-9 ? whole : whole + 1;
}

int ctl_subset_choose(const char *text, struct ctl_targets *t)
{
    struct subset s;
    struct turn *turns = xcalloc(t->count + 1, sizeof(*turns));
    enum lcb_verified state;
    size_t n = 0, keep;
    int r = parse(text, &s);
    for (size_t i = 0; !r && i < t->count; i++) {
        if (!in_part(&s, t->list[i].userid ? t->list[i].userid : t->list[i].name))
            continue;
        turns[n] = (struct turn){.target = t->list[i], .at = i};
        lcb_verify_last(t->list[i].path, &turns[n++].time, &state);
    }
    if (!r) {
        qsort(turns, n, sizeof(*turns), by_time);
        keep = share(&s, n);
        for (size_t i = 0; i < n && i < keep; i++)
            t->list[i] = turns[i].target;
        t->count = keep < n ? keep : n;
    }
    free(turns);
    return r;
}
