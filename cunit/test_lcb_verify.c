/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of verification: what is wrong is named for what it is. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/lcbtest_foreign.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/unit.h"
#include "lib/xmalloc.h"

/* ---- there is no index ---- */

/* It is not filled twice: what opens the backup leaves that to the repair. */
static void test_no_index(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct lcb_repair rp;
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    struct lcb *b = lcbtest_joe(&t);
    char *path = xstrdup(lcb_path(b));
    lcbtest_start(&h, 7);
    for (int i = 0; i < 40; i++)
        CU_ASSERT_EQUAL_FATAL(lcbtest_step(&h, b), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    int64_t contents = lcbtest_int(path, "SELECT count(*) FROM contents");
    CU_ASSERT(contents > 5);

    for (int again = 0; again < 2; again++) {
        lcbtest_rmindex(path);
        CU_ASSERT_EQUAL_FATAL(lcb_open_file(t.store, path, LCB_WRITE | LCB_REPAIR, 0, &b), 0);
        CU_ASSERT_EQUAL(lcb_index_commit(b->index), 0);
        CU_ASSERT_EQUAL(lcbtest_int(path, "SELECT count(*) FROM contents"), 0);
        if (!again)
            CU_ASSERT_EQUAL(lcb_repair(b, &(struct lcb_repair){.chunks = -1}), 0);
        lcb_close(&b); /* the second time the repair did not come about */
        b = lcbtest_joe(&t);
        CU_ASSERT_EQUAL(lcbtest_step(&h, b), 0);
        CU_ASSERT_EQUAL(lcb_commit(b), 0);
        lcb_close(&b);
        CU_ASSERT(lcbtest_int(path, "SELECT count(*) FROM contents") >= contents);
        lcbtest_compare(&t, path, "after a repair without an index");
    }
    lcbtest_rmindex(path);
    CU_ASSERT_EQUAL(lcbtest_repair(&t, path, &rp), 0);
    CU_ASSERT_EQUAL(rp.chunks, 0);
    CU_ASSERT(!lcbtest_logged("does not belong"));
    free(path);
    lcbtest_fini(&t);
}

/* ---- nothing is wrong ---- */

static void test_clean(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    for (unsigned seed = 1; seed <= 4; seed++) {
        lcbtest_init(&t, "");
        lcbtest_open(&t, NULL);
        struct lcb *b = lcbtest_joe(&t);
        lcbtest_start(&h, seed);
        h.big = seed == 4;
        for (int i = 0; i < 60; i++) {
            CU_ASSERT_EQUAL_FATAL(lcbtest_step(&h, b), 0);
            if (i % 5 == 4)
                CU_ASSERT_EQUAL(lcb_commit(b), 0);
            if (i % 20 == 19)
                lcbtest_clean(&t, lcb_path(b), 0, "a history");
        }
        /* what is under way is left out */
        CU_ASSERT_EQUAL_FATAL(lcbtest_upload(b, 5000, 1), 0);
        CU_ASSERT_EQUAL_FATAL(lcbtest_upload(b, 5001, 1), 0);
        lcbtest_clean(&t, lcb_path(b), 0, "in the middle of a commit");
        lcb_close(&b);
        lcbtest_fini(&t);
    }
}

static void test_clean_foreign(void)
{
    static const char *const lines[] = {
        "1700000000 APPLY SUB %(USERID joe MBOXNAME user.joe)\r\n",
        "1700000001 APPLY UNSUB %(USERID joe MBOXNAME user.joe)\r\n", NULL,
    };
    struct lcbtest t;
    struct cyrus_member m;
    struct buf data = BUF_INITIALIZER;
    char path[300];
    lcbtest_init(&t, "");
    lcbtest_open(&t, NULL);
    snprintf(path, sizeof(path), "%s/joe_AbCdEf", t.dir);
    cyrus_chunk(&data, lines);
    cyrus_begin(&m, &data);
    cyrus_line(&m, LCB_CHUNK_START);
    cyrus_line(&m, lines[0]);
    cyrus_abandon(&m);
    cyrus_empty(&data);
    cyrus_chunk(&data, lines);
    lcbtest_write(path, data.s, data.len);
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(t.store, path, LCB_WRITE, 0, &b), 0);
    lcbtest_clean(&t, path, 0, "a file of Cyrus");
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe.x)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcbtest_clean(&t, path, 0, "with a chunk of ours behind");
    lcb_close(&b);
    buf_free(&data);
    lcbtest_fini(&t);
}

/* ---- the index is wrong ---- */

static void spoil(const char *path, const char *sql)
{
    char index[400];
    sqlite3 *db = NULL;
    int one = 1;
    snprintf(index, sizeof(index), "%s.index", path);
    CU_ASSERT_EQUAL_FATAL(sqlite3_open_v2(index, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &one);
    CU_ASSERT_EQUAL(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void test_index(void)
{
    static const char *const changes[] = {
        "UPDATE records SET flags=x'2829' WHERE id=1", "DELETE FROM records WHERE id=2",
        "UPDATE contents SET start=start+1 WHERE id=1", "UPDATE contents SET chunk=NULL WHERE id=1",
        "UPDATE folder_states SET mboxname='user.joe.zzz' WHERE folder=2", "UPDATE folders SET crc=0",
        "DELETE FROM chunks WHERE seq=2", "DELETE FROM folders", "UPDATE ticks SET time=time-5",
        "DELETE FROM meta WHERE key='end'", "DROP TABLE seens", "UPDATE meta SET value=99 WHERE"
        " key='version'", NULL,
    };
    struct lcbtest_file f;
    struct lcb_verify v;
    struct lcb_repair rp;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    struct buf now = BUF_INITIALIZER;
    lcbtest_makefile(&f);
    lcbtest_clean(&f.t, f.path, 0, "before");
    for (int i = 0; changes[i]; i++) {
        lcbtest_putindex(f.path, &f.index[LCBTEST_GROUPS]);
        spoil(f.path, changes[i]);
        lcbtest_verify(&f.t, f.path, &v, &s);
        if (!v.index || v.data)
            printf("\n%s: %s", changes[i], buf_cstring(&s.text));
        CU_ASSERT(v.index > 0);
        CU_ASSERT_EQUAL(v.data, 0);
        CU_ASSERT_EQUAL(lcbtest_repair(&f.t, f.path, &rp), 0);
        CU_ASSERT_EQUAL(rp.chunks, 0);
        lcbtest_clean(&f.t, f.path, 0, changes[i]);
        lcbtest_dump(f.path, &now);
        CU_ASSERT(lcbtest_same(&now, &f.dump[LCBTEST_GROUPS], changes[i]));
        lcbtest_read(f.path, &now);
        CU_ASSERT(!buf_cmp(&now, &f.data)); /* nothing was logged */
    }
    lcbtest_rmindex(f.path);
    lcbtest_verify(&f.t, f.path, &v, &s);
    CU_ASSERT_EQUAL(v.index, 1);
    CU_ASSERT_EQUAL(v.data, 0);
    buf_free(&now);
    buf_free(&s.text);
    lcbtest_freefile(&f);
}

/* ---- what lost chunks excuse ---- */

/* A byte in the middle of each chunk in its turn: what is lost, and what follows from that, is laid to
 * the charge of the data, and nothing to that of the index. */
static void test_excused(void)
{
    struct lcbtest t;
    struct lcbtest_history h;
    struct lcb_verify v;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    struct buf data = BUF_INITIALIZER;
    for (unsigned seed = 61; seed < 64; seed++) {
        lcbtest_init(&t, "");
        lcbtest_open(&t, NULL);
        lcbtest_start(&h, seed);
        CU_ASSERT_EQUAL(lcbtest_steps(&t, &h, 120, 3), 0);
        char *path = lcbtest_path(&t);
        lcbtest_clean(&t, path, 0, "before");
        lcbtest_read(path, &data);
        int64_t chunks = lcbtest_int(path, "SELECT count(*) FROM chunks");
        CU_ASSERT(chunks > 30);
        for (int64_t i = 0; i < chunks; i++) {
            char sql[120];
            snprintf(sql, sizeof(sql), "SELECT start+length/2 FROM chunks ORDER BY seq LIMIT 1 OFFSET"
                     " %lld", (long long)i);
            int64_t at = lcbtest_int(path, sql);
            data.s[at] ^= 0x55;
            lcbtest_write(path, data.s, data.len);
            lcbtest_verify(&t, path, &v, &s);
            if (v.index || !v.data)
                printf("\nhistory %u, chunk %lld: %s", seed, (long long)i, buf_cstring(&s.text));
            CU_ASSERT_EQUAL(v.index, 0);
            CU_ASSERT(v.data > 0);
            data.s[at] ^= 0x55;
        }
        lcbtest_write(path, data.s, data.len);
        free(path);
        lcbtest_fini(&t);
    }
    buf_free(&data);
    buf_free(&s.text);
}

/* With the third of seven groups lost, the index is wrong somewhere else: that is its own fault. */
static void test_not_excused(void)
{
    static const char *const changes[] = {
        "UPDATE ticks SET time=time-1 WHERE pos=(SELECT max(pos) FROM ticks)",
        "DELETE FROM ticks WHERE pos=(SELECT max(pos) FROM ticks)",
        "INSERT INTO ticks SELECT max(pos)+1, 1 FROM ticks",
        "DELETE FROM chunks WHERE seq=(SELECT max(seq)-1 FROM chunks)",
        "UPDATE chunks SET text_length=text_length+1 WHERE seq=1",
        "INSERT INTO pieces VALUES (1, 0, 0)",
        "INSERT INTO lost VALUES (16777217)",
        "INSERT INTO replaced VALUES ('user.joe.u5', 0, 1)",
        "INSERT INTO meta VALUES ('history', 16777217)",
        "DELETE FROM records WHERE id=(SELECT max(id) FROM records)",
        "UPDATE records SET until=since+1 WHERE id=(SELECT max(id) FROM records)",
        "DELETE FROM folder_states WHERE folder=(SELECT max(id) FROM folders)",
        "DELETE FROM folders WHERE id=(SELECT max(id) FROM folders)",
        "DELETE FROM contents WHERE id=(SELECT max(id) FROM contents)",
        "INSERT INTO subs VALUES ('user.joe.u5', (SELECT max(seq) FROM chunks)<<24, NULL)", NULL,
    };
    struct lcbtest_file f;
    struct lcb_verify v;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    lcbtest_makefile(&f);
    for (int m = 0; m < LCBTEST_MEMBERS; m++)
        f.data.s[(f.start[2][m] + f.start[2][m + 1]) / 2] ^= 0x55;
    lcbtest_write(f.path, f.data.s, f.data.len);
    for (int i = -1; i < 0 || changes[i]; i++) {
        lcbtest_putindex(f.path, &f.index[LCBTEST_GROUPS]);
        if (i >= 0)
            spoil(f.path, changes[i]);
        lcbtest_verify(&f.t, f.path, &v, &s);
        if ((v.index > 0) != (i >= 0) || !v.data)
            printf("\n%s: %s", i < 0 ? "nothing" : changes[i], buf_cstring(&s.text));
        CU_ASSERT_EQUAL(v.index > 0, i >= 0);
        CU_ASSERT(v.data > 0);
    }
    buf_free(&s.text);
    lcbtest_freefile(&f);
}

/* Every page of the index is garbage in its turn: nothing but the index is ever blamed, and it can
 * be made anew. */
static void test_index_pages(void)
{
    struct lcbtest_file f;
    struct lcb_verify v;
    struct lcb_repair rp;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    struct buf now = BUF_INITIALIZER;
    lcbtest_makefile(&f);
    struct lcbtest_index *ix = &f.index[LCBTEST_GROUPS];
    for (size_t at = 0; at + 1024 <= ix->db.len; at += 1024) {
        char *page = xmemdup(ix->db.s + at, 1024);
        memset(ix->db.s + at + 8, 0x5a, 1000);
        lcbtest_putindex(f.path, ix);
        memcpy(ix->db.s + at, page, 1024);
        free(page);
        lcbtest_verify(&f.t, f.path, &v, &s);
        CU_ASSERT_EQUAL(v.data, 0);
        CU_ASSERT_EQUAL(lcbtest_repair(&f.t, f.path, &rp), 0);
        lcbtest_clean(&f.t, f.path, 0, "after a damaged page");
        lcbtest_dump(f.path, &now);
        CU_ASSERT(lcbtest_same(&now, &f.dump[LCBTEST_GROUPS], "after a damaged page"));
    }
    buf_free(&now);
    buf_free(&s.text);
    lcbtest_freefile(&f);
}

/* ---- what is remembered ---- */

static void test_note(void)
{
    struct lcbtest_file f;
    struct lcb *b = NULL;
    struct lcb_repair rp;
    enum lcb_verified state;
    int64_t time = -1;
    lcbtest_makefile(&f);
    lcb_verify_last(f.path, &time, &state);
    CU_ASSERT_EQUAL(time, 0);
    CU_ASSERT_EQUAL(state, LCB_VERIFIED_NEVER);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f.t.store, f.path, LCB_WRITE, 0, &b), 0);
    CU_ASSERT_EQUAL(lcb_verify_note(b, 1234, LCB_VERIFIED_DAMAGED), 0);
    CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe)"), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    lcb_close(&b);
    lcb_verify_last(f.path, &time, &state);
    CU_ASSERT_EQUAL(time, 1234);
    CU_ASSERT_EQUAL(state, LCB_VERIFIED_DAMAGED);
    lcbtest_clean(&f.t, f.path, 0, "with a note");
    CU_ASSERT_EQUAL(lcbtest_repair(&f.t, f.path, &rp), 0);
    lcb_verify_last(f.path, &time, &state);
    CU_ASSERT_EQUAL(state, LCB_VERIFIED_NEVER);
    lcbtest_freefile(&f);
}

void suite_lcb_verify(void);
void suite_lcb_verify(void)
{
    static const struct unit_test tests[] = {
        {"there is no index", test_no_index},
        {"nothing is wrong", test_clean},
        {"nothing is wrong with a file of Cyrus 3.x", test_clean_foreign},
        {"the index is wrong", test_index},
        {"what lost chunks excuse", test_excused},
        {"what they do not", test_not_excused},
        {"a page of the index is wrong", test_index_pages},
        {"what is remembered", test_note},
        {NULL, NULL},
    };
    unit_suite("lcb_verify", tests);
}
