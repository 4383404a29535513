/* SPDX-License-Identifier: ISC */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/fetch.h"

#define SIZE (FETCH_HOLD_BYTES * 4)

static const struct digest some_digest = {.alg = DIGEST_SHA256, .bytes = {1, 2, 3}};

struct fixture {
    struct fetch_table *table;
    struct fetch *fetch;
    int fd;
};

static int setup(void **state)
{
    struct fixture *f = mem_new(sizeof *f);
    bool created;

    f->table = fetch_table_new();
    f->fetch = fetch_join(f->table, &some_digest, NULL, &created);
    assert_true(created);
    f->fd = open("/dev/null", O_RDONLY);
    assert_true(f->fd >= 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fetch_retire(f->table, f->fetch);
    fetch_unref(&f->fetch);
    fetch_table_free(&f->table);
    close(f->fd);
    free(f);
    return 0;
}

struct waiter {
    struct reader reader;
    int wakes;
};

static void count_wake(struct reader *r)
{
    ((struct waiter *)r)->wakes++;
}

static void test_join_collapses(void **state)
{
    struct fixture *f = *state;
    struct digest other = some_digest;
    bool created;

    struct fetch *same = fetch_join(f->table, &some_digest, NULL, &created);
    assert_false(created);
    assert_ptr_equal(same, f->fetch);
    other.bytes[31] = 9;
    struct fetch *different = fetch_join(f->table, &other, NULL, &created);
    assert_true(created);
    assert_int_equal(fetch_table_count(f->table), 2);
    fetch_retire(f->table, different);
    assert_int_equal(fetch_table_count(f->table), 1);
    fetch_unref(&different);
    fetch_unref(&same);
    assert_null(same);
}

/* A retired fetch is not joined any more, but lives for those who hold it. */
static void test_retired_is_not_joined(void **state)
{
    struct fixture *f = *state;
    bool created;
    struct fetch *old = fetch_ref(f->fetch);

    fetch_retire(f->table, f->fetch);
    fetch_unref(&f->fetch);
    f->fetch = fetch_join(f->table, &some_digest, NULL, &created);
    assert_true(created);
    assert_true(digest_equal(fetch_digest(old), &some_digest));
    fetch_unref(&old);
}

/* The last bytes are not sendable before the digest is verified. */
static void test_hold_back(void **state)
{
    struct fixture *f = *state;
    struct fetch_view view;

    fetch_look(f->fetch, &view);
    assert_int_equal(view.state, FETCH_ASKING);
    assert_int_equal(view.fd, -1);
    assert_int_equal(fetch_begin(f->fetch, f->fd, SIZE, 10), 0);
    fetch_look(f->fetch, &view);
    assert_int_equal(view.sendable_bytes, 10);
    assert_int_equal(view.size_bytes, SIZE);
    assert_true(view.fd >= 0 && view.fd != f->fd);
    fetch_advance(f->fetch, SIZE);
    fetch_look(f->fetch, &view);
    assert_int_equal(view.sendable_bytes, SIZE - FETCH_HOLD_BYTES);
    fetch_verify(f->fetch);
    fetch_look(f->fetch, &view);
    assert_int_equal(view.state, FETCH_VERIFIED);
    assert_int_equal(view.sendable_bytes, SIZE);
}

static void test_small_is_held_whole(void **state)
{
    struct fixture *f = *state;
    struct fetch_view view;

    assert_int_equal(fetch_begin(f->fetch, f->fd, 100, 0), 0);
    fetch_advance(f->fetch, 100);
    fetch_look(f->fetch, &view);
    assert_int_equal(view.sendable_bytes, 0);
}

static void test_wakes(void **state)
{
    struct fixture *f = *state;
    struct waiter w = {.reader.wake = count_wake};
    struct fetch_failure why = {.code = 7, .text = "gone"}, got;

    assert_true(reader_wait(&w.reader, f->fetch, FETCH_ASKING, 0));
    assert_int_equal(fetch_reader_count(f->fetch), 1);
    assert_int_equal(fetch_begin(f->fetch, f->fd, SIZE, 0), 0);
    assert_int_equal(w.wakes, 1);
    /* The state has moved on: no wait. */
    assert_false(reader_wait(&w.reader, f->fetch, FETCH_ASKING, 0));
    assert_true(reader_wait(&w.reader, f->fetch, FETCH_STREAMING, 100));
    fetch_advance(f->fetch, 100);
    assert_int_equal(w.wakes, 1);
    fetch_advance(f->fetch, 101);
    assert_int_equal(w.wakes, 2);
    assert_false(reader_wait(&w.reader, f->fetch, FETCH_STREAMING, 100));
    /* Cancelled waits are not woken. */
    assert_true(reader_wait(&w.reader, f->fetch, FETCH_STREAMING, 101));
    reader_cancel(&w.reader);
    assert_int_equal(fetch_reader_count(f->fetch), 0);
    fetch_advance(f->fetch, 200);
    assert_int_equal(w.wakes, 2);
    assert_true(reader_wait(&w.reader, f->fetch, FETCH_STREAMING, 200));
    fetch_fail(f->fetch, &why);
    assert_int_equal(w.wakes, 3);
    fetch_why(f->fetch, &got);
    assert_int_equal(got.code, 7);
    assert_string_equal(got.text, "gone");
}

/* What nobody waits for is in the background, until somebody does. */
static void test_background(void **state)
{
    struct fetch_table *t = fetch_table_new();
    struct fetch *f, *same;
    bool created;

    (void)state;
    f = fetch_join_background(t, &some_digest, NULL, &created);
    assert_true(created && fetch_is_background(f));
    same = fetch_join_background(t, &some_digest, NULL, &created);
    assert_false(created);
    assert_true(same == f && fetch_is_background(f));
    fetch_unref(&same);
    same = fetch_join(t, &some_digest, NULL, &created);
    assert_false(created || fetch_is_background(f));
    fetch_unref(&same);
    same = fetch_join_background(t, &some_digest, NULL, &created);
    assert_false(created || fetch_is_background(f));
    fetch_unref(&same);
    fetch_retire(t, f);
    fetch_unref(&f);
    f = fetch_join(t, &some_digest, NULL, &created);
    assert_true(created && !fetch_is_background(f));
    fetch_retire(t, f);
    fetch_unref(&f);
    fetch_table_free(&t);
}

static void test_wait_until_retired(void **state)
{
    struct fixture *f = *state;
    struct waiter w = {.reader.wake = count_wake}, other = {.reader.wake = count_wake};
    bool created;

    assert_int_equal(fetch_begin(f->fetch, f->fd, SIZE, SIZE), 0);
    fetch_verify(f->fetch);
    assert_true(reader_wait_retired(&w.reader, f->fetch));
    assert_true(reader_wait_retired(&other.reader, f->fetch));
    reader_cancel(&other.reader);
    assert_int_equal(w.wakes, 0);
    struct fetch *old = fetch_ref(f->fetch);
    fetch_retire(f->table, f->fetch);
    fetch_unref(&f->fetch);
    assert_int_equal(w.wakes, 1);
    assert_int_equal(other.wakes, 0);
    reader_cancel(&w.reader);
    assert_false(reader_wait_retired(&w.reader, old));
    fetch_unref(&old);
    f->fetch = fetch_join(f->table, &some_digest, NULL, &created);
    assert_true(created);
}

/* --- many readers in threads, as workers have them --- */

#define READERS 8

struct threaded {
    struct reader reader;
    struct fetch *fetch;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool is_woken;
    uint64_t seen;
};

static void signal_wake(struct reader *r)
{
    struct threaded *t = (struct threaded *)r;

    pthread_mutex_lock(&t->lock);
    t->is_woken = true;
    pthread_cond_signal(&t->woken);
    pthread_mutex_unlock(&t->lock);
}

static void *read_all(void *arg)
{
    struct threaded *t = arg;
    struct fetch_view view;

    for (;;) {
        fetch_look(t->fetch, &view);
        assert_true(view.sendable_bytes >= t->seen);
        t->seen = view.sendable_bytes;
        if (view.state == FETCH_VERIFIED)
            break;
        if (!reader_wait(&t->reader, t->fetch, view.state, view.sendable_bytes))
            continue;
        pthread_mutex_lock(&t->lock);
        while (!t->is_woken)
            pthread_cond_wait(&t->woken, &t->lock);
        t->is_woken = false;
        pthread_mutex_unlock(&t->lock);
    }
    reader_cancel(&t->reader);
    fetch_unref(&t->fetch);
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *f = *state;
    struct threaded readers[READERS] = {0};
    pthread_t threads[READERS];

    for (int i = 0; i < READERS; i++) {
        readers[i].reader.wake = signal_wake;
        readers[i].fetch = fetch_ref(f->fetch);
        pthread_mutex_init(&readers[i].lock, NULL);
        pthread_cond_init(&readers[i].woken, NULL);
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    assert_int_equal(fetch_begin(f->fetch, f->fd, SIZE, 0), 0);
    for (uint64_t n = 0; n <= SIZE; n += 1024)
        fetch_advance(f->fetch, n);
    fetch_verify(f->fetch);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].seen, SIZE);
        pthread_mutex_destroy(&readers[i].lock);
        pthread_cond_destroy(&readers[i].woken);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_join_collapses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retired_is_not_joined, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hold_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_is_held_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wakes, setup, teardown),
        cmocka_unit_test(test_background),
        cmocka_unit_test_setup_teardown(test_wait_until_retired, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
    };

    return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
