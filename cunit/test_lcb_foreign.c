/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests with data files as Cyrus 3.x writes them: members without our field, with a full flush
 * after every line; empty members; chunks with nothing but their first line; several messages in a
 * line; literals with a plus; times that go back; members that were never finished. */
#include "config.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* ---- writing as Cyrus does ---- */

struct member {
    struct buf *out;
    z_stream z;
    uLong crc;
    uint32_t size;
};

static void put(struct member *m, const void *p, size_t n, int flush)
{
    int r = Z_OK;
    m->crc = crc32(m->crc, p, (uInt)n);
    m->size += (uint32_t)n;
    m->z.next_in = (unsigned char *)(uintptr_t)p;
    m->z.avail_in = (uInt)n;
    do {
        m->z.next_out = (unsigned char *)buf_ensure(m->out, 4096);
        m->z.avail_out = 4096;
        r = deflate(&m->z, flush);
        m->out->len += 4096 - m->z.avail_out;
    } while (m->z.avail_out == 0);
    CU_ASSERT(r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
}

static void begin(struct member *m, struct buf *out)
{
    memset(m, 0, sizeof(*m));
    m->out = out;
    CU_ASSERT_EQUAL(deflateInit2(&m->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -15, 8,
                                 Z_DEFAULT_STRATEGY), Z_OK);
    buf_appendmap(out, "\x1f\x8b\x08\0\0\0\0\0\0\x03", 10);
}

static void line(struct member *m, const char *text)
{
    put(m, text, strlen(text), Z_FULL_FLUSH);
}

static void finish(struct member *m)
{
    put(m, "", 0, Z_FINISH);
    for (int i = 0; i < 4; i++)
        buf_putc(m->out, (int)(m->crc >> 8 * i & 255));
    for (int i = 0; i < 4; i++)
        buf_putc(m->out, (int)(m->size >> 8 * i & 255));
    deflateEnd(&m->z);
}

/* A whole chunk of LINES (NULL-terminated). */
static void chunk(struct buf *out, const char *const *lines)
{
    struct member m;
    begin(&m, out);
    line(&m, LCB_CHUNK_START);
    for (; lines && *lines; lines++)
        line(&m, *lines);
    finish(&m);
}

/* What zlib up to 1.2.11 leaves behind a member. */
static void empty(struct buf *out)
{
    buf_appendmap(out, "\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0", 20);
}

#define GUID1 "395d0ff49f715681ab77a885d04cecf70d0cf528"
#define BODY1 "Subject: hi\r\n\r\nbody\r\n"
#define GUID2 "7c211433f02071597741e6ff5a8ea34789abbf43" /* of "world" */
#define GUID3 "da39a3ee5e6b4b0d3255bfef95601890afd80709" /* of nothing */
#define MAILBOX "APPLY MAILBOX %(UNIQUEID 3f2c1b0a MBOXNAME user.pat LAST_UID 2 HIGHESTMODSEQ 3" \
    " RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 1600000000 POP3_LAST_LOGIN 0 UIDVALIDITY" \
    " 1500000000 PARTITION default ACL \"pat\tlrs\t\" OPTIONS P SYNC_CRC 123 SYNC_CRC_ANNOT" \
    " 12345678"
#define RECORD(uid, modseq, flags, guid) "%(UID " uid " MODSEQ " modseq " LAST_UPDATED 1600000000" \
    " FLAGS (" flags ") INTERNALDATE 1546300800 SIZE 21 GUID " guid ")"

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
    chunk(&f.data, NULL);
    empty(&f.data);
    chunk(&f.data, first);
    empty(&f.data);
    empty(&f.data);
    chunk(&f.data, second);
    chunk(&f.data, NULL);
    empty(&f.data);
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
    chunk(&f.data, first);
    empty(&f.data);
    chunk(&f.data, second);
    empty(&f.data);
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
    chunk(&now, second);
    empty(&now);
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

/* Every member is a commit of its own; one that is not whole at the end goes aside. */
static void test_cut(void)
{
    struct file f;
    struct buf all = BUF_INITIALIZER;
    size_t ends[4];
    start(&f);
    chunk(&all, first);
    ends[0] = all.len;
    empty(&all);
    ends[1] = all.len;
    chunk(&all, second);
    ends[2] = all.len;
    chunk(&all, NULL);
    ends[3] = all.len;
    for (size_t cut = 0; cut <= all.len; cut++) {
        size_t want = 0;
        for (int i = 0; i < 4; i++)
            if (ends[i] <= cut)
                want = ends[i];
        buf_setmap(&f.data, all.s, cut);
        struct lcb *b = opened(&f);
        CU_ASSERT_EQUAL(b->df.end, (off_t)want);
        CU_ASSERT_EQUAL(size_of(f.path), (off_t)want);
        lcb_close(&b);
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs"), cut >= ends[2]);
        lcbtest_settime(lcbtest_time() + 1);
    }
    buf_free(&all);
    end(&f);
}

/* A process was killed and another went on behind its unfinished member. */
static void test_unfinished(void)
{
    struct file f;
    struct member m;
    struct expect only = {0, 1, 1, 1, 1, 1}, both = {3, 1, 3, 1, 1, 2};
    for (int before = 0; before < 2; before++) {
        start(&f);
        if (before)
            chunk(&f.data, first);
        begin(&m, &f.data);
        line(&m, LCB_CHUNK_START);
        line(&m, first[0]);
        line(&m, first[1]);
        deflateEnd(&m.z);
        chunk(&f.data, second);
        struct lcb *b = opened(&f);
        CU_ASSERT_EQUAL(size_of(f.path), (off_t)f.data.len);
        expect(f.path, before ? &both : &only);
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT mark FROM folders"), LCB_MARK_RESEND);
        CU_ASSERT(lcbtest_logged("is damaged"));
        lcb_close(&b);
        end(&f);
    }
}

/* Damage in one of several chunks costs no other. */
static void test_rot(void)
{
    struct file f;
    char text[3][120];
    size_t at[4];
    start(&f);
    for (int i = 0; i < 3; i++) {
        at[i] = f.data.len;
        snprintf(text[i], sizeof(text[i]), "1695306987 APPLY SUB %%(MBOXNAME user.pat.%d)\r\n", i);
        const char *lines[] = {text[i], NULL};
        chunk(&f.data, lines);
    }
    at[3] = f.data.len;
    for (size_t i = 0; i < at[2]; i++) {
        size_t in = i >= at[1] ? i - at[1] : i;
        if (in >= 4 && in < 10)
            continue;
        f.data.s[i] ^= 0x55;
        struct lcb *b = opened(&f);
        CU_ASSERT_EQUAL(size_of(f.path), (off_t)f.data.len);
        lcb_close(&b);
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs"), 2);
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs WHERE mboxname="
                                            "'user.pat.2'"), 1);
        f.data.s[i] ^= 0x55;
    }
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
        "1695306987 APPLY SUB %(MBOXNAME user.bare)\n",
        "1695306987 APPLY SUB %(MBOXNAME user.yes)\r\n",
        NULL,
    };
    struct file f;
    start(&f);
    chunk(&f.data, lines);
    chunk(&f.data, first);
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
    chunk(&f.data, lines);
    chunk(&f.data, second);
    struct lcb *b = opened(&f);
    CU_ASSERT_EQUAL(size_of(f.path), (off_t)f.data.len);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM subs"), 2);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM contents WHERE chunk NOT NULL"), 0);
    lcb_close(&b);
    end(&f);
}

/* Two files of Cyrus have nothing in them that says which is which. */
static void test_wrong_index(void)
{
    struct file f;
    struct lcbtest_index ix = {.db = BUF_INITIALIZER};
    start(&f);
    chunk(&f.data, first);
    struct lcb *b = opened(&f);
    lcb_close(&b);
    lcbtest_saveindex(f.path, &ix);
    buf_reset(&f.data);
    chunk(&f.data, second);
    for (int i = 0; i < 20; i++)
        chunk(&f.data, NULL);
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
    chunk(&plain, second);
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
        {"every cut", test_cut},
        {"an unfinished member", test_unfinished},
        {"rot", test_rot},
        {"strange lines", test_strange_lines},
        {"a line that ends early", test_short_line},
        {"an index of another file", test_wrong_index},
        {"another header", test_other_header},
        {NULL, NULL},
    };
    unit_suite("lcb_foreign", tests);
}
