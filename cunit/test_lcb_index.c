/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of the index: what every verb does to it, and that a rebuild would do the same. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* ---- what each verb does ---- */

#define GUID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define GUID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct lcbtest test;
static struct lcb *lcb;

static void begin(void)
{
    lcbtest_init(&test, "");
    lcbtest_open(&test, NULL);
    lcb = lcbtest_joe(&test);
}

/* Commit, hold against a rebuild, close. */
static void finish(void)
{
    CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
    lcbtest_compare(&test, lcb_path(lcb), "verbs");
    lcb_close(&lcb);
    lcbtest_fini(&test);
}

/* Log, and see whether that was worth a line. Each line has a second of its own. */
static int logged(const char *verb, const char *value)
{
    uint32_t lines = lcb->df.lines, seq = lcb->df.seq;
    lcbtest_settime(lcbtest_time() + 1);
    CU_ASSERT_EQUAL(lcbtest_log(lcb, verb, value), 0);
    return lcb->df.lines != lines || lcb->df.seq != seq;
}

/* The first column of all rows, in one string. */
static const char *rows(const char *sql)
{
    static struct buf out;
    sqlite3_stmt *st = NULL;
    buf_reset(&out);
    CU_ASSERT_EQUAL(sqlite3_prepare_v2(lcb->index->db->db, sql, -1, &st, NULL), SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW) {
        const char *s = (const char *)sqlite3_column_text(st, 0);
        buf_printf(&out, "%s%s", out.len ? "; " : "", s ? s : "-");
    }
    sqlite3_finalize(st);
    static char text[4096];
    snprintf(text, sizeof(text), "%s", buf_cstring(&out));
    buf_free(&out);
    return text;
}

static void refused(const char *verb, const char *value)
{
    CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
    if (lcbtest_log(lcb, verb, value) != XERR_PARAM) {
        printf("\n%s %s\n", verb, value);
        CU_FAIL("not refused");
    }
    CU_ASSERT_EQUAL(lcb_rollback(lcb), 0);
}

static void test_sub(void)
{
    static const char subs[] = "SELECT mboxname||' '||(since>>24)||'.'||(since&255)||'-'||"
                               "ifnull((until>>24)||'.'||(until&255), '') FROM subs"
                               " ORDER BY mboxname, since";
    begin();
    CU_ASSERT(logged("SUB", "%(USERID joe MBOXNAME user.a)"));
    CU_ASSERT(!logged("SUB", "%(USERID joe MBOXNAME user.a)"));
    CU_ASSERT(!logged("UNSUB", "%(USERID joe MBOXNAME user.b)"));
    CU_ASSERT(logged("SUB", "%(MBOXNAME user.b MORE (1 2))"));
    UNIT_STR(rows(subs), "user.a 1.1-; user.b 1.2-");
    CU_ASSERT(logged("UNSUB", "%(USERID joe MBOXNAME user.a)"));
    CU_ASSERT(!logged("UNSUB", "%(USERID joe MBOXNAME user.a)"));
    CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
    CU_ASSERT(logged("SUB", "%(USERID joe MBOXNAME user.a)"));
    UNIT_STR(rows(subs), "user.a 1.1-1.3; user.a 2.1-; user.b 1.2-");
    refused("SUB", "%(USERID joe)");
    refused("SUB", "%(MBOXNAME NIL)");
    refused("SUB", "%(MBOXNAME (a))");
    refused("SUB", "user.a");
    refused("UNSUB", "(user.a)");
    finish();
}

static void test_seen(void)
{
    static const char seens[] = "SELECT uniqueid||' '||lastread||' '||lastuid||' '||lastchange||"
                                "' '||seenuids||' '||(since&255)||'-'||ifnull(until&255, '')"
                                " FROM seens ORDER BY uniqueid, since";
    begin();
    CU_ASSERT(logged("SEEN", "%(USERID joe UNIQUEID u1 LASTREAD 5 LASTUID 6 LASTCHANGE 7"
                             " SEENUIDS 1:6)"));
    CU_ASSERT(!logged("SEEN", "%(USERID joe UNIQUEID u1 LASTREAD 5 LASTUID 6 LASTCHANGE 7"
                              " SEENUIDS 1:6)"));
    CU_ASSERT(logged("SEEN", "%(USERID joe UNIQUEID u1 LASTREAD 5 LASTUID 6 LASTCHANGE 8"
                             " SEENUIDS 1:6)"));
    CU_ASSERT(logged("SEEN", "%(USERID joe UNIQUEID u0 LASTREAD 0 LASTUID 0 LASTCHANGE 0"
                             " SEENUIDS NIL)"));
    UNIT_STR(rows(seens), "u0 0 0 0  3-; u1 5 6 7 1:6 1-2; u1 5 6 8 1:6 2-");
    refused("SEEN", "%(USERID joe UNIQUEID u1 LASTREAD 5 LASTUID 6 LASTCHANGE 7)");
    refused("SEEN", "%(USERID joe UNIQUEID u1 LASTREAD x LASTUID 6 LASTCHANGE 7 SEENUIDS 1)");
    refused("SEEN", "%(USERID joe UNIQUEID NIL LASTREAD 5 LASTUID 6 LASTCHANGE 7 SEENUIDS 1)");
    finish();
}

static int put_script(void *rock, const struct lcb_script *s)
{
    buf_printf(rock, "%s %lld %.*s%s;", s->filename, (long long)s->last_update, (int)s->len,
               (const char *)s->content, s->active ? " active" : "");
    return 0;
}

static const char *scripts(int64_t at)
{
    static char text[500];
    struct buf b = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(lcb_foreach_script(lcb, at, put_script, &b), 0);
    snprintf(text, sizeof(text), "%s", buf_cstring(&b));
    buf_free(&b);
    return text;
}

static void test_sieve(void)
{
    begin();
    CU_ASSERT(logged("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 9 CONTENT keep;)"));
    CU_ASSERT(logged("SIEVE", "%(FILENAME b.script LAST_UPDATE 9 CONTENT {4}\r\na\r\nb)"));
    CU_ASSERT(logged("ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)"));
    CU_ASSERT(!logged("ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)"));
    UNIT_STR(scripts(LCB_NOW), "a.script 9 keep; active;b.script 9 a\r\nb;");
    int64_t before = LCB_POS(lcb->df.seq, lcb->df.lines);
    CU_ASSERT(logged("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 10 CONTENT \"\")"));
    CU_ASSERT(logged("ACTIVATE_SIEVE", "%(USERID joe FILENAME b.bc)"));
    UNIT_STR(scripts(LCB_NOW), "a.script 10 ;b.script 9 a\r\nb active;");
    CU_ASSERT(logged("UNSIEVE", "%(USERID joe FILENAME b.script)"));
    CU_ASSERT(!logged("UNSIEVE", "%(USERID joe FILENAME b.script)"));
    CU_ASSERT(!logged("UNACTIVATE_SIEVE", "%(USERID joe)")); /* it went with its script */
    UNIT_STR(scripts(LCB_NOW), "a.script 10 ;");
    CU_ASSERT(!logged("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 10 CONTENT \"\")"));
    CU_ASSERT(logged("ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)"));
    CU_ASSERT(logged("UNACTIVATE_SIEVE", "%(USERID joe)"));
    CU_ASSERT(!logged("UNACTIVATE_SIEVE", "%(USERID joe)"));
    CU_ASSERT(logged("ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)"));
    CU_ASSERT(logged("UNSIEVE", "%(USERID joe FILENAME a.bc)"));
    UNIT_STR(scripts(LCB_NOW), "a.script 10 ;");
    UNIT_STR(scripts(before), "a.script 9 keep; active;b.script 9 a\r\nb;");
    UNIT_STR(scripts(0), "");
    refused("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 9)");
    refused("SIEVE", "%(USERID joe FILENAME a.script CONTENT x)");
    refused("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 9 CONTENT NIL)");
    refused("UNSIEVE", "%(USERID joe)");
    refused("ACTIVATE_SIEVE", "%(USERID joe)");
    finish();
}

static void test_quota(void)
{
    static const char quotas[] = "SELECT root||' '||CAST(limits AS TEXT)||' '||"
                                 "(until IS NOT NULL) FROM quotas ORDER BY root, since";
    begin();
    CU_ASSERT(logged("QUOTA", "%(ROOT user.joe STORAGE 1000 MESSAGE 5)"));
    CU_ASSERT(!logged("QUOTA", "%(ROOT user.joe STORAGE 1000 MESSAGE 5)"));
    CU_ASSERT(logged("QUOTA", "%(ROOT user.joe STORAGE 2000)"));
    CU_ASSERT(!logged("UNQUOTA", "user.jo"));
    CU_ASSERT(logged("UNQUOTA", "user.joe"));
    CU_ASSERT(!logged("UNQUOTA", "user.joe"));
    CU_ASSERT(logged("QUOTA", "%(ROOT user.joe STORAGE 2000)"));
    UNIT_STR(rows(quotas), "user.joe %(ROOT user.joe STORAGE 1000 MESSAGE 5) 1;"
                           " user.joe %(ROOT user.joe STORAGE 2000) 1;"
                           " user.joe %(ROOT user.joe STORAGE 2000) 0");
    refused("QUOTA", "%(STORAGE 2000)");
    refused("UNQUOTA", "%(ROOT user.joe)");
    finish();
}

static void test_annotation(void)
{
    static const char annots[] = "SELECT entry||' '||userid||' '||CAST(value AS TEXT)||' '||"
                                 "(until IS NOT NULL) FROM annots ORDER BY entry, userid, since";
    static const char header[] = "SELECT CAST(header AS TEXT) FROM folder_states"
                                 " WHERE until IS NULL";
    char before[2000];
    begin();
    CU_ASSERT(logged("ANNOTATION", "%(MBOXNAME \"\" ENTRY /x USERID joe VALUE v)"));
    CU_ASSERT(!logged("ANNOTATION", "%(MBOXNAME \"\" ENTRY /x USERID joe VALUE v)"));
    CU_ASSERT(logged("ANNOTATION", "%(MBOXNAME NIL ENTRY /x USERID NIL VALUE w)"));
    CU_ASSERT(logged("ANNOTATION", "%(MBOXNAME \"\" ENTRY /x USERID joe VALUE \"\")"));
    UNIT_STR(rows(annots), "/x  w 0; /x joe v 1; /x joe  0");
    CU_ASSERT(logged("UNANNOTATION", "%(MBOXNAME \"\" ENTRY /x USERID joe)"));
    CU_ASSERT(!logged("UNANNOTATION", "%(MBOXNAME \"\" ENTRY /x USERID joe)"));
    CU_ASSERT(logged("ANNOTATION", "%(MBOXNAME \"\" ENTRY /x USERID \"\" VALUE NIL)"));
    UNIT_STR(rows(annots), "/x  w 1; /x joe v 1; /x joe  1");

    /* Those of a mailbox change its header. */
    CU_ASSERT(!logged("ANNOTATION", "%(MBOXNAME user.joe ENTRY /y USERID joe VALUE v)"));
    CU_ASSERT_EQUAL(lcbtest_mailbox(lcb, lcbtest_header("u1", "user.joe", 1, 1, ""), NULL, NULL),
                    0);
    snprintf(before, sizeof(before), "%s", rows(header));
    CU_ASSERT(logged("ANNOTATION", "%(MBOXNAME user.joe ENTRY /y USERID joe VALUE v)"));
    CU_ASSERT(!logged("ANNOTATION", "%(MBOXNAME user.joe ENTRY /y USERID joe VALUE v)"));
    CU_ASSERT_PTR_NOT_NULL(strstr(rows(header), " ANNOTATIONS (%(ENTRY /y USERID joe MODSEQ 0"
                                                " VALUE v))"));
    CU_ASSERT(logged("ANNOTATION", "%(MBOXNAME user.joe ENTRY /y USERID \"\" VALUE {2}\r\na%)"));
    CU_ASSERT_PTR_NOT_NULL(strstr(rows(header), "(%(ENTRY /y USERID \"\" MODSEQ 0 VALUE {2}\r\na%)"
                                                " %(ENTRY /y USERID joe"));
    CU_ASSERT(logged("UNANNOTATION", "%(MBOXNAME user.joe ENTRY /y USERID joe)"));
    CU_ASSERT(!logged("UNANNOTATION", "%(MBOXNAME user.joe ENTRY /y USERID joe)"));
    CU_ASSERT(logged("ANNOTATION", "%(MBOXNAME user.joe ENTRY /y USERID \"\" VALUE NIL)"));
    UNIT_STR(rows(header), before);
    UNIT_STR(rows("SELECT count(*) FROM folder_states"), "5");
    refused("ANNOTATION", "%(MBOXNAME user.joe ENTRY /y USERID joe)");
    refused("ANNOTATION", "%(ENTRY /y USERID joe VALUE x)");
    refused("UNANNOTATION", "%(MBOXNAME \"\")");
    finish();
}

static void test_unknown(void)
{
    begin();
    CU_ASSERT(!logged("RESERVE", "%(PARTITION default MBOXNAME (user.joe) GUID ())"));
    CU_ASSERT(!logged("EXPUNGE", "%(MBOXNAME user.joe UNIQUEID x UID (1))"));
    CU_ASSERT(!logged("sub", "%(MBOXNAME user.joe)"));
    CU_ASSERT(!lcb_dirty(lcb));
    CU_ASSERT(logged("SUB", "%(MBOXNAME user.joe)"));
    CU_ASSERT_EQUAL(lcb->df.lines, 1);
    finish();
}

static void mailbox(const char *id, const char *name, unsigned modseq, const char *const *records)
{
    uint32_t crc;
    lcbtest_settime(lcbtest_time() + 1);
    CU_ASSERT_EQUAL(lcbtest_mailbox(lcb, lcbtest_header(id, name, 9, modseq, ""), records, &crc),
                    0);
}

static const char states[] =
    "SELECT uniqueid||' '||mboxname||' '||(since&255)||'-'||ifnull(until&255, '') FROM"
    " folder_states s JOIN folders f ON f.id=s.folder ORDER BY f.id, since";

/* A name is one mailbox; a mailbox is its UNIQUEID. */
static void test_names(void)
{
    struct lcb_folder f;
    struct buf strings = BUF_INITIALIZER;
    begin();
    mailbox("u1", "user.joe.a", 1, NULL);
    mailbox("u2", "user.joe.b", 1, NULL);
    mailbox("u1", "user.joe.a", 1, NULL); /* nothing new */
    UNIT_STR(rows(states), "u1 user.joe.a 1-; u2 user.joe.b 2-");
    mailbox("u1", "user.joe.a", 2, NULL);
    mailbox("u3", "user.joe.a", 1, NULL); /* takes u1's place */
    UNIT_STR(rows(states), "u1 user.joe.a 1-3; u1 user.joe.a 3-4; u2 user.joe.b 2-;"
                           " u3 user.joe.a 4-");
    CU_ASSERT_EQUAL(lcb_find_uniqueid(lcb, "u1", &f, &strings), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_find_name(lcb, "user.joe.a", &f, &strings), 0);
    UNIT_STR(f.uniqueid, "u3");
    mailbox("u2", "user.joe.a", 2, NULL); /* an unnoticed rename over another */
    UNIT_STR(rows(states), "u1 user.joe.a 1-3; u1 user.joe.a 3-4; u2 user.joe.b 2-5;"
                           " u2 user.joe.a 5-; u3 user.joe.a 4-5");
    CU_ASSERT(logged("UNMAILBOX", "user.joe.a"));
    CU_ASSERT(!logged("UNMAILBOX", "user.joe.a"));
    CU_ASSERT(!logged("UNMAILBOX", "user.joe.b"));
    CU_ASSERT_EQUAL(lcb_find_name(lcb, "user.joe.a", &f, &strings), XERR_NOTFOUND);
    mailbox("u1", "user.joe.z", 7, NULL); /* back again */
    CU_ASSERT_EQUAL(lcb_find_uniqueid(lcb, "u1", &f, &strings), 0);
    UNIT_STR(f.mboxname, "user.joe.z");
    CU_ASSERT_EQUAL(f.since, LCB_POS(1, 7));
    refused("UNMAILBOX", "%(MBOXNAME user.joe.z)");
    buf_free(&strings);
    finish();
}

static void test_rename(void)
{
    struct lcb_folder f;
    struct buf strings = BUF_INITIALIZER;
    begin();
    mailbox("u1", "user.joe.a", 1, NULL);
    mailbox("u2", "user.joe.b", 1, NULL);
    CU_ASSERT(!logged("RENAME", "%(OLDMBOXNAME user.joe.x NEWMBOXNAME user.joe.y PARTITION p"
                                " UIDVALIDITY 5)"));
    CU_ASSERT(logged("RENAME", "%(OLDMBOXNAME user.joe.a NEWMBOXNAME user.joe.c PARTITION p"
                               " UIDVALIDITY 77)"));
    CU_ASSERT_EQUAL(lcb_find_name(lcb, "user.joe.a", &f, &strings), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_find_name(lcb, "user.joe.c", &f, &strings), 0);
    UNIT_STR(f.uniqueid, "u1");
    CU_ASSERT_EQUAL(f.uidvalidity, 77);
    CU_ASSERT_PTR_NOT_NULL(strstr(f.header, "MBOXNAME user.joe.c "));
    CU_ASSERT_PTR_NOT_NULL(strstr(f.header, "UIDVALIDITY 77 PARTITION p "));
    CU_ASSERT(logged("RENAME", "%(OLDMBOXNAME user.joe.c NEWMBOXNAME user.joe.b UIDVALIDITY 78)"));
    CU_ASSERT_EQUAL(lcb_find_uniqueid(lcb, "u2", &f, &strings), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_find_name(lcb, "user.joe.b", &f, &strings), 0);
    UNIT_STR(f.uniqueid, "u1");
    CU_ASSERT_PTR_NOT_NULL(strstr(f.header, "UIDVALIDITY 78 PARTITION p "));
    CU_ASSERT_EQUAL(lcbtest_log(lcb, "RENAME", "%(OLDMBOXNAME user.joe.b)"), XERR_PARAM);
    buf_free(&strings);
    finish();
}

static void test_records(void)
{
    static const char versions[] =
        "SELECT uid||' '||modseq||' '||expunged||CAST(flags AS TEXT)||' '||(since&255)||'-'||"
        "ifnull(until&255, '') FROM records ORDER BY uid, since";
    const char *r[4] = {NULL};
    struct sync_record rec = {.uid = 0};
    uint32_t crc = 1, crc1, uid;
    begin();
    r[0] = lcbtest_record(1, 5, "\\Seen", GUID_A);
    r[1] = lcbtest_record(2, 5, "", GUID_A); /* the same message twice */
    mailbox("u1", "user.joe", 5, r);
    mailbox("u1", "user.joe", 5, r);
    UNIT_STR(rows(versions), "1 5 0(\\Seen) 1-; 2 5 0() 1-");
    UNIT_STR(rows("SELECT count(*) FROM contents"), "1");
    const int64_t folder = 1; /* the first */
    CU_ASSERT_EQUAL(lcb_find_record(lcb, folder, 1, &rec), 0);
    crc1 = sync_record_crc(&rec);
    CU_ASSERT_EQUAL(lcb_find_record(lcb, folder, 2, &rec), 0);
    crc1 ^= sync_record_crc(&rec);
    CU_ASSERT_EQUAL(lcbtest_mailbox(lcb, lcbtest_header("u1", "user.joe", 9, 5, ""), NULL, &crc),
                    0);
    CU_ASSERT_EQUAL(crc, crc1);
    CU_ASSERT_EQUAL(lcb->df.lines, 1);

    r[0] = lcbtest_record(1, 6, "\\Expunged \\Seen", GUID_A);
    r[1] = lcbtest_record(3, 6, "", GUID_B);
    mailbox("u1", "user.joe", 6, r);
    UNIT_STR(rows(versions), "1 5 0(\\Seen) 1-2; 1 6 1(\\Seen) 2-; 2 5 0() 1-; 3 6 0() 2-");
    r[0] = lcbtest_record(1, 7, "\\Expunged", GUID_A); /* what was expunged stays as it was */
    r[1] = NULL;
    mailbox("u1", "user.joe", 6, r);
    CU_ASSERT_EQUAL(lcb->df.lines, 2);
    CU_ASSERT_EQUAL(lcb_next_live(lcb, folder, 0, 0, &uid), 1);
    CU_ASSERT_EQUAL(uid, 2);
    CU_ASSERT_EQUAL(lcb_next_live(lcb, folder, 3, 0, &uid), 0);
    r[0] = lcbtest_record(1, 8, "", GUID_A); /* back to life */
    mailbox("u1", "user.joe", 8, r);
    UNIT_STR(rows(versions), "1 5 0(\\Seen) 1-2; 1 6 1(\\Seen) 2-3; 1 8 0() 3-; 2 5 0() 1-;"
                             " 3 6 0() 2-");
    r[0] = lcbtest_record(3, 6, "", GUID_A); /* another message under the same number */
    mailbox("u1", "user.joe", 9, r);
    UNIT_STR(rows("SELECT hex(guid) FROM records r JOIN contents c ON c.id=content"
                  " WHERE uid=3 ORDER BY since"),
             "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB; AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    sync_record_fini(&rec);
    finish();
}

/* The CRC that is kept is that of the records that are there. */
static void test_crc(void)
{
    struct lcbtest_history h;
    struct sync_record rec = {.uid = 0};
    begin();
    lcbtest_start(&h, 8);
    for (int i = 0; i < 80; i++)
        CU_ASSERT_EQUAL(lcbtest_step(&h, lcb), 0);
    int64_t n = strtoll(rows("SELECT max(id) FROM folders"), NULL, 10);
    CU_ASSERT(n > 3);
    for (int64_t f = 1; f <= n; f++) {
        char sql[80];
        uint32_t crc = 0, uid = 0;
        while (lcb_next_live(lcb, f, uid, 0, &uid) > 0) {
            CU_ASSERT_EQUAL(lcb_find_record(lcb, f, uid, &rec), 0);
            crc ^= sync_record_crc(&rec);
        }
        snprintf(sql, sizeof(sql), "SELECT crc FROM folders WHERE id=%lld", (long long)f);
        CU_ASSERT_EQUAL((uint32_t)strtoul(rows(sql), NULL, 10), crc);
    }
    sync_record_fini(&rec);
    finish();
}

/* Thousands of records: several lines with one time, all of one commit. */
static void test_large_mailbox(void)
{
    enum { N = 3000 };
    const char **r = xzmalloc((N + 1) * sizeof(*r));
    begin();
    for (unsigned i = 0; i < N; i++)
        r[i] = xstrdup(lcbtest_record(i + 1, 5, "\\Seen $Label1 $Label2 $Label3", GUID_A));
    mailbox("u1", "user.joe", 5, r);
    CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
    UNIT_STR(rows("SELECT count(*) FROM records"), "3000");
    CU_ASSERT(strtol(rows("SELECT count(DISTINCT since) FROM records"), NULL, 10) > 1);
    UNIT_STR(rows("SELECT count(*) FROM folder_states"), "1");
    UNIT_STR(rows("SELECT count(*) FROM ticks"), "1");
    mailbox("u1", "user.joe", 5, r);
    CU_ASSERT(!lcb_dirty(lcb));
    free((char *)(uintptr_t)r[N - 1]);
    r[N - 1] = xstrdup(lcbtest_record(N, 6, "", GUID_A));
    mailbox("u1", "user.joe", 5, r); /* one of them is new: a short line */
    CU_ASSERT_EQUAL(lcb->df.lines, 1);
    CU_ASSERT(lcb->df.text.len < 1000);
    for (unsigned i = 0; i < N; i++)
        free((char *)(uintptr_t)r[i]);
    free(r);
    finish();
}

static void test_unuser(void)
{
    begin();
    const char *r[2] = {lcbtest_record(1, 5, "", GUID_A), NULL};
    mailbox("u1", "user.joe", 5, r);
    logged("SUB", "%(MBOXNAME user.joe)");
    logged("SEEN", "%(UNIQUEID u1 LASTREAD 5 LASTUID 6 LASTCHANGE 7 SEENUIDS 1:6)");
    logged("SIEVE", "%(FILENAME a.script LAST_UPDATE 9 CONTENT keep;)");
    logged("ACTIVATE_SIEVE", "%(FILENAME a.bc)");
    logged("QUOTA", "%(ROOT user.joe STORAGE 1000 MESSAGE 5)");
    CU_ASSERT(logged("UNUSER", "joe"));
    CU_ASSERT(!logged("UNUSER", "joe"));
    UNIT_STR(rows("SELECT count(*) FROM folder_states WHERE until IS NULL UNION ALL"
                  " SELECT count(*) FROM subs WHERE until IS NULL UNION ALL"
                  " SELECT count(*) FROM seens WHERE until IS NULL UNION ALL"
                  " SELECT count(*) FROM scripts WHERE until IS NULL UNION ALL"
                  " SELECT count(*) FROM active WHERE until IS NULL UNION ALL"
                  " SELECT count(*) FROM quotas WHERE until IS NULL"), "0; 0; 0; 0; 0; 0");
    UNIT_STR(rows("SELECT count(*) FROM folder_states UNION ALL SELECT count(*) FROM subs"),
             "1; 1");
    refused("UNUSER", "%(USERID joe)");
    finish();
}

/* Content that came again is found where it came last. */
static void test_messages(void)
{
    struct message_guid guid;
    struct buf text = BUF_INITIALIZER;
    begin();
    lcbtest_message(4, &text, &guid);
    CU_ASSERT_EQUAL(lcb_has_content(lcb, &guid, NULL), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(lcb, 4, 0), 0);
    CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(lcb, 4, 1), 0);
    CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
    uint64_t size = 0;
    CU_ASSERT_EQUAL(lcb_has_content(lcb, &guid, &size), 1);
    CU_ASSERT_EQUAL(size, text.len);
    UNIT_STR(rows("SELECT chunk FROM contents"), "2");
    buf_free(&text);
    finish();
}

/* Marks are not in the data file, outlive a commit, and go with a rebuild. */
static void test_marks(void)
{
    struct lcb_folder f;
    struct buf strings = BUF_INITIALIZER;
    begin();
    mailbox("u1", "user.joe", 1, NULL);
    CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
    CU_ASSERT_EQUAL(lcb_setmark(lcb, "u1", LCB_MARK_DOUBT), 0);
    CU_ASSERT(!lcb_dirty(lcb));
    CU_ASSERT_EQUAL(lcbtest_int(lcb_path(lcb), "SELECT mark FROM folders"), LCB_MARK_DOUBT);
    logged("SUB", "%(MBOXNAME user.joe)");
    CU_ASSERT_EQUAL(lcb_setmark(lcb, "u1", LCB_MARK_RESEND), 0);
    CU_ASSERT_EQUAL(lcbtest_int(lcb_path(lcb), "SELECT mark FROM folders"), LCB_MARK_DOUBT);
    CU_ASSERT_EQUAL(lcb_rollback(lcb), 0);
    CU_ASSERT_EQUAL(lcb_find_uniqueid(lcb, "u1", &f, &strings), 0);
    CU_ASSERT_EQUAL(f.mark, LCB_MARK_DOUBT);
    logged("SUB", "%(MBOXNAME user.joe)");
    CU_ASSERT_EQUAL(lcb_setmark(lcb, "u1", LCB_MARK_RESEND), 0);
    CU_ASSERT_EQUAL(lcb_commit(lcb), 0);
    lcb_close(&lcb);
    lcb = lcbtest_joe(&test);
    CU_ASSERT_EQUAL(lcb_find_uniqueid(lcb, "u1", &f, &strings), 0);
    CU_ASSERT_EQUAL(f.mark, LCB_MARK_RESEND);
    buf_free(&strings);
    finish();
}

void suite_lcb_index(void);
void suite_lcb_index(void)
{
    static const struct unit_test tests[] = {
        {"SUB, UNSUB", test_sub},
        {"SEEN", test_seen},
        {"SIEVE and its relatives", test_sieve},
        {"QUOTA, UNQUOTA", test_quota},
        {"ANNOTATION, UNANNOTATION", test_annotation},
        {"verbs that are not logged", test_unknown},
        {"names of mailboxes", test_names},
        {"RENAME", test_rename},
        {"records", test_records},
        {"CRC", test_crc},
        {"a large mailbox", test_large_mailbox},
        {"UNUSER", test_unuser},
        {"MESSAGE", test_messages},
        {"marks", test_marks},
        {NULL, NULL},
    };
    unit_suite("lcb_index", tests);
}
