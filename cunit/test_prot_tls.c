/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of lib/prot_tls: options, and handshakes with OpenSSL clients in processes of their own. */
#include "config.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "cunit/pki.h"
#include "cunit/unit.h"
#include "cunit/unit_config.h"
#include "lib/prot_layer.h"
#include "lib/prot_tls.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define SERVER "tls_server_cert: ~/server.pem\ntls_server_key: ~/server.key\n"

/* What a client does: all versions from MIN to MAX, CERT (base name) if any. */
struct client {
    int min, max;
    const char *cert;
    const char *ciphers;
    int key_bits;    /* the server's temporary key has so many, if not 0 */
    size_t bytes;    /* sent after the greeting of the server */
    int vanish;      /* close without a word after the handshake */
    int expect_fail; /* the handshake must not succeed */
};

/* Exit status 0 if all went as it should. Runs in a child, with OpenSSL on the bare descriptor. */
static int run_client(const struct pki *pki, const struct client *c, int fd)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    char file[64], greeting[8];
    SSL_CTX_set_min_proto_version(ctx, c->min);
    SSL_CTX_set_max_proto_version(ctx, c->max);
    if (c->ciphers)
        SSL_CTX_set_cipher_list(ctx, c->ciphers);
    if (c->cert) {
        snprintf(file, sizeof(file), "%s.pem", c->cert);
        SSL_CTX_use_certificate_chain_file(ctx, pki_path(pki, file));
        snprintf(file, sizeof(file), "%s.key", c->cert);
        SSL_CTX_use_PrivateKey_file(ctx, pki_path(pki, file), SSL_FILETYPE_PEM);
    }
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    int r = SSL_connect(ssl) == 1 && SSL_read(ssl, greeting, 6) == 6 &&
            !memcmp(greeting, "hello\n", 6);
    if (c->expect_fail || !r)
        return c->expect_fail == !r ? 0 : 2;
    EVP_PKEY *temporary = NULL;
    if (c->key_bits && (SSL_get_peer_tmp_key(ssl, &temporary) != 1 ||
                        EVP_PKEY_get_bits(temporary) != c->key_bits))
        return 7;
    if (c->vanish)
        return 0;
    unsigned char *p = xmalloc(c->bytes + 1);
    for (size_t i = 0; i < c->bytes; i++)
        p[i] = (unsigned char)(i * 7 + (i >> 9));
    if (c->bytes && SSL_write(ssl, p, (int)c->bytes) != (int)c->bytes)
        return 3;
    /* The server echoes and says goodbye. */
    for (size_t at = 0; at < c->bytes;) {
        unsigned char q[5000];
        int n = SSL_read(ssl, q, sizeof(q));
        if (n <= 0 || (size_t)n > c->bytes - at || memcmp(q, p + at, (size_t)n))
            return 4;
        at += (size_t)n;
    }
    if (SSL_read(ssl, greeting, 1) > 0)
        return 5;
    return SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN ? 0 : 6;
}

struct session {
    int fd[2];
    pid_t pid;
    struct protstream *in, *out;
};

static void start_client(struct session *s, const struct pki *pki, const struct client *c)
{
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, s->fd), 0);
    fflush(NULL);
    s->pid = fork();
    CU_ASSERT_FATAL(s->pid >= 0);
    if (!s->pid) {
        close(s->fd[0]);
        signal(SIGPIPE, SIG_IGN);
        _exit(run_client(pki, c, s->fd[1]));
    }
    close(s->fd[1]);
    s->in = prot_new(s->fd[0], 0);
    s->out = prot_new(s->fd[0], 1);
    prot_settimeout(s->in, 60);
    prot_settimeout(s->out, 60);
}

/* Ends the session; 1 if the client was content. prot_free() does not wait for room for its goodbye, so
 * there must be some. */
static int end_session(struct session *s)
{
    struct pollfd room = {.fd = s->fd[0], .events = POLLOUT};
    int status = -1;
    CU_ASSERT_EQUAL(poll(&room, 1, 60000), 1);
    prot_free(&s->out);
    prot_free(&s->in);
    close(s->fd[0]);
    if (waitpid(s->pid, &status, 0) != s->pid)
        return 0;
    if (status)
        printf("\nclient: status %x\n", (unsigned)status);
    return status == 0;
}

/* Handshake under the configuration LINES; the error. */
static int accept_client(struct session *s, const struct pki *pki, const char *lines,
                         const struct client *c, struct tls_info *info, struct buf *err)
{
    struct config *config = unit_config(pki->dir, lines);
    struct tls_server *server = NULL;
    int r = tls_server_new(config, "csync", &server, err);
    if (r)
        printf("\n%s\n", buf_cstring(err));
    CU_ASSERT_EQUAL_FATAL(r, 0);
    start_client(s, pki, c);
    r = tls_server_accept(server, s->in, s->out, 30, info, err);
    if (!r)
        r = prot_puts(s->out, "hello\n");
    if (!r)
        r = prot_flush(s->out);
    tls_server_free(&server);
    config_free(&config);
    return r;
}

static int echo(struct session *s, size_t n)
{
    char *p = xmalloc(n);
    int r = prot_readall(s->in, p, n);
    if (!r)
        r = prot_write(s->out, p, n);
    if (!r)
        r = prot_flush(s->out);
    free(p);
    return r;
}

static void check_version(const struct pki *pki, int version, const char *name, const char *binding,
                          unsigned len)
{
    struct client c = {.min = version, .max = version, .bytes = 500000};
    struct buf err = BUF_INITIALIZER;
    struct session s;
    struct tls_info info;
    CU_ASSERT_EQUAL(accept_client(&s, pki, SERVER, &c, &info, &err), 0);
    UNIT_STR(info.protocol, name);
    CU_ASSERT(info.bits >= 128);
    CU_ASSERT(info.cipher[0] != '\0');
    UNIT_STR(info.peer_cn, "");
    CU_ASSERT_EQUAL(info.nbindings, 2);
    UNIT_STR(info.bindings[0].name, binding);
    CU_ASSERT_EQUAL(info.bindings[0].len, len);
    CU_ASSERT_EQUAL(echo(&s, c.bytes), 0);
    CU_ASSERT(end_session(&s));
    buf_free(&err);
}

static void test_versions(void)
{
    struct pki pki = {.dir = ""};
    pki_init(&pki);
    check_version(&pki, TLS1_2_VERSION, "TLSv1.2", "tls-unique", 12);
    check_version(&pki, TLS1_3_VERSION, "TLSv1.3", "tls-exporter", 32);
    pki_free(&pki);
}

/* Old versions only by name; a version can be taken away. */
static void test_old_versions(void)
{
    static const struct {
        const char *lines;
        int version;
        int ok;
    } cases[] = {
        {SERVER "tls_ciphers: DEFAULT:@SECLEVEL=0\n", TLS1_1_VERSION, 0},
        {SERVER "tls_ciphers: DEFAULT:@SECLEVEL=0\ntls_versions: tls1_1 tls1_2\n", TLS1_1_VERSION,
         1},
        {SERVER "tls_versions: tls1_2\n", TLS1_3_VERSION, 0},
        {SERVER "tls_versions: tls1_3\n", TLS1_2_VERSION, 0},
        {SERVER "tls_versions: tls1_2 tls1_3\n", TLS1_2_VERSION, 1},
    };
    struct pki pki = {.dir = ""};
    pki_init(&pki);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c = {.min = cases[i].version, .max = cases[i].version, .bytes = 3,
                           .ciphers = "DEFAULT:@SECLEVEL=0", .expect_fail = !cases[i].ok};
        struct buf err = BUF_INITIALIZER;
        struct session s;
        struct tls_info info;
        int r = accept_client(&s, &pki, cases[i].lines, &c, &info, &err);
        CU_ASSERT_EQUAL(r, cases[i].ok ? 0 : XERR_CRYPTO);
        CU_ASSERT_EQUAL(err.len > 0, !cases[i].ok);
        if (!r)
            CU_ASSERT_EQUAL(echo(&s, 3), 0);
        CU_ASSERT(end_session(&s));
        buf_free(&err);
    }
    pki_free(&pki);
}

static void check_client_cert(const struct pki *pki, const char *lines, const char *cert, int ok,
                              const char *cn)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct client c = {.min = version, .max = version, .cert = cert, .expect_fail = !ok,
                           .bytes = 1};
        struct buf err = BUF_INITIALIZER;
        struct session s;
        struct tls_info info = {0};
        int r = accept_client(&s, pki, lines, &c, &info, &err);
        CU_ASSERT_EQUAL(r, ok ? 0 : XERR_CRYPTO);
        UNIT_STR(info.peer_cn, cn);
        if (!r)
            CU_ASSERT_EQUAL(echo(&s, 1), 0);
        CU_ASSERT(end_session(&s));
        buf_free(&err);
    }
}

#define CA SERVER "tls_client_ca_file: ~/ca.pem\n"

static void test_client_certs(void)
{
    struct pki pki = {.dir = ""}, other = {.dir = ""};
    pki_init(&pki);
    pki_issue(&pki, "alice", "alice", 0, 3);
    pki_issue(&pki, "mallory", "mallory", 0, 4);
    pki_revoke(&pki, "crl.pem", 4);
    pki_init(&other);
    snprintf(other.dir, sizeof(other.dir), "%s", pki.dir);
    pki_issue(&other, "foreign", "alice", 0, 3);
    check_client_cert(&pki, SERVER, "alice", 1, "");
    check_client_cert(&pki, CA, "alice", 1, "alice");
    check_client_cert(&pki, CA, NULL, 1, "");
    check_client_cert(&pki, CA, "foreign", 0, "");
    check_client_cert(&pki, CA "tls_client_certs: off\n", "alice", 1, "");
    check_client_cert(&pki, CA "tls_client_certs: require\n", NULL, 0, "");
    check_client_cert(&pki, CA "tls_client_certs: require\n", "alice", 1, "alice");
    check_client_cert(&pki, CA, "mallory", 1, "mallory");
    check_client_cert(&pki, CA "tls_crl_file: ~/crl.pem\n", "mallory", 0, "");
    check_client_cert(&pki, CA "tls_crl_file: ~/crl.pem\n", "alice", 1, "alice");
    pki_free(&pki);
    pki_free(&other);
}

/* Good certificates whose names are of no use: nobody, rather than half a name. */
static void test_odd_names(void)
{
    static const struct {
        const char *cn;
        int len;
        const char *expected;
    } cases[] = {
        {"admin", 5, "admin"},
        {"admin\0", 6, ""},
        {"admin\0.example.org", 18, ""},
        {"\0admin", 6, ""},
        {"adm\nin", 6, "adm\nin"}, /* the rules for user ids see to these */
        {"\xc3\xa4", 2, "\xc3\xa4"},
    };
    struct pki pki = {.dir = ""};
    pki_init(&pki);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pki_issue_bytes(&pki, "odd", cases[i].cn, cases[i].len, 0, 20 + (int)i);
        check_client_cert(&pki, CA, "odd", 1, cases[i].expected);
    }
    pki_free(&pki);
}

/* The channel bindings as the client sees them, tls-exporter first; their length. */
static size_t client_bindings(SSL *ssl, unsigned char *p)
{
    if (SSL_export_keying_material(ssl, p, 32, "EXPORTER-Channel-Binding", 24, (unsigned char *)"",
                                   0, 1) != 1)
        return 0;
    return 32 + (SSL_session_reused(ssl) ? SSL_get_peer_finished(ssl, p + 32, 64)
                                         : SSL_get_finished(ssl, p + 32, 64));
}

static SSL_SESSION *latest;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(latest);
    latest = session;
    return 1;
}

/* Two connections of VERSION, the second with the session of the first. Sends the bindings. */
static int run_resuming(int version, const int fd[2], int resumed)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_max_proto_version(ctx, version);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    for (int i = 0; i < 2; i++) {
        char greeting[6];
        unsigned char binding[96];
        SSL *ssl = SSL_new(ctx);
        SSL_set_fd(ssl, fd[i]);
        if (latest)
            SSL_set_session(ssl, latest);
        if (SSL_connect(ssl) != 1 || SSL_read(ssl, greeting, 6) != 6)
            return 1;
        if (SSL_session_reused(ssl) != (i && resumed))
            return 2;
        int n = (int)client_bindings(ssl, binding);
        if (SSL_write(ssl, binding, n) != n)
            return 3;
        SSL_shutdown(ssl);
        SSL_free(ssl);
    }
    return 0;
}

static void check_resumption(const struct pki *pki, const char *lines, int version, int resumed)
{
    struct tls_server *server = NULL;
    struct buf err = BUF_INITIALIZER;
    struct config *config = unit_config(pki->dir, lines);
    int fd[2][2], status = -1;
    CU_ASSERT_EQUAL_FATAL(tls_server_new(config, "csync", &server, &err), 0);
    for (int i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fd[i]), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (!pid)
        _exit(run_resuming(version, (int[]){fd[0][1], fd[1][1]}, resumed));
    for (int i = 0; i < 2; i++) {
        struct tls_info info;
        unsigned char theirs[64];
        close(fd[i][1]);
        struct protstream *in = prot_new(fd[i][0], 0), *out = prot_new(fd[i][0], 1);
        CU_ASSERT_EQUAL(tls_server_accept(server, in, out, 30, &info, &err), 0);
        prot_puts(out, "hello\n");
        CU_ASSERT_EQUAL(prot_flush(out), 0);
        CU_ASSERT_EQUAL_FATAL(info.nbindings, 2);
        for (int j = 0; j < 2; j++) {
            const struct tls_binding *b = &info.bindings[version == TLS1_3_VERSION ? j : !j];
            UNIT_STR(b->name, j ? "tls-unique" : "tls-exporter");
            CU_ASSERT_FATAL(b->len >= 12);
            CU_ASSERT_EQUAL(prot_readall(in, theirs, b->len), 0);
            CU_ASSERT_EQUAL(memcmp(theirs, b->data, b->len), 0);
        }
        CU_ASSERT_EQUAL(prot_getc(in), -1);
        prot_free(&out);
        prot_free(&in);
        close(fd[i][0]);
    }
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT_EQUAL(status, 0);
    tls_server_free(&server);
    config_free(&config);
    buf_free(&err);
}

static void test_sessions(void)
{
    struct pki pki = {.dir = ""};
    pki_init(&pki);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        check_resumption(&pki, SERVER, version, 1);
        check_resumption(&pki, SERVER "tls_session_timeout: 0\n", version, 0);
    }
    pki_free(&pki);
}

/* tls_server_dhparam and tls_eccurve are what is used. */
static void test_key_exchange(void)
{
    static const char *const dhe = "DHE-RSA-AES128-GCM-SHA256";
    static const struct {
        const char *lines;
        const char *ciphers;
        int bits;
    } cases[] = {
        {"", dhe, 2048},
        {"tls_server_dhparam: ~/dh.pem\n", dhe, 3072},
        {"", NULL, 253},
        {"tls_eccurve: secp384r1\n", NULL, 384},
        {"tls_eccurve: secp521r1:X25519\n", NULL, 253},
    };
    struct pki pki = {.dir = ""};
    pki_init(&pki);
    pki_issue(&pki, "rsa", "localhost", 1, 5);
    pki_dh(&pki, "dh.pem", "ffdhe3072");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct client c = {.min = TLS1_2_VERSION, .max = TLS1_2_VERSION, .bytes = 10,
                           .ciphers = cases[i].ciphers, .key_bits = cases[i].bits};
        struct buf err = BUF_INITIALIZER, lines = BUF_INITIALIZER;
        struct session s;
        struct tls_info info;
        buf_printf(&lines, "tls_server_cert: ~/rsa.pem\ntls_server_key: ~/rsa.key\n%s",
                   cases[i].lines);
        CU_ASSERT_EQUAL(accept_client(&s, &pki, buf_cstring(&lines), &c, &info, &err), 0);
        CU_ASSERT_EQUAL(echo(&s, 10), 0);
        CU_ASSERT(end_session(&s));
        buf_free(&lines);
        buf_free(&err);
    }
    pki_free(&pki);
}

/* RSA and EC side by side; the client chooses. */
static void test_two_certs(void)
{
    static const char *const lines = "tls_server_cert: ~/server.pem, ~/rsa.pem\n"
                                     "tls_server_key: ~/server.key,~/rsa.key\n";
    static const char *const ciphers[] = {"ECDHE-RSA-AES128-GCM-SHA256",
                                          "ECDHE-ECDSA-AES128-GCM-SHA256"};
    struct pki pki = {.dir = ""};
    pki_init(&pki);
    pki_issue(&pki, "rsa", "localhost", 1, 5);
    for (int i = 0; i < 2; i++) {
        struct client c = {.min = TLS1_2_VERSION, .max = TLS1_2_VERSION, .ciphers = ciphers[i],
                           .bytes = 10};
        struct buf err = BUF_INITIALIZER;
        struct session s;
        struct tls_info info;
        CU_ASSERT_EQUAL(accept_client(&s, &pki, lines, &c, &info, &err), 0);
        UNIT_STR(info.cipher, ciphers[i]);
        CU_ASSERT_EQUAL(echo(&s, 10), 0);
        CU_ASSERT(end_session(&s));
        buf_free(&err);
    }
    pki_free(&pki);
}

/* The client closes without close_notify: the end of input, no error. */
static void test_vanish(void)
{
    struct pki pki = {.dir = ""};
    struct client c = {.min = TLS1_2_VERSION, .max = TLS1_3_VERSION, .vanish = 1};
    struct buf err = BUF_INITIALIZER;
    struct session s;
    struct tls_info info;
    pki_init(&pki);
    CU_ASSERT_EQUAL(accept_client(&s, &pki, SERVER, &c, &info, &err), 0);
    CU_ASSERT_EQUAL(prot_getc(s.in), -1);
    UNIT_STR(error_message(prot_error(s.in)), "success");
    CU_ASSERT_EQUAL(prot_eof(s.in), 1);
    CU_ASSERT(end_session(&s));
    buf_free(&err);
    pki_free(&pki);
}

/* Handshakes that never come to an end, and plain text behind STARTTLS. */
static void test_bad_peers(void)
{
    struct pki pki = {.dir = ""};
    struct buf err = BUF_INITIALIZER;
    struct tls_server *server = NULL;
    struct tls_info info;
    char line[9];
    pki_init(&pki);
    struct config *config = unit_config(pki.dir, SERVER);
    CU_ASSERT_EQUAL_FATAL(tls_server_new(config, "csync", &server, &err), 0);
    for (int i = 0; i < 3; i++) {
        int fd[2];
        CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
        struct protstream *in = prot_new(fd[0], 0), *out = prot_new(fd[0], 1);
        CU_ASSERT(write(fd[1], "STARTTLS\nEXIT\n", 14) == 14);
        CU_ASSERT_EQUAL(prot_readall(in, line, 9), 0);
        if (i == 0)
            shutdown(fd[1], SHUT_WR);
        if (i == 1)
            CU_ASSERT(write(fd[1], "NOOP\r\nNOOP\r\n", 12) == 12);
        buf_reset(&err);
        int r = tls_server_accept(server, in, out, 1, &info, &err);
        CU_ASSERT_EQUAL(r, i == 0 ? XERR_EOF : i == 1 ? XERR_CRYPTO : XERR_TIMEOUT);
        CU_ASSERT(err.len > 0);
        prot_free(&in);
        prot_free(&out);
        close(fd[0]);
        close(fd[1]);
    }
    tls_server_free(&server);
    config_free(&config);
    buf_free(&err);
    pki_free(&pki);
}

static void test_options(void)
{
    static const struct {
        const char *lines;
        const char *reason; /* part of it; NULL: good */
    } cases[] = {
        {SERVER, NULL},
        {"tls_server_cert: ~/both.pem\n", NULL},
        {"tls_server_cert: ~/none.pem\ntls_server_key: ~/server.key\n", "No such file"},
        {"tls_server_cert: ~/server.pem\ntls_server_key: ~/none.key\n", "tls_server_key"},
        {"tls_server_cert: ~/server.pem\ntls_server_key: ~/rsa.key\n", "tls_server_key"},
        {"tls_server_cert: ~/server.pem, ~/rsa.pem\ntls_server_key: ~/server.key\n", "2 files"},
        {SERVER "tls_versions: ssl3\n", "tls_versions"},
        {SERVER "tls_ciphers: NOSUCHCIPHER\n", "tls_ciphers"},
        {SERVER "tls_eccurve: X25519 secp384r1, prime256v1\n", NULL},
        {SERVER "tls_eccurve: nosuchcurve\n", "tls_eccurve"},
        {SERVER "tls_server_dhparam: ~/server.pem\n", "tls_server_dhparam"},
        {SERVER "tls_server_dhparam: ~/dh.pem\n", NULL},
        {SERVER "tls_client_certs: require\n", "tls_client_ca_file"},
        {CA "tls_client_certs: require\n", NULL},
        {SERVER "tls_client_ca_dir: ~\ntls_client_certs: require\n", NULL},
        {SERVER "tls_client_ca_dir: ~/none\n", "tls_client_ca_dir"},
        {SERVER "tls_client_ca_file: ~/none.pem\n", "tls_client_ca_file"},
        {CA "tls_crl_file: ~/ca.pem\n", "tls_crl_file"},
        {SERVER "tls_session_timeout: 0\n", NULL},
    };
    struct pki pki = {.dir = ""};
    pki_init(&pki);
    pki_issue(&pki, "rsa", "localhost", 1, 5);
    pki_dh(&pki, "dh.pem", "ffdhe2048");
    char command[1200];
    snprintf(command, sizeof(command), "cat '%s' '%s' > '%s'", pki_path(&pki, "server.pem"),
             pki_path(&pki, "server.key"), pki_path(&pki, "both.pem"));
    CU_ASSERT_EQUAL_FATAL(system(command), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf err = BUF_INITIALIZER;
        struct tls_server *server = NULL;
        struct config *config = unit_config(pki.dir, cases[i].lines);
        int r = tls_server_new(config, "csync", &server, &err);
        CU_ASSERT_EQUAL(r, cases[i].reason ? XERR_CONFIG : 0);
        CU_ASSERT_EQUAL(server == NULL, cases[i].reason != NULL);
        if (!strstr(buf_cstring(&err), cases[i].reason ? cases[i].reason : ""))
            UNIT_STR(buf_cstring(&err), cases[i].reason);
        CU_ASSERT_EQUAL(err.len == 0, !cases[i].reason);
        tls_server_free(&server);
        config_free(&config);
        buf_free(&err);
    }
    pki_free(&pki);
}

static void test_enabled(void)
{
    static const struct {
        const char *lines;
        int enabled;
    } cases[] = {
        {"", 0},
        {SERVER, 1},
        {"tls_server_cert: ~/server.pem\n", 1},
        {"tls_server_key: ~/server.key\n", 0},
        {"tls_server_cert: disabled\ntls_server_key: disabled\n", 0},
        {"tls_server_cert: ~/server.pem\ntls_server_key: disabled\n", 0},
    };
    struct pki pki = {.dir = ""};
    pki_init(&pki);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct config *config = unit_config(pki.dir, cases[i].lines);
        CU_ASSERT_EQUAL(tls_enabled(config), cases[i].enabled);
        config_free(&config);
    }
    pki_free(&pki);
}

/* DEFLATE within TLS, with streams of ours at both ends. */
static int run_stream_client(int fd)
{
    struct protstream *in = prot_new(fd, 0), *out = prot_new(fd, 1);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    char *p = xmalloc(300000);
    memset(p, 'x', 300000);
    int r = prot_tls_attach(in, out, ssl);
    if (!r && SSL_connect(ssl) != 1)
        r = prot_tls_error(ssl);
    r = r ? r : prot_settls(in, out, ssl);
    r = r ? r : prot_setcompress(in, out);
    SSL_free(ssl);
    r = r ? r : prot_write(out, p, 300000);
    r = r ? r : prot_flush(out);
    r = r ? r : prot_readall(in, p, 4);
    if (!r && memcmp(p, "fine", 4))
        r = XERR_FORMAT;
    prot_free(&out);
    prot_free(&in);
    return r ? 1 : 0;
}

static void test_deflate_in_tls(void)
{
    struct pki pki = {.dir = ""};
    struct buf err = BUF_INITIALIZER;
    struct tls_server *server = NULL;
    struct tls_info info;
    struct session s;
    pki_init(&pki);
    struct config *config = unit_config(pki.dir, SERVER);
    CU_ASSERT_EQUAL_FATAL(tls_server_new(config, "csync", &server, &err), 0);
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, s.fd), 0);
    fflush(NULL);
    s.pid = fork();
    if (!s.pid) {
        close(s.fd[0]);
        _exit(run_stream_client(s.fd[1]));
    }
    close(s.fd[1]);
    s.in = prot_new(s.fd[0], 0);
    s.out = prot_new(s.fd[0], 1);
    CU_ASSERT_EQUAL(tls_server_accept(server, s.in, s.out, 30, &info, &err), 0);
    CU_ASSERT_EQUAL(prot_setcompress(s.in, s.out), 0);
    char *p = xmalloc(300000);
    CU_ASSERT_EQUAL(prot_readall(s.in, p, 300000), 0);
    CU_ASSERT_EQUAL(p[299999], 'x');
    prot_puts(s.out, "fine");
    CU_ASSERT_EQUAL(prot_flush(s.out), 0);
    CU_ASSERT_EQUAL(prot_getc(s.in), -1);
    CU_ASSERT_EQUAL(prot_error(s.in), 0);
    buf_reset(&err);
    CU_ASSERT_EQUAL(tls_server_accept(server, s.in, s.out, 30, &info, &err), XERR_PARAM);
    CU_ASSERT(end_session(&s));
    free(p);
    tls_server_free(&server);
    config_free(&config);
    buf_free(&err);
    pki_free(&pki);
}

void suite_prot_tls(void);
void suite_prot_tls(void)
{
    static const struct unit_test tests[] = {
        {"enabled", test_enabled},
        {"options", test_options},
        {"versions", test_versions},
        {"old_versions", test_old_versions},
        {"client_certs", test_client_certs},
        {"odd_names", test_odd_names},
        {"key_exchange", test_key_exchange},
        {"sessions", test_sessions},
        {"two_certs", test_two_certs},
        {"vanish", test_vanish},
        {"bad_peers", test_bad_peers},
        {"deflate_in_tls", test_deflate_in_tls},
        {NULL, NULL},
    };
    unit_suite("prot_tls", tests);
}
