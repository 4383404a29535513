/* SPDX-License-Identifier: ISC */
/*
 * Blobs: verified, immutable bytes that appear whole or not at all, and the
 * partial files that they grow in.
 *
 * Publish order: fsync of the data, rename into blobs/, fsync of the folder,
 * then the index record in a committed transaction. A record never precedes its
 * file, and is never trusted alone: blob_open checks the file.
 */
#ifndef CACHE_BLOB_H
#define CACHE_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/partial.h"
#include "cache/store.h"

/* Where the bytes came from: decides who may see them. The more open one is the
 * smaller, and stays: bytes that were public once are no secret. */
enum blob_origin {
    BLOB_PUBLIC = 1,  /* an upstream, asked anonymously or with public content */
    BLOB_PRIVATE = 2, /* an upstream, with credentials */
    BLOB_PUSHED = 3,  /* a client's push */
};

/* How old a last use may get before it is written again. */
#define BLOB_TOUCH_S 600

struct blob_record {
    uint64_t size_bytes;
    enum blob_origin origin;
    int64_t stored_at_s; /* Unix time */
    int64_t used_at_s;   /* coarse: rewritten only when BLOB_TOUCH_S old; 0: see blob_is_released */
};

MUST_CHECK int blob_get(struct db_txn *txn, const struct digest *d, struct blob_record *r);
/* The origin becomes the more open one of the record's and of that which is there. */
MUST_CHECK int blob_put(struct db_txn *txn, const struct digest *d, const struct blob_record *r);
/* Forget the record, and who used it (the file is the caller's matter). ERR_NOT_FOUND if
 * none. */
MUST_CHECK int blob_forget(struct db_txn *txn, const struct digest *d);
/* Set used_at_s if it is more than BLOB_TOUCH_S older than `now_s`; 0 when the blob
 * is unknown. */
MUST_CHECK int blob_touch(struct db_txn *txn, const struct digest *d, int64_t now_s);
/* Nobody wants it any more, until it is used again; 0 when it is unknown. */
MUST_CHECK int blob_release(struct db_txn *txn, const struct digest *d);
bool blob_is_released(const struct blob_record *r);

/* Visit the blobs in the order of their digests, those after `after` (NULL: all), but for
 * damaged records; a result other than 0 ends the walk and is returned. The table must not
 * be written to during it. */
typedef int blob_visit(void *arg, const struct digest *d, const struct blob_record *r);
MUST_CHECK int blob_walk(struct db_txn *txn, const struct digest *after, blob_visit *visit,
                         void *arg);

/* Open the file of a recorded blob for reading. ERR_MISMATCH when the file is
 * missing or not of `size_bytes`: the caller drops the record and fetches again. */
MUST_CHECK int blob_open(struct store *s, const struct digest *d, uint64_t size_bytes, int *fd);

/* Whether blob_open would succeed: 0 or its error. */
MUST_CHECK int blob_check(struct store *s, const struct digest *d, uint64_t size_bytes);

/*
 * A mark on the file: its content came from a public upstream. It is the sticky bit of the
 * file's mode, which does nothing else to files, is kept by what copies modes, and is lost
 * rather than made by what does not. An index that is rebuilt takes nothing for public that
 * does not have it.
 */
/* As far as it goes: without it, the blob is private once the index is lost. */
void blob_mark_public(struct store *s, const struct digest *d);
bool blob_is_marked_public(struct store *s, const struct digest *d);

/* Read a small blob whole, of a size that the caller has limited, and verify it: its bytes,
 * owned by the caller. ERR_MISMATCH as blob_open, and when they are not of the digest. */
MUST_CHECK int blob_read(struct store *s, const struct digest *d, uint64_t size_bytes, char **data);

/* Remove the file if it is there. */
MUST_CHECK int blob_unlink(struct store *s, const struct digest *d);

/* Write a small blob whole and publish it (durable, not yet in the index): for
 * manifests. The digest must be right already. */
MUST_CHECK int blob_write(struct store *s, const struct digest *d, const void *data, size_t len);
/* The same, unless it is there: for whoever records what was written some time ago, and may
 * have been removed meanwhile by another who failed to record it. */
MUST_CHECK int blob_restore(struct store *s, const struct digest *d, const void *data, size_t len);

#endif
