/* SPDX-License-Identifier: ISC */
/* What the index says in sum: what is held, and what was saved. */
#ifndef TOOLS_TOTALS_H
#define TOOLS_TOTALS_H

#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/ledger.h"

struct held {
    uint64_t blobs;
    uint64_t bytes;
    uint64_t manifests;
    uint64_t tags;
    uint64_t partials;
    uint64_t lost; /* went bad, and were not had again */
};

/* Damaged records count nothing. */
MUST_CHECK int held_count(struct db_txn *txn, struct held *held);

/* Of the ledger. Days are UTC, as its are. */
struct sums {
    struct ledger_record day; /* today */
    struct ledger_record month;
    struct ledger_record all;
};

MUST_CHECK int sums_read(struct db_txn *txn, int64_t now_s, struct sums *sums);

#endif
