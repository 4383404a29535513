/* SPDX-License-Identifier: ISC */
/*
 * Local repositories: those that clients push to (distribution-spec 1.1.1 "Pushing",
 * "Content Management"). Every name is a local one, but for what local_mount takes from.
 *
 * A blob is visible in a local repository when it was pushed or mounted there, or when it
 * came from a public upstream once, and was not deleted there since. A manifest is there
 * when it was pushed there and not deleted since. Records that are damaged are as if they
 * were not there: the client's next push writes them anew.
 *
 * What writes belongs into a storage job: nothing may be acknowledged before its commit.
 */
#ifndef CACHE_LOCAL_H
#define CACHE_LOCAL_H

#include <stdint.h>

#include "cache/blob.h"
#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/link.h"
#include "cache/manifest.h"
#include "cache/name.h"

/* ERR_NOT_FOUND when it is not visible there. As always the file is checked by who opens
 * it (blob_open). */
MUST_CHECK int local_find_blob(struct db_txn *txn, const struct name *n, const struct digest *d,
                               struct blob_record *r);
/* ERR_NOT_FOUND when it is not there. */
MUST_CHECK int local_find_manifest(struct db_txn *txn, const struct name *n, const struct digest *d,
                                   struct manifest_record *r);
/* Whether a manifest was ever pushed there: 0 or ERR_NOT_FOUND. */
MUST_CHECK int local_has_repository(struct db_txn *txn, const struct name *n);

/* Visit each descriptor that must be there before this manifest may be, and is not: its
 * config and its layers, in their order, one that is named twice twice. Foreign layers may
 * be absent, and so may the children of an index and the subject. A result other than 0
 * ends the walk and is returned. */
typedef int missing_visit(void *arg, const struct descriptor *d);
MUST_CHECK int local_walk_missing(struct db_txn *txn, const struct name *n,
                                  const struct manifest *m, missing_visit *visit, void *arg);

/* Record a pushed manifest whose blob is published: manifest_put, the repository, the tags
 * (each valid by name_is_tag), and links to those of its children that are visible, so that
 * they stay so. Whether some are missing is the caller's matter. */
MUST_CHECK int local_put_manifest(struct db_txn *txn, const struct name *n, const struct digest *d,
                                  const struct manifest *m, uint64_t size_bytes,
                                  const char *const *tags, unsigned tag_count, int64_t now_s);
/* Record a pushed blob whose file is published. */
MUST_CHECK int local_put_blob(struct db_txn *txn, const struct name *n, const struct digest *d,
                              uint64_t size_bytes, int64_t now_s);
/* Make a blob visible in `to` that is visible in the local repository `from`; when `from`
 * is NULL or an upstream's, one that is public. It counts as used now. Whether the client may pull
 * from `from` is the caller's matter. ERR_NOT_FOUND when it is not visible there. */
MUST_CHECK int local_mount(struct db_txn *txn, const struct name *to, const struct digest *d,
                           const struct name *from, int64_t now_s);
/* Visit the local repositories that have this blob by a push or a mount, none when its
 * record is gone: for a mount that names no `from`. */
MUST_CHECK int local_walk_holders(struct db_txn *txn, const struct digest *d, holder_visit *visit,
                                  void *arg);

/* From this transaction on it is not visible in this repository; others keep it. Of a
 * manifest its tags and its entries among the referrers go too. ERR_NOT_FOUND when it was
 * not visible. */
MUST_CHECK int local_delete_blob(struct db_txn *txn, const struct name *n, const struct digest *d,
                                 int64_t now_s);
MUST_CHECK int local_delete_manifest(struct db_txn *txn, const struct name *n,
                                     const struct digest *d, int64_t now_s);
/* The repository has it no longer, as it is evicted: as if it had never been pushed there. */
MUST_CHECK int local_evict(struct db_txn *txn, const struct name *n, const struct digest *d);
/* The manifest stays, under its digest and its other tags. ERR_NOT_FOUND when there is no
 * such tag. */
MUST_CHECK int local_delete_tag(struct db_txn *txn, const struct name *n, const char *tag);

#endif
