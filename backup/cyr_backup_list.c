/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_list - tables of what is there.
 *
 * The layout is that of cyr_backup in Cyrus 3.0 - 3.10, to the byte, because scripts read it: in
 * the table of chunks tabs between columns of a fixed width, in that of mailboxes two blanks after
 * columns that are as wide as what is in them. */
#include "config.h"

#include <stdio.h>

#include "backup/cyr_backup.h"
#include "lib/output.h"
#include "lib/xerr.h"

#define POOL_LIMIT (64u << 20)

/* ---- chunks ---- */

static void chunk_header(void)
{
    printf("     id offset\tlength\tratio%%\tstart time           end time\n");
}

static void chunk_row(const struct lcb_chunk *c)
{
    char start[20], end[20];
    double ratio = c->text_length ? 100.0 * (double)c->length / (double)c->text_length : 0.0;
    output_time(c->first_time, start);
    output_time(c->last_time, end);
    printf("%7lld %llu\t%llu\t%6.1f\t%19s  %19s\n", (long long)c->seq,
           (unsigned long long)c->offset, (unsigned long long)c->text_length, ratio, start, end);
}

static int list_chunk(void *rock, const struct lcb_chunk *c)
{
    (void)rock;
    chunk_row(c);
    return cyr_backup_printed();
}

int cyr_backup_list_chunks(struct cyr_backup *cb, int count, char **items)
{
    (void)count, (void)items;
    chunk_header();
    return lcb_foreach_chunk(cb->backup, list_chunk, NULL);
}

struct wanted {
    int count;
    char **items;
};

static int show_chunk(void *rock, const struct lcb_chunk *c)
{
    struct wanted *wanted = rock;
    for (int i = 0; i < wanted->count; i++) {
        if (cyr_backup_chunk_number(wanted->items[i]) == c->seq) {
            chunk_row(c);
            break;
        }
    }
    return cyr_backup_printed();
}

int cyr_backup_show_chunks(struct cyr_backup *cb, int count, char **items)
{
    struct wanted wanted = {count, items};
    chunk_header();
    return lcb_foreach_chunk(cb->backup, show_chunk, &wanted);
}

/* ---- mailboxes ---- */

static int list_mailbox(void *rock, const struct lcb_folder *f)
{
    char when[20];
    output_time(cyr_backup_appended(f, rock), when);
    printf("%s  %s  %s\n", f->uniqueid, when, f->mboxname);
    return cyr_backup_printed();
}

int cyr_backup_list_mailboxes(struct cyr_backup *cb, int count, char **items)
{
    (void)count, (void)items;
    struct dlist_pool *pool = dlist_pool_new(POOL_LIMIT);
    printf("%-36s  %-19s  mboxname\n", "uniqueid", "last append date");
    int r = lcb_foreach_folder(cb->backup, cb->at, 1, list_mailbox, pool);
    dlist_pool_free(&pool);
    return r;
}

/* ---- messages ---- */

static int list_message(void *rock, const struct message_guid *guid, uint64_t size)
{
    char hex[41];
    (void)rock, (void)size;
    message_guid_encode(guid, hex);
    puts(hex);
    return cyr_backup_printed();
}

int cyr_backup_list_messages(struct cyr_backup *cb, int count, char **items)
{
    (void)count, (void)items;
    return lcb_foreach_content(cb->backup, cb->at, list_message, NULL);
}

/* ---- all ---- */

/* Chunks are pieces of the file as it is now, so a state of the past has none.
 *
 * Titles go to stderr, so they must not overtake the tables where both end in one place. */
static void title(const char *before, const char *what)
{
    fflush(stdout);
    fprintf(stderr, "%slisting %s:\n", before, what);
}

int cyr_backup_list_all(struct cyr_backup *cb, int count, char **items)
{
    int past = cb->at != LCB_NOW, r = 0;
    if (!past) {
        title("", "chunks");
        r = cyr_backup_list_chunks(cb, count, items);
    }
    if (!r) {
        title(past ? "" : "\n", "mailboxes");
        r = cyr_backup_list_mailboxes(cb, count, items);
    }
    if (!r) {
        title("\n", "messages");
        r = cyr_backup_list_messages(cb, count, items);
    }
    return r;
}
