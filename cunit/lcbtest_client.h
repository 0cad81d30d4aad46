/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A client that knows what it has: commands are drawn from a seed and go to a backup or into a member
 * as Cyrus 3.x writes it, and at any time the client can say, without looking at the backup, what must
 * be in that. Its checksums are right, unlike those of lcbtest_history. */
#ifndef CUNIT_LCBTEST_CLIENT_H
#define CUNIT_LCBTEST_CLIENT_H

#include <stdint.h>

#include "cunit/lcbtest.h"
#include "cunit/lcbtest_foreign.h"

enum {
    CLIENT_BOXES = 6,
    CLIENT_NAMES = 5,
    CLIENT_RECORDS = 10,
    CLIENT_OTHERS = 3,
    CLIENT_CONTENTS = 256
};

/* Which of the messages; message number I of the client is lcbtest_message(base + I). */
struct client_set {
    unsigned char bit[CLIENT_CONTENTS / 8];
};
int client_has(const struct client_set *, unsigned i);
void client_add(struct client_set *, unsigned i);

struct client_box {
    unsigned id, name, uidnext, modseq, n, note;
    int there;
    struct {
        unsigned uid, modseq, flags, content;
    } rec[CLIENT_RECORDS];
};
/* What it has; copying the struct copies the state. */
struct client {
    uint64_t random;
    unsigned base, next_id, next_content, steps;
    struct client_box box[CLIENT_BOXES];
    unsigned sub[CLIENT_OTHERS], seen[CLIENT_BOXES * 8], script[CLIENT_OTHERS], active;
    unsigned quota[CLIENT_OTHERS], annot[CLIENT_OTHERS];
    struct client_set sent; /* it has sent them once; others that are named it never had */
};

/* Where commands go: a backup, or a member of Cyrus with its text. */
struct client_out {
    struct lcb *b;
    struct cyrus_member *member;
    struct buf *text;
};

void client_start(struct client *, uint64_t seed);
unsigned client_draw(struct client *, unsigned below);
/* One command, and a little time. */
int client_step(struct client *, struct client_out *);
/* A line of a member of Cyrus. */
void client_put(struct client_out *, const void *p, size_t n);
/* Message I, unless it is there. */
int client_bring(struct client *, struct client_out *, unsigned i);
/* All of a mailbox once more; with CONTENT, all messages that the client has, too. */
int client_send_box(struct client *, struct client_out *, struct client_box *, int content);
/* Everything once more, except messages, and an end to what the backup has beyond that; UNUSER: of
 * everything, before. */
int client_send_all(struct client *, struct client_out *, int unuser);
/* What names and ids are in the backup: "u7" of the id 7, and the name of number 3. */
const char *client_id(unsigned id);
const char *client_name(unsigned name);
/* Live messages. */
void client_live(const struct client *, struct client_set *);
int client_is_live(const struct client_box *, unsigned record);

/* What must be there now, as text; and what is there at AT (LCB_NOW: now). */
void client_state(const struct client *, struct buf *);
int client_backup_state(struct lcb *, int64_t at, struct buf *);

#endif
