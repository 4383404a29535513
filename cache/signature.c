/* SPDX-License-Identifier: ISC */
#include "cache/signature.h"

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* more would take a client's token too long to check */
#define GROUP_NAME_MAX 32
#define P256_BYTES 32
/* A sequence of two integers of at most 33 bytes. */
#define P256_DER_MAX 72

struct signature_key {
    EVP_PKEY *key;
    bool is_rsa;
};

/* --- the key --- */

/* Whether the first thing in the text is of that kind. */
static bool begins_with(const char *text, size_t len, const char *kind)
{
    static const char begin[] = "-----BEGIN ";
    const char *at = memmem(text, len, begin, strlen(begin));

    if (at == NULL)
        return false;
    at += strlen(begin);
    size_t left = len - (size_t)(at - text);
    return left >= strlen(kind) && memcmp(at, kind, strlen(kind)) == 0;
}

/* Nobody is asked for a pass phrase. */
static int no_pass_phrase(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

static EVP_PKEY *read_pem(const void *pem, size_t len)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    EVP_PKEY *key = NULL;

    CHECK(bio != NULL);
    if (begins_with(pem, len, "CERTIFICATE-")) {
        X509 *certificate = PEM_read_bio_X509(bio, NULL, no_pass_phrase, NULL);
        key = certificate != NULL ? X509_get_pubkey(certificate) : NULL;
        X509_free(certificate);
    } else if (begins_with(pem, len, "PUBLIC KEY-")) {
        key = PEM_read_bio_PUBKEY(bio, NULL, no_pass_phrase, NULL);
    }
    BIO_free(bio);
    return key;
}

static bool is_p256(const EVP_PKEY *key)
{
    char group[GROUP_NAME_MAX];

    return EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
           strcmp(group, SN_X9_62_prime256v1) == 0;
}

/* What is wrong with the key, or NULL. */
static const char *fault_of(const EVP_PKEY *key)
{
    if (is_p256(key))
        return NULL;
    if (!EVP_PKEY_is_a(key, "RSA"))
        return "is a key of neither RSA nor P-256";
    if (EVP_PKEY_get_bits(key) < RSA_BITS_MIN)
        return "is an RSA key of less than 2048 bits";
    return EVP_PKEY_get_bits(key) > RSA_BITS_MAX ? "is an RSA key of more than 8192 bits" : NULL;
}

int signature_key_parse(struct signature_key **key, const void *pem, size_t len, char *why,
                        size_t why_size)
{
    const char *fault = "has no public key, and no certificate, in PEM";
    EVP_PKEY *read = len <= INT32_MAX ? read_pem(pem, len) : NULL;

    if (read != NULL)
        fault = fault_of(read);
    /* TLS on this thread would take what is left in the queue for its own. */
    ERR_clear_error();
    if (fault != NULL) {
        EVP_PKEY_free(read);
        snprintf(why, why_size, "%s", fault);
        return ERR_INVALID;
    }
    *key = mem_new(sizeof **key);
    (*key)->key = read;
    (*key)->is_rsa = EVP_PKEY_is_a(read, "RSA");
    return 0;
}

void signature_key_free(struct signature_key **kp)
{
    struct signature_key *k = *kp;

    if (k == NULL)
        return;
    *kp = NULL;
    EVP_PKEY_free(k->key);
    free(k);
}

const char *signature_algorithm(const struct signature_key *key)
{
    return key->is_rsa ? "RS256" : "ES256";
}

/* --- signatures --- */

/* RFC 7518 has the two numbers side by side, OpenSSL in DER: its length, or 0. */
static size_t to_der(const uint8_t *signature, size_t len, uint8_t der[P256_DER_MAX])
{
    if (len != 2 * P256_BYTES)
        return 0;
    ECDSA_SIG *s = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, P256_BYTES, NULL);
    BIGNUM *t = BN_bin2bn(signature + P256_BYTES, P256_BYTES, NULL);

    CHECK(s != NULL && r != NULL && t != NULL);
    CHECK(ECDSA_SIG_set0(s, r, t) == 1);
    int der_len = i2d_ECDSA_SIG(s, NULL);
    CHECK(der_len > 0 && der_len <= P256_DER_MAX);
    CHECK(i2d_ECDSA_SIG(s, &(unsigned char *){der}) == der_len);
    ECDSA_SIG_free(s);
    return (size_t)der_len;
}

bool signature_matches(const struct signature_key *key, const void *data, size_t len,
                       const void *signature, size_t signature_len)
{
    uint8_t der[P256_DER_MAX];

    if (!key->is_rsa) {
        signature_len = to_der(signature, signature_len, der);
        signature = der;
    }
    if (signature_len == 0)
        return false;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    CHECK(ctx != NULL);
    bool matches = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key->key) == 1 &&
                   EVP_DigestVerify(ctx, signature, signature_len, data, len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return matches;
}
