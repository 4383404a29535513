/* SPDX-License-Identifier: ISC */
/*
 * The partial files that blobs grow in, and what the index says of them.
 */
#ifndef CACHE_PARTIAL_H
#define CACHE_PARTIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/extent.h"
#include "cache/name.h"
#include "cache/store.h"

/* A file in partial/ that becomes a blob. One at a time for a digest. */
struct partial;

/* Open or create the partial file of a digest. `*kept_bytes` is its size, of an
 * earlier run (0 for a new one); nothing of it is verified. */
MUST_CHECK int partial_open(struct store *s, const struct digest *d, struct partial **p,
                            uint64_t *kept_bytes);
/* A descriptor for reading (and sendfile) that lives as long as the partial. */
int partial_fd(const struct partial *p);
/* Allocate room on the disk for `size_bytes` without changing what is readable.
 * ERR_NO_SPACE when there is none. */
MUST_CHECK int partial_reserve(struct partial *p, uint64_t size_bytes);
/* Write all of the buffer at the offset. ERR_NO_SPACE when that takes more room than is
 * claimed, and there is none for partial_claim_for of its end. */
MUST_CHECK int partial_write(struct partial *p, const void *data, size_t len, uint64_t offset);
/* What partial_write claims of the room, in steps, to write up to there. */
uint64_t partial_claim_for(uint64_t end);
/* Forget everything from `size_bytes` on. */
MUST_CHECK int partial_truncate(struct partial *p, uint64_t size_bytes);
/* fdatasync: for a checkpoint. */
MUST_CHECK int partial_sync(struct partial *p);
/* fsync, rename into blobs/, fsync the folder. The digest must be verified.
 * On success the partial is published and only partial_close is legal. */
MUST_CHECK int partial_publish(struct partial *p);
/* Whether the file has its name in blobs/, though perhaps not durably. */
bool partial_is_published(const struct partial *p);
/* Close and keep the file for a later run. NULL is legal. */
void partial_close(struct partial **p);
/* Close and remove the file. NULL is legal. */
void partial_discard(struct partial **p);

/* Whose the bytes of a partial are. They are not verified, and the first of them are sent
 * before they are: who does not own them must not have them. */
struct partial_owner {
    struct name name;  /* of the fetch that brought them */
    bool is_private;   /* for those alone who may read that repository */
    bool is_elsewhere; /* from the urls of its manifests, not from its registry */
};

/* Whether a fetch of `now` may go on with what `kept` left. Public bytes of a registry are
 * for everybody; private ones for their repository, and what came from elsewhere too, as
 * whoever wrote the manifest chose it. */
bool partial_owner_admits(const struct partial_owner *kept, const struct partial_owner *now);

/* What the index says of a partial: enough to go on after a restart. One of an earlier
 * version does not say whose it is, and counts as damaged. */
struct partial_record {
    struct partial_owner owner;
    uint64_t size_bytes;
    int64_t started_at_s;
    struct extents extents; /* on disk */
};

MUST_CHECK int partial_get(struct db_txn *txn, const struct digest *d, struct partial_record *r);
MUST_CHECK int partial_put(struct db_txn *txn, const struct digest *d,
                           const struct partial_record *r);
/* Whether a record names this file in partial/. */
bool partial_is_recorded(struct db_txn *txn, const char *name);
/* 0 also when there was none. */
MUST_CHECK int partial_forget(struct db_txn *txn, const struct digest *d);

/* Visit the name of each file in partial/, which may be removed by the visit. A result
 * other than 0 ends the walk and is returned. */
typedef int partial_visit(void *arg, const char *name);
MUST_CHECK int partial_walk_files(struct store *s, partial_visit *visit, void *arg);

/* Start-up: take back from blobs/ each file that a partial record names, as its daemon was
 * killed before it was recorded as a blob. Then remove from partial/ every file that no partial
 * record names, or that is older than `older_than_s`, with its record; files of upload sessions
 * are upload_sweep's, those of imports go only when they are that old. Returns the number
 * removed in `*removed`. Runs inside the write transaction. */
MUST_CHECK int partial_sweep(struct store *s, struct db_txn *txn, int64_t now_s,
                             int64_t older_than_s, unsigned *removed);

#endif
