/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* stdfds - a tool that is started without stdin, stdout or stderr. The next file that is opened would
 * get the number of the missing one, and output would go into it. */
#include "config.h"

#include <fcntl.h>
#include <unistd.h>

#include "lib/stdfds.h"

int stdfds_occupy(void)
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
