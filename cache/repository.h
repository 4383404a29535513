/* SPDX-License-Identifier: ISC */
/* Whether a repository of an upstream is open to everybody: what its registry said
 * to an anonymous request, and when. Local repositories: which there are. */
#ifndef CACHE_REPOSITORY_H
#define CACHE_REPOSITORY_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/name.h"

enum repository_visibility {
    REPOSITORY_PUBLIC = 1,  /* it answered without credentials of a client */
    REPOSITORY_PRIVATE = 2, /* only a client's credentials opened it */
    REPOSITORY_LOCAL = 3,   /* a local one: the rules of access decide */
};

struct repository_record {
    enum repository_visibility visibility;
    int64_t checked_at_s; /* of a local one: the last push of a manifest */
};

/* ERR_NOT_FOUND when nothing is known. */
MUST_CHECK int repository_get(struct db_txn *txn, const struct name *n,
                              struct repository_record *r);
MUST_CHECK int repository_put(struct db_txn *txn, const struct name *n,
                              const struct repository_record *r);

/* Visit the local repositories in byte order, but for damaged records: those after
 * `after`, which may be any text; NULL or "" for all. A result other than 0 ends the walk
 * and is returned. */
typedef int repository_visit(void *arg, const struct name *n);
MUST_CHECK int repository_walk_local(struct db_txn *txn, const char *after, repository_visit *visit,
                                     void *arg);

#endif
