/* SPDX-License-Identifier: ISC */
/*
 * The write thread and the hash thread with all that they need. The test plays the upstream thread:
 * it runs the answers that come to its queue.
 */
#ifndef TESTS_UNIT_INTAKE_BED_H
#define TESTS_UNIT_INTAKE_BED_H

#include <dirent.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/link.h"
#include "cache/partial.h"
#include "proxy/intake_private.h"
#include "proxy/outcome.h"
#include "proxy/thread.h"
#include "tests/unit/plug.h"
#include "tests/unit/scratch.h"

#define DEADLINE_MS 20000
#define MIB (1024u * 1024)

struct bed {
    struct scratch *scratch;
    struct stats stats;
    struct storage *storage;
    struct fetch_table *fetches;
    struct queue *answers;
    struct hasher *hasher;
    uint8_t *data;
    /* What the callbacks said of the intake at hand. */
    struct intake *intake;
    struct fetch *fetch;
    int opened, opened_err, broken_err, ended, ended_err;
    uint64_t kept_bytes, drained_bytes;
    struct extents kept;
    bool kept_elsewhere;
    uint64_t at; /* where append_raw goes on */
};

static inline void on_opened(void *arg, int err, const struct extents *kept, bool is_elsewhere)
{
    struct bed *b = arg;

    b->opened++;
    b->opened_err = err;
    b->kept = *kept;
    b->kept_elsewhere = is_elsewhere;
    b->kept_bytes = extents_front(kept);
    b->at = b->kept_bytes;
}

static inline void on_drained(void *arg, uint64_t bytes)
{
    ((struct bed *)arg)->drained_bytes += bytes;
}

static inline void on_broken(void *arg, int err)
{
    ((struct bed *)arg)->broken_err = err;
}

static inline void on_ended(void *arg, int err)
{
    struct bed *b = arg;

    b->ended++;
    b->ended_err = err;
}

static const struct intake_calls calls = {
    .opened = on_opened, .drained = on_drained, .broken = on_broken, .ended = on_ended};

#define DATA_BYTES (8 * MIB)

static inline int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);
    uint32_t x = 1;

    assert_non_null(b);
    b->scratch = scratch_new();
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
    b->fetches = fetch_table_new();
    b->answers = queue_new();
    b->hasher =
        hasher_start(b->scratch->store, b->storage, b->fetches, b->answers, NULL, &b->stats, NULL);
    b->data = malloc(DATA_BYTES);
    assert_non_null(b->data);
    for (size_t i = 0; i < DATA_BYTES; i++) {
        x = x * 1664525 + 1013904223;
        b->data[i] = (uint8_t)(x >> 24);
    }
    *state = b;
    return 0;
}

static inline int teardown(void **state)
{
    struct bed *b = *state;

    fetch_unref(&b->fetch);
    hasher_stop(&b->hasher);
    storage_stop(&b->storage);
    fetch_table_free(&b->fetches);
    queue_free(&b->answers);
    scratch_free(b->scratch);
    free(b->data);
    free(b);
    return 0;
}

/* Run answers until the condition holds. */
#define AWAIT(b, condition)                                                                        \
    do {                                                                                           \
        int64_t end_ms = clock_now_ms() + DEADLINE_MS;                                             \
        while (!(condition)) {                                                                     \
            if (clock_now_ms() > end_ms)                                                           \
                fail_msg("waited in vain for %s", #condition);                                     \
            queue_wait((b)->answers, 10);                                                          \
            queue_run((b)->answers, (b));                                                          \
        }                                                                                          \
    } while (0)

static inline struct digest digest_of_data(const struct bed *b, enum digest_alg alg, size_t len)
{
    struct digest d;

    digest_of(alg, b->data, len, &d);
    return d;
}

static inline void begin_of(struct bed *b, const struct digest *d, const struct name *n,
                            bool is_private, bool is_elsewhere)
{
    bool created;

    fetch_unref(&b->fetch);
    b->fetch = fetch_join(b->fetches, d, is_private ? n : NULL, &created);
    assert_true(created);
    b->opened = b->ended = b->broken_err = 0;
    b->drained_bytes = 0;
    b->intake = intake_new(b->hasher, b->fetch, n, is_elsewhere, &calls, b);
    AWAIT(b, b->opened == 1);
}

static inline void begin(struct bed *b, const struct digest *d)
{
    struct name n = scratch_name("docker.io", "library/alpine");

    begin_of(b, d, &n, false, false);
}

static inline struct fetch_view view(struct bed *b)
{
    struct fetch_view v;

    fetch_look(b->fetch, &v);
    return v;
}

/* These bytes after those before, as one connection brings them. */
static inline void append_raw(struct bed *b, const void *data, size_t len)
{
    intake_write(b->intake, 0, b->at, data, len);
    b->at += len;
}

/* In pieces of many sizes, as a network gives them. */
static inline void append(struct bed *b, size_t from, size_t to)
{
    size_t part = 1;

    while (from < to) {
        size_t len = part < to - from ? part : to - from;
        append_raw(b, b->data + from, len);
        from += len;
        part = part * 7 % 70001;
        queue_run(b->answers, b);
    }
}

static inline unsigned files_in(struct bed *b, const char *folder)
{
    DIR *dir = opendir(scratch_path(b->scratch->dir, folder));
    struct dirent *e;
    unsigned count = 0;

    assert_non_null(dir);
    while ((e = readdir(dir)))
        count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* What the index says of the blob: its size, or -1. */
static inline int64_t stored_size(struct bed *b, const struct digest *d)
{
    struct name n = scratch_name("docker.io", "library/alpine");
    struct blob_record r;
    struct db_reader *reader;
    struct db_txn *txn;

    reader = scratch_reader(b->scratch);
    assert_int_equal(db_read(reader, &txn), 0);
    bool is_there = blob_get(txn, d, &r) == 0 && link_get(txn, &n, d) == 0;
    db_read_end(reader);
    db_reader_free(&reader);
    return is_there ? (int64_t)r.size_bytes : -1;
}

static inline bool has_record(struct bed *b, const struct digest *d)
{
    struct partial_record r;
    struct db_reader *reader;
    struct db_txn *txn;

    reader = scratch_reader(b->scratch);
    assert_int_equal(db_read(reader, &txn), 0);
    int err = partial_get(txn, d, &r);
    db_read_end(reader);
    db_reader_free(&reader);
    return err == 0;
}

static inline void expect_stored(struct bed *b, const struct digest *d, uint64_t size)
{
    int fd;

    AWAIT(b, b->ended == 1);
    assert_int_equal(b->ended_err, 0);
    assert_int_equal(view(b).state, FETCH_VERIFIED);
    assert_int_equal(view(b).sendable_bytes, size);
    AWAIT(b, fetch_table_count(b->fetches) == 0);
    AWAIT(b, b->stats.fetches == 0);
    assert_int_equal(stored_size(b, d), size);
    assert_int_equal(blob_open(b->scratch->store, d, size, &fd), 0);
    close(fd);
    assert_int_equal(files_in(b, "partial"), 0);
    assert_false(has_record(b, d));
}

static inline void expect_failed(struct bed *b, enum outcome o)
{
    struct fetch_failure why;

    AWAIT(b, b->ended == 1);
    assert_int_not_equal(b->ended_err, 0);
    AWAIT(b, fetch_table_count(b->fetches) == 0);
    assert_int_equal(view(b).state, FETCH_FAILED);
    fetch_why(b->fetch, &why);
    assert_int_equal(why.code, o);
    assert_true(why.text[0] != '\0');
    assert_int_equal(b->stats.fetches, 0);
    assert_int_equal(b->stats.fetch_failures, 1);
}

static inline void abandon(struct bed *b, bool discard)
{
    struct fetch_failure why = {.code = OUT_UPSTREAM_BROKEN, .text = "it broke"};

    intake_abandon(b->intake, &why, discard);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
