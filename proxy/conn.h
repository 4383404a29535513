/* SPDX-License-Identifier: ISC */
/*
 * A client connection: reads heads, sends what a request gives it, in order, one
 * request at a time. Knows HTTP framing, no registry.
 *
 *   READING   waiting for, or within, a request head (or a body to be dropped)
 *      | request_begin
 *   HANDLING  the request works on its answer; nothing is sent yet
 *      | conn_send
 *   SENDING   head and body go out; PAUSED while a body waits for its source
 *      | request_sent
 *   READING again, or
 *   LINGERING sent all that will be sent; input is dropped until the peer closes,
 *             so that it reads the answer instead of a reset
 *   (freed)
 */
#ifndef PROXY_CONN_H
#define PROXY_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/worker.h"

/* Take over a connection; runs in the worker's thread. */
void conn_new(struct worker *w, int fd, struct config *c, const struct config_listener *l,
              const char *peer);
/* Close at once, whatever it does; its request is told. */
void conn_close(struct conn *c);
/* What the clock asks for: head, idle, stall and linger timeouts. */
void conn_check_time(struct conn *c);
/* Close when idle; else after the response under way. */
void conn_drain(struct conn *c);

struct conn *conn_next(struct conn *c);
struct worker *conn_worker(struct conn *c);
const struct config_listener *conn_listener(const struct conn *c);
const char *conn_peer(const struct conn *c);
/* Whether the connection goes on after the response; a request may forbid it. */
bool conn_keeps_alive(const struct conn *c);
void conn_forbid_keep_alive(struct conn *c);

/* A response. The head and a body in memory are sent or copied before the return.
 * A body in a file: bytes [start, end) of `fd`, of which those below `limit` are
 * there now; the descriptor stays open until request_sent or conn_close. */
struct conn_body {
    const void *memory;
    size_t memory_len;
    int fd; /* -1: none */
    uint64_t start, limit, end;
};

/* Send it (once a request). The end comes as request_sent, perhaps before the
 * return; then the request is gone. */
void conn_send(struct conn *c, const char *head, size_t head_len, const struct conn_body *b);

/* The body has sent up to its limit and waits: the request raises the limit
 * (conn_extend) or ends it short (conn_cut: FIN after what was sent). */
void conn_extend(struct conn *c, uint64_t limit);
void conn_cut(struct conn *c);

#endif
