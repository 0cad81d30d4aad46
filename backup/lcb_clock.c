/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_clock - may the clock be believed that says that things are old?
 *
 * A machine whose clock leaps ten years forward (a flat battery, a bad time server) would, at the next
 * compaction, drop all history and remove all deleted backups at once, for all of it is older than the
 * retention then. No single backup can tell this from a user who was on leave; but maintenance is a
 * thing of every day. So each run that drops things notes the time beside backups.db, as
 * backups.db.clock, and one that finds more than LCB_CLOCK_LEAP between does not believe it: it notes
 * when the leap was seen, and drops only what was old at the last run. If runs a day later, or later
 * still, find that the clock has gone on from there, it is right: the host had been out of use. So
 * nobody has to do anything by hand if it is, and there is a day to notice if it is not.
 *
 * A clock that was set back drops too little, which does no harm. */
#include "config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup/lcb_clock.h"
#include "backup/lcb_int.h"
#include "lib/filelock.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

struct note {
    int64_t last; /* the clock was right then; 0: not known */
    int64_t leap; /* since when another time is seen; 0: it is not */
};

static void read_note(struct vfs *vfs, const char *path, struct note *note)
{
    char text[64];
    memset(note, 0, sizeof(*note));
    int fd = vfs_open(vfs, path, O_RDONLY, 0);
    if (fd < 0)
        return;
    ssize_t n = vfs_pread(vfs, fd, text, sizeof(text) - 1, 0);
    vfs_close(vfs, &fd);
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%" SCNd64 " %" SCNd64, &note->last, &note->leap) != 2 || note->last < 0 ||
        note->leap < 0)
        memset(note, 0, sizeof(*note));
}

/* A run that finds another at it leaves it to that: it notes the same. What a dead one left is written
 * over. */
static int write_note(struct vfs *vfs, const char *path, const struct note *note)
{
    char text[64];
    char *fresh = xasprintf("%s.new", path);
    int len = snprintf(text, sizeof(text), "%" PRId64 " %" PRId64 "\n", note->last, note->leap);
    int fd = vfs_open(vfs, fresh, O_RDWR | O_CREAT, 0600);
    int r = fd < 0 ? fd : filelock_lock(fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL);
    int busy = r == XERR_LOCKED || (!r && filelock_same(fd, fresh) != 1);
    if (!r && !busy)
        r = vfs_ftruncate(vfs, fd, 0);
    ssize_t n = r || busy ? 0 : vfs_pwrite(vfs, fd, text, (size_t)len, 0);
    r = r ? r : n < 0 ? (int)n : 0;
    if (!r && !busy)
        r = vfs_fsync(vfs, fd);
    if (!r && !busy)
        r = vfs_rename(vfs, fresh, path);
    vfs_close(vfs, &fd);
    free(fresh);
    return busy ? 0 : r;
}

/* Has the clock gone on, for long enough, from where it leapt to? (Or did it leap again?) */
static int has_settled(const struct note *note, int64_t now)
{
    return note->leap && now - note->leap >= LCB_CLOCK_PROBATION &&
           now - note->leap <= LCB_CLOCK_NEXT;
}

int lcb_clock(struct lcb_store *s, int64_t now, int dry_run, int64_t *use, int64_t *again)
{
    struct vfs *vfs = lcb_store_vfs(s);
    struct note note, was;
    char *path = xasprintf("%s.clock", config_getstring(lcb_store_config(s), IMAPOPT_BACKUP_DB_PATH));
    read_note(vfs, path, &note);
    was = note;
    int doubt = note.last && now - note.last > LCB_CLOCK_LEAP && !has_settled(&note, now);
    if (!doubt)
        note = (struct note){.last = now};
    else if (!note.leap || now < note.leap || now - note.leap > LCB_CLOCK_NEXT)
        note.leap = now;
    *use = note.last;
    *again = doubt ? note.leap + LCB_CLOCK_PROBATION : now;
    int r = dry_run || (note.last == was.last && note.leap == was.leap) ? 0
                                                                        : write_note(vfs, path, &note);
    if (r)
        xlog_warnx("%s: %s: a leap of the clock would not be noticed", path, error_message(r));
    free(path);
    return doubt;
}
