/* SPDX-License-Identifier: ISC */
/* What a command takes the settings of the room for, without a daemon. */
#include "tools/limits.h"

#include "tests/unit/scratch.h"

/* As cachalotd does, which refuses to start with what is out of range. */
static void test_shares(void **state)
{
    struct options o = {.size = "50%", .min_free = "20GiB", .evict_to = "80%"};
    struct room_limits l = limits_room(&o);

    (void)state;
    assert_int_equal(l.size.percent, 50);
    assert_int_equal(l.min_free.percent, 0);
    assert_int_equal(l.min_free.bytes, UINT64_C(20) << 30);
    assert_int_equal(l.low_percent, 80);
}

static void test_defaults(void **state)
{
    static const struct options all[] = {
        {.size = NULL},
        {.size = "101%", .min_free = "100%", .evict_to = "9%", .push_grace = "31d"},
        {.size = "lots", .min_free = "", .evict_to = "100%", .push_grace = "1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct room_limits l = limits_room(&all[i]);

        assert_int_equal(l.size.percent, 90);
        assert_int_equal(l.min_free.percent, 2);
        assert_int_equal(l.low_percent, 95);
        assert_int_equal(limits_rules(&all[i]).grace_s, 3600);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_defaults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
