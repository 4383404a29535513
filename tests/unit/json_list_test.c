/* SPDX-License-Identifier: ISC */
#include "cache/json_list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"

static struct json_t *parse(const char *text)
{
    struct json_t *json;
    char why[256];

    if (json_parse(&json, text, strlen(text), why, sizeof why) != 0)
        fail_msg("%s", why);
    return json;
}

static void texts_stand_alone_or_in_lists(void **state)
{
    (void)state;
    struct json_t *json = parse("{\"one\":\"a\",\"list\":[1,\"a\",null,\"b\"],\"empty\":[],"
                                "\"null\":null,\"object\":{\"a\":\"a\"}}");

    assert_true(json_member_has_text(json, "one", "a"));
    assert_false(json_member_has_text(json, "one", "b"));
    assert_true(json_member_has_text(json, "list", "a"));
    assert_true(json_member_has_text(json, "list", "b"));
    assert_false(json_member_has_text(json, "list", "c"));
    assert_false(json_member_has_text(json, "empty", ""));
    assert_false(json_member_has_text(json, "object", "a"));
    assert_false(json_member_has_text(json, "none", "a"));
    assert_true(json_has_member(json, "null"));
    assert_false(json_has_member(json, "none"));
    json_wipe(&json);
}

static void add(void *arg, const struct json_t *object)
{
    int64_t n;

    *(int64_t *)arg += json_member_number(object, "n", &n) ? n : 1000;
}

static void objects_of_lists_are_visited(void **state)
{
    (void)state;
    struct json_t *json = parse("{\"list\":[{\"n\":1},7,[{\"n\":2}],{\"n\":4},{}],"
                                "\"object\":{\"x\":{\"n\":8}}}");
    int64_t sum = 0;

    json_member_walk(json, "list", add, &sum);
    assert_int_equal(sum, 1005);
    json_member_walk(json, "object", add, &sum);
    json_member_walk(json, "none", add, &sum);
    assert_int_equal(sum, 1005);
    json_wipe(&json);
}

static void times_are_seconds(void **state)
{
    (void)state;
    struct json_t *json =
        parse("{\"zero\":0,\"whole\":1800000000,\"part\":1800000000.9,\"last\":253402300799,"
              "\"over\":253402300800,\"huge\":1e308,\"before\":-1,\"text\":\"1\",\"null\":null}");
    static const char *const none[] = {"over", "huge", "before", "text", "null"};
    int64_t at_s = -1;

    assert_int_equal(json_member_time(json, "zero", &at_s), 0);
    assert_int_equal(at_s, 0);
    assert_int_equal(json_member_time(json, "whole", &at_s), 0);
    assert_int_equal(at_s, 1800000000);
    assert_int_equal(json_member_time(json, "part", &at_s), 0);
    assert_int_equal(at_s, 1800000000);
    assert_int_equal(json_member_time(json, "last", &at_s), 0);
    assert_int_equal(at_s, 253402300799);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_int_equal(json_member_time(json, none[i], &at_s), ERR_INVALID);
    assert_int_equal(json_member_time(json, "none", &at_s), ERR_NOT_FOUND);
    assert_int_equal(at_s, 253402300799);
    json_wipe(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_stand_alone_or_in_lists),
        cmocka_unit_test(objects_of_lists_are_visited),
        cmocka_unit_test(times_are_seconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
