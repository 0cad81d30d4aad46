/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What the parts of the service runtime share; nobody else includes this. */
#ifndef MASTER_SERVICE_PRIVATE_H
#define MASTER_SERVICE_PRIVATE_H

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "lib/buf.h"
#include "master/service.h"

/* Descriptors that master leaves open in a service, in all versions. */
enum { STATUS_FD = 3, LISTEN_FD = 4 };

/* What the skeleton's own options say (service_options.c). */
struct service_options {
    const char *configfile; /* -C, or NULL */
    int max_uses;           /* -U: connections before the process ends */
    int idle;               /* -T, already randomised; 0: for ever */
    int debugger;           /* -D */
    int interactive;        /* -X */
    int argc;               /* for the daemon: program name and its own options */
    char **argv;            /* points to the words of the original; ends with NULL */
};
/* Split ARGV. OWN is the daemon's getopt string. 0, or EX_USAGE with the reason in ERR. */
int service_options_parse(struct service_options *, int argc, char **argv, const char *own,
                          struct buf *err);
void service_options_fini(struct service_options *);

/* Syslog with prefix and facility of the configuration. */
void service_openlog(const struct config *, const char *ident, int debug);

/* Signals (service_signal.c). */
void service_signal_install(void);
/* The signals that end a wait, for a mask that is lifted only while waiting. */
void service_signal_set(sigset_t *set);
/* While WAITING a signal rings again every second, so that none is lost just before a system call
 * that has no mask of its own. */
void service_signal_waiting(int waiting);
/* 1 if the alarm rang since the last call of service_signal_alarm. */
int service_signal_rang(void);
/* Forget the alarm that rang and set a new one; 0: none. */
void service_signal_alarm(int seconds);
/* Log once why the process stops. */
void service_signal_logstop(void);

/* Sockets (service_socket.c). */
struct service_listener {
    int fd;
    int type;   /* SOCK_STREAM, SOCK_DGRAM */
    int family; /* AF_INET, AF_INET6, AF_UNIX */
};
/* Learn what FD is; close-on-exec. 0 or -errno. */
int service_listener_open(struct service_listener *, int fd);
/* Accept what is waiting. A descriptor (for datagrams a duplicate of the listener); -EAGAIN if the
 * peer is gone again or somebody else has it; another -errno if the listener is unusable. */
int service_accept(const struct service_listener *);
/* Fill in addresses and clienthost of the connection. */
void service_addresses(struct service *, const struct service_listener *, int fd);
void service_keepalive(const struct config *, int fd);

/* Proc files (service_proc.c). Directory of the proc files to BUF: 0 or XERR_CONFIG. */
int service_procdir(const struct config *, struct buf *dir);
void service_clearproc(struct service *);

#endif
