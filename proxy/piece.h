/* SPDX-License-Identifier: ISC */
/* Into which pieces a blob is cut for several connections, and which comes next. Pure. */
#ifndef PROXY_PIECE_H
#define PROXY_PIECE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/extent.h"

#define PIECE_MIN_BYTES (UINT64_C(4) * 1024 * 1024)
#define PIECE_MAX_BYTES (UINT64_C(64) * 1024 * 1024)

/* The size of the pieces of such a blob: a power of two between the two above. */
uint64_t piece_size(uint64_t size_bytes, unsigned connections);

/* The first piece that is neither there nor among those `taken`: where it starts, at
 * most `piece_bytes` long. False when there is none. */
bool piece_next(const struct extents *have, const struct extent *taken, unsigned taken_count,
                uint64_t size_bytes, uint64_t piece_bytes, struct extent *piece);

#endif
