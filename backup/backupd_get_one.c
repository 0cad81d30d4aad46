/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_get_one - GET of one thing: all of a mailbox, a message, annotations, a quota, a script.
 *
 * GET FULLMAILBOX asks for all records, to merge them into the live server: that could renumber or
 * resurrect messages there. It is always answered as if the mailbox were empty, which changes
 * nothing there, and the mailbox is marked DOUBT so that the client then sends all it has. Its
 * UIDVALIDITY is 0 then, because a higher one than the master's would be copied, and the master may
 * have gone back to an older one. */
#include "config.h"

#include <string.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"

/* The folder NAME, its owner's backup. */
static int find_mailbox(struct backupd *d, const char *name, struct lcb **b, struct lcb_folder *f,
                        struct buf *strings)
{
    struct buf userid = BUF_INITIALIZER;
    int r = backupd_owner_of(d, name, &userid);
    if (!r)
        r = backupd_backup(d, buf_cstring(&userid), 0, b);
    if (!r)
        r = lcb_find_name(*b, name, f, strings);
    buf_free(&userid);
    return r == XERR_PARAM ? XERR_NOTFOUND : r;
}

/* The header H as that of an empty mailbox, to d->text. */
static int print_empty(struct backupd *d, struct dlist_pool *pool, struct sync_header *h)
{
    static const char *const dropped[] = {"SYNC_CRC", "SYNC_CRC_ANNOT", "XCONVMODSEQ",
                                          "FOLDERMODSEQ", "ANNOTATIONS", NULL};
    static const char *const zero[] = {"LAST_UID", "HIGHESTMODSEQ", "UIDVALIDITY", NULL};
    struct dlist *kept = dlist_newkvlist(pool, NULL);
    int r = kept ? 0 : XERR_TOOBIG;
    for (int i = 0; !r && zero[i]; i++)
        r = sync_header_set(h, pool, zero[i], "0");
    if (r)
        return r;
    for (struct dlist *c = h->tree->head, *next; c; c = next) {
        int i = 0;
        next = c->next;
        c->next = NULL;
        while (dropped[i] && strcmp(dropped[i], c->name))
            i++;
        if (!dropped[i])
            dlist_append(kept, c);
    }
    buf_setcstr(&d->text, "* MAILBOX %(");
    dlist_printbody(kept, &d->text, 0);
    buf_appendcstr(&d->text, " RECORD ())\r\n");
    return 0;
}

static int get_fullmailbox(struct backupd *d)
{
    struct buf name = BUF_INITIALIZER, strings = BUF_INITIALIZER;
    struct dlist_pool *pool = dlist_pool_new(LCB_STORED_MAX);
    struct lcb_folder f = {.id = 0};
    struct sync_header h;
    struct lcb *b;
    int r = backupd_read_string(d, &name);
    if (!r)
        r = find_mailbox(d, buf_cstring(&name), &b, &f, &strings);
    if (!r)
        r = sync_header_parsetext(&h, pool, f.header, f.headerlen);
    if (!r)
        r = print_empty(d, pool, &h);
    if (!r)
        r = lcb_setmark(b, f.uniqueid, f.mark > LCB_MARK_DOUBT ? f.mark : LCB_MARK_DOUBT);
    if (!r)
        prot_write(d->out, d->text.s, d->text.len);
    dlist_pool_free(&pool);
    buf_free(&name);
    buf_free(&strings);
    return r;
}

static int drop_piece(void *rock, const void *p, size_t n)
{
    (void)rock;
    (void)p;
    (void)n;
    return 0;
}

static int send_piece(void *rock, const void *p, size_t n)
{
    return prot_write(((struct backupd *)rock)->out, p, n);
}

/* Read twice: once to see that the content is good, because the length is announced first. Should it be
 * good no longer when it is sent, all that is left to say is nothing. */
static int get_fetch(struct backupd *d)
{
    const char *name, *partition;
    struct buf userid = BUF_INITIALIZER;
    struct message_guid guid;
    struct dlist *v;
    struct lcb *b;
    uint64_t size;
    dlist_pool_reset(d->reader->pool);
    int r = dlist_reader_value(d->reader, &v);
    if (!r)
        r = backupd_at_end(d);
    if (!r && (!dlist_getatom(v, "MBOXNAME", &name) || !name ||
               !dlist_getatom(v, "PARTITION", &partition) || !partition ||
               !dlist_getguid(v, "GUID", &guid)))
        r = XERR_PARAM;
    if (!r)
        r = backupd_owner_of(d, name, &userid);
    if (!r)
        r = backupd_backup(d, buf_cstring(&userid), 0, &b);
    if (!r)
        r = lcb_has_content(b, &guid, &size) > 0 ? lcb_read_content(b, &guid, drop_piece, NULL)
                                                : XERR_NOTFOUND;
    if (!r) {
        char hex[41];
        message_guid_encode(&guid, hex);
        buf_setcstr(&d->text, "* MESSAGE %{");
        dlist_printastring(partition, strlen(partition), &d->text, 0);
        buf_printf(&d->text, " %s %llu}\r\n", hex, (unsigned long long)size);
        prot_write(d->out, d->text.s, d->text.len);
        r = lcb_read_content(b, &guid, send_piece, d) ? BACKUPD_BROKEN_OFF : 0;
        prot_puts(d->out, r ? "" : "\r\n");
    }
    buf_free(&userid);
    return r == XERR_FORMAT ? XERR_NOTFOUND : r;
}

/* The answer in d->text goes on with S and ")", and is sent. What is large is not copied for that. */
static void send_with(struct backupd *d, const char *s, size_t len)
{
    enum { LARGE = 16 << 10 }; /* always a literal */
    if (len < LARGE) {
        dlist_printastring(s, len, &d->text, 0);
    } else {
        buf_printf(&d->text, "{%zu}\r\n", len);
        prot_write(d->out, d->text.s, d->text.len);
        prot_write(d->out, s, len);
        buf_reset(&d->text);
    }
    buf_appendcstr(&d->text, ")\r\n");
    prot_write(d->out, d->text.s, d->text.len);
}

static int send_annotation(void *rock, const char *entry, const char *userid, const char *value,
                           size_t len)
{
    struct backupd *d = rock;
    buf_setcstr(&d->text, "* ANNOTATION %(MBOXNAME \"\" ENTRY ");
    dlist_printastring(entry, strlen(entry), &d->text, 0);
    buf_appendcstr(&d->text, " USERID ");
    dlist_printastring(userid, strlen(userid), &d->text, 0);
    buf_appendcstr(&d->text, " VALUE ");
    send_with(d, value, len);
    return 0;
}

static int send_mailbox_annotations(struct backupd *d, const struct lcb_folder *f)
{
    struct dlist_pool *pool = dlist_pool_new(LCB_STORED_MAX);
    struct sync_header h;
    struct dlist *annots = NULL;
    int r = sync_header_parsetext(&h, pool, f->header, f->headerlen);
    if (!r)
        (void)dlist_getlist(h.tree, "ANNOTATIONS", &annots);
    for (struct dlist *a = annots ? annots->head : NULL; a; a = a->next) {
        buf_setcstr(&d->text, "* ANNOTATION %(MBOXNAME ");
        dlist_printastring(f->mboxname, strlen(f->mboxname), &d->text, 0);
        buf_putc(&d->text, ' ');
        dlist_printbody(a, &d->text, 0);
        buf_appendcstr(&d->text, ")\r\n");
        prot_write(d->out, d->text.s, d->text.len);
    }
    dlist_pool_free(&pool);
    return r;
}

/* Never an error: clients make a mess of it. */
static int get_annotation(struct backupd *d)
{
    struct buf name = BUF_INITIALIZER, strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    struct lcb *b;
    int r = backupd_read_string(d, &name);
    if (!r && name.len)
        r = find_mailbox(d, buf_cstring(&name), &b, &f, &strings);
    else if (!r)
        r = backupd_backup(d, MBOXNAME_SHARED, 0, &b);
    if (!r)
        r = name.len ? send_mailbox_annotations(d, &f)
                     : lcb_foreach_annotation(b, LCB_NOW, send_annotation, d);
    buf_free(&name);
    buf_free(&strings);
    return r == XERR_NOTFOUND ? 0 : r;
}

/* Something that is looked for in a list. */
struct want {
    struct backupd *d;
    const char *user, *name;
    int found;
};

static int send_quota(void *rock, const char *root, const char *text, size_t len)
{
    struct want *w = rock;
    if (strcmp(root, w->name))
        return 0;
    w->found = 1;
    prot_puts(w->d->out, "* QUOTA ");
    prot_write(w->d->out, text, len);
    prot_puts(w->d->out, "\r\n");
    return 0;
}

static int get_quota(struct backupd *d)
{
    struct buf root = BUF_INITIALIZER, userid = BUF_INITIALIZER;
    struct lcb *b;
    int r = backupd_read_string(d, &root);
    struct want w = {d, NULL, buf_cstring(&root), 0};
    if (!r)
        r = backupd_owner_of(d, w.name, &userid);
    if (!r)
        r = backupd_backup(d, buf_cstring(&userid), 0, &b);
    if (!r)
        r = lcb_foreach_quota(b, LCB_NOW, send_quota, &w);
    buf_free(&root);
    buf_free(&userid);
    return r ? r : w.found ? 0 : SYNC_NONEXISTENT;
}

static int send_script(void *rock, const struct lcb_script *s)
{
    struct want *w = rock;
    struct backupd *d = w->d;
    if (strcmp(s->filename, w->name))
        return 0;
    w->found = 1;
    buf_setcstr(&d->text, "* SIEVE %(USERID ");
    dlist_printastring(w->user, strlen(w->user), &d->text, 0);
    buf_appendcstr(&d->text, " FILENAME ");
    dlist_printastring(s->filename, strlen(s->filename), &d->text, 0);
    buf_printf(&d->text, " LAST_UPDATE %llu CONTENT ", (unsigned long long)s->last_update);
    send_with(d, s->content, s->len);
    return 0;
}

static int get_fetch_sieve(struct backupd *d)
{
    const char *user, *filename;
    struct buf userid = BUF_INITIALIZER;
    struct want w = {d, NULL, NULL, 0};
    struct dlist *v;
    struct lcb *b;
    dlist_pool_reset(d->reader->pool);
    int r = dlist_reader_value(d->reader, &v);
    if (!r)
        r = backupd_at_end(d);
    if (!r && (!dlist_getatom(v, "USERID", &user) || !user ||
               !dlist_getatom(v, "FILENAME", &filename) || !filename))
        r = XERR_PARAM;
    if (!r)
        r = mboxname_userid_canonical(lcb_store_names(d->store), user, strlen(user), &userid);
    if (!r)
        r = backupd_backup(d, buf_cstring(&userid), 0, &b);
    if (!r) {
        w.name = filename;
        w.user = user;
        r = lcb_foreach_script(b, LCB_NOW, send_script, &w);
    }
    buf_free(&userid);
    return r ? r : w.found ? 0 : SYNC_NONEXISTENT;
}

int backupd_get_one(struct backupd *d, const char *name)
{
    if (!strcmp(name, "FULLMAILBOX"))
        return get_fullmailbox(d);
    if (!strcmp(name, "FETCH"))
        return get_fetch(d);
    if (!strcmp(name, "ANNOTATION"))
        return get_annotation(d);
    if (!strcmp(name, "QUOTA"))
        return get_quota(d);
    if (!strcmp(name, "FETCH_SIEVE"))
        return get_fetch_sieve(d);
    if (!strcmp(name, "UNIQUEIDS")) /* nobody asks; nothing to say is an answer */
        return dlist_reader_skip(d->reader);
    return SYNC_PROTOCOL_ERROR;
}
