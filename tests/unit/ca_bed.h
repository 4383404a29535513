/* SPDX-License-Identifier: ISC */
/* A CA in a scratch directory, and what somebody with its key could do. */
#ifndef TESTS_UNIT_CA_BED_H
#define TESTS_UNIT_CA_BED_H

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "cache/ca.h"
#include "cache/err.h"
#include "tests/unit/scratch.h"

#define DAY_S 86400

struct ca_bed {
    char dir[64];    /* the scratch directory */
    char ca_dir[96]; /* in it; not there yet */
    char why[1024];  /* of the last refusal */
};

static inline int ca_bed_setup(void **state)
{
    struct ca_bed *b = calloc(1, sizeof *b);

    assert_non_null(b);
    scratch_dir(b->dir);
    snprintf(b->ca_dir, sizeof b->ca_dir, "%s/ca", b->dir);
    *state = b;
    return 0;
}

static inline int ca_bed_teardown(void **state)
{
    struct ca_bed *b = *state;

    scratch_remove(b->dir);
    free(b);
    return 0;
}

/* "ca/name" in the scratch directory, valid until the next call. */
static inline const char *ca_bed_path(const struct ca_bed *b, const char *name)
{
    return scratch_path(b->ca_dir, name);
}

/* A refusal has a sentence, and leaves nothing in OpenSSL's queue. */
static inline int ca_bed_create(struct ca_bed *b, enum ca_occasion occasion,
                                const char *const *names, size_t count)
{
    b->why[0] = '\0';
    int err = ca_create(b->ca_dir, names, count, occasion, b->why, sizeof b->why);

    assert_true((err != 0) == (b->why[0] != '\0'));
    assert_true(ERR_peek_error() == 0);
    return err;
}

#define CREATE(b, occasion, ...)                                                                   \
    ca_bed_create(b, occasion, (const char *const[]){__VA_ARGS__},                                 \
                  sizeof(const char *const[]){__VA_ARGS__} / sizeof(char *))

static inline int ca_bed_load(struct ca_bed *b, struct ca **ca)
{
    b->why[0] = '\0';
    *ca = NULL;
    int err = ca_load(b->ca_dir, ca, b->why, sizeof b->why);

    assert_true((err != 0) == (b->why[0] != '\0'));
    assert_true((err == 0) == (*ca != NULL));
    assert_true(ERR_peek_error() == 0);
    return err;
}

static inline struct ca *ca_bed_loaded(struct ca_bed *b)
{
    struct ca *ca;

    if (ca_bed_load(b, &ca) != 0) {
        fail_msg("%s", b->why);
    }
    return ca;
}

/* One that is just made. */
static inline struct ca *ca_bed_made(struct ca_bed *b, const char *const *names, size_t count)
{
    if (ca_bed_create(b, CA_FIRST, names, count) != 0) {
        fail_msg("%s", b->why);
    }
    return ca_bed_loaded(b);
}

#define MADE(b, ...)                                                                               \
    ca_bed_made(b, (const char *const[]){__VA_ARGS__},                                             \
                sizeof(const char *const[]){__VA_ARGS__} / sizeof(char *))

static inline void ca_bed_expect_word(const struct ca_bed *b, const char *word)
{
    if (strstr(b->why, word) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", word, b->why);
    }
}

static inline mode_t ca_bed_mode(const struct ca_bed *b, const char *name)
{
    struct stat st;

    assert_int_equal(lstat(ca_bed_path(b, name), &st), 0);
    return st.st_mode & 07777;
}

/* --- with the key in hand --- */

static inline FILE *ca_bed_open(const struct ca_bed *b, const char *name, const char *mode)
{
    FILE *f = fopen(ca_bed_path(b, name), mode);

    assert_non_null(f);
    return f;
}

static inline EVP_PKEY *ca_bed_key(const struct ca_bed *b)
{
    FILE *f = ca_bed_open(b, "ca.key", "r");
    EVP_PKEY *key = PEM_read_PrivateKey(f, NULL, NULL, NULL);

    assert_non_null(key);
    fclose(f);
    return key;
}

static inline X509 *ca_bed_certificate(const struct ca_bed *b)
{
    FILE *f = ca_bed_open(b, "ca.crt", "r");
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);

    assert_non_null(x);
    fclose(f);
    return x;
}

static inline void ca_bed_put_certificate(const struct ca_bed *b, const X509 *x)
{
    FILE *f = ca_bed_open(b, "ca.crt", "w");

    assert_int_equal(PEM_write_X509(f, x), 1);
    fclose(f);
}

static inline void ca_bed_put_key(const struct ca_bed *b, const EVP_PKEY *key)
{
    FILE *f = ca_bed_open(b, "ca.key", "w");

    assert_int_equal(PEM_write_PKCS8PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

struct ca_extension {
    int nid;
    const char *value;
};

/* A certificate with these extensions (the last has no value), signed by the issuer, or by itself
 * when that is NULL. */
static inline X509 *ca_bed_forge(X509 *issuer, EVP_PKEY *issuer_key, EVP_PKEY *key,
                                 const char *subject, const struct ca_extension *extensions,
                                 int64_t start_s, int64_t expiry_s)
{
    X509 *x = X509_new();
    X509V3_CTX ctx;

    assert_non_null(x);
    assert_int_equal(X509_set_version(x, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), 4711), 1);
    assert_non_null(ASN1_TIME_set(X509_getm_notBefore(x), (time_t)start_s));
    assert_non_null(ASN1_TIME_set(X509_getm_notAfter(x), (time_t)expiry_s));
    assert_int_equal(X509_set_pubkey(x, key), 1);
    assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "O", MBSTRING_ASC,
                                                (const unsigned char *)subject, -1, -1, 0),
                     1);
    assert_int_equal(X509_set_issuer_name(x, X509_get_subject_name(issuer != NULL ? issuer : x)),
                     1);
    X509V3_set_ctx(&ctx, issuer != NULL ? issuer : x, x, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&ctx);
    for (; extensions->value != NULL; extensions++) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, extensions->nid, extensions->value);

        assert_non_null(e);
        assert_int_equal(X509_add_ext(x, e, -1), 1);
        X509_EXTENSION_free(e);
    }
    assert_true(X509_sign(x, issuer_key, EVP_sha256()) > 0);
    return x;
}

static inline EVP_PKEY *ca_bed_new_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    assert_non_null(key);
    return key;
}

/* What a client that trusts `root` alone says of a server's certificate. */
static inline int ca_bed_verify(X509 *root, X509 *between, X509 *leaf)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *chain = sk_X509_new_null();

    assert_true(store != NULL && ctx != NULL && chain != NULL);
    assert_int_equal(X509_STORE_add_cert(store, root), 1);
    if (between != NULL) {
        assert_true(sk_X509_push(chain, between) > 0);
    }
    assert_int_equal(X509_STORE_CTX_init(ctx, store, leaf, chain), 1);
    assert_int_equal(X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER), 1);
    assert_int_equal(X509_STORE_CTX_set_trust(ctx, X509_TRUST_SSL_SERVER), 1);
    int result = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);

    sk_X509_free(chain);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return result;
}

#endif
