/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* config_value - texts of imapd.conf to numbers. Nothing here wraps around: what does not fit an
 * int64_t (INT: an int) is a syntax error like any other. */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lib/config_options.h"
#include "lib/xerr.h"

/* The decimal number at *P (one digit at least) to *OUT; *P moves behind it. */
static int parse_digits(const char **p, int64_t *out)
{
    int64_t n = 0;
    if (**p < '0' || **p > '9')
        return XERR_SYNTAX;
    for (; **p >= '0' && **p <= '9'; ++*p)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, **p - '0', &n))
            return XERR_SYNTAX;
    *out = n;
    return 0;
}

static int64_t duration_unit(char c)
{
    switch (c) {
    case 'd':
        return 86400;
    case 'h':
        return 3600;
    case 'm':
        return 60;
    case 's':
        return 1;
    default:
        return 0;
    }
}

int config_parseduration(const char *s, char unit, int64_t *out)
{
    int negative = *s == '-';
    int64_t total = 0, n;
    s += negative;
    do {
        if (parse_digits(&s, &n))
            return XERR_SYNTAX;
        int64_t factor = duration_unit(*s ? *s : unit);
        if (!factor || __builtin_mul_overflow(n, factor, &n) ||
            __builtin_add_overflow(total, n, &total))
            return XERR_SYNTAX;
        if (*s)
            s++;
    } while (*s);
    *out = negative ? -total : total;
    return 0;
}

/* Bits to shift by for a unit letter of either case; -1 if it is none. */
static int bytesize_shift(char c)
{
    switch (c) {
    case 'b':
    case 'B':
        return 0;
    case 'k':
    case 'K':
        return 10;
    case 'm':
    case 'M':
        return 20;
    case 'g':
    case 'G':
        return 30;
    default:
        return -1;
    }
}

int config_parsebytesize(const char *s, char unit, int64_t *out)
{
    int negative = *s == '-';
    int64_t n;
    s += negative || *s == '+';
    if (parse_digits(&s, &n))
        return XERR_SYNTAX;
    s += strspn(s, " \t");
    int shift = bytesize_shift(*s ? *s : unit);
    if (shift < 0 || __builtin_mul_overflow(n, (int64_t)1 << shift, &n))
        return XERR_SYNTAX;
    if (*s)
        s++;
    if (shift && *s) {
        s += *s == 'i' || *s == 'I';
        s += *s == 'b' || *s == 'B';
    }
    if (*s)
        return XERR_SYNTAX;
    *out = negative ? -n : n;
    return 0;
}

static int parse_int(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 0);
    if (end == text || *end || errno || n < INT_MIN || n > INT_MAX)
        return XERR_SYNTAX;
    *out = n;
    return 0;
}

/* Cyrus looks at the first letters only, so "nope" is no and "of" is off. */
static int parse_switch(const char *s, int64_t *out)
{
    if (*s == '0' || *s == 'n' || *s == 'f' || !strncmp(s, "of", 2))
        *out = 0;
    else if (*s == '1' || *s == 'y' || *s == 't' || !strncmp(s, "on", 2))
        *out = 1;
    else
        return XERR_SYNTAX;
    return 0;
}

/* Index of the N bytes at S in the blank-separated WORDS, or -1. */
static int find_word(const char *words, const char *s, size_t n)
{
    for (int i = 0; *words; i++) {
        size_t len = strcspn(words, " ");
        if (len == n && !memcmp(words, s, n))
            return i;
        words += len;
        words += strspn(words, " ");
    }
    return -1;
}

static int parse_word(const char *words, const char *text, int64_t *out)
{
    int i = find_word(words, text, strlen(text));
    *out = i;
    return i < 0 ? XERR_SYNTAX : 0;
}

static int parse_enum(const char *words, const char *text, int64_t *out)
{
    static const char yes[] = "1 yes t true", no[] = "0 no f false";
    if (find_word(yes, text, strlen(text)) >= 0)
        text = "on";
    else if (find_word(no, text, strlen(text)) >= 0)
        text = "off";
    return parse_word(words, text, out);
}

static int parse_bits(const char *words, const char *text, int64_t *out)
{
    uint64_t bits = 0;
    for (text += strspn(text, " \t"); *text; text += strspn(text, " \t")) {
        size_t n = strcspn(text, " \t");
        int i = find_word(words, text, n);
        if (i < 0 || i > 62)
            return XERR_SYNTAX;
        bits |= (uint64_t)1 << i;
        text += n;
    }
    *out = (int64_t)bits;
    return 0;
}

int config_parsevalue(const struct config_option *opt, const char *text, int64_t *out,
                      struct buf *why)
{
    static const char *const wanted[] = {
        [CONFIG_STRING] = "text",
        [CONFIG_INT] = "a whole number",
        [CONFIG_SWITCH] = "yes or no",
        [CONFIG_ENUM] = "one of: ",
        [CONFIG_STRINGLIST] = "one of: ",
        [CONFIG_BITFIELD] = "some of: ",
        [CONFIG_DURATION] = "a duration such as 90s, 15m or 1d12h",
        [CONFIG_BYTESIZE] = "a size such as 4096, 512K or 4 MiB",
    };
    int r = XERR_INTERNAL;
    switch (opt->type) {
    case CONFIG_STRING:
        *out = 0;
        return 0;
    case CONFIG_INT:
        r = parse_int(text, out);
        break;
    case CONFIG_SWITCH:
        r = parse_switch(text, out);
        break;
    case CONFIG_ENUM:
        r = parse_enum(opt->words, text, out);
        break;
    case CONFIG_STRINGLIST:
        r = parse_word(opt->words, text, out);
        break;
    case CONFIG_BITFIELD:
        r = parse_bits(opt->words, text, out);
        break;
    case CONFIG_DURATION:
        r = config_parseduration(text, opt->unit, out);
        break;
    case CONFIG_BYTESIZE:
        r = config_parsebytesize(text, opt->unit, out);
        break;
    }
    if (r)
        buf_printf(why, "%s%s", wanted[opt->type], opt->words ? opt->words : "");
    return r;
}
