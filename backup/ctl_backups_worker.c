/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_worker - a process of a run, seen from both sides.
 *
 * The parent writes the number of a target into one pipe, the worker writes into the other
 *     lines      text for stdout, whole lines, as many frames as it takes
 *     progress   bytes worked through so far
 *     result     status, message, JSON keys: the end of this target
 * each a frame of type, length and bytes. The list of targets itself was inherited. The worker opens
 * a store of its own, because neither SQLite nor the locks of a store may cross a fork, and keeps it
 * for all of its targets.
 *
 * SIGTERM makes the store's long functions end with XERR_SIGNAL at the next point where nothing is
 * half done; then the worker answers and waits for the parent, which closes the pipe. The end of the
 * parent, however it came, does the same. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

#define LINES_AT_ONCE (32u << 10)
#define LINES_MAX (4u << 20) /* held for one backup when several are at work */
#define PROGRESS_MS 200

enum { FRAME_LINES = 1, FRAME_PROGRESS, FRAME_RESULT };
struct frame {
    uint32_t type, len;
};

/* ---- the worker ---- */

static volatile sig_atomic_t asked_to_stop; /* a signal handler has nothing else */

static void on_signal(int sig)
{
    (void)sig;
    asked_to_stop = 1;
}

static int stop(void *rock)
{
    (void)rock;
    return asked_to_stop;
}

int ctl_stop_asked(void)
{
    return asked_to_stop;
}

void ctl_stop_prepare(sigset_t *mask)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};
    struct sigaction act = {.sa_handler = on_signal};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
        sigaction(signals[i], &act, NULL);
        sigaddset(&set, signals[i]);
    }
    sigprocmask(SIG_BLOCK, &set, mask);
    signal(SIGPIPE, SIG_IGN);
}

struct rock {
    int to, from; /* the pipes */
    pid_t parent;
    int64_t told_ms;
};

static int write_all(int fd, const void *p, size_t n)
{
    const char *s = p;
    while (n) {
        ssize_t w = write(fd, s, n);
        if (w < 0 && errno != EINTR)
            return -errno;
        s += w < 0 ? 0 : w;
        n -= w < 0 ? 0 : (size_t)w;
    }
    return 0;
}

static int send_frame(const struct rock *rock, uint32_t type, const void *p, size_t n)
{
    struct frame f = {type, (uint32_t)n};
    int r = write_all(rock->to, &f, sizeof(f));
    return r ? r : write_all(rock->to, p, n);
}

static void send_lines(struct ctl_result *result)
{
    if (result->lines.len)
        send_frame(result->rock, FRAME_LINES, result->lines.s, result->lines.len);
    buf_reset(&result->lines);
}

void ctl_result_flush(struct ctl_result *result)
{
    if (result->rock && result->lines.len >= LINES_AT_ONCE)
        send_lines(result);
}

void ctl_progress(struct ctl_result *result, uint64_t bytes)
{
    struct rock *rock = result->rock;
    result->bytes = bytes;
    int64_t now = rock ? ctl_now_ms() : 0;
    if (!rock || now - rock->told_ms < PROGRESS_MS)
        return;
    rock->told_ms = now;
    send_frame(rock, FRAME_PROGRESS, &bytes, sizeof(bytes));
}

/* Status, bytes, length of the message, message, JSON. */
struct answer {
    uint64_t bytes;
    uint32_t status, message;
};

static int send_result(struct ctl_result *result)
{
    struct answer a = {result->bytes, (uint32_t)result->status, (uint32_t)result->message.len};
    struct buf all = BUF_INITIALIZER;
    char *json = result->more ? json_dumps(result->more, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    send_lines(result);
    buf_setmap(&all, &a, sizeof(a));
    buf_append(&all, &result->message);
    if (json)
        buf_appendcstr(&all, json);
    int r = send_frame(result->rock, FRAME_RESULT, all.s, all.len);
    free(json);
    buf_free(&all);
    return r;
}

/* Number of the next target, or -1 at the end. */
static int next_target(const struct rock *rock, size_t *at)
{
    ssize_t n;
    do
        n = read(rock->from, at, sizeof(*at));
    while (n < 0 && errno == EINTR && !asked_to_stop);
    return n == (ssize_t)sizeof(*at) && !asked_to_stop ? 0 : -1;
}

/* Whoever is the first to open a data file that lost its end makes the index fit: nobody can tell
 * afterwards. */
static void say_cut_short(struct ctl_result *result, int64_t bytes)
{
    if (!bytes || (result->status != CTL_OK && result->status != CTL_SKIPPED))
        return;
    result->status = CTL_FAILED; /* though it was done */
    buf_printf(&result->message, "%sdata damaged: the last %lld bytes are gone",
               result->message.len ? "; " : "", (long long)bytes);
}

static void work(struct ctl *ctl, const struct ctl_targets *targets, struct rock *rock)
{
    size_t at;
    while (!next_target(rock, &at)) {
        struct ctl_result result = {.status = CTL_OK, .rock = rock};
        ctl_tell_waiting(ctl, targets->list[at].name);
        (void)lcb_store_cut_short(ctl->store);
        ctl->opt->verb->each(ctl, &targets->list[at], &result);
        say_cut_short(&result, lcb_store_cut_short(ctl->store));
        int r = send_result(&result);
        ctl_result_fini(&result);
        if (r)
            return;
    }
}

static void worker_main(struct ctl *parent, const struct ctl_targets *targets, const sigset_t *mask,
                        struct rock *rock)
{
    struct ctl ctl = *parent;
    struct buf err = BUF_INITIALIZER;
    /* Who waits for a lock would not see that nobody waits for it any more. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != rock->parent)
        asked_to_stop = 1;
    sigprocmask(SIG_SETMASK, mask, NULL);
    ctl.store = NULL;
    int r = lcb_store_open(ctl.config, NULL, &ctl.store, &err);
    if (r) {
        xlog_errorx("cannot open the store: %s", buf_cstring(&err));
    } else {
        lcb_store_setstop(ctl.store, stop, NULL);
        work(&ctl, targets, rock);
    }
    lcb_store_close(&ctl.store);
    buf_free(&err);
    ctl_exit(r ? EX_TEMPFAIL : EX_OK);
}

/* ---- the parent ---- */

static int make_pipes(int down[2], int up[2])
{
    if (pipe2(down, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(up, O_CLOEXEC) < 0) {
        int e = errno;
        close(down[0]);
        close(down[1]);
        return -e;
    }
    return 0;
}

int ctl_worker_start(struct ctl *ctl, const struct ctl_targets *targets, const sigset_t *mask,
                     const struct ctl_worker *others, int nothers, struct ctl_worker *w)
{
    int down[2], up[2];
    int r = make_pipes(down, up);
    if (r)
        return r;
    pid_t parent = getpid(), pid = fork();
    if (!pid) {
        struct rock rock = {.to = up[1], .from = down[0], .parent = parent};
        close(down[1]);
        close(up[0]);
        /* An end that is held here would keep another from seeing the end of the parent. */
        for (int i = 0; i < nothers; i++) {
            if (others[i].pid > 0) {
                close(others[i].to);
                close(others[i].from);
            }
        }
        worker_main(ctl, targets, mask, &rock);
    }
    r = pid < 0 ? -errno : 0;
    close(down[0]);
    close(up[1]);
    if (r) {
        close(down[1]);
        close(up[0]);
        return r;
    }
    w->pid = pid;
    w->to = down[1];
    w->from = up[0];
    w->busy = 0;
    buf_reset(&w->in);
    buf_reset(&w->lines);
    return 0;
}

int ctl_worker_give(struct ctl_worker *w, size_t target)
{
    int r = write_all(w->to, &target, sizeof(target));
    w->busy = 1;
    w->at = target;
    w->bytes = 0;
    w->left_out = 0;
    return r;
}

static void take_lines(struct ctl_worker *w, FILE *stream, const char *p, size_t n)
{
    if (stream)
        fwrite(p, 1, n, stream);
    else if (w->lines.len + n <= LINES_MAX)
        buf_appendmap(&w->lines, p, n);
    else
        w->left_out += n;
}

static void take_result(const char *p, size_t n, struct ctl_result *result)
{
    struct answer a;
    memcpy(&a, p, sizeof(a));
    result->status = (enum ctl_status)a.status;
    result->bytes = a.bytes;
    buf_setmap(&result->message, p + sizeof(a), a.message);
    p += sizeof(a) + a.message;
    n -= sizeof(a) + a.message;
    if (n)
        result->more = json_loadb(p, n, 0, NULL);
}

/* The frame at the head of W's input: 1 a result, 0 something else, -1 not whole yet. */
static int take_frame(struct ctl_worker *w, FILE *stream, struct ctl_result *result)
{
    struct frame f;
    if (w->in.len < sizeof(f))
        return -1;
    memcpy(&f, w->in.s, sizeof(f));
    if (w->in.len - sizeof(f) < f.len)
        return -1;
    const char *p = w->in.s + sizeof(f);
    if (f.type == FRAME_LINES)
        take_lines(w, stream, p, f.len);
    else if (f.type == FRAME_PROGRESS)
        memcpy(&w->bytes, p, sizeof(w->bytes));
    else
        take_result(p, f.len, result);
    buf_consume(&w->in, sizeof(f) + f.len);
    return f.type == FRAME_RESULT;
}

/* Why it ended in the middle of its work. */
static void died(struct ctl_worker *w, struct ctl_result *result)
{
    int status = 0;
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
        ;
    result->status = CTL_FAILED;
    if (WIFSIGNALED(status))
        buf_printf(&result->message, "its process was ended by signal %d", WTERMSIG(status));
    else if (!WEXITSTATUS(status)) /* it was asked to stop, and had not begun */
        ctl_result_error(result, XERR_SIGNAL);
    else
        buf_printf(&result->message, "its process ended with status %d", WEXITSTATUS(status));
    close(w->to);
    close(w->from);
    w->pid = 0;
}

int ctl_worker_read(struct ctl_worker *w, FILE *stream, struct ctl_result *result)
{
    enum { PIECE = 64 << 10 };
    ssize_t n = read(w->from, buf_ensure(&w->in, PIECE), PIECE);
    if (n < 0 && errno == EINTR)
        return 0;
    if (n <= 0) {
        died(w, result);
        return -1;
    }
    w->in.len += (size_t)n;
    int r = 0;
    while (!r)
        r = take_frame(w, stream, result);
    return r == 1;
}

void ctl_worker_end(struct ctl_worker *w)
{
    if (w->pid) {
        close(w->to);
        close(w->from);
        while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        w->pid = 0;
    }
    buf_free(&w->in);
    buf_free(&w->lines);
}
