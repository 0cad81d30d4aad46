/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Keys and certificates for tests of TLS, made by OpenSSL in a directory of the test's. */
#ifndef CUNIT_PKI_H
#define CUNIT_PKI_H

#include <openssl/ssl.h>

/* A CA (ca.pem), what it signed, and a server's pair (server.pem, server.key). */
struct pki {
    char dir[256];
    EVP_PKEY *ca_key;
    X509 *ca;
};


void pki_init(struct pki *);
/* The files stay in the directory. */
void pki_free(struct pki *);
/* Path of file NAME; valid until the fourth call after this. */
const char *pki_path(const struct pki *, const char *name);
/* A certificate for CN (of LEN bytes), signed by the CA, in NAME.pem and NAME.key. */
void pki_issue(const struct pki *, const char *name, const char *cn, int rsa, int serial);
void pki_issue_bytes(const struct pki *, const char *name, const char *cn, int len, int rsa,
                     int serial);
/* A list of revoked certificates with this one SERIAL in file NAME. */
void pki_revoke(const struct pki *, const char *name, int serial);
/* Parameters of Diffie-Hellman in GROUP to FILE. */
void pki_dh(const struct pki *, const char *file, const char *group);

#endif
