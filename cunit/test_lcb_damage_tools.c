/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What test_lcb_damage.c does to readers and writers, for what rewrites a backup as a whole: a byte of
 * the data file, the index, its WAL or backups.db is wrong, or backups.db ends there; then it is
 * verified, repaired, compacted, moved, renamed, deleted and brought back, and backups.db is made anew.
 * Each comes to an end after a bounded number of calls, with a result or a known error; verification
 * names what is damaged; what is whole is still there after each, and verification is content; what
 * cannot be read is set aside; and what fails has changed nothing.
 *
 * CYRUS_BACKUPS_LONG=1: every byte. */
#include "config.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_int.h"
#include "backup/lcb_move.h"
#include "backup/lcb_reconstruct.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/lcbtest_victim.h"
#include "cunit/unit.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum {
    DATA_STRIDE = 29,
    BASE_STRIDE = 197, /* of a compacted one */
    INDEX_STRIDE = 257,
    WAL_STRIDE = 521,
    MONTH = 30 * 86400,
    CALLS_MAX = 3000,
};

/* A byte that is wrong, and what must be true all the same. */
struct scene {
    struct victim v;
    const void *data; /* the data file */
    size_t n;
    const struct lcbtest_index *index;
    size_t at;
    int data_damaged;
    unsigned want;        /* messages that are whole */
    struct buf states;    /* what a good one answers for a time */
    char what[60];        /* is damaged, and by what it goes */
    int asked[8], done[8], refused; /* how often each tool was run, and came to its end */
};

static void drop_path(char **path)
{
    free(*path);
    *path = NULL;
}

static char *joes_path(struct scene *s)
{
    char *path = lcbtest_path(&s->v.t);
    return path ? path : xstrdup("");
}

static int on_bytes(void *rock, const void *p, size_t n)
{
    buf_appendmap(rock, p, n);
    return 0;
}

/* Messages that USERID's backup gives out as they were; none that is wrong. */
static unsigned whole(struct scene *s, const char *userid)
{
    struct lcb *b = NULL;
    unsigned bits = 0;
    int r = lcb_open(s->v.t.store, userid, 0, 0, &b);
    CU_ASSERT(!r || victim_known_error(r));
    for (int i = 0; b && i < s->v.messages; i++) {
        struct buf want = BUF_INITIALIZER, got = BUF_INITIALIZER;
        struct message_guid guid;
        lcbtest_message(victim_message(&s->v, i), &want, &guid);
        if (!lcb_read_content(b, &guid, on_bytes, &got)) {
            CU_ASSERT(!buf_cmp(&got, &want));
            bits |= 1u << i;
        }
        buf_free(&want);
        buf_free(&got);
    }
    lcb_close(&b);
    return bits;
}

static void check_unchanged(struct scene *s)
{
    struct buf now = BUF_INITIALIZER;
    char *path = joes_path(s);
    UNIT_STR(path, s->v.path);
    lcbtest_read(s->v.path, &now);
    CU_ASSERT(now.len == s->n && !memcmp(now.s, s->data, s->n));
    buf_free(&now);
    free(path);
}

/* Verification has nothing to say any more. */
static void check_clean(struct scene *s)
{
    struct lcb_verify v;
    struct lcbtest_said said = {.text = BUF_INITIALIZER};
    char *path = joes_path(s);
    lcbtest_verify(&s->v.t, path, &v, &said);
    CU_ASSERT_EQUAL(v.data, 0);
    CU_ASSERT_EQUAL(v.index, 0);
    if (v.data || v.index)
        printf("\n%s", buf_cstring(&said.text));
    buf_free(&said.text);
    free(path);
}

/* ---- the tools: 1 done, 0 refused, in which case nothing may have changed ---- */

static int known(int r)
{
    CU_ASSERT(r >= 0 || victim_known_error(r));
    if (r < 0 && !victim_known_error(r))
        printf("\n%s", error_message(r));
    return r >= 0;
}

static int run_repair(struct scene *s)
{
    struct lcb_repair rp;
    if (!known(lcbtest_repair(&s->v.t, s->v.path, &rp))) {
        CU_ASSERT(s->data_damaged && victim_commit_of(&s->v, (off_t)s->at) == 0);
        return 0;
    }
    check_clean(s);
    if (!s->data_damaged)
        check_unchanged(s); /* nothing of a wrong row is logged again */
    victim_check_mended(&s->v, s->v.path);
    return 1;
}

/* What could not be read is in a file: at least the damaged byte, with what is around it. */
static void check_aside(struct scene *s, const struct lcb_compact_result *result)
{
    struct buf aside = BUF_INITIALIZER;
    if (!result->damaged)
        return;
    size_t end = (size_t)s->v.end[victim_commit_of(&s->v, (off_t)s->at)];
    size_t n = end - s->at < 8 ? end - s->at : 8;
    lcbtest_read(result->aside, &aside);
    CU_ASSERT(aside.len > 0);
    if (s->data_damaged)
        CU_ASSERT_PTR_NOT_NULL(memmem(aside.s, aside.len, (const char *)s->data + s->at, n));
    buf_free(&aside);
}

/* All states are older than the window, so each is restated, from the rows of the index: as the data
 * file says them, whatever is wrong in the rows. */
static int run_compact(struct scene *s)
{
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    struct buf state = BUF_INITIALIZER;
    if (!known(lcb_compact(s->v.t.store, &how, &result)))
        return 0;
    check_aside(s, &result);
    check_clean(s);
    if (!s->data_damaged) {
        victim_state(&s->v, &state);
        CU_ASSERT(lcbtest_same(&state, &s->states, s->what));
    }
    buf_free(&state);
    return 1;
}

static int run_move(struct scene *s)
{
    struct lcb_moved m;
    int r = lcb_move(s->v.t.store, "joe", lcb_partition_named(s->v.t.store, "two"), 0, &m);
    buf_free(&m.why);
    drop_path(&m.path);
    return known(r);
}

static int run_rename(struct scene *s)
{
    char *path = NULL;
    struct lcb_repair rp;
    int r = lcb_rename_user(s->v.t.store, "joe", "jane", 0, &path);
    drop_path(&path);
    if (!known(r))
        return 0;
    if (!s->data_damaged) { /* the index has not been looked at */
        path = joes_path(s);
        CU_ASSERT_EQUAL(lcbtest_repair(&s->v.t, path, &rp), 0);
        drop_path(&path);
    }
    CU_ASSERT_EQUAL(whole(s, "jane") & s->want, s->want);
    r = lcb_rename_user(s->v.t.store, "jane", "joe", 0, &path);
    CU_ASSERT_EQUAL(r, 0);
    drop_path(&path);
    return 1;
}

/* Nothing of the content is looked at. */
static int run_delete(struct scene *s)
{
    struct lcb_delete how = {.userid = "joe"};
    struct lcb_undelete back = {.userid = "joe"};
    char *path = NULL, *replaced = NULL;
    CU_ASSERT_EQUAL(lcb_delete(s->v.t.store, &how, &path), 0);
    drop_path(&path);
    CU_ASSERT_EQUAL(lcb_undelete(s->v.t.store, &back, &path, &replaced), 0);
    drop_path(&path);
    drop_path(&replaced);
    check_unchanged(s);
    return 0; /* as refused: whole or not is not asked */
}

static int on_found(void *rock, const struct lcb_found *f)
{
    *(int *)rock += f->kind != LCB_FOUND_ASIDE; /* what compaction kept is none */
    return *(int *)rock > 20 ? 999 : 0;
}

static int reconstruct(struct scene *s, int dry, int replace, int *found)
{
    struct lcb_reconstruct how = {.dry_run = dry, .replace = replace, .found = on_found, .rock = found};
    struct buf err = BUF_INITIALIZER;
    char *aside = NULL;
    *found = 0;
    lcbtest_close(&s->v.t);
    int r = lcb_reconstruct_open(s->v.t.config, s->v.vfs, dry, &s->v.t.store, &aside, &err);
    if (!r)
        r = lcb_reconstruct(s->v.t.store, &how);
    lcbtest_close(&s->v.t);
    victim_open(&s->v);
    buf_free(&err);
    drop_path(&aside);
    return r;
}

/* Whose file it is it says, wherever it is damaged. */
static int run_reconstruct(struct scene *s)
{
    struct buf none = BUF_INITIALIZER;
    int found;
    victim_restore(&s->v, s->data, s->n, s->index, &none);
    CU_ASSERT_EQUAL(reconstruct(s, 0, 0, &found), 0);
    CU_ASSERT_EQUAL(found, 1);
    check_unchanged(s);
    return 0;
}

static const struct tool {
    const char *name;
    int (*run)(struct scene *);
    size_t each; /* of the bytes in question */
} tools[] = {
    {"repair", run_repair, 1},
    {"compact", run_compact, 1},
    {"move", run_move, 1},
    {"rename", run_rename, 4},
    {"delete", run_delete, 8},
    {"reconstruct", run_reconstruct, 2},
};
enum { TOOLS = sizeof(tools) / sizeof(*tools) };

static void try_tool(struct scene *s, int i)
{
    unsigned failures = CU_get_number_of_failures();
    long calls = vfs_fault_calls(s->v.vfs);
    victim_restore(&s->v, s->data, s->n, s->index, &s->v.db);
    int done = tools[i].run(s);
    if (done) {
        unsigned want = tools[i].run == run_compact ? s->want & ~s->v.expunged : s->want;
        CU_ASSERT_EQUAL(whole(s, "joe") & want, want);
    } else {
        check_unchanged(s);
    }
    CU_ASSERT(vfs_fault_calls(s->v.vfs) - calls < CALLS_MAX);
    s->asked[i]++;
    s->done[i] += done;
    s->refused += !done;
    if (CU_get_number_of_failures() != failures)
        printf("\n%s: %s at %zu\n", tools[i].name, s->what, s->at);
}

/* What verification finds: 1 if anything. */
static int try_verify(struct scene *s)
{
    struct lcb_verify found = {.found = NULL};
    victim_restore(&s->v, s->data, s->n, s->index, &s->v.db);
    long calls = vfs_fault_calls(s->v.vfs);
    int r = lcb_verify(s->v.t.store, s->v.path, &found);
    CU_ASSERT(vfs_fault_calls(s->v.vfs) - calls < CALLS_MAX);
    check_unchanged(s);
    return !known(r) || found.data || found.index;
}

static void try_tools(struct scene *s, size_t more)
{
    for (int i = 0; i < TOOLS; i++)
        if (s->at / victim_stride(1) % (tools[i].each * more) == 0)
            try_tool(s, i);
}

static void begin(struct scene *s, enum victim_kind kind, const char *what)
{
    memset(s, 0, sizeof(*s));
    victim_make(&s->v, kind);
    lcbtest_settime(lcbtest_time() + MONTH);
    victim_state(&s->v, &s->states);
    s->data = s->v.data.s;
    s->n = s->v.data.len;
    s->index = &s->v.folded;
    s->want = victim_expected(&s->v, -1, -1);
    snprintf(s->what, sizeof(s->what), "%s", what);
}

/* Does a tool come to its end, as a rule? Damaged data is moved only where it does not matter, and what
 * does not look at content counts as refused. */
static int can_be_done(const struct scene *s, int i)
{
    return tools[i].run != run_delete && tools[i].run != run_reconstruct &&
           !(tools[i].run == run_move && s->data_damaged);
}

static void end(struct scene *s)
{
    for (int i = 0; i < TOOLS; i++) {
        printf("%s%s %d of %d", i ? ", " : "", tools[i].name, s->done[i], s->asked[i]);
        CU_ASSERT(s->done[i] || s->asked[i] < 20 || !can_be_done(s, i));
    }
    printf(", refused %d ", s->refused);
    buf_free(&s->states);
    victim_free(&s->v);
}

/* ---- the files ---- */

/* Time and origin in a gzip header mean nothing, nor does the lowest of its flags (it is text); our
 * field is known with a wrong letter in its name, too; and the last byte before the trailer may have
 * bits that belong to nothing. */
static int harmless(const struct victim *v, off_t at)
{
    int n = victim_commit_of(v, at);
    off_t in = at - (n ? v->end[n - 1] : 0);
    const char was = v->data.s[at];
    const int is_text = in == 3 && (was ^ victim_wrong(was, (size_t)at)) == 1;
    return is_text || (in >= 4 && in < 10) || in == 12 || in == 13 || at == v->end[n] - 9;
}

static void damage_data(enum victim_kind kind, size_t by)
{
    struct scene s;
    begin(&s, kind, "data file");
    char *bytes = xmemdup(s.v.data.s, s.n);
    s.data = bytes;
    s.data_damaged = 1;
    for (s.at = victim_first(by); s.at < s.n; s.at += victim_stride(by)) {
        int n = victim_commit_of(&s.v, (off_t)s.at);
        char was = bytes[s.at];
        bytes[s.at] = victim_wrong(was, s.at);
        s.want = victim_expected(&s.v, n, n);
        int named = try_verify(&s);
        CU_ASSERT(named || harmless(&s.v, (off_t)s.at));
        if (!named && !harmless(&s.v, (off_t)s.at))
            printf("\nverify: silent about byte %zu, in commit %d, which ends at %lld\n", s.at, n,
                   (long long)s.v.end[n]);
        try_tools(&s, 1);
        bytes[s.at] = was;
    }
    free(bytes);
    end(&s);
}

static void test_data(void)
{
    damage_data(VICTIM_MOVED, DATA_STRIDE);
}

static void test_base_data(void)
{
    damage_data(VICTIM_BASE, BASE_STRIDE);
}

/* Where verification says nothing, hardly anything can come of it. */
static void damage_index(struct scene *s, struct lcbtest_index *ix, struct buf *part, size_t by)
{
    s->index = ix;
    for (s->at = victim_first(by); s->at < part->len; s->at += victim_stride(by)) {
        char was = part->s[s->at];
        part->s[s->at] = victim_wrong(was, s->at);
        try_tools(s, try_verify(s) ? 1 : 16);
        part->s[s->at] = was;
    }
}

static void test_index(void)
{
    struct scene s;
    begin(&s, VICTIM_MOVED, "index");
    damage_index(&s, &s.v.folded, &s.v.folded.db, INDEX_STRIDE);
    end(&s);
}

static void test_wal(void)
{
    struct scene s;
    begin(&s, VICTIM_MOVED, "WAL");
    damage_index(&s, &s.v.live, &s.v.live.wal, WAL_STRIDE);
    end(&s);
}

static void test_base_index(void)
{
    struct scene s;
    begin(&s, VICTIM_BASE, "index of a compacted one");
    damage_index(&s, &s.v.folded, &s.v.folded.db, 6 * INDEX_STRIDE);
    damage_index(&s, &s.v.live, &s.v.live.wal, 4 * WAL_STRIDE);
    end(&s);
}

/* ---- backups.db ---- */

/* Whoever is asked for joe's backup finds it or says that it cannot be found; nobody makes another.
 * Then it is made anew from what the data files say. */
static void damaged_db(struct scene *s, const struct buf *db)
{
    struct lcb *b = NULL;
    int found;
    victim_restore(&s->v, s->data, s->n, s->index, db);
    long calls = vfs_fault_calls(s->v.vfs);
    int r = s->v.t.store ? lcb_open(s->v.t.store, "joe", LCB_WRITE | LCB_CREATE, 0, &b) : 0;
    CU_ASSERT(known(r) == (b != NULL) || !s->v.t.store);
    if (b)
        UNIT_STR(lcb_path(b), s->v.path);
    lcb_close(&b);
    (void)known(reconstruct(s, 1, 0, &found));
    r = reconstruct(s, 0, 0, &found);
    if (!r && !(whole(s, "joe") & s->want)) /* a record that is wrong is not replaced unasked */
        r = reconstruct(s, 0, 1, &found);
    CU_ASSERT_EQUAL(r, 0);
    CU_ASSERT_EQUAL(whole(s, "joe"), s->want);
    check_unchanged(s);
    CU_ASSERT(vfs_fault_calls(s->v.vfs) - calls < CALLS_MAX);
}

static void test_db(void)
{
    struct scene s;
    struct buf db = BUF_INITIALIZER;
    begin(&s, VICTIM_MOVED, "backups.db");
    for (s.at = 0; s.at < s.v.db.len; s.at++) {
        unsigned failures = CU_get_number_of_failures();
        buf_setmap(&db, s.v.db.s, s.v.db.len);
        db.s[s.at] = victim_wrong(db.s[s.at], s.at);
        damaged_db(&s, &db);
        buf_truncate(&db, s.at);
        if (s.at) /* an empty one is one without records */
            damaged_db(&s, &db);
        if (CU_get_number_of_failures() != failures)
            printf("\nbackups.db at %zu\n", s.at);
    }
    buf_free(&db);
    buf_free(&s.states);
    victim_free(&s.v);
}

void suite_lcb_damage_tools(void);
void suite_lcb_damage_tools(void)
{
    static const struct unit_test tests[] = {
        {"bytes of the data file", test_data},
        {"bytes of the index", test_index},
        {"bytes of its WAL", test_wal},
        {"every byte and end of backups.db", test_db},
        {"bytes of a compacted data file", test_base_data},
        {"bytes of its index and WAL", test_base_index},
        {NULL, NULL},
    };
    unit_suite("lcb_damage_tools", tests);
}
