/* SPDX-License-Identifier: ISC */
/*
 * Which manifests name a content: the relation of manifest_walk turned round.
 * manifest_put keeps it. Manifests that were recorded before this table was have no
 * entries until they are recorded again, so what is found here may not be all; and a
 * manifest that is found may be gone since (manifest_get says so).
 */
#ifndef CACHE_PARENT_H
#define CACHE_PARENT_H

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"

/* The role is that of struct descriptor. A child may have several in one parent. */
MUST_CHECK int parent_put(struct db_txn *txn, const struct digest *child,
                          const struct digest *parent, int role);

/* Whether it is there: 0 or ERR_NOT_FOUND. */
MUST_CHECK int parent_get(struct db_txn *txn, const struct digest *child,
                          const struct digest *parent, int role);

/* ERR_NOT_FOUND when there was none. */
MUST_CHECK int parent_forget(struct db_txn *txn, const struct digest *child,
                             const struct digest *parent, int role);

/* Visit the parents in the order of their digests, once for each role; a result other
 * than 0 ends the walk and is returned. The table must not be written to during it. */
typedef int parent_visit(void *arg, const struct digest *parent, int role);
MUST_CHECK int parent_walk(struct db_txn *txn, const struct digest *child, parent_visit *visit,
                           void *arg);

#endif
