/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_log - what happened, and when: a line for each event, or JSON.
 *
 * A line has four fields separated by tabs: time, kind, item, details. Details are key=value,
 * separated by blanks; a value with a blank in it, or none, stands in quotes, a list of words in
 * brackets. Names and values come from mail clients: what could be taken for an end of a field or line,
 * or would do something to a terminal, is printed as a question mark. JSON has the bytes. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "backup/cyr_backup.h"
#include "backup/lcb_events.h"
#include "backup/lcb_history.h"
#include "lib/output.h"
#include "lib/xerr.h"

/* ---- what is asked for ---- */

/* Positions of --since, --until and --as-of. What was before all history is not asked for. */
static int find_range(struct cyr_backup *cb, struct lcb_events *q)
{
    int64_t time, before;
    int r = lcb_history_begin(cb->backup, &q->from, &time);
    q->to = cb->at;
    if (r)
        return r;
    if (cb->until.given) {
        r = cyr_backup_position(cb, cb->until.time, &before);
        q->to = before < q->to ? before : q->to;
    }
    if (r || !cb->since.given)
        return r ? XERR_NOTFOUND : 0;
    r = lcb_history_at(cb->backup, cb->since.time - 1, &before);
    if (r != XERR_NOTFOUND) {
        q->from = before == LCB_NOW ? LCB_NOW : before + 1;
    } else if (cb->since.time < time) {
        char first[20];
        output_time(time, first);
        cyr_backup_say(cb, "history begins at %s", first);
    }
    return r == XERR_NOTFOUND ? 0 : r;
}

/* A GUID, if there is such a message; else a mailbox. Who asks what became of one may know no other
 * name of it than the one it had. */
static int find_item(struct cyr_backup *cb, const char *item, struct lcb_events *q,
                     struct message_guid *guid)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f;
    int r = cyr_backup_find_told(cb, item, guid);
    if (!r) {
        q->guid = guid;
    } else if (r == XERR_NOTFOUND) {
        r = cyr_backup_find_former(cb, item, &f, &strings);
        if (!r)
            q->folder = f.id;
    }
    buf_free(&strings);
    return r;
}

static int warn(struct cyr_backup *cb, const struct lcb_events *q)
{
    return cyr_backup_warn_lost(cb, cb->since.given ? cb->since.time : 0,
                                q->to == LCB_NOW ? LCB_NOW : lcb_time(cb->backup, q->to), "told");
}

static int ask(struct cyr_backup *cb, int count, char **items,
               int (*fn)(void *rock, const struct lcb_event *), void *rock)
{
    struct lcb_events q = {.from = 0};
    struct message_guid guid;
    int r = find_range(cb, &q);
    if (r == XERR_NOTFOUND) { /* it has been said, or nothing ever happened */
        cb->failed = cb->until.given;
        return 0;
    }
    if (!r)
        r = warn(cb, &q);
    if (!r && count) {
        r = find_item(cb, items[0], &q, &guid);
        if (r == XERR_NOTFOUND) {
            cyr_backup_say(cb, "Item does not exist (%s)", items[0]);
            cb->failed = 1;
            return 0;
        }
    }
    return r ? r : lcb_foreach_event(cb->backup, &q, fn, rock);
}

/* ---- text ---- */

static void print_clean(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        putchar((unsigned char)s[i] < 0x20 || s[i] == 0x7f ? '?' : s[i]);
}

static void print_value(const struct lcb_event_detail *d)
{
    const char *open = "", *close = "";
    if (d->type == LCB_DETAIL_WORDS) {
        open = "(";
        close = ")";
    } else if (!d->len || memchr(d->text, ' ', d->len)) {
        open = close = "\"";
    }
    printf("%s=%s", d->key, open);
    print_clean(d->text, d->len);
    fputs(close, stdout);
}

/* ROCK: with times? */
static int print_line(void *rock, const struct lcb_event *e)
{
    const int times = *(const int *)rock;
    char when[20];
    const char *before = "\t";
    output_time(e->time, when);
    printf("%s%s%s\t", times ? when : "", times ? "\t" : "", e->kind);
    print_clean(e->item, strlen(e->item));
    for (unsigned i = 0; i < e->count; i++) {
        if (e->details[i].type == LCB_DETAIL_WORDS && !e->details[i].len)
            continue;
        fputs(before, stdout);
        print_value(&e->details[i]);
        before = " ";
    }
    putchar('\n');
    return cyr_backup_printed();
}

int cyr_backup_print_events(struct cyr_backup *cb, int count, char **items, cyr_backup_ask_fn *asked,
                            int times)
{
    return asked(cb, count, items, print_line, &times);
}

int cyr_backup_log(struct cyr_backup *cb, int count, char **items)
{
    return cyr_backup_print_events(cb, count, items, ask, 1);
}

/* ---- JSON ---- */

static json_t *words(const char *s, size_t n)
{
    json_t *array = json_array();
    const char *end = s + n;
    while (s < end) {
        const char *blank = memchr(s, ' ', (size_t)(end - s));
        size_t len = (size_t)((blank ? blank : end) - s);
        json_array_append_new(array, output_string(s, len));
        s += len + 1;
    }
    return array;
}

static json_t *event_object(const struct lcb_event *e, int times)
{
    char when[20];
    json_t *j = json_object();
    output_time(e->time, when);
    if (times) {
        json_object_set_new(j, "time", json_string(when));
        json_object_set_new(j, "epoch", json_integer(e->time));
    }
    json_object_set_new(j, "kind", json_string(e->kind));
    output_setbytes(j, "item", e->item, strlen(e->item));
    if (e->uniqueid)
        output_setbytes(j, "uniqueid", e->uniqueid, strlen(e->uniqueid));
    for (unsigned i = 0; i < e->count; i++) {
        const struct lcb_event_detail *d = &e->details[i];
        if (d->type == LCB_DETAIL_NUMBER)
            json_object_set_new(j, d->key, json_integer((json_int_t)d->number));
        else if (d->type == LCB_DETAIL_WORDS)
            json_object_set_new(j, d->key, words(d->text, d->len));
        else
            output_setbytes(j, d->key, d->text, d->len);
    }
    return j;
}

struct objects {
    struct output_writer *to;
    int times;
};

static int print_object(void *rock, const struct lcb_event *e)
{
    const struct objects *o = rock;
    return output_writer_value(o->to, NULL, event_object(e, o->times));
}

int cyr_backup_json_events(struct cyr_backup *cb, int count, char **items, cyr_backup_ask_fn *asked,
                           int times)
{
    struct objects o = {output_writer_begin(stdout), times};
    output_writer_open(o.to, NULL, '[');
    int r = asked(cb, count, items, print_object, &o);
    int e = output_writer_end(&o.to);
    return r ? r : e;
}

int cyr_backup_json_log(struct cyr_backup *cb, int count, char **items)
{
    return cyr_backup_json_events(cb, count, items, ask, 1);
}
