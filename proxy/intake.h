/* SPDX-License-Identifier: ISC */
/*
 * What takes the bytes of blobs. The write thread writes them to the partial file,
 * where they belong, and moves the watermark of the fetch; the hash thread, one step
 * behind, hashes them in order. They are two so that one blob may have more than one
 * processor: hashing alone takes longer than all the rest.
 *
 * One `struct intake` a fetch. The upstream thread calls; the two threads work;
 * answers come back as messages to the upstream thread's queue, through the
 * callbacks given to intake_new, which therefore run in the upstream thread.
 */
#ifndef PROXY_INTAKE_H
#define PROXY_INTAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/extent.h"
#include "cache/fetch.h"
#include "cache/name.h"
#include "cache/store.h"
#include "proxy/log.h"
#include "proxy/queue.h"
#include "proxy/stats.h"
#include "proxy/storage.h"

#define INTAKE_BLOCK_BYTES (512u * 1024)
/* Connections that may bring the bytes of one fetch, each in its lane. */
#define INTAKE_LANES_MAX 16
/* Blobs up to this size come in order, so that the size of the file says how much of
 * one an earlier run left; of larger ones only what the index says is believed. */
#define INTAKE_IN_ORDER_MAX (UINT64_C(64) * 1024 * 1024)
/* Staged and not yet written and hashed: above it a transfer pauses. Of one fetch, and
 * of all together (then only those pause that have more than one block). With less of
 * one fetch its three threads wait for each other more often than they work at once. */
#define INTAKE_STAGED_MAX (8u * 1024 * 1024)
#define INTAKE_STAGED_ALL_MAX (16u * 1024 * 1024)

struct hasher;
struct twice;
struct intake;

/* The two threads. `answers` is the upstream thread's queue; `twice` may be NULL. */
struct hasher *hasher_start(struct store *s, struct storage *st, struct fetch_table *fetches,
                            struct queue *answers, struct twice *twice, struct stats *stats,
                            struct log *log);
/* Every intake must have ended. */
void hasher_stop(struct hasher **h);

struct intake_calls {
    /* The partial is open, and an earlier run left these bytes in it, not verified.
     * `is_elsewhere`: they are of use after intake_go_elsewhere alone; intake_reset
     * before anything of the registry's. Or err != 0: it could not be opened, and the
     * fetch has failed with it; what remains is intake_abandon. */
    void (*opened)(void *arg, int err, const struct extents *kept, bool is_elsewhere);
    /* `bytes` of what was appended are written and hashed: staging has room again. */
    void (*drained)(void *arg, uint64_t bytes);
    /* A write failed; the fetch has failed with it. End the transfer; what remains
     * is intake_abandon. Not called after intake_end. */
    void (*broken)(void *arg, int err);
    /* The end of what intake_end or intake_abandon began; the intake is freed.
     * err is 0 when the blob is verified, ERR_MISMATCH when it is another, else ERR_IO. */
    void (*ended)(void *arg, int err);
    /* The answer to intake_size: from now on bytes may come by several lanes; not so when
     * `is_passing`: there is no room, and what comes goes to the readers alone. NULL is legal. */
    void (*sized)(void *arg, bool is_passing);
};

/* Begin: open the partial of the fetch's digest, keep what is there if a record
 * agrees and it is for those whom the fetch admits (partial_owner_admits).
 * `is_elsewhere`: the bytes will come from urls of manifests. The intake takes a
 * reference of the fetch. */
struct intake *intake_new(struct hasher *h, struct fetch *f, const struct name *n,
                          bool is_elsewhere, const struct intake_calls *calls, void *arg);

/* From here on the bytes come from urls of manifests. Call intake_reset first if any of
 * the registry's are there, unless the size was said: then what came of both is of no
 * use to a later fetch. */
void intake_go_elsewhere(struct intake *i);

/* Forget what was kept or written, and begin again from nothing. Before
 * intake_size: what readers were promised cannot be taken back. */
void intake_reset(struct intake *i);

/* The size is known: room is allocated, then the fetch is streaming. Once, and
 * before intake_end; nothing that was kept or written may lie beyond it. */
void intake_size(struct intake *i, uint64_t size_bytes);

/* Bytes at their offset, where none are yet; copied into the block that this lane
 * fills. A block that is full, or that they do not continue, goes to the write
 * thread, and so does any when nothing of this fetch is under way there, so that a
 * slow line is not held back. */
void intake_write(struct intake *i, unsigned lane, uint64_t offset, const void *data, size_t len);
/* Whether so much is staged that a transfer should pause; those that are not at the
 * front of the blob, which readers wait for, earlier than the one that is. */
bool intake_is_full(const struct intake *i, bool is_front);
/* Whether a transfer that paused should go on: half of it is written. Each pause
 * costs a copy of what curl holds, so there should be few. */
bool intake_has_room(const struct intake *i);

/* All bytes were written: compare the digest; then the fetch is verified, and
 * published by the storage thread, or failed. The fetch is retired when its record
 * is committed. */
void intake_end(struct intake *i);

/* Give up: the fetch fails for this reason (if it has not failed yet) and is
 * retired; what was written is kept for a later fetch, or removed when `discard`. */
void intake_abandon(struct intake *i, const struct fetch_failure *why, bool discard);

#endif
