/* SPDX-License-Identifier: ISC */
/*
 * The hash thread: takes the bytes of blobs in order, hashes them, writes them to
 * the partial file, moves the watermark of the fetch.
 *
 * One `struct intake` a fetch. The upstream thread calls; the hash thread works;
 * answers come back as messages to the upstream thread's queue, through the
 * callbacks given to intake_new, which therefore run in the upstream thread.
 */
#ifndef PROXY_INTAKE_H
#define PROXY_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/fetch.h"
#include "cache/name.h"
#include "cache/store.h"
#include "proxy/log.h"
#include "proxy/queue.h"
#include "proxy/stats.h"
#include "proxy/storage.h"

#define INTAKE_PIECE_BYTES (512u * 1024)
/* Staged and not yet written: above it a transfer pauses. Of one fetch, and of all
 * together (then only those pause that have more than one piece). More of one fetch
 * would not stay in the processor's cache between the two threads. */
#define INTAKE_STAGED_MAX (2u * 1024 * 1024)
#define INTAKE_STAGED_ALL_MAX (16u * 1024 * 1024)

struct hasher;
struct intake;

/* The thread. `answers` is the upstream thread's queue. */
struct hasher *hasher_start(struct store *s, struct storage *st, struct fetch_table *fetches,
                            struct queue *answers, struct stats *stats, struct log *log);
/* Every intake must have ended. */
void hasher_stop(struct hasher **h);

struct intake_calls {
    /* The partial is open; the first `kept_bytes` of the blob are hashed and in the
     * file. Or err != 0: it could not be opened, and the fetch has failed with it;
     * what remains is intake_abandon. */
    void (*opened)(void *arg, int err, uint64_t kept_bytes);
    /* `bytes` of what was appended are written: staging has room again. */
    void (*drained)(void *arg, uint64_t bytes);
    /* A write failed; the fetch has failed with it. End the transfer; what remains
     * is intake_abandon. Not called after intake_end. */
    void (*broken)(void *arg, int err);
    /* The end of what intake_end or intake_abandon began; the intake is freed.
     * err is 0 when the blob is verified, ERR_MISMATCH when it was not. */
    void (*ended)(void *arg, int err);
};

/* Begin: open the partial of the fetch's digest, keep what is there if a record
 * agrees, hash it. The intake takes a reference of the fetch. */
struct intake *intake_new(struct hasher *h, struct fetch *f, const struct name *n,
                          const struct intake_calls *calls, void *arg);

/* Forget what was kept or appended, and begin again from nothing. Before
 * intake_size: what readers were promised cannot be taken back. */
void intake_reset(struct intake *i);

/* The size is known: room is allocated, then the fetch is streaming. Once, and
 * before intake_end; not smaller than what was kept and appended. */
void intake_size(struct intake *i, uint64_t size_bytes);

/* Bytes in order; copied into the piece being filled. A full piece goes to the
 * hash thread, and so does a smaller one when the hash thread has nothing of this
 * fetch to do, so that a slow line is not held back. */
void intake_append(struct intake *i, const void *data, size_t len);
/* Whether so much is staged that the transfer should pause. */
bool intake_is_full(const struct intake *i);
/* Whether a transfer that paused should go on: half of it is written. Each pause
 * costs a copy of what curl holds, so there should be few. */
bool intake_has_room(const struct intake *i);

/* All bytes were appended: compare the digest; then the fetch is verified, and
 * published by the storage thread, or failed. The fetch is retired when its record
 * is committed. */
void intake_end(struct intake *i);

/* Give up: the fetch fails for this reason (if it has not failed yet) and is
 * retired; what was written is kept for a later fetch, or removed when `discard`. */
void intake_abandon(struct intake *i, const struct fetch_failure *why, bool discard);

#endif
