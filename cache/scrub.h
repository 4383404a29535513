/* SPDX-License-Identifier: ISC */
/*
 * Scrubbing: all blobs are read again, one after the other in the order of their digests,
 * and where that is is kept in the index, so that a restart goes on there. This is what it
 * needs of the index; the reading is verify.h's, the pace its caller's.
 */
#ifndef CACHE_SCRUB_H
#define CACHE_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/loss.h"
#include "cache/name.h"
#include "cache/store.h"
#include "cache/verify.h"

/* Where a round is. All zero before the first. */
struct scrub_state {
    struct digest cursor;              /* the last blob that was read; alg 0: none yet */
    bool is_running;                   /* a round is under way */
    int64_t began_at_s;                /* it, or the last one, or the cache; 0: never */
    int64_t ended_at_s;                /* the last whole round; 0: none */
    uint64_t round_blobs, round_bytes; /* of the round under way */
    bool has_marked;                   /* blob_mark_public was seen to for all that is public */
};

/* Zeros and 0 when there is none yet, or when it cannot be understood. */
MUST_CHECK int scrub_get(struct db_txn *txn, struct scrub_state *s);
MUST_CHECK int scrub_put(struct db_txn *txn, const struct scrub_state *s);

/* Whether a round is to begin: one a period, and at once when nobody knows of one. A clock
 * that went back makes none due. */
bool scrub_is_due(const struct scrub_state *s, int64_t period_s, int64_t now_s);

/* How many bytes a second a round needs so that it ends within its period, with some time to
 * spare; between the two that are given. */
uint64_t scrub_rate(uint64_t bytes, int64_t period_s, uint64_t min_bytes_per_s,
                    uint64_t max_bytes_per_s);

/* Where a content can be had again: upstreams' repositories, each once. */
#define SCRUB_SOURCES_MAX 16
struct scrub_sources {
    struct name list[SCRUB_SOURCES_MAX];
    unsigned count;
    bool is_manifest; /* and has to be asked for as one */
};
/* Those whose manifests name it; of a manifest also those whose tags lead to it; if
 * there are none, those that were seen to have it. */
MUST_CHECK int scrub_find_sources(struct db_txn *txn, const struct digest *d,
                                  struct scrub_sources *s);

/* The blob whose file this is went bad: its record goes, and the loss is noted; `*is_done`.
 * Not of another file, which a client has had fetched meanwhile, nor of what is no more. */
MUST_CHECK int scrub_drop(struct store *s, struct db_txn *txn, const struct loss *l,
                          const struct file_id *file, bool *is_done);

#endif
