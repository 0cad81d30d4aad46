/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* prot_tls - the server's TLS context from the tls_* options, and its handshake.
 *
 * The options are those of Cyrus IMAP; where its behaviour is a child of older times, ours is
 * stricter:
 *   - TLS 1.0 and 1.1 only if the administrator wrote tls_versions himself and named them (OpenSSL
 *     then needs @SECLEVEL=0 in tls_ciphers too);
 *   - tls_ciphers is for TLS 1.2 and below, 1.3 has its own suites;
 *   - several groups may be given in tls_eccurve;
 *   - sessions are resumed by stateless tickets, there is no session database;
 *   - renegotiation and compression are off;
 *   - the channel bindings are tls-exporter (RFC 9266) and tls-unique (RFC 5929), with 1.2 only
 *     under the extended master secret (RFC 7627), without which neither is unique. tls-unique is not
 *     defined for 1.3, but clients of Cyrus use it there all the same, in the way of 1.2: the
 *     client's Finished message. It is a MAC over the whole handshake, and so fit for the purpose.
 *
 * Everything is loaded once, so that a wrong path is found at the start and not by a client. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "lib/prot_layer.h"
#include "lib/prot_tls.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

#define VERIFY_DEPTH 5
#define DEFAULT_GROUPS "X25519:prime256v1"
#define MAX_SESSION_SECONDS 86400

struct tls_server {
    SSL_CTX *ctx;
};

enum client_certs { CERTS_OFF, CERTS_OPTIONAL, CERTS_REQUIRE }; /* order of the option's words */

void prot_tls_reason(struct buf *err)
{
    unsigned long e = ERR_peek_error(); /* the first is the cause, the others how it came up */
    const char *text = e ? ERR_reason_error_string(e) : "unknown reason";
    if (text)
        buf_appendcstr(err, text);
    else if (ERR_SYSTEM_ERROR(e))
        buf_appendcstr(err, error_message(-ERR_GET_REASON(e)));
    else
        buf_printf(err, "OpenSSL error %lx", e);
    ERR_clear_error();
}

/* OPTION: VALUE: what OpenSSL says. */
static int bad_option(struct buf *err, const char *option, const char *value)
{
    buf_printf(err, "%s: '%s': ", option, value);
    prot_tls_reason(err);
    return XERR_CONFIG;
}

int tls_enabled(const struct config *config)
{
    const char *cert = config_getstring(config, IMAPOPT_TLS_SERVER_CERT);
    const char *key = config_getstring(config, IMAPOPT_TLS_SERVER_KEY);
    return cert && *cert && strcmp(cert, "disabled") && (!key || strcmp(key, "disabled"));
}

/* A key with a passphrase must fail, not ask at a terminal that nobody watches. */
static int no_passphrase(char *p, int size, int rw, void *rock)
{
    (void)p;
    (void)size;
    (void)rw;
    (void)rock;
    return -1;
}

static int load_pair(SSL_CTX *ctx, const char *cert, const char *key, struct buf *err)
{
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        return bad_option(err, "tls_server_cert", cert);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return bad_option(err, "tls_server_key", key);
    return 0;
}

/* One certificate and key, or two of different kinds (RSA and EC). */
static int load_certificates(SSL_CTX *ctx, const struct config *config, struct buf *err)
{
    struct strarray certs = STRARRAY_INITIALIZER, keys = STRARRAY_INITIALIZER;
    const char *cert = config_getstring(config, IMAPOPT_TLS_SERVER_CERT);
    const char *key = config_getstring(config, IMAPOPT_TLS_SERVER_KEY);
    int r = 0;
    strarray_split(&certs, cert ? cert : "", ", \t");
    strarray_split(&keys, key && *key ? key : cert ? cert : "", ", \t");
    if (!certs.count || certs.count != keys.count) {
        buf_printf(err, "tls_server_cert names %d files, tls_server_key %d", certs.count,
                   keys.count);
        r = XERR_CONFIG;
    }
    for (int i = 0; i < certs.count && !r; i++)
        r = load_pair(ctx, certs.data[i], keys.data[i], err);
    strarray_fini(&certs);
    strarray_fini(&keys);
    return r;
}

static int set_versions(SSL_CTX *ctx, const struct config *config, struct buf *err)
{
    static const struct {
        const char *word;
        uint64_t off;
        int version;
        int old;
    } versions[] = {
        {"tls1_0", SSL_OP_NO_TLSv1, TLS1_VERSION, 1},
        {"tls1_1", SSL_OP_NO_TLSv1_1, TLS1_1_VERSION, 1},
        {"tls1_2", SSL_OP_NO_TLSv1_2, TLS1_2_VERSION, 0},
        {"tls1_3", SSL_OP_NO_TLSv1_3, TLS1_3_VERSION, 0},
    };
    const char *words = config_getstring(config, IMAPOPT_TLS_VERSIONS);
    int explicit = config_isset(config, IMAPOPT_TLS_VERSIONS), lowest = 0, highest = 0;
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        if (!words || !strstr(words, versions[i].word) || (versions[i].old && !explicit)) {
            SSL_CTX_set_options(ctx, versions[i].off);
            continue;
        }
        if (!lowest)
            lowest = versions[i].version;
        highest = versions[i].version;
    }
    if (lowest && SSL_CTX_set_min_proto_version(ctx, lowest) == 1 &&
        SSL_CTX_set_max_proto_version(ctx, highest) == 1)
        return 0;
    buf_printf(err, "tls_versions: '%s' leaves no usable version", words ? words : "");
    return XERR_CONFIG;
}

static int set_groups(SSL_CTX *ctx, const struct config *config, struct buf *err)
{
    const char *value = config_isset(config, IMAPOPT_TLS_ECCURVE)
                            ? config_getstring(config, IMAPOPT_TLS_ECCURVE)
                            : DEFAULT_GROUPS;
    struct strarray names = STRARRAY_INITIALIZER;
    struct buf list = BUF_INITIALIZER;
    strarray_split(&names, value, ":, \t");
    for (int i = 0; i < names.count; i++)
        buf_printf(&list, "%s%s", i ? ":" : "", names.data[i]);
    int r = SSL_CTX_set1_groups_list(ctx, buf_cstring(&list)) == 1
                ? 0
                : bad_option(err, "tls_eccurve", value);
    buf_free(&list);
    strarray_fini(&names);
    return r;
}

static int set_dh(SSL_CTX *ctx, const struct config *config, struct buf *err)
{
    const char *file = config_getstring(config, IMAPOPT_TLS_SERVER_DHPARAM);
    if (!file || !*file)
        return SSL_CTX_set_dh_auto(ctx, 1) == 1 ? 0 : XERR_CRYPTO;
    BIO *bio = BIO_new_file(file, "r");
    EVP_PKEY *params = bio ? PEM_read_bio_Parameters(bio, NULL) : NULL;
    BIO_free(bio);
    if (params && SSL_CTX_set0_tmp_dh_pkey(ctx, params) == 1)
        return 0;
    EVP_PKEY_free(params);
    return bad_option(err, "tls_server_dhparam", file);
}

static int set_ciphers(SSL_CTX *ctx, const struct config *config, struct buf *err)
{
    const char *ciphers = config_getstring(config, IMAPOPT_TLS_CIPHERS);
    if (ciphers && *ciphers && SSL_CTX_set_cipher_list(ctx, ciphers) != 1)
        return bad_option(err, "tls_ciphers", ciphers);
    if (config_getswitch(config, IMAPOPT_TLS_PREFER_SERVER_CIPHERS))
        SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    int r = set_groups(ctx, config, err);
    return r ? r : set_dh(ctx, config, err);
}

static int load_crl(SSL_CTX *ctx, const char *file, struct buf *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (!lookup || X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) < 1)
        return bad_option(err, "tls_crl_file", file);
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return 0;
}

/* Is this the name under which OpenSSL looks for a certificate: hash and number? */
static int is_hashed(const char *name)
{
    size_t n = strspn(name, "0123456789abcdef");
    return n == 8 && name[n] == '.' && name[n + 1] &&
           strspn(name + n + 1, "0123456789") == strlen(name + n + 1);
}

/* Subjects of the certificates in directory DIR. What else is there, or cannot be read, is no more
 * than a name less. */
static int name_directory(STACK_OF(X509_NAME) *names, const char *dir, struct buf *err)
{
    struct buf path = BUF_INITIALIZER;
    DIR *d = opendir(dir);
    if (!d) {
        buf_printf(err, "tls_client_ca_dir: '%s': %s", dir, error_message(-errno));
        return XERR_CONFIG;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (!is_hashed(e->d_name))
            continue;
        buf_reset(&path);
        buf_printf(&path, "%s/%s", dir, e->d_name);
        (void)SSL_add_file_cert_subjects_to_stack(names, buf_cstring(&path));
    }
    ERR_clear_error();
    closedir(d);
    buf_free(&path);
    return 0;
}

/* The names that a client is told, so that it can choose among its certificates. */
static int name_authorities(SSL_CTX *ctx, const char *file, const char *dir, struct buf *err)
{
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    int r = names ? 0 : XERR_CRYPTO;
    if (!r && file && SSL_add_file_cert_subjects_to_stack(names, file) != 1)
        r = bad_option(err, "tls_client_ca_file", file);
    if (!r && dir)
        r = name_directory(names, dir, err);
    if (r)
        sk_X509_NAME_pop_free(names, X509_NAME_free);
    else
        SSL_CTX_set_client_CA_list(ctx, names);
    return r;
}

static const char *nonempty(const char *s)
{
    return s && *s ? s : NULL;
}

static int set_client_certs(SSL_CTX *ctx, const struct config *config, struct buf *err)
{
    const char *file = nonempty(config_getstring(config, IMAPOPT_TLS_CLIENT_CA_FILE));
    const char *dir = nonempty(config_getstring(config, IMAPOPT_TLS_CLIENT_CA_DIR));
    const char *crl = nonempty(config_getstring(config, IMAPOPT_TLS_CRL_FILE));
    int mode = config_getenum(config, IMAPOPT_TLS_CLIENT_CERTS);
    if (mode == CERTS_OFF)
        return 0;
    if (!file && !dir) {
        if (mode != CERTS_REQUIRE)
            return 0;
        buf_appendcstr(err, "tls_client_certs: 'require' needs tls_client_ca_file or "
                            "tls_client_ca_dir");
        return XERR_CONFIG;
    }
    if (SSL_CTX_load_verify_locations(ctx, file, dir) != 1)
        return bad_option(err, file ? "tls_client_ca_file" : "tls_client_ca_dir",
                          file ? file : dir);
    int r = name_authorities(ctx, file, dir, err);
    if (!r && crl)
        r = load_crl(ctx, crl, err);
    SSL_CTX_set_verify(ctx,
                       SSL_VERIFY_PEER |
                           (mode == CERTS_REQUIRE ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       NULL);
    SSL_CTX_set_verify_depth(ctx, VERIFY_DEPTH);
    return r;
}

static int set_sessions(SSL_CTX *ctx, const struct config *config, const char *context)
{
    int64_t seconds = config_getduration(config, IMAPOPT_TLS_SESSION_TIMEOUT);
    size_t len = strlen(context);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (len > SSL_MAX_SID_CTX_LENGTH)
        len = SSL_MAX_SID_CTX_LENGTH;
    if (SSL_CTX_set_session_id_context(ctx, (const unsigned char *)context, (unsigned)len) != 1)
        return XERR_CRYPTO;
    if (seconds <= 0) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
        return 0;
    }
    SSL_CTX_set_timeout(ctx, (long)(seconds < MAX_SESSION_SECONDS ? seconds : MAX_SESSION_SECONDS));
    return 0;
}

int tls_server_new(const struct config *config, const char *session_context,
                   struct tls_server **tp, struct buf *err)
{
    *tp = NULL;
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx) {
        prot_tls_reason(err);
        return XERR_CRYPTO;
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_default_read_buffer_len(ctx, PROT_BUFSIZE);
    int r = set_versions(ctx, config, err);
    if (!r)
        r = set_ciphers(ctx, config, err);
    if (!r)
        r = load_certificates(ctx, config, err);
    if (!r)
        r = set_client_certs(ctx, config, err);
    if (!r)
        r = set_sessions(ctx, config, session_context);
    if (r) {
        if (!err->len)
            prot_tls_reason(err);
        SSL_CTX_free(ctx);
        return r;
    }
    *tp = xzmalloc(sizeof(**tp));
    (*tp)->ctx = ctx;
    return 0;
}

void tls_server_free(struct tls_server **tp)
{
    if (!*tp)
        return;
    SSL_CTX_free((*tp)->ctx);
    free(*tp);
    *tp = NULL;
}

/* The one common name of a certificate that was verified; "" if there is none, several, or one that
 * no name of a user can be. */
static void get_common_name(SSL *ssl, char *cn, size_t size)
{
    unsigned char *utf8 = NULL;
    *cn = '\0';
    X509 *cert = SSL_get1_peer_certificate(ssl);
    if (cert && SSL_get_verify_result(ssl) == X509_V_OK) {
        X509_NAME *name = X509_get_subject_name(cert);
        int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
        if (at >= 0 && X509_NAME_get_index_by_NID(name, NID_commonName, at) < 0) {
            X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, at);
            int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry));
            if (len > 0 && (size_t)len < size && !memchr(utf8, 0, (size_t)len)) {
                memcpy(cn, utf8, (size_t)len);
                cn[len] = '\0';
            }
        }
    }
    OPENSSL_free(utf8);
    X509_free(cert);
}

static void get_exporter(SSL *ssl, struct tls_binding *b)
{
    static const char label[] = "EXPORTER-Channel-Binding";
    b->name = "tls-exporter";
    b->len = 32;
    if (SSL_export_keying_material(ssl, b->data, b->len, label, sizeof(label) - 1,
                                   (const unsigned char *)"", 0, 1) != 1)
        b->len = 0;
}

/* The first Finished message: the client's, but the server's in a resumed session. */
static void get_unique(SSL *ssl, struct tls_binding *b)
{
    b->name = "tls-unique";
    size_t n = SSL_session_reused(ssl) ? SSL_get_finished(ssl, b->data, sizeof(b->data))
                                       : SSL_get_peer_finished(ssl, b->data, sizeof(b->data));
    b->len = n <= sizeof(b->data) ? (unsigned)n : 0;
}

static void get_bindings(SSL *ssl, struct tls_info *info)
{
    int modern = SSL_version(ssl) >= TLS1_3_VERSION;
    if (!modern && SSL_get_extms_support(ssl) != 1)
        return;
    get_exporter(ssl, &info->bindings[!modern]);
    get_unique(ssl, &info->bindings[modern]);
    info->nbindings = info->bindings[0].len && info->bindings[1].len ? 2 : 0;
}

static void get_info(SSL *ssl, struct tls_info *info)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    memset(info, 0, sizeof(*info));
    info->bits = SSL_CIPHER_get_bits(cipher, NULL);
    strncpy(info->protocol, SSL_get_version(ssl), sizeof(info->protocol) - 1);
    strncpy(info->cipher, SSL_CIPHER_get_name(cipher), sizeof(info->cipher) - 1);
    get_common_name(ssl, info->peer_cn, sizeof(info->peer_cn));
    get_bindings(ssl, info);
}

/* Why the handshake of SSL failed. */
static int handshake_error(SSL *ssl, struct buf *err)
{
    int r = prot_tls_error(ssl);
    long verify = SSL_get_verify_result(ssl);
    if (r != XERR_CRYPTO)
        buf_appendcstr(err, error_message(r));
    else
        prot_tls_reason(err);
    if (verify != X509_V_OK)
        buf_printf(err, " (client certificate: %s)", X509_verify_cert_error_string(verify));
    ERR_clear_error();
    return r;
}

int tls_server_accept(struct tls_server *t, struct protstream *in, struct protstream *out,
                      int seconds, struct tls_info *info, struct buf *err)
{
    int r = prot_flush(out);
    if (r) {
        buf_appendcstr(err, error_message(r));
        return r;
    }
    prot_discard(in);
    ERR_clear_error();
    SSL *ssl = SSL_new(t->ctx);
    r = ssl ? prot_tls_attach(in, out, ssl) : XERR_CRYPTO;
    if (r) {
        buf_appendcstr(err, error_message(r));
        SSL_free(ssl);
        return r;
    }
    int64_t limit = seconds > 0 ? (int64_t)seconds * 1000 : -1;
    prot_setdeadline(in, limit);
    prot_setdeadline(out, limit);
    if (SSL_accept(ssl) != 1) {
        r = handshake_error(ssl, err);
    } else {
        get_info(ssl, info);
        r = prot_settls(in, out, ssl);
        if (r)
            buf_appendcstr(err, error_message(r));
    }
    prot_setdeadline(in, -1);
    prot_setdeadline(out, -1);
    SSL_free(ssl);
    return r;
}
