/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* service_proc - one small file per process that says what it is doing, for `cyr_info proc`.
 *
 * <proc_path>/<pid> is written beside its place and renamed, so that a reader sees a whole line;
 * where it is already, its line is replaced by one write, which costs much less than a new file. It
 * exists only while a client is served. It is information, not state: a failure to write it is
 * logged now and then and hinders nothing. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/xerr.h"
#include "lib/xlog.h"
#include "master/service_private.h"

int service_procdir(const struct config *config, struct buf *dir)
{
    const char *path = config_getstring(config, IMAPOPT_PROC_PATH);
    if (!path || path[0] != '/' || !path[1])
        return XERR_CONFIG;
    buf_setcstr(dir, path);
    return 0;
}

/* Names of the file and of its draft. */
static int names(const struct service *s, struct buf *path, struct buf *draft)
{
    int r = service_procdir(s->config, path);
    if (r)
        return r;
    buf_printf(path, "/%ld", (long)getpid());
    buf_setmap(draft, path->s, path->len);
    buf_appendcstr(draft, ".new");
    return 0;
}

/* A field; what would break the line becomes '?'. */
static void field(struct buf *line, const char *s, int end)
{
    for (; s && *s; s++)
        buf_putc(line, (unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s);
    buf_putc(line, end);
}

static int open_draft(const char *draft)
{
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
    int fd = open(draft, flags, 0666);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    /* A new installation may lack the directory. */
    char dir[4096];
    const char *slash = strrchr(draft, '/');
    snprintf(dir, sizeof(dir), "%.*s", (int)(slash - draft), draft);
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return -1;
    return open(draft, flags, 0666);
}

/* 1 if the file was there and has the new line now. */
static int rewrite_file(const char *path, const struct buf *line)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return 0;
    int done = write(fd, line->s, line->len) == (ssize_t)line->len &&
               !ftruncate(fd, (off_t)line->len);
    close(fd);
    return done;
}

static int write_file(const char *path, const char *draft, const struct buf *line)
{
    if (rewrite_file(path, line))
        return 0;
    int fd = open_draft(draft);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, line->s, line->len);
    int r = n == (ssize_t)line->len ? 0 : n < 0 ? -errno : -ENOSPC;
    close(fd);
    if (!r && rename(draft, path) < 0)
        r = -errno;
    if (r)
        unlink(draft);
    return r;
}

void service_setproc(struct service *s, const char *userid, const char *mailbox,
                     const char *command)
{
    static struct xlog_limit limit;
    struct buf line = BUF_INITIALIZER, path = BUF_INITIALIZER, draft = BUF_INITIALIZER;
    field(&line, s->ident, '\t');
    field(&line, s->clienthost, '\t');
    field(&line, userid, '\t');
    field(&line, mailbox, '\t');
    field(&line, command, '\n');
    int r = names(s, &path, &draft);
    if (!r)
        r = write_file(buf_cstring(&path), buf_cstring(&draft), &line);
    if (r && xlog_allowed(&limit, 60))
        xlog_warnx("cannot write %s: %s", buf_cstring(&path), error_message(r));
    buf_free(&line);
    buf_free(&path);
    buf_free(&draft);
}

void service_clearproc(struct service *s)
{
    struct buf path = BUF_INITIALIZER, draft = BUF_INITIALIZER;
    if (!names(s, &path, &draft))
        unlink(buf_cstring(&path));
    buf_free(&path);
    buf_free(&draft);
}
