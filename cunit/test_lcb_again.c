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
 * By default these are always the same lives. CYRUS_BACKUPS_SEED (a number) says which are tried,
 * CYRUS_BACKUPS_RUNS how many. Not all pass: one or two of a hundred others end with damage at three
 * or more places that nobody mended in between, of which more could be said again than is, or after
 * which history is told to begin before what a compaction had restated, which is lost. */
#include "config.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "backup/lcb_move.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/lcbtest_world.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { RUNS = 30, RETENTION = 100 };

/* ---- writing ---- */

static void write_more(struct world *w)
{
    unsigned steps = 1 + world_draw(w, 12);
    struct lcb *b = world_open_it(w, LCB_WRITE);
    struct client_out out = {.b = b};
    buf_printf(&w->said, " write:%u", steps);
    for (; b && steps; steps--) {
        world_must(w, !client_step(&w->c, &out), "a command fails");
        if (world_draw(w, 3) && steps > 1)
            continue;
        int any = w->moments || lcb_dirty(b); /* before the first line there is no history */
        world_must(w, !lcb_commit(b), "commit fails");
        if (any)
            world_keep_moment(w);
    }
    lcb_close(&b);
    world_account(w);
}

static void write_foreign(struct world *w)
{
    struct buf text = BUF_INITIALIZER;
    for (unsigned n = 2 + world_draw(w, 7); n; n--) {
        struct cyrus_member m;
        struct client_out out = {.member = &m, .text = &text};
        off_t at = (off_t)w->data.len;
        int killed = world_draw(w, 10) == 0;
        buf_setcstr(&text, LCB_CHUNK_START);
        cyrus_begin(&m, &w->data);
        cyrus_line(&m, LCB_CHUNK_START);
        for (unsigned i = 1 + world_draw(w, 8); i; i--)
            client_step(&w->c, &out);
        int any = w->moments || text.len > LCB_CHUNK_START_LEN;
        if (killed)
            cyrus_abandon(&m);
        else
            cyrus_finish(&m);
        world_add_member(w, at, (off_t)w->data.len - at, &text)->unfinished = killed;
        if (any)
            world_keep_moment(w);
    }
    buf_free(&text);
    lcbtest_rmindex(w->path);
    lcbtest_write(w->path, w->data.s, w->data.len);
    lcb_close(&(struct lcb *){world_open_it(w, LCB_WRITE)});
    lcbtest_read(w->path, &w->data); /* the last one may have been finished */
    w->m[w->n - 1].len = (off_t)w->data.len - w->m[w->n - 1].at;
    w->m[w->n - 1].unfinished = 0;
}

/* Messages that mailboxes lack come again; with ALL, no mark is left. */
static void heal(struct world *w, int all)
{
    struct lcb *b;
    world_note_marks(w);
    b = world_open_it(w, LCB_WRITE);
    struct client_out out = {.b = b};
    buf_printf(&w->said, all ? " heal" : " some-heal");
    for (int i = 0; b && i < CLIENT_BOXES; i++) {
        struct client_box *m = &w->c.box[i];
        if (!m->there || !w->before[m->id % IDS] || (!all && world_draw(w, 2)))
            continue;
        world_must(w, !client_send_box(&w->c, &out, m, 1), "a mailbox is not taken");
        world_must(w, !lcb_setmark(b, client_id(m->id), LCB_MARK_NONE), "a mark stays");
    }
    if (b)
        world_must(w, !lcb_commit(b), "commit fails");
    lcb_close(&b);
    lcbtest_settime(lcbtest_time() + 1);
    world_account(w);
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
    world_note_marks(w);
    if (world_is_damaged(w))
        forget_past(w);
    buf_printf(&w->said, online ? " reindex" : " repair");
    int r = lcbtest_repair_as(&w->t, w->path, online, &rp);
    if (r)
        buf_printf(&w->said, " (%s)", error_message(r));
    if (!world_must(w, !r, "repair fails"))
        return;
    lcbtest_settime(lcbtest_time() + 1);
    world_all_mended(w);
    w->covered = LONG_MAX;
    world_account(w);
    world_check_all(w, NULL);
}

/* The client begins anew, as the index does not know any more what was lost. */
static void send_all(struct world *w)
{
    struct buf state = BUF_INITIALIZER, got = BUF_INITIALIZER;
    struct lcb *b = world_open_it(w, LCB_WRITE);
    struct client_out out = {.b = b};
    client_state(&w->c, &state);
    for (int unuser = 0; b && unuser < 2; unuser++) {
        world_must(w, !client_send_all(&w->c, &out, unuser), "not all is taken");
        world_must(w, !client_backup_state(b, LCB_NOW, &got), "cannot be asked");
        if (!buf_cmp(&got, &state))
            break;
    }
    for (int i = 0; b && i < CLIENT_BOXES; i++)
        if (w->c.box[i].there)
            world_must(w, !lcb_setmark(b, client_id(w->c.box[i].id), LCB_MARK_NONE), "a mark stays");
    if (b)
        world_must(w, !lcb_commit(b), "commit fails");
    lcb_close(&b);
    buf_free(&state);
    buf_free(&got);
    world_account(w);
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

/* What compaction restated is lost. */
static int is_base_hurt(const struct world *w)
{
    for (int i = 0; i < w->n; i++)
        if (w->m[i].hurt && w->m[i].flags > 0 && w->m[i].flags & GZ_BASE)
            return 1;
    return 0;
}

/* Then only the index knows that this was the beginning. */
static void forget_base(struct world *w)
{
    if (is_base_hurt(w))
        w->history = 0;
}

/* A member of Cyrus that is the last one now is ended by the next writer. */
static void end_last(struct world *w)
{
    struct lcb *b = world_open_it(w, LCB_WRITE);
    struct buf is = BUF_INITIALIZER, text = BUF_INITIALIZER;
    struct member *m = w->n ? &w->m[w->n - 1] : NULL;
    lcb_close(&b);
    lcbtest_read(w->path, &is);
    if (m && m->at + m->len == (off_t)w->data.len && is.len > w->data.len &&
        world_inflate_member(&is, m->at, &text) > m->len) {
        buf_setmap(&w->data, is.s, (size_t)(m->at + world_inflate_member(&is, m->at, &text)));
        m->len = (off_t)w->data.len - m->at;
    }
    buf_free(&is);
    buf_free(&text);
    world_account(w);
}

/* Less can be known than what there was. */
static void start_again(struct world *w)
{
    struct lcb_repair rp;
    struct client_set whole;
    struct lcb *b = world_open_it(w, LCB_WRITE);
    buf_printf(&w->said, " again");
    lcb_close(&b);
    forget_base(w);
    drop_members(w);
    int r = lcbtest_repair_as(&w->t, w->path, (int)world_draw(w, 2), &rp);
    if (r)
        buf_printf(&w->said, " (%s)", error_message(r));
    if (w->failed || !world_must(w, !r, "repair fails"))
        return;
    end_last(w);
    world_intact(w, &whole);
    b = world_open_it(w, 0);
    if (!b)
        return;
    world_check_contents(w, b, &whole);
    memset(w->before, 1, sizeof(w->before));
    world_check_marks(w, b, rp.chunks > 0);
    lcb_close(&b);
    world_compare(w, "again");
    lcbtest_clean(&w->t, w->path, w->waiting, "again");
    send_all(w);
    world_all_mended(w);
    forget_past(w);
    w->saved_end = 0;
    world_check_all(w, NULL);
}

/* ---- damage ---- */

/* The index does not know what was lost; or nobody who looks at the end of what it speaks of can say
 * any more that it is of this file. */
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

/* Without the letters by which our members are known, the one that ends what compaction restated is one
 * of Cyrus, which says nothing of history. */
static int makes_foreign(const struct world *w, off_t at)
{
    for (int i = 0; i < w->n; i++)
        if (w->m[i].flags > 0 && w->m[i].flags & GZ_BASE && at >= w->m[i].at + 12 &&
            at < w->m[i].at + 14)
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
        w->data.s[i] = (char)(n > 1 ? 0 : w->data.s[i] ^ (1 + (int)world_draw(w, 255)));
    hurt(w, at, n);
}

static void cut_out(struct world *w, off_t at, off_t n)
{
    int k = 0;
    if (at + n > (off_t)w->data.len)
        n = (off_t)w->data.len - at;
    buf_printf(&w->said, "@%lld-%lld", (long long)at, (long long)n);
    hurt(w, at, n);
    forget_base(w); /* of which nothing may be left */
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
    unsigned what = world_draw(w, 8), from = world_draw(w, (unsigned)w->n);
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
    off_t within = (off_t)world_draw(w, (unsigned)m->len);
    switch (world_draw(w, 7)) {
    case 0:
        change(w, m->at + (off_t)world_draw(w, m->flags < 0 ? 10 : GZ_HEADER_LEN), 1);
        break;
    case 1:
        change(w, m->at + m->len - 1 - (off_t)world_draw(w, m->len < 8 ? (unsigned)m->len : 8), 1);
        break;
    case 2:
        change(w, m->at + within, 2 + (off_t)world_draw(w, 200));
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
    unsigned what = world_draw(w, 12);
    int cut = 0;
    off_t len = (off_t)w->data.len, n;
    if (w->data.len < 200)
        return 0;
    const struct member *m = any_member(w);
    buf_printf(&w->said, " damage");
    if (what == 0) { /* the end */
        n = 1 + (off_t)world_draw(w, (unsigned)(len / 3));
        cut_out(w, len - n, n);
        cut = 1;
    } else if (what == 1) { /* out of the middle */
        off_t at = world_draw(w, 2) ? m->at : m->at + (off_t)world_draw(w, (unsigned)m->len);
        n = world_draw(w, 2) ? 1 + (off_t)world_draw(w, 300) : m->at + m->len - at;
        if (!at)
            return 0;
        cut_out(w, at, n);
        cut = 1;
    } else {
        for (unsigned times = world_draw(w, 3) ? 1 : 2 + world_draw(w, 3); times; times--)
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
    world_note_marks(w);
    int r = lcb_move(w->t.store, "joe", lcb_partition_named(w->t.store, two ? "one" : "two"), 0, &m);
    buf_printf(&w->said, " move:%d", r);
    free(m.path);
    buf_free(&m.why);
    if (!world_must(w, !r || world_is_damaged(w) || w->alone, "cannot be moved") || r)
        return;
    world_find_path(w);
    w->saved_end = 0;
    buf_setmap(&was, w->data.s, w->data.len);
    lcbtest_read(w->path, &w->data);
    world_must(w, !buf_cmp(&was, &w->data), "the file is not what it was");
    buf_free(&was);
    struct lcb *b = world_open_it(w, 0);
    if (b && !world_is_damaged(w)) {
        unsigned char before[IDS];
        memcpy(before, w->before, sizeof(before));
        world_check_marks(w, b, 0);
        world_must(w, !memcmp(before, w->mark, sizeof(before)), "other marks");
    }
    lcb_close(&b);
}

/* What must be there behind a compaction that keeps all since SINCE. */
static void needed(struct world *w, int64_t since, struct client_set *need)
{
    struct client_set whole;
    int i = w->moments - 1;
    world_intact(w, &whole);
    client_live(&w->c, need);
    for (; i >= w->clean && w->moment[i].until > since; i--)
        for (size_t k = 0; k < sizeof(need->bit); k++)
            need->bit[k] |= w->moment[i].live.bit[k];
    for (size_t k = 0; k < sizeof(need->bit); k++)
        need->bit[k] &= whole.bit[k];
}

static int is_any_hurt(const struct world *w)
{
    for (int i = 0; i < w->n; i++)
        if (w->m[i].hurt)
            return 1;
    return 0;
}

static void compact(struct world *w)
{
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    struct client_set need;
    world_note_marks(w);
    if (world_draw(w, 2))
        lcbtest_settime(lcbtest_time() + world_draw(w, 2 * RETENTION));
    int no_base = is_base_hurt(w); /* then the first line behind it may be the beginning */
    int hurt = is_any_hurt(w);     /* it may have been the end of a base, for all that can be known */
    if (world_is_damaged(w))
        forget_past(w);
    int64_t since = lcbtest_time() - RETENTION;
    needed(w, since, &need);
    int r = lcb_compact(w->t.store, &how, &result);
    buf_printf(&w->said, " compact:%d", r);
    if (!world_must(w, r == LCB_COMPACT_DONE || r == LCB_COMPACT_EMPTY, "cannot be compacted"))
        return;
    if (r == LCB_COMPACT_EMPTY) {
        world_account(w); /* it may have been repaired */
        return;
    }
    lcbtest_settime(lcbtest_time() + 1);
    if (result.account.window > since)
        buf_printf(&w->said, " window %lld since %lld history %lld", (long long)result.account.window,
                   (long long)since, (long long)w->history);
    world_must(w, no_base || hurt || result.account.window <= since ||
                      result.account.window == w->history, "too much is gone");
    w->history = result.account.window > w->history ? result.account.window : w->history;
    w->covered = LONG_MAX;
    world_account_anew(w);
    world_check_all(w, &need);
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
    world_find_path(w);
    unsigned kind = world_draw(w, 6);
    buf_printf(&w->said, " kind:%u", kind);
    if (kind % 2)
        write_foreign(w);
    if (kind % 2 == 0 || kind == 3)
        for (unsigned i = 1 + world_draw(w, 4); i && !w->failed; i--)
            write_more(w);
    if (kind >= 4 && !w->failed)
        compact(w);
    if (kind >= 4 && world_draw(w, 2) && !w->failed)
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
    switch (world_draw(w, 16)) {
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
    else if (world_draw(w, 2))
        repair(w, (int)world_draw(w, 2));
}

static void one_life(uint64_t seed)
{
    struct world *w = xzmalloc(sizeof(*w));
    unsigned before = CU_get_number_of_failures();
    begin(w, seed);
    for (unsigned steps = 3 + world_draw(w, 8); steps && !w->failed; steps--) {
        one_step(w);
        w->failed |= CU_get_number_of_failures() != before;
    }
    if (!w->failed)
        repair(w, (int)world_draw(w, 2));
    if (CU_get_number_of_failures() != before)
        printf("\nCYRUS_BACKUPS_SEED=%llu CYRUS_BACKUPS_RUNS=1:%s\n", (unsigned long long)seed,
               buf_cstring(&w->said));
    end(w);
    free(w);
}

static void test_lives(void)
{
    const char *seed = getenv("CYRUS_BACKUPS_SEED"), *runs = getenv("CYRUS_BACKUPS_RUNS");
    unsigned long first = seed && *seed ? strtoul(seed, NULL, 10) : 1;
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
