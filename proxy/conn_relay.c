/* SPDX-License-Identifier: ISC */
/* A connection whose bytes pass as they are, from the end of a request's head on. */
#include "proxy/conn_private.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/relay.h"

/* A registry may take minutes to say that it has taken a large layer. */
#define IDLE_MS (15 * 60 * 1000)

static void on_ended(void *arg, enum outcome why)
{
    struct conn *c = arg;

    worker_clock(c->worker);
    conn_hold(c);
    c->body_sent = relay_bytes_down(c->relay);
    conn_end_request(c, why == OUT_RELAYED ? OUT_LOCAL : why);
    conn_close(c);
    conn_settle(c);
}

void conn_relay(struct conn *c, struct dial *d, struct span down, struct span up)
{
    size_t up_len = up.len + c->saved_len;
    char *all = mem_new(up_len + 1);

    if (up.len)
        memcpy(all, up.p, up.len);
    if (c->saved_len)
        memcpy(all + up.len, c->saved, c->saved_len);
    conn_drop_saved(c);
    conn_enter(c, CONN_RELAYING);
    conn_want_read(c, false);
    conn_want_write(c, false);
    conn_want_closed(c, false);
    c->relay = relay_new(&(struct relay_order){
        .base = c->worker->base,
        .client = &c->stream,
        .dial = d,
        .up = {all, up_len},
        .down = down,
        .idle_ms = IDLE_MS,
        .ended = on_ended,
        .arg = c,
    });
    explicit_bzero(all, up_len);
    free(all);
    STATS_ADD(c->worker->parts.stats, relays, 1);
    STATS_ADD(c->worker->parts.stats, relays_total, 1);
}

void conn_relay_check_time(struct conn *c)
{
    relay_check_time(c->relay, c->worker->now_ms);
}

int conn_relay_status(const struct conn *c)
{
    return c->relay ? relay_status(c->relay) : 0;
}

uint64_t conn_relay_bytes_down(const struct conn *c)
{
    return c->relay ? relay_bytes_down(c->relay) : 0;
}

void conn_relay_free(struct conn *c)
{
    if (!c->relay)
        return;
    relay_free(&c->relay);
    STATS_SUB(c->worker->parts.stats, relays, 1);
}
