/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_mailbox - APPLY MAILBOX: the command that matters.
 *
 * A header and the records that changed since something. The rules, in the order in which they are
 * looked at:
 *
 *  1. The short form of an intermediate name carries no state: OK.
 *  2. With SINCE_* the client names the state its records are relative to. Ours must be that one:
 *     else CHANGED, and the client asks.
 *  3. Without SINCE_* they are relative to what this connection was shown. Not shown (or only before
 *     the client asked for its present name, and was not told of it), or shown with HIGHESTMODSEQ 0:
 *     the records are the complete mailbox, and what we have beyond them has been
 *     forgotten by the master; that is logged as expunged. In any case the state must still be the
 *     one that was shown, in the backup it was shown from: else the records may be older than what
 *     we have, complete or not. Then CHECKSUM, and the client asks again.
 *  4. A delta to an older state than ours (the master was restored from a backup), or one that gives
 *     a UID another content, makes no sense: the mailbox is marked RESEND and CHECKSUM answered; the
 *     complete mailbox that comes then is the new truth, and the old one history. So too for a
 *     mailbox that was gone here and comes back.
 *  5. Another mailbox under the same name is gone on the master: logged as UNMAILBOX. (One that another
 *     connection has brought since this one asked may be the newer: CHECKSUM.) If that goes on
 *     and on, two masters share the name, which is an error to be seen by somebody.
 *  6. A live record needs its content: in the backup, and readable if the client was told so just
 *     now; or waiting in the spool. If it cannot be read, CONTENT and CHECKSUM; if there is none and
 *     the client thinks that we have it, RESEND and CHECKSUM. If the client was to send it and did
 *     not, its file is missing there: the record
 *     is stored without, and a warning logged. Refusing it would block the channel for ever. What is
 *     known to be missing there is not asked for at every change. But if the unit was taken to be
 *     somebody else's, its uploads went to him: RESEND and CHECKSUM. So too if other files have taken
 *     the place of the backup since the client was told what is here (backupd_unit.c).
 *  7. The SYNC_CRC of our records must differ from the client's exactly as it did before (which is
 *     not at all, normally). If not, nothing is kept, the mailbox is marked DOUBT, and CHECKSUM
 *     answered. After complete records a difference is accepted and logged: then the client's number
 *     is stale, and refusing it would make every sync a full one.
 *  8. Clients before 3.4 do not ask again within a unit of work. After GET FULLMAILBOX, or CHECKSUM
 *     by rule 7, they send a delta to what they were shown at first: that is accepted without regard
 *     to its checksum, and the mark stays, so the next listing makes them send all records.
 *
 * Records are applied as they come, in batches, under a savepoint; whatever ends in a refusal has
 * left nothing. The same answer is never given twice for the same reason, because each refusal
 * changes what the client is shown next. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/backupd_int.h"
#include "imap/sync_mailbox_read.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* Records whose content is supplied before they are logged: at most so many, and so much text. */
#define BATCH 64
#define BATCH_TEXT (256u << 10)

/* After more records than this a refused command is undone together with what was not committed
 * before it: SQLite goes back to a savepoint in memory, but to the last commit without any. Uploads
 * may be lost so, which is remembered; the client is made to send them again if they are missed. */
#define SAVEPOINT_MAX 50000

struct incoming {
    struct backupd *d;
    struct lcb *b;
    struct dlist_pool *pool;
    struct sync_header h;
    int records;            /* RECORD follows */
    struct lcb_folder m;    /* what we have under this UNIQUEID */
    int have;               /* it is there */
    int past;               /* it is not, but was */
    struct buf strings;
    const struct backupd_shown *shown;
    uint32_t base_uid;      /* LAST_UID of the state that the client's records are relative to */
    int full;               /* they are all */
    int doubted;            /* rule 8 */
    char *retired;          /* UNIQUEID that had the name */
    const struct message_guid *damaged; /* its content cannot be read */
    int begun;
    int disorder;           /* records came out of order */
    uint32_t prev;          /* UID of the last record */
    unsigned long logged;   /* records of this command that were logged */
    struct sync_record batch[BATCH];
    struct sync_record old;
    enum lcb_mark mark;     /* to set when the command is refused */
    const char *why;
};

static int refuse(struct incoming *in, enum lcb_mark mark, const char *why)
{
    in->mark = mark;
    in->why = why;
    return SYNC_CHECKSUM;
}

/* A part of a mailbox, as 3.0 and 3.2 send large ones: it goes up to the header's LAST_UID, and is
 * without checksums. */
static int is_part(const struct sync_header *h)
{
    return h->has_sync_crc && !h->sync_crc && !h->has_sync_crc_annot;
}

/* Two checksums of one state, as far as either side gives one. */
static int agree(uint32_t theirs, int has, uint32_t ours)
{
    return !theirs || !has || !ours || theirs == ours;
}

/* Is the state that SINCE_* names the one we have? 1, 0 or an error. */
static int same_base(struct incoming *in)
{
    const struct sync_header *h = &in->h;
    const struct lcb_folder *m = &in->m;
    struct sync_header ours;
    if (!in->have || m->mark != LCB_MARK_NONE || h->since_modseq != m->highestmodseq)
        return 0;
    struct dlist_pool *pool = dlist_pool_new(LCB_STORED_MAX);
    int r = sync_header_parsetext(&ours, pool, m->header, m->headerlen);
    dlist_pool_free(&pool);
    return r ? r : agree(h->since_crc, ours.has_sync_crc, ours.sync_crc) &&
                       agree(h->since_crc_annot, ours.has_sync_crc_annot, ours.sync_crc_annot);
}

/* Rules 3 and 8: relative to what was shown. */
static int check_shown(struct incoming *in)
{
    const struct backupd_shown *s = in->shown;
    const struct lcb_folder *m = &in->m;
    int here = s && in->have && !strcmp(s->userid, lcb_userid(in->b));
    if (!s || !s->listed) {
        in->full = 1;
        if (here)
            return backupd_shown_is(s, in->b, m->since) ? 0 : SYNC_CHECKSUM;
        /* not shown, because the client asked for another name, or because it is newer */
        int r = backupd_came_later(in->d, in->b, in->h.mboxname, in->h.uniqueid);
        return r > 0 ? SYNC_CHECKSUM : r;
    }
    in->base_uid = s->last_uid;
    in->full = !s->highestmodseq;
    if (!here || !backupd_shown_is(s, in->b, m->since) || m->mark == LCB_MARK_RESEND)
        return SYNC_CHECKSUM;
    in->doubted = !in->full && m->mark == LCB_MARK_DOUBT;
    return 0;
}

/* Rules 2 to 4, as far as the header tells. */
static int check_base(struct incoming *in)
{
    const struct sync_header *h = &in->h;
    const struct lcb_folder *m = &in->m;
    if (h->has_since) {
        int same = same_base(in);
        if (same <= 0)
            return same ? same : SYNC_CHANGED;
        in->base_uid = m->last_uid;
    } else {
        int r = check_shown(in);
        if (r)
            return r;
    }
    if (in->have && !in->full &&
        (h->highestmodseq < m->highestmodseq || h->last_uid < m->last_uid ||
         h->uidvalidity < m->uidvalidity))
        return refuse(in, LCB_MARK_RESEND, "is older on the master than here");
    return 0;
}

/* F, which has the name, has ended. */
static int retire(struct incoming *in, const struct lcb_folder *f)
{
    in->retired = xstrdup(f->uniqueid);
    xlog_info("%s: mailbox %s replaces %s: keeping the old one as deleted", f->mboxname,
              in->h.uniqueid, f->uniqueid);
    return backupd_log_end(in->b, in->pool, in->h.mboxname);
}

/* Rule 5. */
static int retire_occupant(struct incoming *in)
{
    struct lcb_folder f = {.id = 0};
    struct buf strings = BUF_INITIALIZER;
    int r = lcb_find_name(in->b, in->h.mboxname, &f, &strings);
    if (!r && strcmp(f.uniqueid, in->h.uniqueid)) {
        r = backupd_is_meant(in->d, in->b, &f);
        r = r > 0 ? retire(in, &f) : r ? r : SYNC_CHECKSUM;
    }
    buf_free(&strings);
    return r == XERR_NOTFOUND ? 0 : r;
}

static int begin_once(struct incoming *in)
{
    if (in->begun)
        return 0;
    in->begun = 1;
    int r = retire_occupant(in);
    return r ? r : lcb_log_mailbox_begin(in->b, &in->h);
}

/* 1 if the record is here already, live, and without its content: the master has none. */
static int known_missing(struct incoming *in, const struct sync_record *rec)
{
    if (!in->have || in->m.mark == LCB_MARK_RESEND || rec->uid > in->m.last_uid)
        return 0;
    int r = lcb_find_record(in->b, in->m.id, rec->uid, &in->old);
    return r ? (r == XERR_NOTFOUND ? 0 : r)
             : !in->old.expunged && message_guid_equal(&in->old.guid, &rec->guid);
}

/* 1 if uploads were taken to be for somebody else: the client never said that it works on this
 * mailbox. It has to ask, and to upload again. */
static int went_elsewhere(struct incoming *in)
{
    const char *owner = backupd_unit_owner(in->d);
    if (!owner || !strcmp(owner, lcb_userid(in->b)))
        return 0;
    in->d->lost_uploads = 1;
    return 1;
}

/* Rule 6: 0 if the record can be logged. */
static int need_content(struct incoming *in, const struct sync_record *rec)
{
    int r = rec->uid > in->base_uid ? lcb_check_content(in->b, &rec->guid)
                                    : lcb_has_content(in->b, &rec->guid, NULL);
    if (r == XERR_FORMAT) {
        in->damaged = &rec->guid;
        return refuse(in, LCB_MARK_CONTENT, "refers to content that cannot be read");
    }
    if (!r)
        r = backupd_staging_supply(in->d, in->b, &rec->guid);
    if (r)
        return r < 0 ? r : 0;
    backupd_still_there(in->d, in->b);
    if (in->d->lost_uploads)
        return refuse(in, LCB_MARK_RESEND, "refers to content that is not here");
    r = known_missing(in, rec);
    if (r)
        return r < 0 ? r : 0;
    if (rec->uid <= in->base_uid || went_elsewhere(in))
        return refuse(in, LCB_MARK_RESEND, "refers to content that is not here");
    xlog_warnx("%s: message %u was not sent by the master: its record is stored without content",
               in->h.mboxname, rec->uid);
    return 0;
}

/* Rules 4 and 6 for one record. */
static int check_record(struct incoming *in, const struct sync_record *rec)
{
    if (in->have && !in->full && rec->uid <= in->m.last_uid) {
        int r = lcb_find_record(in->b, in->m.id, rec->uid, &in->old);
        if (!r && !message_guid_equal(&in->old.guid, &rec->guid) &&
            !(in->old.expunged && rec->expunged))
            return refuse(in, LCB_MARK_RESEND, "has another content under the same UID");
        if (r && r != XERR_NOTFOUND)
            return r;
    }
    if (rec->expunged && backupd_spool_find(in->d->spool, &rec->guid, NULL) <= 0)
        return 0;
    return need_content(in, rec);
}

/* What lies between two UIDs of a complete list has been forgotten by the master. BEFORE 0: what lies
 * behind the last; of a part, only as far as it goes. */
static int expunge_between(struct incoming *in, uint32_t before)
{
    uint32_t uid;
    int r = 0;
    if (!in->full || !(in->have || in->past))
        return 0;
    if (!before && is_part(&in->h)) {
        before = in->h.last_uid + 1;
        if (before <= in->prev)
            return 0;
    }
    while (!r && (r = lcb_next_live(in->b, in->m.id, in->prev, before, &uid)) > 0) {
        r = lcb_find_record(in->b, in->m.id, uid, &in->old);
        in->old.expunged = 1;
        if (!r)
            r = lcb_log_mailbox_record(in->b, &in->old);
        in->logged++;
        in->prev = uid;
    }
    return r;
}

static int flush_batch(struct incoming *in, int count)
{
    int r = 0;
    for (int i = 0; !r && i < count; i++)
        r = check_record(in, &in->batch[i]);
    if (!r)
        r = begin_once(in);
    for (int i = 0; !r && i < count; i++) {
        const struct sync_record *rec = &in->batch[i];
        if (rec->uid > in->prev)
            r = expunge_between(in, rec->uid);
        if (!r)
            r = lcb_log_mailbox_record(in->b, rec);
        in->logged++;
        if (rec->uid > in->prev)
            in->prev = rec->uid;
    }
    return r;
}

/* A record that was unusually large has left large buffers. */
static void shrink_batch(struct incoming *in)
{
    const size_t keep = 4096;
    for (int i = 0; i < BATCH; i++) {
        buf_shrink(&in->batch[i].flags, keep);
        buf_shrink(&in->batch[i].annotations, keep);
        buf_shrink(&in->batch[i].extra, keep);
        buf_shrink(&in->batch[i].work, keep);
    }
}

static size_t text_of(const struct sync_record *rec)
{
    return rec->flags.len + rec->annotations.len + rec->extra.len;
}

static int apply_records(struct incoming *in)
{
    uint32_t last = 0;
    int count = 0, more = 0, r = 0;
    size_t text = 0;
    while (!r && (more = sync_mailbox_read_record(in->d->reader, &in->batch[count],
                                                  in->d->max_text)) > 0) {
        if (in->batch[count].uid <= last && !in->disorder++)
            xlog_warnx("%s: records out of order, or two of one UID: accepted as they come",
                       in->h.mboxname);
        last = in->batch[count].uid;
        text += text_of(&in->batch[count]);
        if (++count == BATCH || text >= BATCH_TEXT) {
            r = flush_batch(in, count);
            if (text >= BATCH_TEXT)
                shrink_batch(in);
            text = 0;
            count = 0;
        }
    }
    if (!r && more < 0)
        r = more;
    if (!r)
        r = flush_batch(in, count);
    return r ? r : expunge_between(in, 0);
}

/* An intermediate name has no records; if some come, they are read and forgotten. */
static int skip_records(struct incoming *in)
{
    int more, late;
    do
        more = sync_mailbox_read_record(in->d->reader, &in->old, in->d->max_text);
    while (more > 0);
    return more ? more : sync_mailbox_read_end(in->d->reader, in->pool, &in->h, &late);
}

/* Rule 7. */
static int check_crc(struct incoming *in, uint32_t crc)
{
    const struct sync_header *h = &in->h;
    if (in->doubted || !h->has_sync_crc || is_part(h))
        return 0;
    uint32_t differs = crc ^ h->sync_crc;
    uint32_t differed = in->have && in->m.has_sync_crc ? in->m.crc ^ in->m.sync_crc : 0;
    if (in->full) {
        if (differs)
            xlog_errorx("SYNCERROR: %s: checksum of all records is %u here and %u on the master: "
                        "accepted", h->mboxname, crc, h->sync_crc);
        return 0;
    }
    return differs == differed ? 0
                               : refuse(in, LCB_MARK_DOUBT, "has another checksum than here");
}

/* All records were sent: no reason for a mark is left, but that content is missing which the client was
 * not asked for, because that was found out after the mailbox was shown. */
static int clear_mark(struct incoming *in)
{
    int r = 0;
    if (!in->full || !(in->have || in->past) || in->m.mark == LCB_MARK_NONE)
        return 0;
    if (in->m.mark == LCB_MARK_CONTENT)
        r = lcb_lacks_content(in->b, in->m.id, in->base_uid);
    return r ? (r < 0 ? r : 0) : lcb_setmark(in->b, in->h.uniqueid, LCB_MARK_NONE);
}

static int apply_under_savepoint(struct incoming *in)
{
    uint32_t crc = 0;
    int late = 0;
    int r = apply_records(in);
    if (!r)
        r = sync_mailbox_read_end(in->d->reader, in->pool, &in->h, &late);
    if (!r)
        r = backupd_at_end(in->d);
    if (!r)
        r = lcb_log_mailbox_end(in->b, &crc);
    if (!r && late) { /* once more with the whole header */
        r = lcb_log_mailbox_begin(in->b, &in->h);
        if (!r)
            r = lcb_log_mailbox_end(in->b, &crc);
    }
    if (!r)
        r = check_crc(in, crc);
    return r ? r : clear_mark(in);
}

static int roll_back(struct incoming *in)
{
    if (in->logged <= SAVEPOINT_MAX)
        return lcb_savepoint_rollback(in->b);
    in->d->lost_uploads = 1;
    return lcb_rollback(in->b);
}

/* Whoever is marked A sends all that B asks for, and more. */
static int asks_more(enum lcb_mark a, enum lcb_mark b)
{
    return b != LCB_MARK_NONE && ((a == LCB_MARK_RESEND && b != LCB_MARK_RESEND) ||
                                  (a == LCB_MARK_CONTENT && b == LCB_MARK_DOUBT));
}

/* Nothing of the command stays; the mark does. */
static int undo(struct incoming *in, int r)
{
    if (roll_back(in)) {
        backupd_undo(in->d, in->b);
        return r;
    }
    if (r != SYNC_CHECKSUM)
        return r;
    if (in->have && asks_more(in->m.mark, in->mark))
        in->mark = in->m.mark;
    if (in->why)
        xlog_warnx("%s: %s: asking the master for %s", in->h.mboxname, in->why,
                   in->mark == LCB_MARK_RESEND    ? "all of it"
                   : in->mark == LCB_MARK_CONTENT ? "all records and what content is missing"
                                                  : "all records");
    int e = in->damaged ? lcb_forget_content(in->b, in->damaged) : 0;
    if (in->damaged) /* whatever was in that chunk, the client may have been told that it is here */
        in->d->lost_uploads = 1;
    if (!e && in->mark != LCB_MARK_NONE && in->have)
        e = lcb_setmark(in->b, in->h.uniqueid, in->mark);
    if (!e && (in->damaged || in->mark != LCB_MARK_NONE))
        e = lcb_commit(in->b);
    if (e)
        backupd_undo(in->d, in->b);
    return e ? e : r;
}

/* What we have under this UNIQUEID is now what the client told us, and what it believes, whatever
 * mark is left. */
static void show_result(struct incoming *in)
{
    struct lcb_folder f = {.id = 0};
    struct buf strings = BUF_INITIALIZER;
    if (!lcb_find_uniqueid(in->b, in->h.uniqueid, &f, &strings)) {
        f.mark = LCB_MARK_NONE;
        backupd_show(in->d, in->b, &f, 1);
    }
    buf_free(&strings);
}

static int find_mailbox(struct incoming *in)
{
    int r = lcb_find_uniqueid(in->b, in->h.uniqueid, &in->m, &in->strings);
    in->have = !r;
    if (r != XERR_NOTFOUND)
        return r;
    r = lcb_find_last(in->b, in->h.uniqueid, &in->m, &in->strings);
    in->past = !r;
    return r == XERR_NOTFOUND ? 0 : r;
}

static int apply(struct incoming *in)
{
    struct buf userid = BUF_INITIALIZER;
    int r = backupd_owner_of(in->d, in->h.mboxname, &userid);
    if (!r)
        r = backupd_backup(in->d, buf_cstring(&userid), 1, &in->b);
    buf_free(&userid);
    if (r)
        return r;
    r = find_mailbox(in);
    if (r)
        return r;
    in->shown = backupd_shown(in->d, in->h.uniqueid, in->h.mboxname);
    r = backupd_savepoint(in->d, in->b);
    if (r)
        return r;
    r = check_base(in);
    if (!r)
        r = apply_under_savepoint(in);
    if (r)
        return undo(in, r);
    r = lcb_savepoint_release(in->b);
    if (!r)
        r = lcb_commit(in->b);
    if (r) {
        backupd_undo(in->d, in->b);
        return r;
    }
    show_result(in);
    if (in->retired)
        lcb_report_replaced(in->b, in->h.mboxname, in->retired, in->h.uniqueid);
    return 0;
}

int backupd_apply_mailbox(struct backupd *d)
{
    struct incoming *in = xzmalloc(sizeof(*in));
    in->d = d;
    in->pool = dlist_pool_new(d->max_text);
    int r = sync_mailbox_read_header(d->reader, in->pool, &in->h, &in->records);
    if (!r && in->h.intermediate)
        r = in->records ? skip_records(in) : 0;
    else if (!r)
        r = in->records ? apply(in) : XERR_PARAM;
    for (int i = 0; i < BATCH; i++)
        sync_record_fini(&in->batch[i]);
    sync_record_fini(&in->old);
    buf_free(&in->strings);
    free(in->retired);
    dlist_pool_free(&in->pool);
    free(in);
    return r;
}
