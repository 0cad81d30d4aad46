/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* mboxname - whose mailbox is it, and what do people call it.
 *
 * An internal name is [domain "!"] component *("." component). A dot inside a component is written
 * "^". A mailbox below "user.LOCALPART" belongs to that user; a deleted one has the prefix (usually
 * "DELETED") in front and the time of its deletion in hex behind. All else is shared and belongs
 * to nobody. Names are bytes: neither character sets nor letter case matter here. */
#include "config.h"

#include <string.h>

#include "imap/mboxname.h"
#include "lib/xerr.h"

/* A stretch of somebody else's string. */
struct part {
    const char *s;
    size_t n;
};

static int part_is(const struct part *p, const char *s)
{
    return s && strlen(s) == p->n && !memcmp(p->s, s, p->n);
}

static int part_isdomain(const struct mboxname_rules *rules, const struct part *domain)
{
    return domain->n && !part_is(domain, rules->defaultdomain);
}

/* Cut off the first component, which is returned; REST loses it and the dot. */
static struct part next_component(struct part *rest)
{
    const char *dot = memchr(rest->s, '.', rest->n);
    struct part first = {rest->s, dot ? (size_t)(dot - rest->s) : rest->n};
    size_t used = dot ? first.n + 1 : first.n;
    rest->s += used;
    rest->n -= used;
    return first;
}

/* Domain (empty if none) and the name behind it. */
static struct part split_domain(const char *name, struct part *rest)
{
    const char *bang = strchr(name, '!');
    struct part domain = {name, bang ? (size_t)(bang - name) : 0};
    rest->s = bang ? bang + 1 : name;
    rest->n = strlen(rest->s);
    return domain;
}

static size_t count_dots(const struct part *p)
{
    size_t dots = 0;
    for (size_t i = 0; i < p->n; i++)
        dots += p->s[i] == '.';
    return dots;
}

/* Is NAME (without domain) deleted? Then cut it down to what was there before. */
static int strip_deleted(const struct mboxname_rules *rules, struct part *name)
{
    struct part rest = *name;
    if (count_dots(name) < 2)
        return 0;
    struct part first = next_component(&rest);
    if (!part_is(&first, rules->deletedprefix))
        return 0;
    while (rest.s[rest.n - 1] != '.') /* there is one: two dots were counted */
        rest.n--;
    rest.n--;
    *name = rest;
    return 1;
}

static void append_swapped(struct buf *out, const struct part *p, char from, char to)
{
    char *at = buf_ensure(out, p->n);
    for (size_t i = 0; i < p->n; i++)
        at[i] = p->s[i] == from ? to : p->s[i];
    out->len += p->n;
}

int mboxname_isdeleted(const struct mboxname_rules *rules, const char *name)
{
    struct part rest;
    split_domain(name, &rest);
    return strip_deleted(rules, &rest);
}

void mboxname_to_userid(const struct mboxname_rules *rules, const char *name, struct buf *userid)
{
    struct part rest;
    struct part domain = split_domain(name, &rest);
    strip_deleted(rules, &rest);
    struct part top = next_component(&rest);
    struct part local = next_component(&rest);
    buf_reset(userid);
    if (!part_is(&top, "user") || !local.n) {
        buf_setcstr(userid, MBOXNAME_SHARED);
        return;
    }
    append_swapped(userid, &local, '^', '.');
    if (part_isdomain(rules, &domain)) {
        buf_putc(userid, '@');
        buf_appendmap(userid, domain.s, domain.n);
    }
}

int mboxname_userid_canonical(const struct mboxname_rules *rules, const char *userid, size_t len,
                              struct buf *out)
{
    enum { MAX_USERID = 1000 };
    buf_reset(out);
    if (len > MAX_USERID)
        return XERR_PARAM;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)userid[i];
        if (c < 0x20 || c == 0x7f || c == '/')
            return XERR_PARAM;
    }
    const char *at = memrchr(userid, '@', len);
    if (at) {
        struct part domain = {at + 1, len - (size_t)(at + 1 - userid)};
        if (part_is(&domain, rules->defaultdomain))
            len = (size_t)(at - userid);
    }
    if (!len || userid[0] == '.' || userid[0] == '@')
        return XERR_PARAM; /* also "." and "..": it becomes part of a file's name */
    buf_setmap(out, userid, len);
    return 0;
}

/* Has NAME, which has no "/", the look of an internal name? With "/" as separator an external
 * "user.joe" would be a shared mailbox with a dot in its name, which nobody has. */
static int looks_internal(const struct mboxname_rules *rules, const struct part *name)
{
    struct part rest = *name;
    if (memchr(name->s, '/', name->n))
        return 0;
    struct part top = next_component(&rest);
    return rest.n && (part_is(&top, "user") || part_is(&top, rules->deletedprefix));
}

void mboxname_from_external(const struct mboxname_rules *rules, const char *external,
                            struct buf *out)
{
    struct part name = {external, strlen(external)};
    struct part domain = {NULL, 0};
    buf_reset(out);
    if (strchr(external, '!')) {
        buf_setcstr(out, external);
        return;
    }
    const char *at = strrchr(external, '@');
    if (at && !strchr(at, '/')) {
        domain.s = at + 1;
        domain.n = strlen(at + 1);
        name.n = (size_t)(at - external);
    }
    if (part_isdomain(rules, &domain)) {
        buf_appendmap(out, domain.s, domain.n);
        buf_putc(out, '!');
    }
    if (!rules->unixhierarchysep || looks_internal(rules, &name)) {
        buf_appendmap(out, name.s, name.n);
        return;
    }
    size_t start = out->len;
    append_swapped(out, &name, '.', '^');
    for (size_t i = start; i < out->len; i++)
        if (out->s[i] == '/')
            out->s[i] = '.';
}

void mboxname_to_external(const struct mboxname_rules *rules, const char *internal, struct buf *out)
{
    struct part rest;
    struct part domain = split_domain(internal, &rest);
    buf_reset(out);
    if (rules->unixhierarchysep) {
        append_swapped(out, &rest, '.', '/');
        for (size_t i = 0; i < out->len; i++)
            if (out->s[i] == '^')
                out->s[i] = '.';
    } else {
        buf_appendmap(out, rest.s, rest.n);
    }
    if (part_isdomain(rules, &domain)) {
        buf_putc(out, '@');
        buf_appendmap(out, domain.s, domain.n);
    }
}
