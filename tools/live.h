/* SPDX-License-Identifier: ISC */
/* What goes on in a running daemon, by its metrics. */
#ifndef TOOLS_LIVE_H
#define TOOLS_LIVE_H

#include <jansson.h>
#include <stdint.h>

#include "cache/ledger.h"
#include "tools/command.h"
#include "tools/downloads.h"
#include "tools/output.h"
#include "tools/prefetches.h"
#include "tools/upstreams.h"

struct live {
    int err;       /* of asking it; ERR_NOT_FOUND when it does not run */
    char why[300]; /* what that means */
    uint64_t connections;
    uint64_t fetches;
    uint64_t readers;
    uint64_t cache_bytes, limit_bytes; /* that the cache takes, and may; 0: no limit */
    uint64_t min_free_bytes, free_bytes;
    uint64_t stale;           /* answers since it was started */
    struct ledger_record run; /* the sums since then */
    struct upstreams upstreams;
    struct downloads downloads;
    json_t *prefetches; /* prefetches_ask; NULL when it does not run */
};

void live_ask(struct live *live, const struct options *o);
void live_clear(struct live *live);

json_t *live_json(const struct live *live);

/* The sums of a time; hit_ratio is null when nothing was asked. */
json_t *record_json(const struct ledger_record *r);
/* A table with a row for each sum, and a heading. */
struct table *sums_table_new(void);
void sums_table_add(struct table *t, const char *what, const struct ledger_record *r);
/* "91.2%", or "-" when nothing was asked; returns `out`. */
char *ratio_text(char out[32], const struct ledger_record *r);

#endif
