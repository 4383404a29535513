/* SPDX-License-Identifier: ISC */
#include "cache/ca_private.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache/err.h"

#define SERIAL_BITS 128
#define DAY_S 86400
#define LEAF_BACKDATED_DAYS 2

/* --- certificates --- */

static void set_serial(X509 *x)
{
    BIGNUM *number = BN_new();

    CHECK(number != NULL);
    do {
        CHECK(BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1);
    } while (BN_is_zero(number));
    CHECK(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x)) != NULL);
    BN_free(number);
}

X509 *ca_x509_new(EVP_PKEY *key, int64_t start_s, int64_t expiry_s)
{
    X509 *x = X509_new();

    CHECK(x != NULL && X509_set_version(x, X509_VERSION_3) == 1);
    set_serial(x);
    CHECK(ASN1_TIME_set(X509_getm_notBefore(x), (time_t)start_s) != NULL);
    CHECK(ASN1_TIME_set(X509_getm_notAfter(x), (time_t)expiry_s) != NULL);
    CHECK(X509_set_pubkey(x, key) == 1);
    ca_x509_extend(x, x, NID_subject_key_identifier, "hash");
    return x;
}

void ca_x509_extend(X509 *x, const X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, (X509 *)issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);

    CHECK(e != NULL && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

char *ca_x509_pem(const X509 *x)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *data;

    CHECK(bio != NULL && PEM_write_bio_X509(bio, x) == 1);
    long len = BIO_get_mem_data(bio, &data);
    char *pem = mem_copy(data, (size_t)len);

    BIO_free(bio);
    return pem;
}

static int64_t time_s(const ASN1_TIME *t)
{
    struct tm tm;

    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

int64_t ca_start_s(const X509 *certificate)
{
    return time_s(X509_get0_notBefore(certificate));
}

int64_t ca_expiry_s(const X509 *certificate)
{
    return time_s(X509_get0_notAfter(certificate));
}

/* --- leaves --- */

/* Without signature. The subject is no host, so that no verifier takes it for a name. */
static X509 *leaf_new(const struct ca *ca, const struct ca_name *names, size_t count)
{
    int64_t now_s = (int64_t)time(NULL);
    int64_t start_s = now_s - LEAF_BACKDATED_DAYS * DAY_S;
    int64_t expiry_s = now_s + CA_LEAF_DAYS * DAY_S;
    int64_t ca_start = ca_start_s(ca->certificate);
    int64_t ca_expiry = ca_expiry_s(ca->certificate);
    X509 *x = ca_x509_new(ca->leaf_key, start_s > ca_start ? start_s : ca_start,
                          expiry_s < ca_expiry ? expiry_s : ca_expiry);
    X509_NAME *subject = X509_get_subject_name(x);

    CHECK(X509_NAME_add_entry_by_NID(subject, NID_organizationName, MBSTRING_ASC,
                                     (const unsigned char *)"cachalot", -1, -1, 0) == 1);
    CHECK(X509_set_issuer_name(x, X509_get_subject_name(ca->certificate)) == 1);
    ca_x509_extend(x, ca->certificate, NID_authority_key_identifier, "keyid");
    ca_x509_extend(x, x, NID_basic_constraints, "critical,CA:FALSE");
    ca_x509_extend(x, x, NID_key_usage, "critical,digitalSignature");
    ca_x509_extend(x, x, NID_ext_key_usage, "serverAuth");
    ca_names_add_to(x, names, count);
    return x;
}

/* Verifiers look at certificates, so one with the name is what is asked about. It is signed with
 * its own key, not that of the CA, and convinces nobody. */
static bool permits(const struct ca *ca, const struct ca_name *name)
{
    X509 *probe = leaf_new(ca, name, 1);

    CHECK(X509_sign(probe, ca->leaf_key, EVP_sha256()) > 0);
    /* Reads the extensions, which is what NAME_CONSTRAINTS_check relies on. */
    CHECK(X509_check_purpose(probe, -1, 0) == 1);
    bool permitted = NAME_CONSTRAINTS_check(probe, ca->limits) == X509_V_OK;

    X509_free(probe);
    return permitted;
}

bool ca_covers(const struct ca *ca, const char *name)
{
    struct ca_name parsed;

    return ca_name_parse(&parsed, name) == 0 && permits(ca, &parsed);
}

int ca_issue(const struct ca *ca, const char *const *names, size_t count, X509 **leaf,
             EVP_PKEY **key)
{
    struct ca_name *parsed = mem_new(count * sizeof parsed[0]);
    int err = count > 0 ? 0 : ERR_INVALID;

    for (size_t i = 0; i < count && err == 0; i++) {
        err = ca_name_parse(&parsed[i], names[i]);
        if (err == 0 && ca_name_is_wildcard(&parsed[i]))
            err = ERR_INVALID;
        if (err == 0 && !permits(ca, &parsed[i]))
            err = ERR_DENIED;
    }
    if (err == 0) {
        X509 *x = leaf_new(ca, parsed, count);

        CHECK(X509_sign(x, ca->key, EVP_sha256()) > 0);
        CHECK(EVP_PKEY_up_ref(ca->leaf_key) == 1);
        *leaf = x;
        *key = ca->leaf_key;
    }
    free(parsed);
    return err;
}

/* --- what it says of itself --- */

char *ca_fingerprint(const struct ca *ca, char out[CA_FINGERPRINT_SIZE])
{
    static const char digits[] = "0123456789ABCDEF";
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len;
    char *at = out;

    CHECK(X509_digest(ca->certificate, EVP_sha256(), bytes, &len) == 1);
    CHECK(3 * len == CA_FINGERPRINT_SIZE);
    for (unsigned i = 0; i < len; i++) {
        *at++ = digits[bytes[i] >> 4];
        *at++ = digits[bytes[i] & 0xf];
        *at++ = i + 1 < len ? ':' : '\0';
    }
    return out;
}

const char *ca_pem(const struct ca *ca)
{
    return ca->pem;
}

const X509 *ca_certificate(const struct ca *ca)
{
    return ca->certificate;
}

const char *ca_subject(const struct ca *ca)
{
    return ca->subject;
}

const char *const *ca_names(const struct ca *ca, size_t *count)
{
    *count = ca->name_count;
    return (const char *const *)ca->names;
}

void ca_free(struct ca **ca)
{
    struct ca *c = *ca;

    if (c == NULL)
        return;
    for (size_t i = 0; i < c->name_count; i++)
        free(c->names[i]);
    free(c->names);
    free(c->subject);
    free(c->pem);
    NAME_CONSTRAINTS_free(c->limits);
    EVP_PKEY_free(c->leaf_key);
    EVP_PKEY_free(c->key);
    X509_free(c->certificate);
    free(c);
    *ca = NULL;
}
