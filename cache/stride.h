/* SPDX-License-Identifier: ISC */
/*
 * Walks of a whole table for whoever takes long: a stride is one read, and between two of
 * them none is open, so that a large table pins no pages. What is written meanwhile may be
 * seen or not.
 */
#ifndef CACHE_STRIDE_H
#define CACHE_STRIDE_H

#include "cache/check.h"
#include "cache/db.h"

/* Called for each record within a read; a result other than 0 ends the walk. */
typedef int stride_visit(void *arg, struct db_txn *txn, struct db_value key, struct db_value value);
/* Called after each stride, when no read is open. */
typedef int stride_rest(void *arg);

/* Visit every record of the table, from the first key that is >= `from` (NULL: all).
 * Returns what a call returned that was not 0, or an error. `rest` may be NULL. */
MUST_CHECK int db_stride(struct db_reader *r, enum db_table table, const void *from,
                         size_t from_len, stride_visit *visit, stride_rest *rest, void *arg);

#endif
