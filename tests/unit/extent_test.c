/* SPDX-License-Identifier: ISC */
/* Ranges of bytes, against a plain map of them. */
#include "cache/extent.h"
#include "tests/unit/scratch.h"

#define SPACE 600

static void expect(const struct extents *x, unsigned count, const struct extent *want)
{
    assert_int_equal(x->count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(x->list[i].start, want[i].start);
        assert_int_equal(x->list[i].end, want[i].end);
    }
}

static void test_ranges_merge(void **state)
{
    struct extents x = {0};

    (void)state;
    assert_true(extents_add(&x, 10, 20));
    assert_true(extents_add(&x, 30, 40));
    assert_true(extents_add(&x, 25, 25));
    expect(&x, 2, (struct extent[]){{10, 20}, {30, 40}});
    assert_true(extents_add(&x, 20, 25));
    expect(&x, 2, (struct extent[]){{10, 25}, {30, 40}});
    assert_true(extents_add(&x, 0, 5));
    assert_int_equal(extents_front(&x), 5);
    assert_true(extents_add(&x, 4, 31));
    expect(&x, 1, (struct extent[]){{0, 40}});
    assert_true(extents_add(&x, 50, 60));
    assert_true(extents_add(&x, 70, 80));
    assert_int_equal(extents_bytes(&x), 60);
    extents_cut(&x, 55);
    expect(&x, 2, (struct extent[]){{0, 40}, {50, 55}});
    extents_cut(&x, 0);
    assert_int_equal(x.count, 0);
}

static void test_gaps(void **state)
{
    struct extents x = {0};
    uint64_t end;

    (void)state;
    assert_int_equal(extents_gap(&x, 7, &end), 7);
    assert_true(end == UINT64_MAX);
    assert_true(extents_add(&x, 10, 20) && extents_add(&x, 30, 40));
    assert_int_equal(extents_gap(&x, 0, &end), 0);
    assert_int_equal(end, 10);
    assert_int_equal(extents_gap(&x, 10, &end), 20);
    assert_int_equal(end, 30);
    assert_int_equal(extents_gap(&x, 20, &end), 20);
    assert_int_equal(end, 30);
    assert_int_equal(extents_gap(&x, 29, &end), 29);
    assert_int_equal(end, 30);
    assert_int_equal(extents_gap(&x, 35, &end), 40);
    assert_true(end == UINT64_MAX);
}

static void test_there_is_a_limit(void **state)
{
    struct extents x = {0};

    (void)state;
    for (uint64_t i = 0; i < EXTENTS_MAX; i++)
        assert_true(extents_add(&x, 10 * i, 10 * i + 5));
    assert_false(extents_add(&x, 10 * EXTENTS_MAX, 10 * EXTENTS_MAX + 1));
    assert_int_equal(x.count, EXTENTS_MAX);
    assert_true(extents_add(&x, 5, 10));
    assert_int_equal(x.count, EXTENTS_MAX - 1);
    assert_true(extents_add(&x, 10 * EXTENTS_MAX, 10 * EXTENTS_MAX + 1));
}

static void check_against_map(const struct extents *x, const bool *map)
{
    uint64_t bytes = 0, front = 0, from, end;

    for (unsigned i = 0; i < SPACE; i++)
        bytes += map[i];
    while (front < SPACE && map[front])
        front++;
    assert_int_equal(extents_bytes(x), bytes);
    assert_int_equal(extents_front(x), front);
    for (unsigned i = 0; i < x->count; i++) {
        assert_true(x->list[i].start < x->list[i].end);
        assert_true(i == 0 || x->list[i - 1].end < x->list[i].start);
    }
    for (from = 0; from < SPACE; from++) {
        uint64_t start = extents_gap(x, from, &end);
        for (uint64_t i = from; i < start && i < SPACE; i++)
            assert_true(map[i]);
        for (uint64_t i = start; i < end && i < SPACE; i++)
            assert_false(map[i]);
        assert_true(end >= SPACE || map[end]);
    }
}

static void test_any_order(void **state)
{
    uint32_t dice = 5;

    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        struct extents x = {0};
        bool map[SPACE] = {false};
        for (unsigned i = 0; i < 40; i++) {
            dice = dice * 1664525 + 1013904223;
            unsigned start = (dice >> 8) % SPACE;
            unsigned end = start + (dice >> 20) % 24;
            end = end < SPACE ? end : SPACE;
            assert_true(extents_add(&x, start, end));
            memset(map + start, true, end - start);
        }
        check_against_map(&x, map);
        extents_cut(&x, SPACE / 2);
        memset(map + SPACE / 2, false, SPACE - SPACE / 2);
        check_against_map(&x, map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges_merge),
        cmocka_unit_test(test_gaps),
        cmocka_unit_test(test_there_is_a_limit),
        cmocka_unit_test(test_any_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
