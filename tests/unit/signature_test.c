/* SPDX-License-Identifier: ISC */
/* Signatures of others: good ones, and all else. */
#include "cache/signature.h"

#include "tests/unit/jwt_bed.h"

#include "cache/err.h"

static const char message[] = "what is signed";

static struct signature_key *parse(char *pem)
{
    struct signature_key *key = NULL;
    char why[128] = "";

    if (signature_key_parse(&key, pem, strlen(pem), why, sizeof why) != 0)
        fail_msg("%s", why);
    free(pem);
    return key;
}

static void check_refused(const char *pem, size_t len, const char *expected)
{
    struct signature_key *key = NULL;
    char why[128] = "";

    assert_int_equal(signature_key_parse(&key, pem, len, why, sizeof why), ERR_INVALID);
    assert_null(key);
    if (strstr(why, expected) == NULL)
        fail_msg("%s", why);
}

static void check_key_refused(EVP_PKEY *key, const char *expected)
{
    assert_non_null(key);
    char *pem = jwt_public_pem(key);

    check_refused(pem, strlen(pem), expected);
    free(pem);
    EVP_PKEY_free(key);
}

static void check_signatures(EVP_PKEY *key, const char *algorithm)
{
    uint8_t signature[1100];
    struct signature_key *k = parse(jwt_public_pem(key));
    struct signature_key *of_certificate = parse(jwt_certificate_pem(key));
    size_t len = jwt_signature(key, message, sizeof message, signature);

    assert_string_equal(signature_algorithm(k), algorithm);
    assert_true(signature_matches(k, message, sizeof message, signature, len));
    assert_true(signature_matches(of_certificate, message, sizeof message, signature, len));
    assert_false(signature_matches(k, message, sizeof message - 1, signature, len));
    assert_false(signature_matches(k, message, sizeof message, signature, len - 1));
    signature[len] = 0;
    assert_false(signature_matches(k, message, sizeof message, signature, len + 1));
    assert_false(signature_matches(k, message, sizeof message, signature, 0));
    for (size_t i = 0; i < len; i += 7) {
        signature[i] ^= 1;
        assert_false(signature_matches(k, message, sizeof message, signature, len));
        signature[i] ^= 1;
    }
    memset(signature, 0, sizeof signature);
    assert_false(signature_matches(k, message, sizeof message, signature, len));
    memset(signature, 0xff, sizeof signature);
    assert_false(signature_matches(k, message, sizeof message, signature, len));
    signature_key_free(&of_certificate);
    signature_key_free(&k);
    assert_null(k);
}

static void good_signatures_match(void **state)
{
    (void)state;
    EVP_PKEY *rsa = EVP_RSA_gen(2048), *ec = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");
    uint8_t signature[1100];

    check_signatures(rsa, "RS256");
    check_signatures(ec, "ES256");
    struct signature_key *k = parse(jwt_public_pem(ec));
    size_t len = jwt_signature(other, message, sizeof message, signature);
    assert_false(signature_matches(k, message, sizeof message, signature, len));
    len = jwt_signature(rsa, message, sizeof message, signature);
    assert_false(signature_matches(k, message, sizeof message, signature, len));
    signature_key_free(&k);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(other);
}

static void weak_and_other_keys_are_refused(void **state)
{
    (void)state;
    check_key_refused(EVP_RSA_gen(1024), "less than 2048 bits");
    check_key_refused(EVP_EC_gen("P-384"), "neither RSA nor P-256");
    check_key_refused(EVP_EC_gen("secp256k1"), "neither RSA nor P-256");
    check_key_refused(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "neither RSA nor P-256");
}

static void what_is_no_key_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "hello",
        "-----BEGIN ",
        "-----BEGIN PUBLIC KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    };
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    const char *data;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        check_refused(texts[i], strlen(texts[i]), "no public key");
    check_refused("-----BEGIN PUBLIC KEY-----\0", 27, "no public key");
    /* A private key is not to be left with those who check. */
    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    long len = BIO_get_mem_data(bio, &data);
    check_refused(data, (size_t)len, "no public key");
    BIO_free(bio);
    EVP_PKEY_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_signatures_match),
        cmocka_unit_test(weak_and_other_keys_are_refused),
        cmocka_unit_test(what_is_no_key_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
