/* SPDX-License-Identifier: ISC */
/* Digests: OCI image-spec 1.1 "Digests" (descriptor.md). The only key of a blob. */
#ifndef CACHE_DIGEST_H
#define CACHE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"

enum digest_alg { DIGEST_SHA256 = 1, DIGEST_SHA512 = 2 };

#define DIGEST_BYTES_MAX 64
/* "sha512:", 128 hexadecimal digits, NUL. */
#define DIGEST_TEXT_MAX 136
/* One byte of algorithm, then the hash. */
#define DIGEST_KEY_MAX (1 + DIGEST_BYTES_MAX)

/* Bytes past the algorithm's length are zero, so two digests can be compared
 * and hashed as memory. */
struct digest {
    uint8_t alg;
    uint8_t bytes[DIGEST_BYTES_MAX];
};

/* Parse the `len` bytes at `text`: "sha256:" or "sha512:" and lower-case hex of
 * the exact length. ERR_INVALID for anything else (unknown algorithms too). */
MUST_CHECK int digest_parse(struct digest *d, const char *text, size_t len);

/* Whether the text has the grammar of a digest ("algorithm:encoded") whatever
 * the algorithm: tells a reference by digest from one by tag. */
bool digest_looks_like(const char *text, size_t len);

/* Bytes of the hash: 32 or 64. */
size_t digest_size(const struct digest *d);

/* "sha256" or "sha512". */
const char *digest_alg_name(const struct digest *d);

/* Write "alg:hex" with a NUL; returns `out`. */
char *digest_text(const struct digest *d, char out[DIGEST_TEXT_MAX]);

bool digest_equal(const struct digest *a, const struct digest *b);

/* Write the key form (algorithm byte, hash); returns its length, 33 or 65. */
size_t digest_to_key(const struct digest *d, uint8_t out[DIGEST_KEY_MAX]);

/* Read the key form back: the length used, or ERR_INVALID. */
MUST_CHECK int digest_from_key(struct digest *d, const uint8_t *key, size_t len);

/* An incremental hash. */
struct hash;

struct hash *hash_new(enum digest_alg alg);
void hash_update(struct hash *h, const void *data, size_t len);
/* Write the digest of all that was added, free `*h` and leave NULL there. */
void hash_final(struct hash **h, struct digest *out);
/* Free without a result; NULL is legal. */
void hash_free(struct hash **h);

/* The digest of one buffer. */
void digest_of(enum digest_alg alg, const void *data, size_t len, struct digest *out);

#endif
