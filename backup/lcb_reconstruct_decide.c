/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_reconstruct_decide - of all files of a user, which is the backup?
 *
 * The one that the record names, if that can be: it is a data file, or empty, and does not tell of
 * somebody else. Else the best of those that tell of this user and are called so: the one with the
 * newest lines. Of two that end in the same second the one that goes on where the other ends; if they
 * say different things, size tells nothing: then both are shown, and somebody has to decide.
 *
 * Compaction and move leave two files for a moment, of which the index of the new one says what it was
 * made from and how long both were. So it can be told which of the two nothing has been written to
 * since, and that one may go, whichever of them was registered.
 *
 * Nothing that a record says is changed unless that was asked for; nothing is ever removed. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "backup/lcb_reconstruct_int.h"
#include "backup/lcb_walk.h"
#include "lib/output.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* A row of files. */
struct file {
    struct buf path, userid;
    int there; /* there is such a row */
    int named, kind, agrees, error;
    int64_t time, size, id, dev, ino, links;
};

struct decision {
    struct lcb_rebuild *b;
    const char *userid, *record;
    struct file reg;   /* what the record names */
    struct file best;  /* what counts, or would */
    struct file file;  /* at hand */
    struct buf rival;  /* path of a file as new as the best one that says something else, or empty */
    int reg_ok;
    int open; /* because of the rival nothing counts */
    int told; /* what is wrong with what the record names */
};

#define COLUMNS "path, userid, named, kind, agrees, error, time, size, id, dev, ino, links"

static void read_row(sqlite3_stmt *st, struct file *f)
{
    buf_setmap(&f->path, sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
    buf_setmap(&f->userid, sqlite3_column_text(st, 1), (size_t)sqlite3_column_bytes(st, 1));
    buf_cstring(&f->path);
    buf_cstring(&f->userid);
    f->named = sqlite3_column_int(st, 2);
    f->kind = sqlite3_column_int(st, 3);
    f->agrees = sqlite3_column_int(st, 4);
    f->error = sqlite3_column_int(st, 5);
    f->time = sqlite3_column_int64(st, 6);
    f->size = sqlite3_column_int64(st, 7);
    f->id = sqlite3_column_int64(st, 8);
    f->dev = sqlite3_column_int64(st, 9);
    f->ino = sqlite3_column_int64(st, 10);
    f->links = sqlite3_column_int64(st, 11);
    f->there = 1;
}

static void file_free(struct file *f)
{
    buf_free(&f->path);
    buf_free(&f->userid);
}

static void take(struct file *to, const struct file *from)
{
    struct buf path = to->path, userid = to->userid;
    *to = *from;
    to->path = path;
    to->userid = userid;
    buf_setmap(&to->path, from->path.s, from->path.len);
    buf_setmap(&to->userid, from->userid.s, from->userid.len);
    buf_cstring(&to->path);
    buf_cstring(&to->userid);
}

static int load(struct lcb_rebuild *b, const char *path, struct file *f)
{
    sqlite3_stmt *st = sqldb_stmt(b->db, "SELECT " COLUMNS " FROM files WHERE path=?");
    f->there = 0;
    if (!st || sqldb_bind(st, "t", path))
        return XERR_SQL;
    int r = sqldb_step(b->db, st);
    if (r == 1)
        read_row(st, f);
    sqlite3_reset(st);
    return r < 0 ? r : 0;
}

/* The file behind PATH among those of the user, to d->file: 1, or 0 if that was the last. */
static int next_file(struct decision *d, const struct buf *behind)
{
    sqlite3_stmt *st = sqldb_stmt(d->b->db, "SELECT " COLUMNS " FROM files WHERE userid=?1 AND path>?2"
                                            " AND deleted=0 ORDER BY path LIMIT 1");
    if (!st || sqldb_bind(st, "ts", d->userid, behind->s ? behind->s : "", behind->len))
        return XERR_SQL;
    int r = sqldb_step(d->b->db, st);
    if (r == 1)
        read_row(st, &d->file);
    sqlite3_reset(st);
    return r;
}

static int say(struct decision *d, enum lcb_found_kind kind, const char *path, const char *other)
{
    return lcb_rebuild_say(d->b, kind, d->userid, path, other, buf_cstring(&d->b->text));
}

/* ---- where files came from ---- */

/* What an index says of where its data file came from. */
struct origin {
    struct buf from;
    int64_t id, end, made_end;
};

static void origin_read(const char *path, struct origin *o)
{
    char *name = xasprintf("%s.index", path);
    struct lcb_index *ix = NULL;
    memset(o, 0, sizeof(*o));
    if (!lcb_index_open(name, 0, 1, INT64_MAX, &ix)) {
        sqlite3_stmt *st = sqldb_stmt(ix->db, "SELECT value FROM meta WHERE key='made_from'");
        if (st && sqldb_step(ix->db, st) == 1) {
            buf_setmap(&o->from, sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
            sqlite3_reset(st);
        }
        (void)sqldb_int(ix->db, &o->id, "SELECT value FROM meta WHERE key='made_from_id'", "");
        (void)sqldb_int(ix->db, &o->end, "SELECT value FROM meta WHERE key='made_from_end'", "");
        (void)sqldb_int(ix->db, &o->made_end, "SELECT value FROM meta WHERE key='made_end'", "");
    }
    lcb_index_close(&ix);
    free(name);
}

enum relation { UNRELATED, SAME, OLD_UNCHANGED, NEW_UNCHANGED, BOTH_UNCHANGED };

/* Was MADE made from FROM, and what has changed since? */
static enum relation made_from(const struct file *made, const struct file *from)
{
    struct origin o;
    enum relation rel = UNRELATED;
    if (made->dev == from->dev && made->ino == from->ino)
        return SAME;
    origin_read(made->path.s, &o);
    if (o.from.len && !strcmp(lcb_last_part(buf_cstring(&o.from)), lcb_last_part(from->path.s)) &&
        o.id == from->id) {
        int old = from->size == o.end, new_ = made->size == o.made_end;
        rel = old && new_ ? BOTH_UNCHANGED : old ? OLD_UNCHANGED : new_ ? NEW_UNCHANGED : UNRELATED;
    }
    buf_free(&o.from);
    return rel;
}

/* May OTHER go, as COUNTS is there? */
static const char *may_go(const struct file *counts, const struct file *other)
{
    switch (made_from(counts, other)) {
    case SAME:
        return "another name of the file that counts: it may be removed";
    case OLD_UNCHANGED:
    case BOTH_UNCHANGED:
        return "the file that counts was made from this one: it may be removed";
    default:
        break;
    }
    switch (made_from(other, counts)) {
    case NEW_UNCHANGED:
    case BOTH_UNCHANGED:
        return "made from the file that counts, by a run that did not come to its end: it may be"
               " removed";
    default:
        return NULL;
    }
}

/* ---- choosing ---- */

static int is_good(const struct decision *d, const struct file *f)
{
    return f->there && (f->kind == LCB_IS_DATA || f->kind == LCB_IS_EMPTY) &&
           !strcmp(f->userid.s, d->userid);
}

/* Could it be the backup, if no record says so? */
static int is_candidate(const struct decision *d, const struct file *f)
{
    if (f->kind != LCB_IS_DATA || !*d->userid)
        return 0;
    return (f->named && f->agrees) || d->b->how->replace;
}

/* Whose record names it? 1 if somebody's. */
static int is_registered(struct lcb_rebuild *b, const struct file *f)
{
    int64_t n = 0;
    int r = sqldb_int(b->db, &n, "SELECT count(*) FROM records WHERE path=?", "t", f->path.s);
    return r ? r : n > 0;
}

/* A file that is deleted already, but still has its former name: 1. */
static int is_deleted(struct lcb_rebuild *b, const struct file *f)
{
    int64_t n = 0;
    if (f->links < 2 || !b->had_records)
        return 0;
    int r = sqldb_int(b->db, &n, "SELECT count(*) FROM files WHERE deleted=1 AND dev=? AND ino=?",
                      "ii", f->dev, f->ino);
    return r ? r : n > 0;
}

enum { COMPARE_SIZE = 1 << 16 };

/* 1 if the first N bytes of two open files are the same. */
static int same_bytes(struct decision *d, int a, int b, int64_t n)
{
    struct vfs *vfs = lcb_store_vfs(d->b->store);
    char *p = xmalloc(2 * COMPARE_SIZE);
    int same = 1;
    for (int64_t at = 0; same > 0 && at < n; at += COMPARE_SIZE) {
        size_t want = n - at < COMPARE_SIZE ? (size_t)(n - at) : COMPARE_SIZE;
        same = vfs_pread(vfs, a, p, want, at) == (ssize_t)want &&
               vfs_pread(vfs, b, p + COMPARE_SIZE, want, at) == (ssize_t)want &&
               !memcmp(p, p + COMPARE_SIZE, want);
        if (lcb_store_stopped(d->b->store))
            same = XERR_SIGNAL;
    }
    free(p);
    return same;
}

/* 1 if all of FROM is the beginning of F, or they are the same; 0 also if they cannot be read. */
static int continues(struct decision *d, const struct file *f, const struct file *from)
{
    struct vfs *vfs = lcb_store_vfs(d->b->store);
    if (f->size < from->size || f->kind != LCB_IS_DATA || from->kind != LCB_IS_DATA)
        return 0;
    int a = vfs_open(vfs, f->path.s, O_RDONLY, 0), b = vfs_open(vfs, from->path.s, O_RDONLY, 0);
    int same = a >= 0 && b >= 0 ? same_bytes(d, a, b, from->size) : 0;
    vfs_close(vfs, &a);
    vfs_close(vfs, &b);
    return same;
}

enum choice { WORSE, BETTER, EITHER }; /* or an error */

/* Of two files that end in the same second. */
static int by_content(struct decision *d, const struct file *best, const struct file *f)
{
    int r = continues(d, best, f);
    if (r)
        return r < 0 ? r : WORSE;
    r = continues(d, f, best);
    return r < 0 ? r : r ? BETTER : EITHER;
}

/* Is F better than what was found so far? */
static int is_better(struct decision *d, const struct file *best, const struct file *f)
{
    if (!best->there)
        return BETTER;
    enum relation rel = made_from(f, best);
    if (rel == OLD_UNCHANGED)
        return BETTER; /* it was switched to, and written to */
    if (rel == NEW_UNCHANGED || rel == BOTH_UNCHANGED)
        return WORSE;
    rel = made_from(best, f);
    if (rel == OLD_UNCHANGED)
        return WORSE;
    if (rel == NEW_UNCHANGED || rel == BOTH_UNCHANGED)
        return BETTER;
    if (f->time != best->time)
        return f->time > best->time ? BETTER : WORSE;
    return rel == SAME ? WORSE : by_content(d, best, f);
}

/* F is a candidate, too. Where nothing else decides, the larger is at hand for -F. */
static int consider(struct decision *d, const struct file *f)
{
    int r = is_better(d, &d->best, f);
    if (r < 0 || r == WORSE)
        return r < 0 ? r : 0;
    int newer = d->best.there && f->time > d->best.time;
    int larger = f->size > d->best.size;
    if (r == EITHER)
        buf_setmap(&d->rival, larger ? d->best.path.s : f->path.s,
                   larger ? d->best.path.len : f->path.len);
    else if (newer)
        buf_reset(&d->rival);
    if (r == BETTER || larger)
        take(&d->best, f);
    return 0;
}

static int find_best(struct decision *d)
{
    struct buf behind = BUF_INITIALIZER;
    int r;
    while ((r = next_file(d, &behind)) == 1) {
        int n = is_candidate(d, &d->file);
        if (n)
            n = is_registered(d->b, &d->file) || is_deleted(d->b, &d->file) ? 0 : 1;
        r = n < 0 ? n : n ? consider(d, &d->file) : 0;
        if (r)
            break;
        buf_setmap(&behind, d->file.path.s, d->file.path.len);
    }
    buf_free(&behind);
    return r;
}

/* ---- what is to be done ---- */

static int act(struct decision *d, enum lcb_found_kind kind)
{
    int r = sqldb_run(d->b->db, "INSERT OR REPLACE INTO actions VALUES (?,?,?)", "ttt", d->userid,
                      d->record, d->best.path.s);
    return r ? r : say(d, kind, d->best.path.s, d->record);
}

/* What is wrong with the record. */
static void complain(struct decision *d)
{
    struct buf *t = &d->b->text;
    const struct file *f = &d->reg;
    buf_reset(t);
    if (f->kind == LCB_IS_UNREADABLE && f->error == -ENOENT)
        buf_printf(t, "the data file is gone: mount its partition, restore it, or forget it with"
                      " ctl_backups delete -F %s", d->userid);
    else if (f->kind == LCB_IS_UNREADABLE)
        buf_printf(t, "the data file cannot be read: %s", error_message(f->error));
    else if (f->kind == LCB_IS_EMPTY)
        buf_appendcstr(t, "the data file is empty, and there is another");
    else if (f->kind == LCB_IS_NONE)
        buf_appendcstr(t, "the file is no data file: restore it from a copy");
    else
        buf_printf(t, "the file holds the backup of %s", f->userid.s);
    if (d->best.there)
        buf_printf(t, "; reconstruct -F takes %s", d->best.path.s);
}

static int decide_record(struct decision *d)
{
    int r = load(d->b, d->record, &d->reg);
    if (!r && !d->reg.there) { /* not below a partition */
        r = lcb_rebuild_examine(d->b, d->record, d->userid);
        r = r ? r : load(d->b, d->record, &d->reg);
    }
    if (r)
        return r;
    d->reg_ok = is_good(d, &d->reg) && !(d->reg.kind == LCB_IS_EMPTY && d->best.there);
    if (d->reg_ok) {
        int better = d->best.there && d->b->how->replace && !may_go(&d->reg, &d->best)
                         ? is_better(d, &d->reg, &d->best) : WORSE;
        if (better < 0)
            return better;
        buf_setcstr(&d->b->text, better == BETTER ? "replaced by a newer one" : "");
        if (better == BETTER)
            return act(d, LCB_FOUND_REPLACED);
        take(&d->best, &d->reg);
        return say(d, LCB_FOUND_OK, d->record, NULL);
    }
    complain(d);
    d->told = !d->best.there || !d->b->how->replace;
    if (!d->best.there)
        return say(d, LCB_FOUND_WRONG, d->record, NULL);
    if (!d->b->how->replace)
        return say(d, LCB_FOUND_WRONG, d->record, d->best.path.s);
    buf_setcstr(&d->b->text, "");
    return act(d, LCB_FOUND_REPLACED);
}

/* What the file at hand is beside the one that counts, or might. TAKES: it should count. */
static int compare_duplicate(struct decision *d, int *takes)
{
    const struct file *f = &d->file;
    const char *counts = d->open ? "the newest" : "the one that counts";
    char here[20], there[20];
    int r = f->time == d->best.time ? by_content(d, &d->best, f)
            : f->time > d->best.time ? BETTER : WORSE;
    output_time(f->time, here);
    output_time(d->best.time, there);
    buf_reset(&d->b->text);
    *takes = r == BETTER;
    if (f->time != d->best.time)
        buf_printf(&d->b->text, "%s than %s (last change %s, there %s)",
                   r == BETTER ? "newer" : "older", counts, here, there);
    else if (r == EITHER)
        buf_printf(&d->b->text, "no newer than %s, which says something else (both end at %s)",
                   d->open ? d->best.path.s : counts, here);
    else if (r == BETTER)
        buf_printf(&d->b->text, "which goes on where %s ends", counts);
    else
        buf_printf(&d->b->text, "no newer than %s, which has all of it", counts);
    return r < 0 ? r : 0;
}

static int describe_duplicate(struct decision *d)
{
    struct buf *t = &d->b->text;
    int takes = 0;
    int r = compare_duplicate(d, &takes);
    char *what = xstrdup(buf_cstring(t));
    buf_reset(t);
    buf_printf(t, "a second data file of this user, %s: look at both with cyr_backup -f;", what);
    if (takes && d->record)
        buf_appendcstr(t, " reconstruct -F takes this one;");
    buf_appendcstr(t, " ctl_backups delete -f sets the one aside that is not needed");
    free(what);
    return r;
}

/* Without a record, and with a rival: the best one is as little the backup as that. */
static int tell_open(struct decision *d)
{
    char end[20];
    struct buf *t = &d->b->text;
    output_time(d->best.time, end);
    buf_reset(t);
    buf_printf(t, "one of several data files of this user that end at %s and say different things:"
                  " look at each with cyr_backup -f; set those aside that are not needed with"
                  " ctl_backups delete -f, or reconstruct -F takes this one", end);
    return say(d, LCB_FOUND_DUPLICATE, d->best.path.s, buf_cstring(&d->rival));
}

/* Is F the one that counts, found over another directory? */
static int same_path(const struct decision *d, const struct file *f)
{
    if (!d->best.there || made_from(&d->best, f) != SAME)
        return 0;
    char *a = realpath(d->best.path.s, NULL), *b = realpath(f->path.s, NULL);
    int same = a && b && !strcmp(a, b);
    free(a);
    free(b);
    return same;
}

/* A data file that is not the one that counts. */
static int tell_data(struct decision *d)
{
    struct buf *t = &d->b->text;
    const struct file *f = &d->file;
    if (same_path(d, f))
        return 0;
    const char *gone = d->best.there ? may_go(&d->best, f) : NULL;
    int deleted = is_deleted(d->b, f);
    if (deleted < 0)
        return deleted;
    if (deleted || gone) {
        buf_setcstr(t, gone ? gone : "the former name of a deleted backup: it may be removed");
        return say(d, LCB_FOUND_LEFTOVER, f->path.s, d->best.there ? d->best.path.s : NULL);
    }
    if (!f->named || !f->agrees) {
        buf_reset(t);
        buf_printf(t, "a data file%s%s whose name %s", *d->userid ? " of " : "", d->userid,
                   f->named ? "is that of another user" : "is none of a data file");
        if (!d->best.there && *d->userid)
            buf_appendcstr(t, "; reconstruct -F takes it");
        return say(d, LCB_FOUND_MISNAMED, f->path.s, d->best.there ? d->best.path.s : NULL);
    }
    if (!d->best.there) {
        buf_setcstr(t, "nothing in it tells whose it is");
        return say(d, LCB_FOUND_MISNAMED, f->path.s, NULL);
    }
    int r = describe_duplicate(d);
    return r ? r : say(d, LCB_FOUND_DUPLICATE, f->path.s, d->best.path.s);
}

static int tell_file(struct decision *d)
{
    struct buf *t = &d->b->text;
    const struct file *f = &d->file;
    switch (f->kind) {
    case LCB_IS_DATA:
        return tell_data(d);
    case LCB_IS_EMPTY:
        buf_setcstr(t, "empty, and in no record: it may be removed");
        return f->named ? say(d, LCB_FOUND_LEFTOVER, f->path.s, NULL)
                        : say(d, LCB_FOUND_STRANGER, f->path.s, NULL);
    case LCB_IS_NONE:
        buf_setcstr(t, f->named ? "called like a data file, but is none" : "not a file of ours");
        return say(d, f->named ? LCB_FOUND_UNREADABLE : LCB_FOUND_STRANGER, f->path.s, NULL);
    default:
        if (f->error == -ENOENT) /* a corrected record named it */
            return 0;
        buf_reset(t);
        buf_printf(t, "cannot be read: %s", error_message(f->error));
        return say(d, LCB_FOUND_UNREADABLE, f->path.s, NULL);
    }
}

/* All files of the user but the one that counts and those that records of others name. */
static int tell_others(struct decision *d)
{
    struct buf behind = BUF_INITIALIZER;
    int r;
    while ((r = next_file(d, &behind)) == 1) {
        int mine = (d->best.there && !strcmp(d->file.path.s, d->best.path.s)) ||
                   (d->told && !strcmp(d->file.path.s, d->record));
        int n = mine ? 1 : is_registered(d->b, &d->file);
        if (d->record && !strcmp(d->file.path.s, d->record) && !mine)
            n = 0; /* it did count, until now */
        r = n < 0 ? n : n ? 0 : tell_file(d);
        if (r)
            break;
        buf_setmap(&behind, d->file.path.s, d->file.path.len);
    }
    buf_free(&behind);
    return r;
}

int lcb_rebuild_decide(struct lcb_rebuild *b, const char *userid, const char *record)
{
    struct decision d = {.b = b, .userid = userid, .record = record};
    int r = find_best(&d);
    d.open = !record && d.rival.len && !b->how->replace;
    buf_setcstr(&b->text, "");
    if (!r && record)
        r = decide_record(&d);
    else if (!r && d.open)
        r = tell_open(&d);
    else if (!r && d.best.there)
        r = act(&d, LCB_FOUND_ADDED);
    if (!r)
        r = tell_others(&d);
    file_free(&d.reg);
    file_free(&d.best);
    file_free(&d.file);
    buf_free(&d.rival);
    return r;
}
