/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* libcyrus_backup: what all programs of the backup system share. A *store* is the whole of a backup
 * host (backups.db, partitions, limits); a *backup* is one user's data file with its index, or that
 * of all shared mailboxes (user id "%SHARED").
 *
 * All functions return 0 (or a count), XERR_* or -errno. A backup opened for writing is locked until
 * it is closed; one opened for reading takes no lock and sees the last commit. */
#ifndef BACKUP_LCB_H
#define BACKUP_LCB_H

#include <stdint.h>
#include <sys/types.h>

#include "imap/dlist.h"
#include "imap/mboxname.h"
#include "imap/message_guid.h"
#include "imap/sync_header.h"
#include "imap/sync_record.h"
#include "lib/buf.h"
#include "lib/libconfig.h"
#include "lib/vfs.h"

struct lcb_store;
struct lcb;

/* ---- store (lcb_store.c) ---- */

/* From imapd.conf. CONFIG must live as long as the store. VFS NULL: the real one. ERR gets a text
 * for the administrator on failure. Unless that is XERR_CONFIG there is a store all the same, to be
 * closed: only backups.db cannot be opened, and each use of it tries again. */
int lcb_store_open(const struct config *, struct vfs *, struct lcb_store **, struct buf *err);
void lcb_store_close(struct lcb_store **);
const struct mboxname_rules *lcb_store_names(const struct lcb_store *);
struct vfs *lcb_store_vfs(const struct lcb_store *);
/* Called now and then while something waits or works long; non-zero gives it up (XERR_SIGNAL). */
void lcb_store_setstop(struct lcb_store *, int (*stop)(void *), void *rock);
void lcb_store_getstop(const struct lcb_store *, int (**stop)(void *), void **rock);
/* Called each time somebody begins to wait for a lock of a backup. */
void lcb_store_setwaiting(struct lcb_store *, void (*waiting)(void *), void *rock);
/* FN for every user id that begins with PREFIX, and its data file; a non-zero result ends it and is
 * returned. */
int lcb_store_foreach(struct lcb_store *, const char *prefix,
                      int (*fn)(void *rock, const char *userid, const char *path), void *rock);
/* Where USERID's data file is, to be freed; XERR_NOTFOUND. */
int lcb_store_find(struct lcb_store *, const char *userid, char **path);
/* How many bytes the data file that was opened last lacks at its end, though its index spoke for them:
 * they were confirmed once. 0 from the second question on. */
int64_t lcb_store_cut_short(struct lcb_store *);
/* A file below backup_staging_path (made if missing) that has no name any more: its descriptor to
 * *FD, to be used and closed through the store's vfs. */
int lcb_store_tmpfile(struct lcb_store *, int *fd);

enum {
    LCB_WRITE = 1,  /* take the lock; recover, roll forward or rebuild as needed */
    LCB_CREATE = 2, /* with LCB_WRITE: make a backup for a user that has none */
    LCB_REPAIR = 4, /* with LCB_WRITE: lcb_repair() comes next, so an index that is missing is not
                     * filled before that */
};
/* Open a user's backup. XERR_NOTFOUND without a backup; XERR_LOCKED after WAIT_MS (0: at once).
 * Reading: an index that is missing, damaged or behind is mended first if the lock is free; the data
 * file is never changed. XERR_FORMAT if it is none.
 * -ENOENT if the data file is gone; XERR_STALE if it was replaced each time it was to be opened. */
int lcb_open(struct lcb_store *, const char *userid, int flags, int wait_ms, struct lcb **);
/* The same by path of a data file that need not be registered. */
int lcb_open_file(struct lcb_store *, const char *path, int flags, int wait_ms, struct lcb **);
/* Only its index, as it is: no lock, nothing is mended, the data file is not opened, so that
 * neither content nor chunks can be read. Nobody asks whether it is that file's. Errors are those of
 * an index: XERR_NOTFOUND, XERR_FORMAT, XERR_VERSION, XERR_LOCKED while it is being made. */
int lcb_open_index(struct lcb_store *, const char *path, struct lcb **);
/* May USERID, who has none, get a backup? XERR_UNKNOWN, and at most once a minute a line in syslog, if
 * there are data files that backups.db ought to name and does not: any, if it names none; of this user
 * if it names some. lcb_open() with LCB_CREATE and lcb_create() ask, too. */
int lcb_may_create(struct lcb_store *, const char *userid);
/* 1 if backups.db names nobody although there are data files, of which *PATH (initialised) gets one. */
int lcb_strangers(struct lcb_store *, struct buf *path);
/* Make the backup of USERID or, if that is NULL, one at PATH that is not registered: data file and
 * index. XERR_EXISTS; XERR_UNKNOWN, see lcb_may_create(). */
int lcb_create(struct lcb_store *, const char *userid, const char *path);
/* Only the lock, as a writer takes it, without a look into data or index: what is damaged can be
 * locked for repair. Of the backup of USERID or, if that is NULL, of the file PATH. Errors as
 * lcb_open(). *FD holds the lock until it is closed through the store's vfs; *FOUND, the data file's
 * path, is to be freed. */
int lcb_lock(struct lcb_store *, const char *userid, const char *path, int wait_ms, int *fd,
             char **found);
/* What was not committed is undone. */
void lcb_close(struct lcb **);
const char *lcb_userid(const struct lcb *); /* "" if opened by path */
const char *lcb_path(const struct lcb *);
/* Two numbers by which to see, when a backup was closed and is open again, whether it is what it was.
 * The first is that of the data file, 0 before we wrote the first line to it: with another one,
 * positions that were told before mean nothing (it was compacted, or begins anew). The second is of the
 * files: with another one, it is not known whether all content is there that was there before. */
uint64_t lcb_backup_id(const struct lcb *);
uint64_t lcb_files_id(const struct lcb *);

/* ---- writing (lcb_log.c) ----
 * Each of these adds a line to the data file and applies it to the index; nothing is durable or
 * visible to others before lcb_commit. After an error the backup must be rolled back or closed. */

/* Everything so far is on stable storage when this returns 0. Nothing to do: 0. On failure all is
 * undone to the last commit; if even that fails, the handle answers XERR_BROKEN from then on. */
int lcb_commit(struct lcb *);
/* 1 if there is something to commit. */
int lcb_dirty(const struct lcb *);
/* Forget everything since the last commit. */
int lcb_rollback(struct lcb *);
/* A point to come back to; one at a time. */
int lcb_savepoint(struct lcb *);
int lcb_savepoint_release(struct lcb *);
int lcb_savepoint_rollback(struct lcb *);

/* One message. The content must be verified: its SHA-1 is GUID. At P (SIZE bytes), or, if P is NULL,
 * in file FD of the store's vfs, SIZE bytes from its offset AT. PARTITION as the client named it. */
int lcb_log_message(struct lcb *, const char *partition, const struct message_guid *, uint64_t size,
                    const void *p, int fd, uint64_t at);
/* A mailbox: begin, any number of records, end. Records equal to what is stored are left out, and so
 * is the whole line if nothing in it is new. The header is written without SINCE_* and RECORD. CRC
 * (NULL allowed): SYNC_CRC of our records afterwards. */
int lcb_log_mailbox_begin(struct lcb *, const struct sync_header *);
int lcb_log_mailbox_record(struct lcb *, const struct sync_record *);
int lcb_log_mailbox_end(struct lcb *, uint32_t *crc);
/* Any other verb with its value. Nothing is written if it changes nothing. */
int lcb_log_dlist(struct lcb *, const char *verb, const struct dlist *value);
/* RENAME, and the header under its new name. */
int lcb_log_rename(struct lcb *, const struct dlist *value);

/* ---- marks (not in the data file) ---- */

enum lcb_mark {
    LCB_MARK_NONE,
    LCB_MARK_DOUBT,  /* list with HIGHESTMODSEQ 0: the client sends all records */
    LCB_MARK_RESEND, /* do not list: the client sends all records and all content */
    LCB_MARK_CONTENT, /* list with LAST_UID of lcb_content_floor() and HIGHESTMODSEQ 0: the client sends
                       * all records, and of the content what is not here */
};
/* Durable with the next commit; at once if nothing else is pending. */
int lcb_setmark(struct lcb *, const char *uniqueid, enum lcb_mark);
/* Content that was found to be damaged (lcb_check_content) counts as never received, with all that is
 * in the same chunk; mailboxes that have any of it are marked CONTENT. Durable as lcb_setmark. */
int lcb_forget_content(struct lcb *, const struct message_guid *);

/* ---- queries (lcb_query.c, lcb_query_mail.c) ----
 * AT is a position in the data file; LCB_NOW is the current state. */

#define LCB_NOW INT64_MAX

/* Limit of a pool for the tree of a stored value: above all that is ever accepted, so that what is
 * stored can be read again, whatever backup_max_dlist says by then. */
#define LCB_STORED_MAX (64u << 20)

/* From now until the backup is closed every query sees the state of this moment (if it was opened for
 * reading; a writer sees what it wrote). Meanwhile the index' WAL cannot be folded in: not for
 * processes that stay. */
int lcb_snapshot(struct lcb *);

struct lcb_folder {
    int64_t id;
    const char *uniqueid;
    const char *mboxname;
    const char *header; /* canonical text, headerlen bytes */
    size_t headerlen;
    uint32_t last_uid;
    uint64_t highestmodseq;
    uint32_t uidvalidity;
    uint32_t sync_crc;    /* the client's */
    int has_sync_crc;     /* 0: a wildcard */
    uint32_t crc;         /* of our records; 0 for a past state: lcb_folder_crc */
    enum lcb_mark mark;   /* NONE for a past state */
    int64_t since;        /* position */
    int64_t deleted;      /* time at which it was deleted, 0 if it is (or was then) there */
};
/* Current mailbox by UNIQUEID or name: 0 and the strings in STRINGS, or XERR_NOTFOUND. */
int lcb_find_uniqueid(struct lcb *, const char *uniqueid, struct lcb_folder *, struct buf *strings);
int lcb_find_name(struct lcb *, const char *mboxname, struct lcb_folder *, struct buf *strings);
/* The same of the state AT. */
int lcb_find_uniqueid_at(struct lcb *, int64_t at, const char *uniqueid, struct lcb_folder *,
                         struct buf *strings);
int lcb_find_name_at(struct lcb *, int64_t at, const char *mboxname, struct lcb_folder *,
                     struct buf *strings);
/* The mailbox that last had that name, at AT or before; it may be gone or have another one by now. */
int lcb_find_former(struct lcb *, int64_t at, const char *mboxname, struct lcb_folder *,
                    struct buf *strings);
/* The last state of a mailbox, gone or not. */
int lcb_find_last(struct lcb *, const char *uniqueid, struct lcb_folder *, struct buf *strings);
/* The name was that of mailbox WAS and is that of IS now. If this is not the first time that a MAILBOX
 * took it from another without that the client had said so before (UNMAILBOX, RENAME), but the third
 * in a row or later, an error is logged. 1 if so, 0, or an error. */
int lcb_report_replaced(struct lcb *, const char *mboxname, const char *was, const char *is);
/* What is written from now on has this position or a later one. For a backup opened for writing. */
int64_t lcb_position(const struct lcb *);
int64_t lcb_time(struct lcb *, int64_t pos);
/* 1 if a state of this mailbox began or ended at this position or later, 0 if not, or an error. */
int lcb_changed_since(struct lcb *, const char *uniqueid, int64_t position);
/* FN for every mailbox of the state AT, by name; with DELETED also those that are gone. The strings
 * live during the call. A non-zero result ends it. */
int lcb_foreach_folder(struct lcb *, int64_t at, int deleted,
                       int (*fn)(void *rock, const struct lcb_folder *), void *rock);
struct lcb_record {
    struct sync_record rec;
    int64_t time;    /* when this version was logged */
    int has_content;
};
/* FN for every record of a mailbox, by UID. */
int lcb_foreach_record(struct lcb *, int64_t folder, int64_t at,
                       int (*fn)(void *rock, const struct lcb_record *), void *rock);
/* The XOR of the CRCs of these records: SYNC_CRC, as it was AT. */
int lcb_folder_crc(struct lcb *, int64_t folder, int64_t at, uint32_t *crc);
/* The current record of a UID: XERR_NOTFOUND. REC's bufs are reused. */
int lcb_find_record(struct lcb *, int64_t folder, uint32_t uid, struct sync_record *rec);
/* A mailbox marked CONTENT: the last UID of which it is certain that all messages up to it are here
 * with their content. */
int lcb_content_floor(struct lcb *, const struct lcb_folder *, uint32_t *last_uid);
/* 1 if a live message of this mailbox with a UID up to LAST_UID is here without its content, 0 if none
 * is, or an error. */
int lcb_lacks_content(struct lcb *, int64_t folder, uint32_t last_uid);
/* The first live (not expunged) UID above AFTER and below BEFORE (0: any): 1, or 0 if none. */
int lcb_next_live(struct lcb *, int64_t folder, uint32_t after, uint32_t before, uint32_t *uid);
/* 1 if the content is here, 0 if not, or an error. SIZE may be NULL. */
int lcb_has_content(struct lcb *, const struct message_guid *, uint64_t *size);
/* Can it be read? 1; 0 if it is not here; XERR_FORMAT if its chunk is damaged. A chunk is read once
 * while the backup is open, not for each message in it, and what was written meanwhile is not. */
int lcb_check_content(struct lcb *, const struct message_guid *);
/* FN for every content that is here and that a mailbox had AT or before, in the order of arrival.
 * (Files of Cyrus 3.x hold mail of others, too, which no mailbox of theirs ever names.) */
int lcb_foreach_content(struct lcb *, int64_t at,
                        int (*fn)(void *rock, const struct message_guid *, uint64_t size),
                        void *rock);
/* FN for every mailbox (uniqueid, last name AT) that had the message AT or before. */
int lcb_content_folders(struct lcb *, const struct message_guid *, int64_t at,
                        int (*fn)(void *rock, const char *uniqueid, const char *mboxname),
                        void *rock);
/* The bytes of a message to FN in pieces. XERR_NOTFOUND; XERR_FORMAT if damaged (its SHA-1 is
 * checked at the end). */
int lcb_read_content(struct lcb *, const struct message_guid *,
                     int (*fn)(void *rock, const void *p, size_t n), void *rock);

int lcb_foreach_sub(struct lcb *, int64_t at, int (*fn)(void *rock, const char *mboxname),
                    void *rock);
struct lcb_seen {
    const char *uniqueid;
    int64_t lastread;
    uint32_t lastuid;
    int64_t lastchange;
    const char *seenuids;
};
int lcb_foreach_seen(struct lcb *, int64_t at, int (*fn)(void *rock, const struct lcb_seen *),
                     void *rock);
struct lcb_script {
    const char *filename; /* NAME.script */
    int64_t last_update;
    unsigned char sha1[20];
    int active;
    const void *content;
    size_t len;
};
int lcb_foreach_script(struct lcb *, int64_t at, int (*fn)(void *rock, const struct lcb_script *),
                       void *rock);
/* TEXT: canonical kvlist as the client sent it, "%(ROOT ...)", LEN bytes. */
int lcb_foreach_quota(struct lcb *, int64_t at,
                      int (*fn)(void *rock, const char *root, const char *text, size_t len),
                      void *rock);
/* Server annotations (those of mailboxes are in their headers). */
int lcb_foreach_annotation(struct lcb *, int64_t at,
                           int (*fn)(void *rock, const char *entry, const char *userid,
                                     const char *value, size_t len),
                           void *rock);
struct lcb_chunk {
    int64_t seq;
    uint64_t offset;
    uint64_t length;      /* compressed */
    uint64_t text_length; /* uncompressed */
    int64_t first_time, last_time;
};
int lcb_foreach_chunk(struct lcb *, int (*fn)(void *rock, const struct lcb_chunk *), void *rock);
/* The text of a chunk to FN in pieces: XERR_NOTFOUND, XERR_FORMAT. */
int lcb_read_chunk(struct lcb *, int64_t seq, int (*fn)(void *rock, const void *p, size_t n),
                   void *rock);

#endif
