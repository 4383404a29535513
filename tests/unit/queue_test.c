/* SPDX-License-Identifier: ISC */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cache/check.h"
#include "proxy/queue.h"

#define POSTERS 4
#define POSTS 2000

struct number {
    struct msg msg;
    int poster;
    int value;
};

struct receiver {
    int next[POSTERS];
    int total;
};

static void on_number(struct msg *m, void *owner)
{
    struct number *n = (struct number *)m;
    struct receiver *r = owner;

    assert_int_equal(n->value, r->next[n->poster]++);
    r->total++;
    free(n);
}

struct poster {
    struct queue *queue;
    int number;
};

static void *post_all(void *arg)
{
    struct poster *p = arg;

    for (int i = 0; i < POSTS; i++) {
        struct number *n = mem_new(sizeof *n);

        n->msg.run = on_number;
        n->poster = p->number;
        n->value = i;
        queue_post(p->queue, &n->msg);
    }
    return NULL;
}

/* Several threads post; each one's messages arrive, all and in its order. */
static void test_order(void **state)
{
    struct queue *q = queue_new();
    struct receiver r = {0};
    struct poster posters[POSTERS];
    pthread_t threads[POSTERS];

    (void)state;
    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){q, i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_all, &posters[i]), 0);
    }
    while (r.total < POSTERS * POSTS) {
        queue_wait(q, -1);
        queue_run(q, &r);
    }
    for (int i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    assert_false(queue_run(q, &r));
    queue_free(&q);
    assert_null(q);
}

static void on_repost(struct msg *m, void *owner)
{
    struct queue *q = owner;

    m->run = on_number;
    queue_post(q, m);
}

/* A message may post again while the queue runs: it is run the next time. */
static void test_repost(void **state)
{
    struct queue *q = queue_new();
    struct number *n = mem_new(sizeof *n);
    struct receiver r = {0};

    (void)state;
    n->msg.run = on_repost;
    queue_post(q, &n->msg);
    assert_true(queue_run(q, q));
    assert_int_equal(r.total, 0);
    queue_wait(q, 0);
    assert_true(queue_run(q, &r));
    assert_int_equal(r.total, 1);
    queue_free(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_repost),
    };

    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
