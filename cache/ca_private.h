/* SPDX-License-Identifier: ISC */
/* What the files of the certificate authority share. */
#ifndef CACHE_CA_PRIVATE_H
#define CACHE_CA_PRIVATE_H

#include <openssl/x509v3.h>
#include <sys/types.h>

#include "cache/ca.h"

#define CA_KEY "ca.key"
#define CA_CERTIFICATE "ca.crt"
#define CA_OLD ".old"
#define CA_NEW ".new"
#define CA_FILE_MAX 65536

struct ca {
    X509 *certificate;
    EVP_PKEY *key;
    EVP_PKEY *leaf_key;
    NAME_CONSTRAINTS *limits;
    char *pem;
    char *subject;
    char **names;
    size_t name_count;
};

/* --- ca_name.c --- */

#define CA_NAME_SIZE 254 /* RFC 1035 section 2.3.4, with the NUL */

struct ca_name {
    char text[CA_NAME_SIZE]; /* a DNS name in lower case, maybe "*.x"; empty: an address */
    uint8_t address[16];
    size_t address_len; /* 4, 16, or 0 for a DNS name */
};

/* ERR_INVALID for what is not a name. */
MUST_CHECK int ca_name_parse(struct ca_name *n, const char *text);
bool ca_name_is_wildcard(const struct ca_name *n);
/* subjectAltName. */
void ca_names_add_to(X509 *x, const struct ca_name *names, size_t count);
/* Critical nameConstraints to these names. */
void ca_names_limit(X509 *x, const struct ca_name *names, size_t count);
/* Fill in names and name_count from the limits. */
void ca_names_list(struct ca *ca);

/* --- ca.c --- */

/* A certificate for the key, without signature, that is valid between these times (in seconds
 * since the epoch); it has a serial number and a subject key identifier. */
X509 *ca_x509_new(EVP_PKEY *key, int64_t start_s, int64_t expiry_s);
/* Add an extension as x509v3_config(5) writes them; `issuer` may be `x` itself. */
void ca_x509_extend(X509 *x, const X509 *issuer, int nid, const char *value);
/* The certificate as PEM, owned by the caller. */
char *ca_x509_pem(const X509 *x);

/* --- ca_load.c --- */

/* Where a refusal leaves its sentence. */
struct ca_why {
    char *text;
    size_t size;
};

/* Returns `err`. */
int ca_refuse(const struct ca_why *why, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int ca_refuse_errno(const struct ca_why *why, const char *doing, const char *path);

/* The directory, locked: a rotation is seen before or after. */
struct ca_dir {
    const char *path;
    int fd;
    uid_t uid;
    gid_t gid;
};

/* With `shared` it is locked for reading. */
MUST_CHECK int ca_dir_open(struct ca_dir *d, const char *path, bool shared,
                           const struct ca_why *why);
void ca_dir_close(struct ca_dir *d);
/* Open a file for reading: a regular one of the owner of the directory. ERR_NOT_FOUND when there
 * is none. */
MUST_CHECK int ca_file_open(const struct ca_dir *d, const char *name, int *fd,
                            const struct ca_why *why);
/* Whether ca.crt.new belongs to the key and ca.crt does not: a rotation was cut short between the
 * two, and ca.crt.new is the certificate. */
bool ca_is_cut_short(const struct ca_dir *d);

#endif
