/* SPDX-License-Identifier: ISC */
/* distribution-spec 1.1.1 "Listing Referrers". */
#include "cache/referrer.h"

#include <jansson.h>

#include "cache/err.h"
#include "cache/link.h"
#include "tests/unit/scratch.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define SUBJECT_HEX "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SUBJECT                                                                                    \
    "\"subject\":{\"mediaType\":\"" IMAGE "\",\"digest\":\"sha256:" SUBJECT_HEX "\",\"size\":7}"
#define OTHER_SUBJECT                                                                              \
    "\"subject\":{\"mediaType\":\"a/b\",\"digest\":\"sha512:" SUBJECT_HEX SUBJECT_HEX              \
    "\",\"size\":7}"
#define CONFIG                                                                                     \
    "\"config\":{\"mediaType\":\"x/config\",\"digest\":\"sha256:" SUBJECT_HEX "\",\"size\":2}"

static struct digest put_in(struct db_txn *txn, const char *repository, const char *media_type,
                            const char *text)
{
    struct name n = scratch_local(repository);
    struct digest d = scratch_digest(text);
    struct manifest *m;
    char why[256];

    assert_int_equal(manifest_parse(&m, media_type, text, strlen(text), why, sizeof why), 0);
    assert_int_equal(manifest_put(txn, &n, &d, m, BLOB_PUSHED, strlen(text), 1), 0);
    manifest_free(&m);
    return d;
}

static struct digest put(struct db_txn *txn, const char *media_type, const char *text)
{
    return put_in(txn, "team/app", media_type, text);
}

static struct digest subject_digest(void)
{
    struct digest d;

    assert_int_equal(digest_parse(&d, "sha256:" SUBJECT_HEX, 71), 0);
    return d;
}

struct page {
    json_t *body;
    json_t *manifests;
    char next[DIGEST_TEXT_MAX];
};

/* The body is an image index, and what is said of it is true. */
static struct page read_page(struct referrers *r)
{
    struct page p;
    size_t len;
    char *text = referrers_body(r, &len, p.next);
    json_error_t error;

    assert_int_equal(len, strlen(text));
    assert_true(len <= REFERRERS_BODY_MAX);
    p.body = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(p.body);
    assert_int_equal(json_integer_value(json_object_get(p.body, "schemaVersion")), 2);
    assert_string_equal(json_string_value(json_object_get(p.body, "mediaType")), INDEX);
    p.manifests = json_object_get(p.body, "manifests");
    assert_true(json_is_array(p.manifests));
    free(text);
    referrers_free(&r);
    return p;
}

static struct page list(struct db_txn *txn, const char *type, const char *last, unsigned count)
{
    struct name n = scratch_local("team/app");
    struct digest subject = subject_digest();
    struct referrers *r = referrers_new(type, last, count);

    assert_int_equal(referrers_add_held(r, txn, &n, &subject), 0);
    return read_page(r);
}

static unsigned page_end(struct page *p)
{
    unsigned count = (unsigned)json_array_size(p->manifests);

    json_decref(p->body);
    return count;
}

static const char *member(const struct page *p, size_t i, const char *name)
{
    return json_string_value(json_object_get(json_array_get(p->manifests, i), name));
}

static void expect_member(const struct page *p, size_t i, const char *name, const char *value)
{
    const char *found = member(p, i, name);

    if (value == NULL)
        assert_null(found);
    else
        assert_string_equal(found, value);
}

static void test_nothing(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct page p = list(txn, NULL, NULL, 0);

    assert_string_equal(p.next, "");
    assert_int_equal(page_end(&p), 0);
    db_abort(&txn);
}

static void test_a_descriptor(void **state)
{
    static const char text[] =
        "{\"artifactType\":\"x/sbom\"," SUBJECT ",\"annotations\":{\"org.a\":\"b \\\"c\\\" \\u00e4 "
        "\\u007f\\n\",\"number\":7,\"list\":[\"a\"],\"empty\":\"\"}}";
    struct db_txn *txn = scratch_write(*state);
    struct digest d = put(txn, IMAGE, text);
    char digest[DIGEST_TEXT_MAX];
    struct page p = list(txn, NULL, NULL, 0);
    json_t *only = json_array_get(p.manifests, 0);
    json_t *annotations = json_object_get(only, "annotations");

    assert_int_equal(json_array_size(p.manifests), 1);
    expect_member(&p, 0, "mediaType", IMAGE);
    expect_member(&p, 0, "digest", digest_text(&d, digest));
    expect_member(&p, 0, "artifactType", "x/sbom");
    assert_int_equal(json_integer_value(json_object_get(only, "size")), strlen(text));
    /* A value that is no string would make clients refuse the whole list. */
    assert_int_equal(json_object_size(annotations), 2);
    assert_string_equal(json_string_value(json_object_get(annotations, "org.a")),
                        "b \"c\" \xc3\xa4 \x7f\n");
    assert_string_equal(json_string_value(json_object_get(annotations, "empty")), "");
    assert_int_equal(page_end(&p), 1);
    db_abort(&txn);
}

/* artifactType, else that of the config; of an index without one there is none. */
static void test_artifact_types(void **state)
{
    static const struct {
        const char *media_type;
        const char *text;
        const char *type;
    } rows[] = {
        {IMAGE, "{" CONFIG "," SUBJECT "}", "x/config"},
        {IMAGE, "{\"artifactType\":\"x/own\"," CONFIG "," SUBJECT "}", "x/own"},
        {IMAGE, "{\"artifactType\":\"\"," CONFIG "," SUBJECT "}", "x/config"},
        {INDEX, "{\"artifactType\":\"x/index\",\"manifests\":[]," SUBJECT "}", "x/index"},
        {INDEX, "{\"manifests\":[]," SUBJECT "}", NULL},
        {IMAGE, "{\"artifactType\":\"a \\\"quoted\\\" \\u00fc\"," SUBJECT "}",
         "a \"quoted\" \xc3\xbc"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct db_txn *txn = scratch_write(*state);

        put(txn, rows[i].media_type, rows[i].text);
        struct page p = list(txn, NULL, NULL, 0);

        expect_member(&p, 0, "mediaType", rows[i].media_type);
        expect_member(&p, 0, "artifactType", rows[i].type);
        assert_null(json_object_get(json_array_get(p.manifests, 0), "annotations"));
        assert_int_equal(page_end(&p), 1);
        p = list(txn, rows[i].type != NULL ? rows[i].type : "", NULL, 0);
        assert_int_equal(page_end(&p), 1);
        p = list(txn, "x/other", NULL, 0);
        assert_int_equal(page_end(&p), 0);
        db_abort(&txn);
    }
}

/* Only of this subject, of this repository, and only what is there. */
static void test_what_does_not_belong(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name n = scratch_local("team/app");
    struct digest subject = subject_digest();
    struct page p;

    put(txn, IMAGE, "{" OTHER_SUBJECT "}");
    put_in(txn, "team/other", IMAGE, "{" SUBJECT "}");
    put_in(txn, "team/ap", IMAGE, "{" SUBJECT "}");
    p = list(txn, NULL, NULL, 0);
    assert_int_equal(page_end(&p), 0);

    struct digest gone = put(txn, IMAGE, "{\"a\":1," SUBJECT "}");
    struct digest forgotten = put(txn, IMAGE, "{\"a\":2," SUBJECT "}");
    p = list(txn, NULL, NULL, 0);
    assert_int_equal(page_end(&p), 2);
    assert_int_equal(link_delete(txn, &n, &gone, 2), 0);
    assert_int_equal(referrer_forget(txn, &n, &subject, &forgotten), 0);
    assert_int_equal(referrer_forget(txn, &n, &subject, &forgotten), ERR_NOT_FOUND);
    p = list(txn, NULL, NULL, 0);
    assert_string_equal(p.next, "");
    assert_int_equal(page_end(&p), 0);
    db_abort(&txn);
}

/* Page after page has each once, in the order of the digests. */
static unsigned turn_pages(struct db_txn *txn, const char *type, unsigned size, unsigned *pages)
{
    char last[DIGEST_TEXT_MAX] = "";
    char before[DIGEST_TEXT_MAX] = "";
    unsigned count = 0;

    *pages = 0;
    do {
        struct page p = list(txn, type, last, size);

        assert_true(json_array_size(p.manifests) <= size);
        for (size_t i = 0; i < json_array_size(p.manifests); i++) {
            const char *digest = member(&p, i, "digest");

            assert_true(strcmp(before, digest) < 0);
            strcpy(before, digest);
        }
        assert_true(p.next[0] == '\0' || strcmp(last, p.next) < 0);
        strcpy(last, p.next);
        count += page_end(&p);
        ++*pages;
    } while (last[0] != '\0');
    return count;
}

static void put_many(struct db_txn *txn, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char *text = mem_format("{\"n\":%u,\"artifactType\":\"x/%s\"," SUBJECT "}", i,
                                i % 100 == 0 ? "rare" : "often");

        put(txn, IMAGE, text);
        free(text);
    }
}

static void test_pages(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    unsigned pages;

    put_many(txn, 300);
    assert_int_equal(turn_pages(txn, NULL, 7, &pages), 300);
    assert_int_equal(pages, 43);
    assert_int_equal(turn_pages(txn, NULL, 300, &pages), 300);
    assert_int_equal(pages, 1);
    assert_int_equal(turn_pages(txn, "x/rare", 2, &pages), 3);
    assert_int_equal(pages, 2);
    /* Any text has a place in the order. */
    struct page p = list(txn, NULL, "sha256:", 0);
    assert_int_equal(page_end(&p), 300);
    p = list(txn, NULL, "a", 0);
    assert_int_equal(page_end(&p), 300);
    p = list(txn, NULL, "sha256:zzz", 0);
    assert_int_equal(page_end(&p), 0);
    p = list(txn, NULL, "sha512:", 0);
    assert_int_equal(page_end(&p), 0);
    db_abort(&txn);
}

/* However many there are, an answer has an end, and so has the search for one. */
static void test_many(void **state)
{
    enum { MANY = 20000 };
    struct db_txn *txn = scratch_write(*state);
    unsigned pages;

    put_many(txn, MANY);
    assert_int_equal(turn_pages(txn, NULL, REFERRERS_PAGE_MAX, &pages), MANY);
    assert_int_equal(pages, (MANY + REFERRERS_PAGE_MAX - 1) / REFERRERS_PAGE_MAX);
    assert_int_equal(turn_pages(txn, "x/rare", REFERRERS_PAGE_MAX, &pages), MANY / 100);
    assert_int_equal(pages, 2);
    assert_int_equal(turn_pages(txn, "x/none", REFERRERS_PAGE_MAX, &pages), 0);
    db_abort(&txn);
}

static char *annotated(unsigned number, size_t len)
{
    char *text =
        mem_format("{\"n\":%u," SUBJECT ",\"annotations\":{\"a\":\"%*s\"}}", number, (int)len, "x");

    return text;
}

static void test_large_annotations(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    unsigned pages;

    for (unsigned i = 0; i < 100; i++) {
        char *text = annotated(i, 60000);

        put(txn, IMAGE, text);
        free(text);
    }
    assert_int_equal(turn_pages(txn, NULL, 1000, &pages), 100);
    assert_int_equal(pages, 2);
    db_abort(&txn);

    txn = scratch_write(*state);
    char *text = annotated(1, ANNOTATIONS_MAX);
    put(txn, IMAGE, text);
    struct page p = list(txn, NULL, NULL, 0);
    assert_null(json_object_get(json_array_get(p.manifests, 0), "annotations"));
    assert_int_equal(page_end(&p), 1);
    free(text);
    db_abort(&txn);
}

/* What clients note under the fallback tag comes once, and only what is there. */
static void test_fallback(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct name n = scratch_local("team/app");
    struct digest subject = subject_digest();
    struct digest known = put(txn, IMAGE, "{\"artifactType\":\"x/known\"," SUBJECT "}");
    struct digest noted = put(txn, IMAGE, "{\"artifactType\":\"x/noted\"}");
    struct digest absent = scratch_digest("absent");
    char k[DIGEST_TEXT_MAX], o[DIGEST_TEXT_MAX], a[DIGEST_TEXT_MAX];
    char *index = mem_format(
        "{\"schemaVersion\":2,\"manifests\":["
        "{\"mediaType\":\"x/lie\",\"digest\":\"%s\",\"size\":1,\"artifactType\":\"x/lie\"},"
        "{\"mediaType\":\"x/lie\",\"digest\":\"%s\",\"size\":1,\"artifactType\":\"x/noted\","
        "\"annotations\":{\"a\":\"b\",\"c\":{}}},"
        "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":1},"
        "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":1}]}",
        digest_text(&known, k), digest_text(&noted, o), IMAGE, o, IMAGE, digest_text(&absent, a));
    struct referrers *r = referrers_new(NULL, NULL, 0);

    assert_int_equal(referrers_add_held(r, txn, &n, &subject), 0);
    assert_int_equal(referrers_add_fallback(r, txn, &n, index, strlen(index)), 0);
    assert_int_equal(referrers_add_fallback(r, txn, &n, "{", 1), ERR_INVALID);
    assert_int_equal(referrers_add_fallback(r, txn, &n, "{\"layers\":[{}]}", 15), ERR_INVALID);
    struct page p = read_page(r);
    size_t at = strcmp(k, o) < 0 ? 0 : 1;
    json_t *annotations = json_object_get(json_array_get(p.manifests, 1 - at), "annotations");

    expect_member(&p, at, "digest", k);
    expect_member(&p, at, "mediaType", IMAGE);
    expect_member(&p, at, "artifactType", "x/known");
    expect_member(&p, 1 - at, "digest", o);
    expect_member(&p, 1 - at, "mediaType", IMAGE);
    expect_member(&p, 1 - at, "artifactType", "x/noted");
    assert_int_equal(json_object_size(annotations), 1);
    assert_int_equal(page_end(&p), 2);

    r = referrers_new("x/noted", o, 0);
    assert_int_equal(referrers_add_fallback(r, txn, &n, index, strlen(index)), 0);
    p = read_page(r);
    assert_int_equal(page_end(&p), 0);
    free(index);
    db_abort(&txn);
}

/* With both sources, page by page: each once, none left out. */
static void test_fallback_pages(void **state)
{
    enum { HELD = 40, NOTED = 60 };
    struct db_txn *txn = scratch_write(*state);
    struct name n = scratch_local("team/app");
    struct digest subject = subject_digest();
    char last[DIGEST_TEXT_MAX] = "";
    char *index = malloc(NOTED * 200 + 100);
    char *at = stpcpy(index, "{\"manifests\":[");
    unsigned count = 0;

    put_many(txn, HELD);
    for (unsigned i = 0; i < NOTED; i++) {
        char text[32], digest[DIGEST_TEXT_MAX];

        snprintf(text, sizeof text, "{\"noted\":%u}", i);
        struct digest d = put(txn, IMAGE, text);

        at += sprintf(at, "%s{\"digest\":\"%s\",\"size\":1}", i > 0 ? "," : "",
                      digest_text(&d, digest));
    }
    strcpy(at, "]}");
    do {
        struct referrers *r = referrers_new(NULL, last, 9);

        assert_int_equal(referrers_add_fallback(r, txn, &n, index, strlen(index)), 0);
        assert_int_equal(referrers_add_held(r, txn, &n, &subject), 0);
        struct page p = read_page(r);

        assert_true(json_array_size(p.manifests) <= 9);
        for (size_t i = 0; i < json_array_size(p.manifests); i++)
            assert_true(strcmp(last, member(&p, i, "digest")) < 0);
        strcpy(last, p.next);
        count += page_end(&p);
    } while (last[0] != '\0');
    assert_int_equal(count, HELD + NOTED);
    free(index);
    db_abort(&txn);
}

static size_t record_key(const struct digest *d, uint8_t key[512])
{
    struct name n = scratch_local("team/app");
    struct digest subject = subject_digest();
    size_t len = name_key(&n, (char *)key) + 1;

    len += digest_to_key(&subject, key + len);
    return len + digest_to_key(d, key + len);
}

/* As version 1 wrote them: size, media type, artifact type. */
static void test_old_records(void **state)
{
    static const uint8_t old[] = "\1\7\0\0\0\0\0\0\0\3\0a/b\0\3\0x/y";
    struct db_txn *txn = scratch_write(*state);
    struct digest d = put(txn, IMAGE, "{" SUBJECT "}");
    uint8_t key[512];
    size_t key_len = record_key(&d, key);

    assert_int_equal(db_put(txn, DB_REFERRERS, key, key_len, old, sizeof old), 0);
    struct page p = list(txn, "x/y", NULL, 0);
    expect_member(&p, 0, "mediaType", "a/b");
    expect_member(&p, 0, "artifactType", "x/y");
    assert_int_equal(page_end(&p), 1);
    db_abort(&txn);
}

/* Every cut of a record, and every byte of it changed: the answer stays JSON. */
static void test_damaged_records(void **state)
{
    struct db_txn *txn = scratch_write(*state);
    struct digest d = put(txn, IMAGE, "{" SUBJECT ",\"annotations\":{\"a\":\"b\"}}");
    struct db_value value;
    uint8_t key[512], bytes[512];
    size_t key_len = record_key(&d, key);

    assert_int_equal(db_get(txn, DB_REFERRERS, key, key_len, &value), 0);
    size_t len = value.size;

    assert_true(len <= sizeof bytes);
    memcpy(bytes, value.data, len);
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(db_put(txn, DB_REFERRERS, key, key_len, bytes, cut), 0);
        struct page p = list(txn, NULL, NULL, 0);
        assert_int_equal(page_end(&p), 0);
    }
    for (size_t i = 0; i < len; i++) {
        bytes[i] ^= 0x5f;
        assert_int_equal(db_put(txn, DB_REFERRERS, key, key_len, bytes, len), 0);
        bytes[i] ^= 0x5f;
        struct page p = list(txn, NULL, NULL, 0);
        assert_true(page_end(&p) <= 1);
    }
    db_abort(&txn);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing),
        TEST(test_a_descriptor),
        TEST(test_artifact_types),
        TEST(test_what_does_not_belong),
        TEST(test_pages),
        TEST(test_many),
        TEST(test_large_annotations),
        TEST(test_fallback),
        TEST(test_fallback_pages),
        TEST(test_old_records),
        TEST(test_damaged_records),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
