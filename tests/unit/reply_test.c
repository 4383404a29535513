/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "proxy/reply.h"

static const char date[] = "Tue, 24 Nov 2026 05:53:41 GMT";

static void test_head(void **state)
{
    struct reply r;

    (void)state;
    reply_begin(&r, 206, date);
    reply_field(&r, "ETag", "\"x\"");
    reply_length(&r, 0);
    reply_end(&r, false, false);
    r.text[r.len] = '\0';
    assert_string_equal(r.text, "HTTP/1.1 206 Partial Content\r\n"
                                "Date: Tue, 24 Nov 2026 05:53:41 GMT\r\n"
                                "Docker-Distribution-Api-Version: registry/2.0\r\n"
                                "ETag: \"x\"\r\n"
                                "Content-Length: 0\r\n"
                                "Connection: close\r\n\r\n");
}

/* What does not fit is left out whole; the length and the end always fit, and a head that is
 * full to the last byte has both. */
static void test_head_is_bounded(void **state)
{
    struct reply r;
    char value[1000];

    (void)state;
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    reply_begin(&r, 200, date);
    for (int i = 0; i < 20; i++)
        reply_field(&r, "X-Long", value);
    for (int i = 0; i < 1000; i++)
        reply_field(&r, "X", "");
    reply_length(&r, UINT64_MAX);
    reply_end(&r, true, true);
    assert_in_range(r.len, REPLY_HEAD_MAX - 8, REPLY_HEAD_MAX);
    const char end[] = "\r\nContent-Length: 18446744073709551615\r\n"
                       "Connection: keep-alive\r\n\r\n";
    assert_memory_equal(r.text + r.len - strlen(end), end, strlen(end));
}

/* Every status of an error row has a status line, and its document is JSON with
 * the row's code, whatever bytes the detail has. */
static void test_errors(void **state)
{
    const char *nasty = "quote \" back \\ line \n high \xff\xc3 <script>";

    (void)state;
    for (int o = 0; o < OUTCOME_COUNT; o++) {
        char body[REPLY_ERROR_MAX];
        struct reply r;

        if (!outcome_is_error((enum outcome)o))
            continue;
        reply_begin(&r, outcome_row((enum outcome)o)->status, date);
        size_t len = reply_error_body(body, (enum outcome)o, nasty);
        json_t *doc = json_loadb(body, len, 0, NULL);
        assert_non_null(doc);
        json_t *first = json_array_get(json_object_get(doc, "errors"), 0);
        assert_string_equal(json_string_value(json_object_get(first, "code")),
                            outcome_row((enum outcome)o)->code);
        assert_non_null(strstr(json_string_value(json_object_get(first, "detail")), "quote \""));
        json_decref(doc);
    }
}

static void test_error_is_bounded(void **state)
{
    char body[REPLY_ERROR_MAX];
    char detail[3 * REPLY_ERROR_MAX];

    (void)state;
    memset(detail, '\xff', sizeof detail - 1);
    detail[sizeof detail - 1] = '\0';
    size_t len = reply_error_body(body, OUT_NAME_UNKNOWN, detail);
    assert_true(len <= REPLY_ERROR_MAX);
    json_t *doc = json_loadb(body, len, 0, NULL);
    assert_non_null(doc);
    json_decref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_head_is_bounded),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_error_is_bounded),
    };

    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
