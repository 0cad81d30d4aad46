/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Anything at all in the small places that tools believe in: the notes in the index (where a file was
 * made from, how far it is merged, when it was verified ...), the names of files beside a backup, and
 * the file that list -A keeps. Nothing crashes, and nobody's backup is lost by it. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_int.h"
#include "backup/lcb_move.h"
#include "backup/lcb_reconstruct.h"
#include "backup/lcb_summary.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/lcbtest_victim.h"
#include "cunit/unit.h"
#include "lib/sha1crc.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* ---- joe's backup, and jane's, which nobody has asked for ---- */

struct scene {
    struct victim v;
    struct buf states;
    char *jane;
    struct buf janes; /* her data file */
    struct lcbtest_index janes_index;
};

static void begin(struct scene *s)
{
    struct lcb *b = NULL;
    char db[400];
    memset(s, 0, sizeof(*s));
    victim_make(&s->v, VICTIM_MOVED);
    CU_ASSERT_EQUAL_FATAL(lcb_open(s->v.t.store, "jane", LCB_WRITE | LCB_CREATE, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(b, 7, 0), 0);
    CU_ASSERT_EQUAL(lcb_commit(b), 0);
    s->jane = xstrdup(lcb_path(b));
    lcb_close(&b);
    lcbtest_int(s->jane, "PRAGMA wal_checkpoint(TRUNCATE)");
    lcbtest_read(s->jane, &s->janes);
    lcbtest_saveindex(s->jane, &s->janes_index);
    snprintf(db, sizeof(db), "%s/conf/backups.db", s->v.t.dir);
    lcbtest_read(db, &s->v.db);
    victim_state(&s->v, &s->states);
}

static void end(struct scene *s)
{
    free(s->jane);
    buf_free(&s->janes);
    buf_free(&s->states);
    lcbtest_freeindex(&s->janes_index);
    victim_free(&s->v);
}

/* As it was at first, but for what SQL does to joe's index. */
static void restore(struct scene *s, const char *sql)
{
    victim_restore(&s->v, s->v.data.s, s->v.data.len, &s->v.folded, &s->v.db);
    lcbtest_write(s->jane, s->janes.s, s->janes.len);
    lcbtest_putindex(s->jane, &s->janes_index);
    if (sql)
        lcbtest_int(s->v.path, sql);
}

static char *joes_path(struct scene *s)
{
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(s->v.t.store, "joe", 0, 0, &b), 0);
    char *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    return path;
}

/* Both backups are there, and say what they said, at the latest after a verification. */
static void check(struct scene *s, const char *what)
{
    struct buf now = BUF_INITIALIZER;
    struct lcb_repair rp;
    lcbtest_read(s->jane, &now);
    CU_ASSERT(!buf_cmp(&now, &s->janes));
    char *path = joes_path(s);
    CU_ASSERT_EQUAL(lcbtest_repair(&s->v.t, path, &rp), 0);
    lcbtest_clean(&s->v.t, path, 0, what);
    free(path);
    victim_state(&s->v, &now);
    CU_ASSERT(lcbtest_same(&now, &s->states, what));
    buf_free(&now);
}

/* A directory where a file should be is an error, too. */
static void known(int r)
{
    CU_ASSERT(r >= 0 || r == -EISDIR || victim_known_error(r));
}

static void use(struct scene *s, int how)
{
    struct lcb *b = NULL;
    struct lcb_verify v = {.found = NULL};
    struct lcb_compact compact = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    struct lcb_moved m;
    struct lcb_summary summary;
    if (how == 0) {
        known(lcb_summary_read(s->v.t.store, s->v.path, 1, &summary));
        known(lcb_verify(s->v.t.store, s->v.path, &v));
        known(lcb_open(s->v.t.store, "joe", LCB_WRITE, 0, &b));
        lcb_close(&b);
    } else if (how == 1) {
        known(lcb_compact(s->v.t.store, &compact, &result));
    } else {
        known(lcb_move(s->v.t.store, "joe", lcb_partition_named(s->v.t.store, "two"), 0, &m));
        free(m.path);
        buf_free(&m.why);
    }
}

/* ---- notes in the index ---- */

static void one_note(struct scene *s, const char *key, const char *value)
{
    char *sql = xasprintf("INSERT OR REPLACE INTO meta VALUES ('%s', %s) RETURNING 1", key, value);
    for (int how = 0; how < 3; how++) {
        unsigned failures = CU_get_number_of_failures();
        restore(s, sql);
        use(s, how);
        check(s, sql);
        if (CU_get_number_of_failures() != failures)
            printf("\n%d: %s\n", how, sql);
    }
    free(sql);
}

static void test_notes(void)
{
    static const char *const keys[] = {
        "made_from", "made_from_id", "made_from_end", "made_from_check", "made_end", "merged",
        "history", "verified_time", "verified_state", "backup_id", "end", "last_offset", "seq",
        "last_time", "check_end", "unfinished", "version", "something else", NULL,
    };
    static const char *const values[] = {
        "NULL", "''", "'/'", "x'00ff'", "-1", "0", "1", "4611686018427387904",
        "9223372036854775807", "-9223372036854775808", "1.5e300", NULL,
    };
    struct scene s;
    begin(&s);
    size_t n = 0;
    for (int k = 0; keys[k]; k++)
        for (int i = 0; values[i]; i++)
            if (victim_turn(n++, 3))
                one_note(&s, keys[k], values[i]);
    end(&s);
}

/* Says that FROM was replaced by joe's backup, in the state in which DATA (its bytes) is now. */
static void claim(struct scene *s, const char *from, const struct buf *data)
{
    char sql[1200];
    int fd = open(from, O_RDONLY);
    int64_t check_end = fd < 0 ? 0 : lcb_check_end(vfs_system(), fd, (off_t)data->len);
    if (fd >= 0)
        close(fd);
    snprintf(sql, sizeof(sql), "INSERT OR REPLACE INTO meta VALUES ('made_from','%s'),('made_from_end',"
             "%zu),('made_from_check',%lld) RETURNING 1", from, data->len, (long long)check_end);
    lcbtest_int(s->v.path, sql);
}

/* Notes that name a backup in use: jane's, joe's own by another name, the index of a file that is not
 * there now. */
static void test_claims(void)
{
    struct scene s;
    struct buf now = BUF_INITIALIZER;
    begin(&s);
    const char *slash = strrchr(s.v.path, '/');
    char *own = xasprintf("%.*s//%s", (int)(slash - s.v.path), s.v.path, slash + 1);
    char *away = xasprintf("%s.away", s.jane);
    for (int how = 1; how < 3; how++) {
        restore(&s, NULL);
        claim(&s, s.jane, &s.janes);
        use(&s, how);
        check(&s, "made from jane's");
        restore(&s, NULL);
        claim(&s, own, &s.v.data);
        use(&s, how);
        check(&s, "made from itself");
        restore(&s, NULL);
        CU_ASSERT_EQUAL(rename(s.jane, away), 0);
        claim(&s, s.jane, &s.janes);
        use(&s, how);
        CU_ASSERT_EQUAL(rename(away, s.jane), 0);
        check(&s, "made from what is away");
        struct lcbtest_index ix = {.db = BUF_INITIALIZER, .wal = BUF_INITIALIZER};
        lcbtest_saveindex(s.jane, &ix);
        CU_ASSERT(!buf_cmp(&ix.db, &s.janes_index.db)); /* it is still there */
        lcbtest_freeindex(&ix);
    }
    free(own);
    free(away);
    buf_free(&now);
    end(&s);
}

/* ---- names of files ---- */

static int count(void *rock, const struct lcb_deleted *d)
{
    (void)d;
    ++*(int *)rock;
    return 0;
}

static int on_found(void *rock, const struct lcb_found *f)
{
    (void)f;
    ++*(int *)rock;
    return 0;
}

static void reconstruct(struct scene *s)
{
    int n = 0;
    struct lcb_reconstruct how = {.found = on_found, .rock = &n};
    CU_ASSERT_EQUAL(lcb_reconstruct(s->v.t.store, &how), 0);
    CU_ASSERT(n >= 2);
}

/* Files, directories and links to nowhere that look like what tools leave beside a backup. */
static void test_names(void)
{
    static const char *const endings[] = {
        ".deleted.", ".deleted.0", ".deleted.-1", ".deleted.1", ".deleted.18446744073709551617",
        ".deleted.1.index", ".deleted.1.deleted.2", ".damaged.", ".damaged.1", ".damaged.1.2",
        ".tail.1", ".tail.", ".1", ".99999999999999999999", ".index.1", ".index.old", ".index.new",
        ".new", ".new.index", ".new.index-wal", ".index.", ".index.x", NULL,
    };
    struct scene s;
    struct stat st;
    begin(&s);
    for (int kind = 0; kind < 3; kind++) {
        int deleted = 0;
        restore(&s, NULL);
        for (int i = 0; endings[i]; i++) {
            char *name = xasprintf("%s%s", s.v.path, endings[i]);
            if (kind == 0)
                lcbtest_write(name, "no such thing", 13);
            else
                CU_ASSERT_EQUAL(kind == 1 ? mkdir(name, 0700) : symlink("/nowhere", name), 0);
            free(name);
        }
        (void)lcb_deleted_foreach(s.v.t.store, count, &deleted);
        CU_ASSERT(deleted <= 4);
        reconstruct(&s);
        (void)lcb_compact_expire(s.v.t.store, "joe", s.v.path, INT64_MAX, 0, NULL, NULL);
        use(&s, 0);
        use(&s, 1);
        use(&s, 2);
        (void)lcb_deleted_purge(s.v.t.store, INT64_MAX, NULL, NULL);
        CU_ASSERT_EQUAL(stat(s.jane, &st), 0);
        for (int i = 0; endings[i]; i++) {
            char *name = xasprintf("%s%s", s.v.path, endings[i]);
            /* what nobody could read, and what was cut off, is never removed */
            int aside = !strncmp(endings[i], ".damaged.", 9) || !strncmp(endings[i], ".tail.", 6);
            if (kind == 0 && aside)
                CU_ASSERT_EQUAL(access(name, F_OK), 0);
            if (remove(name) < 0)
                (void)unlink(name);
            free(name);
        }
        check(&s, "files with odd names"); /* a directory in the way of one of ours is away by now */
    }
    end(&s);
}

/* ---- what list -A keeps ---- */

/* The sum is right, and what it is the sum of is not: numbers of directories, counts, sizes. */
static void test_list(void)
{
    enum { HEAD = 24 };
    struct scene s;
    struct buf file = BUF_INITIALIZER, good = BUF_INITIALIZER;
    struct lcb_summaries *c;
    struct lcb_summary summary, want;
    char cache[300];
    begin(&s);
    snprintf(cache, sizeof(cache), "%s/cache", s.v.t.dir);
    CU_ASSERT_EQUAL(lcb_summary_read(s.v.t.store, s.jane, 0, &want), 0);
    lcb_summaries_open(s.v.t.store, cache, &c);
    for (int i = 0; i < 20; i++) /* enough to be worth it */
        CU_ASSERT_EQUAL(lcb_summaries_get(c, i % 2 ? s.jane : s.v.path, &summary), 0);
    CU_ASSERT_EQUAL(lcb_summaries_save(c), 0);
    lcb_summaries_close(&c);
    lcbtest_read(cache, &good);
    CU_ASSERT_FATAL(good.len > HEAD);
    for (size_t at = 0; at < good.len; at++) {
        buf_setmap(&file, good.s, good.len);
        file.s[at] = (char)(at % 2 ? 0xff : file.s[at] ^ 0x80);
        uint32_t crc = crc32_map(0, file.s + HEAD, file.len - HEAD);
        memcpy(file.s + 16, &crc, sizeof(crc));
        lcbtest_write(cache, file.s, file.len);
        lcb_summaries_open(s.v.t.store, cache, &c);
        int r = lcb_summaries_get(c, s.jane, &summary);
        CU_ASSERT(r == 0 && (at >= HEAD || summary.end == want.end));
        lcb_summaries_close(&c);
    }
    CU_ASSERT_EQUAL(truncate(cache, (off_t)1 << 40), 0); /* a hole */
    lcb_summaries_open(s.v.t.store, cache, &c);
    CU_ASSERT_EQUAL(lcb_summaries_get(c, s.jane, &summary), 0);
    CU_ASSERT_EQUAL(summary.end, want.end);
    lcb_summaries_close(&c);
    unlink(cache);
    CU_ASSERT_EQUAL(mkdir(cache, 0700), 0);
    lcb_summaries_open(s.v.t.store, cache, &c);
    CU_ASSERT_EQUAL(lcb_summaries_get(c, s.jane, &summary), 0);
    lcb_summaries_close(&c);
    rmdir(cache);
    buf_free(&file);
    buf_free(&good);
    end(&s);
}

void suite_lcb_garbage(void);
void suite_lcb_garbage(void)
{
    static const struct unit_test tests[] = {
        {"notes in the index", test_notes},
        {"notes that name backups", test_claims},
        {"names of files", test_names},
        {"the file of list -A", test_list},
        {NULL, NULL},
    };
    unit_suite("lcb_garbage", tests);
}
