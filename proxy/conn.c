/* SPDX-License-Identifier: ISC */
#include "proxy/conn_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/config_match.h"

#define LINGER_BYTES_MAX (1024u * 1024) /* beside the body of a request */
#define LINGER_MS 2000                  /* without a byte */
#define LINGER_ALL_MS 60000

static void conn_process(struct conn *c, size_t len);

void conn_enter(struct conn *c, enum conn_state next)
{
    static const bool allowed[CONN_STATES][CONN_STATES] = {
        [CONN_OPENING] = {[CONN_READING] = true},
        [CONN_READING] = {[CONN_HANDLING] = true, [CONN_LINGERING] = true},
        [CONN_HANDLING] = {[CONN_RECEIVING] = true, [CONN_SENDING] = true, [CONN_RELAYING] = true},
        [CONN_RECEIVING] = {[CONN_HANDLING] = true, [CONN_SENDING] = true},
        [CONN_SENDING] = {[CONN_READING] = true, [CONN_OPENING] = true, [CONN_LINGERING] = true},
    };

    CHECK(allowed[c->state][next]);
    if (c->state == CONN_RECEIVING)
        conn_leave_body(c);
    c->state = next;
    c->since_ms = c->worker->now_ms;
}

void conn_want_read(struct conn *c, bool want)
{
    if (want == c->is_reading)
        return;
    c->is_reading = want;
    CHECK((want ? event_add(&c->read_event, NULL) : event_del(&c->read_event)) == 0);
}

void conn_want_closed(struct conn *c, bool want)
{
    if (want == c->is_watching)
        return;
    c->is_watching = want;
    CHECK((want ? event_add(&c->closed_event, NULL) : event_del(&c->closed_event)) == 0);
}

void conn_want_write(struct conn *c, bool want)
{
    if (want == c->is_writing)
        return;
    c->is_writing = want;
    CHECK((want ? event_add(&c->write_event, NULL) : event_del(&c->write_event)) == 0);
}

void conn_drop_saved(struct conn *c)
{
    if (c->saved)
        explicit_bzero(c->saved, c->saved_len);
    free(c->saved);
    c->saved = NULL;
    c->saved_len = 0;
}

static void conn_free(struct conn *c)
{
    struct worker *w = c->worker;

    CHECK(c->closed && c->busy == 0 && !c->disk_pending && !c->request);
    TAILQ_REMOVE(&w->conns, c, link);
    w->conn_count--;
    STATS_SUB(w->parts.stats, connections, 1);
    tls_free(&c->stream.tls);
    close(c->stream.fd);
    free(c->host);
    conn_drop_saved(c);
    free(c->out);
    config_unref(&c->config);
    load_leave(c->load);
    free(c);
    worker_closed(w);
}

void conn_hold(struct conn *c)
{
    c->busy++;
}

void conn_settle(struct conn *c)
{
    CHECK(c->busy > 0);
    while (c->busy == 1 && c->resume && !c->closed) {
        size_t len = c->saved_len;

        c->resume = false;
        if (len)
            memcpy(c->worker->input, c->saved, len);
        conn_process(c, len);
    }
    c->busy--;
    if (c->busy == 0 && c->closed && !c->disk_pending)
        conn_free(c);
}

void conn_end_request(struct conn *c, enum outcome why)
{
    struct request *r = c->request;

    if (!r)
        return;
    c->request = NULL;
    c->calls->end(r, why, c->body_sent);
}

static void conn_close_why(struct conn *c, enum outcome why)
{
    if (c->closed)
        return;
    conn_hold(c);
    c->closed = true;
    conn_want_read(c, false);
    conn_want_write(c, false);
    conn_want_closed(c, false);
    /* A disk helper still uses the request's descriptor: its answer ends it. */
    if (!c->disk_pending)
        conn_end_request(c, why);
    conn_relay_free(c);
    shutdown(c->stream.fd, SHUT_RDWR);
    conn_settle(c);
}

void conn_close(struct conn *c)
{
    conn_close_why(c, OUT_CLIENT_LEFT);
}

/* What will be sent was sent: FIN, then wait for the peer's. A client that sends a large
 * body reads the answer after it: so that goes by, if it comes without a stop. */
void conn_linger(struct conn *c)
{
    uint64_t body_max = conn_body_drop_max(c);

    conn_enter(c, CONN_LINGERING);
    c->linger_left = LINGER_BYTES_MAX + (body_max < INT64_MAX ? body_max : INT64_MAX);
    c->linger_end_ms = c->since_ms + LINGER_ALL_MS;
    conn_drop_saved(c);
    conn_want_write(c, false);
    if (stream_shutdown(&c->stream) != 0)
        conn_close(c);
    else
        conn_want_read(c, true);
}

/* What TLS would read is not what the client has said before it was told to, in plain:
 * that must not come to be within TLS. */
static void close_early(struct conn *c)
{
    log_event(c->worker->parts.log, LOG_INFO, "%s on [listener %s] did not wait for its tunnel",
              c->peer, c->listener->name);
    conn_close(c);
}

void conn_finish(struct conn *c, enum outcome why)
{
    free(c->out);
    c->out = NULL;
    c->out_len = c->out_sent = 0;
    conn_want_write(c, false);
    conn_end_request(c, why);
    if (c->closed)
        return;
    /* After a CONNECT this is no connection of requests to us that could go on or not. */
    bool goes_on = c->keep_alive || c->opens_tls;
    if (why != OUT_LOCAL || !goes_on || c->draining) {
        conn_linger(c);
        return;
    }
    if (c->opens_tls && !c->processing && c->saved_len > 0) {
        close_early(c);
        return;
    }
    if (c->opens_tls) {
        conn_open(c);
        return;
    }
    conn_enter(c, CONN_READING);
    c->resume = !c->processing;
}

/* --- input --- */

static void save_input(struct conn *c, const char *p, size_t len)
{
    char *copy = len ? mem_copy(p, len) : NULL;

    conn_drop_saved(c);
    c->saved = copy;
    c->saved_len = len;
}

/* Whether requests may be passed on with their bodies. */
static bool may_relay(const struct conn *c)
{
    return c->listener->role == ROLE_INTERCEPT || c->listener->role == ROLE_TLS_INTERCEPT;
}

static void begin_request(struct conn *c, const struct http_head *h)
{
    conn_enter(c, CONN_HANDLING);
    c->body_sent = 0;
    c->body_fd = -1;
    c->keep_alive = h->keep_alive && !c->draining;
    c->is_old = h->minor_version == 0;
    conn_body_begin(c, h);
    if (conn_body_is_useless(c, h) && !may_relay(c))
        c->calls->refuse(c, &c->request, OUT_BODY_TOO_LARGE);
    else
        c->calls->begin(c, &c->request, h);
}

static void refuse_head(struct conn *c, enum outcome why)
{
    conn_enter(c, CONN_HANDLING);
    c->body_sent = 0;
    c->body_fd = -1;
    c->keep_alive = false;
    c->has_body = false;
    c->calls->refuse(c, &c->request, why);
}

static enum outcome refusal(enum http_result res)
{
    switch (res) {
    case HTTP_TARGET_TOO_LONG:
        return OUT_URI_TOO_LONG;
    case HTTP_HEAD_TOO_LARGE:
        return OUT_FIELDS_TOO_LARGE;
    case HTTP_BAD_VERSION:
        return OUT_BAD_VERSION;
    case HTTP_BAD:
    case HTTP_DONE:
    case HTTP_MORE:
        break;
    }
    return OUT_BAD_REQUEST;
}

/* Work through the `len` bytes at the start of the worker's input buffer: heads,
 * one after the other, until one has to wait or the bytes are used up. The buffer goes
 * from one connection to the next: what is secret is wiped from it. */
static void conn_process(struct conn *c, size_t len)
{
    char *in = c->worker->input;
    size_t used = 0;

    c->processing = true;
    if (c->state == CONN_RECEIVING)
        used = conn_receive_body(c, in, len);
    while (c->state == CONN_READING && !c->closed && used < len) {
        struct http_head h;
        size_t n;

        if (c->has_body) {
            used += conn_drop_body(c, in + used, len - used);
            continue;
        }
        enum http_result res = http_parse_head(&h, in + used, len - used, &n);
        if (res == HTTP_MORE)
            break;
        if (res == HTTP_DONE) {
            used += n;
            begin_request(c, &h);
            if (h.authorization.p)
                explicit_bzero(in + used - n, n);
            if (c->state == CONN_RECEIVING)
                used += conn_receive_body(c, in + used, len - used);
        } else {
            refuse_head(c, refusal(res));
        }
    }
    if (c->state == CONN_OPENING && used < len)
        close_early(c);
    if (!c->closed && c->state != CONN_LINGERING && c->state != CONN_RELAYING) {
        bool receives = c->state == CONN_RECEIVING && !c->is_held_back;
        bool reads = c->state == CONN_READING || c->state == CONN_OPENING || receives;

        save_input(c, in + used, len - used);
        conn_want_read(c, reads);
        conn_want_closed(c, c->state == CONN_HANDLING || (c->state == CONN_RECEIVING && !receives));
        /* Nobody else will tell of what is within TLS already. */
        if (reads && c->state != CONN_OPENING && stream_has_input(&c->stream))
            event_active(&c->read_event, EV_READ, 0);
    }
    explicit_bzero(in + used, len - used);
    c->processing = false;
}

static void linger_input(struct conn *c)
{
    ssize_t n = recv(c->stream.fd, c->worker->input, WORKER_INPUT_BYTES, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        explicit_bzero(c->worker->input, (size_t)n);
    if (n <= 0 || (uint64_t)n >= c->linger_left) {
        conn_close(c);
        return;
    }
    c->linger_left -= (uint64_t)n;
    c->since_ms = c->worker->now_ms;
}

static void read_input(struct conn *c)
{
    struct worker *w = c->worker;
    size_t len = c->saved_len;

    CHECK(len < WORKER_INPUT_BYTES);
    if (len)
        memcpy(w->input, c->saved, len);
    ssize_t n = stream_recv(&c->stream, w->input + len, WORKER_INPUT_BYTES - len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_close(c);
        return;
    }
    /* The time of a head runs from its first byte, not from its last; that of a body, too. */
    if (len == 0 && !c->has_body)
        c->since_ms = w->now_ms;
    conn_process(c, len + (size_t)n);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;

    (void)fd;
    (void)what;
    worker_clock(c->worker);
    conn_hold(c);
    if (c->state == CONN_OPENING)
        conn_open_step(c);
    else if (c->state == CONN_LINGERING)
        linger_input(c);
    else if (c->state == CONN_READING || c->state == CONN_RECEIVING)
        read_input(c);
    conn_settle(c);
}

/* While nothing is read or written, only this tells that the peer has gone. By
 * edges: input that waits for its turn would keep the loop awake, and a reset shows
 * as a readable socket (EV_CLOSED alone would not be told, and the loop would spin). */
static void on_edge(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};

    (void)what;
    worker_clock(c->worker);
    if (poll(&p, 1, 0) > 0)
        conn_close(c);
}

/* --- life --- */

static void read_address(const char *peer, struct in6_addr *address)
{
    char mapped[sizeof "::ffff:" + SOCKET_PEER_MAX];

    snprintf(mapped, sizeof mapped, "::ffff:%s", peer);
    if (inet_pton(AF_INET6, peer, address) != 1 && inet_pton(AF_INET6, mapped, address) != 1)
        *address = in6addr_any;
}

static void conn_new(struct worker *w, int fd, struct config *config,
                     const struct config_listener *l, struct load *load, const char *peer)
{
    struct conn *c = mem_new(sizeof *c);

    c->worker = w;
    c->calls = w->parts.requests;
    c->config = config_ref(config);
    c->listener = l;
    c->load = load;
    c->stream.fd = fd;
    c->state = l->identity && l->role != ROLE_INTERCEPT ? CONN_OPENING : CONN_READING;
    c->body_fd = -1;
    c->since_ms = w->now_ms;
    snprintf(c->peer, sizeof c->peer, "%s", peer);
    read_address(peer, &c->address);
    c->is_allowed = config_address_matches(l->allow, l->allow_count, peer);
    CHECK(event_assign(&c->read_event, w->base, fd, EV_READ | EV_PERSIST, on_readable, c) == 0);
    CHECK(event_assign(&c->write_event, w->base, fd, EV_WRITE | EV_PERSIST, conn_on_writable, c) ==
          0);
    CHECK(event_assign(&c->closed_event, w->base, fd, EV_READ | EV_ET | EV_PERSIST, on_edge, c) ==
          0);
    TAILQ_INSERT_TAIL(&w->conns, c, link);
    w->conn_count++;
    if (c->state == CONN_OPENING)
        conn_open(c);
    conn_want_read(c, true);
}

static void conn_check_time(struct conn *c)
{
    const struct config_listener *l = c->listener;
    int64_t age_ms = c->worker->now_ms - c->since_ms;

    switch (c->state) {
    case CONN_OPENING:
        if (age_ms >= l->head_timeout_ms)
            conn_close(c);
        break;
    case CONN_RELAYING:
        conn_relay_check_time(c);
        break;
    case CONN_READING:
        if (age_ms >= (c->saved_len || c->has_body ? l->head_timeout_ms : l->idle_timeout_ms))
            conn_close(c);
        break;
    case CONN_SENDING:
        if (!c->paused && !c->disk_pending &&
            (age_ms >= l->stall_timeout_ms || (c->request && c->calls->is_too_slow(c->request))))
            conn_close_why(c, OUT_CLIENT_STALLED);
        break;
    case CONN_LINGERING:
        if (age_ms >= LINGER_MS || c->worker->now_ms >= c->linger_end_ms)
            conn_close(c);
        break;
    case CONN_RECEIVING:
        if (!c->is_held_back && age_ms >= l->stall_timeout_ms)
            conn_close_why(c, OUT_CLIENT_STALLED);
        break;
    case CONN_HANDLING:
        c->calls->check_time(c->request);
        break;
    }
}

static void conn_drain(struct conn *c)
{
    c->draining = true;
    if (c->state == CONN_OPENING || (c->state == CONN_READING && c->saved_len == 0))
        conn_close(c);
}

static void for_each(struct worker *w, void (*call)(struct conn *c))
{
    struct conn *c = TAILQ_FIRST(&w->conns);

    while (c) {
        struct conn *next = TAILQ_NEXT(c, link);

        call(c);
        c = next;
    }
}

static void check_time_all(struct worker *w)
{
    for_each(w, conn_check_time);
}

static void drain_all(struct worker *w)
{
    for_each(w, conn_drain);
}

static void close_all(struct worker *w)
{
    for_each(w, conn_close);
}

const struct worker_calls conn_worker_calls = {
    .take = conn_new,
    .check_time = check_time_all,
    .drain = drain_all,
    .close = close_all,
};

struct worker *conn_worker(struct conn *c)
{
    return c->worker;
}

const struct config_listener *conn_listener(const struct conn *c)
{
    return c->listener;
}

const char *conn_peer(const struct conn *c)
{
    return c->peer;
}

const struct in6_addr *conn_address(const struct conn *c)
{
    return &c->address;
}

bool conn_keeps_alive(const struct conn *c)
{
    return c->keep_alive && !c->draining && !(c->state == CONN_RECEIVING && c->has_body);
}

const char *conn_host(const struct conn *c)
{
    if (c->listener->role == ROLE_TLS_INTERCEPT)
        return tls_host(c->stream.tls);
    return c->host;
}

bool conn_is_allowed(const struct conn *c)
{
    return c->is_allowed;
}

bool conn_is_old(const struct conn *c)
{
    return c->is_old;
}

void conn_forbid_keep_alive(struct conn *c)
{
    c->keep_alive = false;
}
