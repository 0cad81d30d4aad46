/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcbtest_state - what a backup answers when it is asked for the state at some time, as text. Positions
 * are not in it, so that backups can be compared whose data files differ. */
#include "config.h"

#include <string.h>

#include "backup/lcb_history.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"

struct state {
    struct lcb *b;
    int64_t at;
    struct buf *out;
};

static int ignore(void *rock, const void *p, size_t n)
{
    (void)rock;
    (void)p;
    (void)n;
    return 0;
}

static int put_record(void *rock, const struct lcb_record *rec)
{
    struct state *s = rock;
    if (rec->rec.expunged)
        return 0;
    buf_appendcstr(s->out, "  ");
    sync_record_print(&rec->rec, s->out);
    int r = lcb_read_content(s->b, &rec->rec.guid, ignore, NULL);
    CU_ASSERT(r == 0 || r == XERR_NOTFOUND);
    CU_ASSERT_EQUAL(r == 0, rec->has_content);
    buf_appendcstr(s->out, r == 0 ? " here\n" : r == XERR_NOTFOUND ? " not here\n" : " damaged\n");
    return 0;
}

static int put_folder(void *rock, const struct lcb_folder *f)
{
    struct state *s = rock;
    buf_printf(s->out, "mailbox %s %s ", f->uniqueid, f->mboxname);
    buf_appendmap(s->out, f->header, f->headerlen);
    buf_putc(s->out, '\n');
    return lcb_foreach_record(s->b, f->id, s->at, put_record, s);
}

static int put_sub(void *rock, const char *name)
{
    struct state *s = rock;
    buf_printf(s->out, "sub %s\n", name);
    return 0;
}

static int put_seen(void *rock, const struct lcb_seen *n)
{
    struct state *s = rock;
    buf_printf(s->out, "seen %s %lld %u %lld %s\n", n->uniqueid, (long long)n->lastread, n->lastuid,
               (long long)n->lastchange, n->seenuids);
    return 0;
}

static int put_script(void *rock, const struct lcb_script *n)
{
    struct state *s = rock;
    buf_printf(s->out, "script %s %lld %d ", n->filename, (long long)n->last_update, n->active);
    buf_appendmap(s->out, n->content, n->len);
    buf_putc(s->out, '\n');
    return 0;
}

static int put_quota(void *rock, const char *root, const char *text, size_t len)
{
    struct state *s = rock;
    buf_printf(s->out, "quota %s ", root);
    buf_appendmap(s->out, text, len);
    buf_putc(s->out, '\n');
    return 0;
}

static int put_annotation(void *rock, const char *entry, const char *userid, const char *value,
                          size_t len)
{
    struct state *s = rock;
    buf_printf(s->out, "annotation %s %s ", entry, userid);
    buf_appendmap(s->out, value, len);
    buf_putc(s->out, '\n');
    return 0;
}

int lcbtest_state(struct lcb *b, int64_t time, struct buf *out)
{
    struct state s = {.b = b, .out = out};
    int r = lcb_history_at(b, time, &s.at);
    if (r)
        return r;
    buf_printf(out, "at %lld\n", (long long)time);
    r = lcb_foreach_folder(b, s.at, 0, put_folder, &s);
    if (!r)
        r = lcb_foreach_sub(b, s.at, put_sub, &s);
    if (!r)
        r = lcb_foreach_seen(b, s.at, put_seen, &s);
    if (!r)
        r = lcb_foreach_script(b, s.at, put_script, &s);
    if (!r)
        r = lcb_foreach_quota(b, s.at, put_quota, &s);
    if (!r)
        r = lcb_foreach_annotation(b, s.at, put_annotation, &s);
    return r;
}

void lcbtest_states(const char *path, struct lcbtest *t, int64_t from, struct buf *out)
{
    struct lcb *b = NULL;
    buf_reset(out);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(t->store, path, 0, 0, &b), 0);
    for (int64_t at = from; at <= lcbtest_time() + 1; at++)
        CU_ASSERT_EQUAL(lcbtest_state(b, at, out), 0);
    lcb_close(&b);
}
