/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/permit.h"

static const struct name one = {"docker.io", "acme/one"};
static const struct name two = {"docker.io", "acme/two"};

/* A proof is for one credential and one repository, and for a time. */
static void test_scope(void **state)
{
    struct permits *p = permits_new(10);
    struct fingerprint alice = permit_fingerprint(p, "Bearer alice");
    struct fingerprint bob = permit_fingerprint(p, "Bearer bob");

    (void)state;
    assert_false(permit_is_fresh(p, &alice, &one, 0, 1000));
    permit_add(p, &alice, &one, 100);
    assert_true(permit_is_fresh(p, &alice, &one, 100, 1000));
    assert_true(permit_is_fresh(p, &alice, &one, 1099, 1000));
    assert_false(permit_is_fresh(p, &alice, &one, 1100, 1000));
    assert_false(permit_is_fresh(p, &bob, &one, 100, 1000));
    assert_false(permit_is_fresh(p, &alice, &two, 100, 1000));
    permit_drop(p, &alice, &one);
    permit_drop(p, &bob, &two);
    assert_false(permit_is_fresh(p, &alice, &one, 100, 1000));
    permits_free(&p);
}

/* Memory is bounded: the oldest proof gives way. */
static void test_bound(void **state)
{
    struct permits *p = permits_new(3);
    struct fingerprint f[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        char text[] = {'B', ' ', (char)('a' + i), '\0'};

        f[i] = permit_fingerprint(p, text);
        permit_add(p, &f[i], &one, i);
        permit_add(p, &f[0], &one, i);
    }
    assert_true(permit_is_fresh(p, &f[0], &one, 3, 1000));
    assert_false(permit_is_fresh(p, &f[1], &one, 3, 1000));
    assert_true(permit_is_fresh(p, &f[2], &one, 3, 1000));
    assert_true(permit_is_fresh(p, &f[3], &one, 3, 1000));
    permits_free(&p);
}

/* What is kept of a credential is useless elsewhere: another process gives it
 * another name. */
static void test_key(void **state)
{
    struct permits *p = permits_new(1), *q = permits_new(1);
    struct fingerprint a = permit_fingerprint(p, "Bearer x");
    struct fingerprint b = permit_fingerprint(q, "Bearer x");

    (void)state;
    assert_memory_not_equal(&a, &b, sizeof a);
    permits_free(&p);
    permits_free(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scope),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_key),
    };

    return cmocka_run_group_tests_name("permit", tests, NULL, NULL);
}
