/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcbtest_victim_base - a small backup that was compacted, to be damaged byte by byte, and what must
 * hold of it wherever it is.
 *
 * Of mailboxes there are: one that stays; one that was deleted before the window, of which nothing is
 * left; one that was deleted before and came back in it; one that was deleted in it; one that got
 * another name; one whose message was lost; one that came and went behind the compaction. Of messages
 * one was expunged before the window, one in it. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_compact.h"
#include "backup/lcb_history.h"
#include "backup/lcb_int.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/lcbtest_victim_int.h"
#include "cunit/unit.h"
#include "lib/gzmember.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { STAYS = 19, OF_DELETED = 57, EXPUNGED = 76, LATER = 133, BEHIND = 152, DROPPED = 114,
       OF_DROPPED = 190, LOST = 209 };
enum { MESSAGES = 5, EXPUNGED_BITS = 1 << 1 | 1 << 2 };

const unsigned victim_base_number[MESSAGES] = {STAYS, OF_DELETED, EXPUNGED, LATER, BEHIND};

/* ---- what happened ---- */

static void put(struct lcb *b, const char *id, unsigned modseq, const char *a, const char *c,
                const char *d)
{
    const char *records[4] = {a, c, d, NULL};
    char name[40];
    int noted = !strcmp(id, "back"); /* which makes the line the last of its chunk */
    snprintf(name, sizeof(name), "user.joe%s%s", strcmp(id, "inbox") ? "." : "",
             strcmp(id, "inbox") ? id : "");
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 5, modseq, noted ? " ANNOTATIONS (%("
                                    "ENTRY /comment USERID joe VALUE {3}\r\na\nb))" : ""), records,
                                    NULL), 0);
}

static void log_lines(struct lcb *b, const char *const *lines)
{
    for (int i = 0; lines[i]; i += 2)
        CU_ASSERT_EQUAL(lcbtest_log(b, lines[i], lines[i + 1]), 0);
}

static void upload(struct lcb *b, unsigned a, unsigned c, unsigned d)
{
    CU_ASSERT_EQUAL(lcbtest_upload(b, a, 0), 0);
    if (c)
        CU_ASSERT_EQUAL(lcbtest_upload(b, c, 0), 0);
    if (d)
        CU_ASSERT_EQUAL(lcbtest_upload(b, d, 0), 0);
}

static void rename_old(struct lcb *b)
{
    const char *records[] = {NULL};
    CU_ASSERT_EQUAL(lcbtest_log(b, "RENAME", "%(OLDMBOXNAME user.joe.old NEWMBOXNAME user.joe.new"
                                " PARTITION default UIDVALIDITY 1500000000)"), 0);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header("old", "user.joe.new", 5, 9, ""), records, NULL),
                    0);
}

/* Before the window. */
static void make_past(struct lcb *b, int n)
{
    static const char *const others[] = {
        "SUB", "%(USERID joe MBOXNAME user.joe)",
        "SUB", "%(USERID joe MBOXNAME user.joe.gone)",
        "SEEN", "%(USERID joe UNIQUEID inbox LASTREAD 1 LASTUID 1 LASTCHANGE 2 SEENUIDS 1)",
        "QUOTA", "%(ROOT user.joe STORAGE 1000)",
        "ANNOTATION", "%(MBOXNAME \"\" ENTRY /comment USERID joe VALUE x)",
        "SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 7 CONTENT {11}\r\nkeep;\r\nstop)",
        "SIEVE", "%(USERID joe FILENAME b.script LAST_UPDATE 8 CONTENT {8}\r\nkeep;\r\n#)",
        "ACTIVATE_SIEVE", "%(USERID joe FILENAME a.bc)",
        NULL,
    };
    static const char *const ends[] = {
        "UNMAILBOX", "user.joe.gone", "UNMAILBOX", "user.joe.back",
        "UNSUB", "%(USERID joe MBOXNAME user.joe.gone)", NULL,
    };
    const char *one = lcbtest_record(1, 5, "", victim_hex(STAYS));
    if (n == 0) {
        upload(b, STAYS, DROPPED, EXPUNGED);
        put(b, "inbox", 5, one, lcbtest_record(2, 5, "", victim_hex(DROPPED)),
            lcbtest_record(3, 5, "", victim_hex(EXPUNGED)));
    } else if (n == 1) {
        upload(b, OF_DELETED, OF_DROPPED, 0);
        put(b, "del", 5, lcbtest_record(1, 5, "", victim_hex(OF_DELETED)), NULL, NULL);
        put(b, "gone", 5, lcbtest_record(1, 5, "", victim_hex(OF_DROPPED)), NULL, NULL);
        put(b, "back", 5, one, NULL, NULL);
        put(b, "old", 5, one, NULL, NULL);
    } else if (n == 2) {
        log_lines(b, others);
    } else {
        put(b, "inbox", 6, lcbtest_record(2, 6, "\\Expunged", victim_hex(DROPPED)), NULL, NULL);
        log_lines(b, ends);
    }
}

/* In the window. */
static void make_window(struct lcb *b, int n)
{
    static const char *const changes[] = {
        "UNMAILBOX", "user.joe.del", "QUOTA", "%(ROOT user.joe STORAGE 2000)",
        "UNSIEVE", "%(USERID joe FILENAME b.script)", NULL,
    };
    if (n == 0) {
        upload(b, LATER, 0, 0);
        put(b, "inbox", 7, lcbtest_record(1, 7, "\\Seen", victim_hex(STAYS)),
            lcbtest_record(4, 7, "", victim_hex(LATER)), NULL);
    } else if (n == 1) {
        upload(b, LOST, 0, 0);
    } else if (n == 2) {
        put(b, "lack", 8, lcbtest_record(1, 8, "", victim_hex(LOST)), NULL, NULL);
        put(b, "back", 8, lcbtest_record(1, 5, "", victim_hex(STAYS)), NULL, NULL);
    } else if (n == 3) {
        log_lines(b, changes);
        rename_old(b);
    } else {
        put(b, "inbox", 9, lcbtest_record(1, 9, "\\Flagged", victim_hex(STAYS)),
            lcbtest_record(3, 9, "\\Expunged", victim_hex(EXPUNGED)), NULL);
    }
}

/* Behind the compaction. */
static void make_behind(struct lcb *b, int n)
{
    if (n == 0) {
        upload(b, BEHIND, 0, 0);
        put(b, "inbox", 10, lcbtest_record(5, 10, "", victim_hex(BEHIND)), NULL, NULL);
        CU_ASSERT_EQUAL(lcbtest_log(b, "SUB", "%(USERID joe MBOXNAME user.joe.back)"), 0);
    } else if (n == 1) {
        put(b, "late", 11, lcbtest_record(1, 11, "", victim_hex(BEHIND)), NULL, NULL);
    } else if (n == 2) {
        put(b, "inbox", 12, lcbtest_record(4, 12, "\\Answered", victim_hex(LATER)), NULL, NULL);
        CU_ASSERT_EQUAL(lcbtest_log(b, "SEEN", "%(USERID joe UNIQUEID inbox LASTREAD 2 LASTUID 4"
                                    " LASTCHANGE 3 SEENUIDS 1:4)"), 0);
    } else {
        CU_ASSERT_EQUAL(lcbtest_log(b, "UNMAILBOX", "user.joe.late"), 0);
    }
}

static void commits(struct victim *v, void (*make)(struct lcb *, int n), int n)
{
    for (int i = 0; i < n; i++) {
        struct lcb *b = lcbtest_joe(&v->t);
        make(b, i);
        CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
        lcb_close(&b);
        lcbtest_settime(lcbtest_time() + 10);
    }
}

/* ---- and what became of it ---- */

/* A letter of the message that is lost is another one. */
static void lose(const char *path)
{
    struct buf data = BUF_INITIALIZER;
    char sql[200];
    snprintf(sql, sizeof(sql), "SELECT start+length-12 FROM chunks WHERE seq=(SELECT chunk FROM"
             " contents WHERE hex(guid)=upper('%s'))", victim_hex(LOST));
    int64_t at = lcbtest_int(path, sql);
    lcbtest_read(path, &data);
    CU_ASSERT_FATAL(at > 0 && (size_t)at < data.len);
    data.s[at] ^= 0x55;
    lcbtest_write(path, data.s, data.len);
    buf_free(&data);
}

static void compact(struct victim *v)
{
    struct lcb_compact how = {.userid = "joe", .force = 1};
    struct lcb_compact_result result;
    char *path = lcbtest_path(&v->t);
    lose(path);
    CU_ASSERT_EQUAL_FATAL(lcb_compact(v->t.store, &how, &result), LCB_COMPACT_DONE);
    CU_ASSERT_EQUAL(result.damaged, 1);
    v->kept = xasprintf("%s.%lld", path, (long long)lcbtest_time());
    lcbtest_read(v->kept, &v->kept_data);
    CU_ASSERT(v->kept_data.len > 0);
    v->history = result.account.window;
    free(path);
}

/* Where members end, and what comes with which. */
static void find_commits(struct victim *v, const char *path)
{
    struct gzextra extra;
    char sql[200];
    for (size_t at = 0; at < v->data.len; v->commits++) {
        CU_ASSERT_FATAL(v->commits < VICTIM_COMMITS_MAX);
        CU_ASSERT_FATAL(gzmember_header(v->data.s + at, v->data.len - at, &extra) > 0);
        CU_ASSERT(extra.present && (extra.flags & GZ_COMMIT));
        CU_ASSERT_EQUAL_FATAL(extra.seq, v->commits + 1);
        CU_ASSERT_EQUAL(!(extra.flags & GZ_LACKS), v->commits > 0);
        v->base = extra.flags & GZ_BASE ? v->commits : v->base;
        at += extra.length;
        v->end[v->commits] = (off_t)at;
    }
    for (int i = 0; i < v->messages; i++) {
        snprintf(sql, sizeof(sql), "SELECT chunk-1 FROM contents WHERE hex(guid)=upper('%s')",
                 victim_hex(victim_message(v, i)));
        v->message_commit[i] = (int)lcbtest_int(path, sql);
    }
    CU_ASSERT(v->message_commit[0] >= 0 && v->message_commit[0] < v->base);
    CU_ASSERT(v->base > 3 && v->base < v->message_commit[3]);
    CU_ASSERT(v->message_commit[3] < v->message_commit[4]);
    printf("%zu bytes, %d members, base %d; ", v->data.len, v->commits, v->base);
}

void victim_make_base(struct victim *v)
{
    v->messages = MESSAGES;
    v->expunged = EXPUNGED_BITS;
    commits(v, make_past, 4);
    lcbtest_settime(lcbtest_time() + 2000);
    commits(v, make_window, 5);
    compact(v);
    lcbtest_settime(lcbtest_time() + 10);
    commits(v, make_behind, 3);
}

/* The last commit is that of the caller. */
void victim_end_base(struct lcb *b)
{
    make_behind(b, 3);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
}

void victim_finish_base(struct victim *v)
{
    find_commits(v, v->path);
}

/* ---- what must hold ---- */

static int ignore(void *rock, const void *p, size_t n)
{
    (void)rock;
    (void)p;
    (void)n;
    return 0;
}

static int64_t count(struct lcb *b, const char *sql)
{
    int64_t n = -1;
    int r = sqldb_int(b->index->db, &n, sql, "");
    return r ? 0 : n; /* a damaged index says nothing */
}

/* Nothing that compaction dropped. */
static void check_dropped(struct lcb *b)
{
    static const unsigned dropped[] = {DROPPED, OF_DROPPED, LOST};
    for (int i = 0; i < 3; i++) {
        struct message_guid guid;
        const char *hex = victim_hex(dropped[i]);
        CU_ASSERT_EQUAL(message_guid_decode(&guid, hex, strlen(hex)), 0);
        CU_ASSERT_EQUAL(lcb_read_content(b, &guid, ignore, NULL), XERR_NOTFOUND);
    }
    CU_ASSERT_EQUAL(count(b, "SELECT count(*) FROM folders WHERE uniqueid='gone'"), 0);
    CU_ASSERT_EQUAL(count(b, "SELECT count(*) FROM subs WHERE mboxname='user.joe.gone'"), 0);
}

static void check_history(struct victim *v, struct lcb *b)
{
    int64_t pos, time;
    int r = lcb_history_begin(b, &pos, &time);
    CU_ASSERT(r == 0 || r == XERR_NOTFOUND);
    CU_ASSERT(r || time >= v->history);
    if (!r && time < v->history)
        printf("\nhistory begins %lld s early\n", (long long)(v->history - time));
}

static void check_deleted(struct lcb *b)
{
    CU_ASSERT_EQUAL(count(b, "SELECT count(*) FROM folder_states s JOIN folders f ON f.id=s.folder"
                             " WHERE s.until IS NULL AND (f.uniqueid IN ('del','late') OR s.mboxname="
                             "'user.joe.old')"), 0);
    CU_ASSERT_EQUAL(count(b, "SELECT count(*) FROM records r JOIN folders f ON f.id=r.folder WHERE"
                             " f.uniqueid='inbox' AND r.uid IN (2,3) AND r.until IS NULL AND"
                             " r.expunged=0"), 0);
    CU_ASSERT_EQUAL(count(b, "SELECT count(*) FROM scripts WHERE filename='b.script' AND until IS"
                             " NULL"), 0);
}

void victim_check_past(struct victim *v, struct lcb *b, enum victim_past past)
{
    if (v->kind != VICTIM_BASE)
        return;
    if (past >= VICTIM_DROPPED)
        check_dropped(b);
    if (past >= VICTIM_HISTORY)
        check_history(v, b);
    if (past >= VICTIM_DELETED)
        check_deleted(b);
}
