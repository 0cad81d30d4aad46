/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_headers - the header fields of messages as JSON: an object for each message, an array
 * of values for each name, in the order in which they stand in the message. Names are as written
 * there, so "Subject" and "SUBJECT" are two. A value that is not UTF-8 has no place in JSON and is
 * left out; its name stays. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "backup/cyr_backup.h"
#include "imap/message_header.h"
#include "lib/output.h"
#include "lib/xerr.h"

/* More than any mail system lets through. */
#define HEADER_MAX (4u << 20)

static int collect(void *rock, const void *p, size_t n)
{
    struct buf *text = rock;
    if (n > HEADER_MAX - text->len)
        return XERR_TOOBIG;
    buf_appendmap(text, p, n);
    return 0;
}

static void add_field(json_t *fields, struct message_header *h)
{
    json_t *value = json_stringn(h->value.s ? h->value.s : "", h->value.len);
    const char *name = buf_cstring(&h->name);
    json_t *values = json_incref(json_object_get(fields, name));
    if (!values) {
        values = json_array();
        json_object_set(fields, name, values); /* fails if NAME is not UTF-8 */
    }
    if (value)
        json_array_append_new(values, value);
    json_decref(values);
}

static json_t *parse(const struct buf *text)
{
    struct message_header h = {.name = BUF_INITIALIZER};
    json_t *fields = json_object();
    const char *p = text->s ? text->s : "";
    const char *end = p + message_header_length(p, text->len);
    while (message_header_next(&h, &p, end))
        add_field(fields, &h);
    message_header_fini(&h);
    return fields;
}

static int print_headers(struct cyr_backup *cb, struct output_writer *w, const char *item)
{
    struct message_guid guid;
    struct buf text = BUF_INITIALIZER;
    char hex[41];
    int r = cyr_backup_find_message(cb, item, &guid);
    if (r == XERR_NOTFOUND) {
        cyr_backup_left_out(cb, item);
        return 0;
    }
    if (r)
        return r;
    message_guid_encode(&guid, hex);
    r = cyr_backup_read_header(cb, &guid, collect, &text);
    if (!r) {
        r = output_writer_value(w, hex, parse(&text));
    } else {
        cyr_backup_bad_item(cb, item, r);
        r = 0;
    }
    buf_free(&text);
    return r;
}

/* A key must not come twice. */
static int is_repeated(char **items, int i)
{
    int k = 0;
    while (strcasecmp(items[k], items[i]))
        k++;
    return k < i;
}

int cyr_backup_json_headers(struct cyr_backup *cb, int count, char **items)
{
    struct output_writer *w = output_writer_begin(stdout);
    output_writer_open(w, NULL, '{');
    int r = 0;
    for (int i = 0; !r && i < count; i++)
        r = is_repeated(items, i) ? 0 : print_headers(cb, w, items[i]);
    int e = output_writer_end(&w);
    return r ? r : e;
}
