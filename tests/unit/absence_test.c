/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/absence.h"

static const struct name one = {"docker.io", "acme/one"};
static const struct name two = {"docker.io", "acme/two"};

/* An absence is one path's of one repository, and holds for a time. */
static void test_scope(void **state)
{
    struct absences *a = absences_new(10);

    (void)state;
    assert_false(absence_is_fresh(a, &one, "manifests/1", 0, 1000));
    absence_add(a, &one, "manifests/1", 100);
    assert_true(absence_is_fresh(a, &one, "manifests/1", 1099, 1000));
    assert_false(absence_is_fresh(a, &one, "manifests/1", 1100, 1000));
    assert_false(absence_is_fresh(a, &one, "manifests/1", 100, 0));
    assert_false(absence_is_fresh(a, &one, "manifests/2", 100, 1000));
    assert_false(absence_is_fresh(a, &one, "blobs/1", 100, 1000));
    assert_false(absence_is_fresh(a, &two, "manifests/1", 100, 1000));
    absence_add(a, &one, "manifests/1", 500);
    assert_true(absence_is_fresh(a, &one, "manifests/1", 1100, 1000));
    absences_free(&a);
    assert_null(a);
    absences_free(&a);
}

/* Memory is bounded: what was seen longest ago gives way. */
static void test_bound(void **state)
{
    struct absences *a = absences_new(100);
    char path[32];

    (void)state;
    for (int i = 0; i < 150; i++) {
        snprintf(path, sizeof path, "manifests/%d", i);
        absence_add(a, &one, path, i);
        absence_add(a, &one, "manifests/0", i);
    }
    for (int i = 0; i < 150; i++) {
        snprintf(path, sizeof path, "manifests/%d", i);
        assert_int_equal(absence_is_fresh(a, &one, path, 150, 1000), i == 0 || i >= 51);
    }
    absences_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scope),
        cmocka_unit_test(test_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
