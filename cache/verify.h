/* SPDX-License-Identifier: ISC */
/*
 * Whether a blob's file still has the bytes of its digest, read from the disk and past the
 * page cache, so that the disk is what is looked at, and what others use stays in memory.
 */
#ifndef CACHE_VERIFY_H
#define CACHE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cache/check.h"
#include "cache/digest.h"
#include "cache/store.h"

/* Which file it was: another one may have taken its name since. */
struct file_id {
    dev_t device;
    ino_t number;
};

/* Called after each read with its size. A result other than 0 ends the reading. */
typedef int verify_pace(void *arg, uint64_t bytes);

/* Hash the file of a blob of this size. 0 when it is right; ERR_MISMATCH when it is missing
 * or of another size; ERR_DAMAGED when its bytes are others; ERR_IO when the disk cannot
 * read it; what `pace` returned (a positive number). `id` is set unless the file could not
 * be opened. */
MUST_CHECK int verify_blob(struct store *s, const struct digest *d, uint64_t size_bytes,
                           verify_pace *pace, void *arg, struct file_id *id);

/* The same of a file in any folder; its size is `*size_bytes`, or UINT64_MAX for any, which
 * is set then. */
MUST_CHECK int verify_file(int dir_fd, const char *name, const struct digest *d, verify_pace *pace,
                           void *arg, struct file_id *id, uint64_t *size_bytes);

/* Asked in the transaction that drops a blob that was found bad: whether its file is still
 * the one that was (with number 0: none that could be opened), and not one that took its
 * place since. */
bool verify_is_same(struct store *s, const struct digest *d, uint64_t size_bytes,
                    const struct file_id *id);

#endif
