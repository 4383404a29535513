/* SPDX-License-Identifier: ISC */
/* How a connection gets its TLS. */
#include "proxy/conn_private.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

void conn_open_tls(struct conn *c, const char *host)
{
    CHECK(c->state == CONN_HANDLING && !c->stream.tls && c->listener->identity);
    free(c->host);
    c->host = mem_copy(host, strlen(host));
    c->opens_tls = true;
}

void conn_open(struct conn *c)
{
    struct worker *w = c->worker;

    if (!w->tls_scratch)
        w->tls_scratch = tls_scratch_new();
    c->opens_tls = false;
    c->has_body = false;
    if (c->state != CONN_OPENING)
        conn_enter(c, CONN_OPENING);
    c->stream.tls = tls_new(c->listener->identity, w->tls_scratch, c->stream.fd, c->host);
    conn_want_read(c, true);
}

void conn_open_step(struct conn *c)
{
    char why[256];

    switch (tls_handshake(c->stream.tls, why, sizeof why)) {
    case TLS_DONE:
        STATS_ADD(c->worker->parts.stats, tls_handshakes, 1);
        conn_want_write(c, false);
        conn_enter(c, CONN_READING);
        if (stream_has_input(&c->stream))
            event_active(&c->read_event, EV_READ, 0);
        break;
    case TLS_WANTS_READ:
        conn_want_write(c, false);
        break;
    case TLS_WANTS_WRITE:
        conn_want_write(c, true);
        break;
    case TLS_FAILED:
        STATS_ADD(c->worker->parts.stats, tls_failures, 1);
        log_event(c->worker->parts.log, LOG_INFO, "no TLS with %s on [listener %s]: %s", c->peer,
                  c->listener->name, why);
        conn_close(c);
        break;
    }
}
