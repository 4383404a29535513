/* SPDX-License-Identifier: ISC */
/* What the CA is, for which names it vouches, and what it issues. */
#include <pthread.h>

#include "tests/unit/ca_bed.h"

#define MIXED "docker.io", "*.Example.com", "192.0.2.1"

static bool is_critical(const X509 *x, int nid)
{
    int at = X509_get_ext_by_NID(x, nid, -1);

    assert_true(at >= 0);
    return X509_EXTENSION_get_critical(X509_get_ext(x, at)) == 1;
}

/* --- the CA --- */

static void test_a_new_ca(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, MIXED);
    X509 *x = ca_bed_certificate(b);
    int64_t now_s = (int64_t)time(NULL);
    size_t count;
    const char *const *names = ca_names(ca, &count);

    assert_int_equal(ca_bed_mode(b, ""), 0700);
    assert_int_equal(ca_bed_mode(b, "ca.key"), 0600);
    assert_int_equal(scratch_file_size(b->ca_dir, "ca.key.new"), -1);
    assert_int_equal(scratch_file_size(b->ca_dir, "ca.crt.new"), -1);
    assert_int_equal(scratch_file_size(b->ca_dir, "ca.key.old"), -1);
    assert_int_equal(X509_check_ca(x), 1);
    assert_int_equal(X509_get_pathlen(x), 0);
    assert_int_equal(X509_get_key_usage(x), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_int_equal(X509_get_extended_key_usage(x), XKU_SSL_SERVER);
    assert_non_null(X509_get0_subject_key_id(x));
    assert_true(is_critical(x, NID_basic_constraints) && is_critical(x, NID_key_usage) &&
                is_critical(x, NID_name_constraints));
    assert_in_range(now_s - ca_start_s(x), DAY_S, DAY_S + 60);
    assert_in_range(ca_expiry_s(x) - now_s, CA_VALID_DAYS * (int64_t)DAY_S - 60,
                    CA_VALID_DAYS * (int64_t)DAY_S);
    assert_int_equal(X509_self_signed(x, 1), 1);
    assert_memory_equal(ca_subject(ca), "CN=cachalot CA ", 15);
    assert_true(strlen(ca_subject(ca)) <= 3 + 64);
    assert_int_equal(count, 3);
    assert_string_equal(names[0], "docker.io");
    assert_string_equal(names[1], "*.example.com");
    assert_string_equal(names[2], "192.0.2.1");
    X509_free(x);
    ca_free(&ca);
    assert_null(ca);
    ca_free(&ca);
}

static void test_fingerprint_and_pem(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, MIXED);
    char text[CA_FINGERPRINT_SIZE], expected[CA_FINGERPRINT_SIZE + 1], pem[4096];
    X509 *x = ca_bed_certificate(b);
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned len;

    assert_int_equal(X509_digest(x, EVP_sha256(), bytes, &len), 1);
    for (unsigned i = 0; i < len; i++) {
        snprintf(expected + 3 * i, 4, "%02X:", bytes[i]);
    }
    expected[CA_FINGERPRINT_SIZE - 1] = '\0';
    assert_string_equal(ca_fingerprint(ca, text), expected);
    FILE *f = ca_bed_open(b, "ca.crt", "r");
    pem[fread(pem, 1, sizeof pem - 1, f)] = '\0';
    fclose(f);
    assert_string_equal(ca_pem(ca), pem);
    X509_free(x);
    ca_free(&ca);
}

static void test_two_have_nothing_in_common(void **state)
{
    struct ca_bed *b = *state;
    struct ca *one = MADE(b, "docker.io");
    assert_int_equal(CREATE(b, CA_ROTATION, "docker.io"), 0);
    struct ca *other = ca_bed_loaded(b);
    const X509 *x = ca_certificate(one);
    const X509 *y = ca_certificate(other);

    assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(x), X509_get0_serialNumber(y)), 0);
    assert_int_not_equal(EVP_PKEY_eq(X509_get0_pubkey(x), X509_get0_pubkey(y)), 1);
    /* 128 bits, of which the first 16 are all 0 once in 65536 times. */
    assert_true(ASN1_STRING_length(X509_get0_serialNumber(x)) >= 14);
    ca_free(&one);
    ca_free(&other);
}

/* --- names --- */

static void test_what_is_no_name(void **state)
{
    struct ca_bed *b = *state;
    char long_label[80], long_name[300];
    static const char *const bad[] = {
        "",           ".",           "a..b",        ".a",           "a.",          "-a",
        "a-",         "a.-b",        "*",           "*.",           "a.*",         "*a.b",
        "*.*.x",      "**.x",        "a b",         " a",           "a\n",         "a\x01.b",
        "a\x7f",      "\xc3\xa4.de", "1.2.3",       "256.1.1.1",    "1.2.3.4.5",   "0x7f.1",
        "a.1",        "*.1.2.3.4",   "[::1]",       "::1%lo",       "1::2::3",     "::ffff:1.2.3.4",
        "http://a.b", "a.b:443",     "1.2.3.4:443", "1.2.3.4/32",   "a.b/c",       "a@b.c",
        "a,DNS:evil", "a_b.c",       "a\tb",        "01.02.03.004", "fe80::1%eth0"};

    memset(long_label, 'a', 64);
    snprintf(long_label + 64, sizeof long_label - 64, ".com");
    for (size_t i = 0; i < sizeof long_name - 1; i++) {
        long_name[i] = i % 50 == 49 ? '.' : 'a';
    }
    long_name[254] = '\0';
    assert_int_equal(CREATE(b, CA_FIRST, long_label), ERR_INVALID);
    assert_int_equal(CREATE(b, CA_FIRST, long_name), ERR_INVALID);
    long_name[253] = '\0';
    struct ca *ca = MADE(b, long_name);

    assert_true(ca_covers(ca, long_name));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        X509 *leaf = NULL;
        EVP_PKEY *key = NULL;

        assert_int_equal(CREATE(b, CA_FIRST, "good.example", bad[i]), ERR_INVALID);
        ca_bed_expect_word(b, "neither a host name nor an address");
        assert_false(ca_covers(ca, bad[i]));
        assert_int_equal(ca_issue(ca, (const char *const[]){bad[i]}, 1, &leaf, &key), ERR_INVALID);
        assert_true(leaf == NULL && key == NULL);
    }
    ca_free(&ca);
}

static void test_no_name_makes_no_directory(void **state)
{
    struct ca_bed *b = *state;

    assert_int_equal(ca_bed_create(b, CA_FIRST, NULL, 0), ERR_INVALID);
    assert_int_equal(CREATE(b, CA_FIRST, "no name"), ERR_INVALID);
    assert_int_equal(scratch_file_size(b->dir, "ca"), -1);
}

static void test_a_name_twice_is_one(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, "docker.io", "DOCKER.IO", "::1", "0:0:0:0:0:0:0:1", "127.0.0.1");
    size_t count;
    const char *const *names = ca_names(ca, &count);

    assert_int_equal(count, 3);
    assert_string_equal(names[0], "docker.io");
    assert_string_equal(names[1], "::1");
    assert_string_equal(names[2], "127.0.0.1");
    ca_free(&ca);
}

static void test_too_many_names(void **state)
{
    struct ca_bed *b = *state;
    static char names[2000][64];
    static const char *list[2000];

    for (size_t i = 0; i < 2000; i++) {
        snprintf(names[i], sizeof names[i], "host-%zu-with-a-long-name.registry.example.com", i);
        list[i] = names[i];
    }
    assert_int_equal(ca_bed_create(b, CA_FIRST, list, 2000), ERR_TOO_LARGE);
    ca_bed_expect_word(b, "name fewer");
    struct ca *ca = ca_bed_made(b, list, 500);

    assert_true(ca_covers(ca, list[499]));
    assert_false(ca_covers(ca, list[500]));
    ca_free(&ca);
}

static void expect_covers(const struct ca *ca, bool covers, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ca_covers(ca, names[i]) != covers) {
            fail_msg("%s is %scovered", names[i], covers ? "not " : "");
        }
    }
    assert_true(ERR_peek_error() == 0);
}

#define COVERS(ca, covers, ...)                                                                    \
    expect_covers(ca, covers, (const char *const[]){__VA_ARGS__},                                  \
                  sizeof(const char *const[]){__VA_ARGS__} / sizeof(char *))

static void test_what_is_covered(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, MIXED);

    COVERS(ca, true, "docker.io", "Docker.IO", "a.docker.io", "*.docker.io", "a.example.com",
           "b.a.example.com", "*.example.com", "192.0.2.1");
    COVERS(ca, false, "io", "xdocker.io", "docker.io.evil.example", "example.com", "xexample.com",
           "*.com", "192.0.2.2", "10.0.0.1", "127.0.0.1", "0.0.0.0", "::1", "::", "2001:db8::1",
           "c000:201::", "localhost", "invalid");
    ca_free(&ca);
}

static void test_addresses_alone(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, "2001:db8::1");

    COVERS(ca, true, "2001:db8::1", "2001:DB8:0::1");
    COVERS(ca, false, "2001:db8::2", "::1", "32.1.13.184", "127.0.0.1", "docker.io", "localhost");
    ca_free(&ca);
    assert_int_equal(CREATE(b, CA_ROTATION, "192.0.2.1", "2001:db8::1"), 0);
    ca = ca_bed_loaded(b);
    COVERS(ca, true, "2001:db8::1", "192.0.2.1");
    COVERS(ca, false, "2001:db8::2", "192.0.2.2", "docker.io");
    ca_free(&ca);
}

/* --- leaves --- */

static void issue(const struct ca *ca, const char *const *names, size_t count, X509 **leaf,
                  EVP_PKEY **key)
{
    assert_int_equal(ca_issue(ca, names, count, leaf, key), 0);
    assert_int_equal(X509_check_private_key(*leaf, *key), 1);
    assert_true(ERR_peek_error() == 0);
}

static void test_a_leaf(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, MIXED);
    X509 *root = ca_bed_certificate(b);
    EVP_PKEY *ca_key = ca_bed_key(b);
    X509 *leaf;
    EVP_PKEY *key;
    const char *const names[] = {"Docker.io", "192.0.2.1", "cdn.example.com"};
    int64_t now_s = (int64_t)time(NULL);

    issue(ca, names, 3, &leaf, &key);
    assert_int_equal(ca_bed_verify(root, NULL, leaf), X509_V_OK);
    assert_int_equal(X509_check_host(leaf, "docker.io", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(leaf, "cdn.example.com", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(leaf, "other.example.com", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(leaf, "192.0.2.1", 0), 1);
    assert_int_equal(X509_check_ca(leaf), 0);
    assert_int_equal(X509_get_key_usage(leaf), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_get_extended_key_usage(leaf), XKU_SSL_SERVER);
    assert_int_equal(
        ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(leaf), X509_get0_subject_key_id(root)), 0);
    assert_false(is_critical(leaf, NID_subject_alt_name));
    assert_int_equal(X509_NAME_get_index_by_NID(X509_get_subject_name(leaf), NID_commonName, -1),
                     -1);
    assert_int_not_equal(EVP_PKEY_eq(key, ca_key), 1);
    /* The CA is younger than two days. */
    assert_int_equal(ca_start_s(leaf), ca_start_s(root));
    assert_in_range(ca_expiry_s(leaf) - now_s, CA_LEAF_DAYS * DAY_S, CA_LEAF_DAYS * DAY_S + 60);
    EVP_PKEY_free(ca_key);
    X509_free(root);
    /* What was issued outlives the CA. */
    ca_free(&ca);
    assert_int_equal(X509_check_private_key(leaf, key), 1);
    X509_free(leaf);
    EVP_PKEY_free(key);
}

/* A leaf for an address alone: no verifier takes the subject for a name that is not permitted. */
static void test_a_leaf_for_an_address(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, MIXED);
    X509 *root = ca_bed_certificate(b);
    X509 *leaf;
    EVP_PKEY *key;

    issue(ca, (const char *const[]){"192.0.2.1"}, 1, &leaf, &key);
    assert_int_equal(ca_bed_verify(root, NULL, leaf), X509_V_OK);
    assert_int_equal(X509_check_ip_asc(leaf, "192.0.2.1", 0), 1);
    X509_free(leaf);
    EVP_PKEY_free(key);
    X509_free(root);
    ca_free(&ca);
}

static void test_no_leaf_for_others(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, MIXED);
    static const struct {
        const char *names[3];
        size_t count;
        int err;
    } rows[] = {
        {{"evil.example"}, 1, ERR_DENIED},
        {{"docker.io", "evil.example"}, 2, ERR_DENIED},
        {{"docker.io", "192.0.2.2"}, 2, ERR_DENIED},
        {{"example.com"}, 1, ERR_DENIED},
        {{"::1"}, 1, ERR_DENIED},
        {{"*.example.com"}, 1, ERR_INVALID},
        {{"docker.io", ""}, 2, ERR_INVALID},
        {{NULL}, 0, ERR_INVALID},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        X509 *leaf = NULL;
        EVP_PKEY *key = NULL;

        assert_int_equal(ca_issue(ca, rows[i].names, rows[i].count, &leaf, &key), rows[i].err);
        assert_true(leaf == NULL && key == NULL);
        assert_true(ERR_peek_error() == 0);
    }
    ca_free(&ca);
}

/* --- with the key of the CA stolen --- */

static int verify_stolen(const struct ca_bed *b, const char *names, const char *usage)
{
    X509 *root = ca_bed_certificate(b);
    EVP_PKEY *ca_key = ca_bed_key(b);
    EVP_PKEY *key = ca_bed_new_key();
    const struct ca_extension extensions[] = {
        {NID_subject_alt_name, names}, {NID_ext_key_usage, usage}, {0, NULL}};
    int64_t now_s = (int64_t)time(NULL);
    X509 *leaf = ca_bed_forge(root, ca_key, key, "thief", extensions, now_s, now_s + DAY_S);
    int result = ca_bed_verify(root, NULL, leaf);

    X509_free(leaf);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    X509_free(root);
    return result;
}

static void test_verifiers_refuse_others(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, MIXED);
    static const char *const refused[] = {"DNS:evil.example",
                                          "DNS:docker.io,DNS:evil.example",
                                          "DNS:example.com",
                                          "IP:192.0.2.2",
                                          "IP:::1",
                                          "IP:::ffff:192.0.2.1",
                                          "email:a@docker.io",
                                          "DNS:docker.io,URI:spiffe://docker.io/x"};

    assert_int_equal(verify_stolen(b, "DNS:docker.io", "serverAuth"), X509_V_OK);
    assert_int_equal(verify_stolen(b, "DNS:a.example.com", "serverAuth"), X509_V_OK);
    assert_int_equal(verify_stolen(b, "IP:192.0.2.1", "serverAuth"), X509_V_OK);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int result = verify_stolen(b, refused[i], "serverAuth");

        if (result != X509_V_ERR_PERMITTED_VIOLATION && result != X509_V_ERR_EXCLUDED_VIOLATION) {
            fail_msg("%s: %s", refused[i], X509_verify_cert_error_string(result));
        }
    }
    ca_free(&ca);
}

static void test_verifiers_refuse_a_ca_below(void **state)
{
    struct ca_bed *b = *state;
    struct ca *ca = MADE(b, MIXED);
    X509 *root = ca_bed_certificate(b);
    EVP_PKEY *ca_key = ca_bed_key(b);
    EVP_PKEY *key = ca_bed_new_key();
    static const struct ca_extension authority[] = {
        {NID_basic_constraints, "critical,CA:TRUE"}, {NID_key_usage, "keyCertSign"}, {0, NULL}};
    static const struct ca_extension server[] = {{NID_subject_alt_name, "DNS:docker.io"},
                                                 {0, NULL}};
    int64_t now_s = (int64_t)time(NULL);
    X509 *below = ca_bed_forge(root, ca_key, key, "below", authority, now_s, now_s + DAY_S);
    X509 *leaf = ca_bed_forge(below, key, key, "leaf", server, now_s, now_s + DAY_S);

    assert_int_equal(ca_bed_verify(root, below, leaf), X509_V_ERR_PATH_LENGTH_EXCEEDED);
    X509_free(leaf);
    X509_free(below);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    X509_free(root);
    ca_free(&ca);
}

/* --- many threads --- */

static void *issue_many(void *arg)
{
    const struct ca *ca = arg;

    for (unsigned i = 0; i < 50; i++) {
        char name[32];
        X509 *leaf;
        EVP_PKEY *key;

        snprintf(name, sizeof name, "host-%u.example.com", i);
        if (ca_issue(ca, (const char *const[]){name}, 1, &leaf, &key) != 0) {
            return (void *)"not issued";
        }
        bool good = X509_verify(leaf, X509_get0_pubkey(ca_certificate(ca))) == 1 &&
                    X509_check_private_key(leaf, key) == 1 && !ca_covers(ca, "evil.example");

        X509_free(leaf);
        EVP_PKEY_free(key);
        if (!good) {
            return (void *)"not good";
        }
    }
    return NULL;
}

static void test_many_threads_issue(void **state)
{
    struct ca *ca = MADE((struct ca_bed *)*state, MIXED);
    pthread_t threads[4];

    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, issue_many, ca), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *failure;

        assert_int_equal(pthread_join(threads[i], &failure), 0);
        assert_null(failure);
    }
    ca_free(&ca);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ca_bed_setup, ca_bed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_new_ca),
        TEST(test_fingerprint_and_pem),
        TEST(test_two_have_nothing_in_common),
        TEST(test_what_is_no_name),
        TEST(test_no_name_makes_no_directory),
        TEST(test_a_name_twice_is_one),
        TEST(test_too_many_names),
        TEST(test_what_is_covered),
        TEST(test_addresses_alone),
        TEST(test_a_leaf),
        TEST(test_a_leaf_for_an_address),
        TEST(test_no_leaf_for_others),
        TEST(test_verifiers_refuse_others),
        TEST(test_verifiers_refuse_a_ca_below),
        TEST(test_many_threads_issue),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
