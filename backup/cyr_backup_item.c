/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_item - from the words of the command line to things in the backup. */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "backup/cyr_backup.h"
#include "lib/output.h"
#include "lib/xerr.h"

void cyr_backup_say(const struct cyr_backup *cb, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s: ", cb->name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
}

void cyr_backup_bad_item(struct cyr_backup *cb, const char *item, int r)
{
    cyr_backup_say(cb, "%s: %s", item, error_message(r));
    cb->failed = 1;
}

void cyr_backup_left_out(const struct cyr_backup *cb, const char *item)
{
    if (cb->verbose)
        cyr_backup_say(cb, "%s: not in this backup", item);
}

int cyr_backup_printed(void)
{
    if (!ferror(stdout))
        return 0;
    return errno > 0 ? -errno : -EIO;
}

struct search {
    const char *item;
    struct lcb_folder *found;
    struct buf *strings;
    int count;
};

/* The strings of a folder live as long as the call: keep those of the best one yet. */
static int consider_gone(void *rock, const struct lcb_folder *f)
{
    struct search *s = rock;
    if (!f->deleted || (strcmp(f->uniqueid, s->item) && strcmp(f->mboxname, s->item)))
        return 0;
    if (s->count && (f->deleted < s->found->deleted ||
                     (f->deleted == s->found->deleted && f->id < s->found->id)))
        return 0;
    s->count = 1;
    *s->found = *f;
    buf_setmap(s->strings, f->uniqueid, strlen(f->uniqueid) + 1);
    size_t name = s->strings->len;
    buf_appendmap(s->strings, f->mboxname, strlen(f->mboxname) + 1);
    size_t header = s->strings->len;
    buf_appendmap(s->strings, f->header, f->headerlen);
    s->found->uniqueid = buf_cstring(s->strings);
    s->found->mboxname = s->found->uniqueid + name;
    s->found->header = s->found->uniqueid + header;
    return 0;
}

static int find_gone(struct cyr_backup *cb, const char *item, struct lcb_folder *f,
                     struct buf *strings)
{
    struct search s = {item, f, strings, 0};
    int r = lcb_foreach_folder(cb->backup, cb->at, 1, consider_gone, &s);
    return r ? r : s.count ? 0 : XERR_NOTFOUND;
}

static int find_there(struct cyr_backup *cb, const char *item, struct lcb_folder *f,
                      struct buf *strings)
{
    int r = lcb_find_uniqueid_at(cb->backup, cb->at, item, f, strings);
    if (r == XERR_NOTFOUND)
        r = lcb_find_name_at(cb->backup, cb->at, item, f, strings);
    return r == XERR_NOTFOUND ? find_gone(cb, item, f, strings) : r;
}

static int find_former(struct cyr_backup *cb, const char *item, struct lcb_folder *f,
                       struct buf *strings)
{
    return lcb_find_former(cb->backup, cb->at, item, f, strings);
}

/* By the name as it is given, and then as an administrator may have meant it. */
static int find_mailbox(struct cyr_backup *cb, const char *item, struct lcb_folder *f,
                        struct buf *strings,
                        int (*find)(struct cyr_backup *, const char *, struct lcb_folder *,
                                    struct buf *))
{
    int r = find(cb, item, f, strings);
    if (r == XERR_NOTFOUND) {
        struct buf name = BUF_INITIALIZER;
        mboxname_from_external(lcb_store_names(cb->store), item, &name);
        if (strcmp(buf_cstring(&name), item))
            r = find(cb, buf_cstring(&name), f, strings);
        buf_free(&name);
    }
    return r;
}

int cyr_backup_find_mailbox(struct cyr_backup *cb, const char *item, struct lcb_folder *f,
                            struct buf *strings)
{
    return find_mailbox(cb, item, f, strings, find_there);
}

int cyr_backup_find_former(struct cyr_backup *cb, const char *item, struct lcb_folder *f,
                           struct buf *strings)
{
    int r = cyr_backup_find_mailbox(cb, item, f, strings);
    return r == XERR_NOTFOUND ? find_mailbox(cb, item, f, strings, find_former) : r;
}

static int found(void *rock, const char *uniqueid, const char *mboxname)
{
    (void)rock, (void)uniqueid, (void)mboxname;
    return 1;
}

int cyr_backup_find_message(struct cyr_backup *cb, const char *item, struct message_guid *guid)
{
    if (message_guid_decode(guid, item, strlen(item)))
        return XERR_NOTFOUND;
    int r = lcb_has_content(cb->backup, guid, NULL);
    if (r == 1 && cb->at != LCB_NOW)
        r = lcb_content_folders(cb->backup, guid, cb->at, found, NULL);
    return r < 0 ? r : r ? 0 : XERR_NOTFOUND;
}

int cyr_backup_find_told(struct cyr_backup *cb, const char *item, struct message_guid *guid)
{
    int r = cyr_backup_find_message(cb, item, guid);
    if (r != XERR_NOTFOUND || message_guid_decode(guid, item, strlen(item)))
        return r;
    r = lcb_content_folders(cb->backup, guid, LCB_NOW, found, NULL);
    return r < 0 ? r : r ? 0 : XERR_NOTFOUND;
}

/* A header ends before the first empty line. Lines end in CRLF, but an odd message has LF alone. */
struct header {
    int (*fn)(void *rock, const void *p, size_t n);
    void *rock;
    int filled; /* the line is not empty */
    int cr;     /* it began with a CR, which is held back */
    int r;
};

static void header_piece(struct header *h, const char *p, const char *end)
{
    if (!h->r && end > p)
        h->r = h->fn(h->rock, p, (size_t)(end - p));
}

/* Ends the reading (1) at the empty line. */
static int header_bytes(void *rock, const void *p, size_t n)
{
    static const char cr[] = "\r";
    struct header *h = rock;
    const char *from = p, *s = from, *end = from + n;
    for (; s < end; s++) {
        if (!h->filled && *s == '\n')
            break;
        if (!h->filled && !h->cr && *s == '\r') {
            header_piece(h, from, s);
            from = s + 1;
            h->cr = 1;
            continue;
        }
        if (h->cr)
            header_piece(h, cr, cr + 1);
        h->cr = 0;
        h->filled = *s != '\n';
    }
    header_piece(h, from, s);
    return h->r || s < end;
}

int cyr_backup_read_header(struct cyr_backup *cb, const struct message_guid *guid,
                           int (*fn)(void *rock, const void *p, size_t n), void *rock)
{
    struct header h = {.fn = fn, .rock = rock};
    int r = lcb_read_content(cb->backup, guid, header_bytes, &h);
    return h.r ? h.r : r < 0 ? r : 0;
}

int64_t cyr_backup_chunk_number(const char *item)
{
    uint64_t n;
    return dlist_parsenum(item, strlen(item), &n) && n <= INT64_MAX ? (int64_t)n : -1;
}

int64_t cyr_backup_appended(const struct lcb_folder *f, struct dlist_pool *pool)
{
    struct sync_header h;
    dlist_pool_reset(pool);
    return sync_header_parsetext(&h, pool, f->header, f->headerlen) ? 0 : h.last_appenddate;
}
