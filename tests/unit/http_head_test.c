/* SPDX-License-Identifier: ISC */
/* Request heads: what is taken, what is refused, and that it does not matter how much of
 * a head has come. */
#include "proxy/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Parse from a buffer of exactly that size, so that a sanitizer sees a step beyond. */
static enum http_result parse(struct http_head *h, const char *text, size_t len, size_t *used)
{
    char *exact = malloc(len > 0 ? len : 1);
    assert_non_null(exact);
    memcpy(exact, text, len);
    enum http_result r = http_parse_head(h, exact, len, used);
    free(exact);
    return r;
}

/* A verdict on a part must be the verdict on the whole. */
static void check_prefixes(const char *text, size_t len, enum http_result whole)
{
    struct http_head h;
    size_t used;
    for (size_t n = 0; n < len; n++) {
        enum http_result r = parse(&h, text, n, &used);
        if (r != HTTP_MORE && r != whole) {
            fail_msg("%zu bytes of %s: %d, not %d", n, text, (int)r, (int)whole);
        }
    }
}

#define LINE "GET /v2/ HTTP/1.1\r\n"
#define HOST "Host: h\r\n"
#define END "\r\n"

struct head_row {
    enum http_result result;
    const char *text;
    size_t len;
};

static const struct head_row rows[] = {
#define ROW(result, text)                                                                          \
    {                                                                                              \
        result, text, sizeof text - 1                                                              \
    }
    ROW(HTTP_DONE, LINE HOST END),
    ROW(HTTP_DONE, "\r\n" LINE HOST END),
    ROW(HTTP_BAD, "\r\n\r\n" LINE HOST END),
    ROW(HTTP_BAD, "\n" LINE HOST END),
    ROW(HTTP_BAD, " " LINE HOST END),
    ROW(HTTP_MORE, ""),
    ROW(HTTP_MORE, "\r"),
    ROW(HTTP_MORE, LINE HOST),
    ROW(HTTP_MORE, LINE HOST "\r"),
    /* Methods. */
    ROW(HTTP_DONE, "FOO /v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_DONE, "get /v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "G@T /v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "G\tET /v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET\t/v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET  /v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET\r\n" HOST END),
    ROW(HTTP_BAD, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ROW(HTTP_BAD, "\x80GT / HTTP/1.1\r\n" HOST END),
    /* Targets. */
    ROW(HTTP_DONE, "GET / HTTP/1.1\r\n" HOST END),
    ROW(HTTP_DONE, "GET //v2/?a=b%00 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_DONE, "GET http://h:80/v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_DONE, "GET HTTPS://[::1]?x HTTP/1.1\r\n" HOST END),
    ROW(HTTP_DONE, "GET http://h HTTP/1.1\r\n" HOST END),
    ROW(HTTP_DONE, "CONNECT mcr.microsoft.com:443 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_DONE, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_DONE, "OPTIONS * HTTP/1.1\r\n" HOST END),
    ROW(HTTP_DONE, "OPTIONS /v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET  HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET * HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET h:443 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET ftp://h/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET http:/h/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET http:/// HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET http:// HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET http://u@h/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET http://h:x/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET /v2/#f HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET /v2/ x HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET /v2/\0 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET /v2/\x7f HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET /v2/\xc3\xa9 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET /v2/\r HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET /v2/\r\n" HOST END),
    ROW(HTTP_BAD, "CONNECT h HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "CONNECT h: HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "CONNECT h:65536 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "CONNECT /v2/ HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "CONNECT http://h:443 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "CONNECT [::1:443 HTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "CONNECT []:443 HTTP/1.1\r\n" HOST END),
    /* Versions. */
    ROW(HTTP_DONE, "GET / HTTP/1.0\r\n" END),
    ROW(HTTP_DONE, "GET / HTTP/1.2\r\n" HOST END),
    ROW(HTTP_DONE, "GET / HTTP/1.9\r\n" HOST END),
    ROW(HTTP_BAD_VERSION, "GET / HTTP/2.0\r\n" HOST END),
    ROW(HTTP_BAD_VERSION, "GET / HTTP/0.9\r\n" HOST END),
    ROW(HTTP_BAD_VERSION, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ROW(HTTP_BAD, "GET / HTTP/1.10\r\n" HOST END),
    ROW(HTTP_BAD, "GET / HTTP/11\r\n" HOST END),
    ROW(HTTP_BAD, "GET / http/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET / HTTP/1.1 \r\n" HOST END),
    ROW(HTTP_BAD, "GET / HTTP/1,1\r\n" HOST END),
    ROW(HTTP_BAD, "GET / XTTP/1.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET / HTTP/x.1\r\n" HOST END),
    ROW(HTTP_BAD, "GET / \r\n" HOST END),
    /* Line ends. */
    ROW(HTTP_BAD, "GET / HTTP/1.1\n" HOST END),
    ROW(HTTP_BAD, "GET / HTTP/1.1\r" HOST END),
    ROW(HTTP_BAD, "GET / HTTP/1.1\r\r\n" HOST END),
    ROW(HTTP_BAD, LINE "Host: h\n" END),
    ROW(HTTP_BAD, LINE "Host: h\rX: y\r\n" END),
    ROW(HTTP_BAD, LINE "Host: h\r\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X: y\rz\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X: y\nz\r\n" END),
    ROW(HTTP_BAD, LINE HOST "\n"),
    ROW(HTTP_BAD, LINE HOST "\rX"),
    /* Fields. */
    ROW(HTTP_DONE, LINE HOST "X:\r\n" END),
    ROW(HTTP_DONE, LINE HOST "X: \t y \t z \t\r\n" END),
    ROW(HTTP_DONE, LINE HOST "X: caf\xc3\xa9 \xff\x80\r\n" END),
    ROW(HTTP_DONE, LINE HOST "!#$%&'*+-.^_`|~09azAZ: :\"(),/;<=>?@[\\]{}\r\n" END),
    ROW(HTTP_DONE, LINE "hOST:h" END END),
    ROW(HTTP_DONE, LINE "Host:\th\t \r\n" END),
    ROW(HTTP_BAD, LINE HOST ": y\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X : y\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X\t: y\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X y: z\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X(y): z\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X\x80: z\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X\0: z\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X: y\0z\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X: y\x01\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X: y\x1f\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X: y\x7f\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X: y\r\n z\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X: y\r\n\tz\r\n" END),
    ROW(HTTP_BAD, LINE HOST "X: y\r\n \r\n" END),
    ROW(HTTP_BAD, LINE " Host: h\r\n" END),
    ROW(HTTP_BAD, LINE HOST "If\rRange: x\r\n" END),
    /* Host. */
    ROW(HTTP_BAD, LINE END),
    ROW(HTTP_BAD, LINE "X-Host: h\r\n" END),
    ROW(HTTP_BAD, LINE HOST HOST END),
    ROW(HTTP_BAD, LINE HOST "X: y\r\nhost: h\r\n" END),
    ROW(HTTP_BAD, LINE "Host:\r\n" END),
    ROW(HTTP_BAD, LINE "Host: h h\r\n" END),
    ROW(HTTP_BAD, LINE "Host: h\ti\r\n" END),
    ROW(HTTP_BAD, LINE "Host: h,i\r\n" END),
    ROW(HTTP_BAD, LINE "Host: h/\r\n" END),
    ROW(HTTP_BAD, LINE "Host: u@h\r\n" END),
    ROW(HTTP_BAD, LINE "Host: h:80:80\r\n" END),
    ROW(HTTP_BAD, LINE "Host: h:99999\r\n" END),
    ROW(HTTP_BAD, LINE "Host: h:000080\r\n" END),
    ROW(HTTP_BAD, LINE "Host: h\xc3\xa9\r\n" END),
    ROW(HTTP_BAD, LINE "Host: [::1\r\n" END),
    ROW(HTTP_BAD, LINE "Host: ::1\r\n" END),
    ROW(HTTP_BAD, LINE "Host: [::1]x\r\n" END),
    ROW(HTTP_DONE, LINE "Host: a-b_c.d~e:65535\r\n" END),
    ROW(HTTP_DONE, LINE "Host: h:\r\n" END),
    ROW(HTTP_DONE, LINE "Host: [::ffff:1.2.3.4]:80\r\n" END),
    /* Lengths and codings: CL.TE, TE.CL, TE.TE and the rest of their family. */
    ROW(HTTP_DONE, LINE HOST "Content-Length: 0\r\n" END),
    ROW(HTTP_DONE, LINE HOST "Content-Length: 007\r\n" END),
    ROW(HTTP_DONE, LINE HOST "Content-Length: 9223372036854775807\r\n" END),
    ROW(HTTP_DONE, LINE HOST "Transfer-Encoding: CHUNKED\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding:\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: identity\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: gzip, chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: chunked, chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: chunked,\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: ,chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: chunked;q=1\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: xchunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: \x0b"
                            "chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding: \"chunked\"\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding\t:chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding :chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Transfer-Encoding:\r\n chunked\r\n" END),
    ROW(HTTP_BAD, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 5\r\nContent-Length: 5\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 5\r\ncontent-length: 6\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 5, 5\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 5,\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length:\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: +5\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: -5\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 0x5\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 5 6\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 5.0\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: \xd9\xa5\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 9223372036854775808\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Length: 18446744073709551621\r\n" END),
    /* Single fields, twice; lists may be. */
    ROW(HTTP_BAD, LINE HOST "Range: bytes=0-\r\nRange: bytes=1-\r\n" END),
    ROW(HTTP_BAD, LINE HOST "If-Range: \"a\"\r\nIf-Range: \"a\"\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Authorization: a\r\nAuthorization: b\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Type: a\r\nContent-Type: b\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Content-Range: a\r\nContent-Range: b\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Range:\r\nRange:\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Range: bytes=0-\x80\r\n" END),
    ROW(HTTP_DONE, LINE HOST "Accept: a\r\nAccept: b\r\n" END),
    ROW(HTTP_DONE, LINE HOST "If-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\n" END),
    ROW(HTTP_DONE, LINE HOST "User-Agent: \xc3\xa9\r\nUser-Agent: b\r\n" END),
    /* Connection and Expect. */
    ROW(HTTP_DONE, LINE HOST "Connection: , a ,,close\t, b\r\n" END),
    ROW(HTTP_DONE, LINE HOST "Connection:\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Connection: close;\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Connection: close keep-alive\r\n" END),
    ROW(HTTP_DONE, LINE HOST "Expect: 100-Continue\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Expect: 200-ok\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Expect:\r\n" END),
    ROW(HTTP_BAD, LINE HOST "Expect: 100-continue, x\r\n" END),
#undef ROW
};

static void test_verdicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http_head h;
        size_t used;
        enum http_result r = parse(&h, rows[i].text, rows[i].len, &used);
        if (r != rows[i].result || used != (r == HTTP_DONE ? rows[i].len : 0)) {
            fail_msg("row %zu: %s: %d, not %d", i, rows[i].text, (int)r, (int)rows[i].result);
        }
        check_prefixes(rows[i].text, rows[i].len, r);
    }
}

static void assert_span(struct span s, const char *text)
{
    if (text == NULL) {
        assert_null(s.p);
    } else {
        assert_non_null(s.p);
        assert_int_equal(s.len, strlen(text));
        assert_memory_equal(s.p, text, s.len);
    }
}

static void test_everything_read(void **state)
{
    (void)state;
    static const char text[] = "\r\nPATCH /v2/a/blobs/x?y HTTP/1.1\r\n"
                               "HOST:cachalot.lan:5000 \r\n"
                               "range: bytes=0-\r\n"
                               "IF-None-Match:\t\"a\", W/\"b\"\t\r\n"
                               "if-range: \"c\"\r\n"
                               "accept: a/b;q=1, */*\r\n"
                               "Accept: second\r\n"
                               "authorization: Basic eA==\r\n"
                               "User-Agent: docker/27\r\n"
                               "content-type: application/json\r\n"
                               "Content-Range: 0-4\r\n"
                               "CONTENT-LENGTH: 5\r\n"
                               "expect: 100-continue\r\n"
                               "connection: Keep-Alive\r\n"
                               "connection: CLOSE\r\n"
                               "X-Other: x\r\n"
                               "\r\nGET /next";
    struct http_head h;
    size_t used;
    assert_int_equal(http_parse_head(&h, text, sizeof text - 1, &used), HTTP_DONE);
    assert_int_equal(used, sizeof text - 1 - strlen("GET /next"));
    assert_int_equal(h.method, HTTP_PATCH);
    assert_span(h.target, "/v2/a/blobs/x?y");
    assert_int_equal(h.minor_version, 1);
    assert_false(h.keep_alive);
    assert_false(h.chunked);
    assert_true(h.expect_continue);
    assert_int_equal(h.content_length, 5);
    assert_span(h.host, "cachalot.lan:5000");
    assert_span(h.range, "bytes=0-");
    assert_span(h.if_none_match, "\"a\", W/\"b\"");
    assert_span(h.if_range, "\"c\"");
    assert_span(h.accept, "a/b;q=1, */*");
    assert_span(h.authorization, "Basic eA==");
    assert_span(h.user_agent, "docker/27");
    assert_span(h.content_type, "application/json");
    assert_span(h.content_range, "0-4");
}

static void test_nothing_said(void **state)
{
    (void)state;
    static const char text[] = "GET / HTTP/1.0\r\nRange:\r\n\r\n";
    struct http_head h;
    size_t used;
    assert_int_equal(http_parse_head(&h, text, sizeof text - 1, &used), HTTP_DONE);
    assert_int_equal(h.content_length, -1);
    assert_false(h.chunked);
    assert_false(h.expect_continue);
    assert_span(h.range, "");
    assert_span(h.host, NULL);
    assert_span(h.accept, NULL);
    assert_span(h.authorization, NULL);
    assert_span(h.content_range, NULL);
}

static void test_methods(void **state)
{
    (void)state;
    static const char *const names[] = {"GET",    "HEAD",    "POST",    "PUT", "PATCH",
                                        "DELETE", "CONNECT", "OPTIONS", "FOO", "get"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[64];
        struct http_head h;
        size_t used;
        int len = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: h\r\n\r\n", names[i],
                           i == HTTP_CONNECT ? "h:443" : "/");
        enum http_method want = i < HTTP_OTHER ? (enum http_method)i : HTTP_OTHER;
        assert_int_equal(http_parse_head(&h, text, (size_t)len, &used), HTTP_DONE);
        assert_int_equal(h.method, want);
        assert_string_equal(http_method_name(want), want == HTTP_OTHER ? "-" : names[i]);
    }
}

struct keep_alive_row {
    const char *text;
    bool keep_alive;
};

static void test_keep_alive(void **state)
{
    (void)state;
    static const struct keep_alive_row keep_alive_rows[] = {
        {LINE HOST END, true},
        {LINE HOST "Connection: keep-alive\r\n" END, true},
        {LINE HOST "Connection: Close\r\n" END, false},
        {LINE HOST "Connection: x, close , y\r\n" END, false},
        {LINE HOST "Connection: closed\r\n" END, true},
        {LINE HOST "Connection: keep-alive\r\nConnection: close\r\n" END, false},
        {LINE HOST "Connection: close\r\nConnection: keep-alive\r\n" END, false},
        {"GET / HTTP/1.0\r\n" END, false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n" END, true},
        {"GET / HTTP/1.0\r\nConnection: x\r\nConnection: y,Keep-Alive\r\n" END, true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n" END, false},
        {"GET / HTTP/1.5\r\n" HOST END, true},
    };
    for (size_t i = 0; i < sizeof keep_alive_rows / sizeof keep_alive_rows[0]; i++) {
        const struct keep_alive_row *row = &keep_alive_rows[i];
        struct http_head h;
        size_t used;
        assert_int_equal(http_parse_head(&h, row->text, strlen(row->text), &used), HTTP_DONE);
        if (h.keep_alive != row->keep_alive) {
            fail_msg("%s: %d", row->text, (int)h.keep_alive);
        }
    }
}

/* HTTP/1.0 has no expectations; every HTTP/1.x has the length. */
static void test_old_version(void **state)
{
    (void)state;
    static const char text[] =
        "PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    struct http_head h;
    size_t used;
    assert_int_equal(http_parse_head(&h, text, sizeof text - 1, &used), HTTP_DONE);
    assert_int_equal(h.minor_version, 0);
    assert_false(h.expect_continue);
    assert_int_equal(h.content_length, 1);
}

/* "<before>aaa...<after>" with `len` times a; the number of bytes. */
static size_t fill(char *out, const char *before, size_t len, const char *after)
{
    size_t at = strlen(before);
    memcpy(out, before, at);
    memset(out + at, 'a', len);
    strcpy(out + at + len, after);
    return at + len + strlen(after);
}

static void test_target_length(void **state)
{
    (void)state;
    static char text[128 * 1024];
    struct http_head h;
    size_t used;
    size_t len = fill(text, "GET /", HTTP_TARGET_MAX - 1, " HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(http_parse_head(&h, text, len, &used), HTTP_DONE);
    assert_int_equal(h.target.len, HTTP_TARGET_MAX);
    len = fill(text, "GET /", HTTP_TARGET_MAX, " HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(http_parse_head(&h, text, len, &used), HTTP_TARGET_TOO_LONG);
    len = fill(text, "GET /", 65536, "");
    assert_int_equal(http_parse_head(&h, text, len, &used), HTTP_TARGET_TOO_LONG);
    assert_int_equal(http_parse_head(&h, text, HTTP_TARGET_MAX + 4, &used), HTTP_MORE);
    assert_int_equal(http_parse_head(&h, text, HTTP_TARGET_MAX + 5, &used), HTTP_TARGET_TOO_LONG);
}

static void test_head_length(void **state)
{
    (void)state;
    static char text[128 * 1024];
    struct http_head h;
    size_t used;
    const size_t around = strlen(LINE HOST "X: "
                                           "\r\n\r\n");
    size_t len = fill(text, LINE HOST "X: ", HTTP_HEAD_MAX - around, "\r\n\r\nmore");
    assert_int_equal(http_parse_head(&h, text, len, &used), HTTP_DONE);
    assert_int_equal(used, HTTP_HEAD_MAX);
    assert_int_equal(http_parse_head(&h, text, HTTP_HEAD_MAX - 1, &used), HTTP_MORE);
    len = fill(text, LINE HOST "X: ", HTTP_HEAD_MAX - around + 1, "\r\n\r\n");
    assert_int_equal(http_parse_head(&h, text, len, &used), HTTP_HEAD_TOO_LARGE);
    assert_int_equal(http_parse_head(&h, text, HTTP_HEAD_MAX, &used), HTTP_HEAD_TOO_LARGE);
    len = fill(text, LINE HOST, 65536, "");
    assert_int_equal(http_parse_head(&h, text, len, &used), HTTP_HEAD_TOO_LARGE);
    len = fill(text, "", 65536, "");
    assert_int_equal(http_parse_head(&h, text, len, &used), HTTP_HEAD_TOO_LARGE);
    /* What is off the grammar within the limit is so however much follows. */
    len = fill(text, LINE " ", 65536, "");
    assert_int_equal(http_parse_head(&h, text, len, &used), HTTP_BAD);
}

static enum http_result parse_fields(size_t count)
{
    static char text[128 * 1024];
    size_t len = fill(text, LINE HOST, 0, "");
    for (size_t i = 1; i < count; i++) {
        len += fill(text + len, "X:\r\n", 0, "");
    }
    len += fill(text + len, "\r\n", 0, "");
    struct http_head h;
    size_t used;
    return http_parse_head(&h, text, len, &used);
}

static void test_field_count(void **state)
{
    (void)state;
    assert_int_equal(parse_fields(HTTP_FIELDS_MAX), HTTP_DONE);
    assert_int_equal(parse_fields(HTTP_FIELDS_MAX + 1), HTTP_HEAD_TOO_LARGE);
    assert_int_equal(parse_fields(10000), HTTP_HEAD_TOO_LARGE);
}

/* Bytes at every distance from the end of a word, and every value of a byte. */
static void test_every_byte_everywhere(void **state)
{
    (void)state;
    for (size_t at = 0; at < 20; at++) {
        for (unsigned b = 0; b < 256; b++) {
            char text[128];
            size_t len = fill(text, LINE HOST "X: ", 20, "\r\n\r\n");
            text[strlen(LINE HOST "X: ") + at] = (char)b;
            struct http_head h;
            size_t used;
            bool good = b == '\t' || (b >= 0x20 && b != 0x7f);
            assert_int_equal(http_is_value_char((char)b), good);
            assert_int_equal(http_parse_head(&h, text, len, &used), good ? HTTP_DONE : HTTP_BAD);

            len = fill(text, "GET /", 20, " HTTP/1.1\r\nHost: h\r\n\r\n");
            text[strlen("GET /") + at] = (char)b;
            good = b > 0x20 && b < 0x7f && b != '#';
            assert_int_equal(http_parse_head(&h, text, len, &used), good ? HTTP_DONE : HTTP_BAD);

            len = fill(text, LINE HOST, 20, ": y\r\n\r\n");
            text[strlen(LINE HOST) + at] = (char)b;
            good = http_is_token_char((char)b) || (b == ':' && at > 0);
            assert_int_equal(http_parse_head(&h, text, len, &used), good ? HTTP_DONE : HTTP_BAD);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),      cmocka_unit_test(test_everything_read),
        cmocka_unit_test(test_nothing_said),  cmocka_unit_test(test_methods),
        cmocka_unit_test(test_keep_alive),    cmocka_unit_test(test_old_version),
        cmocka_unit_test(test_target_length), cmocka_unit_test(test_head_length),
        cmocka_unit_test(test_field_count),   cmocka_unit_test(test_every_byte_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
