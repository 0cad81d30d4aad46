/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the files of ctl_backups share. The program (ctl_backups.c) has main, ctl_backups_verbs.c the
 * table of verbs; ctl_backups_options.c reads the command line, ctl_backups_target.c makes names into
 * a list of backups, and ctl_backups_run.c calls the verb's function for each of them, in --jobs
 * processes (ctl_backups_worker.c), and prints what it says (ctl_backups_result.c). A verb is one
 * file, ctl_backups_VERB.c, and one line in the table. */
#ifndef BACKUP_CTL_BACKUPS_H
#define BACKUP_CTL_BACKUPS_H

#include <jansson.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "backup/lcb.h"
#include "lib/buf.h"
#include "lib/libconfig.h"

struct ctl_verb;

struct ctl_options {
    const char *config; /* -C */
    int help;
    char mode;   /* 'u', 'm', 'f', 'A', 'D', 'P'; 0: none was given */
    int force, stop_on_error, no_verify, json, verbose, wait; /* -F -S -V -j -v -w */
    int json_array; /* --json=array: one array instead of a stream of objects */
    int utc, iso;   /* --utc, --iso: how times are printed */
    int sort;       /* --sort: by user id */
    int legacy_status; /* --legacy-status: exit status as in Cyrus 3.x */
    int stale;      /* hours, 0: not asked */
    int fail_if_any; /* --fail-if-any: exit 75 if list -t found one */
    int jobs;       /* 1 or more */
    int dry_run;
    int now;                /* --now */
    int expired;            /* --expired */
    int deleted;            /* --deleted */
    const char *to;         /* --to=NAME */
    const char *subset;     /* --subset=N/T or X% */
    int expire_previous;    /* --expire-previous[=AGE] */
    int64_t expire_age;     /* seconds; -1: no AGE was given */
    char lock_how;          /* 'p', 's', 'x'; 0: none was given */
    int lock_create;
    const char *lock_command;
    unsigned given; /* CTL_OPT_* of those that only some verbs know */
    char why[128];  /* what is wrong about them, or "" */

    const struct ctl_verb *verb;
    int argc;    /* the words behind the verb */
    char **argv; /* the strings are main's, the array is ours */
};

struct ctl {
    const struct config *config;
    struct lcb_store *store;
    const struct ctl_options *opt;
    int argc;    /* words behind the verb, for verbs that read them themselves */
    char **argv;
    int64_t now; /* by which compact and delete reckon what is old enough, see ctl_clock() */
    struct hash *plan; /* of move: where each user goes; NULL: all to opt->to */
};

/* One backup to work on. */
struct ctl_target {
    const char *name;   /* as messages and result lines call it: user id, or the path in mode -f */
    const char *userid; /* key in backups.db; NULL if not known (-f) */
    const char *shown;  /* the same for printing; NULL also for shared mailboxes named by -m */
    const char *path;   /* of the data file; NULL if it is not registered (verbs with CTL_NEW) */
};

enum ctl_status { CTL_OK, CTL_SKIPPED, CTL_LOCKED, CTL_FAILED };

/* What a verb says of one backup. It runs in a process of its own and prints nothing itself. */
struct ctl_result {
    enum ctl_status status;
    struct buf message; /* of CTL_FAILED, and behind any other status in parentheses if not empty */
    struct buf lines;   /* whole lines for stdout, before the result line (with --json: stderr) */
    json_t *more;       /* keys that go behind those of the result object, or NULL */
    uint64_t bytes;     /* worked through, for the progress line */
    void *rock;         /* of whoever carries the lines away; not for verbs */
};

/* Work on one backup. May take long: give up with XERR_SIGNAL when the store's functions do. */
typedef void ctl_verb_fn(struct ctl *, const struct ctl_target *, struct ctl_result *);
ctl_verb_fn ctl_compact, ctl_verify, ctl_reindex, ctl_move, ctl_delete, ctl_undelete;
/* Verbs that do all of their work, print and return the exit code. */
typedef int ctl_whole_fn(struct ctl *);
ctl_whole_fn ctl_list, ctl_stat, ctl_lock, ctl_reconstruct, ctl_rename;
/* These look at what is asked for, and mostly call ctl_run(). */
ctl_whole_fn ctl_compact_run, ctl_delete_run, ctl_move_run;
/* The time before which nobody wants to know of deleted mailboxes (backup_retention); 0: all. */
int64_t ctl_gone_since(const struct ctl *);
/* What SQLite puts aside (the index of a verification, the tables of a compaction) goes to where we
 * may put things: to backup_staging_path, if it is set. */
void ctl_scratch_place(const struct ctl *);
/* Set CTL->now: the time, or, if the clock cannot be believed, which is said, one that is not too late.
 * EX_OK or EX_TEMPFAIL. */
int ctl_clock(struct ctl *);
/* What compact -A does at its end: remove deleted backups whose time has passed. */
int ctl_remove_expired(struct ctl *);
/* list --deleted */
int ctl_list_deleted(struct ctl *);

/* Options that change what a verb does, and so are refused by those that do not know them. */
enum {
    CTL_OPT_DRY_RUN = 1 << 0,
    CTL_OPT_SUBSET = 1 << 1,
    CTL_OPT_EXPIRE = 1 << 2,
    CTL_OPT_TO = 1 << 3,
    CTL_OPT_NOW = 1 << 4,
    CTL_OPT_FAIL_IF_ANY = 1 << 5,
    CTL_OPT_LOCK = 1 << 6, /* -p -s -x */
    CTL_OPT_EXPIRED = 1 << 7,
    CTL_OPT_DELETED = 1 << 8,
};
enum {
    CTL_ONE = 1,   /* one backup: not -A, -D, -P or several names */
    CTL_NEW = 2,   /* a name that is not in backups.db is passed on, with path NULL */
    CTL_WORDS = 4, /* the words are none of ours, and there is no mode */
    CTL_ALL = 8,   /* without mode and names: -A */
    CTL_GUARD = 16, /* not two runs with -A at a time */
    CTL_NAMES = 32, /* not -A, -D or -P */
    CTL_NOSTORE = 64 /* it opens the store itself */
};
struct ctl_verb {
    const char *name;
    ctl_verb_fn *each;
    ctl_whole_fn *whole; /* if it is there it is called, and may call ctl_run() for EACH */
    unsigned accepts; /* CTL_OPT_* */
    unsigned flags;   /* CTL_ONE ... */
    int words;        /* with CTL_WORDS: how many there must be */
};

/* ---- ctl_backups_verbs.c (tests have a table of their own) ---- */

extern const struct ctl_verb ctl_verbs[];
extern const char ctl_usage[];

/* ---- ctl_backups.c ---- */

/* The end of a process that was forked here. */
void ctl_exit(int code) __attribute__((noreturn));

/* ---- ctl_backups_options.c ---- */

/* 0, or -1 for what is to be answered with the usage text, and O->why if that says something. The table
 * ends with a row without name. */
int ctl_options_parse(int argc, char **argv, const struct ctl_verb *verbs, struct ctl_options *);
void ctl_options_fini(struct ctl_options *);

/* ---- ctl_backups_target.c ---- */

struct ctl_targets {
    struct ctl_target *list;
    size_t count, alloc;
    struct ctl_strings *strings; /* memory of theirs */
    int unknown;      /* names that were not found; said on stderr */
    int last_unknown; /* so was the last */
    int failed;       /* counted by ctl_target_failed() */
    int stopped;      /* by -S */
    int print_error;  /* errno of the first failure to print */
};
/* What mode and words mean: 0, or an error of backups.db, which was said on stderr. */
int ctl_targets_open(struct ctl *, struct ctl_targets *);
/* For list and stat, which take no lock, when the backup could not be looked at: 1 if it has been
 * compacted or moved since, and T says where it is now. */
int ctl_target_moved(struct ctl *, struct ctl_targets *, struct ctl_target *t);
/* If it failed because (WHY) something does not exist, and that is its data file, add which one. */
void ctl_target_gone(const struct ctl_target *, struct buf *why);
/* For list and stat. Say that the index could not be read; 1 if -S ends the run now. */
int ctl_target_failed(struct ctl *, struct ctl_targets *, const struct ctl_target *, int r);
/* The exit code, after the result was printed. */
int ctl_targets_close(struct ctl *, struct ctl_targets *);

/* ---- ctl_backups_subset.c ---- */

/* Is TEXT N/T or X%? 0 or XERR_PARAM. */
int ctl_subset_check(const char *text);
/* Leave those of --subset=TEXT, the longest unverified first: 0, or XERR_PARAM if TEXT is none. */
int ctl_subset_choose(const char *text, struct ctl_targets *);

/* ---- ctl_backups_result.c ---- */

/* Add a line; the newline is added. */
void ctl_result_line(struct ctl_result *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Carry the lines away if they have become many (done by ctl_result_line). */
void ctl_result_flush(struct ctl_result *);
/* CTL_FAILED (CTL_LOCKED for XERR_LOCKED) with the text of error R. */
void ctl_result_error(struct ctl_result *, int r);
void ctl_result_fini(struct ctl_result *);
/* "ok", "failed (why)" ... to TEXT. */
void ctl_result_text(const struct ctl_result *, struct buf *text);
/* What to say of error R where a user id or path stands in front. */
const char *ctl_error_text(int r);

/* Where result objects go. */
struct ctl_json {
    struct output_array *array; /* with --json=array */
};
void ctl_json_begin(struct ctl_json *, const struct ctl_options *);
void ctl_json_item(struct ctl_json *, json_t *); /* takes the reference */
void ctl_json_end(struct ctl_json *);
json_t *ctl_json_cstring(const char *);
/* A time in the form asked for; 0: "[unknown]". */
const char *ctl_time(const struct ctl_options *, int64_t epoch, char out[32]);
/* Adds KEY_epoch and KEY_iso; nothing for 0. */
void ctl_json_time(json_t *object, const char *key, int64_t epoch);
/* 0, or a complaint on stderr and 75 if stdout did not take all. */
int ctl_printed(void);
/* The same in two steps: flush in between (*ERROR, if it was 0, is the errno of a failure), and at the
 * end. */
void ctl_flush(int *error);
int ctl_printed_all(int error);

/* ---- ctl_backups_run.c, ctl_backups_worker.c ---- */

/* The verb with a function for EACH; the exit code. */
int ctl_run(struct ctl *);
/* For verbs: how far the work on the backup at hand has come; may be called at every turn. */
void ctl_progress(struct ctl_result *, uint64_t bytes);

/* Have TERM, INT, QUIT and HUP noted, and blocked; MASK: the signal mask from before. */
void ctl_stop_prepare(sigset_t *mask);
int ctl_stop_asked(void);
/* How long a writer may take to let go, so that work comes to its end: milliseconds, -1 (with -w) for
 * ever. */
int ctl_wait_ms(const struct ctl *);
/* How long to wait before work begins, for a lock that somebody has: 0, or -1 (with -w) for ever. */
int ctl_queue_ms(const struct ctl *);
/* Have it said on stderr when the work on NAME (it must live as long) has to wait for a lock, if it is
 * to be waited for. */
void ctl_tell_waiting(struct ctl *, const char *name);

/* A process that works on one target after the other. */
struct ctl_worker {
    pid_t pid;      /* 0: none */
    int to, from;   /* pipes */
    int busy;       /* with target number AT */
    size_t at;
    struct buf in;    /* what came of an answer so far */
    struct buf lines; /* that are to be printed with the result */
    size_t left_out;  /* bytes of lines that were too many */
    uint64_t bytes;   /* worked through in this target */
};
/* 0 or -errno. The signal mask MASK is that of the work. */
int ctl_worker_start(struct ctl *, const struct ctl_targets *, const sigset_t *mask,
                     const struct ctl_worker *others, int nothers, struct ctl_worker *);
int ctl_worker_give(struct ctl_worker *, size_t target);
/* What has arrived: 1 if RESULT is complete (its lines are in the worker's), 0 if not, -1 if the
 * process is gone: RESULT is a failure if it was at work. STREAM: print lines as they come. */
int ctl_worker_read(struct ctl_worker *, FILE *stream, struct ctl_result *);
void ctl_worker_end(struct ctl_worker *);

/* ---- ctl_backups_progress.c ---- */

/* A line on a terminal at stderr that is overwritten. */
struct ctl_progress {
    int on;
    int64_t begun_ms, shown_ms;
    size_t done, all;
    uint64_t bytes, all_bytes;
    int width; /* of what stands there */
};
void ctl_progress_begin(struct ctl_progress *, const struct ctl_targets *);
/* RUNNING: bytes of the backups at hand. */
void ctl_progress_show(struct ctl_progress *, uint64_t running);
void ctl_progress_clear(struct ctl_progress *); /* before something else is printed */
int64_t ctl_now_ms(void);

#endif
