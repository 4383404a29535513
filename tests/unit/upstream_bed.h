/* SPDX-License-Identifier: ISC */
/* An upstream thread with all that it needs, and two scripted origins for it to ask. */
#ifndef TESTS_UNIT_UPSTREAM_BED_H
#define TESTS_UNIT_UPSTREAM_BED_H

#include "proxy/outcome.h"
#include "proxy/thread.h"
#include "proxy/upstream.h"
#include "tests/unit/origin.h"

#define DEADLINE_MS 20000
#define BODY_BYTES (2u * 1024 * 1024)

struct bed {
    struct scratch *scratch;
    struct stats stats;
    struct storage *storage;
    struct fetch_table *fetches;
    struct ask_table *asks;
    struct health *health;
    struct config *config;
    struct upstream *upstream;
    struct origin *origin;
    struct origin *second;
    struct fetch *fetch;
    struct ask *ask;
    uint8_t *body;
    struct digest digest; /* of the body */
    char head[512];
    char digest_text[DIGEST_TEXT_MAX];
};

/* No client's credentials. */
static const struct behalf nobody;

static inline struct name name(void)
{
    return scratch_name("reg.test", "team/app");
}

/* Start with urls of both origins, or the first. */
static inline void start(struct bed *b, bool with_second, const char *options)
{
    char text[512];

    int len = snprintf(text, sizeof text, "[upstream reg.test]\nurl = http://127.0.0.1:%u\n%s\n",
                       b->origin->port, options);
    if (with_second)
        len = snprintf(text, sizeof text,
                       "[upstream reg.test]\nurl = http://127.0.0.1:%u http://127.0.0.1:%u\n%s\n",
                       b->origin->port, b->second->port, options);
    FILE *in = fmemopen(text, (size_t)len, "r");
    assert_non_null(in);
    assert_int_equal(config_load_stream(&b->config, "test", in, stderr), 0);
    fclose(in);
    struct upstream_parts parts = {
        .store = b->scratch->store,
        .storage = b->storage,
        .fetches = b->fetches,
        .asks = b->asks,
        .health = b->health,
        .stats = &b->stats,
    };
    b->upstream = upstream_start(&parts, b->config);
}

static inline int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);
    uint32_t x = 7;

    assert_non_null(b);
    b->scratch = scratch_new();
    stats_add_registry(&b->stats, "reg.test");
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
    b->fetches = fetch_table_new();
    b->asks = ask_table_new();
    b->health = health_new(&b->stats);
    b->origin = origin_start();
    b->second = origin_start();
    b->body = malloc(BODY_BYTES);
    assert_non_null(b->body);
    for (size_t i = 0; i < BODY_BYTES; i++) {
        x = x * 1664525 + 1013904223;
        b->body[i] = (uint8_t)(x >> 24);
    }
    digest_of(DIGEST_SHA256, b->body, BODY_BYTES, &b->digest);
    digest_text(&b->digest, b->digest_text);
    *state = b;
    return 0;
}

static inline int teardown(void **state)
{
    struct bed *b = *state;

    fetch_unref(&b->fetch);
    ask_unref(&b->ask);
    upstream_stop(&b->upstream);
    storage_stop(&b->storage);
    origin_stop(b->origin);
    origin_stop(b->second);
    fetch_table_free(&b->fetches);
    ask_table_free(&b->asks);
    health_free(&b->health);
    config_unref(&b->config);
    scratch_free(b->scratch);
    free(b->body);
    free(b);
    return 0;
}

/* A condition that other threads make true, without a callback for it. */
#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        int64_t end_ms = clock_now_ms() + DEADLINE_MS;                                             \
        while (!(condition)) {                                                                     \
            if (clock_now_ms() > end_ms)                                                           \
                fail_msg("waited in vain for %s", #condition);                                     \
            poll(NULL, 0, 1);                                                                      \
        }                                                                                          \
    } while (0)

/* A head with a Content-Length; one at a time. */
static const char *head_of(struct bed *b, int status, size_t length, const char *more)
{
    snprintf(b->head, sizeof b->head, "HTTP/1.1 %d Answer\r\nContent-Length: %zu\r\n%s\r\n", status,
             length, more);
    return b->head;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
