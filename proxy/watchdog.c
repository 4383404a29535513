/* SPDX-License-Identifier: ISC */
#include "proxy/watchdog.h"

#include <event2/event.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "cache/check.h"
#include "proxy/sd.h"

/* A sign of life may come a round late before it is missed. */
#define ROUNDS 4

struct question {
    struct msg msg; /* of who is asked, until it is answered */
    struct queue *queue;
    const char *name;
    atomic_bool is_open;
    bool is_late; /* and the log says so */
    SLIST_ENTRY(question) link;
};

struct watchdog {
    struct event *timer;
    struct log *log;
    int64_t round_us;
    SLIST_HEAD(, question) questions;
};

/* In the thread that was asked. */
static void on_question(struct msg *m, void *owner)
{
    struct question *q = (struct question *)m;

    (void)owner;
    atomic_store(&q->is_open, false);
}

static bool is_answered(struct watchdog *w, struct question *q)
{
    if (!atomic_load(&q->is_open)) {
        q->is_late = false;
        return true;
    }
    if (!q->is_late)
        log_event_about(w->log, LOG_WARN, NULL, "the thread \"%s\" has not answered for %lld ms",
                        q->name, (long long)(w->round_us / 1000));
    q->is_late = true;
    return false;
}

static void on_round(evutil_socket_t fd, short what, void *arg)
{
    struct watchdog *w = arg;
    struct question *q;
    bool all = true;

    (void)fd;
    (void)what;
    SLIST_FOREACH (q, &w->questions, link)
        all = is_answered(w, q) && all;
    if (all)
        sd_alive();
    SLIST_FOREACH (q, &w->questions, link) {
        if (!atomic_exchange(&q->is_open, true))
            queue_post(q->queue, &q->msg);
    }
}

struct watchdog *watchdog_start(struct event_base *base, struct log *log)
{
    int64_t round_us = sd_watchdog_us() / ROUNDS;
    struct timeval round = {.tv_sec = round_us / 1000000, .tv_usec = round_us % 1000000};

    if (round_us <= 0)
        return NULL;
    struct watchdog *w = mem_new(sizeof *w);

    w->log = log;
    w->round_us = round_us;
    SLIST_INIT(&w->questions);
    w->timer = event_new(base, -1, EV_PERSIST, on_round, w);
    CHECK(w->timer && event_add(w->timer, &round) == 0);
    return w;
}

void watchdog_ask(struct watchdog *w, const char *name, struct queue *q)
{
    if (!w)
        return;
    struct question *asked = mem_new(sizeof *asked);

    asked->msg.run = on_question;
    asked->queue = q;
    asked->name = name;
    SLIST_INSERT_HEAD(&w->questions, asked, link);
}

void watchdog_free(struct watchdog **wp)
{
    struct watchdog *w = *wp;
    struct question *q;

    if (!w)
        return;
    *wp = NULL;
    while ((q = SLIST_FIRST(&w->questions))) {
        SLIST_REMOVE_HEAD(&w->questions, link);
        free(q);
    }
    event_free(w->timer);
    free(w);
}
