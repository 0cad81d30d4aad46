/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup - look into a backup.
 *
 * Exit: 0 done; 64 wrong usage, or not the Cyrus user; 75 something could not be read or written;
 * 78 configuration. Results go to stdout and nothing else does, so that what is dumped is what was
 * stored; all else goes to stderr, led by the backup's name. No lock is ever waited for: what is
 * seen is one state of the backup, the last that was committed when the program started. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "backup/cyr_backup.h"
#include "backup/tool.h"
#include "lib/sqldb.h"
#include "lib/stdfds.h"
#include "lib/times.h"
#include "lib/xerr.h"

static const struct command {
    const char *verb, *item; /* ITEM NULL: the verb says all */
    int min, max;            /* number of words behind */
    /* RANGE: --since and --until, too; TIMES: a time, perhaps another, and then the items */
    enum { NO_TIME, AS_OF, RANGE, TIMES } time;
    cyr_backup_fn *fn;
} commands[] = {
    {"list", "chunks", 0, 0, NO_TIME, cyr_backup_list_chunks},
    {"list", "mailboxes", 0, 0, AS_OF, cyr_backup_list_mailboxes},
    {"list", "messages", 0, 0, AS_OF, cyr_backup_list_messages},
    {"list", "all", 0, 0, AS_OF, cyr_backup_list_all},
    {"show", "chunks", 1, INT_MAX, NO_TIME, cyr_backup_show_chunks},
    {"show", "mailboxes", 1, INT_MAX, AS_OF, cyr_backup_show_mailboxes},
    {"show", "messages", 1, INT_MAX, AS_OF, cyr_backup_show_messages},
    {"dump", "chunk", 1, 1, NO_TIME, cyr_backup_dump_chunk},
    {"dump", "mailbox", 1, 1, AS_OF, cyr_backup_dump_mailbox},
    {"dump", "message", 1, 1, AS_OF, cyr_backup_dump_message},
    {"json", "chunks", 0, 0, NO_TIME, cyr_backup_json_chunks},
    {"json", "mailboxes", 0, 0, AS_OF, cyr_backup_json_mailboxes},
    {"json", "messages", 0, 0, AS_OF, cyr_backup_json_messages},
    {"json", "headers", 1, INT_MAX, AS_OF, cyr_backup_json_headers},
    {"json", "all", 0, 0, AS_OF, cyr_backup_json_all},
    {"json", "log", 0, 1, RANGE, cyr_backup_json_log},
    {"log", NULL, 0, 1, RANGE, cyr_backup_log},
    {"json", "diff", 1, INT_MAX, TIMES, cyr_backup_json_diff},
    {"diff", NULL, 1, INT_MAX, TIMES, cyr_backup_diff},
    {NULL, NULL, 0, 0, NO_TIME, NULL},
};

static const char usage_text[] =
    "usage: cyr_backup [options] [mode] backup command\n"
    "\n"
    "Commands:\n"
    "    list chunks|mailboxes|messages|all          what is there, one line each\n"
    "    show chunks id...                           chunks by number\n"
    "    show mailboxes name|uniqueid...             mailboxes with their messages\n"
    "    show messages guid...                       where messages are, and their headers\n"
    "    dump chunk id                               the replication commands of a chunk\n"
    "    dump mailbox name|uniqueid                  live messages of a mailbox as mboxrd\n"
    "    dump message guid                           a message, to the byte\n"
    "    json chunks|mailboxes|messages              the lists as JSON\n"
    "    json headers guid...                        header fields of messages as JSON\n"
    "    json all                                    the complete state as JSON\n"
    "    log [name|uniqueid|guid]                    what happened, one line each\n"
    "    json log [name|uniqueid|guid]               the same as JSON\n"
    "    diff TIME [TIME] [name|uniqueid]...         what differs between then and then, or now\n"
    "    json diff TIME [TIME] [name|uniqueid]...    the same as JSON\n"
    "\n"
    "Modes, at most one:\n"
    "    -u, --userid                                backup is a user id (default)\n"
    "    -m, --mailbox                               backup is that of a mailbox's owner\n"
    "    -f, --filename                              backup is the path of a data file\n"
    "\n"
    "Time:\n"
    "    --as-of TIME                                as it was then (for all but chunks)\n"
    "    --since TIME, --until TIME                  what happened then (for log)\n"
    "    TIME: 2026-11-20, \"2026-11-20 14:00\", 2026-11-20T14:00:00Z, -3d, -1d12h, @SECONDS, now\n"
    "\n"
    "Options:\n"
    "    -C file                                     instead of /etc/imapd.conf\n"
    "    -v, --verbose                               say more on stderr\n"
    "    -h, --help                                  print this text\n";

static int usage(void)
{
    fputs(usage_text, stderr);
    return EX_USAGE;
}

struct request {
    const char *config;
    struct cyr_backup_point as_of, since, until;
    char mode; /* 'u', 'm', 'f' */
    int verbose;
    const char *name;
    const struct command *command;
    int count;
    char **items;
};

static const struct command *find_command(const char *verb, const char *item)
{
    for (const struct command *c = commands; c->verb; c++)
        if (!strcmp(c->verb, verb) && (!c->item || (item && !strcmp(c->item, item))))
            return c;
    return NULL;
}

/* XERR_* with the reason on stderr if TEXT is no time. */
static int parse_point(const char *option, const char *text, struct cyr_backup_point *p)
{
    struct buf err = BUF_INITIALIZER;
    p->given = 1;
    int r = times_parse(text, time(NULL), &p->time, &err);
    if (r)
        fprintf(stderr, "cyr_backup: %s: %s\n", option, buf_cstring(&err));
    buf_free(&err);
    return r;
}

/* The times that begin the items of diff, to since and until. */
static int take_times(struct request *q)
{
    struct buf err = BUF_INITIALIZER;
    int r = parse_point("diff", q->items[0], &q->since), taken = 1;
    q->until = (struct cyr_backup_point){1, time(NULL)};
    if (!r && q->count > 1) {
        int second = times_parse(q->items[1], time(NULL), &q->until.time, &err);
        if (second == XERR_PARAM) {
            fprintf(stderr, "cyr_backup: diff: %s\n", buf_cstring(&err));
            r = second;
        } else if (second) {
            q->until.time = time(NULL); /* it is a mailbox */
        } else {
            taken = 2;
        }
    }
    if (!r && q->until.time < q->since.time) {
        fputs("cyr_backup: diff: the second time is before the first\n", stderr);
        r = XERR_PARAM;
    }
    q->items += taken;
    q->count -= taken;
    buf_free(&err);
    return r;
}

static int parse_words(int count, char **words, struct request *q)
{
    if (count < 2 || !*words[0])
        return -1;
    q->name = words[0];
    q->command = find_command(words[1], count > 2 ? words[2] : NULL);
    if (!q->command)
        return -1;
    int named = q->command->item ? 3 : 2;
    q->count = count - named;
    q->items = words + named;
    if (q->count < q->command->min || q->count > q->command->max ||
        (q->as_of.given && q->command->time != AS_OF && q->command->time != RANGE) ||
        ((q->since.given || q->until.given) && q->command->time != RANGE))
        return -1;
    if (q->since.given && q->until.given && q->until.time < q->since.time) {
        fputs("cyr_backup: --until is before --since\n", stderr);
        return XERR_PARAM;
    }
    return q->command->time == TIMES ? take_times(q) : 0;
}

/* A word that looks like an option but is a time, -3d, gets a blank in front, so that it is none.
 * 0, or -ENOMEM. */
static int protect_times(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (!times_isrelative(argv[i]) || !strcmp(argv[i - 1], "-C"))
            continue;
        size_t n = strlen(argv[i]) + 2;
        char *word = malloc(n);
        if (!word)
            return -ENOMEM;
        snprintf(word, n, " %s", argv[i]);
        argv[i] = word; /* lives as long as the program */
    }
    return 0;
}

/* Options without a letter. */
enum { OPT_AS_OF = 256, OPT_SINCE, OPT_UNTIL };

/* 0; -1 if the usage should be printed; XERR_* if the reason has been. */
static int parse_arguments(int argc, char **argv, struct request *q)
{
    static const struct option long_options[] = {
        {"filename", no_argument, NULL, 'f'}, {"mailbox", no_argument, NULL, 'm'},
        {"userid", no_argument, NULL, 'u'},   {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},     {"as-of", required_argument, NULL, OPT_AS_OF},
        {"since", required_argument, NULL, OPT_SINCE},
        {"until", required_argument, NULL, OPT_UNTIL},
        {NULL, 0, NULL, 0},
    };
    int opt, r = 0;
    while ((opt = getopt_long(argc, argv, "C:fhmuv", long_options, NULL)) != -1) {
        switch (opt) {
        case 'C':
            q->config = optarg;
            break;
        case 'f':
        case 'm':
        case 'u':
            if (q->mode)
                return -1;
            q->mode = (char)opt;
            break;
        case 'v':
            q->verbose++;
            break;
        case OPT_AS_OF:
            r = parse_point("--as-of", optarg, &q->as_of);
            break;
        case OPT_SINCE:
            r = parse_point("--since", optarg, &q->since);
            break;
        case OPT_UNTIL:
            r = parse_point("--until", optarg, &q->until);
            break;
        default:
            return -1;
        }
        if (r)
            return r;
    }
    return parse_words(argc - optind, argv + optind, q);
}

/* ---- opening ---- */

static int open_user(struct cyr_backup *cb, const char *userid)
{
    struct buf canonical = BUF_INITIALIZER;
    int r = lcb_open(cb->store, userid, 0, 0, &cb->backup);
    if (r == XERR_NOTFOUND &&
        !mboxname_userid_canonical(lcb_store_names(cb->store), userid, strlen(userid),
                                   &canonical) &&
        strcmp(buf_cstring(&canonical), userid))
        r = lcb_open(cb->store, buf_cstring(&canonical), 0, 0, &cb->backup);
    buf_free(&canonical);
    return r;
}

static int open_owner(struct cyr_backup *cb, const char *mailbox)
{
    struct buf name = BUF_INITIALIZER, userid = BUF_INITIALIZER;
    const struct mboxname_rules *names = lcb_store_names(cb->store);
    mboxname_from_external(names, mailbox, &name);
    mboxname_to_userid(names, buf_cstring(&name), &userid);
    if (cb->verbose)
        cyr_backup_say(cb, "mailbox %s of %s", buf_cstring(&name), buf_cstring(&userid));
    int r = lcb_open(cb->store, buf_cstring(&userid), 0, 0, &cb->backup);
    buf_free(&name);
    buf_free(&userid);
    return r;
}

static void say_unknown(struct cyr_backup *cb)
{
    struct buf path = BUF_INITIALIZER;
    if (lcb_strangers(cb->store, &path) > 0)
        cyr_backup_say(cb, "backups.db is missing or empty, but there is %s: ctl_backups reconstruct"
                           " makes it anew", buf_cstring(&path));
    else
        cyr_backup_say(cb, "not found in backups.db");
    buf_free(&path);
}

static int open_backup(struct cyr_backup *cb, char mode)
{
    int r = mode == 'f'   ? lcb_open_file(cb->store, cb->name, 0, 0, &cb->backup)
            : mode == 'm' ? open_owner(cb, cb->name)
                          : open_user(cb, cb->name);
    if (!r)
        r = lcb_snapshot(cb->backup);
    if (!r) {
        if (cb->verbose)
            cyr_backup_say(cb, "data file %s", lcb_path(cb->backup));
        return 0;
    }
    if (r == XERR_NOTFOUND && mode != 'f')
        say_unknown(cb);
    else if (r == -ENOENT && mode != 'f')
        cyr_backup_say(cb, "the data file is missing");
    else if (r == XERR_LOCKED)
        cyr_backup_say(cb, "has no usable index, and is locked by whoever is building one:"
                           " try again later");
    else
        cyr_backup_say(cb, "cannot be opened: %s", error_message(r));
    return EX_TEMPFAIL;
}

/* ---- working ---- */

/* The state of --as-of, to cb->at. Of a range, log itself says what is not known. */
static int find_moment(struct cyr_backup *cb, const struct request *q)
{
    int r = cyr_backup_position(cb, q->as_of.time, &cb->at);
    if (r)
        return r;
    cyr_backup_warn_future(cb, q->as_of.time, cb->at);
    if (q->command->time != AS_OF || cb->at == LCB_NOW)
        return 0;
    return cyr_backup_warn_lost(cb, 0, q->as_of.time, "shown");
}

static int work(struct cyr_backup *cb, const struct request *q)
{
    int r = q->as_of.given ? find_moment(cb, q) : 0;
    if (r == XERR_NOTFOUND) /* it has been said */
        return EX_TEMPFAIL;
    if (!r)
        r = q->command->fn(cb, q->count, q->items);
    errno = 0;
    int failed = fflush(stdout) == EOF, e = errno;
    if (failed || ferror(stdout)) {
        e = e ? -e : r < 0 && r > XERR_FIRST ? r : -EIO;
        cyr_backup_say(cb, "cannot write the result: %s", error_message(e));
        return EX_TEMPFAIL;
    }
    if (r)
        cyr_backup_say(cb, "%s", error_message(r));
    return r || cb->failed ? EX_TEMPFAIL : EX_OK;
}

static int with_store(const struct config *config, struct lcb_store **store, void *rock)
{
    const struct request *q = rock;
    struct cyr_backup cb = {.store = *store, .name = q->name, .verbose = q->verbose, .at = LCB_NOW,
                            .since = q->since, .until = q->until};
    (void)config;
    int code = open_backup(&cb, q->mode);
    if (!code)
        code = work(&cb, q);
    lcb_close(&cb.backup);
    return code;
}

int main(int argc, char **argv)
{
    struct request q = {.config = NULL};
    if (stdfds_occupy() < 0)
        return EX_TEMPFAIL;
    if (protect_times(argc, argv))
        return EX_TEMPFAIL;
    int r = parse_arguments(argc, argv, &q);
    if (r)
        return r == -1 ? usage() : EX_USAGE;
    sqldb_setup();
    const struct tool tool = {.name = "cyr_backup", .config = q.config, .to_stderr = 1,
                              .work = with_store, .rock = &q};
    return tool_run(&tool);
}
