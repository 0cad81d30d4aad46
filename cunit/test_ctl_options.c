/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of backup/ctl_backups_options: a command line, and what is made of it as one text. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/ctl_backups.h"
#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/strarray.h"

static const struct ctl_verb verbs[] = {
    {"each", NULL, NULL, CTL_OPT_DRY_RUN | CTL_OPT_SUBSET | CTL_OPT_EXPIRE, 0, 0},
    {"list", NULL, NULL, CTL_OPT_FAIL_IF_ANY, CTL_ALL, 0},
    {"lock", NULL, NULL, CTL_OPT_LOCK, CTL_ONE | CTL_NEW, 0},
    {"move", NULL, NULL, CTL_OPT_TO, 0, 0},
    {"delete", NULL, NULL, CTL_OPT_NOW, CTL_ONE, 0},
    {"words", NULL, NULL, 0, CTL_WORDS, 3},
    {NULL, NULL, NULL, 0, 0, 0},
};

static void say(struct buf *out, const char *name, int on)
{
    if (on == 1)
        buf_printf(out, " %s", name);
    else if (on)
        buf_printf(out, " %s=%d", name, on);
}

static void say_string(struct buf *out, const char *name, const char *value)
{
    if (value)
        buf_printf(out, " %s=%s", name, value);
}

/* Everything that is not as it is without options. */
static void describe(const struct ctl_options *o, struct buf *out)
{
    buf_setcstr(out, o->verb->name);
    if (o->mode)
        buf_printf(out, " -%c", o->mode);
    say(out, "force", o->force);
    say(out, "stop", o->stop_on_error);
    say(out, "noverify", o->no_verify);
    say(out, "json", o->json);
    say(out, "array", o->json_array);
    say(out, "verbose", o->verbose);
    say(out, "wait", o->wait);
    say(out, "utc", o->utc);
    say(out, "iso", o->iso);
    say(out, "sort", o->sort);
    say(out, "legacy", o->legacy_status);
    say(out, "stale", o->stale);
    say(out, "any", o->fail_if_any);
    say(out, "jobs", o->jobs == 1 ? 0 : o->jobs);
    say(out, "dry", o->dry_run);
    say(out, "now", o->now);
    say(out, "create", o->lock_create);
    say_string(out, "config", o->config);
    say_string(out, "to", o->to);
    say_string(out, "subset", o->subset);
    say_string(out, "command", o->lock_command);
    if (o->expire_previous)
        buf_printf(out, " expire=%lld", (long long)o->expire_age);
    if (o->lock_how)
        buf_printf(out, " how=%c", o->lock_how);
    buf_putc(out, ':');
    for (int i = 0; i < o->argc; i++)
        buf_printf(out, " %s", o->argv[i]);
}

/* Words of LINE are separated by blanks; "_" in a word stands for one. */
static const char *parse(const char *line)
{
    static struct buf out = BUF_INITIALIZER;
    struct strarray words = STRARRAY_INITIALIZER;
    struct ctl_options o;
    strarray_append(&words, "ctl_backups");
    strarray_split(&words, line, " ");
    for (int i = 0; i < words.count; i++)
        for (char *p = words.data[i]; *p; p++)
            *p = *p == '_' ? ' ' : *p;
    char **argv = calloc((size_t)words.count + 1, sizeof(*argv));
    memcpy(argv, words.data, (size_t)words.count * sizeof(*argv));
    buf_reset(&out);
    if (ctl_options_parse(words.count, argv, verbs, &o))
        buf_setcstr(&out, "usage");
    else
        describe(&o, &out);
    ctl_options_fini(&o);
    strarray_fini(&words);
    free(argv);
    const char *text = buf_cstring(&out);
    return text;
}

static void test_letters(void)
{
    UNIT_STR(parse("list"), "list -A:");
    UNIT_STR(parse("-A list"), "list -A:");
    UNIT_STR(parse("list a b a"), "list: a b a");
    UNIT_STR(parse("each"), "each:");
    UNIT_STR(parse("each -u"), "each -u:");
    UNIT_STR(parse("list -u"), "list -u:");
    UNIT_STR(parse("-FSVw each -vv a"), "each force stop noverify verbose=2 wait: a");
    UNIT_STR(parse("a each"), "usage");
    UNIT_STR(parse("each a -D b"), "each -D: a b");
    UNIT_STR(parse("each -- -D b"), "each: -D b");
    UNIT_STR(parse("-- each a"), "each: a");
    UNIT_STR(parse("each -C file a"), "each config=file: a");
    UNIT_STR(parse("each -Cfile a"), "each config=file: a");
    UNIT_STR(parse("each --domains --force --verbose --wait-for-locks --no-verify a"),
             "each -D force noverify verbose wait: a");
    UNIT_STR(parse("each --stop-on-error --prefixes a"), "each -P stop: a");
    UNIT_STR(parse("each --all"), "each -A:");
    UNIT_STR(parse("each --filenames /x"), "each -f: /x");
    UNIT_STR(parse("each --mailboxes x"), "each -m: x");
    UNIT_STR(parse("each --userids x"), "each -u: x");
}

static void test_refused(void)
{
    static const char *const lines[] = {
        "",          "nosuch",          "-h",           "--help",         "list -h",
        "list -q",   "list --nosuch",   "list -C",      "-A -u list",     "list -uu a",
        "-A list a", "-fm list a",      "-p list",      "list -s",        "each -x true a",
        "lock -ps a", "lock -x true -p a", "lock -x",   "lock -A",        "lock -D a",
        "lock -P a", "lock a b",        "delete -A",    "delete a b",     "-j -v list",
        "-vj list",  "list --json -v",  "list --json=x", "list --verbose --json=array",
        "words -u a", "words -A",       NULL};
    for (int i = 0; lines[i]; i++)
        UNIT_STR(parse(lines[i]), "usage");
}

static void test_ignored(void)
{
    UNIT_STR(parse("list -F"), "list -A force:");
    UNIT_STR(parse("each -c a"), "each create: a");
    UNIT_STR(parse("each -t 3 a"), "each stale=3: a");
    UNIT_STR(parse("lock -j a"), "lock json: a");
    /* but not what would change what is done */
    UNIT_STR(parse("each --dry-run a"), "each dry: a");
    UNIT_STR(parse("list --dry-run a"), "usage");
    UNIT_STR(parse("list --subset=1/2"), "usage");
    UNIT_STR(parse("each --to=x a"), "usage");
    UNIT_STR(parse("move --to=x a"), "move to=x: a");
    UNIT_STR(parse("delete --now a"), "delete now: a");
    UNIT_STR(parse("each --now a"), "usage");
    UNIT_STR(parse("each --fail-if-any a"), "usage");
    UNIT_STR(parse("move --expire-previous a"), "usage");
}

static void test_stale(void)
{
    UNIT_STR(parse("list -t"), "list -A stale=24:");
    UNIT_STR(parse("list -t alice"), "usage");
    UNIT_STR(parse("-t 24 list"), "list -A stale=24:");
    UNIT_STR(parse("list -t24 -A"), "list -A stale=24:");
    UNIT_STR(parse("list -t 0"), "usage");
    UNIT_STR(parse("list -t 3x"), "usage");
    UNIT_STR(parse("list --stale"), "list -A stale=24:");
    UNIT_STR(parse("list --stale alice"), "list stale=24: alice");
    UNIT_STR(parse("list --stale=5 --fail-if-any"), "list -A stale=5 any:");
    UNIT_STR(parse("list --stale="), "usage");
    UNIT_STR(parse("list -t 99999999999"), "usage");
}

static void test_jobs(void)
{
    UNIT_STR(parse("-j list"), "list -A json:");
    UNIT_STR(parse("-j 2 list"), "list -A jobs=2:");
    UNIT_STR(parse("-A -j 3 each"), "each -A jobs=3:");
    UNIT_STR(parse("-j each 2"), "each json: 2");
    UNIT_STR(parse("each -j 2"), "each json: 2");
    UNIT_STR(parse("each 2 -j 3"), "each json: 2 3");
    UNIT_STR(parse("-j -j 2 each"), "each json jobs=2:");
    UNIT_STR(parse("-j 2 -j each"), "each json jobs=2:");
    UNIT_STR(parse("-Aj 2 each"), "usage"); /* a verb called 2 */
    UNIT_STR(parse("--json 2 each"), "usage");
    UNIT_STR(parse("-j 2x each"), "usage");
    UNIT_STR(parse("-j 0 each"), "usage");
    UNIT_STR(parse("-j 65 each"), "usage");
    UNIT_STR(parse("-j 64 each"), "each jobs=64:");
    UNIT_STR(parse("-j 2 -v each"), "each verbose jobs=2:");
    UNIT_STR(parse("each --jobs=4 a"), "each jobs=4: a");
    UNIT_STR(parse("each --jobs 4 a"), "each jobs=4: a");
    UNIT_STR(parse("each --jobs=-1 a"), "usage");
    UNIT_STR(parse("each --jobs= a"), "usage");
}

static void test_long(void)
{
    UNIT_STR(parse("list --json=array --utc --iso --sort --legacy-status"),
             "list -A json array utc iso sort legacy:");
    UNIT_STR(parse("each --subset=1/7 a"), "each subset=1/7: a");
    UNIT_STR(parse("each --subset=12.5% a"), "each subset=12.5%: a");
    UNIT_STR(parse("each --subset=8/7 a"), "usage");
    UNIT_STR(parse("each --subset=0% a"), "usage");
    UNIT_STR(parse("each --expire-previous a"), "each expire=-1: a");
    UNIT_STR(parse("each --expire-previous=30 a"), "each expire=2592000: a");
    UNIT_STR(parse("each --expire-previous=12h a"), "each expire=43200: a");
    UNIT_STR(parse("each --expire-previous=-1d a"), "usage");
    UNIT_STR(parse("each --expire-previous=soon a"), "usage");
}

static void test_lock(void)
{
    UNIT_STR(parse("lock"), "lock:");
    UNIT_STR(parse("lock -p a"), "lock how=p: a");
    UNIT_STR(parse("lock --pause -w a"), "lock wait how=p: a");
    UNIT_STR(parse("lock -s a"), "lock how=s: a");
    UNIT_STR(parse("lock --sqlite3 -c a"), "lock create how=s: a");
    UNIT_STR(parse("lock -x echo_1 a"), "lock command=echo 1 how=x: a");
    UNIT_STR(parse("lock a --execute=echo_1 --create"), "lock create command=echo 1 how=x: a");
    UNIT_STR(parse("lock -f /x"), "lock -f: /x");
    UNIT_STR(parse("words a b c"), "words: a b c");
}

void suite_ctl_options(void);
void suite_ctl_options(void)
{
    static const struct unit_test tests[] = {
        {"letters", test_letters}, {"refused", test_refused}, {"ignored", test_ignored},
        {"stale", test_stale},     {"jobs", test_jobs},       {"long", test_long},
        {"lock", test_lock},       {NULL, NULL},
    };
    unit_suite("ctl_options", tests);
}
