/* SPDX-License-Identifier: ISC */
#include "cache/json_long.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/err.h"

struct seen {
    char text[256]; /* the members "n" of the elements */
    int stop_at;    /* the element whose visit ends the walk */
    int count;
};

static int note(void *arg, const struct json_t *object)
{
    struct seen *s = arg;
    const char *n = json_member_text(object, "n");
    size_t len = strlen(s->text);

    snprintf(s->text + len, sizeof s->text - len, "%s;", n != NULL ? n : "-");
    return ++s->count == s->stop_at ? ERR_MISMATCH : 0;
}

static int walk(const char *text, struct seen *s, bool *has_list)
{
    char why[256] = "";
    int err = json_long_walk(text, strlen(text), "list", note, s, has_list, why, sizeof why);

    assert_true((err == ERR_INVALID) == (why[0] != '\0'));
    return err;
}

static void elements_come_in_order(void **state)
{
    (void)state;
    struct seen s = {.text = ""};
    bool has_list;

    assert_int_equal(walk("{\"a\":{\"list\":[{\"n\":\"no\"}]},\"b\":[\"list\",1],\"c\":\"list\",\n"
                          " \"list\" : [ {\"n\":\"1]}\"} ,\n{\"n\":\"2\\\"\",\"m\":[{}]}, {} ] , "
                          "\"d\":null}",
                          &s, &has_list),
                     0);
    assert_true(has_list);
    assert_string_equal(s.text, "1]};2\";-;");
}

static void lists_may_be_empty_or_absent(void **state)
{
    (void)state;
    struct seen s = {.text = ""};
    bool has_list;

    assert_int_equal(walk("{\"list\":[ ]}", &s, &has_list), 0);
    assert_true(has_list);
    assert_int_equal(walk("{\"other\":[{}]}", &s, &has_list), 0);
    assert_false(has_list);
    assert_int_equal(walk(" {} ", &s, &has_list), 0);
    assert_false(has_list);
    assert_int_equal(s.count, 0);
}

static void a_visit_ends_the_walk(void **state)
{
    (void)state;
    struct seen s = {.text = "", .stop_at = 2};
    bool has_list;

    assert_int_equal(walk("{\"list\":[{},{},{}]}", &s, &has_list), ERR_MISMATCH);
    assert_int_equal(s.count, 2);
}

static void what_is_no_such_object_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "[{}]",
        "{\"list\":",
        "{\"list\":[",
        "{\"list\":[{}",
        "{\"list\":[{}]",
        "{\"list\":[{},]}",
        "{\"list\":[,{}]}",
        "{\"list\":[{}{}]}",
        "{\"list\":[{}],}",
        "{\"list\":[{}]}x",
        "{\"list\":[{\"n\":}]}",
        "{\"list\":[{]}",
        "{\"list\":[1]}",
        "{\"list\":[[{}]]}",
        "{\"list\":[{\"n\":\"",
        "{\"list\":[{\"n\":\"1\",\"n\":\"2\"}]}",
        "{\"list\":{}}",
        "{\"list\":\"x\"}",
        "{\"list\":[{}],\"list\":[{}]}",
        "{\"list\":[{}],\"l\\u0069st\":[{}]}",
        "{\"l\\u0069st\":[{}]}",
        "{\"a\":\"\\",
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct seen s = {.text = ""};
        bool has_list;

        if (walk(texts[i], &s, &has_list) != ERR_INVALID)
            fail_msg("%s", texts[i]);
    }
}

/* More elements than a tree may have values. */
static void lists_may_be_long(void **state)
{
    (void)state;
    size_t len;
    char *text;
    struct seen s = {.text = ""};
    bool has_list;
    FILE *file = open_memstream(&text, &len);

    assert_non_null(file);
    fputs("{\"list\":[{}", file);
    for (unsigned i = 0; i < JSON_VALUES_MAX; i++)
        fputs(",{}", file);
    fputs("]}", file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(walk(text, &s, &has_list), 0);
    assert_int_equal(s.count, JSON_VALUES_MAX + 1);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_come_in_order),
        cmocka_unit_test(lists_may_be_empty_or_absent),
        cmocka_unit_test(a_visit_ends_the_walk),
        cmocka_unit_test(what_is_no_such_object_is_refused),
        cmocka_unit_test(lists_may_be_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
