/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcbtest - a store to try things on.
 *
 * time(2) is defined here, which takes the place of libc's in the test program: with the clock
 * under control the same history gives the same data file, but for the backup's id. fsync(2) and
 * fdatasync(2) are, too: while a test of the store runs they do nothing, for SQLite as well. What
 * must be synced is tested with a file system that loses what was not (lib/vfs_fault.h). */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/prot.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define EPOCH 1700000000

static int64_t clock_now;
static struct buf logged;
static int idle_disk; /* between lcbtest_init and lcbtest_fini */

time_t time(time_t *out)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    time_t t = clock_now ? (time_t)clock_now : ts.tv_sec;
    if (out)
        *out = t;
    return t;
}

int fsync(int fd)
{
    return idle_disk ? 0 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return idle_disk ? 0 : (int)syscall(SYS_fdatasync, fd);
}

void lcbtest_settime(int64_t t)
{
    clock_now = t;
}

int64_t lcbtest_time(void)
{
    return clock_now;
}

static void hook(int priority, const char *text)
{
    (void)priority;
    buf_appendcstr(&logged, text);
    buf_putc(&logged, '\n');
}

int lcbtest_logged(const char *text)
{
    return strstr(buf_cstring(&logged), text) != NULL;
}

const char *lcbtest_log_text(void)
{
    return buf_cstring(&logged);
}

void lcbtest_init(struct lcbtest *t, const char *extra)
{
    struct buf err = BUF_INITIALIZER, conf = BUF_INITIALIZER;
    char path[300];
    memset(t, 0, sizeof(*t));
    snprintf(t->dir, sizeof(t->dir), "%s", unit_tmpdir());
    snprintf(path, sizeof(path), "%s/imapd.conf", t->dir);
    buf_printf(&conf, "configdirectory: %s/conf\nbackuppartition-one: %s/one\n"
                      "backup_staging_path: %s/staging\nbackup_chunk_size: 16\n"
                      "%s%s", t->dir, t->dir, t->dir, extra,
               strstr(extra, "backup_index_checkpoint") ? "" : "backup_index_checkpoint: 64\n");
    lcbtest_write(path, conf.s, conf.len);
    int r = config_open(path, "test", &t->config, &err);
    if (r)
        printf("\n%s\n", buf_cstring(&err));
    CU_ASSERT_EQUAL_FATAL(r, 0);
    buf_free(&err);
    buf_free(&conf);
    buf_reset(&logged);
    xlog_sethook(hook);
    lcbtest_settime(EPOCH);
    idle_disk = 1;
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Some tests make a thousand stores: what they leave would be written to the disk. */
void lcbtest_fini(struct lcbtest *t)
{
    lcbtest_close(t);
    nftw(t->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    config_free(&t->config);
    xlog_sethook(NULL);
    buf_free(&logged);
    idle_disk = 0;
    lcbtest_settime(0);
}

void lcbtest_open(struct lcbtest *t, struct vfs *vfs)
{
    struct buf err = BUF_INITIALIZER;
    t->vfs = vfs ? vfs : vfs_system();
    CU_ASSERT_EQUAL_FATAL(lcb_store_open(t->config, t->vfs, &t->store, &err), 0);
    buf_free(&err);
}

void lcbtest_close(struct lcbtest *t)
{
    lcb_store_close(&t->store);
}

static int keep_path(void *rock, const char *userid, const char *path)
{
    char **found = rock;
    (void)userid;
    free(*found);
    *found = xstrdup(path);
    return 0;
}

char *lcbtest_path(struct lcbtest *t)
{
    char *path = NULL;
    CU_ASSERT_EQUAL(lcb_store_foreach(t->store, "", keep_path, &path), 0);
    return path;
}

struct lcb *lcbtest_joe(struct lcbtest *t)
{
    struct lcb *b = NULL;
    CU_ASSERT_EQUAL_FATAL(lcb_open(t->store, "joe", LCB_WRITE | LCB_CREATE, 0, &b), 0);
    b->df.chunk_size = 8192; /* less than can be configured: more chunks */
    return b;
}

/* ---- files ---- */

void lcbtest_read(const char *path, struct buf *b)
{
    struct stat st;
    buf_reset(b);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0) {
        ssize_t n = vfs_pread(vfs_system(), fd, buf_ensure(b, (size_t)st.st_size),
                              (size_t)st.st_size, 0);
        CU_ASSERT_EQUAL(n, st.st_size);
        b->len = n > 0 ? (size_t)n : 0;
    }
    close(fd);
}

void lcbtest_write(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(vfs_pwrite(vfs_system(), fd, p, n, 0), (ssize_t)n);
    close(fd);
}

static const char *beside(const char *datapath, const char *suffix)
{
    static char path[600];
    snprintf(path, sizeof(path), "%s.index%s", datapath, suffix);
    return path;
}

void lcbtest_saveindex(const char *datapath, struct lcbtest_index *ix)
{
    lcbtest_read(beside(datapath, ""), &ix->db);
    lcbtest_read(beside(datapath, "-wal"), &ix->wal);
}

void lcbtest_rmindex(const char *datapath)
{
    unlink(beside(datapath, ""));
    unlink(beside(datapath, "-wal"));
    unlink(beside(datapath, "-shm"));
}

void lcbtest_putindex(const char *datapath, const struct lcbtest_index *ix)
{
    lcbtest_rmindex(datapath);
    lcbtest_write(beside(datapath, ""), ix->db.s, ix->db.len);
    lcbtest_write(beside(datapath, "-wal"), ix->wal.s, ix->wal.len);
}

void lcbtest_freeindex(struct lcbtest_index *ix)
{
    buf_free(&ix->db);
    buf_free(&ix->wal);
}

/* ---- content ---- */

static const char *const tables[] = {
    "SELECT 'chunk', seq, start, length, text_length, first_time, last_time FROM chunks"
    " ORDER BY seq",
    "SELECT 'piece', * FROM pieces ORDER BY seq, text_start",
    "SELECT 'lost', pos FROM lost ORDER BY pos",
    "SELECT 'tick', pos, time FROM ticks ORDER BY pos",
    "SELECT 'content', guid, chunk, start, size FROM contents ORDER BY id",
    "SELECT 'folder', uniqueid, crc FROM folders ORDER BY id",
    "SELECT 'state', f.uniqueid, s.since, s.until, s.mboxname, s.last_uid, s.highestmodseq,"
    " s.uidvalidity, s.sync_crc, s.header FROM folder_states s LEFT JOIN folders f"
    " ON f.id=s.folder ORDER BY f.uniqueid, s.since",
    "SELECT 'replaced', * FROM replaced ORDER BY mboxname",
    "SELECT 'record', f.uniqueid, r.uid, r.since, r.until, r.modseq, r.last_updated,"
    " r.internaldate, r.size, c.guid, r.expunged, r.flags, r.annotations, r.extra FROM records r"
    " LEFT JOIN folders f ON f.id=r.folder LEFT JOIN contents c ON c.id=r.content"
    " ORDER BY f.uniqueid, r.uid, r.since",
    "SELECT 'sub', * FROM subs ORDER BY mboxname, since",
    "SELECT 'seen', * FROM seens ORDER BY uniqueid, since",
    "SELECT 'script', * FROM scripts ORDER BY filename, since",
    "SELECT 'active', * FROM active ORDER BY since",
    "SELECT 'quota', * FROM quotas ORDER BY root, since",
    "SELECT 'annot', * FROM annots ORDER BY mboxname, entry, userid, since",
    NULL,
};

static sqlite3 *open_index(const char *datapath)
{
    sqlite3 *db = NULL;
    int one = 1;
    CU_ASSERT_EQUAL_FATAL(sqlite3_open_v2(beside(datapath, ""), &db, SQLITE_OPEN_READWRITE, NULL),
                          SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &one);
    return db;
}

static void put_column(sqlite3_stmt *st, int i, struct buf *out)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *p = sqlite3_column_blob(st, i);
    int n = sqlite3_column_bytes(st, i);
    switch (sqlite3_column_type(st, i)) {
    case SQLITE_NULL:
        buf_appendcstr(out, " -");
        break;
    case SQLITE_TEXT:
        buf_printf(out, " '%s'", (const char *)p);
        break;
    case SQLITE_BLOB:
        buf_appendcstr(out, " x");
        for (int k = 0; k < n; k++) {
            buf_putc(out, hex[p[k] >> 4]);
            buf_putc(out, hex[p[k] & 15]);
        }
        break;
    default:
        buf_printf(out, " %lld", (long long)sqlite3_column_int64(st, i));
    }
}

/* A new index has no tables before its first commit: it is empty, too. */
static int has_tables(sqlite3 *db)
{
    sqlite3_stmt *st = NULL;
    CU_ASSERT_EQUAL(sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_master", -1, &st, NULL),
                    SQLITE_OK);
    int r = sqlite3_step(st) == SQLITE_ROW;
    sqlite3_finalize(st);
    return r;
}

void lcbtest_dump(const char *datapath, struct buf *out)
{
    sqlite3 *db = open_index(datapath);
    buf_reset(out);
    for (int i = 0; has_tables(db) && tables[i]; i++) {
        sqlite3_stmt *st = NULL;
        int r = sqlite3_prepare_v2(db, tables[i], -1, &st, NULL);
        while (r == SQLITE_OK && (r = sqlite3_step(st)) == SQLITE_ROW) {
            r = SQLITE_OK;
            for (int c = 0; c < sqlite3_column_count(st); c++)
                put_column(st, c, out);
            buf_putc(out, '\n');
        }
        if (r != SQLITE_DONE)
            printf("\n%s: %s\n", tables[i], sqlite3_errmsg(db));
        CU_ASSERT_EQUAL(r, SQLITE_DONE);
        sqlite3_finalize(st);
    }
    sqlite3_close(db);
}

int64_t lcbtest_int(const char *datapath, const char *sql)
{
    sqlite3 *db = open_index(datapath);
    sqlite3_stmt *st = NULL;
    if (!has_tables(db))
        sql = "SELECT 0";
    CU_ASSERT_EQUAL_FATAL(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
    CU_ASSERT_EQUAL(sqlite3_step(st), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

void lcbtest_rebuild(struct lcbtest *t, const void *p, size_t n, struct buf *out)
{
    struct lcbtest other = {.config = t->config};
    struct lcb *b = NULL;
    char path[300];
    snprintf(path, sizeof(path), "%s/rebuilt", t->dir);
    lcbtest_rmindex(path);
    lcbtest_write(path, p, n);
    lcbtest_open(&other, NULL);
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(other.store, path, LCB_WRITE, 0, &b), 0);
    lcb_close(&b);
    lcbtest_close(&other);
    lcbtest_dump(path, out);
    lcbtest_rmindex(path);
    unlink(path);
}

static int line_length(const struct buf *b, size_t at)
{
    const char *end = at < b->len ? memchr(b->s + at, '\n', b->len - at) : NULL;
    return end ? (int)(end - b->s - (ssize_t)at) : at < b->len ? (int)(b->len - at) : 0;
}

int lcbtest_same(const struct buf *got, const struct buf *want, const char *what)
{
    size_t i = 0, line = 0;
    if (!buf_cmp(got, want))
        return 1;
    for (; i < got->len && i < want->len && got->s[i] == want->s[i]; i++)
        if (got->s[i] == '\n')
            line = i + 1;
    printf("\n%s:\n  got  [%.*s]\n  want [%.*s]\n", what, line_length(got, line),
           got->s ? got->s + line : "", line_length(want, line), want->s ? want->s + line : "");
    return 0;
}

void lcbtest_compare(struct lcbtest *t, const char *path, const char *what)
{
    struct buf live = BUF_INITIALIZER, again = BUF_INITIALIZER, data = BUF_INITIALIZER;
    lcbtest_dump(path, &live);
    lcbtest_read(path, &data);
    lcbtest_rebuild(t, data.s, data.len, &again);
    CU_ASSERT(live.len > 0);
    CU_ASSERT(lcbtest_same(&live, &again, what));
    buf_free(&live);
    buf_free(&again);
    buf_free(&data);
}

/* ---- commands in text ---- */

static int parse(struct dlist_pool *pool, const char *text, struct dlist **value)
{
    struct buf line = BUF_INITIALIZER;
    struct dlist_reader r;
    buf_printf(&line, "%s\r\n", text);
    struct protstream *in = prot_readmem(line.s, line.len);
    dlist_reader_init(&r, in, pool);
    int e = dlist_reader_value(&r, value);
    if (!e)
        e = dlist_reader_eol(&r);
    prot_free(&in);
    buf_free(&line);
    return e;
}

int lcbtest_log(struct lcb *b, const char *verb, const char *value)
{
    struct dlist_pool *pool = dlist_pool_new(4 << 20);
    struct dlist *v = NULL;
    CU_ASSERT_EQUAL_FATAL(parse(pool, value, &v), 0);
    int r = strcmp(verb, "RENAME") ? lcb_log_dlist(b, verb, v) : lcb_log_rename(b, v);
    dlist_pool_free(&pool);
    return r;
}

int lcbtest_apply(struct lcb *b, int64_t pos, const char *verb, const char *value)
{
    struct dlist_pool *pool = dlist_pool_new(4 << 20);
    struct dlist *v = NULL;
    CU_ASSERT_EQUAL_FATAL(parse(pool, value, &v), 0);
    int r = lcb_apply_dlist(b->index, pos, verb, v);
    dlist_pool_free(&pool);
    return r;
}

static int log_record(struct lcb *b, const char *text)
{
    struct sync_record rec = {.uid = 0};
    struct dlist_reader reader;
    struct protstream *in = prot_readmem(text, strlen(text));
    dlist_reader_init(&reader, in, NULL);
    CU_ASSERT_EQUAL(sync_record_read(&rec, &reader, SIZE_MAX), 0);
    prot_free(&in);
    int r = lcb_log_mailbox_record(b, &rec);
    sync_record_fini(&rec);
    return r;
}

int lcbtest_mailbox(struct lcb *b, const char *header, const char *const *records, uint32_t *crc)
{
    struct dlist_pool *pool = dlist_pool_new(4 << 20);
    struct sync_header h;
    CU_ASSERT_EQUAL_FATAL(sync_header_parsetext(&h, pool, header, strlen(header)), 0);
    int r = lcb_log_mailbox_begin(b, &h);
    for (; !r && records && *records; records++)
        r = log_record(b, *records);
    if (!r)
        r = lcb_log_mailbox_end(b, crc);
    dlist_pool_free(&pool);
    return r;
}

const char *lcbtest_header(const char *uniqueid, const char *name, unsigned last_uid,
                           unsigned modseq, const char *more)
{
    static char text[4096];
    snprintf(text, sizeof(text),
             "UNIQUEID %s MBOXNAME %s LAST_UID %u HIGHESTMODSEQ %u RECENTUID 0 RECENTTIME 0"
             " LAST_APPENDDATE 1600000000 POP3_LAST_LOGIN 0 UIDVALIDITY 1500000000"
             " PARTITION default ACL \"joe\tlrswipkxtecda\t\" OPTIONS P SYNC_CRC %u"
             " SYNC_CRC_ANNOT 12345678 QUOTAROOT user.joe%s", uniqueid, name, last_uid, modseq,
             modseq * 7919u, more);
    return text;
}

/* Several results are valid at a time, enough for one mailbox. */
const char *lcbtest_record(unsigned uid, unsigned modseq, const char *flags, const char *guid)
{
    static char ring[64][512];
    static unsigned at;
    char *text = ring[at++ % 64];
    snprintf(text, 512, "%%(UID %u MODSEQ %u LAST_UPDATED %u FLAGS (%s) INTERNALDATE 1546300800"
                        " SIZE 100 GUID %s)", uid, modseq, 1600000000 + modseq, flags, guid);
    return text;
}

/* Most are small; some do not fit into one chunk of the test. */
static size_t message_size(unsigned n)
{
    if (n >= 1000000)
        return (2u << 20) + 77777 + n % 1000;
    return n % 7 == 3 ? 5000 + n % 977 : 20 + n * 37 % 700;
}

void lcbtest_message(unsigned n, struct buf *text, struct message_guid *guid)
{
    size_t size = message_size(n);
    uint64_t x = n * 0x9e3779b97f4a7c15u + 1;
    buf_reset(text);
    buf_printf(text, "Subject: %u\r\n\r\n", n);
    while (text->len < size) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        buf_putc(text, n % 3 ? (int)(x >> 56) : (int)(32 + (x >> 60)));
    }
    message_guid_generate(guid, text->s, text->len);
}

int lcbtest_upload(struct lcb *b, unsigned n, int streamed)
{
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    int fd = -1, r = 0;
    lcbtest_message(n, &text, &guid);
    if (!streamed) {
        r = lcb_log_message(b, "default", &guid, text.len, text.s, -1, 0);
    } else {
        r = lcb_store_tmpfile(b->store, &fd);
        if (!r) {
            ssize_t put = vfs_pwrite(b->vfs, fd, text.s, text.len, 11);
            r = put < 0 ? (int)put : 0;
        }
        b->df.pack_max = n % 2 ? LCB_PACK_MAX : 0; /* both ways */
        if (!r)
            r = lcb_log_message(b, "default", &guid, text.len, NULL, fd, 11);
        vfs_close(b->vfs, &fd);
    }
    buf_free(&text);
    return r;
}
