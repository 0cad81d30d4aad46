/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of compaction with whatever a client might say: any line about any of a few mailboxes, names,
 * UIDs and messages, in any order, also while a compaction is at work. The oracle is the backup as it
 * was, which backup_keep_previous keeps with all that was appended meanwhile. */
#include "config.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/lcbtest_foreign.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { TIMES = 4000 };

struct mix {
    struct lcbtest t;
    struct lcbtest_history h; /* for what is drawn */
    unsigned modseq;
    int days;                 /* now and then one passes */
    int writes;               /* to come while a compaction is at work */
    int one;                  /* what comes back then is one message, and no mailbox */
    int64_t times[TIMES];     /* of commands */
    int n;
};

static unsigned draw(struct mix *m, unsigned below)
{
    return lcbtest_draw(&m->h, below);
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

/* Brought unless it is there, as clients do. */
static int bring(struct lcb *b, unsigned n)
{
    struct message_guid guid;
    CU_ASSERT_EQUAL_FATAL(message_guid_decode(&guid, hex_of(n), 40), 0);
    int r = lcb_has_content(b, &guid, NULL);
    return r ? (r < 0 ? r : 0) : lcbtest_upload(b, n, n % 5 == 0);
}

static int any_mailbox(struct mix *m, struct lcb *b)
{
    static const char *const flags[] = {"", "\\Seen", "\\Flagged", "\\Expunged"};
    const char *records[4] = {NULL};
    char id[32], name[32];
    unsigned n = draw(m, 3);
    int r = 0;
    snprintf(id, sizeof(id), "u%u", draw(m, 6));
    snprintf(name, sizeof(name), "user.joe.n%u", draw(m, 5));
    for (unsigned i = 0; !r && i < n; i++) {
        unsigned f = draw(m, 4), content = draw(m, 14);
        if (f < 3 && draw(m, 12))
            r = bring(b, content);
        records[i] = lcbtest_record(1 + i * 3 + draw(m, 3), ++m->modseq, flags[f], hex_of(content));
    }
    return r ? r : lcbtest_mailbox(b, lcbtest_header(id, name, 9, draw(m, 3) ? m->modseq : 7, ""),
                                   records, NULL);
}

static int any_line(struct mix *m, struct lcb *b)
{
    unsigned n = draw(m, 3), v = draw(m, 4), k = draw(m, 5);
    char text[300];
    switch (draw(m, 14)) {
    case 0:
        snprintf(text, sizeof(text), "user.joe.n%u", k);
        return lcbtest_log(b, "UNMAILBOX", text);
    case 1:
        snprintf(text, sizeof(text), "%%(OLDMBOXNAME user.joe.n%u NEWMBOXNAME user.joe.n%u PARTITION"
                 " other UIDVALIDITY %u)", k, draw(m, 5), 100 + v);
        return lcbtest_log(b, "RENAME", text);
    case 2:
        snprintf(text, sizeof(text), "%%(USERID joe MBOXNAME user.joe.n%u)", n);
        return lcbtest_log(b, v & 1 ? "SUB" : "UNSUB", text);
    case 3:
        snprintf(text, sizeof(text), "%%(USERID joe UNIQUEID u%u LASTREAD %u LASTUID %u LASTCHANGE %u"
                 " SEENUIDS 1:%u)", n, v, v, v, v + 1);
        return lcbtest_log(b, "SEEN", text);
    case 4:
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.script LAST_UPDATE %u CONTENT"
                 " {13}\r\n# \"%%\"\r\nkeep;%u)", n, v, v);
        return lcbtest_log(b, "SIEVE", text);
    case 5:
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.%s)", n, v ? "script" : "bc");
        return lcbtest_log(b, "UNSIEVE", text);
    case 6:
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.bc)", n);
        return lcbtest_log(b, v ? "ACTIVATE_SIEVE" : "UNACTIVATE_SIEVE", v ? text : "%(USERID joe)");
    case 7:
        snprintf(text, sizeof(text), v ? "%%(ROOT user.joe.n%u STORAGE %u)" : "user.joe.n%u", n, v);
        return lcbtest_log(b, v ? "QUOTA" : "UNQUOTA", text);
    case 8:
        snprintf(text, sizeof(text), "%%(MBOXNAME \"\" ENTRY /e%u USERID %s VALUE v%u)", n,
                 k & 1 ? "joe" : "\"\"", v);
        return lcbtest_log(b, v ? "ANNOTATION" : "UNANNOTATION", text);
    case 9:
        snprintf(text, sizeof(text), "%%(MBOXNAME user.joe.n%u ENTRY /e%u USERID joe VALUE v%u)", k, n,
                 v);
        return lcbtest_log(b, v ? "ANNOTATION" : "UNANNOTATION", text);
    case 10:
        return v || draw(m, 4) ? bring(b, draw(m, 14)) : lcbtest_log(b, "UNUSER", "joe");
    default:
        return any_mailbox(m, b);
    }
}

static int lines(struct mix *m, struct lcb *b, int n)
{
    int r = 0;
    while (!r && n--) {
        unsigned what = draw(m, 60);
        int64_t now = lcbtest_time();
        lcbtest_settime(what == 0 ? now - 60 : what == 1 && m->days ? now + 90000 : now + draw(m, 4));
        r = draw(m, 2) ? any_mailbox(m, b) : any_line(m, b);
        if (m->n < TIMES)
            m->times[m->n++] = lcbtest_time();
        if (!r && !draw(m, 4))
            r = lcb_commit(b);
    }
    return r ? r : lcb_commit(b);
}

static void meanwhile(void *rock, uint64_t bytes)
{
    struct mix *m = rock;
    struct lcb *b = NULL;
    (void)bytes;
    if (m->writes <= 0 || draw(m, 3))
        return;
    m->writes--;
    CU_ASSERT_EQUAL_FATAL(lcb_open(m->t.store, "joe", LCB_WRITE, 0, &b), 0);
    CU_ASSERT_EQUAL(lines(m, b, 5), 0);
    lcb_close(&b);
}

static char *previous(const char *path)
{
    char pattern[400];
    glob_t g;
    snprintf(pattern, sizeof(pattern), "%.*s*.1*[0-9]", (int)(strrchr(path, '/') + 1 - path), path);
    CU_ASSERT_EQUAL_FATAL(glob(pattern, 0, NULL, &g), 0);
    CU_ASSERT_EQUAL(g.gl_pathc, 2); /* data and index */
    char *found = NULL;
    for (size_t i = 0; i < g.gl_pathc; i++)
        if (!strstr(g.gl_pathv[i], ".index"))
            found = xstrdup(g.gl_pathv[i]);
        else
            unlink(g.gl_pathv[i]);
    globfree(&g);
    return found;
}

/* Both say the same at all times of commands, from FROM on. */
static int same_states(struct mix *m, const char *was, const char *is, int64_t from, const char *what)
{
    struct buf a = BUF_INITIALIZER, b = BUF_INITIALIZER;
    struct lcb *old = NULL, *new_ = NULL;
    int same = 1, seen = 0;
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(m->t.store, was, 0, 0, &old), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(m->t.store, is, 0, 0, &new_), 0);
    for (int i = 0; same && i <= m->n; i++)
        for (int plus = -1; same && plus < 2; plus++) {
            int64_t at = i < m->n ? m->times[i] + plus : plus < 0 ? from : lcbtest_time() + plus * 999;
            if (at < from)
                continue;
            buf_reset(&a);
            buf_reset(&b);
            int r = lcbtest_state(old, at, &a), s = lcbtest_state(new_, at, &b);
            CU_ASSERT_EQUAL(r, s);
            same = lcbtest_same(&b, &a, what);
            seen += !r;
        }
    CU_ASSERT(same && seen > 0);
    lcb_close(&old);
    lcb_close(&new_);
    buf_free(&a);
    buf_free(&b);
    return same;
}

static int compact(struct mix *m, const char *what)
{
    struct lcb_compact_result result;
    int64_t shift = draw(m, 3) ? 0 : (int64_t)draw(m, 120) - 60;
    struct lcb_compact how = {.userid = "joe", .force = 1, .now = lcbtest_time() + shift,
                              .progress = meanwhile, .rock = m};
    m->writes = (int)draw(m, 5);
    int r = lcb_compact(m->t.store, &how, &result);
    if (r == LCB_COMPACT_EMPTY)
        return 1;
    if (r != LCB_COMPACT_DONE || lcbtest_logged("given up"))
        printf("\n%s: %s\n%s", what, r < 0 ? error_message(r) : "", lcbtest_log_text());
    CU_ASSERT_EQUAL(r, LCB_COMPACT_DONE);
    CU_ASSERT(!lcbtest_logged("given up"));
    CU_ASSERT(!lcbtest_logged("made anew"));
    if (r)
        return 0;
    char *path = lcbtest_path(&m->t), *was = previous(path);
    int same = same_states(m, was, path, result.account.window, what);
    lcbtest_compare(&m->t, path, what);
    lcbtest_rmindex(was);
    unlink(was);
    free(was);
    free(path);
    return same;
}

static void one_mix(unsigned seed, int days)
{
    struct mix *m = xzmalloc(sizeof(*m));
    char extra[200], what[100];
    int ok = 1;
    lcbtest_start(&m->h, seed);
    m->days = days;
    snprintf(what, sizeof(what), "mix %u", seed);
    snprintf(extra, sizeof(extra), "backup_keep_previous: 1\nbackup_retention: %us\n",
             20 + draw(m, 100));
    lcbtest_init(&m->t, extra);
    lcbtest_open(&m->t, NULL);
    for (int i = 0; ok && i < 5; i++) {
        struct lcb *b = lcbtest_joe(&m->t);
        b->df.chunk_size = 1024 << draw(m, 4);
        CU_ASSERT_EQUAL(lines(m, b, 20 + (int)draw(m, 40)), 0);
        lcb_close(&b);
        ok = compact(m, what);
    }
    lcbtest_fini(&m->t);
    free(m);
}

static void test_mix(void)
{
    one_mix(1, 0);
    one_mix(3, 1);
}

/* ---- one thing at a time ---- */

static void commit(struct lcb *b, int r)
{
    CU_ASSERT_EQUAL(r, 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    lcbtest_settime(lcbtest_time() + 1);
}

static int mailbox(struct lcb *b, const char *id, const char *name, unsigned modseq,
                   const char *record)
{
    const char *records[2] = {record, NULL};
    return lcbtest_mailbox(b, lcbtest_header(id, name, 9, modseq, ""), records, NULL);
}

/* Once, while a compaction is at work: what was gone before the window is there again. */
static void visit(void *rock, uint64_t bytes)
{
    struct mix *m = rock;
    struct lcb *b;
    (void)bytes;
    if (!m->writes)
        return;
    m->writes = 0;
    b = lcbtest_joe(&m->t);
    commit(b, mailbox(b, "stays", "user.joe.stays", 8, lcbtest_record(2, 8, "", hex_of(1))));
    m->times[m->n++] = lcbtest_time();
    if (!m->one) {
        commit(b, mailbox(b, "comes", "user.joe.comes", 8, NULL));
        lcbtest_settime(lcbtest_time() + 1);
        commit(b, lcbtest_log(b, "UNMAILBOX", "user.joe.comes"));
    }
    lcb_close(&b);
}

/* A message that was expunged before the window, of which the window tells only that it is expunged
 * elsewhere, is in a mailbox again while the compaction is at work that drops its content. And a
 * mailbox that was gone is there again for a moment, with its records. DAMAGED: only the message, whose
 * content is damaged: it is asked for. */
static void one_visit(int damaged)
{
    struct mix *m = xzmalloc(sizeof(*m));
    struct lcb_compact_result result;
    struct lcb_compact how = {.userid = "joe", .force = 1, .progress = visit, .rock = m};
    struct buf state = BUF_INITIALIZER, data = BUF_INITIALIZER;
    off_t end = 0;
    lcbtest_init(&m->t, "backup_keep_previous: 1\nbackup_retention: 60s\n");
    lcbtest_open(&m->t, NULL);
    struct lcb *b = lcbtest_joe(&m->t);
    for (unsigned i = 1; i < 3; i++) {
        commit(b, bring(b, i));
        end = i == 1 ? b->df.end : end;
    }
    commit(b, mailbox(b, "stays", "user.joe.stays", 5, lcbtest_record(1, 5, "", hex_of(1))));
    commit(b, mailbox(b, "stays", "user.joe.stays", 6, lcbtest_record(1, 6, "\\Expunged", hex_of(1))));
    commit(b, mailbox(b, "comes", "user.joe.comes", 5, lcbtest_record(1, 5, "", hex_of(2))));
    commit(b, lcbtest_log(b, "UNMAILBOX", "user.joe.comes"));
    lcbtest_settime(lcbtest_time() + 100000);
    commit(b, mailbox(b, "other", "user.joe.other", 7, lcbtest_record(3, 7, "\\Expunged", hex_of(1))));
    lcb_close(&b);
    char *path = lcbtest_path(&m->t);
    lcbtest_read(path, &data);
    data.s[end / 2] ^= damaged ? 0x55 : 0;
    lcbtest_write(path, data.s, data.len);
    free(path);
    m->writes = 1;
    m->one = damaged;
    CU_ASSERT_EQUAL(lcb_compact(m->t.store, &how, &result), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(m->n, 1);
    path = lcbtest_path(&m->t);
    char *was = previous(path);
    same_states(m, was, path, result.account.window, "a visit");
    CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT mark FROM folders WHERE uniqueid='stays'"),
                    damaged ? LCB_MARK_CONTENT : LCB_MARK_NONE);
    CU_ASSERT_EQUAL_FATAL(lcb_open(m->t.store, "joe", 0, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_state(b, m->times[0], &state), 0);
    CU_ASSERT(strstr(buf_cstring(&state), hex_of(1)) != NULL);
    CU_ASSERT_EQUAL(strstr(buf_cstring(&state), hex_of(2)) != NULL, !m->one);
    lcb_close(&b);
    buf_free(&state);
    buf_free(&data);
    free(was);
    free(path);
    lcbtest_fini(&m->t);
    free(m);
}

static void test_visit(void)
{
    one_visit(0);
    one_visit(1);
}

/* The first line of ours comes into a file of Cyrus while that is compacted. */
static void test_first(void)
{
    static const char *const text[] = {
        "1600000000 APPLY SUB %(USERID joe MBOXNAME user.joe)\r\n", NULL,
    };
    struct mix *m = xzmalloc(sizeof(*m));
    struct buf data = BUF_INITIALIZER;
    struct lcb_compact_result result;
    struct lcb_compact how = {.userid = "joe", .force = 1, .progress = visit, .rock = m};
    lcbtest_init(&m->t, "backup_keep_previous: 1\nbackup_retention: 60s\n");
    lcbtest_open(&m->t, NULL);
    struct lcb *b = lcbtest_joe(&m->t);
    lcb_close(&b);
    char *path = lcbtest_path(&m->t);
    cyrus_chunk(&data, text);
    lcbtest_rmindex(path);
    lcbtest_write(path, data.s, data.len);
    free(path);
    m->writes = 1;
    CU_ASSERT_EQUAL(lcb_compact(m->t.store, &how, &result), LCB_COMPACT_DONE);
    path = lcbtest_path(&m->t);
    char *was = previous(path);
    same_states(m, was, path, result.account.window, "the first line of ours");
    free(was);
    free(path);
    buf_free(&data);
    lcbtest_fini(&m->t);
    free(m);
}

/* Only what cannot be read any more told of mail, and the index is gone: the backup is not to be
 * deleted as one of which nothing is left, but the bytes are set aside. */
static void test_unread(void)
{
    struct lcbtest t;
    struct buf data = BUF_INITIALIZER, aside = BUF_INITIALIZER;
    struct lcb_compact how = {.userid = "joe"};
    struct lcb_compact_result result;
    lcbtest_init(&t, "backup_retention: 60s\n");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    const char *record = lcbtest_record(1, 5, "", hex_of(1));
    const char *records[2] = {record, NULL};
    CU_ASSERT_EQUAL(bring(b, 1), 0);
    commit(b, lcbtest_mailbox(b, lcbtest_header("u0", "user.joe", 1, 5, ""), records, NULL));
    off_t end = b->df.end;
    commit(b, lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe)"));
    commit(b, lcbtest_log(b, "UNSUB", "%(USERID joe MBOXNAME user.joe)"));
    lcb_close(&b);
    char *path = lcbtest_path(&t);
    lcbtest_read(path, &data);
    data.s[end / 2] ^= 0x55;
    lcbtest_write(path, data.s, data.len);
    lcbtest_rmindex(path);
    free(path);
    lcbtest_settime(lcbtest_time() + 100000);
    CU_ASSERT_EQUAL(lcb_compact(t.store, &how, &result), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(result.damaged, 1);
    lcbtest_read(result.aside, &aside);
    CU_ASSERT_EQUAL_FATAL(aside.len, (size_t)end);
    CU_ASSERT_EQUAL(memcmp(aside.s, data.s, aside.len), 0);
    CU_ASSERT_EQUAL(lcb_compact(t.store, &how, &result), LCB_COMPACT_EMPTY);
    buf_free(&data);
    buf_free(&aside);
    lcbtest_fini(&t);
}

void suite_lcb_compact_mix(void);
void suite_lcb_compact_mix(void)
{
    static const struct unit_test tests[] = {
        {"any line", test_mix},
        {"a visit", test_visit},
        {"the first line of ours", test_first},
        {"nothing that can be read", test_unread},
        {NULL, NULL},
    };
    unit_suite("lcb_compact_mix", tests);
}
