/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_apply - what each line of a data file does to the index, except MAILBOX and its relatives
 * (lcb_apply_mailbox.c).
 *
 * This is the one way in. Live replication, roll-forward after a crash and a rebuild all call these
 * functions with the same lines in the same order, so they cannot disagree. A line must therefore
 * mean the same without the session it came in: nothing here looks at anything but the line, its
 * position and the rows that earlier lines made.
 *
 * An update closes the row that held until now (until = position of this line) and adds the new
 * one. A line that says what is known already changes nothing. */
#include "config.h"

#include <string.h>

#include "backup/lcb_int.h"
#include "lib/sha1crc.h"
#include "lib/xerr.h"

/* The row of TABLE for KEY that holds, if there is one: it is always the last, so that history costs
 * nothing. */
#define LAST(table, key) \
    key " AND until IS NULL AND since=(SELECT max(since) FROM " table " WHERE " key ")"

int lcb_apply_tick(struct lcb_index *ix, int64_t pos, int64_t time)
{
    if (time == ix->last_tick)
        return 0;
    ix->last_tick = time;
    return sqldb_run(ix->db, "INSERT OR REPLACE INTO ticks VALUES (?,?)", "ii", pos, time);
}

int lcb_apply_message(struct lcb_index *ix, const struct message_guid *guid, int64_t seq,
                      uint64_t start, uint64_t size)
{
    return sqldb_run(ix->db,
                     "INSERT INTO contents (guid,chunk,start,size) VALUES (?1,?2,?3,?4)"
                     " ON CONFLICT (guid) DO UPDATE SET chunk=?2, start=?3, size=?4",
                     "biii", guid->value, (size_t)MESSAGE_GUID_LEN, seq, (int64_t)start,
                     (int64_t)size);
}

static int apply_sub(struct lcb_index *ix, int64_t pos, const struct dlist *v, int subscribe)
{
    const char *name;
    int64_t since;
    if (!dlist_getatom(v, "MBOXNAME", &name) || !name)
        return XERR_PARAM;
    int r = sqldb_int(ix->db, &since, "SELECT since FROM subs WHERE " LAST("subs", "mboxname=?1"),
                      "t", name);
    if (r == XERR_NOTFOUND && subscribe)
        return sqldb_run(ix->db, "INSERT OR REPLACE INTO subs VALUES (?,?,NULL)", "ti", name, pos);
    if (!r && !subscribe)
        return sqldb_run(ix->db, "UPDATE subs SET until=? WHERE mboxname=? AND since=?", "iti", pos,
                         name, since);
    return r == XERR_SQL ? r : 0;
}

static int apply_seen(struct lcb_index *ix, int64_t pos, const struct dlist *v)
{
    const char *uniqueid, *uids;
    uint64_t lastread, lastchange;
    uint32_t lastuid;
    int64_t same;
    if (!dlist_getatom(v, "UNIQUEID", &uniqueid) || !uniqueid ||
        !dlist_getatom(v, "SEENUIDS", &uids) || !dlist_getnum64(v, "LASTREAD", &lastread) ||
        !dlist_getnum32(v, "LASTUID", &lastuid) || !dlist_getnum64(v, "LASTCHANGE", &lastchange))
        return XERR_PARAM;
    if (!uids)
        uids = "";
    int r = sqldb_int(ix->db, &same,
                      "SELECT lastread=?1 AND lastuid=?2 AND lastchange=?3 AND seenuids=?4 FROM seens"
                      " WHERE " LAST("seens", "uniqueid=?5"),
                      "iiitt", (int64_t)lastread, (int64_t)lastuid, (int64_t)lastchange, uids,
                      uniqueid);
    if (r == XERR_SQL || (!r && same))
        return r;
    r = sqldb_run(ix->db, "UPDATE seens SET until=?1 WHERE " LAST("seens", "uniqueid=?2"), "it", pos,
                  uniqueid);
    return r ? r : sqldb_run(ix->db, "INSERT OR REPLACE INTO seens VALUES (?,?,NULL,?,?,?,?)",
                             "tiiiit", uniqueid, pos, (int64_t)lastread, (int64_t)lastuid,
                             (int64_t)lastchange, uids);
}

static int close_script(struct lcb_index *ix, int64_t pos, const char *filename)
{
    return sqldb_run(ix->db, "UPDATE scripts SET until=?1 WHERE " LAST("scripts", "filename=?2"),
                     "it", pos, filename);
}

static int apply_sieve(struct lcb_index *ix, int64_t pos, const struct dlist *v)
{
    const char *filename;
    uint64_t last_update;
    int64_t same;
    unsigned char sha1[SHA1_LEN];
    const struct dlist *content = dlist_getchild(v, "CONTENT");
    if (!dlist_getatom(v, "FILENAME", &filename) || !filename ||
        !dlist_getnum64(v, "LAST_UPDATE", &last_update) || !content || content->type != DL_ATOM)
        return XERR_PARAM;
    sha1_once(content->sval, content->len, sha1);
    int r = sqldb_int(ix->db, &same, "SELECT last_update=?1 AND guid=?2 FROM scripts WHERE "
                                     LAST("scripts", "filename=?3"),
                      "ibt", (int64_t)last_update, sha1, (size_t)SHA1_LEN, filename);
    if (r == XERR_SQL || (!r && same))
        return r;
    r = close_script(ix, pos, filename);
    return r ? r : sqldb_run(ix->db, "INSERT OR REPLACE INTO scripts VALUES (?,?,NULL,?,?,?)",
                             "tiibb", filename, pos, (int64_t)last_update, sha1, (size_t)SHA1_LEN,
                             content->len ? content->sval : "", content->len);
}

static int apply_activate(struct lcb_index *ix, int64_t pos, const char *filename)
{
    int64_t same;
    int r = sqldb_int(ix->db, &same, "SELECT filename=? FROM active WHERE " LAST("active", "1"), "t",
                      filename ? filename : "");
    if (r == XERR_SQL || (!r && same))
        return r;
    r = sqldb_run(ix->db, "UPDATE active SET until=? WHERE " LAST("active", "1"), "i", pos);
    if (!r && filename)
        r = sqldb_run(ix->db, "INSERT OR REPLACE INTO active VALUES (?,NULL,?)", "it", pos,
                      filename);
    return r;
}

static int apply_quota(struct lcb_index *ix, int64_t pos, const struct dlist *v, const char *root,
                       int remove)
{
    struct buf text = BUF_INITIALIZER;
    int64_t same = 0;
    if (!remove && (!dlist_getatom(v, "ROOT", &root) || !root))
        return XERR_PARAM;
    if (!remove)
        dlist_printval(v, &text, 0);
    int r = sqldb_int(ix->db, &same, "SELECT limits=?1 FROM quotas WHERE " LAST("quotas", "root=?2"),
                      "bt", text.s, text.len, root);
    if (r == XERR_NOTFOUND || (!r && !same))
        r = sqldb_run(ix->db, "UPDATE quotas SET until=?1 WHERE " LAST("quotas", "root=?2"), "it", pos,
                      root);
    if (!r && !remove && !same)
        r = sqldb_run(ix->db, "INSERT OR REPLACE INTO quotas VALUES (?,?,NULL,?)", "tib", root, pos,
                      text.s, text.len);
    buf_free(&text);
    return r;
}

/* The user is gone on the master: whatever held, holds no longer. */
static int apply_unuser(struct lcb_index *ix, int64_t pos)
{
    static const char *const closes[] = {
        "UPDATE folder_states SET until=? WHERE until IS NULL",
        "UPDATE subs SET until=? WHERE until IS NULL",
        "UPDATE seens SET until=? WHERE until IS NULL",
        "UPDATE scripts SET until=? WHERE until IS NULL",
        "UPDATE active SET until=? WHERE until IS NULL",
        "UPDATE quotas SET until=? WHERE until IS NULL",
        NULL,
    };
    int r = 0;
    for (int i = 0; !r && closes[i]; i++)
        r = sqldb_run(ix->db, closes[i], "i", pos);
    return r;
}

/* A script is gone, and active no longer; named by its bytecode, it is only active no longer (so
 * clients say it when the active script was deactivated without another taking its place). */
static int apply_unsieve(struct lcb_index *ix, int64_t pos, const char *filename)
{
    struct buf bytecode = BUF_INITIALIZER;
    const char *dot = strrchr(filename, '.');
    buf_setmap(&bytecode, filename, dot ? (size_t)(dot - filename) : strlen(filename));
    buf_appendcstr(&bytecode, ".bc");
    int r = close_script(ix, pos, filename);
    if (!r)
        r = sqldb_run(ix->db, "UPDATE active SET until=?1 WHERE filename IN (?2,?3) AND "
                              LAST("active", "1"), "itt", pos, filename, buf_cstring(&bytecode));
    buf_free(&bytecode);
    return r;
}

enum verb {
    V_SUB, V_UNSUB, V_SEEN, V_SIEVE, V_UNSIEVE, V_ACTIVATE, V_UNACTIVATE, V_QUOTA, V_UNQUOTA,
    V_ANNOTATION, V_UNANNOTATION, V_UNMAILBOX, V_RENAME, V_UNUSER, V_UNKNOWN
};

static enum verb verb_of(const char *name)
{
    static const char *const names[] = {
        "SUB", "UNSUB", "SEEN", "SIEVE", "UNSIEVE", "ACTIVATE_SIEVE", "UNACTIVATE_SIEVE", "QUOTA",
        "UNQUOTA", "ANNOTATION", "UNANNOTATION", "UNMAILBOX", "RENAME", "UNUSER", NULL,
    };
    int i = 0;
    while (names[i] && strcmp(names[i], name))
        i++;
    return (enum verb)i;
}

int lcb_apply_dlist(struct lcb_index *ix, int64_t pos, const char *verb, const struct dlist *v)
{
    const char *name = NULL;
    enum verb what = verb_of(verb);
    int scalar = what == V_UNQUOTA || what == V_UNMAILBOX || what == V_UNUSER;
    if (what == V_UNKNOWN)
        return 0;
    if (v->type != (scalar ? DL_ATOM : DL_KVLIST))
        return XERR_PARAM;
    if (ix->heard && what <= V_UNACTIVATE && dlist_getatom(v, "USERID", &name) && name)
        ix->heard(ix->heard_rock, NULL, name);
    switch (what) {
    case V_SUB:
    case V_UNSUB:
        return apply_sub(ix, pos, v, what == V_SUB);
    case V_SEEN:
        return apply_seen(ix, pos, v);
    case V_SIEVE:
        return apply_sieve(ix, pos, v);
    case V_UNSIEVE:
        return dlist_getatom(v, "FILENAME", &name) && name ? apply_unsieve(ix, pos, name)
                                                           : XERR_PARAM;
    case V_ACTIVATE:
        return dlist_getatom(v, "FILENAME", &name) && name ? apply_activate(ix, pos, name)
                                                           : XERR_PARAM;
    case V_UNACTIVATE:
        return apply_activate(ix, pos, NULL);
    case V_QUOTA:
        return apply_quota(ix, pos, v, NULL, 0);
    case V_UNQUOTA:
        return apply_quota(ix, pos, v, v->sval, 1);
    case V_ANNOTATION:
    case V_UNANNOTATION:
        return lcb_apply_annotation(ix, pos, v, what == V_UNANNOTATION);
    case V_UNMAILBOX:
        return lcb_apply_unmailbox(ix, pos, v->sval);
    case V_RENAME:
        return lcb_apply_rename(ix, pos, v);
    case V_UNUSER:
        return apply_unuser(ix, pos);
    case V_UNKNOWN:
        break;
    }
    return 0;
}
