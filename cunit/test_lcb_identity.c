/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of what a backup knows of names and identities, and of what must not be lost with its
 * index: names that two masters share, marks, content that cannot be read. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"

static struct lcbtest t;
static struct lcb *b;

static void start(void)
{
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    b = lcbtest_joe(&t);
}

static void stop(void)
{
    lcb_close(&b);
    lcbtest_fini(&t);
}

/* Close the backup and open it again, REBUILD: without its index. */
static void again(int rebuild)
{
    char *path = lcbtest_path(&t);
    lcb_close(&b);
    if (rebuild)
        lcbtest_rmindex(path);
    b = lcbtest_joe(&t);
    free(path);
}

/* A MAILBOX of UNIQUEID as backupd logs it: what had the name is ended in the same commit. */
static int box(const char *uniqueid, const char *name)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    char was[64] = "";
    int r = lcb_find_name(b, name, &f, &strings);
    if (!r && strcmp(f.uniqueid, uniqueid)) {
        snprintf(was, sizeof(was), "%s", f.uniqueid);
        CU_ASSERT_EQUAL(lcbtest_log(b, "UNMAILBOX", name), 0);
    }
    buf_free(&strings);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(uniqueid, name, 0, 1, ""), NULL, NULL), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    return *was ? lcb_report_replaced(b, name, was, uniqueid) : 0;
}

static void log_and_commit(const char *verb, const char *value)
{
    CU_ASSERT_EQUAL(lcbtest_log(b, verb, value), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
}

static void two_masters(int reopen, int rebuild)
{
    start();
    for (int i = 0; i < 6; i++) {
        int reported = box(i % 2 ? "two" : "one", "user.joe.X");
        CU_ASSERT_EQUAL(reported, i >= 3);
        if (reopen)
            again(rebuild);
    }
    CU_ASSERT(lcbtest_logged("user.joe.X: the mailbox of this name was two and is one now, the 4th"));
    CU_ASSERT(lcbtest_logged("user.joe.X: the mailbox of this name was one and is two now, the 3th"));
    CU_ASSERT_EQUAL(box("other", "user.joe.Y"), 0);
    CU_ASSERT_EQUAL(box("another", "user.joe.Y"), 0);
    lcbtest_compare(&t, lcb_path(b), "two masters");
    stop();
}

static void test_two_masters(void)
{
    two_masters(0, 0);
    two_masters(1, 0);
    two_masters(1, 1);
}

/* What the client said itself begins a new count. */
static void test_one_master(void)
{
    char id[16];
    start();
    for (int i = 0; i < 9; i++) { /* deleted and made again, which was told */
        snprintf(id, sizeof(id), "id%d", i);
        CU_ASSERT_EQUAL(box(id, "user.joe.X"), 0);
        log_and_commit("UNMAILBOX", "user.joe.X");
    }
    for (int i = 0; i < 9; i++) { /* and what was not told in between */
        snprintf(id, sizeof(id), "more%d", i);
        CU_ASSERT_EQUAL(box(id, "user.joe.X"), 0);
        if (i % 3 == 2)
            log_and_commit("UNMAILBOX", "user.joe.X");
    }
    for (int i = 0; i < 9; i++) { /* renamed away */
        char value[128];
        snprintf(id, sizeof(id), "ren%d", i);
        CU_ASSERT_EQUAL(box(id, "user.joe.R"), 0);
        snprintf(value, sizeof(value), "%%(OLDMBOXNAME user.joe.R NEWMBOXNAME user.joe.R%d PARTITION"
                 " default UIDVALIDITY 7)", i);
        log_and_commit("RENAME", value);
    }
    for (int i = 0; i < 9; i++) { /* the user was deleted */
        snprintf(id, sizeof(id), "user%d", i);
        CU_ASSERT_EQUAL(box(id, "user.joe.U"), 0);
        log_and_commit("UNUSER", "joe");
    }
    CU_ASSERT(!lcbtest_logged("do two servers"));
    lcbtest_compare(&t, lcb_path(b), "one master");
    stop();
}

static enum lcb_mark mark_of(const char *uniqueid)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.mark = 99};
    CU_ASSERT_EQUAL(lcb_find_uniqueid(b, uniqueid, &f, &strings), 0);
    buf_free(&strings);
    return f.mark;
}

/* Mailbox "good" has the checksum that its records have, "bad" another one, "any" none. */
static void make_three(void)
{
    const char *records[2] = {NULL, NULL};
    struct message_guid guid;
    struct buf text = BUF_INITIALIZER;
    char hex[41], header[4096], number[32];
    uint32_t crc;
    lcbtest_message(1, &text, &guid);
    message_guid_encode(&guid, hex);
    buf_free(&text);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1, 0), 0);
    records[0] = lcbtest_record(1, 2, "", hex);
    const char *const ids[] = {"good", "bad", "any"};
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof(name), "user.joe.%s", ids[i]);
        snprintf(header, sizeof(header), "%s", lcbtest_header(ids[i], name, 1, 2, ""));
        CU_ASSERT_EQUAL(lcbtest_mailbox(b, header, records, &crc), 0);
        char *at = strstr(header, "SYNC_CRC "), *end = strstr(header, " SYNC_CRC_ANNOT");
        char rest[2048];
        snprintf(rest, sizeof(rest), "%s", i == 2 ? strstr(end + 1, " ") + 9 : end);
        snprintf(number, sizeof(number), "SYNC_CRC %u", i == 2 ? 0 : i == 1 ? crc ^ 1 : crc);
        snprintf(at, sizeof(header) - (size_t)(at - header), "%s%s", number, rest);
        CU_ASSERT_EQUAL(lcbtest_mailbox(b, header, NULL, NULL), 0);
    }
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
}

/* Doubt can be seen in the data; the rest comes back when the client repeats itself. */
static void test_marks(void)
{
    start();
    make_three();
    CU_ASSERT_EQUAL(mark_of("bad"), LCB_MARK_NONE); /* accepted */
    again(0);
    CU_ASSERT_EQUAL(mark_of("bad"), LCB_MARK_NONE);
    CU_ASSERT_EQUAL(lcb_setmark(b, "bad", LCB_MARK_DOUBT), 0);
    CU_ASSERT_EQUAL(lcb_setmark(b, "good", LCB_MARK_RESEND), 0);
    again(0);
    CU_ASSERT_EQUAL(mark_of("bad"), LCB_MARK_DOUBT);
    CU_ASSERT_EQUAL(mark_of("good"), LCB_MARK_RESEND);
    again(1);
    CU_ASSERT_EQUAL(mark_of("bad"), LCB_MARK_DOUBT);
    CU_ASSERT_EQUAL(mark_of("good"), LCB_MARK_NONE);
    CU_ASSERT_EQUAL(mark_of("any"), LCB_MARK_NONE);
    stop();
}

/* Content whose chunk is damaged is found out when a promise is to be kept, then asked for again,
 * with all that was in the chunk. */
static void test_damaged_content(void)
{
    struct message_guid guid[2];
    struct buf text = BUF_INITIALIZER;
    int64_t start_of;
    start();
    make_three();
    lcbtest_message(1, &text, &guid[0]);
    lcbtest_message(2, &text, &guid[1]);
    CU_ASSERT_EQUAL(lcb_check_content(b, &guid[1]), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 2, 0), 0);
    CU_ASSERT_EQUAL(lcb_check_content(b, &guid[1]), 1); /* not even written */
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    again(0);
    CU_ASSERT_EQUAL(lcb_check_content(b, &guid[1]), 1);
    start_of = lcbtest_int(lcb_path(b), "SELECT start FROM chunks WHERE seq=1");
    int fd = open(lcb_path(b), O_RDWR);
    CU_ASSERT_EQUAL(pwrite(fd, "\xff\xff\xff\xff", 4, start_of + 60), 4);
    close(fd);
    CU_ASSERT_EQUAL(lcb_check_content(b, &guid[0]), XERR_FORMAT);
    CU_ASSERT_EQUAL(lcb_check_content(b, &guid[1]), 1);
    CU_ASSERT_EQUAL(lcb_forget_content(b, &guid[0]), 0);
    CU_ASSERT(lcbtest_logged("chunk 1 is damaged: what was in it will be asked for again"));
    CU_ASSERT_EQUAL(lcb_check_content(b, &guid[0]), 0);
    CU_ASSERT_EQUAL(lcb_has_content(b, &guid[0], NULL), 0);
    CU_ASSERT_EQUAL(mark_of("good"), LCB_MARK_CONTENT);
    CU_ASSERT_EQUAL(mark_of("any"), LCB_MARK_CONTENT);
    CU_ASSERT_EQUAL(lcb_has_content(b, &guid[1], NULL), 1);
    again(0);
    CU_ASSERT_EQUAL(mark_of("good"), LCB_MARK_CONTENT);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1, 0), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    CU_ASSERT_EQUAL(lcb_check_content(b, &guid[0]), 1);
    buf_free(&text);
    stop();
}

/* A mailbox that is gone can still be found, as it was last. */
static void test_find_last(void)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    start();
    CU_ASSERT_EQUAL(lcb_find_last(b, "one", &f, &strings), XERR_NOTFOUND);
    box("one", "user.joe.X");
    CU_ASSERT_EQUAL(lcb_find_last(b, "one", &f, &strings), 0);
    CU_ASSERT_EQUAL(f.deleted, 0);
    int64_t position = lcb_position(b);
    CU_ASSERT(f.since <= position);
    log_and_commit("UNMAILBOX", "user.joe.X");
    CU_ASSERT_EQUAL(lcb_find_uniqueid(b, "one", &f, &strings), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_find_last(b, "one", &f, &strings), 0);
    UNIT_STR(f.mboxname, "user.joe.X");
    CU_ASSERT_EQUAL(f.deleted, lcbtest_time());
    CU_ASSERT_EQUAL(lcb_time(b, f.since), lcbtest_time());
    box("one", "user.joe.Z");
    CU_ASSERT_EQUAL(lcb_find_last(b, "one", &f, &strings), 0);
    UNIT_STR(f.mboxname, "user.joe.Z");
    CU_ASSERT(f.since > position);
    buf_free(&strings);
    stop();
}

void suite_lcb_identity(void);
void suite_lcb_identity(void)
{
    static const struct unit_test tests[] = {
        {"two masters share a name", test_two_masters},
        {"one master does not", test_one_master},
        {"marks and rebuilding", test_marks},
        {"damaged content", test_damaged_content},
        {"mailboxes that are gone", test_find_last},
        {NULL, NULL},
    };
    unit_suite("lcb_identity", tests);
}
