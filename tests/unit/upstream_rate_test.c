/* SPDX-License-Identifier: ISC */
/* Flows of content that share a rate. */
#include <event2/event.h>

#include "proxy/thread.h"
#include "proxy/upstream_rate.h"
#include "tests/unit/scratch.h"

#define CHUNK_BYTES 16384
#define RUN_MS 2000

/* One that always has more, as a fast upstream has. */
struct source {
    struct flow flow;
    uint64_t bytes;
};

struct bed {
    struct event_base *base;
    struct config *config;
    struct throttle *throttle;
};

static struct config *config_of(const char *text)
{
    struct config *c;
    FILE *in = fmemopen((void *)text, strlen(text), "r");

    assert_non_null(in);
    assert_int_equal(config_load_stream(&c, "test", in, stderr), 0);
    fclose(in);
    return c;
}

static void take_all(void *arg)
{
    struct source *s = arg;

    /* Where there is no limit, enough to see that. */
    while (s->bytes < (UINT64_C(1) << 30) && flow_take(&s->flow, CHUNK_BYTES))
        s->bytes += CHUNK_BYTES;
}

static bool is_background(void *arg)
{
    (void)arg;
    return true;
}

static void begin(struct bed *b, const char *text)
{
    b->config = config_of(text);
    b->base = event_base_new();
    assert_non_null(b->base);
    b->throttle = throttle_new(b->base, b->config);
}

static void end(struct bed *b, struct source *sources, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        flow_stop(&sources[i].flow);
    throttle_free(&b->throttle);
    event_base_free(b->base);
    config_unref(&b->config);
}

static void run(struct bed *b, struct source *sources, unsigned count)
{
    struct timeval tv = {.tv_sec = RUN_MS / 1000};

    for (unsigned i = 0; i < count; i++)
        take_all(&sources[i]);
    assert_int_equal(event_base_loopexit(b->base, &tv), 0);
    assert_int_equal(event_base_dispatch(b->base), 0);
}

/* A bucket lets its burst pass at first. */
static void expect_rate(uint64_t bytes, uint64_t bytes_per_s)
{
    uint64_t want = bytes_per_s * RUN_MS / 1000;

    assert_in_range(bytes, want * 93 / 100, want * 103 / 100 + bytes_per_s / 10 + 65536);
}

static void test_a_rate_is_shared_evenly(void **state)
{
    struct source s[3] = {0};
    struct bed b;

    (void)state;
    begin(&b, "[cache]\nrate = 4MB/s\n[upstream a.test]\nurl = http://a.test\n"
              "[upstream b.test]\nurl = http://b.test\n");
    for (unsigned i = 0; i < 3; i++)
        flow_init(&s[i].flow, b.throttle, i < 2 ? "a.test" : "b.test", NULL, take_all, &s[i]);
    run(&b, s, 3);
    expect_rate(s[0].bytes + s[1].bytes + s[2].bytes, 4000000);
    for (unsigned i = 1; i < 3; i++)
        assert_in_range(s[i].bytes, s[0].bytes * 8 / 10, s[0].bytes * 12 / 10);
    end(&b, s, 3);
}

static void test_a_slow_upstream_holds_up_no_other(void **state)
{
    struct source s[3] = {0};
    struct bed b;

    (void)state;
    begin(&b, "[cache]\nrate = 8MB/s\n[upstream a.test]\nurl = http://a.test\nrate = 1MB/s\n"
              "[upstream b.test]\nurl = http://b.test\n");
    for (unsigned i = 0; i < 3; i++)
        flow_init(&s[i].flow, b.throttle, i < 2 ? "a.test" : "b.test", NULL, take_all, &s[i]);
    run(&b, s, 3);
    expect_rate(s[0].bytes + s[1].bytes, 1000000);
    expect_rate(s[0].bytes + s[1].bytes + s[2].bytes, 8000000);
    end(&b, s, 3);
}

static void test_background_has_a_rate_of_its_own(void **state)
{
    struct source s[2] = {0};
    struct bed b;

    (void)state;
    begin(&b, "[cache]\nrate = 4MB/s\nbackground-rate = 1MB/s\n");
    flow_init(&s[0].flow, b.throttle, "docker.io", is_background, take_all, &s[0]);
    flow_init(&s[1].flow, b.throttle, "docker.io", NULL, take_all, &s[1]);
    run(&b, s, 2);
    expect_rate(s[0].bytes, 1000000);
    expect_rate(s[0].bytes + s[1].bytes, 4000000);
    end(&b, s, 2);
}

/* The background waits for its own rate, and so for long: nobody else does. */
static void test_a_slow_background_holds_up_nobody(void **state)
{
    struct source s[2] = {0};
    struct bed b;

    (void)state;
    begin(&b, "[cache]\nrate = 4MB/s\nbackground-rate = 8kbit/s\n");
    flow_init(&s[0].flow, b.throttle, "docker.io", is_background, take_all, &s[0]);
    flow_init(&s[1].flow, b.throttle, "docker.io", NULL, take_all, &s[1]);
    run(&b, s, 2);
    assert_in_range(s[0].bytes, 1, 65536 + 32768);
    expect_rate(s[0].bytes + s[1].bytes, 4000000);
    end(&b, s, 2);
}

static bool is_idle(void *arg)
{
    struct source *s = arg;

    return s->bytes < 100000;
}

/* While it waits somebody comes to want it: from then on it is not held back. */
static void test_background_that_is_wanted(void **state)
{
    struct source s = {0};
    struct bed b;

    (void)state;
    begin(&b, "[cache]\nbackground-rate = 8kbit/s\n");
    flow_init(&s.flow, b.throttle, "docker.io", is_idle, take_all, &s);
    take_all(&s);
    assert_in_range(s.bytes, 1, 65536);
    s.bytes = 100000;
    run(&b, &s, 1);
    assert_in_range(s.bytes, UINT64_C(1) << 30, (UINT64_C(1) << 30) + CHUNK_BYTES);
    end(&b, &s, 1);
}

static void test_a_rate_that_changes(void **state)
{
    struct source s = {0};
    struct bed b;

    (void)state;
    begin(&b, "[upstream a.test]\nurl = http://a.test\nrate = 8kbit/s\n");
    struct config *free_config = config_of("[upstream a.test]\nurl = http://a.test\n");
    flow_init(&s.flow, b.throttle, "a.test", NULL, take_all, &s);
    take_all(&s);
    assert_in_range(s.bytes, 1, 65536);
    throttle_set_config(b.throttle, free_config);
    run(&b, &s, 1);
    assert_int_equal(s.bytes, UINT64_C(1) << 30);
    end(&b, &s, 1);
    config_unref(&free_config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rate_is_shared_evenly),
        cmocka_unit_test(test_a_slow_upstream_holds_up_no_other),
        cmocka_unit_test(test_background_has_a_rate_of_its_own),
        cmocka_unit_test(test_a_slow_background_holds_up_nobody),
        cmocka_unit_test(test_background_that_is_wanted),
        cmocka_unit_test(test_a_rate_that_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
