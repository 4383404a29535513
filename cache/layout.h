/* SPDX-License-Identifier: ISC */
/* The OCI image layout around the blobs (image-spec 1.1 image-layout.md). */
#ifndef CACHE_LAYOUT_H
#define CACHE_LAYOUT_H

#include "cache/check.h"
#include "cache/store.h"

/* Rewrite index.json atomically from the tags whose manifest is held. Each entry
 * has the annotations org.opencontainers.image.ref.name and
 * io.containerd.image.name, both the full reference "registry/repository:tag", or
 * "repository:tag" of a local repository. */
MUST_CHECK int layout_write_index(struct store *s, struct db_txn *txn);

#endif
