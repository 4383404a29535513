/* SPDX-License-Identifier: ISC */
/* Who the listeners say that they are: certificates from files, or of cachalot's own
 * authority, which is made when there is none. */
#ifndef PROXY_IDENTITY_H
#define PROXY_IDENTITY_H

#include "cache/check.h"
#include "proxy/config.h"
#include "proxy/log.h"

/* Give each listener of a configuration that speaks TLS its identity. Before the
 * configuration is shared, and with the cache directory owned. Says in the log what the
 * authority is, and what it cannot vouch for. On failure the listeners that have none
 * stay without, and `why` has a sentence. */
MUST_CHECK int identity_prepare(struct config *c, struct log *log, char *why, size_t why_size);

#endif
