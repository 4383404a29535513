/* SPDX-License-Identifier: ISC */
#include "cache/err.h"
#include "cache/local.h"
#include "tests/unit/local_bed.h"

/* --- what is visible --- */

static void test_visible(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name upstream = scratch_name("quay.io", "a");
    struct digest private = scratch_digest("private");

    put_blob(txn, "public", BLOB_PUBLIC);
    put_blob(txn, "private", BLOB_PRIVATE);
    put_blob(txn, "unlinked", BLOB_PUSHED);
    assert_int_equal(link_put(txn, &upstream, &private, 1), 0);
    push_blob(txn, "a", "pushed");
    assert_int_equal(find_blob(txn, "a", "pushed"), 0);
    assert_int_equal(find_blob(txn, "b", "pushed"), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "a/b", "pushed"), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "a", "public"), 0);
    assert_int_equal(find_blob(txn, "never-seen", "public"), 0);
    assert_int_equal(find_blob(txn, "a", "private"), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "a", "unlinked"), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "a", "unknown"), ERR_NOT_FOUND);
    /* Who has the bytes may push them, and then has them there. */
    push_blob(txn, "a", "private");
    assert_int_equal(find_blob(txn, "a", "private"), 0);
    assert_int_equal(find_blob(txn, "b", "private"), ERR_NOT_FOUND);
    /* What was pushed and is public since is so for all. */
    put_blob(txn, "pushed", BLOB_PUBLIC);
    assert_int_equal(find_blob(txn, "b", "pushed"), 0);
    db_abort(&txn);
}

static void test_deleted_blob(void **state)
{
    struct db_txn *txn = scratch_write(*state);

    put_blob(txn, "public", BLOB_PUBLIC);
    push_blob(txn, "a", "pushed");
    push_blob(txn, "b", "pushed");
    assert_int_equal(delete_blob(txn, "a", "pushed"), 0);
    assert_int_equal(find_blob(txn, "a", "pushed"), ERR_NOT_FOUND);
    assert_int_equal(delete_blob(txn, "a", "pushed"), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "b", "pushed"), 0);
    assert_int_equal(delete_blob(txn, "c", "pushed"), ERR_NOT_FOUND);
    /* A public one is gone there too, and only there. */
    assert_int_equal(delete_blob(txn, "a", "public"), 0);
    assert_int_equal(find_blob(txn, "a", "public"), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "b", "public"), 0);
    put_blob(txn, "public", BLOB_PUBLIC);
    assert_int_equal(find_blob(txn, "a", "public"), ERR_NOT_FOUND);
    push_blob(txn, "a", "public");
    assert_int_equal(find_blob(txn, "a", "public"), 0);
    assert_int_equal(delete_blob(txn, "a", "unknown"), ERR_NOT_FOUND);
    db_abort(&txn);
}

static void test_pushed_twice(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name n = scratch_local("a");
    struct digest d = scratch_digest("x");
    struct blob_record r;

    assert_int_equal(local_put_blob(txn, &n, &d, 5, 100), 0);
    assert_int_equal(local_put_blob(txn, &n, &d, 5, 200), 0);
    assert_int_equal(blob_get(txn, &d, &r), 0);
    assert_int_equal(r.stored_at_s, 100);
    assert_int_equal(r.used_at_s, 200);
    assert_int_equal(r.origin, BLOB_PUSHED);
    put_blob(txn, "public", BLOB_PUBLIC);
    push_blob(txn, "a", "public");
    d = scratch_digest("public");
    assert_int_equal(blob_get(txn, &d, &r), 0);
    assert_int_equal(r.origin, BLOB_PUBLIC);
    /* The file is there anew: a record of another size was wrong. */
    assert_int_equal(local_put_blob(txn, &n, &d, 7, 300), 0);
    assert_int_equal(blob_get(txn, &d, &r), 0);
    assert_int_equal(r.size_bytes, 7);
    assert_int_equal(r.stored_at_s, 300);
    db_abort(&txn);
}

static void test_mount(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a");
    struct name b = scratch_local("b");
    struct name upstream = scratch_name("quay.io", "a");
    struct digest private = scratch_digest("private");

    put_blob(txn, "public", BLOB_PUBLIC);
    put_blob(txn, "private", BLOB_PRIVATE);
    assert_int_equal(link_put(txn, &upstream, &private, 1), 0);
    push_blob(txn, "a", "pushed");
    assert_int_equal(mount_blob(txn, "c", "pushed", &b), ERR_NOT_FOUND);
    assert_int_equal(mount_blob(txn, "c", "pushed", NULL), ERR_NOT_FOUND);
    assert_int_equal(mount_blob(txn, "c", "pushed", &upstream), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "c", "pushed"), ERR_NOT_FOUND);
    assert_int_equal(mount_blob(txn, "c", "pushed", &a), 0);
    assert_int_equal(find_blob(txn, "c", "pushed"), 0);
    assert_int_equal(find_blob(txn, "b", "pushed"), ERR_NOT_FOUND);
    /* Mounts are repositories' own from then on. */
    assert_int_equal(delete_blob(txn, "a", "pushed"), 0);
    assert_int_equal(find_blob(txn, "c", "pushed"), 0);
    assert_int_equal(mount_blob(txn, "b", "pushed", &a), ERR_NOT_FOUND);
    assert_int_equal(mount_blob(txn, "c", "unknown", &a), ERR_NOT_FOUND);
    /* Private stays private. */
    assert_int_equal(mount_blob(txn, "c", "private", &upstream), ERR_NOT_FOUND);
    assert_int_equal(mount_blob(txn, "c", "private", NULL), ERR_NOT_FOUND);
    /* A mount takes back a delete. */
    assert_int_equal(delete_blob(txn, "c", "public"), 0);
    assert_int_equal(mount_blob(txn, "c", "public", &upstream), 0);
    assert_int_equal(find_blob(txn, "c", "public"), 0);
    assert_int_equal(delete_blob(txn, "c", "public"), 0);
    assert_int_equal(mount_blob(txn, "c", "public", NULL), 0);
    assert_int_equal(find_blob(txn, "c", "public"), 0);
    assert_int_equal(delete_blob(txn, "a", "public"), 0);
    assert_int_equal(mount_blob(txn, "c", "public", &a), ERR_NOT_FOUND);
    db_abort(&txn);
}

static int see_holder(void *arg, const struct name *n)
{
    char *seen = arg;
    size_t len = strlen(seen);

    snprintf(seen + len, 128 - len, "%s ", n->repository);
    return 0;
}

static void expect_holders(struct db_txn *txn, const char *what, const char *expected)
{
    struct digest d = scratch_digest(what);
    char seen[128] = "";

    assert_int_equal(local_walk_holders(txn, &d, see_holder, seen), 0);
    assert_string_equal(seen, expected);
}

static void test_holders(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name b = scratch_local("b");
    struct digest d = scratch_digest("x");

    expect_holders(txn, "x", "");
    push_blob(txn, "b", "x");
    push_blob(txn, "b", "y");
    assert_int_equal(mount_blob(txn, "a", "x", &b), 0);
    expect_holders(txn, "x", "a b ");
    assert_int_equal(delete_blob(txn, "b", "x"), 0);
    expect_holders(txn, "x", "a ");
    assert_int_equal(blob_forget(txn, &d), 0);
    expect_holders(txn, "x", "");
    push_blob(txn, "c", "x");
    expect_holders(txn, "x", "a c ");
    db_abort(&txn);
}

/* --- what goes wrong --- */

static void test_damaged_records(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a");
    struct digest d = push_manifest(txn, "a", IMAGE, "{}", "v1");
    uint8_t key[NAME_MAX_SIZE + DIGEST_KEY_MAX];
    size_t len;

    len = name_key(&a, (char *)key) + 1;
    len += digest_to_key(&d, key + len);
    assert_int_equal(db_put(txn, DB_LINKS, key, len, "?", 1), 0);
    assert_int_equal(find_manifest(txn, "a", &d), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "a", "{}"), ERR_NOT_FOUND);
    push_manifest(txn, "a", IMAGE, "{}", "v1");
    len = digest_to_key(&d, key);
    assert_int_equal(db_put(txn, DB_BLOBS, key, len, "?", 1), 0);
    assert_int_equal(find_blob(txn, "a", "{}"), ERR_NOT_FOUND);
    expect_holders(txn, "{}", "");
    assert_int_equal(mount_blob(txn, "b", "{}", NULL), ERR_NOT_FOUND);
    push_blob(txn, "a", "{}");
    assert_int_equal(find_blob(txn, "a", "{}"), 0);
    assert_int_equal(db_put(txn, DB_MANIFESTS, key, len, "?", 1), 0);
    assert_int_equal(find_manifest(txn, "a", &d), ERR_NOT_FOUND);
    push_manifest(txn, "a", IMAGE, "{}", "v1");
    assert_int_equal(find_manifest(txn, "a", &d), 0);
    len = name_key(&a, (char *)key);
    assert_int_equal(db_put(txn, DB_REPOSITORIES, key, len, "?", 1), 0);
    assert_int_equal(local_has_repository(txn, &a), ERR_NOT_FOUND);
    push_manifest(txn, "a", IMAGE, "{}", "v1");
    assert_int_equal(local_has_repository(txn, &a), 0);
    db_abort(&txn);
}

/* Fill what is left of the map. */
static void fill(struct store *s)
{
    static const char page[4000];
    uint32_t number = 0;
    int err = 0;

    while (err == 0) {
        struct db_txn *txn;

        assert_int_equal(db_write(store_db(s), &txn), 0);
        number++;
        err = db_put(txn, DB_LISTS, &number, sizeof number, page, sizeof page);
        if (err != 0) {
            db_abort(&txn);
        } else {
            err = db_commit(&txn);
        }
    }
    assert_int_equal(err, ERR_FULL);
}

/* One row a way to write, called with what was not there before. */
typedef int writer(struct db_txn *txn, const struct name *n, const char *text);

static int write_blob(struct db_txn *txn, const struct name *n, const char *text)
{
    struct digest d = scratch_digest(text);

    return local_put_blob(txn, n, &d, strlen(text), NOW_S);
}

static int write_manifest(struct db_txn *txn, const struct name *n, const char *text)
{
    static const char *const tag = "v1";
    struct digest d = scratch_digest(text);
    struct manifest *m = parse(IMAGE, text);
    int err = local_put_manifest(txn, n, &d, m, strlen(text), &tag, 1, NOW_S);

    manifest_free(&m);
    return err;
}

static int write_mount(struct db_txn *txn, const struct name *n, const char *text)
{
    struct digest d = scratch_digest("pushed");
    struct name from = scratch_local("from");

    (void)text;
    return local_mount(txn, n, &d, &from, NOW_S);
}

static int write_delete(struct db_txn *txn, const struct name *n, const char *text)
{
    struct digest d = scratch_digest("public");

    (void)text;
    return local_delete_blob(txn, n, &d, NOW_S);
}

static void write_until_full(struct db_txn *txn, writer *write_one)
{
    int err = 0;

    for (unsigned i = 0; err == 0 && i < 100000; i++) {
        char *repository = mem_format("r%u", i);
        char *text = mem_format("{\"n\":%u}", i);
        struct name n = scratch_local(repository);

        err = write_one(txn, &n, text);
        free(repository);
        free(text);
    }
    assert_int_equal(err, ERR_FULL);
}

static void test_a_full_index(void **state)
{
    static writer *const writers[] = {write_blob, write_manifest, write_mount, write_delete};
    char why[256] = "";
    char dir[64];
    struct store *s;
    struct db_txn *txn;

    (void)state;
    scratch_dir(dir);
    assert_int_equal(store_open(&s, dir, STORE_OWN, 1 << 20, why, sizeof why), 0);
    assert_int_equal(db_write(store_db(s), &txn), 0);
    push_blob(txn, "from", "pushed");
    put_blob(txn, "public", BLOB_PUBLIC);
    struct digest d = push_manifest(txn, "a", IMAGE, "{}", "v1");

    assert_int_equal(db_commit(&txn), 0);
    fill(s);
    for (size_t i = 0; i < sizeof writers / sizeof writers[0]; i++) {
        assert_int_equal(db_write(store_db(s), &txn), 0);
        write_until_full(txn, writers[i]);
        db_abort(&txn);
    }
    /* What was there is there, and nothing else. */
    assert_int_equal(db_write(store_db(s), &txn), 0);
    assert_int_equal(find_manifest(txn, "a", &d), 0);
    assert_int_equal(find_blob(txn, "from", "pushed"), 0);
    assert_int_equal(find_blob(txn, "r0", "pushed"), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "r0", "public"), 0);
    db_abort(&txn);
    store_close(&s);
    scratch_remove(dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_visible),
        TEST(test_deleted_blob),
        TEST(test_pushed_twice),
        TEST(test_mount),
        TEST(test_holders),
        TEST(test_damaged_records),
        cmocka_unit_test(test_a_full_index),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
