/* SPDX-License-Identifier: ISC */
/*
 * What leads to a content: the manifests that name it, the indexes that name those, and
 * the tags that point to them. All manifests are looked at, so that those of an index that
 * an earlier release wrote are found as well.
 */
#ifndef CACHE_LINEAGE_H
#define CACHE_LINEAGE_H

#include <stdbool.h>
#include <stddef.h>

#include <uthash.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/manifest.h"
#include "cache/reference.h"

/* The content itself, whose `below` is NULL, or a manifest that leads to it. */
struct ancestor {
    struct digest digest;
    const struct ancestor *below; /* what it names */
    struct manifest_child child;  /* as which it does; with `below` only */
    bool is_tagged;               /* itself, or what leads to it */
    UT_hash_handle hh;
};

/* A tag that points to the content or to what leads to it. */
struct leading_tag {
    struct reference reference;
    const struct ancestor *to;
    bool is_previous; /* it did before it moved, and will again if the new one is not had */
};

struct lineage {
    struct ancestor *ancestors; /* a hash; the content is the first */
    struct leading_tag *tags;
    size_t tag_count;
};

/* Cleared by the caller when this returns 0. */
MUST_CHECK int lineage_read(struct lineage *l, struct db_txn *txn, const struct digest *d);
void lineage_clear(struct lineage *l);

/* NULL when this manifest does not lead to it. */
const struct ancestor *lineage_find(const struct lineage *l, const struct digest *d);

/* The tags, which are those of the images that need the content: some of them as "a, b, c and
 * 3 more", or "no tag"; owned by the caller. */
char *lineage_text(const struct lineage *l);

#endif
