/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* config_options - the table of options, from config_options.def, and the names of former days. */
#include "config.h"

#include <string.h>

#include "lib/config_options.h"

const struct config_option config_options[IMAPOPT_LAST] = {
    [IMAPOPT_ZERO] = {"", CONFIG_STRING, NULL, NULL, 0},
#define IMAPOPT(id, name, type, def, words, unit)                                                  \
    [IMAPOPT_##id] = {name, CONFIG_##type, def, words, unit},
#include "lib/config_options.def"
#undef IMAPOPT
};

const struct config_deprecation config_deprecations[] = {
    {IMAPOPT_BACKUP_RETENTION_DAYS, "3.2.0", IMAPOPT_BACKUP_RETENTION},
    {IMAPOPT_TLS_CERT_FILE, "2.5.0", IMAPOPT_TLS_SERVER_CERT},
    {IMAPOPT_TLS_KEY_FILE, "2.5.0", IMAPOPT_TLS_SERVER_KEY},
    {IMAPOPT_TLS_CA_FILE, "2.5.0", IMAPOPT_TLS_CLIENT_CA_FILE},
    {IMAPOPT_TLS_CA_PATH, "2.5.0", IMAPOPT_TLS_CLIENT_CA_DIR},
    {IMAPOPT_TLS_CIPHER_LIST, "2.5.0", IMAPOPT_TLS_CIPHERS},
    {IMAPOPT_SRVTAB, "3.12.0", IMAPOPT_ZERO},
    {IMAPOPT_ZERO, NULL, IMAPOPT_ZERO},
};

enum imapopt config_optionbyname(const char *name)
{
    for (int i = IMAPOPT_ZERO + 1; i < IMAPOPT_LAST; i++)
        if (!strcmp(config_options[i].name, name))
            return (enum imapopt)i;
    return IMAPOPT_ZERO;
}
