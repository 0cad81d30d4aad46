/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Every byte of a small backup is wrong once: of its data file, its index, and the index' WAL; and
 * each of them ends at every byte once. Whatever that byte is, every function of the library must come
 * back, with a result or a known error, after a bounded number of calls; a message is given out as it
 * was or not at all; whatever is not in the damaged commit stays readable; the data file loses no
 * byte that is not kept aside; and the backup can be written to again.
 *
 * A wrong byte of an index may be a wrong letter in a name, which nothing but a comparison with the
 * data file can find (that is what verification is for). So of a damaged index it is asked that no
 * wrong message comes of it, that it does not get into the data file, and that the next opening after
 * SQLite has seen the damage makes another one.
 *
 * CYRUS_BACKUPS_LONG=1: all bytes of the index and its WAL too, which by default are taken in strides,
 * and every byte and end of the data file without an index, too, and written to with one, which by
 * default is each second. */
#include "config.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_diff.h"
#include "backup/lcb_history.h"
#include "backup/lcb_int.h"
#include "backup/lcb_summary.h"
#include "backup/lcb_verify.h"
#include "cunit/lcbtest_victim.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum {
    HEADER = 40, /* of a member */
    INDEX_STRIDE = 61,
    WAL_STRIDE = 211,
    BASE_STRIDE = 43, /* of a compacted data file */
    STEPS_MAX = 2000, /* rows, records, pieces of text: there are some dozen */
    CALLS_MAX = 3000, /* of the file system: reading all takes about a hundred */
};


static long steps;

static int step(void)
{
    return ++steps > STEPS_MAX ? 999 : 0; /* more than there is: it goes round */
}

/* ---- use of it ---- */

struct use {
    struct victim *v;
    struct lcb *b;
    int error;             /* the first one */
    int seen;              /* SQLite saw that the index is damaged */
    int written;           /* what is new is committed */
    int folders, records;
    unsigned whole;        /* bit I: message I came out as it was */
};

static void note(struct use *u, int r)
{
    CU_ASSERT(r >= 0 ? r != 999 : victim_known_error(r));
    if (r < 0 && !u->error)
        u->error = r;
    u->seen |= r == XERR_SQL;
}

static int on_record(void *rock, const struct lcb_record *rec)
{
    struct use *u = rock;
    (void)rec;
    u->records++;
    return step();
}

static int on_folder(void *rock, const struct lcb_folder *f)
{
    struct use *u = rock;
    u->folders += !f->deleted;
    CU_ASSERT(strlen(f->uniqueid) < 1000 && strlen(f->mboxname) < 1000);
    note(u, lcb_foreach_record(u->b, f->id, LCB_NOW, on_record, u));
    note(u, lcb_foreach_record(u->b, f->id, LCB_POS(2, 0), on_record, u));
    return step();
}

static int on_bytes(void *rock, const void *p, size_t n)
{
    if (rock)
        buf_appendmap(rock, p, n);
    return step();
}

static int on_chunk(void *rock, const struct lcb_chunk *c)
{
    struct use *u = rock;
    int r = lcb_read_chunk(u->b, c->seq, on_bytes, NULL);
    note(u, r == XERR_FORMAT ? 0 : r); /* that it is damaged is no error of ours */
    return step();
}

static int on_pair(void *rock, const char *a, const char *b)
{
    (void)rock;
    CU_ASSERT(strlen(a) < 1000 && strlen(b) < 1000);
    return step();
}

static int on_name(void *rock, const char *name)
{
    (void)rock;
    CU_ASSERT(strlen(name) < 1000);
    return step();
}

static int on_seen(void *rock, const struct lcb_seen *s)
{
    return on_pair(rock, s->uniqueid, s->seenuids);
}

static int on_script(void *rock, const struct lcb_script *s)
{
    return on_name(rock, s->filename);
}

static int on_quota(void *rock, const char *root, const char *text, size_t len)
{
    (void)text;
    (void)len;
    return on_name(rock, root);
}

static int on_annotation(void *rock, const char *entry, const char *userid, const char *value,
                         size_t len)
{
    (void)value;
    (void)len;
    return on_pair(rock, entry, userid);
}

static int on_content(void *rock, const struct message_guid *guid, uint64_t size)
{
    struct use *u = rock;
    (void)size;
    note(u, lcb_content_folders(u->b, guid, LCB_NOW, on_pair, NULL));
    int r = lcb_check_content(u->b, guid);
    note(u, r == XERR_FORMAT ? 0 : r);
    return step();
}

/* Message I, byte for byte or not. */
static void read_message(struct use *u, unsigned number, unsigned bit)
{
    struct buf want = BUF_INITIALIZER, got = BUF_INITIALIZER;
    struct message_guid guid;
    lcbtest_message(number, &want, &guid);
    int r = lcb_read_content(u->b, &guid, on_bytes, &got);
    note(u, r == XERR_FORMAT || r == XERR_NOTFOUND ? 0 : r);
    if (!r) {
        CU_ASSERT(!buf_cmp(&got, &want));
        u->whole |= bit;
    }
    buf_free(&want);
    buf_free(&got);
}

static int on_event(void *rock, const struct lcb_event *e)
{
    (void)rock;
    CU_ASSERT(strlen(e->kind) < 100 && strlen(e->item) < 1000);
    for (unsigned i = 0; i < e->count; i++)
        CU_ASSERT(e->details[i].type == LCB_DETAIL_NUMBER || strlen(e->details[i].text) < 10000);
    return step();
}

static void ask_everything(struct use *u)
{
    static const struct lcb_events all = {.from = 0, .to = LCB_NOW};
    if (!u->b->writable) {
        note(u, lcb_foreach_event(u->b, &all, on_event, NULL));
        note(u, lcb_foreach_difference(u->b, LCB_POS(2, 0), LCB_NOW, 0, on_event, NULL));
    }
    for (int at = 0; at < 2; at++) {
        int64_t pos = at ? LCB_POS(3, 0) : LCB_NOW;
        note(u, lcb_foreach_folder(u->b, pos, !at, on_folder, u));
        note(u, lcb_foreach_sub(u->b, pos, on_name, u));
        note(u, lcb_foreach_seen(u->b, pos, on_seen, u));
        note(u, lcb_foreach_script(u->b, pos, on_script, u));
        note(u, lcb_foreach_quota(u->b, pos, on_quota, u));
        note(u, lcb_foreach_annotation(u->b, pos, on_annotation, u));
        note(u, lcb_foreach_content(u->b, pos, on_content, u));
    }
    note(u, lcb_foreach_chunk(u->b, on_chunk, u));
    for (int i = 0; i < u->v->messages; i++)
        read_message(u, victim_message(u->v, i), 1u << i);
    read_message(u, VICTIM_NEW, VICTIM_NEW_BIT);
}

/* Something new comes, as from a client, who may have sent it before: 0 once it is committed. */
static int write_something(struct lcb *b)
{
    const char *records[2] = {lcbtest_record(1, 9, "", victim_hex(VICTIM_NEW)), NULL};
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    lcbtest_message(VICTIM_NEW, &text, &guid);
    buf_free(&text);
    int r = lcb_has_content(b, &guid, NULL);
    r = r ? r < 0 ? r : 0 : lcbtest_upload(b, VICTIM_NEW, 0);
    if (!r)
        r = lcbtest_mailbox(b, lcbtest_header("newbox", "user.joe.New", 1, 9, ""), records, NULL);
    if (!r)
        r = lcb_commit(b);
    return r;
}

/* Open it (FLAGS as for lcb_open), ask everything, write if that was meant. U says what came of it;
 * its ERROR is the first there was. */
static void use(struct victim *v, int flags, enum victim_past past, struct use *u)
{
    long calls = vfs_fault_calls(v->vfs);
    memset(u, 0, sizeof(*u));
    u->v = v;
    steps = 0;
    struct lcb_summary summary;
    int r = lcb_summary_read(v->t.store, v->path, 1, &summary);
    CU_ASSERT(!r || victim_known_error(r));
    r = lcb_open(v->t.store, "joe", flags, 0, &u->b);
    CU_ASSERT((r == 0) == (u->b != NULL));
    note(u, r);
    if (u->b) {
        victim_check_past(v, u->b, past);
        ask_everything(u);
        if (flags & LCB_WRITE) {
            r = write_something(u->b);
            u->written = !r;
            note(u, r);
        }
        lcb_close(&u->b);
    }
    CU_ASSERT(vfs_fault_calls(v->vfs) - calls < CALLS_MAX);
}

/* ---- the files ---- */

static glob_t tails(const struct victim *v)
{
    char pattern[400];
    glob_t g;
    memset(&g, 0, sizeof(g));
    snprintf(pattern, sizeof(pattern), "%s.tail.*", v->path);
    glob(pattern, 0, NULL, &g);
    return g;
}

/* The data file begins with the first KEPT of the N bytes at P; what is not there is in a tail. */
static void check_kept(const struct victim *v, const char *p, size_t n, size_t kept)
{
    struct buf now = BUF_INITIALIZER, tail = BUF_INITIALIZER;
    lcbtest_read(v->path, &now);
    CU_ASSERT(now.len >= kept && !memcmp(now.s, p, kept));
    if (now.len < n || memcmp(now.s, p, n)) {
        glob_t g = tails(v);
        CU_ASSERT_EQUAL(g.gl_pathc, 1);
        if (g.gl_pathc)
            lcbtest_read(g.gl_pathv[0], &tail);
        CU_ASSERT(tail.len <= n && !memcmp(tail.s, p + n - tail.len, tail.len));
        CU_ASSERT(now.len >= n - tail.len && !memcmp(now.s, p, n - tail.len));
        globfree(&g);
    }
    buf_free(&now);
    buf_free(&tail);
}

/* ---- the data file ---- */

/* What is asked of the past. Without an index the file cannot know what was deleted if it is the line
 * that says so that is damaged, and nothing tells of compaction if the file ends before what it
 * restated does. */
static enum victim_past past_of(const struct victim *v, size_t n, int first, int last,
                                const struct lcbtest_index *ix)
{
    if (n < v->data.len || last > first)
        return first <= v->base ? VICTIM_DROPPED : VICTIM_HISTORY;
    return ix ? VICTIM_DELETED : VICTIM_HISTORY;
}

/* N bytes at P are the data file; commits FIRST to LAST are damaged or missing. */
static void check_data(struct victim *v, const char *p, size_t n, int first, int last,
                       const struct lcbtest_index *ix, const char *what, size_t at)
{
    unsigned failures = CU_get_number_of_failures(), want = victim_expected(v, first, last);
    size_t kept = first ? (size_t)v->end[first - 1] : 0;
    struct buf now = BUF_INITIALIZER;
    const enum victim_past past = past_of(v, n, first, last, ix);
    struct use u;
    victim_put(v, p, n, ix);
    use(v, 0, past, &u); /* a reader changes nothing */
    lcbtest_read(v->path, &now);
    CU_ASSERT(now.len == n && (!n || !memcmp(now.s, p, n)));
    if (u.error) { /* only a file that does not begin as a data file cannot be read at all */
        CU_ASSERT(u.error == XERR_FORMAT && first == 0);
    } else {
        CU_ASSERT_EQUAL(u.whole & want, want);
    }
    if (!ix || victim_turn(at, 2)) {
        use(v, LCB_WRITE, past, &u);
        CU_ASSERT_EQUAL(u.error, 0);
        CU_ASSERT_EQUAL(u.whole & want, want);
        check_kept(v, p, n, kept);
    }
    if ((!ix || victim_turn(at, 2)) && victim_turn(at, 3)) {
        use(v, 0, past, &u);
        CU_ASSERT_EQUAL(u.error, 0);
        CU_ASSERT_EQUAL(u.whole & (want | VICTIM_NEW_BIT), want | VICTIM_NEW_BIT);
    }
    if (CU_get_number_of_failures() != failures)
        printf("\n%s at %zu, commits %d to %d\n", what, at, first, last);
    buf_free(&now);
}

/* That a member of a file cannot be read which was not compacted does not take from its history, but
 * for the first second. */
static void check_begin(struct victim *v, int commit)
{
    struct lcb *b = NULL;
    int64_t pos, time = 0;
    if (v->kind == VICTIM_BASE || commit < 2)
        return;
    CU_ASSERT_EQUAL_FATAL(lcb_open(v->t.store, "joe", 0, 0, &b), 0);
    CU_ASSERT_EQUAL(lcb_history_begin(b, &pos, &time), 0);
    CU_ASSERT_EQUAL(time, v->history);
    lcb_close(&b);
}

/* Time and origin in a gzip header mean nothing, and what is damaged may turn out to be whole. So it is
 * only said what must be there, not what must be missing. And one thing cannot be known without an
 * index: if the header of the last commit but one is damaged, whether it was one, or whether the
 * machine crashed before all of the last one was written. Then both are kept aside. */
static void flip_data(struct victim *v, size_t by, const struct lcbtest_index *ix, const char *what)
{
    char *bytes = xmemdup(v->data.s, v->data.len);
    for (size_t at = victim_first(by); at < v->data.len; at += victim_stride(by)) {
        int n = victim_commit_of(v, (off_t)at);
        int unknown = !ix && n == v->commits - 2 && (off_t)at < v->end[n - 1] + HEADER;
        bytes[at] = victim_wrong(bytes[at], at);
        check_data(v, bytes, v->data.len, n, unknown ? n + 1 : n, ix, what, at);
        if (!ix && victim_turn(at, 5))
            check_begin(v, n);
        bytes[at] = v->data.s[at];
    }
    free(bytes);
}

static void test_data_flipped(void)
{
    struct victim v;
    victim_make(&v, VICTIM_PLAIN);
    flip_data(&v, 1, &v.live, "flipped");
    victim_free(&v);
}

static void test_data_flipped_alone(void)
{
    struct victim v;
    victim_make(&v, VICTIM_PLAIN);
    flip_data(&v, 2, NULL, "flipped, without an index");
    victim_free(&v);
}

static void test_base_flipped(void)
{
    struct victim v;
    victim_make(&v, VICTIM_BASE);
    flip_data(&v, BASE_STRIDE, &v.live, "flipped");
    victim_free(&v);
}

static void test_base_flipped_alone(void)
{
    struct victim v;
    victim_make(&v, VICTIM_BASE);
    flip_data(&v, BASE_STRIDE, NULL, "flipped, without an index");
    victim_free(&v);
}

static void cut_data(enum victim_kind kind, size_t by)
{
    struct victim v;
    victim_make(&v, kind);
    for (size_t n = victim_first(by); n < v.data.len; n += victim_stride(by)) {
        int c = victim_commit_of(&v, (off_t)n);
        if (victim_turn(n / by, 2))
            check_data(&v, v.data.s, n, c, v.commits - 1, &v.live, "cut", n);
        if (victim_turn(n / by + 1, 2))
            check_data(&v, v.data.s, n, c, v.commits - 1, NULL, "cut, without an index", n);
    }
    victim_free(&v);
}

static void test_data_cut(void)
{
    cut_data(VICTIM_PLAIN, 1);
}

static void test_base_cut(void)
{
    cut_data(VICTIM_BASE, BASE_STRIDE);
}

/* ---- what compaction restated ---- */

static int on_past_event(void *rock, const struct lcb_event *e)
{
    const struct victim *v = rock;
    CU_ASSERT(e->time > v->history); /* what was restated is no event */
    return step();
}

/* The log from where history begins. */
static void check_log(struct victim *v)
{
    struct lcb_events all = {.to = LCB_NOW};
    struct lcb *b = NULL;
    int64_t time;
    steps = 0;
    CU_ASSERT_EQUAL_FATAL(lcb_open(v->t.store, "joe", 0, 0, &b), 0);
    victim_check_past(v, b, VICTIM_HISTORY);
    CU_ASSERT_EQUAL(lcb_history_begin(b, &all.from, &time), 0);
    CU_ASSERT_EQUAL(lcb_foreach_event(b, &all, on_past_event, v), 0);
    CU_ASSERT(steps > 0);
    lcb_close(&b);
}

/* Without an index only the header of one member tells that there was something before, and what of the
 * file is no history: wherever that is damaged, nobody says anything else, nor makes it so. */
static void test_base_header(void)
{
    struct victim v;
    victim_make(&v, VICTIM_BASE);
    char *bytes = xmemdup(v.data.s, v.data.len);
    const size_t from = (size_t)v.end[v.base - 1];
    for (size_t at = from; at < from + HEADER; at++) {
        unsigned failures = CU_get_number_of_failures();
        struct lcb_verify found = {.found = NULL};
        struct lcb_compact how = {.userid = "joe", .force = 1};
        struct lcb_compact_result result;
        bytes[at] = victim_wrong(bytes[at], at);
        victim_restore(&v, bytes, v.data.len, NULL, &v.db);
        CU_ASSERT_EQUAL(lcb_verify(v.t.store, v.path, &found), 0);
        CU_ASSERT(found.no_index && found.index > 0);
        check_log(&v);
        CU_ASSERT_EQUAL(lcb_compact(v.t.store, &how, &result), LCB_COMPACT_DONE);
        check_log(&v);
        bytes[at] = v.data.s[at];
        if (CU_get_number_of_failures() != failures)
            printf("\nbyte %zu of the header\n", at - from);
    }
    free(bytes);
    victim_free(&v);
}

/* ---- the index ---- */

/* WANT: the data file, when something is written and the index is as it should be. */
static void write_well(struct victim *v, struct buf *want)
{
    struct use u;
    victim_put(v, v->data.s, v->data.len, &v->folded);
    use(v, LCB_WRITE, VICTIM_ANYTHING, &u);
    CU_ASSERT_EQUAL(u.error, 0);
    CU_ASSERT_EQUAL(u.whole, victim_expected(v, -1, -1));
    lcbtest_read(v->path, want);
    CU_ASSERT(want->len > v->data.len);
    lcbtest_rmindex(v->path);
    use(v, 0, VICTIM_ANYTHING, &u); /* and by itself it says all of that */
    CU_ASSERT_EQUAL(u.error, 0);
    CU_ASSERT_EQUAL(u.whole, victim_expected(v, -1, -1) | VICTIM_NEW_BIT);
}

/* Verification finds whatever the index says that the data file does not. GOOD is what it should. */
static void check_verify(struct victim *v, const struct lcbtest_index *ix, const struct buf *good,
                         size_t at)
{
    unsigned failures = CU_get_number_of_failures();
    struct lcb_verify found = {.found = NULL};
    struct buf now = BUF_INITIALIZER;
    victim_put(v, v->data.s, v->data.len, ix);
    long calls = vfs_fault_calls(v->vfs);
    int r = lcb_verify(v->t.store, v->path, &found);
    CU_ASSERT(vfs_fault_calls(v->vfs) - calls < CALLS_MAX);
    CU_ASSERT(!r || victim_known_error(r));
    CU_ASSERT_EQUAL(found.data, 0);
    if (!r && !found.index) {
        lcbtest_dump(v->path, &now);
        CU_ASSERT(lcbtest_same(&now, good, "verify says that this is good"));
    }
    if (CU_get_number_of_failures() != failures)
        printf("\nverify: %zu: error %d, data %lld, index %lld\n", at, r, (long long)found.data,
               (long long)found.index);
    buf_free(&now);
}

static void check_index(struct victim *v, const struct lcbtest_index *ix, const struct buf *want,
                        const char *what, size_t at)
{
    unsigned failures = CU_get_number_of_failures();
    struct buf now = BUF_INITIALIZER;
    struct use u;
    victim_put(v, v->data.s, v->data.len, ix);
    use(v, 0, VICTIM_ANYTHING, &u);
    lcbtest_read(v->path, &now);
    CU_ASSERT(!buf_cmp(&now, &v->data));
    use(v, LCB_WRITE, VICTIM_ANYTHING, &u);
    if (u.seen)
        use(v, LCB_WRITE, VICTIM_ANYTHING, &u); /* this is another index */
    CU_ASSERT(!u.seen);
    CU_ASSERT(u.written);
    lcbtest_read(v->path, &now);
    CU_ASSERT(!buf_cmp(&now, want));
    if (CU_get_number_of_failures() != failures)
        printf("\n%s at %zu\n", what, at);
    buf_free(&now);
}

/* The bytes of PART of IX, one after the other. */
static void damage_index(struct victim *v, struct lcbtest_index *ix, struct buf *part,
                         size_t by, const char *what)
{
    struct buf want = BUF_INITIALIZER, good = BUF_INITIALIZER;
    size_t whole = part->len;
    write_well(v, &want);
    victim_put(v, v->data.s, v->data.len, ix);
    lcbtest_dump(v->path, &good);
    for (size_t at = victim_first(by); at < whole; at += victim_stride(by)) {
        char was = part->s[at];
        part->s[at] = victim_wrong(was, at);
        check_index(v, ix, &want, what, at);
        if (!ix->wal.len) /* with one it may be an earlier state, which is no fault */
            check_verify(v, ix, &good, at);
        part->s[at] = was;
        if (at % 4 == 0) {
            part->len = at;
            check_index(v, ix, &want, "cut", at);
            part->len = whole;
        }
    }
    buf_free(&want);
    buf_free(&good);
}

static void test_index(void)
{
    struct victim v;
    victim_make(&v, VICTIM_PLAIN);
    damage_index(&v, &v.folded, &v.folded.db, INDEX_STRIDE, "index");
    victim_free(&v);
}

static void test_wal(void)
{
    struct victim v;
    victim_make(&v, VICTIM_PLAIN);
    damage_index(&v, &v.live, &v.live.wal, WAL_STRIDE, "WAL");
    victim_free(&v);
}

static void test_base_index(void)
{
    struct victim v;
    victim_make(&v, VICTIM_BASE);
    damage_index(&v, &v.folded, &v.folded.db, 72 * INDEX_STRIDE, "index");
    damage_index(&v, &v.live, &v.live.wal, 48 * WAL_STRIDE, "WAL");
    victim_free(&v);
}

void suite_lcb_damage(void);
void suite_lcb_damage(void)
{
    static const struct unit_test tests[] = {
        {"every byte of the data file", test_data_flipped},
        {"bytes of a data file without an index", test_data_flipped_alone},
        {"every end of the data file", test_data_cut},
        {"bytes and ends of the index", test_index},
        {"bytes and ends of its WAL", test_wal},
        {"bytes of a compacted data file", test_base_flipped},
        {"bytes of a compacted data file without an index", test_base_flipped_alone},
        {"ends of a compacted data file", test_base_cut},
        {"every byte of the header that tells of compaction", test_base_header},
        {"bytes and ends of its index and WAL", test_base_index},
        {NULL, NULL},
    };
    unit_suite("lcb_damage", tests);
}
