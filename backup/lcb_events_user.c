/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_events_user - was a user removed?
 *
 * UNUSER ends all that a user had at one position. No other line ends more than one mailbox, or a
 * mailbox and anything else, for good. Only where the last mailbox of somebody who had nothing else
 * ended do the rows not tell whether the mailbox was deleted or the user: then the line is read. That
 * is rare, so it does not matter what it costs; and if the line cannot be read any more, it was the
 * mailbox. */
#include "config.h"

#include <string.h>

#include "backup/lcb_compact_int.h"
#include "backup/lcb_events_int.h"
#include "lib/xerr.h"

static int exists(struct eventwalk *w, const char *sql, int64_t pos)
{
    int64_t one;
    int r = sqldb_int(w->b->index->db, &one, sql, "i", pos);
    return r ? (r == XERR_NOTFOUND ? 0 : r) : 1;
}

/* Did anything but mailboxes end for good at POS? (Seen state that is followed by another ends, too,
 * but not in the line that ends a mailbox.) */
static int others_ended(struct eventwalk *w, int64_t pos)
{
    return exists(w, "SELECT 1 WHERE EXISTS (SELECT 1 FROM subs WHERE until=?1)"
                     " OR EXISTS (SELECT 1 FROM seens WHERE until=?1)"
                     " OR EXISTS (SELECT 1 FROM scripts WHERE until=?1)"
                     " OR EXISTS (SELECT 1 FROM active WHERE until=?1)"
                     " OR EXISTS (SELECT 1 FROM quotas WHERE until=?1)", pos);
}

static int mailboxes_left(struct eventwalk *w, int64_t pos)
{
    int r = exists(w, "SELECT 1 FROM folder_states WHERE until IS NULL AND since<=?1 LIMIT 1", pos);
    return r ? r : exists(w, "SELECT 1 FROM folder_states WHERE until>?1 AND since<=?1 LIMIT 1", pos);
}

static int line_is_unuser(struct eventwalk *w, int64_t pos)
{
    struct buf text = BUF_INITIALIZER;
    struct lcb_oldline line;
    int found = lcb_oldline_at(w->b, pos, &text, &line);
    if (found) {
        const char *verb = memchr(line.text, ' ', line.len);
        static const char unuser[] = " APPLY UNUSER ";
        size_t left = verb ? line.len - (size_t)(verb - line.text) : 0;
        found = left > strlen(unuser) && !memcmp(verb, unuser, strlen(unuser));
    }
    buf_free(&text);
    return found;
}

int event_user_removed(struct eventwalk *w, int64_t pos, int64_t mailboxes)
{
    int r = mailboxes > 1 ? 1 : others_ended(w, pos);
    if (r)
        return r;
    r = mailboxes_left(w, pos);
    return r < 0 ? r : !r && line_is_unuser(w, pos);
}
