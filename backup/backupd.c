/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd - the backup server: receives csync replication and keeps it.
 *
 * A service of Cyrus master, e.g. in cyrus.conf:
 *
 *     backupd  cmd="backupd"  listen="csync"  prefork=0
 *
 * Options besides those of every service (-C -U -T -D -X):
 *     -p ssf   the connection is protected by somebody else, with this strength
 *     -f       accepted, without effect
 *
 * Exit codes are those of sysexits.h. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "backup/backupd_command.h"
#include "backup/backupd_session.h"
#include "lib/sqldb.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

static int read_options(struct backupd_setup *setup, int argc, char **argv)
{
    int opt;
    optind = 1;
    while ((opt = getopt(argc, argv, "p:f")) != -1) {
        char *end;
        if (opt == 'f')
            continue;
        errno = 0;
        long n = opt == 'p' ? strtol(optarg, &end, 10) : -1;
        if (n < 0 || n > INT_MAX || errno || end == optarg || *end) {
            xlog_fatalx("usage: backupd [-C file] [-U uses] [-T seconds] [-D] [-p ssf]");
            return EX_USAGE;
        }
        setup->ssf = (int)n;
    }
    return 0;
}

/* Certificates are loaded now, so that trouble with them is known before a client asks. It does not
 * keep the service from starting: others may come by other ways. */
static void prepare_tls(const struct config *config, struct backupd_setup *setup)
{
    struct buf err = BUF_INITIALIZER;
    if (!tls_enabled(config))
        return;
    if (config_isset(config, IMAPOPT_ALLOWSTARTTLS) &&
        !config_getswitch(config, IMAPOPT_ALLOWSTARTTLS))
        return;
    setup->tls_wanted = 1;
    if (tls_server_new(config, "csync", &setup->tls, &err))
        xlog_errorx("TLS cannot be offered: %s", buf_cstring(&err));
    buf_free(&err);
}

/* What nobody could work with: better known at the start than to each client. */
static int check_config(const struct config *config)
{
    struct buf err = BUF_INITIALIZER;
    int r = backupd_check(config, &err);
    if (r) {
        fprintf(stderr, "fatal error: %s\n", buf_cstring(&err));
        xlog_fatalx("%s", buf_cstring(&err));
    }
    buf_free(&err);
    return r ? EX_CONFIG : 0;
}

static int init(struct service *service, int argc, char **argv)
{
    struct backupd_setup *setup = xzmalloc(sizeof(*setup));
    int code = read_options(setup, argc, argv);
    if (!code)
        code = check_config(service->config);
    if (code) {
        free(setup);
        return code;
    }
    prepare_tls(service->config, setup);
    sqldb_setup();
#ifdef M_MMAP_THRESHOLD
    /* Large blocks go back to the system when they are freed. (Left alone, glibc raises the limit
     * after the first one, and keeps them.) */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    /* Small ones stay: every connection needs as much as the last one. */
    mallopt(M_TRIM_THRESHOLD, 1 << 20);
#endif
    service->rock = setup;
    return 0;
}

static void serve(struct service *service, int fdin, int fdout)
{
    backupd_session(service, service->rock, fdin, fdout);
}

static void done(struct service *service)
{
    struct backupd_setup *setup = service->rock;
    tls_server_free(&setup->tls);
    free(setup);
}

int main(int argc, char **argv)
{
    static const struct service_ops ops = {
        .program = "backupd",
        .options = "p:f",
        .init = init,
        .serve = serve,
        .done = done,
    };
    return service_run(argc, argv, &ops);
}
