/* SPDX-License-Identifier: ISC */
#include "cache/reference.h"

#include "cache/err.h"
#include "cache/manifest.h"
#include "cache/tag.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX

static void test_texts(void **state)
{
    static const struct {
        const char *text;
        const char *local; /* NULL: it is none */
        const char *hub;
    } rows[] = {
        {"app", "app:latest", "docker.io/library/app:latest"},
        {"app:1", "app:1", "docker.io/library/app:1"},
        {"team/app:1", "team/app:1", "docker.io/team/app:1"},
        {"docker.io/app:1", "docker.io/library/app:1", "docker.io/library/app:1"},
        {"index.docker.io/app:1", "docker.io/library/app:1", "docker.io/library/app:1"},
        {"Quay.IO/a/b", "quay.io/a/b:latest", "quay.io/a/b:latest"},
        {"host:5000/a", "host:5000/a:latest", "host:5000/a:latest"},
        {"host:5000/a:b", "host:5000/a:b", "host:5000/a:b"},
        {"localhost/a", "localhost/a:latest", "localhost/a:latest"},
        {"[::1]:5000/a:1", "[::1]:5000/a:1", "[::1]:5000/a:1"},
        {"app@" DIGEST, "app@" DIGEST, "docker.io/library/app@" DIGEST},
        {"app:1@" DIGEST, "app@" DIGEST, "docker.io/library/app@" DIGEST},
        {"host:5000/a@" DIGEST, "host:5000/a@" DIGEST, "host:5000/a@" DIGEST},
        {"", NULL, NULL},
        {":", NULL, NULL},
        {"app:", NULL, NULL},
        {":1", NULL, NULL},
        {"App", NULL, NULL},
        {"app:1:2", NULL, NULL},
        {"app@", NULL, NULL},
        {"app@sha256:12", NULL, NULL},
        {"app@" DIGEST "@" DIGEST, NULL, NULL},
        {"app:-@" DIGEST, NULL, NULL},
        {"host:5000/", NULL, NULL},
        {"a//b", NULL, NULL},
        {"../a", NULL, NULL},
        {"app 1", NULL, NULL},
        {"app:1\n", NULL, NULL},
    };
    char text[REFERENCE_TEXT_MAX], key[REFERENCE_TEXT_MAX];
    struct reference r, back;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int hub = 0; hub < 2; hub++) {
            const char *expected = hub ? rows[i].hub : rows[i].local;
            int err = reference_parse(&r, rows[i].text, hub ? "docker.io" : NULL);

            if (expected == NULL) {
                assert_int_equal(err, ERR_INVALID);
                continue;
            }
            assert_int_equal(err, 0);
            assert_int_equal(reference_text(&r, text), strlen(expected));
            assert_string_equal(text, expected);
            size_t len = reference_key(&r, key);

            assert_int_equal(reference_from_key(&back, key, len), 0);
            assert_true(name_equal(&back.name, &r.name));
            assert_int_equal(back.by_digest, r.by_digest);
            assert_string_equal(back.tag, r.tag);
            assert_true(digest_equal(&back.digest, &r.digest));
        }
    }
}

static void test_bad_keys(void **state)
{
    static const char *const keys[] = {"",
                                       "a",
                                       "a.b/c",
                                       "a.b/c:",
                                       "a.b/c@",
                                       "a.b/c@x",
                                       "a.b/c:1@2",
                                       "a b/c:1",
                                       "/:1",
                                       "a.b/c:1:2",
                                       "docker.io/library/app:\1"};
    struct reference r;
    char longest[REFERENCE_TEXT_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (reference_from_key(&r, keys[i], strlen(keys[i])) != ERR_INVALID)
            fail_msg("\"%s\" is taken", keys[i]);
    assert_int_equal(reference_from_key(&r, "a.b/c:1\0", 8), ERR_INVALID);
    memset(longest, 'a', sizeof longest);
    assert_int_equal(reference_from_key(&r, longest, sizeof longest), ERR_INVALID);
}

/* --- what they lead to --- */

static struct digest hold(struct db_txn *txn, const struct name *n, const char *text)
{
    struct digest d = scratch_digest(text);
    struct manifest *m;
    char why[256];

    assert_int_equal(manifest_parse(&m, IMAGE, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, n, &d, m, BLOB_PUBLIC, strlen(text), 1), 0);
    manifest_free(&m);
    return d;
}

static void tag(struct db_txn *txn, const struct name *n, const char *tag, const struct digest *d)
{
    struct tag_record r = {.digest = *d, .size_bytes = 7, .media_type = IMAGE, .checked_at_s = 1};

    assert_int_equal(tag_put(txn, n, tag, &r), 0);
}

static void expect(struct db_txn *txn, const char *text, const char *found, const struct digest *d)
{
    char full[REFERENCE_TEXT_MAX];
    struct reference r;
    struct digest got;

    assert_int_equal(reference_find(txn, text, &r, &got), 0);
    reference_text(&r, full);
    assert_string_equal(full, found);
    assert_true(digest_equal(&got, d));
}

static void test_find(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name hub = scratch_name("docker.io", "app"), local = scratch_local("app");
    struct digest first = hold(txn, &hub, "{\"v\":1}"), mine = hold(txn, &local, "{\"v\":2}");
    struct digest unheld = scratch_digest("never held");
    char digest[DIGEST_TEXT_MAX], full[REFERENCE_TEXT_MAX];
    struct reference r;
    struct digest d;

    tag(txn, &hub, "1", &first);
    expect(txn, "app:1", "docker.io/library/app:1", &first);
    expect(txn, "docker.io/library/app:1", "docker.io/library/app:1", &first);
    tag(txn, &local, "2", &mine);
    expect(txn, "app:2", "app:2", &mine);
    expect(txn, "app:1", "docker.io/library/app:1", &first);
    tag(txn, &local, "1", &mine);
    expect(txn, "app:1", "app:1", &mine);
    expect(txn, "docker.io/app:1", "docker.io/library/app:1", &first);
    /* It has moved to what is not held. */
    tag(txn, &hub, "1", &unheld);
    expect(txn, "docker.io/app:1", "docker.io/library/app:1", &first);

    snprintf(full, sizeof full, "app@%s", digest_text(&mine, digest));
    expect(txn, full, full, &mine);
    snprintf(full, sizeof full, "app@%s", digest_text(&first, digest));
    assert_int_equal(reference_find(txn, full, &r, &d), 0);
    assert_string_equal(r.name.registry, "docker.io");

    assert_int_equal(reference_find(txn, "app:3", &r, &d), ERR_NOT_FOUND);
    assert_string_equal(r.name.registry, "docker.io");
    assert_int_equal(reference_find(txn, "quay.io/app:1", &r, &d), ERR_NOT_FOUND);
    assert_int_equal(reference_find(txn, "App:1", &r, &d), ERR_INVALID);
    assert_int_equal(reference_find(txn, "quay.io/App:1", &r, &d), ERR_INVALID);
    db_abort(&txn);
}

/* A damaged record is told from none, so that it can be removed. */
static void test_damaged(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct reference r;
    struct digest d;

    assert_int_equal(db_put(txn, DB_TAGS, "docker.io/library/app:1", 23, "\1x", 2), 0);
    assert_int_equal(reference_find(txn, "app:1", &r, &d), ERR_DAMAGED);
    assert_string_equal(r.name.repository, "library/app");
    assert_string_equal(r.tag, "1");
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_bad_keys),
        TEST(test_find),
        TEST(test_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
