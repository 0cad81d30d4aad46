/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* sync_mailbox_read - the value of MAILBOX as a stream. */
#include "config.h"

#include <string.h>

#include "imap/sync_mailbox_read.h"
#include "lib/xerr.h"

static int adopt(struct dlist_pool *pool, struct dlist *tree, const struct buf *key,
                 struct dlist *value)
{
    char *name = dlist_pool_alloc(pool, key->len + 1);
    if (!name)
        return XERR_TOOBIG;
    memcpy(name, key->s, key->len);
    name[key->len] = '\0';
    value->name = name;
    value->next = NULL;
    dlist_append(tree, value);
    return 0;
}

int sync_mailbox_read_header(struct dlist_reader *r, struct dlist_pool *pool, struct sync_header *h,
                             int *records)
{
    struct buf key = BUF_INITIALIZER;
    struct dlist *tree, *value;
    int more = 0, e;
    *records = 0;
    dlist_pool_reset(pool);
    tree = dlist_newkvlist(pool, NULL);
    e = tree ? dlist_reader_enter(r, 1) : XERR_TOOBIG;
    while (!e && (more = dlist_reader_more(r)) > 0) {
        e = dlist_reader_key(r, &key);
        if (!e && key.len == 6 && !memcmp(key.s, "RECORD", 6)) {
            *records = 1;
            break;
        }
        if (!e)
            e = dlist_reader_value(r, &value);
        if (!e)
            e = value->type == DL_FILE ? XERR_PARAM : adopt(pool, tree, &key, value);
    }
    buf_free(&key);
    if (!e && more < 0)
        e = more;
    if (!e)
        e = sync_header_parse(h, tree);
    if (!e && *records)
        e = dlist_reader_enter(r, 0);
    return e;
}

int sync_mailbox_read_record(struct dlist_reader *r, struct sync_record *rec, size_t max)
{
    int more = dlist_reader_more(r);
    if (more <= 0)
        return more;
    int e = sync_record_read(rec, r, max);
    return e ? e : 1;
}

static int read_late(struct dlist_reader *r, struct dlist_pool *pool, struct sync_header *h,
                     struct buf *key, int *late)
{
    struct dlist *value;
    int known = dlist_getchild(h->tree, buf_cstring(key)) || !strcmp(buf_cstring(key), "RECORD");
    if (!pool || known)
        return dlist_reader_skip(r);
    int e = dlist_reader_value(r, &value);
    if (e)
        return e;
    if (value->type == DL_FILE)
        return XERR_PARAM;
    *late = 1;
    return adopt(pool, h->tree, key, value);
}

int sync_mailbox_read_end(struct dlist_reader *r, struct dlist_pool *pool, struct sync_header *h,
                          int *late)
{
    struct buf key = BUF_INITIALIZER;
    int more, e = 0, had_since = h->has_since;
    if (late)
        *late = 0;
    while ((more = dlist_reader_more(r)) > 0) {
        e = dlist_reader_key(r, &key);
        if (!e)
            e = read_late(r, pool, h, &key, late);
        if (e)
            break;
    }
    buf_free(&key);
    if (!e && more < 0)
        e = more;
    if (!e && late && *late)
        e = sync_header_parse(h, h->tree);
    return !e && h->has_since != had_since ? XERR_PARAM : e;
}
