/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* sync_header - mailbox headers of replication.
 *
 * What we need of a header is parsed into a struct; the tree it came from stays beside it, because
 * a header is given back to the client key by key as it came, known to us or not. */
#include "config.h"

#include <string.h>

#include "imap/sync_header.h"
#include "lib/prot.h"
#include "lib/xerr.h"

/* A string that must be there and be no NIL. */
static int need_string(const struct dlist *kv, const char *key, const char **val)
{
    return dlist_getatom(kv, key, val) && *val ? 0 : XERR_PARAM;
}

/* A string that may be absent, NIL or empty, which all mean NULL. */
static int opt_string(const struct dlist *kv, const char *key, const char **val)
{
    *val = NULL;
    if (!dlist_getchild(kv, key))
        return 0;
    if (!dlist_getatom(kv, key, val))
        return XERR_PARAM;
    if (*val && !**val)
        *val = NULL;
    return 0;
}

static int need_num32(const struct dlist *kv, const char *key, uint32_t *val)
{
    return dlist_getnum32(kv, key, val) ? 0 : XERR_PARAM;
}

static int need_num64(const struct dlist *kv, const char *key, uint64_t *val)
{
    return dlist_getnum64(kv, key, val) ? 0 : XERR_PARAM;
}

static int need_date(const struct dlist *kv, const char *key, int64_t *val)
{
    uint64_t n = 0;
    int e = need_num64(kv, key, &n);
    *val = (int64_t)n;
    return e;
}

/* Sets *HAS if the number is there at all. */
static int opt_num32(const struct dlist *kv, const char *key, uint32_t *val, int *has)
{
    const struct dlist *d = dlist_getchild(kv, key);
    *has = d && d->type != DL_NIL;
    return *has ? need_num32(kv, key, val) : 0;
}

static int parse_since(struct sync_header *h)
{
    int has, e;
    if (!dlist_getchild(h->tree, "SINCE_MODSEQ"))
        return 0;
    h->has_since = 1;
    if ((e = need_num64(h->tree, "SINCE_MODSEQ", &h->since_modseq)) ||
        (e = opt_num32(h->tree, "SINCE_CRC", &h->since_crc, &has)))
        return e;
    return opt_num32(h->tree, "SINCE_CRC_ANNOT", &h->since_crc_annot, &has);
}

/* Keys that only the long form has. */
static int parse_long(struct sync_header *h)
{
    const struct dlist *kv = h->tree;
    uint64_t ignored;
    struct dlist *list;
    int e;
    if ((e = need_string(kv, "PARTITION", &h->partition)) ||
        (e = need_string(kv, "ACL", &h->acl)) || (e = need_string(kv, "OPTIONS", &h->options)) ||
        (e = opt_string(kv, "QUOTAROOT", &h->quotaroot)) ||
        (e = need_num32(kv, "LAST_UID", &h->last_uid)) ||
        (e = need_num64(kv, "HIGHESTMODSEQ", &h->highestmodseq)) ||
        (e = need_num32(kv, "RECENTUID", &h->recentuid)) ||
        (e = need_date(kv, "RECENTTIME", &h->recenttime)) ||
        (e = need_date(kv, "LAST_APPENDDATE", &h->last_appenddate)) ||
        (e = need_num64(kv, "POP3_LAST_LOGIN", &ignored)) ||
        (e = need_num32(kv, "UIDVALIDITY", &h->uidvalidity)))
        return e;
    if ((e = opt_num32(kv, "SYNC_CRC", &h->sync_crc, &h->has_sync_crc)) ||
        (e = opt_num32(kv, "SYNC_CRC_ANNOT", &h->sync_crc_annot, &h->has_sync_crc_annot)))
        return e;
    const struct dlist *annots = dlist_getchild(kv, "ANNOTATIONS");
    if (annots && annots->type != DL_NIL && !dlist_getlist(kv, "ANNOTATIONS", &list))
        return XERR_PARAM;
    return parse_since(h);
}

/* An intermediate name or a tombstone: nothing but names, type and modseqs. */
static int is_short(const struct sync_header *h)
{
    return !dlist_getchild(h->tree, "LAST_UID") && h->mboxtype && strpbrk(h->mboxtype, "id");
}

int sync_header_parse(struct sync_header *h, struct dlist *kvlist)
{
    int e;
    memset(h, 0, sizeof(*h));
    h->tree = kvlist;
    if (kvlist->type != DL_KVLIST)
        return XERR_PARAM;
    if ((e = need_string(kvlist, "UNIQUEID", &h->uniqueid)) ||
        (e = need_string(kvlist, "MBOXNAME", &h->mboxname)) ||
        (e = opt_string(kvlist, "MBOXTYPE", &h->mboxtype)))
        return e;
    if (!*h->uniqueid || !*h->mboxname)
        return XERR_PARAM;
    if (!is_short(h))
        return parse_long(h);
    h->intermediate = 1;
    dlist_getnum64(kvlist, "HIGHESTMODSEQ", &h->highestmodseq);
    return opt_string(kvlist, "PARTITION", &h->partition);
}

static int is_listed(const char *key)
{
    return strcmp(key, "RECORD") && strncmp(key, "SINCE_", 6);
}

int sync_header_print(const struct sync_header *h, struct buf *out)
{
    int literal = 0;
    const char *sep = "";
    for (const struct dlist *d = h->tree->head; d; d = d->next) {
        if (!d->name || !is_listed(d->name))
            continue;
        buf_appendcstr(out, sep);
        literal |= dlist_print(d, out, 0);
        sep = " ";
    }
    return literal;
}

int sync_header_parsetext(struct sync_header *h, struct dlist_pool *pool, const char *text,
                          size_t len)
{
    struct buf whole = BUF_INITIALIZER;
    struct dlist_reader r;
    struct dlist *kv;
    buf_appendcstr(&whole, "%(");
    buf_appendmap(&whole, text, len);
    buf_appendcstr(&whole, ")\r\n");
    struct protstream *in = prot_readmem(whole.s, whole.len);
    dlist_reader_init(&r, in, pool);
    int e = dlist_reader_value(&r, &kv);
    if (!e)
        e = dlist_reader_eol(&r);
    if (!e && prot_peek(in) >= 0)
        e = XERR_SYNTAX;
    prot_free(&in);
    buf_free(&whole);
    return e ? e : sync_header_parse(h, kv);
}

int sync_header_set(struct sync_header *h, struct dlist_pool *pool, const char *key,
                    const char *val)
{
    struct dlist holder, *d = dlist_getchild(h->tree, key);
    if (!d)
        return dlist_setatom(pool, h->tree, key, val) ? sync_header_parse(h, h->tree) : XERR_TOOBIG;
    memset(&holder, 0, sizeof(holder));
    struct dlist *made = dlist_setatom(pool, &holder, NULL, val);
    if (!made)
        return XERR_TOOBIG;
    d->type = made->type;
    d->sval = made->sval;
    d->len = made->len;
    d->head = d->tail = NULL;
    return sync_header_parse(h, h->tree);
}

int sync_header_addmodseq(struct sync_header *h, struct dlist_pool *pool)
{
    struct dlist *list, holder;
    if (!dlist_getlist(h->tree, "ANNOTATIONS", &list))
        return 0;
    for (struct dlist *item = list->head; item; item = item->next) {
        struct dlist *before = dlist_getchild(item, "USERID");
        if (item->type != DL_KVLIST || !before || dlist_getchild(item, "MODSEQ"))
            continue;
        memset(&holder, 0, sizeof(holder));
        struct dlist *modseq = dlist_setnum64(pool, &holder, "MODSEQ", 0);
        if (!modseq)
            return XERR_TOOBIG;
        modseq->next = before->next;
        before->next = modseq;
        if (item->tail == before)
            item->tail = modseq;
    }
    return 0;
}
