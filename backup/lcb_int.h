/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the files of libcyrus_backup share among themselves: the parts of an open backup. */
#ifndef BACKUP_LCB_INT_H
#define BACKUP_LCB_INT_H

#include "backup/lcb.h"
#include "lib/gzmember.h"
#include "lib/sqldb.h"

/* First line of every chunk, as Cyrus 3.0 - 3.10 wrote it: 29 bytes. */
#define LCB_CHUNK_START "# cyrus backup: chunk start\r\n"
#define LCB_CHUNK_START_LEN 29
/* A line above this is streamed, not held in memory. */
#define LCB_LINE_MAX (2u << 20)
/* Up to this it is compressed in memory all the same, once as text and once compressed. */
#define LCB_PACK_MAX (6u << 20)
/* A MAILBOX command is logged in lines of about this size. */
#define LCB_MAILBOX_LINE (256u << 10)

/* A position: chunk sequence number and line number (from 1) in one integer. */
#define LCB_POS(seq, line) (((int64_t)(seq) << 24) | (line))
#define LCB_POS_SEQ(pos) ((pos) >> 24)

/* ---- lcb_store.c: for the files of the library that work on whole backups ---- */

struct lcb_db;
struct lcb_placement;
/* As lcb_store_open(), with another path of backups.db (NULL: that of the configuration). */
int lcb_store_openat(const struct config *, struct vfs *, const char *dbpath, struct lcb_store **,
                     struct buf *err);
struct lcb_db *lcb_store_db(struct lcb_store *);
/* How often it is said that new backups are refused. */
struct xlog_limit *lcb_store_strangers(struct lcb_store *);
/* The user whom nobody had when it was looked for his files, and the directories then: two for each
 * partition (lcb_create.c). */
struct lcb_absent {
    char *userid; /* NULL: nothing is known */
    struct lcb_dirstate {
        dev_t dev;
        ino_t ino; /* 0: there was none */
        struct timespec changed;
    } *dirs;
};
struct lcb_absent *lcb_store_absent(struct lcb_store *);
void lcb_absent_forget(struct lcb_absent *);
/* Of a user without a record: file and record (lcb_create.c), with the arguments of lcb_db_create(). */
int lcb_new_record(struct lcb_store *, const char *userid, char **path, int *created);
/* Partitions and options for lcb_partition_choose(); they live as long as the store. */
void lcb_store_placement(struct lcb_store *, struct lcb_placement *);
const struct config *lcb_store_config(const struct lcb_store *);
/* The locks of a backup: that of writers (fcntl), and that of those who work on the whole of it
 * (flock), compaction, verification and the like. Who takes both takes that of maintenance first.
 * XERR_LOCKED after WAIT_MS (0: at once, < 0: never), XERR_SIGNAL. */
int lcb_lock_writers(struct lcb_store *, int fd, int wait_ms);
int lcb_lock_maintenance(struct lcb_store *, int fd, int wait_ms);
/* 1 if lcb_store_setstop's function says that it is enough. */
int lcb_store_stopped(struct lcb_store *);

/* ---- lcb_datafile.c: appending to a data file ---- */

struct lcb_datafile_state {
    off_t end;
    uint32_t seq;
    int64_t last_time;
    off_t last_member;
    struct gzextra last_extra;
    size_t text_len;
    uint32_t lines;
    int64_t first_time;
    int full;
    int valid;
};

/* What it takes to compress, lent to whichever data file needs it: a compressor is larger than most
 * of what it compresses. Zero-filled memory is valid. */
struct lcb_packing {
    struct gzpacker *packer, *small_packer, *coded_packer;
    struct buf packed;    /* scratch */
    struct buf spare_text; /* for the next data file's open chunk */
};
void lcb_packing_fini(struct lcb_packing *);

struct lcb_datafile {
    struct vfs *vfs;
    int fd;
    uint64_t id;       /* backup id; 0 until the first member of ours */
    size_t chunk_size;
    size_t pack_max; /* LCB_PACK_MAX; tests set another */
    struct lcb_packing own, *packing;
    int level;

    off_t end;         /* where the next member goes */
    uint32_t seq;      /* sequence number of the open chunk */
    int64_t last_time; /* time of the last line */
    off_t last_member; /* offset of the last member written, -1 if none since the commit */
    struct gzextra last_extra;

    struct buf text;   /* open chunk; empty: not begun */
    size_t line_start; /* of the line begun last */
    int64_t time_before; /* last_time when it was begun */
    uint32_t lines;    /* complete lines in it */
    int64_t first_time;
    int full;          /* the next line belongs into another chunk */
    int torn;          /* a write failed: bytes of it may stand behind end */

    struct lcb_datafile_state commit, save; /* states to come back to */
    struct buf save_text; /* text before the savepoint, once the chunk had to be sealed after it */

    /* Called when a chunk was written (not yet synced). */
    int (*sealed)(void *rock, const struct lcb_chunk *);
    void *rock;
};

/* FD is open for reading and writing and locked. The position is where the last commit ended. */
void lcb_datafile_init(struct lcb_datafile *, struct vfs *, int fd, size_t chunk_size, int level);
/* Use P, which outlives it, instead of compressors and buffers of its own. All that share one have the
 * same level. */
void lcb_datafile_share(struct lcb_datafile *, struct lcb_packing *p);
void lcb_datafile_fini(struct lcb_datafile *);
/* Begin a line of about EXPECT bytes: "<time> APPLY <verb> " is in df->text when it returns, and the
 * caller appends the value. */
int lcb_datafile_begin(struct lcb_datafile *, const char *verb, size_t expect, int64_t *time,
                       int64_t *pos);
/* End it. LITERAL: it holds a string literal, so it is the last line of its chunk. */
int lcb_datafile_end(struct lcb_datafile *, int literal);
/* Take the line begun last out again. */
void lcb_datafile_cancel(struct lcb_datafile *);
/* A whole line that is too large for memory, as a chunk of its own: HEAD, SIZE bytes of file FD
 * from AT, TAIL. START gets the offset of FD's bytes in the chunk's text. */
int lcb_datafile_stream(struct lcb_datafile *, const char *verb, const struct buf *head, int fd,
                        uint64_t at, uint64_t size, const char *tail, int64_t *time, int64_t *pos,
                        uint64_t *start);
/* 1 if anything was added since the last commit. */
int lcb_datafile_dirty(const struct lcb_datafile *);
/* Write the open chunk, flagged, and sync. */
int lcb_datafile_commit(struct lcb_datafile *);
/* Back to the last commit; the file is cut and synced if anything had been written. */
int lcb_datafile_rollback(struct lcb_datafile *);
void lcb_datafile_savepoint(struct lcb_datafile *);
int lcb_datafile_savepoint_rollback(struct lcb_datafile *);
void lcb_datafile_savepoint_release(struct lcb_datafile *);

/* ---- lcb_datafile_read.c: reading members and lines ---- */

/* What scanning finds at an offset. */
struct lcb_member {
    off_t offset;
    off_t length;       /* 0 if not known without inflating */
    struct gzextra extra;
};
/* Look at the member at AT of a file of SIZE bytes: XERR_EOF at the end of the file, XERR_FORMAT if
 * there is no member there or it does not fit into the file. */
int lcb_member_at(struct vfs *, int fd, off_t at, off_t size, struct lcb_member *);
/* A member's text as a stream; checks it completely when read to the end. */
struct lcb_memberstream;
int lcb_memberstream_open(struct vfs *, int fd, const struct lcb_member *, struct lcb_memberstream **);
/* As read(2); 0 at the intact end; XERR_FORMAT, XERR_EOF. */
ssize_t lcb_memberstream_read(void *stream, void *p, size_t n);
/* How far the file has been read; once the end was reached, the offset behind the member. */
off_t lcb_memberstream_end(const struct lcb_memberstream *);
void lcb_memberstream_close(struct lcb_memberstream **);
/* gzreader_read() of a struct gzreader, as read(2). */
ssize_t lcb_piece_read(void *reader, void *p, size_t n);

/* The text of a chunk from an offset on. */
struct lcb_text {
    struct lcb_memberstream *member; /* a whole chunk */
    struct gzreader *piece;          /* or a piece of one that is not */
    int64_t seq;
    uint64_t at;  /* offset in the chunk's text of what is read next */
    uint64_t end; /* and that behind the piece */
};
/* START is where reading is to begin; it begins at t->at, at or before that. */
int lcb_text_open(struct lcb *, int64_t seq, uint64_t start, struct lcb_text *);
/* As read(2); 0 at the end, which has been checked if it is that of a whole chunk. */
ssize_t lcb_text_read(struct lcb_text *, void *p, size_t n);
void lcb_text_close(struct lcb_text *);

struct lcb_index;
struct lcb_mark_point;

/* ---- lcb_salvage.c: members of Cyrus 3.x that are not whole ---- */

/* Text that can be read from AT on. */
struct lcb_piece {
    off_t at;
    int raw;       /* a flush point, not a gzip header, is at AT */
    int by_lines;  /* each line begins at a flush point: stop at the first that is wrong */
    off_t limit;   /* it ends here at the latest, if not 0 */
};
struct lcb_salvage {
    off_t end;         /* where the next member begins, or the size of the file */
    int last;          /* there is none */
    int max_lines;     /* read no more than these; 0: all, -1: none */
    int lines;         /* that are complete */
    int lost;          /* of them not understood */
    int pieces;        /* begun to read, whatever was found there */
    int64_t last_time; /* in and out */
    int rot;           /* it was whole once */
    off_t flush;       /* behind the last complete line, if it can be ended there; else 0 */
    int unflushed;     /* the member ends within that flush */
    uint32_t crc;      /* of the text up to there */
};
/* Apply all complete lines of the damaged member at AT of a file of SIZE bytes. KNOWN: its gzip
 * header is readable. CHUNK has the sequence number and gets the rest; its row is the caller's
 * affair. */
int lcb_salvage(struct lcb_index *, struct vfs *, int fd, off_t at, off_t size, int known,
                uint64_t id, struct lcb_chunk *chunk, struct lcb_salvage *);
/* The first offset from AT on where a member begins (of ours: of this backup, if ID is not 0); -1. */
off_t lcb_next_member(struct vfs *, int fd, off_t at, off_t size, uint64_t id);

/* ---- lcb_tail.c: what stands behind the last commit ---- */

/* Copy what stands from AT to the end of the file (SIZE) aside, then cut it off. WHY for syslog. */
int lcb_tail_aside(struct lcb *, off_t at, off_t size, const char *why);
/* Finish the unfinished member that P ends with, and move P and the index' chunk with it. */
int lcb_tail_finish(struct lcb *, struct lcb_mark_point *p);

/* ---- lcb_index.c ---- */

struct lcb_index {
    struct sqldb *db;
    int transaction; /* one is open */
    int fresh;       /* it is the first one, in which the tables were made */
    int unsettled;   /* lcb_index_new.c: not yet marked as whole */
    int no_wal;      /* the next transaction does without */
    int no_folders;  /* no mailbox has been applied ever */
    int readonly;
    int wal;         /* in WAL mode */
    int single;      /* not to be: it is still being made, as one file */
    int changes;     /* rows changed until now that the transaction at hand does not answer for */
    int64_t checkpoint;           /* bytes of WAL at which it is folded in */
    int64_t wal_bytes, wal_stuck; /* now; when that was not possible */
    const struct mboxname_rules *names; /* whose mailbox is what */
    /* While lines are read: called after each with the file offset reached; non-zero ends it. */
    int (*progress)(void *rock, off_t at);
    void *progress_rock;
    /* For who wants to know whose lines these are: the mailbox or the user id that a line names, the
     * other one is NULL. */
    void (*heard)(void *rock, const char *mboxname, const char *userid);
    void *heard_rock;
    /* For what is wrong in a whole chunk: a message that is not its GUID's (it is not taken), or
     * a line that cannot be understood (GUID NULL). The rock of progress. */
    void (*unsound)(void *rock, const struct message_guid *, int64_t pos);
    struct dlist_pool *pool; /* for headers and values */
    int64_t last_tick;       /* time of the newest row of ticks */

    /* The mailbox a MAILBOX line is being applied to. */
    int64_t folder;
    uint32_t crc, crc_stored;
    uint32_t maxuid;
    struct sync_record old;
    struct buf header;
};

/* What the index says it has applied. */
struct lcb_mark_point {
    uint64_t id;
    off_t end;         /* offset behind the last applied commit */
    off_t last_offset; /* of the last member applied, -1 if none */
    int64_t seq;       /* of it */
    int64_t last_time;
    int64_t check;     /* lcb_check_end() of END; 0: not known */
    int unfinished;    /* the last member has no end: nothing may be written behind it */
};

/* Open <path>; XERR_FORMAT if it is not an index of ours (or damaged), XERR_VERSION, XERR_NOTFOUND;
 * XERR_LOCKED (READONLY) while somebody fills it; XERR_SQL if the file is not to blame. */
int lcb_index_open(const char *path, int create, int readonly, int64_t checkpoint,
                   struct lcb_index **);
/* For READONLY: only to look at; not even WAL mode is switched on. */
#define LCB_INDEX_LOOK 2
/* 1 if its file is not the one of that name any more. */
int lcb_index_moved(struct lcb_index *);
/* How a writer's connection is to be. */
int lcb_index_setup(struct lcb_index *);
void lcb_index_close(struct lcb_index **);
int lcb_index_begin(struct lcb_index *);    /* idempotent */
int lcb_index_commit(struct lcb_index *);
int lcb_index_rollback(struct lcb_index *); /* idempotent */
/* Look up ix->last_tick again, after rows were undone. */
void lcb_index_findtick(struct lcb_index *);
int lcb_index_getpoint(struct lcb_index *, struct lcb_mark_point *);
int lcb_index_setpoint(struct lcb_index *, const struct lcb_mark_point *);
/* A number in meta that says nothing about the rows: what is remembered of them stays true. In the open
 * transaction. */
int lcb_index_setnote(struct lcb_index *, const char *key, int64_t value);
/* Content that was here may be here no more: from the open transaction on the second is another number
 * than ever before. 0: that has not happened to this index. */
int lcb_index_setforgot(struct lcb_index *);
int64_t lcb_index_forgot(struct lcb_index *);
/* Before this position history is not complete (a member flagged GZ_BASE ended there); 0: it is from
 * the first line on. Getting it: XERR_FORMAT for a number that is no position. */
int lcb_index_sethistory(struct lcb_index *, int64_t pos);
int lcb_index_gethistory(struct lcb_index *, int64_t *pos);
/* Remove every row, in the open transaction. */
int lcb_index_clear(struct lcb_index *);
/* It stands behind all that there are. */
int lcb_index_addchunk(struct lcb_index *, const struct lcb_chunk *);
/* 1 if it is known that the chunks stand side by side, from the beginning of the file on. (Of an index
 * that was made before this was counted it is not.) */
int lcb_index_gapless(struct lcb_index *);
/* Something at POS is not understood (line 0: in its chunk, nobody knows where). */
int lcb_index_addlost(struct lcb_index *, int64_t pos);
/* Time of a position: the newest tick at or before it. */
int64_t lcb_index_time(struct lcb_index *, int64_t pos);

/* ---- lcb_index_new.c: the index of a new backup ---- */

#define LCB_INDEX_VERSION 4
#define LCB_INDEX_PAGE 1024
#define LCB_INDEX_BUSY_MS 20000

#define LCB_INDEX_ID 0x43794261         /* application_id: "CyBa" */
#define LCB_INDEX_UNSETTLED 0x43794230  /* "CyB0": being made, or given up while it was */
/* Run the statements that make all tables, in the open transaction. */
int lcb_index_schema_exec(struct sqldb *, int64_t id);
/* 0 if the tables are those of a new index; XERR_FORMAT, XERR_SQL. */
int lcb_index_schema_check(struct lcb_index *);
/* An index for an empty data file, at PATH, where there is none; its first transaction is open. IMAGE:
 * the bytes of an index without rows, made at the first call and kept by the caller for later ones. */
int lcb_index_create(const char *path, struct buf *image, int64_t checkpoint, struct lcb_index **);
int lcb_index_begin_first(struct lcb_index *);
/* Remove the index at PATH, with all that SQLite keeps beside it. */
void lcb_index_remove(const char *path);
/* After the first commit, and before the next begins: mark it as whole. Idempotent. */
int lcb_index_settle(struct lcb_index *);
/* 1 if the first transaction has become too large to be undone in memory. */
int lcb_index_outgrown(const struct lcb_index *);

/* ---- lcb_apply*.c: the one way in ----
 * POS and TIME are those of the line. */
int lcb_apply_tick(struct lcb_index *, int64_t pos, int64_t time);
int lcb_apply_message(struct lcb_index *, const struct message_guid *, int64_t seq, uint64_t start,
                      uint64_t size);
/* TEXT: the header printed, if the caller has that already; else NULL. */
int lcb_apply_mailbox_begin(struct lcb_index *, int64_t pos, const struct sync_header *,
                            const struct buf *text);
/* 1 if the record changed something, 0 if it was there already. */
int lcb_apply_mailbox_record(struct lcb_index *, int64_t pos, const struct sync_record *);
int lcb_apply_mailbox_end(struct lcb_index *, uint32_t *crc);
/* Would this record change anything? 1 or 0. */
int lcb_apply_mailbox_differs(struct lcb_index *, const struct sync_record *);
/* 1 if the header, printed as TEXT, differs from the current one. */
int lcb_apply_header_differs(struct lcb_index *, const struct sync_header *,
                             const struct buf *text);
/* Any other verb. Unknown ones are ignored. */
int lcb_apply_dlist(struct lcb_index *, int64_t pos, const char *verb, const struct dlist *value);
/* Current state row of a name. */
int lcb_apply_unmailbox(struct lcb_index *, int64_t pos, const char *mboxname);
int lcb_apply_rename(struct lcb_index *, int64_t pos, const struct dlist *value);
int lcb_apply_annotation(struct lcb_index *, int64_t pos, const struct dlist *value, int remove);

/* ---- lcb_query_mail.c: records as they stand in rows ---- */

/* Columns of a record r with its content c, LCB_RECORD_WIDTH of them; more may follow. */
#define LCB_RECORD_COLUMNS "r.uid, r.modseq, r.last_updated, r.internaldate, r.size, c.guid," \
                           " r.expunged, r.flags, r.annotations, r.extra"
#define LCB_RECORD_JOIN " FROM records r JOIN contents c ON c.id=r.content"
#define LCB_RECORD_WIDTH 10
/* The row at hand; REC's bufs are reused. */
void lcb_record_row(sqlite3_stmt *, struct sync_record *rec);
/* Rows that come in the order of one column, in which no value is twice. In a damaged index SQLite may
 * bring the same ones again and again. */
struct lcb_order {
    struct buf last, now;
    int type; /* of the values, 0 before the first */
};
/* As sqldb_step, for a walk; XERR_SQL if column COL does not come behind that of the last row. */
int lcb_next_row(struct lcb *, sqlite3_stmt *, int col, struct lcb_order *);
void lcb_order_fini(struct lcb_order *);

/* ---- lcb_line.c: the data file's own grammar ---- */

/* Read all lines of a member and apply them. TIME is the last time seen. LOST counts lines that
 * could not be understood; CHUNK gets lengths and times. XERR_FORMAT if the member is damaged: what
 * was read before has been applied. */
int lcb_lines_apply(struct lcb_index *, struct vfs *, int fd, const struct lcb_member *, int64_t seq,
                    struct lcb_chunk *chunk, int64_t *last_time, int *lost, off_t *end);
/* The complete lines of a piece, as far as it can be read: CHUNK's text grows by them. An error
 * only if it has nothing to do with the member. */
int lcb_piece_apply(struct lcb_index *, struct vfs *, int fd, const struct lcb_piece *,
                    struct lcb_chunk *chunk, struct lcb_salvage *);

/* ---- lcb_log.c ---- */

/* A line that means nothing, to have a chunk. */
int lcb_log_nothing(struct lcb *);

/* ---- lcb_open.c ---- */

/* Set B's index aside and begin an empty one, in its first transaction; WHY for syslog. */
int lcb_renew_index(struct lcb *, const char *why);

/* ---- lcb_content.c ---- */

/* Marks after rows were made from the data file, of mailboxes that changed from position FROM on;
 * LOST: not all of the file could be read, so of all. In the open transaction. */
int lcb_marks_set(struct lcb_index *, int64_t from, int lost);
/* Messages that the master is asked for: those that mailboxes marked CONTENT or RESEND lack. */
int lcb_marks_waiting(struct lcb_index *, int64_t *n);

/* ---- lcb_recover.c ---- */

/* Bring index and data file together under the lock: roll forward, cut, or rebuild. 1: nothing was
 * done, see lcb_end_rotten(). */
int lcb_recover(struct lcb *);
/* 1 if the index is of this file, but what was committed last cannot be read any more: lcb_repair()
 * must be next, or what only the index knows of it is lost. */
int lcb_end_rotten(struct lcb *);
/* A checksum, never 0, of the last bytes before END: with it, members that agree in offset, number
 * and length are told apart. 0 if they cannot be read. */
int64_t lcb_check_end(struct vfs *, int fd, off_t end);
/* 1 if P speaks of this file. */
int lcb_point_fits(struct vfs *, int fd, const struct lcb_mark_point *p);
/* Without the lock: 1 if the index speaks for the file up to its own mark, 0 if not. */
int lcb_index_fits(struct lcb *);

/* ---- an open backup ---- */

/* A handle to a data file that is being made: FD, at PATH, is the handle's from now on if this returns
 * 0. Its index, PATH.index, is opened or made; lcb_recover() fills it. */
int lcb_new(struct lcb_store *, const char *userid, const char *path, int fd, struct lcb **);
/* Behind lcb_recover(): lines may be added. */
void lcb_recovered(struct lcb *);

struct lcb_settings {
    size_t chunk_size;
    int level;
    int64_t index_checkpoint;
};

struct lcb {
    struct lcb_store *store;
    struct vfs *vfs;
    const struct lcb_settings *settings;
    char *userid;
    char *path;
    char *index_path;
    int fd;
    int writable;
    int to_repair; /* LCB_REPAIR */
    int keep_tail; /* on behalf of a reader: what is no commit is left where it is */
    int broken;
    int savepoint; /* a command is being applied */
    struct buf whole; /* a bit for each chunk that was read and found intact */
    struct lcb_text kept; /* of readers: where the last message was read */
    int64_t first_own; /* the first chunk that was written since it was opened */
    struct lcb_datafile df;
    struct lcb_index *index;
    ino_t index_ino; /* of its file when it was opened */
    struct {               /* MAILBOX being written */
        struct buf header;
        int header_literal;
        int open;          /* a line is begun */
        int literal;       /* the open line holds one */
        int records;       /* in the open line */
        size_t start;      /* of the records in the text of the open chunk */
        int64_t pos, time;
    } mb;
    int (*stop)(void *);
    void *stop_rock;
};

#endif
