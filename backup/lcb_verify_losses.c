/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_verify_losses - which differences between an index and what its data file gives now follow from
 * chunks that are lost.
 *
 * No more than must is laid to their charge: the rest is the index' fault, which is then made anew. Nor
 * less, for an index made anew does not know any more what the lost chunks said.
 *
 * Rows with a history: a row that began in a lost chunk is gone, one that ended there ends otherwise. A
 * line behind it that said what was known already says something new now, and one that acted upon what
 * it brought does nothing: so rows of the same thing that come after such a row are excused, either
 * way. No others are. */
#include "config.h"

#include <string.h>

#include "backup/lcb_int.h"
#include "backup/lcb_verify_int.h"
#include "lib/xerr.h"

static int is_lost(const struct lcb_losses *s, int64_t seq)
{
    return seq > 0 && seq <= LCB_POS_SEQ(INT64_MAX) && lcb_seqs_have(s->lost, LCB_POS(seq, 0));
}

/* Is chunk SEQ of the file, as it is read now, what is left of one that is lost? */
static int is_rest(const struct lcb_losses *s, int64_t seq)
{
    int64_t start, was;
    if (sqldb_int(s->scratch->db, &start, "SELECT start FROM chunks WHERE seq=?", "i", seq) ||
        sqldb_int(s->live->db, &was, "SELECT seq FROM chunks WHERE start=?", "i", start))
        return 0;
    return is_lost(s, was);
}

/* Was NAME that of a mailbox that came to it, or went from it, in a lost chunk? */
static int name_is_touched(const struct lcb_losses *s, const char *name)
{
    sqlite3_stmt *st = sqldb_stmt(s->live->db, "SELECT since, until FROM folder_states"
                                               " WHERE mboxname=?");
    int found = 0;
    if (!st || sqldb_bind(st, "t", name ? name : ""))
        return 0;
    while (!found && sqldb_step(s->live->db, st) > 0)
        found = lcb_seqs_have(s->lost, sqlite3_column_int64(st, 0)) ||
                lcb_seqs_have(s->lost, sqlite3_column_int64(st, 1));
    sqlite3_reset(st);
    return found;
}

/* A tick: of a lost chunk; or the next one, where the file does not say any more that the time had
 * come before. */
static int tick_follows(const struct lcb_losses *s, const struct lcb_difference *d)
{
    if (d->side <= 0 || is_rest(s, LCB_POS_SEQ(d->pos)))
        return is_lost(s, LCB_POS_SEQ(d->pos)) || is_rest(s, LCB_POS_SEQ(d->pos));
    return d->pos > LCB_POS(s->lost->list[0], 0) &&
           lcb_index_time(s->live, d->pos) == lcb_index_time(s->scratch, d->pos);
}

/* Has the live index a message in chunk SEQ that is not what its GUID says? That is told of the
 * message. */
static int has_unsound(const struct lcb_losses *s, int64_t seq)
{
    sqlite3_stmt *st;
    int found = 0;
    if (!hash_count(s->unsound) ||
        !(st = sqldb_stmt(s->live->db, "SELECT guid FROM contents WHERE chunk=?")) ||
        sqldb_bind(st, "i", seq))
        return 0;
    while (!found && sqldb_step(s->live->db, st) > 0)
        found = sqlite3_column_bytes(st, 0) == MESSAGE_GUID_LEN &&
                hash_lookupmap(s->unsound, sqlite3_column_blob(st, 0), MESSAGE_GUID_LEN) != NULL;
    sqlite3_reset(st);
    return found;
}

/* The index does not list that a line is damaged, or lists one that is not. For the sake of that it is
 * not made anew if chunks are lost, as that would cost what only it knows. */
static int damage_follows(const struct lcb_losses *s, const struct lcb_difference *d)
{
    int64_t seq = LCB_POS_SEQ(d->pos);
    return d->side > 0 ? s->lost->n || has_unsound(s, seq) : is_lost(s, seq);
}

/* The chunk before the beginning of the history said so, or may have; it is lost, or was before. */
static int history_follows(const struct lcb_losses *s, const struct lcb_difference *d)
{
    int64_t seq = LCB_POS_SEQ(d->since[0]) - 1, one;
    if (is_lost(s, seq) || is_lost(s, LCB_POS_SEQ(d->since[1]) - 1))
        return 1;
    return seq > 0 && d->since[0] == LCB_POS(seq + 1, 0) && d->since[0] > d->since[1] &&
           sqldb_int(s->live->db, &one, "SELECT 1 FROM chunks WHERE seq=?", "i", seq) == XERR_NOTFOUND;
}

/* Of what tells of places, or of names: 1, 0; -1 if it does neither. */
static int place_follows(const struct lcb_losses *s, const struct lcb_difference *d)
{
    int64_t seq = LCB_POS_SEQ(d->pos);
    if (!strcmp(d->table, "chunks") || !strcmp(d->table, "pieces"))
        return is_lost(s, seq) || (d->side > 0 && is_rest(s, seq));
    if (!strcmp(d->table, "ticks"))
        return tick_follows(s, d);
    if (!strcmp(d->table, "replaced"))
        return name_is_touched(s, d->mboxname);
    if (!strcmp(d->table, "contents"))
        return is_lost(s, d->chunk);
    return -1;
}

int lcb_losses_excuse(const struct lcb_losses *s, const struct lcb_difference *d)
{
    if (!strcmp(d->table, "meta"))
        return history_follows(s, d);
    int place = !strcmp(d->table, "lost") ? damage_follows(s, d) : s->lost->n ? place_follows(s, d) : 0;
    if (place >= 0)
        return place;
    if (!d->side && d->end)
        return d->until[0] && lcb_seqs_have(s->lost, d->until[0]);
    if (!d->side) /* what is made of the state before: by RENAME, or an annotation */
        return d->touched && !strcmp(d->table, "folder_states");
    return d->touched || (d->side < 0 && lcb_seqs_have(s->lost, d->since[0])) ||
           (d->side > 0 && is_rest(s, LCB_POS_SEQ(d->since[1])));
}
