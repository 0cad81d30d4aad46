/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests with data files of Cyrus 3.x whose members are not whole: cut at every place, at the end and
 * in the middle, and with every byte changed. Whatever a line's own bytes allow to be read must be
 * found, under its own name, and readable; what is made of the file must be a file that can be gone
 * on with. */
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
#include "cunit/unit.h"
#include "lib/sha1crc.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"

#define TIME "1600000000"

enum { CHUNKS = 3, LINES = 5, MAX = CHUNKS * LINES };
enum what { SUB, MESSAGE, MAILBOX };

/* A file, and where each of its lines stands. */
struct file {
    struct lcbtest t;
    char path[300];
    struct buf data;
    size_t chunk[CHUNKS + 1];          /* beginnings, and the end */
    size_t at[MAX], behind[MAX];       /* of each line, its flush included */
};

static enum what what_of(int n)
{
    static const enum what kinds[LINES] = {SUB, MESSAGE, MAILBOX, MESSAGE, SUB};
    return kinds[n % LINES];
}

static void body(int n, struct buf *out, struct message_guid *guid)
{
    buf_reset(out);
    buf_printf(out, "Subject: %d\r\n\r\n", n);
    for (int i = 0; i < 40; i++)
        buf_putc(out, (i * 7919 + n * 31) % 251);
    sha1_once(out->s, out->len, guid->value);
}

static void line_text(int n, struct buf *out)
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    char hex[41];
    buf_reset(out);
    buf_appendcstr(out, TIME " APPLY ");
    body(what_of(n) == MAILBOX ? n - 1 : n, &text, &guid);
    message_guid_encode(&guid, hex);
    switch (what_of(n)) {
    case SUB:
        buf_printf(out, "SUB %%(USERID pat MBOXNAME user.pat.sub%d)\r\n", n);
        break;
    case MESSAGE:
        buf_printf(out, "MESSAGE (%%{default %s %zu}\r\n", hex, text.len);
        buf_append(out, &text);
        buf_appendcstr(out, ")\r\n");
        break;
    case MAILBOX:
        buf_printf(out, "MAILBOX %%(%s RECORD (%s))\r\n",
                   lcbtest_header(n / LINES == 0 ? "u0" : n / LINES == 1 ? "u1" : "u2",
                                  n / LINES == 0   ? "user.pat"
                                  : n / LINES == 1 ? "user.pat.one"
                                                   : "user.pat.two", 1, 2, ""),
                   lcbtest_record(1, 2, "\\Seen", hex));
        break;
    }
    buf_free(&text);
}

static void put_line(struct cyrus_member *m, const struct buf *text)
{
    cyrus_text(m, text->s, text->len);
    cyrus_line(m, "");
}

static void start(struct file *f)
{
    struct cyrus_member m;
    struct buf text = BUF_INITIALIZER;
    memset(f, 0, sizeof(*f));
    lcbtest_init(&f->t, "");
    lcbtest_open(&f->t, NULL);
    snprintf(f->path, sizeof(f->path), "%s/pat_AbCdEf", f->t.dir);
    for (int c = 0; c < CHUNKS; c++) {
        f->chunk[c] = f->data.len;
        cyrus_begin(&m, &f->data);
        cyrus_line(&m, LCB_CHUNK_START);
        for (int n = c * LINES; n < (c + 1) * LINES; n++) {
            line_text(n, &text);
            f->at[n] = f->data.len;
            put_line(&m, &text);
            f->behind[n] = f->data.len;
        }
        cyrus_finish(&m);
    }
    f->chunk[CHUNKS] = f->data.len;
    buf_free(&text);
}

static void end(struct file *f)
{
    buf_free(&f->data);
    lcbtest_fini(&f->t);
}

static struct lcb *open_data(struct file *f, const struct buf *data, int flags)
{
    struct lcb *b = NULL;
    lcbtest_write(f->path, data->s, data->len);
    lcbtest_rmindex(f->path);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f->t.store, f->path, flags, 0, &b), 0);
    return b;
}

static int collect(void *rock, const void *p, size_t n)
{
    buf_appendmap(rock, p, n);
    return 0;
}

/* Is what line N says in the index, and its message readable? */
static int present(struct lcb *b, int n)
{
    struct buf want = BUF_INITIALIZER, got = BUF_INITIALIZER, strings = BUF_INITIALIZER;
    struct message_guid guid;
    struct lcb_folder folder;
    struct sync_record rec = {.uid = 0};
    char name[60];
    int64_t count = 0;
    int ok = 0;
    switch (what_of(n)) {
    case SUB:
        snprintf(name, sizeof(name), "user.pat.sub%d", n);
        ok = !sqldb_int(b->index->db, &count, "SELECT count(*) FROM subs WHERE mboxname=?", "t",
                        name) && count == 1;
        break;
    case MESSAGE:
        body(n, &want, &guid);
        ok = !lcb_read_content(b, &guid, collect, &got) && !buf_cmp(&got, &want);
        break;
    case MAILBOX:
        body(n - 1, &want, &guid);
        ok = !lcb_find_name(b, n / LINES == 0   ? "user.pat"
                               : n / LINES == 1 ? "user.pat.one"
                                                : "user.pat.two", &folder, &strings) &&
             !lcb_find_record(b, folder.id, 1, &rec) &&
             message_guid_equal(&rec.guid, &guid) && rec.modseq == 2;
        break;
    }
    sync_record_fini(&rec);
    buf_free(&want);
    buf_free(&got);
    buf_free(&strings);
    return ok;
}

/* 1 if all members of the file are whole. */
static int all_whole(const struct buf *data, struct file *f)
{
    char path[320];
    struct gzreader *r;
    char piece[4096];
    off_t at = 0;
    ssize_t n = 1;
    int fd;
    snprintf(path, sizeof(path), "%s.whole", f->path);
    lcbtest_write(path, data->s, data->len);
    fd = vfs_open(f->t.vfs, path, 0, 0);
    while (at < (off_t)data->len && !gzreader_open(f->t.vfs, fd, at, &r)) {
        while ((n = gzreader_read(r, piece, sizeof(piece))) > 0)
            ;
        off_t next = gzreader_offset(r);
        gzreader_close(&r);
        if (n < 0)
            break;
        at = next;
    }
    vfs_close(f->t.vfs, &fd);
    return at == (off_t)data->len;
}

/* Mailboxes that will be asked for again, for what they lack. */
static int marks(struct lcb *b)
{
    int64_t n = -1;
    CU_ASSERT_EQUAL(sqldb_int(b->index->db, &n, "SELECT count(*) FROM folders WHERE mark>=2", ""), 0);
    return (int)n;
}

/* We go on behind it, and what was made live is what a rebuild makes. */
static void go_on(struct file *f, struct lcb **b, const char *what)
{
    struct buf live = BUF_INITIALIZER, again = BUF_INITIALIZER, now = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(lcbtest_log(*b, "SUB", "%(USERID pat MBOXNAME user.pat.new)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(*b), 0);
    lcb_close(b);
    lcbtest_dump(f->path, &live);
    lcbtest_read(f->path, &now);
    lcbtest_rebuild(&f->t, now.s, now.len, &again);
    CU_ASSERT(lcbtest_same(&live, &again, what));
    buf_free(&live);
    buf_free(&again);
    buf_free(&now);
}

static void remove_tails(struct file *f)
{
    char pattern[320];
    glob_t g;
    snprintf(pattern, sizeof(pattern), "%s.tail.*", f->path);
    if (!glob(pattern, 0, NULL, &g))
        for (size_t i = 0; i < g.gl_pathc; i++)
            unlink(g.gl_pathv[i]);
    globfree(&g);
}

/* The file ends anywhere: all complete lines are there, for a reader at once, without a change to
 * the file; a writer makes a whole file of it and keeps the rest aside; nothing is asked for. */
static void test_cut_at_end(void)
{
    struct file f;
    struct buf now = BUF_INITIALIZER;
    struct lcb *b = NULL;
    start(&f);
    for (size_t cut = 10; cut < f.data.len; cut++) {
        struct buf data = {.s = f.data.s, .len = cut};
        b = open_data(&f, &data, 0);
        for (int n = 0; n < MAX; n++)
            CU_ASSERT(f.behind[n] > cut || present(b, n));
        CU_ASSERT_EQUAL(marks(b), 0);
        lcb_close(&b);
        lcbtest_read(f.path, &now);
        CU_ASSERT(now.len == cut);

        CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
        for (int n = 0; n < MAX; n++)
            CU_ASSERT(f.behind[n] > cut || present(b, n));
        CU_ASSERT_EQUAL(marks(b), 0);
        lcbtest_read(f.path, &now);
        CU_ASSERT(all_whole(&now, &f));
        CU_ASSERT_EQUAL((off_t)now.len, b->df.end);
        if (cut % 16 == 0)
            go_on(&f, &b, "behind a file that was cut");
        lcb_close(&b);
        remove_tails(&f);
    }
    buf_free(&now);
    end(&f);
}

/* A process was killed, the next one went on behind what it left. */
static void test_cut_in_the_middle(void)
{
    struct file f;
    struct buf data = BUF_INITIALIZER, now = BUF_INITIALIZER;
    start(&f);
    for (size_t cut = f.chunk[1] + 10; cut < f.chunk[2] - GZ_END_LEN; cut++) {
        buf_setmap(&data, f.data.s, cut);
        buf_appendmap(&data, f.data.s + f.chunk[2], f.data.len - f.chunk[2]);
        struct lcb *b = open_data(&f, &data, cut % 2 ? LCB_WRITE : 0);
        for (int n = 0; n < MAX; n++)
            CU_ASSERT((n / LINES == 1 && f.behind[n] > cut) || present(b, n));
        CU_ASSERT_EQUAL(marks(b), 0);
        lcbtest_read(f.path, &now);
        CU_ASSERT(!buf_cmp(&now, &data));
        if (cut % 16 == 1)
            go_on(&f, &b, "behind a file with an unfinished chunk");
        lcb_close(&b);
    }
    CU_ASSERT(lcbtest_logged("was not finished"));
    buf_free(&data);
    buf_free(&now);
    end(&f);
}

/* Any one byte is wrong: every line whose own bytes are right is there, and if anything is missing
 * the mailboxes are asked for again. */
static void test_every_byte(void)
{
    static const unsigned char flips[] = {0x55, 0x01, 0xff, 0x80};
    struct file f;
    start(&f);
    for (size_t i = 0; i < f.data.len; i++) {
        int missing = 0;
        f.data.s[i] = (char)(f.data.s[i] ^ flips[i % sizeof(flips)]);
        struct lcb *b = open_data(&f, &f.data, LCB_WRITE);
        for (int n = 0; n < MAX; n++) {
            int here = present(b, n);
            int touched = i >= f.at[n] && i < f.behind[n];
            missing += !here;
            CU_ASSERT(touched || here);
        }
        CU_ASSERT(!missing || marks(b) || i >= f.at[MAX - 1]);
        if (i % 16 == 0)
            go_on(&f, &b, "behind a file with a wrong byte");
        lcb_close(&b);
        remove_tails(&f);
        f.data.s[i] = (char)(f.data.s[i] ^ flips[i % sizeof(flips)]);
    }
    end(&f);
}

/* The text of a chunk that is not whole is that of its complete lines. */
static void test_text(void)
{
    struct file f;
    struct buf want = BUF_INITIALIZER, got = BUF_INITIALIZER, line = BUF_INITIALIZER;
    start(&f);
    f.data.s[f.behind[LINES + 1] - 8] ^= 0x55; /* in the second line of the second chunk */
    struct lcb *b = open_data(&f, &f.data, LCB_WRITE);
    buf_setcstr(&want, LCB_CHUNK_START);
    for (int n = LINES; n < 2 * LINES; n++) {
        line_text(n, &line);
        if (n != LINES + 1)
            buf_append(&want, &line);
    }
    CU_ASSERT_EQUAL(lcb_read_chunk(b, 2, collect, &got), 0);
    CU_ASSERT(got.len >= want.len - 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&got), "user.pat.sub5)\r\n"));
    CU_ASSERT_PTR_NOT_NULL(memmem(got.s, got.len, line.s, line.len));
    CU_ASSERT(marks(b) == 3);
    CU_ASSERT(lcbtest_logged("lines of it could be read"));
    lcb_close(&b);
    buf_free(&want);
    buf_free(&got);
    buf_free(&line);
    end(&f);
}

static void append(struct file *f, const void *p, size_t n)
{
    buf_appendmap(&f->data, p, n);
}

/* Other things that are found behind the last chunk. */
static void test_debris(void)
{
    static const char junk[200] = "\x1f\x8b\x08 this is no member at all";
    struct file f;
    struct stat st;
    struct cyrus_member m;
    struct buf now = BUF_INITIALIZER;
    for (int i = 0; i < 4; i++) {
        start(&f);
        size_t whole = f.data.len, want = whole;
        if (i == 1) { /* killed before the first line */
            cyrus_begin(&m, &f.data);
            cyrus_line(&m, LCB_CHUNK_START);
            cyrus_abandon(&m);
        } else if (i == 2) { /* junk behind an unfinished chunk: the chunk is finished */
            f.data.len = f.behind[MAX - 1];
        }
        if (i != 1)
            append(&f, junk, i == 3 ? 3 : sizeof(junk));
        struct lcb *b = open_data(&f, &f.data, LCB_WRITE);
        for (int n = 0; n < MAX; n++)
            CU_ASSERT(present(b, n));
        CU_ASSERT_EQUAL(marks(b), 0);
        CU_ASSERT_EQUAL(stat(f.path, &st), 0);
        CU_ASSERT_EQUAL((size_t)st.st_size, want);
        lcbtest_read(f.path, &now);
        CU_ASSERT(all_whole(&now, &f));
        CU_ASSERT(lcbtest_logged("were cut off and kept"));
        go_on(&f, &b, "behind debris");
        end(&f);
    }
    buf_free(&now);
}

/* A chunk that compaction wrote has no flush points. Cut short or damaged, it stays where it is, and
 * what was whole of it can be read. */
static void test_compacted(void)
{
    struct file f;
    struct buf data = BUF_INITIALIZER, line = BUF_INITIALIZER;
    struct cyrus_member m;
    start(&f);
    cyrus_begin(&m, &data);
    cyrus_text(&m, LCB_CHUNK_START, LCB_CHUNK_START_LEN);
    for (int n = 0; n < LINES; n++) {
        line_text(n, &line);
        cyrus_text(&m, line.s, line.len);
    }
    cyrus_finish(&m);
    size_t len = data.len;
    for (size_t cut = len - 1; cut > len - 40; cut -= 3) {
        buf_truncate(&data, cut);
        for (int behind = 0; behind < 2; behind++) {
            if (behind)
                buf_appendmap(&data, f.data.s + f.chunk[1], f.data.len - f.chunk[1]);
            struct lcb *b = open_data(&f, &data, LCB_WRITE);
            for (int n = 0; n < LINES - 2; n++)
                CU_ASSERT(present(b, n));
            for (int n = LINES; behind && n < MAX; n++)
                CU_ASSERT(present(b, n));
            CU_ASSERT(marks(b) > 0);
            go_on(&f, &b, "behind a compacted chunk that was cut");
            remove_tails(&f);
        }
    }
    buf_free(&data);
    buf_free(&line);
    end(&f);
}

/* The reader who finds a copy that is still being made comes again when it has grown. */
static void test_growing(void)
{
    struct file f;
    struct lcb *b = NULL;
    start(&f);
    for (size_t cut = f.behind[LINES]; cut < f.data.len; cut += 97) {
        lcbtest_write(f.path, f.data.s, cut);
        CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, 0, 0, &b), 0);
        for (int n = 0; n < MAX; n++)
            CU_ASSERT(f.behind[n] > cut || present(b, n));
        lcb_close(&b);
    }
    lcbtest_write(f.path, f.data.s, f.data.len);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
    for (int n = 0; n < MAX; n++)
        CU_ASSERT(present(b, n));
    CU_ASSERT_EQUAL(b->df.end, (off_t)f.data.len);
    CU_ASSERT(!lcbtest_logged("cut off"));
    lcb_close(&b);
    end(&f);
}

/* A file whose last chunk has one line and then PARTIAL bytes of another; the flush behind the line
 * is REST bytes before the end of a sector, so that what is written there may be torn. */
static void start_unfinished(struct file *f, unsigned rest, size_t *flush)
{
    struct cyrus_member m;
    struct buf text = BUF_INITIALIZER;
    start(f);
    for (unsigned pad = 0;; pad++) {
        f->data.len = f->chunk[CHUNKS];
        cyrus_begin(&m, &f->data);
        cyrus_line(&m, LCB_CHUNK_START);
        buf_reset(&text);
        buf_appendcstr(&text, TIME " APPLY SUB %(USERID pat MBOXNAME user.pat.last PAD ");
        for (unsigned i = 0; i <= pad; i++)
            buf_putc(&text, 'a' + (int)(i * i * 2654435761u >> 24) % 26);
        buf_appendcstr(&text, ")\r\n");
        put_line(&m, &text);
        *flush = f->data.len;
        line_text(1, &text);
        put_line(&m, &text);
        cyrus_abandon(&m);
        if ((*flush + rest) % 512 == 0)
            break;
    }
    f->data.len -= 9; /* not all of the last line */
    buf_free(&text);
}

/* Are the N bytes at P in one of the pieces that were kept? */
static int kept(struct file *f, const char *p, size_t n)
{
    char pattern[320];
    struct buf piece = BUF_INITIALIZER;
    int found = 0;
    glob_t g;
    snprintf(pattern, sizeof(pattern), "%s.tail.*", f->path);
    if (!glob(pattern, 0, NULL, &g))
        for (size_t i = 0; i < g.gl_pathc; i++) {
            lcbtest_read(g.gl_pathv[i], &piece);
            found |= piece.len == n && !memcmp(piece.s, p, n);
        }
    globfree(&g);
    buf_free(&piece);
    return found;
}

/* The machine stops at call K of finishing it; then it is opened again, INDEX: with the index that
 * was left. */
static long crash_finishing(unsigned rest, long k, enum vfs_settle how, unsigned seed, int index)
{
    struct file f;
    size_t flush;
    int64_t n = 0;
    struct lcb *b = NULL;
    struct buf now = BUF_INITIALIZER;
    start_unfinished(&f, rest, &flush);
    lcbtest_write(f.path, f.data.s, f.data.len);
    lcbtest_close(&f.t);
    struct vfs *v = vfs_crash_new(f.t.dir, k);
    lcbtest_open(&f.t, v);
    int r = lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b);
    CU_ASSERT(k || !r);
    lcb_close(&b);
    lcbtest_close(&f.t);
    long calls = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    if (!index)
        lcbtest_rmindex(f.path);
    lcbtest_open(&f.t, NULL);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
    for (int i = 0; i < MAX; i++)
        CU_ASSERT(present(b, i));
    CU_ASSERT_EQUAL(sqldb_int(b->index->db, &n, "SELECT count(*) FROM subs WHERE mboxname="
                                                "'user.pat.last'", ""), 0);
    CU_ASSERT_EQUAL(n, 1);
    CU_ASSERT_EQUAL(marks(b), 0);
    lcbtest_read(f.path, &now);
    CU_ASSERT(all_whole(&now, &f));
    CU_ASSERT_EQUAL(now.len, flush + GZ_END_LEN);
    CU_ASSERT(kept(&f, f.data.s + flush, f.data.len - flush));
    go_on(&f, &b, "behind a chunk that was finished after a crash");
    buf_free(&now);
    end(&f);
    return calls;
}

static void test_crash(void)
{
    for (unsigned rest = 0; rest < 10; rest++) {
        long calls = crash_finishing(rest, 0, VFS_SETTLE_LOST, 0, 1);
        CU_ASSERT(calls >= 8);
        for (long k = 1; k <= calls; k++) {
            crash_finishing(rest, k, VFS_SETTLE_LOST, 0, k % 2);
            crash_finishing(rest, k, VFS_SETTLE_KEPT, 0, k % 2);
            for (unsigned seed = 1; seed <= 4; seed++)
                crash_finishing(rest, k, VFS_SETTLE_TORN, (unsigned)k * 10 + seed, seed % 2);
        }
    }
}

void suite_lcb_salvage(void);
void suite_lcb_salvage(void)
{
    static const struct unit_test tests[] = {
        {"cut at the end", test_cut_at_end},
        {"cut in the middle", test_cut_in_the_middle},
        {"every byte", test_every_byte},
        {"text of a damaged chunk", test_text},
        {"debris", test_debris},
        {"compacted chunks", test_compacted},
        {"a growing copy", test_growing},
        {"a crash while the last chunk is finished", test_crash},
        {NULL, NULL},
    };
    unit_suite("lcb_salvage", tests);
}
