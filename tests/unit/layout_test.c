/* SPDX-License-Identifier: ISC */
#include <jansson.h>
#include <signal.h>
#include <sys/resource.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/layout.h"
#include "cache/manifest.h"
#include "cache/record.h"
#include "cache/tag.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"

static void put_tag(struct db_txn *txn, const char *repository, const char *tag, const char *text)
{
    struct name n = scratch_name("docker.io", repository);
    struct tag_record r = {.size_bytes = strlen(text), .media_type = IMAGE, .checked_at_s = 1};

    r.digest = scratch_digest(text);
    assert_int_equal(tag_put(txn, &n, tag, &r), 0);
}

static void hold(struct db_txn *txn, const char *media_type, const char *text)
{
    struct name n = scratch_name("docker.io", "alpine");
    struct digest d = scratch_digest(text);
    struct manifest *m;
    char why[256];

    assert_int_equal(manifest_parse(&m, media_type, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, strlen(text), 1), 0);
    manifest_free(&m);
}

static json_t *load(struct scratch *s)
{
    json_error_t error;
    json_t *index =
        json_load_file(scratch_path(s->dir, "index.json"), JSON_REJECT_DUPLICATES, &error);

    if (index == NULL) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(json_integer_value(json_object_get(index, "schemaVersion")), 2);
    assert_string_equal(json_string_value(json_object_get(index, "mediaType")), INDEX);
    return index;
}

static void expect_entry(const json_t *index, size_t i, const char *media_type, const char *text,
                         const char *reference)
{
    const json_t *entry = json_array_get(json_object_get(index, "manifests"), i);
    const json_t *annotations = json_object_get(entry, "annotations");
    struct digest d = scratch_digest(text);
    char digest[DIGEST_TEXT_MAX];

    assert_string_equal(json_string_value(json_object_get(entry, "mediaType")), media_type);
    assert_string_equal(json_string_value(json_object_get(entry, "digest")),
                        digest_text(&d, digest));
    assert_int_equal(json_integer_value(json_object_get(entry, "size")), strlen(text));
    assert_string_equal(
        json_string_value(json_object_get(annotations, "org.opencontainers.image.ref.name")),
        reference);
    assert_string_equal(json_string_value(json_object_get(annotations, "io.containerd.image.name")),
                        reference);
}

static void test_an_empty_cache(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);

    assert_int_equal(layout_write_index(s->store, txn), 0);
    db_abort(&txn);
    json_t *index = load(s);

    assert_int_equal(json_array_size(json_object_get(index, "manifests")), 0);
    json_decref(index);
}

static void test_tags_that_are_held(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);

    hold(txn, IMAGE, "{\"v\":1}");
    hold(txn, INDEX, "{\"v\":2}");
    put_tag(txn, "z/z", "v1", "{\"v\":1}");
    put_tag(txn, "alpine", "latest", "{\"v\":2}");
    put_tag(txn, "alpine", "edge", "{\"v\":1}");
    put_tag(txn, "alpine", "gone", "{\"v\":3}");
    assert_int_equal(layout_write_index(s->store, txn), 0);
    json_t *index = load(s);

    assert_int_equal(json_array_size(json_object_get(index, "manifests")), 3);
    expect_entry(index, 0, IMAGE, "{\"v\":1}", "docker.io/library/alpine:edge");
    expect_entry(index, 1, INDEX, "{\"v\":2}", "docker.io/library/alpine:latest");
    expect_entry(index, 2, IMAGE, "{\"v\":1}", "docker.io/z/z:v1");
    json_decref(index);
    db_abort(&txn);

    /* Written anew from what the index holds now, with nothing left beside it. */
    txn = scratch_write(s);
    assert_int_equal(layout_write_index(s->store, txn), 0);
    db_abort(&txn);
    index = load(s);
    assert_int_equal(json_array_size(json_object_get(index, "manifests")), 0);
    json_decref(index);
    assert_int_equal(rmdir(scratch_path(s->dir, "partial")), 0);
}

static void test_local_tags(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);
    struct name n = scratch_local("team/app");
    struct tag_record r = {.size_bytes = 7, .media_type = IMAGE, .checked_at_s = 1};

    hold(txn, IMAGE, "{\"v\":1}");
    r.digest = scratch_digest("{\"v\":1}");
    assert_int_equal(tag_put(txn, &n, "v1", &r), 0);
    assert_int_equal(layout_write_index(s->store, txn), 0);
    db_abort(&txn);
    json_t *index = load(s);

    assert_int_equal(json_array_size(json_object_get(index, "manifests")), 1);
    expect_entry(index, 0, IMAGE, "{\"v\":1}", "team/app:v1");
    json_decref(index);
}

/* A record that did not come from a parsed manifest. */
static void put_media_type(struct db_txn *txn, const char *text, const char *media_type)
{
    struct digest d = scratch_digest(text);
    struct record_out out;
    uint8_t key[DIGEST_KEY_MAX];
    uint8_t buf[256];

    record_start(&out, buf, sizeof buf, 1);
    record_put_u64(&out, strlen(text));
    record_put_u8(&out, 0);
    record_put_text(&out, media_type);
    record_put_u32(&out, 0);
    assert_int_equal(record_finish(&out), 0);
    assert_int_equal(db_put(txn, DB_MANIFESTS, key, digest_to_key(&d, key), buf, out.len), 0);
}

static void test_odd_media_types(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);

    put_media_type(txn, "quotes", "a\"b\\c");
    put_media_type(txn, "not UTF-8", "\xff\xfe");
    put_tag(txn, "alpine", "a", "not UTF-8");
    put_tag(txn, "alpine", "b", "quotes");
    assert_int_equal(layout_write_index(s->store, txn), 0);
    db_abort(&txn);
    json_t *index = load(s);

    assert_int_equal(json_array_size(json_object_get(index, "manifests")), 1);
    expect_entry(index, 0, "a\"b\\c", "quotes", "docker.io/library/alpine:b");
    json_decref(index);
}

/* The index.json that was there stays whole. */
static void test_what_cannot_be_written(void **state)
{
    struct scratch *s = *state;
    struct db_txn *txn = scratch_write(s);
    struct rlimit saved;

    assert_int_equal(layout_write_index(s->store, txn), 0);
    long size = scratch_file_size(s->dir, "index.json");

    hold(txn, IMAGE, "{}");
    put_tag(txn, "alpine", "latest", "{}");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &saved), 0);
    struct rlimit small = {(rlim_t)size + 1, saved.rlim_max};

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int err = layout_write_index(s->store, txn);

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &saved), 0);
    assert_int_equal(err, ERR_IO);
    assert_int_equal(scratch_file_size(s->dir, "index.json"), size);
    assert_int_equal(rmdir(scratch_path(s->dir, "partial")), 0);
    assert_int_equal(layout_write_index(s->store, txn), ERR_NOT_FOUND);
    assert_int_equal(scratch_file_size(s->dir, "index.json"), size);
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_empty_cache),  TEST(test_tags_that_are_held),     TEST(test_local_tags),
        TEST(test_odd_media_types), TEST(test_what_cannot_be_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
