/* SPDX-License-Identifier: ISC */
/* Units of eviction, removed by a command while no daemon runs. */
#ifndef TOOLS_REMOVE_H
#define TOOLS_REMOVE_H

#include <stddef.h>
#include <stdint.h>

#include "cache/evict.h"

/* Remove those that may go still, with their files, until so many bytes have gone:
 * `*gone_bytes` of them have. */
MUST_CHECK int remove_units(struct store *s, const struct evict_rules *rules,
                            const struct digest *units, size_t count, uint64_t bytes,
                            uint64_t *gone_bytes);

#endif
