/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcbtest_history - commands as a client might send them, drawn from a seed. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"

typedef struct lcbtest_history history;

unsigned lcbtest_draw(history *h, unsigned below)
{
    h->random = h->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((h->random >> 33) % below);
}

void lcbtest_start(history *h, unsigned seed)
{
    memset(h, 0, sizeof(*h));
    h->random = seed * 0x9e3779b97f4a7c15u + 12345;
    h->nextmailbox = 1;
    h->nextcontent = seed * 1000 % 100000;
}

static void guid_of(unsigned n, char hex[41])
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    lcbtest_message(n, &text, &guid);
    message_guid_encode(&guid, hex);
    buf_free(&text);
}

static const char *name_of(const history *h, int m)
{
    static char name[64];
    if (h->mb[m].name)
        snprintf(name, sizeof(name), "\"user.joe.Folder %u\"", h->mb[m].name);
    else
        snprintf(name, sizeof(name), "user.joe");
    return name;
}

/* Mailbox M with all records whose modseq is above SINCE. */
static int send_mailbox(history *h, struct lcb *b, int m, unsigned since)
{
    static const char *const flags[] = {
        "", "\\Seen", "\\Answered \\Seen", "\\Seen $Label1", "\\Expunged", "\\Expunged \\Seen",
    };
    const char *records[LCBTEST_RECORDS + 1];
    unsigned n = 0;
    char id[32], name[64], hex[41];
    for (unsigned i = 0; i < h->mb[m].n; i++)
        if (h->mb[m].rec[i].modseq > since) {
            guid_of(h->mb[m].rec[i].content, hex);
            records[n++] = lcbtest_record(h->mb[m].rec[i].uid, h->mb[m].rec[i].modseq,
                                          flags[h->mb[m].rec[i].flags], hex);
        }
    records[n] = NULL;
    snprintf(id, sizeof(id), "unique-%u", h->mb[m].number);
    snprintf(name, sizeof(name), "%s", name_of(h, m));
    return lcbtest_mailbox(b, lcbtest_header(id, name, h->mb[m].uidnext, h->mb[m].modseq,
                                             h->mb[m].number % 3 == 2
                                                 ? " ANNOTATIONS (%(ENTRY /comment USERID joe"
                                                   " MODSEQ 1 VALUE {9}\r\na%b\"c\r\nde))"
                                                 : ""),
                           records, NULL);
}

static int create(history *h, struct lcb *b, int m)
{
    memset(&h->mb[m], 0, sizeof(h->mb[m]));
    h->mb[m].number = h->nextmailbox++;
    h->mb[m].name = m ? h->mb[m].number : 0;
    h->mb[m].uidnext = 1;
    h->mb[m].modseq = 1 + lcbtest_draw(h, 100);
    return send_mailbox(h, b, m, h->mb[m].modseq);
}

static int deliver(history *h, struct lcb *b, int m)
{
    unsigned since = h->mb[m].modseq, count = 1 + lcbtest_draw(h, 3);
    int r = 0;
    h->mb[m].modseq++;
    for (unsigned i = 0; !r && i < count && h->mb[m].n < LCBTEST_RECORDS; i++) {
        unsigned at = h->mb[m].n++, content = h->nextcontent++;
        unsigned what = lcbtest_draw(h, 20);
        if (h->big && lcbtest_draw(h, 10) == 0)
            content += 1000000;
        h->mb[m].rec[at].uid = h->mb[m].uidnext++;
        h->mb[m].rec[at].modseq = h->mb[m].modseq;
        h->mb[m].rec[at].content = content;
        h->mb[m].rec[at].flags = lcbtest_draw(h, 4);
        if (what)
            r = lcbtest_upload(b, content, content >= 1000000 || what < 4);
        /* else: referred to, but never sent */
    }
    return r ? r : send_mailbox(h, b, m, since);
}

static int touch(history *h, struct lcb *b, int m, int expunge)
{
    unsigned since = h->mb[m].modseq;
    h->mb[m].modseq++;
    for (unsigned i = 0; i < h->mb[m].n; i++)
        if (lcbtest_draw(h, 2) && h->mb[m].rec[i].flags < 4) {
            h->mb[m].rec[i].modseq = h->mb[m].modseq;
            h->mb[m].rec[i].flags = expunge ? 4 + lcbtest_draw(h, 2) : lcbtest_draw(h, 4);
        }
    return send_mailbox(h, b, m, since);
}

static int rename_it(history *h, struct lcb *b, int m)
{
    char text[300];
    int n = snprintf(text, sizeof(text), "%%(OLDMBOXNAME %s NEWMBOXNAME ", name_of(h, m));
    h->mb[m].name = 100 + h->steps;
    snprintf(text + n, sizeof(text) - (size_t)n, "%s PARTITION other UIDVALIDITY %u)",
             name_of(h, m), 1500000000 + h->steps);
    return lcbtest_log(b, "RENAME", text);
}

static int unmailbox(history *h, struct lcb *b, int m)
{
    h->mb[m].number = 0;
    return lcbtest_log(b, "UNMAILBOX", name_of(h, m));
}

static int other(history *h, struct lcb *b)
{
    unsigned n = lcbtest_draw(h, 3), v = lcbtest_draw(h, 5);
    char text[400];
    switch (lcbtest_draw(h, 12)) {
    case 0:
    case 1:
        snprintf(text, sizeof(text), "%%(USERID joe MBOXNAME user.joe.%u)", n);
        return lcbtest_log(b, v < 3 ? "SUB" : "UNSUB", text);
    case 2:
    case 3:
        snprintf(text, sizeof(text), "%%(USERID joe UNIQUEID unique-%u LASTREAD %u LASTUID %u"
                 " LASTCHANGE %u SEENUIDS 1:%u)", n, v, v, v, v + 1);
        return lcbtest_log(b, "SEEN", text);
    case 4:
    case 5:
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.script LAST_UPDATE %u CONTENT"
                 " {13}\r\n# \"%%\"\r\nkeep;%u)", n, v, v);
        return lcbtest_log(b, "SIEVE", text);
    case 6:
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.script)", n);
        return lcbtest_log(b, "UNSIEVE", text);
    case 7:
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.bc)", n);
        return lcbtest_log(b, v ? "ACTIVATE_SIEVE" : "UNACTIVATE_SIEVE",
                           v ? text : "%(USERID joe)");
    case 8:
        snprintf(text, sizeof(text), "%%(ROOT user.joe.%u STORAGE %u000)", n, v);
        return lcbtest_log(b, "QUOTA", text);
    case 9:
        snprintf(text, sizeof(text), "user.joe.%u", n);
        return lcbtest_log(b, "UNQUOTA", text);
    case 10:
        snprintf(text, sizeof(text), "%%(MBOXNAME \"\" ENTRY /e%u USERID joe VALUE v%u)", n, v);
        return lcbtest_log(b, v ? "ANNOTATION" : "UNANNOTATION", text);
    default:
        snprintf(text, sizeof(text), "%%(MBOXNAME user.joe ENTRY /e%u USERID joe VALUE v%u)", n, v);
        return lcbtest_log(b, v ? "ANNOTATION" : "UNANNOTATION", text);
    }
}

/* Something, and then it is taken back. */
static int regret(history *h, struct lcb *b)
{
    struct lcbtest_history before = *h;
    int r = lcb_savepoint(b), undone = 0;
    for (unsigned i = 1 + lcbtest_draw(h, 4); !r && i; i--)
        r = other(h, b);
    if (!r && h->mb[0].number)
        r = deliver(h, b, 0);
    if (!r && h->mb[1].number)
        r = unmailbox(h, b, 1);
    if (!r)
        undone = lcb_savepoint_rollback(b);
    uint64_t random = h->random;
    *h = before;
    h->random = random;
    return r ? r : undone;
}

int lcbtest_step(history *h, struct lcb *b)
{
    int m = (int)lcbtest_draw(h, LCBTEST_MAILBOXES);
    unsigned what = lcbtest_draw(h, 24);
    int64_t now = lcbtest_time();
    h->steps++;
    lcbtest_settime(what == 20 ? now - 30 : now + lcbtest_draw(h, 3));
    if (!h->mb[m].number)
        return create(h, b, m);
    if (h->mb[m].n == LCBTEST_RECORDS)
        return unmailbox(h, b, m);
    switch (what) {
    case 0:
        return m ? rename_it(h, b, m) : other(h, b);
    case 1:
        return unmailbox(h, b, m);
    case 2:
        return send_mailbox(h, b, m, 0); /* all of it, once more */
    case 3:
    case 4:
        return touch(h, b, m, 1);
    case 5:
    case 6:
    case 7:
        return touch(h, b, m, 0);
    case 8:
        return regret(h, b);
    case 9:
    case 10:
    case 11:
    case 12:
    case 13:
    case 14:
        return deliver(h, b, m);
    case 15:
        if (h->steps % 5 == 0) {
            memset(h->mb, 0, sizeof(h->mb));
            return lcbtest_log(b, "UNUSER", "joe");
        }
        return other(h, b);
    default:
        return other(h, b);
    }
}

int lcbtest_steps(struct lcbtest *t, history *h, int n, int every)
{
    struct lcb *b = NULL;
    int r = lcb_open(t->store, "joe", LCB_WRITE | LCB_CREATE, 0, &b);
    if (!r)
        b->df.chunk_size = 8192;
    while (!r && n--) {
        r = lcbtest_step(h, b);
        if (!r && n % every == 0)
            r = lcb_commit(b);
    }
    lcb_close(&b);
    return r;
}
