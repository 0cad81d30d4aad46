/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups - look after backups: the program.
 *
 * Exit: 0 done, or nothing to do; 64 wrong usage, or not the Cyrus user; 75 something was not done;
 * 78 configuration. Arguments are judged before the configuration is read.
 *
 * Results go to stdout, complaints to stderr, and what did not work to syslog, too, because master
 * sends the output of EVENTS to /dev/null. Master also starts those with signals blocked. */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "backup/tool.h"
#include "lib/sqldb.h"
#include "lib/stdfds.h"

static int usage(const struct ctl_options *opt)
{
    fputs(ctl_usage, stderr);
    if (*opt->why) /* last, where it is seen */
        fprintf(stderr, "ctl_backups: %s\n", opt->why);
    return EX_USAGE;
}

void ctl_exit(int code)
{
    _exit(code);
}

static void unblock_signals(void)
{
    static const int blocked_by_master[] = {SIGINT, SIGQUIT, SIGTERM, SIGCHLD};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(blocked_by_master) / sizeof(*blocked_by_master); i++)
        sigaddset(&set, blocked_by_master[i]);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    signal(SIGCHLD, SIG_DFL);
}

static int work(const struct config *config, struct lcb_store **store, void *rock)
{
    const struct ctl_options *opt = rock;
    struct ctl ctl = {.config = config, .store = *store, .opt = opt, .argc = opt->argc,
                      .argv = opt->argv};
    if (ctl.store && strcmp(opt->verb->name, "lock")) /* that one says so itself */
        ctl_tell_waiting(&ctl, "ctl_backups");
    int code = opt->verb->whole ? opt->verb->whole(&ctl) : ctl_run(&ctl);
    *store = ctl.store;
    return code;
}

int main(int argc, char **argv)
{
    struct ctl_options opt;
    int code;
    unblock_signals();
    if (stdfds_occupy() < 0)
        return EX_TEMPFAIL;
    sqldb_setup();
    if (ctl_options_parse(argc, argv, ctl_verbs, &opt)) {
        code = usage(&opt);
    } else {
        const struct tool tool = {
            .name = "ctl_backups",
            .config = opt.config,
            .to_stderr = opt.verbose,
            .without_store = (opt.verb->flags & CTL_NOSTORE) != 0,
            .work = work,
            .rock = &opt,
        };
        code = tool_run(&tool);
    }
    ctl_options_fini(&opt);
    return code;
}
