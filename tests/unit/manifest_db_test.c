/* SPDX-License-Identifier: ISC */
#include "cache/blob.h"
#include "cache/check.h"
#include "cache/err.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "cache/record.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define FOREIGN "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
#define NOW_S 1700000000

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define DIGEST_A "\"digest\":\"sha256:" HEX_A "\""
#define DIGEST_B "\"digest\":\"sha256:" HEX_B "\""
#define CHILD_98 "{" DIGEST_A ",\"size\":98}"
#define CHILD_99 "{" DIGEST_A ",\"size\":99}"

static struct digest put(struct db_txn *txn, const char *media_type, const char *text)
{
    struct name n = scratch_name("mcr.microsoft.com", "windows/servercore");
    struct digest d = scratch_digest(text);
    struct manifest *m;
    char why[256];

    assert_int_equal(manifest_parse(&m, media_type, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUBLIC, strlen(text), NOW_S), 0);
    manifest_free(&m);
    return d;
}

static int visit_append(void *arg, const struct manifest_child *child)
{
    char *seen = arg;
    size_t len = strlen(seen);

    snprintf(seen + len, 512 - len, "%d %02x %llu %s\n", child->role, child->digest.bytes[0],
             (unsigned long long)child->size_bytes, child->platform);
    return child->size_bytes == 99 ? 42 : 0;
}

static void expect_children(struct db_txn *txn, const struct digest *d, const char *expected,
                            int result)
{
    char seen[512] = "";

    assert_int_equal(manifest_walk(txn, d, visit_append, seen), result);
    assert_string_equal(seen, expected);
}

/* Of the urls each counts once, and only for the registry whose manifest says so. */
static void test_foreign_urls(void **state)
{
    static const char text[] =
        "{\"config\":{" DIGEST_A ",\"size\":7},\"layers\":["
        "{" DIGEST_B ",\"size\":1700000000,\"mediaType\":\"" FOREIGN "\","
        "\"urls\":[\"https://one/x\",\"https://two/y\",\"https://one/x\"]}]}";
    struct foreign_urls urls;
    struct digest a, b;
    struct db_txn *txn = scratch_write(*state);

    put(txn, IMAGE, text);
    assert_int_equal(digest_parse(&a, "sha256:" HEX_A, 71), 0);
    assert_int_equal(digest_parse(&b, "sha256:" HEX_B, 71), 0);
    assert_int_equal(foreign_urls_get(txn, "mcr.microsoft.com", &b, &urls), 0);
    assert_int_equal(urls.count, 2);
    assert_string_equal(urls.urls[0], "https://one/x");
    assert_string_equal(urls.urls[1], "https://two/y");
    foreign_urls_clear(&urls);
    assert_int_equal(foreign_urls_get(txn, "mcr.microsoft.com", &a, &urls), ERR_NOT_FOUND);
    assert_int_equal(foreign_urls_get(txn, "mcr.microsoft.co", &b, &urls), ERR_NOT_FOUND);
    assert_int_equal(foreign_urls_get(txn, "evil.test", &b, &urls), ERR_NOT_FOUND);
    db_abort(&txn);
}

static void test_image(void **state)
{
    static const char text[] = "{\"config\":{" DIGEST_A ",\"size\":7},\"layers\":["
                               "{" DIGEST_B ",\"size\":1700000000,\"mediaType\":\"" FOREIGN "\","
                               "\"urls\":[\"https://one/x\",\"https://two/y\"]},"
                               "{" DIGEST_B ",\"size\":8,\"mediaType\":\"a/b\","
                               "\"urls\":[\"https://three\"]}]}";
    struct name n = scratch_name("mcr.microsoft.com", "windows/servercore");
    struct name other = scratch_name("mcr.microsoft.com", "windows/nanoserver");
    struct manifest_record r;
    struct blob_record blob;
    struct digest child;
    uint64_t value;
    struct db_txn *txn = scratch_write(*state);
    struct digest d = put(txn, IMAGE, text);

    assert_int_equal(manifest_get(txn, &d, &r), 0);
    assert_int_equal(r.size_bytes, strlen(text));
    assert_false(r.is_index);
    assert_string_equal(r.media_type, IMAGE);
    assert_int_equal(blob_get(txn, &d, &blob), 0);
    assert_int_equal(blob.origin, BLOB_PUBLIC);
    assert_int_equal(blob.size_bytes, strlen(text));
    assert_int_equal(blob.stored_at_s, NOW_S);
    assert_int_equal(link_get(txn, &n, &d), 0);
    assert_int_equal(link_get(txn, &other, &d), ERR_NOT_FOUND);
    assert_int_equal(digest_parse(&child, "sha256:" HEX_A, 71), 0);
    assert_int_equal(source_get(txn, &child, &n, &value), 0);
    assert_int_equal(value, 7);
    assert_int_equal(source_get(txn, &child, &other, &value), ERR_NOT_FOUND);
    assert_int_equal(link_get(txn, &n, &child), ERR_NOT_FOUND);
    assert_int_equal(db_count(txn, DB_URLS, &value), 0);
    assert_int_equal(value, 2);
    assert_int_equal(db_count(txn, DB_REFERRERS, &value), 0);
    assert_int_equal(value, 0);
    expect_children(txn, &d, "1 aa 7 \n2 bb 1700000000 \n2 bb 8 \n", 0);
    db_abort(&txn);
}

static void expect_platform(struct db_txn *txn, const char *platform, const char *expected)
{
    char *text =
        mem_format("{\"manifests\":[{" DIGEST_A ",\"size\":1,\"platform\":%s}]}", platform);
    char *seen = mem_format("0 aa 1 %s\n", expected);
    struct digest d = put(txn, INDEX, text);
    struct manifest_record r;

    assert_int_equal(manifest_get(txn, &d, &r), 0);
    assert_true(r.is_index);
    expect_children(txn, &d, seen, 0);
    free(text);
    free(seen);
}

static void test_platforms(void **state)
{
    static const struct {
        const char *platform;
        const char *expected;
    } rows[] = {
        {"{\"os\":\"windows\",\"architecture\":\"amd64\",\"os.version\":\"10.0.20348.2527\"}",
         "windows/amd64:10.0.20348.2527"},
        {"{\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"}", "linux/arm/v7"},
        {"{\"os\":\"a\",\"architecture\":\"b\",\"variant\":\"c\",\"os.version\":\"d\"}", "a/b/c:d"},
        {"{\"os\":\"unknown\",\"architecture\":\"unknown\",\"variant\":\"\"}", "unknown/unknown"},
        {"null", ""},
        {"7", ""},
        {"{\"os\":\"linux\"}", ""},
        {"{\"os\":\"a/b\",\"architecture\":\"c\"}", ""},
        {"{\"os\":\"\\u001b[2J\",\"architecture\":\"c\"}", ""},
        {"{\"os\":\"linux\",\"architecture\":\"x\",\"variant\":\"" HEX_A HEX_A "\"}", ""},
    };
    struct db_txn *txn = scratch_write(*state);

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect_platform(txn, rows[i].platform, rows[i].expected);
    }
    db_abort(&txn);
}

static void test_walk_ends_early(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest d = put(txn, INDEX, "{\"manifests\":[" CHILD_98 "," CHILD_99 "," CHILD_98 "]}");
    struct digest unknown = scratch_digest("unknown");

    expect_children(txn, &d, "0 aa 98 \n0 aa 99 \n", 42);
    expect_children(txn, &unknown, "", ERR_NOT_FOUND);
    db_abort(&txn);
}

static void test_referrer(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    uint64_t count;

    put(txn, IMAGE, "{\"artifactType\":\"x/y\",\"subject\":" CHILD_98 "}");
    assert_int_equal(db_count(txn, DB_REFERRERS, &count), 0);
    assert_int_equal(count, 1);
    put(txn, IMAGE, "{\"artifactType\":\"" HEX_A HEX_B HEX_A "\",\"subject\":" CHILD_98 "}");
    assert_int_equal(db_count(txn, DB_REFERRERS, &count), 0);
    assert_int_equal(count, 2);
    db_abort(&txn);
}

/* The subject is part of the record: who deletes the manifest must find its referrer. */
static void test_subject(void **state)
{
    static const char text[] = "{\"subject\":" CHILD_98 "}";
    struct db_txn *txn = scratch_write(*state);
    struct digest with = put(txn, IMAGE, text), without = put(txn, IMAGE, "{}");
    struct manifest_record r;

    assert_int_equal(manifest_get(txn, &with, &r), 0);
    assert_int_equal(r.subject.alg, DIGEST_SHA256);
    assert_int_equal(r.subject.bytes[0], 0xaa);
    assert_int_equal(manifest_get(txn, &without, &r), 0);
    assert_int_equal(r.subject.alg, 0);
    db_abort(&txn);
}

/* As version 1 wrote them: size, is_index, media type, children. */
static void test_old_records(void **state)
{
    static const uint8_t old[] = "\1\7\0\0\0\0\0\0\0\0\3\0a/b\0\1\0\0\0\2";
    struct db_txn *txn = scratch_write(*state);
    struct digest d = put(txn, INDEX, "{}");
    uint8_t key[DIGEST_KEY_MAX];
    uint8_t bytes[sizeof old + 64] = {0};
    struct manifest_record r;
    struct record_out child;

    memcpy(bytes, old, sizeof old - 1);
    record_start(&child, bytes + sizeof old - 1, sizeof bytes - sizeof old + 1, DIGEST_SHA256);
    record_put_bytes(&child, d.bytes, digest_size(&d));
    record_put_u64(&child, 98);
    record_put_text(&child, "a/b");
    assert_int_equal(record_finish(&child), 0);
    assert_int_equal(
        db_put(txn, DB_MANIFESTS, key, digest_to_key(&d, key), bytes, sizeof old - 1 + child.len),
        0);
    assert_int_equal(manifest_get(txn, &d, &r), 0);
    assert_int_equal(r.size_bytes, 7);
    assert_string_equal(r.media_type, "a/b");
    assert_int_equal(r.subject.alg, 0);
    char *seen = mem_format("2 %02x 98 a/b\n", d.bytes[0]);
    expect_children(txn, &d, seen, 0);
    free(seen);
    db_abort(&txn);
}

static void test_the_more_open_origin_stays(void **state)
{
    static const struct blob_record private = {
        .size_bytes = 2, .origin = BLOB_PRIVATE, .stored_at_s = 5, .used_at_s = 6};
    struct db_txn *txn = scratch_write(*state);
    struct digest d = scratch_digest("{}");
    struct blob_record r;

    assert_int_equal(blob_put(txn, &d, &private), 0);
    put(txn, IMAGE, "{}");
    assert_int_equal(blob_get(txn, &d, &r), 0);
    assert_int_equal(r.origin, BLOB_PUBLIC);
    assert_int_equal(r.stored_at_s, 5);
    assert_int_equal(blob_put(txn, &d, &private), 0);
    assert_int_equal(blob_get(txn, &d, &r), 0);
    assert_int_equal(r.origin, BLOB_PUBLIC);
    db_abort(&txn);
}

static void test_a_large_index(void **state)
{
    enum { COUNT = 20000 };
    char *text = malloc(COUNT * 128);
    char *at = stpcpy(text, "{\"manifests\":[");
    struct db_txn *txn = scratch_write(*state);
    struct manifest_record r;
    uint64_t count;

    for (unsigned i = 0; i < COUNT; i++) {
        at += sprintf(at, "%s{\"digest\":\"sha256:%064x\",\"size\":%u}", i > 0 ? "," : "", i, i);
    }
    strcpy(at, "]}");
    struct digest d = put(txn, INDEX, text);

    assert_int_equal(manifest_get(txn, &d, &r), 0);
    assert_int_equal(db_count(txn, DB_SOURCES, &count), 0);
    assert_int_equal(count, COUNT);
    db_abort(&txn);
    free(text);
}

/* Every cut of a record, and every byte of it changed, is read or refused. */
static void test_damaged_records(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest d = put(txn, INDEX, "{\"manifests\":[" CHILD_98 "]}");
    struct db_value value;
    struct manifest_record r;
    uint8_t key[DIGEST_KEY_MAX];
    uint8_t bytes[512];
    size_t key_len = digest_to_key(&d, key);

    assert_int_equal(db_get(txn, DB_MANIFESTS, key, key_len, &value), 0);
    size_t len = value.size;

    assert_true(len <= sizeof bytes);
    memcpy(bytes, value.data, len);
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(db_put(txn, DB_MANIFESTS, key, key_len, bytes, cut), 0);
        expect_children(txn, &d, "", ERR_DAMAGED);
    }
    for (size_t i = 0; i < len; i++) {
        char seen[512] = "";

        bytes[i] ^= 0xff;
        assert_int_equal(db_put(txn, DB_MANIFESTS, key, key_len, bytes, len), 0);
        bytes[i] ^= 0xff;
        int err = manifest_get(txn, &d, &r);

        assert_true(err == 0 || err == ERR_DAMAGED);
        err = manifest_walk(txn, &d, visit_append, seen);
        assert_true(err == 0 || err == ERR_DAMAGED);
    }
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_image),           TEST(test_platforms),     TEST(test_walk_ends_early),
        TEST(test_referrer),        TEST(test_a_large_index), TEST(test_the_more_open_origin_stays),
        TEST(test_damaged_records), TEST(test_foreign_urls),  TEST(test_subject),
        TEST(test_old_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
