/* SPDX-License-Identifier: ISC */
/* Zones against what the C library knows of them, and against files made here. */
#include "proxy/zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cache/err.h"

#define HOUR INT64_C(3600)

static int64_t utc(int year, int month, int day, int hour, int minute)
{
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute};

    return timegm(&tm);
}

static struct zone *rule(const char *text)
{
    struct zone *z;

    if (zone_read_rule(&z, text) != 0)
        fail_msg("%s is not taken", text);
    return z;
}

/* --- files --- */

struct file {
    uint8_t bytes[2048];
    size_t len;
};

static void put(struct file *f, const void *p, size_t len)
{
    assert_true(f->len + len <= sizeof f->bytes);
    memcpy(f->bytes + f->len, p, len);
    f->len += len;
}

static void put_number(struct file *f, int64_t n, unsigned size)
{
    for (unsigned i = size; i > 0; i--) {
        uint8_t byte = (uint8_t)((uint64_t)n >> 8 * (i - 1));
        put(f, &byte, 1);
    }
}

static void put_header(struct file *f, char version, unsigned changes, unsigned types,
                       unsigned leaps)
{
    put(f, "TZif", 4);
    put(f, &version, 1);
    put(f, (char[15]){0}, 15);
    for (unsigned i = 0; i < 6; i++)
        put_number(f, (const unsigned[]){0, 0, leaps, changes, types, 4}[i], 4);
}

/* Two changes: to one hour at 1000, back to none at 2000. */
static void put_block(struct file *f, unsigned size)
{
    put_number(f, 1000, size);
    put_number(f, 2000, size);
    put(f, "\1\0", 2);
    put_number(f, 0, 4);
    put(f, "\0\0", 2);
    put_number(f, 3600, 4);
    put(f, "\1\0", 2);
    put(f, "ABC", 4);
}

static struct file file_of(char version, const char *footer)
{
    struct file f = {.len = 0};

    put_header(&f, version, 2, 2, 0);
    put_block(&f, 4);
    if (version == '\0')
        return f;
    put_header(&f, version, 2, 2, 0);
    put_block(&f, 8);
    put(&f, footer, strlen(footer));
    return f;
}

static void check_file(const struct file *f, int64_t afterwards_s)
{
    struct zone *z;

    assert_int_equal(zone_read(&z, f->bytes, f->len), 0);
    assert_int_equal(zone_offset_s(z, -5), 0);
    assert_int_equal(zone_offset_s(z, 999), 0);
    assert_int_equal(zone_offset_s(z, 1000), 3600);
    assert_int_equal(zone_offset_s(z, 1999), 3600);
    assert_int_equal(zone_offset_s(z, 2000), afterwards_s);
    assert_int_equal(zone_offset_s(z, 1u << 31), afterwards_s);
    zone_free(&z);
}

static void test_files(void **state)
{
    struct file f = file_of('\0', "");

    (void)state;
    check_file(&f, 0);
    f = file_of('2', "\n\n");
    check_file(&f, 0);
    f = file_of('2', "\nXYZ-2\n");
    check_file(&f, 7200);
    f = file_of('3', "\n<+0330>-3:30\n");
    check_file(&f, 12600);
}

static void check_refused(const struct file *f)
{
    struct zone *z;

    assert_int_equal(zone_read(&z, f->bytes, f->len), ERR_INVALID);
    assert_null(z);
}

static void test_bad_files(void **state)
{
    static const char *const footers[] = {"", "\n", "XYZ-2\n", "\nXYZ-2", "\nXY-2\n", "\nXYZ-25\n"};
    struct file good = file_of('2', "\nXYZ-2\n"), f;

    (void)state;
    for (size_t len = 0; len < good.len; len++) {
        f = good;
        f.len = len;
        check_refused(&f);
    }
    for (size_t i = 0; i < sizeof footers / sizeof footers[0]; i++) {
        f = file_of('2', footers[i]);
        check_refused(&f);
    }
    f = good;
    f.bytes[0] = 'x';
    check_refused(&f);
    f = (struct file){.len = 0};
    put_header(&f, '\0', 2, 2, 1);
    put_block(&f, 4);
    put(&f, (char[8]){0}, 8);
    check_refused(&f);
    /* Counts that no file has. */
    f = (struct file){.len = 0};
    put_header(&f, '\0', UINT32_MAX, UINT32_MAX, 0);
    check_refused(&f);
    f = (struct file){.len = 0};
    put_header(&f, '\0', 0, 0, 0);
    put(&f, "ABC", 4);
    check_refused(&f);
    /* Changes that go back, and of a type that is not there. */
    f = file_of('\0', "");
    f.bytes[44 + 7] = 1;
    f.bytes[44 + 6] = 0;
    check_refused(&f);
    f = file_of('\0', "");
    f.bytes[44 + 8] = 7;
    check_refused(&f);
    f = file_of('\0', "");
    f.bytes[44 + 10] = 0x7f;
    check_refused(&f);
}

/* --- rules --- */

static void test_rules(void **state)
{
    struct zone *z = rule("CET-1CEST,M3.5.0,M10.5.0/3");

    (void)state;
    assert_int_equal(zone_offset_s(z, utc(2026, 3, 29, 0, 59)), HOUR);
    assert_int_equal(zone_offset_s(z, utc(2026, 3, 29, 1, 0)), 2 * HOUR);
    assert_int_equal(zone_offset_s(z, utc(2026, 10, 25, 0, 59)), 2 * HOUR);
    assert_int_equal(zone_offset_s(z, utc(2026, 10, 25, 1, 0)), HOUR);
    assert_int_equal(zone_offset_s(z, utc(2026, 12, 31, 23, 30)), HOUR);
    zone_free(&z);
    /* South of the equator summer goes around the year's end; Lord Howe's is half an hour. */
    z = rule("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0");
    assert_int_equal(zone_offset_s(z, utc(2026, 1, 1, 0, 0)), 11 * HOUR);
    assert_int_equal(zone_offset_s(z, utc(2026, 7, 1, 0, 0)), 10 * HOUR + HOUR / 2);
    zone_free(&z);
    /* Ireland's winter time is the one that is not standard; Nuuk's changes on a Saturday. */
    z = rule("IST-1GMT0,M10.5.0,M3.5.0/1");
    assert_int_equal(zone_offset_s(z, utc(2026, 1, 1, 0, 0)), 0);
    assert_int_equal(zone_offset_s(z, utc(2026, 7, 1, 0, 0)), HOUR);
    zone_free(&z);
    z = rule("<-02>2<-01>,M3.5.0/-1,M10.5.0/0");
    assert_int_equal(zone_offset_s(z, utc(2026, 3, 29, 0, 59)), -2 * HOUR);
    assert_int_equal(zone_offset_s(z, utc(2026, 3, 29, 1, 0)), -1 * HOUR);
    zone_free(&z);
    /* Summer for ever, RFC 9636 section 3.3.1. */
    z = rule("XXX3EDT4,0/0,J365/23");
    for (int64_t at_s = utc(2026, 12, 31, 0, 0); at_s < utc(2027, 1, 2, 0, 0); at_s += 1800)
        assert_int_equal(zone_offset_s(z, at_s), -4 * HOUR);
    zone_free(&z);
    z = rule("AAA0BBB,J60,60/25:30:15");
    assert_int_equal(zone_offset_s(z, utc(2028, 2, 29, 12, 0)), 0);
    assert_int_equal(zone_offset_s(z, utc(2028, 3, 1, 3, 0)), HOUR);
    zone_free(&z);
}

static void test_bad_rules(void **state)
{
    static const char *const texts[] = {
        "",
        "CE-1",
        "CET",
        "CET-1CEST",
        "CET-1CEST,",
        "CET-1CEST,M3.5.0",
        "CET-1CEST,M3.5.0,",
        "CET-1CEST,M3.5.0,M10.5.0/3x",
        "CET-1CEST,M3.6.0,M10.5.0",
        "CET-1CEST,M3.0.0,M10.5.0",
        "CET-1CEST,M0.5.0,M10.5.0",
        "CET-1CEST,M3.5.7,M10.5.0",
        "CET-1CEST,J0,J5",
        "CET-1CEST,366,5",
        "CET-1CEST,1/168,5",
        "CET-1:60",
        "CET-25",
        "<+03-3",
        "<+03",
        "CET-1 ",
        "CET--1",
    };
    struct zone *z;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (zone_read_rule(&z, texts[i]) != ERR_INVALID)
            fail_msg("\"%s\" is taken", texts[i]);
    }
}

/* --- local times --- */

static void test_local_times(void **state)
{
    struct zone *z = rule("CET-1CEST,M3.5.0,M10.5.0/3");

    (void)state;
    assert_int_equal(zone_moment_s(z, utc(2026, 1, 5, 3, 0)), utc(2026, 1, 5, 2, 0));
    assert_int_equal(zone_moment_s(z, utc(2026, 7, 5, 3, 0)), utc(2026, 7, 5, 1, 0));
    /* From two to three there is no time in March, and there are two in October. */
    assert_int_equal(zone_moment_s(z, utc(2026, 3, 29, 1, 59)), utc(2026, 3, 29, 0, 59));
    assert_int_equal(zone_moment_s(z, utc(2026, 3, 29, 2, 30)), utc(2026, 3, 29, 1, 30));
    assert_int_equal(zone_moment_s(z, utc(2026, 3, 29, 3, 0)), utc(2026, 3, 29, 1, 0));
    assert_int_equal(zone_moment_s(z, utc(2026, 10, 25, 2, 30)), utc(2026, 10, 25, 0, 30));
    assert_int_equal(zone_moment_s(z, utc(2026, 10, 25, 3, 0)), utc(2026, 10, 25, 2, 0));
    zone_free(&z);
}

/* --- those of the system --- */

static const char *const names[] = {
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",
    "America/Los_Angeles",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/Nuuk",
    "Asia/Tokyo",
    "America/Sao_Paulo",
    "Pacific/Chatham",
    "Asia/Kathmandu",
    "Africa/El_Aaiun",
    "Antarctica/Troll",
    "America/St_Johns",
};

static void compare(const struct zone *z, const char *name)
{
    assert_int_equal(setenv("TZ", name, 1), 0);
    tzset();
    /* The step meets all hours of the day. */
    for (time_t at_s = utc(1880, 1, 1, 0, 0); at_s < utc(2120, 1, 1, 0, 0); at_s += 40009) {
        struct tm tm;

        assert_non_null(localtime_r(&at_s, &tm));
        if (zone_offset_s(z, at_s) != tm.tm_gmtoff)
            fail_msg("%s at %lld: %lld, and not %ld", name, (long long)at_s,
                     (long long)zone_offset_s(z, at_s), tm.tm_gmtoff);
        int64_t local_s = at_s + tm.tm_gmtoff;
        int64_t moment_s = zone_moment_s(z, local_s);
        if (moment_s + zone_offset_s(z, moment_s) != local_s || moment_s > at_s)
            fail_msg("%s at %lld", name, (long long)at_s);
    }
    unsetenv("TZ");
}

static void test_system(void **state)
{
    char why[256];
    unsigned found = 0;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct zone *z;

        /* A machine may have none of them. */
        if (zone_load(&z, names[i], why, sizeof why) != 0)
            continue;
        found++;
        compare(z, names[i]);
        zone_free(&z);
    }
    printf("compared %u zones\n", found);
}

static void test_loads(void **state)
{
    static const char *const bad[] = {":Nowhere/Else", "/nowhere", "Nowhere/Else", "..", "a b"};
    struct zone *z;
    char why[256];

    (void)state;
    assert_int_equal(zone_load(&z, "Nowhere/Else", why, sizeof why), ERR_INVALID);
    assert_non_null(strstr(why, "Nowhere/Else"));
    assert_null(z);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(setenv("TZ", bad[i], 1), 0);
        assert_int_equal(zone_load(&z, NULL, why, sizeof why), ERR_INVALID);
        assert_null(z);
    }
    assert_int_equal(setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1), 0);
    assert_int_equal(zone_load(&z, NULL, why, sizeof why), 0);
    assert_int_equal(zone_offset_s(z, utc(2026, 7, 1, 0, 0)), 2 * HOUR);
    zone_free(&z);
    unsetenv("TZ");
    assert_int_equal(zone_load(&z, NULL, why, sizeof why), 0);
    zone_free(&z);
    zone_free(&z);
}

static void test_names(void **state)
{
    (void)state;
    assert_true(zone_is_name("Europe/Berlin"));
    assert_true(zone_is_name("Etc/GMT+3"));
    assert_true(zone_is_name("America/Argentina/Buenos_Aires"));
    assert_false(zone_is_name(""));
    assert_false(zone_is_name("/etc/passwd"));
    assert_false(zone_is_name("../../etc/passwd"));
    assert_false(zone_is_name("Europe/"));
    assert_false(zone_is_name("Europe//Berlin"));
    assert_false(zone_is_name("CET-1CEST,M3.5.0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),       cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_rules),       cmocka_unit_test(test_bad_rules),
        cmocka_unit_test(test_local_times), cmocka_unit_test(test_system),
        cmocka_unit_test(test_loads),       cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
