/* SPDX-License-Identifier: ISC */
/* What registries say at GET /v2/, and for how long it counts. */
#include "proxy/greeting.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char basic[] = "Basic realm=\"x\"";

static void expect(struct greetings *g, const char *registry, int64_t now_ms, const char *wanted)
{
    char challenge[ASK_CHALLENGE_MAX] = "untouched";

    assert_true(greeting_get(g, registry, now_ms, challenge));
    assert_string_equal(challenge, wanted);
}

static void expect_none(struct greetings *g, const char *registry, int64_t now_ms)
{
    char challenge[ASK_CHALLENGE_MAX] = "untouched";

    assert_false(greeting_get(g, registry, now_ms, challenge));
    assert_string_equal(challenge, "untouched");
}

/* Kept for each registry, no challenge too; the last one counts. */
static void test_kept(void **state)
{
    struct greetings *g = greetings_new();

    (void)state;
    expect_none(g, "docker.io", 0);
    greeting_put(g, "docker.io", basic, 0);
    greeting_put(g, "quay.io", "", 0);
    expect(g, "docker.io", 0, basic);
    expect(g, "quay.io", 0, "");
    expect_none(g, "ghcr.io", 0);
    greeting_put(g, "docker.io", "Bearer", 10);
    expect(g, "docker.io", 10, "Bearer");
    greetings_free(&g);
    assert_null(g);
    greetings_free(&g);
}

/* For a crowd of clients, not for longer: whether the registry is there must be known. */
static void test_ends(void **state)
{
    struct greetings *g = greetings_new();

    (void)state;
    greeting_put(g, "docker.io", basic, 1000);
    expect(g, "docker.io", 1000 + 1000, basic);
    expect_none(g, "docker.io", 1000 + 60 * 1000);
    greeting_put(g, "docker.io", basic, 100000);
    expect(g, "docker.io", 100000, basic);
    greetings_free(&g);
}

/* Memory is bounded: the oldest gives way. */
static void test_bound(void **state)
{
    struct greetings *g = greetings_new();
    char name[32];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "r%d.example", i);
        greeting_put(g, name, basic, i);
        expect(g, name, i, basic);
    }
    expect_none(g, "r0.example", 1000);
    expect(g, "r999.example", 1000, basic);
    expect(g, "r990.example", 1000, basic);
    greetings_free(&g);
}

/* The longest that there are. */
static void test_longest(void **state)
{
    struct greetings *g = greetings_new();
    char name[NAME_MAX_SIZE], challenge[ASK_CHALLENGE_MAX];

    (void)state;
    memset(name, 'n', sizeof name - 1);
    memset(challenge, 'c', sizeof challenge - 1);
    name[sizeof name - 1] = challenge[sizeof challenge - 1] = '\0';
    greeting_put(g, name, challenge, 0);
    expect(g, name, 0, challenge);
    greetings_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_longest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
