/* SPDX-License-Identifier: ISC */
/*
 * The storage thread: every write transaction of the index (many jobs in one
 * commit), every fsync and rename.
 *
 * A job goes through: prepare (files; no transaction), apply (index records, in
 * the shared write transaction), the commit, done. When prepare fails, apply is
 * left out; when apply fails, the job alone is left out of the commit: the
 * transaction is begun again without it, so apply may be called several times.
 * done always comes, once, with the error or 0. apply and done run in the storage
 * thread; so does prepare, unless the job `is_slow` or `is_heavy`: then it runs in a thread
 * beside it, of which each kind has one, one after the other, so that no small job waits for
 * the fsync of a large file, and neither waits for long computations.
 *
 * After a failed fsync or commit the daemon stops writing: later jobs are done
 * with ERR_IO, and the log says so once (the state of dirty pages is unknown).
 */
#ifndef PROXY_STORAGE_H
#define PROXY_STORAGE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "cache/store.h"
#include "proxy/log.h"
#include "proxy/queue.h"
#include "proxy/stats.h"
#include "proxy/tally.h"

struct storage;

/* Somebody wants room for a file in partial/, which he has open: this claim (cache/room.h)
 * could not be granted. Embedded in what wants it. */
struct want {
    struct msg msg;   /* run in the owner of `answers`, when it is over */
    const char *name; /* of room_claim; NULL: so many more bytes should fit, whoever's */
    uint64_t bytes;
    struct queue *answers;
    void (*answered)(struct msg *m, void *owner); /* `m` is `msg` */
    int err; /* 0: claimed; ERR_NO_SPACE: nothing more may go */
    STAILQ_ENTRY(want) link;
};

struct storage_job {
    struct msg msg; /* the storage thread's */
    bool is_slow;   /* its prepare waits for the disk for long */
    bool is_heavy;  /* its prepare computes for long */
    int (*prepare)(struct storage_job *j, struct store *s);  /* may be NULL */
    int (*apply)(struct storage_job *j, struct db_txn *txn); /* may be NULL */
    void (*done)(struct storage_job *j, int err);            /* owns and frees the job */
    const struct digest *publishes; /* its prepare gives a file this name; NULL: none */
    int err;                        /* the storage thread's, as are the next */
    bool is_prepared;
    STAILQ_ENTRY(storage_job) link;
    LIST_ENTRY(storage_job) publishing;
};

/* Start the thread. It flushes the ledger from `stats` and rewrites index.json
 * when tags have changed, every few minutes and at its end. */
struct storage *storage_start(struct store *s, struct stats *stats, struct log *log);
/* Do what is queued, write index.json and the ledger, end the thread, free. */
void storage_stop(struct storage **st);

/* Any thread. */
void storage_post(struct storage *st, struct storage_job *j);
/* False after a failed fsync or commit. */
bool storage_is_writable(struct storage *st);
/* What was counted, with the ledger that it is flushed to. It lives as long as the thread. */
struct tally *storage_tally(struct storage *st);
/* Of the thread, for messages that are not its own. */
struct queue *storage_queue(struct storage *st);

/* In a job's done, after a failure: remove the published file of a blob, which would take room
 * that nobody counts, unless a record names it, as of one of the same digest that came by
 * another way. */
void storage_remove_unrecorded(struct storage *st, const struct digest *d);

/* In a job: whether a file of this name is on its way into blobs/ by another job. */
bool storage_is_publishing(const struct storage *st, const struct digest *d);

/* Who makes room: called in any thread. */
struct storage_evictor {
    void (*want)(void *arg, struct want *w);
    void (*collect)(void *arg, bool at_once);
    void *arg;
};
/* NULL: nobody does, and who wants room is refused. While nobody asks. */
void storage_set_evictor(struct storage *st, const struct storage_evictor *e);
/* Any thread. */
void storage_want(struct storage *st, struct want *w);
/* The same, and wait until it is over: 0 or ERR_NO_SPACE. Not in the storage thread. */
MUST_CHECK int storage_wait_for_room(struct storage *st, const char *name, uint64_t bytes);
/* Any thread: something was deleted, so there may be garbage. `at_once`: what was pushed and
 * waits for its manifest has waited long enough. */
void storage_collect(struct storage *st, bool at_once);

/* A tag was committed: index.json is due. Any thread. */
void storage_tags_changed(struct storage *st);
/* This blob was used just now, by this client (in6addr_any: one without an address): its
 * record says so within minutes, if that `is_due`, and clients_get does. Any thread; a lock, no
 * I/O. Use is only a hint for eviction: when more blobs are used than
 * there is room for, some are forgotten. */
void storage_touch(struct storage *st, const struct digest *d, const struct in6_addr *client,
                   bool is_due);
/* Whether it was when that was due, and its record does not say so yet. Any thread. */
bool storage_is_touched(struct storage *st, const struct digest *d);

#endif
