/* SPDX-License-Identifier: ISC */
/* The test plays the upstream thread: it runs the answers that come to its queue. */
#include "proxy/intake.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "cache/blob.h"
#include "cache/err.h"
#include "cache/link.h"
#include "cache/partial.h"
#include "proxy/outcome.h"
#include "proxy/thread.h"
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
};

static void on_opened(void *arg, int err, uint64_t kept_bytes)
{
    struct bed *b = arg;

    b->opened++;
    b->opened_err = err;
    b->kept_bytes = kept_bytes;
}

static void on_drained(void *arg, uint64_t bytes)
{
    ((struct bed *)arg)->drained_bytes += bytes;
}

static void on_broken(void *arg, int err)
{
    ((struct bed *)arg)->broken_err = err;
}

static void on_ended(void *arg, int err)
{
    struct bed *b = arg;

    b->ended++;
    b->ended_err = err;
}

static const struct intake_calls calls = {on_opened, on_drained, on_broken, on_ended};

#define DATA_BYTES (8 * MIB)

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);
    void *scratch;
    uint32_t x = 1;

    assert_non_null(b);
    scratch_setup(&scratch);
    b->scratch = scratch;
    b->storage = storage_start(b->scratch->store, &b->stats, NULL);
    b->fetches = fetch_table_new();
    b->answers = queue_new();
    b->hasher =
        hasher_start(b->scratch->store, b->storage, b->fetches, b->answers, &b->stats, NULL);
    b->data = malloc(DATA_BYTES);
    assert_non_null(b->data);
    for (size_t i = 0; i < DATA_BYTES; i++) {
        x = x * 1664525 + 1013904223;
        b->data[i] = (uint8_t)(x >> 24);
    }
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;
    void *scratch = b->scratch;

    fetch_unref(&b->fetch);
    hasher_stop(&b->hasher);
    storage_stop(&b->storage);
    fetch_table_free(&b->fetches);
    queue_free(&b->answers);
    scratch_teardown(&scratch);
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

static struct digest digest_of_data(const struct bed *b, enum digest_alg alg, size_t len)
{
    struct digest d;

    digest_of(alg, b->data, len, &d);
    return d;
}

static void begin(struct bed *b, const struct digest *d)
{
    struct name n = scratch_name("docker.io", "library/alpine");
    bool created;

    fetch_unref(&b->fetch);
    b->fetch = fetch_join(b->fetches, d, NULL, &created);
    assert_true(created);
    b->opened = b->ended = b->broken_err = 0;
    b->drained_bytes = 0;
    b->intake = intake_new(b->hasher, b->fetch, &n, &calls, b);
    AWAIT(b, b->opened == 1);
}

static struct fetch_view view(struct bed *b)
{
    struct fetch_view v;

    fetch_look(b->fetch, &v);
    return v;
}

/* In pieces of many sizes, as a network gives them. */
static void append(struct bed *b, size_t from, size_t to)
{
    size_t part = 1;

    while (from < to) {
        size_t len = part < to - from ? part : to - from;
        intake_append(b->intake, b->data + from, len);
        from += len;
        part = part * 7 % 70001;
        queue_run(b->answers, b);
    }
}

static unsigned files_in(struct bed *b, const char *folder)
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
static int64_t stored_size(struct bed *b, const struct digest *d)
{
    struct name n = scratch_name("docker.io", "library/alpine");
    struct blob_record r;
    struct db_reader *reader;
    struct db_txn *txn;

    assert_int_equal(db_reader_new(store_db(b->scratch->store), &reader), 0);
    assert_int_equal(db_read(reader, &txn), 0);
    bool is_there = blob_get(txn, d, &r) == 0 && link_get(txn, &n, d) == 0;
    db_read_end(reader);
    db_reader_free(&reader);
    return is_there ? (int64_t)r.size_bytes : -1;
}

static bool has_record(struct bed *b, const struct digest *d)
{
    struct partial_record r;
    struct db_reader *reader;
    struct db_txn *txn;

    assert_int_equal(db_reader_new(store_db(b->scratch->store), &reader), 0);
    assert_int_equal(db_read(reader, &txn), 0);
    int err = partial_get(txn, d, &r);
    db_read_end(reader);
    db_reader_free(&reader);
    return err == 0;
}

static void expect_stored(struct bed *b, const struct digest *d, uint64_t size)
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

static void expect_failed(struct bed *b, enum outcome o)
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

static void abandon(struct bed *b, bool discard)
{
    struct fetch_failure why = {.code = OUT_UPSTREAM_BROKEN, .text = "it broke"};

    intake_abandon(b->intake, &why, discard);
}

static void test_a_blob_is_verified_and_stored(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);

    begin(b, &d);
    assert_int_equal(b->kept_bytes, 0);
    assert_int_equal(view(b).state, FETCH_ASKING);
    intake_size(b->intake, DATA_BYTES);
    append(b, 0, DATA_BYTES);
    /* All is written; yet the end is held back. */
    AWAIT(b, b->drained_bytes == DATA_BYTES);
    AWAIT(b, view(b).sendable_bytes == DATA_BYTES - FETCH_HOLD_BYTES);
    assert_int_equal(view(b).state, FETCH_STREAMING);
    intake_end(b->intake);
    expect_stored(b, &d, DATA_BYTES);
    assert_int_equal(b->stats.blobs_stored, 1);
}

static void test_sha512_and_an_empty_blob(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA512, MIB);
    struct digest empty = digest_of_data(b, DIGEST_SHA256, 0);

    begin(b, &d);
    intake_size(b->intake, MIB);
    append(b, 0, MIB);
    intake_end(b->intake);
    expect_stored(b, &d, MIB);
    begin(b, &empty);
    intake_size(b->intake, 0);
    intake_end(b->intake);
    expect_stored(b, &empty, 0);
}

static void test_readers_see_the_first_bytes_of_a_slow_line(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, MIB);

    begin(b, &d);
    intake_size(b->intake, MIB);
    intake_append(b->intake, b->data, 10);
    AWAIT(b, view(b).sendable_bytes == 10);
    intake_append(b->intake, b->data + 10, 1);
    AWAIT(b, view(b).sendable_bytes == 11);
    append(b, 11, MIB);
    intake_end(b->intake);
    expect_stored(b, &d, MIB);
}

static void test_wrong_content_is_never_sendable_whole(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);

    begin(b, &d);
    b->data[MIB] ^= 1;
    intake_size(b->intake, 2 * MIB);
    append(b, 0, 2 * MIB);
    intake_end(b->intake);
    expect_failed(b, OUT_BAD_CONTENT);
    assert_true(view(b).sendable_bytes <= 2 * MIB - FETCH_HOLD_BYTES);
    assert_int_equal(stored_size(b, &d), -1);
    assert_int_equal(files_in(b, "partial"), 0);
    assert_int_equal(b->stats.verify_failures, 1);
}

static void test_a_size_known_at_the_end_only(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 3 * MIB);

    begin(b, &d);
    append(b, 0, 3 * MIB);
    AWAIT(b, b->drained_bytes == 3 * MIB);
    assert_int_equal(view(b).state, FETCH_ASKING);
    intake_size(b->intake, 3 * MIB);
    intake_end(b->intake);
    expect_stored(b, &d, 3 * MIB);
}

static void test_an_abandoned_fetch_is_continued(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);

    begin(b, &d);
    intake_size(b->intake, 4 * MIB);
    append(b, 0, 3 * MIB + 17);
    abandon(b, false);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_int_equal(files_in(b, "partial"), 1);

    begin(b, &d);
    assert_int_equal(b->kept_bytes, 3 * MIB + 17);
    intake_size(b->intake, 4 * MIB);
    AWAIT(b, view(b).state == FETCH_STREAMING);
    assert_int_equal(view(b).sendable_bytes, 3 * MIB + 17);
    append(b, 3 * MIB + 17, 4 * MIB);
    intake_end(b->intake);
    expect_stored(b, &d, 4 * MIB);
}

static void test_a_whole_partial_needs_no_more_bytes(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);

    begin(b, &d);
    intake_size(b->intake, 4 * MIB);
    append(b, 0, 4 * MIB);
    abandon(b, false);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    begin(b, &d);
    assert_int_equal(b->kept_bytes, 4 * MIB);
    intake_size(b->intake, 4 * MIB);
    intake_end(b->intake);
    expect_stored(b, &d, 4 * MIB);
}

static void test_a_damaged_partial_is_found_out(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);

    begin(b, &d);
    intake_size(b->intake, 4 * MIB);
    b->data[5] ^= 1;
    append(b, 0, 3 * MIB);
    b->data[5] ^= 1;
    abandon(b, false);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    b->stats.fetch_failures = 0;
    begin(b, &d);
    intake_size(b->intake, 4 * MIB);
    append(b, b->kept_bytes, 4 * MIB);
    intake_end(b->intake);
    expect_failed(b, OUT_BAD_CONTENT);
    begin(b, &d);
    assert_int_equal(b->kept_bytes, 0);
    intake_size(b->intake, 4 * MIB);
    append(b, 0, 4 * MIB);
    intake_end(b->intake);
    expect_stored(b, &d, 4 * MIB);
}

static void test_what_is_discarded_is_gone(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);

    begin(b, &d);
    intake_size(b->intake, 4 * MIB);
    append(b, 0, 2 * MIB);
    abandon(b, true);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_int_equal(files_in(b, "partial"), 0);
    AWAIT(b, !has_record(b, &d));
}

static void test_a_partial_without_a_record_is_not_trusted(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);
    struct partial *p;
    uint64_t kept;

    assert_int_equal(partial_open(b->scratch->store, &d, &p, &kept), 0);
    assert_int_equal(partial_write(p, "rubbish", 7, 0), 0);
    partial_close(&p);
    begin(b, &d);
    assert_int_equal(b->kept_bytes, 0);
    intake_size(b->intake, 2 * MIB);
    append(b, 0, 2 * MIB);
    intake_end(b->intake);
    expect_stored(b, &d, 2 * MIB);
}

static void test_a_reset_begins_from_nothing(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);

    begin(b, &d);
    append(b, 1 * MIB, 3 * MIB + 5);
    intake_reset(b->intake);
    intake_size(b->intake, 2 * MIB);
    append(b, 0, 2 * MIB);
    intake_end(b->intake);
    expect_stored(b, &d, 2 * MIB);
}

/* Whatever waits in the queues when the end comes. */
static void test_abandoned_at_once(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);
    struct name n = scratch_name("docker.io", "library/alpine");
    bool created;

    b->fetch = fetch_join(b->fetches, &d, NULL, &created);
    b->intake = intake_new(b->hasher, b->fetch, &n, &calls, b);
    abandon(b, false);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_int_equal(b->opened, 0);
    assert_int_equal(files_in(b, "partial"), 0);
}

static void test_many_at_once(void **state)
{
    enum { MANY = 24 };
    struct bed *b = *state;
    struct name n = scratch_name("docker.io", "library/alpine");
    struct intake *intakes[MANY];
    struct digest digests[MANY];
    bool created;

    for (size_t i = 0; i < MANY; i++) {
        digests[i] = digest_of_data(b, DIGEST_SHA256, MIB + i);
        struct fetch *f = fetch_join(b->fetches, &digests[i], NULL, &created);
        intakes[i] = intake_new(b->hasher, f, &n, &calls, b);
        fetch_unref(&f);
    }
    AWAIT(b, b->opened == MANY);
    for (size_t i = 0; i < MANY; i++)
        intake_size(intakes[i], MIB + i);
    for (size_t at = 0; at < MIB; at += 64 * 1024) {
        for (size_t i = 0; i < MANY; i++)
            intake_append(intakes[i], b->data + at, 64 * 1024);
    }
    for (size_t i = 0; i < MANY; i++) {
        intake_append(intakes[i], b->data + MIB, i);
        intake_end(intakes[i]);
    }
    AWAIT(b, b->ended == MANY);
    AWAIT(b, fetch_table_count(b->fetches) == 0);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(stored_size(b, &digests[i]), MIB + i);
}

static void test_staging_has_a_limit(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);

    begin(b, &d);
    assert_false(intake_is_full(b->intake));
    intake_append(b->intake, b->data, DATA_BYTES);
    intake_append(b->intake, b->data, 1);
    /* No answer was run yet: as far as this thread knows, nothing is written. */
    assert_true(intake_is_full(b->intake));
    assert_false(intake_has_room(b->intake));
    AWAIT(b, b->drained_bytes == DATA_BYTES + 1);
    assert_false(intake_is_full(b->intake));
    assert_true(intake_has_room(b->intake));
    abandon(b, true);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
}

/* RLIMIT_FSIZE stands for a disk that takes no more. */
static void test_a_write_that_fails_fails_the_fetch(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);
    struct rlimit old, small;

    begin(b, &d);
    append(b, 0, 2 * MIB);
    AWAIT(b, b->drained_bytes == 2 * MIB);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 2 * MIB;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    intake_append(b->intake, b->data + 2 * MIB, MIB);
    AWAIT(b, b->broken_err != 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    /* More may be on its way already. */
    intake_append(b->intake, b->data + 3 * MIB, MIB);
    abandon(b, false);
    expect_failed(b, OUT_STORE_FAILED);
    assert_int_equal(files_in(b, "partial"), 0);
    assert_int_equal(stored_size(b, &d), -1);
}

static int fail_prepare(struct storage_job *j, struct store *s)
{
    (void)j;
    (void)s;
    return ERR_IO;
}

static void forget_job(struct storage_job *j, int err)
{
    (void)err;
    free(j);
}

static void stop_writing(struct bed *b)
{
    struct storage_job *j = calloc(1, sizeof *j);

    assert_non_null(j);
    j->prepare = fail_prepare;
    j->done = forget_job;
    storage_post(b->storage, j);
    AWAIT(b, !storage_is_writable(b->storage));
}

static void test_nothing_is_fetched_when_nothing_is_written(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, MIB);

    stop_writing(b);
    begin(b, &d);
    assert_int_equal(b->opened_err, ERR_IO);
    abandon(b, false);
    expect_failed(b, OUT_STORE_FAILED);
}

/* Clients have their bytes all the same. */
static void test_a_blob_that_cannot_be_published_is_verified_all_the_same(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, MIB);

    begin(b, &d);
    intake_size(b->intake, MIB);
    append(b, 0, MIB);
    stop_writing(b);
    intake_end(b->intake);
    AWAIT(b, b->ended == 1);
    assert_int_equal(b->ended_err, 0);
    AWAIT(b, fetch_table_count(b->fetches) == 0);
    assert_int_equal(view(b).state, FETCH_VERIFIED);
    assert_int_equal(stored_size(b, &d), -1);
    assert_int_equal(files_in(b, "partial"), 0);
    assert_int_equal(files_in(b, "blobs/sha256"), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_blob_is_verified_and_stored),
        TEST(test_sha512_and_an_empty_blob),
        TEST(test_readers_see_the_first_bytes_of_a_slow_line),
        TEST(test_wrong_content_is_never_sendable_whole),
        TEST(test_a_size_known_at_the_end_only),
        TEST(test_an_abandoned_fetch_is_continued),
        TEST(test_a_whole_partial_needs_no_more_bytes),
        TEST(test_a_damaged_partial_is_found_out),
        TEST(test_what_is_discarded_is_gone),
        TEST(test_a_partial_without_a_record_is_not_trusted),
        TEST(test_a_reset_begins_from_nothing),
        TEST(test_abandoned_at_once),
        TEST(test_many_at_once),
        TEST(test_staging_has_a_limit),
        TEST(test_a_write_that_fails_fails_the_fetch),
        TEST(test_nothing_is_fetched_when_nothing_is_written),
        TEST(test_a_blob_that_cannot_be_published_is_verified_all_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
