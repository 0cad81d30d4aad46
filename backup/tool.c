/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* tool - what command line tools do before their work, and after it. */
#include "config.h"

#include <stdio.h>
#include <sysexits.h>

#include "backup/tool.h"
#include "lib/buf.h"
#include "lib/cyrususer.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

static int complain(const struct tool *tool, int r, struct buf *why)
{
    fprintf(stderr, "%s: %s\n", tool->name, buf_cstring(why));
    return r == XERR_DENIED ? EX_USAGE : r == XERR_CONFIG ? EX_CONFIG : EX_TEMPFAIL;
}

static int with_user(const struct tool *tool, const struct config *config)
{
    struct lcb_store *store = NULL;
    struct buf why = BUF_INITIALIZER;
    int code, r = tool->without_store ? 0 : lcb_store_open(config, NULL, &store, &why);
    if (r) {
        xlog_tostderr(NULL); /* where it is said once */
        xlog_errorx("cannot open the store: %s", buf_cstring(&why));
        code = complain(tool, r, &why);
    } else {
        code = tool->work(config, &store, tool->rock);
    }
    lcb_store_close(&store);
    buf_free(&why);
    return code;
}

static int with_config(const struct tool *tool, const struct config *config)
{
    struct buf why = BUF_INITIALIZER;
    xlog_open(tool->name, config_getstring(config, IMAPOPT_SYSLOG_PREFIX),
              config_getstring(config, IMAPOPT_SYSLOG_FACILITY), 0);
    int r = cyrususer_become(config, &why);
    int code = r ? complain(tool, r, &why) : 0;
    buf_free(&why);
    if (!r && tool->to_stderr)
        xlog_tostderr(tool->name);
    if (!r)
        code = with_user(tool, config);
    xlog_close();
    return code;
}

int tool_run(const struct tool *tool)
{
    struct config *config;
    struct buf why = BUF_INITIALIZER;
    int code = EX_CONFIG;
    if (config_open(tool->config, tool->name, &config, &why)) {
        fprintf(stderr, "fatal error: %s\n", buf_cstring(&why));
    } else {
        code = with_config(tool, config);
        config_free(&config);
    }
    buf_free(&why);
    return code;
}
