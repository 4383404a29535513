/* SPDX-License-Identifier: ISC */
#include "cache/err.h"
#include "cache/link.h"
#include "tests/unit/scratch.h"

static void test_links(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_name("quay.io", "a");
    struct name ab = scratch_name("quay.io", "a/b");
    struct digest x = scratch_digest("x");
    struct digest y;

    digest_of(DIGEST_SHA512, "x", 1, &y);
    assert_int_equal(link_get(txn, &a, &x), ERR_NOT_FOUND);
    assert_int_equal(link_put(txn, &a, &x, 100), 0);
    assert_int_equal(link_put(txn, &a, &x, 200), 0);
    assert_int_equal(link_get(txn, &a, &x), 0);
    assert_int_equal(link_get(txn, &a, &y), ERR_NOT_FOUND);
    assert_int_equal(link_get(txn, &ab, &x), ERR_NOT_FOUND);
    assert_int_equal(link_put(txn, &ab, &y, 100), 0);
    assert_int_equal(link_get(txn, &ab, &y), 0);
    db_abort(&txn);
}

struct seen {
    unsigned count;
    int64_t sum_s;
    unsigned stop_after;
};

static int see(void *arg, const struct digest *d, int64_t seen_at_s)
{
    struct seen *s = arg;

    assert_true(d->alg != 0);
    s->sum_s += seen_at_s;
    return ++s->count == s->stop_after ? 7 : 0;
}

static void test_walk(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_name("quay.io", "a");
    struct name ab = scratch_name("quay.io", "a/b");
    struct name other = scratch_name("quay.io", "other");
    struct digest x = scratch_digest("x"), y = scratch_digest("y"), z;
    struct seen all = {0}, one = {.stop_after = 1}, none = {0};

    digest_of(DIGEST_SHA512, "z", 1, &z);
    assert_int_equal(link_put(txn, &a, &x, 1), 0);
    assert_int_equal(link_put(txn, &a, &y, 10), 0);
    assert_int_equal(link_put(txn, &a, &z, 100), 0);
    assert_int_equal(link_put(txn, &ab, &x, 1000), 0);
    assert_int_equal(link_walk(txn, &a, see, &all), 0);
    assert_int_equal(all.count, 3);
    assert_int_equal(all.sum_s, 111);
    assert_int_equal(link_walk(txn, &a, see, &one), 7);
    assert_int_equal(one.count, 1);
    assert_int_equal(link_walk(txn, &other, see, &none), 0);
    assert_int_equal(none.count, 0);
    db_abort(&txn);
}

static void test_deleted(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a");
    struct name ab = scratch_local("a/b");
    struct digest x = scratch_digest("x"), y = scratch_digest("y");
    struct seen none = {0}, one = {0};
    enum link_state state_of;

    assert_int_equal(link_get_state(txn, &a, &x, &state_of), 0);
    assert_int_equal(state_of, LINK_NONE);
    assert_int_equal(link_put(txn, &a, &x, 1), 0);
    assert_int_equal(link_put(txn, &ab, &x, 10), 0);
    assert_int_equal(link_get_state(txn, &a, &x, &state_of), 0);
    assert_int_equal(state_of, LINK_HAS);
    assert_int_equal(link_delete(txn, &a, &x, 2), 0);
    assert_int_equal(link_delete(txn, &a, &y, 2), 0);
    assert_int_equal(link_get(txn, &a, &x), ERR_NOT_FOUND);
    assert_int_equal(link_get_state(txn, &a, &x, &state_of), 0);
    assert_int_equal(state_of, LINK_DELETED);
    assert_int_equal(link_walk(txn, &a, see, &none), 0);
    assert_int_equal(none.count, 0);
    assert_int_equal(link_get(txn, &ab, &x), 0);
    assert_int_equal(link_put(txn, &a, &x, 100), 0);
    assert_int_equal(link_get(txn, &a, &x), 0);
    assert_int_equal(link_walk(txn, &a, see, &one), 0);
    assert_int_equal(one.count, 1);
    assert_int_equal(one.sum_s, 100);
    db_abort(&txn);
}

/* A local name is none of an upstream's, whatever it is called. */
static void test_local_names_are_apart(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name local = scratch_local("library/alpine");
    struct name public = scratch_name("docker.io", "library/alpine");
    struct name host = scratch_name("library", "alpine");
    struct digest x = scratch_digest("x");

    assert_int_equal(link_put(txn, &local, &x, 1), 0);
    assert_int_equal(link_get(txn, &public, &x), ERR_NOT_FOUND);
    assert_int_equal(link_get(txn, &host, &x), ERR_NOT_FOUND);
    db_abort(&txn);
}

static int see_holder(void *arg, const struct name *n)
{
    char *seen = arg;
    size_t len = strlen(seen);

    assert_true(name_is_local(n));
    snprintf(seen + len, 128 - len, "%s ", n->repository);
    return strcmp(n->repository, "stop") == 0 ? 7 : 0;
}

/* Each repository says for itself how a manifest is to be taken. */
static void test_media_types(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a");
    struct name b = scratch_name("quay.io", "b");
    struct digest x = scratch_digest("x");
    struct seen one = {0};
    const char *type;

    assert_int_equal(link_get_media_type(txn, &a, &x, &type), ERR_NOT_FOUND);
    assert_int_equal(link_put(txn, &a, &x, 1), 0);
    assert_int_equal(link_get_media_type(txn, &a, &x, &type), ERR_NOT_FOUND);
    assert_int_equal(link_put_manifest(txn, &a, &x, "a/one", 2), 0);
    assert_int_equal(link_put_manifest(txn, &b, &x, "a/two", 2), 0);
    assert_int_equal(link_get(txn, &a, &x), 0);
    assert_int_equal(link_get_media_type(txn, &a, &x, &type), 0);
    assert_string_equal(type, "a/one");
    assert_int_equal(link_get_media_type(txn, &b, &x, &type), 0);
    assert_string_equal(type, "a/two");
    /* Seen again, also as a blob. */
    assert_int_equal(link_put(txn, &a, &x, 30), 0);
    assert_int_equal(link_get_media_type(txn, &a, &x, &type), 0);
    assert_string_equal(type, "a/one");
    assert_int_equal(link_walk(txn, &a, see, &one), 0);
    assert_int_equal(one.sum_s, 30);
    assert_int_equal(link_delete(txn, &a, &x, 40), 0);
    assert_int_equal(link_get(txn, &a, &x), ERR_NOT_FOUND);
    assert_int_equal(link_get_media_type(txn, &a, &x, &type), ERR_NOT_FOUND);
    db_abort(&txn);
}

static void test_holders(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest x = scratch_digest("x"), y = scratch_digest("y");
    struct name upstream = scratch_name("quay.io", "a");
    static const char *const holders[] = {"b/c", "a", "b"};
    uint8_t key[DIGEST_KEY_MAX + 1];
    char seen[128] = "";

    assert_int_equal(link_put(txn, &upstream, &x, 1), 0);
    assert_int_equal(link_walk_holders(txn, &x, see_holder, seen), 0);
    assert_string_equal(seen, "");
    for (size_t i = 0; i < 3; i++) {
        struct name n = scratch_local(holders[i]);

        assert_int_equal(link_put(txn, &n, &x, 1), 0);
    }
    size_t len = digest_to_key(&x, key);

    key[len] = '?';
    assert_int_equal(db_put(txn, DB_HOLDERS, key, len + 1, "", 0), 0);
    struct name other = scratch_local("other");

    assert_int_equal(link_put(txn, &other, &y, 1), 0);
    assert_int_equal(link_walk_holders(txn, &x, see_holder, seen), 0);
    assert_string_equal(seen, "a b b/c ");
    struct name gone = scratch_local("b");

    assert_int_equal(link_delete(txn, &gone, &x, 2), 0);
    seen[0] = '\0';
    assert_int_equal(link_walk_holders(txn, &x, see_holder, seen), 0);
    assert_string_equal(seen, "a b/c ");
    struct name stop = scratch_local("stop");

    assert_int_equal(link_put(txn, &stop, &x, 1), 0);
    assert_int_equal(link_walk_holders(txn, &x, see_holder, seen), 7);
    db_abort(&txn);
}

static void test_sources(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_name("quay.io", "a");
    struct name ab = scratch_name("quay.io", "ab");
    struct digest x = scratch_digest("x");
    uint64_t size_bytes;

    assert_int_equal(source_get(txn, &x, &a, &size_bytes), ERR_NOT_FOUND);
    assert_int_equal(source_put(txn, &x, &a, 1700000000000), 0);
    assert_int_equal(source_get(txn, &x, &a, &size_bytes), 0);
    assert_true(size_bytes == 1700000000000);
    assert_int_equal(source_get(txn, &x, &ab, &size_bytes), ERR_NOT_FOUND);
    db_abort(&txn);
}

static void test_lists(void **state)
{
    static const struct list_record stored = {.fetched_at_s = 77,
                                              .content_type = "application/json",
                                              .link = "</v2/a/tags/list?n=2&last=b>; rel=\"next\"",
                                              .body = "{\"tags\":[\"a\",\"b\"]}",
                                              .body_len = 18};
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_name("quay.io", "a");
    struct name ab = scratch_name("quay.io", "ab");
    struct list_record r;

    assert_int_equal(list_get(txn, &a, "tags?n=2", &r), ERR_NOT_FOUND);
    assert_int_equal(list_put(txn, &a, "tags?n=2", &stored), 0);
    assert_int_equal(list_get(txn, &a, "tags?n=2", &r), 0);
    assert_int_equal(r.fetched_at_s, 77);
    assert_string_equal(r.content_type, stored.content_type);
    assert_string_equal(r.link, stored.link);
    assert_int_equal(r.body_len, stored.body_len);
    assert_memory_equal(r.body, stored.body, r.body_len);
    assert_int_equal(list_get(txn, &a, "tags?n=20", &r), ERR_NOT_FOUND);
    assert_int_equal(list_get(txn, &ab, "tags?n=2", &r), ERR_NOT_FOUND);
    db_abort(&txn);
}

static void test_list_limits(void **state)
{
    struct list_record stored = {.content_type = "", .link = "", .body = "", .body_len = 0};
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_name("quay.io", "a");
    struct list_record r;
    char query[DB_KEY_MAX];
    size_t longest = DB_KEY_MAX - strlen("quay.io/a") - 1;

    memset(query, 'q', sizeof query);
    query[longest] = '\0';
    assert_int_equal(list_put(txn, &a, query, &stored), 0);
    assert_int_equal(list_get(txn, &a, query, &r), 0);
    assert_int_equal(r.body_len, 0);
    query[longest] = 'q';
    query[longest + 1] = '\0';
    assert_int_equal(list_put(txn, &a, query, &stored), ERR_TOO_LARGE);
    assert_int_equal(list_get(txn, &a, query, &r), ERR_TOO_LARGE);

    char *large = calloc(1, LIST_BODY_MAX + 1);

    assert_non_null(large);
    stored.body = large;
    stored.body_len = LIST_BODY_MAX + 1;
    assert_int_equal(list_put(txn, &a, "q", &stored), ERR_TOO_LARGE);
    stored.body_len = LIST_BODY_MAX;
    assert_int_equal(list_put(txn, &a, "q", &stored), 0);
    memset(large, 'x', 70000);
    stored.link = large;
    assert_int_equal(list_put(txn, &a, "q2", &stored), ERR_TOO_LARGE);
    free(large);
    db_abort(&txn);
}

static void test_damage(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_name("quay.io", "a");
    struct digest x = scratch_digest("x");
    static const uint8_t huge[] = {1, 0, 0, 0, 0, 0, 0, 0, 0x80};
    static const char list_key[] = "quay.io/a\0q";
    uint8_t key[NAME_MAX_SIZE + DIGEST_KEY_MAX];
    size_t len = digest_to_key(&x, key);
    uint64_t size_bytes;
    struct list_record r;

    memcpy(key + len, "quay.io/a", 9);
    assert_int_equal(db_put(txn, DB_SOURCES, key, len + 9, huge, sizeof huge), 0);
    assert_int_equal(source_get(txn, &x, &a, &size_bytes), ERR_DAMAGED);
    memcpy(key, "quay.io/a", 10);
    len = 10 + digest_to_key(&x, key + 10);
    assert_int_equal(db_put(txn, DB_LINKS, key, len, huge, 3), 0);
    assert_int_equal(link_get(txn, &a, &x), ERR_DAMAGED);
    assert_int_equal(db_put(txn, DB_LINKS, key, len, huge, 0), 0);
    assert_int_equal(link_get(txn, &a, &x), ERR_DAMAGED);
    assert_int_equal(db_put(txn, DB_LINKS, key, len, "\3\0\0\0\0\0\0\0", 9), 0);
    assert_int_equal(link_get(txn, &a, &x), ERR_DAMAGED);
    /* As every index has them since its first version. */
    assert_int_equal(db_put(txn, DB_LINKS, key, len, "\1\0\0\0\0\0\0\0", 9), 0);
    assert_int_equal(link_get(txn, &a, &x), 0);
    assert_int_equal(db_put(txn, DB_LISTS, list_key, sizeof list_key - 1, huge, sizeof huge), 0);
    assert_int_equal(list_get(txn, &a, "q", &r), ERR_DAMAGED);
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_links),   TEST(test_walk),
        TEST(test_deleted), TEST(test_local_names_are_apart),
        TEST(test_holders), TEST(test_sources),
        TEST(test_lists),   TEST(test_list_limits),
        TEST(test_damage),  TEST(test_media_types),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
