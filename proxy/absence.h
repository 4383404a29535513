/* SPDX-License-Identifier: ISC */
/*
 * What a registry said, to nobody's credentials, that it does not have: remembered for
 * a short time, so that a client that asks on and on costs one question. It counts only
 * for content of which nothing is held.
 */
#ifndef PROXY_ABSENCE_H
#define PROXY_ABSENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/name.h"

struct absences;

/* Keep at most `max`; the oldest gives way. */
struct absences *absences_new(unsigned max);
/* NULL is legal; leaves NULL. */
void absences_free(struct absences **a);

/* The repository did not have "manifests/<reference>" or "blobs/<digest>" at `now_ms`
 * (monotonic). Any thread. */
void absence_add(struct absences *a, const struct name *n, const char *path, int64_t now_ms);
/* Whether that was within the last `ttl_ms`. Any thread. */
bool absence_is_fresh(struct absences *a, const struct name *n, const char *path, int64_t now_ms,
                      int64_t ttl_ms);

#endif
