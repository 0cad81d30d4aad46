/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* strarray - a growing list of strings. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "lib/strarray.h"
#include "lib/xmalloc.h"

void strarray_fini(struct strarray *sa)
{
    for (int i = 0; i < sa->count; i++)
        free(sa->data[i]);
    free(sa->data);
    memset(sa, 0, sizeof(*sa));
}

static void append_owned(struct strarray *sa, char *s)
{
    if (sa->count == sa->alloc) {
        sa->alloc = sa->alloc ? sa->alloc * 2 : 8;
        sa->data = xrealloc(sa->data, (size_t)sa->alloc * sizeof(*sa->data));
    }
    sa->data[sa->count++] = s;
}

void strarray_append(struct strarray *sa, const char *s)
{
    append_owned(sa, xstrdup(s));
}

int strarray_add(struct strarray *sa, const char *s)
{
    if (strarray_find(sa, s) >= 0)
        return 0;
    strarray_append(sa, s);
    return 1;
}

int strarray_find(const struct strarray *sa, const char *s)
{
    for (int i = 0; i < sa->count; i++)
        if (!strcmp(sa->data[i], s))
            return i;
    return -1;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void strarray_sort(struct strarray *sa)
{
    if (sa->count > 1)
        qsort(sa->data, (size_t)sa->count, sizeof(*sa->data), compare);
}

void strarray_split(struct strarray *sa, const char *line, const char *sep)
{
    for (line += strspn(line, sep); *line; line += strspn(line, sep)) {
        size_t n = strcspn(line, sep);
        append_owned(sa, xstrndup(line, n));
        line += n;
    }
}
