/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* service_options - the command line of a service.
 *
 * The words come from cmd="..." in cyrus.conf, split at blanks only. The skeleton takes -C, -U, -T,
 * -D and -X wherever they stand; the daemon gets the others. Options and their arguments must be
 * separate words: that is what every Cyrus service asks for, and what existing cyrus.conf files
 * and scripts do. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>

#include "lib/xmalloc.h"
#include "master/service_private.h"

static const char skeleton[] = "C:U:T:DX";
enum { DEFAULT_USES = 250, DEFAULT_IDLE = 60, MOST_IDLE = 1 << 24 };

/* A number from 0 to MAX; a negative one counts as 0. */
static int number(const char *s, int max, int *out)
{
    char *end;
    errno = 0;
    long n = strtol(s, &end, 10);
    if (end == s || *end || errno || n > max)
        return -1;
    *out = n < 0 ? 0 : (int)n;
    return 0;
}

/* Between SECONDS and twice that, so that workers that started together do not end together. */
static int randomised(int seconds)
{
    unsigned r = 0;
    if (!seconds || getrandom(&r, sizeof(r), GRND_NONBLOCK) != (ssize_t)sizeof(r))
        return seconds;
    return seconds + (int)(r % (unsigned)seconds);
}

static int take(struct service_options *o, char opt, const char *arg)
{
    switch (opt) {
    case 'C':
        o->configfile = arg;
        return 0;
    case 'U':
        return number(arg, INT_MAX, &o->max_uses);
    case 'T':
        return number(arg, MOST_IDLE, &o->idle);
    case 'D':
        o->debugger = 1;
        return 0;
    default:
        o->interactive = 1;
        return 0;
    }
}

static int usage(struct buf *err, const char *what, const char *word)
{
    buf_reset(err);
    buf_printf(err, "%s: %s", what, word);
    return EX_USAGE;
}

/* The option word ARGV[I] and perhaps its argument; moves *I to the last word used. */
static int option(struct service_options *o, int argc, char **argv, int *i, const char *own,
                  struct buf *err)
{
    const char *word = argv[*i];
    if (word[2])
        return usage(err, "options and arguments MUST be separated by whitespace", word);
    const char *spec = word[1] == ':' ? NULL : strchr(skeleton, word[1]);
    int mine = spec != NULL;
    if (!spec && word[1] != ':')
        spec = strchr(own, word[1]);
    if (!spec)
        return usage(err, "unknown option", word);
    const char *arg = NULL;
    if (spec[1] == ':') {
        if (*i + 1 >= argc)
            return usage(err, "option needs an argument", word);
        arg = argv[++*i];
    }
    if (mine)
        return take(o, word[1], arg) ? usage(err, "not a usable number", arg) : 0;
    o->argv[o->argc++] = argv[*i - (arg ? 1 : 0)];
    if (arg)
        o->argv[o->argc++] = argv[*i];
    return 0;
}

int service_options_parse(struct service_options *o, int argc, char **argv, const char *own,
                          struct buf *err)
{
    memset(o, 0, sizeof(*o));
    o->max_uses = DEFAULT_USES;
    o->idle = DEFAULT_IDLE;
    o->argv = xcalloc((size_t)argc + 1, sizeof(*o->argv));
    o->argv[o->argc++] = argv[0];
    for (int i = 1; i < argc; i++) {
        int is_option = argv[i][0] == '-' && argv[i][1];
        int r = is_option ? option(o, argc, argv, &i, own, err)
                          : usage(err, "unexpected argument", argv[i]);
        if (r)
            return r;
    }
    o->idle = randomised(o->idle);
    return 0;
}

void service_options_fini(struct service_options *o)
{
    free(o->argv);
    o->argv = NULL;
}
