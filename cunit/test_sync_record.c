/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of imap/sync_record: reading, printing and SYNC_CRC. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "cunit/unit.h"
#include "imap/sync_record.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"

#define GUID1 "00a1a6bfe5dee6a06f1c70f78eb26150f42e2b08"
#define GUID2 "db21597f73f94856624427e8bd4664c204b83b60"
#define HEAD1 "UID 1 MODSEQ 2 LAST_UPDATED 1700000100 "
#define TAIL1 "INTERNALDATE 1700000000 SIZE 73 GUID " GUID1
#define ANNOTS1                                                                                    \
    " ANNOTATIONS (%(ENTRY /vendor/cmu/cyrus-imapd/savedate USERID \"\" MODSEQ 0 VALUE "           \
    "1700000000) %(ENTRY /vendor/cmu/cyrus-imapd/createdmodseq USERID \"\" MODSEQ 0 VALUE 2))"

static int read_max(struct sync_record *rec, const char *text, size_t max)
{
    struct protstream *in = prot_readmem(text, strlen(text));
    struct dlist_reader r;
    dlist_reader_init(&r, in, NULL);
    int e = sync_record_read(rec, &r, max);
    prot_free(&in);
    return e;
}

static int read_record(struct sync_record *rec, const char *text)
{
    return read_max(rec, text, 65536);
}

/* TEXT is read and printed as EXPECTED. */
static void check(const char *text, const char *expected)
{
    struct sync_record rec = {0};
    struct buf out = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(read_record(&rec, text), 0);
    sync_record_print(&rec, &out);
    UNIT_STR(buf_cstring(&out), expected);
    buf_free(&out);
    sync_record_fini(&rec);
}

static void check_same(const char *text)
{
    check(text, text);
}

static void test_read(void)
{
    struct sync_record rec = {0};
    CU_ASSERT_EQUAL(read_record(&rec, "%(" HEAD1 "FLAGS (\\Seen $Label1) " TAIL1 ANNOTS1 ")"), 0);
    CU_ASSERT_EQUAL(rec.uid, 1);
    CU_ASSERT_EQUAL(rec.modseq, 2);
    CU_ASSERT_EQUAL(rec.last_updated, 1700000100);
    CU_ASSERT_EQUAL(rec.internaldate, 1700000000);
    CU_ASSERT_EQUAL(rec.size, 73);
    CU_ASSERT_EQUAL(rec.expunged, 0);
    CU_ASSERT_EQUAL(rec.literal, 0);
    UNIT_STR(buf_cstring(&rec.flags), "(\\Seen $Label1)");
    UNIT_STR(buf_cstring(&rec.annotations), ANNOTS1 + 13);
    CU_ASSERT_EQUAL(rec.extra.len, 0);
    /* the same struct again: nothing is left of the first */
    CU_ASSERT_EQUAL(read_record(&rec, "%(GUID " GUID2 " UID 4294967298 MODSEQ 18446744073709551615 "
                                      "INTERNALDATE \"3\" LAST_UPDATED 18446744073709551615)"),
                    0);
    CU_ASSERT_EQUAL(rec.uid, 2);
    CU_ASSERT_EQUAL(rec.modseq, UINT64_MAX);
    CU_ASSERT_EQUAL(rec.last_updated, -1);
    CU_ASSERT_EQUAL(rec.internaldate, 3);
    CU_ASSERT_EQUAL(rec.size, 0);
    UNIT_STR(buf_cstring(&rec.flags), "()");
    CU_ASSERT_EQUAL(rec.annotations.len, 0);
    sync_record_fini(&rec);
}

static void test_print(void)
{
    check_same("%(" HEAD1 "FLAGS (\\Seen $Label1) " TAIL1 ANNOTS1 ")");
    check_same("%(" HEAD1 "FLAGS () " TAIL1 ")");
    check_same("%(" HEAD1 "FLAGS (\\Expunged) " TAIL1 ")");
    check_same("%(" HEAD1 "FLAGS (\\Expunged \\Seen a) " TAIL1 ")");
    check_same("%(" HEAD1 "FLAGS () " TAIL1 " NEWKEY (a %(B c)) OTHER NIL)");
    check_same("%(" HEAD1 "FLAGS () " TAIL1
               " ANNOTATIONS (%(ENTRY /comment USERID joe MODSEQ 3 VALUE {5}\r\na\r\nb%)))");
    check_same("%(UID 1 MODSEQ 2 LAST_UPDATED 18446744073709551615 FLAGS () INTERNALDATE 0 SIZE "
               "5000000000 GUID " GUID1 ")");
    check("%( NEWKEY {1+}\r\nx" TAIL1 "\tFLAGS(\\Seen \\eXpunged  \"k\")\n" HEAD1 ")",
          "%(" HEAD1 "FLAGS (\\Expunged \\Seen k) " TAIL1 " NEWKEY x)");
}

static void test_first_key_counts(void)
{
    check("%(" HEAD1 "FLAGS (a) UID 7 FLAGS (b) UID x " TAIL1 " ANNOTATIONS () ANNOTATIONS (x))",
          "%(" HEAD1 "FLAGS (a) " TAIL1 " ANNOTATIONS ())");
}

static void check_error(const char *text, int expected)
{
    struct sync_record rec = {0};
    int e = read_record(&rec, text);
    CU_ASSERT_EQUAL(e, expected);
    if (e != expected)
        printf("\n  [%s] gave %d\n", text, e);
    sync_record_fini(&rec);
}

static void test_errors(void)
{
    check_error("%()", XERR_PARAM);
    check_error("%(MODSEQ 2 LAST_UPDATED 1 INTERNALDATE 1 GUID " GUID1 ")", XERR_PARAM);
    check_error("%(UID 1 LAST_UPDATED 1 INTERNALDATE 1 GUID " GUID1 ")", XERR_PARAM);
    check_error("%(UID 1 MODSEQ 2 INTERNALDATE 1 GUID " GUID1 ")", XERR_PARAM);
    check_error("%(UID 1 MODSEQ 2 LAST_UPDATED 1 GUID " GUID1 ")", XERR_PARAM);
    check_error("%(UID 1 MODSEQ 2 LAST_UPDATED 1 INTERNALDATE 1)", XERR_PARAM);
    check_error("%(UID 0 MODSEQ 2 LAST_UPDATED 1 INTERNALDATE 1 GUID " GUID1 ")", XERR_PARAM);
    check_error("%(UID 4294967296 MODSEQ 2 LAST_UPDATED 1 INTERNALDATE 1 GUID " GUID1 ")",
                XERR_PARAM);
    check_error("%(UID -1 ", XERR_PARAM);
    check_error("%(UID +1 ", XERR_PARAM);
    check_error("%(UID 1a ", XERR_PARAM);
    check_error("%(UID NIL ", XERR_PARAM);
    check_error("%(MODSEQ 18446744073709551616 ", XERR_PARAM);
    check_error("%(GUID xyz ", XERR_PARAM);
    check_error("%(GUID NIL ", XERR_PARAM);
    check_error("%(GUID " GUID1 "0 ", XERR_TOOBIG);
    check_error("%(FLAGS NIL ", XERR_PARAM);
    check_error("%(FLAGS %(A b) ", XERR_PARAM);
    check_error("%(FLAGS ((a)) ", XERR_PARAM);
    check_error("%(ANNOTATIONS x ", XERR_PARAM);
    check_error("(UID 1)", XERR_SYNTAX);
    check_error("%(UID", XERR_EOF);
    check_error("%(EXTRA %{p " GUID1 " 3}\r\nabc)", XERR_SYNTAX);
}

static void test_bounds(void)
{
    struct sync_record rec = {0};
    CU_ASSERT_EQUAL(read_max(&rec, "%(FLAGS (aaaaaaaa bbbbbbbb)", 16), XERR_TOOBIG);
    CU_ASSERT_EQUAL(read_max(&rec, "%(ANNOTATIONS (aaaaaaaa bbbbbbbb)", 16), XERR_TOOBIG);
    CU_ASSERT_EQUAL(read_max(&rec, "%(ANNOTATIONS ({1000000000}\r\n", 16), XERR_TOOBIG);
    CU_ASSERT_EQUAL(read_max(&rec, "%(X 1 Y 2 Z 3 ", 11), XERR_TOOBIG);
    CU_ASSERT_EQUAL(read_max(&rec, "%(X 1 Y 2 Z 3 ", 12), XERR_EOF);
    CU_ASSERT_EQUAL(read_max(&rec, "%(X " GUID1 GUID1 GUID1 " ", 100), XERR_TOOBIG);
    sync_record_fini(&rec);
}

static void test_literal(void)
{
    static const char quoted[] = "%(" HEAD1 "FLAGS ({1+}\r\nk) " TAIL1 ")";
    static const char literal[] = "%(" HEAD1 "FLAGS () " TAIL1 " ANNOTATIONS ({2+}\r\n\r\n))";
    struct sync_record rec = {0};
    struct dlist_reader r;
    struct protstream *in = prot_readmem(quoted, strlen(quoted));
    dlist_reader_init(&r, in, NULL);
    r.literal = 1; /* somebody else's */
    CU_ASSERT_EQUAL(sync_record_read(&rec, &r, 1000), 0);
    CU_ASSERT_EQUAL(rec.literal, 0);
    CU_ASSERT_EQUAL(r.literal, 1);
    prot_free(&in);
    CU_ASSERT_EQUAL(read_record(&rec, literal), 0);
    CU_ASSERT_EQUAL(rec.literal, 1);
    sync_record_fini(&rec);
}

static uint32_t crc_of(const char *text)
{
    struct sync_record rec = {0};
    CU_ASSERT_EQUAL(read_record(&rec, text), 0);
    uint32_t crc = sync_record_crc(&rec);
    sync_record_fini(&rec);
    return crc;
}

static void test_crc(void)
{
    CU_ASSERT_EQUAL(crc32_map(0, "\\seen", 5), 3201761491);
    CU_ASSERT_EQUAL(crc32_map(0, "$label1", 7), 979321343);
    uint32_t one = crc_of("%(" HEAD1 "FLAGS (\\Seen $Label1) " TAIL1 ANNOTS1 ")");
    uint32_t two = crc_of("%(UID 2 MODSEQ 4 LAST_UPDATED 1700000200 FLAGS () INTERNALDATE "
                          "1700000150 SIZE 67 GUID " GUID2 ")");
    CU_ASSERT_EQUAL(one, 1626628245);
    CU_ASSERT_EQUAL(two, 3640274128);
    CU_ASSERT_EQUAL(one ^ two, 3087944773);
    CU_ASSERT_EQUAL(crc_of("%(UID 1 MODSEQ 2 LAST_UPDATED 1795305643 INTERNALDATE 1795305643 GUID "
                           "323fc7655a84f6a36477bef487999ca68d0ff40a)"),
                    2015929167);
}

static uint32_t annot(uint32_t uid, const char *entry, const char *userid, const char *value)
{
    char name[64];
    snprintf(name, sizeof(name), "%s%s", *entry == '/' ? "" : "/vendor/cmu/cyrus-imapd/", entry);
    return sync_crc_annot(uid, name, userid, value, strlen(value));
}

static void test_crc_annot(void)
{
    CU_ASSERT_EQUAL(annot(1, "savedate", "", "1700000000"), 2861288652);
    CU_ASSERT_EQUAL(annot(1, "createdmodseq", "", "2"), 365805277);
    uint32_t crc = SYNC_CRC_ANNOT_START ^ annot(1, "savedate", "", "1700000000") ^
                   annot(1, "createdmodseq", "", "2");
    CU_ASSERT_EQUAL(crc, 3220837215);
    CU_ASSERT_EQUAL(annot(2, "/comment", "joe", "private note"), 1526142054);
    CU_ASSERT_EQUAL(annot(2, "savedate", "", "1700000150"), 1449459211);
    CU_ASSERT_EQUAL(annot(2, "createdmodseq", "", "3"), 1525744952);
    crc ^= annot(2, "/comment", "joe", "private note") ^ annot(2, "savedate", "", "1700000150") ^
           annot(2, "createdmodseq", "", "3");
    CU_ASSERT_EQUAL(crc, 3919117322);
    CU_ASSERT_EQUAL(annot(2, "thrid", "", "f1e2d3c4b5a6978"), 3464640992);
    CU_ASSERT_EQUAL(crc ^ annot(2, "thrid", "", "f1e2d3c4b5a6978"), 656066026);
    CU_ASSERT_EQUAL(crc ^ annot(2, "thrid", "", "0f1e2d3c4b5a6978"), 3888397362);
    CU_ASSERT_EQUAL(SYNC_CRC_ANNOT_START ^ annot(1, "savedate", "", "1795305643") ^
                        annot(1, "createdmodseq", "", "2"),
                    3123662147);
}

static void test_crc_flags(void)
{
    static const uint32_t want = 1626628245;
    static const char *const same[] = {
        "$label1 \\SEEN",
        "\\Seen $Label1 \\Recent \\Other",
        "\\seen \\Seen $Label1 $LABEL1",
        "\"$Label1\" \\Seen",
        "{7+}\r\n$Label1 \\Seen",
    };
    struct buf b = BUF_INITIALIZER;
    struct message_guid guid;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        buf_reset(&b);
        buf_printf(&b, "%%(" HEAD1 "FLAGS (%s) " TAIL1 ")", same[i]);
        CU_ASSERT_EQUAL(crc_of(buf_cstring(&b)), want);
    }
    buf_free(&b);
    CU_ASSERT_EQUAL(crc_of("%(" HEAD1 "FLAGS (\\Seen $Label1 \\Expunged) " TAIL1 ")"), 0);
    message_guid_decode(&guid, GUID1, 40);
    CU_ASSERT_EQUAL(sync_crc_basic(1, 2, 1700000100, "(\\Seen $Label1)", 15, 1700000000, &guid),
                    want);
    /* a keyword called NIL counts as any other, and is never mistaken for no value */
    uint32_t nil = crc_of("%(" HEAD1 "FLAGS (NIL a) " TAIL1 ")");
    CU_ASSERT_EQUAL(nil, crc_of("%(" HEAD1 "FLAGS (a \"nil\") " TAIL1 ")"));
    CU_ASSERT_NOT_EQUAL(nil, crc_of("%(" HEAD1 "FLAGS (a) " TAIL1 ")"));
    check("%(" HEAD1 "FLAGS (\\Seen NIL) " TAIL1 ")", "%(" HEAD1 "FLAGS (\\Seen \"NIL\") " TAIL1 ")");
    /* keywords that need a literal, and ones that end the text too early */
    uint32_t eight = sync_crc_basic(1, 2, 3, "({5}\r\ncaf\xc3\xa9 x)", 14, 4, &guid);
    CU_ASSERT_EQUAL(eight, sync_crc_basic(1, 2, 3, "(x {5}\r\ncaf\xc3\xa9)", 14, 4, &guid));
    CU_ASSERT_NOT_EQUAL(eight, sync_crc_basic(1, 2, 3, "(x)", 3, 4, &guid));
    sync_crc_basic(1, 2, 3, "({99999999999999999999}\r\nx", 25, 4, &guid);
    sync_crc_basic(1, 2, 3, "({9", 3, 4, &guid);
    sync_crc_basic(1, 2, 3, "(\"", 2, 4, &guid);
    /* nothing at all is the empty list */
    CU_ASSERT_EQUAL(sync_crc_basic(1, 2, 3, NULL, 0, 4, &guid),
                    sync_crc_basic(1, 2, 3, "()", 2, 4, &guid));
    /* the longest numbers */
    sync_crc_basic(UINT32_MAX, UINT64_MAX, -1, "(a)", 3, -1, &guid);
}

static void test_equal(void)
{
    static const char *const one[] = {
        "%(" HEAD1 "FLAGS (b) " TAIL1 ")",
        "%(UID 2 MODSEQ 2 LAST_UPDATED 1700000100 FLAGS (a) " TAIL1 ")",
        "%(UID 1 MODSEQ 3 LAST_UPDATED 1700000100 FLAGS (a) " TAIL1 ")",
        "%(UID 1 MODSEQ 2 LAST_UPDATED 1700000101 FLAGS (a) " TAIL1 ")",
        "%(" HEAD1 "FLAGS (a \\Expunged) " TAIL1 ")",
        "%(" HEAD1 "FLAGS (a) INTERNALDATE 1700000001 SIZE 73 GUID " GUID1 ")",
        "%(" HEAD1 "FLAGS (a) INTERNALDATE 1700000000 SIZE 74 GUID " GUID1 ")",
        "%(" HEAD1 "FLAGS (a) INTERNALDATE 1700000000 SIZE 73 GUID " GUID2 ")",
    };
    struct sync_record a = {0}, b = {0};
    CU_ASSERT_EQUAL(read_record(&a, "%(" HEAD1 "FLAGS (a) " TAIL1 ")"), 0);
    for (size_t i = 0; i < sizeof(one) / sizeof(one[0]); i++) {
        CU_ASSERT_EQUAL(read_record(&b, one[i]), 0);
        CU_ASSERT_EQUAL(sync_record_equal(&a, &b), 0);
    }
    CU_ASSERT_EQUAL(read_record(&b, "%(" TAIL1 " FLAGS (a) " HEAD1 ")"), 0);
    CU_ASSERT_EQUAL(sync_record_equal(&a, &b), 2);
    CU_ASSERT_EQUAL(read_record(&b, "%(" HEAD1 "FLAGS (a) " TAIL1 ANNOTS1 ")"), 0);
    CU_ASSERT_EQUAL(sync_record_equal(&a, &b), 1);
    CU_ASSERT_EQUAL(read_record(&b, "%(" HEAD1 "FLAGS (a) X y " TAIL1 ")"), 0);
    CU_ASSERT_EQUAL(sync_record_equal(&a, &b), 1);
    sync_record_fini(&a);
    sync_record_fini(&b);
}

void suite_sync_record(void);
void suite_sync_record(void)
{
    static const struct unit_test tests[] = {
        {"reading", test_read},
        {"printing", test_print},
        {"equal keys", test_first_key_counts},
        {"errors", test_errors},
        {"bounds", test_bounds},
        {"literals", test_literal},
        {"SYNC_CRC", test_crc},
        {"SYNC_CRC_ANNOT", test_crc_annot},
        {"flags in SYNC_CRC", test_crc_flags},
        {"comparison", test_equal},
        {NULL, NULL},
    };
    unit_suite("sync_record", tests);
}
