/* SPDX-License-Identifier: ISC */
/* The pure parts of the upstream thread: response heads, addresses, attempts. */
#include "proxy/upstream_private.h"

#include "proxy/upstream_hop.h"
#include "tests/unit/scratch.h"

#define NOW_S 1700000000 /* 2023-11-14T22:13:20Z */

/* Take the lines of a head; each ends with "\n" in the text, CRLF on the wire. */
static bool take(struct head *h, const char *text)
{
    bool taken = true;

    while (*text) {
        const char *end = strchr(text, '\n');
        char line[1024];
        int len = snprintf(line, sizeof line, "%.*s\r\n", (int)(end - text), text);
        taken = head_take(h, line, (size_t)len, NOW_S) && taken;
        text = end + 1;
    }
    return taken;
}

static struct head head(const char *text)
{
    struct head h;

    head_init(&h);
    assert_true(take(&h, text));
    return h;
}

static void test_the_fields_of_a_head(void **state)
{
    struct head h = head("HTTP/1.1 206 Partial Content\n"
                         "content-length: 100\n"
                         "CONTENT-TYPE:  text/plain ; charset=utf-8 \n"
                         "Content-Range: bytes 50-149/200\n"
                         "Docker-Content-Digest: sha256:abc\n"
                         "Location: /there\n"
                         "Link: </next>; rel=\"next\"\n"
                         "Retry-After: 120\n"
                         "X-Other: x\n");

    (void)state;
    assert_int_equal(h.status, 206);
    assert_int_equal(h.content_length, 100);
    assert_string_equal(h.content_type, "text/plain");
    assert_true(h.range.given);
    assert_int_equal(h.range.first, 50);
    assert_int_equal(h.range.last, 149);
    assert_int_equal(h.range.total, 200);
    assert_string_equal(h.digest, "sha256:abc");
    assert_string_equal(h.location, "/there");
    assert_string_equal(h.link, "</next>; rel=\"next\"");
    assert_int_equal(h.retry_after_s, 120);
    assert_false(h.chunked);
    assert_false(h.bad);
    head_clear(&h);
    assert_int_equal(h.content_length, -1);
    assert_null(h.location);
}

static void test_an_interim_head_is_forgotten(void **state)
{
    struct head h = head("HTTP/1.1 103 Early Hints\n"
                         "Link: </style>\n"
                         "Content-Length: 5\n"
                         "HTTP/1.1 200 OK\n"
                         "Transfer-Encoding: chunked\n");

    (void)state;
    assert_int_equal(h.status, 200);
    assert_null(h.link);
    assert_int_equal(h.content_length, -1);
    assert_true(h.chunked);
    head_clear(&h);
}

static void test_nonsense_is_marked(void **state)
{
    static const char *const bad[] = {
        "HTTP/1.1 99 Less\n",
        "HTTP/1.1 abc Word\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 6\n",
        "HTTP/1.1 200 OK\nContent-Length: -5\n",
        "HTTP/1.1 200 OK\nContent-Length: 5, 5\n",
        "HTTP/1.1 200 OK\nContent-Length: 0x5\n",
        "HTTP/1.1 200 OK\nContent-Length:\n",
        "HTTP/1.1 200 OK\nContent-Length: 9223372036854775808\n",
        "HTTP/1.1 200 OK\nContent-Length: 99999999999999999999999999999999\n",
    };
    static const char *const no_range[] = {
        "bytes */200",   "bytes 0-1/*", "bytes 0-1",  "0-1/2",
        "bytes 0-1/2 x", "bytes -1/2",  "bits 0-1/2", "bytes 0-99999999999999999999/2",
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct head h = head(bad[i]);
        assert_true(h.bad);
        head_clear(&h);
    }
    for (size_t i = 0; i < sizeof no_range / sizeof no_range[0]; i++) {
        snprintf(text, sizeof text, "HTTP/1.1 206 OK\nContent-Range: %s\n", no_range[i]);
        struct head h = head(text);
        assert_false(h.range.given);
        head_clear(&h);
    }
    struct head h = head("HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 5\n");
    assert_false(h.bad);
    head_clear(&h);
}

static void test_values_have_limits(void **state)
{
    struct head h = head("HTTP/1.1 200 OK\n");
    char line[HEAD_LOCATION_MAX + 64];

    (void)state;
    int len = snprintf(line, sizeof line, "Location: %0*d\r\n", HEAD_LOCATION_MAX + 1, 0);
    assert_true(head_take(&h, line, (size_t)len, NOW_S));
    assert_true(h.bad);
    assert_null(h.location);
    /* A media type or digest that is too long is none. */
    len = snprintf(line, sizeof line, "Content-Type: a/%0*d\r\n", MEDIA_TYPE_MAX, 0);
    assert_true(head_take(&h, line, (size_t)len, NOW_S));
    assert_string_equal(h.content_type, "");
    unsigned lines = 0;
    while (head_take(&h, "X: y\r\n", 6, NOW_S))
        lines++;
    assert_true(lines > 100 && lines < HEAD_LINES_MAX / 6);
    head_clear(&h);
}

static void test_retry_after(void **state)
{
    static const struct {
        const char *value;
        int64_t seconds;
    } rows[] = {
        {"0", 0},
        {"7", 7},
        {"999999999999", 24 * 3600},
        {"Tue, 14 Nov 2023 22:14:20 GMT", 60},
        {"Tue, 14 Nov 2023 22:12:20 GMT", 0},
        {"soon", 0},
        {"-5", 0},
        {"", 0},
    };
    char text[128];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, "HTTP/1.1 429 No\nRetry-After: %s\n", rows[i].value);
        struct head h = head(text);
        assert_int_equal(h.retry_after_s, rows[i].seconds);
        head_clear(&h);
    }
}

static void test_addresses_that_a_redirect_may_lead_to(void **state)
{
    static const char *const public[] = {
        "1.1.1.1",         "9.255.255.255",   "11.0.0.1",       "172.15.255.255",
        "172.32.0.1",      "192.167.1.1",     "100.63.255.255", "100.128.0.1",
        "223.255.255.255", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101",
        "2002:101:101::1",
    };
    static const char *const private[] = {
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "",
        "localhost",
        "127.0.0.1 ",
        "unix",
    };

    (void)state;
    for (size_t i = 0; i < sizeof public / sizeof public[0]; i++) {
        if (!address_text_is_public(public[i]))
            fail_msg("%s", public[i]);
    }
    for (size_t i = 0; i < sizeof private / sizeof private[0]; i++) {
        if (address_text_is_public(private[i]))
            fail_msg("%s", private[i]);
    }
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_false(address_is_public(&local));
}

/* As Docker Hub says it; of one who says nothing, or nonsense, nothing is known. */
static void test_request_limits(void **state)
{
    static const char *const nonsense[] = {
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 200 OK\nRateLimit-Limit: 100\n",
        "HTTP/1.1 200 OK\nRateLimit-Limit: 100x\nRateLimit-Remaining: 7\n",
        "HTTP/1.1 200 OK\nRateLimit-Limit: -1\nRateLimit-Remaining: 7\n",
        "HTTP/1.1 200 OK\nRateLimit-Limit: 100\nRateLimit-Remaining: 99999999999999999999\n",
    };
    struct stats *s = mem_new(sizeof *s);
    struct registry_stats *r = stats_add_registry(s, "docker.io");
    struct head h;

    (void)state;
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        head_init(&h);
        assert_true(take(&h, nonsense[i]));
        head_note_limits(&h, r, NULL, 1000);
        assert_true(r->ratelimit_limit == STATS_UNKNOWN);
        head_clear(&h);
    }
    head_init(&h);
    assert_true(take(&h, "HTTP/1.1 429 No\nratelimit-limit: 100;w=21600\n"
                         "ratelimit-remaining: 0;w=21600\ndocker-ratelimit-source: 192.0.2.7\n"));
    assert_string_equal(h.ratelimit_source, "192.0.2.7");
    head_note_limits(&h, r, NULL, 1000);
    head_note_limits(&h, NULL, NULL, 1000);
    assert_int_equal(r->ratelimit_limit, 100);
    assert_int_equal(r->ratelimit_remaining, 0);
    assert_int_equal(r->ratelimit_window_s, 21600);
    assert_int_equal(r->ratelimit_told_at, 1000);
    head_clear(&h);
    /* Without a window the one that was said before stands. */
    assert_true(take(&h, "HTTP/1.1 200 OK\nRateLimit-Limit: 200;w=x\nRateLimit-Remaining: 9\n"));
    head_note_limits(&h, r, NULL, 2000);
    assert_int_equal(r->ratelimit_limit, 200);
    assert_int_equal(r->ratelimit_remaining, 9);
    assert_int_equal(r->ratelimit_window_s, 21600);
    assert_int_equal(r->ratelimit_told_at, 2000);
    head_clear(&h);
    free(s);
}

static struct failure failure(enum outcome o, bool may_pass, int retry_after_s)
{
    return (struct failure){.outcome = o, .may_pass = may_pass, .retry_after_s = retry_after_s};
}

static void test_attempts_go_round_the_urls(void **state)
{
    struct config_upstream to = {.url_count = 3};
    struct failure refused = failure(OUT_UPSTREAM_REFUSED, true, 0);
    struct attempts a;
    int wait_ms, least_ms = 0;

    (void)state;
    attempts_init(&a, &to, 2);
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(a.url, 0);
        assert_int_equal(attempts_failed(&a, &refused, &wait_ms), ATTEMPT_NOW);
        assert_int_equal(a.url, 1);
        assert_int_equal(attempts_failed(&a, &refused, &wait_ms), ATTEMPT_NOW);
        assert_int_equal(a.url, 2);
        if (round == 2) {
            assert_int_equal(attempts_failed(&a, &refused, &wait_ms), ATTEMPT_NEVER);
            break;
        }
        assert_int_equal(attempts_failed(&a, &refused, &wait_ms), ATTEMPT_LATER);
        assert_in_range(wait_ms, 100 << round, 200 << round);
        assert_true(wait_ms >= least_ms);
        least_ms = wait_ms / 2;
    }
    assert_int_equal(a.worst.outcome, OUT_UPSTREAM_REFUSED);
}

static void expect_url(const struct attempts *a, const char *rest, const char *expected)
{
    struct name n = scratch_name("docker.io", "library/app");
    char *url = attempts_url(a, &n, rest);

    assert_string_equal(url, expected);
    free(url);
}

/* Another cachalot is told which registry is meant. */
static void test_urls_of_attempts(void **state)
{
    char plain[] = "https://one.test", base[] = "https://two.test/base";
    char elsewhere[] = "https://three.test/x?y";
    struct config_upstream to = {.urls = {plain, base}, .url_count = 2};
    struct foreign_urls urls = {.count = 1, .urls = {elsewhere}};
    struct failure refused = failure(OUT_UPSTREAM_REFUSED, true, 0);
    struct attempts a;
    int wait_ms;

    (void)state;
    attempts_init(&a, &to, 0);
    expect_url(&a, "manifests/1", "https://one.test/v2/library/app/manifests/1");
    struct config_upstream prefix = to, ns = to;
    prefix.parent = PARENT_PREFIX;
    attempts_init(&a, &prefix, 0);
    expect_url(&a, "tags/list?n=1", "https://one.test/v2/docker.io/library/app/tags/list?n=1");
    ns.parent = PARENT_NS;
    attempts_init(&a, &ns, 0);
    expect_url(&a, "tags/list?n=1", "https://one.test/v2/library/app/tags/list?n=1&ns=docker.io");
    assert_int_equal(attempts_failed(&a, &refused, &wait_ms), ATTEMPT_NOW);
    expect_url(&a, "blobs/x", "https://two.test/base/v2/library/app/blobs/x?ns=docker.io");
    attempts_go_elsewhere(&a, &urls, 0);
    expect_url(&a, "blobs/x", "https://three.test/x?y");
    assert_int_equal(attempts_failed(&a, &refused, &wait_ms), ATTEMPT_NEVER);
}

static void test_attempts_wait_no_longer_than_it_makes_sense(void **state)
{
    struct config_upstream to = {.url_count = 1};
    struct failure soon = failure(OUT_UPSTREAM_LIMITED, true, 3);
    struct failure late = failure(OUT_UPSTREAM_LIMITED, true, 3600);
    struct failure denied = failure(OUT_UPSTREAM_DENIED, false, 0);
    struct attempts a;
    int wait_ms;

    (void)state;
    attempts_init(&a, &to, 100);
    assert_int_equal(attempts_failed(&a, &soon, &wait_ms), ATTEMPT_LATER);
    assert_int_equal(wait_ms, 3000);
    assert_int_equal(attempts_failed(&a, &late, &wait_ms), ATTEMPT_NEVER);
    attempts_init(&a, &to, 100);
    assert_int_equal(attempts_failed(&a, &denied, &wait_ms), ATTEMPT_NEVER);
    attempts_init(&a, &to, 40);
    struct failure broken = failure(OUT_UPSTREAM_BROKEN, true, 0);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(attempts_failed(&a, &broken, &wait_ms), ATTEMPT_LATER);
        assert_in_range(wait_ms, 100, 5000);
    }
    assert_int_equal(attempts_failed(&a, &broken, &wait_ms), ATTEMPT_NEVER);
    attempts_progress(&a, 40);
    assert_int_equal(attempts_failed(&a, &broken, &wait_ms), ATTEMPT_LATER);
    assert_in_range(wait_ms, 100, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_fields_of_a_head),
        cmocka_unit_test(test_an_interim_head_is_forgotten),
        cmocka_unit_test(test_nonsense_is_marked),
        cmocka_unit_test(test_values_have_limits),
        cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_addresses_that_a_redirect_may_lead_to),
        cmocka_unit_test(test_attempts_go_round_the_urls),
        cmocka_unit_test(test_urls_of_attempts),
        cmocka_unit_test(test_request_limits),
        cmocka_unit_test(test_attempts_wait_no_longer_than_it_makes_sense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
