/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_session - one connection: greeting, verbs, errors, timeouts.
 *
 * A command is one line, save that the bodies of literals and files may stand in it. There are no
 * tags, and a client sends its next command only after the answer to the last. All bytes of a
 * command are consumed through the dlist reader, which knows what bodies a line has announced; so
 * after any error, and for commands that are refused, "the rest of the command" is well defined and
 * the next one is found. Errors are never counted: the client decides when it has had enough.
 *
 * Signals. TERM ends the session: at once while it waits for a command, otherwise after the command
 * at hand. A command whose client is slow to send it gets a few seconds, then it fails as if the
 * connection had been cut: nothing of it is kept, and master waits for us. HUP does not concern a
 * session. */
#include "config.h"

#include <ctype.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "backup/backupd_session.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

enum {
    LONGEST_VERB = 64,
    TICK_MS = 1000,
    GRACE_MS = 5000,        /* to send the rest of a command after TERM */
    ANONYMOUS_SECONDS = 300 /* to log in */
};

int64_t session_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- Replies ---- */

void session_reply(struct session *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    prot_vprintf(s->out, fmt, ap);
    va_end(ap);
    prot_puts(s->out, "\r\n");
}

enum backupd_next session_fatal(struct session *s, const char *text)
{
    xlog_errorx("fatal error: %s", text);
    session_reply(s, "* Fatal error: %s", text);
    return BACKUPD_CLOSE;
}

enum backupd_next session_refuse(struct session *s, const char *text)
{
    if (dlist_reader_resync(&s->reader))
        return BACKUPD_CLOSE;
    session_reply(s, "%s", text);
    return BACKUPD_CONTINUE;
}

void session_greet(struct session *s)
{
    const char *mechs = login_mechs(s);
    if (*mechs)
        session_reply(s, "* SASL %s", mechs);
    if (s->setup->tls_wanted && s->setup->tls && !s->tls_active && !s->logged_in)
        session_reply(s, "* STARTTLS");
    if (!s->tls_active && !s->service->listen_unix && !prot_compression(s->out))
        session_reply(s, "* COMPRESS DEFLATE");
    session_reply(s, "* OK %s Cyrus backup server %s", config_servername(s->config),
                  PACKAGE_VERSION);
    prot_flush(s->out);
}

/* What of WORD can be shown in a reply or in syslog. */
static const char *printable(struct buf *word)
{
    buf_truncate(word, LONGEST_VERB);
    for (size_t i = 0; i < word->len; i++)
        if (!isgraph((unsigned char)word->s[i]))
            word->s[i] = '?';
    return buf_cstring(word);
}

/* ---- Verbs ---- */

/* The line must end here. 0, or 1 after a reply, or an error of the stream. */
static int end_of_line(struct session *s, const char *verb)
{
    int c = dlist_reader_peek(&s->reader);
    int r = c < 0 ? c : dlist_reader_eol(&s->reader);
    if (r != XERR_SYNTAX)
        return r;
    r = dlist_reader_resync(&s->reader);
    if (r)
        return r;
    session_reply(s, "BAD Unexpected extra arguments to %s", verb);
    return 1;
}

static enum backupd_next after(int r)
{
    return r < 0 ? BACKUPD_CLOSE : BACKUPD_CONTINUE;
}

static enum backupd_next do_noop(struct session *s)
{
    int r = end_of_line(s, "Noop");
    if (!r)
        session_reply(s, "OK Noop completed");
    return after(r);
}

/* Durable, or the reason why not. */
static int restart(struct session *s, const char *success)
{
    int r = s->backupd ? backupd_restart(s->backupd) : 0;
    if (!r) {
        session_reply(s, "OK %s", success);
        return 0;
    }
    xlog_errorx("%s: not everything could be made durable: %s", s->service->clienthost,
                error_message(r));
    session_reply(s, "NO IMAP_MAILBOX_LOCKED %s", error_message(r));
    return r;
}

static enum backupd_next do_restart(struct session *s)
{
    int r = end_of_line(s, "Restart");
    if (!r)
        (void)restart(s, "Restarting");
    return after(r);
}

static enum backupd_next do_exit(struct session *s)
{
    int r = end_of_line(s, "Exit");
    if (r)
        return after(r);
    (void)restart(s, "Finished");
    return BACKUPD_CLOSE;
}

static enum backupd_next do_compress(struct session *s)
{
    struct buf name = BUF_INITIALIZER;
    int r = dlist_reader_word(&s->reader, &name, LONGEST_VERB);
    if (!r && !name.len) {
        buf_free(&name);
        return session_refuse(s, "BAD Missing required argument to Compress");
    }
    if (!r)
        r = end_of_line(s, "Compress");
    else if (!(r = dlist_reader_resync(&s->reader)))
        buf_setcstr(&name, "?");
    if (r) {
        buf_free(&name);
        return after(r);
    }
    const char *active = prot_compression(s->out), *shown = printable(&name);
    if (active) {
        session_reply(s, "NO Compression already active: %s", active);
    } else if (strcasecmp(shown, "DEFLATE")) {
        session_reply(s, "NO Unknown compression algorithm: %s", shown);
    } else {
        session_reply(s, "OK %s active", shown);
        r = prot_flush(s->out);
        if (!r)
            r = prot_setcompress(s->in, s->out);
    }
    buf_free(&name);
    return after(r);
}

/* Hand the rest of the command to the command layer. */
static enum backupd_next pass_on(struct session *s, enum backupd_next (*fn)(struct backupd *),
                                 const char *missing)
{
    if (!s->logged_in)
        return session_refuse(s, "NO Please authenticate first");
    int c = dlist_reader_peek(&s->reader);
    if (c < 0)
        return BACKUPD_CLOSE;
    if (c == '\r' || c == '\n')
        return session_refuse(s, missing);
    enum backupd_next next = fn(s->backupd);
    dlist_pool_reset(s->pool);
    return next;
}

static enum backupd_next do_get(struct session *s)
{
    return pass_on(s, backupd_get, "BAD Missing required argument to Get");
}

static enum backupd_next do_apply(struct session *s)
{
    return pass_on(s, backupd_apply, "BAD Missing required argument to Apply");
}

/* For mail servers only; a client might try all the same. */
static enum backupd_next do_restore(struct session *s)
{
    return session_refuse(s, s->logged_in ? "BAD IMAP_PROTOCOL_ERROR Unrecognized command"
                                          : "NO Please authenticate first");
}

static const struct verb {
    const char *name;
    enum backupd_next (*fn)(struct session *);
} verbs[] = {
    {"APPLY", do_apply},
    {"AUTHENTICATE", login_authenticate},
    {"COMPRESS", do_compress},
    {"EXIT", do_exit},
    {"GET", do_get},
    {"NOOP", do_noop},
    {"RESTART", do_restart},
    {"RESTORE", do_restore},
    {"STARTTLS", login_starttls},
    {NULL, NULL},
};

/* ---- What is no verb ---- */

/* sync_client asks every new host whether it speaks IMAP, and waits ten seconds for a tagged answer;
 * so it gets one. It says LOGOUT then. */
static enum backupd_next imap_probe(struct session *s, const char *tag, const char *word)
{
    int logout = !strcasecmp(word, "LOGOUT");
    if (dlist_reader_resync(&s->reader))
        return BACKUPD_CLOSE;
    if (logout) {
        session_reply(s, "* BYE this is not an IMAP server");
        session_reply(s, "%s OK Completed", tag);
        return BACKUPD_CLOSE;
    }
    session_reply(s, "%s BAD Unrecognized command", tag);
    return BACKUPD_CONTINUE;
}

static int is_tag(const struct buf *word)
{
    for (size_t i = 0; i < word->len; i++)
        if (!isalnum((unsigned char)word->s[i]))
            return 0;
    return word->len > 0;
}

static enum backupd_next unknown(struct session *s, struct buf *verb)
{
    static struct xlog_limit limit;
    struct buf second = BUF_INITIALIZER;
    enum backupd_next next;
    int tagged = is_tag(verb) && !dlist_reader_word(&s->reader, &second, LONGEST_VERB);
    const char *word = buf_cstring(&second);
    if (tagged && (!strcasecmp(word, "CAPABILITY") || !strcasecmp(word, "LOGOUT"))) {
        next = imap_probe(s, buf_cstring(verb), word);
    } else {
        if (xlog_allowed(&limit, 60))
            xlog_warnx("IOERROR: received bad command: command=<%s>", printable(verb));
        next = session_refuse(s, "BAD IMAP_PROTOCOL_ERROR Unrecognized command");
    }
    buf_free(&second);
    return next;
}

/* ---- The loop ---- */

static enum backupd_next dispatch(struct session *s, struct buf *verb)
{
    for (const struct verb *v = verbs; v->name; v++)
        if (!strcasecmp(buf_cstring(verb), v->name) && verb->len == strlen(v->name))
            return v->fn(s);
    return unknown(s, verb);
}

static enum backupd_next one_command(struct session *s)
{
    struct buf verb = BUF_INITIALIZER;
    s->idle = 1;
    int c = dlist_reader_peek(&s->reader);
    s->idle = 0;
    if (c < 0)
        return BACKUPD_CLOSE;
    enum backupd_next next;
    if (c == '\r' || c == '\n')
        next = session_refuse(s, "BAD Null command");
    else if (dlist_reader_word(&s->reader, &verb, LONGEST_VERB))
        next = session_refuse(s, "BAD IMAP_PROTOCOL_ERROR Unrecognized command");
    else
        next = dispatch(s, &verb);
    buf_free(&verb);
    return next;
}

/* Before each wait for the client, and every second of it. */
static int on_wait(void *rock)
{
    struct session *s = rock;
    if (service_signals(s->service) == SERVICE_STOP) {
        if (s->idle)
            return 1;
        if (!s->stop_since)
            s->stop_since = session_now();
        return session_now() - s->stop_since > GRACE_MS;
    }
    if (s->backupd)
        backupd_release(s->backupd);
    return 0;
}

static void set_timeouts(struct session *s)
{
    int64_t seconds = config_getduration(s->config, IMAPOPT_SYNC_TIMEOUT);
    if (seconds < 3)
        seconds = 3;
    if (seconds > INT32_MAX)
        seconds = INT32_MAX;
    if (!s->logged_in && seconds > ANONYMOUS_SECONDS)
        seconds = ANONYMOUS_SECONDS;
    prot_settimeout(s->in, (int)seconds);
    prot_settimeout(s->out, (int)seconds);
}

static void converse(struct session *s)
{
    enum backupd_next next = BACKUPD_CONTINUE;
    session_greet(s);
    while (next == BACKUPD_CONTINUE && !prot_error(s->out) &&
           service_signals(s->service) != SERVICE_STOP) {
        int anonymous = !s->logged_in;
        if (anonymous)
            set_timeouts(s);
        next = one_command(s);
        if (anonymous && s->logged_in)
            set_timeouts(s);
    }
    if (next == BACKUPD_CONTINUE || prot_error(s->in) == XERR_SIGNAL)
        session_reply(s, "BYE shutting down");
    int r = prot_error(s->in);
    if (r && r != XERR_SIGNAL)
        xlog_info("%s: connection lost: %s", s->service->clienthost, error_message(r));
}

static int64_t clamp(int64_t n, int64_t low, int64_t high)
{
    return n < low ? low : n > high ? high : n;
}

void session_reset_reader(struct session *s)
{
    dlist_reader_init(&s->reader, s->in, s->pool);
    s->reader.maxatom =
        (size_t)clamp(config_getbytesize(s->config, IMAPOPT_MAXWORD), 65536, 1 << 24);
}

void backupd_session(struct service *service, const struct backupd_setup *setup, int fdin,
                     int fdout)
{
    struct session s;
    int one = 1;
    memset(&s, 0, sizeof(s));
    s.service = service;
    s.config = service->config;
    s.setup = setup;
    s.telemetry = -1;
    s.in = prot_new(fdin, 0);
    s.out = prot_new(fdout, 1);
    /* Replies are small, and the client waits for them. Fails for what is not TCP. */
    (void)setsockopt(fdout, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    prot_setwait(s.in, s.out, TICK_MS, on_wait, &s);
    prot_setwait(s.out, NULL, TICK_MS, on_wait, &s);
    int64_t limit = config_getbytesize(s.config, IMAPOPT_BACKUP_MAX_DLIST);
    s.pool = dlist_pool_new((size_t)clamp(limit, 131072, 1 << 30));
    session_reset_reader(&s);
    if (!login_begin(&s))
        converse(&s);
    if (s.backupd)
        backupd_close(&s.backupd);
    prot_flush(s.out);
    prot_free(&s.in);
    prot_free(&s.out);
    login_end(&s);
    dlist_pool_free(&s.pool);
}
