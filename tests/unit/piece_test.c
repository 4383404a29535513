/* SPDX-License-Identifier: ISC */
/* How a blob is cut, and in which order its pieces are taken. */
#include "proxy/piece.h"
#include "tests/unit/scratch.h"

#define MIB (UINT64_C(1024) * 1024)

static void test_sizes(void **state)
{
    static const struct {
        uint64_t size_mib;
        unsigned connections;
        uint64_t piece_mib;
    } rows[] = {
        {65, 2, 4},    {65, 16, 4},    {512, 4, 16},  {512, 8, 8},    {700, 4, 16},
        {1536, 4, 64}, {1536, 16, 16}, {4096, 4, 64}, {65536, 2, 64}, {65536, 16, 64},
        {100, 4, 4},   {256, 4, 8},    {1024, 4, 32}, {1023, 4, 32},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(piece_size(rows[i].size_mib * MIB, rows[i].connections),
                         rows[i].piece_mib * MIB);
}

static void expect(const struct extents *have, const struct extent *taken, unsigned count,
                   uint64_t start, uint64_t end)
{
    struct extent p;

    assert_true(piece_next(have, taken, count, 100, 10, &p));
    assert_int_equal(p.start, start);
    assert_int_equal(p.end, end);
}

static void test_the_front_comes_first(void **state)
{
    struct extents have = {0};
    struct extent taken[3] = {{0}}, p;

    (void)state;
    expect(&have, taken, 0, 0, 10);
    taken[0] = (struct extent){0, 10};
    expect(&have, taken, 1, 10, 20);
    taken[1] = (struct extent){10, 20};
    expect(&have, taken, 2, 20, 30);
    /* One that broke off: its rest is what is missing first. */
    assert_true(extents_add(&have, 0, 4));
    taken[0] = (struct extent){20, 30};
    expect(&have, taken, 2, 4, 10);
    /* What is there already, and the end. */
    assert_true(extents_add(&have, 4, 95));
    expect(&have, taken, 0, 95, 100);
    taken[0] = (struct extent){95, UINT64_MAX};
    assert_false(piece_next(&have, taken, 1, 100, 10, &p));
    assert_true(extents_add(&have, 95, 100));
    assert_false(piece_next(&have, taken, 0, 100, 10, &p));
}

/* Whatever order connections take, break off and finish in, every byte is asked for
 * once, and no more ranges come about than there are connections. */
static void test_any_course_of_events(void **state)
{
    enum { LANES = 5, SIZE = 3000 };
    uint32_t dice = 9;

    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        struct extents have = {0};
        struct extent lanes[LANES];
        unsigned active = 0;
        uint64_t bytes = 0;
        while (bytes < SIZE) {
            dice = dice * 1664525 + 1013904223;
            unsigned what = (dice >> 8) % 16;
            struct extent p;
            if (active < LANES && what < 6 && piece_next(&have, lanes, active, SIZE, 64, &p)) {
                assert_true(p.start < p.end && p.end <= SIZE && p.end - p.start <= 64);
                lanes[active++] = p;
            } else if (active > 0) {
                struct extent *l = &lanes[(dice >> 12) % active];
                uint64_t len = (dice >> 20) % 40;
                len = len < l->end - l->start ? len : l->end - l->start;
                assert_true(extents_add(&have, l->start, l->start + len));
                bytes += len;
                assert_int_equal(extents_bytes(&have), bytes);
                l->start += len;
                if (l->start == l->end || what == 15)
                    *l = lanes[--active];
            }
            assert_true(have.count <= LANES + 1);
        }
        assert_int_equal(extents_front(&have), SIZE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_the_front_comes_first),
        cmocka_unit_test(test_any_course_of_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
