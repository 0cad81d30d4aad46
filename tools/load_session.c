/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* load_session - the commands of sync_client -u, and a close look at every answer.
 *
 *   GET USER       what the server lists must be a state the mailbox was in: UIDs, modseq, CRCs
 *   APPLY RESERVE  if anything is listed, for content that may be there already
 *   APPLY MESSAGE  what is missing, at most 1024 messages each
 *   APPLY MAILBOX  records that changed since the listed state, or all
 *
 * Anything unexpected ends the run: a benchmark of a conversation that went wrong measures
 * nothing. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "imap/dlist.h"
#include "imap/sync_header.h"
#include "imap/sync_reply.h"
#include "lib/hash.h"
#include "lib/prot.h"
#include "lib/xmalloc.h"
#include "tools/load.h"

enum { BATCH = 1024, RESERVE_MAX = 8193, PATIENCE = 1800 };

struct load_session {
    int fd;
    struct protstream *in, *out;
    struct dlist_pool *pool;
    struct dlist_reader reader;
    struct load_count *count;
    char doing[80];   /* the command whose answer is awaited */
    struct buf text;  /* for what is sent or read */
    struct hash *has; /* GUIDs that the server has, or said it has, in this unit */
    struct load_mailbox *mailboxes; /* of the user whose turn it is */
    size_t nmailboxes;
    struct hash *by_id;
};

static char yes;

static int failed(const struct load_session *s, const char *what, const char *detail)
{
    fprintf(stderr, "csync-load: %s: %s%s%s\n", s->doing, what, detail ? ": " : "",
            detail ? detail : "");
    return -1;
}

/* ---- Answers ---- */

static int read_line(struct load_session *s, const char **line)
{
    int c;
    buf_reset(&s->text);
    while ((c = prot_getc(s->in)) >= 0 && c != '\n')
        buf_putc(&s->text, c);
    if (c < 0)
        return failed(s, prot_error(s->in) ? "reading failed" : "connection closed", NULL);
    while (s->text.len && s->text.s[s->text.len - 1] == '\r')
        s->text.len--;
    *line = buf_cstring(&s->text);
    return 0;
}

/* Lines that begin with "*" go to TAKE (NULL: there must be none); the final line must be OK. */
static int answer(struct load_session *s, int (*take)(struct load_session *, const char *name,
                                                      struct dlist *value))
{
    const char *line;
    struct dlist *value;
    while (prot_peek(s->in) == '*') {
        if (!take)
            return read_line(s, &line) ? -1 : failed(s, "unexpected answer", line);
        prot_getc(s->in);
        dlist_pool_reset(s->pool);
        buf_reset(&s->text);
        if (dlist_reader_word(&s->reader, &s->text, 64) || dlist_reader_value(&s->reader, &value) ||
            dlist_reader_eol(&s->reader))
            return failed(s, "the answer cannot be parsed", NULL);
        if (take(s, buf_cstring(&s->text), value))
            return -1;
    }
    if (read_line(s, &line))
        return -1;
    return sync_reply_parse(line) == SYNC_OK ? 0 : failed(s, "answer", line);
}

static void begin(struct load_session *s, const char *command, const char *object)
{
    snprintf(s->doing, sizeof(s->doing), "%s%s%s", command, object ? " " : "", object ? object : "");
}

/* A whole command that has no data to speak of. */
static int simple(struct load_session *s, const char *command, const char *object,
                  int (*take)(struct load_session *, const char *, struct dlist *))
{
    begin(s, command, object);
    prot_printf(s->out, "%s\r\n", s->doing);
    if (prot_flush(s->out))
        return failed(s, "writing failed", NULL);
    return answer(s, take);
}

/* ---- Connecting ---- */

static int greeting(struct load_session *s)
{
    const char *line;
    begin(s, "greeting", NULL);
    do {
        if (read_line(s, &line))
            return -1;
        if (line[0] != '*')
            return failed(s, "not a greeting", line);
    } while (strncmp(line, "* OK", 4) != 0);
    return 0;
}

static int dial(struct load_session *s, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    begin(s, path, NULL);
    if (strlen(path) >= sizeof(address.sun_path))
        return failed(s, "the name is too long", NULL);
    memcpy(address.sun_path, path, strlen(path) + 1);
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&address, sizeof(address)))
        return failed(s, "cannot connect", strerror(errno));
    s->in = prot_new(s->fd, 0);
    s->out = prot_new(s->fd, 1);
    prot_settimeout(s->in, PATIENCE);
    prot_settimeout(s->out, PATIENCE);
    s->pool = dlist_pool_new((size_t)1 << 28);
    dlist_reader_init(&s->reader, s->in, s->pool);
    return greeting(s);
}

int load_session_open(struct load_session **sp, const char *path, struct load_count *count)
{
    struct load_session *s = xzmalloc(sizeof(*s));
    s->fd = -1;
    s->count = count;
    *sp = s;
    if (dial(s, path)) {
        load_session_abort(sp);
        return -1;
    }
    count->connections++;
    return 0;
}

void load_session_abort(struct load_session **sp)
{
    struct load_session *s = *sp;
    if (!s)
        return;
    prot_free(&s->in);
    prot_free(&s->out);
    if (s->fd >= 0)
        close(s->fd);
    dlist_pool_free(&s->pool);
    hash_free(&s->has, NULL);
    hash_free(&s->by_id, NULL);
    buf_free(&s->text);
    free(s);
    *sp = NULL;
}

int load_session_close(struct load_session **sp)
{
    struct load_session *s = *sp;
    int e = simple(s, "EXIT", NULL, NULL);
    if (!e && prot_getc(s->in) >= 0)
        e = failed(s, "something follows the last answer", NULL);
    load_session_abort(sp);
    return e;
}

/* ---- Listing ---- */

static int take_listing(struct load_session *s, const char *name, struct dlist *value)
{
    struct sync_header h;
    if (strcmp(name, "MAILBOX") != 0)
        return failed(s, "not expected in the listing", name);
    if (sync_header_parse(&h, value))
        return failed(s, "a listed mailbox cannot be parsed", NULL);
    struct load_mailbox *m = hash_lookup(s->by_id, h.uniqueid);
    if (!m)
        return failed(s, "a mailbox is listed that does not exist", h.mboxname);
    if (m->listed)
        return failed(s, "a mailbox is listed twice", h.mboxname);
    if (strcmp(h.mboxname, m->name) != 0)
        return failed(s, "a mailbox is listed with another name", h.mboxname);
    m->listed = 1;
    m->listed_uid = h.last_uid;
    m->listed_modseq = h.highestmodseq;
    m->listed_crc = h.sync_crc;
    m->listed_crc_annot = h.sync_crc_annot;
    return 0;
}

/* The listed state must have been ours, at the time its modseq tells. */
static int check_listing(struct load_session *s, struct load_mailbox *m)
{
    size_t now = m->at;
    uint32_t crc = m->crc, crc_annot = m->crc_annot;
    if (!m->listed)
        return 0;
    size_t then = (size_t)m->listed_modseq - 1;
    if (!m->listed_modseq || then > now || m->listed_uid != load_mailbox_count(m, then))
        return failed(s, "the listing is not what was sent", m->name);
    if (then + 1 == now) {
        crc = m->crc_before;
        crc_annot = m->crc_annot_before;
    } else if (then < now) { /* go back and come again */
        load_mailbox_goto(m, then);
        crc = m->crc;
        crc_annot = m->crc_annot;
        load_mailbox_goto(m, now);
    }
    if ((m->listed_crc && m->listed_crc != crc) ||
        (m->listed_crc_annot && m->listed_crc_annot != crc_annot))
        return failed(s, "a listed CRC is not what was sent", m->name);
    return 0;
}

static int list(struct load_session *s)
{
    char command[64];
    hash_free(&s->by_id, NULL);
    s->by_id = hash_new();
    for (size_t i = 0; i < s->nmailboxes; i++) {
        s->mailboxes[i].listed = 0;
        hash_insert(s->by_id, s->mailboxes[i].uniqueid, &s->mailboxes[i]);
    }
    snprintf(command, sizeof(command), "GET USER %s", s->mailboxes[0].user);
    if (simple(s, command, NULL, take_listing))
        return -1;
    for (size_t i = 0; i < s->nmailboxes; i++)
        if (check_listing(s, &s->mailboxes[i]))
            return -1;
    return 0;
}

/* ---- Content ---- */

/* The GUID is the server's from now on; 1 if it was already. */
static int note(struct load_session *s, const struct corpus_message *m)
{
    return hash_insertmap(s->has, m->guid.value, sizeof(m->guid.value), &yes) != NULL;
}

static int take_missing(struct load_session *s, const char *name, struct dlist *value)
{
    struct message_guid guid;
    if (strcmp(name, "MISSING") != 0 || value->type != DL_LIST)
        return failed(s, "not expected after RESERVE", name);
    for (const struct dlist *d = value->head; d; d = d->next) {
        if (!d->sval || message_guid_decode(&guid, d->sval, d->len))
            return failed(s, "a GUID cannot be parsed", NULL);
        if (!hash_delmap(s->has, guid.value, sizeof(guid.value)))
            return failed(s, "a GUID is missing that was not asked for", d->sval);
    }
    return 0;
}

/* Send a RESERVE for the N GUIDs in LIST and take note of what the server has. */
static int reserve(struct load_session *s, struct buf *list)
{
    begin(s, "APPLY RESERVE", NULL);
    prot_puts(s->out, "APPLY RESERVE %(PARTITION default MBOXNAME (");
    int some = 0;
    for (size_t i = 0; i < s->nmailboxes; i++)
        if (s->mailboxes[i].listed)
            prot_printf(s->out, some++ ? " %s" : "%s", s->mailboxes[i].name);
    prot_puts(s->out, ") GUID (");
    prot_write(s->out, list->s, list->len);
    prot_puts(s->out, "))\r\n");
    buf_reset(list);
    return prot_flush(s->out) ? failed(s, "writing failed", NULL) : answer(s, take_missing);
}

/* Ask for all content that records above the listed UIDs have. */
static int reserve_all(struct load_session *s)
{
    struct buf guids = BUF_INITIALIZER;
    size_t n = 0;
    int e = 0;
    for (size_t k = 0; k < s->nmailboxes && !e; k++) {
        const struct load_mailbox *m = &s->mailboxes[k];
        size_t count = load_mailbox_count(m, m->at);
        for (size_t i = m->listed ? m->listed_uid : 0; i < count && !e; i++) {
            char hex[41];
            if (note(s, m->records[i].message))
                continue;
            message_guid_encode(&m->records[i].message->guid, hex);
            if (guids.len)
                buf_putc(&guids, ' ');
            buf_appendmap(&guids, hex, 40);
            if (++n % RESERVE_MAX == 0)
                e = reserve(s, &guids);
        }
    }
    if (!e && guids.len)
        e = reserve(s, &guids);
    buf_free(&guids);
    return e;
}

/* ---- One mailbox ---- */

static int finish_batch(struct load_session *s, size_t *n)
{
    if (!*n)
        return 0;
    *n = 0;
    prot_puts(s->out, ")\r\n");
    return prot_flush(s->out) ? failed(s, "writing failed", NULL) : answer(s, NULL);
}

static int upload(struct load_session *s, const struct load_mailbox *m)
{
    size_t count = load_mailbox_count(m, m->at), n = 0;
    begin(s, "APPLY MESSAGE for", m->name);
    for (size_t i = m->listed ? m->listed_uid : 0; i < count; i++) {
        const struct corpus_message *msg = m->records[i].message;
        char hex[41];
        if (note(s, msg))
            continue;
        message_guid_encode(&msg->guid, hex);
        prot_puts(s->out, n++ ? " " : "APPLY MESSAGE (");
        prot_printf(s->out, "%%{default %s %zu}\r\n", hex, msg->size);
        prot_write(s->out, msg->text, msg->size);
        s->count->messages++;
        s->count->bytes += msg->size;
        if (n == BATCH && finish_batch(s, &n))
            return -1;
    }
    return finish_batch(s, &n);
}

static void put_record(struct load_session *s, const struct load_mailbox *m, size_t i, int *some)
{
    if ((*some)++)
        buf_putc(&s->text, ' ');
    load_mailbox_record(m, i, &s->text);
    s->count->records++;
    if (s->text.len > 60000) {
        prot_write(s->out, s->text.s, s->text.len);
        buf_reset(&s->text);
    }
}

static int apply_mailbox(struct load_session *s, const struct load_mailbox *m)
{
    uint64_t since = m->listed ? m->listed_modseq : 0;
    size_t count = load_mailbox_count(m, m->at);
    int some = 0;
    begin(s, "APPLY MAILBOX", m->name);
    buf_setcstr(&s->text, "APPLY MAILBOX %(");
    load_mailbox_header(m, &s->text);
    buf_appendcstr(&s->text, " RECORD (");
    if (since && since == m->at) /* one event: no need to look for what it touched */
        put_record(s, m, load_mailbox_touched(m, m->at), &some);
    else
        for (size_t i = 0; i < count; i++)
            if (m->records[i].modseq > since)
                put_record(s, m, i, &some);
    buf_appendcstr(&s->text, "))\r\n");
    prot_write(s->out, s->text.s, s->text.len);
    s->count->mailboxes++;
    return prot_flush(s->out) ? failed(s, "writing failed", NULL) : answer(s, NULL);
}

int load_session_user(struct load_session *s, struct load_mailbox *mailboxes, size_t count)
{
    int listed = 0;
    s->mailboxes = mailboxes;
    s->nmailboxes = count;
    hash_free(&s->has, NULL);
    s->has = hash_new();
    if (list(s))
        return -1;
    for (size_t i = 0; i < count; i++)
        listed |= mailboxes[i].listed;
    if (listed && reserve_all(s))
        return -1;
    for (size_t i = 0; i < count; i++) {
        const struct load_mailbox *m = &mailboxes[i];
        if (m->listed && m->listed_modseq == m->at + 1)
            continue; /* unchanged */
        if (upload(s, m) || apply_mailbox(s, m))
            return -1;
    }
    return 0;
}
