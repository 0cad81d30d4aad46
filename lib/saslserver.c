/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* saslserver - AUTHENTICATE on the server's side, by the Cyrus SASL library.
 *
 * One context per connection. A SASL context serves one attempt, so after a failure a fresh one is
 * made with the same properties. What the library asks (options, canonical names, permission) it
 * asks through callbacks that carry our context.
 *
 * The library itself is one per process, with one set of callbacks for what concerns no connection
 * (plug-ins reading options when they are loaded). It is initialised once and stays: loading the
 * plug-ins for each connection would cost more than the login. The small static state below mirrors
 * that: how many contexts there are, and whose configuration is asked.
 *
 * On the wire: base64 lines; the server's begin with "+ ". Line lengths are bounded by what the
 * library can send in one step. */
#include "config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sasl/sasl.h>
#include <sasl/saslutil.h>

#include "lib/saslserver.h"
#include "lib/saslserver_policy.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

#define APPNAME "Cyrus"
/* Longest line of an exchange, and longest initial response (clients keep the command shorter). */
#define MAXLINE 21848
#define MAXINITIAL 65536
/* Size of a packet of a security layer that we accept. */
#define MAXPACKET 4096

struct saslserver {
    const struct config *config;
    sasl_conn_t *conn;
    sasl_callback_t callbacks[5];
    char *service, *local, *remote;
    sasl_ssf_t bits;
    int tls;
    char *peer_cn;
    struct binding {
        sasl_channel_binding_t cb;
        char name[32];
        unsigned char data[64];
    } bindings[2];
    int nbindings;
    char *userid, *mech; /* of a success */
    int admin;
    struct buf mechs, detail;
};

/* The library: see above. */
static struct {
    int initialised;
    int users;
    const struct config *config;
    sasl_callback_t callbacks[3];
} library;

/* Callbacks */

static int option(const struct config *config, const char *plugin, const char *name,
                  const char **result, unsigned *len)
{
    char key[256];
    const char *value = NULL;
    for (int specific = plugin != NULL; specific >= 0 && !value; specific--) {
        int n = specific ? snprintf(key, sizeof(key), "sasl_%s_%s", plugin, name)
                         : snprintf(key, sizeof(key), "sasl_%s", name);
        if (n < 0 || (size_t)n >= sizeof(key))
            continue;
        for (char *p = key; *p; p++)
            *p = (char)tolower((unsigned char)*p);
        value = config_getoverflowstring(config, key, NULL);
    }
    if (!value)
        return SASL_FAIL;
    *result = value;
    if (len)
        *len = (unsigned)strlen(value);
    return SASL_OK;
}

static int getopt_cb(void *rock, const char *plugin, const char *name, const char **result,
                     unsigned *len)
{
    return option(((struct saslserver *)rock)->config, plugin, name, result, len);
}

static int getopt_library_cb(void *rock, const char *plugin, const char *name,
                             const char **result, unsigned *len)
{
    (void)rock;
    return library.config ? option(library.config, plugin, name, result, len) : SASL_FAIL;
}

static int log_cb(void *rock, int level, const char *text)
{
    (void)rock;
    if (level == SASL_LOG_ERR)
        xlog_errorx("SASL: %s", text);
    else if (level == SASL_LOG_WARN)
        xlog_warnx("SASL: %s", text);
    else if (level == SASL_LOG_FAIL || level == SASL_LOG_NOTE)
        xlog_info("SASL: %s", text);
    else if (level == SASL_LOG_DEBUG)
        xlog_debug("SASL: %s", text);
    return SASL_OK;
}

static int canon_cb(sasl_conn_t *conn, void *rock, const char *in, unsigned len, unsigned flags,
                    const char *realm, char *out, unsigned size, unsigned *outlen)
{
    const struct saslserver *s = rock;
    (void)flags;
    (void)realm;
    int n = sasl_policy_canonify(s->config, s->local, in, len, out, size);
    if (n < 0) {
        sasl_seterror(conn, 0, "unusable user id");
        return SASL_BADAUTH;
    }
    *outlen = (unsigned)n;
    return SASL_OK;
}

static int proxy_cb(sasl_conn_t *conn, void *rock, const char *authzid, unsigned zlen,
                    const char *authid, unsigned len, const char *realm, unsigned realmlen,
                    struct propctx *props)
{
    const struct saslserver *s = rock;
    struct buf why = BUF_INITIALIZER;
    char *id = xstrndup(authid, len), *zid = xstrndup(authzid, zlen);
    (void)realm;
    (void)realmlen;
    (void)props;
    int r = sasl_policy_authorize(s->config, id, zid, &why);
    if (r)
        sasl_seterror(conn, 0, "%s", buf_cstring(&why));
    buf_free(&why);
    free(id);
    free(zid);
    return r ? SASL_NOAUTHZ : SASL_OK;
}

typedef int (*sasl_cb)(void);
#define CALLBACK(fn) ((sasl_cb)(void (*)(void))(fn)) /* the second cast says that it is meant */

/* Contexts */

static int library_init(const struct config *config)
{
    library.config = config;
    library.users++;
    if (library.initialised)
        return SASL_OK;
    sasl_callback_t *cb = library.callbacks;
    cb[0] = (sasl_callback_t){SASL_CB_GETOPT, CALLBACK(getopt_library_cb), NULL};
    cb[1] = (sasl_callback_t){SASL_CB_LOG, CALLBACK(log_cb), NULL};
    cb[2] = (sasl_callback_t){SASL_CB_LIST_END, NULL, NULL};
    int r = sasl_server_init(cb, APPNAME);
    library.initialised = r == SASL_OK;
    return r;
}

static int set_properties(struct saslserver *s)
{
    sasl_security_properties_t props = {0};
    int min = config_getint(s->config, IMAPOPT_SASL_MINIMUM_LAYER);
    int max = config_getint(s->config, IMAPOPT_SASL_MAXIMUM_LAYER);
    props.min_ssf = min > 0 ? (sasl_ssf_t)min : 0;
    props.max_ssf = max > 0 ? (sasl_ssf_t)max : 0;
    props.maxbufsize = MAXPACKET;
    props.security_flags = SASL_SEC_NOANONYMOUS;
    if (s->bits <= 1 && !config_getswitch(s->config, IMAPOPT_ALLOWPLAINTEXT))
        props.security_flags |= SASL_SEC_NOPLAINTEXT;
    int r = sasl_setprop(s->conn, SASL_SEC_PROPS, &props);
    if (r == SASL_OK && s->bits)
        r = sasl_setprop(s->conn, SASL_SSF_EXTERNAL, &s->bits);
    if (r == SASL_OK && s->peer_cn)
        r = sasl_setprop(s->conn, SASL_AUTH_EXTERNAL, s->peer_cn);
    if (r == SASL_OK && s->nbindings)
        r = sasl_setprop(s->conn, SASL_CHANNEL_BINDING, &s->bindings[0].cb);
    return r;
}

static int new_context(struct saslserver *s)
{
    sasl_dispose(&s->conn);
    int r = sasl_server_new(s->service, config_servername(s->config), NULL, s->local, s->remote,
                            s->callbacks, 0, &s->conn);
    return r == SASL_OK ? set_properties(s) : r;
}

int saslserver_new(const struct config *config, const char *service, const char *local,
                   const char *remote, struct saslserver **sp, struct buf *err)
{
    struct saslserver *s = xzmalloc(sizeof(*s));
    s->config = config;
    s->service = xstrdup(service);
    s->local = xstrdupnull(local);
    s->remote = xstrdupnull(remote);
    s->callbacks[0] = (sasl_callback_t){SASL_CB_GETOPT, CALLBACK(getopt_cb), s};
    s->callbacks[1] = (sasl_callback_t){SASL_CB_LOG, CALLBACK(log_cb), s};
    s->callbacks[2] = (sasl_callback_t){SASL_CB_CANON_USER, CALLBACK(canon_cb), s};
    s->callbacks[3] = (sasl_callback_t){SASL_CB_PROXY_POLICY, CALLBACK(proxy_cb), s};
    s->callbacks[4] = (sasl_callback_t){SASL_CB_LIST_END, NULL, NULL};
    int r = library_init(config);
    if (r == SASL_OK)
        r = new_context(s);
    *sp = s;
    if (r == SASL_OK)
        return 0;
    buf_printf(err, "cannot initialise SASL: %s", sasl_errstring(r, NULL, NULL));
    saslserver_free(sp);
    return XERR_CRYPTO;
}

void saslserver_free(struct saslserver **sp)
{
    struct saslserver *s = *sp;
    if (!s)
        return;
    sasl_dispose(&s->conn);
    if (!--library.users)
        library.config = NULL;
    free(s->service);
    free(s->local);
    free(s->remote);
    free(s->peer_cn);
    free(s->userid);
    free(s->mech);
    buf_free(&s->mechs);
    buf_free(&s->detail);
    free(s);
    *sp = NULL;
}

int saslserver_setexternal(struct saslserver *s, int bits, int tls, const char *peer_cn)
{
    s->bits = bits > 0 ? (sasl_ssf_t)bits : 0;
    s->tls = tls;
    free(s->peer_cn);
    s->peer_cn = peer_cn && *peer_cn ? xstrdup(peer_cn) : NULL;
    s->nbindings = 0;
    return new_context(s) == SASL_OK ? 0 : XERR_CRYPTO;
}

int saslserver_addbinding(struct saslserver *s, const char *name, const void *data, unsigned len)
{
    struct binding *b = &s->bindings[s->nbindings];
    if (s->nbindings == (int)(sizeof(s->bindings) / sizeof(*b)) || !len || len > sizeof(b->data) ||
        strlen(name) >= sizeof(b->name))
        return XERR_PARAM;
    memcpy(b->name, name, strlen(name) + 1);
    memcpy(b->data, data, len);
    b->cb = (sasl_channel_binding_t){b->name, 0, len, b->data};
    if (!s->nbindings++)
        return sasl_setprop(s->conn, SASL_CHANNEL_BINDING, &b->cb) == SASL_OK ? 0 : XERR_CRYPTO;
    return 0;
}

/* The library's list is asked for without the channel binding, and the mechanisms with one are added
 * here: where every mechanism has such a twin, library 2.1.28 writes a byte behind its buffer. */
const char *saslserver_mechs(struct saslserver *s)
{
    const char *list = NULL;
    struct strarray names = STRARRAY_INITIALIZER;
    buf_reset(&s->mechs);
    if (!s->conn)
        return "";
    (void)sasl_setprop(s->conn, SASL_CHANNEL_BINDING, NULL);
    if (sasl_listmech(s->conn, NULL, "", " ", "", &list, NULL, NULL) == SASL_OK && list)
        strarray_split(&names, list, " ");
    if (s->nbindings)
        (void)sasl_setprop(s->conn, SASL_CHANNEL_BINDING, &s->bindings[0].cb);
    for (int i = 0; i < names.count; i++) {
        const char *name = names.data[i];
        if (s->nbindings && (!strncmp(name, "SCRAM-", 6) || !strncmp(name, "GS2-", 4)))
            buf_printf(&s->mechs, "%s-PLUS ", name);
        buf_printf(&s->mechs, "%s%s", name, i + 1 < names.count ? " " : "");
    }
    strarray_fini(&names);
    return buf_cstring(&s->mechs);
}

/* The exchange */

/* A line without its end to LINE: 0 or an error. */
static int read_line(struct protstream *in, struct buf *line)
{
    int c;
    buf_reset(line);
    while ((c = prot_getc(in)) != '\n') {
        if (c < 0)
            return prot_error(in) ? prot_error(in) : XERR_EOF;
        if (line->len > MAXLINE)
            return XERR_TOOBIG;
        buf_putc(line, c);
    }
    if (line->len && line->s[line->len - 1] == '\r')
        line->len--;
    return 0;
}

/* Base64 TEXT to OUT: SASL_OK or an error of the library. */
static int decode(const char *text, size_t len, struct buf *out)
{
    unsigned n = 0, room = MAXINITIAL / 4 * 3 + 4;
    buf_reset(out);
    if (len > MAXINITIAL)
        return SASL_BADPROT;
    int r = sasl_decode64(text, (unsigned)len, buf_ensure(out, room), room, &n);
    if (r == SASL_OK)
        out->len = n;
    return r == SASL_OK ? SASL_OK : SASL_BADPROT;
}

static int send_challenge(struct protstream *out, const char *p, unsigned n)
{
    struct buf line = BUF_INITIALIZER;
    unsigned len = 0, room = (n + 2) / 3 * 4 + 1;
    buf_setcstr(&line, "+ ");
    char *to = buf_ensure(&line, room);
    int r = n ? sasl_encode64(p, n, to, room, &len) : SASL_OK;
    line.len += len;
    buf_appendcstr(&line, "\r\n");
    r = r == SASL_OK ? prot_write(out, line.s, line.len) : XERR_INTERNAL;
    if (!r)
        r = prot_flush(out);
    buf_free(&line);
    return r;
}

/* One attempt. */
struct attempt {
    struct buf line;     /* from the client */
    struct buf response; /* the same, decoded */
    const char *challenge;
    unsigned len;
    int first;  /* the client has not said anything yet */
    int result; /* of the library, or of the streams if these failed */
};

/* The library knows one channel binding of a connection, and refuses a client that uses another.
 * The client's first message (RFC 5801, section 4) says which that is: "p=NAME,...". */
static void choose_binding(struct saslserver *s, const struct buf *response)
{
    for (int i = 0; i < s->nbindings; i++) {
        struct binding *b = &s->bindings[i];
        size_t n = strlen(b->name);
        if (response->len > n + 2 && !memcmp(response->s, "p=", 2) &&
            !memcmp(response->s + 2, b->name, n) && response->s[n + 2] == ',')
            sasl_setprop(s->conn, SASL_CHANNEL_BINDING, &b->cb);
    }
}

static void start(struct saslserver *s, struct attempt *a, const char *mech, const char *initial)
{
    a->result = SASL_OK;
    a->first = !initial;
    if (initial && strcmp(initial, "="))
        a->result = decode(initial, strlen(initial), &a->response);
    if (initial && a->result == SASL_OK)
        choose_binding(s, &a->response);
    if (a->result == SASL_OK)
        a->result = sasl_server_start(s->conn, mech, initial ? buf_cstring(&a->response) : NULL,
                                      (unsigned)a->response.len, &a->challenge, &a->len);
}

/* Challenge and response. OK: the library has answered, see a->result. */
static enum saslserver_result step(struct saslserver *s, struct attempt *a, struct protstream *in,
                                   struct protstream *out)
{
    int r = send_challenge(out, a->challenge, a->challenge ? a->len : 0);
    if (!r)
        r = read_line(in, &a->line);
    if (r) {
        a->result = r;
        return SASLSERVER_LOST;
    }
    if (a->line.len == 1 && a->line.s[0] == '*')
        return SASLSERVER_CANCELED;
    a->challenge = NULL;
    a->len = 0;
    a->result = decode(buf_cstring(&a->line), a->line.len, &a->response);
    if (a->first && a->result == SASL_OK)
        choose_binding(s, &a->response);
    a->first = 0;
    if (a->result == SASL_OK)
        a->result = sasl_server_step(s->conn, buf_cstring(&a->response), (unsigned)a->response.len,
                                     &a->challenge, &a->len);
    return SASLSERVER_OK;
}

/* Forget a buffer that may hold a password. */
static void wipe(struct buf *b)
{
    if (b->s)
        explicit_bzero(b->s, b->alloc);
    buf_free(b);
}

/* Steps until the library is content or not; why not goes to *RESULT. */
static enum saslserver_result exchange(struct saslserver *s, struct protstream *in,
                                       struct protstream *out, const char *mech,
                                       const char *initial, int *result)
{
    struct attempt a = {BUF_INITIALIZER, BUF_INITIALIZER, NULL, 0, 0, SASL_OK};
    enum saslserver_result outcome = SASLSERVER_OK;
    start(s, &a, mech, initial);
    while (outcome == SASLSERVER_OK && a.result == SASL_CONTINUE)
        outcome = step(s, &a, in, out);
    if (outcome == SASLSERVER_OK && a.result != SASL_OK)
        outcome = SASLSERVER_FAILED;
    *result = a.result;
    wipe(&a.line);
    wipe(&a.response);
    return outcome;
}

static const char *get_string(const struct saslserver *s, int prop)
{
    const void *p = NULL;
    return sasl_getprop(s->conn, prop, &p) == SASL_OK ? p : NULL;
}

static sasl_ssf_t get_ssf(const struct saslserver *s)
{
    const void *p = NULL;
    return sasl_getprop(s->conn, SASL_SSF, &p) == SASL_OK && p ? *(const sasl_ssf_t *)p : 0;
}

/* Note who it is. 0, or XERR_INTERNAL if the library does not say. */
static int succeed(struct saslserver *s, struct buf *text)
{
    const char *userid = get_string(s, SASL_USERNAME), *authid = get_string(s, SASL_AUTHUSER);
    const char *mech = get_string(s, SASL_MECHNAME);
    sasl_ssf_t ssf = get_ssf(s);
    if (!userid || !authid)
        return XERR_INTERNAL;
    s->userid = xstrdup(userid);
    s->mech = xstrdup(mech ? mech : "");
    s->admin = !strcmp(userid, authid) && sasl_policy_isin(s->config, IMAPOPT_ADMINS, userid);
    const char *layer = !ssf ? "" : ssf == 1 ? "integrity protection" : "privacy protection";
    if (s->tls)
        buf_printf(text, "Success (tls %s%s)", ssf ? "plus " : "protection", layer);
    else
        buf_printf(text, "Success (%s)", ssf ? layer : "no protection");
    return 0;
}

static void fail(struct saslserver *s, int result, struct buf *text)
{
    buf_setcstr(&s->detail, sasl_errdetail(s->conn));
    if (result == SASL_NOUSER)
        result = SASL_BADAUTH; /* who exists is nobody's business */
    buf_appendcstr(text, sasl_errstring(result, NULL, NULL));
}

enum saslserver_result saslserver_authenticate(struct saslserver *s, struct protstream *in,
                                               struct protstream *out, const char *mech,
                                               const char *initial, struct buf *text)
{
    int result = 0;
    buf_reset(text);
    buf_reset(&s->detail);
    if (s->userid || (!s->conn && new_context(s) != SASL_OK)) {
        buf_setcstr(text, "bad protocol");
        return SASLSERVER_FAILED;
    }
    enum saslserver_result outcome = exchange(s, in, out, mech, initial, &result);
    if (outcome == SASLSERVER_OK && succeed(s, text)) {
        outcome = SASLSERVER_FAILED;
        result = SASL_FAIL;
    }
    if (outcome == SASLSERVER_OK)
        return outcome;
    if (outcome == SASLSERVER_FAILED)
        fail(s, result, text);
    else if (outcome == SASLSERVER_CANCELED)
        buf_setcstr(text, "Client canceled authentication");
    else
        buf_printf(text, "Error reading client response: %s", error_message(result));
    if (new_context(s) != SASL_OK)
        sasl_dispose(&s->conn);
    return outcome;
}

const char *saslserver_userid(const struct saslserver *s)
{
    return s->userid;
}

int saslserver_isadmin(const struct saslserver *s)
{
    return s->admin;
}

const char *saslserver_mech(const struct saslserver *s)
{
    return s->mech;
}

const char *saslserver_errdetail(struct saslserver *s)
{
    return buf_cstring(&s->detail);
}

int saslserver_setlayer(struct saslserver *s, struct protstream *in, struct protstream *out)
{
    return s->userid && get_ssf(s) ? prot_setsasl(in, out, s->conn) : 0;
}
