/* SPDX-License-Identifier: ISC */
#include "tests/unit/intake_bed.h"

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
    append_raw(b, b->data, 10);
    AWAIT(b, view(b).sendable_bytes == 10);
    append_raw(b, b->data + 10, 1);
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
    b->at = 0;
    intake_size(b->intake, 2 * MIB);
    append(b, 0, 2 * MIB);
    intake_end(b->intake);
    expect_stored(b, &d, 2 * MIB);
}

/* Four connections, each with its quarter; the first is the slowest. */
static void test_bytes_that_come_early(void **state)
{
    enum { LANES = 4, QUARTER = DATA_BYTES / LANES, PART = 100000 };
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);
    size_t at[LANES] = {0};

    begin(b, &d);
    intake_size(b->intake, DATA_BYTES);
    for (size_t left = 1; left > 0;) {
        left = 0;
        for (unsigned lane = LANES; lane-- > 0;) {
            size_t part = lane == 0 ? PART / 4 : PART;
            part = part < QUARTER - at[lane] ? part : QUARTER - at[lane];
            size_t offset = lane * QUARTER + at[lane];
            intake_write(b->intake, lane, offset, b->data + offset, part);
            at[lane] += part;
            left += QUARTER - at[lane];
        }
        queue_run(b->answers, b);
        assert_true(view(b).sendable_bytes <= at[0] || at[0] == QUARTER);
    }
    intake_end(b->intake);
    expect_stored(b, &d, DATA_BYTES);
}

/* Of a large blob what the index says is kept, whatever the size of the file. */
static void test_extents_are_kept(void **state)
{
    enum { LARGE = 72 * MIB };
    struct bed *b = *state;
    struct digest d;
    uint8_t *data = calloc(LARGE, 1);

    assert_non_null(data);
    memcpy(data + 40 * MIB, b->data, DATA_BYTES);
    digest_of(DIGEST_SHA256, data, LARGE, &d);
    begin(b, &d);
    intake_size(b->intake, LARGE);
    intake_write(b->intake, 0, 0, data, MIB);
    intake_write(b->intake, 1, 41 * MIB, data + 41 * MIB, 2 * MIB);
    intake_write(b->intake, 2, 70 * MIB, data + 70 * MIB, 2 * MIB);
    abandon(b, false);
    expect_failed(b, OUT_UPSTREAM_BROKEN);

    begin(b, &d);
    assert_int_equal(b->kept.count, 3);
    assert_int_equal(b->kept.list[0].end, MIB);
    assert_int_equal(b->kept.list[1].start, 41 * MIB);
    assert_int_equal(b->kept.list[1].end, 43 * MIB);
    assert_int_equal(extents_end(&b->kept), LARGE);
    intake_size(b->intake, LARGE);
    intake_write(b->intake, 0, 43 * MIB, data + 43 * MIB, 27 * MIB);
    intake_write(b->intake, 0, MIB, data + MIB, 40 * MIB);
    intake_end(b->intake);
    expect_stored(b, &d, LARGE);
    free(data);
}

/* Whatever waits in the queues when the end comes. */
static void test_abandoned_at_once(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);
    struct name n = scratch_name("docker.io", "library/alpine");
    bool created;

    b->fetch = fetch_join(b->fetches, &d, NULL, &created);
    b->intake = intake_new(b->hasher, b->fetch, &n, false, &calls, b);
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
        intakes[i] = intake_new(b->hasher, f, &n, false, &calls, b);
        fetch_unref(&f);
    }
    AWAIT(b, b->opened == MANY);
    for (size_t i = 0; i < MANY; i++)
        intake_size(intakes[i], MIB + i);
    for (size_t at = 0; at < MIB; at += 64 * 1024) {
        for (size_t i = 0; i < MANY; i++)
            intake_write(intakes[i], 0, at, b->data + at, 64 * 1024);
    }
    for (size_t i = 0; i < MANY; i++) {
        intake_write(intakes[i], 0, MIB, b->data + MIB, i);
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
    assert_false(intake_is_full(b->intake, true));
    append_raw(b, b->data, DATA_BYTES);
    append_raw(b, b->data, 1);
    /* No answer was run yet: as far as this thread knows, nothing is written. */
    assert_true(intake_is_full(b->intake, true));
    assert_false(intake_has_room(b->intake));
    AWAIT(b, b->drained_bytes == DATA_BYTES + 1);
    assert_false(intake_is_full(b->intake, true));
    assert_true(intake_has_room(b->intake));
    abandon(b, true);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
}

/* --- the two threads --- */

static void test_a_block_is_written_while_another_is_hashed(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);
    struct plug *hashing;

    begin(b, &d);
    hashing = plug_in(b->hasher->to_hash);
    intake_size(b->intake, 4 * MIB);
    append(b, 0, 3 * MIB);
    AWAIT(b, view(b).sendable_bytes == 3 * MIB);
    append(b, 3 * MIB, 4 * MIB);
    AWAIT(b, view(b).sendable_bytes == 4 * MIB - FETCH_HOLD_BYTES);
    assert_int_equal(b->drained_bytes, 0);
    plug_out(hashing);
    AWAIT(b, b->drained_bytes == 4 * MIB);
    intake_end(b->intake);
    expect_stored(b, &d, 4 * MIB);
}

/* All is written, and its end has come: the rest is held back until it is hashed. */
static void end_before_the_hash(struct bed *b, const struct digest *d)
{
    struct plug *hashing;

    begin(b, d);
    hashing = plug_in(b->hasher->to_hash);
    intake_size(b->intake, 2 * MIB);
    append(b, 0, 2 * MIB);
    intake_end(b->intake);
    AWAIT(b, view(b).sendable_bytes == 2 * MIB - FETCH_HOLD_BYTES);
    assert_int_equal(view(b).state, FETCH_STREAMING);
    assert_int_equal(b->ended, 0);
    plug_out(hashing);
}

static void test_an_end_waits_for_the_hash(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);

    end_before_the_hash(b, &d);
    expect_stored(b, &d, 2 * MIB);
}

static void test_wrong_content_is_found_after_its_end(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);

    b->data[2 * MIB - 1] ^= 1;
    end_before_the_hash(b, &d);
    expect_failed(b, OUT_BAD_CONTENT);
    assert_int_equal(view(b).sendable_bytes, 2 * MIB - FETCH_HOLD_BYTES);
    assert_int_equal(stored_size(b, &d), -1);
    assert_int_equal(files_in(b, "partial"), 0);
}

/* Blocks wait for either thread; the hash thread goes on first, or the write thread. */
static void abandon_halfway(struct bed *b, const struct digest *d, bool hash_first, bool discard)
{
    struct plug *hashing, *writing;

    begin(b, d);
    hashing = plug_in(b->hasher->to_hash);
    intake_size(b->intake, 4 * MIB);
    append(b, 0, MIB);
    AWAIT(b, view(b).sendable_bytes == MIB);
    writing = plug_in(b->hasher->to_write);
    append(b, MIB, 2 * MIB);
    abandon(b, discard);
    plug_out(hash_first ? hashing : writing);
    queue_run(b->answers, b);
    assert_int_equal(b->ended, 0);
    plug_out(hash_first ? writing : hashing);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_int_equal(b->drained_bytes, 0);
    b->stats.fetch_failures = 0;
}

static void test_abandoned_with_blocks_in_both_queues(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 4 * MIB);

    for (int hash_first = 0; hash_first < 2; hash_first++) {
        abandon_halfway(b, &d, hash_first, true);
        assert_int_equal(files_in(b, "partial"), 0);
        abandon_halfway(b, &d, hash_first, false);
        begin(b, &d);
        assert_int_equal(b->kept_bytes, 2 * MIB);
        intake_size(b->intake, 4 * MIB);
        abandon(b, true);
        expect_failed(b, OUT_UPSTREAM_BROKEN);
        b->stats.fetch_failures = 0;
    }
}

/* What is kept is not hashed yet when the end comes, of either kind. */
static void test_an_end_while_catching_up(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, DATA_BYTES);
    struct plug *hashing;

    begin(b, &d);
    intake_size(b->intake, DATA_BYTES);
    append(b, 0, DATA_BYTES);
    abandon(b, false);
    for (int go = 0; go < 2; go++) {
        expect_failed(b, OUT_UPSTREAM_BROKEN);
        b->stats.fetch_failures = 0;
        begin(b, &d);
        assert_int_equal(b->kept_bytes, DATA_BYTES);
        hashing = plug_in(b->hasher->to_hash);
        intake_size(b->intake, DATA_BYTES);
        AWAIT(b, view(b).state == FETCH_STREAMING);
        if (go == 0)
            abandon(b, false);
        else
            intake_end(b->intake);
        plug_out(hashing);
    }
    expect_stored(b, &d, DATA_BYTES);
}

static void test_a_reset_overtakes_no_block(void **state)
{
    struct bed *b = *state;
    struct digest d = digest_of_data(b, DIGEST_SHA256, 2 * MIB);
    struct plug *hashing;

    begin(b, &d);
    hashing = plug_in(b->hasher->to_hash);
    append(b, MIB, 3 * MIB);
    intake_reset(b->intake);
    b->at = 0;
    append(b, 0, 2 * MIB);
    intake_size(b->intake, 2 * MIB);
    AWAIT(b, view(b).state == FETCH_STREAMING);
    intake_end(b->intake);
    plug_out(hashing);
    expect_stored(b, &d, 2 * MIB);
}

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
        TEST(test_bytes_that_come_early),
        TEST(test_extents_are_kept),
        TEST(test_abandoned_at_once),
        TEST(test_many_at_once),
        TEST(test_staging_has_a_limit),
        TEST(test_a_block_is_written_while_another_is_hashed),
        TEST(test_an_end_waits_for_the_hash),
        TEST(test_wrong_content_is_found_after_its_end),
        TEST(test_abandoned_with_blocks_in_both_queues),
        TEST(test_an_end_while_catching_up),
        TEST(test_a_reset_overtakes_no_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
