/* SPDX-License-Identifier: ISC */
/* Base64 read strictly: RFC 4648, with no line breaks and no bits that mean nothing. */
#ifndef PROXY_BASE64_H
#define PROXY_BASE64_H

#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"

enum base64_alphabet {
    BASE64_PLAIN, /* section 4; with its padding */
    BASE64_URL,   /* section 5; without padding, as JSON Web Signatures have it */
};

/* Bytes that a text of so many characters has at most. */
#define BASE64_BYTES_MAX(len) ((len) / 4 * 3 + 2)

/* `out` has room for BASE64_BYTES_MAX(len). ERR_INVALID when it is not of that form. */
MUST_CHECK int base64_decode(enum base64_alphabet alphabet, const char *text, size_t len,
                             uint8_t *out, size_t *out_len);

#endif
