/* SPDX-License-Identifier: ISC */
/*
 * Bundles: images on their way to a cache that no line leads to. A bundle is an OCI image
 * layout in a plain tar (image-spec 1.1 image-layout.md), which other tools load, too; in
 * parts when it is to fit on media, see cache/bundle_record.h.
 *
 * Here is what goes into one: the manifests that were asked for, byte for byte, and all
 * that they name, as far as the index knows it.
 */
#ifndef CACHE_BUNDLE_H
#define CACHE_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/check.h"
#include "cache/db.h"
#include "cache/digest.h"
#include "cache/digest_map.h"
#include "cache/manifest.h"
#include "cache/platform.h"
#include "cache/reference.h"
#include "cache/store.h"

#define BUNDLE_PLATFORMS_MAX 64
/* Of manifests within each other: an index of indexes is legal and rare. */
#define BUNDLE_DEPTH_MAX 4

/* There may be many: what is long and mostly empty is kept short. */
struct bundle_image {
    char *name; /* of its reference, as reference_key has it: see bundle_reference */
    char *media_type;
    struct digest digest;
    uint64_t size_bytes;
    bool is_sparse;       /* an index of which some children are left out */
    struct digest single; /* the image for loaders that know no indexes; alg 0: none */
    bool is_linux;        /* that is for Linux: loaders there stop at others */
    bool is_attached;     /* it goes along with another one, as its signature does */
};

struct bundle_blob {
    struct digest digest;
    uint64_t size_bytes;
    bool is_manifest;
};

/* What an image lacks. */
struct bundle_missing {
    size_t image;
    struct digest digest;
    uint64_t size_bytes;
    bool is_manifest;
    char platform[96]; /* or empty */
};

struct bundle {
    struct bundle_image *images;
    size_t image_count;
    struct bundle_blob *blobs; /* each once, in their order in the archive */
    size_t blob_count;
    uint64_t blob_bytes;
    struct bundle_missing *missing;
    size_t missing_count;
    uint64_t spared_bytes; /* not in it, because the receiver has it */
    size_t spared_count;
    struct digest_map *numbers; /* of blobs and of what was spared */
    /* Of the image that is added: its manifests, to which others may refer. */
    struct digest_map *subjects;
    struct digest_map *references; /* hashes of those of the images that may be attached */
};

/* What is wanted of indexes. */
struct bundle_wish {
    struct platform platforms[BUNDLE_PLATFORMS_MAX]; /* none: all of them */
    size_t platform_count;
    bool held_only;    /* leave out platforms that are not held whole */
    bool no_referrers; /* leave out what refers to the images */
    /* What the receiver has: of that only manifests go into the bundle. NULL: nothing. */
    const struct digest_map *have;
};

void bundle_init(struct bundle *b);
void bundle_clear(struct bundle *b);

/* Add an image and all that it names; what is not held is noted as missing. What refers to
 * it goes along as far as it is held whole: signatures, SBOMs and the like, by their subject
 * (distribution-spec 1.1 "Listing Referrers") or by a tag that names their subject's digest,
 * as its "Referrers Tag Schema" has it and cosign. ERR_NOT_FOUND when nothing of the image
 * is wanted, or held when only that is; else an error of the index. */
MUST_CHECK int bundle_add(struct bundle *b, struct store *s, struct db_txn *txn,
                          const struct reference *r, const struct digest *d,
                          const struct bundle_wish *wish);
/* The same of what goes along with another image, unless it is there already. */
MUST_CHECK int bundle_add_attached(struct bundle *b, struct store *s, struct db_txn *txn,
                                   const struct reference *r, const struct digest *d,
                                   const struct bundle_wish *wish);
void bundle_reference(const struct bundle_image *image, struct reference *r);
/* When all were added: manifests first. */
void bundle_sort(struct bundle *b);

/* When they are written down elsewhere: the counts and the images stay. */
void bundle_forget_blobs(struct bundle *b);

/* Read and parse a manifest whose file is in blobs/. ERR_MISMATCH when the file is not as
 * it should be. */
MUST_CHECK int bundle_read_manifest(struct store *s, const struct digest *d, uint64_t size_bytes,
                                    const char *media_type, struct manifest **m);

#endif
