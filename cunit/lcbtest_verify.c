/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Verification and repair, as their tests call them. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "cunit/lcbtest_verify.h"
#include "cunit/unit.h"
#include "lib/xerr.h"

static void note(void *rock, const struct lcb_finding *f)
{
    struct lcbtest_said *s = rock;
    s->count[f->kind]++;
    buf_printf(&s->text, "%d %lld@%lld %s\n", (int)f->kind, (long long)f->seq, (long long)f->offset,
               f->what);
}

void lcbtest_verify(struct lcbtest *t, const char *path, struct lcb_verify *v, struct lcbtest_said *s)
{
    *v = (struct lcb_verify){.found = note, .rock = s};
    buf_reset(&s->text);
    memset(s->count, 0, sizeof(s->count));
    int r = lcb_verify(t->store, path, v);
    if (r)
        printf("\nverify: %s\n", error_message(r));
    CU_ASSERT_EQUAL(r, 0);
}

void lcbtest_clean(struct lcbtest *t, const char *path, int waiting, const char *what)
{
    struct lcb_verify v;
    struct lcbtest_said s = {.text = BUF_INITIALIZER};
    lcbtest_verify(t, path, &v, &s);
    if (v.data || v.index || v.waiting != waiting)
        printf("\n%s: %lld, %lld, %lld\n%s", what, (long long)v.data, (long long)v.index,
               (long long)v.waiting, buf_cstring(&s.text));
    CU_ASSERT_EQUAL(v.data, 0);
    CU_ASSERT_EQUAL(v.index, 0);
    CU_ASSERT_EQUAL(v.waiting, waiting);
    buf_free(&s.text);
}

int lcbtest_repair(struct lcbtest *t, const char *path, struct lcb_repair *rp)
{
    static CU_pTest test;
    static int turn;
    if (test != CU_get_current_test()) {
        test = CU_get_current_test(); /* what ran before does not matter */
        turn = 0;
    }
    return lcbtest_repair_as(t, path, turn++ % 2, rp);
}

int lcbtest_repair_as(struct lcbtest *t, const char *path, int online, struct lcb_repair *rp)
{
    struct lcb *b = NULL;
    *rp = (struct lcb_repair){.chunks = -1};
    if (online)
        return lcb_reindex(t->store, NULL, path, 0, 0, rp);
    int r = lcb_open_file(t->store, path, LCB_WRITE | LCB_REPAIR, 0, &b);
    if (!r)
        r = lcb_repair(b, rp);
    lcb_close(&b);
    return r;
}
