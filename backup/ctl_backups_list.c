/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_list - which backups there are, and when each was written to last.
 *
 * Text and JSON are those of ctl_backups in Cyrus 3.0 - 3.10; keys that are new come last. Nothing is
 * locked or mended, and no data file is read. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_summary.h"
#include "lib/xmalloc.h"

#define HOUR 3600
#define QUARTER 900
#define QUARTERS 128 /* a day and more */
#define TIME_MINUTE 14 /* where it stands in the text of a time, in all its forms */
#define TIME_SECOND 17
#define TIME_LENGTH 19
#define MANY 16
#define OUTPUT_PIECE (64 << 10)

/* A quarter of an hour, and how a time in it is written. */
struct quarter {
    int64_t number; /* since 1970 */
    int even;       /* only minute and second differ in it, */
    int minute;     /* and it begins with this minute */
    char text[32];
};

/* Lines of text, collected because there may be very many: printf() and small writes would cost as
 * much as finding out what is in them. */
struct list {
    struct ctl *ctl;
    struct ctl_json json;
    struct buf text;
    size_t piece; /* written as soon as it has so many bytes */
    struct quarter quarters[QUARTERS]; /* each in its place: number modulo QUARTERS */
};

static void list_write(struct list *l)
{
    if (l->text.len)
        fwrite(l->text.s, 1, l->text.len, stdout);
    buf_reset(&l->text);
}

static int two_digits(const char *p)
{
    return 10 * (p[0] - '0') + p[1] - '0';
}

static void put_two_digits(char *p, int n)
{
    p[0] = (char)('0' + n / 10);
    p[1] = (char)('0' + n % 10);
}

/* All zones of today are whole quarters off, so in one of them clocks are not changed and hours do not
 * end. But there have been others, and leap seconds: how it ends tells. */
static void learn_quarter(const struct list *l, struct quarter *q, int64_t number)
{
    char end[32];
    q->number = number;
    const char *first = ctl_time(l->ctl->opt, number * QUARTER, q->text);
    const char *last = ctl_time(l->ctl->opt, number * QUARTER + QUARTER - 1, end);
    q->even = first == q->text && last == end && strlen(first) >= TIME_LENGTH &&
              !memcmp(first, last, TIME_MINUTE) && !strcmp(first + TIME_LENGTH, last + TIME_LENGTH) &&
              two_digits(last + TIME_MINUTE) == two_digits(first + TIME_MINUTE) + QUARTER / 60 - 1 &&
              !two_digits(first + TIME_SECOND) && two_digits(last + TIME_SECOND) == 59;
    q->minute = q->even ? two_digits(first + TIME_MINUTE) : 0;
}

/* As ctl_time(). To find the local time takes longer than all else that is done for a line. */
static const char *list_time(struct list *l, int64_t time, char text[32])
{
    int64_t number = time / QUARTER;
    struct quarter *q = &l->quarters[(uint64_t)number % QUARTERS];
    if (time <= 0)
        return ctl_time(l->ctl->opt, time, text);
    if (q->number != number)
        learn_quarter(l, q, number);
    if (!q->even)
        return ctl_time(l->ctl->opt, time, text);
    int seconds = (int)(time - number * QUARTER);
    put_two_digits(q->text + TIME_MINUTE, q->minute + seconds / 60);
    put_two_digits(q->text + TIME_SECOND, seconds % 60);
    return q->text;
}

static void list_text(struct list *l, const struct ctl_target *t, const struct lcb_summary *s)
{
    char text[32];
    buf_appendcstr(&l->text, list_time(l, s->end, text));
    buf_putc(&l->text, '\t');
    buf_appendu64(&l->text, s->size);
    buf_putc(&l->text, '\t');
    buf_appendcstr(&l->text, t->shown ? t->shown : "[unknown]");
    buf_putc(&l->text, '\t');
    buf_appendcstr(&l->text, t->path);
    buf_putc(&l->text, '\n');
    if (l->text.len >= l->piece)
        list_write(l);
}

static json_t *list_object(struct ctl *ctl, const struct ctl_target *t, const struct lcb_summary *s)
{
    json_t *j = json_object();
    char text[32];
    json_object_set_new(j, "timestamp", json_string(ctl_time(ctl->opt, s->end, text)));
    json_object_set_new(j, "compressed", json_integer((json_int_t)s->size));
    if (t->shown)
        json_object_set_new(j, "userid", ctl_json_cstring(t->shown));
    json_object_set_new(j, "fname", ctl_json_cstring(t->path));
    ctl_json_time(j, "timestamp", s->end);
    return j;
}


static int is_stale(const struct ctl *ctl, const struct lcb_summary *s, int64_t now)
{
    return !s->chunks || s->end <= now - (int64_t)ctl->opt->stale * HOUR;
}

static void show(struct list *l, const struct ctl_target *t, const struct lcb_summary *s)
{
    if (l->ctl->opt->json)
        ctl_json_item(&l->json, list_object(l->ctl, t, s));
    else
        list_text(l, t, s);
}

/* What was read in another run is looked up if there are many, and kept for the next time if these
 * are all backups. */
static int list_targets(struct list *l, struct ctl_targets *targets)
{
    struct ctl *ctl = l->ctl;
    struct lcb_summaries *summaries;
    int64_t now = time(NULL);
    int shown = 0;
    char *cache = xasprintf("%s.list", config_getstring(ctl->config, IMAPOPT_BACKUP_DB_PATH));
    lcb_summaries_open(ctl->store, targets->count < MANY ? NULL : cache, &summaries);
    for (size_t i = 0; i < targets->count && !targets->stopped; i++) {
        struct ctl_target *t = &targets->list[i];
        struct lcb_summary s;
        int r = lcb_summaries_get(summaries, t->path, &s);
        while (r && ctl_target_moved(ctl, targets, t))
            r = lcb_summaries_get(summaries, t->path, &s);
        if (r) {
            list_write(l);
            ctl_target_failed(ctl, targets, t, r);
        } else if (!ctl->opt->stale || is_stale(ctl, &s, now)) {
            show(l, t, &s);
            shown++;
        }
    }
    if (ctl->opt->mode == 'A' && !targets->stopped)
        lcb_summaries_save(summaries);
    lcb_summaries_close(&summaries);
    free(cache);
    list_write(l);
    return shown;
}

int ctl_list(struct ctl *ctl)
{
    struct ctl_targets targets;
    struct list l = {.ctl = ctl, .text = BUF_INITIALIZER};
    if (ctl->opt->deleted)
        return ctl_list_deleted(ctl);
    if (ctl_targets_open(ctl, &targets))
        return EX_TEMPFAIL;
    l.piece = isatty(STDOUT_FILENO) ? 1 : OUTPUT_PIECE;
    if (ctl->opt->json)
        ctl_json_begin(&l.json, ctl->opt);
    int shown = list_targets(&l, &targets);
    if (ctl->opt->json)
        ctl_json_end(&l.json);
    buf_free(&l.text);
    int code = ctl_targets_close(ctl, &targets);
    return ctl->opt->fail_if_any && ctl->opt->stale && shown ? EX_TEMPFAIL : code;
}
