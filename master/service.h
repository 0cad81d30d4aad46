/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* The runtime of a service under Cyrus master: environment, descriptors 3 and 4, status messages,
 * accept lock, signals, recycling, changed binary. A daemon's main calls service_run(). */
#ifndef MASTER_SERVICE_H
#define MASTER_SERVICE_H

#include "lib/libconfig.h"

struct service {
    struct config *config;
    const char *ident;   /* name of the entry in cyrus.conf */
    int id;              /* CYRUS_ID */
    int listen_unix;     /* 1: UNIX socket, peers are administrators */
    char localaddr[80];  /* of the connection, "addr;port", or "" */
    char remoteaddr[80];
    char clienthost[320]; /* "name [ip]" or "[unix socket]" or "[stdin]" */
    void *rock;          /* the daemon's */
};

struct service_ops {
    const char *program;  /* for messages before the configuration is read */
    const char *options;  /* getopt string of the daemon's own options, e.g. "p:f" */
    /* Once, before the first client; ARGV holds the daemon's own options. 0, or an exit code. */
    int (*init)(struct service *, int argc, char **argv);
    /* One client on FDIN/FDOUT; returns when it is gone. Must poll service_signals(). */
    void (*serve)(struct service *, int fdin, int fdout);
    /* Once, at the end of the process. */
    void (*done)(struct service *);
};

enum service_stop { SERVICE_GO, SERVICE_RECYCLE /* HUP: finish this client */, SERVICE_STOP };

/* The whole life of the process; returns its exit code (sysexits). */
int service_run(int argc, char **argv, const struct service_ops *ops);
/* Has a signal asked for an end? Cheap: call it often. */
enum service_stop service_signals(const struct service *);
/* <proc_path>/<pid>: "service\tclienthost\tuserid\tmailbox\tcommand". NULL counts as "". */
void service_setproc(struct service *, const char *userid, const char *mailbox, const char *command);

#endif
