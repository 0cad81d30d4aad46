/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_get - GET: what the client believes we have.
 *
 * Everything listed was told to us by the same client, and is given back verbatim; nothing is
 * invented, because clients copy values that are higher than their own into the live server.
 *
 * A mailbox that is to be sent again completely (mark RESEND) is not listed. One whose records are
 * in doubt (mark DOUBT) is listed with HIGHESTMODSEQ 0 and without CRCs, so that the client sends
 * every record but no content.
 *
 * Quotas are listed with the user whose mailboxes they govern, as clients compare them: the quota root
 * of a domain is in the backup of what belongs to nobody, and is read there without its lock.
 *
 * GET FULLMAILBOX asks for all records, to merge them into the live server: that could renumber or
 * resurrect messages there. It is always answered as if the mailbox were empty, which changes
 * nothing there, and the mailbox is marked DOUBT so that the client then sends all it has. Its
 * UIDVALIDITY is 0 then, because a higher one than the master's would be copied, and the master may
 * have gone back to an older one. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "backup/backupd_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* Bytes that the names of one GET MAILBOXES may take: some 100,000 of them. */
#define NAMES_MAX (8u << 20)
#define NAME_COST 48

struct listing {
    struct backupd *d;
    struct lcb *b;      /* whose mailboxes are being listed */
    struct hash *names; /* UNIQUEIDs already in this answer */
    struct strarray roots; /* quota roots of these mailboxes that are kept elsewhere */
    const char *user;      /* whose GET USER this is, else NULL */
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
    if (!backupd_owner_of(l->d, root, &userid) && strcmp(buf_cstring(&userid), l->user))
        strarray_add(&l->roots, root);
    buf_free(&userid);
}

/* The header's text to l->text: as it is, or with the values that make the client send all. */
static int header_text(struct listing *l, const struct lcb_folder *f)
{
    struct sync_header h;
    dlist_pool_reset(l->pool);
    int r = sync_header_parsetext(&h, l->pool, f->header, f->headerlen);
    if (!r && h.quotaroot && l->user)
        note_root(l, h.quotaroot);
    if (!r)
        r = sync_header_addmodseq(&h, l->pool);
    if (!r && f->mark == LCB_MARK_DOUBT) {
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
    if (hash_lookup(l->names, f->uniqueid))
        return 0;
    hash_insert(l->names, f->uniqueid, &there);
    backupd_show(l->d, l->b, f, f->mark != LCB_MARK_RESEND);
    if (f->mark == LCB_MARK_RESEND)
        return 0;
    int r = header_text(l, f);
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

static int add_sub(void *rock, const char *mboxname)
{
    struct listing *l = rock;
    buf_appendcstr(&l->text, l->text.len ? " " : "(");
    dlist_printastring(mboxname, strlen(mboxname), &l->text, 0);
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
    buf_reset(&l->text);
    if (!r)
        r = lcb_foreach_sub(b, LCB_NOW, add_sub, l);
    if (!r && l->text.len) {
        prot_puts(l->d->out, "* LSUB ");
        prot_write(l->d->out, l->text.s, l->text.len);
        prot_puts(l->d->out, ")\r\n");
    }
    return r ? r : lcb_foreach_script(b, LCB_NOW, list_script, l);
}

/* The one argument, a string without NUL, and the end of the line: a question that is answered BAD must
 * not mark anything. */
static int read_string(struct backupd *d, struct buf *s)
{
    int c = dlist_reader_peek(d->reader);
    if (c < 0)
        return c;
    if (c == '\r' || c == '\n')
        return XERR_SYNTAX;
    int r = dlist_reader_astring(d->reader, s, d->max_text);
    if (!r)
        r = backupd_at_end(d);
    return r ? r : memchr(buf_cstring(s), '\0', s->len) ? XERR_PARAM : 0;
}

static int read_userid(struct backupd *d, struct buf *userid)
{
    struct buf raw = BUF_INITIALIZER;
    int r = read_string(d, &raw);
    if (!r)
        r = mboxname_userid_canonical(lcb_store_names(d->store), raw.s, raw.len, userid);
    buf_free(&raw);
    return r;
}

struct want {
    struct listing *l;
    const char *name;
    int found;
};

static int list_quota_root(void *rock, const char *root, const char *text, size_t len)
{
    struct want *w = rock;
    return strcmp(root, w->name) ? 0 : (w->found = 1, list_quota(w->l, root, text, len));
}

/* One that cannot be read is one that is not listed: the client then says it again. */
static int list_other_roots(struct listing *l)
{
    struct buf userid = BUF_INITIALIZER;
    int r = 0;
    for (int i = 0; !r && i < l->roots.count; i++) {
        struct want w = {l, l->roots.data[i], 0};
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
    struct lcb *b;
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
        backupd_ask_user(d, user, r ? NULL : b);
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

/* ---- GET MAILBOXES ----
 * A name is looked up in its owner's backup. A UNIQUEID may be in the backups of two owners, when the
 * mailbox went from one to the other and only one of them was told; it must not be listed twice.
 * So if the names are of several owners, all are looked up once to see which of two is the newer,
 * and then once more to be listed. Owner by owner: few backups are open at a time. */

struct wanted {
    char *name;
    char *userid;
};

/* The newest one of a UNIQUEID. */
struct newest {
    uint64_t highestmodseq;
    int64_t time;
    const struct wanted *wanted;
};

static int by_owner(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    int c = strcmp(x->userid, y->userid);
    return c ? c : strcmp(x->name, y->name);
}

static int find_wanted(struct listing *l, const struct wanted *w, struct lcb_folder *f,
                       struct buf *strings)
{
    int r = backupd_backup(l->d, w->userid, 0, &l->b);
    if (!r || r == XERR_NOTFOUND)
        backupd_ask_name(l->d, w->name, r ? NULL : l->b);
    return r ? r : lcb_find_name(l->b, w->name, f, strings);
}

static int note_newest(struct listing *l, struct hash *all, const struct wanted *w)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    int r = find_wanted(l, w, &f, &strings);
    if (!r) {
        struct newest *n = hash_lookup(all, f.uniqueid);
        int64_t time = lcb_time(l->b, f.since);
        if (!n) {
            n = xzmalloc(sizeof(*n));
            hash_insert(all, f.uniqueid, n);
        }
        if (!n->wanted || f.highestmodseq > n->highestmodseq ||
            (f.highestmodseq == n->highestmodseq && time > n->time)) {
            n->highestmodseq = f.highestmodseq;
            n->time = time;
            n->wanted = w;
        }
    }
    buf_free(&strings);
    return r == XERR_NOTFOUND ? 0 : r;
}

/* ALL is NULL if there is but one owner. */
static int list_wanted(struct listing *l, struct hash *all, const struct wanted *w)
{
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    struct newest *n;
    int r = find_wanted(l, w, &f, &strings);
    if (!r && (!all || !(n = hash_lookup(all, f.uniqueid)) || n->wanted == w))
        r = list_folder(l, &f);
    buf_free(&strings);
    return r == XERR_NOTFOUND ? 0 : r;
}

/* All names are read before the first is looked up: a client that is still writing does not read,
 * and could not be answered. */
static int read_names(struct backupd *d, struct strarray *names)
{
    struct buf name = BUF_INITIALIZER;
    size_t total = 0;
    int more = 0;
    int r = dlist_reader_enter(d->reader, 0);
    while (!r && (more = dlist_reader_more(d->reader)) > 0) {
        r = dlist_reader_astring(d->reader, &name, d->max_text);
        total += name.len + NAME_COST;
        if (!r && total > NAMES_MAX)
            r = XERR_TOOBIG;
        if (!r)
            strarray_append(names, buf_cstring(&name));
    }
    buf_free(&name);
    return r ? r : more < 0 ? more : backupd_at_end(d);
}

/* Names with their owners, by owner; what can be no mailbox is left out. What the client was told
 * of these names before is void. */
static int find_owners(struct backupd *d, const struct strarray *names, struct wanted *list)
{
    struct buf userid = BUF_INITIALIZER;
    int n = 0;
    for (int i = 0; i < names->count; i++) {
        backupd_unshow(d, names->data[i]);
        if (backupd_owner_of(d, names->data[i], &userid))
            continue;
        backupd_unit_addowner(d, buf_cstring(&userid));
        list[n].name = names->data[i];
        list[n++].userid = xstrdup(buf_cstring(&userid));
    }
    buf_free(&userid);
    qsort(list, (size_t)n, sizeof(*list), by_owner);
    return n;
}

static int get_mailboxes(struct backupd *d)
{
    struct strarray names = STRARRAY_INITIALIZER;
    struct hash *all = NULL;
    struct listing l;
    int r = read_names(d, &names);
    struct wanted *list = xzmalloc(sizeof(*list) * (size_t)(names.count + 1));
    int n = r ? 0 : find_owners(d, &names, list);
    listing_init(&l, d);
    if (n && strcmp(list[0].userid, list[n - 1].userid)) {
        all = hash_new();
        for (int i = 0; !r && i < n; i++)
            r = note_newest(&l, all, &list[i]);
    }
    for (int i = 0; !r && i < n; i++)
        r = list_wanted(&l, all, &list[i]);
    for (int i = 0; i < n; i++)
        free(list[i].userid);
    free(list);
    hash_free(&all, free);
    listing_fini(&l);
    strarray_fini(&names);
    return r;
}

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

static int get_fullmailbox(struct backupd *d)
{
    static const char *const dropped[] = {"SYNC_CRC", "SYNC_CRC_ANNOT", "XCONVMODSEQ",
                                          "FOLDERMODSEQ", "ANNOTATIONS", NULL};
    struct buf name = BUF_INITIALIZER, strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    struct sync_header h;
    struct lcb *b;
    int r = read_string(d, &name);
    if (!r)
        r = find_mailbox(d, buf_cstring(&name), &b, &f, &strings);
    dlist_pool_reset(d->reader->pool);
    if (!r)
        r = sync_header_parsetext(&h, d->reader->pool, f.header, f.headerlen);
    if (!r)
        r = sync_header_set(&h, d->reader->pool, "LAST_UID", "0");
    if (!r)
        r = sync_header_set(&h, d->reader->pool, "HIGHESTMODSEQ", "0");
    if (!r)
        r = sync_header_set(&h, d->reader->pool, "UIDVALIDITY", "0");
    if (!r)
        r = lcb_setmark(b, f.uniqueid, f.mark > LCB_MARK_DOUBT ? f.mark : LCB_MARK_DOUBT);
    if (!r) {
        struct dlist *kv = dlist_newkvlist(d->reader->pool, NULL);
        for (struct dlist *c = h.tree->head, *next; kv && c; c = next) {
            int i = 0;
            next = c->next;
            c->next = NULL;
            while (dropped[i] && strcmp(dropped[i], c->name))
                i++;
            c->next = NULL;
            if (!dropped[i])
                dlist_append(kv, c);
        }
        buf_setcstr(&d->text, "* MAILBOX %(");
        if (kv)
            dlist_printbody(kv, &d->text, 0);
        buf_appendcstr(&d->text, " RECORD ())\r\n");
        prot_write(d->out, d->text.s, d->text.len);
    }
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

/* Read twice: once to see that the content is good, because the length is announced first. */
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
        r = lcb_read_content(b, &guid, send_piece, d);
        prot_puts(d->out, "\r\n");
    }
    buf_free(&userid);
    return r == XERR_FORMAT ? XERR_NOTFOUND : r;
}

static int send_annotation(void *rock, const char *entry, const char *userid, const char *value,
                           size_t len)
{
    struct listing *l = rock;
    buf_setcstr(&l->text, "* ANNOTATION %(MBOXNAME \"\" ENTRY ");
    dlist_printastring(entry, strlen(entry), &l->text, 0);
    buf_appendcstr(&l->text, " USERID ");
    dlist_printastring(userid, strlen(userid), &l->text, 0);
    buf_appendcstr(&l->text, " VALUE ");
    dlist_printastring(value, len, &l->text, 0);
    buf_appendcstr(&l->text, ")\r\n");
    prot_write(l->d->out, l->text.s, l->text.len);
    return 0;
}

static int send_mailbox_annotations(struct listing *l, const struct lcb_folder *f)
{
    struct sync_header h;
    struct dlist *annots;
    dlist_pool_reset(l->pool);
    int r = sync_header_parsetext(&h, l->pool, f->header, f->headerlen);
    if (r || !dlist_getlist(h.tree, "ANNOTATIONS", &annots))
        return r;
    for (struct dlist *a = annots->head; a; a = a->next) {
        buf_setcstr(&l->text, "* ANNOTATION %(MBOXNAME ");
        dlist_printastring(f->mboxname, strlen(f->mboxname), &l->text, 0);
        buf_putc(&l->text, ' ');
        dlist_printbody(a, &l->text, 0);
        buf_appendcstr(&l->text, ")\r\n");
        prot_write(l->d->out, l->text.s, l->text.len);
    }
    return 0;
}

/* Never an error: clients make a mess of it. */
static int get_annotation(struct backupd *d)
{
    struct buf name = BUF_INITIALIZER, strings = BUF_INITIALIZER;
    struct lcb_folder f = {.id = 0};
    struct listing l;
    struct lcb *b;
    int r = read_string(d, &name);
    listing_init(&l, d);
    if (!r && name.len)
        r = find_mailbox(d, buf_cstring(&name), &b, &f, &strings);
    else if (!r)
        r = backupd_backup(d, MBOXNAME_SHARED, 0, &b);
    if (!r)
        r = name.len ? send_mailbox_annotations(&l, &f)
                     : lcb_foreach_annotation(b, LCB_NOW, send_annotation, &l);
    listing_fini(&l);
    buf_free(&name);
    buf_free(&strings);
    return r == XERR_NOTFOUND ? 0 : r;
}

static int get_quota(struct backupd *d)
{
    struct buf root = BUF_INITIALIZER, userid = BUF_INITIALIZER;
    struct listing l;
    struct lcb *b;
    int r = read_string(d, &root);
    listing_init(&l, d);
    struct want w = {&l, buf_cstring(&root), 0};
    if (!r)
        r = backupd_owner_of(d, w.name, &userid);
    if (!r)
        r = backupd_backup(d, buf_cstring(&userid), 0, &b);
    if (!r)
        r = lcb_foreach_quota(b, LCB_NOW, list_quota_root, &w);
    listing_fini(&l);
    buf_free(&root);
    buf_free(&userid);
    return r ? r : w.found ? 0 : SYNC_NONEXISTENT;
}

static int send_script(void *rock, const struct lcb_script *s)
{
    struct want *w = rock;
    struct backupd *d = w->l->d;
    if (strcmp(s->filename, w->name))
        return 0;
    w->found = 1;
    buf_setcstr(&d->text, "* SIEVE %(USERID ");
    dlist_printastring(w->l->user, strlen(w->l->user), &d->text, 0);
    buf_appendcstr(&d->text, " FILENAME ");
    dlist_printastring(s->filename, strlen(s->filename), &d->text, 0);
    buf_printf(&d->text, " LAST_UPDATE %llu CONTENT ", (unsigned long long)s->last_update);
    dlist_printastring(s->content, s->len, &d->text, 0);
    buf_appendcstr(&d->text, ")\r\n");
    prot_write(d->out, d->text.s, d->text.len);
    return 0;
}

static int get_fetch_sieve(struct backupd *d)
{
    const char *user, *filename;
    struct buf userid = BUF_INITIALIZER;
    struct listing l = {.d = d};
    struct want w = {&l, NULL, 0};
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
        l.user = user;
        r = lcb_foreach_script(b, LCB_NOW, send_script, &w);
    }
    buf_free(&userid);
    return r ? r : w.found ? 0 : SYNC_NONEXISTENT;
}

int backupd_get_named(struct backupd *d, const char *name)
{
    if (!strcmp(name, "USER"))
        return get_user(d, 0);
    if (!strcmp(name, "MAILBOXES"))
        return get_mailboxes(d);
    if (!strcmp(name, "META"))
        return get_user(d, 1);
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
