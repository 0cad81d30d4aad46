/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of backup/lcb_db: look-ups, creation by several processes at once, failures on the way. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backup/lcb_db.h"
#include "backup/lcb_partition.h"
#include "cunit/unit.h"
#include "lib/strarray.h"
#include "lib/twoskip.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

static char base[512], dbpath[600];
static int nlogged;

static void hook(int priority, const char *text)
{
    (void)priority;
    (void)text;
    nlogged++;
}

/* A new scratch directory; there is no database yet. */
static void start(void)
{
    snprintf(base, sizeof(base), "%s", unit_tmpdir());
    snprintf(dbpath, sizeof(dbpath), "%s/conf/backups.db", base);
    nlogged = 0;
    xlog_sethook(hook);
}

static struct lcb_db *opened(struct vfs *v)
{
    struct lcb_db *db = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_db_open(v, dbpath, &db), 0);
    return db;
}

/* Makes files through ROCK's vfs and counts. */
struct maker {
    struct vfs *vfs;
    int calls;
    int error;
};

static int make_file(void *rock, const char *userid, char **path)
{
    struct maker *m = rock;
    int fd, r;
    m->calls++;
    if (m->error)
        return m->error;
    r = lcb_path_new(m->vfs, base, userid, 0, path, &fd);
    vfs_close(m->vfs, &fd);
    return r;
}

static void found(struct lcb_db *db, const char *userid, const char *want)
{
    char *path = NULL;
    CU_ASSERT_EQUAL(lcb_db_find(db, userid, &path), 0);
    UNIT_STR(path, want);
    free(path);
}

static void missing(struct lcb_db *db, const char *userid)
{
    char *path = NULL;
    CU_ASSERT_EQUAL(lcb_db_find(db, userid, &path), XERR_NOTFOUND);
    CU_ASSERT_PTR_NULL(path);
}

static void test_create(void)
{
    struct maker m = {vfs_system(), 0, 0};
    char *alice, *again, *bob;
    int created;
    start();
    struct lcb_db *db = opened(vfs_system()), *other = opened(vfs_system());
    missing(db, "alice");
    missing(db, "");
    CU_ASSERT_EQUAL(access(dbpath, F_OK), -1); /* looking creates nothing */
    CU_ASSERT_EQUAL_FATAL(lcb_db_create(db, "alice", make_file, &m, &alice, &created), 0);
    CU_ASSERT_EQUAL(created, 1);
    CU_ASSERT_EQUAL(access(alice, F_OK), 0);
    found(db, "alice", alice);
    found(other, "alice", alice);
    CU_ASSERT_EQUAL(lcb_db_create(other, "alice", make_file, &m, &again, &created), 0);
    CU_ASSERT_EQUAL(created, 0);
    CU_ASSERT_EQUAL(m.calls, 1);
    UNIT_STR(again, alice);
    CU_ASSERT_EQUAL_FATAL(lcb_db_create(other, "%SHARED", make_file, &m, &bob, NULL), 0);
    found(db, "%SHARED", bob);
    found(db, "alice", alice);
    missing(db, "alic");
    missing(db, "alice2");
    free(again);
    CU_ASSERT_EQUAL(lcb_db_create(db, "", make_file, &m, &again, &created), XERR_PARAM);
    CU_ASSERT_PTR_NULL(again);
    CU_ASSERT_EQUAL(m.calls, 2);
    free(alice);
    free(bob);
    lcb_db_close(&db);
    lcb_db_close(&other);
    CU_ASSERT_PTR_NULL(db);
    CU_ASSERT_EQUAL(nlogged, 0);
    xlog_sethook(NULL);
}

/* If the file cannot be made there is no record, and the next try is free to work. */
static void test_callback_fails(void)
{
    struct maker m = {vfs_system(), 0, XERR_CONFIG};
    char *path;
    int created = 1;
    start();
    struct lcb_db *db = opened(vfs_system());
    CU_ASSERT_EQUAL(lcb_db_create(db, "alice", make_file, &m, &path, &created), XERR_CONFIG);
    CU_ASSERT_PTR_NULL(path);
    CU_ASSERT_EQUAL(created, 0);
    missing(db, "alice");
    m.error = 0;
    CU_ASSERT_EQUAL_FATAL(lcb_db_create(db, "alice", make_file, &m, &path, &created), 0);
    found(db, "alice", path);
    free(path);
    lcb_db_close(&db);
    xlog_sethook(NULL);
}

static void test_replace(void)
{
    struct maker m = {vfs_system(), 0, 0};
    char *path;
    start();
    struct lcb_db *db = opened(vfs_system());
    CU_ASSERT_EQUAL(lcb_db_replace(db, "alice", "/old", "/new"), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_db_remove(db, "alice", "/old"), XERR_NOTFOUND);
    CU_ASSERT_EQUAL_FATAL(lcb_db_create(db, "alice", make_file, &m, &path, NULL), 0);
    CU_ASSERT_EQUAL(lcb_db_replace(db, "bob", path, "/new"), XERR_NOTFOUND);
    CU_ASSERT_EQUAL(lcb_db_replace(db, "alice", "/old", "/new"), XERR_STALE);
    CU_ASSERT_EQUAL(lcb_db_replace(db, "alice", path, "new"), XERR_PARAM);
    found(db, "alice", path);
    CU_ASSERT_EQUAL(lcb_db_replace(db, "alice", path, "/new"), 0);
    found(db, "alice", "/new");
    CU_ASSERT_EQUAL(lcb_db_remove(db, "alice", path), XERR_STALE);
    found(db, "alice", "/new");
    CU_ASSERT_EQUAL(lcb_db_remove(db, "alice", "/new"), 0);
    missing(db, "alice");
    CU_ASSERT_EQUAL(access(path, F_OK), 0);
    free(path);
    lcb_db_close(&db);
    xlog_sethook(NULL);
}

static int collect(void *rock, const char *userid, const char *path)
{
    struct strarray *seen = rock;
    char *line = xasprintf("%s=%s", userid, path);
    strarray_append(seen, line);
    free(line);
    return !strcmp(userid, "stop") ? 77 : 0;
}

static void put(const char *key, size_t keylen, const char *value, size_t valuelen)
{
    struct twoskip *ts;
    CU_ASSERT_EQUAL_FATAL(vfs_mkparents(vfs_system(), dbpath), 0);
    CU_ASSERT_EQUAL_FATAL(twoskip_open(vfs_system(), dbpath, TWOSKIP_CREATE, &ts), 0);
    CU_ASSERT_EQUAL(twoskip_store(ts, NULL, key, keylen, value, valuelen), 0);
    twoskip_close(&ts);
}

static void test_foreach(void)
{
    struct strarray seen = STRARRAY_INITIALIZER;
    start();
    struct lcb_db *db = opened(vfs_system());
    CU_ASSERT_EQUAL(lcb_db_foreach(db, "", collect, &seen), 0);
    CU_ASSERT_EQUAL(seen.count, 0);
    put("bob", 3, "/b", 2);
    put("al", 2, "/al", 3);
    put("alice", 5, "/a", 2);
    put("ALICE", 5, "/A", 2);
    CU_ASSERT_EQUAL(lcb_db_foreach(db, "", collect, &seen), 0);
    CU_ASSERT_EQUAL_FATAL(seen.count, 4);
    UNIT_STR(seen.data[0], "ALICE=/A");
    UNIT_STR(seen.data[1], "al=/al");
    UNIT_STR(seen.data[2], "alice=/a");
    UNIT_STR(seen.data[3], "bob=/b");
    strarray_fini(&seen);
    CU_ASSERT_EQUAL(lcb_db_foreach(db, "ali", collect, &seen), 0);
    CU_ASSERT_EQUAL_FATAL(seen.count, 1);
    put("stop", 4, "/s", 2);
    put("z", 1, "/z", 2);
    CU_ASSERT_EQUAL(lcb_db_foreach(db, "", collect, &seen), 77);
    CU_ASSERT_EQUAL(seen.count, 1 + 5);
    strarray_fini(&seen);
    lcb_db_close(&db);
    CU_ASSERT_EQUAL(nlogged, 0);
    xlog_sethook(NULL);
}

/* Values that are no paths are errors of their own users, and do not end a walk. */
static void test_bad_records(void)
{
    struct maker m = {vfs_system(), 0, 0};
    struct strarray seen = STRARRAY_INITIALIZER;
    char *path;
    start();
    put("a", 1, "", 0);
    put("b", 1, "relative", 8);
    put("c", 1, "/nul\0x", 6);
    put("d\0d", 3, "/x", 2);
    put("e", 1, "/fine", 5);
    struct lcb_db *db = opened(vfs_system());
    for (const char *id = "a\0b\0c\0"; *id; id += 2) {
        CU_ASSERT_EQUAL(lcb_db_find(db, id, &path), XERR_FORMAT);
        CU_ASSERT_PTR_NULL(path);
        CU_ASSERT_EQUAL(lcb_db_create(db, id, make_file, &m, &path, NULL), XERR_FORMAT);
        CU_ASSERT_PTR_NULL(path);
    }
    CU_ASSERT_EQUAL(m.calls, 0);
    CU_ASSERT_EQUAL(nlogged, 6);
    missing(db, "d");
    found(db, "e", "/fine");
    CU_ASSERT_EQUAL(lcb_db_foreach(db, "", collect, &seen), 0);
    CU_ASSERT_EQUAL_FATAL(seen.count, 1);
    UNIT_STR(seen.data[0], "e=/fine");
    CU_ASSERT_EQUAL(nlogged, 10);
    strarray_fini(&seen);
    lcb_db_close(&db);
    xlog_sethook(NULL);
}

static void test_not_twoskip(void)
{
    struct lcb_db *db = NULL;
    start();
    CU_ASSERT_EQUAL_FATAL(vfs_mkparents(vfs_system(), dbpath), 0);
    int fd = open(dbpath, O_CREAT | O_WRONLY, 0600);
    for (int i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(write(fd, "not a database", 14), 14);
    close(fd);
    CU_ASSERT_EQUAL(lcb_db_open(vfs_system(), dbpath, &db), XERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL_FATAL(db);
    char *path;
    CU_ASSERT_EQUAL(lcb_db_find(db, "alice", &path), XERR_FORMAT);
    CU_ASSERT_EQUAL(unlink(dbpath), 0);
    CU_ASSERT_EQUAL(lcb_db_find(db, "alice", &path), XERR_NOTFOUND);
    lcb_db_close(&db);
    xlog_sethook(NULL);
}

enum { RACERS = 4, USERS = 12 };

/* In a child: create all users, and say in a file how many were new and what the paths are. */
static int race(int me)
{
    struct maker m = {vfs_system(), 0, 0};
    struct lcb_db *db = NULL;
    char name[600];
    int bad = lcb_db_open(vfs_system(), dbpath, &db) != 0;
    snprintf(name, sizeof(name), "%s/racer%d", base, me);
    FILE *f = fopen(name, "w");
    for (int i = 0; f && !bad && i < USERS; i++) {
        char userid[16], *path = NULL;
        int created = 0;
        /* Some in one order, some in the other. */
        snprintf(userid, sizeof(userid), "user%d", me % 2 ? i : USERS - 1 - i);
        bad |= lcb_db_create(db, userid, make_file, &m, &path, &created) != 0;
        fprintf(f, "%s %d %s\n", userid, created, path ? path : "-");
        free(path);
    }
    lcb_db_close(&db);
    return !f || fclose(f) || bad;
}

static int read_racer(int me, int *created, struct strarray *paths)
{
    char name[600], userid[16], path[600];
    int n, lines = 0;
    snprintf(name, sizeof(name), "%s/racer%d", base, me);
    FILE *f = fopen(name, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    while (fscanf(f, "%15s %d %599s", userid, &n, path) == 3) {
        *created += n;
        strarray_add(paths, path);
        lines++;
    }
    fclose(f);
    return lines;
}

/* Several processes that create the same users agree on the paths, and one file is made for each.
 */
static void test_race(void)
{
    struct strarray paths = STRARRAY_INITIALIZER, seen = STRARRAY_INITIALIZER;
    pid_t pid[RACERS];
    int created = 0, status;
    start();
    fflush(NULL);
    for (int i = 0; i < RACERS; i++) {
        pid[i] = fork();
        CU_ASSERT_FATAL(pid[i] >= 0);
        if (!pid[i])
            _exit(race(i));
    }
    for (int i = 0; i < RACERS; i++) {
        CU_ASSERT_EQUAL(waitpid(pid[i], &status, 0), pid[i]);
        CU_ASSERT_EQUAL(status, 0);
        CU_ASSERT_EQUAL(read_racer(i, &created, &paths), USERS);
    }
    CU_ASSERT_EQUAL(created, USERS);
    CU_ASSERT_EQUAL(paths.count, USERS);
    struct lcb_db *db = opened(vfs_system());
    CU_ASSERT_EQUAL(lcb_db_foreach(db, "user", collect, &seen), 0);
    CU_ASSERT_EQUAL(seen.count, USERS);
    lcb_db_close(&db);
    strarray_fini(&paths);
    strarray_fini(&seen);
    xlog_sethook(NULL);
}

/* In a child: take the shared lock of the database, say so through FD, keep it until killed. */
static void hold_shared(int fd)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int db = open(dbpath, O_RDONLY);
    if (db < 0 || fcntl(db, F_SETLK, &lock) || write(fd, "", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

/* In a child: look a user up and say so through FD. */
static void look_up(int fd)
{
    struct lcb_db *db = NULL;
    char *path = NULL;
    int r = lcb_db_open(vfs_system(), dbpath, &db);
    if (!r)
        r = lcb_db_find(db, "bob", &path);
    _exit(r || write(fd, "", 1) != 1);
}

/* A look-up needs no more than the shared lock: it ends while somebody else has that. */
static void test_readers(void)
{
    int calls[2];
    pid_t holder, looker;
    struct pollfd poller = {.events = POLLIN};
    char c;
    start();
    struct lcb_db *db = opened(vfs_system());
    struct maker maker = {.vfs = vfs_system()};
    char *path = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_db_create(db, "bob", make_file, &maker, &path, NULL), 0);
    free(path);
    lcb_db_close(&db);
    CU_ASSERT_EQUAL_FATAL(pipe(calls), 0);
    fflush(NULL);
    if (!(holder = fork()))
        hold_shared(calls[1]);
    CU_ASSERT_EQUAL_FATAL(read(calls[0], &c, 1), 1);
    if (!(looker = fork()))
        look_up(calls[1]);
    poller.fd = calls[0];
    CU_ASSERT_EQUAL(poll(&poller, 1, 20000), 1);
    kill(looker, SIGKILL);
    kill(holder, SIGKILL);
    waitpid(looker, NULL, 0);
    waitpid(holder, NULL, 0);
    close(calls[0]);
    close(calls[1]);
    xlog_sethook(NULL);
}

/* Number of files in the partition directory for users with a. */
static int count_files(void)
{
    char *command = xasprintf("ls '%s/a' 2>/dev/null | wc -l", base);
    FILE *f = popen(command, "r");
    int n = -1;
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(fscanf(f, "%d", &n), 1);
    pclose(f);
    free(command);
    return n;
}

/* Whichever call fails: an error means neither record nor file, success means both. */
static void test_failures(void)
{
    int r = 1, failures = 0;
    for (long k = 1; r; k++) {
        char *path = NULL, *then = NULL;
        start();
        put("other", 5, "/o", 2);
        struct vfs *v = vfs_fail_new(VFS_FAULT_WRITES | VFS_FAULT_SYNCS, k, EIO, 0);
        struct maker m = {v, 0, 0};
        struct lcb_db *db = opened(v);
        r = lcb_db_create(db, "alice", make_file, &m, &path, NULL);
        lcb_db_close(&db);
        db = opened(vfs_system());
        int now = lcb_db_find(db, "alice", &then);
        found(db, "other", "/o");
        lcb_db_close(&db);
        CU_ASSERT_EQUAL(count_files(), !r);
        if (r) {
            failures++;
            CU_ASSERT_PTR_NULL(path);
            CU_ASSERT_EQUAL(now, XERR_NOTFOUND);
        } else {
            CU_ASSERT_EQUAL(now, 0);
            UNIT_STR(then, path);
        }
        free(path);
        free(then);
        vfs_fault_free(&v);
        CU_ASSERT_FATAL(k < 200);
    }
    CU_ASSERT(failures >= 5);
    xlog_sethook(NULL);
}

/* A disk that from its k-th sync on takes no bytes any more, but forgets names. */
struct tired {
    struct vfs v;
    struct vfs_ops ops;
    long k, syncs;
};

static int tired_sync(struct vfs *v, int fd)
{
    struct tired *t = (struct tired *)v;
    return ++t->syncs >= t->k ? -EIO : vfs_fsync(vfs_system(), fd);
}

static ssize_t tired_pwrite(struct vfs *v, int fd, const void *p, size_t n, off_t at)
{
    struct tired *t = (struct tired *)v;
    return t->syncs >= t->k ? -EIO : vfs_pwrite(vfs_system(), fd, p, n, at);
}

/* Then a commit may have happened that cannot be undone: whatever a record names is there. */
static void test_tired(void)
{
    int r = 1, happened = 0;
    for (long k = 1; r; k++) {
        struct tired t = {.k = k, .ops = *vfs_system()->ops};
        char *path = NULL, *then = NULL;
        t.v.ops = &t.ops;
        t.ops.fsync = t.ops.fdatasync = tired_sync;
        t.ops.pwrite = tired_pwrite;
        start();
        put("other", 5, "/o", 2);
        struct maker m = {&t.v, 0, 0};
        struct lcb_db *db = opened(&t.v);
        r = lcb_db_create(db, "alice", make_file, &m, &path, NULL);
        lcb_db_close(&db);
        db = opened(vfs_system());
        int now = lcb_db_find(db, "alice", &then);
        CU_ASSERT(!now || now == XERR_NOTFOUND);
        if (!now)
            CU_ASSERT_EQUAL(access(then, F_OK), 0);
        happened += r && !now;
        lcb_db_close(&db);
        free(path);
        free(then);
        CU_ASSERT_FATAL(k < 200);
    }
    CU_ASSERT(happened >= 1);
    xlog_sethook(NULL);
}

void suite_lcb_db(void);
void suite_lcb_db(void)
{
    static const struct unit_test tests[] = {
        {"create", test_create},
        {"callback fails", test_callback_fails},
        {"replace", test_replace},
        {"foreach", test_foreach},
        {"bad records", test_bad_records},
        {"not twoskip", test_not_twoskip},
        {"race", test_race},
        {"a commit that cannot be undone", test_tired},
        {"readers do not wait for each other", test_readers},
        {"failures", test_failures},
        {NULL, NULL},
    };
    unit_suite("lcb_db", tests);
}
