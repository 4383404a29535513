/* SPDX-License-Identifier: ISC */
/*
 * The evictor: keeps the cache within its size (cache/room.h) by what cache/evict.h says.
 *
 * One thread. It finds the order, reading the index a part at a time; what goes is forgotten
 * and removed by jobs of the storage thread, few units each, so that other jobs come between
 * them; and it closes the files, which is when their bytes go, after the workers have let go
 * of theirs. Begun before the room is used up, or when somebody wants room, and now and then
 * for garbage. It is asked by way of storage.h.
 */
#ifndef PROXY_EVICTOR_H
#define PROXY_EVICTOR_H

#include "cache/fetch.h"
#include "cache/store.h"
#include "proxy/config.h"
#include "proxy/log.h"
#include "proxy/stats.h"
#include "proxy/storage.h"

struct evictor;
struct worker;

/* All outlive it but the config, of which it keeps what it needs. From now on storage asks it
 * for room. Main thread. */
struct evictor *evictor_start(struct store *s, struct storage *storage, struct fetch_table *fetches,
                              struct config *c, struct stats *stats, struct log *log);
void evictor_set_config(struct evictor *e, const struct config *c);
/* The workers, whose open files are let go of; none before they are stopped. Main thread. */
void evictor_set_workers(struct evictor *e, struct worker *const *workers, unsigned count);
/* Those who want room are refused; end the thread, free. Before storage_stop. NULL is legal. */
void evictor_stop(struct evictor **e);

#endif
