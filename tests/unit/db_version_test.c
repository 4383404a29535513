/* SPDX-License-Identifier: ISC */
/* Indexes of other versions, and of none. */
#include "cache/err.h"
#include "tests/unit/scratch.h"

#define MAP_BYTES (1u << 20)

static struct db *open_db(const char *dir)
{
    struct db *db;

    assert_int_equal(db_open(&db, dir, MAP_BYTES, false), 0);
    return db;
}

static void set_version(const char *dir, uint8_t version)
{
    const uint8_t number[] = {version, 0, 0, 0};
    const uint8_t complement[] = {(uint8_t)~version, 0xff, 0xff, 0xff};
    struct db *db = open_db(dir);
    struct db_txn *txn;

    assert_int_equal(db_write(db, &txn), 0);
    assert_int_equal(db_put(txn, DB_META, "version", 7, number, sizeof number), 0);
    assert_int_equal(db_put(txn, DB_META, "version-check", 13, complement, sizeof complement), 0);
    assert_int_equal(db_commit(&txn), 0);
    db_close(&db);
}

static uint8_t get_version(const char *dir)
{
    struct db *db = NULL;
    struct db_reader *reader;
    struct db_value value;
    struct db_txn *txn;

    assert_int_equal(db_open(&db, dir, 0, true), 0);
    assert_int_equal(db_reader_new(db, &reader), 0);
    assert_int_equal(db_read(reader, &txn), 0);
    assert_int_equal(db_get(txn, DB_META, "version", 7, &value), 0);
    uint8_t version = *(const uint8_t *)value.data;
    assert_int_equal(db_get(txn, DB_META, "version-check", 13, &value), 0);
    assert_int_equal(*(const uint8_t *)value.data, (uint8_t)~version);
    db_read_end(reader);
    db_reader_free(&reader);
    db_close(&db);
    return version;
}

/* An index of version 1 is read as it is, and becomes one of version 2 when it is opened to be
 * written to; what is later, or was never, is refused. */
static void test_version(void **state)
{
    struct db *db = open_db(*state);

    db_close(&db);
    assert_int_equal(get_version(*state), 2);
    set_version(*state, 1);
    assert_int_equal(get_version(*state), 1);
    db = open_db(*state);
    db_close(&db);
    assert_int_equal(get_version(*state), 2);
    set_version(*state, 0);
    assert_int_equal(db_open(&db, *state, MAP_BYTES, false), ERR_VERSION);
}

static void test_later_version(void **state)
{
    struct db *db = NULL;

    set_version(*state, 3);
    assert_int_equal(db_open(&db, *state, MAP_BYTES, false), ERR_VERSION);
    assert_int_equal(db_open(&db, *state, MAP_BYTES, true), ERR_VERSION);
}

/* Of an index that says its version twice, and not the same, a bit was flipped. */
static void test_damaged_version(void **state)
{
    static const uint8_t flipped[] = {9, 0, 0, 0};
    struct db *db = open_db(*state);
    struct db_txn *txn;

    assert_int_equal(db_write(db, &txn), 0);
    assert_int_equal(db_put(txn, DB_META, "version", 7, flipped, sizeof flipped), 0);
    assert_int_equal(db_commit(&txn), 0);
    db_close(&db);
    assert_int_equal(db_open(&db, *state, MAP_BYTES, false), ERR_DAMAGED);
}

static void test_an_index_without_version_is_damaged(void **state)
{
    struct db *db = open_db(*state);
    struct db_txn *txn;

    assert_int_equal(db_write(db, &txn), 0);
    assert_int_equal(db_delete(txn, DB_META, "version", 7), 0);
    assert_int_equal(db_commit(&txn), 0);
    db_close(&db);
    assert_int_equal(db_open(&db, *state, MAP_BYTES, false), ERR_DAMAGED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_dir_setup, scratch_dir_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_version),
        TEST(test_later_version),
        TEST(test_damaged_version),
        TEST(test_an_index_without_version_is_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
