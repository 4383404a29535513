/* SPDX-License-Identifier: ISC */
/*
 * <cache>/quarantine: files that went bad, for people to look at. It is bounded: the oldest
 * go when there are more than a few, and all of them before anything else when room is wanted.
 * Its files have no read permission, by which those that have one open tell that it is bad.
 */
#ifndef CACHE_QUARANTINE_H
#define CACHE_QUARANTINE_H

#include <stdbool.h>

#include "cache/check.h"
#include "cache/digest.h"
#include "cache/store.h"
#include "cache/verify.h"

#define QUARANTINE_FILES_MAX 16
#define QUARANTINE_BYTES_MAX (1ull << 30)

/* Move the file of a blob away, whose record was dropped before, as the file is then still
 * this one. ERR_NOT_FOUND when it is gone, or another. What cannot be moved, or is too
 * large, is removed. */
MUST_CHECK int quarantine_blob(struct store *s, const struct digest *d, const struct file_id *id);

/* Remove all that is there. False when that was nothing. */
bool quarantine_empty(struct store *s);

/* Move what does not belong into the folder `dir_fd`, over one of that name that came before.
 * The errors of rename. */
MUST_CHECK int quarantine_foreign(struct store *s, int dir_fd, const char *name);

#endif
