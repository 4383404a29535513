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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_and_get, scratch_setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(test_damaged, scratch_setup, scratch_teardown),
    };

    return cmocka_run_group_tests_name("repository", tests, NULL, NULL);
}
