/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_verbs - the table of verbs and the usage text. */
#include "config.h"

#include "backup/ctl_backups.h"

const struct ctl_verb ctl_verbs[] = {
    {"list", NULL, ctl_list, CTL_OPT_FAIL_IF_ANY, CTL_ALL},
    {"lock", NULL, ctl_lock, CTL_OPT_LOCK, CTL_ONE | CTL_NEW},
    {"stat", NULL, ctl_stat, 0, 0},
    {NULL, NULL, NULL, 0, 0},
};

const char ctl_usage[] =
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
