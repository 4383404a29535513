/* SPDX-License-Identifier: ISC */
#include "cache/platform.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"
#include "cache/manifest.h"

static struct platform parse(const char *text)
{
    struct platform p;

    if (platform_parse(&p, text) != 0)
        fail_msg("%s is not taken", text);
    return p;
}

static void test_forms(void **state)
{
    static const struct {
        const char *text, *canonical; /* NULL: refused */
    } rows[] = {
        {"linux/amd64", "linux/amd64"},
        {"Linux/X86_64", "linux/amd64"},
        {"linux/x86-64", "linux/amd64"},
        {"linux/aarch64/v8", "linux/arm64/v8"},
        {"linux/arm/v7", "linux/arm/v7"},
        {"windows/amd64:10.0.20348", "windows/amd64:10.0.20348"},
        {"windows/arm64/v8:10.0.26100.1", "windows/arm64/v8:10.0.26100.1"},
        {"unknown/unknown", "unknown/unknown"},
        {"", NULL},
        {"linux", NULL},
        {"linux/", NULL},
        {"/amd64", NULL},
        {"linux/amd64/", NULL},
        {"linux/amd64:", NULL},
        {"windows:10.0.20348", NULL},
        {"linux/amd64/v1/x", NULL},
        {"linux/amd64:1:2", NULL},
        {"linux/amd64:1/v2", NULL},
        {"linux/amd 64", NULL},
        {"linux/amd64,", NULL},
        {"linux/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
        {"linux/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "linux/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[PLATFORM_TEXT_MAX];
        struct platform p;
        int err = platform_parse(&p, rows[i].text);

        assert_int_equal(err, rows[i].canonical ? 0 : ERR_INVALID);
        if (err != 0)
            continue;
        size_t len = platform_text(&p, text);
        assert_int_equal(len, strlen(text));
        assert_string_equal(text, rows[i].canonical);
    }
}

static void test_matches(void **state)
{
    static const struct {
        const char *wanted, *has;
        bool matches;
    } rows[] = {
        {"linux/amd64", "linux/amd64", true},
        {"linux/amd64", "linux/arm64", false},
        {"linux/amd64", "windows/amd64", false},
        {"linux/arm", "linux/arm/v6", true},
        {"linux/arm/v7", "linux/arm/v6", false},
        {"linux/arm/v7", "linux/arm", false},
        {"linux/arm64", "linux/arm64/v8", true},
        {"linux/arm64/v8", "linux/arm64", true},
        {"linux/arm64/v9", "linux/arm64", false},
        {"windows/amd64", "windows/amd64:10.0.20348.2700", true},
        {"windows/amd64:10.0.20348", "windows/amd64:10.0.20348.2700", true},
        {"windows/amd64:10.0.20348", "windows/amd64:10.0.20348", true},
        {"windows/amd64:10.0.2034", "windows/amd64:10.0.20348.2700", false},
        {"windows/amd64:10.0.20348", "windows/amd64:10.0.17763.6293", false},
        {"windows/amd64:10.0.20348.2700", "windows/amd64:10.0.20348.2849", false},
        {"windows/amd64:10.0.20348.2700", "windows/amd64:10.0.20348", false},
        {"windows/amd64:10.0.20348", "windows/amd64", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct platform wanted = parse(rows[i].wanted), has = parse(rows[i].has);

        if (platform_matches(&wanted, &has) != rows[i].matches)
            fail_msg("%s and %s", rows[i].wanted, rows[i].has);
    }
}

static void test_descriptors(void **state)
{
    struct descriptor d = {.os = "windows", .arch = "amd64", .os_version = "10.0.20348.2700"};
    char text[PLATFORM_TEXT_MAX];
    struct platform p;

    (void)state;
    assert_int_equal(platform_of(&p, &d), 0);
    platform_text(&p, text);
    assert_string_equal(text, "windows/amd64:10.0.20348.2700");
    d = (struct descriptor){.os = "linux", .arch = "arm", .variant = "v7", .os_version = ""};
    assert_int_equal(platform_of(&p, &d), 0);
    platform_text(&p, text);
    assert_string_equal(text, "linux/arm/v7");
    d = (struct descriptor){.variant = "v7"};
    assert_int_equal(platform_of(&p, &d), ERR_NOT_FOUND);
    d = (struct descriptor){.os = "linux"};
    assert_int_equal(platform_of(&p, &d), ERR_INVALID);
    d = (struct descriptor){.os = "linux", .arch = "a/b/c"};
    assert_int_equal(platform_of(&p, &d), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
