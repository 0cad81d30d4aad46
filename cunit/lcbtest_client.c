/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcbtest_client - a client that knows what it has. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest_client.h"
#include "cunit/unit.h"
#include "imap/sync_record.h"
#include "lib/prot.h"
#include "lib/xerr.h"

enum { EXPUNGED = 3 };
static const char *const flag_texts[] = {"", "\\Seen", "\\Flagged $Label1", "\\Expunged"};

int client_has(const struct client_set *s, unsigned i)
{
    return s->bit[i / 8] >> (i % 8) & 1;
}

void client_add(struct client_set *s, unsigned i)
{
    s->bit[i / 8] = (unsigned char)(s->bit[i / 8] | 1u << (i % 8));
}

unsigned client_draw(struct client *c, unsigned below)
{
    c->random = c->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((c->random >> 33) % below);
}

void client_start(struct client *c, uint64_t seed)
{
    memset(c, 0, sizeof(*c));
    c->random = seed * 0x9e3779b97f4a7c15u + 4711;
    c->next_id = 1;
    c->base = 300 * client_draw(c, 100);
}

const char *client_id(unsigned id)
{
    static char text[8][16];
    static int at;
    at = (at + 1) % 8;
    snprintf(text[at], sizeof(text[at]), "u%u", id);
    return text[at];
}

const char *client_name(unsigned name)
{
    static char text[8][32];
    static int at;
    at = (at + 1) % 8;
    snprintf(text[at], sizeof(text[at]), "user.joe.n%u", name);
    return text[at];
}

static const char *hex_of(const struct client *c, unsigned content)
{
    static char hex[32][41];
    static int at;
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    at = (at + 1) % 32;
    lcbtest_message(c->base + content, &text, &guid);
    message_guid_encode(&guid, hex[at]);
    buf_free(&text);
    return hex[at];
}

/* ---- as text ---- */

static const char *record_text(const struct client *c, const struct client_box *m, unsigned i)
{
    return lcbtest_record(m->rec[i].uid, m->rec[i].modseq, flag_texts[m->rec[i].flags],
                          hex_of(c, m->rec[i].content));
}

static uint32_t crc_of(const struct client *c, const struct client_box *m)
{
    struct sync_record rec = {.uid = 0};
    uint32_t crc = 0;
    for (unsigned i = 0; i < m->n; i++) {
        const char *text = record_text(c, m, i);
        struct dlist_reader reader;
        struct protstream *in = prot_readmem(text, strlen(text));
        dlist_reader_init(&reader, in, NULL);
        CU_ASSERT_EQUAL_FATAL(sync_record_read(&rec, &reader, SIZE_MAX), 0);
        prot_free(&in);
        crc ^= sync_record_crc(&rec);
    }
    sync_record_fini(&rec);
    return crc;
}

static const char *header_text(const struct client *c, const struct client_box *m)
{
    static char text[1000];
    char note[100] = "";
    if (m->note)
        snprintf(note, sizeof(note), " ANNOTATIONS (%%(ENTRY /comment USERID joe VALUE v%u))", m->note);
    snprintf(text, sizeof(text),
             "UNIQUEID %s MBOXNAME %s LAST_UID %u HIGHESTMODSEQ %u RECENTUID 0 RECENTTIME 0"
             " LAST_APPENDDATE 1600000000 POP3_LAST_LOGIN 0 UIDVALIDITY 1500000000"
             " PARTITION default ACL \"joe\tlrswipkxtecda\t\" OPTIONS P SYNC_CRC %u"
             " SYNC_CRC_ANNOT 12345678%s", client_id(m->id), client_name(m->name), m->uidnext - 1,
             m->modseq, crc_of(c, m), note);
    return text;
}

/* ---- out ---- */

void client_put(struct client_out *out, const void *p, size_t n)
{
    buf_appendmap(out->text, p, n);
    cyrus_text(out->member, p, n);
    cyrus_line(out->member, "");
}

static int put_line(struct client_out *out, const char *verb, const char *value)
{
    struct buf line = BUF_INITIALIZER;
    if (out->b)
        return lcbtest_log(out->b, verb, value);
    buf_printf(&line, "%lld APPLY %s %s\r\n", (long long)lcbtest_time(), verb, value);
    client_put(out, line.s, line.len);
    buf_free(&line);
    return 0;
}

static int put_message(struct client *c, struct client_out *out, unsigned i)
{
    struct buf text = BUF_INITIALIZER, line = BUF_INITIALIZER;
    struct message_guid guid;
    int r = 0;
    client_add(&c->sent, i);
    if (out->b) {
        r = lcbtest_upload(out->b, c->base + i, client_draw(c, 8) == 0);
    } else {
        lcbtest_message(c->base + i, &text, &guid);
        buf_printf(&line, "%lld APPLY MESSAGE (%%{default %s %zu}\r\n", (long long)lcbtest_time(),
                   hex_of(c, i), text.len);
        buf_append(&line, &text);
        buf_appendcstr(&line, ")\r\n");
        client_put(out, line.s, line.len);
    }
    buf_free(&text);
    buf_free(&line);
    return r;
}

/* As the server does when it is asked whether it is here. */
int client_bring(struct client *c, struct client_out *out, unsigned i)
{
    struct message_guid guid;
    if (!out->b)
        return client_has(&c->sent, i) ? 0 : put_message(c, out, i);
    CU_ASSERT_EQUAL_FATAL(message_guid_decode(&guid, hex_of(c, i), 40), 0);
    int r = lcb_check_content(out->b, &guid);
    if (r == XERR_FORMAT) {
        r = lcb_forget_content(out->b, &guid);
        if (r)
            return r;
    }
    return r ? (r < 0 ? r : 0) : put_message(c, out, i);
}

/* With all records whose modseq is above SINCE. */
static int put_box(struct client *c, struct client_out *out, const struct client_box *m, unsigned since)
{
    const char *records[CLIENT_RECORDS + 1];
    struct buf line = BUF_INITIALIZER;
    unsigned n = 0;
    for (unsigned i = 0; i < m->n; i++)
        if (m->rec[i].modseq > since)
            records[n++] = record_text(c, m, i);
    records[n] = NULL;
    if (out->b)
        return lcbtest_mailbox(out->b, header_text(c, m), records, NULL);
    buf_printf(&line, "%%(%s RECORD (", header_text(c, m));
    for (unsigned i = 0; i < n; i++)
        buf_printf(&line, "%s%s", i ? " " : "", records[i]);
    buf_appendcstr(&line, "))");
    put_line(out, "MAILBOX", buf_cstring(&line));
    buf_free(&line);
    return 0;
}

int client_send_box(struct client *c, struct client_out *out, struct client_box *m, int content)
{
    int r = 0;
    for (unsigned i = 0; !r && content && i < m->n; i++)
        if (client_is_live(m, i) && client_has(&c->sent, m->rec[i].content))
            r = client_bring(c, out, m->rec[i].content);
    return r ? r : put_box(c, out, m, 0);
}

/* ---- what is done to mailboxes ---- */

int client_is_live(const struct client_box *m, unsigned record)
{
    return m->there && m->rec[record].flags != EXPUNGED;
}

static int name_free(const struct client *c, unsigned name)
{
    for (int i = 0; i < CLIENT_BOXES; i++)
        if (c->box[i].there && c->box[i].name == name)
            return 0;
    return 1;
}

/* Another mailbox may have the name: it is then replaced without a word. */
static int create(struct client *c, struct client_out *out, struct client_box *m)
{
    unsigned name = client_draw(c, CLIENT_NAMES);
    if (!name_free(c, name) && client_draw(c, 4))
        return 0;
    for (int i = 0; i < CLIENT_BOXES; i++)
        if (c->box[i].name == name)
            c->box[i].there = 0;
    int again = m->id && m->n < CLIENT_RECORDS && client_draw(c, 2); /* the one that was */
    if (!again) {
        memset(m, 0, sizeof(*m));
        m->id = c->next_id++;
        m->uidnext = 1;
        m->modseq = 1 + client_draw(c, 20);
    }
    m->name = name;
    m->there = 1;
    return client_send_box(c, out, m, 1);
}

static unsigned any_content(struct client *c)
{
    if (!c->next_content || (c->next_content < CLIENT_CONTENTS && client_draw(c, 5)))
        return c->next_content++;
    return client_draw(c, c->next_content);
}

static int deliver(struct client *c, struct client_out *out, struct client_box *m)
{
    unsigned since = m->modseq++, count = 1 + client_draw(c, 3);
    int r = 0;
    for (unsigned i = 0; !r && i < count && m->n < CLIENT_RECORDS; i++) {
        unsigned content = any_content(c), at = m->n++;
        m->rec[at].uid = m->uidnext++;
        m->rec[at].modseq = m->modseq;
        m->rec[at].flags = client_draw(c, EXPUNGED);
        m->rec[at].content = content;
        if (client_has(&c->sent, content) || client_draw(c, 20)) /* else the client has it not */
            r = client_bring(c, out, content);
    }
    return r ? r : put_box(c, out, m, since);
}

static int touch(struct client *c, struct client_out *out, struct client_box *m, int expunge)
{
    unsigned since = m->modseq++;
    for (unsigned i = 0; i < m->n; i++)
        if (m->rec[i].flags != EXPUNGED && client_draw(c, 2)) {
            m->rec[i].modseq = m->modseq;
            m->rec[i].flags = expunge ? EXPUNGED : client_draw(c, EXPUNGED);
        }
    return put_box(c, out, m, since);
}

static int unmailbox(struct client_out *out, struct client_box *m)
{
    m->there = 0;
    return put_line(out, "UNMAILBOX", client_name(m->name));
}

static int rename_box(struct client *c, struct client_out *out, struct client_box *m)
{
    unsigned name = client_draw(c, CLIENT_NAMES);
    char text[200];
    if (!name_free(c, name))
        return 0;
    snprintf(text, sizeof(text), "%%(OLDMBOXNAME %s NEWMBOXNAME %s PARTITION default UIDVALIDITY"
             " 1500000000)", client_name(m->name), client_name(name));
    m->name = name;
    int r = put_line(out, "RENAME", text);
    return r || out->b ? r : put_box(c, out, m, m->modseq);
}

static int note(struct client *c, struct client_out *out, struct client_box *m)
{
    char text[200];
    m->note = 1 + client_draw(c, 9);
    if (!out->b)
        return put_box(c, out, m, m->modseq);
    snprintf(text, sizeof(text), "%%(MBOXNAME %s ENTRY /comment USERID joe VALUE v%u)",
             client_name(m->name), m->note);
    return put_line(out, "ANNOTATION", text);
}

/* ---- and to the rest ---- */

static int put_sub(const struct client *c, struct client_out *out, unsigned n)
{
    char text[200];
    snprintf(text, sizeof(text), "%%(USERID joe MBOXNAME %s)", client_name(n));
    return put_line(out, c->sub[n] ? "SUB" : "UNSUB", text);
}

static int put_seen(const struct client *c, struct client_out *out, unsigned id)
{
    char text[200];
    unsigned v = c->seen[id];
    snprintf(text, sizeof(text), "%%(USERID joe UNIQUEID %s LASTREAD %u LASTUID %u LASTCHANGE %u"
             " SEENUIDS 1:%u)", client_id(id), v, v, v, v + 1);
    return v ? put_line(out, "SEEN", text) : 0;
}

static const char *script_text(unsigned v)
{
    static char text[32];
    snprintf(text, sizeof(text), v % 2 ? "# \"%%\"\r\nkeep;%03u" : "keep;%u", v);
    return text;
}

static int put_script(const struct client *c, struct client_out *out, unsigned n)
{
    char text[200];
    unsigned v = c->script[n];
    if (!v)
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.script)", n);
    else if (v % 2)
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.script LAST_UPDATE %u CONTENT"
                 " {%zu}\r\n%s)", n, v, strlen(script_text(v)), script_text(v));
    else
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.script LAST_UPDATE %u CONTENT \"%s\")",
                 n, v, script_text(v));
    return put_line(out, v ? "SIEVE" : "UNSIEVE", text);
}

static int put_active(const struct client *c, struct client_out *out)
{
    char text[200];
    if (c->active)
        snprintf(text, sizeof(text), "%%(USERID joe FILENAME s%u.bc)", c->active - 1);
    else
        snprintf(text, sizeof(text), "%%(USERID joe)");
    return put_line(out, c->active ? "ACTIVATE_SIEVE" : "UNACTIVATE_SIEVE", text);
}

static int put_quota(const struct client *c, struct client_out *out, unsigned n)
{
    char text[200];
    if (c->quota[n])
        snprintf(text, sizeof(text), "%%(ROOT %s STORAGE %u)", client_name(n), c->quota[n]);
    else
        snprintf(text, sizeof(text), "%s", client_name(n));
    return put_line(out, c->quota[n] ? "QUOTA" : "UNQUOTA", text);
}

static int put_annot(const struct client *c, struct client_out *out, unsigned n)
{
    char text[200];
    if (c->annot[n])
        snprintf(text, sizeof(text), "%%(MBOXNAME \"\" ENTRY /e%u USERID joe VALUE v%u)", n,
                 c->annot[n]);
    else
        snprintf(text, sizeof(text), "%%(MBOXNAME \"\" ENTRY /e%u USERID joe)", n);
    return put_line(out, c->annot[n] ? "ANNOTATION" : "UNANNOTATION", text);
}

static int unuser(struct client *c, struct client_out *out)
{
    for (int i = 0; i < CLIENT_BOXES; i++)
        c->box[i].there = 0;
    memset(c->sub, 0, sizeof(c->sub));
    memset(c->seen, 0, sizeof(c->seen));
    memset(c->script, 0, sizeof(c->script));
    memset(c->quota, 0, sizeof(c->quota));
    c->active = 0;
    return put_line(out, "UNUSER", "joe");
}

static int other(struct client *c, struct client_out *out)
{
    unsigned n = client_draw(c, CLIENT_OTHERS), v = client_draw(c, 4), id;
    switch (client_draw(c, out->b ? 9 : 6)) {
    case 0:
    case 1:
        c->sub[n] = v > 0;
        return put_sub(c, out, n);
    case 2:
    case 3:
        id = c->box[client_draw(c, CLIENT_BOXES)].id;
        if (!id || id >= CLIENT_BOXES * 8)
            return 0;
        c->seen[id] = ++c->steps;
        return put_seen(c, out, id);
    case 4:
    case 5:
        c->script[n] = v ? (out->b ? v : 2 * v) : 0;
        if (!v && c->active == n + 1)
            c->active = 0;
        return put_script(c, out, n);
    case 6:
        if (v && !c->script[n])
            return 0;
        c->active = v ? n + 1 : 0;
        return put_active(c, out);
    case 7:
        c->quota[n] = v;
        return put_quota(c, out, n);
    default:
        c->annot[n] = v;
        return put_annot(c, out, n);
    }
}

int client_step(struct client *c, struct client_out *out)
{
    struct client_box *m = &c->box[client_draw(c, CLIENT_BOXES)];
    unsigned what = client_draw(c, 40);
    c->steps++;
    lcbtest_settime(lcbtest_time() + client_draw(c, 3));
    if (what == 0 && out->b)
        return client_draw(c, 4) ? 0 : unuser(c, out);
    if (what < 12)
        return other(c, out);
    if (!m->there)
        return create(c, out, m);
    if (m->n == CLIENT_RECORDS || what == 12)
        return unmailbox(out, m);
    if (what < 15)
        return rename_box(c, out, m);
    if (what < 17)
        return note(c, out, m);
    if (what < 20)
        return touch(c, out, m, 1);
    return what < 26 ? touch(c, out, m, 0) : deliver(c, out, m);
}

static int unmailbox_stranger(void *rock, const struct lcb_folder *f)
{
    struct buf *names = rock;
    buf_appendmap(names, f->mboxname, strlen(f->mboxname) + 1);
    return 0;
}

/* The mailboxes of the backup that have another's name, or that are not. */
static int end_strangers(struct client *c, struct client_out *out)
{
    struct buf names = BUF_INITIALIZER, strings = BUF_INITIALIZER;
    struct lcb_folder f;
    int r = lcb_foreach_folder(out->b, LCB_NOW, 0, unmailbox_stranger, &names);
    for (size_t at = 0; !r && at < names.len; at += strlen(names.s + at) + 1) {
        int known = 0;
        r = lcb_find_name(out->b, names.s + at, &f, &strings);
        for (int i = 0; !r && i < CLIENT_BOXES; i++)
            known |= c->box[i].there && !strcmp(f.uniqueid, client_id(c->box[i].id)) &&
                     !strcmp(f.mboxname, client_name(c->box[i].name));
        if (!r && !known)
            r = put_line(out, "UNMAILBOX", names.s + at);
    }
    buf_free(&names);
    buf_free(&strings);
    return r;
}

int client_send_all(struct client *c, struct client_out *out, int with_unuser)
{
    int r = with_unuser ? put_line(out, "UNUSER", "joe") : end_strangers(c, out);
    for (unsigned i = 0; !r && i < CLIENT_BOXES; i++)
        if (c->box[i].there)
            r = client_send_box(c, out, &c->box[i], 1);
    for (unsigned n = 0; !r && n < CLIENT_OTHERS; n++) {
        r = put_sub(c, out, n);
        r = r ? r : put_script(c, out, n);
        r = r ? r : put_quota(c, out, n);
        r = r ? r : put_annot(c, out, n);
    }
    for (unsigned n = 0; !r && n < CLIENT_BOXES * 8; n++)
        r = put_seen(c, out, n);
    return r ? r : put_active(c, out);
}

void client_live(const struct client *c, struct client_set *live)
{
    memset(live, 0, sizeof(*live));
    for (int k = 0; k < CLIENT_BOXES; k++)
        for (unsigned i = 0; i < c->box[k].n; i++)
            if (client_is_live(&c->box[k], i))
                client_add(live, c->box[k].rec[i].content);
}

/* ---- what must be there ---- */

static void put_folder_line(struct buf *out, const char *id, const char *name, unsigned last,
                            uint64_t modseq, uint32_t crc, unsigned v)
{
    buf_printf(out, "mailbox %s %s %u %llu %u note %u\n", name, id, last, (unsigned long long)modseq,
               crc, v);
}

void client_state(const struct client *c, struct buf *out)
{
    buf_reset(out);
    for (unsigned name = 0; name < CLIENT_NAMES; name++)
        for (int k = 0; k < CLIENT_BOXES; k++) {
            const struct client_box *m = &c->box[k];
            if (!m->there || m->name != name)
                continue;
            put_folder_line(out, client_id(m->id), client_name(name), m->uidnext - 1, m->modseq,
                            crc_of(c, m), m->note);
            for (unsigned i = 0; i < m->n; i++)
                if (client_is_live(m, i))
                    buf_printf(out, "  %s\n", record_text(c, m, i));
        }
    for (unsigned n = 0; n < CLIENT_OTHERS; n++)
        if (c->sub[n])
            buf_printf(out, "sub %s\n", client_name(n));
    for (unsigned n = 0; n < CLIENT_BOXES * 8; n++)
        if (c->seen[n])
            buf_printf(out, "seen u%02u %u 1:%u\n", n, c->seen[n], c->seen[n] + 1);
    for (unsigned n = 0; n < CLIENT_OTHERS; n++)
        if (c->script[n])
            buf_printf(out, "script s%u.script %u %d [%s]\n", n, c->script[n], c->active == n + 1,
                       script_text(c->script[n]));
    for (unsigned n = 0; n < CLIENT_OTHERS; n++)
        if (c->quota[n])
            buf_printf(out, "quota %%(ROOT %s STORAGE %u)\n", client_name(n), c->quota[n]);
    for (unsigned n = 0; n < CLIENT_OTHERS; n++)
        if (c->annot[n])
            buf_printf(out, "annotation /e%u joe v%u\n", n, c->annot[n]);
}

/* ---- and what is ---- */

struct put {
    struct lcb *b;
    int64_t at;
    struct buf *out;
    unsigned seen[CLIENT_BOXES * 8];
};

static int put_record(void *rock, const struct lcb_record *rec)
{
    struct put *p = rock;
    if (rec->rec.expunged)
        return 0;
    buf_appendcstr(p->out, "  ");
    sync_record_print(&rec->rec, p->out);
    buf_putc(p->out, '\n');
    return 0;
}

static int put_folder(void *rock, const struct lcb_folder *f)
{
    struct put *p = rock;
    struct buf header = BUF_INITIALIZER;
    buf_setmap(&header, f->header, f->headerlen);
    const char *value = strstr(buf_cstring(&header), " VALUE v");
    uint32_t crc = f->crc;
    int r = p->at == LCB_NOW ? 0 : lcb_folder_crc(p->b, f->id, p->at, &crc);
    if (crc != f->sync_crc)
        buf_appendcstr(p->out, "(wrong checksum) ");
    put_folder_line(p->out, f->uniqueid, f->mboxname, f->last_uid, f->highestmodseq, f->sync_crc,
                    value ? (unsigned)strtoul(value + strlen(" VALUE v"), NULL, 10) : 0);
    buf_free(&header);
    return r ? r : lcb_foreach_record(p->b, f->id, p->at, put_record, p);
}

static int put_is_sub(void *rock, const char *name)
{
    buf_printf(((struct put *)rock)->out, "sub %s\n", name);
    return 0;
}

static int put_is_seen(void *rock, const struct lcb_seen *n)
{
    unsigned id = (unsigned)strtoul(n->uniqueid + 1, NULL, 10);
    if (id < CLIENT_BOXES * 8)
        ((struct put *)rock)->seen[id] = n->lastuid;
    CU_ASSERT(n->lastuid + 1 == strtoul(n->seenuids + 2, NULL, 10));
    return 0;
}

static int put_is_script(void *rock, const struct lcb_script *n)
{
    buf_printf(((struct put *)rock)->out, "script %s %lld %d [%.*s]\n", n->filename,
               (long long)n->last_update, n->active, (int)n->len, (const char *)n->content);
    return 0;
}

static int put_is_quota(void *rock, const char *root, const char *text, size_t len)
{
    (void)root;
    buf_printf(((struct put *)rock)->out, "quota %.*s\n", (int)len, text);
    return 0;
}

static int put_is_annot(void *rock, const char *entry, const char *userid, const char *value,
                        size_t len)
{
    buf_printf(((struct put *)rock)->out, "annotation %s %s %.*s\n", entry, userid, (int)len, value);
    return 0;
}

int client_backup_state(struct lcb *b, int64_t at, struct buf *out)
{
    struct put p = {.b = b, .at = at, .out = out};
    buf_reset(out);
    int r = lcb_foreach_folder(b, at, 0, put_folder, &p);
    if (!r)
        r = lcb_foreach_sub(b, at, put_is_sub, &p);
    if (!r)
        r = lcb_foreach_seen(b, at, put_is_seen, &p);
    for (unsigned n = 0; n < CLIENT_BOXES * 8; n++)
        if (p.seen[n])
            buf_printf(out, "seen u%02u %u 1:%u\n", n, p.seen[n], p.seen[n] + 1);
    if (!r)
        r = lcb_foreach_script(b, at, put_is_script, &p);
    if (!r)
        r = lcb_foreach_quota(b, at, put_is_quota, &p);
    return r ? r : lcb_foreach_annotation(b, at, put_is_annot, &p);
}
