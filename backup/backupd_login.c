/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* backupd_login - who is at the other end: AUTHENTICATE, STARTTLS, and what follows from them.
 *
 * Only administrators have any business here, so others are refused as part of the login and the
 * state "logged in, but not allowed anything" does not exist. The peer at a UNIX socket is the
 * administrator cyrus: the directory of the socket says who can reach it.
 *
 * With tls_required nobody is let in, and no mechanism is offered, before STARTTLS, save through a
 * layer that the administrator vouches for with -p. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backup/backupd_session.h"
#include "lib/cyrususer.h"
#include "lib/xerr.h"
#include "lib/xlog.h"

enum {
    LONGEST_MECH = 20,       /* RFC 4422 */
    LONGEST_INITIAL = 65536, /* clients put up to 65535 bytes into the command */
    HANDSHAKE_SECONDS = 180,
    LONGEST_PAUSE = 60
};

/* ---- SASL context ---- */

/* What the library has to know about layers that it did not make. */
static int tell_layers(struct session *s)
{
    const struct tls_info *tls = &s->tls;
    if (!s->tls_active)
        return s->setup->ssf > 0 ? saslserver_setexternal(s->sasl, s->setup->ssf, 0, "") : 0;
    int r = saslserver_setexternal(s->sasl, tls->bits, 1, tls->peer_cn);
    for (int i = 0; i < tls->nbindings && !r; i++)
        r = saslserver_addbinding(s->sasl, tls->bindings[i].name, tls->bindings[i].data,
                                  tls->bindings[i].len);
    return r;
}

static int new_context(struct session *s)
{
    struct buf err = BUF_INITIALIZER;
    const struct service *service = s->service;
    saslserver_free(&s->sasl);
    int r = saslserver_new(s->config, "csync", *service->localaddr ? service->localaddr : NULL,
                           *service->remoteaddr ? service->remoteaddr : NULL, &s->sasl, &err);
    if (!r)
        r = tell_layers(s);
    if (r) {
        xlog_errorx("SASL cannot be used: %s", err.len ? buf_cstring(&err) : error_message(r));
        session_fatal(s, "SASL failed initializing");
    }
    buf_free(&err);
    return r;
}

static int lacks_tls(const struct session *s)
{
    return config_getswitch(s->config, IMAPOPT_TLS_REQUIRED) && !s->tls_active &&
           s->setup->ssf <= 1;
}

const char *login_mechs(struct session *s)
{
    return !s->sasl || s->logged_in || lacks_tls(s) ? "" : saslserver_mechs(s->sasl);
}

/* ---- Telemetry ---- */

/* <ident>-<pid>, or with a name of its own for each session. */
static void telemetry_name(const struct session *s, const char *userid, struct buf *path)
{
    buf_printf(path, "%s/log/%s/%s-",
               config_getstring(s->config, IMAPOPT_CONFIGDIRECTORY), userid, s->service->ident);
    if (!config_getswitch(s->config, IMAPOPT_TELEMETRY_BYSESSIONID)) {
        buf_printf(path, "%ld", (long)getpid());
        return;
    }
    uint64_t number = 0;
    if (getrandom(&number, sizeof(number), GRND_NONBLOCK) < 0)
        number = (uint64_t)session_now();
    buf_printf(path, "%s-%ld-%lld-%016llx", s->service->ident, (long)getpid(),
               (long long)time(NULL), (unsigned long long)number);
}

/* If <configdirectory>/log/<userid>/ exists, this user's conversation is written there. */
static void begin_telemetry(struct session *s, const char *userid)
{
    struct buf path = BUF_INITIALIZER;
    char when[32];
    if (!*userid || *userid == '.' || strchr(userid, '/'))
        return;
    telemetry_name(s, userid, &path);
    s->telemetry = open(buf_cstring(&path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
                        0644);
    if (s->telemetry >= 0) {
        time_t now = time(NULL);
        dprintf(s->telemetry, "---------- %s %s\n", userid, ctime_r(&now, when));
        prot_setlog(s->in, s->telemetry);
        prot_setlog(s->out, s->telemetry);
    } else if (errno != ENOENT && errno != ENOTDIR) {
        xlog_warn("cannot write %s", buf_cstring(&path));
    }
    buf_free(&path);
}

/* ---- Login ---- */

/* USERID is in: 0 or an error, which the client has been told. */
static int enter(struct session *s)
{
    int r = backupd_open(s->service, s->in, s->out, &s->reader, &s->backupd);
    if (r)
        session_fatal(s, error_message(r));
    else
        s->logged_in = 1;
    return r;
}

int login_begin(struct session *s)
{
    if (!s->service->listen_unix)
        return new_context(s);
    const char *userid = cyrususer_name(s->config);
    int r = enter(s);
    if (r)
        return r;
    service_setproc(s->service, userid, NULL, NULL);
    begin_telemetry(s, userid);
    return 0;
}

void login_end(struct session *s)
{
    saslserver_free(&s->sasl);
    if (s->telemetry >= 0)
        close(s->telemetry);
}

/* Those who guess passwords shall take their time. A request to stop ends it. */
static void failed_pause(const struct session *s)
{
    int64_t seconds = config_getduration(s->config, IMAPOPT_FAILEDLOGINPAUSE);
    int64_t end = session_now() + 1000 * (seconds < LONGEST_PAUSE ? seconds : LONGEST_PAUSE), left;
    while ((left = end - session_now()) > 0 && service_signals(s->service) != SERVICE_STOP)
        poll(NULL, 0, left < 1000 ? (int)left : 1000);
}

static enum backupd_next failed(struct session *s, const char *mech, const char *text)
{
    xlog_info("badlogin: %s %s [%s]", s->service->clienthost, mech, saslserver_errdetail(s->sasl));
    failed_pause(s);
    session_reply(s, "NO %s", text);
    return BACKUPD_CONTINUE;
}

static enum backupd_next succeeded(struct session *s, const char *mech, const char *text)
{
    const char *userid = saslserver_userid(s->sasl);
    if (!saslserver_isadmin(s->sasl)) {
        xlog_info("badlogin: %s %s [%s is not an administrator, or somebody else acting for him]",
                  s->service->clienthost, mech, userid);
        failed_pause(s);
        session_reply(s, "NO Permission denied");
        return new_context(s) ? BACKUPD_CLOSE : BACKUPD_CONTINUE;
    }
    if (enter(s))
        return BACKUPD_CLOSE;
    xlog_info("login: %s %s %s%s User logged in", s->service->clienthost, userid, mech,
              s->tls_active ? "+TLS" : "");
    service_setproc(s->service, userid, NULL, NULL);
    session_reply(s, "OK %s", text);
    int r = prot_flush(s->out);
    if (!r)
        r = saslserver_setlayer(s->sasl, s->in, s->out);
    if (r)
        return BACKUPD_CLOSE;
    begin_telemetry(s, userid);
    return BACKUPD_CONTINUE;
}

static enum backupd_next exchange(struct session *s, const char *mech, const char *initial)
{
    struct buf text = BUF_INITIALIZER;
    enum backupd_next next = BACKUPD_CONTINUE;
    switch (saslserver_authenticate(s->sasl, s->in, s->out, mech, initial, &text)) {
    case SASLSERVER_OK:
        next = succeeded(s, mech, buf_cstring(&text));
        break;
    case SASLSERVER_FAILED:
        next = failed(s, mech, buf_cstring(&text));
        break;
    case SASLSERVER_CANCELED:
        session_reply(s, "BAD %s", buf_cstring(&text));
        break;
    case SASLSERVER_LOST:
        session_reply(s, "NO %s", buf_cstring(&text));
        next = BACKUPD_CLOSE;
        break;
    }
    buf_free(&text);
    return next;
}

/* ---- The command lines ---- */

static int is_mech(const struct buf *name)
{
    for (size_t i = 0; i < name->len; i++)
        if (!isalnum((unsigned char)name->s[i]) && name->s[i] != '-' && name->s[i] != '_')
            return 0;
    return name->len > 0 && name->len <= LONGEST_MECH;
}

/* Mechanism and initial response up to the end of the line. *COMPLAINT is the text of a refusal. */
static int read_arguments(struct session *s, struct buf *mech, struct buf *initial, int *has_initial,
                          const char **complaint)
{
    struct dlist_reader *reader = &s->reader;
    int c = dlist_reader_peek(reader);
    *has_initial = 0;
    *complaint = NULL;
    if (c == '\r' || c == '\n') {
        *complaint = "BAD Missing required argument to Authenticate";
        return XERR_SYNTAX;
    }
    *complaint = "BAD Invalid mechanism";
    int r = c < 0 ? c : dlist_reader_astring(reader, mech, LONGEST_INITIAL);
    if (r)
        return r;
    c = dlist_reader_peek(reader);
    if (c != '\r' && c != '\n') {
        *complaint = "NO Error reading client response: initial response is unusable";
        *has_initial = 1;
        r = c < 0 ? c : dlist_reader_astring(reader, initial, LONGEST_INITIAL);
        if (!r)
            c = dlist_reader_peek(reader);
        if (r || c < 0)
            return r ? r : c;
    }
    *complaint = "BAD Unexpected extra arguments to Authenticate";
    return dlist_reader_eol(reader);
}

/* Why the command is refused whoever it is, or NULL. */
static const char *objection(const struct session *s, const struct buf *mech)
{
    if (s->logged_in)
        return "BAD Already authenticated";
    if (!is_mech(mech))
        return "BAD Invalid mechanism";
    return lacks_tls(s) ? "NO Please use STARTTLS first" : NULL;
}

enum backupd_next login_authenticate(struct session *s)
{
    struct buf mech = BUF_INITIALIZER, initial = BUF_INITIALIZER;
    const char *complaint;
    int has_initial;
    enum backupd_next next = BACKUPD_CONTINUE;
    if (read_arguments(s, &mech, &initial, &has_initial, &complaint))
        next = session_refuse(s, complaint);
    else if ((complaint = objection(s, &mech)))
        session_reply(s, "%s", complaint);
    else
        next = exchange(s, buf_cstring(&mech), has_initial ? buf_cstring(&initial) : NULL);
    /* It may have been a password. */
    if (initial.len)
        explicit_bzero(initial.s, initial.len);
    buf_free(&mech);
    buf_free(&initial);
    return next;
}

/* The handshake; its failure leaves the connection useless. */
static enum backupd_next begin_tls(struct session *s)
{
    struct buf err = BUF_INITIALIZER;
    session_reply(s, "OK Begin TLS negotiation now");
    int r = tls_server_accept(s->setup->tls, s->in, s->out, HANDSHAKE_SECONDS, &s->tls, &err);
    if (r) {
        xlog_warnx("STARTTLS failed: %s: %s", s->service->clienthost, buf_cstring(&err));
        session_reply(s, "NO Starttls failed");
        buf_free(&err);
        return BACKUPD_CLOSE;
    }
    buf_free(&err);
    xlog_info("starttls: %s with cipher %s (%d bits) no authentication: %s", s->tls.protocol,
              s->tls.cipher, s->tls.bits, s->service->clienthost);
    s->tls_active = 1;
    /* What the client said before may have been said by another. */
    session_reset_reader(s);
    if (new_context(s))
        return BACKUPD_CLOSE;
    session_greet(s);
    return BACKUPD_CONTINUE;
}

enum backupd_next login_starttls(struct session *s)
{
    if (!s->setup->tls_wanted)
        return session_refuse(s, "BAD IMAP_PROTOCOL_ERROR Unrecognized command");
    int c = dlist_reader_peek(&s->reader);
    if (c < 0)
        return BACKUPD_CLOSE;
    if (dlist_reader_eol(&s->reader))
        return session_refuse(s, "BAD Unexpected extra arguments to Starttls");
    if (s->tls_active)
        session_reply(s, "BAD Already did a successful Starttls");
    else if (s->logged_in)
        session_reply(s, "BAD Can't Starttls after authentication");
    else if (prot_compression(s->out))
        session_reply(s, "BAD Can't Starttls after Compress");
    else if (!s->setup->tls)
        session_reply(s, "NO Error initializing TLS");
    else
        return begin_tls(s);
    return BACKUPD_CONTINUE;
}
