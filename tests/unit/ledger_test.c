/* SPDX-License-Identifier: ISC */
#include "cache/err.h"
#include "cache/ledger.h"
#include "tests/unit/scratch.h"

static int visit_append(void *arg, uint32_t day, const char *registry,
                        const struct ledger_record *r)
{
    char *seen = arg;
    size_t len = strlen(seen);

    snprintf(seen + len, 512 - len, "%u %s %d %d %d %d %d\n", day, registry, (int)r->line_bytes,
             (int)r->lan_bytes, (int)r->line_requests, (int)r->lan_requests, (int)r->hits);
    return day == UINT32_MAX ? 42 : 0;
}

static void add(struct db_txn *txn, uint32_t day, const char *registry)
{
    static const struct ledger_record one = {
        .line_bytes = 1, .lan_bytes = 2, .line_requests = 3, .lan_requests = 4, .hits = 5};

    assert_int_equal(ledger_add(txn, day, registry, &one), 0);
}

static void test_sums(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    char seen[512] = "";

    assert_int_equal(ledger_walk(txn, visit_append, seen), 0);
    add(txn, 300, "quay.io");
    add(txn, 2, "docker.io");
    add(txn, 70000, "docker.io");
    add(txn, 300, "docker.io");
    add(txn, 300, "quay.io");
    assert_int_equal(ledger_walk(txn, visit_append, seen), 0);
    assert_string_equal(seen, "2 docker.io 1 2 3 4 5\n300 docker.io 1 2 3 4 5\n"
                              "300 quay.io 2 4 6 8 10\n70000 docker.io 1 2 3 4 5\n");
    add(txn, UINT32_MAX, "a");
    add(txn, UINT32_MAX, "b");
    seen[0] = '\0';
    assert_int_equal(ledger_walk(txn, visit_append, seen), 42);
    assert_null(strstr(seen, " b "));
    db_abort(&txn);
}

static void test_a_damaged_record_starts_anew(void **state)
{
    static const uint8_t key[] = {0, 0, 0, 7, 'q'};
    static const uint8_t value[40] = {1};
    struct db_txn *txn = scratch_write(*state);
    char seen[512] = "";

    assert_int_equal(db_put(txn, DB_LEDGER, key, sizeof key, value, sizeof value), 0);
    assert_int_equal(db_put(txn, DB_LEDGER, key, 2, value, sizeof value), 0);
    assert_int_equal(ledger_walk(txn, visit_append, seen), 0);
    assert_string_equal(seen, "");
    add(txn, 7, "q");
    assert_int_equal(ledger_walk(txn, visit_append, seen), 0);
    assert_string_equal(seen, "7 q 1 2 3 4 5\n");
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sums),
        TEST(test_a_damaged_record_starts_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
