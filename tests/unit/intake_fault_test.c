/* SPDX-License-Identifier: ISC */
/* When the cache directory takes no more. */
#include <signal.h>
#include <sys/resource.h>

#include "tests/unit/intake_bed.h"

/* RLIMIT_FSIZE stands for a disk that takes no more. Returns the limit before. */
static struct rlimit limit_files(rlim_t bytes)
{
    struct rlimit old, small;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    return old;
}

static void expect_nothing_left(struct bed *b, const struct digest *d)
{
    expect_failed(b, OUT_STORE_FAILED);
    assert_int_equal(files_in(b, "partial"), 0);
    assert_int_equal(stored_size(b, d), -1);
}

static void test_a_write_that_fails_fails_the_fetch(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);

    begin(b, &d);
    append(b, 0, 2 * MIB);
    AWAIT(b, b->drained_bytes == 2 * MIB);
    struct rlimit old = limit_files(2 * MIB);
    append_raw(b, b->data + 2 * MIB, MIB);
    AWAIT(b, b->broken_err != 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    /* More may be on its way already. */
    append_raw(b, b->data + 3 * MIB, MIB);
    abandon(b, false);
    expect_nothing_left(b, &d);
}

/* Blocks before it still wait for the hash thread, and those after it pass. */
static void test_a_write_that_fails_ahead_of_the_hash(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);
    struct plug *hashing;

    begin(b, &d);
    hashing = plug_in(b->hasher->to_hash);
    intake_size(b->intake, 4 * MIB);
    append(b, 0, 2 * MIB);
    AWAIT(b, view(b).sendable_bytes == 2 * MIB);
    struct rlimit old = limit_files(2 * MIB);
    append_raw(b, b->data + 2 * MIB, MIB);
    AWAIT(b, b->broken_err != 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    append_raw(b, b->data + 3 * MIB, MIB);
    plug_out(hashing);
    AWAIT(b, b->drained_bytes == 4 * MIB);
    assert_int_equal(view(b).sendable_bytes, 2 * MIB);
    abandon(b, false);
    expect_nothing_left(b, &d);
}

/* The end was asked for before the upstream thread could hear of the failure. */
static void test_a_write_that_fails_before_the_end(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);

    begin(b, &d);
    intake_size(b->intake, 4 * MIB);
    append(b, 0, 2 * MIB);
    AWAIT(b, b->drained_bytes == 2 * MIB);
    struct rlimit old = limit_files(2 * MIB);
    append_raw(b, b->data + 2 * MIB, 2 * MIB);
    intake_end(b->intake);
    AWAIT(b, b->ended == 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(b->broken_err, 0);
    expect_nothing_left(b, &d);
}

/* Bytes came early, and the file lost them before the hash thread read them back. */
static void early_bytes_are_lost(struct bed *b, const struct digest *d)
{
    char path[256], name[DIGEST_TEXT_MAX];

    begin(b, d);
    intake_size(b->intake, 2 * MIB);
    intake_write(b->intake, 1, MIB, b->data + MIB, MIB);
    AWAIT(b, b->drained_bytes == MIB);
    snprintf(path, sizeof path, "%s/partial/%s", b->scratch->dir, store_partial_name(d, name));
    assert_int_equal(truncate(path, MIB), 0);
    intake_write(b->intake, 0, 0, b->data, MIB);
}

static void test_a_file_that_cannot_be_read_back(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);

    early_bytes_are_lost(b, &d);
    AWAIT(b, b->broken_err == ERR_IO);
    abandon(b, false);
    expect_nothing_left(b, &d);
    b->stats.fetch_failures = 0;
    early_bytes_are_lost(b, &d);
    intake_end(b->intake);
    expect_nothing_left(b, &d);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_write_that_fails_fails_the_fetch),
        TEST(test_a_write_that_fails_ahead_of_the_hash),
        TEST(test_a_write_that_fails_before_the_end),
        TEST(test_a_file_that_cannot_be_read_back),
        TEST(test_nothing_is_fetched_when_nothing_is_written),
        TEST(test_a_blob_that_cannot_be_published_is_verified_all_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
