/* SPDX-License-Identifier: ISC */
/*
 * The diff_id of a layer: the digest of its tar, found by inflating the blob's stream
 * (archive.h is included in inflate.c alone). Nothing of it is kept or interpreted.
 */
#ifndef CACHE_INFLATE_H
#define CACHE_INFLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/digest.h"

/* A content that is larger than this, or (from 16 MiB on) larger than its blob by this
 * factor, is taken for a bomb. The most that gzip can make is 1032. */
#define INFLATE_BYTES_MAX (64ull << 30)
#define INFLATE_RATIO_MAX 1100

/* Whether to go on; asked after each block of some 100 KiB. */
typedef bool inflate_wanted(void *arg);

/* Read the file from its offset to its end: gzip, zstd, or a plain tar. The diff_id is by
 * `alg`; `*size_bytes` is that of the content. ERR_INVALID when it is none of these or
 * cut short, ERR_TOO_LARGE for a bomb, ERR_BUSY when `wanted` said no (NULL: always
 * wanted). */
MUST_CHECK int inflate_digest(int fd, enum digest_alg alg, inflate_wanted *wanted, void *arg,
                              struct digest *diff_id, uint64_t *size_bytes);

#endif
