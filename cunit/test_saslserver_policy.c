/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/saslserver_policy: canonical ids, lists of users, permission. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "cunit/unit.h"
#include "cunit/unit_config.h"
#include "lib/saslserver_policy.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

static void quiet(int priority, const char *text)
{
    (void)priority;
    (void)text;
}

static void check_canonical(const struct config *config, const char *in, const char *expected)
{
    char out[128] = "";
    int n = sasl_policy_canonify(config, "127.0.0.1;2005", in, strlen(in), out, sizeof(out));
    if (!expected) {
        CU_ASSERT_EQUAL(n, XERR_SYNTAX);
        return;
    }
    UNIT_STR(out, expected);
    CU_ASSERT_EQUAL(n, (int)strlen(expected));
}

static void test_canonify(void)
{
    char out[128], longid[82];
    struct config *config = unit_config(unit_tmpdir(), "");
    check_canonical(config, "Cyrus", "cyrus");
    check_canonical(config, "j.o'hara+x=y-z_1", "j.o'hara+x=y-z_1");
    check_canonical(config, "a@Example.Org", "a@example.org");
    check_canonical(config, "a@internal", "a@internal");
    static const char *const bad[] = {"",     "a%b",   "a/b",       "a*",     "a?",     "a&b",
                                      "a:b",  "a\tb",  "a\x7f",     "a\xc3",  "Anyone", "anybody",
                                      "@x.y", "a\nb",  "anonymous",
                                      " a",   "a ",    " ",         " anyone"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_canonical(config, bad[i], NULL);
    CU_ASSERT_EQUAL(sasl_policy_canonify(config, NULL, "a\0b", 3, out, sizeof(out)), XERR_SYNTAX);
    memset(longid, 'a', sizeof(longid));
    CU_ASSERT_EQUAL(sasl_policy_canonify(config, NULL, longid, 80, out, sizeof(out)), 80);
    CU_ASSERT_EQUAL(sasl_policy_canonify(config, NULL, longid, 81, out, sizeof(out)), XERR_TOOBIG);
    CU_ASSERT_EQUAL(sasl_policy_canonify(config, NULL, longid, 80, out, 80), XERR_TOOBIG);
    config_free(&config);
    config = unit_config(unit_tmpdir(), "username_tolower: no\n");
    check_canonical(config, "Cyrus", "Cyrus");
    config_free(&config);
    config = unit_config(unit_tmpdir(), "virtdomains: userid\ndefaultdomain: example.org\n");
    check_canonical(config, "a@example.org", "a");
    check_canonical(config, "a%Example.ORG", "a");
    check_canonical(config, "a%other.net", "a@other.net");
    check_canonical(config, "a%b@other.net", NULL);
    check_canonical(config, "a@", "a");
    check_canonical(config, "@other.net", NULL);
    check_canonical(config, "a", "a");
    config_free(&config);
}

static void test_membership(void)
{
    struct config *config = unit_config(unit_tmpdir(), "admins: cyrus  backup group:root\n"
                                                     "proxyservers: anyone\n");
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_ADMINS, "cyrus"), 1);
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_ADMINS, "backup"), 1);
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_ADMINS, "root"), 1);
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_ADMINS, "Cyrus"), 0);
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_ADMINS, "cyru"), 0);
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_ADMINS, "nobody"), 0);
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_ADMINS, "group:root"), 0);
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_PROXYSERVERS, "whoever"), 1);
    config_free(&config);
    config = unit_config(unit_tmpdir(), "admins: group:root\nunix_group_enable: no\n");
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_ADMINS, "root"), 0);
    CU_ASSERT_EQUAL(sasl_policy_isin(config, IMAPOPT_PROXYSERVERS, "root"), 0);
    config_free(&config);
}

static int authorize(const struct config *config, const char *authid, const char *authzid)
{
    struct buf why = BUF_INITIALIZER;
    int r = sasl_policy_authorize(config, authid, authzid, &why);
    CU_ASSERT_EQUAL(why.len > 0, r != 0);
    buf_free(&why);
    return r;
}

static void test_authorize(void)
{
    const char *dir = unit_tmpdir();
    char path[512];
    struct config *config = unit_config(dir, "admins: cyrus root@good.org\nproxyservers: proxy\n"
                                           "loginrealms: good.org better.org\n");
    CU_ASSERT_EQUAL(authorize(config, "alice", "alice"), 0);
    CU_ASSERT_EQUAL(authorize(config, "alice", "bob"), XERR_DENIED);
    CU_ASSERT_EQUAL(authorize(config, "cyrus", "bob"), 0);
    CU_ASSERT_EQUAL(authorize(config, "proxy", "bob"), 0);
    CU_ASSERT_EQUAL(authorize(config, "a@good.org", "a@good.org"), 0);
    CU_ASSERT_EQUAL(authorize(config, "a@better.org", "a@better.org"), 0);
    CU_ASSERT_EQUAL(authorize(config, "a@bad.org", "a@bad.org"), XERR_DENIED);
    CU_ASSERT_EQUAL(authorize(config, "a@good", "a@good"), XERR_DENIED);
    /* The denial list. */
    snprintf(path, sizeof(path), "%s/user_deny.db", dir);
    FILE *f = fopen(path, "w");
    CU_ASSERT_FATAL(f != NULL);
    fputs("alice\t2\timap,pop3\tno\nbob\t2\timap,back*\tno\ncarol\t2\t*,!backupd\tno\n"
          "cyrus\t2\t*\tno\ndave\t9\n", f);
    fclose(f);
    CU_ASSERT_EQUAL(authorize(config, "alice", "alice"), 0);
    CU_ASSERT_EQUAL(authorize(config, "bob", "bob"), XERR_DENIED);
    CU_ASSERT_EQUAL(authorize(config, "carol", "carol"), 0);
    CU_ASSERT_EQUAL(authorize(config, "cyrus", "cyrus"), 0);
    xlog_sethook(quiet);
    CU_ASSERT_EQUAL(authorize(config, "dave", "dave"), XERR_DENIED);
    CU_ASSERT_EQUAL(authorize(config, "bo", "bo"), 0);
    config_free(&config);
    config = unit_config(dir, "userdeny_db: twoskip\n");
    CU_ASSERT_EQUAL(authorize(config, "alice", "alice"), XERR_DENIED);
    xlog_sethook(NULL);
    config_free(&config);
}

void suite_saslserver_policy(void);
void suite_saslserver_policy(void)
{
    static const struct unit_test tests[] = {
        {"canonify", test_canonify},
        {"membership", test_membership},
        {"authorize", test_authorize},
        {NULL, NULL},
    };
    unit_suite("saslserver_policy", tests);
}
