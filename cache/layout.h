/* SPDX-License-Identifier: ISC */
/*
 * The OCI image layout around the blobs (image-spec 1.1 image-layout.md), and what of the
 * index is said there as well, so that it can be made anew from it.
 */
#ifndef CACHE_LAYOUT_H
#define CACHE_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/digest.h"
#include "cache/manifest.h"
#include "cache/name.h"
#include "cache/store.h"

/* Rewrite index.json atomically from the tags whose manifest is held. Each entry
 * has the annotations org.opencontainers.image.ref.name and
 * io.containerd.image.name, both the full reference "registry/repository:tag", or
 * "repository:tag" of a local repository; LAYOUT_PINNED has who pinned it. Manifests of local
 * repositories without a tag have LAYOUT_REPOSITORY alone. */
MUST_CHECK int layout_write_index(struct store *s, struct db_txn *txn);

#define LAYOUT_PINNED "io.cachalot.pinned"
#define LAYOUT_REPOSITORY "io.cachalot.repository"

struct layout_entry {
    struct name name;
    char tag[NAME_TAG_MAX_SIZE]; /* "": it has none */
    struct digest digest;
    uint64_t size_bytes;
    char media_type[MEDIA_TYPE_MAX];
    bool is_pinned;
    const char *pinned_by; /* during the visit */
};

/* Visit what index.json says, as far as it is from layout_write_index; what is not valid is
 * passed over. A result other than 0 ends it and is returned. `written_at_s` is when it was
 * written. ERR_NOT_FOUND when there is no such file. */
typedef int layout_visit(void *arg, const struct layout_entry *entry);
MUST_CHECK int layout_read_index(struct store *s, int64_t *written_at_s, layout_visit *visit,
                                 void *arg);

#endif
