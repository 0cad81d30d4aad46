/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_verify - look whether backups are what they should be, and mend what is not.
 *
 *     verify: ok                        nothing is wrong
 *     verify: ok (index damaged: ...)   no data is lost; the index was made anew
 *     verify: failed (data damaged...)  something is lost; what the master still has is asked for
 *     verify: failed (data damaged before ...)  the same, and it has not come yet
 *
 * Each thing that is wrong is a line, with --json also an object in "data_damage" or
 * "index_damage". The backup is looked at without its lock; only mending needs that. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_repair.h"
#include "backup/lcb_verify.h"
#include "lib/xerr.h"

/* How long a backup that is in use is waited for, to note that it was verified. */
#define NOTE_WAIT_MS 2000
#define LOOK_TRIES 3
/* So many findings of a kind go into the JSON of one backup. */
#define JSON_MAX 10000

struct work {
    struct ctl *ctl;
    const struct ctl_target *t;
    struct ctl_result *result;
    json_t *data, *index, *info;
    struct lcb_verify v;
    int64_t chunk; /* of the -v line before */
};

static void add_object(json_t *list, const struct lcb_finding *f)
{
    static const char *const kinds[] = {"chunk", "message", "record", "other", "index", "information"};
    if (json_array_size(list) >= JSON_MAX)
        return;
    json_t *j = json_object();
    json_object_set_new(j, "kind", json_string(kinds[f->kind]));
    json_object_set_new(j, "text", ctl_json_cstring(f->what));
    if (f->seq)
        json_object_set_new(j, "chunk", json_integer(f->seq));
    if (f->offset >= 0)
        json_object_set_new(j, "offset", json_integer(f->offset));
    if (f->guid)
        json_object_set_new(j, "guid", json_string(f->guid));
    if (f->mboxname)
        json_object_set_new(j, "mboxname", ctl_json_cstring(f->mboxname));
    if (f->uniqueid)
        json_object_set_new(j, "uniqueid", ctl_json_cstring(f->uniqueid));
    if (f->uid)
        json_object_set_new(j, "uid", json_integer(f->uid));
    json_array_append_new(list, j);
}

static void found(void *rock, const struct lcb_finding *f)
{
    struct work *w = rock;
    int info = f->kind == LCB_FOUND_INFO;
    if (!info || w->ctl->opt->verbose)
        ctl_result_line(w->result, "%s%s", f->kind == LCB_FOUND_INDEX ? "index: " : "", f->what);
    add_object(info ? w->info : f->kind == LCB_FOUND_INDEX ? w->index : w->data, f);
}

/* As in Cyrus 3.x; a chunk that is not good has a line of its own instead. */
static int chunk(void *rock, const struct lcb_chunk *c)
{
    struct work *w = rock;
    const long long n = c->seq;
    ctl_progress(w->result, (uint64_t)(c->offset + c->length));
    if (!w->ctl->opt->verbose)
        return 0;
    ctl_result_line(w->result, "checking chunk %lld checksums...%s\nok", n,
                    w->ctl->opt->verbose < 2 ? "" : "\n  checking file checksum..."
                    "\n  checking data length\n  checking data checksum...");
    ctl_result_line(w->result, "checking chunk %lld messages...\nok", n);
    ctl_result_line(w->result, "checking chunk %lld mailbox links...\nok", n);
    return 0;
}

static int open_backup(struct work *w, int wait_ms, struct lcb **b)
{
    if (w->ctl->opt->wait)
        wait_ms = -1;
    return w->t->userid ? lcb_open(w->ctl->store, w->t->userid, LCB_WRITE, wait_ms, b)
                        : lcb_open_file(w->ctl->store, w->t->path, LCB_WRITE, wait_ms, b);
}

int64_t ctl_gone_since(const struct ctl *ctl)
{
    int64_t keep = config_getduration(ctl->config, IMAPOPT_BACKUP_RETENTION);
    return keep > 0 ? (int64_t)time(NULL) - keep : 0;
}

/* An index that is of no use to verification may look good to whoever opens it for writing: so that is
 * not left to him. */
static int mend(struct work *w, struct lcb_repair *rp)
{
    rp->gone_since = ctl_gone_since(w->ctl);
    rp->keep_index = config_getswitch(w->ctl->config, IMAPOPT_BACKUP_KEEP_PREVIOUS);
    return lcb_reindex(w->ctl->store, w->t->userid, w->t->path, w->v.wait_ms,
                       ctl_wait_ms(w->ctl), rp);
}

static void note(struct work *w, int damaged)
{
    struct lcb *b = NULL;
    if (open_backup(w, NOTE_WAIT_MS, &b))
        return; /* it will be among the first next time */
    lcb_verify_note(b, time(NULL), damaged ? LCB_VERIFIED_DAMAGED : LCB_VERIFIED_OK);
    lcb_close(&b);
}

/* By its path, which is that of another file when somebody has compacted or moved it in between. */
static int look(struct work *w)
{
    int r = XERR_STALE;
    for (int i = 0; i < LOOK_TRIES && (r == XERR_STALE || r == -ENOENT); i++) {
        char *path = NULL;
        r = w->t->userid ? lcb_store_find(w->ctl->store, w->t->userid, &path) : 0;
        if (!r)
            r = lcb_verify(w->ctl->store, path ? path : w->t->path, &w->v);
        free(path);
    }
    return r;
}

/* What is wrong, and what became of it. */
static void judge(struct work *w, int mended, const struct lcb_repair *rp)
{
    struct buf *m = &w->result->message;
    const char *dry = w->ctl->opt->dry_run ? "" : ": cannot be mended now: ";
    const char *why = w->ctl->opt->dry_run ? "" : ctl_error_text(mended);
    buf_reset(m);
    if (w->v.data) {
        w->result->status = CTL_FAILED;
        buf_printf(m, "data damaged, %lld findings", (long long)w->v.data);
        if (!mended)
            buf_printf(m, ": %lld messages will be asked for again, %lld lines were restored from the"
                       " index", (long long)rp->messages,
                       (long long)(rp->mailboxes + rp->records + rp->others));
        else
            buf_printf(m, "%s%s", dry, why);
    } else if (w->v.index) {
        w->result->status = mended ? CTL_FAILED : CTL_OK;
        buf_printf(m, "index damaged, %lld findings", (long long)w->v.index);
        if (mended)
            buf_printf(m, "%s%s", dry, why);
        else
            buf_appendcstr(m, ": made anew");
    } else if (w->v.waiting) {
        w->result->status = CTL_FAILED;
        buf_printf(m, "data damaged before: %lld messages have not come again yet",
                   (long long)w->v.waiting);
    }
}

static void finish_json(struct work *w)
{
    json_t *j = w->result->more = json_object();
    json_object_set_new(j, "chunks", json_integer(w->v.chunks));
    json_object_set_new(j, "bytes", json_integer(w->v.bytes));
    json_object_set_new(j, "data_findings", json_integer(w->v.data));
    json_object_set_new(j, "index_findings", json_integer(w->v.index));
    json_object_set_new(j, "messages_awaited", json_integer(w->v.waiting));
    json_object_set(j, "data_damage", w->data);
    json_object_set(j, "index_damage", w->index);
    json_object_set(j, "information", w->info);
}

void ctl_scratch_place(const struct ctl *ctl)
{
    const char *staging = config_getstring(ctl->config, IMAPOPT_BACKUP_STAGING_PATH);
    if (staging)
        setenv("SQLITE_TMPDIR", staging, 1);
}

void ctl_verify(struct ctl *ctl, const struct ctl_target *t, struct ctl_result *result)
{
    struct work w = {.ctl = ctl, .t = t, .result = result, .data = json_array(),
                     .index = json_array(), .info = json_array()};
    struct lcb_repair rp = {.damage = NULL};
    w.v = (struct lcb_verify){.found = found, .chunk = chunk, .rock = &w,
                              .wait_ms = ctl_queue_ms(ctl)};
    ctl_scratch_place(ctl);
    int r = look(&w);
    result->bytes = (uint64_t)w.v.bytes;
    if (r) {
        ctl_result_error(result, r);
    } else if (w.v.data || w.v.index) {
        int mended = ctl->opt->dry_run ? XERR_DENIED : mend(&w, &rp);
        judge(&w, mended, &rp);
        if (!mended)
            note(&w, w.v.data != 0);
    } else {
        judge(&w, 0, &rp);
        if (!ctl->opt->dry_run)
            note(&w, w.v.waiting != 0);
    }
    if (!r && ctl->opt->json)
        finish_json(&w);
    json_decref(w.data);
    json_decref(w.index);
    json_decref(w.info);
}
