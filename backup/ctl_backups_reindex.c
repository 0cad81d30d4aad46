/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_reindex - make indexes anew from their data files.
 *
 * Readers see the old index or the new one, writers go on meanwhile (lcb_reindex.c), and what the data
 * file does not say any more but the old index does (chunks that cannot be read) is not lost
 * (lcb_repair.c). With -v a line for
 * each chunk, as in Cyrus 3.x. */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_repair.h"
#include "backup/lcb_scan.h"
#include "backup/lcb_summary.h"
#include "lib/xerr.h"

/* The end of the file, if it cannot be read, looks like what a crash leaves, and is set aside at
 * opening. Had an index spoken for it, then it had been whole. */
struct ending {
    uint64_t size; /* of the file, before it was opened */
    ino_t file;
    int whole;
    int64_t aside; /* bytes */
};

struct work {
    struct ctl *ctl;
    struct ctl_result *result;
    int64_t unreadable;
    struct ending ending;
};

static void damage(void *rock, const struct lcb_damage *d)
{
    struct work *w = rock;
    char hex[41];
    switch (d->kind) {
    case LCB_DAMAGE_CHUNK:
        w->unreadable++;
        ctl_result_line(w->result, "error reading chunk at offset %lld, byte %lld: damaged, %d lines"
                        " of it can be read", (long long)d->offset,
                        (long long)(d->next - d->offset), d->line);
        break;
    case LCB_DAMAGE_MESSAGE:
        message_guid_encode(d->guid, hex);
        w->unreadable++;
        ctl_result_line(w->result, "guid mismatch for message %s in chunk %lld", hex,
                        (long long)d->seq);
        break;
    case LCB_DAMAGE_LINE:
        ctl_result_line(w->result, "line %d of chunk %lld cannot be understood", d->line,
                        (long long)d->seq);
        break;
    }
}

static int chunk(void *rock, const struct lcb_chunk *c)
{
    struct work *w = rock;
    w->result->bytes += c->length;
    if (w->ctl->opt->verbose)
        ctl_result_line(w->result, "\nfound chunk at offset %llu\n", (unsigned long long)c->offset);
    return 0;
}

static void look_before(struct ctl *ctl, const char *path, struct ending *e)
{
    struct lcb_summary s;
    struct stat st;
    char *found = NULL;
    int fd = -1;
    e->whole = !lcb_summary_read(ctl->store, path, 0, &s) && s.complete;
    if (vfs_stat(lcb_store_vfs(ctl->store), path, &st))
        return;
    e->file = st.st_ino;
    e->size = e->whole ? s.size : 0;
    /* While somebody writes, there may be what he will take back. */
    if (!e->whole && !lcb_lock(ctl->store, NULL, path, 0, &fd, &found))
        e->size = (uint64_t)st.st_size;
    vfs_close(lcb_store_vfs(ctl->store), &fd);
    free(found);
}

/* It has been opened, and not been repaired yet. */
static void look_after(void *rock, const char *path)
{
    struct work *w = rock;
    struct ending *e = &w->ending;
    struct stat st;
    if (!vfs_stat(lcb_store_vfs(w->ctl->store), path, &st) && st.st_ino == e->file &&
        (uint64_t)st.st_size < e->size)
        e->aside = (int64_t)(e->size - (uint64_t)st.st_size);
}

/* What became of it. */
static void judge(struct ctl_result *result, const struct work *w, const struct lcb_repair *rp)
{
    const struct ending *e = &w->ending;
    int64_t restored = rp->mailboxes + rp->records + rp->others;
    struct buf *m = &result->message;
    if (rp->messages || restored) {
        result->status = CTL_FAILED; /* though it was done */
        buf_printf(m, "data damaged: %lld messages will be asked for again, %lld lines were restored"
                   " from the old index", (long long)rp->messages, (long long)restored);
    } else if (w->unreadable) {
        buf_printf(m, "%lld places cannot be read", (long long)w->unreadable);
    }
    if (e->aside) {
        result->status = e->whole ? CTL_FAILED : result->status;
        buf_printf(m, "%s%sthe last %lld bytes cannot be read: they were set aside", m->len ? "; " : "",
                   e->whole && !m->len ? "data damaged: " : "", (long long)e->aside);
    }
}

void ctl_reindex(struct ctl *ctl, const struct ctl_target *t, struct ctl_result *result)
{
    struct work w = {.ctl = ctl, .result = result};
    struct lcb_repair rp = {
        .gone_since = ctl_gone_since(ctl),
        .keep_index = config_getswitch(ctl->config, IMAPOPT_BACKUP_KEEP_PREVIOUS),
        .damage = damage, .chunk = chunk, .locked = look_after, .rock = &w,
    };
    look_before(ctl, t->path, &w.ending);
    int r = lcb_reindex(ctl->store, t->userid, t->path, ctl_queue_ms(ctl),
                        ctl_wait_ms(ctl), &rp);
    if (r) {
        ctl_result_error(result, r);
        return;
    }
    if (ctl->opt->verbose)
        ctl_result_line(result, "reached end of file");
    judge(result, &w, &rp);
    if (ctl->opt->json) {
        result->more = json_object();
        json_object_set_new(result->more, "unreadable", json_integer(w.unreadable));
        json_object_set_new(result->more, "lines_not_understood", json_integer(rp.lost_lines));
        json_object_set_new(result->more, "messages_lost", json_integer(rp.messages));
        json_object_set_new(result->more, "lines_restored",
                            json_integer(rp.mailboxes + rp.records + rp.others));
        json_object_set_new(result->more, "bytes_set_aside", json_integer(w.ending.aside));
    }
}
