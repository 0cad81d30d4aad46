/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_mounted - is a backup partition there?
 *
 * If a disk is not mounted, its mount point is an empty directory like that of a partition that has
 * never been used. Backups that are known are not begun anew there, since their records name files
 * that are missing. But new ones would be, and the mount would hide them. So an empty directory is no
 * partition while a record names a file below it. A file system that was made for it, and has
 * lost+found in it, is one; so is an empty directory again when the records of what was lost have been
 * removed.
 *
 * To find that no record names such a file takes all of backups.db. So it is asked of the partition
 * that was chosen for a new backup, not of each that there is: one that is chosen is empty no more,
 * while one that is not could stay empty for ever, and each new user would pay for it. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "backup/lcb_db.h"
#include "backup/lcb_int.h"
#include "backup/lcb_mounted.h"
#include "lib/xlog.h"

static int any_name(void *rock, const char *name)
{
    (void)rock;
    (void)name;
    return 1;
}

/* 1 if PATH is below the directory. */
static int is_below(void *rock, const char *userid, const char *path)
{
    const char *dir = rock;
    size_t len = strlen(dir);
    (void)userid;
    while (len > 1 && dir[len - 1] == '/')
        len--;
    return !strncmp(path, dir, len) && path[len] == '/';
}

int lcb_mounted(struct lcb_store *s, const char *dir)
{
    int r = vfs_list(lcb_store_vfs(s), dir, any_name, NULL);
    if (r && r != -ENOENT)
        return r > 0 ? 0 : r;
    r = lcb_db_foreach(lcb_store_db(s), "", is_below, (char *)(uintptr_t)dir);
    if (r != 1)
        return r;
    xlog_errorx("%s: nothing is there, although backups.db names files below it: is it mounted?", dir);
    return -ENODEV;
}

int lcb_mounted_usage(void *rock, const char *dir, struct lcb_usage *u)
{
    int r = lcb_mounted(rock, dir);
    return r ? r : lcb_partition_usage(NULL, dir, u);
}
