/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_content - content that should be here and is not: finding out, forgetting it, and the marks
 * that make the client send it again.
 *
 * Marks. LCB_MARK_CONTENT is for a mailbox whose records are good and that lacks content. It is
 * listed with a LAST_UID below the first message that lacks it, and with HIGHESTMODSEQ 0. Then the
 * client asks of every message above (RESERVE) whether it is here, uploads what is not, and sends
 * all records. So a lost message costs its own bytes and one list, even if the mailbox is the only
 * one.
 *
 * All the messages of a damaged chunk are found by reading all of table contents. An index over
 * the chunk would cost 10 bytes for each message for ever, and damage is rare. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

/* Was SEQ read before, and good? With SET, it is from now on. */
static int known_whole(struct lcb *b, int64_t seq, int set)
{
    const int64_t most = (int64_t)1 << 26; /* 8 MiB of bits; a file may have any numbers */
    size_t at = (size_t)seq / 8, have = b->whole.len;
    unsigned char bit = (unsigned char)(1u << (seq % 8));
    if (seq >= most)
        return 0;
    if (at >= have) {
        if (!set)
            return 0;
        memset(buf_ensure(&b->whole, at + 1 - have), 0, at + 1 - have);
        b->whole.len = at + 1;
    }
    if (set)
        b->whole.s[at] = (char)((unsigned char)b->whole.s[at] | bit);
    return (unsigned char)b->whole.s[at] & bit;
}

static int ignore_piece(void *rock, const void *p, size_t n)
{
    (void)rock;
    (void)p;
    (void)n;
    return 0;
}

/* The chunk that holds GUID: XERR_NOTFOUND. */
static int chunk_of(struct lcb *b, const struct message_guid *guid, int64_t *seq)
{
    return sqldb_int(b->index->db, seq,
                     "SELECT chunk FROM contents WHERE guid=? AND chunk IS NOT NULL", "b",
                     guid->value, (size_t)MESSAGE_GUID_LEN);
}

int lcb_check_content(struct lcb *b, const struct message_guid *guid)
{
    int64_t seq;
    int r = chunk_of(b, guid, &seq);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    if ((b->writable && seq >= b->first_own) || known_whole(b, seq, 0))
        return 1; /* perhaps not even written as yet */
    r = lcb_read_chunk(b, seq, ignore_piece, NULL);
    if (!r)
        known_whole(b, seq, 1);
    return !r ? 1 : r == XERR_NOTFOUND || r == XERR_EOF || r == -EIO ? XERR_FORMAT : r;
}

int lcb_forget_content(struct lcb *b, const struct message_guid *guid)
{
    int64_t seq;
    int pending = lcb_dirty(b) || b->savepoint;
    int r = chunk_of(b, guid, &seq);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    xlog_errorx("%s: chunk %lld is damaged: what was in it will be asked for again", b->path,
                (long long)seq);
    r = lcb_index_begin(b->index);
    if (!r)
        r = sqldb_run(b->index->db, "UPDATE folders SET mark=?1 WHERE mark<>?2 AND id IN (SELECT"
                      " r.folder FROM records r JOIN contents c ON c.id=r.content WHERE c.chunk=?3"
                      " AND r.until IS NULL AND r.expunged=0)", "iii", (int64_t)LCB_MARK_CONTENT,
                      (int64_t)LCB_MARK_RESEND, seq);
    if (!r)
        r = sqldb_run(b->index->db, "UPDATE contents SET chunk=NULL WHERE chunk=?", "i", seq);
    if (!r)
        r = lcb_index_setforgot(b->index);
    return r || pending ? r : lcb_index_commit(b->index);
}

int lcb_content_floor(struct lcb *b, const struct lcb_folder *f, uint32_t *last_uid)
{
    int64_t uid;
    *last_uid = 0;
    if (!f->has_sync_crc || f->crc != f->sync_crc)
        return 0; /* there may be records that are not known */
    int r = sqldb_int(b->index->db, &uid, "SELECT min(r.uid) FROM records r JOIN contents c ON"
                      " c.id=r.content WHERE r.folder=? AND r.until IS NULL AND r.expunged=0 AND"
                      " c.chunk IS NULL", "i", f->id);
    if (!r)
        *last_uid = (uint32_t)uid - 1;
    else if (r == XERR_NOTFOUND)
        *last_uid = f->last_uid;
    return r == XERR_NOTFOUND ? 0 : r;
}

int lcb_lacks_content(struct lcb *b, int64_t folder, uint32_t last_uid)
{
    int64_t uid;
    int r = sqldb_int(b->index->db, &uid, "SELECT r.uid FROM records r JOIN contents c ON"
                      " c.id=r.content WHERE r.folder=? AND r.until IS NULL AND r.expunged=0 AND"
                      " r.uid<=? AND c.chunk IS NULL LIMIT 1", "ii", folder, (int64_t)last_uid);
    return r ? (r == XERR_NOTFOUND ? 0 : r) : 1;
}

int lcb_marks_waiting(struct lcb_index *ix, int64_t *n)
{
    return sqldb_int(ix->db, n,
                     "SELECT count(*) FROM folders f JOIN folder_states t ON t.folder=f.id AND"
                     " t.until IS NULL JOIN records r ON r.folder=f.id AND r.until IS NULL AND"
                     " r.expunged=0 JOIN contents c ON c.id=r.content AND c.chunk IS NULL"
                     " WHERE f.mark IN (?,?)", "ii", (int64_t)LCB_MARK_CONTENT,
                     (int64_t)LCB_MARK_RESEND);
}

/* What the data file can tell of marks, which are not in it. A mailbox whose records do not have
 * the client's checksum may have been marked for that. (If the difference had been accepted, its
 * records are sent once more.) Where something was lost, they may lack content, too, and so may
 * those whose client gave no checksum. Other marks come back by themselves, when the client repeats
 * what was refused. */
int lcb_marks_set(struct lcb_index *ix, int64_t from, int lost)
{
    static const char differs[] =
        "UPDATE folders SET mark=?1 WHERE mark=0 AND id IN (SELECT f.id FROM folders f"
        " JOIN folder_states s ON s.folder=f.id AND s.until IS NULL WHERE s.since>=?2"
        " AND s.sync_crc<>f.crc)";
    static const char lacks[] =
        "UPDATE folders SET mark=?1 WHERE mark<>?2 AND EXISTS (SELECT 1 FROM folder_states s WHERE"
        " s.folder=folders.id AND s.until IS NULL AND (s.sync_crc IS NULL OR s.sync_crc<>crc OR EXISTS"
        " (SELECT 1 FROM records r JOIN contents c ON c.id=r.content WHERE r.folder=folders.id AND"
        " r.until IS NULL AND r.expunged=0 AND c.chunk IS NULL)))";
    return lost ? sqldb_run(ix->db, lacks, "ii", (int64_t)LCB_MARK_CONTENT, (int64_t)LCB_MARK_RESEND)
                : sqldb_run(ix->db, differs, "ii", (int64_t)LCB_MARK_DOUBT, from);
}
