/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Pieces of the lines that Cyrus 3.x wrote of user pat, for tests with such files. */
#ifndef CUNIT_LCBTEST_PAT_H
#define CUNIT_LCBTEST_PAT_H

/* A message, the content of two others, a mailbox (without its records and the bracket at the end), and
 * a record. */
#define GUID1 "395d0ff49f715681ab77a885d04cecf70d0cf528"
#define BODY1 "Subject: hi\r\n\r\nbody\r\n"
#define GUID2 "7c211433f02071597741e6ff5a8ea34789abbf43" /* of "world" */
#define GUID3 "da39a3ee5e6b4b0d3255bfef95601890afd80709" /* of nothing */
#define MAILBOX "APPLY MAILBOX %(UNIQUEID 3f2c1b0a MBOXNAME user.pat LAST_UID 2 HIGHESTMODSEQ 3" \
    " RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 1600000000 POP3_LAST_LOGIN 0 UIDVALIDITY" \
    " 1500000000 PARTITION default ACL \"pat\tlrs\t\" OPTIONS P SYNC_CRC 123 SYNC_CRC_ANNOT" \
    " 12345678"
#define RECORD(uid, modseq, flags, guid) "%(UID " uid " MODSEQ " modseq " LAST_UPDATED 1600000000" \
    " FLAGS (" flags ") INTERNALDATE 1546300800 SIZE 21 GUID " guid ")"

#endif
