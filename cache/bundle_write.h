/* SPDX-License-Identifier: ISC */
/*
 * Writing a bundle's parts: each is a tar of its own with the texts of the whole, its
 * share of the blobs, and the sums of all that is in it. The same record makes the same
 * bytes, so that a lost part can be made again.
 */
#ifndef CACHE_BUNDLE_WRITE_H
#define CACHE_BUNDLE_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "cache/bundle_record.h"
#include "cache/bundle_sign.h"
#include "cache/check.h"
#include "cache/store.h"

struct bundle_output {
    struct store *store;
    struct bundle_record *record;
    const char *index;
    size_t index_len;
    const char *singles; /* NULL: none, as in parts and deltas, which nobody else can load */
    size_t singles_len;
    const uint8_t *signature; /* of BUNDLE_SIGNATURE_BYTES; NULL: none */
    /* Called as blobs are written; NULL is legal. */
    void (*advanced)(void *arg, uint64_t bytes);
    void *arg;

    /* The writer's. */
    struct bundle_piece *pieces;
    size_t piece_count;
    struct hash *whole; /* of a blob in pieces, as long as they follow each other */
    size_t whole_item;
    uint64_t whole_bytes;
    struct digest failed; /* alg 0, or the blob that could not be read or is damaged */
};

/* Lay out the parts (bundle_cut) of a record that has all but them. */
MUST_CHECK int bundle_output_begin(struct bundle_output *o);
/* Write one to a file or pipe. When `failed` is set, ERR_MISMATCH says that the blob is not
 * what its digest says, or gone; else the error is of the output. */
MUST_CHECK int bundle_output_part(struct bundle_output *o, unsigned part, int fd);
void bundle_output_end(struct bundle_output *o);

#endif
