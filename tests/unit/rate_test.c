/* SPDX-License-Identifier: ISC */
#include "proxy/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"

#define KBIT UINT64_C(125)
#define MBIT UINT64_C(125000)

static struct rate read_rate(const char *text)
{
    struct rate r = {.count = 0};
    const char *why = NULL;
    if (rate_add(&r, text, &why) != 0)
        fail_msg("\"%s\" %s", text, why);
    return r;
}

/* Texts that mean the same as their canonical form. */
static void rates_are_read_and_written(void **state)
{
    (void)state;
    static const struct {
        const char *text, *canonical;
        uint64_t bytes_per_s; /* of the first clause */
    } cases[] = {
        {"0", "0", 0},
        {"0B/s", "0", 0},
        {"000", "0", 0},
        {"8kbit/s", "8kbit/s", 1000},
        {"1000B/s", "8kbit/s", 1000},
        {"1001B/s", "1001B/s", 1001},
        {"1kB/s", "8kbit/s", 1000},
        {"1KiB/s", "1KiB/s", 1024},
        {" 50Mbit/s ", "50Mbit/s", 50 * MBIT},
        {"50\tMbit/s", "50Mbit/s", 50 * MBIT},
        {"6MB/s", "48Mbit/s", 6000000},
        {"6MiB/s", "6MiB/s", 6 << 20},
        {"6144KiB/s", "6MiB/s", 6 << 20},
        {"1GB/s", "8Gbit/s", 1000000000},
        {"1000Gbit/s", "1000Gbit/s", 1000000 * MBIT},
        {"2GiB/s", "2GiB/s", UINT64_C(2) << 30},
        {"8kbit/s mon", "8kbit/s mon", 1000},
        {"8kbit/s Mon-FRI", "8kbit/s mon-fri", 1000},
        {"8kbit/s sat-sun", "8kbit/s sat-sun", 1000},
        {"8kbit/s mon-sun", "8kbit/s", 1000},
        {"8kbit/s thu-wed", "8kbit/s", 1000},
        {"8kbit/s sun-sun", "8kbit/s sun", 1000},
        {"8kbit/s 00:00-24:00", "8kbit/s", 1000},
        {"8kbit/s 22:00-00:00", "8kbit/s 22:00-24:00", 1000},
        {"8kbit/s  mon-fri \t08:00-18:30", "8kbit/s mon-fri 08:00-18:30", 1000},
        {"0 22:00-06:00", "0 22:00-06:00", 0},
        {"0 mon, 8kbit/s", "0 mon, 8kbit/s", 0},
        {"50Mbit/s mon-fri 08:00-18:00,200Mbit/s", "50Mbit/s mon-fri 08:00-18:00, 200Mbit/s",
         50 * MBIT},
        {"0 sun,0 mon,0 tue,0 wed,0 thu,0 fri,0 sat,8kbit/s",
         "0 sun, 0 mon, 0 tue, 0 wed, 0 thu, 0 fri, 0 sat, 8kbit/s", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rate r = read_rate(cases[i].text);
        char text[RATE_TEXT_SIZE];
        assert_int_equal(rate_format(&r, text), strlen(cases[i].canonical));
        assert_string_equal(text, cases[i].canonical);
        assert_true(r.clauses[0].bytes_per_s == cases[i].bytes_per_s);
        r = read_rate(text);
        char again[RATE_TEXT_SIZE];
        rate_format(&r, again);
        assert_string_equal(again, text);
    }
}

static void the_longest_text_fits(void **state)
{
    (void)state;
    struct rate r = {.count = 0};
    const char *why;
    for (unsigned i = 0; i < RATE_CLAUSES_MAX; i++)
        assert_int_equal(rate_add(&r, "124999999999B/s mon-tue 20:01-10:03", &why), 0);
    char text[RATE_TEXT_SIZE];
    assert_int_equal(rate_format(&r, text),
                     strlen("124999999999B/s mon-tue 20:01-10:03, ") * 8 - 2);
    assert_int_equal(rate_add(&r, "", &why), 0);
    assert_int_equal(rate_add(&r, "0", &why), ERR_INVALID);
    assert_string_equal(why, "has one part too many");
    assert_int_equal(r.count, RATE_CLAUSES_MAX);
}

static void nonsense_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {
        {",", "has an empty part"},
        {"0 mon,", "has an empty part"},
        {"0 mon,,0", "has an empty part"},
        {"fast", "does not begin with a rate"},
        {"-1Mbit/s", "does not begin with a rate"},
        {"mon-fri 8kbit/s", "does not begin with a rate"},
        {"5", "has no unit that is known"},
        {"1.5Mbit/s", "has no unit that is known"},
        {"0x10B/s", "has no unit that is known"},
        {"5mbit/s", "has no unit that is known"},
        {"5Mbit", "has no unit that is known"},
        {"5Mbit/sec", "has no unit that is known"},
        {"5 mon", "has no unit that is known"},
        {"7kbit/s", "is too small: at least 8kbit/s, or 0 for no limit"},
        {"999B/s", "is too small: at least 8kbit/s, or 0 for no limit"},
        {"1001Gbit/s", "is too large"},
        {"99999999999999999999999B/s", "is too large"},
        {"125000000000GB/s", "is too large"},
        {"8kbit/s day", "has a day that is not one of mon, tue, wed, thu, fri, sat, sun"},
        {"8kbit/s monday", "has a day that is not one of mon, tue, wed, thu, fri, sat, sun"},
        {"8kbit/s mon-", "has a day that is not one of mon, tue, wed, thu, fri, sat, sun"},
        {"8kbit/s mon -fri", "has hours that are not HH:MM-HH:MM"},
        {"8kbit/s mon tue", "has hours that are not HH:MM-HH:MM"},
        {"8kbit/s 08:00", "has hours that are not HH:MM-HH:MM"},
        {"8kbit/s 8:00-9:00", "has hours that are not HH:MM-HH:MM"},
        {"8kbit/s 08:00-18:60", "has hours that are not HH:MM-HH:MM"},
        {"8kbit/s 08:00-24:01", "has hours that are not HH:MM-HH:MM"},
        {"8kbit/s 24:00-08:00", "has hours that are not HH:MM-HH:MM"},
        {"8kbit/s 08:00-18:00mon", "has hours that are not HH:MM-HH:MM"},
        {"8kbit/s 08:00-08:00", "has hours that end when they begin"},
        {"8kbit/s 00:00-00:00", "has hours that end when they begin"},
        {"8kbit/s 08:00-18:00 mon", "has something after its hours"},
        {"8kbit/s, 9kbit/s", "comes after a part that always counts"},
        {"8kbit/s mon-sun 00:00-24:00, 0 mon", "comes after a part that always counts"},
        {"0 mon,0 mon,0 mon,0 mon,0 mon,0 mon,0 mon,0 mon,0 mon", "has one part too many"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rate r = {.count = 0};
        const char *why = NULL;
        if (rate_add(&r, cases[i].text, &why) != ERR_INVALID)
            fail_msg("taken: %s", cases[i].text);
        assert_string_equal(why, cases[i].why);
        assert_int_equal(r.count, 0);
    }
}

static uint64_t at(const struct rate *r, int day, int hour, int minute)
{
    return rate_at(r,
                   &(struct tm){.tm_wday = day, .tm_hour = hour, .tm_min = minute, .tm_sec = 60});
}

static void the_first_clause_whose_time_it_is_counts(void **state)
{
    (void)state;
    enum { SUN, MON, TUE, WED, THU, FRI, SAT };
    struct rate r = read_rate("8kbit/s mon-fri 08:00-18:00, 16kbit/s");
    assert_int_equal(at(&r, MON, 7, 59), 2000);
    assert_int_equal(at(&r, MON, 8, 0), 1000);
    assert_int_equal(at(&r, FRI, 17, 59), 1000);
    assert_int_equal(at(&r, FRI, 18, 0), 2000);
    assert_int_equal(at(&r, SAT, 12, 0), 2000);
    assert_int_equal(at(&r, SUN, 12, 0), 2000);

    r = read_rate("8kbit/s fri 22:00-06:00");
    assert_int_equal(at(&r, FRI, 21, 59), 0);
    assert_int_equal(at(&r, FRI, 22, 0), 1000);
    assert_int_equal(at(&r, SAT, 5, 59), 1000);
    assert_int_equal(at(&r, SAT, 6, 0), 0);
    assert_int_equal(at(&r, SAT, 22, 0), 0);
    assert_int_equal(at(&r, FRI, 5, 0), 0);

    r = read_rate("8kbit/s fri-mon");
    assert_int_equal(at(&r, FRI, 0, 0), 1000);
    assert_int_equal(at(&r, SUN, 23, 59), 1000);
    assert_int_equal(at(&r, MON, 23, 59), 1000);
    assert_int_equal(at(&r, TUE, 0, 0), 0);
    assert_int_equal(at(&r, THU, 23, 59), 0);

    r = read_rate("8kbit/s sat 23:00-01:00, 0 sun, 16kbit/s");
    assert_int_equal(at(&r, SUN, 0, 59), 1000);
    assert_int_equal(at(&r, SUN, 1, 0), 0);
    assert_int_equal(at(&r, WED, 1, 0), 2000);

    r = read_rate("");
    assert_int_equal(at(&r, WED, 12, 0), 0);
}

static void a_bucket_lets_its_rate_pass(void **state)
{
    (void)state;
    struct bucket b;
    bucket_init(&b, 50 * MBIT, 1000); /* 6250 bytes a millisecond */
    assert_int_equal(b.burst_bytes, 625000);
    assert_int_equal(bucket_wait_ms(&b, UINT64_MAX, 1000), 0);
    assert_int_equal(bucket_take(&b, UINT64_MAX, 1000), 625000);
    assert_int_equal(bucket_take(&b, 1, 1000), 0);
    assert_int_equal(bucket_wait_ms(&b, 6250, 1000), 1);
    assert_int_equal(bucket_wait_ms(&b, 6251, 1000), 2);
    assert_int_equal(bucket_wait_ms(&b, UINT64_MAX, 1000), 100);
    assert_int_equal(bucket_take(&b, 6000, 1001), 6000);
    assert_int_equal(bucket_take(&b, 6000, 1001), 250);
    /* A clock that goes back gives nothing, and takes nothing. */
    assert_int_equal(bucket_take(&b, 6000, 900), 0);
    assert_int_equal(bucket_take(&b, 7000, 1002), 6250);
    /* A pause does not give more than the burst. */
    assert_int_equal(bucket_take(&b, UINT64_MAX, INT64_MAX), 625000);

    /* In steps that do not divide a second, over an hour, to the byte. */
    bucket_init(&b, 1001, 0);
    assert_int_equal(b.burst_bytes, 65536);
    uint64_t sum = 0;
    for (int64_t now_ms = 0; now_ms <= 3600000; now_ms += 7)
        sum += bucket_take(&b, 1000, now_ms);
    sum += bucket_take(&b, UINT64_MAX, 3600000);
    assert_true(sum == 65536 + 1001 * UINT64_C(3600));
}

static void what_bucket_wait_promises_is_there(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1, 1000, 1001, 8 * KBIT + 1, 50 * MBIT, 1000000 * MBIT};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct bucket b;
        int64_t now_ms = -5;
        bucket_init(&b, rates[i], now_ms);
        for (uint64_t want = 1; want < b.burst_bytes; want = want * 3 + 1) {
            (void)bucket_take(&b, UINT64_MAX, now_ms);
            int64_t wait_ms = bucket_wait_ms(&b, want, now_ms);
            assert_true(wait_ms > 0);
            now_ms += wait_ms;
            struct bucket early = b;
            assert_true(bucket_take(&early, want, now_ms - 1) < want);
            assert_true(bucket_take(&b, want, now_ms) == want);
        }
    }
}

static void a_bucket_changes_its_rate(void **state)
{
    (void)state;
    struct bucket b;
    bucket_init(&b, 0, 0);
    assert_true(bucket_take(&b, UINT64_MAX, 0) == UINT64_MAX);
    assert_int_equal(bucket_wait_ms(&b, UINT64_MAX, 0), 0);
    bucket_set_rate(&b, 10 * MBIT, 500);
    assert_int_equal(bucket_take(&b, UINT64_MAX, 500), 65536);
    /* 100 ms at the old rate before the new one. */
    bucket_set_rate(&b, 1000, 600);
    assert_int_equal(bucket_take(&b, UINT64_MAX, 600), 65536);
    assert_int_equal(bucket_take(&b, UINT64_MAX, 601), 1);
    bucket_set_rate(&b, 0, 700);
    assert_true(bucket_take(&b, UINT64_MAX, 700) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_read_and_written),
        cmocka_unit_test(the_longest_text_fits),
        cmocka_unit_test(nonsense_is_refused_and_changes_nothing),
        cmocka_unit_test(the_first_clause_whose_time_it_is_counts),
        cmocka_unit_test(a_bucket_lets_its_rate_pass),
        cmocka_unit_test(what_bucket_wait_promises_is_there),
        cmocka_unit_test(a_bucket_changes_its_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
