/* SPDX-License-Identifier: ISC */
#include "proxy/upstream.h"

#include "cache/blob.h"
#include "cache/link.h"
#include "cache/partial.h"
#include "cache/tag.h"
#include "proxy/outcome.h"
#include "proxy/thread.h"
#include "tests/unit/origin.h"

#define DEADLINE_MS 20000
#define BODY_BYTES (2u * 1024 * 1024)

static const char manifest[] =
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
    "\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"size\":2,\"digest\":"
    "\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[]}";
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"

struct bed {
    struct scratch *scratch;
    struct stats stats;
    struct storage *storage;
    struct fetch_table *fetches;
    struct ask_table *asks;
    struct config *config;
    struct upstream *upstream;
    struct origin *origin;
    struct origin *second;
    struct fetch *fetch;
    struct ask *ask;
    uint8_t *body;
    struct digest digest; /* of the body */
    char head[512];
    char digest_text[DIGEST_TEXT_MAX];
};

static struct name name(void)
{
    return scratch_name("reg.test", "team/app");
}

/* Start with urls of both origins, or the first. */
static void start(struct bed *b, bool with_second, const char *options)
{
    char text[512];

    int len = snprintf(text, sizeof text, "[upstream reg.test]\nurl = http://127.0.0.1:%u\n%s\n",
                       b->origin->port, options);
    if (with_second)
        len = snprintf(text, sizeof text,
                       "[upstream reg.test]\nurl = http://127.0.0.1:%u http://127.0.0.1:%u\n%s\n",
                       b->origin->port, b->second->port, options);
    FILE *in = fmemopen(text, (size_t)len, "r");
    assert_non_null(in);
    assert_int_equal(config_load_stream(&b->config, "test", in, stderr), 0);
    fclose(in);
    struct upstream_parts parts = {
        .store = b->scratch->store,
        .storage = b->storage,
        .fetches = b->fetches,
        .asks = b->asks,
        .stats = &b->stats,
    };
    b->upstream = upstream_start(&parts, b->config);
}

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);
    void *scratch;
    uint32_t x = 7;

    assert_non_null(b);
    scratch_setup(&scratch);
    b->scratch = scratch;
    stats_add_registry(&b->stats, "reg.test");
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
    b->fetches = fetch_table_new();
    b->asks = ask_table_new();
    b->origin = origin_start();
    b->second = origin_start();
    b->body = malloc(BODY_BYTES);
    assert_non_null(b->body);
    for (size_t i = 0; i < BODY_BYTES; i++) {
        x = x * 1664525 + 1013904223;
        b->body[i] = (uint8_t)(x >> 24);
    }
    digest_of(DIGEST_SHA256, b->body, BODY_BYTES, &b->digest);
    digest_text(&b->digest, b->digest_text);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;
    void *scratch = b->scratch;

    fetch_unref(&b->fetch);
    ask_unref(&b->ask);
    upstream_stop(&b->upstream);
    storage_stop(&b->storage);
    origin_stop(b->origin);
    origin_stop(b->second);
    fetch_table_free(&b->fetches);
    ask_table_free(&b->asks);
    config_unref(&b->config);
    scratch_teardown(&scratch);
    free(b->body);
    free(b);
    return 0;
}

/* A condition that other threads make true, without a callback for it. */
#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        int64_t end_ms = clock_now_ms() + DEADLINE_MS;                                             \
        while (!(condition)) {                                                                     \
            if (clock_now_ms() > end_ms)                                                           \
                fail_msg("waited in vain for %s", #condition);                                     \
            poll(NULL, 0, 1);                                                                      \
        }                                                                                          \
    } while (0)

/* --- blobs --- */

static struct fetch_view view(struct bed *b)
{
    struct fetch_view v;

    fetch_look(b->fetch, &v);
    return v;
}

static void fetch(struct bed *b, uint64_t size_bytes)
{
    struct name n = name();
    bool created;

    fetch_unref(&b->fetch);
    b->fetch = fetch_join(b->fetches, &b->digest, NULL, &created);
    assert_true(created);
    upstream_fetch(b->upstream, b->fetch, &n, size_bytes);
}

static void expect_stored(struct bed *b)
{
    struct db_reader *reader;
    struct db_txn *txn;
    struct blob_record r;
    int fd;

    AWAIT(view(b).state >= FETCH_VERIFIED);
    if (view(b).state == FETCH_FAILED) {
        struct fetch_failure why;
        fetch_why(b->fetch, &why);
        fail_msg("the fetch failed: %s", why.text);
    }
    AWAIT(fetch_table_count(b->fetches) == 0);
    assert_int_equal(db_reader_new(store_db(b->scratch->store), &reader), 0);
    assert_int_equal(db_read(reader, &txn), 0);
    assert_int_equal(blob_get(txn, &b->digest, &r), 0);
    assert_int_equal(r.size_bytes, BODY_BYTES);
    db_read_end(reader);
    db_reader_free(&reader);
    assert_int_equal(blob_open(b->scratch->store, &b->digest, BODY_BYTES, &fd), 0);
    close(fd);
}

static struct fetch_failure expect_failed(struct bed *b, enum outcome o)
{
    struct fetch_failure why;

    AWAIT(view(b).state >= FETCH_VERIFIED);
    assert_int_equal(view(b).state, FETCH_FAILED);
    fetch_why(b->fetch, &why);
    if (why.code != (int)o)
        fail_msg("%s: %s", outcome_row((enum outcome)why.code)->word, why.text);
    AWAIT(fetch_table_count(b->fetches) == 0);
    return why;
}

/* A head with a Content-Length; one at a time. */
static const char *head_of(struct bed *b, int status, size_t length, const char *more)
{
    snprintf(b->head, sizeof b->head, "HTTP/1.1 %d Answer\r\nContent-Length: %zu\r\n%s\r\n", status,
             length, more);
    return b->head;
}

#define HALF (BODY_BYTES / 2 + 11)
#define RANGE_HEAD(first)                                                                          \
    "HTTP/1.1 206 Partial\r\nContent-Range: bytes " first "-2097151/2097152\r\n\r\n"

static void test_a_blob_comes(void **state)
{
    struct bed *b = *state;

    start(b, false, "");
    origin_answer(b->origin, head_of(b, 200, BODY_BYTES, ""), b->body, BODY_BYTES);
    fetch(b, UINT64_MAX);
    expect_stored(b);
    assert_int_equal(origin_asked(b->origin), 1);
    assert_true(origin_request_has(b->origin, 0, "GET /v2/team/app/blobs/sha256:"));
    assert_true(origin_request_has(b->origin, 0, "Accept-Encoding: identity\r\n"));
    assert_true(origin_request_has(b->origin, 0, "User-Agent: cachalot/"));
    assert_false(origin_request_has(b->origin, 0, "Range:"));
    assert_int_equal(b->stats.upstream_requests, 1);
    assert_int_equal(b->stats.upstream_bytes, BODY_BYTES);
    assert_int_equal(b->stats.registries[0].line_bytes, BODY_BYTES);
}

static void test_a_body_without_length(void **state)
{
    struct bed *b = *state;

    start(b, false, "");
    origin_answer(b->origin, "HTTP/1.1 200 OK\r\n\r\n", b->body, BODY_BYTES);
    fetch(b, UINT64_MAX);
    expect_stored(b);
}

static void test_a_broken_body_is_continued(void **state)
{
    struct bed *b = *state;

    start(b, false, "");
    origin_answer(b->origin, head_of(b, 200, BODY_BYTES, ""), b->body, HALF);
    origin_answer(b->origin, RANGE_HEAD("1048587"), b->body + HALF, BODY_BYTES - HALF);
    fetch(b, BODY_BYTES);
    expect_stored(b);
    assert_true(origin_request_has(b->origin, 1, "Range: bytes=1048587-\r\n"));
    assert_int_equal(b->stats.upstream_resumes, 1);
}

static void test_a_range_answered_with_the_whole(void **state)
{
    struct bed *b = *state;

    start(b, false, "");
    origin_answer(b->origin, head_of(b, 200, BODY_BYTES, ""), b->body, HALF);
    origin_answer(b->origin, b->head, b->body, BODY_BYTES);
    fetch(b, BODY_BYTES);
    expect_stored(b);
    assert_int_equal(origin_asked(b->origin), 2);
}

static void test_a_range_answered_with_another(void **state)
{
    struct bed *b = *state;

    start(b, false, "");
    origin_answer(b->origin, head_of(b, 200, BODY_BYTES, ""), b->body, HALF);
    origin_answer(b->origin, RANGE_HEAD("1048586"), b->body + HALF, BODY_BYTES - HALF);
    origin_answer(b->origin, b->head, b->body, BODY_BYTES);
    fetch(b, BODY_BYTES);
    expect_stored(b);
    assert_int_equal(origin_asked(b->origin), 3);
    assert_false(origin_request_has(b->origin, 2, "Range:"));
}

static void test_a_kept_partial_that_is_too_long(void **state)
{
    struct bed *b = *state;
    struct partial_record r = {.size_bytes = 2 * BODY_BYTES};
    struct db_txn *txn;
    struct partial *p;
    uint64_t kept;

    storage_stop(&b->storage);
    txn = scratch_write(b->scratch);
    assert_int_equal(partial_put(txn, &b->digest, &r), 0);
    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(partial_open(b->scratch->store, &b->digest, &p, &kept), 0);
    assert_int_equal(partial_write(p, b->body, BODY_BYTES, 0), 0);
    assert_int_equal(partial_write(p, b->body, 5, BODY_BYTES), 0);
    partial_close(&p);
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
    start(b, false, "");
    origin_answer(b->origin, "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    origin_answer(b->origin, head_of(b, 200, BODY_BYTES, ""), b->body, BODY_BYTES);
    fetch(b, UINT64_MAX);
    expect_stored(b);
    assert_true(origin_request_has(b->origin, 0, "Range: bytes=2097157-\r\n"));
    assert_false(origin_request_has(b->origin, 1, "Range:"));
}

static void test_errors_of_a_blob_have_their_outcome(void **state)
{
    static const struct {
        const char *head;
        enum outcome outcome;
    } rows[] = {
        {"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", OUT_BLOB_UNKNOWN},
        {"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", OUT_UPSTREAM_DENIED},
        {"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", OUT_UPSTREAM_DENIED},
        {"HTTP/1.1 429 No\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n", OUT_UPSTREAM_LIMITED},
        {"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", OUT_UPSTREAM_ERROR},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", OUT_BAD_CONTENT},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", OUT_UPSTREAM_BROKEN},
        {"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-4/5\r\n\r\n", OUT_UPSTREAM_BROKEN},
        {"HTTP/1.1 204 OK\r\n\r\n", OUT_UPSTREAM_BROKEN},
        {"SSH-2.0-OpenSSH\r\n", OUT_UPSTREAM_BROKEN},
        {NULL, OUT_UPSTREAM_BROKEN},
        {"HTTP/1.1 302 Go\r\nContent-Length: 0\r\n\r\n", OUT_UPSTREAM_BROKEN},
        {"HTTP/1.1 302 Go\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
         OUT_UPSTREAM_BROKEN},
        {"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.2/x\r\nContent-Length: 0\r\n\r\n",
         OUT_UPSTREAM_BROKEN},
        {"HTTP/1.1 302 Go\r\nLocation: http://localhost/x\r\nContent-Length: 0\r\n\r\n",
         OUT_UPSTREAM_BROKEN},
        {"HTTP/1.1 302 Go\r\nLocation: http://169.254.169.254/x\r\nContent-Length: 0\r\n\r\n",
         OUT_UPSTREAM_BROKEN},
        {"HTTP/1.1 302 Go\r\nLocation: http://a:b@127.0.0.1/x\r\nContent-Length: 0\r\n\r\n",
         OUT_UPSTREAM_BROKEN},
    };
    struct bed *b = *state;

    start(b, false, "retries = 0");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        origin_answer(b->origin, rows[i].head, NULL, 0);
        fetch(b, BODY_BYTES);
        struct fetch_failure why = expect_failed(b, rows[i].outcome);
        assert_int_equal(why.retry_after_s, rows[i].outcome == OUT_UPSTREAM_LIMITED ? 77 : 0);
        assert_int_equal(origin_asked(b->origin), i + 1);
    }
    assert_int_equal(b->stats.upstream_bytes, 0);
}

static void test_wrong_and_over_long_bodies_never_end(void **state)
{
    struct bed *b = *state;

    uint8_t *wrong = malloc(BODY_BYTES);

    assert_non_null(wrong);
    memcpy(wrong, b->body, BODY_BYTES);
    wrong[100] ^= 1;
    start(b, false, "retries = 0");
    origin_answer(b->origin, head_of(b, 200, BODY_BYTES, ""), wrong, BODY_BYTES);
    fetch(b, BODY_BYTES);
    expect_failed(b, OUT_BAD_CONTENT);
    origin_answer(b->origin, "HTTP/1.1 200 OK\r\n\r\n", b->body, BODY_BYTES);
    fetch(b, BODY_BYTES - 1);
    expect_failed(b, OUT_BAD_CONTENT);
    assert_int_equal(b->stats.verify_failures, 2);
    assert_int_equal(b->stats.blobs_stored, 0);
    free(wrong);
}

static void test_errors_that_pass_are_tried_again(void **state)
{
    struct bed *b = *state;

    start(b, false, "retries = 3");
    origin_answer(b->origin, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    origin_answer(b->origin, NULL, NULL, 0);
    origin_answer(b->origin, head_of(b, 200, BODY_BYTES, ""), b->body, BODY_BYTES);
    fetch(b, BODY_BYTES);
    expect_stored(b);
    assert_int_equal(origin_asked(b->origin), 3);
}

static void test_a_stall_is_given_up(void **state)
{
    struct bed *b = *state;

    start(b, false, "retries = 1\nstall-timeout = 1s");
    origin_stall(b->origin, head_of(b, 200, BODY_BYTES, ""), b->body, HALF);
    origin_stall(b->origin, RANGE_HEAD("1048587"), b->body + HALF, 100);
    fetch(b, BODY_BYTES);
    expect_failed(b, OUT_UPSTREAM_TIMEOUT);
    assert_int_equal(origin_asked(b->origin), 2);
}

static void test_redirects_within_the_host_are_followed(void **state)
{
    struct bed *b = *state;
    char location[128];

    start(b, false, "retries = 0");
    snprintf(location, sizeof location,
             "HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:%u/signed?x=1\r\n"
             "Content-Length: 3\r\n\r\nbye",
             b->second->port);
    origin_answer(b->origin, "HTTP/1.1 302 Go\r\nLocation: ../elsewhere\r\n\r\n", NULL, 0);
    origin_answer(b->origin, location, NULL, 0);
    origin_answer(b->second, head_of(b, 200, BODY_BYTES, ""), b->body, HALF);
    origin_answer(b->second, b->head, b->body, BODY_BYTES);
    fetch(b, BODY_BYTES);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_true(origin_request_has(b->origin, 1, "GET /v2/team/app/elsewhere HTTP/1.1"));
    assert_true(origin_request_has(b->second, 0, "GET /signed?x=1 HTTP/1.1"));
    /* The signed url is not used twice: a resume begins at the registry. */
    origin_answer(b->origin, location, NULL, 0);
    fetch(b, BODY_BYTES);
    expect_stored(b);
    assert_true(origin_request_has(b->origin, 2, "/blobs/sha256:"));
    assert_true(origin_request_has(b->second, 1, "Range: bytes=1048587-\r\n"));
}

static void test_redirects_without_end(void **state)
{
    struct bed *b = *state;

    start(b, false, "retries = 0");
    for (unsigned i = 0; i < 8; i++)
        origin_answer(b->origin, "HTTP/1.1 308 Go\r\nLocation: /again\r\n\r\n", NULL, 0);
    fetch(b, BODY_BYTES);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_int_equal(origin_asked(b->origin), 6);
}

static void test_the_next_url_is_asked(void **state)
{
    struct bed *b = *state;

    start(b, true, "retries = 0");
    origin_answer(b->origin, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    origin_answer(b->second, head_of(b, 200, BODY_BYTES, ""), b->body, BODY_BYTES);
    fetch(b, BODY_BYTES);
    expect_stored(b);
}

static void test_not_found_is_what_all_urls_say(void **state)
{
    struct bed *b = *state;

    start(b, true, "retries = 0");
    origin_answer(b->origin, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    origin_answer(b->second, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    fetch(b, BODY_BYTES);
    expect_failed(b, OUT_UPSTREAM_ERROR);
    origin_answer(b->origin, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    origin_answer(b->second, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    fetch(b, BODY_BYTES);
    expect_failed(b, OUT_UPSTREAM_ERROR);
    origin_answer(b->origin, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    origin_answer(b->second, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    fetch(b, BODY_BYTES);
    expect_failed(b, OUT_BLOB_UNKNOWN);
}

static void test_refused_and_unknown_upstreams(void **state)
{
    struct bed *b = *state;
    struct name n = scratch_name("other.test", "team/app");
    bool created;

    start(b, false, "retries = 0");
    shutdown(b->origin->listener, SHUT_RDWR);
    fetch(b, BODY_BYTES);
    expect_failed(b, OUT_UPSTREAM_REFUSED);
    fetch_unref(&b->fetch);
    b->fetch = fetch_join(b->fetches, &b->digest, NULL, &created);
    upstream_fetch(b->upstream, b->fetch, &n, BODY_BYTES);
    expect_failed(b, OUT_NAME_UNKNOWN);
}

static void test_a_stop_keeps_what_has_come(void **state)
{
    struct bed *b = *state;

    start(b, false, "");
    origin_stall(b->origin, head_of(b, 200, BODY_BYTES, ""), b->body, HALF);
    fetch(b, BODY_BYTES);
    AWAIT(view(b).sendable_bytes == HALF);
    upstream_stop(&b->upstream);
    expect_failed(b, OUT_DRAINING);
    config_unref(&b->config);
    start(b, false, "");
    origin_answer(b->origin, RANGE_HEAD("1048587"), b->body + HALF, BODY_BYTES - HALF);
    fetch(b, BODY_BYTES);
    expect_stored(b);
}

/* --- questions --- */

static const struct ask_result *ask(struct bed *b, enum ask_kind kind, const char *reference)
{
    struct name n = name();
    bool created;
    struct asker w = {0};

    ask_unref(&b->ask);
    b->ask = ask_join(b->asks, kind, &n, reference, &created);
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

    assert_int_equal(db_reader_new(store_db(b->scratch->store), &reader), 0);
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

    assert_int_equal(db_reader_new(store_db(b->scratch->store), &reader), 0);
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
    char text[DIGEST_TEXT_MAX];
    struct digest d = scratch_digest("x");

    start(b, false, "retries = 0");
    origin_answer(b->origin, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    assert_int_equal(ask(b, ASK_TAG, "v1")->outcome, OUT_MANIFEST_UNKNOWN);
    origin_answer(b->origin, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0);
    assert_int_equal(ask(b, ASK_BLOB, digest_text(&d, text))->outcome, OUT_BLOB_UNKNOWN);
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
    struct name n = name();

    start(b, false, "");
    origin_answer(b->origin, head_of(b, 200, 12345, ""), NULL, 0);
    const struct ask_result *r = ask(b, ASK_BLOB, b->digest_text);
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
    assert_int_equal(db_reader_new(store_db(b->scratch->store), &reader), 0);
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
    b->ask = ask_join(b->asks, ASK_TAG, &n, "v1", &created);
    upstream_ask(b->upstream, b->ask);
    AWAIT(origin_asked(b->origin) == 1);
    upstream_stop(&b->upstream);
    assert_false(ask_wait(&w, b->ask));
    assert_int_equal(ask_result(b->ask)->outcome, OUT_DRAINING);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_blob_comes),
        TEST(test_a_body_without_length),
        TEST(test_a_broken_body_is_continued),
        TEST(test_a_range_answered_with_the_whole),
        TEST(test_a_range_answered_with_another),
        TEST(test_a_kept_partial_that_is_too_long),
        TEST(test_errors_of_a_blob_have_their_outcome),
        TEST(test_wrong_and_over_long_bodies_never_end),
        TEST(test_errors_that_pass_are_tried_again),
        TEST(test_a_stall_is_given_up),
        TEST(test_redirects_within_the_host_are_followed),
        TEST(test_redirects_without_end),
        TEST(test_the_next_url_is_asked),
        TEST(test_not_found_is_what_all_urls_say),
        TEST(test_refused_and_unknown_upstreams),
        TEST(test_a_stop_keeps_what_has_come),
        TEST(test_a_tag_is_asked_for_by_head),
        TEST(test_a_tag_is_asked_for_by_get_when_head_is_no_use),
        TEST(test_a_manifest_is_verified_and_stored),
        TEST(test_errors_of_questions),
        TEST(test_blobs_and_lists_are_asked_for),
        TEST(test_a_stop_ends_questions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
