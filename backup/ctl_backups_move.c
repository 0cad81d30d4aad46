/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_move - backups to another partition.
 *
 *     move --to=NAME user...    these
 *     move -A --to=NAME         all
 *     move -A                   those that have to be moved for the partitions to become alike
 *
 * For the last, a plan is made before anything is moved; then only the users in it are worked on. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_move.h"
#include "lib/hash.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

static const struct lcb_partition *destination(struct ctl *ctl, const struct ctl_target *t)
{
    const char *name = ctl->plan ? hash_lookup(ctl->plan, t->userid) : ctl->opt->to;
    return name ? lcb_partition_named(ctl->store, name) : NULL;
}

static void tell_moved(struct ctl *ctl, const struct ctl_target *t, const struct lcb_moved *m,
                       struct ctl_result *result)
{
    result->bytes = m->bytes;
    if (ctl->opt->json) {
        result->more = json_object();
        json_object_set_new(result->more, "new_fname", ctl_json_cstring(m->path));
    } else if (ctl->opt->verbose) {
        ctl_result_line(result, "%s: is %s now", t->name, m->path);
    }
}

void ctl_move(struct ctl *ctl, const struct ctl_target *t, struct ctl_result *result)
{
    const struct lcb_partition *to = t->userid ? destination(ctl, t) : NULL;
    const struct lcb_partition *at = t->path ? lcb_partition_of(ctl->store, t->path) : NULL;
    struct lcb_moved m;
    if (!to) {
        result->status = CTL_FAILED;
        buf_setcstr(&result->message, t->userid ? "no such partition" : "not found by user id");
        return;
    }
    if (ctl->opt->dry_run) {
        result->status = CTL_SKIPPED;
        buf_setcstr(&result->message, at == to ? "is there already" : "dry run");
        return;
    }
    int r = lcb_move(ctl->store, t->userid, to, ctl_wait_ms(ctl), &m);
    if (r)
        ctl_result_error(result, r);
    if (r && r != XERR_LOCKED && m.why.len)
        buf_setcstr(&result->message, buf_cstring(&m.why));
    if (!r && m.path) {
        tell_moved(ctl, t, &m, result);
    } else if (!r) {
        result->status = CTL_SKIPPED;
        buf_setcstr(&result->message, "is there already");
    }
    buf_free(&m.why);
    free(m.path);
}

/* ---- making all alike ---- */

struct balance {
    struct ctl *ctl;
    struct strarray users;
    struct ctl_json json;
};

static int note_step(void *rock, const struct lcb_balance_step *s)
{
    struct balance *b = rock;
    const struct ctl_options *opt = b->ctl->opt;
    strarray_append(&b->users, s->userid);
    hash_insert(b->ctl->plan, s->userid, (char *)(uintptr_t)s->to->name);
    if (!opt->dry_run)
        return 0;
    if (opt->json) {
        json_t *j = json_object();
        json_object_set_new(j, "command", json_string("move"));
        json_object_set_new(j, "userid", ctl_json_cstring(s->userid));
        json_object_set_new(j, "fname", ctl_json_cstring(s->path));
        json_object_set_new(j, "status", json_string("skipped (dry run)"));
        json_object_set_new(j, "from", ctl_json_cstring(s->from->name));
        json_object_set_new(j, "to", ctl_json_cstring(s->to->name));
        json_object_set_new(j, "bytes", json_integer((json_int_t)s->size));
        ctl_json_item(&b->json, j);
    } else {
        printf("move %s: skipped (dry run: from %s to %s, %llu bytes)\n", s->userid, s->from->name,
               s->to->name, (unsigned long long)s->size);
    }
    return 0;
}

static int tell_place(void *rock, const struct lcb_balance_place *p)
{
    const struct balance *b = rock;
    double total = (double)p->total;
    if (b->ctl->opt->verbose || b->ctl->opt->dry_run)
        fprintf(stderr, "%s: %.1f%% (%llu KiB) free now, %.1f%% (%llu KiB) afterwards%s\n",
                p->partition->name, 100 * (double)p->before / total, (unsigned long long)p->before,
                100 * (double)p->after / total, (unsigned long long)p->after,
                p->takes ? "" : " (above partition_select_soft_usage_limit)");
    return 0;
}

/* The run, with the users of the plan in the place of -A. */
static int run_plan(struct balance *b)
{
    const struct ctl_options *asked = b->ctl->opt;
    struct ctl_options opt = *asked;
    if (!b->users.count || opt.dry_run)
        return ctl_printed();
    opt.mode = 'u';
    b->ctl->opt = &opt;
    b->ctl->argc = b->users.count;
    b->ctl->argv = b->users.data;
    int code = ctl_run(b->ctl);
    b->ctl->opt = asked;
    return code;
}

static int balance(struct ctl *ctl)
{
    struct balance b = {.ctl = ctl};
    struct lcb_balance out = {note_step, tell_place, &b};
    int json = ctl->opt->json && ctl->opt->dry_run;
    ctl->plan = hash_new();
    if (json)
        ctl_json_begin(&b.json, ctl->opt);
    int r = lcb_balance_plan(ctl->store, &out, NULL, NULL), code;
    if (json)
        ctl_json_end(&b.json);
    if (r) {
        fprintf(stderr, "move: %s\n",
                r == XERR_CONFIG ? "no backup partition takes part" : error_message(r));
        code = r == XERR_CONFIG ? EX_CONFIG : EX_TEMPFAIL;
    } else {
        code = run_plan(&b);
    }
    hash_free(&ctl->plan, NULL);
    strarray_fini(&b.users);
    return code;
}

int ctl_move_run(struct ctl *ctl)
{
    const struct ctl_options *opt = ctl->opt;
    if (opt->to && !lcb_partition_named(ctl->store, opt->to)) {
        fprintf(stderr, "ctl_backups: there is no backuppartition-%s\n", opt->to);
        return EX_USAGE;
    }
    if (!opt->to && opt->mode == 'A')
        return balance(ctl);
    if (!opt->to && ctl->argc) {
        fprintf(stderr, "ctl_backups: move needs --to=PARTITION, or -A alone\n");
        return EX_USAGE;
    }
    return ctl_run(ctl);
}
