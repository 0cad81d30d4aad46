/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lcb_compare: what is the same is found to be, and whatever is changed in an index is
 * named. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_compare.h"
#include "backup/lcb_int.h"
#include "backup/lcb_posmap.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"

/* Two backups of the same history. */
struct pair {
    struct lcbtest t;
    struct lcbtest_history h, h2;
    struct lcb *a, *b;
    struct lcb_compare c;
    struct buf said;
    int count;
};

static int note(void *rock, const char *what)
{
    struct pair *p = rock;
    buf_appendcstr(&p->said, what);
    buf_putc(&p->said, '\n');
    p->count++;
    return 0;
}

static void begin(struct pair *p, unsigned seed)
{
    memset(p, 0, sizeof(*p));
    lcbtest_init(&p->t, "");
    lcbtest_open(&p->t, NULL);
    p->a = lcbtest_joe(&p->t);
    lcbtest_start(&p->h, seed);
    p->c = (struct lcb_compare){.to = INT64_MAX, .differs = note, .rock = p};
}

static void end(struct pair *p)
{
    lcb_close(&p->a);
    lcb_close(&p->b);
    buf_free(&p->said);
    lcbtest_fini(&p->t);
}

static void steps(struct pair *p, unsigned n)
{
    while (n--)
        CU_ASSERT_EQUAL_FATAL(lcbtest_step(&p->h, p->a), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(p->a), 0);
}

/* p->b becomes what the data file of p->a gives. */
static void replay(struct pair *p)
{
    struct buf data = BUF_INITIALIZER;
    char path[300];
    lcb_close(&p->b);
    snprintf(path, sizeof(path), "%s/copy", p->t.dir);
    lcbtest_read(lcb_path(p->a), &data);
    lcbtest_write(path, data.s, data.len);
    lcbtest_rmindex(path);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(p->t.store, path, LCB_WRITE, 0, &p->b), 0);
    buf_free(&data);
}

static int compare(struct pair *p)
{
    p->c.old = p->a->index;
    p->c.new_ = p->b->index;
    p->count = 0;
    buf_reset(&p->said);
    return lcb_compare(&p->c);
}

static void must_agree(struct pair *p, const char *what)
{
    int r = compare(p);
    if (r)
        printf("\n%s: %d: %s", what, r, buf_cstring(&p->said));
    CU_ASSERT_EQUAL(r, 0);
    CU_ASSERT_EQUAL(p->count, 0);
}

static void test_same(void)
{
    struct pair p;
    for (unsigned seed = 1; seed <= 6; seed++) {
        begin(&p, seed);
        steps(&p, 90);
        replay(&p);
        must_agree(&p, "replayed");
        end(&p);
    }
}

/* The old side has gone on since. */
static void test_went_on(void)
{
    struct pair p;
    for (unsigned seed = 1; seed <= 4; seed++) {
        begin(&p, seed);
        steps(&p, 50);
        replay(&p);
        p.c.to = lcb_position(p.a) - 1;
        for (int i = 0; i < 10; i++) {
            steps(&p, 4);
            must_agree(&p, "went on");
        }
        /* content that came again is elsewhere now */
        CU_ASSERT_EQUAL(sqldb_exec(p.a->index->db, "UPDATE contents SET chunk="
                                   "(SELECT max(seq) FROM chunks) WHERE chunk=1"), 0);
        must_agree(&p, "content came again");
        end(&p);
    }
}

/* What is changed, and what is said of it. */
static const struct {
    const char *sql, *said;
} changes[] = {
    {"UPDATE folder_states SET mboxname=mboxname||'x' WHERE until IS NULL", "mboxname is not"},
    {"UPDATE folder_states SET last_uid=last_uid+1", "last_uid is not"},
    {"UPDATE folder_states SET highestmodseq=highestmodseq+1", "highestmodseq is not"},
    {"UPDATE folder_states SET uidvalidity=uidvalidity+1", "uidvalidity is not"},
    {"UPDATE folder_states SET sync_crc=sync_crc+1", "sync_crc is not"},
    {"UPDATE folder_states SET sync_crc=NULL", "sync_crc is not"},
    {"UPDATE folder_states SET header=header||x'20'", "header is not"},
    {"UPDATE folder_states SET until=until+1 WHERE until IS NOT NULL", "its end is not"},
    {"UPDATE folder_states SET until=since+1 WHERE until IS NULL", "its end is not"},
    {"UPDATE folder_states SET since=since-1", "only the new index has it"},
    {"DELETE FROM folder_states WHERE until IS NULL", "only the old index has it"},
    {"UPDATE folder_states SET folder=folder+1000", "belong to no mailbox"},
    {"UPDATE folders SET uniqueid=uniqueid||'x'", "only the new index has it"},
    {"UPDATE folders SET crc=crc+1", "checksum in the new index is"},
    {"UPDATE folders SET crc=crc+4294967296", "checksum in the new index is"},
    {"DELETE FROM folders WHERE id=1", "mailbox user.joe"},
    {"UPDATE records SET uid=uid+1000", "only the new index has it"},
    {"UPDATE records SET modseq=modseq+1 WHERE until IS NULL", "modseq is not"},
    {"UPDATE records SET modseq=modseq+1 WHERE until IS NOT NULL", "modseq is not"},
    {"UPDATE records SET last_updated=last_updated+1", "last_updated is not"},
    {"UPDATE records SET internaldate=internaldate+1", "internaldate is not"},
    {"UPDATE records SET size=size+1", "size is not"},
    {"UPDATE records SET content=content+1 WHERE content=1", "guid is not"},
    {"UPDATE records SET content=content+10000", "belong to no message"},
    {"UPDATE records SET expunged=1-expunged", "expunged is not"},
    {"UPDATE records SET flags=flags||x'20'", "flags is not"},
    {"UPDATE records SET annotations=x'2829'", "annotations is not"},
    {"UPDATE records SET extra=x'20'", "extra is not"},
    {"UPDATE records SET since=since-1", "only the new index has it"},
    {"UPDATE records SET until=until+1 WHERE until IS NOT NULL", "its end is not"},
    {"UPDATE records SET until=since+1 WHERE until IS NULL", "its end is not"},
    {"DELETE FROM records WHERE until IS NULL", "only the old index has it"},
    {"DELETE FROM records WHERE until IS NOT NULL", "only the old index has it"},
    {"INSERT INTO records SELECT id+100000, folder, uid+100000, since, until, modseq, last_updated,"
     " internaldate, size, content, expunged, flags, annotations, extra FROM records LIMIT 1",
     "only the new index has it"},
    {"INSERT INTO records SELECT id+100000, folder+9999, uid, since, until, modseq, last_updated,"
     " internaldate, size, content, expunged, flags, annotations, extra FROM records LIMIT 1",
     "belong to no mailbox"},
    {"UPDATE contents SET chunk=NULL", ": only the old index has it"},
    {"UPDATE contents SET size=size+1", "size is not"},
    {"UPDATE contents SET chunk=chunk+1", "chunk is not"},
    {"UPDATE contents SET start=start+1", "start is not"},
    {"DELETE FROM contents WHERE id NOT IN (SELECT content FROM records)", "only the old index"},
    {"DELETE FROM subs", "subscription user.joe"},
    {"UPDATE subs SET until=since+1 WHERE until IS NULL", "its end is not"},
    {"UPDATE seens SET lastread=lastread+1", "lastread is not"},
    {"UPDATE seens SET lastuid=lastuid+1", "lastuid is not"},
    {"UPDATE seens SET lastchange=lastchange+1", "lastchange is not"},
    {"UPDATE seens SET seenuids='77'", "seenuids is not"},
    {"DELETE FROM seens", "seen state of unique-"},
    {"UPDATE scripts SET last_update=last_update+1", "last_update is not"},
    {"UPDATE scripts SET guid=x'00'", "guid is not"},
    {"UPDATE scripts SET content=x'00'", "content is not"},
    {"DELETE FROM scripts", "script s"},
    {"UPDATE active SET filename='q.bc'", "filename is not"},
    {"DELETE FROM active", "active script"},
    {"UPDATE quotas SET limits=x'00'", "limits is not"},
    {"DELETE FROM quotas", "quota of user.joe."},
    {"UPDATE annots SET value=x'00'", "value is not"},
    {"DELETE FROM annots", "annotation"},
    {"UPDATE chunks SET start=start+1", "start is not"},
    {"UPDATE chunks SET length=length+1", "length is not"},
    {"UPDATE chunks SET text_length=text_length+1", "text_length is not"},
    {"UPDATE chunks SET first_time=first_time+1", "first_time is not"},
    {"DELETE FROM chunks WHERE seq=1", "chunk 1: only the old index has it"},
    {"INSERT INTO pieces VALUES (1, 0, 0)", "piece of chunk 1 0: only the new index has it"},
    {"UPDATE ticks SET time=time+1", "time is not"},
    {"DELETE FROM ticks", "time from position"},
    {"INSERT INTO lost VALUES (16777217)", "damage of chunk 1, line 1: only the new index has it"},
    {"UPDATE replaced SET times=times+1", "times is not"},
    {"DELETE FROM replaced", "count of changes of the name"},
    {"INSERT INTO meta VALUES ('history', 77)", "beginning of the history"},
};

static void one_change(struct pair *p, const char *sql, const char *said)
{
    CU_ASSERT_EQUAL(sqldb_exec(p->b->index->db, "SAVEPOINT change"), 0);
    int before = sqlite3_total_changes(p->b->index->db->db);
    CU_ASSERT_EQUAL(sqldb_exec(p->b->index->db, sql), 0);
    CU_ASSERT(sqlite3_total_changes(p->b->index->db->db) > before);
    int r = compare(p), found = strstr(buf_cstring(&p->said), said) != NULL;
    if (r != 1 || !found)
        printf("\n%s: %d, \"%s\" not in:\n%s", sql, r, said, buf_cstring(&p->said));
    CU_ASSERT_EQUAL(r, 1);
    CU_ASSERT(found);
    p->c.differs = NULL;
    CU_ASSERT_EQUAL(compare(p), 1);
    p->c.differs = note;
    CU_ASSERT_EQUAL(sqldb_exec(p->b->index->db, "ROLLBACK TO change; RELEASE change"), 0);
}

static void test_differences(void)
{
    struct pair p;
    begin(&p, 5);
    steps(&p, 150);
    /* the drawn history has no two servers under one name */
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL(lcbtest_mailbox(p.a, lcbtest_header(i ? "twin-1" : "twin-2", "user.joe.twin", 1,
                                                            1, ""), NULL, NULL), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(p.a, 999, 0), 0); /* that nothing refers to */
    steps(&p, 1);
    replay(&p);
    must_agree(&p, "before");
    for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++)
        one_change(&p, changes[i].sql, changes[i].said);
    must_agree(&p, "after");
    end(&p);
}

static int stop_at_once(void *rock, const struct lcb_difference *d)
{
    struct lcb_difference *kept = rock;
    *kept = *d;
    kept->what = NULL;
    return -77;
}

static void test_found(void)
{
    struct pair p;
    struct lcb_difference d = {.side = 9};
    begin(&p, 2);
    steps(&p, 80);
    replay(&p);
    CU_ASSERT_EQUAL(sqldb_exec(p.b->index->db, "DELETE FROM records WHERE uid=1"), 0);
    p.c.found = stop_at_once;
    p.c.rock = &d;
    CU_ASSERT_EQUAL(compare(&p), -77);
    CU_ASSERT(d.side < 0);
    UNIT_STR(d.table, "records");
    CU_ASSERT_EQUAL(d.uid, 1);
    CU_ASSERT(d.since[0] > 0);
    CU_ASSERT_EQUAL(d.since[1], 0);
    CU_ASSERT(d.chunk > 0);
    end(&p);
}

/* ---- lines that moved ---- */

enum { CHUNKS_MAX = 4000 };
struct lines {
    int64_t seq[CHUNKS_MAX];
    unsigned lines[CHUNKS_MAX];
    unsigned n, next; /* line of chunk n, from 1 */
    struct buf text;
};

static int keep_chunk(void *rock, const struct lcb_chunk *chunk)
{
    struct lines *l = rock;
    CU_ASSERT_FATAL(l->n < CHUNKS_MAX);
    l->seq[l->n++] = chunk->seq;
    return 0;
}

static int keep_text(void *rock, const void *p, size_t n)
{
    struct lines *l = rock;
    buf_appendmap(&l->text, p, n);
    return 0;
}

/* How many lines each chunk behind FROM has. */
static void count_lines(struct lcb *b, int64_t from, struct lines *l)
{
    static const char word[] = " APPLY ";
    memset(l, 0, sizeof(*l));
    CU_ASSERT_EQUAL(lcb_foreach_chunk(b, keep_chunk, l), 0);
    for (unsigned i = 0; i < l->n; i++) {
        buf_reset(&l->text);
        CU_ASSERT_EQUAL(lcb_read_chunk(b, l->seq[i], keep_text, l), 0);
        for (size_t at = 0; at + 7 <= l->text.len; at++)
            l->lines[i] += !memcmp(l->text.s + at, word, 7);
        if (l->seq[i] <= LCB_POS_SEQ(from - 1))
            l->lines[i] = 0;
    }
    l->n = 0;
    l->next = 1;
    buf_free(&l->text);
}

static int at_line(struct lines *l)
{
    while (l->n < CHUNKS_MAX && l->next > l->lines[l->n]) {
        l->n++;
        l->next = 1;
    }
    return l->n < CHUNKS_MAX;
}

/* Runs from the lines of p->a behind FROM to those of p->b behind TO, the first MOST of them. */
static size_t make_map(struct pair *p, int64_t from, int64_t to, int spread, size_t most)
{
    static struct lines a, b;
    size_t n = 0;
    p->c.map = lcb_posmap_new(p->t.store, 0);
    count_lines(p->a, from, &a);
    count_lines(p->b, to, &b);
    while (at_line(&a) && at_line(&b)) {
        unsigned left = a.lines[a.n] - a.next + 1, room = b.lines[b.n] - b.next + 1;
        unsigned count = left < room ? left : room;
        struct lcb_posrun run = {.first = LCB_POS(a.seq[a.n], a.next),
                                 .to = LCB_POS(b.seq[b.n], b.next), .spread = spread};
        run.last = run.first + count - 1;
        run.to_last = run.to + count - 1;
        if (n++ < most)
            CU_ASSERT_EQUAL(lcb_posmap_add(p->c.map, &run), 0);
        a.next += count;
        b.next += count;
    }
    CU_ASSERT(!at_line(&a));
    CU_ASSERT(!at_line(&b));
    return n;
}

/* The same step of both. */
static void step_both(struct pair *p)
{
    int64_t now = lcbtest_time();
    CU_ASSERT_EQUAL_FATAL(lcbtest_step(&p->h, p->a), 0);
    lcbtest_settime(now);
    CU_ASSERT_EQUAL_FATAL(lcbtest_step(&p->h2, p->b), 0);
}

static void other_backup(struct pair *p)
{
    CU_ASSERT_EQUAL_FATAL(lcb_open(p->t.store, "jim", LCB_WRITE | LCB_CREATE, 0, &p->b), 0);
    p->b->df.chunk_size = 30000;
    p->h2 = p->h;
}

static void test_runs(void)
{
    struct pair p;
    for (unsigned seed = 1; seed <= 5; seed++) {
        begin(&p, seed);
        other_backup(&p);
        for (int i = 0; i < 100; i++) {
            step_both(&p);
            if (i % 7 == 0)
                CU_ASSERT_EQUAL(lcb_commit(p.a), 0);
            if (i % 23 == 0)
                CU_ASSERT_EQUAL(lcb_commit(p.b), 0);
        }
        CU_ASSERT_EQUAL(lcb_commit(p.a), 0);
        CU_ASSERT_EQUAL(lcb_commit(p.b), 0);
        CU_ASSERT_EQUAL(compare(&p), 1);
        size_t n = make_map(&p, 0, 0, seed % 2, SIZE_MAX);
        must_agree(&p, "lines in other chunks");
        /* a line's time, and lines elsewhere */
        one_change(&p, "UPDATE ticks SET time=time-1", "its time is not");
        one_change(&p, "UPDATE ticks SET time=time+1", "its time is not");
        if (seed % 2 == 0)
            one_change(&p, "UPDATE records SET since=since+1", "UID 1 of mailbox");
        one_change(&p, "UPDATE contents SET chunk=NULL", "presence or size");
        one_change(&p, "UPDATE contents SET size=size+1", "presence or size");
        lcb_posmap_free(&p.c.map);
        make_map(&p, 0, 0, seed % 2, n / 2);
        CU_ASSERT_EQUAL(compare(&p), 1);
        lcb_posmap_free(&p.c.map);
        end(&p);
    }
}

/* ---- a base ---- */

static int log_text(void *rock, const char *verb, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int log_text(void *rock, const char *verb, const char *fmt, ...)
{
    struct pair *p = rock;
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    CU_ASSERT_EQUAL(lcbtest_log(p->b, verb, text), 0);
    return 0;
}

static int base_content(void *rock, const struct message_guid *guid, uint64_t size)
{
    struct pair *p = rock;
    struct lines l = {.n = 0};
    CU_ASSERT_EQUAL(lcb_read_content(p->a, guid, keep_text, &l), 0);
    CU_ASSERT_EQUAL(l.text.len, size);
    CU_ASSERT_EQUAL(lcb_log_message(p->b, "default", guid, size, l.text.s, -1, 0), 0);
    buf_free(&l.text);
    return 0;
}

static int base_record(void *rock, const struct lcb_record *rec)
{
    struct pair *p = rock;
    CU_ASSERT_EQUAL(lcb_log_mailbox_record(p->b, &rec->rec), 0);
    return 0;
}

static int base_folder(void *rock, const struct lcb_folder *f)
{
    struct pair *p = rock;
    struct dlist_pool *pool = dlist_pool_new(1 << 20);
    struct sync_header h;
    CU_ASSERT_EQUAL(sync_header_parsetext(&h, pool, f->header, f->headerlen), 0);
    CU_ASSERT_EQUAL(lcb_log_mailbox_begin(p->b, &h), 0);
    CU_ASSERT_EQUAL(lcb_foreach_record(p->a, f->id, LCB_NOW, base_record, p), 0);
    CU_ASSERT_EQUAL(lcb_log_mailbox_end(p->b, NULL), 0);
    dlist_pool_free(&pool);
    return 0;
}

static int base_sub(void *rock, const char *mboxname)
{
    return log_text(rock, "SUB", "%%(USERID joe MBOXNAME %s)", mboxname);
}

static int base_seen(void *rock, const struct lcb_seen *s)
{
    return log_text(rock, "SEEN", "%%(USERID joe UNIQUEID %s LASTREAD %lld LASTUID %u LASTCHANGE %lld"
                    " SEENUIDS %s)", s->uniqueid, (long long)s->lastread, s->lastuid,
                    (long long)s->lastchange, s->seenuids);
}

static int base_script(void *rock, const struct lcb_script *s)
{
    log_text(rock, "SIEVE", "%%(USERID joe FILENAME %s LAST_UPDATE %lld CONTENT {%zu}\r\n%.*s)",
             s->filename, (long long)s->last_update, s->len, (int)s->len, (const char *)s->content);
    return s->active ? log_text(rock, "ACTIVATE_SIEVE", "%%(USERID joe FILENAME %.2s.bc)", s->filename)
                     : 0;
}

static int base_quota(void *rock, const char *root, const char *text, size_t len)
{
    (void)root;
    return log_text(rock, "QUOTA", "%.*s", (int)len, text);
}

static int base_annotation(void *rock, const char *entry, const char *userid, const char *value,
                           size_t len)
{
    return log_text(rock, "ANNOTATION", "%%(MBOXNAME \"\" ENTRY %s USERID %s VALUE %.*s)", entry,
                    userid, (int)len, value);
}

/* What p->a says now, as the beginning of p->b. A script that is active without being there cannot be
 * told by the queries: the history is drawn so that there is none. */
static int64_t make_base(struct pair *p)
{
    struct lcb *a = p->a;
    int64_t held;
    lcbtest_settime(p->a->df.last_time);
    other_backup(p);
    if (sqldb_int(a->index->db, &held, "SELECT 1 FROM active WHERE until IS NULL AND"
                  " replace(filename,'.bc','.script') NOT IN (SELECT filename FROM scripts WHERE"
                  " until IS NULL)", "") == 0)
        CU_ASSERT_EQUAL(lcbtest_log(p->a, "UNACTIVATE_SIEVE", "%(USERID joe)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(a), 0);
    CU_ASSERT_EQUAL(lcb_foreach_content(a, LCB_NOW, base_content, p), 0);
    CU_ASSERT_EQUAL(lcb_foreach_folder(a, LCB_NOW, 0, base_folder, p), 0);
    CU_ASSERT_EQUAL(lcb_foreach_sub(a, LCB_NOW, base_sub, p), 0);
    CU_ASSERT_EQUAL(lcb_foreach_seen(a, LCB_NOW, base_seen, p), 0);
    CU_ASSERT_EQUAL(lcb_foreach_script(a, LCB_NOW, base_script, p), 0);
    CU_ASSERT_EQUAL(lcb_foreach_quota(a, LCB_NOW, base_quota, p), 0);
    CU_ASSERT_EQUAL(lcb_foreach_annotation(a, LCB_NOW, base_annotation, p), 0);
    CU_ASSERT_EQUAL(lcb_commit(p->b), 0);
    return lcb_position(p->b) - 1;
}

static void one_window(unsigned seed)
{
    struct pair p;
    begin(&p, seed);
    steps(&p, 60);
    int64_t base = make_base(&p);
    int64_t from = p.c.from = lcb_position(p.a) - 1;
    lcbtest_settime(p.a->df.last_time + 5); /* the clock of a history goes back now and then */
    for (int i = 0; i < 60; i++)
        step_both(&p);
    CU_ASSERT_EQUAL(lcb_commit(p.a), 0);
    CU_ASSERT_EQUAL(lcb_commit(p.b), 0);
    CU_ASSERT_EQUAL(lcb_index_begin(p.b->index), 0);
    make_map(&p, from, base, 0, SIZE_MAX);
    CU_ASSERT_EQUAL(compare(&p), 1); /* it is not known that b begins with a base */
    CU_ASSERT_EQUAL(lcb_index_sethistory(p.b->index, base), 0);
    must_agree(&p, "since a base");
    p.c.from = 0;
    CU_ASSERT_EQUAL(compare(&p), 1);
    p.c.from = from;
    one_change(&p, "UPDATE records SET flags=flags||x'20' WHERE since=(SELECT min(since) FROM records"
                   " WHERE until IS NULL AND expunged=0) AND until IS NULL", "flags is not");
    one_change(&p, "DELETE FROM records WHERE since=(SELECT min(since) FROM records WHERE until IS NULL"
                   " AND expunged=0) AND until IS NULL", "only the old index has it");
    lcb_posmap_free(&p.c.map);
    end(&p);
}

static void test_window(void)
{
    for (unsigned seed = 1; seed <= 8; seed++)
        one_window(seed);
}

void suite_lcb_compare(void);
void suite_lcb_compare(void)
{
    static const struct unit_test tests[] = {
        {"the same", test_same},
        {"the old side went on", test_went_on},
        {"each kind of difference", test_differences},
        {"a difference as a struct", test_found},
        {"lines in other chunks", test_runs},
        {"a window and a base", test_window},
        {NULL, NULL},
    };
    unit_suite("lcb_compare", tests);
}
