/* SPDX-License-Identifier: ISC */
#include "cache/err.h"
#include "cache/manifest.h"
#include "cache/tag.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"

static struct tag_record record(const char *what, int64_t checked_at_s)
{
    struct tag_record r = {.size_bytes = 7, .media_type = IMAGE, .checked_at_s = checked_at_s};

    r.digest = scratch_digest(what);
    return r;
}

static void put(struct db_txn *txn, const char *what, int64_t checked_at_s)
{
    struct name n = scratch_name("docker.io", "alpine");
    struct tag_record r = record(what, checked_at_s);

    assert_int_equal(tag_put(txn, &n, "latest", &r), 0);
}

static void hold(struct db_txn *txn, const char *text)
{
    struct name n = scratch_name("docker.io", "alpine");
    struct digest d = scratch_digest(text);
    struct manifest *m;
    char why[256];

    assert_int_equal(manifest_parse(&m, IMAGE, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, strlen(text), 1), 0);
    manifest_free(&m);
}

static void expect(struct db_txn *txn, const char *what, int64_t checked_at_s, int64_t changed_at_s,
                   const char *previous)
{
    struct name n = scratch_name("docker.io", "alpine");
    struct digest d = scratch_digest(what);
    struct tag_record r;

    assert_int_equal(tag_get(txn, &n, "latest", &r), 0);
    assert_true(digest_equal(&r.digest, &d));
    assert_int_equal(r.size_bytes, 7);
    assert_string_equal(r.media_type, IMAGE);
    assert_int_equal(r.checked_at_s, checked_at_s);
    assert_int_equal(r.changed_at_s, changed_at_s);
    if (previous == NULL) {
        assert_int_equal(r.previous.alg, 0);
    } else {
        struct digest p = scratch_digest(previous);

        assert_true(digest_equal(&r.previous, &p));
    }
}

static void expect_shown(struct db_txn *txn, const char *what, bool is_previous)
{
    struct name n = scratch_name("docker.io", "alpine");
    struct digest shown, d = scratch_digest(what);
    struct tag_record r;

    assert_int_equal(tag_get(txn, &n, "latest", &r), 0);
    assert_int_equal(tag_shown(txn, &r, &shown), is_previous);
    assert_true(digest_equal(&shown, &d));
}

static void test_a_tag_that_moves(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name n = scratch_name("docker.io", "alpine");
    struct tag_record r;

    assert_int_equal(tag_get(txn, &n, "latest", &r), ERR_NOT_FOUND);
    hold(txn, "{\"v\":1}");
    put(txn, "{\"v\":1}", 100);
    expect(txn, "{\"v\":1}", 100, 100, NULL);
    put(txn, "{\"v\":1}", 200);
    expect(txn, "{\"v\":1}", 200, 100, NULL);
    put(txn, "{\"v\":2}", 300);
    expect(txn, "{\"v\":2}", 300, 300, "{\"v\":1}");
    /* Version 2 was never held: version 1 is still the one to fall back on. */
    put(txn, "{\"v\":3}", 400);
    expect(txn, "{\"v\":3}", 400, 400, "{\"v\":1}");
    expect_shown(txn, "{\"v\":1}", true);
    hold(txn, "{\"v\":3}");
    expect_shown(txn, "{\"v\":3}", false);
    put(txn, "{\"v\":3}", 500);
    expect(txn, "{\"v\":3}", 500, 400, "{\"v\":1}");
    put(txn, "{\"v\":4}", 600);
    expect(txn, "{\"v\":4}", 600, 600, "{\"v\":3}");
    expect_shown(txn, "{\"v\":3}", true);
    struct digest third = scratch_digest("{\"v\":3}");
    uint8_t key[DIGEST_KEY_MAX];
    assert_int_equal(db_delete(txn, DB_MANIFESTS, key, digest_to_key(&third, key)), 0);
    expect_shown(txn, "{\"v\":4}", false);
    assert_int_equal(tag_get(txn, &n, "other", &r), ERR_NOT_FOUND);
    n = scratch_name("docker.io", "alpine2");
    assert_int_equal(tag_get(txn, &n, "latest", &r), ERR_NOT_FOUND);
    db_abort(&txn);
}

static void test_fresh(void **state)
{
    static const struct {
        int64_t checked_at_s;
        int64_t now_s;
        int64_t ttl_s;
        bool fresh;
    } rows[] = {
        {100, 100, 60, true},      {100, 159, 60, true},
        {100, 160, 60, false},     {100, 99, 60, false},
        {100, 100, 0, false},      {INT64_MIN, INT64_MAX, 60, false},
        {INT64_MAX, 0, 60, false}, {INT64_MIN, 0, INT64_MAX, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tag_record r = {.checked_at_s = rows[i].checked_at_s};

        assert_int_equal(tag_is_fresh(&r, rows[i].now_s, rows[i].ttl_s), rows[i].fresh);
    }
}

static void test_the_longest_names(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct tag_record stored = record("x", 1);
    struct tag_record r;
    char repository[248];
    char tag[129];

    memset(repository, 'a', sizeof repository);
    memset(tag, 't', sizeof tag);
    repository[247] = '\0';
    tag[128] = '\0';
    memset(stored.media_type, 'm', MEDIA_TYPE_MAX - 1);
    stored.media_type[MEDIA_TYPE_MAX - 1] = '\0';
    struct name n = scratch_name("quay.io", repository);

    digest_of(DIGEST_SHA512, "x", 1, &stored.digest);
    assert_int_equal(tag_put(txn, &n, tag, &stored), 0);
    assert_int_equal(tag_get(txn, &n, tag, &r), 0);
    assert_true(digest_equal(&r.digest, &stored.digest));
    assert_string_equal(r.media_type, stored.media_type);
    db_abort(&txn);
}

static int visit_append(void *arg, const struct name *n, const char *tag,
                        const struct tag_record *r)
{
    char *seen = arg;
    size_t len = strlen(seen);

    assert_int_equal(r->size_bytes, 7);
    snprintf(seen + len, 512 - len, "%s|%s|%s ", n->registry, n->repository, tag);
    return strcmp(tag, "stop") == 0 ? 42 : 0;
}

static void test_walk(void **state)
{
    static const char *const bad_keys[] = {"x",    "x:",      ":x",    "a/b",     "a/:t",
                                           "a/b:", "a b/c:d", "a/B:t", "a/b:t/u", "a:1/b"};
    struct db_txn *txn = scratch_write(*state);
    struct tag_record r = record("x", 1);
    struct name ported = scratch_name("host.lan:5000", "a/b");
    struct name alpine = scratch_name("docker.io", "alpine");
    struct name zed = scratch_name("quay.io", "z");
    struct name local = scratch_local("quay/z");
    char seen[512] = "";

    assert_int_equal(tag_walk(txn, visit_append, seen), 0);
    assert_int_equal(tag_put(txn, &ported, "v1.0", &r), 0);
    assert_int_equal(tag_put(txn, &alpine, "latest", &r), 0);
    assert_int_equal(tag_put(txn, &zed, "z", &r), 0);
    assert_int_equal(tag_put(txn, &local, "z", &r), 0);
    for (size_t i = 0; i < sizeof bad_keys / sizeof bad_keys[0]; i++) {
        assert_int_equal(db_put(txn, DB_TAGS, bad_keys[i], strlen(bad_keys[i]), "bad", 3), 0);
    }
    assert_int_equal(db_put(txn, DB_TAGS, "a/b:t", 5, "bad", 3), 0);
    assert_int_equal(tag_walk(txn, visit_append, seen), 0);
    assert_string_equal(
        seen, "|quay/z|z docker.io|library/alpine|latest host.lan:5000|a/b|v1.0 quay.io|z|z ");
    assert_int_equal(tag_put(txn, &alpine, "stop", &r), 0);
    seen[0] = '\0';
    assert_int_equal(tag_walk(txn, visit_append, seen), 42);
    assert_string_equal(seen,
                        "|quay/z|z docker.io|library/alpine|latest docker.io|library/alpine|stop ");
    db_abort(&txn);
}

static void expect_tags(struct db_txn *txn, const struct name *n, const char *after,
                        const char *expected)
{
    char seen[512] = "";

    assert_int_equal(tag_walk_repository(txn, n, after, visit_append, seen), 0);
    assert_string_equal(seen, expected);
}

static void test_walk_repository(void **state)
{
    static const char *const tags[] = {"b", "a", "B", "a.1", "a-1", "_"};
    struct db_txn *txn = scratch_write(*state);
    struct tag_record r = record("x", 1);
    struct name app = scratch_local("app");
    struct name inner = scratch_local("app/app");
    struct name longer = scratch_local("app1");
    struct name upstream = scratch_name("quay.io", "app");
    char text[600];
    char seen[512] = "";

    expect_tags(txn, &app, NULL, "");
    assert_int_equal(tag_put(txn, &inner, "a", &r), 0);
    assert_int_equal(tag_put(txn, &longer, "a", &r), 0);
    assert_int_equal(tag_put(txn, &upstream, "u", &r), 0);
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        assert_int_equal(tag_put(txn, &app, tags[i], &r), 0);
    }
    assert_int_equal(db_put(txn, DB_TAGS, "/app:c", 6, "bad", 3), 0);
    expect_tags(txn, &app, NULL, "|app|B |app|_ |app|a |app|a-1 |app|a.1 |app|b ");
    expect_tags(txn, &app, "", "|app|B |app|_ |app|a |app|a-1 |app|a.1 |app|b ");
    expect_tags(txn, &app, "a", "|app|a-1 |app|a.1 |app|b ");
    expect_tags(txn, &app, "a-", "|app|a-1 |app|a.1 |app|b ");
    expect_tags(txn, &app, "b", "");
    expect_tags(txn, &app, "<script>", "|app|B |app|_ |app|a |app|a-1 |app|a.1 |app|b ");
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    expect_tags(txn, &app, text, "|app|b ");
    memset(text, 0xff, sizeof text - 1);
    expect_tags(txn, &app, text, "");
    expect_tags(txn, &upstream, NULL, "quay.io|app|u ");
    assert_int_equal(tag_put(txn, &app, "stop", &r), 0);
    assert_int_equal(tag_walk_repository(txn, &app, "b", visit_append, seen), 42);
    assert_string_equal(seen, "|app|stop ");
    db_abort(&txn);
}

static void test_forget(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct tag_record r = record("x", 1);
    struct name app = scratch_local("app");

    assert_int_equal(tag_forget(txn, &app, "a"), ERR_NOT_FOUND);
    assert_int_equal(tag_put(txn, &app, "a", &r), 0);
    assert_int_equal(tag_put(txn, &app, "b", &r), 0);
    assert_int_equal(tag_forget(txn, &app, "a"), 0);
    assert_int_equal(tag_get(txn, &app, "a", &r), ERR_NOT_FOUND);
    assert_int_equal(tag_get(txn, &app, "b", &r), 0);
    db_abort(&txn);
}

static void test_damaged_records(void **state)
{
    static const char key[] = "docker.io/library/alpine:latest";
    struct db_txn *txn = scratch_write(*state);
    struct name n = scratch_name("docker.io", "alpine");
    struct tag_record r;
    struct db_value value;
    uint8_t bytes[512];

    hold(txn, "{}");
    put(txn, "{}", 100);
    put(txn, "next", 200);
    assert_int_equal(db_get(txn, DB_TAGS, key, strlen(key), &value), 0);
    size_t len = value.size;

    assert_true(len < sizeof bytes);
    memcpy(bytes, value.data, len);
    bytes[len] = 0;
    for (size_t cut = 0; cut <= len + 1; cut++) {
        assert_int_equal(db_put(txn, DB_TAGS, key, strlen(key), bytes, cut), 0);
        assert_int_equal(tag_get(txn, &n, "latest", &r), cut == len ? 0 : ERR_DAMAGED);
    }
    /* A damaged record is written over. */
    put(txn, "{}", 300);
    expect(txn, "{}", 300, 300, NULL);
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_tag_that_moves),  cmocka_unit_test(test_fresh),
        TEST(test_the_longest_names), TEST(test_walk),
        TEST(test_walk_repository),   TEST(test_forget),
        TEST(test_damaged_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
