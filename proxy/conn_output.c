/* SPDX-License-Identifier: ISC */
/* Sending: head and memory body first, then the file, up to what its source has. */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "proxy/conn_private.h"
#include "proxy/socket.h"

#define QUANTUM_BYTES (2048u * 1024) /* one sendfile */
#define QUANTA_MAX 2                 /* in one callback: then others have their turn */
#define COLD_WINDOW_BYTES (4u * 1024 * 1024)
/* A client is quick that takes so much in so little time. */
#define QUICK_BYTES (8u * 1024 * 1024)
#define QUICK_MS 1000

static void conn_pump(struct conn *c);

/* Each sendfile would else end with a segment that is not full, which costs clients a tenth
 * more; what must not wait is let go. */
static void cork(struct conn *c, bool on)
{
    if (on != c->is_corked)
        stream_cork(&c->stream, on);
    c->is_corked = on;
}

/* After a send that failed: the peer has left, or takes more later. */
static void wait_writable(struct conn *c)
{
    if (errno == EAGAIN || errno == EINTR)
        conn_want_write(c, true);
    else
        conn_close(c);
}

static void count_sent(struct conn *c, size_t n)
{
    size_t head = n < c->head_left ? n : (size_t)c->head_left;

    c->head_left -= head;
    c->body_sent += n - head;
    c->since_ms = c->worker->now_ms;
}

/* Send the rest of head and memory body. True when all is out. */
static bool pump_memory(struct conn *c)
{
    bool more = c->body_fd >= 0 && c->body_at < c->body_limit;

    while (c->out_sent < c->out_len) {
        struct iovec rest = {c->out + c->out_sent, c->out_len - c->out_sent};
        ssize_t n = stream_send(&c->stream, &rest, 1, more);

        if (n < 0) {
            wait_writable(c);
            return false;
        }
        c->out_sent += (size_t)n;
        count_sent(c, (size_t)n);
    }
    return true;
}

static void on_disk_read(struct msg *m, void *owner)
{
    struct conn *c = CONTAINER_OF(m, struct conn, disk_read.msg);

    worker_clock(owner);
    c->disk_pending = false;
    conn_hold(c);
    if (c->closed) {
        conn_end_request(c, OUT_CLIENT_LEFT);
    } else {
        c->since_ms = c->worker->now_ms;
        conn_pump(c);
    }
    conn_settle(c);
}

static void ask_disk(struct conn *c)
{
    uint64_t left = c->body_limit - c->body_at;

    c->disk_read.msg.run = on_disk_read;
    c->disk_read.answers = c->worker->queue;
    c->disk_read.fd = c->body_fd;
    c->disk_read.offset = c->body_at;
    c->disk_read.len = left < COLD_WINDOW_BYTES ? left : COLD_WINDOW_BYTES;
    c->disk_pending = true;
    /* Sent without another look, lest a page that was dropped meanwhile asks for ever. */
    c->body_hot = c->body_at + c->disk_read.len;
    conn_want_write(c, false);
    STATS_ADD(c->worker->parts.stats, cold_reads, 1);
    disk_post(c->worker->parts.disk, &c->disk_read);
}

/* Whether the bytes from body_at on can be sent without waiting for the disk; a
 * window is looked at once. */
static bool is_hot(struct conn *c)
{
    uint64_t left = c->body_limit - c->body_at;
    uint64_t len = left < COLD_WINDOW_BYTES ? left : COLD_WINDOW_BYTES;

    if (c->body_at < c->body_hot)
        return true;
    if (!disk_is_hot(c->body_fd, c->body_at, len))
        return false;
    c->body_hot = c->body_at + len;
    return true;
}

static void find_quick(struct conn *c)
{
    if (c->is_quick || c->body_at - c->timed_at < QUICK_BYTES)
        return;
    c->is_quick = c->worker->now_ms - c->timed_since_ms < QUICK_MS;
    if (c->is_quick)
        socket_hurry(c->stream.fd);
    c->timed_at = c->body_at;
    c->timed_since_ms = c->worker->now_ms;
}

/* Send the body's file up to its limit. True when the limit was reached. */
static bool pump_file(struct conn *c)
{
    unsigned quanta = 0;

    while (c->body_at < c->body_limit) {
        if (quanta++ == QUANTA_MAX) {
            conn_want_write(c, true);
            return false;
        }
        if (!is_hot(c)) {
            ask_disk(c);
            return false;
        }
        uint64_t left = (c->body_hot < c->body_limit ? c->body_hot : c->body_limit) - c->body_at;
        size_t want = left < QUANTUM_BYTES ? (size_t)left : QUANTUM_BYTES;
        ssize_t n = stream_sendfile(&c->stream, c->body_fd, c->body_at, want);
        if (n == 0 || (n < 0 && errno == EIO)) {
            /* The file is shorter than the index says, or cannot be read. */
            conn_finish(c, OUT_CUT);
            return false;
        }
        if (n < 0) {
            wait_writable(c);
            return false;
        }
        c->body_at += (uint64_t)n;
        c->body_sent += (uint64_t)n;
        STATS_ADD(c->worker->parts.stats, sent_bytes, n);
        c->since_ms = c->worker->now_ms;
        find_quick(c);
        if ((size_t)n < want && !c->stream.tls) {
            /* The socket is full: no need to hear it from a second call. */
            conn_want_write(c, true);
            return false;
        }
    }
    return true;
}

/* Send what TLS has kept. True when all is out. */
static bool pump_rest(struct conn *c)
{
    if (stream_flush(&c->stream))
        return true;
    wait_writable(c);
    return false;
}

/* Send until the socket is full, the body's source has no more, or the end. */
static void conn_pump(struct conn *c)
{
    CHECK(c->state == CONN_SENDING && !c->disk_pending);
    while (pump_memory(c) && (c->body_fd < 0 || pump_file(c)) && pump_rest(c)) {
        if (c->body_fd < 0 || c->body_at == c->body_end) {
            cork(c, false);
            conn_finish(c, OUT_LOCAL);
            return;
        }
        c->paused = true;
        c->calls->more(c->request);
        if (c->paused) {
            cork(c, false);
            conn_want_write(c, false);
            conn_want_closed(c, true);
        }
        if (c->paused || c->state != CONN_SENDING)
            return;
    }
}

void conn_on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;

    (void)fd;
    (void)what;
    worker_clock(c->worker);
    conn_hold(c);
    if (c->state == CONN_OPENING)
        conn_open_step(c);
    else
        conn_pump(c);
    conn_settle(c);
}

/* Head and a body in memory in one call; the usual answer needs no copy. */
static size_t send_at_once(struct conn *c, const char *head, size_t head_len,
                           const struct conn_body *b)
{
    struct iovec v[2] = {{.iov_base = (void *)head, .iov_len = head_len},
                         {.iov_base = (void *)b->memory, .iov_len = b->memory_len}};
    bool more = b->fd >= 0 && b->start < b->limit;
    ssize_t n = stream_send(&c->stream, v, b->memory_len ? 2 : 1, more);

    return n > 0 ? (size_t)n : 0;
}

void conn_send(struct conn *c, const char *head, size_t head_len, const struct conn_body *b)
{
    size_t total = head_len + b->memory_len;

    CHECK(b->fd < 0 || b->memory_len == 0);
    CHECK(b->fd < 0 || (b->start <= b->limit && b->limit <= b->end));
    conn_hold(c);
    conn_enter(c, CONN_SENDING);
    conn_want_closed(c, false);
    c->body_fd = b->fd;
    c->body_at = b->start;
    c->body_limit = b->limit;
    c->body_end = b->end;
    c->body_hot = b->start;
    c->timed_at = b->start;
    c->timed_since_ms = c->worker->now_ms;
    c->head_left = head_len;
    c->paused = false;
    cork(c, b->fd >= 0 && b->limit - b->start > QUANTUM_BYTES);
    size_t sent = send_at_once(c, head, head_len, b);
    count_sent(c, sent);
    if (sent < total) {
        c->out = mem_new(total - sent);
        c->out_len = total - sent;
        size_t from_head = sent < head_len ? head_len - sent : 0;
        memcpy(c->out, head + head_len - from_head, from_head);
        if (b->memory_len)
            memcpy(c->out + from_head,
                   (const char *)b->memory + b->memory_len - (c->out_len - from_head),
                   c->out_len - from_head);
    }
    conn_pump(c);
    conn_settle(c);
}

void conn_extend(struct conn *c, uint64_t limit)
{
    CHECK(c->paused && limit > c->body_limit && limit <= c->body_end);
    c->body_limit = limit;
    c->paused = false;
    conn_want_closed(c, false);
    c->since_ms = c->worker->now_ms;
    /* Within `more` it is conn_pump that goes on. */
    if (c->busy > 0)
        return;
    conn_hold(c);
    conn_pump(c);
    conn_settle(c);
}

void conn_cut(struct conn *c)
{
    CHECK(c->paused);
    c->paused = false;
    conn_want_closed(c, false);
    conn_hold(c);
    conn_finish(c, OUT_CUT);
    conn_settle(c);
}
