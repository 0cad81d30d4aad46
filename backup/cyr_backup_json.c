/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_json - the lists as JSON, printed as they are read, so that a mailbox of a million
 * messages takes no memory. Keys and their order are those of cyr_backup in Cyrus 3.2 - 3.10; what
 * has no elements there has no key. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "backup/cyr_backup.h"
#include "lib/output.h"
#include "lib/xerr.h"

#define POOL_LIMIT (64u << 20)

static json_t *time_string(int64_t epoch)
{
    char text[20];
    output_time(epoch, text);
    return json_string(text);
}

static json_t *string(const char *s)
{
    return output_string(s, strlen(s));
}

static json_t *guid_string(const struct message_guid *guid)
{
    char hex[41];
    message_guid_encode(guid, hex);
    return json_string(hex);
}

/* ---- chunks ---- */

static int chunk(void *rock, const struct lcb_chunk *c)
{
    double ratio = c->text_length ? 100.0 * (double)c->length / (double)c->text_length : 0.0;
    json_t *j = json_object();
    json_object_set_new(j, "id", json_integer(c->seq));
    json_object_set_new(j, "offset", json_integer((json_int_t)c->offset));
    json_object_set_new(j, "length", json_integer((json_int_t)c->text_length));
    json_object_set_new(j, "ratio", json_real(ratio));
    json_object_set_new(j, "start time", time_string(c->first_time));
    json_object_set_new(j, "end time", time_string(c->last_time));
    return output_writer_value(rock, NULL, j);
}

int cyr_backup_json_chunks(struct cyr_backup *cb, int count, char **items)
{
    (void)count, (void)items;
    struct output_writer *w = output_writer_begin(stdout);
    output_writer_open(w, NULL, '[');
    int r = lcb_foreach_chunk(cb->backup, chunk, w);
    int e = output_writer_end(&w);
    return r ? r : e;
}

/* ---- mailboxes ---- */

struct mailboxes {
    struct cyr_backup *cb;
    struct output_writer *w;
    struct dlist_pool *pool;
    int records; /* of this mailbox, so far */
};

static int record(void *rock, const struct lcb_record *rec)
{
    struct mailboxes *m = rock;
    if (!m->records++)
        output_writer_open(m->w, "messages", '[');
    json_t *j = json_object();
    json_object_set_new(j, "uid", json_integer(rec->rec.uid));
    json_object_set_new(j, "guid", guid_string(&rec->rec.guid));
    if (rec->rec.expunged)
        json_object_set_new(j, "expunged", time_string(rec->time));
    return output_writer_value(m->w, NULL, j);
}

static int mailbox(void *rock, const struct lcb_folder *f)
{
    struct mailboxes *m = rock;
    m->records = 0;
    output_writer_open(m->w, NULL, '{');
    output_writer_value(m->w, "uniqueid", string(f->uniqueid));
    output_writer_value(m->w, "mboxname", string(f->mboxname));
    output_writer_value(m->w, "last_appenddate", time_string(cyr_backup_appended(f, m->pool)));
    int r = lcb_foreach_record(m->cb->backup, f->id, m->cb->at, record, m);
    if (m->records)
        output_writer_close(m->w);
    int e = output_writer_close(m->w);
    return r ? r : e;
}

int cyr_backup_json_mailboxes(struct cyr_backup *cb, int count, char **items)
{
    (void)count, (void)items;
    struct mailboxes m = {cb, output_writer_begin(stdout), dlist_pool_new(POOL_LIMIT), 0};
    output_writer_open(m.w, NULL, '[');
    int r = lcb_foreach_folder(cb->backup, cb->at, 1, mailbox, &m);
    int e = output_writer_end(&m.w);
    dlist_pool_free(&m.pool);
    return r ? r : e;
}

/* ---- messages ---- */

struct messages {
    struct cyr_backup *cb;
    struct output_writer *w;
};

static int message_folder(void *rock, const char *uniqueid, const char *mboxname)
{
    json_t *j = json_object();
    json_object_set_new(j, "uniqueid", string(uniqueid));
    json_object_set_new(j, "mboxname", string(mboxname));
    return json_array_append_new(rock, j) ? XERR_INTERNAL : 0;
}

static int message(void *rock, const struct message_guid *guid, uint64_t size)
{
    struct messages *m = rock;
    json_t *folders = json_array(), *j = json_object();
    (void)size;
    int r = lcb_content_folders(m->cb->backup, guid, m->cb->at, message_folder, folders);
    json_object_set_new(j, "guid", guid_string(guid));
    if (json_array_size(folders))
        json_object_set(j, "mailboxes", folders);
    json_decref(folders);
    int e = output_writer_value(m->w, NULL, j);
    return r ? r : e;
}

int cyr_backup_json_messages(struct cyr_backup *cb, int count, char **items)
{
    (void)count, (void)items;
    struct messages m = {cb, output_writer_begin(stdout)};
    output_writer_open(m.w, NULL, '[');
    int r = lcb_foreach_content(cb->backup, cb->at, message, &m);
    int e = output_writer_end(&m.w);
    return r ? r : e;
}
