/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of repair: damage anywhere in a data file is named, what is intact stays, and after a repair,
 * and a client that sends what is asked for, everything is there again. */
#include "config.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* ---- the data file is wrong ---- */

/* The message that mailbox uN of the file has. */
static void content_of(unsigned n, struct buf *text, struct message_guid *guid)
{
    lcbtest_message(n * 3 + 100, text, guid);
}

static int drop(void *rock, const void *p, size_t n)
{
    (void)rock;
    (void)p;
    return n ? 0 : 0;
}

static int mark_of(const char *path, unsigned n)
{
    char sql[100];
    snprintf(sql, sizeof(sql), "SELECT coalesce(max(mark), 0) FROM folders WHERE uniqueid='u%u'", n);
    return (int)lcbtest_int(path, sql);
}

/* What a client does that is asked for mailbox N: what is missing above the listed LAST_UID, and
 * all records. */
static int client_sends(struct lcb *b, unsigned n)
{
    struct lcb_folder folder = {.id = 0};
    struct buf strings = BUF_INITIALIZER, text = BUF_INITIALIZER;
    struct message_guid guid;
    const char *records[2] = {NULL, NULL};
    char id[16], name[32], hex[41];
    uint32_t floor = 0;
    int sent = 0;
    snprintf(id, sizeof(id), "u%u", n);
    snprintf(name, sizeof(name), "user.joe.f%u", n);
    content_of(n, &text, &guid);
    message_guid_encode(&guid, hex);
    records[0] = lcbtest_record(1, 5, "\\Seen", hex);
    int r = lcb_find_uniqueid(b, id, &folder, &strings);
    int listed = !r && folder.mark != LCB_MARK_RESEND;
    if (listed && folder.mark == LCB_MARK_CONTENT)
        CU_ASSERT_EQUAL(lcb_content_floor(b, &folder, &floor), 0);
    if (listed && folder.mark != LCB_MARK_CONTENT)
        floor = folder.last_uid;
    if (floor < 1 && !lcb_has_content(b, &guid, NULL)) {
        CU_ASSERT_EQUAL(lcb_log_message(b, "default", &guid, text.len, text.s, -1, 0), 0);
        sent = 1;
    }
    if (!listed || folder.mark != LCB_MARK_NONE) {
        CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 1, 5, ""), records, NULL), 0);
        CU_ASSERT_EQUAL(lcb_setmark(b, id, LCB_MARK_NONE), 0);
    }
    buf_free(&strings);
    buf_free(&text);
    return sent;
}

static void remove_asides(const char *path)
{
    static const char *const endings[] = {".tail.*", ".new.index*"};
    char pattern[400];
    for (int e = 0; e < 2; e++) {
        glob_t g;
        snprintf(pattern, sizeof(pattern), "%s%s", path, endings[e]);
        if (glob(pattern, 0, NULL, &g))
            continue;
        for (size_t i = 0; i < g.gl_pathc; i++)
            unlink(g.gl_pathv[i]);
        globfree(&g);
    }
}

/* All that the file held is there and can be read. */
static void must_be_whole(struct lcbtest_file *f, const char *what)
{
    struct lcb *b = NULL;
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f->t.store, f->path, 0, 0, &b), 0);
    for (unsigned n = 0; n < LCBTEST_GROUPS; n++) {
        content_of(n, &text, &guid);
        int r = lcb_read_content(b, &guid, drop, NULL);
        if (r)
            printf("\n%s: message of mailbox %u: %s\n", what, n, error_message(r));
        CU_ASSERT_EQUAL(r, 0);
        CU_ASSERT_EQUAL(mark_of(f->path, n), 0);
    }
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(f->path, "SELECT count(*) FROM records r JOIN folder_states s ON"
                                         " s.folder=r.folder WHERE s.until IS NULL AND r.until IS NULL"
                                         " AND r.expunged=0"), LCBTEST_GROUPS);
    buf_free(&text);
}

/* An index that is made anew says the same. */
static void must_rebuild(struct lcbtest_file *f, const char *what)
{
    struct buf data = BUF_INITIALIZER, live = BUF_INITIALIZER, again = BUF_INITIALIZER;
    lcbtest_read(f->path, &data);
    lcbtest_dump(f->path, &live);
    lcbtest_rebuild(&f->t, data.s, data.len, &again);
    CU_ASSERT(lcbtest_same(&live, &again, what));
    buf_free(&data);
    buf_free(&live);
    buf_free(&again);
}

/* The file as it is, damaged in GROUP, MEMBER (or anywhere: -1), heals. */
static void must_heal(struct lcbtest_file *f, int group, int member, const char *what)
{
    struct lcb_repair rp;
    struct lcb *b = NULL;
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    int waiting = 0, sent = 0;
    CU_ASSERT_EQUAL(lcbtest_repair(&f->t, f->path, &rp), 0);
    for (unsigned n = 0; n < LCBTEST_GROUPS; n++) {
        int mark = mark_of(f->path, n);
        waiting += mark == LCB_MARK_CONTENT;
        if (group >= 0 && (int)n != group)
            CU_ASSERT_EQUAL(mark, 0); /* others are left alone */
    }
    if (group >= 0)
        CU_ASSERT_EQUAL(waiting, member == 0);
    lcbtest_clean(&f->t, f->path, waiting, what);
    must_rebuild(f, what);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f->t.store, f->path, LCB_WRITE, 0, &b), 0);
    for (unsigned n = 0; n < LCBTEST_GROUPS; n++) {
        content_of(n, &text, &guid);
        int have = !lcb_read_content(b, &guid, drop, NULL);
        if (group >= 0 && ((int)n != group || member != 0))
            CU_ASSERT(have); /* the intact ones are given out */
        sent += client_sends(b, n);
    }
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    if (group >= 0)
        CU_ASSERT_EQUAL(sent, member == 0);
    lcbtest_clean(&f->t, f->path, 0, what);
    must_be_whole(f, what);
    must_rebuild(f, what);
    buf_free(&text);
}

/* Time and origin in a gzip header mean nothing; another name on our field makes it one of Cyrus
 * 3.x. */
static int harmless(off_t in)
{
    return (in >= 4 && in < 10) || in == 12 || in == 13;
}

static void one_byte(struct lcbtest_file *f, off_t at, int group, int member)
{
    struct lcb_verify v;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    char what[80], offset[40];
    f->data.s[at] ^= 0x55;
    lcbtest_write(f->path, f->data.s, f->data.len);
    lcbtest_putindex(f->path, &f->index[LCBTEST_GROUPS]);
    f->data.s[at] ^= 0x55;
    snprintf(what, sizeof(what), "byte %lld (group %d, member %d)", (long long)at, group, member);
    lcbtest_verify(&f->t, f->path, &v, &s);
    int last = group == LCBTEST_GROUPS - 1 && member == LCBTEST_MEMBERS - 1;
    if (v.data) {
        snprintf(offset, sizeof(offset), "offset %lld:", (long long)f->start[group][member]);
        int named = strstr(buf_cstring(&s.text), offset) != NULL;
        if (!named || s.count[LCB_FOUND_CHUNK] != 1)
            printf("\n%s: %s", what, buf_cstring(&s.text));
        CU_ASSERT(named);
        CU_ASSERT_EQUAL(s.count[LCB_FOUND_CHUNK], 1);
        CU_ASSERT_EQUAL(s.count[LCB_FOUND_MESSAGE], member < 2);
        CU_ASSERT_EQUAL(s.count[LCB_FOUND_RECORD], member == 2);
        CU_ASSERT_EQUAL(s.count[LCB_FOUND_INDEX], 0);
        must_heal(f, last ? -1 : group, member, what);
    } else {
        CU_ASSERT(harmless(at - f->start[group][member]) || last);
    }
    remove_asides(f->path);
    buf_free(&s.text);
}

static void test_every_byte(void)
{
    struct lcbtest_file f;
    lcbtest_makefile(&f);
    for (int group = 0; group < LCBTEST_GROUPS; group += group ? LCBTEST_GROUPS - 2 : 1)
        for (int member = 0; member < LCBTEST_MEMBERS; member++)
            for (off_t at = f.start[group][member]; at < f.start[group][member + 1];
                 at += !group && at - f.start[group][member] < 44 ? 1 : 37)
                one_byte(&f, at, group, member);
    lcbtest_freefile(&f);
}

/* The file ends anywhere; the index knows of more. */
static void one_cut(struct lcbtest_file *f, size_t cut)
{
    struct lcb_verify v;
    struct lcb_repair rp;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    char what[60];
    int whole = 0;
    while (whole < LCBTEST_GROUPS && f->start[whole][LCBTEST_MEMBERS] <= (off_t)cut)
        whole++;
    snprintf(what, sizeof(what), "cut at %zu", cut);
    lcbtest_write(f->path, f->data.s, cut);
    lcbtest_putindex(f->path, &f->index[LCBTEST_GROUPS]);
    lcbtest_verify(&f->t, f->path, &v, &s);
    if (!v.data)
        printf("\n%s: %s", what, buf_cstring(&s.text));
    CU_ASSERT(v.data > 0);
    CU_ASSERT_EQUAL(v.index, 0);
    CU_ASSERT_EQUAL(lcbtest_repair(&f->t, f->path, &rp), 0);
    lcbtest_clean(&f->t, f->path, 0, what);
    CU_ASSERT_EQUAL(lcbtest_int(f->path, "SELECT count(*) FROM folders"), whole);
    must_rebuild(f, what);
    lcbtest_write(f->path, f->data.s, cut); /* and without an index */
    lcbtest_rmindex(f->path);
    lcbtest_verify(&f->t, f->path, &v, &s);
    CU_ASSERT_EQUAL(v.data, 0); /* as if it had been written so far */
    CU_ASSERT_EQUAL(v.index, 1);
    remove_asides(f->path);
    buf_free(&s.text);
}

static void test_every_cut(void)
{
    struct lcbtest_file f;
    lcbtest_makefile(&f);
    for (size_t cut = 1; cut < f.data.len; cut += cut < 100 ? 13 : 311)
        one_cut(&f, cut);
    for (int group = 0; group < LCBTEST_GROUPS - 1; group++)
        for (int d = -1; d <= 1; d++)
            one_cut(&f, (size_t)(f.start[group][LCBTEST_MEMBERS] + d));
    lcbtest_freefile(&f);
}

/* ---- what only a lost chunk said ---- */

static void log_all(struct lcb *b, const char *const *lines)
{
    for (; *lines; lines += 2)
        CU_ASSERT_EQUAL(lcbtest_log(b, lines[0], lines[1]), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    lcbtest_settime(lcbtest_time() + 10);
}

static int count(const char *path, const char *what)
{
    char sql[400];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", what);
    return (int)lcbtest_int(path, sql);
}

/* A chunk with something of everything, and what came before and after; it is lost, and all that holds
 * comes again. */
static void test_relog(void)
{
    static const char *const before[] = {
        "SUB", "%(USERID joe MBOXNAME user.joe.old)",
        "QUOTA", "%(ROOT user.joe STORAGE 1000)",
        "SIEVE", "%(USERID joe FILENAME gone.script LAST_UPDATE 1 CONTENT \"stop;\")",
        "ANNOTATION", "%(MBOXNAME \"\" ENTRY /gone USERID joe VALUE v)", NULL,
    };
    static const char *const lost[] = {
        "SUB", "%(USERID joe MBOXNAME user.joe.new)",
        "UNSUB", "%(USERID joe MBOXNAME user.joe.old)",
        "SEEN", "%(USERID joe UNIQUEID u1 LASTREAD 5 LASTUID 6 LASTCHANGE 7 SEENUIDS 1:6)",
        "QUOTA", "%(ROOT user.joe STORAGE 2000)",
        "ANNOTATION", "%(MBOXNAME \"\" ENTRY /here USERID joe VALUE w)",
        "UNANNOTATION", "%(MBOXNAME \"\" ENTRY /gone USERID joe)",
        "UNSIEVE", "%(USERID joe FILENAME gone.script)",
        "UNMAILBOX", "user.joe.ended",
        "RENAME", "%(OLDMBOXNAME user.joe.from NEWMBOXNAME user.joe.to PARTITION p UIDVALIDITY 7)",
        "SIEVE", "%(USERID joe FILENAME here.script LAST_UPDATE 2 CONTENT {8}\r\n# a\r\n # )", NULL,
    };
    static const char *const after[] = {
        "ACTIVATE_SIEVE", "%(USERID joe FILENAME here.bc)",
        "UNMAILBOX", "user.joe.short", "SUB", "%(USERID joe MBOXNAME user.joe.later)", NULL,
    };
    static const char guid[] = "0123456789012345678901234567890123456789";
    const char *r1[] = {lcbtest_record(1, 1, "", guid), lcbtest_record(2, 1, "", guid), NULL};
    const char *r2[] = {lcbtest_record(1, 2, "\\Seen", guid), lcbtest_record(2, 2, "\\Expunged", guid),
                        lcbtest_record(3, 2, "", guid), NULL};
    struct lcbtest t;
    struct lcb_repair rp;
    struct lcb_verify v;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    struct buf data = BUF_INITIALIZER;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    b->df.chunk_size = 65536;
    char *path = xstrdup(lcb_path(b));
    lcbtest_mailbox(b, lcbtest_header("u1", "user.joe", 2, 1, ""), r1, NULL);
    lcbtest_mailbox(b, lcbtest_header("u2", "user.joe.ended", 2, 1, ""), r1, NULL);
    lcbtest_mailbox(b, lcbtest_header("u3", "user.joe.from", 2, 1, ""), r1, NULL);
    log_all(b, before);
    off_t at = b->df.end;
    lcbtest_mailbox(b, lcbtest_header("u1", "user.joe", 3, 2, ""), r2, NULL);
    lcbtest_mailbox(b, lcbtest_header("u4", "user.joe.short", 2, 1, ""), r1, NULL);
    lcbtest_mailbox(b, lcbtest_header("u5", "user.joe.made", 2, 1, ""), r1, NULL);
    log_all(b, lost);
    off_t end = b->df.end;
    log_all(b, after);
    lcbtest_mailbox(b, lcbtest_header("u6", "user.joe.short", 2, 1, ""), r1, NULL);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_clean(&t, path, 0, "before");
    lcbtest_read(path, &data);
    data.s[(at + end) / 2] ^= 0x55;
    lcbtest_write(path, data.s, data.len);
    lcbtest_verify(&t, path, &v, &s);
    CU_ASSERT(s.count[LCB_FOUND_RECORD] >= 5 && s.count[LCB_FOUND_OTHER] >= 6);
    CU_ASSERT_EQUAL(lcbtest_repair(&t, path, &rp), 0);
    CU_ASSERT_EQUAL(rp.chunks, 1);
    CU_ASSERT_EQUAL(rp.messages, 0);
    lcbtest_clean(&t, path, 0, "after");

    CU_ASSERT_EQUAL(count(path, "subs WHERE until IS NULL"), 2);
    CU_ASSERT_EQUAL(count(path, "subs WHERE until IS NULL AND mboxname='user.joe.old'"), 0);
    CU_ASSERT_EQUAL(count(path, "seens WHERE until IS NULL AND uniqueid='u1' AND lastuid=6"), 1);
    CU_ASSERT_EQUAL(count(path, "quotas WHERE until IS NULL AND CAST(limits AS TEXT) LIKE '%2000%'"),
                    1);
    CU_ASSERT_EQUAL(count(path, "annots WHERE until IS NULL AND entry='/here'"), 1);
    CU_ASSERT_EQUAL(count(path, "annots WHERE until IS NULL"), 1);
    CU_ASSERT_EQUAL(count(path, "scripts WHERE until IS NULL AND filename='here.script'"), 1);
    CU_ASSERT_EQUAL(count(path, "scripts WHERE until IS NULL"), 1);
    CU_ASSERT_EQUAL(count(path, "active WHERE until IS NULL"), 1);
    CU_ASSERT_EQUAL(count(path, "folder_states WHERE until IS NULL"), 4);
    CU_ASSERT_EQUAL(count(path, "folder_states WHERE until IS NULL AND mboxname IN ('user.joe',"
                                " 'user.joe.to', 'user.joe.made', 'user.joe.short')"), 4);
    CU_ASSERT_EQUAL(count(path, "folder_states s JOIN folders f ON f.id=s.folder WHERE until IS"
                                " NULL AND mboxname='user.joe.short' AND uniqueid='u6'"), 1);
    /* a mailbox that was made there and deleted later is one that was deleted */
    CU_ASSERT_EQUAL(count(path, "records r JOIN folders f ON f.id=r.folder WHERE uniqueid='u4'"), 2);
    CU_ASSERT_EQUAL(count(path, "records r JOIN folders f ON f.id=r.folder WHERE uniqueid='u1' AND"
                                " until IS NULL AND modseq=2"), 3);
    CU_ASSERT_EQUAL(count(path, "records r JOIN folders f ON f.id=r.folder WHERE uniqueid='u1' AND"
                                " until IS NULL AND expunged"), 1);
    CU_ASSERT_EQUAL(count(path, "folders WHERE mark<>0"), 0);

    struct buf live = BUF_INITIALIZER, again = BUF_INITIALIZER;
    lcbtest_read(path, &data);
    lcbtest_dump(path, &live);
    lcbtest_rebuild(&t, data.s, data.len, &again);
    CU_ASSERT(lcbtest_same(&live, &again, "made anew"));
    off_t size = (off_t)data.len;
    CU_ASSERT_EQUAL(lcbtest_repair(&t, path, &rp), 0); /* once is enough */
    lcbtest_read(path, &data);
    CU_ASSERT_EQUAL((off_t)data.len, size);
    CU_ASSERT_EQUAL(rp.mailboxes + rp.records + rp.others + rp.messages, 0);
    buf_free(&live);
    buf_free(&again);
    buf_free(&data);
    buf_free(&s.text);
    free(path);
    lcbtest_fini(&t);
}

/* A message in a whole chunk that is not its GUID's. */
static void test_unsound(void)
{
    struct lcbtest_file f;
    struct lcb_verify v;
    struct lcb_repair rp;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    struct buf text = BUF_INITIALIZER, other = BUF_INITIALIZER;
    struct message_guid guid;
    char name[] = "user.joe.bad", hex[41];
    lcbtest_makefile(&f);
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
    lcbtest_message(900, &text, &guid);
    message_guid_encode(&guid, hex);
    text.s[7] ^= 1;
    CU_ASSERT_EQUAL(lcb_log_message(b, "default", &guid, text.len, text.s, -1, 0), 0);
    const char *records[] = {lcbtest_record(1, 5, "", hex), NULL};
    lcbtest_mailbox(b, lcbtest_header("bad", name, 1, 5, ""), records, NULL);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_verify(&f.t, f.path, &v, &s);
    CU_ASSERT_EQUAL(v.data, 1);
    CU_ASSERT_EQUAL(v.index, 0);
    CU_ASSERT_EQUAL(s.count[LCB_FOUND_MESSAGE], 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&s.text), hex));
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&s.text), "user.joe.bad uid 1"));
    CU_ASSERT_EQUAL(lcbtest_repair(&f.t, f.path, &rp), 0);
    CU_ASSERT_EQUAL(rp.messages, 1);
    CU_ASSERT_EQUAL(count(f.path, "folders WHERE mark=3"), 1);
    CU_ASSERT_EQUAL(count(f.path, "folders WHERE mark<>0"), 1);
    lcbtest_clean(&f.t, f.path, 1, "an unsound message");
    must_rebuild(&f, "an unsound message");
    buf_free(&text);
    buf_free(&other);
    buf_free(&s.text);
    lcbtest_freefile(&f);
}

/* ---- disks that fail, machines that stop ---- */

/* A place that the disk cannot read is rot: the index is made anew all the same. */
static void test_eio(void)
{
    struct lcbtest_file f;
    lcbtest_makefile(&f);
    int tried = 0, made = 0;
    struct vfs *none = vfs_fail_new(VFS_FAULT_READS, 0, EIO, 0);
    lcbtest_close(&f.t);
    lcbtest_open(&f.t, none);
    long k = vfs_fault_calls(none);
    lcbtest_close(&f.t);
    vfs_fault_free(&none);
    lcbtest_open(&f.t, NULL);
    while (++k < 200) {
        struct lcb *b = NULL;
        struct vfs *v = vfs_fail_new(VFS_FAULT_READS, k, EIO, 0);
        lcbtest_close(&f.t);
        lcbtest_open(&f.t, v);
        lcbtest_write(f.path, f.data.s, f.data.len);
        lcbtest_rmindex(f.path);
        int r = lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b);
        int happened = vfs_fault_happened(v);
        CU_ASSERT(!r || r == -EIO);
        made += !r && happened;
        tried += happened;
        if (!r) /* it lost no more than one place */
            CU_ASSERT(lcbtest_int(f.path, "SELECT count(*) FROM folders") >= LCBTEST_GROUPS - 1);
        lcb_close(&b);
        lcbtest_close(&f.t);
        vfs_fault_free(&v);
        lcbtest_open(&f.t, NULL);
        remove_asides(f.path);
        if (!happened)
            break;
    }
    CU_ASSERT(tried > 20);
    CU_ASSERT(made >= tried - 2); /* all but fstat(2) and stat(2) */
    lcbtest_freefile(&f);
}

/* One byte of group 2 is wrong; the machine stops at call K of the repair. */
static long crash_at(struct lcbtest_file *f, const struct buf *bad, int online, long k,
                     enum vfs_settle how)
{
    struct lcb_repair rp;
    char what[80];
    lcbtest_close(&f->t);
    lcbtest_write(f->path, bad->s, bad->len);
    lcbtest_putindex(f->path, &f->index[LCBTEST_GROUPS]);
    struct vfs *v = vfs_crash_new(f->t.dir, k);
    lcbtest_open(&f->t, v);
    int r = lcbtest_repair_as(&f->t, f->path, online, &rp);
    long calls = vfs_fault_calls(v);
    CU_ASSERT(k ? vfs_fault_happened(v) : !r);
    lcbtest_close(&f->t);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, (unsigned)k), 0);
    vfs_fault_free(&v);
    lcbtest_open(&f->t, NULL);
    snprintf(what, sizeof(what), "crash at call %ld of a repair (%d), settled %d", k, online, (int)how);
    if (k)
        must_heal(f, 2, 2, what); /* whatever was left, it can be done again */
    remove_asides(f->path);
    return calls;
}

static void test_crash(void)
{
    struct lcbtest_file f;
    struct buf bad = BUF_INITIALIZER;
    lcbtest_makefile(&f);
    buf_setmap(&bad, f.data.s, f.data.len);
    bad.s[(f.start[2][2] + f.start[2][3]) / 2] ^= 0x55;
    for (int online = 0; online < 2; online++) {
        long calls = crash_at(&f, &bad, online, 0, VFS_SETTLE_LOST);
        CU_ASSERT(calls >= 2); /* of those that change something */
        for (long k = 1; k <= calls; k++) {
            crash_at(&f, &bad, online, k, VFS_SETTLE_LOST);
            crash_at(&f, &bad, online, k, VFS_SETTLE_KEPT);
            crash_at(&f, &bad, online, k, VFS_SETTLE_TORN);
        }
    }
    buf_free(&bad);
    lcbtest_freefile(&f);
}

/* A message that was expunged, of which only a lost chunk said in which mailbox it had been: it can be
 * found again, and stays for the retention. LOST: groups that are lost, of 1 (record), 2 (flags),
 * 3 (expunged). GONE: the mailbox was deleted then. */
static void expunged(int lost, int gone)
{
    struct lcbtest t;
    struct lcb_repair rp;
    struct message_guid guid;
    struct buf text = BUF_INITIALIZER, data = BUF_INITIALIZER;
    char hex[41], sql[300];
    off_t end[6];
    lcbtest_init(&t, "backup_retention: 10d\n");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b));
    lcbtest_message(5, &text, &guid);
    message_guid_encode(&guid, hex);
    char *records[4];
    for (unsigned i = 1; i < 4; i++)
        records[i] = xstrdup(lcbtest_record(1, i, i == 1 ? "" : i == 2 ? "\\Seen"
                                                                : "\\Seen \\Expunged", hex));
    for (int i = 0; i < 6; i++) {
        const char *one[] = {i > 0 && i < 4 ? records[i] : NULL, NULL};
        const char *name = i && i < 4 ? "user.joe" : "user.joe.x";
        lcbtest_settime(lcbtest_time() + 60);
        if (!i)
            CU_ASSERT_EQUAL(lcbtest_upload(b, 5, 0), 0);
        const char *header = lcbtest_header(i && i < 4 ? "u1" : "u2", name, 1, (unsigned)i + 1, "");
        CU_ASSERT_EQUAL(lcbtest_mailbox(b, header, one, NULL), 0);
        if (i == 4 && gone)
            CU_ASSERT_EQUAL(lcbtest_log(b, "UNMAILBOX", "user.joe"), 0);
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
        end[i] = b->df.end;
    }
    lcb_close(&b);
    lcbtest_read(path, &data);
    for (int i = 1; i < 4; i++)
        if (lost & 1 << i)
            data.s[(end[i - 1] + end[i]) / 2 + 20] ^= 0x55;
    lcbtest_write(path, data.s, data.len);
    CU_ASSERT_EQUAL(lcbtest_repair(&t, path, &rp), 0);
    CU_ASSERT_EQUAL(rp.chunks, __builtin_popcount((unsigned)lost));
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM records r JOIN contents c ON c.id=r.content JOIN"
             " folders f ON f.id=r.folder WHERE r.expunged=0 AND r.until IS NOT NULL AND c.chunk=1 AND"
             " uniqueid='u1' AND CAST(r.flags AS TEXT) LIKE '%s'", (lost & 6) == 6 ? "%Seen%" : "%");
    CU_ASSERT(lcbtest_int(path, sql) > 0);
    CU_ASSERT_EQUAL(count(path, "records WHERE until IS NULL AND expunged"), 1);
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT crc FROM folders WHERE uniqueid='u1'"), 0);
    lcbtest_clean(&t, path, 0, "after");
    CU_ASSERT_EQUAL(lcbtest_repair(&t, path, &rp), 0);
    CU_ASSERT_EQUAL(rp.records, 0); /* once is enough */
    /* Two days later compaction still keeps it. */
    lcbtest_settime(lcbtest_time() + 2 * 86400);
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    CU_ASSERT_EQUAL(lcb_compact(t.store, &how, &result), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &b), 0);
    CU_ASSERT_EQUAL(lcb_read_content(b, &guid, drop, NULL), 0);
    lcb_close(&b);
    for (unsigned i = 1; i < 4; i++)
        free(records[i]);
    free(path);
    buf_free(&text);
    buf_free(&data);
    lcbtest_fini(&t);
}

static void test_expunged(void)
{
    for (int lost = 2; lost < 16; lost += 2)
        for (int gone = 0; gone < 2; gone++)
            expunged(lost, gone);
}

static int log_text(struct lcb *b, const char *verb, const char *value)
{
    return strcmp(verb, "MAILBOX")
               ? lcbtest_log(b, verb, value)
               : lcbtest_mailbox(b, lcbtest_header(value, "user.joe.n", 1, 5, ""), NULL, NULL);
}

/* LINES, each a group but for those whose verb begins with "+", which belong to the one before. Group
 * LOST is lost: what holds is as before. */
static void consequence(const char *const *lines, int lost)
{
    struct lcbtest t;
    struct lcb_repair rp;
    struct buf was = BUF_INITIALIZER, is = BUF_INITIALIZER, data = BUF_INITIALIZER;
    off_t end[8] = {0};
    int n = 0;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b));
    for (; *lines; lines += 2) {
        CU_ASSERT_EQUAL(log_text(b, **lines == '+' ? *lines + 1 : *lines, lines[1]), 0);
        if (lines[2] && *lines[2] == '+')
            continue;
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
        end[++n] = b->df.end;
        lcbtest_settime(lcbtest_time() + 60);
    }
    CU_ASSERT_EQUAL(lcbtest_state(b, lcbtest_time(), &was), 0);
    lcb_close(&b);
    lcbtest_read(path, &data);
    data.s[end[lost] - 3] ^= 0x55;
    lcbtest_write(path, data.s, data.len);
    CU_ASSERT_EQUAL(lcbtest_repair(&t, path, &rp), 0);
    CU_ASSERT_EQUAL(rp.chunks, 1);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(t.store, path, 0, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_state(b, lcbtest_time(), &is), 0);
    lcb_close(&b);
    CU_ASSERT(lcbtest_same(&is, &was, lines[-2]));
    lcbtest_clean(&t, path, 0, lines[-2]);
    lcbtest_compare(&t, path, lines[-2]);
    free(path);
    buf_free(&was);
    buf_free(&is);
    buf_free(&data);
    lcbtest_fini(&t);
}

/* A line that is intact, but would do something else without one that is lost. */
static void test_consequences(void)
{
    static const char *const active[] = {
        "SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 7 CONTENT keep)",
        "ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)",
        "ACTIVATE_SIEVE", "%(USERID joe FILENAME b.bc)", /* lost */
        "UNSIEVE", "%(USERID joe FILENAME b.script)",
        "SUB", "%(USERID joe MBOXNAME user.joe)", NULL,
    };
    static const char *const edited[] = {
        "MAILBOX", "one", "SUB", "%(USERID joe MBOXNAME user.joe)",
        "UNMAILBOX", "user.joe.n", "+MAILBOX", "two", /* lost */
        "ANNOTATION", "%(MBOXNAME user.joe.n ENTRY /comment USERID joe VALUE x)",
        "UNSUB", "%(USERID joe MBOXNAME user.joe)", NULL,
    };
    consequence(active, 3);
    consequence(edited, 3);
}

/* The last group rots, in its header or anywhere: who opens the backup for writing, or only reads, does
 * not lose what the index knows of it. */
static void test_end(void)
{
    struct lcbtest_file f;
    struct lcb *b = NULL;
    lcbtest_makefile(&f);
    const off_t *at = f.start[LCBTEST_GROUPS - 1];
    const off_t places[] = {at[2], at[2] + 13, at[2] + 30, at[3] - 3};
    for (size_t i = 0; i < 2 * sizeof(places) / sizeof(*places); i++) {
        struct buf data = BUF_INITIALIZER;
        struct lcb_repair rp;
        off_t place = places[i / 2];
        int reads = i & 1;
        buf_setmap(&data, f.data.s, f.data.len);
        data.s[place] ^= 0x55;
        lcbtest_write(f.path, data.s, data.len);
        lcbtest_putindex(f.path, &f.index[LCBTEST_GROUPS]);
        if (reads) {
            CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, 0, 0, &b), 0);
            CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folder_states"), LCBTEST_GROUPS);
            lcb_close(&b);
            lcbtest_read(f.path, &data);
            CU_ASSERT_EQUAL(data.len, f.data.len);
        }
        CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
        lcb_close(&b);
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folder_states WHERE until IS NULL"),
                        LCBTEST_GROUPS);
        CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM records WHERE until IS NULL"),
                        LCBTEST_GROUPS);
        must_rebuild(&f, "the end");
        CU_ASSERT_EQUAL(lcbtest_repair(&f.t, f.path, &rp), 0);
        CU_ASSERT_EQUAL(rp.records, 0); /* all was said already */
        buf_free(&data);
    }
    /* A file that was put back from an older copy is no damage; nor is another one. */
    lcbtest_write(f.path, f.data.s, (size_t)at[0]);
    lcbtest_putindex(f.path, &f.index[LCBTEST_GROUPS]);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(lcbtest_int(f.path, "SELECT count(*) FROM folder_states"), LCBTEST_GROUPS - 1);
    lcbtest_freefile(&f);
}

void suite_lcb_repair(void);
void suite_lcb_repair(void)
{
    static const struct unit_test tests[] = {
        {"every byte of the data file", test_every_byte},
        {"every cut of the data file", test_every_cut},
        {"what only a lost chunk said", test_relog},
        {"a message that is not its GUID's", test_unsound},
        {"places that cannot be read", test_eio},
        {"an expunged message", test_expunged},
        {"what follows from a lost line", test_consequences},
        {"the end", test_end},
        {"every crash of a repair", test_crash},
        {NULL, NULL},
    };
    unit_suite("lcb_repair", tests);
}
