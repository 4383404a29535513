/* SPDX-License-Identifier: ISC */
#include "cache/json_merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "cache/err.h"

static json_t *parse(const char *text)
{
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

    assert_non_null(json);
    return json;
}

static void check(const json_t *json, const char *expected)
{
    char *text = json_dumps(json, JSON_COMPACT);

    assert_string_equal(text, expected);
    free(text);
}

/* `before` with `from` in it is `merged`, and without it again what it was. */
static void merge(const char *before, const char *from, const char *merged)
{
    json_t *was = parse(before), *now = parse(before), *added = parse(from);
    char why[64];

    assert_int_equal(json_merge_in(now, added, why, sizeof why), 0);
    check(now, merged);
    assert_int_equal(json_merge_in(now, added, why, sizeof why), 0);
    check(now, merged);
    json_merge_out(now, added, was);
    check(now, before);
    json_decref(was);
    json_decref(now);
    json_decref(added);
}

static void test_there_and_back(void **state)
{
    (void)state;
    merge("{}", "{\"a\":[\"x\"]}", "{\"a\":[\"x\"]}");
    merge("{\"debug\":true,\"a\":[\"y\",\"z\"]}", "{\"a\":[\"x\"]}",
          "{\"debug\":true,\"a\":[\"x\",\"y\",\"z\"]}");
    merge("{\"a\":[]}", "{\"a\":[\"x\"]}", "{\"a\":[\"x\"]}");
    merge("{\"a\":[\"y\",\"x\"]}", "{\"a\":[\"x\"]}", "{\"a\":[\"y\",\"x\"]}");
    merge("{\"p\":{\"q\":1}}", "{\"p\":{\"r\":2},\"s\":\"t\"}",
          "{\"p\":{\"q\":1,\"r\":2},\"s\":\"t\"}");
    merge("{\"p\":{}}", "{\"p\":{\"r\":{\"s\":[1,2]}}}", "{\"p\":{\"r\":{\"s\":[1,2]}}}");
    merge("{\"s\":\"t\"}", "{\"s\":\"t\"}", "{\"s\":\"t\"}");
}

/* Nothing is replaced; then nothing at all is merged. */
static void test_another_value(void **state)
{
    static const char *const conflicts[] = {"{\"a\":[1],\"b\":1}", "{\"a\":[1],\"b\":null}",
                                            "{\"a\":[1],\"b\":{}}", "{\"a\":[1],\"b\":[2]}"};
    char why[64];

    (void)state;
    for (size_t i = 0; i < sizeof conflicts / sizeof conflicts[0]; i++) {
        json_t *now = parse(conflicts[i]), *added = parse("{\"a\":[7],\"b\":\"x\"}");

        assert_int_equal(json_merge_in(now, added, why, sizeof why), ERR_DENIED);
        assert_string_equal(why, "\"b\"");
        check(now, conflicts[i]);
        json_decref(now);
        json_decref(added);
    }
}

static void test_the_key_is_named(void **state)
{
    json_t *now = parse("{\"a\":{\"b\":{\"c\":1}}}"), *added = parse("{\"a\":{\"b\":{\"c\":2}}}");
    char why[64];

    (void)state;
    assert_int_equal(json_merge_in(now, added, why, sizeof why), ERR_DENIED);
    assert_string_equal(why, "\"a.b.c\"");
    json_decref(now);
    json_decref(added);
}

/* What was changed between stays. */
static void test_out_of_what_was_changed(void **state)
{
    json_t *was = parse("{\"a\":[\"y\"]}"),
           *added = parse("{\"a\":[\"x\"],\"s\":\"t\",\"o\":{\"p\":1}}");
    json_t *now = parse("{\"a\":[\"new\",\"x\"],\"s\":\"other\",\"n\":1,\"o\":{\"p\":1,\"q\":2}}");

    (void)state;
    json_merge_out(now, added, was);
    check(now, "{\"a\":[\"new\"],\"s\":\"other\",\"n\":1,\"o\":{\"q\":2}}");
    json_decref(now);
    now = parse("{\"a\":\"gone\"}");
    json_merge_out(now, added, was);
    check(now, "{\"a\":\"gone\"}");
    json_decref(now);
    json_decref(was);
    json_decref(added);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_another_value),
        cmocka_unit_test(test_the_key_is_named),
        cmocka_unit_test(test_out_of_what_was_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
