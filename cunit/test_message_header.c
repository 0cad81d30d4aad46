/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of imap/message_header and imap/sync_reply. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "cunit/unit.h"
#include "imap/message_header.h"
#include "imap/sync_reply.h"
#include "lib/xerr.h"

/* All fields of the N bytes at MSG as "name=[value]". */
static void fields_are(const char *msg, size_t n, const char *expected)
{
    struct message_header h = {BUF_INITIALIZER, BUF_INITIALIZER};
    struct buf all = BUF_INITIALIZER;
    const char *p = msg, *end = msg + message_header_length(msg, n);
    while (message_header_next(&h, &p, end)) {
        buf_append(&all, &h.name);
        buf_appendcstr(&all, "=[");
        buf_append(&all, &h.value);
        buf_appendcstr(&all, "]");
    }
    CU_ASSERT_PTR_EQUAL(p, end);
    UNIT_STR(buf_cstring(&all), expected);
    buf_free(&all);
    message_header_fini(&h);
}
#define FIELDS(msg, expected) fields_are(msg, sizeof(msg) - 1, expected)

static void test_fields(void)
{
    FIELDS("From: a@example.org\r\nSUBJECT:  re: hello \t\r\n\r\nBody: x\r\n",
           "From=[a@example.org]SUBJECT=[re: hello]");
    FIELDS("A: one\r\n  two\r\n\tthree\r\nB:\r\n b\r\nC:\r\n\r\n", "A=[one  two\tthree]B=[b]C=[]");
    FIELDS("A: 1\nB: 2\n\nC: 3\n", "A=[1]B=[2]");
    FIELDS("A: 1\r\nB: 2", "A=[1]B=[2]");
    FIELDS("A: 1\r\n b\r", "A=[1 b]");
    FIELDS("A : 1\r\n", "A=[1]");
    FIELDS("A: 1\r\nA: 2\r\n", "A=[1]A=[2]");
    FIELDS("A: =?utf-8?Q?=C3=A9?= \xc3\xa9\r\n", "A=[=?utf-8?Q?=C3=A9?= \xc3\xa9]");
}

static void test_no_fields(void)
{
    FIELDS("", "");
    FIELDS("\r\nA: 1\r\n", "");
    FIELDS("\nA: 1\r\n", "");
    FIELDS(" folded: nothing\r\nA: 1\r\n", "A=[1]");
    FIELDS("From joe Mon Jan  1 00:00:00 2024\r\nA: 1\r\n", "A=[1]");
    FIELDS("garbage\r\n and more: x\r\nA: 1\r\n", "A=[1]");
    FIELDS(": empty name\r\n : x\r\nA: 1\r\n", "A=[1]");
    FIELDS("caf\xc3\xa9: 1\r\nA: 1\r\n", "A=[1]");
    FIELDS("A\0b: 1\r\nA: 1\r\n", "A=[1]");
    FIELDS("\r", "");
}

static void test_length(void)
{
    CU_ASSERT_EQUAL(message_header_length("A: 1\r\n\r\nx", 9), 6);
    CU_ASSERT_EQUAL(message_header_length("A: 1\n\nx", 7), 5);
    CU_ASSERT_EQUAL(message_header_length("A: 1\r\nB", 7), 7);
    CU_ASSERT_EQUAL(message_header_length("A: 1\r\n\r", 7), 7);
    CU_ASSERT_EQUAL(message_header_length("\r\n", 2), 0);
    CU_ASSERT_EQUAL(message_header_length("", 0), 0);
    CU_ASSERT_EQUAL(message_header_length("A: 1\r\n \r\nB: 2\r\n\r\n", 18), 15);
}

static void test_reply_text(void)
{
    UNIT_STR(sync_reply_text(0), "OK Success");
    UNIT_STR(sync_reply_text(SYNC_LOCKED), "NO IMAP_MAILBOX_LOCKED Mailbox locked");
    UNIT_STR(sync_reply_text(SYNC_CHANGED), "NO IMAP_SYNC_CHANGED Changed since last sync");
    UNIT_STR(sync_reply_text(SYNC_BAD_APPLY), "BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line");
    UNIT_STR(sync_reply_text(SYNC_LAST + 1), "NO Unknown error");
    UNIT_STR(sync_reply_text(XERR_LOCKED), "NO IMAP_MAILBOX_LOCKED Mailbox locked");
    UNIT_STR(sync_reply_text(XERR_BROKEN), "NO IMAP_MAILBOX_LOCKED Mailbox locked");
    UNIT_STR(sync_reply_text(-ENOSPC), "NO IMAP_MAILBOX_LOCKED Mailbox locked");
    UNIT_STR(sync_reply_text(XERR_NOTFOUND), "NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox");
    UNIT_STR(sync_reply_text(XERR_PARAM), "NO IMAP_PROTOCOL_BAD_PARAMETERS Bad parameters");
    UNIT_STR(sync_reply_text(XERR_SYNTAX), "BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line");
    UNIT_STR(sync_reply_text(XERR_TOOBIG), "NO IMAP_PROTOCOL_ERROR Protocol error");
    UNIT_STR(sync_reply_text(XERR_DENIED), "NO Permission denied");
    UNIT_STR(sync_reply_text(XERR_INTERNAL), "NO Unknown error");
}

/* Every line is read as what it was written for; text stands behind every first word and token. */
static void test_reply_parse(void)
{
    for (int code = 0; code <= SYNC_LAST; code++) {
        const char *text = sync_reply_text(code);
        int want = code == SYNC_NOT_AUTHENTICATED || code == SYNC_DENIED ? SYNC_INTERNAL : code;
        if (!strncmp(text, "BAD ", 4))
            want = SYNC_BAD_COMMAND;
        CU_ASSERT_EQUAL(sync_reply_parse(text), want);
        const char *space = strchr(text, ' ');
        CU_ASSERT_PTR_NOT_NULL_FATAL(space);
        CU_ASSERT(strncmp(space, " IMAP_", 6) || strchr(space + 1, ' '));
    }
    CU_ASSERT_EQUAL(sync_reply_parse("OK\r\n"), SYNC_OK);
    CU_ASSERT_EQUAL(sync_reply_parse("NO IMAP_SYNC_CHECKSUM\r\n"), SYNC_CHECKSUM);
    CU_ASSERT_EQUAL(sync_reply_parse("NO IMAP_SYNC_CHECKSUMS x"), SYNC_INTERNAL);
    CU_ASSERT_EQUAL(sync_reply_parse("NO IMAP_PERMISSION_DENIED Permission denied"), SYNC_DENIED);
    CU_ASSERT_EQUAL(sync_reply_parse("NO"), SYNC_INTERNAL);
    CU_ASSERT_EQUAL(sync_reply_parse("ok success"), XERR_SYNTAX);
    CU_ASSERT_EQUAL(sync_reply_parse("BYE shutting down"), XERR_SYNTAX);
    CU_ASSERT_EQUAL(sync_reply_parse(""), XERR_SYNTAX);
}

void suite_message_header(void);
void suite_message_header(void)
{
    static const struct unit_test tests[] = {
        {"fields", test_fields},
        {"lines that are none", test_no_fields},
        {"length of the header", test_length},
        {"texts of replies", test_reply_text},
        {"reading replies", test_reply_parse},
        {NULL, NULL},
    };
    unit_suite("message_header", tests);
}
