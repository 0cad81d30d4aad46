/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups - look after backups: the program and its table of verbs.
 *
 * Exit: 0 done, or nothing to do; 64 wrong usage, or not the Cyrus user; 75 something was not done;
 * 78 configuration. Arguments are judged before the configuration is read.
 *
 * Results go to stdout, complaints to stderr, and what did not work to syslog, too, because master
 * sends the output of EVENTS to /dev/null. Master also starts those with signals blocked. */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "backup/ctl_backups.h"
#include "lib/cyrususer.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

static const struct ctl_verb verbs[] = {
    {"list", NULL, ctl_list, CTL_OPT_FAIL_IF_ANY, CTL_ALL},
    {"lock", NULL, ctl_lock, CTL_OPT_LOCK, CTL_ONE | CTL_NEW},
    {"stat", NULL, ctl_stat, 0, 0},
    {NULL, NULL, NULL, 0, 0},
};

static const char usage_text[] =
    "usage: ctl_backups [options] command [mode] backup...\n"
    "\n"
    "Commands:\n"
    "    list                        newest change, size, user and data file (all if none is named)\n"
    "    lock                        hold the lock of one backup\n"
    "    stat                        sizes and ratios\n"
    "\n"
    "Modes, at most one:\n"
    "    -A, --all                   all backups\n"
    "    -D, --domains               names are domains\n"
    "    -P, --prefixes              names are beginnings of user ids\n"
    "    -f, --filenames             names are paths of data files\n"
    "    -m, --mailboxes             names are mailboxes: the backup of each one's owner\n"
    "    -u, --userids               names are user ids (default)\n"
    "\n"
    "Options:\n"
    "    -C file                     instead of /etc/imapd.conf\n"
    "    -F, --force                 work even if it is not needed\n"
    "    -S, --stop-on-error         stop at the first failure\n"
    "    -V, --no-verify             accepted for compatibility (list, stat)\n"
    "    -j, --json[=array]          JSON: an object for each backup, or one array\n"
    "    -j N, --jobs=N              work on N backups at a time\n"
    "    -v, --verbose               say more; repeat for more\n"
    "    -w, --wait-for-locks        wait for backups that are locked\n"
    "    --utc, --iso                print times as UTC, as ISO 8601\n"
    "    --sort                      in the order of names\n"
    "    --legacy-status             exit status as in Cyrus 3.x\n"
    "    -h, --help                  print this text\n"
    "\n"
    "Options of list:\n"
    "    -t hours, --stale[=hours]   only backups without a change for so long (24)\n"
    "    --fail-if-any               exit 75 if there is one\n"
    "\n"
    "Options of lock, at most one of -p -s -x:\n"
    "    -c, --create                make the backup, which must not exist\n"
    "    -p, --pause                 hold the lock until the end of stdin (default)\n"
    "    -s, --sqlite3               run sqlite3 on the index\n"
    "    -x, --execute=command       run a command\n";

static int usage(void)
{
    fputs(usage_text, stderr);
    return EX_USAGE;
}

/* A file of ours must not become descriptor 1 and be printed into. What is written to a missing
 * stdout fails. */
static int occupy_standard(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
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
    int r = lcb_store_open(config, NULL, &ctl.store, &err);
    if (r) {
        fprintf(stderr, "ctl_backups: %s\n", buf_cstring(&err));
        xlog_errorx("cannot open the store: %s", buf_cstring(&err));
        code = r == XERR_CONFIG ? EX_CONFIG : EX_TEMPFAIL;
    } else {
        code = opt->verb->whole ? opt->verb->whole(&ctl) : ctl_run(&ctl);
        lcb_store_close(&ctl.store);
    }
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
    if (occupy_standard() < 0)
        return EX_TEMPFAIL;
    if (ctl_options_parse(argc, argv, verbs, &opt)) {
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
