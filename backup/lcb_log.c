/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_log - writing to a backup: each change is a line in the data file and rows in the index.
 *
 * A line is printed into the open chunk and applied to the index with the same values. The index has
 * had a transaction open since the first line; nothing of it is visible to others before
 * lcb_commit. That writes and syncs the data file, then commits the index with its mark moved. If
 * the data file cannot be written or synced, both are taken back to the last commit; a failed sync
 * is never tried again, because the kernel may have dropped the pages it could not write.
 *
 * MAILBOX. However many records one command carries, they are logged as lines of LCB_MAILBOX_LINE
 * bytes or a little more, each with the whole header, so that every line means the same by itself. A
 * line is begun when there is something to say: a record that is new, or, at the end, a header that
 * is. So a mailbox sent again unchanged leaves no trace. */
#include "config.h"

#include <string.h>

#include "backup/lcb_int.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

/* Of mailboxes that have annotations of their own; others take a few hundred bytes. */
#define HEADER_KEEP (64u << 10)

static int ready(struct lcb *b)
{
    if (b->broken)
        return XERR_BROKEN;
    if (!b->writable)
        return XERR_DENIED;
    return lcb_index_begin(b->index);
}

int lcb_dirty(const struct lcb *b)
{
    return b->writable && lcb_datafile_dirty(&b->df);
}

int lcb_rollback(struct lcb *b)
{
    int r = 0, was_broken = b->broken;
    if (!b->writable)
        return 0;
    b->mb.open = 0;
    b->savepoint = 0;
    lcb_datafile_savepoint_release(&b->df);
    if (lcb_datafile_dirty(&b->df))
        r = lcb_datafile_rollback(&b->df);
    if (lcb_index_rollback(b->index) && !r)
        r = XERR_SQL;
    if (r) {
        b->broken = 1;
        xlog_errorx("%s: cannot undo what was not committed (%s): not used before it is opened"
                    " again", b->path, error_message(r));
    }
    return r || !was_broken ? r : XERR_BROKEN; /* undone then or not, nobody knows */
}

static int commit_index(struct lcb *b)
{
    struct lcb_mark_point p = {
        .id = b->df.id,
        .end = b->df.end,
        .last_offset = b->df.last_member,
        .seq = (int64_t)b->df.seq - 1,
        .last_time = b->df.last_time,
        .check = lcb_check_end(b->vfs, b->fd, b->df.end),
    };
    int r = lcb_index_setpoint(b->index, &p);
    return r ? r : lcb_index_commit(b->index);
}

/* The data file is durable, the index said no: the commit must not have happened at all, since the
 * client is told so. */
static int take_back(struct lcb *b, off_t end)
{
    int r = vfs_ftruncate(b->vfs, b->fd, end);
    if (!r)
        r = vfs_fdatasync(b->vfs, b->fd);
    lcb_index_rollback(b->index);
    b->broken = 1;
    xlog_errorx("%s: the index cannot be committed: %s", b->path,
                r ? "and the data file not taken back" : "the data file was taken back");
    return XERR_SQL;
}

int lcb_commit(struct lcb *b)
{
    if (b->broken)
        return XERR_BROKEN;
    if (!b->writable)
        return 0;
    if (!lcb_datafile_dirty(&b->df))
        return lcb_index_commit(b->index);
    off_t end = b->df.commit.end;
    int r = lcb_datafile_commit(&b->df);
    if (r) {
        xlog_errorx("%s: cannot write: %s", b->path, error_message(r));
        lcb_rollback(b);
        return r;
    }
    return commit_index(b) ? take_back(b, end) : 0;
}

int lcb_savepoint(struct lcb *b)
{
    int r = ready(b);
    if (!r && lcb_index_outgrown(b->index) && !(r = lcb_commit(b))) {
        b->index->no_wal = 1;
        r = ready(b);
    }
    if (!r)
        r = sqldb_run(b->index->db, "SAVEPOINT cmd", NULL);
    if (!r)
        lcb_datafile_savepoint(&b->df);
    b->savepoint = !r;
    return r;
}

int lcb_savepoint_release(struct lcb *b)
{
    b->savepoint = 0;
    lcb_datafile_savepoint_release(&b->df);
    return sqldb_run(b->index->db, "RELEASE cmd", NULL);
}

int lcb_savepoint_rollback(struct lcb *b)
{
    b->mb.open = 0;
    b->savepoint = 0;
    int r = lcb_datafile_savepoint_rollback(&b->df);
    int s = sqldb_exec(b->index->db, "ROLLBACK TO cmd; RELEASE cmd");
    lcb_index_findtick(b->index);
    r = r ? r : s;
    if (r)
        b->broken = 1;
    return r;
}

static int mailbox_line_begin(struct lcb *b)
{
    int r = lcb_datafile_begin(&b->df, "MAILBOX", b->mb.header.len + 4096, &b->mb.time, &b->mb.pos);
    if (r)
        return r;
    buf_appendmap(&b->df.text, "%(", 2);
    buf_append(&b->df.text, &b->mb.header);
    buf_appendmap(&b->df.text, " RECORD (", 9);
    b->mb.open = 1;
    b->mb.records = 0;
    b->mb.literal = b->mb.header_literal;
    b->mb.start = b->df.text.len;
    return lcb_apply_tick(b->index, b->mb.pos, b->mb.time);
}

static int mailbox_line_end(struct lcb *b)
{
    b->mb.open = 0;
    buf_appendmap(&b->df.text, "))", 2);
    return lcb_datafile_end(&b->df, b->mb.literal);
}

int lcb_log_message(struct lcb *b, const char *partition, const struct message_guid *guid,
                    uint64_t size, const void *p, int fd, uint64_t at)
{
    struct buf head = BUF_INITIALIZER;
    char hex[41];
    int64_t time, pos;
    uint64_t start;
    int r = ready(b);
    if (r)
        return r;
    if (b->mb.open && (r = mailbox_line_end(b)))
        return r;
    message_guid_encode(guid, hex);
    buf_appendcstr(&head, "(%{");
    dlist_printastring(partition, strlen(partition), &head, 0);
    buf_printf(&head, " %s %llu}\r\n", hex, (unsigned long long)size);
    if (p) {
        r = lcb_datafile_begin(&b->df, "MESSAGE", head.len + size + 64, &time, &pos);
        if (!r) {
            buf_append(&b->df.text, &head);
            start = b->df.text.len;
            buf_appendmap(&b->df.text, p, size);
            buf_putc(&b->df.text, ')');
            r = lcb_datafile_end(&b->df, 0);
        }
    } else {
        r = lcb_datafile_stream(&b->df, "MESSAGE", &head, fd, at, size, ")", &time, &pos, &start);
    }
    buf_free(&head);
    if (!r)
        r = lcb_apply_tick(b->index, pos, time);
    return r ? r : lcb_apply_message(b->index, guid, LCB_POS_SEQ(pos), start, size);
}

int lcb_log_mailbox_begin(struct lcb *b, const struct sync_header *h)
{
    int r = ready(b);
    if (r)
        return r;
    buf_reset(&b->mb.header);
    b->mb.header_literal = sync_header_print(h, &b->mb.header);
    b->mb.open = 0;
    r = lcb_apply_header_differs(b->index, h, &b->mb.header);
    if (r < 0)
        return r;
    /* The rows want a position before it is known whether there will be a line; if there will be
     * none, nothing in them uses it. */
    if (r) {
        r = mailbox_line_begin(b);
        if (r)
            return r;
    }
    return lcb_apply_mailbox_begin(b->index, b->mb.pos, h, &b->mb.header);
}

int lcb_log_mailbox_record(struct lcb *b, const struct sync_record *rec)
{
    int r = 0;
    if (!b->mb.open) {
        r = lcb_apply_mailbox_differs(b->index, rec);
        if (r <= 0)
            return r;
        r = mailbox_line_begin(b);
    }
    if (!r)
        r = lcb_apply_mailbox_record(b->index, b->mb.pos, rec);
    if (r <= 0)
        return r;
    if (b->mb.records++)
        buf_putc(&b->df.text, ' ');
    sync_record_print(rec, &b->df.text);
    b->mb.literal |= rec->literal;
    return b->df.text.len - b->mb.start >= LCB_MAILBOX_LINE ? mailbox_line_end(b) : 0;
}

int lcb_log_mailbox_end(struct lcb *b, uint32_t *crc)
{
    int r = b->mb.open ? mailbox_line_end(b) : 0;
    buf_shrink(&b->mb.header, HEADER_KEEP);
    return r ? r : lcb_apply_mailbox_end(b->index, crc);
}

/* A line that changes nothing is taken out again: clients repeat themselves. */
int lcb_log_dlist(struct lcb *b, const char *verb, const struct dlist *value)
{
    int64_t time, pos;
    int r = ready(b);
    if (!r)
        r = lcb_datafile_begin(&b->df, verb, 4096, &time, &pos);
    if (r)
        return r;
    int changes = sqlite3_total_changes(b->index->db->db);
    r = lcb_apply_dlist(b->index, pos, verb, value);
    if (r || sqlite3_total_changes(b->index->db->db) == changes) {
        lcb_datafile_cancel(&b->df);
        return r;
    }
    int literal = dlist_printval(value, &b->df.text, 0);
    r = lcb_datafile_end(&b->df, literal);
    return r ? r : lcb_apply_tick(b->index, pos, time);
}

/* Cyrus 3.x' verify wants to find each mailbox, as its index has it, in the line that spoke of it
 * last, and does not count RENAME as such: so the new header follows. */
int lcb_log_rename(struct lcb *b, const struct dlist *value)
{
    const char *name;
    struct lcb_folder f = {.id = 0};
    struct buf strings = BUF_INITIALIZER;
    if (!dlist_getatom(value, "NEWMBOXNAME", &name) || !name)
        return XERR_PARAM;
    int r = lcb_log_dlist(b, "RENAME", value);
    if (!r)
        r = lcb_find_name(b, name, &f, &strings);
    if (!r) {
        buf_setmap(&b->mb.header, f.header, f.headerlen);
        b->mb.header_literal = memchr(f.header, '\n', f.headerlen) != NULL;
        r = mailbox_line_begin(b);
    }
    if (!r)
        r = mailbox_line_end(b);
    buf_shrink(&b->mb.header, HEADER_KEEP);
    buf_free(&strings);
    return r == XERR_NOTFOUND ? 0 : r;
}

int lcb_setmark(struct lcb *b, const char *uniqueid, enum lcb_mark mark)
{
    int pending = lcb_dirty(b) || b->savepoint;
    int r = ready(b);
    if (!r)
        r = sqldb_run(b->index->db, "UPDATE folders SET mark=?1 WHERE uniqueid=?2 AND mark<>?1",
                      "it", (int64_t)mark, uniqueid);
    return r || pending ? r : lcb_index_commit(b->index);
}

/* As Cyrus 3.x logged each question whether a message is here. */
int lcb_log_nothing(struct lcb *b)
{
    int64_t time, pos;
    int r = ready(b);
    if (!r)
        r = lcb_datafile_begin(&b->df, "RESERVE", 128, &time, &pos);
    if (r)
        return r;
    buf_appendcstr(&b->df.text, "%(PARTITION default MBOXNAME () GUID ())");
    r = lcb_datafile_end(&b->df, 0);
    return r ? r : lcb_apply_tick(b->index, pos, time);
}
