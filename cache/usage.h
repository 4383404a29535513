/* SPDX-License-Identifier: ISC */
/*
 * What the blobs take on the disk, kept in the index itself: whoever adds or forgets a blob
 * counts it in the same transaction, so that it is right after every commit, whichever
 * process made it and whatever befell it, and reading it costs one look.
 *
 * A blob whose record is gone and whose file may still be there is leaving: it counts until
 * the file is gone, too.
 */
#ifndef CACHE_USAGE_H
#define CACHE_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"

struct usage {
    uint64_t blobs;
    uint64_t bytes;         /* on the disk, with those that are leaving */
    uint64_t leaving_bytes; /* of these */
};

/* What a file of this size takes on the disk. */
uint64_t usage_of(uint64_t size_bytes);

/* An index of an earlier release does not say: then all blobs are looked at. */
MUST_CHECK int usage_get(struct db_txn *txn, struct usage *u);
/* Look at all blobs, and make it say so. */
MUST_CHECK int usage_recount(struct db_txn *txn);

/* A blob's record was added or removed, or its size has changed. Called by blob_put and
 * blob_forget, before they write. */
MUST_CHECK int usage_add_blob(struct db_txn *txn, uint64_t size_bytes);
MUST_CHECK int usage_remove_blob(struct db_txn *txn, uint64_t size_bytes);

/* Its record is removed in this transaction, its file will be after the commit. */
MUST_CHECK int usage_leave(struct db_txn *txn, const struct digest *d, uint64_t size_bytes);
/* Its file is gone, or it is a blob again. 0 also when it was not leaving. */
MUST_CHECK int usage_left(struct db_txn *txn, const struct digest *d);
MUST_CHECK int usage_is_leaving(struct db_txn *txn, const struct digest *d, bool *is_leaving);
/* Visit those that are leaving; a result other than 0 ends the walk and is returned. The
 * table must not be written to during it. */
typedef int usage_visit(void *arg, const struct digest *d, uint64_t size_bytes);
MUST_CHECK int usage_walk_leaving(struct db_txn *txn, usage_visit *visit, void *arg);

#endif
