/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of what a client was promised within a unit of work, when something becomes of the backup
 * before the client comes back to it: content that was called present or was taken, and marks. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/backupd_command.h"
#include "backup/backupd_int.h"
#include "backup/backupd_spool.h"
#include "backup/lcb_compact.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_int.h"
#include "backup/lcb_verify.h"
#include "backup/lcb_repair.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "imap/dlist.h"
#include "imap/sync_record.h"
#include "lib/prot.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"
#include "master/service.h"

struct client {
    struct lcbtest t;
    struct service service;
    struct backupd d;
    struct dlist_reader reader;
    struct buf answer;
};

static int keep_answer(void *rock, const void *p, size_t n)
{
    buf_appendmap(rock, p, n);
    return 0;
}

/* A client of the store that C has. */
static void connect(struct client *c)
{
    c->d.service = &c->service;
    c->d.config = c->t.config;
    c->d.store = c->t.store;
    c->d.max_text = 1 << 20;
    c->d.reader = &c->reader;
    c->d.spool = backupd_spool_new(c->d.store);
    backupd_unit_init(&c->d);
}

static void start(struct client *c, const char *extra, struct vfs *vfs)
{
    memset(c, 0, sizeof(*c));
    lcbtest_init(&c->t, extra);
    lcbtest_open(&c->t, vfs);
    connect(c);
}

/* Another client on the same store. */
static void join(struct client *c, struct client *first)
{
    memset(c, 0, sizeof(*c));
    c->t = first->t;
    connect(c);
}

static void leave(struct client *c)
{
    (void)backupd_close_all(&c->d, NULL);
    backupd_spool_free(&c->d.spool);
    backupd_unit_free(&c->d);
    buf_free(&c->d.body);
    buf_free(&c->d.text);
    buf_free(&c->answer);
}

static void finish(struct client *c)
{
    leave(c);
    lcbtest_fini(&c->t);
}

/* One command: what is answered. */
static const char *says(struct client *c, const char *command)
{
    char *line = xasprintf("%s\r\n", command + (*command == 'G' ? 4 : 6));
    c->d.in = prot_readmem(line, strlen(line));
    buf_reset(&c->answer);
    c->d.out = prot_writefn(keep_answer, &c->answer);
    struct dlist_pool *pool = dlist_pool_new(1 << 20);
    dlist_reader_init(&c->reader, c->d.in, pool);
    CU_ASSERT_EQUAL(*command == 'G' ? backupd_get(&c->d) : backupd_apply(&c->d), BACKUPD_CONTINUE);
    prot_flush(c->d.out);
    prot_free(&c->d.in);
    prot_free(&c->d.out);
    dlist_pool_free(&pool);
    free(line);
    return buf_cstring(&c->answer);
}

/* As after two seconds without a command. */
static void lets_go(struct client *c)
{
    CU_ASSERT_EQUAL(backupd_close_all(&c->d, NULL), 0);
}

static const char *hex_of(unsigned n)
{
    static char hex[8][41];
    static int at;
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    at = (at + 1) % 8;
    lcbtest_message(n, &text, &guid);
    message_guid_encode(&guid, hex[at]);
    buf_free(&text);
    return hex[at];
}

static const char *reserves(struct client *c, const char *name, unsigned n)
{
    char *line = xasprintf("APPLY RESERVE %%(PARTITION default MBOXNAME (%s) GUID (%s))", name,
                           hex_of(n));
    const char *got = says(c, line);
    free(line);
    return got;
}

/* N is a multiple of 3: those messages are text. */
static const char *uploads(struct client *c, unsigned n)
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    lcbtest_message(n, &text, &guid);
    char *line = xasprintf("APPLY MESSAGE (%%{default %s %zu}\r\n%s)", hex_of(n), text.len,
                           buf_cstring(&text));
    const char *got = says(c, line);
    free(line);
    buf_free(&text);
    return got;
}

static const char done[] = "OK Success\r\n";
static const char refused[] = "NO IMAP_SYNC_CHECKSUM Checksum Failure\r\n";

static int is_ok(const char *answer)
{
    return !strcmp(answer, done);
}

/* A mailbox of the client's: message I + 1 has content[I]. */
struct box {
    const char *uniqueid, *name;
    unsigned modseq, n, content[4];
};

static uint32_t crc_of(const char *record)
{
    struct sync_record rec = {.uid = 0};
    struct dlist_reader reader;
    struct protstream *in = prot_readmem(record, strlen(record));
    dlist_reader_init(&reader, in, NULL);
    CU_ASSERT_EQUAL(sync_record_read(&rec, &reader, SIZE_MAX), 0);
    prot_free(&in);
    uint32_t crc = sync_record_crc(&rec);
    sync_record_fini(&rec);
    return crc;
}

/* The mailbox with its messages above SINCE. WRONG: a checksum that cannot be. */
static const char *sends(struct client *c, const struct box *m, unsigned since, int wrong)
{
    struct buf records = BUF_INITIALIZER;
    uint32_t crc = wrong ? 12345 : 0;
    for (unsigned uid = 1; uid <= m->n; uid++) {
        const char *text = lcbtest_record(uid, 10 + uid, "", hex_of(m->content[uid - 1]));
        crc ^= crc_of(text);
        if (uid > since)
            buf_printf(&records, "%s%s", records.len ? " " : "", text);
    }
    char *line = xasprintf("APPLY MAILBOX %%(UNIQUEID %s MBOXNAME %s LAST_UID %u HIGHESTMODSEQ %u"
                           " RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0"
                           " UIDVALIDITY 1500000000 PARTITION default ACL \"\" OPTIONS P SYNC_CRC %u"
                           " SYNC_CRC_ANNOT 12345678 RECORD (%s))", m->uniqueid, m->name, m->n,
                           m->modseq, crc, buf_cstring(&records));
    buf_free(&records);
    const char *got = says(c, line);
    free(line);
    return got;
}

/* All of a mailbox that is not here, as a client brings it in a unit of its own. */
static void brings(struct client *c, const struct box *m)
{
    says(c, "GET USER joe");
    for (unsigned i = 0; i < m->n; i++)
        CU_ASSERT(is_ok(uploads(c, m->content[i])));
    CU_ASSERT(is_ok(sends(c, m, 0, 0)));
    CU_ASSERT_EQUAL(backupd_restart(&c->d), 0);
}

static int has(struct client *c, unsigned n)
{
    struct message_guid guid;
    struct buf text = BUF_INITIALIZER;
    struct lcb *b = NULL;
    lcbtest_message(n, &text, &guid);
    buf_free(&text);
    CU_ASSERT_EQUAL_FATAL(lcb_open(c->t.store, "joe", 0, 0, &b), 0);
    int r = lcb_has_content(b, &guid, NULL);
    lcb_close(&b);
    return r;
}

static const struct box inbox = {"u1", "user.joe", 20, 2, {6, 9}};
/* Another mailbox comes to have a message that the backup has. */
static const struct box copy = {"u3", "user.joe.Copy", 20, 1, {15}};

/* ---- content that was called present ---- */

/* It was in nothing any more, and compaction has removed it. */
static void test_reserved_compacted(void)
{
    struct client c;
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    start(&c, "backup_retention: 1d\n", NULL);
    brings(&c, &inbox);
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(uploads(&c, 15)));
    CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
    lcbtest_settime(lcbtest_time() + 10 * 86400);
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(reserves(&c, copy.name, 15)));
    lets_go(&c);
    CU_ASSERT_EQUAL(lcb_compact(c.t.store, &how, &result), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(has(&c, 15), 0);
    CU_ASSERT_STRING_EQUAL(sends(&c, &copy, 0, 0), refused);
    finish(&c);
}

/* The backup was deleted, and begins anew. */
static void test_taken_deleted(void)
{
    struct client c;
    struct lcb_delete how = {.userid = "joe"};
    char *kept = NULL;
    start(&c, "", NULL);
    brings(&c, &inbox);
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(uploads(&c, 15)));
    lets_go(&c);
    CU_ASSERT_EQUAL(lcb_delete(c.t.store, &how, &kept), 0);
    free(kept);
    CU_ASSERT_STRING_EQUAL(sends(&c, &copy, 0, 0), refused);
    finish(&c);
}

/* Chunk SEQ on the disk changes. */
static void damage(struct client *c, int seq)
{
    char *path = lcbtest_path(&c->t), sql[100];
    snprintf(sql, sizeof(sql), "SELECT start+length-20 FROM chunks WHERE seq=%d", seq);
    int64_t at = lcbtest_int(path, sql);
    int fd = open(path, O_WRONLY);
    CU_ASSERT_EQUAL_FATAL(pwrite(fd, "damaged", 7, at), 7);
    close(fd);
    free(path);
}

/* Two mailboxes get messages from one chunk, which turns out to be damaged when the first comes. */
static void test_reserved_damaged(void)
{
    static const struct box second = {"u4", "user.joe.Second", 20, 1, {18}};
    struct client c;
    start(&c, "", NULL);
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(uploads(&c, 15)));
    CU_ASSERT(is_ok(uploads(&c, 18)));
    CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
    brings(&c, &inbox);
    damage(&c, 1);
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(reserves(&c, copy.name, 15)));
    CU_ASSERT(is_ok(reserves(&c, second.name, 18)));
    CU_ASSERT_STRING_EQUAL(sends(&c, &copy, 0, 0), refused);
    CU_ASSERT_STRING_EQUAL(sends(&c, &second, 0, 0), refused);
    CU_ASSERT_STRING_NOT_EQUAL(reserves(&c, second.name, 18), done);
    CU_ASSERT(is_ok(uploads(&c, 18)));
    CU_ASSERT(is_ok(sends(&c, &second, 0, 0)));
    lets_go(&c);
    CU_ASSERT(has(&c, 18));
    finish(&c);
}

/* The end of the file has rotted when the backup is opened again, and it is repaired in place. */
static void test_reserved_rotten(void)
{
    struct client c;
    start(&c, "", NULL);
    brings(&c, &inbox);
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(uploads(&c, 15)));
    CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(reserves(&c, copy.name, 15)));
    lets_go(&c);
    damage(&c, 2);
    CU_ASSERT_STRING_EQUAL(sends(&c, &copy, 0, 0), refused);
    brings(&c, &copy);
    lets_go(&c);
    CU_ASSERT(has(&c, 15));
    finish(&c);
}

/* So many messages that they are committed before the MAILBOX is begun. */
static void upload_many(struct client *c)
{
    enum { MANY = 20100 };
    struct buf line = BUF_INITIALIZER;
    struct message_guid guid;
    char text[20], hex[41];
    buf_setcstr(&line, "APPLY MESSAGE (");
    for (int i = 0; i < MANY; i++) {
        int n = snprintf(text, sizeof(text), "%d", i);
        message_guid_generate(&guid, text, (size_t)n);
        message_guid_encode(&guid, hex);
        buf_printf(&line, "%s%%{default %s %d}\r\n%s", i ? " " : "", hex, n, text);
    }
    buf_putc(&line, ')');
    CU_ASSERT(is_ok(says(c, buf_cstring(&line))));
    buf_free(&line);
}

/* There is no room for that commit, and then there is. */
static void test_taken_no_room(void)
{
    struct client c;
    long k = 0;
    for (int round = 0; round < 2; round++) {
        struct vfs *vfs = vfs_fail_new(VFS_FAULT_WRITES, k, ENOSPC, 0);
        start(&c, "", vfs);
        says(&c, "GET USER joe");
        CU_ASSERT(is_ok(uploads(&c, 15)));
        upload_many(&c);
        k = vfs_fault_calls(vfs) + 1;
        const char *got = sends(&c, &copy, 0, 0);
        if (round) {
            CU_ASSERT(strstr(got, "LOCKED") != NULL);
            CU_ASSERT_STRING_EQUAL(sends(&c, &copy, 0, 0), refused);
        } else {
            CU_ASSERT_STRING_EQUAL(got, done);
        }
        finish(&c);
        vfs_fault_free(&vfs);
    }
}

/* ---- what keeps a promise ---- */

static int compact_it(struct lcb_store *store)
{
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    int r = lcb_compact(store, &how, &result);
    return r == LCB_COMPACT_DONE ? 0 : -1;
}

static int reindex_it(struct lcb_store *store)
{
    struct lcb_repair rp = {.rock = NULL};
    return lcb_reindex(store, "joe", NULL, 0, 0, &rp);
}

/* Whatever takes the place of the files between an upload and its mailbox, what was uploaded stays. */
static void test_taken_and_replaced(void)
{
    static int (*const fn[])(struct lcb_store *) = {compact_it, reindex_it};
    for (int i = 0; i < 2; i++) {
        struct client c;
        start(&c, "", NULL);
        brings(&c, &inbox);
        says(&c, "GET USER joe");
        CU_ASSERT(is_ok(uploads(&c, 15)));
        lets_go(&c);
        CU_ASSERT_EQUAL(fn[i](c.t.store), 0);
        CU_ASSERT(is_ok(uploads(&c, 18)));
        lets_go(&c);
        CU_ASSERT_EQUAL(fn[i](c.t.store), 0);
        CU_ASSERT(is_ok(sends(&c, &copy, 0, 0)));
        lets_go(&c);
        CU_ASSERT(has(&c, 15));
        finish(&c);
    }
}

/* There is no room for a message that waits in the spool, at each of the steps of writing it down; then
 * there is. */
static void test_no_room_for_spooled(void)
{
    static const struct box big = {"u5", "user.joe.Big", 20, 2, {15, 1000002}};
    long from = 0, to = 0;
    for (long k = 0; k <= to; k = k ? k + 5 : from) {
        struct client c;
        struct vfs *vfs = vfs_fail_new(VFS_FAULT_WRITES, k, ENOSPC, 0);
        start(&c, "", vfs);
        brings(&c, &inbox);
        says(&c, "GET MAILBOXES (user.joe.Big user.jim)");
        CU_ASSERT(is_ok(uploads(&c, 15)));
        CU_ASSERT(is_ok(uploads(&c, 1000002)));
        struct lcb *b;
        CU_ASSERT_EQUAL_FATAL(backupd_backup(&c.d, "joe", 0, &b), 0);
        b->df.pack_max = 0;
        if (!k)
            from = vfs_fault_calls(vfs) + 1;
        const char *got = sends(&c, &big, 0, 0);
        if (k) {
            CU_ASSERT(strstr(got, "LOCKED") != NULL);
            CU_ASSERT(is_ok(sends(&c, &big, 0, 0)));
        } else {
            CU_ASSERT_STRING_EQUAL(got, done);
            to = vfs_fault_calls(vfs);
        }
        lets_go(&c);
        CU_ASSERT(has(&c, 15) && has(&c, 1000002));
        char *path = lcbtest_path(&c.t);
        lcbtest_compare(&c.t, path, "after there was no room");
        free(path);
        finish(&c);
        vfs_fault_free(&vfs);
    }
    CU_ASSERT(to - from >= 4);
}

/* ---- positions ---- */

/* Two clients bring a mailbox, the newer first; in between compaction moves its position to before that
 * at which the older one asked. */
static void test_came_compacted(void)
{
    static const struct box newer = {"u3", "user.joe.Copy", 21, 2, {15, 18}};
    struct client a, b;
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    start(&a, "backup_retention: 1d\n", NULL);
    join(&b, &a);
    brings(&a, &inbox);
    for (unsigned i = 0; i < 30; i++) { /* nothing of this stays */
        says(&a, "GET USER joe");
        CU_ASSERT(is_ok(uploads(&a, 21 * (i + 2))));
        CU_ASSERT_EQUAL(backupd_restart(&a.d), 0);
    }
    lcbtest_settime(lcbtest_time() + 10 * 86400);
    says(&a, "GET USER joe");
    CU_ASSERT(is_ok(uploads(&a, 15)));
    lets_go(&a);
    brings(&b, &newer);
    CU_ASSERT_EQUAL(lcb_compact(a.t.store, &how, &result), LCB_COMPACT_DONE);
    CU_ASSERT_STRING_EQUAL(sends(&a, &copy, 0, 0), refused);
    leave(&b);
    finish(&a);
}

/* ---- marks ---- */

static void lose(struct client *c, unsigned n)
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    lcbtest_message(n, &text, &guid);
    buf_free(&text);
    struct lcb *b = lcbtest_joe(&c->t);
    CU_ASSERT_EQUAL(lcb_forget_content(b, &guid), 0);
    lcb_close(&b);
}

static int64_t marked(struct client *c, const char *uniqueid)
{
    char *path = lcbtest_path(&c->t), sql[100];
    snprintf(sql, sizeof(sql), "SELECT mark FROM folders WHERE uniqueid='%s'", uniqueid);
    int64_t mark = lcbtest_int(path, sql);
    free(path);
    return mark;
}

/* A mailbox lacks content, and then a checksum differs: the client sends records, but no content. */
static void test_doubt_on_content(void)
{
    struct client c;
    struct box more = inbox;
    start(&c, "", NULL);
    brings(&c, &inbox);
    says(&c, "GET USER joe");
    lets_go(&c);
    lose(&c, 6);
    CU_ASSERT_EQUAL(marked(&c, "u1"), LCB_MARK_CONTENT);
    more.content[more.n++] = 15;
    more.modseq++;
    CU_ASSERT(is_ok(uploads(&c, 15)));
    CU_ASSERT_STRING_EQUAL(sends(&c, &more, 2, 1), refused);
    lets_go(&c);
    CU_ASSERT_EQUAL(marked(&c, "u1"), LCB_MARK_CONTENT);
    finish(&c);
}

/* The client was asked for all records, and before they come content is found to be damaged. */
static void test_content_on_doubt(void)
{
    struct client c;
    start(&c, "", NULL);
    brings(&c, &inbox);
    struct lcb *b = lcbtest_joe(&c.t);
    CU_ASSERT_EQUAL(lcb_setmark(b, "u1", LCB_MARK_DOUBT), 0);
    lcb_close(&b);
    says(&c, "GET USER joe");
    lets_go(&c);
    lose(&c, 6);
    CU_ASSERT(is_ok(sends(&c, &inbox, 0, 0)));
    lets_go(&c);
    CU_ASSERT_EQUAL(marked(&c, "u1"), LCB_MARK_CONTENT);
    CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
    brings(&c, &inbox);
    CU_ASSERT_EQUAL(marked(&c, "u1"), LCB_MARK_NONE);
    CU_ASSERT(has(&c, 6));
    finish(&c);
}

/* A client is asked for content, is told that the rest is here, and sends all; meanwhile somebody else
 * finds that some of that rest is not. */
static void test_more_content_on_content(void)
{
    struct client c;
    struct box more = inbox;
    start(&c, "", NULL);
    brings(&c, &inbox);
    more.content[more.n++] = 15;
    more.modseq++;
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(uploads(&c, 15)));
    CU_ASSERT(is_ok(sends(&c, &more, 2, 0)));
    CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
    lose(&c, 6); /* and 9, but not 15 */
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(reserves(&c, more.name, 15)));
    CU_ASSERT(is_ok(uploads(&c, 6)));
    CU_ASSERT(is_ok(uploads(&c, 9)));
    lets_go(&c);
    lose(&c, 15);
    CU_ASSERT_STRING_EQUAL(sends(&c, &more, 0, 0), refused);
    lets_go(&c);
    CU_ASSERT(marked(&c, "u1") != LCB_MARK_NONE);
    CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
    brings(&c, &more);
    CU_ASSERT_EQUAL(marked(&c, "u1"), LCB_MARK_NONE);
    CU_ASSERT(has(&c, 6) && has(&c, 9) && has(&c, 15));
    finish(&c);
}

/* A mailbox that is to be sent again as a whole names content that turns out to be damaged. */
static void test_content_on_resend(void)
{
    struct client c;
    start(&c, "", NULL);
    brings(&c, &inbox);
    struct lcb *b = lcbtest_joe(&c.t);
    CU_ASSERT_EQUAL(lcb_setmark(b, "u1", LCB_MARK_RESEND), 0);
    lcb_close(&b);
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(uploads(&c, 15))); /* so that the damage is not at the end */
    CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
    damage(&c, 1);
    says(&c, "GET USER joe");
    CU_ASSERT_STRING_EQUAL(sends(&c, &inbox, 0, 0), refused);
    lets_go(&c);
    CU_ASSERT_EQUAL(marked(&c, "u1"), LCB_MARK_RESEND);
    CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
    brings(&c, &inbox);
    CU_ASSERT_EQUAL(marked(&c, "u1"), LCB_MARK_NONE);
    CU_ASSERT(has(&c, 6) && has(&c, 9));
    finish(&c);
}

/* What a mailbox lacks that is to be sent again as a whole is waited for, too, and what compaction
 * writes says so. */
static void test_compacted_on_resend(void)
{
    struct client c;
    struct lcb_verify v = {.rock = NULL};
    start(&c, "", NULL);
    brings(&c, &inbox);
    says(&c, "GET USER joe");
    CU_ASSERT(is_ok(uploads(&c, 15)));
    CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
    damage(&c, 1);
    CU_ASSERT_EQUAL(reindex_it(c.t.store), 0);
    CU_ASSERT_EQUAL(marked(&c, "u1"), LCB_MARK_CONTENT);
    CU_ASSERT_EQUAL(compact_it(c.t.store), 0); /* what cannot be read is set aside */
    struct lcb *b = lcbtest_joe(&c.t);
    CU_ASSERT_EQUAL(lcb_setmark(b, "u1", LCB_MARK_RESEND), 0);
    lcb_close(&b);
    CU_ASSERT_EQUAL(compact_it(c.t.store), 0);
    char *path = lcbtest_path(&c.t), *index = xasprintf("%s.index", path);
    CU_ASSERT_EQUAL(lcb_verify(c.t.store, path, &v), 0);
    CU_ASSERT_EQUAL(v.waiting, 2);
    lcb_index_remove(index);
    free(index);
    free(path);
    b = lcbtest_joe(&c.t);
    lcb_close(&b);
    CU_ASSERT_EQUAL(marked(&c, "u1"), LCB_MARK_CONTENT);
    finish(&c);
}

/* Files in which content may be missing have another number, even if the index gets an inode that was
 * seen before. */
static void test_number_of_files(void)
{
    struct client c;
    uint64_t id[4];
    int64_t forgot[4];
    start(&c, "", NULL);
    brings(&c, &inbox);
    for (int i = 0; i < 4; i++) {
        if (i == 3)
            lose(&c, 6);
        else if (i)
            CU_ASSERT_EQUAL(reindex_it(c.t.store), 0);
        struct lcb *b = lcbtest_joe(&c.t);
        id[i] = lcb_files_id(b);
        forgot[i] = lcb_index_forgot(b->index);
        lcb_close(&b);
        for (int k = 0; k < i; k++)
            CU_ASSERT(id[k] != id[i] && forgot[k] != forgot[i]);
    }
    finish(&c);
}

/* Without an index what cannot be read is asked for, whoever makes one. */
static void test_no_index(void)
{
    static int (*const fn[])(struct lcb_store *) = {NULL, reindex_it, compact_it};
    for (int i = 0; i < 3; i++) {
        struct client c;
        start(&c, "", NULL);
        says(&c, "GET USER joe");
        CU_ASSERT(is_ok(uploads(&c, 15)));
        CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
        brings(&c, &inbox);
        says(&c, "GET USER joe");
        CU_ASSERT(is_ok(sends(&c, &copy, 0, 0)));
        CU_ASSERT_EQUAL(backupd_restart(&c.d), 0);
        damage(&c, 1);
        char *path = lcbtest_path(&c.t);
        lcbtest_rmindex(path);
        free(path);
        if (fn[i])
            CU_ASSERT_EQUAL(fn[i](c.t.store), 0);
        says(&c, "GET USER joe");
        lets_go(&c);
        CU_ASSERT_EQUAL(has(&c, 15), 0);
        CU_ASSERT_EQUAL(marked(&c, copy.uniqueid), LCB_MARK_CONTENT);
        CU_ASSERT_EQUAL(marked(&c, inbox.uniqueid), LCB_MARK_NONE);
        finish(&c);
    }
}

void suite_backupd_promise(void);
void suite_backupd_promise(void)
{
    static const struct unit_test tests[] = {
        {"reserved_compacted", test_reserved_compacted},
        {"reserved_damaged", test_reserved_damaged},
        {"reserved_rotten", test_reserved_rotten},
        {"taken_deleted", test_taken_deleted},
        {"taken_no_room", test_taken_no_room},
        {"taken_and_replaced", test_taken_and_replaced},
        {"no_room_for_spooled", test_no_room_for_spooled},
        {"came_compacted", test_came_compacted},
        {"doubt_on_content", test_doubt_on_content},
        {"content_on_doubt", test_content_on_doubt},
        {"more_content_on_content", test_more_content_on_content},
        {"number_of_files", test_number_of_files},
        {"no_index", test_no_index},
        {"content_on_resend", test_content_on_resend},
        {"compacted_on_resend", test_compacted_on_resend},
        {NULL, NULL},
    };
    unit_suite("backupd_promise", tests);
}
