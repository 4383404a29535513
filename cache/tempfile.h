/* SPDX-License-Identifier: ISC */
/* Small files that appear whole or not at all. */
#ifndef CACHE_TEMPFILE_H
#define CACHE_TEMPFILE_H

#include <stddef.h>
#include <sys/types.h>

#include "cache/check.h"

struct tempfile {
    int dir_fd;
    int fd;
    char name[32];
};

/* Create a file with a name of its own in the folder, which must outlive it. */
MUST_CHECK int tempfile_open(struct tempfile *t, int dir_fd);
/* Make it durable under `name` in another folder of the same file system,
 * replacing what is there: fsync, rename, fsync of the folder. It is closed
 * whatever the result, and removed on failure. */
MUST_CHECK int tempfile_publish(struct tempfile *t, int dir_fd, const char *name);
/* Close and remove it. */
void tempfile_discard(struct tempfile *t);

/* fsync. Any failure is ERR_IO, a full disk's too: what was not written may be marked
 * clean, so that a later fsync would tell a lie (the caller stops writing). */
MUST_CHECK int file_sync(int fd);

/* A file that a superuser made belongs to the owner of its folder. */
MUST_CHECK int file_give(int fd, int dir_fd);

/* Write all of the buffer at the offset. */
MUST_CHECK int file_write(int fd, const void *data, size_t len, off_t offset);

#endif
