/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of the index of a new backup: its first transaction has no journal on the disk, so what a dead
 * process leaves must be known for what it is. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static const char message_count[] = "SELECT count(*) FROM contents";

/* Mailbox "u1" with message N. */
static int mailbox_with(struct lcb *b, unsigned n)
{
    const char *records[2] = {NULL, NULL};
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    char hex[41];
    lcbtest_message(n, &text, &guid);
    message_guid_encode(&guid, hex);
    records[0] = lcbtest_record(1, 2, "", hex);
    buf_free(&text);
    return lcbtest_mailbox(b, lcbtest_header("u1", "user.joe", 1, 2, ""), records, NULL);
}

static int uploads(struct lcb *b, unsigned from, unsigned to)
{
    int r = 0;
    for (unsigned n = from; n < to && !r; n++)
        r = lcbtest_upload(b, n, 0);
    return r;
}

static void test_usual(void)
{
    struct lcbtest t;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b));
    CU_ASSERT_EQUAL(uploads(b, 1, 10), 0);
    CU_ASSERT_EQUAL(lcbtest_int(path, "PRAGMA application_id"), LCB_INDEX_UNSETTLED);
    CU_ASSERT_EQUAL(mailbox_with(b, 5), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    CU_ASSERT_EQUAL(lcbtest_int(path, "PRAGMA application_id"), LCB_INDEX_ID);
    CU_ASSERT_EQUAL(lcbtest_int(path, message_count), 9);
    lcbtest_compare(&t, path, "first transaction");
    CU_ASSERT_EQUAL(uploads(b, 10, 20), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    CU_ASSERT_EQUAL(b->index->wal, 1);
    lcbtest_compare(&t, path, "second transaction");
    lcb_close(&b);
    CU_ASSERT(!lcbtest_logged("index"));
    free(path);
    lcbtest_fini(&t);
}

/* The second one of a process begins with the image that the first one made. */
static void test_second_user(void)
{
    struct lcbtest t;
    struct lcb *b[3];
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    for (int i = 0; i < 3; i++) {
        char userid[8];
        snprintf(userid, sizeof(userid), "u%d", i);
        CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, userid, LCB_WRITE | LCB_CREATE, 0, &b[i]), 0);
        CU_ASSERT_EQUAL(uploads(b[i], 1, 3 + (unsigned)i), 0);
    }
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(mailbox_with(b[i], 1), 0);
        CU_ASSERT_EQUAL(lcb_commit(b[i]), 0);
        CU_ASSERT_EQUAL(lcbtest_int(lcb_path(b[i]), message_count), 2 + i);
        lcbtest_compare(&t, lcb_path(b[i]), "one of three");
        lcb_close(&b[i]);
    }
    lcbtest_fini(&t);
}

static void test_rollback(void)
{
    struct lcbtest t;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b));
    CU_ASSERT_EQUAL(uploads(b, 1, 3000), 0);
    CU_ASSERT_EQUAL(mailbox_with(b, 5), 0);
    CU_ASSERT_EQUAL(lcb_rollback(b), 0);
    CU_ASSERT_EQUAL(uploads(b, 7, 9), 0);
    CU_ASSERT_EQUAL(lcb_savepoint(b), 0);
    CU_ASSERT_EQUAL(uploads(b, 9, 50), 0);
    CU_ASSERT_EQUAL(mailbox_with(b, 20), 0);
    CU_ASSERT_EQUAL(lcb_savepoint_rollback(b), 0);
    CU_ASSERT_EQUAL(mailbox_with(b, 7), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(path, message_count), 2);
    lcbtest_compare(&t, path, "after a rollback");
    free(path);
    lcbtest_fini(&t);
}

/* A process dies in its first transaction, when some pages of it are in the file already. */
static void test_died(void)
{
    struct lcbtest t;
    int status = 0;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    pid_t pid = fork();
    if (!pid) {
        struct lcb *b = lcbtest_joe(&t);
        _exit(uploads(b, 1, 30000) ? 1 : 42);
    }
    CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    char *path = lcbtest_path(&t);
    CU_ASSERT_PTR_NOT_NULL_FATAL(path);
    char *index = xasprintf("%s.index", path);
    struct stat st = {.st_size = 0};
    CU_ASSERT_EQUAL(stat(index, &st), 0);
    CU_ASSERT(st.st_size > 1 << 20);

    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &b), 0); /* a reader sees to it */
    lcb_close(&b);
    CU_ASSERT(lcbtest_logged("was not completed: making it again"));
    CU_ASSERT_EQUAL(lcbtest_int(path, message_count), 0);
    b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(uploads(b, 1, 3), 0);
    CU_ASSERT_EQUAL(mailbox_with(b, 1), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(path, message_count), 2);
    lcbtest_compare(&t, path, "after a death");
    free(index);
    free(path);
    lcbtest_fini(&t);
}

/* Committed and synced, but not marked as whole. */
static void test_not_marked(void)
{
    struct lcbtest t;
    char *said = NULL;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b)), *index = xasprintf("%s.index", path);
    CU_ASSERT_EQUAL(uploads(b, 1, 10), 0);
    CU_ASSERT_EQUAL(mailbox_with(b, 5), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    sqlite3 *db;
    CU_ASSERT_EQUAL_FATAL(sqlite3_open(index, &db), SQLITE_OK);
    said = sqlite3_mprintf("PRAGMA application_id=%d; UPDATE contents SET size=1", LCB_INDEX_UNSETTLED);
    CU_ASSERT_EQUAL(sqlite3_exec(db, said, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_free(said);
    sqlite3_close(db);

    b = lcbtest_joe(&t);
    CU_ASSERT(lcbtest_logged("was not completed: making it again"));
    CU_ASSERT_EQUAL(uploads(b, 10, 12), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(path, message_count), 11);
    lcbtest_compare(&t, path, "not marked");
    CU_ASSERT(!lcbtest_logged("setting it aside"));
    free(index);
    free(path);
    lcbtest_fini(&t);
}

/* A reader while it is being filled is told so, as ever. */
static void test_reader(void)
{
    struct lcbtest t;
    struct lcb *reader = NULL;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(uploads(b, 1, 10), 0);
    CU_ASSERT_EQUAL(lcb_open(t.store, "joe", 0, 0, &reader), XERR_LOCKED);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &reader), 0);
    lcb_close(&reader);
    lcb_close(&b);
    lcbtest_fini(&t);
}

/* Before there is so much of it that a savepoint would take much memory, it is committed. */
static void test_outgrown(void)
{
    struct lcbtest t;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b)), *wal = xasprintf("%s.index-wal", path);
    CU_ASSERT_EQUAL(uploads(b, 1, 9000), 0);
    CU_ASSERT_EQUAL(lcb_savepoint(b), 0);
    CU_ASSERT_EQUAL(lcb_savepoint_release(b), 0);
    CU_ASSERT_EQUAL(b->index->fresh, 1);
    CU_ASSERT_EQUAL(uploads(b, 9000, 21000), 0);
    CU_ASSERT_EQUAL(lcb_savepoint(b), 0);
    CU_ASSERT_EQUAL(lcbtest_int(path, "PRAGMA application_id"), LCB_INDEX_ID);
    CU_ASSERT_EQUAL(lcbtest_int(path, message_count), 20999);
    CU_ASSERT_EQUAL(mailbox_with(b, 5), 0);
    CU_ASSERT_EQUAL(lcb_savepoint_rollback(b), 0);
    CU_ASSERT_EQUAL(mailbox_with(b, 6), 0);
    CU_ASSERT_NOT_EQUAL(access(wal, F_OK), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_compare(&t, path, "outgrown");
    CU_ASSERT_EQUAL(uploads(b, 21000, 21002), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    CU_ASSERT_EQUAL(access(wal, F_OK), 0);
    lcb_close(&b);
    free(wal);
    free(path);
    lcbtest_fini(&t);
}

/* What an index left that was removed is not taken for part of the new one. */
static void test_leftovers(void)
{
    struct lcbtest t;
    struct lcbtest_index old;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b)), *wal = xasprintf("%s.index-wal", path);
    for (unsigned n = 1; n < 5; n++)
        CU_ASSERT(!lcbtest_upload(b, n, 0) && !lcb_commit(b));
    memset(&old, 0, sizeof(old));
    lcbtest_saveindex(path, &old);
    CU_ASSERT_FATAL(old.wal.len > 1000);
    lcb_close(&b);
    lcbtest_rmindex(path);
    lcbtest_write(path, "", 0);
    lcbtest_write(wal, old.wal.s, old.wal.len);
    b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(uploads(b, 7, 9), 0);
    CU_ASSERT_EQUAL(mailbox_with(b, 7), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(path, message_count), 2);
    lcbtest_compare(&t, path, "leftovers");
    lcbtest_freeindex(&old);
    free(wal);
    free(path);
    lcbtest_fini(&t);
}

void suite_lcb_newindex(void);
void suite_lcb_newindex(void)
{
    static const struct unit_test tests[] = {
        {"usual", test_usual},
        {"more than one", test_second_user},
        {"rollback", test_rollback},
        {"a process died", test_died},
        {"not marked as whole", test_not_marked},
        {"reader", test_reader},
        {"outgrown", test_outgrown},
        {"leftovers", test_leftovers},
        {NULL, NULL},
    };
    unit_suite("lcb_newindex", tests);
}
