/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* sync_record - message records of MAILBOX commands, and their part of SYNC_CRC.
 *
 * One command may hold a million records, so nothing here builds a tree or formats with printf:
 * numbers go straight from the stream into the struct, lists are copied as canonical text into
 * buffers that the next record uses again. */
#include "config.h"

#include <string.h>
#include <strings.h>

#include "imap/sync_record.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"

void sync_record_fini(struct sync_record *rec)
{
    buf_free(&rec->flags);
    buf_free(&rec->annotations);
    buf_free(&rec->extra);
    buf_free(&rec->work);
    memset(rec, 0, sizeof(*rec));
}

/* ---- Reading ---- */

enum key {
    K_UID = 1,
    K_MODSEQ = 2,
    K_LAST_UPDATED = 4,
    K_FLAGS = 8,
    K_INTERNALDATE = 16,
    K_SIZE = 32,
    K_GUID = 64,
    K_ANNOTATIONS = 128,
    K_OTHER = 256,
    K_MANDATORY = K_UID | K_MODSEQ | K_LAST_UPDATED | K_INTERNALDATE | K_GUID
};

static enum key which_key(const char *s, size_t len)
{
    static const struct {
        const char *name;
        size_t len;
        enum key key;
    } keys[] = {
        {"UID", 3, K_UID},
        {"MODSEQ", 6, K_MODSEQ},
        {"LAST_UPDATED", 12, K_LAST_UPDATED},
        {"FLAGS", 5, K_FLAGS},
        {"INTERNALDATE", 12, K_INTERNALDATE},
        {"SIZE", 4, K_SIZE},
        {"GUID", 4, K_GUID},
        {"ANNOTATIONS", 11, K_ANNOTATIONS},
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (len == keys[i].len && !memcmp(s, keys[i].name, len))
            return keys[i].key;
    return K_OTHER;
}

static int is_flag(const char *s, size_t len, const char *flag)
{
    return len == strlen(flag) && !strncasecmp(s, flag, len);
}

/* The list of flags; \Expunged becomes rec->expunged instead. A keyword may be called NIL, and
 * clients do not quote it; there is no other sense that a NIL could have here. */
static int read_flags(struct sync_record *rec, struct dlist_reader *r, size_t max)
{
    int e = dlist_reader_peek(r);
    if (e >= 0)
        e = e == '(' ? dlist_reader_enter(r, 0) : XERR_PARAM;
    if (e)
        return e;
    buf_setcstr(&rec->flags, "(");
    while ((e = dlist_reader_more(r)) > 0) {
        size_t before = rec->flags.len;
        int c = dlist_reader_peek(r);
        if (c < 0)
            return c;
        if (c == '(' || c == '%')
            return XERR_PARAM;
        if (before > 1)
            buf_putc(&rec->flags, ' ');
        size_t at = rec->flags.len;
        if ((e = dlist_reader_copy(r, &rec->flags, max > at ? max - at : 0)))
            return e;
        if (rec->flags.len - at == 3 && !memcmp(rec->flags.s + at, "NIL", 3)) {
            buf_truncate(&rec->flags, at);
            buf_appendcstr(&rec->flags, "\"NIL\"");
        }
        if (is_flag(rec->flags.s + at, rec->flags.len - at, "\\Expunged")) {
            rec->expunged = 1;
            buf_truncate(&rec->flags, before);
        }
    }
    buf_putc(&rec->flags, ')');
    return e;
}

static int read_guid(struct sync_record *rec, struct dlist_reader *r)
{
    int e = dlist_reader_astring(r, &rec->work, 2 * MESSAGE_GUID_LEN);
    if (!e)
        e = message_guid_decode(&rec->guid, rec->work.s, rec->work.len);
    return e == XERR_SYNTAX ? XERR_PARAM : e;
}

static int read_annotations(struct sync_record *rec, struct dlist_reader *r, size_t max)
{
    int e = dlist_reader_peek(r);
    if (e < 0)
        return e;
    return e == '(' ? dlist_reader_copy(r, &rec->annotations, max) : XERR_PARAM;
}

/* A key we do not know (in rec->work) is kept with its value. */
static int read_other(struct sync_record *rec, struct dlist_reader *r, size_t max)
{
    buf_putc(&rec->extra, ' ');
    if (dlist_printastring(rec->work.s, rec->work.len, &rec->extra, 0))
        r->literal = 1;
    buf_putc(&rec->extra, ' ');
    if (rec->extra.len > max)
        return XERR_TOOBIG;
    return dlist_reader_copy(r, &rec->extra, max - rec->extra.len);
}

static int read_item(struct sync_record *rec, enum key key, struct dlist_reader *r, size_t max)
{
    uint64_t num = 0;
    int e;
    switch (key) {
    case K_FLAGS:
        return read_flags(rec, r, max);
    case K_GUID:
        return read_guid(rec, r);
    case K_ANNOTATIONS:
        return read_annotations(rec, r, max);
    case K_OTHER:
        return read_other(rec, r, max);
    default:
        e = dlist_reader_num(r, &num);
    }
    if (key == K_UID)
        rec->uid = (uint32_t)num;
    else if (key == K_MODSEQ)
        rec->modseq = num;
    else if (key == K_LAST_UPDATED)
        rec->last_updated = (int64_t)num;
    else if (key == K_INTERNALDATE)
        rec->internaldate = (int64_t)num;
    else
        rec->size = num;
    return e;
}

static void clear(struct sync_record *rec)
{
    rec->uid = 0;
    rec->modseq = 0;
    rec->last_updated = rec->internaldate = 0;
    rec->size = 0;
    rec->expunged = 0;
    buf_setcstr(&rec->flags, "()");
    buf_reset(&rec->annotations);
    buf_reset(&rec->extra);
}

static int read_items(struct sync_record *rec, struct dlist_reader *r, size_t max)
{
    unsigned seen = 0;
    int e = dlist_reader_enter(r, 1);
    if (e)
        return e;
    while ((e = dlist_reader_more(r)) > 0) {
        if ((e = dlist_reader_key(r, &rec->work)))
            return e;
        enum key key = which_key(rec->work.s, rec->work.len);
        if (key != K_OTHER && (seen & key))
            e = dlist_reader_skip(r); /* the first one counts */
        else
            e = read_item(rec, key, r, max);
        if (e)
            return e;
        seen |= key;
    }
    if (!e && ((seen & K_MANDATORY) != K_MANDATORY || !rec->uid))
        e = XERR_PARAM;
    return e;
}

int sync_record_read(struct sync_record *rec, struct dlist_reader *r, size_t max)
{
    int literal = r->literal;
    clear(rec);
    r->literal = 0;
    int e = read_items(rec, r, max);
    rec->literal = r->literal;
    r->literal |= literal;
    return e;
}

/* ---- Printing ---- */

static void print_num(struct buf *out, const char *key, uint64_t num)
{
    buf_appendcstr(out, key);
    buf_appendu64(out, num);
}

void sync_record_print(const struct sync_record *rec, struct buf *out)
{
    char hex[41];
    print_num(out, "%(UID ", rec->uid);
    print_num(out, " MODSEQ ", rec->modseq);
    print_num(out, " LAST_UPDATED ", (uint64_t)rec->last_updated);
    buf_appendcstr(out, " FLAGS (");
    if (rec->expunged)
        buf_appendcstr(out, rec->flags.len > 2 ? "\\Expunged " : "\\Expunged");
    if (rec->flags.len)
        buf_appendmap(out, rec->flags.s + 1, rec->flags.len - 1);
    else
        buf_putc(out, ')');
    print_num(out, " INTERNALDATE ", (uint64_t)rec->internaldate);
    print_num(out, " SIZE ", rec->size);
    message_guid_encode(&rec->guid, hex);
    buf_appendcstr(out, " GUID ");
    buf_appendmap(out, hex, 40);
    if (rec->annotations.len) {
        buf_appendcstr(out, " ANNOTATIONS ");
        buf_append(out, &rec->annotations);
    }
    buf_append(out, &rec->extra);
    buf_putc(out, ')');
}

/* ---- SYNC_CRC ---- */

/* The flags met so far: each counts once, whatever its case. */
struct flagset {
    uint32_t crc;
    unsigned system;
    int nkeywords;
    uint32_t keywords[128]; /* as many as a Cyrus mailbox can have */
};

static uint32_t lower_crc(const char *s, size_t len)
{
    char lower[256];
    uint32_t crc = 0;
    while (len) {
        size_t n = len < sizeof(lower) ? len : sizeof(lower);
        for (size_t i = 0; i < n; i++)
            lower[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 32 : s[i]);
        crc = crc32_map(crc, lower, n);
        s += n;
        len -= n;
    }
    return crc;
}

static void add_flag(struct flagset *set, const char *s, size_t len)
{
    static const char *const names[] = {"\\Seen", "\\Deleted", "\\Answered", "\\Flagged",
                                        "\\Draft"};
    unsigned i;
    uint32_t crc;
    if (len && s[0] == '\\') {
        for (i = 0; i < 5 && !is_flag(s, len, names[i]); i++)
            ;
        if (i == 5 || set->system & 1u << i)
            return;
        set->system |= 1u << i;
        set->crc ^= lower_crc(s, len);
        return;
    }
    crc = lower_crc(s, len);
    for (int k = 0; k < set->nkeywords; k++)
        if (set->keywords[k] == crc)
            return;
    if (set->nkeywords < 128)
        set->keywords[set->nkeywords++] = crc;
    set->crc ^= crc;
}

/* The string that begins at P in canonical text: its bytes, and where the text goes on. */
static const char *canonical_string(const char *p, const char *end, const char **s, size_t *len)
{
    const char *stop;
    *s = p;
    if (*p == '"') {
        *s = ++p;
        stop = memchr(p, '"', (size_t)(end - p));
        *len = (size_t)((stop ? stop : end) - p);
        return stop ? stop + 1 : end;
    }
    if (*p == '{') {
        size_t n = 0;
        for (p++; p < end && *p >= '0' && *p <= '9' && n < (size_t)(end - p); p++)
            n = n * 10 + (size_t)(*p - '0');
        stop = memchr(p, '\n', (size_t)(end - p));
        *s = stop ? stop + 1 : end;
        *len = n < (size_t)(end - *s) ? n : (size_t)(end - *s);
        return *s + *len;
    }
    while (p < end && *p != ' ' && *p != ')')
        p++;
    *len = (size_t)(p - *s);
    return p;
}

/* XOR of the CRCs of the flags in the canonical list TEXT. */
static uint32_t flags_crc(const char *text, size_t n)
{
    struct flagset set;
    const char *p = text, *end = text + n, *s;
    size_t len;
    set.crc = 0;
    set.system = 0;
    set.nkeywords = 0;
    while (p < end) {
        if (*p == '(' || *p == ')' || *p == ' ') {
            p++;
            continue;
        }
        p = canonical_string(p, end, &s, &len);
        add_flag(&set, s, len);
    }
    return set.crc;
}

static char *put_num(char *at, uint64_t num)
{
    char digits[20];
    size_t i = sizeof(digits);
    do
        digits[--i] = (char)('0' + num % 10);
    while (num /= 10);
    memcpy(at, digits + i, sizeof(digits) - i);
    return at + sizeof(digits) - i;
}

uint32_t sync_crc_basic(uint32_t uid, uint64_t modseq, int64_t last_updated, const char *flags,
                        size_t n, int64_t internaldate, const struct message_guid *guid)
{
    char text[5 * 20 + 41 + 8];
    char *at = put_num(text, uid);
    *at++ = ' ';
    at = put_num(at, modseq);
    *at++ = ' ';
    at = put_num(at, (uint64_t)last_updated);
    *at++ = ' ';
    *at++ = '(';
    at = put_num(at, n ? flags_crc(flags, n) : 0);
    *at++ = ')';
    *at++ = ' ';
    at = put_num(at, (uint64_t)internaldate);
    *at++ = ' ';
    message_guid_encode(guid, at);
    return crc32_map(0, text, (size_t)(at - text) + 40);
}

uint32_t sync_record_crc(const struct sync_record *rec)
{
    if (rec->expunged)
        return 0;
    return sync_crc_basic(rec->uid, rec->modseq, rec->last_updated, rec->flags.s, rec->flags.len,
                          rec->internaldate, &rec->guid);
}

uint32_t sync_crc_annot(uint32_t uid, const char *entry, const char *userid, const void *value,
                        size_t n)
{
    char num[24];
    char *at = put_num(num, uid);
    *at++ = ' ';
    uint32_t crc = crc32_map(0, num, (size_t)(at - num));
    crc = crc32_map(crc, entry, strlen(entry));
    crc = crc32_map(crc, " ", 1);
    crc = crc32_map(crc, userid, strlen(userid));
    crc = crc32_map(crc, " ", 1);
    return crc32_map(crc, value, n);
}

int sync_record_equal(const struct sync_record *a, const struct sync_record *b)
{
    if (a->uid != b->uid || a->modseq != b->modseq || a->last_updated != b->last_updated ||
        a->internaldate != b->internaldate || a->size != b->size || a->expunged != b->expunged ||
        !message_guid_equal(&a->guid, &b->guid) || buf_cmp(&a->flags, &b->flags))
        return 0;
    return buf_cmp(&a->annotations, &b->annotations) || buf_cmp(&a->extra, &b->extra) ? 1 : 2;
}
