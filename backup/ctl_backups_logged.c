/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_logged - a part of ctl_backups as it is tested: what would go to syslog goes to the
 * file PROBE_LOG of the environment, a line each, with its priority in front. */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/xlog.h"

static void to_file(int priority, const char *text)
{
    const char *path = getenv("PROBE_LOG");
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0644) : -1;
    if (fd >= 0)
        dprintf(fd, "<%d> %s\n", priority, text);
    if (fd >= 0)
        close(fd);
}

__attribute__((constructor)) static void prepare(void)
{
    xlog_sethook(to_file);
}
