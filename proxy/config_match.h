/* SPDX-License-Identifier: ISC */
/* What lists of hosts, addresses and repositories in the configuration mean. */
#ifndef PROXY_CONFIG_MATCH_H
#define PROXY_CONFIG_MATCH_H

#include <stdbool.h>

#include "cache/name.h"

/* Whether `host`, with its port in effect as host:port, is one of the patterns: the
 * same name, or for "*.NAME" one that ends in ".NAME"; any port unless the pattern has
 * one. Letters match in either case. */
bool config_host_matches(char *const *patterns, unsigned count, const char *host);

/* Whether the address of a client is in one of the ranges: an address, ADDRESS/BITS,
 * "private" (what networks of one's own have) or "any". A Unix socket's always is. */
bool config_address_matches(char *const *ranges, unsigned count, const char *address);

/* Whether a repository is one of the patterns, in which "*" is any text without a slash and
 * "**" any text. Those of an upstream's begin with its host, which a pattern has to name:
 * no other stands for it. */
bool config_repository_matches(char *const *patterns, unsigned count, const struct name *n);

#endif
