/* SPDX-License-Identifier: ISC */
/* Digests, each once, numbered in the order in which they came. There may be many: each
 * takes some 80 bytes. */
#ifndef CACHE_DIGEST_MAP_H
#define CACHE_DIGEST_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"
#include "cache/digest.h"

struct digest_map;

struct digest_map *digest_map_new(void);
/* NULL is legal; leaves NULL. */
void digest_map_free(struct digest_map **m);

/* Its number; whether it was not there yet, and was added. */
bool digest_map_add(struct digest_map *m, const struct digest *d, size_t *number);
/* Whether it is there; then its number (NULL: of no interest). */
bool digest_map_find(const struct digest_map *m, const struct digest *d, size_t *number);
/* The digest of a number that was given; valid until the next one is added. */
const struct digest *digest_map_at(const struct digest_map *m, size_t number);
size_t digest_map_count(const struct digest_map *m);

#endif
