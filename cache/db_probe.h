/* SPDX-License-Identifier: ISC */
/*
 * Whether an index can be walked. LMDB trusts its pages: a flipped byte in one may be a
 * SIGSEGV for whoever reads it. So a child process walks it first, and dies instead.
 */
#ifndef CACHE_DB_PROBE_H
#define CACHE_DB_PROBE_H

#include "cache/check.h"

/* Walk every page of the index in the directory `path`, in a child process. The caller has
 * not opened it, and has no threads. 0 when all is well, ERR_NOT_FOUND when there is no
 * index, ERR_DAMAGED, or another error when it cannot be told, as when the child is killed.
 * What somebody else writes meanwhile may look like damage. Whether it is of a version that
 * is known is db_open's matter. */
MUST_CHECK int db_probe(const char *path);

#endif
