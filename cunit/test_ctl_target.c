/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of backup/ctl_backups_target and _subset: modes and words, and which backups they mean. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_verify.h"
#include "cunit/ctltest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define USERS "bob alice@example.org %SHARED alice Zed al dave@example.com al.b"

static const struct ctl_verb plain = {.name = "plain"}, new_too = {.name = "new", .flags = CTL_NEW},
                             stat_verb = {.name = "stat"};
static struct ctltest c;

/* Each target: its name, "/" and what is shown unless that is the same, "!" if there is no file. */
static int print(struct ctl *ctl)
{
    struct ctl_targets t;
    int r = ctl_targets_open(ctl, &t);
    for (size_t i = 0; !r && i < t.count; i++) {
        const struct ctl_target *target = &t.list[i];
        const char *slash = strrchr(target->name, '/');
        printf("%s%s", i ? " " : "", slash ? slash + 1 : target->name);
        if (!target->shown || strcmp(target->shown, target->name))
            printf("/%s", target->userid ? target->userid : "");
        if (!target->path)
            putchar('!');
    }
    return r ? 1 : ctl_targets_close(ctl, &t);
}

/* "exit: targets" */
static const char *chosen_by(const struct ctl_verb *verb, const char *line)
{
    static char text[4096];
    int code = ctltest_call(&c, verb, line, print);
    snprintf(text, sizeof(text), "%d: %s", code, buf_cstring(&c.out));
    return text;
}

static const char *chosen(const char *line)
{
    return chosen_by(&plain, line);
}

static void test_modes(void)
{
    ctltest_init(&c, "virtdomains: userid\n", USERS);
    const char *all = "0: %SHARED Zed al al.b alice alice@example.org bob dave@example.com";
    UNIT_STR(chosen("-A"), all);
    UNIT_STR(chosen("-P"), "0: ");
    UNIT_STR(chosen("-P al"), "0: al al.b alice alice@example.org");
    UNIT_STR(chosen("-P bo al. bo"), "0: bob al.b bob");
    UNIT_STR(chosen("-P nosuch"), "0: ");
    UNIT_STR(chosen("-P ali alice"), "0: alice alice@example.org alice alice@example.org");
    UNIT_STR(chosen("-D example.org"), "0: alice@example.org");
    UNIT_STR(chosen("-D example.com example.org"), "0: dave@example.com alice@example.org");
    UNIT_STR(chosen("-D internal"), "0: %SHARED Zed al al.b alice bob");
    UNIT_STR(chosen("-D example"), "0: ");
    UNIT_STR(chosen("-D org nosuch"), "0: ");
    UNIT_STR(chosen("-u"), "0: ");
    UNIT_STR(chosen(""), "0: ");
    UNIT_STR(chosen("-u bob alice bob"), "0: bob alice bob");
    UNIT_STR(chosen("bob %SHARED"), "0: bob %SHARED");
    UNIT_STR(chosen("-f /x/bob bob"), "0: bob/ bob/");
    ctltest_fini(&c);
}

static void test_mailboxes(void)
{
    ctltest_init(&c, "unixhierarchysep: no\n", "bob alice %SHARED");
    UNIT_STR(chosen("-m user.bob"), "0: bob");
    UNIT_STR(chosen("-m user.bob.Work.1 user.alice user.bob"), "0: bob alice bob");
    CU_ASSERT_EQUAL(ctltest_call(&c, &plain, "-m news.local", print), 0);
    /* of what all share the file stands for the owner */
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&c.out), "%SHARED_"));
    UNIT_STR(chosen("-m user.nosuch user.bob"), "75: bob");
    UNIT_STR(buf_cstring(&c.err), "user.nosuch: not found in backups.db\n");
    ctltest_fini(&c);
    ctltest_init(&c, "unixhierarchysep: yes\n", "bob al.b");
    UNIT_STR(chosen("-m user/bob/Work user/al.b"), "0: bob al.b");
    ctltest_fini(&c);
}

static void test_unknown(void)
{
    ctltest_init(&c, "", "alice bob");
    UNIT_STR(chosen("nosuch alice neither"), "75: alice");
    UNIT_STR(buf_cstring(&c.err),
             "nosuch: not found in backups.db\nneither: not found in backups.db\n");
    UNIT_STR(chosen("nosuch"), "75: ");
    c.opt.legacy_status = 1;
    UNIT_STR(chosen("nosuch alice"), "0: alice");
    UNIT_STR(chosen("alice nosuch"), "75: alice");
    c.opt.legacy_status = 0;
    /* verbs for which it need not be there */
    UNIT_STR(chosen_by(&new_too, "nosuch alice"), "0: nosuch! alice");
    UNIT_STR(buf_cstring(&c.err), "");
    UNIT_STR(chosen_by(&new_too, "../x"), "75: ");
    ctltest_fini(&c);
}

/* A name that is not there as it stands is looked for as backupd would write it. */
static void test_canonical(void)
{
    ctltest_init(&c, "virtdomains: userid\ndefaultdomain: example.org\n", "alice bob@example.com");
    UNIT_STR(chosen("alice@example.org bob@example.com"), "0: alice bob@example.com");
    UNIT_STR(chosen("bob"), "75: ");
    UNIT_STR(chosen("-D example.org"), "0: alice");
    UNIT_STR(chosen_by(&new_too, "carol@example.org"), "0: carol!");
    ctltest_fini(&c);
}

/* Whatever the order of words, it is kept, or with --sort is that of bytes. */
static void test_orders(void)
{
    static const char *const names[] = {"al", "alice", "bob", "dave"};
    ctltest_init(&c, "", "bob dave al alice");
    for (int n = 0; n < 24; n++) {
        char left[] = {0, 1, 2, 3}, line[64] = "", want[80];
        for (int k = 4, rest = n; k; rest /= k, k--) {
            int i = rest % k;
            size_t at = strlen(line);
            snprintf(line + at, sizeof(line) - at, "%s%s", at ? " " : "", names[(int)left[i]]);
            memmove(left + i, left + i + 1, (size_t)(k - i - 1));
        }
        snprintf(want, sizeof(want), "0: %s", line);
        c.opt.sort = 0;
        UNIT_STR(chosen(line), want);
        c.opt.sort = 1;
        UNIT_STR(chosen(line), "0: al alice bob dave");
    }
    ctltest_fini(&c);
}

/* ---- failures ---- */

static int fail_all(struct ctl *ctl)
{
    static const int errors[] = {XERR_NOTFOUND, XERR_VERSION, XERR_EOF, XERR_LOCKED, -EACCES};
    struct ctl_targets t;
    if (ctl_targets_open(ctl, &t))
        return 1;
    for (size_t i = 0; i < t.count; i++)
        if (ctl_target_failed(ctl, &t, &t.list[i], errors[i]))
            break;
    return ctl_targets_close(ctl, &t);
}

static void test_failed(void)
{
    ctltest_init(&c, "", "a b c d e");
    CU_ASSERT_EQUAL(ctltest_call(&c, &stat_verb, "-A", fail_all), EX_TEMPFAIL);
    UNIT_STR(buf_cstring(&c.err),
             "a: Mailbox has an invalid format (no usable index: reindex makes one)\n"
             "b: Mailbox has an invalid format (index of another version: reindex makes one)\n"
             "c: Mailbox has an invalid format (the data file ends before the index does)\n"
             "d: Mailbox is locked (its index is being made)\n"
             "e: Permission denied\n");
    c.opt.legacy_status = 1;
    CU_ASSERT_EQUAL(ctltest_call(&c, &stat_verb, "-A", fail_all), EX_OK);
    CU_ASSERT_EQUAL(ctltest_call(&c, &plain, "-A", fail_all), EX_TEMPFAIL);
    c.opt.stop_on_error = 1;
    CU_ASSERT_EQUAL(ctltest_call(&c, &stat_verb, "-A", fail_all), EX_TEMPFAIL);
    UNIT_STR(buf_cstring(&c.err),
             "a: Mailbox has an invalid format (no usable index: reindex makes one)\n");
    ctltest_fini(&c);
}

/* It is damaged after the store was opened. */
static int print_broken(struct ctl *ctl)
{
    char *path = xasprintf("%s/conf/backups.db", c.t.dir);
    struct buf db = BUF_INITIALIZER;
    lcbtest_read(path, &db);
    memset(db.s + 64, 'x', db.len - 64);
    lcbtest_write(path, db.s, db.len);
    buf_free(&db);
    free(path);
    return print(ctl);
}

static void test_broken_db(void)
{
    ctltest_init(&c, "", "a");
    CU_ASSERT_EQUAL(ctltest_call(&c, &plain, "-A", print_broken), 1);
    UNIT_STR(buf_cstring(&c.out), "");
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&c.err), "ctl_backups: backups.db cannot be read: "));
    ctltest_fini(&c);
}

/* ---- --subset ---- */

static const char *subset(const char *text, const char *line)
{
    c.opt.subset = text;
    const char *result = chosen(line);
    c.opt.subset = NULL;
    return result;
}

static void note(const char *user, int64_t time)
{
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(c.t.store, user, LCB_WRITE, 0, &b), 0);
    CU_ASSERT_EQUAL(lcb_verify_note(b, time, LCB_VERIFIED_OK), 0);
    lcb_close(&b);
}

static void test_percent(void)
{
    ctltest_init(&c, "", "a b c d e f g h i j");
    UNIT_STR(subset("100%", "-A"), "0: a b c d e f g h i j");
    UNIT_STR(subset("30%", "-A"), "0: a b c");
    UNIT_STR(subset("31%", "-A"), "0: a b c d");
    UNIT_STR(subset("0.001%", "-A"), "0: a");
    UNIT_STR(subset("7.5%", "-A"), "0: a");
    UNIT_STR(subset("50%", "-P nosuch"), "0: ");
    UNIT_STR(subset("50%", "d c"), "0: d");
    /* never verified first, then the oldest */
    for (int i = 0; i < 10; i++)
        note((const char[]){"abcdefghij"[i], '\0'}, 1000 + (i * 7) % 10);
    UNIT_STR(subset("100%", "-A"), "0: a d g j c f i b e h");
    UNIT_STR(subset("40%", "-A"), "0: a d g j");
    CU_ASSERT_EQUAL(lcb_create(c.t.store, "z", NULL), 0);
    UNIT_STR(subset("20%", "-A"), "0: z a d");
    note("z", 5000);
    note("a", 6000);
    UNIT_STR(subset("100%", "-A"), "0: d g j c f i b e h z a");
    ctltest_fini(&c);
}

/* The parts have no member in common, and together all, whatever their number. */
static void test_parts(void)
{
    enum { N = 40 };
    struct buf users = BUF_INITIALIZER;
    char word[16];
    for (int i = 0; i < N; i++)
        buf_printf(&users, "%su%d", i ? " " : "", i);
    ctltest_init(&c, "", buf_cstring(&users));
    UNIT_STR(subset("1/1", "u3 u1 u2"), "0: u3 u1 u2");
    for (int parts = 2; parts <= 7; parts += 5) {
        int seen[N] = {0}, sum = 0;
        for (int part = 1; part <= parts; part++) {
            snprintf(word, sizeof(word), "%d/%d", part, parts);
            CU_ASSERT_STRING_NOT_EQUAL(subset(word, "-A"), "0: "); /* each is some of them */
            for (char *p = (char *)(uintptr_t)buf_cstring(&c.out); *p; p++)
                if (*p == 'u') {
                    seen[atoi(p + 1)]++;
                    sum++;
                }
        }
        CU_ASSERT_EQUAL(sum, N);
        for (int i = 0; i < N; i++)
            CU_ASSERT_EQUAL(seen[i], 1);
    }
    buf_free(&users);
    ctltest_fini(&c);
}

static void test_no_subset(void)
{
    static const char *const texts[] = {
        "", "1", "1/", "/2", "0/2", "3/2", "-1/2", "1/2x", "1 /2", "%", "0%", "101%", "-5%", "nan%",
        "5", "5%%", "x", "1/-2", " 1/2", "inf%", NULL};
    ctltest_init(&c, "", "a b");
    for (int i = 0; texts[i]; i++) {
        UNIT_STR(subset(texts[i], "-A"), "1: ");
        CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&c.err), ": neither N/T nor X%"));
    }
    ctltest_fini(&c);
}

void suite_ctl_target(void);
void suite_ctl_target(void)
{
    static const struct unit_test tests[] = {
        {"modes", test_modes},
        {"mailboxes", test_mailboxes},
        {"unknown names", test_unknown},
        {"canonical names", test_canonical},
        {"orders", test_orders},
        {"failures", test_failed},
        {"broken backups.db", test_broken_db},
        {"subset: percent", test_percent},
        {"subset: parts", test_parts},
        {"no subset", test_no_subset},
        {NULL, NULL},
    };
    unit_suite("ctl_target", tests);
}
