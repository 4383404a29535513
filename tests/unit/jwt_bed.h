/* SPDX-License-Identifier: ISC */
/* What a token server does: keys, and tokens that are signed with them. */
#ifndef TESTS_UNIT_JWT_BED_H
#define TESTS_UNIT_JWT_BED_H

#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/check.h"

/* The PEM of the public key, owned by the caller. */
static inline char *jwt_public_pem(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    const char *data;

    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    long len = BIO_get_mem_data(bio, &data);
    char *pem = mem_copy(data, (size_t)len);
    BIO_free(bio);
    return pem;
}

/* The PEM of a certificate, which need not be valid in any other way. */
static inline char *jwt_certificate_pem(EVP_PKEY *key)
{
    X509 *x = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    const char *data;

    assert_int_equal(X509_set_pubkey(x, key), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), -7200));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), -3600));
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(bio, x), 1);
    long len = BIO_get_mem_data(bio, &data);
    char *pem = mem_copy(data, (size_t)len);
    BIO_free(bio);
    X509_free(x);
    return pem;
}

/* Of an RSA key PKCS #1 version 1.5, of an elliptic curve's the two numbers side by side. */
static inline size_t jwt_signature(EVP_PKEY *key, const void *data, size_t len, uint8_t out[1100])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t out_len = 1100;

    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, out, &out_len, data, len), 1);
    EVP_MD_CTX_free(ctx);
    if (!EVP_PKEY_is_a(key, "EC"))
        return out_len;
    int half = (EVP_PKEY_get_bits(key) + 7) / 8;
    const uint8_t *p = out;
    ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &p, (long)out_len);
    assert_non_null(s);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(s), out, half), half);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(s), out + half, half), half);
    ECDSA_SIG_free(s);
    return (size_t)half * 2;
}

static inline char *jwt_base64(const void *data, size_t len)
{
    char *text = mem_new(len / 3 * 4 + 5);

    EVP_EncodeBlock((unsigned char *)text, data, (int)len);
    for (char *p = text; *p != '\0'; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    text[strcspn(text, "=")] = '\0';
    return text;
}

/* A token of a head and of claims, owned by the caller. */
static inline char *jwt_sign(EVP_PKEY *key, const char *head, const char *claims)
{
    uint8_t signature[1100];
    char *a = jwt_base64(head, strlen(head));
    char *b = jwt_base64(claims, strlen(claims));
    char *text = mem_format("%s.%s", a, b);
    char *c = jwt_base64(signature, jwt_signature(key, text, strlen(text), signature));
    char *token = mem_format("%s.%s", text, c);

    free(a);
    free(b);
    free(c);
    free(text);
    return token;
}

#endif
