/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests with data files as Cyrus 3.x writes them: members without our field, with a full flush
 * after every line; empty members; chunks with nothing but their first line; several messages in a
 * line; literals with a plus; times that go back. (Members that are not whole: test_lcb_salvage.c.) */
#include "config.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/lcbtest_foreign.h"
#include "cunit/lcbtest_pat.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static const char *const first[] = {
    "1695306987 APPLY RESERVE %(PARTITION default MBOXNAME (user.pat) GUID (" GUID1 "))\r\n",
    "1695306987 APPLY MESSAGE (%{default " GUID1 " 21}\r\n" BODY1 " %{default " GUID2
        " 5}\r\nworld NIL %{\"a b\" " GUID3 " 0}\r\n)\r\n",
    "1695306987 " MAILBOX " RECORD (" RECORD("1", "2", "", GUID1) " "
        RECORD("2", "3", "\\Seen $Label1", GUID2) "))\r\n",
    NULL,
};
static const char *const second[] = {
    "1695306989 " MAILBOX " ANNOTATIONS (%(ENTRY /comment USERID pat VALUE {6+}\r\na%b\"cd))"
        " RECORD (" RECORD("1", "4", "\\Seen \\Expunged", GUID1) "))\r\n",
    "1695306985 APPLY SUB %(USERID pat MBOXNAME user.pat)\r\n", /* the clock stepped back */
    "1695306986 APPLY SIEVE %(USERID pat FILENAME m.script LAST_UPDATE 5 CONTENT {11+}\r\n"
        "keep; # \xc3\xa4\r)\r\n",
    NULL,
};

struct expect {
    int contents, folders, records, subs, scripts, chunks;
};

static void expect(const char *path, const struct expect *e)
{
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM contents WHERE chunk NOT NULL"),
                    e->contents);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM folders"), e->folders);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM records"), e->records);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM subs"), e->subs);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM scripts"), e->scripts);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM chunks"), e->chunks);
}

struct file {
    struct lcbtest t;
    char path[300];
    struct buf data;
};

static void start(struct file *f)
{
    memset(f, 0, sizeof(*f));
    lcbtest_init(&f->t, "");
    lcbtest_open(&f->t, NULL);
    snprintf(f->path, sizeof(f->path), "%s/pat_AbCdEf", f->t.dir);
}

static void end(struct file *f)
{
    buf_free(&f->data);
    lcbtest_fini(&f->t);
}

/* Open f->data without an index. */
static struct lcb *opened(struct file *f)
{
    struct lcb *b = NULL;
    lcbtest_write(f->path, f->data.s, f->data.len);
    lcbtest_rmindex(f->path);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f->t.store, f->path, LCB_WRITE, 0, &b), 0);
    return b;
}

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? -1 : st.st_size;
}

static int collect(void *rock, const void *p, size_t n)
{
    buf_appendmap(rock, p, n);
    return 0;
}

static void content(struct lcb *b, const char *hex, const char *want)
{
    struct message_guid guid;
    struct buf got = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(message_guid_decode(&guid, hex, 40), 0);
    CU_ASSERT_EQUAL(lcb_read_content(b, &guid, collect, &got), 0);
    UNIT_STR(buf_cstring(&got), want);
    buf_free(&got);
}

static void test_read(void)
{
    struct file f;
    struct lcb_folder folder;
    struct buf strings = BUF_INITIALIZER;
    struct sync_record rec = {.uid = 0};
    static const struct expect all = {3, 1, 3, 1, 1, 4};
    start(&f);
    cyrus_chunk(&f.data, NULL);
    cyrus_empty(&f.data);
    cyrus_chunk(&f.data, first);
    cyrus_empty(&f.data);
    cyrus_empty(&f.data);
    cyrus_chunk(&f.data, second);
    cyrus_chunk(&f.data, NULL);
    cyrus_empty(&f.data);
    struct lcb *b = opened(&f);
    CU_ASSERT(!lcb_dirty(b));
    CU_ASSERT_EQUAL(size_of(f.path), (off_t)f.data.len);
    expect(f.path, &all);
    content(b, GUID1, BODY1);
    content(b, GUID2, "world");
    content(b, GUID3, "");
    CU_ASSERT_EQUAL_FATAL(lcb_find_name(b, "user.pat", &folder, &strings), 0);
    UNIT_STR(folder.uniqueid, "3f2c1b0a");
    CU_ASSERT_PTR_NOT_NULL(strstr(folder.header, "VALUE {6}\r\na%b\"cd"));
    CU_ASSERT_EQUAL(folder.mark, LCB_MARK_DOUBT); /* SYNC_CRC 123 is none */
    CU_ASSERT_EQUAL(lcb_find_record(b, folder.id, 2, &rec), 0);
    UNIT_STR(buf_cstring(&rec.flags), "(\\Seen $Label1)");
    CU_ASSERT_EQUAL(folder.crc, sync_record_crc(&rec)); /* the other is expunged */
    CU_ASSERT_EQUAL(lcb_find_record(b, folder.id, 1, &rec), 0);
    CU_ASSERT_EQUAL(rec.expunged, 1);
    UNIT_STR(buf_cstring(&rec.flags), "(\\Seen)");
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT max(time) FROM ticks"), 1695306989);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT time FROM ticks ORDER BY pos DESC LIMIT 1"),
                    1695306989); /* clamped */
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT length(content) FROM scripts"), 11);
    CU_ASSERT(!lcbtest_logged("cannot be understood"));
    sync_record_fini(&rec);
    buf_free(&strings);
    lcb_close(&b);
    end(&f);
}

/* We go on behind what Cyrus wrote, and change none of it. */
static void test_append(void)
{
    struct file f;
    struct lcbtest_history h;
    struct buf live = BUF_INITIALIZER, again = BUF_INITIALIZER, now = BUF_INITIALIZER;
    start(&f);
    cyrus_chunk(&f.data, first);
    cyrus_empty(&f.data);
    cyrus_chunk(&f.data, second);
    cyrus_empty(&f.data);
    struct lcb *b = opened(&f);
    lcbtest_start(&h, 9);
    for (int i = 0; i < 30; i++) {
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
        if (i % 4)
            continue;
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
        if (i % 3 == 0) {
            lcb_close(&b);
            CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
        }
    }
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    content(b, GUID1, BODY1);
    lcb_close(&b);
    lcbtest_dump(f.path, &live);
    lcbtest_read(f.path, &now);
    CU_ASSERT(now.len > f.data.len && !memcmp(now.s, f.data.s, f.data.len));
    lcbtest_rebuild(&f.t, now.s, now.len, &again);
    CU_ASSERT(lcbtest_same(&live, &again, "behind a file of Cyrus 3.x"));

    /* And Cyrus behind us. */
    cyrus_chunk(&now, second);
    cyrus_empty(&now);
    lcbtest_write(f.path, now.s, now.len);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
    CU_ASSERT_EQUAL(b->df.end, (off_t)now.len);
    lcb_close(&b);
    lcbtest_dump(f.path, &live);
    lcbtest_rebuild(&f.t, now.s, now.len, &again);
    CU_ASSERT(lcbtest_same(&live, &again, "Cyrus 3.x behind us"));
    buf_free(&live);
    buf_free(&again);
    buf_free(&now);
    end(&f);
}

/* Lines that mean nothing to us, or to anybody. */
static void test_strange_lines(void)
{
    static const char *const lines[] = {
        "1695306987 APPLY EXPUNGE %(MBOXNAME user.pat UNIQUEID x UID (1 2))\r\n",
        "1695306987 APPLY WHATEVER (a (b %(c d)) {3+}\r\n\r\n))\r\n",
        "1695306987 NOTAPPLY SUB %(MBOXNAME user.no)\r\n",
        "rubbish\r\n",
        "1695306987 APPLY SUB %(MBOXNAME\r\n",
        "1695306987 APPLY SUB (MBOXNAME user.no)\r\n",
        "1695306987 APPLY SUB %(MBOXNAME NIL)\r\n",
        "99999999999999999999 APPLY SUB %(MBOXNAME user.no)\r\n",
        "-5 APPLY SUB %(MBOXNAME user.no)\r\n",
        "1695306987 APPLY MESSAGE (%{default xyz 2}\r\nab)\r\n",
        "1695306987 APPLY MAILBOX %(UNIQUEID u)\r\n",
        "# a comment\r\n",
        "# and another\r\n",
        "1695306987 APPLY SUB %(MBOXNAME user.bare)\n",
        "1695306987 APPLY SUB %(MBOXNAME user.yes)\r\n",
        NULL,
    };
    struct file f;
    start(&f);
    cyrus_chunk(&f.data, lines);
    cyrus_chunk(&f.data, first);
    struct lcb *b = opened(&f);
    CU_ASSERT_EQUAL(size_of(f.path), (off_t)f.data.len);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs WHERE mboxname='user.yes'"), 1);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs WHERE mboxname='user.bare'"), 1);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs WHERE mboxname='user.no'"), 0);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs"), 2);
    CU_ASSERT(lcbtest_logged("cannot be understood"));
    content(b, GUID1, BODY1);
    lcb_close(&b);
    end(&f);
}

/* The last line of a whole chunk ends too early: what was whole of it is there. */
static void test_short_line(void)
{
    static const char *const lines[] = {
        "1695306987 APPLY SUB %(MBOXNAME user.yes)\r\n",
        "1695306987 APPLY MESSAGE (%{default " GUID1 " 2100}\r\n" BODY1, NULL,
    };
    struct file f;
    start(&f);
    cyrus_chunk(&f.data, lines);
    cyrus_chunk(&f.data, second);
    struct lcb *b = opened(&f);
    CU_ASSERT_EQUAL(size_of(f.path), (off_t)f.data.len);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs"), 2);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM contents WHERE chunk NOT NULL"), 0);
    lcb_close(&b);
    end(&f);
}

/* Mail of others in the file is not the user's, and a mailbox that went to another user is gone. */
static int count_content(void *rock, const struct message_guid *guid, uint64_t size)
{
    (void)guid;
    (void)size;
    ++*(int *)rock;
    return 0;
}

static void test_others(void)
{
    static const char *const lines[] = {
        "1695306990 APPLY RENAME %(OLDMBOXNAME user.pat NEWMBOXNAME user.jo PARTITION default"
            " UIDVALIDITY 5)\r\n", NULL,
    };
    struct file f;
    struct lcb_folder folder;
    struct buf strings = BUF_INITIALIZER;
    int n = 0;
    start(&f);
    cyrus_chunk(&f.data, first);
    struct lcb *b = opened(&f);
    CU_ASSERT_EQUAL(lcb_foreach_content(b, LCB_NOW, count_content, &n), 0);
    CU_ASSERT_EQUAL(n, 2);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM contents WHERE chunk NOT NULL"), 3);
    content(b, GUID3, "");
    lcb_close(&b);
    cyrus_chunk(&f.data, lines);
    b = opened(&f);
    CU_ASSERT_EQUAL(lcb_find_name(b, "user.jo", &folder, &strings), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_find_name(b, "user.pat", &folder, &strings), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folders"), 1);
    buf_free(&strings);
    lcb_close(&b);
    end(&f);
}

/* What this process needed at the most since the last call, in KiB. */
static long peak_memory(void)
{
    char line[200];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, "VmHWM:", 6))
            kib = strtol(line + 6, NULL, 10);
    if (f)
        fclose(f);
    f = fopen("/proc/self/clear_refs", "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs("5", f);
    fclose(f);
    return kib;
}

static int enough(void *rock)
{
    return --*(int *)rock < 0;
}

/* One chunk that holds a message of 64 MiB and a mailbox of 40,000 records in one line each. */
static void test_large(void)
{
    static const char zeros[64 << 10];
    struct file f;
    struct cyrus_member m;
    struct buf text = BUF_INITIALIZER;
    struct lcb *b = NULL;
    struct stat st;
    int patience = 3;
    start(&f);
    cyrus_begin(&m, &f.data);
    cyrus_line(&m, LCB_CHUNK_START);
    buf_printf(&text, "1695306987 APPLY MESSAGE (%%{default " GUID1 " %zu}\r\n", sizeof(zeros) << 10);
    cyrus_text(&m, text.s, text.len);
    for (int i = 0; i < 1024; i++)
        cyrus_text(&m, zeros, sizeof(zeros));
    cyrus_line(&m, ")\r\n");
    cyrus_line(&m, "1695306987 " MAILBOX " RECORD (");
    for (int i = 1; i <= 40000; i++) {
        buf_reset(&text);
        buf_printf(&text, "%s%%(UID %d MODSEQ %d LAST_UPDATED 1600000000 FLAGS (\\Seen) INTERNALDATE"
                          " 1546300800 SIZE 21 GUID " GUID1 ")", i > 1 ? " " : "", i, i);
        cyrus_text(&m, text.s, text.len);
    }
    cyrus_line(&m, "))\r\n");
    for (int i = 0; i < 20; i++)
        cyrus_line(&m, "1695306987 APPLY SUB %(MBOXNAME user.pat)\r\n");
    cyrus_finish(&m);
    peak_memory();
    long before = peak_memory();
    b = opened(&f);
    long after = peak_memory();
    lcb_close(&b);
#if !defined(__SANITIZE_ADDRESS__)
    CU_ASSERT(after - before < 24 << 10);
#endif
    if (after - before >= 24 << 10)
        printf("opening took %ld KiB\n", after - before);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM records"), 40000);
    CU_ASSERT_EQUAL(stat(f.path, &st), 0);
    CU_ASSERT_EQUAL((size_t)st.st_size, f.data.len);

    /* It can be given up in the middle, and costs nothing but time then. */
    lcbtest_rmindex(f.path);
    lcb_store_setstop(f.t.store, enough, &patience);
    CU_ASSERT_EQUAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), XERR_SIGNAL);
    lcb_store_setstop(f.t.store, NULL, NULL);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM records"), 40000);
    buf_free(&text);
    end(&f);
}

/* A line that breaks off in the middle of its value says nothing at all. */
static void test_half_mailbox(void)
{
    static const char *const lines[] = {
        "1695306987 " MAILBOX " RECORD (" RECORD("1", "2", "", GUID1) " %(UID x)))\r\n",
        "1695306987 APPLY SUB %(MBOXNAME user.yes)\r\n", NULL,
    };
    struct file f;
    start(&f);
    cyrus_chunk(&f.data, lines);
    struct lcb *b = opened(&f);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folders"), 0);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM records"), 0);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs"), 1);
    lcb_close(&b);
    end(&f);
}

/* Two files of Cyrus have nothing in them that says which is which. */
static void test_wrong_index(void)
{
    struct file f;
    struct lcbtest_index ix = {.db = BUF_INITIALIZER};
    start(&f);
    cyrus_chunk(&f.data, first);
    struct lcb *b = opened(&f);
    lcb_close(&b);
    lcbtest_saveindex(f.path, &ix);
    buf_reset(&f.data);
    cyrus_chunk(&f.data, second);
    for (int i = 0; i < 20; i++)
        cyrus_chunk(&f.data, NULL);
    for (int write = 0; write < 2; write++) {
        lcbtest_write(f.path, f.data.s, f.data.len);
        lcbtest_putindex(f.path, &ix);
        CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, write ? LCB_WRITE : 0, 0, &b), 0);
        lcb_close(&b);
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM contents WHERE chunk NOT NULL"),
                        0);
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs"), 1);
    }
    lcbtest_freeindex(&ix);
    end(&f);
}

/* As gzip(1) makes it: with a name in the header. */
static void test_other_header(void)
{
    struct file f;
    struct buf plain = BUF_INITIALIZER;
    start(&f);
    cyrus_chunk(&plain, second);
    buf_appendmap(&f.data, "\x1f\x8b\x08\x08\x12\x34\x56\x78\x02\x03" "a file\0", 17);
    buf_appendmap(&f.data, plain.s + 10, plain.len - 10);
    struct lcb *b = opened(&f);
    CU_ASSERT_EQUAL(b->df.end, (off_t)f.data.len);
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs"), 1);
    buf_free(&plain);
    end(&f);
}

void suite_lcb_foreign(void);
void suite_lcb_foreign(void)
{
    static const struct unit_test tests[] = {
        {"reading", test_read},
        {"appending", test_append},
        {"strange lines", test_strange_lines},
        {"a line that ends early", test_short_line},
        {"others' mail and mailboxes", test_others},
        {"large lines", test_large},
        {"half a mailbox", test_half_mailbox},
        {"an index of another file", test_wrong_index},
        {"another header", test_other_header},
        {NULL, NULL},
    };
    unit_suite("lcb_foreign", tests);
}
