/* SPDX-License-Identifier: ISC */
/* Whether a repository of an upstream is open to everybody: what its registry said
 * to an anonymous request, and when. */
#ifndef CACHE_REPOSITORY_H
#define CACHE_REPOSITORY_H

#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/name.h"

enum repository_visibility {
    REPOSITORY_PUBLIC = 1,  /* it answered without credentials of a client */
    REPOSITORY_PRIVATE = 2, /* only a client's credentials opened it */
};

struct repository_record {
    enum repository_visibility visibility;
    int64_t checked_at_s;
};

/* ERR_NOT_FOUND when nothing is known. */
MUST_CHECK int repository_get(struct db_txn *txn, const struct name *n,
                              struct repository_record *r);
MUST_CHECK int repository_put(struct db_txn *txn, const struct name *n,
                              const struct repository_record *r);

#endif
