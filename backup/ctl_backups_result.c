/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_result - what verbs say, as text and as JSON. */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "backup/ctl_backups.h"
#include "lib/output.h"
#include "lib/xerr.h"

/* ---- for verbs ---- */

void ctl_result_line(struct ctl_result *result, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&result->lines, fmt, ap);
    va_end(ap);
    buf_putc(&result->lines, '\n');
    ctl_result_flush(result);
}

/* Texts that scripts know from Cyrus 3.x, and what these were too short for. */
const char *ctl_error_text(int r)
{
    switch (r) {
    case -ENOENT:
        return "Mailbox does not exist";
    case XERR_EXISTS:
        return "Mailbox already exists";
    case XERR_LOCKED:
        return "Mailbox is locked";
    case XERR_SIGNAL:
        return "interrupted";
    default:
        return error_message(r);
    }
}

void ctl_result_error(struct ctl_result *result, int r)
{
    result->status = r == XERR_LOCKED || r == XERR_STALE ? CTL_LOCKED : CTL_FAILED;
    buf_reset(&result->message);
    if (r == XERR_STALE)
        buf_setcstr(&result->message, "others replaced it again and again meanwhile: try again later,"
                                      " or with -w");
    else if (r != XERR_LOCKED)
        buf_setcstr(&result->message, ctl_error_text(r));
}

int ctl_wait_ms(const struct ctl *ctl)
{
    int64_t wait = config_getduration(ctl->config, IMAPOPT_BACKUP_MAINTENANCE_WAIT);
    return ctl->opt->wait ? -1 : (int)wait * 1000;
}

int ctl_queue_ms(const struct ctl *ctl)
{
    return ctl->opt->wait ? -1 : 0;
}

static void waiting(void *rock)
{
    fprintf(stderr, "%s: waiting for lock\n", (const char *)rock);
}

void ctl_tell_waiting(struct ctl *ctl, const char *name)
{
    if (ctl->opt->wait)
        lcb_store_setwaiting(ctl->store, waiting, (void *)(uintptr_t)name);
}

void ctl_result_fini(struct ctl_result *result)
{
    buf_free(&result->message);
    buf_free(&result->lines);
    json_decref(result->more);
    result->more = NULL;
}

void ctl_result_text(const struct ctl_result *result, struct buf *text)
{
    static const char *const words[] = {"ok", "skipped", "locked", "failed"};
    buf_setcstr(text, words[result->status]);
    if (result->message.len) {
        buf_appendcstr(text, " (");
        buf_append(text, &result->message);
        buf_putc(text, ')');
    }
}

/* ---- printing ---- */

void ctl_json_begin(struct ctl_json *j, const struct ctl_options *opt)
{
    j->array = opt->json_array ? output_array_begin(stdout) : NULL;
}

void ctl_json_item(struct ctl_json *j, json_t *item)
{
    if (j->array) {
        output_array_item(j->array, item);
        return;
    }
    json_dumpf(item, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(item);
}

void ctl_json_end(struct ctl_json *j)
{
    if (j->array)
        output_array_end(&j->array);
}

json_t *ctl_json_cstring(const char *s)
{
    return output_string(s, strlen(s));
}

/* strftime() takes longer than all else that a line of a long list needs. */
static char *put_digits(char *p, int n, int width)
{
    for (int i = width - 1; i >= 0; i--, n /= 10)
        p[i] = (char)('0' + n % 10);
    return p + width;
}

static char *put_time(char *p, const struct tm *tm, char between)
{
    p = put_digits(p, tm->tm_year + 1900, 4);
    *p++ = '-';
    p = put_digits(p, tm->tm_mon + 1, 2);
    *p++ = '-';
    p = put_digits(p, tm->tm_mday, 2);
    *p++ = between;
    p = put_digits(p, tm->tm_hour, 2);
    *p++ = ':';
    p = put_digits(p, tm->tm_min, 2);
    *p++ = ':';
    p = put_digits(p, tm->tm_sec, 2);
    *p = '\0';
    return p;
}

static const char *format_time(int64_t epoch, int utc, int iso, char out[32])
{
    time_t t = (time_t)epoch;
    struct tm tm;
    if (!(utc ? gmtime_r(&t, &tm) : localtime_r(&t, &tm)) || tm.tm_year < -1900 ||
        tm.tm_year > 9999 - 1900)
        return "(not a time)";
    char *end = put_time(out, &tm, iso ? 'T' : ' ');
    if (iso && utc) {
        memcpy(end, "Z", 2);
    } else if (iso) {
        long off = tm.tm_gmtoff < 0 ? -tm.tm_gmtoff : tm.tm_gmtoff;
        snprintf(end, (size_t)(out + 32 - end), "%c%02ld:%02ld", tm.tm_gmtoff < 0 ? '-' : '+',
                 off / 3600 % 100, off / 60 % 60);
    }
    return out;
}

const char *ctl_time(const struct ctl_options *opt, int64_t epoch, char out[32])
{
    return epoch ? format_time(epoch, opt->utc, opt->iso, out) : "[unknown]";
}

void ctl_json_time(json_t *object, const char *key, int64_t epoch)
{
    struct buf name = BUF_INITIALIZER;
    char text[32];
    if (!epoch)
        return;
    buf_printf(&name, "%s_epoch", key);
    json_object_set_new(object, buf_cstring(&name), json_integer(epoch));
    buf_reset(&name);
    buf_printf(&name, "%s_iso", key);
    json_object_set_new(object, buf_cstring(&name), json_string(format_time(epoch, 1, 1, text)));
    buf_free(&name);
}

void ctl_flush(int *error)
{
    errno = 0;
    int failed = fflush(stdout) == EOF, e = errno;
    if ((failed || ferror(stdout)) && !*error)
        *error = e ? e : EIO;
}

int ctl_printed_all(int error)
{
    ctl_flush(&error);
    if (!error)
        return EX_OK;
    fprintf(stderr, "ctl_backups: cannot write the result: %s\n", strerror(error));
    return EX_TEMPFAIL;
}

int ctl_printed(void)
{
    return ctl_printed_all(0);
}
