/* SPDX-License-Identifier: ISC */
/* Opening the cache at the start, and what there is to say about it. */
#ifndef PROXY_STARTUP_H
#define PROXY_STARTUP_H

#include "cache/check.h"
#include "cache/store.h"
#include "proxy/config.h"
#include "proxy/log.h"
#include "proxy/stats.h"

/* Open the cache directory; an index that is lost or damaged is made anew. The process has
 * no threads yet. */
MUST_CHECK int startup_open_store(struct store **s, const struct config *c, struct stats *stats,
                                  struct log *log, char *why, size_t why_size);

#endif
