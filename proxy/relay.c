/* SPDX-License-Identifier: ISC */
/*
 * Two flows, `up` from the client and `down` to it, each of them:
 *
 *   FLOWING            what the source gives is held, and sent to the sink
 *      |    \
 *   CLOSING  DROPPING  CLOSING: the source has ended or broken; what is held is sent, and
 *      |    /          then the sink is told.
 *   CLOSED             DROPPING (up): the other end takes no more; what comes is dropped,
 *                      so that the client reads the answer instead of a reset
 *
 * The relay is over when both are closed, when the client breaks, or after a silence.
 *
 * A flow takes from its source only when it holds nothing. Ends may hold bytes that their
 * sockets do not tell of: an event is waited for only after EAGAIN.
 */
#include "proxy/relay.h"

#include <ctype.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Of one flow, before others have their turn. */
#define TURN_BYTES (256u * 1024)
/* How long a client may be silent that was told of the end. */
#define TOLD_MS 60000
/* How long it may take to end, when nobody wants what it sends. */
#define LINGER_MS 2000

enum flow_state { FLOWING, CLOSING, DROPPING, CLOSED };
#define FLOW_STATES 4

/* An end: the client's stream, or the dialled connection. */
struct side {
    struct relay *relay;
    struct stream *stream; /* NULL: */
    struct dial *dial;
    bool is_dry;     /* receiving said EAGAIN, and nothing has come since */
    bool is_full;    /* sending said EAGAIN, and there was no room since */
    bool is_reading; /* `readable` is added */
    bool is_writing;
    struct event readable, writable;
};

struct flow {
    enum flow_state state;
    struct side *source, *sink;
    char *held; /* bytes [start, end) wait for the sink; NULL when there are none */
    size_t start, end;
    size_t own_left; /* of those, first ones that the source did not send */
    uint64_t bytes;  /* of the source, taken by the sink */
    bool is_broken;  /* the source did not end, it broke */
    bool has_head;   /* held is what we began with: a head, with who asks */
};

enum scan_state { SCAN_VERSION, SCAN_STATUS, SCAN_HEAD, SCAN_DONE };

/* Where in a response head we are. */
struct scanner {
    enum scan_state state;
    unsigned at; /* characters of the version, of the status, or of a line of the head */
    int status;
    bool is_final;
};

struct relay {
    struct side client, other;
    struct flow up, down;
    struct scanner scanner;
    struct event again; /* begins, and goes on when a turn was used up */
    int64_t idle_ms, quiet_since_ms;
    bool has_moved;   /* since relay_check_time */
    bool has_refused; /* the other end took no more of what the client still sent */
    bool is_over;
    enum outcome why;
    void (*ended)(void *arg, enum outcome why);
    void *arg;
};

/* --- the status of a response --- */

static void scan_version(struct scanner *s, char c)
{
    static const char version[] = "HTTP/1.# ";
    char want = version[s->at++];

    if (want == '#' ? !isdigit((unsigned char)c) : c != want)
        s->state = SCAN_DONE;
    else if (version[s->at] == '\0')
        *s = (struct scanner){.state = SCAN_STATUS};
}

static void scan_status(struct scanner *s, char c)
{
    if (s->at++ < 3) {
        s->status = s->status * 10 + (c - '0');
        if (!isdigit((unsigned char)c))
            s->state = SCAN_DONE;
        return;
    }
    /* An interim response is followed by another head; what follows 101 is none. */
    s->is_final = (c == ' ' || c == '\r' || c == '\n') && s->status >= 101 &&
                  (s->status == 101 || s->status >= 200);
    s->state = s->status / 100 == 1 && !s->is_final ? SCAN_HEAD : SCAN_DONE;
    s->at = c != '\n';
}

static void scan_head(struct scanner *s, char c)
{
    if (c == '\n' && s->at == 0)
        *s = (struct scanner){.state = SCAN_VERSION};
    else if (c == '\n')
        s->at = 0;
    else if (c != '\r')
        s->at = 1;
}

static void scan(struct scanner *s, const char *p, size_t len)
{
    for (const char *end = p + len; p < end; p++) {
        switch (s->state) {
        case SCAN_VERSION:
            scan_version(s, *p);
            break;
        case SCAN_STATUS:
            scan_status(s, *p);
            break;
        case SCAN_HEAD:
            scan_head(s, *p);
            break;
        case SCAN_DONE:
            return;
        }
    }
}

/* --- ends --- */

static ssize_t side_recv(struct side *s, void *buf, size_t len)
{
    return s->stream ? stream_recv(s->stream, buf, len) : dial_recv(s->dial, buf, len);
}

static ssize_t side_send(struct side *s, char *buf, size_t len)
{
    struct iovec part = {.iov_base = buf, .iov_len = len};

    return s->stream ? stream_send(s->stream, &part, 1, false) : dial_send(s->dial, buf, len);
}

/* Whether all that it took is in its socket; if not, errno. */
static bool side_flush(struct side *s)
{
    return !s->stream || stream_flush(s->stream);
}

/* A client that has gone meanwhile has got all that there was. */
static void side_shutdown(struct side *s)
{
    if (s->stream)
        (void)stream_shutdown(s->stream);
    else
        dial_shutdown(s->dial);
}

/* The end of what did not come whole: within TLS without the close_notify of one that did. */
static void side_cut(const struct side *s)
{
    (void)shutdown(s->stream->fd, SHUT_WR);
}

static void side_want(struct side *s, bool read, bool write)
{
    if (read != s->is_reading) {
        s->is_reading = read;
        CHECK((read ? event_add(&s->readable, NULL) : event_del(&s->readable)) == 0);
    }
    if (write != s->is_writing) {
        s->is_writing = write;
        CHECK((write ? event_add(&s->writable, NULL) : event_del(&s->writable)) == 0);
    }
}

/* --- flows --- */

/* The only writer of the state. */
static void flow_enter(struct flow *f, enum flow_state next)
{
    static const bool allowed[FLOW_STATES][FLOW_STATES] = {
        [FLOWING] = {[CLOSING] = true, [DROPPING] = true},
        [CLOSING] = {[CLOSED] = true},
        [DROPPING] = {[CLOSED] = true},
    };

    CHECK(allowed[f->state][next]);
    f->state = next;
}

static bool flow_takes(const struct flow *f)
{
    return f->state == FLOWING || f->state == DROPPING;
}

static void flow_release(struct flow *f)
{
    if (f->has_head)
        explicit_bzero(f->held, f->end);
    f->has_head = false;
    free(f->held);
    f->held = NULL;
    f->start = f->end = f->own_left = 0;
}

/* Over, for this reason; but when the other end has said all that it had to, what becomes
 * of the client is its own affair. */
static void cut(struct relay *r, enum outcome why)
{
    if (r->down.state == CLOSED)
        why = r->down.is_broken || r->has_refused ? OUT_UPSTREAM_BROKEN : OUT_RELAYED;
    r->is_over = true;
    r->why = why;
}

static void source_broke(struct relay *r, struct flow *f)
{
    if (f == &r->up) {
        cut(r, OUT_CLIENT_LEFT);
        return;
    }
    f->is_broken = true;
    flow_enter(f, CLOSING);
}

/* The other end takes no more. */
static void drop_up(struct relay *r)
{
    struct flow *f = &r->up;

    f->sink->is_full = false;
    flow_release(f);
    if (f->state == FLOWING)
        flow_enter(f, DROPPING);
    else if (f->state == CLOSING)
        flow_enter(f, CLOSED);
}

static void sink_broke(struct relay *r, const struct flow *f)
{
    if (f == &r->down) {
        cut(r, OUT_CLIENT_LEFT);
        return;
    }
    /* Its reset was told to who sent, and is an end like others to who receives. */
    r->has_refused = true;
    drop_up(r);
}

/* Hold what the source has, at most as much as is allowed; returns the bytes. */
static size_t flow_fill(struct relay *r, struct flow *f)
{
    CHECK(!f->held);
    f->held = mem_resize(NULL, RELAY_BUFFER_BYTES);
    while (flow_takes(f) && f->end < RELAY_BUFFER_BYTES) {
        ssize_t n = side_recv(f->source, f->held + f->end, RELAY_BUFFER_BYTES - f->end);

        if (n > 0) {
            f->end += (size_t)n;
        } else if (n == 0) {
            flow_enter(f, f->state == FLOWING ? CLOSING : CLOSED);
        } else if (errno == EAGAIN) {
            f->source->is_dry = true;
            break;
        } else if (errno != EINTR) {
            source_broke(r, f);
            break;
        }
    }
    size_t len = f->end;
    if (f == &r->down)
        scan(&r->scanner, f->held, len);
    if (len > 0 && f->state != DROPPING)
        r->has_moved = true;
    if (len == 0 || f->state == DROPPING)
        flow_release(f);
    return len;
}

static void flow_sent(struct relay *r, struct flow *f, size_t n)
{
    size_t own = n < f->own_left ? n : f->own_left;

    r->has_moved = true;
    f->own_left -= own;
    f->bytes += n - own;
    f->start += n;
    if (f->start == f->end)
        flow_release(f);
}

/* Whether nothing is held, here or within the sink; if not, it waits or has broken. */
static bool flow_drain(struct relay *r, struct flow *f)
{
    while (!f->sink->is_full) {
        ssize_t n = -1;

        if (side_flush(f->sink)) {
            if (!f->held)
                return true;
            n = side_send(f->sink, f->held + f->start, f->end - f->start);
        }
        if (n > 0) {
            flow_sent(r, f, (size_t)n);
        } else if (errno == EAGAIN) {
            f->sink->is_full = true;
        } else if (errno != EINTR) {
            sink_broke(r, f);
            return false;
        }
    }
    return false;
}

/* The source has ended, and all of it was sent. */
static void flow_close(struct relay *r, struct flow *f)
{
    flow_enter(f, CLOSED);
    if (f->is_broken) {
        side_cut(f->sink);
        drop_up(r);
    } else {
        side_shutdown(f->sink);
    }
}

static void flow_run(struct relay *r, struct flow *f)
{
    size_t taken = 0;

    while (!r->is_over && f->state != CLOSED) {
        if (f->state != DROPPING && !flow_drain(r, f)) {
            if (f->state == DROPPING)
                continue;
            return;
        }
        if (f->state == CLOSING) {
            flow_close(r, f);
            return;
        }
        if (f->source->is_dry)
            return;
        if (taken >= TURN_BYTES) {
            event_add(&r->again, &(struct timeval){0});
            return;
        }
        taken += flow_fill(r, f);
    }
}

/* --- the relay --- */

static void finish(struct relay *r)
{
    side_want(&r->client, false, false);
    side_want(&r->other, false, false);
    event_del(&r->again);
    flow_release(&r->up);
    flow_release(&r->down);
    r->ended(r->arg, r->why);
}

/* What each end is waited for; a reader is not heard while the other one is full. */
static void wait_for_ends(struct relay *r)
{
    struct side *c = &r->client, *o = &r->other;

    side_want(c, flow_takes(&r->up) && c->is_dry && !o->is_full, c->is_full);
    side_want(o, flow_takes(&r->down) && o->is_dry && !c->is_full, o->is_full);
}

static void turn(struct relay *r)
{
    /* The end of `down` may be that of `up`, not the other way round. */
    flow_run(r, &r->down);
    flow_run(r, &r->up);
    if (r->down.state == CLOSED && r->up.state == CLOSED)
        cut(r, OUT_RELAYED);
    if (r->is_over)
        finish(r);
    else
        wait_for_ends(r);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct side *s = arg;

    (void)fd;
    (void)what;
    s->is_dry = false;
    turn(s->relay);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct side *s = arg;

    (void)fd;
    (void)what;
    s->is_full = false;
    turn(s->relay);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    turn(arg);
}

static void side_init(struct relay *r, struct side *s, struct event_base *base, int fd)
{
    s->relay = r;
    CHECK(event_assign(&s->readable, base, fd, EV_READ | EV_PERSIST, on_readable, s) == 0);
    CHECK(event_assign(&s->writable, base, fd, EV_WRITE | EV_PERSIST, on_writable, s) == 0);
}

static void flow_init(struct flow *f, struct side *source, struct side *sink, struct span first)
{
    f->source = source;
    f->sink = sink;
    if (first.len > 0)
        f->held = mem_copy(first.p, first.len);
    f->end = first.len;
    f->has_head = first.len > 0;
}

struct relay *relay_new(const struct relay_order *o)
{
    struct relay *r = mem_new(sizeof *r);

    r->client.stream = o->client;
    r->other.dial = o->dial;
    side_init(r, &r->client, o->base, o->client->fd);
    side_init(r, &r->other, o->base, dial_fd(o->dial));
    flow_init(&r->up, &r->client, &r->other, o->up);
    flow_init(&r->down, &r->other, &r->client, o->down);
    r->down.own_left = o->down.len;
    r->idle_ms = o->idle_ms;
    r->has_moved = true;
    r->ended = o->ended;
    r->arg = o->arg;
    CHECK(evtimer_assign(&r->again, o->base, on_again, r) == 0);
    CHECK(event_add(&r->again, &(struct timeval){0}) == 0);
    return r;
}

void relay_free(struct relay **rp)
{
    struct relay *r = *rp;

    if (!r)
        return;
    *rp = NULL;
    side_want(&r->client, false, false);
    side_want(&r->other, false, false);
    event_del(&r->again);
    dial_close(&r->other.dial);
    flow_release(&r->up);
    flow_release(&r->down);
    free(r);
}

static enum outcome why_silent(const struct relay *r)
{
    if (r->client.is_full)
        return OUT_CLIENT_STALLED;
    if (r->other.is_full || (r->up.bytes > 0 && r->down.bytes == 0))
        return OUT_UPSTREAM_TIMEOUT;
    return OUT_RELAYED;
}

static int64_t patience_ms(const struct relay *r)
{
    if (r->down.state != CLOSED)
        return r->idle_ms;
    if (r->up.state == DROPPING)
        return LINGER_MS;
    return r->idle_ms < TOLD_MS ? r->idle_ms : TOLD_MS;
}

void relay_check_time(struct relay *r, int64_t now_ms)
{
    if (r->has_moved) {
        r->has_moved = false;
        r->quiet_since_ms = now_ms;
    } else if (!r->is_over && now_ms - r->quiet_since_ms >= patience_ms(r)) {
        cut(r, why_silent(r));
        finish(r);
    }
}

uint64_t relay_bytes_down(const struct relay *r)
{
    return r->down.bytes;
}

uint64_t relay_bytes_up(const struct relay *r)
{
    return r->up.bytes;
}

int relay_status(const struct relay *r)
{
    return r->scanner.is_final ? r->scanner.status : 0;
}
