/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the files of cyr_backup share. A command is a function that gets the open backup and the
 * words that name items; results go to stdout, everything else to stderr. */
#ifndef BACKUP_CYR_BACKUP_H
#define BACKUP_CYR_BACKUP_H

#include "backup/lcb.h"
#include "backup/lcb_events.h"
#include "lib/buf.h"
#include "lib/output.h"

struct cyr_backup_point {
    int given;
    int64_t time;
};

struct cyr_backup {
    struct lcb_store *store;
    struct lcb *backup;
    const char *name; /* as the user typed it, for messages */
    int verbose;
    int64_t at; /* the state that is asked for: a position, or LCB_NOW */
    struct cyr_backup_point since, until; /* for log; for diff always given */
    int failed; /* an item could not be read; the reason has been printed */
};

/* All return 0, or what made them give up (printed by the caller). An item that cannot be read does
 * not keep the others from being printed: it sets failed. */
typedef int cyr_backup_fn(struct cyr_backup *, int count, char **items);
/* cyr_backup_list.c */
cyr_backup_fn cyr_backup_list_chunks, cyr_backup_list_mailboxes, cyr_backup_list_messages,
    cyr_backup_list_all, cyr_backup_show_chunks;
/* cyr_backup_show.c */
cyr_backup_fn cyr_backup_show_mailboxes, cyr_backup_show_messages;
/* cyr_backup_dump.c */
cyr_backup_fn cyr_backup_dump_chunk, cyr_backup_dump_message, cyr_backup_dump_mailbox;
/* cyr_backup_json.c */
cyr_backup_fn cyr_backup_json_chunks, cyr_backup_json_mailboxes, cyr_backup_json_messages;
/* cyr_backup_headers.c */
cyr_backup_fn cyr_backup_json_headers;
/* cyr_backup_all.c */
cyr_backup_fn cyr_backup_json_all;
/* cyr_backup_log.c */
cyr_backup_fn cyr_backup_log, cyr_backup_json_log;
/* What ASK tells of, as lines or as an array of objects, with times or without. */
typedef int cyr_backup_ask_fn(struct cyr_backup *, int count, char **items,
                              int (*fn)(void *rock, const struct lcb_event *), void *rock);
int cyr_backup_print_events(struct cyr_backup *, int count, char **items, cyr_backup_ask_fn *ask,
                            int times);
int cyr_backup_json_events(struct cyr_backup *, int count, char **items, cyr_backup_ask_fn *ask,
                           int times);
/* cyr_backup_diff.c */
cyr_backup_fn cyr_backup_diff, cyr_backup_json_diff;

/* ---- cyr_backup_item.c ---- */

/* "NAME: text" to stderr. */
void cyr_backup_say(const struct cyr_backup *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Say that ITEM cannot be read, and why; the exit status will be 75. */
void cyr_backup_bad_item(struct cyr_backup *, const char *item, int r);
/* With -v: say that ITEM is not there and therefore not in the result. */
void cyr_backup_left_out(const struct cyr_backup *, const char *item);
/* The result of the last thing printed: 0 or -errno. */
int cyr_backup_printed(void);
/* A mailbox by internal name or UNIQUEID. One that is there goes before those that are gone, a
 * later one of these before an earlier; an administrator's name is understood if no mailbox is
 * called so. XERR_NOTFOUND. */
int cyr_backup_find_mailbox(struct cyr_backup *, const char *item, struct lcb_folder *,
                            struct buf *strings);
/* The same; and if no mailbox is called so, the one that last was, whatever became of it. */
int cyr_backup_find_former(struct cyr_backup *, const char *item, struct lcb_folder *,
                           struct buf *strings);
/* The GUID of a message whose content is here: 0, XERR_NOTFOUND or another error. */
int cyr_backup_find_message(struct cyr_backup *, const char *item, struct message_guid *);
/* The same for one that only is told of: a mailbox had it, but its content is not kept, as it was
 * expunged within the second in which it came, say. */
int cyr_backup_find_told(struct cyr_backup *, const char *item, struct message_guid *);
/* The bytes of a message up to the first empty line, which is left out, to FN in
 * pieces. */
int cyr_backup_read_header(struct cyr_backup *, const struct message_guid *,
                           int (*fn)(void *rock, const void *p, size_t n), void *rock);
/* Number of a chunk; -1 for what is none. */
int64_t cyr_backup_chunk_number(const char *item);
/* Time of the last append, from the header of a mailbox. */
int64_t cyr_backup_appended(const struct lcb_folder *, struct dlist_pool *);

/* ---- cyr_backup_time.c ---- */

/* The position of TIME, for queries, to *AT. If it is before all history, or there is none, say so:
 * XERR_NOTFOUND. */
int cyr_backup_position(struct cyr_backup *, int64_t time, int64_t *at);
/* Say so if the moment ASKED, of which the position is AT, is yet to come. */
void cyr_backup_warn_future(const struct cyr_backup *, int64_t asked, int64_t at);
/* Say so if something of the time FROM .. TO was lost through damage, so that WHAT ("shown", "told")
 * may be incomplete. 0, or an error of the index. */
int cyr_backup_warn_lost(const struct cyr_backup *, int64_t from, int64_t to, const char *what);

#endif
