/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_get - GET USER, META and MAILBOXES: what the client believes we have.
 *
 * Everything listed was told to us by the same client, and is given back verbatim; nothing is
 * invented, because clients copy values that are higher than their own into the live server.
 *
 * A mailbox that is to be sent again completely (mark RESEND) is not listed. One whose records are
 * in doubt (mark DOUBT) is listed with HIGHESTMODSEQ 0 and without CRCs, so that the client sends
 * every record but no content. One that lacks content (mark CONTENT) is listed so, too, and with a
 * LAST_UID below the first message without: of those above it the client asks what is missing.
 *
 * Quotas are listed with the user whose mailboxes they govern, as clients compare them: the quota root
 * of a domain is in the backup of what belongs to nobody, and is read there without its lock. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"

/* Quota roots of a user's mailboxes that are kept elsewhere: it is that of the domain, if any. */
#define ROOTS_MAX 8

struct listing {
    struct backupd *d;
    struct lcb *b;      /* whose mailboxes are being listed */
    struct hash *names; /* UNIQUEIDs already in this answer */
    struct strarray roots; /* quota roots of these mailboxes that are kept elsewhere */
    const char *user;      /* whose GET USER this is, else NULL */
    unsigned long subs;    /* names listed so far */
    struct buf text;
    struct dlist_pool *pool;
};

static void listing_init(struct listing *l, struct backupd *d)
{
    memset(l, 0, sizeof(*l));
    l->d = d;
    l->names = hash_new();
    l->pool = dlist_pool_new(LCB_STORED_MAX);
}

static void listing_fini(struct listing *l)
{
    hash_free(&l->names, NULL);
    strarray_fini(&l->roots);
    dlist_pool_free(&l->pool);
    buf_free(&l->text);
}

/* A quota root that another backup holds is remembered. */
static void note_root(struct listing *l, const char *root)
{
    struct buf userid = BUF_INITIALIZER;
    if (l->roots.count < ROOTS_MAX && !backupd_owner_of(l->d, root, &userid) &&
        strcmp(buf_cstring(&userid), l->user))
        strarray_add(&l->roots, root);
    buf_free(&userid);
}

/* The header's text to l->text: as it is, or with the values that make the client send all. */
static int header_text(struct listing *l, const struct lcb_folder *f)
{
    struct sync_header h;
    char number[16];
    dlist_pool_reset(l->pool);
    int r = sync_header_parsetext(&h, l->pool, f->header, f->headerlen);
    if (!r && h.quotaroot && l->user)
        note_root(l, h.quotaroot);
    if (!r)
        r = sync_header_addmodseq(&h, l->pool);
    if (!r && f->mark == LCB_MARK_CONTENT) {
        snprintf(number, sizeof(number), "%u", f->last_uid);
        r = sync_header_set(&h, l->pool, "LAST_UID", number);
    }
    if (!r && f->mark != LCB_MARK_NONE) {
        r = sync_header_set(&h, l->pool, "HIGHESTMODSEQ", "0");
        if (!r)
            r = sync_header_set(&h, l->pool, "SYNC_CRC", "0");
        if (!r)
            r = sync_header_set(&h, l->pool, "SYNC_CRC_ANNOT", "0");
    }
    buf_reset(&l->text);
    if (!r)
        sync_header_print(&h, &l->text);
    return r;
}

static int list_folder(void *rock, const struct lcb_folder *f)
{
    static int there;
    struct listing *l = rock;
    struct lcb_folder shown = *f;
    if (hash_lookup(l->names, f->uniqueid))
        return 0;
    hash_insert(l->names, f->uniqueid, &there);
    int r = f->mark == LCB_MARK_CONTENT ? lcb_content_floor(l->b, f, &shown.last_uid) : 0;
    if (r)
        return r;
    backupd_show(l->d, l->b, &shown, f->mark != LCB_MARK_RESEND);
    if (f->mark == LCB_MARK_RESEND)
        return 0;
    r = header_text(l, &shown);
    if (r)
        return r;
    prot_puts(l->d->out, "* MAILBOX %(");
    prot_write(l->d->out, l->text.s, l->text.len);
    prot_puts(l->d->out, ")\r\n");
    return 0;
}

static int list_quota(void *rock, const char *root, const char *text, size_t len)
{
    struct listing *l = rock;
    (void)root;
    prot_puts(l->d->out, "* QUOTA ");
    prot_write(l->d->out, text, len);
    prot_puts(l->d->out, "\r\n");
    return 0;
}

static int list_seen(void *rock, const struct lcb_seen *s)
{
    struct listing *l = rock;
    buf_setcstr(&l->text, "* SEEN %(UNIQUEID ");
    dlist_printastring(s->uniqueid, strlen(s->uniqueid), &l->text, 0);
    buf_printf(&l->text, " LASTREAD %llu LASTUID %u LASTCHANGE %llu SEENUIDS ",
               (unsigned long long)s->lastread, s->lastuid, (unsigned long long)s->lastchange);
    dlist_printastring(s->seenuids, strlen(s->seenuids), &l->text, 0);
    buf_appendcstr(&l->text, ")\r\n");
    prot_write(l->d->out, l->text.s, l->text.len);
    return 0;
}

/* One of the names in the one line LSUB. */
static int list_sub(void *rock, const char *mboxname)
{
    struct listing *l = rock;
    buf_setcstr(&l->text, l->subs++ ? " " : "* LSUB (");
    dlist_printastring(mboxname, strlen(mboxname), &l->text, 0);
    prot_write(l->d->out, l->text.s, l->text.len);
    return 0;
}

/* A script, and once more under its bytecode's name if it is the active one. */
static int list_script(void *rock, const struct lcb_script *s)
{
    struct listing *l = rock;
    const char *dot = strrchr(s->filename, '.');
    struct message_guid guid;
    char hex[41];
    memcpy(guid.value, s->sha1, sizeof(guid.value));
    message_guid_encode(&guid, hex);
    buf_setcstr(&l->text, "* SIEVE %(FILENAME ");
    dlist_printastring(s->filename, strlen(s->filename), &l->text, 0);
    buf_printf(&l->text, " LAST_UPDATE %llu GUID %s ISACTIVE 0)\r\n",
               (unsigned long long)s->last_update, hex);
    if (s->active && dot) {
        struct buf name = BUF_INITIALIZER;
        buf_setmap(&name, s->filename, (size_t)(dot - s->filename));
        buf_appendcstr(&name, ".bc");
        buf_appendcstr(&l->text, "* SIEVE %(FILENAME ");
        dlist_printastring(name.s, name.len, &l->text, 0);
        buf_printf(&l->text, " LAST_UPDATE %llu ISACTIVE 1)\r\n",
                   (unsigned long long)s->last_update);
        buf_free(&name);
    }
    prot_write(l->d->out, l->text.s, l->text.len);
    return 0;
}

static int list_meta(struct listing *l, struct lcb *b)
{
    int r = lcb_foreach_seen(b, LCB_NOW, list_seen, l);
    if (!r)
        r = lcb_foreach_sub(b, LCB_NOW, list_sub, l);
    if (l->subs)
        prot_puts(l->d->out, ")\r\n");
    return r ? r : lcb_foreach_script(b, LCB_NOW, list_script, l);
}

static int read_userid(struct backupd *d, struct buf *userid)
{
    struct buf raw = BUF_INITIALIZER;
    int r = backupd_read_string(d, &raw);
    if (!r)
        r = mboxname_userid_canonical(lcb_store_names(d->store), raw.s, raw.len, userid);
    buf_free(&raw);
    return r;
}

struct root {
    struct listing *l;
    const char *name;
};

static int list_quota_root(void *rock, const char *root, const char *text, size_t len)
{
    struct root *w = rock;
    return strcmp(root, w->name) ? 0 : list_quota(w->l, root, text, len);
}

/* One that cannot be read is one that is not listed: the client then says it again. */
static int list_other_roots(struct listing *l)
{
    struct buf userid = BUF_INITIALIZER;
    int r = 0;
    for (int i = 0; !r && i < l->roots.count; i++) {
        struct root w = {l, l->roots.data[i]};
        struct lcb *b = NULL;
        if (backupd_owner_of(l->d, w.name, &userid) ||
            lcb_open(l->d->store, buf_cstring(&userid), 0, 0, &b))
            continue;
        r = lcb_foreach_quota(b, LCB_NOW, list_quota_root, &w);
        lcb_close(&b);
    }
    buf_free(&userid);
    return r;
}

/* GET USER begins a unit of its own. GET META does not, but it, too, ends the work on others: what
 * that left open is committed and let go. */
static int get_user(struct backupd *d, int meta_only)
{
    struct buf userid = BUF_INITIALIZER;
    struct listing l;
    struct lcb *b = NULL;
    int r = read_userid(d, &userid);
    if (r) {
        buf_free(&userid);
        return r;
    }
    const char *user = buf_cstring(&userid);
    listing_init(&l, d);
    r = backupd_close_all(d, user);
    if (!meta_only) {
        backupd_unit_reset(d);
        backupd_unit_addowner(d, user);
    }
    if (!r)
        r = backupd_backup(d, user, 0, &b);
    if (!meta_only && (!r || r == XERR_NOTFOUND))
        backupd_ask_user(d, user, b);
    l.user = user;
    if (!r && !meta_only) {
        l.b = b;
        r = lcb_foreach_folder(b, LCB_NOW, 0, list_folder, &l);
    }
    if (!r && !meta_only)
        r = lcb_foreach_quota(b, LCB_NOW, list_quota, &l);
    if (!r && !meta_only)
        r = list_other_roots(&l);
    if (!r)
        r = list_meta(&l, b);
    listing_fini(&l);
    buf_free(&userid);
    return r == XERR_NOTFOUND ? 0 : r;
}

static int list_named(void *rock, struct lcb *b, const struct lcb_folder *f)
{
    struct listing *l = rock;
    l->b = b;
    return list_folder(l, f);
}

static int get_mailboxes(struct backupd *d)
{
    struct backupd_names *names;
    struct listing l;
    int r = backupd_names_read(d, &names);
    if (r)
        return r;
    listing_init(&l, d);
    r = backupd_names_foreach(names, list_named, &l);
    listing_fini(&l);
    backupd_names_free(&names);
    return r;
}

int backupd_get_named(struct backupd *d, const char *name)
{
    if (!strcmp(name, "USER"))
        return get_user(d, 0);
    if (!strcmp(name, "MAILBOXES"))
        return get_mailboxes(d);
    if (!strcmp(name, "META"))
        return get_user(d, 1);
    return backupd_get_one(d, name);
}
