/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* unit_config - a configuration for a unit test that needs one of its own. */
#include "config.h"

#include <stdio.h>

#include "cunit/unit.h"
#include "cunit/unit_config.h"

struct config *unit_config(const char *dir, const char *lines)
{
    struct buf err = BUF_INITIALIZER;
    struct config *config = NULL;
    char file[512];
    snprintf(file, sizeof(file), "%s/imapd.conf", dir);
    FILE *f = fopen(file, "w");
    CU_ASSERT_FATAL(f != NULL);
    fprintf(f, "configdirectory: %s\n", dir);
    for (; *lines; lines++)
        if (*lines == '~')
            fputs(dir, f);
        else
            fputc(*lines, f);
    fclose(f);
    if (config_open(file, "backupd", &config, &err))
        printf("\n%s\n", buf_cstring(&err));
    CU_ASSERT_PTR_NOT_NULL_FATAL(config);
    buf_free(&err);
    return config;
}
