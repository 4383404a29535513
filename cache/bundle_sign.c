/* SPDX-License-Identifier: ISC */
#include "cache/bundle_sign.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "cache/err.h"

/* Nobody is asked for a pass phrase. */
static int no_pass_phrase(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

typedef EVP_PKEY *read_key(BIO *bio, EVP_PKEY **key, pem_password_cb *pass, void *arg);

/* NULL when the text has no Ed25519 key of that sort. */
static EVP_PKEY *key_of(const void *pem, size_t len, read_key *read)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)len);

    CHECK(bio != NULL);
    EVP_PKEY *key = read(bio, NULL, no_pass_phrase, NULL);
    if (key != NULL && EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

int bundle_sign(const void *pem, size_t pem_len, const void *data, size_t len,
                uint8_t signature[BUNDLE_SIGNATURE_BYTES])
{
    EVP_PKEY *key = key_of(pem, pem_len, PEM_read_bio_PrivateKey);
    size_t signature_len = BUNDLE_SIGNATURE_BYTES;

    if (key == NULL)
        return ERR_INVALID;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    CHECK(ctx != NULL);
    CHECK(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1);
    CHECK(EVP_DigestSign(ctx, signature, &signature_len, data, len) == 1);
    CHECK(signature_len == BUNDLE_SIGNATURE_BYTES);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return 0;
}

int bundle_verify(const void *pem, size_t pem_len, const void *data, size_t len,
                  const uint8_t signature[BUNDLE_SIGNATURE_BYTES])
{
    EVP_PKEY *key = key_of(pem, pem_len, PEM_read_bio_PUBKEY);

    if (key == NULL)
        return ERR_INVALID;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    CHECK(ctx != NULL);
    CHECK(EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1);
    int err =
        EVP_DigestVerify(ctx, signature, BUNDLE_SIGNATURE_BYTES, data, len) == 1 ? 0 : ERR_MISMATCH;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return err;
}
