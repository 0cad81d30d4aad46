/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_show - mailboxes with their records, messages with their headers. Items that are not
 * there are left out; with -v stderr names them. */
#include "config.h"

#include <stdio.h>

#include "backup/cyr_backup.h"
#include "lib/output.h"
#include "lib/xerr.h"

/* ---- mailboxes ---- */

static int show_record(void *rock, const struct lcb_record *rec)
{
    char guid[41], when[20] = "";
    (void)rock;
    message_guid_encode(&rec->rec.guid, guid);
    if (rec->rec.expunged)
        output_time(rec->time, when);
    printf("%10lu  %19s  %s\n", (unsigned long)rec->rec.uid, when, guid);
    return cyr_backup_printed();
}

static int show_mailbox(struct cyr_backup *cb, const struct lcb_folder *f)
{
    printf("mboxname: %s\nuniqueid: %s\n", f->mboxname, f->uniqueid);
    if (f->deleted) {
        char when[20];
        output_time(f->deleted, when);
        printf("deleted:  %s\n", when);
    }
    printf("messages:\n%10s  %-19s  guid\n", "uid", "expunged time");
    int r = lcb_foreach_record(cb->backup, f->id, cb->at, show_record, NULL);
    putchar('\n');
    return r;
}

int cyr_backup_show_mailboxes(struct cyr_backup *cb, int count, char **items)
{
    struct buf strings = BUF_INITIALIZER;
    int r = 0;
    for (int i = 0; !r && i < count; i++) {
        struct lcb_folder f;
        r = cyr_backup_find_mailbox(cb, items[i], &f, &strings);
        if (!r) {
            r = show_mailbox(cb, &f);
        } else if (r == XERR_NOTFOUND) {
            cyr_backup_left_out(cb, items[i]);
            r = 0;
        }
    }
    buf_free(&strings);
    return r;
}

/* ---- messages ---- */

static int show_folder(void *rock, const char *uniqueid, const char *mboxname)
{
    (void)rock;
    printf("\t%s\t%s\n", uniqueid, mboxname);
    return cyr_backup_printed();
}

static int print_header(void *rock, const void *p, size_t n)
{
    (void)rock;
    return fwrite(p, 1, n, stdout) == n ? 0 : cyr_backup_printed();
}

static int show_message(struct cyr_backup *cb, const char *item, const struct message_guid *guid)
{
    char hex[41];
    message_guid_encode(guid, hex);
    printf("guid:\t%s\nmailboxes:\n", hex);
    int r = lcb_content_folders(cb->backup, guid, cb->at, show_folder, NULL);
    if (r)
        return r;
    puts("headers:");
    r = cyr_backup_read_header(cb, guid, print_header, NULL);
    if (r && !cyr_backup_printed()) {
        cyr_backup_bad_item(cb, item, r);
        r = 0;
    }
    putchar('\n');
    return r;
}

int cyr_backup_show_messages(struct cyr_backup *cb, int count, char **items)
{
    int r = 0;
    for (int i = 0; !r && i < count; i++) {
        struct message_guid guid;
        r = cyr_backup_find_message(cb, items[i], &guid);
        if (!r) {
            r = show_message(cb, items[i], &guid);
        } else if (r == XERR_NOTFOUND) {
            cyr_backup_left_out(cb, items[i]);
            r = 0;
        }
    }
    return r;
}
