/* SPDX-License-Identifier: ISC */
#include "scratch.h"

#include "cache/err.h"
#include "cache/repository.h"

static void test_put_and_get(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);
    struct name n = scratch_name("docker.io", "acme/private");
    struct repository_record r = {REPOSITORY_PRIVATE, 1234567890};
    struct repository_record got;

    assert_int_equal(repository_get(txn, &n, &got), ERR_NOT_FOUND);
    assert_int_equal(repository_put(txn, &n, &r), 0);
    assert_int_equal(repository_get(txn, &n, &got), 0);
    assert_int_equal(got.visibility, REPOSITORY_PRIVATE);
    assert_int_equal(got.checked_at_s, 1234567890);
    db_abort(&txn);
}

/* A record that is no visibility opens nothing. */
static void test_damaged(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);
    struct name n = scratch_name("docker.io", "acme/private");
    struct repository_record got;
    char key[NAME_MAX_SIZE];
    const uint8_t wrong[] = {1, 3, 0, 0, 0, 0, 0, 0, 0, 0};

    assert_int_equal(db_put(txn, DB_REPOSITORIES, key, name_text(&n, key), wrong, sizeof wrong), 0);
    assert_int_equal(repository_get(txn, &n, &got), ERR_DAMAGED);
    assert_int_equal(db_put(txn, DB_REPOSITORIES, key, name_text(&n, key), wrong, 3), 0);
    assert_int_equal(repository_get(txn, &n, &got), ERR_DAMAGED);
    db_abort(&txn);
}

static int see(void *arg, const struct name *n)
{
    char *seen = arg;
    size_t len = strlen(seen);

    assert_true(name_is_local(n));
    snprintf(seen + len, 256 - len, "%s ", n->repository);
    return strcmp(n->repository, "stop") == 0 ? 7 : 0;
}

static void expect_walk(struct db_txn *txn, const char *after, const char *expected)
{
    char seen[256] = "";

    assert_int_equal(repository_walk_local(txn, after, see, seen), 0);
    assert_string_equal(seen, expected);
}

/* Its record is read as what it is for, and as nothing else. */
static void test_local(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);
    struct name local = scratch_local("team/app");
    struct name upstream = scratch_name("docker.io", "team/app");
    struct repository_record r = {REPOSITORY_LOCAL, 5};

    assert_int_equal(repository_put(txn, &local, &r), 0);
    assert_int_equal(repository_get(txn, &upstream, &r), ERR_NOT_FOUND);
    assert_int_equal(repository_get(txn, &local, &r), 0);
    assert_int_equal(r.visibility, REPOSITORY_LOCAL);
    assert_int_equal(repository_put(txn, &upstream, &r), 0);
    assert_int_equal(repository_get(txn, &upstream, &r), ERR_DAMAGED);
    r.visibility = REPOSITORY_PUBLIC;
    assert_int_equal(repository_put(txn, &local, &r), 0);
    assert_int_equal(repository_get(txn, &local, &r), ERR_DAMAGED);
    db_abort(&txn);
}

static void test_walk(void **state)
{
    static const char *const names[] = {"b", "a", "a/b", "a-b", "zed/x", "a1"};
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);
    struct repository_record r = {REPOSITORY_PUBLIC, 5};
    struct name upstream = scratch_name("docker.io", "aa/aa");
    char text[600];
    char seen[256] = "";

    expect_walk(txn, NULL, "");
    assert_int_equal(repository_put(txn, &upstream, &r), 0);
    r.visibility = REPOSITORY_LOCAL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct name n = scratch_local(names[i]);

        assert_int_equal(repository_put(txn, &n, &r), 0);
    }
    assert_int_equal(db_put(txn, DB_REPOSITORIES, "/a/c", 4, "?", 1), 0);
    assert_int_equal(db_put(txn, DB_REPOSITORIES, "/A", 2, "?", 1), 0);
    expect_walk(txn, NULL, "a a-b a/b a1 b zed/x ");
    expect_walk(txn, "", "a a-b a/b a1 b zed/x ");
    expect_walk(txn, "a", "a-b a/b a1 b zed/x ");
    expect_walk(txn, "a-b", "a/b a1 b zed/x ");
    expect_walk(txn, "a2", "b zed/x ");
    expect_walk(txn, "zed/x", "");
    expect_walk(txn, "<script>", "a a-b a/b a1 b zed/x ");
    expect_walk(txn, "\xff", "");
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    expect_walk(txn, text, "b zed/x ");
    struct name stop = scratch_local("stop");

    assert_int_equal(repository_put(txn, &stop, &r), 0);
    assert_int_equal(repository_walk_local(txn, "b", see, seen), 7);
    assert_string_equal(seen, "stop ");
    /* The longest, and what comes after it. */
    memset(text, 'z', 254);
    struct name longest;

    assert_int_equal(name_set_local(&longest, text, 254), 0);
    assert_int_equal(repository_put(txn, &longest, &r), 0);
    text[253] = '\0';
    memset(seen, 0, sizeof seen);
    assert_int_equal(repository_walk_local(txn, text, see, seen), 0);
    assert_int_equal(strlen(seen), 255);
    text[253] = 'z';
    text[254] = '\0';
    expect_walk(txn, text, "");
    db_abort(&txn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_and_get, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_damaged, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_local, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_walk, scratch_setup, scratch_teardown),
    };

    return cmocka_run_group_tests_name("repository", tests, NULL, NULL);
}
