/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Allocation that does not fail: when memory is out these log and abort(), so that master starts a
 * fresh process and nothing half-done is committed. They are the one place outside a program's
 * main that ends a process; sizes that come from outside are bounded before they get here. */
#ifndef LIB_XMALLOC_H
#define LIB_XMALLOC_H

#include <stddef.h>

void *xmalloc(size_t n);
void *xzmalloc(size_t n);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
/* xstrdup, but NULL gives NULL. */
char *xstrdupnull(const char *s);
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t n);
/* Formatted string in fresh memory; the caller frees it. */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
