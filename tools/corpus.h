/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A corpus: synthetic mail in one file, made by mkcorpus and read by csync_load and measure. The
 * file is a series of messages, each behind a line with its GUID and its size in bytes. */
#ifndef TOOLS_CORPUS_H
#define TOOLS_CORPUS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "imap/message_guid.h"
#include "lib/buf.h"

struct corpus_message {
    const char *text; /* lives as long as the corpus */
    size_t size;
    struct message_guid guid;
};

struct corpus {
    struct corpus_message *messages;
    size_t count;
    size_t bytes; /* of all messages */
    void *map;
    size_t map_len;
};

/* Read the headers of all messages; the text is mapped. 0, -errno, or XERR_FORMAT. Zero-filled
 * memory is a valid empty corpus. */
int corpus_open(struct corpus *, const char *path);
void corpus_close(struct corpus *);
/* Append a message to FILE: 0 or -errno. */
int corpus_write(FILE *file, const void *text, size_t size);

/* ---- How the messages are made ---- */

/* A sequence of pseudo-random numbers (SplitMix64); the same in every run and on every machine. */
struct corpus_random {
    uint64_t state;
};
uint64_t corpus_random(struct corpus_random *);
double corpus_uniform(struct corpus_random *); /* 0 <= x < 1 */

/* The words of a language that does not exist, by frequency. */
struct corpus_words;
struct corpus_words *corpus_words_new(uint64_t seed);
void corpus_words_free(struct corpus_words **);

/* One message of about SIZE bytes (at least its header and a line), number NUMBER of its corpus:
 * plain text if it is small, with an HTML part if it is larger, with attachments beyond that. */
void corpus_make(const struct corpus_words *, struct corpus_random *, unsigned long number,
                 size_t size, struct buf *out);
/* The least that can be a message: some 100 bytes, a header and a line. */
void corpus_make_tiny(unsigned long number, struct buf *out);

#endif
