/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcb_posmap - runs of lines that stand behind each other in both files.
 *
 * Runs are added in the order of the old file, so they are sorted. They are collected in a buffer; when
 * it is full it is appended to a file, and begun anew. Of each PAGE runs that are in the file the last
 * position is kept in memory: so a position is found by a bisection over these, and one over
 * the runs of a page. Pages that were read are kept, in a table of fixed size, because rows that are
 * compared one after the other often come from lines that stand together.
 *
 * So a run in the file takes 8 / PAGE bytes of memory: a million of them 63 kB. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/lcb.h"
#include "backup/lcb_posmap.h"
#include "lib/vfs.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define PAGE 128
#define PAGES 64     /* kept in memory */
#define ROOM 16384   /* runs in the buffer */

struct page {
    size_t number; /* from 1; 0: nothing was read */
    struct lcb_posrun runs[PAGE];
};

struct lcb_posmap {
    struct lcb_store *store;
    struct lcb_posrun *buffer;
    size_t room, used, alloc;
    int fd; /* of the file, or -1 */
    /* Of each page in the file: the last position. */
    int64_t *lasts;
    size_t npages, lasts_alloc;
    struct page *cache;
};

struct lcb_posmap *lcb_posmap_new(struct lcb_store *store, size_t room)
{
    struct lcb_posmap *m = xzmalloc(sizeof(*m));
    m->store = store;
    m->room = room ? (room + PAGE - 1) / PAGE * PAGE : ROOM;
    m->fd = -1;
    return m;
}

void lcb_posmap_free(struct lcb_posmap **mp)
{
    struct lcb_posmap *m = *mp;
    if (!m)
        return;
    vfs_close(lcb_store_vfs(m->store), &m->fd);
    free(m->buffer);
    free(m->lasts);
    free(m->cache);
    free(m);
    *mp = NULL;
}

size_t lcb_posmap_memory(const struct lcb_posmap *m)
{
    return sizeof(*m) + m->alloc * sizeof(*m->buffer) + m->lasts_alloc * sizeof(*m->lasts) +
           (m->cache ? PAGES * sizeof(*m->cache) : 0);
}

/* ---- adding ---- */

/* The buffer, which is whole pages, to the file. */
static int spill(struct lcb_posmap *m)
{
    struct vfs *vfs = lcb_store_vfs(m->store);
    size_t pages = m->used / PAGE;
    int r = m->fd < 0 ? lcb_store_tmpfile(m->store, &m->fd) : 0;
    if (r)
        return r;
    ssize_t n = vfs_pwrite(vfs, m->fd, m->buffer, m->used * sizeof(*m->buffer),
                           (off_t)(m->npages * PAGE * sizeof(*m->buffer)));
    if (n < 0)
        return (int)n;
    while (m->npages + pages > m->lasts_alloc) {
        m->lasts_alloc = m->lasts_alloc ? 2 * m->lasts_alloc : 256;
        m->lasts = xrealloc(m->lasts, m->lasts_alloc * sizeof(*m->lasts));
    }
    for (size_t i = 0; i < pages; i++)
        m->lasts[m->npages++] = m->buffer[(i + 1) * PAGE - 1].last;
    m->used = 0;
    return 0;
}

int lcb_posmap_add(struct lcb_posmap *m, const struct lcb_posrun *run)
{
    int r = m->used == m->room ? spill(m) : 0;
    if (r)
        return r;
    if (m->used == m->alloc) {
        m->alloc = m->alloc ? 2 * m->alloc : PAGE;
        m->alloc = m->alloc < m->room ? m->alloc : m->room;
        m->buffer = xrealloc(m->buffer, m->alloc * sizeof(*m->buffer));
    }
    struct lcb_posrun *to = &m->buffer[m->used++];
    memset(to, 0, sizeof(*to)); /* it goes to a file, padding too */
    to->first = run->first;
    to->last = run->last;
    to->to = run->to;
    to->to_last = run->to_last;
    to->spread = run->spread;
    return 0;
}

int lcb_posmap_addline(struct lcb_posmap *m, int64_t old, int64_t to)
{
    struct lcb_posrun *last = m->used ? &m->buffer[m->used - 1] : NULL;
    if (last && !last->spread && last->last + 1 == old && last->to_last + 1 == to) {
        last->last++;
        last->to_last++;
        return 0;
    }
    return lcb_posmap_add(m, &(struct lcb_posrun){.first = old, .last = old, .to = to, .to_last = to});
}

/* ---- finding ---- */

/* The first of N runs that does not end before OLD. */
static const struct lcb_posrun *bisect(const struct lcb_posrun *runs, size_t n, int64_t old)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (runs[mid].last < old)
            low = mid + 1;
        else
            high = mid;
    }
    return low < n ? &runs[low] : NULL;
}

static int read_page(struct lcb_posmap *m, size_t number, const struct lcb_posrun **runs)
{
    if (!m->cache)
        m->cache = xcalloc(PAGES, sizeof(*m->cache));
    struct page *p = &m->cache[number % PAGES];
    if (p->number != number + 1) {
        p->number = 0;
        ssize_t n = vfs_pread(lcb_store_vfs(m->store), m->fd, p->runs, sizeof(p->runs),
                              (off_t)(number * sizeof(p->runs)));
        if (n != (ssize_t)sizeof(p->runs))
            return n < 0 ? (int)n : -EIO;
        p->number = number + 1;
    }
    *runs = p->runs;
    return 0;
}

int lcb_posmap_find(struct lcb_posmap *m, int64_t old, struct lcb_posrun *run)
{
    const struct lcb_posrun *runs = m->buffer, *found;
    size_t low = 0, high = m->npages, n = m->used;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (m->lasts[mid] < old)
            low = mid + 1;
        else
            high = mid;
    }
    if (low < m->npages) {
        int r = read_page(m, low, &runs);
        if (r)
            return r;
        n = PAGE;
    }
    found = bisect(runs, n, old);
    if (!found || found->first > old)
        return 0;
    *run = *found;
    return 1;
}
