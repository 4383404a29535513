/* SPDX-License-Identifier: ISC */
/* A fetch that passes: how far the writer may go, and who may still join. */
#include "cache/fetch_pass.h"

#include "cache/err.h"
#include "tests/unit/scratch.h"

#define WINDOW 100u

static unsigned moves;

static void moved(void *arg)
{
    (void)arg;
    moves++;
}

static void woken(struct reader *r)
{
    (void)r;
}

struct bed {
    struct fetch_table *table;
    struct digest digest;
    struct fetch *fetch;
    int fd;
};

static struct reader *join(struct bed *b, struct reader *r)
{
    bool created;
    struct fetch *f = fetch_join(b->table, &b->digest, NULL, &created);

    *r = (struct reader){.wake = woken};
    assert_true(reader_begin(r, f));
    assert_int_equal(created, b->fetch == NULL);
    b->fetch = f;
    return r;
}

static void leave(struct reader *r)
{
    struct fetch *f = r->fetch;

    reader_cancel(r);
    fetch_unref(&f);
}

static void begin(struct bed *b)
{
    *b = (struct bed){.table = fetch_table_new(), .digest = scratch_digest("x")};
    b->fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    moves = 0;
}

static void end(struct bed *b)
{
    fetch_pass_end(b->fetch);
    fetch_retire(b->table, b->fetch);
    close(b->fd);
}

static void test_pace_of_the_slowest(void **state)
{
    struct bed b;
    struct reader slow, fast;
    uint64_t drop;

    (void)state;
    begin(&b);
    join(&b, &slow);
    join(&b, &fast);
    assert_int_equal(fetch_begin_passing(b.fetch, b.fd, 1000, moved, NULL), 0);
    assert_int_equal(fetch_pass_limit(b.fetch, 100, WINDOW, 1, &drop), WINDOW);
    assert_int_equal(drop, 0);
    fetch_advance(b.fetch, 100);
    reader_move(&fast, 90);
    assert_int_equal(moves, 1);
    assert_int_equal(fetch_pass_limit(b.fetch, 150, WINDOW, 1, &drop), WINDOW);
    reader_move(&slow, 40);
    assert_int_equal(fetch_pass_limit(b.fetch, 140, WINDOW, 1, &drop), 140);
    assert_int_equal(drop, 40);
    /* The slow one leaves. */
    leave(&slow);
    assert_int_equal(moves, 3);
    assert_int_equal(fetch_pass_limit(b.fetch, 190, WINDOW, 1, &drop), 190);
    end(&b);
    leave(&fast);
    fetch_table_free(&b.table);
}

static void test_who_comes_late(void **state)
{
    struct bed b;
    struct reader first, second, late = {.wake = woken};
    uint64_t drop;

    (void)state;
    begin(&b);
    join(&b, &first);
    assert_int_equal(fetch_begin_passing(b.fetch, b.fd, 1000, moved, NULL), 0);
    assert_int_equal(fetch_pass_limit(b.fetch, 50, WINDOW, 1, &drop), WINDOW);
    /* Nothing was dropped yet, though the first has read. */
    reader_move(&first, 50);
    join(&b, &second);
    reader_move(&second, 60);
    assert_non_null(fetch_find(b.table, &b.digest));
    fetch_unref(&(struct fetch *){b.fetch});
    assert_int_equal(fetch_pass_limit(b.fetch, 120, WINDOW, 1, &drop), 150);
    assert_int_equal(drop, 50);
    assert_null(fetch_find(b.table, &b.digest));
    assert_false(reader_begin(&late, b.fetch));
    end(&b);
    leave(&first);
    leave(&second);
    fetch_table_free(&b.table);
}

/* He holds the others up for so long, and no longer; who is as slow after him has his own time. */
static void test_patience(void **state)
{
    const int64_t end_ms = 1 + FETCH_PASS_PATIENCE_MS;
    struct reader drip, slow, fast;
    struct bed b;
    uint64_t drop;

    (void)state;
    begin(&b);
    join(&b, &drip);
    join(&b, &slow);
    join(&b, &fast);
    assert_int_equal(fetch_begin_passing(b.fetch, b.fd, 1u << 20, moved, NULL), 0);
    assert_int_equal(fetch_pass_limit(b.fetch, 100, WINDOW, 1, &drop), WINDOW);
    fetch_advance(b.fetch, 100);
    reader_move(&slow, 20);
    reader_move(&fast, 100);
    assert_int_equal(fetch_pass_limit(b.fetch, 150, WINDOW, 1, &drop), WINDOW);
    /* Nobody else waits. */
    assert_false(reader_is_too_slow(&drip, end_ms));
    assert_true(reader_wait(&fast, b.fetch, FETCH_STREAMING, 100));
    assert_false(reader_is_too_slow(&drip, end_ms - 1));
    assert_false(reader_is_too_slow(&slow, end_ms));
    assert_true(reader_is_too_slow(&drip, end_ms));
    leave(&drip);
    assert_int_equal(fetch_pass_limit(b.fetch, 150, WINDOW, end_ms, &drop), 120);
    assert_false(reader_is_too_slow(&slow, end_ms));
    /* Half a window is enough. */
    reader_move(&slow, 49);
    assert_int_equal(fetch_pass_limit(b.fetch, 150, WINDOW, end_ms + 1, &drop), 149);
    assert_true(reader_is_too_slow(&slow, 2 * end_ms));
    reader_move(&slow, 70);
    assert_int_equal(fetch_pass_limit(b.fetch, 170, WINDOW, 2 * end_ms, &drop), 170);
    assert_false(reader_is_too_slow(&slow, 2 * end_ms));
    reader_cancel(&fast);
    end(&b);
    fetch_unref(&(struct fetch *){b.fetch});
    leave(&slow);
    fetch_table_free(&b.table);
}

static void test_nobody_is_left(void **state)
{
    struct bed b;
    struct reader only, late = {.wake = woken};
    struct fetch *f;
    uint64_t drop;
    bool created;

    (void)state;
    begin(&b);
    f = fetch_join(b.table, &b.digest, NULL, &created);
    assert_int_equal(fetch_begin_passing(f, b.fd, 1000, moved, NULL), ERR_NOT_FOUND);
    only = (struct reader){.wake = woken};
    assert_true(reader_begin(&only, f));
    assert_int_equal(fetch_begin_passing(f, b.fd, 1000, moved, NULL), 0);
    reader_cancel(&only);
    assert_int_equal(fetch_pass_limit(f, 10, WINDOW, 1, &drop), 0);
    assert_null(fetch_find(b.table, &b.digest));
    assert_false(reader_begin(&late, f));
    b.fetch = f;
    end(&b);
    fetch_unref(&f);
    fetch_table_free(&b.table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pace_of_the_slowest),
        cmocka_unit_test(test_who_comes_late),
        cmocka_unit_test(test_patience),
        cmocka_unit_test(test_nobody_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
