/* SPDX-License-Identifier: ISC */
/* What of a request goes on to an origin server. */
#include "proxy/http_forward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define HOST "Host: registry-1.docker.io\r\n"
#define END "\r\n"
#define TAIL "CDN-Loop: us\r\nConnection: close\r\n\r\n"

static size_t forward(const char *text, const char *prefix, char *out, size_t size)
{
    struct http_head h;
    size_t used;

    assert_int_equal(http_parse_head(&h, text, strlen(text), &used), HTTP_DONE);
    return http_forward_head(&h, "up.test:5000", prefix, "us", out, size);
}

static void check(const char *text, const char *prefix, const char *expected)
{
    char out[4096];
    size_t len = forward(text, prefix, out, sizeof out - 1);

    out[len] = '\0';
    assert_string_equal(out, expected);
}

/* The target in origin-form behind the prefix, our Host, our Connection. */
static void test_target(void **state)
{
    static const struct {
        const char *line, *prefix, *expected;
    } rows[] = {
        {"GET /v2/ HTTP/1.1", "", "GET /v2/ HTTP/1.1"},
        {"GET /v2/?a=b%2F HTTP/1.1", "/p", "GET /p/v2/?a=b%2F HTTP/1.1"},
        {"GET http://h/v2/x HTTP/1.1", "", "GET /v2/x HTTP/1.1"},
        {"GET https://h:443 HTTP/1.1", "", "GET / HTTP/1.1"},
        {"GET http://h?q HTTP/1.1", "/p", "GET /p/?q HTTP/1.1"},
        {"GET /v2/ HTTP/1.0", "", "GET /v2/ HTTP/1.0"},
        {"PATCH //v2/ HTTP/1.1", "", "PATCH //v2/ HTTP/1.1"},
        {"QUERY /v2/ HTTP/1.1", "", "QUERY /v2/ HTTP/1.1"},
        {"OPTIONS * HTTP/1.1", "/p", "OPTIONS * HTTP/1.1"},
    };
    char text[256], expected[256];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, "%s\r\n" HOST END, rows[i].line);
        snprintf(expected, sizeof expected, "%s\r\nHost: up.test:5000\r\n" TAIL, rows[i].expected);
        check(text, rows[i].prefix, expected);
    }
}

/* Fields of the connection to us stay behind: the known ones, in any case, and those that a
 * Connection field names; all others go on as they came, in their order. */
static void test_fields(void **state)
{
    (void)state;
    check("POST / HTTP/1.1\r\n" HOST "Authorization:Bearer x\r\nX-A: 1\r\nx-a:  2 \r\n"
          "Proxy-Authorization: Basic eA==\r\nPROXY-CONNECTION: keep-alive\r\nTE: trailers\r\n"
          "Connection: X-Hop,\tx-other ,, close\r\nUpgrade: h2c\r\nKeep-Alive: 5\r\nX-Hop: 1\r\n"
          "X-Other: 2\r\nX-Hops: 3\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" END,
          "",
          "POST / HTTP/1.1\r\nHost: up.test:5000\r\nAuthorization:Bearer x\r\nX-A: 1\r\n"
          "x-a:  2 \r\nX-Hops: 3\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" TAIL);
}

/* What frames the body stays, whatever a Connection field says of it; so the body is as long
 * for the origin as for us. */
static void test_framing(void **state)
{
    (void)state;
    check("PUT / HTTP/1.1\r\n" HOST "Connection: content-length\r\nContent-Length: 5\r\n" END, "",
          "PUT / HTTP/1.1\r\nHost: up.test:5000\r\nContent-Length: 5\r\n" TAIL);
    check("PUT / HTTP/1.1\r\n" HOST "Connection: Transfer-Encoding\r\n"
          "Transfer-Encoding: chunked\r\n" END,
          "", "PUT / HTTP/1.1\r\nHost: up.test:5000\r\nTransfer-Encoding: chunked\r\n" TAIL);
}

/* A name of any length that Connection names. */
static void test_long_names(void **state)
{
    char name[200], text[1024];

    (void)state;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" HOST "%s: 1\r\nConnection: %s\r\n" END, name,
             name);
    check(text, "", "GET / HTTP/1.1\r\nHost: up.test:5000\r\n" TAIL);
}

/* Those that the request has been through stand before us. */
static void test_loop(void **state)
{
    (void)state;
    check("GET / HTTP/1.1\r\n" HOST "CDN-Loop: a, b; x=1\r\n" END, "",
          "GET / HTTP/1.1\r\nHost: up.test:5000\r\nCDN-Loop: a, b; x=1, us\r\n"
          "Connection: close\r\n\r\n");
}

/* Room for all of it or for none. */
static void test_size(void **state)
{
    static const char text[] = "GET /v2/ HTTP/1.1\r\n" HOST "X: y\r\n" END;
    char out[512];
    size_t len = forward(text, "", out, sizeof out);

    (void)state;
    assert_true(len > 0);
    for (size_t size = 0; size < len; size++)
        assert_int_equal(forward(text, "", out, size), 0);
    assert_int_equal(forward(text, "", out, len), len);
}

static void test_authority(void **state)
{
    static const struct {
        const char *target, *authority;
    } rows[] = {
        {"/v2/", NULL},
        {"*", NULL},
        {"", NULL},
        {"//h/v2/", NULL},
        {"http://h/v2/", "h"},
        {"HTTPS://h:443", "h:443"},
        {"h.test:443", "h.test:443"},
        {"http://[::1]:80/?x", "[::1]:80"},
        {"http://h?x/y", "h"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span target = {rows[i].target, strlen(rows[i].target)};
        struct span found = http_target_authority(target);

        assert_true((found.p != NULL) == (rows[i].authority != NULL));
        assert_true(!found.p || span_equal(found, rows[i].authority));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_target),    cmocka_unit_test(test_fields),
        cmocka_unit_test(test_framing),   cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_loop),      cmocka_unit_test(test_size),
        cmocka_unit_test(test_authority),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
