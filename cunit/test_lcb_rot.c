/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of rot in files that Cyrus 3.x wrote, whose members do not say whose they are: what the index
 * knew of the last of them is not lost, whoever comes first, and nothing is made of another file's. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/lcbtest_foreign.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/unit.h"
#include "lib/xerr.h"

#define NOW 1700000200

enum { MEMBERS = 4 };

struct file {
    struct lcbtest t;
    char path[300];
    struct buf data;
    off_t start[MEMBERS + 1];
    struct lcbtest_index index;
};

/* What member N says; with MAIL, of a mailbox and a message of its own, too. */
static void put_member(struct buf *out, int n, int mail)
{
    struct cyrus_member m;
    struct message_guid guid;
    struct buf text = BUF_INITIALIZER, line = BUF_INITIALIZER;
    char hex[41], id[16], name[40];
    const int time = 1700000000 + n;
    cyrus_begin(&m, out);
    cyrus_line(&m, LCB_CHUNK_START);
    lcbtest_message((unsigned)n + 300, &text, &guid);
    message_guid_encode(&guid, hex);
    snprintf(id, sizeof(id), "u%d", n);
    snprintf(name, sizeof(name), "user.pat.f%d", n);
    if (mail) {
        buf_printf(&line, "%d APPLY MESSAGE (%%{default %s %zu}\r\n", time, hex, text.len);
        buf_append(&line, &text);
        buf_appendcstr(&line, ")\r\n");
        cyrus_text(&m, line.s, line.len);
        cyrus_line(&m, "");
        buf_reset(&line);
        buf_printf(&line, "%d APPLY MAILBOX %%(%s RECORD (%s))\r\n", time,
                   lcbtest_header(id, name, 1, 2, ""), lcbtest_record(1, 2, "\\Seen", hex));
        cyrus_line(&m, buf_cstring(&line));
    }
    buf_reset(&line);
    buf_printf(&line, "%d APPLY SUB %%(USERID pat MBOXNAME %s)\r\n", time, name);
    cyrus_line(&m, buf_cstring(&line));
    cyrus_finish(&m);
    buf_free(&text);
    buf_free(&line);
}

/* MEMBERS members, and the index of them. The first FIRST are not there. */
static void begin(struct file *f, int first, int mail)
{
    struct lcb *b = NULL;
    memset(f, 0, sizeof(*f));
    lcbtest_init(&f->t, "");
    lcbtest_open(&f->t, NULL);
    lcbtest_settime(NOW);
    snprintf(f->path, sizeof(f->path), "%s/pat_AbCdEf", f->t.dir);
    for (int n = first; n < MEMBERS; n++) {
        f->start[n] = (off_t)f->data.len;
        put_member(&f->data, n, mail);
    }
    f->start[MEMBERS] = (off_t)f->data.len;
    lcbtest_write(f->path, f->data.s, f->data.len);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f->t.store, f->path, LCB_WRITE, 0, &b), 0);
    lcb_close(&b);
    lcbtest_saveindex(f->path, &f->index);
}

static void finish(struct file *f)
{
    buf_free(&f->data);
    lcbtest_freeindex(&f->index);
    lcbtest_fini(&f->t);
}

static int count(struct file *f, const char *what)
{
    char sql[300];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", what);
    return (int)lcbtest_int(f->path, sql);
}

enum first { OPENED, READ, VERIFIED, REPAIRED, REINDEXED, COMPACTED, FIRSTS };

static void open_and_close(struct file *f, int flags)
{
    struct lcb *b = NULL;
    int r = lcb_open_file(f->t.store, f->path, flags, 0, &b);
    if (r)
        printf("\n%s\n", error_message(r));
    CU_ASSERT_EQUAL_FATAL(r, 0);
    lcb_close(&b);
}

static void come(struct file *f, enum first who)
{
    struct lcb_repair rp;
    struct lcb_verify v;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    struct lcb_compact how = {.path = f->path, .force = 1};
    struct lcb_compact_result result;
    switch (who) {
    case READ:
        open_and_close(f, 0);
        CU_ASSERT_EQUAL(count(f, "subs WHERE until IS NULL"), MEMBERS);
        break;
    case VERIFIED:
        lcbtest_verify(&f->t, f->path, &v, &s);
        CU_ASSERT(v.data + v.index > 0); /* the index', if no line is lost */
        break;
    case REPAIRED:
    case REINDEXED:
        CU_ASSERT_EQUAL(lcbtest_repair_as(&f->t, f->path, who == REINDEXED, &rp), 0);
        break;
    case COMPACTED:
        CU_ASSERT_EQUAL(lcb_compact(f->t.store, &how, &result), LCB_COMPACT_DONE);
        break;
    case OPENED:
    case FIRSTS:
        break;
    }
    buf_free(&s.text);
    open_and_close(f, LCB_WRITE);
    CU_ASSERT_EQUAL(count(f, "meta WHERE key='unfinished' AND value<>0"), 0);
}

/* The file, with N bytes from AT changed (or zeroed) in its last member: WHO comes first. */
static void one_rot(struct file *f, off_t at, off_t n, enum first who)
{
    struct buf data = BUF_INITIALIZER;
    struct lcb_repair rp;
    char what[80];
    snprintf(what, sizeof(what), "%lld bytes at %lld of %lld, %d", (long long)n,
             (long long)(at - f->start[MEMBERS - 1]),
             (long long)(f->start[MEMBERS] - f->start[MEMBERS - 1]), (int)who);
    buf_setmap(&data, f->data.s, f->data.len);
    for (off_t i = at; i < at + n; i++)
        data.s[i] = n > 1 ? 0 : (char)(data.s[i] ^ 0x55);
    lcbtest_write(f->path, data.s, data.len);
    lcbtest_putindex(f->path, &f->index);
    come(f, who);
    CU_ASSERT_EQUAL(lcbtest_repair(&f->t, f->path, &rp), 0);
    int subs = count(f, "subs WHERE until IS NULL");
    int mailboxes = count(f, "folder_states WHERE until IS NULL");
    int records = count(f, "records WHERE until IS NULL");
    if (subs != MEMBERS || mailboxes != MEMBERS || records != MEMBERS)
        printf("\n%s: %d %d %d", what, subs, mailboxes, records);
    CU_ASSERT_EQUAL(subs, MEMBERS);
    CU_ASSERT_EQUAL(mailboxes, MEMBERS);
    CU_ASSERT_EQUAL(records, MEMBERS);
    CU_ASSERT_EQUAL(count(f, "subs WHERE mboxname='user.pat.f3' AND until IS NULL"), 1);
    /* what cannot be read is asked for, and nothing else is */
    CU_ASSERT_EQUAL(count(f, "folders WHERE mark=3 AND uniqueid<>'u3'"), 0);
    CU_ASSERT_EQUAL(count(f, "folders WHERE mark=3"), count(f, "contents WHERE chunk IS NULL"));
    CU_ASSERT_EQUAL(lcbtest_repair(&f->t, f->path, &rp), 0);
    CU_ASSERT_EQUAL(rp.records + rp.others, 0); /* once is enough */
    lcbtest_clean(&f->t, f->path, count(f, "contents WHERE chunk IS NULL"), what);
    lcbtest_compare(&f->t, f->path, what);
    buf_free(&data);
}

static void test_last(void)
{
    struct file f;
    begin(&f, 0, 1);
    const off_t from = f.start[MEMBERS - 1], to = f.start[MEMBERS];
    const off_t places[] = {from, from + 2, from + 3, from + 20, (from + to) / 2, to - 40, to - 20,
                            to - 9, to - 8, to - 1};
    for (enum first who = 0; who < FIRSTS; who++) {
        for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
            one_rot(&f, places[i], 1, who);
        one_rot(&f, from, to - from, who);
        one_rot(&f, from + 100, to - from - 100, who);
    }
    finish(&f);
}

/* A member of which some could be read after the first damage is damaged once more: both times it is
 * repaired in place or, as HOW says of each, beside. */
static void one_again(struct file *f, off_t first, off_t next, int how)
{
    struct buf data = BUF_INITIALIZER;
    struct lcb_repair rp;
    char what[80];
    snprintf(what, sizeof(what), "%lld and %lld of %lld, %d", (long long)(first - f->start[1]),
             (long long)(next - f->start[1]), (long long)(f->start[2] - f->start[1]), how);
    f->data.s[first] ^= 0x55;
    lcbtest_write(f->path, f->data.s, f->data.len);
    lcbtest_putindex(f->path, &f->index);
    f->data.s[first] ^= 0x55;
    CU_ASSERT_EQUAL(lcbtest_repair_as(&f->t, f->path, how & 1, &rp), 0);
    CU_ASSERT(rp.chunks == 1 || first == f->start[2] - 9); /* as if its writer had been killed */
    lcbtest_read(f->path, &data);
    memset(data.s + next, 0, (size_t)(f->start[2] - next));
    lcbtest_write(f->path, data.s, data.len);
    CU_ASSERT_EQUAL(lcbtest_repair_as(&f->t, f->path, how >> 1, &rp), 0);
    CU_ASSERT_EQUAL(count(f, "subs WHERE until IS NULL"), MEMBERS);
    CU_ASSERT_EQUAL(count(f, "folder_states WHERE until IS NULL"), MEMBERS);
    CU_ASSERT_EQUAL(count(f, "records WHERE until IS NULL"), MEMBERS);
    int marks = count(f, "folders WHERE mark=3");
    int lost = count(f, "contents WHERE chunk IS NULL");
    if (marks != lost)
        printf("\n%s: %d of %d are asked for", what, marks, lost);
    CU_ASSERT_EQUAL(marks, lost);
    lcbtest_clean(&f->t, f->path, marks, what);
    lcbtest_compare(&f->t, f->path, what);
    CU_ASSERT_EQUAL(lcbtest_repair(&f->t, f->path, &rp), 0);
    CU_ASSERT_EQUAL(rp.records + rp.others, 0);
    buf_free(&data);
}

static void test_again(void)
{
    struct file f;
    begin(&f, 0, 1);
    const off_t from = f.start[1], to = f.start[2];
    const off_t first[] = {from, from + 150, (from + to) / 2, to - 60, to - 9, to - 3};
    for (size_t i = 0; i < sizeof(first) / sizeof(*first); i++)
        for (int how = 0; how < 4; how++) {
            one_again(&f, first[i], from, how);
            one_again(&f, first[i], (from + to) / 2 + 100, how);
        }
    finish(&f);
}

/* Of a member nothing can be read: of the next one, which is damaged too, all that can be is. */
static void test_next(void)
{
    struct file f;
    struct lcb_repair rp;
    begin(&f, 0, 1);
    memset(f.data.s + f.start[1] + 12, 0, (size_t)(f.start[2] - f.start[1]) - 12);
    f.data.s[f.start[3] - 30] ^= 0x55; /* in its last line */
    lcbtest_write(f.path, f.data.s, f.data.len);
    CU_ASSERT_EQUAL(lcbtest_repair(&f.t, f.path, &rp), 0);
    CU_ASSERT_EQUAL(rp.chunks, 2);
    CU_ASSERT_EQUAL(count(&f, "contents WHERE chunk IS NULL"), 1);
    CU_ASSERT_EQUAL(count(&f, "folders WHERE mark=3"), 1);
    CU_ASSERT_EQUAL(count(&f, "folders WHERE mark=3 AND uniqueid='u1'"), 1);
    CU_ASSERT_EQUAL(count(&f, "records WHERE until IS NULL"), MEMBERS);
    lcbtest_clean(&f.t, f.path, 1, "the next one");
    lcbtest_compare(&f.t, f.path, "the next one");
    finish(&f);
}

/* Only one member, of which not all is damaged. */
static void test_only(void)
{
    struct file f;
    begin(&f, MEMBERS - 1, 1);
    const off_t places[] = {0, 2, (off_t)f.data.len - 9, (off_t)f.data.len - 8, (off_t)f.data.len - 40};
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        struct buf data = BUF_INITIALIZER;
        buf_setmap(&data, f.data.s, f.data.len);
        data.s[places[i]] ^= 0x55;
        lcbtest_write(f.path, data.s, data.len);
        lcbtest_putindex(f.path, &f.index);
        open_and_close(&f, LCB_WRITE);
        CU_ASSERT_EQUAL(count(&f, "subs WHERE until IS NULL"), 1);
        CU_ASSERT_EQUAL(count(&f, "records WHERE until IS NULL"), 1);
        CU_ASSERT_EQUAL(count(&f, "meta WHERE key='unfinished' AND value<>0"), 0);
        open_and_close(&f, 0);
        CU_ASSERT(!lcbtest_logged("rebuilding"));
        if (places[i] > 9) /* else nothing says that it is a data file */
            lcbtest_compare(&f.t, f.path, "only one");
        buf_free(&data);
    }
    finish(&f);
}

/* The index is that of a file that begins with the same SAME members and then goes on otherwise (or has
 * garbage where the last member was, as another one ends elsewhere): nothing of it comes back. */
static void test_other(void)
{
    struct file f;
    begin(&f, 0, 1);
    for (int same = 0; same < MEMBERS; same++)
        for (int mail = 0; mail < 2; mail++) {
            struct buf data = BUF_INITIALIZER;
            buf_setmap(&data, f.data.s, (size_t)f.start[same]);
            put_member(&data, 10, mail);
            do
                put_member(&data, 11, mail);
            while (data.len < f.data.len + 100);
            lcbtest_write(f.path, data.s, data.len);
            lcbtest_putindex(f.path, &f.index);
            open_and_close(&f, LCB_WRITE);
            CU_ASSERT_EQUAL(count(&f, "subs"), same + 2);
            CU_ASSERT_EQUAL(count(&f, "subs WHERE mboxname='user.pat.f3'"), 0);
            lcbtest_read(f.path, &data);
            CU_ASSERT(!strstr(lcbtest_log_text(), "its end is damaged"));
            lcbtest_compare(&f.t, f.path, "another file");
            buf_free(&data);
        }
    finish(&f);
}

/* A process of Cyrus died while it wrote the next member, or the last one is gone: that is no rot, and
 * a copy of the file is as good as it. */
static void test_torn(void)
{
    struct file f;
    begin(&f, 0, 1);
    const size_t size = f.data.len;
    put_member(&f.data, MEMBERS, 1);
    for (size_t cut = (size_t)f.start[MEMBERS - 1]; cut < f.data.len; cut += 23) {
        struct buf live = BUF_INITIALIZER, again = BUF_INITIALIZER;
        lcbtest_write(f.path, f.data.s, cut);
        lcbtest_rebuild(&f.t, f.data.s, cut, &again);
        lcbtest_putindex(f.path, &f.index);
        open_and_close(&f, LCB_WRITE);
        lcbtest_dump(f.path, &live);
        CU_ASSERT(lcbtest_same(&live, &again, "cut"));
        CU_ASSERT(cut < size || count(&f, "subs WHERE until IS NULL") >= MEMBERS);
        buf_free(&live);
        buf_free(&again);
    }
    CU_ASSERT(!strstr(lcbtest_log_text(), "its end is damaged"));
    finish(&f);
}

/* Ours is the last and only one behind those of Cyrus, or it was, and a program of Cyrus went on. */
static void test_both(void)
{
    for (int behind = 0; behind < 2; behind++)
        for (int place = 0; place < 3; place++) {
            struct file f;
            struct lcb *b = NULL;
            begin(&f, 0, 1);
            CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
            CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID pat MBOXNAME user.pat.ours)"), 0);
            CU_ASSERT_EQUAL(lcb_commit(b), 0);
            lcb_close(&b);
            lcbtest_read(f.path, &f.data);
            size_t from = (size_t)f.start[MEMBERS];
            CU_ASSERT_FATAL(f.data.len > from);
            if (behind) {
                from = f.data.len;
                put_member(&f.data, MEMBERS, 1);
                lcbtest_write(f.path, f.data.s, f.data.len);
                open_and_close(&f, LCB_WRITE);
            }
            int subs = count(&f, "subs WHERE until IS NULL");
            CU_ASSERT_EQUAL(subs, MEMBERS + 1 + behind);
            f.data.s[place == 0 ? from : place == 1 ? f.data.len - 60 : f.data.len - 1] ^= 0x55;
            lcbtest_write(f.path, f.data.s, f.data.len);
            open_and_close(&f, LCB_WRITE);
            open_and_close(&f, 0);
            struct lcb_repair rp;
            CU_ASSERT_EQUAL(lcbtest_repair(&f.t, f.path, &rp), 0);
            CU_ASSERT_EQUAL(count(&f, "subs WHERE until IS NULL"), subs);
            CU_ASSERT(!lcbtest_logged("rebuilding"));
            lcbtest_compare(&f.t, f.path, "both");
            finish(&f);
        }
}

/* Offset of the last byte of text of the member that ends what compaction restated. */
static size_t find_base(const struct buf *data)
{
    struct gzextra extra;
    size_t at = 0;
    while (at < data->len) {
        CU_ASSERT_FATAL(gzmember_header(data->s + at, data->len - at, &extra) > 0 && extra.present);
        at += extra.length;
        if (extra.flags & GZ_BASE)
            return at - GZ_TRAILER_LEN - 1;
    }
    CU_FAIL_FATAL("no base");
    return 0;
}

/* Joe's backup, which began at *BEGUN, and was compacted when the first of its two commits was older
 * than is kept: its path. */
static char *begin_base(struct lcbtest *t, int64_t *begun)
{
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    lcbtest_init(t, "backup_retention: 100s\n");
    lcbtest_open(t, NULL);
    struct lcb *b = lcbtest_joe(t);
    *begun = lcbtest_time();
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1000003, 1), 0); /* a chunk of its own */
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_settime(*begun + 1000);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe.b)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_settime(*begun + 1050);
    CU_ASSERT_EQUAL_FATAL(lcb_compact(t->store, &how, &result), LCB_COMPACT_DONE);
    return lcbtest_path(t);
}

/* What compaction restated of the time before is lost: that time is no history, it was not empty. */
static void test_base(void)
{
    for (int how_mended = 0; how_mended < 3; how_mended++) {
        struct file f;
        struct buf state = BUF_INITIALIZER;
        struct lcb_repair rp;
        struct lcb *b = NULL;
        int64_t begun;
        memset(&f, 0, sizeof(f));
        char *path = begin_base(&f.t, &begun);
        snprintf(f.path, sizeof(f.path), "%s", path);
        free(path);
        lcbtest_read(f.path, &f.data);
        f.data.s[find_base(&f.data)] ^= 0x55;
        lcbtest_write(f.path, f.data.s, f.data.len);
        if (!how_mended) /* without an index */
            lcbtest_rmindex(f.path);
        else
            CU_ASSERT_EQUAL(lcbtest_repair_as(&f.t, f.path, how_mended == 2, &rp), 0);
        CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, 0, 0, &b), 0);
        CU_ASSERT_EQUAL(lcbtest_state(b, begun + 1, &state), XERR_NOTFOUND);
        CU_ASSERT_EQUAL(lcbtest_state(b, begun + 999, &state), XERR_NOTFOUND);
        CU_ASSERT_EQUAL(lcbtest_state(b, begun + 1001, &state), 0);
        CU_ASSERT(strstr(buf_cstring(&state), "sub user.joe.b") != NULL);
        buf_reset(&state);
        CU_ASSERT_EQUAL(lcbtest_state(b, lcbtest_time(), &state), 0);
        CU_ASSERT_EQUAL(strstr(buf_cstring(&state), "sub user.joe\n") != NULL, how_mended > 0);
        lcb_close(&b);
        lcbtest_compare(&f.t, f.path, "the base");
        buf_free(&state);
        finish(&f);
    }
}

/* What compaction restated is lost, and the flag that says so with it: as long as there is an index, it
 * is known where history begins; and from a later compaction on the file says it again. */
static void test_begin(void)
{
    for (int how_mended = 0; how_mended < 4; how_mended++) {
        struct lcbtest t;
        struct buf data = BUF_INITIALIZER, state = BUF_INITIALIZER;
        struct lcb_compact how = {.userid = "joe", .force = 1};
        struct lcb_compact_result result;
        struct lcb_repair rp;
        int64_t begun;
        char *path = begin_base(&t, &begun);
        lcbtest_read(path, &data);
        size_t last = find_base(&data), first = 0;
        for (size_t at = 0; at < last; at++) /* its header */
            if (!memcmp(data.s + at, "\x1f\x8b\x08\x04", 4))
                first = at;
        data.s[how_mended & 2 ? first + 16 : last] ^= 0x55;
        lcbtest_write(path, data.s, data.len);
        CU_ASSERT_EQUAL(lcbtest_repair_as(&t, path, how_mended & 1, &rp), 0);
        for (int compacted = 0; compacted < 2; compacted++) {
            struct lcb *b = lcbtest_joe(&t);
            CU_ASSERT_EQUAL(lcbtest_state(b, begun + 1, &state), XERR_NOTFOUND);
            CU_ASSERT_EQUAL(lcbtest_state(b, begun + 999, &state), XERR_NOTFOUND);
            CU_ASSERT_EQUAL(lcbtest_state(b, begun + 1001, &state), 0);
            CU_ASSERT(strstr(buf_cstring(&state), "sub user.joe.b") != NULL);
            lcb_close(&b);
            lcbtest_clean(&t, path, 0, "the beginning");
            lcbtest_compare(&t, path, "the beginning");
            CU_ASSERT_EQUAL(lcb_compact(t.store, &how, &result), LCB_COMPACT_DONE);
            free(path);
            path = lcbtest_path(&t);
        }
        free(path);
        buf_free(&data);
        buf_free(&state);
        lcbtest_fini(&t);
    }
}

/* The index does not know the last lines, and what it knows last has rotted: what they say counts. */
static void test_behind(void)
{
    static const char *const lines[] = {"1700000100 APPLY UNSUB %(USERID pat MBOXNAME user.pat.f3)\r\n",
                                        NULL};
    for (int who = 0; who < 3; who++) {
        struct file f;
        struct lcb_repair rp;
        begin(&f, 0, 1);
        cyrus_chunk(&f.data, lines);
        f.data.s[f.start[MEMBERS] - 9] ^= 0x55;
        lcbtest_write(f.path, f.data.s, f.data.len);
        lcbtest_putindex(f.path, &f.index);
        if (who)
            CU_ASSERT_EQUAL(lcbtest_repair_as(&f.t, f.path, who - 1, &rp), 0);
        open_and_close(&f, LCB_WRITE);
        CU_ASSERT_EQUAL(count(&f, "subs WHERE until IS NULL"), MEMBERS - 1);
        CU_ASSERT_EQUAL(count(&f, "subs WHERE mboxname='user.pat.f3' AND until IS NULL"), 0);
        CU_ASSERT_EQUAL(count(&f, "records WHERE until IS NULL"), MEMBERS);
        lcbtest_compare(&f.t, f.path, "behind");
        finish(&f);
    }
}

/* Some of a member of ours is gone: the next one, which begins earlier by that, is there. */
static void test_gone(void)
{
    for (int first = 0; first < 2; first++) {
        struct lcbtest_file f;
        lcbtest_makefile(&f);
        size_t at = (size_t)f.start[first ? 0 : 2][0] + 60;
        memmove(f.data.s + at, f.data.s + at + 20, f.data.len - at - 20);
        f.data.len -= 20;
        lcbtest_write(f.path, f.data.s, f.data.len);
        lcbtest_rmindex(f.path);
        lcbtest_openfile(&f);
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM contents WHERE chunk IS NOT NULL"),
                        2 * LCBTEST_GROUPS - 1);
        lcbtest_freefile(&f);
    }
}

/* A process of Cyrus was killed, and so was the next one, before its first line was whole: what is left
 * of that is cut off, and the first one is the last now, and has no end. */
static void test_killed(void)
{
    struct file f;
    struct cyrus_member m;
    struct lcb_repair rp;
    begin(&f, 0, 1);
    cyrus_begin(&m, &f.data);
    cyrus_line(&m, LCB_CHUNK_START);
    cyrus_line(&m, "1700000100 APPLY SUB %(USERID pat MBOXNAME user.pat.x)\r\n");
    cyrus_abandon(&m);
    size_t size = f.data.len;
    put_member(&f.data, MEMBERS, 1);
    lcbtest_write(f.path, f.data.s, size + 100);
    lcbtest_rmindex(f.path);
    open_and_close(&f, LCB_WRITE);
    CU_ASSERT_EQUAL(lcbtest_repair_as(&f.t, f.path, 1, &rp), 0);
    open_and_close(&f, LCB_WRITE);
    CU_ASSERT_EQUAL(count(&f, "subs WHERE until IS NULL"), MEMBERS + 1);
    CU_ASSERT_EQUAL(lcbtest_repair_as(&f.t, f.path, 1, &rp), 0);
    lcbtest_compare(&f.t, f.path, "killed");
    finish(&f);
}

/* A backup of which everybody knows whose it is has lost its index, and its first byte is wrong: a
 * reader sees the rest. */
static void test_reader(void)
{
    struct lcbtest_file f;
    struct lcb *b = NULL;
    lcbtest_makefile(&f);
    f.data.s[0] ^= 0x55;
    lcbtest_write(f.path, f.data.s, f.data.len);
    lcbtest_rmindex(f.path);
    CU_ASSERT_EQUAL(lcb_open(f.t.store, "joe", 0, 0, &b), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM contents WHERE chunk IS NOT NULL"),
                    2 * LCBTEST_GROUPS - 1);
    lcbtest_freefile(&f);
}

void suite_lcb_rot(void);
void suite_lcb_rot(void)
{
    static const struct unit_test tests[] = {
        {"the last member of Cyrus", test_last},
        {"a member of Cyrus, twice", test_again},
        {"the next member of Cyrus", test_next},
        {"the only member of Cyrus", test_only},
        {"another file's index", test_other},
        {"torn, not rotten", test_torn},
        {"members of Cyrus and of ours", test_both},
        {"what compaction restated", test_base},
        {"where history begins", test_begin},
        {"behind what the index knows", test_behind},
        {"some of a member is gone", test_gone},
        {"killed twice", test_killed},
        {"a reader without an index", test_reader},
        {NULL, NULL},
    };
    unit_suite("lcb_rot", tests);
}
