/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* twoskip_recover - recovery, consistency, checkpoint.
 *
 * One walk along list 1 serves the first two. It visits every live record in key order, and keeps
 * for each higher list the last record seen on it, which has to point to the next one that belongs
 * there. Consistency compares, recovery corrects. List 1 itself is right by construction, once
 * slots that point beyond the committed size do not count.
 *
 * Recovery may itself be interrupted at any point: until its last step the header says dirty, and
 * doing it again does no harm. Cyrus has a second stage for files whose list 1 is broken, which
 * guesses from the records in order of writing. There is none here: such a file is XERR_FORMAT, and
 * the caller knows better where its contents can be had from again. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "lib/twoskip_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

struct check {
    int fix;
    uint64_t count;
    uint64_t last[TS_MAXLEVEL + 1]; /* the last record seen on each list */
    struct buf key, prevkey, value;
};

/* Forget links of list 1 to where nothing is committed. */
static int check_slots(struct twoskip *ts, const struct check *c, struct ts_record *rec)
{
    if (rec->next[0] < ts->end && rec->next[1] < ts->end)
        return 0;
    if (!c->fix)
        return XERR_FORMAT;
    for (int i = 0; i < 2; i++)
        if (rec->next[i] >= ts->end)
            rec->next[i] = 0;
    return ts_writehead(ts, rec);
}

/* The last record on list N has to point to OFFSET. */
static int check_link(struct twoskip *ts, const struct check *c, unsigned n, uint64_t offset)
{
    struct ts_record rec;
    int r = ts_read(ts, c->last[n], &rec);
    if (r || rec.next[n] == offset)
        return r;
    if (!c->fix)
        return XERR_FORMAT;
    rec.next[n] = offset;
    return ts_writehead(ts, &rec);
}

static int check_record(struct twoskip *ts, struct check *c, const struct ts_record *rec)
{
    struct buf swap = c->prevkey;
    c->prevkey = c->key;
    c->key = swap;
    int r = c->fix ? ts_key(ts, rec, &c->key) : ts_keyvalue(ts, rec, &c->key, &c->value);
    if (!r && c->count && buf_cmp(&c->key, &c->prevkey) <= 0)
        r = XERR_FORMAT;
    for (unsigned n = 2; n <= rec->level && !r; n++) {
        r = check_link(ts, c, n, rec->offset);
        c->last[n] = rec->offset;
    }
    c->count++;
    return r;
}

static int check_lists(struct twoskip *ts, struct check *c)
{
    struct ts_record rec, next;
    for (unsigned n = 1; n <= TS_MAXLEVEL; n++)
        c->last[n] = TS_DUMMY;
    int r = ts_read(ts, TS_DUMMY, &rec);
    if (!r && rec.type != TS_IS_DUMMY)
        r = XERR_FORMAT;
    while (!r) {
        r = check_slots(ts, c, &rec);
        if (!r)
            r = ts_next(ts, &rec, 1, &next);
        if (r || !next.offset)
            break;
        r = check_record(ts, c, &next);
        rec = next;
    }
    for (unsigned n = 2; n <= TS_MAXLEVEL && !r; n++)
        r = check_link(ts, c, n, 0);
    buf_free(&c->key);
    buf_free(&c->prevkey);
    buf_free(&c->value);
    return r;
}

int ts_recover(struct twoskip *ts)
{
    struct check c;
    memset(&c, 0, sizeof(c));
    c.fix = 1;
    ts_forgetpages(ts);
    ts->end = ts->hdr.current_size;
    ts->hdr.flags |= TS_DIRTY;
    int r = ts_writeheader(ts);
    if (!r)
        r = ts_sync(ts);
    if (!r)
        r = check_lists(ts, &c);
    if (!r)
        r = vfs_ftruncate(ts->vfs, ts->fd, (off_t)ts->hdr.current_size);
    if (!r)
        r = ts_sync(ts);
    ts_forgetpages(ts);
    if (r)
        return r;
    ts->hdr.nrecords = c.count;
    ts->hdr.flags &= ~(uint32_t)TS_DIRTY;
    r = ts_writeheader(ts);
    return r ? r : ts_sync(ts);
}

int twoskip_consistent(struct twoskip *ts)
{
    struct check c;
    memset(&c, 0, sizeof(c));
    if (ts->txn)
        return XERR_LOCKED;
    int r = ts_lock(ts, FILELOCK_SHARED);
    if (r)
        return r;
    ts_forgetpages(ts); /* what is on disk is asked for */
    r = check_lists(ts, &c);
    if (!r && c.count != ts->hdr.nrecords)
        r = XERR_FORMAT;
    ts_unlock(ts);
    return r;
}

int ts_checkpointdue(const struct twoskip *ts)
{
    uint64_t size = ts->hdr.current_size;
    return size > 16834 && size / 2 > ts->hdr.repack_size;
}

/* Copy all records of FROM, in order, behind the dummy of TO. */
static int copy_records(struct twoskip *from, struct twoskip *to)
{
    struct ts_record rec, copy;
    struct ts_loc end;
    struct buf key = BUF_INITIALIZER, value = BUF_INITIALIZER, last = BUF_INITIALIZER;
    memset(&end, 0, sizeof(end)); /* nothing is ever ahead */
    for (unsigned n = 1; n <= TS_MAXLEVEL; n++)
        end.back[n] = TS_DUMMY;
    int r = ts_read(from, TS_DUMMY, &rec);
    while (!r) {
        struct ts_record next;
        r = ts_next(from, &rec, 1, &next);
        if (r || !next.offset)
            break;
        rec = next;
        r = ts_keyvalue(from, &rec, &key, &value);
        if (!r && buf_cmp(&key, &last) <= 0)
            r = XERR_FORMAT;
        if (!r)
            r = ts_insert(to, &end, key.s, key.len, value.s, value.len, &copy);
        if (r)
            break;
        for (unsigned n = 1; n <= copy.level; n++)
            end.back[n] = copy.offset;
        to->hdr.nrecords++;
        buf_setmap(&last, key.s, key.len);
    }
    buf_free(&key);
    buf_free(&value);
    buf_free(&last);
    return r;
}

/* Make PATH.NEW, open and locked in TO, and fill it. */
static int write_new(struct twoskip *ts, struct twoskip *to)
{
    struct stat st;
    int r = vfs_fstat(ts->vfs, ts->fd, &st);
    if (r < 0)
        return r;
    r = vfs_unlink(ts->vfs, to->path);
    if (r < 0 && r != -ENOENT)
        return r;
    r = vfs_open(ts->vfs, to->path, O_RDWR | O_CREAT | O_EXCL, st.st_mode & 0777);
    if (r < 0)
        return r;
    to->fd = r;
    r = filelock_lock(to->fd, FILELOCK_EXCLUSIVE, 0, NULL, NULL);
    if (!r)
        r = ts_format(to);
    if (!r)
        r = copy_records(ts, to);
    if (r)
        return r;
    to->hdr.repack_size = to->end;
    r = ts_appendcommit(to);
    if (r)
        return r;
    to->hdr.generation = ts->hdr.generation + 1;
    to->hdr.current_size = to->end;
    r = ts_writeheader(to);
    return r ? r : vfs_fsync(to->vfs, to->fd);
}

/* TO's file is PATH now: go on with it. */
static int adopt(struct twoskip *ts, struct twoskip *to)
{
    struct stat st;
    int r = vfs_fsyncparent(ts->vfs, ts->path);
    if (!r)
        r = vfs_fstat(to->vfs, to->fd, &st);
    if (r)
        ts->broken = 1; /* what is committed from here on might vanish with the name */
    else {
        ts->dev = st.st_dev;
        ts->ino = st.st_ino;
    }
    vfs_close(ts->vfs, &ts->fd);
    ts->fd = to->fd;
    to->fd = -1;
    ts->hdr = to->hdr;
    ts->end = to->end;
    ts->random = to->random;
    ts_forgetpages(ts);
    return r;
}

int ts_checkpoint(struct twoskip *ts)
{
    struct twoskip to;
    memset(&to, 0, sizeof(to));
    to.vfs = ts->vfs;
    to.fd = -1;
    to.random = ts->random;
    to.levels = ts->levels;
    to.path = xasprintf("%s.NEW", ts->path);
    int r = write_new(ts, &to);
    if (!r)
        r = vfs_rename(ts->vfs, to.path, ts->path);
    if (r && to.fd >= 0)
        vfs_unlink(ts->vfs, to.path);
    if (!r)
        r = adopt(ts, &to);
    vfs_close(to.vfs, &to.fd);
    free(to.pages);
    free(to.path);
    return r;
}

int twoskip_checkpoint(struct twoskip *ts)
{
    if (ts->txn)
        return XERR_LOCKED;
    int r = ts_lock(ts, FILELOCK_EXCLUSIVE);
    if (r)
        return r;
    r = ts_checkpoint(ts);
    ts_unlock(ts);
    return r;
}
