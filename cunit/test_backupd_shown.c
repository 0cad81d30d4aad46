/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of what a connection remembers of mailboxes: not everything, and what it forgot it does not
 * take for what never was. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "backup/backupd_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"

static void show(struct backupd *d, struct lcb *b, const char *uniqueid, const char *name,
                 int64_t since)
{
    struct lcb_folder f = {.uniqueid = uniqueid, .mboxname = name, .last_uid = 1, .highestmodseq = 2,
                           .since = since};
    backupd_show(d, b, &f, 1);
}

/* Mailboxes FROM to TO, as the answer to one command names them. */
static void show_many(struct backupd *d, struct lcb *b, int from, int to)
{
    char uniqueid[20], name[40];
    for (int i = from; i < to; i++) {
        snprintf(uniqueid, sizeof(uniqueid), "m%d", i);
        snprintf(name, sizeof(name), "user.joe.m%d", i);
        backupd_ask_name(d, name, b);
        show(d, b, uniqueid, name, 1);
    }
}

static int known(struct backupd *d, int i)
{
    char uniqueid[20], name[40];
    snprintf(uniqueid, sizeof(uniqueid), "m%d", i);
    snprintf(name, sizeof(name), "user.joe.m%d", i);
    const struct backupd_shown *s = backupd_shown(d, uniqueid, name);
    return s && !strcmp(s->mboxname, name);
}

static void test_bounded(void)
{
    struct lcbtest t;
    struct backupd d;
    struct lcb_folder f;
    struct buf strings = BUF_INITIALIZER;
    memset(&d, 0, sizeof(d));
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("u1", "user.joe", 1, 2, ""), NULL, NULL), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_find_uniqueid(b, "u1", &f, &strings), 0);

    backupd_shown_init(&d);
    d.command = 1;
    backupd_ask_user(&d, "joe", b);
    backupd_ask_name(&d, "user.joe", b);
    backupd_show(&d, b, &f, 1);
    CU_ASSERT_EQUAL(backupd_is_meant(&d, b, &f), 1);
    CU_ASSERT_EQUAL(backupd_came_later(&d, b, "user.joe", "u1"), 0);

    d.command = 2; /* as many as it can: the older one has to go */
    show_many(&d, b, 0, BACKUPD_SHOWN_MAX - 1);
    CU_ASSERT_PTR_NOT_NULL(backupd_shown(&d, "u1", "user.joe"));
    show_many(&d, b, BACKUPD_SHOWN_MAX - 1, BACKUPD_SHOWN_MAX);
    CU_ASSERT_PTR_NULL(backupd_shown(&d, "u1", "user.joe"));
    CU_ASSERT_EQUAL(backupd_came_later(&d, b, "user.joe", "u1"), 1);
    CU_ASSERT_EQUAL(backupd_is_meant(&d, b, &f), 0);
    CU_ASSERT(known(&d, 0) && known(&d, BACKUPD_SHOWN_MAX - 1));

    show_many(&d, b, BACKUPD_SHOWN_MAX, BACKUPD_SHOWN_MAX * 3);
    CU_ASSERT(known(&d, BACKUPD_SHOWN_MAX * 3 - 1) && !known(&d, 0));
    CU_ASSERT(hash_count(d.shown) <= BACKUPD_SHOWN_MAX);
    CU_ASSERT(hash_count(d.shown_names) <= BACKUPD_SHOWN_MAX);
    CU_ASSERT(hash_count(d.asked) <= 2 * BACKUPD_SHOWN_MAX);

    d.command = 3; /* asked once more: known again */
    backupd_ask_name(&d, "user.joe", b);
    backupd_show(&d, b, &f, 1);
    CU_ASSERT_PTR_NOT_NULL(backupd_shown(&d, "u1", "user.joe"));
    CU_ASSERT_EQUAL(backupd_is_meant(&d, b, &f), 1);
    backupd_shown_free(&d);
    lcb_close(&b);
    buf_free(&strings);
    lcbtest_fini(&t);
}

void suite_backupd_shown(void);
void suite_backupd_shown(void)
{
    static const struct unit_test tests[] = {
        {"bounded", test_bounded},
        {NULL, NULL},
    };
    unit_suite("backupd_shown", tests);
}
