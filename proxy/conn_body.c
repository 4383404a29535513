/* SPDX-License-Identifier: ISC */
/* The body of a request: given to the request that wants it, else dropped. */
#include <event2/event.h>
#include <string.h>
#include <sys/uio.h>

#include "proxy/conn_private.h"

#define DROP_BODY_MAX (64u * 1024) /* of a body that nobody reads, for the next request's sake */
#define STEP_BYTES 1024u           /* of a body in stall-timeout, at least */

static bool has_use_for_body(enum http_method m)
{
    return m == HTTP_POST || m == HTTP_PUT || m == HTTP_PATCH;
}

void conn_body_begin(struct conn *c, const struct http_head *h)
{
    c->body_left = h->chunked ? 0 : (uint64_t)(h->content_length > 0 ? h->content_length : 0);
    c->body_is_chunked = h->chunked;
    if (h->chunked)
        chunked_init(&c->chunked);
    c->has_body = h->chunked || h->content_length > 0;
    c->expects_continue = c->has_body && h->expect_continue;
    c->may_keep_alive = c->keep_alive;
    c->drop_room = DROP_BODY_MAX;
    /* Of what is not read the end may be far, or never come. */
    if (c->body_left > DROP_BODY_MAX || c->expects_continue ||
        (h->chunked && has_use_for_body(h->method)))
        c->keep_alive = false;
}

bool conn_body_is_useless(const struct conn *c, const struct http_head *h)
{
    return c->body_left > DROP_BODY_MAX && !has_use_for_body(h->method);
}

uint64_t conn_body_drop_max(const struct conn *c)
{
    if (!c->has_body || c->body_is_chunked)
        return c->has_body ? UINT64_MAX : 0;
    return c->body_left;
}

/* The next part of the body in [p, p + len): its bytes in `out`, what it takes in `used`.
 * False when it is off the grammar. */
static bool next_part(struct conn *c, const char *p, size_t len, size_t *used, struct span *out)
{
    if (!c->body_is_chunked) {
        *used = len < c->body_left ? len : (size_t)c->body_left;
        *out = (struct span){p, *used};
        c->body_left -= *used;
        c->has_body = c->body_left > 0;
        return true;
    }
    enum http_result res = chunked_decode(&c->chunked, p, len, used, out);
    c->has_body = res != HTTP_DONE;
    return res == HTTP_DONE || res == HTTP_MORE;
}

size_t conn_drop_body(struct conn *c, const char *p, size_t len)
{
    size_t used = 0;

    while (used < len && c->has_body) {
        size_t n;
        struct span out;

        if (!next_part(c, p + used, len - used, &n, &out) || out.len > c->drop_room) {
            conn_linger(c);
            return len;
        }
        used += n;
        c->drop_room -= out.len;
    }
    return used;
}

void conn_leave_body(struct conn *c)
{
    conn_want_read(c, false);
    if (c->has_body)
        c->keep_alive = false;
}

static void end_body(struct conn *c, enum outcome why)
{
    conn_enter(c, CONN_HANDLING);
    c->calls->body_end(c->request, why);
}

/* A byte now and then is no progress: a client could hold on for ever. */
static void note_progress(struct conn *c, size_t len)
{
    c->step_bytes += len;
    if (c->step_bytes < STEP_BYTES)
        return;
    c->step_bytes = 0;
    c->since_ms = c->worker->now_ms;
}

size_t conn_receive_body(struct conn *c, const char *p, size_t len)
{
    size_t used = 0;

    note_progress(c, len);
    while (c->state == CONN_RECEIVING && !c->is_held_back && !c->closed) {
        size_t n = 0;
        struct span out = {p, 0};

        if (used == len && c->has_body)
            break;
        if (c->has_body && !next_part(c, p + used, len - used, &n, &out)) {
            end_body(c, OUT_BAD_REQUEST);
            return len;
        }
        used += n;
        if (out.len > 0 && !c->calls->body(c->request, out.p, out.len))
            c->is_held_back = true;
        if (!c->has_body && c->state == CONN_RECEIVING && !c->closed)
            end_body(c, OUT_LOCAL);
    }
    return used;
}

/* The interim response of RFC 9110 section 15.2.1. A client whose socket has no room for
 * it goes on without it. */
static void send_continue(struct conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec part = {(void *)(uintptr_t)text, sizeof text - 1};
    ssize_t n = stream_send(&c->stream, &part, 1, false);

    if (n > 0 && (size_t)n < part.iov_len)
        conn_close(c);
}

void conn_read_body(struct conn *c)
{
    conn_hold(c);
    conn_enter(c, CONN_RECEIVING);
    c->keep_alive = c->may_keep_alive && !c->draining;
    c->is_held_back = false;
    c->step_bytes = 0;
    if (c->expects_continue && c->saved_len == 0 && !c->is_old)
        send_continue(c);
    conn_want_closed(c, false);
    conn_want_read(c, true);
    /* What came with the head, or the end of a body that is empty. */
    c->resume = !c->processing;
    conn_settle(c);
}

void conn_read_more(struct conn *c)
{
    if (c->state != CONN_RECEIVING || !c->is_held_back)
        return;
    conn_hold(c);
    c->is_held_back = false;
    c->since_ms = c->worker->now_ms;
    conn_want_closed(c, false);
    conn_want_read(c, true);
    c->resume = !c->processing;
    conn_settle(c);
}
