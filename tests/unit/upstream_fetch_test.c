/* SPDX-License-Identifier: ISC */
/* Blobs: whole, broken, continued, wrong. */
#include "cache/blob.h"
#include "cache/partial.h"
#include "tests/unit/upstream_bed.h"

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
    upstream_fetch(b->upstream, b->fetch, &n, size_bytes, &nobody);
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
    reader = scratch_reader(b->scratch);
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
    struct partial_record r = {.owner.name = name(), .size_bytes = 2 * BODY_BYTES};
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
        {"HTTP/1.1 508 No\r\nContent-Length: 0\r\n\r\n", OUT_LOOP},
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
        /* The last one: from here on the upstream is left alone. */
        {"HTTP/1.1 429 No\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n", OUT_UPSTREAM_LIMITED},
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
    upstream_fetch(b->upstream, b->fetch, &n, BODY_BYTES, &nobody);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
