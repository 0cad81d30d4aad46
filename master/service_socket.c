/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* service_socket - the listening socket that master made, and who is at the other end of a
 * connection. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/xlog.h"
#include "master/service_private.h"

union address {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

int service_listener_open(struct service_listener *l, int fd)
{
    union address a;
    socklen_t len = sizeof(l->type);
    l->fd = fd;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &l->type, &len) < 0)
        return -errno;
    len = sizeof(a);
    if (getsockname(fd, &a.sa, &len) < 0)
        return -errno;
    l->family = a.sa.sa_family;
    /* A peer may vanish between poll and accept; accept must not hang then with the lock held. */
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

/* Errors of accept() that say something about one connection, not about the listener. */
static int is_transient(int e)
{
    switch (e) {
    case EINTR:
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
    case ECONNABORTED:
    case ECONNRESET:
    case EPROTO:
    case EPERM: /* a firewall's */
    case ETIMEDOUT:
    case ENETDOWN:
    case ENETUNREACH:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case EOPNOTSUPP:
        return 1;
    default:
        return 0;
    }
}

int service_accept(const struct service_listener *l)
{
    int fd;
    if (l->type == SOCK_STREAM)
        fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
    else
        fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 5);
    if (fd >= 0)
        return fd;
    return is_transient(errno) ? -EAGAIN : -errno;
}

/* An IPv4 peer of an IPv6 socket is an IPv4 peer. */
static void unmap(union address *a, socklen_t *len)
{
    if (a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
        return;
    struct sockaddr_in in;
    memset(&in, 0, sizeof(in));
    in.sin_family = AF_INET;
    in.sin_port = a->in6.sin6_port;
    memcpy(&in.sin_addr, a->in6.sin6_addr.s6_addr + 12, 4);
    a->in = in;
    *len = sizeof(in);
}

/* "addr;port", the form that SASL wants. */
static void numeric(const union address *a, socklen_t len, char *out, size_t size)
{
    char host[64], port[16];
    out[0] = '\0';
    if (!getnameinfo(&a->sa, len, host, sizeof(host), port, sizeof(port),
                     NI_NUMERICHOST | NI_NUMERICSERV))
        snprintf(out, size, "%s;%s", host, port);
}

static int same_host(const struct sockaddr *x, const union address *a)
{
    if (x->sa_family != a->sa.sa_family)
        return 0;
    if (x->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, x, sizeof(in));
        return in.sin_addr.s_addr == a->in.sin_addr.s_addr;
    }
    struct sockaddr_in6 in6;
    memcpy(&in6, x, sizeof(in6));
    return !memcmp(&in6.sin6_addr, &a->in6.sin6_addr, sizeof(in6.sin6_addr));
}

/* Does looking NAME up lead back to A? Anybody can claim any name for his own address. */
static int is_confirmed(const char *name, const union address *a)
{
    struct addrinfo hints, *all = NULL;
    memset(&hints, 0, sizeof(hints));
    hints.ai_family = a->sa.sa_family;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(name, NULL, &hints, &all))
        return 0;
    int found = 0;
    for (struct addrinfo *ai = all; ai && !found; ai = ai->ai_next)
        found = same_host(ai->ai_addr, a);
    freeaddrinfo(all);
    return found;
}

static int is_hostname(const char *name)
{
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-._", *p))
            return 0;
    return *name != '\0';
}

/* "name [ip]", or "[ip]" when there is no name that can be trusted. */
static void client_host(const union address *a, socklen_t len, char *out, size_t size)
{
    char name[250], ip[64];
    if (getnameinfo(&a->sa, len, ip, sizeof(ip), NULL, 0, NI_NUMERICHOST))
        snprintf(ip, sizeof(ip), "unknown");
    if (!getnameinfo(&a->sa, len, name, sizeof(name), NULL, 0, NI_NAMEREQD) && is_hostname(name) &&
        is_confirmed(name, a))
        snprintf(out, size, "%s [%s]", name, ip);
    else
        snprintf(out, size, "[%s]", ip);
}

/* Address of the sender of a datagram is in the datagram. */
static int peer(const struct service_listener *l, int fd, union address *a, socklen_t *len)
{
    char byte;
    if (l->type == SOCK_STREAM)
        return getpeername(fd, &a->sa, len);
    return recvfrom(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, &a->sa, len) < 0 ? -1 : 0;
}

void service_addresses(struct service *s, const struct service_listener *l, int fd)
{
    union address a;
    socklen_t len = sizeof(a);
    s->localaddr[0] = s->remoteaddr[0] = '\0';
    if (l->family == AF_UNIX) {
        snprintf(s->clienthost, sizeof(s->clienthost), "[unix socket]");
        return;
    }
    snprintf(s->clienthost, sizeof(s->clienthost), "[unknown]");
    if (!getsockname(fd, &a.sa, &len)) {
        unmap(&a, &len);
        numeric(&a, len, s->localaddr, sizeof(s->localaddr));
    }
    len = sizeof(a);
    if (!peer(l, fd, &a, &len)) {
        unmap(&a, &len);
        numeric(&a, len, s->remoteaddr, sizeof(s->remoteaddr));
        client_host(&a, len, s->clienthost, sizeof(s->clienthost));
    }
}

static void set(int fd, int level, int name, const char *what, int64_t value)
{
    int v = value > 32767 ? 32767 : (int)value;
    if (value > 0 && setsockopt(fd, level, name, &v, sizeof(v)) < 0)
        xlog_warn("cannot set %s on the connection", what);
}

void service_keepalive(const struct config *config, int fd)
{
    if (!config_getswitch(config, IMAPOPT_TCP_KEEPALIVE))
        return;
    set(fd, SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE", 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE",
        config_getduration(config, IMAPOPT_TCP_KEEPALIVE_IDLE));
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL",
        config_getduration(config, IMAPOPT_TCP_KEEPALIVE_INTVL));
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT",
        config_getint(config, IMAPOPT_TCP_KEEPALIVE_CNT));
}
