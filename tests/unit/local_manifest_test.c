/* SPDX-License-Identifier: ISC */
#include "cache/err.h"
#include "cache/local.h"
#include "cache/referrer.h"
#include "tests/unit/local_bed.h"

#define FOREIGN "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

/* A manifest with a config, a layer and a foreign layer. */
static char *image_text(const char *config, const char *layer, const char *foreign)
{
    struct digest digests[3] = {scratch_digest(config), scratch_digest(layer),
                                scratch_digest(foreign)};
    char texts[3][DIGEST_TEXT_MAX];

    for (size_t i = 0; i < 3; i++) {
        digest_text(&digests[i], texts[i]);
    }
    return mem_format("{\"schemaVersion\":2,\"mediaType\":\"" IMAGE "\",\"config\":{\"mediaType\":"
                      "\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu}"
                      ",\"layers\":[{\"mediaType\":\"" FOREIGN "\",\"digest\":\"%s\",\"size\":%zu},"
                      "{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":"
                      "\"%s\",\"size\":%zu}]}",
                      texts[0], strlen(config), texts[2], strlen(foreign), texts[1], strlen(layer));
}

static char *subject_text(const struct digest *subject, const char *note)
{
    char text[DIGEST_TEXT_MAX];

    return mem_format("{\"schemaVersion\":2,\"mediaType\":\"" IMAGE "\",\"layers\":[],\"subject\":"
                      "{\"mediaType\":\"" IMAGE "\",\"digest\":\"%s\",\"size\":2},\"annotations\":"
                      "{\"note\":\"%s\"}}",
                      digest_text(subject, text), note);
}

/* --- manifests --- */

static int see_missing(void *arg, const struct descriptor *d)
{
    char *seen = arg;
    char text[DIGEST_TEXT_MAX];
    size_t len = strlen(seen);

    snprintf(seen + len, 512 - len, "%.15s ", digest_text(&d->digest, text));
    return strstr(seen, "stop") == NULL ? 0 : 7;
}

static void expect_missing(struct db_txn *txn, const char *repository, const struct manifest *m,
                           const char *first, const char *second)
{
    struct name n = scratch_local(repository);
    const char *const expected[] = {first, second};
    char seen[512] = "";
    char wanted[512] = "";

    for (size_t i = 0; i < 2 && expected[i] != NULL; i++) {
        struct digest d = scratch_digest(expected[i]);

        assert_int_equal(see_missing(wanted, &(struct descriptor){.digest = d}), 0);
    }
    assert_int_equal(local_walk_missing(txn, &n, m, see_missing, seen), 0);
    assert_string_equal(seen, wanted);
}

static void test_missing(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a");
    char *text = image_text("config", "layer", "foreign");
    struct manifest *m = parse(IMAGE, text);
    char stop[512] = "stop ";

    expect_missing(txn, "a", m, "config", "layer");
    assert_int_equal(local_walk_missing(txn, &a, m, see_missing, stop), 7);
    push_blob(txn, "a", "config");
    push_blob(txn, "b", "layer");
    expect_missing(txn, "a", m, "layer", NULL);
    expect_missing(txn, "b", m, "config", NULL);
    put_blob(txn, "layer", BLOB_PUBLIC);
    expect_missing(txn, "a", m, NULL, NULL);
    assert_int_equal(delete_blob(txn, "a", "layer"), 0);
    expect_missing(txn, "a", m, "layer", NULL);
    manifest_free(&m);
    free(text);
    db_abort(&txn);
}

/* An index may come before what it lists, or without. */
static void test_sparse_index(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest child = scratch_digest("child");
    char digest[DIGEST_TEXT_MAX];
    char *text = mem_format("{\"schemaVersion\":2,\"mediaType\":\"" INDEX "\",\"manifests\":[{"
                            "\"mediaType\":\"" IMAGE "\",\"digest\":\"%s\",\"size\":5}]}",
                            digest_text(&child, digest));
    struct manifest *m = parse(INDEX, text);

    expect_missing(txn, "a", m, NULL, NULL);
    struct digest d = push_manifest(txn, "a", INDEX, text, "v1");

    assert_int_equal(find_manifest(txn, "a", &d), 0);
    assert_int_equal(find_manifest(txn, "a", &child), ERR_NOT_FOUND);
    manifest_free(&m);
    free(text);
    db_abort(&txn);
}

static void expect_type(struct db_txn *txn, const char *repository, const struct digest *d,
                        const char *media_type)
{
    struct name n = scratch_local(repository);
    struct manifest_record r;

    assert_int_equal(local_find_manifest(txn, &n, d, &r), 0);
    assert_string_equal(r.media_type, media_type);
}

/* Who pushes the bytes of others under another type changes nothing for them; who has a
 * better one than a type that nobody knows does. */
static void test_types_of_others(void **state)
{
    static const char text[] = "{\"schemaVersion\":2}";
    static const char other[] = "application/vnd.docker.distribution.manifest.v2+json";
    struct db_txn *txn = scratch_write(*state);
    struct digest d = push_manifest(txn, "odd", "a/b", text, NULL);
    struct manifest_record r;

    assert_int_equal(manifest_get(txn, &d, &r), 0);
    assert_string_equal(r.media_type, "a/b");
    push_manifest(txn, "a", IMAGE, text, NULL);
    push_manifest(txn, "b", other, text, NULL);
    push_manifest(txn, "c", "a/c", text, NULL);
    assert_int_equal(manifest_get(txn, &d, &r), 0);
    assert_string_equal(r.media_type, IMAGE);
    expect_type(txn, "odd", &d, "a/b");
    expect_type(txn, "a", &d, IMAGE);
    expect_type(txn, "b", &d, other);
    expect_type(txn, "c", &d, "a/c");
    /* In one repository the last push counts. */
    push_manifest(txn, "a", other, text, NULL);
    expect_type(txn, "a", &d, other);
    db_abort(&txn);
}

static void test_put_manifest(void **state)
{
    static const char *const tags[] = {"v1", "latest", "v1"};
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a");
    struct name b = scratch_local("b");
    char *text = image_text("config", "layer", "foreign");
    struct digest d = scratch_digest(text);
    struct manifest *m = parse(IMAGE, text);
    struct tag_record tag;
    struct blob_record blob;

    assert_int_equal(local_has_repository(txn, &a), ERR_NOT_FOUND);
    push_blob(txn, "a", "config");
    assert_int_equal(local_has_repository(txn, &a), ERR_NOT_FOUND);
    put_blob(txn, "layer", BLOB_PUBLIC);
    assert_int_equal(local_put_manifest(txn, &a, &d, m, strlen(text), tags, 3, NOW_S), 0);
    assert_int_equal(local_has_repository(txn, &a), 0);
    assert_int_equal(find_manifest(txn, "a", &d), 0);
    assert_int_equal(find_blob(txn, "a", text), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(tag_get(txn, &a, tags[i], &tag), 0);
        assert_true(digest_equal(&tag.digest, &d));
        assert_int_equal(tag.size_bytes, strlen(text));
        assert_string_equal(tag.media_type, IMAGE);
        assert_int_equal(tag.changed_at_s, NOW_S);
    }
    assert_int_equal(blob_get(txn, &d, &blob), 0);
    assert_int_equal(blob.origin, BLOB_PUSHED);
    /* Another repository has nothing of it. */
    assert_int_equal(local_has_repository(txn, &b), ERR_NOT_FOUND);
    assert_int_equal(find_manifest(txn, "b", &d), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "b", text), ERR_NOT_FOUND);
    assert_int_equal(tag_get(txn, &b, "v1", &tag), ERR_NOT_FOUND);
    /* The public layer stays its own, should the only copy be a private one later. */
    struct digest layer = scratch_digest("layer");

    assert_int_equal(blob_forget(txn, &layer), 0);
    assert_int_equal(find_blob(txn, "a", "layer"), ERR_NOT_FOUND);
    put_blob(txn, "layer", BLOB_PRIVATE);
    assert_int_equal(find_blob(txn, "a", "layer"), 0);
    assert_int_equal(find_blob(txn, "b", "layer"), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "a", "foreign"), ERR_NOT_FOUND);
    manifest_free(&m);
    free(text);
    db_abort(&txn);
}

/* A manifest of an upstream is none of a local repository's until it is pushed there. */
static void test_manifest_of_an_upstream(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name upstream = scratch_name("docker.io", "alpine");
    struct manifest *m = parse(IMAGE, "{}");
    struct digest d = scratch_digest("{}");
    struct blob_record blob;

    assert_int_equal(manifest_put(txn, &upstream, &d, m, BLOB_PUBLIC, 2, 1), 0);
    assert_int_equal(find_manifest(txn, "a", &d), ERR_NOT_FOUND);
    push_manifest(txn, "a", IMAGE, "{}", "v1");
    assert_int_equal(find_manifest(txn, "a", &d), 0);
    assert_int_equal(blob_get(txn, &d, &blob), 0);
    assert_int_equal(blob.origin, BLOB_PUBLIC);
    manifest_free(&m);
    db_abort(&txn);
}

/* --- what is deleted --- */

static bool is_referrer(struct db_txn *txn, const char *repository, const struct digest *subject,
                        const struct digest *d)
{
    struct name n = scratch_local(repository);
    struct referrers *r = referrers_new(NULL, NULL, 0);
    char next[DIGEST_TEXT_MAX];
    char text[DIGEST_TEXT_MAX];
    size_t len;

    assert_int_equal(referrers_add_held(r, txn, &n, subject), 0);
    char *body = referrers_body(r, &len, next);
    bool found = strstr(body, digest_text(d, text)) != NULL;

    free(body);
    referrers_free(&r);
    return found;
}

static void test_delete_manifest(void **state)
{
    static const char *const its_tags[] = {"a", "m", "z"};
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a");
    struct digest subject = push_manifest(txn, "a", IMAGE, "{}", "subject");
    char *text = subject_text(&subject, "one");
    char *other_text = subject_text(&subject, "other");
    struct digest d = push_manifest(txn, "a", IMAGE, text, NULL);
    struct digest other = push_manifest(txn, "a", IMAGE, other_text, "other");
    struct tag_record tag;

    for (size_t i = 0; i < 3; i++) {
        push_manifest(txn, "a", IMAGE, text, its_tags[i]);
    }
    push_manifest(txn, "b", IMAGE, text, "m");
    assert_true(is_referrer(txn, "a", &subject, &d));
    assert_int_equal(local_delete_manifest(txn, &a, &d, NOW_S), 0);
    assert_int_equal(find_manifest(txn, "a", &d), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "a", text), ERR_NOT_FOUND);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(tag_get(txn, &a, its_tags[i], &tag), ERR_NOT_FOUND);
    }
    assert_false(is_referrer(txn, "a", &subject, &d));
    assert_int_equal(local_delete_manifest(txn, &a, &d, NOW_S), ERR_NOT_FOUND);
    /* All else stays. */
    assert_int_equal(tag_get(txn, &a, "other", &tag), 0);
    assert_int_equal(tag_get(txn, &a, "subject", &tag), 0);
    assert_true(is_referrer(txn, "a", &subject, &other));
    assert_true(is_referrer(txn, "b", &subject, &d));
    assert_int_equal(find_manifest(txn, "b", &d), 0);
    assert_int_equal(local_has_repository(txn, &a), 0);
    /* Its subject goes, and it stays. */
    assert_int_equal(local_delete_manifest(txn, &a, &subject, NOW_S), 0);
    assert_true(is_referrer(txn, "a", &subject, &other));
    /* Pushed again, it is there again. */
    push_manifest(txn, "a", IMAGE, text, "m");
    assert_int_equal(find_manifest(txn, "a", &d), 0);
    assert_true(is_referrer(txn, "a", &subject, &d));
    free(text);
    free(other_text);
    db_abort(&txn);
}

static uint64_t count(struct db_txn *txn, enum db_table table)
{
    uint64_t n;

    assert_int_equal(db_count(txn, table, &n), 0);
    return n;
}

static char *foreign_text(const char *note)
{
    struct digest d = scratch_digest("foreign");
    char text[DIGEST_TEXT_MAX];

    return mem_format("{\"schemaVersion\":2,\"mediaType\":\"" IMAGE
                      "\",\"layers\":[{\"mediaType\":\"" FOREIGN
                      "\",\"digest\":\"%s\",\"size\":7,\"urls\":[\"https://h/1\","
                      "\"https://h/2\",\"https://h/3\"]}],\"annotations\":{\"note\":\"%s\"}}",
                      digest_text(&d, text), note);
}

/* What a manifest said of its children goes with it, but for what another one says, too. */
static void test_delete_leaves_nothing(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a"), b = scratch_local("b");
    struct digest child = scratch_digest("foreign");
    char *one_text = foreign_text("one"), *two_text = foreign_text("two");
    uint64_t size_bytes;

    struct digest one = push_manifest(txn, "a", IMAGE, one_text, "one");
    struct digest two = push_manifest(txn, "a", IMAGE, two_text, "two");

    push_manifest(txn, "b", IMAGE, two_text, "two");
    assert_int_equal(count(txn, DB_URLS), 2);
    assert_int_equal(count(txn, DB_PARENTS), 2);
    assert_int_equal(local_delete_manifest(txn, &a, &one, NOW_S), 0);
    assert_int_equal(source_get(txn, &child, &a, &size_bytes), 0);
    assert_int_equal(count(txn, DB_PARENTS), 1);
    assert_int_equal(count(txn, DB_MANIFESTS), 1);
    assert_int_equal(local_delete_manifest(txn, &a, &two, NOW_S), 0);
    assert_int_equal(source_get(txn, &child, &a, &size_bytes), ERR_NOT_FOUND);
    assert_int_equal(source_get(txn, &child, &b, &size_bytes), 0);
    assert_int_equal(count(txn, DB_URLS), 2);
    assert_int_equal(count(txn, DB_PARENTS), 1);
    assert_int_equal(find_manifest(txn, "b", &two), 0);
    assert_int_equal(local_delete_manifest(txn, &b, &two, NOW_S), 0);
    assert_int_equal(count(txn, DB_SOURCES), 0);
    assert_int_equal(count(txn, DB_URLS), 0);
    assert_int_equal(count(txn, DB_PARENTS), 0);
    assert_int_equal(count(txn, DB_MANIFESTS), 0);
    /* Pushed again, all is there again. */
    push_manifest(txn, "a", IMAGE, two_text, "two");
    assert_int_equal(find_manifest(txn, "a", &two), 0);
    assert_int_equal(count(txn, DB_URLS), 2);
    assert_int_equal(count(txn, DB_PARENTS), 1);
    free(one_text);
    free(two_text);
    db_abort(&txn);
}

/* What an upstream says stays, also of a manifest that was pushed as well. */
static void test_delete_what_an_upstream_has(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a"), upstream = scratch_name("docker.io", "alpine");
    struct digest child = scratch_digest("foreign");
    char *text = foreign_text("both");
    struct manifest *m = parse(IMAGE, text);
    struct digest d = push_manifest(txn, "a", IMAGE, text, "one");
    struct manifest_record r;
    uint64_t size_bytes;

    assert_int_equal(manifest_put(txn, &upstream, &d, m, BLOB_PUBLIC, strlen(text), NOW_S), 0);
    assert_int_equal(count(txn, DB_URLS), 2 + 3);
    assert_int_equal(local_delete_manifest(txn, &a, &d, NOW_S), 0);
    assert_int_equal(count(txn, DB_URLS), 3);
    assert_int_equal(count(txn, DB_PARENTS), 1);
    assert_int_equal(source_get(txn, &child, &upstream, &size_bytes), 0);
    assert_int_equal(source_get(txn, &child, &a, &size_bytes), ERR_NOT_FOUND);
    assert_int_equal(manifest_get(txn, &d, &r), 0);
    manifest_free(&m);
    free(text);
    db_abort(&txn);
}

/* Asked for as a blob, it leaves no tag that leads nowhere. */
static void test_delete_manifest_as_a_blob(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a");
    struct digest d = push_manifest(txn, "a", IMAGE, "{}", "v1");
    struct tag_record tag;

    assert_int_equal(delete_blob(txn, "a", "{}"), 0);
    assert_int_equal(find_manifest(txn, "a", &d), ERR_NOT_FOUND);
    assert_int_equal(tag_get(txn, &a, "v1", &tag), ERR_NOT_FOUND);
    /* A blob is no manifest. */
    struct digest blob = scratch_digest("blob");

    push_blob(txn, "a", "blob");
    assert_int_equal(local_delete_manifest(txn, &a, &blob, NOW_S), ERR_NOT_FOUND);
    assert_int_equal(find_blob(txn, "a", "blob"), 0);
    db_abort(&txn);
}

static void test_delete_tag(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name a = scratch_local("a");
    struct name b = scratch_local("b");
    struct digest d = push_manifest(txn, "a", IMAGE, "{}", "v1");
    struct tag_record tag;

    push_manifest(txn, "a", IMAGE, "{}", "v2");
    push_manifest(txn, "b", IMAGE, "{}", "v1");
    assert_int_equal(local_delete_tag(txn, &a, "v1"), 0);
    assert_int_equal(local_delete_tag(txn, &a, "v1"), ERR_NOT_FOUND);
    assert_int_equal(tag_get(txn, &a, "v2", &tag), 0);
    assert_int_equal(tag_get(txn, &b, "v1", &tag), 0);
    assert_int_equal(find_manifest(txn, "a", &d), 0);
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_missing),
        TEST(test_sparse_index),
        TEST(test_put_manifest),
        TEST(test_types_of_others),
        TEST(test_manifest_of_an_upstream),
        TEST(test_delete_manifest),
        TEST(test_delete_leaves_nothing),
        TEST(test_delete_what_an_upstream_has),
        TEST(test_delete_manifest_as_a_blob),
        TEST(test_delete_tag),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
