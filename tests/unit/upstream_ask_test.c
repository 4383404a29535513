/* SPDX-License-Identifier: ISC */
/* Tags, manifests, lists, and whether there is such a blob. */
#include "cache/blob.h"
#include "cache/link.h"
#include "cache/tag.h"
#include "tests/unit/upstream_bed.h"

static const char manifest[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
    "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"size\":2,\"digest\":"
    "\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[]}";
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"

static const struct ask_result *ask(struct bed *b, enum ask_kind kind, const char *reference)
{
    struct name n = name();
    bool created;
    struct asker w = {0};

    ask_unref(&b->ask);
    b->ask = ask_join(b->asks, kind, &n, reference, &nobody, &created);
    assert_true(created);
    upstream_ask(b->upstream, b->ask);
    int64_t end_ms = clock_now_ms() + DEADLINE_MS;
    while (ask_wait(&w, b->ask)) {
        ask_cancel(&w);
        assert_true(clock_now_ms() < end_ms);
        poll(NULL, 0, 1);
    }
    return ask_result(b->ask);
}

static bool tag_is(struct bed *b, const char *tag, const struct digest *d)
{
    struct name n = name();
    struct tag_record r;
    struct db_reader *reader;
    struct db_txn *txn;

    reader = scratch_reader(b->scratch);
    assert_int_equal(db_read(reader, &txn), 0);
    bool same = tag_get(txn, &n, tag, &r) == 0 && digest_equal(&r.digest, d) &&
                r.checked_at_s > 0 && strcmp(r.media_type, MANIFEST_TYPE) == 0 &&
                r.size_bytes == sizeof manifest - 1;
    db_read_end(reader);
    db_reader_free(&reader);
    return same;
}

static bool manifest_is_held(struct bed *b, const struct digest *d)
{
    struct manifest_record r;
    struct db_reader *reader;
    struct db_txn *txn;
    int fd = -1;

    reader = scratch_reader(b->scratch);
    assert_int_equal(db_read(reader, &txn), 0);
    bool held = manifest_get(txn, d, &r) == 0 && strcmp(r.media_type, MANIFEST_TYPE) == 0 &&
                blob_open(b->scratch->store, d, sizeof manifest - 1, &fd) == 0;
    db_read_end(reader);
    db_reader_free(&reader);
    if (fd >= 0)
        close(fd);
    return held;
}

static void test_a_tag_is_asked_for_by_head(void **state)
{
    struct bed *b = *state;
    struct digest d = scratch_digest(manifest);
    char more[256], text[DIGEST_TEXT_MAX];

    start(b, false, "");
    snprintf(more, sizeof more, "Content-Type: " MANIFEST_TYPE "\r\nDocker-Content-Digest: %s\r\n",
             digest_text(&d, text));
    origin_answer(b->origin, head_of(b, 200, sizeof manifest - 1, more), NULL, 0);
    const struct ask_result *r = ask(b, ASK_TAG, "v1");
    assert_int_equal(r->outcome, OUT_MISS);
    assert_true(digest_equal(&r->digest, &d));
    assert_int_equal(r->size_bytes, sizeof manifest - 1);
    assert_string_equal(r->media_type, MANIFEST_TYPE);
    assert_null(r->body);
    assert_true(tag_is(b, "v1", &d));
    assert_true(origin_request_has(b->origin, 0, "HEAD /v2/team/app/manifests/v1 HTTP/1.1"));
    assert_true(origin_request_has(b->origin, 0, "application/vnd.oci.image.index.v1+json"));
}

/* Nobody waits twice for a url that is down. */
static void test_the_url_that_answered_is_asked_first(void **state)
{
    struct bed *b = *state;
    struct digest d = scratch_digest(manifest);
    char more[256], text[DIGEST_TEXT_MAX];

    start(b, true, "retries = 0");
    snprintf(more, sizeof more, "Content-Type: " MANIFEST_TYPE "\r\nDocker-Content-Digest: %s\r\n",
             digest_text(&d, text));
    head_of(b, 200, sizeof manifest - 1, more);
    shutdown(b->origin->listener, SHUT_RDWR);
    for (unsigned i = 0; i < 3; i++) {
        origin_answer(b->second, b->head, NULL, 0);
        assert_int_equal(ask(b, ASK_TAG, "v1")->outcome, OUT_MISS);
    }
    assert_int_equal(origin_asked(b->second), 3);
    assert_int_equal(b->stats.upstream_requests, 4);
}

static void test_a_tag_is_asked_for_by_get_when_head_is_no_use(void **state)
{
    static const char *const heads[] = {
        "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        NULL,
        "HTTP/1.1 200 OK\r\nContent-Type: " MANIFEST_TYPE "\r\nContent-Length: 9\r\n\r\n",
    };
    struct bed *b = *state;
    struct digest d = scratch_digest(manifest);
    char tag[8];

    start(b, false, "retries = 0");
    for (unsigned i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        snprintf(tag, sizeof tag, "v%u", i);
        origin_answer(b->origin, heads[i], NULL, 0);
        origin_answer(b->origin,
                      head_of(b, 200, sizeof manifest - 1,
                              "Content-Type: application/json; charset=utf-8\r\n"),
                      manifest, sizeof manifest - 1);
        const struct ask_result *r = ask(b, ASK_TAG, tag);
        assert_int_equal(r->outcome, OUT_MISS);
        assert_true(digest_equal(&r->digest, &d));
        assert_string_equal(r->media_type, MANIFEST_TYPE);
        assert_int_equal(r->body_len, sizeof manifest - 1);
        assert_memory_equal(r->body, manifest, r->body_len);
        assert_true(tag_is(b, tag, &d));
        assert_true(manifest_is_held(b, &d));
        assert_true(origin_request_has(b->origin, 2 * i + 1, "GET /v2/team/app/manifests/v"));
    }
}

static void test_a_manifest_is_verified_and_stored(void **state)
{
    struct bed *b = *state;
    struct digest d = scratch_digest(manifest);
    char text[DIGEST_TEXT_MAX];

    start(b, false, "retries = 0");
    head_of(b, 200, sizeof manifest - 1, "Content-Type: " MANIFEST_TYPE "\r\n");
    origin_answer(b->origin, b->head, manifest, sizeof manifest - 1);
    const struct ask_result *r = ask(b, ASK_MANIFEST, digest_text(&d, text));
    assert_int_equal(r->outcome, OUT_MISS);
    assert_memory_equal(r->body, manifest, sizeof manifest - 1);
    assert_true(manifest_is_held(b, &d));
    assert_int_equal(b->stats.manifests_stored, 1);

    d = scratch_digest("something else");
    origin_answer(b->origin, b->head, manifest, sizeof manifest - 1);
    r = ask(b, ASK_MANIFEST, digest_text(&d, text));
    assert_int_equal(r->outcome, OUT_BAD_CONTENT);
    assert_null(r->body);
    assert_false(manifest_is_held(b, &d));

    d = scratch_digest("{\"no\":");
    origin_answer(b->origin,
                  "HTTP/1.1 200 OK\r\nContent-Type: " MANIFEST_TYPE "\r\n\r\n{\"no\":", NULL, 0);
    r = ask(b, ASK_MANIFEST, digest_text(&d, text));
    assert_int_equal(r->outcome, OUT_UPSTREAM_BROKEN);
    assert_false(manifest_is_held(b, &d));

    origin_answer(b->origin, "HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\n", NULL, 0);
    r = ask(b, ASK_MANIFEST, text);
    assert_int_equal(r->outcome, OUT_UPSTREAM_BROKEN);
}

static void test_errors_of_questions(void **state)
{
    struct bed *b = *state;
    char text[DIGEST_TEXT_MAX + 8], digest[DIGEST_TEXT_MAX];
    struct digest d = scratch_digest("x");

    start(b, false, "retries = 0");
    origin_answer(b->origin, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    assert_int_equal(ask(b, ASK_TAG, "v1")->outcome, OUT_MANIFEST_UNKNOWN);
    origin_answer(b->origin, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    snprintf(text, sizeof text, "blobs/%s", digest_text(&d, digest));
    assert_int_equal(ask(b, ASK_EXISTS, text)->outcome, OUT_BLOB_UNKNOWN);
    origin_answer(b->origin, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    assert_int_equal(ask(b, ASK_LIST, "tags/list")->outcome, OUT_NAME_UNKNOWN);
    origin_answer(b->origin, "HTTP/1.1 429 No\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n",
                  NULL, 0);
    const struct ask_result *r = ask(b, ASK_TAG, "v1");
    assert_int_equal(r->outcome, OUT_UPSTREAM_LIMITED);
    assert_int_equal(r->retry_after_s, 60);
    assert_non_null(strstr(r->why, "127.0.0.1"));
    assert_int_equal(origin_asked(b->origin), 4);
}

static void test_blobs_and_lists_are_asked_for(void **state)
{
    struct bed *b = *state;
    struct db_reader *reader;
    struct db_txn *txn;
    struct list_record kept;
    char text[DIGEST_TEXT_MAX + 8];
    struct name n = name();

    start(b, false, "");
    origin_answer(b->origin, head_of(b, 200, 12345, ""), NULL, 0);
    snprintf(text, sizeof text, "blobs/%s", b->digest_text);
    const struct ask_result *r = ask(b, ASK_EXISTS, text);
    assert_int_equal(r->outcome, OUT_MISS);
    assert_int_equal(r->size_bytes, 12345);
    origin_answer(b->origin,
                  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                  "Link: </v2/team/app/tags/list?n=1&last=a>; rel=\"next\"\r\n\r\n",
                  "{\"tags\":[\"a\"]}", 14);
    r = ask(b, ASK_LIST, "tags/list?n=1");
    assert_int_equal(r->outcome, OUT_MISS);
    assert_string_equal(r->link, "</v2/team/app/tags/list?n=1&last=a>; rel=\"next\"");
    assert_int_equal(r->body_len, 14);
    reader = scratch_reader(b->scratch);
    assert_int_equal(db_read(reader, &txn), 0);
    assert_int_equal(list_get(txn, &n, "tags/list?n=1", &kept), 0);
    assert_int_equal(kept.body_len, 14);
    assert_string_equal(kept.content_type, "application/json");
    assert_string_equal(kept.link, r->link);
    db_read_end(reader);
    db_reader_free(&reader);
}

static void test_a_stop_ends_questions(void **state)
{
    struct bed *b = *state;
    struct name n = name();
    struct asker w = {0};
    bool created;

    start(b, false, "");
    origin_stall(b->origin, "HTTP/1.1 200 OK\r\n", NULL, 0);
    b->ask = ask_join(b->asks, ASK_TAG, &n, "v1", &nobody, &created);
    upstream_ask(b->upstream, b->ask);
    AWAIT(origin_asked(b->origin) == 1);
    upstream_stop(&b->upstream);
    assert_false(ask_wait(&w, b->ask));
    assert_int_equal(ask_result(b->ask)->outcome, OUT_DRAINING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_url_that_answered_is_asked_first),
        TEST(test_a_tag_is_asked_for_by_head),
        TEST(test_a_tag_is_asked_for_by_get_when_head_is_no_use),
        TEST(test_a_manifest_is_verified_and_stored),
        TEST(test_errors_of_questions),
        TEST(test_blobs_and_lists_are_asked_for),
        TEST(test_a_stop_ends_questions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
