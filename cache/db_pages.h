/* SPDX-License-Identifier: ISC */
/*
 * The pages of an LMDB file, as LMDB 0.9 lays them out (its data version 1): whether all of
 * them are as its functions trust them to be. lmdb.h does not tell what a file looks like,
 * but that has not changed since 2012, and is what it reads whatever its version.
 */
#ifndef CACHE_DB_PAGES_H
#define CACHE_DB_PAGES_H

#include <stddef.h>

#include "cache/check.h"

/* Look at a whole file in memory: every page that the last commit reaches is there once, in
 * bounds and in order, is what it says it is, and is not free. 0, ERR_DAMAGED, or ERR_VERSION when
 * it is of another data version. Nothing outside of `file` is read. */
MUST_CHECK int db_pages_check(const void *file, size_t size);

#endif
