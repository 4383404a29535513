/* SPDX-License-Identifier: ISC */
/* What the parts of the evictor share: evictor.c decides, evictor_batch.c has the storage
 * thread do it, evictor_orphans.c finds what was left over, evictor_start.c is its life. */
#ifndef PROXY_EVICTOR_PRIVATE_H
#define PROXY_EVICTOR_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cache/evict_plan.h"
#include "proxy/config.h"
#include "proxy/evictor.h"

/* Units that one transaction forgets. Each costs a few dozen records. */
#define BATCH_UNITS 16

struct batch {
    struct storage_job job;
    struct evictor *evictor;
    struct evict_rules rules;
    struct digest units[BATCH_UNITS];
    unsigned count;
    bool are_orphans; /* files, not units */
    uint64_t want_bytes;
    struct digest *busy;
    size_t busy_count;
    struct evicted leaving; /* forgotten by the batch before; their files go now */
    struct evicted waiting; /* of these, not removed: they are being published again */
    struct evicted gone;    /* forgotten by this one */
    int *fds;               /* of `leaving`, opened before they were removed */
    unsigned forgotten;     /* units */
    int err;
    struct msg over;
    bool is_over;
};

struct evictor {
    struct store *store;
    struct storage *storage;
    struct fetch_table *fetches;
    struct stats *stats;
    struct log *log;
    pthread_t thread;
    struct queue *queue;
    struct msg stop;

    pthread_mutex_t lock; /* guards the next five */
    struct worker *workers[WORKERS_MAX];
    unsigned worker_count;
    int64_t grace_s;
    bool takes_local;
    unsigned purges; /* under way */

    /* Of the thread. */
    int64_t started_at_s;
    bool stopping;
    struct db_reader *reader;
    STAILQ_HEAD(, want) wants;
    bool goes_low;
    int64_t collect_due_ms, barren_until_ms;
    uint64_t barren_bytes; /* until then: who lacks so much is refused at once */
    bool collects_at_once; /* the next round for garbage gives no grace */
    struct evict_plan *plan;
    uint64_t planned_bytes; /* that may go by it; at least, when it did not have to look at all */
    struct batch batch;
    uint64_t evicted_units;
};

void *evictor_run(void *arg);
/* For storage_set_evictor. */
void evictor_want(void *arg, struct want *w);
void evictor_collect(void *arg, bool at_once);

/* Make room if it is wanted, or collect garbage if that is due. */
void evictor_do_due(struct evictor *e);
struct evict_rules evictor_rules(struct evictor *e, bool garbage_only);
/* Contents that are being fetched; owned by the caller. */
struct digest *evictor_busy(struct evictor *e, size_t *count);
/* The gauges. */
void evictor_show(struct evictor *e);

/* Run the batch, wait for its end: what it has forgotten is in batch.leaving then. */
MUST_CHECK int evictor_run_batch(struct evictor *e);
/* Remove files that were there before, and that no record names. */
void evictor_remove_orphans(struct evictor *e, int64_t before_s);
/* Remove what an earlier run has forgotten and not removed. */
void evictor_finish_leaving(struct evictor *e);

#endif
