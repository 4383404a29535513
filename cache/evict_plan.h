/* SPDX-License-Identifier: ISC */
/*
 * The order in which units go (evict.h), found by a look at every record, a part at a time;
 * and how much may go at all, so that nothing goes for what could not have room even then.
 */
#ifndef CACHE_EVICT_PLAN_H
#define CACHE_EVICT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/evict.h"

/* Units that a plan holds: those that go first. Then it is made anew. */
#define EVICT_PLAN_MAX 4096

struct evict_plan;

struct evict_plan *evict_plan_new(void);
void evict_plan_free(struct evict_plan **p);
/* Begin anew. What may go is summed up to `enough_bytes`: that takes a look at every
 * manifest which names a blob. */
void evict_plan_clear(struct evict_plan *p, uint64_t enough_bytes);
/* Look at the next `count` blobs: 1 when there are more, 0 at the end, or an error. Each
 * call may have a transaction of its own. */
MUST_CHECK int evict_plan_look(struct evict_plan *p, struct db_txn *txn,
                               const struct evict_rules *rules, const struct evict_guard *g,
                               unsigned count);
/* At the end: what may go at all takes so much on the disk; at least, when it is enough. */
uint64_t evict_plan_bytes(const struct evict_plan *p);
/* At the end: when the first of what waits for its manifest has waited long enough; 0: nothing
 * waits. */
int64_t evict_plan_due(const struct evict_plan *p);
/* At the end: the next to go. False when there is none. */
bool evict_plan_next(struct evict_plan *p, struct evict_unit *u);

#endif
