/* SPDX-License-Identifier: ISC */
/*
 * Proofs that an upstream accepted a client's own credentials for a repository,
 * kept for a short time: content of a repository that is not public is served from
 * the store only on such a proof.
 *
 * A credential is known by a keyed hash alone; the key is made at start and never
 * leaves the process.
 */
#ifndef PROXY_PERMIT_H
#define PROXY_PERMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/name.h"

struct permits;

#define FINGERPRINT_BYTES 16

struct fingerprint {
    uint8_t bytes[FINGERPRINT_BYTES];
};

/* Keep at most `max` proofs; the oldest gives way. */
struct permits *permits_new(unsigned max);
void permits_free(struct permits **p);

/* The name of an Authorization field's value. Any thread. */
struct fingerprint permit_fingerprint(const struct permits *p, const char *authorization);

/* The upstream accepted these credentials for the repository at `now_ms`
 * (monotonic). Any thread. */
void permit_add(struct permits *p, const struct fingerprint *f, const struct name *n,
                int64_t now_ms);
/* Whether it did so within the last `ttl_ms`. Any thread. */
bool permit_is_fresh(struct permits *p, const struct fingerprint *f, const struct name *n,
                     int64_t now_ms, int64_t ttl_ms);
/* It refused them. Any thread. */
void permit_drop(struct permits *p, const struct fingerprint *f, const struct name *n);

#endif
