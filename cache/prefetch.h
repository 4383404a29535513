/* SPDX-License-Identifier: ISC */
/*
 * What is remembered of prefetches (sections of the settings that say which images are
 * fetched, and when): of each its last run, and of each of its references the builds that it
 * has led to. These are pinned, in the name of the section.
 */
#ifndef CACHE_PREFETCH_H
#define CACHE_PREFETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/pin.h"
#include "cache/reference.h"

#define PREFETCH_KEEP_MAX 31
#define PREFETCH_PLAN_MAX 128 /* with the NUL, as all these */
#define PREFETCH_WHY_MAX 384
/* Of a section's name: with "prefetch " before it, it is the owner of a pin. */
#define PREFETCH_NAME_MAX (PIN_OWNER_MAX - 9)

struct prefetch_record {
    char plan[PREFETCH_PLAN_MAX]; /* what it was planned by: another one begins anew */
    int64_t planned_at_s;         /* since when it is */
    int64_t began_at_s;           /* the last run; 0: there was none */
    int64_t ended_at_s;           /* 0: it was cut short */
    int64_t unchanged_since_s;    /* when that reference changed which has not for longest */
    uint32_t references;          /* that were looked at */
    uint32_t changed;
    uint32_t failed;
    uint64_t fetched_bytes;
    char why[PREFETCH_WHY_MAX]; /* the first failure */
};

/* ERR_NOT_FOUND when there is none. */
MUST_CHECK int prefetch_get(struct db_txn *txn, const char *section, struct prefetch_record *r);
MUST_CHECK int prefetch_put(struct db_txn *txn, const char *section,
                            const struct prefetch_record *r);

/* The builds of a reference, the newest first. */
struct prefetch_builds {
    int64_t changed_at_s; /* when the newest was found */
    unsigned count;
    struct digest builds[1 + PREFETCH_KEEP_MAX];
};

/* ERR_NOT_FOUND when there are none. */
MUST_CHECK int prefetch_builds_get(struct db_txn *txn, const char *section,
                                   const struct reference *r, struct prefetch_builds *b);

/* The reference leads to this build, which is whole. It and the `keep` builds before it are
 * pinned from now on; older ones are not, unless somebody else wants them. */
MUST_CHECK int prefetch_keep(struct db_txn *txn, const char *section, const struct reference *r,
                             const struct digest *d, unsigned keep, int64_t now_s);

/* Whether a reference, or a section, is still one of the settings'. */
typedef bool prefetch_wants(void *arg, const char *section, const struct reference *r);

/* Forget, and unpin, what is not wanted any more: sections (asked for with a reference of
 * NULL), and references of this section, or of none when it is NULL. */
MUST_CHECK int prefetch_prune(struct db_txn *txn, const char *section, prefetch_wants *wants,
                              void *arg);

#endif
