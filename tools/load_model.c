/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* load_model - mailboxes whose whole history is known in advance.
 *
 * Times, flags and names are computed from UIDs and modseqs, so that two servers that are sent the
 * same history receive the same bytes. The keys, their order, and the two annotations that every
 * record has are those of sync_client 3.6. */
#include "config.h"

#include <stdlib.h>

#include "imap/sync_record.h"
#include "lib/xmalloc.h"
#include "tools/load.h"

enum { SEEN = 1, ANSWERED = 2, FLAGGED = 4, FORWARDED = 8, EXPUNGED = 16, ALL_FLAGS = 31 };
#define EPOCH 1600000000
#define ENTRY "/vendor/cmu/cyrus-imapd/"

void load_mailbox_init(struct load_mailbox *m, const char *user, size_t folder, size_t number,
                       const struct corpus_message *messages, size_t count,
                       const struct load_later *later)
{
    memset(m, 0, sizeof(*m));
    m->user = user;
    m->name = folder ? xasprintf("user.%s.folder%04zu", user, folder) : xasprintf("user.%s", user);
    m->uniqueid = xasprintf("bench%019zu", number);
    m->uidvalidity = (uint32_t)(EPOCH + number);
    m->records = xcalloc(count + 1, sizeof(*m->records));
    m->messages = count;
    m->later = *later;
    m->crc_annot = SYNC_CRC_ANNOT_START;
    for (size_t i = 0; i < count; i++)
        m->records[i].message = &messages[i];
}

void load_mailbox_fini(struct load_mailbox *m)
{
    free(m->name);
    free(m->uniqueid);
    free(m->records);
    memset(m, 0, sizeof(*m));
}

/* ---- Records ---- */

static uint64_t internaldate(size_t i)
{
    return EPOCH + 61 * (uint64_t)i;
}

static uint64_t last_updated(const struct load_record *r)
{
    return EPOCH + 100000000 + r->modseq;
}

static void put_flags(unsigned flags, struct buf *out)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{EXPUNGED, "\\Expunged"}, {ANSWERED, "\\Answered"}, {FLAGGED, "\\Flagged"},
                 {SEEN, "\\Seen"}, {FORWARDED, "$Forwarded"}};
    int some = 0;
    buf_putc(out, '(');
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!(flags & names[i].bit))
            continue;
        if (some++)
            buf_putc(out, ' ');
        buf_appendcstr(out, names[i].name);
    }
    buf_putc(out, ')');
}

static void put_num(struct buf *out, const char *key, uint64_t num)
{
    buf_appendcstr(out, key);
    buf_appendu64(out, num);
}

void load_mailbox_record(const struct load_mailbox *m, size_t i, struct buf *out)
{
    const struct load_record *r = &m->records[i];
    char hex[41];
    message_guid_encode(&r->message->guid, hex);
    put_num(out, "%(UID ", i + 1);
    put_num(out, " MODSEQ ", r->modseq);
    put_num(out, " LAST_UPDATED ", last_updated(r));
    buf_appendcstr(out, " FLAGS ");
    put_flags(r->flags, out);
    put_num(out, " INTERNALDATE ", internaldate(i));
    put_num(out, " SIZE ", r->message->size);
    buf_appendcstr(out, " GUID ");
    buf_appendmap(out, hex, 40);
    put_num(out, " ANNOTATIONS (%(ENTRY " ENTRY "savedate USERID \"\" MODSEQ 0 VALUE ",
            internaldate(i));
    put_num(out, ") %(ENTRY " ENTRY "createdmodseq USERID \"\" MODSEQ 0 VALUE ", i + 2);
    buf_appendcstr(out, ")))");
}

/* XOR a record as it is now into the mailbox's SYNC_CRC. */
static void add_crc(struct load_mailbox *m, size_t i)
{
    static struct buf flags[ALL_FLAGS + 1];
    const struct load_record *r = &m->records[i];
    struct buf *text = &flags[r->flags];
    if (!text->len)
        put_flags(r->flags, text);
    m->crc ^= sync_crc_basic((uint32_t)(i + 1), r->modseq, (int64_t)last_updated(r), text->s, text->len,
                             (int64_t)internaldate(i), &r->message->guid);
}

static void add_crc_annot(struct load_mailbox *m, size_t i)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)internaldate(i));
    m->crc_annot ^= sync_crc_annot((uint32_t)(i + 1), ENTRY "savedate", "", text, (size_t)n);
    n = snprintf(text, sizeof(text), "%zu", i + 2);
    m->crc_annot ^= sync_crc_annot((uint32_t)(i + 1), ENTRY "createdmodseq", "", text, (size_t)n);
}

/* ---- History ---- */

size_t load_mailbox_count(const struct load_mailbox *m, size_t event)
{
    return event < m->messages ? event : m->messages;
}

size_t load_mailbox_touched(const struct load_mailbox *m, size_t event)
{
    if (event <= m->messages)
        return event - 1;
    if (event > m->messages + m->later.changes)
        return (event - m->messages - m->later.changes) * m->later.expunge - 1;
    struct corpus_random r = {event};
    return (size_t)(corpus_random(&r) % m->messages);
}

static void step(struct load_mailbox *m)
{
    m->crc_before = m->crc;
    m->crc_annot_before = m->crc_annot;
    size_t i = load_mailbox_touched(m, ++m->at);
    struct load_record *r = &m->records[i];
    if (m->at <= m->messages) {
        r->flags = i % 3 ? SEEN : 0;
        if (i % 10 == 1)
            r->flags |= ANSWERED;
        if (i % 50 == 7)
            r->flags |= FORWARDED;
        add_crc_annot(m, i);
    } else {
        add_crc(m, i); /* out with the old one */
        r->flags ^= m->at > m->messages + m->later.changes ? EXPUNGED : FLAGGED;
    }
    r->modseq = m->at + 1;
    if (r->flags & EXPUNGED)
        add_crc_annot(m, i); /* out, too: neither sum knows of what is gone */
    else
        add_crc(m, i);
}

size_t load_mailbox_events(const struct load_mailbox *m)
{
    return m->messages + m->later.changes + (m->later.expunge ? m->messages / m->later.expunge : 0);
}

void load_mailbox_goto(struct load_mailbox *m, size_t event)
{
    if (event < m->at) {
        m->at = 0;
        m->crc = 0;
        m->crc_annot = SYNC_CRC_ANNOT_START;
    }
    while (m->at < event)
        step(m);
}

void load_mailbox_header(const struct load_mailbox *m, struct buf *out)
{
    size_t count = load_mailbox_count(m, m->at);
    buf_printf(out, "UNIQUEID %s MBOXNAME %s SYNC_CRC %u SYNC_CRC_ANNOT %u LAST_UID %zu", m->uniqueid,
               m->name, m->crc, m->crc_annot, count);
    buf_printf(out, " HIGHESTMODSEQ %zu RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE %llu", m->at + 1,
               count ? (unsigned long long)internaldate(count - 1) : 0);
    buf_printf(out, " POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 UIDVALIDITY %u PARTITION default",
               m->uidvalidity);
    buf_printf(out, " ACL \"%s\tlrswipkxtecdan\t\" OPTIONS P CREATEDMODSEQ 1 FOLDERMODSEQ 1", m->user);
    if (m->listed)
        buf_printf(out, " SINCE_MODSEQ %llu SINCE_CRC %u SINCE_CRC_ANNOT %u",
                   (unsigned long long)m->listed_modseq, m->listed_crc, m->listed_crc_annot);
}
