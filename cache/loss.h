/* SPDX-License-Identifier: ISC */
/*
 * Blobs that went bad and were not had again: kept until they are, so that it can be said.
 * blob_put takes the record away.
 */
#ifndef CACHE_LOSS_H
#define CACHE_LOSS_H

#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"

#define LOSS_WHY_MAX 128 /* with the NUL */

struct loss {
    struct digest digest;
    uint64_t size_bytes;
    int64_t lost_at_s;
    char why[LOSS_WHY_MAX]; /* it could not be had again; printable ASCII; empty: not tried yet */
};

/* Replaces what is there of the digest, but for when it was lost. */
MUST_CHECK int loss_put(struct db_txn *txn, const struct loss *l);
MUST_CHECK int loss_get(struct db_txn *txn, const struct digest *d, struct loss *l);
/* 0 also when there was none. */
MUST_CHECK int loss_forget(struct db_txn *txn, const struct digest *d);

/* Visit all in the order of their digests, but for damaged records; a result other than 0
 * ends the walk and is returned. The table must not be written to during it. */
typedef int loss_visit(void *arg, const struct loss *l);
MUST_CHECK int loss_walk(struct db_txn *txn, loss_visit *visit, void *arg);

#endif
