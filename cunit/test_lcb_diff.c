/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of the difference between two states: by hand, and held against the two states themselves. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_diff.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"

static struct lcbtest t;
static struct lcb *b;
static struct buf said = BUF_INITIALIZER;

static void begin(void)
{
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    b = lcbtest_joe(&t);
}

static void end(void)
{
    lcb_close(&b);
    lcbtest_fini(&t);
    buf_free(&said);
}

static int put(void *rock, const struct lcb_event *e)
{
    (void)rock;
    buf_printf(&said, "%s %s", e->kind, e->item);
    for (unsigned i = 0; i < e->count; i++)
        buf_printf(&said, " %s=%.*s", e->details[i].key,
                   !strcmp(e->details[i].key, "guid") ? 4 : (int)e->details[i].len,
                   e->details[i].text);
    buf_putc(&said, '\n');
    return 0;
}

static const char *differ(int64_t from, int64_t to, int64_t folder)
{
    buf_reset(&said);
    CU_ASSERT_EQUAL(lcb_foreach_difference(b, from, to, folder, put, NULL), 0);
    return buf_cstring(&said);
}

static int64_t now(void)
{
    return lcb_position(b) - 1;
}

#define G1 "1111111111111111111111111111111111111111"
#define G2 "2222222222222222222222222222222222222222"

static void mailbox(const char *uniqueid, unsigned modseq, const char *more, const char *record)
{
    const char *records[] = {record, NULL};
    char name[32];
    snprintf(name, sizeof(name), "user.joe.%s", uniqueid);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(uniqueid, name, 9, modseq, more), records,
                                    NULL), 0);
}

static void line(const char *verb, const char *value)
{
    CU_ASSERT_EQUAL(lcbtest_log(b, verb, value), 0);
}

static void seen(const char *uniqueid, unsigned lastuid, const char *uids, unsigned lastread)
{
    char value[160];
    snprintf(value, sizeof(value), "%%(USERID joe UNIQUEID %s LASTREAD %u LASTUID %u LASTCHANGE 1"
             " SEENUIDS %s)", uniqueid, lastread, lastuid, uids);
    line("SEEN", value);
}

static void test_mail(void)
{
    begin();
    mailbox("one", 5, "", lcbtest_record(1, 5, "\\Seen", G1));
    mailbox("one", 6, "", lcbtest_record(2, 6, "", G2));
    mailbox("two", 6, "", lcbtest_record(1, 6, "", G2));
    int64_t a = now();
    UNIT_STR(differ(a, LCB_NOW, 0), "");
    UNIT_STR(differ(a, a, 0), "");
    CU_ASSERT_EQUAL(lcb_foreach_difference(b, LCB_NOW, a, 0, put, NULL), XERR_PARAM);
    mailbox("one", 7, "", lcbtest_record(1, 7, "\\Flagged", G1));
    mailbox("one", 8, "", lcbtest_record(1, 8, "\\Flagged \\Seen", G1));
    mailbox("one", 9, "", lcbtest_record(2, 9, "\\Expunged", G2));
    mailbox("one", 10, "", lcbtest_record(3, 10, "\\Seen", G2));
    mailbox("one", 11, "", lcbtest_record(4, 11, "", G2));
    mailbox("one", 12, " XKEY y", lcbtest_record(4, 12, "\\Expunged", G2)); /* came and went */
    int64_t c = now();
    static const char one[] = "mailbox-changed user.joe.one key=XKEY is=y\n"
                              "flags user.joe.one uid=1 guid=1111 set=\\Flagged cleared=\n"
                              "gone user.joe.one uid=2 guid=2222\n"
                              "arrived user.joe.one uid=3 guid=2222 size=100 flags=\\Seen\n";
    UNIT_STR(differ(a, LCB_NOW, 0), one);
    mailbox("one", 13, " XKEY y", lcbtest_record(1, 13, "\\Seen", G1)); /* as it was */
    UNIT_STR(differ(a, LCB_NOW, 1), "mailbox-changed user.joe.one key=XKEY is=y\n"
                                    "gone user.joe.one uid=2 guid=2222\n"
                                    "arrived user.joe.one uid=3 guid=2222 size=100 flags=\\Seen\n");
    UNIT_STR(differ(a, c, 0), one);
    int64_t d = now();
    line("RENAME", "%(OLDMBOXNAME user.joe.one NEWMBOXNAME user.joe.uno PARTITION default"
                   " UIDVALIDITY 1500000000)");
    line("RENAME", "%(OLDMBOXNAME user.joe.two NEWMBOXNAME DELETED.user.joe.two.5F PARTITION default"
                   " UIDVALIDITY 1500000000)");
    mailbox("three", 5, "", lcbtest_record(1, 5, "", G1));
    UNIT_STR(differ(d, LCB_NOW, 0), "mailbox-deleted user.joe.two\n"
                                    "gone user.joe.two uid=1 guid=2222\n"
                                    "mailbox-created user.joe.three\n"
                                    "arrived user.joe.three uid=1 guid=1111 size=100 flags=\n"
                                    "mailbox-renamed user.joe.uno from=user.joe.one\n");
    UNIT_STR(differ(c, d, 2), "");
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    end();
}

static void test_others(void)
{
    begin();
    line("SUB", "%(USERID joe MBOXNAME a)");
    line("SUB", "%(USERID joe MBOXNAME b)");
    seen("u1", 3, "1:3", 1);
    seen("u2", 3, "1:3", 1);
    seen("u3", 3, "1:3", 1);
    line("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 1 CONTENT keep)");
    line("SIEVE", "%(USERID joe FILENAME b.script LAST_UPDATE 1 CONTENT stop)");
    line("ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)");
    line("QUOTA", "%(ROOT user.joe STORAGE 1)");
    line("ANNOTATION", "%(MBOXNAME \"\" ENTRY /e USERID joe VALUE 1)");
    int64_t a = now();
    line("UNSUB", "%(USERID joe MBOXNAME a)");
    UNIT_STR(differ(a, now(), 0), "unsubscribed a\n"); /* with the last line of the range */
    UNIT_STR(differ(a - 1, a, 0), "server-annotated /e user=joe is=1\n");
    line("SUB", "%(USERID joe MBOXNAME c)");
    line("UNSUB", "%(USERID joe MBOXNAME b)");
    line("SUB", "%(USERID joe MBOXNAME b)");
    seen("u1", 3, "1:3", 7); /* read again, nothing new */
    seen("u2", 4, "1:4", 7);
    seen("u2", 4, "1:2,4", 8);
    seen("u3", 5, "1:5", 8);
    seen("u3", 3, "1:3", 9); /* as it was */
    seen("u4", 1, "1", 9);
    line("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 2 CONTENT other)");
    line("SIEVE", "%(USERID joe FILENAME b.script LAST_UPDATE 2 CONTENT other)");
    line("SIEVE", "%(USERID joe FILENAME b.script LAST_UPDATE 3 CONTENT stop)");
    line("SIEVE", "%(USERID joe FILENAME c.script LAST_UPDATE 3 CONTENT stop)");
    line("ACTIVATE_SIEVE", "%(USERID joe FILENAME c.bc)");
    line("QUOTA", "%(ROOT user.joe STORAGE 2)");
    line("QUOTA", "%(ROOT user.joe.x STORAGE 2)");
    line("ANNOTATION", "%(MBOXNAME \"\" ENTRY /e USERID joe VALUE 2)");
    int64_t c = now();
    UNIT_STR(differ(a, c, 0), "unsubscribed a\nsubscribed c\n"
                              "seen u2 lastuid=4 seenuids=1:2,4\nseen u4 lastuid=1 seenuids=1\n"
                              "script-changed a size=5\n"
                              "script-uploaded c size=4\nscript-activated c\n"
                              "quota-set user.joe was=STORAGE=1 is=STORAGE=2\n"
                              "quota-set user.joe.x is=STORAGE=2\n"
                              "server-annotated /e user=joe was=1 is=2\n");
    line("ANNOTATION", "%(MBOXNAME \"\" ENTRY /e USERID joe VALUE 1)");
    line("QUOTA", "%(ROOT user.joe STORAGE 1)");
    line("ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)");
    UNIT_STR(differ(a, LCB_NOW, 0), "unsubscribed a\nsubscribed c\n"
                              "seen u2 lastuid=4 seenuids=1:2,4\nseen u4 lastuid=1 seenuids=1\n"
                              "script-changed a size=5\n"
                                    "script-uploaded c size=4\nquota-set user.joe.x is=STORAGE=2\n");
    line("UNUSER", "joe");
    UNIT_STR(differ(c, LCB_NOW, 0), "unsubscribed b\nunsubscribed c\nseen-removed u1\n"
                                    "seen-removed u2\nseen-removed u3\nseen-removed u4\n"
                                    "script-deleted a\n"
                                    "script-deleted b\nscript-deleted c\nscript-deactivated c\n"
                                    "quota-removed user.joe was=STORAGE=2\n"
                                    "quota-removed user.joe.x was=STORAGE=2\n"
                                    "server-annotated /e user=joe was=2 is=1\n");
    end();
}

/* ---- against the states ---- */

enum { BOXES = 64, UIDS = 512, FLAGS = 4 };
static const char *const flag_names[FLAGS] = {"\\Seen", "\\Answered", "$Label1", NULL};

/* Mailboxes by UNIQUEID (unique-N) with their names, live messages and flags; names subscribed to. */
struct state {
    int64_t at;
    char name[BOXES][64];
    unsigned char live[BOXES][UIDS]; /* 1 + a bit for each flag */
    int subs[8];
};

struct filling {
    struct state *s;
    int box;
};

static int box_of(const char *uniqueid)
{
    int n = atoi(uniqueid + strlen("unique-"));
    CU_ASSERT_FATAL(n > 0 && n < BOXES);
    return n;
}

static unsigned char bits(const char *words, size_t len)
{
    unsigned char result = 0;
    struct buf text = BUF_INITIALIZER;
    buf_setmap(&text, words, len);
    for (int i = 0; flag_names[i]; i++)
        if (strstr(buf_cstring(&text), flag_names[i]))
            result |= (unsigned char)(2 << i);
    buf_free(&text);
    return result;
}

static int fill_record(void *rock, const struct lcb_record *r)
{
    struct filling *f = rock;
    CU_ASSERT_FATAL(r->rec.uid < UIDS);
    if (!r->rec.expunged)
        f->s->live[f->box][r->rec.uid] = 1 | bits(r->rec.flags.s, r->rec.flags.len);
    return 0;
}

static int fill_folder(void *rock, const struct lcb_folder *folder)
{
    struct filling f = {rock, box_of(folder->uniqueid)};
    snprintf(f.s->name[f.box], 64, "%s", folder->mboxname);
    return lcb_foreach_record(b, folder->id, f.s->at, fill_record, &f);
}

static int fill_sub(void *rock, const char *name)
{
    struct state *s = rock;
    s->subs[atoi(name + strlen("user.joe."))] = 1;
    return 0;
}

static void fill(struct state *s, int64_t at)
{
    memset(s, 0, sizeof(*s));
    s->at = at;
    CU_ASSERT_EQUAL(lcb_foreach_folder(b, at, 0, fill_folder, s), 0);
    CU_ASSERT_EQUAL(lcb_foreach_sub(b, at, fill_sub, s), 0);
}

static unsigned char detail_bits(const struct lcb_event *e, const char *key)
{
    for (unsigned i = 0; i < e->count; i++)
        if (!strcmp(e->details[i].key, key))
            return bits(e->details[i].text, e->details[i].len);
    return 0;
}

static void apply_message(struct state *s, const struct lcb_event *e, int box)
{
    CU_ASSERT_FATAL(e->count && !strcmp(e->details[0].key, "uid") && e->details[0].number < UIDS);
    unsigned char *live = &s->live[box][e->details[0].number];
    if (!strcmp(e->kind, "arrived")) {
        CU_ASSERT(!*live);
        *live = 1 | detail_bits(e, "flags");
    } else if (!strcmp(e->kind, "gone")) {
        CU_ASSERT(*live);
        *live = 0;
    } else if (!strcmp(e->kind, "flags")) {
        CU_ASSERT(*live);
        CU_ASSERT_EQUAL(*live & detail_bits(e, "set"), 0);
        CU_ASSERT_EQUAL(*live & detail_bits(e, "cleared"), detail_bits(e, "cleared"));
        *live = (unsigned char)((*live | detail_bits(e, "set")) & ~detail_bits(e, "cleared"));
    }
}

static int apply(void *rock, const struct lcb_event *e)
{
    struct state *s = rock;
    if (strstr(e->kind, "subscribed")) {
        int yes = *e->kind == 's', *sub = &s->subs[atoi(e->item + strlen("user.joe."))];
        CU_ASSERT_EQUAL(*sub, !yes);
        *sub = yes;
    }
    if (!e->uniqueid)
        return 0;
    int box = box_of(e->uniqueid);
    char *name = s->name[box];
    if (!strcmp(e->kind, "mailbox-created") || !strcmp(e->kind, "mailbox-renamed")) {
        CU_ASSERT(strcmp(name, e->item));
        CU_ASSERT_EQUAL(!*name, !strcmp(e->kind, "mailbox-created"));
        snprintf(name, 64, "%s", e->item);
    } else if (!strcmp(e->kind, "mailbox-deleted")) {
        UNIT_STR(name, e->item);
        *name = '\0';
    } else if (strncmp(e->kind, "mailbox-", 8)) {
        apply_message(s, e, box);
    }
    return 0;
}

/* One state and the difference give the other. */
static void test_states(void)
{
    enum { STEPS = 120, PAIRS = 150 };
    static struct state from, to;
    int64_t at[STEPS];
    struct lcbtest_history h;
    begin();
    lcbtest_start(&h, 51);
    for (int i = 0; i < STEPS; i++) {
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
        if (lcbtest_draw(&h, 3) == 0)
            CU_ASSERT_EQUAL(lcb_commit(b), 0);
        at[i] = now();
    }
    for (int i = 0; i < PAIRS; i++) {
        unsigned x = lcbtest_draw(&h, STEPS), y = lcbtest_draw(&h, STEPS);
        int64_t a = at[x < y ? x : y], c = i % 5 ? at[x < y ? y : x] : LCB_NOW;
        fill(&from, a);
        fill(&to, c);
        CU_ASSERT_EQUAL(lcb_foreach_difference(b, a, c, 0, apply, &from), 0);
        from.at = to.at;
        CU_ASSERT_EQUAL(memcmp(from.live, to.live, sizeof(to.live)), 0);
        CU_ASSERT_EQUAL(memcmp(from.subs, to.subs, sizeof(to.subs)), 0);
        for (int k = 0; k < BOXES; k++)
            UNIT_STR(from.name[k], to.name[k]);
    }
    end();
}

void suite_lcb_diff(void);
void suite_lcb_diff(void)
{
    static const struct unit_test tests[] = {
        {"mail", test_mail},
        {"what is not mail", test_others},
        {"states", test_states},
        {NULL, NULL},
    };
    unit_suite("lcb_diff", tests);
}
