/* SPDX-License-Identifier: ISC */
/*
 * How threads hand each other messages: one lock, one list, one eventfd.
 *
 * A message is embedded in what it carries; between queue_post and its run() it
 * belongs to the receiving thread. Posting never blocks and never fails.
 */
#ifndef PROXY_QUEUE_H
#define PROXY_QUEUE_H

#include <stdbool.h>
#include <sys/queue.h>

struct msg {
    STAILQ_ENTRY(msg) link;
    void (*run)(struct msg *m, void *owner);
};

struct queue;

struct queue *queue_new(void);
/* Must be empty. NULL is legal. */
void queue_free(struct queue **q);

/* Any thread. `m->run` must be set; `m` must not be in a queue. */
void queue_post(struct queue *q, struct msg *m);

/* Readable when there are messages: for an event loop. */
int queue_fd(const struct queue *q);

/* Run every message that is there, in order, in the calling thread, with `owner`
 * (the receiving thread's own structure). Returns whether there were any. */
bool queue_run(struct queue *q, void *owner);

/* Block until there is a message or timeout_ms have passed (-1: no limit). */
void queue_wait(struct queue *q, int timeout_ms);

#endif
