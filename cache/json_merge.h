/* SPDX-License-Identifier: ISC */
/* Putting a JSON object into another one, and taking it out again. */
#ifndef CACHE_JSON_MERGE_H
#define CACHE_JSON_MERGE_H

#include <stddef.h>

#include "cache/check.h"

struct json_t;

/* Add to the object `into` what is in `from` and not there yet; elements of lists go before
 * those that are there. Nothing is taken away or replaced: ERR_DENIED when a key has
 * another value, then `into` is as it was, and `why` names the key. */
MUST_CHECK int json_merge_in(struct json_t *into, const struct json_t *from, char *why,
                             size_t why_size);

/* Take what json_merge_in added out of the object `now`, which may have been changed since;
 * `before` is what it was before it was added to. */
void json_merge_out(struct json_t *now, const struct json_t *from, const struct json_t *before);

#endif
