/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_delete - delete, undelete, and list --deleted.
 *
 * A backup that is deleted can be brought back until backup_delete_delay has passed: then
 * "delete --expired" removes it, and so does the next "compact -A". */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_clock.h"
#include "backup/lcb_delete.h"
#include "lib/output.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

/* When what is deleted now goes; 0: not by itself. */
static int64_t due(const struct ctl *ctl)
{
    int64_t delay = config_getduration(ctl->config, IMAPOPT_BACKUP_DELETE_DELAY);
    return delay > 0 ? time(NULL) + delay : 0;
}

/* ---- delete ---- */

static void tell_kept(struct ctl *ctl, const struct ctl_target *t, const char *kept,
                      struct ctl_result *result)
{
    int64_t when = due(ctl);
    char text[32];
    if (ctl->opt->json) {
        result->more = json_object();
        json_object_set_new(result->more, "deleted_fname", ctl_json_cstring(kept));
        ctl_json_time(result->more, "due", when);
    } else if (ctl->opt->verbose) {
        ctl_result_line(result, "%s: kept as %s until %s", t->name, kept,
                        when ? ctl_time(ctl->opt, when, text) : "it is removed by hand");
    }
}

void ctl_delete(struct ctl *ctl, const struct ctl_target *t, struct ctl_result *result)
{
    struct lcb_delete how = {
        .userid = t->userid,
        .path = t->path,
        .wait_ms = ctl_queue_ms(ctl),
        .now = ctl->opt->now,
        .forget = ctl->opt->force,
    };
    char *kept = NULL;
    int r = lcb_delete(ctl->store, &how, &kept);
    if (r == -ENOENT && t->userid) {
        ctl_result_error(result, r);
        buf_appendcstr(&result->message, "; with -F its record is removed");
    } else if (r == XERR_EXISTS) {
        ctl_result_error(result, r);
        buf_setcstr(&result->message, "it is in backups.db: name its user instead");
    } else if (r == XERR_FORMAT && !t->userid) {
        ctl_result_error(result, r);
        buf_setcstr(&result->message, "it is no data file of a backup, called <userid>_XXXXXX");
    } else if (r) {
        ctl_result_error(result, r);
    } else if (kept) {
        tell_kept(ctl, t, kept, result);
    }
    free(kept);
}

/* ---- what is old enough ---- */

int ctl_clock(struct ctl *ctl)
{
    char then[20], until[20];
    int64_t now = time(NULL), again;
    if (!lcb_clock(ctl->store, now, ctl->opt->dry_run, &ctl->now, &again))
        return EX_OK;
    output_time(ctl->now, then);
    output_time(again, until);
    long long days = (long long)((now - ctl->now) / 86400);
    fprintf(stderr, "ctl_backups: the clock leapt by %lld days since the last run, %s: nothing is taken"
                    " for older than it was then. If the clock is right, wait until %s, or remove"
                    " backups.db.clock\n", days, then, until);
    xlog_errorx("the clock leapt by %lld days since the last run, %s: nothing is taken for older than"
                " it was then; hint: correct the clock, or wait until %s", days, then, until);
    return EX_TEMPFAIL;
}

struct removal {
    struct ctl *ctl;
    struct ctl_json json;
    int64_t now;
    int dry;
};

static int tell_removed(void *rock, const struct lcb_deleted *d)
{
    struct removal *m = rock;
    const char *userid = *d->userid ? d->userid : NULL;
    if (m->dry && (!d->due || d->due > m->now))
        return 0;
    if (m->ctl->opt->json) {
        json_t *j = json_object();
        json_object_set_new(j, "command", json_string("delete"));
        if (userid)
            json_object_set_new(j, "userid", ctl_json_cstring(userid));
        json_object_set_new(j, "fname", ctl_json_cstring(d->path));
        json_object_set_new(j, "status", json_string(m->dry ? "skipped (dry run)" : "ok"));
        ctl_json_time(j, "deleted", d->time);
        ctl_json_item(&m->json, j);
    } else {
        printf("delete %s: %s\n", d->path, m->dry ? "skipped (dry run)" : "ok");
    }
    return 0;
}

static const char *walk_error(int r)
{
    return r == XERR_CONFIG ? "no backuppartition-NAME is configured" : error_message(r);
}

/* Those whose time has passed. */
static int remove_expired(struct ctl *ctl)
{
    int clock = ctl_clock(ctl);
    struct removal m = {.ctl = ctl, .now = ctl->now, .dry = ctl->opt->dry_run};
    if (ctl->opt->json)
        ctl_json_begin(&m.json, ctl->opt);
    int r = m.dry ? lcb_deleted_foreach(ctl->store, tell_removed, &m)
                  : lcb_deleted_purge(ctl->store, m.now, tell_removed, &m);
    if (ctl->opt->json)
        ctl_json_end(&m.json);
    if (r) {
        fprintf(stderr, "delete --expired: %s\n", walk_error(r));
        xlog_errorx("expired backups: %s", walk_error(r));
    }
    int code = ctl_printed();
    return r ? EX_TEMPFAIL : code ? code : clock;
}

static int log_removed(void *rock, const struct lcb_deleted *d)
{
    (void)rock;
    xlog_info("%s: deleted long enough ago, removed", d->path);
    return 0;
}

int ctl_remove_expired(struct ctl *ctl)
{
    struct buf err = BUF_INITIALIZER;
    struct lcb_store *store = NULL;
    int r = lcb_store_open(ctl->config, NULL, &store, &err); /* that of the run is closed */
    if (!r)
        r = lcb_deleted_purge(store, ctl->now, log_removed, NULL);
    lcb_store_close(&store);
    buf_free(&err);
    if (!r)
        return EX_OK;
    fprintf(stderr, "expired backups: %s\n", walk_error(r));
    xlog_errorx("expired backups: %s", walk_error(r));
    return EX_TEMPFAIL;
}

int ctl_delete_run(struct ctl *ctl)
{
    const struct ctl_options *opt = ctl->opt;
    const char *wrong = opt->expired && (opt->mode || ctl->argc || opt->now)
                            ? "delete --expired wants no backups to be named"
                        : opt->now && !opt->force ? "delete --now cannot be taken back: it needs -F"
                        : opt->dry_run && !opt->expired ? "delete: --dry-run goes with --expired"
                                                        : NULL;
    if (!wrong)
        return opt->expired ? remove_expired(ctl) : ctl_run(ctl);
    fprintf(stderr, "ctl_backups: %s\n", wrong);
    return EX_USAGE;
}

/* ---- undelete ---- */

void ctl_undelete(struct ctl *ctl, const struct ctl_target *t, struct ctl_result *result)
{
    struct lcb_undelete how = {
        .userid = t->userid,
        .path = t->userid ? NULL : t->path,
        .wait_ms = ctl_queue_ms(ctl),
        .replace = ctl->opt->force,
    };
    char *path, *replaced;
    int r = lcb_undelete(ctl->store, &how, &path, &replaced);
    if (r)
        ctl_result_error(result, r);
    if (r == XERR_NOTFOUND)
        buf_setcstr(&result->message, "no deleted backup is there");
    else if (r == XERR_EXISTS && path)
        buf_setcstr(&result->message, "the user has a backup; with -F that one is deleted");
    else if (r == XERR_EXISTS)
        buf_setcstr(&result->message, "another file has the former name");
    else if (r == XERR_PARAM)
        buf_setcstr(&result->message, "the name is not that of a deleted backup");
    if (!r && ctl->opt->json) {
        result->more = json_object();
        json_object_set_new(result->more, "fname", ctl_json_cstring(path));
        if (replaced)
            json_object_set_new(result->more, "deleted_fname", ctl_json_cstring(replaced));
    } else if (!r && ctl->opt->verbose) {
        ctl_result_line(result, "%s: is %s again", t->name, path);
        if (replaced)
            ctl_result_line(result, "%s: what was there is %s now", t->name, replaced);
    }
    free(path);
    free(replaced);
}

/* ---- list --deleted ---- */

struct listing {
    struct ctl *ctl;
    struct ctl_json json;
};

static int is_asked_for(const struct ctl *ctl, const struct lcb_deleted *d)
{
    const char *userid = d->userid;
    const char *at = strrchr(userid, '@');
    const char *domain = at ? at + 1 : lcb_store_names(ctl->store)->defaultdomain;
    if (ctl->opt->mode == 'A')
        return 1;
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        if (ctl->opt->mode == 'D' ? !strcmp(domain, word)
            : ctl->opt->mode == 'P' ? !strncmp(userid, word, strlen(word))
                                    : lcb_deleted_is_of(d, word))
            return 1;
    }
    return 0;
}

static int list_one(void *rock, const struct lcb_deleted *d)
{
    struct listing *l = rock;
    const struct ctl_options *opt = l->ctl->opt;
    char when[32], until[32];
    if (!is_asked_for(l->ctl, d))
        return 0;
    ctl_time(opt, d->time, when);
    ctl_time(opt, d->due, until);
    if (!opt->json) {
        printf("%s\t%llu\t%s\t%s\t%s\n", when, (unsigned long long)d->size,
               *d->userid ? d->userid : "[unknown]", d->path, d->due ? until : "[never]");
        return 0;
    }
    json_t *j = json_object();
    json_object_set_new(j, "deleted", json_string(when));
    json_object_set_new(j, "compressed", json_integer((json_int_t)d->size));
    if (*d->userid)
        json_object_set_new(j, "userid", ctl_json_cstring(d->userid));
    json_object_set_new(j, "fname", ctl_json_cstring(d->path));
    if (d->due)
        json_object_set_new(j, "due", json_string(until));
    ctl_json_time(j, "deleted", d->time);
    ctl_json_time(j, "due", d->due);
    ctl_json_item(&l->json, j);
    return 0;
}

int ctl_list_deleted(struct ctl *ctl)
{
    struct listing l = {.ctl = ctl};
    if (ctl->opt->mode == 'm' || ctl->opt->mode == 'f') {
        fprintf(stderr, "ctl_backups: list --deleted goes with user ids, -A, -D and -P\n");
        return EX_USAGE;
    }
    if (ctl->opt->json)
        ctl_json_begin(&l.json, ctl->opt);
    int r = lcb_deleted_foreach(ctl->store, list_one, &l);
    if (ctl->opt->json)
        ctl_json_end(&l.json);
    if (r)
        fprintf(stderr, "list --deleted: %s\n", error_message(r));
    int code = ctl_printed();
    return r ? EX_TEMPFAIL : code;
}
