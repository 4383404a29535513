/* SPDX-License-Identifier: ISC */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "cache/check.h"
#include "proxy/health.h"

#define HUB "docker.io"
#define MCR "mcr.microsoft.com"

struct bed {
    struct stats *stats;
    struct registry_stats *hub;
    struct health *health;
};

static int setup(void **state)
{
    struct bed *b = mem_new(sizeof *b);

    b->stats = mem_new(sizeof *b->stats);
    b->hub = stats_add_registry(b->stats, HUB);
    b->health = health_new(b->stats);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;

    health_free(&b->health);
    free(b->stats);
    free(b);
    return 0;
}

static void test_down_and_up_again(void **state)
{
    struct bed *b = *state;
    struct health *h = b->health;

    assert_int_equal(b->hub->up, 1);
    health_answered(h, HUB);
    assert_false(health_is_down(h, HUB));
    assert_false(health_take_probe(h, HUB, 0));
    health_unreachable(h, HUB, 1000);
    assert_true(health_is_down(h, HUB));
    assert_false(health_is_down(h, MCR));
    assert_int_equal(b->hub->up, 0);
    assert_false(health_take_probe(h, HUB, 1999));
    assert_true(health_take_probe(h, HUB, 2000));
    /* One at a time. */
    assert_false(health_take_probe(h, HUB, 2001));
    health_answered(h, HUB);
    assert_false(health_is_down(h, HUB));
    assert_int_equal(b->hub->up, 1);
    assert_false(health_take_probe(h, HUB, 99999));
}

/* 1, 2, 4, 8, 16, 30, 30 s; others who fail meanwhile add nothing. */
static void test_pauses_double(void **state)
{
    static const int64_t pauses_ms[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    struct bed *b = *state;
    int64_t now_ms = 0;

    for (size_t i = 0; i < sizeof pauses_ms / sizeof pauses_ms[0]; i++) {
        health_unreachable(b->health, HUB, now_ms);
        health_unreachable(b->health, HUB, now_ms + 500);
        now_ms += pauses_ms[i];
        assert_false(health_take_probe(b->health, HUB, now_ms - 1));
        assert_true(health_take_probe(b->health, HUB, now_ms));
    }
    health_answered(b->health, HUB);
    health_unreachable(b->health, HUB, now_ms);
    assert_true(health_take_probe(b->health, HUB, now_ms + 1000));
}

/* A probe of which nothing is heard does not keep others away for ever. */
static void test_a_lost_probe(void **state)
{
    struct bed *b = *state;

    health_unreachable(b->health, HUB, 0);
    assert_true(health_take_probe(b->health, HUB, 1000));
    assert_false(health_take_probe(b->health, HUB, 60999));
    assert_true(health_take_probe(b->health, HUB, 61000));
}

static void test_limits(void **state)
{
    struct bed *b = *state;
    struct health *h = b->health;

    assert_int_equal(health_limit_left(h, HUB, HEALTH_ASKS, 0), 0);
    assert_int_equal(health_limited(h, HUB, HEALTH_ASKS, 20, 1000), 20);
    assert_int_equal(health_limit_left(h, HUB, HEALTH_ASKS, 1000), 20);
    assert_int_equal(health_limit_left(h, HUB, HEALTH_ASKS, 20500), 1);
    assert_int_equal(health_limit_left(h, HUB, HEALTH_ASKS, 21000), 0);
    assert_int_equal(health_limit_left(h, HUB, HEALTH_BLOBS, 1000), 0);
    assert_int_equal(health_limit_left(h, MCR, HEALTH_ASKS, 1000), 0);
    assert_false(health_is_down(h, HUB));
    /* Where blobs are limited, all is; nothing said is 10 s, absurdly much 5 min. */
    assert_int_equal(health_limited(h, HUB, HEALTH_BLOBS, 0, 0), 10);
    assert_int_equal(health_limit_left(h, HUB, HEALTH_ASKS, 0), 10);
    assert_int_equal(health_limit_left(h, HUB, HEALTH_BLOBS, 0), 10);
    assert_int_equal(health_limited(h, HUB, HEALTH_ASKS, 86400, 0), 300);
}

/* What people and programs see: times of day, each only once it has a meaning. */
static void test_what_is_shown(void **state)
{
    struct bed *b = *state;
    uint64_t began_at = (uint64_t)time(NULL);

    assert_true(b->hub->changed_at == STATS_UNKNOWN && b->hub->answered_at == STATS_UNKNOWN);
    assert_true(b->hub->limited_until == STATS_UNKNOWN && b->hub->failure == 0);
    health_answered(b->health, HUB);
    assert_true(b->hub->answered_at >= began_at);
    assert_true(b->hub->changed_at == STATS_UNKNOWN);
    health_failed(b->health, HUB, OUT_UPSTREAM_REFUSED);
    health_unreachable(b->health, HUB, 0);
    assert_int_equal(b->hub->failure % OUTCOME_COUNT, OUT_UPSTREAM_REFUSED);
    assert_true(b->hub->failure / OUTCOME_COUNT >= began_at);
    assert_true(b->hub->changed_at >= began_at);
    /* It is down since the first failure. */
    b->hub->changed_at = 1;
    health_unreachable(b->health, HUB, 1000);
    assert_int_equal(b->hub->changed_at, 1);
    health_answered(b->health, HUB);
    assert_true(b->hub->changed_at >= began_at);
    (void)health_limited(b->health, HUB, HEALTH_ASKS, 20, 0);
    assert_true(b->hub->limited_until >= began_at + 20);
    /* Of one without counters nothing is shown, and nothing breaks. */
    health_failed(b->health, "nowhere.test", OUT_UPSTREAM_REFUSED);
    health_unreachable(b->health, "nowhere.test", 0);
    (void)health_limited(b->health, "nowhere.test", HEALTH_ASKS, 20, 0);
    health_answered(b->health, "nowhere.test");
}

static void test_forgotten(void **state)
{
    struct bed *b = *state;

    health_unreachable(b->health, HUB, 0);
    (void)health_limited(b->health, HUB, HEALTH_BLOBS, 60, 0);
    health_unreachable(b->health, MCR, 0);
    health_forget(b->health);
    assert_false(health_is_down(b->health, HUB));
    assert_int_equal(health_limit_left(b->health, HUB, HEALTH_ASKS, 0), 0);
    assert_int_equal(b->hub->up, 1);
    assert_true(b->hub->limited_until == STATS_UNKNOWN);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_down_and_up_again), TEST(test_pauses_double),
        TEST(test_a_lost_probe),      TEST(test_limits),
        TEST(test_what_is_shown),     TEST(test_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
