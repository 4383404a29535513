/* SPDX-License-Identifier: ISC */
/*
 * What is below /-/api/ for everybody who may look: JSON objects, NUL-terminated, owned by the
 * caller, their length in `*len`. Each names no repository that the viewer may not see; how
 * much was left out is said where it could be missed. Pure but for the index and memory.
 *
 * Names, digests, platforms and words of ours need no escapes; everything else is quoted.
 */
#ifndef PROXY_REPORT_H
#define PROXY_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/db.h"
#include "cache/fetch.h"
#include "proxy/log_recent.h"
#include "proxy/span.h"
#include "proxy/stats.h"
#include "proxy/viewer.h"
#include "proxy/watch.h"

/* Sums of the ledger, rates, what is held, the disk, every counter of STATS_TABLE by the name
 * of its row. `reason`: why the daemon is not ready, or NULL. */
char *report_status(const struct viewer *v, const struct watch_view *view, const struct stats *s,
                    const char *reason, size_t *len);

/* How the upstreams fare, those that the settings name first. */
char *report_upstreams(const struct viewer *v, const struct stats *s, size_t *len);

/* The last warnings and errors, the newest first. */
char *report_events(struct viewer *v, struct db_txn *txn, struct log_recent *recent, size_t *len);

/* The fetches under way; see cachalotd(8). `now_ms` is monotonic. */
char *report_fetches(struct viewer *v, struct db_txn *txn, struct fetch_table *t, int64_t now_ms,
                     size_t *len);

#define REPORT_SEARCH_MAX 128
#define REPORT_IMAGES_MAX 200   /* in one answer */
#define REPORT_OFFSET_MAX 10000 /* and passed over before it */

enum report_order { REPORT_BY_NAME, REPORT_BY_USE };

struct report_search {
    char text[REPORT_SEARCH_MAX]; /* that references must hold, in any case; "" for all */
    enum report_order order;
    unsigned offset, count;
};

/* Read what follows the '?' of a target (p is NULL without one). False when a parameter is
 * broken or too large; others than these are ignored. */
bool report_search_read(struct report_search *q, struct span query);

/* One row a tag. Walks all tags: not for a worker. An error of the index, or 0. */
MUST_CHECK int report_images(struct viewer *v, struct db_txn *txn, const struct report_search *q,
                             char **text, size_t *len);

#endif
