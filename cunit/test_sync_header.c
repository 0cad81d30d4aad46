/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of imap/sync_header. */
#include "config.h"

#include <string.h>

#include "cunit/unit.h"
#include "imap/sync_header.h"
#include "lib/xerr.h"

#define ACL "\"joe\tlrswipkxtecdan\t\""

/* Header of a 3.0 client. */
static const char old_text[] =
    "UNIQUEID kc4x07vvawsps1dwidx47ost MBOXNAME user.joe SYNC_CRC 1626628245 SYNC_CRC_ANNOT 0 "
    "LAST_UID 1 HIGHESTMODSEQ 2 RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 1700000000 "
    "POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 UIDVALIDITY 1699990000 PARTITION default ACL " ACL
    " OPTIONS P ANNOTATIONS (%(ENTRY /comment USERID \"\" VALUE \"shared comment\"))";

/* Header of a recent client. */
static const char new_text[] =
    "JMAPID P0001 UNIQUEID 2f6b0b1e-0c52-4b52-9f7e-0c7f1a2b3c4d MBOXNAME \"user.joe.A B\" MBOXTYPE "
    "f SYNC_CRC 1626628245 SYNC_CRC_ANNOT 1798274677 LAST_UID 1 HIGHESTMODSEQ 2 RECENTUID 3 "
    "RECENTTIME 4 LAST_APPENDDATE 1700000000 POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 XCONVMODSEQ 2 "
    "COMPACT_EMAILIDS 1 USERGROUPS \"group:staff\tgroup:all\" VERSION 20 UIDVALIDITY 1699990000 "
    "PARTITION default ACL " ACL " OPTIONS \"\" QUOTAROOT user.joe CREATEDMODSEQ 1 FOLDERMODSEQ 1 "
    "DELETEDMODSEQ 1 USERFLAGS ($Label1)";

static struct dlist_pool *pool;
static struct sync_header h;

static int parse(const char *text)
{
    dlist_pool_free(&pool);
    pool = dlist_pool_new(65536);
    return sync_header_parsetext(&h, pool, text, strlen(text));
}

static void finish(void)
{
    dlist_pool_free(&pool);
    memset(&h, 0, sizeof(h));
}

static void check_print(const char *expected, int literal)
{
    struct buf out = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(sync_header_print(&h, &out), literal);
    UNIT_STR(buf_cstring(&out), expected);
    buf_free(&out);
}

static void test_parse(void)
{
    CU_ASSERT_EQUAL(parse(old_text), 0);
    UNIT_STR(h.uniqueid, "kc4x07vvawsps1dwidx47ost");
    UNIT_STR(h.mboxname, "user.joe");
    CU_ASSERT_PTR_NULL(h.mboxtype);
    UNIT_STR(h.partition, "default");
    UNIT_STR(h.acl, "joe\tlrswipkxtecdan\t");
    UNIT_STR(h.options, "P");
    CU_ASSERT_PTR_NULL(h.quotaroot);
    CU_ASSERT_EQUAL(h.last_uid, 1);
    CU_ASSERT_EQUAL(h.highestmodseq, 2);
    CU_ASSERT_EQUAL(h.last_appenddate, 1700000000);
    CU_ASSERT_EQUAL(h.uidvalidity, 1699990000);
    CU_ASSERT_EQUAL(h.has_sync_crc, 1);
    CU_ASSERT_EQUAL(h.sync_crc, 1626628245);
    CU_ASSERT_EQUAL(h.has_sync_crc_annot, 1);
    CU_ASSERT_EQUAL(h.has_since, 0);
    CU_ASSERT_EQUAL(h.intermediate, 0);
    check_print(old_text, 0);
    CU_ASSERT_EQUAL(parse(new_text), 0);
    UNIT_STR(h.mboxname, "user.joe.A B");
    UNIT_STR(h.mboxtype, "f");
    UNIT_STR(h.options, "");
    UNIT_STR(h.quotaroot, "user.joe");
    CU_ASSERT_EQUAL(h.recentuid, 3);
    CU_ASSERT_EQUAL(h.recenttime, 4);
    check_print(new_text, 0);
    finish();
}

static void test_since(void)
{
    struct buf b = BUF_INITIALIZER;
    buf_printf(&b, "%s SINCE_MODSEQ 18446744073709551615 SINCE_CRC 5 SINCE_CRC_ANNOT 6 LATER x",
               old_text);
    CU_ASSERT_EQUAL(parse(buf_cstring(&b)), 0);
    CU_ASSERT_EQUAL(h.has_since, 1);
    CU_ASSERT_EQUAL(h.since_modseq, UINT64_MAX);
    CU_ASSERT_EQUAL(h.since_crc, 5);
    CU_ASSERT_EQUAL(h.since_crc_annot, 6);
    buf_printf(&b, " RECORD (%%(UID 1))");
    CU_ASSERT_EQUAL(parse(buf_cstring(&b)), 0);
    buf_setcstr(&b, old_text);
    buf_appendcstr(&b, " LATER x");
    check_print(buf_cstring(&b), 0);
    buf_free(&b);
    finish();
}

static void test_partial(void)
{
    CU_ASSERT_EQUAL(
        parse("UNIQUEID u MBOXNAME n SYNC_CRC 0 LAST_UID 8192 HIGHESTMODSEQ 9 RECENTUID "
              "0 RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 UIDVALIDITY 1 "
              "PARTITION p ACL \"\" OPTIONS \"\" MBOXTYPE NIL QUOTAROOT NIL"),
        0);
    CU_ASSERT_EQUAL(h.has_sync_crc, 1);
    CU_ASSERT_EQUAL(h.has_sync_crc_annot, 0);
    UNIT_STR(h.acl, "");
    CU_ASSERT_PTR_NULL(h.mboxtype);
    CU_ASSERT_PTR_NULL(h.quotaroot);
    finish();
}

static void test_short(void)
{
    CU_ASSERT_EQUAL(parse("UNIQUEID u MBOXNAME user.joe.A MBOXTYPE ei HIGHESTMODSEQ 12 "
                          "CREATEDMODSEQ 12 FOLDERMODSEQ 12"),
                    0);
    CU_ASSERT_EQUAL(h.intermediate, 1);
    CU_ASSERT_EQUAL(h.highestmodseq, 12);
    CU_ASSERT_EQUAL(parse("JMAPID j UNIQUEID u MBOXNAME user.joe.A MBOXTYPE d HIGHESTMODSEQ 12"),
                    0);
    CU_ASSERT_EQUAL(h.intermediate, 1);
    CU_ASSERT_EQUAL(parse("UNIQUEID u MBOXNAME user.joe.A HIGHESTMODSEQ 12"), XERR_PARAM);
    CU_ASSERT_EQUAL(parse("UNIQUEID u MBOXNAME user.joe.A MBOXTYPE c HIGHESTMODSEQ 12"),
                    XERR_PARAM);
    CU_ASSERT_EQUAL(parse("MBOXNAME user.joe.A MBOXTYPE i HIGHESTMODSEQ 12"), XERR_PARAM);
    finish();
}

/* Each mandatory key: left out, and with values that will not do. */
static void test_mandatory(void)
{
    static const struct {
        const char *item, *bad, *nil;
    } keys[] = {
        {"UNIQUEID u", "UNIQUEID (u)", "UNIQUEID NIL"},
        {"MBOXNAME n", "MBOXNAME \"\"", "MBOXNAME NIL"},
        {"LAST_UID 1", "LAST_UID -1", "LAST_UID NIL"},
        {"HIGHESTMODSEQ 2", "HIGHESTMODSEQ 18446744073709551616", "HIGHESTMODSEQ NIL"},
        {"RECENTUID 0", "RECENTUID x", "RECENTUID NIL"},
        {"RECENTTIME 0", "RECENTTIME ()", "RECENTTIME NIL"},
        {"LAST_APPENDDATE 0", "LAST_APPENDDATE 1.5", "LAST_APPENDDATE NIL"},
        {"POP3_LAST_LOGIN 0", "POP3_LAST_LOGIN \"\"", "POP3_LAST_LOGIN NIL"},
        {"UIDVALIDITY 1", "UIDVALIDITY %()", "UIDVALIDITY NIL"},
        {"PARTITION p", "PARTITION ()", "PARTITION NIL"},
        {"ACL \"\"", "ACL ()", "ACL NIL"},
        {"OPTIONS P", "OPTIONS ()", "OPTIONS NIL"},
        {"SYNC_CRC 1", "SYNC_CRC x", NULL},
        {"SYNC_CRC_ANNOT 1", "SYNC_CRC_ANNOT ()", NULL},
        {"SINCE_MODSEQ 1", "SINCE_MODSEQ x", "SINCE_MODSEQ NIL"},
        {"ANNOTATIONS ()", "ANNOTATIONS x", NULL},
        {"MBOXTYPE c", "MBOXTYPE (c)", NULL},
        {"QUOTAROOT q", "QUOTAROOT (q)", NULL},
    };
    enum { N = sizeof(keys) / sizeof(keys[0]), OPTIONAL = 12 };
    struct buf b = BUF_INITIALIZER;
    for (int wrong = -1; wrong < N; wrong++)
        for (int how = 0; how < 3; how++) {
            const char *instead = how == 0   ? ""
                                  : how == 1 ? keys[wrong < 0 ? 0 : wrong].bad
                                             : keys[wrong < 0 ? 0 : wrong].nil;
            int fine = wrong < 0 || !instead || (how == 0 && wrong >= OPTIONAL);
            buf_reset(&b);
            for (int k = 0; k < N; k++)
                buf_printf(&b, " %s", k != wrong ? keys[k].item : instead ? instead : "");
            CU_ASSERT_EQUAL(parse(buf_cstring(&b)), fine ? 0 : XERR_PARAM);
        }
    buf_free(&b);
    finish();
}

static void test_text(void)
{
    CU_ASSERT_EQUAL(parse("UNIQUEID"), XERR_SYNTAX);
    CU_ASSERT_EQUAL(parse("UNIQUEID u) x"), XERR_SYNTAX);
    CU_ASSERT_EQUAL(parse("UNIQUEID u)\r\nx ("), XERR_SYNTAX);
    CU_ASSERT_EQUAL(parse("UNIQUEID {99999}\r\nx"), XERR_TOOBIG);
    CU_ASSERT_EQUAL(parse(""), XERR_PARAM);
    finish();
}

static void test_set(void)
{
    struct buf b = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(parse(new_text), 0);
    CU_ASSERT_EQUAL(sync_header_set(&h, pool, "PARTITION", "100%"), 0);
    UNIT_STR(h.partition, "100%");
    CU_ASSERT_EQUAL(sync_header_set(&h, pool, "HIGHESTMODSEQ", "77"), 0);
    CU_ASSERT_EQUAL(h.highestmodseq, 77);
    CU_ASSERT_EQUAL(sync_header_set(&h, pool, "QUOTAROOT", NULL), 0);
    CU_ASSERT_PTR_NULL(h.quotaroot);
    CU_ASSERT_EQUAL(sync_header_set(&h, pool, "USERFLAGS", "x"), 0);
    CU_ASSERT_EQUAL(sync_header_set(&h, pool, "NEW", "y"), 0);
    CU_ASSERT_EQUAL(sync_header_print(&h, &b), 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&b), " HIGHESTMODSEQ 77 "));
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&b), " PARTITION {4}\r\n100% ACL "));
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&b), " QUOTAROOT NIL "));
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&b), " USERFLAGS x NEW y"));
    CU_ASSERT_EQUAL(sync_header_set(&h, pool, "LAST_UID", "z"), XERR_PARAM);
    while (!sync_header_set(&h, pool, "LAST_UID", "1234567890"))
        ;
    CU_ASSERT_EQUAL(sync_header_set(&h, pool, "LAST_UID", "1234567890"), XERR_TOOBIG);
    buf_free(&b);
    finish();
}

static void test_addmodseq(void)
{
    struct buf b = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(parse(old_text), 0);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(sync_header_addmodseq(&h, pool), 0);
        buf_reset(&b);
        sync_header_print(&h, &b);
        CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&b), "ANNOTATIONS (%(ENTRY /comment USERID \"\" "
                                                       "MODSEQ 0 VALUE \"shared comment\"))"));
    }
    CU_ASSERT_EQUAL(parse(new_text), 0);
    CU_ASSERT_EQUAL(sync_header_addmodseq(&h, pool), 0);
    check_print(new_text, 0);
    buf_free(&b);
    finish();
}

void suite_sync_header(void);
void suite_sync_header(void)
{
    static const struct unit_test tests[] = {
        {"headers of old and new clients", test_parse},
        {"SINCE_* and RECORD", test_since},
        {"partial form", test_partial},
        {"short form", test_short},
        {"mandatory keys", test_mandatory},
        {"text that is none", test_text},
        {"setting values", test_set},
        {"annotations without MODSEQ", test_addmodseq},
        {NULL, NULL},
    };
    unit_suite("sync_header", tests);
}
