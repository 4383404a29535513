/* SPDX-License-Identifier: ISC */
#include "proxy/attempt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static void a_user_has_ten_a_minute(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(100);

    for (int i = 0; i < ATTEMPTS_OF_USER; i++)
        assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 1000 + i), 0);
    assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 1000 + 20), 60);
    assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 60999), 1);
    /* Others are not held up, nor she elsewhere. */
    assert_int_equal(attempt_begin(a, "10.0.0.1", "bob", 2000), 0);
    assert_int_equal(attempt_begin(a, "10.0.0.2", "alice", 2000), 0);
    assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 61000), 0);
    attempts_free(&a);
    assert_null(a);
}

static void right_ones_do_not_count(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(100);

    for (int i = 0; i < 1000; i++) {
        assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 1000), 0);
        attempt_forgive(a, "10.0.0.1", "alice", 1000);
    }
    /* Nor do they make up for wrong ones. */
    for (int i = 0; i < ATTEMPTS_OF_USER; i++) {
        assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 1000), 0);
        attempt_forgive(a, "10.0.0.1", "bob", 1000);
    }
    assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 1000), 60);
    /* One that ends in the next minute gives nothing to it. */
    attempt_forgive(a, "10.0.0.1", "alice", 70000);
    for (int i = 0; i < ATTEMPTS_OF_USER; i++)
        assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 70000), 0);
    assert_int_not_equal(attempt_begin(a, "10.0.0.1", "alice", 70000), 0);
    attempts_free(&a);
}

static int begin_as(struct attempts *a, const char *peer, int i)
{
    char user[16];

    snprintf(user, sizeof user, "u%d", i);
    return attempt_begin(a, peer, user, 5000);
}

static void an_address_has_sixty_a_minute(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(1000);

    for (int i = 0; i < ATTEMPTS_OF_ADDRESS; i++)
        assert_int_equal(begin_as(a, "10.0.0.1", i), 0);
    assert_int_equal(begin_as(a, "10.0.0.1", ATTEMPTS_OF_ADDRESS), 60);
    assert_int_equal(begin_as(a, "10.0.0.2", ATTEMPTS_OF_ADDRESS), 0);
    attempts_free(&a);
}

static void a_network_of_ipv6_is_one_address(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(1000);
    char peer[64];

    for (int i = 0; i < ATTEMPTS_OF_USER; i++) {
        snprintf(peer, sizeof peer, "2001:db8:0:1::%x", i);
        assert_int_equal(attempt_begin(a, peer, "alice", 1000), 0);
    }
    assert_int_equal(attempt_begin(a, "2001:db8:0:1:ffff::", "alice", 1000), 60);
    assert_int_equal(attempt_begin(a, "2001:db8:0:2::1", "alice", 1000), 0);
    assert_int_equal(attempt_begin(a, "::ffff:10.0.0.1", "alice", 1000), 0);
    assert_int_equal(attempt_begin(a, "unix", "alice", 1000), 0);
    attempts_free(&a);
}

/* Memory is bounded: names of a stranger's making push out older ones, but never the count
 * of the address that they come from. */
static void the_oldest_gives_way(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(10);
    int made = 0;

    for (int i = 0; i < 10000; i++)
        made += begin_as(a, "10.0.0.1", i) == 0;
    assert_int_equal(made, ATTEMPTS_OF_ADDRESS);
    attempts_free(&a);
    a = attempts_new(2);
    for (int i = 0; i < ATTEMPTS_OF_USER; i++)
        assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 1000), 0);
    assert_int_equal(attempt_begin(a, "10.0.0.1", "alice", 1000), 60);
    attempts_free(&a);
    attempts_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_user_has_ten_a_minute),
        cmocka_unit_test(right_ones_do_not_count),
        cmocka_unit_test(an_address_has_sixty_a_minute),
        cmocka_unit_test(a_network_of_ipv6_is_one_address),
        cmocka_unit_test(the_oldest_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
