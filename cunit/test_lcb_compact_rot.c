/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of compaction on an index with wrong letters that SQLite does not notice: all that stands in
 * the rows is older than the window, so it is restated from them; the new data file must say what the
 * old one said, and not what the rows do. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define WRONG "is not what the data file says"
#define ANEW "index made anew"

/* A backup with something of everything, all of it older than the window. */
struct scene {
    struct lcbtest t;
    char *path;       /* of its data file */
    struct buf state; /* as the data file has it */
};

static void line(struct lcb *b, const char *verb, const char *value)
{
    CU_ASSERT_EQUAL(lcbtest_log(b, verb, value), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
}

static void mailbox(struct lcb *b, const char *id, const char *name, unsigned message)
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    char hex[41];
    lcbtest_message(message, &text, &guid);
    message_guid_encode(&guid, hex);
    buf_free(&text);
    const char *records[] = {lcbtest_record(34, 7, "\\Seen", hex), NULL};
    CU_ASSERT_EQUAL(lcbtest_upload(b, message, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 34, 7, ""), records, NULL), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
}

static void fill(struct lcb *b)
{
    mailbox(b, "a", "user.joe.a", 1);
    mailbox(b, "b", "user.joe.b", 2);
    line(b, "SUB", "%(USERID joe MBOXNAME user.joe.a)");
    line(b, "SEEN", "%(USERID joe UNIQUEID a LASTREAD 5 LASTUID 34 LASTCHANGE 6 SEENUIDS 1:34)");
    line(b, "SIEVE", "%(USERID joe FILENAME x.script LAST_UPDATE 5 CONTENT {6}\r\nke\r\nep)");
    line(b, "ACTIVATE_SIEVE", "%(USERID joe FILENAME x.bc)");
    line(b, "QUOTA", "%(ROOT user.joe STORAGE 4711)");
}

/* What it answers for the present. */
static void state_of(struct scene *s, struct buf *out)
{
    struct lcb *b = NULL;
    buf_reset(out);
    CU_ASSERT_EQUAL_FATAL(lcb_open(s->t.store, "joe", 0, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_state(b, lcbtest_time(), out), 0);
    lcb_close(&b);
}

static void begin(struct scene *s, const char *options)
{
    memset(s, 0, sizeof(*s));
    lcbtest_init(&s->t, options);
    lcbtest_open(&s->t, NULL);
    struct lcb *b = lcbtest_joe(&s->t);
    fill(b);
    lcb_close(&b);
    lcbtest_settime(lcbtest_time() + 30 * 86400);
    s->path = lcbtest_path(&s->t);
    state_of(s, &s->state);
}

static void end(struct scene *s)
{
    buf_free(&s->state);
    free(s->path);
    lcbtest_fini(&s->t);
}

static void change(struct scene *s, const char *sql)
{
    char *index = xasprintf("%s.index", s->path);
    sqlite3 *db = NULL;
    CU_ASSERT_EQUAL_FATAL(sqlite3_open_v2(index, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    int r = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (r)
        printf("\n%s: %s\n", sql, sqlite3_errmsg(db));
    CU_ASSERT_EQUAL(r, SQLITE_OK);
    CU_ASSERT(sqlite3_total_changes(db) > 0);
    sqlite3_close(db);
    free(index);
}

static int compact(struct scene *s, struct lcb_compact how)
{
    struct lcb_compact_result result;
    how.userid = "joe";
    int r = lcb_compact(s->t.store, &how, &result);
    free(s->path);
    s->path = lcbtest_path(&s->t);
    return r;
}

static int times_logged(const char *text)
{
    int n = 0;
    for (const char *p = lcbtest_log_text(); (p = strstr(p, text)) != NULL; p++)
        n++;
    return n;
}

/* The text of the data file, by another way than ours. */
static void inflated(const char *path, struct buf *out)
{
    char piece[4096];
    int n;
    gzFile in = gzopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(in);
    buf_reset(out);
    while ((n = gzread(in, piece, sizeof(piece))) > 0)
        buf_appendmap(out, piece, (size_t)n);
    CU_ASSERT_EQUAL(gzclose(in), Z_OK);
}

static int has(const struct buf *b, const char *text)
{
    return memmem(b->s, b->len, text, strlen(text)) != NULL;
}

/* ---- wrong letters ---- */

static const char *const facts[] = {
    "lrswipkxtecda", "FLAGS (\\Seen)", "UID 34 ", "user.joe.b", "FILENAME x.script", "FILENAME x.bc",
    "SEENUIDS 1:34", "STORAGE 4711", NULL,
};

/* WRONG_TEXT is what the new file would have. */
static const struct rot {
    const char *sql, *wrong_text;
} rots[] = {
    {"UPDATE folder_states SET header=CAST(replace(CAST(header AS TEXT), 'lrswi', 'lrsai') AS BLOB)",
     "lrsai"},
    {"UPDATE folder_states SET mboxname='user.joe.q' WHERE mboxname='user.joe.b'", "user.joe.q"},
    {"UPDATE records SET flags=CAST(replace(CAST(flags AS TEXT), 'Seen', 'Sean') AS BLOB)", "\\Sean"},
    {"UPDATE records SET uid=35", "UID 35 "},
    {"UPDATE records SET expunged=1", "\\Expunged"},
    {"UPDATE records SET modseq=9", "MODSEQ 9 "},
    {"UPDATE subs SET mboxname='user.joe.z'", "user.joe.z"},
    {"UPDATE seens SET seenuids='1:74'", "1:74"},
    {"UPDATE scripts SET filename='y.script'", "y.script"},
    {"UPDATE scripts SET content=CAST('discard' AS BLOB)", "discard"},
    {"UPDATE active SET filename='y.bc'", "y.bc"},
    {"UPDATE quotas SET limits=CAST(replace(CAST(limits AS TEXT), '4711', '4701') AS BLOB)", "4701"},
    /* a page of another time */
    {"DELETE FROM subs", NULL},
    {"DELETE FROM records WHERE folder=2; UPDATE folders SET crc=0 WHERE id=2", NULL},
    /* nothing would be left of it, and that is what would be said */
    {"UPDATE folder_states SET until=since+1; UPDATE records SET until=since+1;"
     "UPDATE subs SET until=since+1; UPDATE seens SET until=since+1;"
     "UPDATE scripts SET until=since+1; UPDATE quotas SET until=since+1;"
     "UPDATE active SET until=since+1", NULL},
};

static void one_rot(const struct rot *rot)
{
    struct scene s;
    struct buf is = BUF_INITIALIZER;
    begin(&s, "backup_retention: 2d\n");
    change(&s, rot->sql);
    CU_ASSERT_EQUAL(compact(&s, (struct lcb_compact){.force = 1}), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(times_logged(WRONG), 1);
    CU_ASSERT_EQUAL(times_logged(ANEW), 1);
    state_of(&s, &is);
    CU_ASSERT(lcbtest_same(&is, &s.state, rot->sql));
    lcbtest_clean(&s.t, s.path, 0, rot->sql);
    inflated(s.path, &is);
    for (int i = 0; facts[i]; i++)
        CU_ASSERT(has(&is, facts[i]));
    CU_ASSERT(!rot->wrong_text || !has(&is, rot->wrong_text));
    /* and once is enough */
    CU_ASSERT_EQUAL(compact(&s, (struct lcb_compact){.force = 1}), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(times_logged(ANEW), 1);
    buf_free(&is);
    end(&s);
}

static void test_rot(void)
{
    for (size_t i = 0; i < sizeof(rots) / sizeof(*rots); i++) {
        unsigned failures = CU_get_number_of_failures();
        one_rot(&rots[i]);
        if (CU_get_number_of_failures() != failures)
            printf("\n%s\n", rots[i].sql);
    }
}

/* ---- when it is not looked at ---- */

/* What is not rewritten is not read, either. */
static void test_not_rewritten(void)
{
    struct scene s;
    struct buf was = BUF_INITIALIZER, is = BUF_INITIALIZER;
    begin(&s, "backup_retention: 2d\nbackup_compact_work_threshold: 1000\n");
    change(&s, rots[0].sql);
    lcbtest_dump(s.path, &was);
    CU_ASSERT_EQUAL(compact(&s, (struct lcb_compact){.force = 0}), LCB_COMPACT_SKIPPED);
    CU_ASSERT_EQUAL(compact(&s, (struct lcb_compact){.force = 1, .dry_run = 1}), LCB_COMPACT_DONE);
    lcbtest_dump(s.path, &is);
    CU_ASSERT(lcbtest_same(&is, &was, "not rewritten"));
    CU_ASSERT_EQUAL(times_logged(WRONG) + times_logged(ANEW), 0);
    buf_free(&was);
    buf_free(&is);
    end(&s);
}

/* Marks are of the index alone, and stay; a note is no row. */
static void test_marks(void)
{
    struct scene s;
    begin(&s, "backup_retention: 2d\n");
    change(&s, "UPDATE folders SET mark=1 WHERE uniqueid='a'; UPDATE folders SET mark=3 WHERE"
               " uniqueid='b'; INSERT INTO meta VALUES ('verified_time', 5)");
    CU_ASSERT_EQUAL(compact(&s, (struct lcb_compact){.force = 1}), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(times_logged(WRONG) + times_logged(ANEW), 0);
    CU_ASSERT_EQUAL(lcbtest_int(s.path, "SELECT mark FROM folders WHERE uniqueid='a'"), 1);
    CU_ASSERT_EQUAL(lcbtest_int(s.path, "SELECT mark FROM folders WHERE uniqueid='b'"), 3);
    end(&s);
}

/* ---- for who watches ---- */

struct watch {
    uint64_t steps[100];
    int n;
};

static void note_progress(void *rock, uint64_t bytes)
{
    struct watch *w = rock;
    CU_ASSERT_FATAL(w->n < 100);
    w->steps[w->n++] = bytes;
}

/* Progress is told while the index is held against the file, chunk by chunk, and goes on from there. */
static void test_watched(void)
{
    struct scene s;
    struct watch w = {.n = 0};
    begin(&s, "backup_retention: 2d\n");
    uint64_t size = (uint64_t)lcbtest_int(s.path, "SELECT max(start+length) FROM chunks");
    int first = 0, chunks = (int)lcbtest_int(s.path, "SELECT count(*) FROM chunks");
    CU_ASSERT_EQUAL(compact(&s, (struct lcb_compact){.force = 1, .progress = note_progress,
                                                     .rock = &w}), LCB_COMPACT_DONE);
    CU_ASSERT(chunks > 3);
    CU_ASSERT_EQUAL_FATAL(w.n, 2 * chunks); /* each chunk is looked at, and then written */
    for (int i = 0; i < w.n; i++) {
        first += w.steps[i] <= size / 2;
        CU_ASSERT(!i || w.steps[i] > w.steps[i - 1]);
    }
    CU_ASSERT_EQUAL(first, chunks);
    CU_ASSERT_EQUAL(w.steps[w.n - 1], size);
    end(&s);
}

/* ---- together with damage of the data ---- */

/* A byte of the chunk that begins at an offset. */
static void damage(struct scene *s, const char *sql)
{
    struct buf data = BUF_INITIALIZER;
    int64_t at = lcbtest_int(s->path, sql);
    lcbtest_read(s->path, &data);
    CU_ASSERT_FATAL(at >= 0 && (size_t)at + 60 < data.len);
    data.s[at + 60] ^= 0x20;
    lcbtest_write(s->path, data.s, data.len);
    buf_free(&data);
}

/* Only the index knows what a lost chunk said: that it differs from the file is no fault of it. Its
 * other rows are held against the file all the same. */
static void one_damage(const char *sql, int anew)
{
    struct scene s;
    struct buf is = BUF_INITIALIZER;
    begin(&s, "backup_retention: 2d\n");
    damage(&s, "SELECT start FROM chunks WHERE seq=(SELECT since>>24 FROM subs)");
    if (sql)
        change(&s, sql);
    int r = compact(&s, (struct lcb_compact){.force = 1});
    CU_ASSERT_EQUAL(r, LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(times_logged(WRONG), sql ? 1 : 0);
    CU_ASSERT_EQUAL(times_logged(ANEW), anew);
    state_of(&s, &is);
    CU_ASSERT(lcbtest_same(&is, &s.state, sql ? sql : "damaged data"));
    lcbtest_clean(&s.t, s.path, 0, "damaged data");
    buf_free(&is);
    end(&s);
}

static void test_damage(void)
{
    one_damage(NULL, 0);
    one_damage(rots[2].sql, 1);
}

/* A page of the index that is no page of it any more, each in turn. 0 if there is no such page. */
static int spoil_page(const struct scene *s, int n)
{
    char *index = xasprintf("%s.index", s->path);
    int fd = open(index, O_RDWR);
    struct stat st;
    CU_ASSERT_FATAL(fd >= 0 && fstat(fd, &st) == 0);
    off_t at = (off_t)n * LCB_INDEX_PAGE;
    int there = at < st.st_size;
    CU_ASSERT(!there || pwrite(fd, "unreadable", 10, at) == 10);
    close(fd);
    free(index);
    return there;
}

/* 0 if there is no such page. */
static int one_unreadable(int page, int dry_run, int *r)
{
    struct scene s;
    struct buf is = BUF_INITIALIZER;
    begin(&s, "backup_retention: 2d\n");
    int there = spoil_page(&s, page);
    *r = compact(&s, (struct lcb_compact){.force = 1, .dry_run = dry_run});
    if (!dry_run) {
        state_of(&s, &is);
        CU_ASSERT(lcbtest_same(&is, &s.state, "unreadable page"));
        lcbtest_clean(&s.t, s.path, 0, "unreadable page");
    }
    buf_free(&is);
    end(&s);
    return there;
}

/* Compaction makes the index anew and goes on; a dry run changes nothing, and may find that it cannot
 * say anything. */
static void test_unreadable(void)
{
    int r, told = 0;
    for (int page = 1; one_unreadable(page, 0, &r); page++) {
        CU_ASSERT_EQUAL(r, LCB_COMPACT_DONE);
        one_unreadable(page, 1, &r);
        CU_ASSERT(r == LCB_COMPACT_DONE || r == XERR_FORMAT);
        told += r == XERR_FORMAT;
    }
    CU_ASSERT(told > 0);
}

void suite_lcb_compact_rot(void);
void suite_lcb_compact_rot(void)
{
    static const struct unit_test tests[] = {
        {"wrong letters", test_rot},
        {"what is not rewritten", test_not_rewritten},
        {"marks", test_marks},
        {"progress", test_watched},
        {"damaged data", test_damage},
        {"unreadable pages", test_unreadable},
        {NULL, NULL},
    };
    unit_suite("lcb_compact_rot", tests);
}
