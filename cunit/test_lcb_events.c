/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of what is told of a history: each line of the data file by itself, and long histories against
 * the states before and after. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_events.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static struct lcbtest t;
static struct lcb *b;
static int64_t start;
static struct buf said = BUF_INITIALIZER;

static void begin(void)
{
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    b = lcbtest_joe(&t);
    start = lcbtest_time();
}

static void end(void)
{
    lcb_close(&b);
    lcbtest_fini(&t);
    buf_free(&said);
}

/* "+SECONDS kind item key=value key=(words)". GUIDs are cut. */
static int put_event(void *rock, const struct lcb_event *e)
{
    (void)rock;
    buf_printf(&said, "+%d %s %s", (int)(e->time - start), e->kind, e->item);
    if (e->uniqueid)
        buf_printf(&said, " [%s]", e->uniqueid);
    for (unsigned i = 0; i < e->count; i++) {
        const struct lcb_event_detail *d = &e->details[i];
        int n = !strcmp(d->key, "guid") ? 4 : (int)d->len;
        int words = d->type == LCB_DETAIL_WORDS;
        CU_ASSERT_EQUAL(strlen(d->text), d->len);
        if (d->type == LCB_DETAIL_NUMBER)
            CU_ASSERT_EQUAL(strtoull(d->text, NULL, 10), d->number);
        buf_printf(&said, " %s=%s%.*s%s", d->key, words ? "(" : "", n, d->text, words ? ")" : "");
    }
    buf_putc(&said, '\n');
    return 0;
}

static const char *tell(int64_t from, int64_t to, int64_t folder, const char *guid)
{
    struct message_guid g;
    struct lcb_events q = {from, to, folder, NULL};
    if (guid) {
        CU_ASSERT_EQUAL(message_guid_decode(&g, guid, 40), 0);
        q.guid = &g;
    }
    buf_reset(&said);
    CU_ASSERT_EQUAL(lcb_foreach_event(b, &q, put_event, NULL), 0);
    return buf_cstring(&said);
}

/* What is told of everything since it was asked last, a second later. */
static const char *news(void)
{
    static int64_t from;
    if (lcbtest_time() == start)
        from = 0;
    const char *text = tell(from, LCB_NOW, 0, NULL);
    from = lcb_position(b);
    lcbtest_settime(lcbtest_time() + 1);
    return text;
}

static void line(const char *verb, const char *value)
{
    CU_ASSERT_EQUAL(lcbtest_log(b, verb, value), 0);
}

#define G1 "1111111111111111111111111111111111111111"
#define G2 "2222222222222222222222222222222222222222"
#define G3 "3333333333333333333333333333333333333333"

static void mailbox(const char *uniqueid, const char *name, unsigned modseq, const char *more,
                    const char *const *records)
{
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(uniqueid, name, 9, modseq, more), records,
                                    NULL), 0);
}

/* One record in mailbox "one", or "two". */
static void record(const char *uniqueid, unsigned uid, unsigned modseq, const char *flags,
                   const char *guid)
{
    char name[32];
    const char *records[] = {lcbtest_record(uid, modseq, flags, guid), NULL};
    snprintf(name, sizeof(name), "user.joe.%s", uniqueid);
    mailbox(uniqueid, name, modseq, "", records);
}

static void test_messages(void)
{
    begin();
    record("one", 1, 5, "\\Seen", G1);
    UNIT_STR(news(), "+0 mailbox-created user.joe.one [one]\n"
                     "+0 arrived user.joe.one [one] uid=1 guid=1111 size=100 flags=(\\Seen)\n");
    record("one", 2, 6, "", G2);
    UNIT_STR(news(), "+1 arrived user.joe.one [one] uid=2 guid=2222 size=100 flags=()\n");
    record("one", 1, 7, "\\Answered $x", G1);
    UNIT_STR(news(), "+2 flags user.joe.one [one] uid=1 guid=1111 set=($x \\Answered)"
                     " cleared=(\\Seen)\n");
    record("one", 1, 8, "$x \\Answered", G1); /* the same in another order */
    UNIT_STR(news(), "");
    record("one", 1, 9, "$x \\Answered \\Expunged \\Deleted", G1);
    UNIT_STR(news(), "+4 flags user.joe.one [one] uid=1 guid=1111 set=(\\Deleted) cleared=()\n"
                     "+4 expunged user.joe.one [one] uid=1 guid=1111\n");
    record("one", 1, 10, "$x \\Answered", G1);
    UNIT_STR(news(), "+5 restored user.joe.one [one] uid=1 guid=1111\n"
                     "+5 flags user.joe.one [one] uid=1 guid=1111 set=() cleared=(\\Deleted)\n");
    record("one", 3, 11, "\\Expunged", G3);
    UNIT_STR(news(), "+6 arrived user.joe.one [one] uid=3 guid=3333 size=100 flags=()\n"
                     "+6 expunged user.joe.one [one] uid=3 guid=3333\n");
    record("one", 2, 12, "", G3);
    UNIT_STR(news(), "+7 changed user.joe.one [one] uid=2 guid=3333 was=" G2 "\n");
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    UNIT_STR(tell(0, LCB_NOW, 0, G1),
             "+0 arrived user.joe.one [one] uid=1 guid=1111 size=100 flags=(\\Seen)\n"
             "+2 flags user.joe.one [one] uid=1 guid=1111 set=($x \\Answered) cleared=(\\Seen)\n"
             "+4 flags user.joe.one [one] uid=1 guid=1111 set=(\\Deleted) cleared=()\n"
             "+4 expunged user.joe.one [one] uid=1 guid=1111\n"
             "+5 restored user.joe.one [one] uid=1 guid=1111\n"
             "+5 flags user.joe.one [one] uid=1 guid=1111 set=() cleared=(\\Deleted)\n");
    UNIT_STR(tell(0, LCB_NOW, 0, "4444444444444444444444444444444444444444"), "");
    end();
}

static void test_annotations(void)
{
    const char *records[] = {"%(UID 1 MODSEQ 5 LAST_UPDATED 5 FLAGS () INTERNALDATE 5 SIZE 10 GUID " G1
                             " ANNOTATIONS (%(ENTRY /a USERID joe VALUE 1) %(ENTRY /b USERID NIL"
                             " VALUE 2)))", NULL};
    begin();
    record("one", 1, 4, "", G1);
    news();
    mailbox("one", "user.joe.one", 5, " ANNOTATIONS (%(ENTRY /x USERID joe VALUE \"a b\"))", records);
    UNIT_STR(news(), "+1 mailbox-annotated user.joe.one [one] entry=/x user=joe is=a b\n"
                     "+1 annotated user.joe.one [one] uid=1 guid=1111 entry=/a user=joe is=1\n"
                     "+1 annotated user.joe.one [one] uid=1 guid=1111 entry=/b user= is=2\n");
    records[0] = "%(UID 1 MODSEQ 6 LAST_UPDATED 5 FLAGS () INTERNALDATE 5 SIZE 10 GUID " G1
                 " ANNOTATIONS (%(ENTRY /b USERID NIL VALUE 3)))";
    mailbox("one", "user.joe.one", 6, " ANNOTATIONS (%(ENTRY /x USERID joe VALUE c))", records);
    UNIT_STR(news(), "+2 mailbox-annotated user.joe.one [one] entry=/x user=joe was=a b is=c\n"
                     "+2 annotated user.joe.one [one] uid=1 guid=1111 entry=/a user=joe was=1\n"
                     "+2 annotated user.joe.one [one] uid=1 guid=1111 entry=/b user= was=2 is=3\n");
    line("ANNOTATION", "%(MBOXNAME user.joe.one ENTRY /x USERID joe VALUE NIL)");
    UNIT_STR(news(), "+3 mailbox-annotated user.joe.one [one] entry=/x user=joe was=c\n");
    line("ANNOTATION", "%(MBOXNAME \"\" ENTRY /motd USERID joe VALUE hi)");
    line("ANNOTATION", "%(MBOXNAME \"\" ENTRY /motd USERID joe VALUE ho)");
    line("UNANNOTATION", "%(MBOXNAME \"\" ENTRY /motd USERID joe)");
    UNIT_STR(news(), "+4 server-annotated /motd user=joe is=hi\n"
                     "+4 server-annotated /motd user=joe was=hi is=ho\n"
                     "+4 server-annotated /motd user=joe was=ho\n");
    end();
}

static void test_moves(void)
{
    begin();
    record("one", 1, 5, "", G1);
    record("two", 1, 5, "", G2);
    news();
    lcbtest_settime(start + 1000);
    record("two", 2, 6, "\\Seen", G1);
    UNIT_STR(news(), "+1000 copied user.joe.two [two] uid=2 guid=1111 size=100 flags=(\\Seen)"
                     " from=user.joe.one from_uid=1\n");
    lcbtest_settime(start + 2000);
    record("one", 1, 7, "\\Expunged", G1); /* long after */
    UNIT_STR(news(), "+2000 expunged user.joe.one [one] uid=1 guid=1111\n");
    lcbtest_settime(start + 3000);
    record("one", 2, 8, "", G2);
    lcbtest_settime(start + 3000 + LCB_EVENT_MOVE);
    record("two", 1, 8, "\\Expunged", G2);
    UNIT_STR(news(), "+3000 moved user.joe.one [one] uid=2 guid=2222 size=100 flags=()"
                     " from=user.joe.two from_uid=1\n"
                     "+3300 expunged user.joe.two [two] uid=1 guid=2222 to=user.joe.one to_uid=2\n");
    lcbtest_settime(start + 4000);
    record("one", 2, 9, "\\Expunged", G2); /* first it goes, then it comes */
    record("two", 3, 9, "", G2);
    UNIT_STR(news(), "+4000 expunged user.joe.one [one] uid=2 guid=2222 to=user.joe.two to_uid=3\n"
                     "+4000 moved user.joe.two [two] uid=3 guid=2222 size=100 flags=()"
                     " from=user.joe.one from_uid=2\n");
    lcbtest_settime(start + 5000);
    record("two", 4, 10, "", G2); /* within the mailbox */
    record("two", 3, 11, "\\Expunged", G2);
    UNIT_STR(news(), "+5000 copied user.joe.two [two] uid=4 guid=2222 size=100 flags=()"
                     " from=user.joe.two from_uid=3\n"
                     "+5000 expunged user.joe.two [two] uid=3 guid=2222\n");
    record("three", 1, 5, "", G3); /* its mailbox is gone: a compaction would not know it any more */
    line("UNMAILBOX", "user.joe.three");
    news();
    lcbtest_settime(start + 6000);
    record("two", 5, 12, "", G3);
    UNIT_STR(news(), "+6000 arrived user.joe.two [two] uid=5 guid=3333 size=100 flags=()\n");
    end();
}

/* A move that is taken back soon: each leads to where the message was, not to where it came later. */
static void test_and_back(void)
{
    for (int later = 0; later <= 60; later += 60) { /* in one second, or with time between */
        begin();
        record("one", 1, 5, "", G1);
        record("two", 1, 5, "", G2);
        record("two", 2, 6, "", G1);
        record("one", 1, 6, "\\Expunged", G1);
        lcbtest_settime(start + later);
        record("one", 2, 7, "", G1);
        record("two", 2, 7, "\\Expunged", G1);
        char *all = xasprintf(
            "+0 mailbox-created user.joe.one [one]\n"
            "+0 arrived user.joe.one [one] uid=1 guid=1111 size=100 flags=()\n"
            "+0 mailbox-created user.joe.two [two]\n"
            "+0 arrived user.joe.two [two] uid=1 guid=2222 size=100 flags=()\n"
            "+0 moved user.joe.two [two] uid=2 guid=1111 size=100 flags=()"
            " from=user.joe.one from_uid=1\n"
            "+0 expunged user.joe.one [one] uid=1 guid=1111 to=user.joe.two to_uid=2\n"
            "+%d moved user.joe.one [one] uid=2 guid=1111 size=100 flags=()"
            " from=user.joe.two from_uid=2\n"
            "+%d expunged user.joe.two [two] uid=2 guid=1111 to=user.joe.one to_uid=2\n", later, later);
        UNIT_STR(tell(0, LCB_NOW, 0, NULL), all);
        free(all);
        end();
    }
}

static void test_mailboxes(void)
{
    begin();
    mailbox("one", "user.joe.one", 5, "", NULL);
    news();
    mailbox("one", "user.joe.one", 6, "", NULL); /* numbers only */
    UNIT_STR(news(), "");
    mailbox("one", "user.joe.one", 7, " XKEY user.joe", NULL);
    mailbox("one", "user.joe.one", 8, " XKEY user.joe.one MBOXTYPE c", NULL);
    mailbox("one", "user.joe.one", 9, "", NULL);
    UNIT_STR(news(), "+2 mailbox-changed user.joe.one [one] key=XKEY is=user.joe\n"
                     "+2 mailbox-changed user.joe.one [one] key=XKEY was=user.joe"
                     " is=user.joe.one\n"
                     "+2 mailbox-changed user.joe.one [one] key=MBOXTYPE is=c\n"
                     "+2 mailbox-changed user.joe.one [one] key=XKEY was=user.joe.one\n"
                     "+2 mailbox-changed user.joe.one [one] key=MBOXTYPE was=c\n");
    line("RENAME", "%(OLDMBOXNAME user.joe.one NEWMBOXNAME user.joe.uno PARTITION other"
                   " UIDVALIDITY 77)");
    UNIT_STR(news(), "+3 mailbox-renamed user.joe.uno [one] from=user.joe.one\n"
                     "+3 mailbox-changed user.joe.uno [one] key=UIDVALIDITY was=1500000000 is=77\n"
                     "+3 mailbox-changed user.joe.uno [one] key=PARTITION was=default is=other\n");
    line("RENAME", "%(OLDMBOXNAME user.joe.uno NEWMBOXNAME DELETED.user.joe.uno.5F PARTITION other"
                   " UIDVALIDITY 77)");
    UNIT_STR(news(), "+4 mailbox-deleted user.joe.uno [one] to=DELETED.user.joe.uno.5F\n");
    line("RENAME", "%(OLDMBOXNAME DELETED.user.joe.uno.5F NEWMBOXNAME user.joe.uno PARTITION other"
                   " UIDVALIDITY 77)");
    UNIT_STR(news(), "+5 mailbox-restored user.joe.uno [one] from=DELETED.user.joe.uno.5F\n");
    line("UNMAILBOX", "user.joe.uno");
    UNIT_STR(news(), "+6 mailbox-deleted user.joe.uno [one]\n");
    mailbox("one", "user.joe.one", 20, "", NULL);
    UNIT_STR(news(), "+7 mailbox-created user.joe.one [one] again=1\n");
    mailbox("two", "user.joe.one", 5, "", NULL); /* takes the name */
    UNIT_STR(news(), "+8 mailbox-deleted user.joe.one [one]\n"
                     "+8 mailbox-created user.joe.one [two]\n");
    line("RENAME", "%(OLDMBOXNAME user.joe.one NEWMBOXNAME DELETED.user.joe.x.60 PARTITION default"
                   " UIDVALIDITY 1500000000)");
    line("UNMAILBOX", "DELETED.user.joe.x.60");
    UNIT_STR(news(), "+9 mailbox-deleted user.joe.one [two] to=DELETED.user.joe.x.60\n"
                     "+9 mailbox-purged DELETED.user.joe.x.60 [two]\n");
    UNIT_STR(tell(0, LCB_NOW, 2, NULL), "+8 mailbox-created user.joe.one [two]\n"
             "+9 mailbox-deleted user.joe.one [two] to=DELETED.user.joe.x.60\n"
             "+9 mailbox-purged DELETED.user.joe.x.60 [two]\n");
    end();
}

/* Another takes the name first, as a MAILBOX that backupd logged an UNMAILBOX before, and then the one
 * that had it is told under its new one. */
static void taken(const char *uniqueid, const char *name, unsigned modseq)
{
    line("UNMAILBOX", name);
    mailbox(uniqueid, name, modseq, "", NULL);
}

static void test_names(void)
{
    begin();
    record("one", 1, 5, "", G1);
    news();
    taken("new", "user.joe.one", 5);
    mailbox("one", "user.joe.uno", 6, " XKEY x", NULL);
    UNIT_STR(news(), "+1 mailbox-created user.joe.one [new]\n"
                     "+1 mailbox-renamed user.joe.uno [one] from=user.joe.one\n"
                     "+1 mailbox-changed user.joe.uno [one] key=XKEY is=x\n");
    CU_ASSERT_EQUAL(lcb_commit(b), 0); /* a chain, in chunks of their own: new, one, three */
    taken("new", "user.joe.uno", 6);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    mailbox("three", "user.joe.one", 5, "", NULL); /* without an UNMAILBOX, as in old files */
    mailbox("one", "user.joe.one", 7, "", NULL);
    mailbox("three", "user.joe.tres", 6, "", NULL);
    UNIT_STR(news(), "+2 mailbox-renamed user.joe.uno [new] from=user.joe.one\n"
                     "+2 mailbox-created user.joe.one [three]\n"
                     "+2 mailbox-renamed user.joe.one [one] from=user.joe.uno\n"
                     "+2 mailbox-changed user.joe.one [one] key=XKEY was=x\n"
                     "+2 mailbox-renamed user.joe.tres [three] from=user.joe.one\n");
    taken("one", "user.joe.tres", 8); /* a swap, of which the name in between was never told */
    mailbox("three", "user.joe.one", 9, "", NULL);
    UNIT_STR(news(), "+3 mailbox-renamed user.joe.tres [one] from=user.joe.one\n"
                     "+3 mailbox-renamed user.joe.one [three] from=user.joe.tres\n");
    taken("four", "user.joe.one", 5); /* what had the name is deleted, and kept */
    mailbox("three", "DELETED.user.joe.one.5F", 10, "", NULL);
    UNIT_STR(news(), "+4 mailbox-created user.joe.one [four]\n"
                     "+4 mailbox-deleted user.joe.one [three] to=DELETED.user.joe.one.5F\n");
    taken("five", "user.joe.one", 5); /* the end of a range between the two */
    int64_t between = lcb_position(b);
    mailbox("four", "user.joe.four", 6, "", NULL);
    UNIT_STR(tell(between, LCB_NOW, 0, NULL), "+5 mailbox-renamed user.joe.four [four]"
                                              " from=user.joe.one\n");
    UNIT_STR(news(), "+5 mailbox-created user.joe.one [five]\n"
                     "+5 mailbox-renamed user.joe.four [four] from=user.joe.one\n");
    UNIT_STR(tell(0, LCB_NOW, 1, NULL),
             "+0 mailbox-created user.joe.one [one]\n"
             "+0 arrived user.joe.one [one] uid=1 guid=1111 size=100 flags=()\n"
             "+1 mailbox-renamed user.joe.uno [one] from=user.joe.one\n"
             "+1 mailbox-changed user.joe.uno [one] key=XKEY is=x\n"
             "+2 mailbox-renamed user.joe.one [one] from=user.joe.uno\n"
             "+2 mailbox-changed user.joe.one [one] key=XKEY was=x\n"
             "+3 mailbox-renamed user.joe.tres [one] from=user.joe.one\n");
    end();
}

/* What looks like it and is none. */
static void test_no_names(void)
{
    begin();
    mailbox("one", "user.joe.one", 5, "", NULL);
    news();
    line("UNMAILBOX", "user.joe.one"); /* nobody took the name */
    mailbox("one", "user.joe.uno", 6, "", NULL);
    UNIT_STR(news(), "+1 mailbox-deleted user.joe.one [one]\n"
                     "+1 mailbox-created user.joe.uno [one] again=1\n");
    taken("two", "user.joe.uno", 5); /* long before */
    lcbtest_settime(start + 3 + LCB_EVENT_MOVE);
    mailbox("one", "user.joe.one", 7, "", NULL);
    UNIT_STR(news(), "+2 mailbox-deleted user.joe.uno [one]\n+2 mailbox-created user.joe.uno [two]\n"
                     "+303 mailbox-created user.joe.one [one] again=1\n");
    taken("two", "user.joe.one", 6); /* it takes its name back */
    taken("one", "user.joe.one", 8);
    UNIT_STR(news(), "+304 mailbox-deleted user.joe.one [one]\n"
                     "+304 mailbox-renamed user.joe.one [two] from=user.joe.uno\n"
                     "+304 mailbox-deleted user.joe.one [two]\n"
                     "+304 mailbox-created user.joe.one [one] again=1\n");
    line("UNUSER", "joe"); /* somebody is created who has the name */
    mailbox("three", "user.joe.one", 5, "", NULL);
    mailbox("one", "user.joe.two", 9, "", NULL);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    UNIT_STR(news(), "+305 user-removed joe\n+305 mailbox-deleted user.joe.one [one]\n"
                     "+305 mailbox-created user.joe.one [three]\n"
                     "+305 mailbox-created user.joe.two [one] again=1\n");
    end();
}

static void test_others(void)
{
    begin();
    line("SUB", "%(USERID joe MBOXNAME user.joe)");
    line("SUB", "%(USERID joe MBOXNAME user.joe)");
    line("UNSUB", "%(USERID joe MBOXNAME user.joe)");
    line("SUB", "%(USERID joe MBOXNAME user.joe)");
    UNIT_STR(news(), "+0 subscribed user.joe\n+0 unsubscribed user.joe\n+0 subscribed user.joe\n");
    line("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 1 CONTENT keep)");
    line("ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)");
    line("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 2 CONTENT keep2)");
    line("SIEVE", "%(USERID joe FILENAME b.script LAST_UPDATE 2 CONTENT \"\")");
    line("ACTIVATE_SIEVE", "%(USERID joe FILENAME b.bc)");
    UNIT_STR(news(), "+1 script-uploaded a size=4\n+1 script-activated a\n+1 script-changed a size=5\n"
                     "+1 script-uploaded b size=0\n+1 script-activated b\n");
    line("UNACTIVATE_SIEVE", "%(USERID joe)");
    line("ACTIVATE_SIEVE", "%(USERID joe FILENAME b.bc)");
    line("UNSIEVE", "%(USERID joe FILENAME b.script)");
    UNIT_STR(news(), "+2 script-deactivated b\n+2 script-activated b\n+2 script-deleted b\n"
                     "+2 script-deactivated b\n");
    line("QUOTA", "%(ROOT user.joe LIMIT 100 STORAGE 100)");
    line("QUOTA", "%(ROOT user.joe STORAGE 200 MESSAGE 5 MODSEQ 8)");
    line("QUOTA", "%(ROOT user.joe STORAGE 200 MESSAGE 5 MODSEQ 9)");
    line("UNQUOTA", "user.joe");
    UNIT_STR(news(), "+3 quota-set user.joe is=(STORAGE=100)\n"
                     "+3 quota-set user.joe was=(STORAGE=100) is=(STORAGE=200 MESSAGE=5)\n"
                     "+3 quota-removed user.joe was=(STORAGE=200 MESSAGE=5)\n");
    line("SEEN", "%(USERID joe UNIQUEID u1 LASTREAD 1 LASTUID 7 LASTCHANGE 1 SEENUIDS 1:7)");
    UNIT_STR(news(), "+4 seen u1 lastuid=7 seenuids=1:7\n");
    end();
}

static void test_user(void)
{
    begin();
    record("one", 1, 5, "", G1);
    record("two", 1, 5, "", G2);
    line("SUB", "%(USERID joe MBOXNAME user.joe.one)");
    line("SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 1 CONTENT keep)");
    line("ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)");
    line("QUOTA", "%(ROOT user.joe STORAGE 100)");
    news();
    line("UNUSER", "joe");
    UNIT_STR(news(), "+1 user-removed joe\n+1 mailbox-deleted user.joe.one [one]\n"
                     "+1 mailbox-deleted user.joe.two [two]\n+1 unsubscribed user.joe.one\n"
                     "+1 script-deleted a\n+1 script-deactivated a\n"
                     "+1 quota-removed user.joe was=(STORAGE=100)\n");
    record("one", 2, 9, "", G1);
    line("SUB", "%(USERID joe MBOXNAME user.joe.one)");
    news();
    line("UNUSER", "joe"); /* one mailbox, and something else */
    UNIT_STR(news(), "+3 user-removed joe\n+3 mailbox-deleted user.joe.one [one]\n"
                     "+3 unsubscribed user.joe.one\n");
    end();
}

/* Nothing but one mailbox: only the line tells what it was. */
static void test_last_mailbox(void)
{
    static const char *const removed = "+1 user-removed joe\n+1 mailbox-deleted user.joe.one [one]\n";
    begin();
    record("one", 1, 5, "", G1);
    news();
    line("UNUSER", "joe");
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    UNIT_STR(news(), removed);
    UNIT_STR(tell(0, LCB_NOW, 1, NULL) + strlen("+0 mailbox-created user.joe.one [one]\n"
             "+0 arrived user.joe.one [one] uid=1 guid=1111 size=100 flags=()\n"),
             "+1 mailbox-deleted user.joe.one [one]\n"); /* of this mailbox only */
    record("one", 2, 9, "", G1);
    news();
    line("UNMAILBOX", "user.joe.one");
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    UNIT_STR(news(), "+3 mailbox-deleted user.joe.one [one]\n");
    record("one", 3, 11, "", G1);
    record("two", 1, 5, "", G1);
    news();
    line("UNMAILBOX", "user.joe.one"); /* one is left, and then it is the last */
    line("UNUSER", "joe");
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    UNIT_STR(news(), "+5 mailbox-deleted user.joe.one [one]\n+5 user-removed joe\n"
                     "+5 mailbox-deleted user.joe.two [two]\n");
    record("one", 4, 13, "", G1);
    line("SEEN", "%(USERID joe UNIQUEID u1 LASTREAD 1 LASTUID 7 LASTCHANGE 1 SEENUIDS 1:7)");
    news();
    line("UNUSER", "joe");
    UNIT_STR(news(), "+7 user-removed joe\n+7 mailbox-deleted user.joe.one [one]\n"
                     "+7 seen-removed u1\n");
    end();
}

/* ---- long histories ---- */

struct count {
    int64_t last, from, to;
    int n;
};

static int count_event(void *rock, const struct lcb_event *e)
{
    struct count *c = rock;
    CU_ASSERT(e->pos >= c->last && e->pos >= c->from && e->pos <= c->to);
    CU_ASSERT_EQUAL(e->time, lcb_time(b, e->pos));
    c->last = e->pos;
    c->n++;
    return 0;
}

/* Ranges that follow each other tell together what one range tells, each once, in order. */
static void test_ranges(void)
{
    enum { STEPS = 150 };
    struct lcbtest_history h;
    begin();
    lcbtest_start(&h, 31);
    for (int i = 0; i < STEPS; i++) {
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
        if (lcbtest_draw(&h, 3) == 0)
            CU_ASSERT_EQUAL(lcb_commit(b), 0);
    }
    struct buf all = BUF_INITIALIZER, parts = BUF_INITIALIZER;
    buf_setcstr(&all, tell(0, LCB_NOW, 0, NULL));
    CU_ASSERT(all.len > 10000);
    int64_t end_pos = lcb_position(b), from = 0;
    int count = 0;
    while (from <= end_pos) {
        int64_t to = from + (int64_t)lcbtest_draw(&h, 3) * (1 << 24) + (int64_t)lcbtest_draw(&h, 4);
        struct count c = {from, from, to, 0};
        struct lcb_events q = {from, to, 0, NULL};
        CU_ASSERT_EQUAL(lcb_foreach_event(b, &q, count_event, &c), 0);
        count += c.n;
        tell(from, to, 0, NULL);
        buf_append(&parts, &said);
        from = to + 1;
    }
    CU_ASSERT(lcbtest_same(&parts, &all, "ranges"));
    CU_ASSERT(count > 100);
    buf_free(&all);
    buf_free(&parts);
    end();
}

/* ---- states and events ---- */

/* The live messages of all mailboxes that are there: "name uid". */
static int live_record(void *rock, const struct lcb_record *r)
{
    if (!r->rec.expunged)
        buf_printf(rock, "%u,", r->rec.uid);
    return 0;
}

struct lives {
    int64_t at;
    struct buf text;
};

static int live_folder(void *rock, const struct lcb_folder *f)
{
    struct lives *l = rock;
    buf_printf(&l->text, "%s %s:", f->uniqueid, f->mboxname);
    CU_ASSERT_EQUAL(lcb_foreach_record(b, f->id, l->at, live_record, &l->text), 0);
    buf_putc(&l->text, '\n');
    return 0;
}

/* Replaying the events gives the state: mailboxes with names and live messages, from nothing. */
struct replay {
    struct {
        char uniqueid[32], name[64];
        int here;
        unsigned char live[4096];
    } mb[256];
    int n;
};

static int find(struct replay *p, const char *uniqueid)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->mb[i].uniqueid, uniqueid))
            return i;
    CU_ASSERT_FATAL(p->n < 256);
    snprintf(p->mb[p->n].uniqueid, sizeof(p->mb[p->n].uniqueid), "%s", uniqueid);
    return p->n++;
}

static int replay(void *rock, const struct lcb_event *e)
{
    struct replay *p = rock;
    if (!e->uniqueid)
        return 0;
    int i = find(p, e->uniqueid);
    unsigned uid = e->count && !strcmp(e->details[0].key, "uid") ? (unsigned)e->details[0].number : 0;
    CU_ASSERT_FATAL(uid < 4096);
    if (!strcmp(e->kind, "mailbox-created") || !strcmp(e->kind, "mailbox-renamed")) {
        CU_ASSERT_EQUAL(p->mb[i].here, !strcmp(e->kind, "mailbox-renamed"));
        p->mb[i].here = 1;
        snprintf(p->mb[i].name, sizeof(p->mb[i].name), "%s", e->item);
    } else if (!strcmp(e->kind, "mailbox-deleted")) {
        CU_ASSERT(p->mb[i].here);
        p->mb[i].here = 0;
    } else if (!strcmp(e->kind, "arrived") || !strcmp(e->kind, "copied") ||
               !strcmp(e->kind, "moved") || !strcmp(e->kind, "restored")) {
        CU_ASSERT(!p->mb[i].live[uid]);
        p->mb[i].live[uid] = 1;
    } else if (!strcmp(e->kind, "expunged")) {
        CU_ASSERT(p->mb[i].live[uid]);
        p->mb[i].live[uid] = 0;
    }
    CU_ASSERT(!p->mb[i].here || !strcmp(p->mb[i].name, e->item));
    return 0;
}

static void test_replay(void)
{
    static struct replay p;
    struct lcbtest_history h;
    struct lives now = {LCB_NOW, BUF_INITIALIZER};
    struct buf replayed = BUF_INITIALIZER;
    struct lcb_events q = {0, LCB_NOW, 0, NULL};
    begin();
    for (unsigned seed = 41; seed < 45; seed++) {
        lcbtest_start(&h, seed);
        for (int i = 0; i < 100; i++)
            CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
        memset(&p, 0, sizeof(p));
        CU_ASSERT_EQUAL(lcb_foreach_event(b, &q, replay, &p), 0);
        buf_reset(&now.text);
        CU_ASSERT_EQUAL(lcb_foreach_folder(b, LCB_NOW, 0, live_folder, &now), 0);
        int here = 0;
        for (int i = 0; i < p.n; i++) {
            if (!p.mb[i].here)
                continue;
            here++;
            buf_reset(&replayed);
            buf_printf(&replayed, "%s %s:", p.mb[i].uniqueid, p.mb[i].name);
            for (unsigned uid = 0; uid < 4096; uid++)
                if (p.mb[i].live[uid])
                    buf_printf(&replayed, "%u,", uid);
            buf_putc(&replayed, '\n');
            CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&now.text), buf_cstring(&replayed)));
        }
        int lines = 0;
        for (size_t i = 0; i < now.text.len; i++)
            lines += now.text.s[i] == '\n';
        CU_ASSERT_EQUAL(lines, here);
    }
    buf_free(&now.text);
    buf_free(&replayed);
    end();
}

/* Rows that cannot be, as a damaged index has them: they are called damaged. */
static void test_damaged(void)
{
    static const char *const damage[] = {
        "UPDATE records SET folder=77", "UPDATE folder_states SET since=since+100000000",
        "UPDATE folder_states SET until=since-1", "DELETE FROM folders",
        "UPDATE records SET flags='('", "UPDATE folder_states SET header='x'",
        "UPDATE records SET id=9223372036854775807", NULL,
    };
    const struct lcb_events all = {.from = 0, .to = LCB_NOW};
    begin();
    record("one", 1, 5, "\\Seen", G1);
    mailbox("one", "user.joe.one", 6, " XKEY x", NULL);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    for (int i = 0; damage[i]; i++) {
        CU_ASSERT_EQUAL(sqlite3_exec(b->index->db->db, "SAVEPOINT whole", NULL, NULL, NULL), 0);
        CU_ASSERT_EQUAL(sqlite3_exec(b->index->db->db, damage[i], NULL, NULL, NULL), 0);
        buf_reset(&said);
        int r = lcb_foreach_event(b, &all, put_event, NULL);
        CU_ASSERT(r == XERR_FORMAT || r == XERR_SYNTAX || r == XERR_EOF);
        if (r != XERR_FORMAT && r != XERR_SYNTAX && r != XERR_EOF)
            printf("\n%s: %s\n%s", damage[i], error_message(r), buf_cstring(&said));
        CU_ASSERT_EQUAL(sqlite3_exec(b->index->db->db, "ROLLBACK TO whole; RELEASE whole", NULL, NULL,
                                     NULL), 0);
    }
    CU_ASSERT_EQUAL(lcb_foreach_event(b, &all, put_event, NULL), 0);
    end();
}

void suite_lcb_events(void);
void suite_lcb_events(void)
{
    static const struct unit_test tests[] = {
        {"messages", test_messages},
        {"annotations", test_annotations},
        {"moves and copies", test_moves},
        {"moves that are taken back", test_and_back},
        {"mailboxes", test_mailboxes},
        {"renamed in two pieces", test_names},
        {"not renamed", test_no_names},
        {"what is not mail", test_others},
        {"the user", test_user},
        {"last mailbox", test_last_mailbox},
        {"ranges", test_ranges},
        {"replay", test_replay},
        {"rows of a damaged index", test_damaged},
        {NULL, NULL},
    };
    unit_suite("lcb_events", tests);
}
