/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the tests of the store share: a store of its own in a scratch directory, a clock under
 * control, histories that look like a client's, and the whole content of an index as text, so that
 * two can be compared. */
#ifndef CUNIT_LCBTEST_H
#define CUNIT_LCBTEST_H

#include <stdint.h>

#include "backup/lcb.h"
#include "lib/buf.h"
#include "lib/vfs.h"

/* ---- a store ---- */

struct lcbtest {
    char dir[256];
    struct config *config;
    struct lcb_store *store;
    struct vfs *vfs; /* of the store */
};
/* A scratch directory with an imapd.conf (and EXTRA lines); no store yet. The clock starts, and
 * syslog is silent until lcbtest_fini. */
void lcbtest_init(struct lcbtest *, const char *extra);
void lcbtest_fini(struct lcbtest *);
/* VFS NULL: the real one. */
void lcbtest_open(struct lcbtest *, struct vfs *);
void lcbtest_close(struct lcbtest *);
/* Path of the only data file, or NULL. The caller frees it. Needs an open store. */
char *lcbtest_path(struct lcbtest *);
/* User joe's backup for writing, made if missing; must work. */
struct lcb *lcbtest_joe(struct lcbtest *);
/* Lines that were logged (any level) since lcbtest_init, and whether one of them has TEXT in it. */
int lcbtest_logged(const char *text);
const char *lcbtest_log_text(void);

/* What time(2) says in the program under test: T, or the real time again for 0. */
void lcbtest_settime(int64_t t);
int64_t lcbtest_time(void);

/* ---- files ---- */

void lcbtest_read(const char *path, struct buf *);
void lcbtest_write(const char *path, const void *p, size_t n);
/* An index as it was at some moment, with what SQLite keeps beside it. */
struct lcbtest_index {
    struct buf db, wal;
};
void lcbtest_saveindex(const char *datapath, struct lcbtest_index *);
void lcbtest_putindex(const char *datapath, const struct lcbtest_index *);
void lcbtest_rmindex(const char *datapath);
void lcbtest_freeindex(struct lcbtest_index *);

/* ---- content ---- */

/* All rows of the index beside DATAPATH, but ids, marks and meta, as text. */
void lcbtest_dump(const char *datapath, struct buf *out);
/* The same for the first N bytes at P when they are opened as a data file without an index. */
void lcbtest_rebuild(struct lcbtest *, const void *p, size_t n, struct buf *out);
/* The index beside DATAPATH must say what one made anew would. */
void lcbtest_compare(struct lcbtest *, const char *datapath, const char *what);
/* One integer from the index. */
int64_t lcbtest_int(const char *datapath, const char *sql);
/* 1 if equal; else shows the first line that differs. */
int lcbtest_same(const struct buf *got, const struct buf *want, const char *what);

/* What the backup answers for the state at TIME: added to OUT. XERR_NOTFOUND before its history. */
int lcbtest_state(struct lcb *, int64_t time, struct buf *out);
/* The same of the file PATH for each second from FROM until now. */
void lcbtest_states(const char *path, struct lcbtest *, int64_t from, struct buf *out);

/* ---- commands in text ---- */

/* VALUE is a dlist in text form. */
int lcbtest_log(struct lcb *, const char *verb, const char *value);
int lcbtest_apply(struct lcb *, int64_t pos, const char *verb, const char *value);
/* HEADER without brackets; RECORDS in text, each "%(...)", NULL-terminated list or NULL. */
int lcbtest_mailbox(struct lcb *, const char *header, const char *const *records, uint32_t *crc);
/* A complete header: MORE are further keys, or "". */
const char *lcbtest_header(const char *uniqueid, const char *name, unsigned last_uid,
                           unsigned modseq, const char *more);
const char *lcbtest_record(unsigned uid, unsigned modseq, const char *flags, const char *guid);
/* Message number N: its bytes are always the same. */
void lcbtest_message(unsigned n, struct buf *text, struct message_guid *guid);
int lcbtest_upload(struct lcb *, unsigned n, int streamed);

/* ---- histories ---- */

enum { LCBTEST_MAILBOXES = 4, LCBTEST_RECORDS = 24 };
/* What the client has; copying the struct copies the state. */
struct lcbtest_history {
    uint64_t random;
    unsigned nextmailbox, nextcontent, steps;
    int big; /* now and then a message above 2 MiB */
    struct {
        unsigned number, name, uidnext, modseq, n;
        struct {
            unsigned uid, modseq, content, flags;
        } rec[LCBTEST_RECORDS];
    } mb[LCBTEST_MAILBOXES];
};
void lcbtest_start(struct lcbtest_history *, unsigned seed);
unsigned lcbtest_draw(struct lcbtest_history *, unsigned below);
/* One command more, and a little time passes. The same seed gives the same commands. */
int lcbtest_step(struct lcbtest_history *, struct lcb *);
/* N steps in joe's backup, in chunks of 8 KiB, with a commit after the last and each EVERY before. */
int lcbtest_steps(struct lcbtest *, struct lcbtest_history *, int n, int every);

/* ---- a file to be damaged ---- */

enum { LCBTEST_GROUPS = 7, LCBTEST_MEMBERS = 3 };
/* A file of LCBTEST_GROUPS commits; group N makes mailbox uN with a message, in
 * LCBTEST_MEMBERS members. */
struct lcbtest_file {
    struct lcbtest t;
    char *path;
    struct buf data;
    struct lcbtest_index index[LCBTEST_GROUPS + 1];
    struct buf dump[LCBTEST_GROUPS + 1];
    off_t start[LCBTEST_GROUPS][LCBTEST_MEMBERS + 1]; /* of each member, and the end */
};
void lcbtest_makefile(struct lcbtest_file *);
void lcbtest_freefile(struct lcbtest_file *);
/* Open it for writing, which must work, and close it; it ends where it was found to. */
void lcbtest_openfile(struct lcbtest_file *);

#endif
