/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of what an index that is made anew knows of content that was lost: the mailboxes that lack it
 * are marked again, as long as anything in the data file tells of the loss; and what the client did not
 * have either is not asked for again and again. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* A backup with mailboxes a and b, a message each, and c, whose message the client did not have. */
struct scene {
    struct lcbtest t;
    char *path; /* of its data file */
};

/* HEADER with the checksum that the records have. */
static const char *with_crc(const char *header, uint32_t crc)
{
    static char text[4096];
    const char *at = strstr(header, "SYNC_CRC "), *end = strstr(header, " SYNC_CRC_ANNOT");
    CU_ASSERT_FATAL(at != NULL && end != NULL);
    snprintf(text, sizeof(text), "%.*sSYNC_CRC %u%s", (int)(at - header), header, crc, end);
    return text;
}

static void mailbox(struct lcb *b, const char *id, unsigned message, int upload)
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    char hex[41], name[40];
    uint32_t crc = 0;
    lcbtest_message(message, &text, &guid);
    message_guid_encode(&guid, hex);
    buf_free(&text);
    snprintf(name, sizeof(name), "user.joe.%s", id);
    const char *records[] = {lcbtest_record(1, 5, "\\Seen", hex), NULL};
    if (upload)
        CU_ASSERT_EQUAL(lcbtest_upload(b, message, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 1, 5, ""), records, &crc), 0);
    const char *header = with_crc(lcbtest_header(id, name, 1, 5, ""), crc);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, header, records, NULL), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
}

static void begin(struct scene *s)
{
    memset(s, 0, sizeof(*s));
    lcbtest_init(&s->t, "backup_retention: 0\n");
    lcbtest_open(&s->t, NULL);
    struct lcb *b = lcbtest_joe(&s->t);
    mailbox(b, "c", 3, 0);
    mailbox(b, "b", 2, 1);
    mailbox(b, "a", 1, 1);
    lcb_close(&b);
    s->path = lcbtest_path(&s->t);
}

static void end(struct scene *s)
{
    free(s->path);
    lcbtest_fini(&s->t);
}

static int mark(struct scene *s, const char *id)
{
    char sql[100];
    snprintf(sql, sizeof(sql), "SELECT mark FROM folders WHERE uniqueid='%s'", id);
    return (int)lcbtest_int(s->path, sql);
}

/* The index is lost; whoever opens the backup makes it anew. */
static void lose_index(struct scene *s)
{
    lcbtest_rmindex(s->path);
    struct lcb *b = lcbtest_joe(&s->t);
    lcb_close(&b);
}

/* A letter of the chunk that holds the message of mailbox a is another one. */
static void damage(struct scene *s)
{
    struct buf data = BUF_INITIALIZER;
    int64_t at = lcbtest_int(s->path, "SELECT start+length/2 FROM chunks WHERE seq=(SELECT c.chunk FROM"
                                      " contents c JOIN records r ON r.content=c.id JOIN folders f ON"
                                      " f.id=r.folder WHERE f.uniqueid='a')");
    lcbtest_read(s->path, &data);
    CU_ASSERT_FATAL(at > 0 && (size_t)at < data.len);
    data.s[at] ^= 0x55;
    lcbtest_write(s->path, data.s, data.len);
    buf_free(&data);
}

/* Was something set aside? */
static int compact(struct scene *s)
{
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    int r = lcb_compact(s->t.store, &how, &result);
    free(s->path);
    s->path = lcbtest_path(&s->t);
    CU_ASSERT_EQUAL(r, LCB_COMPACT_DONE);
    return result.damaged > 0;
}

/* The client has been asked, and sends what it has. */
static void heal(struct scene *s)
{
    struct lcb *b = lcbtest_joe(&s->t);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 1, 0), 0);
    CU_ASSERT_EQUAL(lcb_setmark(b, "a", LCB_MARK_NONE), 0);
    CU_ASSERT_EQUAL(lcb_setmark(b, "c", LCB_MARK_NONE), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
}

static void must_ask(struct scene *s)
{
    CU_ASSERT_EQUAL(mark(s, "a"), LCB_MARK_CONTENT);
    CU_ASSERT_EQUAL(mark(s, "b"), LCB_MARK_NONE);
}

static void must_be_quiet(struct scene *s)
{
    CU_ASSERT_EQUAL(mark(s, "a"), LCB_MARK_NONE);
    CU_ASSERT_EQUAL(mark(s, "b"), LCB_MARK_NONE);
    CU_ASSERT_EQUAL(mark(s, "c"), LCB_MARK_NONE);
}

/* Nothing was lost: what the client has not is no reason to ask. */
static void test_nothing_lost(void)
{
    struct scene s;
    begin(&s);
    lose_index(&s);
    must_be_quiet(&s);
    CU_ASSERT_EQUAL(compact(&s), 0);
    lose_index(&s);
    must_be_quiet(&s);
    end(&s);
}

/* Compaction leaves nothing of the damage in the file but the word that there was one; until all is
 * here again, each that follows, too. */
static void test_set_aside(void)
{
    struct scene s;
    begin(&s);
    damage(&s);
    CU_ASSERT_EQUAL(compact(&s), 1);
    must_ask(&s);
    CU_ASSERT_EQUAL(mark(&s, "c"), LCB_MARK_NONE); /* the index knew that it never was here */
    lose_index(&s);
    must_ask(&s);
    CU_ASSERT_EQUAL(compact(&s), 0);
    must_ask(&s);
    lose_index(&s);
    must_ask(&s);
    heal(&s);
    CU_ASSERT_EQUAL(compact(&s), 0);
    must_be_quiet(&s);
    lose_index(&s);
    must_be_quiet(&s);
    end(&s);
}

void suite_lcb_marks(void);
void suite_lcb_marks(void)
{
    static const struct unit_test tests[] = {
        {"nothing was lost", test_nothing_lost},
        {"damage was set aside", test_set_aside},
        {NULL, NULL},
    };
    unit_suite("lcb_marks", tests);
}
