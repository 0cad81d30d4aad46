/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of a promise: cost follows the change, not the backup. SQLite counts what each statement did;
 * no clock is asked. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/lcbtest_foreign.h"
#include "cunit/unit.h"
#include "lib/gzmember.h"
#include "lib/vfs_fault.h"

/* UNUSER ends all that holds. */
static int all_ends(sqlite3_stmt *st)
{
    const char *sql = sqlite3_sql(st), *where = strstr(sql, " SET until=? WHERE until IS NULL");
    return where && !where[strlen(" SET until=? WHERE until IS NULL")];
}

/* What all statements of B that are kept did since they were asked last. SHOW: print those that did
 * anything. */
static int work(struct lcb *b, int what, int show)
{
    int all = 0;
    for (sqlite3_stmt *st = NULL; (st = sqlite3_next_stmt(b->index->db->db, st)) != NULL;) {
        int n = sqlite3_stmt_status(st, what, 1);
        if (what == SQLITE_STMTSTATUS_FULLSCAN_STEP && all_ends(st))
            continue;
        if (n && show)
            printf("\n%d: %s\n", n, sqlite3_sql(st));
        all += n;
    }
    return all;
}

static void test_no_scans(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    lcbtest_start(&h, 5);
    for (int i = 0; i < 300; i++) {
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
        if (i % 5 == 0)
            CU_ASSERT_EQUAL(lcb_commit(b), 0);
    }
    CU_ASSERT_EQUAL(work(b, SQLITE_STMTSTATUS_FULLSCAN_STEP, 1), 0);
    CU_ASSERT(work(b, SQLITE_STMTSTATUS_VM_STEP, 0) > 10000);
    lcb_close(&b);
    lcbtest_fini(&t);
}

/* Change number N of one thing. */
static void change(struct lcb *b, int what, unsigned n)
{
    const char *records[2] = {NULL, NULL};
    char text[200], guid[41];
    snprintf(guid, sizeof(guid), "%040x", n);
    switch (what) {
    case 0:
        snprintf(text, sizeof(text), "%%(USERID joe UNIQUEID u1 LASTREAD %u LASTUID 6 LASTCHANGE %u"
                                     " SEENUIDS 1:6)", n, n);
        CU_ASSERT_EQUAL(lcbtest_log(b, "SEEN", text), 0);
        break;
    case 1:
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME a.script LAST_UPDATE %u CONTENT x)", n);
        CU_ASSERT_EQUAL(lcbtest_log(b, "SIEVE", text), 0);
        break;
    case 2:
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME a%u.bc)", n % 2);
        CU_ASSERT_EQUAL(lcbtest_log(b, "ACTIVATE_SIEVE", text), 0);
        break;
    case 3:
        snprintf(text, sizeof(text), "%%(ROOT user.joe STORAGE %u)", n);
        CU_ASSERT_EQUAL(lcbtest_log(b, "QUOTA", text), 0);
        break;
    case 4:
        snprintf(text, sizeof(text), "%%(MBOXNAME \"\" ENTRY /a USERID joe VALUE %u)", n);
        CU_ASSERT_EQUAL(lcbtest_log(b, "ANNOTATION", text), 0);
        break;
    case 5:
        CU_ASSERT_EQUAL(lcbtest_log(b, n % 2 ? "UNSUB" : "SUB",
                                    "%(USERID joe MBOXNAME user.a)"), 0);
        break;
    case 6:
        snprintf(text, sizeof(text), "%%(OLDMBOXNAME user.joe.f%u NEWMBOXNAME user.joe.f%u"
                                     " PARTITION default UIDVALIDITY 5)", n, n + 1);
        CU_ASSERT_EQUAL(lcbtest_log(b, "RENAME", text), 0);
        break;
    case 7:
        records[0] = lcbtest_record(1, n + 9, n % 2 ? "\\Seen" : "", guid);
        CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("u2", "user.joe.g", 1, n + 9, ""),
                                        records, NULL), 0);
        break;
    case 8:
        snprintf(text, sizeof(text), "w%u", n % 2);
        CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(text, "user.joe.w", 1, n + 9, ""), NULL,
                                        NULL), 0);
        break;
    }
}

enum { KINDS = 9, EARLY = 12, LATE = 400 };

/* The four hundredth change of a thing costs what the twelfth did. */
static void test_history(void)
{
    struct lcbtest t;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("u1", "user.joe.f0", 1, 5, ""), NULL, NULL), 0);
    for (int what = 0; what < KINDS; what++) {
        int early = 0, late = 0;
        for (unsigned n = 0; n < LATE; n++) {
            work(b, SQLITE_STMTSTATUS_VM_STEP, 0);
            change(b, what, n);
            if (n == EARLY || n == EARLY + 1)
                early += work(b, SQLITE_STMTSTATUS_VM_STEP, 0);
            if (n == LATE - 1 || n == LATE - 2)
                late += work(b, SQLITE_STMTSTATUS_VM_STEP, 0);
        }
        if (late > early + early / 2)
            printf("\nchange of kind %d: %d steps at first, %d at last\n", what, early, late);
        CU_ASSERT(early > 0);
        CU_ASSERT(late <= early + early / 2);
    }
    lcb_close(&b);
    lcbtest_fini(&t);
}

/* ---- the past ---- */

enum { PAST_RECORDS = 2000, PAST_CHANGED = 600, PAST_LINE = 50, PAST_STATES = 400 };

static int count_steps(void *rock)
{
    ++*(int *)rock;
    return 0;
}

static int ignore_record(void *rock, const struct lcb_record *r)
{
    (void)r;
    ++*(int *)rock;
    return 0;
}

/* Dozens of steps of all statements, kept or not. */
static void begin_counting(struct lcb *b, int *steps)
{
    *steps = 0;
    sqlite3_progress_handler(b->index->db->db, 20, count_steps, steps);
}

static int listing(struct lcb *b, int64_t at)
{
    int steps, n = 0;
    begin_counting(b, &steps);
    CU_ASSERT_EQUAL(lcb_foreach_record(b, 1, at, ignore_record, &n), 0);
    sqlite3_progress_handler(b->index->db->db, 0, NULL, NULL);
    CU_ASSERT_EQUAL(n, PAST_RECORDS);
    return steps;
}

static void send_flags(struct lcb *b, unsigned first, unsigned step, unsigned modseq, const char *flags)
{
    const char *records[PAST_LINE + 1];
    char guid[41];
    for (unsigned i = 0; i < PAST_LINE; i++) {
        snprintf(guid, sizeof(guid), "%040x", first + i * step);
        records[i] = lcbtest_record(first + i * step, modseq, flags, guid);
    }
    records[PAST_LINE] = NULL;
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("u1", "user.joe", PAST_RECORDS, modseq, ""),
                                    records, NULL), 0);
}

/* A state of the past, of whose records three in ten have changed since, costs at most three times
 * what the present one does; and so does one of whose mailbox there are hundreds of states. */
static void test_past(void)
{
    struct lcbtest t;
    struct lcb_folder f;
    struct buf strings = BUF_INITIALIZER;
    int steps;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    for (unsigned uid = 1; uid <= PAST_RECORDS; uid += PAST_LINE)
        send_flags(b, uid, 1, 5, "");
    int64_t then = lcb_position(b) - 1;
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    for (unsigned i = 0; i < PAST_CHANGED; i += PAST_LINE)
        send_flags(b, 1 + i * PAST_RECORDS / PAST_CHANGED, PAST_RECORDS / PAST_CHANGED, 6 + i,
                   "\\Seen");
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    int now = listing(b, LCB_NOW), past = listing(b, then);
    if (past > 3 * now)
        printf("\npresent %d, past %d\n", now, past);
    CU_ASSERT(now > PAST_RECORDS / 4);
    CU_ASSERT(past <= 3 * now);
    for (unsigned i = 0; i < PAST_STATES; i++)
        CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("u1", "user.joe", PAST_RECORDS, 9000 + i, ""),
                                        NULL, NULL), 0);
    begin_counting(b, &steps);
    CU_ASSERT_EQUAL(lcb_find_name_at(b, then, "user.joe", &f, &strings), 0);
    sqlite3_progress_handler(b->index->db->db, 0, NULL, NULL);
    CU_ASSERT(steps < 10);
    CU_ASSERT_EQUAL(f.highestmodseq, 5);
    buf_free(&strings);
    lcb_close(&b);
    lcbtest_fini(&t);
}

enum { MESSAGES = 300 };

static int collect(void *rock, const void *p, size_t n)
{
    buf_appendmap(rock, p, n);
    return 0;
}

static int read_one(struct lcb *b, unsigned n)
{
    struct buf want = BUF_INITIALIZER, got = BUF_INITIALIZER;
    struct message_guid guid;
    lcbtest_message(n, &want, &guid);
    int r = lcb_read_content(b, &guid, collect, &got);
    int same = !r && !buf_cmp(&want, &got);
    buf_free(&want);
    buf_free(&got);
    return same;
}

/* A chunk of Cyrus 3.x is as large as what a client sent in one go. To read all messages in it costs
 * little more than it does once; WHOLE or not. */
static void one_large_chunk(int whole)
{
    struct lcbtest t;
    struct cyrus_member m;
    struct buf data = BUF_INITIALIZER, text = BUF_INITIALIZER, line = BUF_INITIALIZER;
    struct message_guid guid;
    struct lcb *b = NULL;
    char path[300], hex[41];
    lcbtest_init(&t, "");
    snprintf(path, sizeof(path), "%s/pat_AbCdEf", t.dir);
    cyrus_begin(&m, &data);
    cyrus_line(&m, LCB_CHUNK_START);
    for (unsigned n = 0; n < MESSAGES; n++) {
        lcbtest_message(7 * n + 3, &text, &guid);
        message_guid_encode(&guid, hex);
        buf_reset(&line);
        buf_printf(&line, "1600000000 APPLY MESSAGE (%%{default %s %zu}\r\n", hex, text.len);
        buf_append(&line, &text);
        buf_appendcstr(&line, ")\r\n");
        cyrus_text(&m, line.s, line.len);
        cyrus_line(&m, "");
    }
    cyrus_finish(&m);
    if (!whole)
        data.len -= GZ_END_LEN;
    lcbtest_write(path, data.s, data.len);
    struct vfs *v = vfs_fail_new(VFS_FAULT_ALL, 0, 0, 0);
    lcbtest_open(&t, v);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(t.store, path, 0, 0, &b), 0);
    long long before = vfs_fault_bytesread(v);
    for (unsigned n = 0; n < MESSAGES; n++)
        CU_ASSERT(read_one(b, 7 * n + 3));
    CU_ASSERT(vfs_fault_bytesread(v) - before < 2 * (long long)data.len);
    for (unsigned n = MESSAGES; n > MESSAGES - 4; n--) /* back again, and the same twice */
        CU_ASSERT(read_one(b, 7 * (n - 1) + 3) && read_one(b, 7 * (n - 1) + 3));
    lcb_close(&b);
    lcbtest_fini(&t);
    vfs_fault_free(&v);
    buf_free(&data);
    buf_free(&text);
    buf_free(&line);
}

static void test_large_chunk(void)
{
    one_large_chunk(1);
    one_large_chunk(0);
}

void suite_lcb_cost(void);
void suite_lcb_cost(void)
{
    static const struct unit_test tests[] = {
        {"no statement scans a table", test_no_scans},
        {"messages of a large chunk", test_large_chunk},
        {"history costs nothing", test_history},
        {"the past costs little more", test_past},
        {NULL, NULL},
    };
    unit_suite("lcb_cost", tests);
}
