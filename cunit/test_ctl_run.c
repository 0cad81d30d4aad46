/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of backup/ctl_backups_run, _worker, _progress and _result: a verb that does what the name of
 * the backup says, over many of them. */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "cunit/ctltest.h"
#include "cunit/unit.h"
#include "lib/filelock.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static struct ctltest c;
static int signal_to_send = SIGTERM;

static int is(const struct ctl_target *t, const char *kind)
{
    return !strncmp(t->name, kind, strlen(kind));
}

/* The first of a run is interrupted while the others are at work. */
static void interrupt(struct ctl_result *result)
{
    kill(getppid(), signal_to_send);
    while (!ctl_stop_asked())
        usleep(1000);
    ctl_result_error(result, XERR_SIGNAL);
}

static void each(struct ctl *ctl, const struct ctl_target *t, struct ctl_result *result)
{
    (void)ctl;
    result->more = json_pack("{s:i}", "pid", (int)getpid());
    ctl_progress(result, 1 << 20);
    if (is(t, "kill"))
        kill(getpid(), SIGKILL);
    else if (is(t, "exit"))
        _exit(3);
    else if (is(t, "fail"))
        ctl_result_error(result, XERR_FORMAT);
    else if (is(t, "lock"))
        ctl_result_error(result, XERR_LOCKED);
    else if (is(t, "skip"))
        result->status = CTL_SKIPPED;
    else if (is(t, "note"))
        buf_setcstr(&result->message, "a \"remark\"\n");
    else if (is(t, "stop"))
        interrupt(result);
    for (int i = is(t, "lines") ? atoi(t->name + 5) : 0; i > 0; i--)
        ctl_result_line(result, "%s %d", t->name, i);
}

static const struct ctl_verb verb = {.name = "do", .each = each, .flags = CTL_NEW},
                             guard = {.name = "guard", .each = each, .flags = CTL_NEW | CTL_GUARD};

static const char *run(const char *line)
{
    static char text[65536];
    int code = ctltest_call(&c, &verb, line, ctl_run);
    snprintf(text, sizeof(text), "%s%d", buf_cstring(&c.out), code);
    return text;
}

static void test_status(void)
{
    ctltest_init(&c, "", "");
    UNIT_STR(run("a skip-1 b"), "do a: ok\ndo skip-1: skipped\ndo b: ok\n0");
    UNIT_STR(run("a lock-1"), "do a: ok\ndo lock-1: locked\n75");
    UNIT_STR(run("fail-1 note"),
             "do fail-1: failed (damaged or foreign data)\ndo note: ok (a \"remark\"\n)\n75");
    UNIT_STR(run(""), "0");
    UNIT_STR(buf_cstring(&c.err), "");
    c.opt.legacy_status = 1;
    UNIT_STR(run("a skip-1 b"), "do a: ok\ndo skip-1: skipped\ndo b: ok\n75");
    c.opt.legacy_status = 0;
    c.opt.verbose = 1;
    run("a skip-1 lock-1 fail-1 b");
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&c.err),
        "do: 5 backups: 2 ok, 1 skipped, 1 locked, 1 failed; 5.0 MiB in "));
    ctltest_fini(&c);
}

static void test_stop_on_error(void)
{
    ctltest_init(&c, "", "");
    c.opt.stop_on_error = 1;
    UNIT_STR(run("a fail-1 b"), "do a: ok\ndo fail-1: failed (damaged or foreign data)\n75");
    UNIT_STR(run("lock-1 skip-1 b"), "do lock-1: locked\ndo skip-1: skipped\ndo b: ok\n75");
    UNIT_STR(run("kill b"), "do kill: failed (its process was ended by signal 9)\n75");
    c.opt.legacy_status = 1;
    UNIT_STR(run("skip-1 b"), "do skip-1: skipped\n75");
    UNIT_STR(run("lock-1 b"), "do lock-1: locked\ndo b: ok\n75");
    ctltest_fini(&c);
}

static int times_in(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

/* A worker that dies takes one backup with it, whatever their number. */
static void test_death(void)
{
    ctltest_init(&c, "", "");
    for (int jobs = 1; jobs <= 4; jobs++) {
        c.opt.jobs = jobs;
        const char *said = run("a kill-1 b exit-1 kill-2 c d");
        CU_ASSERT_EQUAL(times_in(said, ": ok\n"), 4);
        CU_ASSERT_EQUAL(times_in(said, ": failed (its process was ended by signal 9)\n"), 2);
        CU_ASSERT_EQUAL(times_in(said, "do exit-1: failed (its process ended with status 3)\n"), 1);
        CU_ASSERT_EQUAL(times_in(said, "\n"), 7);
        UNIT_STR(strrchr(said, '\n') + 1, "75");
    }
    ctltest_fini(&c);
}

static void test_jobs(void)
{
    enum { N = 30 };
    struct buf names = BUF_INITIALIZER;
    char word[32];
    for (int i = 0; i < N; i++)
        buf_printf(&names, "%sname%d", i ? " " : "", i);
    ctltest_init(&c, "", "");
    c.opt.json = c.opt.json_array = 1;
    for (int jobs = 1; jobs <= 64; jobs = jobs * 4) {
        c.opt.jobs = jobs;
        CU_ASSERT_EQUAL(ctltest_call(&c, &verb, buf_cstring(&names), ctl_run), 0);
        json_t *all = json_loadb(c.out.s, c.out.len, 0, NULL), *one;
        json_t *pids = json_object(), *seen = json_object();
        size_t i;
        CU_ASSERT_EQUAL(json_array_size(all), N);
        json_array_foreach(all, i, one) {
            snprintf(word, sizeof(word), "%d", (int)json_integer_value(json_object_get(one, "pid")));
            json_object_set_new(pids, word, json_true());
            json_object_set_new(seen, json_string_value(json_object_get(one, "userid")), json_true());
        }
        CU_ASSERT_EQUAL(json_object_size(seen), N);
        CU_ASSERT(json_object_size(pids) <= (size_t)jobs && json_object_size(pids) >= 1);
        json_decref(all);
        json_decref(pids);
        json_decref(seen);
    }
    buf_free(&names);
    ctltest_fini(&c);
}

/* Lines stand before the result, whole, and together. */
static void test_lines(void)
{
    ctltest_init(&c, "", "");
    UNIT_STR(run("lines2 a"), "lines2 2\nlines2 1\ndo lines2: ok\ndo a: ok\n0");
    CU_ASSERT_EQUAL(ctltest_call(&c, &verb, "lines100000", ctl_run), 0);
    CU_ASSERT_EQUAL(times_in(buf_cstring(&c.out), "\n"), 100001);
    c.opt.jobs = 3;
    CU_ASSERT_EQUAL(ctltest_call(&c, &verb, "lines5000 lines5001 lines5002", ctl_run), 0);
    CU_ASSERT_EQUAL(times_in(buf_cstring(&c.out), "\n"), 15006);
    for (const char *p = buf_cstring(&c.out); *p;) {
        int all = atoi(p + 5); /* "lines5000 5000" */
        for (int i = all; i > 0; i--) {
            char want[64];
            int n = snprintf(want, sizeof(want), "lines%d %d\n", all, i);
            if (strncmp(p, want, (size_t)n)) {
                CU_FAIL("lines of another");
                break;
            }
            p += n;
        }
        CU_ASSERT_EQUAL_FATAL(strncmp(p, "do lines", 8), 0);
        p = strchr(p, '\n') + 1;
    }
    c.opt.jobs = 1;
    c.opt.json = 1;
    CU_ASSERT_EQUAL(ctltest_call(&c, &verb, "lines2", ctl_run), 0);
    UNIT_STR(buf_cstring(&c.err), "lines2 2\nlines2 1\n");
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstring(&c.out),
        "\"errors\": [\n    \"lines2 2\",\n    \"lines2 1\"\n  ]"));
    ctltest_fini(&c);
}

static void test_signals(void)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};
    ctltest_init(&c, "", "");
    for (size_t i = 0; i < 4; i++) {
        signal_to_send = signals[i];
        c.opt.jobs = 1;
        UNIT_STR(run("a stop b"), "do a: ok\ndo stop: failed (interrupted)\n75");
    }
    c.opt.jobs = 2;
    const char *said = run("stop-1 stop-2 a b c");
    CU_ASSERT_EQUAL(times_in(said, ": failed (interrupted)\n"), 2);
    CU_ASSERT_EQUAL(times_in(said, "\n"), 2);
    /* The end of the first process is the end of all. */
    signal_to_send = SIGKILL;
    CU_ASSERT_EQUAL(ctltest_call(&c, &verb, "stop-1", ctl_run), 256 + SIGKILL);
    UNIT_STR(buf_cstring(&c.out), "");
    signal_to_send = SIGTERM;
    ctltest_fini(&c);
}

static void test_guard(void)
{
    ctltest_init(&c, "", "a b");
    char *path = xasprintf("%s/conf/backups.db.guard.lock", c.t.dir);
    CU_ASSERT_EQUAL(ctltest_call(&c, &guard, "-A", ctl_run), 0);
    UNIT_STR(buf_cstring(&c.out), "guard a: ok\nguard b: ok\n");
    int fd = open(path, O_RDWR);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(filelock_lock(fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL), 0);
    CU_ASSERT_EQUAL(ctltest_call(&c, &guard, "-A", ctl_run), 0);
    UNIT_STR(buf_cstring(&c.out), "");
    UNIT_STR(buf_cstring(&c.err), "guard: already running\n");
    CU_ASSERT_EQUAL(ctltest_call(&c, &guard, "a", ctl_run), 0); /* not a run over all */
    UNIT_STR(buf_cstring(&c.out), "guard a: ok\n");
    c.opt.dry_run = 1;
    CU_ASSERT_EQUAL(ctltest_call(&c, &guard, "-A", ctl_run), 0);
    UNIT_STR(buf_cstring(&c.out), "guard a: ok\nguard b: ok\n");
    c.opt.dry_run = 0;
    close(fd);
    CU_ASSERT_EQUAL(ctltest_call(&c, &guard, "-A", ctl_run), 0);
    UNIT_STR(buf_cstring(&c.out), "guard a: ok\nguard b: ok\n");
    free(path);
    ctltest_fini(&c);
}

/* ---- the progress line ---- */

static int show_progress(struct ctl *ctl)
{
    struct ctl_progress p = {.on = 1, .begun_ms = ctl_now_ms() - 1000000, .all = 8,
                             .all_bytes = 20000ull << 20, .done = 2, .bytes = 3000ull << 20};
    (void)ctl;
    ctl_progress_show(&p, 2000ull << 20);
    ctl_progress_show(&p, 2000ull << 20); /* too soon */
    fputc('|', stderr);
    p.done = 8;
    p.bytes = p.all_bytes;
    p.shown_ms = 0;
    ctl_progress_show(&p, 0);
    fputc('|', stderr);
    ctl_progress_clear(&p);
    fputc('|', stderr);
    ctl_progress_clear(&p);
    return 0;
}

static int no_terminal(struct ctl *ctl)
{
    struct ctl_progress p;
    struct ctl_targets none = {.count = 0};
    (void)ctl;
    ctl_progress_begin(&p, &none);
    ctl_progress_show(&p, 5);
    ctl_progress_clear(&p);
    return p.on;
}

static void test_progress(void)
{
    int h, m, s, at = 0;
    char first[8];
    ctltest_init(&c, "", "");
    CU_ASSERT_EQUAL(ctltest_call(&c, &verb, "", show_progress), 0);
    /* 5000 of 20000 MiB in 1000 s */
    int n = sscanf(buf_cstring(&c.err), "\r2 of 8 backups, 5000 of 20000 MiB, %7[0-9.] MiB/s,"
                   " %d:%02d:%02d left|%n", first, &h, &m, &s, &at);
    CU_ASSERT_EQUAL_FATAL(n, 4);
    CU_ASSERT_FATAL(at > 0);
    CU_ASSERT(atof(first) >= 4.5 && atof(first) <= 5.0);
    CU_ASSERT(3600 * h + 60 * m + s >= 3000 && 3600 * h + 60 * m + s < 3400);
    /* then all, over the old line and as long as it; then blanks, and nothing the second time */
    const char *next = buf_cstring(&c.err) + at, *bar = strchr(next, '|');
    CU_ASSERT_EQUAL(strncmp(next, "\r8 of 8 backups, 20000 of 20000 MiB, ", 37), 0);
    CU_ASSERT_EQUAL(bar - next, at - 1);
    CU_ASSERT_PTR_NULL(strstr(next, "left"));
    CU_ASSERT(bar[1] == '\r' && bar[1 + strcspn(bar + 2, "\r")] == ' ');
    UNIT_STR(strrchr(bar, '\r'), "\r|");
    CU_ASSERT_EQUAL(ctltest_call(&c, &verb, "", no_terminal), 0);
    UNIT_STR(buf_cstring(&c.err), "");
    ctltest_fini(&c);
}

/* The verb at hand on backup joe, in a worker: "status: last bytes that were told on the way, all". The
 * first are told at once, later ones in intervals. */
static int work_on_joe(struct ctl *ctl)
{
    char *path = NULL;
    if (ctl_clock(ctl) != EX_OK || lcb_store_find(ctl->store, "joe", &path))
        return 98;
    struct ctl_target joe = {.name = "joe", .userid = "joe", .path = path};
    struct ctl_targets one = {.list = &joe, .count = 1};
    struct ctl_result result = {.status = CTL_FAILED};
    struct ctl_worker w = {.pid = 0};
    sigset_t mask;
    int r;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    if (ctl_worker_start(ctl, &one, &mask, NULL, 0, &w) || ctl_worker_give(&w, 0))
        return 97;
    while (!(r = ctl_worker_read(&w, stderr, &result)))
        ;
    printf("%d: %llu, %llu\n", r == 1 ? (int)result.status : -1, (unsigned long long)w.bytes,
           (unsigned long long)result.bytes);
    ctl_worker_end(&w);
    ctl_result_fini(&result);
    free(path);
    return 0;
}

/* Of one backup, however large, it is told how far verification and compaction have come. */
static void test_within(void)
{
    static const struct ctl_verb verbs[] = {{.name = "verify", .each = ctl_verify},
                                            {.name = "compact", .each = ctl_compact}};
    struct lcbtest_history h;
    for (size_t i = 0; i < sizeof(verbs) / sizeof(*verbs); i++) {
        int status = -1;
        unsigned long long on_the_way = 0, all = 0;
        ctltest_init(&c, "", "");
        lcbtest_start(&h, 7);
        CU_ASSERT_EQUAL(lcbtest_steps(&c.t, &h, 60, 10), 0);
        c.opt.force = 1;
        CU_ASSERT_EQUAL(ctltest_call(&c, &verbs[i], "", work_on_joe), 0);
        CU_ASSERT_EQUAL(sscanf(buf_cstring(&c.out), "%d: %llu, %llu", &status, &on_the_way, &all), 3);
        CU_ASSERT_EQUAL(status, CTL_OK);
        CU_ASSERT(on_the_way > 0 && on_the_way <= all);
        ctltest_fini(&c);
    }
}

void suite_ctl_run(void);
void suite_ctl_run(void)
{
    static const struct unit_test tests[] = {
        {"status", test_status},
        {"stop on error", test_stop_on_error},
        {"a worker that dies", test_death},
        {"jobs", test_jobs},
        {"lines", test_lines},
        {"signals", test_signals},
        {"guard", test_guard},
        {"progress", test_progress},
        {"progress within a backup", test_within},
        {NULL, NULL},
    };
    unit_suite("ctl_run", tests);
}
