/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of imap/mboxname and imap/message_guid. */
#include "config.h"

#include <string.h>

#include "cunit/unit.h"
#include "imap/mboxname.h"
#include "imap/message_guid.h"
#include "lib/xerr.h"

static const struct mboxname_rules slash = {"defdom.org", "DELETED", 1};
static const struct mboxname_rules dot = {"internal", "GONE", 0};

static void owner(const struct mboxname_rules *rules, const char *name, const char *userid,
                  int deleted)
{
    struct buf b = BUF_INITIALIZER;
    buf_setcstr(&b, "rubbish");
    mboxname_to_userid(rules, name, &b);
    UNIT_STR(buf_cstring(&b), userid);
    CU_ASSERT_EQUAL(mboxname_isdeleted(rules, name), deleted);
    buf_free(&b);
}

static void test_owner(void)
{
    owner(&slash, "user.joe", "joe", 0);
    owner(&slash, "user.joe.Work.2024", "joe", 0);
    owner(&slash, "user.john^doe", "john.doe", 0);
    owner(&slash, "user.j^d.a^b.c", "j.d", 0);
    owner(&slash, "example.com!user.bob.x", "bob@example.com", 0);
    owner(&slash, "DELETED.user.gina.foo.5F000000", "gina", 1);
    owner(&slash, "DELETED.user.gina.5F000000", "gina", 1);
    owner(&slash, "example.com!DELETED.user.hugo.5F000001", "hugo@example.com", 1);
    owner(&slash, "defdom.org!user.ivan", "ivan", 0);
    owner(&slash, "internal!user.ivan", "ivan@internal", 0);
    owner(&dot, "internal!user.ivan", "ivan", 0);
    owner(&dot, "defdom.org!user.ivan", "ivan@defdom.org", 0);
    owner(&slash, "shared.folder", MBOXNAME_SHARED, 0);
    owner(&slash, "example.com!shared2", MBOXNAME_SHARED, 0);
    owner(&slash, "DELETED.shared.x.5F000000", MBOXNAME_SHARED, 1);
    owner(&slash, "user", MBOXNAME_SHARED, 0);
    owner(&slash, "DELETED.user.jane", MBOXNAME_SHARED, 1);
    owner(&slash, "user.&AOk-t&AOk-", "&AOk-t&AOk-", 0);
    owner(&dot, "GONE.user.a.b.1", "a", 1);
    owner(&dot, "DELETED.user.a.b.1", MBOXNAME_SHARED, 0);
}

static void test_owner_odd(void)
{
    owner(&slash, "", MBOXNAME_SHARED, 0);
    owner(&slash, "!", MBOXNAME_SHARED, 0);
    owner(&slash, "user.", MBOXNAME_SHARED, 0);
    owner(&slash, "user..x", MBOXNAME_SHARED, 0);
    owner(&slash, "!user.joe", "joe", 0);
    owner(&slash, "a!b!user.joe", MBOXNAME_SHARED, 0);
    owner(&slash, "DELETED..", MBOXNAME_SHARED, 1);
    owner(&slash, "DELETED.x", MBOXNAME_SHARED, 0);
    owner(&slash, "DELETED", MBOXNAME_SHARED, 0);
    owner(&slash, "DELETEDX.user.joe.1", MBOXNAME_SHARED, 0);
    owner(&slash, "DELETED.DELETED.user.joe.1.2", MBOXNAME_SHARED, 1);
    owner(&slash, "User.joe", MBOXNAME_SHARED, 0);
    owner(&slash, "user.\xc3\xa9", "\xc3\xa9", 0);
    owner(&slash, "user.^^.x", "..", 0);
}

static void canonical(const char *userid, size_t len, const char *expected)
{
    struct buf b = BUF_INITIALIZER;
    int e = mboxname_userid_canonical(&slash, userid, len, &b);
    CU_ASSERT_EQUAL(e, expected ? 0 : XERR_PARAM);
    if (expected)
        UNIT_STR(buf_cstring(&b), expected);
    buf_free(&b);
}

static void test_userid(void)
{
#define USERID(s, expected) canonical(s, sizeof(s) - 1, expected)
    USERID("joe", "joe");
    USERID("j.doe", "j.doe");
    USERID("joe@example.org", "joe@example.org");
    USERID("joe@defdom.org", "joe");
    USERID("joe@x@defdom.org", "joe@x");
    USERID("joe@defdom.org@x", "joe@defdom.org@x");
    USERID("joe@DEFDOM.org", "joe@DEFDOM.org");
    USERID("&AOk-", "&AOk-");
    USERID("j\xc3\xb6", "j\xc3\xb6");
    USERID(MBOXNAME_SHARED, MBOXNAME_SHARED);
    USERID("", NULL);
    USERID("@defdom.org", NULL);
    USERID("@x", NULL);
    USERID(".", NULL);
    USERID("..", NULL);
    USERID(".joe", NULL);
    USERID("..@defdom.org", NULL);
    USERID("a/b", NULL);
    USERID("/", NULL);
    USERID("a\0b", NULL);
    USERID("a\nb", NULL);
    USERID("a\x7f", NULL);
#undef USERID
    char big[1001];
    memset(big, 'a', sizeof(big));
    canonical(big, 1001, NULL);
    big[999] = 'a';
    struct buf b = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(mboxname_userid_canonical(&slash, big, 1000, &b), 0);
    CU_ASSERT_EQUAL(b.len, 1000);
    buf_free(&b);
}

/* EXTERNAL is INTERNAL and back again, unless BACK says otherwise. */
static void names(const struct mboxname_rules *rules, const char *external, const char *internal,
                  const char *back)
{
    struct buf b = BUF_INITIALIZER;
    mboxname_from_external(rules, external, &b);
    UNIT_STR(buf_cstring(&b), internal);
    mboxname_to_external(rules, internal, &b);
    UNIT_STR(buf_cstring(&b), back ? back : external);
    buf_free(&b);
}

static void test_external(void)
{
    names(&slash, "user/joe", "user.joe", NULL);
    names(&slash, "user/joe/Work", "user.joe.Work", NULL);
    names(&slash, "user/j.doe/v1.0", "user.j^doe.v1^0", NULL);
    names(&slash, "user/joe/Work@example.org", "example.org!user.joe.Work", NULL);
    names(&slash, "user/joe/Work@defdom.org", "user.joe.Work", "user/joe/Work");
    names(&slash, "DELETED/user/joe/x/6B0230B1", "DELETED.user.joe.x.6B0230B1", NULL);
    names(&slash, "shared.x", "shared^x", NULL);
    names(&slash, "shared", "shared", NULL);
    names(&slash, "user/a@b/c", "user.a@b.c", NULL);
    /* internal already */
    names(&slash, "user.joe.Work", "user.joe.Work", "user/joe/Work");
    names(&slash, "user.j^doe", "user.j^doe", "user/j.doe");
    names(&slash, "DELETED.user.joe.x.6B", "DELETED.user.joe.x.6B", "DELETED/user/joe/x/6B");
    names(&slash, "example.org!user.joe", "example.org!user.joe", "user/joe@example.org");
    names(&slash, "defdom.org!user.joe", "defdom.org!user.joe", "user/joe");
    names(&dot, "user.joe.Work", "user.joe.Work", NULL);
    names(&dot, "user.joe.a/b^c", "user.joe.a/b^c", NULL);
    names(&dot, "user.joe@example.org", "example.org!user.joe", NULL);
    names(&dot, "user.joe@internal", "user.joe", "user.joe");
    names(&dot, "", "", NULL);
}

static void test_guid(void)
{
    static const char hex[] = "a9993e364706816aba3e25717850c26c9cd0d89d";
    struct message_guid a, b;
    char text[41];
    message_guid_generate(&a, "abc", 3);
    message_guid_encode(&a, text);
    UNIT_STR(text, hex);
    static const char mail[] = "From: b@example.org\r\nTo: a@example.org\r\nSubject: re: hello\r\n"
                               "\r\nHi.\r\n";
    message_guid_generate(&b, mail, sizeof(mail) - 1);
    message_guid_encode(&b, text);
    UNIT_STR(text, "db21597f73f94856624427e8bd4664c204b83b60");
    CU_ASSERT_EQUAL(message_guid_decode(&b, "A9993E364706816ABA3E25717850C26C9CD0D89D", 40), 0);
    CU_ASSERT_EQUAL(message_guid_equal(&a, &b), 1);
    CU_ASSERT_EQUAL(message_guid_isnull(&a), 0);
    b.value[19] ^= 1;
    CU_ASSERT_EQUAL(message_guid_equal(&a, &b), 0);
    CU_ASSERT_EQUAL(message_guid_decode(&b, hex, 39), XERR_SYNTAX);
    CU_ASSERT_EQUAL(message_guid_decode(&b, hex, 41), XERR_SYNTAX);
    CU_ASSERT_EQUAL(message_guid_decode(&b, "g9993e364706816aba3e25717850c26c9cd0d89d", 40),
                    XERR_SYNTAX);
    CU_ASSERT_EQUAL(message_guid_decode(&b, "a9993e364706816aba3e25717850c26c9cd0d89/", 40),
                    XERR_SYNTAX);
    CU_ASSERT_EQUAL(message_guid_decode(&b, "0000000000000000000000000000000000000000", 40), 0);
    CU_ASSERT_EQUAL(message_guid_isnull(&b), 1);
}

void suite_mboxname(void);
void suite_mboxname(void)
{
    static const struct unit_test tests[] = {
        {"owners", test_owner},    {"owners of odd names", test_owner_odd},
        {"user ids", test_userid}, {"external names", test_external},
        {"GUIDs", test_guid},      {NULL, NULL},
    };
    unit_suite("mboxname", tests);
}
