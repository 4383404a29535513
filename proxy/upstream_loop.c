/* SPDX-License-Identifier: ISC */
/*
 * libcurl's multi interface on libevent: curl says which sockets and which time it
 * waits for, we tell it when they come.
 */
#include "proxy/upstream_transfer.h"

#include <stdlib.h>

#include <curl/curl.h>
#include <event2/event.h>
#include <event2/event_struct.h>

/* Connections kept open between requests. */
#define CONNECTIONS_KEPT 32

struct loop {
    struct event_base *base;
    struct event *timer;
    CURLM *multi;
};

struct watch {
    struct loop *loop;
    struct event event;
};

/* Tell every transfer that has ended. A callback may add and remove transfers, so
 * each message is taken apart before. */
static void report_ended(struct loop *l)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(l->multi, &left))) {
        if (m->msg != CURLMSG_DONE)
            continue;
        CURL *easy = m->easy_handle;
        CURLcode code = m->data.result;
        loop_remove(l, easy);
        transfer_ended(easy, (int)code);
    }
}

static void act(struct loop *l, curl_socket_t s, int what)
{
    int running;

    CHECK(curl_multi_socket_action(l->multi, s, what, &running) == CURLM_OK);
    report_ended(l);
}

static void socket_ready(evutil_socket_t s, short what, void *arg)
{
    struct watch *w = arg;
    int flags = 0;

    if (what & EV_READ)
        flags |= CURL_CSELECT_IN;
    if (what & EV_WRITE)
        flags |= CURL_CSELECT_OUT;
    act(w->loop, s, flags);
}

static void timer_fired(evutil_socket_t s, short what, void *arg)
{
    (void)s;
    (void)what;
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* CURLMOPT_SOCKETFUNCTION */
static int socket_changed(CURL *easy, curl_socket_t s, int what, void *arg, void *assigned)
{
    struct loop *l = arg;
    struct watch *w = assigned;

    (void)easy;
    if (w)
        event_del(&w->event);
    if (what == CURL_POLL_REMOVE) {
        free(w);
        return 0;
    }
    if (!w) {
        w = mem_new(sizeof *w);
        w->loop = l;
        curl_multi_assign(l->multi, s, w);
    }
    short events = EV_PERSIST;
    if (what & CURL_POLL_IN)
        events |= EV_READ;
    if (what & CURL_POLL_OUT)
        events |= EV_WRITE;
    CHECK(event_assign(&w->event, l->base, s, events, socket_ready, w) == 0);
    CHECK(event_add(&w->event, NULL) == 0);
    return 0;
}

/* CURLMOPT_TIMERFUNCTION. Even a timeout of 0 goes by way of the loop: curl must
 * not be called from its own callback. */
static int timer_changed(CURLM *multi, long timeout_ms, void *arg)
{
    struct loop *l = arg;

    (void)multi;
    if (timeout_ms < 0) {
        event_del(l->timer);
        return 0;
    }
    struct timeval t = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    CHECK(event_add(l->timer, &t) == 0);
    return 0;
}

struct loop *loop_new(struct event_base *base)
{
    struct loop *l = mem_new(sizeof *l);

    l->base = base;
    l->timer = event_new(base, -1, 0, timer_fired, l);
    l->multi = curl_multi_init();
    CHECK(l->timer && l->multi);
    curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
    curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
    curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, timer_changed);
    curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
    curl_multi_setopt(l->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
    return l;
}

void loop_free(struct loop **lp)
{
    struct loop *l = *lp;

    if (!l)
        return;
    *lp = NULL;
    CHECK(curl_multi_cleanup(l->multi) == CURLM_OK);
    event_free(l->timer);
    free(l);
}

void loop_add(struct loop *l, void *easy)
{
    CHECK(curl_multi_add_handle(l->multi, easy) == CURLM_OK);
}

void loop_remove(struct loop *l, void *easy)
{
    CHECK(curl_multi_remove_handle(l->multi, easy) == CURLM_OK);
}
