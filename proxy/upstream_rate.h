/* SPDX-License-Identifier: ISC */
/*
 * Inside the upstream thread: how fast content may come, from each upstream and from
 * all together, by the clock. Who may not go on waits in one row, and has its turn.
 */
#ifndef PROXY_UPSTREAM_RATE_H
#define PROXY_UPSTREAM_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proxy/config.h"

struct event_base;
struct meter;
struct throttle;

/* One transfer of content. */
struct flow {
    struct throttle *throttle;
    struct meter *meter;
    bool is_waiting;
    size_t turn_bytes; /* that it may take before others who wait */
    bool (*is_background)(void *arg);
    void (*go)(void *arg);
    void *arg;
    TAILQ_ENTRY(flow) link; /* while it waits */
};

struct throttle *throttle_new(struct event_base *base, const struct config *c);
/* Every flow must have been stopped. */
void throttle_free(struct throttle **t);
/* Other rates from now on; for what is under way too. */
void throttle_set_config(struct throttle *t, const struct config *c);

/* A flow of content of this registry. `go` is called when flow_take, which said no,
 * is worth another try. `is_background` is asked whether nobody waits for it, which may
 * change; NULL: somebody does. */
void flow_init(struct flow *f, struct throttle *t, const char *registry,
               bool (*is_background)(void *arg), void (*go)(void *arg), void *arg);
/* Whether so many bytes may be taken now; then they are counted. If not, `go` follows. */
bool flow_take(struct flow *f, size_t len);
/* It takes no more, or not soon. Legal at any time. */
void flow_stop(struct flow *f);

#endif
