/* SPDX-License-Identifier: ISC */
/*
 * Signatures of bundles and receipts: Ed25519 (RFC 8032), over the bytes themselves, so
 * that openssl(1) can make and check them, too. Keys are PEM texts as
 * "openssl genpkey -algorithm ed25519" and "openssl pkey -pubout" write them.
 */
#ifndef CACHE_BUNDLE_SIGN_H
#define CACHE_BUNDLE_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"

#define BUNDLE_SIGNATURE_BYTES 64

/* Sign with the private key that the PEM text has. ERR_INVALID when it is none. */
MUST_CHECK int bundle_sign(const void *pem, size_t pem_len, const void *data, size_t len,
                           uint8_t signature[BUNDLE_SIGNATURE_BYTES]);
/* Check against the public key that the PEM text has. ERR_INVALID when it is none,
 * ERR_MISMATCH when the signature is not of that key, or of other bytes. */
MUST_CHECK int bundle_verify(const void *pem, size_t pem_len, const void *data, size_t len,
                             const uint8_t signature[BUNDLE_SIGNATURE_BYTES]);

#endif
