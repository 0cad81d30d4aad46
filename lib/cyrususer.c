/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyrususer - become the Cyrus user.
 *
 * Nothing of ours needs root. A process that root started by hand must not leave files that the
 * daemon cannot open later, so it changes over before it touches any. */
#include "config.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/cyrususer.h"
#include "lib/xerr.h"

static const char *setting(const struct config *config, const char *env, enum imapopt opt)
{
    const char *s = getenv(env);
    return s && *s ? s : config_getstring(config, opt);
}

const char *cyrususer_name(const struct config *config)
{
    const char *s = setting(config, "CYRUS_USER", IMAPOPT_CYRUS_USER);
    return s ? s : CYRUS_USER;
}

static int change(const char *user, uid_t uid, gid_t gid, struct buf *err)
{
    if (setgid(gid) < 0 || initgroups(user, gid) < 0 || setuid(uid) < 0) {
        int e = errno;
        buf_printf(err, "cannot become the Cyrus user %s: %s", user, strerror(e));
        return -e;
    }
    if (uid && !setuid(0)) {
        buf_printf(err, "cannot give up root for good");
        return XERR_INTERNAL;
    }
    return 0;
}

int cyrususer_become(const struct config *config, struct buf *err)
{
    const char *user = cyrususer_name(config);
    buf_reset(err);
    const struct passwd *pw = getpwnam(user);
    if (!pw) {
        buf_printf(err, "no such user: %s (option cyrus_user)", user);
        return XERR_CONFIG;
    }
    uid_t uid = pw->pw_uid;
    gid_t gid = pw->pw_gid;
    if (geteuid() == uid)
        return 0;
    if (geteuid() != 0) {
        buf_printf(err, "must run as the Cyrus user %s", user);
        return XERR_DENIED;
    }
    const char *group = setting(config, "CYRUS_GROUP", IMAPOPT_CYRUS_GROUP);
    if (group) {
        const struct group *gr = getgrnam(group);
        if (!gr) {
            buf_printf(err, "no such group: %s (option cyrus_group)", group);
            return XERR_CONFIG;
        }
        gid = gr->gr_gid;
    }
    return change(user, uid, gid, err);
}
