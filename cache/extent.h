/* SPDX-License-Identifier: ISC */
/* Which bytes of a blob are there: sorted ranges that do not touch. Pure. */
#ifndef CACHE_EXTENT_H
#define CACHE_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"

#define EXTENTS_MAX 256

struct extent {
    uint64_t start;
    uint64_t end; /* after the last byte */
};

struct extents {
    unsigned count;
    struct extent list[EXTENTS_MAX];
};

/* Add a range, which may overlap others; an empty one adds nothing. False, and
 * nothing added, when that were one range too many. */
MUST_CHECK bool extents_add(struct extents *x, uint64_t start, uint64_t end);
/* Forget everything from `end` on. */
void extents_cut(struct extents *x, uint64_t end);
/* Where the last range ends; 0 when there is none. */
uint64_t extents_end(const struct extents *x);
/* How many bytes are there from the front, without a gap. */
uint64_t extents_front(const struct extents *x);
/* The first gap at or after `from`: where it starts, and in `*end` where the next
 * range does; UINT64_MAX when there is none. */
uint64_t extents_gap(const struct extents *x, uint64_t from, uint64_t *end);
/* All bytes that are there. */
uint64_t extents_bytes(const struct extents *x);

#endif
