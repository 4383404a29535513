/* SPDX-License-Identifier: ISC */
/* Range, entity tags, dates: the small grammars of a GET. */
#include "proxy/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MAX64 "18446744073709551615"
#define OVER64 "18446744073709551616"
#define HUGE_NUMBER "99999999999999999999999999999999999999999999"

struct range_row {
    const char *value;
    uint64_t size;
    enum range_result result;
    uint64_t start;
    uint64_t end;
};

static const struct range_row range_rows[] = {
    {"bytes=0-0", 10, RANGE_PART, 0, 1},
    {"bytes=0-9", 10, RANGE_PART, 0, 10},
    {"bytes=0-", 10, RANGE_PART, 0, 10},
    {"bytes=9-", 10, RANGE_PART, 9, 10},
    {"bytes=9-9", 10, RANGE_PART, 9, 10},
    {"bytes=3-5", 10, RANGE_PART, 3, 6},
    {"bytes=-1", 10, RANGE_PART, 9, 10},
    {"bytes=-10", 10, RANGE_PART, 0, 10},
    {"BYTES=1-2", 10, RANGE_PART, 1, 3},
    {"bytes=0000000000000000000000001-00000000000000000000000002", 10, RANGE_PART, 1, 3},
    /* Longer than the content: clamped. */
    {"bytes=0-10", 10, RANGE_PART, 0, 10},
    {"bytes=5-" MAX64, 10, RANGE_PART, 5, 10},
    {"bytes=5-" OVER64, 10, RANGE_PART, 5, 10},
    {"bytes=5-" HUGE_NUMBER, 10, RANGE_PART, 5, 10},
    {"bytes=-11", 10, RANGE_PART, 0, 10},
    {"bytes=-" MAX64, 10, RANGE_PART, 0, 10},
    {"bytes=-" HUGE_NUMBER, 10, RANGE_PART, 0, 10},
    {"bytes=0-9223372036854775808", 10, RANGE_PART, 0, 10},
    {"bytes=0-" MAX64, UINT64_MAX, RANGE_PART, 0, UINT64_MAX},
    {"bytes=18446744073709551614-", UINT64_MAX, RANGE_PART, UINT64_MAX - 1, UINT64_MAX},
    {"bytes=-1", UINT64_MAX, RANGE_PART, UINT64_MAX - 1, UINT64_MAX},
    {"bytes=1-18446744073709551613", UINT64_MAX, RANGE_PART, 1, UINT64_MAX - 1},
    /* Outside. */
    {"bytes=10-", 10, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=10-20", 10, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=5000-10000", 1000, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=9223372036854775808-", 10, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=" MAX64 "-", UINT64_MAX, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=" MAX64 "-" MAX64, 10, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=" OVER64 "-", UINT64_MAX, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=" HUGE_NUMBER "-", 10, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=-0", 10, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=-000", 10, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=0-0", 0, RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=-5", 0, RANGE_UNSATISFIABLE, 0, 0},
    /* Reversed: not valid, so not there (RFC 9110 section 14.1.1). */
    {"bytes=5-2", 10, RANGE_WHOLE, 0, 0},
    {"bytes=500-0", 10, RANGE_WHOLE, 0, 0},
    {"bytes=" HUGE_NUMBER "-5", 10, RANGE_WHOLE, 0, 0},
    /* Several. */
    {"bytes=0-1,3-4", 10, RANGE_WHOLE, 0, 0},
    {"bytes=0-,0-,0-,0-,0-,0-,0-,0-", 10, RANGE_WHOLE, 0, 0},
    {"bytes=0-1,", 10, RANGE_WHOLE, 0, 0},
    {"bytes=,0-1", 10, RANGE_WHOLE, 0, 0},
    /* Off the grammar, or another one. */
    {"", 10, RANGE_WHOLE, 0, 0},
    {"bytes", 10, RANGE_WHOLE, 0, 0},
    {"bytes=", 10, RANGE_WHOLE, 0, 0},
    {"bytes=-", 10, RANGE_WHOLE, 0, 0},
    {"bytes=--1", 10, RANGE_WHOLE, 0, 0},
    {"bytes=1", 10, RANGE_WHOLE, 0, 0},
    {"bytes=1--2", 10, RANGE_WHOLE, 0, 0},
    {"bytes=1-2-3", 10, RANGE_WHOLE, 0, 0},
    {"bytes=+1-2", 10, RANGE_WHOLE, 0, 0},
    {"bytes=1-+2", 10, RANGE_WHOLE, 0, 0},
    {"bytes=0x1-2", 10, RANGE_WHOLE, 0, 0},
    {"bytes= 0-1", 10, RANGE_WHOLE, 0, 0},
    {"bytes =0-1", 10, RANGE_WHOLE, 0, 0},
    {"bytes=0 -1", 10, RANGE_WHOLE, 0, 0},
    {"bytes=0-1 ", 10, RANGE_WHOLE, 0, 0},
    {"bytes:0-1", 10, RANGE_WHOLE, 0, 0},
    {"bytes==0-1", 10, RANGE_WHOLE, 0, 0},
    {"bytes=a-b", 10, RANGE_WHOLE, 0, 0},
    {"lines=0-1", 10, RANGE_WHOLE, 0, 0},
    {"0-1", 10, RANGE_WHOLE, 0, 0},
};

static void test_ranges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof range_rows / sizeof range_rows[0]; i++) {
        const struct range_row *row = &range_rows[i];
        struct range r = {0, 0};
        enum range_result result =
            http_parse_range((struct span){row->value, strlen(row->value)}, row->size, &r);
        if (result != row->result || r.start != row->start || r.end != row->end) {
            fail_msg("%s of %ju: %d, %ju to %ju", row->value, (uintmax_t)row->size, (int)result,
                     (uintmax_t)r.start, (uintmax_t)r.end);
        }
    }
    struct range r;
    assert_int_equal(http_parse_range((struct span){NULL, 0}, 10, &r), RANGE_WHOLE);
}

/* CVE-2011-3192: a thousand ranges that overlap cost no more than one. */
static void test_content_range(void **state)
{
    static const char *const bad[] = {
        "",
        "-",
        "1",
        "1-",
        "-1",
        "2-1",
        "a-1",
        "1-a",
        "1-2-3",
        " 1-2",
        "1-2 ",
        "bytes=1-2",
        "bytes */10",
        "0-" MAX64,
        "0-9223372036854775807",
        OVER64 "-" OVER64,
    };
    static const struct {
        const char *value;
        uint64_t start, end;
    } good[] = {
        {"0-0", 0, 1},
        {"5-9", 5, 10},
        {"bytes 5-9/100", 5, 10},
        {"bytes 5-9/*", 5, 10},
        {"0-9223372036854775806", 0, INT64_MAX},
    };
    struct range r;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (http_parse_content_range((struct span){bad[i], strlen(bad[i])}, &r))
            fail_msg("%s", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct span value = {good[i].value, strlen(good[i].value)};
        assert_true(http_parse_content_range(value, &r));
        assert_int_equal(r.start, good[i].start);
        assert_int_equal(r.end, good[i].end);
    }
}

static void test_thousand_ranges(void **state)
{
    (void)state;
    static char value[16 * 1024] = "bytes=0-";
    for (int i = 0; i < 1000; i++) {
        strcat(value, ",0-1000000");
    }
    struct range r;
    assert_int_equal(http_parse_range((struct span){value, strlen(value)}, 10, &r), RANGE_WHOLE);
}

struct etag_row {
    const char *list;
    bool matches; /* If-None-Match */
    bool equal;   /* If-Range */
};

static const struct etag_row etag_rows[] = {
    {"\"sha256:ab\"", true, true},
    {"W/\"sha256:ab\"", true, false},
    {"*", true, false},
    {"\"x\", \"sha256:ab\"", true, false},
    {"\"x\",\"y\",W/\"sha256:ab\"", true, false},
    {", ,\"sha256:ab\" ,", true, false},
    {"\"x,y\", \"sha256:ab\"", true, false},
    {"\"\", \"sha256:ab\"", true, false},
    {"\"\xc3\xa9\", \"sha256:ab\"", true, false},
    {"", false, false},
    {",", false, false},
    {"\"x\"", false, false},
    {"\"\"", false, false},
    {"\"SHA256:ab\"", false, false},
    {"\"sha256:abc\"", false, false},
    {"sha256:ab", false, false},
    {"\"sha256:ab", false, false},
    {"w/\"sha256:ab\"", false, false},
    {"W/ \"sha256:ab\"", false, false},
    {"W/", false, false},
    {"W", false, false},
    {"\"", false, false},
    {"*, \"sha256:ab\"", false, false},
    {"\"x\"\"sha256:ab\"", false, false},
    {"\"x y\", \"sha256:ab\"", false, false},
    {"\"x, \"sha256:ab\"", false, false},
    {"Sun, 06 Nov 1994 08:49:37 GMT", false, false},
};

static void test_etags(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof etag_rows / sizeof etag_rows[0]; i++) {
        const struct etag_row *row = &etag_rows[i];
        struct span list = {row->list, strlen(row->list)};
        if (http_etag_matches(list, "\"sha256:ab\"") != row->matches ||
            http_etag_equal(list, "\"sha256:ab\"") != row->equal) {
            fail_msg("%s", row->list);
        }
    }
}

static void test_date(void **state)
{
    (void)state;
    char out[HTTP_DATE_SIZE];
    http_date(out, 784111777);
    assert_string_equal(out, "Sun, 06 Nov 1994 08:49:37 GMT");
    http_date(out, 1709210096);
    assert_string_equal(out, "Thu, 29 Feb 2024 12:34:56 GMT");
    http_date(out, INT64_C(4294967296));
    assert_string_equal(out, "Sun, 07 Feb 2106 06:28:16 GMT");
    http_date(out, INT64_MIN);
    assert_string_equal(out, "Thu, 01 Jan 1970 00:00:00 GMT");
    http_date(out, INT64_MAX);
    assert_string_equal(out, "Fri, 31 Dec 9999 23:59:59 GMT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_content_range),
        cmocka_unit_test(test_thousand_ranges),
        cmocka_unit_test(test_etags),
        cmocka_unit_test(test_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
