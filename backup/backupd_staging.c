/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_staging - RESERVE and MESSAGE: content on its way into a backup.
 *
 * An upload names neither user nor mailbox. If the unit has one owner, content goes straight into
 * the open chunk of his backup. If it has several, or none is known, content goes into a spool file
 * under backup_staging_path, one file without a name for all of it, and from there into the backup
 * of whoever's MAILBOX line names it. So nobody's mail ever enters another user's file.
 *
 * Content is hashed before it is written to a backup. What fits is read into memory; larger messages
 * are read into the spool while they are hashed.
 *
 * RESERVE says "have" only for what is in the backup of the unit's only owner or waits in the
 * spool; everything else is called missing, which costs bandwidth and nothing else. The mailboxes it
 * names are the client's own list of what we have. Their owners count, too: a client with a cache
 * does not ask about what it remembers, and this is the first we hear of it. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/backupd_int.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* Above this a message is not held in memory. */
#define MEMORY_MAX (1536u << 10)
/* Bytes of an answer to RESERVE; clients ask for 8193 hashes at most. */
#define MISSING_MAX (4u << 20)

/* 1 if the unit has this content already. */
static int have(struct backupd *d, struct lcb *b, const struct message_guid *guid)
{
    return b ? lcb_has_content(b, guid, NULL) : backupd_spool_find(d->spool, guid, NULL);
}

/* The backup of the only owner to *B, or NULL if there is no such thing yet. */
static int sole_backup(struct backupd *d, int create, struct lcb **b)
{
    const char *owner = backupd_unit_owner(d);
    *b = NULL;
    int r = owner ? backupd_backup(d, owner, create, b) : 0;
    if (!r && *b)
        backupd_rely_on(d, *b);
    return r == XERR_NOTFOUND && !create ? 0 : r;
}

/* One hash of RESERVE; if it is missing, it goes to d->text. */
static int reserve_one(struct backupd *d, struct lcb *b)
{
    struct message_guid guid;
    char hex[2 * MESSAGE_GUID_LEN + 1];
    int r = dlist_reader_astring(d->reader, &d->body, 2 * MESSAGE_GUID_LEN);
    if (r)
        return r;
    if (message_guid_decode(&guid, buf_cstring(&d->body), d->body.len))
        return XERR_PARAM;
    r = have(d, b, &guid);
    if (r)
        return r < 0 ? r : 0;
    message_guid_encode(&guid, hex);
    buf_printf(&d->text, "%s%s", d->text.len ? " " : "", hex);
    return d->text.len < MISSING_MAX ? 0 : XERR_TOOBIG;
}

static int reserve_list(struct backupd *d, struct lcb *b)
{
    int more = 0;
    int r = dlist_reader_enter(d->reader, 0);
    while (!r && (more = dlist_reader_more(d->reader)) > 0)
        r = reserve_one(d, b);
    return r ? r : more;
}

/* Owners of the mailboxes that RESERVE names. */
static int reserve_owners(struct backupd *d)
{
    struct buf userid = BUF_INITIALIZER;
    int more = 0;
    int r = dlist_reader_enter(d->reader, 0);
    while (!r && (more = dlist_reader_more(d->reader)) > 0) {
        r = dlist_reader_astring(d->reader, &d->body, d->max_text);
        if (!r && !backupd_owner_of(d, buf_cstring(&d->body), &userid))
            backupd_unit_addowner(d, buf_cstring(&userid));
    }
    buf_free(&userid);
    return r ? r : more;
}

/* The keys in the order of every client: MBOXNAME stands before GUID. */
static int reserve_keys(struct backupd *d)
{
    struct buf key = BUF_INITIALIZER;
    struct lcb *b;
    int more = 0, found = 0;
    int r = dlist_reader_enter(d->reader, 1);
    while (!r && (more = dlist_reader_more(d->reader)) > 0) {
        r = dlist_reader_key(d->reader, &key);
        if (!r && !strcmp(buf_cstring(&key), "MBOXNAME") && dlist_reader_peek(d->reader) == '(') {
            r = reserve_owners(d);
        } else if (!r && !found && !strcmp(buf_cstring(&key), "GUID")) {
            found = 1;
            r = sole_backup(d, 0, &b);
            if (!r)
                r = reserve_list(d, b);
        } else if (!r) {
            r = dlist_reader_skip(d->reader);
        }
    }
    buf_free(&key);
    return r ? r : more < 0 ? more : found ? 0 : XERR_PARAM;
}

int backupd_staging_reserve(struct backupd *d)
{
    buf_reset(&d->text);
    int r = reserve_keys(d);
    if (!r && d->text.len) {
        prot_puts(d->out, "* MISSING (");
        prot_write(d->out, d->text.s, d->text.len);
        prot_puts(d->out, ")\r\n");
    }
    return r;
}

/* The rest of the body is of no use. */
static int skip_body(struct backupd *d)
{
    char piece[16 << 10];
    ssize_t n;
    while ((n = dlist_reader_body(d->reader, piece, sizeof(piece))) > 0)
        ;
    return (int)n;
}

static int read_to_memory(struct backupd *d, uint64_t size)
{
    size_t got = 0;
    buf_reset(&d->body);
    char *p = buf_ensure(&d->body, (size_t)size);
    while (got < size) {
        ssize_t n = dlist_reader_body(d->reader, p + got, (size_t)size - got);
        if (n <= 0)
            return n < 0 ? (int)n : XERR_EOF;
        got += (size_t)n;
    }
    d->body.len = got;
    dlist_reader_filedone(d->reader);
    return 0;
}

/* Body behind what the spool keeps, hashed on the way. */
static int read_to_spool(struct backupd *d, uint64_t size, unsigned char digest[SHA1_LEN])
{
    const size_t step = 256 << 10;
    uint64_t done = 0;
    struct sha1 *sha = sha1_new();
    int r = 0;
    buf_reset(&d->body);
    char *p = buf_ensure(&d->body, step);
    while (!r && done < size) {
        ssize_t n = dlist_reader_body(d->reader, p, step);
        if (n <= 0) {
            r = n < 0 ? (int)n : XERR_EOF;
            break;
        }
        sha1_update(sha, p, (size_t)n);
        r = backupd_spool_write(d->spool, done, p, (size_t)n);
        done += (uint64_t)n;
    }
    sha1_final(sha, digest);
    sha1_free(&sha);
    if (!r)
        dlist_reader_filedone(d->reader);
    return r;
}

/* A message that is held in memory, to the backup or the spool. */
static int store_small(struct backupd *d, struct lcb *b, const struct dlist *f)
{
    unsigned char digest[SHA1_LEN];
    int r = read_to_memory(d, f->size);
    if (r)
        return r;
    sha1_once(d->body.s, d->body.len, digest);
    if (memcmp(digest, f->guid.value, SHA1_LEN))
        return BACKUPD_BADCONTENT;
    if (b)
        return lcb_log_message(b, f->sval, &f->guid, f->size, d->body.s, -1, 0);
    r = backupd_spool_write(d->spool, 0, d->body.s, d->body.len);
    return r ? r : backupd_spool_keep(d->spool, &f->guid, f->size, f->sval);
}

static int store_large(struct backupd *d, struct lcb *b, const struct dlist *f)
{
    unsigned char digest[SHA1_LEN];
    int r = read_to_spool(d, f->size, digest);
    if (!r && memcmp(digest, f->guid.value, SHA1_LEN))
        r = BACKUPD_BADCONTENT;
    if (!r && !b)
        return backupd_spool_keep(d->spool, &f->guid, f->size, f->sval);
    if (!r)
        r = lcb_log_message(b, f->sval, &f->guid, f->size, NULL, backupd_spool_fd(d->spool),
                            backupd_spool_end(d->spool));
    backupd_spool_drop(d->spool);
    return r;
}

static int store_one(struct backupd *d, struct lcb *b, const struct dlist *f)
{
    int r = have(d, b, &f->guid);
    if (r < 0)
        return r;
    if (r)
        return skip_body(d);
    return f->size <= MEMORY_MAX ? store_small(d, b, f) : store_large(d, b, f);
}

int backupd_staging_message(struct backupd *d)
{
    struct lcb *b;
    int more = 0;
    int r = sole_backup(d, 1, &b);
    if (!r)
        r = dlist_reader_enter(d->reader, 0);
    while (!r && (more = dlist_reader_more(d->reader)) > 0) {
        struct dlist *f;
        dlist_pool_reset(d->reader->pool);
        r = dlist_reader_value(d->reader, &f);
        if (!r && f->type != DL_FILE && f->type != DL_NIL)
            r = XERR_PARAM;
        if (!r && f->type == DL_FILE)
            r = store_one(d, b, f);
    }
    if (r && b && r != BACKUPD_BADCONTENT && r != XERR_SYNTAX && r != XERR_PARAM)
        backupd_undo(d, b);
    buf_shrink(&d->body, 2 << 20);
    return r ? r : more < 0 ? more : 0;
}

int backupd_staging_supply(struct backupd *d, struct lcb *b, const struct message_guid *guid)
{
    struct backupd_upload u = {.at = 0};
    int r = backupd_spool_find(d->spool, guid, &u);
    int fd = backupd_spool_fd(d->spool);
    if (r <= 0)
        return r;
    const char *partition = buf_cstring(&u.partition);
    if (u.size > MEMORY_MAX) {
        r = lcb_log_message(b, partition, guid, u.size, NULL, fd, u.at);
    } else {
        buf_reset(&d->body);
        char *p = buf_ensure(&d->body, (size_t)u.size);
        ssize_t n = vfs_pread(lcb_store_vfs(d->store), fd, p, (size_t)u.size, (off_t)u.at);
        r = n < 0 ? (int)n : (uint64_t)n < u.size ? XERR_EOF : 0;
        if (!r)
            r = lcb_log_message(b, partition, guid, u.size, p, -1, 0);
    }
    buf_free(&u.partition);
    return r ? r : 1;
}
