/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* One way to print results, so that every command has text and JSON for free. A command builds a
 * table (rows of typed columns) or any JSON value; the mode decides how it appears. */
#ifndef LIB_OUTPUT_H
#define LIB_OUTPUT_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* Print VALUE to F with indent 2, keys in the order of insertion, and a final newline. Strings that
 * are not UTF-8 must have been made so: output_string() below. 0 or -errno. */
int output_json(FILE *f, const json_t *value);
/* A JSON string of N bytes; what is not UTF-8 is replaced by U+FFFD. Never NULL. */
json_t *output_string(const char *s, size_t n);
/* Add to OBJECT the N bytes at P as KEY; if they are not UTF-8, the bytes themselves too, as
 * KEY_base64. */
void output_setbytes(json_t *object, const char *key, const void *p, size_t n);
/* Stream a value of any shape, piece by piece; the bytes are those that output_json() would print.
 * After the first error (0 or -errno from each) nothing more is printed. KEY: NULL inside an array
 * and for the outermost value. */
struct output_writer;
struct output_writer *output_writer_begin(FILE *f);
int output_writer_open(struct output_writer *, const char *key, char bracket); /* '[' or '{' */
int output_writer_value(struct output_writer *, const char *key, json_t *); /* takes the reference */
int output_writer_close(struct output_writer *);
/* Close what is open, and flush. */
int output_writer_end(struct output_writer **);
/* Stream an array whose elements come one by one, so that a million rows need no memory. */
struct output_array;
struct output_array *output_array_begin(FILE *f);
int output_array_item(struct output_array *, json_t *value); /* takes the reference */
int output_array_end(struct output_array **);
/* Local time "YYYY-MM-DD HH:MM:SS" to OUT (20 bytes). */
void output_time(int64_t epoch, char out[20]);

#endif
