/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* xlog - levels of trouble, to syslog and (tools) to stderr.
 *
 * A text is formatted once into a bounded buffer, made one line of printable bytes (names from the
 * network end up here; a newline in one must not forge a line of its own), and handed to the hook
 * or to syslog and stderr. errno is the same before and after, so that a caller may log first and
 * return -errno afterwards. */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <time.h>

#include "lib/xlog.h"
#include "lib/xmalloc.h"

/* Longest text that is formatted; syslog daemons cut at 1 to 8 KiB anyway. */
#define TEXT_MAX 4096

/* syslog(3) is state of the process, and openlog() keeps the pointer to the ident: hence here. */
static char *ident;
static char *program;
static void (*hook)(int priority, const char *text);

static int facility_by_name(const char *name)
{
    static const struct {
        const char *name;
        int value;
    } names[] = {
        {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},
        {"daemon", LOG_DAEMON}, {"ftp", LOG_FTP},           {"kern", LOG_KERN},
        {"lpr", LOG_LPR},       {"mail", LOG_MAIL},         {"news", LOG_NEWS},
        {"syslog", LOG_SYSLOG}, {"user", LOG_USER},         {"uucp", LOG_UUCP},
        {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2},
        {"local3", LOG_LOCAL3}, {"local4", LOG_LOCAL4},     {"local5", LOG_LOCAL5},
        {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},
    };
    if (name && !strncasecmp(name, "log_", 4))
        name += 4;
    for (size_t i = 0; name && i < sizeof(names) / sizeof(*names); i++)
        if (!strcasecmp(name, names[i].name))
            return names[i].value;
    return SYSLOG_FACILITY;
}

void xlog_open(const char *name, const char *prefix, const char *facility, int debug)
{
    char *fresh = prefix && *prefix ? xasprintf("%s/%s", prefix, name) : xstrdup(name);
    closelog();
    openlog(fresh, LOG_PID, facility_by_name(facility));
    setlogmask(LOG_UPTO(debug ? LOG_DEBUG : LOG_INFO));
    free(ident);
    ident = fresh;
}

void xlog_tostderr(const char *name)
{
    char *fresh = xstrdupnull(name);
    free(program);
    program = fresh;
}

void xlog_close(void)
{
    closelog();
    free(ident);
    ident = NULL;
    free(program);
    program = NULL;
}

void xlog_sethook(void (*fn)(int priority, const char *text))
{
    hook = fn;
}

/* Copy TEXT to OUT (room for 4 bytes per byte and a NUL) with control bytes spelled \xNN. */
static void make_printable(const char *text, char *out)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c != 0x7f)
            *out++ = *text;
        else
            out += snprintf(out, 5, "\\x%02x", c);
    }
    *out = '\0';
}

static void deliver(int priority, const char *text)
{
    if (hook)
        hook(priority, text);
    else
        syslog(priority, "%s", text);
    if (program && priority <= LOG_WARNING)
        fprintf(stderr, "%s: %s%s\n", program, priority <= LOG_CRIT ? "fatal error: " : "", text);
}

static void emit(int priority, int err, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
static void emit(int priority, int err, const char *fmt, va_list ap)
{
    int saved = errno;
    char raw[TEXT_MAX], text[4 * TEXT_MAX];
    int n = vsnprintf(raw, sizeof(raw), fmt, ap);
    if (n < 0)
        snprintf(raw, sizeof(raw), "(a text that cannot be formatted: %s)", fmt);
    else if (n >= (int)sizeof(raw))
        memcpy(raw + sizeof(raw) - 4, "...", 4);
    make_printable(raw, text);
    if (err) {
        size_t len = strlen(text);
        snprintf(text + len, sizeof(text) - len, ": %s", strerror(err));
    }
    deliver(priority, text);
    errno = saved;
}

#define XLOG_FUNCTION(name, priority, err)                                                         \
    void name(const char *fmt, ...)                                                                \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, fmt);                                                                         \
        emit((priority), (err), fmt, ap);                                                          \
        va_end(ap);                                                                                \
    }

XLOG_FUNCTION(xlog_debug, LOG_DEBUG, 0)
XLOG_FUNCTION(xlog_info, LOG_INFO, 0)
XLOG_FUNCTION(xlog_warn, LOG_WARNING, errno)
XLOG_FUNCTION(xlog_warnx, LOG_WARNING, 0)
XLOG_FUNCTION(xlog_error, LOG_ERR, errno)
XLOG_FUNCTION(xlog_errorx, LOG_ERR, 0)
XLOG_FUNCTION(xlog_fatalx, LOG_CRIT, 0)

int xlog_allowed(struct xlog_limit *limit, int seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long t = (long)now.tv_sec + 1; /* 0 means never */
    if (limit->last && t - limit->last < seconds)
        return 0;
    limit->last = t;
    return 1;
}
