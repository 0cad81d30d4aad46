/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* One connection to backupd, from the greeting to the end: everything but GET and APPLY. */
#ifndef BACKUP_BACKUPD_SESSION_H
#define BACKUP_BACKUPD_SESSION_H

#include <stdint.h>

#include "backup/backupd_command.h"
#include "lib/prot_tls.h"
#include "lib/saslserver.h"
#include "master/service.h"

/* What is the same for all connections of a process. */
struct backupd_setup {
    int tls_wanted;         /* STARTTLS is to be offered */
    struct tls_server *tls; /* NULL if that could not be set up */
    int ssf;                /* option -p: strength of a layer that somebody else provides */
};

/* Serve one client; returns when it is gone. */
void backupd_session(struct service *, const struct backupd_setup *, int fdin, int fdout);

/* ---- Between backupd_session.c and backupd_login.c ---- */

struct session {
    struct service *service;
    const struct config *config;
    const struct backupd_setup *setup;
    struct protstream *in, *out;
    struct dlist_pool *pool;
    struct dlist_reader reader;
    struct saslserver *sasl; /* NULL at UNIX sockets */
    struct tls_info tls;     /* of the layer */
    int tls_active;
    int logged_in;
    struct backupd *backupd; /* once logged in */
    int telemetry;           /* descriptor or -1 */
    int idle;                /* waiting for a command to begin */
    int64_t stop_since;      /* ms: when the request to stop was first seen; 0: none */
};

/* Monotonic milliseconds. */
int64_t session_now(void);
/* One reply line. */
void session_reply(struct session *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Skip what is left of the command, then reply. */
enum backupd_next session_refuse(struct session *, const char *text);
/* "* Fatal error", to client and syslog. */
enum backupd_next session_fatal(struct session *, const char *text);
/* The reader begins anew at what the stream has next. */
void session_reset_reader(struct session *);
/* Capabilities and name. */
void session_greet(struct session *);

/* A peer at a UNIX socket is the administrator cyrus; others get a SASL context. 0 or an error,
 * which has been reported. */
int login_begin(struct session *);
void login_end(struct session *);
/* Mechanisms that a client may use now; "" if none. */
const char *login_mechs(struct session *);
enum backupd_next login_authenticate(struct session *);
enum backupd_next login_starttls(struct session *);

#endif
