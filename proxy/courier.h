/* SPDX-License-Identifier: ISC */
/*
 * A thread that asks upstreams for one thing after the other and waits for each: what
 * nobody's connection waits for needs no other way.
 *
 * Its queue takes messages meanwhile; all calls but courier_start's are the thread's own.
 */
#ifndef PROXY_COURIER_H
#define PROXY_COURIER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "cache/db.h"
#include "cache/fetch.h"
#include "cache/store.h"
#include "proxy/ask.h"
#include "proxy/config.h"
#include "proxy/queue.h"
#include "proxy/stats.h"
#include "proxy/storage.h"
#include "proxy/upstream.h"

struct courier_parts {
    struct store *store;
    struct storage *storage;
    struct fetch_table *fetches;
    struct ask_table *asks;
    struct upstream *upstream;
    const char *loop_id;
    struct stats *stats;
    struct log *log;
};

struct courier {
    struct courier_parts parts;
    struct queue *queue;
    struct db_reader *reader;
    struct config *config; /* newest */
    pthread_t thread;
    struct msg stop;
    bool stopping;  /* give up what is under way, and return */
    bool cancelled; /* the same of what is under way alone; who set it takes it back */
};

/* Start a thread of this name that calls `run(arg)`, to return soon after courier_wait has
 * said no. The config is referenced. */
void courier_start(struct courier *c, const struct courier_parts *parts, struct config *config,
                   const char *name, void *(*run)(void *arg), void *arg);
/* Another thread: use another configuration from now on. */
void courier_set_config(struct courier *c, struct config *config);
/* Another thread: have it stop, wait for its end, and release what it had. */
void courier_stop(struct courier *c);

/* Run messages, or wait for some so long at most (-1: no limit). False: stop, or give up
 * what is under way. */
bool courier_wait(struct courier *c, int timeout_ms);

/* Ask and wait for the answer: ask_result of what is returned, and the caller's to give
 * back. NULL: stop. */
struct ask *courier_ask(struct courier *c, enum ask_kind kind, const struct name *n,
                        const char *reference);

/* A blob to be brought into the store. */
struct courier_blob {
    const struct name *name;
    const struct digest *digest;
    uint64_t size_bytes;
    bool is_background;
    void (*tell)(void *arg, uint64_t bytes); /* what is there, now and then */
    void *arg;
};

/* Bring it, and wait until it is in the index. OUT_MISS when it crossed the line for this,
 * OUT_COLLAPSED when somebody else had it brought; else an error row and `why`.
 * OUT_DRAINING too: stop. */
enum outcome courier_fetch(struct courier *c, const struct courier_blob *b,
                           struct fetch_failure *why);

/* Have the storage thread apply this to the index, as storage.h says, and wait for the
 * commit, also when the thread is to stop. */
MUST_CHECK int courier_write(struct courier *c, int (*apply)(void *arg, struct db_txn *txn),
                             void *arg);

/* Whether the index has the blob, and the store its file. */
bool courier_holds(struct courier *c, const struct digest *d);

#endif
