/* SPDX-License-Identifier: ISC */
/* Signatures of others, checked: RS256 and ES256 of RFC 7518 sections 3.3 and 3.4. */
#ifndef CACHE_SIGNATURE_H
#define CACHE_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/check.h"

struct signature_key;

/* Take the public key, or that of the certificate, that a PEM text begins with: RSA of 2048
 * to 8192 bits, or P-256. ERR_INVALID with a sentence in `why`. */
MUST_CHECK int signature_key_parse(struct signature_key **key, const void *pem, size_t len,
                                   char *why, size_t why_size);
/* NULL is legal; leaves NULL. */
void signature_key_free(struct signature_key **k);

/* "RS256" or "ES256": the one algorithm that the key is good for. */
const char *signature_algorithm(const struct signature_key *key);

/* Any thread. */
bool signature_matches(const struct signature_key *key, const void *data, size_t len,
                       const void *signature, size_t signature_len);

#endif
