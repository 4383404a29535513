/* SPDX-License-Identifier: ISC */
/* A connection between conn.c (its life, what it reads), conn_body.c (bodies of requests),
 * conn_output.c (what it sends), conn_tls.c (how it is opened) and conn_relay.c. */
#ifndef PROXY_CONN_PRIVATE_H
#define PROXY_CONN_PRIVATE_H

#include <event2/event_struct.h>

#include "proxy/conn.h"
#include "proxy/socket.h"
#include "proxy/stream.h"

enum conn_state {
    CONN_OPENING,
    CONN_READING,
    CONN_HANDLING,
    CONN_RECEIVING,
    CONN_SENDING,
    CONN_LINGERING,
    CONN_RELAYING,
};
#define CONN_STATES 7

struct conn {
    TAILQ_ENTRY(conn) link;
    struct worker *worker;
    const struct request_calls *calls;
    struct config *config;
    const struct config_listener *listener;
    struct load *load;
    struct request *request;
    struct stream stream;
    struct relay *relay;
    char *host;     /* of a CONNECT, or NULL */
    bool opens_tls; /* once this response is sent */
    enum conn_state state;
    unsigned busy;    /* entry points on the stack: see conn_settle */
    bool closed;      /* conn_close was called */
    bool processing;  /* conn_process is on the stack */
    bool resume;      /* a response ended outside of it: input may wait in `saved` */
    bool is_reading;  /* read_event is added */
    bool is_writing;  /* write_event is added */
    bool is_watching; /* closed_event is added */
    bool keep_alive;
    bool is_allowed; /* by the listener's allow */
    bool is_old;     /* the request came by HTTP/1.0 */
    bool draining;
    bool is_corked;    /* SENDING: see cork */
    bool is_quick;     /* it was found to be */
    bool paused;       /* SENDING: the body waits for its source */
    bool disk_pending; /* SENDING: the body waits for a disk helper */
    /* The body of the request: what of it is still to come. */
    bool has_body;
    bool body_is_chunked;
    bool expects_continue;
    bool may_keep_alive; /* once the body was read */
    bool is_held_back;   /* RECEIVING: the request has no room for more */
    size_t step_bytes;   /* RECEIVING: since the last progress */
    uint64_t body_left;  /* unless it is chunked */
    uint64_t drop_room;  /* READING: of a body that nobody reads */
    struct chunked chunked;
    uint64_t linger_left;
    int64_t linger_end_ms;
    int64_t since_ms; /* state, or its last progress, began */
    char *saved;      /* input not parsed yet; NULL when there is none */
    size_t saved_len;
    char *out; /* head and memory body not sent yet; NULL when there are none */
    size_t out_len, out_sent;
    int body_fd;
    uint64_t body_at, body_limit, body_end;
    uint64_t body_hot; /* the disk was asked about the bytes before it */
    uint64_t body_sent;
    /* SENDING: how fast the client is, see find_quick. */
    uint64_t timed_at;
    int64_t timed_since_ms;
    uint64_t head_left; /* of `out`, bytes that are head: not counted as body */
    struct event read_event, write_event, closed_event;
    struct disk_read disk_read;
    char peer[SOCKET_PEER_MAX];
    struct in6_addr address; /* of the peer */
};

/* Every entry point (a callback, a call of another module) holds the connection,
 * and settles it at its end: the outermost one goes on with saved input, and frees
 * a connection that was closed meanwhile. */
void conn_hold(struct conn *c);
void conn_settle(struct conn *c);

/* The only writer of the state. */
void conn_enter(struct conn *c, enum conn_state next);

/* Whether the write event is wanted. */
void conn_want_write(struct conn *c, bool want);
/* Whether to watch for a peer that leaves: while a request waits. */
void conn_want_closed(struct conn *c, bool want);
/* The handshake, from the beginning or a step on. */
void conn_open(struct conn *c);
void conn_open_step(struct conn *c);
void conn_relay_check_time(struct conn *c);
void conn_relay_free(struct conn *c);

/* --- conn_body.c --- */

/* The head of a request has come: what body follows it. */
void conn_body_begin(struct conn *c, const struct http_head *h);
/* Whether it is larger than what is dropped to keep the connection, and of a method that has
 * no use for it: refused before it is looked at. */
bool conn_body_is_useless(const struct conn *c, const struct http_head *h);
/* How many bytes of it may still come; UINT64_MAX: not known. */
uint64_t conn_body_drop_max(const struct conn *c);
/* Take what belongs to a body that nobody reads; the bytes taken. */
size_t conn_drop_body(struct conn *c, const char *p, size_t len);
/* Give the request its body, until it has no room, or the end; the bytes taken. */
size_t conn_receive_body(struct conn *c, const char *p, size_t len);
/* RECEIVING ends, perhaps before the body does. */
void conn_leave_body(struct conn *c);

/* --- */

/* Forget the input that is kept. Heads have passwords: nothing of it stays in memory. */
void conn_drop_saved(struct conn *c);
/* What will be sent was sent: FIN, then wait for the peer's. */
void conn_linger(struct conn *c);
/* Whether the read event is wanted. */
void conn_want_read(struct conn *c, bool want);
/* The write event's callback. */
void conn_on_writable(evutil_socket_t fd, short what, void *arg);

/* Tell the request, if there is one, how its response ended. */
void conn_end_request(struct conn *c, enum outcome why);
/* The response is over, whole (OUT_LOCAL) or cut short. */
void conn_finish(struct conn *c, enum outcome why);

#endif
