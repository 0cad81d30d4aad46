/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_compact - compact one backup, or tell what that would do (--dry-run), and remove the old
 * files that backup_keep_previous has kept (--expire-previous).
 *
 * A backup of which nothing is left (its user is gone, and so is the time to bring him back) is
 * deleted, as by "delete": it can be brought back for a while. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_compact.h"
#include "backup/lcb_delete.h"
#include "lib/xerr.h"

/* What --expire-previous leaves if it does not say otherwise. */
#define KEEP_PREVIOUS (7 * 86400)

struct job {
    struct ctl *ctl;
    const struct ctl_target *target;
    struct ctl_result *result;
};

static void say(void *rock, const char *text)
{
    struct job *job = rock;
    ctl_result_line(job->result, "%s", text);
}

static void progress(void *rock, uint64_t bytes)
{
    struct job *job = rock;
    ctl_progress(job->result, bytes);
}

static void tell_json(struct job *job, const struct lcb_compact_result *r)
{
    const struct lcb_compact_account *a = &r->account;
    json_t *j = job->result->more = json_object();
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        {"size", (int64_t)r->old_size},
        {"new_size", (int64_t)r->new_size}, /* left out if there is no new file */
        {"chunks", a->chunks},
        {"chunks_dropped", a->chunks_dead},
        {"chunks_small", a->chunks_small},
        {"text", (int64_t)a->text},
        {"text_dropped", (int64_t)a->text_dead},
        {"messages", a->messages},
        {"messages_dropped", a->messages_dead},
        {"messages_unused", a->messages_unused},
        {"message_bytes_dropped", (int64_t)a->messages_dead_bytes},
        {"states", a->versions},
        {"states_dropped", a->versions_dead},
        {"mailboxes_dropped", a->mailboxes_dead},
        {"work", a->work},
        {"threshold", a->threshold},
    };
    ctl_json_time(j, "window", a->window);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        if (numbers[i].value || strcmp(numbers[i].key, "new_size"))
            json_object_set_new(j, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    if (r->damaged)
        json_object_set_new(j, "damaged_fname", ctl_json_cstring(r->aside));
}

/* The account of a dry run, or with -v. */
static void tell_text(struct job *job, const struct lcb_compact_result *r)
{
    const struct lcb_compact_account *a = &r->account;
    const char *name = job->target->name;
    char text[32];
    ctl_result_line(job->result, "%s: all states since %s stay, and what holds now", name,
                    a->window ? ctl_time(job->ctl->opt, a->window, text) : "the beginning");
    ctl_result_line(job->result, "%s: messages: %lld of %lld go (%llu of %llu bytes), %lld of them were"
                    " never in a mailbox", name, (long long)a->messages_dead, (long long)a->messages,
                    (unsigned long long)a->messages_dead_bytes, (unsigned long long)a->message_bytes,
                    (long long)a->messages_unused);
    ctl_result_line(job->result, "%s: states of messages, mailboxes and the rest: %lld of %lld go;"
                    " mailboxes that are gone: %lld", name, (long long)a->versions_dead,
                    (long long)a->versions, (long long)a->mailboxes_dead);
    ctl_result_line(job->result, "%s: chunks: nothing stays of %lld of %lld, %lld are small; about"
                    " %llu of %llu bytes of text go", name, (long long)a->chunks_dead,
                    (long long)a->chunks, (long long)a->chunks_small, (unsigned long long)a->text_dead,
                    (unsigned long long)a->text);
    if (r->new_size)
        ctl_result_line(job->result, "%s: %llu bytes became %llu, %lld chunks were copied, %lld"
                        " written", name, (unsigned long long)r->old_size,
                        (unsigned long long)r->new_size, (long long)r->copied, (long long)r->written);
}

/* Nothing is left of it. If something comes in at this moment, it stays. */
static void retire(struct job *job, const struct lcb_compact_result *r)
{
    struct lcb_delete how = {
        .userid = job->target->userid,
        .only_size = (int64_t)r->old_size,
    };
    char *kept = NULL;
    if (!job->target->userid || job->ctl->opt->dry_run) {
        buf_setcstr(&job->result->message, "nothing is left of it");
        return;
    }
    int e = lcb_delete(job->ctl->store, &how, &kept);
    if (e == XERR_STALE || e == XERR_LOCKED)
        job->result->status = CTL_SKIPPED; /* next time */
    else if (e)
        ctl_result_error(job->result, e);
    else
        buf_setcstr(&job->result->message, "nothing was left of it: deleted");
    free(kept);
}

static void told_removed(void *rock, const char *path)
{
    struct job *job = rock;
    if (job->ctl->opt->dry_run || job->ctl->opt->verbose)
        ctl_result_line(job->result, "%s: %s%s", job->target->name,
                        job->ctl->opt->dry_run ? "would remove " : "removed ", path);
}

static int expire(struct job *job)
{
    const struct ctl_options *opt = job->ctl->opt;
    int64_t age = opt->expire_age >= 0 ? opt->expire_age : KEEP_PREVIOUS;
    return lcb_compact_expire(job->ctl->store, job->target->userid, job->target->path,
                              job->ctl->now - age, opt->dry_run, told_removed, job);
}

static void done(struct job *job, int r, const struct lcb_compact_result *result)
{
    const struct ctl_options *opt = job->ctl->opt;
    if (r < 0) {
        ctl_result_error(job->result, r);
        return;
    }
    job->result->bytes = result->old_size;
    if (opt->json)
        tell_json(job, result);
    else if (opt->dry_run || opt->verbose)
        tell_text(job, result);
    if (r == LCB_COMPACT_SKIPPED)
        job->result->status = CTL_SKIPPED;
    if (r == LCB_COMPACT_EMPTY)
        retire(job, result);
    else if (opt->dry_run)
        buf_setcstr(&job->result->message, r == LCB_COMPACT_SKIPPED ? "not enough to do" : "dry run");
    if (result->damaged) {
        job->result->status = CTL_FAILED;
        buf_printf(&job->result->message, "compacted, but not all could be read: see %s",
                   result->aside);
    }
}

void ctl_compact(struct ctl *ctl, const struct ctl_target *t, struct ctl_result *result)
{
    struct job job = {.ctl = ctl, .target = t, .result = result};
    struct lcb_compact_result told;
    struct lcb_compact how = {
        .userid = t->userid,
        .path = t->path,
        .force = ctl->opt->force,
        .dry_run = ctl->opt->dry_run,
        .account = ctl->opt->json,
        .wait_ms = ctl_wait_ms(ctl),
        .queue_ms = ctl_queue_ms(ctl),
        .now = ctl->now,
        .say = ctl->opt->verbose && !ctl->opt->json ? say : NULL,
        .progress = progress,
        .rock = &job,
    };
    ctl_scratch_place(ctl);
    int r = lcb_compact(ctl->store, &how, &told);
    done(&job, r, &told);
    if (r >= 0 && ctl->opt->expire_previous && (r = expire(&job)) != 0)
        ctl_result_error(result, r);
}

/* A run over all backups also removes those that were deleted long enough ago. */
int ctl_compact_run(struct ctl *ctl)
{
    int clock = ctl_clock(ctl), code = ctl_run(ctl);
    code = code ? code : clock;
    if (ctl->opt->mode != 'A' || ctl->opt->dry_run)
        return code;
    int expired = ctl_remove_expired(ctl);
    return code ? code : expired;
}
