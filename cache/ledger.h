/* SPDX-License-Identifier: ISC */
/* What crossed the line and what the clients got, by day and registry. */
#ifndef CACHE_LEDGER_H
#define CACHE_LEDGER_H

#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"

#define LEDGER_DAY_S 86400

struct ledger_record {
    uint64_t line_bytes;    /* content received from the upstream */
    uint64_t lan_bytes;     /* content sent to clients */
    uint64_t line_requests; /* asked of the upstream */
    uint64_t lan_requests;  /* answered to clients */
    uint64_t hits;          /* of lan_requests: with nothing from the line */
};

void ledger_sum(struct ledger_record *sum, const struct ledger_record *r);
/* What clients got and the line did not carry. */
uint64_t ledger_saved_bytes(const struct ledger_record *r);

/* Add to the record of a day (days since 1970-01-01 UTC) and registry, a canonical
 * name. A damaged record starts anew. */
MUST_CHECK int ledger_add(struct db_txn *txn, uint32_t day, const char *registry,
                          const struct ledger_record *add);

/* Visit every record in order of days, but for damaged ones. */
typedef int ledger_visit(void *arg, uint32_t day, const char *registry,
                         const struct ledger_record *r);
MUST_CHECK int ledger_walk(struct db_txn *txn, ledger_visit *visit, void *arg);

#endif
