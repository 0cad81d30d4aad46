/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_reconstruct - backups.db from the data files.
 *
 * A line for each record that was made, and for each thing that somebody should look at; with -v also
 * for what is right, and for files that are of no concern. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_reconstruct.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

static const char *const words[] = {"ok", "added", "replaced", "wrong", "duplicate", "misnamed",
                                    "unreadable", "stranger", "leftover", "aside"};
enum { WORDS = sizeof(words) / sizeof(*words) };

struct report {
    struct ctl *ctl;
    struct ctl_json json;
    size_t count[WORDS];
};

static int needs_attention(enum lcb_found_kind kind)
{
    return kind >= LCB_FOUND_WRONG && kind <= LCB_FOUND_UNREADABLE;
}

static int is_shown(const struct report *rep, enum lcb_found_kind kind)
{
    return rep->ctl->opt->verbose || rep->ctl->opt->json ||
           (kind != LCB_FOUND_OK && kind != LCB_FOUND_ASIDE);
}

static void print_object(struct report *rep, const struct lcb_found *f)
{
    json_t *j = json_object();
    json_object_set_new(j, "command", json_string("reconstruct"));
    if (*f->userid)
        json_object_set_new(j, "userid", ctl_json_cstring(f->userid));
    json_object_set_new(j, "fname", ctl_json_cstring(f->path));
    json_object_set_new(j, "status", json_string(words[f->kind]));
    if (f->other)
        json_object_set_new(j, "other_fname", ctl_json_cstring(f->other));
    if (*f->text)
        json_object_set_new(j, "message", ctl_json_cstring(f->text));
    ctl_json_item(&rep->json, j);
}

static int found(void *rock, const struct lcb_found *f)
{
    struct report *rep = rock;
    rep->count[f->kind]++;
    if (needs_attention(f->kind))
        xlog_warnx("reconstruct %s: %s (%s: %s)", *f->userid ? f->userid : "[unknown]",
                   words[f->kind], f->path, f->text);
    if (rep->ctl->opt->json)
        print_object(rep, f);
    else if (is_shown(rep, f->kind))
        printf("reconstruct %s: %s (%s%s%s)\n", *f->userid ? f->userid : "[unknown]", words[f->kind],
               f->path, *f->text ? ": " : "", f->text);
    return 0;
}

static int summary(struct report *rep)
{
    struct buf text = BUF_INITIALIZER;
    size_t attention = 0;
    buf_appendcstr(&text, rep->ctl->opt->dry_run ? "reconstruct (dry run):" : "reconstruct:");
    for (int i = 0; i < WORDS; i++) {
        if (rep->count[i])
            buf_printf(&text, " %zu %s,", rep->count[i], words[i]);
        if (needs_attention((enum lcb_found_kind)i))
            attention += rep->count[i];
    }
    if (text.s[text.len - 1] == ',')
        buf_truncate(&text, text.len - 1);
    else
        buf_appendcstr(&text, " nothing found");
    fflush(stdout);
    fprintf(stderr, "%s\n", buf_cstring(&text));
    xlog_info("%s", buf_cstring(&text));
    buf_free(&text);
    return attention ? EX_TEMPFAIL : EX_OK;
}

static int run(struct report *rep)
{
    const struct ctl_options *opt = rep->ctl->opt;
    struct lcb_reconstruct how = {.dry_run = opt->dry_run, .replace = opt->force, .found = found,
                                  .rock = rep};
    if (opt->json)
        ctl_json_begin(&rep->json, opt);
    int r = lcb_reconstruct(rep->ctl->store, &how);
    if (opt->json)
        ctl_json_end(&rep->json);
    if (!r)
        return summary(rep);
    fprintf(stderr, "reconstruct: %s\n",
            r == XERR_CONFIG ? "no backuppartition-NAME is configured" : error_message(r));
    xlog_errorx("backups.db cannot be made: %s", error_message(r));
    return r == XERR_CONFIG ? EX_CONFIG : EX_TEMPFAIL;
}

int ctl_reconstruct(struct ctl *ctl)
{
    struct report rep = {.ctl = ctl};
    struct buf err = BUF_INITIALIZER;
    char *aside;
    int code;
    int r = lcb_reconstruct_open(ctl->config, NULL, ctl->opt->dry_run, &ctl->store, &aside, &err);
    if (aside && ctl->opt->dry_run)
        fprintf(stderr, "reconstruct: %s is damaged and would be set aside\n", aside);
    else if (aside)
        fprintf(stderr, "reconstruct: a damaged backups.db was set aside as %s\n", aside);
    if (r) {
        fprintf(stderr, "ctl_backups: %s\n", buf_cstring(&err));
        xlog_errorx("cannot open the store: %s", buf_cstring(&err));
        code = r == XERR_CONFIG ? EX_CONFIG : EX_TEMPFAIL;
    } else {
        code = run(&rep);
    }
    buf_free(&err);
    free(aside);
    int printed = ctl_printed();
    return code ? code : printed;
}
