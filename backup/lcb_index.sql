-- SPDX-License-Identifier: BSD-3-Clause
-- Copyright (c) 2026 The Cyrus Backups authors
-- The index of a backup. Everything here can be computed again from the data file.
--
-- since, until: positions in the data file (chunk number * 2^24 + line number); a row holds from
-- since (inclusive) to until (exclusive); until NULL: it still holds. Names differ from those of
-- Cyrus 3.x' index on purpose, so that its tools fail on this file instead of changing it.
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE chunks (seq INTEGER PRIMARY KEY, start INTEGER NOT NULL, length INTEGER NOT NULL, text_length INTEGER NOT NULL, first_time INTEGER NOT NULL, last_time INTEGER NOT NULL);
-- Chunks of Cyrus 3.x that are not whole: from which offset of the file the text from text_start on is
-- read. Where start is not that of the chunk, there is no gzip header (lcb_salvage.c).
CREATE TABLE pieces (seq INTEGER NOT NULL, text_start INTEGER NOT NULL, start INTEGER NOT NULL, PRIMARY KEY (seq, text_start)) WITHOUT ROWID;
-- Lines that could not be understood, and such with a message that is not what its GUID says; line 0: some
-- of the chunk cannot be read. No row comes of them, so compaction would not see them (lcb_compact_aside.c).
CREATE TABLE lost (pos INTEGER PRIMARY KEY);
-- One row whenever the time of the lines changes: from pos on it was this time.
CREATE TABLE ticks (pos INTEGER PRIMARY KEY, time INTEGER NOT NULL);
-- Content by GUID; chunk NULL: referred to, but never received.
CREATE TABLE contents (id INTEGER PRIMARY KEY, guid BLOB NOT NULL UNIQUE, chunk INTEGER, start INTEGER, size INTEGER);
-- A mailbox is its UNIQUEID. crc: SYNC_CRC of its current records. mark: see lcb.h.
CREATE TABLE folders (id INTEGER PRIMARY KEY, uniqueid TEXT NOT NULL UNIQUE, crc INTEGER NOT NULL DEFAULT 0, mark INTEGER NOT NULL DEFAULT 0);
CREATE TABLE folder_states (folder INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER, mboxname TEXT NOT NULL, last_uid INTEGER NOT NULL, highestmodseq INTEGER NOT NULL, uidvalidity INTEGER NOT NULL, sync_crc INTEGER, header BLOB NOT NULL, PRIMARY KEY (folder, since)) WITHOUT ROWID;
CREATE UNIQUE INDEX folder_now ON folder_states (folder) WHERE until IS NULL;
CREATE UNIQUE INDEX folder_name ON folder_states (mboxname) WHERE until IS NULL;
-- Names that went from one mailbox to another without UNMAILBOX or RENAME of the client: how often in a row. pos: of an UNMAILBOX of the name, 0 if it is held.
CREATE TABLE replaced (mboxname TEXT PRIMARY KEY, pos INTEGER NOT NULL, times INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE records (id INTEGER PRIMARY KEY, folder INTEGER NOT NULL, uid INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER, modseq INTEGER NOT NULL, last_updated INTEGER NOT NULL, internaldate INTEGER NOT NULL, size INTEGER NOT NULL, content INTEGER NOT NULL, expunged INTEGER NOT NULL, flags BLOB NOT NULL, annotations BLOB, extra BLOB);
CREATE UNIQUE INDEX record_now ON records (folder, uid) WHERE until IS NULL;
-- What has ended: the past of a mailbox, and (uid) the version before one that began at that position.
CREATE INDEX record_past ON records (folder, until, uid) WHERE until IS NOT NULL;
CREATE INDEX record_content ON records (content);
CREATE TABLE subs (mboxname TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER, PRIMARY KEY (mboxname, since)) WITHOUT ROWID;
CREATE TABLE seens (uniqueid TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER, lastread INTEGER NOT NULL, lastuid INTEGER NOT NULL, lastchange INTEGER NOT NULL, seenuids TEXT NOT NULL, PRIMARY KEY (uniqueid, since)) WITHOUT ROWID;
CREATE TABLE scripts (filename TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER, last_update INTEGER NOT NULL, guid BLOB NOT NULL, content BLOB NOT NULL, PRIMARY KEY (filename, since)) WITHOUT ROWID;
CREATE TABLE active (since INTEGER PRIMARY KEY, until INTEGER, filename TEXT NOT NULL);
CREATE TABLE quotas (root TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER, limits BLOB NOT NULL, PRIMARY KEY (root, since)) WITHOUT ROWID;
CREATE TABLE annots (mboxname TEXT NOT NULL, entry TEXT NOT NULL, userid TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER, value BLOB NOT NULL, PRIMARY KEY (mboxname, entry, userid, since)) WITHOUT ROWID;
-- For people with sqlite3(1).
CREATE VIEW v_now AS SELECT s.mboxname, r.uid, hex(c.guid) AS guid, r.size, r.internaldate, CAST(r.flags AS TEXT) AS flags, r.expunged, c.chunk FROM records r JOIN folder_states s ON s.folder = r.folder AND s.until IS NULL JOIN contents c ON c.id = r.content WHERE r.until IS NULL ORDER BY s.mboxname, r.uid;
CREATE VIEW v_mailboxes AS SELECT f.uniqueid, s.mboxname, s.until IS NOT NULL AS past, s.last_uid, s.highestmodseq, s.uidvalidity, f.crc, s.sync_crc, f.mark FROM folders f JOIN folder_states s ON s.folder = f.id ORDER BY s.mboxname, s.since;
