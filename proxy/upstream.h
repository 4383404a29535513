/* SPDX-License-Identifier: ISC */
/*
 * The upstream thread: libcurl's multi interface on an event_base of its own.
 * All traffic to registries goes through here; curl.h is included in upstream*.c
 * alone. Redirects are followed by our own code, hop by hop; the connected address
 * is checked; no credential crosses an origin.
 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include "cache/fetch.h"
#include "cache/name.h"
#include "cache/store.h"
#include "proxy/ask.h"
#include "proxy/config.h"
#include "proxy/health.h"
#include "proxy/log.h"
#include "proxy/stats.h"
#include "proxy/storage.h"

struct twice;
struct upstream;

struct upstream_parts {
    struct store *store;
    struct storage *storage;
    struct fetch_table *fetches;
    struct ask_table *asks;
    struct health *health;
    struct twice *twice; /* or NULL */
    struct stats *stats;
    struct log *log;
};

/* Start the thread (and those of its intakes). The config is referenced. */
struct upstream *upstream_start(const struct upstream_parts *parts, struct config *c);
/* Abandon what is under way (fetches keep their partials, asks fail with
 * OUT_DRAINING), end the threads, free. */
void upstream_stop(struct upstream **u);
/* Use another configuration from the next request on. */
void upstream_set_config(struct upstream *u, struct config *c);
/* Of the thread, for messages that are not its own. */
struct queue *upstream_queue(struct upstream *u);

/* Set a fetch going that fetch_join created: the blob of that digest in `n`. Takes
 * a reference of its own. `size_bytes` is the size that a manifest gave, or
 * UINT64_MAX. Any thread. */
void upstream_fetch(struct upstream *u, struct fetch *f, const struct name *n, uint64_t size_bytes,
                    const struct behalf *b);
/* Set an ask going that ask_join created. Takes a reference of its own. Any thread. */
void upstream_ask(struct upstream *u, struct ask *a);

#endif
