/* SPDX-License-Identifier: ISC */
/*
 * Which blobs are the same content: a layer is a tar that was compressed somehow, and
 * its diff_id (image-spec 1.1 config.md) is the digest of that tar. A client that
 * compresses a layer again, as Docker on Windows does with what it loaded or pulled,
 * makes another blob of the same diff_id.
 *
 * Nothing is served by what is known here: image configs only claim it, and whoever may
 * push may claim anything. A claim yields to what inflating the blob has shown.
 */
#ifndef CACHE_DIFF_H
#define CACHE_DIFF_H

#include "cache/blob.h"
#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/image.h"

enum diff_proof {
    DIFF_CLAIMED = 1, /* an image config says so */
    DIFF_HASHED = 2,  /* the blob was inflated and hashed */
};

/* Record that the blob `d` inflates to `diff_id`. A claim never replaces a proof, nor is
 * it kept against one. */
MUST_CHECK int diff_put(struct db_txn *txn, const struct digest *diff_id, const struct digest *d,
                        enum diff_proof proof);
/* What inflating this blob has shown. ERR_NOT_FOUND when it was not inflated. */
MUST_CHECK int diff_get(struct db_txn *txn, const struct digest *d, struct digest *diff_id);

/* Record what the image config with this digest claims of the layers of each manifest
 * that is known to name it: layer i has diff_id i. A manifest whose layers are not as many
 * is passed over, and so are manifests beyond a limit. */
MUST_CHECK int diff_index_config(struct db_txn *txn, const struct digest *config,
                                 const struct image *image);

/* A blob that is held. */
struct diff_blob {
    struct digest digest;
    struct blob_record record;
    enum diff_proof proof;
};

/* Visit the held blobs that are this content, in the order of their digests; a result
 * other than 0 ends the walk and is returned. Damaged records are passed over. */
typedef int diff_visit(void *arg, const struct diff_blob *blob);
MUST_CHECK int diff_walk(struct db_txn *txn, const struct digest *diff_id, diff_visit *visit,
                         void *arg);

/* Visit each content that is held as more than one blob. The one to keep is first: that
 * with the most open origin, of these the one that has been here longest. */
typedef int duplicate_visit(void *arg, const struct digest *diff_id, const struct diff_blob *blobs,
                            unsigned count);
MUST_CHECK int diff_walk_duplicates(struct db_txn *txn, duplicate_visit *visit, void *arg);

#endif
