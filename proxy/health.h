/* SPDX-License-Identifier: ISC */
/*
 * How each upstream fares, between the upstream thread, which finds out, and the
 * workers, which need not wait to learn it again.
 *
 *   up       --- no url of it could be reached --->  down
 *   down     --- any answer --->  up
 *
 * While it is down, what is held is served at once; after a pause, which doubles with
 * each failure, one request goes through to see whether it is back.
 *
 * Apart from that an upstream may want to be left alone (429): until then it is.
 * Any thread; times are of CLOCK_MONOTONIC.
 */
#ifndef PROXY_HEALTH_H
#define PROXY_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/stats.h"

struct health;

/* The gauges of `s` follow, with times of day. */
struct health *health_new(struct stats *s);
/* NULL is legal; leaves NULL. */
void health_free(struct health **h);
/* Other settings: whatever was wrong with the old ones, they have a try. */
void health_forget(struct health *h);

/* It answered, whatever it said. */
void health_answered(struct health *h, const char *registry);
/* It was asked in vain, for this reason. */
void health_failed(struct health *h, const char *registry, enum outcome why);
/* No url of it could be reached, or none answered in time, or as itself. */
void health_unreachable(struct health *h, const char *registry, int64_t now_ms);
bool health_is_down(struct health *h, const char *registry);
/* Whether it is this caller's turn to ask an upstream that is down: nobody else's
 * then, until the answer or its absence is reported. */
bool health_take_probe(struct health *h, const char *registry, int64_t now_ms);

/* What was limited: small requests, or blobs and so everything. */
enum health_kind { HEALTH_ASKS, HEALTH_BLOBS };

/* It said 429. Returns for how many seconds it is left alone: as many as it said
 * within reason, or a default when it did not (0). */
int health_limited(struct health *h, const char *registry, enum health_kind kind,
                   int64_t retry_after_s, int64_t now_ms);
/* For how many seconds more; 0: it may be asked. */
int health_limit_left(struct health *h, const char *registry, enum health_kind kind,
                      int64_t now_ms);

#endif
