/* SPDX-License-Identifier: ISC */
/* What is said of urls, and by which of their spellings it is found. */
#include "cache/claim.h"

#include "cache/err.h"
#include "tests/unit/scratch.h"

static const struct name app = {"mcr.microsoft.com", "windows/servercore"};
static const struct name other = {"quay.io", "evil/app"};

static struct digest digest(const char *text)
{
    struct digest d;

    digest_of(DIGEST_SHA256, text, strlen(text), &d);
    return d;
}

struct bed {
    char dir[64];
    struct db *db;
    struct db_txn *txn;
};

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    assert_non_null(b);
    scratch_dir(b->dir);
    assert_int_equal(db_open(&b->db, b->dir, SCRATCH_MAP_BYTES, false), 0);
    assert_int_equal(db_write(b->db, &b->txn), 0);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;

    db_abort(&b->txn);
    db_close(&b->db);
    scratch_remove(b->dir);
    free(b);
    return 0;
}

static void put(struct bed *b, const char *url, const char *content, const struct name *n)
{
    struct digest d = digest(content);

    assert_int_equal(claim_put(b->txn, url, &d, n), 0);
}

static bool believe_all(const void *arg, const char *registry)
{
    (void)arg;
    return registry[0] != '\0';
}

static bool believe_one(const void *arg, const char *registry)
{
    return strcmp(arg, registry) == 0;
}

static int get(struct bed *b, const char *host, const char *target, struct digest *d,
               struct name *n)
{
    return claim_get(b->txn, host, target, strlen(target), believe_all, NULL, d, n);
}

static void expect(struct bed *b, const char *host, const char *target, const char *content)
{
    struct digest d, wanted = digest(content);
    struct name n;

    assert_int_equal(get(b, host, target, &d, &n), 0);
    assert_true(digest_equal(&d, &wanted));
    assert_string_equal(n.registry, app.registry);
    assert_string_equal(n.repository, app.repository);
}

static void expect_none(struct bed *b, const char *host, const char *target)
{
    struct digest d;
    struct name n;

    assert_int_equal(get(b, host, target, &d, &n), ERR_NOT_FOUND);
}

/* The digest and the repository of a url; another query is another url. */
static void test_found(void **state)
{
    struct bed *b = *state;

    expect_none(b, "go.microsoft.com", "/fwlink/?linkid=1");
    put(b, "https://go.microsoft.com/fwlink/?linkid=1", "one", &app);
    put(b, "https://go.microsoft.com/fwlink/?linkid=11", "eleven", &app);
    expect(b, "go.microsoft.com", "/fwlink/?linkid=1", "one");
    expect(b, "go.microsoft.com", "/fwlink/?linkid=11", "eleven");
    expect_none(b, "go.microsoft.com", "/fwlink/?linkid=2");
    expect_none(b, "go.microsoft.com", "/fwlink/");
    expect_none(b, "go.microsoft.com", "/FWLINK/?linkid=1");
    expect_none(b, "microsoft.com", "/fwlink/?linkid=1");
    put(b, "https://go.microsoft.com/fwlink/?linkid=1", "one", &app);
    expect(b, "go.microsoft.com", "/fwlink/?linkid=1", "one");
}

/* What local repositories and other registries say of a url takes nobody's word away. */
static void test_others_say_so_too(void **state)
{
    struct bed *b = *state;
    const char *url = "https://go.microsoft.com/fwlink/?linkid=1";
    struct name local, third;
    struct digest d;
    struct name n;

    assert_int_equal(name_set_local(&local, "team/app", 8), 0);
    assert_int_equal(name_set(&third, "third.test", 10, "app", 3), 0);
    put(b, url, "one", &app);
    put(b, url, "one", &local);
    put(b, url, "one", &third);
    put(b, url, "two", &local);
    assert_int_equal(claim_get(b->txn, "go.microsoft.com", "/fwlink/?linkid=1", 17, believe_one,
                               app.registry, &d, &n),
                     0);
    assert_string_equal(n.registry, app.registry);
    assert_int_equal(get(b, "go.microsoft.com", "/fwlink/?linkid=1", &d, &n), 0);
}

/* Spellings of one url: its scheme, the case of the host, the port that goes without saying, an
 * empty path, a fragment. */
static void test_spellings(void **state)
{
    static const struct {
        const char *url, *host, *target;
    } rows[] = {
        {"HTTP://A.test/x", "a.test", "/x"},
        {"https://b.test:443/x", "b.test", "/x"},
        {"http://c.test:80/x", "c.test", "/x"},
        {"https://d.test", "d.test", "/"},
        {"https://e.test?q", "e.test", "/?q"},
        {"https://f.test/x#y", "f.test", "/x"},
        {"https://g.test:8443/x", "g.test:8443", "/x"},
        {"https://h.test/", "h.test", ""},
    };
    struct bed *b = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put(b, rows[i].url, rows[i].url, &app);
        expect(b, rows[i].host, rows[i].target, rows[i].url);
    }
    expect_none(b, "g.test", "/x");
}

/* Of a url of which two things are believed nothing is; who is not believed does not count. */
static void test_quarrel(void **state)
{
    struct bed *b = *state;
    struct digest d, wanted = digest("true");
    struct name n;

    put(b, "https://a.test/x", "true", &app);
    put(b, "http://a.test/x", "false", &other);
    assert_int_equal(get(b, "a.test", "/x", &d, &n), ERR_MISMATCH);
    assert_int_equal(claim_get(b->txn, "a.test", "/x", 2, believe_one, app.registry, &d, &n), 0);
    assert_true(digest_equal(&d, &wanted));
    assert_string_equal(n.repository, app.repository);
    assert_int_equal(claim_get(b->txn, "a.test", "/x", 2, believe_one, "nobody.test", &d, &n),
                     ERR_NOT_FOUND);
}

/* What is no url of http is no claim; long ones are. */
static void test_urls(void **state)
{
    struct bed *b = *state;
    uint64_t count;
    char url[4096] = "https://a.test/";

    static const char *const none[] = {
        "",         "x",         "ftp://a.test/x", "file:///etc/passwd",
        "https://", "http:///x", "https:/a.test/x"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        put(b, none[i], "x", &app);
    assert_int_equal(db_count(b->txn, DB_CLAIMS, &count), 0);
    assert_int_equal(count, 0);
    memset(url + strlen(url), 'y', sizeof url - 1 - strlen(url));
    put(b, url, "long", &app);
    expect(b, "a.test", url + strlen("https://a.test"), "long");
}

/* A record that is damaged is an error, and no answer. */
static void test_damaged(void **state)
{
    struct bed *b = *state;
    struct digest d = digest("x");
    struct name n;
    uint8_t key[32 + DIGEST_KEY_MAX] = {0};
    struct digest hash;

    put(b, "https://a.test/x", "x", &app);
    digest_of(DIGEST_SHA256, "a.test/x", strlen("a.test/x"), &hash);
    memcpy(key, hash.bytes, 32);
    size_t len = 32 + digest_to_key(&d, key + 32);
    for (size_t size = 0; size < 20; size++) {
        assert_int_equal(db_put(b->txn, DB_CLAIMS, key, len, "\x01\x02\x03garbage-garbage-", size),
                         0);
        assert_true(get(b, "a.test", "/x", &d, &n) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_others_say_so_too, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spellings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quarrel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_urls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
