/* SPDX-License-Identifier: ISC */
#include "cache/diff.h"

#include "cache/err.h"
#include "cache/manifest.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"

static struct digest hold(struct db_txn *txn, const char *text, enum blob_origin origin,
                          int64_t stored_at_s)
{
    struct digest d = scratch_digest(text);
    struct blob_record r = {
        .size_bytes = 100, .origin = origin, .stored_at_s = stored_at_s, .used_at_s = 1};

    assert_int_equal(blob_put(txn, &d, &r), 0);
    return d;
}

struct found {
    unsigned contents;
    unsigned count;
    struct digest diff_id;
    struct diff_blob blobs[8];
};

static int visit_blob(void *arg, const struct diff_blob *b)
{
    struct found *f = arg;

    f->blobs[f->count++] = *b;
    return 0;
}

static unsigned find(struct db_txn *txn, const struct digest *diff_id, struct found *f)
{
    *f = (struct found){0};
    assert_int_equal(diff_walk(txn, diff_id, visit_blob, f), 0);
    return f->count;
}

static int visit_content(void *arg, const struct digest *diff_id, const struct diff_blob *blobs,
                         unsigned count)
{
    struct found *f = arg;

    f->contents++;
    f->diff_id = *diff_id;
    f->count = count;
    for (unsigned i = 0; i < count; i++)
        f->blobs[i] = blobs[i];
    return 0;
}

static unsigned find_duplicates(struct db_txn *txn, struct found *f)
{
    *f = (struct found){0};
    assert_int_equal(diff_walk_duplicates(txn, visit_content, f), 0);
    return f->contents;
}

static void test_a_content_and_its_blobs(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest content = scratch_digest("content"), other = scratch_digest("other");
    struct digest a = hold(txn, "a", BLOB_PUBLIC, 5), b = hold(txn, "b", BLOB_PUSHED, 1);
    struct digest gone = scratch_digest("gone");
    struct digest shown;
    struct found f;

    assert_int_equal(diff_put(txn, &content, &a, DIFF_CLAIMED), 0);
    assert_int_equal(diff_put(txn, &content, &gone, DIFF_CLAIMED), 0);
    assert_int_equal(find(txn, &content, &f), 1);
    assert_true(digest_equal(&f.blobs[0].digest, &a));
    assert_int_equal(f.blobs[0].proof, DIFF_CLAIMED);
    assert_int_equal(f.blobs[0].record.size_bytes, 100);
    assert_int_equal(find_duplicates(txn, &f), 0);
    assert_int_equal(diff_get(txn, &a, &shown), ERR_NOT_FOUND);

    assert_int_equal(diff_put(txn, &content, &b, DIFF_HASHED), 0);
    assert_int_equal(diff_get(txn, &b, &shown), 0);
    assert_true(digest_equal(&shown, &content));
    assert_int_equal(find(txn, &content, &f), 2);
    assert_int_equal(find(txn, &other, &f), 0);
    assert_int_equal(find_duplicates(txn, &f), 1);
    assert_true(digest_equal(&f.diff_id, &content));
    assert_int_equal(f.count, 2);
    /* The one that was pulled is the one to keep. */
    assert_true(digest_equal(&f.blobs[0].digest, &a));
    assert_true(digest_equal(&f.blobs[1].digest, &b));
    assert_int_equal(f.blobs[1].proof, DIFF_HASHED);
    db_abort(&txn);
}

static void test_the_oldest_of_equals_is_kept(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest content = scratch_digest("content");
    struct digest digests[] = {
        hold(txn, "a", BLOB_PUSHED, 3),
        hold(txn, "b", BLOB_PUSHED, 1),
        hold(txn, "c", BLOB_PUSHED, 2),
    };
    struct found f;

    for (size_t i = 0; i < 3; i++)
        assert_int_equal(diff_put(txn, &content, &digests[i], DIFF_HASHED), 0);
    assert_int_equal(find_duplicates(txn, &f), 1);
    assert_int_equal(f.count, 3);
    assert_true(digest_equal(&f.blobs[0].digest, &digests[1]));
    assert_true(digest_equal(&f.blobs[1].digest, &digests[2]));
    assert_true(digest_equal(&f.blobs[2].digest, &digests[0]));
    db_abort(&txn);
}

/* Whoever may push may claim anything; it ends where the blob itself was looked at. */
static void test_a_claim_yields_to_a_proof(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest content = scratch_digest("content"), claimed = scratch_digest("claimed");
    struct digest a = hold(txn, "a", BLOB_PUBLIC, 1), b = hold(txn, "b", BLOB_PUSHED, 2);
    struct found f;

    assert_int_equal(diff_put(txn, &claimed, &a, DIFF_CLAIMED), 0);
    assert_int_equal(diff_put(txn, &claimed, &b, DIFF_HASHED), 0);
    assert_int_equal(find_duplicates(txn, &f), 1);
    assert_int_equal(diff_put(txn, &content, &a, DIFF_HASHED), 0);
    assert_int_equal(find_duplicates(txn, &f), 0);
    assert_int_equal(find(txn, &claimed, &f), 1);
    assert_int_equal(diff_put(txn, &claimed, &a, DIFF_CLAIMED), 0);
    assert_int_equal(diff_put(txn, &content, &a, DIFF_CLAIMED), 0);
    assert_int_equal(find(txn, &claimed, &f), 1);
    assert_int_equal(find(txn, &content, &f), 1);
    assert_int_equal(f.blobs[0].proof, DIFF_HASHED);
    db_abort(&txn);
}

/* --- configs --- */

/* The image of `count` diff_ids "diff0", "diff1"...; owned by the caller. */
static struct image *image_of(unsigned count)
{
    struct image *image = mem_new(sizeof *image + count * sizeof image->diff_ids[0]);

    image->count = count;
    for (unsigned i = 0; i < count; i++) {
        char text[16];

        snprintf(text, sizeof text, "diff%u", i);
        image->diff_ids[i] = scratch_digest(text);
    }
    return image;
}

/* A manifest whose config is "config" and whose layers are "PREFIX0", "PREFIX1"... */
static void put_manifest(struct db_txn *txn, const char *prefix, unsigned count)
{
    struct name n = scratch_local("team/app");
    struct digest config = scratch_digest("config");
    char digest[DIGEST_TEXT_MAX];
    char *text = malloc(512 + count * 128);
    char *at = text;
    struct manifest *m;
    char why[256];

    at += sprintf(at, "{\"config\":{\"digest\":\"%s\",\"size\":1},\"layers\":[",
                  digest_text(&config, digest));
    for (unsigned i = 0; i < count; i++) {
        char name[32];

        snprintf(name, sizeof name, "%s%u", prefix, i);
        struct digest d = hold(txn, name, BLOB_PUSHED, 1);

        at += sprintf(at, "%s{\"digest\":\"%s\",\"size\":1}", i > 0 ? "," : "",
                      digest_text(&d, digest));
    }
    strcpy(at, "]}");
    struct digest d = scratch_digest(text);

    assert_int_equal(manifest_parse(&m, IMAGE, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUSHED, strlen(text), 1), 0);
    manifest_free(&m);
    free(text);
}

static void test_what_a_config_says(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest config = scratch_digest("config"), other = scratch_digest("other");
    struct image *image = image_of(3);
    struct found f;

    put_manifest(txn, "gzip", 3);
    put_manifest(txn, "zstd", 3);
    put_manifest(txn, "wrong", 2);
    put_manifest(txn, "none", 0);
    assert_int_equal(diff_index_config(txn, &other, image), 0);
    assert_int_equal(find(txn, &image->diff_ids[0], &f), 0);
    assert_int_equal(diff_index_config(txn, &config, image), 0);
    for (unsigned i = 0; i < 3; i++) {
        char text[16];
        snprintf(text, sizeof text, "gzip%u", i);
        struct digest gzip = scratch_digest(text);
        snprintf(text, sizeof text, "zstd%u", i);
        struct digest zstd = scratch_digest(text);

        assert_int_equal(find(txn, &image->diff_ids[i], &f), 2);
        assert_true(digest_equal(&f.blobs[0].digest, &gzip) ||
                    digest_equal(&f.blobs[0].digest, &zstd));
        assert_int_equal(f.blobs[0].proof, DIFF_CLAIMED);
    }
    assert_int_equal(find_duplicates(txn, &f), 3);
    free(image);
    db_abort(&txn);
}

static void test_limits_of_a_config(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest config = scratch_digest("config");
    struct image *image = image_of(IMAGE_LAYERS_MAX);
    struct found f;

    put_manifest(txn, "more", IMAGE_LAYERS_MAX + 1);
    assert_int_equal(diff_index_config(txn, &config, image), 0);
    assert_int_equal(find(txn, &image->diff_ids[0], &f), 0);
    put_manifest(txn, "most", IMAGE_LAYERS_MAX);
    assert_int_equal(diff_index_config(txn, &config, image), 0);
    assert_int_equal(find(txn, &image->diff_ids[IMAGE_LAYERS_MAX - 1], &f), 1);
    free(image);
    /* Far more manifests of one config than anybody has: some are found. */
    image = image_of(1);
    for (unsigned i = 0; i < 2000; i++) {
        char prefix[16];

        snprintf(prefix, sizeof prefix, "m%u-", i);
        put_manifest(txn, prefix, 1);
    }
    uint64_t before, after;
    assert_int_equal(db_count(txn, DB_DIFFS, &before), 0);
    assert_int_equal(diff_index_config(txn, &config, image), 0);
    assert_int_equal(db_count(txn, DB_DIFFS, &after), 0);
    assert_true(after > before && after <= before + 64);
    free(image);
    db_abort(&txn);
}

static void test_damaged_records(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest content = scratch_digest("content");
    struct digest a = hold(txn, "a", BLOB_PUBLIC, 1), b = hold(txn, "b", BLOB_PUSHED, 2);
    uint8_t key[2 * DIGEST_KEY_MAX + 1];
    size_t len = digest_to_key(&content, key);
    struct digest shown;
    struct found f;

    len += digest_to_key(&a, key + len);
    assert_int_equal(diff_put(txn, &content, &a, DIFF_HASHED), 0);
    assert_int_equal(diff_put(txn, &content, &b, DIFF_HASHED), 0);
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {{"", 0}, {"\1", 1}, {"\2\1", 2}, {"\1\0", 2}, {"\1\3", 2}, {"\1\1\0", 3}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(db_put(txn, DB_DIFFS, key, len, bad[i].bytes, bad[i].len), 0);
        assert_int_equal(find(txn, &content, &f), 1);
        assert_int_equal(find_duplicates(txn, &f), 0);
    }
    assert_int_equal(db_put(txn, DB_DIFFS, key, len - 1, "\1\1", 2), 0);
    assert_int_equal(db_put(txn, DB_DIFFS, key, len + 1, "\1\1", 2), 0);
    assert_int_equal(db_put(txn, DB_DIFFS, key, 5, "\1\1", 2), 0);
    assert_int_equal(find(txn, &content, &f), 1);
    assert_int_equal(find_duplicates(txn, &f), 0);

    len = digest_to_key(&a, key);
    assert_int_equal(db_put(txn, DB_CONTENTS, key, len, "\1\1", 2), 0);
    assert_int_equal(diff_get(txn, &a, &shown), ERR_DAMAGED);
    assert_int_equal(diff_put(txn, &content, &a, DIFF_CLAIMED), 0);
    assert_int_equal(find(txn, &content, &f), 2);
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_content_and_its_blobs),   TEST(test_the_oldest_of_equals_is_kept),
        TEST(test_a_claim_yields_to_a_proof), TEST(test_what_a_config_says),
        TEST(test_limits_of_a_config),        TEST(test_damaged_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
