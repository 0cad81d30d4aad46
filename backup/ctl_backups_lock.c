/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_lock - hold a backup's lock while something else happens.
 *
 * -p: this program is the co-process of another, which reads
 *         * Trying to obtain lock on X...
 *         OK locked                              or  NO failed (why)
 *     and ends the lock by closing its end of our stdin. Each line is flushed, so that the other end
 *     sees it at once.
 * -x, -s: a command, or sqlite3 on the index, runs while the lock is held; stdout and stdin are its.
 *     Its words go to the shell as they are, and it finds the two files in its environment. The
 *     lock's descriptor is closed at exec, so what the command leaves running does not keep it.
 *
 * Only the lock is taken: whether data and index are sound does not matter to who wants to mend
 * them. */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

struct held {
    int fd;
    char *path, *index;
};

/* Until the other end closes; what it says does not matter. */
static void wait_for_eof(void)
{
    char piece[4096];
    ssize_t n;
    do
        n = read(STDIN_FILENO, piece, sizeof(piece));
    while (n > 0 || (n < 0 && errno == EINTR));
}

/* In the child. Does not return. */
static void run_command(const struct ctl_options *opt, const struct held *h)
{
    setenv("ctl_backups_lock_data_fname", h->path, 1);
    setenv("ctl_backups_lock_index_fname", h->index, 1);
    if (opt->lock_how == 's') {
        fprintf(stderr, "execlp: sqlite3 %s\n", h->index);
        execlp("sqlite3", "sqlite3", h->index, (char *)NULL);
        fprintf(stderr, "sqlite3: %s\n", strerror(errno));
    } else {
        execl("/bin/sh", "sh", "-c", opt->lock_command, (char *)NULL);
        fprintf(stderr, "/bin/sh: %s\n", strerror(errno));
    }
    ctl_exit(127);
}

/* While the command runs, the terminal's signals are meant for it. */
static int with_command(const struct ctl_options *opt, const struct held *h)
{
    int status = -1;
    pid_t pid;
    fflush(NULL);
    pid = fork();
    if (pid < 0) {
        fprintf(stderr, "cannot run a command: %s\n", strerror(errno));
        return EX_TEMPFAIL;
    }
    if (!pid)
        run_command(opt, h);
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && !WEXITSTATUS(status) ? EX_OK : EX_TEMPFAIL;
}

static int take(struct ctl *ctl, const struct ctl_target *t, struct held *h)
{
    int r = ctl->opt->lock_create ? lcb_create(ctl->store, t->userid, t->path) : 0;
    if (!r)
        r = lcb_lock(ctl->store, t->userid, t->path, ctl_queue_ms(ctl), &h->fd, &h->path);
    if (!r)
        h->index = xasprintf("%s.index", h->path);
    return r;
}

static int lock_one(struct ctl *ctl, const struct ctl_target *t)
{
    struct held h = {.fd = -1};
    int pause = !ctl->opt->lock_how || ctl->opt->lock_how == 'p';
    int code;
    if (pause)
        printf("* Trying to obtain lock on %s...\n", t->name);
    else
        fprintf(stderr, "trying to obtain lock on %s...\n", t->name);
    fflush(stdout);
    int r = take(ctl, t, &h);
    if (r) {
        if (pause)
            printf("NO failed (%s)\n", ctl_error_text(r));
        else
            fprintf(stderr, "unable to lock %s: %s\n", t->name, ctl_error_text(r));
        code = EX_TEMPFAIL;
    } else if (pause) {
        printf("OK locked\n");
        code = ctl_printed();
        if (!code)
            wait_for_eof();
    } else {
        code = with_command(ctl->opt, &h);
    }
    fflush(stdout);
    vfs_close(lcb_store_vfs(ctl->store), &h.fd);
    free(h.path);
    free(h.index);
    return code;
}

/* -c makes what is not there yet, so the name need not be in backups.db. */
static int check_known(struct ctl *ctl, struct ctl_targets *targets)
{
    const struct ctl_target *t = targets->list;
    if (!targets->count || t->path || ctl->opt->lock_create)
        return 0;
    fprintf(stderr, "%s: not found in backups.db\n", ctl->argv[0]);
    return -1;
}

int ctl_lock(struct ctl *ctl)
{
    struct ctl_targets targets;
    int code = EX_OK;
    if (ctl_targets_open(ctl, &targets))
        return EX_TEMPFAIL;
    if (check_known(ctl, &targets))
        code = EX_TEMPFAIL;
    else if (targets.count)
        code = lock_one(ctl, &targets.list[0]);
    int close_code = ctl_targets_close(ctl, &targets);
    return code ? code : close_code;
}
