/* SPDX-License-Identifier: ISC */
#include "cache/err.h"
#include "cache/pin.h"
#include "tests/unit/scratch.h"

static struct reference parse(const char *text)
{
    struct reference r;

    assert_int_equal(reference_parse(&r, text, NULL), 0);
    return r;
}

static void put(struct db_txn *txn, const char *text, const char *owner)
{
    struct pin p = {.reference = parse(text), .pinned_at_s = 7};

    snprintf(p.owner, sizeof p.owner, "%s", owner);
    assert_int_equal(pin_put(txn, &p), 0);
}

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_put_get_forget(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct reference tag = parse("docker.io/app:1");
    struct reference digest = parse("docker.io/app@" DIGEST);
    struct pin p;

    assert_int_equal(pin_get(txn, &tag, &p), ERR_NOT_FOUND);
    assert_int_equal(pin_forget(txn, &tag), ERR_NOT_FOUND);
    put(txn, "docker.io/app:1", "");
    assert_int_equal(pin_get(txn, &tag, &p), 0);
    assert_int_equal(p.pinned_at_s, 7);
    assert_string_equal(p.owner, "");
    assert_int_equal(pin_get(txn, &digest, &p), ERR_NOT_FOUND);
    put(txn, "docker.io/app@" DIGEST, "prefetch windows");
    assert_int_equal(pin_get(txn, &digest, &p), 0);
    assert_string_equal(p.owner, "prefetch windows");
    assert_true(p.reference.by_digest);
    /* The same pin again is one. */
    put(txn, "docker.io/app:1", "prefetch windows");
    assert_int_equal(pin_get(txn, &tag, &p), 0);
    assert_string_equal(p.owner, "prefetch windows");
    assert_int_equal(pin_forget(txn, &tag), 0);
    assert_int_equal(pin_get(txn, &tag, &p), ERR_NOT_FOUND);
    assert_int_equal(pin_get(txn, &digest, &p), 0);
    db_abort(&txn);
}

/* The longest of all that is in a pin. */
static void test_longest(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct pin p = {.pinned_at_s = INT64_MAX}, got;
    char repository[248];

    memset(repository, 'a', sizeof repository);
    repository[247] = '\0';
    p.reference.name = scratch_name("quay.io", repository);
    p.reference.by_digest = true;
    digest_of(DIGEST_SHA512, "x", 1, &p.reference.digest);
    memset(p.owner, 'o', sizeof p.owner - 1);
    assert_int_equal(pin_put(txn, &p), 0);
    assert_int_equal(pin_get(txn, &p.reference, &got), 0);
    assert_string_equal(got.owner, p.owner);
    assert_true(digest_equal(&got.reference.digest, &p.reference.digest));
    db_abort(&txn);
}

static int append(void *arg, const struct pin *p)
{
    char *seen = arg;
    char text[REFERENCE_TEXT_MAX];

    reference_text(&p->reference, text);
    strcat(strcat(seen, text), " ");
    return strstr(text, "stop") != NULL ? 42 : 0;
}

static void test_walk(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    char seen[2048] = "";

    put(txn, "team/app:2", "");
    put(txn, "host.lan:5000/a/b:1", "");
    put(txn, "docker.io/app:1", "");
    put(txn, "docker.io/app@" DIGEST, "");
    /* Damaged: no record, a record of another version, keys that are no references. */
    assert_int_equal(db_put(txn, DB_PINS, "docker.io/library/x:1", 21, "", 0), 0);
    assert_int_equal(db_put(txn, DB_PINS, "docker.io/library/y:1", 21, "\2", 1), 0);
    assert_int_equal(db_put(txn, DB_PINS, "nonsense", 8, "\1\0\0\0\0\0\0\0\0\0\0\0", 12), 0);
    assert_int_equal(db_put(txn, DB_PINS, "a.b/c:\0", 7, "\1\0\0\0\0\0\0\0\0\0\0\0", 12), 0);
    assert_int_equal(db_put(txn, DB_PINS, "a.b/c@x", 7, "\1\0\0\0\0\0\0\0\0\0\0\0", 12), 0);
    assert_int_equal(pin_walk(txn, append, seen), 0);
    assert_string_equal(seen, "team/app:2 docker.io/library/app:1 docker.io/library/app@" DIGEST
                              " host.lan:5000/a/b:1 ");
    put(txn, "docker.io/stop:1", "");
    assert_int_equal(pin_walk(txn, append, seen), 42);
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_put_get_forget),
        TEST(test_longest),
        TEST(test_walk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
