/* SPDX-License-Identifier: ISC */
/* What the parts of eviction share: evict_guard.c what must not go, evict_judge.c what is to
 * be said of one content, evict_plan.c the order, evict.c the end of a unit. */
#ifndef CACHE_EVICT_PRIVATE_H
#define CACHE_EVICT_PRIVATE_H

#include "cache/digest_map.h"
#include "cache/evict.h"
#include "cache/manifest.h"

struct evict_guard {
    struct db_txn *txn; /* while it is made */
    struct digest_map *pinned, *busy;
};

/* 1 when the manifest, or an index that leads to it, is pinned or in use; 0, or an error. */
MUST_CHECK int evict_guard_pins(const struct evict_guard *g, struct db_txn *txn,
                                const struct digest *d);
MUST_CHECK int evict_guard_is_busy(const struct evict_guard *g, struct db_txn *txn,
                                   const struct digest *d);

/* As evict_judge, of a blob whose record is known. */
MUST_CHECK int evict_judge_record(struct db_txn *txn, const struct evict_rules *rules,
                                  const struct evict_guard *g, const struct digest *d,
                                  const struct blob_record *r, struct evict_unit *u);
/* Of an EVICT_PART, what it is to be once all that may go of those that name it have gone. */
MUST_CHECK int evict_judge_part(struct db_txn *txn, const struct evict_rules *rules,
                                const struct evict_guard *g, const struct blob_record *r,
                                struct evict_unit *u);
/* 1 when a blob that waits for its manifest, as every blob does that was pushed or used lately,
 * had it in `parent`: it was last used with that, and who has the one has the other. 0, or an
 * error. */
MUST_CHECK int evict_goes_along(struct db_txn *txn, const struct evict_unit *part,
                                const struct evict_unit *parent);
/* 1 when a manifest that is held names it, other than `but` (NULL: any); 0, or an error. */
MUST_CHECK int evict_is_named(struct db_txn *txn, const struct digest *d, const struct digest *but);
/* Whether units of this kind may go by these rules. */
bool evict_rules_take(const struct evict_rules *rules, enum evict_why why);

#endif
