/* SPDX-License-Identifier: ISC */
/* The counters and the ledger in sum, whatever was flushed when. */
#include "proxy/tally.h"

#include <pthread.h>

#include "tests/unit/scratch.h"

#define DAY 86400
/* 2026-03-01 12:00 UTC: the first of a month. */
#define MARCH (20513 * (int64_t)DAY + DAY / 2)

struct bed {
    struct scratch *scratch;
    struct stats stats;
    struct tally *tally;
    struct db_reader *reader;
    struct registry_stats *hub;
};

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    b->scratch = scratch_new();
    b->tally = tally_new(&b->stats);
    b->reader = scratch_reader(b->scratch);
    b->hub = stats_add_registry(&b->stats, "docker.io");
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;

    db_reader_free(&b->reader);
    tally_free(&b->tally);
    scratch_free(b->scratch);
    free(b);
    return 0;
}

static void flush(struct bed *b, int64_t now_s, bool commits)
{
    assert_true(tally_begin(b->tally));
    struct db_txn *txn = scratch_write(b->scratch);

    assert_int_equal(tally_apply(b->tally, txn, now_s), 0);
    if (commits)
        assert_int_equal(db_commit(&txn), 0);
    else
        db_abort(&txn);
    tally_done(b->tally, commits ? 0 : -1);
}

static void check(struct bed *b, int64_t now_s, uint64_t run, uint64_t today, uint64_t month,
                  uint64_t all)
{
    struct tally_sums sums;

    assert_int_equal(tally_read(b->tally, b->reader, now_s, &sums), 0);
    assert_int_equal(sums.run.lan_bytes, run);
    assert_int_equal(sums.today.lan_bytes, today);
    assert_int_equal(sums.days[0].lan_bytes, today);
    assert_int_equal(sums.month.lan_bytes, month);
    assert_int_equal(sums.all.lan_bytes, all);
    assert_int_equal(sums.day, now_s / DAY);
}

static void test_exact_before_and_after_a_flush(void **state)
{
    struct bed *b = *state;

    assert_false(tally_begin(b->tally));
    check(b, MARCH, 0, 0, 0, 0);
    b->hub->lan_bytes += 100;
    check(b, MARCH, 100, 100, 100, 100);
    flush(b, MARCH, true);
    assert_false(tally_begin(b->tally));
    check(b, MARCH, 100, 100, 100, 100);
    b->hub->lan_bytes += 10;
    check(b, MARCH, 110, 110, 110, 110);
    flush(b, MARCH, false);
    check(b, MARCH, 110, 110, 110, 110);
    flush(b, MARCH, true);
    check(b, MARCH, 110, 110, 110, 110);
}

/* While a flush is under way, and committed but not yet said to be, nothing counts twice. */
static void test_exact_within_a_flush(void **state)
{
    struct bed *b = *state;

    b->hub->lan_bytes += 100;
    check(b, MARCH, 100, 100, 100, 100);
    assert_true(tally_begin(b->tally));
    struct db_txn *txn = scratch_write(b->scratch);
    assert_int_equal(tally_apply(b->tally, txn, MARCH), 0);
    b->hub->lan_bytes += 1;
    check(b, MARCH, 101, 101, 101, 101);
    assert_int_equal(db_commit(&txn), 0);
    check(b, MARCH, 101, 101, 101, 101);
    tally_done(b->tally, 0);
    check(b, MARCH, 101, 101, 101, 101);
    flush(b, MARCH, true);
    check(b, MARCH, 101, 101, 101, 101);
}

static void test_days_and_months(void **state)
{
    struct bed *b = *state;
    struct tally_sums sums;

    b->hub->lan_bytes += 1;
    flush(b, MARCH - DAY, true);
    b->hub->lan_bytes += 10;
    flush(b, MARCH, true);
    b->hub->lan_bytes += 100;
    check(b, MARCH, 111, 110, 110, 111);
    /* Midnight: what was not flushed by then is of the new day, as in the ledger. */
    check(b, MARCH + DAY, 111, 100, 110, 111);
    flush(b, MARCH + DAY, true);
    check(b, MARCH + DAY, 111, 100, 110, 111);
    assert_int_equal(tally_read(b->tally, b->reader, MARCH + DAY, &sums), 0);
    assert_int_equal(sums.days[1].lan_bytes, 10);
    assert_int_equal(sums.days[2].lan_bytes, 1);
    assert_int_equal(sums.days[3].lan_bytes, 0);
    check(b, MARCH + 31 * DAY, 111, 0, 0, 111);
}

/* Another daemon over the same directory goes on where the ledger is. */
static void test_the_ledger_outlives_the_counters(void **state)
{
    struct bed *b = *state;

    b->hub->lan_bytes += 100;
    flush(b, MARCH, true);
    tally_free(&b->tally);
    memset(&b->stats, 0, sizeof b->stats);
    b->tally = tally_new(&b->stats);
    b->hub = stats_add_registry(&b->stats, "docker.io");
    check(b, MARCH, 0, 100, 100, 100);
    b->hub->lan_bytes += 5;
    check(b, MARCH, 5, 105, 105, 105);
}

struct flusher {
    struct bed *bed;
    _Atomic bool is_done;
};

static void *flush_often(void *arg)
{
    struct flusher *f = arg;

    for (unsigned i = 0; i < 50; i++) {
        f->bed->hub->lan_bytes += 3;
        flush(f->bed, MARCH, true);
    }
    f->is_done = true;
    return NULL;
}

/* Who reads meanwhile never sees a sum go back, or more than was counted. */
static void test_reading_beside_flushes(void **state)
{
    struct bed *b = *state;
    struct flusher f = {.bed = b};
    struct tally_sums sums;
    uint64_t before = 0;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, flush_often, &f), 0);
    while (!f.is_done) {
        assert_int_equal(tally_read(b->tally, b->reader, MARCH, &sums), 0);
        assert_true(sums.all.lan_bytes >= before);
        assert_true(sums.all.lan_bytes == sums.run.lan_bytes);
        before = sums.all.lan_bytes;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    check(b, MARCH, 150, 150, 150, 150);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_exact_before_and_after_a_flush),
        TEST(test_exact_within_a_flush),
        TEST(test_days_and_months),
        TEST(test_the_ledger_outlives_the_counters),
        TEST(test_reading_beside_flushes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
