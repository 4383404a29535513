/* SPDX-License-Identifier: ISC */
#include "cache/digest_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct digest digest_number(enum digest_alg alg, unsigned number)
{
    struct digest d;

    digest_of(alg, &number, sizeof number, &d);
    return d;
}

static void an_empty_one_has_nothing(void **state)
{
    (void)state;
    struct digest_map *m = digest_map_new();
    struct digest d = digest_number(DIGEST_SHA256, 1);

    assert_int_equal(digest_map_count(m), 0);
    assert_false(digest_map_find(m, &d, NULL));
    digest_map_free(&m);
    assert_null(m);
    digest_map_free(&m);
}

/* Numbers are given in the order in which digests come, and stay. */
static void each_has_its_number(void **state)
{
    (void)state;
    struct digest_map *m = digest_map_new();
    size_t number;

    for (unsigned i = 0; i < 5000; i++) {
        struct digest d = digest_number(i % 2 == 0 ? DIGEST_SHA256 : DIGEST_SHA512, i);

        assert_false(digest_map_find(m, &d, NULL));
        assert_true(digest_map_add(m, &d, &number));
        assert_int_equal(number, i);
        assert_false(digest_map_add(m, &d, &number));
        assert_int_equal(number, i);
    }
    assert_int_equal(digest_map_count(m), 5000);
    for (unsigned i = 0; i < 5000; i++) {
        struct digest d = digest_number(i % 2 == 0 ? DIGEST_SHA256 : DIGEST_SHA512, i);

        assert_true(digest_map_find(m, &d, &number));
        assert_int_equal(number, i);
        assert_true(digest_equal(digest_map_at(m, i), &d));
        d.bytes[0] ^= 1;
        assert_false(digest_map_find(m, &d, &number));
    }
    digest_map_free(&m);
}

/* Receipts are written by whoever likes: digests that differ in one place only are told
 * apart in time. */
static void digests_that_are_alike(void **state)
{
    (void)state;
    struct digest_map *m = digest_map_new();
    struct digest d = {.alg = DIGEST_SHA512};
    size_t number;

    for (unsigned i = 0; i < 60000; i++) {
        memcpy(&d.bytes[i % 2 == 0 ? 0 : 60], &i, sizeof i);
        assert_true(digest_map_add(m, &d, &number));
    }
    assert_int_equal(digest_map_count(m), 60000);
    digest_map_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_has_nothing),
        cmocka_unit_test(each_has_its_number),
        cmocka_unit_test(digests_that_are_alike),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
