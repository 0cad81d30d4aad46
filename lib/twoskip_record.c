/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* twoskip_record - reading and writing single records, and finding one.
 *
 * Reads go through a small direct-mapped cache of pages, which is dropped whenever somebody else
 * may have written (lib/twoskip.c, ts_lock). Everything read is checked here, once: offsets are
 * inside, lengths fit, checksums match; callers see only sound records. */
#include "config.h"

#include <string.h>

#include "lib/sha1crc.h"
#include "lib/twoskip_int.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static const unsigned char filler[8] = " BLANK\007\240";

void ts_forgetpages(struct twoskip *ts)
{
    for (int i = 0; ts->pages && i < TS_PAGES; i++)
        ts->pages[i].number = 0;
}

int ts_write(struct twoskip *ts, const void *p, size_t n, uint64_t at)
{
    uint64_t first = at / TS_PAGE + 1, last = (at + n) / TS_PAGE + 1;
    for (int i = 0; ts->pages && i < TS_PAGES; i++)
        if (ts->pages[i].number >= first && ts->pages[i].number <= last)
            ts->pages[i].number = 0;
    ssize_t r = vfs_pwrite(ts->vfs, ts->fd, p, n, (off_t)at);
    return r < 0 ? (int)r : 0;
}

static int load_page(struct twoskip *ts, uint64_t number, struct ts_page **out)
{
    if (!ts->pages)
        ts->pages = xcalloc(TS_PAGES, sizeof(struct ts_page));
    struct ts_page *page = &ts->pages[number % TS_PAGES];
    if (page->number != number) {
        page->number = 0;
        ssize_t n =
            vfs_pread(ts->vfs, ts->fd, page->data, TS_PAGE, (off_t)((number - 1) * TS_PAGE));
        if (n < 0)
            return (int)n;
        page->len = (size_t)n;
        page->number = number;
    }
    *out = page;
    return 0;
}

/* N bytes at AT; the caller has checked that they are inside. */
static int read_bytes(struct twoskip *ts, void *p, size_t n, uint64_t at)
{
    if (n > TS_PAGE) {
        ssize_t got = vfs_pread(ts->vfs, ts->fd, p, n, (off_t)at);
        return got < 0 ? (int)got : (size_t)got < n ? XERR_FORMAT : 0;
    }
    while (n) {
        struct ts_page *page = NULL;
        int r = load_page(ts, at / TS_PAGE + 1, &page);
        if (r)
            return r;
        size_t from = at % TS_PAGE, part = TS_PAGE - from < n ? TS_PAGE - from : n;
        if (from + part > page->len)
            return XERR_FORMAT;
        memcpy(p, page->data + from, part);
        p = (char *)p + part;
        at += part;
        n -= part;
    }
    return 0;
}

/* The same bytes where they lie in the cache, if they lie in one page; else, and if they are many, read
 * to SCRATCH. Valid until the next reading. */
static int peek_bytes(struct twoskip *ts, void *scratch, size_t n, uint64_t at,
                      const unsigned char **p)
{
    struct ts_page *page = NULL;
    size_t from = at % TS_PAGE;
    int r = 0;
    *p = scratch;
    if (n > TS_PAGE - from)
        return read_bytes(ts, scratch, n, at);
    r = load_page(ts, at / TS_PAGE + 1, &page);
    if (!r && from + n > page->len)
        r = XERR_FORMAT;
    if (!r)
        *p = (const unsigned char *)page->data + from;
    return r;
}

static uint64_t padded(uint64_t n)
{
    return (n + 7) & ~(uint64_t)7;
}

static uint32_t head_length(const struct ts_record *rec)
{
    return 8 + (rec->keylen >= 0xffff ? 8 : 0) + (rec->vallen >= 0xffffffff ? 8 : 0) +
           8 * (rec->level + 1) + 8;
}

/* Do type, level and lengths go together? */
static int plausible(const struct ts_record *rec)
{
    switch (rec->type) {
    case TS_IS_DUMMY:
        return rec->offset == TS_DUMMY && rec->level == TS_MAXLEVEL && !rec->keylen && !rec->vallen;
    case TS_IS_RECORD:
        return rec->level >= 1 && rec->level <= TS_MAXLEVEL && rec->keylen;
    case TS_IS_DELETE:
    case TS_IS_COMMIT:
        return rec->level == 0 && !rec->keylen && !rec->vallen;
    }
    return 0;
}

int ts_read(struct twoskip *ts, uint64_t offset, struct ts_record *rec)
{
    unsigned char scratch[TS_HEADMAX];
    const unsigned char *p;
    if (offset < TS_DUMMY || offset % 8 || offset > ts->end || ts->end - offset < 24)
        return XERR_FORMAT;
    uint64_t room = ts->end - offset;
    size_t n = room < sizeof(scratch) ? (size_t)room : sizeof(scratch);
    int r = peek_bytes(ts, scratch, n, offset, &p);
    if (r)
        return r;
    rec->offset = offset;
    rec->type = (enum ts_type)p[0];
    rec->level = p[1];
    rec->keylen = (uint64_t)p[2] << 8 | p[3];
    rec->vallen = ts_get32(p + 4);
    rec->headlen = head_length(rec);
    if (!plausible(rec) || rec->headlen > n)
        return XERR_FORMAT;
    const unsigned char *q = p + 8;
    if (rec->keylen == 0xffff) {
        rec->keylen = ts_get64(q);
        q += 8;
    }
    if (rec->vallen == 0xffffffff) {
        rec->vallen = ts_get64(q);
        q += 8;
    }
    if (head_length(rec) != rec->headlen) /* a long field for a short length */
        return XERR_FORMAT;
    for (unsigned i = 0; i <= rec->level; i++, q += 8)
        rec->next[i] = ts_get64(q);
    rec->tailcrc = ts_get32(q + 4);
    room -= rec->headlen;
    if (ts_get32(q) != crc32_map(0, p, (size_t)(q - p)) || rec->keylen > room ||
        rec->vallen > room - rec->keylen || padded(rec->keylen + rec->vallen) > room)
        return XERR_FORMAT;
    return 0;
}

/* Key and value and padding, checked: in B, or in the cache. */
static int read_tail(struct twoskip *ts, const struct ts_record *rec, struct buf *b,
                     const unsigned char **p)
{
    size_t n = (size_t)padded(rec->keylen + rec->vallen);
    buf_reset(b);
    int r = peek_bytes(ts, buf_ensure(b, n), n, rec->offset + rec->headlen, p);
    return !r && crc32_map(0, *p, n) != rec->tailcrc ? XERR_FORMAT : r;
}

/* The first N of the bytes at P, which may be its own. */
static void keep(struct buf *b, const unsigned char *p, size_t n)
{
    if (p != (const unsigned char *)b->s)
        memcpy(b->s, p, n);
    b->len = n;
}

int ts_key(struct twoskip *ts, const struct ts_record *rec, struct buf *key)
{
    int r;
    if (rec->keylen > TS_MAXKEY)
        return XERR_TOOBIG;
    const unsigned char *p;
    if (rec->keylen + rec->vallen <= TS_PAGE) {
        r = read_tail(ts, rec, key, &p);
    } else {
        buf_reset(key);
        p = (unsigned char *)buf_ensure(key, (size_t)rec->keylen);
        r = read_bytes(ts, key->s, (size_t)rec->keylen, rec->offset + rec->headlen);
    }
    if (!r)
        keep(key, p, (size_t)rec->keylen);
    return r;
}

int ts_keyvalue(struct twoskip *ts, const struct ts_record *rec, struct buf *key, struct buf *value)
{
    if (rec->keylen > TS_MAXKEY || rec->vallen > TS_MAXVALUE)
        return XERR_TOOBIG;
    const unsigned char *p;
    int r = read_tail(ts, rec, key, &p);
    if (r)
        return r;
    buf_setmap(value, p + rec->keylen, (size_t)rec->vallen);
    keep(key, p, (size_t)rec->keylen);
    return 0;
}

size_t ts_encode(const struct ts_record *rec, unsigned char *p)
{
    unsigned long_key = rec->keylen >= 0xffff, long_value = rec->vallen >= 0xffffffff;
    uint32_t keylen = long_key ? 0xffff : (uint32_t)rec->keylen;
    p[0] = (unsigned char)rec->type;
    p[1] = (unsigned char)rec->level;
    p[2] = (unsigned char)(keylen >> 8);
    p[3] = (unsigned char)keylen;
    unsigned char *q = ts_put32(p + 4, long_value ? 0xffffffff : (uint32_t)rec->vallen);
    if (long_key)
        q = ts_put64(q, rec->keylen);
    if (long_value)
        q = ts_put64(q, rec->vallen);
    for (unsigned i = 0; i <= rec->level; i++)
        q = ts_put64(q, rec->next[i]);
    q = ts_put32(q, crc32_map(0, p, (size_t)(q - p)));
    q = ts_put32(q, rec->tailcrc);
    return (size_t)(q - p);
}

int ts_writehead(struct twoskip *ts, const struct ts_record *rec)
{
    unsigned char p[TS_HEADMAX];
    size_t n = ts_encode(rec, p);
    return ts_write(ts, p, n, rec->offset);
}

uint64_t ts_link(const struct ts_record *rec, unsigned n, uint64_t end)
{
    if (n >= 2)
        return rec->next[n]; /* cppcheck-suppress arrayIndexOutOfBoundsCond */
    if (rec->next[0] >= end)
        return rec->next[1];
    if (rec->next[1] >= end)
        return rec->next[0];
    return rec->next[0] > rec->next[1] ? rec->next[0] : rec->next[1];
}

void ts_setlink(struct ts_record *rec, unsigned n, uint64_t to, uint64_t cur)
{
    if (n >= 2)
        rec->next[n] = to; /* cppcheck-suppress arrayIndexOutOfBoundsCond */
    else if (rec->next[0] >= cur)
        rec->next[0] = to;
    else if (rec->next[1] >= cur)
        rec->next[1] = to;
    else
        rec->next[rec->next[0] < rec->next[1] ? 0 : 1] = to;
}

int ts_next(struct twoskip *ts, const struct ts_record *from, unsigned n, struct ts_record *rec)
{
    uint64_t to = ts_link(from, n, ts->end);
    rec->offset = 0;
    if (!to)
        return 0;
    int r = ts_read(ts, to, rec);
    if (!r && n == 1 && rec->type == TS_IS_DELETE) {
        to = rec->next[0];
        rec->offset = 0;
        if (!to)
            return 0;
        r = ts_read(ts, to, rec);
    }
    if (!r && (rec->type != TS_IS_RECORD || rec->level < n))
        r = XERR_FORMAT;
    return r;
}

/* One list of the search: advance CUR (whose key is CURKEY, unset for the dummy) on list N as far
 * as keys are smaller. AHEAD is the nearest known record that is not. */
struct search {
    struct ts_record cur, ahead;
    struct buf curkey, aheadkey, key;
};

static int search_list(struct twoskip *ts, struct search *s, unsigned n)
{
    for (;;) {
        struct ts_record next;
        uint64_t to = ts_link(&s->cur, n, ts->end);
        if (to && to == s->ahead.offset)
            return 0;
        int r = ts_next(ts, &s->cur, n, &next);
        if (r)
            return r;
        if (next.offset == s->ahead.offset)
            return 0; /* also if both are 0: the end of the list */
        if (!next.offset)
            return XERR_FORMAT; /* a higher list has a record that this one lacks */
        struct buf nextkey = BUF_INITIALIZER;
        r = ts_key(ts, &next, &nextkey);
        if (!r && s->cur.offset != TS_DUMMY && buf_cmp(&nextkey, &s->curkey) <= 0)
            r = XERR_FORMAT;
        if (!r && s->ahead.offset && buf_cmp(&nextkey, &s->aheadkey) >= 0)
            r = XERR_FORMAT;
        if (r) {
            buf_free(&nextkey);
            return r;
        }
        int stop = buf_cmp(&nextkey, &s->key) >= 0;
        struct buf *keep = stop ? &s->aheadkey : &s->curkey;
        buf_free(keep);
        *keep = nextkey;
        *(stop ? &s->ahead : &s->cur) = next;
        if (stop)
            return 0;
    }
}

/* For a key that is there, its neighbours ahead are its own successors. */
static int locate_found(struct twoskip *ts, const struct search *s, struct ts_loc *loc)
{
    struct ts_record next;
    loc->found = 1;
    loc->rec = s->ahead;
    for (unsigned n = 2; n <= loc->rec.level; n++) {
        if (loc->forw[n] != loc->rec.offset)
            return XERR_FORMAT;
        loc->forw[n] = loc->rec.next[n];
    }
    int r = ts_next(ts, &loc->rec, 1, &next);
    loc->forw[1] = next.offset;
    return r;
}

int ts_locate(struct twoskip *ts, const void *key, size_t keylen, struct ts_loc *loc)
{
    struct search s;
    memset(&s, 0, sizeof(s));
    memset(loc, 0, sizeof(*loc));
    buf_setmap(&s.key, key, keylen);
    int r = ts_read(ts, TS_DUMMY, &s.cur);
    if (!r && s.cur.type != TS_IS_DUMMY)
        r = XERR_FORMAT;
    for (unsigned n = TS_MAXLEVEL; n >= 1 && !r; n--) {
        r = search_list(ts, &s, n);
        loc->back[n] = s.cur.offset;
        loc->forw[n] = n > 1 ? s.cur.next[n] : s.ahead.offset;
    }
    if (!r && s.ahead.offset && !buf_cmp(&s.aheadkey, &s.key))
        r = locate_found(ts, &s, loc);
    buf_free(&s.curkey);
    buf_free(&s.aheadkey);
    buf_free(&s.key);
    return r;
}

/* How many fillers keep the changing part of a head of length HEAD (from its 8th byte on) within
 * one block: the first and the last of its words must not lie in different ones. */
static unsigned fillers(uint64_t end, uint32_t head)
{
    unsigned n = 0;
    if (head > TS_BLOCK - 8)
        return 0;
    while ((end + 8) % TS_BLOCK > (end - 8 + head) % TS_BLOCK) {
        end += sizeof(filler);
        n++;
    }
    return n;
}

int ts_append(struct twoskip *ts, struct ts_record *rec, const void *key, const void *value)
{
    static const char zeros[8];
    struct buf b = BUF_INITIALIZER;
    rec->headlen = head_length(rec);
    for (unsigned n = fillers(ts->end, rec->headlen); n; n--)
        buf_appendmap(&b, filler, sizeof(filler));
    rec->offset = ts->end + b.len;
    size_t head = b.len, tail = head + rec->headlen;
    buf_ensure(&b, rec->headlen);
    b.len = tail;
    buf_appendmap(&b, key, (size_t)rec->keylen);
    buf_appendmap(&b, value, (size_t)rec->vallen);
    buf_appendmap(&b, zeros, (tail - b.len) % 8);
    rec->tailcrc = crc32_map(0, b.s + tail, b.len - tail);
    ts_encode(rec, (unsigned char *)b.s + head);
    int r = ts_write(ts, b.s, b.len, ts->end);
    if (!r)
        ts->end += b.len;
    buf_free(&b);
    return r;
}
