/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* prot_fd - the lowest layer of a stream: a descriptor, and all the waiting there is.
 *
 * A descriptor may be shared with other processes (standard input of a terminal, say), so its flags
 * are left alone. Sockets are tried without blocking first, which costs no extra system call while
 * data flows; only when there is nothing do we wait in poll(2). Pipes and terminals are asked by
 * poll first and written in pieces that a ready pipe takes without blocking. Files never wait.
 *
 * Waiting is one loop: flush the writing stream of the connection (the client may wait for our
 * answer before it goes on), call the callback, poll until the next tick. A signal interrupts poll
 * and so leads to the callback at once; one that arrives just before poll is seen a tick later. */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/prot_layer.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

enum fdkind { FD_FILE, FD_SOCKET, FD_OTHER };

/* A pipe that polls writable takes this much (PIPE_BUF of POSIX at Linux). */
#define PIECE 4096

struct fdlayer {
    struct prot_layer l;
    int fd;
    enum fdkind kind;
    const struct prot_wait *wait;
};

int64_t prot_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* When waiting that begins now ends, or INT64_MAX. */
static int64_t wait_end(const struct prot_wait *w, int64_t now)
{
    int64_t end = w->timeout > 0 ? now + (int64_t)w->timeout * 1000 : INT64_MAX;
    return w->deadline && w->deadline < end ? w->deadline : end;
}

/* Wait for EVENTS: 0 or an error. */
static int wait_for(struct fdlayer *f, short events)
{
    const struct prot_wait *w = f->wait;
    int64_t now = prot_now(), end = wait_end(w, now);
    if (w->peer)
        (void)prot_flush(w->peer); /* its error stays in the peer; what was received still counts */
    for (;;) {
        if (w->fn && w->fn(w->rock))
            return XERR_SIGNAL;
        int64_t ms = w->tick > 0 ? w->tick : 60000;
        if (end - now < ms)
            ms = end - now;
        struct pollfd p = {f->fd, events, 0};
        int r = poll(&p, 1, ms > 0 ? (int)ms : 0);
        if (r > 0)
            return 0;
        if (r < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        now = prot_now();
        if (now >= end)
            return XERR_TIMEOUT;
    }
}

static int would_wait(int err)
{
    return err == EAGAIN || err == EWOULDBLOCK;
}

static ssize_t fd_read(struct prot_layer *l, void *p, size_t n)
{
    struct fdlayer *f = (struct fdlayer *)l;
    int wait = f->kind == FD_OTHER;
    for (;;) {
        if (wait) {
            int r = wait_for(f, POLLIN);
            if (r)
                return r;
        }
        ssize_t got = f->kind == FD_SOCKET ? recv(f->fd, p, n, MSG_DONTWAIT) : read(f->fd, p, n);
        if (got >= 0)
            return got;
        if (errno != EINTR && !would_wait(errno))
            return -errno;
        wait = would_wait(errno) || f->kind == FD_OTHER;
    }
}

static int fd_write(struct prot_layer *l, const void *p, size_t n)
{
    struct fdlayer *f = (struct fdlayer *)l;
    const char *s = p;
    int wait = f->kind == FD_OTHER;
    while (n) {
        if (wait) {
            int r = wait_for(f, POLLOUT);
            if (r)
                return r;
        }
        size_t piece = f->kind == FD_OTHER && n > PIECE ? PIECE : n;
        ssize_t put = f->kind == FD_SOCKET ? send(f->fd, s, piece, MSG_DONTWAIT | MSG_NOSIGNAL)
                                           : write(f->fd, s, piece);
        if (put < 0 && errno != EINTR && !would_wait(errno))
            return -errno;
        wait = f->kind == FD_OTHER || (put < 0 && would_wait(errno));
        if (put > 0) {
            s += put;
            n -= (size_t)put;
        }
    }
    return 0;
}

static int fd_pending(struct prot_layer *l)
{
    struct fdlayer *f = (struct fdlayer *)l;
    struct pollfd p = {f->fd, POLLIN, 0};
    return poll(&p, 1, 0) > 0;
}

static void fd_free(struct prot_layer *l)
{
    free(l);
}

struct prot_layer *prot_fdlayer(int fd, const struct prot_wait *wait)
{
    struct fdlayer *f = xzmalloc(sizeof(*f));
    struct stat sb;
    f->l.rank = PROT_RANK_SOURCE;
    f->l.read = fd_read;
    f->l.write = fd_write;
    f->l.pending = fd_pending;
    f->l.free = fd_free;
    f->fd = fd;
    f->wait = wait;
    f->kind = FD_OTHER;
    if (!fstat(fd, &sb))
        f->kind = S_ISSOCK(sb.st_mode) ? FD_SOCKET : S_ISREG(sb.st_mode) ? FD_FILE : FD_OTHER;
    return &f->l;
}
