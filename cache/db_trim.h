/* SPDX-License-Identifier: ISC */
/*
 * Keeping a process small that reads much of the index: what it has read of the map counts
 * as its memory until it is let go. It stays in the page cache, so that reading it again
 * costs little; but for the daemon, which reads all the time, that is still too much.
 */
#ifndef CACHE_DB_TRIM_H
#define CACHE_DB_TRIM_H

#include <sys/types.h>

struct db_trim;

/* Of the map of this file, wherever it is mapped. NULL when this system does not tell
 * (/proc); then nothing is let go. */
struct db_trim *db_trim_new(int fd);
/* NULL is legal. */
void db_trim_free(struct db_trim **t);

/* A record is about to be read. NULL is legal. */
void db_trim_note(struct db_trim *t);

#endif
