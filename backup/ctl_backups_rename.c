/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_rename - rename OLD NEW: a user was renamed, and the backup was not told. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_delete.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

static const char *reason(int r)
{
    switch (r) {
    case XERR_NOTFOUND:
        return "not found in backups.db";
    case XERR_EXISTS:
        return "the new user has a backup";
    case XERR_PARAM:
        return "this cannot be a new user id";
    default:
        return ctl_error_text(r);
    }
}

static void print_object(struct ctl *ctl, const char *path, const char *status)
{
    struct ctl_json json;
    json_t *j = json_object();
    json_object_set_new(j, "command", json_string("rename"));
    json_object_set_new(j, "userid", ctl_json_cstring(ctl->argv[0]));
    if (path)
        json_object_set_new(j, "fname", ctl_json_cstring(path));
    json_object_set_new(j, "status", ctl_json_cstring(status));
    json_object_set_new(j, "new_userid", ctl_json_cstring(ctl->argv[1]));
    ctl_json_begin(&json, ctl->opt);
    ctl_json_item(&json, j);
    ctl_json_end(&json);
}

int ctl_rename(struct ctl *ctl)
{
    const char *old = ctl->argv[0], *new_ = ctl->argv[1];
    struct buf status = BUF_INITIALIZER;
    char *path = NULL;
    int r = lcb_rename_user(ctl->store, old, new_, ctl_queue_ms(ctl), &path);
    if (r == XERR_LOCKED)
        buf_setcstr(&status, "locked");
    else if (r)
        buf_printf(&status, "failed (%s)", reason(r));
    else
        buf_setcstr(&status, "ok");
    if (ctl->opt->json)
        print_object(ctl, path, buf_cstring(&status));
    else
        printf("rename %s: %s\n", old, buf_cstring(&status));
    if (r && r != XERR_LOCKED)
        xlog_errorx("rename %s to %s: failed (%s)", old, new_, reason(r));
    buf_free(&status);
    free(path);
    int code = ctl_printed();
    return r ? EX_TEMPFAIL : code;
}
