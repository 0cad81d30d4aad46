/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_options - the command line of ctl_backups.
 *
 * Letters and rules are those of ctl_backups in Cyrus 3.0 - 3.10; what is new has a long name only.
 * Options may stand anywhere. Words are taken in the order they come in (getopt's "-"), not moved
 * to the end, because "-j 2 compact" needs to know that no word came before: a number directly
 * behind a -j that stands before the verb is a number of processes, which could not be a verb.
 *
 * What changes the work of a verb is refused where it means nothing (--dry-run above all); the old
 * letters are ignored there, as ever. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/ctl_backups.h"
#include "lib/xmalloc.h"

#define JOBS_MAX 64
#define STALE_DEFAULT 24

enum {
    LONG_DRY_RUN = 256,
    LONG_JOBS,
    LONG_SUBSET,
    LONG_EXPIRE,
    LONG_TO,
    LONG_NOW,
    LONG_UTC,
    LONG_ISO,
    LONG_SORT,
    LONG_FAIL_IF_ANY,
    LONG_STALE,
    LONG_LEGACY_STATUS,
    LONG_EXPIRED,
    LONG_DELETED,
};

static const char short_options[] = "-:AC:DFPSVcfhjmpst:uvwx:";
static const struct option long_options[] = {
    {"all", no_argument, NULL, 'A'},
    {"create", no_argument, NULL, 'c'},
    {"deleted", no_argument, NULL, LONG_DELETED},
    {"domains", no_argument, NULL, 'D'},
    {"dry-run", no_argument, NULL, LONG_DRY_RUN},
    {"execute", required_argument, NULL, 'x'},
    {"expired", no_argument, NULL, LONG_EXPIRED},
    {"expire-previous", optional_argument, NULL, LONG_EXPIRE},
    {"fail-if-any", no_argument, NULL, LONG_FAIL_IF_ANY},
    {"filenames", no_argument, NULL, 'f'},
    {"force", no_argument, NULL, 'F'},
    {"help", no_argument, NULL, 'h'},
    {"iso", no_argument, NULL, LONG_ISO},
    {"jobs", required_argument, NULL, LONG_JOBS},
    {"json", optional_argument, NULL, 'j'},
    {"legacy-status", no_argument, NULL, LONG_LEGACY_STATUS},
    {"mailboxes", no_argument, NULL, 'm'},
    {"no-verify", no_argument, NULL, 'V'},
    {"now", no_argument, NULL, LONG_NOW},
    {"pause", no_argument, NULL, 'p'},
    {"prefixes", no_argument, NULL, 'P'},
    {"sort", no_argument, NULL, LONG_SORT},
    {"sqlite3", no_argument, NULL, 's'},
    {"stale", optional_argument, NULL, LONG_STALE},
    {"stop-on-error", no_argument, NULL, 'S'},
    {"subset", required_argument, NULL, LONG_SUBSET},
    {"to", required_argument, NULL, LONG_TO},
    {"userids", no_argument, NULL, 'u'},
    {"utc", no_argument, NULL, LONG_UTC},
    {"verbose", no_argument, NULL, 'v'},
    {"wait-for-locks", no_argument, NULL, 'w'},
    {NULL, 0, NULL, 0},
};

/* Say what is wrong; the first that is said counts. */
static int wrong(struct ctl_options *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int wrong(struct ctl_options *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!*o->why)
        vsnprintf(o->why, sizeof(o->why), fmt, ap);
    va_end(ap);
    return -1;
}

static int parse_number(const char *s, long min, long max, int *out)
{
    char *end;
    errno = 0;
    long n = strtol(s, &end, 10);
    if (errno || end == s || *end || n < min || n > max || !n)
        return -1;
    *out = (int)n;
    return 0;
}

static int all_digits(const char *s)
{
    return *s && strspn(s, "0123456789") == strlen(s);
}

/* -j, or -j N. */
static int parse_j(int argc, char **argv, struct ctl_options *o)
{
    if (optarg) { /* --json=... */
        if (strcmp(optarg, "array"))
            return wrong(o, "--json=%.40s: only \"array\" is known", optarg);
        o->json = o->json_array = 1;
        return 0;
    }
    if (!o->argc && optind < argc && all_digits(argv[optind]) && !strcmp(argv[optind - 1], "-j"))
        return parse_number(argv[optind++], 1, JOBS_MAX, &o->jobs);
    o->json = 1;
    return 0;
}

static int parse_expire(struct ctl_options *o)
{
    o->expire_previous = 1;
    o->given |= CTL_OPT_EXPIRE;
    if (!optarg)
        return 0;
    return config_parseduration(optarg, 'd', &o->expire_age) || o->expire_age < 0 ? -1 : 0;
}

static int set_lock(struct ctl_options *o, char how)
{
    if (o->lock_how)
        return wrong(o, "only one of -p, -s and -x can be given");
    o->lock_how = how;
    o->given |= CTL_OPT_LOCK;
    if (how == 'x')
        o->lock_command = optarg;
    return 0;
}

static int set_mode(struct ctl_options *o, char mode)
{
    if (o->mode)
        return wrong(o, "only one of -A, -D, -P, -f, -m and -u can be given");
    o->mode = mode;
    return 0;
}

/* Options that are a switch and nothing else. */
static int *find_switch(struct ctl_options *o, int opt)
{
    switch (opt) {
    case 'F':
        return &o->force;
    case 'S':
        return &o->stop_on_error;
    case 'V':
        return &o->no_verify;
    case 'c':
        return &o->lock_create;
    case 'h':
        return &o->help;
    case 'v':
        return &o->verbose;
    case 'w':
        return &o->wait;
    case LONG_DRY_RUN:
        o->given |= CTL_OPT_DRY_RUN;
        return &o->dry_run;
    case LONG_NOW:
        o->given |= CTL_OPT_NOW;
        return &o->now;
    case LONG_EXPIRED:
        o->given |= CTL_OPT_EXPIRED;
        return &o->expired;
    case LONG_DELETED:
        o->given |= CTL_OPT_DELETED;
        return &o->deleted;
    case LONG_FAIL_IF_ANY:
        o->given |= CTL_OPT_FAIL_IF_ANY;
        return &o->fail_if_any;
    case LONG_UTC:
        return &o->utc;
    case LONG_ISO:
        return &o->iso;
    case LONG_SORT:
        return &o->sort;
    case LONG_LEGACY_STATUS:
        return &o->legacy_status;
    default:
        return NULL;
    }
}

static int parse_option(int opt, int argc, char **argv, struct ctl_options *o)
{
    int *on = find_switch(o, opt);
    if (on) {
        ++*on;
        return 0;
    }
    if (opt < 256 && strchr("ADPfmu", opt))
        return set_mode(o, (char)opt);
    if (opt < 256 && strchr("psx", opt))
        return set_lock(o, (char)opt);
    switch (opt) {
    case 1:
        o->argv[o->argc++] = optarg;
        return 0;
    case 'C':
        o->config = optarg;
        return 0;
    case 'j':
        return parse_j(argc, argv, o);
    case LONG_STALE:
    case 't':
        o->stale = STALE_DEFAULT;
        return optarg ? parse_number(optarg, INT_MIN, INT_MAX, &o->stale) : 0;
    case LONG_JOBS:
        return parse_number(optarg, 1, JOBS_MAX, &o->jobs);
    case LONG_SUBSET:
        o->given |= CTL_OPT_SUBSET;
        o->subset = optarg;
        return ctl_subset_check(optarg) ? -1 : 0;
    case LONG_TO:
        o->given |= CTL_OPT_TO;
        o->to = optarg;
        return 0;
    case LONG_EXPIRE:
        return parse_expire(o);
    case ':': /* -t as the last word may do without; nothing else may */
        if (optopt != 't')
            return -1;
        o->stale = STALE_DEFAULT;
        return 0;
    default:
        return -1;
    }
}

/* getopt's OPT, which was found at WORD. */
static int wrong_option(struct ctl_options *o, int opt, const char *word)
{
    if (opt == ':')
        return wrong(o, "%.60s: a value is missing", word);
    if (opt != '?')
        return wrong(o, "%.60s: this value is not possible", word);
    if (word[0] != '-' || word[1] != '-')
        return wrong(o, "-%c: there is no such option", optopt);
    return wrong(o, "%.60s: %s", word, optopt ? "it takes no value" : "there is no such option");
}

static int find_verb(const struct ctl_verb *verbs, struct ctl_options *o)
{
    if (!o->argc)
        return wrong(o, "the command is missing");
    for (const struct ctl_verb *v = verbs; v->name; v++)
        if (!strcmp(v->name, o->argv[0]))
            o->verb = v;
    if (!o->verb)
        return wrong(o, "%.60s: there is no such command", o->argv[0]);
    memmove(o->argv, o->argv + 1, (size_t)o->argc * sizeof(*o->argv));
    o->argc--;
    return 0;
}

static int check(struct ctl_options *o)
{
    unsigned flags = o->verb->flags;
    const char *name = o->verb->name;
    if (o->json && o->verbose)
        return wrong(o, "-j and -v cannot be given together");
    if (o->given & ~o->verb->accepts)
        return wrong(o, "%s does not know one of these options", name);
    if ((flags & CTL_WORDS) && o->mode)
        return wrong(o, "%s does not know -%c", name, o->mode);
    if (flags & CTL_WORDS)
        return o->argc == o->verb->words ? 0 : wrong(o, "%s takes %d words", name, o->verb->words);
    if (o->mode == 'A' && o->argc)
        return wrong(o, "-A is all of them: no names can be given with it");
    if ((flags & (CTL_ONE | CTL_NAMES)) && o->mode && strchr("ADP", o->mode))
        return wrong(o, "%s works on those that are named: not with -%c", name, o->mode);
    if ((flags & CTL_ONE) && o->argc > 1)
        return wrong(o, "%s works on one backup", name);
    if ((flags & CTL_ALL) && !o->mode && !o->argc)
        o->mode = 'A';
    return 0;
}

int ctl_options_parse(int argc, char **argv, const struct ctl_verb *verbs, struct ctl_options *o)
{
    int opt;
    memset(o, 0, sizeof(*o));
    o->jobs = 1;
    o->expire_age = -1;
    o->argv = xcalloc((size_t)argc + 1, sizeof(*o->argv));
    optind = 0;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, short_options, long_options, NULL)) != -1)
        if (parse_option(opt, argc, argv, o))
            return wrong_option(o, opt, argv[optind - 1]);
    while (optind < argc) /* behind "--" */
        o->argv[o->argc++] = argv[optind++];
    return o->help || find_verb(verbs, o) || check(o) ? -1 : 0;
}

void ctl_options_fini(struct ctl_options *o)
{
    free(o->argv);
    o->argv = NULL;
    o->argc = 0;
}
