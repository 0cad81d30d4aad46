/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_identify - whose backup is in this file?
 *
 * Lines name mailboxes, and user ids. If one of these belongs to the user that the file's name tells
 * of, that settles it, and no more is read. Lines are applied to a scratch index, which is never
 * committed, and tell what they name on the way.
 *
 * The newest lines are looked at first: they tell who the user is now, after a renaming too; a first
 * synchronisation ends with the mailboxes, after gigabytes of messages; and the time of the last
 * line comes with it. The lengths in our members lead to the end of the file without inflating any.
 * If that settles nothing, or with members of Cyrus 3.x, which do not say how long they are, the file
 * is read from its start. Only a file that contradicts its name is read completely.
 *
 * Files of Cyrus 3.x may hold lines about other users, so that a user is not mentioned first says
 * nothing. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_identify.h"
#include "backup/lcb_int.h"
#include "backup/lcb_walk.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define TAIL_MEMBERS 32

struct lcb_identifier {
    struct lcb_store *store;
    struct vfs *vfs;
    struct lcb_index *ix;
    struct buf user;
    /* the file at hand */
    const char *userid;
    const char *name;
    size_t baselen;
    int fd;
    off_t size;
    int to_the_end; /* read whole members, for the time of the last line */
    struct lcb_identity *id;
};

static void heard(void *rock, const char *mboxname, const char *userid)
{
    struct lcb_identifier *i = rock;
    if (i->id->agrees)
        return;
    if (mboxname)
        mboxname_to_userid(lcb_store_names(i->store), mboxname, &i->user);
    else
        buf_setcstr(&i->user, userid);
    const char *user = buf_cstring(&i->user);
    i->id->agrees = i->userid ? !strcmp(user, i->userid)
                              : i->baselen && *user && lcb_name_is_for(i->name, i->baselen, user);
    if (i->id->agrees || !i->id->owner.len)
        buf_setcstr(&i->id->owner, user);
}

/* Is it known by now? */
static int enough(struct lcb_identifier *i)
{
    if (lcb_store_stopped(i->store))
        return XERR_SIGNAL;
    return i->id->agrees || (!i->userid && !i->baselen && i->id->owner.len);
}

/* Called for every line. */
static int line_heard(void *rock, off_t at)
{
    struct lcb_identifier *i = rock;
    (void)at;
    return i->to_the_end ? 0 : enough(i);
}

int lcb_identifier_new(struct lcb_store *s, struct lcb_identifier **ip)
{
    struct lcb_identifier *i = xzmalloc(sizeof(*i));
    i->store = s;
    i->vfs = lcb_store_vfs(s);
    i->fd = -1;
    int r = lcb_index_open("", 1, 0, INT64_MAX, &i->ix); /* SQLite: a nameless file */
    if (!r)
        r = lcb_index_commit(i->ix);
    if (r) {
        lcb_identifier_free(&i);
        return r;
    }
    i->ix->names = lcb_store_names(s);
    i->ix->heard = heard;
    i->ix->progress = line_heard;
    i->ix->heard_rock = i->ix->progress_rock = i;
    *ip = i;
    return 0;
}

void lcb_identifier_free(struct lcb_identifier **ip)
{
    struct lcb_identifier *i = *ip;
    if (!i)
        return;
    lcb_index_close(&i->ix);
    buf_free(&i->user);
    free(i);
    *ip = NULL;
}

/* Hear the lines of one member, from a clean slate. *END: where the next one begins. */
static int hear_member(struct lcb_identifier *i, const struct lcb_member *m, int64_t *time, off_t *end)
{
    struct lcb_chunk chunk;
    int lost = 0;
    int r = lcb_index_rollback(i->ix);
    if (!r)
        r = lcb_index_begin(i->ix);
    *time = 0;
    return r ? r : lcb_lines_apply(i->ix, i->vfs, i->fd, m, 1, &chunk, time, &lost, end);
}

/* Is R a reason to stop altogether? (The disk's errors are: nothing would be known of the rest.) */
static int is_final(int r)
{
    return r == XERR_SIGNAL || r == XERR_SQL;
}

/* The members at the end of a file that has only our own: their number, 0 if that cannot be told. */
static int find_tail(struct lcb_identifier *i, struct lcb_member tail[TAIL_MEMBERS])
{
    off_t at = 0;
    int64_t n = 0;
    for (struct lcb_member m; at < i->size; at = m.offset + m.length) {
        if (lcb_member_at(i->vfs, i->fd, at, i->size, &m) || !m.length)
            break;
        tail[n++ % TAIL_MEMBERS] = m;
        i->id->id = m.extra.id;
        if (n % 1024 == 0 && lcb_store_stopped(i->store))
            return XERR_SIGNAL;
    }
    if (n <= TAIL_MEMBERS)
        return (int)n;
    struct lcb_member ring[TAIL_MEMBERS]; /* in their order */
    for (int k = 0; k < TAIL_MEMBERS; k++)
        ring[k] = tail[(n + k) % TAIL_MEMBERS];
    memcpy(tail, ring, sizeof(ring));
    return TAIL_MEMBERS;
}

/* From the last member backwards. */
static int hear_tail(struct lcb_identifier *i)
{
    struct lcb_member tail[TAIL_MEMBERS];
    int n = find_tail(i, tail);
    int64_t time, newest = 0;
    off_t end;
    for (int k = n; k-- > 0;) {
        i->to_the_end = !newest;
        int r = hear_member(i, &tail[k], &time, &end);
        if (is_final(r))
            return r;
        if (time && !newest)
            i->id->last_time = newest = time;
        if (newest && enough(i))
            break;
    }
    i->to_the_end = 0;
    return n < 0 ? n : 0;
}

/* What can be read of a member that is not whole. Returns where the next one begins, -1 if none. */
static off_t hear_damaged(struct lcb_identifier *i, off_t at, int known, const struct lcb_member *m)
{
    struct lcb_chunk chunk = {.seq = 1};
    struct lcb_salvage found = {.last_time = 0};
    if (known && m->extra.present)
        return m->length ? m->offset + m->length : -1;
    if (lcb_index_rollback(i->ix) || lcb_index_begin(i->ix))
        return -1;
    (void)lcb_salvage(i->ix, i->vfs, i->fd, at, i->size, known, 0, &chunk, &found);
    return found.end > at ? found.end : lcb_next_member(i->vfs, i->fd, at + 1, i->size, 0);
}

static int hear_all(struct lcb_identifier *i)
{
    for (off_t at = 0; at >= 0 && at < i->size;) {
        struct lcb_member m;
        int64_t time;
        off_t end = -1;
        int r = lcb_member_at(i->vfs, i->fd, at, i->size, &m), known = !r;
        if (!r)
            r = hear_member(i, &m, &time, &end);
        if (is_final(r))
            return r;
        if (r < 0)
            end = hear_damaged(i, at, known, &m);
        int stop = enough(i);
        if (stop)
            return stop < 0 ? stop : 0;
        at = end;
    }
    return 0;
}

/* Does it begin like a data file? A gzip file of anything else does not. */
static int begins_well(struct lcb_identifier *i)
{
    struct lcb_memberstream *s = NULL;
    struct lcb_member m;
    char start[LCB_CHUNK_START_LEN - 2]; /* whatever the line end */
    int r = lcb_member_at(i->vfs, i->fd, 0, i->size, &m);
    if (r == XERR_VERSION)
        return 1; /* one of ours, and newer */
    if (r) /* the first bytes may be damaged */
        return i->baselen && lcb_next_member(i->vfs, i->fd, 1, i->size, 0) > 0;
    if (m.extra.present)
        return 1;
    if (lcb_memberstream_open(i->vfs, i->fd, &m, &s))
        return 0;
    ssize_t n = lcb_memberstream_read(s, start, sizeof(start));
    lcb_memberstream_close(&s);
    return n == sizeof(start) && !memcmp(start, LCB_CHUNK_START, sizeof(start));
}

static int open_file(struct lcb_identifier *i, const char *path)
{
    struct stat st = {.st_size = 0};
    i->fd = vfs_open(i->vfs, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    int r = i->fd < 0 ? i->fd : vfs_fstat(i->vfs, i->fd, &st);
    if (!r && !S_ISREG(st.st_mode))
        r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    i->size = st.st_size;
    i->id->size = (uint64_t)st.st_size;
    i->id->last_time = st.st_mtime;
    i->id->dev = st.st_dev;
    i->id->ino = st.st_ino;
    i->id->links = (int)st.st_nlink;
    return r;
}

/* What kind of file is open? */
static enum lcb_identity_kind kind_of(struct lcb_identifier *i)
{
    return !i->size ? LCB_IS_EMPTY : begins_well(i) ? LCB_IS_DATA : LCB_IS_NONE;
}

enum lcb_identity_kind lcb_identify_kind(struct lcb_store *s, const char *path, size_t baselen)
{
    struct lcb_identity id = {.kind = LCB_IS_UNREADABLE};
    struct lcb_identifier i = {.store = s, .vfs = lcb_store_vfs(s), .baselen = baselen, .fd = -1,
                               .id = &id};
    if (!open_file(&i, path))
        id.kind = kind_of(&i);
    vfs_close(i.vfs, &i.fd);
    return id.kind;
}

int lcb_identify(struct lcb_identifier *i, const char *path, const char *userid, size_t baselen,
                 struct lcb_identity *id)
{
    struct buf owner = id->owner;
    memset(id, 0, sizeof(*id));
    id->owner = owner;
    buf_reset(&id->owner);
    i->id = id;
    i->userid = userid;
    i->name = lcb_last_part(path);
    i->baselen = baselen;
    int r = open_file(i, path);
    if (r) {
        id->kind = LCB_IS_UNREADABLE;
        id->error = r;
        r = 0;
    } else if ((id->kind = kind_of(i)) == LCB_IS_DATA) {
        r = hear_tail(i);
        int stop = r ? r : enough(i);
        r = stop < 0 ? stop : stop ? 0 : hear_all(i);
    }
    (void)lcb_index_rollback(i->ix);
    vfs_close(i->vfs, &i->fd);
    buf_cstring(&id->owner);
    return r;
}
