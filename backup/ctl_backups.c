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
#include <sysexits.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "lib/cyrususer.h"
#include "lib/stdfds.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

static int usage(void)
{
    fputs(ctl_usage, stderr);
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

static int with_store(const struct config *config, const struct ctl_options *opt)
{
    struct ctl ctl = {.config = config, .opt = opt, .argc = opt->argc, .argv = opt->argv};
    struct buf err = BUF_INITIALIZER;
    int code;
    int r = opt->verb->flags & CTL_NOSTORE ? 0 : lcb_store_open(config, NULL, &ctl.store, &err);
    if (r) {
        fprintf(stderr, "ctl_backups: %s\n", buf_cstring(&err));
        xlog_errorx("cannot open the store: %s", buf_cstring(&err));
        code = r == XERR_CONFIG ? EX_CONFIG : EX_TEMPFAIL;
    } else {
        code = opt->verb->whole ? opt->verb->whole(&ctl) : ctl_run(&ctl);
    }
    lcb_store_close(&ctl.store);
    buf_free(&err);
    return code;
}

static int with_config(const struct config *config, const struct ctl_options *opt)
{
    struct buf err = BUF_INITIALIZER;
    xlog_open("ctl_backups", config_getstring(config, IMAPOPT_SYSLOG_PREFIX),
              config_getstring(config, IMAPOPT_SYSLOG_FACILITY), 0);
    if (opt->verbose)
        xlog_tostderr("ctl_backups");
    int r = cyrususer_become(config, &err);
    if (r)
        fprintf(stderr, "ctl_backups: %s\n", buf_cstring(&err));
    buf_free(&err);
    if (r)
        return r == XERR_DENIED ? EX_USAGE : r == XERR_CONFIG ? EX_CONFIG : EX_TEMPFAIL;
    return with_store(config, opt);
}

int main(int argc, char **argv)
{
    struct ctl_options opt;
    struct config *config;
    struct buf err = BUF_INITIALIZER;
    int code;
    unblock_signals();
    if (stdfds_occupy() < 0)
        return EX_TEMPFAIL;
    if (ctl_options_parse(argc, argv, ctl_verbs, &opt)) {
        code = usage();
    } else if (config_open(opt.config, "ctl_backups", &config, &err)) {
        fprintf(stderr, "fatal error: %s\n", buf_cstring(&err));
        code = EX_CONFIG;
    } else {
        code = with_config(config, &opt);
        config_free(&config);
    }
    buf_free(&err);
    ctl_options_fini(&opt);
    xlog_close();
    return code;
}
