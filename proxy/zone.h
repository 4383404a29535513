/* SPDX-License-Identifier: ISC */
/*
 * Time zones, from the files that the system has of them (RFC 9636): what the local time is
 * at a moment, and when a local time is. The C library knows one zone at a time, for all
 * threads; here each has its own.
 */
#ifndef PROXY_ZONE_H
#define PROXY_ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"

#define ZONE_DAY_S INT64_C(86400)
#define ZONE_FILE_MAX (256u * 1024)

struct zone;

/* Parse a TZif file of any version. ERR_INVALID: it is none, or counts leap seconds. */
MUST_CHECK int zone_read(struct zone **z, const void *data, size_t len);
/* Parse a rule as of the environment's TZ, POSIX.1-2017 section 8.3 with the extensions of
 * RFC 9636 section 3.3.1: "CET-1CEST,M3.5.0,M10.5.0/3". ERR_INVALID. */
MUST_CHECK int zone_read_rule(struct zone **z, const char *text);
void zone_free(struct zone **z);

/* Read the file of a zone, "Europe/Berlin", or when it has no name (NULL) that of the
 * system: what TZ says, or else /etc/localtime, or else UTC. ERR_INVALID, with a sentence
 * in `why`. */
MUST_CHECK int zone_load(struct zone **z, const char *name, char *why, size_t why_size);
/* Letters, digits and "_+-" in components with slashes between. */
bool zone_is_name(const char *name);

/* By how many seconds its local time is ahead of UTC at that moment. */
int64_t zone_offset_s(const struct zone *z, int64_t at_s);

/* The moment of a local time, counted as a moment of UTC would be. One that is skipped when
 * clocks are put forward is as much later, one that comes twice is the first. */
int64_t zone_moment_s(const struct zone *z, int64_t local_s);

#endif
