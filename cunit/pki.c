/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* pki - keys and certificates for tests of TLS. All are good for a day from now. */
#include "config.h"

#include <stdio.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "cunit/pki.h"
#include "cunit/unit.h"

const char *pki_path(const struct pki *pki, const char *name)
{
    static char path[4][512];
    static int at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof(path[at]), "%s/%s", pki->dir, name);
    return path[at];
}

/* CN has LEN bytes, or ends with NUL if that is -1. */
static X509 *make_cert(EVP_PKEY *key, const char *cn, int len, X509 *issuer, EVP_PKEY *issuer_key,
                       int serial)
{
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                               (const unsigned char *)cn, len, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x));
    if (!issuer) {
        X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
                                                  "critical,CA:TRUE");
        X509_add_ext(x, ext, -1);
        X509_EXTENSION_free(ext);
    }
    if (!X509_sign(x, issuer_key ? issuer_key : key, EVP_sha256()))
        CU_FAIL_FATAL("X509_sign");
    return x;
}

/* Write KEY (may be NULL) and X to files NAME.key and NAME.pem. */
static void save(const struct pki *pki, const char *name, EVP_PKEY *key, X509 *x)
{
    char file[64];
    snprintf(file, sizeof(file), "%s.pem", name);
    FILE *f = fopen(pki_path(pki, file), "w");
    CU_ASSERT_FATAL(f && PEM_write_X509(f, x));
    fclose(f);
    snprintf(file, sizeof(file), "%s.key", name);
    f = key ? fopen(pki_path(pki, file), "w") : NULL;
    if (key) {
        CU_ASSERT_FATAL(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL));
        fclose(f);
    }
}

void pki_issue_bytes(const struct pki *pki, const char *name, const char *cn, int len, int rsa,
                        int serial)
{
    EVP_PKEY *key = rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
    X509 *x = make_cert(key, cn, len, pki->ca, pki->ca_key, serial);
    save(pki, name, key, x);
    X509_free(x);
    EVP_PKEY_free(key);
}

void pki_issue(const struct pki *pki, const char *name, const char *cn, int rsa, int serial)
{
    pki_issue_bytes(pki, name, cn, -1, rsa, serial);
}

void pki_revoke(const struct pki *pki, const char *name, int serial)
{
    X509_CRL *crl = X509_CRL_new();
    X509_REVOKED *rev = X509_REVOKED_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, -60), *next = X509_gmtime_adj(NULL, 86400);
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(pki->ca));
    X509_CRL_set1_lastUpdate(crl, now);
    X509_CRL_set1_nextUpdate(crl, next);
    ASN1_INTEGER_set(number, serial);
    X509_REVOKED_set_serialNumber(rev, number);
    X509_REVOKED_set_revocationDate(rev, now);
    X509_CRL_add0_revoked(crl, rev);
    X509_CRL_sort(crl);
    CU_ASSERT_FATAL(X509_CRL_sign(crl, pki->ca_key, EVP_sha256()) > 0);
    FILE *f = fopen(pki_path(pki, name), "w");
    CU_ASSERT_FATAL(f && PEM_write_X509_CRL(f, crl));
    fclose(f);
    ASN1_INTEGER_free(number);
    ASN1_TIME_free(now);
    ASN1_TIME_free(next);
    X509_CRL_free(crl);
}

void pki_init(struct pki *pki)
{
    snprintf(pki->dir, sizeof(pki->dir), "%s", unit_tmpdir());
    pki->ca_key = EVP_EC_gen("P-256");
    pki->ca = make_cert(pki->ca_key, "Test CA", -1, NULL, NULL, 1);
    save(pki, "ca", NULL, pki->ca);
    pki_issue(pki, "server", "localhost", 0, 2);
}

void pki_free(struct pki *pki)
{
    X509_free(pki->ca);
    EVP_PKEY_free(pki->ca_key);
}

void pki_dh(const struct pki *pki, const char *file, const char *group)
{
    EVP_PKEY_CTX *gen = EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
    EVP_PKEY *params = NULL;
    char name[32];
    snprintf(name, sizeof(name), "%s", group);
    OSSL_PARAM param[] = {OSSL_PARAM_construct_utf8_string("group", name, 0),
                          OSSL_PARAM_construct_end()};
    CU_ASSERT_FATAL(EVP_PKEY_paramgen_init(gen) == 1 && EVP_PKEY_CTX_set_params(gen, param) == 1 &&
                    EVP_PKEY_paramgen(gen, &params) == 1);
    BIO *bio = BIO_new_file(pki_path(pki, file), "w");
    CU_ASSERT_FATAL(bio && PEM_write_bio_Parameters(bio, params) == 1);
    BIO_free(bio);
    EVP_PKEY_free(params);
    EVP_PKEY_CTX_free(gen);
}
