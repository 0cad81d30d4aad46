/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Whose backup is in this file? Asked of the file itself: neither backups.db nor an index is needed,
 * and nothing is changed. */
#ifndef BACKUP_LCB_IDENTIFY_H
#define BACKUP_LCB_IDENTIFY_H

#include <stdint.h>
#include <sys/types.h>

#include "backup/lcb.h"

enum lcb_identity_kind {
    LCB_IS_DATA,
    LCB_IS_EMPTY,   /* no bytes at all */
    LCB_IS_NONE,    /* something else */
    LCB_IS_UNREADABLE
};

struct lcb_identity {
    enum lcb_identity_kind kind;
    int error;         /* of LCB_IS_UNREADABLE */
    int agrees;        /* the content speaks of the user that was asked for */
    struct buf owner;  /* that user, or the first one that it speaks of; "" if it does of none */
    int64_t last_time; /* of the newest line; of the file if that is not known without reading it all */
    uint64_t size;
    uint64_t id;       /* of the backup; 0: none, or not known */
    dev_t dev;
    ino_t ino;
    int links;
};

struct lcb_identifier;
int lcb_identifier_new(struct lcb_store *, struct lcb_identifier **);
void lcb_identifier_free(struct lcb_identifier **);
/* Look at the file at PATH. Asked for is USERID, or if that is NULL the user for whom a file of this
 * name was made; its name has BASELEN bytes before any suffix (0: it is no name of ours). 0 or
 * XERR_SIGNAL, or XERR_SQL if the scratch database fails; what is wrong with the file is in ID, whose
 * owner is reused. */
int lcb_identify(struct lcb_identifier *, const char *path, const char *userid, size_t baselen,
                 struct lcb_identity *id);
/* Only what kind of file it is: little is read, whatever its size. */
enum lcb_identity_kind lcb_identify_kind(struct lcb_store *, const char *path, size_t baselen);

#endif
