/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of readers and a writer at the same time: nobody waits for the other, and a reader sees a
 * state that was committed, or is told that it must wait. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static int count(void *rock, const struct lcb_folder *f)
{
    (void)f;
    ++*(int *)rock;
    return 0;
}

static int folders(struct lcb *b)
{
    int n = 0;
    CU_ASSERT_EQUAL(lcb_foreach_folder(b, LCB_NOW, 0, count, &n), 0);
    return n;
}

static void make_mailbox(struct lcb *b, unsigned n)
{
    char id[16], name[32];
    snprintf(id, sizeof(id), "u%u", n);
    snprintf(name, sizeof(name), "user.joe.f%u", n);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 1, 5, ""), NULL, NULL), 0);
}

/* Somebody looks at a backup for a long time, through a pager perhaps. That does not stop the
 * channel, however many commits there were before: the index has no WAL after the first. */
static void test_long_reader(void)
{
    for (unsigned commits = 1; commits <= 3; commits++) {
        for (int writer_first = 0; writer_first < 2; writer_first++) {
            struct lcbtest t;
            struct lcb *r = NULL;
            lcbtest_init(&t, "");
            lcbtest_open(&t, NULL);
            struct lcb *b = lcbtest_joe(&t);
            for (unsigned i = 1; i <= commits; i++) {
                make_mailbox(b, i);
                CU_ASSERT_EQUAL(lcb_commit(b), 0);
            }
            if (!writer_first)
                lcb_close(&b);
            CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &r), 0);
            CU_ASSERT_EQUAL(lcb_snapshot(r), 0);
            CU_ASSERT_EQUAL(folders(r), (int)commits);
            if (!writer_first)
                b = lcbtest_joe(&t);
            for (unsigned i = 1; i <= 3; i++) {
                make_mailbox(b, commits + i);
                CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
            }
            CU_ASSERT_EQUAL(folders(r), (int)commits);
            lcb_close(&b);
            CU_ASSERT_EQUAL(folders(r), (int)commits);
            lcb_close(&r);
            CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &r), 0);
            CU_ASSERT_EQUAL(folders(r), (int)commits + 3);
            lcb_close(&r);
            lcbtest_fini(&t);
        }
    }
}

/* Called during a rebuild. */
struct meanwhile {
    struct lcbtest *t;
    int calls, at, end;
    int answer, seen;
};

static int look(void *rock)
{
    struct meanwhile *m = rock;
    struct lcb *r = NULL;
    if (++m->calls == m->at) {
        m->answer = lcb_open(m->t->store, "joe", 0, 0, &r);
        m->seen = r ? folders(r) : 0;
        lcb_close(&r);
    }
    return m->calls == m->end;
}

enum { MAILBOXES = 4000 };

/* Whether the index was deleted, or is empty because an earlier rebuild was given up: a reader is
 * told LOCKED, at once, not that there is nothing. */
static void test_rebuild(void)
{
    struct lcbtest t;
    struct lcb *b = NULL;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b));
    for (unsigned i = 0; i < MAILBOXES; i++)
        make_mailbox(b, i);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcbtest_rmindex(path);
    for (int round = 0; round < 3; round++) {
        struct meanwhile m = {.t = &t, .at = MAILBOXES - 10, .answer = 1};
        if (round < 2)
            m.end = MAILBOXES - 5;
        lcb_store_setstop(t.store, look, &m);
        CU_ASSERT_EQUAL(lcb_open(t.store, "joe", LCB_WRITE, 0, &b), round < 2 ? XERR_SIGNAL : 0);
        lcb_close(&b);
        lcb_store_setstop(t.store, NULL, NULL);
        CU_ASSERT_EQUAL(m.answer, XERR_LOCKED);
        CU_ASSERT_EQUAL(m.seen, 0);
    }
    CU_ASSERT_EQUAL_FATAL(lcb_open(t.store, "joe", 0, 0, &b), 0);
    CU_ASSERT_EQUAL(folders(b), MAILBOXES);
    lcb_close(&b);
    free(path);
    lcbtest_fini(&t);
}

void suite_lcb_readers(void);
void suite_lcb_readers(void)
{
    static const struct unit_test tests[] = {
        {"a reader that stays", test_long_reader},
        {"a reader during a rebuild", test_rebuild},
        {NULL, NULL},
    };
    unit_suite("lcb_readers", tests);
}
