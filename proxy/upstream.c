/* SPDX-License-Identifier: ISC */
/*
 * The thread: one event loop for libcurl's sockets, the timers of retries and
 * stalls, and the messages of others. All of proxy/upstream_*.c runs in it, but
 * for upstream_keep.c, whose work is the storage thread's.
 */
#include "proxy/upstream.h"

#include <stdlib.h>

#include <curl/curl.h>

#include "proxy/thread.h"
#include "proxy/upstream_auth.h"
#include "proxy/upstream_private.h"
#include "proxy/upstream_rate.h"

static void messages_came(evutil_socket_t fd, short what, void *arg)
{
    struct upstream *u = arg;

    (void)fd;
    (void)what;
    queue_run(u->queue, u);
    /* Intakes need the loop until each has ended. */
    if (u->stopping && LIST_EMPTY(&u->downloads))
        event_base_loopbreak(u->base);
}

static void *upstream_run(void *arg)
{
    struct upstream *u = arg;

    CHECK(event_base_dispatch(u->base) >= 0);
    return NULL;
}

static struct event_base *base_new(void)
{
    struct event_config *c = event_config_new();

    CHECK(c && event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK) == 0);
    struct event_base *base = event_base_new_with_config(c);
    CHECK(base);
    event_config_free(c);
    return base;
}

struct upstream *upstream_start(const struct upstream_parts *parts, struct config *c)
{
    struct upstream *u = mem_new(sizeof *u);

    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    u->parts = *parts;
    u->config = config_ref(c);
    u->base = base_new();
    u->queue = queue_new();
    u->wakeup = event_new(u->base, queue_fd(u->queue), EV_READ | EV_PERSIST, messages_came, u);
    CHECK(u->wakeup && event_add(u->wakeup, NULL) == 0);
    u->loop = loop_new(u->base);
    u->throttle = throttle_new(u->base, u->config);
    u->authority = authority_new(u);
    CHECK(db_reader_new(store_db(parts->store), &u->reader) == 0);
    LIST_INIT(&u->downloads);
    LIST_INIT(&u->questions);
    u->hasher = hasher_start(parts->store, parts->storage, parts->fetches, u->queue, parts->twice,
                             parts->stats, parts->log);
    thread_start(&u->thread, "upstream", upstream_run, u);
    return u;
}

static void stop_came(struct msg *m, void *owner)
{
    struct upstream *u = owner;

    (void)m;
    u->stopping = true;
    upstream_drain_questions(u);
    upstream_drain_downloads(u);
}

void upstream_stop(struct upstream **up)
{
    struct upstream *u = *up;

    if (!u)
        return;
    *up = NULL;
    u->stop.run = stop_came;
    queue_post(u->queue, &u->stop);
    thread_join(u->thread);
    CHECK(LIST_EMPTY(&u->downloads) && LIST_EMPTY(&u->questions));
    hasher_stop(&u->hasher);
    authority_free(&u->authority);
    db_reader_free(&u->reader);
    loop_free(&u->loop);
    throttle_free(&u->throttle);
    event_free(u->wakeup);
    event_base_free(u->base);
    queue_free(&u->queue);
    config_unref(&u->config);
    curl_global_cleanup();
    free(u);
}

struct config_change {
    struct msg msg;
    struct config *config;
};

static void config_came(struct msg *m, void *owner)
{
    struct upstream *u = owner;
    struct config_change *change = (struct config_change *)m;

    throttle_set_config(u->throttle, change->config);
    config_unref(&u->config);
    u->config = change->config;
    health_forget(u->parts.health);
    free(change);
}

void upstream_set_config(struct upstream *u, struct config *c)
{
    struct config_change *change = mem_new(sizeof *change);

    change->config = config_ref(c);
    change->msg.run = config_came;
    /* Now too: whoever asks from here on is not to hear of what the old settings led to. */
    health_forget(u->parts.health);
    queue_post(u->queue, &change->msg);
}

struct queue *upstream_queue(struct upstream *u)
{
    return u->queue;
}
