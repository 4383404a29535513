/* SPDX-License-Identifier: ISC */
/*
 * Image configs (image-spec 1.1 config.md; Docker's are alike): of all that is in them,
 * the digests of the layers' tars, from the lowest on.
 */
#ifndef CACHE_IMAGE_H
#define CACHE_IMAGE_H

#include <stddef.h>

#include "cache/check.h"
#include "cache/digest.h"

/* Most configs have some KiB, but labels may hold whole documents (buildpacks) and build
 * caches: what clients take is the measure (containers/image takes 4 MiB). */
#define IMAGE_CONFIG_MAX (4u * 1024 * 1024)
/* Overlay file systems end at 128. */
#define IMAGE_LAYERS_MAX 512

struct image {
    unsigned count;
    struct digest diff_ids[]; /* rootfs.diff_ids */
};

/* Parse; the caller owns the image (free). ERR_INVALID for what is not JSON, has no
 * rootfs of type "layers", or a diff_id that is no digest; ERR_TOO_LARGE above
 * IMAGE_CONFIG_MAX or IMAGE_LAYERS_MAX. */
MUST_CHECK int image_parse(struct image **image, const void *config, size_t len);

#endif
