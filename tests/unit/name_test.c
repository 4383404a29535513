/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"
#include "cache/name.h"

#define COUNT(array) (sizeof array / sizeof((array)[0]))

typedef bool predicate(const char *text, size_t len);

static void expect_each(predicate *is, bool expected, const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is(texts[i], strlen(texts[i])) != expected) {
            fail_msg("\"%s\" is%s valid", texts[i], expected ? " not" : "");
        }
    }
}

static void test_repository(void **state)
{
    static const char *const good[] = {"alpine",
                                       "library/alpine",
                                       "windows/servercore",
                                       "a/b/c/d",
                                       "a.b",
                                       "a_b",
                                       "a__b",
                                       "a-b",
                                       "a---b",
                                       "0",
                                       "a1.b2-c3__d4/e5",
                                       "v2/blobs/uploads"};
    static const char *const bad[] = {"",     "/",     "a/",   "/a",     "a//b", "A",   "a/B",
                                      "..",   "a/..",  "../a", "a/../b", ".a",   "a.",  "a..b",
                                      "a._b", "a___b", "a_-b", "-a",     "a-",   "_a",  "a_",
                                      "a b",  "a%2e",  "a:b",  "a@b",    "a\\b", "a\n", "\xc3\xa9"};
    char text[NAME_MAX_SIZE + 1];

    (void)state;
    expect_each(name_is_repository, true, good, COUNT(good));
    expect_each(name_is_repository, false, bad, COUNT(bad));
    assert_false(name_is_repository("a\0b", 3));
    memset(text, 'a', sizeof text);
    assert_true(name_is_repository(text, 254));
    assert_false(name_is_repository(text, 255));
}

static void test_tag(void **state)
{
    static const char *const good[] = {"latest", "1.2.3", "_x", "A-b.C_9", "ltsc2022", "0"};
    static const char *const bad[] = {"",    ".a", "-a",  "..",  "a/b", "a:b",
                                      "a b", "a@", "a%2", "a\n", "\xff"};
    char text[129];

    (void)state;
    expect_each(name_is_tag, true, good, COUNT(good));
    expect_each(name_is_tag, false, bad, COUNT(bad));
    assert_false(name_is_tag("a\0", 2));
    memset(text, 'x', sizeof text);
    assert_true(name_is_tag(text, 128));
    assert_false(name_is_tag(text, 129));
}

static void test_registry(void **state)
{
    static const char *const good[] = {"docker.io",      "MCR.Microsoft.com",
                                       "localhost",      "localhost:5000",
                                       "10.0.0.1:65535", "[::1]",
                                       "[fe80::1]:443",  "a-b.example:1",
                                       "registry",       "xn--bcher-kva.example"};
    static const char *const bad[] = {
        "",      ".",      "a.",      ".a",          "a..b",        "-a.b",        "a-.b",
        "a.b-",  "a:",     ":80",     "a:0",         "a:65536",     "a:080",       "a:99999999",
        "a:8x",  "a:-1",   "a b",     "a/b",         "a@b",         "[::1",        "[]",
        "[::g]", "[::1]x", "[::1]:",  "[1.2.3]",     "[fe80::1%1]", "a_b.example", "a:1:2",
        "..",    "%2e%2e", "[::1]:0", "\xc3\xa9.com"};
    char text[300];

    (void)state;
    expect_each(name_is_registry, true, good, COUNT(good));
    expect_each(name_is_registry, false, bad, COUNT(bad));
    assert_false(name_is_registry("a\0b", 3));
    assert_false(name_is_registry("[::1\0]", 6));
    memset(text, 'a', sizeof text);
    assert_true(name_is_registry(text, 63));
    assert_false(name_is_registry(text, 64));
    for (size_t i = 50; i < sizeof text; i += 50) {
        text[i] = '.';
    }
    assert_true(name_is_registry(text, 255));
    assert_false(name_is_registry(text, 256));
    memset(text, ':', sizeof text);
    text[0] = '[';
    text[200] = ']';
    assert_false(name_is_registry(text, 201));
}

static void test_looks_like_registry(void **state)
{
    static const char *const yes[] = {"docker.io/library/alpine", "localhost/x",
                                      "localhost:5000/x",         "host:1/x",
                                      "mcr.microsoft.com",        "[::1]/x"};
    static const char *const no[] = {"library/alpine", "alpine", "windows/server.core",
                                     "localhosts/x",   "",       "/a.b"};

    (void)state;
    expect_each(name_looks_like_registry, true, yes, COUNT(yes));
    expect_each(name_looks_like_registry, false, no, COUNT(no));
}

static void test_canonical(void **state)
{
    static const struct {
        const char *registry;
        const char *repository;
        const char *text;
    } rows[] = {
        {"docker.io", "alpine", "docker.io/library/alpine"},
        {"docker.io", "library/alpine", "docker.io/library/alpine"},
        {"docker.io", "grafana/grafana", "docker.io/grafana/grafana"},
        {"index.docker.io", "alpine", "docker.io/library/alpine"},
        {"Registry-1.Docker.IO", "alpine", "docker.io/library/alpine"},
        {"MCR.Microsoft.Com", "windows/servercore", "mcr.microsoft.com/windows/servercore"},
        {"quay.io", "one", "quay.io/one"},
        {"docker.io:5000", "alpine", "docker.io:5000/alpine"},
        {"[FE80::1]:443", "a/b", "[fe80::1]:443/a/b"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[NAME_MAX_SIZE];
        struct name n;

        assert_int_equal(name_set(&n, rows[i].registry, strlen(rows[i].registry),
                                  rows[i].repository, strlen(rows[i].repository)),
                         0);
        assert_int_equal(name_text(&n, text), strlen(rows[i].text));
        assert_string_equal(text, rows[i].text);
    }
}

static void test_set_refuses(void **state)
{
    char text[NAME_MAX_SIZE];
    struct name n;

    (void)state;
    assert_int_equal(name_set(&n, "docker.io", 9, "..", 2), ERR_INVALID);
    assert_int_equal(name_set(&n, "docker.io", 9, "", 0), ERR_INVALID);
    assert_int_equal(name_set(&n, "", 0, "alpine", 6), ERR_INVALID);
    assert_int_equal(name_set(&n, "a/b", 3, "alpine", 6), ERR_INVALID);
    memset(text, 'a', sizeof text);
    assert_int_equal(name_set(&n, "quay.io", 7, text, 247), 0);
    assert_int_equal(name_set(&n, "quay.io", 7, text, 248), ERR_INVALID);
    assert_int_equal(name_set(&n, "docker.io", 9, text, 237), 0);
    assert_int_equal(name_set(&n, "docker.io", 9, text, 238), ERR_INVALID);
    assert_int_equal(name_set_registry(text, "a b", 3), ERR_INVALID);
    assert_int_equal(name_set_registry(text, "INDEX.docker.io", 15), 0);
    assert_string_equal(text, "docker.io");
}

static void test_local(void **state)
{
    static const char *const good[] = {"a",       "team/app",   "library/alpine",
                                       "a/c.d/e", "localhosts", "v2/blobs/uploads"};
    static const char *const bad[] = {"",      "/",           "/a",    "a/",          "A",
                                      "..",    "docker.io/a", "a.b/c", "localhost/a", "localhost",
                                      "a:1/b", "a.b"};
    char text[NAME_MAX_SIZE];
    struct name n;

    (void)state;
    assert_int_equal(name_set_local(&n, "team/app", 8), 0);
    assert_true(name_is_local(&n));
    assert_int_equal(name_text(&n, text), 8);
    assert_string_equal(text, "team/app");
    assert_int_equal(name_key(&n, text), 9);
    assert_string_equal(text, "/team/app");
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(name_set_local(&n, good[i], strlen(good[i])), 0);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(name_set_local(&n, bad[i], strlen(bad[i])), ERR_INVALID);
    }
    memset(text, 'a', sizeof text);
    assert_int_equal(name_set_local(&n, text, 255), ERR_INVALID);
    assert_int_equal(name_set_local(&n, text, 254), 0);
    assert_int_equal(name_key(&n, text), 255);
    assert_int_equal(name_text(&n, text), 254);
    assert_int_equal(strlen(text), 254);
    assert_int_equal(name_set(&n, "quay.io", 7, "a", 1), 0);
    assert_false(name_is_local(&n));
}

/* What name_key writes is read back; nothing else is. */
static void test_keys(void **state)
{
    static const char *const good[] = {"/a", "/team/app", "docker.io/library/a", "quay.io/a/b",
                                       "host:5000/a"};
    static const char *const bad[] = {"",   "/",        "a",         "//a", "/docker.io/a",
                                      "/A", "quay.io/", "quay.io/A", "/a/", "a b/c"};
    char text[NAME_MAX_SIZE];
    struct name n;

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(name_from_key(&n, good[i], strlen(good[i])), 0);
        assert_int_equal(name_key(&n, text), strlen(good[i]));
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(name_from_key(&n, bad[i], strlen(bad[i])), ERR_INVALID);
    }
}

static void test_equal(void **state)
{
    struct name a;
    struct name b;

    (void)state;
    assert_int_equal(name_set(&a, "docker.io", 9, "alpine", 6), 0);
    assert_int_equal(name_set(&b, "index.docker.io", 15, "library/alpine", 14), 0);
    assert_true(name_equal(&a, &b));
    assert_int_equal(name_set(&b, "quay.io", 7, "library/alpine", 14), 0);
    assert_false(name_equal(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repository), cmocka_unit_test(test_tag),
        cmocka_unit_test(test_registry),   cmocka_unit_test(test_looks_like_registry),
        cmocka_unit_test(test_canonical),  cmocka_unit_test(test_set_refuses),
        cmocka_unit_test(test_local),      cmocka_unit_test(test_keys),
        cmocka_unit_test(test_equal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
