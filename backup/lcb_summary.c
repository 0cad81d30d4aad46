/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_summary - what can be said of a backup without opening it.
 *
 * An index tells all that a list of backups shows. It is opened only to be read: no WAL mode is
 * switched on, nothing is folded in or set aside, and whether it is behind the data file is left to
 * the next who opens the backup; what it says is true of the commit it speaks of. */
#include "config.h"

#include <string.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "backup/lcb_summary.h"
#include "lib/xerr.h"

static int newest_chunk(struct lcb_index *ix, struct lcb_summary *s)
{
    sqlite3_stmt *st = sqldb_stmt(ix->db, "SELECT first_time, last_time FROM chunks"
                                          " ORDER BY seq DESC LIMIT 1");
    int r = st ? sqldb_step(ix->db, st) : XERR_SQL;
    if (r != 1)
        return r;
    s->chunks = 1;
    s->start = sqlite3_column_int64(st, 0);
    s->end = sqlite3_column_int64(st, 1);
    sqlite3_reset(st);
    return 0;
}

/* How far does the index speak? Beyond the end of the file only if a commit came in between. */
static int check_complete(struct lcb_index *ix, struct vfs *vfs, const char *path,
                          struct lcb_summary *s)
{
    struct lcb_mark_point p;
    struct stat st;
    int r = lcb_index_getpoint(ix, &p);
    if (!r && (uint64_t)p.end > s->size) {
        r = vfs_stat(vfs, path, &st);
        s->size = r ? 0 : (uint64_t)st.st_size;
    }
    s->complete = !r && (uint64_t)p.end == s->size;
    return !r && (uint64_t)p.end > s->size ? XERR_EOF : r;
}

static int details_of(struct lcb *b, struct lcb_summary *s)
{
    struct lcb_compact_account a = {.text = 0};
    int r = sqldb_exec(b->index->db, "COMMIT"); /* an estimate has a transaction of its own */
    if (!r)
        r = lcb_compact_estimate(b, 0, &a);
    if (!r) {
        s->text_length = a.text;
        s->live = a.text > a.text_dead ? a.text - a.text_dead : 0;
    }
    return r;
}

int lcb_summary_read(struct lcb_store *store, const char *path, int details, struct lcb_summary *s)
{
    struct vfs *vfs = lcb_store_vfs(store);
    struct lcb *b = NULL;
    struct stat st;
    memset(s, 0, sizeof(*s));
    int r = vfs_stat(vfs, path, &st);
    if (r)
        return r;
    s->size = (uint64_t)st.st_size;
    r = lcb_open_index(store, path, &b);
    if (!r)
        r = check_complete(b->index, vfs, path, s);
    if (!r)
        r = newest_chunk(b->index, s);
    if (!r && details)
        r = details_of(b, s);
    lcb_close(&b);
    return r;
}
