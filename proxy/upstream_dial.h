/* SPDX-License-Identifier: ISC */
/*
 * Connections to upstreams for clients whose bytes pass as they are.
 *
 * Threads of the dialer make them: names, proxy, TLS and certificates as in every other
 * exchange with the upstream. What a dial came to is told by a message to the queue of
 * the thread that asked; from then on it is that thread's alone.
 *
 *   WAITING      for a thread of the dialer, no longer than it may then connect
 *      |
 *   CONNECTING   in one  --dial_close-->  ABANDONED, until libcurl has let go
 *      |
 *   ANSWERED     the message is under way
 *      | done
 *   OPEN or FAILED
 */
#ifndef PROXY_UPSTREAM_DIAL_H
#define PROXY_UPSTREAM_DIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proxy/config.h"
#include "proxy/queue.h"
#include "proxy/upstream_transfer.h"

#define DIALER_THREADS_MAX 8
#define DIALS_WAITING_MAX 256 /* one more fails at once */

struct dial;
struct dialer;

/* Where the host may be. Behind a proxy its address is not seen: only a host that is
 * plainly elsewhere is refused. */
enum dial_reach {
    DIAL_PUBLIC,   /* port 443 of public addresses, but none of this machine's */
    DIAL_ANYWHERE, /* any address and port: a url that the administrator has configured */
};

struct dialer *dialer_start(unsigned threads);
/* Every dial that is not answered yet fails, with OUT_DRAINING. Leaves NULL. */
void dialer_stop(struct dialer **r);

struct dial_order {
    struct config *config;            /* that `to` is of; referenced */
    const struct config_upstream *to; /* how it is reached; NULL: directly */
    /* "https://HOST[:PORT]", or "http://HOST:PORT" for bytes that are sent as they are;
     * copied. */
    const char *url;
    enum dial_reach reach;
    struct queue *answers;
    /* Run by the queue's thread, once, unless dial_close came first; never before
     * dial_start has returned. `f` is NULL when it is open; else only dial_close is left. */
    void (*done)(void *arg, const struct failure *f);
    void *arg;
};

/* The thread of `answers`. */
struct dial *dial_start(struct dialer *r, const struct dial_order *o);

/* At any time, by the thread of `answers`: `done` is not called any more. Its message may
 * be in the queue already, which must be run once more before it is freed. NULL is legal;
 * leaves NULL. */
void dial_close(struct dial **d);

/* --- an open one --- */

/* Its socket, non-blocking: for an event loop. */
int dial_fd(const struct dial *d);

/* As recv(2): bytes, 0 at the end, -1 with errno (EAGAIN: wait until readable, which is
 * only right after it). The end of TLS without its close_notify is an end too. */
ssize_t dial_recv(struct dial *d, void *buf, size_t len);

/* As send(2): bytes taken, or -1 with errno. After EAGAIN (wait until writable) the same
 * bytes come again. */
ssize_t dial_send(struct dial *d, const void *buf, size_t len);

/* No more will be sent: FIN. libcurl has no call for a close_notify before it: within TLS,
 * servers take it for a client that left. */
void dial_shutdown(struct dial *d);

#endif
