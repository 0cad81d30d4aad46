/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests with long histories: a rebuild gives what live replication gave, and the past stays what it
 * was. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "backup/lcb_history.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"

static void one_history(unsigned seed, int big, unsigned steps)
{
    struct lcbtest t;
    struct lcbtest_history h;
    char what[64];
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    lcbtest_start(&h, seed);
    h.big = big;
    for (unsigned i = 1; i <= steps; i++) {
        CU_ASSERT_EQUAL_FATAL(lcbtest_step(&h, b), 0);
        if (lcbtest_draw(&h, 4) && i != steps)
            continue;
        CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
        snprintf(what, sizeof(what), "history %u, step %u", seed, i);
        if (i == steps || i % 16 == 0)
            lcbtest_compare(&t, lcb_path(b), what);
    }
    CU_ASSERT(h.nextcontent > seed * 1000 % 100000 + 10);
    lcb_close(&b);
    lcbtest_fini(&t);
}

static void test_rebuild(void)
{
    for (unsigned seed = 1; seed <= 12; seed++)
        one_history(seed, 0, 100);
    one_history(100, 1, 40);
}

/* ---- the past ---- */

struct past {
    int64_t at;
    struct buf said;
};

/* What is being said, of which state. */
struct saying {
    struct lcb *lcb;
    int64_t at;
    struct buf *out;
};

static int put_folder(void *rock, const struct lcb_folder *f)
{
    struct saying *s = rock;
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder found = {.id = 0};
    uint32_t crc = f->crc;
    if (s->at != LCB_NOW)
        CU_ASSERT_EQUAL(lcb_folder_crc(s->lcb, f->id, s->at, &crc), 0);
    buf_printf(s->out, "%s %s %u %u %lld\n", f->uniqueid, f->mboxname, f->last_uid, crc,
               (long long)f->deleted);
    int here = f->deleted ? XERR_NOTFOUND : 0;
    CU_ASSERT_EQUAL(lcb_find_uniqueid_at(s->lcb, s->at, f->uniqueid, &found, &strings), here);
    CU_ASSERT(here || (found.id == f->id && !strcmp(found.mboxname, f->mboxname)));
    if (!here) {
        CU_ASSERT_EQUAL(lcb_find_name_at(s->lcb, s->at, f->mboxname, &found, &strings), 0);
        CU_ASSERT(found.id == f->id && found.headerlen == f->headerlen);
    }
    buf_free(&strings);
    return 0;
}

static int put_content_folder(void *rock, const char *uniqueid, const char *mboxname)
{
    struct saying *s = rock;
    buf_printf(s->out, "  %s %s\n", uniqueid, mboxname);
    return 0;
}

static int put_content(void *rock, const struct message_guid *guid, uint64_t size)
{
    struct saying *s = rock;
    char hex[41];
    message_guid_encode(guid, hex);
    buf_printf(s->out, "%s %llu\n", hex, (unsigned long long)size);
    return lcb_content_folders(s->lcb, guid, s->at, put_content_folder, s);
}

static int put_record(void *rock, const struct lcb_record *r)
{
    buf_printf(rock, " %u %llu %d %.*s\n", r->rec.uid, (unsigned long long)r->rec.modseq,
               r->rec.expunged, (int)r->rec.flags.len, r->rec.flags.s);
    return 0;
}

static int put_script(void *rock, const struct lcb_script *s)
{
    buf_printf(rock, "%s %lld %.*s%s;", s->filename, (long long)s->last_update, (int)s->len,
               (const char *)s->content, s->active ? " active" : "");
    return 0;
}

static int put_name(void *rock, const char *name)
{
    buf_printf(rock, "%s\n", name);
    return 0;
}

static int put_seen(void *rock, const struct lcb_seen *s)
{
    buf_printf(rock, "%s %s\n", s->uniqueid, s->seenuids);
    return 0;
}

static int put_quota(void *rock, const char *root, const char *text, size_t len)
{
    buf_printf(rock, "%s %.*s\n", root, (int)len, text);
    return 0;
}

static int put_annotation(void *rock, const char *entry, const char *userid, const char *value,
                          size_t len)
{
    buf_printf(rock, "%s %s %.*s\n", entry, userid, (int)len, value);
    return 0;
}

/* All that the queries say of the state at AT. */
static void say(struct lcb *lcb, int64_t at, struct buf *out)
{
    struct saying s = {lcb, at, out};
    buf_reset(out);
    CU_ASSERT_EQUAL(lcb_foreach_folder(lcb, at, 0, put_folder, &s), 0);
    CU_ASSERT_EQUAL(lcb_foreach_folder(lcb, at, 1, put_folder, &s), 0);
    CU_ASSERT_EQUAL(lcb_foreach_content(lcb, at, put_content, &s), 0);
    for (int64_t id = 1; id <= 8; id++)
        CU_ASSERT_EQUAL(lcb_foreach_record(lcb, id, at, put_record, out), 0);
    CU_ASSERT_EQUAL(lcb_foreach_sub(lcb, at, put_name, out), 0);
    CU_ASSERT_EQUAL(lcb_foreach_seen(lcb, at, put_seen, out), 0);
    CU_ASSERT_EQUAL(lcb_foreach_script(lcb, at, put_script, out), 0);
    CU_ASSERT_EQUAL(lcb_foreach_quota(lcb, at, put_quota, out), 0);
    CU_ASSERT_EQUAL(lcb_foreach_annotation(lcb, at, put_annotation, out), 0);
}

/* What was so, is so for ever at its position. */
static void test_past(void)
{
    enum { STEPS = 60 };
    struct lcbtest_history h;
    struct past past[STEPS] = {{.at = 0}};
    struct buf now = BUF_INITIALIZER;
    struct lcbtest t;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *lcb = lcbtest_joe(&t);
    lcbtest_start(&h, 21);
    for (int i = 0; i < STEPS; i++) {
        CU_ASSERT_EQUAL(lcbtest_step(&h, lcb), 0);
        if (lcbtest_draw(&h, 3) == 0)
            CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
        past[i].at = LCB_POS(lcb->df.seq, lcb->df.lines);
        say(lcb, LCB_NOW, &past[i].said);
    }
    for (int i = 0; i < STEPS; i++) {
        say(lcb, past[i].at, &now);
        CU_ASSERT(lcbtest_same(&now, &past[i].said, "the past"));
        buf_free(&past[i].said);
    }
    buf_free(&now);
    lcb_close(&lcb);
    lcbtest_fini(&t);
}

/* ---- times ---- */

/* The state of a second is the last one it had; that of a second without lines the one before. */
static void test_times(void)
{
    enum { STEPS = 80 };
    struct lcbtest_history h;
    struct past past[STEPS] = {{.at = 0}};
    struct buf now = BUF_INITIALIZER;
    struct lcbtest t;
    int64_t at, begin, time;
    int n = 0;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *lcb = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcb_history_begin(lcb, &begin, &time), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_history_at(lcb, lcbtest_time(), &at), XERR_NOTFOUND);
    lcbtest_start(&h, 22);
    for (int i = 0; i < STEPS; i++) {
        CU_ASSERT_EQUAL(lcbtest_step(&h, lcb), 0);
        if (lcbtest_draw(&h, 3) == 0)
            CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
        if (!n || past[n - 1].at != lcb->df.last_time)
            past[n++].at = lcb->df.last_time;
        say(lcb, LCB_NOW, &past[n - 1].said);
        lcbtest_settime(lcb->df.last_time); /* or it would stand still whenever the clock steps back */
    }
    CU_ASSERT(n > STEPS / 3);
    CU_ASSERT_EQUAL(lcb_history_begin(lcb, &begin, &time), 0);
    CU_ASSERT_EQUAL(time, past[0].at);
    CU_ASSERT_EQUAL(lcb_history_at(lcb, past[0].at - 1, &at), XERR_NOTFOUND);
    for (int i = 0; i < n; i++) {
        int64_t to = i + 1 < n ? past[i + 1].at : past[i].at + 3;
        for (time = past[i].at; time < to; time++) {
            CU_ASSERT_EQUAL(lcb_history_at(lcb, time, &at), 0);
            CU_ASSERT_EQUAL(at == LCB_NOW, i + 1 == n);
            say(lcb, at, &now);
            CU_ASSERT(lcbtest_same(&now, &past[i].said, "a second"));
        }
        buf_free(&past[i].said);
    }
    buf_free(&now);
    lcb_close(&lcb);
    lcbtest_fini(&t);
}

/* After a compaction history begins with the state that was written down, at its time. */
static void test_begin(void)
{
    struct lcbtest t;
    int64_t start, at, begin, time;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *lcb = lcbtest_joe(&t);
    start = lcbtest_time();
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_EQUAL(lcbtest_log(lcb, i % 2 ? "UNSUB" : "SUB", "%(USERID joe MBOXNAME a)"), 0);
        CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
        lcbtest_settime(lcbtest_time() + 100);
    }
    CU_ASSERT_EQUAL(lcb_index_sethistory(lcb->index, LCB_POS(3, 0)), 0);
    CU_ASSERT_EQUAL(lcb_history_begin(lcb, &begin, &time), 0);
    CU_ASSERT_EQUAL(begin, LCB_POS(3, 0));
    CU_ASSERT_EQUAL(time, start + 100);
    CU_ASSERT_EQUAL(lcb_history_at(lcb, start + 99, &at), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_history_at(lcb, start + 100, &at), 0);
    CU_ASSERT_EQUAL(at, LCB_POS(3, 0));
    CU_ASSERT_EQUAL(lcb_history_at(lcb, start + 199, &at), 0);
    CU_ASSERT_EQUAL(at, LCB_POS(3, 0));
    CU_ASSERT_EQUAL(lcb_history_at(lcb, start + 200, &at), 0);
    CU_ASSERT_EQUAL(at, LCB_POS(4, 0));
    CU_ASSERT_EQUAL(lcb_history_at(lcb, start + 300, &at), 0);
    CU_ASSERT_EQUAL(at, LCB_NOW);
    /* as a damaged index may say */
    CU_ASSERT_EQUAL(sqldb_exec(lcb->index->db, "UPDATE ticks SET pos=-pos"), 0);
    CU_ASSERT_EQUAL(lcb_history_at(lcb, start + 50, &at), XERR_FORMAT);
    lcb_close(&lcb);
    lcbtest_fini(&t);
}

void suite_lcb_history(void);
void suite_lcb_history(void)
{
    static const struct unit_test tests[] = {
        {"rebuild equals live", test_rebuild},
        {"the past", test_past},
        {"times", test_times},
        {"the beginning", test_begin},
        {NULL, NULL},
    };
    unit_suite("lcb_history", tests);
}
