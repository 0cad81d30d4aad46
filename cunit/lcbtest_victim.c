/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcbtest_victim - a small backup to be damaged byte by byte. */
#include "config.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "backup/lcb_history.h"
#include "backup/lcb_int.h"
#include "backup/lcb_move.h"
#include "cunit/lcbtest_verify.h"
#include "cunit/lcbtest_victim_int.h"
#include "cunit/unit.h"
#include "lib/gzmember.h"
#include "lib/vfs_fault.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum { PLAIN_COMMITS = 5, PLAIN_MESSAGES = 3 };
static const unsigned message_number[PLAIN_MESSAGES] = {19, 57, 76};
static const int message_commit[PLAIN_MESSAGES] = {0, 2, 4}; /* with which they came */

/* ---- the backup ---- */

unsigned victim_message(const struct victim *v, int i)
{
    return v->kind == VICTIM_BASE ? victim_base_number[i] : message_number[i];
}

const char *victim_hex(unsigned number)
{
    static char hex[4][41];
    static int at;
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    at = (at + 1) % 4;
    lcbtest_message(number, &text, &guid);
    message_guid_encode(&guid, hex[at]);
    buf_free(&text);
    return hex[at];
}

static void put_mailbox(struct lcb *b, const char *id, unsigned modseq, const char *a, const char *c)
{
    const char *records[3] = {a, c, NULL};
    char name[40];
    snprintf(name, sizeof(name), "user.joe%s", strcmp(id, "inbox") ? ".Other" : "");
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 3, modseq, ""), records, NULL), 0);
}

static void put_others(struct lcb *b)
{
    static const char *const lines[] = {
        "SUB", "%(USERID joe MBOXNAME user.joe)",
        "SEEN", "%(USERID joe UNIQUEID inbox LASTREAD 1 LASTUID 1 LASTCHANGE 2 SEENUIDS 1)",
        "QUOTA", "%(ROOT user.joe STORAGE 1000)",
        "ANNOTATION", "%(MBOXNAME \"\" ENTRY /comment USERID joe VALUE x)",
        "SIEVE", "%(USERID joe FILENAME a.script LAST_UPDATE 7 CONTENT {11}\r\nkeep;\r\nstop)",
        NULL,
    };
    for (int i = 0; lines[i]; i += 2)
        CU_ASSERT_EQUAL(lcbtest_log(b, lines[i], lines[i + 1]), 0);
}

static void make_commit(struct lcb *b, int n)
{
    const char *one = victim_hex(19), *two = victim_hex(57), *three = victim_hex(76);
    for (int i = 0; i < PLAIN_MESSAGES; i++)
        if (message_commit[i] == n)
            CU_ASSERT_EQUAL(lcbtest_upload(b, message_number[i], 0), 0);
    if (n == 0)
        put_mailbox(b, "inbox", 5, lcbtest_record(1, 5, "", one), NULL);
    if (n == 1)
        put_others(b);
    if (n == 2)
        put_mailbox(b, "inbox", 6, lcbtest_record(1, 6, "\\Seen", one),
                    lcbtest_record(2, 6, "", two));
    if (n == 3)
        put_mailbox(b, "other", 7, lcbtest_record(1, 7, "\\Flagged", one), NULL);
    if (n == 4)
        put_mailbox(b, "inbox", 8, lcbtest_record(2, 8, "\\Expunged", two),
                    lcbtest_record(3, 8, "", three));
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
}

static void move_to(struct victim *v, const char *name)
{
    struct lcb_moved m;
    CU_ASSERT_EQUAL_FATAL(
        lcb_move(v->t.store, "joe", lcb_partition_named(v->t.store, name), 0, &m), 0);
    free(m.path);
    buf_free(&m.why);
}

/* Another one in each run of the program. */
static unsigned long seed(void)
{
    const char *s = getenv("CYRUS_BACKUPS_SEED");
    static uint32_t drawn; /* the time is what tests set it to */
    if (!drawn)
        CU_ASSERT_EQUAL_FATAL(getrandom(&drawn, sizeof(drawn), 0), (ssize_t)sizeof(drawn));
    return s && *s ? strtoul(s, NULL, 10) : drawn;
}

/* Commits of PLAIN_COMMITS from N on. */
static void make_commits(struct victim *v, struct lcb *b, int n, int to)
{
    for (; n < to; n++) {
        make_commit(b, n);
        v->end[n] = b->df.end;
        lcbtest_settime(lcbtest_time() + 10);
    }
}

static void make_plain(struct victim *v)
{
    v->messages = PLAIN_MESSAGES;
    v->commits = PLAIN_COMMITS;
    v->expunged = 1 << 1;
    v->history = lcbtest_time();
    memcpy(v->message_commit, message_commit, sizeof(message_commit));
    struct lcb *b = lcbtest_joe(&v->t);
    make_commits(v, b, 0, 2);
    lcb_close(&b);
    if (v->kind == VICTIM_MOVED) {
        move_to(v, "two");
        move_to(v, "one");
    }
}

/* All that holds, but not whether content is there. */
static void read_holding(struct victim *v, const char *path, struct buf *out)
{
    struct lcb *b = NULL;
    struct buf all = BUF_INITIALIZER;
    buf_reset(out);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(v->t.store, path, 0, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_state(b, lcbtest_time(), &all), 0);
    lcb_close(&b);
    (void)buf_cstring(&all);
    char *rest = NULL, *line = strtok_r(all.s, "\n", &rest); /* the time */
    while (line && (line = strtok_r(NULL, "\n", &rest)) != NULL) {
        size_t n = strlen(line);
        if (n > 9 && !strcmp(line + n - 9, " not here"))
            n -= 9;
        else if (n > 5 && !strcmp(line + n - 5, " here"))
            n -= 5;
        buf_appendmap(out, line, n);
        buf_putc(out, '\n');
    }
    buf_free(&all);
}

/* The last commit, of which the index has a WAL, or more of them. */
static void make_last(struct victim *v)
{
    struct lcb *b = lcbtest_joe(&v->t);
    if (v->kind == VICTIM_BASE)
        victim_end_base(b);
    else
        make_commits(v, b, 2, PLAIN_COMMITS);
    v->path = xstrdup(lcb_path(b));
    lcbtest_saveindex(v->path, &v->live);
    lcb_close(&b);
}

void victim_make(struct victim *v, enum victim_kind kind)
{
    static char extra[600];
    char db[400];
    memset(v, 0, sizeof(*v));
    v->kind = kind;
    v->vfs = vfs_fail_new(VFS_FAULT_ALL, 0, 0, 0);
    snprintf(extra, sizeof(extra), "backuppartition-two: %s-two\npartition_select_exclude: two\n%s",
             unit_tmpdir(), kind != VICTIM_BASE ? "" : "backup_retention: 1000s\n"
             "backup_keep_previous: yes\nbackup_compact_minsize: 1\nbackup_compact_maxsize: 1\n");
    lcbtest_init(&v->t, extra);
    lcbtest_open(&v->t, v->vfs);
    v->one = xstrdup(lcb_partition_named(v->t.store, "one")->dir);
    v->two = xstrdup(lcb_partition_named(v->t.store, "two")->dir);
    if (kind == VICTIM_BASE)
        victim_make_base(v);
    else
        make_plain(v);
    make_last(v);
    lcbtest_int(v->path, "PRAGMA wal_checkpoint(TRUNCATE)");
    lcbtest_saveindex(v->path, &v->folded);
    lcbtest_read(v->path, &v->data);
    if (kind == VICTIM_BASE)
        victim_finish_base(v);
    read_holding(v, v->path, &v->was);
    snprintf(db, sizeof(db), "%s/conf/backups.db", v->t.dir);
    lcbtest_read(db, &v->db);
    CU_ASSERT_EQUAL((off_t)v->data.len, v->end[v->commits - 1]);
    CU_ASSERT(v->live.wal.len > 0 && v->db.len > 0);
    printf("CYRUS_BACKUPS_SEED=%lu ", seed());
}

void victim_free(struct victim *v)
{
    free(v->path);
    free(v->one);
    free(v->two);
    free(v->kept);
    buf_free(&v->kept_data);
    buf_free(&v->was);
    buf_free(&v->data);
    buf_free(&v->db);
    lcbtest_freeindex(&v->live);
    lcbtest_freeindex(&v->folded);
    lcbtest_fini(&v->t);
    vfs_fault_free(&v->vfs);
}

int victim_commit_of(const struct victim *v, off_t at)
{
    int n = 0;
    while (n < v->commits && at >= v->end[n])
        n++;
    return n;
}

unsigned victim_expected(const struct victim *v, int first, int last)
{
    unsigned bits = 0;
    for (int i = 0; i < v->messages; i++)
        if (v->message_commit[i] < first || v->message_commit[i] > last)
            bits |= 1u << i;
    return bits;
}

/* ---- its files ---- */

static void remove_all(const char *pattern)
{
    glob_t g;
    memset(&g, 0, sizeof(g));
    glob(pattern, 0, NULL, &g);
    for (size_t i = 0; i < g.gl_pathc; i++)
        unlink(g.gl_pathv[i]);
    globfree(&g);
}

void victim_put(const struct victim *v, const void *p, size_t n, const struct lcbtest_index *ix)
{
    char pattern[400];
    snprintf(pattern, sizeof(pattern), "%s.*", v->path);
    remove_all(pattern);
    lcbtest_write(v->path, p, n);
    if (ix)
        lcbtest_putindex(v->path, ix);
}

void victim_open(struct victim *v)
{
    struct buf err = BUF_INITIALIZER;
    int r = lcb_store_open(v->t.config, v->vfs, &v->t.store, &err);
    CU_ASSERT(!r || (victim_known_error(r) && err.len));
    if (r)
        lcb_store_close(&v->t.store);
    buf_free(&err);
}

void victim_state(struct victim *v, struct buf *out)
{
    struct lcb *b = NULL;
    buf_reset(out);
    CU_ASSERT_EQUAL_FATAL(lcb_open(v->t.store, "joe", 0, 0, &b), 0);
    CU_ASSERT_EQUAL(lcbtest_state(b, lcbtest_time(), out), 0);
    lcb_close(&b);
}

void victim_restore(struct victim *v, const void *p, size_t n, const struct lcbtest_index *ix,
                    const struct buf *db)
{
    char path[400];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/j/*", i ? v->two : v->one);
        remove_all(path);
    }
    lcbtest_close(&v->t);
    snprintf(path, sizeof(path), "%s/conf/backups.db*", v->t.dir);
    remove_all(path);
    *strrchr(path, '*') = '\0';
    lcbtest_write(path, db->s, db->len);
    lcbtest_write(v->path, p, n);
    if (v->kept)
        lcbtest_write(v->kept, v->kept_data.s, v->kept_data.len);
    if (ix)
        lcbtest_putindex(v->path, ix);
    victim_open(v);
}

/* ---- what must hold ---- */

static int64_t when_begins(struct victim *v, const char *path)
{
    struct lcb *b = NULL;
    int64_t pos = 0, time = 0;
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(v->t.store, path, 0, 0, &b), 0);
    victim_check_past(v, b, VICTIM_DELETED);
    CU_ASSERT_EQUAL(lcb_history_begin(b, &pos, &time), 0);
    lcb_close(&b);
    return time;
}

static int begins_well(const char *path)
{
    struct gzextra extra;
    struct buf data = BUF_INITIALIZER;
    lcbtest_read(path, &data);
    ssize_t n = gzmember_header(data.s, data.len, &extra);
    buf_free(&data);
    return n > 0;
}

void victim_check_mended(struct victim *v, const char *path)
{
    static const char unmarked[] =
        "SELECT count(*) FROM folders f JOIN folder_states s ON s.folder=f.id AND s.until IS NULL JOIN"
        " records r ON r.folder=f.id AND r.until IS NULL AND r.expunged=0 JOIN contents c ON"
        " c.id=r.content WHERE c.chunk IS NULL AND f.mark<>3";
    struct buf now = BUF_INITIALIZER;
    int64_t begins = when_begins(v, path);
    read_holding(v, path, &now);
    CU_ASSERT(lcbtest_same(&now, &v->was, "what holds"));
    CU_ASSERT_EQUAL(lcbtest_int(path, unmarked), 0);
    if (begins_well(path)) { /* else nothing says that it is a data file */
        lcbtest_compare(&v->t, path, "made anew");
        lcbtest_rmindex(path);
        CU_ASSERT_EQUAL(when_begins(v, path), begins);
        read_holding(v, path, &now);
        CU_ASSERT(lcbtest_same(&now, &v->was, "what holds, without an index"));
        CU_ASSERT_EQUAL(lcbtest_int(path, unmarked), 0);
    }
    buf_free(&now);
}

/* ---- which bytes ---- */

/* CYRUS_BACKUPS_LONG: 1, or K/N. */
static size_t long_part(size_t *first)
{
    const char *s = getenv("CYRUS_BACKUPS_LONG");
    unsigned part = 1, parts = 1;
    if (!s || !*s || !strcmp(s, "0"))
        return 0;
    if (sscanf(s, "%u/%u", &part, &parts) != 2 || part < 1 || part > parts)
        part = parts = 1;
    *first = part - 1;
    return parts;
}

size_t victim_stride(size_t n)
{
    const char *m = getenv("UNIT_STRIDE");
    size_t first, parts = long_part(&first);
    if (parts)
        return parts;
    return m && atoi(m) > 0 ? n * (size_t)atoi(m) : n;
}

size_t victim_first(size_t n)
{
    size_t first;
    return long_part(&first) ? first : (size_t)seed() % victim_stride(n);
}

int victim_turn(size_t at, size_t n)
{
    size_t first;
    return long_part(&first) || at % victim_stride(n) == victim_first(n);
}

char victim_wrong(char was, size_t at)
{
    return (char)(was ^ (at % 3 ? 1 << at % 8 : 0xff));
}

int victim_known_error(int r)
{
    return r == XERR_FORMAT || r == XERR_SQL || r == XERR_NOTFOUND || r == XERR_VERSION ||
           r == XERR_EOF || r == XERR_SYNTAX || r == XERR_PARAM || r == XERR_TOOBIG;
}
