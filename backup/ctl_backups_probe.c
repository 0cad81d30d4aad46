/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_probe - ctl_backups with verbs that do nothing but behave in every way a verb can, to
 * test how many backups are worked on. What is done depends on the name: "fail-x" fails, and so on.
 * For syslog see ctl_backups_logged.c. */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "lib/xerr.h"

/* Until the lock of the file PROBE_GATE is free, as verbs wait for locks. */
static int wait_at_gate(struct ctl *ctl)
{
    char *found = NULL;
    int fd = -1;
    int r = lcb_lock(ctl->store, NULL, getenv("PROBE_GATE"), -1, &fd, &found);
    vfs_close(lcb_store_vfs(ctl->store), &fd);
    free(found);
    return r;
}

static void say_lines(const char *name, const char *count, struct ctl_result *result)
{
    for (long i = 1; i <= atol(count); i++)
        ctl_result_line(result, "%s %ld of %s", name, i, count);
}

static int is(const char *name, const char *kind)
{
    return !strncmp(name, kind, strlen(kind));
}

static void probe(struct ctl *ctl, const struct ctl_target *t, struct ctl_result *result)
{
    const char *number = strrchr(t->name, '-');
    result->bytes = 1 << 20;
    result->more = json_pack("{s:i, s:s}", "pid", (int)getpid(), "path", t->path ? t->path : "none");
    if (is(t->name, "fail"))
        ctl_result_error(result, XERR_FORMAT);
    else if (is(t->name, "locked"))
        ctl_result_error(result, XERR_LOCKED);
    else if (is(t->name, "skip"))
        result->status = CTL_SKIPPED;
    else if (is(t->name, "crash"))
        kill(getpid(), SIGKILL);
    else if (is(t->name, "why"))
        buf_setcstr(&result->message, "because");
    else if (is(t->name, "lines") && number)
        say_lines(t->name, number + 1, result);
    else if (is(t->name, "wait"))
        result->status = wait_at_gate(ctl) ? CTL_FAILED : CTL_OK;
    if (is(t->name, "wait") && result->status == CTL_FAILED)
        ctl_result_error(result, XERR_SIGNAL);
    ctl_progress(result, result->bytes);
}

const struct ctl_verb ctl_verbs[] = {
    {"probe", probe, NULL, CTL_OPT_DRY_RUN, CTL_NEW, 0},
    {"guard", probe, NULL, CTL_OPT_DRY_RUN, CTL_GUARD, 0},
    {NULL, NULL, NULL, 0, 0, 0},
};

const char ctl_usage[] = "usage: ctl_backups_probe\n";
