/* SPDX-License-Identifier: ISC */
/*
 * The index made anew from the files in blobs/ and from index.json.
 *
 * What a file is, its bytes do not say. It is public if it has the mark of that
 * (blob_mark_public), else private: seen by nobody before the upstream of a repository said
 * that it has it, and that the client may. A manifest of a local repository is in index.json,
 * and what it names was visible there when it was pushed, but for foreign layers and the
 * children of an index; so its config and layers are linked again, and nothing else is.
 */
#ifndef CACHE_REBUILD_H
#define CACHE_REBUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/store.h"

struct rebuild {
    uint64_t blobs, bytes;
    uint64_t public_blobs;
    uint64_t manifests;
    uint64_t tags;
    uint64_t lost_tags;      /* in index.json, but their manifest is not there */
    int64_t index_json_at_s; /* when it was written; tags that came later are lost */
    bool has_index_json;
};

/* Fill the store's index, which is new and empty. Files of the wrong size, as far as
 * manifests say it, are left out. */
MUST_CHECK int rebuild_index(struct store *s, int64_t now_s, struct rebuild *r);

#endif
