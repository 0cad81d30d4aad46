/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Four levels of trouble, used with discipline, to syslog (and, for tools, to stderr):
 *   info   something an administrator may want to see
 *   warn   odd, handled; nothing is lost
 *   error  something was not done; somebody should look
 *   fatal  the process is about to end (only main calls it)
 * The name with x says nothing of errno; the one without appends strerror(errno). syslog(3) is
 * process-wide, so is the little state behind these. */
#ifndef LIB_XLOG_H
#define LIB_XLOG_H

/* Open syslog as IDENT (with PREFIX "/" in front if not NULL), facility NAME or NULL for the
 * compiled-in one. DEBUG lets LOG_DEBUG through. */
void xlog_open(const char *ident, const char *prefix, const char *facility, int debug);
/* Copy warn, error and fatal to stderr too, each line led by PROGRAM: (for tools). */
void xlog_tostderr(const char *program);
void xlog_close(void);

void xlog_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void xlog_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void xlog_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void xlog_warnx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void xlog_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void xlog_errorx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void xlog_fatalx(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* At most one line in SECONDS for the same limit: returns 1 if this one may be logged. Zero-filled
 * memory is a fresh limit. */
struct xlog_limit {
    long last;
};
int xlog_allowed(struct xlog_limit *limit, int seconds);

/* For tests: FN sees every line (syslog priority, text) instead of syslog; NULL ends that. */
void xlog_sethook(void (*fn)(int priority, const char *text));

#endif
