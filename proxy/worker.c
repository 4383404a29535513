/* SPDX-License-Identifier: ISC */
#include "proxy/worker.h"

#include <event2/event.h>
#include <event2/thread.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/socket.h"
#include "proxy/thread.h"

#define TICK_MS 250
#define SHELF_FILES 128

/* The part of a worker that other threads see. */
struct worker_thread {
    struct worker worker; /* first */
    pthread_t thread;
    struct event *queue_event;
    struct event *tick_event;
    atomic_uint load;    /* given and not yet closed */
    struct msg *drained; /* to post to `drained_queue` when the last one has closed */
    struct queue *drained_queue;
    bool stopping;
};

static struct worker_thread *outer(struct worker *w)
{
    return (struct worker_thread *)w;
}

void worker_clock(struct worker *w)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    w->now_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    w->now_s = t.tv_sec;
    if (w->now_s != w->date_s) {
        w->date_s = w->now_s;
        http_date(w->date, w->now_s);
    }
}

/* --- messages --- */

struct take_msg {
    struct msg msg;
    int fd;
    struct config *config;
    const struct config_listener *listener;
    struct load *load;
    char peer[SOCKET_PEER_MAX];
};

static void on_take(struct msg *m, void *owner)
{
    struct take_msg *t = (struct take_msg *)m;
    struct worker *w = owner;

    STATS_ADD(w->parts.stats, connections_total, 1);
    STATS_ADD(w->parts.stats, connections, 1);
    worker_clock(w);
    w->parts.conns->take(w, t->fd, t->config, t->listener, t->load, t->peer);
    config_unref(&t->config);
    free(t);
}

void worker_take(struct worker *w, int fd, struct config *c, const struct config_listener *l,
                 struct load *load, const char *peer)
{
    struct take_msg *t = mem_new(sizeof *t);

    t->msg.run = on_take;
    t->fd = fd;
    t->config = config_ref(c);
    t->listener = l;
    t->load = load;
    snprintf(t->peer, sizeof t->peer, "%s", peer);
    atomic_fetch_add_explicit(&outer(w)->load, 1, memory_order_relaxed);
    queue_post(w->queue, &t->msg);
}

unsigned worker_load(const struct worker *w)
{
    const struct worker_thread *t = (const struct worker_thread *)w;

    return atomic_load_explicit(&t->load, memory_order_relaxed);
}

static void post_drained(struct worker_thread *t)
{
    struct msg *m = t->drained;

    if (!m || t->worker.conn_count > 0)
        return;
    t->drained = NULL;
    queue_post(t->drained_queue, m);
}

void worker_closed(struct worker *w)
{
    atomic_fetch_sub_explicit(&outer(w)->load, 1, memory_order_relaxed);
    post_drained(outer(w));
}

struct config_msg {
    struct msg msg;
    struct config *config;
};

static void on_config(struct msg *m, void *owner)
{
    struct config_msg *c = (struct config_msg *)m;
    struct worker *w = owner;

    config_unref(&w->config);
    w->config = c->config;
    free(c);
}

void worker_set_config(struct worker *w, struct config *c)
{
    struct config_msg *m = mem_new(sizeof *m);

    m->msg.run = on_config;
    m->config = config_ref(c);
    queue_post(w->queue, &m->msg);
}

struct drain_msg {
    struct msg msg;
    struct msg *drained;
    struct queue *drained_queue;
};

static void on_drain(struct msg *m, void *owner)
{
    struct drain_msg *d = (struct drain_msg *)m;
    struct worker *w = owner;

    outer(w)->drained = d->drained;
    outer(w)->drained_queue = d->drained_queue;
    free(d);
    w->draining = true;
    w->parts.conns->drain(w);
    post_drained(outer(w));
}

void worker_drain(struct worker *w, struct msg *drained, struct queue *to)
{
    struct drain_msg *d = mem_new(sizeof *d);

    d->msg.run = on_drain;
    d->drained = drained;
    d->drained_queue = to;
    queue_post(w->queue, &d->msg);
}

/* --- the thread --- */

static void on_queue(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;

    (void)fd;
    (void)what;
    queue_run(w->queue, w);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;

    (void)fd;
    (void)what;
    worker_clock(w);
    w->parts.conns->check_time(w);
    log_flush(w->access);
}

static void on_stop(struct msg *m, void *owner)
{
    struct worker *w = owner;

    free(m);
    outer(w)->stopping = true;
    event_base_loopbreak(w->base);
}

static void *worker_main(void *arg)
{
    struct worker_thread *t = arg;
    struct worker *w = &t->worker;

    worker_clock(w);
    while (!t->stopping)
        CHECK(event_base_dispatch(w->base) >= 0);
    w->parts.conns->close(w);
    /* Disk helpers and wakes that were posted still name connections and requests. */
    while (w->conn_count > 0 || w->requests > 0) {
        queue_wait(w->queue, -1);
        queue_run(w->queue, w);
    }
    /* Dials that were closed with their answer under way are freed by it. */
    queue_run(w->queue, w);
    log_flush(w->access);
    return NULL;
}

static struct event_base *new_base(void)
{
    struct event_config *ec = event_config_new();
    struct event_base *base;

    CHECK(ec);
    event_config_set_flag(ec, EVENT_BASE_FLAG_NOLOCK);
    base = event_base_new_with_config(ec);
    CHECK(base);
    event_config_free(ec);
    return base;
}

struct worker *worker_start(const struct worker_parts *parts, struct config *c)
{
    static const struct timeval tick = {.tv_usec = TICK_MS * 1000};
    struct worker_thread *t = mem_new(sizeof *t);
    struct worker *w = &t->worker;

    w->parts = *parts;
    w->base = new_base();
    w->queue = queue_new();
    CHECK(db_reader_new(store_db(parts->store), &w->reader) == 0);
    w->shelf = shelf_new(parts->store, SHELF_FILES);
    w->access = log_buffer_new(parts->log);
    w->config = config_ref(c);
    TAILQ_INIT(&w->conns);
    t->queue_event = event_new(w->base, queue_fd(w->queue), EV_READ | EV_PERSIST, on_queue, w);
    t->tick_event = event_new(w->base, -1, EV_PERSIST, on_tick, w);
    CHECK(t->queue_event && event_add(t->queue_event, NULL) == 0);
    CHECK(t->tick_event && event_add(t->tick_event, &tick) == 0);
    thread_start(&t->thread, "worker", worker_main, t);
    return w;
}

void worker_stop(struct worker **wp)
{
    struct worker *w = *wp;
    struct worker_thread *t = outer(w);
    struct msg *stop = mem_new(sizeof *stop);

    *wp = NULL;
    stop->run = on_stop;
    queue_post(w->queue, stop);
    thread_join(t->thread);
    event_free(t->queue_event);
    event_free(t->tick_event);
    event_base_free(w->base);
    queue_free(&w->queue);
    shelf_free(&w->shelf);
    db_reader_free(&w->reader);
    log_buffer_free(&w->access);
    config_unref(&w->config);
    free(w->spare_request);
    tls_scratch_free(&w->tls_scratch);
    free(t);
}
