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

enum { LONG = 200000 };

static const char *long_name(char *name, int i)
{
    memset(name, 'x', LONG);
    snprintf(name, 20, "user.joe.%d", i);
    name[strlen(name)] = '.';
    name[LONG - 1] = '\0';
    return name;
}

/* Names may be as long as a client likes: of such ones few are remembered, wherever they come from. */
static void test_long_names(void)
{
    static char name[LONG], other[LONG];
    struct lcbtest t;
    struct backupd d;
    char uniqueid[20];
    memset(&d, 0, sizeof(d));
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    backupd_shown_init(&d);
    d.command = 1;
    for (int i = 0; i < 300; i++)
        backupd_ask_name(&d, long_name(name, i), NULL);
    CU_ASSERT(hash_count(d.asked) > 1 && hash_count(d.asked) < 50);
    for (int i = 0; i < 300; i++) {
        snprintf(uniqueid, sizeof(uniqueid), "u%d", i);
        show(&d, b, uniqueid, long_name(name, i), 1);
    }
    CU_ASSERT_PTR_NOT_NULL(backupd_shown(&d, "u299", name));
    CU_ASSERT(hash_count(d.shown) > 1 && hash_count(d.shown) < 50);
    for (int i = 0; i < 300; i++) { /* the same mailboxes, called otherwise */
        d.command++;
        snprintf(uniqueid, sizeof(uniqueid), "v%d", i);
        show(&d, b, uniqueid, "user.joe.short", 1);
        backupd_shown_renamed(&d, "user.joe.short", long_name(name, i));
        CU_ASSERT_PTR_NOT_NULL(backupd_shown(&d, uniqueid, name));
        struct lcb_folder f = {.uniqueid = uniqueid, .mboxname = long_name(other, i + 1000)};
        backupd_shown_moved(&d, b, 0, &f);
    }
    CU_ASSERT(hash_count(d.shown) > 1 && hash_count(d.shown) < 50);
    CU_ASSERT(hash_count(d.shown_names) < 50);

    d.command++; /* all of that room is there again for short ones */
    show_many(&d, b, 0, BACKUPD_SHOWN_MAX);
    CU_ASSERT(known(&d, 0) && known(&d, BACKUPD_SHOWN_MAX - 1));
    CU_ASSERT_EQUAL(hash_count(d.shown), BACKUPD_SHOWN_MAX);
    backupd_shown_free(&d);
    lcb_close(&b);
    lcbtest_fini(&t);
}

/* A mailbox that was not shown is renamed: nothing else is forgotten for that. */
static void test_rename_unknown(void)
{
    static char name[LONG];
    struct lcbtest t;
    struct backupd d;
    memset(&d, 0, sizeof(d));
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    backupd_shown_init(&d);
    d.command = 1;
    show(&d, b, "u1", "user.joe.kept", 1);
    for (int i = 0; d.noted < (6u << 20) - LONG; i++) /* full but for less than two long names */
        backupd_ask_name(&d, long_name(name, i), NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(backupd_shown(&d, "u1", "user.joe.kept"));
    size_t asked = hash_count(d.asked);
    CU_ASSERT(asked > 1);
    d.command = 2;
    backupd_shown_renamed(&d, "user.joe.never", long_name(name, 1000));
    CU_ASSERT_PTR_NOT_NULL(backupd_shown(&d, "u1", "user.joe.kept"));
    CU_ASSERT_EQUAL(hash_count(d.asked), asked);
    /* For one that was shown there must be room, and its own note goes with the others. */
    backupd_shown_renamed(&d, "user.joe.kept", name);
    CU_ASSERT_EQUAL(hash_count(d.asked), 0);
    CU_ASSERT_PTR_NULL(backupd_shown(&d, "u1", name));
    backupd_shown_free(&d);
    lcb_close(&b);
    lcbtest_fini(&t);
}

void suite_backupd_shown(void);
void suite_backupd_shown(void)
{
    static const struct unit_test tests[] = {
        {"bounded", test_bounded},
        {"long_names", test_long_names},
        {"an unknown one is renamed", test_rename_unknown},
        {NULL, NULL},
    };
    unit_suite("backupd_shown", tests);
}
