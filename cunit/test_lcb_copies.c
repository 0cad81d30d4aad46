/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of reconstruct with several data files of a user that end in the same second: what is in them
 * decides, not how long they are. And of setting aside one of them, but nothing else, by its path. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup/lcb_db.h"
#include "backup/lcb_delete.h"
#include "backup/lcb_int.h"
#include "backup/lcb_reconstruct.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

struct world {
    struct lcbtest t;
    char *path, *a, *b; /* joe's file, and names for others of his, before and behind it */
    struct buf whole;   /* its bytes */
    size_t first;       /* of them, to the end of the first commit */
    struct buf texts;
};

/* One commit in joe's backup, at the same second as the others. */
static char *change(struct world *w, unsigned n)
{
    struct lcb *b = NULL;
    const char *records[] = {NULL};
    CU_ASSERT_EQUAL_FATAL(lcb_open(w->t.store, "joe", LCB_WRITE | LCB_CREATE, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_upload(b, n, 0), 0);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("u1", "user.joe", n, n, ""), records, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    char *path = xstrdup(lcb_path(b));
    lcb_close(&b);
    return path;
}

static void begin(struct world *w)
{
    struct stat st;
    memset(w, 0, sizeof(*w));
    lcbtest_init(&w->t, "");
    lcbtest_open(&w->t, NULL);
    w->path = change(w, 1);
    CU_ASSERT_EQUAL_FATAL(stat(w->path, &st), 0);
    w->first = (size_t)st.st_size;
    free(change(w, 2));
    lcbtest_read(w->path, &w->whole);
    CU_ASSERT_FATAL(w->whole.len > w->first);
    w->a = xasprintf("%s/one/j/joe_000000", w->t.dir);
    w->b = xasprintf("%s/one/j/joe_zzzzzz", w->t.dir);
}

static void end(struct world *w)
{
    free(w->path);
    free(w->a);
    free(w->b);
    buf_free(&w->whole);
    buf_free(&w->texts);
    lcbtest_fini(&w->t);
}

static int note_found(void *rock, const struct lcb_found *f)
{
    static const char *const words[] = {"ok", "added", "replaced", "wrong", "duplicate"};
    struct world *w = rock;
    if (f->kind <= LCB_FOUND_DUPLICATE)
        buf_printf(&w->texts, "%s %s (%s: %s)\n", words[f->kind], f->path, f->other ? f->other : "",
                   f->text);
    return 0;
}

/* Whose record there is then: to be freed, or NULL. */
static char *reconstruct(struct world *w, int force)
{
    struct lcb_reconstruct how = {.replace = force, .found = note_found, .rock = w};
    char *path = NULL;
    buf_reset(&w->texts);
    CU_ASSERT_EQUAL(lcb_reconstruct(w->t.store, &how), 0);
    buf_cstring(&w->texts);
    (void)lcb_store_find(w->t.store, "joe", &path);
    return path;
}

/* The record names PATH (NULL: there is none) after reconstruct. */
static void check(struct world *w, int force, const char *path)
{
    char *now = reconstruct(w, force);
    if (path)
        UNIT_STR(now ? now : "(none)", path);
    else
        CU_ASSERT_PTR_NULL(now);
    free(now);
}

/* It said KIND of PATH, with TEXT. */
static int said(struct world *w, const char *kind, const char *path, const char *text)
{
    char *start = xasprintf("%s %s (", kind, path), *line = strstr(w->texts.s, start), *end_;
    int yes = line && (end_ = strstr(line, ")\n")) != NULL && memmem(line, (size_t)(end_ - line), text,
                                                                   strlen(text));
    if (!yes)
        printf("\nno %s... %s in:\n%s", start, text, w->texts.s);
    free(start);
    return yes;
}

static void forget(struct world *w, const char *path)
{
    CU_ASSERT_EQUAL(lcb_db_remove(lcb_store_db(w->t.store), "joe", path), 0);
}

/* The same commits as in joe's file, and then another one: it is as new, and says something else. */
static void fork_to(struct world *w, const char *to, unsigned n)
{
    struct buf other = BUF_INITIALIZER;
    lcbtest_rmindex(w->path);
    lcbtest_write(w->path, w->whole.s, w->first);
    free(change(w, n));
    lcbtest_read(w->path, &other);
    lcbtest_write(to, other.s, other.len);
    lcbtest_rmindex(w->path);
    lcbtest_write(w->path, w->whole.s, w->whole.len);
    buf_free(&other);
}

/* A copy that stops earlier is the same backup, whatever its name and the order. */
static void test_continued(void)
{
    for (int i = 0; i < 2; i++) {
        struct world w;
        begin(&w);
        const char *copy = i ? w.b : w.a;
        lcbtest_write(copy, w.whole.s, w.first);
        forget(&w, w.path);
        check(&w, 0, w.path);
        CU_ASSERT(said(&w, "added", w.path, ""));
        CU_ASSERT(said(&w, "duplicate", copy, "than the one that counts, which has all of it"));
        /* The record names it: it stays, unless it shall not. */
        CU_ASSERT_EQUAL(lcb_db_replace(lcb_store_db(w.t.store), "joe", w.path, copy), 0);
        check(&w, 0, copy);
        CU_ASSERT(said(&w, "duplicate", w.path, "which goes on where the one that counts ends"));
        CU_ASSERT(said(&w, "duplicate", w.path, "reconstruct -F takes this one"));
        check(&w, 1, w.path);
        CU_ASSERT(said(&w, "replaced", w.path, "replaced"));
        end(&w);
    }
}

/* All of it twice. */
static void test_same(void)
{
    struct world w;
    begin(&w);
    lcbtest_write(w.a, w.whole.s, w.whole.len);
    check(&w, 1, w.path);
    forget(&w, w.path);
    check(&w, 0, w.a);
    CU_ASSERT(said(&w, "duplicate", w.path, "no newer than the one that counts, which has all of it"));
    end(&w);
}

/* Two that went different ways: nobody but a person can know. */
static void test_forked(void)
{
    for (int larger = 0; larger < 2; larger++) {
        struct world w;
        struct stat st;
        begin(&w);
        fork_to(&w, w.a, larger ? 12 : 5);
        lcbtest_write(w.b, w.whole.s, w.first); /* a part of both decides nothing */
        CU_ASSERT_EQUAL(stat(w.a, &st), 0);
        const char *longer = (size_t)st.st_size > w.whole.len ? w.a : w.path;
        check(&w, 1, w.path); /* the record knows */
        CU_ASSERT(said(&w, "ok", w.path, ""));
        CU_ASSERT(said(&w, "duplicate", w.a, "which says something else"));
        forget(&w, w.path);
        for (int twice = 0; twice < 2; twice++) {
            check(&w, 0, NULL);
            CU_ASSERT(said(&w, "duplicate", w.path, "say"));
            CU_ASSERT(said(&w, "duplicate", w.a, "say"));
            CU_ASSERT(said(&w, "duplicate", longer, "reconstruct -F takes this one"));
            CU_ASSERT(strstr(w.texts.s, "added") == NULL);
            CU_ASSERT_EQUAL(lcb_may_create(w.t.store, "joe"), XERR_UNKNOWN);
        }
        check(&w, 1, longer);
        CU_ASSERT(said(&w, "added", longer, ""));
        end(&w);
    }
}

/* Three of them: one that goes on from one of two decides nothing between these; a newer one does. */
static void test_three(void)
{
    struct world w;
    begin(&w);
    fork_to(&w, w.a, 5);
    free(change(&w, 7)); /* still the same second */
    lcbtest_write(w.b, w.whole.s, w.whole.len); /* what the longest was before */
    forget(&w, w.path);
    check(&w, 0, NULL);
    CU_ASSERT(said(&w, "duplicate", w.b, "all of it") || said(&w, "duplicate", w.b, "say"));
    CU_ASSERT_EQUAL(lcb_store_find(w.t.store, "joe", &(char *){NULL}), XERR_NOTFOUND);
    struct lcb_db_txn *txn;
    CU_ASSERT_EQUAL_FATAL(lcb_db_begin(lcb_store_db(w.t.store), &txn), 0);
    CU_ASSERT_EQUAL(lcb_db_txn_set(txn, "joe", w.path), 0);
    CU_ASSERT_EQUAL(lcb_db_commit(&txn), 0);
    lcbtest_settime(lcbtest_time() + 60);
    free(change(&w, 8));
    forget(&w, w.path);
    check(&w, 0, w.path);
    CU_ASSERT(said(&w, "added", w.path, ""));
    CU_ASSERT(said(&w, "duplicate", w.a, "older than the one that counts"));
    end(&w);
}

/* ---- by path ---- */

/* What lcb_delete() says of PATH; the file stays if that is an error. */
static int set_aside(struct world *w, const char *path)
{
    struct lcb_delete how = {.path = path};
    struct stat before, after;
    char *kept;
    CU_ASSERT_EQUAL_FATAL(stat(path, &before), 0);
    int r = lcb_delete(w->t.store, &how, &kept);
    if (r)
        CU_ASSERT(!stat(path, &after) && after.st_ino == before.st_ino && !kept);
    if (!r)
        CU_ASSERT(stat(path, &after) < 0 && !stat(kept, &after) && after.st_ino == before.st_ino);
    free(kept);
    return r;
}

static void test_set_aside(void)
{
    static const char text[] = "GIF89a is not what a data file begins with";
    static const char *const refused[] = {"notes", "my_backup", "joe_zzzzzz.gz", "joe_zzzzzz.index",
        "joe_zzzzzz.1700000000", "joe_zzzzzz.new", "joe_zzzzzz.tail.1700000000",
        "joe_zzzzzz.deleted.1700000000"};
    struct world w;
    begin(&w);
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
        char *path = xasprintf("%s/one/j/%s", w.t.dir, refused[i]);
        const char *last = strrchr(refused[i], '_');
        int copy = last && strlen(last) > 7; /* a data file in all but the name */
        lcbtest_write(path, copy ? w.whole.s : text, copy ? w.whole.len : sizeof(text));
        CU_ASSERT_EQUAL(set_aside(&w, path), XERR_FORMAT);
        unlink(path);
        free(path);
    }
    lcbtest_write(w.b, "\x1f\x8b\x08 of something else", 22);
    CU_ASSERT_EQUAL(set_aside(&w, w.b), XERR_FORMAT);
    char *outside = xasprintf("%s/joe_zzzzzz", w.t.dir);
    lcbtest_write(outside, "", 0);
    CU_ASSERT_EQUAL(set_aside(&w, outside), XERR_FORMAT);
    lcbtest_write(outside, w.whole.s, w.whole.len);
    CU_ASSERT_EQUAL(set_aside(&w, outside), 0);
    free(outside);
    CU_ASSERT_EQUAL(set_aside(&w, w.path), XERR_EXISTS);
    for (int i = 0; i < 4; i++) { /* whole, rotten in part, empty; all rotten, but with an index */
        lcbtest_write(w.b, w.whole.s, i == 2 ? 0 : w.whole.len);
        if (i == 1)
            CU_ASSERT_EQUAL(truncate(w.b, (off_t)w.whole.len - 3), 0);
        if (i == 3)
            lcbtest_write(w.b, text, sizeof(text));
        char *index = xasprintf("%s.index", w.b);
        if (i == 3)
            lcbtest_write(index, "", 0);
        CU_ASSERT_EQUAL(set_aside(&w, w.b), 0);
        unlink(index);
        free(index);
    }
    end(&w);
}

void suite_lcb_copies(void);
void suite_lcb_copies(void)
{
    static const struct unit_test tests[] = {
        {"one goes on where the other ends", test_continued},
        {"the same twice", test_same},
        {"they say different things", test_forked},
        {"three of them", test_three},
        {"only a data file is set aside", test_set_aside},
        {NULL, NULL},
    };
    unit_suite("lcb_copies", tests);
}
