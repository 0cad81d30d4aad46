/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_progress - how far a run has come, for somebody who watches a terminal.
 *
 * The rate is that of the whole run, by size of data files; so a verb that says nothing in between
 * moves on backup by backup. */
#include "config.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backup/ctl_backups.h"

#define PAUSE_MS 250
#define MIB 1048576.0

int64_t ctl_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

void ctl_progress_begin(struct ctl_progress *p, const struct ctl_targets *targets)
{
    struct stat st;
    *p = (struct ctl_progress){.on = isatty(STDERR_FILENO), .begun_ms = ctl_now_ms(),
                               .all = targets->count};
    for (size_t i = 0; p->on && i < targets->count; i++)
        if (targets->list[i].path && !stat(targets->list[i].path, &st))
            p->all_bytes += (uint64_t)st.st_size;
}

void ctl_progress_show(struct ctl_progress *p, uint64_t running)
{
    char text[160];
    int64_t now = ctl_now_ms();
    if (!p->on || now - p->shown_ms < PAUSE_MS)
        return;
    p->shown_ms = now;
    double seconds = (double)(now - p->begun_ms) / 1000, bytes = (double)(p->bytes + running);
    double rate = seconds > 0 ? bytes / seconds : 0;
    int n = snprintf(text, sizeof(text), "%zu of %zu backups, %.0f of %.0f MiB, %.1f MiB/s",
                     p->done, p->all, bytes / MIB, (double)p->all_bytes / MIB, rate / MIB);
    if (rate > 0 && bytes < (double)p->all_bytes) {
        long left = (long)(((double)p->all_bytes - bytes) / rate);
        n += snprintf(text + n, sizeof(text) - (size_t)n, ", %ld:%02ld:%02ld left", left / 3600,
                      left / 60 % 60, left % 60);
    }
    fprintf(stderr, "\r%s%*s", text, n < p->width ? p->width - n : 0, "");
    fflush(stderr);
    p->width = n;
}

void ctl_progress_clear(struct ctl_progress *p)
{
    if (p->width)
        fprintf(stderr, "\r%*s\r", p->width, "");
    p->width = 0;
}
