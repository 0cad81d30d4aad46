/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_dump - a message, a chunk or a mailbox as it is, on stdout and nothing beside it.
 *
 * A mailbox comes as mboxrd: every message that is not expunged, by UID, begins with a line
 * "From MAILER-DAEMON <date>" (its internal date, UTC) and ends with an empty line. Line ends
 * become LF, and a line that looks like the first one after any number of ">" gets one ">" more, so
 * that taking one away everywhere gives the message back. */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "backup/cyr_backup.h"
#include "lib/xerr.h"

static int print_bytes(void *rock, const void *p, size_t n)
{
    (void)rock;
    return fwrite(p, 1, n, stdout) == n ? 0 : cyr_backup_printed();
}

/* One item was asked for, and it is not there. */
static int no_item(struct cyr_backup *cb, const char *kind, const char *item)
{
    cyr_backup_say(cb, "Item does not exist (%s %s)", kind, item);
    cb->failed = 1;
    return 0;
}

int cyr_backup_dump_chunk(struct cyr_backup *cb, int count, char **items)
{
    (void)count;
    int64_t seq = cyr_backup_chunk_number(items[0]);
    int r = seq < 0 ? XERR_NOTFOUND : lcb_read_chunk(cb->backup, seq, print_bytes, NULL);
    return r == XERR_NOTFOUND ? no_item(cb, "chunk", items[0]) : r;
}

int cyr_backup_dump_message(struct cyr_backup *cb, int count, char **items)
{
    struct message_guid guid;
    (void)count;
    int r = cyr_backup_find_message(cb, items[0], &guid);
    if (!r)
        r = lcb_read_content(cb->backup, &guid, print_bytes, NULL);
    return r == XERR_NOTFOUND ? no_item(cb, "message", items[0]) : r;
}

/* ---- mailbox ---- */

/* The line so far that may still turn out to be a From line: any number of ">", then FROM. */
static const char from[] = "From ";

struct mbox {
    struct cyr_backup *cb;
    uint64_t quotes; /* held back, not yet printed */
    size_t match;    /* bytes of FROM held back */
    int plain;       /* in a line that is no From line, or beyond its beginning */
    int cr;          /* a CR is held back: the end of a line if LF follows */
    int middle;      /* the last line has not ended */
};

/* Print what was held back, quoted or not. */
static void release(struct mbox *m, int quoted)
{
    if (quoted)
        putchar('>');
    for (; m->quotes; m->quotes--)
        putchar('>');
    fwrite(from, 1, m->match, stdout);
    m->match = 0;
    m->plain = 1;
}

static void mbox_byte(struct mbox *m, char c)
{
    if (m->cr && c != '\n') {
        release(m, 0);
        putchar('\r');
    }
    m->cr = c == '\r';
    if (m->cr) {
        m->middle = 1;
        return;
    }
    if (c == '\n') {
        release(m, 0);
        putchar('\n');
        m->plain = m->middle = 0;
        return;
    }
    m->middle = 1;
    if (m->plain) {
        putchar(c);
    } else if (c == '>' && !m->match) {
        m->quotes++;
    } else if (c == from[m->match]) {
        if (++m->match == strlen(from))
            release(m, 1);
    } else {
        release(m, 0);
        putchar(c);
    }
}

static int mbox_bytes(void *rock, const void *p, size_t n)
{
    const char *s = p;
    for (size_t i = 0; i < n; i++)
        mbox_byte(rock, s[i]);
    return cyr_backup_printed();
}

static void mbox_begin(struct mbox *m, int64_t internaldate)
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t t = (time_t)internaldate, zero = 0;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || tm.tm_year > 9999 - 1900 || tm.tm_year < -900)
        gmtime_r(&zero, &tm);
    printf("From MAILER-DAEMON %s %s %2d %02d:%02d:%02d %d\n", days[tm.tm_wday], months[tm.tm_mon],
           tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_year + 1900);
    m->quotes = m->match = 0;
    m->plain = m->cr = m->middle = 0;
}

static void mbox_end(struct mbox *m)
{
    release(m, 0);
    if (m->cr)
        putchar('\r');
    fputs(m->middle ? "\n\n" : "\n", stdout);
}

static int mbox_record(void *rock, const struct lcb_record *rec)
{
    struct mbox *m = rock;
    char item[64];
    if (rec->rec.expunged)
        return 0;
    snprintf(item, sizeof(item), "uid %" PRIu32, rec->rec.uid);
    if (!rec->has_content) {
        cyr_backup_say(m->cb, "%s: the content of this message never came", item);
        m->cb->failed = 1;
        return 0;
    }
    mbox_begin(m, rec->rec.internaldate);
    int r = lcb_read_content(m->cb->backup, &rec->rec.guid, mbox_bytes, m);
    mbox_end(m);
    if (r && !cyr_backup_printed()) {
        cyr_backup_bad_item(m->cb, item, r);
        r = 0;
    }
    return r ? r : cyr_backup_printed();
}

int cyr_backup_dump_mailbox(struct cyr_backup *cb, int count, char **items)
{
    struct mbox m = {.cb = cb};
    struct buf strings = BUF_INITIALIZER;
    struct lcb_folder f;
    (void)count;
    int r = cyr_backup_find_mailbox(cb, items[0], &f, &strings);
    if (!r)
        r = lcb_foreach_record(cb->backup, f.id, cb->at, mbox_record, &m);
    else if (r == XERR_NOTFOUND)
        r = no_item(cb, "mailbox", items[0]);
    buf_free(&strings);
    return r;
}
