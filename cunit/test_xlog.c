/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/xlog. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/xlog.h"

static struct buf seen;

static void see(int priority, const char *text)
{
    buf_printf(&seen, "%d:%s\n", priority, text);
    errno = EBADF; /* must not reach the caller */
}

static void test_levels(void)
{
    buf_reset(&seen);
    xlog_sethook(see);
    errno = ENOENT;
    xlog_debug("d %d", 1);
    xlog_info("i %s", "x");
    xlog_warnx("wx");
    xlog_warn("w %s", "file");
    xlog_errorx("ex");
    xlog_error("e");
    xlog_fatalx("f");
    CU_ASSERT_EQUAL(errno, ENOENT);
    xlog_sethook(NULL);
    UNIT_STR(buf_cstring(&seen), "7:d 1\n6:i x\n4:wx\n4:w file: No such file or directory\n3:ex\n"
                                 "3:e: No such file or directory\n2:f\n");
    buf_free(&seen);
}

/* A newline in a name must not begin a line of its own. */
static void test_one_line(void)
{
    buf_reset(&seen);
    xlog_sethook(see);
    xlog_errorx("user %s", "a\nb\x7f\t\xc3\xa4\r");
    xlog_sethook(NULL);
    UNIT_STR(buf_cstring(&seen), "3:user a\\x0ab\\x7f\\x09\xc3\xa4\\x0d\n");
    buf_free(&seen);
}

static void test_long(void)
{
    char text[20000];
    memset(text, '\n', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    buf_reset(&seen);
    xlog_sethook(see);
    errno = EIO;
    xlog_error("%s", text);
    xlog_sethook(NULL);
    buf_cstring(&seen);
    CU_ASSERT(seen.len > 4096);
    CU_ASSERT(seen.len < 20000);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.s, "..."));
    buf_free(&seen);
}

/* The hook stands for syslog only, so tools' lines on stderr can be seen with it. */
static void test_stderr(void)
{
    char path[256], text[256] = "";
    snprintf(path, sizeof(path), "%s/err", unit_tmpdir());
    fflush(stderr);
    int saved = dup(2), fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CU_ASSERT_FATAL(saved > 2 && fd > 2 && dup2(fd, 2) == 2);
    close(fd);
    xlog_sethook(see);
    xlog_tostderr("tool");
    xlog_info("quiet");
    xlog_warnx("loud");
    xlog_fatalx("last");
    xlog_close();
    xlog_warnx("closed");
    xlog_sethook(NULL);
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    buf_free(&seen);
    FILE *f = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    UNIT_STR(text, "tool: loud\ntool: fatal error: last\n");
}

/* Of what syslog was told, only the mask can be asked for. */
static void test_open(void)
{
    xlog_open("backupd", NULL, NULL, 0);
    int mask = setlogmask(0);
    CU_ASSERT_FALSE(mask & LOG_MASK(LOG_DEBUG));
    CU_ASSERT_TRUE(mask & LOG_MASK(LOG_INFO));
    xlog_open("backupd", "prefix", "local3", 1);
    CU_ASSERT_TRUE(setlogmask(0) & LOG_MASK(LOG_DEBUG));
    xlog_open("backupd", "", "no such facility", 0);
    CU_ASSERT_FALSE(setlogmask(0) & LOG_MASK(LOG_DEBUG));
    setlogmask(LOG_UPTO(LOG_DEBUG));
    xlog_close();
}

static void test_limit(void)
{
    struct xlog_limit a = {0}, b = {0};
    CU_ASSERT_EQUAL(xlog_allowed(&a, 1000000), 1);
    CU_ASSERT_EQUAL(xlog_allowed(&a, 1000000), 0);
    CU_ASSERT_EQUAL(xlog_allowed(&b, 1000000), 1);
    CU_ASSERT_EQUAL(xlog_allowed(&a, 0), 1);
}

void suite_xlog(void);
void suite_xlog(void)
{
    static const struct unit_test tests[] = {
        {"levels", test_levels},
        {"one line", test_one_line},
        {"long", test_long},
        {"stderr", test_stderr},
        {"open", test_open},
        {"limit", test_limit},
        {NULL, NULL},
    };
    unit_suite("xlog", tests);
}
