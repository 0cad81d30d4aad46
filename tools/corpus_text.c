/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* corpus_text - messages that nobody wrote.
 *
 * What a backup costs depends on how well mail compresses, so a message has the parts that make
 * real mail what it is: a header whose lines resemble those of other messages; words whose
 * frequencies follow Zipf's law; an HTML part that says the same again between many equal tags; and
 * attachments in base64, some of a kind that is compressed already (pictures), some not (tables and
 * text in other formats). */
#include "config.h"

#include <math.h>
#include <stdlib.h>

#include "lib/xmalloc.h"
#include "tools/corpus.h"

enum { WORDS = 20000, LONGEST = 24, LINE = 72 };

static size_t below(struct corpus_random *r, size_t n)
{
    return (size_t)(corpus_random(r) % n);
}

/* ---- Words ---- */

struct corpus_words {
    char text[WORDS][LONGEST];
    double upto[WORDS]; /* sum of the frequencies of all words up to this one */
};

/* The more common a word, the shorter. */
static void make_word(struct corpus_random *r, size_t rank, char out[LONGEST])
{
    static const char *const onset[] = {"b",  "d",  "f",  "g", "h",  "k",  "l",  "m", "n",
                                        "p",  "r",  "s",  "t", "v",  "w",  "st", "tr", "sh",
                                        "ch", "br", "cl", "",  "th", "pr", "c",  "gr", ""};
    static const char *const nucleus[] = {"a", "e", "i", "o", "u", "ea", "ou", "e", "a", "io", "ai"};
    static const char *const coda[] = {"", "n", "r", "s", "t", "l", "", "d", "m", "", "st", "ng", ""};
    size_t syllables = 1 + (rank > 200) * below(r, 2) + (rank > 3000) * below(r, 4) / 3;
    size_t len = 0;
    for (size_t i = 0; i < syllables; i++) {
        const char *const part[] = {onset[below(r, sizeof(onset) / sizeof(*onset))],
                                    nucleus[below(r, sizeof(nucleus) / sizeof(*nucleus))],
                                    coda[below(r, sizeof(coda) / sizeof(*coda))]};
        for (size_t k = 0; k < 3; k++)
            for (const char *p = part[k]; *p && len < LONGEST - 1; p++)
                out[len++] = *p;
    }
    out[len] = '\0';
}

struct corpus_words *corpus_words_new(uint64_t seed)
{
    struct corpus_words *w = xmalloc(sizeof(*w));
    struct corpus_random r = {seed};
    double sum = 0;
    for (size_t i = 0; i < WORDS; i++) {
        make_word(&r, i, w->text[i]);
        sum += 1.0 / pow((double)i + 2.7, 0.85);
        w->upto[i] = sum;
    }
    return w;
}

void corpus_words_free(struct corpus_words **w)
{
    free(*w);
    *w = NULL;
}

static const char *pick(const struct corpus_words *w, struct corpus_random *r)
{
    double x = corpus_uniform(r) * w->upto[WORDS - 1];
    size_t low = 0, high = WORDS - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (w->upto[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return w->text[low];
}

/* N words of a title. */
static void title(const struct corpus_words *w, struct corpus_random *r, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = out->len + (i > 0);
        if (i)
            buf_putc(out, ' ');
        buf_appendcstr(out, pick(w, r));
        if (!i)
            out->s[at] = (char)(out->s[at] - 'a' + 'A');
    }
}

/* Paragraphs of sentences until OUT is END bytes long; EOL ends each line. */
static void prose(const struct corpus_words *w, struct corpus_random *r, size_t end, const char *eol,
                  struct buf *out)
{
    size_t column = 0, left = 0, sentences = 3 + below(r, 5);
    int first = 1;
    while (out->len < end) {
        if (!left)
            left = 4 + below(r, 14);
        const char *word = pick(w, r);
        size_t len = strlen(word);
        if (column && column + len >= LINE) {
            buf_appendcstr(out, eol);
            column = 0;
        }
        if (column)
            buf_putc(out, ' ');
        size_t at = out->len;
        buf_appendmap(out, word, len);
        if (first)
            out->s[at] = (char)(out->s[at] - 'a' + 'A');
        first = 0;
        column += len + 1;
        if (--left) {
            if (!below(r, 11))
                buf_putc(out, ',');
            continue;
        }
        buf_putc(out, below(r, 9) ? '.' : '?');
        first = 1;
        if (!--sentences) {
            buf_appendcstr(out, eol);
            buf_appendcstr(out, eol);
            column = 0;
            sentences = 3 + below(r, 5);
        }
    }
    buf_appendcstr(out, eol);
}

/* ---- Parts ---- */

static void html(const struct corpus_words *w, struct corpus_random *r, size_t end, struct buf *out)
{
    buf_appendcstr(out, "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\">\r\n"
                        "<html><head><meta http-equiv=\"Content-Type\" content=\"text/html; "
                        "charset=utf-8\">\r\n</head><body style=\"margin:0;padding:0\">\r\n"
                        "<table width=\"100%\" cellpadding=\"0\" cellspacing=\"0\">\r\n");
    while (out->len < end) {
        buf_printf(out,
                   "<tr><td style=\"font-family:Arial,Helvetica,sans-serif;font-size:%zupx;"
                   "color:#%06zx\">\r\n<p style=\"margin:0 0 12px 0;line-height:1.4\">",
                   12 + below(r, 4), below(r, 8) ? (size_t)0x333333 : below(r, 1 << 24));
        if (!below(r, 3)) {
            buf_printf(out, "<a href=\"https://www.example.com/%s/%s?id=%zu\">", pick(w, r),
                       pick(w, r), below(r, 1000000));
            title(w, r, 3, out);
            buf_appendcstr(out, "</a> ");
        }
        size_t stop = out->len + 150 + below(r, 500);
        prose(w, r, stop < end ? stop : end, "\r\n", out);
        buf_appendcstr(out, "</p></td></tr>\r\n");
    }
    buf_appendcstr(out, "</table></body></html>\r\n");
}

static void base64(const unsigned char *p, size_t n, struct buf *out)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t column = 0;
    char *at = buf_ensure(out, n / 3 * 4 + n / 57 * 2 + 16);
    char *start = at;
    for (; n >= 3; p += 3, n -= 3) {
        *at++ = digit[p[0] >> 2];
        *at++ = digit[(p[0] & 3) << 4 | p[1] >> 4];
        *at++ = digit[(p[1] & 15) << 2 | p[2] >> 6];
        *at++ = digit[p[2] & 63];
        if ((column += 4) == 76) {
            *at++ = '\r';
            *at++ = '\n';
            column = 0;
        }
    }
    if (column) {
        *at++ = '\r';
        *at++ = '\n';
    }
    out->len += (size_t)(at - start);
}

/* An attachment of SIZE bytes in its coded form. */
static void attachment(const struct corpus_words *w, struct corpus_random *r, size_t size,
                       struct buf *out)
{
    struct buf raw = BUF_INITIALIZER;
    size_t n = size / 78 * 57 + 57; /* what a line of 76 and its end hold */
    int packed = below(r, 100) < 51;
    buf_printf(out,
               "Content-Type: %s; name=\"%s-%zu.%s\"\r\n"
               "Content-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\n",
               packed ? "image/jpeg" : "application/octet-stream", pick(w, r), below(r, 10000),
               packed ? "jpg" : "doc");
    if (packed) {
        buf_ensure(&raw, n + 8);
        for (; raw.len < n; raw.len += 8) {
            uint64_t x = corpus_random(r);
            memcpy(raw.s + raw.len, &x, 8);
        }
    } else {
        while (raw.len < n) { /* rows of numbers between words, as in tables */
            buf_printf(&raw, "%06zu;%s;%zu.%02zu\n", below(r, 1000000), pick(w, r), below(r, 9000),
                       below(r, 100));
            prose(w, r, raw.len + below(r, 300), "\n", &raw);
        }
    }
    base64((const unsigned char *)raw.s, n, out);
    buf_free(&raw);
}

/* ---- Messages ---- */

static void address(const struct corpus_words *w, struct corpus_random *r, const char *field,
                    struct buf *out)
{
    const char *first = pick(w, r), *last = pick(w, r);
    buf_printf(out, "%s: %s %s <%s.%s@%s.example.com>\r\n", field, first, last, first, last,
               pick(w, r));
}

static void header(const struct corpus_words *w, struct corpus_random *r, unsigned long number,
                   const char *type, struct buf *out)
{
    static const char *const month[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct buf date = BUF_INITIALIZER;
    size_t at = number / 50;
    buf_printf(&date, "%zu %s %zu %02zu:%02zu:%02zu +0000", at % 28 + 1, month[at / 28 % 12],
               2020 + at / 336, below(r, 24), below(r, 60), below(r, 60));
    const char *when = buf_cstring(&date);
    buf_printf(out, "Return-Path: <%s@example.net>\r\n", pick(w, r));
    buf_printf(out,
               "Received: from mx%zu.example.net (mx%zu.example.net [192.0.2.%zu])\r\n"
               "\tby mail.example.org (Postfix) with ESMTPS id %012llX\r\n"
               "\tfor <bench@example.org>; %s\r\n",
               below(r, 9), below(r, 9), below(r, 256),
               (unsigned long long)(corpus_random(r) >> 16), when);
    address(w, r, "From", out);
    address(w, r, "To", out);
    buf_appendcstr(out, below(r, 3) ? "Subject: " : "Subject: Re: ");
    title(w, r, 3 + below(r, 5), out);
    buf_printf(out, "\r\nDate: %s\r\nMessage-ID: <%016llx.%lu@example.net>\r\nMIME-Version: 1.0\r\n",
               when, (unsigned long long)corpus_random(r), number);
    buf_printf(out, "Content-Type: %s\r\n", type);
    buf_free(&date);
}

static void part(const char *boundary, const char *type, struct buf *out)
{
    buf_printf(out, "--%s\r\nContent-Type: %s; charset=utf-8\r\n"
                    "Content-Transfer-Encoding: 8bit\r\n\r\n", boundary, type);
}

/* Attachments after the text, which ends where the message is a few kilobytes long. */
static void make_mixed(const struct corpus_words *w, struct corpus_random *r, const char *boundary,
                       size_t start, size_t size, struct buf *out)
{
    size_t text = start + 3000 + below(r, 8000) + size / 12;
    part(boundary, "text/plain", out);
    prose(w, r, text, "\r\n", out);
    part(boundary, "text/html", out);
    html(w, r, text + (text - start), out);
    while (out->len + 2000 < start + size) {
        size_t left = start + size - out->len, n = left;
        if (left > 60000 && below(r, 2))
            n = left / 4 + below(r, left / 2);
        buf_printf(out, "--%s\r\n", boundary);
        attachment(w, r, n > 300 ? n - 300 : n, out);
    }
}

void corpus_make(const struct corpus_words *w, struct corpus_random *r, unsigned long number,
                 size_t size, struct buf *out)
{
    struct buf type = BUF_INITIALIZER;
    char boundary[40];
    size_t start = out->len, end = start + size;
    snprintf(boundary, sizeof(boundary), "=_%016llx", (unsigned long long)corpus_random(r));
    if (size < 5000)
        buf_setcstr(&type, "text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
    else
        buf_printf(&type, "multipart/%s;\r\n\tboundary=\"%s\"\r\n",
                   size < 20000 ? "alternative" : "mixed", boundary);
    header(w, r, number, buf_cstring(&type), out);
    buf_free(&type);
    if (size < 5000) {
        prose(w, r, end, "\r\n", out);
        return;
    }
    if (size < 20000) {
        part(boundary, "text/plain", out);
        prose(w, r, out->len + (end - out->len) / 3, "\r\n", out);
        part(boundary, "text/html", out);
        html(w, r, end, out);
    } else {
        make_mixed(w, r, boundary, start, size, out);
    }
    buf_printf(out, "--%s--\r\n", boundary);
}

void corpus_make_tiny(unsigned long number, struct buf *out)
{
    buf_printf(out, "From: a@example.org\r\nTo: b@example.org\r\nMessage-ID: <%lu@example.org>\r\n\r\n"
                    "Number %lu.\r\n", number, number);
}
