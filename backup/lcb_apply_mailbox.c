/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_apply_mailbox - MAILBOX, UNMAILBOX, RENAME and annotations of mailboxes: what they do to the
 * index.
 *
 * A mailbox is its UNIQUEID (folders); its name and header are states that follow one another
 * (folder_states); its records follow one another by UID (records). A MAILBOX line replaces the
 * header and the records it names, nothing else.
 *
 * Names. At most one state holds a name. A mailbox that appears under a name that another holds
 * ends that other one: on the master a name is one mailbox, so the other must be gone.
 *
 * Whether the client had said that the other one ends (UNMAILBOX, RENAME) is kept for each name: a
 * name that goes from one mailbox to another again and again without a word may be that of two
 * servers. backupd writes an UNMAILBOX of its own, as the line before the MAILBOX that made it
 * conclude so; one that came from the client stands in another chunk, since it was committed first.
 *
 * Sync CRC. folders.crc is the XOR over the CRCs of all live records, kept up to date by taking out
 * the old record's and putting in the new one's. It is never computed by a scan.
 *
 * An expunged record stays as it was first told: later changes of its modseq mean nothing. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "backup/lcb_int.h"
#include "lib/xerr.h"

/* The state that holds NAME, of another mailbox than FOLDER (0: of any), ends. */
static int retire_name(struct lcb_index *ix, int64_t pos, const char *name, int64_t folder)
{
    return sqldb_run(ix->db,
                     "UPDATE folder_states SET until=? WHERE mboxname=? AND until IS NULL"
                     " AND folder<>?", "iti", pos, name, folder);
}

/* Make H (its text in ix->header) the first state of FOLDER, from POS on. */
static int first_state(struct lcb_index *ix, int64_t pos, int64_t folder,
                       const struct sync_header *h)
{
    int wildcard = !h->has_sync_crc || (!h->sync_crc && !h->has_sync_crc_annot);
    int r = retire_name(ix, pos, h->mboxname, folder);
    if (r)
        return r;
    sqlite3_stmt *st = sqldb_stmt(ix->db, "INSERT OR REPLACE INTO folder_states"
                                          " VALUES (?,?,NULL,?,?,?,?,?,?)");
    if (!st)
        return XERR_SQL;
    r = sqldb_bind(st, "iitiiiib", folder, pos, h->mboxname, (int64_t)h->last_uid,
                   (int64_t)h->highestmodseq, (int64_t)h->uidvalidity, (int64_t)h->sync_crc,
                   ix->header.s, ix->header.len);
    if (!r && wildcard && sqlite3_bind_null(st, 7) != SQLITE_OK)
        r = XERR_SQL;
    if (!r)
        r = sqldb_step(ix->db, st);
    return r < 0 ? r : 0;
}

/* The same, in place of the state that it has. */
static int new_state(struct lcb_index *ix, int64_t pos, int64_t folder, const struct sync_header *h)
{
    int r = sqldb_run(ix->db, "UPDATE folder_states SET until=? WHERE folder=? AND until IS NULL",
                      "ii", pos, folder);
    return r ? r : first_state(ix, pos, folder, h);
}

/* FOLDER is about to take NAME by a MAILBOX line: count it if nobody had said that the name is free. */
static int note_taken(struct lcb_index *ix, int64_t pos, int64_t folder, const char *name)
{
    int64_t holder;
    int r = sqldb_int(ix->db, &holder, "SELECT folder FROM folder_states WHERE mboxname=?"
                                       " AND until IS NULL", "t", name);
    if (!r && holder == folder)
        return 0;
    if (!r)
        return sqldb_run(ix->db, "INSERT INTO replaced VALUES (?,0,1) ON CONFLICT (mboxname)"
                                 " DO UPDATE SET pos=0, times=times+1", "t", name);
    if (r != XERR_NOTFOUND)
        return r;
    r = sqldb_run(ix->db, "DELETE FROM replaced WHERE mboxname=? AND pos<>?", "ti", name, pos - 1);
    return r ? r : sqldb_run(ix->db, "UPDATE replaced SET pos=0, times=times+1 WHERE mboxname=?",
                             "t", name);
}

static int find_folder(struct lcb_index *ix, const char *uniqueid, int64_t *id, uint32_t *crc)
{
    if (ix->no_folders)
        return XERR_NOTFOUND;
    sqlite3_stmt *st = sqldb_stmt(ix->db, "SELECT id, crc FROM folders WHERE uniqueid=?");
    if (!st || sqldb_bind(st, "t", uniqueid))
        return XERR_SQL;
    int r = sqldb_step(ix->db, st);
    if (r == 1) {
        *id = sqlite3_column_int64(st, 0);
        *crc = (uint32_t)sqlite3_column_int64(st, 1);
        sqlite3_reset(st);
        return 0;
    }
    return r ? r : XERR_NOTFOUND;
}

/* 1 if ix->header is FOLDER's current header. */
static int same_header(struct lcb_index *ix, int64_t folder)
{
    int64_t same = 0;
    int r = sqldb_int(ix->db, &same,
                      "SELECT header=? FROM folder_states WHERE folder=? AND until IS NULL", "bi",
                      ix->header.s, ix->header.len, folder);
    return r ? (r == XERR_NOTFOUND ? 0 : r) : same != 0;
}

int lcb_apply_header_differs(struct lcb_index *ix, const struct sync_header *h,
                             const struct buf *text)
{
    int64_t folder;
    uint32_t crc;
    buf_setmap(&ix->header, text->s, text->len);
    int r = find_folder(ix, h->uniqueid, &folder, &crc);
    if (r == XERR_NOTFOUND)
        return 1;
    if (!r)
        r = same_header(ix, folder);
    return r < 0 ? r : !r;
}

int lcb_apply_mailbox_begin(struct lcb_index *ix, int64_t pos, const struct sync_header *h,
                            const struct buf *text)
{
    int64_t maxuid = 0;
    if (ix->heard)
        ix->heard(ix->heard_rock, h->mboxname, NULL);
    buf_reset(&ix->header);
    if (text)
        buf_append(&ix->header, text);
    else
        sync_header_print(h, &ix->header);
    int r = find_folder(ix, h->uniqueid, &ix->folder, &ix->crc);
    if (r == XERR_NOTFOUND) {
        ix->no_folders = 0;
        r = sqldb_run(ix->db, "INSERT INTO folders (uniqueid) VALUES (?)", "t", h->uniqueid);
        ix->folder = sqlite3_last_insert_rowid(ix->db->db);
        ix->crc = ix->crc_stored = ix->maxuid = 0;
        if (!r)
            r = note_taken(ix, pos, ix->folder, h->mboxname);
        return r ? r : first_state(ix, pos, ix->folder, h);
    }
    if (r)
        return r;
    ix->crc_stored = ix->crc;
    r = same_header(ix, ix->folder);
    if (!r)
        r = note_taken(ix, pos, ix->folder, h->mboxname);
    if (!r)
        r = new_state(ix, pos, ix->folder, h);
    if (r < 0)
        return r;
    r = sqldb_int(ix->db, &maxuid,
                  "SELECT max(uid) FROM records WHERE folder=? AND until IS NULL", "i", ix->folder);
    ix->maxuid = (uint32_t)maxuid;
    return r == XERR_NOTFOUND ? 0 : r;
}

/* The current record of UID in the mailbox at hand, to ix->old: 1 with its row id, 0 or an error. */
static int find_old(struct lcb_index *ix, uint32_t uid, int64_t *row)
{
    if (uid > ix->maxuid)
        return 0;
    sqlite3_stmt *st = sqldb_stmt(ix->db, "SELECT " LCB_RECORD_COLUMNS ", r.id" LCB_RECORD_JOIN
                                  " WHERE r.folder=? AND r.uid=? AND r.until IS NULL");
    if (!st || sqldb_bind(st, "ii", ix->folder, (int64_t)uid))
        return XERR_SQL;
    int r = sqldb_step(ix->db, st);
    if (r != 1)
        return r;
    lcb_record_row(st, &ix->old);
    *row = sqlite3_column_int64(st, LCB_RECORD_WIDTH);
    sqlite3_reset(st);
    return 1;
}

/* 1 if REC says something new, given the current record (HAVE: there is one, in ix->old). */
static int differs(struct lcb_index *ix, int have, const struct sync_record *rec)
{
    if (!have)
        return 1;
    if (ix->old.expunged && rec->expunged)
        return 0;
    return sync_record_equal(&ix->old, rec) != 2;
}

int lcb_apply_mailbox_differs(struct lcb_index *ix, const struct sync_record *rec)
{
    int64_t row;
    int r = find_old(ix, rec->uid, &row);
    return r < 0 ? r : differs(ix, r, rec);
}

static int content_id(struct lcb_index *ix, const struct sync_record *rec, int64_t *id)
{
    int r = sqldb_int(ix->db, id, "SELECT id FROM contents WHERE guid=?", "b", rec->guid.value,
                      (size_t)MESSAGE_GUID_LEN);
    if (r != XERR_NOTFOUND)
        return r;
    r = sqldb_run(ix->db, "INSERT INTO contents (guid) VALUES (?)", "b", rec->guid.value,
                  (size_t)MESSAGE_GUID_LEN);
    *id = sqlite3_last_insert_rowid(ix->db->db);
    return r;
}

int lcb_apply_mailbox_record(struct lcb_index *ix, int64_t pos, const struct sync_record *rec)
{
    int64_t row = 0, content;
    int have = find_old(ix, rec->uid, &row);
    if (have < 0)
        return have;
    if (!differs(ix, have, rec))
        return 0;
    int r = content_id(ix, rec, &content);
    if (!r && have) {
        ix->crc ^= sync_record_crc(&ix->old);
        r = sqldb_run(ix->db, "UPDATE records SET until=? WHERE id=?", "ii", pos, row);
    }
    if (r)
        return r;
    r = sqldb_run(ix->db, "INSERT INTO records (folder,uid,since,modseq,last_updated,internaldate,"
                          "size,content,expunged,flags,annotations,extra)"
                          " VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                  "iiiiiiiiibbb", ix->folder, (int64_t)rec->uid, pos, (int64_t)rec->modseq,
                  rec->last_updated, rec->internaldate, (int64_t)rec->size, content,
                  (int64_t)(rec->expunged != 0), rec->flags.s, rec->flags.len,
                  rec->annotations.len ? rec->annotations.s : NULL, rec->annotations.len,
                  rec->extra.len ? rec->extra.s : NULL, rec->extra.len);
    if (r)
        return r;
    ix->crc ^= sync_record_crc(rec);
    if (rec->uid > ix->maxuid)
        ix->maxuid = rec->uid;
    return 1;
}

int lcb_apply_mailbox_end(struct lcb_index *ix, uint32_t *crc)
{
    if (crc)
        *crc = ix->crc;
    if (ix->crc == ix->crc_stored)
        return 0;
    ix->crc_stored = ix->crc;
    return sqldb_run(ix->db, "UPDATE folders SET crc=? WHERE id=?", "ii", (int64_t)ix->crc,
                     ix->folder);
}

int lcb_apply_unmailbox(struct lcb_index *ix, int64_t pos, const char *mboxname)
{
    int r = retire_name(ix, pos, mboxname, 0);
    if (r || !sqlite3_changes(ix->db->db))
        return r;
    return sqldb_run(ix->db, "INSERT INTO replaced VALUES (?,?,0) ON CONFLICT (mboxname)"
                             " DO UPDATE SET pos=excluded.pos", "ti", mboxname, pos);
}

/* The current state of the mailbox called NAME: its folder, its header parsed from ix->header. */
static int load_state(struct lcb_index *ix, const char *name, int64_t *folder,
                      struct sync_header *h)
{
    sqlite3_stmt *st = sqldb_stmt(ix->db, "SELECT folder, header FROM folder_states"
                                          " WHERE mboxname=? AND until IS NULL");
    if (!st || sqldb_bind(st, "t", name))
        return XERR_SQL;
    int r = sqldb_step(ix->db, st);
    if (r != 1)
        return r ? r : XERR_NOTFOUND;
    *folder = sqlite3_column_int64(st, 0);
    const void *text = sqlite3_column_blob(st, 1);
    buf_setmap(&ix->header, text, (size_t)sqlite3_column_bytes(st, 1));
    sqlite3_reset(st);
    dlist_pool_reset(ix->pool);
    return sync_header_parsetext(h, ix->pool, ix->header.s, ix->header.len);
}

/* Do the names belong to different users? */
static int across(struct lcb_index *ix, const char *from, const char *to)
{
    struct buf old = BUF_INITIALIZER, new = BUF_INITIALIZER;
    if (!ix->names)
        return 0;
    mboxname_to_userid(ix->names, from, &old);
    mboxname_to_userid(ix->names, to, &new);
    int differ = buf_cmp(&old, &new) != 0;
    buf_free(&old);
    buf_free(&new);
    return differ;
}

int lcb_apply_rename(struct lcb_index *ix, int64_t pos, const struct dlist *v)
{
    const char *from, *to, *partition = NULL;
    uint32_t uidvalidity;
    int64_t folder;
    struct sync_header h;
    char number[16];
    if (!dlist_getatom(v, "OLDMBOXNAME", &from) || !from || !dlist_getatom(v, "NEWMBOXNAME", &to) ||
        !to)
        return XERR_PARAM;
    if (across(ix, from, to)) /* Cyrus 3.x filed it here; what follows is in the other backup */
        return lcb_apply_unmailbox(ix, pos, from);
    int r = load_state(ix, from, &folder, &h);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    r = sync_header_set(&h, ix->pool, "MBOXNAME", to);
    if (!r && dlist_getatom(v, "PARTITION", &partition) && partition)
        r = sync_header_set(&h, ix->pool, "PARTITION", partition);
    if (!r && dlist_getnum32(v, "UIDVALIDITY", &uidvalidity)) {
        snprintf(number, sizeof(number), "%u", uidvalidity);
        r = sync_header_set(&h, ix->pool, "UIDVALIDITY", number);
        h.uidvalidity = uidvalidity;
    }
    if (r)
        return r;
    h.mboxname = to;
    r = sqldb_run(ix->db, "DELETE FROM replaced WHERE mboxname IN (?,?)", "tt", from, to);
    if (r)
        return r;
    buf_reset(&ix->header);
    sync_header_print(&h, &ix->header);
    return new_state(ix, pos, folder, &h);
}

/* An annotation of a mailbox as its header has it. MODSEQ 0 stands in it because readers of Cyrus
 * 3.2 and later want one. NULL: no room. */
static struct dlist *annotation_item(struct lcb_index *ix, const char *entry, const char *userid,
                                     const struct dlist *value)
{
    struct dlist *item = dlist_newkvlist(ix->pool, NULL);
    if (!item || !dlist_setatom(ix->pool, item, "ENTRY", entry) ||
        !dlist_setatom(ix->pool, item, "USERID", userid) ||
        !dlist_setnum64(ix->pool, item, "MODSEQ", 0) ||
        !dlist_setmap(ix->pool, item, "VALUE", value->sval, value->len))
        return NULL;
    return item;
}

/* Where an item stands towards (entry, userid): < 0 before it, 0 it is the one, > 0 behind it. */
static int compare_item(const struct dlist *item, const char *entry, const char *userid)
{
    const char *e = NULL, *u = NULL;
    (void)dlist_getatom(item, "ENTRY", &e);
    (void)dlist_getatom(item, "USERID", &u);
    int r = strcmp(e ? e : "", entry);
    return r ? r : strcmp(u ? u : "", userid);
}

/* The item (entry, userid) among ANNOTATIONS of H is replaced by ITEM, or goes if that is NULL. Clients
 * compare their annotations with ours one by one, in the order of entry and user id, which is that of
 * their database: a new one is put where it would stand there. */
static int edit_annotations(struct lcb_index *ix, struct sync_header *h, const char *entry,
                            const char *userid, struct dlist *item)
{
    struct dlist *list = dlist_getchild(h->tree, "ANNOTATIONS");
    if (!list) {
        if (!(list = dlist_newlist(ix->pool, "ANNOTATIONS")))
            return XERR_TOOBIG;
        dlist_append(h->tree, list);
    }
    struct dlist *next = list->head;
    list->type = DL_LIST;
    list->head = list->tail = NULL;
    for (struct dlist *old; (old = next);) {
        int order = compare_item(old, entry, userid);
        next = old->next;
        old->next = NULL;
        if (order >= 0 && item) {
            dlist_append(list, item);
            item = NULL;
        }
        if (order)
            dlist_append(list, old);
    }
    if (item)
        dlist_append(list, item);
    if (list->head)
        return 0;
    struct dlist *keys = h->tree->head;
    h->tree->head = h->tree->tail = NULL;
    for (struct dlist *key; (key = keys);) {
        keys = key->next;
        key->next = NULL;
        if (key != list)
            dlist_append(h->tree, key);
    }
    return 0;
}

#define THIS_ANNOT "mboxname=?2 AND entry=?3 AND userid=?4"
#define LAST_ANNOT THIS_ANNOT " AND until IS NULL AND since=(SELECT max(since) FROM annots WHERE " \
                   THIS_ANNOT ")"

/* A server annotation (or one of a mailbox we do not have): a row of its own. */
static int apply_annot_row(struct lcb_index *ix, int64_t pos, const char *mboxname,
                           const char *entry, const char *userid, const struct dlist *value)
{
    int64_t same = 0;
    const char *bytes = value && value->len ? value->sval : "";
    int r = sqldb_int(ix->db, &same, "SELECT value=?1 FROM annots WHERE " LAST_ANNOT, "bttt",
                      bytes, value ? value->len : (size_t)0, mboxname, entry, userid);
    if (r == XERR_SQL || (!r && value && same))
        return r;
    r = sqldb_run(ix->db, "UPDATE annots SET until=?1 WHERE " LAST_ANNOT, "ittt", pos,
                  mboxname, entry, userid);
    if (!r && value)
        r = sqldb_run(ix->db, "INSERT OR REPLACE INTO annots VALUES (?,?,?,?,NULL,?)", "tttib",
                      mboxname, entry, userid, pos, bytes, value->len);
    return r;
}

int lcb_apply_annotation(struct lcb_index *ix, int64_t pos, const struct dlist *v, int remove)
{
    const char *mboxname, *entry, *userid = NULL;
    const struct dlist *value = remove ? NULL : dlist_getchild(v, "VALUE");
    struct sync_header h;
    int64_t folder;
    if (!dlist_getatom(v, "MBOXNAME", &mboxname) || !dlist_getatom(v, "ENTRY", &entry) || !entry ||
        (!remove && !value))
        return XERR_PARAM;
    (void)dlist_getatom(v, "USERID", &userid);
    if (!userid)
        userid = "";
    if (value && value->type != DL_ATOM && value->type != DL_FLAG)
        value = NULL; /* NIL removes */
    if (!mboxname || !*mboxname)
        return apply_annot_row(ix, pos, "", entry, userid, value);
    int r = load_state(ix, mboxname, &folder, &h);
    if (r)
        return r == XERR_NOTFOUND ? 0 : r;
    struct dlist *item = value ? annotation_item(ix, entry, userid, value) : NULL;
    r = value && !item ? XERR_TOOBIG : edit_annotations(ix, &h, entry, userid, item);
    if (r)
        return r;
    buf_reset(&ix->header);
    sync_header_print(&h, &ix->header);
    r = same_header(ix, folder);
    return r ? (r < 0 ? r : 0) : new_state(ix, pos, folder, &h);
}
