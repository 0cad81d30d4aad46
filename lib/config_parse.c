/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* config_parse - the syntax of imapd.conf.
 *
 * A file is read whole (it is small; a bound keeps a wrong name from filling memory) and cut into
 * logical lines: a line whose last byte is a backslash goes on in the next one, as it stands. This
 * comes before everything else, so it holds for comments too; Cyrus does the same, and one file
 * must not mean two things. A logical line is empty, a comment, "key: value" or
 * "@include: path". */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/config_parse.h"
#include "lib/hash.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define FILE_MAX ((size_t)16 << 20)
#define DEPTH_MAX 32

static const char blanks[] = " \t\r\f\v";

struct file_id {
    dev_t dev;
    ino_t ino;
};

struct parser {
    struct config_entries *entries;
    struct hash *keys; /* key -> index in entries, plus 1 */
    struct hash *ids;  /* struct file_id of every file read */
    struct buf *err;
    int depth;
};

/* Where in which file we are; line 0 before the first. */
struct place {
    const char *file;
    unsigned line;
};

static int parse_file(struct parser *p, const char *file, const struct place *from);

static int complain(struct parser *p, const struct place *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int complain(struct parser *p, const struct place *at, const char *fmt, ...)
{
    va_list ap;
    buf_printf(p->err, "%s, line %u: ", at->file, at->line);
    va_start(ap, fmt);
    buf_vprintf(p->err, fmt, ap);
    va_end(ap);
    return XERR_CONFIG;
}

/* Cut blanks at both ends, in place; returns the new beginning. */
static char *trim(char *s)
{
    s += strspn(s, blanks);
    size_t n = strlen(s);
    while (n && strchr(blanks, s[n - 1]))
        n--;
    s[n] = '\0';
    return s;
}

static int is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* Lower-case KEY in place; 0 if it is not a key. */
static int make_key(char *key)
{
    if (!*key)
        return 0;
    for (; *key; key++) {
        if (*key >= 'A' && *key <= 'Z')
            *key = (char)(*key - 'A' + 'a');
        if (!is_key_char(*key))
            return 0;
    }
    return 1;
}

static int add_entry(struct parser *p, const struct place *at, const char *key, const char *value)
{
    struct config_entries *e = p->entries;
    uintptr_t earlier = (uintptr_t)hash_lookup(p->keys, key);
    if (earlier) {
        const struct config_entry *first = &e->data[earlier - 1];
        return complain(p, at, "option '%.64s' is set twice (first in %s, line %u)", key,
                        first->file, first->line);
    }
    if (e->count == e->alloc) {
        e->alloc = e->alloc ? 2 * e->alloc : 64;
        e->data = xrealloc(e->data, e->alloc * sizeof(*e->data));
    }
    e->data[e->count++] = (struct config_entry){
        .key = xstrdup(key), .value = xstrdup(value), .file = at->file, .line = at->line};
    hash_insert(p->keys, key, (void *)(uintptr_t)e->count);
    return 0;
}

/* TEXT is one logical line; it is taken apart in place. */
static int parse_line(struct parser *p, const struct place *at, char *text)
{
    char *line = trim(text);
    if (!*line || *line == '#')
        return 0;
    char *colon = strchr(line, ':');
    if (!colon)
        return complain(p, at, "'%.64s' is not of the form 'option: value'", line);
    *colon = '\0';
    char *value = trim(colon + 1);
    char *key = trim(line);
    int directive = *key == '@';
    if (!make_key(key + directive))
        return complain(p, at, "'%.64s' cannot be the name of an option", key);
    if (!*value)
        return complain(p, at, "option '%.64s' has no value", key);
    if (!directive)
        return add_entry(p, at, key, value);
    if (strcmp(key, "@include"))
        return complain(p, at, "unknown directive '%.64s'", key);
    return parse_file(p, value, at);
}

/* Append the physical line at *POS of TEXT to LINE, without its end; *POS moves behind it. */
static void take_line(const struct buf *text, size_t *pos, struct buf *line)
{
    const char *start = text->s + *pos;
    size_t left = text->len - *pos;
    const char *nl = memchr(start, '\n', left);
    size_t n = nl ? (size_t)(nl - start) : left;
    buf_appendmap(line, start, n);
    *pos += n + (nl != NULL);
}

static int parse_text(struct parser *p, const char *file, const struct buf *text)
{
    struct buf line = BUF_INITIALIZER;
    struct place at = {file, 0};
    unsigned lineno = 0;
    size_t pos = 0;
    int r = 0;
    while (!r && pos < text->len) {
        buf_reset(&line);
        at.line = lineno + 1;
        int more = 1;
        while (more && pos < text->len) {
            take_line(text, &pos, &line);
            lineno++;
            more = line.len && line.s[line.len - 1] == '\\';
            if (more)
                line.len--;
        }
        if (line.len && memchr(line.s, '\0', line.len))
            r = complain(p, &at, "a NUL byte; this is not a configuration file");
        else
            r = parse_line(p, &at, (char *)(uintptr_t)buf_cstring(&line));
    }
    buf_free(&line);
    return r;
}

/* Open FILE, below CYRUS_PREFIX if there is such a file there. */
static FILE *open_prefixed(const char *file)
{
    const char *prefix = getenv("CYRUS_PREFIX");
    FILE *f = NULL;
    if (prefix && *prefix) {
        char *path = xasprintf("%s%s%s", prefix, *file == '/' ? "" : "/", file);
        f = fopen(path, "re");
        free(path);
    }
    return f ? f : fopen(file, "re");
}

/* 0, 1 if the file was read before, or -errno. */
static int note_file(struct parser *p, FILE *f)
{
    struct stat sb;
    struct file_id id;
    if (fstat(fileno(f), &sb) < 0)
        return -errno;
    memset(&id, 0, sizeof(id)); /* padding is part of the key */
    id.dev = sb.st_dev;
    id.ino = sb.st_ino;
    if (hash_lookupmap(p->ids, &id, sizeof(id)))
        return 1;
    hash_insertmap(p->ids, &id, sizeof(id), p);
    return 0;
}

/* The rest of F to TEXT: 0, -errno or XERR_TOOBIG. */
static int slurp(FILE *f, struct buf *text)
{
    while (text->len <= FILE_MAX) {
        errno = 0;
        size_t n = fread(buf_ensure(text, 65536), 1, 65536, f);
        text->len += n;
        if (ferror(f))
            return errno ? -errno : -EIO;
        if (!n)
            return 0;
    }
    return XERR_TOOBIG;
}

/* FROM is the line that includes it. */
static int parse_file(struct parser *p, const char *file, const struct place *from)
{
    struct buf text = BUF_INITIALIZER;
    if (p->depth >= DEPTH_MAX)
        return complain(p, from, "includes are nested too deep");
    FILE *f = open_prefixed(file);
    int r = f ? note_file(p, f) : -errno;
    if (!r)
        r = slurp(f, &text);
    if (f)
        fclose(f);
    if (r == 1) {
        r = complain(p, from, "file '%s' is included a second time", file);
    } else if (r) {
        buf_printf(p->err, "can't open configuration file %s: %s", file, error_message(r));
        if (from->line)
            buf_printf(p->err, " (included in %s, line %u)", from->file, from->line);
        r = XERR_CONFIG;
    } else {
        struct strarray *files = &p->entries->files;
        strarray_append(files, file);
        p->depth++;
        r = parse_text(p, strarray_nth(files, files->count - 1), &text);
        p->depth--;
    }
    buf_free(&text);
    return r;
}

int config_parse(const char *file, struct config_entries *entries, struct buf *err)
{
    struct parser p = {.entries = entries, .keys = hash_new(), .ids = hash_new(), .err = err};
    int r = parse_file(&p, file, &(struct place){file, 0});
    hash_free(&p.keys, NULL);
    hash_free(&p.ids, NULL);
    return r;
}

void config_entries_fini(struct config_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        free(entries->data[i].key);
        free(entries->data[i].value);
    }
    free(entries->data);
    strarray_fini(&entries->files);
    memset(entries, 0, sizeof(*entries));
}
