/* SPDX-License-Identifier: ISC */
/*
 * A client connection: reads heads, sends what a request gives it, in order, one
 * request at a time. Knows HTTP framing, no registry.
 *
 *   OPENING   the TLS handshake, when the listener speaks TLS or after a CONNECT
 *      |
 *   READING   waiting for, or within, a request head (or a body to be dropped)
 *      | begin
 *   HANDLING  the request works on its answer; nothing is sent yet
 *      |  ^ | conn_read_body
 *      |  | RECEIVING   the body goes to the request, unless that has no room for it
 *      | conn_send (also in RECEIVING)  | conn_relay
 *   SENDING   head and body go out;   RELAYING  bytes go both ways between the client
 *      |      PAUSED while a body      |        and a connection made for it
 *      |      waits for its source     (freed)
 *      | end
 *   READING or OPENING again, or
 *   LINGERING sent all that will be sent; input is dropped until the peer closes,
 *             so that it reads the answer instead of a reset
 *   (freed)
 */
#ifndef PROXY_CONN_H
#define PROXY_CONN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/outcome.h"
#include "proxy/worker.h"

struct dial;
struct request;

/* What a connection asks of requests: upcalls into the module above. A slot is
 * where the connection keeps its request; `begin` and `refuse` fill it. */
struct request_calls {
    /* A head was parsed: answer it by conn_send, now or later. The head's spans are
     * valid during the call only. */
    void (*begin)(struct conn *c, struct request **slot, const struct http_head *h);
    /* A head could not be parsed: answer it; the connection closes after it. */
    void (*refuse)(struct conn *c, struct request **slot, enum outcome why);
    /* Bytes of its body that it reads, valid during the call. False: no more of them
     * until conn_read_more. */
    bool (*body)(struct request *r, const char *p, size_t len);
    /* The body has ended: OUT_LOCAL, or OUT_BAD_REQUEST when its coding is broken; then
     * the connection closes after the answer. */
    void (*body_end)(struct request *r, enum outcome why);
    /* The body of the answer was sent up to its limit. */
    void (*more)(struct request *r);
    /* The clock has ticked and the request is not answered yet. */
    void (*check_time)(struct request *r);
    /* It has, and its answer is on the way: whether others wait too long for this client. */
    bool (*is_too_slow)(struct request *r);
    /* The response has ended, whole (OUT_LOCAL) or not: the request is gone. */
    void (*end)(struct request *r, enum outcome why, uint64_t body_bytes);
};

/* For worker_parts. */
extern const struct worker_calls conn_worker_calls;

/* Close at once, whatever it does; its request is told. */
void conn_close(struct conn *c);

struct worker *conn_worker(struct conn *c);
const struct config_listener *conn_listener(const struct conn *c);
const char *conn_peer(const struct conn *c);
/* The same as bytes, IPv4 mapped; in6addr_any for a Unix socket. */
const struct in6_addr *conn_address(const struct conn *c);
/* Whether the connection goes on after the response; a request may forbid it. */
bool conn_keeps_alive(const struct conn *c);
/* The host that the client takes us for: of the CONNECT, or of the TLS hello on a listener
 * that intercepts TLS. NULL: us. */
const char *conn_host(const struct conn *c);
/* Whether the client's address is one that the listener allows. */
bool conn_is_allowed(const struct conn *c);
/* Whether the request came by HTTP/1.0. */
bool conn_is_old(const struct conn *c);
void conn_forbid_keep_alive(struct conn *c);

/* The request wants its body, which may be empty: body and body_end are called from now on,
 * perhaps before the return. Before conn_send. A body that is not read is dropped. */
void conn_read_body(struct conn *c);
/* There is room for more of it. */
void conn_read_more(struct conn *c);

/* A response. The head and a body in memory are sent or copied before the return.
 * A body in a file: bytes [start, end) of `fd`, of which those below `limit` are
 * there now; the descriptor stays open until the request has ended. */
struct conn_body {
    const void *memory;
    size_t memory_len;
    int fd; /* -1: none */
    uint64_t start, limit, end;
};

/* Send it (once a request). The end may come before the return; then the request
 * is gone. */
void conn_send(struct conn *c, const char *head, size_t head_len, const struct conn_body *b);

/* Once the answer to a CONNECT is sent, go on with TLS as this host (copied), by the
 * listener's identity. Before conn_send. */
void conn_open_tls(struct conn *c, const char *host);

/* In place of an answer: relay between the client and a connection made for it (owned
 * from here on). `down` and `up` are sent before anything else, to the client and to
 * the other end; what the client has sent behind the head follows `up`. The request ends
 * with OUT_LOCAL, or with why it was cut; the bytes are those to the client. */
void conn_relay(struct conn *c, struct dial *d, struct span down, struct span up);
/* The status of the response that was relayed, 0 when none was seen; and its bytes. */
int conn_relay_status(const struct conn *c);
uint64_t conn_relay_bytes_down(const struct conn *c);

/* The body has sent up to its limit and waits: the request raises the limit
 * (conn_extend) or ends it short (conn_cut: FIN after what was sent). */
void conn_extend(struct conn *c, uint64_t limit);
void conn_cut(struct conn *c);

#endif
