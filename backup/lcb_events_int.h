/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the files of lcb_events share: the walk at hand, and the event that is being put together. */
#ifndef BACKUP_LCB_EVENTS_INT_H
#define BACKUP_LCB_EVENTS_INT_H

#include "backup/lcb_events.h"
#include "backup/lcb_int.h"

enum { EVENT_DETAILS = 8 };

struct eventwalk {
    struct lcb *b;
    const struct lcb_events *q;
    int (*fn)(void *rock, const struct lcb_event *);
    void *rock;
    int64_t key;                 /* folder or content that is asked for; 0: all */
    int64_t first_id, end_id;    /* of records in the range */

    struct lcb_event ev;
    struct buf item, uniqueid;
    struct lcb_event_detail details[EVENT_DETAILS];
    struct buf values[EVENT_DETAILS];
    int64_t timed;               /* ev.time is of this position */

    struct dlist_pool *pool, *pool_before;
    struct sync_record rec, before;
    struct {                     /* the state of a mailbox that was looked up last */
        int64_t folder, since, until;
        struct buf name, uniqueid, header;
    } state;
    struct buf header, name;     /* of the state before */
    int64_t removed;             /* the position at which the user was removed last */
};

/* A stream of rows ordered by position. Parameters: 1 from, 2 to, 3 folder or content, 4 and 5 the
 * range of record ids; those that it has. */
struct eventsource {
    const char *sql;
    int pos; /* column of the position */
    int (*row)(struct eventwalk *, sqlite3_stmt *);
    enum { SCOPE_ALL = 1, SCOPE_FOLDER = 2, SCOPE_MESSAGE = 4 } scope; /* queries it takes part in */
};
extern const struct eventsource lcb_event_ends, lcb_event_states, lcb_event_records,
    lcb_event_versions;
enum { EVENT_OTHERS = 6, DIFF_OTHERS = 6 };
/* What is not mail: of a range, and of the difference between two positions (1 and 2). */
extern const struct eventsource lcb_event_others[EVENT_OTHERS], lcb_diff_others[DIFF_OTHERS];

/* ---- putting an event together (lcb_events.c) ---- */

void event_walk_init(struct eventwalk *, struct lcb *, const struct lcb_events *,
                     int (*fn)(void *rock, const struct lcb_event *), void *rock);
void event_walk_fini(struct eventwalk *);
void event_begin(struct eventwalk *, int64_t pos, const char *kind, const char *item,
                 const char *uniqueid);
void event_text(struct eventwalk *, const char *key, const char *s, size_t n);
void event_number(struct eventwalk *, const char *key, uint64_t n);
/* An empty list, to which words are added. */
void event_words(struct eventwalk *, const char *key);
void event_word(struct eventwalk *, const char *s, size_t n);
/* The result is FN's. */
int event_send(struct eventwalk *);

/* Canonical text of a value from the index as a tree in POOL, which is emptied before. */
int event_parse(struct dlist_pool *, const char *text, size_t len, struct dlist **out);
/* The children of LIST (NULL: none) sorted; the caller frees the array. */
struct dlist **event_sorted(const struct dlist *list,
                            int (*compare)(const void *, const void *), size_t *n);

/* ---- lcb_events_folder.c ---- */

/* The state that FOLDER had last at POS, gone or not, to w->state: 0 or XERR_NOTFOUND. */
int event_state(struct eventwalk *, int64_t folder, int64_t pos);
/* An event for each annotation that differs between two lists (NULL: empty). BEGIN begins it. */
int event_annotations(struct eventwalk *, const struct dlist *before, const struct dlist *after,
                      void (*begin)(struct eventwalk *, int64_t pos), int64_t pos);

/* All that differs between header w->header and that of w->state. */
int event_headers(struct eventwalk *, int64_t pos);

/* ---- lcb_events_user.c ---- */

/* Was the user removed at POS, where so many mailboxes ended for good? 1, 0, or an error. */
int event_user_removed(struct eventwalk *, int64_t pos, int64_t mailboxes);

/* ---- lcb_events_mail.c ---- */

/* Begin an event about w->rec in the mailbox of w->state; add its size and flags. */
void event_record(struct eventwalk *, int64_t pos, const char *kind);
int event_flags(struct eventwalk *);
/* All that differs between w->before and w->rec, expunge aside. */
int event_versions(struct eventwalk *, int64_t pos);

#endif
