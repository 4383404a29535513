/* SPDX-License-Identifier: ISC */
/* What is claimed, by whom, and when there is no more. */
#include "cache/room.h"

#include "cache/err.h"
#include "cache/partial.h"
#include "cache/upload.h"
#include "tests/unit/scratch.h"

#define MIB (UINT64_C(1) << 20)
#define ID "0123456789abcdef0123456789abcdef"

/* So many bytes above what is there already. */
static struct room *limit(struct scratch *s, uint64_t bytes)
{
    struct room *r = store_room(s->store);
    struct room_limits limits = {.low_percent = 90};
    struct usage u = {0};
    struct room_view v;

    room_set_usage(r, &u);
    room_set_limits(r, &limits);
    room_look(r, &v);
    /* Less a share that nobody claims. */
    limits.size.bytes = (v.held_bytes + bytes) / 31 * 32;
    room_set_limits(r, &limits);
    return r;
}

static uint64_t files(struct room *r)
{
    struct room_view v;

    room_look(r, &v);
    return v.file_bytes;
}

static struct partial *open_one(struct scratch *s, const char *what)
{
    struct digest d = scratch_digest(what);
    struct partial *p;
    uint64_t kept;

    assert_int_equal(partial_open(s->store, &d, &p, &kept), 0);
    return p;
}

static void test_partials_claim_before_they_grow(void **state)
{
    struct scratch *s = *state;
    struct room *r = limit(s, 4 * MIB);
    struct partial *a = open_one(s, "a"), *b = open_one(s, "b");

    assert_int_equal(partial_reserve(a, 3 * MIB), 0);
    assert_int_equal(files(r), 3 * MIB);
    assert_int_equal(partial_reserve(b, 2 * MIB), ERR_NO_SPACE);
    assert_true(room_excess(r, 2 * MIB, false) > 0 && room_excess(r, MIB / 2, false) == 0);
    assert_true(room_could_hold(r, 3 * MIB) && !room_could_hold(r, 5 * MIB));
    assert_int_equal(partial_reserve(b, MIB / 2), 0);
    partial_discard(&a);
    assert_int_equal(files(r), MIB / 2);
    assert_int_equal(partial_reserve(b, 3 * MIB), 0);
    partial_discard(&b);
    assert_int_equal(files(r), 0);
}

/* Of unknown size: nothing is written beyond what was granted. */
static void test_bytes_without_a_size(void **state)
{
    static const char block[65536];
    struct scratch *s = *state;
    struct partial *p;
    uint64_t at = 0;
    int err = 0;

    limit(s, 2 * MIB);
    p = open_one(s, "a");
    while (err == 0) {
        err = partial_write(p, block, sizeof block, at);
        at += err == 0 ? sizeof block : 0;
    }
    assert_int_equal(err, ERR_NO_SPACE);
    assert_in_range(at, MIB - sizeof block, 2 * MIB);
    partial_discard(&p);
}

static void test_what_is_kept_counts_until_it_is_dropped(void **state)
{
    static const char block[65536];
    struct scratch *s = *state;
    struct room *r = limit(s, 4 * MIB);
    struct partial *p = open_one(s, "a");

    assert_int_equal(partial_reserve(p, 2 * MIB), 0);
    assert_int_equal(partial_write(p, block, sizeof block, 0), 0);
    assert_false(room_drop_idle(r));
    partial_close(&p);
    assert_in_range(files(r), sizeof block, 2 * MIB + 65536);
    p = open_one(s, "a");
    assert_false(room_drop_idle(r));
    partial_close(&p);
    /* Another process made this one. */
    scratch_file(s->dir, "partial/import-new-1", block, sizeof block);
    room_count_files(r);
    assert_true(room_drop_idle(r));
    assert_false(room_drop_idle(r));
    assert_int_equal(files(r), sizeof block);
    assert_int_equal(unlink(scratch_path(s->dir, "partial/import-new-1")), 0);
    room_count_files(r);
    assert_int_equal(files(r), 0);
}

static void test_uploads_take_the_last_of_the_room(void **state)
{
    static const char block[65536];
    struct scratch *s = *state;
    struct room *r = limit(s, MIB);
    struct upload_file *f;
    int err = 0;
    uint64_t size = 0;

    assert_int_equal(upload_file_create(s->store, ID, &f), 0);
    while ((err = upload_file_append(f, block, sizeof block)) == 0)
        size += sizeof block;
    assert_int_equal(err, ERR_NO_SPACE);
    assert_in_range(size, MIB - 2 * sizeof block, MIB);
    upload_file_close(&f);
    assert_false(room_drop_idle(r));
    assert_int_equal(upload_file_open(s->store, ID, &f, &size), 0);
    upload_file_discard(&f);
    assert_int_equal(files(r), 0);
}

static void test_marks(void **state)
{
    struct scratch *s = *state;
    struct room *r = limit(s, 100 * MIB);
    struct usage u = {.blobs = 1, .bytes = 90 * MIB};

    room_set_usage(r, &u);
    assert_false(room_is_short(r));
    u.bytes = 99 * MIB;
    room_set_usage(r, &u);
    assert_true(room_is_short(r));
    assert_int_equal(room_excess(r, 0, false), 0);
    assert_in_range(room_excess(r, 0, true), 5 * MIB, 8 * MIB);
}

/* The file system is what it is: nobody can leave more of it free than there is. */
static void test_min_free(void **state)
{
    struct scratch *s = *state;
    struct room *r = store_room(s->store);
    struct room_limits limits = {.min_free.percent = 99, .low_percent = 90};
    struct partial *p = open_one(s, "a");

    room_set_limits(r, &limits);
    assert_int_equal(partial_reserve(p, 1), ERR_NO_SPACE);
    assert_true(room_is_short(r));
    limits.min_free.percent = 0;
    room_set_limits(r, &limits);
    assert_int_equal(partial_reserve(p, 1), 0);
    partial_discard(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
        TEST(test_partials_claim_before_they_grow),
        TEST(test_bytes_without_a_size),
        TEST(test_what_is_kept_counts_until_it_is_dropped),
        TEST(test_uploads_take_the_last_of_the_room),
        TEST(test_marks),
        TEST(test_min_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
