/* SPDX-License-Identifier: ISC */
/*
 * Receipts: what a cache has, for who sends it bundles. A text of lines, so that people
 * can look at it:
 *
 *   cachalot receipt 1
 *   made 1774000000                 Unix time
 *   sha256:...                      one line a blob, in order
 *   signature 128 hexadecimal digits
 *
 * The signature, which may be missing, is over all that stands before its line.
 */
#ifndef CACHE_RECEIPT_H
#define CACHE_RECEIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/bundle_sign.h"
#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest_map.h"
#include "cache/store.h"

#define RECEIPT_SIZE_MAX (64u * 1024 * 1024)

/* The text, without a signature, of all blobs whose file is there; owned by the caller. */
MUST_CHECK int receipt_make(struct store *s, struct db_txn *txn, int64_t now_s, char **text,
                            size_t *len, uint64_t *count);
/* Add the signature's line; the text is replaced. */
void receipt_add_signature(char **text, size_t *len,
                           const uint8_t signature[BUNDLE_SIGNATURE_BYTES]);

struct receipt {
    int64_t made_at_s;
    struct digest_map *digests;
    size_t signed_bytes;
    bool is_signed;
    uint8_t signature[BUNDLE_SIGNATURE_BYTES];
};

/* ERR_INVALID with a sentence in `why`; then there is nothing to clear. */
MUST_CHECK int receipt_parse(struct receipt *r, const char *text, size_t len, char *why,
                             size_t why_size);
void receipt_clear(struct receipt *r);

#endif
