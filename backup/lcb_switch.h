/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A new pair of files in the place of an old one: what compaction and move have in common.
 *
 *     begin      the old backup is open for reading, and nobody else maintains it
 *     create     the new data file is there, empty
 *                (compaction writes what stays to it; move: lcb_switch_copy)
 *     replay     it is durable and has an index
 *                (the caller compares)
 *     lock       writers are locked out; what they appended meanwhile is in the new pair, too
 *                (compaction adds content that they refer to)
 *     commit     the new pair is the backup; the old one is gone
 *     end        in any case
 *
 * All functions return 0, XERR_* or -errno. After an error only lcb_switch_end() may follow; unless
 * lcb_switch_commit() was reached the backup is what it was then. */
#ifndef BACKUP_LCB_SWITCH_H
#define BACKUP_LCB_SWITCH_H

#include "backup/lcb_int.h"
#include "lib/strarray.h"

/* The strings must live as long as the switch. */
struct lcb_switch_how {
    const char *userid; /* the record in backups.db that is switched; NULL: PATH is replaced in place */
    const char *path;   /* of the old data file, if USERID is NULL */
    const char *dir;    /* for the new pair, absolute, made if missing; NULL: that of the old */
    int same_id;        /* members keep backup id and numbers; else both are given anew */
    int wait_ms;        /* how long others who maintain this backup are waited for */
    int keep_previous;  /* the old pair stays as <data>.<time> and <data>.index.<time> */
};

struct lcb_switch {
    struct lcb_store *store;
    struct vfs *vfs;
    struct lcb_switch_how how;
    char *dir;

    /* From begin on. OLD is open for reading and holds the maintenance lock. What is behind POINT, the
     * end of its last commit, is taken over between lock and commit. */
    struct lcb *old;
    struct lcb_mark_point point;

    /* From create on. Who writes to FD keeps END (offset behind the last member) and SEQ (number of
     * it, 0 for none) up to date; members carry ID. Nothing need be synced. */
    char *path; /* that it will have; until then PATH.new */
    int fd;
    uint64_t id;
    off_t end;
    uint32_t seq;

    /* From replay on: the new pair, to be written to as any other (lcb_log_message ...) between lock
     * and commit. */
    struct lcb *made;
    uint32_t merged; /* the last member that was there then */
    off_t taken;    /* up to here the old file has been taken over */
    int64_t shift;  /* what stood in chunk N of the old file behind POINT is in chunk N + SHIFT */

    /* From lock on: the old backup, locked. */
    struct lcb *locked;
    int switched;   /* 1: it is done; -1: nobody knows: neither pair may be touched */
};

/* XERR_LOCKED if somebody else maintains this backup (for WAIT_MS); XERR_NOTFOUND. An old pair that a
 * dead run had switched from is removed. */
int lcb_switch_begin(struct lcb_store *, const struct lcb_switch_how *, struct lcb_switch **);
/* What dead runs left half made is removed first. */
int lcb_switch_create(struct lcb_switch *);
/* All of the old file up to POINT, as it is. */
int lcb_switch_copy(struct lcb_switch *);
int lcb_switch_replay(struct lcb_switch *);
/* Waits for the lock as lcb_open() does. XERR_STALE if what was appended meanwhile does not fit to what
 * the new pair holds: all has to begin again; XERR_FORMAT if nothing was, and the indexes differ. */
int lcb_switch_lock(struct lcb_switch *, int wait_ms);
int lcb_switch_commit(struct lcb_switch *);
/* Removes what was not switched to, and gives back the locks. */
void lcb_switch_end(struct lcb_switch **);

/* USERID's registered backup at PATH, whose locks the caller holds, is to get another name or to lose
 * its record: what dead runs left of it is removed before. The index may be missing or damaged. */
int lcb_switch_tidy(struct lcb_store *, const char *userid, const char *path);

/* ---- among the files of this room ---- */

/* lcb_switch_names.c: what dead runs left. */
int lcb_switch_finish_dead(struct lcb_switch *);
/* From begin on; wherever a pair of this user may be. */
int lcb_switch_sweep(struct lcb_switch *);
/* A free name for a pair of USERID in DIR; to be freed. */
int lcb_switch_newname(struct vfs *, const char *dir, const char *userid, char **path);
/* Where files of USERID, whose backup is at PATH, may be: the directory of that first. */
void lcb_switch_dirs(struct lcb_store *, const char *userid, const char *path, struct strarray *dirs);
/* Remove the index of PATH with all that SQLite keeps beside it. */
int lcb_switch_rmindex(struct vfs *, const char *path);
/* The pair PATH is not used any more: removed, or kept under a name with the time. */
int lcb_switch_retire(struct vfs *, const char *path, int keep);
/* The first second from now on that no file kept beside PATH has in its name. */
long long lcb_switch_freetime(struct vfs *, const char *path);
/* Another name for PATH, with TIME. */
int lcb_switch_link(struct vfs *, const char *path, long long time);
/* 1 if it is there, 0 if not, or an error. */
int lcb_switch_exists(struct vfs *, const char *path);

/* lcb_switch_copy.c: bytes FROM .. TO of the old file to the end of the new one; the same, member by
 * member, with the new id and numbers. XERR_STALE if there is one that we did not write. */
int lcb_switch_raw(struct lcb_switch *, off_t from, off_t to);
int lcb_switch_members(struct lcb_switch *, off_t from, off_t to);

#endif
