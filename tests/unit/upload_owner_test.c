/* SPDX-License-Identifier: ISC */
/* Whose sessions rest, and which of them may be ended. */
#include "proxy/upload_owner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cache/check.h"

/* An id that is told by its first letter. */
static const char *id_of(char c)
{
    static char id[UPLOAD_ID_SIZE];

    memset(id, '0', sizeof id - 1);
    id[0] = c;
    return id;
}

static void begin_resting(struct upload_owners *o, const char *owner, char c, bool has_bytes,
                          int64_t now_ms)
{
    upload_owners_begin(o, owner, id_of(c));
    upload_owners_rest(o, id_of(c), has_bytes, now_ms);
}

/* The letter of the one that was taken; '-': none. */
static char taken(struct upload_owners *o, const char *owner)
{
    char id[UPLOAD_ID_SIZE];

    return upload_owners_take_empty(o, owner, id) ? id[0] : '-';
}

static void those_that_rest_are_counted(void **state)
{
    struct upload_owners *o = upload_owners_new();

    (void)state;
    upload_owners_begin(o, "a", id_of('1'));
    assert_int_equal(upload_owners_resting(o, "a"), 0);
    upload_owners_rest(o, id_of('1'), false, 1);
    upload_owners_rest(o, id_of('1'), false, 2);
    begin_resting(o, "b", '2', true, 3);
    assert_int_equal(upload_owners_resting(o, "a"), 1);
    assert_int_equal(upload_owners_resting(o, "b"), 1);
    upload_owners_use(o, id_of('1'));
    upload_owners_use(o, id_of('1'));
    assert_int_equal(upload_owners_resting(o, "a"), 0);
    upload_owners_end(o, id_of('2'));
    assert_int_equal(upload_owners_resting(o, "b"), 0);
    upload_owners_end(o, id_of('2'));
    /* One that is not known. */
    upload_owners_use(o, id_of('3'));
    upload_owners_rest(o, id_of('3'), false, 4);
    assert_int_equal(taken(o, NULL), '-');
    upload_owners_free(&o);
    assert_null(o);
    upload_owners_free(&o);
}

static void the_oldest_without_bytes_is_taken(void **state)
{
    struct upload_owners *o = upload_owners_new();

    (void)state;
    begin_resting(o, "a", '1', true, 1);
    begin_resting(o, "b", '2', false, 2);
    begin_resting(o, "a", '3', false, 3);
    begin_resting(o, "a", '4', false, 4);
    begin_resting(o, "b", '5', false, 5);
    upload_owners_use(o, id_of('3'));
    upload_owners_rest(o, id_of('3'), false, 6);
    /* That it was opened in vain later does not say that it has none. */
    upload_owners_use(o, id_of('1'));
    upload_owners_rest(o, id_of('1'), false, 7);
    assert_int_equal(taken(o, "nobody"), '-');
    assert_int_equal(taken(o, "a"), '4');
    assert_int_equal(taken(o, NULL), '2');
    upload_owners_use(o, id_of('5'));
    assert_int_equal(taken(o, NULL), '3');
    assert_int_equal(taken(o, NULL), '-');
    assert_int_equal(upload_owners_resting(o, "a"), 1);
    upload_owners_free(&o);
}

static void those_that_rest_long_expire(void **state)
{
    struct upload_owners *o = upload_owners_new();

    (void)state;
    begin_resting(o, "a", '1', true, 1);
    begin_resting(o, "a", '2', false, 2);
    upload_owners_begin(o, "a", id_of('3'));
    upload_owners_expire(o, 2);
    assert_int_equal(upload_owners_resting(o, "a"), 1);
    upload_owners_expire(o, 3);
    assert_int_equal(upload_owners_resting(o, "a"), 0);
    upload_owners_rest(o, id_of('3'), true, 9);
    assert_int_equal(upload_owners_resting(o, "a"), 1);
    upload_owners_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_that_rest_are_counted),
        cmocka_unit_test(the_oldest_without_bytes_is_taken),
        cmocka_unit_test(those_that_rest_long_expire),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
