/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* A growing list of strings; it owns its copies. Zero-filled memory is a valid empty list. */
#ifndef LIB_STRARRAY_H
#define LIB_STRARRAY_H

struct strarray {
    int count;
    int alloc;
    char **data;
};
#define STRARRAY_INITIALIZER {0, 0, NULL}

void strarray_fini(struct strarray *sa);
void strarray_append(struct strarray *sa, const char *s);
/* Append unless an equal string is in it; returns 1 if added. */
int strarray_add(struct strarray *sa, const char *s);
/* Index of S, or -1. */
int strarray_find(const struct strarray *sa, const char *s);
/* Byte order. */
void strarray_sort(struct strarray *sa);
/* Append the words of LINE that stand between bytes of SEP. */
void strarray_split(struct strarray *sa, const char *line, const char *sep);
/* strarray_nth(sa, i): the i-th string or NULL. */
static inline const char *strarray_nth(const struct strarray *sa, int i)
{
    return i >= 0 && i < sa->count ? sa->data[i] : (const char *)0;
}

#endif
