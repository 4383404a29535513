/* SPDX-License-Identifier: ISC */
/* What ca_load and ca_create refuse, and what they say to do. */
#include <sys/wait.h>

#include "tests/unit/ca_bed.h"

#define HOST "docker.io"

static const struct ca_extension good[] = {
    {NID_subject_key_identifier, "hash"},
    {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
    {NID_key_usage, "critical,keyCertSign"},
    {NID_name_constraints, "critical,permitted;DNS:docker.io,excluded;IP:0.0.0.0/0.0.0.0,"
                           "excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0"},
    {0, NULL},
};

static void expect(struct ca_bed *b, int err, const char *word)
{
    struct ca *ca;

    if (ca_bed_load(b, &ca) != err) {
        fail_msg("it should be %s: \"%s\"", err_text(err), b->why);
    }
    if (err != 0) {
        ca_bed_expect_word(b, b->ca_dir);
        ca_bed_expect_word(b, word);
    }
    ca_free(&ca);
}

static void make(struct ca_bed *b)
{
    assert_int_equal(CREATE(b, CA_FIRST, HOST), 0);
}

static void set_mode(const struct ca_bed *b, const char *name, mode_t mode)
{
    assert_int_equal(chmod(ca_bed_path(b, name), mode), 0);
}

static void take_away(const struct ca_bed *b, const char *name)
{
    assert_int_equal(remove(ca_bed_path(b, name)), 0);
}

static void put_text(const struct ca_bed *b, const char *name, const char *text)
{
    scratch_file(b->ca_dir, name, text, strlen(text));
}

/* Replace ca.crt by one for the same key with other extensions and times. */
static void put_forged(const struct ca_bed *b, const struct ca_extension *extensions,
                       int64_t start_s, int64_t expiry_s)
{
    EVP_PKEY *key = ca_bed_key(b);
    X509 *x = ca_bed_forge(NULL, key, key, "forged", extensions, start_s, expiry_s);

    ca_bed_put_certificate(b, x);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void put_extensions(const struct ca_bed *b, const struct ca_extension *extensions)
{
    int64_t now_s = (int64_t)time(NULL);

    put_forged(b, extensions, now_s - DAY_S, now_s + DAY_S);
}

/* `good` with one extension replaced, or left out. */
static void put_but(const struct ca_bed *b, int nid, const char *value)
{
    struct ca_extension extensions[sizeof good / sizeof good[0]];
    size_t count = 0;

    for (size_t i = 0; good[i].value != NULL; i++) {
        if (good[i].nid != nid) {
            extensions[count++] = good[i];
        } else if (value != NULL) {
            extensions[count++] = (struct ca_extension){nid, value};
        }
    }
    extensions[count] = (struct ca_extension){0, NULL};
    put_extensions(b, extensions);
}

static void put_link(const struct ca_bed *b, const char *name)
{
    char elsewhere[128];

    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", b->dir);
    assert_int_equal(rename(ca_bed_path(b, name), elsewhere), 0);
    assert_int_equal(symlink(elsewhere, ca_bed_path(b, name)), 0);
}

/* --- none, or not all --- */

static void test_none(void **state)
{
    struct ca_bed *b = *state;

    expect(b, ERR_NOT_FOUND, "run cachalot ca init");
    assert_int_equal(mkdir(b->ca_dir, 0700), 0);
    expect(b, ERR_NOT_FOUND, "run cachalot ca init");
    /* What a creation that was cut short leaves is not one either. */
    put_text(b, "ca.key.new", "half a key");
    put_text(b, "ca.crt.new", "half a certificate");
    expect(b, ERR_NOT_FOUND, "run cachalot ca init");
    make(b);
    expect(b, 0, "");
    assert_int_equal(scratch_file_size(b->ca_dir, "ca.key.new"), -1);
    assert_int_equal(scratch_file_size(b->ca_dir, "ca.crt.new"), -1);
}

static void test_missing_key(void **state)
{
    make(*state);
    take_away(*state, "ca.key");
    expect(*state, ERR_DAMAGED, "ca.key is missing");
}

static void test_missing_certificate(void **state)
{
    make(*state);
    take_away(*state, "ca.crt");
    expect(*state, ERR_DAMAGED, "ca.crt is missing");
}

/* --- files --- */

static void test_open_permissions(void **state)
{
    static const mode_t modes[] = {0644, 0640, 0620, 0602, 0604, 0601, 0666, 0777};
    struct ca_bed *b = *state;

    make(b);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        set_mode(b, "ca.key", modes[i]);
        expect(b, ERR_DENIED, "run chmod 0600");
    }
    set_mode(b, "ca.key", 0400);
    expect(b, 0, "");
    set_mode(b, "ca.crt", 0666);
    expect(b, ERR_DENIED, "write to");
    set_mode(b, "ca.crt", 0644);
    set_mode(b, "", 0755);
    expect(b, ERR_DENIED, "run chmod 0700");
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), ERR_DENIED);
    ca_bed_expect_word(b, "run chmod 0700");
    set_mode(b, "", 0710);
    expect(b, ERR_DENIED, "run chmod 0700");
    set_mode(b, "", 0700);
    expect(b, 0, "");
}

static void test_links(void **state)
{
    struct ca_bed *b = *state;
    char elsewhere[128];

    make(b);
    put_link(b, "ca.key");
    expect(b, ERR_DENIED, "ca.key is a symbolic link");
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), ERR_DENIED);
    ca_bed_expect_word(b, "symbolic link");
    take_away(b, "ca.key");
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), 0);
    put_link(b, "ca.crt");
    expect(b, ERR_DENIED, "ca.crt is a symbolic link");
    snprintf(elsewhere, sizeof elsewhere, "%s/directory", b->dir);
    assert_int_equal(rename(b->ca_dir, elsewhere), 0);
    assert_int_equal(symlink(elsewhere, b->ca_dir), 0);
    expect(b, ERR_DENIED, "symbolic link");
    assert_int_equal(CREATE(b, CA_FIRST, HOST), ERR_DENIED);
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), ERR_DENIED);
    assert_int_equal(remove(b->ca_dir), 0);
    scratch_file(b->dir, "ca", "", 0);
    expect(b, ERR_DENIED, "a file");
}

/* The new names are nobody's to prepare. */
static void test_links_at_the_new_names(void **state)
{
    struct ca_bed *b = *state;
    char victim[128];

    make(b);
    snprintf(victim, sizeof victim, "%s/victim", b->dir);
    assert_int_equal(symlink(victim, ca_bed_path(b, "ca.key.new")), 0);
    assert_int_equal(symlink(victim, ca_bed_path(b, "ca.key.old")), 0);
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), 0);
    assert_int_equal(scratch_file_size(b->dir, "victim"), -1);
    assert_int_equal(ca_bed_mode(b, "ca.key"), 0600);
    expect(b, 0, "");
}

static void test_no_files(void **state)
{
    struct ca_bed *b = *state;

    make(b);
    take_away(b, "ca.key");
    assert_int_equal(mkfifo(ca_bed_path(b, "ca.key"), 0600), 0);
    expect(b, ERR_DENIED, "is not a file");
    take_away(b, "ca.key");
    assert_int_equal(mkdir(ca_bed_path(b, "ca.key"), 0700), 0);
    expect(b, ERR_DENIED, "is not a file");
}

static void test_absurd_sizes(void **state)
{
    struct ca_bed *b = *state;
    FILE *f;

    make(b);
    f = ca_bed_open(b, "ca.crt", "a");
    for (size_t i = 0; i < 70000; i++) {
        fputc('\n', f);
    }
    fclose(f);
    expect(b, ERR_TOO_LARGE, "more than 65536 bytes");
    assert_int_equal(truncate(ca_bed_path(b, "ca.key"), (off_t)1 << 40), 0);
    expect(b, ERR_TOO_LARGE, "ca.key has more than");
    put_text(b, "ca.key", "");
    expect(b, ERR_DAMAGED, "not a P-256 key");
}

/* --- keys and certificates --- */

static void test_no_key(void **state)
{
    struct ca_bed *b = *state;
    EVP_PKEY *key;

    make(b);
    put_text(b, "ca.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    expect(b, ERR_DAMAGED, "not a P-256 key");
    key = EVP_EC_gen("P-384");
    ca_bed_put_key(b, key);
    EVP_PKEY_free(key);
    expect(b, ERR_DAMAGED, "not a P-256 key");
    key = EVP_RSA_gen(2048);
    ca_bed_put_key(b, key);
    EVP_PKEY_free(key);
    expect(b, ERR_DAMAGED, "not a P-256 key");
}

/* Nobody may be asked at a terminal. */
static void test_a_key_with_a_pass_phrase(void **state)
{
    struct ca_bed *b = *state;

    make(b);
    EVP_PKEY *key = ca_bed_key(b);
    FILE *f = ca_bed_open(b, "ca.key", "w");

    assert_int_equal(PEM_write_PKCS8PrivateKey(f, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL),
                     1);
    fclose(f);
    EVP_PKEY_free(key);
    expect(b, ERR_DAMAGED, "without a pass phrase");
}

static void test_no_certificate(void **state)
{
    struct ca_bed *b = *state;

    make(b);
    put_text(b, "ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    expect(b, ERR_DAMAGED, "not a certificate");
    put_text(b, "ca.crt", "");
    expect(b, ERR_DAMAGED, "not a certificate");
}

static void test_mismatch(void **state)
{
    struct ca_bed *b = *state;

    make(b);
    EVP_PKEY *other = ca_bed_new_key();

    ca_bed_put_key(b, other);
    EVP_PKEY_free(other);
    expect(b, ERR_MISMATCH, "is not the key of");
    /* A certificate that somebody put there is not what a rotation left. */
    put_text(b, "ca.crt.new", "nothing");
    expect(b, ERR_MISMATCH, "is not the key of");
}

static void test_times(void **state)
{
    struct ca_bed *b = *state;
    int64_t now_s = (int64_t)time(NULL);

    make(b);
    put_forged(b, good, now_s - DAY_S, now_s + DAY_S);
    expect(b, 0, "");
    put_forged(b, good, now_s - 2 * DAY_S, now_s - DAY_S);
    expect(b, ERR_INVALID, "has expired on");
    ca_bed_expect_word(b, "run cachalot ca rotate");
    put_forged(b, good, now_s + DAY_S, now_s + 2 * DAY_S);
    expect(b, ERR_INVALID, "set the clock");
}

/* A leaf is never valid when the CA is not. */
static void test_leaves_end_with_the_ca(void **state)
{
    struct ca_bed *b = *state;
    int64_t now_s = (int64_t)time(NULL);
    const char *const names[] = {HOST};
    EVP_PKEY *key;
    X509 *leaf;

    make(b);
    put_forged(b, good, now_s - 10 * DAY_S, now_s + 10 * DAY_S);
    struct ca *ca = ca_bed_loaded(b);

    assert_int_equal(ca_issue(ca, names, 1, &leaf, &key), 0);
    assert_int_equal(ca_expiry_s(leaf), now_s + 10 * DAY_S);
    assert_in_range(now_s + 60 - ca_start_s(leaf), 2 * DAY_S, 2 * DAY_S + 60);
    X509_free(leaf);
    EVP_PKEY_free(key);
    ca_free(&ca);
}

static void test_no_authority(void **state)
{
    struct ca_bed *b = *state;

    make(b);
    put_extensions(b, good);
    expect(b, 0, "");
    put_but(b, NID_basic_constraints, NULL);
    expect(b, ERR_DAMAGED, "not the certificate of a CA");
    put_but(b, NID_basic_constraints, "critical,CA:FALSE");
    expect(b, ERR_DAMAGED, "not the certificate of a CA");
    put_but(b, NID_basic_constraints, "critical,CA:TRUE");
    expect(b, ERR_DAMAGED, "not the certificate of a CA");
    put_but(b, NID_basic_constraints, "critical,CA:TRUE,pathlen:1");
    expect(b, ERR_DAMAGED, "not the certificate of a CA");
    put_but(b, NID_key_usage, "critical,digitalSignature");
    expect(b, ERR_DAMAGED, "not the certificate of a CA");
    put_but(b, NID_key_usage, NULL);
    expect(b, ERR_DAMAGED, "not the certificate of a CA");
}

static void test_no_limits(void **state)
{
    static const char *const open[] = {
        "permitted;DNS:docker.io,excluded;IP:0.0.0.0/0.0.0.0", /* not critical */
        "critical,permitted;DNS:docker.io",
        "critical,permitted;DNS:docker.io,excluded;IP:0.0.0.0/0.0.0.0,excluded;email:x",
        "critical,permitted;IP:192.0.2.1/255.255.255.255",
        "critical,permitted;DNS:invalid,permitted;IP:192.0.2.1/255.255.255.255",
        "critical,excluded;DNS:evil.example,permitted;IP:192.0.2.1/255.255.255.255",
    };
    struct ca_bed *b = *state;

    make(b);
    put_but(b, NID_name_constraints, NULL);
    expect(b, ERR_DAMAGED, "name constraints");
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        put_but(b, NID_name_constraints, open[i]);
        expect(b, ERR_DAMAGED, "name constraints");
    }
}

/* --- users --- */

static void as_user(uid_t uid, struct ca_bed *b, int err, const char *word)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        struct ca *ca = NULL;
        bool right = setgid(uid) == 0 && setuid(uid) == 0 &&
                     ca_load(b->ca_dir, &ca, b->why, sizeof b->why) == err &&
                     (word == NULL || strstr(b->why, word) != NULL);

        if (!right) {
            fprintf(stderr, "as user %u: %s\n", (unsigned)uid, b->why);
        }
        ca_free(&ca);
        _exit(right ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Root makes and looks into the CA of the cache's owner, who can use it. */
static void test_root_and_the_owner(void **state)
{
    struct ca_bed *b = *state;

    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(chown(b->dir, 1, 1), 0);
    make(b);
    expect(b, 0, "");
    as_user(1, b, 0, NULL);
    as_user(2, b, ERR_DENIED, "cannot open");
    assert_int_equal(CREATE(b, CA_ROTATION, HOST), 0);
    as_user(1, b, 0, NULL);
    assert_int_equal(chown(ca_bed_path(b, "ca.key"), 2, 2), 0);
    expect(b, ERR_DENIED, "run chown 1 ");
    as_user(1, b, ERR_DENIED, "cannot open");
    assert_int_equal(chown(ca_bed_path(b, "ca.key"), 1, 1), 0);
    assert_int_equal(chown(ca_bed_path(b, "ca.crt"), 0, 0), 0);
    as_user(1, b, ERR_DENIED, "run chown 1 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, ca_bed_setup, ca_bed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_none),
        TEST(test_missing_key),
        TEST(test_missing_certificate),
        TEST(test_open_permissions),
        TEST(test_links),
        TEST(test_links_at_the_new_names),
        TEST(test_no_files),
        TEST(test_absurd_sizes),
        TEST(test_no_key),
        TEST(test_a_key_with_a_pass_phrase),
        TEST(test_no_certificate),
        TEST(test_mismatch),
        TEST(test_times),
        TEST(test_leaves_end_with_the_ca),
        TEST(test_no_authority),
        TEST(test_no_limits),
        TEST(test_root_and_the_owner),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
