/* SPDX-License-Identifier: ISC */
/*
 * A worker: one thread, one event loop, the client connections given to it.
 * It reads the index, never writes it; it never waits on a disk or a network.
 *
 * The structure is shared by the modules that run in the worker's thread (conn,
 * request, pull, admin); other threads use the functions below alone.
 */
#ifndef PROXY_WORKER_H
#define PROXY_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cache/fetch.h"
#include "cache/store.h"
#include "proxy/absence.h"
#include "proxy/ask.h"
#include "proxy/config.h"
#include "proxy/disk.h"
#include "proxy/health.h"
#include "proxy/http.h"
#include "proxy/load.h"
#include "proxy/log.h"
#include "proxy/permit.h"
#include "proxy/queue.h"
#include "proxy/shelf.h"
#include "proxy/stats.h"
#include "proxy/storage.h"
#include "proxy/tls.h"
#include "proxy/upstream.h"

#define WORKER_INPUT_BYTES (64u * 1024)

struct conn;
struct evictor;
struct logins;
struct orders;
struct prefetch;
struct twice;
struct uploads;
struct watch;
struct worker;
struct request_calls;

/* What a worker has done with its connections: upcalls, so that the modules above
 * it (conn, then request) know it, and it not them. Run in the worker's thread. */
struct worker_calls {
    void (*take)(struct worker *w, int fd, struct config *c, const struct config_listener *l,
                 struct load *load, const char *peer);
    void (*check_time)(struct worker *w); /* the clock has ticked */
    void (*drain)(struct worker *w);
    void (*close)(struct worker *w); /* all of them, at once */
};

/* What every worker shares; all of it is safe to call from any thread. */
struct worker_parts {
    const struct worker_calls *conns;
    const struct request_calls *requests; /* conn.h */
    struct store *store;
    struct storage *storage;
    struct evictor *evictor;
    struct fetch_table *fetches;
    struct ask_table *asks;
    struct upstream *upstream;
    struct dialer *dialer;
    struct disk *disk;
    struct permits *permits;
    struct absences *absences;
    struct health *health;
    struct greetings *greetings;
    struct uploads *uploads;
    struct logins *logins;
    struct twice *twice;
    struct orders *orders;
    struct prefetch *prefetch;
    struct watch *watch;
    struct scrubber *scrubber;
    const char *loop_id; /* of this daemon, in CDN-Loop (RFC 8586) */
    struct stats *stats;
    struct log *log;
};

struct worker {
    struct worker_parts parts;
    struct event_base *base;
    struct queue *queue;
    struct db_reader *reader;
    struct shelf *shelf;
    struct log_buffer *access;
    struct config *config; /* newest; a connection keeps that of its acceptance */
    TAILQ_HEAD(conn_list, conn) conns;
    unsigned conn_count;
    void *spare_request;             /* memory of the last one, for the next; or NULL */
    struct tls_scratch *tls_scratch; /* of all its TLS connections; NULL until there is one */
    unsigned requests;               /* not yet freed: each may still get a message */
    bool draining;
    int64_t now_ms; /* monotonic; read once a callback */
    int64_t now_s;  /* Unix time, as old as now_ms */
    int64_t date_s; /* the second that `date` says */
    char date[HTTP_DATE_SIZE];
    /* Lent to the connection whose callback runs, so that idle ones hold none. */
    char input[WORKER_INPUT_BYTES];
};

/* Start a worker's thread. The config is referenced. */
struct worker *worker_start(const struct worker_parts *parts, struct config *c);

/* Give it a connection (main thread): the descriptor, non-blocking, the listener
 * of the config `c` (referenced), the load that it leaves when it closes, the peer's
 * address as text. */
void worker_take(struct worker *w, int fd, struct config *c, const struct config_listener *l,
                 struct load *load, const char *peer);
/* Connections given to it and not yet closed (main thread decides by it). */
unsigned worker_load(const struct worker *w);

void worker_set_config(struct worker *w, struct config *c);
/* Close idle connections; others after the response under way. When none is left
 * `drained` is posted to `to`; until then it must stay. */
void worker_drain(struct worker *w, struct msg *drained, struct queue *to);
/* Cut what is left, end the thread, free. */
void worker_stop(struct worker **w);

/* Within the worker's thread: refresh now_ms, now_s and date. */
void worker_clock(struct worker *w);
/* Within the worker's thread: a connection that was given to it has been closed. */
void worker_closed(struct worker *w);

#endif
