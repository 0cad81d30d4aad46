/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of what is said to be lost of the history: chunks that were damaged before the index was made,
 * and lines that could not be understood. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_history.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/unit.h"
#include "lib/xmalloc.h"

enum { CHUNKS = 5, APART = 100 };

/* A backup with a chunk each APART seconds: mailbox uN with a message, and a subscription. */
struct apart {
    struct lcbtest t;
    int64_t start;
    char *path;
    off_t at[CHUNKS + 1];
};

static void make(struct apart *a)
{
    static const char guid[] = "0123456789012345678901234567890123456789";
    const char *records[] = {lcbtest_record(1, 1, "", guid), NULL};
    char id[16], name[32], sub[64];
    lcbtest_init(&a->t, "backup_retention: 1\n");
    lcbtest_open(&a->t, NULL);
    struct lcb *b = lcbtest_joe(&a->t);
    a->start = lcbtest_time();
    a->path = xstrdup(lcb_path(b));
    for (int i = 0; i < CHUNKS; i++) {
        lcbtest_settime(a->start + i * APART);
        a->at[i] = b->df.end;
        snprintf(id, sizeof(id), "u%d", i);
        snprintf(name, sizeof(name), "user.joe.u%d", i);
        snprintf(sub, sizeof(sub), "%%(USERID joe MBOXNAME %s)", name);
        CU_ASSERT_EQUAL(lcbtest_upload(b, (unsigned)i * 3 + 100, 0), 0);
        CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 1, 1, ""), records, NULL), 0);
        CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", sub), 0);
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
    }
    a->at[CHUNKS] = b->df.end;
    lcbtest_settime(a->start + CHUNKS * APART);
    lcb_close(&b);
}

static void done(struct apart *a)
{
    free(a->path);
    lcbtest_fini(&a->t);
}

static void damage(struct apart *a, int chunk)
{
    struct buf data = BUF_INITIALIZER;
    lcbtest_read(a->path, &data);
    data.s[(a->at[chunk] + a->at[chunk + 1]) / 2] ^= 0x55;
    lcbtest_write(a->path, data.s, data.len);
    buf_free(&data);
}

/* Of the time FROM .. TO since the start: "places from to", or "nothing". */
static const char *lost(struct apart *a, int64_t from, int64_t to)
{
    static char said[80];
    struct lcb_lost l;
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(a->t.store, "joe", 0, 0, &b), 0);
    CU_ASSERT_EQUAL(lcb_history_lost(b, a->start + from, to == LCB_NOW ? to : a->start + to, &l), 0);
    lcb_close(&b);
    snprintf(said, sizeof(said), "%d %lld %lld", l.places, l.from ? (long long)(l.from - a->start) : -1,
             l.to == LCB_NOW ? -1 : (long long)(l.to - a->start));
    return l.places ? said : "nothing";
}

static void repair(struct apart *a, int chunks)
{
    struct lcb_repair rp;
    CU_ASSERT_EQUAL(lcbtest_repair(&a->t, a->path, &rp), 0);
    CU_ASSERT_EQUAL(rp.chunks, chunks);
}

static void test_chunks(void)
{
    struct apart a;
    make(&a);
    UNIT_STR(lost(&a, -1, LCB_NOW), "nothing");
    damage(&a, 1);
    UNIT_STR(lost(&a, -1, LCB_NOW), "nothing"); /* the index knows what it said */
    repair(&a, 1);
    for (int again = 0; again < 2; again++) {
        UNIT_STR(lost(&a, -1, LCB_NOW), "1 0 200");
        UNIT_STR(lost(&a, -1, 0), "1 0 200"); /* it may have been in that second */
        UNIT_STR(lost(&a, 200, 300), "1 0 200");
        UNIT_STR(lost(&a, 50, 60), "1 0 200");
        UNIT_STR(lost(&a, -50, -1), "nothing");
        UNIT_STR(lost(&a, 201, LCB_NOW), "nothing");
        lcbtest_rmindex(a.path); /* it is seen in the file */
    }
    damage(&a, 3);
    repair(&a, 2);
    UNIT_STR(lost(&a, -1, LCB_NOW), "2 0 400");
    UNIT_STR(lost(&a, 201, LCB_NOW), "1 200 400");
    UNIT_STR(lost(&a, -1, 199), "1 0 200");
    done(&a);
}

/* The first chunk, and two at a stretch. */
static void test_edges(void)
{
    struct apart a;
    make(&a);
    damage(&a, 0);
    repair(&a, 1);
    UNIT_STR(lost(&a, -1, LCB_NOW), "1 -1 100");
    UNIT_STR(lost(&a, 101, LCB_NOW), "nothing");
    damage(&a, 2);
    damage(&a, 3);
    repair(&a, 3);
    UNIT_STR(lost(&a, 101, LCB_NOW), "1 100 400");
    UNIT_STR(lost(&a, -1, LCB_NOW), "2 -1 400");
    done(&a);
}

static void add(struct apart *a, int64_t pos)
{
    struct lcb *b = lcbtest_joe(&a->t);
    CU_ASSERT_EQUAL(lcb_index_begin(b->index), 0);
    CU_ASSERT_EQUAL(lcb_index_addlost(b->index, pos), 0);
    CU_ASSERT_EQUAL(lcb_index_commit(b->index), 0);
    lcb_close(&b);
}

/* A wrong message is no history, any other line is; and so is the rest of a chunk. */
static void test_lines(void)
{
    struct apart a;
    make(&a);
    int64_t seq = lcbtest_int(a.path, "SELECT seq FROM chunks ORDER BY seq LIMIT 1 OFFSET 2");
    add(&a, LCB_POS(seq, 1));
    UNIT_STR(lost(&a, -1, LCB_NOW), "nothing");
    add(&a, LCB_POS(seq, 3));
    UNIT_STR(lost(&a, -1, LCB_NOW), "1 200 200");
    UNIT_STR(lost(&a, 200, 200), "1 200 200");
    UNIT_STR(lost(&a, 201, LCB_NOW), "nothing");
    add(&a, LCB_POS(seq + 1, 0));
    UNIT_STR(lost(&a, 201, LCB_NOW), "1 300 400");
    add(&a, LCB_POS(seq + 2, 0)); /* nothing is behind it */
    UNIT_STR(lost(&a, 401, LCB_NOW), "1 400 -1");
    add(&a, LCB_POS(seq + 2, 9)); /* there is no such line */
    UNIT_STR(lost(&a, -1, LCB_NOW), "4 200 -1");
    done(&a);
}

static int64_t gaps(struct apart *a)
{
    return lcbtest_int(a->path, "SELECT value FROM meta WHERE key='gaps'");
}

/* Gaps are counted as chunks come, so that without any nobody walks through all chunks. */
static void test_counted(void)
{
    struct apart a;
    make(&a);
    CU_ASSERT_EQUAL(gaps(&a), 0);
    damage(&a, 1);
    damage(&a, 4); /* the last: what the repair says again stands behind it */
    repair(&a, 2);
    for (int again = 0; again < 2; again++) {
        UNIT_STR(lost(&a, -1, LCB_NOW), "2 0 500");
        CU_ASSERT_EQUAL(gaps(&a), 2);
        lcbtest_rmindex(a.path);
    }
    done(&a);
    make(&a);
    lcbtest_rmindex(a.path);
    UNIT_STR(lost(&a, -1, LCB_NOW), "nothing");
    CU_ASSERT_EQUAL(gaps(&a), 0);
    static const char smaller[] = "UPDATE chunks SET length=length-1 WHERE seq=1 RETURNING 1";
    CU_ASSERT_EQUAL(lcbtest_int(a.path, smaller), 1);
    UNIT_STR(lost(&a, -1, LCB_NOW), "nothing"); /* it is not looked at the chunks */
    /* An index from before they were counted. */
    CU_ASSERT_EQUAL(lcbtest_int(a.path, "DELETE FROM meta WHERE key='gaps' RETURNING 1"), 1);
    UNIT_STR(lost(&a, -1, LCB_NOW), "1 0 100");
    done(&a);
}

void suite_lcb_lost(void);
void suite_lcb_lost(void)
{
    static const struct unit_test tests[] = {
        {"chunks", test_chunks},
        {"at the edges", test_edges},
        {"lines", test_lines},
        {"gaps are counted", test_counted},
        {NULL, NULL},
    };
    unit_suite("lcb_lost", tests);
}
