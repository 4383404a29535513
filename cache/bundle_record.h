/* SPDX-License-Identifier: ISC */
/*
 * The record of a bundle, an entry of each of its parts: what is in the whole bundle, in
 * its order, and which part this is. So parts can be told apart, each can be checked
 * alone, and a lost one can be made again by any other.
 *
 *   cachalot bundle 1
 *   part 0001 of 0003 of at most 4293918720 bytes
 *   index sha256:... SIZE                   the index.json of each part
 *   blob sha256:... SIZE                    one line each, in order
 *
 * Blobs lie in the parts in this order, none of it between two parts if it fits into one:
 * else it begins where the part before has room and goes on in the next ones, in pieces.
 */
#ifndef CACHE_BUNDLE_RECORD_H
#define CACHE_BUNDLE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/digest.h"

#define BUNDLE_PARTS_MAX 9999
#define BUNDLE_BLOBS_MAX (256u * 1024)
#define BUNDLE_RECORD_SIZE_MAX (48u * 1024 * 1024)

struct bundle_item {
    struct digest digest;
    uint64_t size_bytes;
};

struct bundle_record {
    unsigned part, parts;
    uint64_t part_bytes; /* the most that a part has; 0: no limit, one part */
    struct digest index;
    uint64_t index_bytes;
    struct bundle_item *items;
    size_t count;
};

/* The text; its length does not depend on the part. */
char *bundle_record_text(const struct bundle_record *r, size_t *len);
/* ERR_INVALID with a sentence in `why`; then there is nothing to clear. */
MUST_CHECK int bundle_record_parse(struct bundle_record *r, const char *text, size_t len, char *why,
                                   size_t why_size);
void bundle_record_clear(struct bundle_record *r);

/* Whether they are of parts of one bundle, which they may share. */
bool bundle_record_same(const struct bundle_record *a, const struct bundle_record *b);

/* Where a blob, or a piece of it, lies. */
struct bundle_piece {
    size_t item;
    unsigned part; /* from 1 on */
    uint64_t offset, len;
};

/* Lay out the blobs in parts of at most part_bytes, each with entries of `fixed_bytes`
 * beside them; sets `parts`. The pieces are the caller's (free). ERR_TOO_LARGE when parts
 * are too small for anything, or too many. */
MUST_CHECK int bundle_cut(struct bundle_record *r, uint64_t fixed_bytes,
                          struct bundle_piece **pieces, size_t *count);

/* The entry that holds it; returns `out`. */
char *bundle_piece_name(const struct bundle_record *r, const struct bundle_piece *p, char *out);

#endif
