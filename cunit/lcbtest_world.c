/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcbtest_world - a backup to which things happen, and what must be true of it. */
#include "config.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "backup/lcb_history.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/lcbtest_world.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

unsigned world_draw(struct world *w, unsigned below)
{
    return client_draw(&w->c, below);
}

int world_must(struct world *w, int ok, const char *what)
{
    CU_ASSERT(ok);
    if (!ok) {
        buf_printf(&w->said, " [%s]", what);
        w->failed = 1;
    }
    return ok;
}

/* ---- the file, member by member ---- */

static void find_messages(struct world *w, const char *text, size_t len, struct client_set *has)
{
    static const char begin[] = "%{default ";
    const size_t n = sizeof(begin) - 1;
    struct buf is = BUF_INITIALIZER;
    struct message_guid guid, named;
    const char *p = text, *end = text + len;
    while (p && (p = memmem(p, (size_t)(end - p), begin, n)) != NULL && end - p > 60) {
        p += n;
        const char *body = memchr(p, '\n', (size_t)(end - p));
        for (unsigned i = 0; body && !message_guid_decode(&named, p, 40) && i < CLIENT_CONTENTS; i++) {
            if (i >= w->guids) {
                lcbtest_message(w->c.base + i, &is, &w->guid[i]);
                w->guids = i + 1;
            }
            if (memcmp(named.value, w->guid[i].value, sizeof(named.value)))
                continue;
            lcbtest_message(w->c.base + i, &is, &guid);
            if ((size_t)(end - body - 1) >= is.len && !memcmp(body + 1, is.s, is.len))
                client_add(has, i);
            break;
        }
    }
    buf_free(&is);
}

struct member *world_add_member(struct world *w, off_t at, off_t len, const struct buf *text)
{
    struct gzextra extra = {.present = 0};
    if (w->n == w->alloc)
        w->m = xrealloc(w->m, (size_t)(w->alloc = 2 * w->alloc + 64) * sizeof(*w->m));
    struct member *m = &w->m[w->n++];
    *m = (struct member){.at = at, .len = len};
    gzmember_header(w->data.s + at, (size_t)len, &extra);
    m->flags = extra.present ? extra.flags : -1;
    find_messages(w, text->s, text->len, &m->has);
    return m;
}

/* Length of the member at AT of the file, its text to TEXT; 0 if it is not whole. */
off_t world_inflate_member(const struct buf *data, off_t at, struct buf *text)
{
    z_stream z = {.next_in = (unsigned char *)data->s + at, .avail_in = (uInt)((off_t)data->len - at)};
    int r = inflateInit2(&z, 31);
    buf_reset(text);
    while (r == Z_OK) {
        z.next_out = (unsigned char *)buf_ensure(text, 65536);
        z.avail_out = 65536;
        r = inflate(&z, Z_NO_FLUSH);
        text->len += 65536 - z.avail_out;
    }
    off_t len = r == Z_STREAM_END ? (off_t)z.total_in : 0;
    inflateEnd(&z);
    return len;
}

/* What was written since is known from now on. */
void world_account(struct world *w)
{
    struct buf text = BUF_INITIALIZER;
    off_t at = (off_t)w->data.len, len;
    lcbtest_read(w->path, &w->data);
    if (!world_must(w, (off_t)w->data.len >= at, "the file is shorter"))
        return;
    for (; at < (off_t)w->data.len; at += len) {
        len = world_inflate_member(&w->data, at, &text);
        if (!world_must(w, len > 0, "what was written is no member"))
            break;
        world_add_member(w, at, len, &text);
    }
    buf_free(&text);
}

void world_find_path(struct world *w)
{
    free(w->path);
    w->path = lcbtest_path(&w->t);
}

/* All of it is another file. */
void world_account_anew(struct world *w)
{
    world_find_path(w);
    w->n = 0;
    w->saved_end = 0;
    buf_reset(&w->data);
    world_account(w);
}

int world_is_damaged(const struct world *w)
{
    for (int i = 0; i < w->n; i++)
        if (w->m[i].hurt && !w->m[i].mended)
            return 1;
    return 0;
}

void world_all_mended(struct world *w)
{
    for (int i = 0; i < w->n; i++)
        w->m[i].mended = w->m[i].hurt;
}

void world_intact(const struct world *w, struct client_set *out)
{
    memset(out, 0, sizeof(*out));
    for (int i = 0; i < w->n; i++)
        for (size_t k = 0; k < sizeof(out->bit) && !w->m[i].hurt; k++)
            out->bit[k] |= w->m[i].has.bit[k];
}

/* ---- what must hold ---- */

struct lcb *world_open_it(struct world *w, int flags)
{
    struct lcb *b = NULL;
    int r = lcb_open(w->t.store, "joe", flags, 0, &b);
    if (r)
        buf_printf(&w->said, " (%s)", error_message(r));
    world_must(w, !r, "cannot be opened");
    if (b)
        b->df.chunk_size = world_draw(w, 2) ? 8192 : 2048;
    w->covered = LONG_MAX;
    return b;
}

void world_keep_moment(struct world *w)
{
    CU_ASSERT_FATAL(w->moments < STATES);
    struct moment *m = &w->moment[w->moments++];
    m->time = lcbtest_time();
    client_state(&w->c, &m->state);
    client_live(&w->c, &m->live);
    m->until = m->time + 1 + world_draw(w, 3);
    lcbtest_settime(m->until);
}

static int add_piece(void *rock, const void *p, size_t n)
{
    buf_appendmap(rock, p, n);
    return 0;
}

/* Every message of NEED is given out, and no wrong byte of any. */
void world_check_contents(struct world *w, struct lcb *b, const struct client_set *need)
{
    struct buf is = BUF_INITIALIZER, got = BUF_INITIALIZER;
    struct message_guid guid;
    memset(&w->here, 0, sizeof(w->here));
    for (unsigned i = 0; i < w->c.next_content; i++) {
        lcbtest_message(w->c.base + i, &is, &guid);
        buf_reset(&got);
        int r = lcb_read_content(b, &guid, add_piece, &got);
        world_must(w, !r || r == XERR_NOTFOUND, "a message can only be read in part");
        if (r && client_has(need, i))
            buf_printf(&w->said, " message %u", i);
        world_must(w, !r || !client_has(need, i), "an intact message is not given out");
        if (!r && world_must(w, !buf_cmp(&is, &got), "another message is given out"))
            client_add(&w->here, i);
    }
    buf_free(&is);
    buf_free(&got);
}

struct lacking {
    struct world *w;
    int lost, never; /* messages that were here once, that were never */
};

static int count_lacking(void *rock, const struct lcb_record *rec)
{
    struct lacking *l = rock;
    struct world *w = l->w;
    struct message_guid guid;
    struct buf text = BUF_INITIALIZER;
    for (unsigned i = 0; i < w->c.next_content && !rec->rec.expunged; i++) {
        if (i >= w->guids) {
            lcbtest_message(w->c.base + i, &text, &w->guid[i]);
            w->guids = i + 1;
        }
        guid = w->guid[i];
        if (memcmp(guid.value, rec->rec.guid.value, sizeof(guid.value)) || client_has(&w->here, i))
            continue;
        l->lost += client_has(&w->c.sent, i);
        l->never += !client_has(&w->c.sent, i);
    }
    buf_free(&text);
    return 0;
}

struct marks {
    struct world *w;
    struct lcb *b;
    int asked; /* they must be right */
};

static int check_mark(void *rock, const struct lcb_folder *f)
{
    struct marks *m = rock;
    struct world *w = m->w;
    struct lacking l = {.w = w};
    unsigned id = (unsigned)strtoul(f->uniqueid + 1, NULL, 10) % IDS;
    int r = lcb_foreach_record(m->b, f->id, LCB_NOW, count_lacking, &l);
    w->mark[id] = (unsigned char)f->mark;
    if (f->mark == LCB_MARK_CONTENT)
        w->waiting += l.lost + l.never;
    if (!m->asked)
        return r;
    if (l.lost && f->mark != LCB_MARK_CONTENT)
        buf_printf(&w->said, " %s lacks %d", f->uniqueid, l.lost);
    world_must(w, !l.lost || f->mark == LCB_MARK_CONTENT, "what is lost is not asked for");
    if (f->mark && !l.lost && !w->before[id] && !(l.never && w->alone))
        buf_printf(&w->said, " %s has mark %d", f->uniqueid, (int)f->mark);
    world_must(w, !f->mark || l.lost || w->before[id] || (l.never && w->alone),
               "nothing is lost, but asked for");
    return r;
}

void world_check_marks(struct world *w, struct lcb *b, int asked)
{
    struct marks m = {w, b, asked};
    memset(w->mark, 0, sizeof(w->mark));
    w->waiting = 0;
    world_must(w, !lcb_foreach_folder(b, LCB_NOW, 0, check_mark, &m), "mailboxes");
}

static int note_mark(void *rock, const struct lcb_folder *f)
{
    struct world *w = rock;
    w->before[strtoul(f->uniqueid + 1, NULL, 10) % IDS] = (unsigned char)f->mark;
    return 0;
}

/* Marks as they are now. */
void world_note_marks(struct world *w)
{
    struct lcb *b = world_open_it(w, 0);
    memset(w->before, 0, sizeof(w->before));
    if (b)
        world_must(w, !lcb_foreach_folder(b, LCB_NOW, 0, note_mark, w), "mailboxes");
    lcb_close(&b);
}

static void check_state(struct world *w, struct lcb *b, int64_t at, const struct buf *want)
{
    struct buf got = BUF_INITIALIZER;
    world_must(w, !client_backup_state(b, at, &got), "cannot be asked");
    world_must(w, lcbtest_same(&got, want, "state"), "another state");
    buf_free(&got);
}

static void check_past(struct world *w, struct lcb *b)
{
    for (int i = 0; i < w->moments && !w->failed; i++) {
        const struct moment *m = &w->moment[i];
        int64_t at = 0;
        int r = lcb_history_at(b, m->time, &at);
        if (m->time < w->history)
            world_must(w, r == XERR_NOTFOUND, "history begins too early");
        else if (i >= w->clean && world_must(w, !r, "history begins too late"))
            check_state(w, b, at, &m->state);
    }
}

/* A copy with another name is taken for a data file only if it begins like one. */
void world_compare(struct world *w, const char *what)
{
    struct gzextra extra;
    if (w->data.len && gzmember_header(w->data.s, w->data.len, &extra) > 0)
        lcbtest_compare(&w->t, w->path, what);
}

/* After a repair. */
void world_check_all(struct world *w, const struct client_set *need)
{
    struct lcb_repair rp;
    struct buf state = BUF_INITIALIZER;
    struct client_set whole;
    struct lcb *b = world_open_it(w, 0);
    if (!b)
        return;
    if (!need)
        world_intact(w, &whole);
    world_check_contents(w, b, need ? need : &whole);
    world_check_marks(w, b, 1);
    client_state(&w->c, &state);
    check_state(w, b, LCB_NOW, &state);
    check_past(w, b);
    lcb_close(&b);
    buf_free(&state);
    w->alone = 0;
    size_t size = w->data.len;
    lcbtest_clean(&w->t, w->path, w->waiting, "verify");
    world_must(w, !lcbtest_repair_as(&w->t, w->path, (int)world_draw(w, 2), &rp), "second repair");
    world_must(w, rp.mailboxes + rp.records + rp.others == 0, "a second repair has something to say");
    world_account(w);
    world_must(w, w->data.len == size, "a second repair writes");
    world_compare(w, "made anew");
}
