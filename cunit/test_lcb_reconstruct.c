/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of reconstruct: whatever became of backups.db, the data files tell; what they do not tell is
 * said; and no data file is touched. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_db.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_int.h"
#include "backup/lcb_reconstruct.h"
#include "cunit/lcbtest.h"
#include "cunit/lcbtest_foreign.h"
#include "cunit/unit.h"
#include "lib/sha1crc.h"
#include "lib/strarray.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static char long_user[301];
static const char *const users[] = {"joe", "a.b@example.org", "%SHARED", long_user};
enum { USERS = 4 };

struct world {
    struct lcbtest t;
    char *path[USERS];
    char *db;           /* path of backups.db */
    struct buf records; /* in it */
    struct buf found;   /* what was said: kind, user, path; a line each */
    struct buf texts;
};

/* ---- a store with some users ---- */

static const char *mailbox_of(const char *user)
{
    static char name[400];
    const char *at = strchr(user, '@');
    if (!strcmp(user, MBOXNAME_SHARED))
        return "shared.list";
    snprintf(name, sizeof(name), "%s%suser.%.*s", at ? at + 1 : "", at ? "!" : "",
             at ? (int)(at - user) : (int)strlen(user), user);
    for (char *p = strstr(name, "user.") + 5; *p; p++)
        if (*p == '.')
            *p = '^';
    return name;
}

/* One commit more in USER's backup, which is made if there is none. */
static char *change(struct world *w, const char *user, unsigned n)
{
    struct lcb *b = NULL;
    char uniqueid[40];
    const char *records[] = {NULL};
    snprintf(uniqueid, sizeof(uniqueid), "u-%zu-%c", strlen(user), *user);
    lcbtest_settime(lcbtest_time() + 60);
    CU_ASSERT_EQUAL_FATAL(lcb_open(w->t.store, user, LCB_WRITE | LCB_CREATE, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(b, n, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(uniqueid, mailbox_of(user), n, n, ""), records,
                                    NULL), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    char *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    return path;
}

static int add_record(void *rock, const char *userid, const char *path)
{
    buf_printf(rock, "%s=%s\n", userid, path);
    return 0;
}

static void records(struct world *w, struct buf *out)
{
    buf_reset(out);
    CU_ASSERT_EQUAL(lcb_store_foreach(w->t.store, "", add_record, out), 0);
    buf_cstring(out);
}

static void begin(struct world *w)
{
    memset(w, 0, sizeof(*w));
    memset(long_user, 'x', sizeof(long_user) - 1);
    lcbtest_init(&w->t, "");
    lcbtest_open(&w->t, NULL);
    w->db = xasprintf("%s/conf/backups.db", w->t.dir);
    for (int i = 0; i < USERS; i++)
        w->path[i] = change(w, users[i], (unsigned)i + 1);
    records(w, &w->records);
}

static void end(struct world *w)
{
    for (int i = 0; i < USERS; i++)
        free(w->path[i]);
    free(w->db);
    buf_free(&w->records);
    buf_free(&w->found);
    buf_free(&w->texts);
    lcbtest_fini(&w->t);
}

static const char *word(enum lcb_found_kind kind)
{
    static const char *const words[] = {"ok", "added", "replaced", "wrong", "duplicate", "misnamed",
                                        "unreadable", "stranger", "leftover", "aside"};
    return words[kind];
}

static int note_found(void *rock, const struct lcb_found *f)
{
    struct world *w = rock;
    buf_printf(&w->found, "%s %s\n", word(f->kind), f->path);
    buf_printf(&w->texts, "%s %s %s: %s\n", word(f->kind), f->userid, f->path, f->text);
    return 0;
}

static int reconstruct(struct world *w, int dry, int force)
{
    struct lcb_reconstruct how = {.dry_run = dry, .replace = force, .found = note_found, .rock = w};
    struct buf err = BUF_INITIALIZER;
    char *aside;
    buf_reset(&w->found);
    buf_reset(&w->texts);
    lcbtest_close(&w->t);
    int r = lcb_reconstruct_open(w->t.config, w->t.vfs, dry, &w->t.store, &aside, &err);
    if (!r)
        r = lcb_reconstruct(w->t.store, &how);
    buf_cstring(&w->found);
    buf_cstring(&w->texts);
    buf_free(&err);
    free(aside);
    return r;
}

/* It says KIND of PATH. */
static int said(struct world *w, const char *kind, const char *path)
{
    char *line = xasprintf("%s %s\n", kind, path);
    int yes = strstr(w->found.s, line) != NULL;
    if (!yes)
        printf("\nno %s in:\n%s", line, w->texts.s);
    free(line);
    return yes;
}

/* The records are those of the beginning. */
static int restored(struct world *w)
{
    struct buf now = BUF_INITIALIZER;
    CU_ASSERT_PTR_NOT_NULL_FATAL(w->t.store);
    records(w, &now);
    int same = lcbtest_same(&now, &w->records, "records");
    buf_free(&now);
    return same;
}

static void rm_db(struct world *w)
{
    lcbtest_close(&w->t);
    CU_ASSERT_EQUAL(unlink(w->db), 0);
}

static void copy(const char *from, const char *to)
{
    struct buf b = BUF_INITIALIZER;
    lcbtest_read(from, &b);
    lcbtest_write(to, b.s, b.len);
    buf_free(&b);
}

static int lines(const struct buf *b)
{
    int n = 0;
    for (size_t i = 0; i < b->len; i++)
        n += b->s[i] == '\n';
    return n;
}

/* ---- backups.db lost, damaged, in part ---- */

static void test_lost(void)
{
    struct world w;
    begin(&w);
    rm_db(&w);
    CU_ASSERT_EQUAL(reconstruct(&w, 1, 0), 0);
    CU_ASSERT(said(&w, "added", w.path[0]));
    CU_ASSERT_EQUAL(access(w.db, F_OK), -1); /* a dry run */
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    for (int i = 0; i < USERS; i++)
        CU_ASSERT(said(&w, "added", w.path[i]));
    CU_ASSERT_EQUAL(lines(&w.found), USERS);
    CU_ASSERT(restored(&w));
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0); /* once more */
    for (int i = 0; i < USERS; i++)
        CU_ASSERT(said(&w, "ok", w.path[i]));
    CU_ASSERT_EQUAL(lines(&w.found), USERS);
    CU_ASSERT(restored(&w));
    end(&w);
}

/* Without indexes, too; and it makes none. */
static void test_no_index(void)
{
    struct world w;
    begin(&w);
    for (int i = 0; i < USERS; i++)
        lcbtest_rmindex(w.path[i]);
    rm_db(&w);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(restored(&w));
    char *index = xasprintf("%s.index", w.path[0]);
    CU_ASSERT_EQUAL(access(index, F_OK), -1);
    free(index);
    end(&w);
}

static void test_damaged(void)
{
    struct world w;
    struct buf whole = BUF_INITIALIZER;
    begin(&w);
    lcbtest_close(&w.t);
    lcbtest_read(w.db, &whole);
    for (size_t at = 0; at < whole.len; at += at < 400 ? 7 : 53) { /* a byte anywhere */
        char *aside = xasprintf("%s.damaged.%lld", w.db, (long long)lcbtest_time());
        lcbtest_write(w.db, whole.s, whole.len);
        int fd = open(w.db, O_WRONLY);
        char other = (char)~whole.s[at];
        CU_ASSERT_EQUAL(pwrite(fd, &other, 1, (off_t)at), 1);
        close(fd);
        unlink(aside);
        CU_ASSERT_EQUAL(reconstruct(&w, 1, 0), 0);
        CU_ASSERT_EQUAL(access(aside, F_OK), -1);
        CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
        if (strstr(w.found.s, "added"))
            CU_ASSERT_EQUAL(access(aside, F_OK), 0);
        CU_ASSERT(restored(&w));
        free(aside);
    }
    lcbtest_close(&w.t);
    lcbtest_write(w.db, "no database at all", 18);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(restored(&w));
    CU_ASSERT(lcbtest_logged("is damaged and was set aside"));
    buf_free(&whole);
    end(&w);
}

static void test_in_part(void)
{
    struct world w;
    begin(&w);
    CU_ASSERT_EQUAL(lcb_db_remove(lcb_store_db(w.t.store), users[1], w.path[1]), 0);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "ok", w.path[0]));
    CU_ASSERT(said(&w, "added", w.path[1]));
    CU_ASSERT(restored(&w));
    end(&w);
}

/* A record names a file that is gone; and another is there, or not. */
static void test_missing(void)
{
    struct world w;
    struct lcb_db *db;
    char *gone;
    begin(&w);
    db = lcb_store_db(w.t.store);
    gone = xasprintf("%s/one/j/joe_000000", w.t.dir);
    CU_ASSERT_EQUAL(lcb_db_replace(db, "joe", w.path[0], gone), 0);
    CU_ASSERT_EQUAL(unlink(w.path[1]), 0);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "wrong", gone));
    CU_ASSERT(said(&w, "wrong", w.path[1]));
    CU_ASSERT(strstr(w.texts.s, "reconstruct -F takes") != NULL);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 1), 0);
    CU_ASSERT(said(&w, "replaced", w.path[0]));
    CU_ASSERT(said(&w, "wrong", w.path[1])); /* nothing to take */
    CU_ASSERT(strstr(w.found.s, "unreadable") == NULL); /* each is told of once */
    CU_ASSERT(restored(&w));
    /* it is there, and nothing in it: an accident, where there is a backup */
    lcbtest_write(gone, "", 0);
    CU_ASSERT_EQUAL(lcb_db_replace(lcb_store_db(w.t.store), "joe", w.path[0], gone), 0);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "wrong", gone));
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 1), 0);
    CU_ASSERT(said(&w, "replaced", w.path[0]));
    CU_ASSERT(said(&w, "leftover", gone));
    CU_ASSERT(restored(&w));
    free(gone);
    end(&w);
}

/* ---- two files of a user ---- */

static void test_duplicate(void)
{
    struct world w;
    char *older, *found;
    begin(&w);
    older = xasprintf("%s/one/j/joe_AAAAAA", w.t.dir);
    copy(w.path[0], older);
    free(change(&w, "joe", 7)); /* the first one goes on */
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "ok", w.path[0]));
    CU_ASSERT(said(&w, "duplicate", older));
    CU_ASSERT(strstr(w.texts.s, "older than the one that counts") != NULL);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 1), 0); /* nor with force */
    CU_ASSERT(restored(&w));
    rm_db(&w);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0); /* nobody says which: the newer one */
    CU_ASSERT(said(&w, "added", w.path[0]));
    CU_ASSERT(said(&w, "duplicate", older));
    CU_ASSERT(restored(&w));
    CU_ASSERT_EQUAL(lcb_db_replace(lcb_store_db(w.t.store), "joe", w.path[0], older), 0);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0); /* the record is an old one: it stays */
    CU_ASSERT(said(&w, "ok", older));
    CU_ASSERT(said(&w, "duplicate", w.path[0]));
    CU_ASSERT(strstr(w.texts.s, "newer than the one that counts") != NULL);
    CU_ASSERT_EQUAL(lcb_store_find(w.t.store, "joe", &found), 0);
    UNIT_STR(found, older);
    free(found);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 1), 0); /* unless asked for */
    CU_ASSERT(said(&w, "replaced", w.path[0]));
    CU_ASSERT(said(&w, "duplicate", older));
    CU_ASSERT(restored(&w));
    free(older);
    end(&w);
}

static void set_meta(const char *path, const char *from, uint64_t id, int64_t end, int64_t made_end)
{
    struct lcb_index *ix = NULL;
    char *name = xasprintf("%s.index", path);
    CU_ASSERT_EQUAL_FATAL(lcb_index_open(name, 0, 0, 1 << 20, &ix), 0);
    CU_ASSERT_EQUAL(lcb_index_begin(ix), 0);
    CU_ASSERT_EQUAL(sqldb_run(ix->db, "INSERT OR REPLACE INTO meta VALUES ('made_from',?),"
                              "('made_from_id',?),('made_from_end',?),('made_end',?)", "tiii", from,
                              (int64_t)id, end, made_end), 0);
    CU_ASSERT_EQUAL(lcb_index_commit(ix), 0);
    lcb_index_close(&ix);
    free(name);
}

static off_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? -1 : st.st_size;
}

/* A pair that compaction made, and died: before the record was switched, or behind that. */
static void test_interrupted(void)
{
    struct world w;
    struct lcb *b = NULL;
    char *made;
    begin(&w);
    made = xasprintf("%s/one/j/joe_BBBBBB", w.t.dir);
    copy(w.path[0], made);
    CU_ASSERT_EQUAL(lcb_open_file(w.t.store, made, LCB_WRITE, 0, &b), 0); /* its index */
    uint64_t id = b->df.id;
    lcb_close(&b);
    set_meta(made, w.path[0], id, size_of(w.path[0]), size_of(made));
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "ok", w.path[0]));
    CU_ASSERT(said(&w, "leftover", made));
    rm_db(&w);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0); /* both are as they were: the first */
    CU_ASSERT(said(&w, "added", w.path[0]));
    CU_ASSERT(said(&w, "leftover", made));
    CU_ASSERT_EQUAL(lcb_db_replace(lcb_store_db(w.t.store), "joe", w.path[0], made), 0);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0); /* it was switched to */
    CU_ASSERT(said(&w, "ok", made));
    CU_ASSERT(said(&w, "leftover", w.path[0]));
    free(change(&w, "joe", 9)); /* and written to */
    rm_db(&w);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "added", made));
    CU_ASSERT(said(&w, "leftover", w.path[0]));
    CU_ASSERT_EQUAL(lcb_db_replace(lcb_store_db(w.t.store), "joe", made, w.path[0]), 0);
    free(change(&w, "joe", 10)); /* both written to: who knows how */
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "ok", w.path[0]));
    CU_ASSERT(said(&w, "duplicate", made));
    free(made);
    end(&w);
}

/* ---- others are at work, too ---- */

static struct {
    struct vfs vfs;
    struct vfs_ops ops;
    struct world *w;
    char *path; /* of the user who came meanwhile */
} busy;

/* The records have been read, and now somebody comes. */
static int busy_list(struct vfs *v, const char *dir, int (*fn)(void *, const char *), void *rock)
{
    (void)v;
    if (!busy.path) {
        busy.path = xstrdup(""); /* once */
        char *path = change(busy.w, "newcomer", 3);
        free(busy.path);
        busy.path = path;
    }
    return vfs_list(vfs_system(), dir, fn, rock);
}

static void test_newcomer(void)
{
    struct world w;
    begin(&w);
    busy.w = &w;
    busy.ops = *vfs_system()->ops;
    busy.ops.list = busy_list;
    busy.vfs.ops = &busy.ops;
    w.t.vfs = &busy.vfs;
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(busy.path);
    CU_ASSERT(said(&w, "ok", busy.path));
    CU_ASSERT(strstr(w.found.s, "wrong") == NULL && strstr(w.found.s, "added") == NULL);
    w.t.vfs = vfs_system();
    free(busy.path);
    busy.path = NULL;
    end(&w);
}

/* ---- names that do not fit, files that are none ---- */

static void test_misnamed(void)
{
    struct world w;
    char *jane, *backup;
    begin(&w);
    jane = xasprintf("%s/one/j/jane_AAAAAA", w.t.dir);
    backup = xasprintf("%s/one/a/a.b.gz", w.t.dir);
    CU_ASSERT_EQUAL(rename(w.path[0], jane), 0);
    CU_ASSERT_EQUAL(rename(w.path[1], backup), 0);
    rm_db(&w);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "misnamed", jane));
    CU_ASSERT(said(&w, "misnamed", backup));
    CU_ASSERT(strstr(w.texts.s, "misnamed joe ") != NULL);
    CU_ASSERT(strstr(w.texts.s, "misnamed a.b@example.org ") != NULL);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 1), 0);
    CU_ASSERT(said(&w, "added", jane));
    CU_ASSERT(said(&w, "added", backup));
    free(w.path[0]);
    CU_ASSERT_EQUAL(lcb_store_find(w.t.store, "joe", &w.path[0]), 0);
    UNIT_STR(w.path[0], jane);
    /* a record that names another user's file */
    CU_ASSERT_EQUAL(lcb_db_replace(lcb_store_db(w.t.store), "joe", jane, w.path[2]), 0);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "wrong", w.path[2]));
    CU_ASSERT(strstr(w.texts.s, "the file holds the backup of %SHARED") != NULL);
    free(jane);
    free(backup);
    end(&w);
}

static void test_strangers(void)
{
    struct world w;
    char *none, *dir, *gz, *empty, *index, *copy1, *fifo;
    begin(&w);
    none = xasprintf("%s/one/j/joe_CCCCCC", w.t.dir);
    dir = xasprintf("%s/one/j/joe_DDDDDD", w.t.dir);
    gz = xasprintf("%s/one/notes.txt", w.t.dir);
    empty = xasprintf("%s/one/j/jim_EEEEEE", w.t.dir);
    index = xasprintf("%s/one/j/jim_FFFFFF.index", w.t.dir);
    copy1 = xasprintf("%s.1600000000", w.path[0]);
    fifo = xasprintf("%s/one/j/jim_GGGGGG", w.t.dir);
    lcbtest_write(none, "hello, I am not gzip", 20);
    lcbtest_write(gz, "hello", 5);
    lcbtest_write(empty, "", 0);
    lcbtest_write(index, "x", 1);
    copy(w.path[0], copy1);
    CU_ASSERT_EQUAL(mkdir(dir, 0700), 0);
    CU_ASSERT_EQUAL(mkfifo(fifo, 0600), 0);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 1), 0);
    CU_ASSERT(said(&w, "ok", w.path[0]));
    CU_ASSERT(said(&w, "unreadable", none));
    CU_ASSERT(strstr(w.found.s, dir) == NULL); /* a directory is no file */
    CU_ASSERT(said(&w, "unreadable", fifo));
    CU_ASSERT(said(&w, "stranger", gz));
    CU_ASSERT(said(&w, "leftover", empty));
    CU_ASSERT(said(&w, "leftover", index));
    CU_ASSERT(said(&w, "aside", copy1));
    CU_ASSERT(restored(&w));
    free(none);
    free(dir);
    free(gz);
    free(empty);
    free(index);
    free(copy1);
    free(fifo);
    end(&w);
}

/* In other directories than we would use, and behind a link that leads back. */
static void test_places(void)
{
    struct world w;
    char *deep, *loop;
    begin(&w);
    deep = xasprintf("%s/one/my_backup/my_backup.20260101/joe_abcdef", w.t.dir);
    loop = xasprintf("%s/one/my_backup/loop", w.t.dir);
    CU_ASSERT_EQUAL(vfs_mkparents(vfs_system(), deep), 0);
    CU_ASSERT_EQUAL(rename(w.path[0], deep), 0);
    CU_ASSERT_EQUAL(symlink("../..", loop), 0);
    rm_db(&w);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "added", deep));
    CU_ASSERT(lines(&w.found) >= USERS);
    CU_ASSERT(strstr(w.found.s, "duplicate") == NULL);
    free(deep);
    free(loop);
    end(&w);
}

/* A record leads to its file over a symbolic link: that is one file, and none too many. */
static void test_two_ways(void)
{
    struct world w;
    char *link, *other;
    begin(&w);
    link = xasprintf("%s/uno", w.t.dir);
    other = xasprintf("%s%s", link, strstr(w.path[0], "/j/"));
    CU_ASSERT_EQUAL(symlink("one", link), 0);
    CU_ASSERT_EQUAL(lcb_db_replace(lcb_store_db(w.t.store), "joe", w.path[0], other), 0);
    for (int force = 0; force < 2; force++) {
        CU_ASSERT_EQUAL(reconstruct(&w, 0, force), 0);
        CU_ASSERT(said(&w, "ok", other));
        CU_ASSERT_EQUAL(lines(&w.found), USERS);
    }
    /* a deletion that did not happen leaves another name, which must not take the place of this one */
    char *deleted = xasprintf("%s.deleted.1600000000", w.path[0]);
    CU_ASSERT_EQUAL(vfs_link(vfs_system(), w.path[0], deleted), 0);
    CU_ASSERT_EQUAL(lcb_deleted_purge(w.t.store, INT64_MAX, NULL, NULL), 0);
    CU_ASSERT_EQUAL(access(w.path[0], F_OK), 0);
    CU_ASSERT_EQUAL(access(deleted, F_OK), -1);
    free(deleted);
    free(other);
    free(link);
    end(&w);
}

/* A file of Cyrus 3.x, which holds mail of others before its own. */
static void test_foreign(void)
{
    static const char *const lines1[] = {
        "1700000000 APPLY MAILBOX %(UNIQUEID f1 MBOXNAME user.bob LAST_UID 1 HIGHESTMODSEQ 1"
        " RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 UIDVALIDITY 1 PARTITION default"
        " ACL \"\" OPTIONS P RECORD ())\r\n", NULL};
    static const char *const lines2[] = {
        "1700000001 APPLY SUB %(USERID jim MBOXNAME user.bob)\r\n", NULL};
    struct world w;
    struct buf data = BUF_INITIALIZER;
    char *jim, *jane;
    begin(&w);
    jim = xasprintf("%s/one/j/jim_AAAAAA", w.t.dir);
    jane = xasprintf("%s/one/j/jane_AAAAAA", w.t.dir);
    cyrus_chunk(&data, lines1);
    cyrus_empty(&data);
    cyrus_chunk(&data, lines2);
    lcbtest_write(jim, data.s, data.len);
    lcbtest_write(jane, data.s, data.len);
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(said(&w, "added", jim));
    CU_ASSERT(said(&w, "misnamed", jane));
    free(jim);
    free(jane);
    buf_free(&data);
    end(&w);
}

/* Damage at the beginning, at the end, torn: it is still joe's. */
static void test_damage(void)
{
    struct world w;
    struct buf data = BUF_INITIALIZER;
    begin(&w);
    for (unsigned n = 20; n < 60; n++)
        free(change(&w, "joe", n));
    lcbtest_read(w.path[0], &data);
    for (int i = 0; i < 4; i++) {
        char *bytes = xmemdup(data.s, data.len);
        size_t len = data.len - (i == 1 ? 11 : 0);
        if (i != 1)
            memset(bytes + (i == 0 ? 3 : i == 2 ? data.len - 40 : data.len / 2), 0x55, 30);
        lcbtest_write(w.path[0], bytes, len);
        lcbtest_close(&w.t);
        unlink(w.db);
        CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
        CU_ASSERT(said(&w, "added", w.path[0]));
        CU_ASSERT(restored(&w));
        free(bytes);
    }
    buf_free(&data);
    end(&w);
}

/* ---- crashes; and nothing is touched ---- */

static void sum_files(struct world *w, unsigned char sum[SHA1_LEN])
{
    struct sha1 *sha = sha1_new();
    struct buf b = BUF_INITIALIZER;
    for (int i = 0; i < USERS; i++) {
        struct stat st = {.st_ino = 0};
        CU_ASSERT_EQUAL(stat(w->path[i], &st), 0);
        lcbtest_read(w->path[i], &b);
        sha1_update(sha, b.s, b.len);
        sha1_update(sha, &st.st_mtim, sizeof(st.st_mtim));
        sha1_update(sha, &st.st_ino, sizeof(st.st_ino));
    }
    sha1_final(sha, sum);
    sha1_free(&sha);
    buf_free(&b);
}

/* BREAK: what became of backups.db before. */
static long crash_at(int how_broken, long k, enum vfs_settle how, unsigned seed)
{
    struct world w;
    unsigned char before[SHA1_LEN], after[SHA1_LEN];
    begin(&w);
    sum_files(&w, before);
    rm_db(&w);
    if (how_broken == 1)
        lcbtest_write(w.db, "no database at all", 18);
    struct vfs *v = vfs_crash_new(w.t.dir, k);
    w.t.vfs = v;
    int r = reconstruct(&w, 0, 0);
    CU_ASSERT(k > 0 || !r);
    lcbtest_close(&w.t);
    long calls = vfs_fault_calls(v);
    CU_ASSERT_EQUAL(vfs_crash_settle(v, how, seed), 0);
    vfs_fault_free(&v);
    sum_files(&w, after);
    CU_ASSERT(!memcmp(before, after, sizeof(before)));
    w.t.vfs = vfs_system();
    if (!r) {
        lcbtest_open(&w.t, NULL);
        CU_ASSERT(restored(&w));
        lcbtest_close(&w.t);
    }
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT(restored(&w));
    end(&w);
    return calls;
}

static void test_crash(void)
{
    for (int broken = 0; broken < 2; broken++) {
        long calls = crash_at(broken, 0, VFS_SETTLE_KEPT, 0);
        CU_ASSERT(calls > 5);
        for (long k = 1; k <= calls; k++) {
            crash_at(broken, k, VFS_SETTLE_LOST, 0);
            crash_at(broken, k, VFS_SETTLE_KEPT, 0);
            crash_at(broken, k, VFS_SETTLE_TORN, (unsigned)k);
        }
    }
}

/* A call that fails spoils the run or is said; nothing wrong is written. */
static void test_fail(void)
{
    long calls = 1;
    for (long k = 0; k <= calls; k++) {
        struct world w;
        begin(&w);
        rm_db(&w);
        struct vfs *v = vfs_fail_new(VFS_FAULT_ALL, k, EIO, 0);
        w.t.vfs = v;
        int r = reconstruct(&w, 0, 0);
        CU_ASSERT(k || !r);
        CU_ASSERT(!k || r || strstr(w.found.s, "unreadable") || lines(&w.found) == USERS);
        lcbtest_close(&w.t);
        if (!k)
            calls = vfs_fault_calls(v);
        vfs_fault_free(&v);
        w.t.vfs = vfs_system();
        CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
        CU_ASSERT(restored(&w));
        end(&w);
    }
}

/* ---- many ---- */

static void test_many(void)
{
    struct world w;
    struct buf data = BUF_INITIALIZER;
    enum { MANY = 3000 };
    begin(&w);
    lcbtest_read(w.path[0], &data);
    for (int i = 0; i < MANY; i++) { /* all are joe's, whatever they are called */
        char *path = xasprintf("%s/one/%c/u%d_xxxxxx", w.t.dir, 'a' + i % 26, i);
        CU_ASSERT_EQUAL(vfs_mkparents(vfs_system(), path), 0);
        lcbtest_write(path, data.s, data.len);
        free(path);
    }
    CU_ASSERT_EQUAL(reconstruct(&w, 0, 0), 0);
    CU_ASSERT_EQUAL(lines(&w.found), USERS + MANY);
    CU_ASSERT(restored(&w));
    buf_free(&data);
    end(&w);
}

void suite_lcb_reconstruct(void);
void suite_lcb_reconstruct(void)
{
    static const struct unit_test tests[] = {
        {"lost", test_lost},
        {"no indexes either", test_no_index},
        {"damaged", test_damaged},
        {"in part", test_in_part},
        {"files are missing", test_missing},
        {"two files of a user", test_duplicate},
        {"an interrupted switch", test_interrupted},
        {"somebody comes meanwhile", test_newcomer},
        {"misnamed", test_misnamed},
        {"strangers", test_strangers},
        {"places", test_places},
        {"two ways to one file", test_two_ways},
        {"of Cyrus 3.x", test_foreign},
        {"damaged data files", test_damage},
        {"every crash", test_crash},
        {"every failure", test_fail},
        {"many", test_many},
        {NULL, NULL},
    };
    unit_suite("lcb_reconstruct", tests);
}
