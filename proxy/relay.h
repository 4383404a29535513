/* SPDX-License-Identifier: ISC */
/*
 * Bytes between a client and a connection made for it, both ways and as they are, in the
 * thread of the event loop. Each way holds at most RELAY_BUFFER_BYTES, and nothing while
 * nothing waits: whoever reads slowly slows the other one.
 */
#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include <stdint.h>

#include "proxy/outcome.h"
#include "proxy/span.h"
#include "proxy/stream.h"
#include "proxy/upstream_dial.h"

#define RELAY_BUFFER_BYTES (64u * 1024)

struct event_base;
struct relay;

struct relay_order {
    struct event_base *base;
    struct stream *client; /* the caller's, as is its socket: it has no other events on it */
    struct dial *dial;     /* open; owned from here on */
    struct span up;        /* to be sent first to the other end; copied */
    struct span down;      /* to be sent first to the client; copied */
    int64_t idle_ms;       /* no byte either way for so long is the end */
    /* Once, from the event loop or relay_check_time, never from relay_new:
     *
     *   OUT_RELAYED           both ends have ended, or fell silent with nothing left to send
     *   OUT_CLIENT_LEFT       the client broke it
     *   OUT_CLIENT_STALLED    the client took nothing for `idle_ms`
     *   OUT_UPSTREAM_BROKEN   the other end broke it; what came before was sent, and the
     *                         client had its time to read that
     *   OUT_UPSTREAM_TIMEOUT  the other end took nothing, or never sent anything
     *
     * Only relay_free and the functions that tell of it are left. */
    void (*ended)(void *arg, enum outcome why);
    void *arg;
};

struct relay *relay_new(const struct relay_order *o);
/* Also before its end, and within `ended`. NULL is legal; leaves NULL. */
void relay_free(struct relay **r);

/* The clock has ticked. */
void relay_check_time(struct relay *r, int64_t now_ms);

/* Bytes of the other end that were sent to the client, and bytes sent to the other end. */
uint64_t relay_bytes_down(const struct relay *r);
uint64_t relay_bytes_up(const struct relay *r);

/* The status of the first response that is not an interim one (RFC 9110 section 15.2); 0
 * when none has come, or what comes is not HTTP/1. */
int relay_status(const struct relay *r);

#endif
