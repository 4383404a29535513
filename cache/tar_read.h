/* SPDX-License-Identifier: ISC */
/*
 * Reading tar archives of strangers, as a stream: nothing is extracted, nothing is seeked.
 *
 * Only what image archives have is taken: files, folders, and symbolic links (which are
 * told, not followed). All else is refused, and so is whatever two programs could read
 * differently: names that are absolute or climb, pax and GNU headers that give an entry
 * another name or size than its own header could hold, sparse files, sizes below zero,
 * checksums that are wrong, an archive that just stops, and bytes after its end. Archive
 * libraries let most of that pass, by design; here a refusal is what is wanted.
 */
#ifndef CACHE_TAR_READ_H
#define CACHE_TAR_READ_H

#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/tar_write.h"

enum tar_kind { TAR_FILE, TAR_DIR, TAR_SYMLINK };

/* Strings are printable ASCII and live until the next call of tar_next. The name has no
 * leading "./", no trailing slash, and no component that is empty, "." or "..". */
struct tar_entry {
    enum tar_kind kind;
    uint64_t size_bytes; /* 0 but for files */
    char name[TAR_NAME_MAX + 1];
    char link[TAR_NAME_MAX + 1]; /* what a symbolic link says */
};

struct tar_reader;

/* Read from the descriptor, which stays the caller's, at its offset. */
struct tar_reader *tar_reader_new(int fd);
void tar_reader_free(struct tar_reader **r);

/* The next entry; what of the one before was not read is passed over. ERR_NOT_FOUND at the
 * end, when all that follows it was looked at. ERR_INVALID when it is refused, ERR_IO when
 * it cannot be read; then tar_why has a sentence. */
MUST_CHECK int tar_next(struct tar_reader *r, struct tar_entry *e);
/* More of the file's content, valid until the next call; `*len` is 0 at its end. */
MUST_CHECK int tar_read(struct tar_reader *r, const void **data, size_t *len);

/* What was refused: "entry 3 (NAME) is a hard link". */
const char *tar_why(const struct tar_reader *r);
/* Bytes read from the descriptor so far. */
uint64_t tar_position(const struct tar_reader *r);

#endif
