/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/libconfig and its parts. */
#include "config.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/config_options.h"
#include "lib/config_parse.h"
#include "lib/libconfig.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

static char dir[PATH_MAX];

static void enter_dir(void)
{
    snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
}

static void write_file(const char *name, const char *text, size_t n)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(fwrite(text, 1, n, f), n);
    fclose(f);
}

/* Write TEXT, with every % in it replaced by the test's directory, as file NAME. */
static void write_text(const char *name, const char *text)
{
    struct buf b = BUF_INITIALIZER;
    for (; *text; text++)
        if (*text == '%')
            buf_appendcstr(&b, dir);
        else
            buf_putc(&b, *text);
    buf_cstring(&b);
    write_file(name, b.s, b.len);
    buf_free(&b);
}

/* Open file "c" of the test's directory; the error text without the directory goes to ERR. */
static struct config *open_ident(const char *ident, struct buf *err)
{
    char path[PATH_MAX + 64];
    struct buf full = BUF_INITIALIZER;
    struct config *c;
    mode_t mask = umask(022);
    snprintf(path, sizeof(path), "%s/c", dir);
    int r = config_open(path, ident, &c, &full);
    umask(mask);
    CU_ASSERT_EQUAL(r, c ? 0 : XERR_CONFIG);
    CU_ASSERT_EQUAL(full.len == 0, c != NULL);
    buf_reset(err);
    const char *p = buf_cstring(&full), *hit;
    for (; (hit = strstr(p, dir)); p = hit + strlen(dir))
        buf_printf(err, "%.*s%%", (int)(hit - p), p);
    buf_appendcstr(err, p);
    buf_free(&full);
    return c;
}

/* A configuration of a configdirectory and TEXT, which must be good. */
static struct config *good(const char *text, const char *ident)
{
    struct buf err = BUF_INITIALIZER;
    struct buf all = BUF_INITIALIZER;
    enter_dir();
    buf_printf(&all, "configdirectory: /conf\n%s", text);
    write_text("c", buf_cstring(&all));
    struct config *c = open_ident(ident, &err);
    UNIT_STR(buf_cstring(&err), "");
    buf_free(&err);
    buf_free(&all);
    if (!c)
        CU_FAIL_FATAL("a good configuration was refused");
    return c;
}

/* The error text for TEXT below a line with configdirectory. */
static void expect_error(const char *text, const char *expected)
{
    struct buf err = BUF_INITIALIZER;
    struct buf all = BUF_INITIALIZER;
    enter_dir();
    buf_printf(&all, "configdirectory: /conf\n%s", text);
    write_text("c", buf_cstring(&all));
    struct config *c = open_ident("backupd", &err);
    UNIT_STR(buf_cstring(&err), expected);
    config_free(&c);
    buf_free(&err);
    buf_free(&all);
}

static void test_defaults(void)
{
    struct config *c = good("", "backupd");
    UNIT_STR(config_getstring(c, IMAPOPT_CONFIGDIRECTORY), "/conf");
    UNIT_STR(config_getstring(c, IMAPOPT_BACKUP_DB_PATH), "/conf/backups.db");
    UNIT_STR(config_getstring(c, IMAPOPT_PROC_PATH), "/conf/proc");
    UNIT_STR(config_getstring(c, IMAPOPT_TEMP_PATH), "/tmp");
    UNIT_STR(config_getstring(c, IMAPOPT_ADMINS), "");
    CU_ASSERT_PTR_NULL(config_getstring(c, IMAPOPT_TLS_SERVER_CERT));
    CU_ASSERT_EQUAL(config_getduration(c, IMAPOPT_BACKUP_RETENTION), 7 * 86400);
    CU_ASSERT_EQUAL(config_getduration(c, IMAPOPT_SYNC_TIMEOUT), 1800);
    CU_ASSERT_EQUAL(config_getduration(c, IMAPOPT_TLS_SESSION_TIMEOUT), 86400);
    CU_ASSERT_EQUAL(config_getbytesize(c, IMAPOPT_BACKUP_CHUNK_SIZE), 1048576);
    CU_ASSERT_EQUAL(config_getbytesize(c, IMAPOPT_MAXWORD), 131072);
    CU_ASSERT_EQUAL(config_getint(c, IMAPOPT_BACKUP_COMPRESSION_LEVEL), 5);
    CU_ASSERT_EQUAL(config_getswitch(c, IMAPOPT_ALLOWPLAINTEXT), 0);
    CU_ASSERT_EQUAL(config_getswitch(c, IMAPOPT_UNIXHIERARCHYSEP), 1);
    CU_ASSERT_EQUAL(config_getenum(c, IMAPOPT_VIRTDOMAINS), 0);
    CU_ASSERT_EQUAL(config_getenum(c, IMAPOPT_TLS_CLIENT_CERTS), 1);
    CU_ASSERT_EQUAL(config_getenum(c, IMAPOPT_PARTITION_SELECT_MODE), 1);
    CU_ASSERT_EQUAL(config_isset(c, IMAPOPT_CONFIGDIRECTORY), 1);
    CU_ASSERT_EQUAL(config_isset(c, IMAPOPT_TEMP_PATH), 0);
    UNIT_STR(config_ident(c), "backupd");
    CU_ASSERT(*config_servername(c) != '\0');
    config_free(&c);
    CU_ASSERT_PTR_NULL(c);
    config_free(&c);
}

/* The table itself: names in shape, no name twice, every successor of the same type. */
static void test_table(void)
{
    for (int i = 1; i < IMAPOPT_LAST; i++) {
        const struct config_option *o = &config_options[i];
        CU_ASSERT_EQUAL(strspn(o->name, "abcdefghijklmnopqrstuvwxyz_"), strlen(o->name));
        CU_ASSERT_EQUAL(config_optionbyname(o->name), i);
        int listed = o->type == CONFIG_ENUM || o->type == CONFIG_STRINGLIST;
        CU_ASSERT_EQUAL(o->words != NULL, listed);
        CU_ASSERT_EQUAL(o->unit != 0, o->type == CONFIG_DURATION || o->type == CONFIG_BYTESIZE);
        CU_ASSERT(o->def || o->type == CONFIG_STRING || i == IMAPOPT_BACKUP_RETENTION_DAYS);
    }
    for (const struct config_deprecation *d = config_deprecations; d->old; d++)
        if (d->use)
            CU_ASSERT_EQUAL(config_options[d->old].type, config_options[d->use].type);
    CU_ASSERT_EQUAL(config_optionbyname("nosuch"), IMAPOPT_ZERO);
    CU_ASSERT_EQUAL(config_optionbyname(""), IMAPOPT_ZERO);
}

static void test_syntax(void)
{
    struct config *c = good("# comment: with colon\n"
                            "   # indented\r\n"
                            "\n \t\n"
                            "  AdMins  :  root # cyrus \t\r\n"
                            "syslog_prefix:one \\\n  two\\\n\n"
                            "# a comment goes on \\\ndebug: yes\n"
                            "temp_path: \"/quoted: path\"\n"
                            "sasl_x-1: a:b",
                            "backupd");
    UNIT_STR(config_getstring(c, IMAPOPT_ADMINS), "root # cyrus");
    UNIT_STR(config_getstring(c, IMAPOPT_SYSLOG_PREFIX), "one   two");
    CU_ASSERT_EQUAL(config_getswitch(c, IMAPOPT_DEBUG), 0);
    UNIT_STR(config_getstring(c, IMAPOPT_TEMP_PATH), "\"/quoted: path\"");
    UNIT_STR(config_getoverflowstring(c, "sasl_x-1", NULL), "a:b");
    config_free(&c);
    c = good("servername: last line \\", "backupd");
    UNIT_STR(config_servername(c), "last line");
    config_free(&c);
}

static void test_syntax_errors(void)
{
    expect_error("debug\n", "%/c, line 2: 'debug' is not of the form 'option: value'");
    expect_error("\n\nde bug: 1\n", "%/c, line 4: 'de bug' cannot be the name of an option");
    expect_error(": 1\n", "%/c, line 2: '' cannot be the name of an option");
    expect_error("d\xc3\xa4: 1\n", "%/c, line 2: 'd\xc3\xa4' cannot be the name of an option");
    expect_error("debug: \n", "%/c, line 2: option 'debug' has no value");
    expect_error("sasl_foo:", "%/c, line 2: option 'sasl_foo' has no value");
    expect_error("#x\\\n\\\n\nFoo:\n", "%/c, line 5: option 'foo' has no value");
    expect_error("debug: \\\n\\\n\n", "%/c, line 2: option 'debug' has no value");
    expect_error("@incl: x\n", "%/c, line 2: unknown directive '@incl'");
    expect_error("debug: 1\nDEBUG: 1\n",
                 "%/c, line 3: option 'debug' is set twice (first in %/c, line 2)");
    expect_error("x: 1\n\nx: 1\n", "%/c, line 4: option 'x' is set twice (first in %/c, line 2)");
    expect_error("backupd_debug: 1\nbackupd_debug: 1\n",
                 "%/c, line 3: option 'backupd_debug' is set twice (first in %/c, line 2)");
    enter_dir();
    write_file("c", "configdirectory: /a\0b\n", 22);
    struct buf err = BUF_INITIALIZER;
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err), "%/c, line 1: a NUL byte; this is not a configuration file");
    buf_free(&err);
}

static void test_bad_values(void)
{
    expect_error("debug: Yes\n", "%/c, line 2: option 'debug' is 'Yes', but must be yes or no");
    expect_error("sync_batchsize: 12 x\n",
                 "%/c, line 2: option 'sync_batchsize' is '12 x', but must be a whole number");
    expect_error("virtdomains: On\n",
                 "%/c, line 2: option 'virtdomains' is 'On', but must be one of: off userid on");
    expect_error("tls_client_certs: yes\n", "%/c, line 2: option 'tls_client_certs' is 'yes', but "
                                            "must be one of: off optional require");
    expect_error("prometheus_need_auth: Admin\n", "%/c, line 2: option 'prometheus_need_auth' is "
                                                  "'Admin', but must be one of: none user admin");
    expect_error("backup_retention: 7D\n", "%/c, line 2: option 'backup_retention' is '7D', but "
                                           "must be a duration such as 90s, 15m or 1d12h");
    expect_error("backupd_maxword: 1T\n", "%/c, line 2: option 'backupd_maxword' is '1T', but must "
                                          "be a size such as 4096, 512K or 4 MiB");
    /* A bad value is refused even where another one overrides it. */
    expect_error("backupd_debug: 1\ndebug: x\n",
                 "%/c, line 3: option 'debug' is 'x', but must be yes or no");
    expect_error("umask: 089\n",
                 "%/c, line 2: option 'umask' is '089', but must be an octal number such as 077");
    expect_error("backup_compression_level: 13\n", "%/c, line 2: option 'backup_compression_level' "
                                                   "is '13', but must be between 1 and 12");
    expect_error("backup_chunk_size: 1G\n", "%/c, line 2: option 'backup_chunk_size' is '1G', but "
                                            "must be between 16K and 16M");
    expect_error("backup_lock_wait: -1\n", "%/c, line 2: option 'backup_lock_wait' is '-1', but "
                                           "must be between 0 and 1d");
    expect_error("backup_maintenance_wait: 2d\n", "%/c, line 2: option 'backup_maintenance_wait' is "
                                                   "'2d', but must be between 0 and 1d");
    expect_error("proc_path: proc\n", "%/c, line 2: option 'proc_path' is 'proc', but must be an "
                                      "absolute path, and not /");
    expect_error("defaultpartition: a-b\n", "%/c, line 2: option 'defaultpartition' is 'a-b', but "
                                            "must be letters and digits only");
}

static void test_configdirectory(void)
{
    struct buf err = BUF_INITIALIZER;
    enter_dir();
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err), "can't open configuration file %/c: No such file or directory");
    write_text("c", "");
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err), "%/c: option 'configdirectory' is not set; every program needs it");
    write_text("c", "# x\nconfigdirectory: lib\n");
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err), "%/c, line 2: option 'configdirectory' is 'lib', but must be an "
                                "absolute path, and not /");
    write_text("c", "configdirectory: //\n");
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    write_text("c", "x_configdirectory: /mine\nconfigdirectory: /theirs\n"
                    "temp_path: {configdirectory}/t");
    struct config *c = open_ident("X", &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    UNIT_STR(config_getstring(c, IMAPOPT_TEMP_PATH), "/mine/t");
    config_free(&c);
    buf_free(&err);
}

static void test_expansion(void)
{
    struct config *c = good("temp_path: {ConfigDirectory}/a/{configdirectory}/b\n"
                            "backup_staging_path: {configdirectory}\n"
                            "admins: {configdirectory}x\n"
                            "sync_host: a{configdirectory}/x\n"
                            "sasl_path: {configdirectory}/x\n",
                            "backupd");
    UNIT_STR(config_getstring(c, IMAPOPT_TEMP_PATH), "/conf/a/{configdirectory}/b");
    UNIT_STR(config_getstring(c, IMAPOPT_BACKUP_STAGING_PATH), "/conf");
    UNIT_STR(config_getstring(c, IMAPOPT_ADMINS), "{configdirectory}x");
    UNIT_STR(config_getstring(c, IMAPOPT_SYNC_HOST), "a{configdirectory}/x");
    UNIT_STR(config_getoverflowstring(c, "sasl_path", NULL), "{configdirectory}/x");
    config_free(&c);
}

static void count_overflow(const char *key, const char *value, void *rock)
{
    buf_printf(rock, "%s=%s ", key, value);
}

static void test_overrides(void)
{
    static const char text[] = "ctl_backups_backup_retention: 30d\n"
                               "backup_retention: 10\n"
                               "restore_authname: own\n"
                               "restore_sync_authname: special\n"
                               "sync_authname: general\n"
                               "sasl_mech_list: PLAIN\n"
                               "ctl_backups_sasl_mech_list: LOGIN\n"
                               "BackupPartition-A: /a\n"
                               "backuppartition-b: /b\n";
    struct config *c = good(text, "ctl_backups");
    CU_ASSERT_EQUAL(config_getduration(c, IMAPOPT_BACKUP_RETENTION), 30 * 86400);
    UNIT_STR(config_getstring(c, IMAPOPT_SYNC_AUTHNAME), "general");
    UNIT_STR(config_getoverflowstring(c, "SASL_mech_list", "x"), "LOGIN");
    UNIT_STR(config_getoverflowstring(c, "restore_sync_authname", "x"), "special");
    UNIT_STR(config_getoverflowstring(c, "backuppartition-A", "x"), "/a");
    UNIT_STR(config_getoverflowstring(c, "sync_authname", "x"), "x");
    CU_ASSERT_PTR_NULL(config_getoverflowstring(c, "nosuch", NULL));
    struct buf seen = BUF_INITIALIZER;
    config_foreachoverflow(c, count_overflow, &seen);
    UNIT_STR(buf_cstring(&seen),
             "restore_sync_authname=special sasl_mech_list=PLAIN "
             "ctl_backups_sasl_mech_list=LOGIN backuppartition-a=/a backuppartition-b=/b ");
    buf_free(&seen);
    config_free(&c);
    c = good(text, "restore");
    CU_ASSERT_EQUAL(config_getduration(c, IMAPOPT_BACKUP_RETENTION), 10 * 86400);
    UNIT_STR(config_getstring(c, IMAPOPT_SYNC_AUTHNAME), "special");
    UNIT_STR(config_getstring(c, IMAPOPT_RESTORE_AUTHNAME), "own");
    UNIT_STR(config_getoverflowstring(c, "sasl_mech_list", "x"), "PLAIN");
    config_free(&c);
    c = good("_debug: yes\n", NULL);
    CU_ASSERT_EQUAL(config_getswitch(c, IMAPOPT_DEBUG), 0);
    UNIT_STR(config_ident(c), "");
    config_free(&c);
}

static void test_include(void)
{
    struct buf err = BUF_INITIALIZER;
    enter_dir();
    write_text("c", "@include: %/one\nconfigdirectory: /conf\n");
    write_text("one", "x: 1\n@Include: %/two\ny: 2");
    write_text("two", "admins: a");
    struct config *c = open_ident("x", &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    UNIT_STR(config_getstring(c, IMAPOPT_ADMINS), "a");
    struct buf seen = BUF_INITIALIZER;
    config_foreachoverflow(c, count_overflow, &seen);
    UNIT_STR(buf_cstring(&seen), "x=1 y=2 ");
    buf_free(&seen);
    config_free(&c);
    write_text("two", "\nadmins: a\nx: 2");
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err), "%/two, line 3: option 'x' is set twice (first in %/one, line 1)");
    write_text("two", "\n@include: %/one");
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err), "%/two, line 2: file '%/one' is included a second time");
    write_text("two", "@include: %/./c");
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err), "%/two, line 1: file '%/./c' is included a second time");
    write_text("two", "@include: %/three");
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err), "can't open configuration file %/three: No such file or directory "
                                "(included in %/two, line 1)");
    write_text("two", "@include: %");
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err),
             "can't open configuration file %: Is a directory (included in %/two, line 1)");
    buf_free(&err);
}

static void test_deep_include(void)
{
    struct buf err = BUF_INITIALIZER, text = BUF_INITIALIZER;
    char name[16] = "c";
    enter_dir();
    for (int i = 0; i < 40; i++) {
        buf_reset(&text);
        buf_printf(&text, "@include: %%/%d\n", i);
        write_text(name, buf_cstring(&text));
        snprintf(name, sizeof(name), "%d", i);
    }
    CU_ASSERT_PTR_NULL(open_ident("x", &err));
    UNIT_STR(buf_cstring(&err), "%/30, line 1: includes are nested too deep");
    buf_free(&err);
    buf_free(&text);
}

static void test_too_big(void)
{
    struct buf err = BUF_INITIALIZER;
    struct config *c;
    CU_ASSERT_EQUAL(config_open("/dev/zero", "x", &c, &err), XERR_CONFIG);
    UNIT_STR(buf_cstring(&err), "can't open configuration file /dev/zero: too big");
    buf_free(&err);
}

/* CYRUS_PREFIX is tried first, for the file and for its includes. */
static void test_prefix(void)
{
    struct buf err = BUF_INITIALIZER;
    struct config *c;
    char path[PATH_MAX + 64];
    enter_dir();
    snprintf(path, sizeof(path), "%s/etc", dir);
    mkdir(path, 0700);
    write_text("etc/imapd.conf", "configdirectory: /conf\n@include: /etc/inc\n@include: %/plain\n");
    write_text("etc/inc", "admins: prefixed");
    write_text("plain", "proxyservers: plain");
    setenv("CYRUS_PREFIX", dir, 1);
    mode_t mask = umask(022);
    int r = config_open(NULL, "x", &c, &err);
    umask(mask);
    unsetenv("CYRUS_PREFIX");
    UNIT_STR(buf_cstring(&err), "");
    CU_ASSERT_EQUAL_FATAL(r, 0);
    UNIT_STR(config_file(c), "/etc/imapd.conf");
    UNIT_STR(config_getstring(c, IMAPOPT_ADMINS), "prefixed");
    UNIT_STR(config_getstring(c, IMAPOPT_PROXYSERVERS), "plain");
    config_free(&c);
    buf_free(&err);
}

static void test_environment(void)
{
    setenv("CYRUS_SYSLOG_PREFIX", "env", 1);
    setenv("CYRUS_USER", "someone", 1);
    setenv("CYRUS_GROUP", "", 1);
    struct config *c =
        good("syslog_prefix: file\nbackupd_cyrus_user: u\ncyrus_group: g\n", "backupd");
    unsetenv("CYRUS_SYSLOG_PREFIX");
    unsetenv("CYRUS_USER");
    unsetenv("CYRUS_GROUP");
    UNIT_STR(config_getstring(c, IMAPOPT_SYSLOG_PREFIX), "env");
    UNIT_STR(config_getstring(c, IMAPOPT_CYRUS_USER), "someone");
    UNIT_STR(config_getstring(c, IMAPOPT_CYRUS_GROUP), "g");
    config_free(&c);
}

static void join_warnings(const char *text, void *rock)
{
    buf_printf(rock, "%s|", text);
}

static void test_deprecated(void)
{
    struct buf seen = BUF_INITIALIZER;
    struct config *c = good("backup_retention_days: 3\ntls_cert_file: {configdirectory}/old\n"
                            "tls_key_file: /old\ntls_server_key: /new\nsrvtab: x\n"
                            "backupd_tls_cipher_list: HIGH\n",
                            "backupd");
    CU_ASSERT_EQUAL(config_getduration(c, IMAPOPT_BACKUP_RETENTION), 3 * 86400);
    CU_ASSERT_EQUAL(config_isset(c, IMAPOPT_BACKUP_RETENTION), 1);
    UNIT_STR(config_getstring(c, IMAPOPT_TLS_SERVER_CERT), "/conf/old");
    UNIT_STR(config_getstring(c, IMAPOPT_TLS_SERVER_KEY), "/new");
    UNIT_STR(config_getstring(c, IMAPOPT_TLS_CIPHERS), "HIGH");
    config_foreachwarning(c, join_warnings, &seen);
    UNIT_STR(buf_cstring(&seen),
             "Option 'backup_retention_days' is deprecated in version 3.2.0. "
             "Use 'backup_retention' instead.|"
             "Option 'tls_cert_file' is deprecated in version 2.5.0. "
             "Use 'tls_server_cert' instead.|"
             "Option 'tls_key_file' is deprecated in version 2.5.0. Use 'tls_server_key' instead.|"
             "Option 'tls_cipher_list' is deprecated in version 2.5.0. Use 'tls_ciphers' instead.|"
             "Option 'srvtab' is deprecated in version 3.12.0.|");
    config_free(&c);
    buf_reset(&seen);
    c = good("backup_retention: 1d\ntls_server_cert: /c\n", "backupd");
    config_foreachwarning(c, join_warnings, &seen);
    UNIT_STR(buf_cstring(&seen), "");
    config_free(&c);
    buf_free(&seen);
}

static void test_umask(void)
{
    struct buf err = BUF_INITIALIZER;
    struct config *c;
    char path[PATH_MAX + 64];
    enter_dir();
    write_text("c", "configdirectory: /conf\numask: 027\n");
    snprintf(path, sizeof(path), "%s/c", dir);
    mode_t mask = umask(022);
    CU_ASSERT_EQUAL_FATAL(config_open(path, "x", &c, &err), 0);
    CU_ASSERT_EQUAL(umask(mask), 027);
    config_free(&c);
    buf_free(&err);
}

#define BAD INT64_MIN /* in tables: refused */

static void test_durations(void)
{
    static const struct {
        const char *text;
        char unit;
        int64_t expected;
    } cases[] = {
        {"0", 's', 0},
        {"90", 's', 90},
        {"90", 'm', 5400},
        {"2", 'd', 172800},
        {"1d12h", 's', 129600},
        {"1h1", 'm', 3660},
        {"-3d", 's', -259200},
        {"1s1s", 's', 2},
        {"9223372036854775807", 's', INT64_MAX},
        {"9223372036854775808", 's', BAD},
        {"9223372036854775807s1s", 's', BAD},
        {"106751991167301d", 's', BAD},
        {"", 's', BAD},
        {"-", 's', BAD},
        {"--1", 's', BAD},
        {"+1", 's', BAD},
        {"d", 's', BAD},
        {"1w", 's', BAD},
        {"1D", 's', BAD},
        {"1 d", 's', BAD},
        {"1d-1h", 's', BAD},
        {"1.5h", 's', BAD},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int64_t n = BAD;
        int r = config_parseduration(cases[i].text, cases[i].unit, &n);
        CU_ASSERT_EQUAL(r, cases[i].expected == BAD ? XERR_SYNTAX : 0);
        CU_ASSERT_EQUAL(n, cases[i].expected);
    }
}

static void test_bytesizes(void)
{
    static const struct {
        const char *text;
        char unit;
        int64_t expected;
    } cases[] = {
        {"0", 'K', 0},
        {"12", 'B', 12},
        {"12", 'K', 12288},
        {"12B", 'K', 12},
        {"12 b", 'K', 12},
        {"100k", 'B', 102400},
        {"4 MiB", 'B', 4194304},
        {"4MB", 'B', 4194304},
        {"4mi", 'B', 4194304},
        {"1 \tGIB", 'B', 1073741824},
        {"-1", 'K', -1024},
        {"+1M", 'K', 1048576},
        {"8589934591G", 'B', 8589934591 << 30},
        {"8589934592G", 'B', BAD},
        {"99999999999999999999", 'B', BAD},
        {"", 'B', BAD},
        {"K", 'B', BAD},
        {"1T", 'B', BAD},
        {"1iB", 'B', BAD},
        {"1KK", 'B', BAD},
        {"1KBi", 'B', BAD},
        {"1K i", 'B', BAD},
        {"0x10", 'B', BAD},
        {"1BB", 'B', BAD},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        int64_t n = BAD;
        int r = config_parsebytesize(cases[i].text, cases[i].unit, &n);
        CU_ASSERT_EQUAL(r, cases[i].expected == BAD ? XERR_SYNTAX : 0);
        CU_ASSERT_EQUAL(n, cases[i].expected);
    }
}

static void test_values(void)
{
    static const struct config_option i = {"i", CONFIG_INT, NULL, NULL, 0},
                                      w = {"w", CONFIG_SWITCH, NULL, NULL, 0},
                                      e = {"e", CONFIG_ENUM, NULL, "off half on", 0},
                                      l = {"l", CONFIG_STRINGLIST, NULL, "a bb c", 0},
                                      b = {"b", CONFIG_BITFIELD, NULL, "a bb c", 0};
    static const struct {
        const struct config_option *opt;
        const char *text;
        int64_t expected;
    } cases[] = {
        {&i, "0x10", 16},
        {&i, "010", 8},
        {&i, "-5", -5},
        {&i, "08", BAD},
        {&i, "2147483647", INT_MAX},
        {&i, "2147483648", BAD},
        {&i, "1k", BAD},
        {&i, "-2147483648", INT_MIN},
        {&i, "99999999999999999999", BAD},
        {&w, "0", 0},
        {&w, "nope", 0},
        {&w, "of", 0},
        {&w, "f", 0},
        {&w, "1", 1},
        {&w, "yes", 1},
        {&w, "on", 1},
        {&w, "t", 1},
        {&w, "o", BAD},
        {&w, "No", BAD},
        {&w, "2", BAD},
        {&w, "enabled", BAD},
        {&e, "half", 1},
        {&e, "true", 2},
        {&e, "t", 2},
        {&e, "1", 2},
        {&e, "yes", 2},
        {&e, "no", 0},
        {&e, "false", 0},
        {&e, "Half", BAD},
        {&e, "off half", BAD},
        {&e, "y", BAD},
        {&e, "", BAD},
        {&l, "bb", 1},
        {&l, "b", BAD},
        {&l, "yes", BAD},
        {&l, "a bb", BAD},
        {&b, "c  a", 5},
        {&b, "bb bb", 2},
        {&b, "a d", BAD},
    };
    for (size_t n = 0; n < sizeof(cases) / sizeof(*cases); n++) {
        struct buf why = BUF_INITIALIZER;
        int64_t out = 0;
        int r = config_parsevalue(cases[n].opt, cases[n].text, &out, &why);
        CU_ASSERT_EQUAL(r, cases[n].expected == BAD ? XERR_SYNTAX : 0);
        CU_ASSERT_EQUAL(why.len > 0, r != 0);
        if (!r)
            CU_ASSERT_EQUAL(out, cases[n].expected);
        buf_free(&why);
    }
}

/* Check what the parser promises of whatever it accepted. */
static void check_entries(const struct config_entries *e)
{
    int wrong = 0;
    for (size_t i = 0; i < e->count; i++) {
        const char *key = e->data[i].key, *value = e->data[i].value;
        size_t n = strlen(value);
        wrong += !*key || key[strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_-")];
        wrong += !n || strchr(" \t\r\f\v", value[0]) || strchr(" \t\r\f\v", value[n - 1]);
        wrong += strchr(value, '\n') != NULL || !e->data[i].line;
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

/* Random bytes, drawn mostly from those that mean something, so that some texts are good. */
static void test_random(void)
{
    static const char likely[] = "abAB01_-:::\n\n\n\n\\#@ \t\r{}dmsKM=";
    unsigned state = 20260101;
    int accepted = 0, refused = 0;
    char path[PATH_MAX + 64];
    enter_dir();
    snprintf(path, sizeof(path), "%s/c", dir);
    for (int round = 0; round < 3000; round++) {
        char text[256] = "";
        state = state * 1103515245u + 12345u;
        size_t n = (state >> 16) % (round % 3 ? 16 : sizeof(text));
        for (size_t i = 0; i < n; i++) {
            state = state * 1103515245u + 12345u;
            unsigned x = state >> 16;
            text[i] = round % 7 ? likely[x % (sizeof(likely) - 1)] : (char)x;
        }
        write_file("c", text, n);
        struct config_entries e = CONFIG_ENTRIES_INITIALIZER;
        struct buf err = BUF_INITIALIZER;
        int r = config_parse(path, &e, &err);
        CU_ASSERT(r == 0 || r == XERR_CONFIG);
        CU_ASSERT_EQUAL(r == 0, err.len == 0);
        check_entries(&e);
        accepted += r == 0 && e.count > 0;
        refused += r != 0;
        config_entries_fini(&e);
        buf_free(&err);
    }
    CU_ASSERT(accepted > 50);
    CU_ASSERT(refused > 50);
}

/* Good files with a few bytes changed: whatever happens, the getters stay usable. */
static void test_mutated(void)
{
    static const char base[] = "configdirectory: /conf\nbackup_retention: 7d\ndebug: yes\n"
                               "maxword: 12K\nbackupd_sync_timeout: 3m\numask: 022\n"
                               "virtdomains: userid\ntls_cert_file: {configdirectory}/x\n"
                               "proc_path: \\\n {configdirectory}/p\nbackuppartition-a: /a\n";
    unsigned state = 7;
    int accepted = 0, refused = 0;
    struct buf err = BUF_INITIALIZER;
    enter_dir();
    for (int round = 0; round < 3000; round++) {
        char text[sizeof(base)];
        memcpy(text, base, sizeof(base));
        for (int i = 0; i <= round % 3; i++) {
            state = state * 1103515245u + 12345u;
            text[(state >> 8) % (sizeof(base) - 1)] = (char)(state >> 24);
        }
        write_file("c", text, sizeof(base) - 1);
        struct config *c = open_ident("backupd", &err);
        accepted += c != NULL;
        refused += c == NULL;
        if (c) {
            CU_ASSERT_EQUAL(*config_getstring(c, IMAPOPT_CONFIGDIRECTORY), '/');
            CU_ASSERT_EQUAL(*config_getstring(c, IMAPOPT_PROC_PATH), '/');
            CU_ASSERT(config_getbytesize(c, IMAPOPT_BACKUP_CHUNK_SIZE) >= 16384);
        }
        config_free(&c);
    }
    buf_free(&err);
    CU_ASSERT(accepted > 50);
    CU_ASSERT(refused > 50);
}

void suite_config(void);
void suite_config(void)
{
    static const struct unit_test tests[] = {
        {"defaults", test_defaults},
        {"table of options", test_table},
        {"syntax", test_syntax},
        {"syntax errors", test_syntax_errors},
        {"bad values", test_bad_values},
        {"configdirectory", test_configdirectory},
        {"expansion", test_expansion},
        {"overrides", test_overrides},
        {"include", test_include},
        {"deep include", test_deep_include},
        {"too big", test_too_big},
        {"prefix", test_prefix},
        {"environment", test_environment},
        {"deprecated", test_deprecated},
        {"umask", test_umask},
        {"durations", test_durations},
        {"byte sizes", test_bytesizes},
        {"values", test_values},
        {"random bytes", test_random},
        {"mutated files", test_mutated},
        {NULL, NULL},
    };
    unit_suite("config", tests);
}
