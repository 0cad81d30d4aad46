/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* corpus - reading and writing the file that holds the mail of a benchmark.
 *
 * The file is mapped and its headers are walked once, so that a corpus of a million messages is
 * open in a fraction of a second and costs no memory that would disturb what is measured. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/xerr.h"
#include "lib/xmalloc.h"
#include "tools/corpus.h"

uint64_t corpus_random(struct corpus_random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double corpus_uniform(struct corpus_random *r)
{
    return (double)(corpus_random(r) >> 11) / 9007199254740992.0;
}

int corpus_write(FILE *file, const void *text, size_t size)
{
    struct message_guid guid;
    char hex[41];
    message_guid_generate(&guid, text, size);
    message_guid_encode(&guid, hex);
    if (fprintf(file, "%s %zu\n", hex, size) < 0 || fwrite(text, 1, size, file) != size)
        return errno ? -errno : -EIO;
    return 0;
}

/* One message at P: the length of header and text, or XERR_FORMAT. */
static ssize_t parse(const char *p, const char *end, struct corpus_message *m)
{
    const char *at = p + 41;
    size_t size = 0;
    if (end - p < 44 || p[40] != ' ' || message_guid_decode(&m->guid, p, 40))
        return XERR_FORMAT;
    while (at < end && *at >= '0' && *at <= '9' && size < SIZE_MAX / 16)
        size = size * 10 + (size_t)(*at++ - '0');
    if (at == end || *at++ != '\n' || (size_t)(end - at) < size)
        return XERR_FORMAT;
    m->text = at;
    m->size = size;
    return at + size - p;
}

static int walk(struct corpus *c)
{
    const char *p = c->map, *end = p + c->map_len;
    size_t room = 0;
    while (p < end) {
        if (c->count == room) {
            room = room ? 2 * room : 1024;
            c->messages = xrealloc(c->messages, room * sizeof(*c->messages));
        }
        ssize_t n = parse(p, end, &c->messages[c->count]);
        if (n < 0)
            return (int)n;
        c->bytes += c->messages[c->count++].size;
        p += n;
    }
    return 0;
}

int corpus_open(struct corpus *c, const char *path)
{
    struct stat st;
    int e = 0;
    memset(c, 0, sizeof(*c));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st)) {
        e = -errno;
    } else if (st.st_size > 0) {
        c->map_len = (size_t)st.st_size;
        c->map = mmap(NULL, c->map_len, PROT_READ, MAP_SHARED, fd, 0);
        if (c->map == MAP_FAILED) {
            e = -errno;
            c->map = NULL;
        }
    }
    close(fd);
    if (!e && c->map)
        e = walk(c);
    if (e)
        corpus_close(c);
    return e;
}

void corpus_close(struct corpus *c)
{
    if (c->map)
        munmap(c->map, c->map_len);
    free(c->messages);
    memset(c, 0, sizeof(*c));
}
