/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* output_writer - JSON of any size, piece by piece, in the layout of output_json().
 *
 * What is open is a stack of brackets with the number of elements printed in each. An element is
 * printed on its own and moved to the right by the depth of the stack. (A newline inside a JSON
 * string is written \n, so every newline byte is one of layout.) A bracket that stays empty closes
 * on the line on which it was opened. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/output.h"
#include "lib/xmalloc.h"

#define LAYOUT (JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY)
#define DEPTH_MAX 16

struct output_writer {
    FILE *f;
    int r; /* first error */
    int depth;
    struct {
        char close;
        int filled;
    } level[DEPTH_MAX];
};

struct output_writer *output_writer_begin(FILE *f)
{
    struct output_writer *w = xzmalloc(sizeof(*w));
    w->f = f;
    return w;
}

static void failed(struct output_writer *w)
{
    if (!w->r)
        w->r = errno > 0 ? -errno : -EIO;
}

static void print(struct output_writer *w, const char *s, size_t n)
{
    errno = 0;
    if (!w->r && fwrite(s, 1, n, w->f) != n)
        failed(w);
}

static void newline(struct output_writer *w)
{
    static const char blanks[2 * DEPTH_MAX] = "                                ";
    print(w, "\n", 1);
    print(w, blanks, 2 * (size_t)w->depth);
}

/* TEXT, whose lines after the first are moved to the right. */
static void print_indented(struct output_writer *w, const char *text)
{
    for (;;) {
        size_t n = strcspn(text, "\n");
        print(w, text, n);
        if (!text[n])
            return;
        newline(w);
        text += n + 1;
    }
}

/* Takes the reference. */
static void print_value(struct output_writer *w, json_t *value)
{
    char *text = value ? json_dumps(value, LAYOUT) : NULL;
    if (text) {
        print_indented(w, text);
    } else {
        errno = EINVAL;
        failed(w);
    }
    free(text);
    json_decref(value);
}

/* What stands before an element. */
static void element(struct output_writer *w, const char *key)
{
    if (w->depth) {
        if (w->level[w->depth - 1].filled)
            print(w, ",", 1);
        w->level[w->depth - 1].filled = 1;
        newline(w);
    }
    if (key) {
        print_value(w, output_string(key, strlen(key)));
        print(w, ": ", 2);
    }
}

int output_writer_open(struct output_writer *w, const char *key, char bracket)
{
    if (w->depth == DEPTH_MAX) {
        errno = EOVERFLOW;
        failed(w);
        return w->r;
    }
    element(w, key);
    print(w, &bracket, 1);
    w->level[w->depth].close = bracket == '[' ? ']' : '}';
    w->level[w->depth++].filled = 0;
    return w->r;
}

int output_writer_value(struct output_writer *w, const char *key, json_t *value)
{
    if (w->r) {
        json_decref(value);
        return w->r;
    }
    element(w, key);
    print_value(w, value);
    return w->r;
}

int output_writer_close(struct output_writer *w)
{
    if (!w->depth)
        return w->r;
    w->depth--;
    if (w->level[w->depth].filled)
        newline(w);
    print(w, &w->level[w->depth].close, 1);
    return w->r;
}

int output_writer_end(struct output_writer **wp)
{
    struct output_writer *w = *wp;
    *wp = NULL;
    while (w->depth)
        output_writer_close(w);
    print(w, "\n", 1);
    errno = 0;
    if (!w->r && fflush(w->f) == EOF)
        failed(w);
    int r = w->r;
    free(w);
    return r;
}

/* ---- an array is a writer that knows no other shape ---- */

struct output_array {
    struct output_writer *w;
};

struct output_array *output_array_begin(FILE *f)
{
    struct output_array *a = xzmalloc(sizeof(*a));
    a->w = output_writer_begin(f);
    output_writer_open(a->w, NULL, '[');
    return a;
}

int output_array_item(struct output_array *a, json_t *value)
{
    return output_writer_value(a->w, NULL, value);
}

int output_array_end(struct output_array **ap)
{
    struct output_array *a = *ap;
    *ap = NULL;
    int r = output_writer_end(&a->w);
    free(a);
    return r;
}
