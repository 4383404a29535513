/* SPDX-License-Identifier: ISC */
#include "proxy/queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cache/check.h"
#include "cache/lock.h"

STAILQ_HEAD(msg_list, msg);

struct queue {
    pthread_mutex_t lock;
    struct msg_list list;
    int fd;
};

struct queue *queue_new(void)
{
    struct queue *q = mem_new(sizeof *q);

    q->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(q->fd >= 0);
    lock_init(&q->lock);
    STAILQ_INIT(&q->list);
    return q;
}

void queue_free(struct queue **qp)
{
    struct queue *q = *qp;

    if (!q)
        return;
    *qp = NULL;
    CHECK(STAILQ_EMPTY(&q->list));
    pthread_mutex_destroy(&q->lock);
    close(q->fd);
    free(q);
}

void queue_post(struct queue *q, struct msg *m)
{
    uint64_t one = 1;

    CHECK(m->run);
    pthread_mutex_lock(&q->lock);
    bool was_empty = STAILQ_EMPTY(&q->list);
    STAILQ_INSERT_TAIL(&q->list, m, link);
    /* Written under the lock: the receiver drains the eventfd under it too, so a
     * list that is not empty always has a readable descriptor, and once a message
     * was run its sender has no more to do with the queue. */
    if (was_empty)
        CHECK(write(q->fd, &one, sizeof one) == sizeof one);
    pthread_mutex_unlock(&q->lock);
}

int queue_fd(const struct queue *q)
{
    return q->fd;
}

bool queue_run(struct queue *q, void *owner)
{
    struct msg_list taken = STAILQ_HEAD_INITIALIZER(taken);
    uint64_t count;

    pthread_mutex_lock(&q->lock);
    STAILQ_CONCAT(&taken, &q->list);
    if (!STAILQ_EMPTY(&taken))
        CHECK(read(q->fd, &count, sizeof count) == sizeof count);
    pthread_mutex_unlock(&q->lock);

    bool any = !STAILQ_EMPTY(&taken);
    struct msg *m;
    while ((m = STAILQ_FIRST(&taken))) {
        STAILQ_REMOVE_HEAD(&taken, link);
        m->run(m, owner);
    }
    return any;
}

void queue_wait(struct queue *q, int timeout_ms)
{
    struct pollfd p = {.fd = q->fd, .events = POLLIN};

    /* An interrupted wait is a short wait: every caller loops. */
    if (poll(&p, 1, timeout_ms) < 0)
        CHECK(errno == EINTR);
}
