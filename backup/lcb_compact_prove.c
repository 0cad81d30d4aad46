/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compact_prove - the new backup must say what the old one says, before it takes its place.
 *
 * The index of the new file was made from the new file alone, so:
 *
 *   - every row of the old index that counts in the window is in the new one, at the place to which its
 *     line went, and no other is (lcb_compare.c);
 *   - every message that stays is there with its size, and no other;
 *   - each of these, read from the new file, is what its GUID says: replaying it checked that.
 *
 * That rests on the old index, and so does the base, which nothing else contradicts: a wrong letter
 * in a row of before the window would be restated, agree with the row, and be the truth from then on,
 * as the line that says otherwise goes. SQLite notices a page that is wrong in itself, not a letter.
 * So before a line is written, the old index is held against the old file, as verification does it
 * (lcb_verify.c). What that finds lost in the data does not matter here: the rows that tell of it are
 * all that is known, and what has to stay and cannot be read is noticed when it is read. */
#include "config.h"

#include <string.h>

#include "backup/lcb_compact_int.h"
#include "backup/lcb_verify.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

/* ---- the old index ---- */

struct check {
    const struct lcb_compact *how;
    const char *path;
    int told; /* of many findings the first will do */
};

static void found(void *rock, const struct lcb_finding *f)
{
    struct check *check = rock;
    if (f->kind != LCB_FOUND_INDEX || check->told++)
        return;
    xlog_warnx("%s: the index is not what the data file says: %s: it is made anew before the backup is"
               " compacted", check->path, f->what);
}

/* The other half is the writing. */
static int tell_progress(void *rock, const struct lcb_chunk *c)
{
    const struct lcb_compact *how = ((struct check *)rock)->how;
    if (how->progress)
        how->progress(how->rock, (c->offset + c->length) / 2);
    return 0;
}

int lcb_compact_prove_index(struct lcb_switch *s, const struct lcb_compact *how)
{
    struct check check = {.how = how, .path = s->old->path};
    struct lcb_verify v = {.found = found, .chunk = tell_progress, .rock = &check, .maintained = 1};
    int r = lcb_verify(s->store, s->old->path, &v);
    return r ? r : v.index ? XERR_INTERNAL : 0;
}

/* ---- the new one ---- */

static int differs(void *rock, const char *what)
{
    struct lcb_switch *s = rock;
    xlog_errorx("%s: compaction would have changed what it says: %s: given up", s->old->path, what);
    return 1;
}

static int same_rows(struct lcb_plan *p, struct lcb_switch *s, const struct lcb_writer *w)
{
    struct lcb_compare c = {
        .old = s->old->index,
        .new_ = s->made->index,
        .from = p->from,
        .to = p->to,
        .map = w->map,
        .differs = differs,
        .rock = s,
    };
    int r = lcb_compare(&c);
    return r > 0 ? XERR_INTERNAL : r;
}

/* Both lists, in the order of GUIDs. */
static int same_messages(struct lcb_switch *s)
{
    struct sqldb *old = s->old->index->db, *made = s->made->index->db;
    sqlite3_stmt *a = sqldb_stmt(old, "SELECT guid, size FROM temp.live ORDER BY guid");
    sqlite3_stmt *b = sqldb_stmt(made, "SELECT guid, size FROM contents WHERE chunk IS NOT NULL"
                                       " ORDER BY guid");
    int more = 1, r = a && b ? 0 : XERR_SQL;
    while (!r && more) {
        more = sqldb_step(old, a);
        int other = sqldb_step(made, b);
        if (more < 0 || other < 0)
            r = XERR_SQL;
        else if (more != other)
            r = XERR_INTERNAL;
        else if (more && (sqlite3_column_bytes(a, 0) != MESSAGE_GUID_LEN ||
                          sqlite3_column_bytes(b, 0) != MESSAGE_GUID_LEN ||
                          memcmp(sqlite3_column_blob(a, 0), sqlite3_column_blob(b, 0),
                                 MESSAGE_GUID_LEN) ||
                          sqlite3_column_int64(a, 1) != sqlite3_column_int64(b, 1)))
            r = XERR_INTERNAL;
    }
    if (a)
        sqlite3_reset(a);
    if (b)
        sqlite3_reset(b);
    if (r == XERR_INTERNAL)
        xlog_errorx("%s: compaction would have lost messages: given up", s->old->path);
    return r;
}

int lcb_compact_prove(struct lcb_plan *p, struct lcb_switch *s, const struct lcb_writer *w)
{
    /* The old index is written to meanwhile. */
    int r = sqldb_exec(s->old->index->db, "BEGIN");
    if (!r) {
        r = same_rows(p, s, w);
        int end = sqldb_exec(s->old->index->db, "COMMIT");
        r = r ? r : end;
    }
    return r ? r : same_messages(s);
}
