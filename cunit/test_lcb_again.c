/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of damage upon damage: a client writes, bytes of the file go wrong, in chunks that were mended
 * before, too, the index is lost or an older one comes back; and somebody opens, verifies, repairs,
 * compacts, moves, or writes on, in any order. What must hold then is known from the client
 * (lcbtest_client.h) and from the bytes alone: each member is taken apart when it is written, and from
 * then on it is known which messages are in members that nobody touched.
 *
 * What only an index knows cannot be known without one. So where damage that was not mended meets the
 * loss of the index, less is asked for, the client sends everything again, as clients do, and all of it
 * is asked for from then on.
 *
 * CYRUS_BACKUPS_SEED (a number, which is printed) says which lives are tried, CYRUS_BACKUPS_RUNS how
 * many. */
#include "config.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <zlib.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_history.h"
#include "backup/lcb_int.h"
#include "backup/lcb_move.h"
#include "cunit/lcbtest_client.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { RUNS = 40, RETENTION = 100, STATES = 400, IDS = CLIENT_BOXES * 64 };

struct member {
    off_t at, len;
    int hurt;       /* bytes of it were changed */
    int mended;     /* and what it said was said again */
    int unfinished; /* its writer was killed */
    int flags;
    struct client_set has;
};

/* What was there at a moment. */
struct moment {
    int64_t time;
    struct buf state;
    struct client_set live;
};

struct world {
    struct lcbtest t;
    struct client c;
    char *path;
    struct buf data;  /* the file as it was seen last */
    struct member *m;
    int n, alloc;
    struct moment moment[STATES];
    int moments, clean; /* from number CLEAN on nothing was lost of them */
    int64_t history;    /* it cannot reach further back */
    struct lcbtest_index saved;
    off_t saved_end;    /* 0: none is saved */
    off_t covered;      /* so far the index speaks that is there */
    int alone;          /* the index was made from the file alone */
    struct client_set here;
    unsigned char before[IDS], mark[IDS];
    int waiting;
    struct message_guid guid[CLIENT_CONTENTS];
    unsigned guids;
    struct buf said;
    int failed;
};

static unsigned draw(struct world *w, unsigned below)
{
    return client_draw(&w->c, below);
}

static int must(struct world *w, int ok, const char *what)
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

static struct member *add_member(struct world *w, off_t at, off_t len, const struct buf *text)
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
static off_t inflate_member(const struct buf *data, off_t at, struct buf *text)
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
static void account(struct world *w)
{
    struct buf text = BUF_INITIALIZER;
    off_t at = (off_t)w->data.len, len;
    lcbtest_read(w->path, &w->data);
    if (!must(w, (off_t)w->data.len >= at, "the file is shorter"))
        return;
    for (; at < (off_t)w->data.len; at += len) {
        len = inflate_member(&w->data, at, &text);
        if (!must(w, len > 0, "what was written is no member"))
            break;
        add_member(w, at, len, &text);
    }
    buf_free(&text);
}

static void find_path(struct world *w)
{
    free(w->path);
    w->path = lcbtest_path(&w->t);
}

/* All of it is another file. */
static void account_anew(struct world *w)
{
    find_path(w);
    w->n = 0;
    w->saved_end = 0;
    buf_reset(&w->data);
    account(w);
}

static int is_damaged(const struct world *w)
{
    for (int i = 0; i < w->n; i++)
        if (w->m[i].hurt && !w->m[i].mended)
            return 1;
    return 0;
}

static void all_mended(struct world *w)
{
    for (int i = 0; i < w->n; i++)
        w->m[i].mended = w->m[i].hurt;
}

static void intact(const struct world *w, struct client_set *out)
{
    memset(out, 0, sizeof(*out));
    for (int i = 0; i < w->n; i++)
        for (size_t k = 0; k < sizeof(out->bit) && !w->m[i].hurt; k++)
            out->bit[k] |= w->m[i].has.bit[k];
}

/* ---- what must hold ---- */

static struct lcb *open_it(struct world *w, int flags)
{
    struct lcb *b = NULL;
    int r = lcb_open(w->t.store, "joe", flags, 0, &b);
    if (r)
        buf_printf(&w->said, " (%s)", error_message(r));
    must(w, !r, "cannot be opened");
    if (b)
        b->df.chunk_size = draw(w, 2) ? 8192 : 2048;
    w->covered = LONG_MAX;
    return b;
}

static void keep_moment(struct world *w)
{
    CU_ASSERT_FATAL(w->moments < STATES);
    struct moment *m = &w->moment[w->moments++];
    m->time = lcbtest_time();
    client_state(&w->c, &m->state);
    client_live(&w->c, &m->live);
    lcbtest_settime(m->time + 1 + draw(w, 3));
}

static int add_piece(void *rock, const void *p, size_t n)
{
    buf_appendmap(rock, p, n);
    return 0;
}

/* Every message of NEED is given out, and no wrong byte of any. */
static void check_contents(struct world *w, struct lcb *b, const struct client_set *need)
{
    struct buf is = BUF_INITIALIZER, got = BUF_INITIALIZER;
    struct message_guid guid;
    memset(&w->here, 0, sizeof(w->here));
    for (unsigned i = 0; i < w->c.next_content; i++) {
        lcbtest_message(w->c.base + i, &is, &guid);
        buf_reset(&got);
        int r = lcb_read_content(b, &guid, add_piece, &got);
        must(w, !r || r == XERR_NOTFOUND, "a message can only be read in part");
        if (r && client_has(need, i))
            buf_printf(&w->said, " message %u", i);
        must(w, !r || !client_has(need, i), "an intact message is not given out");
        if (!r && must(w, !buf_cmp(&is, &got), "another message is given out"))
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
    must(w, !l.lost || f->mark == LCB_MARK_CONTENT, "what is lost is not asked for");
    if (f->mark && !l.lost && !w->before[id] && !(l.never && w->alone))
        buf_printf(&w->said, " %s has mark %d", f->uniqueid, (int)f->mark);
    must(w, !f->mark || l.lost || w->before[id] || (l.never && w->alone), "nothing is lost, but asked for");
    return r;
}

static void check_marks(struct world *w, struct lcb *b, int asked)
{
    struct marks m = {w, b, asked};
    memset(w->mark, 0, sizeof(w->mark));
    w->waiting = 0;
    must(w, !lcb_foreach_folder(b, LCB_NOW, 0, check_mark, &m), "mailboxes");
}

static int note_mark(void *rock, const struct lcb_folder *f)
{
    struct world *w = rock;
    w->before[strtoul(f->uniqueid + 1, NULL, 10) % IDS] = (unsigned char)f->mark;
    return 0;
}

/* Marks as they are now. */
static void note_marks(struct world *w)
{
    struct lcb *b = open_it(w, 0);
    memset(w->before, 0, sizeof(w->before));
    if (b)
        must(w, !lcb_foreach_folder(b, LCB_NOW, 0, note_mark, w), "mailboxes");
    lcb_close(&b);
}

static void check_state(struct world *w, struct lcb *b, int64_t at, const struct buf *want)
{
    struct buf got = BUF_INITIALIZER;
    must(w, !client_backup_state(b, at, &got), "cannot be asked");
    must(w, lcbtest_same(&got, want, "state"), "another state");
    buf_free(&got);
}

static void check_past(struct world *w, struct lcb *b)
{
    for (int i = 0; i < w->moments && !w->failed; i++) {
        const struct moment *m = &w->moment[i];
        int64_t at = 0;
        int r = lcb_history_at(b, m->time, &at);
        if (m->time < w->history)
            must(w, r == XERR_NOTFOUND, "history begins too early");
        else if (i >= w->clean && must(w, !r, "history begins too late"))
            check_state(w, b, at, &m->state);
    }
}

/* After a repair. */
static void check_all(struct world *w, const struct client_set *need)
{
    struct lcb_repair rp;
    struct buf state = BUF_INITIALIZER;
    struct client_set whole;
    struct lcb *b = open_it(w, 0);
    if (!b)
        return;
    if (!need)
        intact(w, &whole);
    check_contents(w, b, need ? need : &whole);
    check_marks(w, b, 1);
    client_state(&w->c, &state);
    check_state(w, b, LCB_NOW, &state);
    check_past(w, b);
    lcb_close(&b);
    buf_free(&state);
    w->alone = 0;
    size_t size = w->data.len;
    lcbtest_clean(&w->t, w->path, w->waiting, "verify");
    must(w, !lcbtest_repair_as(&w->t, w->path, (int)draw(w, 2), &rp), "second repair");
    must(w, rp.mailboxes + rp.records + rp.others == 0, "a second repair has something to say");
    account(w);
    must(w, w->data.len == size, "a second repair writes");
    if (w->data.len)
        lcbtest_compare(&w->t, w->path, "made anew");
}

/* ---- writing ---- */

static void write_more(struct world *w)
{
    unsigned steps = 1 + draw(w, 12);
    struct lcb *b = open_it(w, LCB_WRITE);
    struct client_out out = {.b = b};
    buf_printf(&w->said, " write:%u", steps);
    for (; b && steps; steps--) {
        must(w, !client_step(&w->c, &out), "a command fails");
        if (draw(w, 3) && steps > 1)
            continue;
        int any = w->moments || lcb_dirty(b); /* before the first line there is no history */
        must(w, !lcb_commit(b), "commit fails");
        if (any)
            keep_moment(w);
    }
    lcb_close(&b);
    account(w);
}

static void write_foreign(struct world *w)
{
    struct buf text = BUF_INITIALIZER;
    for (unsigned n = 2 + draw(w, 7); n; n--) {
        struct cyrus_member m;
        struct client_out out = {.member = &m, .text = &text};
        off_t at = (off_t)w->data.len;
        int killed = draw(w, 10) == 0;
        buf_setcstr(&text, LCB_CHUNK_START);
        cyrus_begin(&m, &w->data);
        cyrus_line(&m, LCB_CHUNK_START);
        for (unsigned i = 1 + draw(w, 8); i; i--)
            client_step(&w->c, &out);
        if (killed)
            cyrus_abandon(&m);
        else
            cyrus_finish(&m);
        add_member(w, at, (off_t)w->data.len - at, &text)->unfinished = killed;
        keep_moment(w);
    }
    buf_free(&text);
    lcbtest_rmindex(w->path);
    lcbtest_write(w->path, w->data.s, w->data.len);
    lcb_close(&(struct lcb *){open_it(w, LCB_WRITE)});
    lcbtest_read(w->path, &w->data); /* the last one may have been finished */
    w->m[w->n - 1].len = (off_t)w->data.len - w->m[w->n - 1].at;
    if (w->m[w->n - 1].unfinished)
        w->m[w->n - 1].unfinished = 0;
}

/* Messages that mailboxes lack come again; with ALL, no mark is left. */
static void heal(struct world *w, int all)
{
    struct lcb *b;
    note_marks(w);
    b = open_it(w, LCB_WRITE);
    struct client_out out = {.b = b};
    buf_printf(&w->said, all ? " heal" : " some-heal");
    for (int i = 0; b && i < CLIENT_BOXES; i++) {
        struct client_box *m = &w->c.box[i];
        if (!m->there || !w->before[m->id % IDS] || (!all && draw(w, 2)))
            continue;
        must(w, !client_send_box(&w->c, &out, m, 1), "a mailbox is not taken");
        must(w, !lcb_setmark(b, client_id(m->id), LCB_MARK_NONE), "a mark stays");
    }
    if (b)
        must(w, !lcb_commit(b), "commit fails");
    lcb_close(&b);
    lcbtest_settime(lcbtest_time() + 1);
    account(w);
}

/* ---- repair ---- */

/* FIRST: number of the first moment that can be relied on. */
static void forget_past(struct world *w)
{
    w->clean = w->moments;
    lcbtest_settime(lcbtest_time() + 1);
}

static void repair(struct world *w, int online)
{
    struct lcb_repair rp;
    note_marks(w);
    if (is_damaged(w))
        forget_past(w);
    buf_printf(&w->said, online ? " reindex" : " repair");
    int r = lcbtest_repair_as(&w->t, w->path, online, &rp);
    if (r)
        buf_printf(&w->said, " (%s)", error_message(r));
    if (!must(w, !r, "repair fails"))
        return;
    lcbtest_settime(lcbtest_time() + 1);
    all_mended(w);
    w->covered = LONG_MAX;
    account(w);
    check_all(w, NULL);
}

/* The client begins anew, as the index does not know any more what was lost. */
static void send_all(struct world *w)
{
    struct buf state = BUF_INITIALIZER, got = BUF_INITIALIZER;
    struct lcb *b = open_it(w, LCB_WRITE);
    struct client_out out = {.b = b};
    client_state(&w->c, &state);
    for (int unuser = 0; b && unuser < 2; unuser++) {
        must(w, !client_send_all(&w->c, &out, unuser), "not all is taken");
        must(w, !client_backup_state(b, LCB_NOW, &got), "cannot be asked");
        if (!buf_cmp(&got, &state))
            break;
    }
    for (int i = 0; b && i < CLIENT_BOXES; i++)
        if (w->c.box[i].there)
            must(w, !lcb_setmark(b, client_id(w->c.box[i].id), LCB_MARK_NONE), "a mark stays");
    if (b)
        must(w, !lcb_commit(b), "commit fails");
    lcb_close(&b);
    buf_free(&state);
    buf_free(&got);
    account(w);
}

/* What stands behind the file as it is now was set aside. */
static void drop_members(struct world *w)
{
    lcbtest_read(w->path, &w->data);
    while (w->n && w->m[w->n - 1].at >= (off_t)w->data.len)
        w->n--;
    struct member *m = w->n ? &w->m[w->n - 1] : NULL;
    if (m && m->at + m->len > (off_t)w->data.len) {
        m->len = (off_t)w->data.len - m->at;
        m->hurt = 1;
    }
}

/* Where what compaction restated is lost, only the index knows that this was the beginning. */
static void forget_base(struct world *w)
{
    for (int i = 0; i < w->n; i++)
        if (w->m[i].hurt && w->m[i].flags > 0 && w->m[i].flags & GZ_BASE)
            w->history = 0;
}

/* Less can be known than what there was. */
static void start_again(struct world *w)
{
    struct lcb_repair rp;
    struct client_set whole;
    struct lcb *b = open_it(w, LCB_WRITE);
    buf_printf(&w->said, " again");
    lcb_close(&b);
    forget_base(w);
    drop_members(w);
    int r = lcbtest_repair_as(&w->t, w->path, (int)draw(w, 2), &rp);
    if (r)
        buf_printf(&w->said, " (%s)", error_message(r));
    if (w->failed || !must(w, !r, "repair fails"))
        return;
    account(w);
    intact(w, &whole);
    b = open_it(w, 0);
    if (!b)
        return;
    check_contents(w, b, &whole);
    memset(w->before, 1, sizeof(w->before));
    check_marks(w, b, rp.chunks > 0);
    lcb_close(&b);
    if (w->n) /* else there is nothing */
        lcbtest_compare(&w->t, w->path, "again");
    lcbtest_clean(&w->t, w->path, w->waiting, "again");
    send_all(w);
    all_mended(w);
    forget_past(w);
    w->saved_end = 0;
    check_all(w, NULL);
}

/* ---- damage ---- */

/* The index does not know what was lost; or nobody who looks at the end of what it speaks of can say any
 * more that it is of this file. */
static int is_unknown(const struct world *w)
{
    int last = w->n - 1;
    for (; last >= 0 && w->m[last].at + w->m[last].len > w->covered; last--)
        if (w->m[last].hurt && !w->m[last].mended)
            return 1;
    if (last < 0 || !w->m[last].hurt)
        return 0;
    for (int i = last - 1; i >= 0 && i >= last - 2; i--)
        if (!w->m[i].hurt && !w->m[i].unfinished)
            return 0;
    return 1;
}

static void hurt(struct world *w, off_t at, off_t n)
{
    for (int i = 0; i < w->n; i++)
        if (w->m[i].at < at + n && at < w->m[i].at + w->m[i].len) {
            w->m[i].hurt = 1;
            w->m[i].mended = 0;
        }
}

/* Without the letters by which our members are known, the one that ends what compaction restated is one of
 * Cyrus, which says nothing of history. */
static int makes_foreign(const struct world *w, off_t at)
{
    for (int i = 0; i < w->n; i++)
        if (w->m[i].flags > 0 && w->m[i].flags & GZ_BASE && at >= w->m[i].at + 12 && at < w->m[i].at + 14)
            return 1;
    return 0;
}

static void change(struct world *w, off_t at, off_t n)
{
    if (n == 1 && makes_foreign(w, at))
        at += 2;
    if (at + n > (off_t)w->data.len)
        n = (off_t)w->data.len - at;
    buf_printf(&w->said, "@%lld+%lld", (long long)at, (long long)n);
    for (off_t i = at; i < at + n; i++)
        w->data.s[i] = (char)(n > 1 ? 0 : w->data.s[i] ^ (1 + (int)draw(w, 255)));
    hurt(w, at, n);
}

static void cut_out(struct world *w, off_t at, off_t n)
{
    int k = 0;
    if (at + n > (off_t)w->data.len)
        n = (off_t)w->data.len - at;
    buf_printf(&w->said, "@%lld-%lld", (long long)at, (long long)n);
    hurt(w, at, n);
    for (int i = 0; i < w->n; i++) {
        struct member m = w->m[i];
        off_t end = m.at + m.len;
        end = end <= at ? end : end <= at + n ? at : end - n;
        m.at = m.at <= at ? m.at : m.at <= at + n ? at : m.at - n;
        m.len = end - m.at;
        if (m.len > 0)
            w->m[k++] = m;
    }
    w->n = k;
    memmove(w->data.s + at, w->data.s + at + n, w->data.len - (size_t)(at + n));
    w->data.len -= (size_t)n;
}

static struct member *any_member(struct world *w)
{
    unsigned what = draw(w, 8), from = draw(w, (unsigned)w->n);
    for (int i = 0; i < w->n; i++) {
        struct member *m = &w->m[(from + (unsigned)i) % (unsigned)w->n];
        if ((what == 0 && m->hurt) || (what == 1 && m->flags > 0 && m->flags & GZ_BASE) ||
            (what == 2 && m->flags > 0 && m->flags & GZ_LACKS) || (what == 3 && m == &w->m[w->n - 1]))
            return m;
    }
    return &w->m[from];
}

static void damage_one(struct world *w)
{
    struct member *m = any_member(w);
    off_t within = (off_t)draw(w, (unsigned)m->len);
    switch (draw(w, 7)) {
    case 0:
        change(w, m->at + (off_t)draw(w, m->flags < 0 ? 10 : GZ_HEADER_LEN), 1);
        break;
    case 1:
        change(w, m->at + m->len - 1 - (off_t)draw(w, m->len < 8 ? (unsigned)m->len : 8), 1);
        break;
    case 2:
        change(w, m->at + within, 2 + (off_t)draw(w, 200));
        break;
    case 3:
        change(w, m->at, m->len);
        break;
    default:
        change(w, m->at + within, 1);
    }
}

/* 1 if the index cannot know it any more. */
static int damage(struct world *w)
{
    unsigned what = draw(w, 12);
    int cut = 0;
    off_t len = (off_t)w->data.len, n;
    if (w->data.len < 200)
        return 0;
    const struct member *m = any_member(w);
    buf_printf(&w->said, " damage");
    if (what == 0) { /* the end */
        n = 1 + (off_t)draw(w, (unsigned)(len / 3));
        cut_out(w, len - n, n);
        cut = 1;
    } else if (what == 1) { /* out of the middle */
        off_t at = draw(w, 2) ? m->at : m->at + (off_t)draw(w, (unsigned)m->len);
        n = draw(w, 2) ? 1 + (off_t)draw(w, 300) : m->at + m->len - at;
        if (!at)
            return 0;
        cut_out(w, at, n);
        cut = 1;
    } else {
        for (unsigned times = draw(w, 3) ? 1 : 2 + draw(w, 3); times; times--)
            damage_one(w);
    }
    lcbtest_write(w->path, w->data.s, w->data.len);
    if (cut)
        w->saved_end = 0;
    return cut || is_unknown(w);
}

/* ---- other things that happen ---- */

static int lose_index(struct world *w)
{
    forget_base(w);
    buf_printf(&w->said, " no-index");
    lcbtest_rmindex(w->path);
    w->alone = 1;
    w->covered = 0;
    return is_unknown(w);
}

static int old_index(struct world *w)
{
    if (!w->saved_end) {
        lcbtest_saveindex(w->path, &w->saved);
        w->saved_end = (off_t)w->data.len;
        return 0;
    }
    buf_printf(&w->said, " old-index:%lld", (long long)w->saved_end);
    lcbtest_putindex(w->path, &w->saved);
    w->alone = 1;
    w->covered = w->saved_end;
    return is_unknown(w);
}

static void verify(struct world *w)
{
    struct lcb_verify v;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    buf_printf(&w->said, " verify");
    lcbtest_verify(&w->t, w->path, &v, &s);
    buf_free(&s.text);
}

static void move(struct world *w)
{
    struct lcb_moved m = {.path = NULL};
    struct buf was = BUF_INITIALIZER;
    int two = strstr(w->path, "-two/") != NULL;
    note_marks(w);
    int r = lcb_move(w->t.store, "joe", lcb_partition_named(w->t.store, two ? "one" : "two"), 0, &m);
    buf_printf(&w->said, " move:%d", r);
    free(m.path);
    buf_free(&m.why);
    if (!must(w, !r || is_damaged(w), "cannot be moved") || r)
        return;
    find_path(w);
    w->saved_end = 0;
    buf_setmap(&was, w->data.s, w->data.len);
    lcbtest_read(w->path, &w->data);
    must(w, !buf_cmp(&was, &w->data), "the file is not what it was");
    buf_free(&was);
    struct lcb *b = open_it(w, 0);
    if (b && !is_damaged(w)) {
        unsigned char before[IDS];
        memcpy(before, w->before, sizeof(before));
        check_marks(w, b, 0);
        must(w, !memcmp(before, w->mark, sizeof(before)), "other marks");
    }
    lcb_close(&b);
}

/* What must be there behind a compaction that keeps all since SINCE. */
static void needed(struct world *w, int64_t since, struct client_set *need)
{
    struct client_set whole;
    int i = w->moments - 1;
    intact(w, &whole);
    client_live(&w->c, need);
    for (; i >= w->clean; i--) {
        for (size_t k = 0; k < sizeof(need->bit); k++)
            need->bit[k] |= w->moment[i].live.bit[k];
        if (w->moment[i].time <= since)
            break;
    }
    for (size_t k = 0; k < sizeof(need->bit); k++)
        need->bit[k] &= whole.bit[k];
}

static void compact(struct world *w)
{
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    struct client_set need;
    note_marks(w);
    if (draw(w, 2))
        lcbtest_settime(lcbtest_time() + draw(w, 2 * RETENTION));
    if (is_damaged(w))
        forget_past(w);
    int64_t since = lcbtest_time() - RETENTION;
    needed(w, since, &need);
    int r = lcb_compact(w->t.store, &how, &result);
    buf_printf(&w->said, " compact:%d", r);
    if (!must(w, r == LCB_COMPACT_DONE || r == LCB_COMPACT_EMPTY, "cannot be compacted"))
        return;
    if (r == LCB_COMPACT_EMPTY) {
        account(w); /* it may have been repaired */
        return;
    }
    lcbtest_settime(lcbtest_time() + 1);
    if (result.account.window > since)
        buf_printf(&w->said, " window %lld since %lld history %lld", (long long)result.account.window,
                   (long long)since, (long long)w->history);
    must(w, result.account.window <= since || result.account.window == w->history, "too much is gone");
    w->history = result.account.window > w->history ? result.account.window : w->history;
    w->covered = LONG_MAX;
    account_anew(w);
    check_all(w, &need);
}

/* ---- a life ---- */

static void begin(struct world *w, uint64_t seed)
{
    static char extra[400];
    memset(w, 0, sizeof(*w));
    client_start(&w->c, seed);
    snprintf(extra, sizeof(extra), "backuppartition-two: %s-two\npartition_select_exclude: two\n"
             "backup_retention: %ds\n", unit_tmpdir(), RETENTION);
    w->covered = LONG_MAX;
    lcbtest_init(&w->t, extra);
    lcbtest_open(&w->t, NULL);
    struct lcb *b = lcbtest_joe(&w->t);
    lcb_close(&b);
    find_path(w);
    unsigned kind = draw(w, 6);
    buf_printf(&w->said, " kind:%u", kind);
    if (kind % 2)
        write_foreign(w);
    if (kind % 2 == 0 || kind == 3)
        for (unsigned i = 1 + draw(w, 4); i && !w->failed; i--)
            write_more(w);
    if (kind >= 4 && !w->failed)
        compact(w);
    if (kind >= 4 && draw(w, 2) && !w->failed)
        write_more(w);
}

static void end(struct world *w)
{
    for (int i = 0; i < w->moments; i++)
        buf_free(&w->moment[i].state);
    lcbtest_freeindex(&w->saved);
    buf_free(&w->data);
    buf_free(&w->said);
    free(w->m);
    free(w->path);
    lcbtest_fini(&w->t);
}

static void one_step(struct world *w)
{
    int less = 0;
    switch (draw(w, 16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        less = damage(w);
        break;
    case 5:
        less = lose_index(w);
        break;
    case 6:
    case 7:
        less = old_index(w);
        break;
    case 8:
        heal(w, 1);
        break;
    case 9:
        heal(w, 0);
        break;
    case 10:
        verify(w);
        break;
    case 11:
        compact(w);
        break;
    case 12:
        move(w);
        break;
    default:
        write_more(w);
    }
    if (less)
        start_again(w);
    else if (draw(w, 2))
        repair(w, (int)draw(w, 2));
}

static void one_life(uint64_t seed)
{
    struct world *w = xzmalloc(sizeof(*w));
    unsigned before = CU_get_number_of_failures();
    begin(w, seed);
    for (unsigned steps = 3 + draw(w, 8); steps && !w->failed; steps--) {
        one_step(w);
        w->failed |= CU_get_number_of_failures() != before;
    }
    if (!w->failed)
        repair(w, (int)draw(w, 2));
    if (CU_get_number_of_failures() != before)
        printf("\nCYRUS_BACKUPS_SEED=%llu CYRUS_BACKUPS_RUNS=1:%s\n", (unsigned long long)seed,
               buf_cstring(&w->said));
    end(w);
    free(w);
}

static void test_lives(void)
{
    const char *seed = getenv("CYRUS_BACKUPS_SEED"), *runs = getenv("CYRUS_BACKUPS_RUNS");
    uint32_t drawn = 0;
    CU_ASSERT_EQUAL_FATAL(getrandom(&drawn, sizeof(drawn), 0), (ssize_t)sizeof(drawn));
    unsigned long first = seed && *seed ? strtoul(seed, NULL, 10) : drawn;
    unsigned long n = runs && *runs ? strtoul(runs, NULL, 10) : RUNS;
    printf("CYRUS_BACKUPS_SEED=%lu ", first);
    for (unsigned long i = 0; i < n; i++)
        one_life(first + i);
}

void suite_lcb_again(void);
void suite_lcb_again(void)
{
    static const struct unit_test tests[] = {
        {"damage upon damage", test_lives},
        {NULL, NULL},
    };
    unit_suite("lcb_again", tests);
}
