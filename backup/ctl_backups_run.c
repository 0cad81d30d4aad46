/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_run - one verb over many backups.
 *
 * The work is done in processes of their own (ctl_backups_worker.c), even if there is one only: what
 * goes wrong with one backup, down to a fault of the program, is one failed line and not the end of
 * the run. Here is who gives out the targets one by one, prints what comes back, a backup's lines
 * together and its result line last, counts, and tells syslog.
 *
 * Signals are blocked except while waiting for answers. After TERM, INT, QUIT or HUP nothing more is
 * given out, the workers are told, and their answers are waited for.
 *
 * Two runs never work on the same backup: each verb takes the backup's maintenance lock. That a run
 * over all backups does not follow on the heels of another that is still at it (an event of master
 * begins whether the last has ended or not) is kept by a file beside backups.db, locked as long as any
 * process of the run lives. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "lib/filelock.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

struct run {
    struct ctl *ctl;
    struct ctl_targets targets;
    struct ctl_worker *workers;
    int nworkers;
    size_t next;  /* target to give out */
    int stopping; /* nothing more is given out */
    int told;     /* the workers were told to stop */
    size_t count[CTL_FAILED + 1];
    uint64_t bytes;
    sigset_t mask; /* that of the work */
    struct ctl_json json;
    struct ctl_progress progress;
};

/* ---- what comes back ---- */

static json_t *error_lines(const struct buf *lines)
{
    json_t *errors = json_array();
    for (size_t i = 0; i < lines->len;) {
        const char *end = memchr(lines->s + i, '\n', lines->len - i);
        size_t n = end ? (size_t)(end - lines->s) - i : lines->len - i;
        char *line = xstrndup(lines->s + i, n);
        json_array_append_new(errors, ctl_json_cstring(line));
        free(line);
        i += n + 1;
    }
    return errors;
}

static void print_object(struct run *run, const struct ctl_target *t, const struct buf *lines,
                         struct ctl_result *result, const char *status)
{
    json_t *j = json_object();
    json_object_set_new(j, "command", json_string(run->ctl->opt->verb->name));
    if (t->shown)
        json_object_set_new(j, "userid", ctl_json_cstring(t->shown));
    if (t->path)
        json_object_set_new(j, "fname", ctl_json_cstring(t->path));
    else if (json_object_get(result->more, "fname")) /* the verb has found it */
        json_object_set(j, "fname", json_object_get(result->more, "fname"));
    json_object_set_new(j, "status", ctl_json_cstring(status));
    if (lines->len)
        json_object_set_new(j, "errors", error_lines(lines));
    if (result->more)
        json_object_update(j, result->more);
    ctl_json_item(&run->json, j);
}

static void print_result(struct run *run, struct ctl_worker *w, struct ctl_result *result)
{
    const struct ctl_options *opt = run->ctl->opt;
    const struct ctl_target *t = &run->targets.list[w->at];
    struct buf status = BUF_INITIALIZER;
    ctl_progress_clear(&run->progress);
    if (w->left_out)
        buf_printf(&w->lines, "(%zu more bytes are not shown)\n", w->left_out);
    if (result->status == CTL_FAILED)
        ctl_target_gone(t, &result->message);
    ctl_result_text(result, &status);
    if (w->lines.len)
        fwrite(w->lines.s, 1, w->lines.len, opt->json ? stderr : stdout);
    if (opt->json)
        print_object(run, t, &w->lines, result, buf_cstring(&status));
    else
        printf("%s %s: %s\n", opt->verb->name, t->name, buf_cstring(&status));
    ctl_flush(&run->targets.print_error);
    if (result->status == CTL_FAILED)
        xlog_errorx("%s %s: %s", opt->verb->name, t->name, buf_cstring(&status));
    else if (result->status == CTL_LOCKED)
        xlog_info("%s %s: %s", opt->verb->name, t->name, buf_cstring(&status));
    buf_free(&status);
}

static void count_result(struct run *run, struct ctl_worker *w, struct ctl_result *result)
{
    const struct ctl_options *opt = run->ctl->opt;
    int failed = result->status == CTL_FAILED ||
                 (result->status == CTL_SKIPPED && opt->legacy_status);
    run->count[result->status]++;
    run->bytes += result->bytes;
    run->progress.bytes += result->bytes;
    run->progress.done++;
    if (failed && opt->stop_on_error)
        run->stopping = 1;
    w->busy = 0;
    buf_reset(&w->lines);
}

static void receive(struct run *run, struct ctl_worker *w)
{
    struct ctl_result result = {.status = CTL_OK};
    int stream = run->ctl->opt->jobs == 1 && !run->ctl->opt->json;
    int was_busy = w->busy;
    int r = ctl_worker_read(w, stream ? stdout : NULL, &result);
    if (r && was_busy) {
        print_result(run, w, &result);
        count_result(run, w, &result);
    }
    ctl_result_fini(&result);
}

/* ---- giving out ---- */

static int give_out(struct run *run)
{
    int busy = 0;
    for (int i = 0; i < run->nworkers; i++) {
        struct ctl_worker *w = &run->workers[i];
        if (!w->busy && !run->stopping && run->next < run->targets.count) {
            int r = w->pid ? 0 : ctl_worker_start(run->ctl, &run->targets, &run->mask, run->workers,
                                                  run->nworkers, w);
            if (r) {
                xlog_errorx("cannot start a process: %s", error_message(r));
                run->stopping = run->stopping || !busy;
                continue;
            }
            /* A process that is gone by now is found out when its answer is read. */
            ctl_worker_give(w, run->next++);
        }
        busy += w->busy;
    }
    return busy;
}

static void tell_to_stop(struct run *run)
{
    if (!ctl_stop_asked() || run->told)
        return;
    run->stopping = run->told = 1;
    for (int i = 0; i < run->nworkers; i++)
        if (run->workers[i].pid > 0)
            kill(run->workers[i].pid, SIGTERM);
}

static uint64_t running_bytes(const struct run *run)
{
    uint64_t bytes = 0;
    for (int i = 0; i < run->nworkers; i++)
        if (run->workers[i].busy)
            bytes += run->workers[i].bytes;
    return bytes;
}

static void loop(struct run *run)
{
    struct pollfd *fds = xcalloc((size_t)run->nworkers, sizeof(*fds));
    const struct timespec second = {1, 0};
    while (tell_to_stop(run), give_out(run)) {
        for (int i = 0; i < run->nworkers; i++) {
            fds[i].fd = run->workers[i].busy ? run->workers[i].from : -1;
            fds[i].events = POLLIN;
            fds[i].revents = 0;
        }
        ctl_progress_show(&run->progress, running_bytes(run));
        if (ppoll(fds, (nfds_t)run->nworkers, run->progress.on ? &second : NULL, &run->mask) < 0)
            continue;
        for (int i = 0; i < run->nworkers; i++)
            if (fds[i].revents)
                receive(run, &run->workers[i]);
    }
    free(fds);
}

/* ---- a run ---- */

static void summary(struct run *run, int64_t ms)
{
    const char *verb = run->ctl->opt->verb->name;
    struct buf text = BUF_INITIALIZER;
    size_t all = run->targets.count;
    buf_printf(&text, "%s: %zu backups: %zu ok, %zu skipped, %zu locked, %zu failed", verb, all,
               run->count[CTL_OK], run->count[CTL_SKIPPED], run->count[CTL_LOCKED],
               run->count[CTL_FAILED]);
    if (run->next < all)
        buf_printf(&text, ", %zu not begun", all - run->next);
    if (run->bytes)
        buf_printf(&text, "; %.1f MiB", (double)run->bytes / 1048576);
    buf_printf(&text, " in %.1f s", (double)ms / 1000);
    if (run->ctl->opt->verbose)
        fprintf(stderr, "%s\n", buf_cstring(&text));
    xlog_info("%s", buf_cstring(&text));
    buf_free(&text);
}

static int work(struct run *run)
{
    const struct ctl_options *opt = run->ctl->opt;
    int64_t begun = ctl_now_ms();
    /* Every process opens its own. */
    lcb_store_close(&run->ctl->store);
    run->nworkers = (size_t)opt->jobs < run->targets.count ? opt->jobs : (int)run->targets.count;
    run->workers = xcalloc((size_t)run->nworkers, sizeof(*run->workers));
    ctl_progress_begin(&run->progress, &run->targets);
    loop(run);
    ctl_progress_clear(&run->progress);
    for (int i = 0; i < run->nworkers; i++)
        ctl_worker_end(&run->workers[i]);
    free(run->workers);
    summary(run, ctl_now_ms() - begun);
    int failed = run->count[CTL_FAILED] || run->count[CTL_LOCKED] || ctl_stop_asked() ||
                 (opt->legacy_status && run->count[CTL_SKIPPED]);
    return failed || run->next < run->targets.count ? EX_TEMPFAIL : EX_OK;
}

/* 1 if another run over all backups is at it; the lock ends with the last process that has FD. */
static int already_running(struct ctl *ctl, int *fd)
{
    const struct ctl_verb *verb = ctl->opt->verb;
    struct vfs *vfs = lcb_store_vfs(ctl->store);
    if (ctl->opt->mode != 'A' || !(verb->flags & CTL_GUARD) || ctl->opt->dry_run)
        return 0;
    char *path = xasprintf("%s.%s.lock", config_getstring(ctl->config, IMAPOPT_BACKUP_DB_PATH),
                           verb->name);
    *fd = vfs_open(vfs, path, O_RDWR | O_CREAT, 0600);
    int r = *fd < 0 ? *fd : filelock_lock(*fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL);
    if (r == XERR_LOCKED) {
        fprintf(stderr, "%s: already running\n", verb->name);
        xlog_info("%s: already running", verb->name);
    } else if (r) {
        xlog_warnx("cannot lock %s: %s", path, error_message(r));
    }
    free(path);
    return r == XERR_LOCKED;
}

static int run_targets(struct run *run)
{
    struct ctl *ctl = run->ctl;
    int fd = -1, code = EX_OK;
    if (run->targets.count && !already_running(ctl, &fd))
        code = work(run);
    if (fd >= 0)
        close(fd);
    return code;
}

int ctl_run(struct ctl *ctl)
{
    struct run run = {.ctl = ctl};
    if (ctl_targets_open(ctl, &run.targets))
        return EX_TEMPFAIL;
    ctl_stop_prepare(&run.mask);
    if (ctl->opt->json)
        ctl_json_begin(&run.json, ctl->opt);
    int code = run_targets(&run);
    if (ctl->opt->json)
        ctl_json_end(&run.json);
    int close_code = ctl_targets_close(ctl, &run.targets);
    return code ? code : close_code;
}
