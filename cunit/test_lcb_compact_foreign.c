/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of compaction of files that Cyrus 3.x wrote, and of files that are damaged. */
#include "config.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/lcbtest_foreign.h"
#include "cunit/lcbtest_pat.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define GUID4 "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d" /* of "hello", which is nobody's */

/* Times: the window begins at 1700000100. */
static const char *const before[] = {
    "1700000000 APPLY RESERVE %(PARTITION default MBOXNAME (user.pat) GUID (" GUID1 "))\r\n",
    "1700000000 APPLY MESSAGE (%{default " GUID1 " 21}\r\n" BODY1 " %{default " GUID2
        " 5}\r\nworld NIL %{\"a b\" " GUID3 " 0}\r\n %{default " GUID4 " 5}\r\nhello)\r\n",
    "1700000000 " MAILBOX " RECORD (" RECORD("1", "2", "", GUID1) " "
        RECORD("2", "3", "\\Seen $Label1", GUID2) " " RECORD("3", "3", "", GUID3) "))\r\n",
    "1700000001 " MAILBOX " RECORD (" RECORD("3", "4", "\\Expunged", GUID3) "))\r\n",
    "1700000002 APPLY SIEVE %(USERID pat FILENAME m.script LAST_UPDATE 5 CONTENT {11+}\r\n"
        "keep; # \xc3\xa4\r)\r\n",
    NULL,
};
static const char *const within[] = {
    /* All of it once more, as Cyrus does, and one that is new. */
    "1700000150 " MAILBOX " RECORD (" RECORD("1", "2", "", GUID1) " "
        RECORD("2", "9", "\\Flagged", GUID2) " " RECORD("3", "5", "\\Expunged", GUID3) "))\r\n",
    "1700000140 APPLY SUB %(USERID pat MBOXNAME user.pat)\r\n", /* the clock stepped back */
    "1700000160 " MAILBOX " ANNOTATIONS (%(ENTRY /comment USERID pat VALUE {6+}\r\na%b\"cd))"
        " RECORD (" RECORD("1", "10", "\\Seen \\Expunged", GUID1) "))\r\n",
    "1700000170 APPLY SIEVE %(USERID pat FILENAME m.script LAST_UPDATE 6 CONTENT {4+}\r\n\r\nab)\r\n",
    NULL,
};

struct file {
    struct lcbtest t;
    char path[300];
    struct buf data;
};

static void begin(struct file *f, const char *extra)
{
    memset(f, 0, sizeof(*f));
    lcbtest_init(&f->t, extra);
    lcbtest_open(&f->t, NULL);
    snprintf(f->path, sizeof(f->path), "%s/pat_AbCdEf", f->t.dir);
    lcbtest_settime(1700000200);
}

static void finish(struct file *f)
{
    buf_free(&f->data);
    lcbtest_fini(&f->t);
}

static int compact(struct file *f, struct lcb_compact_result *result)
{
    struct lcb_compact how = {.path = f->path, .force = 1};
    int r = lcb_compact(f->t.store, &how, result);
    if (r)
        printf("\n%s\n%s", error_message(r), lcbtest_log_text());
    return r;
}

/* The text of the whole file, and whether all of its members are ours. */
static void text_of(struct file *f, struct buf *text, int *ours)
{
    size_t at = 0;
    struct gzextra extra;
    lcbtest_read(f->path, &f->data);
    buf_reset(text);
    *ours = 1;
    while (at < f->data.len) {
        ssize_t n = gzmember_header(f->data.s + at, f->data.len - at, &extra);
        if (n < 0 || !extra.present || gzmember_unpack(f->data.s + at, extra.length, 8 << 20, text)) {
            *ours = 0;
            return;
        }
        at += extra.length;
    }
}

static void test_foreign(void)
{
    for (int retention = 0; retention <= 100; retention += 100) {
        struct file f;
        struct lcb_compact_result result;
        struct buf was = BUF_INITIALIZER, is = BUF_INITIALIZER, text = BUF_INITIALIZER;
        char extra[60];
        int ours;
        snprintf(extra, sizeof(extra), "backup_retention: %ds\n", retention);
        begin(&f, extra);
        cyrus_chunk(&f.data, before);
        cyrus_empty(&f.data);
        cyrus_chunk(&f.data, NULL);
        cyrus_chunk(&f.data, within);
        cyrus_empty(&f.data);
        lcbtest_write(f.path, f.data.s, f.data.len);
        int64_t from = retention ? 1700000100 : 1700000000;
        lcbtest_states(f.path, &f.t, from, &was);
        CU_ASSERT_EQUAL(compact(&f, &result), LCB_COMPACT_DONE);
        CU_ASSERT_EQUAL(result.damaged, 0);
        lcbtest_states(f.path, &f.t, from, &is);
        CU_ASSERT(lcbtest_same(&is, &was, "compacted"));
        lcbtest_compare(&f.t, f.path, "compacted, index");
        text_of(&f, &text, &ours);
        CU_ASSERT(ours);
        CU_ASSERT(!strstr(buf_cstring(&text), "RESERVE"));
        CU_ASSERT(!strstr(buf_cstring(&text), "+}"));
        CU_ASSERT(strstr(buf_cstring(&text), "world)") != NULL);
        /* Too young to go without a mailbox; and one that went before the window. */
        CU_ASSERT(strstr(buf_cstring(&text), "hello)") != NULL);
        CU_ASSERT_EQUAL(strstr(buf_cstring(&text), GUID3) == NULL, retention > 0);
        lcbtest_settime(1700000200 + 90000);
        CU_ASSERT_EQUAL(compact(&f, &result), LCB_COMPACT_DONE);
        text_of(&f, &text, &ours);
        CU_ASSERT(!strstr(buf_cstring(&text), "hello)"));
        buf_free(&was);
        buf_free(&is);
        buf_free(&text);
        finish(&f);
    }
}

/* A line with so many records that it becomes several; a message that is streamed. */
static void test_large(void)
{
    struct file f;
    struct lcb_compact_result result;
    struct cyrus_member m;
    struct message_guid guid;
    struct buf was = BUF_INITIALIZER, is = BUF_INITIALIZER, line = BUF_INITIALIZER;
    struct buf body = BUF_INITIALIZER;
    char hex[41];
    int ours;
    begin(&f, "backup_retention: 100s\n");
    cyrus_begin(&m, &f.data);
    cyrus_text(&m, LCB_CHUNK_START, LCB_CHUNK_START_LEN);
    lcbtest_message(1000003, &body, &guid);
    message_guid_encode(&guid, hex);
    buf_printf(&line, "1700000120 APPLY MESSAGE (%%{default %s %zu}\r\n", hex, body.len);
    buf_append(&line, &body);
    buf_appendcstr(&line, " %{default " GUID2 " 5}\r\nworld)\r\n");
    cyrus_text(&m, line.s, line.len);
    buf_setcstr(&line, "1700000130 " MAILBOX " RECORD (");
    for (unsigned uid = 1; uid <= 4000; uid++)
        buf_printf(&line, "%s%s", uid == 1 ? "" : " ",
                   lcbtest_record(uid, 3, "\\Seen $SomeLabel", uid == 7 ? hex : GUID2));
    buf_appendcstr(&line, "))\r\n");
    cyrus_text(&m, line.s, line.len);
    cyrus_finish(&m);
    lcbtest_write(f.path, f.data.s, f.data.len);
    lcbtest_settime(1700000131);
    lcbtest_states(f.path, &f.t, 1700000130, &was);
    CU_ASSERT_EQUAL(compact(&f, &result), LCB_COMPACT_DONE);
    lcbtest_states(f.path, &f.t, 1700000130, &is);
    CU_ASSERT(was.len > 400000);
    CU_ASSERT(lcbtest_same(&is, &was, "compacted"));
    text_of(&f, &line, &ours);
    CU_ASSERT(ours);
    lcbtest_compare(&f.t, f.path, "compacted, index");
    CU_ASSERT_EQUAL(compact(&f, &result), LCB_COMPACT_DONE);
    lcbtest_states(f.path, &f.t, 1700000130, &is);
    CU_ASSERT(lcbtest_same(&is, &was, "compacted twice"));
    buf_free(&was);
    buf_free(&is);
    buf_free(&line);
    buf_free(&body);
    finish(&f);
}

static int damaged_files(struct file *f, struct buf *data)
{
    glob_t g;
    char pattern[320];
    snprintf(pattern, sizeof(pattern), "%s.damaged.*", f->path);
    int n = glob(pattern, 0, NULL, &g) ? 0 : (int)g.gl_pathc;
    if (n)
        lcbtest_read(g.gl_pathv[0], data);
    globfree(&g);
    return n;
}

/* A process was killed, and somebody wrote garbage: the first is no loss, the second is kept. */
static void test_debris(void)
{
    struct file f;
    struct lcb_compact_result result;
    struct cyrus_member m;
    struct buf was = BUF_INITIALIZER, is = BUF_INITIALIZER, aside = BUF_INITIALIZER;
    begin(&f, "backup_retention: 100s\n");
    cyrus_chunk(&f.data, before);
    buf_appendcstr(&f.data, "garbage, garbage, garbage");
    cyrus_chunk(&f.data, within);
    cyrus_begin(&m, &f.data);
    cyrus_line(&m, LCB_CHUNK_START);
    cyrus_line(&m, "1700000180 APPLY SUB %(USERID pat MBOXNAME user.pat.x)\r\n");
    cyrus_abandon(&m);
    lcbtest_write(f.path, f.data.s, f.data.len);
    lcbtest_states(f.path, &f.t, 1700000100, &was);
    CU_ASSERT_EQUAL(compact(&f, &result), LCB_COMPACT_DONE);
    CU_ASSERT(result.damaged > 0);
    CU_ASSERT_EQUAL(damaged_files(&f, &aside), 1);
    CU_ASSERT(aside.len && memmem(aside.s, aside.len, "garbage, garbage", 16) != NULL);
    lcbtest_states(f.path, &f.t, 1700000100, &is);
    CU_ASSERT(lcbtest_same(&is, &was, "compacted"));
    CU_ASSERT(strstr(buf_cstring(&is), "sub user.pat.x") != NULL);
    CU_ASSERT_EQUAL(compact(&f, &result), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(result.damaged, 0);
    buf_free(&was);
    buf_free(&is);
    buf_free(&aside);
    finish(&f);
}

/* A LINE at TIME as the only one of a chunk of Cyrus, or behind another in one of ours. */
static void put_line(struct buf *out, int time, const char *line, int ours)
{
    struct buf text = BUF_INITIALIZER;
    struct cyrus_member m;
    if (ours) {
        struct gzpacker *packer = gzpacker_new(5);
        struct gzextra extra = {.present = 1, .flags = GZ_COMMIT, .id = 77, .seq = 2};
        buf_printf(&text, "%s%d APPLY SUB %%(USERID pat MBOXNAME user.pat)\r\n%d %s", LCB_CHUNK_START,
                   time, time, line);
        gzpacker_pack(packer, out, text.s, text.len, &extra);
        gzpacker_free(&packer);
    } else {
        buf_printf(&text, "%d %s", time, line);
        cyrus_begin(&m, out);
        cyrus_line(&m, LCB_CHUNK_START);
        cyrus_line(&m, buf_cstring(&text));
        cyrus_finish(&m);
        cyrus_chunk(out, within);
    }
    buf_free(&text);
}

/* What nobody understands is set aside, once, whether anything else of its chunk stays or not. */
static void odd_line(int time, const char *line, int ours, int damaged)
{
    struct file f;
    struct lcb_compact_result result;
    struct buf was = BUF_INITIALIZER, is = BUF_INITIALIZER, aside = BUF_INITIALIZER;
    begin(&f, "backup_retention: 100s\n");
    cyrus_chunk(&f.data, before);
    put_line(&f.data, time, line, ours);
    lcbtest_write(f.path, f.data.s, f.data.len);
    lcbtest_states(f.path, &f.t, 1700000190, &was);
    CU_ASSERT_EQUAL(compact(&f, &result), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(result.damaged, damaged);
    CU_ASSERT_EQUAL(damaged_files(&f, &aside), damaged);
    CU_ASSERT_EQUAL(damaged && !(aside.len && memmem(f.data.s, f.data.len, aside.s, aside.len)), 0);
    lcbtest_states(f.path, &f.t, 1700000190, &is);
    CU_ASSERT(lcbtest_same(&is, &was, line));
    CU_ASSERT_EQUAL(compact(&f, &result), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(result.damaged, 0);
    lcbtest_states(f.path, &f.t, 1700000190, &was);
    CU_ASSERT(lcbtest_same(&was, &is, line));
    buf_free(&was);
    buf_free(&is);
    buf_free(&aside);
    finish(&f);
}

static void test_odd(void)
{
    static const char *const odd[] = {
        "APPLY SUB %(USERID pat MBOXNAME\r\n",
        "APPLY SUB %(USERID pat)\r\n",
        "APPLY MAILBOX %(UNIQUEID 3f2c1b0b RECORD ())\r\n",
        MAILBOX " RECORD (" RECORD("7", "7", "", "abc") "))\r\n",
        "APPLY MESSAGE (%{default " GUID2 " 5}\r\nwor1d)\r\n",
        "APPLY MESSAGE (%{default " GUID2 " 500}\r\nworld)\r\n",
        "squeamish ossifrage\r\n",
        NULL,
    };
    /* Written by Cyrus, or by a later version, and of no use: nothing is wrong with these. */
    static const char *const known[] = {
        "APPLY RESERVE %(PARTITION default MBOXNAME (user.pat) GUID (" GUID1 "))\r\n",
        "APPLY EXPUNGE %(MBOXNAME user.pat UNIQUEID 3f2c1b0a UID (1))\r\n",
        "APPLY SOMETHING_NEW (1 2)\r\n",
        NULL,
    };
    for (int i = 0; i < 4; i++) {
        int time = i & 1 ? 1700000150 : 1700000000;
        for (int j = 0; odd[j]; j++)
            odd_line(time, odd[j], i & 2, 1);
        for (int j = 0; known[j]; j++)
            odd_line(time, known[j], i & 2, 0);
    }
}

/* A chunk that is needed has rotted: its bytes are set aside, what is known of it stays, and its
 * messages are asked for again. */
static void test_rot(void)
{
    for (int group = 1; group < LCBTEST_GROUPS - 1; group += 2) {
        struct lcbtest_file f;
        struct lcb_compact_result result;
        struct lcb_compact how = {.force = 1};
        struct buf data = BUF_INITIALIZER;
        struct file at;
        lcbtest_makefile(&f);
        how.path = f.path;
        lcbtest_putindex(f.path, &f.index[LCBTEST_GROUPS]);
        buf_setmap(&data, f.data.s, f.data.len);
        data.s[f.start[group][1] + 60] ^= 0x55;
        lcbtest_write(f.path, data.s, data.len);
        int r = lcb_compact(f.t.store, &how, &result);
        if (r)
            printf("\n%s\n%s", error_message(r), lcbtest_log_text());
        CU_ASSERT_EQUAL(r, LCB_COMPACT_DONE);
        CU_ASSERT_EQUAL(result.damaged, 1);
        snprintf(at.path, sizeof(at.path), "%s", f.path);
        CU_ASSERT_EQUAL(damaged_files(&at, &data), 1);
        CU_ASSERT_EQUAL(data.len, (size_t)(f.start[group][2] - f.start[group][1]));
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folder_states WHERE until IS NULL"),
                        LCBTEST_GROUPS);
        CU_ASSERT(lcbtest_logged("cannot be read"));
        buf_free(&data);
        lcbtest_freefile(&f);
    }
}

/* A disk with a place that cannot be read, today and tomorrow. */
static struct {
    struct vfs vfs;
    struct vfs_ops ops;
    off_t from, to;
} bad;

static ssize_t bad_pread(struct vfs *v, int fd, void *p, size_t n, off_t at)
{
    struct stat st;
    (void)v;
    /* of the data file, which alone is that large */
    if (at < bad.to && at + (off_t)n > bad.from && !fstat(fd, &st) && st.st_size >= bad.to)
        return -EIO;
    return vfs_pread(vfs_system(), fd, p, n, at);
}

static void test_bad_place(void)
{
    struct lcbtest_file f;
    struct lcb_compact_result result;
    struct lcb_compact how = {.force = 1};
    struct buf data = BUF_INITIALIZER;
    struct file at;
    lcbtest_makefile(&f);
    how.path = f.path;
    lcbtest_putindex(f.path, &f.index[LCBTEST_GROUPS]);
    lcbtest_write(f.path, f.data.s, f.data.len);
    bad.ops = *vfs_system()->ops;
    bad.ops.pread = bad_pread;
    bad.vfs.ops = &bad.ops;
    bad.from = f.start[LCBTEST_GROUPS - 2][1] + 100;
    bad.to = bad.from + 1;
    lcbtest_close(&f.t);
    lcbtest_open(&f.t, &bad.vfs);
    int r = lcb_compact(f.t.store, &how, &result);
    if (r)
        printf("\n%s\n%s", error_message(r), lcbtest_log_text());
    CU_ASSERT_EQUAL(r, LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(result.damaged, 1);
    snprintf(at.path, sizeof(at.path), "%s", f.path);
    CU_ASSERT_EQUAL(damaged_files(&at, &data), 1);
    /* All of it but the sector. */
    size_t start = (size_t)f.start[LCBTEST_GROUPS - 2][1];
    CU_ASSERT_FATAL(data.len >= (size_t)f.start[LCBTEST_GROUPS - 2][2] - start);
    CU_ASSERT_FATAL(start + data.len <= f.data.len);
    for (size_t i = 0; i < data.len; i++)
        if ((start + i) / 512 == (size_t)bad.from / 512)
            CU_ASSERT(!data.s[i])
        else if (data.s[i] != f.data.s[start + i])
            CU_FAIL("another byte");
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folder_states WHERE until IS NULL"),
                    LCBTEST_GROUPS);
    buf_free(&data);
    lcbtest_close(&f.t);
    lcbtest_open(&f.t, NULL);
    lcbtest_freefile(&f);
}

void suite_lcb_compact_foreign(void);
void suite_lcb_compact_foreign(void)
{
    static const struct unit_test tests[] = {
        {"lines of Cyrus", test_foreign},
        {"large lines of Cyrus", test_large},
        {"debris", test_debris},
        {"lines nobody understands", test_odd},
        {"rot", test_rot},
        {"a place that cannot be read", test_bad_place},
        {NULL, NULL},
    };
    unit_suite("lcb_compact_foreign", tests);
}
