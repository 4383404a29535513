/* SPDX-License-Identifier: ISC */
/* Keeps a thread from its queue for as long as a test wants. */
#ifndef TESTS_UNIT_PLUG_H
#define TESTS_UNIT_PLUG_H

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cache/check.h"
#include "proxy/queue.h"

/* Holds a thread, so that messages to it wait. */
struct plug {
    struct msg msg;
    sem_t taken, pulled;
};

/* The last to use it: whoever has pulled it may be gone by then. */
static inline void plug_run(struct msg *m, void *owner)
{
    struct plug *p = (struct plug *)m;

    (void)owner;
    sem_post(&p->taken);
    while (sem_wait(&p->pulled) != 0) {
    }
    free(p);
}

static inline struct plug *plug_in(struct queue *q)
{
    struct plug *p = mem_new(sizeof *p);

    assert_int_equal(sem_init(&p->taken, 0, 0), 0);
    assert_int_equal(sem_init(&p->pulled, 0, 0), 0);
    p->msg.run = plug_run;
    queue_post(q, &p->msg);
    while (sem_wait(&p->taken) != 0) {
    }
    return p;
}

static inline void plug_out(struct plug *p)
{
    sem_post(&p->pulled);
}

#endif
