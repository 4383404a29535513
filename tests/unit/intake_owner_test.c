/* SPDX-License-Identifier: ISC */
/* Whose a kept partial is: its bytes are sent before they are verified. */
#include "tests/unit/intake_bed.h"

#define SIZE (2 * MIB)
#define KEPT (MIB + 17)

enum { PUBLIC, PRIVATE };
enum { REGISTRY, ELSEWHERE };

static struct digest data_digest(const struct bed *b)
{
    return digest_of_data(b, DIGEST_SHA256, SIZE);
}

static void begin_as(struct bed *b, const char *repository, bool is_private, bool is_elsewhere)
{
    struct name n = scratch_name("docker.io", repository);
    struct digest d = data_digest(b);

    b->stats.fetch_failures = 0;
    begin_of(b, &d, &n, is_private, is_elsewhere);
    assert_int_equal(b->opened_err, 0);
}

/* A fetch that breaks off. */
static void leave(struct bed *b, const char *repository, bool is_private, bool is_elsewhere)
{
    begin_as(b, repository, is_private, is_elsewhere);
    intake_size(b->intake, SIZE);
    append(b, b->kept_bytes, KEPT);
    abandon(b, false);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_int_equal(files_in(b, "partial"), 1);
}

static struct partial_record record_of(struct bed *b)
{
    struct digest d = data_digest(b);
    struct partial_record r;
    struct db_reader *reader;
    struct db_txn *txn;

    reader = scratch_reader(b->scratch);
    assert_int_equal(db_read(reader, &txn), 0);
    assert_int_equal(partial_get(txn, &d, &r), 0);
    db_read_end(reader);
    db_reader_free(&reader);
    return r;
}

static void finish(struct bed *b)
{
    intake_size(b->intake, SIZE);
    append(b, b->kept_bytes, SIZE);
    intake_end(b->intake);
    AWAIT(b, b->ended == 1);
    assert_int_equal(b->ended_err, 0);
    AWAIT(b, fetch_table_count(b->fetches) == 0);
}

static void test_what_is_kept_for_whom(void **state)
{
    static const struct {
        const char *kept_by, *asked_by;
        bool kept_private, kept_elsewhere, asked_private, asked_elsewhere, goes_on;
    } rows[] = {
        {"acme/app", "evil/app", PUBLIC, REGISTRY, PUBLIC, REGISTRY, true},
        {"acme/app", "evil/app", PUBLIC, REGISTRY, PRIVATE, REGISTRY, true},
        {"acme/app", "acme/app", PRIVATE, REGISTRY, PRIVATE, REGISTRY, true},
        {"acme/app", "evil/app", PRIVATE, REGISTRY, PRIVATE, REGISTRY, false},
        {"acme/app", "acme/app", PRIVATE, REGISTRY, PUBLIC, REGISTRY, false},
        {"acme/app", "evil/app", PRIVATE, REGISTRY, PUBLIC, ELSEWHERE, false},
        {"acme/app", "acme/app", PRIVATE, REGISTRY, PRIVATE, ELSEWHERE, false},
        {"acme/app", "acme/app", PUBLIC, REGISTRY, PUBLIC, ELSEWHERE, false},
        {"acme/app", "acme/app", PUBLIC, ELSEWHERE, PUBLIC, ELSEWHERE, true},
        {"acme/app", "evil/app", PUBLIC, ELSEWHERE, PUBLIC, ELSEWHERE, false},
        {"acme/app", "evil/app", PUBLIC, ELSEWHERE, PUBLIC, REGISTRY, false},
    };
    struct bed *b = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        leave(b, rows[i].kept_by, rows[i].kept_private, rows[i].kept_elsewhere);
        begin_as(b, rows[i].asked_by, rows[i].asked_private, rows[i].asked_elsewhere);
        if ((b->kept_bytes > 0) != rows[i].goes_on)
            fail_msg("row %zu: %llu bytes kept", i, (unsigned long long)b->kept_bytes);
        assert_false(b->kept_elsewhere);
        abandon(b, true);
        expect_failed(b, OUT_UPSTREAM_BROKEN);
    }
}

/* The opening is not answered before the index has forgotten whose the file was: what comes
 * then can at no moment be taken for theirs. */
static void test_a_stranger_begins_anew(void **state)
{
    struct bed *b = *state;
    struct digest d = data_digest(b);

    leave(b, "acme/secret", PRIVATE, REGISTRY);
    assert_true(record_of(b).owner.is_private);
    begin_as(b, "evil/app", PUBLIC, REGISTRY);
    assert_int_equal(b->kept_bytes, 0);
    assert_false(has_record(b, &d));
    finish(b);
    assert_int_equal(stored_size(b, &d), -1);
    assert_int_equal(files_in(b, "partial"), 0);
}

/* What a private fetch adds to public bytes is private, before the first is added. */
static void test_public_bytes_become_private(void **state)
{
    struct bed *b = *state;

    leave(b, "acme/app", PUBLIC, REGISTRY);
    begin_as(b, "acme/secret", PRIVATE, REGISTRY);
    assert_int_equal(b->kept_bytes, KEPT);
    struct partial_record r = record_of(b);
    assert_true(r.owner.is_private);
    assert_string_equal(r.owner.name.repository, "acme/secret");
    finish(b);
}

/* The registry is asked first; what came from elsewhere waits for its "no". */
static void test_elsewhere_after_the_registry(void **state)
{
    struct bed *b = *state;

    leave(b, "acme/app", PUBLIC, ELSEWHERE);
    begin_as(b, "acme/app", PUBLIC, REGISTRY);
    assert_true(b->kept_elsewhere);
    assert_int_equal(b->kept_bytes, KEPT);
    intake_go_elsewhere(b->intake);
    intake_size(b->intake, SIZE);
    append(b, KEPT, KEPT + 5);
    abandon(b, false);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_true(record_of(b).owner.is_elsewhere);

    begin_as(b, "acme/app", PUBLIC, REGISTRY);
    assert_int_equal(b->kept_bytes, KEPT + 5);
    intake_reset(b->intake);
    b->kept_bytes = b->at = 0;
    finish(b);
}

/* A fetch that went elsewhere half way leaves nothing: of which half would it be? */
static void test_bytes_of_both_are_not_kept(void **state)
{
    struct bed *b = *state;
    struct digest d = data_digest(b);

    begin_as(b, "acme/app", PUBLIC, REGISTRY);
    intake_size(b->intake, SIZE);
    append(b, 0, KEPT);
    intake_go_elsewhere(b->intake);
    append(b, KEPT, KEPT + 5);
    abandon(b, false);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_int_equal(files_in(b, "partial"), 0);
    AWAIT(b, !has_record(b, &d));
}

/* The end comes while the index still forgets. */
static void test_abandoned_before_it_is_open(void **state)
{
    struct bed *b = *state;
    struct name n = scratch_name("docker.io", "evil/app");
    struct digest d = data_digest(b);
    bool created;

    leave(b, "acme/secret", PRIVATE, REGISTRY);
    fetch_unref(&b->fetch);
    b->stats.fetch_failures = 0;
    b->opened = b->ended = 0;
    b->fetch = fetch_join(b->fetches, &d, NULL, &created);
    b->intake = intake_new(b->hasher, b->fetch, &n, false, &calls, b);
    abandon(b, false);
    expect_failed(b, OUT_UPSTREAM_BROKEN);
    assert_int_equal(b->opened, 0);
    assert_int_equal(files_in(b, "partial"), 0);
    AWAIT(b, !has_record(b, &d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_kept_for_whom),       TEST(test_a_stranger_begins_anew),
        TEST(test_public_bytes_become_private), TEST(test_elsewhere_after_the_registry),
        TEST(test_bytes_of_both_are_not_kept),  TEST(test_abandoned_before_it_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
