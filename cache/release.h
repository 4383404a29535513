/* SPDX-License-Identifier: ISC */
/* Letting go of images whose tags somebody has removed. */
#ifndef CACHE_RELEASE_H
#define CACHE_RELEASE_H

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"

/* A tag that led to this manifest was removed, or all were: if no other tag leads to it, and
 * no index does, it is let go of (blob_release), and so is what an index alone led to. What
 * local repositories have stays under its digest until it is deleted there. */
MUST_CHECK int release_manifest(struct db_txn *txn, const struct digest *d);

#endif
