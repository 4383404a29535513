/* SPDX-License-Identifier: ISC */
/*
 * Between the counters of a running daemon and the ledger in the index: what is to be added to
 * it every minute, and what both say in sum. A daemon that is killed has not written the last
 * minute's.
 *
 *   idle  -- tally_begin -->  flushing  -- tally_done -->  idle
 */
#ifndef PROXY_TALLY_H
#define PROXY_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/ledger.h"
#include "proxy/stats.h"

#define TALLY_PERIOD_MS (60 * 1000)
#define TALLY_DAYS 31

struct tally;

struct tally *tally_new(struct stats *s);
/* NULL is legal; leaves NULL. */
void tally_free(struct tally **t);

/* --- the storage thread --- */

/* Begin a flush, unless nothing was counted since the last: then false. */
bool tally_begin(struct tally *t);
/* Add it to the ledger; may be called again, as in another transaction. */
MUST_CHECK int tally_apply(struct tally *t, struct db_txn *txn, int64_t now_s);
/* The transaction was committed, or not. */
void tally_done(struct tally *t, int err);

/* --- any thread --- */

/* Days are UTC, as the ledger's are. */
struct tally_sums {
    struct ledger_record run; /* since the daemon was started */
    struct ledger_record today, month, all;
    uint32_t day;                          /* today, in days since 1970 */
    struct ledger_record days[TALLY_DAYS]; /* days[0] is today, days[1] was yesterday */
};

/* The ledger with what is not in it yet: exact, whenever it is asked. One thread at a time;
 * the index is read only when the ledger has changed, or the day. */
MUST_CHECK int tally_read(struct tally *t, struct db_reader *reader, int64_t now_s,
                          struct tally_sums *sums);

#endif
