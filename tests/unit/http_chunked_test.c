/* SPDX-License-Identifier: ISC */
/* The chunked coding: each row is decoded whole, a byte at a time and cut at every place,
 * and the result must be the same. */
#include "proxy/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct chunked_row {
    enum http_result result;
    const char *text;
    size_t len;
    const char *content;
    size_t left_over; /* bytes after the end of the body */
};

#define ROW(result, text, content, left_over)                                                      \
    {                                                                                              \
        result, text, sizeof text - 1, content, left_over                                          \
    }
#define END "0\r\n\r\n"

static const struct chunked_row rows[] = {
    ROW(HTTP_DONE, END, "", 0),
    ROW(HTTP_DONE, "5\r\nhello\r\n" END, "hello", 0),
    ROW(HTTP_DONE, "5\r\nhello\r\n1\r\n \r\n6\r\nworld!\r\n" END, "hello world!", 0),
    ROW(HTTP_DONE, "a\r\n0123456789\r\nA\r\n0123456789\r\n" END, "01234567890123456789", 0),
    ROW(HTTP_DONE, "000000000000005\r\nhello\r\n000000000000000\r\n\r\n", "hello", 0),
    ROW(HTTP_DONE, "4\r\n\r\n\r\n\r\n" END, "\r\n\r\n", 0),
    ROW(HTTP_DONE, END "GET / HTTP/1.1\r\n", "", 16),
    ROW(HTTP_MORE, "", "", 0),
    ROW(HTTP_MORE, "5", "", 0),
    ROW(HTTP_MORE, "5\r\nhel", "hel", 0),
    ROW(HTTP_MORE, "5\r\nhello", "hello", 0),
    ROW(HTTP_MORE, "5\r\nhello\r\n", "hello", 0),
    ROW(HTTP_MORE, "0\r\n", "", 0),
    ROW(HTTP_MORE, "0\r\n\r", "", 0),
    /* Trailers are dropped. */
    ROW(HTTP_DONE, "0\r\nX: y\r\nContent-Length:9\r\nZ:\r\n\r\n", "", 0),
    ROW(HTTP_DONE, "0\r\nX: \xc3\xa9\t!\r\n\r\n", "", 0),
    ROW(HTTP_BAD, "0\r\nX\r\n\r\n", "", 0),
    ROW(HTTP_BAD, "0\r\n: y\r\n\r\n", "", 0),
    ROW(HTTP_BAD, "0\r\nX : y\r\n\r\n", "", 0),
    ROW(HTTP_BAD, "0\r\nX: y\r\n z\r\n\r\n", "", 0),
    ROW(HTTP_BAD, "0\r\nX: y\n\r\n", "", 0),
    ROW(HTTP_BAD, "0\r\nX: y\r\r\n\r\n", "", 0),
    ROW(HTTP_BAD, "0\r\nX: y\0\r\n\r\n", "", 0),
    ROW(HTTP_BAD, "0\r\nX: y\x7f\r\n\r\n", "", 0),
    ROW(HTTP_BAD, "0\r\n\n", "", 0),
    ROW(HTTP_BAD, "0\r\n\rX", "", 0),
    /* Extensions, quoted or not. */
    ROW(HTTP_BAD, "5;a\r\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "5;a=\"\r\nhello\r\n0\r\n\r\n\"\r\n", "", 0),
    ROW(HTTP_BAD, "0;a\r\n\r\n", "", 0),
    ROW(HTTP_BAD, "5 \r\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "5\t\r\nhello\r\n" END, "", 0),
    /* Sizes. */
    ROW(HTTP_BAD, "\r\n", "", 0),
    ROW(HTTP_BAD, " 5\r\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "+5\r\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "-5\r\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "0x5\r\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "5h\r\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "g\r\n", "", 0),
    ROW(HTTP_BAD, "@\r\n", "", 0),
    ROW(HTTP_BAD, "\0\r\n", "", 0),
    ROW(HTTP_BAD, "\xb5\r\n", "", 0),
    ROW(HTTP_MORE, "fffffffffffffff\r\nx", "x", 0),
    ROW(HTTP_BAD, "ffffffffffffffff\r\nx", "", 0),
    ROW(HTTP_BAD, "10000000000000005\r\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "0000000000000005\r\nhello\r\n" END, "", 0),
    /* Line ends. */
    ROW(HTTP_BAD, "5\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "5\rhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "5\r\r\nhello\r\n" END, "", 0),
    ROW(HTTP_BAD, "5\r\nhello\n" END, "hello", 0),
    ROW(HTTP_BAD, "5\r\nhello\r" END, "hello", 0),
    ROW(HTTP_BAD, "5\r\nhello" END, "hello", 0),
    ROW(HTTP_BAD, "5\r\nhello!\r\n" END, "hello", 0),
    ROW(HTTP_BAD, "5\r\nhello\r\n\r\n" END, "hello", 0),
};

struct decoded {
    enum http_result result;
    char content[8192];
    size_t content_len;
    size_t used;
};

/* Decode from buffers of exactly the sizes given, first `cut` bytes and then pieces of `step`. */
static void decode(const char *text, size_t len, size_t cut, size_t step, struct decoded *d)
{
    struct chunked c;
    chunked_init(&c);
    *d = (struct decoded){.result = HTTP_MORE};
    while (d->used < len && d->result == HTTP_MORE) {
        size_t n = d->used < cut ? cut - d->used : step;
        n = n < len - d->used ? n : len - d->used;
        char *exact = malloc(n);
        assert_non_null(exact);
        memcpy(exact, text + d->used, n);
        size_t used = 0;
        struct span out;
        d->result = chunked_decode(&c, exact, n, &used, &out);
        assert_true(used <= n);
        assert_true(used > 0 || d->result != HTTP_MORE);
        assert_true(out.p >= exact && out.p + out.len <= exact + used);
        memcpy(d->content + d->content_len, out.p, out.len);
        d->content_len += out.len;
        d->used += used;
        free(exact);
    }
    if (d->result != HTTP_MORE) {
        size_t used;
        struct span out;
        assert_int_equal(chunked_decode(&c, "5\r\n", 3, &used, &out), d->result);
        assert_int_equal(used, 0);
        assert_int_equal(out.len, 0);
    }
}

static void check(const struct chunked_row *row, size_t cut, size_t step)
{
    struct decoded d;
    decode(row->text, row->len, cut, step, &d);
    if (d.result != row->result || d.content_len != strlen(row->content) ||
        memcmp(d.content, row->content, d.content_len) != 0 ||
        (d.result != HTTP_BAD && d.used != row->len - row->left_over)) {
        fail_msg("%s cut at %zu by %zu: %d after %zu bytes", row->text, cut, step, (int)d.result,
                 d.used);
    }
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check(&rows[i], 0, 1);
        check(&rows[i], 0, 3);
        for (size_t cut = 0; cut <= rows[i].len; cut++) {
            check(&rows[i], cut, rows[i].len);
        }
    }
}

static enum http_result trailers(size_t bytes)
{
    static char text[8192];
    struct decoded d;
    memset(text, 'a', sizeof text);
    memcpy(text, "0\r\nX:", 5);
    memcpy(text + 3 + bytes - 4, "\r\n\r\n", 4);
    decode(text, 3 + bytes, 0, 100, &d);
    return d.result;
}

static void test_trailer_limit(void **state)
{
    (void)state;
    assert_int_equal(trailers(4096), HTTP_DONE);
    assert_int_equal(trailers(4097), HTTP_BAD);
    assert_int_equal(trailers(8000), HTTP_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_trailer_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
