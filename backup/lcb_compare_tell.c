/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_compare_tell - a difference between two indexes, as a sentence for the administrator and as
 * what a caller judges it by. */
#include "config.h"

#include <string.h>

#include "backup/lcb_compare_int.h"

const char *compare_name(const struct compare *c, int side)
{
    const char *name = side ? c->c->new_name : c->c->old_name;
    return name ? name : side ? "the new index" : "the old index";
}

void compare_tell(struct compare *c, struct lcb_difference *d)
{
    int r = 1;
    d->what = buf_cstring(&c->text);
    c->differ = 1;
    if (c->c->found)
        r = c->c->found(c->c->rock, d);
    else if (c->c->differs)
        r = c->c->differs(c->c->rock, d->what);
    c->stop = r;
}

void compare_put(struct buf *out, sqlite3_stmt *st, int col)
{
    const unsigned char *p = sqlite3_column_blob(st, col);
    int n = sqlite3_column_bytes(st, col);
    switch (sqlite3_column_type(st, col)) {
    case SQLITE_INTEGER:
        buf_printf(out, " %lld", (long long)sqlite3_column_int64(st, col));
        break;
    case SQLITE_BLOB:
        buf_putc(out, ' ');
        for (int i = 0; i < n; i++)
            buf_printf(out, "%02x", p[i]);
        break;
    default:
        if (n)
            buf_printf(out, " %.*s", n < 500 ? n : 500, (const char *)p);
    }
}

static void put_place(struct buf *out, int64_t pos)
{
    buf_printf(out, " of chunk %lld, line %lld", (long long)LCB_POS_SEQ(pos),
               (long long)(pos & 0xffffff));
}

/* What the row at hand is, and its place among those of its key. */
static void put_row(struct compare *c, const struct cursor *at)
{
    const struct compare_table *t = at->t;
    buf_setcstr(&c->text, t->title);
    if (t == &compare_records)
        buf_printf(&c->text, " UID %lld of mailbox", (long long)sqlite3_column_int64(at->st, 0));
    else if (t->place == IS_POS)
        put_place(&c->text, sqlite3_column_int64(at->st, 0));
    else
        for (int i = 0; i < t->keys; i++)
            compare_put(&c->text, at->st, i);
    if (at->f)
        buf_printf(&c->text, " %s (%s)", at->f->mboxname, at->f->uniqueid);
    if (t->versioned)
        put_place(&c->text, at->since);
}

static void describe(struct lcb_difference *d, const struct cursor *at, int side)
{
    int64_t first = sqlite3_column_int64(at->st, 0);
    d->table = at->t->name;
    d->pos = at->t->place == IS_SEQ ? LCB_POS(first, 0) : at->t->place == IS_POS ? first : 0;
    if (at->f) {
        d->uniqueid = at->f->uniqueid;
        d->mboxname = at->f->mboxname;
    }
    if (at->t == &compare_records) {
        d->uid = (uint32_t)sqlite3_column_int64(at->st, 0);
        if (!side)
            d->chunk = sqlite3_column_int64(at->st, REC_CHUNK);
    } else if (!strcmp(at->t->name, "replaced")) {
        d->mboxname = (const char *)sqlite3_column_text(at->st, 0);
    } else if (!strcmp(at->t->name, "contents")) {
        if (!side)
            d->chunk = sqlite3_column_int64(at->st, CONTENT_CHUNK);
        if (sqlite3_column_bytes(at->st, 0) == MESSAGE_GUID_LEN)
            d->guid = sqlite3_column_blob(at->st, 0); /* bytes are all it is */
    }
    if (at->t->versioned) {
        d->since[side] = at->since;
        d->until[side] = at->until == INT64_MAX ? 0 : at->until;
    }
}

void compare_only(struct compare *c, const struct cursor *at, int side)
{
    struct lcb_difference d = {.side = side ? 1 : -1, .touched = c->touched};
    put_row(c, at);
    buf_printf(&c->text, ": only %s has it", compare_name(c, side));
    describe(&d, at, side);
    compare_tell(c, &d);
}

void compare_both(struct compare *c, const struct cursor at[2], const char *what, int end)
{
    struct lcb_difference d = {.side = 0, .end = end, .touched = c->touched};
    put_row(c, &at[0]);
    buf_printf(&c->text, ": %s not the same in %s and %s", what, compare_name(c, 0),
               compare_name(c, 1));
    describe(&d, &at[1], 1);
    describe(&d, &at[0], 0);
    compare_tell(c, &d);
}
