/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of backup/lcb_compact_idle: whenever it is remembered that there is nothing to do, a plan made
 * at that moment finds nothing to do. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_compact_int.h"
#include "backup/lcb_verify.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { DAY = 86400 };

static struct lcbtest t;
static char *path;

static void start(const char *options)
{
    lcbtest_init(&t, options);
    lcbtest_open(&t, NULL);
    path = NULL;
}

static void end(void)
{
    free(path);
    lcbtest_close(&t);
    lcbtest_fini(&t);
}

static int compact(int64_t now)
{
    struct lcb_compact how = {.userid = "joe", .now = now};
    struct lcb_compact_result result;
    return lcb_compact(t.store, &how, &result);
}

static struct lcb *open_joe(void)
{
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &b), 0);
    return b;
}

static struct lcb_compact_account remembered, found;

static int known(int64_t now)
{
    struct lcb *b = open_joe();
    int r = lcb_idle_known(b, now, &remembered);
    lcb_close(&b);
    return r;
}

/* What a plan says that nobody remembers. */
static int idle(int64_t now)
{
    struct lcb_plan p = {.b = NULL};
    struct lcb *b = open_joe();
    CU_ASSERT_EQUAL_FATAL(lcb_plan_make(&p, b, now), 0);
    lcb_close(&b);
    found = p.account;
    return lcb_plan_idle(&p);
}

/* Dead text as an estimate has it, which does not always look at all rows. */
static uint64_t estimated(int64_t now, uint64_t *text)
{
    struct lcb_compact_account a;
    struct lcb *b = open_joe();
    CU_ASSERT_EQUAL_FATAL(lcb_compact_estimate(b, now, &a), 0);
    lcb_close(&b);
    *text = a.text;
    return a.text_dead;
}

static void steps(struct lcbtest_history *h, int n)
{
    struct lcb *b = lcbtest_joe(&t);
    for (int i = 0; i < n; i++) {
        unsigned pause = lcbtest_draw(h, 6);
        CU_ASSERT_EQUAL_FATAL(lcbtest_step(h, b), 0);
        if (pause == 1) /* something that is never in a mailbox */
            CU_ASSERT_EQUAL_FATAL(lcbtest_upload(b, 5000000 + h->steps, 0), 0);
        lcbtest_settime(lcbtest_time() + (pause < 4 ? 3 : pause == 4 ? 4000 : 30000));
    }
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    lcb_close(&b);
}

/* ---- whenever it is remembered ---- */

struct seen {
    long known, busy; /* moments at which it was remembered; at which there was something to do */
    long whole;       /* at which nothing was dead, and it was not remembered */
};

/* At many moments, some before now. The note must never say more than a plan does. */
static void ask_often(struct lcbtest_history *h, int64_t now, struct seen *seen)
{
    for (int i = 0; i < 12; i++) {
        int64_t at = now - 5000 + (int64_t)i * i * 4000 + lcbtest_draw(h, 700);
        int said = known(at), is = idle(at);
        if (said && !is)
            CU_FAIL("it is remembered that there is nothing to do, and there is");
        if (said && (remembered.text != found.text || remembered.text_dead != found.text_dead))
            CU_FAIL("it is remembered wrongly how much text there is");
        uint64_t text, dead = estimated(at, &text);
        if (text != found.text || dead != found.text_dead)
            CU_FAIL("an estimate is not what a plan counts");
        seen->whole += !said && !dead;
        seen->known += said == 1;
        seen->busy += !is;
    }
}

static void one_history(unsigned seed, const char *options, struct seen *seen)
{
    struct lcbtest_history h;
    start(options);
    lcbtest_start(&h, seed);
    for (int round = 0; round < 4; round++) {
        steps(&h, 12);
        int64_t now = lcbtest_time();
        ask_often(&h, now, seen);
        int r = compact(now);
        CU_ASSERT(r == LCB_COMPACT_DONE || r == LCB_COMPACT_SKIPPED);
        if (r == LCB_COMPACT_DONE)
            r = compact(now);
        CU_ASSERT_EQUAL(r, LCB_COMPACT_SKIPPED);
        CU_ASSERT_EQUAL(known(now), 1);
        ask_often(&h, now, seen);
        CU_ASSERT_EQUAL(known(now), 1);
    }
    end();
}

static void test_histories(void)
{
    static const char *const options[] = {
        "backup_retention: 2d\n", "backup_retention: 12h\nbackup_compact_work_threshold: 3\n",
        "backup_retention: 0\n", "backup_retention: 3d\nbackup_compact_work_threshold: 2\n",
        "backup_retention: 1d\nbackup_compact_minsize: 2K\nbackup_compact_maxsize: 8K\n",
    };
    struct seen seen = {0, 0, 0};
    for (unsigned seed = 1; seed <= 5; seed++)
        one_history(seed, options[seed % 5], &seen);
    CU_ASSERT(seen.known > 15);
    CU_ASSERT(seen.busy > 30);
    CU_ASSERT(seen.whole > 15);
}

/* ---- an estimate does not look at all rows if nothing ended ---- */

static void change(const char *sql)
{
    char *index = xasprintf("%s.index", path);
    struct sqldb *db = NULL;
    CU_ASSERT_EQUAL_FATAL(sqldb_open(index, 0, 1000, &db), 0);
    CU_ASSERT_EQUAL_FATAL(sqldb_exec(db, sql), 0);
    sqldb_close(&db);
    free(index);
}

/* All that is there still holds, and there is something of everything. */
static void leave_present(void)
{
    change("DELETE FROM folder_states WHERE until IS NOT NULL;"
           "DELETE FROM folders WHERE id NOT IN (SELECT folder FROM folder_states);"
           "DELETE FROM records WHERE until IS NOT NULL OR expunged"
           " OR folder NOT IN (SELECT id FROM folders);"
           "DELETE FROM contents WHERE id NOT IN (SELECT content FROM records);"
           "DELETE FROM subs; DELETE FROM seens; DELETE FROM scripts; DELETE FROM active;"
           "DELETE FROM quotas; DELETE FROM annots;"
           "INSERT INTO subs SELECT 'x', min(pos), NULL FROM ticks;"
           "INSERT INTO seens SELECT 'x', min(pos), NULL, 1, 1, 1, '1' FROM ticks;"
           "INSERT INTO scripts SELECT 'x', min(pos), NULL, 1, x'00', x'00' FROM ticks;"
           "INSERT INTO active SELECT min(pos), NULL, 'x' FROM ticks;"
           "INSERT INTO quotas SELECT 'x', min(pos), NULL, x'00' FROM ticks;"
           "INSERT INTO annots SELECT 'x', 'x', 'x', min(pos), NULL, x'00' FROM ticks");
}

static void check_estimate(int64_t now, int dead, const char *what)
{
    uint64_t text, got = estimated(now, &text);
    idle(now);
    if (text != found.text || got != found.text_dead || !got != !dead) {
        printf("\n%s: %llu, a plan says %llu\n", what, (unsigned long long)got,
               (unsigned long long)found.text_dead);
        CU_FAIL("an estimate is not what a plan counts");
    }
}

static void test_estimate(void)
{
#define ENDS(table) {"UPDATE " table " SET until=since+1", "UPDATE " table " SET until=NULL"}
#define ONE " WHERE id=(SELECT max(id) FROM records)"
    static const struct {
        const char *end, *undo;
    } rows[] = {
        ENDS("folder_states"), ENDS("subs"), ENDS("seens"), ENDS("scripts"), ENDS("active"),
        ENDS("quotas"), ENDS("annots"),
        /* a second record of the same content */
        {"INSERT INTO records SELECT 9999, folder, 9999, since, since+1, 1, 1, 1, 1, content, 0, flags,"
         " NULL, NULL FROM records" ONE, "DELETE FROM records WHERE id=9999"},
        {"INSERT INTO records SELECT 9999, folder, 9999, since, NULL, 1, 1, 1, 1, content, 1, flags,"
         " NULL, NULL FROM records" ONE, "DELETE FROM records WHERE id=9999"},
        {"INSERT INTO records SELECT 9999, 9999, 9999, since, NULL, 1, 1, 1, 1, content, 0, flags,"
         " NULL, NULL FROM records" ONE, "DELETE FROM records WHERE id=9999"},
        {"INSERT INTO contents SELECT 9999, x'0123', min(chunk), 0, 1000 FROM contents",
         "DELETE FROM contents WHERE id=9999"},
    };
    struct lcbtest_history h;
    start("backup_retention: 1d\n");
    lcbtest_start(&h, 78);
    steps(&h, 30);
    path = lcbtest_path(&t);
    leave_present();
    int64_t later = lcbtest_time() + 10 * DAY;
    check_estimate(later, 0, "all of it");
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        change(rows[i].end);
        check_estimate(later, 1, rows[i].end);
        change(rows[i].undo);
        check_estimate(later, 0, rows[i].undo);
    }
    end();
}

/* ---- what makes an end of it ---- */

/* A backup in which there is nothing to do until something leaves the window. */
static void settle(const char *options)
{
    struct lcbtest_history h;
    start(options);
    lcbtest_start(&h, 77);
    steps(&h, 20);
    int r = compact(lcbtest_time());
    if (r == LCB_COMPACT_DONE)
        r = compact(lcbtest_time());
    CU_ASSERT_EQUAL(r, LCB_COMPACT_SKIPPED);
    CU_ASSERT_EQUAL_FATAL(known(lcbtest_time()), 1);
    CU_ASSERT_EQUAL(known(lcbtest_time() - 1), 0); /* nobody made a plan then */
    path = lcbtest_path(&t);
}

static void test_commit(void)
{
    settle("backup_retention: 2d\n");
    int64_t now = lcbtest_time();
    struct lcb *b = lcbtest_joe(&t);
    lcb_close(&b);
    CU_ASSERT_EQUAL(known(now), 1); /* it was only opened */
    b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe.new)"), 0);
    CU_ASSERT_EQUAL(known(now), 1);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(known(now), 0);
    end();
}

/* A program that does not know of the note has written. */
static void test_stranger(void)
{
    char note[300], sql[400];
    settle("backup_retention: 2d\n");
    int64_t now = lcbtest_time();
    struct lcb *b = open_joe();
    sqlite3_stmt *st = sqldb_stmt(b->index->db, "SELECT value FROM meta WHERE key='idle'");
    CU_ASSERT_EQUAL_FATAL(sqldb_step(b->index->db, st), 1);
    snprintf(note, sizeof(note), "%s", (const char *)sqlite3_column_text(st, 0));
    sqlite3_reset(st);
    lcb_close(&b);
    b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe.new)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    snprintf(sql, sizeof(sql), "INSERT OR REPLACE INTO meta VALUES ('idle','%s')", note);
    CU_ASSERT_EQUAL(sqldb_exec(b->index->db, sql), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(known(now), 0);
    end();
}

/* Rows change, and the data file does not. */
static void test_rows(void)
{
    struct message_guid guid = {{0}};
    settle("backup_retention: 2d\n");
    int64_t now = lcbtest_time();
    struct lcb *b = lcbtest_joe(&t);
    sqlite3_stmt *st = sqldb_stmt(b->index->db, "SELECT guid FROM contents WHERE chunk IS NOT NULL");
    CU_ASSERT_EQUAL_FATAL(sqldb_step(b->index->db, st), 1);
    memcpy(guid.value, sqlite3_column_blob(st, 0), MESSAGE_GUID_LEN);
    sqlite3_reset(st);
    CU_ASSERT_EQUAL(lcb_forget_content(b, &guid), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(known(now), 0);
    CU_ASSERT(compact(now) >= 0);
    CU_ASSERT_EQUAL(known(now), 1);
    lcbtest_rmindex(path);
    b = lcbtest_joe(&t);
    lcb_close(&b);
    CU_ASSERT_EQUAL(known(now), 0);
    end();
}

/* To have been verified changes nothing. */
static void test_verified(void)
{
    settle("backup_retention: 2d\n");
    int64_t now = lcbtest_time();
    struct lcb *b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcb_verify_note(b, now, LCB_VERIFIED_OK), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT value FROM meta WHERE key='verified_time'"), now);
    CU_ASSERT_EQUAL(known(now), 1);
    end();
}

/* What is asked for by another configuration. */
static void test_options(void)
{
    static const char *const others[] = {
        "backup_retention: 1d\n", "backup_retention: 2d\nbackup_compact_work_threshold: 7\n",
        "backup_retention: 2d\nbackup_compact_minsize: 9K\n",
        "backup_retention: 2d\nbackup_compact_maxsize: 9K\n",
    };
    settle("backup_retention: 2d\n");
    int64_t now = lcbtest_time();
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        struct lcbtest other;
        struct lcb *b = NULL;
        lcbtest_init(&other, others[i]);
        lcbtest_open(&other, NULL);
        CU_ASSERT_EQUAL_FATAL(lcb_open_file(other.store, path, 0, 0, &b), 0);
        CU_ASSERT_EQUAL(lcb_idle_known(b, now, NULL), 0);
        lcb_close(&b);
        lcbtest_close(&other);
        lcbtest_fini(&other);
    }
    CU_ASSERT_EQUAL(known(now), 1);
    end();
}

/* Somebody has written since the plan was begun: then it is not remembered. */
static void test_overtaken(void)
{
    settle("backup_retention: 2d\n");
    int64_t now = lcbtest_time(), n;
    struct lcb *reader = open_joe();
    struct lcb_plan p = {.b = NULL};
    CU_ASSERT_EQUAL(lcb_plan_make(&p, reader, now), 0);
    CU_ASSERT(lcb_plan_idle(&p));
    CU_ASSERT_EQUAL(sqldb_exec(reader->index->db, "BEGIN"), 0);
    CU_ASSERT_EQUAL(sqldb_int(reader->index->db, &n, "SELECT count(*) FROM records", ""), 0);
    struct lcb *b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcb_index_begin(b->index), 0);
    CU_ASSERT_EQUAL(sqldb_exec(b->index->db, "UPDATE folders SET mark=1"), 0);
    CU_ASSERT_EQUAL(lcb_index_commit(b->index), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(known(now), 0);
    lcb_idle_remember(&p);
    CU_ASSERT_EQUAL(sqldb_exec(reader->index->db, "COMMIT"), 0);
    lcb_close(&reader);
    CU_ASSERT_EQUAL(known(now), 0);
    end();
}

/* A note of another form, or cut, is none. */
static void test_garbage(void)
{
    settle("backup_retention: 2d\n");
    int64_t now = lcbtest_time();
    struct lcb *b = lcbtest_joe(&t);
    char note[300], wrong[300];
    sqlite3_stmt *st = sqldb_stmt(b->index->db, "SELECT value FROM meta WHERE key='idle'");
    CU_ASSERT_EQUAL_FATAL(sqldb_step(b->index->db, st), 1);
    snprintf(note, sizeof(note), "%s", (const char *)sqlite3_column_text(st, 0));
    sqlite3_reset(st);
    lcb_close(&b);
    size_t n = strlen(note), times = (size_t)(strrchr(note, ' ') - note);
    for (size_t i = 0; i <= times; i++) {
        snprintf(wrong, sizeof(wrong), "%.*s", (int)i, note);
        b = lcbtest_joe(&t);
        CU_ASSERT_EQUAL(sqldb_run(b->index->db, "UPDATE meta SET value=? WHERE key='idle'", "t",
                                  wrong), 0);
        CU_ASSERT_EQUAL(sqldb_exec(b->index->db, "COMMIT"), 0);
        b->index->transaction = 0;
        lcb_close(&b);
        CU_ASSERT_EQUAL(known(now), 0);
    }
    CU_ASSERT(n > 40);
    end();
}

void suite_lcb_idle(void);
void suite_lcb_idle(void)
{
    static const struct unit_test tests[] = {
        {"histories", test_histories}, {"commit", test_commit},       {"stranger", test_stranger},
        {"rows", test_rows},           {"verified", test_verified},   {"options", test_options},
        {"overtaken", test_overtaken}, {"garbage", test_garbage},
        {"estimate", test_estimate},   {NULL, NULL},
    };
    unit_suite("lcb_idle", tests);
}
