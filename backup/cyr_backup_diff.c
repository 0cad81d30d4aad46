/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_diff - what differs between two moments, in the lines and objects of cyr_backup_log
 * without times. */
#include "config.h"

#include <string.h>

#include "backup/cyr_backup.h"
#include "backup/lcb_diff.h"
#include "lib/xerr.h"

/* The mailboxes that were called ITEM at either moment: how many (0 - 2), or an error. */
static int find(struct cyr_backup *cb, const char *item, int64_t from, int64_t to, int64_t id[2])
{
    const int64_t at[] = {to, from};
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f;
    int n = 0, r = 0;
    for (int i = 0; !r && i < 2; i++) {
        cb->at = at[i];
        r = cyr_backup_find_mailbox(cb, item, &f, &strings);
        if (!r && (!n || id[0] != f.id))
            id[n++] = f.id;
        if (r == XERR_NOTFOUND)
            r = 0;
    }
    buf_free(&strings);
    return r ? r : n;
}

static int of_mailbox(struct cyr_backup *cb, const char *item, int64_t from, int64_t to,
                      int (*fn)(void *rock, const struct lcb_event *), void *rock)
{
    int64_t id[2] = {0, 0};
    int n = find(cb, item, from, to, id), r = n < 0 ? n : 0;
    if (!n) {
        cyr_backup_say(cb, "Item does not exist (mailbox %s)", item);
        cb->failed = 1;
    }
    for (int i = 0; !r && i < n; i++)
        r = lcb_foreach_difference(cb->backup, from, to, id[i], fn, rock);
    return r;
}

/* Of the present state nothing is unknown, of a past one what was lost before it. */
static int warn(struct cyr_backup *cb, int64_t from, int64_t to)
{
    cyr_backup_warn_future(cb, cb->until.time, to);
    if (from == LCB_NOW)
        return 0;
    return cyr_backup_warn_lost(cb, 0, to == LCB_NOW ? cb->since.time : cb->until.time, "told");
}

static int compare(struct cyr_backup *cb, int count, char **items,
                   int (*fn)(void *rock, const struct lcb_event *), void *rock)
{
    int64_t from, to;
    int r = cyr_backup_position(cb, cb->since.time, &from);
    if (!r)
        r = cyr_backup_position(cb, cb->until.time, &to);
    if (r == XERR_NOTFOUND) { /* it has been said */
        cb->failed = 1;
        return 0;
    }
    if (!r)
        r = warn(cb, from, to);
    if (!r && !count)
        r = lcb_foreach_difference(cb->backup, from, to, 0, fn, rock);
    for (int i = 0; !r && i < count; i++)
        r = of_mailbox(cb, items[i], from, to, fn, rock);
    return r;
}

int cyr_backup_diff(struct cyr_backup *cb, int count, char **items)
{
    return cyr_backup_print_events(cb, count, items, compare, 0);
}

int cyr_backup_json_diff(struct cyr_backup *cb, int count, char **items)
{
    return cyr_backup_json_events(cb, count, items, compare, 0);
}
