/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_all - the complete state of a backup as one JSON object. It is the form in
 * which tests and scripts compare backups, so it depends on the state alone: lists are sorted
 * (flags stand as the client sent them), and nothing speaks of chunks, positions or times of
 * receipt. So a past state prints the same as it did when it was the present one, but for marks,
 * which speak of the next synchronisation.
 *
 * It is printed while it is read. What is in memory at a time is one mailbox header or one record.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/cyr_backup.h"
#include "lib/output.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define POOL_LIMIT (64u << 20)

struct all {
    struct cyr_backup *cb;
    struct output_writer *w;
    struct dlist_pool *pool;
};

static void set_string(json_t *j, const char *key, const char *s)
{
    if (s)
        output_setbytes(j, key, s, strlen(s));
    else
        json_object_set_new(j, key, json_null());
}

static void set_int(json_t *j, const char *key, uint64_t n)
{
    json_object_set_new(j, key, json_integer((json_int_t)n));
}

/* The members of OBJECT as members of what is being printed. */
static int print_members(struct output_writer *w, json_t *object)
{
    int r = 0;
    void *i = json_object_iter(object);
    for (; i; i = json_object_iter_next(object, i))
        r = output_writer_value(w, json_object_iter_key(i), json_incref(json_object_iter_value(i)));
    json_decref(object);
    return r;
}

/* Canonical text of a value from the index as a tree. */
static int parse(struct all *a, const char *text, size_t len, struct dlist **out)
{
    struct dlist_reader reader;
    struct protstream *in = prot_readmem(text, len);
    dlist_pool_reset(a->pool);
    dlist_reader_init(&reader, in, a->pool);
    reader.maxatom = POOL_LIMIT;
    int r = dlist_reader_value(&reader, out);
    prot_free(&in);
    return r;
}

/* ---- annotations of mailboxes and records ---- */

static void member(json_t *j, const char *key, const struct dlist *d)
{
    if (d && d->sval)
        output_setbytes(j, key, d->sval, d->len);
    else
        json_object_set_new(j, key, json_string(""));
}

static int compare_annotations(const void *a, const void *b)
{
    static const char *const keys[] = {"entry", "userid", "value"};
    int r = 0;
    for (size_t i = 0; !r && i < sizeof(keys) / sizeof(*keys); i++)
        r = strcmp(json_string_value(json_object_get(*(json_t *const *)a, keys[i])),
                   json_string_value(json_object_get(*(json_t *const *)b, keys[i])));
    return r;
}

/* LIST: (%(ENTRY e USERID u VALUE v ...) ...), or NULL. */
static json_t *annotations(const struct dlist *list)
{
    json_t *array = json_array();
    size_t n = 0, i = 0;
    for (const struct dlist *d = list ? list->head : NULL; d; d = d->next)
        n++;
    json_t **sorted = xcalloc(n + 1, sizeof(*sorted));
    for (const struct dlist *d = list ? list->head : NULL; d; d = d->next) {
        json_t *j = json_object();
        member(j, "entry", dlist_getchild(d, "ENTRY"));
        member(j, "userid", dlist_getchild(d, "USERID"));
        member(j, "value", dlist_getchild(d, "VALUE"));
        sorted[i++] = j;
    }
    qsort(sorted, n, sizeof(*sorted), compare_annotations);
    for (i = 0; i < n; i++)
        json_array_append_new(array, sorted[i]);
    free(sorted);
    return array;
}

/* ---- records ---- */

static int set_flags(struct all *a, json_t *j, const struct buf *text)
{
    struct dlist *list;
    json_t *flags = json_array();
    int r = text->len ? parse(a, text->s, text->len, &list) : 0;
    for (const struct dlist *d = r || !text->len ? NULL : list->head; d; d = d->next)
        json_array_append_new(flags, output_string(d->sval ? d->sval : "", d->len));
    json_object_set_new(j, "flags", flags);
    return r;
}

static int set_annotations(struct all *a, json_t *j, const struct buf *text)
{
    struct dlist *list = NULL;
    int r = text->len ? parse(a, text->s, text->len, &list) : 0;
    json_object_set_new(j, "annotations", annotations(r ? NULL : list));
    return r;
}

static int record(void *rock, const struct lcb_record *lr)
{
    struct all *a = rock;
    const struct sync_record *rec = &lr->rec;
    char guid[41];
    json_t *j = json_object();
    message_guid_encode(&rec->guid, guid);
    set_int(j, "uid", rec->uid);
    set_int(j, "modseq", rec->modseq);
    set_int(j, "last_updated", (uint64_t)rec->last_updated);
    set_int(j, "internaldate", (uint64_t)rec->internaldate);
    set_int(j, "size", rec->size);
    set_string(j, "guid", guid);
    int r = set_flags(a, j, &rec->flags);
    json_object_set_new(j, "expunged", json_boolean(rec->expunged));
    if (!r)
        r = set_annotations(a, j, &rec->annotations);
    int e = output_writer_value(a->w, NULL, j);
    return r ? r : e;
}

/* ---- mailboxes ---- */

static void set_crc(json_t *j, const char *key, int has, uint32_t crc)
{
    json_object_set_new(j, key, has ? json_integer(crc) : json_null());
}

static int print_header(struct all *a, const struct lcb_folder *f)
{
    struct sync_header h;
    uint32_t crc = f->crc;
    dlist_pool_reset(a->pool);
    int r = sync_header_parsetext(&h, a->pool, f->header, f->headerlen);
    if (!r && a->cb->at != LCB_NOW)
        r = lcb_folder_crc(a->cb->backup, f->id, a->cb->at, &crc);
    if (r)
        return r;
    json_t *j = json_object();
    set_string(j, "uniqueid", f->uniqueid);
    set_string(j, "mboxname", f->mboxname);
    set_string(j, "mboxtype", h.mboxtype);
    set_string(j, "partition", h.partition);
    set_int(j, "uidvalidity", f->uidvalidity);
    set_int(j, "last_uid", f->last_uid);
    set_int(j, "highestmodseq", f->highestmodseq);
    set_int(j, "recentuid", h.recentuid);
    set_string(j, "acl", h.acl);
    set_string(j, "options", h.options);
    set_string(j, "quotaroot", h.quotaroot);
    set_crc(j, "sync_crc", f->has_sync_crc, f->sync_crc);
    set_crc(j, "sync_crc_annot", h.has_sync_crc_annot, h.sync_crc_annot);
    set_int(j, "computed_sync_crc", crc);
    set_int(j, "mark", f->mark);
    json_object_set_new(j, "annotations", annotations(dlist_getchild(h.tree, "ANNOTATIONS")));
    return print_members(a->w, j);
}

static int mailbox(void *rock, const struct lcb_folder *f)
{
    struct all *a = rock;
    output_writer_open(a->w, NULL, '{');
    int r = print_header(a, f);
    output_writer_open(a->w, "records", '[');
    if (!r)
        r = lcb_foreach_record(a->cb->backup, f->id, a->cb->at, record, a);
    output_writer_close(a->w);
    int e = output_writer_close(a->w);
    return r ? r : e;
}

/* ---- what is not mail ---- */

static int sub(void *rock, const char *mboxname)
{
    struct all *a = rock;
    return output_writer_value(a->w, NULL, output_string(mboxname, strlen(mboxname)));
}

static int seen(void *rock, const struct lcb_seen *s)
{
    struct all *a = rock;
    json_t *j = json_object();
    set_string(j, "uniqueid", s->uniqueid);
    set_int(j, "lastread", (uint64_t)s->lastread);
    set_int(j, "lastuid", s->lastuid);
    set_int(j, "lastchange", (uint64_t)s->lastchange);
    set_string(j, "seenuids", s->seenuids);
    return output_writer_value(a->w, NULL, j);
}

static int script(void *rock, const struct lcb_script *s)
{
    struct all *a = rock;
    struct message_guid guid;
    char hex[41];
    json_t *j = json_object();
    memcpy(guid.value, s->sha1, sizeof(guid.value));
    message_guid_encode(&guid, hex);
    set_string(j, "filename", s->filename);
    set_int(j, "last_update", (uint64_t)s->last_update);
    set_string(j, "guid", hex);
    json_object_set_new(j, "active", json_boolean(s->active));
    output_setbytes(j, "content", s->content ? s->content : "", s->len);
    return output_writer_value(a->w, NULL, j);
}

static int quota(void *rock, const char *root, const char *text, size_t len)
{
    struct all *a = rock;
    struct dlist *kv = NULL;
    int r = parse(a, text, len, &kv);
    if (r)
        return r;
    json_t *j = json_object(), *limits = json_object();
    set_string(j, "root", root);
    for (const struct dlist *d = kv->head; d; d = d->next) {
        uint64_t n;
        /* LIMIT says again what STORAGE says, for old readers. */
        if (!d->name || !strcmp(d->name, "ROOT") || !strcmp(d->name, "LIMIT") ||
            !strcmp(d->name, "MODSEQ"))
            continue;
        if (d->sval && dlist_parsenum(d->sval, d->len, &n) && n <= INT64_MAX)
            set_int(limits, d->name, n);
        else
            member(limits, d->name, d);
    }
    json_object_set_new(j, "limits", limits);
    return output_writer_value(a->w, NULL, j);
}

static int annotation(void *rock, const char *entry, const char *userid, const char *value,
                      size_t len)
{
    struct all *a = rock;
    json_t *j = json_object();
    set_string(j, "entry", entry);
    set_string(j, "userid", userid);
    output_setbytes(j, "value", value, len);
    return output_writer_value(a->w, NULL, j);
}

static int print_all(struct all *a)
{
    struct lcb *b = a->cb->backup;
    int64_t at = a->cb->at;
    output_writer_open(a->w, NULL, '{');
    output_writer_value(a->w, "userid", output_string(lcb_userid(b), strlen(lcb_userid(b))));
    output_writer_open(a->w, "mailboxes", '[');
    int r = lcb_foreach_folder(b, at, 0, mailbox, a);
    output_writer_close(a->w);
    output_writer_open(a->w, "subscriptions", '[');
    r = r ? r : lcb_foreach_sub(b, at, sub, a);
    output_writer_close(a->w);
    output_writer_open(a->w, "seen", '[');
    r = r ? r : lcb_foreach_seen(b, at, seen, a);
    output_writer_close(a->w);
    output_writer_open(a->w, "sieve", '[');
    r = r ? r : lcb_foreach_script(b, at, script, a);
    output_writer_close(a->w);
    output_writer_open(a->w, "quota", '[');
    r = r ? r : lcb_foreach_quota(b, at, quota, a);
    output_writer_close(a->w);
    output_writer_open(a->w, "annotations", '[');
    r = r ? r : lcb_foreach_annotation(b, at, annotation, a);
    return r;
}

int cyr_backup_json_all(struct cyr_backup *cb, int count, char **items)
{
    (void)count, (void)items;
    struct all a = {cb, output_writer_begin(stdout), dlist_pool_new(POOL_LIMIT)};
    int r = print_all(&a);
    int e = output_writer_end(&a.w);
    dlist_pool_free(&a.pool);
    return r ? r : e;
}
