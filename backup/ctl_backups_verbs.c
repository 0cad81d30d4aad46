/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_verbs - the table of verbs and the usage text. */
#include "config.h"

#include "backup/ctl_backups.h"

const struct ctl_verb ctl_verbs[] = {
    {"compact", ctl_compact, ctl_compact_run, CTL_OPT_DRY_RUN | CTL_OPT_EXPIRE, CTL_GUARD, 0},
    {"delete", ctl_delete, ctl_delete_run, CTL_OPT_NOW | CTL_OPT_EXPIRED | CTL_OPT_DRY_RUN, CTL_NAMES,
     0},
    {"list", NULL, ctl_list, CTL_OPT_FAIL_IF_ANY | CTL_OPT_DELETED, CTL_ALL, 0},
    {"lock", NULL, ctl_lock, CTL_OPT_LOCK, CTL_ONE | CTL_NEW, 0},
    {"move", ctl_move, ctl_move_run, CTL_OPT_TO | CTL_OPT_DRY_RUN, CTL_GUARD, 0},
    {"reconstruct", NULL, ctl_reconstruct, CTL_OPT_DRY_RUN, CTL_WORDS | CTL_NOSTORE, 0},
    {"reindex", ctl_reindex, NULL, 0, 0, 0},
    {"rename", NULL, ctl_rename, 0, CTL_WORDS, 2},
    {"stat", NULL, ctl_stat, 0, 0, 0},
    {"undelete", ctl_undelete, NULL, 0, CTL_NAMES | CTL_NEW, 0},
    {"verify", ctl_verify, NULL, CTL_OPT_DRY_RUN | CTL_OPT_SUBSET, CTL_GUARD, 0},
    {NULL, NULL, NULL, 0, 0, 0},
};

const char ctl_usage[] =
    "usage: ctl_backups [options] command [mode] backup...\n"
    "\n"
    "Commands:\n"
    "    compact                     make smaller: drop what is older than backup_retention\n"
    "    delete                      remove a backup; it can be brought back for some time\n"
    "    list                        newest change, size, user and data file (all if none is named)\n"
    "    lock                        hold the lock of one backup\n"
    "    move                        to another partition; -A alone: make the partitions alike\n"
    "    reconstruct                 make backups.db from the data files\n"
    "    reindex                     make the index anew from the data file\n"
    "    rename old new              a user has another name now\n"
    "    stat                        sizes and ratios\n"
    "    undelete                    bring back the backup that was deleted last\n"
    "    verify                      read all of a backup, and mend what is wrong\n"
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
    "    --deleted                   what is deleted, and when it will go\n"
    "\n"
    "Options of compact:\n"
    "    --dry-run                   say what would go\n"
    "    --expire-previous[=age]     remove what backup_keep_previous kept before (7d)\n"
    "\n"
    "Options of delete, move, reconstruct:\n"
    "    --expired                   delete: remove what was deleted long enough ago\n"
    "    --now                       delete: for good (with -F)\n"
    "    --to=partition              move: where to\n"
    "    --dry-run                   say what would be done\n"
    "\n"
    "Options of verify:\n"
    "    --dry-run                   mend nothing\n"
    "    --subset=N/T, --subset=X%   the N-th of T parts, or X percent: longest unverified first\n"
    "\n"
    "Options of lock, at most one of -p -s -x:\n"
    "    -c, --create                make the backup, which must not exist\n"
    "    -p, --pause                 hold the lock until the end of stdin (default)\n"
    "    -s, --sqlite3               run sqlite3 on the index\n"
    "    -x, --execute=command       run a command\n";
