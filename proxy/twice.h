/* SPDX-License-Identifier: ISC */
/*
 * Not twice: finds out, beside all else and at low priority, which pushed layers hold
 * what is held already, compressed differently; counts them, and says so in the log.
 *
 * One thread, one thing at a time. What it is told of waits in a queue of limited length;
 * when that is full the oldest is dropped: a duplicate more that is not noticed.
 */
#ifndef PROXY_TWICE_H
#define PROXY_TWICE_H

#include "cache/digest.h"
#include "cache/name.h"
#include "cache/store.h"
#include "proxy/log.h"
#include "proxy/stats.h"
#include "proxy/storage.h"

struct twice;

struct twice *twice_start(struct store *s, struct storage *storage, struct stats *stats,
                          struct log *log);
/* Forget what waits, give up what is under way, end the thread: before storage_stop. What
 * is added from then on is forgotten, so that jobs of storage may go on to add. */
void twice_stop(struct twice *t);
/* The same, unless it was done, and free. NULL is legal. */
void twice_free(struct twice **t);

/* All of these: any thread, a lock and no I/O, after the commit of the record. NULL is
 * legal, and then nothing happens. */

/* A blob was pushed to this repository: inflate it, and see whether its content is held
 * in another blob too. */
void twice_add_blob(struct twice *t, const struct name *n, const struct digest *d);
/* A manifest was pushed or fetched: if its config is held, note what that says of its
 * layers. */
void twice_add_manifest(struct twice *t, const struct name *n, const struct digest *d);
/* A blob was fetched: if manifests name it as their config, the same for all of them.
 * (Clients ask for a config after the manifest that names it, and push it before.) */
void twice_add_fetched(struct twice *t, const struct name *n, const struct digest *d,
                       uint64_t size_bytes);

#endif
