/* SPDX-License-Identifier: ISC */
/*
 * Writing tar archives (POSIX.1-2001 "ustar", with a pax header only where a name or a
 * size does not fit): plain, in order, to a file or a pipe. The same entries make the
 * same bytes: nothing in them is of the machine or the moment.
 */
#ifndef CACHE_TAR_WRITE_H
#define CACHE_TAR_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"

#define TAR_NAME_MAX 255 /* without the NUL */

struct tar_writer {
    int fd; /* the caller's */
    uint64_t written_bytes;
    uint64_t left_bytes; /* of the entry's content */
};

/* Begin a file's entry; all of its content must follow, by tar_write_add. */
MUST_CHECK int tar_write_begin(struct tar_writer *w, const char *name, uint64_t size_bytes);
MUST_CHECK int tar_write_add(struct tar_writer *w, const void *data, size_t len);
/* A whole entry. */
MUST_CHECK int tar_write_file(struct tar_writer *w, const char *name, const void *data, size_t len);
/* The end of the archive. */
MUST_CHECK int tar_write_end(struct tar_writer *w);

/* What an entry takes of the archive, and what its end does. */
uint64_t tar_entry_bytes(const char *name, uint64_t size_bytes);
#define TAR_END_BYTES 1024

#endif
