/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of compaction: every state within the window is as before, nothing from before it comes back,
 * and what need not stay is gone. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static int compact(struct lcbtest *t, int force, struct lcb_compact_result *result)
{
    struct lcb_compact how = {.userid = "joe", .force = force};
    struct lcb_compact_result unused;
    int r = lcb_compact(t->store, &how, result ? result : &unused);
    if (r < 0)
        printf("\ncompact: %s\n%s", error_message(r), lcbtest_log_text());
    return r;
}

static void steps(struct lcbtest *t, struct lcbtest_history *h, int n)
{
    struct lcb *b = lcbtest_joe(t);
    for (int i = 0; i < n; i++) {
        CU_ASSERT_EQUAL_FATAL(lcbtest_step(h, b), 0);
        lcbtest_settime(lcbtest_time() + 3); /* it steps back now and then */
        if (lcbtest_draw(h, 3) == 0)
            CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    }
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    lcb_close(&b);
}

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? -1 : st.st_size;
}

/* ---- histories drawn at random ---- */

/* The same history with compactions in between and without: the states are the same, in the window of
 * the last one, and so is what a new index says. */
static void one_history(unsigned seed, int retention, const char *options, int big)
{
    struct buf states[2] = {BUF_INITIALIZER, BUF_INITIALIZER};
    char what[100], extra[300];
    snprintf(what, sizeof(what), "history %u, %d s, %s", seed, retention, options);
    snprintf(extra, sizeof(extra), "backup_retention: %ds\n%s", retention, options);
    for (int i = 0; i < 2; i++) {
        struct lcbtest t;
        struct lcbtest_history h;
        lcbtest_init(&t, extra);
        lcbtest_open(&t, NULL);
        lcbtest_start(&h, seed);
        h.big = big;
        int64_t from = lcbtest_time();
        for (int round = 0; round < 4; round++) {
            steps(&t, &h, 50);
            if (retention > 0 && lcbtest_time() - retention > from)
                from = lcbtest_time() - retention;
            if (i)
                CU_ASSERT_EQUAL_FATAL(compact(&t, 1, NULL), LCB_COMPACT_DONE);
        }
        char *path = lcbtest_path(&t);
        lcbtest_states(path, &t, from, &states[i]);
        if (i)
            lcbtest_compare(&t, path, what);
        steps(&t, &h, 20);
        lcbtest_states(path, &t, from, &states[i]);
        CU_ASSERT(!lcbtest_logged("cannot be understood"));
        free(path);
        lcbtest_fini(&t);
    }
    CU_ASSERT(states[0].len > 1000);
    CU_ASSERT(lcbtest_same(&states[1], &states[0], what));
    buf_free(&states[0]);
    buf_free(&states[1]);
}

static void test_histories(void)
{
    for (unsigned seed = 1; seed <= 5; seed++)
        one_history(seed, 40 * (int)seed, "", 0);
    one_history(7, 0, "", 0);
    one_history(8, 1, "", 0);
    one_history(9, 100000, "", 0);
}

static void test_sizes(void)
{
    one_history(11, 60, "backup_compact_minsize: 2K\n", 0);
    one_history(12, 60, "backup_compact_minsize: 1K\nbackup_compact_maxsize: 3K\n", 0);
    one_history(13, 60, "backup_compact_maxsize: 1K\n", 0);
    one_history(14, 60, "backup_compact_minsize: 2K\nbackup_compact_maxsize: 1K\n", 0);
}

static void test_big(void)
{
    one_history(21, 60, "", 1);
}

/* ---- again and again ---- */

static void test_fixed_point(void)
{
    for (unsigned seed = 31; seed < 34; seed++) {
        struct lcbtest t;
        struct lcbtest_history h;
        struct lcb_compact_result result;
        lcbtest_init(&t, "backup_retention: 60s\n");
        lcbtest_open(&t, NULL);
        CU_ASSERT_EQUAL(compact(&t, 0, NULL), XERR_NOTFOUND);
        lcbtest_start(&h, seed);
        steps(&t, &h, 200);
        CU_ASSERT_EQUAL(compact(&t, 0, &result), LCB_COMPACT_DONE);
        CU_ASSERT(result.account.work > 1);
        CU_ASSERT(result.account.messages_dead > 0);
        CU_ASSERT(result.account.versions_dead > 0);
        CU_ASSERT(result.new_size < result.old_size);
        char *path = lcbtest_path(&t);
        CU_ASSERT_EQUAL(size_of(path), (off_t)result.new_size);
        CU_ASSERT_EQUAL(compact(&t, 0, &result), LCB_COMPACT_SKIPPED);
        CU_ASSERT_EQUAL(result.account.work, 0);
        CU_ASSERT_EQUAL(result.new_size, 0);
        CU_ASSERT_EQUAL(size_of(path), (off_t)result.old_size);
        /* Forced, it gives the same once more. */
        CU_ASSERT_EQUAL(compact(&t, 1, &result), LCB_COMPACT_DONE);
        CU_ASSERT(result.new_size <= result.old_size);
        uint64_t size = result.new_size;
        CU_ASSERT_EQUAL(compact(&t, 1, &result), LCB_COMPACT_DONE);
        CU_ASSERT_EQUAL(result.new_size, size);
        free(path);
        lcbtest_fini(&t);
    }
}

static void test_threshold(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct lcb_compact how = {.userid = "joe", .dry_run = 1};
    struct lcb_compact_result result;
    lcbtest_init(&t, "backup_retention: 60s\nbackup_compact_work_threshold: 100000\n");
    lcbtest_open(&t, NULL);
    lcbtest_start(&h, 35);
    steps(&t, &h, 200);
    char *path = lcbtest_path(&t);
    CU_ASSERT_EQUAL(lcb_compact(t.store, &how, &result), LCB_COMPACT_SKIPPED);
    CU_ASSERT_EQUAL(result.account.threshold, 100000);
    CU_ASSERT_EQUAL(compact(&t, 0, &result), LCB_COMPACT_SKIPPED);
    how.force = 1;
    CU_ASSERT_EQUAL(lcb_compact(t.store, &how, &result), LCB_COMPACT_DONE);
    char *same = lcbtest_path(&t);
    CU_ASSERT_STRING_EQUAL(path, same); /* only told */
    CU_ASSERT_EQUAL(compact(&t, 1, &result), LCB_COMPACT_DONE);
    free(path);
    free(same);
    lcbtest_fini(&t);
}

/* The user is gone, and so is the time to bring him back. */
static void test_empty(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    lcbtest_init(&t, "backup_retention: 60s\n");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    lcb_close(&b);
    CU_ASSERT_EQUAL(compact(&t, 0, NULL), LCB_COMPACT_SKIPPED); /* nothing as yet */
    lcbtest_start(&h, 36);
    steps(&t, &h, 40);
    b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_log(b, "UNUSER", "joe"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_settime(lcbtest_time() + 30);
    CU_ASSERT_EQUAL(compact(&t, 1, NULL), LCB_COMPACT_DONE);
    char *path = lcbtest_path(&t);
    lcbtest_settime(lcbtest_time() + 90000);
    CU_ASSERT_EQUAL(compact(&t, 1, NULL), LCB_COMPACT_EMPTY);
    CU_ASSERT(size_of(path) > 0);
    free(path);
    lcbtest_fini(&t);
}

/* ---- one thing at a time ---- */

static void upload(struct lcb *b, unsigned n, char hex[41])
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    lcbtest_message(n, &text, &guid);
    message_guid_encode(&guid, hex);
    buf_free(&text);
    CU_ASSERT_EQUAL(lcbtest_upload(b, n, 0), 0);
}

static void mailbox(struct lcb *b, const char *id, const char *name, unsigned modseq,
                    const char *record)
{
    const char *records[2] = {record, NULL};
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 9, modseq, ""), records, NULL), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_settime(lcbtest_time() + 1);
}

static void line(struct lcb *b, const char *verb, const char *value)
{
    CU_ASSERT_EQUAL(lcbtest_log(b, verb, value), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_settime(lcbtest_time() + 1);
}

static int has_guid(const char *path, const char *hex)
{
    char sql[200];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM contents WHERE chunk NOT NULL AND"
             " lower(hex(guid))='%s'", hex);
    return (int)lcbtest_int(path, sql);
}

/* Mailboxes that go, come, change names; messages that go; what must stay and what must not. */
static void test_window(void)
{
    struct lcbtest t;
    struct buf was = BUF_INITIALIZER, is = BUF_INITIALIZER;
    char gone[41], old[41], there[41], back[41], expunged[41], unused[41], young[41];
    lcbtest_init(&t, "backup_retention: 2d\n");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    upload(b, 1, gone);
    upload(b, 2, old);
    upload(b, 4, there);
    upload(b, 5, back);
    upload(b, 6, expunged);
    upload(b, 7, unused);
    mailbox(b, "gone", "user.joe.gone", 5, lcbtest_record(1, 5, "", gone));
    mailbox(b, "old", "user.joe.old", 5, lcbtest_record(1, 5, "", old));
    mailbox(b, "old", "user.joe.old", 6, lcbtest_record(1, 6, "\\Expunged", old));
    mailbox(b, "a", "user.joe.a", 5, lcbtest_record(1, 5, "\\Seen", there));
    mailbox(b, "b", "user.joe.b", 5, lcbtest_record(1, 5, "", expunged));
    mailbox(b, "back", "user.joe.back", 5, lcbtest_record(1, 5, "\\Flagged", back));
    line(b, "UNMAILBOX", "user.joe.gone");
    line(b, "UNMAILBOX", "user.joe.back");
    line(b, "SUB", "%(USERID joe MBOXNAME user.joe.gone)");
    line(b, "SUB", "%(USERID joe MBOXNAME user.joe.a)");
    line(b, "UNSUB", "%(USERID joe MBOXNAME user.joe.gone)");
    line(b, "SIEVE", "%(USERID joe FILENAME x.script LAST_UPDATE 5 CONTENT {6}\r\nke\r\nep)");
    line(b, "ACTIVATE_SIEVE", "%(USERID joe FILENAME x.bc)");
    lcbtest_settime(lcbtest_time() + 300000);
    int64_t from = lcbtest_time() - 100000;
    upload(b, 8, young);
    /* Two names are swapped; a script ends; a message is expunged; a mailbox is back as it was. */
    line(b, "RENAME", "%(OLDMBOXNAME user.joe.a NEWMBOXNAME user.joe.c PARTITION p UIDVALIDITY 1)");
    line(b, "RENAME", "%(OLDMBOXNAME user.joe.b NEWMBOXNAME user.joe.a PARTITION p UIDVALIDITY 2)");
    line(b, "RENAME", "%(OLDMBOXNAME user.joe.c NEWMBOXNAME user.joe.b PARTITION p UIDVALIDITY 3)");
    line(b, "UNSIEVE", "%(USERID joe FILENAME x.script)");
    line(b, "UNSUB", "%(USERID joe MBOXNAME user.joe.a)");
    mailbox(b, "b", "user.joe.a", 6, lcbtest_record(1, 6, "\\Expunged", expunged));
    mailbox(b, "back", "user.joe.back", 5, NULL);
    char *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_states(path, &t, lcbtest_time() - 20, &was);
    struct lcb *reader = NULL;
    CU_ASSERT_EQUAL(lcb_open(t.store, "joe", 0, 0, &reader), 0);
    CU_ASSERT_EQUAL(lcbtest_state(reader, from, &was), 0);
    lcb_close(&reader);
    CU_ASSERT_EQUAL_FATAL(compact(&t, 1, NULL), LCB_COMPACT_DONE);
    free(path);
    path = lcbtest_path(&t);
    lcbtest_states(path, &t, lcbtest_time() - 20, &is);
    CU_ASSERT_EQUAL(lcb_open(t.store, "joe", 0, 0, &reader), 0);
    CU_ASSERT_EQUAL(lcbtest_state(reader, from, &is), 0);
    /* Nothing happened between these lines and the window. */
    CU_ASSERT_EQUAL(lcbtest_state(reader, 1700000005, &is), XERR_NOTFOUND);
    lcb_close(&reader);
    CU_ASSERT(lcbtest_same(&is, &was, "the window"));
    CU_ASSERT(!has_guid(path, gone));
    CU_ASSERT(!has_guid(path, old));
    CU_ASSERT(!has_guid(path, unused));
    CU_ASSERT(has_guid(path, there));
    CU_ASSERT(has_guid(path, back));
    CU_ASSERT(has_guid(path, expunged));
    CU_ASSERT(has_guid(path, young));
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM folders WHERE uniqueid='gone'"), 0);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM records WHERE expunged"), 1);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM subs WHERE mboxname LIKE '%gone'"), 0);
    lcbtest_compare(&t, path, "the window, index");
    free(path);
    buf_free(&was);
    buf_free(&is);
    lcbtest_fini(&t);
}

void suite_lcb_compact(void);
void suite_lcb_compact(void)
{
    static const struct unit_test tests[] = {
        {"the window", test_window},
        {"histories", test_histories},
        {"chunk sizes", test_sizes},
        {"big messages", test_big},
        {"a fixed point", test_fixed_point},
        {"threshold", test_threshold},
        {"empty", test_empty},
        {NULL, NULL},
    };
    unit_suite("lcb_compact", tests);
}
