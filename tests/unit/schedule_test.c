/* SPDX-License-Identifier: ISC */
#include "proxy/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cache/err.h"

#define NEVER INT64_MIN
#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"
#define LOS_ANGELES "PST8PDT,M3.2.0,M11.1.0"

static struct schedule parse(const char *text)
{
    struct schedule s;
    const char *why = NULL;

    if (schedule_parse(&s, text, &why) != 0)
        fail_msg("\"%s\" %s", text, why);
    return s;
}

static struct zone *zone(const char *rule)
{
    struct zone *z;

    assert_int_equal(zone_read_rule(&z, rule), 0);
    return z;
}

/* "2026-11-24 03:00" of the zone. */
static int64_t at(const struct zone *z, const char *text)
{
    struct tm tm = {0};

    assert_non_null(strptime(text, "%Y-%m-%d %H:%M", &tm));
    return zone_moment_s(z, timegm(&tm));
}

static void check_time(const struct zone *z, int64_t at_s, const char *expected)
{
    time_t local_s = at_s + zone_offset_s(z, at_s);
    struct tm tm;
    char text[32];

    assert_non_null(gmtime_r(&local_s, &tm));
    strftime(text, sizeof text, "%Y-%m-%d %H:%M", &tm);
    assert_string_equal(text, expected);
}

static void check_next(const char *schedule, const char *rule, const char *began,
                       const char *expected)
{
    struct zone *z = zone(rule);
    struct schedule s = parse(schedule);

    check_time(z, schedule_next_s(&s, z, at(z, began), NEVER), expected);
    zone_free(&z);
}

static void test_forms(void **state)
{
    static const struct {
        const char *text, *canonical; /* NULL: refused */
    } rows[] = {
        {"daily 03:00", "daily 03:00"},
        {" Daily\t03:00:00 ", "daily 03:00"},
        {"daily 03:00:07", "daily 03:00:07"},
        {"daily 23:59:59", "daily 23:59:59"},
        {"weekly sun 03:00", "weekly sun 03:00"},
        {"weekly SAT 00:00", "weekly sat 00:00"},
        {"every 6h", "every 6h"},
        {"every 90m", "every 90m"},
        {"every 48h", "every 2d"},
        {"every 60s", "every 1m"},
        {"every 30d", "every 30d"},
        {"patch-tuesday 18:00", "patch-tuesday 18:00"},
        {"patch-tuesday 18:00+2h", "patch-tuesday 18:00+2h"},
        {"patch-tuesday 10:05 + 120m", "patch-tuesday 10:05+2h"},
        {"", NULL},
        {"daily", NULL},
        {"daily ", NULL},
        {"daily 3:00", NULL},
        {"daily 24:00", NULL},
        {"daily 03:60", NULL},
        {"daily 03:00:60", NULL},
        {"daily 03:00 x", NULL},
        {"daily sun 03:00", NULL},
        {"weekly 03:00", NULL},
        {"weekly sunday 03:00", NULL},
        {"weekly sun03:00", NULL},
        {"monthly 03:00", NULL},
        {"every", NULL},
        {"every 6", NULL},
        {"every h", NULL},
        {"every 59s", NULL},
        {"every 31d", NULL},
        {"every 99999999999999999999d", NULL},
        {"every 6h 30m", NULL},
        {"patch-tuesday", NULL},
        {"patch-tuesday 18:00+", NULL},
        {"patch-tuesday 18:00+2", NULL},
        {"patch-tuesday 18:00-2h", NULL},
        {"patch 18:00", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[SCHEDULE_TEXT_SIZE];
        const char *why = NULL;
        struct schedule s, again;
        int err = schedule_parse(&s, rows[i].text, &why);

        if (err != (rows[i].canonical ? 0 : ERR_INVALID))
            fail_msg("\"%s\"", rows[i].text);
        if (err != 0) {
            assert_non_null(why);
            continue;
        }
        size_t len = schedule_text(&s, text);
        assert_int_equal(len, strlen(text));
        assert_string_equal(text, rows[i].canonical);
        again = parse(text);
        assert_memory_equal(&again, &s, sizeof s);
    }
}

static void test_daily(void **state)
{
    (void)state;
    check_next("daily 03:00", BERLIN, "2026-11-24 02:59", "2026-11-24 03:00");
    check_next("daily 03:00", BERLIN, "2026-11-24 03:00", "2026-11-25 03:00");
    check_next("daily 03:00", BERLIN, "2026-12-31 18:00", "2027-01-01 03:00");
    check_next("daily 03:00", LOS_ANGELES, "2028-02-28 03:00", "2028-02-29 03:00");
    /* There is no half past two on that day; on the other there are two. */
    check_next("daily 02:30", BERLIN, "2026-03-28 02:30", "2026-03-29 03:30");
    check_next("daily 02:30", BERLIN, "2026-03-29 03:30", "2026-03-30 02:30");
    check_next("daily 02:30", BERLIN, "2026-10-25 02:30", "2026-10-26 02:30");
}

static void test_once_a_day(void **state)
{
    static const char *const rules[] = {BERLIN, LOS_ANGELES, "UTC0", "<+13>-13",
                                        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"};
    static const char *const texts[] = {"daily 00:00", "daily 02:00", "daily 02:30:30",
                                        "daily 03:00", "daily 23:59:59"};

    (void)state;
    for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
        struct zone *z = zone(rules[r]);

        for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
            struct schedule s = parse(texts[t]);
            int64_t now_s = schedule_next_s(&s, z, at(z, "2024-01-01 12:00"), NEVER);
            int64_t day = (now_s + zone_offset_s(z, now_s)) / ZONE_DAY_S;

            for (unsigned i = 0; i < 3 * 366; i++) {
                now_s = schedule_next_s(&s, z, now_s, NEVER);
                assert_int_equal((now_s + zone_offset_s(z, now_s)) / ZONE_DAY_S, ++day);
            }
        }
        zone_free(&z);
    }
}

static void test_weekly(void **state)
{
    (void)state;
    check_next("weekly sun 03:00", BERLIN, "2026-11-24 12:00", "2026-11-29 03:00");
    check_next("weekly sun 03:00", BERLIN, "2026-11-29 02:59", "2026-11-29 03:00");
    check_next("weekly sun 03:00", BERLIN, "2026-11-29 03:00", "2026-12-06 03:00");
    check_next("weekly tue 03:00", BERLIN, "2026-11-24 12:00", "2026-12-01 03:00");
    check_next("weekly sun 02:30", BERLIN, "2026-03-22 02:30", "2026-03-29 03:30");
}

static void test_every(void **state)
{
    (void)state;
    check_next("every 6h", "UTC0", "2026-11-24 03:10", "2026-11-24 09:10");
    check_next("every 6h", BERLIN, "2026-10-25 00:00", "2026-10-25 05:00");
    check_next("every 30d", "UTC0", "2026-11-24 03:10", "2026-12-24 03:10");
}

static void test_patch_tuesdays(void **state)
{
    /* As Microsoft published its updates. */
    static const char *const days[] = {
        "2024-01-09", "2024-02-13", "2024-03-12", "2024-04-09", "2024-05-14", "2024-06-11",
        "2024-07-09", "2024-08-13", "2024-09-10", "2024-10-08", "2024-11-12", "2024-12-10",
        "2025-01-14", "2025-02-11", "2025-03-11", "2025-04-08", "2025-05-13", "2025-06-10",
        "2025-07-08", "2025-08-12", "2025-09-09", "2025-10-14", "2025-11-11", "2025-12-09",
        "2026-01-13", "2026-02-10", "2026-03-10", "2026-04-14", "2026-05-12", "2026-06-09",
        "2026-07-14", "2026-08-11", "2026-09-08", "2026-10-13", "2026-11-10", "2026-12-08",
    };
    static const char *const rules[] = {"UTC0", BERLIN, LOS_ANGELES, "<+13>-13"};

    (void)state;
    for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
        struct zone *z = zone(rules[r]);
        struct schedule s = parse("patch-tuesday 18:00");
        int64_t now_s = at(z, "2024-01-01 00:00");

        for (size_t i = 0; i < sizeof days / sizeof days[0]; i++) {
            char expected[32];

            snprintf(expected, sizeof expected, "%s 18:00", days[i]);
            now_s = schedule_next_s(&s, z, now_s, NEVER);
            check_time(z, now_s, expected);
        }
        zone_free(&z);
    }
    check_next("patch-tuesday 18:00", BERLIN, "2026-11-10 17:59", "2026-11-10 18:00");
    check_next("patch-tuesday 18:00", BERLIN, "2026-11-10 18:00", "2026-12-08 18:00");
}

static void test_until_it_has_changed(void **state)
{
    struct zone *z = zone(BERLIN);
    struct schedule s = parse("patch-tuesday 18:00+2h");
    int64_t tuesday_s = at(z, "2026-11-10 18:00");
    int64_t now_s = tuesday_s;
    unsigned times = 1;

    (void)state;
    /* At most a day. */
    for (; now_s < tuesday_s + 2 * ZONE_DAY_S; times++)
        now_s = schedule_next_s(&s, z, now_s, at(z, "2026-10-13 20:00"));
    assert_int_equal(times, 14);
    check_time(z, now_s, "2026-12-08 18:00");

    now_s = schedule_next_s(&s, z, tuesday_s, NEVER);
    check_time(z, now_s, "2026-11-10 20:00");
    now_s = schedule_next_s(&s, z, now_s, at(z, "2026-11-10 17:59"));
    check_time(z, now_s, "2026-11-10 22:00");
    now_s = schedule_next_s(&s, z, now_s, at(z, "2026-11-10 22:00"));
    check_time(z, now_s, "2026-12-08 18:00");
    /* One that began between two Patch Tuesdays, as after a change of the settings. */
    now_s = schedule_next_s(&s, z, at(z, "2026-11-20 09:00"), NEVER);
    check_time(z, now_s, "2026-12-08 18:00");
    zone_free(&z);
}

static void test_time_goes_on(void **state)
{
    static const char *const texts[] = {"daily 02:30", "weekly sun 02:30", "every 7h",
                                        "patch-tuesday 02:30+5h"};
    struct zone *z = zone(BERLIN);

    (void)state;
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        struct schedule s = parse(texts[t]);

        for (int64_t now_s = at(z, "2025-12-30 00:00"); now_s < at(z, "2027-01-03 00:00");
             now_s += 1777) {
            assert_true(schedule_next_s(&s, z, now_s, NEVER) > now_s);
            assert_true(schedule_next_s(&s, z, now_s, now_s) > now_s);
        }
    }
    zone_free(&z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_daily),
        cmocka_unit_test(test_once_a_day),
        cmocka_unit_test(test_weekly),
        cmocka_unit_test(test_every),
        cmocka_unit_test(test_patch_tuesdays),
        cmocka_unit_test(test_until_it_has_changed),
        cmocka_unit_test(test_time_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
